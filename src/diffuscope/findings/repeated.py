r"""A mean over a few independent repetitions, with Student's interval.

.. math::  \bar z \pm t_{R-1}\, \frac{s}{\sqrt R}, \qquad s^2 = \frac{1}{R-1} \sum_r (z_r - \bar z)^2 .

Two levels are used. A mean that must *equal* a number has a tolerance that it exceeds by chance once in 10,000 runs; a
mean that must *differ* from one is compared by an interval of 99.9%.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import scipy  # its subpackages are loaded when they are first used
import torch
from jaxtyping import Float, Int
from torch import Tensor

AGREES, DIFFERS = 1e-4, 1e-3  # two-sided


@dataclass(frozen=True)
class Repeated:
    """Mean and standard error over `repetitions` runs.

    >>> import torch
    >>> from diffuscope.findings import Repeated
    >>> runs = Repeated.of(torch.tensor([1.0, 2.0, 6.0]))
    >>> runs.mean, round(runs.error**2, 6)  # s^2 / R = 7 / 3
    (3.0, 2.333333)
    >>> str(runs), round(runs.room(0.05) / runs.error, 4)  # Student's t with 2 degrees of freedom
    ('3.000 ± 1.528', 4.3027)
    """

    mean: float
    error: float
    repetitions: int

    @classmethod
    def of(cls, values: Float[Tensor, " repetitions"]) -> "Repeated":
        """The mean of the values; of a single one the error is NaN.

        >>> Repeated.of(torch.tensor([1.0, 2.0, 3.0])).mean
        2.0
        """
        return cls(float(values.mean()), float(values.std()) / math.sqrt(len(values)), len(values))

    @property
    def significance(self) -> float:
        """The mean in standard errors, NaN if both are zero."""
        if self.error > 0:
            return self.mean / self.error
        return math.nan if self.mean == 0 else math.copysign(math.inf, self.mean)

    @property
    def seen(self) -> float:
        """The number of standard errors beyond which a mean differs from zero at 99.9%."""
        return float(scipy.stats.t.isf(DIFFERS / 2, self.repetitions - 1))

    def room(self, tail: float) -> float:
        """Half the width of the interval that misses with probability `tail`."""
        return float(scipy.stats.t.isf(tail / 2, self.repetitions - 1)) * self.error

    @property
    def low(self) -> float:
        """Lower end of the 99.9% interval."""
        return self.mean - self.room(DIFFERS)

    @property
    def high(self) -> float:
        """Upper end of the 99.9% interval."""
        return self.mean + self.room(DIFFERS)

    def __str__(self) -> str:
        return f"{self.mean:.3f} ± {self.error:.3f}"


def jackknife(estimate: Callable[[Int[Tensor, " kept"]], Tensor], repetitions: int) -> Repeated:
    """Value and error of `estimate(kept runs)`, which need not be a mean, by leaving out each run in turn (Tukey 1958).

    The result is the mean of the pseudo-values R z - (R - 1) z_{-r}.

    >>> import torch
    >>> from diffuscope.findings import jackknife
    >>> z = torch.tensor([1.0, 2.0, 6.0])
    >>> round(jackknife(lambda kept: z[kept].var(correction=0), 3).mean, 5)  # without the bias: 14 / 2, not 14 / 3
    7.0
    """
    runs = torch.arange(repetitions)
    without = torch.stack([estimate(runs[runs != run]) for run in runs])
    return Repeated.of(repetitions * estimate(runs) - (repetitions - 1) * without)
