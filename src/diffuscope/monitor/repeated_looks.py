r"""How surely a run has begun to copy: exact tests at every look, and levels that hold for the whole run.

Look k = 1, 2, ... has the level

.. math::  \alpha_k = \frac{\alpha}{k (k + 1)}, \qquad \sum_{k=1}^\infty \alpha_k = \alpha ,

so that a run whose samples never copy is stopped with probability alpha at most, however long it is and however often
it is looked at, and whatever the dependence between the looks, which share their held-out examples.

Within a look, samples that do not copy are exchangeable with the m held-out examples that calibrate the search. Let
X_j of the S samples resemble a training example more than the j-th of the held-out examples does, the closest first.
The lowest x + j - 1 of all S + m are then a random set, so that exactly

.. math::
    P(X_j \ge x) = P(H \le j - 1), \qquad H \sim \operatorname{Hypergeometric}(S + m,\ m,\ x + j - 1) ,

which for j = 1 is :math:`\binom{S}{x} / \binom{S + m}{x}`, about (S / (S + m))^x: unlike the least conformal p-value,
1 / (m + 1), it becomes as small as repeated looks need. The p-value of a look is the least of j = 1, 2, 4, 8, 16, times
their number (Bonferroni).
"""

from functools import lru_cache

import numpy as np
import scipy  # its subpackages are loaded when they are first used
from jaxtyping import Float
from numpy import ndarray

from diffuscope.errors import InputError
from diffuscope.findings.statistics import bonferroni

PLACES = (1, 2, 4, 8, 16)  # j


def level_of_look(look: int, false_stop: float | int) -> float:
    """alpha_k of look k = 1, 2, ... of a run that may be stopped falsely with probability alpha = `false_stop`.

    Raises InputError for a look below 1.

    >>> from diffuscope.monitor import level_of_look
    >>> level_of_look(1, 0.01), level_of_look(3, 0.012)  # 0.01 / (1 * 2), 0.012 / (3 * 4)
    (0.005, 0.001)
    """
    if look < 1:
        raise InputError(f"look: expected a whole number >= 1, got {look}")
    return false_stop / (look * (look + 1))


def rank_p_value(p_values: Float[ndarray, " samples"], calibration: int) -> float:
    """The p-value of samples whose conformal p-values were calibrated on m = `calibration` held-out examples.

    1 without held-out examples.

    >>> import numpy as np
    >>> from diffuscope.monitor import rank_p_value
    >>> round(70 * rank_p_value(np.full(4, 1 / 5), 4), 9)  # below all of 4 held-out examples: 1 / 70, of 2 tests
    2.0
    """
    places = _places(calibration)
    if not places:
        return 1.0
    below = np.rint(p_values * (calibration + 1))  # 1 + the number of held-out examples that are as close
    tails = [_tail(int((below <= j).sum()), j, len(p_values), calibration) for j in places]
    return bonferroni(min(tails), len(places))


def rank_bounds(samples: int, calibration: int, level: float | int) -> Float[ndarray, " samples"]:
    """Bounds b_k on the k-th smallest conformal p-value: `rank_p_value` <= `level` exactly if one of them is kept.

    0, which no p-value keeps, where k copies are too few for any j.

    >>> from diffuscope.monitor import rank_bounds
    >>> rank_bounds(samples=4, calibration=4, level=2 / 69).tolist()  # all of 4 below all of 4: 2 tests, each 1 / 70
    [0.0, 0.0, 0.0, 0.3]
    """
    places, bounds = _places(calibration), np.zeros(samples)
    for j in places:  # a larger j is a weaker bound, for more copies
        least = _fewest(j, samples, calibration, level / len(places))
        if least is not None:
            bounds[least - 1 :] = (j + 0.5) / (calibration + 1)  # between two values of a p-value
    return bounds


def _places(calibration: int) -> list[int]:
    return [j for j in PLACES if j <= calibration // 2]


def _tail(x: int, j: int, samples: int, calibration: int) -> float:
    """P(X_j >= x)."""
    return float(scipy.stats.hypergeom.cdf(j - 1, samples + calibration, calibration, x + j - 1))


@lru_cache
def _fewest(j: int, samples: int, calibration: int, level: float) -> int | None:
    """The least x with P(X_j >= x) <= `level`; None if there is none."""
    tails = scipy.stats.hypergeom.cdf(j - 1, samples + calibration, calibration, np.arange(1, samples + 1) + j - 1)
    small = np.flatnonzero(tails <= level)
    return int(small[0]) + 1 if len(small) else None
