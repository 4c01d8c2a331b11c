r"""Is the mean of noisy errors within a tolerance? Intervals for skewed estimates, and three verdicts.

A random estimate of a log-density is called K times with fresh seeds, each time on C copies of the samples. The K means
over the copies are independent whatever happens within a call, and near normal for large C. What skewness remains, as
of the chi-squared errors of Gaussian probes, is removed by Hall's transformation: with mean :math:`m`, standard
deviation :math:`s` and skewness :math:`g` of the K means,

.. math::
    h = (m - \mu)/s, \qquad
    \sqrt K \Big( h + \tfrac13 g h^2 + \tfrac1{27} g^2 h^3 + \tfrac{g}{6K} \Big) \sim t_{K-1},

which is monotone in h: its inverse gives the interval of :math:`\mu`. The statistics are those of each sample and of
the mean over samples, with one interval for each (Student's, where only 99% is meant). Against the tolerance
:math:`\epsilon` and a zone of width :math:`\epsilon + w` an error

- **fails** where an interval, at a nominal rate of 3 false alarms in 10,000 certificates, excludes
  :math:`[-\epsilon, \epsilon]`;
- **passes** where all intervals of simultaneous level 99% lie inside the zone;
- is **undecided** otherwise, and the standard errors say how many repeats would decide.

The noise of a trace estimate is a sum over d directions. So w grows as :math:`\sqrt d`: 0.2 for the mean over samples,
0.8 for a single one, the same number of repeats in any dimension.

Source: Hall 1992, *On the removal of skewness by transformation* (J. R. Stat. Soc. B 54, 221-228).
"""

import math
from dataclasses import dataclass

import scipy  # its subpackages are loaded when they are first used
import torch
from jaxtyping import Bool, Float
from torch import Tensor

FALSE_ALARMS = 3e-4  # nominal rate of a certificate; so far out, skewed errors may make it ten times larger
MISSES = 0.01  # probability that an error as large as the zone passes
PLANNED = 16  # calls for which the needed repeats are counted
MEAN_WIDTH, SAMPLE_WIDTH = 0.2, 0.8  # times sqrt(d), nats


@dataclass(frozen=True)
class Limits:
    """The tolerance in nats, the dimension, and the number of tests among which `FALSE_ALARMS` is divided."""

    tolerance: float
    dimension: int
    tests: int

    def zone(self, samples: int) -> Float[Tensor, " statistics"]:
        """The largest error that may remain where an estimate passes: of the mean over samples, and of each sample."""
        widths = torch.tensor([MEAN_WIDTH] + samples * [SAMPLE_WIDTH], dtype=torch.float64)
        return self.tolerance + widths * math.sqrt(self.dimension)


def skew_interval(
    values: Float[Tensor, "calls statistics"], tail: Float[Tensor, " statistics"]
) -> tuple[Float[Tensor, " statistics"], Float[Tensor, " statistics"]]:
    """Hall's interval of the mean of every column, with probability `tail` beyond each end."""
    calls = len(values)
    mean, spread = values.mean(0), values.std(0)
    third = (values - mean).pow(3).mean(0) / values.var(0, correction=0).pow(1.5)
    third = third.nan_to_num(0.0, posinf=0.0, neginf=0.0)  # without spread
    quantile = _quantile(tail, calls) / math.sqrt(calls)

    def deviation(y: Float[Tensor, " statistics"]) -> Float[Tensor, " statistics"]:
        """h of sqrt(K) y: (r - 1) 3 / g = 3 z / (r^2 + r + 1), with r^3 = 1 + g z, z = y - g / 6K."""
        z = y - third / (6 * calls)
        cubed = 1 + third * z
        root = cubed.sign() * cubed.abs().pow(1 / 3)
        return 3 * z / (root.square() + root + 1)

    return mean - spread * deviation(quantile), mean - spread * deviation(-quantile)


@dataclass(frozen=True, eq=False)
class Judged:
    """Every statistic of a set of repeats: first the mean over samples, then each sample."""

    mean: Float[Tensor, " statistics"]
    standard_error: Float[Tensor, " statistics"]
    low: Float[Tensor, " statistics"]  # ends of the 99% interval
    high: Float[Tensor, " statistics"]
    failing: Bool[Tensor, " statistics"]
    suspect: bool  # an interval of 99% excludes the tolerance
    inside: bool  # all of them lie in the zone
    missing: float  # how many times more repeats would decide

    @property
    def worst(self) -> int:
        """The statistic to report: the largest of those that fail, otherwise the mean over samples."""
        if not bool(self.failing.any()):
            return 0
        return int(torch.where(self.failing, self.mean.abs(), -1.0).argmax())


def judge(errors: Float[Tensor, "calls copies samples"], limits: Limits) -> Judged:
    """The verdicts of `errors` in nats, repeated by `calls` independent calls with some copies of every sample."""
    by_sample = errors.mean(1)
    values = torch.cat([by_sample.mean(1, keepdim=True), by_sample], dim=1)
    samples, zone = by_sample.shape[1], limits.zone(by_sample.shape[1])
    share = torch.tensor([0.5] + samples * [0.5 / samples], dtype=torch.float64)
    alarm_tail, pass_tail = FALSE_ALARMS / limits.tests * share / 2, MISSES * share / 2
    to_pass = _quantile(pass_tail, len(values))
    surely_low, surely_high = skew_interval(values, alarm_tail)
    mean, standard_error = values.mean(0), values.std(0) / math.sqrt(len(values))
    low, high = mean - to_pass * standard_error, mean + to_pass * standard_error
    # a statistic is decided by a standard error that takes either interval, of more calls, to its side
    to_alarm, to_pass = (_quantile(tail, max(PLANNED, len(values))) for tail in (alarm_tail, pass_tail))
    enough = torch.maximum((zone - mean.abs()) / to_pass, (mean.abs() - limits.tolerance) / to_alarm)
    return Judged(
        mean,
        standard_error,
        low,
        high,
        failing=(surely_low > limits.tolerance) | (surely_high < -limits.tolerance),
        suspect=bool(((low > limits.tolerance) | (high < -limits.tolerance)).any()),
        inside=bool(((low > -zone) & (high < zone)).all()),
        missing=float((standard_error / enough).square().max()),
    )


def _quantile(tail: Float[Tensor, " statistics"], calls: int) -> Float[Tensor, " statistics"]:
    """Of Student's distribution."""
    return torch.from_numpy(scipy.stats.t.isf(tail.numpy(), calls - 1))
