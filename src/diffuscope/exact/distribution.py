r"""What it means for a diffusion to be known exactly.

For data :math:`x_0 \sim p_0` and the kernel :math:`x_t = \alpha x_0 + \sigma\varepsilon`, a `Distribution`
answers at any :math:`\alpha \ge 0`, :math:`\sigma > 0`:

.. math::
    \log p(x_t), \qquad D(x_t) = E[x_0 \mid x_t], \qquad
    \nabla \log p(x_t) = \frac{\alpha D - x_t}{\sigma^2}, \qquad
    \mathrm{Cov}(x_0 \mid x_t) = \frac{\sigma^2}{\alpha}\,\nabla D .

`alpha` and `sigma` are numbers, 0-d tensors, or one value per sample.
"""

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.errors import InputError

Level = Float[Tensor, " batch"] | Float[Tensor, ""] | float | int


@runtime_checkable
class PosteriorCovariance(Protocol):
    """Cov(x_0 | x_t) of every sample of a batch, as an operator that is never formed."""

    def matvec(self, v: Float[Tensor, "batch *event"]) -> Float[Tensor, "batch *event"]:
        """Cov(x_0 | x_t) v, sample by sample."""
        ...

    def trace(self) -> Float[Tensor, " batch"]:
        """The posterior variance summed over coordinates: the least squared error any denoiser can reach."""
        ...

    def diagonal(self) -> Float[Tensor, "batch *event"]:
        """Posterior variance of every coordinate."""
        ...


@runtime_checkable
class Distribution(Protocol):
    """A data distribution whose diffusion is known exactly."""

    @property
    def event_shape(self) -> tuple[int, ...]: ...

    def sample(self, n: int, *, generator: torch.Generator) -> Float[Tensor, "n *event"]: ...

    def denoise(
        self, x_t: Float[Tensor, "batch *event"], alpha: Level, sigma: Level
    ) -> Float[Tensor, "batch *event"]: ...

    def score(
        self, x_t: Float[Tensor, "batch *event"], alpha: Level, sigma: Level
    ) -> Float[Tensor, "batch *event"]: ...

    def log_prob(self, x_t: Float[Tensor, "batch *event"], alpha: Level, sigma: Level) -> Float[Tensor, " batch"]: ...

    def posterior_covariance(
        self, x_t: Float[Tensor, "batch *event"], alpha: Level, sigma: Level
    ) -> PosteriorCovariance: ...


def per_sample(level: Level, x: Float[Tensor, "batch *event"], name: str) -> Float[Tensor, " batch"]:
    """`level` as one float64 value per sample of `x`; negative or non-finite levels are refused."""
    values = torch.as_tensor(level, dtype=torch.float64, device=x.device)
    if values.ndim > 1 or (values.ndim == 1 and len(values) != len(x)):
        raise InputError(f"{name}: expected a number or one per sample ({len(x)}), got shape {tuple(values.shape)}")
    if not bool((torch.isfinite(values) & (values >= 0)).all()):
        raise InputError(f"{name}: expected finite values >= 0, got {values.min().item()} .. {values.max().item()}")
    return values.expand(len(x))


def checked_levels(
    x: Float[Tensor, "batch *event"], alpha: Level, sigma: Level, event_shape: tuple[int, ...]
) -> tuple[Float[Tensor, " batch"], Float[Tensor, " batch"]]:
    """(alpha, sigma) per sample in float64, after checking `x` against the distribution's event shape."""
    if tuple(x.shape[1:]) != tuple(event_shape):
        raise InputError(f"x_t: expected shape (batch, {', '.join(map(str, event_shape))}), got {tuple(x.shape)}")
    sigmas = per_sample(sigma, x, "sigma")
    if bool((sigmas == 0).any()):
        raise InputError("sigma: expected values > 0, got 0 (the noised distribution is defined for sigma > 0)")
    return per_sample(alpha, x, "alpha"), sigmas
