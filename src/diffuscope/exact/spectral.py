r"""Covariances stored as eigenpairs with a constant tail, for one Gaussian or for many at once.

.. math::  \Sigma_j = U_j \Lambda_j U_j^T + \tau_j (I - U_j U_j^T), \qquad j = 1 \dots K,

where U_j, of shape (D, r), is orthonormal. Any function h of it acts as

.. math::  h(\Sigma) e = h(\tau)\, e + U \left[h(\Lambda) - h(\tau)\right] U^T e,

two products of cost O(D r), never a D x D matrix; the rounding error is that of float64 times max |h|, as if the
complement e - U U^T e were formed first. The complement is formed only where its size matters, in the density of
x_t = alpha x_0 + sigma eps about its mean:

.. math::
    -2 \log N(e; 0, \alpha^2\Sigma + \sigma^2) = \sum_k \frac{(u_k^T e)^2}{\alpha^2\lambda_k + \sigma^2}
      + \frac{|e - U U^T e|^2}{\alpha^2\tau + \sigma^2} + \sum_k \log(\alpha^2\lambda_k + \sigma^2)
      + (D - r)\log(\alpha^2\tau + \sigma^2) + D \log 2\pi .
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.errors import InputError

from .distribution import one_for_all

LOG_2PI = math.log(2 * math.pi)
LARGEST_DENSE = 4096  # dimensions beyond which fits form no D x D matrix: 134 MB, and D^3 operations for its eigenpairs


@dataclass(frozen=True, eq=False)
class Spectrum:
    """K covariances in dimension D as their top r eigenpairs and a tail variance, all float64."""

    eigenvectors: Float[Tensor, "K D r"]
    eigenvalues: Float[Tensor, "K r"]
    tail_variance: Float[Tensor, " K"]

    @property
    def dimension(self) -> int:
        return self.eigenvectors.shape[1]

    @property
    def rank(self) -> int:
        return self.eigenvectors.shape[2]

    def coordinates(self, e: Float[Tensor, "B K D"]) -> Float[Tensor, "B K r"]:
        """U^T e."""
        if not self.rank:  # an isotropic mixture asks this in every evaluation
            return e.new_zeros(e.shape[0], len(self.eigenvectors), 0)
        return torch.einsum("bkd,kdr->bkr", e, self.eigenvectors)

    def join(self, coordinates: Float[Tensor, "B K r"]) -> Float[Tensor, "B K D"]:
        """U c."""
        if not self.rank:
            return coordinates.new_zeros(*coordinates.shape[:2], self.dimension)
        return torch.einsum("bkr,kdr->bkd", coordinates, self.eigenvectors)

    def split(self, e: Float[Tensor, "B K D"]) -> tuple[Float[Tensor, "B K r"], Float[Tensor, "B K D"]]:
        """Coordinates c = U^T e in the eigenbasis, and the rest e - U c (exactly zero at full rank)."""
        coordinates = self.coordinates(e)
        if self.rank == self.dimension:
            return coordinates, e.new_zeros(()).expand_as(e)
        return coordinates, e - self.join(coordinates)

    def apply(
        self, e: Float[Tensor, "B K D"], along: Float[Tensor, "#B K r"], tail: Float[Tensor, "#B K"]
    ) -> Float[Tensor, "B K D"]:
        """h(Sigma) e, given the values of h `along` the eigenvectors and in the `tail` (per sample or for all)."""
        if self.rank == self.dimension:  # no tail: its value, which may be far larger, must not enter the sum
            return self.join(along * self.coordinates(e))
        return self.join((along - tail[..., None]) * self.coordinates(e)) + tail[..., None] * e

    def at(
        self, alpha: Float[Tensor, " B"], sigma: Float[Tensor, " B"]
    ) -> tuple[Float[Tensor, "#B K r"], Float[Tensor, "#B K"]]:
        """Variances of the noised distribution alpha^2 Sigma + sigma^2 I: along the eigenvectors, and in the tail.

        One row for all samples where they share one level, to be broadcast.
        """
        a2, s2 = one_for_all(alpha)[:, None] ** 2, one_for_all(sigma)[:, None] ** 2
        return a2[..., None] * self.eigenvalues + s2[..., None], a2 * self.tail_variance + s2

    def log_prob(
        self,
        coordinates: Float[Tensor, "B K r"],
        rest: Float[Tensor, "B K D"],
        spread: Float[Tensor, "#B K r"],
        tail: Float[Tensor, "#B K"],
    ) -> Float[Tensor, "B K"]:
        """log N(e; 0, alpha^2 Sigma_j + sigma^2 I) for every j, in nats, from the `split` of e and the variances `at`
        the levels.
        """
        twice = (coordinates**2 / spread + spread.log()).sum(-1) + self.dimension * LOG_2PI
        if self.rank < self.dimension:
            twice = twice + (rest**2).sum(-1) / tail + (self.dimension - self.rank) * tail.log()
        return -twice / 2


def top_eigenpairs(
    covariance: Float[Tensor, "D D"], rank: int | None
) -> tuple[Float[Tensor, "D r"], Float[Tensor, " r"], float]:
    """The `rank` largest eigenpairs, largest first, and the mean of the remaining eigenvalues.

    Negative eigenvalues, which are rounding, become zero. `rank` None or beyond D means all D; the tail is then the
    smallest eigenvalue. Raises InputError for a negative rank.
    """
    if rank is not None and rank < 0:
        raise InputError(f"rank: expected at least 0 (isotropic), got {rank}")
    eigenvalues, eigenvectors = torch.linalg.eigh(covariance)
    eigenvalues, eigenvectors = eigenvalues.flip(0).clamp(min=0), eigenvectors.flip(1)
    if rank is None or rank >= len(eigenvalues):
        return eigenvectors, eigenvalues, float(eigenvalues[-1])
    return eigenvectors[:, :rank].contiguous(), eigenvalues[:rank], float(eigenvalues[rank:].mean())
