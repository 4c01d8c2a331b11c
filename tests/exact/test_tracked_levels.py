"""What tracking needs of a table of points: the equal steps of their values, and their weighted mean in float64."""

import pytest
import torch
from torch import Tensor

from diffuscope.exact import _means, _posterior
from diffuscope.exact._screening import PointTable
from diffuscope.exact.tracked_points import _levels
from diffuscope.exact.tracked_scores import float64_mean


def table(points: Tensor, log_weights: Tensor | None = None) -> PointTable:
    zero = torch.zeros(len(points), dtype=torch.float64)
    return PointTable(points, zero if log_weights is None else log_weights, 2**20)


@pytest.mark.parametrize(
    ("values", "levels"),
    [
        ([0.0, 1.0, 2.0], 2),
        ([0.0, 1.0, 4.0], 4),
        ([0.0, 0.98, 2.0], 256),  # just below half of the way, and just above
        ([0.0, 1.02, 2.0], 256),
        ([3.0, 3.0], 1),
        ([0.0, 1.0, 255.0], 255),
        ([0.0, 1.0, 256.0], 256),
    ],
)
def test_values_on_equal_steps_and_others_are_told_apart(values, levels):
    assert _levels(table(torch.tensor(values)[:, None])) == (min(values), max(values), levels)


def test_of_large_points_as_many_as_fit_are_looked_at():
    points = torch.zeros(2, 2**18)
    points[0, 0], points[1, 0] = 1.0, 0.5
    assert _levels(table(points)) == (0.0, 1.0, 1)
    assert _levels(table(points[:, : 2**17])) == (0.0, 1.0, 2)


def test_the_mean_in_float64_is_weighted_by_the_points_own_weights():
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(7, 3, dtype=torch.float64, generator=generator)
    log_weights = -torch.arange(7.0, dtype=torch.float64)
    alpha, sigma = torch.tensor([0.8, 0.3]).double(), torch.tensor([0.6, 2.0]).double()
    x = torch.randn(2, 3, dtype=torch.float64, generator=generator)
    mean, error = float64_mean(table(points, log_weights), x, alpha, sigma)
    square = (x[:, None] - alpha[:, None, None] * points).square().sum(2)
    weights = (log_weights - square / (2 * sigma[:, None] ** 2)).softmax(1)
    torch.testing.assert_close(mean, weights @ points, rtol=1e-12, atol=1e-12)
    assert bool(((mean - weights @ points).norm(dim=1) <= error).all())
    assert bool((error < 1e-10).all())


@pytest.mark.parametrize("queries", [1, 3, 4])
def test_rows_and_points_in_parts_have_the_mean_of_all(monkeypatch, queries):
    """Two rows and four points at a time; the largest score comes first, in the middle, last."""
    monkeypatch.setattr(_means, "ROWS", 2)
    monkeypatch.setattr(_means, "COLLECTED", 4)
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(9, 3, dtype=torch.float64, generator=generator)
    log_weights = -torch.arange(9.0, dtype=torch.float64) / 9
    of = table(points, log_weights)
    x = 0.8 * points[torch.tensor([8, 0, 5, 3])[:queries]]
    ones = torch.ones(queries, dtype=torch.float64)
    found = _means.mean_at_one_level(of, _posterior.Noised.at(x, 0.8 * ones, 0.1 * ones, of.center, torch.float64))
    square = (x[:, None] - 0.8 * points).square().sum(2)
    weights = (log_weights - square / (2 * 0.1**2)).softmax(1)
    torch.testing.assert_close(found, weights @ points, rtol=1e-10, atol=1e-10)
