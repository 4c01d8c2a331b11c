"""Regions, deviations and curves of experiments on both sides of their boundaries, at numbers that are known."""

import math

import pytest
import torch

from diffuscope.experiments import boundary_map, cross, gap_filling, kernel_flow
from diffuscope.experiments import reverse_diffusion_is_a_bridge as bridge
from diffuscope.experiments.memorization_transition import gaps
from diffuscope.experiments.moments import apart

DOUBLE = torch.float64


def test_deviations_count_on_either_side():
    shares = [torch.tensor([0.1, 0.3]), torch.tensor([0.5, 0.7])]
    assert boundary_map.farthest_mean(shares, [0.2, 0.9]) == pytest.approx(0.3)
    assert boundary_map.farthest_mean(shares, [0.2, 0.3]) == pytest.approx(0.3)
    assert apart((1.0, 2.0), (4.0, 2.5)) == apart((4.0, 2.5), (1.0, 2.0)) == 3.0
    assert apart((1.0, 2.0), (1.5, 6.0)) == apart((1.5, 6.0), (1.0, 2.0)) == 4.0


def test_the_gaps_are_between_a_quarter_and_three_quarters_on_either_side():
    x = torch.tensor([0.5, -0.5, 0.25, 0.75, -0.25, -0.75, 0.0, 1.0], dtype=DOUBLE)[None, :, None]
    assert gap_filling.gap_mass(x).tolist() == [2 / 8]


@pytest.mark.parametrize("sign", [1, -1])
def test_the_square_and_the_cross_are_the_same_on_every_side(sign):
    """At 0 degrees the points are on the axes: a side's middle is (1/2, 1/2), a diagonal is an axis."""
    places = {"near": [0.0, 0.9], "edge": [0.5, 0.5], "cross": [0.4, 0.0], "none": [0.0, 1.3], "outer": [0.6, 0.65]}
    x = sign * torch.tensor(list(places.values()), dtype=DOUBLE)
    found = cross.regions(x, 0.0)
    assert found["near"].tolist() == [True, False, False, False, False]
    assert found["edge"].tolist() == [False, True, False, False, False]
    assert found["cross"].tolist() == [False, False, True, False, False]
    inner = cross.regions(sign * torch.tensor([[0.35, 0.4], [0.5, 0.45]], dtype=DOUBLE), 0.0)
    assert inner["edge"].tolist() == [False, True]  # 0.25 / sqrt 2 and 0.05 / sqrt 2 inside of the side


def test_the_cross_is_counted_beyond_the_edges():
    on = {"cross": [0.0, 0.0], "edge": [0.5, 0.5], "away": [2.0, 2.0]}
    x = torch.tensor([[on["cross"], on["cross"], on["edge"], on["away"]], [on["edge"]] * 2 + [on["away"]] * 2])
    assert cross.cross_beyond_edges(x.double(), 0.0).tolist() == [0.25, -0.5]


def test_a_column_without_samples_stays_empty():
    shares = torch.tensor([[1.0, 0.0], [3.0, 0.0]], dtype=DOUBLE)
    assert cross.columns_normalized(shares).tolist() == [[0.25, 0.0], [0.75, 0.0]]


def test_the_first_cell_of_a_histogram_begins_with_its_edge_and_the_last_ends_before_its():
    edge = torch.tensor([[[-1.5, -1.5], [1.5, 1.5], [1.499, 1.499], [9.0, 0.0]]], dtype=DOUBLE)
    found = cross.histogram(edge)
    assert float(found.sum()) == 0.5
    assert (float(found[0, 0]), float(found[-1, -1])) == (0.25, 0.25)


@pytest.mark.parametrize(("low", "high", "used"), [(0.9, 1.0, 1.0), (0.0, 0.1, 1.0), (0.4, 0.6, 0.0)])
def test_a_mass_outside_of_its_published_range_is_outside_on_either_side(low, high, used):
    """Two models of 0.4 and 0.6: the mean is 0.5 and its standard error 0.1, so that four of these are 0.4."""
    panel = object.__new__(cross.Square)
    object.__setattr__(panel, "masses", {"near": torch.tensor([0.4, 0.6], dtype=DOUBLE)})
    assert cross.outside(panel, 0.0, "near", low, high) == pytest.approx(used)


def test_the_functions_of_a_kernel_have_their_parity_and_the_first_alone_is_one_at_zero():
    values = kernel_flow.features(torch.tensor([[0.0], [0.3], [-0.3]], dtype=DOUBLE))
    assert values[0].tolist() == pytest.approx([1.0] + [0.0] * (values.shape[1] - 1), abs=1e-250)
    signs = torch.where(torch.arange(values.shape[1]) % 2 == 1, -1.0, 1.0)
    assert torch.equal(values[2], signs * values[1])
    assert float(values[1, 1]) == pytest.approx(0.6 * math.exp(-(0.6**2) / 2))


def test_a_gap_that_closes_at_once_opens_between_its_levels():
    """From 2 to 0, which counts as 0.001: the line of logarithms meets 1 after log 2 of log 2000."""
    gap = torch.zeros(len(gaps.LEVELS), dtype=DOUBLE)
    assert math.isnan(float(gaps.opening(gap)))
    gap[0] = 2.0
    share = math.log(2) / math.log(2000)
    expected = gaps.LEVELS[0] ** (1 - share) * gaps.LEVELS[1] ** share
    assert float(gaps.opening(gap)) == pytest.approx(float(expected))
    assert float(gaps.opening(torch.ones(len(gaps.LEVELS), dtype=DOUBLE))) == float(gaps.LEVELS[-1])


def test_the_bridge_of_the_ring_begins_at_twice_its_radius_and_ends_on_it():
    case = bridge.ring_case()
    assert case.start.tolist() == [0.0, 10.0]
    assert case.end.tolist() == pytest.approx([5 / math.sqrt(2)] * 2)
    assert (float(case.levels[0]), float(case.levels[-1])) == pytest.approx((10**1.5, 10**-0.4))
    shares = case.share(case.bridge)
    assert torch.allclose(shares, case.times / case.times[-1])
    assert (float(shares[0]), float(shares[-1])) == pytest.approx((0.0, 1.0))
    assert case.off_bridge(case.bridge + 2) == pytest.approx(2)
    assert case.off_bridge(case.bridge - 2) == pytest.approx(2)
