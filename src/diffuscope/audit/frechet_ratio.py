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
from collections.abc import Mapping
from dataclasses import dataclass

import scipy  # its subpackages are loaded when they are first used
import torch
from jaxtyping import Float, Int
from torch import Tensor

from diffuscope.errors import InputError
from diffuscope.findings import NORMAL_95, POWER, Chart, FrechetDistance, Panel, Rule, frechet_distance, intervals
from diffuscope.memory import chunk_size

DRAWS = 32
BAR = 2.0  # samples at up to this ratio count as close
LOG_BEYOND = 6.0  # ratios beyond this need a logarithmic axis
CHUNK = 4_000_000  # numbers held at once by the repeated draws
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
        return BAR + float(scipy.stats.norm.ppf(POWER)) * self.ratio_error

    def _error(self, distance: FrechetDistance) -> float:
        return math.hypot(distance.standard_error, distance.value * self.real_error / self.real) / self.real


def _interval(ratio: float, error: float) -> tuple[float, float]:
    return max(0.0, ratio - NORMAL_95 * error), ratio + NORMAL_95 * error


def fidelity(samples: Rows, train: Rows, heldout: Rows, seed: int) -> Fidelity:
    """All distances, between sets as large as the data allow.

    Raises InputError where the sets have no more examples than features (the rank of n rows' covariance is below n),
    and for held-out data that are all at one point.
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
    if not real > 0:
        raise InputError("heldout: expected examples whose features differ, got the same features everywhere")
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
    x, y = (rows[_drawn(len(rows), DRAWS * size, generator)] for rows in (x, y))
    drawn = [(_drawn(len(x), size, generator), _drawn(len(y), size, generator)) for _ in range(DRAWS)]
    values = _distances(x, y, *(torch.stack(one) for one in zip(*drawn, strict=True)))
    return FrechetDistance(float(values.mean()), frechet_distance(x, y).standard_error)


def distance_between_halves(rows: Rows, size: int, generator: torch.Generator) -> tuple[float, float]:
    """Mean and standard deviation of the distance between two disjoint sets of `size` rows, over DRAWS draws."""
    drawn = torch.stack([_drawn(len(rows), 2 * size, generator) for _ in range(DRAWS)])
    distances = _distances(rows, rows, drawn[:, :size], drawn[:, size:])
    return float(distances.mean()), float(distances.std())


def _distances(
    x: Rows, y: Rows, of_x: Int[Tensor, "draws size"], of_y: Int[Tensor, "draws size"]
) -> Float[Tensor, " draws"]:
    """Of the drawn rows: |m_1 - m_2|^2 + |R_1|^2 + |R_2|^2 - 2 |R_1 R_2^T|_*, with the roots R of `frechet`."""
    together = chunk_size(CHUNK, each=x[of_x[0]].numel())
    parts = []
    for one, other in zip(of_x.split(together), of_y.split(together), strict=True):
        (mean_x, root_x), (mean_y, root_y) = _moments(x[one]), _moments(y[other])
        overlap = torch.linalg.svdvals(root_x @ root_y.mT).sum(1)
        squares = (root_x.square() + root_y.square()).sum((1, 2))
        parts.append((mean_x - mean_y).square().sum(1) + squares - 2 * overlap)
    return torch.cat(parts)


def _moments(
    rows: Float[Tensor, "draws size features"],
) -> tuple[Float[Tensor, "draws features"], Float[Tensor, "draws rank features"]]:
    rows = rows.double()
    mean = rows.mean(1)
    return mean, torch.linalg.qr(rows - mean[:, None], mode="r").R / math.sqrt(rows.shape[1] - 1)


def _error_of_all_divisions(rows: Rows) -> float:
    """The standard error of the mean of q over the rows, as a share of that mean."""
    centered = rows.double() - rows.double().mean(0)
    variances, axes = torch.linalg.eigh(torch.cov(centered.mT))
    squares, sums = (centered @ axes).square(), variances[:, None] + variances
    weights = torch.where(sums > 1e-12 * variances.max(), 0.5 / sums, 0.0)  # constant features do not count
    own = variances * weights.diag()
    q = squares.sum(1) + ((squares @ weights) * squares).sum(1) - 2 * squares @ own + variances @ own
    return float(q.std() / q.mean() / math.sqrt(len(q)))


def _drawn(available: int, size: int, generator: torch.Generator) -> Tensor:
    return torch.randperm(available, generator=generator)[:size]


def frechet_chart(result: Fidelity, others: Mapping[str, Fidelity], title: str) -> Chart:
    """The ratios of the samples, of replayed training data and of `others`, with their intervals."""
    rows = {"samples": (result.ratio, *result.interval)}
    rows["replayed training data"] = (result.recited_ratio, *result.recited_interval)
    rows |= {name: (other.ratio, *other.interval) for name, other in others.items()}
    lowest, largest = min(row[1] for row in rows.values()), max(BAR, *(row[2] for row in rows.values()))
    log = largest > LOG_BEYOND
    limits = (min(0.5, max(0.1, 0.8 * lowest)), 1.5 * largest) if log else (0.0, 1.15 * largest)
    band = Rule(1.0, "x", 2 * NORMAL_95 * result.real_deviation / result.real)
    axis = "Frechet distance to held-out data / distance between two held-out sets"
    marks = (band, Rule(1.0, "x"), Rule(BAR, "x"), intervals(rows))
    return Chart(
        title,
        (Panel("", axis, "", marks, x_log=log, x_range=limits),),
        "At 1 the samples are as good as real data. The band is the 95% range of single divisions of the held-out data "
        f"into two sets; up to the line at {BAR:g}, samples count as close. Replayed training data are training "
        "examples drawn with replacement: copies pass this test. Error bars span 95% confidence.",
    )
