"""Where the certifier asks a likelihood, and how wrong it lets it be."""

import math

import pytest

from diffuscope.certify import certify_likelihood
from diffuscope.schedules import VE, VP


def exact_density(denoiser, x_t, t, generator):  # noqa: ARG001
    schedule = denoiser.schedule
    return denoiser.distribution.log_prob(x_t, schedule.alpha(t), schedule.sigma(t))


def test_a_density_is_good_to_a_hundredth_of_a_nat_and_its_mass_to_two_percent():
    def findings(off: float):
        return certify_likelihood(lambda *given: exact_density(*given) + off)

    for off, (densities, mass) in {
        0.009: ("good", "good"),
        -0.009: ("good", "good"),
        0.011: ("alarm", "good"),
        -0.011: ("alarm", "good"),
        math.log(1.019): ("alarm", "good"),
        math.log(1.021): ("alarm", "alarm"),
        math.log(0.979): ("alarm", "alarm"),
    }.items():
        *compared, normalized = findings(off)
        assert {finding.tone for finding in compared} == {densities}, off
        assert normalized.tone == mass, off
        assert all(finding.value == pytest.approx(off, abs=1e-9) for finding in compared)
        # the trapezoidal rule on 241 points of the line is exact to a millionth here
        assert normalized.value == pytest.approx(math.exp(off), abs=1e-6)


@pytest.mark.parametrize("schedule", [VP(), VE()], ids=["VP", "VE"])
def test_a_likelihood_is_evaluated_at_noised_points(schedule):
    """In 64 dimensions their square distance to the nearest component is its noised variance, to 4 standard errors."""
    asked = {}

    def watching(denoiser, x_t, t, generator):
        asked[denoiser.distribution.event_shape] = (denoiser.distribution, x_t, t)
        return exact_density(denoiser, x_t, t, generator)

    certify_likelihood(watching, schedule)
    distribution, x_t, t = asked[64,]
    assert float(schedule.noise_to_signal(t)) == pytest.approx(0.3, rel=1e-9)
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    squares = (x_t[:, None] - alpha * distribution.means).square().mean(2) / (
        alpha**2 * distribution.tail_variances + sigma**2
    )
    nearest = squares.gather(1, distribution.responsibilities(x_t, alpha, sigma).argmax(1)[:, None])
    assert abs(float(nearest.mean()) - 1) < 4 * (2 / (64 * len(x_t))) ** 0.5
