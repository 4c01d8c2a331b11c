"""The limit of errors whose limit is known, and what is said of samplers that converge to a wrong one, or do not."""

import math

import numpy as np
import pytest
import torch

from diffuscope.certify import Limit, MeasuredOrder, Target, limit_of, sampler_target, unequal_gaussian
from diffuscope.certify.convergence import Budget, Convergence, converge, judged, order_finding
from diffuscope.samplers import DDIM, EulerMaruyama, Noise, sample
from diffuscope.schedules import VE

STEPS = (16, 25, 40, 63, 100, 160)


def errors(limit: float, c: float, p: float) -> np.ndarray:
    """limit (1, 0) + c n^-p (0.6, 0.8)."""
    return np.array([[limit + 0.6 * c * n**-p, 0.8 * c * n**-p] for n in STEPS])


@pytest.mark.parametrize("p", [1, 2, 3])
@pytest.mark.parametrize("limit", [0.0, 0.002, 0.3])
def test_the_constant_of_an_expansion_in_the_number_of_steps_is_found_exactly(limit: float, p: int):
    found = limit_of(STEPS, errors(limit, 0.1, p))
    assert found.distance == pytest.approx(limit, abs=1e-9)
    assert found.verdict == ("wrong" if limit else "right")


def test_order_four_has_a_limit_no_farther_off_than_the_interval_says():
    found = limit_of(STEPS, errors(0.0, 1.0, 4))
    assert found.verdict == "right"
    assert found.interval[1] <= 2 * np.linalg.norm(errors(0.0, 1.0, 4)[-1])


def test_errors_that_fall_as_a_root_are_no_wrong_limit():
    """n^-1/2 has no expansion in 1/n: .08 at 160 steps is too far off to pass, and no reason to fail."""
    assert limit_of(STEPS, errors(0.0, 1.0, 0.5)).verdict == "open"
    assert limit_of(STEPS, errors(0.0, 0.01, 0.5)).verdict != "wrong"


def test_a_limit_below_a_ten_thousandth_is_not_failed_and_one_above_is():
    assert limit_of(STEPS, errors(5e-5, 1e-4, 2)).verdict == "right"
    assert limit_of(STEPS, errors(2e-4, 1e-4, 2)).verdict == "wrong"


def test_what_is_not_finite_at_the_finest_grid_is_open_and_on_coarse_ones_left_out():
    broken = errors(0.0, 1.0, 1)
    broken[0] = math.nan
    assert limit_of(STEPS, broken).verdict == "right"
    broken[-1] = math.inf
    assert limit_of(STEPS, broken).verdict == "open"
    assert limit_of(STEPS, broken).finest_error == math.inf


def test_two_grids_extrapolate_nothing():
    few = limit_of(STEPS[-2:], errors(0.0, 1.0, 1)[-2:])
    assert few.uncertainty == math.inf
    assert few.verdict == "open"  # twice .00625 is more than a hundredth
    assert limit_of(STEPS[-2:], errors(0.0, 0.1, 1)[-2:]).verdict == "right"


class Answering:
    """`denoiser`, whose answers are changed."""

    def __init__(self, denoiser, change):
        self.denoiser, self.change, self.schedule = denoiser, change, denoiser.schedule

    def __call__(self, x_t, t):
        return self.change(self.denoiser(x_t, t))


def ddim_with(change, order=None) -> Target:
    def run(denoiser, x, times, generator):  # noqa: ARG001
        return sample(DDIM(), Answering(denoiser, change), x, times)

    return Target("DDIM, changed", run, order, False, 1)


@pytest.mark.parametrize("declared", [None, 1])
@pytest.mark.parametrize(("factor", "tone"), [(1.0, "good"), (1.003, "alarm"), (1.1, "alarm")])
def test_a_denoiser_read_at_a_multiple_converges_to_a_wrong_limit_declared_or_not(factor, tone, declared):
    finding = order_finding(ddim_with(lambda D: factor * D, declared), unequal_gaussian(), VE(), STEPS)
    assert finding.tone == tone, finding.verdict
    assert ("wrong limit" in finding.verdict) == (factor > 1)


def test_the_limit_of_a_multiple_is_that_of_its_own_flow():
    """1.1 D is another linear flow: in the direction of variance v, with u = log sigma, dy/du = y - 1.1 D(y)."""
    problem = unequal_gaussian()
    fine = ddim_with(lambda D: 1.1 * D).run(
        problem.denoiser(VE()), problem.start(VE()), problem.times(VE(), 4000), None
    )
    exact = float((fine - problem.exact_end(VE())).square().mean().sqrt()) / problem.scale
    finding = order_finding(ddim_with(lambda D: 1.1 * D), problem, VE(), STEPS)
    said = float(finding.verdict.split("limit, ")[1].split(" ")[0])
    assert said == pytest.approx(exact, rel=0.02)


def test_divergence_fails_without_a_declared_order():
    def run(denoiser, x, times, generator):  # noqa: ARG001
        return x * 1.3 ** len(times)

    finding = order_finding(Target("grows", run, None, False, 1), unequal_gaussian(), VE(), STEPS)
    assert finding.tone == "alarm"
    assert "not finite, or beyond all bounds, at 1000 steps" in finding.verdict


def test_two_percent_less_noise_is_a_wrong_weak_limit():
    class Less(Noise):
        def normal(self, like):
            return 0.98 * super().normal(like)

    def run(denoiser, x, times, generator):
        return sample(EulerMaruyama(), denoiser, x, times, noise=Less(generator))

    finding = order_finding(Target("less", run, None, True, 1), unequal_gaussian(), VE(), (8, 13, 20, 32))
    assert finding.tone == "alarm", finding.verdict
    sound = order_finding(sampler_target(EulerMaruyama()), unequal_gaussian(), VE(), (8, 13, 20, 32))
    assert sound.tone == "good", sound.verdict


def test_what_too_few_steps_do_not_decide_is_undecided_and_says_what_would():
    """Errors of no order at all on the ten numbers of steps that it takes."""

    def errors_of(n: int) -> np.ndarray:
        return np.array([0.05 * (1 + 0.5 * (-1) ** n)])

    target = Target("few", sampler_target(DDIM()).run, 2, False, 1, coarsest=5, finest=14)
    found = converge(target, errors_of, STEPS, 0.15)
    assert found.order.against(2, 0.15) != "reached"
    assert max(found.order.steps) <= 14


def test_a_spent_budget_refines_nothing():
    asked: list[int] = []

    def errors_of(n: int) -> np.ndarray:
        asked.append(n)
        return np.array([1 / n])

    slow = Target("first order, declares two", sampler_target(DDIM()).run, 2, False, 1)
    converge(slow, errors_of, STEPS, 0.15, 2, Budget(0.0))
    assert asked == list(STEPS)
    converge(slow, errors_of, STEPS, 0.15, 2, Budget())
    assert max(asked) == 1000


def test_the_exact_result_counts_as_exact():
    def exact(denoiser, x, times, generator):  # noqa: ARG001
        return denoiser.distribution.flow(x, denoiser.schedule, float(times[0]), float(times[-1]))

    finding = order_finding(Target("exact", exact, 3, False, 1), unequal_gaussian(), VE(), STEPS)
    assert finding.tone == "good"
    assert finding.verdict.startswith("Exact")
    assert torch.isinf(torch.tensor(finding.value))


@pytest.mark.parametrize(
    ("distance", "uncertainty", "finest", "verdict"),
    [
        # farther off than five uncertainties and a ten-thousandth, and most of the error
        (0.30, 0.0599, 0.4, "wrong"),
        (0.30, 0.0600, 0.4, "open"),
        (0.30, 0.01, 0.3 / 0.7, "wrong"),
        (0.30, 0.01, 0.3 / 0.699, "open"),
        # right where the interval ends within a hundredth, by three uncertainties or by twice the finest error
        (0.004, 0.002, 1.0, "right"),
        (0.004, 0.00201, 1.0, "open"),
        (0.004, 0.5, 0.005, "right"),
        (0.004, 0.5, 0.00501, "open"),
        # hidden by the error of the steps: more than an eighth of it, and more than five uncertainties for sure
        (0.006, 0.001, 0.048, "right"),
        (0.006, 0.001, 0.0479, "open"),
        (0.006, 0.00118, 0.0479, "right"),
        (0.0001, 0.0, 0.0001, "right"),
        (0.0002, 0.0, 0.0002, "wrong"),
    ],
)
def test_a_limit_is_wrong_right_or_open_by_its_distance_its_uncertainty_and_the_finest_error(
    distance: float, uncertainty: float, finest: float, verdict: str
):
    assert Limit(distance, uncertainty, finest).verdict == verdict


def test_the_interval_of_a_limit_is_three_uncertainties_wide_between_zero_and_twice_the_finest_error():
    assert Limit(0.3, 0.02, 0.4).interval == pytest.approx((0.24, 0.36))
    assert Limit(0.3, 0.2, 0.4).interval == pytest.approx((0.0, 0.8))
    assert Limit(0.3, 0.02, 0.1).interval == pytest.approx((0.2, 0.2))
    assert Limit(0.3, 0.02, 0.4).tolerance == 1e-4


@pytest.mark.parametrize(
    ("order", "limit", "decided"),
    [
        (2.0, Limit(1e-5, 1e-6, 1e-3), True),  # reached, and right
        (1.0, Limit(1e-5, 1e-6, 1e-3), False),  # finer grids may show the order
        (2.0, Limit(0.3, 0.01, 0.3), True),  # wrong, by far
        (1.0, Limit(0.3, 0.01, 0.3), True),
        (2.0, Limit(0.3, 0.01, 0.25 / 0.801), True),  # 0.25 for sure: more than four fifths of the error
        (2.0, Limit(0.3, 0.01, 0.25 / 0.799), False),
        (2.0, Limit(0.02, 0.002, 0.02), False),  # a hundredth for sure is not more than that
        (2.0, Limit(0.0201, 0.002, 0.012), True),
    ],
)
def test_finer_grids_are_not_asked_where_they_could_not_change_the_verdict(order: float, limit: Limit, decided: bool):
    measured = MeasuredOrder(order, (order - 0.01, order + 0.01), STEPS, (0.1,) * 6, exact=False)
    assert Convergence(measured, limit).decided(2, 0.15) == decided
    # without a declared order there is none to wait for
    assert Convergence(measured, limit).decided(None, 0.15) == (decided or order == 1.0)


@pytest.mark.parametrize(
    ("order", "half", "calls", "declared", "begins"),
    [
        (2.0, 0.01, 1, 2, "Order 2.00 (95%: 1.99 to 2.01), as declared (2), error 0.001 at 160 steps"),
        (2.16, 0.01, 1, 2, "Order 2.16 (95%: 2.15 to 2.17), above the declared 2, error 0.001 at 160 steps"),
        (2.14, 0.01, 1, 2, "Order 2.14 (95%: 2.13 to 2.15), as declared (2), error"),
        (
            2.0,
            0.01,
            1,
            None,
            "Order 2.00 (95%: 1.99 to 2.01), error 0.001 at 160 steps; none is declared, and",
        ),
        (
            2.0,
            0.01,
            1,
            3,
            "Converges at order 2.00 (95%: 1.99 to 2.01), not at the declared order 3, error 0.001",
        ),
    ],
)
def test_an_order_is_told_with_its_interval_and_what_was_declared(order, half, calls, declared, begins):
    found = Convergence(
        MeasuredOrder(order, (order - half, order + half), STEPS, (0.01,) * 5 + (0.001,), exact=False),
        Limit(1e-5, 1e-6, 1e-3),
    )
    finding = judged(found, Target("some sampler", stays, declared, False, calls), 0.15)
    assert finding.verdict.startswith(begins)
    assert finding.tone == ("alarm" if declared == 3 else "good")
    assert finding.value == order


@pytest.mark.parametrize(
    ("order", "calls", "declared", "said"),
    [
        (2.29, 1, 3, True),
        (2.31, 1, 3, False),
        (1.71, 1, 3, True),
        (1.69, 1, 3, False),
        (2.0, 2, 3, False),
        (1.0, 1, 2, False),
    ],
)
def test_a_multistep_method_of_order_two_is_told_of_its_first_step(order, calls, declared, said):
    found = Convergence(
        MeasuredOrder(order, (order - 0.01, order + 0.01), STEPS, (0.01,) * 6, exact=False), Limit(1e-5, 1e-6, 1e-3)
    )
    finding = judged(found, Target("some sampler", stays, declared, False, calls), 0.15)
    assert finding.verdict.endswith("A multistep method that starts with a step of order 1 has order 2.") == said


def stays(denoiser, x, times, generator):  # noqa: ARG001
    return x
