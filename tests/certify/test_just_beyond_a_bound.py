"""Verdicts of a certificate, just within each of its bounds and just beyond it, on samplers of a known error."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from diffuscope.certify import (
    Limit,
    MeasuredOrder,
    Target,
    clean,
    convergence,
    edges,
    mixture,
    sampler_target,
    unequal_gaussian,
)
from diffuscope.certify import behavior as ask
from diffuscope.certify.affine import WeakError
from diffuscope.certify.constant import constant
from diffuscope.certify.convergence import (
    Convergence,
    NotAffineError,
    converge,
    exact_weak_error,
    judged,
    order_finding,
)
from diffuscope.samplers import DDIM, sample
from diffuscope.schedules import VE, VP

PROBLEM, STEPS = unequal_gaussian(), (16, 25, 40, 63, 100, 160)


def exact(denoiser, x, times):
    return denoiser.distribution.flow(x, denoiser.schedule, float(times[0]), float(times[-1]))


def erring(error, declared=None, *, stochastic=False):
    """The exact flow and `error(n)` of the data's scale after n steps."""

    def run(denoiser, x, times, generator):  # noqa: ARG001
        return exact(denoiser, x, times) + error(len(times) - 1) * PROBLEM.scale

    return Target("erring", run, declared, stochastic, 1)


def times_ddims_error(factor):
    """The exact flow and so many times the error of DDIM."""

    def run(denoiser, x, times, generator):  # noqa: ARG001
        end = exact(denoiser, x, times)
        return end + factor * (sample(DDIM(), denoiser, x, times) - end)

    return Target("slow", run, 1, False, 1)


# convergence


@pytest.mark.parametrize(
    ("floor", "precision", "limit"), [(0.0, 0.0, 1e-8), (1e-9, 0.0, 1e3 * 1e-9), (0.0, 1e-6, 30 * 1e-6)]
)
def test_a_misfit_of_the_affine_map_may_be_rounding(monkeypatch, floor, precision, limit):
    """Of double precision, a thousand times the target's own, or thirty times that of the draws."""
    for misfit, explained in ((limit, True), (math.nextafter(limit, 1), False), (math.nan, False)):
        found = WeakError(np.zeros(1), misfit, precision)
        monkeypatch.setattr(convergence, "weak_error", lambda *_, found=found: found)
        target = replace(erring(lambda _: 0.0), floor=floor)
        given = target, PROBLEM.denoiser(VE()), torch.tensor([2.0, 1.0])
        if explained:
            assert exact_weak_error(*given) is found
        else:
            with pytest.raises(NotAffineError):
                exact_weak_error(*given)


@pytest.mark.parametrize(("order", "tone"), [(1.855, "good"), (1.843, "alarm")])
def test_an_order_may_be_fifteen_hundredths_below_the_declared_one(order, tone):
    assert order_finding(erring(lambda n: n**-order, 2), PROBLEM, VE(), STEPS).tone == tone


@pytest.mark.parametrize(("order", "tone"), [(0.805, "good"), (0.79, "alarm")])
def test_a_weak_order_may_be_a_fifth_below_the_declared_one(order, tone):
    """About its mean the state is (1 + e)^(1/2) times the exact one: its covariance errs by e = 0.01 n^-order."""

    def run(denoiser, x, times, generator):  # noqa: ARG001
        schedule, mean = denoiser.schedule, denoiser.distribution.mean
        center = schedule.alpha(times[-1]) * mean
        return center + math.sqrt(1 + 0.01 * (len(times) - 1) ** -order) * (exact(denoiser, x, times) - center)

    finding = order_finding(Target("wide", run, 1, True, 1), PROBLEM, VE(), STEPS)
    assert finding.value == pytest.approx(order, abs=1e-6)
    assert finding.tone == tone


@pytest.mark.parametrize(("limit", "tone"), [(0.95e-4, "good"), (1.05e-4, "alarm")])
def test_a_limit_may_be_a_ten_thousandth_off(limit, tone):
    assert order_finding(erring(lambda n: limit + 1e-3 / n**2), PROBLEM, VE(), STEPS).tone == tone


@pytest.mark.parametrize(("spread", "said"), [(1.009, True), (1.03, False)])
def test_an_error_that_is_the_same_to_a_hundredth_is_that_of_an_adaptive_solver(spread, said):
    order = MeasuredOrder(0.0, (-0.01, 0.01), STEPS, (1e-3,) * 5 + (spread * 1e-3,), exact=False)
    finding = judged(Convergence(order, Limit(1e-3, 1e-6, 1e-3)), erring(float), 0.15)
    assert ("An adaptive solver" in finding.verdict) == said


def test_the_finest_grids_decide_as_many_as_there_were_at_first():
    """Errors of no order at first, of order one on the grids that are added: six of ten are left."""

    def errors_of(n: int) -> np.ndarray:
        return np.array([1 / n * (1 + 0.5 * (-1) ** STEPS.index(n) if n in STEPS else 1)])

    found = converge(erring(float, 1), errors_of, STEPS, 0.15)
    assert found.order.steps == (100, 160, 250, 400, 630, 1000)


# edges


@pytest.mark.parametrize(("factor", "tone"), [(2.9, "good"), (3.1, "attention")])
def test_a_few_steps_may_err_three_times_as_much_as_ddim(factor, tone):
    assert edges.few_steps(times_ddims_error(factor), PROBLEM, VE()).tone == tone


@pytest.mark.parametrize(("first", "tone"), [(1e-3 / 1.05, "good"), (1e-3 / 1.15, "alarm"), (0.0, "alarm")])
def test_a_thousand_steps_may_err_a_tenth_more_than_160(first, tone):
    assert edges.many_steps(erring(lambda n: first if n == 160 else 1e-3), VE()).tone == tone


@pytest.mark.parametrize(("last", "tone"), [(0.95e-4, "good"), (1.05e-4, "alarm")])
def test_a_thousand_steps_may_err_a_ten_thousandth(last, tone):
    assert edges.many_steps(erring(lambda n: 0.0 if n == 160 else last), VE()).tone == tone


@pytest.mark.parametrize(("jump", "tone"), [(0.95e-5, "good"), (1.05e-5, "alarm")])
def test_an_end_that_jumps_by_a_hundred_thousandth_is_rounded_inside(jump, tone):
    """Beside an affine flow, half a jump where neither start nor times moved: the second difference is a whole one."""
    n = edges.steps_of(erring(float))
    unmoved = PROBLEM.start(VE()), PROBLEM.times(VE(), n)

    def run(denoiser, x, times, generator):  # noqa: ARG001
        still = torch.equal(x, unmoved[0]) and torch.equal(times, unmoved[1])
        return exact(denoiser, x, times) + 0.5 * jump * PROBLEM.scale * still

    finding = edges.rounding(Target("jumps", run, 1, False, 1), PROBLEM, VE())
    assert finding.value == pytest.approx(jump, rel=1e-6)
    assert finding.tone == tone


def test_the_end_is_asked_for_after_a_move_of_a_ten_thousandth_of_the_start_and_two_thousandths_of_each_step():
    start, times = PROBLEM.start(VE()), PROBLEM.times(VE(), edges.steps_of(erring(float)))
    moves = []

    def run(denoiser, x, moved, generator):  # noqa: ARG001
        moves.append((float((x - start).mean()), ((moved - times)[1:-1] / times.diff()[1:]).mean().item()))
        return exact(denoiser, x, moved)

    edges.rounding(Target("still", run, 1, False, 1), PROBLEM, VE())
    size = 1e-4 * float(start.square().mean().sqrt())
    wanted = [(-size, 0), (0, 0), (size, 0), (0, -2e-3), (0, 0), (0, 2e-3)]
    torch.testing.assert_close(torch.tensor(moves), torch.tensor(wanted, dtype=torch.float32), rtol=1e-4, atol=1e-9)


# behavior


@pytest.mark.parametrize(("off", "tone"), [(0.95e-4, "good"), (1.05e-4, "alarm")])
def test_float32_may_cost_a_ten_thousandth(off, tone):
    def run(denoiser, x, times, generator):  # noqa: ARG001
        return x + off * PROBLEM.scale * (x.dtype == torch.float32)

    assert ask.precision(Target("single", run, 1, False, 1), PROBLEM, VE()).tone == tone


def at_zero(off):
    """The exact flow, and `off` more at sigma = 0."""

    def run(denoiser, x, times, generator):  # noqa: ARG001
        at = float(times[-1])
        end = exact(denoiser, x, times) if hasattr(denoiser.distribution, "flow") else denoiser(x, times[-2])
        return end + off * (at == 0)

    return run


@pytest.mark.parametrize(("off", "tone"), [(0.96e-4, "attention"), (1.04e-4, "alarm")])
def test_a_finished_sample_may_be_a_ten_thousandth_away_where_no_end_is_declared(off, tone):
    assert clean.single_point(Target("near", at_zero(off), 1, False, 1), PROBLEM, VE()).tone == tone


@pytest.mark.parametrize(("off", "tone"), [(0.049, "good"), (0.052, "alarm")])
def test_a_twentieth_of_the_scale_may_be_left_at_sigma_zero(off, tone):
    target = Target("left", at_zero(off * PROBLEM.scale), 1, False, 1)
    assert clean.last_step(target, PROBLEM, VE()).tone == tone


def test_what_the_end_at_sigma_zero_is_compared_with():
    """The exact flow to zero noise, and a call of the denoiser where the run to the level before has ended."""
    target, schedule = Target("exact", at_zero(0.0), 1, False, 1), VP()
    assert clean.clean_errors(target, schedule) == pytest.approx((0, 0), abs=1e-9)
    times, start = PROBLEM.times(schedule, clean.steps_before_zero(target)), PROBLEM.start(schedule)
    denoised = PROBLEM.denoiser(schedule)(exact(PROBLEM.denoiser(schedule), start, times), times[-1])
    ended = exact(PROBLEM.denoiser(schedule), start, clean.finished(times))
    found = clean.last_step(target, PROBLEM, schedule)
    assert found.value == pytest.approx(float((ended - denoised).abs().max()), rel=1e-9)


def test_the_end_is_not_compared_where_too_few_steps_are_accepted():
    few = Target("few", at_zero(1.0), 1, False, 1, finest=20)
    assert clean.clean_errors(few, VE()) == (0, 0)


@pytest.mark.parametrize(("off", "tone"), [(0.95e-9, "good"), (1.05e-9, "alarm")])
def test_rows_may_differ_by_a_billionth(off, tone):
    def run(denoiser, x, times, generator):  # noqa: ARG001
        return exact(denoiser, x, times) + off * PROBLEM.scale * (len(x) > 1)

    assert ask.batching(Target("coupled", run, 1, False, 1), PROBLEM, VE()).tone == tone


# the constant of the error


@pytest.mark.parametrize(("factor", "tone"), [(1.95, "good"), (2.05, "attention")])
def test_twice_the_error_of_the_reference_is_told(factor, tone):
    finding = constant(times_ddims_error(factor), PROBLEM, VE(), 1.0)
    assert finding.value == pytest.approx(factor, rel=1e-6)
    assert finding.tone == tone


@pytest.mark.parametrize(("order", "compared"), [(0.52, True), (4.6, False), (math.inf, False), (math.nan, False)])
def test_an_order_is_compared_with_the_nearest_one_that_has_a_reference(order, compared):
    finding = constant(Target("plain", sampler_target(DDIM()).run, None, False, 1), mixture(2), VE(), order)
    assert math.isfinite(finding.value) == compared
