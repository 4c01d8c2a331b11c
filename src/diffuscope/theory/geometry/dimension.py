r"""The dimension of a trajectory: how much of its variance lies in one component, in two, and how many hold 99.9%.

The points :math:`p_1, \dots, p_m` of one trajectory (its states, their increments, its noise predictions) are centered
in time. The eigenvalues of their covariance are those of the m x m Gram matrix,

.. math::  G_{ij} = \langle p_i - \bar p,\; p_j - \bar p\rangle, \qquad
           \text{share}_k = \nu_k / \textstyle\sum_j \nu_j ,

whatever the dimension of the data. A straight line has one component; a rotation from noise to data has two, in any
dimension. Shares below about 1e-15 are rounding.

Source: Wang & Vastola 2023, *Diffusion Models Generate Images Like Painters*, https://arxiv.org/abs/2303.02490.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from diffuscope.errors import InputError
from diffuscope.memory import chunk_size

SHARE = 0.999  # of the variance
CHUNK = 50_000_000  # numbers in float64 at once


def principal_shares(points: Float[Tensor, "points batch *event"]) -> Float[Tensor, "batch points"]:
    """The shares of variance of the principal components of every trajectory, largest first; NaN where nothing moves.

    Memory: `CHUNK` numbers and the result. Raises InputError for fewer than three points.

    >>> import torch
    >>> from diffuscope.theory.geometry import principal_shares
    >>> cross = torch.tensor([[3.0, 0.0], [-3.0, 0.0], [0.0, 1.0], [0.0, -1.0]])  # one trajectory of four points
    >>> [round(share, 6) for share in principal_shares(5 + cross[:, None])[0].tolist()]  # 18 / 20, 2 / 20
    [0.9, 0.1, 0.0, 0.0]
    """
    if len(points) < 3:
        raise InputError(f"points: expected at least three along each trajectory, got {len(points)}")
    size = chunk_size(CHUNK, each=points[:, 0].numel())
    return torch.cat([_shares(part) for part in points.split(size, dim=1)])


def _shares(points: Float[Tensor, "points batch *event"]) -> Float[Tensor, "batch points"]:
    rows = points.double().transpose(0, 1).flatten(2)
    centered = rows - rows.mean(1, keepdim=True)
    values = torch.linalg.eigvalsh(centered @ centered.mT).flip(1).clamp(min=0)
    return values / values.sum(1, keepdim=True)


def components_for(shares: Float[Tensor, "batch points"], share: float = SHARE) -> Int[Tensor, " batch"]:
    """The number of components that together hold `share` of the variance.

    >>> components_for(torch.tensor([[0.9, 0.0995, 0.0005]])).tolist()
    [2]
    """
    if not 0 < share < 1:
        raise InputError(f"share: expected a number between 0 and 1, got {share:g}")
    return (shares.cumsum(1) < share).sum(1) + 1
