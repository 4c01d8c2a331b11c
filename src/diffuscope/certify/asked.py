"""Asking someone else's sampler: whatever it does wrong, an exit included, becomes one line that names the place."""

import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

import diffuscope
from diffuscope.denoisers import Batch, Denoiser
from diffuscope.errors import InputError

from .target import Target

NOT_THEIRS = tuple(Path(str(package.__file__)).resolve().parent for package in (diffuscope, torch))
T = TypeVar("T")


class TargetError(Exception):
    """What a target did wrong, in one line: an exception, an exit, or a result of another kind."""


class NotChosenError(Exception):
    """The random draws of a target cannot be chosen row by row: no fault of its own."""


def blamed(call: Callable[..., T], *arguments: object) -> T:
    """`call(*arguments)`; TargetError with the line of theirs for any exception or exit but an interrupt.

    InputError, a stated limit, is passed on.
    """
    try:
        return call(*arguments)
    except (InputError, TargetError, NotChosenError, KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:
        said = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        raise TargetError(f"{place(error)}: {' '.join(said.split())[:300]}") from error


def place(error: BaseException) -> str:
    """`file:line` of the innermost frame that is neither torch's nor ours; of the innermost of all if there is none."""
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [frame for frame in frames if not any(map(Path(frame.filename).resolve().is_relative_to, NOT_THEIRS))]
    frame = (theirs or frames)[-1]
    path = Path(frame.filename)
    with suppress(OSError, ValueError):  # the current folder is gone; the file is elsewhere
        path = path.resolve().relative_to(Path.cwd())
    return f"{path if len(path.parts) < 4 else path.name}:{frame.lineno}"


def asked(target: Target) -> Target:
    """`target` on flat events of float64 or float32 vectors, whose run raises TargetError for all that it does wrong.

    A target whose event is an image is shown (batch, channels, height, width), and its denoiser takes the same.
    """

    def run(
        denoiser: Denoiser, x_start: Batch, times: Float[Tensor, " times"], generator: torch.Generator | None
    ) -> Batch:
        shape = image_shape(x_start) if target.event == "image" else tuple(x_start.shape)
        seen = denoiser if x_start.shape == shape else Reshaped(denoiser, tuple(x_start.shape[1:]))
        ended = blamed(target.run, seen, x_start.reshape(shape), times, generator)
        return require_result(ended, shape).reshape(x_start.shape)

    return replace(target, run=run, event="vector" if target.event == "image" else target.event)


def require_result(ended: object, shape: tuple[int, ...]) -> Batch:
    """`ended` if it is a tensor of this shape; TargetError with what came instead."""
    if not isinstance(ended, Tensor):
        raise TargetError(f"it returns a {type(ended).__name__}; expected the state at times[-1], a tensor")
    if tuple(ended.shape) != shape:
        raise TargetError(f"it returns a tensor of shape {tuple(ended.shape)}; expected that of the start, {shape}")
    if not ended.is_floating_point():
        raise TargetError(f"it returns a tensor of {str(ended.dtype)[6:]}; expected floating point")
    return ended.detach()


def image_shape(x: Batch) -> tuple[int, ...]:
    """(batch, channels, height, width): two channels where d is even, and wider than high where that can be."""
    d = x[0].numel()
    channels = 2 if d % 2 == 0 else 1
    pixels = d // channels
    height = max(h for h in range(1, pixels + 1) if pixels % h == 0 and (h * h < pixels or h == 1))
    return len(x), channels, height, pixels // height


class Reshaped:
    """`denoiser` of events of shape `event_shape`, asked at states of another shape of the same size."""

    def __init__(self, denoiser: Denoiser, event_shape: tuple[int, ...]) -> None:
        self.denoiser, self.event_shape = denoiser, event_shape
        self.schedule = denoiser.schedule

    def __call__(self, x_t: Batch, t: Tensor | float) -> Batch:
        if x_t[0].numel() != torch.Size(self.event_shape).numel():
            raise TargetError(f"it asks the denoiser at a state of shape {tuple(x_t.shape)}, which is not the start's")
        return self.denoiser(x_t.reshape(len(x_t), *self.event_shape), t).reshape(x_t.shape)
