r"""What a matrix product multiplies: the points in a working precision, or the bytes that hold them.

Bytes with affine values, :math:`y = o + s R` for integers R, are multiplied as they are: R is exact in float32, and

.. math::
    q \cdot y = s\, q \cdot R + q \cdot o , \qquad
    \sum_i w_i y_i = o \sum_i w_i + s \sum_i w_i R_i .

R is the byte less the nearest integer to its mean, so that little is lost where points tie; or the byte as it is, which
takes a tenth less time, where that is exact enough.
The second term of a score is the same for all points and is left out. The values are float32 numbers, so that a point
differs from o + s R by the rounding of its coordinates, `deviation` in norm at most; that is an error of
:math:`|q|` deviation in a score, as large as the rounding of a product. For the distances to the mean c, with the
integers k nearest to the mean m of the R,

.. math::  |R - m|^2 = |R - k|^2 - 2 (R - k) \cdot (m - k) + |m - k|^2 ,

where the first sum is exact (256 squares below 2^16 at a time are an integer below 2^24) and the second is small.
In float64, and where values are not affine, the points are looked up. Where a processor has fast instructions for it,
bytes are multiplied as integers instead (see `_digit_products`).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64, Int, Shaped, UInt8
from torch import Tensor

from diffuscope.byte_examples import ByteExamples, as_floats
from diffuscope.errors import InputError
from diffuscope.memory import ranges

from ._weighted_sums import COLLECTED, add_weighted

EXACT_SQUARES = 256  # squares of 8-bit integers whose sum is exact in float32
CHUNK = 8 * 2**20  # bytes of rows that a product takes at once: they are made and used twice in the cache


@dataclass(frozen=True, eq=False)
class Products:
    """Points y_i = offset + scale R_i, up to `deviation` in norm; h_i = |y_i - c|^2 / 2, c their mean.

    R_i is the point itself, or the byte less `subtracted`, if anything.
    """

    points: Shaped[Tensor, "points d"]
    of_bytes: bool
    bytes: UInt8[Tensor, "points d"] | None  # where they lie in the order of the points
    scale: float
    offset: Float[Tensor, " d"]
    subtracted: Float[Tensor, " d"] | None
    deviation: float
    center: Float[Tensor, " d"]
    half_squares: Float[Tensor, " points"]  # float64
    largest_norm: float  # of scale R_i
    typical_norm: float

    def converts(self, dtype: torch.dtype) -> bool:
        """Whether rows are made for the purpose."""
        return self.of_bytes or self.points.dtype != dtype

    def constant(self, queries: Float[Tensor, "batch d"]) -> Float[Tensor, " batch"]:
        """What is left out of all scores of a query: q . offset."""
        return queries.double() @ self.offset

    def product_bound(self, queries: Float[Tensor, "batch d"], summed: int | None = None) -> Float[Tensor, " batch"]:
        """How far the products may be off, in the precision of the queries: (d + 5) u |q| max |sR|.

        Or, where sums are of fewer numbers at a time, (summed + 5) u |q| max |sR|.
        """
        roundoff = torch.finfo(queries.dtype).eps / 2
        return ((summed or queries.shape[1]) + 5) * roundoff * norms(queries) * self.largest_norm

    def product_error(self, queries: Float[Tensor, "batch d"]) -> Float[Tensor, " batch"]:
        """How far they typically are: 2 u |q| |sR|."""
        return torch.finfo(queries.dtype).eps * norms(queries) * self.typical_norm

    def add_at(
        self, scores: Float[Tensor, "rows batch"], indices: Int[Tensor, " rows"], queries: Float[Tensor, "batch d"]
    ) -> None:
        """The products of these few points with the queries are added to the scores."""
        scores.addmm_(self.at(indices, queries.dtype), queries.T, alpha=self.scale)

    def over(self, queries: Float[Tensor, "batch d"], memory: int) -> "FloatPass":
        """A pass over all points, in the precision of the queries."""
        return FloatPass(self, queries, memory)

    def at(self, indices: Int[Tensor, " rows"], dtype: torch.dtype) -> Float[Tensor, "rows d"]:
        """R_i of these few points."""
        if not self.of_bytes:
            return as_floats(self.points[indices]).to(dtype)
        rows = self.points.rows(indices).bytes.to(dtype)  # type: ignore[reportAttributeAccessIssue]
        return rows if self.subtracted is None else rows.sub_(self.subtracted)

    def rows(
        self, start: int, stop: int, dtype: torch.dtype, buffer: Float[Tensor, "most d"] | None = None
    ) -> Float[Tensor, "rows d"]:
        """R_i of the points start .. stop, in the buffer if there is one and they have to be converted."""
        rows = self.raw(start, stop) if self.of_bytes else as_floats(self.points[start:stop])
        if rows.dtype == dtype:
            return rows
        rows = rows.to(dtype) if buffer is None else buffer[: stop - start].copy_(rows)
        return rows if self.subtracted is None else rows.sub_(self.subtracted)

    def raw(self, start: int, stop: int) -> UInt8[Tensor, "rows d"]:
        """The bytes of the points start .. stop."""
        return self.points[start:stop].bytes if self.bytes is None else self.bytes[start:stop]  # type: ignore


class FloatPass:
    """One pass over all points: a chunk of rows, converted once for both products."""

    def __init__(self, products: Products, queries: Float[Tensor, "batch d"], memory: int) -> None:
        self._products, self._queries, self._memory = products, queries, memory
        self._buffer: Tensor | None = None

    def chunks(self) -> Iterator[tuple[int, int]]:
        n, d = self._products.points.shape
        return chunks(n, d, self._memory)

    def add_products(self, scores: Float[Tensor, "rows batch"], start: int, stop: int) -> None:
        """The products of the points start .. stop are added to their scores."""
        dtype = self._queries.dtype
        if self._buffer is None and self._products.converts(dtype):
            self._buffer = self._queries.new_empty(stop - start, self._queries.shape[1])
        self._rows = self._products.rows(start, stop, dtype, self._buffer)
        scores.addmm_(self._rows, self._queries.T, alpha=self._products.scale)

    def add_weighted(
        self,
        collected: Float[Tensor, "batch d"],
        weights: Float[Tensor, "rows columns"],
        columns: Int[Tensor, " columns"] | None,
        heights: Float[Tensor, " columns"],
    ) -> Float64[Tensor, " columns"]:
        """The sums of the weighted R of this chunk are added to those rows of `collected`, None for all.

        Weights are not rounded for it: the variance is zero.
        """
        if columns is None:
            add_weighted(collected, weights, self._rows)
        else:
            of_columns = collected[columns]
            add_weighted(of_columns, weights, self._rows)
            collected[columns] = of_columns
        return torch.zeros_like(heights, dtype=torch.float64)


def norms(queries: Float[Tensor, "batch d"]) -> Float64[Tensor, " batch"]:
    return queries.double().norm(dim=1)


def chunks(n: int, d: int, memory: int) -> Iterator[tuple[int, int]]:
    """Ranges of rows that stay in the cache between two products, in float32, and take an eighth of `memory`."""
    rows = min(COLLECTED, max(16, min(memory // 8, max(CHUNK, 64 * 4 * d)) // (4 * d)))
    return ranges(n, rows)


def exact_products(
    points: Shaped[Tensor, "points d"], memory: int, center: Float[Tensor, " d"] | None = None
) -> Products:
    """Of the points themselves; one pass, and one more without the center."""
    n, d = points.shape
    if center is None:
        center = torch.zeros(d, dtype=torch.float64, device=points.device)
        for start, stop in chunks(n, d, memory):
            center += as_floats(points[start:stop]).sum(0, dtype=torch.float64)
        center /= n
    half_squares = torch.empty(n, dtype=torch.float64, device=points.device)
    norms_squared = torch.empty_like(half_squares)
    for start, stop in chunks(n, d, memory):
        rows = as_floats(points[start:stop]).double()
        norms_squared[start:stop] = rows.square().sum(1)
        half_squares[start:stop] = (rows - center).square_().sum(1) / 2  # float64 rows are the points themselves
    largest, typical = float(norms_squared.max().sqrt()), float(norms_squared.mean().sqrt())
    nothing = torch.zeros_like(center)
    return Products(points, False, None, 1.0, nothing, None, 0.0, center, half_squares, largest, typical)


def byte_products(points: ByteExamples, memory: int) -> "tuple[Products, Products] | None":
    """Of the bytes less their means, and as they are, in two passes; None where their values are not affine."""
    try:
        scale, offset, off = points._affine()
    except InputError:
        return None
    if scale == 0:
        return None
    n, d = points.shape
    buffer = None

    def parts() -> Iterator[tuple[int, int, Tensor]]:
        nonlocal buffer
        for start, stop in chunks(n, d, memory):
            if buffer is None:
                buffer = torch.empty(stop - start, d, device=points.device)
            yield start, stop, buffer[: stop - start].copy_(points[start:stop].bytes)  # type: ignore

    mean = torch.zeros(d, dtype=torch.float64, device=points.device)
    for _, _, R in parts():
        mean += R.sum(0)  # exact in float32: at most 2,048 integers below 2^8
    mean /= n
    nearest = mean.round()
    rest = mean - nearest
    about_zero, about_mean = (torch.empty(n, dtype=torch.float64, device=points.device) for _ in range(2))
    for start, stop, R in parts():
        about_zero[start:stop] = _squares(R)
        R -= nearest.float()
        about_mean[start:stop] = _squares(R) - 2 * (R @ rest.float()).double()
    about_mean += rest.square().sum()
    center = offset + scale * mean
    half_squares = about_mean * (scale**2 / 2)
    in_order = points._index is None and points._stored.is_contiguous()  # then a view, else a copy

    def products(squares: Tensor, rounded: float, offset: Tensor, subtracted: Tensor | None) -> Products:
        largest, typical = float(squares.max().sqrt()) + rounded, float(squares.mean().sqrt()) + rounded / 2
        return Products(
            points=points,
            of_bytes=True,
            bytes=points.bytes if in_order else None,
            scale=scale,
            offset=offset,
            subtracted=subtracted,
            deviation=off * math.sqrt(d),
            center=center,
            half_squares=half_squares,
            largest_norm=abs(scale) * largest,
            typical_norm=abs(scale) * typical,
        )

    return (
        products(about_mean, math.sqrt(d) / 2, offset + scale * nearest, nearest.float()),
        products(about_zero, 0.0, torch.full_like(center, offset), None),
    )


def _squares(R: Float[Tensor, "rows d"]) -> Float[Tensor, " rows"]:
    """|R_i|^2 of integers of absolute value below 2^8, exactly, in float64."""
    total = torch.zeros(len(R), dtype=torch.float64, device=R.device)
    for columns in R.split(EXACT_SQUARES, 1):
        total += torch.linalg.vecdot(columns, columns)
    return total
