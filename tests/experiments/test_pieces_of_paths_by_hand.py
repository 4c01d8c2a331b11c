"""Pieces of the experiments on paths, rates and decisions, at numbers that follow by hand."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from answering import planted

from chart_reading import lines_of
from diffuscope.experiments import Part, drift_diffusion, rates, ring_diffusion, trained_denoiser, two_unit_network
from diffuscope.experiments.drift_diffusion import Passages
from diffuscope.experiments.noised_data import Ring
from diffuscope.experiments.rates import Ratio
from diffuscope.experiments.trained_denoiser import Learned
from diffuscope.theory.paths import GeometricAction, Rate
from numbers_in_tests import double

DOUBLE = torch.float64


# rates


@pytest.mark.parametrize("bend", [0.0, 1.0, -1.0])
def test_a_ratio_is_twice_the_rate_over_the_eigenvalue_with_its_error_and_its_limit(bend):
    """An eigenvalue off by 1 + 2 D + b D^2, uncertain by D / 10. A line through b D^2 begins at -b / 20."""
    rate, noises = Rate(3.0, 0.25), (0.1, 0.2, 0.3, 0.4)
    asked = []

    def eigenvalue(noise, shift):
        asked.append(shift)
        return 6 * math.exp(-0.25 / noise) / (1 + 2 * noise + bend * noise**2), noise / 10

    found = rates.ratio(rate, eigenvalue, noises)
    assert asked == pytest.approx([6 * math.exp(-0.25 / noise) for noise in noises])
    assert found.noises == noises
    values = [1 + 2 * noise + bend * noise**2 for noise in noises]
    assert found.values == pytest.approx(values)
    errors = [value * noise / 10 for value, noise in zip(values, noises, strict=True)]
    assert found.errors == pytest.approx(errors)
    weights = (2.25, 0.75, 1.25, 0.75)  # of a parabola at zero, for four equal steps from the first
    assert found.limit == pytest.approx(1)
    expected = abs(bend) / 20 + sum(w * e for w, e in zip(weights, errors, strict=True))
    assert found.limit_error == pytest.approx(expected)


@pytest.mark.parametrize("sign", [1, -1])
def test_an_eigenvalue_of_second_order_is_extrapolated_exactly_in_logarithms(sign):
    def rates_of(cells, shift):
        assert shift == 0.7
        return double(2 * math.exp(sign * 3 / cells**2))

    def equation(_: float, cells: int) -> Any:
        return cells

    with planted("diffuscope.experiments.rates.relaxation_rates", rates_of):
        value, uncertain = rates.on_grids(equation, 10)(0.1, 0.7)
    assert value == pytest.approx(2, rel=1e-12)
    assert uncertain == pytest.approx(3 / 400 / 10, rel=1e-9)


def test_a_spectral_eigenvalue_is_the_finer_and_as_uncertain_as_it_changed():
    asked = []

    def rates_of(slope, friction, noise, reach, *, shift, points, functions):
        asked.append((float(slope(np.array([2.0]))[0]), friction, noise, reach, shift, points, functions))
        return double(1.25 if points == 60 else 1.0)

    with planted("diffuscope.experiments.rates.kinetic_rates", rates_of):
        assert rates.spectral(0.05, 0.3) == pytest.approx((1.0, 0.2))
    assert asked == [(6.0, 2.0, 0.05, pytest.approx(math.sqrt(3)), 0.3, *size) for size in ((60, 20), (80, 30))]


def test_drifts_are_taken_by_row_and_a_box_ends_where_the_density_is_e_20_of_its_peak():
    x = double((2, 0.5), (-1, 3))
    assert rates.well(x).tolist() == [4 - 2, 0.25 - 0.5]
    assert rates.swirl(3.0)(x).tolist() == [[2 - 8 - 3 * 2 * 0.25, -5 * 0.5], [-1 + 1 + 3 * 9, -2 * 3]]
    assert rates.rubbed(x).tolist() == [[0.5, 2 - 8 - 2 * 0.5], [3, -1 + 1 - 2 * 3]]
    box = rates.kicked(0.04, 4).grid
    assert box.high == pytest.approx((math.sqrt(1 + math.sqrt(3.2)), 1.2))
    plane = rates.swirling(0.02, 10).grid
    assert (plane.low, plane.high, plane.cells) == ((-1.8, -1.0), (1.8, 1.0), (20, 10))


def test_the_equation_of_a_particle_with_friction_has_the_spectral_rate():
    """On a grid of 40 cells per axis, and at strong noise: to a tenth."""
    on_grid = float(rates.relaxation_rates(rates.kicked(0.1, 40), shift=0.05)[0])
    assert on_grid == pytest.approx(rates.spectral(0.1, 0.05)[0], rel=0.1)


RATIO = Ratio((0.025, 0.05), (1.04, 0.9), (0.01, 0.02), 1.003, 0.004)


def test_a_ratio_is_claimed_where_it_is_farthest_and_in_its_limit():
    part = Part("rates", "double-well", "s", 1)
    rates.claim_close(part, RATIO, "Well")
    rates.claim_limit(part, RATIO, "Well")
    close, limit = part.claims
    assert (close.name, close.value, close.required) == ("double-well-close", pytest.approx(0.1), 0.05)
    assert close.title == "Well: off by at most 5% where the barrier is 5 times the noise or more"
    assert (limit.name, limit.value, limit.required, limit.tolerance) == ("double-well-limit", 1.003, 1, 0.01)
    assert "0.004" in limit.because
    assert rates.said(RATIO) == "1.040, 0.900 at barrier / noise = 10, 5, and tends to 1.0030 +- 0.004"


def test_a_ratio_is_shown_with_its_errors_and_extrapolated_to_zero_noise():
    part = Part("rates", "double-well", "s", 1)
    rates.chart(part, RATIO, "Well")
    lines = lines_of(part.charts[0].panels[0])
    ratio, limit, one = lines["theory / eigenvalue"], lines["extrapolated"], lines["1"]
    for line, x, y, half in (
        (ratio, (0.025, 0.05), (1.04, 0.9), (0.01, 0.02)),
        (limit, (0, 0.025), (1.003, 1.04), (0.004, 0.01)),
    ):
        assert line.x == pytest.approx(x)
        assert line.y == pytest.approx(y)
        assert line.low == pytest.approx([a - b for a, b in zip(y, half, strict=True)])
        assert line.high == pytest.approx([a + b for a, b in zip(y, half, strict=True)])
    assert (one.x, one.y) == ((0.0, 0.05), (1.0, 1.0))


# two units


def test_thin_layers_leave_a_drift_to_the_attractor_of_each_quadrant():
    drift = two_unit_network.network().drift_at(double((3.0, 0.1), (0.5, 2.0), (2.0, 2.0), (1.0, 0.0)), torch.zeros(4))
    expected = [(0.25, 0.25), (0.35 - 0.5, 3.25 - 2), (0.35, 0.35), (0.25, 1.25)]
    torch.testing.assert_close(drift, double(*expected), rtol=1e-9, atol=1e-9)
    middle = two_unit_network.network(0.3).drift_at(double((1.5, 1.8)), torch.zeros(1))
    on = 1 / (1 + math.exp(-1))
    assert middle[0].tolist() == pytest.approx([1.25 + 1 - 0.9 * on - 1.5, 1.25 + 2 * on - 0.45 - 1.8])


def test_every_quadrant_of_starts_leads_to_its_attractor():
    ends, shares = two_unit_network.attractors(4)
    torch.testing.assert_close(ends.sort(0).values, two_unit_network.ATTRACTORS.sort(0).values, rtol=0, atol=2e-4)
    assert shares.tolist() == [0.25] * 4


def test_the_action_of_a_curve_is_that_of_its_energy_less_energy_times_duration():
    made = GeometricAction(double((0, 0), (1, 1)), 2.9, 4.0, 0.25, 0.0, 0.1, 0.1, 3.0, True)
    curve = two_unit_network.Curve(made)
    assert (curve.duration, curve.action) == (4.0, 2.0)


# the ring


def test_the_density_of_the_code_is_the_same_in_polar_and_in_cartesian_coordinates():
    generator = torch.Generator().manual_seed(0)
    r, angle, rate, turn = torch.rand(4, 9, dtype=DOUBLE, generator=generator) + 1
    t = torch.linspace(0.5, 3, 9, dtype=DOUBLE)
    y = torch.stack([r, angle], 1)
    x = ring_diffusion.in_plane(y)
    torch.testing.assert_close(x, torch.stack([r * angle.cos(), r * angle.sin()], 1))
    outward, around = torch.stack([angle.cos(), angle.sin()], 1), torch.stack([-angle.sin(), angle.cos()], 1)
    v = rate[:, None] * outward + (r * turn)[:, None] * around
    polar = ring_diffusion.polar(y, torch.stack([rate, turn], 1), t)
    free = v.square().sum(1) / (4 * t) + t * Ring(5.0, 0.55).score(x, t).square().sum(1)
    torch.testing.assert_close(polar, free)
    torch.testing.assert_close(ring_diffusion.cartesian(x, v, t), free)


def test_the_offsets_of_the_code_stand_where_it_divides():
    y, v, t = double((2.0, 0.3)), double((0.5, 0.2)), double(3.0)
    variance = 0.55**2 + 9
    z = 10 / (variance + 0.001)
    bessel = [float(f(double(z))) for f in (torch.special.i0, torch.special.i1)]
    s = (5 * bessel[1] / (bessel[0] + 0.001) - 2) / variance
    expected = (0.25 + 4 * 0.04) / (4 * 3.001) + 3 * s**2
    assert float(ring_diffusion.coded(y, v, t)) == pytest.approx(expected, rel=1e-12)


def test_ends_lie_on_the_ring_and_momenta_are_those_of_the_left_points(monkeypatch):
    assert ring_diffusion.on_ring(math.pi / 6).tolist() == pytest.approx([5 * math.sqrt(3) / 2, 2.5])
    monkeypatch.setattr(ring_diffusion, "LEVELS", double(1.0, 3.0, 4.0))
    found = ring_diffusion.angular_momentum(double((2.0, 0.0), (3.0, 1.0), (9.0, 3.0)))
    assert found.tolist() == pytest.approx([4 * 1 / 2 / 2, 9 * 2 / 1 / 6])


def test_the_momentum_and_the_score_of_the_ring_point_outward():
    ring = Ring(2.0, 0.5)
    x, t = double((0.3, 1.1), (-2.5, 0.4)), double(0.7, 1.3)
    leaf = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(ring.log_prob(leaf, t).sum(), leaf)
    torch.testing.assert_close(ring.score(x, t), gradient, rtol=1e-10, atol=1e-12)


# decisions


def still(runs: int) -> np.ndarray:
    """Noise that leaves every run where it is."""
    return np.zeros((drift_diffusion.STEPS, runs))


def test_a_run_that_first_reaches_the_lower_bound_in_the_window_is_kept(monkeypatch):
    """Without drift, from 1/2: a step by -3/2 or 1/2 reaches a bound exactly."""
    monkeypatch.setattr(drift_diffusion, "DRIFT", 0.0)
    unit = math.sqrt(drift_diffusion.STEP)
    assert unit * (-1.5 / unit) == -1.5
    assert unit * (0.5 / unit) == 0.5
    noise = still(6)
    noise[36, 0] = noise[37, 1] = noise[39, 2] = -1.5 / unit  # at 0.925, 0.95 and 1
    noise[5, 3], noise[39, 3] = 0.5 / unit, -2 / unit  # the upper bound first
    noise[38, 4], noise[39, 4] = -1.6 / unit, 9  # below it, where it stays
    found = drift_diffusion.simulate(noise).states
    assert found[:, 0].tolist() == [0.5] * 3
    assert [path[1:].tolist() for path in found] == [
        [0.5] * 37 + [-1.0] * 3,
        [0.5] * 39 + [-1.0],
        pytest.approx([0.5] * 38 + [-1.1] * 2),
    ]


def test_a_bridge_reaches_a_bound_between_the_states_of_a_step(monkeypatch):
    """From -0.9 to -0.9: at distances of 0.1, with probability exp(-2 * 0.01 / 0.025) = 0.449."""
    monkeypatch.setattr(drift_diffusion, "DRIFT", 0.0)
    unit = math.sqrt(drift_diffusion.STEP)
    noise, uniform = still(4), np.full((drift_diffusion.STEPS, 4), 0.5)
    noise[0] = -1.4 / unit
    uniform[1:] = 0.6
    chance = math.exp(-0.8)
    uniform[39, 0], uniform[39, 1], uniform[37, 2] = chance - 1e-3, chance + 1e-3, 0.1
    noise[39, 3] = -0.2 / unit  # beyond the bound in the end: certain
    found = drift_diffusion.simulate(noise, uniform).states
    assert found[:, -1].tolist() == pytest.approx([-0.9, -1.1])  # the third ends at 0.95, which is too early here
    up, high = still(1), np.full((drift_diffusion.STEPS, 1), 0.5)
    up[0], up[39] = 0.4 / unit, -2.5 / unit
    assert len(drift_diffusion.simulate(up, high).states) == 1
    high[20] = 1 - chance + 1e-3  # at the upper bound before
    assert len(drift_diffusion.simulate(up, high).states) == 0
    high[20] = 1 - chance - 1e-3
    assert len(drift_diffusion.simulate(up, high).states) == 1


def test_means_of_runs_have_bands_of_two_standard_errors(monkeypatch):
    monkeypatch.setattr(drift_diffusion, "STEPS", 1)
    runs = Passages(np.array([[0.5, -1.0], [0.5, -2.0], [0.5, -3.0]]))
    assert runs.mean.tolist() == [0.5, -2]
    assert runs.standard_error.tolist() == pytest.approx([0, 1 / math.sqrt(3)])
    line = drift_diffusion.with_band(runs, "n")
    assert (line.label, line.x, line.y) == ("n", (0.0, drift_diffusion.STEP), (0.5, -2.0))
    assert line.low == pytest.approx((0.5, -2 - 2 / math.sqrt(3)))
    assert line.high == pytest.approx((0.5, -2 + 2 / math.sqrt(3)))


class Known(np.random.Generator):
    """Normal numbers that are known."""

    values = np.zeros((2, 4))

    def standard_normal(self, size=None, *_, **__):  # pyright: ignore
        assert size == (2, drift_diffusion.RUNS)
        return self.values


def test_the_middle_of_a_free_run_is_compared_with_half_of_its_end():
    """Ends at -1 within 0.1 count: of these three the middle is off by 0.1, 0.2 and 0.6; the others are far."""
    rng, unit = Known(np.random.PCG64(0)), math.sqrt(0.5)
    pairs = [(-0.8 + d, -0.8 - d) for d in (0.1, 0.2, 0.6)] + [(9.0, -10.49), (9.0, -10.71)]
    rng.values = np.array(pairs).T / unit
    spread = math.sqrt((0.2**2 + 0.1**2 + 0.3**2) / 2)
    assert drift_diffusion.unabsorbed(rng) == pytest.approx(0.3 / (spread / math.sqrt(3)))
    rng.values = rng.values[::-1]
    assert drift_diffusion.unabsorbed(rng) == pytest.approx(0.3 / (spread / math.sqrt(3)))


# a learned score


M = double((0.5, -0.3), (0.2, 0.4))


def linear(x, t):
    """M x t, which turns and solves no heat equation."""
    return x @ M.T * t[:, None]


def test_the_force_of_a_linear_score_by_hand():
    """du = -t dt: F = -M x / t + 2 t^2 M^T M x + t (M - M^T) v."""
    known = trained_denoiser.case(20)
    x, v, t = double((1, 2), (-0.5, 0.3)), double((0.4, -1), (2, 0.1)), double(1.5, 3.0)
    u = (known.levels[0] ** 2 - t**2) / 2
    learned = Learned(known, linear)
    expected = -x @ M.T / t[:, None] + 2 * t[:, None] ** 2 * x @ M.T @ M + t[:, None] * v @ (M - M.T).T
    torch.testing.assert_close(learned.force(x, v, u).detach(), expected, rtol=1e-10, atol=1e-10)
    a = double((0.7, 0.2), (-1, 3))
    torch.testing.assert_close(learned.pull_of_action(x, v, a, u), a / 2 - expected, rtol=1e-10, atol=1e-10)


def test_the_first_order_of_an_action_is_that_of_a_linear_score():
    """From a score of zero: the integral of -v M x + tr M on a straight path, and 1e-4 of that of |M x|^2."""
    known = trained_denoiser.case(200)
    zero, constant = Learned(known, lambda x, _: 0 * x), Learned(known, lambda x, _: x @ M.T)
    begin, end, duration = known.start @ M.T, known.end @ M.T, float(known.times[-1])
    linear_part = -float((known.end - known.start) @ (begin + end)) / 2 + float(M.trace()) * duration
    square = float(begin @ begin + begin @ end + end @ end) / 3 * duration
    found = trained_denoiser.slope_of_action(zero, constant, known)
    assert found == pytest.approx(linear_part + 1e-4 * square, rel=1e-5)


def test_a_share_of_the_error_of_a_score_is_added_to_the_exact_one():
    mixed = trained_denoiser.mixed(lambda x, t: x + 0 * t, lambda x, t: 3 * x + t, 0.25)
    assert mixed(double(2.0), double(4.0)).tolist() == [2 + 0.25 * 8]
    coarse, fine = trained_denoiser.refined(linear)
    assert (len(coarse.case.levels), len(fine.case.levels)) == (401, 801)
    assert coarse.score is fine.score is linear
