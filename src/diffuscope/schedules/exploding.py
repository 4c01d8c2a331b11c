"""Variance-exploding schedules: alpha = 1."""

import math
from dataclasses import dataclass

import torch

from diffuscope.errors import InputError

from .schedule import Schedule, Time, Times, as_time


@dataclass(frozen=True)
class VE(Schedule):
    """Variance exploding in EDM's time (Karras et al. 2022): alpha = 1, sigma = t."""

    sigma_min: float = 0.002
    sigma_max: float = 80.0

    def __post_init__(self) -> None:
        _require_ordered(self.sigma_min, self.sigma_max)

    @property
    def t_min(self) -> float:
        return self.sigma_min

    @property
    def t_max(self) -> float:
        return self.sigma_max

    def alpha(self, t: Time) -> Times:
        return torch.ones_like(as_time(t))

    def sigma(self, t: Time) -> Times:
        return as_time(t)

    def alpha_dot(self, t: Time) -> Times:
        return torch.zeros_like(as_time(t))

    def sigma_dot(self, t: Time) -> Times:
        return torch.ones_like(as_time(t))

    def time_of_lambda(self, lam: Time) -> Times:
        return (-as_time(lam)).exp()


@dataclass(frozen=True)
class GeometricVE(Schedule):
    """Variance exploding as in Song et al. 2021: alpha = 1, sigma = smin (smax/smin)^t on [0, 1]."""

    sigma_min: float = 0.01
    sigma_max: float = 50.0

    def __post_init__(self) -> None:
        _require_ordered(self.sigma_min, self.sigma_max)

    @property
    def t_min(self) -> float:
        return 0.0

    @property
    def t_max(self) -> float:
        return 1.0

    @property
    def _rate(self) -> float:
        return math.log(self.sigma_max / self.sigma_min)

    def alpha(self, t: Time) -> Times:
        return torch.ones_like(as_time(t))

    def sigma(self, t: Time) -> Times:
        return self.sigma_min * (self._rate * as_time(t)).exp()

    def alpha_dot(self, t: Time) -> Times:
        return torch.zeros_like(as_time(t))

    def sigma_dot(self, t: Time) -> Times:
        return self._rate * self.sigma(t)

    def time_of_lambda(self, lam: Time) -> Times:
        return (-as_time(lam) - math.log(self.sigma_min)) / self._rate


@dataclass(frozen=True)
class Karras(Schedule):
    """EDM's noise levels as a schedule on [0, 1]: alpha = 1, sigma = (a + t (b - a))^rho.

    a = smin^(1/rho), b = smax^(1/rho); uniform times are EDM's sampling steps (eq. 5).
    """

    sigma_min: float = 0.002
    sigma_max: float = 80.0
    rho: float = 7.0

    def __post_init__(self) -> None:
        _require_ordered(self.sigma_min, self.sigma_max)
        if not 0 < self.rho < math.inf:
            raise InputError(f"rho: expected a finite number > 0, got {self.rho}")

    @property
    def t_min(self) -> float:
        return 0.0

    @property
    def t_max(self) -> float:
        return 1.0

    @property
    def _ends(self) -> tuple[float, float]:
        return self.sigma_min ** (1 / self.rho), self.sigma_max ** (1 / self.rho)

    def alpha(self, t: Time) -> Times:
        return torch.ones_like(as_time(t))

    def sigma(self, t: Time) -> Times:
        a, b = self._ends
        return (a + as_time(t) * (b - a)) ** self.rho

    def alpha_dot(self, t: Time) -> Times:
        return torch.zeros_like(as_time(t))

    def sigma_dot(self, t: Time) -> Times:
        a, b = self._ends
        return self.rho * (b - a) * (a + as_time(t) * (b - a)) ** (self.rho - 1)

    def time_of_lambda(self, lam: Time) -> Times:
        a, b = self._ends
        return ((-as_time(lam) / self.rho).exp() - a) / (b - a)


def _require_ordered(low: float, high: float) -> None:
    if not 0 < low < high < math.inf:
        raise InputError(f"sigma_min, sigma_max: expected 0 < minimum < maximum, both finite, got {low}, {high}")
