"""Measures, the copying test, names and owners against enumeration and closed forms, in small unsymmetric cases."""

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from diffuscope.audit.distance_measures import LEAST_IN_CELL, copying_test
from diffuscope.audit.exchanged_names import named_rows
from diffuscope.audit.measure import at_least, permuted_measure, permuted_range, quantile_measure, share_measure
from diffuscope.audit.name_permutations import adversarial_accuracy, nearer_share
from diffuscope.audit.owner_sets import owner_p_value
from diffuscope.audit.standard_names import measures_table
from diffuscope.errors import InputError
from numbers_in_tests import rng

# measures


def chance_of_at_least(k, marked, n, m):
    """P(X >= k), X of n draws among n + m of which `marked` are: by counting."""
    ways = [math.comb(marked, x) * math.comb(n + m - marked, n - x) for x in range(n + 1)]
    return sum(ways[k:]) / math.comb(n + m, n)


@pytest.mark.parametrize(("x", "y", "copies"), [(7, 2, "high"), (1, 9, "low"), (4, 3, None)])
def test_a_share_is_tested_by_counting(x, y, copies):
    n, m = 12, 15
    found = share_measure("x", np.arange(n) < x, np.arange(m) < y, copies=copies, meaning="m", reader="images")
    p_high = [chance_of_at_least(k, k + y, n, m) for k in range(n + 1)]
    p_low = [1 - chance_of_at_least(k + 1, k + y, n, m) for k in range(n + 1)]
    inside = [k for k in range(n + 1) if p_high[k] > 0.025 and p_low[k] > 0.025]
    assert (found.low, found.high) == pytest.approx((100 * inside[0] / n, 100 * inside[-1] / n))
    assert (found.value, found.null) == pytest.approx((100 * x / n, 100 * y / m))
    expected = {"high": p_high[x], "low": p_low[x], None: None}[copies]
    assert found.p_value == (None if expected is None else pytest.approx(expected))
    assert at_least(x, y, n, m) == pytest.approx(p_high[x])
    ends = stats.beta.ppf([0.025, 0.975], [x, x + 1], [n - x + 1, n - x])
    assert found.interval == pytest.approx(tuple(100 * ends))
    assert (found.copies, found.reader, found.meaning) == (copies, "images", "m")


def test_a_share_whose_chance_is_a_fortieth_is_outside_of_what_is_normal():
    """Of 2 samples and 14 fresh ones 3 are marked; both samples are with probability 14/560 = 0.025 exactly."""
    assert at_least(2, 1, 2, 14) == 0.025
    assert share_measure("x", np.zeros(2, bool), np.arange(14) < 1, copies=None, meaning="").high == 50.0


@pytest.mark.parametrize("level", [0.05, 0.5])
def test_a_quantile_is_tested_by_the_precedence_of_order_statistics(level):
    n, m = 41, 60
    samples, fresh = rng(1).normal(-0.3, 1, n), rng(2).normal(0, 1, m)
    found = quantile_measure("q", samples, fresh, level, (-9.0, 9.0), copies="low", meaning="m")
    ordered, reference = np.sort(samples), np.sort(fresh)
    k = math.floor((n - 1) * level + 1e-9) + 1  # 3 and 21
    before = int((fresh <= ordered[k - 1]).sum())
    assert found.p_value == pytest.approx(chance_of_at_least(k, k + before, n, m))
    below = [chance_of_at_least(k, k + j - 1, n, m) for j in range(1, m + 1)]
    lower = [j for j in range(m) if below[j] <= 0.025]
    upper = [j for j in range(m) if below[j] >= 0.975]
    assert found.low == (reference[lower[-1]] if lower else -9.0)
    assert found.high == (reference[upper[0]] if upper else 9.0)
    ranks = stats.binom.ppf([0.025, 0.975], n, level).astype(int)
    assert found.interval == (ordered[ranks[0] - 1] if ranks[0] else -9.0, ordered[ranks[1]])
    assert (found.value, found.null) == (np.quantile(samples, level), np.quantile(fresh, level))
    assert quantile_measure("q", samples, fresh, level, (-9.0, 9.0), copies=None, meaning="m").p_value is None
    few = quantile_measure("q", samples[:3], fresh[:3], 0.5, (-9.0, 9.0), copies="low", meaning="m")
    assert few.interval == (-9.0, 9.0)
    assert (few.low, few.high) == (-9.0, 9.0)  # P(V <= W_1) = 1/5, P(V <= W_3) = 4/5


def test_a_permuted_statistic_is_compared_on_the_side_of_copies_within_its_bounds():
    permuted = np.linspace(0.1, 0.9, 81)  # steps of 0.01
    high = permuted_measure("s", 0.88, permuted, copies="high", meaning="", bounds=(0.0, 1.0))
    assert high.p_value == pytest.approx((1 + 3) / 82)  # 0.88, 0.89 and 0.9: a tie counts
    low = permuted_measure("s", 0.115, permuted, 0.4, copies="low", meaning="", bounds=(0.0, 1.0), half=0.2)
    assert low.p_value == pytest.approx((1 + 2) / 82)
    assert (low.null, low.interval) == (0.4, pytest.approx((0.0, 0.315)))
    assert high.null == pytest.approx(0.5)
    reach = 1.96 * float(permuted.std())
    assert high.interval == pytest.approx((0.88 - reach, 1.0))
    assert reach > 0.12
    free = permuted_measure("s", 0.5, permuted, copies="high", meaning="")
    assert free.interval == pytest.approx((0.5 - reach, 0.5 + reach))
    assert (free.low, free.high) == pytest.approx((0.11, 0.89))  # 0.025 * 82 = 2.05: the second of either end
    tied = permuted_measure("s", 0.5, np.full(9, 0.5 - 5e-7), copies="high", meaning="")
    assert tied.p_value == 1.0
    beyond = permuted_measure("s", 0.5, np.full(9, 0.5 - 1.05e-6), copies="high", meaning="")  # than a millionth
    assert beyond.p_value == 0.1
    assert permuted_measure("s", 0.5, np.full(9, 0.5 - 5e-7), copies="high", meaning="", tied=1e-9).p_value == 0.1
    assert permuted_range(np.arange(1.0, 120)) == (3.0, 117.0)  # 0.025 * 120 = 3
    assert permuted_range(np.arange(1.0, 10)) == (1.0, 9.0)


def test_the_table_of_measures_groups_readers_and_writes_intervals():
    samples = np.array([True] * 3 + [False] * 7)
    shared: dict[str, Any] = {"copies": "high", "meaning": "m"}
    measures = [
        share_measure("c", samples, samples, **shared, reader="images"),
        share_measure("a", samples, samples, **shared),
        permuted_measure("b", math.nan, np.arange(9.0), copies="high", meaning="m"),
    ]
    rows = measures_table(measures, "pixels").rows
    assert [row[:2] for row in rows] == [["both", "a"], ["tables", "b"], ["images", "c"]]
    assert rows[0][2] == "30 (7 to 65)"
    assert rows[0][4] == "0.69"
    assert rows[1][2:5] == [None, None, None]


# the two tests of a copying test, names and owners


def test_the_copying_test_is_the_mann_whitney_statistic_of_every_cell():
    ours = np.concatenate([np.arange(20.0), np.arange(25.0), np.zeros(3)])
    theirs = np.concatenate([np.arange(30.0) + 2.5, np.arange(20.0) // 2, np.ones(9)])
    cells = np.repeat([0, 1, 2], [20, 25, 3]), np.repeat([0, 1, 2], [30, 20, 9])
    found = copying_test(ours, theirs, cells)
    z = []
    for a, b in ((ours[:20], theirs[:30]), (ours[20:45], theirs[30:50])):
        u = sum((x > y) + 0.5 * (x == y) for x, y in itertools.product(a, b))
        both, n, m = np.concatenate([a, b]), len(a), len(b)
        # the variance of a rank sum of sampling without replacement, of ranks averaged over ties
        ranks = stats.rankdata(both)
        z.append((u - n * m / 2) / (n * m / (n + m) * ranks.var(ddof=1)) ** 0.5)
    share = np.array([0.6, 0.4])  # of the held-out examples of cells with enough
    deviation = (share**2).sum() ** 0.5
    assert found.value == pytest.approx(share @ z)
    assert (found.low, found.high) == pytest.approx((-1.96 * deviation, 1.96 * deviation))
    assert found.interval == pytest.approx((found.value - 1.96 * deviation, found.value + 1.96 * deviation))
    assert found.p_value == pytest.approx(stats.norm.cdf(found.value / deviation))
    few = LEAST_IN_CELL - 1
    assert math.isnan(copying_test(np.zeros(few), np.ones(99), (np.zeros(few, int), np.zeros(99, int))).value)
    enough = copying_test(np.zeros(20), np.ones(20), (np.zeros(20, int), np.zeros(20, int)))
    assert enough.value < -5


def test_names_are_taken_of_equally_many_units_of_either_set():
    named = named_rows(np.array([4, 4, 7, 9]), 3, rng())
    assert named.is_first.tolist() == [True] * 3 + [False] * 3
    assert sorted(named.index.tolist()) == [0, 1, 2, 3, 4, 5, 6]
    assert (named.index[named.first] < 4).all()
    assert (named.index[~named.first] >= 4).all()
    units = dict(zip(named.index.tolist(), named.unit.tolist(), strict=True))
    assert units[0] == units[1]  # of one group
    assert len({units[k] for k in range(7)}) == 6
    few = named_rows(9, 5, rng(), most=2)
    assert (len(few.index), int(few.first.sum())) == (4, 2)
    with pytest.raises(InputError, match=r"got 7 in both \(1 in all\)"):
        named_rows(np.array([4, 7]), np.array([7, 8]), rng())


def test_permuted_names_keep_groups_together_and_the_observed_ones_come_first():
    named = named_rows(np.array([4, 4, 7]), np.array([1, 2, 2]), rng())
    observed, permuted = named.permuted(
        lambda names: np.stack([names.sum(0), names[named.unit == 0].std(0)]), rng(), 50
    )
    assert observed[0] == named.first.sum()
    assert permuted.shape == (2, 50)
    assert not permuted[1].any()
    assert set(permuted[0].tolist()) <= {2.0, 3.0, 4.0}


def test_a_tie_counts_half_in_the_share_nearer_to_training():
    named = named_rows(2, 2, rng())
    place = {int(k): i for i, k in enumerate(named.index)}  # 0 and 1 are training rows
    index = np.array([[place[0], place[2]], [place[2], place[0]], [place[1], place[3]], [place[3], place[1]]])
    distance = np.array([[1.0, 2.0], [1.0, 2.0], [1.0, 1.0], [0.5, 3.0]])
    found = nearer_share("n", named, distance, index, rng())
    assert found.value == (1 + 0 + 0.5 + 0) / 4
    assert (found.null, found.copies) == (0.5, "high")


def test_the_accuracy_of_points_on_a_line_is_counted():
    """Training 0, 1, 10, 11; samples 20, 21, 30, 0.4: of eight rows five have a nearest other of their name."""
    train = torch.tensor([[0.0], [1.0], [10.0], [11.0]])
    samples = torch.tensor([[20.0], [21.0], [30.0], [0.4]])
    accuracy, identified = adversarial_accuracy(samples, train, rng())
    # 0 and 1 are nearest to 0.4, which is nearest to 0; 30 is nearest to 21
    assert accuracy.value == pytest.approx(5 / 8)
    assert accuracy.null == pytest.approx(3 / 7)
    assert identified.value == pytest.approx(2 / 4)  # 0 and 1
    assert identified.null == pytest.approx(4 / 7)
    assert (accuracy.copies, identified.copies) == ("low", "high")


def test_tied_neighbors_count_with_the_chance_that_all_have_the_name():
    """Three equal rows of either name: each has five others at distance 0, and only two of these have its name."""
    accuracy, identified = adversarial_accuracy(torch.zeros(3, 2), torch.zeros(3, 2), rng())
    assert (accuracy.value, accuracy.null) == (0.0, 0.0)
    assert (identified.value, identified.null) == (0.0, 0.0)
    # pairs of equal rows, one of each name: the nearest other one is of the other name; with 2 n = 4: (1/3), (2/3)
    pairs = torch.tensor([[0.0], [5.0]])
    accuracy, identified = adversarial_accuracy(pairs, pairs, rng())
    assert (accuracy.value, identified.value) == (0.0, 1.0)
    assert (accuracy.null, identified.null) == pytest.approx((1 / 3, 2 / 3))


def test_an_owner_s_p_value_is_a_share_of_permutations_with_itself():
    generator = rng(5)
    published, unpublished = generator.normal(0, 1, (12, 3)), generator.normal(0, 1, (15, 3))
    value = owner_p_value(published, unpublished, rng(1), permutations=49)
    assert round(value * 50) == pytest.approx(value * 50)
    assert value >= 1 / 50
    # raising what was not published makes the difference larger, and the chance smaller
    assert owner_p_value(published, unpublished + 1.0, rng(1), permutations=49) <= value
