"""Tables and curves of analytic denoisers, and their choices, of measures that are made up."""

import pytest
import torch

from chart_reading import lines_of, marks_of
from diffuscope.denoisers import ExactDenoiser
from diffuscope.exact import Gaussian
from diffuscope.experiments import Part
from diffuscope.experiments.analytic_denoisers import (
    AsImages,
    bar,
    claim_bar,
    median,
    order,
    ranking,
    shown,
)
from diffuscope.experiments.analytic_denoisers.figures import level_charts, shortcut_chart, table_charts
from diffuscope.experiments.analytic_denoisers.methods import SHORTCUTS
from diffuscope.experiments.analytic_denoisers.protocol import (
    Measured,
    Method,
    Point,
    Subject,
    agreement,
    compared,
    difference,
)
from diffuscope.findings import Intervals
from diffuscope.schedules import VE
from numbers_in_tests import rng

DOUBLE = torch.float64
SCHEDULE = VE(0.01, 40.0)
NAMES: tuple[str, ...] = (
    "mean", "Wiener", "empirical", "smoothed", "local", "boundary", "equivariant", "composition", "PCA-local",
    "empirical, nearest", "empirical, per batch", "local, per batch", "PCA-local, per batch",
)  # fmt: skip


def constant(value: float) -> ExactDenoiser:
    """What answers every image by this value."""
    return ExactDenoiser(Gaussian.isotropic(torch.full((4,), value, dtype=DOUBLE), 0.0), SCHEDULE)


def point(level: float, answer: torch.Tensor) -> Point:
    return Point(level, torch.tensor(level, dtype=DOUBLE), answer, answer)


def a_subject(levels=(0.5, 2.0), train=None, answer=None, unit: float = 1.0) -> Subject:
    train = torch.zeros(2, 4, dtype=DOUBLE) if train is None else train
    answer = torch.tensor([[1.0, -1.0, 1.0, -1.0]] * 3, dtype=DOUBLE) if answer is None else answer
    at = [point(level, answer) for level in levels]
    return Subject("Pairs", constant(0.0), train, unit, at, at)


def measured(r2, error=None, cosine=None, seconds=(1.0, 3.0), images: int = 3, choices=(0, 0)) -> Measured:
    """Of the same values at every image, so that intervals have no width."""
    rows = (r2, error or r2, cosine or r2)
    r2, error, cosine = (torch.tensor(each, dtype=DOUBLE)[:, None].expand(-1, images) for each in rows)
    times = torch.tensor(seconds[: len(r2)], dtype=DOUBLE)
    return Measured(Method("m", lambda *_: constant(0.0)), choices[: len(r2)], error, r2, cosine, times)


def all_measured():
    """Method k has r2 = k / 20 at the first level and 1/10 more at the second, a third of it as error, and so on."""
    rows = {}
    for k, name in enumerate(NAMES):
        r2 = (k / 20, k / 20 + 0.1)
        images = 2 if name in ("boundary", "equivariant") else 3
        rows[name] = measured(
            r2, tuple(x / 3 + 1 for x in r2), tuple(1 - x for x in r2), (k + 1, k + 4), images, (3 + k, 5 + k)
        )
    return rows


def test_tables_have_the_mean_error_the_median_r2_and_the_seconds_from_least_to_most():
    found = {"a": measured((0.2, 0.6), (3.0, 5.0), seconds=(1.0, 4.0)), "b": measured((-0.5, 0.1), (1.0, 1.5))}
    quality, time = table_charts(a_subject(), found, rng())
    (errors,), (medians,), (seconds,) = (marks_of(panel, Intervals) for panel in (*quality.panels, *time.panels))
    assert errors.names == medians.names == seconds.names == ("a", "b")
    for shown_, values in ((errors, (4.0, 1.25)), (medians, (0.4, -0.2))):
        for column in (shown_.values, shown_.low, shown_.high):
            assert column == pytest.approx(values)
    assert (seconds.values, seconds.low, seconds.high) == ((2.5, 2.0), (1.0, 1.0), (4.0, 3.0))
    assert quality.panels[1].x_range == pytest.approx((-0.2, 1.02))
    assert time.panels[0].x_log
    assert "3 held-out images and 2 noise levels" in quality.how_to_read
    positive, _ = table_charts(a_subject(), {"a": found["a"]}, rng())
    assert positive.panels[1].x_range == (0.0, 1.02)


def test_the_images_of_equivariant_scores_are_counted_apart():
    quality, _ = table_charts(a_subject(), all_measured(), rng())
    assert "at 3 (2 for the equivariant scores) held-out images" in quality.how_to_read


def test_levels_show_methods_that_answer_from_the_same_place_and_then_those_that_shift():
    found = all_measured()
    same, other = level_charts(a_subject(), found, rng())
    assert [panel.title for panel in same.panels] == ["median r²", "MSE", "cosine of D - μ"]
    assert [*lines_of(same.panels[0])] == ["Wiener", "empirical", "smoothed", "local", "composition", "PCA-local"]
    assert [*lines_of(other.panels[0])] == ["local", "boundary", "equivariant"]
    for chart in (same, other):
        for panel, column in zip(chart.panels, ("r2", "error", "cosine"), strict=True):
            assert panel.x_log
            for name, line in lines_of(panel).items():
                values = pytest.approx(tuple(getattr(found[name], column)[:, 0].tolist()))
                assert line.x == (0.5, 2.0)
                assert line.y == line.low == line.high == values
    assert [(panel.y_log, panel.y_range) for panel in same.panels] == [
        (False, (-0.1, 1.03)), (True, None), (False, (-0.03, 1.03)),
    ]  # fmt: skip


def test_levels_show_the_median_of_r2_and_the_mean_of_errors_and_cosines():
    each = torch.tensor([[0.0, 0.1, 0.8]] * 2, dtype=DOUBLE)
    at = Measured(Method("m", lambda *_: constant(0.0)), (0, 0), each, each, each, torch.ones(2))
    found = dict.fromkeys(NAMES, at)
    same, _ = level_charts(a_subject(), found, rng())
    heights = [lines_of(panel)["local"].y for panel in same.panels]
    assert heights == [(0.1, 0.1), pytest.approx((0.3, 0.3)), pytest.approx((0.3, 0.3))]


def test_shortcuts_stand_beside_what_they_cut_short():
    chart = shortcut_chart(a_subject(), all_measured(), rng())
    assert [(panel.title, *lines_of(panel)) for panel in chart.panels] == [
        ("empirical", "empirical", "empirical, nearest", "empirical, per batch"),
        ("local", "local", "local, per batch"),
        ("PCA-local", "PCA-local", "PCA-local, per batch"),
    ]
    assert {panel.y_range for panel in chart.panels} == {(-0.5, 1.03)}
    assert lines_of(chart.panels[1])["local, per batch"].y == pytest.approx((11 / 20, 13 / 20))


def test_what_is_said_of_a_network_is_ordered_by_exact_r2():
    part = Part("analytic-denoisers", "digits", "s", 1)
    text = shown(part, a_subject(), all_measured())
    assert len(part.charts) == 5
    assert text.startswith("Pairs, median r²: PCA-local 0.450 [0.450, 0.450], composition 0.400 [0.400, 0.400], ")
    assert "Wiener 0.100 [0.100, 0.100], mean 0.050 [0.050, 0.050]. Local patches of 7, 9 pixels." in text
    assert not any(name in text.partition("Local patches")[0] for name in SHORTCUTS)
    assert "exactly PCA-local > local > empirical > Wiener" in text
    assert "with shortcuts PCA-local > local > empirical > Wiener" not in text  # it is the same
    assert "the same with shortcuts" in text


def test_an_order_that_shortcuts_change_is_told_with_both():
    found = all_measured() | {"empirical, nearest": measured((0.99, 0.99))}
    text = ranking(Part("analytic-denoisers", "digits", "s", 1), found)
    assert "exactly PCA-local > local > empirical > Wiener" in text
    assert "with shortcuts empirical > PCA-local > local > Wiener" in text


def test_a_median_of_several_levels_ranks_by_all_values():
    low, high = measured((0.1, 0.2)), measured((0.1, 0.6))
    assert (median(low), median(high)) == pytest.approx((0.15, 0.35))
    assert order({"low": low, "high": high}, rng()) == "high > low"
    assert difference(high, low, rng()) == pytest.approx((0.2, 0.2, 0.2))


def test_paired_differences_are_at_the_images_that_both_have():
    r2 = torch.tensor([[0.1, 0.1, 0.9, 0.9]], dtype=DOUBLE)
    both = [replaced(measured((0.0,)), r2[:, :n] + more) for n, more in ((4, 0.2), (2, 0.0))]
    assert difference(both[0], both[1], rng()) == pytest.approx((0.2, 0.2, 0.2))
    assert difference(both[1], both[0], rng()) == pytest.approx((-0.2, -0.2, -0.2))


def replaced(at: Measured, r2: torch.Tensor) -> Measured:
    return Measured(at.method, at.choices, r2, r2, r2, at.seconds)


def test_the_bar_is_the_best_local_method_and_is_claimed_of_the_network_closest_to_one():
    found = {"local": measured((0.1,)), "composition": measured((0.7,)), "PCA-local": measured((0.3,)),
             "empirical": measured((0.9,))}  # fmt: skip
    assert bar(found) == pytest.approx(0.7)
    part = Part("analytic-denoisers", "published-networks", "s", 1)
    claim_bar(part, {"one": 0.95, "two": 0.9}, {"one": 0.2, "two": 0.6})
    closest, least = part.claims
    assert (closest.name, closest.value, closest.required) == ("mnist-local", 0.95, 0.94)
    assert "(one)" in closest.title
    assert (least.name, least.required) == ("mnist-generalizes", 0.0)
    assert least.value == pytest.approx(0.3)


def test_errors_count_in_units_of_the_range_and_only_the_first_images_are_compared():
    answer = torch.tensor([[1.0, -1.0, 1.0, -1.0], [3.0, 3.0, -3.0, -3.0], [0.0, 1.0, 0.0, 1.0]], dtype=DOUBLE)
    of = a_subject(train=torch.tensor([[0.0] * 4, [1.0] * 4], dtype=DOUBLE), answer=answer, unit=2.0)
    other = answer[:2] + torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 2.0, 2.0]], dtype=DOUBLE)
    error, r2, cosine = agreement(of, of.reported_at[0], other)
    assert error.tolist() == [1 / 4 / 4, 8 / 4 / 4]
    assert r2.tolist() == [1 - 1 / 4, pytest.approx(1 - 8 / 36)]
    for k in range(2):
        expected = torch.nn.functional.cosine_similarity(answer[k] - 0.5, other[k] - 0.5, dim=0)
        assert float(cosine[k]) == pytest.approx(float(expected))
    exactly = torch.full((1, 4), 0.5, dtype=DOUBLE)
    nearly = exactly * (1 + 1e-6)  # a rounding of float32 off the mean
    for flat in (exactly, nearly):
        assert agreement(of, of.reported_at[0], flat)[2].tolist() == [0.0]
    assert float(agreement(of, of.reported_at[0], exactly * (1 + 2e-6))[2]) != 0


def test_the_choice_of_the_largest_median_is_made_at_every_level_and_used_there():
    """The network answers 0.2 at one level and 0.8 at the other: of 0 and 1, each is nearer to one of them."""
    wave = torch.tensor([[0.1, -0.1, 0.1, -0.1]] * 3, dtype=DOUBLE)
    at = [point(0.5, 0.2 + wave), point(2.0, 0.8 + wave)]
    of = Subject("n", constant(0.0), torch.zeros(2, 4, dtype=DOUBLE), 1.0, at, at)
    method = Method("m", lambda _, choice: constant(float(choice)), (0, 1), images=2)
    like = Method("l", lambda _, choice: constant(1.0 - float(choice)), like="m")
    found = compared(of, [method, like])
    assert found["m"].choices == found["l"].choices == (0, 1)
    for name, off in (("m", 0.2), ("l", 0.8)):
        assert found[name].error.shape == (2, 2 if name == "m" else 3)
        expected = torch.full_like(found[name].error, off**2 + 0.01)
        torch.testing.assert_close(found[name].error, expected, rtol=1e-12, atol=0)


def test_vectors_are_read_as_square_images():
    network = ExactDenoiser(Gaussian.isotropic(torch.arange(64, dtype=DOUBLE), 0.0), SCHEDULE)
    read = AsImages(network)
    assert read.schedule is SCHEDULE
    answer = read(torch.zeros(2, 8, 8, dtype=DOUBLE), 1.0)
    assert answer.shape == (2, 8, 8)
    assert answer[1, 2, 3] == 19
