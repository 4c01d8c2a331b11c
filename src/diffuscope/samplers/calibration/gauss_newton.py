"""Weights and levels together, by Gauss-Newton on the distance at the end.

With a table of trained times the step of a level is rounded to the table, and the weights are solved for once more with
the rounded levels given.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..calibrated import HISTORY, SAME_LEVEL
from .fitting import influence_of
from .plan import Plan, Walk, features_of, stepped, walked
from .search import Judged
from .whitened_model import WhitenedModel

DIFFERENCE = 1e-3  # step of the numerical derivatives, in weights and in log(alpha/sigma)
COARSE_DIFFERENCE = 0.03  # in log(alpha/sigma) with a table of times, across which a network need not be smooth


def polish(best: Judged, rounds: int) -> Judged:
    """Gauss-Newton on the distance at the end, over all weights and levels."""
    plan, view = best.plan, best.view
    model, fitting, validating = view.model, view.fitting, view.validating
    z_fit, z_val = fitting.start, validating.start
    damping = 1e-2
    for _ in range(rounds):
        walk = walked(model, plan, z_fit)
        missing = fitting.end - walk.end
        names, columns = end_derivatives(model, plan, z_fit, walk)
        influence = influence_of(missing)
        A = torch.stack([(influence * column).flatten() for column in columns])
        normal, right = A @ A.T, A @ (influence * missing).flatten()
        scale = normal.diagonal().mean() * torch.eye(len(A), dtype=A.dtype, device=A.device)
        error = model.distance(walk.end, fitting.end)
        for _ in range(5):
            moved = stepped_plan(model, plan, names, normal + damping * scale, right)
            if moved is not None and model.distance(walked(model, moved, z_fit).end, fitting.end) < error:
                validated = model.distance(walked(model, moved, z_val).end, validating.end)
                if validated < best.error:
                    plan, best = moved, Judged(validated, moved, view)
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
        moved = nudged_level(model, plan, i)
        if moved is not None:
            end = rewalked(model, moved, z, walk, i - 1) if i > 0 else walked(model, moved, z).end
            names.append((i, -1))
            columns.append((end - walk.end) / (moved.levels[i].lam - plan.levels[i].lam))
    return names, columns


def nudged_level(model: WhitenedModel, plan: Plan, i: int) -> Plan | None:
    """The plan with level i a little earlier (the first: later), to another trained time; None if there is none."""
    if not math.isfinite(plan.levels[i].lam):
        return None
    change = COARSE_DIFFERENCE if model.discrete else DIFFERENCE
    while change < 1:
        moved = moved_plan(model, plan, [(i, -1)], torch.tensor([change if i == 0 else -change]))
        if moved is None or abs(moved.levels[i].lam - plan.levels[i].lam) > SAME_LEVEL:
            return moved
        change *= 2
    return None


def stepped_plan(
    model: WhitenedModel, plan: Plan, names: Sequence[tuple[int, int]], normal: Tensor, right: Tensor
) -> Plan | None:
    """The Gauss-Newton step: `normal` x = `right`, with levels rounded to trained times."""
    step = torch.linalg.solve(normal, right)
    moved = moved_plan(model, plan, names, step)
    if moved is None or not model.discrete:
        return moved
    is_level = torch.tensor([column < 0 for _, column in names], device=step.device)
    rounded = [moved.levels[i].lam - plan.levels[i].lam for i, column in names if column < 0]
    step[is_level] = torch.tensor(rounded, dtype=step.dtype, device=step.device)
    given = right - normal[:, is_level] @ step[is_level]
    step[~is_level] = torch.linalg.solve(normal[~is_level][:, ~is_level], given[~is_level])
    return moved_plan(model, plan, names, step)


def rewalked(model: WhitenedModel, plan: Plan, z: Tensor, known: Walk, since: int) -> Tensor:
    """The end of `plan`, whose first difference from the plan of `known` is the level after `since`."""
    features = features_of(model, plan.levels, since, known.states[since], known.residuals[: since + 1])
    state = stepped(model, plan, since, known.states[since], features)
    return walked(model, plan, z, known._replace(states=[*known.states[: since + 1], state]), since + 1).end


def moved_plan(model: WhitenedModel, plan: Plan, names: Sequence[tuple[int, int]], step: Tensor) -> Plan | None:
    """The plan with its parameters changed by `step`; None where the levels would not be in order."""
    weights, lams = plan.weights.clone(), [at.lam for at in plan.levels]
    for (i, column), change in zip(names, step.tolist(), strict=True):
        if column < 0:
            lams[i] += change
        else:
            weights[i, column] += change
    levels = plan.levels if all(column >= 0 for _, column in names) else model.levels(lams)
    return None if levels is None else Plan(levels, weights, plan.shift)
