"""A sampler's random draws replaced by chosen ones, whatever library it comes from.

Inside the context, every normal draw that goes through torch (`randn`, `randn_like`, `normal`, `Tensor.normal_`) and
every uniform one (`rand`, `rand_like`, `Tensor.uniform_`) becomes mean + deviation * chosen, with chosen numbers of
mean 0 and variance 1. The noise of a black box thus becomes an input: zeros switch it off, unit vectors give the exact
response to each draw, and a fixed noise for each row tells whether rows depend on each other.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.overrides import TorchFunctionMode

from diffuscope.denoisers import Batch, BatchTime, Denoiser, ExactDenoiser

from .asked import NotChosenError
from .target import Target

NORMAL = (torch.randn, torch.randn_like, torch.normal, Tensor.normal_)
UNIFORM = (torch.rand, torch.rand_like, Tensor.uniform_)
OTHER = (
    torch.randint, torch.randint_like, torch.randperm, torch.multinomial, torch.bernoulli, torch.poisson,
    Tensor.bernoulli_, Tensor.exponential_, Tensor.cauchy_, Tensor.geometric_, Tensor.log_normal_,
)  # fmt: skip


@dataclass(frozen=True)
class Drawn:
    """One call of a generator: the shape and dtype of its result, and whether it is uniform rather than normal."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    uniform: bool


Draw = Callable[[int, Drawn], Tensor]


class ChosenNoise(TorchFunctionMode):
    """Standardizes the k-th draw to `draw(k, drawn)`; `drawn` lists these, `others` counts all further draws.

    With a `generator`, draws from another explicit one (say, a Brownian tree with seeds of its own) are not replaced
    and count among the others.
    """

    def __init__(self, draw: Draw, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.draw, self.generator = draw, generator
        self.drawn: list[Drawn] = []
        self.others = 0

    @property
    def draws(self) -> int:
        """The number of draws that were chosen."""
        return len(self.drawn)

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        value, drawn_from = func(*args, **kwargs), kwargs.get("generator")
        foreign = None not in (self.generator, drawn_from) and drawn_from is not self.generator
        if func in OTHER or (func in (*NORMAL, *UNIFORM) and foreign):
            self.others += 1
            return value
        if func not in (*NORMAL, *UNIFORM):
            return value
        drawn = Drawn(tuple(value.shape), value.dtype, func in UNIFORM)
        chosen = self.draw(len(self.drawn), drawn).to(value)
        self.drawn.append(drawn)
        mean, deviation = _mean_and_deviation(func, args, kwargs)
        return value.copy_(mean + deviation * chosen)


class Unheard:
    """`denoiser`, whose own operations are not watched for draws: it makes none, and watching them doubles the cost."""

    def __init__(self, denoiser: Denoiser) -> None:
        self.denoiser, self.schedule = denoiser, denoiser.schedule

    def __call__(self, x_t: Batch, t: BatchTime) -> Batch:
        with torch._C.DisableTorchFunction():
            return self.denoiser(x_t, t)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["denoiser"], name)


def no_noise(k: int, drawn: Drawn) -> Tensor:  # noqa: ARG001
    """Zeros: the noise switched off, a uniform draw in its middle."""
    return torch.zeros(drawn.shape, dtype=torch.float64)


@dataclass(frozen=True)
class RowDraw:
    """A draw of a run: `axis` of its shape counts the rows of the batch, each of which gets `width` numbers.

    Without an axis the rows follow each other in one flat draw.
    """

    axis: int | None
    width: int
    dtype: torch.dtype

    def laid_out(self, rows: Float[Tensor, "rows width"], drawn: Drawn) -> Tensor:
        """The draw whose numbers for row i are `rows[i]`; NotChosenError if `drawn` is another kind of draw."""
        shape = list(drawn.shape)
        if self.axis is None and math.prod(shape) == rows.numel():
            return rows.reshape(shape)
        if (
            self.axis is None
            or self.axis >= len(shape)
            or shape.pop(self.axis) != len(rows)
            or math.prod(shape) != self.width
        ):
            raise NotChosenError(f"a draw of shape {drawn.shape} for {len(rows)} rows")
        return rows.reshape(len(rows), *shape).movedim(0, self.axis)


def count_draws(target: Target, denoiser: ExactDenoiser, times: Float[Tensor, " times"], rows: int = 1) -> ChosenNoise:
    """The random draws of a run of `target` from `rows` states at the origin."""
    x = torch.zeros(rows, *denoiser.distribution.event_shape, dtype=torch.float64)
    generator = torch.Generator() if target.stochastic else None
    with ChosenNoise(no_noise, generator) as noise:
        target.run(Unheard(denoiser), x, times, generator)
    return noise


ROWS = (7, 11)  # of runs that find out which axis counts the rows: the first that is no size of the event
FEWER = 5


def row_draws(target: Target, denoiser: ExactDenoiser, times: Float[Tensor, " times"]) -> Sequence[RowDraw | None]:
    """The draws of a run, found by their shapes for a batch of seven (or eleven); None for a draw that all rows share.

    Raises NotChosenError where a draw is of a kind that cannot be chosen, more than one axis might count the rows, or
    every row has draws of its own.
    """
    rows = next((n for n in ROWS if n not in denoiser.distribution.event_shape), ROWS[-1])
    found = count_draws(target, denoiser, times, rows)
    if found.others:
        raise NotChosenError("draws that cannot be chosen")
    draws = [_row_draw(drawn, rows) for drawn in found.drawn]
    if None in draws and count_draws(target, denoiser, times, FEWER).draws != len(draws):
        raise NotChosenError("draws of single rows")
    return draws


def _row_draw(drawn: Drawn, rows: int) -> RowDraw | None:
    axes = [axis for axis, size in enumerate(drawn.shape) if size == rows]
    if len(axes) > 1:
        raise NotChosenError(f"a draw of shape {drawn.shape} for {rows} rows")
    flat = not axes and len(drawn.shape) == 1 and drawn.shape[0] % rows == 0
    width = math.prod(drawn.shape) // rows
    return RowDraw(axes[0] if axes else None, width, drawn.dtype) if axes or flat else None


def _mean_and_deviation(func: Callable[..., Tensor], args: tuple, kwargs: dict) -> tuple:
    """Mean and standard deviation of the draw that a call makes."""
    positional = args[1:] if func in (Tensor.normal_, Tensor.uniform_) else args
    if func in (torch.normal, Tensor.normal_):
        bound = dict(zip(("mean", "std"), positional, strict=False)) | kwargs
        return bound.get("mean", 0.0), bound.get("std", 1.0)
    if func not in UNIFORM:
        return 0.0, 1.0
    # from, to of Tensor.uniform_; 0, 1 of the others
    ends = dict(zip(("from", "to"), positional, strict=False)) | kwargs if func is Tensor.uniform_ else {}
    low, high = ends.get("from", 0.0), ends.get("to", 1.0)
    return (low + high) / 2, (high - low) / math.sqrt(12)
