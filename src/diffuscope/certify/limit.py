r"""Where a sampler converges to: the limit of its endpoints as the number of steps grows, from a few numbers of steps.

The vector of errors of n steps has the expansion :math:`E(n) = L + c_1/n + c_2/n^2 + c_3/n^3 + \dots`, whose constant L
is the error that no number of steps removes: zero for a consistent sampler, whatever its order. L is fitted by least
squares, with weights n, so that the finest grids count most. Its uncertainty is the largest change if the last power,
or the coarsest grid, is left out.

Errors that fall as :math:`n^{-1/2}` have no such expansion, and the fit leaves half of the error at the finest grid. A
limit therefore counts as wrong only where it is a larger part of that error.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

RESOLUTION = 0.01  # a limit that is farther off than this is never passed
NEGLIGIBLE = 1e-4  # one that is nearer than this is never failed
POWERS = 3
SURE = 5.0  # uncertainties
PART = 0.7  # of the error at the finest grid


@dataclass(frozen=True)
class Limit:
    """The distance |L| of the limit from the exact result, its uncertainty, and the error at the finest grid.

    >>> from diffuscope.certify import Limit
    >>> found = Limit(distance=0.3, uncertainty=0.02, finest_error=0.32)
    >>> [round(end, 9) for end in found.interval], found.verdict  # 0.3 -+ 3 * 0.02; 0.3 - 5 * 0.02 is not 0
    ([0.24, 0.36], 'wrong')
    """

    distance: float
    uncertainty: float
    finest_error: float
    tolerance: float = NEGLIGIBLE

    @property
    def interval(self) -> tuple[float, float]:
        """|L| with three uncertainties either way; no more than twice the error at the finest grid."""
        half = 3 * self.uncertainty
        most = min(self.distance + half, 2 * self.finest_error)
        return min(max(0.0, self.distance - half), most), most

    @property
    def verdict(self) -> Literal["right", "wrong", "open"]:
        """`right`: nearer than 1 % of the data's scale for sure. `wrong`: away from the exact result for sure."""
        away = self.distance - SURE * self.uncertainty > self.tolerance
        if away and self.distance >= PART * self.finest_error:
            return "wrong"
        return "right" if self.interval[1] <= RESOLUTION and not self._suspicious else "open"

    @property
    def _suspicious(self) -> bool:
        """Whether finer grids might show a wrong limit, which on these is hidden by the error of the steps."""
        return self.distance - SURE * self.uncertainty > self.tolerance and self.distance > self.finest_error / 8


def limit_of(steps: Sequence[int], errors: np.ndarray, tolerance: float = NEGLIGIBLE, norm: float | int = 2) -> Limit:
    """The limit of the vectors `errors` (one row for each number of steps), in the vector norm `norm`.

    With fewer than three rows nothing can be extrapolated, and the uncertainty is infinite. So it is where an error of
    the finest grid is not finite.

    >>> import numpy as np
    >>> from diffuscope.certify import limit_of
    >>> n = [10, 20, 40, 80]
    >>> found = limit_of(n, np.array([[0.3 + 2 / k] for k in n]))
    >>> round(found.distance, 9), found.verdict
    (0.3, 'wrong')
    """
    n = np.asarray(steps, dtype=float)
    finite = np.isfinite(errors).all(axis=1) & (np.abs(errors).max(axis=1, initial=0.0) < 1e100)
    if not len(n) or not finite[-1]:
        return Limit(np.inf, np.inf, np.inf, tolerance)
    n, errors = n[finite], errors[finite]
    last = float(np.linalg.norm(errors[-1], norm))
    if len(n) < 3:
        return Limit(last, np.inf, last, tolerance)
    powers = min(POWERS, len(n) - 2)
    found = _constant(n, errors, powers)
    others = [_constant(n, errors, powers - 1), _constant(n[1:], errors[1:], powers)]
    uncertainty = max(float(np.linalg.norm(found - other, norm)) for other in others)
    return Limit(float(np.linalg.norm(found, norm)), uncertainty, last, tolerance)


def _constant(n: np.ndarray, errors: np.ndarray, powers: int) -> np.ndarray:
    """L of the fit with `powers` powers of 1/n."""
    design = n[:, None] * n[:, None] ** -np.arange(powers + 1.0)
    return np.linalg.lstsq(design, n[:, None] * errors, rcond=None)[0][0]
