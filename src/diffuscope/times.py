"""Grids of times: n steps are n + 1 decreasing float64 times from `start` to `end`.

All raise InputError for fewer than one step, and unless start > end >= 0, both finite.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.errors import InputError
from diffuscope.schedules import Schedule, Times


def uniform_times(start: float, end: float, steps: int) -> Float[Tensor, " times"]:
    """Equal steps in t.

    >>> from diffuscope.times import uniform_times
    >>> uniform_times(1.0, 0.0, 4).tolist()
    [1.0, 0.75, 0.5, 0.25, 0.0]
    """
    _require_grid(start, end, steps)
    return _pinned(torch.linspace(start, end, steps + 1, dtype=torch.float64), start, end)


def quadratic_times(start: float, end: float, steps: int) -> Float[Tensor, " times"]:
    """Equal steps in sqrt(t) (DDIM's quadratic grid): denser near the data.

    >>> from diffuscope.times import quadratic_times
    >>> quadratic_times(9.0, 1.0, 4).tolist()  # the squares of 3, 2.5, 2, 1.5, 1
    [9.0, 6.25, 4.0, 2.25, 1.0]
    """
    _require_grid(start, end, steps)
    return _pinned(torch.linspace(math.sqrt(start), math.sqrt(end), steps + 1, dtype=torch.float64) ** 2, start, end)


def log_snr_times(schedule: Schedule, start: float, end: float, steps: int) -> Float[Tensor, " times"]:
    """Equal steps in lambda = log(alpha/sigma). Raises InputError unless alpha(start) > 0 and sigma(end) > 0.

    >>> from diffuscope.schedules import VE
    >>> from diffuscope.times import log_snr_times
    >>> log_snr_times(VE(), 50.0, 0.5, 2).round(decimals=9).tolist()  # where sigma = t, a geometric sequence
    [50.0, 5.0, 0.5]
    """
    _require_grid(start, end, steps)
    ends = schedule.lam(torch.tensor([start, end], dtype=torch.float64))
    if not torch.isfinite(ends).all():
        raise InputError(f"start, end: expected alpha > 0 and sigma > 0, log-SNR is infinite at {start} or {end}")
    lam = torch.linspace(float(ends[0]), float(ends[1]), steps + 1, dtype=torch.float64)
    return _pinned(schedule.time_of_lambda(lam), start, end)


def karras_times(schedule: Schedule, start: float, end: float, steps: int, rho: float = 7.0) -> Float[Tensor, " times"]:
    """Equal steps in (sigma/alpha)^(1/rho) (Karras et al. 2022, eq. 5), in any schedule's time.

    Raises InputError where alpha(start) = 0, and for a rho that is not finite and positive.

    >>> from diffuscope.schedules import VE
    >>> from diffuscope.times import karras_times
    >>> karras_times(VE(), 64.0, 1.0, 3, rho=3.0).round(decimals=9).tolist()  # the cubes of 4, 3, 2, 1
    [64.0, 27.0, 8.0, 1.0]
    """
    _require_grid(start, end, steps)
    if not 0 < rho < math.inf:
        raise InputError(f"rho: expected a finite number > 0, got {rho}")
    ends = schedule.noise_to_signal(torch.tensor([start, end], dtype=torch.float64)) ** (1 / rho)
    if not torch.isfinite(ends).all():
        raise InputError(f"start: expected a time where alpha > 0, got {start}, where sigma/alpha is infinite")
    ratio = torch.linspace(float(ends[0]), float(ends[1]), steps + 1, dtype=torch.float64) ** rho
    return _pinned(schedule.time_of_noise_to_signal(ratio), start, end)


def table_times(times: Sequence[float]) -> Float[Tensor, " times"]:
    """A grid given point by point. Raises InputError for fewer than two times, and unless they strictly decrease.

    >>> from diffuscope.times import table_times
    >>> table_times([5.0, 0.5, 0.25]).tolist()
    [5.0, 0.5, 0.25]
    >>> table_times([0.5, 5.0])
    Traceback (most recent call last):
        ...
    diffuscope.errors.InputError: times: expected at least two strictly decreasing, finite times, got [0.5, 5.0]
    """
    grid = torch.tensor(times, dtype=torch.float64)
    if len(grid) < 2 or not bool((grid[1:] < grid[:-1]).all() & torch.isfinite(grid).all()):
        raise InputError(f"times: expected at least two strictly decreasing, finite times, got {grid.tolist()}")
    return grid


def _pinned(grid: Times, start: float, end: float) -> Times:
    """The grid with exactly the given ends, without the rounding of a round trip through lambda."""
    grid[0], grid[-1] = start, end
    return grid


def _require_grid(start: float, end: float, steps: int) -> None:
    if steps < 1:
        raise InputError(f"steps: expected at least 1, got {steps}")
    if not math.inf > start > end >= 0:
        given = f"start = {start}, end = {end}"
        raise InputError(f"start, end: expected start > end >= 0, both finite (noise to data), got {given}")
