r"""Consistency models in several calls: noise added anew between them.

A consistency model maps a state at any time to the end, at t_min, of the trajectory of the probability-flow ODE through
it. One call at the highest noise makes a sample. In several calls the sample is noised again, to lower and lower times
t_1 > t_2 > ..., and mapped to the end again,

.. math::  x \leftarrow f\Big(\frac{\alpha_k}{\alpha_0} x
           + \sqrt{\sigma_k^2 - \frac{\alpha_k^2}{\alpha_0^2} \sigma_0^2}\; z,\ t_k\Big), \qquad z \sim N(0, I),

with :math:`\alpha_0, \sigma_0` those at t_min, where the answers of f are: the forward process from t_min to t_k. With
an exact f every number of calls gives the same distribution. Of a map without f(x, t_min) = x it means nothing.

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

    >>> import torch
    >>> from diffuscope import VE, ExactDenoiser, Gaussian
    >>> from diffuscope.samplers import consistency_times
    >>> model = ExactDenoiser(Gaussian.isotropic(torch.zeros(1), 1.0), VE(1.0, 128.0))
    >>> [round(t, 4) for t in consistency_times(model, 2).tolist()]  # t^(1/7) = 2 and 1.5; 1 would be t_min
    [128.0, 17.0859]
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

    >>> import torch
    >>> from diffuscope import RectifiedFlow
    >>> from diffuscope.samplers import consistency_samples
    >>> class Halves:
    ...     schedule = RectifiedFlow(epsilon=0.2)
    ...     def __call__(self, x_t, t):
    ...         return x_t / 2
    >>> draw, again = (torch.Generator().manual_seed(0) for _ in range(2))
    >>> x = consistency_samples(Halves(), torch.tensor([[64.0]]), torch.tensor([1.0, 0.6]), draw)
    >>> xi = torch.randn(1, 1, generator=again)
    >>> round(float((x - 8) / xi) ** 2, 4)  # 32, then half of 0.4 / 0.8 * 32 + (0.6^2 - 0.5^2 0.2^2)^(1/2) xi
    0.0875
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
