"""A plan: levels and weights of a calibrated sampler, and the trajectories of whitened states that follow it."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from ..adams_bashforth import interpolation_weights
from ..calibrated import HISTORY
from ..schedule_values import Instant
from .whitened_model import WhitenedModel


class Plan(NamedTuple):
    """Levels of evaluation, a row of weights for each (latest residual first, the carry last), and the shift b."""

    levels: tuple[Instant, ...]
    weights: Float[Tensor, "n 5"]
    shift: Float[Tensor, " m"]


class Walk(NamedTuple):
    """Trajectories of a plan: the states z at its levels, the residuals there, the features of each step, the end."""

    states: list[Tensor]
    residuals: list[Tensor]
    features: list[list[Tensor]]
    end: Tensor


def plain_weights(levels: Sequence[Instant]) -> Float[Tensor, "n 5"]:
    """Adams-Bashforth of order up to 4, the residual a polynomial in log w; a plain denoise at the end."""
    weights = torch.zeros(len(levels), HISTORY + 1, dtype=torch.float64)
    weights[:, 0] = 1.0
    for i in range(len(levels) - 1):
        past = [at.lam for at in reversed(levels[max(0, i - HISTORY + 1) : i + 1]) if math.isfinite(at.lam)]
        if math.isfinite(levels[i].lam):
            row = interpolation_weights(tuple(past), levels[i].lam, levels[i + 1].lam, rate=0.0, power=0.0)
            weights[i, : len(row)] = torch.tensor(row, dtype=torch.float64)
    return weights


def features_of(
    model: WhitenedModel, levels: Sequence[Instant], i: int, z: Tensor, residuals: Sequence[Tensor]
) -> list[Tensor]:
    """The terms of step i: transported residuals, latest first, and at the end the carry."""
    latest = list(residuals)[::-1][:HISTORY]
    if i < len(levels) - 1:
        kernel = model.basis.kernel(levels[i], levels[i + 1])
        return [kernel * delta for delta in latest]
    return [*latest, (model.basis.gain(levels[i]) - model.basis.gain(model.end)) * z]


def stepped(model: WhitenedModel, plan: Plan, i: int, z: Tensor, features: Sequence[Tensor]) -> Tensor:
    """Step i: the Gaussian's (constant z, and a denoise at the end) plus sum_j a_j F_j; the last carry is a feature."""
    row = plan.weights[i].tolist()
    if i == len(plan.levels) - 1:
        z, row = model.basis.gain(model.end) * z, [*row[: len(features) - 1], row[HISTORY]]
    for weight, feature in zip(row, features, strict=False):
        if weight:
            z = z.add(feature, alpha=weight)
    return z


def walked(model: WhitenedModel, plan: Plan, z_start: Tensor, known: Walk | None = None, since: int = 0) -> Walk:
    """The walk of `plan`; with `known`, it reuses that walk's states up to level `since` and the residuals before."""
    states = [z_start + plan.shift] if known is None else list(known.states[: since + 1])
    residuals = [] if known is None else list(known.residuals[:since])
    features = [] if known is None else list(known.features[:since])
    for i in range(since, len(plan.levels)):
        residuals.append(model.residual(states[i], plan.levels[i]))
        features.append(features_of(model, plan.levels, i, states[i], residuals))
        states.append(stepped(model, plan, i, states[i], features[i]))
    return Walk(states[:-1], residuals, features, states[-1])
