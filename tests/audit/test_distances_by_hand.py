"""Distances of a few rows on a line to training rows: shares, authentic ones, cells, ties and searches for copies."""

import math

import numpy as np
import pytest
import torch
from made_by_hand import column

from diffuscope.audit import distance_measures as measures
from diffuscope.audit.closeness import closeness, neighborhood
from diffuscope.audit.copy_queries import Search, _parts
from diffuscope.audit.rows_of import AT_ONCE, flat
from numbers_in_tests import rng

TRAIN = column(0.0, 2.0, 10.0, 17.0)


def test_the_measures_of_five_samples_on_a_line():
    """Distances to the two nearest of 0, 2, 10, 17: 0.5 of 1.5, 0 of 2, 2 of 4, 3 of 5 and 1 of 6."""
    samples, heldout = column(0.5, 2.0, 4.0, 7.0, 11.0), column(1.0, 3.0, 5.0, 13.0)
    found = {measure.name: measure for measure in measures.distance_measures(samples, TRAIN, heldout, rng())}
    assert found["IMS, %"].value == 20.0
    assert found["IMS, %"].null == 0.0
    assert found["DCR, median"].value == 1.0
    assert found["DCR, 5% quantile"].value == pytest.approx(0.2 * 0.5)  # a fifth of the way from 0 to 0.5
    assert found["NNDR, median"].value == pytest.approx(1 / 3)
    assert found["share with d1/d2 < 1/3, %"].value == 40.0  # 0 and 1/6; 0.5 / 1.5 is a third
    assert found["DCR, median"].null == 2.0  # of 1, 1, 3 and 3
    # 2 from 0, and 7 from 10 to its nearest: only 3 from 10 is nearer than 7, and 4 is as far from 2 as 0 is
    assert found["AuthPct, %"].value == 0.0
    assert math.isnan(found["C_T"].value)
    assert [measure.copies for measure in found.values()] == ["high", "low", "low", "low", "low", "high", "low", None]


def test_controls_are_distances_to_heldout_rows_without_a_test():
    found = measures.heldout_controls(column(0.5, 2.0, 10.0), column(1.0, 13.0), TRAIN)
    by_name = {measure.name: measure for measure in found}
    assert by_name["IMS to held-out, %"].value == pytest.approx(200 / 3)
    assert by_name["DCR to held-out, median"].value == 0.0
    assert by_name["DCR to held-out, median"].null == 2.0  # of 1 and 3
    assert by_name["NNDR to held-out, median"].null == pytest.approx((1 + 3 / 4) / 2)
    assert {(measure.p_value, measure.copies) for measure in found} == {(None, None)}
    assert len(found) == 5


def test_a_sample_is_authentic_beyond_the_nearest_neighbor_of_its_training_row():
    queries = column(4.0, 4.5, 5.9, 14.0, 25.0)
    found = measures._distances(queries, TRAIN)
    assert found.first.tolist() == pytest.approx([2.0, 2.5, 3.9, 3.0, 8.0])
    # 2 has 0 at 2, and 17 has 10 at 7
    assert measures._authentic(found, TRAIN).tolist() == [False, True, True, False, True]
    assert found.ratio.tolist() == pytest.approx([2 / 4, 2.5 / 4.5, 3.9 / 4.1, 3 / 4, 8 / 15])


def test_the_neighbor_of_the_training_row_is_searched_beyond_the_neighbors_of_the_sample():
    """Twenty rows on a circle of radius 1.1 are nearer to the sample than the neighbor at (1.95, 0) of (1, 0)."""
    angle = torch.linspace(torch.pi / 2, 3 * torch.pi / 2, 20)
    circle = 1.1 * torch.stack([angle.cos(), angle.sin()], 1)
    query = torch.zeros(1, 2)
    for neighbor, authentic in ((1.95, True), (2.05, False)):
        train = torch.cat([circle, torch.tensor([[1.0, 0.0], [neighbor, 0.0]])])
        found = measures._distances(query, train)
        assert found.index.shape[1] == 16
        assert measures._authentic(found, train).tolist() == [authentic]


@pytest.mark.parametrize(
    ("samples", "heldout", "cells"),
    [(5, 200, 1), (79, 200, 1), (80, 200, 2), (200, 80, 2), (439, 440, 10), (900, 480, 10)],
)
def test_cells_have_forty_rows_of_either_kind_and_are_ten_at_most(samples, heldout, cells, monkeypatch):
    asked = []

    def kmeans(rows, count, seed):
        asked.append((len(rows), count))
        del seed
        return lambda part: np.full(len(part), len(part))

    monkeypatch.setattr(measures, "kmeans", kmeans)
    ours, theirs = measures._cells(torch.zeros(samples, 1), torch.ones(heldout, 1), torch.zeros(10_002, 1), rng())
    assert asked == [(10_000, cells)]
    assert (ours[0], theirs[0]) == (samples, heldout)


def test_a_cell_of_equal_distances_says_nothing_but_has_its_share():
    """Cell 0: 20 and 30 equal distances. Cell 1: all 20 samples nearer than 20 held-out ones, u = -200 of 200."""
    ours, theirs = np.r_[np.ones(20), np.arange(20.0)], np.r_[np.ones(30), np.arange(20.0) + 50]
    cells = np.repeat([0, 1], 20), np.repeat([0, 1], [30, 20])
    found = measures.copying_test(ours, theirs, cells)
    z = -200 / math.sqrt(20 * 20 * 41 / 12)
    assert found.value == pytest.approx(0.4 * z)
    assert (found.low, found.high) == pytest.approx((-1.96 * 0.4, 1.96 * 0.4))
    equal = measures.copying_test(np.ones(20), np.ones(30), (np.zeros(20), np.zeros(30)))
    assert math.isnan(equal.value)
    assert equal.p_value is None


# neighborhoods and queries


def test_repeats_of_the_nearest_row_are_searched_until_a_different_one_is_met():
    """Forty equal rows at 0 and one at 3: of the 16 nearest to 1 all are equal, of 128 one differs."""
    train = torch.cat([torch.zeros(40, 1), column(3.0)])
    queries = column(1.0, 0.0, 2.5)
    found = neighborhood(queries, train)
    assert found.index.shape == (3, 16)
    assert np.isnan(found.closeness(0.0)).tolist() == [True, True, False]
    s = closeness(queries, train, found, 0.0)
    position, ratio = 0.5 + (1 - 4) / 18, (1 / 4) / 2
    assert s[0] == pytest.approx(min(position, ratio) + ratio / 2)
    # 2.5 is at 0.5 from 3 and 2.5 from 0: 15 rows, of which five are compared
    assert s[2] == pytest.approx((0.5**2 / 2.5**2) / 2 * 1.5)
    alone = torch.zeros(5, 1)
    assert closeness(column(1.0), alone, neighborhood(column(1.0), alone), 0.0).tolist() == [math.inf]


def test_rows_that_occur_often_are_one_row_with_a_count():
    search = Search(column(5.0, 1.0, 5.0, 5.0, 8.0), flat, ())
    assert search.original.tolist() == [0, 1, 4]
    assert search.times.tolist() == [3, 1, 1]
    found = search(column(4.0, 9.0, 5.0), torch.tensor([2, 0]))
    assert found.distance.tolist() == [0.0, 1.0]
    assert found.near.index[:, 0].tolist() == [0, 0]
    assert found.near.times[1].tolist() == [3, 1, 1]
    assert found.transformation == ["", ""]
    assert found.untransformed.tolist() == [0.0, 1.0]
    assert found.next_distance(0.0).tolist() == [3.0, 3.0]
    assert found.next_distance(3.0).tolist() == [4.0, 3.0]  # 8 is one with 5, 1 is not
    assert found.next_distance(9.0).tolist() == [4.0, 4.0]  # all are: the farthest that was searched
    part = Search(column(5.0, 1.0, 5.0, 5.0, 8.0), flat, (), torch.tensor([4, 2, 0]))
    assert part.times.tolist() == [1, 2]
    assert part(column(7.0)).distance.tolist() == [1.0]


def test_queries_are_read_in_parts_that_fit():
    wide = torch.zeros(1, AT_ONCE // 32).expand(9, -1)
    assert [len(part) for part in _parts(wide, None)] == [8, 1]
    assert [len(part) for part in _parts(wide, torch.tensor([1, 2]))] == [2]
    assert [len(part) for part in _parts(wide[:0], None)] == [0]


def test_a_sample_at_two_training_rows_has_the_ratio_of_a_copy():
    found = measures._distances(column(5.0, 6.0), column(5.0, 5.0, 9.0))
    assert found.ratio.tolist() == [0.0, 1.0]
