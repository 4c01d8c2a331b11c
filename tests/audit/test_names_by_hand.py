"""Measures that exchange names, of a few rows on a line: each against its definition, row by row, with ties."""

import math

import numpy as np
import pytest
import torch

from diffuscope.audit import name_permutations
from diffuscope.audit.exchanged_names import named_pool, named_rows
from diffuscope.audit.measure import Measure
from diffuscope.audit.name_permutations import (
    _nearest,
    _nearest_others,
    _sets,
    adversarial_accuracy,
    nearer_share,
    privacy_losses,
    share_nearer_training,
)
from numbers_in_tests import rng


def column(values):
    return torch.tensor(np.array(values, dtype=float))[:, None].float()


def ends(measure: Measure) -> tuple[float, float]:
    assert measure.interval is not None
    return measure.interval


def nearest(x, rows, own=None):
    """The distance from x to the nearest of the rows other than the one at `own`."""
    return min(abs(x - row) for k, row in enumerate(rows) if k != own)


def accuracy(real, samples):
    """AA(real, samples) as it is defined."""
    real_ones = [nearest(x, samples) > nearest(x, real, k) for k, x in enumerate(real)]
    of_samples = [nearest(x, real) > nearest(x, samples, k) for k, x in enumerate(samples)]
    return (np.mean(real_ones) + np.mean(of_samples)) / 2


def identified(real, samples):
    return np.mean([nearest(x, samples) < nearest(x, real, k) for k, x in enumerate(real)])


@pytest.mark.parametrize("seed", range(4))
def test_privacy_losses_are_differences_of_their_definitions(seed):
    """Of whole numbers, so that many distances are equal."""
    samples, train, heldout = rng(seed).integers(0, 25, (3, 9)).tolist()
    loss, share = privacy_losses(column(samples), column(train), column(heldout), rng())
    assert loss.value == pytest.approx(accuracy(heldout, samples) - accuracy(train, samples), abs=1e-15)
    assert share.value == pytest.approx(identified(train, samples) - identified(heldout, samples))
    assert (loss.null, share.null, loss.copies, share.copies) == (0.0, 0.0, "high", "high")


@pytest.mark.parametrize("seed", range(3))
def test_accuracy_and_identifiability_are_their_definitions(seed):
    """Without ties: these count with a chance."""
    samples, train = rng(seed).random((2, 7)).tolist()
    of_names, share = adversarial_accuracy(column(samples), column(train), rng())
    assert of_names.value == pytest.approx(accuracy(train, samples))
    assert share.value == pytest.approx(identified(train, samples))
    assert (of_names.null, share.null) == pytest.approx((6 / 13, 7 / 13))


def test_tied_neighbors_have_the_chance_of_a_draw_without_replacement():
    """Rows 0, 0, 0, 9, 9, 9 with three of either name: each has two others at distance 0, of the five others."""
    of_names, share = adversarial_accuracy(column([0, 0, 9]), column([0, 9, 9]), rng())
    assert of_names.null == pytest.approx(math.comb(2, 2) / math.comb(5, 2))
    assert share.null == pytest.approx(math.comb(3, 2) / math.comb(5, 2))


def test_copies_of_training_rows_lose_all_privacy_and_no_more():
    """The values are at the ends of their ranges, and so are the intervals."""
    train, heldout = column([0, 10, 20, 30]), column([1000, 1001, 1003, 1006])
    copied = privacy_losses(train, train, heldout, rng())
    assert [(each.value, ends(each)[1]) for each in copied] == [(1.0, 1.0)] * 2
    others = privacy_losses(train, heldout, train, rng())
    assert [(each.value, ends(each)[0]) for each in others] == [(-1.0, -1.0)] * 2
    copies, share = adversarial_accuracy(train, train, rng())
    assert (copies.value, ends(copies)[0], share.value, ends(share)[1]) == (0.0, 0.0, 1.0, 1.0)
    apart, share = adversarial_accuracy(heldout, train, rng())
    assert (apart.value, ends(apart)[1], share.value, ends(share)[0]) == (1.0, 1.0, 0.0, 0.0)
    assert ends(copies)[1] < 0.9  # 1.96 deviations
    for each in (*copied, *others, copies, apart, share):  # of 999 permutations
        assert each.p_value is not None
        assert 1000 * each.p_value == pytest.approx(round(1000 * each.p_value))
    for sets, end in (((train, heldout), 1), ((heldout, train), 0)):
        near = share_nearer_training(train + 0.1, *sets, rng())
        assert (near.value, ends(near)[end], near.null) == (end, end, 0.5)


@pytest.mark.parametrize(("sizes", "most", "n"), [((8, 5, 6), 99, 5), ((3, 5, 6), 99, 3), ((8, 7, 9), 4, 4)])
def test_sets_of_equal_sizes_are_compared(monkeypatch, sizes, most, n):
    """The loss is a sum of so many halves of an n-th."""
    monkeypatch.setattr(name_permutations, "MOST", most)
    samples, train, heldout = (column(rng(size).random(size)) for size in sizes)
    loss, share = privacy_losses(samples, train, heldout, rng(3))
    assert loss.value * 2 * n == pytest.approx(round(loss.value * 2 * n), abs=1e-4)
    assert share.value * n == pytest.approx(round(share.value * n), abs=1e-4)
    of_names, _ = adversarial_accuracy(samples, train, rng())
    fewest = min(most, *sizes[:2])
    assert of_names.null == pytest.approx((fewest - 1) / (2 * fewest - 1))


def test_no_more_than_thirty_two_neighbors_and_all_where_there_are_fewer():
    rows = column(range(40))
    assert [part.shape for part in _nearest(rows[:3], rows)] == [(3, 32)] * 2
    assert [part.shape for part in _nearest(rows[:3], rows[:9])] == [(3, 9)] * 2
    assert [part.shape for part in _nearest_others(rows)] == [(40, 32)] * 2
    distance, index = _nearest_others(rows[:3])
    assert distance.tolist() == [[1.0, 2.0], [1.0, 1.0], [1.0, 2.0]]
    assert index[0].tolist() == [1, 2]


def test_sets_of_neighbors_are_rows_of_zeros_and_ones():
    chosen = np.array([[True, False], [True, True], [False, False]])
    found = _sets(np.array([[3, 0], [2, 1], [0, 1]]), chosen, 4).toarray()
    assert found.tolist() == [[0, 0, 0, 1], [0, 1, 1, 0], [0, 0, 0, 0]]


def test_a_share_of_ties_alone_is_a_half_and_permutations_count():
    """With two names each, the neighbors of the first sample are both training rows in one of six assignments."""
    named = named_rows(2, 2, rng())
    of = np.argsort(named.index)  # where each row is
    index = np.array([[of[0], of[1]], [of[2], of[3]]])
    found = nearer_share("n", named, np.zeros((2, 2)), index, rng())
    assert (found.value, found.reader, found.name) == (0.5, "tables", "n")
    assert (found.low, found.high, found.p_value) == (0.5, 0.5, 1.0)
    apart = nearer_share("n", named, np.array([[0.0, 1.0], [0.0, 1.0]]), np.array([[of[0], of[2]]] * 2), rng())
    assert (apart.value, apart.low, apart.high) == (1.0, 0.0, 1.0)
    assert apart.p_value == pytest.approx(0.5, abs=0.06)  # the nearest row is of either name


def test_the_pool_has_the_chosen_rows_of_either_set():
    first, second = column([1, 2, 3]), column([-1, -2, -3, -4])
    named, rows = named_pool(first, second, rng())
    assert len(rows) == 6
    assert (rows[:, 0] > 0).tolist() == named.first.tolist()
    whole = torch.cat([first, second])
    assert torch.equal(rows, whole[torch.from_numpy(named.index)])
    few, some = named_pool(first, second, rng(), np.array([7, 7, 8]), np.array([1, 2, 3, 3]), most=1)
    assert len(few.is_first) == 2
    assert len(set((some[some > 0] > 2).tolist())) == 1  # of one group
