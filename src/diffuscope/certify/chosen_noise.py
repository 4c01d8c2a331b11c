"""A sampler's random draws replaced by chosen ones, whatever the library it comes from.

Every normal draw that goes through torch (`randn`, `randn_like`, `normal`, `Tensor.normal_`) inside the context is
answered by `draw(k, shape)`, k counting the draws. So a black box's noise becomes an input of it: with zeros the noise
is switched off, with unit vectors the response to each draw is read off exactly.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

Draw = Callable[[int, tuple[int, ...]], Tensor]

NORMAL = (torch.randn, torch.randn_like, torch.normal, Tensor.normal_)
OTHER = (
    torch.rand,
    torch.rand_like,
    torch.randint,
    torch.randperm,
    torch.multinomial,
    torch.bernoulli,
    Tensor.uniform_,
)


class ChosenNoise(TorchFunctionMode):
    """Answers every normal draw by `draw(k, shape)`; `draws` counts them, `others` the draws that are not answered so.

    With a `generator`, normal draws from another explicit one (a Brownian tree with seeds of its own, say) are left
    alone and counted among the others.
    """

    def __init__(self, draw: Draw, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.draw = draw
        self.generator = generator
        self.draws = 0
        self.others = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        drawn = func(*args, **(kwargs or {}))
        drawn_from = (kwargs or {}).get("generator")
        foreign = None not in (self.generator, drawn_from) and drawn_from is not self.generator
        if func in OTHER or (func in NORMAL and foreign):
            self.others += 1
            return drawn
        if func not in NORMAL:
            return drawn
        chosen = self.draw(self.draws, tuple(drawn.shape)).to(drawn)
        self.draws += 1
        if func is torch.normal or func is Tensor.normal_:
            mean, deviation = _location_and_scale(func, args, kwargs or {})
            chosen = mean + deviation * chosen
        return drawn.copy_(chosen)


def no_noise(k: int, shape: tuple[int, ...]) -> Tensor:  # noqa: ARG001
    """Zeros: the noise switched off."""
    return torch.zeros(shape, dtype=torch.float64)


def _location_and_scale(func: Callable[..., Tensor], args: tuple, kwargs: dict) -> tuple:
    """The arguments `mean` and `std` of a call of `torch.normal` or `Tensor.normal_`."""
    positional = args[1:] if func is Tensor.normal_ else args
    bound = dict(zip(("mean", "std"), positional, strict=False)) | kwargs
    return bound.get("mean", 0.0), bound.get("std", 1.0)
