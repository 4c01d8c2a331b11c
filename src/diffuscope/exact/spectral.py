r"""Covariances kept as eigenpairs with a constant tail, for one Gaussian or for many at once.

.. math::  \Sigma_j = U_j \Lambda_j U_j^T + \tau_j (I - U_j U_j^T), \qquad j = 1 \dots K,

with U_j of shape (D, r) orthonormal. Any function h of it acts as
:math:`h(\Sigma) e = U h(\Lambda) U^T e + h(\tau)(e - U U^T e)`: cost O(D r), never a D x D matrix, and nothing cancels
because the complement is formed explicitly.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
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

    def split(self, e: Float[Tensor, "B K D"]) -> tuple[Float[Tensor, "B K r"], Float[Tensor, "B K D"]]:
        """Coordinates U^T e in the eigenbasis, and the rest e - U U^T e."""
        coordinates = torch.einsum("bkd,kdr->bkr", e, self.eigenvectors)
        return coordinates, e - self.join(coordinates)

    def join(self, coordinates: Float[Tensor, "B K r"]) -> Float[Tensor, "B K D"]:
        """U c."""
        return torch.einsum("bkr,kdr->bkd", coordinates, self.eigenvectors)

    def at(
        self, alpha: Float[Tensor, " B"], sigma: Float[Tensor, " B"]
    ) -> tuple[Float[Tensor, "B K r"], Float[Tensor, "B K"]]:
        """Variances of the noised law alpha^2 Sigma + sigma^2 I: along the eigenvectors, and in the tail."""
        a2, s2 = alpha[:, None] ** 2, sigma[:, None] ** 2
        return a2[..., None] * self.eigenvalues + s2[..., None], a2 * self.tail_variance + s2


def top_eigenpairs(
    covariance: Float[Tensor, "D D"], rank: int | None
) -> tuple[Float[Tensor, "D r"], Float[Tensor, " r"], float]:
    """The `rank` largest eigenpairs, largest first, and the mean of the remaining eigenvalues.

    At full rank nothing remains; the tail is then the smallest eigenvalue, so that rounding noise in the empty
    complement is never amplified.
    """
    eigenvalues, eigenvectors = torch.linalg.eigh(covariance)
    eigenvalues, eigenvectors = eigenvalues.flip(0).clamp(min=0), eigenvectors.flip(1)
    if rank is None or rank >= len(eigenvalues):
        return eigenvectors, eigenvalues, float(eigenvalues[-1])
    return eigenvectors[:, :rank], eigenvalues[:rank], float(eigenvalues[rank:].mean())
