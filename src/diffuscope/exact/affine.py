r"""An exact distribution in other units: x_0 = scale c + shift, where the diffusion of c is known.

Then :math:`x_t - \alpha\,\mathrm{shift} = (\alpha\,\mathrm{scale})\, c + \sigma\varepsilon` is the diffusion of c at
:math:`(\alpha\,\mathrm{scale}, \sigma)`: log density and score are those of c there, and

.. math::
    D = \mathrm{scale}\, D_c + \mathrm{shift}, \qquad \mathrm{Cov}(x_0|x_t) = \mathrm{scale}^2\, C_c .

This is the distribution of a data set after mapping its values to a model's range.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.errors import InputError

from .distribution import Batch, Distribution, Level, PosteriorCovariance, checked_levels, over_events


@dataclass(frozen=True, eq=False)
class Affine:
    """The distribution of scale c + shift for c from `distribution`.

    Raises InputError unless scale > 0, and both are finite.

    >>> import torch
    >>> from diffuscope.exact import Affine, Gaussian
    >>> data = Affine(Gaussian.isotropic(torch.ones(1), 0.25), scale=2.0, shift=3.0)  # N(5, 1)
    >>> x_t = torch.tensor([[12.0]], dtype=torch.float64)
    >>> round(data.denoise(x_t, alpha=2.0, sigma=1.0).item(), 6)  # 5 + 2 (12 - 10) / (4 + 1)
    5.8
    >>> round(data.posterior_covariance(x_t, alpha=2.0, sigma=1.0).trace().item(), 6)  # 1 / (4 + 1)
    0.2
    """

    distribution: Distribution
    scale: float | int
    shift: float | int

    def __post_init__(self) -> None:
        if not (math.isfinite(self.scale) and self.scale > 0):
            raise InputError(f"scale: expected a finite number > 0, got {self.scale}")
        if not math.isfinite(self.shift):
            raise InputError(f"shift: expected a finite number, got {self.shift}")

    @property
    def event_shape(self) -> tuple[int, ...]:
        """That of `distribution`."""
        return tuple(self.distribution.event_shape)

    def sample(self, n: int, *, generator: torch.Generator) -> Float[Tensor, "n *event"]:
        """Independent draws, float64."""
        return self.scale * self.distribution.sample(n, generator=generator).double() + self.shift

    def denoise(self, x_t: Batch, alpha: Level, sigma: Level) -> Batch:
        """scale D_c + shift."""
        return (self.scale * self.distribution.denoise(*self._of_c(x_t, alpha, sigma)) + self.shift).to(x_t.dtype)

    def score(self, x_t: Batch, alpha: Level, sigma: Level) -> Batch:
        """The score of `distribution` at (alpha scale, sigma)."""
        return self.distribution.score(*self._of_c(x_t, alpha, sigma)).to(x_t.dtype)

    def log_prob(self, x_t: Batch, alpha: Level, sigma: Level) -> Float[Tensor, " batch"]:
        """The log density of `distribution` at (alpha scale, sigma), in nats."""
        return self.distribution.log_prob(*self._of_c(x_t, alpha, sigma)).to(x_t.dtype)

    def posterior_covariance(self, x_t: Batch, alpha: Level, sigma: Level) -> "AffineCovariance":
        """scale^2 C_c."""
        covariance = self.distribution.posterior_covariance(*self._of_c(x_t, alpha, sigma))
        return AffineCovariance(covariance, self.scale**2, x_t.dtype)

    def _of_c(self, x_t: Tensor, alpha: Level, sigma: Level) -> tuple[Tensor, Tensor, Tensor]:
        """The noised c, with its alpha and sigma."""
        alphas, sigmas = checked_levels(x_t, alpha, sigma, self.event_shape)
        x = x_t.double()
        return x - self.shift * over_events(alphas, x), alphas * self.scale, sigmas


@dataclass(frozen=True, eq=False)
class AffineCovariance:
    """`covariance` times a number."""

    covariance: PosteriorCovariance
    factor: float | int
    dtype: torch.dtype

    def matvec(self, v: Batch) -> Batch:
        """Cov(x_0 | x_t) v."""
        return (self.factor * self.covariance.matvec(v.double())).to(self.dtype)

    def trace(self) -> Float[Tensor, " batch"]:
        """The summed posterior variance."""
        return (self.factor * self.covariance.trace()).to(self.dtype)

    def diagonal(self) -> Batch:
        """The posterior variance of every coordinate."""
        return (self.factor * self.covariance.diagonal()).to(self.dtype)
