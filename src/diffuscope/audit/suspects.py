"""The most suspicious samples beside the training and held-out examples nearest to them, for a reader to judge.

Images and volumes as pictures, series as curves, tables as rows; `--no-examples` leaves them out.
"""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.by_parts import extremes
from diffuscope.findings import Chart, Panel, line
from diffuscope.report import Block, Cell, Gallery, GalleryItem, Picture, Table, image_png

from .copy_search import Copies
from .pictures import as_images, is_series
from .session import Session

PAIRS, CURVES = 12, 4
LOOKS = "A copy looks like the former, not the latter."


def suspects(session: Session, found: Copies, space: str) -> list[Block]:
    """The samples of least p-value with their neighbors; nothing where examples have no picture or must not show."""
    if not session.settings.examples:
        return []
    first = np.argsort(found.p_values, kind="stable")[:PAIRS]
    title = f"The most suspicious samples and their nearest neighbors ({space})"
    shown = {
        "sample": session.shown("samples", torch.from_numpy(first)),
        "training": session.shown("train", torch.from_numpy(found.nearest_training[first])),
        "held-out": session.shown("heldout", torch.from_numpy(found.nearest_heldout[first])),
    }
    sets = {name: x for name, x in shown.items() if x is not None}
    if len(sets) < len(shown):  # latents of a model, and no decoder
        return []
    captions = [_caption(found, int(i)) for i in first]
    if session.subject.table is not None:
        return [_rows(session, sets, captions, title)]
    if as_images(sets["sample"]) is not None:
        originals = session.subject.originals
        train = session.subject.train if originals is None else originals.train
        return [_gallery(sets, captions, title, *extremes(train))]
    if is_series(sets["sample"]):
        panels = [
            Panel(caption, "time step", "", tuple(line(range(x.shape[2]), x[i, 0], name) for name, x in sets.items()))
            for i, caption in enumerate(captions[:CURVES])
        ]
        how = f"The first channel of samples and of their nearest training and held-out examples. {LOOKS}"
        return [Chart(title, tuple(panels), how)]
    return []


def _caption(found: Copies, i: int) -> str:
    parts = (
        f"sample {i}: p = {found.p_values[i]:.2g}",
        "listed" if found.listed[i] else "",
        f"matches when {found.transformation[i]}" if found.transformation[i] else "",
    )
    return ", ".join(part for part in parts if part)


def _gallery(
    sets: dict[str, Float[Tensor, "_ *event"]], captions: list[str], title: str, low: float, high: float
) -> Gallery:
    images = {name: as_images(x) for name, x in sets.items()}
    items = [
        GalleryItem(
            [Picture(image_png(x[i].numpy(), low, high), name) for name, x in images.items() if x is not None], caption
        )
        for i, caption in enumerate(captions)
    ]
    how = f"Each sample with the training example that it matches best and its nearest held-out example. {LOOKS}"
    return Gallery(title, items, how)


def shown(value: object) -> Cell:
    """A number in six digits, a date or a category; None where it is missing."""
    if isinstance(value, float):
        return f"{value:.6g}" if np.isfinite(value) else None
    return str(value) or None


def _rows(session: Session, sets: dict[str, Float[Tensor, "_ d"]], captions: list[str], title: str) -> Table:
    table = session.subject.table
    assert table is not None
    columns = {name: table.decode(rows) for name, rows in sets.items()}
    rows: list[list[Cell]] = [
        [caption if name == "sample" else "", name, *(shown(column[i]) for column in columns[name])]
        for i, caption in enumerate(captions)
        for name in sets
    ]
    header = ["", "", *(column.name for column in table.columns)]
    how = f"Each sample with its nearest training row and its nearest held-out row. {LOOKS}"
    return Table(title, header, rows, how)
