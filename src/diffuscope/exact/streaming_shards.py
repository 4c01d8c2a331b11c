r"""Mean, covariance and leading eigenpairs of a data set that several processes share, each streaming its own rows.

With :math:`n_r` examples in process r, of mean :math:`m_r` and covariance :math:`\Sigma_r` (Chan's update at once):

.. math::
    n = \sum_r n_r, \qquad m = \sum_r \frac{n_r}{n} m_r, \qquad
    \Sigma = \sum_r \frac{n_r}{n} \left[\Sigma_r + (m_r - m)(m_r - m)^T\right] ,

with a probe :math:`\Omega` from the right where D x D does not fit. All processes call with equal arguments, also equal
generators, and have equal results.

Source: Chan, Golub & LeVeque 1979.
"""

import math
from collections.abc import Callable

import torch
from jaxtyping import Shaped
from torch import Tensor

from diffuscope.byte_examples import float_parts
from diffuscope.distributed import gathered, made_by_all, processes, shard, summed
from diffuscope.errors import InputError

from .streaming import LeadingPairs, Moments, leading_pairs_of, streamed_moments

Probe = Callable[[int], Tensor]


def sharded_moments(points: Shaped[Tensor, "points *event"], probe: Probe | None = None) -> Moments:
    """`streamed_moments` of the rows of `points`, in floats or held as bytes, each process reading its `shard`.

    Raises InputError for fewer than two points or values that are not finite, in all processes.

    >>> import torch
    >>> from diffuscope.exact import sharded_moments
    >>> moments = sharded_moments(torch.tensor([[1.0], [5.0]]))
    >>> moments.mean.item(), round(moments.trace, 6)
    (3.0, 4.0)
    """
    if len(points) < 2:
        raise InputError(f"points: expected at least two to fit a Gaussian, got {len(points)}")
    start, stop = shard(len(points))
    D = math.prod(points.shape[1:])
    if probe is not None:
        drawn = probe(D)  # once: it may draw random numbers
        probe = lambda _: drawn  # noqa: E731
    own = made_by_all(lambda: _own_moments(points[start:stop], probe))
    counts = gathered(own.mean.new_tensor([stop - start]))
    share = (stop - start) / len(points)
    # about the mean of the first process with points, so that a common offset costs no digits
    first = int((counts > 0).int().argmax())
    means = gathered(own.mean.flatten()).reshape(processes(), -1)
    shifts = means - means[first]
    shift = (counts / len(points)) @ shifts
    away = own.mean.flatten() - means[first] - shift
    probed = away if probe is None else away @ probe(D).to(away)
    product = summed(share * (own.product + away[:, None] * probed[None]))
    trace = float(summed(share * (away.square().sum() + own.trace)))
    return Moments(len(points), (means[first] + shift).reshape(own.mean.shape), trace, product)


def sharded_leading_pairs(
    points: Shaped[Tensor, "points *event"], rank: int, *, generator: torch.Generator, n_passes: int = 2
) -> LeadingPairs:
    """`leading_pairs` of the rows of `points`, each process reading its `shard` in every pass.

    Raises InputError as `leading_pairs`, in all processes.

    >>> import torch
    >>> from diffuscope.exact import sharded_leading_pairs
    >>> rows = torch.tensor([[4.0, 0.0], [-2.0, 0.0], [1.0, 1.0], [1.0, -1.0]])  # of variances 18/4 and 2/4
    >>> pairs = sharded_leading_pairs(rows, 1, generator=torch.Generator().manual_seed(0))
    >>> round(pairs.eigenvalues.item(), 6), round(pairs.tail_variance, 6)
    (4.5, 0.5)
    """
    return leading_pairs_of(lambda probe: sharded_moments(points, probe), rank, generator, n_passes)


def _own_moments(rows: Tensor, probe: Probe | None) -> Moments:
    """Also of one example or none."""
    if len(rows) > 1:
        return streamed_moments(float_parts(rows), probe)
    D = math.prod(rows.shape[1:])
    mean = torch.zeros(tuple(rows.shape[1:]), dtype=torch.float64, device=rows.device)
    for part in float_parts(rows):
        if not bool(torch.isfinite(part).all()):
            raise InputError("batches: expected finite values, got NaN or infinity")
        mean = part.sum(0, dtype=torch.float64)  # of one row, or of none
    width = D if probe is None else probe(D).shape[1]
    return Moments(len(rows), mean, 0.0, mean.new_zeros(D, width))
