r"""Products of bytes with float32 queries and weights that are written with digits of 8 bits: exact sums of integers.

A byte less 128 is an integer z of 8 bits, so that a point is :math:`y = o' + s z`, and the sums over its coordinates,
of thousands of terms, make no error (see `_integers`).

**Scores.** A query is :math:`q = |q|_\infty \sum_{n \le 3} t_n d_n + e` with a remainder e that is known in float64,
about :math:`10^{-7} |q|`. With integers :math:`m_n` nearest to the mean of the :math:`d_n \cdot z_i`,

.. math::
    q \cdot y_i = \text{const} + s\, |q|_\infty \sum_n t_n (d_n \cdot z_i - m_n) + e \cdot (y_i - c) ,

where the sum is what is computed and c is the mean of the points. Leaving out the last term is an error of at most
:math:`|e| \max |y - c|`. The integers are added up in float32 (u its roundoff): five roundings of the sum, two for the
factor, one when the rest of the score is added, together at most
:math:`8 u\, |q|_\infty \sum_n t_n |d_n| \max |y - c|`, without the factor d of a product of floats.

**Weights.** Relative to the largest of its chunk a weight is at most one. It becomes the integer
:math:`I_i = \lfloor L w_i + \phi_i \rfloor`, three digits, with a random :math:`\phi_i` in [0, 1) for every point
(stochastic rounding). So the expectation of :math:`I_i` is :math:`L w_i`, the roundings of different points are
independent, each with a variance of at most 1/4, and

.. math::
    E \Big| \sum_i (w_i - I_i / L)\, s z_i \Big|^2 \le \frac{N}{4 L^2} \max |s z|^2 , \qquad L = 8.35 \cdot 10^6 .
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import torch
from jaxtyping import Float, Float64, Int, Int8, Int32, UInt8
from torch import Tensor

from diffuscope.memory import ranges

from ._integers import byte_digits, digits, integer_product
from ._products import CHUNK, Products

DIGITS = 3  # of a query
WEIGHT_DIGITS = 3
LARGEST = 8.35e6  # L: below 127 (1 + 256 + 256^2) by more than rounding adds to a weight
COLUMNS = 128  # of weights in one product


@dataclass(frozen=True, eq=False)
class DigitProducts:
    """Some queries, to be multiplied with the bytes of the points."""

    products: Products  # of the bytes as they are
    digits: Int8[Tensor, "d digits_times_batch"]  # the first of all queries, then the second of all
    ratios: tuple[float, ...]  # of their steps to the first
    factor: Float64[Tensor, " batch"]  # s |q|_inf t_1
    centers: Int32[Tensor, " digits_times_batch"]  # m_n
    constants: Float64[Tensor, " batch"]
    left: Float64[Tensor, " batch"]  # |e|
    sizes: Float64[Tensor, " batch"]  # |q|_inf sum t_n |d_n|
    offset: Float64[Tensor, " d"]  # o'
    radius: float  # max |y - c|
    shift: float  # |c - o'|

    @classmethod
    def of(cls, products: Products, queries: Float[Tensor, "batch d"], radius: float) -> "DigitProducts":
        """Of finite queries and `products` of bytes from which nothing is subtracted."""
        q = queries.double()
        size = q.abs().amax(1).clamp_min(torch.finfo(torch.float64).tiny)
        r = q / size[:, None]
        found = list(islice(digits(r), DIGITS)) or [(torch.zeros(q.T.shape, dtype=torch.int8), 1.0, r)]
        steps, e = [step for _, step, _ in found], found[-1][2] * size[:, None]
        side_by_side = torch.cat([digit for digit, _, _ in found], 1)
        offset = products.offset + 128 * products.scale
        from_offset = products.center - offset
        wide = side_by_side.double()
        centers = (from_offset / products.scale @ wide).round()
        norms = wide.norm(dim=0).reshape(len(steps), -1)
        t = torch.tensor(steps, dtype=torch.float64)
        factor = products.scale * size * steps[0]
        return cls(
            products=products,
            digits=side_by_side,
            ratios=tuple(step / steps[0] for step in steps),
            factor=factor,
            centers=centers.int(),
            constants=q @ offset + e @ from_offset + products.scale * size * (t @ centers.reshape(len(steps), -1)),
            left=e.norm(dim=1) + 1e-15 * q.norm(dim=1),
            sizes=size * (t @ norms) + (factor / products.scale).abs(),  # the latter: m_n is off the mean by 1/2
            offset=offset,
            radius=radius,
            shift=float(from_offset.norm()),
        )

    @property
    def scale(self) -> float:
        return self.products.scale

    @property
    def deviation(self) -> float:
        return self.products.deviation

    @property
    def half_squares(self) -> Float[Tensor, " points"]:
        return self.products.half_squares

    @property
    def typical_norm(self) -> float:
        """The root mean square of |s z|."""
        return float((2 * self.half_squares.mean() + self.shift**2).sqrt())

    def constant(self, queries: Float[Tensor, "batch d"]) -> Float[Tensor, " batch"]:  # noqa: ARG002
        """What is left out of all scores of these queries, with which this was made."""
        return self.constants

    def product_bound(self, queries: Float[Tensor, "batch d"]) -> Float[Tensor, " batch"]:
        """How far the products may be off."""
        return self.left * self.radius + 4 * torch.finfo(queries.dtype).eps * self.sizes * self.radius

    product_error = product_bound

    def add_at(
        self,
        scores: Float[Tensor, "rows batch"],
        indices: Int[Tensor, " rows"],
        queries: Float[Tensor, "batch d"],  # noqa: ARG002
    ) -> None:
        """The products of these few points are added to the scores."""
        self.add(scores, integers_of(self.products.points.rows(indices).bytes))  # type: ignore

    def add(self, scores: Float[Tensor, "rows batch"], z: Int8[Tensor, "rows d"]) -> None:
        """The products of these integers are added to the scores."""
        sums = integer_product(z, self.digits).sub_(self.centers)
        first, *others = sums.split(scores.shape[1], 1)
        total = first.to(scores.dtype)
        for digit, ratio in zip(others, self.ratios[1:], strict=True):
            total.add_(digit, alpha=ratio)
        scores.addcmul_(total, self.factor.to(scores.dtype))

    def over(self, queries: Float[Tensor, "batch d"], memory: int) -> "DigitPass":
        """A pass over all points."""
        return DigitPass(self, len(queries), memory)


class DigitPass:
    """One pass over all points: a chunk of integers, made once for both products."""

    def __init__(self, by: DigitProducts, batch: int, memory: int) -> None:
        self._by, self._n, d = by, len(by.products.points), len(by.digits)
        rows = min(memory // 8, CHUNK) // (d + 16 * batch)
        self._rows = min(8192, self._n, max(16, rows // 16 * 16))
        self._buffer = torch.empty(self._rows, d, dtype=torch.uint8)
        self._generator = torch.Generator().manual_seed(0)
        self._variance = (by.radius + by.shift) ** 2 / 4

    def chunks(self) -> Iterator[tuple[int, int]]:
        return ranges(self._n, self._rows)

    def add_products(self, scores: Float[Tensor, "rows batch"], start: int, stop: int) -> None:
        """The products of the points start .. stop are added to their scores."""
        self._z = integers_of(self._by.products.raw(start, stop), self._buffer[: stop - start])
        self._by.add(scores, self._z)

    def add_weighted(
        self,
        collected: Float[Tensor, "batch d"],
        weights: Float[Tensor, "rows columns"],
        columns: Int[Tensor, " columns"] | None,
        heights: Float[Tensor, " columns"],
    ) -> Float64[Tensor, " columns"]:
        """The sums of the weighted z of this chunk are added to those rows of `collected`, None for all.

        `heights` are the logarithms of the largest weights. Returns the variance of the s z that rounding adds to.
        """
        n = len(weights)
        units = heights.double().exp() / LARGEST
        dither = torch.rand(n, 1, dtype=weights.dtype, generator=self._generator)
        integers = byte_digits(torch.addcmul(dither, weights, (1 / units).to(weights.dtype))).view(n, -1, 4)
        for start in range(0, weights.shape[1], COLUMNS):
            some = slice(start, start + COLUMNS)
            by_digit = integers[:, some, :WEIGHT_DIGITS].permute(2, 1, 0)
            # as with digits of queries: a copy whose strides are those of its shape
            left = torch.empty(by_digit.shape, dtype=torch.int8).copy_(by_digit).view(-1, n)
            sums = integer_product(left, self._z).view(WEIGHT_DIGITS, -1, self._z.shape[1])
            total = sums[-1].to(collected.dtype)
            for below in range(1, WEIGHT_DIGITS):
                total.add_(sums[-1 - below], alpha=256.0**-below)
            total.mul_((256 ** (WEIGHT_DIGITS - 1) * units[some, None]).to(collected.dtype))
            collected[some if columns is None else columns[some]] += total
        return n * self._variance * units.square()


def integers_of(
    bytes: UInt8[Tensor, "rows d"], buffer: UInt8[Tensor, "rows d"] | None = None
) -> Int8[Tensor, "rows d"]:
    """Bytes less 128, in the buffer if there is one: 128 flips their leading bit."""
    return torch.bitwise_xor(bytes, 128, out=buffer).view(torch.int8)
