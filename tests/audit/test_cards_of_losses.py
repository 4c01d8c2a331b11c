"""The numbers of the cards, charts and tables on losses and on what was learned, of results made by hand."""

# every block is of the kind that its card shows
# pyright: reportAttributeAccessIssue=false, reportOptionalMemberAccess=false

import numpy as np
import pytest
from made_by_hand import by_name
from results_at_levels import RATIOS, curve, learned_by_hand, split

from diffuscope.audit.level_charts import Curve, noise_panel
from diffuscope.audit.questions import learned, loss
from diffuscope.audit.unexplained_variance import best_ranges
from diffuscope.findings import Area, Cells, Line, Rule
from numbers_in_tests import rng

# where the loss comes from


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


def near_the_best(excess, copying=False, held=1.02):
    """The card where a lookup has `held` times its training loss on held-out data."""
    result = split(excess=excess)
    result.value["heldout"]["memorizer"] = held * result.value["training"]["memorizer"]
    return loss.findings(result, copying=copying)[0]


@pytest.mark.parametrize(
    ("excess", "tone"),
    [((0.997, 0.993, 0.9999), "neutral"), ((0.997, 0.993, 1.004), "neutral"), ((0.98, 0.94, 0.99), "neutral"),
     ((0.947, 0.936, 0.96), "attention"), ((0.98, 0.94, 1.01), "unknown"), ((1.03, 0.99, 1.07), "unknown"),
     ((1.03, 1.02, 1.04), "good")],
)  # fmt: skip
def test_where_a_lookup_is_near_the_best_that_can_be_a_model_that_is_about_as_good_has_no_fault(excess, tone):
    """With many examples in the plane a lookup's loss on held-out data is about that on its own."""
    found = near_the_best(excess)
    assert found.tone == tone
    assert ("about the same" in found.verdict) == (tone == "neutral")


def test_no_better_than_a_lookup_is_a_fault_where_a_lookup_is_bad_or_samples_are_copies():
    alike = (0.997, 0.993, 0.9999)
    assert near_the_best(alike, held=1.05).tone == "neutral"
    assert near_the_best(alike, held=1.051).tone == near_the_best(alike, copying=True).tone == "attention"


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
