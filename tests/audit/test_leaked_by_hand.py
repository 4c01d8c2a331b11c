"""Which held-out examples repeat training examples, of made-up distances: limits and chances written out."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from diffuscope.audit.copy_queries import Queries
from diffuscope.audit.leaked import (
    AmongHalf,
    _by_chance,
    _exact_repeats,
    _least_fresh,
    _near_repeats,
    find_leaked,
    repeating,
)


class Made(Queries):
    """Queries of given distances and closeness, which does not depend on the radius."""

    made: tuple[np.ndarray, np.ndarray]
    radius: float

    def __init__(self, statistic, distance=None, rows=None, times=None):
        values = np.asarray(statistic, dtype=float)
        n = len(values)
        made = {
            "made": (values, np.ones(n) if distance is None else np.asarray(distance, dtype=float)),
            "rows": torch.arange(float(n))[:, None] if rows is None else rows,
            "times": np.ones(n, dtype=np.int64) if times is None else times,
            "untransformed": np.arange(n) ** 2.0,
        }
        for name, value in made.items():
            object.__setattr__(self, name, value)

    @property
    def distance(self):
        return self.made[1]

    def statistic(self, radius):
        self.__dict__["radius"] = radius
        return self.made[0]


def extrapolated(values, a, b):
    """q(a) (1 / (10 n a))^(1/d), with d = log(b/a) / log(q(b)/q(a))."""
    low, high = np.quantile(values, (a, b))
    return low * (0.1 / (len(values) * a)) ** (math.log(high / low) / math.log(b / a))


@pytest.mark.parametrize("values", [[1.0, 2.0, 8.0], [1.0, 7.0, 8.0]], ids=["a tenth", "a quarter"])
def test_the_larger_of_two_extrapolations_is_the_limit(values):
    """From the quantiles at 0.1, 0.25 and 0.5, between values that all differ."""
    spread = np.interp(np.arange(101) / 100, [0, 0.1, 0.25, 0.5, 1], [0.5, *values, 20.0])
    limits = [extrapolated(spread, a, 0.5) for a in (0.1, 0.25)]
    assert (limits[0] > limits[1]) == (values[1] == 2)
    assert _least_fresh(spread) == pytest.approx(max(limits))


def test_near_repeats_are_left_out_until_none_is_below_the_limit():
    """Three of forty that are nearer by far; the radius is the one of the others."""
    fresh = Made([*(np.arange(4, 41) / 40), 1e-9, 2e-9, 0.0])
    exact = np.zeros(40, dtype=bool)
    near, radius, limit = _near_repeats(fresh, exact)
    assert np.flatnonzero(near).tolist() == [37, 38, 39]
    assert limit == pytest.approx(max(extrapolated(np.arange(4, 41) / 40, a, 0.5) for a in (0.1, 0.25)))
    assert radius == fresh.radius == pytest.approx(np.quantile(np.arange(37) ** 2.0, 0.01))


def test_exact_repeats_that_stay_are_not_near():
    parts = np.full(3, -1.0), np.linspace(1, 1.001, 4), np.linspace(3, 8, 6), np.linspace(9, 20, 12)
    values = np.concatenate(parts)  # the first are of exact repeats
    distance = np.where(values < 0, 0.0, 1.0)
    near, _, limit = _near_repeats(Made(values, distance), np.zeros(25, dtype=bool))
    assert not near.any()
    expected = [extrapolated(np.maximum(values, 0), a, 0.5) for a in (0.1, 0.25)]
    assert limit == pytest.approx(max(expected))
    assert np.quantile(values, 0.1) < 0 < expected[1] < expected[0]


def test_the_limit_itself_is_fresh(monkeypatch):
    monkeypatch.setattr("diffuscope.audit.leaked._least_fresh", lambda _: 3.0)
    near, _, limit = _near_repeats(Made(np.arange(1.0, 31)), np.zeros(30, dtype=bool))
    assert (np.flatnonzero(near).tolist(), limit) == ([0, 1], 3.0)


@pytest.mark.parametrize(("count", "radius"), [(19, 0.0), (20, np.quantile(np.arange(20) ** 2.0, 0.01))])
def test_twenty_examples_tell_the_tail(count, radius):
    values = np.linspace(1, 2, count)
    near, found, limit = _near_repeats(Made(values), np.zeros(count, dtype=bool))
    assert (near.any(), found) == (False, pytest.approx(radius))
    assert (limit > 0) == (count == 20)
    assert limit == (0.0 if count == 19 else pytest.approx(_least_fresh(values)))
    infinite = Made(np.full(count, np.inf))
    assert _near_repeats(infinite, np.zeros(count, dtype=bool))[2] == 0.0


def among(heldout, *parts, size=None):
    made = [Made(*part) for part in parts]
    return AmongHalf(
        heldout=Made(*heldout), others=iter(made), size=size or sum(len(part.made[0]) for part in made)
    )  # fmt: skip


LOW, HIGH = 1e-9, 0.9


def near_ones(count, of):
    return [LOW] * count + [HIGH] * (of - count)


def test_near_repeats_up_to_chance_are_all_natural():
    """P(X >= 1) = 1/20 where one of 1 + 19 is marked, and 5.3% where four of 20 + 20 are."""
    assert _by_chance(among((near_ones(1, 1),), size=19), 1.0, 0.5, 1) == 1
    assert _by_chance(among((near_ones(4, 20),), size=20), 1.0, 0.5, 20) == 20
    assert _by_chance(among((near_ones(5, 20),), (near_ones(0, 20),)), 1.0, 0.5, 20) == 0  # 2.4%


def test_one_of_twenty_six_is_beyond_chance_whichever_set_is_the_larger():
    assert _by_chance(among((near_ones(1, 1),), (near_ones(0, 25),)), 1.0, 0.5, 1) == 0


def test_training_examples_are_not_asked_where_nothing_is_near():
    asked = []

    def of_half(places):
        asked.append(places)
        return among((near_ones(0, 30),))

    found = repeating(Made(np.linspace(1, 2, 30)), of_half)
    assert (found.leaked.any(), asked) == (False, [])


def test_near_repeats_of_a_limit_and_equal_ones_do_not_count():
    """Of the held-out examples one is at the limit and one equals a training example: four are left."""
    heldout = ([*near_ones(4, 18), 0.5, LOW], [1.0] * 19 + [0.0])
    assert _by_chance(among(heldout, size=20), 1.0, 0.5, 20) == 20
    heldout = ([*near_ones(5, 18), 0.5, LOW], [1.0] * 19 + [0.0])
    assert _by_chance(among(heldout, (near_ones(0, 20),)), 1.0, 0.5, 20) == 0


def test_training_examples_explain_as_many_as_their_share_of_all_heldout_ones():
    """Three of 19 others that equal no known one: 2 * 20 * 3 / 19 = 6.3 of twelve."""
    parts = (near_ones(1, 10),), ([*near_ones(2, 9), LOW], [1.0] * 9 + [0.0])
    assert _by_chance(among((near_ones(12, 20),), *parts), 1.0, 0.5, 20) == 7


def test_parts_are_read_until_one_decides():
    read = []

    def parts():
        for count in (1, 5, 9):
            read.append(count)
            yield Made(near_ones(count, 10))

    again = AmongHalf(heldout=Made(near_ones(9, 20)), others=parts(), size=30)
    assert stats.hypergeom.sf(8, 50, 15, 20) > 0.05 > stats.hypergeom.sf(8, 50, 10, 20)
    assert _by_chance(again, 1.0, 0.5, 20) == 20
    assert read == [1, 5]
    # six of 25 equal a known one, so that one of 1 + 19 is marked: P(X >= 1) = 1/20
    again = among((near_ones(1, 1),), ([HIGH] * 6, [0.0] * 6), (near_ones(0, 19),))
    assert _by_chance(again, 1.0, 0.5, 1) == 1


def test_the_lowest_near_repeats_stay_that_training_examples_explain():
    """Eight of ten near ones are leaked: of 40 that equal no training example, 2 * 40 * 1 / 40 = 2 are explained."""
    values = np.concatenate([np.arange(10, 40) / 40, [5e-9, 3e-9, 1e-9, 2e-9, 4e-9, 6e-9, 7e-9, 8e-9, 9e-9, 1e-8, 0.0]])
    fresh, asked = Made(values, np.where(values > 0, 1.0, 0.0)), []

    def among_half(places):
        asked.append(places.tolist())
        return among((near_ones(10, 10),), ([LOW] + [HIGH] * 39,))

    found = repeating(fresh, among_half)
    assert asked == [list(range(30, 40))]
    assert np.flatnonzero(found.near & ~found.leaked).tolist() == [32, 33]
    assert (found.natural, found.all_natural) == (2, False)
    assert np.flatnonzero(found.leaked).tolist() == [30, 31, 34, 35, 36, 37, 38, 39, 40]
    assert found.count_near(fresh) == 10
    assert find_leaked(fresh)[0].sum() == 11


def most_pairs(pairs):
    return stats.chi2.isf(0.01, 2 * pairs + 2) / 2


@pytest.mark.parametrize(
    ("n", "total", "pairs"),
    [
        (200, 900, (40, 3)),
        (200, 900, (3, 40)),
        (200, 900, (0, 400)),
        (22, 26, (0, 1)),
        (20, 25, (1, 0)),
        (99, 99, (1, 1)),
    ],
)
def test_equal_examples_are_leaked_if_they_are_more_than_coinciding_pairs_bound(n, total, pairs):
    """Pairs among n held-out rows, or among the N training ones, of rows that occur at most twice."""
    rows = torch.cat([torch.arange(float(n - pairs[0])), torch.arange(float(pairs[0]))])[:, None]
    times = np.where(np.arange(total - pairs[1]) < pairs[1], 2, 1)
    chance = min(most_pairs(pairs[0]) * 2 * total / (n - 1), most_pairs(pairs[1]) * 2 * n / (total - 1))
    most = int(stats.poisson.isf(0.01, chance))  # P(more) < 1%
    for repeats, leaked in ((most, 0), (most + 1, most + 1)):
        distance = np.where(np.arange(n) < repeats, 0.0, 1.0)
        assert _exact_repeats(Made(np.ones(n), distance, rows, times)).sum() == leaked
