r"""Mean, standard deviation and quantiles of a posterior, and how often its intervals hold what is true.

Of a finite set with weights w_j the p-quantile is the least value v with :math:`\sum_{x_j \le v} w_j \ge p`; of a
Gaussian it is exact; of samples that are all there is, the set of equal weights.

Calibration: truths x_k are drawn from the prior's own generator, read by the same sensors with new noise, and
conditioned on these readings. An interval of level c holds the truth where

.. math::  P(x < x_k \mid y_k) \le (1 + c) / 2 \quad\text{and}\quad P(x \le x_k \mid y_k) \ge (1 - c) / 2 .

The share of nodes is averaged over truths, whose scatter gives the standard error (nodes of one truth are not
independent). Source: simulation-based calibration, Talts et al. 2018 (arXiv:1804.06788).
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.exact import Gaussian
from diffuscope.memory import chunk_size

from .observations import LinearObservation
from .observed import Observed

LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
LEVEL = 0.9
NORMAL_90 = 1.6448536269514722  # half the central 90% interval of a normal distribution, in standard deviations
NODES = 64  # per channel, at which calibration is measured
VALUES = 2**24  # in a block of comparisons
SURPRISING = 0.01  # share of simulated readings beyond which those of the user disagree with the prior
NOISIER = 5  # times the stated noise: what should be noticed
KNOWN = 1e-9  # of the prior's standard deviation: a value that is known, not inferred


@dataclass(frozen=True, eq=False, kw_only=True)
class Moments:
    """Of every value of a field: mean, standard deviation, and the ends of the central 90% interval."""

    mean: Float[Tensor, "*event"]
    sd: Float[Tensor, "*event"]
    low: Float[Tensor, "*event"]
    high: Float[Tensor, "*event"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Calibration:
    """Per channel and level the share of values inside, its standard error, and evidence of the replicates.

    `log_evidence` of the simulated readings, each under the same prior; `effective` fields of each, for a finite set.
    `noticed` is the share of readings with NOISIER times the stated noise that would be called surprising.
    """

    truths: int
    coverage: Float[Tensor, "channels levels"]
    error: Float[Tensor, "channels levels"]
    log_evidence: Float[Tensor, " simulated"]
    effective: Float[Tensor, " simulated"] | None = None
    noticed: float = math.nan

    def at(self, channel: int, level: float = LEVEL) -> tuple[float, float]:
        """Coverage and its standard error."""
        k = LEVELS.index(level)
        return float(self.coverage[channel, k]), float(self.error[channel, k])


def gaussian_moments(gaussian: Gaussian) -> Moments:
    """Exact ones."""
    mean, sd = gaussian.mean, standard_deviation(gaussian)
    reach = sd * NORMAL_90
    return Moments(mean=mean, sd=sd, low=mean - reach, high=mean + reach)


def standard_deviation(gaussian: Gaussian) -> Float[Tensor, "*event"]:
    """The root of the diagonal of U diag(lambda) U^T + tail (I - U U^T)."""
    squares = gaussian.eigenvectors.square()
    variance = squares @ gaussian.eigenvalues + gaussian.tail_variance * (1 - squares.sum(1))
    return variance.clamp(min=0).sqrt().reshape(gaussian.mean.shape)


def weighted_moments(fields: Float[Tensor, "n *event"], weights: Float[Tensor, " n"]) -> Moments:
    """Exact ones of a finite set; `weights` sum to 1."""
    used = weights > 0
    x, w = fields[used].double().flatten(1), weights[used].double()
    mean = w @ x
    sd = (w @ (x - mean).square()).sqrt()
    order = x.argsort(0)
    below = w[order].cumsum(0)
    ends = []
    for p in ((1 - LEVEL) / 2, (1 + LEVEL) / 2):
        place = (below < p - 1e-12).sum(0, keepdim=True)
        ends.append(x.gather(0, order.gather(0, place))[0])
    shape = fields.shape[1:]
    return Moments(
        mean=mean.reshape(shape), sd=sd.reshape(shape), low=ends[0].reshape(shape), high=ends[1].reshape(shape)
    )


def finite_set_calibration(
    fields: Float[Tensor, "n channels *grid"],
    matrix: Float[Tensor, "m D"],
    truths: int,
    *,
    enough: float | int = 0,
    generator: torch.Generator,
) -> Calibration:
    """Of the posterior of a finite set, whose first fields are the truths, each left out of the set while it is one.

    `matrix` reads the field over the standard deviations of the noise. Truths that leave fewer than `enough` effective
    fields are not judged, as no interval is given for them.
    """
    n, D = len(fields), fields[0].numel()
    flat = fields.reshape(n, D)
    h = flat @ matrix.T
    noise = torch.randn(truths, len(matrix), dtype=torch.float64, generator=generator)
    log_w = _log_weights(h[:truths] + noise, h)
    log_evidence = log_w.logsumexp(1) - math.log(n - 1)
    noisier = _log_weights(h[:truths] + NOISIER * noise, h).logsumexp(1) - math.log(n - 1)
    weights = log_w.softmax(1)
    effective = 1 / weights.square().sum(1)
    nodes = _nodes(fields.std(0).reshape(len(fields[0]), -1))
    given = effective >= enough  # else no interval is given, and none is judged
    coverage, error = [], []
    for channel, chosen in enumerate(nodes):
        values = flat.reshape(n, fields.shape[1], -1)[:, channel, chosen]
        less, most = torch.zeros(2, truths, len(chosen), dtype=torch.float64)
        step = chunk_size(VALUES, each=n * len(chosen))
        for rows in torch.arange(truths).split(step):
            true = values[rows, None]
            w = weights[rows][:, None]
            less[rows] = (w @ (values < true).double())[:, 0]
            most[rows] = (w @ (values <= true).double())[:, 0]
        _add(coverage, error, less[given], most[given])
    return Calibration(
        truths=int(given.sum()), coverage=torch.stack(coverage), error=torch.stack(error), log_evidence=log_evidence,
        effective=effective, noticed=_noticed(log_evidence, noisier),
    )  # fmt: skip


def gaussian_calibration(
    gaussian: Gaussian,
    sd: Float[Tensor, "channels *grid"],
    fields: Float[Tensor, "k channels *grid"],
    matrix: Float[Tensor, "m D"],
    noise: Float[Tensor, " m"],
    *,
    generator: torch.Generator,
) -> Calibration:
    """Of the posterior of a Gaussian prior, for truths that come from elsewhere; `sd` is that of the posterior."""
    k = len(fields)
    flat = fields.reshape(k, -1)
    errors = noise * torch.randn(k, len(matrix), dtype=torch.float64, generator=generator)
    y = flat @ matrix.T + errors
    mean, log_evidence = gaussian_means(gaussian, matrix, noise, y)
    _, noisier = gaussian_means(gaussian, matrix, noise, y + (NOISIER - 1) * errors)
    free = sd > 1e-6 * standard_deviation(gaussian)
    spread = torch.where(free, sd, 0.0).flatten(1)
    coverage, error = [], []
    for channel, chosen in enumerate(_nodes(spread)):
        part = [a.reshape(-1, *spread.shape)[:, channel, chosen] for a in (flat, mean, sd)]
        F = torch.special.ndtr((part[0] - part[1]) / part[2])
        _add(coverage, error, F, F)
    return Calibration(
        truths=k, coverage=torch.stack(coverage), error=torch.stack(error), log_evidence=log_evidence,
        noticed=_noticed(log_evidence, noisier) if bool((noise > 0).any()) else math.nan,
    )  # fmt: skip


def gaussian_means(
    gaussian: Gaussian, matrix: Float[Tensor, "m D"], noise: Float[Tensor, " m"], y: Float[Tensor, "k m"]
) -> tuple[Float[Tensor, "k D"], Float[Tensor, " k"]]:
    """The posterior mean and the log evidence for every row of y, whose readings have a noise each.

    Noisy readings first, then the exact ones in the posterior of these: of exact ones the density is that on the values
    they can take.
    """
    mean, log_evidence = gaussian.mean.flatten().expand(len(y), -1), y.new_zeros(len(y))
    for kept, level in ((noise > 0, 1.0), (noise == 0, 0.0)):
        if not bool(kept.any()):
            continue
        r = noise[kept] if level else torch.ones_like(noise[kept])
        seen = Observed(gaussian, LinearObservation(matrix[kept] / r[:, None], gaussian.event_shape, level))
        e = y[:, kept] / r - mean @ seen.H.T
        log_evidence = log_evidence + seen.regression.log_evidence(e) - r.log().sum()
        mean = mean + seen.fields(seen.regression, seen.variances.sqrt(), e)
        if level and bool((noise == 0).any()):
            gaussian = seen.posterior(y[0, kept] / r)  # its covariance is that of every row
    return mean, log_evidence


def _log_weights(y: Float[Tensor, "k m"], h: Float[Tensor, "n m"]) -> Float[Tensor, "k n"]:
    """log p(y_i | field j) less a constant; -inf for the field i itself, which is left out."""
    log_w = -0.5 * torch.cdist(y, h, compute_mode="donot_use_mm_for_euclid_dist").square()
    log_w[torch.arange(len(y)), torch.arange(len(y))] = -math.inf
    return log_w


def _noticed(usual: Float[Tensor, " k"], noisier: Float[Tensor, " k"]) -> float:
    """The share of `noisier` evidence that at most SURPRISING of the usual ones do not exceed."""
    lower = (usual <= noisier[:, None]).sum(1)
    return float(((1 + lower) / (1 + len(usual)) < max(SURPRISING, 2 / (1 + len(usual)))).double().mean())


def _nodes(spread: Float[Tensor, "channels N"]) -> list[Tensor]:
    """Per channel at most NODES places of values that are not known beforehand, evenly over the list."""
    found = []
    for row in spread:
        free = (row > KNOWN * row.max()).nonzero()[:, 0]
        count = min(NODES, len(free))
        found.append(free[torch.linspace(0, len(free) - 1, count).round().long()] if count else free)
    return found


def _add(coverage: list[Tensor], error: list[Tensor], less: Tensor, most: Tensor) -> None:
    """The shares of one channel, from P(x < truth) and P(x <= truth), (truths, nodes)."""
    c = torch.tensor(LEVELS, dtype=torch.float64)[:, None, None]
    inside = ((less <= (1 + c) / 2) & (most >= (1 - c) / 2)).double().mean(2)
    coverage.append(inside.mean(1))
    count = inside.shape[1]
    error.append(inside.std(1) / math.sqrt(count) if count > 1 else torch.full_like(inside[:, :1].sum(1), math.nan))
