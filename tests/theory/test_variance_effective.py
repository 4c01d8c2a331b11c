"""Samples under a random score: order, closed forms, the variance of white noise, and white is not quenched."""

import math
from dataclasses import dataclass

import pytest
import torch
from conftest import measured_order
from jaxtyping import TypeCheckError

from diffuscope.errors import InputError
from diffuscope.exact import Gaussian, GaussianMixture
from diffuscope.schedules import VE, VP, RectifiedFlow
from diffuscope.theory.variance import (
    Naive,
    Quenched,
    White,
    effective_white_sample,
    interleaved_sample,
    quenched_sample,
    semiclassical_quenched,
    semiclassical_white,
)
from diffuscope.theory.variance.effective import Steps
from diffuscope.theory.variance.naive import gaussian_variance
from diffuscope.times import karras_times, log_snr_times, uniform_times

START, END = 80.0, 1e-3
VE_SCHEDULE = VE()
PLANE = torch.tensor([[1.0, 0.3], [-0.5, 2.0]], dtype=torch.float64)


def naive(v=1.0, kappa=0.5):
    return Naive(Gaussian.isotropic(torch.zeros(1), v), VE(), kappa)


def recursion(v, kappa, times):
    """The variance of the Euler steps, without any draw."""
    variance = v + float(times[0]) ** 2
    for a, h in zip(times[:-1].tolist(), (-times.diff()).tolist(), strict=True):
        variance = (1 - h * a / (v + a**2)) ** 2 * variance + kappa * h * v / (v + a**2)
    return variance


@dataclass(frozen=True)
class Shifted:
    """Scores of N(0, v), each field plus a constant of its own: N(0, strength^2) in every coordinate. Quenched."""

    v: float = 2.0
    strength: float = 0.3
    schedule: VE = VE_SCHEDULE

    def score(self, x, t):
        return -x / (self.v + t**2)

    def covariance(self, x, t, y, u):
        del t, y, u
        return self.strength**2 * torch.eye(x.shape[1], dtype=x.dtype).expand(len(x), -1, -1)

    def draw(self, fields, *, generator):
        shifts = self.strength * torch.randn(fields, 1, 2, dtype=torch.float64, generator=generator)
        return lambda x, t: self.score(x, t) + shifts

    def response(self, start, end):
        """The displacement of the end per unit of a constant score: int t sqrt((v + end^2) / (v + t^2)) dt."""
        far, near = math.sqrt(self.v + start**2), math.sqrt(self.v + end**2)
        return near * (far - near)


# white noise: the naive model


@pytest.mark.parametrize(("v", "kappa"), [(1.0, 0.5), (4.0, 1.0)])
def test_the_variance_of_the_steps_is_its_recursion(v, kappa):
    """Semiclassics neglects nothing here; 1e-10 relative, in 100 steps."""
    times = karras_times(VE(), START, END, 100)
    found = semiclassical_white(naive(v, kappa), torch.zeros(1, 1).double(), times)
    total = found.from_spread(torch.tensor([[v + START**2]], dtype=torch.float64))
    assert float(total) == pytest.approx(recursion(v, kappa, times), rel=1e-10)


@pytest.mark.parametrize(("v", "kappa"), [(1.0, 0.5), (4.0, 1.0)])
def test_the_recursion_converges_at_order_one_to_the_closed_form(v, kappa):
    exact = gaussian_variance(v, kappa, START, END)
    order = measured_order(
        lambda n: abs(recursion(v, kappa, karras_times(VE(), START, END, n)) - exact), [800, 1600, 3200, 6400]
    )
    assert abs(order.order - 1) < 0.05
    assert recursion(v, kappa, karras_times(VE(), START, END, 6400)) == pytest.approx(exact, rel=2e-3)
    assert gaussian_variance(v, kappa, 1e9, 0.0) == pytest.approx(v + kappa * math.pi * math.sqrt(v) / 4, rel=1e-8)


@pytest.mark.parametrize("sampler", [effective_white_sample, interleaved_sample])
def test_samples_have_the_variance_of_the_recursion(sampler):
    """10,000 samples of 60 steps; a variance has standard error v sqrt(2 / n), tolerance four of them."""
    v, kappa, n, generator = 1.0, 0.5, 10_000, torch.Generator().manual_seed(1)
    times = karras_times(VE(), START, END, 60)
    x = math.sqrt(v + START**2) * torch.randn(n, 1, dtype=torch.float64, generator=generator)
    end = sampler(naive(v, kappa), x, times, generator=generator, trajectories=6_000)
    expected = recursion(v, kappa, times)
    assert abs(float(end.var()) / expected - 1) < 4 * math.sqrt(2 / n)
    assert abs(float(end.mean())) < 4 * math.sqrt(expected / n)


def test_posterior_draws_and_gaussian_noise_agree_in_variance_on_two_examples():
    """Data -1 and 1, 4,000 runs each: second moments within four standard errors of their difference."""
    kernel = Naive(torch.tensor([[-1.0], [1.0]], dtype=torch.float64), VE(), 1.0)
    n, generator = 4_000, torch.Generator().manual_seed(2)
    times = karras_times(VE(), 10.0, 0.5, 50)
    x = 10 * torch.randn(2, n, 1, dtype=torch.float64, generator=generator)
    noisy = effective_white_sample(kernel, x[0], times, generator=generator).square()
    drawn = interleaved_sample(kernel, x[1], times, generator=generator).square()
    error = math.sqrt((float(noisy.var()) + float(drawn.var())) / n)
    assert abs(float(noisy.mean() - drawn.mean())) < 4 * error


def test_without_noise_the_two_are_the_probability_flow():
    """kappa = 0: exactly the Euler steps of the ODE, in two dimensions and a schedule with a drift."""
    mixture = GaussianMixture.isotropic(
        torch.tensor([0.5, 0.5]).double(), PLANE, torch.tensor([0.2, 0.1], dtype=torch.float64)
    )
    kernel, times = Naive(mixture, VP(), 0.0), log_snr_times(VP(), 1.0, 1e-3, 40)
    x = torch.randn(1, 30, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    flow = quenched_sample(lambda y, t: kernel.score(y[0], t)[None], VP(), x, times)[0]
    for sampler in (effective_white_sample, interleaved_sample):
        end = sampler(kernel, x[0], times, generator=torch.Generator().manual_seed(4))
        assert torch.allclose(end, flow, rtol=1e-12, atol=1e-12)


def test_the_amplitude_is_the_covariance_of_the_target_times_kappa_and_half_g_squared_twice():
    kernel = Naive(PLANE, VP(), 0.7)
    x = torch.randn(5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    D = float(VP().g_squared(0.4)) / 2
    C = kernel.proxy.covariance(x, 0.4)
    assert torch.allclose(kernel.amplitude(x, 0.4).matvec(x), 0.7 * D**2 * C.matvec(x), rtol=1e-12, atol=0)


def test_a_single_example_leaves_no_noise():
    kernel, times = Naive(PLANE[:1], VE(), 2.0), karras_times(VE(), 10.0, 0.01, 30)
    x = 10 * torch.randn(6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(6))
    noisy = effective_white_sample(kernel, x, times, generator=torch.Generator().manual_seed(7))
    still = effective_white_sample(Naive(PLANE[:1], VE(), 0), x, times, generator=torch.Generator().manual_seed(8))
    assert torch.equal(noisy, still)


# quenched fields


@pytest.mark.parametrize(("method", "order", "steps"), [("euler", 1, [50, 100, 200]), ("heun", 2, [40, 80, 160])])
def test_a_drawn_field_is_solved_at_the_order_of_the_method(method, order, steps):
    """Two fields of different variances at once, against the closed form of each."""
    v = torch.tensor([0.5, 3.0], dtype=torch.float64)[:, None, None]
    x = torch.randn(2, 7, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(9))
    exact = x * ((v + 0.1**2) / (v + 10.0**2)).sqrt()

    def error(n):
        times = karras_times(VE(), 10.0, 0.1, n)
        return float((quenched_sample(lambda y, t: -y / (v + t**2), VE(), x, times, method=method) - exact).norm())

    assert abs(measured_order(error, steps).order - order) < 0.1


def test_every_field_moves_its_own_points_however_many_are_followed_at_once():
    fields = Shifted().draw(4, generator=torch.Generator().manual_seed(10))
    x = torch.randn(4, 9, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(11))
    times = uniform_times(5.0, 0.0, 20)  # Euler asks for no score at sigma = 0
    whole = quenched_sample(fields, VE(), x, times)
    assert torch.equal(whole, quenched_sample(fields, VE(), x, times, trajectories=2))
    alone = quenched_sample(lambda y, t: fields(y.expand(4, -1, -1), t)[2:3], VE(), x[2:3], times)
    assert torch.equal(whole[2:3], alone)


def test_a_constant_shift_of_the_score_displaces_all_ends_by_the_closed_form():
    """The deviation of one field is one number for all of its points: a white noise would average it away."""
    kernel, times = Shifted(), karras_times(VE(), 10.0, 0.1, 400)
    fields = kernel.draw(6, generator=torch.Generator().manual_seed(12))
    x = torch.randn(1, 5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(13)).expand(6, -1, -1)
    moved = quenched_sample(fields, VE(), x, times, method="heun")
    still = quenched_sample(kernel.score, VE(), x, times, method="heun")
    shift = fields(torch.zeros(6, 1, 2, dtype=torch.float64), 1.0)
    assert torch.allclose(moved - still, (kernel.response(10.0, 0.1) * shift).expand_as(x), rtol=1e-3, atol=0)


def test_the_quenched_covariance_is_that_of_the_steps_and_converges_to_the_double_integral():
    """Linear in the field: the ends' deviation is a constant times the shift, to rounding; order 1 to the integral."""
    kernel, x = Shifted(), PLANE[:1]

    def covariance(n):
        return semiclassical_quenched(kernel, x, karras_times(VE(), 10.0, 0.1, n)).covariance[0]

    times = karras_times(VE(), 10.0, 0.1, 30)
    fields = kernel.draw(1, generator=torch.Generator().manual_seed(14))
    moved, still = (quenched_sample(f, VE(), x[None], times) for f in (fields, kernel.score))
    shift = fields(torch.zeros(1, 1, 2, dtype=torch.float64), 1.0)
    ratio = ((moved - still) / shift)[0, 0]
    found = semiclassical_quenched(kernel, x, times)
    assert torch.allclose(
        found.covariance[0], (kernel.strength * ratio[0]) ** 2 * torch.eye(2).double(), rtol=1e-10, atol=0
    )
    assert torch.allclose(found.mean, still[0], rtol=1e-12, atol=0)
    exact = (kernel.strength * kernel.response(10.0, 0.1)) ** 2
    order = measured_order(lambda n: abs(float(covariance(n)[0, 0]) - exact), [20, 40, 80])
    assert abs(order.order - 1) < 0.1


def test_fields_with_parameters_are_followed_without_a_graph():
    """Trained networks as fields: the memory does not grow with the steps."""
    weight = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    x = torch.ones(1, 2, 1, dtype=torch.float64)
    end = quenched_sample(lambda y, t: -weight * y / (1 + t**2), VE(), x, karras_times(VE(), 2.0, 1.0, 3))
    assert not end.requires_grad
    assert bool((end != x).all())


# semiclassics


def test_the_white_covariance_converges_at_order_one_to_its_integral():
    """Gaussian data: Var at the end from one start is (v + e^2) kappa v (a(T) - a(e)), without v + e^2."""
    v, kappa = 1.0, 0.5
    exact = gaussian_variance(v, kappa, 10.0, 0.1) - (v + 0.1**2)

    def error(n):
        times = karras_times(VE(), 10.0, 0.1, n)
        return abs(float(semiclassical_white(naive(v, kappa), torch.ones(1, 1).double(), times).covariance) - exact)

    assert abs(measured_order(error, [40, 80, 160]).order - 1) < 0.05


@pytest.mark.parametrize("schedule", [VE(), VP()])
def test_the_propagator_is_the_derivative_of_the_end(schedule):
    """A nonlinear score in the plane, with and without a drift of its own: central differences of Euler's end, 1e-7."""
    kernel, times = Naive(PLANE, schedule, 0.3), uniform_times(0.9, 0.3, 20)
    x = torch.tensor([[0.2, 1.0], [-2.0, 0.5]], dtype=torch.float64)
    found = semiclassical_white(kernel, x, times)
    field = lambda y, t: kernel.score(y[0], t)[None]  # noqa: E731
    for i in range(2):
        step = torch.zeros(2, dtype=torch.float64)
        step[i] = 1e-5
        ahead, behind = (quenched_sample(field, schedule, (x + s * step)[None], times)[0] for s in (1, -1))
        assert torch.allclose((ahead - behind) / 2e-5, found.propagator[:, :, i], rtol=1e-6, atol=1e-7)
    assert torch.allclose(found.mean, quenched_sample(field, schedule, x[None], times)[0], rtol=1e-12, atol=0)


def test_samples_of_weak_noise_have_the_semiclassical_covariance():
    """Three points in the plane, kappa = 1e-3: 5,000 runs from one start, within 4.5 standard errors."""
    kernel, times = Naive(PLANE, VE(), 1e-3), karras_times(VE(), 5.0, 0.7, 40)
    start, n = torch.tensor([[0.2, 1.0]], dtype=torch.float64), 5_000
    exact = semiclassical_white(kernel, start, times)
    off = effective_white_sample(kernel, start.expand(n, -1), times, generator=torch.Generator().manual_seed(15))
    off = off - exact.mean
    products = off[:, :, None] * off[:, None, :]
    assert bool(((products.mean(0) - exact.covariance[0]).abs() < 4.5 * products.std(0) / math.sqrt(n)).all())


# what is refused


def test_white_and_quenched_kernels_are_not_exchanged():
    white, quenched, generator = naive(), Shifted(), torch.Generator().manual_seed(0)
    assert isinstance(white, White)
    assert isinstance(quenched, Quenched)
    x, times = torch.zeros(1, 1, dtype=torch.float64), karras_times(VE(), 2.0, 1.0, 2)
    with pytest.raises(InputError, match=r"kernel: expected white noise .* got the quenched kernel Shifted"):
        effective_white_sample(quenched, x, times, generator=generator)
    with pytest.raises(InputError, match=r"fields: expected drawn score fields.* got the white kernel Naive"):
        quenched_sample(white, VE(), x[None], times)
    with pytest.raises(InputError, match=r"fields: expected drawn score fields.* got the quenched kernel Shifted"):
        quenched_sample(quenched, VE(), x[None], times)
    with pytest.raises(InputError, match=r"kernel: expected white noise .* got the quenched kernel"):
        semiclassical_white(quenched, x, times)
    with pytest.raises(InputError, match=r"kernel: expected a quenched field .* got the white kernel"):
        semiclassical_quenched(white, x, times)


def test_times_points_and_fields_that_cannot_be_right_are_refused():
    generator, x = torch.Generator().manual_seed(0), torch.zeros(1, 1, dtype=torch.float64)
    times = karras_times(VE(), 2.0, 1.0, 2)

    def still(y, t):
        return y * float(t) * 0

    def run(x=x, times=times, **options):
        return effective_white_sample(naive(), x, times, generator=generator, **options)

    for bad in (times.flip(0), times[:1], times[:0], torch.tensor([2.0, math.nan]), torch.tensor([2.0, 2.0])):
        with pytest.raises(InputError, match="times: expected at least two finite times that decrease"):
            run(times=bad)
    with pytest.raises(InputError, match="times: expected sigma > 0 and a finite drift at every step, got t = 0"):
        run(times=torch.tensor([1.0, 0.0, -1.0]))
    with pytest.raises(InputError, match="got t = 1"):  # alpha = 0: the drift is infinite
        quenched_sample(still, RectifiedFlow(), x[None], torch.tensor([1.0, 0.5]))
    with pytest.raises(InputError, match="got t = 0"):  # Heun asks at the end
        quenched_sample(still, VE(), x[None], torch.tensor([1.0, 0.0]), method="heun")
    for bad in (x[:0], torch.full((1, 1), math.nan), torch.zeros(1, 1, dtype=torch.int64).double() / 0):
        with pytest.raises(InputError, match="x: expected finite points"):
            run(x=bad)
    with pytest.raises(InputError, match="trajectories: expected at least 1, got 0"):
        run(trajectories=0)
    with pytest.raises(InputError, match="fields: expected scores of shape"):
        quenched_sample(lambda y, _: y[:, :, :0], VE(), x[None], times)
    with pytest.raises(InputError, match="fields: expected finite scores"):
        quenched_sample(lambda y, _: y * math.nan, VE(), x[None], times)
    with pytest.raises((InputError, TypeCheckError), match="method"):
        quenched_sample(still, VE(), x[None], times, method="euler2")  # pyright: ignore[reportArgumentType]
    for kappa in (-1.0, math.nan, math.inf):
        with pytest.raises(InputError, match="kappa: expected a finite number >= 0"):
            naive(kappa=kappa)
    with pytest.raises(InputError, match="data: expected points as vectors"):
        Naive(torch.zeros(3, 2, 2), VE())
    for v, kappa, start, end in ((0.0, 1.0, 1.0, 0.0), (1.0, -1.0, 1.0, 0.0), (1.0, 1.0, 0.0, 1.0)):
        with pytest.raises(InputError, match="expected v > 0, kappa >= 0"):
            gaussian_variance(v, kappa, start, end)


def test_steps_without_diffusion_are_steps_and_those_of_negative_diffusion_are_refused(monkeypatch):
    """g^2 may vanish: the flow is then that of the drift alone."""
    times = torch.tensor([2.0, 1.0, 0.5], dtype=torch.float64)
    for square, refused in ((0.0, False), (-1e-300, True)):
        monkeypatch.setattr(VE, "g_squared", lambda _, t, square=square: torch.full_like(t, square))
        if refused:
            with pytest.raises(InputError, match="got t = 2"):
                Steps.of(VE(), times)
        else:
            assert Steps.of(VE(), times).D.tolist() == [0.0, 0.0, 0.0]
