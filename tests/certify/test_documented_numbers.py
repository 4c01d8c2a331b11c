"""The numbers of the page and of docstrings are those that the questions use, and each bound lies where it is said."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from diffuscope.certify import (
    OracleProblem,
    Target,
    behavior,
    certify_flow_map,
    certify_sampler,
    check_sampler,
    clean,
    convergence,
    edges,
    finite_data,
    flow_maps,
    guidance,
    likelihood,
    likelihood_interval,
    limit,
    mixture,
    oracle_problems,
    order,
    problems,
    ring,
    sampler_questions,
    unequal_gaussian,
    wide_gaussian,
)
from diffuscope.certify.affine import WeakError
from diffuscope.certify.likelihood_interval import Limits, judge
from diffuscope.schedules import VE, VP
from stated_numbers import default


def stays(denoiser, x, times, generator):  # noqa: ARG001
    return x


def target(stochastic: bool = False, calls: int | None = None, **declared: Any) -> Target:
    return Target("some sampler", stays, None, stochastic, calls, **declared)


def test_the_page_and_the_code_say_the_same_numbers():
    """docs/certify.md, what is tested; sentences of the docstrings."""
    assert (default(certify_sampler, "seconds"), default(check_sampler, "seconds")) == (60.0, 60.0)
    assert sampler_questions.SAMPLES == 20_000
    assert [n / 2**k for k, n in enumerate(sampler_questions.NFE_BUDGETS)] == [5] * 5
    assert (convergence.STRONG_TOLERANCE, convergence.WEAK_TOLERANCE) == (0.15, 0.2)
    assert (limit.RESOLUTION, limit.NEGLIGIBLE) == (0.01, 1e-4)
    assert (edges.FEW, edges.MUCH_MORE) == ((1, 2, 3, 5), 3.0)
    assert max(max(finer) for finer in convergence.FINER) == 1000 == target().finest
    assert (behavior.STEPS, behavior.BATCH, target().floor, target().coarsest) == (12, 130, 1e-12, 1)
    assert max(order.STEPS) == 10 * min(order.STEPS) == 160  # a decade
    for steps in (order.STEPS, sampler_questions.FEWER_STEPS, edges.STRETCHED, edges.COSTLY):
        # equal ratios, a fifth of a decade, in two digits
        assert [float(f"{10 ** (round(5 * math.log10(n)) / 5):.1e}") for n in steps] == list(steps)
    assert default(certify_flow_map, "tolerance") == 0.01
    assert len(likelihood.LEVELS) == 5
    assert (likelihood.LEVELS[0], likelihood.LEVELS[-1]) == (0.02, pytest.approx(10, rel=1e-12))
    assert default(likelihood.certify_likelihood, "budget") == 120.0
    assert default(likelihood.certify_likelihood, "tolerance") == 0.01
    assert likelihood.ALLOWED_TOGETHER == 8
    assert (likelihood_interval.MEAN_WIDTH, likelihood_interval.SAMPLE_WIDTH) == (0.2, 0.8)
    assert (likelihood_interval.FALSE_ALARMS, likelihood_interval.MISSES) == (3e-4, 0.01)
    assert flow_maps.LEVELS[0] == max(flow_maps.LEVELS)
    assert {0.0, 1.0} < set(guidance.SCALES)


def known(problem: OracleProblem) -> Any:
    """Its distribution, of whatever kind."""
    return problem.distribution


def test_problems_are_where_they_say():
    assert [problem.high for problem in oracle_problems()] == 5 * [4.0]
    assert [problem.low for problem in oracle_problems()] == [0.1, 0.1, 0.1, 0.4, 0.1]
    assert {problem.swing for problem in oracle_problems()} == {1.0}
    assert {len(problem.start(VE())) for problem in oracle_problems()} == {problems.STARTS}
    assert (wide_gaussian().high, wide_gaussian().low) == (1e3, 1e-3)
    narrow, wide, circle, points, components = (
        known(problem) for problem in (unequal_gaussian(), wide_gaussian(), ring(), finite_data(), mixture(2))
    )
    assert torch.allclose(wide.mean, 10 * narrow.mean)
    assert torch.allclose(narrow.eigenvectors.T @ narrow.eigenvectors, torch.eye(2).double(), atol=1e-15)
    assert circle.radius == 1.0
    assert len(points.weights) == 12
    assert len(components.weights) == 5
    assert len(set(components.weights.tolist())) == 5


@pytest.mark.parametrize(
    ("few", "many", "floor", "tone"),
    [
        (0.01, 0.011, 1e-12, "good"),  # a tenth more, which is no growth
        (0.01, 0.01101, 1e-12, "alarm"),
        (1e-6, 1e-4, 1e-12, "good"),
        (1e-6, 1.001e-4, 1e-12, "alarm"),
        (1e-6, 1e-3, 1e-5, "good"),  # a hundred times the target's own accuracy
        (1e-6, 1.001e-3, 1e-5, "alarm"),
        (0.01, math.nan, 1e-12, "alarm"),
    ],
)
def test_a_thousand_steps_may_err_as_much_as_160(few, many, floor, tone, monkeypatch):
    asked = []

    def errors(_target, _problem, _schedule, n):
        asked.append(n)
        # two coordinates, whose errors add up as a length
        return (many if n > 160 else few) * np.array([0.6, -0.8])

    monkeypatch.setattr(edges, "endpoint_errors", errors)
    finding = edges.many_steps(target(floor=floor), VP())
    assert (finding.tone, asked) == (tone, [160, 1000])
    if not math.isnan(many):
        assert finding.value == pytest.approx(many)


@pytest.mark.parametrize(
    ("declared", "steps"),
    [
        ({}, [160, 1000]),
        ({"finest": 900}, [160, 900]),
        ({"finest": 300}, [150, 300]),
        ({"finest": 300, "coarsest": 150}, [150, 300]),
        ({"finest": 300, "coarsest": 151}, []),
        ({"stochastic": True}, []),
    ],
)
def test_many_steps_are_as_many_as_are_accepted(declared, steps, monkeypatch):
    asked = []
    monkeypatch.setattr(edges, "endpoint_errors", lambda *given: asked.append(given[3]) or np.ones(2))
    finding = edges.many_steps(target(**declared), VP())
    assert asked == steps
    assert finding.tone == ("good" if steps else "neutral")


@pytest.mark.parametrize(
    ("calls", "stochastic", "costly"),
    [(None, False, False), (1, False, False), (2, False, False), (3, False, True), (1, True, False), (2, True, True)],
)
def test_three_evaluations_a_step_are_costly_or_two_with_noise_and_take_fewer_steps(
    calls, stochastic, costly, monkeypatch
):
    costs = target(stochastic, calls)
    assert behavior.is_costly(costs) == costly
    assert behavior.steps_of(costs) == (6 if costly else 12)
    assert edges.stretched(costs) == ((25, 40, 63, 100) if costly else (25, 40, 63, 100, 160))
    asked = []
    monkeypatch.setattr(edges, "endpoint_errors", lambda *given: asked.append(given[3]) or np.ones(2))
    edges.many_steps(costs, VP())
    assert asked == ([] if stochastic else [160, 400] if costly else [160, 1000])


@pytest.mark.parametrize(("misfit", "kept"), [(9.99e-4, True), (1e-3, False)])
def test_errors_of_moments_at_the_end_count_where_the_map_is_affine(misfit, kept, monkeypatch):
    lasts, counts = [], []

    def moments(_target, denoiser, times):
        assert float(times[-1]) == 0
        lasts.append(float(denoiser.schedule.noise_to_signal(times[-2])))
        counts.append(len(times) - 2)
        return WeakError(np.array([0.3, 0.1]), misfit, 0.0)

    monkeypatch.setattr(clean, "weak_error", moments)
    assert clean.clean_errors(target(stochastic=True), VP()) == ((0.3, 0.3) if kept else (0.0, 0.0))
    # 12 steps to the problem's last level and 96 to a sixteenth of it
    assert counts == [12, 96]
    assert lasts == [pytest.approx(0.1, rel=1e-9), pytest.approx(0.1 / 16, rel=1e-9)]


@pytest.mark.parametrize(("finest", "asked"), [(49, True), (48, False)])
def test_the_end_is_compared_where_four_times_as_many_steps_are_accepted(finest, asked, monkeypatch):
    counts = []
    none = WeakError(np.zeros(1), 0.0, 0.0)
    monkeypatch.setattr(clean, "weak_error", lambda *given: counts.append(len(given[2]) - 2) or none)
    clean.clean_errors(target(stochastic=True, finest=finest), VP())
    assert counts == ([12, 48] if asked else [])


@pytest.mark.parametrize("mean", [0.03, -0.03, 0.9, -0.9])
@pytest.mark.parametrize("size", [0.3, 2.0])
def test_as_many_repeats_as_are_said_to_be_missing_decide(mean, size):
    """Of 16 calls: errors less noisy by the root of that number pass or fail, a hundredth noisier they do neither."""
    limits = Limits(0.05, 4, 30)
    noise = torch.linspace(-1, 1, 16, dtype=torch.float64)[:, None, None]
    judged = judge(mean + size * noise, limits)
    assert judged.missing > 0
    scale = size / judged.missing**0.5

    def decided(noisier: float) -> bool:
        again = judge(mean + noisier * scale * noise, limits)
        return again.inside or bool(again.failing.all())

    assert decided(0.9999)
    assert not decided(1.01)
