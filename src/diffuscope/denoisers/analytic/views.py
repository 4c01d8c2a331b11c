r"""What an output of an analytic denoiser sees of the query, and where in the images its answers come from.

Output r weighs source s by what it sees through a mask :math:`m_{rp} \ge 0` over pixels p, at a shift :math:`\tau`:

.. math::
    w_{r,s} \propto \exp\Big(-\frac{1}{2\sigma^2} \sum_p m_{rp}\, |x_p - \alpha y_{i, p+\tau}|^2\Big), \qquad
    s = (i, \tau).

Square windows are products of a mask over rows and one over columns: two banded matrices. One `View` is one shift, for
all outputs that have it, so that sources are the images times the views:

=====================  ================================================================================================
`local_views`          no shift; the window around a pixel is cut at the edge of the image
`circular_views`       all H W shifts; image and query continue periodically
`boundary_views`       shifts between pixels of one class: those whose windows lose the same rows and columns at the
                       edges. Interior pixels share all their windows, a pixel at an edge those along the edge at its
                       own distance from it, one near a corner only its own
`crop_views`           no shift; an output is a whole k x k crop inside the image
`MaskView`             no shift; any mask for every output value, such as one from principal components
=====================  ================================================================================================

Sources: Kamb & Ganguli 2024 (https://arxiv.org/abs/2412.20292) for the first three, Niedoba et al. 2024
(https://arxiv.org/abs/2411.19339) for crops.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

Pixels = Float[Tensor, "batch channels height width"]
Sources = Float[Tensor, "channels height width images"]
Squares = Float[Tensor, "batch channels height width images"]
Responses = Float[Tensor, "batch groups rows columns images"]
Spread = Float[Tensor, "batch groups height width images"]


@runtime_checkable
class View(Protocol):
    """One shift between query and images. Pixels beyond the edge continue periodically."""

    @property
    def groups(self) -> int:
        """1 where all channels of an output share their weights, else the number of channels."""
        ...

    def to(self, like: Tensor) -> "View":
        """The same view, its masks in the precision and on the device of `like`, for which it is used."""
        ...

    @property
    def outputs(self) -> tuple[slice, slice]:
        """The outputs that have this shift, in the map of all outputs."""
        ...

    @property
    def query(self) -> tuple[slice, slice]:
        """The pixels that they see of the query."""
        ...

    @property
    def source(self) -> tuple[slice, slice]:
        """The pixels of the images that these are compared with."""
        ...

    @property
    def center(self) -> tuple[slice, slice]:
        """The pixels of the images that correspond to the outputs."""
        ...

    def sums(self, squares: Squares) -> Responses:
        """sum_p m_rp squares_p of every output, over channels too; one group, or one per channel."""
        ...

    def spread(self, weights: Responses) -> Spread:
        """sum_r m_rp weights_r of every pixel: the transpose of `sums`."""
        ...


@dataclass(frozen=True, eq=False)
class Axis:
    """A view along rows or columns; `window` is 1 where an output sees a pixel of the query."""

    outputs: slice
    query: slice
    source: slice
    window: Float[Tensor, "outputs pixels"]

    @property
    def center(self) -> slice:
        shift = self.source.start - self.query.start
        return slice(self.outputs.start + shift, self.outputs.stop + shift)

    def to(self, like: Tensor) -> "Axis":
        return Axis(self.outputs, self.query, self.source, self.window.to(like))


@dataclass(frozen=True, eq=False)
class SquareView:
    """The product of a view along rows and one along columns."""

    rows: Axis
    columns: Axis
    groups: int = 1

    def to(self, like: Tensor) -> "SquareView":
        return SquareView(self.rows.to(like), self.columns.to(like))

    @property
    def outputs(self) -> tuple[slice, slice]:
        return self.rows.outputs, self.columns.outputs

    @property
    def query(self) -> tuple[slice, slice]:
        return self.rows.query, self.columns.query

    @property
    def source(self) -> tuple[slice, slice]:
        return self.rows.source, self.columns.source

    @property
    def center(self) -> tuple[slice, slice]:
        return self.rows.center, self.columns.center

    def sums(self, squares: Squares) -> Responses:
        squares = squares if squares.shape[1] == 1 else squares.sum(1, keepdim=True)
        return _separable(self.rows.window, self.columns.window, squares)

    def spread(self, weights: Responses) -> Spread:
        return _separable(self.rows.window.T, self.columns.window.T, weights)


@dataclass(frozen=True, eq=False)
class MaskView:
    """No shift: `masks[r, p]` weighs value p of the query (channel, row, column) for value r of the output."""

    masks: Float[Tensor, "values values"]
    height: int
    width: int

    @property
    def groups(self) -> int:
        return len(self.masks) // (self.height * self.width)

    def to(self, like: Tensor) -> "MaskView":
        return MaskView(self.masks.to(like), self.height, self.width)

    @property
    def outputs(self) -> tuple[slice, slice]:
        return slice(0, self.height), slice(0, self.width)

    query = source = center = outputs

    def sums(self, squares: Squares) -> Responses:
        return (self.masks @ squares.flatten(1, 3)).reshape(squares.shape)

    def spread(self, weights: Responses) -> Spread:
        return (self.masks.T @ weights.flatten(1, 3)).reshape(weights.shape)


def local_views(height: int, width: int, size: int) -> Iterator[View]:
    """The same location of all images; pixels outside the image are ignored."""
    yield SquareView(_cut(height, size), _cut(width, size))


def circular_views(height: int, width: int, size: int) -> Iterator[View]:
    """All locations of all images, which continue periodically."""
    for rows, columns in product(_turned(height, size), _turned(width, size)):
        yield SquareView(rows, columns)


def boundary_views(height: int, width: int, size: int) -> Iterator[View]:
    """All locations whose window loses the same rows and columns at the edges of the image."""
    for rows, columns in product(_along_edges(height, size), _along_edges(width, size)):
        yield SquareView(rows, columns)


def crop_views(height: int, width: int, size: int) -> Iterator[View]:
    """The same location of all images; the outputs are the crops inside the image."""
    yield SquareView(_inside(height, size), _inside(width, size))


def _separable(rows: Tensor, columns: Tensor, values: Tensor) -> Tensor:
    """values[..., h, w, n] summed over rows and columns."""
    batch, groups, height, width, images = values.shape
    summed = rows @ values.reshape(batch * groups, height, width * images)
    summed = columns @ summed.reshape(-1, width, images)
    return summed.reshape(batch, groups, len(rows), len(columns), images)


def _cut(length: int, size: int) -> Axis:
    pixels = torch.arange(length)
    window = ((pixels[:, None] - pixels).abs() <= size // 2).double()
    return Axis(slice(0, length), slice(0, length), slice(0, length), window)


def _turned(length: int, size: int) -> Iterator[Axis]:
    pixels = torch.arange(length)
    apart = (pixels[:, None] - pixels) % length
    window = ((apart <= size // 2) | (apart >= length - size // 2)).double()
    for shift in range(length):
        yield Axis(slice(0, length), slice(0, length), slice(shift, shift + length), window)


def _along_edges(length: int, size: int) -> Iterator[Axis]:
    yield _cut(length, size)
    half, interior = size // 2, length - size + 1
    for shift in range(1 - interior, interior):
        if shift != 0:
            first, last = max(0, -shift), min(interior, interior - shift)  # windows, numbered by their first pixel
            yield Axis(
                slice(first + half, last + half),
                slice(first, last + size - 1),
                slice(first + shift, last + size - 1 + shift),
                _inside(last - first + size - 1, size).window,
            )


def _inside(length: int, size: int) -> Axis:
    apart = torch.arange(length) - torch.arange(length - size + 1)[:, None]
    return Axis(
        slice(0, length - size + 1), slice(0, length), slice(0, length), ((apart >= 0) & (apart < size)).double()
    )
