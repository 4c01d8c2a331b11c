"""Frechet distances at equal sizes, as multiples of the distance between held-out data: bias, errors, power."""

import math
from dataclasses import replace

import pytest
import torch
from conftest import monte_carlo

from chart_reading import marks_of
from diffuscope.audit.frechet_ratio import (
    DRAWS,
    NORMAL_95,
    distance_at_size,
    distance_between_halves,
    fidelity,
    frechet_chart,
)
from diffuscope.errors import InputError
from diffuscope.findings import Intervals, Rule, frechet_distance


def test_replaying_has_the_ratio_that_is_derived(generator, monkeypatch):
    """Gaussian data, N = 300 of training and heldout each, so n = 150: new draws 1, replaying 1.25."""
    monkeypatch.setattr("diffuscope.audit.frechet_ratio.DRAWS", 8)
    recited, new, real = [], [], []
    for seed in range(40):
        samples, train, heldout = torch.randn(3, 300, 5, dtype=torch.float64, generator=generator)
        found = fidelity(samples, train, heldout, seed)
        recited.append(found.recited.value)
        new.append(found.samples.value)
        real.append(found.real)
    # a ratio of means, because a mean of ratios is larger; v - r u has mean 0 where r is the ratio of the means
    unit = torch.tensor(real)
    assert monte_carlo((torch.tensor(recited) - 1.25 * unit) / unit.mean()).agrees_with(0)
    assert monte_carlo((torch.tensor(new) - unit) / unit.mean()).agrees_with(0)


@pytest.mark.parametrize(("shift", "skew"), [(0.4, 0.0), (2.0, 0.0), (2.0, 0.3)], ids=["near", "far", "skewed"])
def test_the_interval_of_the_ratio_allows_for_an_uncertain_ruler(shift, skew, generator, monkeypatch):
    """Ratios of 4 to 80, also of features that are not Gaussian; 95% less 3 standard errors."""
    monkeypatch.setattr("diffuscope.audit.frechet_ratio.DRAWS", 16)
    repeats, found = 100, []
    for _ in range(repeats):
        x = torch.randn(3, 300, 5, dtype=torch.float64, generator=generator)
        samples, train, heldout = x + skew * (x.square() - 1)
        found.append(fidelity(1.3 * samples + shift, train, heldout, 0))
    truth = sum(f.samples.value for f in found) / sum(f.real for f in found)

    def coverage(results):
        return sum(f.interval[0] <= truth <= f.interval[1] for f in results) / repeats

    least = 0.95 - 3 * math.sqrt(0.95 * 0.05 / repeats)
    assert coverage(found) >= least
    if shift > 1:  # with the ruler taken as exact
        assert coverage([replace(f, real_error=0.0) for f in found]) < least


def test_the_standard_error_of_the_ruler_is_its_spread_over_independent_data(generator, monkeypatch):
    """Four standard errors of a standard deviation from so many replicates, and 10 % for what is of order 1/m."""
    monkeypatch.setattr("diffuscope.audit.frechet_ratio.DRAWS", 16)
    found = []
    for _ in range(150):
        x = torch.randn(3, 300, 5, dtype=torch.float64, generator=generator)
        samples, train, heldout = x + 0.2 * (x.square() - 1)
        found.append(fidelity(samples, train, heldout, 0))
    stated = torch.tensor([f.real_error for f in found]).square().mean().sqrt()
    assert float(torch.tensor([f.real for f in found]).std() / stated) == pytest.approx(
        1, abs=4 / math.sqrt(2 * 150) + 0.1
    )


def test_what_is_stated_as_detectable_is_called_far_as_often_as_stated(generator):
    """Ratios drawn as the interval assumes, at the one that is stated: above the bar with probability 0.95."""
    samples, train, heldout = torch.randn(3, 300, 5, dtype=torch.float64, generator=generator)
    found = fidelity(1.2 * samples, train, heldout, 0)
    drawn = found.detectable + found.ratio_error * torch.randn(10_000, dtype=torch.float64, generator=generator)
    assert monte_carlo((drawn > 2).double()).agrees_with(0.95)


def test_no_distance_where_a_covariance_would_be_singular(generator):
    """n centered rows have rank n - 1."""
    for size, full in ((5, False), (6, True)):
        rows = torch.randn(3, 2 * size, 5, dtype=torch.float64, generator=generator)
        if full:
            assert fidelity(rows[0], rows[1], rows[2], 0).size == size
        else:
            with pytest.raises(InputError, match="expected 6 samples, 6 training and 12 held-out examples, got 10, 10"):
                fidelity(rows[0], rows[1], rows[2], 0)


def test_the_standard_error_is_the_spread_over_independent_data(generator, monkeypatch):
    """Distributions that differ; 4 standard errors of a standard deviation, and 4% for the draws."""
    monkeypatch.setattr("diffuscope.audit.frechet_ratio.DRAWS", 16)
    found = []
    for _ in range(120):
        x = 1.3 * torch.randn(200, 4, dtype=torch.float64, generator=generator) + 0.4
        y = torch.randn(200, 4, dtype=torch.float64, generator=generator)
        found.append(distance_at_size(x, y, 100, generator))
    stated = torch.tensor([f.standard_error for f in found]).square().mean().sqrt()
    spread = torch.tensor([f.value for f in found]).std()
    assert float(spread / stated) == pytest.approx(1, abs=4 / math.sqrt(2 * 120) + 0.04)


@pytest.mark.parametrize("width", [3, 12])
def test_all_draws_at_once_are_the_distances_one_by_one(width, generator, monkeypatch):
    """Also where the 10 rows of a draw span fewer dimensions than there are features; two different formulas."""
    monkeypatch.setattr("diffuscope.audit.frechet_ratio.CHUNK", 3 * 10 * width)  # three draws at a time
    rows = torch.randn(60, width, dtype=torch.float64, generator=generator)
    mean, deviation = distance_between_halves(rows, 10, torch.Generator().manual_seed(5))
    drawing = torch.Generator().manual_seed(5)
    drawn = [torch.randperm(60, generator=drawing)[:20] for _ in range(DRAWS)]
    values = torch.tensor([frechet_distance(rows[d[:10]], rows[d[10:]]).value for d in drawn], dtype=torch.float64)
    assert mean == pytest.approx(float(values.mean()), rel=1e-10)
    assert deviation == pytest.approx(float(values.std()), rel=1e-10)


def test_heldout_data_without_any_spread_are_refused(generator):
    rows = torch.randn(100, 3, dtype=torch.float64, generator=generator)
    with pytest.raises(InputError, match="heldout: expected examples whose features differ"):
        fidelity(rows, rows, torch.ones(100, 3, dtype=torch.float64), 0)


@pytest.mark.parametrize("shift", [0.0, 2.0], ids=["linear", "logarithmic"])
def test_the_figure_shows_every_interval_and_the_band_of_single_divisions(shift, generator):
    """Also where the replayed data or a planted fault are farther than the samples."""
    samples, train, heldout = torch.randn(3, 100, 3, dtype=torch.float64, generator=generator)
    found = fidelity(samples, train + shift, heldout, 0)
    fault = replace(found, samples=distance_at_size(samples + 1.5 * shift, heldout, found.size, generator))
    (panel,) = frechet_chart(found, {"a shift": fault}, "Samples and a shift").panels
    assert panel.x_log == (shift > 0)
    assert panel.x_range is not None
    low, high = panel.x_range
    for interval in (found.interval, found.recited_interval, fault.interval):
        assert low <= max(interval[0], low if panel.x_log else 0.0)
        assert interval[1] <= high
    (drawn,) = marks_of(panel, Intervals)
    assert drawn.names == ("samples", "replayed training data", "a shift")
    assert drawn.values == (found.ratio, found.recited_ratio, fault.ratio)
    assert drawn.low == (found.interval[0], found.recited_interval[0], fault.interval[0])
    band = next(mark for mark in marks_of(panel, Rule) if mark.width)
    assert band.width == pytest.approx(2 * NORMAL_95 * found.real_deviation / found.real)
