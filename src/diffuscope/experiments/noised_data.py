r"""Data with Gaussian noise of level t added, as plain differentiable functions of state and noise level.

Of a mixture, :math:`p = \sum_i w_i\,\mathcal N(m_i, \tau_i)` with :math:`\tau_i = v_i + t^2`, and of a finite data set,
where :math:`v_i = 0`, with the posterior weights r_i and :math:`g_i = (m_i - x)/\tau_i`,

.. math::  s = \sum_i r_i g_i, \qquad \nabla\cdot s = \sum_i r_i (|g_i|^2 - d/\tau_i) - |s|^2 .

Of a ring of radius R and width :math:`\sigma_0`, with :math:`\tau = \sigma_0^2 + t^2`,

.. math::  s = \frac{x}{r}\cdot\frac{R\,I_1(R r/\tau)/I_0(R r/\tau) - r}{\tau} .

Derivatives by autograd exist to any order, which most likely paths need and the distributions of `exact` do not have.
"""

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor


@runtime_checkable
class Noised(Protocol):
    """Data with noise t added: log p and its first two derivatives at states (n, d) and noise levels (n,)."""

    def log_prob(self, x: Tensor, t: Tensor) -> Float[Tensor, " n"]:
        """log p(x, t)."""
        ...

    def score(self, x: Tensor, t: Tensor) -> Float[Tensor, "n d"]:
        """s."""
        ...


@dataclass(frozen=True)
class Ring:
    """A ring with Gaussian width, by Bessel functions, scaled so that they do not overflow."""

    radius: float = 5.0
    width: float = 0.55

    def log_prob(self, x: Tensor, t: Tensor) -> Float[Tensor, " n"]:
        """log p(x, t)."""
        r, variance = x.norm(dim=1), self.width**2 + t**2
        scaled = torch.special.i0e(self.radius * r / variance).log()
        return scaled - (r - self.radius) ** 2 / (2 * variance) - (2 * math.pi * variance).log()

    def score(self, x: Tensor, t: Tensor) -> Float[Tensor, "n 2"]:
        """s, which points along x."""
        r, variance = x.norm(dim=1), self.width**2 + t**2
        z = self.radius * r / variance
        outward = (self.radius * torch.special.i1e(z) / torch.special.i0e(z) - r) / variance
        return x * (outward / r)[:, None]


@dataclass(frozen=True, eq=False)
class Mixture:
    """Isotropic modes of equal weights; with vanishing variances a finite data set."""

    means: Float[Tensor, "modes d"]
    variances: Float[Tensor, " modes"]

    def log_prob(self, x: Tensor, t: Tensor) -> Float[Tensor, " n"]:
        """log p(x, t)."""
        return self._terms(x, t)[0].logsumexp(1) - math.log(len(self.means))

    def score(self, x: Tensor, t: Tensor) -> Float[Tensor, "n d"]:
        """s."""
        terms, variance, _ = self._terms(x, t)
        r = terms.softmax(1) / variance
        return r @ self.means - r.sum(1, keepdim=True) * x

    def divergence(self, x: Tensor, t: Tensor) -> Float[Tensor, " n"]:
        """Of s."""
        terms, variance, square = self._terms(x, t)
        curvature = square / variance**2 - x.shape[1] / variance
        return (terms.softmax(1) * curvature).sum(1) - self.score(x, t).square().sum(1)

    def _terms(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        variance = self.variances + t[:, None] ** 2
        square = x.square().sum(1, keepdim=True) + self.means.square().sum(1) - 2 * x @ self.means.T
        return -square / (2 * variance) - x.shape[1] / 2 * (2 * math.pi * variance).log(), variance, square
