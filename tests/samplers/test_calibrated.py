"""A calibrated sampler: exact on Gaussian data, its stated error right, never worse than its fallback."""

import math
from dataclasses import replace

import pytest
import torch
from conftest import tensors_of
from exact_flows import Discrete, gaussian_in_the_plane, mixture_on_the_line, noise, quantile_map, unequal_gaussian

from diffuscope.denoisers import ExactDenoiser, Rescheduled
from diffuscope.errors import InputError
from diffuscope.exact import Gaussian, GaussianMixture
from diffuscope.samplers import Calibrated, Sampler, State, calibrate, instants, sample
from diffuscope.samplers.calibrated import PLAIN
from diffuscope.samplers.eigenbasis import Eigenbasis
from diffuscope.samplers.schedule_values import instant
from diffuscope.schedules import VE, VP, DiscreteVP, RectifiedFlow

LINE = mixture_on_the_line()
NFE = 6


class Counting:
    """A denoiser that counts its calls and their rows."""

    def __init__(self, denoiser):
        self.denoiser, self.schedule, self.calls, self.rows = denoiser, denoiser.schedule, 0, 0

    def __call__(self, x_t, t):
        self.calls += 1
        self.rows += len(x_t)
        return self.denoiser(x_t, t)


def line_gaussian():
    assert isinstance(LINE.distribution, GaussianMixture)
    return LINE.distribution.as_gaussian()


def exact_ends(schedule, x_start):
    """D at the end of the exact trajectory."""
    assert isinstance(LINE.distribution, GaussianMixture)
    x_end = quantile_map(LINE.distribution, x_start, schedule, schedule.t_max, schedule.t_min)
    return ExactDenoiser(LINE.distribution, schedule)(x_end, schedule.t_min)


@pytest.fixture(scope="module")
def calibrated():
    schedule = VE()
    return calibrate(
        ExactDenoiser(LINE.distribution, schedule), line_gaussian(), NFE, starts=noise(schedule, 128), rounds=2
    )


@pytest.mark.parametrize("schedule", [VE(), VP(), RectifiedFlow()], ids=lambda schedule: type(schedule).__name__)
def test_gaussian_data_are_exact_for_any_nfe(schedule):
    gaussian = gaussian_in_the_plane().distribution
    assert isinstance(gaussian, Gaussian)
    denoiser, x_start = ExactDenoiser(gaussian, schedule), noise(schedule, 16, event=(2,))
    found = calibrate(denoiser, gaussian, 3, starts=x_start, reference_steps=20, rounds=1)
    exact = gaussian.flow_denoised(x_start, schedule, schedule.t_max, schedule.t_min)
    torch.testing.assert_close(found.sample(denoiser, x_start), exact, rtol=0, atol=1e-9)


def test_the_error_it_states_is_the_distance_to_the_exact_flow(calibrated):
    """The stated error is over every second start, against its own reference, whose error it states too."""
    schedule = VE()
    x_start = noise(schedule, 128)[1::2]
    ended = calibrated.sample(ExactDenoiser(LINE.distribution, schedule), x_start)
    error = float((ended - exact_ends(schedule, x_start)).abs().mean())
    assert abs(error - calibrated.error) <= calibrated.reference_error < calibrated.error


def test_on_fresh_starts_it_is_twice_as_accurate_as_every_plain_solver(calibrated):
    """The plain solvers have the grids that suited them best in validation."""
    schedule = VE()
    denoiser, x_start = ExactDenoiser(LINE.distribution, schedule), noise(schedule, 400, seed=1)
    error = float((calibrated.sample(denoiser, x_start) - exact_ends(schedule, x_start)).abs().mean())
    assert set(calibrated.plain_errors) == set(PLAIN)
    assert 2 * error < min(calibrated.plain_errors.values())


@pytest.mark.parametrize("nfe", [2, 4])
def test_in_validation_it_is_never_worse_than_its_fallback(nfe):
    schedule = VE(sigma_min=0.05, sigma_max=20.0)
    denoiser = ExactDenoiser(LINE.distribution, schedule)
    for rounds in (0, 1):
        found = calibrate(denoiser, line_gaussian(), nfe, starts=noise(schedule, 16), reference_steps=20, rounds=rounds)
        assert found.error <= min(found.plain_errors.values())
        assert found.gain >= 1


def test_a_plain_solver_that_wins_makes_the_steps():
    """Forced by a Gaussian far from the data, which does not help the fit."""
    schedule = VE()
    denoiser = ExactDenoiser(LINE.distribution, schedule)
    times = torch.tensor([80.0, 5.0, 1.0, 0.1, 0.0], dtype=torch.float64)
    levels = tuple((-times[:-1].log()).tolist())
    found = calibrate(denoiser, line_gaussian(), 4, starts=noise(schedule, 16), reference_steps=20, rounds=0)
    for name, solver in PLAIN.items():
        fallback = replace(found, plain=name, levels=levels, jumps=False)
        x_start = noise(schedule, 5)
        torch.testing.assert_close(
            fallback.sample(denoiser, x_start), sample(solver, denoiser, x_start, times), rtol=0, atol=1e-12
        )


def test_its_calls_are_its_nfe(calibrated):
    counting = Counting(ExactDenoiser(LINE.distribution, VE()))
    calibrated.sample(counting, noise(VE(), 4))
    assert counting.calls == NFE == calibrated.nfe
    assert isinstance(calibrated, Sampler)


def test_the_cost_of_the_calibration_is_counted():
    schedule = VE()
    x_start = noise(schedule, 16)
    counted = Counting(ExactDenoiser(LINE.distribution, schedule))
    found = calibrate(counted, line_gaussian(), 4, starts=x_start, reference_steps=20, rounds=1)
    assert found.evaluations == counted.rows


def test_levels_are_log_snr_so_that_another_schedule_ends_in_the_same_place(calibrated):
    ve, flow = VE(), RectifiedFlow()
    denoiser = ExactDenoiser(LINE.distribution, ve)
    t = flow.time_of_noise_to_signal(80.0)
    x_start = noise(ve, 6)
    other = sample(
        calibrated,
        Rescheduled(denoiser, flow),
        flow.alpha(t) * x_start,
        calibrated.times(Rescheduled(denoiser, flow)),
    )
    torch.testing.assert_close(other, calibrated.sample(denoiser, x_start), rtol=0, atol=1e-10)


@pytest.mark.parametrize("read_as", ["a chain", "variance exploding"])
def test_a_discrete_time_model_is_evaluated_only_at_its_own_times(read_as):
    """The model raises at any other time, also through another schedule."""
    chain = DiscreteVP.linear(1e-3, 0.1, 200)
    denoiser, schedule = Discrete(LINE.distribution, chain), chain
    if read_as == "variance exploding":
        ends = chain.noise_to_signal(torch.tensor([1.0, 200.0], dtype=torch.float64)).tolist()
        schedule = VE(*ends)
        denoiser = Rescheduled(denoiser, schedule)
    x_start = noise(schedule, 32)
    found = calibrate(denoiser, line_gaussian(), 4, starts=x_start, reference_steps=40, rounds=1)
    assert torch.isfinite(found.sample(denoiser, x_start)).all()
    assert found.error < min(found.plain_errors.values())


def test_a_low_rank_gaussian_with_the_same_covariance_calibrates_alike():
    """Five coordinates, three of them alike: rank 2 and a tail is the same Gaussian as rank 5."""
    variances = torch.tensor([2.0, 0.7, 0.2, 0.2, 0.2], dtype=torch.float64)
    dense = Gaussian(torch.ones(5, dtype=torch.float64), torch.eye(5, dtype=torch.float64), variances)
    low = Gaussian(dense.mean, dense.eigenvectors[:, :2], variances[:2], tail_variance=0.2)
    model = ExactDenoiser(Gaussian.isotropic(dense.mean, 0.5), VE())  # not the Gaussian it leans on
    x_start = noise(VE(), 32, event=(5,))
    ends = [
        calibrate(model, gaussian, 4, starts=x_start, reference_steps=20, rounds=1).sample(model, x_start)
        for gaussian in (dense, low)
    ]
    torch.testing.assert_close(ends[0], ends[1], rtol=0, atol=1e-7)


def test_float32_states_end_where_float64_ones_do(calibrated):
    denoiser, x_start = ExactDenoiser(LINE.distribution, VE()), noise(VE(), 50)
    single = calibrated.sample(denoiser, x_start.float())
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), calibrated.sample(denoiser, x_start), rtol=0, atol=1e-3)


def test_calibrating_twice_gives_the_same_sampler():
    schedule = VE()
    denoiser, x_start = ExactDenoiser(LINE.distribution, schedule), noise(schedule, 16)
    one, two = (calibrate(denoiser, line_gaussian(), 2, starts=x_start, reference_steps=10) for _ in range(2))
    assert one.levels == two.levels
    assert torch.equal(one.weights, two.weights)


def test_a_saved_calibration_loads_unchanged(calibrated, tmp_path):
    calibrated.save(tmp_path / "line.npz")
    again = Calibrated.load(tmp_path / "line.npz")
    denoiser, x_start = ExactDenoiser(LINE.distribution, VE()), noise(VE(), 7)
    assert torch.equal(again.sample(denoiser, x_start), calibrated.sample(denoiser, x_start))
    for name in ("levels", "end", "jumps", "plain", "error", "plain_errors", "reference_error", "evaluations"):
        assert getattr(again, name) == getattr(calibrated, name)


def test_a_file_that_is_not_a_calibration_raises(tmp_path):
    (tmp_path / "noise.npz").write_bytes(b"not a file of arrays")
    for name in ("noise.npz", "absent.npz"):
        with pytest.raises(InputError, match=name):
            Calibrated.load(tmp_path / name)


def test_a_step_from_one_level_goes_to_the_next_and_nowhere_else(calibrated):
    denoiser, x = ExactDenoiser(LINE.distribution, VE()), noise(VE(), 2)
    levels = instants(VE(), calibrated.times(denoiser))
    assert len(levels) >= 4
    for i, t in enumerate(levels[:-1]):
        calibrated.step(denoiser, State(t, x), levels[i + 1])
        for j, s in enumerate(levels):
            if j != i + 1:
                with pytest.raises(InputError, match="its own"):
                    calibrated.step(denoiser, State(t, x), s)


def test_calibrating_a_trainable_model_leaves_no_graph():
    class Learning:
        schedule, weight = VE(), torch.ones((), dtype=torch.float64, requires_grad=True)

        def __call__(self, x_t, t):
            return self.weight * ExactDenoiser(LINE.distribution, VE())(x_t, t)

    starts = noise(VE(), 8).requires_grad_()
    found = calibrate(Learning(), line_gaussian(), 2, starts=starts, reference_steps=4, rounds=0)
    assert not any(tensor.requires_grad for tensor in tensors_of(found))


def test_other_times_raise(calibrated):
    times = torch.tensor([80.0, 1.0, 0.0], dtype=torch.float64)
    with pytest.raises(InputError, match="its own"):
        sample(calibrated, ExactDenoiser(LINE.distribution, VE()), noise(VE(), 2), times)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"nfe": 1}, "nfe: expected at least 2"),
        ({"starts": torch.zeros(4, 1, dtype=torch.float64)}, "starts: expected \\(8 or more"),
        ({"starts": torch.zeros(9, 2, dtype=torch.float64)}, "starts: expected"),
        ({"starts": torch.full((9, 1), math.nan, dtype=torch.float64)}, "starts: expected finite"),
        ({"reference_steps": 7}, "reference_steps: expected at least 2 nfe = 8"),
        ({"rounds": -1}, "rounds: expected 0 or more"),
    ],
)
def test_bad_arguments_are_named(change, message):
    arguments = {"nfe": 4, "starts": noise(VE(), 16), "reference_steps": 20} | change
    nfe = arguments.pop("nfe")
    with pytest.raises(InputError, match=message):
        calibrate(ExactDenoiser(LINE.distribution, VE()), line_gaussian(), nfe, **arguments)


def test_a_denoiser_that_returns_nan_is_named():
    class Broken:
        schedule = VE()

        def __call__(self, x_t, t):
            return x_t * (math.nan * t)

    with pytest.raises(InputError, match="denoiser: expected finite"):
        calibrate(Broken(), line_gaussian(), 3, starts=noise(VE(), 8), reference_steps=20)


@pytest.mark.parametrize("schedule", [VE(), VP(), RectifiedFlow()], ids=lambda schedule: type(schedule).__name__)
def test_the_gaussian_flow_keeps_the_whitened_coordinates(schedule):
    gaussian = unequal_gaussian()
    basis, x_start = Eigenbasis.of(gaussian), noise(schedule, 5, event=(2,))
    t, s = instant(schedule, schedule.t_max), instant(schedule, 0.3)
    x_s = gaussian.flow(x_start, schedule, t.t, s.t)
    whitened = [
        basis.coordinates(x - at.alpha * gaussian.mean) / basis.spread(at) for x, at in ((x_start, t), (x_s, s))
    ]
    torch.testing.assert_close(whitened[0], whitened[1], rtol=0, atol=1e-12)
    denoised = basis.mean + basis.rows(basis.gain(s) * whitened[1])
    torch.testing.assert_close(denoised, gaussian.denoise(x_s, s.alpha, s.sigma), rtol=0, atol=1e-12)


def test_the_kernel_is_the_integral_of_a_constant_residual():
    """kappa against Gauss-Legendre quadrature, for eigenvalues down to zero, from alpha = 0 on."""
    gaussian = Gaussian(
        torch.zeros(3, dtype=torch.float64), torch.eye(3, dtype=torch.float64), torch.tensor([4.0, 0.1, 0.0])
    )
    flow = RectifiedFlow()
    a, b = instant(flow, 1.0), instant(flow, 0.4)
    nodes = torch.linspace(0, b.alpha / b.sigma, 20_001, dtype=torch.float64)
    integral = torch.trapezoid(1 / (1 + gaussian.eigenvalues[:, None] * nodes**2).sqrt(), nodes)
    torch.testing.assert_close(Eigenbasis.of(gaussian).kernel(a, b), integral, rtol=1e-8, atol=0)
