r"""The exact denoiser of a Gaussian given a linear observation, as a correction of the prior's denoiser.

For a Gaussian :math:`x_0`, given :math:`x_t` it is Gaussian with mean :math:`D(x_t)` and a covariance :math:`C_t` that
does not depend on :math:`x_t`. The noise of y = H x_0 + r eps is independent of that of :math:`x_t`, hence

.. math::
    D_y(x_t) = E[x_0 \mid x_t, y] = D + C_t H^T (H C_t H^T + r^2 I)^{-1} (y - H D) .

In terms of scores it adds :math:`\nabla_{x_t} \log N(y; H D, H C_t H^T + r^2 I)`, since
:math:`\nabla D = (\alpha/\sigma^2)\, C_t`. DPS leaves the first covariance out. With :math:`C_t = L L^T` the correction
is L E[z | y - H D] for the `regression` with A = H L: nothing is subtracted, and r = 0 is exact.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from diffuscope.denoisers import Batch, BatchTime, ExactDenoiser
from diffuscope.errors import InputError
from diffuscope.exact import Gaussian
from diffuscope.physics.posterior import Observed
from diffuscope.physics.regression import Regression, require_consistent

from .conditioned import Conditioned

KEPT = 256  # noise levels whose factorization is kept


@dataclass(frozen=True, eq=False)
class GaussianGuide(Conditioned):
    """E[x_0 | x_t, y] for an `ExactDenoiser` of a Gaussian and a LinearObservation, r >= 0.

    The m x k factorization of a noise level is kept for the next call; y may differ from sample to sample.
    Raises InputError for other denoisers and observations, and where y contradicts the prior and r = 0.

    >>> from diffuscope.physics import at_nodes
    >>> from diffuscope.schedules import VE
    >>> prior = ExactDenoiser(Gaussian.isotropic(torch.zeros(1), 1.0), VE())
    >>> guide = GaussianGuide(prior, at_nodes(torch.tensor([0]), (1,), noise=0.3), torch.tensor([1.0]))
    >>> round(float(guide(torch.zeros(1, 1), 100.0)), 3)  # all noise: the mean of the posterior
    0.917
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        observation = self.require_linear()
        if not (isinstance(self.denoiser, ExactDenoiser) and isinstance(self.denoiser.distribution, Gaussian)):
            raise InputError("denoiser: expected the ExactDenoiser of a Gaussian")
        seen = Observed(self.denoiser.distribution, observation)
        object.__setattr__(self, "_seen", seen)
        y = self.y.to(seen.H).reshape(-1, len(seen.H))
        require_consistent(seen.contradiction(y), "the prior")

    @cached_property
    def _levels(self) -> dict[tuple[float, float], tuple[Tensor, Regression]]:
        return {}

    def __call__(self, x_t: Batch, t: BatchTime) -> Batch:
        """D_y(x_t)."""
        alphas, sigmas = self.levels(x_t, t)
        y = self.targets(x_t)
        D = self.denoiser(x_t.double(), t)
        rows = D.flatten(1)
        pairs, which = torch.stack([alphas, sigmas], 1).unique(dim=0, return_inverse=True)
        out = rows
        for j, (alpha, sigma) in enumerate(pairs.tolist()):
            if len(pairs) == 1:
                out = rows + self._correction(rows, y, alpha, sigma)
            else:
                index = (which == j).nonzero()[:, 0]
                part = self._correction(rows[index], y if len(y) == 1 else y[index], alpha, sigma)
                out = out.index_add(0, index, part)
        return out.reshape(x_t.shape).to(x_t.dtype)

    def _correction(self, D: Tensor, y: Tensor, alpha: float, sigma: float) -> Tensor:
        """C H^T (H C H^T + r^2)^-1 (y - H D)."""
        seen: Observed = self._seen
        root, regression = self._factors(alpha, sigma)
        e = y - D @ seen.H.T
        z = regression.mean(e)
        if seen.noise == 0:
            z = z + regression.mean(e - (z * root) @ seen.HV.T)
        return (z * root) @ seen.vectors.T

    def _factors(self, alpha: float, sigma: float) -> tuple[Tensor, Regression]:
        """The standard deviations of x_0 given x_t along the vectors, and the regression on them."""
        kept = self._levels
        if (alpha, sigma) not in kept:
            if len(kept) >= KEPT:
                kept.pop(next(iter(kept)))
            variances = self._seen.variances
            posterior = variances * sigma**2 / (alpha**2 * variances + sigma**2)
            kept[alpha, sigma] = (posterior.sqrt(), self._seen.at(posterior))
        return kept[alpha, sigma]
