r"""From a raw network F(x, label) to a denoiser D(x_t, t), by the quantity that the network was trained to predict.

.. math::
    \text{noise: } D = \frac{x_t - \sigma F}{\alpha}, \qquad
    \text{data: } D = F, \qquad
    \text{velocity: } D = \frac{\sigma F - \dot\sigma x_t}{\sigma\dot\alpha - \dot\sigma\alpha}, \qquad
    v: \ D = \frac{\alpha x_t - \sigma F}{\alpha^2 + \sigma^2} .

The v of Salimans & Ho 2022 (arXiv:2202.00512) is alpha eps - sigma x_0, whatever the time of the schedule is; the
velocity is dx_t/dt. For alpha = cos t, sigma = sin t they are the same.

A network is any callable that takes x of shape (batch, *event) and labels of shape (batch,) and returns the shape of x.
A class-conditional network has an attribute `classes` = C and takes a third argument, y of shape (batch,): the class
0 .. C-1 of every sample, or C for none. A network computes in the dtype of its parameters; the output has the dtype of
x_t. Every predictor has the `event_shape` and the `data_range` (lowest and highest value) of its data.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from diffuscope.errors import InputError
from diffuscope.schedules import Schedule, Times, as_time

from .clocks import Clock, clock_of
from .contract import Batch, BatchTime, Denoiser, Rescheduled, noise_to_denoised, over_events, velocity_to_denoised

Network = Callable[..., Tensor]
Classes = Int[Tensor, "*batch"] | int | None
INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
"""The dtypes that classes may have."""


class _Predictor(nn.Module):
    """A network with the schedule, clock and data that it was trained for."""

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

    @property
    def classes(self) -> int:
        """The number of classes of the network."""
        return classes_of(self.network)

    def predicted(self, x_t: Batch, t: BatchTime, y: Classes) -> Batch:
        """The output of the network at x_t."""
        return network_output(self.network, x_t, self.clock.label(t), self.event_shape, y)


class NoisePredictor(_Predictor):
    """A network that predicts the noise: D = (x_t - sigma F) / alpha.

    Raises InputError at alpha = 0, where the noise determines nothing about the data.

    >>> import torch
    >>> from diffuscope import RectifiedFlow
    >>> from diffuscope.denoisers import NoisePredictor
    >>> network = lambda x, t: torch.full_like(x, 8.0)
    >>> model = NoisePredictor(network, RectifiedFlow(), event_shape=(1,), data_range=(-9.0, 9.0))
    >>> model(torch.tensor([[5.0]]), 0.25)  # (5 - 0.25 * 8) / 0.75
    tensor([[4.]])
    """

    def forward(self, x_t: Batch, t: BatchTime, y: Classes = None) -> Batch:
        predicted = self.predicted(x_t, t, y)
        if bool((self.schedule.alpha(t) == 0).any()):
            raise InputError("t: expected alpha(t) > 0 for a network that predicts the noise, got alpha = 0")
        return noise_to_denoised(x_t, predicted, self.schedule, t)


class DataPredictor(_Predictor):
    """A network that predicts the clean data: D = F.

    >>> import torch
    >>> from diffuscope import RectifiedFlow
    >>> from diffuscope.denoisers import DataPredictor
    >>> network = lambda x, t: 3 * x + t[:, None]
    >>> model = DataPredictor(network, RectifiedFlow(), event_shape=(1,), data_range=(-9.0, 9.0))
    >>> model(torch.tensor([[5.0]]), 0.25)
    tensor([[15.2500]])
    """

    def forward(self, x_t: Batch, t: BatchTime, y: Classes = None) -> Batch:
        return self.predicted(x_t, t, y)


class VelocityPredictor(_Predictor):
    """A network that predicts the velocity dx_t/dt = alpha' x_0 + sigma' eps, in the schedule's own time.

    A network trained in time 1 - t predicts -v; wrap it to change the sign.

    >>> import torch
    >>> from diffuscope import RectifiedFlow
    >>> from diffuscope.denoisers import VelocityPredictor
    >>> network = lambda x, t: torch.full_like(x, 8.0)
    >>> model = VelocityPredictor(network, RectifiedFlow(), event_shape=(1,), data_range=(-9.0, 9.0))
    >>> model(torch.tensor([[5.0]]), 0.25)  # x_t - t v, as v = eps - x_0
    tensor([[3.]])
    """

    def forward(self, x_t: Batch, t: BatchTime, y: Classes = None) -> Batch:
        return velocity_to_denoised(x_t, self.predicted(x_t, t, y), self.schedule, t)


class VPredictor(_Predictor):
    """A network that predicts v = alpha eps - sigma x_0: D = (alpha x_t - sigma F) / (alpha^2 + sigma^2).

    Defined at alpha = 0 also.

    >>> import torch
    >>> from diffuscope import RectifiedFlow
    >>> from diffuscope.denoisers import VPredictor
    >>> network = lambda x, t: torch.full_like(x, 10.0)
    >>> model = VPredictor(network, RectifiedFlow(), event_shape=(1,), data_range=(-9.0, 9.0))
    >>> model(torch.tensor([[5.0]]), 0.25)  # (0.75 * 5 - 0.25 * 10) / (0.75^2 + 0.25^2)
    tensor([[2.]])
    """

    def forward(self, x_t: Batch, t: BatchTime, y: Classes = None) -> Batch:
        alpha, sigma = over_events(self.schedule.alpha(t), x_t), over_events(self.schedule.sigma(t), x_t)
        return (alpha * x_t - sigma * self.predicted(x_t, t, y)) / (alpha**2 + sigma**2)


def nearest_trained_time(denoiser: Denoiser, t: BatchTime) -> Times:
    """The time closest to `t` at which `denoiser` is defined: `t` itself unless it has a table of steps.

    By its attribute `clock`, or else by its schedule. For a table, integers 1..T; for a table read through another
    schedule, the times of equal sigma/alpha.

    >>> from diffuscope import VE
    >>> from diffuscope.denoisers import MLP, NoisePredictor, nearest_trained_time
    >>> from diffuscope.schedules import DiscreteVP
    >>> kept = {"event_shape": (2,), "data_range": (-1.0, 1.0)}
    >>> table, all_times = (NoisePredictor(MLP((2,), width=4), s, **kept) for s in (DiscreteVP.linear(), VE()))
    >>> float(nearest_trained_time(table, 3.7)), float(nearest_trained_time(all_times, 3.7))
    (4.0, 3.7)
    """
    if isinstance(denoiser, Rescheduled):
        inner = denoiser.denoiser
        t_inner = inner.schedule.time_of_lambda(denoiser.schedule.lam(t))
        nearest = nearest_trained_time(inner, t_inner)
        # an unchanged time is returned exactly, without the round trip through lambda
        there = denoiser.schedule.time_of_lambda(inner.schedule.lam(nearest))
        return torch.where(nearest == t_inner, as_time(t), there)
    wrapped = getattr(denoiser, "conditional", getattr(denoiser, "denoiser", None))
    if isinstance(wrapped, Denoiser) and wrapped.schedule == denoiser.schedule:  # `OfClass` or `Guided`
        return nearest_trained_time(wrapped, t)
    clock: Clock = getattr(denoiser, "clock", None) or clock_of(denoiser.schedule)
    return clock.nearest(t)


def network_output(network: Network, x: Batch, label: Tensor, event_shape: tuple[int, ...], y: Classes = None) -> Batch:
    """`network(x, label)`, or `network(x, label, y)` with classes, computed in the network's dtype, in that of `x`.

    Raises InputError for x or an output of another shape, and for classes that the network does not have.
    """
    if tuple(x.shape[1:]) != event_shape:
        raise InputError(f"x_t: expected shape {_with_batch(event_shape)}, got {_with_batch(x.shape[1:])}")
    dtype = network_dtype(network, x)
    label = label.to(x.device)
    label = (label.to(dtype) if label.is_floating_point() else label).expand(len(x))
    classes = () if y is None else (checked_classes(y, len(x), classes_of(network)).to(x.device),)
    output = network(x.to(dtype), label, *classes)
    if not isinstance(output, Tensor):
        raise InputError(f"network: expected an output that is a tensor, got {type(output).__name__}")
    if output.shape != x.shape:
        raise InputError(
            f"network: expected an output of the shape of its input {tuple(x.shape)}, got {tuple(output.shape)}"
        )
    return output.to(x.dtype)


def classes_of(network: object) -> int:
    """The number of classes of `network`: its attribute `classes`, or 0 unless that is an integer.

    >>> from diffuscope.denoisers import MLP, classes_of
    >>> classes_of(MLP((2,), width=4, classes=10)), classes_of(MLP((2,), width=4)), classes_of(print)
    (10, 0, 0)
    """
    classes = getattr(network, "classes", 0)
    return classes if isinstance(classes, int) and not isinstance(classes, bool) else 0


def checked_classes(y: Classes, n: int, classes: int) -> Int[Tensor, " n"]:
    """`y` as one class per sample, 0 .. classes - 1 or `classes` for none; None means none for all samples.

    Raises InputError for classes outside that range, for any class if `classes` is 0, and for another number of them.
    """
    if classes < 1:
        raise InputError(f"y: expected no class, as this denoiser was not trained with classes, got {_few(y)}")
    given = torch.as_tensor(classes if y is None else y)
    if given.dtype not in INTEGERS:
        raise InputError(f"y: expected integers, got {given.dtype}")
    if given.ndim > 1 or (given.ndim == 1 and len(given) != n):
        raise InputError(f"y: expected one class, or one per sample, shape ({n},), got {tuple(given.shape)}")
    # inspecting the values would break the graph of a compiled model
    if not torch.compiler.is_compiling() and given.numel() and (int(given.min()) < 0 or int(given.max()) > classes):
        raise InputError(f"y: expected classes 0 .. {classes - 1}, or {classes} for none, got {_few(given)}")
    return given.long().expand(n)


def _few(y: Classes) -> str:
    if y is None:
        return "none"
    values = torch.as_tensor(y).flatten().tolist()
    return ", ".join(map(str, values[:5])) + (", ..." if len(values) > 5 else "")


def network_dtype(network: Network, x: Float[Tensor, "..."]) -> torch.dtype:
    """The dtype of the network's parameters; that of `x` for a plain function."""
    if isinstance(network, nn.Module):
        for parameter in network.parameters():
            if parameter.is_floating_point():
                return parameter.dtype
    return x.dtype


def _with_batch(event_shape: tuple[int, ...]) -> str:
    return f"(batch, {', '.join(map(str, event_shape))})"
