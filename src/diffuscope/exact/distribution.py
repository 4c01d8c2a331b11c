r"""The contract of a data distribution whose diffusion is known exactly.

For data :math:`x_0 \sim p_0` and the kernel :math:`x_t = \alpha x_0 + \sigma\varepsilon`, a `Distribution`
knows at any :math:`\alpha \ge 0`, :math:`\sigma > 0`:

.. math::
    \log p(x_t), \qquad D(x_t) = E[x_0 \mid x_t], \qquad
    \nabla \log p(x_t) = \frac{\alpha D - x_t}{\sigma^2}, \qquad
    \mathrm{Cov}(x_0 \mid x_t) = \frac{\sigma^2}{\alpha}\,\nabla D .

`alpha` and `sigma` are numbers, 0-d tensors, or one value per sample.
"""

import math
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.errors import InputError

Batch = Float[Tensor, "batch *event"]
Level = Float[Tensor, " batch"] | Float[Tensor, ""] | float | int


@runtime_checkable
class PosteriorCovariance(Protocol):
    """Cov(x_0 | x_t) of every sample of a batch, as an operator: the matrix is never formed.

    >>> import torch
    >>> from diffuscope.exact import PosteriorCovariance, Ring
    >>> isinstance(Ring(2.0).posterior_covariance(torch.ones(1, 2), alpha=0.5, sigma=1.0), PosteriorCovariance)
    True
    """

    def matvec(self, v: Batch) -> Batch:
        """Cov(x_0 | x_t) v, sample by sample."""
        ...

    def trace(self) -> Float[Tensor, " batch"]:
        """The posterior variance summed over coordinates: the least mean squared error of any denoiser."""
        ...

    def diagonal(self) -> Batch:
        """Posterior variance of every coordinate."""
        ...


@runtime_checkable
class Distribution(Protocol):
    """A data distribution whose diffusion is known exactly.

    >>> from diffuscope.exact import Distribution, Ring
    >>> isinstance(Ring(2.0), Distribution)
    True
    """

    @property
    def event_shape(self) -> tuple[int, ...]: ...

    def sample(self, n: int, *, generator: torch.Generator) -> Float[Tensor, "n *event"]: ...

    def denoise(self, x_t: Batch, alpha: Level, sigma: Level) -> Batch: ...

    def score(self, x_t: Batch, alpha: Level, sigma: Level) -> Batch: ...

    def log_prob(self, x_t: Batch, alpha: Level, sigma: Level) -> Float[Tensor, " batch"]: ...

    def posterior_covariance(self, x_t: Batch, alpha: Level, sigma: Level) -> PosteriorCovariance: ...


def per_sample(level: Level, x: Batch, name: str) -> Float[Tensor, " batch"]:
    """`level` as one float64 value per sample of `x`. Raises InputError for negative or non-finite levels."""
    values = torch.as_tensor(level, dtype=torch.float64, device=x.device)
    if values.ndim > 1 or (values.ndim == 1 and len(values) != len(x)):
        raise InputError(f"{name}: expected a number or one per sample ({len(x)}), got shape {tuple(values.shape)}")
    # one number is checked by itself: four small operations less in every call of a denoiser
    if not (0 <= values.item() < math.inf if values.ndim == 0 else bool((values.isfinite() & (values >= 0)).all())):
        raise InputError(f"{name}: expected finite values >= 0, got {values.min().item()} .. {values.max().item()}")
    return values.expand(len(x))


def one_for_all(levels: Float[Tensor, " batch"]) -> Float[Tensor, " #batch"]:
    """The one level of a number that `per_sample` has expanded, to be broadcast; other levels as they are."""
    return levels[:1] if levels.stride(0) == 0 else levels


def over_events(values: Float[Tensor, " batch"], x: Batch) -> Tensor:
    """Per-sample `values` shaped to multiply `x`, in its dtype."""
    return values.to(x.dtype).reshape(-1, *[1] * (x.ndim - 1))


def checked_levels(
    x: Batch, alpha: Level, sigma: Level, event_shape: tuple[int, ...]
) -> tuple[Float[Tensor, " batch"], Float[Tensor, " batch"]]:
    """(alpha, sigma) per sample in float64, after checking `x` against the distribution's event shape."""
    if not x.is_floating_point():
        raise InputError(f"x_t: expected floating-point values, got {x.dtype}")
    if tuple(x.shape[1:]) != tuple(event_shape):
        raise InputError(f"x_t: expected shape (batch, {', '.join(map(str, event_shape))}), got {tuple(x.shape)}")
    sigmas = per_sample(sigma, x, "sigma")
    if bool((one_for_all(sigmas) == 0).any()):
        raise InputError("sigma: expected values > 0, got 0 (the noised distribution is defined for sigma > 0)")
    return per_sample(alpha, x, "alpha"), sigmas
