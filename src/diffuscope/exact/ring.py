r"""The uniform distribution on a circle, whose diffusion is known through Bessel functions.

For :math:`x_0` uniform on the circle of radius R in the plane and :math:`r = |x_t|`,

.. math::
    p(x_t) = \frac{1}{2\pi\sigma^2} e^{-(r^2 + \alpha^2R^2)/2\sigma^2} I_0(\kappa), \qquad
    \kappa = \frac{\alpha R r}{\sigma^2}, \qquad
    D(x_t) = R\,A(\kappa)\,\frac{x_t}{r}, \quad A = \frac{I_1}{I_0}

(the direction of x_0 is von Mises distributed around that of x_t, with concentration kappa). The posterior covariance
has the eigenvalue :math:`R^2(1 - A/\kappa - A^2)` along x_t and :math:`R^2 A/\kappa` across it. Unlike a mixture, the
distribution is supported on a curve: a manifold with a tangent and a normal direction at every point.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.errors import InputError

from .distribution import Level, checked_levels


@dataclass(frozen=True)
class Ring:
    """Uniform on the circle of `radius` about 0 in the plane. Inputs (batch, 2); the arithmetic is float64.

    Raises InputError unless the radius is finite and > 0.

    >>> import torch
    >>> from diffuscope.exact import Ring
    >>> D = Ring(2.0).denoise(torch.tensor([[1.2, 1.6]], dtype=torch.float64), alpha=0.5, sigma=1.0)
    >>> [round(value, 6) for value in D[0].tolist()]  # kappa = 2, I_1/I_0 = 0.697775: 1.395549 (0.6, 0.8)
    [0.83733, 1.116439]
    """

    radius: float = 1.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.radius) and self.radius > 0):
            raise InputError(f"radius: expected a positive number, got {self.radius}")

    @property
    def event_shape(self) -> tuple[int, ...]:
        return (2,)

    def sample(self, n: int, *, generator: torch.Generator) -> Float[Tensor, "n 2"]:
        """n independent points of the circle, float64."""
        angle = 2 * math.pi * torch.rand(n, dtype=torch.float64, generator=generator, device=generator.device)
        return self.radius * torch.stack([angle.cos(), angle.sin()], dim=1)

    def denoise(self, x_t: Float[Tensor, "batch 2"], alpha: Level, sigma: Level) -> Float[Tensor, "batch 2"]:
        """D = R A(kappa) x_t / r."""
        x, alphas, sigmas, kappa = self._concentration(x_t, alpha, sigma)
        # R A(kappa) / r = (alpha R^2 / sigma^2) A(kappa)/kappa, finite at the center
        pull = alphas * self.radius**2 / sigmas**2 * _mean_over_concentration(kappa)
        return (pull[:, None] * x).to(x_t.dtype)

    def score(self, x_t: Float[Tensor, "batch 2"], alpha: Level, sigma: Level) -> Float[Tensor, "batch 2"]:
        """(alpha D - x_t) / sigma^2."""
        x, alphas, sigmas, _ = self._concentration(x_t, alpha, sigma)
        return ((alphas[:, None] * self.denoise(x, alphas, sigmas) - x) / sigmas[:, None] ** 2).to(x_t.dtype)

    def log_prob(self, x_t: Float[Tensor, "batch 2"], alpha: Level, sigma: Level) -> Float[Tensor, " batch"]:
        """log p(x_t); with the scaled Bessel function the exponent is -(r - alpha R)^2 / 2 sigma^2."""
        x, alphas, sigmas, kappa = self._concentration(x_t, alpha, sigma)
        distance = x.norm(dim=1) - alphas * self.radius
        log_bessel = torch.special.i0e(kappa).log()
        return (-(distance**2) / (2 * sigmas**2) + log_bessel - (2 * math.pi * sigmas**2).log()).to(x_t.dtype)

    def posterior_covariance(self, x_t: Float[Tensor, "batch 2"], alpha: Level, sigma: Level) -> "RingCovariance":
        """Cov(x_0 | x_t) as an operator."""
        x, _, _, kappa = self._concentration(x_t, alpha, sigma)
        ratio = _mean_over_concentration(kappa)
        across = self.radius**2 * ratio
        # as A -> 1 this difference cancels; the leading term of its expansion is R^2 / (2 kappa^2)
        along = self.radius**2 * (1 - ratio - (kappa * ratio) ** 2)
        along = torch.where(kappa > 1e4, self.radius**2 / (2 * kappa**2), along)
        return RingCovariance(x / x.norm(dim=1, keepdim=True).clamp(min=1e-300), along, across, x_t.dtype)

    def _concentration(self, x_t: Tensor, alpha: Level, sigma: Level) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """x_t, alpha and sigma per sample, and kappa, in float64."""
        alphas, sigmas = checked_levels(x_t, alpha, sigma, self.event_shape)
        x = x_t.double()
        return x, alphas, sigmas, alphas * self.radius * x.norm(dim=1) / sigmas**2


@dataclass(frozen=True, eq=False)
class RingCovariance:
    """Eigenvalues `along` and `across` the unit `direction` of x_t.

    >>> import torch
    >>> from diffuscope.exact import Ring
    >>> x_t = torch.tensor([[1.2, 1.6]], dtype=torch.float64)
    >>> covariance = Ring(2.0).posterior_covariance(x_t, alpha=0.5, sigma=1.0)  # kappa = 2, A = 0.697775
    >>> round(covariance.trace().item(), 6), round(covariance.across.item(), 6)  # 4 (1 - A^2) and 4 A / 2
    (2.052442, 1.395549)
    """

    direction: Float[Tensor, "batch 2"]
    along: Float[Tensor, " batch"]
    across: Float[Tensor, " batch"]
    dtype: torch.dtype

    def matvec(self, v: Float[Tensor, "batch 2"]) -> Float[Tensor, "batch 2"]:
        """Cov(x_0 | x_t) v."""
        v_along = (self.direction * v.double()).sum(1, keepdim=True) * self.direction
        return (self.across[:, None] * v.double() + (self.along - self.across)[:, None] * v_along).to(self.dtype)

    def trace(self) -> Float[Tensor, " batch"]:
        """Along plus across."""
        return (self.along + self.across).to(self.dtype)

    def diagonal(self) -> Float[Tensor, "batch 2"]:
        """Variance of each coordinate."""
        squares = self.direction**2
        return (self.across[:, None] + (self.along - self.across)[:, None] * squares).to(self.dtype)


def _mean_over_concentration(kappa: Tensor) -> Tensor:
    """A(kappa)/kappa = I_1 / (kappa I_0), 1/2 at kappa = 0."""
    small = kappa < 1e-4
    safe = torch.where(small, torch.ones_like(kappa), kappa)
    ratio = torch.special.i1e(safe) / torch.special.i0e(safe) / safe
    return torch.where(small, 0.5 - kappa**2 / 16, ratio)
