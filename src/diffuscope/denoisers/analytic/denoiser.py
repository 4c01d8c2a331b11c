r"""An analytic denoiser: the images, what every output sees of them, and how the responses are combined.

The three axes on which patch models differ (https://arxiv.org/abs/2605.24192):

==================  ===================================================================================================
query               what an output sees: the mask of its `View`, which may follow the noise level
response            posterior weights, then the value at the output's own pixel (`center_mean`) or whole patches,
                    averaged where they overlap (`overlap_mean`)
source              where the answers come from: the shifts, one `View` each, of all images
==================  ===================================================================================================

A new kind is a function from the noise level to views (`ByViews`). Where outputs share their windows, products take the
place of views (`equivariant`). Smoothing over perturbed queries wraps a denoiser.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.errors import InputError
from diffuscope.exact.distribution import checked_levels
from diffuscope.schedules import Schedule, as_time

from ..clocks import ScheduleTime
from ..contract import Batch, BatchTime
from .aggregation import MEMORY, Combination
from .views import Pixels, Sources, View

ViewsAt = Callable[[float], Iterable[View]]


@runtime_checkable
class Average(Protocol):
    """What a denoiser answers at one noise level, in float64."""

    def __call__(self, x_t: Pixels, images: Sources, alpha: float, sigma: float, *, memory: int) -> Pixels: ...


@dataclass(frozen=True, eq=False)
class ByViews:
    """`combine`, such as `center_mean`, over the views of the noise level sigma/alpha."""

    views: ViewsAt
    combine: Combination

    def __call__(self, x_t: Pixels, images: Sources, alpha: float, sigma: float, *, memory: int) -> Pixels:
        views = list(self.views(sigma / alpha if alpha > 0 else math.inf))
        return self.combine(x_t, images, views, alpha, sigma, memory=memory).mean


@dataclass(frozen=True, eq=False)
class AnalyticDenoiser:
    """The denoiser of `images` (channels, height, width, images) that answers an average over them.

    Averages are computed in float64 whatever the precision of images and queries. The level sigma/alpha is infinite at
    alpha = 0. Memory: about `memory` bytes besides the images, the queries and the answer. There is no gradient:
    backward raises InputError.
    """

    images: Sources = field(repr=False)
    event_shape: tuple[int, ...]
    schedule: Schedule
    average: Average
    memory: int = MEMORY
    clock: ClassVar = ScheduleTime()  # defined at all times, also between the steps of a table

    def __post_init__(self) -> None:
        if self.memory < 1:
            raise InputError(f"memory: expected a positive number of bytes, got {self.memory}")

    def __call__(self, x_t: Batch, t: BatchTime) -> Batch:
        times = as_time(t)
        alpha, sigma = checked_levels(x_t, self.schedule.alpha(times), self.schedule.sigma(times), self.event_shape)
        levels = torch.stack([alpha, sigma], 1).cpu()
        answer = torch.empty_like(x_t, requires_grad=False)
        for level in levels.unique(dim=0):
            rows = (levels == level).all(1).nonzero()[:, 0].to(x_t.device)
            answer[rows] = self._at(x_t.detach()[rows], float(level[0]), float(level[1]))
        return _Undifferentiable.apply(x_t, answer) if x_t.requires_grad and torch.is_grad_enabled() else answer

    def _at(self, x_t: Batch, alpha: float, sigma: float) -> Batch:
        queries = x_t.reshape(len(x_t), *self.images.shape[:3])
        mean = self.average(queries, self.images, alpha, sigma, memory=self.memory)
        return mean.reshape(x_t.shape).to(x_t.dtype)


class _Undifferentiable(torch.autograd.Function):
    """`answer`, of which a gradient in `x_t` is refused rather than zero."""

    @staticmethod
    def forward(_ctx: Any, _x_t: Tensor, answer: Tensor) -> Tensor:
        return answer.clone()

    @staticmethod
    def backward(_ctx: Any, *_gradients: Tensor) -> tuple[Tensor, None]:  # pyright: ignore
        raise InputError("x_t: expected no gradient through an analytic denoiser of patches or masks; it has none")


def require_images(data: Float[Tensor, "images *event"]) -> None:
    """Raises InputError unless `data` are finite floating-point images, with or without channels."""
    shape = tuple(data.shape)
    if data.ndim not in (3, 4):
        raise InputError(
            f"data: expected images of shape (images, height, width) or (images, channels, height, width), got {shape}"
        )
    if data.numel() == 0:
        raise InputError(f"data: expected at least one image of at least one pixel, got shape {shape}")
    if not data.is_floating_point():
        raise InputError(f"data: expected floating-point values, got {data.dtype}; scale integers to floats first")
    if not all(bool(rows.isfinite().all()) for rows in data.split(4096)):
        raise InputError("data: expected finite values, got NaN or infinity")


def checked_images(data: Float[Tensor, "images *event"]) -> Sources:
    """`data`, (images, height, width) or (images, channels, height, width), with the images last and contiguous.

    Raises InputError for other shapes, no images, integers, and NaN or infinity.
    """
    require_images(data)
    data = data.detach()
    data = data if data.dtype in (torch.float32, torch.float64) else data.float()
    return (data if data.ndim == 4 else data[:, None]).permute(1, 2, 3, 0).contiguous()
