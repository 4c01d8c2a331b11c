"""How many of everything an audit takes, and the bars by which it judges, as numbers."""

from typing import Any

import numpy as np
import pytest
import torch
from made_by_hand import by_name, plane, session_of, standard_normal
from results_at_levels import curves, decided, equation, hand_made
from results_of_samples import units_by_hand

from diffuscope.audit import Settings, Subject, audit_model, repeats
from diffuscope.audit.questions import order, steps, wiring
from diffuscope.audit.reading_search import decisive_levels
from diffuscope.audit.sample_units import heldout_finding
from diffuscope.audit.score_consistency import consistency_findings
from diffuscope.audit.subject import noise_levels
from diffuscope.audit.target_noise import nearest_distances
from diffuscope.audit.transformations import is_image, labels, largest_shift, transformations
from diffuscope.audit.units import sample_units
from diffuscope.audit.wide_rows import Span, are_wide
from diffuscope.errors import InputError
from diffuscope.findings import exact_share_interval
from numbers_in_tests import seeded


@pytest.mark.parametrize(
    ("name", "least", "most"),
    [
        ("levels", 4, "1,000"), ("points", 8, "10,000,000"), ("trajectories", 8, "1,000,000"),
        ("generated", 20, "10,000,000"), ("components", 1, "1,000"), ("references", 20, "1,000,000,000"),
        ("step_seeds", 8, "1,000,000"), ("consistency_steps", 1, "1,000"),
    ],
)  # fmt: skip
def test_a_setting_that_is_refused_is_told_its_range(name, least, most):
    given: dict[str, Any] = {name: -1}
    with pytest.raises(InputError, match=f"{name}: expected a whole number from {least} to {most}, got -1"):
        Settings(**given)


def test_levels_are_those_between_trivial_and_hopeless():
    levels = decisive_levels(standard_normal(1e-6, 1e4), 2.0)
    assert levels == pytest.approx(np.geomspace(0.2, 6.0, 8))
    assert noise_levels(standard_normal(1e-6, 1e9), 2.0, 4).ratios.numpy() == pytest.approx(
        np.geomspace(200, 0.06, 4), rel=1e-5
    )


def test_so_many_examples_are_read_searched_and_compared():
    clean, noise, _ = wiring.examples(session_of(plane(300)))
    assert clean.shape == noise.shape == (272, 2)
    assert len(clean.unique(dim=0)) == 272
    line = torch.arange(1001.0)[:, None]
    found = nearest_distances(line, line, line[:7], seeded())
    assert {name: len(of) for name, of in found.items()} == {"examples": 1000, "heldout": 7, "samples": 1000}
    assert sample_units(line, line, line + 0.5, (0.0, 1000.0), np.random.default_rng(0)).heldout == (0, 200)
    mean, directions = repeats._directions(torch.randn(40, 30, generator=seeded()) + 5)
    assert (mean.shape, directions.shape) == ((30,), (30, 12))
    assert (directions.T @ directions).allclose(torch.eye(12).double(), atol=1e-9)
    assert repeats._directions(torch.randn(40, 5, generator=seeded()))[1].shape == (5, 5)


def test_memory_is_asked_for_samples_with_their_trajectories(monkeypatch):
    """Of 30 samples of two numbers at five levels, one more and the end: 4 * 30 * 2 * 7 bytes."""
    asked = []

    def refused(*given):
        asked.append(given)
        raise InputError("generated: expected less")

    monkeypatch.setattr("diffuscope.audit.run.require_memory", refused)
    subject = Subject(standard_normal(0.01, 50.0, 2), plane(20), plane(20, 1))
    with pytest.raises(InputError, match="generated: expected less"):
        audit_model(subject, Settings(levels=5, generated=30))
    assert asked == [(1680.0, "generated", "30 samples with their trajectories")]


def test_samples_are_heldout_examples_beyond_a_percent_above_chance():
    low = exact_share_interval(9, 200)[0]
    at = low - 0.01
    assert at + 0.01 == low  # whatever the last digit: all are multiples of 2^-59, and the difference is below 2^-6
    assert heldout_finding(units_by_hand(heldout=(9, 200), chance=at), "samples").tone == "good"
    assert heldout_finding(units_by_hand(heldout=(9, 200), chance=at - 1e-6), "samples").tone == "alarm"
    assert heldout_finding(units_by_hand(heldout=(9, 200), chance=at + 0.0009), "samples").tone == "good"


@pytest.mark.parametrize(("low", "tone"), [(0.5, "neutral"), (0.501, "attention")])
def test_more_than_half_of_the_terms_need_attention(low, tone):
    for finding in consistency_findings(equation(mean_residual=(0.7, low, 0.9), mean_curl=(0.7, low, 0.9))):
        assert finding.tone == tone


def test_budgets_are_five_to_thirty_five_evaluations():
    table = steps._numbers(hand_made())
    assert list(table.header) == ["sampler", *(f"{budget} NFE" for budget in (5, 8, 10, 15, 20, 35))]


def test_components_are_shown_in_steps_of_two():
    sizes = tuple(np.geomspace(30.0, 0.3, 17))
    result = decided(*curves(sizes, sizes, n=3), variances=tuple(np.array(sizes) ** 2))
    marks = order.emergence_chart(result, np.random.default_rng(0)).panels[0].marks
    named = [getattr(mark, "label", "") for mark in marks]
    shown = [label for label in named if label.startswith("component")]
    assert shown == [f"component {k}" for k in (1, 2, 4, 8, 16)]
    late = by_name(order.findings(result, np.random.default_rng(0)), "order")["late"]
    assert late.confidence == round(1 - 0.05 / 17, 4)


def test_versions_of_images_are_few_and_of_large_ones_more():
    assert is_image((1, 4, 9))
    assert not is_image((1, 3, 9))
    assert not is_image((2, 9, 9))
    assert [largest_shift((1, side, 99)) for side in (7, 8, 15, 16, 99)] == [0, 1, 1, 2, 2]
    (turned,) = transformations(["rotation"], (1, 8, 8))
    assert turned.labels == ("", *(f"rotated by {angle}°" for angle in ("-5", "-2.5", "2.5", "5")))
    assert turned.probes == (0, 1, 4)
    moved = transformations(["shift", "mirror"], (1, 8, 8))
    assert [each.name for each in moved] == ["mirror", "shift"]
    assert labels(moved)[:5] == [
        "shifted by (1, 1)",
        "shifted by (1, 0)",
        "shifted by (1, -1)",
        "shifted by (0, 1)",
        "",
    ]
    assert labels(moved)[9] == "mirrored, shifted by (1, 1)"
    assert moved[1].probes == (4,)
    finer = moved[1].finer
    assert finer is not None
    assert finer.labels[:5] == ("", *(f"shifted by ({step})" for step in ("0, 0.5", "0, -0.5", "0.5, 0", "0.5, 0.5")))
    assert finer.versions(torch.zeros(2, 1, 8, 8)).shape == (2, 9, 1, 8, 8)


def test_rows_are_wide_from_eight_numbers_per_row_on():
    assert are_wide(torch.zeros(2, 16))
    assert not are_wide(torch.zeros(2, 15))
    # variances 10^4 / 2, and 2e-6 and 0.5e-6 of it beside it: the last is left out
    for size, rank in ((2e-6, 2), (0.5e-6, 1)):
        rows = torch.zeros(4, 40, dtype=torch.float64)
        rows[:, 0], rows[:, 39] = torch.tensor([100.0, -100, 0, 0]), 100 * size**0.5 * torch.tensor([0.0, 0, 1, -1])
        assert Span.of(rows).coordinates.shape == (4, rank)
