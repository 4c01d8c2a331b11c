"""One time of a schedule with all of its functions evaluated, as plain numbers.

A step is a handful of scalar coefficients times tensors. Evaluating the schedule once for a whole grid, and doing the
scalar arithmetic in Python's float64, keeps a step's own cost to the tensor operations that it needs.
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
    """

    t: float
    alpha: float
    sigma: float
    alpha_dot: float
    sigma_dot: float
    lam: float

    @property
    def angle(self) -> float:
        """arctan(alpha/sigma) in [0, pi/2]: the clock in which every schedule runs over the same finite range."""
        return math.atan2(self.alpha, self.sigma)

    @property
    def lam_dot(self) -> float:
        """d lambda / dt = alpha'/alpha - sigma'/sigma < 0; needs alpha, sigma > 0."""
        return self.alpha_dot / self.alpha - self.sigma_dot / self.sigma


def instants(schedule: Schedule, times: Float[Tensor, " times"]) -> tuple[Instant, ...]:
    """The schedule at all `times`, evaluated in one call of each of its functions."""
    times = times.double().cpu()
    table = torch.stack(
        [
            times,
            schedule.alpha(times),
            schedule.sigma(times),
            schedule.alpha_dot(times),
            schedule.sigma_dot(times),
            schedule.lam(times),
        ],
        dim=1,
    )
    return tuple(Instant(*row) for row in table.tolist())


def instant(schedule: Schedule, t: Time) -> Instant:
    """The schedule at one time."""
    return instants(schedule, as_time(t).reshape(1))[0]


def instant_of_lambda(schedule: Schedule, lam: float) -> Instant:
    """The schedule at the time where log(alpha/sigma) = `lam`."""
    return instant(schedule, schedule.time_of_lambda(lam))
