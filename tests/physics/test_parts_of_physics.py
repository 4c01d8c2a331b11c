"""Numbers of the physics, each alone: laws, chains, hand-made posteriors, solutions at their thresholds, blocks."""

import dataclasses
import math

import pytest
import torch
from torch import Tensor

from diffuscope.denoisers import ExactDenoiser
from diffuscope.errors import InputError
from diffuscope.exact import Empirical, Gaussian
from diffuscope.physics import (
    PROBLEMS,
    Darcy,
    Heat,
    Matern,
    NonlinearObservation,
    Poisson,
    SquaredExponential,
    at_nodes,
    exact_posterior,
    finite_prior,
    log_evidence,
    posterior_weights,
)
from diffuscope.physics.finite_prior import FiniteTwist, PointSet
from diffuscope.physics.gibbs import GibbsPosterior
from diffuscope.physics.gibbs_denoiser import GibbsDenoiser
from diffuscope.physics.grading.case import Case, resampled
from diffuscope.physics.grading.finite_set import DarcySet
from diffuscope.physics.grading.gaussian import poisson_cases
from diffuscope.physics.grading.levy import optimality_gap
from diffuscope.physics.grading.page import grading_json, headline, shown, size
from diffuscope.physics.grading.run import Row, Settings
from diffuscope.physics.grading.scores import Grader, Pooled
from diffuscope.physics.grid import Grid
from diffuscope.physics.levy import BernoulliGaussJumps, GaussianJumps, LaplaceJumps, LevyProcess, StudentJumps
from diffuscope.physics.mixing import effective_sample_size, split_r_hat, standard_error
from diffuscope.physics.operators import LogNormal, SmoothField, TwoPhase
from diffuscope.physics.particles import Particles
from diffuscope.physics.prior_chains import DDPMChain, ExactChain, guidance
from diffuscope.physics.prior_fields import Prior, generated_fields
from diffuscope.physics.regression import Regression, contradiction
from diffuscope.physics.sensors import Sensors
from diffuscope.physics.solution import Solution, solve_inverse
from diffuscope.physics.solution_moments import LEVELS, Calibration, Moments
from diffuscope.physics.solution_report import SolutionReport
from diffuscope.physics.solution_verdicts import SolutionVerdicts, _rounded_up
from diffuscope.samplers.noise import Noise
from diffuscope.samplers.schedule_values import instants
from diffuscope.schedules import VE


def double(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# laws and fields


@pytest.mark.parametrize(
    "law", [GaussianJumps(), StudentJumps(), BernoulliGaussJumps(), LaplaceJumps(), LaplaceJumps(3.0)]
)
def test_the_kink_is_the_slope_of_the_log_density_beside_zero(law) -> None:
    u = double(1e-6)
    slope = float((law.density(u) / law.density(0 * u)).log() / u)
    assert law.kink == pytest.approx(-slope, abs=1e-5)
    assert law.atom == pytest.approx(1 - float(2 * (law.cdf(double(50.0)) - law.cdf(0 * u))), abs=2e-5)
    assert float(law.cdf(0 * u)) == pytest.approx((1 - law.atom) / 2)


def test_laws_fields_and_equations_are_of_unit_size_by_default() -> None:
    assert [law.variance for law in (GaussianJumps(), LaplaceJumps())] == pytest.approx([1, 1])
    assert [StudentJumps().variance, BernoulliGaussJumps().variance] == pytest.approx([3, 0.1])
    assert StudentJumps(2.0).variance == math.inf
    assert StudentJumps(2.5, 2.0).variance == pytest.approx(20)
    assert BernoulliGaussJumps(0.2).tail(0.2) == BernoulliGaussJumps(0.2).tail(0.9) == 0  # more than jump at all
    assert [float(k(double(0.0))) for k in (SquaredExponential(0.5), Matern(0.5))] == [1, 1]
    # of smoothness 3/2 by default: (1 + z) e^-z at z = root 3 d / length
    assert float(Matern(0.5)(double(0.5))) == pytest.approx((1 + 3**0.5) * math.exp(-(3**0.5)))
    assert float(SquaredExponential(0.3)(double(SquaredExponential(0.3).reach))) == pytest.approx(1e-16, rel=0.2)
    assert float(Matern(0.3, 0.5)(double(Matern(0.3, 0.5).reach))) < 1e-16
    assert (Poisson(Grid((3,))).shift, Heat(Grid((3, 3))).diffusivity, Darcy(Grid((3,))).forcing) == (0, 1, 1)
    assert (SmoothField().alpha, SmoothField().tau, TwoPhase().high / TwoPhase().low) == (3, 10, pytest.approx(18))
    assert (TwoPhase().high, LogNormal().std) == (1, 1)
    box = Grid((3, 4))
    assert (box.lengths, box.origin, box.periodic) == ((1.0, 1.0), (0.0, 0.0), (False, False))


# chains


def test_steps_add_noise_and_do_not_take_it_away() -> None:
    """The same stream of noise, by the formulas of the chain: of a Gaussian N(m, v), whose x_0 is drawn exactly."""
    data = Gaussian(double(0.5, -1.0), torch.eye(2, dtype=torch.float64), double(2.0, 0.3))
    t, s = instants(VE(), double(3.0, 1.0))
    like, denoised = torch.zeros(3, 2, dtype=torch.float64), torch.ones(3, 2, dtype=torch.float64)
    chain = DDPMChain(ExactDenoiser(data, VE()))
    assert torch.equal(chain.start(like, t, Noise(seeded())), 3 * Noise(seeded()).normal(like))
    x_t = chain.start(like, t, Noise(seeded(1)))
    kept = (1 / 3) ** 2  # k x_t + (1 - k) x_0, of variance sigma_s^2 (1 - sigma_s^2 / sigma_t^2)
    expected = kept * x_t + (1 - kept) * denoised + (1 - 1 / 9) ** 0.5 * Noise(seeded()).normal(like)
    torch.testing.assert_close(chain.step(x_t, denoised, t, s, Noise(seeded())), expected)
    exact, noise = ExactChain(data, VE()), Noise(seeded())
    clean = data.sample(3, generator=noise.generator)
    torch.testing.assert_close(exact.start(like, t, Noise(seeded())), clean + 3 * noise.normal(like))
    noise = Noise(seeded())
    x_0 = exact.finish(x_t, denoised, t, noise)
    expected = kept * x_t + (1 - kept) * x_0 + (8 / 9) ** 0.5 * noise.normal(like)
    torch.testing.assert_close(exact.step(x_t, denoised, t, s, Noise(seeded())), expected)


def test_a_move_of_one_nat_is_guided_in_nine_of_ten_cases_and_beyond_it_less() -> None:
    assert guidance(double(3.0, -1.0, -2.0, -5.0)).tolist() == pytest.approx(
        [0.9, 0.9, 0.9 * math.exp(-1), 0.9 * math.exp(-4)]
    )


def particles(log_Z: list[float]) -> Particles:
    weights = double(*log_Z)[:, None].expand(-1, 2)
    return Particles(torch.zeros(len(log_Z), 2, 1), weights, torch.ones(1, len(log_Z)), torch.zeros(1, 1), 0)


def test_replicas_are_trusted_up_to_a_standard_error_of_a_quarter() -> None:
    """Z = 1 +- a in two replicas: the standard error of log Z is a."""
    for a, trusted in ((0.249, True), (0.251, False)):
        found = particles([math.log(1 - a), math.log(1 + a)])
        assert found.log_evidence_error == pytest.approx(a)
        assert found.trusted is trusted
        assert found.log_evidence == pytest.approx(0, abs=1e-12)
        assert found.replica_ess == pytest.approx(4 / (2 + 2 * a**2))


def test_chains_of_several_problems_are_judged_each_by_itself() -> None:
    x = torch.randn(2, 3, 40, 4, dtype=torch.float64, generator=seeded()).cumsum(2)
    means, within = 0.5 * x, torch.rand(2, 3, 40, 4, dtype=torch.float64, generator=seeded(1))
    found = GibbsPosterior(
        x=x, means=means, variances=within, covariances=torch.eye(4).double().expand(2, 4, 4), burn_in=0
    )
    for i in range(2):
        for j in range(4):
            series = x[i, :, :, j]
            assert found.r_hat[i, j] == split_r_hat(series)
            assert found.effective_sample_size[i, j] == effective_sample_size(series)
            assert found.mean_error[i, j] == standard_error(means[i, :, :, j])
            squares = within[i, :, :, j] + (means[i, :, :, j] - found.mean[i, j]).square()
            assert found.variance[i, j] == pytest.approx(float(squares.mean()))
            assert float(found.variance_error[i, j]) == pytest.approx(float(standard_error(squares)))
        between = torch.cov(means[i].flatten(0, 1).T, correction=0)
        torch.testing.assert_close(found.covariance[i], torch.eye(4).double() + between)
    assert not found.mixed  # random walks
    assert found.draws(5).shape == (5, 2, 4)
    assert torch.equal(found.draws(120)[:, 0], x[0].flatten(0, 1))


def test_the_gibbs_denoiser_runs_the_chains_that_are_asked_for() -> None:
    denoiser = GibbsDenoiser(LevyProcess(LaplaceJumps(), 3), VE(), chains=5, burn_in=7, sweeps=6, seed=3)
    x_t = double(0.3, -1.0, 2.0)[None]
    found = denoiser.posterior(x_t, 0.7)
    assert found.x.shape == (1, 5, 6, 3)
    assert found.burn_in == 7
    assert torch.equal(denoiser(x_t, 0.7), found.mean)
    other = dataclasses.replace(denoiser, seed=4)
    assert not torch.equal(other(x_t, 0.7), found.mean)


# constraints


def test_a_contradiction_has_its_size_on_either_side() -> None:
    """Two rows that read the same number, and readings that differ by 2: each is off by 1."""
    H = double(1.0, 1.0)[:, None]
    regression = Regression.of(H, H, double(1.0), 0.0)
    e = torch.stack([double(1.0, 3.0), double(3.0, 1.0), double(2.0, 2.0)])
    assert contradiction(regression, e, e.abs()).tolist() == pytest.approx([1, 1, 0])
    noisy = Regression.of(H, H, double(1.0), 0.1)
    assert contradiction(noisy, e, e.abs()).tolist() == [0, 0, 0]


# blocks


def test_finite_sets_are_gone_through_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    points = Empirical(torch.randn(5, 2, dtype=torch.float64, generator=seeded()), double(1, 2, 3, 4, 5) / 15)
    sizes: list[int] = []

    def h(x: Tensor) -> Tensor:
        sizes.append(len(x))
        return x[:, :1] * x[:, 1:]

    observation, y = NonlinearObservation(h, (2,), 0.5), double(0.3)
    weights, evidence = posterior_weights(points, observation, y), log_evidence(points, observation, y)
    twist = FiniteTwist.of(points, VE(), observation, y).log_likelihoods
    fast, x = PointSet.of(points), torch.randn(3, 2, dtype=torch.float64, generator=seeded(1))
    whole = fast.denoise(x, 1.0, 0.7)
    for numbers, blocks in ((4, [2, 2, 1]), (1, [1] * 5), (100, [5])):
        monkeypatch.setattr(exact_posterior, "CHUNK", numbers)
        monkeypatch.setattr(finite_prior, "LOGITS", numbers)
        sizes.clear()
        torch.testing.assert_close(posterior_weights(points, observation, y), weights)
        assert sizes == blocks
        assert log_evidence(points, observation, y) == pytest.approx(evidence)
        sizes.clear()
        torch.testing.assert_close(FiniteTwist.of(points, VE(), observation, y).log_likelihoods, twist)
        assert sizes == blocks
        torch.testing.assert_close(fast.denoise(x, 1.0, 0.7), whole)
    for numbers, rows in ((10, [2, 1]), (4, [1, 1, 1]), (15, [3])):
        monkeypatch.setattr(finite_prior, "LOGITS", numbers)
        assert [len(part) for part in fast.logits(x, 1.0, 0.7)] == rows


@pytest.mark.parametrize("ask", [
    lambda n: solve_inverse(LINE, SENSORS, FLAT, samples=n),
    lambda n: generated_fields(LINE, n, seed=0),
])  # fmt: skip
def test_more_than_the_memory_holds_is_refused(ask) -> None:
    with pytest.raises(InputError, match=r"^(samples|fields): "):
        ask(10**12)


# solutions at their thresholds

LINE = PROBLEMS["poisson-1d"](5)
SENSORS = Sensors(points=double(0.5)[:, None], channels=torch.tensor([1]), values=double(1.0), noise=double(0.1))
FLAT = Prior(name="p", words="p", fields=torch.ones(4, 2, 5, dtype=torch.float64))
SD = torch.tensor([[0.0, 1.0, 1.0, 1.0, 0.0], [0.0, 2.0, 4.0, 2.0, 0.0]], dtype=torch.float64)


def solution(below: int = 50, count: int = 99, coverage: float = 0.9, error: float = 0.01, **given) -> Solution:
    """`below` of `count` simulated readings are less probable than these; two channels with the same coverage."""
    evidence = torch.cat([torch.full((below,), -1.0), torch.ones(count - below)]).double()
    k = LEVELS.index(0.9)
    shares, errors = torch.zeros(2, len(LEVELS)).double(), torch.zeros(2, len(LEVELS)).double()
    shares[:, k], errors[:, k] = coverage, error
    calibration = Calibration(truths=count, coverage=shares, error=errors, log_evidence=evidence, noticed=0.6)
    low, high = -SD, 3 * SD
    prepared = {
        "moments": Moments(mean=SD, sd=SD, low=low, high=high), "prior_sd": 2 * SD, "calibration": calibration,
        "log_evidence": 0.0, "effective": 30.0, "misfit": double(0.5, 1.5), "residual": double(1e-9, 3e-9),
    }  # fmt: skip
    return Solution(
        problem=LINE, sensors=SENSORS, prior=FLAT, samples=torch.ones(2, 2, 5).double(), truth=None, seed=0,
        **(prepared | given),
    )  # fmt: skip


def test_readings_contradict_a_prior_below_one_percent_and_are_too_probable_above_ninety_nine() -> None:
    assert solution(50).percentile == pytest.approx(51 / 100)
    for below, contradicted, too_probable in (
        (0, True, False),
        (1, False, False),
        (97, False, False),
        (99, False, True),
    ):
        found = solution(below)
        assert (found.contradicted, found.too_probable) == (contradicted, too_probable)
    for below, contradicted in ((8, True), (9, False)):  # of 999: 9 and 10 thousandths
        assert solution(below, 999).contradicted is contradicted


@pytest.mark.parametrize(
    ("coverage", "error", "tone"),
    [
        (0.9, 0.0255, "good"), (0.9, 0.0256, "unknown"), (0.95 - 1e-9, 0.0, "good"), (0.951, 0.0, "attention"),
        (0.849, 0.0, "attention"), (0.851, 0.0, "good"), (0.83, 0.0101, "attention"), (0.83, 0.0103, "unknown"),
        (0.97, 0.0101, "attention"), (0.97, 0.0103, "unknown"),
    ],
)  # fmt: skip
def test_intervals_are_right_within_five_points_of_their_level_by_two_errors(coverage, error, tone) -> None:
    found = SolutionVerdicts(solution(coverage=coverage, error=error)).findings[2]
    assert found.tone == tone
    assert found.value == pytest.approx(100 * coverage)
    assert found.interval == pytest.approx([100 * (coverage + side * 1.959964 * error) for side in (-1, 1)], rel=1e-6)
    assert f"in {100 * coverage:.3g}% of values ({100 * coverage:.3g}% for the forcing)" in found.verdict


def test_what_is_determined_is_said_in_half_widths_and_shares_of_the_priors_spread() -> None:
    found = SolutionVerdicts(solution()).findings[0]
    assert found.value == pytest.approx(2 * math.sqrt((4 + 16 + 4) / 3))  # half of 4 sd, over the free nodes
    assert "(50% of the prior's spread)" in found.verdict
    assert "30 effective fields of 4 agree" in found.power
    none = solution(moments=Moments(mean=SD, sd=0 * SD, low=SD, high=SD), prior_sd=None)
    assert SolutionVerdicts(none)._half_width(1) == 0
    assert SolutionVerdicts(none).findings[0].value == 0
    assert SolutionVerdicts(solution(prior_sd=None)).free(1).tolist() == [False, True, True, True, False]


@pytest.mark.parametrize(
    ("residual", "tone", "says"),
    [
        ((1e-9, 1e-8), "good", "Yes: the residual of the samples is at most"),
        ((1e-9, 1.1e-8), "attention", "No: the residual of the samples is up to"),
        ((math.nan, 1e-9), "attention", "No: 1 of 2 samples have a coefficient that is not positive."),
    ],
)
def test_the_equation_holds_where_rounding_explains_the_residual(residual, tone, says) -> None:
    found = SolutionVerdicts(solution(residual=double(*residual))).findings[3]
    assert found.tone == tone
    assert found.verdict.startswith(says)
    assert found.value == max(value for value in residual if value == value)


def test_a_disagreement_that_would_be_noticed_in_half_of_the_cases_tells() -> None:
    calibration = solution().calibration
    assert calibration is not None
    for noticed, tone, says in ((0.5, "good", "Yes: "), (0.49, "neutral", "Yes, as far as 1 reading can tell: ")):
        given = solution(calibration=dataclasses.replace(calibration, noticed=noticed))
        found = SolutionVerdicts(given).findings[1]
        assert found.tone == tone
        assert found.verdict.startswith(f"{says}the readings are at least as probable as 51% of readings simulated")
        assert "The samples miss the readings by 1 standard deviations" in found.verdict
        assert found.value == pytest.approx(51)
        assert f"would be noticed in {100 * noticed:.2g}% of cases" in found.power
    followed = solution(calibration=None, misfit=double(1.99))
    assert [SolutionVerdicts(each).findings[1].tone for each in (
        followed, solution(calibration=None, misfit=double(2.0)))] == ["neutral", "attention"]  # fmt: skip


def test_numbers_of_fields_that_would_do_are_rounded_up_to_one_digit() -> None:
    assert [_rounded_up(value) for value in (1.0, 1.2, 9.0, 9.1, 3000.0, 3001.0)] == [1, 2, 9, 10, 3000, 4000]


def test_the_page_the_table_and_the_json_of_a_solution_have_its_numbers() -> None:
    found = solution(truth=None)
    report = SolutionReport(found)
    told = report.as_json()
    assert told["percentile"] == pytest.approx(0.51)
    assert told["misfit"] == 1.0
    assert told["residual"] == [1e-9, 3e-9]
    assert told["calibration"]["coverage"] == pytest.approx([0.9, 0.9])  # pyright: ignore
    assert told["calibration"]["standard_error"] == pytest.approx([0.01, 0.01])  # pyright: ignore
    assert report._residuals().rows == [
        ["largest residual over |A| |u|", 3e-9], ["samples checked", 2],
        ["samples where the equation is not defined", 0], ["misfit of the samples, in standard deviations", 1.0],
    ]  # fmt: skip
    assert report._table().rows == [["1", 0.5, "solution", 1.0, 0.1, 4.0]]  # the mean, sd, at the middle
    assert report.lines()[1] == "Readings: 1 of the solution, noise 0.1, given"
    arrays = report.arrays()
    assert arrays["quantile_05"].tolist() == (-SD).tolist()
    assert arrays["quantile_95"].tolist() == (3 * SD).tolist()


# grading


def plane(reference: Tensor, weights: Tensor | None = None) -> Case:
    denoiser = ExactDenoiser(Gaussian.isotropic(torch.zeros(1, dtype=torch.float64), 1.0), VE())
    return Case(
        name="a", family="a", denoiser=denoiser, observation=at_nodes(torch.tensor([0]), (1,), 0.5), y=double(1.0),
        exact=resampled(reference), reference=reference, weights=weights, finite=True,
    )  # fmt: skip


def test_a_draw_is_a_point_within_a_tenth_of_the_least_distance_between_two() -> None:
    grader = Grader(plane(double(-16.0, 0.0, 16.0, 80.0)[:, None]))
    draws = double(1.59, -1.59, 1.61, -1.61, 78.41, 78.39, 16.0)[:, None]
    assert grader.cells(draws).tolist() == [1, 1, 4, 4, 3, 4, 2]
    assert grader.counts(draws).tolist() == [0, 2, 1, 1, 3]


def test_the_optimality_gap_is_the_excess_over_the_variance_in_decibels() -> None:
    """Points 0 and 4 of weights 1/4 and 3/4: mean 3, variance 3; an estimate of 6 costs 3 variances more."""
    case = plane(double(0.0, 4.0)[:, None], double(1.0, 3.0))
    assert optimality_gap([case], [double(6.0)]) == pytest.approx(10 * math.log10(4))
    assert optimality_gap([case, case], [double(3.0), double(6.0)]) == pytest.approx(10 * math.log10(2.5))


def test_problems_of_poissons_equation_have_four_to_twelve_sensors_of_five_to_thirty_percent_noise() -> None:
    cases = poisson_cases(10, 0)
    assert [case.name for case in cases[:2]] == ["poisson-1d-0", "poisson-2d-1"]
    noises = [case.observation.noise for case in cases]
    counts = [len(case.y) for case in cases]
    assert 0.05 <= min(noises) < 0.12 < 0.25 < max(noises) <= 0.3
    assert 4 <= min(counts) < max(counts) <= 12


def test_the_logarithm_of_the_flux_of_a_linear_solution_is_that_of_its_slope() -> None:
    grid = Grid((5, 5))
    x, y = grid.coordinates.unbind(-1)
    field = torch.stack([torch.full_like(x, 0.5), 0.3 * x - 0.4 * y])[None]
    unit = torch.ones(2, 1, 1, dtype=torch.float64)
    darcy = DarcySet(field.float(), 0 * unit, unit, grid.spacing[0])
    found = darcy.log_flux(field, torch.tensor([0, 8]))
    assert found[0].tolist() == pytest.approx([0.5 * math.log(0.25**2 + (0.1 * 0.25) ** 2)] * 2)  # 0.5 * |slope|


def row(method: str, p_value: float = 0.5, detectable: float | None = 0.2, error: str = "", **values: float) -> Row:
    scores = {
        name: Pooled(name=name, value=value, expected=2.0, error=0.5, p_value=p_value) for name, value in values.items()
    }
    return Row(
        method=method, title=f"The {method}", family="levy", scores=scores, error=error, seconds=1.5, threshold=0.01,
        detectable=detectable,
    )  # fmt: skip


def test_rows_are_wrong_below_their_threshold_and_right_where_a_fault_of_a_fifth_would_be_found() -> None:
    assert row("a", 0.01, mean=8.0).verdict == "right"
    assert row("a", 0.0099, mean=8.0).verdict == "wrong"
    assert row("a", 0.5, 0.21, mean=8.0).verdict == "cannot tell"
    assert row("a", 0.5, None, mean=8.0).reason == "no planted fault up to 80% was found"
    assert row("a", 0.0, mean=8.0).reason == "mean 8, exact draws 2 +- 0.5"


def test_scores_are_shown_as_the_table_says() -> None:
    found = row("a", mean=8.0, crps=3.0, energy=2.5, spread=1.7)
    assert [shown(found, name) for name in ("mean", "crps", "energy", "spread", "misfit")] == [
        2.0,
        50.0,
        25.0,
        1.7,
        None,
    ]
    rows = [row("a", mean=8.0), row("b", 0.0, mean=3.0), row("a", mean=2.0)]
    assert headline(rows) == "1 of 2 methods get every posterior right: a; 1 get at least one wrong."
    settings = Settings(problems=1, draws=7, steps=3)
    assert size(settings) == "1 problem, 7 draws each, 3 noise levels"
    assert size(dataclasses.replace(settings, problems=2)) == "2 problems, 7 draws each, 3 noise levels"
    assert Settings(problems=1, steps=3).within("levy") == Settings(problems=1, steps=2)
    assert Settings(problems=10, steps=30).within("levy") == Settings(problems=2, steps=15)
    (first, *_) = grading_json(rows, settings)["rows"]  # pyright: ignore
    assert (first["method"], first["title"], first["seconds"], first["threshold"]) == ("a", "The a", 1.5, 0.01)
    (chart,) = grading_json(rows[:2], settings)["charts"]  # pyright: ignore
    assert "cut at 10" in chart["caption"] if "caption" in chart else True
