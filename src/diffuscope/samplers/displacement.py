r"""The distance from a teleported trajectory to the model's own: a first-order estimate, one evaluation per level.

Let :math:`y = x/\alpha`, :math:`\tilde\sigma = \sigma/\alpha`. Model and Gaussian follow
:math:`dy/d\tilde\sigma = (y - D)/\tilde\sigma` with their own D. Along the Gaussian's trajectory (closed form) write
:math:`\Delta = D_{model} - D_G`. To first order in it the model's trajectory is displaced by :math:`\delta y` with
:math:`d\,\delta y/d\tilde\sigma = [(I - \nabla D_G)\delta y - \Delta]/\tilde\sigma`. The Gaussian flow keeps the
whitened coordinates :math:`z_k = u_k^T\delta y/\sqrt{\lambda_k + \tilde\sigma^2}`, hence

.. math::  \delta y(\tilde\sigma_s) = \int_{\tilde\sigma_s}^{\tilde\sigma_T}
           \sqrt{\frac{\Sigma + \tilde\sigma_s^2}{\Sigma + \tilde\sigma^2}}\;\Delta(x_{\tilde\sigma})
           \frac{d\tilde\sigma}{\tilde\sigma}, \qquad
           z_k(w_s) = \int_{w_T}^{w_s} \frac{u_k^T\Delta}{\sqrt{1 + \lambda_k w^2}}\,dw, \quad w = \alpha/\sigma .

We compute the integral over w (trapezoidal rule): its integrand is finite at alpha = 0, where w = 0 and
:math:`\tilde\sigma` is infinite. Every :math:`\delta y(\tilde\sigma_s)` comes from one pass over the levels. The same
flow carries it to clean data, where it is :math:`\sqrt{\lambda_k}\, z_k`, the displacement at the end.

Two limits. The neglected term is of second order in Delta. And the flow from the level to the end is taken to be the
Gaussian's: where the model's own flow separates trajectories (it must choose a mode) the true displacement is larger.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.denoisers import Batch, Denoiser
from diffuscope.errors import InputError
from diffuscope.exact import Gaussian


@dataclass(frozen=True, eq=False)
class TeleportError:
    """Estimated displacement (model minus teleport) by a jump from `times[0]` to each of `times`.

    `at_level` is that of x/alpha on arrival, `at_end` the same carried to clean data by the Gaussian's flow: both
    RMS per coordinate, |delta| / sqrt(D), per level and sample, in data units. `scale` is the data's RMS standard
    deviation per coordinate, sqrt(tr Sigma / D).

    >>> import torch
    >>> from diffuscope import ExactDenoiser, Gaussian, RectifiedFlow
    >>> from diffuscope.samplers import teleport_error
    >>> data, wide = (Gaussian.from_covariance(torch.zeros(2), v * torch.eye(2)) for v in (4.0, 12.0))
    >>> x, times = torch.tensor([[1.0, 1.0], [7.0, 7.0]]), torch.tensor([1.0, 8 / 11])  # alpha / sigma = 3/8
    >>> error = teleport_error(ExactDenoiser(wide, RectifiedFlow()), data, x, times)  # displaced by 144/1075 * 2 x
    >>> [round(float(value[-1]) * 1075 / 144, 4) for value in (error.relative, error.standard_error)]  # of 1 and 7
    [5.0, 2.4]
    """

    times: Float[Tensor, " levels"]
    noise_to_signal: Float[Tensor, " levels"]
    at_level: Float[Tensor, "levels batch"]
    at_end: Float[Tensor, "levels batch"]
    scale: float

    @property
    def relative(self) -> Float[Tensor, " levels"]:
        """RMS over samples of `at_end`, in units of the data's standard deviation."""
        return (self.at_end**2).mean(1).sqrt() / self.scale

    @property
    def standard_error(self) -> Float[Tensor, " levels"]:
        """Standard error of `relative` over the samples (delta method); NaN for a single sample."""
        squares = self.at_end**2
        error = squares.std(1) / math.sqrt(squares.shape[1]) / (2 * squares.mean(1).sqrt() * self.scale)
        return torch.where(squares.mean(1) > 0, error, torch.zeros_like(error))


@dataclass(frozen=True, eq=False)
class SkipSuggestion:
    """The level to jump to, `error.times[index]`; `index` = 0 means that no jump meets the tolerance.

    `estimate` and `standard_error` of the displacement are in units of the data's standard deviation.

    >>> import torch
    >>> from diffuscope import ExactDenoiser, Gaussian, RectifiedFlow
    >>> from diffuscope.samplers import suggest_skip
    >>> data = Gaussian.isotropic(torch.tensor([2.0]), 3.0)
    >>> x, times = torch.tensor([[0.3], [-1.0]]), torch.tensor([1.0, 0.75, 0.6])
    >>> found = suggest_skip(ExactDenoiser(data, RectifiedFlow()), data, x, times, tolerance=0.01)  # an exact jump
    >>> found.index, round(found.noise_to_signal, 4), round(found.estimate, 4)
    (2, 1.5, 0.0)
    """

    index: int
    tolerance: float
    error: TeleportError

    @property
    def t_skip(self) -> Float[Tensor, ""]:
        return self.error.times[self.index]

    @property
    def noise_to_signal(self) -> float:
        return float(self.error.noise_to_signal[self.index])

    @property
    def estimate(self) -> float:
        return float(self.error.relative[self.index])

    @property
    def standard_error(self) -> float:
        return float(self.error.standard_error[self.index])


@torch.no_grad()
def teleport_error(
    denoiser: Denoiser, gaussian: Gaussian, x_start: Batch, times: Float[Tensor, " levels"]
) -> TeleportError:
    """Estimate the displacement of jumping from `x_start` at `times[0]` to each of the decreasing `times`.

    One evaluation of the denoiser per time and sample. `times` are in the denoiser's schedule, sigma > 0, best with
    equal ratios q of sigma/alpha: the relative error of the trapezoidal rule is then about (log q)^2 / 6. For a
    discrete-time model use times that it was trained at. alpha(times[0]) = 0 is allowed.
    Raises InputError for fewer than two times and for times that do not decrease.

    >>> import torch
    >>> from diffuscope import ExactDenoiser, Gaussian, RectifiedFlow
    >>> from diffuscope.samplers import teleport_error
    >>> data, far = (Gaussian.isotropic(torch.tensor([mean]), 1.0) for mean in (0.0, 2.0))
    >>> times = torch.tensor([1.0, 4 / 7])  # w = alpha / sigma from 0 to 3/4
    >>> error = teleport_error(ExactDenoiser(far, RectifiedFlow()), data, torch.tensor([[0.3]]), times)
    >>> round(float(error.at_end[-1]), 4)  # 2 / (1 + w^2)^(3/2) falls from 2 to 1.024: 3/4 (2 + 1.024) / 2
    1.134
    >>> round(float(error.at_level[-1]), 4)  # (1 + 1/w^2)^(1/2) = 5/3 of that
    1.89
    """
    times = times.double()
    if len(times) < 2 or not bool((times[1:] < times[:-1]).all()):
        raise InputError(f"times: expected at least two strictly decreasing times, got {times.tolist()}")
    schedule, start = denoiser.schedule, x_start.double()
    signal_to_noise = (schedule.alpha(times) / schedule.sigma(times)).to(x_start.device)
    whitened = previous = torch.zeros_like(start.flatten(1))
    at_level, at_end = [], []
    for i, t in enumerate(times):
        x_t = gaussian.flow(start, schedule, times[0], t)
        gap = denoiser(x_t.to(x_start.dtype), t).double() - gaussian.flow_denoised(start, schedule, times[0], t)
        w_squared = signal_to_noise[i] ** 2
        spread, tail = 1 + gaussian.eigenvalues * w_squared, 1 + gaussian.tail_variance * w_squared
        integrand = _applied(gaussian, spread**-0.5, tail**-0.5, gap.flatten(1))
        if i > 0:
            whitened = whitened + (signal_to_noise[i] - signal_to_noise[i - 1]) * (previous + integrand) / 2
        previous = integrand
        # sqrt(lambda + 1/w^2) z = sqrt(1 + lambda w^2) z / w; nothing is displaced yet where w may be zero
        arrived = _applied(gaussian, spread**0.5, tail**0.5, whitened) / signal_to_noise[i] if i > 0 else whitened
        at_level.append(_rms(arrived))
        at_end.append(_rms(_applied(gaussian, gaussian.eigenvalues.sqrt(), gaussian.tail_variance**0.5, whitened)))
    return TeleportError(
        times=times,
        noise_to_signal=schedule.noise_to_signal(times),
        at_level=torch.stack(at_level),
        at_end=torch.stack(at_end),
        scale=(gaussian.trace / gaussian.dimension) ** 0.5,
    )


def suggest_skip(
    denoiser: Denoiser, gaussian: Gaussian, x_start: Batch, times: Float[Tensor, " levels"], *, tolerance: float
) -> SkipSuggestion:
    """The lowest of `times` down to which every jump's estimated displacement at the end stays within `tolerance`.

    `tolerance` is in units of the data's standard deviation: 0.01 means that the end of a trajectory moves by 1 % of
    sqrt(tr Sigma / D) per coordinate, RMS over the samples `x_start` (about 256 are enough). Costs one evaluation per
    time and sample; the result holds the estimates at all times.
    Raises InputError for a tolerance that is not positive, and as `teleport_error`.

    >>> import torch
    >>> from diffuscope import ExactDenoiser, Gaussian, RectifiedFlow
    >>> from diffuscope.samplers import suggest_skip
    >>> data, far = (Gaussian.isotropic(torch.tensor([mean]), 1.0) for mean in (0.0, 2.0))
    >>> times, x = torch.tensor([1.0, 4 / 7, 3 / 7]), torch.tensor([[0.3], [-1.0]])  # w = alpha / sigma: 0, 3/4, 4/3
    >>> found = suggest_skip(ExactDenoiser(far, RectifiedFlow()), data, x, times, tolerance=1.2)
    >>> round(found.noise_to_signal, 4), round(found.estimate, 4)  # 3/4 (2 + 1.024) / 2; beyond, 1.134 + 7/12 * 0.728
    (1.3333, 1.134)
    """
    if not tolerance > 0:
        raise InputError(f"tolerance: expected a positive share of the data's standard deviation, got {tolerance}")
    error = teleport_error(denoiser, gaussian, x_start, times)
    beyond = (~(error.relative <= tolerance)).nonzero()
    index = int(beyond[0]) - 1 if len(beyond) else len(error.times) - 1
    return SkipSuggestion(max(0, index), tolerance, error)


def _applied(gaussian: Gaussian, along: Tensor, tail: Tensor | float, rows: Tensor) -> Tensor:
    """A function of Sigma, with the values `along` the eigenvectors and `tail` beside them, applied to every row."""
    coordinates = rows @ gaussian.eigenvectors
    rest = rows - coordinates @ gaussian.eigenvectors.T
    return (coordinates * along) @ gaussian.eigenvectors.T + rest * tail


def _rms(rows: Float[Tensor, "batch D"]) -> Float[Tensor, " batch"]:
    return rows.square().mean(1).sqrt()
