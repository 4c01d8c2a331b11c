r"""Exact averages over all images and all shifts, by an online log-sum-exp: no subset, no average of batches.

With the costs :math:`c_{rs} = \sum_p m_{rp} |x_p - \alpha y_{i,p+\tau}|^2 / 2\sigma^2` of the sources s of output r,

.. math::
    D_r = \frac{\sum_s e^{-c_{rs}}\, y_s}{\sum_s e^{-c_{rs}}} \quad (\text{center}), \qquad
    D_p = \frac{\sum_r m_{rp} \sum_s w_{rs}\, y_{s,p}}{\sum_r m_{rp}}, \quad
    w_{rs} = \frac{e^{-c_{rs}}}{\sum_{s'} e^{-c_{rs'}}} \quad (\text{overlap}).

A running maximum of -c keeps every exponential in range, and what was summed before is scaled when it grows; so the
result does not depend on how images or queries are divided. Costs are sums of squared *differences*, nonnegative terms
with no cancellation: their relative error is a few units of rounding, and the error of a log-weight that of the least
cost, :math:`\delta = 8 u\, c_{\min}`. In float32 (u = 6e-8) that is allowed to reach `TOLERANCE`; a query beyond it is
computed again in float64. At alpha = 0 all weights are equal.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from .views import Pixels, Sources, View

Combination = Callable[..., tuple[Pixels, Float[Tensor, " batch"]]]
MEMORY = 128 * 2**20
BUFFERS = 6  # arrays of (query, pixel, image) that are alive at once
WORKING = 2**17  # values of one such array: what stays in the cache of a core


@dataclass(frozen=True, eq=False)
class LogSum:
    """Running maximum and sum of exp(-cost) of every output, and their moments with the source values."""

    top: Float[Tensor, "batch groups rows columns"]
    mass: Float[Tensor, "batch groups rows columns"]
    moment: Float[Tensor, "batch channels rows columns"]

    @classmethod
    def empty(cls, batch: int, groups: int, channels: int, rows: int, columns: int) -> "LogSum":
        zeros = torch.zeros(batch, groups, rows, columns, dtype=torch.float64)
        return cls(zeros - torch.inf, zeros, torch.zeros(batch, channels, rows, columns, dtype=torch.float64))

    def add(self, outputs: tuple[slice, slice], costs: Tensor, values: Sources | None) -> None:
        """The sources of one chunk and view; `costs` (batch, groups, rows, columns, images) is overwritten."""
        at = (slice(None), slice(None), *outputs)
        logits = costs.neg_()
        peak = logits.amax(-1).double()
        top = torch.maximum(self.top[at], peak)
        weights = logits.sub_(top.to(logits)[..., None]).exp_()
        # the maximum as rounded to the working precision is what was subtracted
        top = top.to(logits).double()
        scale = (self.top[at] - top).exp()
        self.top[at] = top
        self.mass[at] = self.mass[at] * scale + weights.sum(-1).double()
        if values is not None:
            self.moment[at] = self.moment[at] * scale + (weights * values).sum(-1).double()

    @property
    def log(self) -> Float[Tensor, "batch groups rows columns"]:
        return self.top + self.mass.log()


def center_mean(
    x_t: Pixels,
    images: Sources,
    views: Sequence[View],
    alpha: float,
    sigma: float,
    *,
    working: torch.dtype,
    memory: int,
) -> tuple[Pixels, Float[Tensor, " batch"]]:
    """D_r of the values at the outputs' own pixels, in float64, and the largest of their least costs for every query.

    Memory: about `memory` bytes besides the images, the queries and the answer.
    """
    return _by_blocks(_center, x_t, images, views, alpha, sigma, working, memory)


def overlap_mean(
    x_t: Pixels,
    images: Sources,
    views: Sequence[View],
    alpha: float,
    sigma: float,
    *,
    working: torch.dtype,
    memory: int,
) -> tuple[Pixels, Float[Tensor, " batch"]]:
    """D_p of the posterior means of all outputs that see pixel p, and the largest of their least costs.

    Two passes over the images: the sums of weights first, then the weighted values. Memory: as `center_mean`.
    """
    return _by_blocks(_overlap, x_t, images, views, alpha, sigma, working, memory)


def _by_blocks(block, x_t, images, views, alpha, sigma, working, memory):
    pairs = max(1, min(WORKING, memory // (BUFFERS * working.itemsize)) // images[..., 0].numel())
    chunk = min(pairs, images.shape[-1])
    scaled = x_t.to(working) / (2**0.5 * sigma)
    parts = [block(rows, images, views, alpha, 2**0.5 * sigma, chunk) for rows in scaled.split(max(1, pairs // chunk))]
    return torch.cat([mean for mean, _ in parts]), torch.cat([cost for _, cost in parts])


def _center(x, images, views, alpha, unit, chunk):
    sums = None
    for view, values, costs in _costs(x, images, views, alpha, unit, chunk):
        if sums is None:
            sums = LogSum.empty(len(x), costs.shape[1], *x.shape[1:])
        sums.add(view.outputs, costs, values[:, *view.center])
    assert sums is not None
    return sums.moment / sums.mass, -sums.top.flatten(1).amin(1)


def _overlap(x, images, views, alpha, unit, chunk):
    sums = None
    rows, columns = (max(view.outputs[axis].stop for view in views) for axis in (0, 1))
    for view, _, costs in _costs(x, images, views, alpha, unit, chunk):
        if sums is None:
            sums = LogSum.empty(len(x), costs.shape[1], costs.shape[1], rows, columns)
        sums.add(view.outputs, costs, None)
    assert sums is not None
    total, cover = torch.zeros(x.shape, dtype=torch.float64), torch.zeros(x.shape[2:], dtype=torch.float64)
    normalizer = sums.log.to(x)
    for view, values, costs in _costs(x, images, views, alpha, unit, chunk):
        weights = (-costs - normalizer[:, :, *view.outputs, None]).exp_()
        total[:, :, *view.query] += (view.spread(weights) * values[:, *view.source]).sum(-1).double()
    for view in views:
        ones = torch.ones(1, 1, *(part.stop - part.start for part in view.outputs), 1, dtype=torch.float64)
        cover[view.query] = view.spread(ones)[0, 0, :, :, 0]
    return total / cover, -sums.top.flatten(1).amin(1)


def _costs(
    x: Pixels, images: Sources, views: Iterable[View], alpha: float, unit: float, chunk: int
) -> Iterator[tuple[View, Sources, Tensor]]:
    """(view, values of a chunk of images, costs of its sources) for all chunks and views; `x` is in units of `unit`."""
    views = list(views)
    rows, columns = (torch.arange(max(view.source[axis].stop for view in views)) for axis in (0, 1))
    periodic = len(rows) > images.shape[1] or len(columns) > images.shape[2]
    for start in range(0, images.shape[-1], chunk):
        values = images[..., start : start + chunk].to(x)
        if periodic:
            values = values[:, rows % images.shape[1]][:, :, columns % images.shape[2]]
        scaled = values * (alpha / unit)
        for view in views:
            squares = (x[:, :, *view.query, None] - scaled[:, *view.source]).square_()
            yield view, values, view.sums(squares)
