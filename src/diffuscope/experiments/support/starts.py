r"""Starts of the reverse process, and the distributions in which it then ends, by Bayes' rule and quadrature.

At eta = 1 the reverse transition from T to t is the posterior of the forward one, so that a start from :math:`\nu`
gives, at every :math:`t < T`, the density

.. math::  q_t(x) = h(x)\,\rho_t(x), \qquad h(x) = \int \frac{K(y | x)}{\rho_T(y)}\,\nu(dy), \qquad
           K(y | x) = N(y;\, a x,\, \sigma_T^2 - a^2\sigma_t^2), \quad a = \alpha_T/\alpha_t .

On the line a start is a quadrature rule, :math:`\nu \approx \sum_j w_j \delta_{y_j}`, of 240 nodes for a normal start,
of 120 for a uniform one and of one for a point: spectrally accurate for the smooth integrand, and exact for the point.
For data uniform on the unit circle the transition from y to time 0 is von Mises around the direction of y with the
concentration :math:`\kappa = \alpha|y|/\sigma^2`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.exact import Distribution, Ring
from diffuscope.samplers import Instant

NODES = 240


@dataclass(frozen=True, eq=False)
class Start:
    """A distribution on the line: nodes and weights of its quadrature, its draws, and its density if it has one."""

    label: str
    nodes: Float[Tensor, " nodes"]
    weights: Float[Tensor, " nodes"]
    draw: Callable[[int, torch.Generator], Tensor]
    density: Callable[[Tensor], Tensor] | None = None


def gaussian(mean: float, deviation: float) -> Start:
    """N(mean, deviation^2), by the trapezoidal rule over nine standard deviations on either side."""
    z = torch.linspace(-9, 9, NODES, dtype=torch.float64)
    weights = torch.exp(-(z**2) / 2)

    def draw(n: int, generator: torch.Generator) -> Tensor:
        return mean + deviation * torch.randn(n, 1, dtype=torch.float64, generator=generator)

    def density(x: Tensor) -> Tensor:
        return torch.exp(-(((x - mean) / deviation) ** 2) / 2) / (deviation * math.sqrt(2 * math.pi))

    return Start(f"N({mean:g}, {deviation:g}²)", mean + deviation * z, weights / weights.sum(), draw, density)


def uniform(low: float, high: float) -> Start:
    """Uniform on [low, high], by Gauss-Legendre quadrature."""
    places, weights = np.polynomial.legendre.leggauss(NODES // 2)
    nodes = low + (high - low) * (torch.from_numpy(places) + 1) / 2

    def draw(n: int, generator: torch.Generator) -> Tensor:
        return low + (high - low) * torch.rand(n, 1, dtype=torch.float64, generator=generator)

    def density(x: Tensor) -> Tensor:
        return ((x >= low) & (x <= high)).double() / (high - low)

    return Start(f"U[{low:g}, {high:g}]", nodes, torch.from_numpy(weights) / 2, draw, density)


def point(place: float) -> Start:
    """All mass at one point."""
    one = torch.ones(1, dtype=torch.float64)

    def draw(n: int, generator: torch.Generator) -> Tensor:  # noqa: ARG001
        return torch.full((n, 1), place, dtype=torch.float64)

    return Start(f"the point {place:g}", place * one, one, draw)


def bayes_weight(
    data: Distribution, start: Start, x: Float[Tensor, " points"], begin: Instant, end: Instant
) -> Float[Tensor, " points"]:
    """h(x) at the instant `end` for a start from `start` at the instant `begin`."""
    a = begin.alpha / end.alpha
    variance = begin.sigma**2 - a**2 * end.sigma**2
    log_kernel = -((start.nodes - a * x[:, None]) ** 2) / (2 * variance) - 0.5 * math.log(2 * math.pi * variance)
    log_marginal = data.log_prob(start.nodes[:, None], begin.alpha, begin.sigma)
    return (log_kernel - log_marginal).exp() @ start.weights


def bell(x: float, y: float, deviation: float) -> Callable[[Tensor], Tensor]:
    """N((x, y), deviation^2 I) in the plane, as a map from uniform numbers in the unit square."""

    def place(u: Tensor) -> Tensor:
        return torch.tensor((x, y), dtype=torch.float64) + deviation * torch.special.ndtri(u)

    return place


def square(u: Tensor) -> Tensor:
    """Uniform on [-3, 0] x [-3, 0]."""
    return -3.0 + 3.0 * u


def mean_on_circle(place: Callable[[Tensor], Tensor], begin: Instant) -> Float[Tensor, "2"]:
    """E[x_0] for a start in the plane, by the midpoint rule in the unit square (300 x 300 places)."""
    u = (torch.arange(300, dtype=torch.float64) + 0.5) / 300
    return Ring().denoise(place(torch.cartesian_prod(u, u)), begin.alpha, begin.sigma).mean(0)


def angle_density(
    place: Callable[[Tensor], Tensor], begin: Instant, angles: Float[Tensor, " angles"]
) -> Float[Tensor, " angles"]:
    """The density over the angle at time 0: von Mises densities averaged over 100 x 100 places."""
    u = (torch.arange(100, dtype=torch.float64) + 0.5) / 100
    y = place(torch.cartesian_prod(u, u))
    kappa = begin.alpha * y.norm(dim=1) / begin.sigma**2
    height = torch.exp(kappa * (torch.cos(angles[:, None] - torch.atan2(y[:, 1], y[:, 0])) - 1))
    return (height / (2 * math.pi * torch.special.i0e(kappa))).mean(1)
