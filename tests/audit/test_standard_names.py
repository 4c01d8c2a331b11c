"""Measures of memorization under their usual names: closed forms in solvable cases, ends of the scale."""

from itertools import combinations

import numpy as np
import pytest
import torch
from scipy import stats

from diffuscope.audit.distance_measures import copying_test
from diffuscope.audit.group_units import one_of_each
from diffuscope.audit.measure import quantile_measure, share_measure
from diffuscope.audit.name_permutations import adversarial_accuracy, privacy_losses, share_nearer_training
from diffuscope.audit.standard_names import measures_table, standard_measures
from diffuscope.errors import InputError


def normal(rng, *shape):
    return torch.from_numpy(rng.normal(size=shape)).float()


@pytest.fixture(autouse=True)
def _few_refits(monkeypatch):
    monkeypatch.setattr("diffuscope.audit.feature_likelihood.PERMUTATIONS", 39)
    monkeypatch.setattr("diffuscope.audit.feature_likelihood.MOST", 100)


def by_name(measures):
    return {m.name: m for m in measures}


# closed forms


def test_the_p_value_of_a_share_is_fishers():
    rng = np.random.default_rng(0)
    for _ in range(20):
        ours, fresh = rng.random(30) < 0.3, rng.random(50) < 0.2
        table = [[ours.sum(), (~ours).sum()], [fresh.sum(), (~fresh).sum()]]
        high = share_measure("", ours, fresh, copies="high", meaning="").p_value
        low = share_measure("", ours, fresh, copies="low", meaning="").p_value
        assert high == pytest.approx(stats.fisher_exact(table, alternative="greater")[1])
        assert low == pytest.approx(stats.fisher_exact(table, alternative="less")[1])


def test_the_range_of_a_share_is_what_neither_one_sided_test_rejects():
    fresh = np.arange(40) < 9
    for n in (7, 60):
        found = share_measure("", np.zeros(n, bool), fresh, copies="high", meaning="")
        kept = []
        for x in range(n + 1):
            ours = np.arange(n) < x
            high = share_measure("", ours, fresh, copies="high", meaning="").p_value
            low = share_measure("", ours, fresh, copies="low", meaning="").p_value
            kept.append(min(low or 0, high or 0) > 0.025)
        assert [found.low, found.high] == pytest.approx([100 * i / n for i in np.flatnonzero(kept)[[0, -1]]])


@pytest.mark.parametrize("level", [0.05, 0.5])
def test_the_p_value_of_a_quantile_is_that_of_all_divisions_of_the_pool(level):
    """P(the order statistic of a random subset is at most the observed one), over all subsets of a small pool."""
    rng = np.random.default_rng(1)
    for _ in range(10):
        pool = rng.random(9)
        ours, fresh = pool[:4], pool[4:]
        k = int(3 * level)
        observed = np.sort(ours)[k]
        subsets = [np.sort(pool[list(chosen)])[k] for chosen in combinations(range(9), 4)]
        # as many or fewer held-out values lie below the order statistic, which is the same event
        expected = np.mean(np.array(subsets) <= observed)
        found = quantile_measure("", ours, fresh, level, (0.0, 1.0), copies="low", meaning="")
        assert found.p_value == pytest.approx(expected)


@pytest.mark.parametrize("level", [0.05, 0.5])
def test_quantile_ranges_hold_95_percent_of_fresh_quantiles_and_intervals_the_true_one(level):
    """60 draws of 200 and 300 exponential numbers: at least 0.95, up to 4 standard errors of 0.028."""
    rng = np.random.default_rng(2)
    inside, covers, draws = 0, 0, 60
    truth = -np.log(1 - level)
    for ours, fresh in zip(rng.exponential(size=(draws, 200)), rng.exponential(size=(draws, 300)), strict=True):
        found = quantile_measure("", ours, fresh, level, (0.0, np.inf), copies="low", meaning="")
        tested = np.sort(ours)[int(199 * level)]
        inside += found.low <= tested <= found.high
        assert found.interval is not None
        covers += found.interval[0] <= truth <= found.interval[1]
    assert 0.95 - 4 * 0.028 < inside / draws <= 1
    assert 0.95 - 4 * 0.028 < covers / draws <= 1


def test_the_measures_of_fresh_points_in_the_plane_are_those_of_a_poisson_process():
    """P(d1 / d2 < r) = r^2, so that its median is 1 / sqrt 2; in a sea of points, P(d1 < r) = 1 - exp(-4000 pi r^2)."""
    rng = np.random.default_rng(0)
    train, samples, heldout = (torch.from_numpy(rng.random((n, 2))) for n in (4000, 1500, 1500))
    found = by_name(standard_measures(samples, train, heldout, rng))
    third = found["share with d1/d2 < 1/3, %"]
    assert abs(third.value - 100 / 9) < 4 * 100 * (8 / 81 / 1500) ** 0.5
    error = 0.5 / 1500**0.5  # of the rank of a median, as a share
    assert abs(found["NNDR, median"].value ** 2 - 0.5) < 4 * error
    assert (
        abs(np.exp(-4000 * np.pi * found["DCR, median"].value ** 2) - 0.5) < 4 * error + 0.02
    )  # the edge of the square
    for measure in found.values():
        assert measure.low <= measure.null <= measure.high
        assert measure.interval is not None
        assert measure.interval[0] <= measure.value <= measure.interval[1]


def test_points_on_a_line_have_the_values_counted_by_hand():
    """T = {0, 10, 20}, S = {1, 12, 40}: 1 and 12 are nearer to T than to S, 40 is nearer to T (20) than to S (28);
    0 and 10 are nearer to S than to T, 20 (8 from 12) too."""
    train, samples = torch.tensor([[0.0], [10.0], [20.0]]), torch.tensor([[1.0], [12.0], [40.0]])
    accuracy, identified = adversarial_accuracy(samples, train, np.random.default_rng(0))
    assert accuracy.value == 0
    assert identified.value == 1
    assert accuracy.null == pytest.approx(2 / 5)  # (n - 1) / (2 n - 1)
    assert identified.null == pytest.approx(3 / 5)  # n / (2 n - 1)
    # H = {25, 35, 90}: only 25 is nearer to H (10) than to S (13); 35 is 5 from S, and 90 is 50 from S, 55 from H
    heldout = torch.tensor([[25.0], [35.0], [90.0]])
    loss, difference = privacy_losses(samples, train, heldout, np.random.default_rng(0))
    # d(h, S) > d(h, H): 25 only. d(s, H) > d(s, S): 1 (24 > 11), 12 (13 > 11), not 40 (5 < 28)
    assert loss.value == pytest.approx((1 / 3 + 2 / 3) / 2)
    assert difference.value == pytest.approx(1 - 2 / 3)
    # 1 and 12 are nearer to T, 40 to H
    assert share_nearer_training(samples, train, heldout, np.random.default_rng(0)).value == pytest.approx(2 / 3)


def test_a_tie_counts_half_in_the_dcr_share():
    train, heldout = torch.tensor([[0.0], [4.0], [9.0]]), torch.tensor([[0.0], [2.0], [8.0]])
    samples = torch.tensor([[0.0], [3.0], [4.0], [8.0]])  # tie, tie, training, held-out
    assert share_nearer_training(samples, train, heldout, np.random.default_rng(0)).value == 0.5


def test_duplicates_in_discrete_data_lower_the_null_of_nnaa_and_it_is_told():
    """Rows of one fair bit, n of either set: AA counts a row only if all its duplicates have its name."""
    rng = np.random.default_rng(3)
    values, nulls = [], []
    for _ in range(40):
        first, second = (torch.from_numpy(rng.integers(2, size=(6, 2))).float() for _ in range(2))
        accuracy, identified = adversarial_accuracy(first, second, rng)
        values.append([accuracy.value, identified.value])
        nulls.append([accuracy.null, identified.null])
    error = np.std(np.array(values) - nulls, axis=0) / 40**0.5
    assert (np.abs(np.mean(values, 0) - np.mean(nulls, 0)) < 4 * error).all()
    assert np.mean(nulls) < 0.3


# the ends of the scale


def test_the_measures_of_copies_are_at_their_ends():
    rng = np.random.default_rng(0)
    train, heldout = (torch.from_numpy(rng.random((n, 5))) for n in (400, 400))
    found = by_name(standard_measures(train.clone(), train, heldout, rng))
    ends = {
        "IMS, %": 100,
        "DCR, median": 0,
        "NNDR, median": 0,
        "AuthPct, %": 0,
        "share with d1/d2 < 1/3, %": 100,
        "DCR share": 1,
        "NNAA": 0,
        "eps-identifiability": 1,
    }
    assert {name: found[name].value for name in ends} == ends
    assert found["NNAA privacy loss"].value == pytest.approx(0.5, abs=0.06)
    for measure in found.values():
        assert (measure.p_value is None) == (measure.copies is None)
        if measure.copies:
            assert 0 < (measure.p_value or 0) <= (0.05 if measure.name.startswith("FLD") else 0.001)
            assert measure.value < measure.low if measure.copies == "low" else measure.value > measure.high
    control = found["DCR to held-out, median"]
    assert control.low < control.value < control.high


def test_samples_that_are_held_out_rows_lie_on_the_other_side():
    rng = np.random.default_rng(0)
    train, heldout = (torch.from_numpy(rng.random((300, 5))) for _ in range(2))
    found = by_name(standard_measures(heldout.clone(), train, heldout, rng))
    assert found["DCR share"].value == 0
    assert found["DCR share"].p_value == 1
    assert (found["NNAA privacy loss"].p_value or 0) > 0.99


# groups


@pytest.mark.slow
def test_the_images_of_a_patient_keep_one_name():
    """40 patients of 10 images each near a center of their own; samples are more images of 20 held-out and 20 training
    patients, all of both sets: nothing is memorized, though rows of one patient are far from independent. Names of rows
    would be permuted with a far too small variance where samples come from few of the patients."""
    p_values = {"rows": [], "patients": []}
    for seed in range(30):
        rng = np.random.default_rng(seed)
        centers = 5 * normal(rng, 40, 4)
        of = np.repeat(np.arange(40), 10)
        rows = centers[torch.from_numpy(of)] + 0.3 * normal(rng, 400, 4)
        chosen = rng.permutation(40)[:8]  # the generator knows some patients of the population, from neither set
        samples = centers[torch.from_numpy(np.repeat(chosen, 25))] + 0.3 * normal(rng, 200, 4)
        train, heldout = rows[:200], rows[200:]
        p_values["rows"].append(share_nearer_training(samples, train, heldout, rng).p_value)
        p_values["patients"].append(share_nearer_training(samples, train, heldout, rng, of[:200], of[200:]).p_value)
    assert np.mean(np.array(p_values["rows"]) < 0.05) > 0.15
    assert np.mean(np.array(p_values["patients"]) < 0.05) < 0.05 + 3 * (0.05 * 0.95 / 30) ** 0.5


def test_one_row_of_each_group_is_chosen_uniformly():
    rng = np.random.default_rng(0)
    groups = ["b", "a", "b", "c", "b"]
    drawn = np.array([one_of_each(groups, rng) for _ in range(3000)])
    assert (drawn[:, [1]] >= 0).all()
    assert drawn.shape == (3000, 3)
    assert {tuple(row) for row in drawn.tolist()} == {(0, 1, 3), (1, 2, 3), (1, 3, 4)}
    first = np.mean((drawn == 0).any(1))
    assert abs(first - 1 / 3) < 4 * (2 / 9 / 3000) ** 0.5


def test_groups_that_cannot_be_right_are_one_line():
    rng = np.random.default_rng(0)
    rows = normal(rng, 6, 2)
    ids = np.array(["p1", "p1", "p2", "p2", "p3", "p3"])
    with pytest.raises(InputError, match=r"^train_groups: expected one group for each of the 6 rows, got 2$"):
        standard_measures(rows, rows, rows, rng, train_groups=["a", "b"], heldout_groups=ids)
    with pytest.raises(InputError, match=r"^groups: expected groups of both training and held-out rows, got those of"):
        standard_measures(rows, rows, rows, rng, train_groups=ids)
    with pytest.raises(InputError, match=r"^groups: expected no group in both training and held-out data, got p1 in"):
        standard_measures(rows, rows, rows, rng, train_groups=ids, heldout_groups=ids)


def test_values_that_are_not_finite_are_one_line():
    rng = np.random.default_rng(0)
    rows, broken = normal(rng, 6, 2), normal(rng, 6, 2)
    broken[3, 1] = np.nan
    with pytest.raises(InputError, match=r"^heldout: expected finite values, got NaN or infinity$"):
        standard_measures(rows, rows, broken, rng)


# few and degenerate rows


@pytest.mark.parametrize("sizes", [(1, 5, 5), (5, 1, 5), (5, 5, 1)])
def test_single_rows_have_no_measures(sizes):
    rng = np.random.default_rng(0)
    samples, train, heldout = (normal(rng, n, 3) for n in sizes)
    assert standard_measures(samples, train, heldout, rng) == []


@pytest.mark.parametrize("sizes", [(2, 2, 2), (3, 40, 2), (40, 2, 3)])
def test_few_rows_are_never_significant_and_ranges_stay_open(sizes):
    rng = np.random.default_rng(0)
    samples, train, heldout = (normal(rng, n, 3) for n in sizes)
    found = standard_measures(samples, train, heldout, rng)
    assert found
    table = measures_table(found, "pixels")
    assert len(table.rows) == len(found)
    if sizes == (2, 2, 2):
        assert by_name(found)["DCR, median"].high == np.inf
        assert all(m.p_value is None or m.p_value > 0.05 for m in found)


def test_rows_that_are_all_alike_are_no_copies():
    rng = np.random.default_rng(0)
    rows = torch.ones(30, 4)
    found = standard_measures(rows, rows, rows, rng)
    assert [m.name for m in found][:1] == ["DCR share"]
    assert all(m.p_value is None or m.p_value == 1 for m in found)


# the table


def test_the_table_groups_readers_and_names_what_decides():
    rng = np.random.default_rng(0)
    samples, train, heldout = (normal(rng, 50, 3) for _ in range(3))
    table = measures_table(standard_measures(samples, train, heldout, rng), "pixels")
    readers = [row[0] for row in table.rows]
    assert readers == sorted(readers, key=lambda reader: ["both", "tables", "images"].index(str(reader)))
    assert len({row[1] for row in table.rows}) == len(table.rows)
    assert "The verdict rests on the tests of this section, not on these" in table.note
    assert all(isinstance(row[-1], str) and row[-1].endswith(".") for row in table.rows)


def test_the_copying_test_is_standard_normal_under_the_null():
    rng = np.random.default_rng(1)
    p_values = []
    for _ in range(300):
        cells = rng.integers(3, size=200), rng.integers(3, size=300)
        shift = np.array([0.0, 1.0, 5.0])  # cells may differ in scale
        p_values.append(
            copying_test(rng.random(200) + shift[cells[0]], rng.random(300) + shift[cells[1]], cells).p_value
        )
    assert stats.kstest(p_values, "uniform").pvalue > 0.01
