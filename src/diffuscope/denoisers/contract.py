r"""The one contract between models and everything else, and the four quantities that a model may predict.

A denoiser estimates :math:`D(x_t, t) = E[x_0 \mid x_t]` and knows its schedule. With
:math:`x_t = \alpha x_0 + \sigma\varepsilon` the other predictions are functions of it:

.. math::
    \varepsilon = \frac{x_t - \alpha D}{\sigma}, \qquad
    s = \frac{\alpha D - x_t}{\sigma^2}, \qquad
    v = \dot\alpha D + \dot\sigma\varepsilon .

The inverses are below; only those of noise and score need alpha > 0.
"""

from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.errors import InputError
from diffuscope.exact import Distribution
from diffuscope.schedules import Schedule, as_time

from .clocks import ScheduleTime

Batch = Float[Tensor, "batch *event"]
BatchTime = Float[Tensor, " batch"] | Float[Tensor, ""] | float | int


@runtime_checkable
class Denoiser(Protocol):
    """`denoiser(x_t, t)` is the estimate of E[x_0 | x_t], same shape and dtype as `x_t`.

    >>> import torch
    >>> from diffuscope import VE, Denoiser, ExactDenoiser, Gaussian
    >>> isinstance(ExactDenoiser(Gaussian.isotropic(torch.zeros(2), 1.0), VE()), Denoiser)
    True
    """

    @property
    def schedule(self) -> Schedule: ...

    def __call__(self, x_t: Batch, t: BatchTime) -> Batch: ...


@dataclass(frozen=True)
class ExactDenoiser:
    """The exact denoiser of a known data distribution under a schedule.

    >>> import torch
    >>> from diffuscope import ExactDenoiser, Gaussian, RectifiedFlow
    >>> data = Gaussian.isotropic(torch.tensor([1.0]), 3.0)  # at t = 1/2: 1 + (3/2) / (3/4 + 1/4) (x - 1/2)
    >>> ExactDenoiser(data, RectifiedFlow())(torch.tensor([[2.5]]), 0.5)
    tensor([[4.]])
    """

    distribution: Distribution
    schedule: Schedule
    clock: ClassVar = ScheduleTime()  # defined at all times, also between the steps of a table

    def __call__(self, x_t: Batch, t: BatchTime) -> Batch:
        return self.distribution.denoise(x_t, self.schedule.alpha(t), self.schedule.sigma(t))


@dataclass(frozen=True)
class Rescheduled:
    """The same denoiser read through another schedule.

    Times of equal sigma/alpha correspond; the states then differ by the factor
    sqrt((alpha^2 + sigma^2) / (alpha'^2 + sigma'^2)), which is finite also at alpha = 0.

    >>> import torch
    >>> from diffuscope import VE, ExactDenoiser, Gaussian, RectifiedFlow
    >>> from diffuscope.denoisers import Rescheduled
    >>> inner = ExactDenoiser(Gaussian.isotropic(torch.zeros(1), 3.0), VE())
    >>> outer = Rescheduled(inner, RectifiedFlow())  # t = 0.75, where sigma/alpha = 3 and x/alpha = 4 x
    >>> round(float(outer(torch.tensor([[2.0]]), 0.75)), 4), float(inner(torch.tensor([[8.0]]), 3.0))
    (2.0, 2.0)
    """

    denoiser: Denoiser
    schedule: Schedule

    def __call__(self, x_t: Batch, t: BatchTime) -> Batch:
        inner = self.denoiser.schedule
        t_inner = inner.time_of_lambda(self.schedule.lam(t))
        outer_norm = torch.hypot(self.schedule.alpha(t), self.schedule.sigma(t))
        inner_norm = torch.hypot(inner.alpha(t_inner), inner.sigma(t_inner))
        return self.denoiser(x_t * over_events(inner_norm / outer_norm, x_t), t_inner)


@dataclass(frozen=True)
class Checked:
    """The same denoiser, whose answers have the shape and dtype of `x_t`; InputError with what came instead.

    >>> import torch
    >>> from diffuscope import VE, ExactDenoiser, Gaussian
    >>> from diffuscope.denoisers import Checked
    >>> denoiser = Checked(ExactDenoiser(Gaussian.isotropic(torch.zeros(1), 3.0), VE()))
    >>> denoiser(torch.tensor([[8.0]]), 1.0)  # 3 x / (3 + 1)
    tensor([[6.]])
    """

    denoiser: Denoiser

    @property
    def schedule(self) -> Schedule:
        """That of the denoiser."""
        return self.denoiser.schedule

    def __call__(self, x_t: Batch, t: BatchTime) -> Batch:
        return require_batch(self.denoiser(x_t, t), x_t)


def require_batch(answer: object, x_t: Batch) -> Batch:
    """`answer`, if it is a tensor of the shape and dtype of `x_t`; raises InputError with what came instead.

    >>> import torch
    >>> from diffuscope import InputError
    >>> from diffuscope.denoisers import require_batch
    >>> try:
    ...     require_batch(torch.zeros(3, 1), torch.zeros(3, 2))
    ... except InputError as error:
    ...     print(error)
    model: expected an output of its input's shape (3, 2), got (3, 1)
    """
    if not isinstance(answer, Tensor):
        kind = type(answer)
        came = "None" if answer is None else f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")
        raise InputError(f"model: expected an output that is a tensor like its input, got {came}")
    if answer.shape != x_t.shape:
        raise InputError(
            f"model: expected an output of its input's shape {tuple(x_t.shape)}, got {tuple(answer.shape)}"
        )
    if answer.dtype != x_t.dtype:
        raise InputError(f"model: expected an output of its input's dtype {x_t.dtype}, got {answer.dtype}")
    return answer


def over_events(values: Float[Tensor, " batch"] | Float[Tensor, ""], x: Batch) -> Tensor:
    """Per-sample `values` shaped to multiply `x`, in its dtype and on its device.

    >>> import torch
    >>> from diffuscope.denoisers import over_events
    >>> over_events(torch.tensor([2.0, 3.0]), torch.zeros(2, 2)) * torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    tensor([[ 2.,  4.],
            [ 9., 12.]])
    """
    values = values.to(device=x.device, dtype=x.dtype)
    return values if values.ndim == 0 else values.reshape(-1, *[1] * (x.ndim - 1))


def _scales(x_t: Batch, schedule: Schedule, t: BatchTime) -> tuple[Tensor, Tensor]:
    t = as_time(t)
    return over_events(schedule.alpha(t), x_t), over_events(schedule.sigma(t), x_t)


def denoised_to_noise(x_t: Batch, denoised: Batch, schedule: Schedule, t: BatchTime) -> Batch:
    """eps = (x_t - alpha D) / sigma.

    >>> import torch
    >>> from diffuscope import RectifiedFlow
    >>> from diffuscope.denoisers import denoised_to_noise
    >>> denoised_to_noise(torch.tensor([[5.0]]), torch.tensor([[4.0]]), RectifiedFlow(), 0.25)  # (5 - 0.75 * 4) / 0.25
    tensor([[8.]])
    """
    alpha, sigma = _scales(x_t, schedule, t)
    return (x_t - alpha * denoised) / sigma


def noise_to_denoised(x_t: Batch, noise: Batch, schedule: Schedule, t: BatchTime) -> Batch:
    """D = (x_t - sigma eps) / alpha; needs alpha > 0.

    >>> import torch
    >>> from diffuscope import RectifiedFlow
    >>> from diffuscope.denoisers import noise_to_denoised
    >>> noise_to_denoised(torch.tensor([[5.0]]), torch.tensor([[8.0]]), RectifiedFlow(), 0.25)  # (5 - 0.25 * 8) / 0.75
    tensor([[4.]])
    """
    alpha, sigma = _scales(x_t, schedule, t)
    return (x_t - sigma * noise) / alpha


def denoised_to_score(x_t: Batch, denoised: Batch, schedule: Schedule, t: BatchTime) -> Batch:
    """s = (alpha D - x_t) / sigma^2.

    >>> import torch
    >>> from diffuscope import RectifiedFlow
    >>> from diffuscope.denoisers import denoised_to_score
    >>> denoised_to_score(torch.tensor([[5.0]]), torch.tensor([[4.0]]), RectifiedFlow(), 0.25)  # 16 (0.75 * 4 - 5)
    tensor([[-32.]])
    """
    alpha, sigma = _scales(x_t, schedule, t)
    return (alpha * denoised - x_t) / sigma**2


def score_to_denoised(x_t: Batch, score: Batch, schedule: Schedule, t: BatchTime) -> Batch:
    """D = (x_t + sigma^2 s) / alpha (Tweedie); needs alpha > 0.

    >>> import torch
    >>> from diffuscope import RectifiedFlow
    >>> from diffuscope.denoisers import score_to_denoised
    >>> score_to_denoised(torch.tensor([[5.0]]), torch.tensor([[-32.0]]), RectifiedFlow(), 0.25)  # (5 - 32 / 16) / 0.75
    tensor([[4.]])
    """
    alpha, sigma = _scales(x_t, schedule, t)
    return (x_t + sigma**2 * score) / alpha


def denoised_to_velocity(x_t: Batch, denoised: Batch, schedule: Schedule, t: BatchTime) -> Batch:
    """v = alpha' D + sigma' eps: the probability-flow velocity dx_t/dt.

    >>> import torch
    >>> from diffuscope import RectifiedFlow
    >>> from diffuscope.denoisers import denoised_to_velocity
    >>> denoised_to_velocity(torch.tensor([[5.0]]), torch.tensor([[4.0]]), RectifiedFlow(), 0.25)  # eps - x_0 = 8 - 4
    tensor([[4.]])
    """
    alpha_dot, sigma_dot = over_events(schedule.alpha_dot(t), x_t), over_events(schedule.sigma_dot(t), x_t)
    return alpha_dot * denoised + sigma_dot * denoised_to_noise(x_t, denoised, schedule, t)


def velocity_to_denoised(x_t: Batch, velocity: Batch, schedule: Schedule, t: BatchTime) -> Batch:
    """D = (sigma v - sigma' x_t) / (sigma alpha' - sigma' alpha); finite at alpha = 0.

    >>> import torch
    >>> from diffuscope import RectifiedFlow
    >>> from diffuscope.denoisers import velocity_to_denoised
    >>> velocity_to_denoised(torch.tensor([[5.0]]), torch.tensor([[8.0]]), RectifiedFlow(), 0.25)  # x_t - t v
    tensor([[3.]])
    """
    alpha, sigma = _scales(x_t, schedule, t)
    alpha_dot, sigma_dot = over_events(schedule.alpha_dot(t), x_t), over_events(schedule.sigma_dot(t), x_t)
    return (sigma * velocity - sigma_dot * x_t) / (sigma * alpha_dot - sigma_dot * alpha)
