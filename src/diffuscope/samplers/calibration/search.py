"""Levels from a family of grids, and plain solvers on grids of the same kind, by validation error."""

import math
from typing import NamedTuple

import torch

from diffuscope.denoisers import Batch
from diffuscope.errors import InputError

from ..calibrated import PLAIN
from ..contract import sample
from ..schedule_values import Instant
from .fitting import fitted_plan
from .plan import Plan, walked
from .reference import FAR, Trajectories
from .whitened_model import CLOSEST, WhitenedModel

FIRST_LEVELS = (math.inf, 20.0, 5.0, 2.5, 1.5)  # sigma/alpha in units of the largest standard deviation
LAST_LEVELS = (0.4, 0.15, 0.05, 0.015)  # in units of the RMS standard deviation
CROWDING = (2.0, 4.0, 7.0, math.inf)  # rho of Karras' grids; infinity is uniform in log(sigma/alpha)


class Judged(NamedTuple):
    """A plan and its validation error."""

    error: float
    plan: Plan


class JudgedSolver(NamedTuple):
    """A plain solver's levels and their validation error."""

    error: float
    levels: tuple[Instant, ...]


def search_levels(model: WhitenedModel, fitting: Trajectories, validating: Trajectories, nfe: int) -> Judged:
    """The best of a family of grids: coarse choices of the two ends, then crowding, then finer ends."""
    best: Judged | None = None
    choice = (math.inf, 0.1, 7.0)

    def attempt(first: float, last: float, rho: float) -> None:
        nonlocal best, choice
        levels = model.levels(noise_levels(model, first * model.largest_std, last * model.rms_std, rho, nfe))
        if levels is None:
            return
        plan = fitted_plan(model, fitting, levels)
        error = model.distance(walked(model, plan, validating.z[0].double()).end, validating.end)
        if best is None or error < best.error:
            best, choice = Judged(error, plan), (first, last, rho)

    for first in FIRST_LEVELS:
        for last in LAST_LEVELS:
            attempt(first, last, 7.0)
    for rho in CROWDING:
        attempt(choice[0], choice[1], rho)
    for _ in range(2):
        first, last, rho = choice
        for factor in (0.7, 1.4):
            attempt(first * factor, last, rho)
        first, last, rho = choice
        for factor in (0.7, 1.4):
            attempt(first, last * factor, rho)
    if best is None:
        raise InputError(f"nfe: expected no more levels than the model has between its ends, got {nfe}")
    return best


def noise_levels(model: WhitenedModel, first: float, last: float, rho: float, count: int) -> list[float]:
    """`count` values of log(alpha/sigma), from sigma/alpha = `first` to `last` within the model's range."""
    start, end = math.exp(min(700.0, -model.start.lam)), math.exp(-model.end.lam)
    if first >= start * math.exp(-CLOSEST):
        if start > FAR * model.largest_std * (1 + 1e-9):
            return [model.start.lam, *noise_levels(model, 20 * model.largest_std, last, rho, count - 1)]
        first = start
    return [-math.log(ratio) for ratio in crowded(first, min(max(last, end), first / 2), rho, count)]


def crowded(first: float, last: float, rho: float, count: int) -> list[float]:
    """`count` ratios from `first` to `last`, equal steps in ratio^(1/rho)."""
    shares = [i / max(1, count - 1) for i in range(count)]
    if math.isinf(rho):
        return [first * (last / first) ** share for share in shares]
    a, b = first ** (1 / rho), last ** (1 / rho)
    return [(a + share * (b - a)) ** rho for share in shares]


def judged_solvers(model: WhitenedModel, starts: Batch, validating: Trajectories, nfe: int) -> dict[str, JudgedSolver]:
    """Every plain solver on its best grid, by validation error."""
    clean = model.schedule.time_of_lambda(math.inf).reshape(1)
    best: dict[str, JudgedSolver] = {}
    for rho in (7.0, math.inf):
        for last in (0.0, *LAST_LEVELS[1:]):
            levels = model.levels(noise_levels(model, math.inf, last * model.rms_std, rho, nfe))
            if levels is None:
                continue
            times = torch.cat([torch.tensor([at.t for at in levels], dtype=torch.float64), clean])
            for name, solver in PLAIN.items():
                rows = sample(solver, model, starts, times).double().flatten(1) - model.basis.mean
                error = model.distance(model.basis.coordinates(rows), validating.end)
                if name not in best or error < best[name].error:
                    best[name] = JudgedSolver(error, levels)
    return best
