r"""The log-likelihood of a denoiser: the density that its probability flow transports, with a standard error.

The flow maps x_t at time t to x_T at the end of the schedule, where the distribution is close to a Gaussian, and

.. math::
    \log p_t(x_t) = \log p_T(x_T) + \log\Big|\det\frac{\partial x_T}{\partial x_t}\Big|
                  = \log p_T(x_T) + \int_t^T \operatorname{div} v\, dt' .

It is the density of the *noised* distribution at time t, also at t_min: the density of x_0 itself only as far as the
noise is below anything that matters in the data. For integer data k = 0 .. L - 1 that enter a model as values of
spacing w, uniform noise of one spacing turns a probability into a density, which bounds it (Jensen):

.. math::
    -\log_2 P(k) \le -\frac{1}{\ln 2} E_u\big[\log p(x(k + u))\big] - d\log_2 w, \qquad
    u \sim U\big(-\tfrac12, \tfrac12\big)^d .

Source: Song et al. 2021 (arXiv:2011.13456, section 4.3 and appendix D.2); dequantization: Theis, van den Oord & Bethge
2016 (arXiv:1511.01844, section 3.1).
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from diffuscope.denoisers import Batch, BatchTime, Denoiser, ExactDenoiser
from diffuscope.errors import InputError
from diffuscope.exact import Distribution

from .divergence import Divergence, ExactDivergence, HutchinsonDivergence, JacobianDivergence
from .flow_map import transport
from .terminal import TerminalGaussian, require_distribution, start_distribution

PROBES = 16  # of `estimated_log_density`


@dataclass(frozen=True, eq=False)
class Likelihood:
    """log p_t(x_t) in nats, float64, and what is known of its error.

    `standard_error` is that of the mean over Hutchinson's probes, zero for other divergences. `terminal_gap` is the
    log ratio at x_T of the distribution at the end to the denoiser's Gaussian there; `log_prob` includes it, and the
    remaining error is of the next order, well below a small gap. Zero for other distributions at the end. The
    integration adds about its tolerance times the dimension. `evaluations` is the NFE along the trajectory.

    >>> import torch
    >>> from diffuscope.denoisers import ExactDenoiser
    >>> from diffuscope.densities import HutchinsonDivergence, log_likelihood
    >>> from diffuscope.exact import Gaussian
    >>> from diffuscope.schedules import VE
    >>> denoiser = ExactDenoiser(Gaussian.isotropic(torch.zeros(1), 3.0), VE())
    >>> x_t, g = torch.tensor([[2.0]], dtype=torch.float64), torch.Generator().manual_seed(0)
    >>> probes = HutchinsonDivergence.rademacher(x_t, 2, generator=g)
    >>> found = log_likelihood(denoiser, x_t, 1.0, divergence=probes, tolerance=1e-6)
    >>> found.standard_error.item() < 1e-9, abs(found.terminal_gap.item()) < 1e-6  # v^2 = 1, and Gaussian data
    (True, True)
    """

    log_prob: Float[Tensor, " batch"]
    standard_error: Float[Tensor, " batch"]
    terminal_gap: Float[Tensor, " batch"]
    evaluations: int


def log_likelihood(
    denoiser: Denoiser,
    x_t: Batch,
    t: BatchTime,
    *,
    divergence: Divergence | None = None,
    terminal: Distribution | TerminalGaussian | None = None,
    tolerance: float | None = None,
    max_evaluations: int = 10_000,
) -> Likelihood:
    """log p_t(x_t), the density of the noised distribution at time `t` (a number, or one per sample), in nats.

    `divergence` is by default exact for an `ExactDenoiser` and the full Jacobian for others; beyond a few hundred
    dimensions use `HutchinsonDivergence.rademacher(x_t, probes, generator=generator)`. `terminal` is a distribution of
    x_0 whose noised distribution holds at the end, t_max, or a `terminal_gaussian`. By default, an `ExactDenoiser` ends
    in its own Gaussian there, corrected by its score (see `terminal`), and any other in pure noise, where its samples
    start: the density is then that of its samples by the probability flow. Wrap a model that knows only a table of
    steps in `BetweenSteps`. `tolerance` and `max_evaluations` as in `transport`. Raises InputError as `transport` does:
    for points that are not finite, times outside the schedule, sigma(t) = 0.

    >>> import torch
    >>> from diffuscope.denoisers import ExactDenoiser
    >>> from diffuscope.densities import log_likelihood
    >>> from diffuscope.exact import Gaussian
    >>> from diffuscope.schedules import VE
    >>> denoiser = ExactDenoiser(Gaussian.isotropic(torch.zeros(1), 3.0), VE())
    >>> found = log_likelihood(denoiser, torch.tensor([[2.0]], dtype=torch.float64), 1.0, tolerance=1e-8)
    >>> round(found.log_prob.item(), 6)  # log N(2; 0, 3 + 1^2) = -1/2 - log(8 pi) / 2
    -2.112086
    """
    if divergence is None:
        divergence = ExactDivergence() if isinstance(denoiser, ExactDenoiser) else JacobianDivergence()
    schedule, end = denoiser.schedule, denoiser.schedule.t_max
    if terminal is not None:
        require_distribution(terminal, denoiser, x_t)
    carried = transport(
        denoiser, x_t, t, end, divergence=divergence, tolerance=tolerance, max_evaluations=max_evaluations
    )
    distribution = start_distribution(denoiser, x_t, divergence=divergence) if terminal is None else terminal
    if isinstance(distribution, TerminalGaussian):
        gap = distribution.gap(carried.x_s)
        at_end = distribution.log_prob(carried.x_s) + gap
    else:
        at_end = distribution.log_prob(carried.x_s.double(), schedule.alpha(end), schedule.sigma(end))
        gap = torch.zeros_like(at_end)
    probes = carried.log_det.shape[1]
    error = carried.log_det.std(1) / math.sqrt(probes) if probes > 1 else torch.zeros_like(at_end)
    return Likelihood(at_end + carried.log_det.mean(1), error, gap, carried.evaluations)


def log_density(
    denoiser: Denoiser,
    x_t: Batch,
    t: float | int,
    generator: torch.Generator,  # noqa: ARG001
) -> Float[Tensor, " batch"]:
    """`log_likelihood` with the signature that the certifier expects.

    diffuscope certify --likelihood diffuscope.densities.likelihood:log_density
    """
    return log_likelihood(denoiser, x_t, t).log_prob


def estimated_log_density(
    denoiser: Denoiser, x_t: Batch, t: float | int, generator: torch.Generator
) -> Float[Tensor, " batch"]:
    """As `log_density`, by 16 random probes, at a tolerance below their noise.

    diffuscope certify --likelihood diffuscope.densities.likelihood:estimated_log_density
    """
    divergence = HutchinsonDivergence.rademacher(x_t, PROBES, generator=generator)
    return log_likelihood(denoiser, x_t, t, divergence=divergence, tolerance=1e-4).log_prob


def dequantize(
    levels: Integer[Tensor, "batch *event"],
    count: int = 256,
    *,
    data_range: tuple[float | int, float | int] = (-1.0, 1.0),
    generator: torch.Generator,
) -> Float[Tensor, "batch *event"]:
    """Integers 0 .. `count` - 1 in the model's range, plus uniform noise of one spacing, float64.

    Level k is low + k w with w = (high - low) / (count - 1), the `bin_width` of `bits_per_dimension`; the noise is
    w U(-1/2, 1/2). Raises InputError for integers out of range.

    >>> import torch
    >>> from diffuscope.densities import dequantize
    >>> levels, g = torch.tensor([[0, 3, 1]]), torch.Generator().manual_seed(0)
    >>> values = dequantize(levels, 4, data_range=(-1.0, 2.0), generator=g)  # -1 + k, within 1/2
    >>> values.round().int().tolist(), bool((values.round() == values).any())
    ([[-1, 2, 0]], False)
    """
    low, high = data_range
    if count < 2 or not low < high:
        given = f"{count}, {data_range}"
        raise InputError(f"count, data_range: expected 2 or more levels in an increasing range, got {given}")
    if levels.numel() and not (int(levels.min()) >= 0 and int(levels.max()) < count):
        raise InputError(f"levels: expected integers 0 .. {count - 1}, got {int(levels.min())} .. {int(levels.max())}")
    noise = torch.rand(levels.shape, dtype=torch.float64, generator=generator, device=generator.device) - 0.5
    return low + (high - low) / (count - 1) * (levels.double() + noise.to(levels.device))


def bits_per_dimension(
    log_prob: Float[Tensor, " batch"], dimension: int, bin_width: float | int
) -> Float[Tensor, " batch"]:
    """-(log_prob / d + log w) / log 2: bits for each of d integers from the log-density of their dequantized values.

    In the mean over the noise of `dequantize` this is an upper bound on the bits of the integers themselves. w is
    `bin_width`, the spacing of the integers in the units of the density. A density at t_min is that of noisier data.
    Raises InputError for a dimension or a width that is not positive.

    >>> import math, torch
    >>> from diffuscope.densities import bits_per_dimension
    >>> bits_per_dimension(torch.zeros(1), dimension=1, bin_width=1 / 256).tolist()  # uniform over 256 levels
    [8.0]
    >>> round(bits_per_dimension(torch.tensor([-3 * math.log(2)]), 2, 0.25).item(), 6)  # 3/2 + 2
    3.5
    """
    if dimension < 1 or not (bin_width > 0 and math.isfinite(bin_width)):
        raise InputError(f"dimension, bin_width: expected positive values, got {dimension}, {bin_width}")
    return -(log_prob / dimension + math.log(bin_width)) / math.log(2)
