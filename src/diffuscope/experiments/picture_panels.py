"""Pictures in a panel: rows of images, with gaps between them."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.findings import Panel, heat_map

from .part import PIXEL_RANGE


def pictures(
    title: str, images: Float[Tensor, "rows columns h w"], data_range: tuple[float, float] = PIXEL_RANGE
) -> Panel:
    """The first row on top; pixels beyond the range have the color of its end."""
    framed = torch.nn.functional.pad(images.double().clamp(*data_range), (0, 1, 0, 1), value=math.nan)
    cells = framed.transpose(1, 2).flatten(2).flatten(0, 1)
    height, width = cells.shape
    return Panel(title, "", "", (heat_map(range(width + 1), range(height, -1, -1), cells),), equal_scales=True)
