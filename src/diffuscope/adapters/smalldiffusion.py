r"""smalldiffusion's sampler (https://github.com/yuanchenyang/smalldiffusion) as a target:
`smalldiffusion:samples?gam=2`.

Its states are variance exploding, :math:`y = x/\alpha` at noise :math:`\sigma/\alpha`. Its model predicts the noise,
`model.predict_eps_cfg(y, sigma, cond, cfg_scale)`. The levels are an argument, so ours are given as they are; other
schedules are run through :math:`x = \alpha y`. Two numbers make the samplers: `gam=1, mu=0` is DDIM, `mu=0.5` DDPM, and
`gam=2` extrapolates the noise.

Noise is drawn by the model's `rand_input`, here from our generator; with mu = 0 it is multiplied by zero, and none is
drawn. The library states no order; DDIM has order 1.
"""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.certify import Target
from diffuscope.denoisers import Batch, Denoiser, denoised_to_noise
from diffuscope.errors import InputError
from diffuscope.schedules import VE

from .libraries import Options, arguments_of, library, require_known

_OPTIONS = {"gam", "mu"}


@dataclass(frozen=True, eq=False)
class _Model:
    """Our denoiser with smalldiffusion's interface."""

    denoiser: Denoiser
    like: Batch
    generator: torch.Generator | None

    def eval(self) -> "_Model":
        return self

    def predict_eps_cfg(self, y: Batch, sigma: Float[Tensor, ""], cond: None, scale: float) -> Batch:  # noqa: ARG002
        schedule = self.denoiser.schedule
        t = schedule.time_of_noise_to_signal(sigma)
        x_t = y * schedule.alpha(t)
        return denoised_to_noise(x_t, self.denoiser(x_t, t), schedule, t)

    def rand_input(self, batch: int) -> Batch:
        if self.generator is None:
            return torch.zeros_like(self.like[:batch])
        return torch.randn(self.like.shape, generator=self.generator, dtype=self.like.dtype, device=self.like.device)


def names() -> tuple[str, ...]:
    """The one sampler. Raises InputError where smalldiffusion is not installed."""
    library("smalldiffusion", "smalldiffusion")
    return ("samples",)


def target(name: str, options: Options) -> Target:
    """smalldiffusion's `samples` with `gam` and `mu`.

    Raises InputError where smalldiffusion is absent, for another name and other options.
    """
    if name not in names():
        raise InputError(f"target: smalldiffusion has no sampler {name!r}; expected samples")
    samples = library("smalldiffusion", "smalldiffusion").samples
    require_known(options, _OPTIONS, f"smalldiffusion:{name}")
    settings: dict[str, Any] = {**arguments_of(samples), **options}
    stochastic = settings["mu"] != 0

    def run(
        denoiser: Denoiser, x_start: Batch, times: Float[Tensor, " times"], generator: torch.Generator | None
    ) -> Batch:
        schedule = denoiser.schedule
        model = _Model(denoiser, x_start, generator if stochastic else None)
        # the accelerator only names a device, of starts that it draws itself
        given = {"accelerator": SimpleNamespace(device=x_start.device), **options}
        y = x_start / schedule.alpha(times[0])
        for state in samples(model, schedule.noise_to_signal(times), xt=y, **given):
            y = state
        return (y * schedule.alpha(times[-1])).to(x_start.dtype)

    return Target(
        name=f"smalldiffusion:{name}",
        run=run,
        order=1 if settings["gam"] == 1 and not stochastic else None,
        stochastic=stochastic,
        nfe_per_step=1,
        schedules=(VE(),),
    )
