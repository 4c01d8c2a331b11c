r"""The variational bound on -log p(x_0), in continuous time, for any denoiser: no trajectory, no divergence.

A diffusion model is a latent-variable model: noise from a prior, denoised in infinitely many steps to t_min, then
decoded. With :math:`\mathrm{SNR} = \alpha^2/\sigma^2` its evidence bound is

.. math::
    -\log p(x_0) \le \mathrm{KL}\big(q(x_T | x_0) \,\|\, p_T\big)
      + \frac12\int_{\mathrm{SNR}_T}^{\mathrm{SNR}_{min}} E\,|x_0 - D(x_t, t)|^2 \, d\,\mathrm{SNR}
      + E\big[-\log N\big(x_0;\, D(x_{t_{min}}),\, \mathrm{SNR}_{min}^{-1} I\big)\big] .

For the exact denoiser of a distribution this is -log p(x_0) itself at every x_0, up to the prior and the decoder, and
its mean over the distribution is the entropy (the I-MMSE relation: half the integrated squared error is an
information). An error delta of a denoiser raises that mean by :math:`\frac12\int E|\delta|^2 d\,\mathrm{SNR}` nats.

*Levels.* In :math:`u = \frac12\log(1 + \mathrm{SNR})`, finite at alpha = 0, the integral is
:math:`\int E|x_0 - D|^2 (1 + \mathrm{SNR})\, du`, whose integrand is d for normal data of unit variance: so u is drawn
uniformly, once in each of equal strata. At low noise the leading term of both this and the decoder is
:math:`|\varepsilon|^2`; it serves as a control variate with known mean d and weight
:math:`\alpha^2/(\alpha^2 + \sigma^2)`.

Source: Kingma et al. 2021 (arXiv:2107.00630, equations 11-15); Song et al. 2021 (arXiv:2101.09258); I-MMSE: Guo,
Shamai & Verdu 2005 (arXiv:cs/0412108).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.denoisers import Batch, Denoiser, over_events
from diffuscope.errors import InputError
from diffuscope.exact import Distribution
from diffuscope.schedules import Times

from .divergence import HutchinsonDivergence
from .terminal import TerminalGaussian, require_distribution, start_distribution


@dataclass(frozen=True, eq=False)
class VariationalBound:
    """An estimate of the bound on -log p(x_0), its standard error and its three parts in nats; the NFE.

    >>> import torch
    >>> from diffuscope.denoisers import ExactDenoiser
    >>> from diffuscope.densities import variational_bound
    >>> from diffuscope.exact import Gaussian
    >>> from diffuscope.schedules import VE
    >>> denoiser = ExactDenoiser(Gaussian.isotropic(torch.zeros(1), 4.0), VE())
    >>> x_0, g = torch.tensor([[2.0]], dtype=torch.float64), torch.Generator().manual_seed(0)
    >>> found = variational_bound(denoiser, x_0, levels=4, repeats=2, generator=g)
    >>> found.evaluations, round((found.prior + found.diffusion + found.reconstruction - found.bound).abs().item(), 9)
    (10, 0.0)
    """

    bound: Float[Tensor, " batch"]
    standard_error: Float[Tensor, " batch"]
    prior: Float[Tensor, " batch"]
    diffusion: Float[Tensor, " batch"]
    reconstruction: Float[Tensor, " batch"]
    evaluations: int


@torch.no_grad()
def variational_bound(
    denoiser: Denoiser,
    x_0: Batch,
    *,
    generator: torch.Generator,
    levels: int = 64,
    repeats: int = 8,
    terminal: Distribution | TerminalGaussian | None = None,
) -> VariationalBound:
    """The bound for every x_0, over the schedule's t_min to t_max, by `repeats` independent draws.

    A draw has one noise level in each of `levels` strata, independently for every sample; the standard error is that of
    the mean of the draws. Costs repeats (levels + 1) function evaluations, one batch at a time in the dtype of `x_0`.
    The prior is the distribution at t_max as in `log_likelihood`: that of `terminal`; by default the Gaussian of an
    `ExactDenoiser` there, pure noise for any other denoiser. For bits per dimension of integers take
    `bits_per_dimension(-bound, ...)` of a batch from `dequantize`.

    Raises InputError for data that are not finite, fewer than 1 level or 2 repeats, and a schedule whose t_min has no
    noise.

    >>> import math, torch
    >>> from diffuscope.denoisers import ExactDenoiser
    >>> from diffuscope.densities import variational_bound
    >>> from diffuscope.exact import Gaussian
    >>> from diffuscope.schedules import VP
    >>> denoiser = ExactDenoiser(Gaussian.isotropic(torch.zeros(1), 4.0), VP())
    >>> x_0, g = torch.full((200, 1), 3.0, dtype=torch.float64), torch.Generator().manual_seed(0)
    >>> found = variational_bound(denoiser, x_0, levels=8, repeats=2, generator=g)
    >>> exact = 3.0**2 / 8 + math.log(2 * math.pi * 4) / 2  # -log N(3; 0, 4)
    >>> abs(found.bound.mean().item() - exact) < 5 * found.bound.std().item() / 200**0.5
    True
    """
    floats = x_0.is_floating_point() and bool(torch.isfinite(x_0).all())
    if x_0.ndim < 2 or x_0.numel() == 0 or not floats:
        given = f"{x_0.dtype} of shape {tuple(x_0.shape)}"
        raise InputError(f"x_0: expected finite floats of shape (batch, *event), got {given}")
    if levels < 1 or repeats < 2:
        raise InputError(f"levels, repeats: expected at least 1 and 2, got {levels}, {repeats}")
    schedule = denoiser.schedule
    if not float(schedule.sigma(schedule.t_min)) > 0:
        raise InputError(f"denoiser: expected a schedule with noise at its t_min = {schedule.t_min:g}, got sigma = 0")
    prior = _prior_density(denoiser, x_0, terminal, generator)
    parts = torch.zeros(repeats, 3, len(x_0), dtype=torch.float64, device=x_0.device)
    for part in parts:
        part[0] = _prior_part(denoiser, x_0, prior, generator)
        part[1] = _diffusion_part(denoiser, x_0, levels, generator)
        part[2] = _reconstruction_part(denoiser, x_0, generator)
    total, (prior_part, diffusion, reconstruction) = parts.sum(1), parts.mean(0)
    bound, error, evaluations = total.mean(0), total.std(0) / math.sqrt(repeats), repeats * (levels + 1)
    return VariationalBound(bound, error, prior_part, diffusion, reconstruction, evaluations)


def _prior_density(
    denoiser: Denoiser, x_0: Batch, terminal: Distribution | TerminalGaussian | None, generator: torch.Generator
) -> Callable[[Batch], Float[Tensor, " batch"]]:
    """log p_T."""
    if terminal is None:
        divergence = HutchinsonDivergence.rademacher(x_0, 2, generator=generator)
        distribution = start_distribution(denoiser, x_0, divergence=divergence)
    else:
        distribution = require_distribution(terminal, denoiser, x_0)
    if isinstance(distribution, TerminalGaussian):
        return distribution.log_prob
    end = denoiser.schedule.t_max
    alpha, sigma = denoiser.schedule.alpha(end), denoiser.schedule.sigma(end)
    return lambda x_t: distribution.log_prob(x_t, alpha, sigma)


def _prior_part(
    denoiser: Denoiser, x_0: Batch, prior: Callable[[Batch], Float[Tensor, " batch"]], generator: torch.Generator
) -> Float[Tensor, " batch"]:
    """log q(x_T | x_0) - log p_T(x_T)."""
    end = torch.full((len(x_0),), denoiser.schedule.t_max, dtype=torch.float64, device=x_0.device)
    x_t, noise = _noised(denoiser, x_0, end, generator)
    log_q = -(_square(noise) + x_0[0].numel() * (2 * math.pi * denoiser.schedule.sigma(end) ** 2).log()) / 2
    return log_q - prior(x_t)


def _diffusion_part(denoiser: Denoiser, x_0: Batch, levels: int, generator: torch.Generator) -> Float[Tensor, " batch"]:
    """The integral of |x_0 - D|^2 (1 + SNR) over u, one draw in every stratum."""
    schedule, d = denoiser.schedule, x_0[0].numel()
    ends = torch.tensor([schedule.t_max, schedule.t_min], dtype=torch.float64, device=x_0.device)
    first, last = (torch.log1p((schedule.alpha(ends) / schedule.sigma(ends)) ** 2) / 2).tolist()
    total = torch.zeros(len(x_0), dtype=torch.float64, device=x_0.device)
    for stratum in range(levels):
        shift = torch.rand(len(x_0), dtype=torch.float64, generator=generator, device=generator.device).to(x_0.device)
        u = first + (stratum + shift) / levels * (last - first)
        # rounding must not leave the schedule
        t = schedule.time_of_lambda(torch.expm1(2 * u).log() / 2).clamp(schedule.t_min, schedule.t_max)
        x_t, noise = _noised(denoiser, x_0, t, generator)
        snr = (schedule.alpha(t) / schedule.sigma(t)) ** 2
        error = _square(x_0.double() - denoiser(x_t.to(x_0.dtype), t).double())
        total += error * (1 + snr) - snr / (1 + snr) * (_square(noise) - d)
    return total * (last - first) / levels


def _reconstruction_part(denoiser: Denoiser, x_0: Batch, generator: torch.Generator) -> Float[Tensor, " batch"]:
    """-log N(x_0; D, I / SNR) at t_min."""
    start = torch.full((len(x_0),), denoiser.schedule.t_min, dtype=torch.float64, device=x_0.device)
    x_t, noise = _noised(denoiser, x_0, start, generator)
    d, snr = x_0[0].numel(), (denoiser.schedule.alpha(start) / denoiser.schedule.sigma(start)) ** 2
    error = _square(x_0.double() - denoiser(x_t.to(x_0.dtype), start).double())
    return (error * snr - snr / (1 + snr) * (_square(noise) - d) + d * (2 * math.pi / snr).log()) / 2


def _noised(denoiser: Denoiser, x_0: Batch, t: Times, generator: torch.Generator) -> tuple[Batch, Batch]:
    """x_t at one time per sample, and its noise, float64."""
    noise = torch.randn(x_0.shape, dtype=torch.float64, generator=generator, device=generator.device).to(x_0.device)
    alpha, sigma = over_events(denoiser.schedule.alpha(t), noise), over_events(denoiser.schedule.sigma(t), noise)
    return alpha * x_0.double() + sigma * noise, noise


def _square(x: Batch) -> Float[Tensor, " batch"]:
    """|x|^2, sample by sample."""
    return x.flatten(1).square().sum(1)
