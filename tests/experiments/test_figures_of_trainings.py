"""What figures of networks in training show and what is claimed of them, for curves that are made up."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from answering import planted

from chart_reading import lines_of, marks_of
from diffuscope.exact import Gaussian
from diffuscope.experiments import Part, learning_curve, target_variance
from diffuscope.experiments import memorization_transition as transition
from diffuscope.experiments.learning_curve.made_denoisers import detect
from diffuscope.experiments.learning_curve.residuals import Curves, squares, standard_deviation
from diffuscope.experiments.memorization_transition import gaps
from diffuscope.experiments.memorization_transition.gaps import LEVELS, Gaps
from diffuscope.experiments.neural_vs_analytic import claim_turning, figures
from diffuscope.experiments.neural_vs_analytic.measures import Compared
from diffuscope.experiments.target_variance.networks import Dialed
from diffuscope.experiments.target_variance.targets import DIAL
from diffuscope.findings import Area, Cells, Line, Points, Repeated, Rule, TurningPoint
from numbers_in_tests import double

DOUBLE = torch.float64


# learning curves


def turned(**changes) -> TurningPoint:
    known = {
        "step": 20.0, "kept": (20.0,), "interval": (10.0, 40.0), "least": 0.5, "last": 0.75, "p_fall": 0.002,
        "p_rise": 0.003, "detectable_rise": 0.1, "significance": 0.01,
    }  # fmt: skip
    return TurningPoint(**(known | changes))


def curves(ratio: float = 0.5) -> Curves:
    """Four points: the mixture is 0.2 farther than the Gaussian at the first step and 0.4 nearer in the end."""
    spread = np.array([-0.1, 0.1, -0.1, 0.1])[:, None]
    gaussian = np.array([[3.0, 1.0, 2.0]]) + 0 * spread
    mixture = gaussian + np.array([[0.2, 0.0, -0.4]]) + spread * np.array([[1.0, 0.0, 2.0]])
    return Curves(ratio, (1, 20, 300), {"Gaussian": gaussian, "mixture": mixture}, gaussian)


def test_a_lead_is_the_mean_difference_in_its_standard_errors():
    error = 0.1 * math.sqrt(4 / 3) / 2
    assert curves().lead("Gaussian", "mixture", 1) == pytest.approx(0.2 / error)
    assert curves().lead("mixture", "Gaussian", 300.0) == pytest.approx(0.4 / (2 * error))


def test_a_residual_is_shown_with_its_least_and_where_it_turns_with_its_interval():
    line = Line((1.0, 2.0), (3.0, 4.0))
    panel = learning_curve.residual_panel("t", "x", [line], turned(), (0.03, 12.0), (1.0, 300.0))
    shown, least, area = panel.marks
    assert shown is line
    assert isinstance(least, Points)
    assert isinstance(area, Area)
    assert (least.x, least.y) == ((20.0,), (0.5,))
    assert (area.x, area.low, area.high) == ((10.0, 40.0), (0.03, 0.03), (12.0, 12.0))
    assert (panel.x_label, panel.x_log, panel.y_log) == ("x", True, True)
    assert (panel.x_range, panel.y_range) == ((1.0, 300.0), (0.03, 12.0))
    for unseen in ({"p_rise": 0.011}, {"p_fall": 0.011}):
        assert len(learning_curve.residual_panel("t", "x", [line], turned(**unseen), (0.03, 12.0)).marks) == 2
    assert turned(p_rise=0.01, p_fall=0.01).found


def test_small_multiples_are_a_panel_for_each_noise_with_the_mean_of_every_model():
    panels = learning_curve.small_multiples(
        [curves(0.5), curves(2.0)], [turned(), turned(step=1.0)], "steps", (1.0, 300.0), (0.1, 9.0)
    )
    assert [panel.title for panel in panels] == ["noise 0.5", "noise 2"]
    for panel in panels:
        lines = lines_of(panel)
        assert lines["Gaussian"].x == (1.0, 20.0, 300.0)
        assert lines["Gaussian"].y == lines["Gaussian"].low == lines["Gaussian"].high == (3.0, 1.0, 2.0)
        assert lines["mixture"].y == pytest.approx((3.2, 1.0, 1.6))
        assert lines["mixture"].low[0] < 3.2 < lines["mixture"].high[0]
        assert (panel.x_range, panel.y_range) == ((1.0, 300.0), (0.1, 9.0))


@pytest.mark.parametrize(
    ("name", "noises"), [("digits", learning_curve.DIGITS_NOISE), ("mnist", learning_curve.MNIST_NOISE)]
)
def test_linear_first_is_claimed_at_a_level_for_all_noises_by_the_larger_p_value(name, noises):
    part = Part("learning-curve", name, "s", 1)
    turn = turned(p_fall=0.004)
    learning_curve.claim_linear_first(part, "Data", "step", curves(), turn, 1)
    turns, first, later = part.claims
    assert (turns.name, turns.value) == (f"{name}-middle", 0.004)
    assert turns.required == pytest.approx(0.01 / len(noises))
    assert "least at step 20 (10 to 40) and 50% higher in the end" in turns.title
    assert "a rise of 20% would have been found" in turns.because
    assert "step 1: by how much the Gaussian is closer" in first.title
    assert "step 300, the end" in later.title
    error = 0.1 * math.sqrt(4 / 3) / 2
    assert (first.value, later.value) == pytest.approx((0.2 / error, 0.2 / error))
    assert first.required == later.required == learning_curve.STANDARD_ERRORS


def test_the_larger_p_value_may_be_that_of_either():
    for changes in ({"p_fall": 0.2}, {"p_rise": 0.2}):
        part = Part("learning-curve", "digits", "s", 1)
        learning_curve.claim_linear_first(part, "Data", "step", curves(), turned(**changes), 1)
        assert part.claims[0].value == 0.2


def test_verdicts_name_their_noise():
    text = learning_curve.verdicts([curves(0.5), curves(2.0)], [turned(), turned(step=7.0)])
    one, other = text.split("; noise 2: ")
    assert one == f"noise 0.5: {turned().verdict}"
    assert other == turned(step=7.0).verdict


def test_known_curves_are_detected_from_so_many_points_each_time():
    """All points of the pool are one curve, with a little noise: every draw turns at its least step."""
    steps = learning_curve.MADE_STEPS
    curve = (np.log(steps / steps[len(steps) // 2])) ** 2 + 1
    pool = curve + 1e-3 * np.random.default_rng(0).normal(size=(50, len(steps)))
    found = detect(pool, np.random.default_rng(1), 3)
    assert [turn.step for turn in found] == [steps[len(steps) // 2]] * 3
    assert len({turn.least for turn in found}) == 3
    assert {turn.significance for turn in found} == {learning_curve.LEVEL}


def test_a_deviation_is_of_the_mean_variance_of_coordinates_and_a_square_of_a_whole_event():
    data = double((1, 5), (3, 5), (1, 9), (3, 9))  # variances 1 and 4
    assert standard_deviation(data) == pytest.approx(math.sqrt(2.5))
    assert squares(double(((1, 2), (3, 4)), ((0, 0), (0, 5)))).tolist() == [30, 25]


# a network and analytic denoisers


def compared() -> Compared:
    """Two candidates at three levels, with residuals that grow by candidate, level and place."""
    names, found = ("mean", "Gaussian"), {}
    for p, places in enumerate(figures.SETS):
        found[places] = [
            SimpleNamespace(
                per_sample=lambda of, k=k, p=p: (
                    double((1, 2), (3, 4)) * (1 + k) + 10 * p + (100 if of == "score" else 0)
                ),
                pooled=lambda of, k=k, p=p: double(5, 6) * (1 + k) + 10 * p + (100 if of == "score" else 0),
                by_band=double((0.1, 0.2), (0.3 + k, 0.4 - k / 10)),
                cosine=double(0.2, 0.9 - k / 10),
            )
            for k in range(3)
        ]
    made = object.__new__(Compared)
    levels = double(2.0, 1.0, 0.5)
    gaps_ = SimpleNamespace(
        ratios=double(8, 4, 2, 1) * 2,
        state_quartiles=lambda name: double((0, 4, 8, 12), (0, 8, 12, 16), (0, 12, 16, 20)) * len(name),
        denoised_quartiles=lambda name: double((0, 5, 9, 13), (0, 9, 13, 17), (0, 13, 17, 21)) * len(name),
    )
    gaussian = Gaussian(double(0, 0), torch.eye(2, dtype=DOUBLE), double(16, 4))
    values = {"candidates": names, "gaussian": gaussian, "unit": 2.0, "times": levels, "levels": levels, "found": found,
              "gaps": gaps_}  # fmt: skip
    for name, value in values.items():
        object.__setattr__(made, name, value)
    return made


def test_fractions_are_means_over_samples_by_level_candidate_and_places():
    result = compared()
    assert result.fraction("Gaussian", "centered").tolist() == [3, 6, 9]  # held out: the first set
    assert result.fraction("mean", "centered", "training").tolist() == [12, 14, 16]
    assert result.fraction("mean", "score").tolist() == [102, 104, 106]
    assert [result.nearest(level) for level in (9.0, 1.1, 0.75, 0.7, 0.1)] == [0, 1, 1, 2, 2]


def test_charts_by_noise_show_fractions_bands_and_cosines():
    by_quantity, by_set, bands, cosine = figures.noise_charts("Digits", compared())
    assert [panel.title for panel in by_quantity.panels] == ["score", "D - μ"]
    assert [panel.title for panel in by_set.panels] == [f"{places} points" for places in figures.SETS]
    score = lines_of(by_quantity.panels[0])
    assert score["Gaussian"].x == (2.0, 1.0, 0.5)
    assert score["Gaussian"].y == (103, 106, 109)
    assert score["Gaussian, pooled"].y == (106, 112, 118)
    assert lines_of(by_set.panels[1])["mean"].y == (12, 14, 16)
    assert [rule.at for rule in marks_of(by_quantity.panels[0], Rule)] == pytest.approx((2.0, math.sqrt(10) / 2))
    (matrix,) = marks_of(bands.panels[0], Cells)
    assert matrix.columns == ("2", "1", "0.5")
    assert matrix.values == (pytest.approx((0.3, 1.0, 1.0)), pytest.approx((0.4, 0.3, 0.2)))
    assert [*lines_of(cosine.panels[0])] == ["Gaussian"]
    assert lines_of(cosine.panels[0])["Gaussian"].y == pytest.approx((0.9, 0.8, 0.7))


def test_trajectories_are_shown_after_their_common_start_in_units_of_the_data():
    states, outputs = figures.trajectory_chart("t", compared(), ["mean"]).panels
    for panel, more in ((states, 0), (outputs, 1)):
        line = lines_of(panel)["mean"]
        assert line.x == (4.0, 2.0, 1.0)
        assert line.low == tuple(4.0 + more + 4 * k for k in range(3))  # four letters over the unit's square
        assert line.y == tuple(8.0 + more + 4 * k for k in range(3))
        assert line.high == tuple(12.0 + more + 4 * k for k in range(3))


def test_residuals_along_training_are_means_over_points_of_all_but_the_mean():
    residuals = {
        2.0: {"Gaussian": double((1, 2), (3, 6)), "mean": double((1, 1), (1, 1))},
        0.5: {"mixture": double((4, 5), (6, 7))},
    }
    high, low = figures.training_chart("t", residuals, (10, 100), "step").panels
    assert (high.title, low.title, high.x_label) == ("σ = 2", "σ = 0.5", "step")
    assert {name: (line.x, line.y) for name, line in lines_of(high).items()} == {"Gaussian": ((10, 100), (2, 4))}
    assert lines_of(low)["mixture"].y == (5, 6)


def test_a_turn_is_claimed_by_the_larger_of_two_p_values():
    part = Part("neural-vs-analytic", "training", "s", 1)
    for p_fall, p_rise in ((0.2, 0.1), (0.1, 0.3)):
        known = turned(p_fall=p_fall, p_rise=p_rise)
        with planted("diffuscope.experiments.neural_vs_analytic.turning_point", lambda *_, known=known, **__: known):
            claim_turning(part, "Digits", 0.5, double((1, 2, 3)), (1, 2, 3), "step")
    assert [claim.value for claim in part.claims] == [0.2, 0.3]
    assert "least at step 20 (10 to 40), 50% higher in the end" in part.claims[0].title
    assert "a rise of 20% would" in part.claims[0].because


# memorization


def made_gaps(sets: int = 3, sizes: int = 4) -> Gaps:
    """Losses of one floor more for every size, and a tenth of it for the memorizer's training loss."""
    shape = (sets, sizes, len(LEVELS))
    floor = LEVELS.square() / 2
    more = torch.arange(sizes, dtype=DOUBLE)[:, None] * floor
    train = torch.zeros(shape, dtype=DOUBLE) + floor
    marker = double(0.1, 0.2, 0.4, 0.8)[:sizes].expand(sets, -1)
    return Gaps(train, train + more, train / 10, train + 2 * more, floor, marker)


def test_gaps_are_held_out_less_training_loss_in_floors():
    made = made_gaps()
    for k in range(4):
        torch.testing.assert_close(made.network[:, k], torch.full((3, len(LEVELS)), float(k), dtype=DOUBLE))
        torch.testing.assert_close(made.memorizer[:, k], torch.full((3, len(LEVELS)), 0.9 + 2 * k, dtype=DOUBLE))


def test_losses_are_shown_over_the_square_of_the_noise_at_three_sizes():
    part = Part("memorization-transition", "losses", "s", 1)
    transition._show_losses(part, (8, 16, 32, 64), made_gaps())
    for panel, k in zip(part.charts[0].panels, (0, 2, 3), strict=True):
        assert panel.title == f"n = {8 * 2**k}"
        heldout, train, recalled, of_train, floor = marks_of(panel, Line)
        for line, height in (
            (heldout, (1 + k) / 2),
            (train, 0.5),
            (recalled, (1 + 2 * k) / 2),
            (of_train, 0.05),
            (floor, 0.5),
        ):
            assert line.x == pytest.approx(LEVELS.tolist())
            assert line.y == pytest.approx([height] * len(LEVELS))


def test_gaps_are_shown_over_the_marker_where_they_are_more_than_noise():
    part = Part("memorization-transition", "losses", "s", 1)
    transition._show_gaps(part, (8, 128, 256, 512), made_gaps())
    exact, network = (lines_of(panel) for panel in part.charts[0].panels)
    assert [*exact] == ["n = 8", "n = 256"]
    assert [*network] == ["n = 256"]  # no gap at n = 8
    assert exact["n = 8"].x == pytest.approx((LEVELS / 0.1).tolist())
    assert exact["n = 256"].y == pytest.approx([4.9] * len(LEVELS))
    assert network["n = 256"].x == pytest.approx((LEVELS / 0.4).tolist())
    for panel in part.charts[0].panels:
        assert [rule.at for rule in marks_of(panel, Rule)] == [1.0]


def test_what_is_at_the_bound_of_noise_is_not_shown_and_a_single_level_is_no_curve():
    nothing, heldout = torch.zeros(3, 4, len(LEVELS), dtype=DOUBLE), torch.full((3, 4, len(LEVELS)), 0.02, dtype=DOUBLE)
    heldout[:, 2, 0] = heldout[:, 3, :2] = 1
    floor, marker = torch.ones(len(LEVELS), dtype=DOUBLE), torch.ones(3, 4, dtype=DOUBLE)
    part = Part("memorization-transition", "losses", "s", 1)
    transition._show_gaps(part, (8, 16, 32, 64), Gaps(nothing, heldout, nothing, heldout, floor, marker))
    for panel in part.charts[0].panels:
        assert {name: line.y for name, line in lines_of(panel).items()} == {"n = 64": (1, 1)}


def test_two_sets_of_samples_agree_or_not_by_their_distance_at_the_nearest_examples():
    examples = double((0, 0), (10, 0))
    assert float(transition._nearest(double((1, 0), (8, 0), (10, 5)), examples)) == 2


def test_gaps_open_at_the_last_level_of_one(monkeypatch):
    monkeypatch.setattr(gaps, "LEVELS", double(1, 2, 4, 8))
    assert float(gaps.opening(double(5, 0.5, 4, 0.25))) == pytest.approx(4 * math.sqrt(2))


# the dial of a target


def dialed() -> Dialed:
    """Two looks, four sets: by M the k-th network has k more copies, and errors that fall and rise with k."""
    k, sets = torch.arange(len(DIAL), dtype=DOUBLE), torch.arange(4, dtype=DOUBLE)[:, None]
    copied = 0.1 * k + 0.001 * sets * (1 + k)
    train = torch.stack([5 - 0.5 * k + 0.01 * sets * (1 + k), 3 - 0.5 * k + 0.01 * sets * (1 + k)])
    heldout = torch.stack([2 + 0.1 * k + 0.01 * sets * (1 + k), 1 + 0.3 * k + 0.01 * sets * (1 + k)])
    return Dialed(copied, train, heldout)


def test_a_dial_is_claimed_set_by_set_and_shown_over_one_over_m(monkeypatch):
    known = dialed()
    monkeypatch.setattr(target_variance, "dialed", lambda _: known)
    monkeypatch.setattr(target_variance, "chance", lambda _, n: double(n, 0.25))
    part = Part("target-variance", "generalization", "s", 1)
    text = target_variance.generalization(part)
    claims = {claim.name: claim for claim in part.claims}
    last = len(DIAL) - 1
    for name, values, sign in (
        ("learned", known.train[-1], -1),
        ("unseen", known.heldout[-1], 1),
        ("copies", known.copied, 1),
    ):
        mean = Repeated.of(sign * (values[:, last] - values[:, 0]))
        assert (claims[name].value, claims[name].required) == pytest.approx((mean.significance, mean.seen))
    inverse = torch.tensor([1 / M for M in DIAL], dtype=DOUBLE)
    slopes = [float(np.polyfit(inverse.numpy(), rows.numpy(), 1)[0]) for rows in known.heldout[-1]]
    slope = Repeated.of(double(*slopes))
    assert (claims["dial"].value, claims["dial"].required) == pytest.approx((slope.significance, -slope.seen))
    copies, heldout, train = part.charts[0].panels
    for panel, values in ((copies, known.copied), (heldout, known.heldout[-1]), (train, known.train[-1])):
        (line,) = marks_of(panel, Line)
        error = values.std(0) / 2
        assert line.x == pytest.approx(inverse.tolist())
        assert line.y == pytest.approx(values.mean(0).tolist(), rel=1e-6)
        assert line.low == pytest.approx((values.mean(0) - error).tolist(), rel=1e-6)
        assert line.high == pytest.approx((values.mean(0) + error).tolist(), rel=1e-6)
    assert [[rule.at for rule in marks_of(panel, Rule)] for panel in part.charts[0].panels] == [[0.25], [], []]
    paths = marks_of(part.charts[1].panels[0], Line)
    for line, k in zip(paths, (0, 2, last), strict=True):
        assert line.x == pytest.approx(known.train[:, :, k].mean(1).tolist())
        assert line.y == pytest.approx(known.heldout[:, :, k].mean(1).tolist())
    assert paths[-1].label == "M = ∞"
    fell = 1 - float(known.heldout[-1][:, 0].mean() / known.heldout[-1][:, last].mean())
    assert f"falls by {fell:.0%}" in text
    assert f"from {float(known.copied[:, last].mean()):.1%} to {float(known.copied[:, 0].mean()):.1%}" in text


def test_a_variance_of_gradients_is_a_line_through_its_exact_ends(monkeypatch):
    """a = 2, b = 4, and what is measured at M is a + b / M exactly: the deviation is zero."""
    from diffuscope.experiments.target_variance.gradients import Gradients

    monkeypatch.setattr(target_variance, "FINITE", (1, 2, 8))
    sample = double(-1, 0, 1)
    squares_ = torch.stack([sample + 5, *(sample * k + 5 + 4 / M for k, M in enumerate((1, 2, 8)))])
    influence = torch.stack([sample * (k + 2) for k in range(4)])
    found = Gradients(squares_, influence, double(3, 3, 3, 3 - 0.5), 4 + 0 * sample)
    monkeypatch.setattr(target_variance, "sample_gradients", lambda _: found)
    part = Part("target-variance", "gradient", "s", 1)
    text = target_variance.gradient(part)
    off = influence[3] - influence[0]  # at M = 8, where the mean gradient is shorter than it should be
    assert part.claims[0].value == pytest.approx(0.5 / (float(off.std()) / math.sqrt(3)))
    panel = part.charts[0].panels[0]
    (dots,), (line,), (rule,) = marks_of(panel, Points), marks_of(panel, Line), marks_of(panel, Rule)
    assert (dots.x, dots.y) == ((1.0, 0.5, 0.125), (6.0, 4.0, 3.0))
    assert (line.x, line.y, rule.at) == ((0.0, 1.0), (2.0, 6.0), 2.0)
    assert "67% of the gradient's variance at M = 1 and 20% at M = 8" in text
