"""Figures 2 and 3 of "Generalization through variance": small parts exactly, all claims for another seed."""

import math

import pytest
import torch
from answering import answered, failures, planted

from diffuscope.exact import GaussianMixture
from diffuscope.experiments import cross, find, gap_filling
from diffuscope.experiments.cross import columns_normalized, histogram, points_at, regions
from diffuscope.experiments.gap_filling import EDGES, densities, fine_steps, gap_mass, schedule_to
from diffuscope.times import uniform_times

DOUBLE = torch.float64
GAPS, CROSS = "diffuscope.experiments.gap_filling", "diffuscope.experiments.cross"


def test_they_are_found_by_their_names():
    assert find("gap-filling") is gap_filling.EXPERIMENT
    assert find("cross") is cross.EXPERIMENT


def test_the_schedule_is_the_published_one():
    t = torch.tensor([0.01, 0.3, 1.0], dtype=DOUBLE)
    schedule = schedule_to(0.01)
    assert torch.allclose(schedule.alpha(t), torch.exp(-(0.1 * t + 9.95 * t**2)), rtol=1e-12, atol=0)
    assert torch.allclose(schedule.g_squared(t), 2 * (0.1 + 19.9 * t), rtol=1e-9, atol=0)


def test_coarse_and_fine_steps_have_the_same_ends():
    for epsilon in (1e-4, 1e-3, 1e-2):
        coarse, fine = uniform_times(1.0, epsilon, 30), fine_steps(epsilon, 50)
        assert (coarse[0], coarse[-1]) == (fine[0], fine[-1])
        assert bool((fine.diff() < 0).all())


def test_gap_mass_of_a_uniform_distribution_is_a_half():
    x = torch.linspace(-1, 1, 20_001, dtype=DOUBLE)[None, :, None]
    assert float(gap_mass(x)[0]) == pytest.approx(0.5, abs=1e-3)


def test_the_densities_of_models_do_not_mix_and_lose_what_lies_outside():
    x = torch.stack([torch.full((10, 1), 0.01), torch.cat([torch.full((5, 1), -1.2), torch.full((5, 1), 9.0)])])
    found = densities(x.double())
    mass = found * EDGES.diff()
    assert mass.sum(1).tolist() == pytest.approx([1.0, 0.5])
    assert float(mass[0, 30]) == pytest.approx(1.0)
    assert float(mass[1, int((-1.2 + 1.5) / 0.05 + 0.5) - 1 : int((-1.2 + 1.5) / 0.05 + 0.5) + 1].sum()) == 0.5


@pytest.mark.parametrize("degrees", [0.0, 22.5, 45.0, 90.0])
def test_the_regions_turn_with_the_points(degrees):
    points = points_at(degrees)
    between = (points + points.roll(1, 0)) / 2
    places = {"near": points * 1.1, "edge": between, "cross": 0.5 * points, "none": 3 * points}
    for name, place in places.items():
        found = regions(place, degrees)
        assert {region for region, inside in found.items() if bool(inside.any())} == ({name} - {"none"})
        assert all(bool(inside.all()) for region, inside in found.items() if region == name)


def test_near_is_four_disks_and_no_sample_is_in_two_regions():
    """400,000 uniform points: the area of four disks within four standard errors."""
    x = torch.rand(400_000, 2, dtype=DOUBLE, generator=torch.Generator().manual_seed(0)) * 3 - 1.5
    found = regions(x, 0.0)
    assert int(torch.stack(list(found.values())).sum(0).max()) == 1
    area = 4 * math.pi * cross.NEAR**2
    assert 9 * float(found["near"].double().mean()) == pytest.approx(area, abs=4 * 9 * math.sqrt(area / 9 / 400_000))


def test_the_histogram_sums_to_the_share_inside_and_the_published_one_to_one_per_column():
    generator = torch.Generator().manual_seed(0)
    samples = torch.randn(4, 500, 2, dtype=DOUBLE, generator=generator)
    inside = float(((samples >= -1.5) & (samples < 1.5)).all(-1).double().mean())
    shares = histogram(samples)
    assert float(shares.sum()) == pytest.approx(inside, abs=1e-12)
    columns = columns_normalized(shares).sum(0)
    assert torch.allclose(columns[shares.sum(0) > 0], torch.ones(1, dtype=DOUBLE), atol=1e-9)
    right = torch.tensor([[[1.4, 0.1]]], dtype=DOUBLE)  # x is the column, y the row
    row, column = (int(k) for k in histogram(right).nonzero()[0])
    assert column > row


def test_coarse_steps_alone_fill_the_gaps_and_fine_ones_do_not():
    with planted(f"{GAPS}.QUANTILES", 1000), planted(f"{GAPS}.EPSILONS", (1e-2,)):
        found = answered(gap_filling.EXPERIMENT, "discretization")
    assert {claim.name for claim in found.claims if not claim.holds} == set()


def test_a_score_of_wide_modes_fails_the_claims_of_the_true_score():
    points = torch.tensor([[-1.0], [0.0], [1.0]], dtype=DOUBLE)
    wide = GaussianMixture.isotropic(torch.full((3,), 1 / 3, dtype=DOUBLE), points, torch.full((3,), 0.04))
    with (
        planted(f"{GAPS}.QUANTILES", 500),
        planted(f"{GAPS}.EPSILONS", (1e-2,)),
        planted(f"{GAPS}.data", lambda: wide),
    ):
        assert failures(gap_filling.EXPERIMENT, "discretization") == {"euler", "true-score"}


@pytest.mark.slow
@pytest.mark.parametrize("part", ["panels", "decomposition"])
def test_gap_filling_holds_for_another_seed(part):
    assert failures(gap_filling.EXPERIMENT, part) == set()


@pytest.mark.slow
@pytest.mark.parametrize("part", ["filled", "why"])
def test_the_cross_holds_for_another_seed(part):
    assert failures(cross.EXPERIMENT, part) == set()


@pytest.mark.slow
def test_gaussian_features_in_the_place_of_fourier_fail_the_claims_of_a_cross():
    gaussian = cross.FEATURES["Gaussian"]
    cross.square.cache_clear()
    with planted(f"{CROSS}.FEATURES", {"Gaussian": gaussian, "Fourier": gaussian}), planted(f"{CROSS}.STARTS", 200):
        assert {"fourier", "masses"} <= failures(cross.EXPERIMENT, "filled")
    cross.square.cache_clear()
