r"""The order of convergence, from errors at several numbers of steps.

An error with the expansion :math:`e(n) = C n^{-p}(1 + a/n + \dots)` has the logarithm

.. math::  \log e = c - p\log n + a/n ,

which is fitted by least squares. The term a/n removes what a plain line would take for a wrong order where the grid is
still coarse; what is left over the fit gives the confidence band of p (Student's t).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

STEPS = (16, 25, 40, 63, 100, 160)  # a decade


@dataclass(frozen=True)
class MeasuredOrder:
    """The fitted order p with its band at 95%, and the errors it was read from; p is NaN where no error was left.

    `exact` says that the errors are rounding already: there is nothing to converge.
    """

    order: float
    interval: tuple[float, float]
    steps: tuple[int, ...]
    errors: tuple[float, ...]
    exact: bool

    def falls_short_of(self, declared: int, tolerance: float) -> bool:
        """Whether the error falls more slowly than the declared order says."""
        return not self.exact and not self.order >= declared - tolerance


def measured_order(steps: Sequence[int], errors: Sequence[float], floor: float) -> MeasuredOrder:
    """Fit the errors well above `floor`, which is rounding; fewer than four of them count as exact if the last is not.

    Rounding bends the line well before it is all that is left: errors below ten times `floor` are left out where four
    others remain.
    """
    n, e = np.asarray(steps, dtype=float), np.asarray(errors, dtype=float)
    clear = np.isfinite(e) & (e > 10 * floor)
    used = clear if clear.sum() >= 4 else np.isfinite(e) & (e > floor)
    shown = (tuple(int(k) for k in n), tuple(float(x) for x in e))
    if not np.isfinite(e).all() or used.sum() < 4:
        settled = bool(np.isfinite(e).all() and e[-1] <= floor)
        return MeasuredOrder(float("nan"), (float("nan"), float("nan")), *shown, exact=settled)
    n, e = n[used], e[used]
    design = np.stack([np.ones_like(n), -np.log(n), 1 / n], axis=1)
    solution = np.linalg.lstsq(design, np.log(e), rcond=None)[0]
    freedom = max(1, len(n) - 3)
    left = np.log(e) - design @ solution
    spread = np.sqrt(left @ left / freedom * np.linalg.inv(design.T @ design)[1, 1])
    half = float(stats.t.ppf(0.975, freedom) * spread)
    p = float(solution[1])
    return MeasuredOrder(p, (p - half, p + half), *shown, exact=False)
