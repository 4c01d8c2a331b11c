"""The network inside a denoiser, as it is called: what it is given as time, so that other times can be tried.

A denoiser is opaque, but most are an object that holds its network as an attribute. Each attribute that can be called
is replaced, in a shallow copy, by one that records its calls. The network is the one that is called with the noised
points themselves and one number as its time, and returns the shape of the points. A conditional denoiser at one class
holds it one level deeper.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from diffuscope.denoisers import Batch, Denoiser, OfClass

NOT_NETWORKS = ("schedule", "clock")


@dataclass(frozen=True, eq=False)
class CalledNetwork:
    """The network of a denoiser and one of its calls, which is repeated at other points and times."""

    network: Any
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    time_at: int | str  # position or keyword of the time
    output: Tensor
    name: str

    @property
    def time(self) -> float:
        """The time of the recorded call."""
        return float(torch.as_tensor(self._argument(self.time_at)).flatten()[0])

    @property
    def counts(self) -> bool:
        """Whether the network is given integers."""
        return not torch.as_tensor(self._argument(self.time_at)).is_floating_point()

    def _argument(self, place: int | str) -> Any:
        return self.args[place] if isinstance(place, int) else self.kwargs[place]

    def __call__(self, x: Batch, time: float) -> Batch:
        """The network's output at `time`, rounded for a network that is given integers; other arguments as recorded."""
        recorded = len(self.args[0])

        def resized(place: int | str, value: Any) -> Any:
            if place == self.time_at:
                old = torch.as_tensor(value)
                shape = (len(x), *old.shape[1:]) if old.ndim and len(old) == recorded else old.shape
                new = torch.full(shape, round(time) if self.counts else time, dtype=old.dtype, device=old.device)
                return new if isinstance(value, Tensor) else type(value)(new.item())
            if isinstance(value, Tensor) and value.ndim and len(value) == recorded:
                return value[:1].expand(len(x), *value.shape[1:])
            return value

        args = [resized(place, value) for place, value in enumerate(self.args) if place]
        kwargs = {place: resized(place, value) for place, value in self.kwargs.items()}
        return _output(self.network(x.to(self.args[0]), *args, **kwargs)).to(x)


class _Recorded(nn.Module):
    """A callable that keeps its calls and is otherwise the one it replaces."""

    def __init__(self, called: Any) -> None:
        super().__init__()
        self.__dict__["calls"] = []
        if isinstance(called, nn.Module):
            self.called = called  # its parameters stay visible
        else:
            self.__dict__["called"] = called

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        out = self.called(*args, **kwargs)
        self.calls.append((args, kwargs, out))
        return out

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(
                super().__getattr__("called") if "called" in self._modules else self.__dict__["called"], name
            )


def called_network(denoiser: Denoiser, x: Batch, t: float) -> CalledNetwork | None:
    """The network that `denoiser` calls at (x, t); None if no attribute of it is called with x itself and a time."""
    if isinstance(denoiser, OfClass):
        return _called_by(denoiser.denoiser, x, t, denoiser.y)
    return _called_by(denoiser, x, t)


def _called_by(denoiser: Any, x: Batch, t: float, *more: Any) -> CalledNetwork | None:
    """The network of a denoiser that is called with `more` than (x, t)."""
    attributes = dict(vars(denoiser)) if hasattr(denoiser, "__dict__") else {}
    attributes |= attributes.get("_modules", {})
    for name, value in attributes.items():
        if name.startswith("_") or name in NOT_NETWORKS or isinstance(value, type) or not callable(value):
            continue
        recorded, taps = _Recorded(value).train(False), copy.copy(denoiser)
        if isinstance(taps, nn.Module):
            taps.__dict__["_modules"] = {**denoiser._modules, name: recorded}  # pyright: ignore[reportAttributeAccessIssue]
            taps.__dict__.pop(name, None)
        else:
            object.__setattr__(taps, name, recorded)
        try:
            with torch.no_grad():
                taps(x, torch.tensor(t, dtype=torch.float64), *more)
        except Exception:  # an attribute that cannot be replaced is not the network that is sought
            continue
        for args, kwargs, out in recorded.calls:
            found = _time_of(args, kwargs, x)
            if found is not None and isinstance(_output(out), Tensor) and _output(out).shape == x.shape:
                return CalledNetwork(value, args, kwargs, found, _output(out), name)
    return None


def _time_of(args: tuple[Any, ...], kwargs: Mapping[str, Any], x: Batch) -> int | str | None:
    """Where the time is among the arguments of a call whose first is x."""
    first = args[0] if args else None
    if not (isinstance(first, Tensor) and first.shape == x.shape and torch.equal(first.to(x), x)):
        return None
    for place, value in [*enumerate(args[1:], 1), *kwargs.items()]:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return place
        if isinstance(value, Tensor) and value.numel() in (1, len(x)) and value.dtype != torch.bool:
            return place
    return None


def _output(value: Any) -> Any:
    """The tensor of an output that wraps one: a tuple, or an object with the attribute `sample`."""
    value = getattr(value, "sample", value) if not isinstance(value, Tensor) else value
    return value[0] if isinstance(value, tuple) and value else value
