r"""Entropy, Fisher information and relative entropy of exact distributions by quadrature, in one to three dimensions.

.. math::
    H = -\int p\log p, \qquad J = \int p\,|s|^2, \qquad
    \mathrm{KL}(p\|q) = \int p\log\frac pq, \qquad I(p\|q) = \int p\,|s_p - s_q|^2,

each a sum over the centers of a grid's cells. A noised density is analytic and falls off like a Gaussian, so that this
sum, the trapezoidal rule on the whole line, converges faster than any power of the cell width: where the mass is 1 to
some digits, the other integrals are as accurate. The mass is checked.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.errors import InputError
from diffuscope.exact import Distribution, Level

from .grid import Grid

BLOCK = 2**16  # points at once
LOST_MASS = 1e-9

Function = Callable[[Float[Tensor, "n d"]], Float[Tensor, "n *value"]]


def expectation(
    distribution: Distribution, alpha: Level, sigma: Level, grid: Grid, function: Function
) -> Float[Tensor, "*value"]:
    """E f(x_t) under the noised distribution.

    Raises InputError for a distribution whose events are not vectors of the grid's dimension, and for a grid on which
    the mass misses 1 by more than 1e-9: too small a box, or cells wider than the density's features (about sigma).
    """
    if tuple(distribution.event_shape) != (grid.dimensions,):
        shapes = f"({grid.dimensions},), got shape {tuple(distribution.event_shape)}"
        raise InputError(f"distribution: expected vectors of the grid's dimension, {shapes}")
    mass, total = 0.0, None
    for x in grid.points().reshape(-1, grid.dimensions).split(BLOCK):
        weights = grid.volume * distribution.log_prob(x, alpha, sigma).exp()
        part = torch.einsum("n,n...->...", weights, function(x))
        mass, total = mass + float(weights.sum()), part if total is None else total + part
    if total is None or not abs(mass - 1) <= LOST_MASS:
        raise InputError(f"grid: expected one that holds and resolves the density, got mass {mass!r} in place of 1")
    return total


def entropy(distribution: Distribution, alpha: Level, sigma: Level, grid: Grid) -> float:
    """H of the noised distribution in nats. Raises InputError as `expectation`."""
    return float(expectation(distribution, alpha, sigma, grid, lambda x: -distribution.log_prob(x, alpha, sigma)))


def fisher_information(distribution: Distribution, alpha: Level, sigma: Level, grid: Grid) -> float:
    """J = E|s|^2 of the noised distribution. Raises InputError as `expectation`."""
    return float(
        expectation(distribution, alpha, sigma, grid, lambda x: distribution.score(x, alpha, sigma).square().sum(1))
    )


def relative_entropy(distribution: Distribution, other: Distribution, alpha: Level, sigma: Level, grid: Grid) -> float:
    """KL(noised `distribution` || noised `other`) in nats. Raises InputError as `expectation`."""

    def log_ratio(x: Tensor) -> Tensor:
        return distribution.log_prob(x, alpha, sigma) - other.log_prob(x, alpha, sigma)

    return float(expectation(distribution, alpha, sigma, grid, log_ratio))


def relative_fisher(distribution: Distribution, other: Distribution, alpha: Level, sigma: Level, grid: Grid) -> float:
    """E|s - s'|^2 under the noised `distribution`. Raises InputError as `expectation`."""

    def gap(x: Tensor) -> Tensor:
        return (distribution.score(x, alpha, sigma) - other.score(x, alpha, sigma)).square().sum(1)

    return float(expectation(distribution, alpha, sigma, grid, gap))
