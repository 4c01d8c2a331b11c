"""Areas, rates and curves of scores that are few or tied, counted by hand; units of samples on a line."""

import math

import numpy as np
import pytest
import torch
from results_at_levels import agreeing, compared_by_hand
from results_of_samples import units_by_hand
from scipy import stats

from diffuscope.audit.questions import agreement
from diffuscope.audit.roc import (
    advantage,
    auc,
    auc_with_interval,
    fewest_for,
    null_deviation,
    roc_curve,
    true_positives,
)
from diffuscope.audit.sample_units import units_of_samples, units_table
from diffuscope.audit.units import sample_units, usual_maps
from diffuscope.findings import exact_share_interval
from numbers_in_tests import rng

# areas


@pytest.mark.parametrize("widening", [1.0, 1.7])
def test_the_interval_of_an_area_is_delongs_on_the_logistic_scale(widening):
    members, others = np.array([3.0, 1.0, 4.0, 2.0]), np.array([2.0, 0.0, 3.5, 1.0, -1.0])
    pairs = (members[:, None] > others) + 0.5 * (members[:, None] == others)
    below, above = pairs.mean(1), pairs.mean(0)
    area = pairs.mean()
    deviation = widening * math.sqrt(below.var(ddof=1) / 4 + above.var(ddof=1) / 5)
    reach = stats.norm.isf(0.05) * deviation / (area * (1 - area))
    expected = [1 / (1 + math.exp(-(math.log(area / (1 - area)) + side * reach))) for side in (-1, 1)]
    assert auc(members, others) == pytest.approx(area)
    assert auc_with_interval(members, others, 0.9, widening) == pytest.approx((area, *expected))


@pytest.mark.parametrize(("n", "m"), [(3, 7), (7, 3)])
def test_scores_of_which_none_lie_between_have_the_interval_of_disjoint_pairs(n, m):
    least = 0.025 ** (1 / 3)
    assert auc_with_interval(np.arange(n) + 50.0, np.arange(float(m))) == (1.0, pytest.approx(least), 1.0)
    assert auc_with_interval(np.arange(float(n)), np.arange(m) + 50.0) == (0.0, 0.0, pytest.approx(1 - least))


def test_scores_that_are_all_the_same_leave_every_area_possible_that_pairs_do():
    assert auc_with_interval(np.zeros(3), np.zeros(5)) == (0.5, 0.0, 1.0)  # half, less and more 0.71
    low = 0.025 ** (1 / 20)
    assert auc_with_interval(np.zeros(20), np.zeros(90)) == (0.5, pytest.approx(low - 0.5), pytest.approx(1.5 - low))
    assert null_deviation(3, 5) == pytest.approx((9 / 180) ** 0.5)


def test_an_advantage_of_tied_scores_is_none_and_of_others_what_the_threshold_gives():
    tied = advantage(np.ones(10), np.ones(14), rng(), 0.9)
    assert tied.value == 0.0  # all are at the threshold
    ends = [stats.binomtest(k, k).proportion_ci(0.9, "wilson").low for k in (10, 14)]
    assert (tied.low, tied.high) == pytest.approx((-(1 - ends[0]), 1 - ends[1]))


def test_the_threshold_of_one_half_is_used_on_the_other():
    members, others = np.array([4.0, 1.0, 3.0, 8.0, 2.5]), np.array([2.0, 0.0, 3.5, 9.0])
    same = rng()
    first, second = (np.array_split(same.permutation(scores), 2) for scores in (members, others))
    hits = alarms = 0
    for chosen, used in ((0, 1), (1, 0)):
        places = np.sort(np.concatenate([first[chosen], second[chosen]]))
        gained = [(first[chosen] >= t).mean() - (second[chosen] >= t).mean() for t in places]
        threshold = places[int(np.argmax(gained))]
        hits, alarms = hits + (first[used] >= threshold).sum(), alarms + (second[used] >= threshold).sum()
    assert advantage(members, others, rng()).value == pytest.approx(hits / 5 - alarms / 4)


# rates


@pytest.mark.parametrize(("rate", "fewest"), [(0.01, 99), (0.001, 999), (0.3, 3), (0.5, 1), (1 / 3, 2)])
def test_a_rate_has_a_threshold_from_one_over_it_less_one_on(rate, fewest):
    assert fewest_for(rate) == fewest
    members = np.arange(5.0)
    assert not math.isnan(true_positives(members, np.arange(float(fewest)), rate).value)
    few = true_positives(members, np.arange(fewest - 1.0), rate)
    assert math.isnan(few.value)
    assert math.isnan(few.p_value)
    assert (few.low, few.high) == (0.0, 1.0)


def test_true_positives_have_the_limits_of_the_thresholds_on_either_side():
    """Of 29 others at 0.2 the sixth is the threshold: 23. Of 29 draws at 0.2 one to eleven are there in 97.5%."""
    others = np.arange(29.0)
    members = np.array([28.5, 28.0, 24.0, 23.5, 23.0, 17.5, 17.0, 3.0])
    found = true_positives(members, others, 0.2)
    assert found.value == 4 / 8  # above 23, which is not above itself
    tail = 0.05 / 4
    chances = stats.binom.cdf(np.arange(30), 29, 0.2)
    assert (int(np.argmax(chances >= tail)), int(np.argmax(1 - chances <= tail)) + 1) == (1, 12)
    # above the largest, 28, is one member; above the twelfth, 17, are six
    assert found.low == pytest.approx(exact_share_interval(1, 8, 1 - 2 * tail)[0])
    assert found.high == pytest.approx(exact_share_interval(6, 8, 1 - 2 * tail)[1])
    # at least four members before the sixth of the others: at most five others among the first nine of 37
    assert found.p_value == pytest.approx(stats.hypergeom.cdf(5, 37, 29, 9))


def test_where_all_thresholds_are_beyond_the_scores_nothing_and_everything_is_possible():
    found = true_positives(np.arange(6.0), np.arange(9.0) + 50, 0.1)
    assert (found.value, found.low, found.p_value) == (0.0, 0.0, 1.0)
    # nine draws at 0.1: none is there in 39%, four in 0.8%
    assert found.high == pytest.approx(exact_share_interval(0, 6, 0.975)[1])
    one = true_positives(np.arange(6.0) + 50, np.arange(1.0), 0.5)  # its second threshold is below all
    assert (one.value, one.low, one.high) == (1.0, 0.0, 1.0)


def test_a_chance_too_small_for_a_number_is_the_least_number():
    found = true_positives(np.arange(3000.0) + 5000, np.arange(3000.0), 0.01)
    assert found.p_value == np.finfo(float).tiny


def test_a_curve_of_rates_counts_members_at_the_threshold():
    false, true = roc_curve(np.array([5.0, 3.0, 1.0]), np.array([0.0, 4.0, 3.0]), 3)
    assert false.tolist() == pytest.approx([1 / 3, 2 / 3, 1.0])
    assert true.tolist() == pytest.approx([1 / 3, 2 / 3, 1.0])
    assert len(roc_curve(np.arange(9.0), np.arange(1000.0))[0]) < 200  # the first of 200 places are one
    assert roc_curve(np.arange(9.0), np.arange(1000.0), 2)[0].tolist() == [0.001, 1.0]


# units of samples


def line(scale=1.0, offset=0.0):
    return (torch.arange(20.0)[:, None] + offset) * scale


def test_samples_between_training_examples_are_as_far_as_counted():
    """Training 0, 1, ..., 19; held-out examples 0.25, samples 0.3 beyond."""
    found = sample_units(line(offset=0.3), line(), line(offset=0.25), (0.0, 19.0), rng())
    assert (found.name, found.written, found.nearer) == ("", "", 0.0)
    assert (found.before, found.after) == pytest.approx((1.2, 1.2))
    # |x - 9.5|: the tenth of 0.5, 0.5, 1.5, 1.5, ... is 4.5; of |x - 9.2|, 0.2, 0.8, 1.2, 1.8, ... it is 4.8
    assert found.deviation == pytest.approx(4.8 / 4.5)
    assert found.shift == pytest.approx(0.3 / 4.5)
    assert (found.heldout, found.chance) == ((0, 20), 0.0)


def test_a_single_sample_has_its_own_units():
    found = sample_units(line(offset=0.3)[7:8], line(), line(offset=0.25), (0.0, 19.0), rng())
    assert found.shift == pytest.approx((7.3 - 9) / 4.5)
    assert found.deviation == pytest.approx(2.2 / 4.5)
    assert found.heldout == (0, 1)


def test_samples_in_other_units_are_as_near_as_their_image():
    """All but the first and the last, which are at 0.04 / 19 from 0 and 1."""
    samples = line(1 / 19, 0.04)
    found = sample_units(samples, line(), line(offset=0.04), (0.0, 19.0), rng())
    assert found.name == "values in [0, 1]"
    assert found.written == "data = 19 × value + 0"
    distances = (samples - torch.arange(20.0)).abs().amin(1)
    assert found.before == pytest.approx(float(np.median(distances)) / 0.04, rel=1e-4)
    assert found.after == pytest.approx(1.0, rel=1e-4)
    assert found.nearer == 0.9


def test_samples_that_are_heldout_examples_are_counted_up_to_rounding():
    """Four are: 1e-5 deviations of 4.5 are 4.5e-5."""
    heldout = torch.cat([line(offset=0.25), line(offset=0.25)[:6]])  # six of them twice: a share of 12 of 26
    samples = line(offset=0.5)
    samples[:4] = heldout[:4] + torch.tensor([[0.0], [4e-5], [-4e-5], [2e-5]])
    samples[4] = heldout[4] + 4.7e-5
    found = sample_units(samples, line(), heldout, (0.0, 19.0), rng())
    assert found.heldout == (4, 20)
    assert found.chance == pytest.approx(12 / 26)


def test_heldout_examples_that_are_training_examples_are_at_the_least_distance():
    found = sample_units(line(offset=0.5), line(), line(), (0.0, 19.0), rng())
    assert found.before == pytest.approx(0.5 / 1e-12)


def test_the_usual_ranges_are_those_of_images():
    names = [f"[{ends}]" for ends in ("0, 1", "-1, 1", "-0.5, 0.5", "0, 255", "0, 16", "0, 65535")]
    maps = {made.name: made for made in usual_maps((-2.0, 7.0), 1.0, 3.0)}
    assert list(maps)[:-1:2] == names
    for name in names:
        low, high = (float(end) for end in name[1:-1].split(","))
        assert maps[name].to_data(torch.tensor([low, high])).tolist() == pytest.approx([-2.0, 7.0], abs=1e-5)


@pytest.mark.parametrize(("after", "nearer", "fault"), [(7.0, 0.9, False), (6.99, 0.9, True), (6.99, 0.89, False)])
def test_a_fault_brings_nine_tenths_nearer_than_seven_tenths(after, nearer, fault):
    assert units_by_hand(name="[0, 1]", nearer=nearer, before=10.0, after=after).fault == fault
    assert not units_by_hand(name="", nearer=nearer, before=10.0, after=after).fault


def test_a_map_after_which_nothing_is_left_is_a_million_times_nearer():
    fault = units_by_hand(name="[0, 1]", nearer=1.0, before=3.0, after=0.0)
    assert units_of_samples(fault, "samples", own=False).value == pytest.approx(3e6)
    near = units_by_hand(name="[0, 1]", nearer=1.0, before=3.0, after=2e-6)
    assert units_of_samples(near, "samples", own=False).value == pytest.approx(1.5e6)


def test_units_are_those_of_all_parts_together(monkeypatch):
    held = torch.randn(5, 2, 3, 3, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr("diffuscope.byte_examples.PART", 4 * 18 * 2)  # two images
    for row, channel in zip(units_table({"a": held}).rows, range(2), strict=True):
        x = held[:, channel].double()
        assert list(row) == [f"a, channel {channel}", *(pytest.approx(float(v)) for v in (x.mean(), x.std(), x.min(),
                                                                                          x.max()))]  # fmt: skip


# the position between memorizers


def test_memorizers_that_agree_leave_the_standard_error_no_bound():
    found = agreement.findings(compared_by_hand(agreement=agreeing(memorizers=np.ones(4))))[0]
    error = np.std([0.9, 0.8, 1.0, 0.7]) / 2 / 1e-12
    assert found.power.startswith("4 starts; the standard error of the position is ")
    told = float(found.power.split("position is ")[1].split(". ")[0])
    assert told == pytest.approx(error, rel=1e-6)


def test_an_interval_that_is_not_known_is_none():
    nan = math.nan
    first, nearest = agreement.findings(compared_by_hand(agree=(nan, nan, nan), copying=(nan, nan, nan)))[:2]
    assert (first.interval, nearest.interval, first.tone) == (None, None, "unknown")
    assert first.verdict.startswith("Cannot tell from 4 starts")
