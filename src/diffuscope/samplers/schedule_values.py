"""A schedule evaluated at one time, as plain numbers.

A step is a few scalar coefficients times tensors. Evaluating the schedule once for a whole grid, and doing the scalar
arithmetic in Python's float64, limits a step's own cost to the tensor operations that it needs.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.schedules import Schedule, Time, as_time


@dataclass(frozen=True, slots=True)
class Instant:
    """alpha, sigma, their time derivatives and lambda = log(alpha/sigma) at time `t`.

    lambda is -inf where alpha = 0 and inf where sigma = 0.

    >>> from diffuscope import VE
    >>> from diffuscope.samplers import instant
    >>> instant(VE(), 2.0)
    Instant(t=2.0, alpha=1.0, sigma=2.0, alpha_dot=0.0, sigma_dot=1.0, lam=-0.693147180559945...)
    """

    t: float
    alpha: float
    sigma: float
    alpha_dot: float
    sigma_dot: float
    lam: float

    @property
    def angle(self) -> float:
        """arctan(alpha/sigma) in [0, pi/2]: a clock with the same finite range for every schedule."""
        return math.atan2(self.alpha, self.sigma)

    @property
    def lam_dot(self) -> float:
        """d lambda / dt = alpha'/alpha - sigma'/sigma < 0; needs alpha, sigma > 0."""
        return self.alpha_dot / self.alpha - self.sigma_dot / self.sigma


def instants(schedule: Schedule, times: Float[Tensor, " times"]) -> tuple[Instant, ...]:
    """The schedule at all `times`, with one call of each of its functions.

    >>> import torch
    >>> from diffuscope import RectifiedFlow
    >>> from diffuscope.samplers import instants
    >>> grid = instants(RectifiedFlow(), torch.tensor([0.75, 0.5]))
    >>> [(at.alpha, at.sigma, round(at.lam_dot, 6)) for at in grid]  # -1/t - 1/(1 - t)
    [(0.25, 0.75, -5.333333), (0.5, 0.5, -4.0)]
    """
    times = times.double().cpu()
    functions = (schedule.alpha, schedule.sigma, schedule.alpha_dot, schedule.sigma_dot, schedule.lam)
    table = torch.stack([times, *(function(times) for function in functions)], dim=1)
    return tuple(Instant(*row) for row in table.tolist())


def instant(schedule: Schedule, t: Time) -> Instant:
    """The schedule at one time.

    >>> import math
    >>> from diffuscope import RectifiedFlow
    >>> from diffuscope.samplers import instant
    >>> at = instant(RectifiedFlow(), 0.75)
    >>> at.alpha_dot, at.sigma_dot, round(math.exp(at.lam), 9), round(math.tan(at.angle), 9)  # alpha / sigma = 1/3
    (-1.0, 1.0, 0.333333333, 0.333333333)
    """
    return instants(schedule, as_time(t).reshape(1))[0]


def decay(t: Instant, s: Instant) -> float:
    """e^{-h} = sigma_s alpha_t / (sigma_t alpha_s) for the step h from t to s in lambda; at most 1 despite rounding.

    >>> from diffuscope import VE
    >>> from diffuscope.samplers import instant
    >>> from diffuscope.samplers.schedule_values import decay
    >>> decay(instant(VE(), 2.0), instant(VE(), 0.5))
    0.25
    """
    return min(s.sigma * t.alpha / (t.sigma * s.alpha), 1.0)


def instant_of_lambda(schedule: Schedule, lam: float) -> Instant:
    """The schedule at the time where log(alpha/sigma) = `lam`."""
    return instant(schedule, schedule.time_of_lambda(lam))
