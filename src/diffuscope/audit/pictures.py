"""What examples look like: images as they are, volumes by their middle slice, series as curves.

Tables are shown as rows (`suspects`); other vectors and latents have no picture.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.by_parts import extremes
from diffuscope.findings import Chart, Panel, line, points
from diffuscope.memory import chunk_size
from diffuscope.report import Block, Gallery, GalleryItem, Picture, image_png

SIDE = 8  # images along each side of a sheet
SHEET_PIXELS = 320
MOST_POINTS = 1000
CURVES = 8
Events = Float[Tensor, "_ *event"]


def as_images(x: Events) -> Float[Tensor, "_ channels height width"] | None:
    """Images, or the middle slices of volumes; None for what has no picture."""
    if x.ndim == 5:
        x = x[:, :, x.shape[2] // 2]
    return x if x.ndim == 4 and x.shape[1] in (1, 3) else None


def is_series(x: Events) -> bool:
    """Whether the examples are (channels, length)."""
    return x.ndim == 3


def ordinary_samples(samples: Events, heldout: Events, *, examples: bool = True) -> list[Block]:
    """Samples beside held-out examples, first in order and not chosen: what can be judged without statistics.

    Two contact sheets of images, curves, or a scatter for data in the plane. Without `examples`, held-out data are left
    out.
    """
    shown = {"samples": samples, "held-out examples": heldout} if examples else {"samples": samples}
    title = "Ordinary samples" + (" beside held-out examples" if examples else "")
    how = "The first in order, not chosen. Can you tell which is which?" if examples else "The first in order."
    if as_images(heldout) is not None:
        low, high = extremes(heldout)
        if not low < high:
            return []
        items = []
        for name, x in shown.items():
            images = as_images(x[: SIDE**2])
            assert images is not None
            items.append(GalleryItem([Picture(_sheet(images, low, high), name)], f"{len(images)} {name}"))
        return [Gallery(title, items, how + (" Middle slices of volumes." if heldout.ndim == 5 else ""))]
    if is_series(heldout):
        panels = tuple(
            Panel(
                name, "time step", "first channel", tuple(line(range(row.shape[1]), row[0], "") for row in x[:CURVES])
            )
            for name, x in shown.items()
        )
        return [Chart(title, panels, how)]
    if heldout[0].numel() != 2:
        return []
    rows = {name: x.flatten(1)[:MOST_POINTS] for name, x in reversed(shown.items())}
    marks = tuple(points(x[:, 0], x[:, 1], name) for name, x in rows.items())
    how = "Samples should fill the same places as held-out data, equally densely, and no others."
    title = title.removeprefix("Ordinary ").capitalize()
    return [Chart(title, (Panel("", "first", "second", marks, equal_scales=True),), how)]


def _sheet(images: Float[Tensor, "n channels height width"], low: float, high: float) -> str:
    """Up to SIDE x SIDE images as one picture, with a gray line of a pixel between them."""
    images = images.float()
    filler = images.new_full((SIDE**2 - len(images), *images.shape[1:]), high)
    gray = (low + high) / 2
    framed = torch.nn.functional.pad(torch.cat([images, filler]), (0, 1, 0, 1), value=gray)
    channels, height, width = framed.shape[1:]
    tiles = framed.reshape(SIDE, SIDE, channels, height, width).permute(2, 0, 3, 1, 4)
    sheet = tiles.reshape(channels, SIDE * height, SIDE * width)[:, :-1, :-1]
    return image_png(sheet.numpy(), low, high, chunk_size(SHEET_PIXELS, each=sheet.shape[2]))
