"""Weights for given levels: least squares at the states that the already fitted steps have reached."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from ..calibrated import HISTORY
from ..schedule_values import Instant
from .plan import Plan, features_of, plain_weights, stepped
from .reference import Trajectories
from .whitened_model import WhitenedModel

RIDGE = 1e-6  # of the mean square of a feature, toward Adams-Bashforth
NEGLIGIBLE = 1e-9  # a feature this much smaller than the largest is rounding
HIGH_NOISE_SHARE = 0.3
TINY = torch.finfo(torch.float64).tiny
OUTLIERS = 0.1  # share of the mean distance below which a trajectory weighs no more


def fitted_plan(
    model: WhitenedModel, reference: Trajectories, levels: tuple[Instant, ...], ridge: float = RIDGE
) -> tuple[Plan, Tensor]:
    """Step by step, the weights that bring the trajectories closest to the reference; and where these end."""
    last, weights = len(levels) - 1, plain_weights(levels)
    start = reference.start
    shift = mean_departure(reference.at(levels[0].lam) - start)
    plan = Plan(levels, weights, shift)
    z, residuals = start + shift, []
    for i, at in enumerate(levels):
        residuals.append(model.residual(z, at))
        features = features_of(model, levels, i, z, residuals)
        plain = stepped(model, plan, i, z, features)
        if i < last:
            ratio = levels[i + 1].sigma / levels[i + 1].alpha
            metric = (model.basis.variances + HIGH_NOISE_SHARE * ratio**2).sqrt()
            missing = reference.at(levels[i + 1].lam) - plain
        else:
            metric, missing = torch.ones_like(model.basis.variances), reference.end - plain
        correction = robust_least_squares([metric * feature for feature in features], metric * missing, ridge)
        columns = [*range(len(features) - 1), HISTORY] if i == last else list(range(len(features)))
        weights[i, columns] += correction.to(weights.device)
        z = stepped(model, plan, i, z, features)
    return plan, z


def mean_departure(departure: Float[Tensor, "M m"]) -> Float[Tensor, " m"]:
    """The mean over trajectories, each coordinate shrunk by its uncertainty (positive-part James-Stein)."""
    mean = departure.mean(0)
    noise = departure.var(0) / len(departure)
    return mean * (1 - noise / mean.square().clamp(min=TINY)).clamp(min=0)


def influence_of(missing: Float[Tensor, "M m"]) -> Float[Tensor, "M 1"]:
    """sqrt(q_m): least squares with these weights minimizes distances, not their squares."""
    distance = missing.norm(dim=1, keepdim=True)
    return (distance + OUTLIERS * distance.mean() + TINY).rsqrt()


def robust_least_squares(
    features: Sequence[Tensor], missing: Float[Tensor, "M m"], ridge: float
) -> Float[Tensor, " F"]:
    """The coefficients of the features closest to `missing`, fitted twice: the second time outliers count less."""
    influence, coefficients = torch.ones_like(missing[:, :1]), missing.new_zeros(len(features))
    for _ in range(2):
        A = torch.stack([(influence * feature).flatten() for feature in features])
        size = A.norm(dim=1)
        size = size.clamp(min=max(float(size.max()) * NEGLIGIBLE, TINY))
        A = A / size[:, None]
        normal = A @ A.T + ridge * torch.eye(len(A), dtype=A.dtype, device=A.device)
        coefficients = torch.linalg.solve(normal, A @ (influence * missing).flatten()) / size
        residual = missing - sum(a * feature for a, feature in zip(coefficients, features, strict=True))
        influence = influence_of(residual)
    return coefficients
