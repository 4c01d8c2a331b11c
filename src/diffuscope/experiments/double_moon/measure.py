r"""How near a field s is to the exact score s*: two numbers, defined here and used everywhere.

On a grid over the plane, of cells much smaller than the noised law is wide, with the exact density p and the shares
:math:`w_i = p(x_i) / \sum_j p(x_j)` (the trapezoid rule; only what lies beyond the grid is lost, some 1e-7 of the law):

*Centered relative error*, under the noised law (the exact score's mean is 0; what is subtracted is the error of the
quadrature),

.. math::  e = \left( \frac{\sum_i w_i |s_i - s^*_i|^2}{\sum_i w_i |s^*_i - \bar s^*|^2} \right)^{1/2}, \qquad
           \bar s^* = \sum_i w_i s^*_i .

*Direction cosine*: the plain mean of :math:`\cos_i = s_i \cdot s^*_i / |s_i||s^*_i|` over the points of the grid with
:math:`p(x_i) > 0.01 \max p`, every point counting the same. The same mean with weights :math:`w_i` stands beside it: it
is lower, for most of the law lies along the arcs, where the score is nearly 0 and its direction hangs on little. Grids
have an even number of points along each axis: at the center of symmetry the score is 0 and has no direction.

s = (1 + a) s* has e = |a| and cosine 1; s* turned by an angle has e = 2 sin(angle/2) and the angle's cosine.
"""

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from diffuscope.exact import Distribution

VISIBLE = 0.01  # of the largest density: where directions are compared
POINTS, COARSE = 120, 60  # of the grid along either axis; COARSE is enough for sums over the law
TAIL = 5.5  # deviations of noise that the grid reaches beyond the data


@dataclass(frozen=True, eq=False)
class Plane:
    """The noised law on a grid: density over its maximum, shares w, and the exact score."""

    x: Float[Tensor, " columns"]
    y: Float[Tensor, " rows"]
    points: Float[Tensor, "n 2"]
    density: Float[Tensor, " n"]
    share: Float[Tensor, " n"]
    score: Float[Tensor, "n 2"]

    @classmethod
    def of(cls, law: Distribution, sigma: float, jitter: float, points: int) -> "Plane":
        """Over the moons, [-1, 2] x [-1/2, 1], and TAIL deviations of jitter and noise beyond."""
        margin = TAIL * math.hypot(sigma, jitter)
        x = torch.linspace(-1 - margin, 2 + margin, points, dtype=torch.float64)
        y = torch.linspace(-0.5 - margin, 1 + margin, points, dtype=torch.float64)
        at = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1).reshape(-1, 2)
        log_density = law.log_prob(at, 1.0, sigma)
        density = (log_density - log_density.max()).exp()
        return cls(x, y, at, density, density / density.sum(), law.score(at, 1.0, sigma))

    @property
    def visible(self) -> Bool[Tensor, " n"]:
        """Where the density exceeds VISIBLE of its maximum."""
        return self.density > VISIBLE

    @property
    def edges(self) -> tuple[Tensor, Tensor]:
        """The edges of the cells around the points, along x and y."""
        return _edges(self.x), _edges(self.y)


@dataclass(frozen=True)
class Agreement:
    """A field beside the exact score: `cosine` over the grid's visible points, `law_cosine` with their shares."""

    error: float
    cosine: float
    law_cosine: float


def agreement(plane: Plane, score: Float[Tensor, "n 2"]) -> Agreement:
    """The measures above for the field `score` at the points of `plane`."""
    cosine, visible = cosines(plane, score), plane.visible
    return Agreement(
        relative_error(score, plane.score, plane.share),
        float(cosine[visible].mean()),
        float((plane.share * cosine)[visible].sum() / plane.share[visible].sum()),
    )


def relative_error(score: Float[Tensor, "n d"], exact: Float[Tensor, "n d"], share: Float[Tensor, " n"]) -> float:
    """e for shares that add up to 1."""
    centered = exact - share @ exact
    return math.sqrt(float(share @ (score - exact).square().sum(1)) / float(share @ centered.square().sum(1)))


def cosines(plane: Plane, score: Float[Tensor, "n 2"]) -> Float[Tensor, " n"]:
    """cos_i at every point."""
    return torch.nn.functional.cosine_similarity(score, plane.score, dim=1, eps=1e-300)


@dataclass(frozen=True, eq=False)
class Regions:
    """By the density over its maximum, between `edges`: rms error times sigma, and mean cosine."""

    edges: Float[Tensor, " bins_and_one"]
    noise_error: Float[Tensor, " bins"]
    cosine: Float[Tensor, " bins"]

    @property
    def centers(self) -> Float[Tensor, " bins"]:
        """Geometric, for an axis in logarithms."""
        return (self.edges[1:] * self.edges[:-1]).sqrt()


def by_density(plane: Plane, score: Float[Tensor, "n 2"], sigma: float, edges: Float[Tensor, " k"]) -> Regions:
    r"""The error of the predicted noise, :math:`\sigma|s - s^*|`, and the cosine, where p / max p lies between edges.

    Root mean square and mean over the points of the grid: over areas of the plane.
    """
    errors, cosine = sigma**2 * (score - plane.score).square().sum(1), cosines(plane, score)
    inside = [(plane.density > low) & (plane.density <= high) for low, high in pairwise(edges)]
    return Regions(
        edges,
        torch.stack([errors[region].mean().sqrt() for region in inside]),
        torch.stack([cosine[region].mean() for region in inside]),
    )


def _edges(centers: Tensor) -> Tensor:
    half = (centers[1] - centers[0]) / 2
    return torch.cat([centers - half, centers[-1:] + half])
