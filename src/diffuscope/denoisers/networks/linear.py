r"""Linear denoisers with one map per noise level: affine, or two layers that share their weights.

At the level t of a table, with :math:`x_t = \alpha x_0 + \sigma\varepsilon`,

.. math::  D = W_t x_t + b_t, \qquad\text{or}\qquad D = m + P_t P_t^T (x_t - \alpha m),

where m is the mean of the data, given and not learned. The levels share nothing: training at one does not affect the
others, and any time outside the table is refused rather than rounded. The best affine denoiser is the exact one of a
Gaussian (`exact.Gaussian`), and the path of gradient descent toward it is known in closed form (`theory`).
Source: Wang & Pehlevan 2025, https://arxiv.org/abs/2503.03206.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from diffuscope.errors import InputError
from diffuscope.schedules import Schedule, Time, Times, as_time

RELATIVE = 1e-6  # a time this close to a level counts as that level, since float32 schedules round times


@dataclass(frozen=True, eq=False)
class LevelTable:
    """The clock of a network that is defined at a table of times only; the label is the index in the table.

    Raises InputError unless the times are finite, >= 0 and increasing.

    >>> import torch
    >>> from diffuscope.denoisers import LevelTable
    >>> table = LevelTable(torch.tensor([0.5, 2.0, 8.0]))
    >>> int(table.label(8.0)), float(table.nearest(4.9)), float(table.nearest(5.1))
    (2, 2.0, 8.0)
    """

    times: Float[Tensor, " levels"]

    def __post_init__(self) -> None:
        times = as_time(self.times)
        if times.ndim != 1 or len(times) == 0 or not bool(times.isfinite().all()) or bool(times[0] < 0):
            raise InputError("times: expected a table of at least one finite time >= 0")
        if not bool((times.diff() > 0).all()):
            raise InputError("times: expected times that increase from level to level")
        object.__setattr__(self, "times", times)

    def label(self, t: Time) -> Tensor:
        """The int64 index of `t` in the table; InputError for a time that is not in it."""
        times = as_time(t)
        index = self._index(times)
        unknown = ~((times - self.times[index]).abs() <= RELATIVE * times)
        if bool(unknown.any()):
            raise InputError(
                f"t: this network knows {len(self.times)} noise levels only, got {float(times[unknown][0])!r}; "
                "take `nearest_trained_time` first"
            )
        return index

    def nearest(self, t: Time) -> Times:
        """The level closest to `t`."""
        return self.times[self._index(as_time(t))]

    def _index(self, times: Tensor) -> Tensor:
        return (times[..., None] - self.times).abs().argmin(-1)


class LinearDenoiser(nn.Module):
    """D(x_t, t) = W_t x_t + b_t with separate weights and biases at each of `times`; W starts at `start` I.

    Fulfills the `Denoiser` contract at the times of the table. It stores levels x (d^2 + d) numbers.

    >>> import torch
    >>> from diffuscope import VE
    >>> from diffuscope.denoisers import LinearDenoiser
    >>> model = LinearDenoiser(VE(), torch.tensor([1.0, 4.0]), event_shape=(2,), data_range=(-9.0, 9.0), start=0.5)
    >>> with torch.no_grad():
    ...     _ = model.bias[1].copy_(torch.tensor([3.0, 0.0]))  # of the level t = 4 alone
    >>> model(torch.tensor([[6.0, 8.0]]), 4.0).tolist(), model(torch.tensor([[6.0, 8.0]]), 1.0).tolist()
    ([[6.0, 4.0]], [[3.0, 4.0]])
    """

    def __init__(
        self,
        schedule: Schedule,
        times: Float[Tensor, " levels"],
        *,
        event_shape: tuple[int, ...],
        data_range: tuple[float, float],
        start: float | int = 0.0,
    ) -> None:
        super().__init__()
        self.schedule, self.clock = schedule, LevelTable(times)
        self.event_shape, self.data_range = tuple(event_shape), data_range
        levels, d = len(self.clock.times), math.prod(self.event_shape)
        self.weight = nn.Parameter(start * torch.eye(d).repeat(levels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(levels, d))

    def forward(self, x_t: Float[Tensor, "batch *event"], t: Time) -> Float[Tensor, "batch *event"]:
        rows = _rows(x_t, self.event_shape, self.weight)
        index = self.clock.label(t).expand(len(rows))
        weights, biases = self.weight.unbind(), self.bias.unbind()
        denoised = _by_level(rows, index, lambda level, x: torch.addmm(biases[level], x, weights[level].T))
        return denoised.reshape(x_t.shape).to(x_t.dtype)

    def map_at(self, t: float | int) -> tuple[Float[Tensor, "d d"], Float[Tensor, " d"]]:
        """A copy of (W, b) at one level, in float64."""
        level = int(self.clock.label(t))
        return self.weight[level].detach().double().clone(), self.bias[level].detach().double().clone()


class SymmetricLinearDenoiser(nn.Module):
    """D(x_t, t) = m + P_t P_t^T (x_t - alpha m): two layers with shared weights, and a fixed `mean` = m.

    P starts at sqrt(`start`) I, so that P P^T = start I commutes with every covariance. Raises InputError unless
    `start` > 0: P = 0 is a stationary point of every loss. Fulfills the `Denoiser` contract at the times of the table.

    >>> import torch
    >>> from diffuscope import RectifiedFlow
    >>> from diffuscope.denoisers import SymmetricLinearDenoiser
    >>> times, mean = torch.tensor([0.25, 0.5]), torch.tensor([4.0, 0.0])
    >>> model = SymmetricLinearDenoiser(RectifiedFlow(), times, mean=mean, data_range=(-9.0, 9.0), start=0.25)
    >>> model(torch.tensor([[11.0, 2.0]]), 0.25).tolist()  # m + 1/4 (x - 3/4 m)
    [[6.0, 0.5]]
    >>> model.map_at(0.25)[1].tolist()  # (1 - 3/4 * 1/4) m
    [3.25, 0.0]
    """

    mean: Tensor

    def __init__(
        self,
        schedule: Schedule,
        times: Float[Tensor, " levels"],
        *,
        mean: Float[Tensor, "*event"],
        data_range: tuple[float, float],
        start: float | int = 0.01,
    ) -> None:
        super().__init__()
        if not 0 < start < math.inf:
            raise InputError(f"start: expected a number > 0 (P = 0 never moves), got {start}")
        self.schedule, self.clock = schedule, LevelTable(times)
        self.event_shape, self.data_range = tuple(mean.shape), data_range
        levels, d = len(self.clock.times), mean.numel()
        self.factor = nn.Parameter(math.sqrt(start) * torch.eye(d).repeat(levels, 1, 1))
        self.register_buffer("mean", mean.detach().flatten().to(self.factor.dtype))

    def forward(self, x_t: Float[Tensor, "batch *event"], t: Time) -> Float[Tensor, "batch *event"]:
        rows = _rows(x_t, self.event_shape, self.factor)
        index = self.clock.label(t).expand(len(rows))
        alpha = self.schedule.alpha(t).to(rows)
        centered, factors = rows - alpha.reshape(-1, 1) * self.mean, self.factor.unbind()
        denoised = self.mean + _by_level(centered, index, lambda level, x: x @ factors[level] @ factors[level].T)
        return denoised.reshape(x_t.shape).to(x_t.dtype)

    def map_at(self, t: float | int) -> tuple[Float[Tensor, "d d"], Float[Tensor, " d"]]:
        """(W, b) at one level: P P^T and (I - alpha P P^T) m, in float64."""
        factor = self.factor[int(self.clock.label(t))].detach().double()
        weight, mean = factor @ factor.T, self.mean.double()
        return weight, mean - float(self.schedule.alpha(t)) * weight @ mean


def _rows(x_t: Tensor, event_shape: tuple[int, ...], parameter: Tensor) -> Float[Tensor, "batch d"]:
    if tuple(x_t.shape[1:]) != event_shape:
        raise InputError(f"x_t: expected events of shape {event_shape}, got {tuple(x_t.shape[1:])}")
    return x_t.reshape(len(x_t), -1).to(parameter.dtype)


def _by_level(rows: Tensor, index: Tensor, apply: Callable[[int, Tensor], Tensor]) -> Tensor:
    """`apply(level, rows of that level)` in the order of the rows: one matrix product per level."""
    levels, counts = index.unique(return_counts=True)
    if len(levels) == 1:
        return apply(int(levels), rows)
    order = index.argsort(stable=True)
    parts = zip(levels.tolist(), rows[order].split(counts.tolist()), strict=True)
    return torch.cat([apply(level, part) for level, part in parts])[order.argsort()]
