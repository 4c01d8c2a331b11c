r"""A distribution with Gaussian jitter: x_0 = c + tau z, where the diffusion of c is known.

Jitter and noise add up to noise of standard deviation :math:`\rho = \sqrt{\alpha^2\tau^2 + \sigma^2}` about
:math:`\alpha c`, so that log density and score are those of c at :math:`(\alpha, \rho)`, and with the denoiser
:math:`D_c` and the posterior covariance :math:`C_c` there

.. math::
    D = \frac{\sigma^2}{\rho^2}\, D_c + \frac{\alpha\tau^2}{\rho^2}\, x_t, \qquad
    \mathrm{Cov}(x_0|x_t) = \frac{\tau^2\sigma^2}{\rho^2}\, I + \frac{\sigma^4}{\rho^4}\, C_c .
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.errors import InputError

from .distribution import Batch, Distribution, Level, PosteriorCovariance, checked_levels, over_events


@dataclass(frozen=True, eq=False)
class Blurred:
    """`distribution` convolved with N(0, jitter^2 I). Raises InputError unless the jitter is finite and >= 0.

    >>> import torch
    >>> from diffuscope.exact import Blurred, Gaussian
    >>> data = Blurred(Gaussian.isotropic(torch.ones(1), 3.0), jitter=2.0)  # N(1, 3 + 4)
    >>> x_t = torch.tensor([[4.9]], dtype=torch.float64)
    >>> round(data.denoise(x_t, alpha=2.0, sigma=1.0).item(), 6)  # 1 + 2 * 7 (4.9 - 2) / (4 * 7 + 1)
    2.4
    >>> round(data.posterior_covariance(x_t, alpha=2.0, sigma=1.0).trace().item(), 6)  # 7 / (4 * 7 + 1)
    0.241379
    """

    distribution: Distribution
    jitter: float | int

    def __post_init__(self) -> None:
        if not (math.isfinite(self.jitter) and self.jitter >= 0):
            raise InputError(f"jitter: expected a finite number >= 0, got {self.jitter}")

    @property
    def event_shape(self) -> tuple[int, ...]:
        """That of `distribution`."""
        return tuple(self.distribution.event_shape)

    def sample(self, n: int, *, generator: torch.Generator) -> Float[Tensor, "n *event"]:
        """Independent draws, float64."""
        centers = self.distribution.sample(n, generator=generator).double()
        noise = torch.randn(centers.shape, dtype=torch.float64, generator=generator, device=generator.device)
        return centers + self.jitter * noise.to(centers.device)

    def denoise(self, x_t: Batch, alpha: Level, sigma: Level) -> Batch:
        """sigma^2 / rho^2 D_c + alpha tau^2 / rho^2 x_t."""
        alphas, sigmas, rho = self._levels(x_t, alpha, sigma)
        centers = self.distribution.denoise(x_t.double(), alphas, rho)
        kept, jittered = (sigmas / rho) ** 2, alphas * (self.jitter / rho) ** 2
        return (over_events(kept, centers) * centers + over_events(jittered, centers) * x_t.double()).to(x_t.dtype)

    def score(self, x_t: Batch, alpha: Level, sigma: Level) -> Batch:
        """The score of `distribution` at (alpha, rho)."""
        alphas, _, rho = self._levels(x_t, alpha, sigma)
        return self.distribution.score(x_t.double(), alphas, rho).to(x_t.dtype)

    def log_prob(self, x_t: Batch, alpha: Level, sigma: Level) -> Float[Tensor, " batch"]:
        """The log density of `distribution` at (alpha, rho), in nats."""
        alphas, _, rho = self._levels(x_t, alpha, sigma)
        return self.distribution.log_prob(x_t.double(), alphas, rho).to(x_t.dtype)

    def posterior_covariance(self, x_t: Batch, alpha: Level, sigma: Level) -> "BlurredCovariance":
        """tau^2 sigma^2 / rho^2 I + sigma^4 / rho^4 C_c."""
        alphas, sigmas, rho = self._levels(x_t, alpha, sigma)
        centers = self.distribution.posterior_covariance(x_t.double(), alphas, rho)
        return BlurredCovariance(x_t, centers, (self.jitter * sigmas / rho) ** 2, (sigmas / rho) ** 4)

    def _levels(self, x_t: Tensor, alpha: Level, sigma: Level) -> tuple[Tensor, Tensor, Tensor]:
        alphas, sigmas = checked_levels(x_t, alpha, sigma, self.event_shape)
        return alphas, sigmas, torch.hypot(alphas * self.jitter, sigmas)


@dataclass(frozen=True, eq=False)
class BlurredCovariance:
    """jittered I + kept C_c, as an operator."""

    x_t: Batch
    centers: PosteriorCovariance
    jittered: Float[Tensor, " batch"]
    kept: Float[Tensor, " batch"]

    def matvec(self, v: Batch) -> Batch:
        """Cov(x_0 | x_t) v."""
        applied = self.centers.matvec(v.double())
        jittered, kept = over_events(self.jittered, applied), over_events(self.kept, applied)
        return (jittered * v.double() + kept * applied).to(self.x_t.dtype)

    def trace(self) -> Float[Tensor, " batch"]:
        """The summed posterior variance."""
        return (self.jittered * self.x_t[:1].numel() + self.kept * self.centers.trace()).to(self.x_t.dtype)

    def diagonal(self) -> Batch:
        """The posterior variance of every coordinate."""
        every = self.centers.diagonal()
        return (over_events(self.jittered, every) + over_events(self.kept, every) * every).to(self.x_t.dtype)
