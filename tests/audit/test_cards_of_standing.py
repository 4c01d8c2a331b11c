"""Cards, charts and tables on where a model stands and on the noise of its target, of results made by hand."""

# every block is of the kind that its card shows
# pyright: reportAttributeAccessIssue=false, reportOptionalMemberAccess=false

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from made_by_hand import by_name, finding
from results_at_levels import position, target

from chart_reading import marks_of
from diffuscope.audit.questions import generalizes
from diffuscope.audit.standing_charts import standing_chart, standing_table, target_chart
from diffuscope.findings import Bars, Rule, detectable_shift
from numbers_in_tests import rng

# where it stands


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
    assert [bar.label for bar in marks_of(ends, Bars)] == [
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
    told = finding(tone="alarm", verdict="So.")
    assert standing(outlook(), told)["position"].verdict.endswith("It has memorized: “So.”")


def test_each_parameter_is_counted_once():
    shared = torch.nn.Linear(3, 2)  # 6 + 2
    assert generalizes.parameters_of(torch.nn.Sequential(shared, torch.nn.Linear(2, 1, bias=False), shared)) == 10
    assert generalizes.parameters_of(object()) is None
