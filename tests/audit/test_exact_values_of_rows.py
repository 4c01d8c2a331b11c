"""Neighbors, rows, their effective number and densities around samples, in cases counted by hand."""

import inspect
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from diffuscope.audit.closeness import Neighborhood, neighborhood
from diffuscope.audit.column_permutations import drawn_sets, effective_number, shrinking
from diffuscope.audit.copy_queries import Queries
from diffuscope.audit.distance_measures import distinct_rows
from diffuscope.audit.feature_likelihood import fitted_variances, log_likelihood
from diffuscope.audit.questions.memorized import _nearness
from diffuscope.audit.rows_of import AT_ONCE, RowsOf, at_once, few_enough, nearest_rows, part_of, rows_of
from diffuscope.errors import InputError
from diffuscope.exact import nearest_neighbors
from numbers_in_tests import rng

# neighbors, rows and permutations


def test_closeness_is_the_smaller_of_position_and_ratio():
    """Training 0, 4 and (0, 3); the query (1, 0): c_2 = 1/4, c_3 = 0, b = (1/9 + 1/10) / 4."""
    train = torch.tensor([[0.0, 0.0], [4.0, 0.0], [0.0, 3.0]])
    found = neighborhood(torch.tensor([[1.0, 0.0]]), train, 3)
    assert found.distance[0].tolist() == pytest.approx([1.0, 3.0, 10**0.5])
    assert found.between[0].tolist() == pytest.approx([0.0, 4.0, 3.0])
    # c_j = 1/2 + (d_1^2 - d_j^2) / (2 |y_1 - y_j|^2) = 1/2 - 8/32 = 1/4 and 1/2 - 9/18 = 0
    a, b = 0.25, (1 / 9 + 1 / 10) / 4
    assert found.closeness(0.0)[0] == pytest.approx(min(a, b) + b / 2)
    assert found.relative(0.0)[0] == pytest.approx(1 / 3)
    assert found.relative(3.5)[0] == pytest.approx(1 / 3)  # the row at 3 of the first is one with it
    assert found.relative(4.0)[0] == 0.0  # none is different: 1 / infinity
    assert np.isnan(found.closeness(4.0)[0])
    half = neighborhood(torch.tensor([[1.9, 0.0]]), train, 3)
    ratio = (1.9**2 / 2.1**2 + 1.9**2 / (1.9**2 + 9)) / 4
    position = 0.5 + (1.9**2 - 2.1**2) / 32
    assert position > ratio
    assert half.closeness(0.0)[0] == pytest.approx(1.5 * ratio)


def test_the_smaller_of_both_is_the_position_near_one_of_two_far_examples():
    train = torch.tensor([[0.0, 0.0], [1.0, 0.0]])
    found = neighborhood(torch.tensor([[0.1, 5.0]]), train, 2)
    ratio = (0.01 + 25) / (0.81 + 25) / 2
    assert found.closeness(0.0)[0] == pytest.approx(0.1 + ratio / 2)


def test_isolation_counts_rows_as_often_as_they_occur_and_not_itself():
    found = Neighborhood(
        index=np.zeros((1, 3), int), distance=np.zeros((1, 3)), between=np.array([[0.0, 1.0, 2.0]]),
        times=np.array([[3, 4, 50]]),
    )  # fmt: skip
    # two more of itself at 0, four at 1, and ten of the last at 2 to make 16
    assert found.isolation[0] == pytest.approx((2 * 0 + 4 * 1 + 10 * 4) / 16)
    assert found.closeness(0.0)[0] == pytest.approx(-44 / 16)
    assert found.part(np.array([0])).isolation.tolist() == found.isolation.tolist()


def test_rows_made_when_they_are_read_have_the_neighbors_of_rows_that_are_held():
    events = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))
    index = torch.tensor([5, 1, 39, 7, 7, 20])
    lazy = RowsOf(events, index, lambda x: 2 * x[:, :4], 4)
    held = 2 * events[index, :4]
    assert lazy.shape == held.shape == (6, 4)
    assert torch.equal(lazy[torch.tensor([[0, 3], [5, 2]])], held[torch.tensor([[0, 3], [5, 2]])])
    assert torch.equal(torch.cat(list(lazy.split(4))), held)
    distance, place = nearest_rows(events[:3, :4], lazy, 2)
    expected = nearest_neighbors(events[:3, :4], held, 2)
    assert torch.allclose(distance, expected[0])
    assert torch.equal(place, expected[1])
    part = part_of(lazy, torch.tensor([2, 0]))
    assert torch.equal(part[torch.arange(2)], held[[2, 0]])
    assert torch.equal(rows_of(events, lazy.function, index), held)  # pyright: ignore[reportArgumentType]


def test_no_more_rows_are_made_at_a_time_than_fit():
    assert at_once(AT_ONCE // 8) == 2
    assert at_once(AT_ONCE) == 1
    assert few_enough(300, AT_ONCE) == 256
    assert few_enough(100, AT_ONCE) == 100
    assert few_enough(10**9, AT_ONCE // 4 // 700) == 700


def test_repeated_rows_are_left_out_in_their_order():
    rows = torch.tensor([[3.0], [1.0], [3.0], [2.0]])
    assert distinct_rows(rows)[:, 0].tolist() == [3.0, 1.0, 2.0]  # pyright: ignore[reportArgumentType]
    assert distinct_rows(rows[:2]) is not None


def test_the_effective_number_of_rows_shrinks_with_their_groups():
    assert effective_number(5, torch.tensor([1, 1, 1, 2, 3])) == pytest.approx(25 / 11)
    n, m, others, known = 40, 30, 20, 90
    assert shrinking(n, m, others, known) == pytest.approx(math.sqrt((1 / 40 + 1 / 30) / (1 / 40 + 1 / 20 + 1 / 90)))
    samples, heldout = torch.zeros(9, 2), torch.zeros(8, 2)
    few, fewer, number = drawn_sets(samples, heldout, 6.0, 4, rng())
    assert (len(few), len(fewer), number) == (4, 4, 3.0)  # half of the held-out rows
    assert drawn_sets(samples, heldout, None, 100, rng())[2] == 8.0


def test_the_variances_of_gaussians_around_samples_follow_the_rows_they_explain():
    """Two far clusters, each around a sample: a variance is the mean squared distance over the dimension."""
    corners = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]]).double()
    centers = torch.tensor([[-6000.0, 0.0], [6000.0, 0.0]]).double()
    rows = torch.cat([centers[0] + 0.3 * corners, centers[1] + 1.2 * corners])
    square = torch.cdist(rows, centers).square()
    fitted = fitted_variances(square, rows)
    assert fitted.tolist() == pytest.approx([0.3**2, 1.2**2], rel=1e-6)
    density = log_likelihood(square[:1], fitted, 2)
    exact = math.log(0.5) - math.log(2 * math.pi * float(fitted[0])) - float(square[0, 0]) / (2 * float(fitted[0]))
    assert float(density[0]) == pytest.approx(exact)


def test_a_part_of_queries_has_their_statistics():
    generator = torch.Generator().manual_seed(0)
    rows, train = torch.randn(5, 2, generator=generator), torch.randn(9, 2, generator=generator)
    near = neighborhood(rows, train, 9)
    whole = Queries(rows, train, np.ones(9, dtype=int), near, list("abcde"), np.arange(5.0))
    chosen = np.array([3, 0, 4])
    part = whole.part(chosen)
    assert part.transformation == ["d", "a", "e"]
    assert part.untransformed.tolist() == [3.0, 0.0, 4.0]
    assert part.train is train
    assert part.times.tolist() == [1] * 9
    for radius in (0.0, 0.7):
        assert part.statistic(radius) == pytest.approx(whole.statistic(radius)[chosen])
        assert part.next_distance(radius).tolist() == whole.next_distance(radius)[chosen].tolist()
    nearest = torch.cdist(rows.double(), train.double()).min(1).values[chosen]
    assert part.distance == pytest.approx(nearest.numpy(), rel=1e-5)


def test_without_heldout_examples_there_is_no_nearness():
    nobody = SimpleNamespace(heldout=np.array([], dtype=int), leaked={0: 3, 1: 4})
    x = torch.randn(6, 2, generator=torch.Generator().manual_seed(0))
    session = SimpleNamespace(subject=SimpleNamespace(train=x, heldout=x + 1), samples=x)
    with pytest.raises(InputError, match="heldout: expected examples that are no training examples, got 2 that are"):
        inspect.unwrap(_nearness)(session, lambda x: x, nobody, "pixels", 0.01)
