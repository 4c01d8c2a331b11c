"""Intervals of skewed errors: their rate of false alarms, and what passes, fails or is undecided by them."""

import pytest
import torch
from likelihood_targets import exact, normal, probe_noise
from scipy import stats

from diffuscope.certify import certify_likelihood, likelihood, likelihood_problems
from diffuscope.certify.likelihood_calls import Calls
from diffuscope.certify.likelihood_errors import Place, SharedBudget, measure
from diffuscope.certify.likelihood_interval import Limits, judge, skew_interval
from diffuscope.schedules import VE, VP


def test_the_interval_of_symmetric_values_is_students():
    values = torch.tensor([[-2.0], [-1.0], [0.0], [1.0], [2.0]], dtype=torch.float64)
    low, high = skew_interval(values, torch.tensor([0.01], dtype=torch.float64))
    half = stats.t.isf(0.01, 4) * float(values.std()) / 5**0.5
    assert (float(low), float(high)) == (pytest.approx(-half), pytest.approx(half))


def test_the_interval_of_chi_squared_means_excludes_the_truth_as_rarely_as_it_says(generator):
    """20,000 means of 16 chi-squared variables with 3 degrees of freedom: 2% are expected, 3.5% allowed.

    Student's interval excludes the truth in more than 5%, nearly always on one side.
    """
    gammas = torch.randn(16, 20_000, 3, dtype=torch.float64, generator=generator).square().sum(2)
    low, high = skew_interval(gammas, torch.full((20_000,), 0.01, dtype=torch.float64))
    standard_error = (0.035 * 0.965 / 20_000) ** 0.5
    assert float(((low > 3) | (high < 3)).double().mean()) < 0.035 - 4 * standard_error
    half = float(stats.t.isf(0.01, 15)) * gammas.std(0) / 4
    assert float(((gammas.mean(0) - 3).abs() > half).double().mean()) > 0.04


def test_an_interval_within_the_zone_passes_one_beyond_the_tolerance_fails_and_others_are_undecided(generator):
    limits = Limits(0.01, 4, 100)
    noise = torch.randn(32, 4, 8, dtype=torch.float64, generator=generator)
    noise = noise - noise.mean((0, 1))
    small, large = 0.1 * noise, 20 * noise
    assert limits.zone(8)[:2].tolist() == pytest.approx([0.41, 1.61])
    for off, passes, fails in ((0.0, True, False), (0.2, True, True), (1.0, False, True)):
        judged = judge(small + off, limits)
        assert (judged.inside, bool(judged.failing.any())) == (passes, fails), off
    for off in (0.0, 0.2, 1.0):
        judged = judge(large + off, limits)
        assert not judged.inside
        assert not judged.failing.any()
        assert judged.missing > 1
    one_sample = small + torch.tensor([3.0, -3.0] + 6 * [0.0], dtype=torch.float64)  # no error in the mean
    judged = judge(one_sample, limits)
    assert judged.failing.tolist() == [False, True, True] + 6 * [False]
    assert judged.worst in (1, 2)


def test_an_unbiased_estimate_passes_and_says_how_well_it_is_known():
    """A probe of variance 2 in every direction; the mean over 8 samples must be known to 0.2 sqrt(d) nats."""

    def estimate(denoiser, x_t, t, generator):
        return exact(denoiser, x_t, t, generator) + probe_noise(x_t, generator, 1.0)

    found = {finding.name: finding for finding in certify_likelihood(estimate, schedules=[VE()])}
    assert {finding.tone for finding in found.values()} == {"good", "neutral"}
    plane = found["likelihood.VE"]
    assert plane.interval is not None
    low, high = plane.interval
    assert -0.3 < low < plane.value < high < 0.3
    assert "standard error" in plane.verdict
    assert found["likelihood.mass"].tone == found["likelihood.batch"].tone == "neutral"


def test_noise_that_the_rows_of_a_call_share_is_not_taken_for_independent():
    """One draw for the whole batch: copies are no repeats, and the standard error is that of the calls."""

    def estimate(denoiser, x_t, t, generator):
        return exact(denoiser, x_t, t, generator) + 0.5 * (normal(x_t[:1, 0], generator).square() - 1)

    place = Place(likelihood_problems()[0], VP(), 0.3)
    found = measure(Calls(estimate), place, Limits(0.01, 1, 20), SharedBudget(60.0, 1))
    assert found.tone != "alarm"
    # 0.5 sqrt(2) over the root of 32 to 256 calls, four standard deviations below; 512 copies would make it 0.01
    assert found.standard_error > 0.7 / 256**0.5 * 0.7


def test_without_time_a_noisy_estimate_is_undecided_and_says_what_would_decide():
    def estimate(denoiser, x_t, t, generator):
        return exact(denoiser, x_t, t, generator) + 30 * normal(x_t[:, 0], generator)

    found = {finding.name: finding for finding in certify_likelihood(estimate, schedules=[VE()], budget=1e-3)}
    plane = found["likelihood.VE"]
    assert plane.tone == "unknown"
    assert "repeats would decide" in plane.verdict
    assert "5 of 5 levels are undecided" in plane.verdict


@pytest.mark.slow
def test_false_alarms_of_a_skewed_estimate_are_rarer_than_one_in_a_hundred(monkeypatch: pytest.MonkeyPatch):
    """300 certificates of an unbiased Gaussian probe in other seeds: none fails (at most 1% with 95% confidence)."""
    monkeypatch.setattr(likelihood, "likelihood_problems", lambda: ())
    for offset in range(300):

        def estimate(denoiser, x_t, t, generator, offset=offset):
            own = torch.Generator().manual_seed(generator.initial_seed() + 1_000_003 * offset)
            return exact(denoiser, x_t, t, generator) + probe_noise(x_t, own, 2.0)

        found = certify_likelihood(estimate, schedules=[VE()])
        assert not [finding for finding in found if finding.tone == "alarm"], offset
