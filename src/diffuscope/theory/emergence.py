r"""When a component emerges during training, and how that time depends on its variance.

The emergence time of a curve v(tau) from :math:`v_0` to :math:`v_\infty` is where it first crosses the geometric mean
:math:`\sqrt{v_0 v_\infty}`. Times that follow a power law of the variance, :math:`\tau^* \propto \lambda^{-a}`, lie on
a line in logarithms,

.. math::  \log\tau^*_k = c - a \log\lambda_k + r_k, \qquad
           \mathrm{se}(a)^2 = \frac{\sum_k r_k^2/(m - 2)}{\sum_k (\log\lambda_k - \overline{\log\lambda})^2},

and the interval is Student's t with m - 2 degrees of freedom. It treats the residuals r as independent, so it contains
systematic departures from a power law as well as noise.

Source: Wang & Pehlevan 2025, https://arxiv.org/abs/2503.03206 (emergence time; exponent fitted by least squares).
"""

from dataclasses import dataclass

import scipy  # its subpackages are loaded when they are first used
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from diffuscope.errors import InputError


@dataclass(frozen=True)
class PowerLaw:
    """y proportional to x^exponent, with a 95% interval of half-width `interval` from `count` points.

    >>> import torch
    >>> from diffuscope.theory import fit_power_law
    >>> law = fit_power_law(torch.tensor([1.0, 2.0, 4.0]), torch.tensor([3.0, 12.0, 48.0]))
    >>> [round(value, 6) for value in law(torch.tensor([5.0, 10.0]).double()).tolist()]  # 3 x^2
    [75.0, 300.0]
    """

    exponent: float
    interval: float
    prefactor: float
    count: int

    def __call__(self, x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """prefactor x^exponent."""
        return self.prefactor * x**self.exponent


def emergence_times(
    times: Float[Tensor, " times"], curves: Float[Tensor, "times modes"], final: Float[Tensor, " modes"]
) -> Float[Tensor, " modes"]:
    """The time at which each curve first crosses the geometric mean of its first value and `final`.

    Between two logged times the curve is a power law (a line in logarithms). NaN where it does not cross, and where it
    does so before the first time > 0. Raises InputError unless times increase from a first >= 0 and all values are > 0.

    >>> import torch
    >>> from diffuscope.theory import emergence_times
    >>> curves = torch.tensor([[1.0, 4.0], [2.0, 2.0], [32.0, 2.0]])
    >>> times = emergence_times(torch.tensor([1.0, 2.0, 8.0]), curves, final=torch.tensor([64.0, 0.25]))
    >>> [round(value, 6) for value in times.tolist()]  # at sqrt(1 x 64) = 8: x 4^2 from 2 to 8 in time; 4 -> 1 not yet
    [4.0, nan]
    """
    if len(times) < 3 or not bool((times.diff() > 0).all()) or bool(times[0] < 0):
        raise InputError("times: expected at least three that increase, none negative")
    if not (bool((curves > 0).all()) and bool((final > 0).all())):
        raise InputError("curves: expected variances > 0")
    log_curve = curves.double().log()
    threshold = (log_curve[0] + final.double().log()) / 2
    passed = (log_curve - threshold) * (threshold - log_curve[0]).sign() >= 0
    passed[0] = False
    step = passed.int().argmax(0).clamp(min=1)
    here, before = (log_curve.gather(0, place[None])[0] for place in (step, step - 1))
    log_time = times.double().log()  # minus infinity for a start at 0
    share = (threshold - before) / (here - before)
    crossing = torch.exp(log_time[step - 1] + share * (log_time[step] - log_time[step - 1]))
    return torch.where(passed.any(0) & (crossing > 0), crossing, torch.nan)


def fit_power_law(
    x: Float[Tensor, " points"], y: Float[Tensor, " points"], keep: Bool[Tensor, " points"] | None = None
) -> PowerLaw:
    """Least squares in logarithms, over the points of `keep` where both are finite and > 0.

    Raises InputError where fewer than three points of different x remain.

    >>> import torch
    >>> from diffuscope.theory import fit_power_law
    >>> law = fit_power_law(torch.tensor([1.0, 2.0, 4.0]).double(), torch.tensor([3.0, 12.0, 48.0]).double())
    >>> round(law.exponent, 6), round(law.prefactor, 6), law.count  # y = 3 x^2
    (2.0, 3.0, 3)
    """
    usable = x.isfinite() & y.isfinite() & (x > 0) & (y > 0)
    if keep is not None:
        usable &= keep
    log_x, log_y = x[usable].double().log(), y[usable].double().log()
    count = len(log_x)
    spread = (log_x - log_x.mean()).square().sum() if count else torch.zeros(())
    if count < 3 or not float(spread) > 0:
        raise InputError(f"x, y: expected at least three points, finite, > 0, of different x, got {count}")
    slope = float(((log_x - log_x.mean()) * log_y).sum() / spread)
    residual = log_y - log_y.mean() - slope * (log_x - log_x.mean())
    error = float((residual.square().sum() / (count - 2) / spread).sqrt())
    prefactor = float(torch.exp(log_y.mean() - slope * log_x.mean()))
    return PowerLaw(slope, float(scipy.stats.t.ppf(0.975, count - 2)) * error, prefactor, count)
