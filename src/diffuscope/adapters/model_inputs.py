"""What the adapters of models share: options as typed, constant inputs of a network, its classes.

`class=3` on the command line, or `OfClass(denoiser, 3)` in Python, conditions a denoiser of any library on a class, and
`class=3&guidance=2`, or `Guided(OfClass(denoiser, 3), OfClass(denoiser, None), 2)`, guides it toward that.
"""

import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from diffuscope.denoisers import Batch, Classes, Denoiser, Guided, OfClass, classes_of
from diffuscope.errors import InputError

from .libraries import Option, Options, arguments_of, require_known

Shape = tuple[int, ...] | None
Range = tuple[float, float] | None
USUAL_RANGE = (-1.0, 1.0)  # assumed where a model states no range of its data
_NUMBERS = {"sigma_min", "sigma_max", "time_scale", "null_class", "classes"}
_OF_PYTHON = {"condition", "constants", "clock"}  # what no word can say


@dataclass(frozen=True)
class ClassRows:
    """The rows of a network's table of classes, one of which, `null`, may mean none.

    Of C classes, y = 0 .. C - 1 are the other rows in their order, and C, or no y, is none.
    """

    rows: int
    null: int | None = None

    def __post_init__(self) -> None:
        if self.null is not None and not 0 <= self.null < self.rows:
            raise InputError(f"null_class: expected one of the classes 0 .. {self.rows - 1}, got {self.null}")

    @property
    def classes(self) -> int:
        """C, 0 for a network without classes."""
        return self.rows - (self.null is not None)

    def of(self, y: Classes, n: int, device: torch.device) -> Int[Tensor, " n"]:
        """The rows of the classes `y`; InputError for none where no row means that."""
        given = torch.as_tensor(self.classes if y is None else y, device=device).long().expand(n)
        if self.null is None:
            if y is None or bool((given == self.classes).any()):
                raise InputError(
                    f"model: this network needs a class; expected class=0 .. class={self.rows - 1}, or null_class, the "
                    "class that means none"
                )
            return given
        return torch.where(given == self.classes, self.null, given + (given >= self.null))


def repeated(condition: Mapping[str, Any], n: int) -> dict[str, Any]:
    """Constant inputs for a batch of n: tensors of one row are repeated, everything else is passed as it is."""
    return {
        name: value.expand(n, *value.shape[1:]) if isinstance(value, Tensor) and value.shape[:1] == (1,) else value
        for name, value in condition.items()
    }


def settings_of(
    function: Callable[..., Any], options: Options, name: str, more: frozenset[str] = frozenset()
) -> dict[str, Any]:
    """`options` as keyword arguments of `function`, those of `more` included; InputError for any other."""
    require_known(options, (set(arguments_of(function)) - _OF_PYTHON) | more, name, "model")
    for key in _NUMBERS & options.keys():
        if options[key] is None or isinstance(options[key], bool | str):
            raise InputError(f"model: expected a number for {key}, got {options[key]!r}")
    readers = {"event_shape": read_shape, "data_range": read_range}
    return {key: readers[key](value) if key in readers else value for key, value in options.items()}


def read_shape(value: Option) -> Shape:
    """`3,32,32` as (3, 32, 32).

    >>> read_shape("3,32,32"), read_shape(2)
    ((3, 32, 32), (2,))
    """
    with suppress(ValueError):
        shape = tuple(int(part) for part in str(value).split(","))
        if all(n > 0 for n in shape):
            return shape
    raise InputError(f"model: expected event_shape=3,32,32, the shape of one example, got event_shape={value}")


def read_range(value: Option) -> Range:
    """`-1,1` as (-1.0, 1.0); none as None.

    >>> read_range("0,1"), read_range(None)
    ((0.0, 1.0), None)
    """
    if value is None:
        return None
    with suppress(ValueError):
        low, high = (float(part) for part in str(value).split(","))
        if low < high:
            return low, high
    raise InputError(f"model: expected data_range=-1,1, the lowest and highest value, got data_range={value}")


def conditioned_by(options: dict[str, Option]) -> Callable[[Denoiser], Denoiser]:
    """What the options `class` and `guidance`, which are taken out of `options`, make of a denoiser.

    Raises InputError, now, for values that are no numbers and for guidance without a class, and, when it is called, for
    a class that the model does not have.
    """
    y, scale = options.pop("class", None), options.pop("guidance", None)
    if y is not None and (not isinstance(y, int) or isinstance(y, bool)):
        raise InputError(f"model: expected class=NUMBER, got class={y}")
    number = isinstance(scale, int | float) and not isinstance(scale, bool) and math.isfinite(scale)
    if scale is not None and not number:
        raise InputError(f"model: expected guidance=NUMBER, got guidance={scale}")
    if scale is not None and y is None:
        raise InputError(f"model: expected class=NUMBER with guidance={scale}")

    def conditioned(denoiser: Denoiser) -> Denoiser:
        if y is None:
            return denoiser
        classes = classes_of(denoiser)
        if not 0 <= y < classes:
            has = f"class=0 .. class={classes - 1}" if classes else "no class, as the model has none"
            raise InputError(f"model: expected {has}, got class={y}")
        of_class = OfClass(denoiser, y)  # type: ignore[arg-type]
        if scale is None or scale == 1:
            return of_class
        return Guided(of_class, OfClass(denoiser, None), scale)  # type: ignore[arg-type]

    return conditioned


def require_shape(shape: Shape, what: str) -> tuple[int, ...]:
    """The event shape; InputError, with what to pass, where it is unknown."""
    if shape is None:
        raise InputError(f"event_shape: {what} does not state the shape of one example; expected e.g. 3,32,32")
    return shape


def refusal(error: Exception, network: str, x: Batch) -> Exception:
    """What to raise where a network does not take `x`: one line with its shape, but a full memory as it is."""
    if isinstance(error, InputError | torch.cuda.OutOfMemoryError) or "allocate memory" in str(error):
        return error
    reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
    return InputError(f"model: the {network} does not take examples of shape {tuple(x.shape[1:])} ({reason})")


def described(denoiser: Any, network: Any, data_range: Range) -> Any:
    """`denoiser` in the mode of its network, and without a data range where there is none.

    The data then come in the model's own units.
    """
    denoiser.training = bool(getattr(network, "training", False))
    if data_range is None:
        del denoiser.data_range
    return denoiser
