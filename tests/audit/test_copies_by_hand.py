"""Lists of copies, their groups and tables at the number of rows that is shown, and a search among rows of a plane."""

# every block is of the kind that its card shows
# pyright: reportAttributeAccessIssue=false

import math

import numpy as np
import pytest
import torch
from made_by_hand import plane
from results_of_samples import copies

from diffuscope.audit.copied_groups import copied_groups, groups_finding, groups_table
from diffuscope.audit.copied_heldout import halves
from diffuscope.audit.copy_queries import Search
from diffuscope.audit.copy_search import CopySearch, copies_finding, natural_repeats, nothing_listed, statistics, suffix
from diffuscope.audit.copy_tables import copies_tables, distances_chart
from diffuscope.audit.rows_of import flat
from diffuscope.findings import conformal_p_values, false_discovery

# tables


def listed(n, **changes):
    """All of n samples are copies, of examples 0 .. n - 1."""
    parts = {
        "listed": np.ones(n, dtype=bool), "p_values": np.full(n, 0.001), "nearest_training": np.arange(n),
        "nearest_heldout": np.arange(n), "distance": np.ones(n), "next_distance": np.full(n, 3.0),
        "transformation": [""] * n, "leaked": {},
    }  # fmt: skip
    return copies(**(parts | changes))


@pytest.mark.parametrize(
    ("n", "rows", "folded"), [(1, 1, False), (12, 12, False), (13, 13, True), (200, 200, True), (201, 200, True)]
)
def test_two_hundred_rows_are_shown_and_more_than_twelve_are_folded(n, rows, folded):
    (of_samples,) = copies_tables(listed(n), "pixels")
    (of_groups,) = groups_table(listed(n), np.arange(n), (), "pixels", named=True)
    for table in (of_samples, of_groups):
        assert (len(table.rows), table.folded) == (rows, folded)
        assert table.note == ("" if n <= 200 else f"The first 200 of {n}; all are in audit.json.")
    empty = copies(listed=np.zeros(6, dtype=bool), leaked={})
    assert copies_tables(empty, "pixels") == groups_table(empty, np.arange(16), (), "pixels", named=True) == []


def test_leaked_examples_are_listed_with_what_they_repeat():
    empty = np.zeros(6, dtype=bool)
    (table,) = copies_tables(copies(listed=empty, leaked={k: 2 * k for k in range(201)}), "pixels")
    assert (len(table.rows), table.rows[7], table.folded) == (200, [7, 14], True)
    assert table.note.startswith("201 held-out examples repeat a training example")


@pytest.mark.parametrize(("n", "shown"), [(20, ""), (21, ", ...")])
def test_twenty_samples_of_a_group_are_named_the_most_suspicious_first(n, shown):
    found = listed(n, p_values=np.arange(n, 0, -1) / 1000)
    (table,) = groups_table(found, np.full(n, 3), ("a", "b", "c", "d"), "pixels", named=True)
    assert table.rows == [["d", n, ", ".join(str(n - 1 - k) for k in range(20)) + shown]]


def test_groups_are_in_order_of_their_copies_and_then_of_their_numbers():
    found = listed(6)
    assert list(copied_groups(found, np.array([4, 2, 9, 2, 4, 1]))) == [2, 4, 1, 9]
    whole = groups_finding(listed(2), np.array([5, 5, 6, 7, 8, 9, 10]), "pca")
    assert (whole.value, whole.name) == (pytest.approx(100 / 6), "memorized.groups.pca")
    assert whole.interval == pytest.approx((0.4211, 64.1235), abs=1e-3)  # Clopper and Pearson's of 1 of 6


@pytest.mark.parametrize(
    ("copied", "detectable", "tone"), [(False, 0.1, "good"), (False, 0.9, "unknown"), (True, 0.1, "unknown")]
)
def test_without_copies_groups_are_good_news_only_if_copies_would_be_found(copied, detectable, tone):
    empty = np.zeros(6, dtype=bool)
    found = copies(listed=empty, detectable={"exact": detectable}, heldout_copied=copied)
    card = groups_finding(found, np.arange(16) // 2, "pixels")
    assert (card.tone, card.value) == (tone, 0.0)
    assert (card.verdict == nothing_listed(found)) == (tone == "unknown")
    assert copies_finding(found, "pixels").tone == tone


def test_five_hundred_points_of_each_kind_are_drawn():
    n = 1203
    kinds = np.arange(n) < 601
    found = listed(
        n, listed=kinds, next_distance=np.where(kinds, 3.0, 5.0), heldout=np.arange(502),
        null_distance=np.full(502, 2.0), null_next_distance=np.full(502, 4.0),
    )  # fmt: skip
    (panel,) = distances_chart(found, "pixels").panels
    assert [len(mark.x) for mark in panel.marks] == [500, 500, 500, 2]
    assert (panel.x_range, panel.y_range) == (pytest.approx((0.0, 5.25)), pytest.approx((0.0, 2.1)))
    assert panel.marks[3].x == pytest.approx((0.0, 2.1))
    none = np.zeros(0)
    alone = listed(3, heldout=np.zeros(0, int), null_distance=none, null_next_distance=none, distance=np.full(3, 9.0))
    (panel,) = distances_chart(alone, "pixels").panels
    assert [len(mark.x) for mark in panel.marks] == [3, 2]
    assert panel.marks[1].x == pytest.approx((0.0, 1.05 * 3))  # the diagonal ends with the shorter axis


def test_repeats_that_stay_are_told_in_one_or_many():
    assert natural_repeats(copies()) == ""
    assert natural_repeats(copies(natural=1)).startswith(", 1 of which nearly repeats a training example")
    assert natural_repeats(copies(natural=2)).startswith(", 2 of which nearly repeat a training example")
    assert [suffix(space) for space in ("pixels", "columns", "values", "pca")] == ["", "", "", ".pca"]
    none = copies(detectable={"exact": math.inf, "noisy": 1.01}).power
    assert none == "None: with 3 held-out examples and 6 samples, not even exact copies that were planted are found."
    assert copies(grouped=True).calibrated_on == "3 held-out groups"


# searches


@pytest.fixture
def search(monkeypatch):
    """Few copies are planted."""
    monkeypatch.setattr("diffuscope.audit.copy_search.PLANTED", 6)

    def made(heldout=40, calibration=25, **options):
        rows = heldout if isinstance(heldout, torch.Tensor) else plane(heldout, 1)
        return CopySearch(plane(60, 0), rows, calibration=calibration, seed=0, **options)

    return made


def test_as_many_heldout_examples_calibrate_as_asked_in_their_order(search):
    found, samples = search(), torch.cat([plane(60, 0)[:2] + 1e-7, plane(30, 2)])
    assert len(found.used) == len(found.null) == 25
    assert (np.diff(found.used) > 0).all()
    of_samples = found(samples, 0.1)
    values = Search(plane(60, 0), flat, ())(samples).statistic(found.repeating.radius)
    assert of_samples.p_values == pytest.approx(conformal_p_values(values, found.null))
    assert of_samples.listed.tolist() == false_discovery(of_samples.p_values, 0.1).tolist()
    assert of_samples.nearest_training[:2].tolist() == [0, 1]
    nearest = torch.cdist(samples, plane(40, 1)).argmin(1)
    assert of_samples.nearest_heldout.tolist() == nearest.tolist()
    of_heldout = torch.cdist(plane(40, 1)[found.used], plane(60, 0)).amin(1)
    assert of_samples.null_distance == pytest.approx(of_heldout.numpy(), rel=1e-4)
    assert (of_samples.rate, of_samples.grouped, of_samples.leaked) == (0.1, False, {})
    assert len(search(calibration=99).used) == 40


def test_a_heldout_group_calibrates_once(search):
    groups = np.arange(40) // 2
    found = search(calibration=99, heldout_groups=groups)
    assert sorted(groups[found.used]) == list(range(20))
    assert found.grouped


@pytest.mark.parametrize(("different", "null"), [(19, 0), (20, 40)])
def test_nineteen_different_heldout_examples_tell_nothing(different, null, search):
    rows = plane(20, 1)[torch.arange(40) % different]
    assert len(search(rows, 99).null) == null


def test_a_leaked_heldout_example_is_left_out_and_told_with_what_it_repeats(search):
    rows = plane(40, 1)
    rows[7] = plane(60, 0)[33]
    found = search(rows, 99)
    assert found.leaked == {7: 33}
    assert 7 not in found.used
    assert len(found.null) == len(found.used) == 39


@pytest.mark.parametrize(("held", "searched"), [(2, [6, 6, 3]), (1, [3] * 5), (9, [15])])
def test_sets_are_searched_together_as_far_as_they_are_held(held, searched, monkeypatch):
    monkeypatch.setattr("diffuscope.audit.copy_search.at_once", lambda width: 6 * held // width)
    whole, asked = Search(plane(60, 0), flat, ()), []

    class Counted(Search):
        """A search that keeps how many are asked."""

        def __call__(self, queries, among=None):
            asked.append(len(queries))
            return super().__call__(queries, among)

    counted = Counted(plane(60, 0), flat, ())
    sets = [plane(3, seed) for seed in range(5)]
    found = list(statistics(counted, iter(sets), 0.01))
    assert asked == searched
    for values, rows in zip(found, sets, strict=True):
        assert values == pytest.approx(whole(rows).statistic(0.01))


def test_half_of_the_groups_and_one_more_are_known():
    known, others = halves(7, None, np.random.default_rng(0), 2)
    assert (len(known), len(others)) == (4, 2)
    groups = np.array([3, 3, 3, 8, 8, 5])
    known, others = halves(6, groups, np.random.default_rng(0))
    assert len(set(groups[known])) == 2
    assert len(others) == 1
    assert groups[others[0]] not in groups[known]
