"""The learning curve: every claim holds for another seed, and a planted fault makes the claim about it fail."""

import math
import sys
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from answering import answered, failures, planted

from diffuscope import cli
from diffuscope.audit import fit_references
from diffuscope.data import load_data
from diffuscope.denoisers import ExactDenoiser
from diffuscope.errors import InputError
from diffuscope.experiments import Experiment, find
from diffuscope.experiments.learning_curve import EXPERIMENT, checkpoints, digit_vectors, watch_digits, watch_mnist
from diffuscope.experiments.learning_curve.made_denoisers import STEPS, MadeDenoisers
from diffuscope.experiments.learning_curve.residuals import Probe, squares, standard_deviation, watch
from diffuscope.experiments.part import Part
from diffuscope.findings import Panel, line, turning_point
from diffuscope.schedules import VE
from diffuscope.training import new_denoiser, recipe

HERE = "diffuscope.experiments.learning_curve"
SETTING, PUBLISHED = "DIFFUSCOPE_CHECKPOINTS", "published_networks.noise_cnn:checkpoints"


@cache
def trained(seed):
    return watch_digits(Part("learning-curve", "digits", "", seed))


def faster(*arguments, **options):
    return replace(recipe(*arguments, **options), learning_rate=2.5e-3)


SMALLER = {
    "REPETITIONS": 40,
    "made_denoisers.POOL": 1000,
    "DIGITS_NOISE": (0.3, 1.0, 3.0),
    "DIGITS_POINTS": 256,
    "STEPS": 750,
    "LOOKS": 12,
    "recipe": faster,
    "watch_digits": lambda part: trained(part.seed),
    "MNIST_NOISE": (0.5, 2.0),
    "MNIST_TRAINING": 4000,
    "MNIST_POINTS": 64,
}


@pytest.fixture(autouse=True)
def _smaller(request, monkeypatch):
    """Fewer repetitions and points, one short training for all tests; the bars stay. A slow test takes it whole."""
    if not request.node.get_closest_marker("slow"):
        for name, value in SMALLER.items():
            monkeypatch.setattr(f"{HERE}.{name}", value)


@pytest.fixture
def stand_in(monkeypatch):
    """Exact denoisers of digits in the place of checkpoints, and digits in that of MNIST."""
    monkeypatch.setenv(SETTING, "mnist_checkpoints:stand_in")
    monkeypatch.setattr(f"{HERE}.load_data", lambda name: load_data("digits"))  # noqa: ARG005


@pytest.fixture
def published(monkeypatch, shared_data):
    """The published checkpoints and MNIST, where the data are present."""
    monkeypatch.setenv("DIFFUSCOPE_DATA", str(shared_data))
    monkeypatch.setenv(SETTING, PUBLISHED)


def test_it_is_found_by_its_name():
    assert find("learning-curve") is EXPERIMENT


@pytest.mark.parametrize("part", ["known", "digits"])
def test_every_claim_holds(part):
    answer = answered(EXPERIMENT, part)
    assert {claim.name: claim.measured for claim in answer.claims if not claim.holds} == {}
    assert all(math.isfinite(claim.value) for claim in answer.claims)


@pytest.mark.parametrize("networks", ["stand_in", "published"])
def test_every_claim_about_checkpoints_holds(networks, request):
    request.getfixturevalue(networks)
    answer = answered(EXPERIMENT, "mnist")
    assert [claim.name for claim in answer.claims] == ["mnist-middle", "mnist-linear-first", "mnist-mixture-later"]
    assert {claim.name: claim.measured for claim in answer.claims if not claim.holds} == {}


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("part", ["known", "digits", "mnist"])
@pytest.mark.usefixtures("published")
def test_every_claim_holds_with_nothing_made_smaller(part, seed):
    assert failures(EXPERIMENT, part, seed) == set()


# what is measured


def fitted():
    data = digit_vectors()
    return fit_references(data["training"], data["held-out"], 3, torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def probe():
    data, references = digit_vectors(), fitted()
    noise = torch.randn(40, 64, generator=torch.Generator().manual_seed(1))
    return Probe(VE(0.01, 40.0), references, 0.7, data["held-out"][:40], noise), references


def test_an_exact_model_is_at_no_distance_from_itself_and_its_score_at_the_denoiser_s_distance(probe):
    """s - s_m = alpha (D - D_m)/sigma^2, with the score of `exact`, not derived from the denoiser."""
    noised, references = probe
    for place, model in enumerate(references.models.values()):
        distances = noised.distances(ExactDenoiser(model, VE(0.01, 40.0)))
        assert float(distances[:, place].max()) < 1e-8 * float(distances[:, -1].mean())
        gaussian = references.gaussian.score(noised.x_t, 1.0, 0.7)
        apart = squares(model.score(noised.x_t, 1.0, 0.7) - gaussian)
        column = list(references.models).index("Gaussian")
        assert torch.allclose(apart * 0.7**4, distances[:, column], rtol=1e-3, atol=1e-4)


def test_the_unit_is_the_smaller_move_of_the_gaussian(probe):
    noised, references = probe
    answer = references.gaussian.denoise(noised.x_t, 1.0, 0.7)
    moves = [float(squares(answer - other).mean()) for other in (references.mean, noised.x_t)]
    assert noised.unit == pytest.approx(min(moves), rel=1e-6)


def test_the_published_form_is_over_the_networks_own_score(probe):
    """|s - s_G|^2 / |s|^2 with the scores of `exact`, for the isotropic model as the network."""
    references, data = probe[1], {"held-out": digit_vectors()["held-out"]}
    model, draws = references.models["isotropic"], (torch.Generator().manual_seed(2) for _ in range(2))
    networks = [(1, ExactDenoiser(model, VE(0.01, 40.0)))]
    curves = watch(networks, VE(0.01, 40.0), references, {1.0: 0.7}, data, 40, next(draws))["held-out"][0]
    again = next(draws)
    noise = torch.randn(40, 64, generator=again)
    x_t = data["held-out"][torch.randperm(len(data["held-out"]), generator=again)[:40]] + 0.7 * noise
    own, gaussian = (exact.score(x_t, 1.0, 0.7) for exact in (model, references.gaussian))
    expected = squares(own - gaussian) / squares(own)
    assert np.allclose(curves.published[:, 0], expected.numpy(), rtol=1e-3, atol=1e-6)


def test_the_published_form_seems_to_explain_a_network_that_has_learned_nothing():
    """At noise 3 it is less than 0.3 of |D - D_G|^2 over |D - mu|^2, which is vacuous at no noise level."""
    data, references = digit_vectors(), fitted()
    model = new_denoiser(data["training"], (-1.0, 1.0), 1)
    noise = torch.randn(256, 64, generator=torch.Generator().manual_seed(1))
    noised = Probe(model.schedule, references, 3 * standard_deviation(data["training"]), data["held-out"][:256], noise)
    distances = noised.distances(model)[:, list(references.models).index("Gaussian")]
    with torch.no_grad():
        centered = distances.mean() / squares(model(noised.x_t, torch.tensor(noised.t)) - references.mean).mean()
    assert (distances / noised.distances(model)[:, -1]).mean() < 0.3 * centered


def test_made_denoisers_are_at_the_distance_that_they_are_given():
    """R = f^2 <|u|^2> over the pool, to rounding: <u, w> = 0 and <|w|^2> = <|u|^2>."""
    data = digit_vectors()
    made = MadeDenoisers(data["training"], data["held-out"], 10, torch.Generator().manual_seed(0))
    f = np.linspace(0.5, 2, len(STEPS))
    assert np.allclose(made.residuals(f).mean(0), f**2 * made.uu.mean(), rtol=1e-10)
    assert (made.residuals(f) > -1e-12).all()


@pytest.mark.parametrize("name", ["held-out", "training"])
@pytest.mark.parametrize("turning", ["turning", "published_turning"])
def test_the_residual_turns_at_training_points_and_in_the_published_form_too(name, turning):
    middle = trained(1)[name][1]
    turn = getattr(middle, turning)(np.random.default_rng(1))
    assert max(turn.p_fall, turn.p_rise) <= 0.01 / 3
    still = getattr(stopped(middle), turning)(np.random.default_rng(1))
    assert still.p_rise > 0.01 / 3


def test_the_empirical_model_is_nearer_at_the_training_points():
    """It knows them: at noise 0.3 the residual at the end is at most half of that at held-out points."""
    heldout, training = (trained(1)[name][0].residuals["empirical"][:, -1].mean() for name in ("held-out", "training"))
    assert training < heldout / 2


# faults


def point_interval(residuals, steps, rng, **options):
    """The step of least residual, and no doubt about it."""
    turn = turning_point(residuals, steps, rng, **options)
    return replace(turn, kept=(turn.step,))


def blind(residuals, steps, rng, **options):
    """It looks at the mean alone and sees a rise in anything that is not least at the end."""
    turn = turning_point(residuals, steps, rng, **options)
    return replace(turn, p_rise=float(turn.step == steps[-1]))


@pytest.mark.parametrize(("mutant", "claim"), [(point_interval, "covers"), (blind, "false-alarms")])
def test_a_detector_that_is_wrong_is_caught(mutant, claim):
    with planted(f"{HERE}.made_denoisers.turning_point", mutant):
        assert claim in failures(EXPERIMENT, "known")


def test_steps_that_are_kept_at_less_confidence_are_caught(monkeypatch):
    monkeypatch.setattr(sys.modules[turning_point.__module__], "CONFIDENCE", 0.2)
    monkeypatch.setattr(f"{HERE}.REPETITIONS", 100)
    assert failures(EXPERIMENT, "known") == {"covers"}


def changed(change):
    return lambda part: {name: [change(curve) for curve in curves] for name, curves in trained(part.seed).items()}


def at_steps(curve, places):
    residuals = {model: values[:, places] for model, values in curve.residuals.items()}
    return replace(curve, residuals=residuals, published=curve.published[:, places])


def stopped(curve):
    """A network that stays where it is nearest to the Gaussian."""
    place = int(curve.residuals["Gaussian"].mean(0).argmin())
    return at_steps(curve, np.minimum(np.arange(len(curve.steps)), place))


def backward(curve):
    """The steps in the other order: what is learned last comes first."""
    return at_steps(curve, np.arange(len(curve.steps))[::-1])


def swapped(curve):
    """Mixture and Gaussian under each other's names."""
    exchanged = {"Gaussian": curve.residuals["mixture"], "mixture": curve.residuals["Gaussian"]}
    return replace(curve, residuals=curve.residuals | exchanged)


def clusters_first(curve):
    """A network that is always nearer to the mixture."""
    return replace(curve, residuals=curve.residuals | {"mixture": curve.residuals["Gaussian"] / 2})


@pytest.mark.parametrize(
    ("change", "claims"),
    [
        (stopped, {"middle", "mixture-later"}),
        (backward, {"mixture-later"}),
        (swapped, {"middle", "mixture-later"}),
        (clusters_first, {"linear-first"}),
    ],
)
def test_a_network_that_learns_otherwise_is_caught(change, claims):
    with planted(f"{HERE}.watch_digits", changed(change)):
        assert {f"digits-{claim}" for claim in claims} <= failures(EXPERIMENT, "digits")


@pytest.mark.usefixtures("stand_in")
def test_checkpoints_that_do_not_learn_are_caught(monkeypatch):
    monkeypatch.setenv(SETTING, "mnist_checkpoints:idle")
    assert failures(EXPERIMENT, "mnist") == {"mnist-middle", "mnist-mixture-later"}


# the published checkpoints


@pytest.mark.usefixtures("published")
def test_one_checkpoint_read_seven_times_is_caught(monkeypatch):
    monkeypatch.setenv(SETTING, "mnist_checkpoints:one_published")
    assert {"mnist-middle", "mnist-linear-first"} <= failures(EXPERIMENT, "mnist")


@pytest.mark.slow
@pytest.mark.usefixtures("published")
def test_published_checkpoints_turn_at_middle_and_high_noise_at_both_sets_and_in_both_forms():
    """At noise 0.5 they are nearest to the Gaussian at the first checkpoint: they turned before it, or never fell."""
    curves, rng = watch_mnist(*checkpoints(), torch.Generator().manual_seed(1)), np.random.default_rng(1)
    for place in (1, 2):
        turns = [curves["held-out"][place].turning(rng), curves["held-out"][place].published_turning(rng)]
        for turn in (*turns, curves["training"][place].turning(rng)):
            assert max(turn.p_fall, turn.p_rise) <= 0.01 / 4
    low = curves["held-out"][0].turning(rng)
    assert (low.step, low.p_rise <= 0.01 / 4) == (1, True)


# without them


def not_run(text, *named):
    """One line that says what is needed, with every word of `named`."""
    assert text.startswith("Not run, and nothing is claimed.")
    assert "\n" not in text
    return all(word in text for word in named)


def test_without_the_setting_the_part_says_what_it_needs_and_claims_nothing(monkeypatch):
    monkeypatch.delenv(SETTING, raising=False)
    answer = answered(EXPERIMENT, "mnist")
    assert answer.claims == answer.charts == ()
    assert not_run(answer.text, SETTING, "module:function", "by their number of epochs trained on MNIST")


@pytest.mark.parametrize(
    ("spec", "named"),
    [
        ("mnist_checkpoints", "expected module:object"),
        ("no_such_module:networks", "no module named 'no_such_module'"),
        ("mnist_checkpoints:A_NUMBER", "got mnist_checkpoints:A_NUMBER"),
        ("mnist_checkpoints:two", "at least three"),
        ("mnist_checkpoints:mixed_up", "got a str for 1"),
    ],
)
def test_a_setting_that_brings_no_checkpoints_is_explained_in_one_line(monkeypatch, spec, named):
    monkeypatch.setenv(SETTING, spec)
    answer = answered(EXPERIMENT, "mnist")
    assert answer.claims == ()
    assert not_run(answer.text, SETTING, named)


@pytest.mark.parametrize(
    ("networks", "damaged", "named"),
    [(PUBLISHED, False, "epoch0000"), (PUBLISHED, True, "epoch0000"), ("mnist_checkpoints:stand_in", False, "mnist")],
    ids=["missing", "damaged", "no-mnist"],
)
def test_a_file_that_is_missing_or_damaged_is_named_in_one_line(tmp_path, monkeypatch, networks, damaged, named):
    monkeypatch.setenv("DIFFUSCOPE_DATA", str(tmp_path))
    monkeypatch.setenv(SETTING, networks)
    if damaged:
        (tmp_path / "weights").mkdir()
        (tmp_path / "weights" / "mnist_ddpm_cnn_trajectory_hughes_run1_epoch0000.npz").write_bytes(b"damaged")
    answer = answered(EXPERIMENT, "mnist")
    assert answer.claims == ()
    assert not_run(answer.text, named)


def test_a_fault_in_what_is_computed_is_not_taken_for_missing_files():
    def faulty(networks, data, generator):  # noqa: ARG001
        raise InputError("t: expected a time")

    with (
        planted(f"{HERE}.checkpoints", lambda: ({}, None)),
        planted(f"{HERE}.watch_mnist", faulty),
        pytest.raises(InputError, match="expected a time"),
    ):
        answered(EXPERIMENT, "mnist")


def one_claim_and_mnist():
    short = Experiment(name="learning-curve", title="Short", question="Is it?", source="nobody", seconds=1)

    @short.part("Is it small?")
    def other(part):
        part.at_most("number", "A number is small", 0.5, 1, "it is")
        part.chart("One line", Panel("", "x", "y", (line([1, 2], [1, 2]),)), how_to_read="Up.")
        return "Yes."

    short.parts.append(EXPERIMENT.parts[2])
    return short


def test_the_command_says_so_and_does_not_fail(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv(SETTING, raising=False)
    monkeypatch.setattr("diffuscope.cli.reproduce.find", lambda name: one_claim_and_mnist())  # noqa: ARG005
    monkeypatch.setattr(sys, "argv", ["diffuscope", "reproduce", "learning-curve", "--out", str(tmp_path)])
    cli.main()
    (printed,) = (row for row in capsys.readouterr().out.splitlines() if row.startswith("--"))
    assert not_run(printed[printed.index("Not run") :], SETTING)
    assert "Not run, and nothing" in (tmp_path / "learning-curve" / "report.html").read_text(encoding="utf-8")
