r"""Consistency models in several calls: noise added anew between them.

A consistency model maps a state at any time to the end, at t_min, of the trajectory of the probability-flow ODE through
it. One call at the highest noise makes a sample. In several calls the sample is noised again, to lower and lower times
t_1 > t_2 > ..., and mapped to the end again,

.. math::  x \leftarrow f\Big(\frac{\alpha_k}{\alpha_0} x
           + \sqrt{\sigma_k^2 - \frac{\alpha_k^2}{\alpha_0^2} \sigma_0^2}\; z,\ t_k\Big), \qquad z \sim N(0, I),

with :math:`\alpha_0, \sigma_0` those at t_min, where the answers of f are: the forward process from t_min to t_k. With
an exact f every number of calls gives the same law. Of a map without f(x, t_min) = x it means nothing.

Source: Song, Dhariwal, Chen & Sutskever 2023 (arXiv:2303.01469), algorithm 1, there for alpha = 1.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.denoisers import Batch, Checked, Denoiser
from diffuscope.errors import InputError
from diffuscope.schedules import as_time

from .generation import model_times


def consistency_times(denoiser: Denoiser, calls: int) -> Float[Tensor, " calls"]:
    """The decreasing times of `calls` calls: the highest, and a grid below it that leaves t_min out.

    Fewer where a model's table of times has fewer. Raises InputError for fewer than 1 call.
    """
    if calls < 1:
        raise InputError(f"calls: expected at least 1, got {calls}")
    highest = as_time(denoiser.schedule.t_max)[None]
    return highest if calls == 1 else torch.cat([highest, model_times(denoiser, calls)[1:-1].to(highest)])


@torch.no_grad()
def consistency_samples(
    denoiser: Denoiser, x_start: Batch, times: Float[Tensor, " calls"], generator: torch.Generator
) -> Batch:
    """Samples of a consistency model from states at `times[0]`, with one call at every time.

    Raises InputError for samples that are not finite.

    >>> from diffuscope.schedules import VE
    >>> class Exact:  # of data N(0, 1)
    ...     schedule = VE(0.01, 10.0)
    ...     def __call__(self, x_t, t):
    ...         return x_t * ((1 + 0.01**2) / (1 + self.schedule.sigma(t) ** 2)) ** 0.5
    >>> noise = 10 * torch.randn(20_000, 1, generator=torch.Generator().manual_seed(0))
    >>> model, seed = Exact(), torch.Generator().manual_seed(1)
    >>> round(float(consistency_samples(model, noise, consistency_times(model, 3), seed).std()), 1)
    1.0
    """
    model, schedule = Checked(denoiser), denoiser.schedule
    alpha_0, sigma_0 = float(schedule.alpha(schedule.t_min)), float(schedule.sigma(schedule.t_min))
    x = model(x_start, times[0])
    for t in times[1:]:
        kept, sigma = float(schedule.alpha(t)) / alpha_0, float(schedule.sigma(t))
        noise = torch.randn(x.shape, dtype=x.dtype, generator=generator).to(x.device)
        x = model(kept * x + max(0.0, sigma**2 - (kept * sigma_0) ** 2) ** 0.5 * noise, t)
    if not bool(torch.isfinite(x).all()):
        raise InputError(f"model: expected finite samples, got NaN or infinity from {len(times)} calls")
    return x
