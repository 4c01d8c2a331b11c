r"""Scores whose sources are all windows of a class, by matrix products of windows in float64.

Centered at a background b, :math:`\tilde x = x - \alpha b` and :math:`\tilde y = y - b`, the logit of window p of image
i for the window q of a query is, up to what does not depend on the source,

.. math::
    l_{q, (p, i)} = \frac{\alpha}{\sigma^2} \sum_d \tilde x_{q+d}\, \tilde y_{i, p+d}
    - \frac{\alpha^2}{2\sigma^2} \sum_d \tilde y_{i, p+d}^2 :

one matrix product of all windows of the query with a tile of windows of the images, the squares as one column more.
The background is the median value of every channel. A window that is all background has the logit 0 for every query,
and such windows are counted instead of computed; of the 3 x 3 windows of MNIST they are two thirds.

The difference of two large terms is rounded by about

.. math::
    \delta = 4 u\, \frac{K \alpha}{\sigma^2} \max|\tilde y| \left(\max|\tilde x| + \tfrac12 \alpha \max|\tilde y|\right)

with the unit roundoff u and K values in a window, which moves a mean of values in an interval of length R by at most
:math:`\delta R / 2`. `rounding` computes it; where it is too large, take the sums of squared differences
(`aggregation`).
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence

import torch
from jaxtyping import Bool, Float64, Int
from torch import Tensor

from diffuscope.memory import chunk_size, ranges

from .shared_windows import Line
from .views import Pixels, Sources
from .weighted_sums import WeightedSums

OUTPUTS = 1024  # of one product
WORKING = 2**17  # logits of one tile: what stays in the cache of a core
BUFFERS = 6  # arrays of (values of a window, images) alive at once
Background = Float64[Tensor, " channels"]
Rows, Columns = Int[Tensor, "rows 1"], Int[Tensor, " columns"]


def background(images: Sources) -> Background:
    """The median value of every channel, of at most 1,000 images."""
    return images[..., :1000].flatten(1).median(1).values.double()


def rounding(x_t: Pixels, images: Sources, values: int, alpha: float, sigma: float) -> Float64[Tensor, " batch"]:
    """delta of every query, for windows of so many values."""
    at = background(images)
    least, most = (ends.double() for ends in images.flatten(1).aminmax(dim=1))  # images.abs() would be a copy of them
    y = float(torch.maximum(at - least, most - at).max())
    x = (x_t.double() - alpha * at.to(x_t.device)[:, None, None]).abs().amax((1, 2, 3))
    return 2 * torch.finfo(torch.float64).eps * values * (alpha / sigma**2) * y * (x + alpha * y / 2)


def window_means(
    x_t: Pixels, images: Sources, classes: Iterable[tuple[Line, Line]], alpha: float, sigma: float, *, memory: int
) -> Iterator[tuple[Rows, Columns, Float64[Tensor, "batch channels rows columns"]]]:
    """(rows, columns, means in float64) of the outputs of every class, over its windows in all images.

    Memory: about `memory` bytes besides the images, one byte for each of their pixels, the queries, their windows and
    the answer.
    """
    at = background(images)
    x = x_t.double() - alpha * at.to(x_t.device)[:, None, None]
    active = (images != at.to(images)[:, None, None, None]).any(0).flatten(0, 1)
    for line, column in classes:
        queries = _windows(x, line, column) * (alpha / sigma**2)
        blocks = [_Block(part, -(alpha**2) / (2 * sigma**2), x.shape[1]) for part in queries.split(OUTPUTS)]
        _add_windows(blocks, images, at, active, line, column, memory)
        means = torch.cat([block.sums.mean() for block in blocks], 1)
        means = means.reshape(x.shape[1], len(x), len(line.first), len(column.first)).transpose(0, 1)
        yield line.outputs()[:, None], column.outputs(), means + at.to(x.device)[:, None, None]


def active_share(images: Sources, line: Line, column: Line) -> float:
    """The share of windows that are not all background, in at most 100 images."""
    some = images[..., :100]
    active = (some != background(images).to(some)[:, None, None, None]).any(0)
    rows = active[line.windows().to(some.device)].any(1)
    return float(rows[:, column.windows().to(some.device)].any(2).double().mean())


class _Block:
    """Some windows of queries, as rows of a product with (1, window of an image, its squares): the logits."""

    def __init__(self, windows: Float64[Tensor, "outputs values"], factor: float, channels: int) -> None:
        before, behind = torch.zeros_like(windows[:, :1]), torch.full_like(windows[:, :1], factor)
        self.left = torch.cat([before, windows, behind], 1)
        self.sums = WeightedSums(len(windows), channels=channels, device=windows.device)

    def add(
        self, right: Float64[Tensor, "values sources"], values: Float64[Tensor, "rows sources"], out: Tensor
    ) -> None:
        """One tile of sources; `out` is memory that is in the cache already."""
        logits = out[: len(self.left) * right.shape[1]].view(len(self.left), right.shape[1])

        def products(reference: Tensor) -> Tensor:
            self.left[:, 0] = -reference
            return torch.mm(self.left, right, out=logits)

        self.sums.add(products, values)


def _windows(x: Tensor, line: Line, column: Line) -> Float64[Tensor, "outputs values"]:
    """The windows of all queries, query by query."""
    found = x[:, :, line.windows()[:, None, :, None], column.windows()[None, :, None, :]]
    return found.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(0, 2)


def _add_windows(
    blocks: Sequence[_Block],
    images: Sources,
    at: Background,
    active: Bool[Tensor, "pixels images"],
    line: Line,
    column: Line,
    memory: int,
) -> None:
    """All windows of one class, in tiles; of those that are all background the number."""
    largest, like = len(blocks[0].left), blocks[0].left
    tile = max(1, torch.get_num_threads() * WORKING // largest)
    out = like.new_empty(tile * largest)
    output, blank = line.output * column.length + column.output, 0
    for pixels in _pixels(line, column).to(images.device):
        answers = [0, *range(1 + output, 1 + len(images) * len(pixels), len(pixels))]  # the ones, and the outputs
        size = chunk_size(memory, each=8 * BUFFERS * len(images) * len(pixels))
        for piece in itertools.starmap(slice, ranges(images.shape[-1], size)):
            differ = active[pixels, piece].any(0).nonzero()[:, 0]
            blank += len(active[0, piece]) - len(differ)
            windows = images.flatten(1, 2)[:, pixels, piece].index_select(2, differ)
            right = like.new_ones(2 + windows.shape[0] * windows.shape[1], len(differ))
            right[1:-1] = windows.flatten(0, 1)
            right[1:-1] -= at.to(like).repeat_interleave(len(pixels))[:, None]
            right[-1] = right[1:-1].square().sum(0)
            values = right[answers]
            for start in range(0, len(differ), tile):
                some = slice(start, start + tile)
                for block in blocks:
                    block.add(right[:, some], values[:, some], out)
    for block in blocks:
        block.sums.add_equal(blank)


def _pixels(line: Line, column: Line) -> Int[Tensor, "windows pixels"]:
    """The places in a flattened image of every window."""
    return (
        (line.windows()[:, None, :, None] * column.pixels + column.windows()[None, :, None, :]).flatten(2).flatten(0, 1)
    )
