"""Frechet distances of a few rows, their errors and their ratios, against closed forms and sums written out."""

import math

import numpy as np
import pytest
import torch

from diffuscope.audit import frechet_ratio
from diffuscope.audit.frechet_ratio import (
    Fidelity,
    _distances,
    _error_of_all_divisions,
    distance_at_size,
    distance_between_halves,
    fidelity,
)
from diffuscope.errors import InputError
from diffuscope.findings import FrechetDistance, frechet_distance
from numbers_in_tests import seeded


def column(*values):
    return torch.tensor(values, dtype=torch.float64)[:, None]


ROWS = column(0.0, 1.0, 2.0, 3.0)
# pairs of means (1/2, 5/2), (1, 2) and (3/2, 3/2); the deviations differ in the last alone, by 3/2^(1/2) - 1/2^(1/2)
FIRST, SECOND = torch.tensor([[0, 1], [0, 2], [0, 3]]), torch.tensor([[2, 3], [1, 3], [1, 2]])


@pytest.mark.parametrize("chunk", [1, 4, 10_000])
def test_the_distance_of_normals_on_a_line_is_that_of_means_and_deviations(monkeypatch, chunk):
    monkeypatch.setattr(frechet_ratio, "CHUNK", chunk)
    assert _distances(ROWS, ROWS, FIRST, SECOND).tolist() == pytest.approx([4.0, 1.0, 2.0])
    assert _distances(ROWS, ROWS + 3, FIRST, FIRST).tolist() == pytest.approx([9.0] * 3)


def test_halves_are_disjoint_and_drawn_anew():
    mean, std = distance_between_halves(ROWS, 2, seeded())
    counts = [
        (a, b, 32 - a - b)
        for a in range(1, 31)
        for b in range(1, 32 - a)
        if math.isclose((4 * a + b + 2 * (32 - a - b)) / 32, mean, abs_tol=1e-9)
    ]
    spreads = [np.repeat([4.0, 1.0, 2.0], each).std(ddof=1) for each in counts]
    assert any(math.isclose(std, spread, rel_tol=1e-6) for spread in spreads)
    assert distance_between_halves(column(0.0, 1.0, 2.0, 3.0, 1e4), 2, seeded())[0] > 1e6  # of all rows


def test_at_the_size_of_both_sets_there_is_one_draw():
    x, y = torch.randn(9, 2, generator=seeded()), torch.randn(9, 2, generator=seeded(1)) + 1
    found, whole = distance_at_size(x, y, 9, seeded(2)), frechet_distance(x, y)
    assert found.value == pytest.approx(whole.value)
    assert found.standard_error == pytest.approx(whole.standard_error)
    smaller = distance_at_size(x, y, 4, seeded(2))
    assert smaller.standard_error == pytest.approx(whole.standard_error)
    assert smaller.value != pytest.approx(whole.value, rel=1e-3, abs=1e-12)


def test_the_error_over_all_divisions_is_that_of_the_terms_of_the_bias():
    x = torch.randn(30, 3, generator=seeded(3), dtype=torch.float64) * torch.tensor([1.0, 2.0, 0.5]) + 4
    centered = (x - x.mean(0)).numpy()
    variances, axes = np.linalg.eigh(np.cov(centered.T))
    q = []
    for row in centered @ axes:
        terms = [
            (row[i] * row[j] - variances[i] * (i == j)) ** 2 / (variances[i] + variances[j])
            for i in range(3)
            for j in range(3)
        ]
        q.append(row @ row + sum(terms) / 2)
    expected = np.std(q, ddof=1) / np.mean(q) / 30**0.5
    assert _error_of_all_divisions(x) == pytest.approx(expected)
    constant = torch.cat([x, torch.full((30, 1), 7.0)], 1)
    assert _error_of_all_divisions(constant) == pytest.approx(expected)


@pytest.mark.parametrize(("sizes", "size"), [((9, 12, 30), 9), ((12, 9, 30), 9), ((12, 13, 19), 9), ((4, 3, 8), 3)])
def test_sets_are_as_large_as_the_smallest_and_half_of_the_heldout_data(sizes, size):
    samples, train, heldout = (torch.randn(n, 2, generator=seeded(n)) for n in sizes)
    found = fidelity(samples, train, heldout, 0)
    assert found.size == size
    of_divisions = found.real * _error_of_all_divisions(heldout)
    assert found.real_error == pytest.approx(math.hypot(found.real_deviation / 32**0.5, of_divisions))
    assert found.samples.standard_error > 0


def test_a_covariance_needs_an_example_more_than_it_has_features():
    rows = torch.randn(8, 3, generator=seeded())
    assert fidelity(rows, rows, rows + 1, 0).size == 4
    for n, m, k in ((3, 8, 8), (8, 3, 8), (8, 8, 7)):
        with pytest.raises(InputError, match="needs 4 examples; expected 4 samples, 4 training and 8 held-out"):
            fidelity(rows[:n], rows[:m], rows[:k], 0)
    with pytest.raises(InputError, match="expected examples whose features differ"):
        fidelity(rows, rows, torch.ones(8, 3), 0)


def test_replayed_training_data_are_drawn_of_the_training_examples():
    """These are far from the held-out ones, the samples are not."""
    heldout = torch.randn(40, 2, generator=seeded())
    found = fidelity(heldout[:20].clone(), heldout[:20] + 100, heldout, 0)
    assert found.recited.value == pytest.approx(20_000, rel=0.05)
    assert found.samples.value < 5


def test_ratios_have_the_relative_errors_of_both_distances_and_are_not_negative():
    made = Fidelity(
        size=9, samples=FrechetDistance(6.0, 0.8), recited=FrechetDistance(2.0, 0.3), real=4.0, real_error=0.4,
        real_deviation=1.0,
    )  # fmt: skip
    error = 1.5 * math.hypot(0.8 / 6, 0.1)
    assert (made.ratio, made.ratio_error) == pytest.approx((1.5, error))
    assert made.interval == pytest.approx((1.5 - 1.96 * error, 1.5 + 1.96 * error))
    assert made.detectable == pytest.approx(2 + 1.6448536 * error)
    replayed = 0.5 * math.hypot(0.15, 0.1)
    assert made.recited_ratio == 0.5
    assert made.recited_interval == pytest.approx((0.5 - 1.96 * replayed, 0.5 + 1.96 * replayed))
    unsure = Fidelity(
        size=9, samples=FrechetDistance(1.0, 8.0), recited=FrechetDistance(1.0, 8.0), real=4.0, real_error=0.4,
        real_deviation=1.0,
    )  # fmt: skip
    assert (unsure.interval[0], unsure.recited_interval[0]) == (0.0, 0.0)
