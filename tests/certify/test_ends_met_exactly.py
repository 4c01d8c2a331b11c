"""Ends of samplers and finished samples that are exactly as far off as a certificate allows."""

# ruff: noqa: ARG005 (stand-ins take what samplers take)

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from test_just_beyond_a_bound import at_zero
from test_plans_as_shipped import planned, trial

from diffuscope.certify import (
    Target,
    as_shipped_questions,
    clean,
    unequal_gaussian,
)
from diffuscope.schedules import VE

PROBLEM = unequal_gaussian()


def differences(monkeypatch, module, *values):
    """Stand-ins for the differences that `module` takes, in turn."""
    each = iter(values)
    monkeypatch.setattr(module, "largest_difference", lambda *_: next(each))


# clean data


@pytest.mark.parametrize(("part", "tone"), [(1.0, "good"), (0.99, "attention")])
def test_a_finished_sample_may_be_exactly_as_far_away_as_is_allowed(part, tone, monkeypatch):
    target = Target("near", at_zero(2.0**-14), 1, False, 1)
    value = clean.single_point(target, PROBLEM, VE()).value
    monkeypatch.setattr(clean, "allowed", lambda _: part * value)
    assert clean.single_point(target, PROBLEM, VE()).tone == tone


def missed(target=None):
    target = target or Target("made", lambda d, x, t, g: x, 1, False, 1)
    point = torch.tensor([[1.3, -0.7]], dtype=torch.float64)
    return clean._missed(target, PROBLEM, PROBLEM.denoiser(VE()), point, point)


def test_a_state_that_moved_by_exactly_the_rounding_has_not_moved(monkeypatch):
    monkeypatch.setattr(clean, "allowed", lambda _: 1e-3)
    for moved, still in ((1e-3, True), (1.01e-3, False)):
        differences(monkeypatch, clean, clean.LEFT, moved)
        tone, verdict = missed()
        assert (tone, "it returns the state of the time before" in verdict) == (
            "alarm" if still else "attention",
            still,
        )


def test_what_is_left_exactly_at_the_bounds_is_to_be_noted(monkeypatch):
    """A ten-thousandth in any case; more if finer steps leave at most half of it."""
    for error, finer, tone in (
        (clean.LEFT, 1.0, "attention"), (1.01 * clean.LEFT, 1.0, "alarm"),
        (0.5, 0.25, "attention"), (0.5, 0.2501, "alarm"),
    ):  # fmt: skip
        differences(monkeypatch, clean, error, 1.0)
        monkeypatch.setattr(clean, "_with_finer_steps", lambda *_, finer=finer: finer)
        monkeypatch.setattr(clean, "_is_integrated", lambda *_: True)
        assert missed()[0] == tone


def test_a_last_step_may_leave_exactly_what_eulers_does(monkeypatch):
    target = Target("made", lambda d, x, t, g: x, 1, False, 1)
    point = torch.tensor([[1.3, -0.7]], dtype=torch.float64)
    for left, integrated in ((clean.EULERS * 2.0 + clean.LEFT, True), (clean.EULERS * 2.0 + 1.01 * clean.LEFT, False)):
        differences(monkeypatch, clean, left, 2.0)
        assert clean._is_integrated(target, PROBLEM, PROBLEM.denoiser(VE()), point) == integrated


@pytest.mark.parametrize(("noises", "tone"), [(6.0, "neutral"), (6.01, "alarm")])
def test_a_sample_six_of_its_noises_away_is_within_its_noise(noises, tone, monkeypatch):
    differences(monkeypatch, clean, noises)
    target = Target("made", lambda d, x, t, g: x, 1, False, 1, reaches_zero=False)
    assert clean.single_point(target, PROBLEM, VE()).tone == tone


@pytest.mark.parametrize(
    ("coarse", "fine", "tone"),
    [(0.0, clean.CLEAN, "good"), (0.0, 1.01 * clean.CLEAN, "alarm"), (1.0, 0.5, "good"), (1.0, 0.501, "alarm")],
)
def test_at_sigma_zero_a_twentieth_may_be_left_or_half_of_what_coarse_steps_leave(coarse, fine, tone, monkeypatch):
    monkeypatch.setattr(clean, "clean_errors", lambda *_: (coarse, fine))
    assert clean.last_step(Target("exact", at_zero(0.0), 1, False, 1), PROBLEM, VE()).tone == tone


@pytest.mark.parametrize(
    ("distance", "moved", "verdict"),
    [
        (1e-3, 9.0, "The step to clean data is one call"), (1.01e-3, 9.0, "The step to clean data is finite"),
        (9.0, 1e-3, "It takes no step to clean data"), (9.0, 1.01e-3, "The step to clean data is finite"),
    ],
)  # fmt: skip
def test_the_last_step_is_what_it_equals_up_to_exactly_the_rounding(distance, moved, verdict, monkeypatch):
    monkeypatch.setattr(clean, "clean_errors", lambda *_: (0.0, 0.0))
    monkeypatch.setattr(clean, "allowed", lambda _: 1e-3)
    differences(monkeypatch, clean, distance, moved)
    assert clean.last_step(Target("exact", at_zero(0.0), 1, False, 1), PROBLEM, VE()).verdict.startswith(verdict)


# samplers as they are shipped


@pytest.mark.parametrize(("ours", "tone"), [(2 * 0.5 + 10 / 64, "good"), (2 * 0.5 + 10 / 64 + 1e-9, "attention")])
def test_endpoints_may_err_by_exactly_the_factor_and_ten_tolerances(ours, tone, monkeypatch):
    monkeypatch.setattr(as_shipped_questions, "FACTOR", 2.0)
    monkeypatch.setattr(as_shipped_questions, "TOLERANCE", 1 / 64)
    monkeypatch.setattr(as_shipped_questions, "_endpoint_errors", lambda _: (ours, 0.5))
    assert as_shipped_questions.branching([trial()]).tone == tone


@pytest.mark.parametrize(
    ("level", "left", "shift", "tone"),
    [
        (0.0, 1 / 64, 1 / 64, "good"), (0.0, 1 / 64, 1.01 / 64, "alarm"), (0.0, 1.01 / 64, 0.0, "alarm"),
        (0.25, 2 * 0.25 + 1 / 64, 0.25 + 0.5 + 1 / 64, "attention"),
        (0.25, 2 * 0.25 + 1.01 / 64, 0.0, "alarm"), (0.25, 1 / 32, 0.25 + 0.5 + 1.01 / 64, "alarm"),
    ],
)  # fmt: skip
def test_a_single_point_may_end_with_exactly_the_declared_noise(level, left, shift, tone, monkeypatch):
    """Noise may be twice that of the last level, the shift its shrinkage of 1/2 and its noise; each with 1/64 more."""
    monkeypatch.setattr(as_shipped_questions, "TOLERANCE", 1 / 64)
    monkeypatch.setattr(as_shipped_questions, "noise", lambda _: torch.tensor(level))
    monkeypatch.setattr(as_shipped_questions, "signal", lambda _: torch.tensor(0.5 if level else 1.0))
    mean = torch.zeros(2).double()
    spread = torch.eye(2).double() * left**2
    monkeypatch.setattr(as_shipped_questions, "shipped_gaussian", lambda: SimpleNamespace(mean=mean, eigenvectors=None))
    monkeypatch.setattr(as_shipped_questions, "Gaussian", lambda *_: SimpleNamespace(mean=mean))
    monkeypatch.setattr(as_shipped_questions, "marginal", lambda *_: (mean, spread))
    ended = SimpleNamespace(moments=lambda *_: (mean + shift, spread))
    monkeypatch.setattr(as_shipped_questions, "affine", lambda *_: ended)
    found = as_shipped_questions.end([trial(plan=planned(end=level))])
    assert found.value == left
    assert found.tone == tone


@pytest.mark.parametrize(("stochastic", "tones"), [(False, ("attention", "alarm")), (True, ("attention", "alarm"))])
def test_a_rate_of_exactly_the_slowest_is_not_too_slow(stochastic, tones, monkeypatch):
    trials = [trial(steps, discretization=1.0) for steps in (20, 50)]
    limit = 0.5 if stochastic else as_shipped_questions.SLOW
    for rate, tone in zip((limit, limit - 1e-9), tones, strict=True):
        monkeypatch.setattr(as_shipped_questions.np, "polyfit", lambda *_, rate=rate: np.array([-rate, 0.0]))
        assert as_shipped_questions.convergence(trials, stochastic=stochastic).tone == tone
    monkeypatch.setattr(as_shipped_questions.np, "polyfit", lambda *_: np.array([-as_shipped_questions.SLOW, 0.0]))
    assert as_shipped_questions.convergence(trials, stochastic=True).tone == "good"
