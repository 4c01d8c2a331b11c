r"""The reverse family on Gaussian data from a Gaussian start, in closed form: how fast each eta forgets a wrong start.

Data :math:`N(m, s_0^2)` give :math:`p_t = N(\alpha m, V_t)`, :math:`V = \alpha^2 s_0^2 + \sigma^2`. Started at T from
any Gaussian, the generated distribution stays Gaussian; in the units of :math:`p_t` write it
:math:`q_t = N(\alpha m + \sqrt V\, d_t,\; V r_t)`. The reverse family then reads

.. math::  \frac{d r}{d\tau} = -\eta^2\frac{g^2}{V}(r - 1), \qquad \frac{d d}{d\tau} = -\frac{\eta^2}{2}\frac{g^2}{V} d,

and since :math:`g^2/V` is the derivative of :math:`\log(s_0^2 + w)` with :math:`w = \sigma^2/\alpha^2`, with
:math:`\rho = (s_0^2 + w_t)/(s_0^2 + w_T) \le 1`,

.. math::  r_t - 1 = (r_T - 1)\,\rho^{\eta^2}, \qquad d_t = d_T\,\rho^{\eta^2/2} .

The relative entropy and its rate of dissipation are

.. math::
    \mathrm{KL}(q_t\|p_t) = \tfrac12\left(r - 1 - \log r + d^2\right), \qquad
    \frac{d}{d\tau}\mathrm{KL} = -\frac{\eta^2}{2} g^2\int q\left|\nabla\log\frac qp\right|^2
        = -\frac{\eta^2}{2}\frac{g^2}{V}\left[\frac{(r - 1)^2}{r} + d^2\right] .

At eta = 0 nothing is forgotten: KL is constant. Everything is in one dimension, or per coordinate.

Source: derived from Cao et al. 2025 (arXiv:2501.17054, section 2).
"""

import math
from dataclasses import dataclass

from diffuscope.errors import InputError
from diffuscope.schedules import Schedule

Number = float | int


@dataclass(frozen=True)
class GaussianReverse:
    """Data N(`mean`, `variance`); generation starts at time `start` from N(`start_mean`, `start_variance`).

    Raises InputError for numbers that are not finite, a negative data variance, a start variance that is not positive,
    a negative eta, and where alpha(start) = 0.

    >>> from diffuscope.densities import GaussianReverse
    >>> from diffuscope.schedules import VE
    >>> process = GaussianReverse(VE(), 3.0, 1.0, start=7**0.5, start_mean=11.0, start_variance=136.0, eta=2.0)
    >>> [round(value, 6) for value in process.distribution(3**0.5)]  # V = 4, rho = 1/2: r - 1 = 16/2^4, d = sqrt(8)/2^2
    [4.414214, 8.0]
    >>> round(process.relative_entropy(3**0.5), 6), round(process.dissipation(3**0.5), 6)  # (3/2 - log 2) / 2, sqrt(3)
    (0.403426, 1.732051)
    """

    schedule: Schedule
    mean: Number
    variance: Number
    start: Number
    start_mean: Number
    start_variance: Number
    eta: Number

    def __post_init__(self) -> None:
        if not (math.isfinite(self.mean) and math.isfinite(self.start_mean)):
            raise InputError(f"mean: expected finite means, got {self.mean} of data, {self.start_mean} at the start")
        if not (0 <= self.variance < math.inf and 0 < self.start_variance < math.inf):
            given = f"{self.variance}, {self.start_variance}"
            raise InputError(f"variance: expected data variance >= 0 and start variance > 0, got {given}")
        if not 0 <= self.eta < math.inf:
            raise InputError(f"eta: expected a value >= 0, got {self.eta}")
        alpha = float(self.schedule.alpha(self.start))
        if not alpha > 0:
            raise InputError(f"start: expected alpha(start) > 0, got alpha = {alpha:g} at {self.start:g}")

    def exact(self, t: Number) -> tuple[float, float]:
        """Mean and variance of p_t."""
        alpha, sigma = float(self.schedule.alpha(t)), float(self.schedule.sigma(t))
        return alpha * self.mean, alpha**2 * self.variance + sigma**2

    def distribution(self, t: Number) -> tuple[float, float]:
        """Mean and variance of q_t."""
        d, excess = self._relative(t)
        mean, variance = self.exact(t)
        return mean + math.sqrt(variance) * d, variance * (1 + excess)

    def relative_entropy(self, t: Number) -> float:
        """KL(q_t || p_t) in nats, to nearly full precision however small it is."""
        d, excess = self._relative(t)
        if abs(excess) > 1e-4:
            spread = excess - math.log1p(excess)
        else:  # near r = 1 the terms of r - 1 - log r cancel: its series
            spread = excess**2 / 2 - excess**3 / 3 + excess**4 / 4 - excess**5 / 5
        return (spread + d**2) / 2

    def dissipation(self, t: Number) -> float:
        """-d KL / d tau >= 0, nats per unit of the schedule's time."""
        d, excess = self._relative(t)
        rate = self.eta**2 / 2 * float(self.schedule.g_squared(t)) / self.exact(t)[1]
        return rate * (excess**2 / (1 + excess) + d**2)

    def _relative(self, t: Number) -> tuple[float, float]:
        """d and r - 1 at time t."""
        mean, variance = self.exact(self.start)
        d, r = (self.start_mean - mean) / math.sqrt(variance), self.start_variance / variance
        w_t, w_T = (float(self.schedule.noise_to_signal(time)) ** 2 for time in (t, self.start))
        rho = (self.variance + w_t) / (self.variance + w_T)
        return d * rho ** (self.eta**2 / 2), (r - 1) * rho ** (self.eta**2)
