r"""Outputs that share their sources: classes of pixels whose windows have one shape, along rows and along columns.

All outputs of a class read the same windows of all images, so that the logits of a query are one matrix product
(`window_products`). Along one axis a class is the first pixels of its windows, their length, and the place of the
output in them:

=====================  ================================================================================================
`circular_lines`       one class: all windows, which continue periodically
`boundary_lines`       one class of the windows inside the image, and one for every pixel nearer to an edge
=====================  ================================================================================================

A class of pixels is a class of rows and a class of columns.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor


@dataclass(frozen=True)
class Line:
    """Windows of `length` pixels that begin at the pixels `first`, of an axis of `pixels` that continues periodically.

    >>> circular_lines(4, 3)[0].windows().tolist()
    [[3, 0, 1], [0, 1, 2], [1, 2, 3], [2, 3, 0]]
    """

    first: range
    length: int
    output: int  # the output of a window is so many pixels behind its first
    pixels: int

    def windows(self) -> Int[Tensor, "windows length"]:
        """The pixels of every window."""
        return (torch.tensor(self.first)[:, None] + torch.arange(self.length)) % self.pixels

    def outputs(self) -> Int[Tensor, " windows"]:
        """The output of every window."""
        return self.windows()[:, self.output]


def circular_lines(pixels: int, size: int) -> list[Line]:
    """All windows of `size`, an odd number."""
    half = size // 2
    return [Line(range(-half, pixels - half), size, half, pixels)]


def boundary_lines(pixels: int, size: int) -> list[Line]:
    """The windows of `size`, an odd number, by what they lose at the edges.

    >>> [(line.first, line.length) for line in boundary_lines(5, 3)]
    [(range(0, 1), 2), (range(0, 3), 3), (range(3, 4), 2)]
    """
    half = size // 2
    lines = []
    for pixel in range(pixels):
        first, last = max(0, pixel - half), min(pixels - 1, pixel + half)
        if last - first + 1 < size:
            lines.append(Line(range(first, first + 1), last - first + 1, pixel - first, pixels))
        elif first == 0:
            lines.append(Line(range(pixels - size + 1), size, half, pixels))
    return lines
