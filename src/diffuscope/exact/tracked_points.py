r"""Points on a grid of integers, for products that are free of rounding errors.

Every point is written with m digits of 8 bits,

.. math::
    y_i = o + s\, \tilde y_i + R_i, \qquad \tilde y_i = \sum_{j < m} 256^{-j}\, Y_{ji}, \qquad
    Y_{ji} \in \{-128, \dots, 127\}^d .

Pictures that were bytes need one digit, and |R_i| is the rounding of their floats; other data get two. What multiplies
the points is written with digits too, and the products are exact (see `_integers`).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int8
from torch import Tensor

from diffuscope.byte_examples import as_floats
from diffuscope.memory import chunk_size, ranges

from ._screening import PointTable

ROWS = 4096  # points in one product: what follows it is done while it lies in the cache
EXTRA = 16  # columns beside the points' coordinates in the products with weights, of which three are used


@dataclass(frozen=True, eq=False)
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
        for rows in (slice(*ends) for ends in ranges(len(table), ROWS)):
            rest = as_floats(table.points[rows]).to(torch.float64, copy=True).sub_(offset).div_(step)
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
        residual += 8 * 2.0**-53 * math.sqrt(table.points.shape[1]) * (max(-low, high) + abs(offset))
        pieces = tuple(tuple(columns) for columns in transposed)
        return cls(
            planes, pieces, offset, step, residual, tuple(norms), float(table.half_squares.sum()), half_square_step
        )

    def __len__(self) -> int:
        return len(self.planes[0])

    def ranges(self) -> Iterator[slice]:
        return (slice(*ends) for ends in ranges(len(self), ROWS))

    @property
    def norm(self) -> float:
        """A bound on the norm of every y~_i."""
        return sum(norm / 256**j for j, norm in enumerate(self.norms))


def _levels(table: PointTable) -> tuple[float, float, int]:
    """Least and largest value, and how many equal steps between them hold all values of some rows; 256 for too many."""
    low, high = math.inf, -math.inf
    for start, stop in table.chunks(queries=0):
        rows = table.points[start:stop]
        low, high = min(low, float(rows.min())), max(high, float(rows.max()))
    if low == high:
        return low, high, 1
    few = chunk_size(2**18, each=table.points.shape[1])
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
