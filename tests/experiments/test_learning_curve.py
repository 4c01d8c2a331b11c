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
from diffuscope.data import load_data
from diffuscope.errors import InputError
from diffuscope.experiments import Experiment, find
from diffuscope.experiments.learning_curve import EXPERIMENT, checkpoints, watch_digits, watch_mnist
from diffuscope.experiments.part import Part
from diffuscope.findings import Panel, line, turning_point
from diffuscope.training import recipe

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
    "MNIST_NOISE": (2.0,),
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


@pytest.mark.parametrize("networks", ["stand_in", pytest.param("published", marks=pytest.mark.slow)])
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


@pytest.mark.slow
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
        ("mnist_checkpoints:untrained", "whole numbers from 1 on, got 0"),
        ("mnist_checkpoints:unnumbered", "whole numbers from 1 on, got '6'"),
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
        part.chart("One line", Panel("", "t", "y", (line([1, 2], [1, 2]),)), how_to_read="Up.")
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
