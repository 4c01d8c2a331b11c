"""Posterior means of a finite data set by matrix products alone, where the scores are exact enough for it."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.memory import ranges

from ._posterior import ROUNDED, Noised
from ._screening import Multiplied, PointTable
from ._stream import LEAST_LOG_WEIGHT, streamed
from ._weighted_sums import COLLECTED, add_weighted, summation_error

ROWS = 256  # queries whose scores of COLLECTED points are held at once: 2 MiB, which stay in the cache


def mean_at_one_level(table: PointTable, noised: Noised) -> Float[Tensor, "batch d"]:
    """E[y | x] where all rows have the same levels and the scores are exact enough: nothing but two matrix products."""
    dtype, n = noised.queries.dtype, len(table)
    bias = (table.log_weights - noised.kappa[0] * table.products(dtype).half_squares).to(dtype)
    mean = torch.empty_like(noised.queries)
    for queries, of_queries in zip(noised.queries.split(ROWS), mean.split(ROWS), strict=True):
        peak = queries.new_full((len(queries), 1), -torch.inf)
        mass, first = torch.zeros_like(peak, dtype=torch.float64), torch.zeros_like(queries, dtype=torch.float64)
        for start, stop in ranges(n, COLLECTED):
            points = table.points[start:stop]
            weights = torch.addmm(bias[start:stop], queries, points.T)
            higher = torch.maximum(peak, weights.amax(1, keepdim=True))
            fade, peak = (peak - higher).exp(), higher
            torch.threshold_(weights.sub_(peak), LEAST_LOG_WEIGHT[dtype], -torch.inf).exp_()
            sums = torch.zeros_like(queries)
            add_weighted(sums, weights.T, points)
            mass = mass.mul_(fade).add_(weights.sum(1, keepdim=True))
            first = first.mul_(fade).add_(sums)
        of_queries.copy_(first / mass)
    return mean


@dataclass(frozen=True, eq=False)
class StreamedMean:
    """By products alone: E[y | x], log sum_i w0_i p(x | y_i) / p(x | c), and the errors of the two."""

    mean: Float[Tensor, "batch d"]
    log_mass: Float[Tensor, " batch"]
    error: Float[Tensor, " batch"]
    log_error: Float[Tensor, " batch"]


def streamed_mean(table: PointTable, products: Multiplied, noised: Noised) -> StreamedMean:
    """One pass over the points; the error of the scores is taken to be the typical one."""
    queries, kappa = noised.queries, noised.kappa
    sums = streamed(table, products, queries, kappa, 0, torch.full_like(kappa, torch.inf))
    mean = sums.first / sums.mass[:, None]
    variance = (sums.square / sums.mass - (mean - table.center).square().sum(1)).clamp_min(0)
    variance = variance + torch.finfo(queries.dtype).eps * table.radius**2
    log_error = table.score_error(queries, kappa, products)
    error = 2 * log_error * variance.sqrt() + 2 * table.radius * sums.dropped / sums.mass
    error = error + summation_error(products.typical_norm, queries.dtype, len(table))
    error = error + ROUNDED * sums.rounded / sums.mass
    at_center = queries.double() @ table.center - products.constant(queries)
    return StreamedMean(mean, sums.peak + sums.mass.log() - at_center, error, log_error)
