"""The numbers of the cards, charts and tables on quality and agreement, of results made by hand."""

# every block is of the kind that its card shows
# pyright: reportAttributeAccessIssue=false, reportOptionalMemberAccess=false

import math
from dataclasses import replace

import numpy as np
import pytest
from results_at_levels import agreeing, compared_by_hand, gap
from results_of_samples import distance, judged, quality_of

from diffuscope.audit.agreement_charts import agreement_chart, covariance_chart
from diffuscope.audit.frechet_ratio import frechet_chart
from diffuscope.audit.judged_quality import Quality
from diffuscope.audit.questions import agreement, quality
from diffuscope.findings import Bars, FrechetDistance, Intervals, Line, Rule
from numbers_in_tests import rng

# quality


def test_the_ratio_has_both_errors():
    found = replace(distance(1.5, error=0.2), real_error=0.1)  # relative errors 0.2 / 1.5 and 0.1 / 2
    assert found.ratio == 1.5
    assert found.ratio_error == pytest.approx(1.5 * math.hypot(0.2 / 1.5, 0.1 / 2))
    assert found.interval == pytest.approx((1.5 - 1.96 * found.ratio_error, 1.5 + 1.96 * found.ratio_error))
    recited = 1.3 * math.hypot(0.05 / 1.3, 0.05)
    assert found.recited_interval == pytest.approx((1.3 - 1.96 * recited, 1.3 + 1.96 * recited))
    assert found.detectable == pytest.approx(2 + 1.6448536 * found.ratio_error)
    assert distance(0.1, error=0.2).interval[0] == 0.0


def test_the_card_of_quality_has_the_ratio_of_the_deciding_space():
    good = quality_of(judged(distance(1.2), "labels"), judged(distance(1.5), "whitened"))
    assert (good.value, good.unit, good.tone) == (1.5, "x", "good")  # the greatest upper end decides
    assert good.interval == pytest.approx((1.5 - 0.196, 1.5 + 0.196))
    assert good.verdict == (
        "Its samples are 1.50x as far from held-out data as two held-out sets are from each other, in whitened (up to "
        "2x counts as close). A model that only replays its training data would score 1.30x."
    )
    assert good.null == (
        "1x: two sets of 250 held-out examples, at distance 2. The samples are at distance 3 (standard error 0.2)."
    )
    assert good.power == (
        "Faults planted on 250 held-out examples and judged by the same rule. Far: a blur (5x) and one class (3x). "
        "Copies of training examples are close."
    )
    copied = quality_of(judged(distance(1.2)), copying=True)
    assert copied.tone == "attention"
    assert "they are 1.20x as far" in copied.verdict
    assert copied.verdict.endswith("would score 1.30x.")


def test_far_is_decided_by_the_lower_end_and_an_alarm_is_beyond_every_fault():
    some = quality_of(judged(distance(2.5), "a"), judged(distance(1.9, error=2.0), "b"))
    assert (some.value, some.tone) == (2.5, "attention")  # in the space whose lower end is above the bar
    assert "2.50x as far" in some.verdict
    assert some.verdict.endswith("in a (up to 2x counts as close).")
    # the farthest fault ends at 5 + 0.196
    assert quality_of(judged(distance(5.39))).tone == "attention"
    beyond = quality_of(judged(distance(5.393)))
    assert beyond.tone == "alarm"
    assert beyond.verdict.endswith(": farther than every planted fault.")
    at = distance(2.196)
    assert quality_of(judged(replace(at, samples=FrechetDistance(2.0 * 2.0 + 1.96 * 0.2, 0.2)))).tone == "unknown"


def test_an_interval_across_the_bar_cannot_tell_and_names_its_end():
    found = quality_of(judged(distance(1.9)))
    assert (found.tone, found.value) == ("unknown", 1.9)
    assert found.verdict.endswith("but the interval reaches up to 2.10x.")


def test_a_fault_that_no_space_sees_is_told_where_it_is_farthest():
    one = judged(distance(1.2), "a", blur=distance(1.7), noise=distance(4.0))
    other = judged(distance(1.3), "b", blur=distance(1.4), noise=distance(6.0))
    found = quality_of(one, other)
    assert found.tone == "unknown"
    assert found.verdict == (
        "Cannot tell: blur would have passed as close (1.70x) in these features; the samples are at 1.30x."
    )
    assert found.power.endswith("Far: noise (6x). Not far: blur (1.70x). Copies of training examples are close.")
    nothing = quality_of(reasons=("too few", "no labels"))
    assert nothing.verdict == "Cannot tell how good its samples are: too few; no labels."


def test_the_table_of_quality_has_every_distance_and_place():
    one = judged(distance(1.9), "a", blur=distance(1.5), noise=distance(4.0))
    result = Quality(judged=(one,), classifier=None, balance=None, reasons=())
    chart, table = quality.blocks(result)
    ends = map(pytest.approx, (1.704, 2.096))
    assert table.rows[0] == ["a", "samples", pytest.approx(3.8), pytest.approx(1.9), *ends, "between"]
    assert table.rows[1] == ["a", "replayed training data", 2.6, 1.3, *map(pytest.approx, (1.202, 1.398)), "close"]
    assert table.rows[2] == ["a", "blur", 3.0, 1.5, *map(pytest.approx, (1.304, 1.696)), "close"]
    assert table.rows[3][-1] == "far"
    assert table.rows[4] == ["a", "other held-out data", 2.0, 1.0, None, None, ""]
    assert "between sets of 250 examples" in str(table.title)
    band, one_rule, bar, bars = chart.panels[0].marks
    assert (band.at, band.axis, band.width) == (1.0, "x", pytest.approx(2 * 1.96 * 0.3 / 2))
    assert (one_rule, bar) == (Rule(1.0, "x"), Rule(2.0, "x"))
    assert isinstance(bars, Intervals)
    assert bars.names == ("samples", "replayed training data", "blur", "noise")
    assert bars.values == pytest.approx((1.9, 1.3, 1.5, 4.0))
    assert bars.high == pytest.approx((2.096, 1.398, 1.696, 4.196))
    assert not chart.panels[0].x_log
    assert chart.panels[0].x_range == pytest.approx((0.0, 1.15 * 4.196))
    far = frechet_chart(distance(7.0), {}, "").panels[0]
    assert far.x_log
    assert far.x_range == pytest.approx((0.5, 1.5 * 7.196))


@pytest.mark.parametrize(("names", "text"), [(["a"], "a"), (["a", "b"], "a and b"), (["a", "b", "c"], "a, b and c")])
def test_lists_have_one_and(names, text):
    assert quality._listed(iter(names)) == text


# agreement


def test_the_cards_of_agreement_have_its_means_and_positions():
    verdict, nearest, covariance, known = agreement.findings(compared_by_hand())
    assert (verdict.value, verdict.interval, verdict.tone, verdict.p_value) == (0.78, (0.6, 0.9), "good", 0.003)
    # the diagonal is 0.9, 0.8, 1.0, 0.7
    assert verdict.verdict == (
        "Both generalize, trained on disjoint examples: from the same starts their samples have a mean cosine of 0.85, "
        "where two exact memorizers have 0.35; the first one's samples are at 0.54 to their nearest training examples, "
        "and held-out examples at 0.50."
    )
    assert "different starts have a mean cosine of 0.10" in verdict.null
    error = np.std([0.7, 0.4, 0.7, 0.2]) / 2 / 0.65
    assert verdict.power.startswith(f"4 starts; the standard error of the position is {error:.2f}.")
    assert (nearest.value, nearest.interval) == (0.08, (-0.1, 0.2))
    assert nearest.verdict.endswith("is 0.540 for its samples, 0.500 for the second one's, 0.500 for held-out ones.")
    assert nearest.null == "0: 3 held-out examples."
    assert nearest.power.startswith("4 samples.")
    assert (covariance.value, covariance.interval) == (0.125, (0.1, 0.15))
    assert covariance.verdict.endswith("varies by 0.12 of the target's variance, as if each averaged 8 independent "
                                       "targets at every point.")  # fmt: skip
    assert known.value == pytest.approx(1.2)
    assert known.interval == pytest.approx((-1.0, 3.0))
    assert "is 1.2% lower on the first one's training" in known.verdict
    assert "0 examples are shared." in known.verdict
    assert known.verdict.endswith("is 1.07x the first model's.")
    assert "222 pairs" in known.null
    assert "That it memorized 15.0% of" in known.power
    blind = agreement.findings(compared_by_hand(gap=gap(detectable=math.inf), heldout_known=12, repeated=3))[3]
    assert blind.power.startswith("None:")
    assert "3 examples are shared. 12 of the held-out examples are its training data." in blind.verdict


@pytest.mark.parametrize(
    ("value", "text"), [(0.0, "scores are the same"), (1.0, "1 times the target's variance: they average none of"),
                        (2.5, "2.5 times the target's"), (0.5, "each averaged 2 independent")],
)  # fmt: skip
def test_the_covariance_is_put_in_words(value, text):
    assert text in agreement.findings(compared_by_hand(averaged=(value, 0.1, 3.0)))[2].verdict


@pytest.mark.parametrize(
    ("agree", "copying", "changes", "opening", "tone"),
    [
        ((0.51, 0.9), (0.0, 0.49), {}, "Both generalize", "good"),
        ((0.5, 0.9), (0.0, 0.49), {}, "Cannot tell from 4 starts", "unknown"),
        ((0.51, 0.9), (0.0, 0.5), {}, "Cannot tell from 4 starts", "unknown"),
        ((0.1, 0.49), (0.51, 0.9), {}, "The first model memorizes", "attention"),
        ((0.1, 0.5), (0.51, 0.9), {}, "Cannot tell from 4 starts", "unknown"),
        ((0.1, 0.49), (0.5, 0.9), {}, "Cannot tell from 4 starts", "unknown"),
        ((0.51, 0.9), (0.51, 0.9), {}, "Cannot tell: they agree, and near", "unknown"),
        ((0.1, 0.49), (0.1, 0.49), {}, "They disagree without copying", "neutral"),
        ((0.51, 0.9), (0.0, 0.49), {"repeated": 7}, "Both generalize, trained on disjoint examples but for 7:", "good"),
        ((0.51, 0.9), (0.0, 0.49), {"repeated": None}, "They agree, and not by copying", "neutral"),
        ((0.51, 0.9), (0.0, 0.49), {"doubt": "so"}, "Cannot tell: so.", "unknown"),
        (
            (0.51, 0.9),
            (0.0, 0.49),
            {"averaged": (0.0004, 0.0, 0.0009)},
            "Cannot tell: they agree, but their",
            "unknown",
        ),
    ],
)
def test_only_whole_intervals_on_either_side_of_one_half_decide(agree, copying, changes, opening, tone):
    result = compared_by_hand(agree=(0.6, *agree), copying=(0.3, *copying), **changes)
    found = agreement.findings(result)[0]
    assert found.verdict.startswith(opening)
    assert found.tone == tone


def test_copies_and_leaning_take_the_praise_away():
    assert agreement.findings(compared_by_hand(), copying=True)[0].tone == "attention"
    leaning = agreement.findings(compared_by_hand(), leaning=True)[0]
    assert leaning.tone == "neutral"
    assert "is not free of its training data" in leaning.verdict
    stands_in = agreement.findings(compared_by_hand(repeated=None))[0]
    assert "(1,300 held-out examples in place of the second)" in stands_in.null


def test_the_positions_and_the_covariance_ratio_are_those_of_the_means():
    found = agreeing()
    assert found.apart == pytest.approx(0.1)
    w, w_low, w_high = found.agreement(rng())
    assert w == pytest.approx((0.85 - 0.35) / 0.65)
    assert w_low < w < w_high
    u, u_low, u_high = found.copying(rng())
    assert u == pytest.approx((0.54 - 0.5) / 0.5)
    assert u_low < u < u_high
    assert found.averaged(rng()) == pytest.approx((0.3 / 3,) * 3)  # (0.2 + 0.1) / (2 + 1): the levels that matter
    curves = found.curves(rng())
    assert curves["trajectories"].value[:, 0] == pytest.approx([0.5, 0.1, 0.1])
    assert curves["two memorizers, trajectories"].high[:, 0] == pytest.approx([3.0, 0.4, 1.5])
    held = curves["held-out examples"].value[:, 0]
    assert held[:2] == pytest.approx([0.3, 0.2])
    assert np.isnan(held[2])
    assert not found.same
    nothing = replace(found, path=found.path * [0, 1, 1], heldout=found.heldout * [0, 1])
    assert nothing.same
    # of 4! orders only the identity has all of the diagonal
    assert found.p_value(rng()) == pytest.approx(1 / 24, abs=4 * (1 / 24 / 9999) ** 0.5)
    assert np.isnan(replace(found, memorizers=np.ones(4)).agreement(rng())[0])


def test_two_exact_models_differ_by_no_share_of_a_target_without_variance():
    assert agreeing(path=np.zeros((4, 3, 3))).averaged(rng()) == (0.0, 0.0, 0.0)


def test_the_figures_of_agreement_have_its_cosines_and_ratios():
    means, single = agreement_chart(agreeing(), rng()).panels
    (bars,) = means.marks
    assert isinstance(bars, Intervals)
    assert bars.values == pytest.approx((0.85, 0.35, 0.1, 0.54, 0.5, 0.5))
    assert all(low < value < high for value, low, high in list(zip(bars.values, bars.low, bars.high, strict=True))[:2])
    for bar, x in zip(single.marks, (agreeing().agree, agreeing().memorizers, agreeing().nearest), strict=True):
        assert isinstance(bar, Bars)
        assert len(bar.heights) == 24
        assert np.array(bar.heights) * np.diff(bar.edges) * 4 == pytest.approx(np.histogram(x, bar.edges)[0])
        assert (bar.edges[0], bar.edges[-1]) == pytest.approx((-0.2, 1.0))
    (panel,) = covariance_chart(agreeing(), rng()).panels
    *lines, one, scale = panel.marks
    assert [(mark.label, mark.style) for mark in lines if isinstance(mark, Line)] == [
        ("trajectories", "solid"), ("held-out examples", "solid"), ("two memorizers, trajectories", "dashed"),
    ]  # fmt: skip
    assert (lines[1].x, lines[1].y) == ((9.0, 2.0), pytest.approx((0.3, 0.2)))
    assert (one, scale) == (Rule(1.0), Rule(1.6, "x"))
    assert panel.y_range == pytest.approx((0.1, 100.0))
