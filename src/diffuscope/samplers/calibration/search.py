"""The Gaussian, the levels from a family of grids, and plain solvers on grids of the same kind, by validation error."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch

from diffuscope.denoisers import Batch
from diffuscope.errors import InputError

from ..calibrated import PLAIN
from ..contract import sample
from ..schedule_values import Instant
from .fitting import RIDGE, fitted_plan
from .plan import Plan, walked
from .reference import FAR, Trajectories
from .views import View
from .whitened_model import CLOSEST, WhitenedModel

FIRST_LEVELS = (math.inf, 20.0, 5.0, 2.5, 1.5)  # sigma/alpha in units of the largest standard deviation
LAST_LEVELS = (0.4, 0.15, 0.05, 0.015)  # in units of the RMS standard deviation
CROWDING = (2.0, 4.0, 7.0, math.inf)  # rho of Karras' grids; infinity is uniform in log(sigma/alpha)
RIDGES = (1e-4, 1e-3, 1e-2)  # stiffer fits, for few starts


class Judged(NamedTuple):
    """A plan, in the coordinates of a view, its validation error, and that of the fit."""

    error: float
    plan: Plan
    view: View
    fit_error: float

    @property
    def total(self) -> float:
        """What a choice is made by: few parameters are fitted, so that both halves say how good a grid is."""
        return self.error + self.fit_error


class JudgedSolver(NamedTuple):
    """A plain solver's levels and their validation error."""

    error: float
    levels: tuple[Instant, ...]


def search(views: Sequence[View], nfe: int) -> Judged:
    """The best Gaussian and grid of a family, one choice at a time, twice; then finer ends and a stiffer fit."""
    data = views[0].model
    tried: dict[tuple[int, float, float, float], Judged] = {}

    def attempt(view: int, first: float, last: float, rho: float) -> None:
        grid = noise_levels(data, first * data.largest_std, last * data.rms_std, rho, nfe)
        levels = data.levels(grid)
        if (view, first, last, rho) not in tried and levels is not None:
            tried[view, first, last, rho] = judged(views[view], levels)

    def best() -> tuple[int, float, float, float]:
        return min(tried, key=lambda choice: tried[choice].total, default=(0, math.inf, LAST_LEVELS[1], 7.0))

    for _ in range(2):
        for first in FIRST_LEVELS:
            attempt(best()[0], first, *best()[2:])
        for last in LAST_LEVELS:
            attempt(*best()[:2], last, best()[3])
        for rho in CROWDING:
            attempt(*best()[:3], rho)
        for view in range(len(views)):
            attempt(view, *best()[1:])
    view, first, last, rho = best()
    for factor in (0.7, 1.4):
        attempt(view, factor * first, last, rho)
    view, first, last, rho = best()
    for factor in (0.7, 1.4):
        attempt(view, first, factor * last, rho)
    if not tried:
        raise InputError(f"nfe: expected no more levels than the model has between its ends, got {nfe}")
    return stiffened(tried[best()])


def stiffened(found: Judged) -> Judged:
    """With the same levels, the ridge of the smallest validation error."""
    stiffer = [judged(found.view, found.plan.levels, ridge) for ridge in RIDGES]
    return min([found, *stiffer], key=lambda one: one.error)


def judged(view: View, levels: tuple[Instant, ...], ridge: float = RIDGE) -> Judged:
    """The fitted plan with these levels."""
    plan, fitted = fitted_plan(view.model, view.fitting, levels, ridge)
    end = walked(view.model, plan, view.validating.start).end
    error, fit_error = (view.model.distance(*ends) for ends in ((end, view.validating.end), (fitted, view.fitting.end)))
    return Judged(error, plan, view, fit_error)


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
