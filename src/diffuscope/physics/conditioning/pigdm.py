r"""Pseudoinverse guidance: the covariance of the denoised field taken as that of white unit-variance data.

For data N(m, v I) the posterior covariance given :math:`x_t = \alpha x_0 + \sigma\varepsilon` is

.. math::  C_t = r_t^2 I, \qquad r_t^2 = \frac{v\sigma^2}{\alpha^2 v + \sigma^2}
           \quad (v = 1,\ \text{VE: } \sigma^2/(1 + \sigma^2)) .

With it in place of :math:`C_t` inside the likelihood, and the denoiser's own Jacobian outside,

.. math::
    D_y = D + \frac{\sigma^2}{\alpha}\nabla D^T H^T (r_t^2 H H^T + r^2 I)^{-1} (y - H D) .

Exact for data N(m, v I). Where the fields are smooth, r_t^2 I is too small along large modes (y is trusted too early)
and too large along the others. For r = 0 the inverse is the pseudo-inverse. Without the factors that the paper adds
for a particular sampler.

Source: Song, Vahdat, Mardani & Kautz 2023, *Pseudoinverse-guided diffusion models for inverse problems* (ICLR).
"""

from dataclasses import dataclass
from functools import cached_property

from diffuscope.denoisers import Batch, BatchTime
from diffuscope.errors import InputError
from diffuscope.physics.regression import Regression

from .conditioned import Conditioned
from .products import linearized


@dataclass(frozen=True, eq=False)
class PiGDM(Conditioned):
    """The denoiser guided with C_t = r_t^2 I, for a linear observation, r >= 0; `variance` is v.

    Raises InputError for an observation that is not linear and a variance that is not positive.

    >>> import torch
    >>> from diffuscope.denoisers import ExactDenoiser
    >>> from diffuscope.exact import Gaussian
    >>> from diffuscope.physics import PiGDM, at_nodes
    >>> from diffuscope.schedules import RectifiedFlow
    >>> prior = ExactDenoiser(Gaussian.isotropic(torch.zeros(1), 3.0), RectifiedFlow())  # at 0.5: D = 1.5 x_t, C = 3/4
    >>> guided = PiGDM(prior, at_nodes(torch.tensor([0]), (1,), noise=0.5), torch.tensor([7.0]))  # r_t^2 = 0.5
    >>> round(float(guided(torch.tensor([[2.0]]), 0.5)), 6)  # 3 + 0.75 (7 - 3) / (0.5 + 0.25)
    7.0
    """

    variance: float | int = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.variance < float("inf"):
            raise InputError(f"variance: expected a finite number > 0, got {self.variance}")
        self.linear  # noqa: B018  (refuses an observation that is not)

    @cached_property
    def _factors(self) -> Regression:
        H = self.linear.matrix
        return Regression.of(H, H.abs(), H.new_ones(H.shape[1]), 1.0)  # the rows are not scaled

    def __call__(self, x_t: Batch, t: BatchTime) -> Batch:
        """D_y(x_t)."""
        alphas, sigmas = self.levels(x_t, t)
        H, r, factors = self.linear, self.observation.noise, self._factors
        at = linearized(self, x_t, t)
        e = self.targets(x_t) - H(at.denoised.double())
        r_t2 = self.variance * sigmas**2 / (alphas**2 * self.variance + sigmas**2)
        left, values = factors.left.to(e), factors.values.to(e)
        u = ((e @ left) / (r_t2[:, None] * values**2 + r**2)) @ left.T  # what is beside `left`, H^T does not see
        return at.denoised + at.transposed(H.adjoint(u).to(at.denoised)).to(x_t.dtype)
