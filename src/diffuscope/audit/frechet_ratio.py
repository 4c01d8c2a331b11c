r"""How good are the samples? Their Frechet distance to held-out data, beside that between two sets of held-out data.

Both distances are biased upward by an amount of order 1/n (see `frechet`), so both are taken between sets of the same
n examples, where n is at most half of the held-out data. Those divide into two such sets in many ways, and a single
division is a noisy ruler: over K random draws

.. math::
    \hat d = \frac1K \sum_{k=1}^K d^2(\text{n samples}, \text{n held-out})_k , \qquad
    \hat d_0 = \frac1K \sum_{k=1}^K d^2(\text{n held-out}, \text{n other held-out})_k .

The ratio :math:`\hat d / \hat d_0` is about 1 for new draws from the distribution of the data. A model knows it from N
training examples only. One that replays them, drawing with replacement, has moments whose squared errors are 1/n + 1/N
in place of 1/n, and so the ratio :math:`1 + n / 2N` in expectation: 1.25 where n is half of N. It is measured beside
the model's own. The distance cannot tell replaying from generalizing: that is what the search for copies is for.

The standard error of :math:`\hat d` is of first order, from all samples and all held-out examples that can be drawn.
The ruler errs in two ways: single divisions of the m held-out examples spread, by s, and another m would have another
mean over all divisions. That mean is, up to a factor, the mean over examples of what the bias of `frechet` is made of,

.. math::
    q(x) = |\bar x|^2 + \tfrac12 \sum_{ij} \frac{(\bar x_i \bar x_j - \lambda_i \delta_{ij})^2}{\lambda_i + \lambda_j} ,
    \qquad \left(\frac{\mathrm{SE}(\hat d_0)}{\hat d_0}\right)^2 = \frac1K \left(\frac{s}{\hat d_0}\right)^2
    + \frac1m \frac{\operatorname{var} q}{(\operatorname{mean} q)^2} ,

with :math:`\bar x` centered, in the principal axes of the held-out examples, of variances :math:`\lambda`. The squared
relative errors of :math:`\hat d` and :math:`\hat d_0` add up to that of the ratio. (The held-out examples that they
share make the two a little dependent; that is left out.)
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from scipy import stats
from torch import Tensor

from diffuscope.errors import InputError
from diffuscope.findings import (
    POWER,
    Chart,
    Finding,
    FrechetDistance,
    Panel,
    Rule,
    frechet_distance,
    intervals,
)
from diffuscope.report import Block, Table

from .classifier import ClassifierFeatures

DRAWS = 32
BAR = 2.0  # times the distance between real data: up to here samples count as close
LOG_BEYOND = 6.0  # larger ratios are shown on a logarithmic axis
NORMAL_95 = 1.96
Rows = Float[Tensor, "_ features"]


@dataclass(frozen=True)
class Fidelity:
    """Distances of `size` examples to as many held-out ones, of samples and of replayed training data; and the ruler.

    `real` is the mean distance between two sets of held-out data, `real_error` its standard error, and `real_deviation`
    how far single divisions spread.
    """

    size: int
    samples: FrechetDistance
    recited: FrechetDistance
    real: float
    real_error: float
    real_deviation: float

    @property
    def ratio(self) -> float:
        """The samples' distance, in distances between real data."""
        return self.samples.value / self.real

    @property
    def ratio_error(self) -> float:
        """Its standard error, that of the ruler included."""
        return self._error(self.samples)

    @property
    def interval(self) -> tuple[float, float]:
        """95% interval of the ratio."""
        return _interval(self.ratio, self.ratio_error)

    @property
    def recited_ratio(self) -> float:
        """That of training examples drawn with replacement: what a model gets that only replays them."""
        return self.recited.value / self.real

    @property
    def recited_interval(self) -> tuple[float, float]:
        """95% interval of the recited ratio."""
        return _interval(self.recited_ratio, self._error(self.recited))

    @property
    def detectable(self) -> float:
        """The smallest ratio called far (above BAR) with probability 0.95, by the standard error of this one."""
        return BAR + float(stats.norm.ppf(POWER)) * self.ratio_error

    def _error(self, found: FrechetDistance) -> float:
        return math.hypot(found.standard_error, found.value * self.real_error / self.real) / self.real


def _interval(ratio: float, error: float) -> tuple[float, float]:
    return max(0.0, ratio - NORMAL_95 * error), ratio + NORMAL_95 * error


def fidelity(samples: Rows, train: Rows, heldout: Rows, seed: int) -> Fidelity:
    """All distances, between sets as large as the data allow.

    Raises InputError where that is no more examples than there are features: the covariance of n rows has rank n - 1
    at most.
    """
    width, size = heldout.shape[1], min(len(samples), len(train), len(heldout) // 2)
    if size <= width:
        raise InputError(
            f"data: a covariance of {width} features has full rank from {width + 1} examples on; expected {width + 1} "
            f"samples, {width + 1} training and {2 * (width + 1)} held-out examples, got {len(samples)}, {len(train)} "
            f"and {len(heldout)}"
        )
    generator = torch.Generator().manual_seed(seed)
    real, deviation = distance_between_halves(heldout, size, generator)
    recited = train[torch.randint(len(train), (len(samples),), generator=generator)]
    return Fidelity(
        size,
        distance_at_size(samples, heldout, size, generator),
        distance_at_size(recited, heldout, size, generator),
        real,
        math.hypot(deviation / math.sqrt(DRAWS), real * _error_of_all_divisions(heldout)),
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


def _error_of_all_divisions(rows: Rows) -> float:
    """The standard error of the mean of q over the rows, as a share of that mean."""
    centered = rows.double() - rows.double().mean(0)
    variances, axes = torch.linalg.eigh(torch.cov(centered.mT))
    variances, squares = variances.clamp(min=0), (centered @ axes).square()
    sums = variances[:, None] + variances
    weights = torch.where(sums > 1e-12 * variances.max(), 0.5 / sums, 0.0)  # constant features are at no distance
    own = variances * weights.diag()
    q = squares.sum(1) + ((squares @ weights) * squares).sum(1) - 2 * squares @ own + variances @ own
    return float(q.std() / q.mean() / len(q) ** 0.5)


def _drawn(available: int, size: int, generator: torch.Generator) -> Tensor:
    return torch.randperm(available, generator=generator)[:size]


def frechet_finding(result: Fidelity, features: ClassifierFeatures) -> Finding:
    """The ratio, its interval, and what it cannot see."""
    close = result.ratio <= BAR
    return Finding(
        name="fidelity.frechet",
        title="How good are its samples?",
        value=result.ratio,
        unit="x",
        verdict=f"Its samples are {result.ratio:.3g}x as far from held-out data as held-out data are from each other; "
        + f"up to {BAR:g}x counts as close. "
        + f"A model that only replays its training data would score {result.recited_ratio:.3g}x.",
        tone="good" if close else "attention",
        interval=result.interval,
        null=f"1x: two sets of {result.size} held-out examples, at distance {result.real:.3g}. The samples are at "
        f"{result.samples.value:.3g}, standard error {result.samples.standard_error:.2g}.",
        power=f"A ratio of {result.detectable:.3g}x would have been called far with probability 0.95, in the features "
        f"of a classifier that names {features.accuracy:.0%} of held-out labels. Copies of training examples pass.",
    )


def frechet_blocks(result: Fidelity) -> list[Block]:
    """The two ratios over the ruler, and the distances."""
    shown = intervals(
        {
            "replayed training data": (result.recited_ratio, *result.recited_interval),
            "samples": (result.ratio, *result.interval),
        }
    )
    lowest = min(result.interval[0], result.recited_interval[0])
    largest = max(BAR, result.interval[1], result.recited_interval[1])
    log = largest > LOG_BEYOND
    limits = (min(0.5, max(0.1, 0.8 * lowest)), 1.5 * largest) if log else (0.0, 1.15 * largest)
    ruler = Rule(1.0, "x", 2 * NORMAL_95 * result.real_deviation / result.real)
    axis = "Frechet distance to held-out data / distance between two sets of held-out data"
    panel = Panel("", axis, "", (ruler, Rule(1.0, "x"), Rule(BAR, "x"), shown), x_log=log, x_range=limits)
    chart = Chart(
        "How far samples are from held-out data",
        (panel,),
        "At 1 samples would be as good as real ones; the band is the spread over single divisions of the held-out data "
        f"into two sets, and up to the line at {BAR:g} samples count as close. Replayed training data are training "
        "examples drawn with replacement: copies pass this test. Bars are 95% intervals.",
    )
    table = Table(
        f"Frechet distances, {result.size} examples a side",
        ["to held-out data", "distance", "standard error", "ratio"],
        [
            ["samples", result.samples.value, result.samples.standard_error, result.ratio],
            ["replayed training data", result.recited.value, result.recited.standard_error, result.recited_ratio],
            ["other held-out data", result.real, result.real_deviation, 1.0],
        ],
        "For other held-out data, the third column is the spread of single divisions.",
    )
    return [chart, table]
