"""What can be certified: anything that takes a batch from one noise level to a lower one with a denoiser."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.denoisers import Batch, Denoiser
from diffuscope.samplers import DormandPrince, Sampler, sample
from diffuscope.schedules import VE, VP, RectifiedFlow, Schedule

Run = Callable[[Denoiser, Batch, Float[Tensor, " times"], torch.Generator | None], Batch]


@dataclass(frozen=True)
class Target:
    """A sampler, of this or another library, with its declared properties.

    `run(denoiser, x_start, times, generator)` walks the strictly decreasing float64 `times` of `denoiser.schedule`,
    one step between neighbors, from x_start at times[0], and returns the state at times[-1], in the dtype of x_start;
    at sigma(times[-1]) = 0 that is the finished sample. `generator` is None exactly for deterministic samplers.
    `order` is the declared order of convergence (weak order for a stochastic sampler), None if none is declared.
    `nfe_per_step` is the declared cost, None if it varies. `schedules` are those it can run in, its own first.
    `coarsest` and `finest` bound the numbers of steps that it accepts. `floor` is the relative accuracy of its own
    tables (float32 in some libraries), below which errors are rounding.
    """

    name: str
    run: Run
    order: int | None
    stochastic: bool
    nfe_per_step: int | None
    schedules: tuple[Schedule, ...] = (VE(), VP(), RectifiedFlow())
    coarsest: int = 1
    finest: int = 1000
    floor: float = 1e-12


def sampler_target(sampler: Sampler, name: str | None = None) -> Target:
    """`sampler` with its declared properties.

    An adaptive sampler chooses its steps by a tolerance, so that no order in the number of times is declared.
    """
    return Target(
        name or type(sampler).__name__,
        lambda denoiser, x, times, generator: sample(sampler, denoiser, x, times, noise=generator),
        None if isinstance(sampler, DormandPrince) else sampler.order,
        sampler.stochastic,
        sampler.nfe_per_step,
    )
