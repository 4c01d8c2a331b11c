"""The tables of the search for copies: the listed samples, and the held-out examples that repeat a training example."""

from diffuscope.report import Block, Table

from .copy_search import Copies

SHOWN_ROWS, OPEN_ROWS = 200, 12


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
