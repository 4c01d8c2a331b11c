r"""The order of convergence, from errors at several numbers of steps.

An error with the expansion :math:`e(n) = C n^{-p}(1 + a/n + \dots)` has the logarithm

.. math::  \log e = c - p\log n + a/n ,

which is fitted by least squares. Without the term a/n a line would show a wrong order on coarse grids. The residuals of
the fit give the confidence interval of p (Student's t).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy  # its subpackages are loaded when they are first used

from diffuscope.errors import InputError

STEPS = (16, 25, 40, 63, 100, 160)  # a decade
FEWEST = 4  # numbers of steps to fit an order


@dataclass(frozen=True)
class MeasuredOrder:
    """The fitted order p with its 95% interval, and the errors it was fitted to; NaN if too few can be used.

    `exact` means that the errors are rounding already, so that there is no order to fit.

    >>> from diffuscope.certify import measured_order
    >>> steps = (10, 20, 40, 80)
    >>> found = measured_order(steps, [3 / n**2 for n in steps], floor=1e-12)
    >>> round(found.order, 6), found.against(2, tolerance=0.1), found.against(3, tolerance=0.1)
    (2.0, 'reached', 'missed')
    """

    order: float
    interval: tuple[float, float]
    steps: tuple[int, ...]
    errors: tuple[float, ...]
    exact: bool

    def against(self, declared: int, tolerance: float) -> Literal["reached", "missed", "open"]:
        """Whether the declared order is reached: `missed` needs the whole interval below it by more than `tolerance`.

        `reached` needs the fitted order above that, and no more than half an order of doubt.
        """
        low, high = self.interval
        if self.exact or (self.order >= declared - tolerance and low >= declared - 0.5):
            return "reached"
        return "missed" if high < declared - tolerance else "open"


def measured_order(steps: Sequence[int], errors: Sequence[float], floor: float) -> MeasuredOrder:
    """Fit the order to errors above `floor`, the size of rounding; with fewer than four of them, no order is fitted.

    Rounding bends the line well before the errors reach it: if four errors are above ten times `floor`, only these are
    used. If fewer than four are above `floor` and the last is not, the result counts as exact. Errors that are not
    finite are left out, unless the last is one of them.

    Raises InputError for fewer than four errors unless they are exact.

    >>> import math
    >>> from diffuscope.certify import measured_order
    >>> steps = (10, 20, 40, 80)
    >>> round(measured_order(steps, [5 / n**3 * math.exp(4 / n) for n in steps], floor=1e-12).order, 6)
    3.0
    """
    n, e = np.asarray(steps, dtype=float), np.asarray(errors, dtype=float)
    clear = np.isfinite(e) & (e > 10 * floor)
    used = clear if clear.sum() >= FEWEST else np.isfinite(e) & (e > floor)
    shown = (tuple(int(k) for k in n), tuple(float(x) for x in e))
    if used.sum() < FEWEST or not np.isfinite(e[-1]):
        settled = bool(len(e) and np.isfinite(e).all() and e[-1] <= floor)
        if len(e) < FEWEST and not settled:
            raise InputError(f"steps: expected at least {FEWEST} accepted numbers of steps, got {len(e)}")
        return MeasuredOrder(float("nan"), (float("nan"), float("nan")), *shown, exact=settled)
    n, e = n[used], e[used]
    design = np.stack([np.ones_like(n), -np.log(n), 1 / n], axis=1)
    solution = np.linalg.lstsq(design, np.log(e), rcond=None)[0]
    freedom = len(n) - 3
    residuals = np.log(e) - design @ solution
    standard_error = np.sqrt(residuals @ residuals / freedom * np.linalg.inv(design.T @ design)[1, 1])
    half = float(scipy.stats.t.ppf(0.975, freedom) * standard_error)
    p = float(solution[1])
    return MeasuredOrder(p, (p - half, p + half), *shown, exact=False)
