"""Fractions of variance, whitening, references and rows, of inputs so small that every number is counted by hand."""

import math

import numpy as np
import pytest
import torch
from results_at_levels import curves, decided, hand_made, learned_by_hand, of_order, reading, skill, units
from scipy import stats

from diffuscope.audit import fit_references, repeats, rows_of, standard_names, whitening
from diffuscope.audit.level_measures import LevelMeasures
from diffuscope.audit.measure import Measure
from diffuscope.audit.questions import learned, order, steps, wiring
from diffuscope.audit.references import component_bands, principal_coordinates
from diffuscope.audit.remembered_features import RememberedFeatures
from diffuscope.audit.rows_of import RowsOf, nearest_rows
from diffuscope.audit.second_model import nearly_shared
from diffuscope.audit.skill import drift_chart, skill_finding
from diffuscope.audit.target_noise import nearest_distances
from diffuscope.audit.unexplained_variance import explained
from diffuscope.exact import Gaussian
from diffuscope.store import Store
from numbers_in_tests import rng, seeded

# what was learned


def level(norm, score_norm, gap, score_gap, dot, exact_norm, norm_bands, gap_bands, exact_error):
    """Four points with the same sums but for their errors, 1, 2, 3 and 4 against 10 of the mean."""
    each = {
        "norm": norm, "score_norm": score_norm, "gap": gap, "score_gap": score_gap, "dot": dot,
        "exact_norm": exact_norm, "norm_bands": norm_bands, "gap_bands": gap_bands, "exact_error": exact_error,
        "mean_error": 10.0,
    }  # fmt: skip
    sums = {
        f"{name}.{key}": np.repeat(np.array(value, dtype=float)[None], 4, 0)
        for name in ("training", "heldout", "trajectory")
        for key, value in each.items()
    }
    return sums | {"heldout.error": np.array([1.0, 2.0, 3.0, 4.0])}


def test_fractions_are_of_sums_and_the_larger_of_two_ranks_models():
    measures = LevelMeasures(
        ratios=np.array([8.0, 2.0, 0.5]), scale=1.6, dimension=2, models=("empirical", "Gaussian"),
        sums=[
            level(10, 2, [5, 0.5], [0.1, 0.02], [5, 3], [10, 2.5], [6, 4], [[3, 2], [0.3, 0.2]], [1, 9.51]),
            level(8, 3, [4, 0.4], [1.5, 0.6], [8, 2], [8, 2], [8, 0.95e-9 * 8], [[4, 1], [0.4, 1]], [1, 9.5]),
            level(4, 5, [1, 2], [0.5, 4], [2, 1], [4, 1], [4, 1.05e-9 * 4], [[1, 0], [2, 1.05e-9]], [1, 0.025]),
        ],
    )  # fmt: skip
    found = explained(measures, rng())
    expected = {
        "unexplained": [[0.5, 0.05], [0.5, 0.05], [0.25, 0.5]],
        "unexplained_per_sample": [[0.5, 0.05], [0.5, 0.05], [0.25, 0.5]],
        "unexplained_score": [[0.05, 0.01], [0.5, 0.2], [0.1, 0.8]],
        "cosine": [[0.5, 0.6], [1.0, 0.5], [0.5, 0.5]],
    }
    for name, value in expected.items():
        assert set(getattr(found, name)) == {"training", "heldout", "trajectory"}
        for curve in getattr(found, name).values():
            for part in (curve.value, curve.low, curve.high):
                assert part == pytest.approx(np.array(value))
    sharp = np.array([[0.5, 0.05], [0.5, 0.2], [0.25, 0.8]])
    for part in (found.sharp.value, found.sharp.low, found.sharp.high):
        assert part == pytest.approx(sharp)
    assert (found.best.tolist(), found.support.tolist()) == ([1, 1, 0], [1.0] * 3)
    # from 0.05 at 8 to 0.2 at 2, half of the way in logarithms is 0.1 at 4
    assert found.gaussian_range == pytest.approx(np.tile([4.0, 8.0], (len(found.gaussian_range), 1)))
    assert found.bands == ("1", "2")
    assert found.unexplained_bands[0] == pytest.approx(np.array([[0.5, 0.5], [0.05, 0.05]]))
    assert np.isnan(found.unexplained_bands[1, :, 1]).all()
    assert found.unexplained_bands[2, 1] == pytest.approx([0.5, 0.25])
    assert found.matter.tolist() == [False, True, True]
    width = float(stats.norm.isf(0.025 / 3) * np.std([0.1, 0.2, 0.3, 0.4]) / 2)
    assert found.of_mean == pytest.approx(np.tile([0.25, 0.25 - width, 0.25 + width], (3, 1)))
    assert found.points == 4


def test_fractions_are_drawn_from_a_hundred_thousandth_to_six():
    unexplained, _, by_set, *_ = learned.blocks(learned_by_hand())
    for panel in (*unexplained.panels, *by_set.panels):  # pyright: ignore[reportAttributeAccessIssue]
        assert (panel.y_range, panel.y_log) == ((1e-5, 6.0), True)


# steps and order


@pytest.mark.parametrize(
    ("estimates", "least"),
    [((0.5, 0.4, 0.3), 5e-5), ((0.5, 4e-5, 6e-5), 2e-5), ((0.0, 4e-5, 6e-5), 2e-5), ((0.5, 1e-7, 0.3), 1e-5)],
)
def test_the_figure_of_teleportation_begins_at_half_of_the_least_estimate(estimates, least):
    rows = np.tile([0.0, *estimates], (2, 1))
    assert steps.teleport_chart(hand_made(estimated=rows)).panels[0].y_range == (pytest.approx(least), 3.0)


@pytest.mark.parametrize(
    ("levels", "value", "opening", "order_of"),
    [
        ((2.0, 3.0, 1.0), 0.5, "Not outline first: its 3 ", "hardly in"),
        ((3.0, 2.0, 1.0), 1.0, "Outline first: its 3 ", "in"),
    ],
)
def test_a_rank_correlation_of_a_half_is_no_order(levels, value, opening, order_of):
    first = of_order(decided(*curves(levels)))["components"]
    assert first.value == pytest.approx(value)
    assert first.verdict.startswith(opening)
    assert f"are decided {order_of} the order of their variance" in first.verdict


def test_an_interval_on_both_sides_of_a_half_leaves_the_order_open():
    ratios, one = curves((3.0, 2.0, 1.0), n=10)
    other = curves((1.0, 2.0, 3.0), n=10)[1]
    first = of_order(decided(ratios, np.concatenate([one, 0.9 * other])))["components"]
    assert first.interval is not None
    low, high = first.interval
    assert low <= 0.5 < high
    assert first.verdict.startswith("Its 3 leading")


def test_the_figure_of_dimensions_ends_at_a_hundred_millionth():
    (panel,) = order.dimension_chart(decided(*curves())).panels
    assert (panel.y_range, panel.y_log) == ((1e-8, 1.0), True)
    plane = np.array([[0.9, 0.1, 0.0, 0.0]] * 2)
    own = order.dimension_chart(decided(*curves(), shares=plane)).panels[0].marks[0]
    assert own.y == pytest.approx((0.1, 1e-12, 1e-12), abs=1e-15)  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize(("skip", "rules"), [(99.0, 2), (100.0, 1)])
def test_a_jump_to_the_highest_level_is_none_and_has_no_line(skip, rules):
    ratios, squares = curves()
    result = decided(ratios, squares, skip=skip if skip < 100 else float(ratios[0]))
    marks = order.emergence_chart(result, rng()).panels[0].marks
    assert sum(type(mark).__name__ == "Rule" for mark in marks) == rules
    assert ("None of these" in of_order(result)["jump"].verdict) == (rules == 1)


# how a model is read


@pytest.mark.parametrize(
    ("changes", "tone"),
    [
        ({"p_value": 0.01}, "good"),
        ({"p_value": 0.0099}, "alarm"),
        ({"cost": 1.25}, "alarm"),
        ({"cost": 1.249}, "attention"),
        ({"cost": 1.051}, "attention"),
        ({"cost": 1.049}, "good"),
    ],
)
def test_other_units_cost_a_quarter_more_and_are_no_chance_of_a_percent(changes, tone):
    assert wiring.units_finding(units(**changes)).tone == tone


@pytest.mark.parametrize(
    ("cost", "tone"), [(1.26, "alarm"), (1.24, "attention"), (1.051, "attention"), (1.049, "good")]
)
def test_another_reading_is_a_doubt_from_a_twentieth_more_on(cost, tone):
    assert wiring.reading_finding(reading(cost)).tone == tone


def test_a_reading_explains_what_leaves_less_than_four_fifths_of_a_formula():
    for error, denoises in ((0.79, True), (0.81, False)):
        assert reading(best=np.full((2, 5), error)).denoises == denoises


def test_a_model_worse_than_a_formula_at_half_of_the_levels_is_hopeless():
    """Of four levels that matter two are half; one is not."""
    ratios = np.array([4.0, 2.0, 1.0, 0.5])
    isotropic = ratios**2 / (ratios**2 + 1.6**2)
    for worse, tone in (([True, True, False, False], "alarm"), ([True, False, False, False], "attention")):
        low = np.where(worse, 1.03, 0.9) * isotropic
        zeros = np.zeros((4, 1))
        made = skill(ratios=ratios, isotropic=isotropic, gaussian=isotropic, error=low, low=low, high=low,
                     drift=zeros, drift_error=zeros)  # fmt: skip
        assert skill_finding(made).tone == tone


def test_the_line_of_a_single_channel_has_no_name():
    zeros = np.zeros((4, 1))
    line = drift_chart(skill(drift=zeros, drift_error=zeros + 0.1)).panels[0].marks[0]
    assert (line.label, line.low, line.high) == ("", (-0.2,) * 4, (0.2,) * 4)  # pyright: ignore


# whitening and references

CROSS = torch.tensor([[2.0, 0.0], [-2.0, 0.0], [0.0, 1.0], [0.0, -1.0]])  # variances 8/3 and 2/3, of mean 5/3
SCALES = [(v + 0.001 * 5 / 3) ** -0.5 for v in (8 / 3, 2 / 3)]


@pytest.mark.parametrize("kept", [None, 2, 5])
def test_whitened_directions_have_their_variance_and_a_thousandth_of_the_mean(kept):
    found = whitening.whitening(CROSS, kept).abs()
    assert found == pytest.approx(torch.tensor([[0.0, SCALES[0]], [SCALES[1], 0.0]]), abs=1e-6)


@pytest.mark.parametrize("dense", [1, 2])
def test_the_leading_direction_is_the_same_from_two_passes(dense, monkeypatch):
    passes = []
    leading = whitening.leading_pairs

    def counted(*given, **options):
        passes.append(1)
        return leading(*given, **options)

    monkeypatch.setattr(whitening, "leading_pairs", counted)
    monkeypatch.setattr(whitening, "LARGEST_DENSE", dense)
    found = whitening.whitening(CROSS, 1).abs()
    assert found == pytest.approx(torch.tensor([[SCALES[0]], [0.0]]), abs=1e-5)
    assert len(passes) == (dense < 2)
    whitening.whitening(CROSS, 2)
    whitening.whitening(CROSS)
    assert len(passes) == (dense < 2)  # of all directions none is leading


def test_equal_examples_make_a_component_of_a_ten_thousandth_of_the_variance():
    train = torch.tensor([[0.0], [9.0]]).repeat(10, 1)
    mixture = fit_references(train, train, 2, seeded()).mixture
    assert mixture.eigenvalues.flatten().tolist() == pytest.approx([20.25e-4] * 2, rel=1e-4)


def test_components_are_in_octaves_and_have_coordinates_from_the_mean():
    assert component_bands(9).tolist() == [0, 1, 1, 2, 2, 2, 2, 3, 3]
    gaussian = Gaussian(torch.tensor([1.0, 2.0]), torch.eye(2).double(), torch.tensor([3.0, 1.0]).double())
    assert principal_coordinates(torch.tensor([[4.0, 7.0]]), gaussian).tolist() == [[3.0, 5.0]]


# rows


@pytest.mark.parametrize(("off", "share"), [(0.99, 1.0), (1.0, 0.0), (-0.99, 1.0)])
def test_examples_within_a_hundredth_of_the_distance_between_neighbors_are_shared(off, share):
    first = 100.0 * torch.arange(20)[:, None]
    assert nearly_shared(first, first + off, seeded()) == share
    assert nearly_shared(first, first[:8] + 50, seeded()) == 0.0


@pytest.mark.parametrize(
    ("bytes_at_once", "width", "made"),
    [(48, 1, True), (47, 1, True), (48, 2, True), (47, 2, False), (63, 4, False), (64, 4, True)],
)
def test_rows_are_made_at_once_where_they_fit_or_are_few_numbers(bytes_at_once, width, made, monkeypatch):
    """Four rows: of one or two numbers they take as much as events of three; an event of three is 4 < 3 of none."""
    monkeypatch.setattr(rows_of, "AT_ONCE", bytes_at_once)
    events = torch.arange(12.0).reshape(4, 3) if width > 1 else torch.arange(16.0).reshape(4, 4)
    found = rows_of.rows_of(events, lambda x: x.repeat(1, 2)[:, :width])
    assert isinstance(found, torch.Tensor) == made
    assert torch.cat(list(found.split(3))).tolist() == events.repeat(1, 2)[:, :width].tolist()


@pytest.mark.parametrize("bytes_at_once", [16, 15])
def test_rows_of_a_single_event_are_those_of_many(bytes_at_once, monkeypatch):
    monkeypatch.setattr(rows_of, "AT_ONCE", bytes_at_once)
    event = torch.arange(4.0)[None]
    assert rows_of.rows_of(event, lambda x: 3 * x[:, 1:2]).tolist() == [[3.0]]  # pyright: ignore


def test_neighbors_are_sought_in_parts_smaller_than_their_number(monkeypatch):
    monkeypatch.setattr(rows_of, "AT_ONCE", 8)  # two rows of one number
    events = torch.tensor([[5.0], [1.0], [7.0], [1.0], [9.0]])
    distance, index = nearest_rows(torch.tensor([[0.0]]), RowsOf(events, None, lambda x: x, 1), 3)
    assert (distance.tolist(), index.tolist()) == ([[1.0, 1.0, 5.0]], [[1, 3, 0]])


@pytest.mark.parametrize(("first", "blocks"), [(7, [12]), (8, [8, 5])])
def test_a_block_of_fewer_than_eight_rows_is_continued(first, blocks):
    remembered = RememberedFeatures(lambda x: 2 * x, "code", Store(None, {}))
    x = torch.arange(13.0)[:, None]
    assert torch.equal(remembered(x[:first]), 2 * x[:first])
    rows = x[first : first + 5]
    assert torch.equal(remembered(rows), 2 * rows)
    assert [len(block) for block in remembered.blocks] == blocks
    mixed = x[[0, first + 4, 3, first, 0]]
    assert torch.equal(remembered(mixed), 2 * mixed)


@pytest.mark.parametrize(("most", "complete"), [(8, True), (7, False)])
def test_near_repeats_are_counted_up_to_a_number_of_pairs(most, complete, monkeypatch):
    """Four rows within reach of each other are 16 = 2 * 8 ordered pairs with themselves."""
    monkeypatch.setattr(repeats, "MOST_PAIRS", most)
    found = repeats.repeats(torch.tensor([[0.0], [0.1], [0.2], [0.3]]), 1.0)
    assert (found.complete, found.count) == (complete, 3 if complete else 0)


@pytest.mark.parametrize("numbers", [1, 2, 5, 10**6])
def test_repeats_are_the_same_however_many_pairs_are_compared_at_once(numbers, monkeypatch):
    monkeypatch.setattr(repeats, "CHUNK", numbers)
    found = repeats.repeats(torch.tensor([[0.0], [5.0], [1.0], [6.0], [9.0], [7.0]]), 1.0)
    assert found.first.tolist() == [0, 1, 0, 1, 4, 3]
    assert repeats.repeats(torch.tensor([[0.0], [5.0]]), 1.0).first.tolist() == [0, 1]


def test_distances_are_to_another_training_example_and_from_others_to_any():
    train = torch.tensor([[0.0], [1.0], [4.0]])
    found = nearest_distances(train[:2] + 0.25, train, torch.tensor([[6.0]]), seeded())
    assert sorted(found["examples"].tolist()) == [1.0, 1.0, 3.0]
    assert found["heldout"].tolist() == [2.0]
    assert found["samples"].tolist() == [0.25, 0.25]


# measures of other tools

CALLED = ("distance_measures", "heldout_controls", "share_nearer_training", "adversarial_accuracy", "privacy_losses",
          "generalization_gap")  # fmt: skip
SINGLE = "share_nearer_training", "generalization_gap"


def sizes_of(samples, train, heldout, monkeypatch, **groups):
    """The numbers of rows that every measure is given."""
    sizes = {}
    for name in CALLED:

        def called(*given, name=name):
            sizes[name] = [len(rows) for rows in given if isinstance(rows, torch.Tensor)]
            return object.__new__(Measure) if name in SINGLE else []

        monkeypatch.setattr(standard_names, name, called)
    standard_names.standard_measures(samples, train, heldout, rng(), **groups)
    return sizes


def rows(n, start=0):
    return torch.arange(start, start + n).float()[:, None]


@pytest.mark.parametrize(("samples", "fresh"), [(30, 1000), (1050, 1050), (3000, 1100)])
def test_as_many_fresh_examples_as_samples_and_a_thousand_at_least_are_compared(samples, fresh, monkeypatch):
    found = sizes_of(rows(samples), rows(1200), rows(1100, 5000), monkeypatch)
    members = min(1200, fresh if samples < 1200 else 1200)
    assert found["distance_measures"] == [samples, 1200, fresh]
    assert found["heldout_controls"] == [samples, members, 1100]
    assert found["share_nearer_training"] == found["privacy_losses"] == [samples, 1200, 1100]
    assert found["adversarial_accuracy"] == [samples, members]
    assert found["generalization_gap"] == [samples, 1200, 1100]


def test_measures_need_two_different_rows_and_two_groups(monkeypatch):
    equal = torch.zeros(3, 1)
    assert set(sizes_of(rows(3), equal, rows(3), monkeypatch)) == {*CALLED} - {"distance_measures"}
    assert set(sizes_of(rows(3), rows(3), equal, monkeypatch)) == {*CALLED} - {"heldout_controls"}
    assert set(sizes_of(rows(3), rows(2), rows(2), monkeypatch)) == {*CALLED}
    for of_train, found in (([7, 7, 7], {"distance_measures", "heldout_controls", "share_nearer_training"}),
                            ([7, 7, 8], {*CALLED})):  # fmt: skip
        groups = {"train_groups": np.array(of_train), "heldout_groups": np.array([1, 2, 3])}
        assert set(sizes_of(rows(3), rows(3), rows(3), monkeypatch, **groups)) == found


def test_one_row_of_each_group_is_compared(monkeypatch):
    groups = {"train_groups": np.arange(40) // 4, "heldout_groups": 100 + np.arange(30) // 2}
    found = sizes_of(rows(5), rows(40), rows(30), monkeypatch, **groups)
    assert found["distance_measures"] == [5, 40, 15]
    assert found["heldout_controls"] == [5, 10, 30]
    assert math.isclose(found["adversarial_accuracy"][1], 10)
