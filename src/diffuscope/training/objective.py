r"""Denoising score matching: the noise levels at which a denoiser is trained, and the weight of each in the loss.

For data :math:`x_0` with d coordinates, a time t drawn from a *noise distribution* and
:math:`x_t = \alpha x_0 + \sigma\varepsilon`, the loss is

.. math::  L = E\left[\, w(t)\, \tfrac{1}{d} |D(x_t, t) - x_0|^2 \right]
             = E\left[\, w(t)\, \tfrac{1}{d} |D - D^*|^2 \right]
             + E\left[\, w(t)\, \tfrac{1}{d} \operatorname{tr}\mathrm{Cov}(x_0 \mid x_t) \right],

so its minimizer is :math:`D^* = E[x_0 \mid x_t]` for every w > 0 (Vincent 2011), and its minimum is the irreducible
posterior variance. Data, noise, score and velocity errors are the same error in different units:

.. math::
    |\hat\varepsilon - \varepsilon|^2 = \frac{\alpha^2}{\sigma^2} |D - x_0|^2, \qquad
    |\hat s + \varepsilon/\sigma|^2 = \frac{\alpha^2}{\sigma^4} |D - x_0|^2, \qquad
    |\hat v - v|^2 = (\alpha\dot\lambda)^2 |D - x_0|^2,

hence the plain noise, score and velocity losses are this loss with `NoiseWeight` :math:`\alpha^2/\sigma^2`,
`ScoreWeight` :math:`\alpha^2/\sigma^4` and `VelocityWeight` :math:`(\alpha\dot\lambda)^2`. A noise distribution of
density q(t) and a weight w enter L through the product q w only: the product determines what is learned, the
distribution the variance of the estimate.
"""

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.denoisers import Batch, BatchTime, Denoiser, over_events
from diffuscope.errors import InputError
from diffuscope.schedules import Schedule, Time, Times, as_time


@runtime_checkable
class NoiseDistribution(Protocol):
    """A distribution over the times of any schedule; a frozen dataclass, so that a checkpoint can record it.

    >>> from diffuscope.training import LogNormalNoise, NoiseDistribution, UniformTime
    >>> isinstance(LogNormalNoise(), NoiseDistribution), isinstance(UniformTime(), NoiseDistribution)
    (True, True)
    """

    def sample(self, schedule: Schedule, n: int, *, generator: torch.Generator) -> Float[Tensor, " n"]:
        """`n` independent float64 times in [t_min, t_max], on the generator's device."""
        ...


@dataclass(frozen=True)
class LogNormalNoise:
    """log(sigma/alpha) ~ N(mean, std^2) (Karras et al. 2022, table 1); clamped to the schedule's times.

    Raises InputError unless both are finite and std > 0.

    >>> import torch
    >>> from diffuscope import VE
    >>> from diffuscope.training import LogNormalNoise
    >>> noise, generator = LogNormalNoise(mean=0.5, std=0.25), torch.Generator().manual_seed(0)
    >>> log_sigma = noise.sample(VE(), 100_000, generator=generator).log()  # of VE, sigma = t
    >>> round(float(log_sigma.mean()), 2), round(float(log_sigma.std()), 2)
    (0.5, 0.25)
    """

    mean: float | int = -1.2
    std: float | int = 1.2

    def __post_init__(self) -> None:
        if not math.isfinite(self.mean):
            raise InputError(f"LogNormalNoise.mean: expected a finite number, got {self.mean}")
        if not 0 < self.std < math.inf:
            raise InputError(f"LogNormalNoise.std: expected a number > 0, got {self.std}")

    def sample(self, schedule: Schedule, n: int, *, generator: torch.Generator) -> Float[Tensor, " n"]:
        normal = torch.randn(n, generator=generator, device=generator.device, dtype=torch.float64)
        return _times_of_log_noise(schedule, self.mean + self.std * normal)


@dataclass(frozen=True)
class LogUniformNoise:
    """log(sigma/alpha) uniform between log(low) and log(high); clamped to the schedule's times.

    Raises InputError unless 0 < low < high < infinity.

    >>> import torch
    >>> from diffuscope import VE
    >>> from diffuscope.training import LogUniformNoise
    >>> noise, generator = LogUniformNoise(low=0.5, high=8), torch.Generator().manual_seed(0)
    >>> sigma = noise.sample(VE(), 100_000, generator=generator)  # of VE, sigma = t
    >>> round(float((sigma < 1).double().mean()), 2)  # log(1 / 0.5) / log(8 / 0.5)
    0.25
    """

    low: float | int = 0.002
    high: float | int = 80.0

    def __post_init__(self) -> None:
        if not 0 < self.low < self.high < math.inf:
            raise InputError(f"LogUniformNoise: expected 0 < low < high, got low = {self.low}, high = {self.high}")

    def sample(self, schedule: Schedule, n: int, *, generator: torch.Generator) -> Float[Tensor, " n"]:
        low, high = torch.tensor([self.low, self.high], dtype=torch.float64).log().tolist()
        return _times_of_log_noise(schedule, low + (high - low) * _uniform(n, generator))


@dataclass(frozen=True)
class UniformTime:
    """t uniform on [t_min, t_max], as in DDPM and flow matching.

    >>> import torch
    >>> from diffuscope import VE
    >>> from diffuscope.training import UniformTime
    >>> schedule, generator = VE(sigma_min=1.0, sigma_max=5.0), torch.Generator().manual_seed(0)
    >>> t = UniformTime().sample(schedule, 100_000, generator=generator)
    >>> round(float((t < 2).double().mean()), 2)  # (2 - 1) / (5 - 1)
    0.25
    """

    def sample(self, schedule: Schedule, n: int, *, generator: torch.Generator) -> Float[Tensor, " n"]:
        return schedule.t_min + (schedule.t_max - schedule.t_min) * _uniform(n, generator)


def _uniform(n: int, generator: torch.Generator) -> Tensor:
    return torch.rand(n, generator=generator, device=generator.device, dtype=torch.float64)


def _times_of_log_noise(schedule: Schedule, log_noise: Tensor) -> Tensor:
    return schedule.time_of_lambda(-log_noise).clamp(schedule.t_min, schedule.t_max)


@runtime_checkable
class Weight(Protocol):
    """w(t) on the squared error of the data prediction; a frozen dataclass, so that a checkpoint can record it.

    >>> from diffuscope.training import EDMWeight, PlainWeight, Weight
    >>> isinstance(EDMWeight(), Weight), isinstance(PlainWeight(), Weight)
    (True, True)
    """

    def __call__(self, schedule: Schedule, t: Time) -> Times: ...


@dataclass(frozen=True)
class EDMWeight:
    """w = (r^2 + s^2) / (r s)^2 with r = sigma/alpha and s the standard deviation of the data (Karras et al. 2022).

    Under it EDM's preconditioned network starts with loss one at every level. At alpha = 0 it is 1/s^2.
    Raises InputError unless s is finite and above 0.

    >>> from diffuscope import VE
    >>> from diffuscope.training import EDMWeight
    >>> float(EDMWeight(data_std=0.5)(VE(), 2.0))  # 1 / 0.5^2 + 1 / 2^2
    4.25
    """

    data_std: float | int = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.data_std < math.inf:
            raise InputError(f"EDMWeight.data_std: expected a number > 0, got {self.data_std}")

    def __call__(self, schedule: Schedule, t: Time) -> Times:
        # written as 1/s^2 + 1/r^2, which is finite at alpha = 0
        return 1 / self.data_std**2 + (schedule.alpha(t) / schedule.sigma(t)) ** 2


@dataclass(frozen=True)
class PlainWeight:
    """w = 1: the mean squared error of the data prediction itself.

    >>> from diffuscope import VE
    >>> from diffuscope.training import PlainWeight
    >>> float(PlainWeight()(VE(), 2.0))
    1.0
    """

    def __call__(self, schedule: Schedule, t: Time) -> Times:
        del schedule
        return torch.ones_like(as_time(t))


@dataclass(frozen=True)
class NoiseWeight:
    """w = alpha^2 / sigma^2: the plain error of the noise prediction (DDPM's simple loss, Ho et al. 2020, eq. 14).

    >>> from diffuscope import RectifiedFlow
    >>> from diffuscope.training import NoiseWeight
    >>> float(NoiseWeight()(RectifiedFlow(), 0.25))  # alpha = 0.75, sigma = 0.25
    9.0
    """

    def __call__(self, schedule: Schedule, t: Time) -> Times:
        return (schedule.alpha(t) / schedule.sigma(t)) ** 2


@dataclass(frozen=True)
class ScoreWeight:
    """w = alpha^2 / sigma^4: the plain error of the score, dominated by the least noisy levels.

    >>> from diffuscope import RectifiedFlow
    >>> from diffuscope.training import ScoreWeight
    >>> float(ScoreWeight()(RectifiedFlow(), 0.25))  # 0.75^2 / 0.25^4
    144.0
    """

    def __call__(self, schedule: Schedule, t: Time) -> Times:
        return (schedule.alpha(t) / schedule.sigma(t) ** 2) ** 2


@dataclass(frozen=True)
class VelocityWeight:
    """w = (alpha dlambda/dt)^2: the plain error of the velocity dx_t/dt; finite at alpha = 0 where alpha' is.

    With `RectifiedFlow` and `UniformTime` this is flow matching, w = 1/t^2 (Lipman et al. 2023; Liu et al. 2022).

    >>> from diffuscope import RectifiedFlow
    >>> from diffuscope.training import VelocityWeight
    >>> float(VelocityWeight()(RectifiedFlow(), 0.25))  # 1 / 0.25^2
    16.0
    """

    def __call__(self, schedule: Schedule, t: Time) -> Times:
        # alpha lambda' = alpha' - alpha sigma' / sigma, without a division by alpha
        return (schedule.alpha_dot(t) - schedule.alpha(t) * schedule.sigma_dot(t) / schedule.sigma(t)) ** 2


def noised(schedule: Schedule, x_0: Batch, t: BatchTime, noise: Batch) -> Batch:
    """x_t = alpha x_0 + sigma noise, in the precision of `x_0`."""
    t = as_time(t)
    return over_events(schedule.alpha(t), x_0) * x_0 + over_events(schedule.sigma(t), x_0) * noise


def errors_from(target: Batch, denoiser: Denoiser, x_t: Batch, t: BatchTime) -> Float[Tensor, " batch"]:
    """|D(x_t, t) - target|^2 / d of every sample; InputError if D(x_t, t) has another shape than x_t."""
    denoised = denoiser(x_t, as_time(t))
    if denoised.shape != x_t.shape:
        raise InputError(f"denoiser: expected an answer of shape {tuple(x_t.shape)}, got {tuple(denoised.shape)}")
    return (denoised - target).square().reshape(len(x_t), -1).mean(1)


def squared_errors(denoiser: Denoiser, x_0: Batch, t: BatchTime, noise: Batch) -> Float[Tensor, " batch"]:
    """|D(alpha x_0 + sigma noise, t) - x_0|^2 / d of every sample, d the number of coordinates.

    Raises InputError if the denoiser's output has another shape than its input.

    >>> import torch
    >>> from diffuscope import ExactDenoiser, Gaussian, VE
    >>> from diffuscope.training import squared_errors
    >>> denoiser = ExactDenoiser(Gaussian.isotropic(torch.zeros(2), 4.0), VE())  # D = x_t / 2 at sigma = 2
    >>> x_0, noise = torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, -1.0]])  # x_t = (3, 0)
    >>> float(squared_errors(denoiser, x_0, 2.0, noise))  # (0.5^2 + 2^2) / 2
    2.125
    """
    return errors_from(x_0, denoiser, noised(denoiser.schedule, x_0, t, noise), t)


def denoising_loss(denoiser: Denoiser, x_0: Batch, t: BatchTime, noise: Batch, weight: Weight) -> Float[Tensor, ""]:
    """The batch's mean of w(t) |D(x_t, t) - x_0|^2 / d, at x_t = alpha x_0 + sigma noise.

    >>> import torch
    >>> from diffuscope import ExactDenoiser, Gaussian, VE
    >>> from diffuscope.training import NoiseWeight, denoising_loss
    >>> denoiser = ExactDenoiser(Gaussian.isotropic(torch.zeros(2), 4.0), VE())  # D = x_t / 2 at sigma = 2
    >>> x_0, noise = torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, -1.0]])  # x_t = (3, 0)
    >>> float(denoising_loss(denoiser, x_0, 2.0, noise, NoiseWeight()))  # 1 / 2^2 (0.5^2 + 2^2) / 2
    0.53125
    """
    errors = squared_errors(denoiser, x_0, t, noise)
    return (weight(denoiser.schedule, t).to(errors) * errors).mean()


@runtime_checkable
class Errors(Protocol):
    """An objective bound to its data: the error of every sample, before the weight."""

    def __call__(
        self, denoiser: Denoiser, x_0: Batch, t: BatchTime, noise: Batch, *, generator: torch.Generator
    ) -> Float[Tensor, " batch"]: ...


@runtime_checkable
class Objective(Protocol):
    """What the denoiser is compared with; a frozen dataclass, so that a checkpoint can record it.

    The errors of every objective have the mean E|D - D*|^2 / d plus a constant that does not depend on D, hence the
    same minimizer and the same expected gradient. They differ in their variance and in what they require.

    >>> from diffuscope.training import Denoising, NoiseFreeTarget, Objective
    >>> isinstance(Denoising(), Objective), isinstance(NoiseFreeTarget(), Objective)
    (True, True)
    """

    def on(self, data: Batch, device: torch.device) -> Errors:
        """The errors of a run on `data` that computes on `device`; called once, at the start."""
        ...


@dataclass(frozen=True)
class Denoising:
    """|D(x_t, t) - x_0|^2 / d: the clean example itself is the target (Vincent 2011).

    >>> import torch
    >>> from diffuscope import ExactDenoiser, Gaussian, VE
    >>> from diffuscope.training import Denoising
    >>> denoiser = ExactDenoiser(Gaussian.isotropic(torch.zeros(2), 4.0), VE())  # D = x_t / 2 at sigma = 2
    >>> x_0, noise = torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, -1.0]])  # x_t = (3, 0)
    >>> errors = Denoising().on(x_0, x_0.device)
    >>> float(errors(denoiser, x_0, 2.0, noise, generator=torch.Generator()))  # (0.5^2 + 2^2) / 2
    2.125
    """

    def on(self, data: Batch, device: torch.device) -> Errors:
        """The same errors for all data."""
        del data, device
        return _denoising_errors


def _denoising_errors(
    denoiser: Denoiser, x_0: Batch, t: BatchTime, noise: Batch, *, generator: torch.Generator
) -> Float[Tensor, " batch"]:
    del generator
    return squared_errors(denoiser, x_0, t, noise)
