"""The parts of the bound on a tracked mean, each with made-up numbers that leave it alone or show its share."""

import math

import pytest
import torch
from point_tables import table_of
from torch import Tensor

from diffuscope.exact._screening import PointTable
from diffuscope.exact.tracked_points import EXTRA, GridPoints
from diffuscope.exact.tracked_scores import TrackedLevel, TrackedScores, float64_mean
from numbers_in_tests import double

LEVEL = TrackedLevel(0.6, 0.5)  # k = 2.4, kappa = 1.44
SINGLE, DOUBLE = 2.0**-24, 2.0**-53


def grid_of(planes: list[list[list[int]]], *, step: float = 1.0, residual: float = 0.0) -> GridPoints:
    """Points with these digits, about 0."""
    digits = tuple(torch.tensor(plane, dtype=torch.int8) for plane in planes)
    pieces = tuple((torch.nn.functional.pad(plane.T, (0, 0, 0, EXTRA)),) for plane in digits)
    norms = tuple(float(plane.double().norm(dim=1).max()) for plane in digits)
    return GridPoints(digits, pieces, 0.0, step, residual, norms, 0.0, 1.0)


def state_of(table: PointTable, grid: GridPoints, dtype: torch.dtype = torch.float64) -> TrackedScores:
    """One row that is at p = 0 without an error."""
    state = TrackedScores(table, grid, 1, dtype)
    state.factor, state.left = 1.0, torch.zeros(1).double()
    return state


def errors(state: TrackedScores) -> tuple[float, float]:
    eta, epsilon = state.score_error(LEVEL)
    return float(eta), float(epsilon)


AT_ZERO, ONE_DIGIT = [[0.0, 0.0]], [[[0, 0]]]


def test_scores_without_any_error_have_that_of_the_exponential():
    for dtype, unit in ((torch.float32, SINGLE), (torch.float64, DOUBLE)):
        assert errors(state_of(table_of(AT_ZERO), grid_of(ONE_DIGIT), dtype)) == (32 * unit, 32 * unit)


def test_the_rounding_of_products_counts_in_units_of_the_scores():
    state = state_of(table_of(AT_ZERO), grid_of(ONE_DIGIT, step=0.25))
    state.factor, state.rounded = 3.0, double(5.0)
    assert errors(state)[0] == pytest.approx(2.4 * 0.25 * 3 * 5, rel=1e-12, abs=0)
    # of another query as much as it is longer: |q| = 10 and |p| = 5
    state.p = double([3.0, 4.0])
    assert float(state.past_error(double([6.0, 8.0]), LEVEL)) == pytest.approx(2 * 2.4 * 0.25 * 3 * 5, rel=1e-12, abs=0)


def test_scores_are_rounded_by_the_size_of_their_product_and_of_their_bias():
    state = state_of(table_of(AT_ZERO), grid_of(ONE_DIGIT, step=0.25), torch.float32)
    state.factor, state.size = 3.0, double(7.0)
    three = 3 * 2.4 * 0.25 * 3 * 7
    assert errors(state)[0] == pytest.approx(SINGLE * (1.001 * three + 32), rel=1e-12, abs=0)
    # h = 8 at most and a log-weight of -2: both in the bias of a score, rounded twice; in float64, h itself and its sum
    wide = table_of([[-4.0, 0.0], [4.0, 0.0]], [0.0, -2.0])
    bias = 1.44 * 8 + 2
    expected = SINGLE * (1.001 * 2 * bias + 32) + 18 * DOUBLE * bias
    assert errors(state_of(wide, grid_of(ONE_DIGIT), torch.float32))[0] == pytest.approx(expected, rel=1e-12, abs=0)


def test_what_the_digits_of_points_and_query_leave_out_counts_in_full():
    """k |p| |R|, k |e| rho, and the products in float64 that stand for exact ones."""
    state = state_of(table_of(AT_ZERO, radius=1.5), grid_of(ONE_DIGIT, residual=0.1))
    state.p, state.left = double([3.0, 4.0]), double(0.2)
    eta, epsilon = errors(state)
    assert eta == pytest.approx(2.4 * 5 * 0.1, rel=1e-12, abs=0)
    assert epsilon - eta == pytest.approx(2.4 * 0.2 * 1.5, rel=1e-12, abs=0)
    exact = state_of(table_of(AT_ZERO, radius=1.5), grid_of(ONE_DIGIT))
    exact.p = state.p
    assert errors(exact)[0] == pytest.approx(DOUBLE * (32 + 18 * 2.4 * 5 * 1.5), rel=1e-12, abs=0)


def test_every_product_rounds_itself_and_every_sum_all_that_is_in_it():
    """Two planes of norms 10 and 1024, a digit of norm 5 and step -2, factor 2: products of 50 and 20 at most."""
    grid = grid_of([[[6, 8]], [[0, 0]]])
    object.__setattr__(grid, "norms", (10.0, 1024.0))
    found = [(torch.tensor([[3], [4]], dtype=torch.int8), -2.0)]
    for before, size, first in ((1.0, 100.0, 50.0), (1.0, 2.0, 1.001 * 23)):  # at most what the sum has changed by
        state = state_of(table_of(AT_ZERO), grid, torch.float32)
        state.factor, state.size, state.rounded = 2.0, double(size), double(1e-9)
        state._count_rounding(found, double(before))
        sums = 2 * (size + 20)
        assert float(state.rounded) == pytest.approx(
            1e-9 + 1.001 * SINGLE * (3 * first + 3 * 20 + sums), rel=1e-12, abs=0
        )
    state._count_rounding([], double(0.0))
    assert float(state.rounded) == pytest.approx(1e-9 + 1.001 * SINGLE * (3 * first + 60 + sums), rel=1e-12, abs=0)


def test_a_query_that_is_a_multiple_of_the_last_takes_no_product_and_another_is_made_anew():
    """q = a p + r is made from the past while |r| < |q| / 2 in the largest entry and 1e-6 < a < 1e6."""
    for query, anew in (
        ([2.0, 0.0], False),
        ([2.0, 1.0], True),
        ([2.0, 0.999], False),
        ([2.0, -1.0], True),
        ([1e-6, 0.0], True),
        ([1.01e-6, 0.0], False),
        ([1e6, 0.0], True),
        ([0.99e6, 0.0], False),
        ([-1.0, 0.0], True),
    ):
        state = state_of(table_of([[-1.0, 0.0], [1.0, 2.0]]), grid_of([[[-1, -1], [1, 1]]]))
        state.forget()
        state.move(double([1.0, 0.0]), LEVEL, double(math.inf))
        assert (state.fresh, state.factor, state.products, state.p.tolist()) == (True, 1.0, 1, [[1.0, 0.0]])
        assert float(state.left) == pytest.approx(64 * DOUBLE * 2, rel=1e-12, abs=0)
        assert state.G.flatten().tolist() == pytest.approx([-1.0, 1.0], rel=1e-14, abs=0)
        state.move(double(query), LEVEL, double(math.inf))
        assert (state.fresh, state.factor) == (anew, 1.0 if anew else query[0]), query
        assert state.products == 1 + (anew or query[1] != 0)
        products = double([-1.0, -1.0], [1.0, 1.0]) @ state.p[0]
        torch.testing.assert_close(state.factor * state.G[:, 0], products, rtol=1e-12, atol=0)
        off, norm = (double(*query) - state.p[0]).norm(), math.hypot(*query)
        assert float(state.left) == pytest.approx(
            float(off) + 64 * DOUBLE * (norm + float(state.p.norm())), rel=1e-6, abs=0
        )
        assert float(off) <= abs(query[1]) / 100
        assert float(state.size) == pytest.approx(abs(float(products[0])) / state.factor, rel=1e-12, abs=0)


def test_digits_are_added_until_what_is_left_is_allowed_and_five_at_most():
    q = torch.rand(1, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 0.01
    unit = q.max() / 127
    left = float((q - (q / unit).round() * unit).norm())  # after one digit
    for allowed, digits in ((1.0, 1), (1.001 * left, 1), (0.999 * left, 2), (0.0, 5)):
        state = state_of(table_of([[0.0] * 8, [1.0] * 8]), grid_of([[[0] * 8, [1] * 8]]))
        state.forget()
        state.move(q, LEVEL, double(allowed))
        assert state.products == digits, allowed
    assert float(state.left) < left / 200**4


def test_kept_rows_keep_their_past():
    state = TrackedScores(table_of([[-1.0, 0.0], [1.0, 2.0]]), grid_of([[[-1, 3], [1, 1]]]), 3, torch.float64)
    state.move(double([1.0, 0.0], [0.0, 1.0], [1.0, 1.0]), LEVEL, torch.ones(3).double())
    G, rounded = state.G.clone(), state.rounded.clone()
    state.keep(torch.tensor([2, 0]))
    assert (state.n_rows, state.p.tolist(), state.G.tolist()) == (2, [[1, 1], [1, 0]], G[:, [2, 0]].tolist())
    assert torch.equal(state.rounded, rounded[[2, 0]])
    assert state.size.tolist() == pytest.approx([2, 1])


class Known(TrackedScores):
    """Scores whose errors are stated."""

    def score_error(self, level: TrackedLevel) -> tuple[Tensor, Tensor]:
        assert level is LEVEL
        return self.stated

    stated: tuple[Tensor, Tensor]


def bounded(
    points: list[float], weights: list[int], *, offset: float, residual: float, eta: float, epsilon: float, left: float
) -> tuple[float, float, float, float]:
    """(mean, error, variance, effective number) of points with integer weights, in halves of a unit about an offset."""
    y, w = double(*points), double(*weights)
    table = table_of([[value] for value in points], radius=2.0 if len(points) > 1 else 0.0)
    half_squares = (y - y.mean()).square() / 2
    none = torch.zeros(0, 1, dtype=torch.int8)
    grid = GridPoints((none,), (), offset, 0.5, residual, (0.0,), float(half_squares.sum()), 0.5)
    sums = torch.zeros(1 + EXTRA, 1).double()
    sums[0] = ((y - offset) * w).sum() / 0.5
    squares = float((half_squares * w).sum() / 0.5)
    sums[-EXTRA], sums[1 - EXTRA], sums[2 - EXTRA] = w.sum(), 1.0, squares - 256
    state = Known(table, grid, 1, torch.float64)
    state.left, state.stated = double(left), (double(eta), double(epsilon))
    found = state._bounded(LEVEL, sums, None)
    return tuple(map(float, (found.value, found.error, found.variance, found.effective)))  # pyright: ignore


def test_the_bound_on_a_mean_is_the_sum_of_its_four_parts():
    """Points 0 and 4 with weights 3 and 1: D = 1, V = 3, and sum |y - D|^2 = 10; the cut of a weight is below 1."""
    for eta, epsilon, left, residual in (
        (0.0, 0.0, 0.0, 0.0),
        (0.1, 0.3, 0.0, 0.0),
        (0.0, 0.1, 0.2, 0.0),
        (0, 0, 0, 0.01),
    ):
        mean, error, variance, effective = bounded(
            [0.0, 4.0], [3, 1], offset=1.0, residual=residual, eta=eta, epsilon=epsilon, left=left
        )
        V = 3 + 10 / 4 + residual * (8 * 2 + residual) + 1e-9 * 2**2
        parts = 2.4 * left * V + math.expm1(eta) * math.sqrt(V) + math.sqrt(2 * 10) / 4
        assert mean == 1.0
        assert variance == pytest.approx(V, rel=1e-12, abs=0)
        assert error == pytest.approx(math.exp(2 * epsilon) * parts + residual, rel=1e-12, abs=0)
        assert effective == 4 / 2e9


def test_the_mean_of_one_point_is_wrong_by_roundings_of_itself_and_of_the_offset_of_the_grid():
    _, error, variance, _ = bounded([3.0], [5], offset=-1.0, residual=0.0, eta=0.0, epsilon=0.0, left=0.0)
    assert (error, variance) == (64 * DOUBLE * (3 + 1), 0.0)


def test_a_bound_beyond_all_numbers_is_infinite():
    assert bounded([0.0, 4.0], [3, 1], offset=1.0, residual=0.0, eta=0.0, epsilon=1e4, left=0.0)[1] == math.inf


def test_the_error_of_the_mean_in_float64_is_that_of_its_scores_and_of_its_sums():
    """Points 0 and 4 with weights 3 to 1 at x = 2 alpha, in the middle: D = 1 and V = 3."""
    table = table_of([[0.0], [4.0]], [0.0, -math.log(3)])
    alpha, sigma = double(0.6), double(0.5)
    mean, error = float64_mean(table, double([1.2]), alpha, sigma)
    assert float(mean) == pytest.approx(1, rel=1e-12, abs=0)
    sizes = 0 + 1.44 * 2 + math.log(3) + 800 + 2.4 * (1.2 + 0.6 * 2) * 2
    V = 3 + 1e-9 * 4
    eta = 2 * 17 * DOUBLE * sizes
    assert float(error) == pytest.approx(eta * math.sqrt(V) + 4 * 18 * DOUBLE * (2 + 4), rel=1e-9, abs=0)
    # a query away from the center counts with its length; and no error exceeds the diameter
    x = 0.6 * 2 + 0.5
    _, away = float64_mean(table, double([x]), alpha, sigma)
    odds = math.exp(2.4 * 0.5 * 4 - math.log(3))
    share = odds / (1 + odds)
    sizes = 2.4 * 0.5 * 2 + 1.44 * 2 + math.log(3) + 800 + 2.4 * (x + 0.6 * 2) * 2
    V = 16 * share * (1 - share) + 1e-9 * 4
    eta = 2 * 17 * DOUBLE * sizes
    assert float(away) == pytest.approx(eta * math.sqrt(V) + 4 * 18 * DOUBLE * 6, rel=1e-9, abs=0)
    assert float(float64_mean(table, double([1.2]), 1e12 * alpha, double(1e-4))[1]) == 4.0


def test_where_one_point_has_all_the_weight_its_variance_is_a_billionth_of_the_squared_radius():
    table = table_of([[0.0], [4.0]], [0.0, -math.log(3)])
    _, error = float64_mean(table, double([0.0]), double(1.0), double(1e-3))
    sizes = 2e6 * 2 + 1e6 * 2 + math.log(3) + 800 + 1e6 * (0 + 2) * 2
    expected = 2 * 17 * DOUBLE * sizes * math.sqrt(1e-9 * 4) + 4 * 18 * DOUBLE * 6
    assert float(error) == pytest.approx(expected, rel=1e-6, abs=0)


def test_the_largest_product_of_all_pieces_is_kept_and_the_center_is_off_by_the_rounding_of_its_sum():
    """4,097 points are two pieces, the second of one point alone."""
    points = torch.zeros(4097, 1)
    points[0], points[1], points[4096] = 1.0, -1.0, 0.5
    table = PointTable(points, torch.zeros(4097).double(), 2**20)
    state = TrackedScores(table, GridPoints.of(table), 1, torch.float64)
    state.move(double([1.0]), LEVEL, double(0.0))
    scores = 2.4 * (points[:, 0].double() - state.grid.offset) - 0.72 * points[:, 0].double().square()
    assert float(state.size) == pytest.approx(float((points - state.grid.offset).abs().max()) / state.grid.step)
    assert float(state.largest) == pytest.approx(float(scores.max()), abs=1e-3)
    assert state._off_center() == 4097 * DOUBLE * 1.0
    wide = state_of(table_of([[3.0, 4.0], [0.0, 0.0]]), grid_of([[[3, 4], [0, 0]]]))
    assert wide._off_center() == pytest.approx(math.sqrt(2) * 2 * DOUBLE * 5, rel=1e-12, abs=0)
