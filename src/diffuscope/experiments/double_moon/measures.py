r"""How near a field s is to the exact score s*: two numbers on a grid over the plane.

The cells of the grid are much smaller than the noised distribution is wide. With its exact density p and the weights
:math:`w_i = p(x_i) / \sum_j p(x_j)` (the trapezoid rule; the grid extends 5.5 standard deviations of jitter
and noise together beyond the arcs, and what lies beyond it is some 1e-7 of the mass):

*Centered relative error* (the exact score has mean zero; what is subtracted is the error of the quadrature),

.. math::  e = \left( \frac{\sum_i w_i |s_i - s^*_i|^2}{\sum_i w_i |s^*_i - \bar s^*|^2} \right)^{1/2}, \qquad
           \bar s^* = \sum_i w_i s^*_i .

*Direction cosine*: the plain mean of :math:`\cos_i = s_i \cdot s^*_i / |s_i||s^*_i|` over the grid points with
:math:`p(x_i) > 0.01 \max p`. The mean weighted by :math:`w_i` is lower: most of the mass lies along the arcs, where the
score is nearly zero and its direction ill-determined. Grids have an even number of points along each axis, since the
score vanishes at the center of symmetry and has no direction there.

s = (1 + a) s* has e = |a| and cosine 1; s* rotated by an angle has e = 2 sin(angle/2) and the angle's cosine.
"""

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from diffuscope.exact import Distribution

VISIBLE = 0.01  # of the largest density: where directions are compared
TAIL = 5.5  # standard deviations of jitter and noise together that the grid extends beyond the arcs


@dataclass(frozen=True, eq=False)
class Plane:
    """The noised distribution on a grid: density over its maximum, weights w, and the exact score."""

    x: Float[Tensor, " columns"]
    y: Float[Tensor, " rows"]
    points: Float[Tensor, "n 2"]
    density: Float[Tensor, " n"]
    w: Float[Tensor, " n"]
    score: Float[Tensor, "n 2"]

    @classmethod
    def of(cls, p: Distribution, sigma: float, jitter: float, points: int) -> "Plane":
        """Over the moons, [-1, 2] x [-1/2, 1], and TAIL standard deviations of jitter and noise beyond."""
        margin = TAIL * math.hypot(sigma, jitter)
        x = torch.linspace(-1 - margin, 2 + margin, points, dtype=torch.float64)
        y = torch.linspace(-0.5 - margin, 1 + margin, points, dtype=torch.float64)
        at = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1).reshape(-1, 2)
        log_density = p.log_prob(at, 1.0, sigma)
        density = (log_density - log_density.max()).exp()
        return cls(x, y, at, density, density / density.sum(), p.score(at, 1.0, sigma))

    @property
    def visible(self) -> Bool[Tensor, " n"]:
        """Where the density exceeds VISIBLE of its maximum."""
        return self.density > VISIBLE


@dataclass(frozen=True)
class Agreement:
    """A field against the exact score: `cosine` is the plain mean over visible points, `weighted_cosine` that by w."""

    error: float
    cosine: float
    weighted_cosine: float


def agreement(plane: Plane, score: Float[Tensor, "n 2"]) -> Agreement:
    """The measures above for the field `score` at the points of `plane`."""
    cosine = torch.nn.functional.cosine_similarity(score, plane.score, dim=1, eps=1e-300)
    visible = plane.visible
    weighted = float((plane.w * cosine)[visible].sum() / plane.w[visible].sum())
    return Agreement(relative_error(score, plane.score, plane.w), float(cosine[visible].mean()), weighted)


def relative_error(score: Float[Tensor, "n d"], exact: Float[Tensor, "n d"], w: Float[Tensor, " n"]) -> float:
    """e for weights that add up to 1."""
    centered = exact - w @ exact
    return math.sqrt(float(w @ (score - exact).square().sum(1)) / float(w @ centered.square().sum(1)))


def by_density(
    plane: Plane, score: Float[Tensor, "n 2"], sigma: float, edges: Float[Tensor, " k"]
) -> Float[Tensor, " bins"]:
    r"""The rms of :math:`\sigma|s - s^*|` over the points where p / max p lies between `edges`."""
    squares = sigma**2 * (score - plane.score).square().sum(1)
    inside = [(plane.density > low) & (plane.density <= high) for low, high in pairwise(edges)]
    return torch.stack([squares[region].mean().sqrt() for region in inside])


def error_of_n_draws(p: Distribution, plane: Plane, sigma: float, n: int) -> float:
    r"""The centered relative error of the exact score of n draws, a kernel estimate, to first order in 1/n.

    With :math:`K = N(x; y, \sigma^2 I)`, :math:`\hat p = \tfrac1n\sum_i K(x; y_i)` and
    :math:`K^2 \propto N(x; y, \sigma^2/2\, I)`, and with the posterior mean D' and covariance C' at the noise
    :math:`\sigma/\sqrt2`,

    .. math::
        \hat s - s^* \approx \frac{\nabla\hat p - s^*\hat p}{p}, \qquad
        E\!\int\! p\,|\hat s - s^*|^2 dx \approx \frac1{4\pi\sigma^2 n}\int \frac{p_{\sigma/\sqrt2}(x)}{p_\sigma(x)}
          \left[\Big|\frac{D' - x}{\sigma^2} - s^*\Big|^2 + \frac{\operatorname{tr} C'}{\sigma^4}\right] dx .
    """
    narrow, x = sigma / math.sqrt(2), plane.points
    trace = p.posterior_covariance(x, 1.0, narrow).trace()
    moment = ((p.denoise(x, 1.0, narrow) - x) / sigma**2 - plane.score).square().sum(1) + trace / sigma**4
    ratio = (p.log_prob(x, 1.0, narrow) - p.log_prob(x, 1.0, sigma)).exp()
    cell = float((plane.x[1] - plane.x[0]) * (plane.y[1] - plane.y[0]))
    variance = float(ratio @ moment) * cell / (4 * math.pi * sigma**2 * n)
    return math.sqrt(variance / float(plane.w @ plane.score.square().sum(1)))
