"""In other units, points, states and noise c times as large, all lengths are c times as large and shares the same.

With c a power of two this holds to the last bit of the numbers, and nearly so for the errors that are stated.
"""

import dataclasses
import math

import pytest
import torch

from diffuscope.exact import Empirical, TrackedEmpirical
from diffuscope.exact._screening import PointTable
from diffuscope.exact.tracked_points import GridPoints
from diffuscope.exact.tracked_scores import TrackedLevel, TrackedScores, float64_mean
from diffuscope.exact.tracked_survivors import Survivors
from immutable import equal_by_fields

pytestmark = pytest.mark.usefixtures("one_thread")

C = 1024.0


def cloud(generator: torch.Generator) -> torch.Tensor:
    return 3.0 + torch.randn(50, 8, generator=generator)


def copies(generator: torch.Generator) -> torch.Tensor:
    """Where one point has all the weight, its copies have no variance: what bounds it is the radius of the others."""
    return cloud(generator)[torch.tensor(100 * [0] + 10 * [1])]


@pytest.mark.parametrize("points", [cloud, copies])
@pytest.mark.parametrize("way", ["part", "posterior_part"])
@pytest.mark.parametrize("precision", [torch.float32, torch.float64])
@pytest.mark.parametrize("sigma", [0.01, 0.05, 0.5, 5.0])
def test_means_and_errors_of_a_posterior_are_lengths_and_masses_are_shares(points, way, precision, sigma, generator):
    y = points(generator)
    x = (y[:4] + sigma * torch.randn(4, 8, generator=generator)).to(precision)
    one, level = torch.ones(4, dtype=torch.float64), torch.full((4,), sigma, dtype=torch.float64)
    here = getattr(Empirical(y.to(precision)), way)(x, one, level)
    there = getattr(Empirical(C * y.to(precision)), way)(C * x, one, C * level)
    torch.testing.assert_close(there.mean, C * here.mean, rtol=1e-7, atol=0)
    torch.testing.assert_close(there.log_mass, here.log_mass, rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(there.error, C * here.error, rtol=1e-6, atol=0)
    torch.testing.assert_close(there.log_error, here.log_error, rtol=1e-6, atol=0)
    assert bool((here.error > 0).all())


def near_ties(generator: torch.Generator, sigma: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A data set with weights, and samples near one point, between two, and far from all."""
    y = 3.0 + torch.randn(50, 8, generator=generator, dtype=torch.float64)
    x = torch.stack([y[0], (y[1] + y[2]) / 2, 2 * y[3]])
    x = x + sigma * torch.randn(3, 8, generator=generator, dtype=torch.float64)
    return y, x, torch.rand(50, generator=generator, dtype=torch.float64) + 0.1


@pytest.mark.parametrize("precision", [torch.float32, torch.float64])
@pytest.mark.parametrize("sigma", [0.001, 0.05, 0.5, 5.0])
def test_variances_are_squares_of_lengths_scores_inverse_lengths_and_relative_errors_numbers(
    precision, sigma, generator
):
    y, x, weights = near_ties(generator, sigma)
    here, there = Empirical(y.to(precision), weights), Empirical((C * y).to(precision), weights)
    x = x.to(precision)
    v = torch.randn(x.shape, generator=generator, dtype=torch.float64).to(precision)
    a, b = here.posterior_covariance(x, 0.7, sigma), there.posterior_covariance(C * x, 0.7, C * sigma)
    for ours, theirs, power in (
        (a.trace(), b.trace(), 2),
        (a.diagonal(), b.diagonal(), 2),
        (a.matvec(v), b.matvec(v), 2),
        (here.score(x, 0.7, sigma), there.score(C * x, 0.7, C * sigma), -1),
        (
            here.denoise_with_error(x, 0.7, sigma).relative_error,
            there.denoise_with_error(C * x, 0.7, C * sigma).relative_error,
            0,
        ),
        (here.nearest(x, 0.7, sigma, 3).distances, there.nearest(C * x, 0.7, C * sigma, 3).distances, 1),
        (here.nearest(x, 0.7, sigma, 3).weights, there.nearest(C * x, 0.7, C * sigma, 3).weights, 0),
    ):
        torch.testing.assert_close(theirs, C**power * ours, rtol=1e-6, atol=0)
    # a density per volume: log p falls by d log C
    log_here, log_there = here.log_prob(x, 0.7, sigma), there.log_prob(C * x, 0.7, C * sigma)
    torch.testing.assert_close(log_there.double(), log_here.double() - 8 * math.log(C), rtol=1e-6, atol=1e-6)


def tables(generator: torch.Generator, spread: float = 1.0) -> tuple[PointTable, PointTable]:
    """Points with unequal weights, and the same in other units."""
    y, _, weights = near_ties(generator, 0.5)
    log_weights = spread * (weights / weights.max()).log()
    return PointTable(y.float(), log_weights, 2**20), PointTable((C * y).float(), log_weights, 2**20)


@pytest.mark.parametrize("precision", [torch.float32, torch.float64])
def test_errors_of_scores_are_those_of_their_three_terms(precision, generator):
    """u [(d + 5) |q| max |y| + 5 kappa max h + 4 max |l|] at most, and 2 u [|q| |y| + kappa h + |l|] typically."""
    table, u = tables(generator)[0], torch.finfo(precision).eps / 2
    y, log_weights = table.points.double(), table.log_weights.abs()
    h = (y - y.mean(0)).square().sum(1) / 2
    q = torch.randn(3, 8, generator=generator).to(precision) * torch.tensor([[0.0], [1.0], [20.0]], dtype=precision)
    kappa = torch.tensor([7.0, 0.0, 3.0], dtype=torch.float64)
    norm, norms = q.double().norm(dim=1), y.norm(dim=1)
    bound = u * (13 * norm * norms.max() + 5 * kappa * h.max() + 4 * log_weights.max())
    torch.testing.assert_close(table.score_bound(q, kappa), bound, rtol=1e-5, atol=0)
    partial = u * (8 * norm * norms.max() + 5 * kappa * h.max() + 4 * log_weights.max())
    torch.testing.assert_close(table.score_bound(q, kappa, summed=3), partial, rtol=1e-5, atol=0)
    typical = 2 * u * (norm * norms.square().mean().sqrt() + kappa * h.mean() + log_weights.mean())
    torch.testing.assert_close(table.score_error(q, kappa), typical, rtol=1e-5, atol=0)
    assert table.spread == pytest.approx(float((2 * h.mean()).sqrt()), rel=1e-6)
    assert table.radius == pytest.approx(float((2 * h.max()).sqrt()), rel=1e-6)


@pytest.mark.parametrize(("alpha", "sigma"), [(0.7, 0.2), (0.7, 3.0), (0.3, 0.05)])
def test_bounds_of_a_tracked_mean_are_lengths(alpha, sigma, generator):
    _, x, _ = near_ties(generator, sigma)
    found = []
    for table, c in zip(tables(generator), (1.0, C), strict=True):
        grid, level = GridPoints.of(table), TrackedLevel(alpha, c * sigma)
        scores = TrackedScores(table, grid, 3)
        for at in (x, 0.9 * x + 0.01):
            q = c * at - alpha * table.center
            scores.move(q, level, torch.full((3,), 1e-4 * c, dtype=torch.float64))
        found.append((scores, level, scores.mean(level), q))
    (a, level, here, q), (b, level_c, there, q_c) = found
    torch.testing.assert_close(there.value, C * here.value, rtol=1e-9, atol=0)
    torch.testing.assert_close(there.error, C * here.error, rtol=1e-6, atol=0)
    torch.testing.assert_close(there.variance, C**2 * here.variance, rtol=1e-6, atol=0)
    torch.testing.assert_close(there.effective, here.effective, rtol=1e-6, atol=0)
    torch.testing.assert_close(b.left, C * a.left, rtol=1e-6, atol=0)
    torch.testing.assert_close(b.past_error(q_c, level_c), a.past_error(q, level), rtol=1e-6, atol=0)
    for ours, theirs in zip(a.score_error(level), b.score_error(level_c), strict=True):
        torch.testing.assert_close(theirs, ours, rtol=1e-6, atol=0)
    for name in ("residual", "step", "offset"):
        assert getattr(b.grid, name) == pytest.approx(C * getattr(a.grid, name), rel=1e-9)
    assert b.grid.norms == pytest.approx(a.grid.norms)
    some = a.mean(level, torch.tensor([2, 0]))
    for name in ("value", "error", "variance", "effective"):
        torch.testing.assert_close(getattr(some, name), getattr(here, name)[[2, 0]], rtol=1e-12, atol=0)


@pytest.mark.parametrize(("alpha", "sigma"), [(0.7, 0.2), (0.7, 3.0)])
def test_the_bound_of_a_mean_in_float64_and_of_survivors_is_a_length(alpha, sigma, generator):
    _, x, _ = near_ties(generator, sigma)
    one = torch.ones(3, dtype=torch.float64)
    found = []
    for table, c in zip(tables(generator), (1.0, C), strict=True):
        mean, error = float64_mean(table, c * x, alpha * one, c * sigma * one)
        z = c * x / alpha
        survivors = Survivors(table, torch.arange(3)[:, None], torch.ones(3, 1).bool(), z, -0.3 * c**2 * one)
        moved = torch.stack([survivors.bound_at(z), survivors.bound_at(0.8 * z + 0.1 * c), survivors.bound_at(2 * z)])
        found.append((mean, error, moved))
    for ours, theirs, power in zip(*found, (1, 1, 2), strict=True):
        torch.testing.assert_close(theirs, C**power * ours, rtol=1e-6, atol=0)
    assert bool((found[0][1] > 0).all())


@pytest.mark.parametrize("tolerance", [1e-2, 1e-4])
def test_a_tracked_denoiser_states_the_same_relative_errors_and_does_the_same_work_in_other_units(tolerance, generator):
    y, _, _ = near_ties(generator, 0.5)
    y = y.float()
    x, found = 3 * torch.randn(5, 8, generator=generator), []
    for c in (1.0, C):
        tracked = TrackedEmpirical(c * y, tolerance=tolerance)
        errors, state = [], c * x
        for sigma in (3.0, 2.0, 1.0, 0.4, 0.1):
            result = tracked.denoise_with_error(state, 1.0, c * sigma)
            errors.append(result.relative_error)
            state = result.value + 0.7 * (state - result.value)
        found.append((torch.stack(errors), state / c, dataclasses.astuple(tracked.work)))
    assert found[0][2] == found[1][2]
    torch.testing.assert_close(found[0][0], found[1][0], rtol=1e-6, atol=0)
    torch.testing.assert_close(found[0][1], found[1][1], rtol=1e-6, atol=0)


@pytest.mark.parametrize("still", [slice(0, 150), slice(150, 300)])
def test_errors_that_are_sampled_are_those_of_points_spread_over_all(still, generator):
    """Half of the points are the center, with exact scores: the root mean square error is that of the others."""
    y = 100 * torch.rand(300, 32, generator=generator)
    y[still] = y.double().mean(0).float()
    table = PointTable(y, torch.zeros(300, dtype=torch.float64), 2**20)
    q = torch.randn(5, 32, generator=generator)
    kappa = torch.full((5,), 0.01, dtype=torch.float64)
    exact = q.double() @ y.double().T - 0.01 * (y.double() - table.center).square().sum(1) / 2
    scores = torch.addr(torch.zeros(300, 1), table.half_squares.float(), -kappa.float()).addmm_(y, q.T)  # as in a pass
    error = (scores.T.double() - exact).square().mean(1).sqrt()
    found = table._sampled_error(q, kappa, table.products(torch.float32))
    # 64 points: a root mean square is known to a tenth
    assert bool((found > 0.6 * error).all())
    assert bool((found < 1.6 * error).all())
    # of the two estimates the smaller
    u = torch.finfo(torch.float32).eps / 2
    typical = 2 * u * (q.double().norm(dim=1) * table.typical_norm + 0.01 * table.half_squares.mean())
    expected = torch.minimum(typical, 4 * found)
    torch.testing.assert_close(table.score_error(q, kappa), expected, rtol=1e-5, atol=0)


def test_a_distribution_of_arrays_is_equal_to_itself_alone_and_one_of_numbers_where_these_are():
    assert equal_by_fields("exact", "denoise") == {"Ring"}
