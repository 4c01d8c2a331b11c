"""What experiments count exactly at a bound: whether the bound itself is in or out."""

import math

import numpy as np
import pytest
import torch

from diffuscope.data import load_data
from diffuscope.denoisers import ExactDenoiser
from diffuscope.exact import Gaussian
from diffuscope.experiments import (
    boundary_map,
    cross,
    double_moon,
    gap_filling,
    largest_difference,
    naive_variance,
    nearness,
    sparse_fields,
    variance_on_digits,
    variations,
)
from diffuscope.experiments import samplers as sampling
from diffuscope.experiments.digit_models import digit_models
from diffuscope.experiments.double_moon.measures import VISIBLE, Agreement, Plane, by_density
from diffuscope.experiments.memorization_transition import gaps
from diffuscope.experiments.neural_vs_analytic import figures
from diffuscope.experiments.part import PIXEL_RANGE
from diffuscope.experiments.record import Record
from diffuscope.experiments.spectral_bias.linear_training import learning_rates
from diffuscope.experiments.support import starts
from diffuscope.experiments.target_variance import left_at_equal_error
from diffuscope.experiments.variance_on_digits import association
from diffuscope.findings import HeatMap
from diffuscope.schedules import VE
from numbers_in_tests import double

DOUBLE = torch.float64


@pytest.mark.parametrize(
    ("x", "width", "region"),
    [
        ((0.2, 1.0), 0.1, "near"),  # a fifth from a point
        ((0.75, 0.5), 0.25 / math.sqrt(2), "edge"),  # the distance from the side that joins (1, 0) and (0, 1)
        ((0.5, 0.125), 0.125, "cross"),
    ],
)
def test_regions_are_open_at_their_outer_ends(x, width, region):
    at, inside = double(*x)[None], double(*x)[None] * (1 - 1e-9)
    assert not cross.regions(at, 0.0, width)[region]
    assert cross.regions(inside if region != "near" else double(0.2 - 1e-9, 1.0)[None], 0.0, width)[region]


def test_what_is_as_far_from_an_edge_as_from_the_cross_is_of_the_cross():
    """Beyond the end of both, at (3/2, 1/8), both distances are that from the point (1, 0)."""
    found = cross.regions(double(1.5, 0.125)[None], 0.0, 0.6)
    assert (bool(found["edge"]), bool(found["cross"])) == (False, True)


def test_a_cell_of_half_noise_is_not_noise():
    share = torch.full((len(boundary_map.grid()),), 0.5, dtype=DOUBLE)
    data = boundary_map.DATA_SETS["line"]
    assert all(map(math.isnan, boundary_map.shape_of(share, data, 0.2)))
    share[0] += 1e-9
    corner = float((boundary_map.grid()[0] - math.sqrt(0.8) * data.mean(0)).norm())
    assert boundary_map.shape_of(share, data, 0.2)[1] == pytest.approx(corner)


def test_the_bar_of_the_double_moon_is_reached_at_the_bar():
    error, cosine = double_moon.LARGEST_ERROR, double_moon.LEAST_COSINE
    assert double_moon._reaches(Agreement(error, cosine, 1.0))
    assert not double_moon._reaches(Agreement(error + 1e-9, cosine, 1.0))
    assert not double_moon._reaches(Agreement(error, cosine - 1e-9, 1.0))


def test_bins_of_density_hold_their_upper_edge_and_not_their_lower():
    density, score = double(0.1, 0.2, 0.4, VISIBLE), torch.zeros(4, 2, dtype=DOUBLE)
    plane = Plane(double(0, 1), double(0, 1), torch.zeros(4, 2, dtype=DOUBLE), density, density / density.sum(), score)
    assert plane.visible.tolist() == [True, True, True, False]
    off = double(1, 2, 4, 8)[:, None] * double(0.6, 0.8)
    assert by_density(plane, off, 0.5, double(0.1, 0.2, 0.4)).tolist() == pytest.approx([1, 2])


def test_half_is_not_in_the_gap():
    assert naive_variance.share_of(double(0.5, -0.5, 0.25, 0.49))[0] == 0.5


def test_samples_beyond_the_last_cell_are_in_none_and_those_in_the_first_are():
    edges = gap_filling.EDGES
    first, last = float(edges[:2].mean()), float(edges[-2:].mean())
    x = double(first, float(edges[-1]) + 1, last, float(edges[0]) - 1)[None, :, None].expand(2, -1, -1)
    masses = gap_filling.densities(x) * edges.diff()
    assert masses[:, 0].tolist() == pytest.approx([0.25, 0.25])
    assert masses[:, -1].tolist() == pytest.approx([0.25, 0.25])
    assert masses.sum(1).tolist() == pytest.approx([0.5, 0.5])


def test_a_gap_of_one_is_open():
    gap = torch.full((len(gaps.LEVELS),), 0.5, dtype=DOUBLE)
    gap[2] = 1.0
    assert float(gaps.opening(gap)) == pytest.approx(float(gaps.LEVELS[2]))


@pytest.mark.parametrize(("used", "words"), [(1.0, "100% of its tolerance"), (1.001, "1x its tolerance")])
def test_a_claim_that_uses_all_of_its_tolerance_is_within_it(used, words):
    shown = Record(name="a", title="a", held=1, claims=1, used=used, closest="a", seconds=1.0, seed=0, code="")
    assert shown.margin == words


def test_a_sample_at_the_bound_of_a_copy_is_none(monkeypatch):
    """At 1 from one example and 3 from the other: a third as far, and at a radius of 1."""
    monkeypatch.setattr(nearness, "RADIUS", 1.0)
    assert nearness.copies(double(1, -3)[:, None], double(0)[None]).flatten().tolist() == [False, False]
    assert nearness.copies(double(1, -3.01)[:, None], double(0.001)[None]).flatten().tolist() == [True, True]


def test_noise_is_early_until_the_level_of_the_settings():
    end = float(sampling.SCHEDULE.time_of_noise_to_signal(0.8))
    assert (sampling.late(end), sampling.late(end + 1e-9)) == (0.2, 1.0)


def test_a_truth_at_the_largest_sample_is_not_covered(monkeypatch):
    x = torch.arange(sparse_fields.DRAWS, dtype=DOUBLE)[:, None, None].expand(-1, 1, 4)
    monkeypatch.setattr(sparse_fields, "generate", lambda *_, **__: x)
    low, high = float(x.min()), float(x.max())
    found = sparse_fields.sampled(
        ExactDenoiser(Gaussian.isotropic(double(0), 1.0), VE()), double(low, high, 0.5, high - 0.5)[None], 0
    )
    assert found.covered.tolist() == [[False, False, True, True]]


def test_a_uniform_start_has_its_density_at_its_ends():
    density = starts.uniform(-3.0, -1.0).density
    assert density is not None
    assert density(double(-3, -1, -3.001, -0.999)).tolist() == [0.5, 0.5, 0, 0]


def test_a_training_ends_with_the_step_that_reaches_its_end():
    assert learning_rates(0.5, 0.25, 0.25, 1.0).tolist() == [0.25] * 4


def test_equal_errors_are_met_where_they_are_equal():
    """Training errors 4, 2, 1 at M = infinity against 2 in the end at M = 1: met at the second look, exactly."""
    train = double(9, 5, 2)[:, None, None].expand(-1, 1, 2).clone()
    train[:, 0, 1] = double(4, 2, 1)
    heldout = torch.zeros(3, 1, 2, dtype=DOUBLE)
    heldout[:, 0, 1], heldout[-1, 0, 0] = double(7, 6, 8), 5
    assert left_at_equal_error(train, heldout).tolist() == [1]
    train[-1, 0, 0] = 4  # already at the first look
    assert left_at_equal_error(train, heldout).isnan().tolist() == [True]
    train[-1, 0, 0] = 0.5  # never
    assert left_at_equal_error(train, heldout).isnan().tolist() == [True]


def test_a_permutation_that_associates_as_much_counts(monkeypatch):
    """Every other order of two has the correlation 1."""
    monkeypatch.setattr(variance_on_digits, "PERMUTATIONS", 200)
    pair = torch.arange(2, dtype=DOUBLE)  # half of the orders of two are the same order
    found = association(pair, pair, np.random.default_rng(0)).p_value
    assert abs(found - 0.5) < 4 * 0.5 / math.sqrt(200)


def test_images_of_twice_the_side_are_shown_whole_and_larger_ones_at_half():
    count = len(variations.MONTAGE)
    for side, shown in ((2 * variations.SIDE, 2 * variations.SIDE), (4 * variations.SIDE, 2 * variations.SIDE)):
        (mark,) = variations.montage("", torch.zeros(count, side, side, dtype=DOUBLE), (-1.0, 1.0)).marks
        assert isinstance(mark, HeatMap)
        assert len(mark.values) == shown + 1


def test_as_many_components_are_marked_as_there_are():
    last = figures.MARKED[-1]
    for dimension, absent in ((last, 0), (last - 1, 1)):
        eye = torch.eye(dimension, dtype=DOUBLE)
        found = figures.marks(Gaussian(eye[0], eye, torch.ones(dimension, dtype=DOUBLE)), 2.0)
        assert [rule.at for rule in found] == [0.5] * (len(figures.MARKED) - absent + 1)


def test_the_largest_difference_is_that_of_either_sign_and_not_a_number_where_one_is_not():
    a, b = torch.tensor([[1.0, 4.0], [0.0, 2.0]]), torch.tensor([2.0, 4.5])
    assert largest_difference(a, b) == largest_difference(b, a) == 2.5
    assert (largest_difference(a, 0), largest_difference(-a, 0), largest_difference(a, 3.0)) == (4, 4, 3)
    assert math.isnan(largest_difference(torch.tensor([1.0, math.nan, 0.0]), 0))


def test_the_digits_of_experiments_reach_from_minus_one_to_one():
    pixels = load_data("digits").in_range(*PIXEL_RANGE).train
    assert (float(pixels.min()), float(pixels.max())) == (-1, 1)
    assert torch.equal(pixels.flatten(1).double(), digit_models(0).train)
