r"""All points weighed in one pass by two products: sums of the weights, the weighted points, and the largest scores.

Chunk by chunk, while its rows are in the cache, scores :math:`s_i` and then, with a peak p that follows the largest,

.. math::  \sum_i e^{s_i - p}, \qquad \sum_i e^{s_i - p} y_i, \qquad \sum_i e^{s_i - p} |y_i - c|^2 .

The peak may lie some logits below the largest score, so that sums are seldom rescaled. They are collected in float64.
What is multiplied are floats or integers (`_products`, `_digit_products`); in the latter case the weights of the second
sum are rounded at random, and `rounded` is the standard deviation that they give it.
Samples for which a chunk weighs less than DROPPED of all before it are left out of its second product, and its weight
is counted as `dropped`. Weights near the subnormal numbers, which run many times slower, are zero.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ._screening import Multiplied, PointTable, merge_largest
from ._weighted_sums import COLLECTED, add_weighted

# Points below these log-weights get weight zero.
LEAST_LOG_WEIGHT = {torch.float32: -80.0, torch.float64: -700.0}
SLACK = 8.0  # logits by which scores may exceed the peak
DROPPED = {torch.float32: 1e-11, torch.float64: 1e-18}


@dataclass(frozen=True, eq=False)
class Sums:
    """In float64: the peak, the sums relative to e^peak, the weight without its points, and the k largest scores."""

    peak: Float[Tensor, " batch"]
    mass: Float[Tensor, " batch"]
    first: Float[Tensor, "batch d"]
    square: Float[Tensor, " batch"]
    dropped: Float[Tensor, " batch"]
    rounded: Float[Tensor, " batch"]  # the standard deviation of `first`, in norm, where weights were rounded
    scores: Float[Tensor, "batch k"]
    indices: Int[Tensor, "batch k"]


def streamed(
    table: PointTable,
    products: Multiplied,
    queries: Float[Tensor, "batch d"],
    kappa: Float[Tensor, " batch"],
    k: int,
    window: Float[Tensor, " batch"],
) -> Sums:
    """One pass over all points, in the precision of the queries.

    As in `PointTable.largest`, points further than `window` below the largest may be missing among the k largest.
    """
    dtype, (batch, d) = queries.dtype, queries.shape
    zeros = torch.zeros(batch, dtype=torch.float64, device=queries.device)
    mass, half_square, dropped, variance = zeros.clone(), zeros.clone(), zeros.clone(), zeros.clone()
    first = zeros.new_zeros(batch, d)
    values = queries.new_full((batch, k), -torch.inf)
    indices = torch.zeros(batch, k, dtype=torch.int64, device=queries.device)
    window, minus_kappa = window.to(dtype), -kappa.to(dtype)
    log_weights, h = table.log_weights.to(dtype), products.half_squares.to(dtype)
    peak, collected, rows_collected = None, torch.zeros_like(queries), 0
    run = products.over(queries, table.memory)

    for start, stop in run.chunks():
        scores = torch.addr(log_weights[start:stop, None], h[start:stop], minus_kappa)
        run.add_products(scores, start, stop)
        largest = scores.amax(0)
        if k:
            merge_largest(values, indices, scores.T, largest, start, window)
        if peak is None:
            peak = largest
        elif bool((largest > peak + SLACK).any()):
            higher = torch.where(largest > peak + SLACK, largest, peak)
            fade = (peak.double() - higher.double()).exp()
            mass, half_square, dropped = mass * fade, half_square * fade, dropped * fade
            first.mul_(fade[:, None])
            variance = variance * fade.square()
            collected.mul_(fade.to(dtype)[:, None])
            peak = higher
        if rows_collected + stop - start > COLLECTED:
            first += collected
            collected.zero_()
            rows_collected = 0
        rows_collected += stop - start
        weights = torch.threshold_(scores.sub_(peak), LEAST_LOG_WEIGHT[dtype], -torch.inf).exp_()
        chunk_mass = weights.sum(0).double()
        matter = chunk_mass > DROPPED[dtype] * mass
        some = matter.nonzero()[:, 0]
        if len(some) == batch:
            mass += chunk_mass
            add_weighted(half_square[:, None], weights, h[start:stop, None])
            variance += run.add_weighted(collected, weights, None, largest - peak)
        else:
            dropped += torch.where(matter, 0, chunk_mass)
            if len(some) == 0:
                continue
            mass[some] += chunk_mass[some]
            weights = weights[:, some]
            of_some = half_square[some]
            add_weighted(of_some[:, None], weights, h[start:stop, None])
            half_square[some] = of_some
            variance[some] += run.add_weighted(collected, weights, some, (largest - peak)[some])
    first = (first + collected).mul_(products.scale).add_(products.offset * mass[:, None])
    peak = zeros if peak is None else peak.double()
    return Sums(peak, mass, first, 2 * half_square, dropped, variance.sqrt(), values.double(), indices)
