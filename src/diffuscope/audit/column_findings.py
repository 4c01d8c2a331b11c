"""What the question of quality says of the columns of a table and of their pairs, each at half the significance."""

from dataclasses import replace

import numpy as np
from jaxtyping import Float
from torch import Tensor

from diffuscope.findings import Finding
from diffuscope.report import Block

from .column_pairs import ColumnPairs, column_pairs, pairs_finding, pairs_table
from .column_permutations import effective_number, permutations_for
from .column_shares import ColumnShares, column_blocks, column_shares, columns_finding
from .subject import Subject


def compare_columns(
    samples: Float[Tensor, "n *event"], subject: Subject, significance: float, rng: np.random.Generator
) -> tuple[ColumnShares | None, ColumnPairs | None]:
    """The columns and their pairs; None for data that are no table."""
    if subject.table is None:
        return None, None
    known = effective_number(len(subject.train), subject.train_groups)
    others = effective_number(len(subject.heldout), subject.heldout_groups)
    rows, count = (subject.table, samples, subject.heldout, known, rng), permutations_for(significance / 2)
    shares = column_shares(*rows, others=others, permutations=count)
    return shares, column_pairs(*rows, others=others, permutations=count)


def findings_of_columns(
    columns: ColumnShares | None, pairs: ColumnPairs | None, significance: float
) -> tuple[list[Finding], list[Block]]:
    """What is found of columns and pairs, and what there is to show."""
    found, shown = list[Finding](), list[Block]()
    if columns is not None:
        found.append(columns_finding(columns, significance / 2))
        shown += column_blocks(columns, significance / 2)
    if pairs is not None:
        found.append(pairs_finding(pairs, significance / 2))
        shown.append(pairs_table(pairs))
    return found, shown


def with_wrong_columns(verdict: Finding, of_columns: list[Finding]) -> Finding:
    """Whole rows that are close are no good news where a column is wrong: no card may contradict the verdict."""
    wrong = next((finding for finding in of_columns if finding.tone == "attention"), None)
    if wrong is None or verdict.tone not in ("good", "unknown"):
        return verdict
    return replace(verdict, tone="attention", verdict=f"{wrong.verdict} As whole rows: {verdict.verdict}")
