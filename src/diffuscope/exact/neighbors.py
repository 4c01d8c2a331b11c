r"""Exact nearest neighbors in Euclidean distance, screened by one matrix product.

.. math::  |x - y_i|^2 = |x - c|^2 - 2 \left[(x - c)\cdot(y_i - c) - \tfrac12 |y_i - c|^2\right]

A product in the precision of the input ranks the points; those within its rounding error of the answer are compared
again by :math:`\sum_k (x_k - y_{ik})^2` in float64. So the distances suffer no cancellation, and the indices are those
of a brute-force search, the least index first among equals. Memory is bounded: no matrix of all pairs is formed.
"""

from functools import partial

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from diffuscope.errors import InputError
from diffuscope.memory import chunk_size

from ._screening import PointTable, checked_rows

MEMORY = 64 * 2**20


def nearest_neighbors(
    queries: Shaped[Tensor, "queries ..."], points: Shaped[Tensor, "points ..."], k: int
) -> tuple[Float[Tensor, "queries k"], Int[Tensor, "queries k"]]:
    """Distances |x - y| (float64, nearest first) from every query to its k nearest points, and their indices.

    Raises InputError for integers, NaN, different event shapes, and k outside 1 .. number of points.

    >>> import torch
    >>> from diffuscope.exact import nearest_neighbors
    >>> points = torch.tensor([[3.0, 4.0], [0.0, 1.0], [-6.0, 8.0]])
    >>> distances, indices = nearest_neighbors(torch.zeros(1, 2), points, 2)
    >>> [round(distance, 6) for distance in distances[0].tolist()], indices.tolist()
    ([1.0, 5.0], [[1, 0]])
    """
    half_squares, indices = nearest_half_squares(queries, points, k)
    return (2 * half_squares).sqrt(), indices


def nearest_other_neighbors(
    points: Shaped[Tensor, "points ..."], k: int
) -> tuple[Float[Tensor, "points k"], Int[Tensor, "points k"]]:
    """As `nearest_neighbors`, the k nearest *other* points of every point: not itself, but its duplicates.

    Raises InputError for integers, NaN, and k outside 1 .. number of points - 1.

    >>> import torch
    >>> from diffuscope.exact import nearest_other_neighbors
    >>> distances, indices = nearest_other_neighbors(torch.tensor([[0.0], [1.0], [3.5], [1.0]]), 1)
    >>> [round(distance, 6) for distance in distances[:, 0].tolist()], indices[:, 0].tolist()
    ([1.0, 0.0, 2.5, 0.0], [1, 3, 1, 1])
    """
    if not 1 <= k < len(points):
        raise InputError(f"k: expected 1 .. {len(points) - 1} (the number of other points), got {k}")
    half_squares, indices = nearest_half_squares(points, points, k + 1)
    return without_itself((2 * half_squares).sqrt(), indices)


def without_itself(
    distances: Float[Tensor, "points more"], indices: Int[Tensor, "points more"]
) -> tuple[Float[Tensor, "points k"], Int[Tensor, "points k"]]:
    """Of the neighbors of every point among all points, one less: not itself."""
    itself = indices == torch.arange(len(indices), device=indices.device)[:, None]
    # among many duplicates the point itself may be missing: then drop the last instead
    itself[:, -1] |= ~itself.any(1)
    shape = (len(indices), indices.shape[1] - 1)
    return distances[~itself].reshape(shape), indices[~itself].reshape(shape)


def nearest_half_squares(
    queries: Shaped[Tensor, "queries ..."], points: Shaped[Tensor, "points ..."], k: int
) -> tuple[Float[Tensor, "queries k"], Int[Tensor, "queries k"]]:
    """|x - y|^2 / 2 of the k nearest points, ordered by it and then by the index."""
    queries, points = checked_rows("queries", queries), checked_rows("points", points)
    if queries.shape[1] != points.shape[1]:
        raise InputError(f"queries: expected events of the {points.shape[1]} values of a point, got {queries.shape[1]}")
    if not 1 <= k <= len(points):
        raise InputError(f"k: expected 1 .. {len(points)} (the number of points), got {k}")
    dtype = torch.promote_types(queries.dtype, points.dtype)
    table = PointTable(points, torch.zeros(len(points), dtype=torch.float64, device=points.device), MEMORY)
    pairs = chunk_size(MEMORY, each=32 * points.shape[1])
    half_squares = torch.empty(len(queries), k, dtype=torch.float64, device=points.device)
    indices = torch.empty(len(queries), k, dtype=torch.int64, device=points.device)
    block = min(1024, chunk_size(MEMORY, each=4 * points.shape[1]))
    for start in range(0, len(queries), block):
        exact = queries[start : start + block]
        centered = torch.empty(exact.shape, dtype=dtype, device=points.device)
        offset = torch.empty(len(exact), dtype=torch.float64, device=points.device)
        for first in range(0, len(exact), pairs):
            part = slice(first, first + pairs)
            of_part = exact[part].double() - table.center
            centered[part], offset[part] = of_part, of_part.square().sum(1) / 2 + of_part @ table.center
        half_squares[start : start + block], indices[start : start + block] = table.certified_largest(
            centered,
            torch.ones(len(exact), dtype=torch.float64, device=points.device),
            k,
            partial(_half_square_distance, exact, points, pairs),
            offset,
        )
    return half_squares, indices


def _half_square_distance(queries: Tensor, points: Tensor, pairs: int, rows: Tensor, found: Tensor) -> Tensor:
    """|x - y|^2 / 2 of queries[rows] and points[found] in float64, `pairs` at a time."""
    parts = zip(rows.split(pairs), found.split(pairs), strict=True)
    return torch.cat([(points[j].double() - queries[i].double()).square_().sum(1) / 2 for i, j in parts])
