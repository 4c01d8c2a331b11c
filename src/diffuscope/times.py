r"""Grids of times: n steps are n + 1 decreasing float64 times from `start` to `end`."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.errors import InputError
from diffuscope.schedules import Schedule, Times


def uniform_times(start: float, end: float, steps: int) -> Float[Tensor, " times"]:
    """Equal steps in t."""
    _require_grid(start, end, steps)
    return _pinned(torch.linspace(start, end, steps + 1, dtype=torch.float64), start, end)


def quadratic_times(start: float, end: float, steps: int) -> Float[Tensor, " times"]:
    """Equal steps in sqrt(t) (DDIM's quadratic grid): denser near the data."""
    _require_grid(start, end, steps)
    return _pinned(torch.linspace(math.sqrt(start), math.sqrt(end), steps + 1, dtype=torch.float64) ** 2, start, end)


def log_snr_times(schedule: Schedule, start: float, end: float, steps: int) -> Float[Tensor, " times"]:
    """Equal steps in lambda = log(alpha/sigma); needs alpha(start) > 0 and sigma(end) > 0."""
    _require_grid(start, end, steps)
    ends = schedule.lam(torch.tensor([start, end], dtype=torch.float64))
    if not torch.isfinite(ends).all():
        raise InputError(f"start, end: expected times inside, log-SNR is infinite at start = {start} or end = {end}")
    lam = torch.linspace(float(ends[0]), float(ends[1]), steps + 1, dtype=torch.float64)
    return _pinned(schedule.time_of_lambda(lam), start, end)


def karras_times(schedule: Schedule, start: float, end: float, steps: int, rho: float = 7.0) -> Float[Tensor, " times"]:
    """Equal steps in (sigma/alpha)^(1/rho) (Karras et al. 2022, eq. 5), in any schedule's time."""
    _require_grid(start, end, steps)
    ends = schedule.noise_to_signal(torch.tensor([start, end], dtype=torch.float64)) ** (1 / rho)
    if not torch.isfinite(ends).all():
        raise InputError(f"start: expected a time where alpha > 0, got {start}, where sigma/alpha is infinite")
    ratio = torch.linspace(float(ends[0]), float(ends[1]), steps + 1, dtype=torch.float64) ** rho
    return _pinned(schedule.time_of_noise_to_signal(ratio), start, end)


def table_times(times: Sequence[float]) -> Float[Tensor, " times"]:
    """A grid given point by point; it must decrease strictly."""
    grid = torch.tensor(times, dtype=torch.float64)
    if len(grid) < 2 or not bool((grid[1:] < grid[:-1]).all()):
        raise InputError(f"times: expected at least two strictly decreasing times, got {grid.tolist()}")
    return grid


def _pinned(grid: Times, start: float, end: float) -> Times:
    """The grid with its two ends exactly as asked, whatever a round trip through lambda gave."""
    grid[0], grid[-1] = start, end
    return grid


def _require_grid(start: float, end: float, steps: int) -> None:
    if steps < 1:
        raise InputError(f"steps: expected at least 1, got {steps}")
    if not start > end >= 0:
        raise InputError(f"start, end: expected start > end >= 0 (noise to data), got start = {start}, end = {end}")
