"""What samples that are tracked together are allowed, look for and keep, in cases that are solved by hand."""

import math

import pytest
import torch
from point_tables import table_of

from diffuscope.exact._posterior import Noised
from diffuscope.exact._screening import PointTable
from diffuscope.exact.tracked_points import GridPoints, _levels, half_squares_of
from diffuscope.exact.tracked_scores import TrackedLevel, TrackedScores
from diffuscope.exact.tracked_survivors import Survivors, select
from diffuscope.exact.tracking import Work, _Block
from numbers_in_tests import double


def block_of(points: list[list[float]], n_rows: int, tolerance: float = 0.01) -> _Block:
    table = table_of(points)
    block = _Block(table, GridPoints.of(table), tolerance)
    block._begin(n_rows)
    block.active = torch.arange(n_rows)
    return block


def survivors_of(block: _Block, indices: list[int], places: list[float], bounds: list[float]) -> Survivors:
    return Survivors(
        block.table,
        torch.tensor(indices)[:, None],
        torch.ones(len(indices), 1).bool(),
        double(*places)[:, None],
        double(*bounds),
    )


LINE = [[1.0], [3.0]]  # the center is 2, the radius 1, and the typical norm sqrt 5


def test_the_error_allowed_is_relative_to_the_result_or_to_a_tenth_of_the_typical_norm():
    block = block_of(LINE, 2)
    allowed = 0.01 / 1.01 - 2 * 2.0**-24  # of what is returned, and in float32
    found = block._allowed(double([-2.0], [0.2]))
    assert found.tolist() == pytest.approx([2 * allowed, 0.1 * math.sqrt(5) * allowed], rel=1e-12, abs=0)


def test_of_a_query_as_much_may_be_left_as_moves_the_mean_by_half_of_the_error_and_a_score_by_one():
    """k |e| V <= allowed / 2 and k |e| rho <= 1, with k = 2.4 and rho = 1; where V is 0 the second alone."""
    block = block_of(LINE, 3)
    block.variance = double(4.0, 0.001, 0.0)
    left = block._allowed_left(TrackedLevel(0.6, 0.5), double(0.1, 0.1, 0.1))
    assert left.tolist() == pytest.approx([0.1 / (2 * 4 * 2.4), 1 / 2.4, 1 / 2.4], rel=1e-12, abs=0)
    assert block._allowed_left(TrackedLevel(0.0, 0.5), double(*[0.1] * 3)).tolist() == [math.inf] * 3
    # one point has no radius: any query will do
    alone = block_of([[2.0]], 1)
    assert float(alone._allowed_left(TrackedLevel(0.6, 0.5), double(0.1))) > 1e90


@pytest.mark.parametrize(("points", "change"), [(LINE, 2 / math.sqrt(0.05)), ([[30.0], [30.1]], 1.0)])
def test_what_is_outside_of_the_window_weighs_less_than_a_hundredth_of_the_tolerance_by_e_to_the_4(points, change):
    """All N points together move the mean by at most the diameter, or by as much as a tenth of the typical norm."""
    assert block_of(points, 1)._window() == pytest.approx(math.log(2) + math.log(change / 1e-4) + 4, rel=1e-12, abs=0)


def test_a_block_begins_with_the_largest_variance_and_without_a_past():
    block = block_of([[1.0], [5.0]], 3)
    assert (block.n_rows, block.scores, block.survivors, block.effective) == (3, None, None, 0.0)
    assert block.variance.tolist() == [4.0] * 3


def test_scores_are_kept_for_fewer_rows_once_these_are_less_than_three_quarters():
    block = block_of(LINE, 8)
    block.active = torch.zeros(0, dtype=torch.int64)
    state = block._state_of(torch.arange(8))
    state.move(torch.arange(1.0, 9.0).double()[:, None], TrackedLevel(0.6, 0.5), torch.ones(8).double())
    assert block._state_of(torch.tensor([0, 2, 3, 4, 5, 7])) is state
    assert (state.n_rows, block.active.tolist()) == (8, list(range(8)))
    p = state.p[[0, 3, 4, 5, 7]].clone()
    assert block._state_of(torch.tensor([0, 3, 4, 5, 7])) is state
    assert (state.n_rows, block.active.tolist(), state.p.tolist()) == (5, [0, 3, 4, 5, 7], p.tolist())
    # a row without a past begins anew with all that are asked for
    other = block._state_of(torch.tensor([0, 1]))
    assert (other is state, other.n_rows, block.active.tolist(), block.scores is other) == (False, 2, [0, 1], True)


def test_rows_that_are_frozen_again_take_the_place_of_what_was_known_of_them():
    block = block_of(LINE, 4)
    block._freeze(torch.tensor([0, 2]), survivors_of(block, [0, 1], [0.0, 2.0], [-1.0, -2.0]))
    block._freeze(torch.tensor([2, 3]), survivors_of(block, [0, 1], [4.0, 5.0], [-3.0, -4.0]))
    assert block.survivors is not None
    assert (block.frozen.tolist(), block.survivors.bound.tolist()) == ([0, 2, 3], [-1.0, -3.0, -4.0])
    assert block.survivors.z.flatten().tolist() == [0.0, 4.0, 5.0]
    block._freeze(torch.tensor([0, 2, 3]), survivors_of(block, [1, 1, 1], [7.0] * 3, [-9.0] * 3))
    assert (block.frozen.tolist(), block.survivors.bound.tolist()) == ([0, 2, 3], [-9.0] * 3)


def test_frozen_rows_are_computed_where_all_others_may_weigh_less_than_the_tolerance():
    """At the place where they froze: bound / tau^2 + log N against log tolerance, with tau = 1/2 and N = 2."""
    edge = (math.log(0.01) - math.log(2)) / 4
    block, x = block_of(LINE, 3), 0.8 * double([1.0], [1.0], [3.0])
    block._freeze(torch.tensor([0, 1]), survivors_of(block, [0, 0], [1.0, 1.0], [1.01 * edge, 0.99 * edge]))
    ones = torch.ones(3).double()
    noised = Noised(x, 0.8 * ones, 0.4 * ones, x, 4 * ones)
    mean, error = torch.zeros_like(x), math.inf * ones
    block._by_frozen(noised, mean, error)
    assert mean.flatten().tolist() == [1.0, 0.0, 0.0]
    # the others weigh at most e^(bound / tau^2) N, at the distance rho + |y - c| = 2
    assert float(error[0]) == pytest.approx(math.exp(4 * 1.01 * edge) * 2 * 2, rel=1e-9, abs=0)
    assert error[1:].tolist() == [math.inf] * 2
    pure = Noised(x, 0 * ones, 0.4 * ones, x, 0 * ones)
    block._by_frozen(pure, mean, error)
    assert mean.flatten().tolist() == [1.0, 0.0, 0.0]


def state_with(table: PointTable, scores: list[list[float]]) -> TrackedScores:
    """Scores as stated: one row of them per point."""
    grid = GridPoints.of(table)
    state = TrackedScores(table, grid, len(scores[0]))
    state.G, state.scale = torch.tensor(scores), 1.0
    state.bias = torch.zeros(len(scores), 1)
    state.largest = state.G.amax(0)
    return state


def test_survivors_are_the_scores_within_the_window_the_largest_first_and_no_more_than_64():
    """Ninety points; the second sample has 64 of them at the top and the third 65; its rows are counted apart."""
    table = table_of([[float(i)] for i in range(90)], [-float(i % 3) for i in range(90)])
    scores = torch.full((90, 4), -20.0)
    just, below = torch.nextafter(torch.tensor([-2.0, -2.0 - 2**-22]), torch.tensor(-torch.inf)).tolist()
    scores[70, 0], scores[71, 0], scores[80, 0], scores[81, 0] = just, -1.0, 0.0, below
    scores[:64, 1], scores[:65, 2], scores[89, 3] = 1.0, 1.0, 3.0
    window, error = double(2.0, 1.0, 1.0, 1.0), double(0.1, 0.2, 0.3, 0.4)
    ones = torch.ones(4).double()
    x = double([1.0], [2.0], [3.0], [4.0])
    rows, found = select(state_with(table, scores.tolist()), window, error, Noised(x, 0.5 * ones, 2 * ones, x, ones))
    assert found is not None
    assert rows.tolist() == [0, 1, 3]
    assert found.counted.sum(1).tolist() == [3, 64, 1]
    assert found.indices[0, :3].tolist() == [80, 71, 70]
    assert sorted(found.indices[1].tolist()) == list(range(64))
    assert int(found.indices[2, 0]) == 89
    assert found.counted[:, 0].tolist() == [True] * 3
    assert found.z.flatten().tolist() == [2.0, 4.0, 8.0]
    # tau^2 = 16; the reference's own log-weight, above the least of -2, is what the odds of another may gain
    prior = [0.0, -float(int(found.indices[1, 0]) % 3) + 2, -2.0 + 2]
    expected = [16 * (2 * e - w + 1e-6 + p) for e, w, p in zip((0.1, 0.2, 0.4), (2, 1, 1), prior, strict=True)]
    assert found.bound.tolist() == pytest.approx(expected, rel=1e-9, abs=0)


@pytest.mark.parametrize(("crowded", "looked"), [(3, True), (4, False)])
def test_none_is_looked_for_where_more_than_three_quarters_of_the_rows_have_more_than_two_of_a_sample(crowded, looked):
    """Every 32nd of 96 points is looked at first: three of them are at the top in rows that are crowded."""
    table = table_of([[float(i)] for i in range(96)])
    scores = torch.full((96, 4), -20.0)
    scores[1] = 0.0
    scores[::32, :crowded] = torch.nextafter(torch.tensor(-1.0), torch.tensor(-torch.inf))  # just within the window
    scores[::32, crowded:] = torch.tensor([0.0, 0.0, -20.0])[:, None]
    ones, x = torch.ones(4).double(), torch.ones(4, 1).double()
    state = state_with(table, scores.tolist())
    rows, found = select(state, ones, 0.1 * ones, Noised(x, ones, ones, x, ones))
    assert (rows.tolist(), found is not None) == (list(range(4)) if looked else [], looked)


def test_points_on_a_grid_have_its_step_and_offset_and_squares_rounded_up():
    """Bytes from 0 to 255 in steps of 1/4: one digit of byte - 128; of more values two digits about the middle."""
    table = table_of([[0.0, 63.75], [1.0, 0.25], [63.75, 2.0]])
    grid = GridPoints.of(table)
    assert (grid.step, grid.offset, len(grid.planes)) == (0.25, 32.0, 1)
    assert grid.planes[0].tolist() == [[-128, 127], [-124, -127], [127, -120]]
    assert grid.norms == pytest.approx((math.hypot(128, 127),))
    assert grid.norm == grid.norms[0]
    assert grid.sum_of_half_squares == pytest.approx(float(table.half_squares.sum()), rel=1e-12, abs=0)
    assert grid.residual == pytest.approx(8 * 2.0**-53 * math.sqrt(2) * (63.75 + 32), rel=1e-12, abs=0)
    assert grid.half_square_step == pytest.approx(float(table.half_squares.max()) / 32000, rel=1e-12, abs=0)
    squares = half_squares_of(grid.transposed[0][0].double(), grid)
    assert bool((squares >= table.half_squares).all())
    assert bool((squares <= table.half_squares + grid.half_square_step * (1 + 1e-6)).all())
    assert (grid.transposed[0][0][-16] == 1).all()
    two = GridPoints.of(table_of([[1.0], [1 + math.pi], [26.4]]))
    assert (two.step, two.offset, len(two.planes)) == (pytest.approx(0.1), pytest.approx(13.7), 2)
    assert two.norm == pytest.approx(two.norms[0] + two.norms[1] / 256, rel=1e-12, abs=0)
    assert [plane[1, 0].item() for plane in two.planes] == [-96, round((math.pi - 12.7 + 9.6) / 0.1 * 256)]
    off = abs(math.pi - 12.7 - 0.1 * (-96 + two.planes[1][1, 0].item() / 256))
    assert two.residual == pytest.approx(off, abs=1e-12)
    same = GridPoints.of(table_of([[2.0], [2.0]]))
    assert (same.step, same.offset, same.residual > 0) == (1.0, 130.0, True)


def test_gaps_of_a_hundred_thousandth_of_the_range_are_rounding():
    """Values 0, 1e-5 and 1 are two; a gap that is any larger makes steps that are too many."""
    assert _levels(table_of([[0.0], [1e-5], [1.0]])) == (0.0, 1.0, 1)
    assert _levels(table_of([[0.0], [1.001e-5], [1.0]])) == (0.0, 1.0, 256)


def test_of_points_in_several_pieces_the_largest_digits_and_what_is_left_of_any_count():
    """4,097 points are two pieces: the second has one point, in the middle of the grid."""
    points = torch.full((4097, 1), 1.0, dtype=torch.float64)
    points[0], points[1], points[2] = -1.0, 3.0, 0.12345
    table = PointTable(points, torch.zeros(4097).double(), 2**20)
    grid = GridPoints.of(table)
    assert list(grid.ranges()) == [slice(0, 4096), slice(4096, 4097)]
    assert grid.norms[0] == 127.0
    assert grid.norms[1] == float(grid.planes[1].double().abs().max()) > 0
    written = grid.offset + grid.step * sum(plane.double() / 256**j for j, plane in enumerate(grid.planes))
    assert grid.residual == pytest.approx(float((points - written).abs().max()), abs=1e-12)
    assert grid.residual > 1e-6


def test_survivors_are_looked_for_where_fewer_than_three_thousand_points_matter():
    for effective, few in ((3000.0, 0), (2999.0, 2)):
        block, work = block_of([[0.0], [100.0]], 2, tolerance=1e-3), Work()
        ones = torch.ones(2).double()
        x = double([0.1], [100.1])
        block.mean(x, 0 * ones, 3 * ones, work)  # pure noise: all points alike
        block.effective, work.few = effective, 0
        block.mean(x, ones, ones, work)
        assert work.few == few


def test_a_bound_that_is_the_tolerance_itself_is_not_computed():
    """One point, so that log N = 0, and tau = 1/2."""
    for share, mean in ((1.0, 0.0), (1.001, 2.0)):
        block, one = block_of([[2.0]], 1), torch.ones(1).double()
        block._freeze(torch.tensor([0]), survivors_of(block, [0], [2.0], [share * math.log(0.01) / 4]))
        x = double([2.0])
        found, error = torch.zeros_like(x), math.inf * one
        block._by_frozen(Noised(x, one, one / 2, x, 4 * one), found, error)
        assert float(found) == mean


def test_the_work_of_a_call_is_counted_by_samples():
    """Two points far apart at low noise: few survivors after a product, and then none."""
    block = block_of([[0.0], [100.0]], 2, tolerance=1e-3)
    ones, work = torch.ones(2).double(), Work()
    x = double([0.1], [100.1])
    for sigma in (1.0, 0.5):
        mean, error = block.mean(x, ones, sigma * ones, work)
        assert mean.flatten().tolist() == pytest.approx([0.0, 100.0], abs=1e-9)
        assert bool((error < 1e-3).all())
    assert (work.frozen, work.few, work.many, work.in_float64) == (2, 2, 0, 0)


def test_differences_on_a_grid_are_rounded_by_the_largest_value_and_by_the_offset():
    for low, high, offset in ((-3.0, 1.0, -3 + 4 * 128.0), (-1.0, 3.0, -1 + 4 * 128.0), (-3.0, -1.0, -3 + 2 * 128.0)):
        grid = GridPoints.of(table_of([[low], [high]]))
        assert grid.offset == offset
        assert grid.residual == 8 * 2.0**-53 * (3 + offset)


def test_at_the_place_of_the_heaviest_point_itself_a_bound_moves_by_the_distance_alone():
    """z = y_1: there is no direction to follow, so a = 1, and rho is at most |y_1 - c| + max |y - c| = 2."""
    survivors = survivors_of(block_of(LINE, 1), [0], [1.0], [-0.5])
    assert float(survivors.bound_at(double([1.25]))) == pytest.approx(-0.5 + 0.25 * 2, abs=1e-12)
