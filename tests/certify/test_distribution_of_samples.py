"""What the distribution of the samples is judged by: statistics whose means are exact, and a fault that only the width
feels.
"""

import pytest
import torch

from diffuscope.certify import Target, mixture, unequal_gaussian
from diffuscope.certify.sample_distribution import distribution_finding, exact_moments, moments
from diffuscope.exact import GaussianMixture
from diffuscope.samplers import DDPM, sample
from diffuscope.schedules import VE

RATIO, SAMPLES = 0.3, 50_000


def errors_in_standard_errors(distribution: GaussianMixture, generator: torch.Generator) -> torch.Tensor:
    y = distribution.sample(SAMPLES, generator=generator).double()
    y = y + RATIO * torch.randn(y.shape, dtype=torch.float64, generator=generator)
    values = moments(distribution, y, RATIO)
    return (values.mean(0) - exact_moments(distribution, RATIO)).abs() / (values.std(0) / SAMPLES**0.5)


def test_exact_samples_have_the_exact_moments(generator: torch.Generator):
    distribution = mixture(2).distribution
    assert isinstance(distribution, GaussianMixture)
    assert float(errors_in_standard_errors(distribution, generator).max()) < 4


def test_the_moments_are_exact_for_components_of_any_shape_too(generator: torch.Generator):
    factors = torch.randn(3, 2, 2, dtype=torch.float64, generator=generator)
    covariances = factors @ factors.transpose(1, 2) + 0.01 * torch.eye(2).double()
    means = 2 * torch.randn(3, 2, dtype=torch.float64, generator=generator)
    weights = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    distribution = GaussianMixture.from_covariances(weights, means, covariances)
    assert float(errors_in_standard_errors(distribution, generator).max()) < 4


def test_components_too_wide_are_found_where_the_overall_moments_hide_them():
    def run(denoiser, x, times, generator):
        ended = sample(DDPM(), denoiser, x, times, noise=generator)
        return ended + 0.15 * torch.randn(x.shape, dtype=x.dtype, generator=generator)

    finding = distribution_finding(Target("wide", run, 1, True, 1), mixture(2), VE(), 4000)
    assert finding.tone == "alarm"
    sound = Target("DDPM", lambda d, x, t, g: sample(DDPM(), d, x, t, noise=g), 1, True, 1)
    assert distribution_finding(sound, mixture(2), VE(), 4000).tone == "good"


def test_samples_that_all_end_at_one_point_fail():
    """Their standard errors are zero, which once was a ZeroDivisionError in place of a finding."""
    target = Target("collapsed", lambda d, x, t, g: torch.ones_like(x), 1, True, 1)  # noqa: ARG005
    assert distribution_finding(target, mixture(2), VE(), 100).tone == "alarm"


def test_the_distribution_of_samples_needs_a_mixture():
    with pytest.raises(TypeError, match="expected a GaussianMixture, got Gaussian"):
        distribution_finding(Target("any", lambda *given: given[1], 1, True, 1), unequal_gaussian(), VE(), 10)


def test_too_few_accepted_steps_leave_a_bias_undecided():
    """Ten steps of DDPM are biased; twice as many, which it does not take, would show that it vanishes."""

    def run(denoiser, x, times, generator):
        return sample(DDPM(), denoiser, x, times, noise=generator)

    few = Target("few", run, 1, True, 1, finest=10)
    finding = distribution_finding(few, mixture(2), VE(), 20_000)
    assert finding.tone == "unknown", finding.verdict
    assert "more than the 10 steps it accepts" in finding.verdict
