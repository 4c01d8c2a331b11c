"""A sampler's random draws replaced by chosen ones, whatever library it comes from.

Inside the context, the k-th normal draw that goes through torch (`randn`, `randn_like`, `normal`, `Tensor.normal_`) is
replaced by `draw(k, shape)`. The noise of a black box thus becomes an input: zeros switch it off, and unit vectors give
the exact response to each draw.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

Draw = Callable[[int, tuple[int, ...]], Tensor]

NORMAL = (torch.randn, torch.randn_like, torch.normal, Tensor.normal_)
UNIFORM = (torch.rand, torch.rand_like, Tensor.uniform_)
OTHER = (*UNIFORM, torch.randint, torch.randperm, torch.multinomial, torch.bernoulli)


class ChosenNoise(TorchFunctionMode):
    """Replaces every normal draw by `draw(k, shape)`; `draws` counts these, `others` all further draws.

    With a `generator`, normal draws from another explicit one (say, a Brownian tree with seeds of its own) are not
    replaced and count among the others.
    """

    def __init__(self, draw: Draw, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.draw, self.generator = draw, generator
        self.draws = self.others = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        drawn, drawn_from = func(*args, **kwargs), kwargs.get("generator")
        foreign = None not in (self.generator, drawn_from) and drawn_from is not self.generator
        if func in OTHER or (func in NORMAL and foreign):
            self.others += 1
            return drawn
        if func not in NORMAL:
            return drawn
        chosen = self.draw(self.draws, tuple(drawn.shape)).to(drawn)
        self.draws += 1
        if func is torch.normal or func is Tensor.normal_:
            mean, std = _mean_and_std(func, args, kwargs)
            chosen = mean + std * chosen
        return drawn.copy_(chosen)


def no_noise(k: int, shape: tuple[int, ...]) -> Tensor:  # noqa: ARG001
    """Zeros: the noise switched off."""
    return torch.zeros(shape, dtype=torch.float64)


def _mean_and_std(func: Callable[..., Tensor], args: tuple, kwargs: dict) -> tuple:
    """The arguments `mean` and `std` of a call of `torch.normal` or `Tensor.normal_`."""
    positional = args[1:] if func is Tensor.normal_ else args
    bound = dict(zip(("mean", "std"), positional, strict=False)) | kwargs
    return bound.get("mean", 0.0), bound.get("std", 1.0)
