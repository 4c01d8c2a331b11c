"""Pieces of the experiments on guides, constraints and fields, at numbers that follow by hand."""

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from answering import planted

from chart_reading import lines_of, marks_of
from diffuscope.denoisers import ExactDenoiser
from diffuscope.exact import Gaussian
from diffuscope.experiments import (
    Part,
    affine_steps,
    constraint_is_not_posterior,
    dps_is_biased,
    poisson,
    sparse_fields,
)
from diffuscope.experiments.moments import GaussianDenoiser, apart, at_ratios
from diffuscope.experiments.sparse_fields import DPS_BEST, DRAWS, GP, OURS, Comparison, Data, Inferred, Sensed
from diffuscope.findings import Groups, HeatMap
from diffuscope.physics import at_nodes
from diffuscope.physics.kernel_prior import KernelPrior
from diffuscope.schedules import VE, VP
from numbers_in_tests import double

DOUBLE = torch.float64


class Affine:
    """D(x) = P x + c at every level."""

    schedule = affine_steps.SCHEDULE

    def __init__(self, P, c):
        self.P, self.c = P, c

    def __call__(self, x_t, t):
        del t
        return x_t @ self.P.T + self.c


# moments without a draw


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_one_step_of_euler_s_method_by_hand(eta):
    """In the plane, with a matrix that is not symmetric: A = I - (1 + eta^2) s (I - P) with s = 1 - LOW / HIGH."""
    P, c, one = double((0.5, 0.2), (-0.1, 0.7)), double(1.0, -2.0), torch.eye(2, dtype=DOUBLE)
    shrink = 1 - affine_steps.LOW / affine_steps.HIGH
    A = one - (1 + eta**2) * shrink * (one - P)
    mean = (1 + eta**2) * shrink * c
    V = affine_steps.HIGH**2 * (A @ A.T + 2 * eta**2 * shrink * one)
    found = affine_steps.euler(Affine(P, c), 2, 1, eta)
    torch.testing.assert_close(found.mean, P @ mean + c, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(found.covariance, P @ V @ P.T, rtol=1e-9, atol=1e-9)


def test_a_limit_is_extrapolated_from_two_doublings_and_says_what_the_last_one_changed():
    """Errors of first and second order: 3 / n + 5 / n^2, and minus that."""
    coarse, middle, fine = affine_steps.GRIDS
    assert (middle, fine) == (2 * coarse, 4 * coarse)

    def known(denoiser, D, steps, eta):  # noqa: ARG001
        off = 3 / steps + 5 / steps**2
        return affine_steps.Moments(double(1 + off, 2 - off), double((4 - off, off), (off, 7 + off)))

    with planted("diffuscope.experiments.affine_steps.euler", known):
        end, change = affine_steps.extrapolated(
            Affine(
                double(
                    (1.0,),
                ),
                double(0.0),
            ),
            1,
        )
    left = 5 * (2 / fine**2 - 1 / middle**2)
    before = 5 * (2 / middle**2 - 1 / coarse**2)
    assert end.mean.tolist() == pytest.approx([1 + left, 2 - left], rel=1e-12)
    assert end.covariance.flatten().tolist() == pytest.approx([4 - left, left, left, 7 + left], rel=1e-9)
    assert change.mean.tolist() == pytest.approx([abs(left - before)] * 2, rel=1e-5)
    assert change.covariance.flatten().tolist() == pytest.approx([abs(left - before)] * 4, rel=1e-5)


def test_the_denoiser_of_a_gaussian_on_the_line_and_its_noised_moments():
    schedule = VP()
    denoiser = GaussianDenoiser(schedule, 1.5, 0.25)
    alpha, sigma = float(schedule.alpha(0.4)), float(schedule.sigma(0.4))
    x = double((0.0,), (2.0,))
    exact = Gaussian.isotropic(double(1.5), 0.25)
    torch.testing.assert_close(denoiser(x, 0.4), exact.denoise(x, alpha, sigma), rtol=1e-10, atol=1e-12)
    assert denoiser.marginal(0.4) == pytest.approx((1.5 * alpha, 0.25 * alpha**2 + sigma**2))
    assert float(GaussianDenoiser(schedule, 1.5)(x, 0.4)[1]) == 1.5
    assert apart((1.0, 5.0), (1.5, 4.0)) == 1.0
    for at, ratio in zip(at_ratios(schedule, 3.0, 0.2), (3.0, 0.2), strict=True):
        assert at.sigma / at.alpha == pytest.approx(ratio)


# guides


def test_the_posterior_and_the_coverage_of_dps_by_hand():
    assert dps_is_biased.exact_moments(0.5) == pytest.approx((0.8, 0.2))
    distribution = dps_is_biased.prior(2.0).distribution
    assert isinstance(distribution, Gaussian)
    assert distribution.trace == 2.0
    for r in (0.3, 1.0):
        variance, keep = r**2 / 2 * (1 - math.exp(-2 / r**2)), 1 - math.exp(-1 / r**2)
        error = math.sqrt((1 - keep) ** 2 + keep**2 * r**2)
        within = 1.6448536 * math.sqrt(variance) / error
        assert dps_is_biased.coverage(r) == pytest.approx(math.erf(within / math.sqrt(2)), rel=1e-9)


def test_observations_are_weighted_sums_of_coordinates():
    observed = dps_is_biased.observe(0.3, 1.0, -2.0)
    assert observed.matrix.tolist() == [[1.0, -2.0]]
    assert (observed.event_shape, observed.noise) == ((2,), 0.3)
    assert dps_is_biased.value(0.7).tolist() == [0.7]


def test_samples_of_a_guide_begin_with_noise_at_the_highest_level(monkeypatch):
    seen = {}

    def kept(denoiser, sampler, start, times, *, noise, batch_size):  # noqa: ARG001
        seen.update(start=start, times=times, batch_size=batch_size, eta=sampler.eta)
        return start

    monkeypatch.setattr(dps_is_biased, "finish", kept)
    made = dps_is_biased.drawn(dps_is_biased.prior(), 500, torch.Generator().manual_seed(0))
    assert made.shape == (500, 1)
    assert float(made.std()) == pytest.approx(affine_steps.HIGH, rel=0.15)
    assert (len(seen["times"]), seen["batch_size"], seen["eta"]) == (dps_is_biased.STEPS + 1, 500, 1.0)
    assert (float(seen["times"][0]), float(seen["times"][-1])) == pytest.approx((affine_steps.HIGH, affine_steps.LOW))


def test_an_error_of_a_variance_is_relative_on_either_side(monkeypatch):
    for variance in (0.3, 0.1):
        known = affine_steps.Moments(double(0.0), double((variance,)))
        monkeypatch.setattr(dps_is_biased, "euler", lambda *_, known=known: known)
        assert dps_is_biased.error_of("DPS", 0.5, 10) == pytest.approx(0.5)


def test_guides_at_equal_cost_are_compared_by_their_largest_error(monkeypatch):
    """The exact guide's errors are r / n times 1, 2, .. by the noise; DPS has a thousand times as much."""
    noises = dps_is_biased.NOISES

    def error(name, r, n):
        return (noises.index(r) + 1) / n * (1 if name == "exact guide" else 1e6 + 1e9 * (r == noises[0]))

    monkeypatch.setattr(dps_is_biased, "error_of", error)
    part = Part("dps-is-biased", "equal-cost", "s", 1)
    text = dps_is_biased.equal_cost(part)
    order, equal, explodes = part.claims
    assert order.value == pytest.approx(2)
    assert (equal.value, equal.required) == pytest.approx((5 / 100, 1.5 * 5 / 100))
    assert explodes.value == pytest.approx((1e6 + 1e9) / 100)
    rho = 1 - 4 * 0.03**2 / (1 + 2 * 0.03**2)  # the ratio of levels at which errors stop growing
    needed = math.log(affine_steps.HIGH / affine_steps.LOW) / -math.log(rho)
    assert f"unless there are {needed:,.0f}; our bar" in explodes.because
    assert "100 calls leave at most 5.0%" in text
    exact, dps = (lines_of(panel) for panel in part.charts[0].panels)
    assert exact["r = 3"].x == tuple(map(float, dps_is_biased.BUDGETS))
    assert exact["r = 3"].y == pytest.approx([5 / n for n in dps_is_biased.BUDGETS])
    assert dps["r = 0.03"].y == pytest.approx([1e6] * 6 + [(1e6 + 1e9) / 1600])
    assert dps["r = 0.1"].y == pytest.approx([2e6 / n for n in dps_is_biased.BUDGETS])


def test_what_a_projected_sampler_ends_at_by_a_series_in_the_correlation():
    rho = 0.05
    mean, variance = constraint_is_not_posterior.projected_limit(rho)
    assert mean == pytest.approx(constraint_is_not_posterior.Y * (rho / 2 + rho**3 / 8), rel=1e-4)
    # (1 - rho^2)(1 + rho^2/3) + (1 - rho^2)/rho^2 * rho^4 / 4 * (1 / 3), to the order rho^2
    assert variance == pytest.approx(1 - rho**2 + rho**2 / 3 + rho**2 / 12, abs=2 * rho**4)


def test_the_energy_of_a_trajectory_is_that_of_its_last_row():
    fields = double(((1, 2), (3, 4)), ((9, 9), (0, 2)))
    assert constraint_is_not_posterior.energy(fields).tolist() == [[12.5], [2.0]]


# Poisson's equation


def test_the_columns_of_the_posterior_solve_the_equation_for_one_mode_each():
    """A s_k / (k lambda_k) = s_k / k, by second differences; the mean is straight between the ends."""
    mean, columns = poisson.closed_form()
    x, h = poisson.interval().along(0), poisson.interval().spacing[0]
    assert (len(x), h) == (65, 1 / 64)
    torch.testing.assert_close(mean, 0.5 - 0.75 * x)
    for k in range(1, 9):
        u = columns[:, k - 1]
        wave = torch.sin(k * math.pi * x) / k
        torch.testing.assert_close(-(u[2:] - 2 * u[1:-1] + u[:-2]) / h**2, wave[1:-1], rtol=1e-8, atol=1e-9)
    assert columns.shape == (65, 8)
    assert poisson.square().shape == (33, 33)


def test_residuals_are_those_of_inner_nodes_and_relative_to_what_the_stencil_can_make():
    grid = poisson.interval()
    x = grid.along(0)
    fields = torch.stack([torch.stack([0 * x - 2, x**2]), torch.stack([0 * x + 1, 3 * x**2])])
    found = poisson.residuals(grid, fields)
    assert found.shape == (2, 63)
    torch.testing.assert_close(found, double((0.0,), (-7.0,)).expand(2, 63), rtol=1e-8, atol=1e-8)
    assert poisson.relative_residual(grid, fields) == pytest.approx(7 / (4 * 64**2 * 3))
    plane = poisson.square()
    u = plane.coordinates[..., 0] ** 2
    fields = torch.stack([0 * u - 1, u])[None]
    assert poisson.relative_residual(plane, fields) == pytest.approx(1 / (8 * 32**2))


def test_a_guide_sees_the_boundary_values_of_u_alone():
    grid = poisson.interval()
    y = double(0.5, -0.25)
    for prior, channel in ((poisson.sine_prior(grid, 3), None), (poisson.joint_sine_prior(grid, 3), 1)):
        guide = poisson.boundary_of(grid, prior, y)
        found = poisson.run(guide, 3, torch.Generator().manual_seed(0), steps=10)
        u = found.clean if channel is None else found.clean[:, channel]
        torch.testing.assert_close(u[:, [0, -1]], y.expand(3, 2), rtol=1e-6, atol=1e-6)


def test_a_run_begins_with_noise_of_the_highest_level(monkeypatch):
    seen = {}

    def kept(sampler, guide, start, times):  # noqa: ARG001
        seen.update(start=start, times=times)
        return start

    monkeypatch.setattr(poisson, "sample", kept)
    guide = poisson.boundary_of(poisson.interval(), poisson.sine_prior(poisson.interval(), 3), double(0.5, -0.25))
    poisson.run(guide, 40, torch.Generator().manual_seed(0), 0.5, 7)
    assert seen["start"].shape == (40, 65)
    assert float(seen["start"].std()) == pytest.approx(100, rel=0.06)
    assert len(seen["times"]) == 8
    assert (float(seen["times"][0]), float(seen["times"][-1])) == pytest.approx((100, 0.5))


def test_a_field_is_drawn_with_its_first_axis_to_the_right():
    panel = poisson.heat_panel("f", torch.arange(3, dtype=DOUBLE), double((1, 2), (3, 4)))
    (heat,) = marks_of(panel, HeatMap)
    assert heat.values == ((1, 3), (2, 4))
    assert (panel.title, heat.x_edges, panel.equal_scales) == ("f", (0, 1, 2), True)
    assert poisson.apart_words(0.031, 0.0205) == "their sampling errors; the covariance is 3.1% off, by chance 2.1%"


# fields from few nodes


def data(channels=("pressure", "log of the coefficient")) -> Data:
    fields = torch.randn(6, 2, 2, 2, dtype=DOUBLE, generator=torch.Generator().manual_seed(0))
    return Data(fields, fields[:2], fields[:3], channels, observed=1, seen=3, noise=0.1)


def problem(truth) -> Sensed:
    return Sensed(truth, at_nodes(torch.tensor([0]), tuple(truth.shape), 0.1), double(0.0))


def test_a_gaussian_prior_covers_what_is_at_the_end_of_its_interval(monkeypatch):
    z = 1.6448536
    given = SimpleNamespace(
        mean=double((z * 2.0, 0.0), (1.0, 2.0)),
        variance=double((4.0, 4.0), (0.0, -1e-18)),
        sample=lambda n, generator: torch.zeros(n, 2, 2, dtype=DOUBLE),  # noqa: ARG005
    )
    monkeypatch.setattr(KernelPrior, "given", lambda *_: given)
    truth = double((0.0, z * 2.0 + 1e-6), (1.0, 2.0))
    found = sparse_fields.regressed(KernelPrior(data().train, 0.0), problem(truth), torch.Generator())
    assert found.covered.tolist() == [[True, False], [True, True]]
    assert found.errors.tolist() == pytest.approx([(2 * (2 * z) ** 2) / 2, 0.0], rel=1e-5)
    assert found.draws.shape == (DRAWS, 2, 2)


def test_samples_that_diverged_count_with_the_largest_number_kept(monkeypatch):
    x = torch.zeros(DRAWS, 1, 2, dtype=DOUBLE)
    x[0, 0, 0], x[1, 0, 0], x[2, 0, 1] = 1e9, -1e9, 38.0
    asked = {}

    def known(denoiser, n, *, sampler, steps, seed, event_shape, dtype):  # noqa: ARG001
        asked.update(n=n, steps=steps, seed=seed, event_shape=event_shape)
        return x

    monkeypatch.setattr(sparse_fields, "generate", known)
    denoiser = ExactDenoiser(Gaussian.isotropic(double(0.0), 1.0), VE())
    found = sparse_fields.sampled(denoiser, double((1.0, 5.0)), 7)
    assert asked == {"n": 19, "steps": 19, "seed": 7, "event_shape": (1, 2)}
    # means 0 and 2; variances 2e12 / 18 and (38 - 2)^2 + 18 * 4, over 18; a 19th of each is taken off
    variances = 2e12 / 18, (36**2 + 18 * 4) / 18
    expected = ((1 - variances[0] / 19) + (9 - variances[1] / 19)) / 2
    assert found.errors.tolist() == pytest.approx([expected], rel=1e-9)
    assert found.covered.tolist() == [[True, True]]
    assert found.mean.tolist() == [[0.0, 2.0]]


def inferred(error: float, other: float, share: int) -> Inferred:
    covered = torch.arange(4).reshape(2, 2) < share
    return Inferred(
        double(error, other), torch.stack([covered, ~covered]), torch.full((2, 2, 2), error, dtype=DOUBLE),
        torch.zeros(DRAWS, 2, 2, 2, dtype=DOUBLE),
    )  # fmt: skip


def comparison() -> Comparison:
    known = data()
    results = {
        OURS: [inferred(0.04, 1.0, 3), inferred(0.04, 4.0, 4)],
        GP: [inferred(0.09, 1.5, 2), inferred(0.11, 4.0, 2)],
        DPS_BEST: [inferred(0.01, 2.0, 1), inferred(0.03, 3.0, 1)],
    }
    problems = [problem(truth) for truth in known.test[:2]]
    return Comparison(known, 0.9, 0.01, problems, results, KernelPrior(known.train, 0.0))


def test_methods_are_told_with_errors_and_coverage_by_channel():
    assert sparse_fields.table(comparison()) == (
        "pressure: root mean square error kernel density 0.2000, Gaussian process 0.3162, DPS 0.1414; 90% intervals "
        "cover 88%, 50%, 25%; log of the coefficient: root mean square error kernel density 1.5811, Gaussian process "
        "1.6583, DPS 1.5811; 90% intervals cover 12%, 50%, 75%. Chosen on validation fields: a = 0.9, DPS's weight "
        "0.01."
    )


def test_ours_is_claimed_to_be_no_worse_than_either_in_every_channel():
    part = Part("darcy-sparse", "own", "s", 1)
    sparse_fields.claims(part, comparison(), "own-")
    values = {claim.name: (claim.value, claim.required) for claim in part.claims}
    assert values == {
        "own-pressure-gaussian": (pytest.approx(-6.0), 2),  # -0.05 and -0.07: -0.06 within 0.01
        "own-pressure-dps": (pytest.approx(2.0), 2),  # 0.03 and 0.01
        "own-coefficient-gaussian": (pytest.approx(-1.0), 2),  # -0.5 and 0
        "own-coefficient-dps": (pytest.approx(0.0), 2),
    }


def test_one_problem_is_shown_as_maps_and_all_by_their_errors():
    part, found = Part("darcy-sparse", "own", "s", 1), comparison()
    sparse_fields.charts(part, found, "own-")
    maps, bars = part.charts
    assert [panel.title for panel in maps.panels] == ["truth", OURS, GP, DPS_BEST]
    assert maps.title == "One problem of own fields: the mean log of the coefficient"
    assert maps.how_to_read == "From 3 of 4 nodes."
    (truth,) = marks_of(maps.panels[0], HeatMap)
    assert truth.values == tuple(map(tuple, found.problems[0].truth[1].tolist()))
    assert (truth.x_edges, truth.y_edges) == ((0, 0.5, 1), (0, 0.5, 1))
    (ours,) = marks_of(maps.panels[1], HeatMap)
    assert ours.values == ((0.04, 0.04), (0.04, 0.04))
    (errors,), (shares,) = (marks_of(panel, Groups) for panel in bars.panels)
    assert errors.names == shares.names == ("pressure", "log of the coefficient")
    assert errors.heights[0] == pytest.approx((0.2, math.sqrt(2.5)))
    assert shares.heights == (pytest.approx((7 / 8, 1 / 8)), (0.5, 0.5), (0.25, 0.75))


def test_pull_and_weight_are_those_of_least_error_on_validation_fields_with_seeds_that_count_up():
    known, seen = data(), []

    def of_pull(prior, each):  # noqa: ARG001
        return double(1.0, 1.0) * abs(prior.a - 0.8)

    def method(error):
        return Inferred(double(error, error), torch.ones(2, 2, 2, dtype=torch.bool), known.test[0], known.test[:1])

    def by_dps(prior, weight, each, seed):  # noqa: ARG001
        seen.append((prior.a, weight, seed))
        return method(abs(math.log10(weight) + 2))

    def by_kernel(prior, each, seed):  # noqa: ARG001
        seen.append((prior.a, "kernel", seed))
        return method(0.5)

    here = "diffuscope.experiments.sparse_fields"
    with (
        planted(f"{here}.mean_errors", of_pull),
        planted(f"{here}.by_dps", by_dps),
        planted(f"{here}.by_kernel", by_kernel),
        planted(f"{here}.regressed", lambda *_: method(0.7)),
    ):
        found = sparse_fields.compare(known, 40, torch.Generator().manual_seed(0), tuned_on=1)
    assert (found.pull, found.weight) == (0.8, 1e-2)
    tuned = [(0.8, weight, 40) for weight in sparse_fields.WEIGHTS]
    tested = [(0.8, which, 40 + k) for which in ("kernel", 1e-2) for k in range(3)]
    assert seen == tuned + tested
    assert {name: [float(each.errors[0]) for each in rows] for name, rows in found.results.items()} == {
        OURS: [0.5] * 3, DPS_BEST: [0.0] * 3, GP: [0.7] * 3,
    }  # fmt: skip
    assert replace(found, pull=0.0).prior.a == 0.8
