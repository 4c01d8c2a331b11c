"""Nearness of a few points on a line, counted by hand: hits, cells, p-value, power and the clusters of the cells."""

import itertools
import math

import numpy as np
import pytest
import torch
from made_by_hand import column
from scipy import stats

from diffuscope.audit import rows_of
from diffuscope.audit.nearness import _hits, balanced, clusters, kmeans, nearness, nearness_finding

TRAIN, HELDOUT = column(0.0, 10.0, 20.0, 30.0), column(5.0, 15.0, 25.0, 35.0)
SAMPLES = column(0.1, 0.2, 0.3, 10.1, 5.1, 15.1, 25.1, 35.1, 35.2, 2.5)  # the last is tied
HITS = ((3, 1, 0, 0), (1, 1, 1, 2))


def chance(hits, names, observed):
    """P(hits of training references >= observed), and their variance, over all assignments of the names."""
    sums = [sum(itertools.compress(hits, chosen)) for chosen in names]
    return np.mean([s >= observed for s in sums]), np.var(sums)


def test_the_nearest_references_of_samples_are_counted_without_ties():
    assert _hits(SAMPLES, TRAIN, HELDOUT).tolist() == [3, 1, 0, 0, 1, 1, 1, 2]
    assert _hits(SAMPLES, HELDOUT, TRAIN).tolist() == [1, 1, 1, 2, 3, 1, 0, 0]
    assert _hits(column(1.0), column(0.0), column(5.0)).tolist() == [1, 0]


def test_samples_on_a_line_have_the_share_the_p_value_and_the_power_of_all_assignments_of_the_names():
    near = nearness(SAMPLES, TRAIN, HELDOUT, 0.01, 0)
    assert (near.nearer, near.decided, near.references, near.planted) == (4, 9, 4, 1.0)
    assert near.share == 4 / 9
    assert near.binomial_p_value == pytest.approx(sum(math.comb(9, k) for k in range(4, 10)) / 2**9)
    names = [[k in chosen for k in range(8)] for chosen in itertools.combinations(range(8), 4)]
    p_value, variance = chance([*HITS[0], *HITS[1]], names, 4)
    assert near.p_value == pytest.approx(p_value, abs=0.02)
    assert near.p_value * 10_000 == pytest.approx(round(near.p_value * 10_000))
    shift = (stats.norm.isf(0.01) + stats.norm.isf(0.05)) * variance**0.5 / 9
    assert near.detectable == math.inf  # of copies alone a half more are nearer, and 0.67 more would be needed
    assert shift > 0.5
    weak = nearness(SAMPLES, TRAIN, HELDOUT, 0.3, 0)
    shift = (stats.norm.isf(0.3) + stats.norm.isf(0.05)) * variance**0.5 / 9
    assert weak.detectable == pytest.approx(shift / 0.5, rel=0.02)


def test_names_are_permuted_within_the_cells_alone():
    """One reference of either kind in a cell: the third and the fourth differ by nothing, the others by 2, 0."""
    cells = np.arange(4), np.arange(4)
    near = nearness(SAMPLES, TRAIN, HELDOUT, 0.3, 0, cells)
    pairs = list(zip(*HITS, strict=True))
    sums = [sum(chosen) for chosen in itertools.product(*pairs)]
    assert near.p_value == pytest.approx(np.mean([s >= 4 for s in sums]), abs=0.02)
    shift = (stats.norm.isf(0.3) + stats.norm.isf(0.05)) * np.std(sums) / 9
    assert near.detectable == pytest.approx(shift / 0.5, rel=0.02)


def test_the_interval_draws_references_with_their_samples_again():
    """Two references with 3 hits and 1: with probability 1/4 each both draws are of one, else 3 of 4 are nearer."""
    near = nearness(column(0.1, 0.2, 0.3, 5.1), TRAIN, HELDOUT, 0.01, 0)
    assert near.interval == (0.0, 1.0)
    many = torch.arange(400.0)[:, None]
    samples = torch.cat([many[:300] + 0.1, many[300:] + 0.4])
    found = nearness(samples, many, many + 0.5, 0.01, 0)
    assert (found.nearer, found.decided, found.references) == (300, 400, 400)
    half = 1.96 * (0.75 * 0.25 / 400) ** 0.5
    assert found.interval == pytest.approx((0.75 - half, 0.75 + half), abs=0.006)


def test_planted_examples_that_are_all_tied_find_nothing():
    """They are nearer to neither kind: half of them by convention, and no power."""
    near = nearness(column(0.1, 5.1), column(0.0), column(5.0), 0.01, 0, copied=column(2.5))
    assert (near.nearer, near.decided, near.references) == (1, 2, 1)
    assert (near.planted, near.detectable, near.p_value) == (0.5, math.inf, 1.0)
    assert nearness(column(0.1, 5.1), column(0.0), column(5.0), 0.01, 0).detectable == 0.0  # no name matters


def test_five_hundred_planted_examples_are_drawn_of_all_that_may_be_copied():
    """Between the references 0 and 1, two of the four that may be planted are nearer to training."""
    near = nearness(column(0.1), column(0.0), column(1.0), 0.01, 0, copied=column(0.2, 0.3, 0.9, 7.0))
    assert near.planted == pytest.approx(0.5, abs=0.08)
    assert near.planted * 500 == pytest.approx(round(near.planted * 500))
    assert near.planted not in (0.0, 0.5, 1.0)


def test_cells_keep_equally_many_references_of_either_kind():
    of_train, of_heldout = np.array([7, 0, 0, 0, 1, 2]), np.array([1, 3, 0, 1, 1, 7])
    rng = np.random.default_rng(0)
    drawn = [balanced(of_train, of_heldout, rng) for _ in range(60)]
    assert all(of_train[a].tolist() == of_heldout[b].tolist() == [0, 1, 7] for a, b in drawn)
    assert {int(a[0]) for a, _ in drawn} == {1, 2, 3}
    assert {int(b[1]) for _, b in drawn} == {0, 3, 4}
    more = balanced(np.zeros(5, int), np.zeros(3, int), rng)
    assert [len(set(kept.tolist())) for kept in more] == [3, 3]
    assert [kept.tolist() for kept in balanced(np.zeros(2, int), np.ones(2, int), rng)] == [[], []]


@pytest.mark.parametrize(("cells", "references"), [((np.arange(4), np.arange(4) + 9), 0), (None, 4)])
def test_without_a_count_nothing_is_known(cells, references):
    near = nearness(column(2.5, 7.5), TRAIN, HELDOUT, 0.01, 0, cells)
    assert (near.nearer, near.decided, near.references, near.interval) == (0, 0, references, (0.0, 1.0))
    assert (near.p_value, near.binomial_p_value, near.planted, near.detectable) == (1.0, 1.0, 0.5, math.inf)
    found = nearness_finding(near, "pixels", "", 0.01)
    assert (found.value, found.interval, found.tone) == (50.0, (0.0, 100.0), "unknown")


@pytest.mark.parametrize(("train", "heldout", "count"), [(24, 90, 1), (90, 50, 2), (75, 99, 3), (520, 600, 20)])
def test_a_cell_has_at_least_twenty_five_references_of_the_fewer_kind(train, heldout, count):
    rows = torch.randn(train + heldout, 2, generator=torch.Generator().manual_seed(0))
    found = clusters(rows[:train], rows[train:], 0)
    assert [len(part) for part in found] == [train, heldout]
    assert len(np.union1d(*found)) == count


def test_clusters_of_wide_rows_are_fitted_to_as_many_as_fit_of_either_kind(monkeypatch):
    """No fewer than 256 of either kind."""
    monkeypatch.setattr(rows_of, "AT_ONCE", 8)
    read = []

    class Rows(rows_of.RowsOf):
        def __getitem__(self, places):
            read.append(len(places))
            return super().__getitem__(places)

    events = torch.randn(300, 2, generator=torch.Generator().manual_seed(0))
    rows = Rows(events, None, lambda x: x, 2)
    clusters(rows, rows, 0)
    assert read == [256, 256]
    monkeypatch.setattr(rows_of, "AT_ONCE", 4 * 2 * 2 * 290)  # 290 rows of both kinds
    clusters(rows, rows, 0)
    assert read[2:] == [290, 290]


def test_wide_rows_are_in_the_cluster_of_the_nearest_center():
    """Two rows about 7 and four about 17 on the first axis of many: the centers are equally far from 12."""
    rows = torch.zeros(6, 64)
    rows[:, 0] = torch.tensor([6.0, 8.0, 16.0, 18.0, 16.5, 17.5])
    rows[:, 1] = torch.tensor([1.0, -1.0, 1.0, -1.0, 1.0, -1.0])
    queries = torch.zeros(4, 64)
    queries[:, 0] = torch.tensor([7.0, 11.8, 12.2, 17.0])
    first, second, third, fourth = kmeans(rows, 2, 0)(queries).tolist()
    assert first == second != third == fourth
    assert sorted(kmeans(rows[:2], 9, 0)(rows[:2])) == [0, 1]  # no more clusters than rows


def test_seeds_beyond_thirty_two_bits_are_taken_by_their_remainder():
    rows = torch.randn(99, 2, generator=torch.Generator().manual_seed(0))
    found = [kmeans(rows, 7, seed)(rows).tolist() for seed in (0, 2, 2**32, 2**32 + 2)]
    assert found[:2] == found[2:]
    assert found[0] != found[1]
