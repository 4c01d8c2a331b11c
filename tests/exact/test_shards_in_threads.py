"""Each process reads its shard, and all have the moments, pairs, neighbors and posterior of the whole.

Here the processes are threads, of any number, whose shards may be of one point or empty.
"""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from diffuscope.distributed import rank
from diffuscope.errors import InputError
from diffuscope.exact import (
    Empirical,
    ShardedEmpirical,
    leading_pairs,
    nearest_neighbors,
    nearest_other_neighbors,
    sharded_leading_pairs,
    sharded_moments,
    sharded_neighbors,
    sharded_other_neighbors,
)
from diffuscope.exact.empirical import Part
from diffuscope.exact.sharded import Union
from diffuscope.exact.streaming import streamed_moments
from threads_as_processes import in_processes

some_processes = pytest.mark.parametrize("count", [1, 2, 3, 5])
POINTS = 100 + torch.randn(4, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def close(found: Any, expected: Any) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@some_processes
@pytest.mark.parametrize("n", [2, 4])
@pytest.mark.parametrize("width", [None, 2])
def test_moments_of_shards_are_those_of_the_whole(monkeypatch, count, n, width):
    drawn = [0]

    def probe(D: int) -> Tensor:
        drawn[0] += 1
        return torch.arange(1.0 * D * width).reshape(D, width).double()

    given = None if width is None else probe
    expected = streamed_moments([POINTS[:n]], given)
    drawn[0] = 0
    for found in in_processes(monkeypatch, count, lambda: sharded_moments(POINTS[:n], given)):
        close((found.mean, found.product), (expected.mean, expected.product))
        assert (found.count, found.trace) == (n, pytest.approx(expected.trace, rel=1e-9))
        close(found.mean, POINTS[:n].mean(0))
    assert drawn[0] == (0 if width is None else count)  # it may draw random numbers


@some_processes
def test_leading_pairs_of_shards_are_those_of_the_whole(monkeypatch, count):
    x = torch.randn(30, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * torch.arange(1.0, 6.0)
    expected = leading_pairs(lambda: [x], 2, generator=torch.Generator().manual_seed(0), n_passes=3)

    def work() -> Any:
        return sharded_leading_pairs(x, 2, generator=torch.Generator().manual_seed(0), n_passes=3)

    for found in in_processes(monkeypatch, count, work):
        close((found.eigenvalues, found.tail_variance), (expected.eigenvalues, expected.tail_variance))
        close(found.eigenvectors @ found.eigenvectors.T, expected.eigenvectors @ expected.eigenvectors.T)


@some_processes
def test_neighbors_and_their_order_among_ties_are_those_of_the_whole(monkeypatch, count):
    grid = torch.cartesian_prod(torch.arange(3.0), torch.arange(2.0))
    queries = grid + 0.5

    def work() -> Any:
        near = [sharded_neighbors(queries, grid, k) for k in (1, 4, 6)]
        return [*near, *(sharded_other_neighbors(grid, k) for k in (1, 5))]

    expected = [nearest_neighbors(queries, grid, k) for k in (1, 4, 6)]
    expected += [nearest_other_neighbors(grid, k) for k in (1, 5)]
    for found in in_processes(monkeypatch, count, work):
        for ours, whole in zip(found, expected, strict=True):
            assert torch.equal(ours[1], whole[1])
            close(ours[0], whole[0])


@some_processes
def test_what_cannot_be_is_refused_in_all(monkeypatch, count):
    poisoned = POINTS.clone()
    poisoned[-1, 0, 0] = torch.inf
    flat = POINTS.flatten(1)
    for work, said in (
        (lambda: sharded_moments(POINTS[:1]), "points: expected at least two to fit a Gaussian, got 1"),
        (lambda: sharded_moments(poisoned), "batches: expected finite values, got NaN or infinity"),
        (lambda: sharded_neighbors(flat, flat, 5), "k: expected 1 .. 4 (the number of points), got 5"),
        (lambda: sharded_neighbors(flat, flat, 0), "k: expected 1 .. 4 (the number of points), got 0"),
        (lambda: sharded_other_neighbors(flat, 4), "k: expected 1 .. 3 (the number of other points), got 4"),
        (lambda: sharded_other_neighbors(flat, 0), "k: expected 1 .. 3 (the number of other points), got 0"),
    ):
        for error in in_processes(monkeypatch, count, work):
            assert isinstance(error, InputError)
            assert str(error) == said


@pytest.mark.parametrize("count", [2, 5])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_posterior_of_shards_is_that_of_the_whole(monkeypatch, count, weighted):
    points = POINTS - 100
    weights = torch.tensor([0.5, 0.0, 1.0, 0.25], dtype=torch.float64) if weighted else None
    generator = torch.Generator().manual_seed(3)
    x, v = (torch.randn(5, 2, 3, dtype=torch.float64, generator=generator) for _ in range(2))

    def of(distribution: Any, alpha: float, sigma: float) -> list[Any]:
        covariance = distribution.posterior_covariance(x, alpha, sigma)
        nearest = distribution.nearest(x, alpha, sigma, k=2)
        sampled = distribution.sample(20, generator=torch.Generator().manual_seed(4))
        return [
            distribution.denoise(x, alpha, sigma), distribution.score(x, alpha, sigma),
            distribution.log_prob(x, alpha, sigma), covariance.matvec(v), covariance.trace(), covariance.diagonal(),
            nearest.weights, nearest.distances, nearest.indices, sampled, distribution.points,
            distribution.denoise_with_error(x, alpha, sigma).value,
        ]  # fmt: skip

    for alpha, sigma in ((1.0, 0.3), (0.6, 0.8), (0.2, 30.0)):
        expected = of(Empirical(points, weights), alpha, sigma)

        def work(alpha: float = alpha, sigma: float = sigma) -> Any:
            return rank(), of(ShardedEmpirical(points, weights), alpha, sigma)

        for r, found in in_processes(monkeypatch, count, work):
            assert 0 <= r < count
            close(found, expected)


def test_the_union_of_parts_adds_their_errors_and_what_their_masses_move_the_mean(monkeypatch):
    """Masses 3 and 1 about 0 and 4, which explain x = 2 alike; a third part weighs nothing, and a fourth is empty.

    D = 3/4 1 + 1/4 5 = 2, and the means 1 and 5 have the variance 3/4 1^2 + 1/4 3^2 = 3 about it.
    """
    x, one = torch.tensor([[2.0]], dtype=torch.float64), torch.ones(1, dtype=torch.float64)

    def part(reference: float, mass: float, log_error: float, mean: float, error: float) -> Part:
        log_mass = (mass * one).log()
        return Part(reference * one[None], log_mass, log_error * one, mean * one[None], error * one)

    parts = [part(0.0, 3.0, 0.1, 1.0, 0.5), part(4.0, 1.0, 0.3, 5.0, 0.25), part(0.0, 0.0, 9.0, 7.0, 7.0), None]
    found = in_processes(monkeypatch, 4, lambda: Union.of(parts[rank()], x, one, one))
    for union, share, shift in zip(found, (0.75, 0.25, 0.0, 0.0), (-1.0, 3.0, 0.0, 0.0), strict=True):
        assert float(union.mean) == pytest.approx(2, rel=1e-12)
        assert float(union.error) == pytest.approx(0.75 * 0.5 + 0.25 * 0.25 + 2 * 0.3 * 3**0.5, rel=1e-12)
        assert float(union.log_evidence) == pytest.approx(math.log(4) - 2, rel=1e-12)
        assert (float(union.share), float(union.shift)) == (pytest.approx(share), pytest.approx(shift))
