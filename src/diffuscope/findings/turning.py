r"""The turning point where a residual stops falling during training and rises again: its step, interval and tests.

:math:`r_i(k)` is the residual of point i at logged step k, the same points at every step; R(k) is its mean over n
points, and the *turning step* k* is the logged step of least expected residual. For every step k

.. math::
    t_k = \max_j \frac{R(k) - R(j)}{s_{kj}}, \qquad s_{kj}^2 = \tfrac1n \operatorname{Var}_i[r_i(k) - r_i(j)] .

Under :math:`H_k`, 'no step has a smaller expected residual than k', every expected difference is at most 0, so that
t_k is at most the largest *centered* difference, whose distribution is found by resampling points,

.. math::
    p_k = \frac{1 + \#\{b : \max_j\,[(R_b - R)(k) - (R_b - R)(j)] / s_{b,kj} \ge t_k\}}{1 + B} .

- The steps with :math:`p_k > 1 - \text{confidence}` (`kept`) cover k* with that confidence, without a correction for
  many steps, because only the hypothesis of k* must not be rejected. The interval extends to the logged steps on either
  side, because the minimum of a curve with one valley may lie between two logged steps.
- A *rise* is the rejection of the last step: the residual does not end at its minimum. A *fall* is the rejection of the
  first. A turning point needs both.

Choosing the step of least residual and then testing the last step against it, as if it had been chosen beforehand,
would find rises in flat curves; the maximum over j accounts for the choice.

Power: with c the critical value of the last step, a rise of :math:`(c + z_\beta)\, s` from k* to the last step, s its
standard error, is found with probability :math:`\beta` (normal approximation). All statements concern the sampling of
points; another training run would give another curve.

Sources: the confidence set of an argmin by test inversion, Mogstad et al. 2024 (inference for ranks) and Hansen, Lunde
& Nason 2011 (model confidence set); the distribution of a maximum by resampling, Chernozhukov, Chetverikov & Kato 2013.
"""

import math
from dataclasses import dataclass

import numpy as np
import scipy  # its subpackages are loaded when they are first used
from jaxtyping import Float, Real
from numpy import ndarray

from diffuscope.errors import InputError

from .statistics import POWER

RESAMPLES = 1_999
FEWEST_POINTS = 20  # for resampling
CONFIDENCE = 0.95
ROUNDING = 1e-12  # relative to the differences: a standard deviation this small is rounding


@dataclass(frozen=True)
class TurningPoint:
    """The step of least residual with its interval, and the p-values of the fall before it and the rise after it.

    `kept` are the logged steps that are not rejected at confidence 0.95; `interval` runs to the steps on either side.
    `least` and `last` are mean residuals, at `step` and at the last step. `detectable_rise` is the smallest rise from
    `least` that would have been found at `significance` with probability 0.95.

    >>> import numpy as np
    >>> from diffuscope.findings import turning_point
    >>> rng = np.random.default_rng(0)
    >>> residuals = np.array([4.0, 1.0, 2.0, 3.0]) + 0.001 * rng.normal(size=(30, 4))
    >>> print(turning_point(residuals, np.array([1, 2, 5, 9]), rng).verdict)  # p = 1 / (1 + 1999)
    least at step 2 (95% interval 1 to 5), then it rises by 200% (p = 0.0005)
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
        """The result in one sentence, with the smallest detectable rise."""
        least = f"least at step {self.step:g} (95% interval {self.interval[0]:g} to {self.interval[1]:g})"
        if self.p_rise > self.significance:
            power = f"a rise of {self.smallest_rise:.0%} would have been found with probability 0.95"
            return f"{least}: no rise is found (p = {self.p_rise:.2g}); {power}"
        fall = "" if self.found else "; no fall before it is found: it may have turned before the first logged step"
        return f"{least}, then it rises by {self.rise:.0%} (p = {self.p_rise:.2g}){fall}"

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
    finite, and for too few `resamples` for p-values at `significance`. Memory: resamples x points numbers.

    >>> import numpy as np
    >>> from diffuscope.findings import turning_point
    >>> rng = np.random.default_rng(0)
    >>> residuals = np.array([4.0, 1.0, 2.0, 3.0]) + 0.001 * rng.normal(size=(30, 4))
    >>> turn = turning_point(residuals, np.array([1, 2, 5, 9]), rng)
    >>> turn.step, turn.interval, turn.found, round(turn.rise, 1)  # (3 - 1) / 1
    (2.0, (1.0, 5.0), True, 2.0)
    """
    points, count = residuals.shape
    if points < FEWEST_POINTS or count < 3:
        raise InputError(
            f"residuals: expected at least {FEWEST_POINTS} points and 3 steps, got {points} points and {count} steps"
        )
    if steps.shape != (count,) or not bool((np.diff(steps) > 0).all()):
        given = np.array2string(steps, max_line_width=10_000, threshold=8, edgeitems=3)
        raise InputError(f"steps: expected {count} that increase, one per column of the residuals, got {given}")
    if not bool(np.isfinite(residuals).all()):
        raise InputError("residuals: expected finite numbers, got NaN or infinity")
    if not 1 / (1 + resamples) <= significance < 1:
        raise InputError(
            f"significance: expected {1 / (1 + resamples):.2g} to 1 with {resamples} resamples, got {significance:g}"
        )
    mean = residuals.mean(0)
    counts = rng.multinomial(points, np.full(points, 1 / points), size=resamples).astype(float)
    tests = [_test(residuals[:, [k]] - residuals, counts) for k in range(count)]
    p_values = np.array([p_value for p_value, _, _ in tests])
    best = int(mean.argmin())
    kept = np.flatnonzero(p_values > 1 - CONFIDENCE)  # never empty: the step of least residual has p = 1
    first, last = max(int(kept[0]) - 1, 0), min(int(kept[-1]) + 1, count - 1)
    _, distribution, errors = tests[-1]
    error = float(errors[int(mean[:-1].argmin())])  # of the rise from the step of least residual before the last
    critical = float(np.quantile(distribution, 1 - significance))
    return TurningPoint(
        step=float(steps[best]),
        kept=tuple(steps[kept].astype(float).tolist()),
        interval=(float(steps[first]), float(steps[last])),
        least=float(mean[best]),
        last=float(mean[-1]),
        p_fall=float(p_values[0]),
        p_rise=float(p_values[-1]),
        detectable_rise=(critical + float(scipy.stats.norm.ppf(POWER))) * error,
        significance=significance,
    )


def _test(
    differences: Float[ndarray, "points steps"], counts: Float[ndarray, "resamples points"]
) -> tuple[float, Float[ndarray, " resamples"], Float[ndarray, " steps"]]:
    """Test H_k on r_i(k) - r_i(j): the p-value, the resampled distribution of t_k, and the standard errors s_kj.

    Every resample is studentized by its own standard errors.
    """
    points, mean = len(differences), differences.mean(0)
    centered = differences - mean
    floor = max(ROUNDING * float(np.sqrt((differences**2).mean())), 1e-150)  # a step does not differ from itself
    errors = np.maximum(centered.std(0), floor) / np.sqrt(points)
    shift = counts @ centered / points
    std = np.sqrt(np.maximum(counts @ centered**2 / points - shift**2, floor**2))
    distribution = (shift / std).max(1) * np.sqrt(points)
    exceeding = int((distribution >= (mean / errors).max() - ROUNDING).sum())
    return (1 + exceeding) / (1 + len(distribution)), distribution, errors
