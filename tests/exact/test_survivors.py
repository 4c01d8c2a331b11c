"""The survivors of a tracked denoiser in a case that is solved by hand: their mean, its bound, and how it moves."""

import math

import pytest
import torch
from torch import Tensor

from diffuscope.exact._posterior import Noised
from diffuscope.exact._screening import PointTable
from diffuscope.exact.tracked_survivors import Survivors


def cross() -> PointTable:
    """One point at the origin, one above it, and eight copies to the right, with other weights; their mean is c."""
    points = torch.tensor([[0.0, 0.0], [0.0, 1.0], *8 * [[1.0, 0.0]]], dtype=torch.float64)
    log_weights = torch.tensor([-2.0, -1.0, *8 * [0.0]], dtype=torch.float64)
    return PointTable(points, log_weights, 2**20)


def noised_by(z: Tensor, alpha: float, tau: float) -> Noised:
    ones = torch.ones(len(z), dtype=torch.float64)
    return Noised(alpha * z, alpha * ones, alpha * tau * ones, z, ones / tau**2)


def test_the_error_of_few_survivors_is_the_weight_of_the_others_times_the_farthest_they_move_the_mean():
    """At z = (-3/2, 0), L of the right is -2 and of the upper -1/2; with tau = 1/2, log-odds -8 + 2 and -2 + 1."""
    table, z = cross(), torch.tensor([[-1.5, 0.0]], dtype=torch.float64)
    bound, center = torch.tensor([-2.0], dtype=torch.float64), torch.tensor([0.8, 0.1], dtype=torch.float64)
    survivors = Survivors(table, torch.tensor([[0, 1]]), torch.tensor([[True, True]]), z, bound)
    noised = noised_by(z, 0.6, 0.5)
    mean, error, variance, after = survivors.mean(noised, bound, window=5.0)
    share = math.exp(-1) / (1 + math.exp(-1))
    torch.testing.assert_close(mean, torch.tensor([[0.0, share]], dtype=torch.float64), rtol=1e-12, atol=1e-15)
    assert float(variance) == pytest.approx(share * (1 - share), rel=1e-12)
    outside = 10 * math.exp(-8 + 2) / (1 + math.exp(-1))
    farthest = math.hypot(0.8, 0.9) + float((mean[0] - center).norm())
    assert float(error) == pytest.approx(outside * farthest, rel=1e-9)
    assert (after.indices.tolist(), after.counted.tolist(), float(after.bound)) == ([[0, 1]], [[True, True]], -2.0)
    assert torch.equal(after.z, z)
    # the upper point is one logit below: left out in a window of less, and the bound on the others is then its L
    _, same, _, fewer = survivors.mean(noised, bound, window=0.99)
    assert torch.equal(same, error)
    assert (fewer.indices.tolist(), float(fewer.bound)) == ([[0]], pytest.approx(-0.5, abs=1e-12))
    assert survivors.mean(noised, bound, window=1.01)[3].indices.tolist() == [[0, 1]]
    # what may weigh more than all else says nothing beyond the diameter
    _, most, _, _ = survivors.mean(noised, bound + 4, window=5.0)
    assert float(most) == pytest.approx(2 * math.hypot(0.8, 0.9), rel=1e-6)


def test_the_bound_on_the_others_moves_with_the_state():
    """a L + max over rho of |r| rho - (1 - a) rho^2 / 2, rho up to twice the largest distance; none where a < 0."""
    table, z = cross(), torch.tensor([[-1.5, 0.0]], dtype=torch.float64)
    survivors = Survivors(table, torch.tensor([[0]]), torch.tensor([[True]]), z, torch.tensor([-2.0]).double())
    farthest = math.hypot(0.8, 0.1) + math.hypot(0.8, 0.9)
    for a, r in ((1.0, 0.0), (0.5, 0.0), (0.5, 0.3), (1.0, 0.3), (2.0, 0.3), (0.9, 0.6)):
        rho = min(farthest, r / (1 - a)) if a < 1 else farthest
        expected = -2 * a + r * rho - (1 - a) / 2 * rho**2
        there = torch.tensor([[-1.5 * a, r]], dtype=torch.float64)
        assert float(survivors.bound_at(there)) == pytest.approx(expected, abs=1e-9), (a, r)
        # and it bounds: L of the others at the new place
        assert float(there @ torch.tensor([1.0, 0.0]).double() - 0.5) <= expected + 1e-9
    assert float(survivors.bound_at(-z)) == math.inf
    wide = survivors.joined(
        Survivors(table, torch.tensor([[1, 0]]), torch.tensor([[True, True]]), 2 * z, survivors.bound)
    )
    assert wide.indices.tolist() == [[0, 0], [1, 0]]
    assert wide.counted.tolist() == [[True, False], [True, True]]
    assert wide[torch.tensor([1])].z.tolist() == [[-3.0, 0.0]]
