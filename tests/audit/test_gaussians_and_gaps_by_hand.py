"""Gaussians of data, difficulties, clusters, gaps of losses and one-step maps against closed forms."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from made_by_hand import made
from results_at_levels import measures_of
from scipy import stats

from counting_denoisers import Multiple
from diffuscope.audit import data_gaussian
from diffuscope.audit.cluster_features import fit_cluster_features
from diffuscope.audit.consistency import measured
from diffuscope.audit.data_gaussian import batches, fit_gaussian, fitted_examples, kept_pairs
from diffuscope.audit.denoising_gap import denoising_gap, pairs_of_cells
from diffuscope.audit.difficulty import difficulty, fit_difficulty
from diffuscope.audit.level_measures import LevelMeasures
from diffuscope.audit.subject import Levels, Subject, noised
from diffuscope.exact import Gaussian
from diffuscope.exact.streaming import LeadingPairs
from diffuscope.schedules import VE, RectifiedFlow
from numbers_in_tests import rng

# Gaussians of data


@pytest.mark.parametrize(
    ("n", "dimension", "kept"),
    [(10, 5000, 9), (257, 5000, 256), (300, 5000, 256), (300, 2**18, 64), (50, 2**25, 1), (2, 5000, 1)],
)
def test_as_many_pairs_are_kept_as_examples_and_memory_allow(n, dimension, kept):
    assert kept_pairs(n, dimension) == kept


def test_few_examples_of_many_numbers_have_their_whole_covariance():
    """Of five orthogonal examples of length s all four variances are s^2 / 5."""
    train = 3.0 * torch.eye(4100)[:5]
    gaussian, truncation = fit_gaussian(train, torch.Generator().manual_seed(0))
    assert truncation is None
    assert gaussian.tail_variance == 0.0
    assert gaussian.eigenvalues.tolist() == pytest.approx([9 / 5] * 4)


@pytest.mark.parametrize(
    ("dimension", "examples", "whole"), [(16, 40, True), (17, 40, False), (34, 21, True), (34, 22, False)]
)
def test_beyond_a_number_of_dimensions_the_rest_has_one_variance(dimension, examples, whole, monkeypatch):
    """Of more than 16 dimensions ten pairs are kept, or twenty: of 21 examples these are all."""
    monkeypatch.setattr(data_gaussian, "LARGEST_DENSE", 16)
    monkeypatch.setattr(data_gaussian, "PAIRS", 10 if dimension < 20 else 20)
    train = torch.randn(examples, dimension, generator=torch.Generator().manual_seed(0))
    gaussian, truncation = fit_gaussian(train, torch.Generator().manual_seed(1))
    assert (truncation is None) == whole
    assert gaussian.trace == pytest.approx(float(train.double().var(0, correction=0).sum()), rel=1e-6)
    if truncation is not None:
        kept = float(gaussian.eigenvalues.sum())
        assert (truncation.pairs, truncation.dimension) == (len(gaussian.eigenvalues), dimension)
        assert truncation.examples == examples
        assert truncation.share == pytest.approx(kept / gaussian.trace)


def test_pairs_have_converged_up_to_the_first_that_still_grows_by_a_hundredth(monkeypatch):
    monkeypatch.setattr(data_gaussian, "LARGEST_DENSE", 4)
    gains = torch.tensor([0.001, 0.009, 0.01, 0.0], dtype=torch.float64)
    pairs = made(
        LeadingPairs, count=40, mean=torch.zeros(5).double(), trace=20.0, eigenvectors=torch.eye(5).double()[:, :4],
        eigenvalues=torch.tensor([8.0, 4.0, 2.0, 1.0]).double(), last_gain=gains,
    )  # fmt: skip
    monkeypatch.setattr(data_gaussian, "leading_pairs", lambda *_, **__: pairs)
    gaussian, truncation = fit_gaussian(torch.zeros(40, 5), torch.Generator())
    assert truncation is not None
    assert (truncation.converged, truncation.pairs, truncation.share) == (2, 4, 0.75)
    assert gaussian.tail_variance == 5.0


def test_chosen_examples_are_read_in_their_order():
    train = torch.arange(12.0).reshape(6, 2)
    chosen = torch.tensor([0, 3, 5])
    assert torch.equal(torch.cat(list(batches(train, chosen))), train[chosen])
    assert torch.equal(torch.cat(list(batches(train, None))), train)
    assert [len(part) for part in batches(torch.zeros(5, 2**22), torch.tensor([0, 1, 4]))] == [2, 1]
    some = fitted_examples(9, 2**27, torch.Generator().manual_seed(0))
    assert some is not None
    assert (len(some), bool((some.diff() > 0).all())) == (8, True)
    two = fitted_examples(9, 2**30, torch.Generator().manual_seed(0))
    assert two is not None
    assert len(two) == 2


# difficulty


def axes(n, *deviations):
    """n rows whose columns are orthogonal, of these deviations: signs of a Hadamard matrix."""
    signs = torch.tensor([[1.0, 1.0, 1.0], [-1.0, 1.0, -1.0], [1.0, -1.0, -1.0], [-1.0, -1.0, 1.0]])
    return signs.repeat(n // 4, 1)[:, : len(deviations)] * torch.tensor(deviations)


@pytest.mark.parametrize(
    ("n", "components", "kept"), [(40, 16, 1), (96, 16, 1), (100, 16, 2), (400, 16, 2), (400, 1, 1)]
)
def test_a_component_needs_fifty_examples_and_one_direction_is_left(n, components, kept):
    isotropic, few = fit_difficulty(axes(n, 3.0, 2.0, 1.0) + 7.0, components)
    assert few.eigenvalues.tolist() == pytest.approx([9.0, 4.0][:kept])
    assert few.tail_variance == pytest.approx([2.5, 1.0][kept - 1])
    assert few.mean.tolist() == pytest.approx([7.0] * 3)
    assert isotropic.trace == pytest.approx(14.0)
    assert isotropic.tail_variance == pytest.approx(14 / 3)


def test_the_first_4096_examples_are_the_ones_that_count():
    x = torch.cat([axes(4096, 3.0, 2.0), torch.full((1, 2), 1e6)])
    assert fit_difficulty(x)[1].eigenvalues.tolist() == pytest.approx([9.0])


def test_rounding_leaves_no_negative_variance():
    for seed in range(20):
        line = torch.randn(100, 1, generator=torch.Generator().manual_seed(seed)) * torch.tensor([[0.1, 0.7, 0.3]])
        assert fit_difficulty(line)[1].tail_variance >= 0.0


def test_the_difficulty_of_an_example_is_the_error_of_both_gaussians():
    """Of N(0, v) in every direction: x_0 is at v a / (a^2 v + s^2) of the noised one, a = 1 - t and s = t."""
    x = axes(40, 3.0, 1.0)
    noise = torch.randn(40, 2, generator=torch.Generator().manual_seed(0))
    times = torch.tensor([0.75, 0.25]).double()
    found = difficulty(x, noise, Levels(times, times), RectifiedFlow())
    assert found.shape == (40, 2, 2)
    for place, s in enumerate((0.75, 0.25)):
        a = 1 - s
        for reference, variances in enumerate(((5.0, 5.0), (9.0, 1.0))):
            v = torch.tensor(variances)
            error = (v * a / (a**2 * v + s**2) * (a * x + s * noise) - x).square().sum(1)
            assert found[:, place, reference].tolist() == pytest.approx(error.tolist(), rel=1e-4)


# clusters


def test_of_few_examples_each_is_a_cluster_at_its_distance_in_smoothed_components():
    """The squared distance of x and y is (x - y)^T (S + e^2 s^2 I)^-1 (x - y)."""
    train = torch.randn(12, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([3.0, 1.0, 0.2]) + 5
    gaussian = Gaussian.fit([train.double()])
    floor = 0.2**2 * gaussian.trace / 3
    inverse = torch.linalg.inv(torch.cov(train.double().mT, correction=0) + floor * torch.eye(3).double())
    x = torch.tensor([[4.0, 5.0, 6.0], [9.0, 9.0, 5.0]])
    difference = (x[:, None] - train).double()
    expected = torch.einsum("nki,ij,nkj->nk", difference, inverse, difference).sqrt()
    found = fit_cluster_features(train, gaussian, 0).hidden(x)
    assert torch.allclose(found.sort(1).values, expected.sort(1).values, rtol=1e-3, atol=0)
    assert fit_cluster_features(train.repeat(3, 1) + torch.arange(36)[:, None], gaussian, 0).hidden(x).shape == (2, 32)


def test_what_the_components_leave_of_an_example_is_one_more_coordinate():
    gaussian = Gaussian(torch.zeros(3).double(), torch.eye(3).double()[:, :1], torch.tensor([4.0]).double(), 0.5)
    floor = 0.04 * 5 / 3  # a 25th of the variance of a coordinate: 4 + 2 * 0.5 of three
    train = torch.tensor([[2.0, 0.0, 0.0], [-2.0, 0.3, 0.4], [0.0, -1.2, 0.5]])
    x = torch.tensor([[1.0, 3.0, 4.0], [1.0, 0.0, 0.0]])

    def coordinates(rows):
        rest = rows[:, 1:].norm(dim=1) / (0.5 + floor) ** 0.5
        return torch.stack([rows[:, 0] / (4 + floor) ** 0.5, rest], 1)

    found = fit_cluster_features(train, gaussian, 0).hidden(x)
    expected = torch.cdist(coordinates(x), coordinates(train)).double()
    assert torch.allclose(found.sort(1).values, expected.sort(1).values, rtol=1e-5, atol=0)


# gaps


def quantile(level):
    return stats.norm.isf(level)


@pytest.mark.parametrize(("spread", "remembered", "of_four"), [((0.5, 0.25), 0.2, 0.6205), ((0.2, 0.4), 0.9, math.inf)])
def test_the_share_that_would_be_found_is_that_of_the_best_level(spread, remembered, of_four):
    """Held-out errors are 1.0 +- s and those of training 1.0: the gain of an example is 1 less what is remembered."""
    n, level = 400, 0.02
    signs = np.where(np.arange(n) % 2, 1.0, -1.0)
    train, heldout = np.ones((n, 2)), 1 + signs[:, None] * np.array(spread)
    found = denoising_gap(measures_of(train, heldout, remembered), level, rng())
    each = (quantile(level / 2) + quantile(0.05)) * np.array(spread) / 20 / (1 - remembered)
    assert found.detectable == pytest.approx(each.min())
    assert found.share == pytest.approx([0.0, 0.0])
    assert found.pairs == n
    few = denoising_gap(measures_of(train[:4], heldout[:4] * 1.0, remembered), level, rng())
    assert few.detectable == pytest.approx(of_four, abs=1e-4)


def test_a_gap_is_nowhere_found_if_the_memorizer_is_no_better():
    rows = np.where(np.arange(100) % 2, 1.5, 0.5)[:, None]
    assert denoising_gap(measures_of(np.ones((100, 1)), rows, 1.0), 0.01, rng()).detectable == math.inf


def test_all_examples_are_the_largest_share_that_is_found():
    """Errors differ by +- s in n pairs: z s / sqrt(n) = 1 for a gain of 1."""
    n, level = 100, 0.01
    s = 10 / (quantile(level) + quantile(0.05))
    signs = np.where(np.arange(n) % 2, 1.0, -1.0)[:, None]
    for factor, found in ((0.999, 0.999), (1.001, math.inf)):
        made_gap = denoising_gap(measures_of(np.ones((n, 1)), 1 + factor * s * signs), level, rng())
        assert made_gap.detectable == pytest.approx(found)


def test_chosen_pairs_have_their_errors_their_memorizer_and_their_control():
    n = 6
    sums = {
        "training.error": np.arange(6.0) + 1, "heldout.error": 2 * np.arange(6.0) + 2,
        "training.exact_error": np.tile([[9.0, 0.5]], (n, 1)) * np.arange(n)[:, None],
        "training.control_error": np.arange(6.0) + 4, "heldout.control_error": np.arange(6.0) + 10,
    }  # fmt: skip
    measures = LevelMeasures(ratios=np.ones(1), scale=1.0, dimension=1, models=("a", "empirical"), sums=[sums])
    found = denoising_gap(measures, 0.01, rng(), (np.array([3, 1]), np.array([4, 2])))
    assert found.share == pytest.approx([(8 - 3) / 8])  # 4, 2 against 10, 6
    assert found.control == pytest.approx([(13 - 6) / 13])  # 7, 5 against 14, 12
    assert found.mean_share == 5 / 8
    assert found.pairs == 2
    deviation = np.std([6.0, 4.0]) / math.sqrt(2)
    gain = 8 - (0.5 + 1.5) / 2
    assert found.detectable == pytest.approx((quantile(0.01) + quantile(0.05)) * deviation / gain)


def test_pairs_are_of_one_cell_where_cells_are_differently_frequent():
    of_train, of_heldout = np.repeat([0, 1], [90, 10]), np.repeat([0, 1, 2], [30, 60, 10])
    first, second = pairs_of_cells(of_train, of_heldout, rng())
    assert (of_train[first] == of_heldout[second]).all()
    assert np.bincount(of_train[first]).tolist() == [30, 10]
    alike = pairs_of_cells(of_train, of_train[::-1].copy(), rng())
    assert [part.tolist() for part in alike] == [list(range(100))] * 2


# one-step maps


def one_step_map(factor):
    return Multiple(factor, VE(0.1, 50.0), one_step=True)


@pytest.mark.parametrize(
    ("scale", "levels"), [(1.0, (0.5, 0.2)), (4.0, (0.5, 0.2, 0.1)), (0.4, (0.5,)), (100.0, (0.2, 0.1)), (0.1, ())]
)
def test_a_map_is_asked_where_it_is_defined(scale, levels):
    """Strictly between 0.1 and 50: the lowest is a tenth of the deviation 1, the highest a half of 100."""
    model = one_step_map(0.0)
    heldout = torch.full((300, 2), 3.0)
    found = measured(made(Subject, sampled=model, heldout=heldout, scale=scale), torch.Generator().manual_seed(0))
    assert found.levels == pytest.approx(levels, rel=1e-6)
    assert found.errors == pytest.approx([3 / (level * scale) for level in levels], rel=1e-6)
    assert [n for n, _ in model.asked] == [256] * (len(levels) + 1)
    assert float(model.asked[-1][1]) == pytest.approx(0.1)
    assert found.lowest == pytest.approx(0.1 / scale)


def test_how_far_a_map_moves_is_in_deviations_of_the_data():
    model, heldout = one_step_map(3.0), torch.tensor([[2.0, -1.0, 4.0]]).repeat(40, 1)
    found = measured(made(Subject, sampled=model, heldout=heldout, scale=5.0), torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(0)
    torch.randperm(40, generator=generator)
    noise = torch.randn(40, 3, generator=generator)
    x = noised(model.schedule, heldout, noise, 0.1)
    assert found.moved == pytest.approx((2 * x).double().square().mean(1).numpy() / 25, rel=1e-5)
    assert found.distance == pytest.approx(math.sqrt(found.moved.mean()))
    unequal = SimpleNamespace(moved=np.array([1.0, 7.0]))
    assert math.isclose(type(found).distance.fget(unequal), 2.0)  # pyright: ignore[reportOptionalCall]
