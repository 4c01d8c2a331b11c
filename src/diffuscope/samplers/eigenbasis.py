r"""States whitened by a Gaussian: coordinates that are constant along its probability flow.

In the eigenbasis of :math:`\Sigma` (eigenvalues :math:`\lambda_k`) write

.. math::  z_k = \frac{u_k^T(x_t - \alpha\mu)}{\sqrt{\alpha^2\lambda_k + \sigma^2}} .

Gaussian data move along z = constant. For a model with denoiser D only the residual :math:`\Delta = D - D_G` moves z,

.. math::  \frac{dz_k}{dw} = \frac{u_k^T\Delta}{\sqrt{1 + \lambda_k w^2}}, \qquad w = \alpha/\sigma ,

in every schedule, also from alpha = 0 (w = 0). A residual that is constant over a step therefore adds
:math:`\kappa_k\, u_k^T\Delta` with

.. math::  \kappa_k(w_a, w_b) = \int_{w_a}^{w_b}\frac{dw}{\sqrt{1 + \lambda_k w^2}}
           = \frac{\operatorname{asinh}(\sqrt{\lambda_k} w_b) - \operatorname{asinh}(\sqrt{\lambda_k} w_a)}
                  {\sqrt{\lambda_k}} .

The Gaussian's own denoiser is :math:`u_k^T(D_G - \mu) = \alpha\lambda_k z_k/\sqrt{\alpha^2\lambda_k + \sigma^2}` at
every time of the flow through z.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.exact import Gaussian

from .schedule_values import Instant

FLAT = 1e-8  # asinh(r)/r differs from 1 by r^2/6, which float64 does not see


@dataclass(frozen=True, eq=False)
class Eigenbasis:
    """Rows of D numbers as m coordinates: k along the eigenvectors and, if k < D, the D of the orthogonal complement.

    A function of Sigma multiplies coordinate by coordinate; `variances` holds the eigenvalue of each.
    """

    mean: Float[Tensor, " D"]
    vectors: Float[Tensor, "D k"]
    variances: Float[Tensor, " m"]

    @classmethod
    def of(cls, gaussian: Gaussian, device: torch.device | None = None) -> "Eigenbasis":
        """The eigenbasis of the Gaussian's covariance, float64."""
        rest = gaussian.dimension if len(gaussian.eigenvalues) < gaussian.dimension else 0
        variances = torch.cat([gaussian.eigenvalues, gaussian.eigenvalues.new_full((rest,), gaussian.tail_variance)])
        return cls(gaussian.mean.flatten().to(device), gaussian.eigenvectors.to(device), variances.to(device))

    def to(self, like: Tensor) -> "Eigenbasis":
        """The same basis in the dtype and on the device of `like`."""
        return Eigenbasis(self.mean.to(like), self.vectors.to(like), self.variances.to(like))

    def coordinates(self, rows: Float[Tensor, "B D"]) -> Float[Tensor, "B m"]:
        """U^T e, followed at low rank by e - U U^T e."""
        along = rows @ self.vectors
        if len(self.variances) == self.vectors.shape[1]:
            return along
        return torch.cat([along, rows - along @ self.vectors.T], dim=1)

    def rows(self, coordinates: Float[Tensor, "B m"]) -> Float[Tensor, "B D"]:
        """The inverse of `coordinates`."""
        k = self.vectors.shape[1]
        along = coordinates[:, :k] @ self.vectors.T
        return along if len(self.variances) == k else along + coordinates[:, k:]

    def coordinates_about(self, origin: Float[Tensor, "1 m"], rows: Float[Tensor, "B D"]) -> Float[Tensor, "B m"]:
        """`coordinates(rows) - origin`, in one product where the basis is complete."""
        if len(self.variances) == self.vectors.shape[1]:
            return torch.addmm(origin, rows, self.vectors, beta=-1)
        return self.coordinates(rows) - origin

    def rows_about(self, origin: Float[Tensor, "1 D"], coordinates: Float[Tensor, "B m"]) -> Float[Tensor, "B D"]:
        """`origin + rows(coordinates)`, likewise."""
        if len(self.variances) == self.vectors.shape[1]:
            return torch.addmm(origin, coordinates, self.vectors.T)
        return origin + self.rows(coordinates)

    def spread(self, at: Instant) -> Float[Tensor, " m"]:
        """sqrt(alpha^2 lambda + sigma^2): the standard deviation of every coordinate of x_t."""
        return (at.alpha**2 * self.variances + at.sigma**2).sqrt()

    def gain(self, at: Instant) -> Float[Tensor, " m"]:
        """alpha lambda / sqrt(alpha^2 lambda + sigma^2): from z to the Gaussian's denoiser at the instant `at`."""
        return at.alpha * self.variances / self.spread(at)

    def kernel(self, a: Instant, b: Instant) -> Float[Tensor, " m"]:
        """kappa(w_a, w_b); needs sigma > 0 at both and alpha(b) > 0."""
        w_a, w_b = a.alpha / a.sigma, b.alpha / b.sigma
        root = self.variances.sqrt().clamp(min=FLAT / w_b)
        return ((root * w_b).asinh() - (root * w_a).asinh()) / root

    def gain_at(self, lam: float) -> Float[Tensor, " m"]:
        """`gain` at log(alpha/sigma) = `lam`, in any schedule: lambda w / sqrt(1 + lambda w^2)."""
        w = math.exp(lam)
        return self.variances * w / (1 + self.variances * w**2).sqrt()
