r"""Laws to start the reverse process from, and the law it then ends with, by Bayes' rule and quadrature.

At eta = 1 the reverse transition from T to t is the posterior of the forward one, so that a start from :math:`\nu`
ends, at every :math:`t < T`, with

.. math::  q_t(x) = h(x)\,\rho_t(x), \qquad h(x) = \int \frac{K(y | x)}{\rho_T(y)}\,\nu(dy), \qquad
           K(y | x) = N(y;\, a x,\, \sigma_T^2 - a^2\sigma_t^2), \quad a = \alpha_T/\alpha_t .

A start law is a quadrature rule, :math:`\nu \approx \sum_j w_j \delta_{y_j}`: spectrally accurate for the smooth
integrand, and exact for a point.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.exact import Distribution
from diffuscope.samplers import Instant

NODES = 240


@dataclass(frozen=True)
class StartLaw:
    """A law on the line: nodes and weights of its quadrature, its draws, and its density where it has one."""

    label: str
    nodes: Float[Tensor, " nodes"] = field(repr=False)
    weights: Float[Tensor, " nodes"] = field(repr=False)
    draw: Callable[[int, torch.Generator], Tensor] = field(repr=False)
    density: Callable[[Tensor], Tensor] | None = field(default=None, repr=False)


def gaussian(mean: float, deviation: float) -> StartLaw:
    """N(mean, deviation^2), by the trapezoidal rule over nine deviations on either side."""
    z = torch.linspace(-9, 9, NODES, dtype=torch.float64)
    weights = torch.exp(-(z**2) / 2)

    def draw(n: int, generator: torch.Generator) -> Tensor:
        return mean + deviation * torch.randn(n, 1, dtype=torch.float64, generator=generator)

    def density(x: Tensor) -> Tensor:
        return torch.exp(-(((x - mean) / deviation) ** 2) / 2) / (deviation * math.sqrt(2 * math.pi))

    return StartLaw(f"N({mean:g}, {deviation:g}²)", mean + deviation * z, weights / weights.sum(), draw, density)


def uniform(low: float, high: float) -> StartLaw:
    """Uniform on [low, high], by Gauss-Legendre quadrature."""
    places, weights = np.polynomial.legendre.leggauss(NODES // 2)
    nodes = low + (high - low) * (torch.from_numpy(places) + 1) / 2

    def draw(n: int, generator: torch.Generator) -> Tensor:
        return low + (high - low) * torch.rand(n, 1, dtype=torch.float64, generator=generator)

    def density(x: Tensor) -> Tensor:
        return ((x >= low) & (x <= high)).double() / (high - low)

    return StartLaw(f"U[{low:g}, {high:g}]", nodes, torch.from_numpy(weights) / 2, draw, density)


def point(place: float) -> StartLaw:
    """All mass at one place."""
    one = torch.ones(1, dtype=torch.float64)

    def draw(n: int, generator: torch.Generator) -> Tensor:  # noqa: ARG001
        return torch.full((n, 1), place, dtype=torch.float64)

    return StartLaw(f"the point {place:g}", place * one, one, draw)


def bayes_weight(
    law: Distribution, start: StartLaw, x: Float[Tensor, " points"], begin: Instant, end: Instant
) -> Float[Tensor, " points"]:
    """h(x) at the instant `end` for a start from `start` at the instant `begin`; `law` is the data's."""
    a = begin.alpha / end.alpha
    variance = begin.sigma**2 - a**2 * end.sigma**2
    log_kernel = -((start.nodes - a * x[:, None]) ** 2) / (2 * variance) - 0.5 * math.log(2 * math.pi * variance)
    log_marginal = law.log_prob(start.nodes[:, None], begin.alpha, begin.sigma)
    return (log_kernel - log_marginal).exp() @ start.weights


def ended_density(
    law: Distribution, start: StartLaw, x: Float[Tensor, " points"], begin: Instant, end: Instant
) -> Float[Tensor, " points"]:
    """q(x) = h(x) rho(x) at the instant `end`."""
    return bayes_weight(law, start, x, begin, end) * law.log_prob(x[:, None], end.alpha, end.sigma).exp()


def total_variation(p: Float[Tensor, " points"], q: Float[Tensor, " points"], spacing: float) -> float:
    """Half the L1 distance of two densities on one even grid."""
    return 0.5 * spacing * float((p - q).abs().sum())
