r"""A Gaussian prior in the coordinates that a linear observation sees, and its posterior.

Of :math:`N(\mu, U\Lambda U^T + \tau(I - UU^T))` the observation y = H x + r eps sees the coordinates along U and, where
:math:`\tau > 0`, the range of :math:`(I - UU^T)H^T`, an orthonormal basis of which joins U with eigenvalue
:math:`\tau`: let V, of k columns, be both, with variances :math:`\Lambda`. Then
:math:`x = \mu + V\Lambda^{1/2} z` (+ the tail, unobserved), and z is a `regression` with
:math:`A = H V \Lambda^{1/2}`:

.. math::
    \mu_y = \mu + V\Lambda^{1/2} E[z], \qquad
    \Sigma_y = (V\Lambda^{1/2} R)(V\Lambda^{1/2} R)^T + \tau(I - VV^T), \quad R R^T = \mathrm{Cov}[z] .

The eigenpairs of :math:`\Sigma_y` are V times the left singular vectors, and the squared singular values, of the k x k
matrix :math:`\Lambda^{1/2}R`: D enters only in products with V, and no covariance is subtracted from another.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.exact import Gaussian

from .observations import LinearObservation
from .regression import Regression, contradiction


class Observed:
    """A Gaussian prior in the coordinates that a linear observation sees."""

    def __init__(self, prior: Gaussian, observation: LinearObservation) -> None:
        self.prior, self.H, self.noise = prior, observation.matrix.to(prior.mean.device), float(observation.noise)
        self.vectors, self.variances = observed_basis(prior, self.H)
        self.tail = prior.tail_variance if self.vectors.shape[1] < prior.dimension else 0.0
        self.HV, self.size = self.H @ self.vectors, self.H.abs() @ self.vectors.abs()
        self.regression = self.regression_of(self.variances.sqrt())

    def regression_of(self, deviations: Float[Tensor, " k"]) -> Regression:
        """The regression where the coordinates along the vectors have these standard deviations."""
        return Regression.of(self.HV, self.size, deviations, self.noise)

    def fields(
        self, regression: Regression, deviations: Float[Tensor, " k"], e: Float[Tensor, "batch m"]
    ) -> Float[Tensor, "batch D"]:
        """V diag(deviations) E[z | e]: what a misfit e says of the field."""
        z = regression.mean(e)
        if self.noise == 0:  # once more for what rounding has left of the constraint
            z = z + regression.mean(e - (z * deviations) @ self.HV.T)
        return (z * deviations) @ self.vectors.T

    def misfit(self, y: Float[Tensor, "batch m"]) -> Float[Tensor, "batch m"]:
        """y - H mu."""
        return y - self.H @ self.prior.mean.flatten()

    def contradiction(self, y: Float[Tensor, "batch m"]) -> Float[Tensor, " batch"]:
        """How far a hard constraint is from what the prior allows; 0 up to rounding."""
        scale = y.abs() + self.H.abs() @ self.prior.mean.flatten().abs()
        return contradiction(self.regression, self.misfit(y), scale)

    def log_evidence(self, y: Float[Tensor, "batch m"]) -> Float[Tensor, " batch"]:
        """log N(y; H mu, H Sigma H^T + r^2 I)."""
        return self.regression.log_evidence(self.misfit(y))

    def mean(self, y: Float[Tensor, "batch m"]) -> Float[Tensor, "batch D"]:
        """The posterior means, one per y."""
        return self.prior.mean.flatten() + self.fields(self.regression, self.variances.sqrt(), self.misfit(y))

    def posterior(self, y: Float[Tensor, " m"]) -> Gaussian:
        """N(mu_y, Sigma_y)."""
        q, right = self.regression.rank, self.regression.right
        complete = torch.linalg.qr(right, mode="complete")[0]
        spread = torch.cat([right * self.regression.deviations, complete[:, q:]], 1)
        left, values, _ = torch.linalg.svd(self.variances.sqrt()[:, None] * spread)
        variances = values**2
        if self.noise == 0:
            variances[len(values) - q :] = 0.0  # q directions are known: their variance is zero, not rounding
        kept = len(values) if self.tail > 0 else int((variances > 0).sum())
        return Gaussian(
            self.mean(y[None])[0].reshape(self.prior.event_shape),
            self.vectors @ left[:, :kept],
            variances[:kept],
            self.tail,
            data_range=self.prior.data_range,
        )


def observed_basis(prior: Gaussian, H: Tensor) -> tuple[Tensor, Tensor]:
    """U and Lambda, extended by the directions of the tail that H sees."""
    U, variances = prior.eigenvectors, prior.eigenvalues
    if prior.tail_variance == 0 or U.shape[1] == prior.dimension or not len(H):
        return U, variances
    rows = H / H.norm(dim=1, keepdim=True).clamp_min(torch.finfo(H.dtype).tiny)
    beside = (rows - (rows @ U) @ U.T).T
    left, values, _ = torch.linalg.svd(beside, full_matrices=False)
    seen = left[:, values > max(H.shape) * torch.finfo(H.dtype).eps * math.sqrt(len(H))]
    seen = torch.linalg.qr(seen - U @ (U.T @ seen))[0]  # orthogonal to U also where little was left beside it
    return torch.cat([U, seen], 1), torch.cat([variances, variances.new_full((seen.shape[1],), prior.tail_variance)])
