"""Levels of noise: those that matter, their curves, the points compared at once, and the contract of a denoiser."""

import dataclasses
import inspect
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from chart_reading import marks_of
from diffuscope.audit import level_measures, rows_of
from diffuscope.audit.ends import STARTS, start_from_noise
from diffuscope.audit.generation import followed_samples, refined, starting_noise
from diffuscope.audit.level_charts import Curve, noise_panel
from diffuscope.audit.level_measures import LevelMeasures, measure_level
from diffuscope.audit.manners import manners
from diffuscope.audit.subject import Levels, Subject
from diffuscope.denoisers import ExactDenoiser
from diffuscope.exact import Gaussian
from diffuscope.findings import Rule
from diffuscope.samplers import DPMSolverPP2M, finish
from diffuscope.samplers.generation import model_times
from diffuscope.schedules import VE
from numbers_in_tests import seeded


def test_levels_matter_from_a_four_hundredth_to_nineteen_twentieths_of_the_variance():
    shares = [0.9501, 0.95, 0.5, 0.0025, 0.0024]
    sums = [{"heldout.exact_error": np.array([[7.0, share]] * 2), "heldout.mean_error": np.ones(2)} for share in shares]
    made = LevelMeasures(ratios=np.ones(5), scale=1.0, dimension=9, models=("other", "Gaussian"), sums=sums)
    assert made.matter.tolist() == [False, True, True, True, False]
    assert made.rows("heldout.exact_error").shape == (2, 5, 2)


@pytest.mark.parametrize(
    ("held", "pieces"), [(2**28, [128, 128, 44, 128, 2, 128]), (4 * 16 * 6 * 100, [100, 100, 100, 100, 30, 100, 28])]
)
def test_points_are_compared_in_pieces_of_a_size_that_fits(monkeypatch, held, pieces):
    """At most 128 at once, and at most as many as fit with sixteen arrays of their six numbers."""
    monkeypatch.setattr(rows_of, "AT_ONCE", held)
    asked = []

    def of_points(_, __, t, name, given, noise=None):
        asked.append((name, len(given), None if noise is None else float((given - noise).abs().max())))
        return {f"{name}.sum": given.flatten(1).sum(1).numpy() + t}

    monkeypatch.setattr(level_measures, "_of_points", of_points)
    train, heldout, states = (torch.randn(n, 2, 3, generator=seeded(n)) for n in (300, 130, 128))
    found = inspect.unwrap(measure_level)(None, None, 0.5, train, heldout, train, states)
    assert [count for _, count, _ in asked][: len(pieces)] == pieces
    assert all(apart == 0.0 for name, _, apart in asked if name == "training")
    assert {name for name, _, apart in asked if apart is None} == {"trajectory"}
    for name, x in (("training", train), ("heldout", heldout), ("trajectory", states)):
        assert found[f"{name}.sum"] == pytest.approx(x.flatten(1).sum(1).numpy() + 0.5)


def test_a_curve_has_a_line_with_its_band_for_every_column_in_its_unit():
    made = Curve(
        np.array([[1.0, 4.0], [2.0, 5.0]]), np.array([[0.0, 3.0], [1.0, 4.0]]), np.array([[2.0, 6.0], [3.0, 7.0]])
    )
    plain, percent = made.lines(np.array([8.0, 9.0]), ("a", "b")), made.lines(np.array([8.0, 9.0]), ("a", "b"), 100.0)
    for lines, unit in ((plain, 1), (percent, 100)):
        assert [(line.x, line.label) for line in lines] == [((8.0, 9.0), "a"), ((8.0, 9.0), "b")]
        assert [list(line.y) for line in lines] == [[1.0 * unit, 2.0 * unit], [4.0 * unit, 5.0 * unit]]
        assert [list(line.low) for line in lines] == [[0.0, 1.0 * unit], [3.0 * unit, 4.0 * unit]]
        assert [list(line.high) for line in lines] == [[2.0 * unit, 3.0 * unit], [6.0 * unit, 7.0 * unit]]


def test_the_larger_of_two_curves_is_so_value_by_value():
    one = Curve(np.array([[1.0, 5.0]]), np.array([[0.5, 4.0]]), np.array([[2.0, 6.0]]))
    other = Curve(np.array([[2.0, 3.0]]), np.array([[0.6, 2.0]]), np.array([[1.0, 7.0]]))
    for found in (one.larger(other), other.larger(one)):
        assert (found.value.tolist(), found.low.tolist(), found.high.tolist()) == ([[2, 5]], [[0.6, 4]], [[2, 7]])


def test_a_panel_over_noise_is_logarithmic_and_marks_the_scale():
    panel = noise_panel("t", "y", 1.7, Rule(3.0), y_range=(0.0, 2.0))
    assert (panel.title, panel.y_label, panel.x_log, panel.y_log, panel.y_range) == ("t", "y", True, False, (0.0, 2.0))
    rules = marks_of(panel, Rule)
    assert len(rules) == len(panel.marks)
    assert [(rule.at, rule.axis) for rule in rules] == [(3.0, "y"), (1.7, "x")]


class Answers:
    """1000 everywhere, but on one kind of call."""

    schedule = VE()

    def __init__(self, kind, value):
        self.kind, self.value, self.calls = kind, value, 0

    def __call__(self, x_t, t):
        self.calls += 1
        together = t.ndim == 1
        kind = "each" if together else "alone" if len(x_t) == 1 else "part" if len(x_t) < 8 else "whole"
        given = self.kind == kind or (self.kind == "again" and self.calls == 3)
        return torch.full_like(x_t, self.value if given else 1000.0)


@pytest.mark.parametrize("kind", ["again", "part", "each", "alone"])
@pytest.mark.parametrize(("value", "faults"), [(999.0, 0), (1001.0, 0), (998.9, 1)])
def test_answers_may_differ_by_a_thousandth(kind, value, faults):
    """The first call, one at the other time, and the first again; then parts, and single points."""
    times = torch.tensor([1.0, 2.0], dtype=torch.float64)
    found = manners(Answers(kind, value), torch.zeros(8, 2), times)
    assert len(found) == faults
    assert all(("two calls" in fault.what) == (kind == "again") for fault in found)
    assert all(("depends on the others" in fault.what) == (kind == "part") for fault in found)
    assert all(fault.grave == (kind in ("again", "part")) for fault in found)


def test_a_start_from_noise_is_missing_the_mean_and_the_deviation_of_noised_data():
    """The sampler is linear in its start for a denoiser that is, so that it multiplies the difference of the starts."""

    class Linear:
        schedule = VE(0.1, 3.0)

        def __call__(self, x_t, t):
            return 0.5 * x_t + 0 * t

    model = Linear()
    found = start_from_noise(model, Gaussian.isotropic(torch.full((2,), 0.5), 4.0), 1.6, seeded())
    times = model_times(model, 15)
    factor = float(finish(model, DPMSolverPP2M(), torch.ones(1, 2), times)[0, 0])
    noise = torch.randn(64, 2, generator=seeded()).double()
    moved = factor * (3 * noise - (0.5 + math.sqrt(9 + 4) * noise)) / 1.6
    means = moved.mean(1)
    assert found.ratio == pytest.approx(3 / 1.6)
    assert found.shift == pytest.approx(float(means.mean()), rel=1e-4)
    assert found.shift_error == pytest.approx(float(means.std()) / 8, rel=1e-4)
    assert found.displacement == pytest.approx(float(moved.square().mean().sqrt()), rel=1e-4)
    assert STARTS == 64


STANDARD = Gaussian.isotropic(torch.zeros(1), 1.0)


def subject():
    x = torch.randn(40, 1, generator=seeded())
    return Subject(ExactDenoiser(STANDARD, VE(0.1, 9.0)), x[:20], x[20:])


@pytest.mark.parametrize("followed", [0, 230, 256, 280])
def test_as_many_trajectories_are_followed_as_asked_over_batches(followed):
    """Of 300 in two batches, the first ones: their states at the last level lead to the samples."""
    made, levels = subject(), Levels(torch.tensor([9.0, 1.0], dtype=torch.float64), torch.tensor([9.0, 1.0]).double())
    arrays = followed_samples(made, STANDARD, levels, 300, followed, seeded())
    assert arrays["samples"].shape == (300, 1)
    assert arrays["states"].shape == (2, followed, 1)
    # D(x) = x / (1 + sigma^2) at the lowest level, 1
    assert arrays["samples"][:followed] == pytest.approx(arrays["states"][1] / 2, rel=1e-5)


def test_the_times_have_the_geometric_means_of_neighboring_levels():
    levels = Levels(torch.tensor([8.0, 2.0, 0.5], dtype=torch.float64), torch.tensor([8.0, 2.0, 0.5]).double())
    assert refined(subject().denoiser, levels).tolist() == pytest.approx([8.0, 4.0, 2.0, 1.0, 0.5])


def test_starts_have_the_moments_of_noised_data(monkeypatch):
    monkeypatch.setattr(rows_of, "AT_ONCE", 4 * 8 * 2 * 999)  # not all at once
    schedule = SimpleNamespace(alpha=lambda _: 0.5, sigma=lambda _: 2.0)
    made = inspect.unwrap(starting_noise)(
        Gaussian.isotropic(torch.tensor([6.0, -2.0]), 25.0), schedule, 1.0, 5000, seeded()
    )
    deviation = math.hypot(0.5 * 5, 2.0)
    assert made.dtype == torch.float32
    assert made.mean(0).tolist() == pytest.approx([3.0, -1.0], abs=4 * deviation / 5000**0.5)
    assert made.std(0).tolist() == pytest.approx([deviation] * 2, rel=4 / 10_000**0.5)


def test_samples_are_the_makers_and_states_those_of_the_denoiser():
    """What makes the samples answers 50 everywhere; the flow of the denoiser keeps a mean of 0."""

    class Fifty:
        schedule = VE(0.1, 9.0)

        def __call__(self, x, t):
            return torch.full_like(x, 50.0) + 0 * t

    made = dataclasses.replace(subject(), sampled=Fifty())
    levels = Levels(torch.tensor([9.0, 1.0], dtype=torch.float64), torch.tensor([9.0, 1.0]).double())
    arrays = followed_samples(made, STANDARD, levels, 30, 7, seeded())
    assert arrays["samples"] == pytest.approx(np.full((30, 1), 50.0))
    assert arrays["states"].shape == (2, 7, 1)
    assert np.abs(arrays["states"][1]).max() < 8
