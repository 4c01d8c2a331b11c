"""The numbers of the cards on quality, agreement, columns, classes and memorization, of results made by hand."""

# every block is of the kind that its card shows
# pyright: reportAttributeAccessIssue=false, reportOptionalMemberAccess=false

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from test_cards_of_comparisons import copies, gap

from diffuscope.audit.agreement import Agreement
from diffuscope.audit.agreement_charts import agreement_chart, covariance_chart
from diffuscope.audit.agreement_doubts import Compared
from diffuscope.audit.class_fit import ClassFit, fit_finding
from diffuscope.audit.class_null import _finding as unconditional
from diffuscope.audit.class_samples import smallest_share
from diffuscope.audit.column_findings import with_wrong_columns
from diffuscope.audit.column_pairs import ColumnPairs, pairs_finding, pairs_table
from diffuscope.audit.column_permutations import Permuted, permutations_for, permuted_tests
from diffuscope.audit.column_shares import ColumnShares, column_blocks, columns_finding
from diffuscope.audit.consistency import AGREES, IDENTITY, Consistency, consistency_finding
from diffuscope.audit.frechet_ratio import Fidelity, frechet_chart
from diffuscope.audit.judged_quality import Judged, Quality
from diffuscope.audit.measure import at_least
from diffuscope.audit.memorization import Memorization, verdict
from diffuscope.audit.nearness import Nearness
from diffuscope.audit.questions import agreement, quality
from diffuscope.audit.reading_search import error_ratio, formula_error
from diffuscope.audit.sample_units import heldout_finding, units_of_samples, units_table
from diffuscope.audit.units import Affine, SampleUnits, moments, rearrangements, usual_maps
from diffuscope.findings import Bars, FrechetDistance, Intervals, Line, Rule
from diffuscope.report import Table


def rng():
    return np.random.default_rng(0)


# quality


def distance(ratio, error=0.1, real=2.0, recited=1.3):
    """Between two held-out sets 2.0, known exactly, so that the ratio's error is that of the distance over 2.0."""
    return Fidelity(
        size=250, samples=FrechetDistance(ratio * real, error * real),
        recited=FrechetDistance(recited * real, 0.05 * real),
        real=real, real_error=0.0, real_deviation=0.3,
    )  # fmt: skip


def judged(samples, space="labels", **faults):
    return Judged(space, samples, faults or {"a blur": distance(5.0), "one class": distance(3.0)})


def quality_of(*spaces, copying=False, reasons=()):
    result = Quality(judged=spaces, classifier=None, balance=None, reasons=reasons)
    return quality.quality_finding(result, copying=copying)


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


def agreeing(**changes):
    cosines = np.full((4, 4), 0.1) + np.diag([0.8, 0.7, 0.9, 0.6])
    made = Agreement(
        ratios=np.array([9.0, 2.0, 0.3]),
        scale=1.6,
        matter=np.array([False, True, True]),
        cosines=cosines,
        memorizers=np.array([0.2, 0.4, 0.3, 0.5]),
        nearest=np.array([0.5, 0.52, 0.6, 0.54]),
        second_nearest=np.array([0.45, 0.5, 0.55, 0.5]),
        heldout_nearest=np.array([0.5, 0.6, 0.4]),
        path=np.tile(np.array([[0.5, 1.0, 3.0], [0.2, 2.0, 0.8], [0.1, 1.0, 1.5]]), (4, 1, 1)),
        heldout=np.tile(np.array([[0.3, 1.0], [0.4, 2.0], [0.2, 0.0]]), (5, 1, 1)),
    )
    return replace(made, **changes)


def compared_by_hand(**changes):
    made = Compared(
        agreement=agreeing(),
        agree=(0.78, 0.6, 0.9),
        copying=(0.08, -0.1, 0.2),
        averaged=(0.125, 0.1, 0.15),
        p_value=0.003,
        gap=gap(mean_share=0.012, mean_interval=(-0.01, 0.03), p_value=0.3, pairs=222, detectable=0.15),
        loss=(0.4, 0.3, 0.5),
        over_formula=((0.5, 0.4, 0.6), (0.55, 0.45, 0.65)),
        relative_loss=(1.07, 1.0, 1.1),
        repeated=0,
        nearly_repeated=0.0,
        heldout_known=0,
        memorized=1300,
        least=0.001,
        doubt="",
    )
    return replace(made, **changes)


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


# columns and pairs


def permuted_by_hand(corrected, center=(0.1, 0.1, 0.1), spread=(0.01, 0.02, 0.01)):
    return Permuted(
        p_value=np.array(corrected) / 2, corrected=np.array(corrected), center=np.array(center),
        spread=np.array(spread), chance=np.array([0.12, 0.14, 0.13]), maxima=np.linspace(4, 1, 999),
    )  # fmt: skip


def columns(corrected=(0.3, 0.002, 0.004), **changes):
    made = ColumnShares(
        names=("age", "city", "a very long name"), kinds=("number", "categorical", "number"),
        distance=np.array([0.11, 0.3, 0.18]), tests=permuted_by_hand(corrected),
        missing=np.array([[0.0, 0.2, 0.0], [0.0, 0.1, 0.0]]),
        samples=400, others=300.0, known=1000.4,
    )  # fmt: skip
    return replace(made, **changes)


def test_the_card_of_columns_names_the_farthest_beyond_chance():
    found = columns_finding(columns(), 0.01)
    # beyond chance by 1, 10 and 8 deviations
    assert (found.value, found.tone, found.p_value) == (0.3, "attention", 0.002)
    assert found.verdict == (
        "2 of 3 columns do not have the distribution of the data: column 'city' is at distance 0.300 from held-out "
        "rows (chance: up to 0.140). Also: 'a very long name'. Missing in it: 20.0% of the samples, 10.0% of "
        "held-out rows."
    )
    assert "of 1,000 independent training rows" in found.null
    # the 10th of 999 permutations has p = 0.01: ceil(0.01 * 1000) - 2 = 8, the ninth largest, is the last below it
    critical = np.array([0.1, 0.1, 0.1]) + np.linspace(4, 1, 999)[8] * np.array([0.01, 0.02, 0.01])
    least = critical + 1.6448536 * 0.5 * (1 / 400 + 1 / 300 + 1 / 1000.4) ** 0.5
    assert columns().detectable(0.01) == pytest.approx(least)
    assert found.power.startswith(
        f"A column at distance {least[1]:.3f} or more would have been found with probability 0.95; 'age' "
        f"at {least[0]:.3f}."
    )
    one = columns_finding(columns((0.3, 0.002, 0.01)), 0.01)
    assert one.verdict.startswith("1 of 3 columns does not have")
    good = columns_finding(columns((0.3, 0.2, 0.1)), 0.01)
    assert (good.tone, "Missing in it" in good.verdict) == ("good", False)
    few = columns_finding(columns((0.3, 0.2, 0.1), samples=1), 0.01)
    assert few.tone == "unknown"
    assert few.power.startswith("In 'city' not even the largest distance")
    assert np.isinf(columns().detectable(0.0009)).all()  # no permutation is that rare


def test_the_bars_and_the_table_of_columns_are_in_order():
    chart, table = column_blocks(columns(), 0.01)
    (bars,) = chart.panels[0].marks
    assert bars.names == ("city", "a very long n…", "age")
    assert bars.heights == ((0.3, 0.18, 0.11), (0.14, 0.13, 0.12))
    assert chart.panels[0].y_range == pytest.approx((0.0, 0.39))
    least = columns().detectable(0.01)
    assert table.rows[0] == ["city", "categorical", 0.3, 0.14, 0.001, 0.002, 20.0, 10.0, pytest.approx(least[1])]
    assert [row[0] for row in table.rows] == ["city", "a very long name", "age"]


def pairs(corrected=(0.3, 0.002, 0.004), **changes):
    made = ColumnPairs(
        names=(("a", "b"), ("a", "c"), ("b", "c")),
        measures=("rank correlation", "Cramer's V", "correlation ratio"),
        of_samples=np.array([0.5, 0.31, 0.2]), of_heldout=np.array([0.45, 0.72, 0.1]),
        distance=np.array([0.11, 0.3, 0.18]), tests=permuted_by_hand(corrected),
        samples=400, others=300.0, known=1000.4,
    )  # fmt: skip
    return replace(made, **changes)


def test_the_card_and_table_of_pairs_name_the_farthest_beyond_chance():
    found = pairs_finding(pairs(), 0.01)
    assert (found.value, found.tone, found.p_value) == (0.3, "attention", 0.002)
    assert found.verdict == (
        "2 of 3 pairs of columns do not belong together as in the data. Farthest beyond chance: Cramer's V of 'a' and "
        "'c': 0.310 among samples, 0.720 in held-out rows."
    )
    critical = 0.1 + np.linspace(4, 1, 999)[8] * 0.02
    least = critical + 1.6448536 * (1 / 400 + 1 / 300 + 1 / 1000.4) ** 0.5
    assert pairs().detectable(0.01) == pytest.approx(least)
    assert f"differs by about {least:.3f} would" in found.power
    assert "of 1,000 independent" in found.null
    assert pairs_finding(pairs((0.3, 0.002, 0.01)), 0.01).verdict.startswith("1 of 3 pairs of columns does not")
    assert pairs_finding(pairs((0.3, 0.2, 0.1)), 0.01).tone == "good"
    assert pairs_finding(pairs((0.3, 0.2, 0.1), samples=1, known=1.0), 0.0001).tone == "unknown"
    table = pairs_table(pairs())
    assert isinstance(table, Table)
    assert [row[0] for row in table.rows] == ["a and c", "b and c", "a and b"]
    assert [cell for cell in table.rows[0] if isinstance(cell, float)][:3] == [0.31, 0.72, 0.3]


def test_step_down_p_values_are_those_of_the_maximum_over_the_rest():
    """Three tests, four permutations, by hand. Studentized, column by column: mean 0 and deviation 1."""
    permuted = np.array([[1.0, -1.0, 1.0], [-1.0, 1.0, 1.0], [1.0, 1.0, -1.0], [-1.0, -1.0, -1.0]])
    found = permuted_tests(np.array([3.0, 1.0, 0.5]), permuted, 1.0)
    assert found.p_value.tolist() == [1 / 5, 3 / 5, 3 / 5]
    # maxima over all: 1, 1, 1, -1; over the second and third: 1, 1, 1, -1; over the third: 1, 1, -1, -1
    assert found.corrected.tolist() == [1 / 5, 4 / 5, 4 / 5]
    assert found.maxima.tolist() == [1.0, 1.0, 1.0, -1.0]
    shrunk = permuted_tests(np.array([3.0, 1.0, 0.5]), permuted + 2, 0.5)
    assert shrunk.center.tolist() == [4.0, 4.0, 4.0]
    assert shrunk.spread.tolist() == [2.0, 2.0, 2.0]
    assert shrunk.chance == pytest.approx(2 * np.quantile([1, 1, 3, 3], 0.95))
    assert shrunk.p_value.tolist() == [3 / 5, 1.0, 1.0]  # 3 / 2 = 1.5 is above two of four
    assert shrunk.farthest_first(np.array([3.0, 9.0, 5.0])).tolist() == [1, 2, 0]


@pytest.mark.parametrize(("level", "count"), [(0.01, 999), (0.001, 2000), (0.0005, 4000), (1e-5, 9999)])
def test_there_are_permutations_for_p_values_below_the_level(level, count):
    assert permutations_for(level) == count


def test_a_wrong_column_is_no_good_news_for_whole_rows():
    wrong, right = columns_finding(columns(), 0.01), columns_finding(columns((0.3, 0.2, 0.1)), 0.01)
    close = quality_of(judged(distance(1.2)))
    both = with_wrong_columns(close, [right, wrong])
    assert (both.tone, both.verdict) == ("attention", f"{wrong.verdict} As whole rows: {close.verdict}")
    assert with_wrong_columns(close, [right]) is close
    far = quality_of(judged(distance(7.0)))
    assert with_wrong_columns(far, [wrong]) is far


# classes


def fit(ratio=1.0, *, spread=0.0, n=64, other=4, classes=10, best=0.5, differs=0.3):
    sign = np.where(np.arange(n) % 2, 1.0, -1.0) * spread
    return ClassFit(
        label=3, other=other, classes=classes, own=np.tile(best * ratio + sign, (2, 1)), best=np.full((2, n), best),
        formula=np.array([0.6, 0.6]), differs=differs, tried=9,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("made", "tone"),
    [(fit(0.5), "good"), (fit(1.05001), "alarm"), (fit(1.04999), "attention"), (fit(1.3, best=0.76), "unknown"),
     (fit(1.0, spread=0.1), "unknown"), (fit(1.0, differs=0.0009), "unknown"), (fit(0.5, differs=0.0009), "unknown")],
)  # fmt: skip
def test_another_class_is_a_fault_if_it_denoises_better_beyond_chance(made, tone):
    found = fit_finding(made, 0.01, rng())
    assert found.tone == tone
    assert found.value == pytest.approx(made.ratio)


def test_the_card_of_the_class_names_ratio_and_power():
    found = fit_finding(fit(1.3, spread=0.1), 0.01, rng())
    assert "Class 3 of the model is not the data's: class 4 denoises" in found.verdict
    assert "the errors of class 3 are 1.30 times as large" in found.verdict
    assert found.interval == pytest.approx((1.3 - 1.96 * 0.2 / 8, 1.3 + 1.96 * 0.2 / 8), abs=0.006)
    # d = 0.3 +- 0.2: (2.3263 + 1.6449) * 0.2 / 8
    assert fit(1.3, spread=0.1).told(0.01) == pytest.approx((2.32635 + 1.64485) * 0.2 / 8, rel=1e-5)
    assert found.power == (
        "64 training examples at 2 noise levels; a difference of 9.9% would be found with probability 0.95. 9 other "
        "classes were tried."
    )
    good = fit_finding(fit(0.5, other=10), 0.01, rng()).verdict
    assert good.endswith(
        "better than any of the 9 others: the errors of the next best, no class, are 2 times as large."
    )


@pytest.mark.parametrize(
    ("ratio", "spread", "tone"),
    [(1.06, 0.0, "alarm"), (1.04, 0.0, "attention"), (0.9, 0.0, "good"), (1.0, 0.1, "unknown")],
)
def test_no_class_is_the_model_of_all_data_or_a_fault(ratio, spread, tone):
    found = unconditional(fit(ratio, spread=spread), 0.01, rng())
    assert (found.tone, found.value, found.unit) == (tone, pytest.approx(ratio), "x")
    if tone == "alarm":
        assert "without a class are 1.06 times as large" in found.verdict
        assert found.p_value == pytest.approx(1e-4)
    assert found.power.startswith("64 training examples of all labels at 2 noise levels")


def test_the_smallest_share_of_strays_is_the_first_significant_percent():
    """5 errors of 100 held-out examples; of 200 samples as many in a share of 5% and s more."""
    share = smallest_share(5, 100, 200, 0.01)
    percent = round(100 * share)
    assert at_least(round(200 * (0.05 + share)), 5, 200, 100) < 0.01
    assert at_least(round(200 * (0.05 + (percent - 1) / 100)), 5, 200, 100) >= 0.01
    assert smallest_share(50, 50, 20, 0.01) == math.inf


# memorization in one sentence


def near(**changes):
    made = Nearness(nearer=63, decided=90, references=250, interval=(0.61, 0.78), p_value=0.5, binomial_p_value=0.5,
                    planted=0.93, detectable=0.083)  # fmt: skip
    return replace(made, **changes)


EMPTY = np.zeros(6, dtype=bool)


NO_GAP = gap(p_value=0.5)


def memorized(found=None, gap=NO_GAP, nearness=None, **others):
    spaces = {"pixels": copies(listed=EMPTY) if found is None else found, **others}
    return verdict(Memorization(gap, {"pixels": near() if nearness is None else nearness}, spaces), 0.01)


def test_the_verdict_has_the_number_that_decides():
    copied = memorized(copies())
    assert (copied.value, copied.tone, copied.p_value) == (pytest.approx(100 / 3), "alarm", pytest.approx(0.06))
    assert copied.verdict.startswith("Copies training examples: 33.3% of its samples are copies (at most 5% of")
    twice = memorized(copies(), other=copies(listed=EMPTY))
    assert twice.p_value == pytest.approx(0.12)  # of two spaces
    biased = memorized(gap=gap())
    assert (biased.value, biased.tone, biased.p_value) == (pytest.approx(5.47), "attention", 0.0021)
    assert biased.interval == pytest.approx((3.1, 8.2))
    assert "its loss is 5.5% lower on training than on held-out data; no sample is a copy." in biased.verdict
    nearer = memorized(gap=gap(), nearness=near(p_value=0.004))
    assert (nearer.value, nearer.p_value) == (pytest.approx(70), 0.004)
    assert nearer.interval == pytest.approx((61, 78))
    assert (
        "70.0% of its samples are nearer to training than to held-out data and its loss is 5.5% lower" in nearer.verdict
    )
    assert memorized(nearness=near(p_value=0.01)).tone == "good"  # at the level
    assert memorized(nearness=near(p_value=0.004), other=copies(listed=EMPTY)).tone == "attention"
    assert memorized(nearness=near(p_value=0.005), other=copies(listed=EMPTY)).tone == "good"  # half of it
    assert memorized(gap=None).verdict.startswith("No sign of memorization in these samples")  # pyright: ignore[reportArgumentType]
    assert memorized(copies(listed=EMPTY, detectable={"exact": 0.9})).tone == "unknown"


def test_samples_that_equal_training_examples_are_counted_against_heldout_ones():
    n, m = 60, 80
    zeros = np.zeros(n, dtype=bool)

    def found(equal, fresh, close=None):
        """Of n samples and m held-out examples; `close` are near repeats of either."""
        distance, null = np.ones(n), np.ones(m)
        distance[:equal], null[:fresh] = 0.0, 0.0
        return copies(
            p_values=np.full(n, 0.5), listed=zeros, nearest_training=np.arange(n), nearest_heldout=np.arange(n),
            distance=distance, next_distance=np.ones(n), transformation=[""] * n, null_distance=null,
            null_next_distance=np.ones(m), heldout=np.arange(m), leaked={}, near=close,
        )  # fmt: skip

    many = memorized(found(20, 3))
    assert (many.tone, many.value) == ("alarm", pytest.approx(100 / 3))
    assert many.verdict == "Copies training examples: 20 of 60 samples equal one, and 3 of 80 held-out examples do."
    assert many.p_value == pytest.approx(at_least(20, 3, n, m))
    few = memorized(found(2, 0))
    assert (few.tone, few.value) == ("attention", pytest.approx(200 / 60))
    assert few.verdict.startswith(
        "2 of 60 samples equal a training example exactly, and none of 80 held-out examples does"
    )
    assert few.interval is not None
    assert few.interval[0] < few.value < few.interval[1]
    assert memorized(found(1, 0)).verdict.startswith("1 of 60 samples equals a")
    close = memorized(found(0, 0, (25, 4)))
    assert (close.tone, close.value) == ("alarm", pytest.approx(2500 / 60))
    assert "25 of 60 samples nearly repeat one, and 4 of 80 held-out examples do." in close.verdict
    assert close.p_value == pytest.approx(at_least(25, 4, n, m))
    assert memorized(found(0, 0)).tone == "good"


# units of samples


def sample_units(**changes):
    made = SampleUnits(name="", written="", nearer=0.0, before=1.2, after=1.2, deviation=1.1, shift=0.1,
                       heldout=(2, 200), chance=0.0)  # fmt: skip
    return replace(made, **changes)


@pytest.mark.parametrize(
    ("changes", "own", "tone", "value"),
    [
        ({}, False, "good", 1.1),
        ({"deviation": 1.6}, False, "alarm", 1.6),
        ({"deviation": 1.6}, True, "neutral", 1.6),
        ({"deviation": 1.59}, False, "good", 1.59),
        ({"deviation": 1 / 1.6}, False, "alarm", 0.625),
        ({"shift": -1.0}, False, "alarm", -1.0),
        ({"shift": 0.99}, False, "good", 1.1),
        ({"name": "[0, 1]", "nearer": 0.9, "before": 3.0, "after": 2.0}, True, "alarm", 1.5),
        ({"name": "[0, 1]", "nearer": 0.89, "before": 3.0, "after": 2.0}, True, "good", 1.1),
        ({"name": "[0, 1]", "nearer": 0.9, "before": 3.0, "after": 2.1}, True, "good", 1.1),
    ],
)
def test_units_of_samples_are_a_fault_at_the_stated_bars(changes, own, tone, value):
    found = units_of_samples(sample_units(**changes), "samples", own=own)
    assert (found.tone, found.value) == (tone, pytest.approx(value))
    assert f"is {sample_units(**changes).before:.3g} times that of held-out" in found.null


def test_the_words_of_units_have_their_numbers():
    fault = sample_units(name="values in [0, 1]", written="data = 2 × value − 1", nearer=0.97, before=3.0, after=1.0)
    text = units_of_samples(fault, "wiring", own=True).verdict
    assert text.endswith("97% of them are nearer to the data if read as values in [0, 1] (data = 2 × value − 1).")
    shifted = units_of_samples(sample_units(shift=-1.5), "samples", own=False)
    assert shifted.unit == "standard deviations"
    assert shifted.verdict.endswith("their mean is off by -1.5 standard deviations.")
    assert "spread 1.7 times as wide" in units_of_samples(sample_units(deviation=1.7), "samples", own=False).verdict


@pytest.mark.parametrize(
    ("count", "chance", "tone"), [(2, 0.0, "good"), (9, 0.0, "alarm"), (9, 0.02, "good"), (0, 0.0, "good")]
)
def test_samples_are_heldout_examples_if_the_whole_interval_says_so(count, chance, tone):
    """Of 200: the lower end is 2.1% for 9 and 0.12% for 2."""
    found = heldout_finding(sample_units(heldout=(count, 200), chance=chance), "samples")
    assert (found.tone, found.value) == (tone, count / 2)
    assert found.null.startswith(f"{100 * chance:.2g}%:")
    assert found.power.startswith("200 samples; from 1% beyond chance")
    if tone == "alarm":
        assert found.verdict.startswith("9 of 200 samples are held-out examples")


def test_affine_maps_go_there_and_back_and_are_written():
    units = Affine("x", 0.5, -2.0)
    x = torch.tensor([1.0, 3.0])
    assert units.to_data(x).tolist() == [-1.5, -0.5]
    assert units.from_data(units.to_data(x)).tolist() == [1.0, 3.0]
    assert units.written() == "data = 0.5 × value − 2"
    assert Affine("x", 0.5, 2.0).written() == "data = 0.5 × value + 2"


def test_the_usual_maps_bring_the_ends_of_a_range_to_those_of_the_data():
    maps = {m.name: m for m in usual_maps((-2.0, 6.0), 1.5, 0.7)}
    ends = torch.tensor([0.0, 255.0])
    assert maps["[0, 255]"].to_data(ends).tolist() == pytest.approx([-2.0, 6.0], abs=1e-5)
    assert maps["[0, 255], light and dark exchanged"].to_data(ends).tolist() == pytest.approx([6.0, -2.0], abs=1e-5)
    assert maps["[-1, 1]"].to_data(torch.tensor([-1.0, 1.0])).tolist() == [-2.0, 6.0]
    standard = maps["mean 0 and variance 1"]
    assert (standard.scale, standard.offset) == (0.7, 1.5)
    assert len(maps) == 13
    assert "[-1, 1]" not in {m.name for m in usual_maps((-1.0, 1.0), 0.2, 0.5)}  # the identity is none


def test_moments_are_medians_over_samples():
    x = torch.tensor([[1.0, 3.0], [2.0, 2.0], [40.0, 80.0]])
    center = torch.tensor([1.0, 1.0])
    mean, distance = moments(x, center)
    assert mean == 2.0
    assert distance == pytest.approx(2**0.5)  # of sqrt(2), 1 and 62: the root mean square per coordinate


def test_images_alone_are_rearranged_and_keep_their_shape():
    assert rearrangements((4, 4)) == {}
    assert set(rearrangements((1, 2, 3))) == {"turned upside down"}
    maps = rearrangements((3, 2, 2))
    x = torch.arange(12.0).reshape(1, 3, 2, 2)
    assert maps["exchanged height and width"](x)[0, 0].tolist() == [[0.0, 2.0], [1.0, 3.0]]
    assert maps["turned upside down"](x)[0, 1].tolist() == [[6.0, 7.0], [4.0, 5.0]]
    assert maps["channels in reversed order"](x)[0, :, 0, 0].tolist() == [8.0, 4.0, 0.0]


def test_the_table_of_units_has_every_channel():
    x = torch.tensor([[[[1.0, 5.0]], [[2.0, 8.0]]], [[[3.0, 7.0]], [[-4.0, 6.0]]]])
    first, second = units_table({"data": x}).rows
    assert first == ["data, channel 0", 4.0, pytest.approx((20 / 3) ** 0.5), 1.0, 7.0]
    assert second == ["data, channel 1", 3.0, pytest.approx((84 / 3) ** 0.5), -4.0, 8.0]
    (row,) = units_table({"points": torch.tensor([[1.0, 5.0], [3.0, 7.0]])}).rows
    assert row == ["points", 4.0, pytest.approx((20 / 3) ** 0.5), 1.0, 7.0]


# readings and one-step maps


def test_the_error_ratio_is_a_geometric_mean_over_levels():
    given, best = np.array([[2.0, 6.0], [1.0, 3.0]]), np.array([[1.0, 1.0], [4.0, 4.0]])
    assert error_ratio(given, best) == pytest.approx((4 * 0.5) ** 0.5)


def test_the_error_of_the_formula_is_relative_to_the_gaussians():
    variances = torch.tensor([9.0, 1.0], dtype=torch.float64)
    # at rho = 2: s^2 = 5, 10 * 4 / 9 against 36 / 13 + 4 / 5
    assert formula_error(variances, np.array([2.0])) == pytest.approx([(40 / 9) / (36 / 13 + 4 / 5)])


@pytest.mark.parametrize(
    ("moved", "error", "calls", "tone"),
    [(IDENTITY, 1.0, 2, "good"), (IDENTITY, 1.0, 1, "neutral"), (1.01 * IDENTITY, 1.0, 2, "attention"),
     (1.01 * IDENTITY, 1.0, 1, "neutral"), (IDENTITY, AGREES, 2, "good"), (IDENTITY, 1.01 * AGREES, 2, "attention"),
     (IDENTITY, 1.01 * AGREES, 1, "neutral")],
)  # fmt: skip
def test_a_consistency_model_is_the_identity_at_its_lowest_level(moved, error, calls, tone):
    found = consistency_finding(
        Consistency(
            moved=np.full(50, 0.999999 * moved**2), lowest=0.013, levels=np.array([0.5, 0.2]),
            errors=np.array([0.4, error]),
        ),
        calls,
        rng(),
    )  # fmt: skip
    assert (found.tone, found.unit) == (tone, "standard deviations")
    assert found.value == pytest.approx(moved, rel=1e-5)
    assert found.interval == pytest.approx((moved, moved), rel=1e-5)
    assert found.power.startswith("50 held-out examples at the lowest level, 0.0130 standard deviations")
    if error > AGREES and moved == IDENTITY:
        assert "under noise of 0.200 standard deviations end 1.52 times as far" in found.verdict
