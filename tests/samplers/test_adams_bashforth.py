"""Exponential Adams-Bashforth: its weights against quadrature, its order measured, its identities exact."""

import math

import pytest
import torch
from conftest import measured_order
from exact_flows import ExactDiffusion, gaussian_in_the_plane, mixture_on_the_line, unequal_gaussian
from scipy.integrate import quad
from torch import Tensor

from diffuscope.denoisers import Batch, BatchTime, ExactDenoiser
from diffuscope.errors import InputError
from diffuscope.exact import Gaussian
from diffuscope.samplers import DDIM, DPMSolverPP2M, Evaluation, instants, sample
from diffuscope.samplers.adams_bashforth import DataAdamsBashforth, NoiseAdamsBashforth, interpolation_weights
from diffuscope.schedules import VE, VP, RectifiedFlow, Schedule
from diffuscope.times import log_snr_times, uniform_times

METHODS = [NoiseAdamsBashforth, DataAdamsBashforth]
STEPS = [32, 101, 320]  # a decade

every_method = pytest.mark.parametrize("method", METHODS, ids=["noise", "data"])
every_problem = pytest.mark.parametrize(
    ("diffusion", "schedule", "start", "end"),
    [(gaussian_in_the_plane(), VE(), 3.0, 0.05), (mixture_on_the_line(), RectifiedFlow(), 0.75, 0.05)],
    ids=["gaussian, VE", "mixture, rectified flow"],
)


class Counted:
    """An exact denoiser that counts its calls."""

    def __init__(self, diffusion: ExactDiffusion, schedule: Schedule) -> None:
        self.inner = ExactDenoiser(diffusion.distribution, schedule)
        self.schedule = schedule
        self.calls = 0

    def __call__(self, x_t: Batch, t: BatchTime) -> Batch:
        self.calls += 1
        return self.inner(x_t, t)


@pytest.mark.parametrize("rate", [-1.0, 1.0])
@pytest.mark.parametrize("power", [0.0, 1 / 7, 0.5, 1.0])
@pytest.mark.parametrize("h", [1e-5, 1e-2, 0.7, 3.0, 12.0])
def test_weights_are_the_mean_lagrange_polynomials(rate: float, power: float, h: float):
    """Against adaptive quadrature, for steps from tiny to huge, with the nodes spaced like the step."""
    a, nodes = 0.3, (0.3 - 2.1 * h, 0.3 - 1.2 * h, 0.3 - 0.5 * h, 0.3)
    if power * h > 3:
        nodes = (0.3 - 2.1, 0.3 - 1.2, 0.3 - 0.5, 0.3)  # (sigma/alpha)^power must not span 1e10
    weights = interpolation_weights(nodes, a, a + h, rate=rate, power=power)

    def u(lam: float) -> float:
        return -math.expm1(-power * (lam - a)) / power if power > 0 else lam - a

    def polynomial(j: int, lam: float) -> float:
        return math.prod((u(lam) - u(nodes[i])) / (u(nodes[j]) - u(nodes[i])) for i in range(4) if i != j)

    def integral(values, lower: float, upper: float) -> float:
        return quad(values, lower, upper, epsabs=0, epsrel=1e-12, limit=200)[0]

    total = integral(lambda lam: math.exp(rate * (lam - a)), a, a + h)
    for j, weight in enumerate(weights):
        expected = integral(lambda lam, j=j: math.exp(rate * (lam - a)) * polynomial(j, lam), a, a + h) / total
        assert weight == pytest.approx(expected, rel=1e-9, abs=1e-11 * max(map(abs, weights)))


@every_method
@pytest.mark.parametrize("order", [2, 3, 4])
@pytest.mark.parametrize("power", [0.0, 0.5])
def test_polynomials_below_the_order_are_integrated_exactly(method: type, order: int, power: float):
    """Weights of a polynomial's values at the nodes give its mean: the defining property, for k = 0 .. order - 1."""
    rate = -1.0 if method is NoiseAdamsBashforth else 1.0
    nodes = (-1.9, -1.1, -0.6, 0.2)[-order:]
    weights = interpolation_weights(nodes, 0.2, 0.9, rate=rate, power=power)
    assert sum(weights) == pytest.approx(1.0, abs=1e-13)
    for k in range(order):
        # u^k = (e^(-power lam))^k expands to exponentials; lambda^k by parts. Both by quadrature here.
        def basis(lam: float, k: int = k) -> float:
            return (math.exp(-power * lam) if power > 0 else lam) ** k

        numerator = quad(lambda lam, basis=basis: math.exp(rate * lam) * basis(lam), 0.2, 0.9)[0]
        mean = numerator / quad(lambda lam: math.exp(rate * lam), 0.2, 0.9)[0]
        assert sum(w * basis(n) for w, n in zip(weights, nodes, strict=True)) == pytest.approx(mean, rel=1e-11)


@every_problem
@every_method
@pytest.mark.parametrize("order", [2, 3, 4])
def test_cold_start_converges_at_the_declared_order(
    method: type, order: int, diffusion: ExactDiffusion, schedule: Schedule, start: float, end: float
):
    sampler = method(order=order)

    def error(steps: int) -> float:
        return diffusion.endpoint_error(sampler, schedule, log_snr_times(schedule, start, end, steps), exact)

    exact = diffusion.exact_end(schedule, start, end)
    assert abs(measured_order(error, STEPS).order - order) < 0.15


@every_method
@pytest.mark.parametrize("order", [3, 4])
def test_warm_history_of_order_minus_two_evaluations_replaces_the_start(method: type, order: int):
    """At least the declared order with one evaluation in every step, order 4 included."""
    diffusion, schedule = gaussian_in_the_plane(), VE()
    denoiser = Counted(diffusion, schedule)
    x_start = diffusion.start(schedule, 3.0)
    exact = diffusion.exact_end(schedule, 3.0, 0.05)

    def error(steps: int) -> float:
        times = log_snr_times(schedule, 3.0, 0.05, steps)
        ratio = float(times[0] / times[1])
        before = torch.tensor([3.0 * ratio**k for k in range(order - 2, 0, -1)], dtype=torch.float64)
        history = tuple(
            Evaluation(at, x, denoiser.inner(x, at.t))
            for at in instants(schedule, before)
            for x in [diffusion.flow(x_start, schedule, 3.0, at.t)]
        )
        denoiser.calls = 0
        ended = sample(method(order=order), denoiser, x_start, times, history=history)
        assert denoiser.calls == steps
        return float((ended - exact).square().mean().sqrt())

    assert measured_order(error, STEPS).order > order - 0.15


@every_method
@pytest.mark.parametrize(("order", "extra"), [(1, 0), (2, 0), (3, 0), (4, 1)])
def test_cost_is_one_evaluation_per_step_and_one_more_for_order_four(method: type, order: int, extra: int):
    diffusion = gaussian_in_the_plane()
    denoiser = Counted(diffusion, VE())
    sample(method(order=order), denoiser, diffusion.start(VE(), 3.0), log_snr_times(VE(), 3.0, 0.05, 9))
    assert denoiser.calls == 9 + extra


@pytest.mark.parametrize("schedule", [VE(), VP(), RectifiedFlow()], ids=["VE", "VP", "rectified flow"])
@every_method
def test_order_one_is_ddim(method: type, schedule: Schedule):
    """DDIM equals its exponential-integrator form, whichever prediction is integrated."""
    denoiser = ExactDenoiser(unequal_gaussian(), schedule)
    times = uniform_times(0.9, 0.0, 8)
    x_start = torch.randn(6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    ended = sample(method(order=1), denoiser, x_start, times)
    assert torch.allclose(ended, sample(DDIM(), denoiser, x_start, times), rtol=1e-12, atol=1e-13)


@every_method
def test_power_one_is_adams_bashforth_in_noise_to_signal(method: type):
    """For noise prediction and equal steps of sigma/alpha: the textbook weights 3/2, -1/2."""
    weights = interpolation_weights((-math.log(1.2), -math.log(1.1)), -math.log(1.1), 0.0, rate=-1.0, power=1.0)
    assert weights == pytest.approx([-0.5, 1.5], abs=1e-13)
    assert method(order=2, power=1.0).power == 1.0


def test_second_order_data_weights_agree_with_2m_to_the_order():
    """2M freezes at the middle of the step; the exact mean differs from it by O(h) in the weight: same order."""

    def gap(steps: int) -> float:
        h = 1 / steps
        return abs(interpolation_weights((-h, 0.0), 0.0, h, rate=1.0, power=0.0)[0] + 0.5)

    assert abs(measured_order(gap, [8, 80, 800]).order - 1) < 0.02
    assert DPMSolverPP2M().order == 2


@pytest.mark.parametrize("schedule", [VE(), VP(), RectifiedFlow()], ids=["VE", "VP", "rectified flow"])
@pytest.mark.parametrize("order", [1, 2, 3, 4])
@every_method
def test_a_single_data_point_is_exact_on_any_grid(method: type, order: int, schedule: Schedule):
    """Both predictions are constant along the flow."""
    point = torch.tensor([0.7, -1.9], dtype=torch.float64)
    denoiser = ExactDenoiser(Gaussian.isotropic(point, 0.0), schedule)
    t, s = 0.9, 0.05
    noise = torch.randn(4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x_start = schedule.alpha(t) * point + schedule.sigma(t) * noise
    exact = schedule.alpha(s) * point + schedule.sigma(s) * noise
    for times in ([t, s], [t, 0.5, 0.31, 0.1, 0.09, s]):
        ended = sample(method(order=order), denoiser, x_start, torch.tensor(times, dtype=torch.float64))
        assert torch.allclose(ended, exact, rtol=1e-11, atol=1e-12)


@every_method
def test_from_a_start_without_signal_in_equal_steps_of_time_the_order_is_two(method: type):
    """The first step has no lambda to interpolate in, and those after it grow like 2, 3/2, 4/3, ... in sigma/alpha."""
    distribution = Gaussian.isotropic(torch.tensor([1.3, -0.4], dtype=torch.float64), 0.5)
    denoiser = ExactDenoiser(distribution, RectifiedFlow())
    x_start = torch.randn(16, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    exact = distribution.flow(x_start, RectifiedFlow(), 1.0, 0.1)

    def error(steps: int) -> float:
        ended = sample(method(order=4), denoiser, x_start, uniform_times(1.0, 0.1, steps))
        return float((ended - exact).abs().max())

    assert abs(measured_order(error, [48, 96, 192]).order - 2) < 0.25


@every_method
def test_a_step_to_clean_data_ends_at_the_latest_denoised(method: type):
    denoiser = ExactDenoiser(unequal_gaussian(), RectifiedFlow())
    x_t: Tensor = torch.randn(6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    ended = sample(method(order=3), denoiser, x_t, torch.tensor([0.4, 0.0], dtype=torch.float64))
    assert torch.equal(ended, denoiser(x_t, 0.4))


@every_method
def test_float32_states_stay_float32(method: type):
    denoiser = ExactDenoiser(unequal_gaussian(), VP())
    x_start = torch.randn(4, 2, generator=torch.Generator().manual_seed(0))
    assert sample(method(order=4), denoiser, x_start, log_snr_times(VP(), 0.9, 0.01, 6)).dtype == torch.float32


@every_method
def test_bad_orders_and_powers_raise(method: type):
    for bad in ({"order": 5}, {"order": 0}, {"power": -0.1}, {"power": 1.5}):
        with pytest.raises(InputError):
            method(**bad)
