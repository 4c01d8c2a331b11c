"""Numbers of the physics, each alone: laws, chains, hand-made posteriors, blocks, and grades."""

import dataclasses
import math

import pytest
import torch
from torch import Tensor

from diffuscope.denoisers import ExactDenoiser
from diffuscope.exact import Empirical, Gaussian
from diffuscope.physics import (
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
from diffuscope.physics.grading.run import Row, Settings, planted
from diffuscope.physics.grading.scores import Grader, Pooled
from diffuscope.physics.grid import Grid
from diffuscope.physics.levy import BernoulliGaussJumps, GaussianJumps, LaplaceJumps, LevyProcess, StudentJumps
from diffuscope.physics.mixing import effective_sample_size, split_r_hat, standard_error
from diffuscope.physics.operators import LogNormal, SmoothField, TwoPhase
from diffuscope.physics.particles import Particles
from diffuscope.physics.prior_chains import DDPMChain, ExactChain, guidance
from diffuscope.physics.regression import Regression, contradiction
from diffuscope.samplers.noise import Noise
from diffuscope.samplers.schedule_values import instants
from diffuscope.schedules import VE
from numbers_in_tests import double, seeded

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
            assert float(found.r_hat[i, j]) == pytest.approx(float(split_r_hat(series)))
            size = float(effective_sample_size(series))
            assert float(found.effective_sample_size[i, j]) == pytest.approx(size)
            assert float(found.mean_error[i, j]) == pytest.approx(float(standard_error(means[i, :, :, j])))
            squares = within[i, :, :, j] + (means[i, :, :, j] - found.mean[i, j]).square()
            assert float(found.variance[i, j]) == pytest.approx(float(squares.mean()))
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
    """Three rows that read one number: of 0, 3 and 3 the mean is 2, and the first is off by 2 on either side."""
    H = double(1.0, 1.0, 1.0)[:, None]
    regression = Regression.of(H, H, double(1.0), 0.0)
    e = torch.stack([double(0.0, 3.0, 3.0), double(0.0, -3.0, -3.0), double(2.0, 2.0, 2.0)])
    assert contradiction(regression, e, e.abs()).tolist() == pytest.approx([2, 2, 0])
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
    assert "cut at 10" in chart["how_to_read"]


@pytest.mark.parametrize("fault", [0.2, 0.8])
def test_planted_draws_spread_about_the_mean_by_a_variance_that_is_larger_by_the_fault(fault: float) -> None:
    """Of a Gaussian; of a finite set, points are drawn by the power 1 + d of their weights."""
    reference = double(0.0, 4.0)[:, None]
    spread = dataclasses.replace(plane(reference, double(1.0, 3.0)), finite=False)  # of mean 3
    exact, wrong = spread.exact(1000, seeded()), planted(spread, fault, 1000, seeded())
    torch.testing.assert_close((wrong - 3).square(), (1 + fault) * (exact - 3).square())
    assert bool(((wrong - 3) * (exact - 3) > 0).all())
    finite = planted(plane(reference, double(1.0, 3.0)), fault, 10_000, seeded())
    share = 3 ** (1 + fault) / (1 + 3 ** (1 + fault))
    assert float((finite == 4).double().mean()) == pytest.approx(share, abs=4 * (share * (1 - share) / 10_000) ** 0.5)
    assert abs(share - 0.75) > 8 * (share * (1 - share) / 10_000) ** 0.5
