"""The numbers of the cards on losses, on what was learned, on where a model stands and on how it is read."""

# every block is of the kind that its card shows
# pyright: reportAttributeAccessIssue=false, reportOptionalMemberAccess=false

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from diffuscope.audit.ends import STARTS, Start
from diffuscope.audit.level_charts import Curve, noise_panel
from diffuscope.audit.manners import Fault
from diffuscope.audit.questions import generalizes, learned, loss, wiring
from diffuscope.audit.questions.loss import LossSplit
from diffuscope.audit.reading_search import BestReading
from diffuscope.audit.skill import Skill, drift_chart, drift_finding, error_chart, skill_finding
from diffuscope.audit.standing import Position
from diffuscope.audit.standing_charts import standing_chart, standing_table, target_chart
from diffuscope.audit.target_noise import TargetNoise
from diffuscope.audit.unexplained_variance import Learned, best_ranges
from diffuscope.audit.units import ModelUnits
from diffuscope.findings import Area, Bars, Cells, Finding, Line, Rule, detectable_shift

RATIOS = np.array([20.0, 4.0, 0.7, 0.06])


def rng():
    return np.random.default_rng(0)


# where the loss comes from


def split(**changes):
    """Irreducible I and distance Delta by level: training (0.5, 0.3, 0.2, 0.1) and (0.4, 0.2, 0.05, 0.01)."""
    parts = {
        "irreducible": np.array([0.5, 0.3, 0.2, 0.1]),
        "distance": np.array([0.4, 0.2, 0.05, 0.01]),
        "total": np.array([0.9, 0.5, 0.25, 0.11]),
        "measured": np.array([0.91, 0.49, 0.26, 0.1]),
        "memorizer": np.array([0.5, 0.31, 0.21, 0.12]),
        "gaussian": np.array([0.8, 0.45, 0.22, 0.09]),
    }
    heldout = {name: 1.5 * x for name, x in parts.items()}
    value = {"training": parts, "heldout": heldout}
    made = LossSplit(
        ratios=RATIOS,
        scale=1.7,
        value=value,
        low={name: {part: 0.9 * x for part, x in of.items()} for name, of in value.items()},
        high={name: {part: 1.2 * x for part, x in of.items()} for name, of in value.items()},
        deviation={"training": np.array([0.1, -2.3, 0.4, 1.0]), "heldout": np.array([0.2, 1.9, 0.0, -1.1])},
        matter=np.array([False, True, True, False]),
        weighting="EDM's weights",
        weights=np.array([7.0, 3.0, 11.0, 100.0]),
        excess=(1.31, 1.12, 1.54),
        weighted_excess=(1.41, 1.22, 1.74),
        points=345,
    )
    return replace(made, **changes)


def by_name(found, prefix):
    return {f.name.removeprefix(f"{prefix}."): f for f in found}


def test_the_cards_of_the_loss_have_its_shares_in_the_weights_of_the_levels_that_matter():
    found = by_name(loss.findings(split()), "loss")
    first = found["memorizer_on_heldout"]
    assert (first.value, first.unit, first.interval, first.tone) == (1.31, "x", (1.12, 1.54), "good")
    assert "has 1.31x the model's loss over σ/α = 0.7 to 4: the model generalizes." in first.verdict
    assert first.power.startswith("345 held-out examples at the 2 of 4 noise levels")
    weighted = found["memorizer_weighted"]
    assert (weighted.value, weighted.unit, weighted.interval) == (1.41, "x", (1.22, 1.74))
    assert "held-out loss is 1.41x the model's" in weighted.verdict
    share = found["irreducible_share"]
    value = (3 * 0.3 + 11 * 0.2) / (3 * 0.5 + 11 * 0.25)
    assert share.value == pytest.approx(100 * value)
    assert share.interval == pytest.approx((75 * value, 100 / 0.75 * value))  # 0.9 / 1.2 and 1.2 / 0.9 of it
    assert share.verdict.startswith(f"{value:.0%} of the training loss (EDM's weights)")
    peak = found["distance_peak"]  # 3 * 0.2 = 0.6 and 11 * 0.05 = 0.55
    assert (peak.value, peak.unit) == (4.0, "σ/α")
    assert f"at σ/α = 4 ({4 / 1.7:.2g} standard deviations of the data)" in peak.verdict
    identity = found["identity"]
    assert (identity.value, identity.tone) == (2.3, "good")
    assert "within 2.3 standard errors" in identity.verdict
    assert "of 8 differences" in identity.null


def test_a_share_is_at_most_all_and_at_least_nothing():
    result = split()
    result.low["training"]["total"] = 0.1 * result.value["training"]["total"]
    result.low["training"]["irreducible"] = -result.value["training"]["irreducible"]
    assert by_name(loss.findings(result), "loss")["irreducible_share"].interval == (0.0, 100.0)


@pytest.mark.parametrize(("worst", "tone"), [(3.99, "good"), (-4.0, "alarm")])
def test_four_standard_errors_are_a_fault_of_either_sign(worst, tone):
    deviation = {"training": np.zeros(4), "heldout": np.array([worst, 0.5, 1.0, -1.0])}
    assert by_name(loss.findings(split(deviation=deviation)), "loss")["identity"].tone == tone


def test_an_interval_that_ends_at_one_is_no_better_than_a_lookup():
    assert loss.findings(split(excess=(0.9, 0.8, 1.0)))[0].tone == "attention"
    assert loss.findings(split(excess=(0.9, 0.8, 1.001)))[0].tone == "unknown"
    assert loss.findings(split(excess=(1.1, 1.0, 1.2)))[0].tone == "unknown"


def test_a_model_at_the_optimum_has_no_peak():
    result = split()
    result.value["training"]["distance"] = np.zeros(4)
    assert "distance_peak" not in by_name(loss.findings(result), "loss")


def test_the_figure_of_the_loss_has_its_lines_and_bands():
    chart = loss.split_chart(split())
    for panel, name in zip(chart.panels, ("training", "heldout"), strict=True):
        lower, upper, measured, gaussian, memorizer, scale = panel.marks
        of = split().value[name]
        assert isinstance(lower, Area)
        assert isinstance(upper, Area)
        assert (lower.x, lower.low, upper.low) == (tuple(RATIOS), (0.0,) * 4, tuple(of["irreducible"]))
        assert isinstance(measured, Line)
        assert (measured.y, measured.low, measured.high) == (
            tuple(of["measured"]), tuple(0.9 * of["measured"]), tuple(1.2 * of["measured"]),
        )  # fmt: skip
        assert isinstance(gaussian, Line)
        assert isinstance(memorizer, Line)
        assert (gaussian.label, gaussian.y) == ("Gaussian", tuple(of["gaussian"]))
        assert (memorizer.label, memorizer.y) == ("memorizer", tuple(of["memorizer"]))
        assert scale == Rule(1.7, "x")
        assert panel.y_range == pytest.approx((0.0, 1.2 * 1.5 * 0.91))
    rows = loss._numbers(split()).rows
    assert rows[1] == pytest.approx([4.0, 0.3, 0.2, 0.49, 0.45, 0.3, 0.735])


def test_a_ratio_of_sums_is_that_of_all_points_with_its_own_interval():
    pair = np.array([[3.0, 2.0], [5.0, 4.0], [1.0, 4.0]])
    value, low, high = loss._ratio(pair, rng())
    assert value == pytest.approx(0.9)
    assert low == pytest.approx(0.25)  # one point thrice: 1/4 in 1 of 27 draws, 3/2 in as many
    assert high == pytest.approx(1.5)
    assert np.isnan(loss._ratio(np.zeros((3, 2)), rng())).all()


# what was learned


def curve(value):
    value = np.array(value)
    return Curve(value, 0.9 * value, 1.1 * value)


def learned_by_hand(**changes):
    sharp = curve([[0.9, 0.05], [0.5, 0.02], [0.3, 0.4], [0.2, 0.9]])
    sets = {name: curve(k * sharp.value) for k, name in enumerate(("training", "heldout", "trajectory"), 1)}
    scores = {name: curve(k * sharp.value[::-1]) for k, name in enumerate(("training", "heldout", "trajectory"), 1)}
    made = Learned(
        ratios=RATIOS,
        scale=1.6,
        models=("mixture", "Gaussian"),
        unexplained=sets,
        unexplained_per_sample={"heldout": curve(0.5 * sharp.value)},
        unexplained_score=scores,
        cosine={"heldout": curve([[0.9, 0.99], [0.8, 0.97], [-0.1, 0.7], [0.6, 0.5]])},
        points=210,
        bands=("1", "2-3"),
        unexplained_bands=np.arange(16.0).reshape(4, 2, 2) / 16,
        sharp=sharp,
        best=np.array([1, 1, 0, 0]),
        support=np.array([0.97, 0.81, 0.62, 0.93]),
        gaussian_range=np.array([[1.3, 20.0], [1.2, 20.0], [1.4, 20.0], [np.nan, np.nan], [1.5, 20.0]]),
        matter=np.array([True, True, True, False]),
        of_mean=np.array([[0.99, 0.98, 1.0], [0.6, 0.5, 0.7], [0.3, 0.2, 0.4], [0.1, 0.05, 0.2]]),
    )
    return replace(made, **changes)


def test_the_cards_of_what_was_learned_have_the_best_model_at_either_end():
    found = by_name(learned.findings(learned_by_hand()), "learned")
    enough = found["gaussian_range"]
    assert (enough.value, enough.unit) == (1.3, "σ/α")
    assert "From σ/α = 20 down to 1.3 (0.81 standard deviations of the data)" in enough.verdict
    assert "explain at least 90% of its output" in enough.verdict
    assert enough.interval == pytest.approx((1.2 + 0.05 * 0.2, 1.5 - 0.05 * 0.1))  # quantiles of three
    assert "without the 25% of resamples" in enough.power
    assert enough.power.startswith("210 held-out examples at each")
    high, low = found["best_at_highest"], found["best_at_lowest"]
    assert (high.value, high.interval) == (pytest.approx(5.0), pytest.approx((4.5, 5.5)))
    assert "σ/α = 20, the Gaussian model is closest to the network and leaves 5.00% of the" in high.verdict
    assert high.power == "97% of bootstrap resamples select the same model."
    assert (low.value, low.interval) == (pytest.approx(20.0), pytest.approx((18, 22)))
    assert "σ/α = 0.06, the mixture model" in low.verdict
    mean = found["worse_than_mean"]
    assert (mean.value, mean.interval, mean.tone) == (0.99, (0.98, 1.0), "neutral")
    assert mean.verdict.endswith("it is closest to it at σ/α = 20.")
    assert mean.power.startswith("210 held-out examples at each of 4 noise levels")
    assert "for sampling: σ/α = 0.7 to 20, where" in mean.power


def test_a_fraction_above_one_is_all():
    sharp = curve([[1.4, 2.0], [0.5, 0.02], [0.3, 0.4], [0.2, 0.9]])
    high = by_name(learned.findings(learned_by_hand(sharp=sharp, best=np.zeros(4, int))), "learned")["best_at_highest"]
    assert (high.value, high.interval) == (100.0, (100.0, 100.0))
    assert "leaves all of the variance unexplained" in high.verdict


def test_where_no_level_qualifies_the_closest_is_named():
    sharp = curve([[0.9, 0.55], [0.5, 0.32], [0.3, 0.4], [0.2, 0.95]])
    nowhere = np.full((5, 2), np.nan)
    found = by_name(learned.findings(learned_by_hand(sharp=sharp, gaussian_range=nowhere)), "learned")["gaussian_range"]
    assert (found.value, found.unit) == (pytest.approx(32.0), "%")
    assert found.interval == pytest.approx((28.8, 35.2))
    assert "explain 90% of the model; it comes closest at σ/α = 4, where 32.00% of" in found.verdict
    assert found.power == "210 held-out examples at each noise level."


@pytest.mark.parametrize(
    ("low", "matter", "tone"),
    [(1.01, True, "neutral"), (1.011, True, "attention"), (2.0, True, "attention"), (2.01, True, "alarm"),
     (2.01, False, "neutral")],
)  # fmt: skip
def test_worse_than_the_mean_is_by_the_lower_end_at_a_level_that_matters(low, matter, tone):
    of_mean = np.array([[1.05, 1.02, 1.1], [0.6, 0.5, 0.7], [2.5, low, 3.1], [0.1, 0.05, 0.2]])
    result = learned_by_hand(of_mean=of_mean, matter=np.array([False, True, matter, False]))
    found = by_name(learned.findings(result), "learned")["worse_than_mean"]
    assert found.tone == tone
    if tone in ("attention", "alarm"):
        assert (found.value, found.interval) == (2.5, (low, 3.1))
        assert "At 2 of 4 noise levels" in found.verdict
        assert found.verdict.endswith("at σ/α = 0.7 its loss is 2.5x that of the mean.")
    elif low > 1.01:
        assert found.verdict.endswith("at none of the levels that matter for sampling (σ/α = 4 to 4).")


def test_the_figures_of_what_was_learned_have_its_fractions():
    result = learned_by_hand()
    unexplained, ranges, by_set, by_band, cosine, numbers = learned.blocks(result)
    for panel, fraction in zip(
        unexplained.panels, (result.unexplained["heldout"], result.unexplained_score["heldout"]), strict=True
    ):
        for column, mark in enumerate(panel.marks[:2]):
            assert mark.label == result.models[column]
            assert (mark.x, mark.y) == (tuple(RATIOS), tuple(fraction.value[:, column]))
            assert (mark.low, mark.high) == (tuple(fraction.low[:, column]), tuple(fraction.high[:, column]))
        assert panel.marks[2].at == pytest.approx(0.1)
    for panel, name in zip(by_set.panels, ("training", "heldout", "trajectory"), strict=True):
        larger = np.maximum(result.unexplained[name].value, result.unexplained_score[name].value)
        assert panel.marks[1].y == tuple(larger[:, 1])
    assert ranges.rows == [["Gaussian", 20.0, 4.0, 81.0], ["mixture", 0.7, 0.06, 62.0]]
    assert best_ranges(result)[1] == ("mixture", 0.7, 0.06, 0.62)
    (panel,) = by_band.panels
    (matrix,) = panel.marks
    assert isinstance(matrix, Cells)
    assert (matrix.rows, matrix.columns) == (("PC 1", "PC 2-3"), ("0.06", "0.7", "4", "20"))
    assert matrix.values == (tuple(np.array([14, 10, 6, 2]) / 16), tuple(np.array([15, 11, 7, 3]) / 16))
    assert cosine.panels[0].marks[0].y == (0.9, 0.8, -0.1, 0.6)
    assert cosine.panels[0].y_range == pytest.approx((-0.09, 1.03))  # its least lower end
    fractions = (result.unexplained, result.unexplained_per_sample, result.unexplained_score)
    assert numbers.rows[3] == [
        "4", "Gaussian", *(pytest.approx(100 * float(of["heldout"].value[1, 1])) for of in fractions), 0.97,
    ]  # fmt: skip


# curves


def test_lines_are_multiplied_with_their_bands_and_the_larger_curve_end_by_end():
    one, other = curve([[0.1, 0.4], [0.3, 0.2]]), Curve(*(np.array(x) for x in ([[0.2, 0.1], [0.1, 0.9]],) * 3))
    first, second = one.lines(np.array([3.0, 0.5]), ["a", "b"], 100.0)
    assert (first.label, second.label, first.x) == ("a", "b", (3.0, 0.5))
    assert (second.y, second.low, second.high) == tuple(pytest.approx(x) for x in ((40, 20), (36, 18), (44, 22)))
    larger = one.larger(other)
    assert larger.value == pytest.approx(np.array([[0.2, 0.4], [0.3, 0.9]]))
    assert larger.low == pytest.approx(np.array([[0.2, 0.36], [0.27, 0.9]]))
    panel = noise_panel("t", "y", 1.7, first, y_log=True, y_range=(0.1, 2.0))
    assert (panel.title, panel.y_label, panel.marks[-1]) == ("t", "y", Rule(1.7, "x"))
    assert (panel.x_log, panel.y_log, panel.y_range) == (True, True, (0.1, 2.0))


# where it stands


def position(pairs=40):
    """Sums over the two levels that matter: I = 3 and 5, Delta = 2 and 1, G = 1 and 1, with spread in G alone."""
    spread = np.where(np.arange(pairs) % 2, 1.0, -1.0)[:, None] * np.array([0.5, 0.25, 9.0])
    return Position(
        ratios=np.array([8.0, 1.5, 0.2]),
        scale=1.7,
        matter=np.array([1.0, 1.0, 0.0]),
        irreducible=np.tile([3.0, 5.0, 70.0], (pairs, 1)),
        distance=np.tile([2.0, 1.0, 90.0], (pairs, 1)),
        gap=np.tile([1.0, 1.0, 80.0], (pairs, 1)) + spread,
    )


def test_the_position_is_the_gap_over_gap_and_distance_where_it_matters():
    value, low, high = position().value(rng())
    assert value == pytest.approx(2 / 5)
    # the gap's mean has the standard error 0.75 / sqrt(40) = 0.119; p = G / (G + 3)
    ends = [(2 + z * 0.1186) / (5 + z * 0.1186) for z in (-1.96, 1.96)]
    assert (low, high) == pytest.approx(ends, abs=0.005)
    assert position().detectable(0.01) == pytest.approx(detectable_shift(0.75 / 40**0.5, 0.01) / 5)


def test_the_noise_of_the_target_is_divided_by_its_draws():
    for draws in (1, 8, 64):
        assert position().noise_share(draws, rng()) == pytest.approx((8 / (8 + 3 * draws),) * 3)
    levels = position().by_level(rng())
    assert list(levels) == ["position", "1 draw", "8 draws", "64 draws"]
    assert levels["position"].value[:, 0] == pytest.approx([1 / 3, 1 / 2, 80 / 170])
    assert levels["8 draws"].value[:, 0] == pytest.approx([3 / 19, 5 / 13, 70 / 790])
    assert levels["8 draws"].low[:, 0] == pytest.approx(levels["8 draws"].high[:, 0])
    assert levels["position"].low[0, 0] < 1 / 3 < levels["position"].high[0, 0]


def test_a_gap_that_takes_more_than_the_distance_has_no_position():
    lower = replace(position(), gap=np.full((40, 3), -3.0))
    assert np.isnan(lower.value(rng())).all()
    assert np.isnan(lower.by_level(rng())["position"].value[:2]).all()
    panels = standing_chart(lower, rng()).panels
    assert panels[1].marks[0].x == (0.2,)  # the level with 90 - 3
    cells = [row[1] for row in standing_table(lower, rng()).rows]
    assert cells == [None, None, pytest.approx(-3 / 87)]


def test_the_figure_and_table_of_the_position_have_its_numbers_in_percent():
    noise, standing = standing_chart(position(), rng()).panels
    assert [mark.label for mark in noise.marks[:3]] == ["1 draw", "8 draws", "64 draws"]
    assert noise.marks[1].y == pytest.approx((100 * 3 / 19, 100 * 5 / 13, 100 * 70 / 790))
    assert noise.y_range == (0.0, 100.0)
    model, zero, whole, scale = standing.marks
    assert model.y == pytest.approx((100 / 3, 50, 100 * 80 / 170))
    assert (zero.at, whole.at, scale) == (0.0, 100.0, Rule(1.7, "x"))
    row = standing_table(position(), rng()).rows[1]
    assert row == [1.5, *(pytest.approx(x) for x in (1 / 2, 5 / 6, 5 / 13, 5 / 69))]


def target(**changes):
    made = TargetNoise(
        ratios=np.array([8.0, 1.5, 0.2]), scale=1.7, dimension=3, variance=np.array([[6.0, 3.0, 0.5], [6.0, 3.0, 0.5]]),
        examples=np.array([0.4, 0.5, 0.9]), heldout=np.array([0.75, 0.8, 0.6, 2.0]), samples=np.array([0.2, 0.35, 0.3]),
    )  # fmt: skip
    return replace(made, **changes)


def test_the_spread_is_the_integral_over_levels_in_distances_between_examples():
    s2 = 1.7**2
    kept = [v * s2 / (s2 + r**2) for v, r in ((6.0, 8.0), (3.0, 1.5), (0.5, 0.2))]
    integral = (kept[0] + kept[1]) / 2 * math.log(8 / 1.5) + (kept[1] + kept[2]) / 2 * math.log(1.5 / 0.2)
    value, low, high = target().spread(rng())
    assert value == pytest.approx(integral**0.5 / 0.5)
    assert (low, high) == pytest.approx((integral**0.5 / 0.9, integral**0.5 / 0.4))  # medians of three resampled
    near, near_low, near_high = target().at_examples(rng())
    assert near == pytest.approx(0.3 / 0.5)
    assert near_low < near < near_high


def test_the_figure_of_the_target_has_variances_over_the_datas_and_distances_over_d1():
    along, ends = target_chart(target(), rng()).panels
    assert along.marks[0].y == pytest.approx(np.array([6.0, 3.0, 0.5]) / (3 * 1.7**2))
    assert [bar.label for bar in ends.marks if isinstance(bar, Bars)] == [
        "samples",
        "training examples",
        "held-out examples",
    ]
    for bar, x in zip(ends.marks, (target().samples, target().examples, target().heldout), strict=True):
        edges, heights = np.array(bar.edges), np.array(bar.heights)
        assert edges[-1] == pytest.approx(2.0 / 0.5)
        counts = np.histogram(x / 0.5, edges)[0]
        assert heights * np.diff(edges) * len(x) == pytest.approx(counts)


def outlook(**changes):
    made = generalizes.Outlook(
        examples=1200,
        dimension=3,
        parameters=2400,
        position=position(),
        target=target(),
        standing=(0.37, 0.31, 0.44),
        noise={1: (0.727, 0.7, 0.75), 8: (0.25, 0.2, 0.3), 64: (0.04, 0.03, 0.05)},
        spread=(2.31, 2.1, 2.6),
        at_examples=(0.62, 0.5, 0.8),
    )
    return replace(made, **changes)


def standing(result, memorized=None, doubt=""):
    found = generalizes.findings(result, significance=0.01, memorized=memorized, doubt=doubt)
    return by_name(found, "generalizes")


def test_the_cards_of_the_outlook_have_its_numbers():
    found = standing(outlook())
    first = found["position"]
    assert (first.value, first.unit) == (37.0, "%")
    assert first.interval == (31.0, 44.0)
    assert first.verdict.startswith("Its denoising loss stands 37% of the way from treating")
    assert first.power.startswith(f"A position of {position().detectable(0.01):.1%} would have")
    count = found["parameters"]
    assert count.value == 1.5
    assert count.verdict == (
        "1,200 training examples of 3 numbers are 3,600 numbers for 2,400 parameters: 1.5 per parameter, and 0.5 "
        "examples per parameter."
    )
    spread, near = found["spread"], found["at_examples"]
    assert (spread.value, spread.interval) == (2.31, (2.1, 2.6))
    assert "by 2.31 times the distance between neighboring training examples (0.5); a model" in spread.verdict
    assert spread.verdict.endswith("keeps 2.31/√M.")
    assert spread.power == "2 trajectories, 3 training examples."
    assert (near.value, near.interval, near.power) == (0.62, (0.5, 0.8), "3 samples.")
    assert "are at 0.62 times" in near.verdict
    assert near.verdict.endswith("held-out examples at 1.55 times.")  # 0.775 / 0.5
    dial = found["dial"]
    assert dial.value == pytest.approx(72.7)
    assert dial.interval == pytest.approx((70, 75))
    # I / Delta = 0.727 / 0.273 = 2.7 draws make the two parts equal
    assert dial.verdict.endswith(
        "the mean of several draws as the target it would be 25% with 8, 4% with 64 (half with 3)."
    )
    assert dial.verdict.startswith("73% of its training loss")
    assert dial.power.startswith("40 training examples.")


def test_a_loss_below_its_own_noise_has_no_half():
    noise = {1: (0.4, 0.3, 0.5), 8: (0.1, 0.05, 0.2), 64: (0.01, 0.005, 0.02)}
    assert "(half with" not in standing(outlook(noise=noise))["dial"].verdict
    whole = standing(outlook(noise=noise | {1: (1.0, 1.0, 1.0)}))["dial"].verdict
    assert whole.startswith("All of its training loss")


def test_what_cannot_be_told_is_not():
    assert standing(outlook(), doubt="they are alike")["position"].verdict.startswith("Cannot tell: they are alike, so")
    assert standing(outlook(standing=(math.nan,) * 3))["position"].tone == "unknown"
    nothing = replace(position(), matter=np.zeros(3))
    assert "covers none" in standing(outlook(position=nothing))["position"].verdict
    assert standing(outlook(parameters=None))["parameters"].tone == "unknown"
    latent = standing(outlook(target=None, spread=None, at_examples=None))
    assert "latents" in latent["spread"].verdict
    assert latent["at_examples"].tone == "unknown"
    told = Finding(name="memorized.verdict", title="", value=1.0, unit="%", verdict="So.", tone="alarm", power="")
    assert standing(outlook(), told)["position"].verdict.endswith("It has memorized: “So.”")


def test_each_parameter_is_counted_once():
    shared = torch.nn.Linear(3, 2)  # 6 + 2
    assert generalizes.parameters_of(torch.nn.Sequential(shared, torch.nn.Linear(2, 1, bias=False), shared)) == 10
    assert generalizes.parameters_of(object()) is None


# how it is read


def units(**changes):
    made = ModelUnits(
        name="[0, 255]", written="data = 0.1 × value − 1", cost=1.5, p_value=0.0004, tried=17, denoises=True
    )
    return replace(made, **changes)


@pytest.mark.parametrize(
    ("changes", "tone"),
    [({}, "alarm"), ({"denoises": False}, "neutral"), ({"p_value": wiring.SIGNIFICANT}, "good"),
     ({"cost": wiring.FAULT}, "alarm"), ({"cost": wiring.FAULT - 1e-6}, "good")],
)  # fmt: skip
def test_other_units_are_a_fault_if_they_cost_enough_beyond_chance(changes, tone):
    found = wiring.units_finding(units(**changes))
    assert found.tone == tone
    assert found.value == units(**changes).cost
    if tone == "alarm" and not changes:
        assert (
            "are 1.5 times those it has on data with values in [0, 255], where data = 0.1 × value − 1." in found.verdict
        )
        assert found.p_value == 0.0004
        assert found.power.startswith("17 affine maps;")
        assert f"by a factor of {wiring.FAULT:g} would" in found.power


def reading(cost=1.8, *, denoises=True, **changes):
    """Errors as given `cost` times those of the best reading, which are those of a denoiser or not."""
    best = np.full((2, 5), 0.5 if denoises else 2.0)
    made = BestReading(
        convention="the time t of VP", reading="noise", network=True, levels=np.array([1.0, 0.5]), given=cost * best,
        best=best, formula=np.ones(2), p_value=0.0003, seen=1.25, tried=411,
    )  # fmt: skip
    return replace(made, **changes)


@pytest.mark.parametrize(
    ("changes", "tone"),
    [({}, "alarm"), ({"cost": wiring.FAULT + 1e-6}, "alarm"), ({"cost": wiring.FAULT - 1e-6}, "attention"),
     ({"cost": wiring.DOUBT + 1e-6}, "attention"), ({"cost": wiring.DOUBT - 1e-6}, "good"),
     ({"denoises": False}, "neutral"), ({"p_value": wiring.SIGNIFICANT}, "good")],
)  # fmt: skip
def test_another_reading_is_a_fault_or_a_doubt_by_its_cost(changes, tone):
    found = wiring.reading_finding(reading(**changes))
    assert found.tone == tone
    assert (found.value, found.p_value) == (pytest.approx(changes.get("cost", 1.8)), changes.get("p_value", 0.0003))


def test_the_card_of_the_reading_names_it_and_its_cost():
    found = wiring.reading_finding(reading())
    assert found.verdict.endswith(
        "Read with the time t of VP as its time and its output read as noise, its errors are 1.8 times smaller."
    )
    assert found.power == (
        "A noise level wrong by a factor of 1.25 would have counted as a fault. 411 readings were tried, of the "
        "network itself."
    )
    doubt = wiring.reading_finding(reading(1.14, convention=wiring.DECLARED))
    assert (
        doubt.verdict == "Its errors are 14% larger than they would be if it were read with its output read as noise."
    )
    inside = wiring.reading_finding(reading(network=False, reading=wiring.DATA, seen=math.inf))
    assert "Read at the time t of VP, its" in inside.verdict
    assert inside.power.startswith("A noise level wrong by a factor of up to 5 would not be noticed")
    assert inside.power.endswith("of the wrapper; the network inside could not be reached.")


@pytest.mark.parametrize(
    ("shift", "error", "tone"),
    [(0.0, 0.01, "good"), (0.11, 0.02, "good"), (0.1101, 0.02, "attention"), (-0.13, 0.02, "attention")],
)
def test_a_shift_by_the_start_is_told_beyond_three_standard_errors(shift, error, tone):
    found = wiring.start_finding(Start(ratio=23.0, displacement=0.31, shift=shift, shift_error=error))
    assert found.tone == tone
    assert (found.value, found.unit) == (shift, "standard deviations")
    assert found.interval == pytest.approx((shift - 1.96 * error, shift + 1.96 * error))
    assert "23 standard deviations of the data, moves samples by 0.31 standard" in found.verdict
    assert f"and their mean by {shift:+.2g}" in found.verdict
    assert found.power == f"{STARTS} samples; a shift of {0.05 + 3 * error:.2g} standard deviations would be reported."


def test_faults_of_manners_are_counted_the_grave_ones_first():
    light, grave = Fault("a", "mend a", False), Fault("b", "mend b", True)
    found = wiring.manners_finding([light, grave])
    assert (found.value, found.unit, found.tone) == (2.0, "faults", "alarm")
    assert found.verdict.endswith(": b (mend b); a (mend a).")
    assert wiring.manners_finding([light]).tone == "attention"
    assert wiring.manners_finding([]).tone == "good"
    assert wiring.manners_finding([]).value == 0.0


# skill and drift


def skill(**changes):
    """Levels 20, 4, 0.7, 0.06 at scale 1.6: those from 0.4 to 4.8 matter, 4 and 0.7."""
    isotropic = RATIOS**2 / (RATIOS**2 + 1.6**2)
    made = Skill(
        examples=272,
        ratios=RATIOS,
        scale=1.6,
        error=0.8 * isotropic,
        low=0.7 * isotropic,
        high=0.9 * isotropic,
        gaussian=0.6 * isotropic,
        isotropic=isotropic,
        drift=np.array([[0.01, -0.02], [0.03, -0.04], [0.0, 0.01], [0.0, 0.0]]),
        drift_error=np.array([[0.01, 0.012], [0.01, 0.01], [0.02, 0.01], [0.01, 0.01]]),
    )
    return replace(made, **changes)


def test_skill_is_the_largest_ratio_where_it_matters():
    factor = np.array([5.0, 0.8, 0.9, 7.0])
    result = skill(error=factor * skill().isotropic, low=np.full(4, 1e-9))
    found = skill_finding(result)
    assert (found.value, found.tone, found.unit) == (pytest.approx(0.9), "good", "x")
    assert found.interval == pytest.approx((1e-9 / result.isotropic[2], 0.9))
    assert found.power == "272 training examples at each of 4 noise levels."
    assert "from 0.25 to 3 standard deviations" in found.null
    assert skill().matters.tolist() == [False, True, True, False]


def test_one_worse_level_of_three_is_attention_and_half_of_them_no_denoiser():
    ratios = np.array([20.0, 4.0, 2.0, 0.7, 0.06])
    isotropic = ratios**2 / (ratios**2 + 1.6**2)

    def finding(*worse):
        low = np.where(np.isin(ratios, worse), 1.05, 0.7) * isotropic
        zeros = np.zeros((5, 1))
        return skill_finding(
            skill(ratios=ratios, isotropic=isotropic, gaussian=isotropic, error=1.2 * low, low=low, high=1.5 * low,
                  drift=zeros, drift_error=zeros)
        )  # fmt: skip

    one = finding(2.0)
    assert one.tone == "attention"
    assert one.verdict.startswith("At σ/α = 2 its errors are 1.26 times those of a formula")
    assert one.interval == pytest.approx((1.05, 1.575))
    two = finding(4.0, 0.7)
    assert two.tone == "alarm"
    assert "mean and standard deviation, 1.26 times at σ/α = " in two.verdict
    assert finding(20.0, 0.06).tone == "good"  # these do not matter


def test_worse_is_beyond_two_percent_by_the_lower_end():
    at = skill(low=1.02 * skill().isotropic, high=2 * skill().isotropic)
    assert not at.worse.any()
    assert skill(low=1.0201 * skill().isotropic).worse.all()


def test_levels_that_decide_little_are_a_reservation():
    low = 0.7 * skill().isotropic
    low[0] = 1.03  # above the constant mean's error, at 20
    low[3] = 1.03 * (0.06 / 1.6) ** 2  # above the input's, at 0.06
    text = skill_finding(skill(low=low)).verdict
    assert text.endswith(
        ", with a reservation: from σ/α = 20 upward it is worse than the mean of the data, and below σ/α = 0.06 it is "
        "worse than its own input."
    )
    assert "reservation" not in skill_finding(skill(low=np.minimum(low, 0.99 * skill().isotropic))).verdict


def test_the_largest_drift_is_beyond_three_standard_errors_and_told_beyond_the_bar():
    drift, error = skill().drift.copy(), skill().drift_error.copy()
    found = drift_finding(skill())
    assert found.tone == "good"
    assert found.power.startswith(f"A shift of {0.05 + 3 * 0.02:.2g} standard deviations")
    assert "of 8." in found.null
    drift[0, 1], drift[2, 0] = -0.5, 0.2  # 0.5 - 0.036 at a level that decides little, 0.2 - 0.06 at one that matters
    found = drift_finding(skill(drift=drift))
    assert (found.value, found.tone, found.unit) == (0.2, "attention", "standard deviations")
    assert found.interval == pytest.approx((0.2 - 1.96 * 0.02, 0.2 + 1.96 * 0.02))
    assert found.verdict == "Its answers drift: at σ/α = 0.7 their mean is off by +0.2 standard deviations of the data."
    drift[2, 0] = 0.1
    error[2, 0] = 0.02  # 0.1 - 0.06 is within the bar
    found = drift_finding(skill(drift=drift, drift_error=error))
    assert (found.value, found.tone) == (-0.5, "neutral")
    assert found.verdict.endswith("off by -0.5 standard deviations of the data, at a noise level that decides little.")


def test_the_figures_of_skill_and_drift_have_their_curves():
    result = skill()
    (panel,) = error_chart(result).panels
    model, gaussian, isotropic, one, scale = panel.marks
    assert (model.x, model.y, model.low, model.high) == tuple(
        tuple(x) for x in (RATIOS, result.error, result.low, result.high)
    )
    assert (gaussian.label, gaussian.y) == ("Gaussian", tuple(result.gaussian))
    assert (isotropic.label, isotropic.y) == ("mean and standard deviation only", tuple(result.isotropic))
    assert (one.at, scale) == (1.0, Rule(1.6, "x"))
    first, second, zero, _ = drift_chart(result).panels[0].marks
    assert (first.label, second.label, zero.at) == ("channel 0", "channel 1", 0.0)
    assert second.y == (-0.02, -0.04, 0.01, 0.0)
    assert second.low == pytest.approx((-0.044, -0.06, -0.01, -0.02))
    assert second.high == pytest.approx((0.004, -0.02, 0.03, 0.02))
