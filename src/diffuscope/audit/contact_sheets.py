"""Ordinary samples beside held-out examples, first in order and not chosen: what a reader can judge without statistics.

Images are shown as two contact sheets, data in the plane as a scatter; other data have no picture.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.findings import Chart, Panel, points
from diffuscope.report import Block, Gallery, GalleryItem, Picture, image_png

SIDE = 8  # images along each side of a sheet
SHEET_PIXELS = 320
MOST_POINTS = 1000


def ordinary_samples(
    samples: Float[Tensor, "n *event"], heldout: Float[Tensor, "m *event"], *, examples: bool = True
) -> list[Block]:
    """The pictures; without `examples`, held-out data are left out."""
    shown = {"samples": samples, "held-out examples": heldout} if examples else {"samples": samples}
    beside = " beside held-out examples" if examples else ""
    if heldout.ndim == 4 and heldout.shape[1] in (1, 3):
        low, high = float(heldout.min()), float(heldout.max())
        if not low < high:
            return []
        items = [GalleryItem([Picture(_sheet(x, low, high), name)], _count(x, name)) for name, x in shown.items()]
        how = "The first in order, not chosen. Can you tell which is which?" if examples else "The first in order."
        return [Gallery(f"Ordinary samples{beside}", items, how)]
    if heldout[0].numel() != 2:
        return []
    rows = {name: x.flatten(1)[:MOST_POINTS] for name, x in reversed(shown.items())}
    marks = tuple(points(x[:, 0], x[:, 1], name) for name, x in rows.items())
    how = "Samples should fill the same places as held-out data, equally densely, and no others."
    return [Chart(f"Samples{beside}", (Panel("", "first", "second", marks, equal_scales=True),), how)]


def _count(x: Float[Tensor, "n *event"], name: str) -> str:
    return f"{min(SIDE**2, len(x))} {name}"


def _sheet(images: Float[Tensor, "n channels height width"], low: float, high: float) -> str:
    """Up to SIDE x SIDE images as one picture, with a gray line of a pixel between them."""
    images = images[: SIDE**2].float()
    filler = images.new_full((SIDE**2 - len(images), *images.shape[1:]), high)
    gray = (low + high) / 2
    framed = torch.nn.functional.pad(torch.cat([images, filler]), (0, 1, 0, 1), value=gray)
    channels, height, width = framed.shape[1:]
    tiles = framed.reshape(SIDE, SIDE, channels, height, width).permute(2, 0, 3, 1, 4)
    sheet = tiles.reshape(channels, SIDE * height, SIDE * width)[:, :-1, :-1]
    return image_png(sheet.numpy(), low, high, max(1, SHEET_PIXELS // sheet.shape[2]))
