r"""Sums of weighted points with an error that does not depend on the order in which a processor's library adds.

A matrix product adds its n terms in blocks or one by one: that is the library's choice, and differs between processors.
One by one, partial sum k of n equal terms is k of them, rounded by up to u k, so that the sum is wrong by up to
:math:`u\,n(n+1)/2`, which is :math:`u (n+1)/2` of itself (u the unit roundoff). The roundings of different terms are of
either sign; those of equal ones, as copies of a point are, or a background that all images share, are not. So a product
adds BLOCK terms, and the sums of the blocks are added here: of up to COLLECTED terms in one precision the error is

.. math::  \tfrac{u}{2} \left(\mathrm{BLOCK} + \mathrm{COLLECTED} / \mathrm{BLOCK}\right),

and what is longer is collected in float64, which adds u / 2 of float64 for every block at most.
"""

import torch
from jaxtyping import Float, Float64
from torch import Tensor

BLOCK = 128  # terms that a product adds: fewer cost time
COLLECTED = 2048  # terms whose sum is collected in the working precision
OTHER = 8  # units of roundoff: of the weights, of the products


def add_weighted(
    total: Float[Tensor, "batch d"], weights: Float[Tensor, "rows batch"], values: Float[Tensor, "rows d"]
) -> None:
    """The sums over all rows of weights times values are added to `total`, of this or a higher precision."""
    for w, y in zip(weights.split(BLOCK), values.split(BLOCK), strict=True):
        total += w.T @ y


def weighted_sum(weights: Float[Tensor, "rows batch"], values: Float[Tensor, "rows d"]) -> Float64[Tensor, "batch d"]:
    """The sums over all rows of weights times values, collected in float64."""
    total = torch.zeros(weights.shape[1], values.shape[1], dtype=torch.float64, device=weights.device)
    add_weighted(total, weights, values)
    return total


def summation_error(typical_norm: float, dtype: torch.dtype, n: int) -> float:
    """The rounding error of such a sum of n weighted points of this size, in norm, where all of them are equal."""
    terms = OTHER + (min(n, BLOCK) + min(n, COLLECTED) / BLOCK) / 2
    collected = n / BLOCK / 2
    return (terms * torch.finfo(dtype).eps + collected * torch.finfo(torch.float64).eps) / 2 * typical_norm
