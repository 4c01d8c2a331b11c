"""Variance-exploding schedules: alpha = 1."""

import math
from dataclasses import dataclass

import torch

from diffuscope.errors import InputError

from .schedule import Schedule, Time, Times, as_time


class _VarianceExploding(Schedule):
    """alpha = 1; sigma from the field `sigma_min` to `sigma_max`, on [0, 1] unless a subclass has other times."""

    sigma_min: float
    sigma_max: float

    def __post_init__(self) -> None:
        low, high = self.sigma_min, self.sigma_max
        if not 0 < low < high < math.inf:
            raise InputError(f"sigma_min, sigma_max: expected 0 < minimum < maximum, both finite, got {low}, {high}")

    @property
    def t_min(self) -> float:
        return 0.0

    @property
    def t_max(self) -> float:
        return 1.0

    def alpha(self, t: Time) -> Times:
        return torch.ones_like(as_time(t))

    def alpha_dot(self, t: Time) -> Times:
        return torch.zeros_like(as_time(t))


@dataclass(frozen=True)
class VE(_VarianceExploding):
    """Variance exploding in EDM's time (Karras et al. 2022): alpha = 1, sigma = t.

    Raises InputError unless 0 < sigma_min < sigma_max, both finite.

    >>> from diffuscope.schedules import VE
    >>> schedule = VE()
    >>> float(schedule.alpha(3)), float(schedule.sigma(3)), float(schedule.g_squared(3))  # 1, t and 2 t
    (1.0, 3.0, 6.0)
    >>> round(float(schedule.time_of_noise_to_signal(3)), 6)
    3.0
    """

    sigma_min: float = 0.002
    sigma_max: float = 80.0

    @property
    def t_min(self) -> float:
        return self.sigma_min

    @property
    def t_max(self) -> float:
        return self.sigma_max

    def sigma(self, t: Time) -> Times:
        return as_time(t)

    def sigma_dot(self, t: Time) -> Times:
        return torch.ones_like(as_time(t))

    def time_of_lambda(self, lam: Time) -> Times:
        return (-as_time(lam)).exp()


@dataclass(frozen=True)
class GeometricVE(_VarianceExploding):
    """Variance exploding as in Song et al. 2021: alpha = 1, sigma = smin (smax/smin)^t on [0, 1].

    Raises InputError unless 0 < sigma_min < sigma_max, both finite.

    >>> from diffuscope.schedules import GeometricVE
    >>> schedule = GeometricVE(0.5, 8.0)
    >>> round(float(schedule.sigma(0.75)), 6), round(float(schedule.g_squared(0.75)), 6)  # 0.5 16^t, 2 log(16) sigma^2
    (4.0, 88.722839)
    >>> round(float(schedule.time_of_noise_to_signal(4)), 6)
    0.75
    """

    sigma_min: float = 0.01
    sigma_max: float = 50.0

    @property
    def _rate(self) -> float:
        return math.log(self.sigma_max / self.sigma_min)

    def sigma(self, t: Time) -> Times:
        return self.sigma_min * (self._rate * as_time(t)).exp()

    def sigma_dot(self, t: Time) -> Times:
        return self._rate * self.sigma(t)

    def time_of_lambda(self, lam: Time) -> Times:
        return (-as_time(lam) - math.log(self.sigma_min)) / self._rate


@dataclass(frozen=True)
class Karras(_VarianceExploding):
    """EDM's noise levels as a schedule on [0, 1]: alpha = 1, sigma = (a + t (b - a))^rho.

    a = smin^(1/rho), b = smax^(1/rho); uniform times are EDM's sampling steps (Karras et al. 2022, eq. 5).
    Raises InputError unless 0 < sigma_min < sigma_max and rho > 0, all finite.

    >>> from diffuscope.schedules import Karras
    >>> schedule = Karras(8.0, 125.0, rho=3.0)  # sigma = (2 + 3 t)^3
    >>> round(float(schedule.sigma(0.5)), 6), round(float(schedule.sigma_dot(0.5)), 6)  # 3.5^3, 3 * 3 * 3.5^2
    (42.875, 110.25)
    >>> round(float(schedule.time_of_noise_to_signal(42.875)), 6)
    0.5
    """

    sigma_min: float = 0.002
    sigma_max: float = 80.0
    rho: float = 7.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.rho < math.inf:
            raise InputError(f"rho: expected a finite number > 0, got {self.rho}")

    @property
    def _ends(self) -> tuple[float, float]:
        return self.sigma_min ** (1 / self.rho), self.sigma_max ** (1 / self.rho)

    def sigma(self, t: Time) -> Times:
        a, b = self._ends
        return (a + as_time(t) * (b - a)) ** self.rho

    def sigma_dot(self, t: Time) -> Times:
        a, b = self._ends
        return self.rho * (b - a) * (a + as_time(t) * (b - a)) ** (self.rho - 1)

    def time_of_lambda(self, lam: Time) -> Times:
        a, b = self._ends
        return ((-as_time(lam) / self.rho).exp() - a) / (b - a)
