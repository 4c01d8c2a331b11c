r"""The closed-form smoothed denoiser: the empirical one, averaged over noises of its query.

With the empirical denoiser :math:`D(x_t) = \sum_i w_i(x_t) y_i`, M noises :math:`\varepsilon_m \sim N(0, I)` drawn
once, and a smoothing s,

.. math::
    D_s(x_t) = \frac1M \sum_m D\big(x_t + (\alpha + \sigma) s\, \varepsilon_m\big), \qquad
    \nabla\log p_s = \frac{\alpha D_s(x_t) - x_t}{\sigma^2} :

the noise enters the mean and not the :math:`-x_t` of the score. The source states it for
:math:`z = x_t / (\alpha + \sigma)`, a straight line from noise to data, where the noise is :math:`s\,\varepsilon_m` at
all times; hence the factor.

At low noise every term is the point nearest to a perturbed query, so that what is generated lies among the means of M
data points (with repetition): new combinations, and still inside the convex hull of the data. s = 0 is the empirical
denoiser, which reproduces the data.

**One product for all M.** The noise tilts the logits linearly,

.. math::
    \log w_{bmi} = \frac{\alpha}{\sigma^2} \langle x_b, y_i\rangle - \frac{\alpha^2 |y_i|^2}{2\sigma^2}
        + \frac{\alpha(\alpha + \sigma) s}{\sigma^2} \langle\varepsilon_m, y_i\rangle - \log Z_{bm} ,

so that <eps, y> is computed once and for all, <x, y> once per query, and the M answers are one product of the mean
weights with the data: O(BNd + BNM) instead of O(BNMd). log Z is accumulated over all data before any weight is used.

Source: Scarvelis, Haitz & Solomon 2023, https://arxiv.org/abs/2310.12395.
"""

import math
from collections.abc import Iterator
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.errors import InputError
from diffuscope.exact import Empirical
from diffuscope.exact.distribution import checked_levels
from diffuscope.memory import chunk_size
from diffuscope.schedules import Schedule, as_time

from ..clocks import ScheduleTime
from ..contract import Batch, BatchTime, over_events

MOST_DRAWS = 4096


class Smoothed:
    """D_s of the data `points` (N, *event) under `schedule`: `draws` = M noises from `generator`, fixed from then on.

    `smoothing` is s, in units of the data. Computed in float64. Besides the points, M N + M d numbers are kept, and a
    call uses about `memory` bytes (at least those of one query's N logits).
    Raises InputError for a smoothing that is negative or not finite, for draws outside 1 .. 4096, and for points that
    are no finite floats.

    >>> import torch
    >>> from diffuscope.schedules import RectifiedFlow
    >>> points = torch.tensor([[-1.0], [1.0]], dtype=torch.float64)
    >>> denoiser = Smoothed(points, RectifiedFlow(), smoothing=0.0, draws=1, generator=torch.Generator())
    >>> denoiser(torch.tensor([[0.25]], dtype=torch.float64), 0.5)  # tanh(alpha x / sigma^2) = tanh(0.5)
    tensor([[0.4621]], dtype=torch.float64)
    """

    clock: ClassVar = ScheduleTime()

    def __init__(
        self,
        points: Float[Tensor, "points *event"],
        schedule: Schedule,
        *,
        smoothing: float | int,
        draws: int,
        generator: torch.Generator,
        memory: int = 128 * 2**20,
    ) -> None:
        if not 0 <= smoothing < math.inf:
            raise InputError(f"smoothing: expected a finite number >= 0, got {smoothing}")
        if not (isinstance(draws, int) and 1 <= draws <= MOST_DRAWS):
            raise InputError(f"draws: expected a whole number 1 .. {MOST_DRAWS}, got {draws}")
        if memory < 1:
            raise InputError(f"memory: expected a positive number of bytes, got {memory}")
        if not points.is_floating_point():
            raise InputError(f"points: expected floating-point values, got {points.dtype}; scale integers first")
        if points.numel() == 0:
            raise InputError(f"points: expected at least one event of at least one value, got {tuple(points.shape)}")
        if not bool(torch.isfinite(points).all()):
            raise InputError("points: expected finite values, got NaN or infinity")
        self._schedule, self._smoothing, self._memory = schedule, float(smoothing), memory
        self._event_shape = tuple(points.shape[1:])
        self._points = points.detach().reshape(len(points), -1)
        self._center = self._points.mean(0, dtype=torch.float64)
        self._noise = torch.randn(draws, len(self._center), generator=generator, dtype=torch.float64)
        self._tilt = torch.empty(draws, len(points), dtype=torch.float64)  # <eps_m, y_i - c>
        self._half_squares = torch.empty(len(points), dtype=torch.float64)
        for piece, rows in self._pieces(len(self._center)):
            self._tilt[:, piece] = self._noise @ rows.T
            self._half_squares[piece] = rows.square().sum(1) / 2

    @property
    def schedule(self) -> Schedule:
        """That of x_t."""
        return self._schedule

    @property
    def event_shape(self) -> tuple[int, ...]:
        """The shape of one point."""
        return self._event_shape

    def __call__(self, x_t: Batch, t: BatchTime) -> Batch:
        """D_s(x_t), in the precision of `x_t`; differentiable in `x_t`, at the cost of M empirical denoisers."""
        t = as_time(t)
        alphas, sigmas = checked_levels(x_t, self._schedule.alpha(t), self._schedule.sigma(t), self.event_shape)
        if x_t.requires_grad and torch.is_grad_enabled():
            return self._differentiable(x_t, alphas, sigmas)
        x = x_t.double().reshape(len(x_t), len(self._center))
        block = chunk_size(self._memory, each=16 * len(self._points))
        parts = zip(x.split(block), alphas.split(block), sigmas.split(block), strict=True)
        means = [self._mean(*part) for part in parts if len(part[0])]
        return torch.cat(means).reshape(x_t.shape).to(x_t.dtype) if means else x_t.clone()

    def _differentiable(self, x_t: Batch, alphas: Float[Tensor, " batch"], sigmas: Float[Tensor, " batch"]) -> Batch:
        """The same average by the empirical denoiser, whose gradient is known."""
        draws = len(self._noise)
        noise = self._noise.reshape(draws, *self.event_shape).to(x_t)
        shift = over_events((alphas + sigmas) * self._smoothing, x_t)
        perturbed = (x_t[:, None] + shift[:, None] * noise).flatten(0, 1)
        points = Empirical(self._points.reshape(-1, *self.event_shape), memory=self._memory)
        each = points.denoise(perturbed, alphas.repeat_interleave(draws), sigmas.repeat_interleave(draws))
        return each.reshape(len(x_t), draws, *self.event_shape).mean(1)

    def _mean(
        self, x: Float[Tensor, "batch d"], alpha: Float[Tensor, " batch"], sigma: Float[Tensor, " batch"]
    ) -> Float[Tensor, "batch d"]:
        queries = (alpha / sigma**2)[:, None] * (x - alpha[:, None] * self._center)
        shift = alpha * (alpha + sigma) * self._smoothing / sigma**2
        draws = len(self._tilt)
        logits = x.new_empty(len(x), len(self._points))
        log_total = x.new_full((len(x), draws), -math.inf)
        width = max(len(self._center), len(x) * draws)
        for piece, rows in self._pieces(width):
            torch.matmul(queries, rows.T, out=logits[:, piece])
            logits[:, piece] -= (alpha / sigma).square()[:, None] * self._half_squares[piece]
            log_total = torch.logaddexp(log_total, self._tilted(logits, shift, piece).logsumexp(2))
        mean = torch.zeros_like(x)
        for piece, rows in self._pieces(width):
            weights = self._tilted(logits, shift, piece).sub_(log_total[:, :, None]).exp_().mean(1)
            mean += weights @ rows
        return mean + self._center

    def _tilted(
        self, logits: Float[Tensor, "batch points"], shift: Float[Tensor, " batch"], piece: slice
    ) -> Float[Tensor, "batch draws piece"]:
        return shift[:, None, None] * self._tilt[None, :, piece] + logits[:, None, piece]

    def _pieces(self, width: int) -> Iterator[tuple[slice, Float[Tensor, "piece d"]]]:
        """The points about their mean in float64, as many at once as `width` numbers each leave room for."""
        size = chunk_size(self._memory, each=32 * width)
        for start in range(0, len(self._points), size):
            piece = slice(start, start + size)
            yield piece, self._points[piece].double() - self._center
