r"""The proxy score, which denoising score matching has as its target, and its covariance.

For :math:`x_t = \alpha x_0 + \sigma\varepsilon` the target at x is random, given x, and right on average:

.. math::
    \tilde s(x, t; x_0) = \frac{\alpha x_0 - x}{\sigma^2}, \qquad
    E[\tilde s \mid x] = \nabla\log p_t(x) = s(x, t),

.. math::
    C(x, t) = \mathrm{Cov}(\tilde s \mid x) = \frac{\alpha^2}{\sigma^4}\,\mathrm{Cov}(x_0 \mid x)
            = \frac{1}{\sigma^2} I + \nabla^2 \log p_t(x) .

The share :math:`\mathrm{tr}\,C / (\mathrm{tr}\,C + |s|^2)` of the target's mean square that is noise is large between
examples: the boundary between what belongs to one and what to another. A single example leaves no doubt: C = 0.

Source: Vastola 2025, *Generalization through variance*, https://arxiv.org/abs/2504.12532 (sections 2 and 3).
"""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.errors import InputError
from diffuscope.exact import (
    Distribution,
    Empirical,
    GaussianMixture,
    PosteriorCovariance,
    dense_covariance,
    posterior_noise,
    posterior_sample,
)
from diffuscope.schedules import Schedule

Batch = Float[Tensor, "batch *event"]
FEW_VALUES = 4096  # points x coordinates up to which direct differences cost less than screening
Times = Float[Tensor, "..."] | float | int  # one number, or one per point


@dataclass(frozen=True, eq=False)
class ProxyCovariance:
    """scale^2 Cov(x_0 | x) of every point as an operator, scale = alpha / sigma^2 for C itself.

    >>> import torch
    >>> from diffuscope.exact import Gaussian
    >>> from diffuscope.schedules import RectifiedFlow
    >>> from diffuscope.theory.variance import ProxyScore
    >>> proxy, x = ProxyScore(Gaussian.isotropic(torch.zeros(1), 3.0), RectifiedFlow()), torch.tensor([[2.0]])
    >>> C = proxy.covariance(x, 0.2)  # 1 / 0.2^2 - 1 / (0.8^2 x 3 + 0.2^2)
    >>> [round(float(value), 4) for value in (C.trace(), C.matvec(x), C.scaled(torch.tensor(0.5)).diagonal())]
    [24.4898, 48.9796, 6.1224]
    """

    x: Batch
    posterior: PosteriorCovariance
    scale: Float[Tensor, " batch"]

    def matvec(self, v: Batch) -> Batch:
        """C v, point by point."""
        return (_over(self.scale**2, v) * self.posterior.matvec(v)).to(v.dtype)

    def trace(self) -> Float[Tensor, " batch"]:
        """tr C: the variance of the proxy score summed over coordinates, in 1 / x^2."""
        return (self.scale**2 * self.posterior.trace()).to(self.x.dtype)

    def diagonal(self) -> Batch:
        """The variance of every coordinate of the proxy score."""
        return (_over(self.scale**2, self.x) * self.posterior.diagonal()).to(self.x.dtype)

    def dense(self) -> Float[Tensor, "batch d d"]:
        """The matrices, in float64, by d products. Raises InputError beyond 1,024 coordinates."""
        return self.scale[:, None, None] ** 2 * dense_covariance(self.posterior, self.x)

    def draw(self, *, generator: torch.Generator) -> Batch:
        """One draw of N(0, C) for every point (`exact.posterior_noise`)."""
        noise = posterior_noise(self.posterior, self.x, generator=generator)
        return (_over(self.scale, self.x) * noise).to(self.x.dtype)

    def scaled(self, factor: Float[Tensor, " batch"] | Float[Tensor, ""]) -> "ProxyCovariance":
        """factor^2 C."""
        return ProxyCovariance(self.x, self.posterior, self.scale * factor)


@dataclass(frozen=True, eq=False)
class ProxyScore:
    """The proxy score of `data`, examples (n, *event) or a known distribution, under a `schedule`.

    Points are (batch, *event), a time is one number or one per point. Raises InputError as `exact.Empirical` does for
    examples, and where sigma = 0 or t is not finite.

    >>> import torch
    >>> from diffuscope.exact import Gaussian
    >>> from diffuscope.schedules import RectifiedFlow
    >>> from diffuscope.theory.variance import ProxyScore
    >>> proxy, x = ProxyScore(Gaussian.isotropic(torch.zeros(1), 3.0), RectifiedFlow()), torch.tensor([[2.0]])
    >>> round(float(proxy.score(x, 0.5)), 6)  # -x / (0.25 x 3 + 0.25)
    -2.0
    >>> round(float(proxy.boundary_fraction(x, 0.5)), 6)  # C = 1 / 0.25 - 1 = 3, and 3 / (3 + 2^2)
    0.428571
    """

    data: Float[Tensor, "n *event"] | Distribution
    schedule: Schedule
    distribution: Distribution = field(init=False)

    def __post_init__(self) -> None:
        given = self.data
        object.__setattr__(self, "distribution", _of_points(given) if isinstance(given, Tensor) else given)

    def score(self, x: Batch, t: Times) -> Batch:
        """s = E[proxy | x] = grad log p_t, in 1 / x."""
        return self.distribution.score(x, *self._levels(x, t))

    def covariance(self, x: Batch, t: Times) -> ProxyCovariance:
        """C(x, t) = alpha^2 / sigma^4 Cov(x_0 | x)."""
        alpha, sigma = self._levels(x, t)
        return ProxyCovariance(x.detach(), self.distribution.posterior_covariance(x, alpha, sigma), alpha / sigma**2)

    def boundary_fraction(self, x: Batch, t: Times) -> Float[Tensor, " batch"]:
        """tr C / (tr C + |s|^2), between 0 and 1; 0 where both vanish."""
        noise, signal = self.covariance(x, t).trace(), self.score(x, t).flatten(1).square().sum(1)
        total = noise + signal
        return torch.where(total > 0, noise / total, 0.0)

    def sample(self, x: Batch, t: Times, *, generator: torch.Generator) -> Batch:
        """One proxy score at every point, from a fresh draw of x_0 given x (`exact.posterior_sample`)."""
        alpha, sigma = self._levels(x, t)
        x_0 = posterior_sample(self.distribution, x, alpha, sigma, generator=generator)
        return ((_over(alpha, x) * x_0.double() - x.double()) / _over(sigma**2, x)).to(x.dtype)

    def _levels(self, x: Batch, t: Times) -> tuple[Float[Tensor, " batch"], Float[Tensor, " batch"]]:
        times = torch.as_tensor(t, dtype=torch.float64, device=x.device)
        if times.ndim and tuple(times.shape) != (len(x),):
            raise InputError(f"t: expected a number or one per point ({len(x)}), got shape {tuple(times.shape)}")
        alpha, sigma = self.schedule.alpha(times), self.schedule.sigma(times)
        if not bool((alpha.isfinite() & sigma.isfinite() & (sigma > 0)).all()):
            ends = f"{float(times.min()):g} .. {float(times.max()):g}"
            raise InputError(f"t: expected finite times at which sigma > 0, got {ends}")
        return alpha.expand(len(x)), sigma.expand(len(x))


def _of_points(points: Tensor) -> Distribution:
    """The data set as `Empirical`; a small one as Gaussians of variance zero, the same with everything in one block."""
    data = Empirical(points)  # which checks them
    if points.numel() > FEW_VALUES:
        return data
    return GaussianMixture.isotropic(data.weights, points.double(), torch.zeros_like(data.weights))


def _over(values: Float[Tensor, " batch"], x: Batch) -> Tensor:
    return values.reshape(-1, *[1] * (x.ndim - 1))
