"""Distances, neighbors, clusters and tests of rows exactly where one answer passes into another."""

# sets of examples are unpacked
# pyright: reportCallIssue=false

import math

import numpy as np
import pytest
import torch
from results_of_samples import balance, columns, covered, distance

from diffuscope.audit import alignment, nearness, repeats
from diffuscope.audit.alignment import low_frequencies
from diffuscope.audit.attack_scores import Attack, PairedLosses, attacks, group_means, null_deviation, whitening
from diffuscope.audit.closeness import NEIGHBORS, Neighborhood, closeness, neighborhood
from diffuscope.audit.column_distances import column_distances
from diffuscope.audit.column_shares import _distances, column_blocks, columns_finding
from diffuscope.audit.coverage import _permuted, coverage_finding, neighborhood_size
from diffuscope.audit.feature_likelihood import LEAST_VARIANCE, fitted_variances
from diffuscope.audit.frechet_ratio import fidelity, frechet_chart
from diffuscope.audit.label_shares import LabelBalance
from diffuscope.audit.modes import Modes, SelfRepeats, modes_finding, repeats_finding, self_repeats
from diffuscope.audit.nearness import clusters, kmeans
from diffuscope.audit.repeats import Repeats
from diffuscope.audit.some_rows import some_rows
from diffuscope.audit.standard_names import standard_measures, table_measures
from diffuscope.audit.table_attacks import TOLERANCE, _is_right
from diffuscope.audit.transformations import (
    LARGEST,
    LARGEST_SHIFT,
    LEAST_SIDE,
    averaged_shape,
    is_image,
    largest_shift,
    standardized,
)
from diffuscope.audit.wide_rows import WIDE, Span, are_wide
from diffuscope.errors import InputError
from numbers_in_tests import rng

# neighbors


def near(distances, between, times=None):
    """One query."""
    rows = [np.array([part]) for part in (distances, between, [1] * len(distances) if times is None else times)]
    return Neighborhood(index=np.arange(len(distances))[None], distance=rows[0], between=rows[1], times=rows[2])


@pytest.mark.parametrize(
    ("distances", "between", "s"),
    [
        # d_1 = 1 and one other: position 1/2 + (1 - d^2) / (2 b^2), half the ratio 1 / (2 d^2)
        ([1.0, 3.0], [0.0, 2.0], 1 / 18 + 1 / 36),  # position -1/2
        ([1.0, 2.0**0.5], [0.0, 1.0], 1 / 8),  # position 0
        ([0.0, 2.0], [0.0, 2.0], -4.0),  # a copy of an example whose next one is at 2
        ([1.0, 2.0], [0.0, 0.5], math.nan),  # at the radius both are one
    ],
)
def test_closeness_of_one_query_is_the_smaller_of_position_and_ratio(distances, between, s):
    assert near(distances, between).closeness(0.5)[0] == pytest.approx(s, nan_ok=True)


def test_five_different_neighbors_are_compared():
    d = np.array([1.0, 2.0, 4.0, 5.0, 8.0, 10.0, 1.0])  # the last would make the mean of 1 / d^2 larger
    found = near(d.tolist(), [0.0] + [1e3] * 6).closeness(0.5)[0]
    half = (1 / d[1:6] ** 2).mean() / 2  # all positions are 1/2, nearly
    assert found == pytest.approx(1.5 * half)


def test_isolation_counts_sixteen_others_as_often_as_they_occur():
    assert near([0.0, 3.0, 4.0], [0.0, 3.0, 4.0], [1, 20, 5]).isolation[0] == 9.0
    assert near([0.0, 3.0, 4.0], [0.0, 3.0, 4.0], [1, NEIGHBORS - 1, 5]).isolation[0] == (15 * 9 + 16) / 16
    assert near([0.0], [0.0], [1]).isolation[0] == 0.0  # there is no other


def test_there_are_no_more_neighbors_than_rows_and_as_many_are_searched_as_it_takes():
    train = torch.cat([torch.zeros(20, 1), torch.tensor([[4.0]])])
    query = torch.tensor([[1.0]])
    assert neighborhood(query, train, 3).index.shape == (1, 3)
    found = neighborhood(query, train, 50)
    assert found.index.shape == (1, 21)
    few = neighborhood(query, train, 2)
    assert np.isnan(few.closeness(0.5)).all()
    assert closeness(query, train, few, 0.5) == found.closeness(0.5)
    assert closeness(query, train[:20], few, 0.5) == np.inf


def test_samples_as_far_from_both_sets_decide_nothing():
    train, heldout = torch.zeros(3, 1), torch.full((3, 1), 2.0)
    tied = nearness.nearness(torch.ones(4, 1), train, heldout, 0.01, 0)
    assert (tied.decided, tied.share, tied.p_value) == (0, 0.5, 1.0)
    near = nearness.nearness(torch.full((4, 1), 0.1), train, heldout, 0.01, 0, copied=torch.ones(2, 1))
    assert (near.decided, near.share) == (4, 1.0)
    assert (near.planted, near.detectable) == (0.5, math.inf)  # planted copies are as far from both


@pytest.mark.parametrize(
    ("train", "heldout", "cells"), [(100, 25, 1), (25, 100, 1), (100, 100, 4), (20, 20, 1), (50, 49, 1)]
)
def test_a_cell_has_twenty_five_references_of_either_kind(train, heldout, cells):
    rows = torch.arange(200.0)[:, None] ** 2
    of_train, of_heldout = clusters(rows[:train], rows[100 : 100 + heldout], 0)
    assert len(np.union1d(of_train, of_heldout)) == cells


def test_cells_are_at_most_so_many_and_no_more_than_rows(monkeypatch):
    monkeypatch.setattr(nearness, "CELLS", 2)
    rows = torch.arange(200.0)[:, None] ** 2
    assert len(np.union1d(*clusters(rows[:100], rows[100:], 0))) == 2
    assert set(kmeans(rows[:3], 5, 0)(rows[:3])) == {0, 1, 2}
    assert set(kmeans(rows[:9], 2, 0)(rows)) == {0, 1}


# repeats, modes and coverage


def test_rows_at_the_radius_repeat_each_other_and_single_ones_are_no_group():
    rows = torch.tensor([[0.0], [5.0], [6.0]])
    found = repeats.repeats(rows, 1.0)
    assert (found.count, found.complete) == (1, True)
    assert [group.tolist() for group in found.groups] == [[1, 2]]
    assert repeats.repeats(rows[1:], 1.0).count == 1
    assert repeats.repeats(rows[:1], 1.0).count == 0
    assert [group.tolist() for group in Repeats(first=np.array([0, 1, 1, 0, 0, 5])).groups] == [[0, 3, 4], [1, 2]]


@pytest.mark.parametrize("sizes", [(6, 9, 9), (9, 6, 9), (9, 9, 6), (9, 9, 9)])
def test_as_many_are_compared_as_the_smallest_set_has_and_the_radius_counts(monkeypatch, sizes):
    """Of equally spaced rows all are at the radius; no more than MOST."""
    monkeypatch.setattr("diffuscope.audit.modes.MOST", 8)
    found = self_repeats(*(torch.zeros(size, 1) for size in sizes), rng())
    assert found.size == min(8, *sizes)
    rows = torch.arange(5.0)[:, None]
    found = self_repeats(rows, rows, rows, rng())
    assert (found.samples, found.training, found.radius) == (5, 5, 1.0)


def test_repeats_at_the_level_or_within_a_percent_are_no_fault():
    found = SelfRepeats(samples=60, training=0, size=1000, radius=1.0)
    assert repeats_finding(found, found.p_value).tone == "good"
    assert repeats_finding(found, math.nextafter(found.p_value, 1)).tone == "attention"


def test_clusters_that_lack_nothing_are_not_short_and_the_level_is_not_below_itself():
    made = balance([0.5, 0.25, 0.25], [0.25, 0.5, 0.25], p_value=0.01)
    assert isinstance(made, LabelBalance)
    found = Modes(balance=made, of_heldout=np.zeros(0, dtype=np.int64))
    assert found.shortest == [1]
    assert modes_finding(found, 0.01).tone != "attention"
    assert modes_finding(found, 0.0101).tone == "attention"


def test_a_neighborhood_of_few_is_all_of_them():
    assert neighborhood_size(4, 5) == 2
    assert neighborhood_size(4, 2) == 4


@pytest.mark.parametrize(("covers", "interval"), [(0.01, (0.0, 20.6)), (0.99, (79.4, 100.0)), (0.5, (30.4, 69.6))])
def test_the_interval_of_coverage_is_one_of_shares(covers, interval):
    found = coverage_finding(covered(samples=covers, training=covers, deviation=0.1), 0.01)
    assert found.interval == pytest.approx(interval)


def test_an_alarm_of_coverage_is_below_half_and_ties_are_no_evidence():
    assert coverage_finding(covered(samples=0.4, training=0.8), 0.01).tone == "attention"
    assert coverage_finding(covered(samples=0.39, training=0.8), 0.01).tone == "alarm"
    assert _permuted(np.ones((4, 6), dtype=bool), 3, rng(), 19) == (1.0, 0.0)


# distances of sets


@pytest.mark.parametrize("sizes", [(3, 9, 18), (9, 3, 18), (9, 9, 6)])
def test_a_distance_is_between_sets_as_large_as_the_data_allow(sizes):
    draws = np.random.default_rng(0).normal(size=(40, 2)).astype(np.float32)
    sets = [torch.from_numpy(draws[:size]) for size in sizes]
    assert fidelity(*sets, 0).size == 3  # one more than there are features
    fewer = [part[: len(part) - (2 if len(part) == 6 else 1)] if len(part) in (3, 6) else part for part in sets]
    with pytest.raises(InputError, match="a covariance of 2 features of full rank needs 3 examples"):
        fidelity(*fewer, 0)


def test_heldout_examples_at_one_point_have_no_distance():
    with pytest.raises(InputError, match="heldout: expected examples whose features differ"):
        fidelity(torch.rand(9, 1), torch.rand(9, 1), torch.zeros(18, 1), 0)


def test_draws_in_blocks_are_those_at_once(monkeypatch):
    draws = torch.from_numpy(np.random.default_rng(0).normal(size=(40, 2)))
    found = []
    for held in (10**6, 60, 1):
        monkeypatch.setattr("diffuscope.audit.frechet_ratio.CHUNK", held)
        found.append(fidelity(draws[:10], draws[10:20], draws[20:], 0).samples.value)
    assert found == pytest.approx(found[:1] * 3, rel=1e-12)


@pytest.mark.parametrize(
    ("ratio", "recited", "log", "limits"),
    [
        (6.0, 1.3, False, (0.0, 6.9)),
        (7.0, 1.3, True, (0.5, 10.5)),
        (7.0, 0.348, True, (0.2, 10.5)),  # 0.8 (0.348 - 1.96 * 0.05)
        (7.0, 0.1, True, (0.1, 10.5)),
    ],
)
def test_ratios_beyond_six_have_a_logarithmic_axis(ratio, recited, log, limits):
    (panel,) = frechet_chart(distance(ratio, error=0.0, recited=recited), {}, "").panels
    assert panel.x_log == log
    assert panel.x_range == pytest.approx(limits)


# columns of tables


def test_distances_of_columns_have_no_sign():
    names = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    cells = np.array([0, 0, 1, 1])
    assert _distances([cells, cells], [True, False], names).tolist() == [[1.0, 1.0], [1.0, 1.0]]


@pytest.mark.parametrize(("missing", "told"), [((0.1, 0.0), True), ((0.0, 0.1), True), ((0.0, 0.0), False)])
def test_values_missing_on_either_side_are_told(missing, told):
    found = columns_finding(columns(missing=np.array([[share] * 3 for share in missing])), 0.01)
    assert ("Missing in it" in found.verdict) == told


@pytest.mark.parametrize(("largest", "chance", "top"), [(0.3, 0.1, 0.39), (0.1, 0.3, 0.39), (0.0, 0.0, 0.013)])
def test_the_bars_of_columns_have_room(largest, chance, top):
    made = columns(distance=np.full(3, largest))
    made.tests.chance[:] = chance
    assert column_blocks(made, 0.01)[0].panels[0].y_range == pytest.approx((0.0, top))  # pyright: ignore


def test_numeric_columns_are_at_most_one_apart_and_a_constant_one_has_range_one():
    of = column_distances([np.array([0.0, 4.0])], [np.array([2.0])], np.array([False]))
    rows = [np.array([2.0])]
    assert of.nearest([np.array([1.0, 3.0, 9.0, -9.0])], rows, 1)[0][:, 0].tolist() == [0.25, 0.25, 1.0, 1.0]
    constant = column_distances([np.array([3.0])], [np.array([3.0])], np.array([False]))
    assert constant.nearest([np.array([3.25])], [np.array([3.0])], 1)[0].tolist() == [[0.25]]


def test_a_guess_is_right_within_its_tolerance_on_either_side():
    guess = np.array([100.0, 100.0, 100.0, -100.0, -100.0, -100.0])
    off = np.array([1 + TOLERANCE, 1 - TOLERANCE, 1.2, 1 + TOLERANCE, 1 - TOLERANCE, 1.2])
    assert _is_right(guess, guess * off, False).tolist() == [True, True, False] * 2


@pytest.mark.parametrize("short", [0, 1, 2, None])
def test_two_rows_of_each_set_can_be_measured_and_one_cannot(short):
    sets = [np.arange(1.0 if part == short else 2.0) + 10 * part for part in range(3)]
    rows = [torch.from_numpy(part)[:, None] for part in sets]
    assert bool(standard_measures(*rows, rng())) == (short is None)
    if short is not None:
        assert table_measures(*([part, part] for part in sets), np.array([False, False]), rng()) == []


# attacks


def test_means_of_groups_use_as_many_examples_as_the_smaller_group_has():
    """Groups of 2 and 1 against groups of 1 and 1."""
    parts = np.array([1.0, 2.0, 4.0]), np.array([5.0, 7.0])
    first, second = group_means(parts, (np.array([7, 3, 3]), np.array([1, 2])), rng())
    assert first.tolist() == [2.0, 1.0]
    assert sorted(second.tolist()) == [5.0, 7.0]


@pytest.mark.parametrize(("spread", "widening"), [(1.5, 1.5), (0.5, 1.0)])
def test_areas_that_vary_less_than_exchangeable_ones_are_not_believed(spread, widening):
    deviation = spread * null_deviation(4, 4)
    attack = Attack(np.zeros(4), np.zeros(4), 0.5, 0.5 + deviation * np.array([-1.0, 1.0]))
    assert attack.widening == pytest.approx(widening)


def test_losses_that_are_all_equal_reveal_nothing():
    each, p_value = attacks(PairedLosses(np.zeros((2, 6, 2)), np.zeros((2, 6, 2, 1))), rng(), 9)
    assert p_value == 1.0
    assert [attack.area for attack in each.values()] == [0.5, 0.5, 0.5]


def test_a_level_that_repeats_another_is_whitened_by_the_ridge():
    """Eigenvalues 2 s^2 and 0, their mean s^2: the ridge is 0.001 of it."""
    rows = np.array([[-1.0, -1.0], [0.0, 0.0], [1.0, 1.0]])
    values = np.linalg.eigvalsh(whitening(rows))
    assert values == pytest.approx([2.001**-0.5, 0.001**-0.5])


# images and wide rows


def test_images_have_four_pixels_along_each_side_at_least():
    assert is_image((1, LEAST_SIDE, 99))
    assert not is_image((1, LEAST_SIDE - 1, 99))
    assert largest_shift((1, 8, 99)) == 1
    assert largest_shift((1, 800, 99)) == LARGEST_SHIFT


@pytest.mark.parametrize(
    ("shape", "smaller"),
    [((1, 64, 64), (1, 64, 64)), ((1, 64, 65), (1, 32, 32)), ((1, 16, 999), (1, 16, 32)), ((LARGEST + 1,),) * 2],
)
def test_images_beyond_4096_values_are_averaged_along_sides_beyond_32(shape, smaller):
    assert averaged_shape(shape) == smaller


def test_constant_rows_are_standardized_to_nothing():
    rows = torch.tensor([[0.0, 0.0], [3.0, 3.0], [3.0, 5.0]])
    assert standardized(rows).tolist() == [[0.0, 0.0], [0.0, 0.0], pytest.approx([-(0.5**0.5), 0.5**0.5])]


@pytest.mark.parametrize(("height", "width", "frequencies"), [(4, 8, 3), (8, 4, 3), (40, 40, 9)])
def test_frequencies_are_low_along_both_axes_and_blind_to_mirror_images(height, width, frequencies):
    images = torch.rand(2, 1, height, width, generator=torch.Generator().manual_seed(0))
    found = low_frequencies(images)
    assert found.shape == (2, 2 * frequencies**2)
    assert torch.allclose(low_frequencies(images.flip(3)), found, atol=1e-5)
    assert bool((found >= 0).all())


def test_blocks_of_images_are_bounded_by_number_and_by_memory(monkeypatch):
    images = torch.zeros(2, 1, 4, 4)
    assert alignment._block(images) == alignment.BLOCK
    monkeypatch.setattr(alignment, "at_once", lambda width: 48 // width)
    assert alignment._block(images) == 3


def test_rows_are_wide_from_eight_numbers_per_row_on_and_equal_ones_span_a_point():
    assert are_wide(torch.zeros(2, 2 * WIDE))
    assert not are_wide(torch.zeros(2, 2 * WIDE - 1))
    for rows in (torch.zeros(3, 30), torch.full((3, 30), 0.1)):
        span = Span.of(rows)
        assert span.coordinates.shape == (3, 1)
        assert torch.allclose(span.points(span.coordinates), rows)


def test_a_sample_on_all_rows_has_the_least_variance_and_one_far_from_all_keeps_its_own():
    rows = torch.zeros(4, 2, dtype=torch.float64)
    square = torch.stack([torch.zeros(4), torch.full((4,), 1e9)], 1).double()
    found = fitted_variances(square, rows)
    assert found[0] == LEAST_VARIANCE
    assert bool(found.isfinite().all())


def test_rows_that_are_no_more_than_asked_for_stay_in_their_order():
    rows = torch.arange(9.0)[:, None]
    assert some_rows(rows, 9, rng()) is rows
    assert some_rows(rows, 8, rng()).shape == (8, 1)
