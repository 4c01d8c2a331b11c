r"""Exact averages over all images and all shifts, by an online log-sum-exp: no subset, no average of batches.

With the costs :math:`c_{rs} = \sum_p m_{rp} |x_p - \alpha y_{i,p+\tau}|^2 / 2\sigma^2` of the sources s of output r,

.. math::
    D_r = \frac{\sum_s e^{-c_{rs}}\, y_s}{\sum_s e^{-c_{rs}}} \quad (\text{center}), \qquad
    D_p = \frac{\sum_r m_{rp} \sum_s w_{rs}\, y_{s,p}}{\sum_r m_{rp}}, \quad
    w_{rs} = \frac{e^{-c_{rs}}}{\sum_{s'} e^{-c_{rs'}}} \quad (\text{overlap}).

A running minimum of c keeps every exponential in range, and what was summed before is scaled when it falls; so the
result does not depend on how images or queries are divided. At alpha = 0 all weights are equal. Weights below e^-60 of
the largest count as that, or as zero where those of a whole chunk do: a billion of them are below float64's roundoff.

Costs are sums of squared *differences*: nonnegative terms, no cancellation among them. With unit roundoff u, and x and
alpha y up to S units of :math:`\sqrt2\sigma`, rounding moves a cost by about

.. math::  \delta = 2 u \left(2 c + S \sqrt{c}\right)

(independent rounding of P pixels; the worst case has :math:`S \sqrt{P c}`). Log-weights off by delta move a mean of
values in an interval of length R by at most a posterior mean deviation times delta,

.. math::
    |\Delta D_r| \le \delta \sum_s w_s |y_s - D_r|
    \le \delta\, R\, \min\left(\tfrac12,\, 2 (1 - \max_s w_s)\right) .
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.memory import chunk_size

from .views import Pixels, Responses, Sources, View

MEMORY = 128 * 2**20
BUFFERS = 14  # arrays of (query, pixel, image) alive at once; images continued periodically take four each
WORKING = 2**18  # values of one such array: what stays in the cache of a core
NEGLIGIBLE = 60.0  # 10^9 exp(-60) = 9e-18


@dataclass(frozen=True, eq=False)
class Averages:
    """The answer in float64, and per query its largest rounding error, as a share of the range of the images."""

    mean: Pixels
    error: Float[Tensor, " batch"]


@runtime_checkable
class Combination(Protocol):
    """`center_mean` or `overlap_mean`."""

    def __call__(
        self,
        x_t: Pixels,
        images: Sources,
        views: Sequence[View],
        alpha: float,
        sigma: float,
        *,
        memory: int,
    ) -> Averages: ...


def center_mean(
    x_t: Pixels,
    images: Sources,
    views: Sequence[View],
    alpha: float,
    sigma: float,
    *,
    working: torch.dtype = torch.float64,
    memory: int = MEMORY,
) -> Averages:
    """D_r, the mean of the values at the outputs' own pixels, computed in `working` precision, summed in float64.

    Memory: about `memory` bytes besides the images, the queries and the answer (at least a few images).
    """
    return _by_blocks(_center, x_t, images, views, alpha, sigma, working, memory)


def overlap_mean(
    x_t: Pixels,
    images: Sources,
    views: Sequence[View],
    alpha: float,
    sigma: float,
    *,
    working: torch.dtype = torch.float64,
    memory: int = MEMORY,
) -> Averages:
    """D_p, averaged over the posterior means of all outputs that see pixel p.

    Two passes over the images: the sums of the weights, then the weighted values. Memory: as `center_mean`.
    """
    return _by_blocks(_overlap, x_t, images, views, alpha, sigma, working, memory)


@dataclass(frozen=True, eq=False)
class _Sums:
    """Running minimum of the costs of every output; sum of exp(least - cost), and of its products with the values."""

    least: Float[Tensor, "batch groups rows columns"]
    sums: Float[Tensor, "batch groups moments rows columns"]

    @classmethod
    def empty(cls, x: Pixels, views: Sequence[View], *, moments: int) -> "_Sums":
        """No source yet, for queries `x` and so many moments, divided among the groups of the views."""
        groups = views[0].groups
        rows, columns = (max(view.outputs[axis].stop for view in views) for axis in (0, 1))
        least = x.new_full((len(x), groups, rows, columns), torch.inf)
        sums = torch.zeros(len(x), groups, 1 + moments // groups, rows, columns, dtype=torch.float64, device=x.device)
        return cls(least, sums)

    def error(self, size: Float[Tensor, " batch"]) -> Float[Tensor, " batch"]:
        """The largest rounding error of a mean, in units of the range of the values; `size` is S."""
        cost, eps = self.least.double(), torch.finfo(self.least.dtype).eps
        delta = eps * (2 * cost + size[:, None, None, None] * cost.sqrt())
        return (delta * (2 - 2 / self.sums[:, :, 0]).clamp(0, 0.5)).flatten(1).amax(1)

    def add(self, outputs: tuple[slice, slice], costs: Responses, values: Sources | None) -> None:
        """The sources of one chunk and view; `costs` is overwritten."""
        at = (slice(None), slice(None), *outputs)
        before = self.least[at]
        nearest = costs.amin(-1)
        least = torch.minimum(before, nearest)
        matter = nearest <= least + NEGLIGIBLE
        if 2 * int(matter.sum()) < matter.numel():
            self._add_some(at, matter, costs, values)
            return
        weights = _exponentials(least, costs)
        sums = self.sums[:, :, :, *outputs]
        sums *= (least - before).double().exp_()[:, :, None]
        sums[:, :, 0] += weights.sum(-1)
        if values is not None:
            grouped = values.reshape(costs.shape[1], -1, *values.shape[1:])
            sums[:, :, 1:] += (weights[:, :, None] * grouped).sum(-1)
        before.copy_(least)

    def _add_some(self, at: tuple[slice, ...], matter: Tensor, costs: Responses, values: Sources | None) -> None:
        """`add` for the outputs to which any of these sources matters."""
        batch, group, row, column = matter.nonzero(as_tuple=True)
        here = (batch, group, row + at[2].start, column + at[3].start)
        some = costs[batch, group, row, column]
        before = self.least[here]
        least = torch.minimum(before, some.amin(-1))
        weights = _exponentials(least, some)
        sums = self.sums[here[0], here[1], :, here[2], here[3]] * (least - before).double().exp_()[:, None]
        sums[:, 0] += weights.sum(-1)
        if values is not None:
            grouped = values.reshape(costs.shape[1], -1, *values.shape[1:])
            sums[:, 1:] += (weights[:, None] * grouped[group, :, row, column]).sum(-1)
        self.least[here] = least
        self.sums[here[0], here[1], :, here[2], here[3]] = sums


Block = Callable[[Pixels, Sources, Sequence[View], float, int], tuple[Pixels, _Sums]]


def _exponentials(least: Tensor, costs: Tensor) -> Tensor:
    """exp(least - cost) in the place of `costs`, never so small that the processor's exponential is slow."""
    return torch.sub(least[..., None], costs, out=costs).clamp_min_(-NEGLIGIBLE).exp_()


def _by_blocks(
    block: Block,
    x_t: Pixels,
    images: Sources,
    views: Sequence[View],
    alpha: float,
    sigma: float,
    working: torch.dtype,
    memory: int,
) -> Averages:
    """Queries and images in blocks of at most `memory` and of what stays in the cache."""
    pixels = torch.tensor([[part.stop - part.start for part in view.query] for view in views]).prod(1) * len(images)
    in_memory = memory // (BUFFERS * working.itemsize * int(pixels.max()))
    pairs = max(1, min(int(WORKING / pixels.double().mean()), in_memory))
    chunk = min(pairs, images.shape[-1])
    unit = 2**0.5 * sigma
    scaled = x_t.to(working) / unit
    views = [view.to(scaled) for view in views]
    least, most = images.aminmax()  # images.abs() would be a copy of them
    size = (x_t.abs().amax((1, 2, 3)).double() + alpha * max(-float(least), float(most))) / unit
    parts = []
    for rows, sizes in zip(
        scaled.split(chunk_size(pairs, each=chunk)), size.split(chunk_size(pairs, each=chunk)), strict=True
    ):
        mean, sums = block(rows, images, views, alpha / unit, chunk)
        parts.append(Averages(mean, sums.error(sizes)))
    return Averages(torch.cat([part.mean for part in parts]), torch.cat([part.error for part in parts]))


def _center(x: Pixels, images: Sources, views: Sequence[View], ratio: float, chunk: int) -> tuple[Pixels, _Sums]:
    """The mean and the sums behind it; `x` in units of sqrt(2) sigma."""
    totals = _Sums.empty(x, views, moments=x.shape[1])
    for view, values, costs in _costs(x, images, views, ratio, chunk):
        totals.add(view.outputs, costs, values[:, *view.center])
    mean = totals.sums[:, :, 1:] / totals.sums[:, :, :1]
    return mean.reshape(x.shape), totals


def _overlap(x: Pixels, images: Sources, views: Sequence[View], ratio: float, chunk: int) -> tuple[Pixels, _Sums]:
    """The mean and the sums behind it; `x` in units of sqrt(2) sigma."""
    totals = _Sums.empty(x, views, moments=0)
    for view, _, costs in _costs(x, images, views, ratio, chunk):
        totals.add(view.outputs, costs, None)
    shares = (1 / totals.sums[:, :, 0]).to(x)
    total = torch.zeros(x.shape, dtype=torch.float64, device=x.device)
    for view, values, costs in _costs(x, images, views, ratio, chunk):
        at = (slice(None), slice(None), *view.outputs)
        weights = _exponentials(totals.least[at], costs).mul_(shares[at][..., None])
        total[:, :, *view.query] += view.spread(weights).mul(values[:, *view.source]).sum(-1)
    cover = torch.zeros(x.shape[2:], dtype=torch.float64, device=x.device)
    for view in views:
        ones = x.new_ones(1, 1, *(part.stop - part.start for part in view.outputs), 1)
        cover[view.query] += view.spread(ones)[0, 0, :, :, 0]
    return total / cover, totals


def _costs(
    x: Pixels, images: Sources, views: Sequence[View], ratio: float, chunk: int
) -> Iterator[tuple[View, Sources, Responses]]:
    """(view, a chunk of images, costs of its sources) for all chunks and views; `ratio` brings images to units of x."""
    rows, columns = (torch.arange(max(view.source[axis].stop for view in views), device=x.device) for axis in (0, 1))
    periodic = len(rows) > images.shape[1] or len(columns) > images.shape[2]
    for start in range(0, images.shape[-1], chunk):
        values = images[..., start : start + chunk].to(x)
        if periodic:
            values = values[:, rows % images.shape[1]][:, :, columns % images.shape[2]]
        scaled = values * ratio
        for view in views:
            squares = x[:, :, *view.query, None] - scaled[:, *view.source]
            yield view, values, view.sums(torch.mul(squares, squares, out=squares))
