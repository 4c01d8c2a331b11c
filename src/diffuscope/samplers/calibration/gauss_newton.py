"""Weights and levels together, by Gauss-Newton on the distance at the end.

The step of a level is limited to the model's range and to a part of the way to its neighbors, and rounded to a trained
time; then the weights are solved for once more with the levels given. Damping is Marquardt's, in units of the diagonal.
"""

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..calibrated import HISTORY, SAME_LEVEL
from ..schedule_values import Instant
from .fitting import NEGLIGIBLE, TINY, influence_of
from .plan import Plan, Walk, features_of, stepped, walked
from .search import Judged
from .whitened_model import WhitenedModel

DIFFERENCE = 1e-3  # step of the numerical derivatives, in weights and in log(alpha/sigma)
REACH = 0.4  # of the way to the neighboring level, the most in one step
COARSE_DIFFERENCE = 0.03  # in log(alpha/sigma) with a table of times, across which a network need not be smooth


def polish(best: Judged, rounds: int) -> Judged:
    """Gauss-Newton on the distance at the end, over all weights and levels."""
    plan, view = best.plan, best.view
    model, fitting, validating = view.model, view.fitting, view.validating
    z_fit, z_val = fitting.start, validating.start
    damping = 1e-3
    for _ in range(rounds):
        walk = walked(model, plan, z_fit)
        missing = fitting.end - walk.end
        names, columns = end_derivatives(model, plan, z_fit, walk)
        influence = influence_of(missing)
        A = torch.stack([(influence * column).flatten() for column in columns])
        normal, right = A @ A.T, A @ (influence * missing).flatten()
        damped = normal.diagonal().clamp(min=NEGLIGIBLE * float(normal.diagonal().max()) + TINY).diag()
        error = model.distance(walk.end, fitting.end)
        for _ in range(9):
            moved = stepped_plan(model, plan, names, normal + damping * damped, right)
            fitted = math.inf if moved is None else model.distance(walked(model, moved, z_fit).end, fitting.end)
            if moved is not None and fitted < error:
                validated = model.distance(walked(model, moved, z_val).end, validating.end)
                if validated < best.error:
                    plan, best = moved, Judged(validated, moved, view, fitted)
                    damping = max(damping / 4, 1e-6)
                    break
            damping *= 5
        else:  # no step was an improvement
            break
    return best


def end_derivatives(
    model: WhitenedModel, plan: Plan, z: Tensor, walk: Walk
) -> tuple[list[tuple[int, int]], list[Tensor]]:
    """d end / d parameter by forward differences; a parameter is (row, column of weights) or (level, -1)."""
    names, columns, last = [], [], len(plan.levels) - 1
    for i, features in enumerate(walk.features):
        for j, feature in enumerate(features):
            column = HISTORY if i == last and j == len(features) - 1 else j
            names.append((i, column))
            if i == last:
                columns.append(feature)
                continue
            nudged = walk._replace(states=[*walk.states[: i + 1], walk.states[i + 1] + DIFFERENCE * feature])
            columns.append((walked(model, plan, z, nudged, i + 1).end - walk.end) / DIFFERENCE)
        levels = nudged_level(model, plan, i)
        if levels is not None:
            moved = plan._replace(levels=levels)
            end = rewalked(model, moved, z, walk, i - 1) if i > 0 else walked(model, moved, z).end
            names.append((i, -1))
            columns.append((end - walk.end) / (moved.levels[i].lam - plan.levels[i].lam))
    return names, columns


def nudged_level(model: WhitenedModel, plan: Plan, i: int) -> tuple[Instant, ...] | None:
    """The levels with the i-th a little earlier (the first: later), at another trained time; None if there is none."""
    change = COARSE_DIFFERENCE if model.discrete else DIFFERENCE
    while change < 1 and math.isfinite(plan.levels[i].lam):
        levels = moved_levels(model, plan, [(i, -1)], torch.tensor([change if i == 0 else -change]))
        if levels is None or abs(levels[i].lam - plan.levels[i].lam) > SAME_LEVEL:
            return levels
        change *= 2
    return None


def stepped_plan(
    model: WhitenedModel, plan: Plan, names: Sequence[tuple[int, int]], normal: Tensor, right: Tensor
) -> Plan | None:
    """The Gauss-Newton step: `normal` x = `right`, with levels held back and rounded to trained times."""
    step = torch.linalg.solve(normal, right)
    is_level = torch.tensor([column < 0 for _, column in names], device=step.device)
    levels = moved_levels(model, plan, names, held_back(model, plan, names, step))
    if levels is None:
        return None
    moves = [levels[i].lam - plan.levels[i].lam for i, column in names if column < 0]
    step[is_level] = torch.tensor(moves, dtype=step.dtype, device=step.device)
    given = right - normal[:, is_level] @ step[is_level]
    step[~is_level] = torch.linalg.solve(normal[~is_level][:, ~is_level], given[~is_level])
    return Plan(levels, moved_weights(plan, names, step), plan.shift)


def held_back(model: WhitenedModel, plan: Plan, names: Sequence[tuple[int, int]], step: Tensor) -> Tensor:
    """`step` with every level within `REACH` of the way to its neighbors, and within the model's range."""
    lams = [at.lam for at in plan.levels]
    gaps = [
        lams[0] - model.start.lam,
        *(REACH * (b - a) for a, b in itertools.pairwise(lams)),
        model.end.lam - lams[-1],
    ]
    limits = [(-gaps[i], gaps[i + 1]) if column < 0 else (-math.inf, math.inf) for i, column in names]
    low, high = step.new_tensor(limits).T
    return step.clamp(low.clamp(max=0), high.clamp(min=0))


def rewalked(model: WhitenedModel, plan: Plan, z: Tensor, known: Walk, since: int) -> Tensor:
    """The end of `plan`, whose first difference from the plan of `known` is the level after `since`."""
    features = features_of(model, plan.levels, since, known.states[since], known.residuals[: since + 1])
    state = stepped(model, plan, since, known.states[since], features)
    return walked(model, plan, z, known._replace(states=[*known.states[: since + 1], state]), since + 1).end


def moved_levels(
    model: WhitenedModel, plan: Plan, names: Sequence[tuple[int, int]], step: Tensor
) -> tuple[Instant, ...] | None:
    """The levels after `step`, at trained times; None where they would not be in order."""
    lams = [at.lam for at in plan.levels]
    for (i, column), change in zip(names, step.tolist(), strict=True):
        lams[i] += change if column < 0 else 0.0
    return model.levels(lams)


def moved_weights(plan: Plan, names: Sequence[tuple[int, int]], step: Tensor) -> Tensor:
    """The weights after `step`."""
    weights = plan.weights.clone()
    for (i, column), change in zip(names, step.tolist(), strict=True):
        if column >= 0:
            weights[i, column] += change
    return weights
