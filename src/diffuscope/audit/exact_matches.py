"""Samples that equal a training example, against held-out examples that do: a test that needs no power of the list.

Where few held-out examples calibrate the list of copies, no p-value of a single sample is small. But that a of n
samples equal a training example, and b of m held-out ones do, is an exact test of two shares (Fisher's, one-sided).
Matches that are too few for the test deserve a look if no held-out example has one.

Where the data repeat themselves nearly (`leaked`), held-out examples that do so hide near-copies from the list in the
same way, and near matches are tested likewise.
"""

from dataclasses import dataclass

import numpy as np

from .copy_search import Copies
from .measure import at_least

ROUNDING = 1e-6  # of the distance to the next different training example


@dataclass(frozen=True, kw_only=True)
class Matches:
    """a of n samples and b of m held-out examples repeat a training example."""

    samples: tuple[int, int]
    heldout: tuple[int, int]

    @property
    def p_value(self) -> float:
        """Of as large an a, if samples repeat training examples no more often than held-out ones do."""
        (a, n), (b, m) = self.samples, self.heldout
        return at_least(a, b, n, m) if m else 1.0


class ExactMatches(Matches):
    """Those that equal a training example."""

    @property
    def alone(self) -> bool:
        """Whether samples equal training examples, and no held-out example does."""
        return self.samples[0] > 0 and self.heldout[0] == 0 < self.heldout[1]


def exact_matches(found: Copies) -> ExactMatches:
    """Those of one search, after the transformation that it allows."""

    def count(distance: np.ndarray, following: np.ndarray) -> tuple[int, int]:
        return int((distance <= ROUNDING * following).sum()), len(distance)

    return ExactMatches(
        samples=count(found.distance, found.next_distance),
        heldout=count(found.null_distance, found.null_next_distance),
    )


def near_matches(found: Copies) -> Matches:
    """Samples and held-out examples that nearly repeat a training example, where such held-out ones are normal."""
    a, b = found.near or (0, 0)
    return Matches(samples=(a, len(found.p_values)), heldout=(b, found.calibration))
