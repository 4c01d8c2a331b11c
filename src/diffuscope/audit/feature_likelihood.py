r"""The generalization gap of the feature likelihood divergence (FLD, Jiralerspong et al. 2023).

A Gaussian sits on every one of the m samples s_j, with a variance of its own that is fitted to the training rows,

.. math::  q(x) = \frac1m \sum_{j=1}^{m} N(x;\, s_j, \sigma_j^2 I), \qquad
           \text{gap} = \frac{100}{d} \left( \operatorname{mean}_{h \in H} \log q(h)
                        - \operatorname{mean}_{t \in T} \log q(t) \right) ,

in hundredths of a nat per feature: the difference of the FLD of training and of held-out rows. Negative where training
rows are more likely. A sample that copies a training row has a variance near zero, and fits no other row.

The variances are fitted to T, so the gap of a perfect generator is below 0. Its null is found by exchanging the names
of training and held-out rows (`exchanged_names`) and fitting again. The fit is by expectation maximization,

.. math::  r_{ij} \propto N(t_i;\, s_j, \sigma_j^2 I), \qquad
           \sigma_j^2 = \frac{\sum_i r_{ij} |t_i - s_j|^2}{d \sum_i r_{ij}} ,

which starts at the distance to the nearest row. As in the paper's program, a broad Gaussian takes part in the fit, so
that rows far from all samples do not widen those, and not in q: it has m times the weight of the others, the mean of
the rows as its center and distances reduced to 0.9 of theirs; features have mean 0 and standard deviation 1, here over
both sets.
"""

import math

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from .exchanged_names import Groups, named_pool
from .measure import Measure, permuted_measure
from .rows_of import AnyRows, few_enough

MOST = 500  # samples, and units of either name
PERMUTATIONS = 99
STEPS = 8
LEAST_VARIANCE = math.exp(-40)
BROAD = 0.9
Rows = Float[Tensor, "_ features"]


def generalization_gap(
    samples: Rows,
    train: AnyRows,
    heldout: AnyRows,
    rng: np.random.Generator,
    train_groups: Groups | None = None,
    heldout_groups: Groups | None = None,
) -> Measure:
    """The gap of at most 500 samples and rows of either set, with the null of 99 permutations.

    Raises InputError for a group on both sides.
    """
    most = few_enough(MOST, 4 * samples.shape[1])
    named, pool = named_pool(train, heldout, rng, train_groups, heldout_groups, most=most)
    rows = pool.double()
    chosen = samples[torch.from_numpy(np.sort(rng.permutation(len(samples))[:most]))].double()
    center, scale = rows.mean(0), rows.std(0)
    scale[scale == 0] = 1.0
    for x in (rows, chosen):
        x.sub_(center).div_(scale)
    square = torch.cdist(rows, chosen, compute_mode="donot_use_mm_for_euclid_dist").square()

    def gaps(names: ndarray) -> ndarray:
        of_names = [_gap(square, rows, torch.from_numpy(column > 0)) for column in names.T]
        return np.array(of_names)[None]

    (value,), (permuted,) = named.permuted(gaps, rng, PERMUTATIONS)
    return permuted_measure(
        "FLD generalization gap",
        value,
        permuted,
        copies="low",
        reader="images",
        tied=1e-9,
        meaning="Log-likelihood of held-out minus training rows under Gaussians around the samples, in nats per 100 "
        "features.",
    )


def _gap(square: Float[Tensor, "rows samples"], rows: Rows, is_training: Tensor) -> float:
    variance = fitted_variances(square[is_training], rows[is_training])
    log_q = log_likelihood(square, variance, rows.shape[1])
    return float(100 * (log_q[~is_training].mean() - log_q[is_training].mean()) / rows.shape[1])


def fitted_variances(square: Float[Tensor, "rows samples"], rows: Rows) -> Float[Tensor, " samples"]:
    """The variances of Gaussians around samples at these squared distances from rows, by expectation maximization."""
    d, m = rows.shape[1], square.shape[1]
    to_mean = BROAD**2 * (rows - rows.mean(0)).square().sum(1, keepdim=True)
    squares = torch.cat([square, to_mean], 1)
    log_weight = torch.cat([torch.full((m,), -math.log(m), dtype=square.dtype), square.new_zeros(1)])
    variance = torch.cat([(square.amin(0) + 1e-3) / d, square.new_ones(1)])
    for _ in range(STEPS):
        share = (log_weight + _log_density(squares, variance, d)).softmax(1)
        of_component = share.sum(0)
        fitted = (share * squares).sum(0) / (d * of_component)
        variance = torch.where(of_component > 0, fitted, variance).clamp(min=LEAST_VARIANCE)
    return variance[:m]


def log_likelihood(
    square: Float[Tensor, "rows samples"], variance: Float[Tensor, " samples"], d: int
) -> Float[Tensor, " rows"]:
    """log q of rows at these squared distances from the samples."""
    return _log_density(square, variance, d).logsumexp(1) - math.log(square.shape[1])


def _log_density(square: Tensor, variance: Tensor, d: int) -> Tensor:
    return -square / (2 * variance) - d / 2 * (2 * math.pi * variance).log()
