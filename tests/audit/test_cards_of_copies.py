"""The numbers of the cards, charts and tables on nearness, copies and equal examples, of results made by hand."""

# every block is of the kind that its card shows
# pyright: reportAttributeAccessIssue=false, reportOptionalMemberAccess=false

import math
from dataclasses import replace

import numpy as np
import pytest
from results_of_samples import copies

from diffuscope.audit.copied_groups import copied_groups, groups_finding, groups_table
from diffuscope.audit.copy_search import copies_finding, why_unknown
from diffuscope.audit.copy_tables import SHOWN_ROWS, copies_tables, distances_chart
from diffuscope.audit.exact_matches import exact_matches, near_matches
from diffuscope.audit.nearness import Nearness, nearness_finding
from diffuscope.findings import Line, Points
from diffuscope.report import Table

# nearness and copies


def test_the_card_of_nearness_has_its_share_interval_and_both_p_values():
    made = Nearness(
        nearer=63, decided=90, references=250, interval=(0.61, 0.78), p_value=0.004, binomial_p_value=0.0012,
        planted=0.93, detectable=0.083,
    )  # fmt: skip
    found = nearness_finding(made, "pixels", "", 0.01)
    assert (found.value, found.unit, found.p_value, found.tone) == (pytest.approx(70), "%", 0.004, "attention")
    assert found.interval == pytest.approx((61, 78))
    assert found.verdict.startswith("70.0% of the samples")
    assert "share of 8.3% exact copies" in found.power
    assert "of planted ones, 93.0% are" in found.power
    assert found.null.startswith("50%: 250 references of each kind")
    assert "p = 0.0012" in found.null
    assert nearness_finding(made, "pixels", "", 0.004).tone == "good"
    blind = nearness_finding(replace(made, detectable=math.inf), "pixels", ".mine", 0.004)
    assert (blind.tone, blind.name) == ("unknown", "memorized.nearness.mine")
    assert "planted training examples 93.0% are" in blind.power
    tied = nearness_finding(replace(made, nearer=0, decided=0, detectable=math.inf), "pixels", "", 0.001)
    assert tied.value == 50.0
    assert tied.verdict == "Every sample is as far from training as from held-out examples."


def test_the_card_of_copies_has_the_listed_share_and_what_was_planted():
    found = copies_finding(copies(), "pixels")
    assert found.value == pytest.approx(100 / 3)
    assert (found.unit, found.tone, found.name) == ("%", "alarm", "memorized.copies")
    assert found.verdict.startswith("2 of 6 samples resemble")
    assert found.null.startswith("3 held-out examples treated as samples;")
    assert "false discoveries is at most 0.05." in found.null
    assert found.power == (
        "Copies of training examples were planted. At least one would be listed, with probability 0.95, if this share "
        "of the samples were copies: exact 0.40%, noisy 3.10%. Not found at any share: blurred."
    )
    assert found.p_value == pytest.approx(min(0.01 * 6, 0.02 * 6 / 2))  # Simes
    assert found.interval is not None
    assert found.interval[0] == pytest.approx(4.327, abs=1e-3)  # Clopper and Pearson's for 2 of 6
    assert found.interval[1] == pytest.approx(77.722, abs=1e-3)
    near = copies_finding(copies(near=(4, 1)), "pixels").verdict
    assert near.endswith("Near repeats of one: 4 of 6 samples, 1 of 3 held-out examples.")


def test_an_empty_list_tells_only_with_power():
    empty = np.zeros(6, dtype=bool)
    assert copies_finding(copies(listed=empty), "pixels").tone == "good"
    unknown = copies_finding(copies(listed=empty, detectable={"exact": 0.9}), "pixels")
    assert unknown.tone == "unknown"
    assert why_unknown(copies()) == "3 held-out examples do not tell 6 samples from copies"
    known = copies(leaked={1: 8, 5: 9}, listed=empty)  # 2 of 5: more than a third
    assert known.heldout_known
    assert why_unknown(known) == "2 of 5 held-out examples repeat training ones"
    assert not copies().heldout_known  # 1 of 4


def test_the_tables_of_copies_have_the_most_suspicious_first():
    listed, leaked = copies_tables(copies(), "pixels")
    assert isinstance(listed, Table)
    assert isinstance(leaked, Table)
    assert listed.rows == [[4, 7, 0.1, 2.1, 0.01, "as it is"], [1, 3, 0.3, 3.3, 0.02, "mirrored"]]
    assert (listed.note, listed.folded) == ("", False)
    assert leaked.rows == [[1, 8]]
    assert leaked.note.startswith("1 held-out examples repeat")
    many = SHOWN_ROWS + 1
    whole = copies(
        listed=np.ones(many, dtype=bool), p_values=np.full(many, 0.01), nearest_training=np.arange(many),
        nearest_heldout=np.arange(many), distance=np.ones(many), next_distance=np.ones(many),
        transformation=[""] * many,
    )  # fmt: skip
    (first, _) = copies_tables(whole, "pixels")
    assert isinstance(first, Table)
    assert (len(first.rows), first.folded) == (SHOWN_ROWS, True)
    assert first.note == f"The first {SHOWN_ROWS} of {many}; all are in audit.json."


def test_the_chart_of_distances_has_every_point_of_each_kind_once():
    (panel,) = distances_chart(copies(), "pixels").panels
    heldout, free, listed, diagonal = panel.marks
    for mark, label, expected in (
        (heldout, "held-out examples", {(4.7, 4.5), (5.2, 5.0), (9.0, 6.0)}),
        (free, "samples", {(5.5, 5.0), (4.4, 4.0), (6.6, 6.0), (7.7, 7.0)}),
        (listed, "samples listed as copies", {(3.3, 0.3), (2.1, 0.1)}),
    ):
        assert isinstance(mark, Points)
        assert mark.label == label
        assert set(zip(mark.x, mark.y, strict=True)) == expected
    assert panel.x_range == pytest.approx((0.0, 1.05 * 9.0))
    assert panel.y_range == pytest.approx((0.0, 1.05 * 7.0))
    assert isinstance(diagonal, Line)
    assert diagonal.x == diagonal.y == pytest.approx((0.0, 1.05 * 7.0))


def test_groups_are_reproduced_by_the_samples_that_copy_their_examples():
    groups = np.array([0, 0, 0, 1, 1, 1, 1, 2, 2, 2])  # examples 3 and 7, of groups 1 and 2
    assert copied_groups(copies(), groups) == {1: [1], 2: [4]}
    same = np.array([0, 0, 0, 5, 1, 1, 1, 5, 2, 2])
    assert copied_groups(copies(), same) == {5: [4, 1]}
    found = groups_finding(copies(), groups, "pixels")
    assert (found.value, found.tone) == (pytest.approx(200 / 3), "alarm")
    assert found.verdict == "Samples copy examples of 2 of 3 training groups."
    assert "at most 0.05 of the listed" in found.null
    (table,) = groups_table(copies(), same, ["a", "b", "c", "d", "e", "f"], "pixels", named=True)
    assert table.rows == [["f", 2, "4, 1"]]
    (hidden,) = groups_table(copies(), same, ["a", "b", "c", "d", "e", "f"], "pixels", named=False)
    assert hidden.rows == [["5", 2, "4, 1"]]


def test_exact_and_near_matches_are_counted_on_both_sides():
    found = copies(distance=np.array([0.0, 3.3e-6, 4.0, 6.0, 2.1e-6, 7.0]), null_distance=np.array([0.0, 5.0, 6.0]))
    exact = exact_matches(found)  # 3.3e-6 and 2.1e-6 are 1e-6 of the next distances, up to rounding of the product
    assert exact.heldout == (1, 3)
    assert exact.samples[1] == 6
    assert 1 <= exact.samples[0] <= 3
    assert not exact.alone
    alone = exact_matches(copies(distance=np.array([0.0, 1e-6, 4.0, 6.0, 1.0, 7.0])))
    assert (alone.samples, alone.heldout, alone.alone) == ((2, 6), (0, 3), True)
    assert alone.p_value == pytest.approx(math.comb(6, 2) / math.comb(9, 2))
    near = near_matches(copies(near=(4, 1)))
    assert (near.samples, near.heldout) == ((4, 6), (1, 3))
    none = near_matches(copies())
    assert (none.samples, none.heldout, none.p_value) == ((0, 6), (0, 3), 1.0)
