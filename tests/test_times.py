"""Every grid of times: equal steps in the quantity it is named for, exact ends, and what it refuses."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from diffuscope.errors import InputError
from diffuscope.schedules import VE, VP, Cosine, DiscreteVP, GeometricVE, Karras, RectifiedFlow, Schedule, Sigmoid
from diffuscope.times import karras_times, log_snr_times, quadratic_times, table_times, uniform_times

GRID_SCHEDULES = [VE(), VP(), DiscreteVP.linear(), Cosine(), Sigmoid(), RectifiedFlow(), Karras(), GeometricVE()]
grids_of = pytest.mark.parametrize("schedule", GRID_SCHEDULES, ids=lambda schedule: type(schedule).__name__)


def relative_error(value: Tensor, truth: Tensor) -> float:
    return float(((value - truth).abs() / truth.abs().clamp(min=1e-300)).nan_to_num(0.0).max())


def ends_inside(schedule: Schedule) -> tuple[float, float]:
    """A start with some signal left, and the schedule's own end."""
    return schedule.t_min + 0.97 * (schedule.t_max - schedule.t_min), schedule.t_min


def assert_grid(grid: Tensor, start: float, end: float, steps: int, read: Callable[[Tensor], Tensor]) -> None:
    assert grid.dtype == torch.float64
    assert len(grid) == steps + 1
    assert (float(grid[0]), float(grid[-1])) == (start, end)
    assert bool((grid.diff() < 0).all())
    increments = read(grid).diff()
    assert relative_error(increments, increments.mean().expand(steps)) < 1e-9


@grids_of
def test_log_snr_grid_has_equal_steps_in_lambda_and_exact_ends(schedule):
    start, end = ends_inside(schedule)
    assert_grid(log_snr_times(schedule, start, end, 23), start, end, 23, schedule.lam)


@grids_of
@pytest.mark.parametrize("rho", [1.0, 3.0, 7.0])
def test_karras_grid_has_equal_steps_in_its_power_and_exact_ends(schedule, rho):
    start, end = ends_inside(schedule)
    grid = karras_times(schedule, start, end, 18, rho)
    assert_grid(grid, start, end, 18, lambda t: schedule.noise_to_signal(t) ** (1 / rho))


def test_karras_grid_is_edms_equation_five():
    i, steps = torch.arange(18, dtype=torch.float64), 18
    edm = (80 ** (1 / 7) + i / (steps - 1) * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
    assert relative_error(karras_times(VE(), 80.0, 0.002, steps - 1), edm) < 1e-13
    # and uniform times of the Karras schedule are the same levels
    assert relative_error(Karras().sigma(uniform_times(1.0, 0.0, steps - 1)), edm) < 1e-13


def test_uniform_and_quadratic_grids_have_equal_steps_in_t_and_its_root():
    assert_grid(uniform_times(1.0, 1e-3, 40), 1.0, 1e-3, 40, lambda t: t)
    assert_grid(quadratic_times(1.0, 1e-3, 40), 1.0, 1e-3, 40, torch.sqrt)
    assert_grid(quadratic_times(1000.0, 0.0, 40), 1000.0, 0.0, 40, torch.sqrt)


def test_table_grid_is_the_table():
    assert table_times([3.0, 2.0, 0.5]).tolist() == [3.0, 2.0, 0.5]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: table_times([1.0, 2.0]), "times: expected .* strictly decreasing"),
        (lambda: table_times([1.0, 1.0]), "times: expected .* strictly decreasing"),
        (lambda: table_times([1.0]), "times: expected at least two"),
        (lambda: uniform_times(0.1, 1.0, 10), "start, end: expected start > end"),
        (lambda: uniform_times(1.0, 1.0, 10), "start, end: expected start > end"),
        (lambda: quadratic_times(1.0, -1e-9, 10), "start, end: expected start > end >= 0"),
        (lambda: uniform_times(float("inf"), 0.0, 10), "start, end: expected start > end >= 0, both finite"),
        (lambda: table_times([float("inf"), 1.0]), "times: expected .*finite"),
        (lambda: karras_times(VE(), 1.0, 0.1, 10, 0.0), "rho: expected a finite number > 0, got 0"),
        (lambda: uniform_times(1.0, 0.1, 0), "steps: expected at least 1, got 0"),
        (lambda: log_snr_times(RectifiedFlow(), 1.0, 0.1, 10), "start, end: .*log-SNR is infinite"),
        (lambda: log_snr_times(RectifiedFlow(), 0.9, 0.0, 10), "start, end: .*log-SNR is infinite"),
        (lambda: karras_times(Cosine(), 1.0, 0.1, 10), "start: expected a time where alpha > 0"),
    ],
)
def test_grids_that_cannot_be_are_refused_with_the_argument(make, message):
    with pytest.raises(InputError, match=message) as raised:
        make()
    assert "\n" not in str(raised.value)


def test_what_lies_just_at_the_bound_is_accepted():
    assert uniform_times(1e-9, 0.0, 1).tolist() == [1e-9, 0.0]
    assert quadratic_times(1.0, 0.0, 1).tolist() == [1.0, 0.0]
    assert log_snr_times(VE(), 1.0, 0.5, 1).tolist() == [1.0, 0.5]
    assert karras_times(VE(), 1.0, 0.0, 1).tolist() == [1.0, 0.0]
