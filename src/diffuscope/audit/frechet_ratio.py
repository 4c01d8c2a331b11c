r"""How good are the samples? Their Frechet distance to held-out data, relative to that between two held-out sets.

Both distances are biased upward by an amount of order 1/n (see `frechet`), so both are taken between sets of n
examples, where n is at most half of the held-out data. A single division of the held-out data into two sets gives a
noisy reference, so both are averaged over K random draws:

.. math::
    \hat d = \frac1K \sum_{k=1}^K d^2(\text{n samples}, \text{n held-out})_k , \qquad
    \hat d_0 = \frac1K \sum_{k=1}^K d^2(\text{n held-out}, \text{n other held-out})_k .

The ratio :math:`\hat d / \hat d_0` is about 1 for new draws from the distribution of the data. A model knows that
distribution from N training examples only. If it replays them, drawn with replacement, the squared errors of its
moments are proportional to 1/n + 1/N in place of 1/n, and the expected ratio is :math:`1 + n / 2N`: 1.25 where n is
half of N. This ratio is measured, too. The distance cannot tell replaying from generalizing: the search for copies can.

The standard error of :math:`\hat d` is of first order, from all samples and all held-out examples that can be drawn.
The reference :math:`\hat d_0` has two errors: single divisions of the m held-out examples have a standard deviation s,
and other m examples would have another mean over all divisions. Up to a factor, that mean is the mean over examples of
the terms of the bias of `frechet`,

.. math::
    q(x) = |\bar x|^2 + \tfrac12 \sum_{ij} \frac{(\bar x_i \bar x_j - \lambda_i \delta_{ij})^2}{\lambda_i + \lambda_j} ,
    \qquad \left(\frac{\mathrm{SE}(\hat d_0)}{\hat d_0}\right)^2 = \frac1K \left(\frac{s}{\hat d_0}\right)^2
    + \frac1m \frac{\operatorname{var} q}{(\operatorname{mean} q)^2} ,

with :math:`\bar x` centered, in the principal axes of the held-out examples, of variances :math:`\lambda`. The squared
relative errors of :math:`\hat d` and :math:`\hat d_0` add up to that of the ratio. (The held-out examples that the two
share make them slightly dependent, which is neglected.)
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from scipy import stats
from torch import Tensor

from diffuscope.errors import InputError
from diffuscope.findings import POWER, Chart, Finding, FrechetDistance, Panel, Rule, frechet_distance, intervals
from diffuscope.report import Block, Table

from .classifier import ClassifierFeatures

DRAWS = 32
BAR = 2.0  # samples at up to this ratio count as close
LOG_BEYOND = 6.0  # ratios beyond this need a logarithmic axis
NORMAL_95 = 1.96
Rows = Float[Tensor, "_ features"]


@dataclass(frozen=True, kw_only=True)
class Fidelity:
    """Distances between `size` examples and as many held-out ones, for samples and for replayed training data.

    `real` is the mean distance between two held-out sets, `real_error` its standard error, and `real_deviation` the
    standard deviation over single divisions.
    """

    size: int
    samples: FrechetDistance
    recited: FrechetDistance
    real: float
    real_error: float
    real_deviation: float

    @property
    def ratio(self) -> float:
        """The distance of the samples over that between two held-out sets."""
        return self.samples.value / self.real

    @property
    def ratio_error(self) -> float:
        """The standard error of `ratio`, with that of `real` included."""
        return self._error(self.samples)

    @property
    def interval(self) -> tuple[float, float]:
        """95% interval of the ratio."""
        return _interval(self.ratio, self.ratio_error)

    @property
    def recited_ratio(self) -> float:
        """The ratio of a model that only replays its training examples, drawn with replacement."""
        return self.recited.value / self.real

    @property
    def recited_interval(self) -> tuple[float, float]:
        """95% interval of the recited ratio."""
        return _interval(self.recited_ratio, self._error(self.recited))

    @property
    def detectable(self) -> float:
        """The smallest ratio that would exceed BAR with probability 0.95, if its standard error is `ratio_error`."""
        return BAR + float(stats.norm.ppf(POWER)) * self.ratio_error

    def _error(self, distance: FrechetDistance) -> float:
        return math.hypot(distance.standard_error, distance.value * self.real_error / self.real) / self.real


def _interval(ratio: float, error: float) -> tuple[float, float]:
    return max(0.0, ratio - NORMAL_95 * error), ratio + NORMAL_95 * error


def fidelity(samples: Rows, train: Rows, heldout: Rows, seed: int) -> Fidelity:
    """All distances, between sets as large as the data allow.

    Raises InputError where the sets have no more examples than features: the rank of n rows' covariance is below n.
    """
    width, size = heldout.shape[1], min(len(samples), len(train), len(heldout) // 2)
    if size <= width:
        raise InputError(
            f"data: a covariance of {width} features of full rank needs {width + 1} examples; expected {width + 1} "
            f"samples, {width + 1} training and {2 * (width + 1)} held-out examples, got {len(samples)}, {len(train)} "
            f"and {len(heldout)}"
        )
    generator = torch.Generator().manual_seed(seed)
    real, std = distance_between_halves(heldout, size, generator)
    replayed = train[torch.randint(len(train), (len(samples),), generator=generator)]
    return Fidelity(
        size=size,
        samples=distance_at_size(samples, heldout, size, generator),
        recited=distance_at_size(replayed, heldout, size, generator),
        real=real,
        real_error=math.hypot(std / math.sqrt(DRAWS), real * _error_of_all_divisions(heldout)),
        real_deviation=std,
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
    """Mean and standard deviation of the distance between two disjoint sets of `size` rows, over DRAWS draws."""
    values = []
    for _ in range(DRAWS):
        drawn = _drawn(len(rows), 2 * size, generator)
        values.append(frechet_distance(rows[drawn[:size]], rows[drawn[size:]]).value)
    distances = torch.tensor(values, dtype=torch.float64)
    return float(distances.mean()), float(distances.std())


def _error_of_all_divisions(rows: Rows) -> float:
    """The standard error of the mean of q over the rows, as a share of that mean."""
    centered = rows.double() - rows.double().mean(0)
    variances, axes = torch.linalg.eigh(torch.cov(centered.mT))
    variances, squares = variances.clamp(min=0), (centered @ axes).square()
    sums = variances[:, None] + variances
    weights = torch.where(sums > 1e-12 * variances.max(), 0.5 / sums, 0.0)  # constant features do not count
    own = variances * weights.diag()
    q = squares.sum(1) + ((squares @ weights) * squares).sum(1) - 2 * squares @ own + variances @ own
    return float(q.std() / q.mean() / len(q) ** 0.5)


def _drawn(available: int, size: int, generator: torch.Generator) -> Tensor:
    return torch.randperm(available, generator=generator)[:size]


def frechet_finding(result: Fidelity, features: ClassifierFeatures) -> Finding:
    """The ratio, its interval, and what it would have detected."""
    close = result.ratio <= BAR
    return Finding(
        name="fidelity.frechet",
        title="How good are its samples?",
        value=result.ratio,
        unit="x",
        verdict=f"Its samples are {result.ratio:.3g}x as far from held-out data as two held-out sets are from each "
        f"other; up to {BAR:g}x counts as close. A model that only replays its training data would score "
        f"{result.recited_ratio:.3g}x.",
        tone="good" if close else "attention",
        interval=result.interval,
        null=f"1x: two sets of {result.size} held-out examples, at distance {result.real:.3g}. The samples are at "
        f"distance {result.samples.value:.3g} (standard error {result.samples.standard_error:.2g}).",
        power=f"A ratio of {result.detectable:.3g}x would have exceeded {BAR:g}x with probability 0.95, in the "
        f"features of a classifier with {features.accuracy:.0%} held-out accuracy. Copies of training examples pass.",
    )


def frechet_blocks(result: Fidelity) -> list[Block]:
    """The two ratios beside the reference, and the distances."""
    replayed = (result.recited_ratio, *result.recited_interval)
    ratios = intervals({"replayed training data": replayed, "samples": (result.ratio, *result.interval)})
    lowest = min(result.interval[0], result.recited_interval[0])
    largest = max(BAR, result.interval[1], result.recited_interval[1])
    log = largest > LOG_BEYOND
    limits = (min(0.5, max(0.1, 0.8 * lowest)), 1.5 * largest) if log else (0.0, 1.15 * largest)
    band = Rule(1.0, "x", 2 * NORMAL_95 * result.real_deviation / result.real)
    axis = "Frechet distance to held-out data / distance between two held-out sets"
    panel = Panel("", axis, "", (band, Rule(1.0, "x"), Rule(BAR, "x"), ratios), x_log=log, x_range=limits)
    chart = Chart(
        "How far samples are from held-out data",
        (panel,),
        "At 1 the samples are as good as real data. The band is the 95% range of single divisions of the held-out data "
        f"into two sets; up to the line at {BAR:g}, samples count as close. Replayed training data are training "
        "examples drawn with replacement: copies pass this test. Error bars are 95% intervals.",
    )
    table = Table(
        f"Frechet distances between sets of {result.size} examples",
        ["to held-out data", "distance", "standard error", "ratio"],
        [
            ["samples", result.samples.value, result.samples.standard_error, result.ratio],
            ["replayed training data", result.recited.value, result.recited.standard_error, result.recited_ratio],
            ["other held-out data", result.real, result.real_deviation, 1.0],
        ],
        "For other held-out data, the third column is the standard deviation over single divisions.",
    )
    return [chart, table]
