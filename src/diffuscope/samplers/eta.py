r"""The dial of the reverse family, held over a step.

.. math::  dx = \left[f x - \tfrac{1 + \eta^2}{2} g^2\, \nabla\log p_t(x)\right]dt + \eta\, g\, d\bar B

has the marginals of the forward process for every :math:`\eta(t) \ge 0`: 0 is the probability-flow ODE, 1 Anderson's
reverse SDE. A sampler reads eta at the start of each step and holds it. Since the marginals do not depend on eta, this
costs no accuracy in distribution, and an eta that jumps (stochastic early, deterministic late) is followed exactly by a
grid that holds the jump.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from diffuscope.errors import InputError
from diffuscope.schedules import Schedule

from .schedule_values import Instant

Eta = float | Callable[[float], float]


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


def draws_noise(eta: Eta) -> bool:
    """Whether some step may draw noise: eta is not the number 0."""
    return callable(eta) or eta > 0
