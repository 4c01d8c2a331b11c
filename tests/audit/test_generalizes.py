"""Planted models stand where they belong between generalizing and memorizing, and no more is said of them."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from made_by_hand import finding

from audit_subjects import QUICK, digits, exact_subject
from diffuscope.audit import Answer, Session, Subject
from diffuscope.audit.originals import Originals
from diffuscope.audit.questions.generalizes import QUESTION, parameters_of
from diffuscope.audit.standing import Position
from diffuscope.audit.target_noise import TargetNoise, carried
from diffuscope.denoisers import MLP, ExactDenoiser, Preconditioned
from diffuscope.exact import Empirical, Gaussian
from diffuscope.schedules import VE
from diffuscope.training import fit
from diffuscope.training.default_model import recipe
from diffuscope.training.target_average import DataPosterior

SETTINGS = dataclasses.replace(QUICK, levels=6, points=100, trajectories=16, generated=32, components=1)
IMAGES = digits(3)
TRAIN, HELDOUT = IMAGES[:400], IMAGES[400:600]


def answer(subject, **answers):
    session = Session(subject, SETTINGS)
    session.answers |= answers
    given = QUESTION.ask(session)
    assert given is not None
    return given


def named(given):
    return {finding.name.removeprefix("generalizes."): finding for finding in given.findings}


def memorized(tone, copies=False):
    return Answer(
        findings=[finding(tone=tone, verdict="So it said.")], facts={"heldout_are_copies": {"pixels": copies}}
    )


@pytest.fixture(scope="module")
def memorizer():
    return answer(exact_subject(Empirical(TRAIN), TRAIN, HELDOUT))


@pytest.fixture(scope="module")
def gaussian():
    return answer(exact_subject(Gaussian.fit([TRAIN]), TRAIN, HELDOUT))


def test_the_memorizer_is_at_the_optimum_with_all_its_samples_at_examples(memorizer):
    found = named(memorizer)
    assert found["position"].value == pytest.approx(100, abs=1e-6)
    assert found["position"].interval == pytest.approx((100, 100), abs=1e-6)
    assert found["at_examples"].value == pytest.approx(0, abs=1e-3)
    # the whole loss is the variance of the target, however many draws it is averaged over
    assert all(share == pytest.approx(1, abs=1e-6) for share, *_ in memorizer.result.noise.values())
    assert "at the optimum" in found["dial"].verdict


def test_a_gaussian_treats_both_alike_and_its_samples_are_away_from_examples(gaussian):
    found = named(gaussian)
    assert found["position"].interval[0] < found["position"].value < 30
    assert found["at_examples"].interval[0] > 1


def test_nothing_is_praised_and_nothing_alarms(memorizer, gaussian):
    for given in (memorizer, gaussian):
        assert {finding.tone for finding in given.findings} <= {"neutral", "unknown"}
        assert all(finding.power for finding in given.findings)
    assert "Whether it has memorized was not asked." in memorizer.findings[0].verdict


@pytest.mark.parametrize(
    ("tone", "opening"),
    [("alarm", "It has memorized: “So it said.”"), ("good", "On memorization: “So it said.”")],
)
def test_what_memorization_answered_is_repeated_and_not_judged_again(tone, opening):
    subject = exact_subject(Gaussian.fit([TRAIN]), TRAIN, HELDOUT)
    assert opening in answer(subject, memorized=memorized(tone)).findings[0].verdict


def test_heldout_examples_that_are_copies_give_no_position():
    subject = exact_subject(Gaussian.fit([TRAIN]), TRAIN, HELDOUT)
    first = answer(subject, memorized=memorized("unknown", copies=True)).findings[0]
    assert first.tone == "unknown"
    assert "near-copies of training examples" in first.verdict


def test_a_single_example_has_no_spread():
    one = Empirical(TRAIN[:1])
    x_t = torch.randn(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    variance = one.posterior_covariance(x_t, 1.0, 0.5).trace().double().numpy()
    assert not carried(variance[:, None].repeat(3, 1), np.array([2.0, 1.0, 0.5]), 1.0).any()


def test_the_spread_of_gaussian_data_has_a_closed_form():
    """Cov = v rho^2 / (v + rho^2); from a to b v^2 / 2 (1 / (v + a^2) - 1 / (v + b^2)), in all v / 2."""
    v, ratios = 0.7, np.geomspace(100, 0.01, 2000)
    cov = v * ratios**2 / (v + ratios**2)
    exact = v**2 / 2 * (1 / (v + 0.01**2) - 1 / (v + 100**2))
    value = carried(cov[None], ratios, v**0.5)[0]
    assert value == pytest.approx(exact, rel=1e-4)  # the trapezoidal rule at steps of 0.5% of a level
    assert exact == pytest.approx(v / 2, rel=5e-4)


def test_many_gaussian_examples_have_the_spread_of_their_distribution():
    """8,000 draws of N(0, I) in three dimensions at exact states: sqrt(3 / 2), over d_1, within 2%."""
    rng = torch.Generator().manual_seed(0)
    data, clean = (torch.randn(n, 3, generator=rng) for n in (8000, 200))
    ratios = np.geomspace(30, 0.2, 20)
    noise = torch.randn(len(ratios), 200, 3, generator=rng)
    exact = Empirical(data)
    variance = torch.stack(
        [exact.posterior_covariance(clean + r * e, 1.0, float(r)).trace() for r, e in zip(ratios, noise, strict=True)],
        1,
    )
    made = TargetNoise(
        ratios=ratios, scale=1.0, dimension=3, variance=variance.double().numpy(), examples=np.full(10, 0.25),
        heldout=np.ones(10), samples=np.full(10, 0.5),
    )  # fmt: skip
    lost = 3 / 2 * (1 - 1 / (1 + 0.2**2) + 1 / (1 + 30**2))  # below and above the levels
    value, low, high = made.spread(np.random.default_rng(0))
    assert value == pytest.approx((3 / 2 - lost) ** 0.5 / 0.25, rel=0.02)
    assert low < value < high
    assert made.at_examples(np.random.default_rng(0)) == pytest.approx((2, 2, 2))


def test_examples_that_are_all_repeated_have_no_distance():
    twice = torch.cat([TRAIN[:150], TRAIN[:150]])
    found = named(answer(exact_subject(Gaussian.fit([twice]), twice, HELDOUT)))
    assert found["spread"].tone == found["at_examples"].tone == "unknown"
    assert "repeated exactly" in found["spread"].verdict
    assert not math.isnan(found["position"].value)


def test_a_target_of_m_draws_leaves_an_mth_of_the_noise():
    """E|D - T_M|^2 = Delta + I / M at one level, D = 0.9 x_t, within four standard errors of 4,000 draws."""
    rng, sigma, draws = torch.Generator().manual_seed(0), 0.5, 8
    data = TRAIN[:100]
    picked = torch.randint(100, (4000,), generator=rng)
    x_t = data[picked] + sigma * torch.randn(4000, 1, 8, 8, generator=rng)
    levels = torch.ones(4000, dtype=torch.float64), torch.full((4000,), sigma, dtype=torch.float64)
    others = DataPosterior(data).draw(x_t, *levels, draws - 1, generator=rng)
    target = (data[picked].double() + data.double()[others].sum(1)) / draws
    exact = Empirical(data)
    irreducible = exact.posterior_covariance(x_t, 1.0, sigma).trace().double()
    distance = (0.9 * x_t - exact.denoise(x_t, 1.0, sigma)).double().flatten(1).square().sum(1)
    loss = (0.9 * x_t.double() - target).flatten(1).square().sum(1)
    difference = loss - distance - irreducible / draws
    assert abs(float(difference.mean())) < 4 * float(difference.std()) / 4000**0.5
    position = Position(
        ratios=np.ones(1), scale=1.0, matter=np.ones(1), irreducible=irreducible[:, None].numpy(),
        distance=distance[:, None].numpy(), gap=np.zeros((4000, 1)),
    )  # fmt: skip
    share = position.noise_share(draws, np.random.default_rng(0))[0]
    assert share == pytest.approx(1 - float(distance.mean() / loss.mean()), abs=0.02)


def test_parameters_are_counted_once_and_only_where_there_are_modules():
    network = MLP((1, 8, 8), width=16, depth=1)
    model = Preconditioned(network, VE(0.01, 40.0), 0.8, event_shape=(1, 8, 8), data_range=(-1.0, 1.0))
    count = sum(p.numel() for p in network.parameters())
    assert parameters_of(model) == count
    assert parameters_of({"one": model, "again": network}) == count
    assert parameters_of(ExactDenoiser(Gaussian.fit([TRAIN]), VE())) is None
    found = named(answer(Subject(model.eval(), TRAIN, HELDOUT)))["parameters"]
    assert found.value == pytest.approx(400 * 64 / count)


def test_latents_have_a_position_and_no_distances(gaussian):
    subject = exact_subject(Gaussian.fit([TRAIN]), TRAIN, HELDOUT)
    given = answer(dataclasses.replace(subject, originals=Originals(train=TRAIN, heldout=HELDOUT)))
    found = named(given)
    assert found["position"].value == named(gaussian)["position"].value
    for name in ("spread", "at_examples"):
        assert found[name].tone == "unknown"
        assert "latents" in found[name].verdict


def test_a_declared_one_step_map_has_no_position():
    class Declared(ExactDenoiser):
        """An exact denoiser, which nothing but its word tells from one."""

        one_step = True

    (only,) = answer(Subject(Declared(Gaussian.fit([TRAIN]), VE()), TRAIN, HELDOUT)).findings
    assert only.tone == "unknown"
    assert "one-step map" in only.verdict


@pytest.mark.slow
def test_a_network_trained_on_few_digits_stands_nearer_to_the_memorizer_than_one_trained_on_many():
    def standing(examples):
        model = Preconditioned(
            MLP((1, 8, 8), width=128, depth=2), VE(0.01, 30.0), 0.75, event_shape=(1, 8, 8), data_range=(-1.0, 1.0)
        )
        fit(model, IMAGES[:examples], recipe(0.75, steps=2000, batch_size=64, seed=0))
        return answer(Subject(model.eval(), IMAGES[:examples], IMAGES[900:1300]))

    few, many = standing(40), standing(900)
    assert few.result.standing[1] > many.result.standing[2]
    below, above = (named(found)["at_examples"].interval for found in (few, many))
    assert below is not None
    assert above is not None
    assert below[1] < above[0]
