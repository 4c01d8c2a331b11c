"""Small parts of the audit, each against numbers made by hand."""

import pytest
import torch

from diffuscope.audit import column_findings
from diffuscope.audit.column_pairs import ColumnPairs
from diffuscope.audit.column_shares import ColumnShares
from diffuscope.audit.transformations import _half_shifted
from diffuscope.findings import Finding
from diffuscope.report import Table


@pytest.mark.parametrize("axis", [2, 3])
@pytest.mark.parametrize("step", [1, -1])
def test_half_a_pixel_forward_is_the_value_half_a_pixel_before(axis, step):
    """Of a line between the pixels, which cubics keep, away from the ends that are repeated."""
    ramp = torch.arange(8.0).expand(1, 1, 8, 8)
    ramp = ramp if axis == 3 else ramp.mT
    moved = _half_shifted(ramp, axis, step).movedim(axis, 0)[2:6]
    torch.testing.assert_close(moved, (ramp - step / 2).movedim(axis, 0)[2:6])


def test_columns_and_their_pairs_share_the_level_of_significance(monkeypatch):
    """Two families of tests, half of the level each; what is shown of a column is judged as its finding is."""
    asked = {}
    columns, pairs, block = object.__new__(ColumnShares), object.__new__(ColumnPairs), object.__new__(Table)
    finding, another = object.__new__(Finding), object.__new__(Finding)

    def called(name, answer):
        def answered(_, *level):
            asked[name] = level
            return answer

        monkeypatch.setattr(column_findings, name, answered)

    called("columns_finding", finding)
    called("column_blocks", [block])
    called("pairs_finding", another)
    called("pairs_table", block)
    found, shown = column_findings.findings_of_columns(columns, pairs, 0.02)
    assert [id(one) for one in found] == [id(finding), id(another)]
    assert len(shown) == 2
    assert asked == {
        "columns_finding": (0.01,), "column_blocks": (0.01,), "pairs_finding": (0.01,), "pairs_table": (),
    }  # fmt: skip
    assert column_findings.findings_of_columns(None, None, 0.02) == ([], [])
