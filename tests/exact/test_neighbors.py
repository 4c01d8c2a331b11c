"""Nearest neighbors are those of a brute-force search, ties included."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diffuscope.errors import InputError
from diffuscope.exact import _screening, nearest_neighbors, nearest_other_neighbors, neighbors
from diffuscope.exact._screening import PointTable


def brute_force(queries: torch.Tensor, points: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    squares = (queries.double().flatten(1)[:, None] - points.double().flatten(1)).square().sum(2)
    squares, indices = squares.sort(dim=1, stable=True)
    return squares[:, :k].sqrt(), indices[:, :k]


@given(
    seed=st.integers(0, 10_000),
    n=st.integers(1, 120),
    event=st.sampled_from([(1,), (2,), (2, 3)]),
    offset=st.sampled_from([0.0, 1000.0]),
    grid=st.sampled_from([2, 64]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
@settings(max_examples=100, deadline=None)
def test_neighbors_are_those_of_a_brute_force_search_with_the_least_index_first_among_ties(
    seed, n, event, offset, grid, dtype
):
    generator = torch.Generator().manual_seed(seed)
    # values on a coarse grid: many exact ties and duplicates
    points = offset + torch.randint(grid, (n, *event), generator=generator).to(dtype)
    queries = offset + torch.randint(grid, (7, *event), generator=generator).to(dtype)
    k = min(n, 5)
    distances, indices = nearest_neighbors(queries, points, k)
    exact, exact_indices = brute_force(queries, points, k)
    torch.testing.assert_close(distances, exact, rtol=1e-14, atol=0)
    assert torch.equal(indices, exact_indices)


def test_distances_do_not_cancel_far_from_the_origin(generator):
    points = 1e4 + torch.rand(2000, 10, generator=generator)
    queries = points[:50] + 0.01 * torch.randn(50, 10, generator=generator)
    distances, indices = nearest_neighbors(queries, points, 3)
    exact, exact_indices = brute_force(queries, points, 3)
    torch.testing.assert_close(distances, exact, rtol=1e-13, atol=0)
    assert torch.equal(indices, exact_indices)


def test_points_and_queries_in_many_chunks_give_the_same_neighbors(generator):
    points, queries = torch.rand(5000, 4, generator=generator), torch.rand(1100, 4, generator=generator)
    distances, indices = nearest_neighbors(queries, points, 4)
    exact, exact_indices = brute_force(queries, points, 4)
    torch.testing.assert_close(distances, exact, rtol=1e-13, atol=0)
    assert torch.equal(indices, exact_indices)


def test_a_point_is_not_its_own_other_neighbor_but_its_duplicate_is(generator):
    points = torch.randn(200, 3, generator=generator)
    points[100:150] = points[0]  # fifty-one equal points: more than are listed
    distances, indices = nearest_other_neighbors(points, 3)
    assert not bool((indices == torch.arange(200)[:, None]).any())
    assert float(distances[0].max()) == 0
    squares = (points.double()[:, None] - points.double()).square().sum(2).fill_diagonal_(torch.inf)
    torch.testing.assert_close(distances, squares.sort(1).values[:, :3].sqrt(), rtol=1e-13, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("offset", [0.0, 30.0])
def test_no_screening_score_is_wrong_by_more_than_its_bound(dtype, offset, generator, monkeypatch):
    points = (offset + torch.randn(500, 784, generator=generator, dtype=torch.float64)).to(dtype)
    table = PointTable(points, torch.zeros(500, dtype=torch.float64), 2**24)
    queries = (100 * torch.randn(20, 784, generator=generator, dtype=torch.float64)).to(dtype)
    kappa = torch.full((20,), 50.0, dtype=torch.float64)
    scores = table.scores(0, 500, queries, kappa).double()
    # float64 by halves: exact products of float32 values, an order of magnitude above float64's own rounding
    exact = queries.double() @ points.double().T - kappa[:, None] * table.half_squares
    assert bool(((scores - exact).abs().amax(1) <= table.score_bound(queries, kappa)).all())
    # 784 coordinates in eight sums of 100 and fewer: the bound of 107 terms
    monkeypatch.setattr(_screening, "COLUMNS", 100)
    parts = table.scores(0, 500, queries, kappa).double()
    assert bool(((parts - exact).abs().amax(1) <= table.score_bound(queries, kappa, summed=107)).all())


@pytest.mark.parametrize("k", [1, 5])
def test_in_many_dimensions_only_the_nearest_are_compared_exactly(k, generator, monkeypatch):
    """Of points in 2^17 dimensions the squared distances differ by 0.4%, less than twice the worst case of one sum.

    Five pairs or so of a query are compared in float64 where a score is summed over 4,096 coordinates at a time.
    """
    points, queries = torch.randn(40, 2**17, generator=generator), torch.randn(6, 2**17, generator=generator)
    compared, exactly = [], neighbors._half_square_distance

    def counted(*given: Any) -> torch.Tensor:
        compared.append(len(given[-1]))
        return exactly(*given)

    monkeypatch.setattr(neighbors, "_half_square_distance", counted)
    squares = torch.stack([(points.double() - query.double()).square().sum(1) for query in queries])
    expected = squares.sort(dim=1, stable=True)
    for columns, most in ((4096, 6 * (k + 2)), (2**17, 6 * 40 * 3)):
        monkeypatch.setattr(_screening, "COLUMNS", columns)
        compared.clear()
        distances, indices = nearest_neighbors(queries, points, k)
        torch.testing.assert_close(distances, expected.values[:, :k].sqrt(), rtol=1e-13, atol=0)
        assert torch.equal(indices, expected.indices[:, :k])
        assert 6 * k <= sum(compared) <= most
    assert sum(compared) >= 6 * 20  # in one sum hardly a point can be left out


def test_neighbors_of_points_that_require_gradients_carry_no_graph(generator):
    points = torch.randn(20, 3, generator=generator)
    leaves = points.clone().requires_grad_()
    for found, expected in (
        (nearest_neighbors(leaves, leaves, 2), nearest_neighbors(points, points, 2)),
        (nearest_other_neighbors(leaves, 2), nearest_other_neighbors(points, 2)),
    ):
        assert not any(tensor.requires_grad for tensor in found)
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_all_points_are_asked_for_at_most(generator):
    points = torch.randn(5, 2, generator=generator)
    assert nearest_neighbors(points, points, 5)[1].shape == (5, 5)
    assert nearest_other_neighbors(points, 4)[1].shape == (5, 4)


def test_bad_input_is_refused_with_the_argument_named():
    points = torch.zeros(5, 2)
    with pytest.raises(InputError, match="points: expected floating-point"):
        nearest_neighbors(points, points.to(torch.uint8), 1)
    with pytest.raises(InputError, match="queries: expected finite"):
        nearest_neighbors(points * torch.nan, points, 1)
    with pytest.raises(InputError, match="queries: expected events of the 2 values"):
        nearest_neighbors(torch.zeros(5, 3), points, 1)
    with pytest.raises(InputError, match="k: expected 1"):
        nearest_neighbors(points, points, 6)
    with pytest.raises(InputError, match="k: expected 1"):
        nearest_other_neighbors(points, 5)
    for k in (0, -1):
        with pytest.raises(InputError, match="k: expected 1"):
            nearest_neighbors(points, points, k)
        with pytest.raises(InputError, match="k: expected 1"):
            nearest_other_neighbors(points, k)
    with pytest.raises(InputError, match="points: expected at least one"):
        nearest_neighbors(points, points[:0], 1)
