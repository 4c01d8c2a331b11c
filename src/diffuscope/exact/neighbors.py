r"""Exact nearest neighbors in Euclidean distance, by one screened matrix product.

.. math::  |x - y_i|^2 = |x - c|^2 - 2 \left[(x - c)\cdot(y_i - c) - \tfrac12 |y_i - c|^2\right]

A product in the precision of the input ranks the points; those within its rounding error of the answer are compared
again by :math:`\sum_k (x_k - y_{ik})^2` in float64. So the distances carry no cancellation, and the indices are those
of a brute-force search, the least index first among equals. Memory is bounded: no matrix of all pairs is formed.
"""

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from diffuscope.errors import InputError

from ._screening import PointTable

MEMORY = 64 * 2**20


def nearest_neighbors(
    queries: Shaped[Tensor, "queries ..."], points: Shaped[Tensor, "points ..."], k: int
) -> tuple[Float[Tensor, "queries k"], Int[Tensor, "queries k"]]:
    """Distances |x - y| (float64, nearest first) from every query to its k nearest points, and their indices.

    Raises InputError for integers, NaN, different event shapes, and k outside 1 .. number of points.
    """
    queries, points = _checked("queries", queries), _checked("points", points)
    if queries.shape[1] != points.shape[1]:
        raise InputError(f"queries: expected events of the {points.shape[1]} values of a point, got {queries.shape[1]}")
    if not 1 <= k <= len(points):
        raise InputError(f"k: expected 1 .. {len(points)} (the number of points), got {k}")
    return _nearest(queries, points, k)


def nearest_other_neighbors(
    points: Shaped[Tensor, "points ..."], k: int
) -> tuple[Float[Tensor, "points k"], Int[Tensor, "points k"]]:
    """The k nearest *other* points of every point: itself is left out, its duplicates are not."""
    points = _checked("points", points)
    if not 1 <= k < len(points):
        raise InputError(f"k: expected 1 .. {len(points) - 1} (the number of other points), got {k}")
    distances, indices = _nearest(points, points, k + 1)
    itself = indices == torch.arange(len(points), device=points.device)[:, None]
    # among many duplicates the point itself may not be listed: then the last is left out instead
    itself[:, -1] |= ~itself.any(1)
    return distances[~itself].reshape(-1, k), indices[~itself].reshape(-1, k)


def _nearest(queries: Tensor, points: Tensor, k: int) -> tuple[Tensor, Tensor]:
    dtype = torch.promote_types(queries.dtype, points.dtype)
    table = PointTable(points, torch.zeros(len(points), dtype=torch.float64, device=points.device), MEMORY)
    d = points.shape[1]
    distances = torch.empty(len(queries), k, dtype=torch.float64, device=points.device)
    indices = torch.empty(len(queries), k, dtype=torch.int64, device=points.device)
    block = max(1, min(1024, MEMORY // (32 * d)))
    for start in range(0, len(queries), block):
        exact = queries[start : start + block]
        centered = exact.double() - table.center

        def half_square_distance(rows: Tensor, found: Tensor, exact: Tensor = exact) -> Tensor:
            pairs = zip(rows.split(max(1, MEMORY // (32 * d))), found.split(max(1, MEMORY // (32 * d))), strict=True)
            return torch.cat([(points[j].double() - exact[i].double()).square_().sum(1) / 2 for i, j in pairs])

        half_squares, indices[start : start + block] = table.certified_largest(
            centered.to(dtype),
            torch.ones(len(exact), dtype=torch.float64, device=points.device),
            k,
            half_square_distance,
            centered.square().sum(1) / 2 + centered @ table.center,
        )
        distances[start : start + block] = (2 * half_squares).sqrt()
    return distances, indices


def _checked(name: str, values: Tensor) -> Tensor:
    if not values.is_floating_point():
        raise InputError(f"{name}: expected floating-point values, got {values.dtype}; scale integers to floats first")
    if values.numel() == 0:
        raise InputError(f"{name}: expected at least one event of at least one value, got shape {tuple(values.shape)}")
    flat = values.detach().reshape(len(values), -1)
    flat = flat if flat.dtype in (torch.float32, torch.float64) else flat.float()
    if not all(bool(torch.isfinite(rows).all()) for rows in flat.split(4096)):
        raise InputError(f"{name}: expected finite values, got NaN or infinity")
    return flat
