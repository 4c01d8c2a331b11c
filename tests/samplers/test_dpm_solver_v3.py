"""DPM-Solver-v3 and its statistics: DPM-Solver++ as a special case, Gaussians exact, the order for any statistics."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import measured_order, tensors_of
from exact_flows import ExactDiffusion, gaussian_in_the_plane, mixture_on_the_line
from torch import Tensor

from diffuscope.denoisers import Batch, BatchTime, Denoiser, ExactDenoiser
from diffuscope.errors import InputError
from diffuscope.exact import Gaussian
from diffuscope.samplers import DDIM, DataAdamsBashforth, DPMSolverPP3M, Sampler, sample
from diffuscope.samplers.dpm_solver_v3 import DPMSolverV3
from diffuscope.samplers.model_statistics import ModelStatistics, estimate_statistics, plain_statistics
from diffuscope.schedules import VE, VP, RectifiedFlow, Schedule
from diffuscope.times import karras_times, log_snr_times

MEAN = torch.tensor([1.3, -0.4, 0.2], dtype=torch.float64)
VARIANCE = torch.tensor([2.25, 0.16, 1e-4], dtype=torch.float64)
DATA = Gaussian(MEAN, torch.eye(3, dtype=torch.float64), VARIANCE)


def closed_form(low: float, high: float, levels: int) -> ModelStatistics:
    """l = 1 / (1 + Var e^(2 lambda)), s = 0, b = -mu dl/dlambda for DATA, sigma/alpha from `high` down to `low`."""
    lams = torch.linspace(-np.log(high), -np.log(low), levels, dtype=torch.float64)
    signal = VARIANCE * (2 * lams[:, None]).exp()
    slope = -2 * signal / (1 + signal) ** 2
    return ModelStatistics(lams, 1 / (1 + signal), torch.zeros_like(signal), -MEAN * slope)


def any_statistics(low: float, high: float, event: int) -> ModelStatistics:
    """Smooth statistics of no model."""
    lams = torch.linspace(-np.log(high), -np.log(low), 160, dtype=torch.float64)
    rows = lams[:, None] + torch.arange(event, dtype=torch.float64)
    return ModelStatistics(lams, 0.6 + 0.3 * rows.sin(), 0.4 * rows.cos(), 0.2 * (0.7 * rows).sin())


@pytest.mark.parametrize("schedule", [VE(), VP(), RectifiedFlow()], ids=["VE", "VP", "rectified flow"])
@pytest.mark.parametrize(
    ("order", "plain"), [(1, DDIM()), (2, DataAdamsBashforth(2, power=0.0)), (3, DPMSolverPP3M())], ids=["1", "2", "3"]
)
def test_plain_statistics_are_dpm_solver_plus_plus(order: int, plain: Sampler, schedule: Schedule):
    diffusion = gaussian_in_the_plane()
    denoiser = ExactDenoiser(diffusion.distribution, schedule)
    start, end = (float(schedule.time_of_noise_to_signal(level)) for level in (30.0, 0.02))
    times = karras_times(schedule, start, end, 9)
    x_start = diffusion.start(schedule, start)
    statistics = plain_statistics(torch.linspace(-3.5, 4.0, 20, dtype=torch.float64), (2,))
    ended = sample(DPMSolverV3(statistics, order), denoiser, x_start, times)
    assert torch.allclose(ended, sample(plain, denoiser, x_start, times), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_closed_form_statistics_solve_a_diagonal_gaussian_in_three_steps(order: int):
    x_start = 80 * torch.randn(8, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    exact, times = DATA.flow(x_start, VE(), 80.0, 0.002), log_snr_times(VE(), 80.0, 0.002, 3)
    sampler = DPMSolverV3(closed_form(0.002, 80.0, 1200), order)
    ended = sample(sampler, ExactDenoiser(DATA, VE()), x_start, times)
    assert float((ended - exact).abs().max()) < 1e-8
    assert (
        float((sample(DDIM(), ExactDenoiser(DATA, VE()), x_start, log_snr_times(VE(), 80.0, 0.002, 3)) - exact).norm())
        > 1
    )


def test_a_lower_start_uses_its_part_of_the_statistics_and_stretching_them_would_fail():
    """The published sampler stretches the statistics of [0.002, 80] over the range in use."""
    x_start = 10 * torch.randn(8, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    exact = DATA.flow(x_start, VE(), 10.0, 0.002)
    times = log_snr_times(VE(), 10.0, 0.002, 5)
    whole = closed_form(0.002, 80.0, 1200)
    stretched = ModelStatistics(closed_form(0.002, 10.0, 1200).lams, whole.l, whole.s, whole.b)

    def error(statistics: ModelStatistics) -> float:
        ended = sample(DPMSolverV3(statistics), ExactDenoiser(DATA, VE()), x_start, times)
        return float((ended - exact).abs().max())

    assert error(whole) < 1e-8
    assert error(closed_form(0.002, 10.0, 1200)) < 1e-8
    assert error(stretched) > 0.1


@pytest.mark.parametrize(
    ("diffusion", "schedule", "start", "end"),
    [(gaussian_in_the_plane(), VE(), 3.0, 0.05), (mixture_on_the_line(), RectifiedFlow(), 0.75, 0.05)],
    ids=["gaussian, VE", "mixture, rectified flow"],
)
@pytest.mark.parametrize("order", [1, 2, 3])
def test_the_order_holds_for_any_smooth_statistics(
    order: int, diffusion: ExactDiffusion, schedule: Schedule, start: float, end: float
):
    """The rewriting is exact, so wrong statistics cost a constant; a wrong formula would cost the order."""
    sampler = DPMSolverV3(any_statistics(0.04, 3.1, diffusion.distribution.event_shape[0]), order)
    exact = diffusion.exact_end(schedule, start, end)

    def error(steps: int) -> float:
        return diffusion.endpoint_error(sampler, schedule, log_snr_times(schedule, start, end, steps), exact)

    assert abs(measured_order(error, [24, 76, 240]).order - order) < 0.15


class Opaque:
    """The same denoiser, unknown to be exact: its Jacobian is probed."""

    def __init__(self, inner: Denoiser) -> None:
        self.inner, self.schedule = inner, inner.schedule

    def __call__(self, x_t: Batch, t: BatchTime) -> Batch:
        return self.inner(x_t, t)


def estimated(denoiser: Denoiser, rows: int = 256, probes: int = 1) -> ModelStatistics:
    generator = torch.Generator().manual_seed(0)
    lams = torch.linspace(-np.log(80), -np.log(0.002), 120, dtype=torch.float64)
    return estimate_statistics(
        denoiser, DATA.sample(rows, generator=generator), lams, generator=generator, probes=probes
    )


@pytest.mark.parametrize("schedule", [VE(), RectifiedFlow()], ids=["VE", "rectified flow"])
@pytest.mark.parametrize("exact", [True, False], ids=["posterior covariance", "probes"])
def test_estimated_statistics_of_a_gaussian_are_the_closed_form(exact: bool, schedule: Schedule):
    """Signs probe a diagonal Jacobian without variance; the differences err by STEP^2 = 1e-4."""
    denoiser = ExactDenoiser(DATA, schedule)
    found, true = estimated(denoiser if exact else Opaque(denoiser)), closed_form(0.002, 80.0, 120)
    assert torch.allclose(found.l, true.l, atol=1e-9)
    assert torch.allclose(found.b, true.b, atol=2e-3)
    assert bool((found.s == 0).all())


def test_estimated_statistics_make_a_gaussian_easy_and_probes_average_out_the_rest():
    """A correlated Gaussian: the Jacobian's diagonal is estimated with noise from off the diagonal."""
    diffusion = gaussian_in_the_plane()
    generator = torch.Generator().manual_seed(0)
    lams = torch.linspace(-np.log(10), -np.log(0.01), 40, dtype=torch.float64)
    x_0 = diffusion.distribution.sample(512, generator=generator)
    exact = ExactDenoiser(diffusion.distribution, VE())
    by_formula = estimate_statistics(exact, x_0, lams, generator=torch.Generator().manual_seed(1))
    probed = estimate_statistics(Opaque(exact), x_0, lams, generator=torch.Generator().manual_seed(1), probes=4)
    # v_1 v_2 J_12 averages to zero over 2048 independent signs: 4 standard errors of alpha J_12 < 1
    assert float((probed.l - by_formula.l).abs().max()) < 4 / 2048**0.5


def test_regression_finds_the_slope_it_is_defined_by():
    """On a mixture: E[(f' - s f - b)] = 0 and E[(f' - s f - b) f] = 0, with f' by an independent finer difference."""
    distribution = mixture_on_the_line().distribution
    denoiser = ExactDenoiser(distribution, VE())
    generator = torch.Generator().manual_seed(0)
    lams = torch.linspace(-1.0, 2.0, 31, dtype=torch.float64)
    x_0 = distribution.sample(2000, generator=generator)
    found = estimate_statistics(denoiser, x_0, lams, generator=generator)
    k = 15
    sigma = float((-lams[k]).exp())
    x_t = x_0 + sigma * torch.randn(x_0.shape, dtype=torch.float64, generator=generator)

    def f(x: Tensor, lam: float) -> Tensor:
        return (1 - torch.as_tensor(found.l_at(lam))) * x - denoiser(x, float(np.exp(-lam)))

    # the flow dx/dlambda = -(x - D), by two Runge-Kutta steps of 1e-3
    def moved(h: float) -> Tensor:
        k_1 = -(x_t - denoiser(x_t, sigma))
        middle = x_t + h / 2 * k_1
        return x_t - h * (middle - denoiser(middle, sigma * float(np.exp(-h / 2))))

    lam = float(lams[k])
    slope = (f(moved(1e-3), lam + 1e-3) - f(moved(-1e-3), lam - 1e-3)) / 2e-3
    rest = (slope - found.s[k] * f(x_t, lam) - found.b[k])[:, 0]
    for values in (rest, rest * f(x_t, lam)[:, 0]):
        assert abs(float(values.mean())) < 6 * float(values.std()) / len(values) ** 0.5


def test_estimated_statistics_of_a_mixture_lower_the_error():
    diffusion = mixture_on_the_line()
    denoiser = ExactDenoiser(diffusion.distribution, VE())
    generator = torch.Generator().manual_seed(0)
    x_0 = diffusion.distribution.sample(1000, generator=generator)
    lams = torch.linspace(-np.log(12), -np.log(0.01), 60, dtype=torch.float64)
    statistics = estimate_statistics(denoiser, x_0, lams, generator=generator)
    exact = diffusion.exact_end(VE(), 10.0, 0.02)
    times = log_snr_times(VE(), 10.0, 0.02, 12)
    v3 = diffusion.endpoint_error(DPMSolverV3(statistics), VE(), times, exact)
    assert v3 < diffusion.endpoint_error(DPMSolverPP3M(), VE(), times, exact)


def test_statistics_survive_a_file_and_other_files_raise(tmp_path: Path):
    statistics = closed_form(0.002, 80.0, 12)
    statistics.save(tmp_path / "statistics.npz")
    loaded = ModelStatistics.load(tmp_path / "statistics.npz")
    for name in ("lams", "l", "s", "b"):
        assert torch.equal(getattr(loaded, name), getattr(statistics, name))
    (tmp_path / "other.npz").write_bytes(b"nothing of the kind")
    np.savez(tmp_path / "pickled.npz", lams=np.array([{}], dtype=object))
    for name in ("other.npz", "pickled.npz", "missing.npz"):
        with pytest.raises(InputError, match="path: cannot read"):
            ModelStatistics.load(tmp_path / name)


def test_statistics_carry_no_graph():
    weight = torch.ones((), dtype=torch.float64, requires_grad=True)

    class Learning:
        schedule = VE()

        def __call__(self, x_t, t):
            return weight * DATA.denoise(x_t, VE().alpha(t), VE().sigma(t))

    x_0 = DATA.sample(6, generator=torch.Generator().manual_seed(0)).requires_grad_()
    lams = torch.linspace(-1.0, 1.0, 4, dtype=torch.float64)
    found = estimate_statistics(Learning(), x_0, lams, generator=torch.Generator().manual_seed(1))
    assert not any(tensor.requires_grad for tensor in tensors_of(found))
    given = ModelStatistics(*(tensor.clone().requires_grad_() for tensor in tensors_of(found)))
    assert not any(tensor.requires_grad for tensor in tensors_of(given))
    assert torch.equal(given.l, found.l)


def test_a_step_to_the_ends_of_the_statistics_is_taken_and_one_just_beyond_raises():
    statistics = closed_form(0.01, 10.0, 60)
    assert statistics.covers(-math.log(10.0))
    assert statistics.covers(-math.log(0.01))
    assert not statistics.covers(-math.log(10.0) - 1e-8)
    assert not statistics.covers(-math.log(0.01) + 1e-8)
    # a billionth beyond is the rounding of a schedule, and no more than that
    unit = plain_statistics(torch.linspace(0.0, 1.0, 4), (2,))
    assert unit.covers(-1e-9)
    assert unit.covers(1 + 1e-9)
    assert not unit.covers(-1.01e-9)
    assert not unit.covers(1 + 1.01e-9)
    with pytest.raises(InputError, match="at least four"):
        plain_statistics(torch.arange(3.0), (2,))
    assert plain_statistics(torch.arange(4.0), (2,)).event_shape == (2,)


def test_steps_outside_the_statistics_raise():
    x_start = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    sampler = DPMSolverV3(closed_form(0.002, 10.0, 60))
    with pytest.raises(InputError, match="cover lambda"):
        sample(sampler, ExactDenoiser(DATA, VE()), x_start, log_snr_times(VE(), 20.0, 0.01, 4))
    with pytest.raises(InputError, match="one row per level"):
        ModelStatistics(torch.arange(5.0), torch.ones(5, 2), torch.ones(4, 2), torch.ones(5, 2))
    with pytest.raises(InputError, match="increasing"):
        plain_statistics(torch.zeros(5), (2,))
