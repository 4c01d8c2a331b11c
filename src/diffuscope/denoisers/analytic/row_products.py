r"""The equivariant score of large windows: products of rows of windows, then sums over the rows.

With the notation of `window_products`, for windows that continue periodically and a shift of rows :math:`\tau`,

.. math::
    l_{(r, c), (r + \tau, c', i)} = \sum_{|e| \le k/2} g_{r + e}, \qquad
    g_r = \sum_{|d| \le k/2} \Big(\frac{\alpha}{\sigma^2}\, \tilde x_{r, c + d}
    - \frac{\alpha^2}{2\sigma^2}\, \tilde y_{i, r + \tau, c' + d}\Big)\, \tilde y_{i, r + \tau, c' + d} .

The sums are a banded matrix of H x H: 2 (C k + H) operations for a pair of windows, instead of :math:`2 C k^2`.
"""

import torch
from jaxtyping import Float64, Int
from torch import Tensor

from .shared_windows import circular_lines
from .views import Pixels, Sources
from .weighted_sums import WeightedSums
from .window_products import background

WORKING = 2**16  # logits of one piece: what stays in the cache of a core together with their factors


def row_mean(
    x_t: Pixels, images: Sources, size: int, alpha: float, sigma: float, *, memory: int
) -> Float64[Tensor, "batch channels height width"]:
    """Every pixel's mean over the windows of `size` around all pixels of all images, in float64.

    Memory: about `memory` bytes besides the images, the queries and the answer (at least one image).
    """
    at = background(images)
    channels, height, width, number = images.shape
    x = x_t.double() - alpha * at.to(x_t.device)[:, None, None]
    near, above = (circular_lines(pixels, size)[0].windows() for pixels in (width, height))
    queries = x[..., near].permute(0, 2, 3, 1, 4).flatten(3) * (alpha / sigma**2)  # batch, row, column, values
    factor = queries.new_full((*queries.shape[:3], 1), -(alpha**2) / (2 * sigma**2))
    queries = torch.cat([queries, factor], 3).repeat(1, 2, 1, 1)  # twice, so that what is continued is a slice
    band = torch.zeros(height, height, dtype=torch.float64).scatter_(1, above, 1.0).repeat(1, 2).to(x.device)
    totals = [WeightedSums(height, width, channels=channels, device=x.device) for _ in x]
    bytes_of_image = 8 * height * width * (3 * (channels * size + 1) + 2 * width)
    in_cache = torch.get_num_threads() * WORKING // (height * width * width)
    chunk = max(1, min(in_cache, memory // bytes_of_image))
    for start in range(0, number, chunk):
        piece = _Piece(images[..., start : start + chunk].to(x) - at.to(x.device)[:, None, None, None], near)
        for shift in range(height):
            for query, total in zip(queries, totals, strict=True):
                piece.add(total, query, band, shift)
    means = torch.stack([total.mean().transpose(0, 1) for total in totals])
    return means + at.to(x.device)[:, None, None]


class _Piece:
    """A few images: their rows of windows, and memory for one product, which is in the cache already."""

    def __init__(self, y: Sources, near: Int[Tensor, "windows size"]) -> None:
        height, width = y.shape[1:3]
        active = y.any(3).any(2).any(0).nonzero()[:, 0].tolist() or [0]
        self.first, self.number = active[0], active[-1] + 1 - active[0]  # background, in other rows, adds nothing
        rows = y[:, self.first : active[-1] + 1, near].permute(1, 0, 3, 2, 4).flatten(1, 2).flatten(2)
        self.rows = torch.cat([rows, rows.square().sum(1, keepdim=True)], 1)  # row, values, (column, image)
        self.values = torch.cat([torch.ones_like(y[:1]), y]).transpose(0, 1).flatten(2).repeat(2, 1, 1)
        self.products = y.new_empty(self.number, width, rows.shape[2])
        self.sums = y.new_empty(height, width, rows.shape[2])

    def add(
        self,
        total: WeightedSums,
        query: Float64[Tensor, "rows columns values"],
        band: Float64[Tensor, "height rows"],
        shift: int,
    ) -> None:
        """All pairs of windows whose rows are `shift` apart."""
        height = len(self.sums)
        first = (self.first - shift) % height
        partners = slice(first, first + self.number)
        query, band = query[partners], band[:, partners]

        def logits(reference: Tensor) -> Tensor:
            torch.bmm(query, self.rows, out=self.products)
            torch.mm(band, self.products.flatten(1), out=self.sums.view(height, -1))
            return self.sums.sub_(reference[..., None])

        total.add(logits, self.values[shift : shift + height])
