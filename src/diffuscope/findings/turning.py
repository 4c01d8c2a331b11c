r"""Where a residual stops falling during training and rises again: the step, its interval, and whether it is real.

:math:`r_i(k)` is the residual of point i at logged step k, the same points at every step; R(k) is its mean over n
points, and the *turning step* k* is the logged step of least expected residual. For every step k

.. math::
    t_k = \max_j \frac{R(k) - R(j)}{s_{kj}}, \qquad s_{kj}^2 = \tfrac1n \operatorname{Var}_i[r_i(k) - r_i(j)] .

Under :math:`H_k`, 'no step has a smaller expected residual than k', every expected difference is at most 0, so that
t_k is at most the largest *centered* difference. Resampling points gives the distribution of that one,

.. math::
    p_k = \frac{1 + \#\{b : \max_j\,[(R_b - R)(k) - (R_b - R)(j)] / s_{b,kj} \ge t_k\}}{1 + B} .

- The steps with :math:`p_k > 1 - \text{confidence}` (`kept`) cover k* with that confidence and without a correction for
  many steps: only one hypothesis, that of k*, must survive. The interval runs to the looks on either side of them,
  because a curve with one valley may have its least between two looks.
- A *rise* is the rejection of the last step: the residual does not end where it is least. A *fall* is the rejection of
  the first. A turning point is both.

To choose the least step and then to test the last against it as if it had been chosen beforehand finds rises in flat
curves; the largest over j is the price of the choice.

Power: with c the critical value of the last step, a rise of :math:`(c + z_\beta)\, s` from k* to the last step, s its
standard error, is found with probability :math:`\beta` (normal approximation). All of it is about the points: another
run of the training is another curve.

Sources: the confidence set of an argmin by test inversion, Mogstad et al. 2024 (inference for ranks) and Hansen, Lunde
& Nason 2011 (model confidence set); the distribution of a maximum by resampling, Chernozhukov, Chetverikov & Kato 2013.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Real
from numpy import ndarray
from scipy import stats

from diffuscope.errors import InputError

from .statistics import POWER

RESAMPLES = 1_999
FEWEST_POINTS = 20  # below, a bootstrap has too few points to resample
CONFIDENCE = 0.95
ROUNDING = 1e-12  # a deviation this small against the differences themselves is rounding


@dataclass(frozen=True)
class TurningPoint:
    """The step of least residual with its interval, and the p-values that the residual fell before and rose after.

    `kept` are the looks that no test excludes, at confidence 0.95; `interval` runs to the looks on either side of them.
    `least` and `last` are mean residuals, at `step` and at the last step. `detectable_rise` is the smallest rise from
    `least` that would have been found at `significance` with probability 0.95.
    """

    step: float
    kept: tuple[float, ...]
    interval: tuple[float, float]
    least: float
    last: float
    p_fall: float
    p_rise: float
    detectable_rise: float
    significance: float

    @property
    def found(self) -> bool:
        """Whether the residual fell before this step and rose after it, both significantly."""
        return max(self.p_fall, self.p_rise) <= self.significance

    @property
    def rise(self) -> float:
        """The rise from `step` to the last step, as a share of the least residual."""
        return self._share(self.last - self.least)

    @property
    def smallest_rise(self) -> float:
        """`detectable_rise` as a share of the least residual."""
        return self._share(self.detectable_rise)

    @property
    def verdict(self) -> str:
        """What was found, in one sentence, with what could have been."""
        least = f"least at step {self.step:g} (95% interval {self.interval[0]:g} to {self.interval[1]:g})"
        if self.p_rise > self.significance:
            told = f"no rise is found (p = {self.p_rise:.2g}); one of {self.smallest_rise:.0%} "
            told += "would have been with probability .95"
            return f"{least}: {told}"
        fell = "" if self.found else "; no fall before it is found, it may have turned before the first look"
        return f"{least}, then it rises by {self.rise:.0%} (p = {self.p_rise:.2g}){fell}"

    def _share(self, difference: float) -> float:
        return difference / self.least if self.least > 0 else math.inf


def turning_point(
    residuals: Float[ndarray, "points steps"],
    steps: Real[ndarray, " steps"],
    rng: np.random.Generator,
    *,
    significance: float = 0.01,
    resamples: int = RESAMPLES,
) -> TurningPoint:
    """The turning point of residuals of the same points at increasing `steps`.

    Raises InputError for fewer than 20 points or 3 steps, for steps that do not increase, for residuals that are not
    finite, and for fewer `resamples` than p-values at `significance` need. Holds resamples x points numbers.
    """
    points, count = residuals.shape
    if points < FEWEST_POINTS or count < 3:
        raise InputError(
            f"residuals: expected at least {FEWEST_POINTS} points and 3 steps, got {points} points and {count} steps"
        )
    if steps.shape != (count,) or not bool((np.diff(steps) > 0).all()):
        told = np.array2string(steps, max_line_width=10_000, threshold=8, edgeitems=3)
        raise InputError(f"steps: expected {count} that increase, one per column of the residuals, got {told}")
    if not bool(np.isfinite(residuals).all()):
        raise InputError("residuals: expected finite numbers, got NaN or infinity")
    if not 1 / (1 + resamples) <= significance < 1:
        raise InputError(
            f"significance: expected {1 / (1 + resamples):.2g} to 1 with {resamples} resamples, got {significance:g}"
        )
    mean = residuals.mean(0)
    counts = rng.multinomial(points, np.full(points, 1 / points), size=resamples).astype(float)
    tests = [_test(residuals[:, [k]] - residuals, counts) for k in range(count)]
    p_values = np.array([test.p_value for test in tests])
    place = int(mean.argmin())
    kept = np.flatnonzero(p_values > 1 - CONFIDENCE)  # never empty: the least step has p = 1
    first, last = max(int(kept[0]) - 1, 0), min(int(kept[-1]) + 1, count - 1)
    end = tests[-1]
    beyond = end.errors[int(mean[:-1].argmin())]  # of the least step before the last
    critical = float(np.quantile(end.distribution, 1 - significance))
    return TurningPoint(
        step=float(steps[place]),
        kept=tuple(steps[kept].astype(float).tolist()),
        interval=(float(steps[first]), float(steps[last])),
        least=float(mean[place]),
        last=float(mean[-1]),
        p_fall=float(p_values[0]),
        p_rise=float(p_values[-1]),
        detectable_rise=(critical + float(stats.norm.ppf(POWER))) * float(beyond),
        significance=significance,
    )


@dataclass(frozen=True, eq=False)
class _Test:
    """One hypothesis H_k: its p-value, the resampled distribution of its statistic, and the standard errors in it."""

    p_value: float
    distribution: Float[ndarray, " resamples"]
    errors: Float[ndarray, " steps"]


def _test(differences: Float[ndarray, "points steps"], counts: Float[ndarray, "resamples points"]) -> _Test:
    """H_k from r_i(k) - r_i(j): the resamples, too, are divided by their own standard errors."""
    points, mean = len(differences), differences.mean(0)
    centered = differences - mean
    floor = max(ROUNDING * float(np.sqrt((differences**2).mean())), 1e-150)  # a step does not differ from itself
    errors = np.maximum(centered.std(0), floor) / np.sqrt(points)
    shift = counts @ centered / points
    deviation = np.sqrt(np.maximum(counts @ centered**2 / points - shift**2, floor**2))
    distribution = (shift / deviation).max(1) * np.sqrt(points)
    exceeding = int((distribution >= (mean / errors).max() - ROUNDING).sum())
    return _Test((1 + exceeding) / (1 + len(distribution)), distribution, errors)
