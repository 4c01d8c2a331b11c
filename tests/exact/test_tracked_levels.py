"""What tracking needs of a table of points: the equal steps of their values, and their weighted mean in float64."""

import pytest
import torch
from torch import Tensor

from diffuscope.exact import _posterior
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


@pytest.mark.parametrize("queries", [1, 3, 4, 6])
def test_queries_that_do_not_fill_the_groups_of_the_threads_have_the_same_mean(monkeypatch, queries):
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(9, 3, dtype=torch.float64, generator=generator)
    of = table(points, -torch.arange(9.0, dtype=torch.float64) / 9)
    x = torch.randn(queries, 3, dtype=torch.float64, generator=generator)
    ones = torch.ones(queries, dtype=torch.float64)
    noised = _posterior.Noised.at(x, 0.8 * ones, 0.6 * ones, of.center, torch.float64)
    few = _posterior.fused_mean(of, noised)
    monkeypatch.setattr(_posterior, "FEW_SCORES", 0)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    torch.testing.assert_close(_posterior.fused_mean(of, noised), few, rtol=1e-10, atol=1e-10)
