"""The search for copies on the page: the listed samples, the leaked held-out examples, and the chart of distances."""

import numpy as np

from diffuscope.findings import Chart, Panel, line, points
from diffuscope.report import Block, Table

from .copy_search import Copies

SHOWN_ROWS, OPEN_ROWS, SHOWN_POINTS = 200, 12, 500


def copies_tables(found: Copies, space: str) -> list[Block]:
    """The first of the listed samples, and the leaked held-out examples; nothing where there are none."""
    blocks: list[Block] = []
    listed = found.listed_first
    if len(listed):
        columns = (found.nearest_training, found.distance, found.next_distance, found.p_values)
        rows = [
            [int(i), *(column[i].item() for column in columns), found.transformation[i] or "as it is"]
            for i in listed[:SHOWN_ROWS]
        ]
        note = f"The first {SHOWN_ROWS} of {len(listed)}; all are in audit.json." if len(listed) > SHOWN_ROWS else ""
        header = ["sample", "training example", "distance", "to the next different one", "p-value", "sample was"]
        title = f"Samples listed as copies ({space})"
        blocks.append(Table(title, header, rows, note, folded=len(listed) > OPEN_ROWS))
    if found.leaked:
        total = len(found.leaked)
        rows = [[i, j] for i, j in list(found.leaked.items())[:SHOWN_ROWS]]
        note = f"{total} held-out examples repeat a training example, exactly or nearly. They were left out."
        header = ["held-out example", "training example"]
        blocks.append(Table(f"Leaked held-out examples ({space})", header, rows, note, folded=True))
    return blocks


def distances_chart(found: Copies, space: str) -> Chart:
    """Distances to the nearest training example and to the next different one, for a random subset of each kind."""
    rng = np.random.default_rng(0)
    null = rng.permutation(found.calibration)[:SHOWN_POINTS]
    free, listed = (rng.permutation(np.flatnonzero(kind))[:SHOWN_POINTS] for kind in (~found.listed, found.listed))
    groups = (
        (found.null_next_distance[null], found.null_distance[null], "held-out examples"),
        (found.next_distance[free], found.distance[free], "samples"),
        (found.next_distance[listed], found.distance[listed], "samples listed as copies"),
    )
    right = 1.05 * max(float(x.max(initial=0)) for x, _, _ in groups)
    top = 1.05 * max(float(y.max(initial=0)) for _, y, _ in groups)
    marks = [points(x.tolist(), y.tolist(), label) for x, y, label in groups if len(x)]
    diagonal = line([0.0, min(right, top)], [0.0, min(right, top)], style="dotted")
    axes = f"distance to the next different training example ({space})", "to the nearest training example"
    return Chart(
        f"Does any sample resemble one training example more than held-out examples do? ({space})",
        (Panel("", *axes, (*marks, diagonal), x_range=(0.0, right), y_range=(0.0, top)),),
        "Held-out examples show what is normal for examples that are not copies. Samples among them are fine; samples "
        "far below the diagonal, near the bottom, copy a training example. At most "
        f"{SHOWN_POINTS} of each kind are drawn.",
    )
