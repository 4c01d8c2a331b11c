"""Estimates at points where their random numbers cancel: what is left is a closed form, without a standard error."""

import math

import pytest
import torch

from counting_denoisers import Multiple
from diffuscope.denoisers import ExactDenoiser, StepIndex
from diffuscope.densities import BetweenSteps, Density, Grid, unresolved
from diffuscope.densities.denoiser_derivatives import _by_rows
from diffuscope.densities.evidence_bound import _diffusion_part, _prior_part, _reconstruction_part
from diffuscope.densities.flow_map import _size
from diffuscope.densities.level_derivative import _nodes
from diffuscope.densities.score_information import fisher_information, integrated, relative_fisher
from diffuscope.errors import InputError
from diffuscope.exact import Gaussian
from diffuscope.schedules import VE, DiscreteVP, RectifiedFlow
from numbers_in_tests import seeded

D = 3
ZERO = torch.zeros(2, D, dtype=torch.float64)
UNIT = Gaussian.isotropic(torch.zeros(D, dtype=torch.float64), 1.0)


def test_at_the_mean_of_a_unit_gaussian_the_diffusion_part_is_an_integral_without_noise():
    """With x_0 = 0 and D = sigma xi / (1 + sigma^2) the integrand is d SNR / (1 + SNR) = d (1 - e^(-2 u))."""
    found = _diffusion_part(ExactDenoiser(UNIT, VE(0.5, 4.0)), ZERO, 200, seeded())
    first, last = math.log(1 + 1 / 16) / 2, math.log(1 + 4) / 2
    expected = D * (last - first + (math.exp(-2 * last) - math.exp(-2 * first)) / 2)
    assert found.tolist() == pytest.approx([expected] * 2, rel=2e-3, abs=0)


def test_the_prior_part_of_noise_about_the_state_is_the_logarithm_of_its_volume():
    """log q = -|xi|^2 / 2 - d log(2 pi sigma^2) / 2, and the prior takes the first term away."""
    schedule = VE(0.5, 4.0)
    x_0 = torch.arange(6.0).reshape(2, 3).double()
    off = _prior_part(ExactDenoiser(UNIT, schedule), x_0, lambda x: -(x - x_0).square().sum(1) / (2 * 4.0**2), seeded())
    assert off.tolist() == pytest.approx([-D / 2 * math.log(2 * math.pi * 16)] * 2, rel=1e-12, abs=0)


def test_the_reconstruction_part_of_a_denoiser_that_keeps_the_noise_is_its_variance():
    """x_0 = 0 and |D|^2 SNR = |xi|^2 SNR / (1 + SNR), which is what is subtracted but for its mean; SNR = 4."""
    found = _reconstruction_part(Multiple(1 / math.sqrt(1.25), VE(0.5, 4.0)), ZERO, seeded())
    expected = (D * 4 / 5 + D * math.log(2 * math.pi / 4)) / 2
    assert found.tolist() == pytest.approx([expected] * 2, rel=1e-12, abs=0)


def test_a_path_is_integrated_by_trapezoids_and_its_error_is_a_third_of_that_of_every_other_level():
    """Log noise 0, 1, 3, 4 and 6; the values of two points are 1 to 5 times the first's."""
    ratios = torch.tensor([0.0, 1.0, 3.0, 4.0, 6.0], dtype=torch.float64).exp()
    rates = torch.tensor([0.0, 1.0, 4.0, 2.0, 1.0], dtype=torch.float64)
    fine, coarse = 0.5 + 5 + 3 + 3, 6.0 + 7.5
    for levels in (slice(None), [4, 3, 2, 1, 0]):
        found = integrated(torch.stack([rates, 5 * rates])[:, levels], ratios[levels])
        assert found.value == pytest.approx(3 * fine)
        assert found.standard_error == pytest.approx(2 * fine * math.sqrt(2) / math.sqrt(2))
        assert found.quadrature_error == pytest.approx(3 * abs(fine - coarse) / 3)
    # of an even number of levels the last step is taken as it is
    found = integrated(torch.stack([rates, 5 * rates])[:, :4], ratios[:4])
    assert found.value == pytest.approx(3 * 8.5)
    assert found.quadrature_error == pytest.approx(3 * abs(8.5 - (6 + 3)) / 3)


def test_the_information_of_noise_alone_is_that_of_its_own_gaussian():
    """With nothing of x_0 left and D = 0 the score is -xi / sigma: all three are |xi|^2 / sigma^2."""
    schedule = RectifiedFlow()
    x_0 = torch.ones(50, D, dtype=torch.float64)
    found = fisher_information(Multiple(0.0, schedule), x_0, 1.0, generator=seeded())
    noise = torch.randn(50, D, dtype=torch.float64, generator=seeded()).square().sum(1)
    for mean in (found.own, found.shared, found.bound):
        assert mean.value == pytest.approx(float(noise.mean()), rel=1e-12, abs=0)
        assert mean.standard_error == pytest.approx(float(noise.std()) / math.sqrt(50), rel=1e-12, abs=0)
    # a denoiser of c x_t has the score -(1 - c alpha) x_t / sigma^2
    half = Multiple(0.5, schedule)
    parts = fisher_information(half, 0 * x_0, 0.5, generator=seeded())
    scale = float(noise.mean()) * 0.75 / 0.25
    assert parts.shared.value == pytest.approx(scale, rel=1e-12, abs=0)
    assert parts.own.value == pytest.approx(scale * 0.75, rel=1e-12, abs=0)
    assert parts.bound.value == pytest.approx(scale * 1.25, rel=1e-12, abs=0)
    # relative to the unit Gaussian, whose score is -x_t / (alpha^2 + sigma^2) = -2 x_t, and -3 x_t is the model's
    apart = relative_fisher(half, UNIT, 0 * x_0, 0.5, generator=seeded())
    assert apart.value == pytest.approx(float(noise.mean()) * 0.5**2, rel=1e-12, abs=0)


@pytest.mark.parametrize(
    ("cells", "mode", "seen"), [(16, 6, 0), (16, 7, 1), (16, 8, 2), (15, 6, 0), (15, 7, 1), (32, 13, 0), (32, 14, 1)]
)
def test_the_highest_eighth_of_frequencies_counts_both_signs_and_nyquists_once(cells: int, mode: int, seen: int):
    """1 + cos / 2: of the squares 1 is the mean's and 1/8 the mode's, or 1/4 of Nyquist's mode, along either axis."""
    share = math.sqrt({0: 0.0, 1: 0.125 / 1.125, 2: 0.25 / 1.25}[seen])
    wave = 1 + 0.5 * (2 * math.pi * mode * torch.arange(cells).double() / cells).cos()
    assert unresolved(Density(Grid.line(0, 1, cells), wave)) == pytest.approx(share, abs=1e-12)
    square = Grid((0.0, 0.0), (1.0, 1.0), (4, cells))
    assert unresolved(Density(square, wave.expand(4, cells).clone())) == pytest.approx(share, abs=1e-12)


def test_a_step_of_a_map_is_measured_by_its_points_and_by_its_determinants():
    """Two coordinates, allowed 0.1 (1 + 4) and 0.1 (1 + 9), and two determinants, allowed 0.1 for each of both."""
    y = torch.tensor([[4.0, -3.0, 70.0, 0.0]], dtype=torch.float64)
    y_s = torch.tensor([[-2.0, -9.0, 0.0, 80.0]], dtype=torch.float64)
    for change, size in (
        ([1.5, -4.0, 0.0, 0.0], math.sqrt((3**2 + 4**2) / 2)),
        ([1.5, -4.0, 0.6, -0.8], math.sqrt((3**2 + 4**2) / 2)),
        ([0.0, 0.0, 0.6, -0.8], math.sqrt((3**2 + 4**2) / 2)),
        ([0.5, 1.0, 1.0, -7.0], 25.0),
    ):
        found = _size(torch.tensor([change], dtype=torch.float64), y, y_s, d=2, tolerance=0.1)
        assert float(found) == pytest.approx(size, rel=1e-12, abs=0)


def test_four_neighbors_of_a_level_are_enough():
    """Of five steps the third has two on either side, three tenths apart in log(alpha^2)."""
    schedule = DiscreteVP((0.3, 0.3, 0.3, 0.3, 0.3))
    of_five = type("OfFive", (ExactDenoiser,), {"clock": StepIndex(5)})(UNIT, schedule)
    nodes = _nodes(of_five, 3.0)
    assert sorted(float(time) for _, time in nodes) == [1.0, 2.0, 4.0, 5.0]
    lams = [float(schedule.lam(float(step)) - schedule.lam(3.0)) for step in (1, 2, 4, 5)]
    assert sorted(offset for offset, _ in nodes) == pytest.approx(sorted(lams), rel=1e-9)


def test_between_steps_there_are_two():
    denoiser = ExactDenoiser(UNIT, DiscreteVP((0.5,)))
    with pytest.raises(InputError, match="expected a DiscreteVP schedule of 2 or more steps, got DiscreteVP"):
        BetweenSteps(denoiser)
    with pytest.raises(InputError, match="expected a DiscreteVP schedule of 2 or more steps, got VE"):
        BetweenSteps(ExactDenoiser(UNIT, VE()))
    assert BetweenSteps(ExactDenoiser(UNIT, DiscreteVP((0.5, 0.5)))).schedule.t_max == 2


def test_derivatives_are_taken_of_256_points_or_of_a_million_numbers_at_once():
    for shape, pieces in (((300, 2), [256, 44]), ((3, 2**19), [2, 1]), ((2, 2**20 + 1), [1, 1])):
        found: list[int] = []
        result = _by_rows(lambda x, v, found=found: found.append(len(x)) or x + v, torch.ones(shape), torch.ones(shape))
        assert (found, result.shape, float(result.max())) == (pieces, shape, 2.0)
