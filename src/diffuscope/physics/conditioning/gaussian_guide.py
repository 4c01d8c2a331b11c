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
from diffuscope.exact.distribution import one_for_all
from diffuscope.memory import chunk_size
from diffuscope.physics.observed import Observed
from diffuscope.physics.regression import Regression, require_consistent

from .conditioned import Conditioned

KEPT = 2**28  # bytes of factorizations that are kept for the next call


@dataclass(frozen=True, eq=False)
class GaussianGuide(Conditioned):
    """E[x_0 | x_t, y] for an `ExactDenoiser` of a Gaussian and a LinearObservation, r >= 0.

    One singular value decomposition (m x k) per noise level, which is kept; y may differ from sample to sample.
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
        seen = self._seen
        require_consistent(seen.contradiction(self.y.to(seen.H).reshape(-1, len(seen.H))), "the prior")

    @cached_property
    def _seen(self) -> Observed:
        if not (isinstance(self.denoiser, ExactDenoiser) and isinstance(self.denoiser.distribution, Gaussian)):
            raise InputError("denoiser: expected the ExactDenoiser of a Gaussian")
        return Observed(self.denoiser.distribution, self.linear)

    @cached_property
    def _kept(self) -> dict[tuple[float, float], tuple[Tensor, Regression]]:
        return {}

    def __call__(self, x_t: Batch, t: BatchTime) -> Batch:
        """D_y(x_t)."""
        alphas, sigmas = self.levels(x_t, t)
        y, D = self.targets(x_t), self.denoiser(x_t.double(), t).flatten(1)
        e = y - D @ self._seen.H.T
        if len(one_for_all(alphas)) == len(one_for_all(sigmas)) == 1:
            correction = self._correction(e, float(alphas[0]), float(sigmas[0]))
        else:
            correction = torch.zeros_like(D)
            levels, which = torch.stack([alphas, sigmas], 1).unique(dim=0, return_inverse=True)
            for j, (alpha, sigma) in enumerate(levels.tolist()):
                rows = (which == j).nonzero()[:, 0]
                correction = correction.index_copy(0, rows, self._correction(e[rows], alpha, sigma))
        return (D + correction).reshape(x_t.shape).to(x_t.dtype)

    def _correction(self, e: Tensor, alpha: float, sigma: float) -> Tensor:
        """C H^T (H C H^T + r^2)^-1 e."""
        seen = self._seen
        deviations, regression = self._factors(alpha, sigma)
        return seen.fields(regression, deviations, e)

    def _factors(self, alpha: float, sigma: float) -> tuple[Tensor, Regression]:
        """The standard deviations of x_0 given x_t along the vectors, and the regression on them."""
        seen, kept = self._seen, self._kept
        if (alpha, sigma) not in kept:
            (m, k), variances = seen.HV.shape, seen.variances
            while len(kept) >= chunk_size(KEPT, each=8 * (m + k) * min(m, k)):
                kept.pop(next(iter(kept)))
            deviations = (variances * sigma**2 / (alpha**2 * variances + sigma**2)).sqrt()
            kept[alpha, sigma] = (deviations, seen.regression_of(deviations))
        return kept[alpha, sigma]
