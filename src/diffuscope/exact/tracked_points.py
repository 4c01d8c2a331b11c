r"""Points on a grid of integers, and products of integers that are free of rounding errors.

Every point is written with m digits of 8 bits,

.. math::
    y_i = o + s\, \tilde y_i + R_i, \qquad \tilde y_i = \sum_{j < m} 256^{-j}\, Y_{ji}, \qquad
    Y_{ji} \in \{-128, \dots, 127\}^d .

Pictures that were bytes need one digit, and |R_i| is the rounding of their floats; other data get two. A matrix product
of 8-bit integers with sums of 32 bits makes no error at all while :math:`2^{14} \times` its inner length is below
:math:`2^{31}`, whatever the order of summation; in float32 it is wrong by up to (d + 4) u |q| |y|. Recent processors
have fast instructions for it. `integer_products_are_exact` tries the product on the extreme values, since kernels for
older processors saturate.

What multiplies the points is written with digits too. `digits` takes a matrix r to integers of at most 127 with

.. math::  r = \sum_n t_n d_n + e, \qquad |e| \le t_n / 2 \text{ in every entry after } n \text{ digits},

and weights between 0 and :math:`2^{31}` are four digits to the base 256 as they lie in memory (`byte_digits`).
"""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import torch
from jaxtyping import Float, Float64, Int8, Int32
from torch import Tensor

from ._screening import PointTable

ROWS = 4096  # points in one product: what follows it is done while it lies in the cache
LARGEST_INNER = 2**16  # 2^14 times this is 2^30
LARGEST_WEIGHT = 2.0e9  # below 127 (1 + 256 + 256^2 + 256^3)
EXTRA = 16  # columns beside the points' coordinates in the products with weights, of which three are used


@dataclass(frozen=True)
class GridPoints:
    """The points as digits, by rows for products with queries and by columns for products with weights."""

    planes: tuple[Int8[Tensor, "points d"], ...]
    transposed: tuple[tuple[Int8[Tensor, "_ rows"], ...], ...]  # of every plane, in pieces of `ROWS` points
    offset: float
    step: float
    residual: float  # max |R_i|
    norms: tuple[float, ...]  # of every plane, the largest norm of a row
    sum_of_half_squares: float
    half_square_step: float  # (256 a_i + b_i) times this is at least h_i = |y_i - c|^2 / 2, and nearly equal to it

    @classmethod
    def of(cls, table: PointTable) -> "GridPoints":
        low, high, levels = _levels(table)
        n_planes = 1 if levels <= 255 else 2
        step = (high - low) / (levels if n_planes == 1 else 254)
        step = step if step > 0 else 1.0
        offset = low + 128 * step if n_planes == 1 else (low + high) / 2
        planes = tuple(torch.empty(len(table), table.points.shape[1], dtype=torch.int8) for _ in range(n_planes))
        residual, norms = 0.0, [0.0] * n_planes
        half_square_step = max(float(table.half_squares.max()), 1e-300) / 32000
        transposed: list[list[Tensor]] = [[] for _ in range(n_planes)]
        for start in range(0, len(table), ROWS):
            rows = slice(start, min(start + ROWS, len(table)))
            rest = table.points[rows].double().sub_(offset).div_(step)
            for j, plane in enumerate(planes):
                digit = (rest * 256**j).round_().clamp_(-128, 127)
                rest -= digit / 256**j
                plane[rows] = digit.to(torch.int8)
                norms[j] = max(norms[j], float(digit.square().sum(1).max().sqrt()))
                columns = torch.zeros(digit.shape[1] + EXTRA, len(digit), dtype=torch.int8)
                columns[:-EXTRA] = plane[rows].T
                if j == 0:  # sums of weights, and of weights times h_i rounded up
                    squares = (table.half_squares[rows] / half_square_step).mul_(1 + 1e-12).ceil_()
                    upper = ((squares + 128) / 256).floor_()
                    columns[-EXTRA], columns[1 - EXTRA], columns[2 - EXTRA] = 1, upper, squares - 256 * upper
                transposed[j].append(columns)
            residual = max(residual, float(rest.square().sum(1).max().sqrt()) * step)
        # what the differences above may have lost in float64
        residual += 8 * 2.0**-53 * math.sqrt(table.points.shape[1]) * (max(abs(low), abs(high)) + abs(offset))
        pieces = tuple(tuple(columns) for columns in transposed)
        return cls(
            planes, pieces, offset, step, residual, tuple(norms), float(table.half_squares.sum()), half_square_step
        )

    def __len__(self) -> int:
        return len(self.planes[0])

    def ranges(self) -> Iterator[slice]:
        for start in range(0, len(self), ROWS):
            yield slice(start, min(start + ROWS, len(self)))

    @property
    def norm(self) -> float:
        """A bound on the norm of every y~_i."""
        return sum(norm / 256**j for j, norm in enumerate(self.norms))


def digits(r: Float64[Tensor, "rows d"]) -> Iterator[tuple[Int8[Tensor, "d rows"], float, Float64[Tensor, "rows d"]]]:
    """(d_n, t_n, what is left after it) for n = 1, 2, ...; nothing more once nothing is left."""
    while True:
        largest = float(r.abs().max())
        if not 0 < largest < math.inf:
            return
        step = largest / 127
        digit = (r / step).round_().clamp_(-127, 127)
        r = r - digit * step
        # a copy: a transposed matrix of one row or column counts as contiguous, but the product misreads its strides
        yield torch.empty(digit.T.shape, dtype=torch.int8).copy_(digit.T), step, r


def byte_digits(weights: Float[Tensor, "points columns"]) -> Int8[Tensor, "points four_times_columns"]:
    """floor(w) for 0 <= w <= `LARGEST_WEIGHT` as digits of -128 .. 127 to the base 256, least first, side by side."""
    # adding 128 to every digit makes bytes of them; flipping the leading bit of a byte takes 128 away as int8
    bits = -2139062144  # 0x80808080 as int32
    integers = torch.empty(weights.shape, dtype=torch.int32).copy_(weights).add_(bits).bitwise_xor_(bits)
    return integers.view(torch.int8)


def from_byte_digits(sums: Int32[Tensor, "rows four_times_columns"]) -> Float64[Tensor, "rows columns"]:
    """The sums of integers whose digits were summed."""
    digit = sums.reshape(len(sums), -1, 4).double()
    return digit[..., 0] + 256 * (digit[..., 1] + 256 * (digit[..., 2] + 256 * digit[..., 3]))


def integer_product(left: Int8[Tensor, "n k"], right: Int8[Tensor, "k m"]) -> Int32[Tensor, "n m"]:
    """left right, exactly, for k up to `LARGEST_INNER`."""
    return torch._int_mm(left, right)


@cache
def integer_products_are_exact(d: int) -> bool:
    """Whether the product of this library on this processor neither saturates nor overflows, tried at the extremes."""
    generator = torch.Generator().manual_seed(0)
    signs = torch.randint(0, 2, (96, d), generator=generator).to(torch.int8)
    left = torch.where(signs == 1, 127, -128).to(torch.int8)
    left[:16], left[16:32] = 127, -128
    right = torch.randint(-128, 128, (d, 64), generator=generator).to(torch.int8)
    right[:, :8], right[:, 8:16] = 127, -128
    try:
        product = integer_product(left, right)
    except (AttributeError, RuntimeError, NotImplementedError):
        return False
    return torch.equal(product.double(), left.double() @ right.double())


@cache
def integer_products_are_fast() -> bool:
    """Whether they take less time than the products in float64 that stand in for them (plain loops take more)."""
    left, right = torch.ones(ROWS, 256, dtype=torch.int8), torch.ones(256, 64, dtype=torch.int8)
    wide = left.double(), right.double()
    seconds = []
    for multiply in (lambda: integer_product(left, right), lambda: wide[0] @ wide[1]):
        tries = []
        for _ in range(4):
            start = time.perf_counter()
            multiply()
            tries.append(time.perf_counter() - start)
        seconds.append(min(tries))
    return seconds[0] < seconds[1]


def _levels(table: PointTable) -> tuple[float, float, int]:
    """Least and largest value, and how many equal steps between them hold all values of some rows; 256 for too many."""
    low, high = math.inf, -math.inf
    for start, stop in table.chunks(queries=0):
        rows = table.points[start:stop]
        low, high = min(low, float(rows.min())), max(high, float(rows.max()))
    if low == high:
        return low, high, 1
    few = max(1, 2**18 // table.points.shape[1])
    rows = table.points[torch.linspace(0, len(table) - 1, min(few, len(table))).long()]
    values = torch.cat([rows.double().flatten(), torch.tensor([low, high], dtype=torch.float64)]).unique()
    # values that were equal before they were rounded to floats are one
    gaps = values.diff()
    levels = round((high - low) / float(gaps[gaps > 1e-5 * (high - low)].min()))
    if levels > 255:
        return low, high, 256
    place = (values - low) * (levels / (high - low))
    return low, high, levels if float((place - place.round()).abs().max()) < 1e-3 else 256


def half_squares_of(sums: Float[Tensor, "rows columns"], grid: GridPoints) -> Float[Tensor, " columns"]:
    """sum w_i h_i, rounded up, from the extra rows of a product with weights."""
    return (256 * sums[1 - EXTRA] + sums[2 - EXTRA]) * grid.half_square_step
