"""The density that a score generates, on a grid: the exact score gives the data back, for every eta."""

import math

import pytest
import torch
from conftest import measured_order

from diffuscope.denoisers import ExactDenoiser, score_to_denoised
from diffuscope.densities.anti_diffusion import amplification, anti_diffuse, best_anti_diffusion
from diffuscope.densities.density import Density, histogram
from diffuscope.densities.gaussian_reverse import GaussianReverse
from diffuscope.densities.grid import Grid
from diffuscope.densities.reverse import reverse_equation, reverse_evolution
from diffuscope.densities.stepping import BackwardEuler, CrankNicolson, PeacemanRachford, steps
from diffuscope.errors import InputError
from diffuscope.exact import Gaussian, GaussianMixture
from diffuscope.samplers import EulerMaruyama, sample
from diffuscope.schedules import VP
from diffuscope.times import log_snr_times

F64 = torch.float64
SCHEDULE = VP()
PAIR = GaussianMixture.isotropic(
    torch.tensor([0.4, 0.6], dtype=F64), torch.tensor([[-1.0], [1.2]], dtype=F64), torch.tensor([0.1, 0.2], dtype=F64)
)


def distribution(grid, distribution, t):
    alpha, sigma = float(SCHEDULE.alpha(t)), float(SCHEDULE.sigma(t))
    return Density(grid, grid.averages(lambda x: distribution.log_prob(x, alpha, sigma), nodes=4))


def last(densities):
    *_, end = densities
    return end


@pytest.mark.parametrize(("eta", "order"), [(0.0, 1), (0.5, 2), (1.0, 2), (2.0, 2)])
def test_the_exact_score_brings_the_data_back_for_every_eta(eta, order):
    def error(cells):
        grid, times = Grid.line(-6, 6, cells), log_snr_times(SCHEDULE, 1.0, 1e-3, cells)
        start = distribution(grid, PAIR, 1.0)
        end = last(reverse_evolution(ExactDenoiser(PAIR, SCHEDULE), start, times, CrankNicolson(), eta=eta))
        assert abs(end.mass() - start.mass()) <= 1e-12
        return end.l1_distance(distribution(grid, PAIR, 1e-3))

    assert abs(measured_order(error, [100, 200]).order - order) < 0.15


def test_the_relative_entropy_of_a_wrong_start_converges_to_the_closed_form_at_order_two():
    # data N(1.3, 1/4), started at T = 1 from N(0, 1), eta = 1/2
    ou, data = VP(3.0, 3.0), Gaussian.isotropic(torch.tensor([1.3], dtype=F64), 0.25)
    closed = GaussianReverse(ou, 1.3, 0.25, 1.0, 0.0, 1.0, 0.5).relative_entropy(0.007)

    def error(cells):
        grid, times = Grid.line(-6, 6, cells), log_snr_times(ou, 1.0, 0.007, cells)
        normal = Density(grid, grid.averages(lambda x: -(x[:, 0] ** 2) / 2 - 0.5 * math.log(2 * math.pi), nodes=4))
        alpha, sigma = float(ou.alpha(0.007)), float(ou.sigma(0.007))
        exact = Density(grid, grid.averages(lambda x: data.log_prob(x, alpha, sigma), nodes=4))
        end = last(reverse_evolution(ExactDenoiser(data, ou), normal, times, CrankNicolson(), eta=0.5))
        return abs(end.relative_entropy(exact) - closed)

    assert abs(measured_order(error, [200, 400]).order - 2) < 0.1  # pre-asymptotic terms


@pytest.mark.parametrize("eta", [0.5, 1.0, 2.0])
def test_a_step_of_backward_euler_averages_the_ratio_to_the_exact_density(eta):
    """sup q/p never rises and inf q/p never falls, beyond rounding: two densities under one equation with noise."""
    grid, times = Grid.line(-4, 4, 200), 1.0 - log_snr_times(SCHEDULE, 1.0, 1e-2, 100)
    wrong = Gaussian.isotropic(torch.tensor([-0.6], dtype=F64), 1.3)
    q, p = grid.averages(lambda x: wrong.log_prob(x, 1.0, 1e-9), nodes=4), distribution(grid, PAIR, 1.0).values
    ratios = [q / p]
    equation = reverse_equation(ExactDenoiser(PAIR, SCHEDULE), grid, 1.0, eta=eta)
    for step in steps(equation, times, BackwardEuler()):
        q, p = step.apply(q), step.apply(p)
        ratios.append(q / p)
    top, bottom = (torch.stack([end(ratio) for ratio in ratios]) for end in (torch.amax, torch.amin))
    assert float((top.diff() / top[:-1]).max()) <= 1e-12
    assert float((bottom.diff() / bottom[:-1]).min()) >= -1e-12
    assert float(top[-1] - bottom[-1]) < 0.9 * float(top[0] - bottom[0])  # noise forgets


def test_backward_euler_keeps_the_generated_density_nonnegative_with_a_wrong_score():
    class Loud:
        schedule = SCHEDULE

        def __call__(self, x_t, t):
            return score_to_denoised(x_t, 30 * torch.sin(7 * x_t), SCHEDULE, t)

    grid = Grid.line(-3, 3, 100)
    spike = torch.zeros(100, dtype=F64)
    spike[50] = 1
    times = torch.linspace(1, 0.1, 20, dtype=F64)
    assert min(d.lowest() for d in reverse_evolution(Loud(), Density(grid, spike), times, BackwardEuler())) >= 0


def test_the_generated_density_of_a_wrong_score_is_the_stationary_distribution_of_that_score():
    # eta = 1 with beta constant and the score of N(0, v) at every time: dY = (b/2 - b/v) Y dtau + sqrt b dB, a Gaussian
    v, schedule = 0.5, VP(2.0, 2.0)

    class Frozen:
        def __init__(self):
            self.schedule = schedule

        def __call__(self, x_t, t):
            return score_to_denoised(x_t, -x_t / v, schedule, t)

    grid = Grid.line(-6, 6, 400)
    rate = 1 / v * 2 - 1  # of the mean's decay, beta = 2
    variance = 1 / rate  # 2 r P = beta = 2
    start = Density(grid, grid.averages(lambda x: -0.5 * x[:, 0] ** 2 - 0.5 * math.log(2 * math.pi)))
    times = torch.linspace(6, 0.5, 300, dtype=F64)
    end = last(reverse_evolution(Frozen(), start, times, CrankNicolson()))
    assert abs(float(end.covariance()) - variance) < 2 * grid.widths[0] ** 2
    assert abs(float(end.mean())) < 1e-12


def test_the_density_agrees_with_particles_of_a_sampler():
    # from a start that is not the forward process's distribution at that time, late enough to be remembered
    fine, coarse = Grid.line(-6, 6, 1200), Grid.line(-6, 6, 60)
    denoiser, wrong = ExactDenoiser(PAIR, SCHEDULE), Gaussian.isotropic(torch.tensor([0.5], dtype=F64), 0.4)

    def coarsened(density):
        return Density(coarse, density.values.reshape(60, 20).mean(1))

    start = Density(fine, fine.averages(lambda x: wrong.log_prob(x, 1.0, 1e-9), nodes=4))
    end = coarsened(last(reverse_evolution(denoiser, start, log_snr_times(SCHEDULE, 0.3, 1e-2, 300), CrankNicolson())))
    draw, n = torch.Generator().manual_seed(1), 40_000
    times = log_snr_times(SCHEDULE, 0.3, 1e-2, 100)
    particles = sample(EulerMaruyama(), denoiser, wrong.sample(n, generator=draw), times, noise=draw)
    shares, counted = end.values * coarse.volume, histogram(particles, coarse).values * coarse.volume
    standard_error = (shares * (1 - shares) / n).sqrt()
    bias = 0.01 * shares.max()  # of Euler-Maruyama at 100 steps, weak order 1
    assert bool(((counted - shares).abs() <= 4 * standard_error + bias).all())
    # the start is remembered: both are far from the distribution of the data
    data = coarsened(distribution(fine, PAIR, 1e-2))
    assert end.l1_distance(data) > 0.2
    assert histogram(particles, coarse).l1_distance(data) > 0.2


def test_two_dimensions_come_back_too():
    data = Gaussian.isotropic(torch.tensor([0.5, -0.3], dtype=F64), 0.3)

    def error(cells):
        grid, times = Grid.square(-5, 5, cells), log_snr_times(SCHEDULE, 1.0, 0.02, cells)
        denoiser = ExactDenoiser(data, SCHEDULE)
        end = last(reverse_evolution(denoiser, distribution(grid, data, 1.0), times, PeacemanRachford()))
        return end.l1_distance(distribution(grid, data, 0.02))

    assert abs(measured_order(error, [40, 80]).order - 2) < 0.25


def test_undoing_heat_multiplies_rounding_by_the_amplification():
    # the highest mode of a perturbation of size 1e-12 comes back e^{D tau k^2} times larger
    grid = Grid.line(-math.pi, math.pi, 64)
    k = 12
    wave = 1e-6 * torch.cos(k * grid.centers())
    back = anti_diffuse(Density(grid, wave), 0.1, 20.0).density
    torch.testing.assert_close(back.values, math.exp(0.1 * k**2) * wave, rtol=1e-8, atol=1e-13 * math.exp(40))
    assert amplification(grid, 0.1) == pytest.approx(math.exp(0.1 * 32**2), rel=1e-12)
    assert math.isinf(amplification(grid, 1.0))
    # the finest mode is pi/h: half the cells' width, four times the exponent
    coarse, fine = (math.log(amplification(Grid.line(-12, 12, cells), 0.5)) for cells in (32, 64))
    assert fine / coarse == pytest.approx(4, abs=1e-12)


@pytest.mark.parametrize("length", [0.3, 1.0, 2 * math.pi, 7.0, 10.0])
def test_a_mode_at_the_cutoff_is_kept(length):
    for cells in (15, 64):
        grid = Grid.line(0.0, length, cells)
        for k in (2 * math.pi * m / length for m in range(1, cells // 2)):
            density = Density(grid, 1 + (k * grid.centers()).cos())
            assert anti_diffuse(density, 0.0, k).density.l1_distance(density) < 1e-12 * length


def test_the_best_cutoff_recovers_less_and_less_as_the_blur_and_the_noise_grow():
    grid = Grid.line(-12, 12, 256)
    data = Density(grid, grid.evaluate(lambda x: PAIR.log_prob(x, 1.0, 0.2)))
    errors = {}
    for variance in (0.05, 0.2, 1.0):
        blurred = grid.evaluate(lambda x, v=variance: PAIR.log_prob(x, 1.0, math.sqrt(0.04 + v)))
        for noise in (0.0, 1e-6):
            rough = blurred + noise * torch.randn(256, dtype=F64, generator=torch.Generator().manual_seed(0))
            best = best_anti_diffusion(Density(grid, rough), variance / 2, data)
            errors[variance, noise] = best.density.l1_distance(data)
    for noise in (0.0, 1e-6):
        assert errors[0.05, noise] < errors[0.2, noise] < errors[1.0, noise]
    for variance in (0.05, 0.2, 1.0):
        assert errors[variance, 1e-6] > 10 * errors[variance, 0.0]
    assert errors[0.05, 0.0] < 1e-8  # mild blur without noise is undone


def test_bad_input_is_refused():
    grid = Grid.line(-1, 1, 8)
    flat, denoiser = Density(grid, torch.ones(8, dtype=F64)), ExactDenoiser(PAIR, SCHEDULE)
    with pytest.raises(InputError, match="decreasing times"):
        list(reverse_evolution(denoiser, flat, torch.tensor([0.1, 0.9], dtype=F64), BackwardEuler()))
    with pytest.raises(InputError, match="eta: expected a finite value >= 0"):
        reverse_equation(denoiser, grid, 1.0, eta=-1.0).generator(0, 0.1)
    with pytest.raises(InputError, match="beyond float64"):
        anti_diffuse(flat, 1.0, 100.0)
    with pytest.raises(InputError, match="exponent, cutoff"):
        anti_diffuse(flat, -1.0, 1.0)
