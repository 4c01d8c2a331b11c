"""Where the certifier asks a likelihood, and how wrong it lets it be."""

import math

import pytest
from likelihood_targets import exact

from diffuscope.certify import certify_likelihood
from diffuscope.schedules import VE, VP, RectifiedFlow


def test_a_density_is_good_to_a_hundredth_of_a_nat_and_its_mass_to_two_percent():
    def findings(off: float):
        return {f.name: f for f in certify_likelihood(lambda *given: exact(*given) + off, schedules=[VE()])}

    for off, (densities, mass) in {
        0.009: ("good", "good"),
        -0.009: ("good", "good"),
        0.011: ("alarm", "good"),
        -0.011: ("alarm", "good"),
        math.log(1.021): ("alarm", "alarm"),
        math.log(0.979): ("alarm", "alarm"),
    }.items():
        found = findings(off)
        compared = [finding for finding in found.values() if finding.title.startswith("Log-density")]
        assert len(compared) == 7
        large = [f for f in compared if f.name in ("likelihood.gaussian-16", "likelihood.mixture-64")]
        assert {finding.tone for finding in compared if finding not in large} == {densities}, off
        # 0.02 nats in 16 dimensions and 0.08 in 64
        assert [finding.tone for finding in large] == ["alarm" if abs(off) > 0.02 else "good", "good"]
        assert found["likelihood.mass"].tone == mass, off
        assert all(finding.value == pytest.approx(off, abs=1e-9) for finding in compared)
        # the trapezoidal rule on 241 points of the line is exact to a millionth here
        assert found["likelihood.mass"].value == pytest.approx(math.exp(off), abs=1e-6)
        assert found["likelihood.dtype"].tone == "good"  # 0.05 nats from float32 points


def test_a_likelihood_is_evaluated_at_noised_points_of_five_levels_in_three_schedules():
    """In 64 dimensions their square distance to the nearest component is its noised variance, to 4 standard errors."""
    asked, levels = {}, set()

    def watching(denoiser, x_t, t, generator):
        distribution, schedule = denoiser.distribution, denoiser.schedule
        asked.setdefault(distribution.event_shape, (distribution, schedule, x_t, t))
        if distribution.event_shape == (2,):
            levels.add((type(schedule), round(float(schedule.noise_to_signal(t)), 6)))
        return exact(denoiser, x_t, t, generator)

    certify_likelihood(watching)
    ratios = [0.02, 0.02 * 500**0.25, 0.02 * 500**0.5, 0.02 * 500**0.75, 10.0]
    assert {(kind, round(ratio, 6)) for kind in (VE, VP, RectifiedFlow) for ratio in ratios} < levels
    distribution, schedule, x_t, t = asked[64,]
    assert float(schedule.noise_to_signal(t)) == pytest.approx(0.3, rel=1e-9)
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    squares = (x_t[:, None] - alpha * distribution.means).square().mean(2) / (
        alpha**2 * distribution.tail_variances + sigma**2
    )
    nearest = squares.gather(1, distribution.responsibilities(x_t, alpha, sigma).argmax(1)[:, None])
    assert abs(float(nearest.mean()) - 1) < 4 * (2 / (64 * len(x_t))) ** 0.5
