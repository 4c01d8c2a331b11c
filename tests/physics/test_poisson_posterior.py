"""Poisson's equation with random forcing and random boundary values, given data: the article's fourth experiment.

The prior of (f, u) is `joint_sine_prior`, u(0) = 0.5 and u(1) = -0.25 are exact, three sensors in between read u with
noise. Fields are drawn with DPM-Solver++(2M) from sigma = 1e4: from 80, a start without the mean of f, of norm 6, would
shift the samples by 6/80 standard deviations. The sampler's own bias, measured from its affine map, is bounded before
its draws are compared with exact moments.
"""

import functools
import math

import pytest
import torch
from torch import Tensor

from diffuscope.denoisers import ExactDenoiser
from diffuscope.exact import Gaussian
from diffuscope.physics import (
    GaussianGuide,
    Grid,
    LinearObservation,
    Poisson,
    Problem,
    Projected,
    at_nodes,
    observe,
    posterior,
    posterior_means,
)
from diffuscope.physics.priors import joint_sine_prior
from diffuscope.samplers import DPMSolverPP2M, finish, generate, model_times
from diffuscope.schedules import VE

NODES, NOISE, STEPS, HIGHEST = 65, 1e-3, 120, 1e4
PROBLEMS = 2000
GRID = Grid((NODES,))
PROBLEM = Problem(name="poisson", title="Poisson", equation=Poisson(GRID), given="forcing")
PRIOR = joint_sine_prior(GRID, 8)
BOUNDARY = at_nodes(torch.tensor([NODES, 2 * NODES - 1]), (2, NODES))
SENSORS = at_nodes(NODES + torch.tensor([11, 30, 52]), (2, NODES), NOISE)
ENDS = torch.tensor([0.5, -0.25], dtype=torch.float64)
BOUND = posterior(PRIOR, BOUNDARY, ENDS)
SCHEDULE = VE(sigma_max=HIGHEST)


def exact_and_data() -> tuple[Gaussian, Tensor]:
    generator = torch.Generator().manual_seed(1)
    y = observe(SENSORS, BOUND.sample(1, generator=generator), generator=generator)[0]
    return posterior(BOUND, SENSORS, y), y


def operator_size(u: Tensor) -> Tensor:
    """|A| |u|, in the largest norm."""
    return 4 / GRID.spacing[0] ** 2 * u.abs().amax(1)


@pytest.mark.parametrize("guided", [True, False])
def test_every_sample_has_the_boundary_values_and_solves_the_equation(guided: bool) -> None:
    exact, y = exact_and_data()
    denoiser = GaussianGuide(ExactDenoiser(BOUND, SCHEDULE), SENSORS, y) if guided else ExactDenoiser(exact, SCHEDULE)
    fields = generate(denoiser, 100, steps=20, event_shape=(2, NODES), dtype=torch.float64)
    torch.testing.assert_close(BOUNDARY(fields), ENDS.expand(100, 2), rtol=0, atol=1e-10)
    residual = PROBLEM.residual(fields).abs().amax(1)
    assert float((residual / operator_size(fields[:, 1])).max()) < 1e-12


def test_a_projected_sample_has_the_boundary_values_of_a_prior_that_does_not_know_them() -> None:
    fields = generate(
        Projected(ExactDenoiser(PRIOR, SCHEDULE), BOUNDARY, ENDS, PRIOR), 100, steps=20, dtype=torch.float64
    )
    torch.testing.assert_close(BOUNDARY(fields), ENDS.expand(100, 2), rtol=0, atol=1e-10)
    assert float((PROBLEM.residual(fields).abs().amax(1) / operator_size(fields[:, 1])).max()) < 1e-12


def drawn(guide: GaussianGuide, starts: Tensor) -> Tensor:
    times = model_times(guide, STEPS, high=HIGHEST)
    return finish(guide, DPMSolverPP2M(), starts.double(), times, batch_size=len(starts))


@functools.cache
def problems() -> tuple[Tensor, Tensor, Tensor]:
    """PROBLEMS truths, the means of their posteriors, and a sample of each."""
    generator = torch.Generator().manual_seed(3)
    truth = BOUND.sample(PROBLEMS, generator=generator)
    y = observe(SENSORS, truth, generator=generator)
    guide = GaussianGuide(ExactDenoiser(BOUND, SCHEDULE), SENSORS, y)
    starts = HIGHEST * torch.randn(PROBLEMS, 2, NODES, generator=generator)
    return truth, posterior_means(BOUND, SENSORS, y), drawn(guide, starts)


def whitened(fields: Tensor, exact: Gaussian) -> Tensor:
    return (fields.flatten(1) - exact.mean.flatten()) @ exact.eigenvectors / exact.eigenvalues.sqrt()


def test_mean_and_covariance_of_the_samples_are_those_of_the_posterior_within_three_standard_errors() -> None:
    """In whitened coordinates n |mean|^2 is chi^2 of k, and the deviations of the covariance one of k (k + 1) / 2.

    Every sample has a y of its own, and its mean taken off: the covariance is the same for all.
    """
    exact, y = exact_and_data()
    guide = GaussianGuide(ExactDenoiser(BOUND, SCHEDULE), SENSORS, y)
    n, k = PROBLEMS, len(exact.eigenvalues)
    units = torch.cat([torch.zeros(1, 2 * NODES), exact.eigenvectors.T]).double().reshape(-1, 2, NODES)
    ends = whitened(drawn(guide, units * HIGHEST), exact)
    bias = (ends[1:] - ends[:1]) - torch.eye(k, dtype=torch.float64)  # in standard deviations
    assert float(bias.norm()) < 0.02  # 2000 draws tell 0.022 in a mean, 0.016 in a standard deviation
    assert float(ends[0].norm()) < 2e-3

    _, means, samples = problems()
    z = whitened(samples - means + exact.mean, exact)
    of_mean = n * float(z.mean(0).square().sum())
    assert abs(of_mean - k) < 3 * math.sqrt(2 * k)
    deviation = z.T @ z / n - torch.eye(k, dtype=torch.float64)
    of_covariance = n * float(deviation.triu(1).square().sum() + deviation.diagonal().square().sum() / 2)
    count = k * (k + 1) / 2
    assert abs(of_covariance - count) < 3 * math.sqrt(2 * count)


def test_ninety_percent_intervals_cover_ninety_percent_of_two_thousand_problems() -> None:
    """The truth, and one sample per problem from its own y, lie in the exact interval with probability 0.9."""
    truth, means, samples = problems()
    exact, _ = exact_and_data()
    inside = slice(1, -1)  # the ends have no width
    half = 1.6448536269514722 * exact.posterior_covariance(exact.mean[None], 0.0, 1.0).diagonal()[0, :, inside].sqrt()
    for fields in (truth, samples):
        covered = ((fields - means)[..., inside].abs() <= half).double().mean((0, 2))
        for share in covered.tolist():  # of f and of u; the standard error is below 0.5 %
            assert share == pytest.approx(0.9, abs=0.02)


def test_the_sensors_sharpen_what_the_equation_leaves_open() -> None:
    """As a check of the setting: without noise three sensors take three dimensions of the eight that are left."""
    hard = LinearObservation(SENSORS.matrix, (2, NODES))
    exact = posterior(BOUND, hard, hard(BOUND.mean[None])[0])
    assert (len(PRIOR.eigenvalues), len(BOUND.eigenvalues), len(exact.eigenvalues)) == (10, 8, 5)
