"""Solutions against closed forms: moments, intervals, calibration, evidence, and when no interval may be given."""

import dataclasses
import json
import math

import numpy as np
import pytest
import torch

from diffuscope.denoisers import ExactDenoiser
from diffuscope.errors import InputError
from diffuscope.exact import Empirical, Gaussian
from diffuscope.physics import LinearObservation, posterior
from diffuscope.physics.prior_fields import Prior, generated_fields
from diffuscope.physics.prior_names import named_prior, own_prior
from diffuscope.physics.problems import PROBLEMS
from diffuscope.physics.sensors import Sensors
from diffuscope.physics.solution import ENOUGH, solve_inverse
from diffuscope.physics.solution_moments import (
    LEVELS,
    Moments,
    finite_set_calibration,
    gaussian_calibration,
    standard_deviation,
    weighted_moments,
)
from diffuscope.physics.solution_report import SolutionReport
from diffuscope.schedules import VE

Z90 = 1.6448536269514722  # of the normal distribution
LINE = PROBLEMS["poisson-1d"](17)


def readings(places, values, noise, channel=1):
    n = len(places)
    return Sensors(
        points=torch.tensor(places, dtype=torch.float64).reshape(n, -1),
        channels=torch.full((n,), channel, dtype=torch.long),
        values=torch.tensor(values, dtype=torch.float64),
        noise=torch.tensor(noise, dtype=torch.float64).expand(n).clone(),
    )


def closed_form(nodes, H, R, y):
    """Mean and covariance of (f, u) for -u'' = sum_k c_k sin(k pi x), c_k ~ N(0, k^-2), by dense algebra."""
    h = 1 / (nodes - 1)
    x = torch.linspace(0, 1, nodes, dtype=torch.float64)
    k = torch.arange(1, 9, dtype=torch.float64)[:, None]
    F = torch.sin(k * math.pi * x) / k
    A = torch.diag(torch.full((nodes - 2,), 2 / h**2).double())
    A = A - torch.diag(torch.full((nodes - 3,), 1 / h**2).double(), 1)
    A = A - torch.diag(torch.full((nodes - 3,), 1 / h**2).double(), -1)
    U = torch.zeros_like(F)
    U[:, 1:-1] = torch.linalg.solve(A, F[:, 1:-1].T).T
    F[:, [0, -1]] = 0
    S = torch.cat([F, U], 1).T @ torch.cat([F, U], 1)
    gain = S @ H.T @ torch.linalg.inv(H @ S @ H.T + R)
    return gain @ y, S - gain @ H @ S, H @ S @ H.T + R


def test_the_gaussian_solution_of_poisson_and_its_files_are_the_closed_form(tmp_path):
    sensors = readings([0.25, 0.5, 0.8125], [0.05, 0.1, -0.02], [0.01, 0.02, 0.03])
    found = solve_inverse(LINE, sensors, named_prior("gaussian", LINE), samples=2000)
    H = torch.zeros(3, 34, dtype=torch.float64)
    H[torch.arange(3), torch.tensor([17 + 4, 17 + 8, 17 + 13])] = 1
    mean, covariance, total = closed_form(17, H, torch.diag(sensors.noise**2), sensors.values)
    page = SolutionReport(found).save(tmp_path)
    with np.load(tmp_path / "solution.npz") as held:
        sd = covariance.diagonal().clamp(min=0).sqrt()
        np.testing.assert_allclose(held["mean"].ravel(), mean, atol=1e-12)
        np.testing.assert_allclose(held["sd"].ravel(), sd, atol=1e-8)
        np.testing.assert_allclose(held["quantile_95"].ravel(), mean + Z90 * sd, atol=1e-8)
        np.testing.assert_allclose(held["quantile_05"].ravel(), mean - Z90 * sd, atol=1e-8)
        samples = held["samples"].reshape(2000, -1)
        np.testing.assert_allclose(held["x"], np.linspace(0, 1, 17), atol=1e-15)
    error = sd.numpy() / math.sqrt(2000)
    assert (abs(samples.mean(0) - mean.numpy()) <= 4.5 * error + 1e-12).all()
    spread = torch.from_numpy(np.cov(samples.T))
    scatter = (sd[:, None] * sd).square() + covariance.square()  # of an entry, times n
    assert bool(((spread - covariance).abs() <= 5 * (scatter / 2000).sqrt() + 1e-12).all())
    y = sensors.values
    expected = -0.5 * (y @ torch.linalg.solve(total, y) + torch.logdet(2 * math.pi * total))
    assert found.log_evidence == pytest.approx(float(expected), abs=1e-9)
    written = json.loads((tmp_path / "solution.json").read_text())
    assert written["has_intervals"]
    assert written["readings"]["values"] == y.tolist()
    assert max(written["residual"]) < 1e-14
    assert "What was inferred" in page.read_text()
    misfit = ((samples[:, [21, 25, 30]] - y.numpy()) / sensors.noise.numpy()) ** 2
    np.testing.assert_allclose(found.misfit, np.sqrt(misfit.mean(1)), atol=1e-12)


def test_exact_boundary_values_are_met_by_every_sample_and_the_equation_holds():
    sensors = readings([0.0, 1.0, 0.5], [0.5, -0.25, 0.3], [0.0, 0.0, 0.1])
    prior = named_prior("open-boundary", LINE)
    found = solve_inverse(LINE, sensors, prior, samples=200)
    ends = found.samples[:, 1, [0, -1]] - torch.tensor([0.5, -0.25], dtype=torch.float64)
    assert float(ends.abs().max()) < 1e-10
    assert float(found.residual.max()) < 1e-12
    assert found.moments is not None
    assert float(found.moments.sd[1, [0, -1]].max()) < 1e-9
    assert isinstance(prior.distribution, Gaussian)
    read = prior.distribution.eigenvectors[[17, 33, 25]]
    total = (read * prior.distribution.eigenvalues) @ read.T + torch.diag(sensors.noise**2)
    y = sensors.values
    expected = -0.5 * (y @ torch.linalg.solve(total, y) + torch.logdet(2 * math.pi * total))
    assert found.log_evidence == pytest.approx(float(expected), abs=1e-9)


def test_a_boundary_value_that_the_prior_excludes_is_refused():
    with pytest.raises(
        InputError, match=r"data: given: expected values that the prior can take .* by 0.5; the prior is"
    ):
        solve_inverse(LINE, readings([0.0], [0.5], [0.0]), named_prior("gaussian", LINE))


def test_moments_of_a_finite_set_are_those_of_its_weights():
    x = torch.tensor([[3.0], [1.0], [2.0], [5.0], [9.0]], dtype=torch.float64)
    w = torch.tensor([0.3, 0.04, 0.31, 0.35, 0.0], dtype=torch.float64)
    found = weighted_moments(x, w)
    assert float(found.mean) == pytest.approx(0.9 + 0.04 + 0.62 + 1.75)
    assert float(found.sd) ** 2 == pytest.approx(2.7 + 0.04 + 1.24 + 8.75 - 3.31**2)
    assert (float(found.low), float(found.high)) == (2.0, 5.0)  # 4% lies below 2, 65% below 5


def test_the_finite_solution_has_the_weights_of_the_likelihood():
    fields = generated_fields(LINE, 1500, seed=1)
    sensors = readings([0.5], [0.05], [0.05])
    found = solve_inverse(LINE, sensors, Prior(name="set", words="a set", fields=fields), samples=4000)
    w = torch.exp(-((fields[:, 1, 8] - 0.05) ** 2) / (2 * 0.05**2))
    evidence = float((w / math.sqrt(2 * math.pi) / 0.05).mean().log())
    w = w / w.sum()
    assert found.moments is not None
    torch.testing.assert_close(found.moments.mean, torch.einsum("n,nci->ci", w, fields), atol=1e-12, rtol=0)
    assert found.effective == pytest.approx(float(1 / w.square().sum()), rel=1e-9)
    assert found.log_evidence == pytest.approx(evidence + 0.5 * math.log(2 * math.pi) + math.log(0.05), abs=1e-9)
    error = found.moments.sd[1, 8] / math.sqrt(4000)
    assert abs(float(found.samples[:, 1, 8].mean() - found.moments.mean[1, 8])) < 4 * float(error)


def test_too_few_agreeing_fields_give_no_interval_but_the_number_that_would_do():
    fields = generated_fields(LINE, 400, seed=1)
    prior = named_prior("generated", LINE, fields=400, seed=1)
    torch.testing.assert_close(prior.fields, fields)
    sensors = readings([0.25, 0.5, 0.75], fields[0, 1, [4, 8, 12]].tolist(), [0.001])
    found = solve_inverse(LINE, sensors, prior, samples=20)
    report = SolutionReport(found)
    assert found.effective is not None
    assert found.effective < ENOUGH
    assert not found.has_intervals
    assert "mean" not in report.arrays()
    assert "Cannot tell: too few of the 400 fields of the prior agree" in report.headline
    assert "--prior gaussian" in report.headline
    assert {finding.tone for finding in report.findings[::2]} == {"unknown"}


def test_readings_that_contradict_the_prior_are_called_so():
    found = solve_inverse(LINE, readings([0.5], [5.0], [0.01]), named_prior("gaussian", LINE), samples=20)
    report = SolutionReport(found)
    assert found.percentile == pytest.approx(1 / 401)
    assert report.findings[1].tone == "alarm"
    assert "contradict the prior" in report.headline
    found = solve_inverse(LINE, readings([0.5], [5.0], [0.01]), named_prior("generated", LINE, fields=200), samples=20)
    assert "contradict the prior" in SolutionReport(found).headline


@pytest.mark.parametrize(("stated", "headline"), [(0.02, "contradict the prior"), (0.5, "scatter less")])
@pytest.mark.parametrize("name", ["gaussian", "generated"])
def test_no_interval_is_called_right_where_the_noise_is_wrong_by_a_factor_of_five(name, stated, headline):
    """A mean square of 40 standardized readings of 25 or 1/25 is beyond 1% on either side."""
    truth = generated_fields(LINE, 1, seed=3, stream="truth")[0, 1]
    generator = torch.Generator().manual_seed(0)
    node = torch.randint(1, 16, (40,), generator=generator)
    values = truth[node] + 0.1 * torch.randn(40, dtype=torch.float64, generator=generator)
    prior = named_prior(name, LINE, fields=2000)
    found = solve_inverse(LINE, readings((node / 16).tolist(), values.tolist(), [stated]), prior, samples=20)
    report = SolutionReport(found)
    assert found.contradicted == (stated < 0.1)
    assert found.too_probable == (stated > 0.1)
    assert found.calibration is not None
    assert found.calibration.noticed > 0.99
    assert report.findings[1].verdict.startswith("No: ")
    assert not report.findings[2].verdict.startswith("Yes")
    assert headline in report.headline


def test_the_power_of_few_readings_is_that_of_the_closed_form():
    """One reading of N(0, 1) with noise r is surprising where |y| > 2.576 s, s^2 = 1 + r^2, so five times the noise is
    noticed with the probability 2 Phi(-2.576 s / s'), s'^2 = 1 + 25 r^2."""
    generator = torch.Generator().manual_seed(0)
    prior = Gaussian.isotropic(torch.zeros(1, 1, dtype=torch.float64), 1.0)
    truths, r = torch.randn(10000, 1, 1, dtype=torch.float64, generator=generator), torch.full((1,), 0.6).double()
    sd = torch.full((1, 1), 0.6 / math.sqrt(1.36)).double()
    found = gaussian_calibration(prior, sd, truths, torch.eye(1, dtype=torch.float64), r, generator=generator)
    expected = math.erfc(2.5758 * math.sqrt((1 + 0.36) / (1 + 25 * 0.36)) / math.sqrt(2))  # 0.342
    # the quantile is that of 100 of 10,000: 10% of a tail, about 0.02 of the power in one standard error
    assert found.noticed == pytest.approx(expected, abs=0.04)
    one = solve_inverse(LINE, readings([0.5], [0.02], [0.01]), named_prior("gaussian", LINE), samples=20)
    assert "Yes, as far as 1 reading can tell" in SolutionReport(one).findings[1].verdict


@pytest.mark.parametrize("scale", [1.0, 0.25, 2.0])
def test_coverage_of_a_gaussian_of_another_variance_is_the_closed_form(scale):
    """Of truths N(0, 1) under N(0, v): 2 Phi(1.645 sqrt v) - 1 where nothing is read. Where it is read with noise r the
    mean has an error of variance (r^4 + v^2 r^2) / (v + r^2)^2, and the posterior has v r^2 / (v + r^2)."""
    generator = torch.Generator().manual_seed(0)
    truths, r, v = torch.randn(4000, 1, 40, dtype=torch.float64, generator=generator), 0.7, scale
    prior = Gaussian.isotropic(torch.zeros(1, 40, dtype=torch.float64), v)
    matrix = torch.eye(40, dtype=torch.float64)[:20]
    left = posterior(prior, LinearObservation(matrix, (1, 40), r), torch.zeros(20))
    sd, noise = standard_deviation(left), torch.full((20,), r, dtype=torch.float64)
    found = gaussian_calibration(prior, sd, truths, matrix, noise, generator=generator)
    unread = math.sqrt(v)
    read = math.sqrt(v * r**2 * (v + r**2) / (r**4 + v**2 * r**2))
    exact = sum(math.erf(Z90 * ratio / math.sqrt(2)) for ratio in (unread, read)) / 2
    coverage, error = found.at(0)
    assert error == pytest.approx(math.sqrt(exact * (1 - exact) / 160_000), rel=0.2)
    assert abs(coverage - exact) < 4 * error
    if scale == 1:
        assert float((found.coverage[0] - torch.tensor(LEVELS).double()).abs().max()) < 0.006


def test_each_truth_is_left_out_of_its_own_set():
    """Ranks of all members of a set among the nine others are 0 to 9, once each: the interval of 90% holds eight."""
    fields = torch.randn(10, 1, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    nothing = torch.zeros(1, 6, dtype=torch.float64)
    found = finite_set_calibration(fields, nothing, 10, generator=torch.Generator().manual_seed(0))
    assert found.at(0)[0] == pytest.approx(0.8)
    assert found.effective is not None
    torch.testing.assert_close(found.effective, torch.full((10,), 9.0).double())
    assert found.coverage[0, 0] == 0.0  # no rank from 9 in ten is within 10% of the middle


def test_intervals_of_a_large_finite_set_hold_what_they_say():
    fields = torch.randn(1500, 1, 20, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    matrix = torch.eye(20, dtype=torch.float64)[:1] / 0.5
    found = finite_set_calibration(fields, matrix, 700, generator=torch.Generator().manual_seed(1))
    for k, level in enumerate(LEVELS):
        assert abs(float(found.coverage[0, k]) - level) < 4 * float(found.error[0, k]) + 0.005


def test_a_gaussian_in_place_of_darcy_fields_is_seen_to_miss_the_equation():
    darcy = PROBLEMS["darcy"](11)
    prior = named_prior("gaussian", darcy, fields=150)
    assert prior.truths is not None
    sensors = Sensors(
        points=torch.tensor([[0.5, 0.5], [0.3, 0.6]], dtype=torch.float64), channels=torch.tensor([1, 1]),
        values=prior.truths[0, 1, [5, 3], [5, 6]], noise=torch.tensor([0.02, 0.02], dtype=torch.float64),
    )  # fmt: skip
    report = SolutionReport(solve_inverse(darcy, sensors, prior, samples=20))
    assert report.findings[3].tone == "attention"
    assert report.findings[3].verdict.startswith("No: ")
    exact = SolutionReport(solve_inverse(darcy, sensors, named_prior("generated", darcy, fields=100), samples=20))
    assert exact.findings[3].tone == "good"


def test_a_truth_at_either_end_of_its_interval_is_inside():
    """Of four nodes that are free one lies at the lower end, one at the upper, one within and one beyond: 75%."""
    found = solve_inverse(LINE, readings([0.5], [0.05], [0.05]), named_prior("gaussian", LINE), samples=2)
    free = torch.tensor([4, 8, 9, 13])
    sd = torch.zeros(2, 17, dtype=torch.float64)
    sd[:, free] = 1.0
    moments = Moments(mean=0 * sd, sd=sd, low=-sd, high=2 * sd)
    truth = torch.zeros(2, 17, dtype=torch.float64)
    truth[:, free] = torch.tensor([-1.0, 2.0, 0.5, 2.5], dtype=torch.float64)
    known = dataclasses.replace(found, moments=moments, truth=truth, prior_sd=sd)
    (table,) = SolutionReport(known)._graded()
    size = math.sqrt((1 + 4 + 0.25 + 6.25) / 17)
    for row in table.rows:
        assert row[1:] == pytest.approx([size, 1.0, 75.0])


def test_a_denoiser_is_guided_to_the_posterior_and_nothing_certifies_it():
    gaussian = named_prior("gaussian", LINE).distribution
    assert isinstance(gaussian, Gaussian)
    sensors = readings([0.25, 0.5], [0.05, 0.1], [0.02])
    exact = solve_inverse(LINE, sensors, own_prior(gaussian, "mine:gaussian"), samples=2)
    prior = own_prior(ExactDenoiser(gaussian, VE()), "mine:denoiser")
    found = solve_inverse(LINE, sensors, prior, samples=200)
    assert exact.moments is not None
    sd = exact.moments.sd[1]
    error = (found.samples[:, 1].mean(0) - exact.moments.mean[1]).abs()
    assert bool((error <= 0.25 * sd + 1e-6).all())  # 20 steps: 3.5 standard errors of the mean of 200
    report = SolutionReport(found)
    assert report.findings[2].verdict.startswith("Cannot tell: readings cannot be simulated")
    assert "not certified" in report.headline


def test_samples_that_do_not_follow_the_readings_are_called_so():
    """A denoiser of one field, whose covariance is zero, cannot be moved: 0 misses 0.1 +- 0.02 by five."""
    still = own_prior(ExactDenoiser(Gaussian.isotropic(torch.zeros(2, 17), 0.0), VE()), "mine:still")
    found = solve_inverse(LINE, readings([0.5], [0.1], [0.02]), still, samples=10)
    agreement = SolutionReport(found).findings[1]
    assert agreement.verdict.startswith("The readings are not followed. The samples miss the readings by 5 ")
    assert agreement.tone == "attention"


@pytest.mark.parametrize(("values", "says"), [([0.1, 0.1], "Cannot tell: 1 reading repeats"), ([0.1, 0.101], "Yes")])
def test_a_reading_that_was_copied_does_not_narrow_the_intervals_unnoticed(values, says):
    prior = named_prior("gaussian", LINE)
    found = solve_inverse(LINE, readings([0.5, 0.5], values, [0.02, 0.02]), prior, samples=10)
    calibration = SolutionReport(found).findings[2]
    assert calibration.verdict.startswith(says)
    assert (calibration.tone == "good") == (says == "Yes")


def test_priors_of_other_shapes_and_kinds_are_refused():
    sensors = readings([0.5], [0.1], [0.1])
    with pytest.raises(InputError, match=r"prior: expected fields of shape \(2, 17\)"):
        solve_inverse(LINE, sensors, own_prior(Gaussian.isotropic(torch.zeros(2, 9), 1.0), "mine:x"))
    with pytest.raises(InputError, match=r"prior: expected a Gaussian, .* or a Denoiser, got int"):
        own_prior(3, "mine:x")
    with pytest.raises(InputError, match="prior: expected generated, gaussian"):
        named_prior("gauss", LINE)
    with pytest.raises(InputError, match="prior: expected open-boundary with poisson"):
        named_prior("open-boundary", PROBLEMS["darcy"](11))
    fields = own_prior(Empirical(generated_fields(LINE, 100, seed=0)), "mine:set")
    with pytest.raises(InputError, match="noise: expected > 0 with the prior mine:set"):
        solve_inverse(LINE, readings([0.5], [0.1], [0.0]), fields)


def test_no_generated_fields_are_a_mistake():
    with pytest.raises(InputError, match="fields: expected at least 1, got 0"):
        generated_fields(LINE, 0, seed=0)


def test_more_fields_begin_with_the_same_ones():
    few, more = (generated_fields(LINE, n, seed=3) for n in (120, 250))
    assert torch.equal(few, more[:120])
    assert not torch.equal(more[:100], more[100:200])
