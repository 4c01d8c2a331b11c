r"""A noise schedule: the two functions of time that define a diffusion.

A schedule is the pair :math:`(\alpha, \sigma)` of the perturbation kernel

.. math::  x_t = \alpha_t x_0 + \sigma_t \varepsilon, \qquad \varepsilon \sim N(0, I),

where t grows from data to noise. It fixes the forward SDE :math:`dX = f X\,dt + g\,dB` through

.. math::  f = \dot\alpha/\alpha, \qquad g^2 = 2\sigma\dot\sigma - 2 f \sigma^2, \qquad
           \lambda = \log(\alpha/\sigma), \qquad g^2 = -2\sigma^2\dot\lambda .

Everything else about a diffusion depends on time only through the *noise-to-signal ratio*
:math:`\tilde\sigma = \sigma/\alpha = e^{-\lambda}`, by which two schedules are compared.
Every function of time takes a number or a tensor and returns float64.

>>> from diffuscope.schedules import VE, VP
>>> VP().time_of_lambda(VE().lam(1.0)).round(decimals=3)  # VP's time where sigma/alpha = 1
tensor(0.2590, dtype=torch.float64)
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.errors import InputError

Time = Float[Tensor, "*times"] | float | int
Times = Float[Tensor, "*times"]


def as_time(t: Time) -> Times:
    """`t` as a float64 tensor on its own device.

    >>> from diffuscope.schedules import as_time
    >>> as_time(3), as_time(0.1).item() == 0.1  # not rounded to float32
    (tensor(3., dtype=torch.float64), True)
    """
    return torch.as_tensor(t, dtype=torch.float64)


@dataclass(frozen=True)
class Schedule(ABC):
    """A choice of (alpha, sigma); a subclass defines the two, their derivatives and the inverse of lambda.

    `t_min` and `t_max` bound the times in use: sampling starts at `t_max` and stops at `t_min`, where sigma > 0.

    >>> import math
    >>> from diffuscope.schedules import VP, RectifiedFlow
    >>> ratio = VP(2.0, 2.0).noise_to_signal(math.log(10) / 2)  # sqrt(e^2t - 1)
    >>> round(float(ratio), 6), round(float(RectifiedFlow().time_of_noise_to_signal(ratio)), 6)  # there t = r / (1 + r)
    (3.0, 0.75)
    """

    @property
    @abstractmethod
    def t_min(self) -> float: ...

    @property
    @abstractmethod
    def t_max(self) -> float: ...

    @abstractmethod
    def alpha(self, t: Time) -> Times:
        """Signal scale alpha(t)."""

    @abstractmethod
    def sigma(self, t: Time) -> Times:
        """Noise scale sigma(t)."""

    @abstractmethod
    def alpha_dot(self, t: Time) -> Times:
        """d alpha / dt."""

    @abstractmethod
    def sigma_dot(self, t: Time) -> Times:
        """d sigma / dt."""

    @abstractmethod
    def time_of_lambda(self, lam: Time) -> Times:
        """The time t at which log(alpha/sigma) equals `lam`."""

    def lam(self, t: Time) -> Times:
        """lambda(t) = log(alpha/sigma): half the log signal-to-noise ratio."""
        return self.alpha(t).log() - self.sigma(t).log()

    def noise_to_signal(self, t: Time) -> Times:
        """sigma(t) / alpha(t); infinite where alpha = 0."""
        return self.sigma(t) / self.alpha(t)

    def time_of_noise_to_signal(self, ratio: Time) -> Times:
        """The time t at which sigma/alpha equals `ratio`."""
        return self.time_of_lambda(-as_time(ratio).log())

    def f(self, t: Time) -> Times:
        """Linear drift coefficient f = d log(alpha) / dt."""
        return self.alpha_dot(t) / self.alpha(t)

    def g_squared(self, t: Time) -> Times:
        """Squared diffusion g^2 = d(sigma^2)/dt - 2 f sigma^2."""
        sigma = self.sigma(t)
        return 2 * sigma * self.sigma_dot(t) - 2 * self.f(t) * sigma**2


class UnitTime(Schedule):
    """A schedule on [0, 1]; sampling stops at its field `epsilon`. Raises InputError unless 0 <= epsilon < 1."""

    epsilon: float

    def __post_init__(self) -> None:
        if not 0 <= self.epsilon < 1:
            raise InputError(f"epsilon: expected 0 <= epsilon < 1, the time where sampling stops, got {self.epsilon}")

    @property
    def t_min(self) -> float:
        return self.epsilon

    @property
    def t_max(self) -> float:
        return 1.0
