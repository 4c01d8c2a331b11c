r"""How good are the samples? Their Frechet distance to unseen data, beside that between two sets of unseen data.

Both distances are biased upwards by an amount of order 1/n (see `frechet`), so both are taken between sets of the same
n examples, where n is at most half of the unseen data. Those divide into two such sets in many ways, and a single
division is a noisy ruler: over K random draws

.. math::
    \hat d = \frac1K \sum_{k=1}^K d^2(\text{n samples}, \text{n unseen})_k , \qquad
    \hat d_0 = \frac1K \sum_{k=1}^K d^2(\text{n unseen}, \text{n other unseen})_k .

The ratio :math:`\hat d / \hat d_0` is about 1 for new draws from the law of the data. A model knows that law from N
training examples only. One that recites them, drawing with replacement, has moments whose squared errors are 1/n + 1/N
in place of 1/n, and so the ratio :math:`1 + n / 2N` in expectation: 1.25 where n is half of N. It is measured beside
the model's own. The distance cannot tell reciting from generalizing: that is what the search for copies is for.

The standard error of :math:`\hat d` is of first order, from all samples and all unseen examples that can be drawn.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.audit.classifier import ClassifierFeatures
from diffuscope.audit.finding import Finding
from diffuscope.audit.frechet import FrechetDistance, frechet_distance
from diffuscope.audit.statistics import detectable_shift
from diffuscope.errors import InputError

DRAWS = 32
BAR = 2.0  # times the distance between real data: up to here samples count as close
Rows = Float[Tensor, "_ features"]


@dataclass(frozen=True)
class Fidelity:
    """Distances of `size` examples to as many unseen ones, of samples and of recited training data; and the ruler.

    `real` is the mean distance between two sets of unseen data, `real_deviation` how far single divisions spread.
    """

    size: int
    samples: FrechetDistance
    recited: FrechetDistance
    real: float
    real_deviation: float

    @property
    def ratio(self) -> float:
        """The samples' distance, in distances between real data."""
        return self.samples.value / self.real

    @property
    def ratio_error(self) -> float:
        """Its standard error, the ruler taken as it is."""
        return self.samples.standard_error / self.real

    @property
    def recited_ratio(self) -> float:
        """That of training examples drawn with replacement: what a model gets that recites them."""
        return self.recited.value / self.real

    def detectable(self, significance: float) -> float:
        """The smallest ratio told from 1 with probability .95, judged by the spread of single divisions."""
        return 1 + detectable_shift(self.real_deviation / self.real, significance)


def fidelity(samples: Rows, train: Rows, unseen: Rows, seed: int) -> Fidelity:
    """All distances, between sets as large as the data allow.

    Raises InputError where that is fewer examples than there are features: covariances would be singular.
    """
    width, size = unseen.shape[1], min(len(samples), len(train), len(unseen) // 2)
    if size < width:
        raise InputError(
            f"data: a Frechet distance of {width} features needs {width} samples, {width} training and {2 * width} "
            f"unseen examples; got {len(samples)}, {len(train)} and {len(unseen)}"
        )
    generator = torch.Generator().manual_seed(seed)
    real, deviation = distance_between_halves(unseen, size, generator)
    recited = train[torch.randint(len(train), (len(samples),), generator=generator)]
    return Fidelity(
        size,
        distance_at_size(samples, unseen, size, generator),
        distance_at_size(recited, unseen, size, generator),
        real,
        deviation,
    )


def distance_at_size(x: Rows, y: Rows, size: int, generator: torch.Generator) -> FrechetDistance:
    """Mean distance between `size` of x and `size` of y over DRAWS draws, with its standard error."""
    # more rows than these would enter the standard error without entering the distance
    x, y = (rows[_drawn(len(rows), min(len(rows), DRAWS * size), generator)] for rows in (x, y))
    values = [
        frechet_distance(x[_drawn(len(x), size, generator)], y[_drawn(len(y), size, generator)]).value
        for _ in range(DRAWS)
    ]
    return FrechetDistance(sum(values) / DRAWS, frechet_distance(x, y).standard_error)


def distance_between_halves(rows: Rows, size: int, generator: torch.Generator) -> tuple[float, float]:
    """Mean and deviation of the distance between two disjoint sets of `size` rows, over DRAWS draws."""
    values = []
    for _ in range(DRAWS):
        drawn = _drawn(len(rows), 2 * size, generator)
        values.append(frechet_distance(rows[drawn[:size]], rows[drawn[size:]]).value)
    found = torch.tensor(values, dtype=torch.float64)
    return float(found.mean()), float(found.std())


def _drawn(available: int, size: int, generator: torch.Generator) -> Tensor:
    return torch.randperm(available, generator=generator)[:size]


def findings(result: Fidelity, features: ClassifierFeatures, significance: float) -> list[Finding]:
    """One finding: the ratio, its interval, and what it cannot see."""
    close, margin = result.ratio <= BAR, 1.96 * result.ratio_error
    judged = "about as good as real ones" if close else "a classifier's features tell them from real ones"
    return [
        Finding(
            "fidelity.frechet",
            "How good are its samples?",
            result.ratio,
            "times",
            f"Its samples are {result.ratio:.3g} times as far from unseen data as unseen data are from each other: "
            f"{judged}. Reciting the training data would give {result.recited_ratio:.3g} times.",
            "good" if close else "attention",
            (max(0.0, result.ratio - margin), result.ratio + margin),
            null=f"1: two sets of {result.size} unseen examples, {result.real:.3g} apart; the samples are at "
            f"{result.samples.value:.3g}, standard error {result.samples.standard_error:.2g}.",
            power=f"Would have been found with probability .95: {result.detectable(significance):.2g} times, by a "
            f"classifier that names {features.accuracy:.0%} of unseen labels. Copies of training examples pass.",
        )
    ]
