"""Variance-preserving schedules: alpha^2 + sigma^2 = 1."""

import math
from abc import abstractmethod
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from diffuscope.errors import InputError

from .schedule import Schedule, Time, Times, UnitTime, as_time


class _VariancePreserving(Schedule):
    """alpha^2 + sigma^2 = 1, defined by ell(t) = log(alpha^2) so that sigma suffers no cancellation."""

    @abstractmethod
    def _log_alpha_squared(self, t: Times) -> Times: ...

    @abstractmethod
    def _time_of_log_alpha_squared(self, ell: Times) -> Times: ...

    def alpha(self, t: Time) -> Times:
        return (self._log_alpha_squared(as_time(t)) / 2).exp()

    def sigma(self, t: Time) -> Times:
        return (-torch.expm1(self._log_alpha_squared(as_time(t)))).sqrt()

    def sigma_dot(self, t: Time) -> Times:
        # alpha alpha' + sigma sigma' = 0
        return -self.alpha(t) * self.alpha_dot(t) / self.sigma(t)

    def time_of_lambda(self, lam: Time) -> Times:
        # alpha^2 = 1 / (1 + exp(-2 lambda))
        return self._time_of_log_alpha_squared(torch.nn.functional.logsigmoid(2 * as_time(lam)))


@dataclass(frozen=True)
class VP(UnitTime, _VariancePreserving):
    """Variance preserving with linear beta (Song et al. 2021): log alpha = -(b0 t + (b1-b0) t^2/2)/2.

    VP(2, 2) is the Ornstein-Uhlenbeck process dX = -X dt + sqrt(2) dB: alpha = e^-t. Raises InputError unless
    0 < beta_min <= beta_max, both finite, and 0 <= epsilon < 1.

    >>> from diffuscope.schedules import VP
    >>> schedule = VP(0.5, 2.5)  # beta = 0.5 + 2 t
    >>> round(float(schedule.alpha(0.5).log()), 6), round(float(schedule.g_squared(0.5)), 6)  # -(0.25 + 0.25) / 2, beta
    (-0.25, 1.5)
    >>> round(float(schedule.time_of_lambda(schedule.lam(0.3))), 6)
    0.3
    """

    beta_min: float = 0.1
    beta_max: float = 20.0
    epsilon: float = 1e-3

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.beta_min <= self.beta_max < math.inf:
            given = f"{self.beta_min}, {self.beta_max}"
            raise InputError(f"beta_min, beta_max: expected 0 < minimum <= maximum, both finite, got {given}")

    def _log_alpha_squared(self, t: Times) -> Times:
        return -(self.beta_min * t + (self.beta_max - self.beta_min) * t**2 / 2)

    def alpha_dot(self, t: Time) -> Times:
        t = as_time(t)
        return -self.alpha(t) * (self.beta_min + (self.beta_max - self.beta_min) * t) / 2

    def _time_of_log_alpha_squared(self, ell: Times) -> Times:
        slope = self.beta_max - self.beta_min
        # the root of slope t^2/2 + beta_min t + ell = 0, in the form without cancellation near t = 0
        return -2 * ell / (self.beta_min + (self.beta_min**2 - 2 * slope * ell).sqrt())


PRODUCT = 0.9  # no table of betas begins above


@dataclass(frozen=True)
class DiscreteVP(_VariancePreserving):
    """The DDPM chain (Ho et al. 2020) as a continuous schedule on [0, T].

    After k steps alpha^2 = prod_{i<=k} (1 - beta_i): the chain is an Ornstein-Uhlenbeck process observed
    each time int beta has grown by -log(1 - beta_k), so log(alpha^2) is exactly linear between steps.
    Step k of the chain is time t = k; t = 0 is clean data. Raises InputError unless every 0 < beta < 1, and for the
    products alpha_bar in their place, which begin near 1 and fall.

    >>> from diffuscope.schedules import DiscreteVP
    >>> chain = DiscreteVP((0.2, 0.5))
    >>> [round(float(chain.alpha(k)) ** 2, 6) for k in (0, 1, 1.5, 2)]  # 0.8 sqrt(0.5) halfway through the second step
    [1.0, 0.8, 0.565685, 0.4]
    >>> round(float(chain.g_squared(1.3)), 6), round(float(chain.time_of_lambda(chain.lam(1.3))), 6)  # -log 0.5, t
    (0.693147, 1.3)
    """

    betas: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.betas or not all(0 < beta < 1 for beta in self.betas):
            raise InputError("betas: expected at least one step, each with 0 < beta < 1")
        if self.betas[0] > PRODUCT > self.betas[-1]:
            raise InputError(
                f"betas: expected a first step that leaves most of the signal, got {self.betas[0]:g} falling to "
                f"{self.betas[-1]:g}; of products alpha_bar the betas are 1 - alpha_bar[k] / alpha_bar[k - 1]"
            )

    @classmethod
    def linear(cls, beta_min: float = 1e-4, beta_max: float = 0.02, steps: int = 1000) -> "DiscreteVP":
        """The linear table of DDPM: beta from 1e-4 to 0.02 in 1000 steps."""
        return cls(tuple(torch.linspace(beta_min, beta_max, steps, dtype=torch.float64).tolist()))

    @property
    def t_min(self) -> float:
        return 1.0

    @property
    def t_max(self) -> float:
        return float(len(self.betas))

    @cached_property
    def _table(self) -> Times:
        """log(alpha^2) after 0, 1, ..., T steps."""
        steps = torch.log1p(-torch.tensor(self.betas, dtype=torch.float64))
        return torch.cat([steps.new_zeros(1), steps.cumsum(0)])

    def _interval(self, t: Times) -> Tensor:
        return t.floor().clamp(0, len(self.betas) - 1).long()

    def _log_alpha_squared(self, t: Times) -> Times:
        table, k = self._table.to(t.device), self._interval(t)
        return table[k] + (t - k) * (table[k + 1] - table[k])

    def alpha_dot(self, t: Time) -> Times:
        t = as_time(t)
        table, k = self._table.to(t.device), self._interval(t)
        return self.alpha(t) * (table[k + 1] - table[k]) / 2

    def _time_of_log_alpha_squared(self, ell: Times) -> Times:
        table = self._table.to(ell.device)
        k = (torch.searchsorted(-table, -ell, right=True) - 1).clamp(0, len(self.betas) - 1)
        return k + (ell - table[k]) / (table[k + 1] - table[k])


@dataclass(frozen=True)
class ZeroTerminalVP(DiscreteVP):
    """A DDPM chain whose last step leaves no signal (Lin et al. 2024, arXiv:2305.08891): its last beta is 1.

    log(alpha^2) would fall to -infinity within that step; instead alpha falls linearly from its value after T - 1 steps
    to alpha(T) = 0, so that its derivative is finite. Raises InputError unless every other 0 < beta < 1.

    >>> from diffuscope.schedules import ZeroTerminalVP
    >>> chain = ZeroTerminalVP((0.2, 0.5, 1.0))
    >>> round(float(chain.alpha(2)) ** 2, 6), round(float(chain.alpha(2.25) / chain.alpha(2)), 6), float(chain.alpha(3))
    (0.4, 0.75, 0.0)
    >>> [round(float(chain.time_of_lambda(chain.lam(t))), 6) for t in (1.3, 2.25)]
    [1.3, 2.25]
    """

    def __post_init__(self) -> None:
        if len(self.betas) < 2 or self.betas[-1] != 1 or not all(0 < beta < 1 for beta in self.betas[:-1]):
            raise InputError("betas: expected at least two steps, each with 0 < beta < 1 but for a last beta of 1")

    @cached_property
    def _before(self) -> DiscreteVP:
        return DiscreteVP(self.betas[:-1])

    def _left(self, t: Times) -> Times:
        """What is left of alpha in the last step, 1 before it."""
        return (len(self.betas) - t).clamp(max=1)

    def _log_alpha_squared(self, t: Times) -> Times:
        return self._before._log_alpha_squared(t.clamp(max=self._before.t_max)) + 2 * self._left(t).log()

    def alpha_dot(self, t: Time) -> Times:
        t, before = as_time(t), self._before
        return torch.where(t < before.t_max, before.alpha_dot(t), -before.alpha(before.t_max))

    def _time_of_log_alpha_squared(self, ell: Times) -> Times:
        end = self._before._log_alpha_squared(as_time(self._before.t_max)).to(ell.device)
        within = self._before._time_of_log_alpha_squared(ell)
        return torch.where(ell < end, len(self.betas) - ((ell - end) / 2).exp(), within)


@dataclass(frozen=True)
class Cosine(UnitTime):
    r"""Nichol & Dhariwal 2021: alpha = cos(a)/cos(b), a = (t+s)/(1+s) pi/2, b = s/(1+s) pi/2, on [0, 1].

    Written with :math:`\cos a = \sin(\frac{\pi}{2}\frac{1-t}{1+s})` so that alpha(1) = 0 exactly, and
    :math:`\sigma^2 = \sin(a-b)\sin(a+b)/\cos^2 b` without cancellation near t = 0. Raises InputError unless s is finite
    and >= 0, and 0 <= epsilon < 1.

    >>> from diffuscope.schedules import Cosine
    >>> schedule = Cosine(s=0.25)  # at t = 1/4, a = pi/5 and b = pi/10
    >>> round(float(schedule.alpha(0.25)), 6), round(float(schedule.sigma(0.25)), 6)  # cos(a)/cos(b), sqrt(1 - alpha^2)
    (0.850651, 0.525731)
    >>> round(float(schedule.f(0.25)), 5), float(schedule.alpha(1))  # -tan(a) pi / (2 + 2 s), 0
    (-0.913, 0.0)
    >>> round(float(schedule.time_of_lambda(schedule.lam(0.3))), 6)
    0.3
    """

    s: float = 0.008
    epsilon: float = 1e-3

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.s < math.inf:
            raise InputError(f"s: expected a finite number >= 0, got {self.s}")

    @property
    def _rate(self) -> float:
        return math.pi / 2 / (1 + self.s)

    @property
    def _cos_b(self) -> float:
        return math.cos(self.s * self._rate)

    def alpha(self, t: Time) -> Times:
        return torch.sin(self._rate * (1 - as_time(t))) / self._cos_b

    def sigma(self, t: Time) -> Times:
        t = as_time(t)
        product = torch.sin(self._rate * t) * torch.sin(self._rate * (t + 2 * self.s))
        return product.sqrt() / self._cos_b

    def alpha_dot(self, t: Time) -> Times:
        return -self._rate * torch.cos(self._rate * (1 - as_time(t))) / self._cos_b

    def sigma_dot(self, t: Time) -> Times:
        return -self.alpha(t) * self.alpha_dot(t) / self.sigma(t)

    def time_of_lambda(self, lam: Time) -> Times:
        alpha = torch.sigmoid(2 * as_time(lam)).sqrt()
        return 1 - torch.asin(alpha * self._cos_b) / self._rate


@dataclass(frozen=True)
class Sigmoid(UnitTime, _VariancePreserving):
    r"""Chen 2023, with alpha^2 *decreasing*: alpha^2 = (S(end) - S(start + t(end-start))) / (S(end) - S(start)).

    S(u) = 1/(1 + exp(-u/tau)), t on [0, 1]; alpha(1) = 0. Some papers print the opposite sign. Raises InputError
    unless start < end and tau > 0, all finite, and 0 <= epsilon < 1.

    >>> import math
    >>> from diffuscope.schedules import Sigmoid
    >>> schedule = Sigmoid(-2 * math.log(2), 4 * math.log(2), tau=2.0)  # S = 1/3, 2 - sqrt(2), 4/5 at t = 0, 1/2, 1
    >>> alpha, sigma = schedule.alpha(0.5), schedule.sigma(0.5)
    >>> round(float(alpha) ** 2, 6), round(float(alpha**2 + sigma**2), 6)  # (sqrt(2) - 6/5) / (4/5 - 1/3)
    (0.459029, 1.0)
    >>> round(float(schedule.time_of_lambda(schedule.lam(0.3))), 6)
    0.3
    """

    start: float = -3.0
    end: float = 3.0
    tau: float = 1.0
    epsilon: float = 1e-3

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (-math.inf < self.start < self.end < math.inf and 0 < self.tau < math.inf):
            given = f"{self.start}, {self.end}, {self.tau}"
            raise InputError(f"start, end, tau: expected finite start < end and tau > 0, got {given}")

    def _argument(self, t: Times) -> Times:
        """u / tau at time t."""
        return (self.start + t * (self.end - self.start)) / self.tau

    @property
    def _ends(self) -> tuple[float, float]:
        return 1 / (1 + math.exp(-self.start / self.tau)), 1 / (1 + math.exp(-self.end / self.tau))

    def _log_alpha_squared(self, t: Times) -> Times:
        low, high = self._ends
        # S(end) - S(u) = S(end) S(-u) (1 - exp(-(end - u)/tau)): exactly zero at t = 1
        rest = -torch.expm1(-(1 - t) * (self.end - self.start) / self.tau)
        return torch.log(high * torch.sigmoid(-self._argument(t)) * rest / (high - low))

    def _alpha_squared_dot(self, t: Times) -> Times:
        (low, high), logistic = self._ends, torch.sigmoid(self._argument(t))
        return -logistic * (1 - logistic) * (self.end - self.start) / self.tau / (high - low)

    def alpha_dot(self, t: Time) -> Times:
        # alpha falls like sqrt(1 - t): -infinity at t = 1, where alpha times d log(alpha)/dt would be 0 times infinity
        return self._alpha_squared_dot(as_time(t)) / (2 * self.alpha(t))

    def sigma_dot(self, t: Time) -> Times:
        return -self._alpha_squared_dot(as_time(t)) / (2 * self.sigma(t))

    def sigma(self, t: Time) -> Times:
        low, high = self._ends
        t = as_time(t)
        # S(u) - S(start) = S(u) S(-start) (1 - exp(-(u - start)/tau)): no cancellation near t = 0
        rest = -torch.expm1(-t * (self.end - self.start) / self.tau)
        return (torch.sigmoid(self._argument(t)) * (1 - low) * rest / (high - low)).sqrt()

    def _time_of_log_alpha_squared(self, ell: Times) -> Times:
        low, high = self._ends
        logistic = low - (high - low) * torch.expm1(ell)
        # rounding may put the end of the schedule, alpha = 0, beyond t = 1
        return ((self.tau * torch.logit(logistic) - self.start) / (self.end - self.start)).clamp(max=1.0)
