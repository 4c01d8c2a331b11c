r"""From a raw network F(x, label) to a denoiser D(x_t, t), by what the network was trained to predict.

.. math::
    \text{noise: } D = \frac{x_t - \sigma F}{\alpha}, \qquad
    \text{data: } D = F, \qquad
    \text{velocity: } D = \frac{\sigma F - \dot\sigma x_t}{\sigma\dot\alpha - \dot\sigma\alpha} .

A network is any callable that takes x of shape (batch, *event) and labels of shape (batch,) and answers
with the shape of x. It computes in the dtype of its parameters; the answer has the dtype of x_t.
Every predictor states the `event_shape` and the `data_range` (lowest and highest value) of its data.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from diffuscope.denoisers.clocks import Clock, clock_of
from diffuscope.denoisers.contract import (
    Batch,
    BatchTime,
    Denoiser,
    Rescheduled,
    noise_to_denoised,
    velocity_to_denoised,
)
from diffuscope.errors import InputError
from diffuscope.schedules import Schedule, Times, as_time

Network = Callable[[Tensor, Tensor], Tensor]


class NoisePredictor(nn.Module):
    """A network that predicts the noise: D = (x_t - sigma F) / alpha.

    Raises ValueError where alpha = 0: there the noise tells nothing about the data.
    """

    def __init__(
        self,
        network: Network,
        schedule: Schedule,
        *,
        event_shape: tuple[int, ...],
        data_range: tuple[float, float],
        clock: Clock | None = None,
    ) -> None:
        super().__init__()
        self.network, self.schedule = network, schedule
        self.event_shape, self.data_range = tuple(event_shape), data_range
        self.clock = clock or clock_of(schedule)

    def forward(self, x_t: Batch, t: BatchTime) -> Batch:
        label = self.clock.label(t)
        if bool((self.schedule.alpha(t) == 0).any()):
            raise ValueError("t: expected alpha(t) > 0 for a network that predicts the noise, got alpha = 0")
        predicted = network_output(self.network, x_t, label, self.event_shape)
        return noise_to_denoised(x_t, predicted, self.schedule, t)


class DataPredictor(nn.Module):
    """A network that predicts the clean data: D = F."""

    def __init__(
        self,
        network: Network,
        schedule: Schedule,
        *,
        event_shape: tuple[int, ...],
        data_range: tuple[float, float],
        clock: Clock | None = None,
    ) -> None:
        super().__init__()
        self.network, self.schedule = network, schedule
        self.event_shape, self.data_range = tuple(event_shape), data_range
        self.clock = clock or clock_of(schedule)

    def forward(self, x_t: Batch, t: BatchTime) -> Batch:
        return network_output(self.network, x_t, self.clock.label(t), self.event_shape)


class VelocityPredictor(nn.Module):
    """A network that predicts the velocity dx_t/dt = alpha' x_0 + sigma' eps, in the schedule's own time.

    A network trained in time 1 - t predicts -v; wrap it to change the sign.
    """

    def __init__(
        self,
        network: Network,
        schedule: Schedule,
        *,
        event_shape: tuple[int, ...],
        data_range: tuple[float, float],
        clock: Clock | None = None,
    ) -> None:
        super().__init__()
        self.network, self.schedule = network, schedule
        self.event_shape, self.data_range = tuple(event_shape), data_range
        self.clock = clock or clock_of(schedule)

    def forward(self, x_t: Batch, t: BatchTime) -> Batch:
        predicted = network_output(self.network, x_t, self.clock.label(t), self.event_shape)
        return velocity_to_denoised(x_t, predicted, self.schedule, t)


def nearest_trained_time(denoiser: Denoiser, t: BatchTime) -> Times:
    """The time closest to `t` at which `denoiser` can be asked: `t` itself unless it knows a table of steps.

    For a table, integers 1..T; for a table read through another schedule, the times of equal sigma/alpha.
    """
    if isinstance(denoiser, Rescheduled):
        inner = denoiser.denoiser
        t_inner = inner.schedule.time_of_lambda(denoiser.schedule.lam(t))
        nearest = nearest_trained_time(inner, t_inner)
        # an untouched time is returned as it came, free of the round trip through lambda
        there = denoiser.schedule.time_of_lambda(inner.schedule.lam(nearest))
        return torch.where(nearest == t_inner, as_time(t), there)
    clock: Clock | None = getattr(denoiser, "clock", None)
    return as_time(t) if clock is None else clock.nearest(t)


def network_output(network: Network, x: Batch, label: Tensor, event_shape: tuple[int, ...]) -> Batch:
    """`network(x, label)` with one label per sample, in the network's dtype and back; InputError on a shape."""
    if tuple(x.shape[1:]) != event_shape:
        raise InputError(f"x_t: expected shape {_with_batch(event_shape)}, got {_with_batch(x.shape[1:])}")
    dtype = network_dtype(network, x)
    label = label.to(x.device)
    label = label.to(dtype) if label.is_floating_point() else label
    output = network(x.to(dtype), label.expand(len(x)))
    if output.shape != x.shape:
        raise InputError(
            f"network: expected an output of the shape of its input {tuple(x.shape)}, got {tuple(output.shape)}"
        )
    return output.to(x.dtype)


def network_dtype(network: Network, x: Float[Tensor, "..."]) -> torch.dtype:
    """The dtype of the network's parameters; that of `x` for a plain function."""
    if isinstance(network, nn.Module):
        for parameter in network.parameters():
            if parameter.is_floating_point():
                return parameter.dtype
    return x.dtype


def _with_batch(event_shape: tuple[int, ...]) -> str:
    return f"(batch, {', '.join(map(str, event_shape))})"
