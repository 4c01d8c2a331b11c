r"""How many training groups, such as patients, have a copy among the samples, and which?

Of G training groups, K have an example that a listed sample copies; K / G with the exact interval of Clopper & Pearson
(1934) is the share of the groups that these samples reproduce; more samples reproduce more. The expected share of false
entries in the list of samples is bounded.

Source: Dar et al. 2024, https://arxiv.org/abs/2402.01054, who count patients of medical images.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int
from numpy import ndarray

from diffuscope.findings import Finding, Tone, exact_share_interval
from diffuscope.report import Table

from .copy_search import Copies, nothing_listed, suffix

SHOWN_ROWS, OPEN_ROWS, SHOWN_SAMPLES = 200, 12, 20


def copied_groups(found: Copies, train_groups: Int[ndarray, " train"]) -> dict[int, list[int]]:
    """The listed samples of every training group that has some, the groups with most of them first."""
    members: dict[int, list[int]] = {}
    for sample in found.listed_first:
        members.setdefault(int(train_groups[found.nearest_training[sample]]), []).append(int(sample))
    return dict(sorted(members.items(), key=lambda item: (-len(item[1]), item[0])))


def groups_finding(found: Copies, train_groups: Int[ndarray, " train"], space: str) -> Finding:
    """The share of the training groups of which a listed sample copies an example."""
    count, total = len(copied_groups(found, train_groups)), len(np.unique(train_groups))
    low, high = exact_share_interval(count, total)
    tone: Tone = "alarm" if count else "good" if found.can_tell else "unknown"
    verdict = {
        "alarm": f"Samples copy examples of {count:,} of {total:,} training groups.",
        "good": f"No sample is listed as a copy of an example of any of the {total:,} training groups.",
        "unknown": nothing_listed(found),
    }[tone]
    return Finding(
        name="memorized.groups" + suffix(space),
        title=f"Training groups that samples reproduce ({space})",
        value=100 * count / total,
        unit="%",
        verdict=verdict,
        tone=tone,
        interval=(100 * low, 100 * high),
        null=f"0%, but for false entries: at most {found.rate:.2g} of the listed samples are expected to be false.",
        p_value=found.p_value,
        power=found.power,
    )


def groups_table(
    found: Copies, train_groups: Int[ndarray, " train"], names: Sequence[str], space: str, *, named: bool
) -> list[Table]:
    """A row for every training group with listed samples; unless `named`, groups have their number alone."""
    members = copied_groups(found, train_groups)
    if not members:
        return []
    rows = [
        [
            group_name(group, names, named=named),
            len(samples),
            ", ".join(map(str, samples[:SHOWN_SAMPLES])) + (", ..." if len(samples) > SHOWN_SAMPLES else ""),
        ]
        for group, samples in list(members.items())[:SHOWN_ROWS]
    ]
    note = f"The first {SHOWN_ROWS} of {len(members)}; all are in audit.json." if len(members) > SHOWN_ROWS else ""
    header = ["training group", "listed samples", "their indices, the most suspicious first"]
    return [Table(f"Reproduced training groups ({space})", header, rows, note, folded=len(rows) > OPEN_ROWS)]


def group_name(group: int, names: Sequence[str], *, named: bool) -> str:
    """The name of a group; its number where it has none or must not show.

    >>> group_name(1, ("patient 7", "patient 9"), named=True), group_name(1, (), named=True)
    ('patient 9', '1')
    """
    return names[group] if named and 0 <= group < len(names) else str(group)
