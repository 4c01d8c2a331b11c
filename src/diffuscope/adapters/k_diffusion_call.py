"""Our samplers in k-diffusion's call shape: `sample(model, x, sigmas, extra_args=None, callback=None, disable=None)`.

::

    sample_unipc = k_diffusion_sampler(UniPC())
    x = sample_unipc(model, x, sigmas)  # wherever a k_diffusion.sampling.sample_* goes

`model(x, sigma, **extra_args)` is a denoiser at variance-exploding states, x_0 + sigma noise, with one sigma per
sample; `sigmas` decrease, usually to a last 0. Every sampler works, whatever its evaluations per step.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.denoisers import Batch, BatchTime
from diffuscope.errors import InputError
from diffuscope.progress import progress_bar
from diffuscope.samplers import Sampler, trajectory
from diffuscope.schedules import VE, as_time

from .teleport_start import require_decreasing

Model = Callable[..., Batch]
Callback = Callable[[dict[str, Any]], None]


@dataclass(eq=False)
class _Model:
    """k-diffusion's model as a denoiser; `latest` is its first answer of the present step."""

    model: Model
    arguments: dict[str, Any]
    schedule: VE
    latest: Batch | None = None

    def __call__(self, x_t: Batch, t: BatchTime) -> Batch:
        denoised = self.model(x_t, as_time(t).to(x_t).expand(len(x_t)), **self.arguments)
        self.latest = denoised if self.latest is None else self.latest
        return denoised


def k_diffusion_sampler(sampler: Sampler) -> Callable[..., Batch]:
    """`sampler` as a function of k-diffusion's call shape, with a keyword `generator` more.

    `callback` is called after every step with x, i, sigma, sigma_hat and denoised at the start of the step, as
    k-diffusion does; `disable` hides the progress bar (None: where there is no terminal). A stochastic sampler needs
    `generator`. Raises InputError without it, and for levels that do not decrease.

    >>> import torch
    >>> from diffuscope import DDIM
    >>> from diffuscope.adapters import k_diffusion_sampler
    >>> sample = k_diffusion_sampler(DDIM())
    >>> x, sigmas = torch.tensor([[5.0]]), torch.tensor([2.0, 1.0])
    >>> float(sample(lambda x, sigma: x / (1 + sigma[:, None] ** 2), x, sigmas))  # D = 1: 1 + (5 - 1) / 2
    3.0
    """

    def sample(
        model: Model,
        x: Batch,
        sigmas: Float[Tensor, " levels"],
        extra_args: dict[str, Any] | None = None,
        callback: Callback | None = None,
        disable: bool | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> Batch:
        require_decreasing(sigmas)
        if sampler.stochastic and generator is None:
            raise InputError(f"generator: {type(sampler).__name__} draws noise and needs a torch.Generator, got None")
        asked = _Model(model, extra_args or {}, VE())
        states = trajectory(sampler, asked, x, sigmas, noise=generator)
        state = next(states)
        hidden = not (sys.stderr and sys.stderr.isatty()) if disable is None else disable
        for i, sigma in enumerate(progress_bar(sigmas[:-1], desc="sampling", unit="step", disable=hidden)):
            before, asked.latest = state, None
            state = next(states)
            if callback is not None:
                noted = {"x": before.x_t, "i": i, "sigma": sigma, "sigma_hat": sigma, "denoised": asked.latest}
                callback(noted)
        return state.x_t

    return sample
