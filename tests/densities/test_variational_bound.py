"""The variational bound of an exact denoiser is the distribution's own -log p, point by point, and any error has its
price.
"""

import math
from dataclasses import dataclass

import pytest
import torch
from conftest import monte_carlo
from torch import Tensor

from diffuscope.certify import likelihood_problems, mixture
from diffuscope.denoisers import Batch, BatchTime, ExactDenoiser, over_events
from diffuscope.densities.between_steps import BetweenSteps
from diffuscope.densities.evidence_bound import VariationalBound, variational_bound
from diffuscope.errors import InputError
from diffuscope.exact import Distribution, Gaussian
from diffuscope.schedules import VE, VP, Cosine, DiscreteVP, GeometricVE, RectifiedFlow, Schedule

SMALLEST = 1e-7  # a noise so small that the noised distribution is the distribution


def unequal_gaussian(scale: float = 1.0) -> Gaussian:
    rotation = torch.tensor([[0.8, -0.6], [0.6, 0.8]], dtype=torch.float64)
    mean = torch.tensor([1.3, -0.4], dtype=torch.float64)
    return Gaussian(mean, rotation, scale * torch.tensor([2.25, 0.16], dtype=torch.float64))


def of_exact(distribution: Distribution, schedule: Schedule, x_0: Tensor, **options) -> VariationalBound:
    draw = torch.Generator().manual_seed(1)
    return variational_bound(ExactDenoiser(distribution, schedule), x_0, generator=draw, **options)


@pytest.mark.parametrize("problem", likelihood_problems(), ids=lambda problem: problem.name)
def test_the_exact_denoisers_bound_is_minus_the_log_density_at_every_point(problem):
    """Within its standard errors: in the mean square over 300 points, and in the mean, a test 17 times sharper."""
    distribution = problem.distribution
    x_0 = distribution.sample(300, generator=torch.Generator().manual_seed(0))
    found = of_exact(distribution, VP(), x_0, levels=16, repeats=24, terminal=distribution)
    off = found.bound + distribution.log_prob(x_0, 1.0, SMALLEST)
    mean = monte_carlo(off)
    assert mean.agrees_with(0.0)
    assert mean.standard_error < 0.02 * x_0.shape[1] ** 0.5
    # Student's t for 24 draws has the mean square 23 / 21; a few draws are far off where components compete
    assert 0.8 < float((off / found.standard_error).square().mean()) < 1.6


@pytest.mark.parametrize(
    "schedule", [VE(), Cosine(), RectifiedFlow(), DiscreteVP.linear()], ids=lambda schedule: type(schedule).__name__
)
def test_in_the_mean_over_a_gaussian_it_is_the_entropy(schedule: Schedule):
    """I-MMSE: log det(2 pi e Sigma) / 2, the end being the Gaussian that the denoiser shows."""
    distribution = unequal_gaussian()
    entropy = float((2 * math.pi * math.e * distribution.eigenvalues).log().sum()) / 2
    x_0 = distribution.sample(2000, generator=torch.Generator().manual_seed(0))
    found = of_exact(distribution, schedule, x_0, levels=32, repeats=8)
    # -log p itself varies from point to point: take its known mean instead
    varying = -distribution.log_prob(x_0, 1.0, SMALLEST) - entropy
    estimate = monte_carlo(found.bound - varying)
    # the decoder's variance is 1 / SNR instead of the posterior's: of second order in 1 / (SNR Sigma)
    ratio = float(schedule.noise_to_signal(schedule.t_min)) ** 2 / distribution.eigenvalues
    excess = float((torch.log1p(ratio) - ratio / (1 + ratio)).sum()) / 2
    assert estimate.agrees_with(entropy + excess)
    assert estimate.standard_error < 0.01


def test_the_three_parts_of_a_gaussians_bound_are_their_closed_forms():
    """KL(q(x_T|x_0) || p_T), the information between the two ends, and the decoder's cross-entropy, in the mean."""
    distribution, schedule = Gaussian.isotropic(torch.zeros(1, dtype=torch.float64), 0.49), GeometricVE(0.3, 2.0)
    x_0 = distribution.sample(4000, generator=torch.Generator().manual_seed(0))
    found = of_exact(distribution, schedule, x_0, levels=16, repeats=4)
    information = [math.log1p(0.49 / sigma**2) / 2 for sigma in (2.0, 0.3)]
    decoded = (math.log(2 * math.pi * 0.09) + 0.49 / (0.49 + 0.09)) / 2
    assert monte_carlo(found.prior).agrees_with(information[0])
    assert monte_carlo(found.diffusion).agrees_with(information[1] - information[0])
    assert monte_carlo(found.reconstruction).agrees_with(decoded)
    assert torch.allclose(found.bound, found.prior + found.diffusion + found.reconstruction, rtol=1e-12, atol=0)
    assert found.evaluations == 4 * 17


def test_the_denoiser_of_another_distribution_has_that_distributions_log_density():
    data, model = unequal_gaussian(), unequal_gaussian(0.5)
    x_0 = data.sample(500, generator=torch.Generator().manual_seed(0))
    found = of_exact(model, VP(), x_0, levels=32, repeats=8)
    off = found.bound + model.log_prob(x_0, 1.0, SMALLEST)
    assert monte_carlo(off).agrees_with(0.0, 4.5)  # the decoder's excess, 1e-6, is far below
    exact = -data.log_prob(x_0, 1.0, SMALLEST)
    assert float(found.bound.mean() - exact.mean()) > 0.2  # relative entropy


@dataclass(frozen=True)
class Shifted:
    """The exact denoiser with an error of `shift` sigma^2 in every coordinate."""

    distribution: Distribution
    schedule: Schedule
    shift: float

    def __call__(self, x_t: Batch, t: BatchTime) -> Batch:
        exact = ExactDenoiser(self.distribution, self.schedule)(x_t, t)
        return exact + self.shift * over_events(self.schedule.sigma(t) ** 2, x_t)


def test_an_error_of_the_denoiser_costs_half_its_square_integrated_over_the_snr():
    """In VP, SNR = sigma^-2 - 1: delta = c sigma^2 in each of 2 dimensions costs c^2 (sigma_T^2 - sigma_min^2)."""
    distribution, schedule, c = unequal_gaussian(), VP(), 0.8
    x_0 = distribution.sample(2000, generator=torch.Generator().manual_seed(0))
    found = variational_bound(
        Shifted(distribution, schedule, c),
        x_0,
        generator=torch.Generator().manual_seed(1),
        levels=16,
        repeats=4,
        terminal=distribution,
    )
    sigmas = [float(schedule.sigma(t)) for t in (schedule.t_max, schedule.t_min)]
    cost = c**2 * (sigmas[0] ** 2 - sigmas[1] ** 2)
    off = monte_carlo(found.bound + distribution.log_prob(x_0, 1.0, SMALLEST))
    assert off.agrees_with(cost)
    assert off.standard_error < 0.05 * cost


def test_a_wrong_prior_costs_its_relative_entropy():
    """KL(N(m, v) || N(0, v)) = m^2 / 2v at the end."""
    distribution, schedule = Gaussian.isotropic(torch.tensor([0.7], dtype=torch.float64), 0.3), GeometricVE(0.05, 1.5)
    x_0 = distribution.sample(2000, generator=torch.Generator().manual_seed(0))
    wrong = Gaussian.isotropic(torch.zeros(1, dtype=torch.float64), 0.3)
    right, off = (
        of_exact(distribution, schedule, x_0, levels=4, repeats=4, terminal=prior).prior
        for prior in (distribution, wrong)
    )
    assert monte_carlo(off - right).agrees_with(0.7**2 / 2 / (0.3 + 1.5**2))


def test_a_table_of_steps_has_a_bound_too():
    distribution, schedule = mixture(2).distribution, DiscreteVP.linear()
    x_0 = distribution.sample(300, generator=torch.Generator().manual_seed(0))
    found = variational_bound(
        BetweenSteps(ExactDenoiser(distribution, schedule)),
        x_0,
        generator=torch.Generator().manual_seed(1),
        levels=16,
        repeats=4,
        terminal=distribution,
    )
    assert monte_carlo(found.bound + distribution.log_prob(x_0, 1.0, SMALLEST)).agrees_with(0.0)


def test_float32_data_and_images_are_taken_and_a_generator_settles_the_estimate():
    distribution = Gaussian.isotropic(torch.zeros(1, 2, 2, dtype=torch.float64), 0.5)
    x_0 = distribution.sample(5, generator=torch.Generator().manual_seed(0)).float()
    first, again = (of_exact(distribution, VP(), x_0, levels=8, repeats=2) for _ in range(2))
    assert torch.equal(first.bound, again.bound)
    assert first.bound.dtype == torch.float64


def test_bad_input_is_one_clear_line():
    distribution, x_0 = unequal_gaussian(), torch.zeros(3, 2, dtype=torch.float64)
    for line, data, options in (
        ("x_0: expected finite floats", x_0 / 0, {}),
        ("x_0: expected finite floats", x_0[:0], {}),
        ("levels, repeats: expected at least 1 and 2", x_0, {"levels": 0}),
        ("levels, repeats: expected at least 1 and 2", x_0, {"repeats": 1}),
    ):
        with pytest.raises(InputError, match=line):
            of_exact(distribution, VP(), data, **options)
    with pytest.raises(InputError, match="expected a schedule with noise at its t_min"):
        of_exact(distribution, VP(epsilon=0.0), x_0)
