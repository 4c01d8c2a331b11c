"""Averages over windows at other places: all windows that continue periodically, or all that the edges cut alike.

Computed in float64 by products of windows (`window_products`), or of rows of windows where that takes fewer operations
(`row_products`). Both subtract large numbers where the noise is very low; where rounding would move log-weights by
more than `TOLERANCE`, the sums of squared differences of all shifts take their place, several times slower.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import torch

from diffuscope.memory import chunk_size

from .aggregation import center_mean
from .row_products import row_mean
from .shared_windows import boundary_lines, circular_lines
from .views import Pixels, Sources, boundary_views, circular_views, local_views
from .window_products import active_share, rounding, window_means

TOLERANCE = 1e-7
WINDOWS = 32  # bytes for a value of the windows of queries, of which two copies are alive at once
Mean = Callable[[Pixels], Pixels]


@dataclass(frozen=True, eq=False)
class Circular:
    """Every pixel from the windows around all pixels; `size` is a function of sigma/alpha."""

    size: Callable[[float], int]

    def __call__(self, x_t: Pixels, images: Sources, alpha: float, sigma: float, *, memory: int) -> Pixels:
        size = self.size(sigma / alpha if alpha > 0 else math.inf)
        channels, height, width, _ = images.shape
        rows, columns = circular_lines(height, size)[0], circular_lines(width, size)[0]

        def products(x_t: Pixels) -> Pixels:
            # what a pair of windows costs in multiplications; the rest of its work, measured, is 30 to 40 of them
            of_windows = active_share(images, rows, columns) * (channels * size**2 + 40)
            if of_windows > channels * size + height + 30:
                return row_mean(x_t, images, size, alpha, sigma, memory=memory)
            return next(window_means(x_t, images, [(rows, columns)], alpha, sigma, memory=memory))[2]

        def differences(x_t: Pixels) -> Pixels:
            views = list(circular_views(height, width, size))
            return center_mean(x_t, images, views, alpha, sigma, memory=memory).mean

        values = channels * size**2
        rounded = rounding(x_t, images, values, alpha, sigma) > TOLERANCE
        return _by_rounding(x_t, rounded, products, differences, each=WINDOWS * values, memory=memory)


@dataclass(frozen=True, eq=False)
class BoundaryAware:
    """Every pixel from the windows that are cut by the edges as its own window is; `size` as in `Circular`."""

    size: Callable[[float], int]

    def __call__(self, x_t: Pixels, images: Sources, alpha: float, sigma: float, *, memory: int) -> Pixels:
        size = self.size(sigma / alpha if alpha > 0 else math.inf)
        channels, height, width, _ = images.shape
        lines = product(boundary_lines(height, size), boundary_lines(width, size))
        shared = [(rows, columns) for rows, columns in lines if len(rows.first) * len(columns.first) > 1]

        def products(x_t: Pixels) -> Pixels:
            mean = center_mean(x_t, images, list(local_views(height, width, size)), alpha, sigma, memory=memory).mean
            for rows, columns, means in window_means(x_t, images, shared, alpha, sigma, memory=memory):
                mean[:, :, rows, columns] = means
            return mean

        def differences(x_t: Pixels) -> Pixels:
            views = list(boundary_views(height, width, size))
            return center_mean(x_t, images, views, alpha, sigma, memory=memory).mean

        values = channels * min(size, height) * min(size, width)
        rounded = rounding(x_t, images, values, alpha, sigma) > TOLERANCE
        return _by_rounding(x_t, rounded, products, differences, each=WINDOWS * values, memory=memory)


def _by_rounding(
    x_t: Pixels, rounded: torch.Tensor, products: Mean, differences: Mean, *, each: int, memory: int
) -> Pixels:
    """Differences where products would round logits too much; `each` bytes per pixel of a query, in `memory`."""
    mean = torch.empty(x_t.shape, dtype=torch.float64, device=x_t.device)
    for rows, compute in ((~rounded, products), (rounded, differences)):
        for some in rows.nonzero()[:, 0].split(chunk_size(memory, each=each * x_t.shape[2:].numel())):
            if len(some):
                mean[some] = compute(x_t[some])
    return mean
