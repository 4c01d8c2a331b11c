r"""The range of values, and the affine map from one range [a, b] to another,

.. math::  x \mapsto a' + \frac{x - a}{b - a}\,(b' - a') .
"""

from math import inf

from jaxtyping import Float32
from torch import Tensor

from diffuscope.byte_examples import ByteExamples
from diffuscope.errors import InputError

Range = tuple[float | int, float | int]
BYTES = (0.0, 255.0)  # what 8 bits can say


def in_words(data_range: Range) -> str:
    """A range as [low, high]."""
    return f"[{data_range[0]:g}, {data_range[1]:g}]"


def checked_range(data_range: Range, argument: str) -> Range:
    """`data_range` as two floats; raises InputError unless low < high are finite."""
    low, high = float(data_range[0]), float(data_range[1])
    if not -inf < low < high < inf:
        raise InputError(f"{argument}: got {low:g} {high:g}, expected two finite numbers, the lower first")
    return low, high


def rescaled(x: Float32[Tensor, "n *event"], old: Range, new: Range) -> Float32[Tensor, "n *event"]:
    """`x` with the range `old` mapped affinely to `new`."""
    if isinstance(x, ByteExamples):
        return x.mapped(lambda values: rescaled(values, old, new))
    # dividing first makes the fraction exactly 0 and 1 at the ends
    fraction = (x - old[0]).div_(old[1] - old[0])
    return fraction.mul_(new[1] - new[0]).add_(new[0])
