r"""How far the Gaussian closure can be trusted: trained fields against Gaussian fields, by what they generate.

The effective equation keeps the first two cumulants of the score over training runs. Dropping the others is exact for
Gaussian fields only. Two things are measured.

**Cumulants** of the denoiser at fixed points, over R training runs, with Fisher's unbiased estimates of skewness and
excess kurtosis,

.. math::
    G_1 = \frac{\sqrt{R(R-1)}}{R-2}\,\frac{m_3}{m_2^{3/2}}, \qquad
    G_2 = \frac{R-1}{(R-2)(R-3)}\Big[(R+1)\Big(\frac{m_4}{m_2^2} - 3\Big) + 6\Big],

with percentile intervals of a bootstrap over runs. Points share runs, and the bootstrap too: the interval of a median
over points is that of the median.

**Total variation** between the two distributions of samples along a direction, from shares :math:`h_r` of cells, one
row per run, since samples of one run are not independent. The plug-in :math:`T = \frac12\sum_c|\bar h_c - \bar g_c|` is
never zero and on average too large; its null is T between two random halves of the trained runs. A held-out witness is
on average too small: the cells where one half of the runs has :math:`\bar h_c > \bar g_c` are a set A that is chosen
without the other half, and

.. math::  E\Big[\sum_{c \in A} (\bar h'_c - \bar g'_c)\Big] \;\le\; \mathrm{TV} \;\le\; E\,T .

**Verdict**, by one-sided 95% bounds of the total variation and the 95% interval of the median excess kurtosis. The
closure *fails* if the witness is above the tolerance or the kurtosis farther than 1 from zero; it *holds* if the
plug-in is below the tolerance and the kurtosis within 1 of zero; otherwise the runs *cannot tell*. Total variation is
that of the cells: what happens inside of one is not seen.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.errors import InputError

from .field_runs import FieldRuns

TOLERANCE = 0.1  # a tenth of the samples
LARGEST_KURTOSIS = 1.0
CELLS, SPLITS, RESAMPLES = 60, 200, 1000
ONE_SIDED_95 = 1.645  # standard errors
FEWEST = 20  # runs, below which nothing is said


@dataclass(frozen=True, eq=False)
class Cumulant:
    """Values at the probes, with 95% intervals; `median` over them with its own (of magnitudes for the skewness)."""

    values: Float[Tensor, " probes"]
    low: Float[Tensor, " probes"]
    high: Float[Tensor, " probes"]
    median: float
    median_low: float
    median_high: float


@dataclass(frozen=True)
class Distance:
    """Total variation along one direction: the plug-in T with its null, and the held-out witness.

    `null` and `null_95` are mean and 95% quantile of T between halves of the trained runs.
    """

    plug_in: float
    plug_in_error: float
    null: float
    null_95: float
    witness: float
    witness_error: float

    @property
    def at_least(self) -> float:
        """One-sided 95% lower bound of the total variation between the cells' shares."""
        return max(0.0, self.witness - ONE_SIDED_95 * self.witness_error)

    @property
    def at_most(self) -> float:
        """One-sided 95% upper bound."""
        return min(1.0, self.plug_in + ONE_SIDED_95 * self.plug_in_error)


@dataclass(frozen=True, eq=False)
class ClosureReport:
    """Cumulants of the trained fields and distances to the Gaussian ones; `samples_per_feature` is P/F, if known.

    >>> import torch
    >>> from diffuscope.theory.variance import FieldRuns, closure_report
    >>> stream, x = torch.Generator().manual_seed(0), torch.linspace(0, 1, 24).double()
    >>> far = [FieldRuns(x[:, None], x.expand(24, 24)[..., None] + shift) for shift in (0, 5)]  # of 24 runs each
    >>> report = closure_report(*far, generator=stream)
    >>> report.verdict, round(report.distance.plug_in, 6)  # the samples of the two have nothing in common
    ('fails', 1.0)
    """

    runs: int
    skewness: Cumulant
    kurtosis: Cumulant
    distances: tuple[Distance, ...]
    tolerance: float
    samples_per_feature: float | None

    @property
    def distance(self) -> Distance:
        """That of the direction with the largest plug-in."""
        return max(self.distances, key=lambda distance: distance.plug_in)

    @property
    def verdict(self) -> Literal["holds", "fails", "cannot tell"]:
        """As above; fewer than 20 runs cannot tell."""
        if self.runs < FEWEST:
            return "cannot tell"
        far = max(distance.at_least for distance in self.distances) > self.tolerance
        if far or max(self.kurtosis.median_low, -self.kurtosis.median_high) > LARGEST_KURTOSIS:
            return "fails"
        near = max(distance.at_most for distance in self.distances) <= self.tolerance
        inside = max(-self.kurtosis.median_low, self.kurtosis.median_high) <= LARGEST_KURTOSIS
        return "holds" if near and inside else "cannot tell"

    @property
    def statement(self) -> str:
        """The verdict with its numbers, in one line."""
        ratio = "" if self.samples_per_feature is None else f" at P/F = {self.samples_per_feature:.3g}"
        d, k = self.distance, self.kurtosis
        return (
            f"The Gaussian closure {_WORDS[self.verdict]}{ratio}: total variation between {d.at_least:.2f} and "
            f"{d.at_most:.2f} (tolerance {self.tolerance:g}; halves of the ensemble: {d.null:.2f}), median excess "
            f"kurtosis {k.median:.2f} ({k.median_low:.2f} to {k.median_high:.2f}), {self.runs} runs"
        )


_WORDS = {"holds": "holds", "fails": "fails", "cannot tell": "cannot be judged"}


def closure_report(
    trained: FieldRuns,
    gaussian: FieldRuns,
    *,
    directions: Float[Tensor, "k d"] | None = None,
    edges: Float[Tensor, " edges"] | None = None,
    tolerance: float | int = TOLERANCE,
    samples_per_feature: float | None = None,
    generator: torch.Generator,
) -> ClosureReport:
    """Trained runs against Gaussian ones of the same probes, along `directions` (by default the axes).

    The Gaussian fields should not have been fitted to the trained runs that they are compared with. `edges` bound the
    cells along every direction, what lies outside being in two more; by default 60 cells over 99.8% of all samples.
    Raises InputError for fewer than four runs of either, for different dimensions, and for a tolerance outside (0, 1).

    >>> import torch
    >>> from diffuscope.theory.variance import FieldRuns, closure_report
    >>> stream, x = torch.Generator().manual_seed(0), torch.linspace(-1, 1, 24).double()
    >>> runs = FieldRuns(x[:, None], x.expand(24, 24)[..., None])
    >>> report = closure_report(runs, runs, generator=stream)
    >>> round(float(report.kurtosis.values), 3)  # -6/5 (n^2 + 1) / (n^2 - 1), made unbiased: -6/5
    -1.2
    >>> report.distance.plug_in
    0.0
    """
    if min(len(trained), len(gaussian)) < 4:
        raise InputError(f"trained, gaussian: expected at least 4 runs, got {len(trained)} and {len(gaussian)}")
    if not 0 < tolerance < 1:
        raise InputError(f"tolerance: expected a number between 0 and 1, got {tolerance}")
    d = trained.samples.shape[2]
    if gaussian.samples.shape[2] != d:
        raise InputError(f"gaussian: expected samples of {d} coordinates, got {gaussian.samples.shape[2]}")
    axes = torch.eye(d, dtype=torch.float64) if directions is None else directions.double()
    if axes.shape[1] != d or not bool(axes.isfinite().all()) or len(axes) == 0:
        raise InputError(f"directions: expected finite rows of {d} coordinates, got shape {tuple(axes.shape)}")
    distances = []
    for axis in axes:
        one, other = (runs.samples.double() @ axis for runs in (trained, gaussian))
        cells = _default_edges(torch.cat([one.flatten(), other.flatten()])) if edges is None else edges.double()
        distances.append(distance(shares(one, cells), shares(other, cells), generator=generator))
    skewness, kurtosis = cumulants(trained.denoised, generator=generator)
    return ClosureReport(len(trained), skewness, kurtosis, tuple(distances), float(tolerance), samples_per_feature)


def cumulants(values: Float[Tensor, "runs probes"], *, generator: torch.Generator) -> tuple[Cumulant, Cumulant]:
    """Skewness and excess kurtosis over runs, probe by probe. Probes at which all runs agree are left out.

    Raises InputError for fewer than four runs and if all runs agree everywhere.
    """
    R = len(values)
    if R < 4:
        raise InputError(f"values: expected at least 4 runs, got {R}")
    deviation = values.double() - values.double().mean(0)
    scale = deviation.square().mean(0).sqrt()
    kept = scale > 1e-12 * values.double().abs().amax(0)
    if not bool(kept.any()):
        raise InputError("values: expected runs that differ at a probe, got the same answers from all")
    z = deviation[:, kept] / scale[kept]
    counts = torch.multinomial(torch.ones(R, dtype=torch.float64).expand(RESAMPLES, R), R, True, generator=generator)
    weights = torch.zeros(RESAMPLES, R, dtype=torch.float64)
    weights.scatter_add_(1, counts, torch.ones_like(counts, dtype=torch.float64) / R)
    powers = [z**k for k in (1, 2, 3, 4)]
    estimate = _fisher([power.mean(0)[None] for power in powers], R)
    resampled = _fisher([weights @ power for power in powers], R)
    skewness, kurtosis = zip(estimate, resampled, strict=True)
    return _cumulant(*skewness, magnitudes=True), _cumulant(*kurtosis, magnitudes=False)


def shares(values: Float[Tensor, "runs batch"], edges: Float[Tensor, " edges"]) -> Float[Tensor, "runs cells"]:
    """The share of every run's values in each cell between the edges, and in the two outside."""
    if len(edges) < 1 or not bool((edges.diff() > 0).all()) or not bool(edges.isfinite().all()):
        raise InputError(f"edges: expected finite numbers that increase, got {edges.tolist()}")
    cell = torch.bucketize(values.contiguous(), edges, right=True)
    counts = torch.zeros(len(values), len(edges) + 1, dtype=torch.float64)
    return counts.scatter_add_(1, cell, torch.ones_like(values, dtype=torch.float64)) / values.shape[1]


def distance(
    h: Float[Tensor, "runs cells"], g: Float[Tensor, "others cells"], *, generator: torch.Generator
) -> Distance:
    """Total variation between the mean shares of two sets of runs, and what two halves of the first would show."""
    plug_in = _total_variation(h.mean(0), g.mean(0))
    first, others = _halves(len(h), generator), _halves(len(g), generator)
    null = _total_variation(_mean(first, h), _mean(1 - first, h))
    witness, variance = torch.zeros(SPLITS, dtype=torch.float64), torch.zeros(SPLITS, dtype=torch.float64)
    for mine, theirs in ((first, others), (1 - first, 1 - others)):
        A = (_mean(mine, h) > _mean(theirs, g)).double()
        for rows, left_out, sign in ((h, 1 - mine, 1), (g, 1 - theirs, -1)):
            inside = A @ rows.mT  # of every split, the share of every run in its set
            n = left_out.sum(1)
            mean = (inside * left_out).sum(1) / n
            witness += sign * mean / 2
            variance += ((inside - mean[:, None]).square() * left_out).sum(1) / (n * (n - 1)) / 4
    return Distance(
        float(plug_in),
        _jackknife(h, g),
        float(null.mean()),
        float(null.quantile(0.95)),
        float(witness.mean()),
        float(variance.mean().sqrt()),  # of one split; the mean over splits has less
    )


def _halves(n: int, generator: torch.Generator) -> Float[Tensor, "splits n"]:
    """1 for a random half of n, in every split."""
    order = torch.rand(SPLITS, n, dtype=torch.float64, generator=generator).argsort(1).argsort(1)
    return (order < n // 2).double()


def _mean(kept: Tensor, rows: Tensor) -> Float[Tensor, "splits cells"]:
    return kept @ rows / kept.sum(1, keepdim=True)


def _total_variation(p: Tensor, q: Tensor) -> Float[Tensor, "*splits"]:
    return (p - q).abs().sum(-1) / 2


def _jackknife(h: Tensor, g: Tensor) -> float:
    """Standard error of the plug-in from leaving out each run of either set in turn."""
    variance = 0.0
    for rows, other in ((h, g.mean(0)), (g, h.mean(0))):
        n = len(rows)
        without = (n * rows.mean(0) - rows) / (n - 1)
        values = (without - other).abs().sum(1) / 2
        variance += (n - 1) / n * float((values - values.mean()).square().sum())
    return math.sqrt(variance)


def _fisher(
    raw: Sequence[Float[Tensor, "resamples probes"]], R: int
) -> tuple[Float[Tensor, "resamples probes"], Float[Tensor, "resamples probes"]]:
    """G_1 and G_2 from the first four raw moments."""
    m1, m2, m3, m4 = raw
    variance = (m2 - m1**2).clamp(min=1e-300)
    third = m3 - 3 * m1 * m2 + 2 * m1**3
    fourth = m4 - 4 * m1 * m3 + 6 * m1**2 * m2 - 3 * m1**4
    skewness = math.sqrt(R * (R - 1)) / (R - 2) * third / variance**1.5
    return skewness, (R - 1) / ((R - 2) * (R - 3)) * ((R + 1) * (fourth / variance**2 - 3) + 6)


def _cumulant(estimate: Tensor, resampled: Tensor, *, magnitudes: bool) -> Cumulant:
    tails = torch.tensor([0.025, 0.975], dtype=torch.float64)
    low, high = resampled.quantile(tails, dim=0)
    medians = (resampled.abs() if magnitudes else resampled).median(1).values
    center = (estimate.abs() if magnitudes else estimate).median()
    median_low, median_high = medians.quantile(tails).tolist()
    return Cumulant(estimate[0], low, high, float(center), median_low, median_high)


def _default_edges(values: Float[Tensor, " n"]) -> Float[Tensor, " edges"]:
    ordered = values.sort().values
    low, high = float(ordered[int(0.001 * (len(values) - 1))]), float(ordered[int(0.999 * (len(values) - 1))])
    if not low < high:
        raise InputError("samples: expected samples that differ, got all at one place")
    return torch.linspace(low, high, CELLS + 1, dtype=torch.float64)
