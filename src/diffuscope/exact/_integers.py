r"""Products of 8-bit integers, which are free of rounding errors, and the digits that write other numbers for them.

A matrix product of 8-bit integers with sums of 32 bits makes no error at all while :math:`2^{14} \times` its inner
length is below :math:`2^{31}`, whatever the order of summation; in float32 it is wrong by up to (d + 4) u |q| |y|.
Recent processors have fast instructions for it. `integer_products_are_exact` tries the product on the extreme values,
since kernels for older processors saturate, and `integer_products_are_fast` on the clock.

`digits` takes a matrix r to integers of at most 127 with

.. math::  r = \sum_n t_n d_n + e, \qquad |e| \le t_n / 2 \text{ in every entry after } n \text{ digits},

and weights between 0 and :math:`2^{31}` are four digits to the base 256 as they lie in memory (`byte_digits`).
"""

import math
import time
from collections.abc import Iterator
from functools import cache

import torch
from jaxtyping import Float, Float64, Int8, Int32
from torch import Tensor

LARGEST_INNER = 2**16  # 2^14 times this is 2^30
LARGEST_WEIGHT = 2.0e9  # below 127 (1 + 256 + 256^2 + 256^3)


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
def integer_products_are_fast(
    *, than: torch.dtype = torch.float64, digits: int = 1, inner: int = 256, times: float = 1.0
) -> bool:
    """Whether with so many digits on the right they are `times` as fast as the products of floats they stand in for.

    On processors that have no instructions for them plain loops take longer than either.
    """
    left, right = torch.ones(2**20 // inner, inner, dtype=torch.int8), torch.ones(inner, 64 * digits, dtype=torch.int8)
    floats = left.to(than), right[:, :64].to(than)
    seconds = []
    for multiply in (lambda: integer_product(left, right), lambda: floats[0] @ floats[1]):
        tries = []
        for _ in range(4):
            start = time.perf_counter()
            multiply()
            tries.append(time.perf_counter() - start)
        seconds.append(min(tries))
    return times * seconds[0] < seconds[1]
