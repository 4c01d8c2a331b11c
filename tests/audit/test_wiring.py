"""A model that is not what it is taken for is told so, with what would fit; sound ones pass."""

import json
import math
import re
from functools import cache

import numpy as np
import pytest
import torch

from audit_subjects import SMALL, asked, digits, exact_subject
from diffuscope.audit import Session, Subject, audit_model
from diffuscope.audit.conventions import READINGS, Instant, gaussian_error
from diffuscope.audit.ends import matched_start, start_from_noise
from diffuscope.audit.manners import manners
from diffuscope.audit.network_calls import called_network
from diffuscope.audit.questions.wiring import EXAMPLES, QUESTION, reading_finding, units_finding
from diffuscope.audit.reading_search import best_reading, decisive_levels
from diffuscope.audit.units import best_units, sample_units
from diffuscope.denoisers import (
    DataPredictor,
    ExactDenoiser,
    NoisePredictor,
    OfClass,
    ScheduleTime,
    VelocityPredictor,
    denoised_to_noise,
    denoised_to_velocity,
    noise_to_denoised,
)
from diffuscope.errors import InputError
from diffuscope.exact import Empirical, Gaussian
from diffuscope.files import finite
from diffuscope.schedules import VE, VP, Cosine, DiscreteVP, RectifiedFlow
from diffuscope.store import Store
from numbers_in_tests import seeded

X = digits(3)
TRAIN, HELDOUT = X[:700], X[700:1400]
MODEL = Gaussian.fit([TRAIN])
NOISE = torch.randn(EXAMPLES, 1, 8, 8, generator=seeded())
DATA = {"event_shape": (1, 8, 8), "data_range": (-1.0, 1.0)}


def ask(denoiser, train=TRAIN, heldout=HELDOUT, samples=None, store=None):
    """The findings of the first question by name, and what is broken."""
    answer = QUESTION.ask(Session(Subject(denoiser, train, heldout), SMALL, given=samples, store=store))
    assert answer is not None
    return {finding.name.removeprefix("wiring."): finding for finding in answer.findings}, answer.broken


@cache
def sound():
    """Of the exact Gaussian."""
    return ask(ExactDenoiser(MODEL, VE()))


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    """What is measured of the exact Gaussian beside samples that are given: the same, whatever these are."""
    return Store(tmp_path_factory.mktemp("known"), {})


def read(denoiser):
    """The search for a better reading alone, and its finding."""
    levels = decisive_levels(denoiser, Subject(denoiser, TRAIN, HELDOUT).scale)
    result = best_reading(denoiser, MODEL.variances, levels, TRAIN[:EXAMPLES], NOISE, np.random.default_rng(0))
    return reading_finding(result)


def network(schedule, read, time_of_label):
    """An exact network: what the exact denoiser says at a label, converted to another prediction."""

    def output(x, label):
        t = time_of_label(torch.as_tensor(label).double())
        return read(x, MODEL.denoise(x, schedule.alpha(t), schedule.sigma(t)), schedule, t)

    return output


def as_v(x, denoised, schedule, t):
    alpha, sigma = (f(t).reshape(-1, 1, 1, 1).to(x) for f in (schedule.alpha, schedule.sigma))
    return alpha * (x - alpha * denoised) / sigma - sigma * denoised


def as_data(_, denoised, *__):
    return denoised


CHAIN = DiscreteVP.linear()
ALL = (VE(), VP(), RectifiedFlow(), Cosine(), CHAIN)


class ByHand:
    """The wrapper of the README: a network as an attribute, called with the time as it comes."""

    def __init__(self, network, schedule, label=lambda t: t):
        self.network, self.schedule, self.label = network, schedule, label

    def __call__(self, x_t, t):
        label = self.label(torch.as_tensor(t)).expand(len(x_t)).float()
        return noise_to_denoised(x_t, self.network(x_t, label), self.schedule, t)


@pytest.mark.parametrize(
    "schedule",
    [pytest.param(s, marks=pytest.mark.slow if s in (VP(), Cosine()) else ()) for s in ALL],
    ids=lambda s: type(s).__name__,
)
def test_exact_denoisers_pass_under_every_schedule(schedule):
    found, broken = sound() if schedule == VE() else ask(ExactDenoiser(MODEL, schedule))
    assert not broken
    assert {finding.tone for finding in found.values()} == {"good"}
    assert found["reading"].value < 1.05
    assert math.isfinite(float(found["reading"].power.split("factor of ")[1].split()[0]))


def test_a_perfect_memorizer_passes():
    """It is what it is taken for, as far as examples that it knows by heart can tell; the next question asks more."""
    found, broken = ask(ExactDenoiser(Empirical(TRAIN[:300]), VE()), TRAIN[:300])
    assert not broken
    assert found["verdict"].tone == "neutral"
    assert "a wrong noise level would hardly show" in found["verdict"].verdict


WRONG = {
    "v read as noise": (
        NoisePredictor(network(CHAIN, as_v, lambda k: k + 1), CHAIN, **DATA),
        "v = alpha noise - sigma data",
    ),
    "noise read as velocity": (
        VelocityPredictor(network(VP(), denoised_to_noise, lambda t: t), VP(), **DATA),
        "read as noise",
    ),
    "noise times sigma read as data": (
        DataPredictor(
            lambda x, s: s.reshape(-1, 1, 1, 1) * network(VE(), denoised_to_noise, lambda s: s)(x, s), VE(), **DATA
        ),
        "read as noise times sigma",
    ),
    "noise read as data": (DataPredictor(network(VP(), denoised_to_noise, lambda t: t), VP(), **DATA), "read as noise"),
    "data read as noise": (NoisePredictor(network(VP(), as_data, lambda t: t), VP(), **DATA), "read as clean data"),
    "minus the noise": (
        NoisePredictor(lambda x, t: -network(VP(), denoised_to_noise, lambda t: t)(x, t), VP(), **DATA),
        "read as minus the noise",
    ),
    "minus the velocity": (
        VelocityPredictor(
            lambda x, t: -network(RectifiedFlow(), denoised_to_velocity, lambda t: t)(x, t), RectifiedFlow(), **DATA
        ),
        "read as minus the velocity dx/dt",
    ),
    "times reversed": (
        DataPredictor(network(RectifiedFlow(), as_data, lambda t: 1 - t), RectifiedFlow(), **DATA),
        "1 minus the declared time",
    ),
    "T of 5,000 for 1,000": (
        NoisePredictor(network(CHAIN, denoised_to_noise, lambda k: k + 1), DiscreteVP.linear(steps=5000), **DATA),
        "the index t - 1 of DDPM's 1,000 steps",
    ),
    "T of 250 for 1,000": (
        NoisePredictor(network(CHAIN, denoised_to_noise, lambda k: k + 1), DiscreteVP.linear(steps=250), **DATA),
        "the index t - 1 of DDPM's 1,000 steps",
    ),
    "times in (0, 1] for steps": (
        ByHand(network(VP(), denoised_to_noise, lambda k: k / 1000), VP()),
        "1,000 times the declared time",
    ),
    "steps for times in (0, 1]": (
        ByHand(network(VP(), denoised_to_noise, lambda t: t), VP(), lambda t: 1000 * t),
        "the declared time divided by its largest",
    ),
    "the level for its logarithm": (
        DataPredictor(network(VE(), as_data, lambda c: (4 * c).exp()), VE(), clock=ScheduleTime(), **DATA),
        "log(sigma/alpha) / 4",
    ),
    "three times the noise": (
        DataPredictor(network(VE(), as_data, lambda s: s / 3), VE(), **DATA),
        "3 times the noise",
    ),
    "the input of another schedule": (
        DataPredictor(network(VE(), as_data, lambda s: s), VP(), **DATA),
        "sigma/alpha, with the input scaled as in VE",
    ),
}


SLOW = (
    "noise read as data",
    "minus the velocity",
    "T of 250 for 1,000",
    "steps for times in (0, 1]",
    "minus the noise",
    "noise read as velocity",
    "data read as noise",
    "T of 5,000 for 1,000",
)


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow if n in SLOW else ()) for n in WRONG])
def test_a_network_read_in_the_wrong_way_is_told_and_the_right_one_is_named(name):
    """By the search alone; what the answer makes of it is told of a conditional network and of a hidden one."""
    denoiser, fits = WRONG[name]
    found = read(denoiser)
    assert found.tone == "alarm"
    assert fits in found.verdict
    assert (found.p_value or 0) < 0.01
    assert found.value >= 1.25


def test_a_conditional_network_read_in_the_wrong_way_is_told_for_each_of_its_classes():
    """The network is one level deeper, and is asked for the class at every other reading, too."""

    asked = set[int]()

    class Conditional(torch.nn.Module):
        classes = 3

        def forward(self, x, label, y):
            asked.update(y.tolist())
            return network(CHAIN, as_v, lambda k: k + 1)(x, label)

    denoiser = OfClass(NoisePredictor(Conditional(), CHAIN, **DATA), 1)
    found, broken = ask(denoiser)
    assert found["verdict"].tone == "alarm"
    assert "model" in broken
    assert "v = alpha noise - sigma data" in found["reading"].verdict
    assert "of the network itself" in found["reading"].power
    assert asked == {1}


def test_a_wrapper_whose_network_is_hidden_is_asked_at_other_times():
    class Hidden:
        schedule = RectifiedFlow()

        def __call__(self, x_t, t):
            t = 1 - torch.as_tensor(t)
            return MODEL.denoise(x_t, 1 - t, t)

    found, broken = ask(Hidden())
    assert "model" in broken
    assert "reversed time" in found["reading"].verdict
    assert "could not be reached" in found["reading"].power


def test_one_step_of_a_thousand_is_no_fault():
    found, broken = ask(
        NoisePredictor(network(CHAIN, denoised_to_noise, lambda k: (k + 2).clamp(max=1000)), CHAIN, **DATA)
    )
    assert not broken
    assert found["reading"].value < 1.05


def test_the_stated_factor_is_a_fault_and_found():
    """The power sentence: a noise level told wrong by these factors. Planted in both directions."""
    found, _ = sound()
    noticed, fault = re.findall(r"[\d.]+", found["reading"].power)[:2]
    for factor, tones in ((float(noticed), {"attention", "alarm"}), (float(fault), {"alarm"})):
        for wrong in (factor, 1 / factor):
            planted = DataPredictor(network(VE(), as_data, lambda s, wrong=wrong: s * wrong), VE(), **DATA)
            assert read(planted).tone in tones


@pytest.mark.parametrize(
    ("units", "named"),
    [
        (lambda x: 8 * x + 8, "[-1, 1]"),
        pytest.param(lambda x: 127.5 * (x + 1), "[-1, 1]", marks=pytest.mark.slow),
        pytest.param(lambda x: x / 2, "[-1, 1]", marks=pytest.mark.slow),
        pytest.param(lambda x: (x + 1) / 2, "[-1, 1]", marks=pytest.mark.slow),
        (lambda x: -x, "light and dark exchanged"),
    ],
    ids=["[0, 16]", "[0, 255]", "[-1/2, 1/2]", "[0, 1]", "inverted"],
)
@pytest.mark.parametrize(
    "model", [Empirical(TRAIN), pytest.param(MODEL, marks=pytest.mark.slow)], ids=["memorizer", "Gaussian"]
)
def test_data_in_other_units_than_the_models_are_told_with_the_map(units, named, model):
    """By the units alone; what the answer makes of them is told of latents that are off by a factor."""
    denoiser, train = ExactDenoiser(model, VE(1e-3, 200.0)), units(TRAIN)
    subject = Subject(denoiser, train, units(HELDOUT))
    levels, clean, noise = decisive_levels(denoiser, subject.scale), train[:EXAMPLES], NOISE
    variances, own = Gaussian.fit([train]).variances, model.sample(40, generator=seeded()).float()
    found = units_finding(best_units(denoiser, variances, levels, clean, noise, train, own, np.random.default_rng(0)))
    assert found.tone == "alarm"
    assert named in found.verdict


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda x: 255 * (x + 1) / 2, "[0, 255]"),
        pytest.param(lambda x: (x + 1) / 2, "[0, 1]", marks=pytest.mark.slow),
        pytest.param(lambda x: x / 2, "[-0.5, 0.5]", marks=pytest.mark.slow),
        (lambda x: -x, "light and dark exchanged"),
        (lambda x: (x - TRAIN.mean()) / TRAIN.std(), "mean 0 and variance 1"),
        (lambda x: x.transpose(2, 3), "exchanged height and width"),
        pytest.param(lambda x: x.flip(2), "upside down", marks=pytest.mark.slow),
    ],
)
def test_samples_in_other_units_are_told_with_the_map(known, change, told):
    found, broken = ask(ExactDenoiser(MODEL, VE()), samples=change(TRAIN[:200]).contiguous(), store=known)
    assert broken == {"samples"}
    assert found["verdict"].tone == "alarm"
    assert told in found["verdict"].verdict


@pytest.mark.parametrize(
    ("change", "value"), [(lambda x: x + 1.5 * 0.3, 1.5), (lambda x: x.mean(0) + 1.8 * (x - x.mean(0)), 1.8)]
)
def test_samples_that_no_known_map_explains_show_the_number_that_is_off(change, value):
    """Shifted by 1.5 deviations, or spread 1.8 times as wide: no usual range."""
    generator = torch.Generator().manual_seed(0)
    points = 0.3 * torch.randn(900, 8, generator=generator)
    samples = change(points[:300])
    with torch.random.fork_rng():
        found, broken = ask(ExactDenoiser(Gaussian.fit([points]), VE()), points[300:600], points[600:], samples=samples)
    assert broken == {"samples"}
    assert found["samples"].value == pytest.approx(value, rel=0.1)


@pytest.mark.parametrize(("share", "told"), [(1.0, True), (0.2, True), (0.0, False)])
def test_samples_that_are_heldout_examples_are_told(known, share, told):
    """Files that were mixed up look like the best of models: near to held-out data, and no copies."""
    mixed = int(200 * share)
    samples = torch.cat([HELDOUT[:mixed], X[1400 : 1600 - mixed]])
    found, broken = ask(ExactDenoiser(MODEL, VE()), samples=samples, store=known)
    assert (broken == {"samples"}) == told
    assert found["heldout"].value == pytest.approx(100 * share)


def test_what_needs_broken_samples_is_not_answered_and_copies_among_them_are_not_cleared():
    with asked("wiring", "memorized", "loss"):
        result = audit_model(exact_subject(MODEL, TRAIN, HELDOUT), SMALL, samples=255 * TRAIN[:200])
    assert result.verdict.word == "broken"
    assert result["memorized"].findings[0].tone == "unknown"
    assert "Not answered" in result["memorized"].findings[0].verdict
    assert result["loss"].findings[0].tone != "unknown"  # the model itself is audited
    assert json.loads(json.dumps(result.as_json()))["verdict"]["word"] == "broken"
    page = result.page()  # one section for all that is not answered, and no card
    assert [section.anchor for section in page.sections] == ["wiring", "loss", "unanswered"]
    assert [finding.name.split(".")[0] for finding in page.verdicts] == ["wiring", "loss"]
    assert page.sections[-1].answer == (
        "Not answered: the set of samples is not what it is taken for (see the first question). Did it memorize?"
    )


def test_a_memorizer_of_other_data_is_no_denoiser_of_these_and_no_reading_is_made_up():
    """As where training and held-out data are swapped: what it needs is other data, not another reading."""
    found, broken = ask(ExactDenoiser(Empirical(TRAIN[:500]), VE()), HELDOUT, TRAIN[:500])
    assert "model" in broken
    assert "no denoiser of these data" in found["verdict"].verdict
    assert "makes it a denoiser" in found["reading"].verdict
    assert {found["reading"].tone, found["units"].tone} <= {"good", "neutral"}


def test_a_network_whose_samples_explode_is_told_how_it_should_be_read():
    """Read in the wrong way, it cannot be sampled: the report says why, and does not end in an error."""
    denoiser, _ = WRONG["times in (0, 1] for steps"]
    with pytest.raises(InputError, match="finite"):
        _ = Session(Subject(denoiser, TRAIN, HELDOUT), SMALL).samples
    result = audit_model(Subject(denoiser, TRAIN, HELDOUT), SMALL)
    assert result.verdict.word == "broken"
    assert "not read as it was trained" in result.verdict.sentence
    assert result.samples is None
    assert (
        "NaN or infinity" in {finding.name: finding for finding in result["wiring"].findings}["wiring.samples"].verdict
    )
    assert json.dumps(finite(result.as_json()), allow_nan=False)


def test_reversed_channels_are_seen_where_channels_differ():
    generator = torch.Generator().manual_seed(0)
    color = torch.randn(600, 3, 6, 6, generator=generator) * 0.1 + torch.tensor([0.6, 0.1, -0.5]).reshape(3, 1, 1)
    found = sample_units(color[:200].flip(1), color[200:400], color[400:], (-1.0, 1.0), np.random.default_rng(0))
    assert found.fault
    assert found.name == "channels in reversed order"


def test_fresh_samples_of_data_that_are_symmetric_are_in_their_units():
    """Points in the plane look the same under many maps: none of them is nearer."""
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(900, 2, generator=generator)
    found = sample_units(points[:300], points[300:600], points[600:], (-3.5, 3.5), np.random.default_rng(0))
    assert not found.fault
    assert not found.far


class Manner:
    """A sound denoiser with one bad habit."""

    schedule = VE()

    def __init__(self, habit):
        self.habit = habit

    def __call__(self, x_t, t):
        return self.habit(x_t, t)


def exact(x, t):
    return MODEL.denoise(x, 1.0, torch.as_tensor(t))


def in_place(x, t):
    x *= 1.5
    return exact(x / 1.5, t)


def mixes(x, t):
    return exact(x - x.mean(0) * (torch.as_tensor(t).ndim == 0) * (len(x) > 1), t)


def scalar_only(x, t):
    return exact(x, float(t))


HABITS = {
    "random": (lambda x, t: exact(x, t) + 0.1 * torch.randn(x.shape), "two calls on the same input differ", True),
    "changes its input": (in_place, "changes its input in place", True),
    "mixes the batch": (mixes, "depends on the others of its batch", True),
    "another dtype": (lambda x, t: exact(x, t).double(), "returns torch.float64 for torch.float32", False),
    "None": (lambda *_: None, "returns a NoneType", True),
    "a tuple": (lambda x, t: (exact(x, t),), "returns a tuple", True),
    "another shape": (lambda x, t: exact(x, t)[:, 0], "returns the shape", True),
    "NaN": (lambda x, t: exact(x, t) * math.nan, "returns NaN", True),
    "one time at most": (scalar_only, "cannot take one time per sample", False),
    "the first time for all": (lambda x, t: exact(x, torch.as_tensor(t).flatten()[0]), "one time per sample", False),
}


@pytest.mark.parametrize("name", HABITS)
def test_bad_manners_are_named_with_a_mend(name):
    habit, told, grave = HABITS[name]
    with torch.random.fork_rng():
        faults = manners(Manner(habit), TRAIN[:8], torch.tensor([0.5, 3.0, 40.0], dtype=torch.float64))
    assert len(faults) == 1
    assert told in faults[0].what
    assert faults[0].grave is grave
    assert faults[0].mend


def test_good_manners_have_no_fault():
    assert not manners(Manner(exact), TRAIN[:8], torch.tensor([0.5, 3.0, 40.0], dtype=torch.float64))


def test_a_model_with_dropout_on_is_broken_and_nothing_else_is_answered():
    class Dropping(torch.nn.Module):
        schedule = VE()

        def forward(self, x_t, t):
            return torch.nn.functional.dropout(exact(x_t, t), 0.1, self.training)

    with torch.random.fork_rng():
        result = audit_model(Subject(Dropping(), TRAIN, HELDOUT), SMALL)
    assert result.verdict.word == "broken"
    assert "training mode" in result.verdict.sentence
    assert {answer.findings[0].tone for question, answer in result.answers.items() if question.name != "wiring"} == {
        "unknown"
    }


@pytest.mark.parametrize("answer", [torch.zeros_like, lambda x: x, lambda x: 0.3 * x], ids=["zero", "input", "shrunk"])
def test_a_model_that_knows_nothing_is_no_denoiser_of_the_data(answer):
    found, broken = ask(Manner(lambda x, _: answer(x)))
    assert "model" in broken
    assert found["skill"].tone == "alarm"


def test_the_networks_own_formula_is_the_error_of_the_gaussian():
    """E|D - x0|^2 of the exact Gaussian denoiser is the sum of lambda rho^2 / (lambda + rho^2)."""
    variances = torch.tensor([2.0, 0.5], dtype=torch.float64)
    model = Gaussian(torch.zeros(2), torch.eye(2), variances)
    generator = torch.Generator().manual_seed(0)
    clean = model.sample(200_000, generator=generator)
    noised = clean + 0.7 * torch.randn(clean.shape, generator=generator, dtype=clean.dtype)
    errors = (model.denoise(noised, 1.0, 0.7) - clean).square().sum(1)
    standard_error = float(errors.std()) / 200_000**0.5
    assert float(errors.mean()) == pytest.approx(gaussian_error(variances, 0.7), abs=4 * standard_error)


@pytest.mark.parametrize("name", READINGS)
@pytest.mark.parametrize("schedule", [VP(), RectifiedFlow(), VE()], ids=lambda s: type(s).__name__)
def test_every_reading_recovers_the_data_from_what_it_predicts(name, schedule):
    """With x = alpha x0 + sigma eps, from eps, -eps/sigma, alpha' x0 + sigma' eps, or alpha eps - sigma x0."""
    generator = torch.Generator().manual_seed(0)
    clean, eps = (torch.randn(5, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    t = 0.4
    functions = schedule.alpha, schedule.sigma, schedule.alpha_dot, schedule.sigma_dot
    i = Instant(*(float(f(t)) for f in functions))
    predicted = {
        "noise": eps,
        "noise times sigma": i.sigma * eps,
        "clean data": clean,
        "velocity dx/dt": i.alpha_dot * clean + i.sigma_dot * eps,
        "v = alpha noise - sigma data": i.alpha * eps - i.sigma * clean,
        "score": -eps / i.sigma,
    }[name]
    read = READINGS[name](i.alpha * clean + i.sigma * eps, predicted, i)
    assert torch.allclose(read, clean, atol=1e-12)


def test_the_network_is_found_with_its_time_as_a_position_or_a_keyword():
    class ByKeyword(torch.nn.Module):
        schedule = VE()

        def __init__(self):
            super().__init__()
            self.inner = torch.nn.Module()
            self.inner.forward = lambda sample, timestep, **_: (exact(sample, timestep.double() / 10),)

        def forward(self, x_t, t):
            label = (10 * torch.as_tensor(t)).round().long().expand(len(x_t))
            return self.inner(x_t, timestep=label, return_dict=False)[0]

    found = called_network(ByKeyword(), TRAIN[:2], 0.5)
    assert found is not None
    assert (found.name, found.time, found.counts) == ("inner", 5.0, True)
    assert torch.equal(found(TRAIN[:7], 20.4), exact(TRAIN[:7], 2.0).float())
    assert called_network(ExactDenoiser(MODEL, VE()), TRAIN[:2], 0.5) is None


def test_the_matched_start_has_the_first_two_moments_of_the_noised_data():
    generator = torch.Generator().manual_seed(0)
    model = Gaussian.from_covariance(torch.tensor([1.0, -2.0]), torch.tensor([[2.0, 0.6], [0.6, 1.0]]))
    alpha, sigma = 0.6, 0.8
    x = matched_start(model, alpha, sigma, torch.randn(400_000, 2, generator=generator, dtype=torch.float64))
    covariance = alpha**2 * torch.tensor([[2.0, 0.6], [0.6, 1.0]]) + sigma**2 * torch.eye(2)
    assert torch.allclose(x.mean(0), alpha * model.mean, atol=4 * 1.2 / 400_000**0.5)
    assert torch.allclose(torch.cov(x.T), covariance.double(), atol=4 * 2 * 1.4 / 400_000**0.5)


def test_a_start_from_pure_noise_moves_a_gaussian_by_what_its_exact_flow_says():
    """The flow multiplies deviations by psi: the mean m alpha_T that pure noise lacks is missing as psi alpha_T m."""
    schedule = VP(0.1, 3.0)
    model = Gaussian.isotropic(torch.full((1,), 2.0), 0.25)
    start = start_from_noise(ExactDenoiser(model, schedule), model, 0.5, torch.Generator().manual_seed(0))
    high, low = (torch.tensor(t, dtype=torch.float64) for t in (schedule.t_max, schedule.t_min))
    psi = ((schedule.alpha(low) ** 2 * 0.25 + schedule.sigma(low) ** 2)
           / (schedule.alpha(high) ** 2 * 0.25 + schedule.sigma(high) ** 2)).sqrt()  # fmt: skip
    missing = -float(psi * schedule.alpha(high)) * 2.0 / 0.5
    # 64 draws of the same noise leave the difference of the spreads, and fifteen steps their error
    assert start.shift == pytest.approx(missing, abs=4 * start.shift_error + 0.05 * abs(missing))
    found, _ = ask(ExactDenoiser(MODEL, schedule))
    assert found["start"].tone == "attention"


def test_a_shift_of_the_mean_is_told_with_its_size():
    scale = float(TRAIN.flatten(1).var(0, unbiased=False).mean().sqrt())
    found, broken = ask(Manner(lambda x, t: exact(x, t) + 0.2 * scale * (0.2 < float(torch.as_tensor(t).max()) < 1.6)))
    assert not broken
    assert found["drift"].tone == "attention"
    assert found["drift"].value == pytest.approx(0.2, abs=0.05)
