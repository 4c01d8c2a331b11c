r"""The parameter eta of the reverse family (`contract`), constant over each step.

The family has the marginals of the forward process for every :math:`\eta(t) \ge 0`: 0 is the probability-flow ODE, 1
Anderson's reverse SDE. A sampler reads eta at the start of each step and keeps it for the step. Since the marginals do
not depend on eta, this costs no accuracy in distribution, and an eta that jumps (stochastic early, deterministic late)
is followed exactly by a grid that contains the time of the jump.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from diffuscope.errors import InputError
from diffuscope.schedules import Schedule

from .schedule_values import Instant

Eta = float | Callable[[float], float]


@dataclass(frozen=True)
class ReverseFamily:
    """A sampler of the reverse family: `eta` >= 0 is a number or a function of t, read at the start of a step."""

    eta: Eta = 1.0

    @property
    def stochastic(self) -> bool:
        """Whether a step may draw noise: eta is not the number 0."""
        return callable(self.eta) or self.eta > 0


@dataclass(frozen=True)
class StochasticUntil:
    """eta(t) = `eta` while t > `time`, 0 from there on."""

    time: float
    eta: float

    def __call__(self, t: float) -> float:
        return self.eta if t > self.time else 0.0


def stochastic_until(schedule: Schedule, noise_to_signal: float, eta: float = 1.0) -> StochasticUntil:
    """Stochastic early, deterministic late: `eta` above the level sigma/alpha = `noise_to_signal`, 0 below it.

    Raises InputError for a level that is not positive.

    >>> from diffuscope import RectifiedFlow
    >>> from diffuscope.samplers import stochastic_until
    >>> eta = stochastic_until(RectifiedFlow(), noise_to_signal=3.0, eta=0.5)  # sigma/alpha = 3 at t = 3/4
    >>> eta(0.76), eta(0.74)
    (0.5, 0.0)
    """
    if not noise_to_signal > 0:
        raise InputError(f"noise_to_signal: expected sigma/alpha > 0 to turn deterministic at, got {noise_to_signal}")
    return StochasticUntil(float(schedule.time_of_noise_to_signal(noise_to_signal)), eta)


def eta_at(eta: Eta, t: Instant) -> float:
    """The value for a step that starts at `t`; InputError unless it is finite and >= 0."""
    value = eta(t.t) if callable(eta) else eta
    if not (math.isfinite(value) and value >= 0):
        raise InputError(f"eta: expected a finite value >= 0, got {value} at t = {t.t:g}")
    return value
