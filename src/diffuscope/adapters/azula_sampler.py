r"""Our samplers as an azula sampler: `AzulaSampler(denoiser, sampler, steps=20)`, a subclass of `azula.sample.Sampler`.

    from diffuscope.adapters.azula_sampler import AzulaSampler

    x = AzulaSampler(denoiser, "UniPC?predictor_order=2", steps=20)(AzulaSampler(denoiser, "DDIM").init((8, 64)))

azula's denoiser returns a posterior whose mean is D, and its schedule the :math:`(\alpha_t, \sigma_t)` of the kernel,
as ours. Its loop calls `step(x_t, t, s)` between its own times. A sampler of ours with a history continues it where a
step starts at the state and time at which the last one ended, and starts cold anywhere else.
"""

import functools
import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from diffuscope.denoisers import Batch, BatchTime
from diffuscope.errors import InputError
from diffuscope.samplers import Instant, Noise, Sampler, State
from diffuscope.schedules import VE, as_time

from .grid_samplers import grid_sampler
from .libraries import library


@dataclass(frozen=True, eq=False)
class _Denoiser:
    """azula's denoiser as ours, at azula's times."""

    denoiser: Any
    like: Tensor
    arguments: dict[str, Any]

    @property
    def schedule(self) -> VE:
        """Not read: a step on the grid takes alpha and sigma from its instants."""
        return VE()

    def __call__(self, x_t: Batch, t: BatchTime) -> Batch:
        return self.denoiser(x_t, as_time(t).to(self.like), **self.arguments).mean


class _Steps:
    """The sampler without its base class of azula; see `AzulaSampler`."""

    def __init__(
        self, denoiser: Any, sampler: Sampler | str, *, generator: torch.Generator | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.denoiser, self.sampler, self.generator = denoiser, grid_sampler(sampler), generator
        if self.sampler.stochastic and generator is None:
            raise InputError(
                f"generator: {type(self.sampler).__name__} draws noise and needs a torch.Generator, got None"
            )
        self._state: State | None = None

    def step(self, x_t: Batch, t: Tensor, s: Tensor, **kwargs: Any) -> Batch:
        """From time t to time s."""
        at, to = self._instant(t), self._instant(s)
        last = self._state
        state = State(at, x_t) if last is None or last.x_t is not x_t or last.at.t != at.t else replace(last, at=at)
        noise = None if self.generator is None else Noise(self.generator)
        self._state = self.sampler.step(_Denoiser(self.denoiser, t, kwargs), state, to, noise)
        return self._state.x_t

    def _instant(self, t: Tensor) -> Instant:
        alpha, sigma = (float(scale) for scale in self.denoiser.schedule(t))
        lam = math.inf if sigma == 0 else -math.inf if alpha == 0 else math.log(alpha / sigma)
        return Instant(float(t), alpha, sigma, math.nan, math.nan, lam)  # no sampler on a grid reads the slopes


@functools.cache
def _sampler_class() -> Any:
    """`AzulaSampler`, once azula is imported."""
    base = library("azula.sample", "azula").Sampler
    about = "A sampler of ours that evaluates the denoiser at the times of the grid only, as azula's; see its module."
    return type("AzulaSampler", (_Steps, base), {"__module__": __name__, "__doc__": about})


def __getattr__(name: str) -> Any:
    if name == "AzulaSampler":
        return _sampler_class()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
