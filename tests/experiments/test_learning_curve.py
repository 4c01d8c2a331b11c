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
from diffuscope.denoisers import ExactDenoiser
from diffuscope.errors import InputError
from diffuscope.experiments import Answer, Experiment, Part, find
from diffuscope.experiments.learning_curve import LEARNING_CURVE, checkpoints, digits, known
from diffuscope.experiments.learning_curve.residuals import Curves, Probe
from diffuscope.findings import Chart, Panel, at_most, line, turning_point
from diffuscope.schedules import VE

HERE = "diffuscope.experiments.learning_curve"
WEIGHTS = "mnist_ddpm_cnn_trajectory_hughes_run1_epoch{:04d}.npz"
watched, recipe = digits.watched, digits.recipe


@cache
def trained(seed):
    return watched(torch.Generator().manual_seed(seed))


def faster(*arguments, **options):
    return replace(recipe(*arguments, **options), learning_rate=2.5e-3)


@pytest.fixture(autouse=True, scope="module")
def _smaller():
    """Fewer repetitions and points, one short training for all tests; the bars stay."""
    with (
        planted(f"{HERE}.known.REPEATS", 40),
        planted(f"{HERE}.known.POOL", 1000),
        planted(f"{HERE}.digits.RATIOS", (0.3, 1.0, 3.0)),
        planted(f"{HERE}.digits.TURNING", {"middle": 1.0}),
        planted(f"{HERE}.digits.STEPS", 750),
        planted(f"{HERE}.digits.recipe", faster),
        planted(f"{HERE}.digits.LOOKS", 12),
        planted(f"{HERE}.digits.POINTS", 256),
        planted(f"{HERE}.digits.watched", lambda generator: trained(generator.initial_seed())),
        planted(f"{HERE}.checkpoints.RATIOS", (0.5, 2.0)),
        planted(f"{HERE}.checkpoints.TURNING", {"middle": 2.0}),
        planted(f"{HERE}.checkpoints.TRAINING", 4000),
        planted(f"{HERE}.checkpoints.POINTS", 64),
    ):
        yield


def test_it_is_found_by_its_name():
    assert find("learning-curve") is LEARNING_CURVE


@pytest.mark.parametrize("part", ["known", "digits"])
def test_every_claim_holds(part):
    answer = answered(LEARNING_CURVE, part)
    assert {claim.name: claim.measured for claim in answer.claims if not claim.holds} == {}
    assert all(math.isfinite(claim.value) for claim in answer.claims)


def test_every_claim_about_mnist_holds(shared_data, monkeypatch):
    monkeypatch.setenv("DIFFUSCOPE_DATA", str(shared_data))
    answer = answered(LEARNING_CURVE, "mnist")
    assert len(answer.claims) >= 5
    assert {claim.name: claim.measured for claim in answer.claims if not claim.holds} == {}


# closed forms


@pytest.fixture(scope="module")
def probe():
    train, heldout = digits.vectors()
    references = fit_references(train, heldout, 3, torch.Generator().manual_seed(0))
    noise = torch.randn(40, 64, generator=torch.Generator().manual_seed(1))
    return Probe.at(VE(0.01, 40.0), references, 0.7, heldout[:40], noise), references


def test_an_exact_model_is_at_no_distance_from_itself_and_its_score_at_the_denoiser_s_distance(probe):
    """s - s_m = alpha (D - D_m)/sigma^2, with the score of `exact`, not derived from the denoiser."""
    seen, references = probe
    for place, model in enumerate(references.models.values()):
        look = seen.look(ExactDenoiser(model, VE(0.01, 40.0)))
        assert float(look.distances[:, place].max()) < 1e-8 * float(look.score.mean())
        gaussian = references.gaussian.score(seen.x_t, 1.0, 0.7)
        apart = (model.score(seen.x_t, 1.0, 0.7) - gaussian).double().square().sum(1)
        column = list(references.models).index("Gaussian")
        assert torch.allclose(apart * 0.7**4, look.distances[:, column], rtol=1e-3, atol=1e-4)


def test_the_unit_is_the_smaller_move_of_the_gaussian(probe):
    seen, references = probe
    answer = references.gaussian.denoise(seen.x_t, 1.0, 0.7)
    moves = [(answer - other).double().square().sum(1).mean() for other in (references.mean, seen.x_t)]
    assert seen.unit == pytest.approx(float(min(moves)), rel=1e-6)


def test_made_denoisers_are_at_the_distance_that_they_are_given():
    """R = f^2 <|u|^2> over the pool, to rounding: <u, w> = 0 and <|w|^2> = <|u|^2>."""
    made = known.Made.of_digits(torch.Generator().manual_seed(0))
    f = np.linspace(0.5, 2, len(known.STEPS))
    assert np.allclose(made.at_distance(f).mean(0), f**2 * made.uu.mean(), rtol=1e-10)
    assert (made.at_distance(f) > -1e-12).all()
    assert (np.diff(made.linear.mean(0)) < 0).all()


# faults


def point_interval(residuals, steps, rng, **options):
    """The step of least residual, and no doubt about it."""
    seen = turning_point(residuals, steps, rng, **options)
    return replace(seen, kept=(seen.step,))


def at_the_first_step(residuals, steps, rng, **options):
    """It asks about the first step where it should ask about the last."""
    seen = turning_point(residuals, steps, rng, **options)
    return replace(seen, p_rise=seen.p_fall)


def too_sure(residuals, steps, rng, **options):
    """It promises to find a rise a tenth as large as it can."""
    seen = turning_point(residuals, steps, rng, **options)
    return replace(seen, detectable_rise=seen.detectable_rise / 10)


def blind(residuals, steps, rng, **options):
    """It looks at the mean alone and sees a rise in anything that is not least at the end."""
    seen = turning_point(residuals, steps, rng, **options)
    return replace(seen, p_rise=float(seen.step == steps[-1]))


@pytest.mark.parametrize(
    ("mutant", "claims"),
    [
        (point_interval, {"covers"}),
        (too_sure, {"power"}),
        (blind, {"false-alarms"}),
        (at_the_first_step, {"linear-alarms"}),
    ],
)
def test_a_detector_that_is_wrong_is_caught(mutant, claims):
    with planted(f"{HERE}.known.turning_point", mutant):
        assert claims <= failures(LEARNING_CURVE, "known")


def test_steps_that_are_kept_at_less_confidence_are_caught(monkeypatch):
    monkeypatch.setattr(sys.modules[turning_point.__module__], "CONFIDENCE", 0.2)
    monkeypatch.setattr(known, "REPEATS", 100)
    assert failures(LEARNING_CURVE, "known") == {"covers"}


def changed(change):
    return lambda generator: {
        name: [change(curve) for curve in curves] for name, curves in trained(generator.initial_seed()).items()
    }


def stopped(curve: Curves) -> Curves:
    """A network that stays where it is nearest to the Gaussian."""
    place = int(curve.of_model("Gaussian").mean(0).argmin())
    frozen = np.minimum(np.arange(len(curve.steps)), place)
    return replace(
        curve,
        residuals=curve.residuals[:, frozen],
        published=curve.published[:, frozen],
        centered=curve.centered[frozen],
    )


def backward(curve: Curves) -> Curves:
    """The steps in the other order: what is learned last comes first."""
    return replace(curve, residuals=curve.residuals[:, ::-1], published=curve.published[:, ::-1])


def swapped(curve: Curves) -> Curves:
    """Mixture and Gaussian under each other's names."""
    exchanged = {"Gaussian": "mixture", "mixture": "Gaussian"}
    return replace(curve, models=tuple(exchanged.get(model, model) for model in curve.models))


def clusters_first(curve: Curves) -> Curves:
    """A network that is always nearer to the mixture."""
    residuals = curve.residuals.copy()
    residuals[:, :, curve.models.index("mixture")] = curve.of_model("Gaussian") / 2
    return replace(curve, residuals=residuals)


@pytest.mark.parametrize(
    ("change", "claims"),
    [
        (stopped, {"digits-middle", "digits-training", "digits-published", "digits-mixture-later"}),
        (backward, {"digits-mixture-later"}),
        (swapped, {"digits-middle", "digits-mixture-later"}),
        (clusters_first, {"digits-linear-first"}),
    ],
)
def test_a_network_that_learns_otherwise_is_caught(change, claims):
    with planted(f"{HERE}.digits.watched", changed(change)):
        assert claims <= failures(LEARNING_CURVE, "digits")


def test_training_points_in_place_of_held_out_ones_are_caught():
    def one_set(generator):
        found = trained(generator.initial_seed())
        return {"held-out": found["training"], "training": found["training"]}

    with planted(f"{HERE}.digits.watched", one_set):
        assert failures(LEARNING_CURVE, "digits") == {"training-points"}


def test_a_score_residual_that_is_not_vacuous_is_caught():
    def over_the_answer(curve: Curves) -> Curves:
        return replace(curve, published=np.broadcast_to(curve.centered, curve.published.shape))

    with planted(f"{HERE}.digits.watched", changed(over_the_answer)):
        assert "vacuous" in failures(LEARNING_CURVE, "digits")


def test_a_fault_in_what_is_computed_is_not_taken_for_missing_files():
    def faulty(networks, data, generator):  # noqa: ARG001
        raise InputError("t: expected a time")

    with (
        planted(f"{HERE}.checkpoints.stored", lambda: ([], None)),
        planted(f"{HERE}.checkpoints.watched", faulty),
        pytest.raises(InputError, match="expected a time"),
    ):
        answered(LEARNING_CURVE, "mnist")


# without the files


def without_the_others() -> Experiment:
    claim = at_most("number", "A number is small", 0.5, 1, because="it is", source="nobody")
    chart = Chart("One line", (Panel("", "x", "y", (line([1, 2], [1, 2]),)),), "Up.")
    other = Part("other", "Is it small?", lambda generator: Answer("Yes.", (claim,), (chart,)))  # noqa: ARG005
    return replace(LEARNING_CURVE, parts=(other, LEARNING_CURVE.parts[2]))


def test_without_the_folder_the_part_says_what_it_needs_and_claims_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("DIFFUSCOPE_DATA", str(tmp_path))
    answer = answered(LEARNING_CURVE, "mnist")
    assert answer.claims == ()
    assert answer.charts == ()
    assert answer.text.startswith("Not run, and nothing is claimed.")
    assert "DIFFUSCOPE_DATA" in answer.text
    assert "\n" not in answer.text


def test_the_command_tells_it_and_does_not_fail(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("DIFFUSCOPE_DATA", str(tmp_path / "absent"))
    monkeypatch.setattr("diffuscope.cli.reproduce.find", lambda name: without_the_others())  # noqa: ARG005
    monkeypatch.setattr(sys, "argv", ["diffuscope", "reproduce", "learning-curve", "--out", str(tmp_path)])
    cli.main()
    (told,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("--"))
    assert "Not run" in told
    assert "DIFFUSCOPE_DATA" in told
    page = (tmp_path / "learning-curve" / "report.html").read_text(encoding="utf-8")
    assert "Not run, and nothing is claimed" in page


def test_missing_files_are_named_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("DIFFUSCOPE_DATA", str(tmp_path))
    (tmp_path / "weights").mkdir()
    for epoch in (0, 20, 40, 60, 200):
        (tmp_path / "weights" / WEIGHTS.format(epoch)).touch()
    answer = answered(LEARNING_CURVE, "mnist")
    assert answer.claims == ()
    assert f"5 of 7 files; {WEIGHTS.format(100)}, {WEIGHTS.format(400)} missing" in answer.text
    assert "\n" not in answer.text


def test_a_damaged_file_is_told_in_one_line(shared_data, tmp_path, monkeypatch):
    monkeypatch.setenv("DIFFUSCOPE_DATA", str(tmp_path))
    (tmp_path / "mnist").symlink_to(shared_data / "mnist")
    (tmp_path / "weights").mkdir()
    for epoch in checkpoints.EPOCHS:
        (tmp_path / "weights" / WEIGHTS.format(epoch)).write_bytes(b"damaged")
    answer = answered(LEARNING_CURVE, "mnist")
    assert answer.claims == ()
    assert "Not run" in answer.text
    assert "epoch0000" in answer.text
    assert "\n" not in answer.text
