"""What the heads of experiments derive from their settings: grids, features, shares, against values by hand."""

import math
import re

import pytest
import torch

from diffuscope.experiments import (
    boundary_map,
    closure,
    cross,
    double_moon,
    entropy,
    feature_kernel,
    gap_filling,
    kernel_flow,
    three_modes,
)
from diffuscope.experiments.memorization_transition import gaps
from diffuscope.experiments.target_variance import networks

DOUBLE = torch.float64


@pytest.mark.parametrize(
    ("grid", "first", "last", "number"),
    [
        (closure.PROBES[:, 0], -1.25, 1.25, 6),
        (closure.EDGES, -1.5, 1.5, 61),
        (entropy.TIMES, 0.01, 2.0, 41),
        (feature_kernel.PLACES[:, 0], -1.2, 1.2, 17),
        (gap_filling.EDGES, -1.5, 1.5, 61),
        (kernel_flow.POINTS[:, 0], -1.0, 1.0, 21),
    ],
)
def test_places_are_at_equal_distances_between_their_ends(grid, first, last, number):
    step = (last - first) / (number - 1)
    assert grid.tolist() == pytest.approx([first + k * step for k in range(number)], abs=1e-12)


@pytest.mark.parametrize(
    ("levels", "first", "last", "number"),
    [
        (double_moon.SHOWN, 10**-1.3, 10**0.7, 13),
        (double_moon.REGIONS.tolist(), 1e-5, 1.0, 11),
        (double_moon.TEN.tolist(), 0.01, 10.0, 10),
        (gaps.LEVELS.tolist(), 0.015, 1.5, 9),
        (networks.LEVELS.tolist(), 0.02, 1.0, 8),
    ],
)
def test_levels_are_at_equal_ratios_between_their_ends(levels, first, last, number):
    ratio = (last / first) ** (1 / (number - 1))
    assert levels == pytest.approx([first * ratio**k for k in range(number)], rel=1e-12)


def test_shares_of_an_unweighted_loss_are_those_that_the_page_states():
    """78% at sigma = 0.01 and 8e-7 at 10, of a sum over ten levels."""
    assert double_moon.__doc__ is not None
    assert "78% at" in double_moon.__doc__
    assert "8e-7 at" in double_moon.__doc__
    shares = double_moon.TEN**-2 / (double_moon.TEN**-2).sum()
    assert [round(float(shares[0]), 2), float(f"{shares[-1]:.0e}")] == [0.78, 8e-7]


def test_points_of_a_data_set_are_those_that_the_page_lists():
    text = " ".join(str(boundary_map.__doc__).split()).partition('points of "L" are')[2].partition("The means")[0]
    listed = [tuple(map(float, pair)) for pair in re.findall(r"\((-?[\d.]+), (-?[\d.]+)\)", text)]
    points = [*boundary_map.DATA_SETS["L"].tolist(), *boundary_map.DATA_SETS["random"].tolist()]
    assert listed == list(map(tuple, points))


def test_ten_functions_on_each_of_three_axes_are_a_thousand_features_and_waves_repeat():
    """Of period 3 in x and y and 0.99 in t, the length of [0.01, 1]."""
    x, t = torch.tensor([[0.3, -0.8]], dtype=DOUBLE), torch.tensor([0.2], dtype=DOUBLE)
    for features in (cross.FEATURES, feature_kernel.FEATURES):
        assert {each.number for each in features.values()} == {1000}
        waves = features["Fourier"]
        for y, s in ((x + torch.tensor([3.0, 0.0]), t), (x - torch.tensor([0.0, 3.0]), t), (x, t + 0.99)):
            torch.testing.assert_close(waves(y, s), waves(x, t), rtol=0, atol=1e-12)
        assert float((waves(x + 1.5, t) - waves(x, t)).abs().max()) > 0.5
        assert float((waves(x, t + 0.495) - waves(x, t)).abs().max()) > 0.5
        assert float((waves(x, t + 0.33) - waves(x, t)).abs().max()) > 0.5


def test_the_middles_of_a_squares_sides_are_half_a_diagonal_from_its_center():
    assert feature_kernel.SQUARE.norm(dim=1).tolist() == [1.0] * 4
    assert {tuple(middle) for middle in feature_kernel.EDGES.tolist()} == {
        (0.5, 0.5),
        (-0.5, 0.5),
        (-0.5, -0.5),
        (0.5, -0.5),
    }
    assert feature_kernel.CENTER.tolist() == [[0.0, 0.0]]


def test_three_modes_have_the_angles_and_the_variance_of_a_coordinate_is_that_of_the_mixture():
    """At 12, 8 and 4 o'clock: the squares of their coordinates have the mean 1/2."""
    half, root = 0.5, math.sqrt(0.75)
    expected = torch.tensor([[0.0, 1.0], [-root, -half], [root, -half]], dtype=DOUBLE)
    torch.testing.assert_close(three_modes.MODES.means, expected, rtol=0, atol=1e-12)
    mean = three_modes.MODES.denoise(torch.zeros(1, 2, dtype=DOUBLE), 0.0, 1.0)  # of a point that says nothing
    assert float(mean.abs().max()) < 1e-12
    assert pytest.approx(0.1225) == three_modes.VARIANCE
    assert pytest.approx(0.6225) == three_modes.SCALE**2
