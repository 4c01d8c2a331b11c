"""Learning curves of linear denoisers: closed forms against ODE solvers, quadrature, autograd, and real training."""

import math

import numpy as np
import pytest
import torch
from conftest import measured_order, monte_carlo
from scipy.integrate import quad, solve_ivp

from diffuscope.denoisers import LinearDenoiser, SymmetricLinearDenoiser
from diffuscope.errors import InputError
from diffuscope.exact import Gaussian
from diffuscope.schedules import VE, VP
from diffuscope.theory import (
    AffineLearning,
    AffineMap,
    emergence_times,
    fit_power_law,
    learned_variance,
    moment_batch,
    one_layer_descent,
    one_layer_flow,
    one_layer_generated_variance,
    optimal_weights,
    two_layer_descent,
    two_layer_flow,
    two_layer_generated_variance,
)
from diffuscope.theory.generated_variance import entire_exponential_integral
from diffuscope.training import PlainWeight, denoising_loss
from numbers_in_tests import double

VARIANCES = torch.tensor([3.0, 0.7, 0.05, 1e-4, 0.0], dtype=torch.float64)
ALPHA, SIGMA = 0.8, 0.6


def distribution(mean=(0.0, 0.0, 0.0), tail=0.0):
    turn = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(3)))[0]
    rank = 3 if tail == 0 else 2
    return Gaussian(double(*mean), turn[:, :rank], double(2.0, 0.5, 0.1)[:rank], tail)


def solved(rate_of_change, start, time):
    # short steps: near a fixed point the solver's own control lets 1e-11 pass
    tight = {"method": "DOP853", "rtol": 1e-13, "atol": 1e-15, "max_step": 0.02}
    return solve_ivp(lambda _, w: rate_of_change(w), (0, time), start, **tight).y[:, -1]


def trained_maps(model, data, noise, t, learning_rates):
    """(W, b) before and after every step of plain gradient descent on the library's denoising loss."""
    model = model.double()
    maps = [model.map_at(t)]
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    for rate in learning_rates:
        optimizer.param_groups[0]["lr"] = rate * data[0].numel()  # the loss is a mean over the coordinates
        optimizer.zero_grad()
        denoising_loss(model, data, t, noise, PlainWeight()).backward()
        optimizer.step()
        maps.append(model.map_at(t))
    return [weight for weight, _ in maps], [bias for _, bias in maps]


# the weights


def test_one_layer_solves_its_gradient_flow():
    """dw/dtau = -2 (s w - alpha lambda), integrated at 1e-13."""
    lam, s = VARIANCES.numpy(), (ALPHA**2 * VARIANCES + SIGMA**2).numpy()
    for time in (0.1, 1.0, 7.0):
        expected = solved(lambda w: -2 * (s * w - ALPHA * lam), np.full(5, 0.3), time)
        learned = one_layer_flow(VARIANCES, double(time), 0.3, alpha=ALPHA, sigma=SIGMA)[0]
        assert torch.allclose(learned, torch.from_numpy(expected), rtol=0, atol=1e-12)


def test_two_layers_solve_the_gradient_flow_of_their_factor():
    """dp/dtau = -4 (s p^2 - alpha lambda) p for w = p^2, a variance of 0 included."""
    lam, s = VARIANCES.numpy(), (ALPHA**2 * VARIANCES + SIGMA**2).numpy()
    for time in (0.1, 1.0, 7.0):
        factor = solved(lambda p: -4 * (s * p**2 - ALPHA * lam) * p, np.full(5, math.sqrt(0.3)), time)
        learned = two_layer_flow(VARIANCES, double(time), 0.3, alpha=ALPHA, sigma=SIGMA)[0]
        assert torch.allclose(learned, torch.from_numpy(factor**2), rtol=0, atol=1e-12)


def test_two_layers_are_the_printed_logistic():
    lam, best = VARIANCES[:4], optimal_weights(VARIANCES[:4], 1, SIGMA)
    times = double(0.0, 0.2, 3.0)
    printed = best * 0.02 / ((best - 0.02) * torch.exp(-8 * lam * times[:, None]) + 0.02)
    assert torch.allclose(two_layer_flow(lam, times, 0.02, alpha=1, sigma=SIGMA), printed, rtol=1e-12, atol=0)


@pytest.mark.parametrize("flow", [one_layer_flow, two_layer_flow])
def test_the_flow_begins_at_its_start_ends_at_the_exact_denoiser_and_is_a_semigroup(flow):
    at = lambda time, start: flow(VARIANCES, double(time), start, alpha=ALPHA, sigma=SIGMA)[0]  # noqa: E731
    assert torch.allclose(at(0.0, 0.2), torch.full((5,), 0.2, dtype=torch.float64), rtol=1e-15, atol=0)
    assert torch.allclose(at(1.7, 0.2), at(1.2, at(0.5, 0.2)), rtol=1e-13, atol=0)
    exact = Gaussian(torch.zeros(5), torch.eye(5, dtype=torch.float64), VARIANCES)
    gain = exact.denoise(torch.eye(5, dtype=torch.float64), ALPHA, SIGMA).diag()
    assert torch.allclose(at(1e6, 0.2), gain, atol=1e-6)  # the variance 0 decays by a power in two layers
    assert torch.allclose(optimal_weights(VARIANCES, ALPHA, SIGMA), gain, rtol=1e-14, atol=0)


@pytest.mark.parametrize(
    ("descent", "flow"), [(one_layer_descent, one_layer_flow), (two_layer_descent, two_layer_flow)]
)
def test_gradient_descent_tends_to_the_flow_at_order_one(descent, flow):
    exact = flow(VARIANCES, double(0.5), 0.05, alpha=ALPHA, sigma=SIGMA)[0]

    def error(steps):
        rates = torch.full((steps,), 0.5 / steps, dtype=torch.float64)
        return float((descent(VARIANCES, rates, 0.05, alpha=ALPHA, sigma=SIGMA)[-1] - exact).abs().max())

    found = measured_order(error, [100, 200, 400, 800])
    assert found.order == pytest.approx(1.0, abs=0.03)


def test_a_start_of_zero_never_moves_with_two_layers():
    weights = two_layer_flow(VARIANCES, double(0.0, 1.0, 1e6), 0, alpha=1, sigma=1)
    assert bool((weights == 0).all())


# with a mean, as matrices


@pytest.mark.parametrize("tail", [0.0, 0.2])
def test_weights_and_bias_learned_together_solve_the_gradient_flow_of_the_expected_loss(tail):
    """E|W x_t + b - x_0|^2 from the moments, its gradient by autograd, integrated at 1e-13."""
    data = distribution((0.7, -1.1, 0.4), tail)
    x_0, noise = moment_batch(data)

    def downhill(flat):
        v = torch.from_numpy(flat.copy()).reshape(3, 4).requires_grad_()
        miss = (ALPHA * x_0 + SIGMA * noise) @ v[:, :3].T + v[:, 3] - x_0
        miss.square().sum(1).mean().backward()
        assert v.grad is not None
        return -v.grad.reshape(-1).numpy()

    start = AffineMap(torch.eye(3, dtype=torch.float64) * 0.3, double(0.1, 0.2, -0.3))
    flat = torch.cat([start.weight, start.bias[:, None]], 1).reshape(-1).numpy()
    learned = AffineLearning(data, ALPHA, SIGMA).flow(start, 0.8)
    expected = torch.from_numpy(solved(downhill, flat, 0.8)).reshape(3, 4)
    assert torch.allclose(learned.weight, expected[:, :3], rtol=0, atol=1e-11)
    assert torch.allclose(learned.bias, expected[:, 3], rtol=0, atol=1e-11)


def test_the_affine_optimum_is_the_exact_denoiser_of_the_gaussian():
    data = distribution((0.7, -1.1, 0.4))
    x = torch.randn(20, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    best = AffineLearning(data, ALPHA, SIGMA).optimum
    assert torch.allclose(x @ best.weight.T + best.bias, data.denoise(x, ALPHA, SIGMA), rtol=0, atol=1e-13)


def test_under_gradient_flow_the_distance_to_the_exact_denoiser_only_shrinks():
    """E|(V - V*) z|^2 over the moments: no turning point in a linear network that starts at zero."""
    data = distribution((0.7, -1.1, 0.4))
    learning, (x_0, noise) = AffineLearning(data, ALPHA, SIGMA), moment_batch(data)
    x_t = ALPHA * x_0 + SIGMA * noise
    zero = AffineMap(torch.zeros(3, 3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64))
    learned = [learning.flow(zero, time) for time in np.geomspace(0.01, 10, 16).tolist()]
    errors = [x_t @ affine.weight.T + affine.bias - data.denoise(x_t, ALPHA, SIGMA) for affine in learned]
    assert bool((torch.stack(errors).square().sum(2).mean(1).diff() < 0).all())


def test_without_a_mean_the_principal_components_learn_apart():
    data, start = distribution(), AffineMap(0.2 * torch.eye(3, dtype=torch.float64), double(1.0, 2.0, 3.0))
    learned = AffineLearning(data, ALPHA, SIGMA).flow(start, 0.6)
    modes = data.eigenvectors.T @ learned.weight @ data.eigenvectors
    expected = one_layer_flow(data.eigenvalues, double(0.6), 0.2, alpha=ALPHA, sigma=SIGMA)[0]
    assert torch.allclose(modes, expected.diag(), rtol=0, atol=1e-14)
    assert torch.allclose(learned.bias, start.bias * math.exp(-1.2), rtol=1e-13, atol=0)


def test_a_mean_along_a_component_mixes_it_with_the_bias():
    """Two rates with the product s and the sum s + 1 + alpha^2 |mu|^2."""
    data = Gaussian(double(3.0, 0.0), torch.eye(2, dtype=torch.float64), double(0.5, 0.2))
    s = ALPHA**2 * double(0.5, 0.2) + SIGMA**2
    rates = AffineLearning(data, ALPHA, SIGMA).rates
    mixed = rates[(rates - s[1]).abs() > 1e-9]
    assert float(mixed.prod()) == pytest.approx(float(s[0]), rel=1e-12)
    assert float(mixed.sum()) == pytest.approx(float(s[0]) + 1 + ALPHA**2 * 9, rel=1e-12)


# networks in training


def test_the_moment_batch_has_the_moments():
    data = distribution((0.7, -1.1, 0.4), 0.2)
    x_0, noise = moment_batch(data)
    turned = data.eigenvectors
    covariance = (turned * (data.eigenvalues - 0.2)) @ turned.T + 0.2 * torch.eye(3, dtype=torch.float64)
    assert torch.allclose(x_0.mean(0), data.mean, atol=1e-14)
    assert torch.allclose(torch.cov(x_0.T, correction=0), covariance, atol=1e-13)
    assert torch.allclose(noise.mT @ noise / len(noise), torch.eye(3, dtype=torch.float64), atol=1e-14)
    assert torch.allclose(noise.mT @ x_0 / len(noise), torch.zeros(3, 3, dtype=torch.float64), atol=1e-14)


def test_a_network_trained_on_the_moments_takes_the_exact_steps():
    """Autograd, SGD and the library's own loss against the matrix recursion, to rounding, under a VP schedule."""
    data, schedule = distribution((0.7, -1.1, 0.4)), VP()
    alpha, sigma = float(schedule.alpha(0.4)), float(schedule.sigma(0.4))
    theory = AffineLearning(data, alpha, sigma)
    rates = torch.linspace(0.01, 0.9, 30, dtype=torch.float64) * theory.largest_learning_rate
    model = LinearDenoiser(schedule, double(0.4), event_shape=(3,), data_range=(-1.0, 1.0), start=0.25)
    start = AffineMap(*model.map_at(0.4))
    weights, biases = trained_maps(model, *moment_batch(data), 0.4, rates.tolist())
    for step in (1, 7, 30):
        learned = theory.descent(start, rates[:step])
        assert torch.allclose(weights[step], learned.weight, rtol=0, atol=1e-13)
        assert torch.allclose(biases[step], learned.bias, rtol=0, atol=1e-13)


def test_a_two_layer_network_trained_on_the_moments_takes_the_exact_steps():
    data, rates = distribution((0.7, -1.1, 0.4)), torch.full((60,), 0.02, dtype=torch.float64)
    model = SymmetricLinearDenoiser(VE(), double(SIGMA), mean=data.mean, data_range=(-1.0, 1.0), start=0.04)
    weights, _ = trained_maps(model, *moment_batch(data), SIGMA, rates.tolist())
    modes = torch.stack([data.eigenvectors.T @ weight @ data.eigenvectors for weight in weights])
    start = 0.04 * (1 + 2**-24)  # the factor was made in float32
    expected = two_layer_descent(data.eigenvalues, rates, float(modes[0, 0, 0]), alpha=1, sigma=SIGMA)
    assert float(modes[0, 0, 0]) == pytest.approx(start, rel=1e-7)
    assert torch.allclose(modes, torch.diag_embed(expected), rtol=0, atol=1e-13)


def test_stochastic_gradients_follow_the_exact_steps_in_the_mean():
    """Fresh samples: E[V_n] obeys the recursion exactly; 80 runs, every entry within 4.5 standard errors."""
    data, runs, rates = distribution((0.7, -1.1, 0.4)), 80, torch.full((8,), 0.05, dtype=torch.float64)
    generator, ends = torch.Generator().manual_seed(0), []
    for _ in range(runs):
        model = LinearDenoiser(VE(), double(SIGMA), event_shape=(3,), data_range=(-1.0, 1.0)).double()
        for rate in rates.tolist():
            x_0 = data.sample(16, generator=generator)
            noise = torch.randn(16, 3, dtype=torch.float64, generator=generator)
            gradients = torch.autograd.grad(
                3 * denoising_loss(model, x_0, SIGMA, noise, PlainWeight()), list(model.parameters())
            )
            with torch.no_grad():
                for parameter, gradient in zip(model.parameters(), gradients, strict=True):
                    parameter -= rate * gradient
        ends.append(torch.cat([model.map_at(SIGMA)[0], model.map_at(SIGMA)[1][:, None]], 1))
    zero = AffineMap(torch.zeros(3, 3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64))
    expected = AffineLearning(data, 1, SIGMA).descent(zero, rates)
    expected = torch.cat([expected.weight, expected.bias[:, None]], 1)
    found = torch.stack(ends)
    for row in range(3):
        for column in range(4):
            assert monte_carlo(found[:, row, column]).agrees_with(float(expected[row, column]), 4.5)


# what is generated


@pytest.mark.parametrize(
    ("generated", "flow"),
    [(one_layer_generated_variance, one_layer_flow), (two_layer_generated_variance, two_layer_flow)],
)
@pytest.mark.parametrize("start", [0.0, 0.02, 0.9])
def test_the_generated_variance_is_the_integral_of_the_probability_flow(generated, flow, start):
    """log lambda~ = log sigma_T^2 - 2 int (1 - w) dlog sigma by adaptive quadrature, to 1e-12 relative."""
    sigma_0, sigma_T = 0.03, 20.0
    times = double(0.0, 0.3, 500.0)
    found = generated(VARIANCES, times, start, sigma_0=sigma_0, sigma_T=sigma_T)
    for row, time in enumerate(times.tolist()):
        for column in range(len(VARIANCES)):

            def missing(u, time=time, column=column):
                return 1 - float(flow(VARIANCES[column : column + 1], double(time), start, alpha=1, sigma=math.exp(u)))

            # pieces: the gain may fall in a narrow range of noise
            ends = np.linspace(math.log(sigma_0), math.log(sigma_T), 9)
            integral = sum(quad(missing, a, b, epsabs=1e-14, epsrel=1e-13)[0] for a, b in zip(ends, ends[1:]))  # noqa: B905, RUF007
            expected = 2 * math.log(sigma_T) - 2 * integral
            assert math.log(float(found[row, column])) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("generated", "flow"),
    [(one_layer_generated_variance, one_layer_flow), (two_layer_generated_variance, two_layer_flow)],
)
def test_the_generated_variance_is_that_of_the_solved_ode(generated, flow):
    """dc/dsigma = (1 - w) c / sigma from sigma_T down, DOP853 at 1e-13; the other sign of the integral would fail."""
    for lam in (2.0, 0.03):
        variance = double(lam)

        def slope(sigma, c, variance=variance):
            return (1 - float(flow(variance, double(0.9), 0.1, alpha=1, sigma=sigma))) * c / sigma

        solution = solve_ivp(slope, (10.0, 0.05), [10.0], method="DOP853", rtol=1e-13, atol=1e-15)
        found = float(generated(variance, double(0.9), 0.1, sigma_0=0.05, sigma_T=10.0))
        assert found == pytest.approx(float(solution.y[0, -1]) ** 2, rel=1e-11)


def test_the_regular_form_is_the_printed_one_with_exponential_integrals():
    from scipy.special import expi

    lam, tau, start, ends = 0.4, 0.7, 0.1, (0.05, 6.0)

    def phi(sigma):
        decayed = 0.5 * (1 - start) * expi(-2 * tau * sigma**2) * math.exp(-2 * tau * lam)
        return math.sqrt(lam + sigma**2) * math.exp(decayed - 0.5 * expi(-2 * tau * (sigma**2 + lam)))

    found = one_layer_generated_variance(double(lam), double(tau), start, sigma_0=ends[0], sigma_T=ends[1])
    assert float(found) == pytest.approx((ends[1] * phi(ends[0]) / phi(ends[1])) ** 2, rel=1e-13)


def test_the_entire_exponential_integral_is_its_integral():
    x = double(0.0, 1e-12, 1e-3, 0.5, 3.0, 60.0)
    expected = [
        quad(lambda u: -math.expm1(-u) / u if u else 1.0, 0, end, epsabs=0, epsrel=1e-13)[0] for end in x.tolist()
    ]
    assert torch.allclose(entire_exponential_integral(x), double(*expected), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("generated", [one_layer_generated_variance, two_layer_generated_variance])
def test_long_training_generates_what_the_exact_denoiser_does(generated):
    """Against the probability-flow map of the exact Gaussian."""
    lam, schedule = VARIANCES[:3], VE(0.05, 10.0)
    exact = Gaussian(torch.zeros(3), torch.eye(3, dtype=torch.float64), lam)
    moved = exact.flow(10 * torch.eye(3, dtype=torch.float64), schedule, 10.0, 0.05).diag() ** 2
    assert torch.allclose(learned_variance(lam, sigma_0=0.05, sigma_T=10.0), moved, rtol=1e-13, atol=0)
    assert torch.allclose(generated(lam, double(1e5), 0.1, sigma_0=0.05, sigma_T=10.0)[0], moved, rtol=1e-12, atol=0)


# emergence


def test_the_weights_of_one_layer_emerge_with_the_noised_variance_and_not_with_its_inverse_alone():
    """Half-way at log(2) / 2 (lambda + sigma^2): a power -1 of lambda + sigma^2, saturating below the noise."""
    lam, sigma = torch.logspace(-3, 1, 20, dtype=torch.float64), 0.5
    halves = math.log(2) / (2 * (lam + sigma**2))
    curves = one_layer_flow(lam, halves, 0.0, alpha=1, sigma=sigma)
    assert torch.allclose(curves.diag(), optimal_weights(lam, 1, sigma) / 2, rtol=1e-12, atol=0)
    assert fit_power_law(lam + sigma**2, halves).exponent == pytest.approx(-1, abs=1e-12)
    assert fit_power_law(lam, halves, lam < 0.01).exponent > -0.05


def test_the_generated_variance_scales_exactly_when_the_noise_levels_scale_with_it():
    """lambda -> k lambda, sigma -> k^(1/2) sigma, tau -> tau / k multiplies lambda~ by k: the distribution tau* ~
    1/lambda.
    """
    lam, tau, k = double(0.3, 0.02), double(0.5, 4.0), 7.0
    for generated in (one_layer_generated_variance, two_layer_generated_variance):
        small = generated(lam, tau, 0.1, sigma_0=0.03, sigma_T=8.0)
        large = generated(k * lam, tau / k, 0.1, sigma_0=0.03 * k**0.5, sigma_T=8.0 * k**0.5)
        assert torch.allclose(large, k * small, rtol=1e-12, atol=0)


def test_emergence_is_found_where_an_exponential_curve_crosses_its_geometric_mean():
    """v = exp(r log tau): lines in logarithms are found exactly, rising or falling; one that stays gives NaN."""
    times = torch.logspace(-2, 2, 41, dtype=torch.float64)
    curves = torch.stack([times**1.5, times**-0.7, torch.ones_like(times)], 1)
    final = double(1e4**1.5 * times[0] ** 1.5, 1e4**-0.7 * times[0] ** -0.7, 5.0)
    found = emergence_times(times, curves, final)
    assert torch.allclose(found[:2], double(1.0, 1.0), rtol=1e-12, atol=0)
    assert bool(found[2].isnan())


def test_a_kinked_curve_crosses_in_its_first_interval_and_a_touch_is_a_crossing():
    """From 1 to 9, half-way (3) within [1, 2] at the geometric mean of its ends, for any later values."""
    times = double(1.0, 2.0, 4.0, 8.0)
    curves = torch.stack([double(1.0, 9.0, 9.1, 9.0), double(1.0, 1.0, 3.0, 9.0), double(1.0, 1.0, 1.0, 9.0)], 1)
    found = emergence_times(times, curves, double(9.0, 9.0, 9.0))
    assert torch.allclose(found, double(2**0.5, 4.0, 32**0.5), rtol=1e-14, atol=0)
    # a start at 0 has no logarithm: what crosses before the first time > 0 is not found, what crosses later is
    found = emergence_times(double(0.0, 2.0, 4.0, 8.0), curves, double(9.0, 9.0, 9.0))
    assert bool(found[0].isnan())
    assert torch.allclose(found[1:], double(4.0, 32**0.5), rtol=1e-14, atol=0)


def test_an_exponent_is_found_with_an_interval_that_covers():
    """Slope -1.3 with log-normal scatter: the 95% interval covers in 95% of 400 fits, within 4 standard errors."""
    generator, x = torch.Generator().manual_seed(0), torch.logspace(-2, 1, 12, dtype=torch.float64)
    covered = []
    for _ in range(400):
        scatter = torch.randn(12, dtype=torch.float64, generator=generator) * 0.2
        fit = fit_power_law(x, 3 * x**-1.3 * scatter.exp())
        covered.append(abs(fit.exponent + 1.3) <= fit.interval)
    assert abs(sum(covered) / 400 - 0.95) < 4 * math.sqrt(0.95 * 0.05 / 400)
    exact = fit_power_law(x, 3 * x**-1.3)
    assert (exact.exponent, exact.prefactor) == (pytest.approx(-1.3, abs=1e-13), pytest.approx(3, rel=1e-12))
    assert torch.allclose(exact(x), 3 * x**-1.3)


# what is refused


@pytest.mark.parametrize("call", [one_layer_flow, two_layer_flow, one_layer_descent, two_layer_descent])
@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"variances": double(1.0, -1.0)}, "variances"),
        ({"variances": double(1.0, math.nan)}, "variances"),
        ({"variances": double()}, "variances"),
        ({"times": double(-1.0)}, "times|learning_rates"),
        ({"times": double(math.inf)}, "times|learning_rates"),
        ({"sigma": 0.0}, "sigma"),
        ({"sigma": math.nan}, "sigma"),
        ({"alpha": -1.0}, "alpha"),
    ],
)
def test_bad_arguments_are_named(call, change, named):
    given = {"variances": double(1.0, 2.0), "times": double(1.0), "alpha": 1.0, "sigma": 1.0} | change
    with pytest.raises(InputError, match=named):
        call(given["variances"], given["times"], 0.1, alpha=given["alpha"], sigma=given["sigma"])


def test_invalid_starts_levels_and_curves_are_named():
    with pytest.raises(InputError, match="start"):
        two_layer_flow(VARIANCES, double(1.0), -0.1, alpha=1, sigma=1)
    with pytest.raises(InputError, match="sigma_0"):
        one_layer_generated_variance(VARIANCES, double(1.0), 0, sigma_0=2.0, sigma_T=1.0)
    with pytest.raises(InputError, match="start"):
        AffineLearning(distribution(), 1.0, 1.0).flow(AffineMap(torch.eye(2), torch.zeros(2)), 1.0)
    with pytest.raises(InputError, match="time"):
        AffineLearning(distribution(), 1.0, 1.0).flow(AffineMap(torch.eye(3), torch.zeros(3)), -1.0)
    with pytest.raises(InputError, match="times"):
        emergence_times(double(1.0, 1.0, 2.0), torch.ones(3, 2).double(), torch.ones(2).double())
    with pytest.raises(InputError, match="curves"):
        emergence_times(double(1.0, 2.0, 3.0), torch.zeros(3, 2).double(), torch.ones(2).double())
    with pytest.raises(InputError, match="three points"):
        fit_power_law(double(1.0, 2.0), double(1.0, 2.0))
