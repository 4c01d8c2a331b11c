"""The information of a model in nats from made-up sums of two noise levels, where every point has the same sums."""

# pyright: reportArgumentType=false

import dataclasses
import inspect
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from results_at_levels import FOUND, zero_curve

from chart_reading import marks_of
from diffuscope.audit.data_gaussian import Truncation
from diffuscope.audit.entropy_budget import _controlled, information, information_chart, information_findings
from diffuscope.audit.level_charts import Curve
from diffuscope.audit.level_measures import LevelMeasures
from diffuscope.densities import PathEntropy
from diffuscope.exact import Gaussian
from diffuscope.findings import Line, Rule

ALPHA, SIGMA = np.array([0.5, 0.6, 0.8]), np.array([2.0, 1.0, 0.5])
VARIANCE, POINTS, D = 3.0, 5, 2
SCORE, ERROR, IRREDUCIBLE = np.array([0.3, 0.7, 1.5]), np.array([4.0, 2.5, 0.7]), np.array([1.2, 0.9, 0.4])
OF_GAUSSIAN, AWAY = np.array([5.0, 2.7, 1.1]), np.array([0.8, 0.5, 0.3])


def session():
    """Three levels of five points, the held-out ones at 0 with noise of the squared length 8."""
    each = np.ones(POINTS)
    sums = [
        {
            "heldout.score_norm": each * SCORE[k],
            "heldout.error": each * ERROR[k],
            "heldout.exact_error": np.stack([each * 99, each * OF_GAUSSIAN[k]], 1),
            "training.irreducible": each * IRREDUCIBLE[k],
            "training.distance": each * AWAY[k],
        }
        for k in range(3)
    ]
    measures = LevelMeasures(
        ratios=SIGMA / ALPHA, scale=1.7, dimension=D, models=("other", "Gaussian"), sums=sums, components=None
    )
    times = torch.arange(3)
    schedule = SimpleNamespace(alpha=lambda t: torch.from_numpy(ALPHA)[t], sigma=lambda t: torch.from_numpy(SIGMA)[t])
    noise = 2 * torch.tensor([[1.0, 1.0], [-1.0, 1.0], [1.0, -1.0], [-1.0, -1.0], [1.0, 1.0]])
    return SimpleNamespace(
        measures=measures,
        points=(torch.full((POINTS, D), 9.0), torch.zeros(POINTS, D), noise),
        references=SimpleNamespace(gaussian=Gaussian.isotropic(torch.zeros(D), VARIANCE)),
        subject=SimpleNamespace(denoiser=SimpleNamespace(schedule=schedule)),
        levels=SimpleNamespace(times=times),
    )


def test_information_per_coordinate_follows_from_the_sums():
    found = inspect.unwrap(information)(session(), np.random.default_rng(0))
    gain = (ALPHA / SIGMA) ** 2
    total = ALPHA**2 * VARIANCE + SIGMA**2
    memorizer, lowest = D - gain * IRREDUCIBLE, SIGMA**2 * D / total
    fisher = np.stack([SIGMA**2 * SCORE, D - gain * ERROR, memorizer, lowest], 1) / D
    rates = np.stack([gain * (OF_GAUSSIAN - ERROR), gain * AWAY], 1)
    for part in ("value", "low", "high"):
        assert getattr(found.fisher, part) == pytest.approx(fisher)
        assert getattr(found.rates, part) == pytest.approx(rates / D)
    assert (found.scale, found.points) == (1.7, POINTS)
    assert found.ratios == pytest.approx(SIGMA / ALPHA)
    paired = SIGMA**2 * 8 * SIGMA**2 / total**2
    place = (SIGMA**2 * SCORE - paired).sum() / (memorizer - lowest).sum()
    assert found.place == pytest.approx((place,) * 3)
    logs = np.log(SIGMA / ALPHA)[::-1]
    assert found.beyond_gaussian.value == pytest.approx(np.trapezoid(rates[::-1, 0], logs))
    assert found.from_memorizer.value == pytest.approx(np.trapezoid(rates[::-1, 1], logs))
    assert found.from_memorizer.standard_error == pytest.approx(0, abs=1e-9)


def test_a_multiple_of_the_squared_noise_is_taken_off():
    """Of 2, 6, 4 beside 1, 3, 2, whose mean is known to be 1, the slope is 2: each is 2 at the mean."""
    squared = np.array([1.0, 3.0, 2.0])
    rows = np.array([[2.0, 5.0], [6.0, 5.0], [4.0, 8.0]])
    assert _controlled(rows, squared, 1) == pytest.approx(np.array([[2.0, 5.0], [2.0, 5.0], [2.0, 8.0]]))


def test_knowledge_whose_interval_begins_at_nothing_is_no_evidence():
    nothing = dataclasses.replace(FOUND, beyond_gaussian=PathEntropy(0.5, 0.0, 0.5))
    beyond, *_ = information_findings(nothing, 0.01)
    assert beyond.interval is not None
    assert (beyond.interval[0], beyond.tone) == (0.0, "attention")
    assert beyond.verdict.startswith("There is no evidence")
    some = dataclasses.replace(FOUND, beyond_gaussian=PathEntropy(0.5, 0.0, 0.25))
    assert information_findings(some, 0.01)[0].tone == "good"
    partial = Truncation(pairs=3, dimension=9, share=0.5, converged=3, examples=99)
    cards = information_findings(some, 0.01, partial)
    assert cards[0].tone == "neutral"
    assert cards[0].verdict.endswith("than a Gaussian of 3 principal components, with one variance for the rest.")


def test_the_chart_of_information_has_a_line_for_every_kind_and_no_rate_at_zero():
    made = Curve(np.full((3, 4), 0.5), np.full((3, 4), 0.25), np.full((3, 4), 0.75))
    fisher, rates = information_chart(dataclasses.replace(FOUND, fisher=made, scale=3.0, rates=zero_curve(2))).panels
    assert fisher.y_range == (0.0, 1.05)
    assert rates.y_range is None
    lines = marks_of(fisher, Line)
    assert [(line.y[0], line.low[0], line.high[0]) for line in lines] == [(0.5, 0.25, 0.75)] * 4
    assert [line.x[0] for line in lines] == [0.125] * 4
    assert [mark.at for mark in marks_of(fisher, Rule)] == [3.0]
    assert [mark.at for mark in marks_of(rates, Rule)] == [0.0, 3.0]
    assert len(rates.marks) == 4
    rate = rates.marks[0]
    assert isinstance(rate, Line)
    assert math.isfinite(rate.y[0])
