"""Numbers of steps, orders, limits and likelihoods exactly where one answer passes into another."""

# ruff: noqa: ARG001, ARG002, ARG005 (stand-ins take what samplers take)

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from diffuscope.certify import Target, certify_flow_map, certify_likelihood, limit_of, measured_order, sampler_target
from diffuscope.certify.asked import image_shape
from diffuscope.certify.behavior import allowed, cost, invariance, largest_difference, steps_of
from diffuscope.certify.chosen_noise import Drawn, NotChosenError, RowDraw
from diffuscope.certify.clean import _with_finer_steps, clean_errors, single_point, steps_before_zero
from diffuscope.certify.constant import constant
from diffuscope.certify.convergence import _cold_start, admitted, affordable, stationary_bias, step_counts
from diffuscope.certify.edges import _representable, many_steps
from diffuscope.certify.likelihood import _places
from diffuscope.certify.likelihood_errors import MARGIN, SharedBudget, _rounded, _wanted
from diffuscope.certify.likelihood_interval import Limits, judge, skew_interval
from diffuscope.certify.limit import NEGLIGIBLE, PART, RESOLUTION, Limit
from diffuscope.certify.order import STEPS, MeasuredOrder
from diffuscope.certify.problems import mixture, unequal_gaussian
from diffuscope.certify.target import target_of
from diffuscope.denoisers import ExactDenoiser
from diffuscope.errors import InputError
from diffuscope.exact import Empirical
from diffuscope.samplers import DDIM
from diffuscope.schedules import VE, VP, RectifiedFlow

TARGET = sampler_target(DDIM())


def given(**limits):
    return replace(TARGET, **limits)


def watched(counts, **limits):
    """A target that stays where it is and notes its numbers of steps."""

    def run(denoiser, x, times, generator):
        counts.append(len(times) - 1)
        return x

    return Target("stays", run, 1, False, 1, **limits)


# numbers of steps


@pytest.mark.parametrize(
    ("limits", "steps", "before_zero"),
    [({}, 12, 12), ({"coarsest": 20}, 20, 20), ({"finest": 5}, 5, 4), ({"coarsest": 12, "finest": 12}, 12, 12)],
)
def test_checks_take_twelve_steps_or_what_comes_nearest(limits, steps, before_zero):
    assert steps_of(given(**limits)) == steps
    assert steps_before_zero(given(**limits)) == before_zero


def test_rounding_is_a_billionth_or_what_the_tables_of_a_target_have():
    assert allowed(given(floor=1e-12)) == 1e-9
    assert allowed(given(floor=1e-3)) == 0.1


def test_a_difference_has_no_sign():
    a, b = torch.tensor([1.0, 2.0]), torch.tensor([4.0, 2.0])
    assert largest_difference(a, b) == largest_difference(b, a) == 3.0


@pytest.mark.parametrize(
    ("limits", "few", "many"),
    [({}, 6, 12), ({"coarsest": 10}, 10, 20), ({"coarsest": 10, "finest": 15}, 10, 15), ({"finest": 4}, 2, 4)],
)
def test_the_cost_of_a_step_is_that_of_twice_as_many(limits, few, many):
    found = cost(given(**limits, nfe_per_step=3), unequal_gaussian(), VP())
    assert found.tone == "alarm"
    assert f"NFE in {many} steps and" in found.verdict
    assert f" in {few}; 3 per step declared" in found.verdict
    assert cost(given(**limits), unequal_gaussian(), VP()).tone == "good"


@pytest.mark.parametrize(("finest", "steps"), [(1, 1), (50, 49), (1000, 96)])
def test_the_step_to_zero_is_one_of_those_accepted(finest, steps):
    counts, point = [], torch.tensor([[1.3, -0.7]], dtype=torch.float64)
    denoiser = ExactDenoiser(Empirical(point), VE())
    _with_finer_steps(watched(counts, finest=finest), unequal_gaussian(), denoiser, point)
    assert counts == [steps + 1]


@pytest.mark.parametrize(("finest", "steps"), [(50, 50), (1000, 96)])
def test_without_a_step_to_zero_there_are_eight_times_as_many(finest, steps):
    counts = []
    single_point(watched(counts, finest=finest, reaches_zero=False), unequal_gaussian(), VE())
    assert counts == [steps]


@pytest.mark.parametrize(("finest", "asked"), [(49, True), (48, False)])
def test_four_times_as_many_steps_before_zero_are_enough(finest, asked):
    """12 and 48 steps, and the one to zero."""
    assert (clean_errors(given(finest=finest), VP()) != (0.0, 0.0)) == asked


def test_grids_at_the_limits_of_a_target_are_accepted():
    assert admitted(given(coarsest=16, finest=25), STEPS) == (16, 25)
    assert affordable(given(nfe_per_step=3), (1, 7)) == (1, 2)


@pytest.mark.parametrize(
    ("limits", "steps", "first", "last"),
    [
        ({"finest": 12}, STEPS, 2, 12), ({"coarsest": 5, "finest": 12}, STEPS, 5, 12),
        ({"coarsest": 200, "finest": 300}, STEPS, 200, 200), ({}, (16, 25), 3, 25), ({"finest": 63}, STEPS, 16, 63),
    ],
)  # fmt: skip
def test_where_too_few_grids_are_accepted_the_finest_are_taken(limits, steps, first, last):
    found = step_counts(given(**limits), steps)
    assert (found[0], found[-1]) == (first, last)


@pytest.mark.parametrize(("limits", "steps"), [({}, 20), ({"coarsest": 40}, 40), ({"finest": 10}, 10)])
def test_the_stationary_bias_is_that_of_twenty_steps(limits, steps):
    assert stationary_bias(given(**limits), VP()).verdict.startswith(f"{steps} steps on standard normal data")


@pytest.mark.parametrize(
    ("limits", "few", "most"), [({"finest": 100}, 50, 100), ({"coarsest": 50, "finest": 101}, 50, 101)]
)
def test_many_steps_are_twice_as_many_at_least(limits, few, most):
    found = many_steps(given(**limits), VP())
    assert f"at {most} steps, and" in found.verdict
    assert found.verdict.endswith(f"at {few}.")
    assert math.isnan(many_steps(given(coarsest=51, finest=100), VP()).value)


def test_three_times_of_a_precision_are_the_fewest_that_tell_it():
    assert not _representable(torch.tensor([1.0, 0.5]).double(), torch.float32)
    assert _representable(torch.tensor([1.0, 0.5, 0.25]).double(), torch.float32)
    assert not _representable(torch.tensor([1.0, 0.5, 0.1], dtype=torch.float64), torch.float32)


def test_endpoints_in_another_schedule_are_as_far_on_either_side():
    def run(denoiser, x, times, generator):
        level = 1.0 if isinstance(denoiser.schedule, VE) else -1.0
        return torch.full_like(x, level) * denoiser.schedule.alpha(times[-1])

    ends = [
        Target("ends", run, 1, False, 1, schedules=pair) for pair in ((VE(), RectifiedFlow()), (RectifiedFlow(), VE()))
    ]
    problem = unequal_gaussian()
    assert [invariance(target, problem).value for target in ends] == pytest.approx([2 / problem.scale] * 2)


# shapes and declarations


def test_images_are_wider_than_high_and_draws_have_an_axis_of_rows():
    assert image_shape(torch.zeros(3, 8)) == (3, 2, 1, 4)
    assert image_shape(torch.zeros(3, 12)) == (3, 2, 2, 3)
    draw = RowDraw(axis=1, width=2, dtype=torch.float32)
    assert draw.laid_out(torch.zeros(7, 2), Drawn((2, 7), torch.float32, False)).shape == (2, 7)
    with pytest.raises(NotChosenError):
        draw.laid_out(torch.zeros(7, 2), Drawn((7,), torch.float32, False))


@pytest.mark.parametrize("floor", [0.0, 1.0])
def test_a_floor_is_between_nothing_and_everything(floor):
    class Sampler:
        def __call__(self, denoiser, x_start, times, generator):
            return x_start

    Sampler.floor = floor  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(InputError, match="expected a number between 0 and 1"):
        target_of(Sampler)


@pytest.mark.parametrize("tolerance", [0.0, 1.0])
def test_a_tolerance_of_maps_is_between_nothing_and_everything(tolerance):
    with pytest.raises(InputError, match="tolerance: expected a number between 0 and 1"):
        certify_flow_map(lambda denoiser, x_t, t, s: x_t, tolerance=tolerance)


@pytest.mark.parametrize("limits", [{"tolerance": 0.0}, {"budget": 0.0}])
def test_likelihoods_have_a_tolerance_and_a_budget(limits):
    with pytest.raises(InputError, match="tolerance, budget: expected values > 0"):
        certify_likelihood(lambda denoiser, x_t, t, generator: x_t[:, 0], **limits)


# orders and limits


@pytest.mark.parametrize(("order", "nearest"), [(0.4, 0), (4.6, 5), (float("inf"), 0)])
def test_there_are_references_of_whole_orders_from_one_to_four(order, nearest):
    said = constant(given(order=None), unequal_gaussian(), VP(), order).verdict
    assert said == f"There is no reference of order {nearest}."


@pytest.mark.parametrize(
    ("order", "interval", "said"),
    [
        (2 - 0.15, (1.5, 2.0), "reached"), (1.84, (1.5, 2.0), "open"), (2.0, (1.49, 2.5), "open"),
        (1.8, (1.7, 2 - 0.15), "open"), (1.8, (1.7, 1.84), "missed"),
    ],
)  # fmt: skip
def test_an_order_is_reached_up_to_its_tolerance_and_half_an_order_of_doubt(order, interval, said):
    assert MeasuredOrder(order, interval, STEPS, (1.0,) * 6, exact=False).against(2, 0.15) == said


def test_four_clear_errors_decide_and_four_at_the_floor_are_exact():
    steps = (10, 20, 40, 80, 160, 320)
    errors = [3 / n**2 for n in steps[:4]] + [4e-4, 2e-4]  # rounding bends the last two
    assert measured_order(steps, errors, floor=4.5e-5).order == pytest.approx(2.0)
    assert measured_order(steps[:4], errors[:4], floor=1e-12).order == pytest.approx(2.0)
    assert measured_order(steps[:4], [1e-6] * 4, floor=1e-6).exact
    assert measured_order(steps[:3], [1e-6] * 3, floor=1e-6).exact
    assert math.isnan(measured_order(steps[:4], [1.0, 0.5, 0.2, math.inf], floor=1e-12).order)


def test_a_multistep_method_is_told_to_start_cold_near_order_two_alone():
    multistep = given(order=3, nfe_per_step=1)
    assert all("starts with a step of order 1" in _cold_start(multistep, order) for order in (1.8, 2.2))
    assert [_cold_start(multistep, order) for order in (1.0, 2.9)] == ["", ""]
    assert _cold_start(given(order=2, nfe_per_step=1), 2.0) == ""


@pytest.mark.parametrize(
    ("distance", "uncertainty", "finest", "interval"),
    [(0.3, 0.02, 0.2, (0.24, 0.36)), (0.3, 0.2, 0.2, (0.0, 0.4)), (1.0, 0.01, 0.1, (0.2, 0.2))],
)
def test_a_limit_is_between_nothing_and_twice_the_finest_error(distance, uncertainty, finest, interval):
    assert Limit(distance, uncertainty, finest).interval == pytest.approx(interval)


@pytest.mark.parametrize(
    ("distance", "finest", "verdict"),
    [
        (NEGLIGIBLE, NEGLIGIBLE, "right"),  # no farther than what is never failed
        (PART, 1.0, "wrong"), (0.99 * PART, 1.0, "open"),
        (RESOLUTION, 1.0, "right"), (1.01 * RESOLUTION, 1.0, "open"),
        (0.001, 0.008, "right"), (0.0011, 0.008, "open"),  # an eighth of the error
    ],
)  # fmt: skip
def test_verdicts_of_a_limit_that_is_known_exactly_at_their_bars(distance, finest, verdict):
    assert Limit(distance, 0.0, finest).verdict == verdict


def test_three_grids_extrapolate_and_one_that_left_all_bounds_is_left_out():
    n = [10, 20, 40, 80]
    errors = np.array([[0.3 + 2 / k] for k in n])
    found = limit_of(n[:3], errors[:3])
    assert found.distance == pytest.approx(0.3)
    assert found.uncertainty < math.inf
    assert limit_of(n[:2], errors[:2]).uncertainty == math.inf
    for lost in (1e120, -1e120):
        assert limit_of([5, *n], np.concatenate([[[lost]], errors])).distance == pytest.approx(0.3)


# likelihoods


def test_an_interval_of_the_negative_is_the_negative_interval_and_without_spread_a_point():
    values = torch.tensor(
        [[0.0, 2.0, 1.0], [0.0, 2.0, 2.0], [0.0, 2.0, 6.0], [0.0, 2.0, 1.5], [9.0, 2.0, 2.5]]
    ).double()
    tail = torch.full((3,), 1e-3, dtype=torch.float64)
    low, high = skew_interval(values, tail)
    assert bool(torch.isfinite(torch.stack([low, high])).all())
    assert low[1] == high[1] == 2.0
    assert bool(((low <= values.mean(0)) & (values.mean(0) <= high)).all())
    of_negative = skew_interval(-values, tail)
    assert torch.allclose(torch.stack(of_negative), -torch.stack([high, low]))


@pytest.mark.parametrize("sign", [1, -1])
def test_an_error_of_the_tolerance_does_not_fail_and_one_at_the_end_of_the_zone_does_not_pass(sign):
    limits = Limits(0.5, 4, 3)
    at = judge(torch.full((5, 1, 1), sign * 0.5, dtype=torch.float64), limits)
    assert (bool(at.failing.any()), at.suspect, at.inside) == (False, False, True)
    end = judge(torch.full((5, 1, 1), sign * float(limits.zone(1)[0]), dtype=torch.float64), limits)
    assert (end.suspect, end.inside) == (True, False)
    beyond = judge(torch.full((5, 1, 1), sign * 0.5001, dtype=torch.float64), limits)
    assert bool(beyond.failing.all())  # repeats that agree to the last digit leave no doubt


def test_errors_of_either_sign_take_as_many_repeats_and_the_largest_is_told():
    errors = torch.randn(6, 2, 3, generator=torch.Generator().manual_seed(0)).double() + torch.tensor([1.0, -30.0, 9.0])
    limits = Limits(0.5, 4, 3)
    one, other = judge(errors, limits), judge(-errors, limits)
    assert one.missing == pytest.approx(other.missing)
    assert one.worst == other.worst == 2  # the mean over samples comes first


def test_repeats_at_least_double_and_are_rounded_up_to_two_digits():
    judged = judge(torch.zeros(5, 1, 1).double(), Limits(0.5, 4, 3))
    assert _wanted(replace(judged, missing=0.1), 10) == 20.0
    assert _wanted(replace(judged, missing=50.0), 10) == 500 * MARGIN
    assert [_rounded(count) for count in (0.0, 0.3, 7.2, 99.5, 123.0, 1234.0)] == [0, 1, 8, 100, 130, 1300]


@pytest.mark.parametrize(("places", "share"), [(0, 8.0), (1, 8.0), (4, 8.0), (8, 4.0)])
def test_a_place_has_four_equal_shares_of_what_is_left(places, share):
    assert SharedBudget(8.0, places).share() == share


def test_likelihoods_are_asked_within_the_schedule():
    ratios = [place.ratio for place in _places(mixture(2), VE(0.5, 2.0))]
    assert (min(ratios), max(ratios)) == pytest.approx((0.5, 2.0))
    assert len(ratios) > 1
