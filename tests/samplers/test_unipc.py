"""UniPC: its published equations transcribed independently, its order measured."""

import math
from typing import Literal

import numpy as np
import pytest
import torch
from conftest import measured_order
from exact_flows import ExactDiffusion, gaussian_in_the_plane, mixture_on_the_line, unequal_gaussian
from torch import Tensor

from diffuscope.denoisers import Batch, BatchTime, Denoiser, ExactDenoiser
from diffuscope.errors import InputError
from diffuscope.exact import Gaussian
from diffuscope.samplers import DPMSolverPP2M, Evaluation, instants, sample
from diffuscope.samplers.unipc import UniPC
from diffuscope.schedules import VE, VP, RectifiedFlow, Schedule
from diffuscope.times import karras_times, log_snr_times, uniform_times

Variant = Literal["bh1", "bh2"]
VARIANTS: tuple[Variant, ...] = ("bh1", "bh2")
every_variant = pytest.mark.parametrize("variant", ["bh1", "bh2"])


def published(
    denoiser: Denoiser, x: Tensor, times: Tensor, p: int, variant: str, schedule: Schedule
) -> tuple[Tensor, list[int]]:
    """Algorithms 5-8 of the paper (data prediction), with the matrix solve; also the predictor order of each step.

    The order climbs to p; the last state is not corrected.
    """
    lam, alpha, sigma = schedule.lam(times), schedule.alpha(times), schedule.sigma(times)
    outputs = [denoiser(x, times[0])]
    orders = []
    for i in range(1, len(times)):
        order = min(p, i)
        orders.append(order)
        h = float(lam[i] - lam[i - 1])
        H = -h
        B = H if variant == "bh1" else math.expm1(H)
        r = [float((lam[i - 1 - j] - lam[i - 1]) / h) for j in range(1, order)] + [1.0]
        differences = [(outputs[-1 - j] - outputs[-1]) / r[j - 1] for j in range(1, order)]
        q = math.expm1(H) / H - 1
        b = []
        for k in range(1, order + 1):
            b.append(q * math.factorial(k) / B)
            q = q / H - 1 / math.factorial(k + 1)
        R = np.array([[r_j**k for r_j in r] for k in range(order)])
        base = sigma[i] / sigma[i - 1] * x - alpha[i] * math.expm1(H) * outputs[-1]
        if order == 1:
            rho = np.zeros(0)
        elif order == 2:
            rho = np.array([0.5])
        else:
            rho = np.linalg.solve(R[:-1, :-1], np.array(b[:-1]))
        rho_c = np.array([0.5]) if order == 1 else np.linalg.solve(R, np.array(b))
        predicted = base - alpha[i] * B * sum(float(w) * D for w, D in zip(rho, differences, strict=True))
        if i == len(times) - 1:
            return predicted, orders
        new = denoiser(predicted, times[i])
        corrected = sum(float(w) * D for w, D in zip(rho_c[:-1], differences, strict=True))
        x = base - alpha[i] * B * (corrected + float(rho_c[-1]) * (new - outputs[-1]))
        outputs.append(new)
    raise AssertionError("a grid has at least two times")


@every_variant
@pytest.mark.parametrize("p", [1, 2, 3])
@pytest.mark.parametrize("schedule", [VE(), VP(), RectifiedFlow()], ids=["VE", "VP", "rectified flow"])
def test_every_step_is_the_published_one(p: int, variant: Variant, schedule: Schedule):
    """On an uneven grid, from a cold start, the corrector at every state but the last."""
    denoiser = ExactDenoiser(mixture_on_the_line().distribution, schedule)
    times = karras_times(schedule, float(schedule.time_of_noise_to_signal(8.0)), 0.02, 11)
    generator = torch.Generator().manual_seed(0)
    x = float(schedule.sigma(times[0])) * torch.randn(8, 1, dtype=torch.float64, generator=generator)
    expected, orders = published(denoiser, x, times, p, variant, schedule)
    assert max(orders) == p
    sampler = UniPC(p, variant, accurate_start=False)
    assert torch.allclose(sample(sampler, denoiser, x, times), expected, rtol=1e-12, atol=1e-12)


def test_the_accurate_start_changes_order_three_predictors_only():
    diffusion = gaussian_in_the_plane()
    denoiser = ExactDenoiser(diffusion.distribution, VE())
    x, times = diffusion.start(VE(), 3.0), log_snr_times(VE(), 3.0, 0.05, 7)
    for p, same in ((1, True), (2, True), (3, False)):
        plain, accurate = (sample(UniPC(p, accurate_start=a), denoiser, x, times) for a in (False, True))
        assert torch.equal(plain, accurate) == same


GAUSSIAN = (gaussian_in_the_plane(), VE(), 3.0, 0.05)
MIXTURE = (mixture_on_the_line(), RectifiedFlow(), 0.75, 0.05)
STEPS = [32, 101]
FINE = [90, 180]  # two terms of bh1's error cancel on coarse grids


@pytest.mark.parametrize(
    ("problem", "sampler", "steps"),
    [(GAUSSIAN, UniPC(p, v), FINE if p == 3 else STEPS) for p in (1, 2, 3) for v in VARIANTS]
    + [(MIXTURE, UniPC(p), STEPS) for p in (1, 2, 3)],
    ids=lambda value: str(value) if isinstance(value, UniPC) else "",
)
def test_a_predictor_of_order_p_corrected_for_nothing_has_order_p_plus_one(
    problem: tuple[ExactDiffusion, Schedule, float, float], sampler: UniPC, steps: list[int]
):
    diffusion, schedule, start, end = problem
    exact = diffusion.exact_end(schedule, start, end)

    def error(n: int) -> float:
        return diffusion.endpoint_error(sampler, schedule, log_snr_times(schedule, start, end, n), exact)

    assert sampler.order == sampler.predictor_order + 1
    assert abs(measured_order(error, steps).order - sampler.order) < 0.15


def test_the_published_start_keeps_an_order_three_predictor_at_order_three():
    diffusion = gaussian_in_the_plane()
    sampler = UniPC(3, "bh2", accurate_start=False)
    assert sampler.order == 3
    exact = diffusion.exact_end(VE(), 3.0, 0.05)

    def error(steps: int) -> float:
        return diffusion.endpoint_error(sampler, VE(), log_snr_times(VE(), 3.0, 0.05, steps), exact)

    assert abs(measured_order(error, FINE).order - 3) < 0.15


def test_first_two_predictions_with_bh2_are_2m():
    """UniP-1 is DDIM, UniP-2 with bh2 is DPM-Solver++ 2M: seen with a history, so that nothing is corrected."""
    diffusion = gaussian_in_the_plane()
    denoiser = ExactDenoiser(diffusion.distribution, VE())
    before, *_ = instants(VE(), torch.tensor([4.0], dtype=torch.float64))
    x_start = diffusion.start(VE(), 3.0)
    x_before = diffusion.flow(x_start, VE(), 3.0, 4.0)
    history = (Evaluation(before, x_before, denoiser(x_before, 4.0)),)
    times = torch.tensor([3.0, 2.5], dtype=torch.float64)
    ours = sample(UniPC(2, "bh2"), denoiser, x_start, times, history=history)
    assert torch.allclose(ours, sample(DPMSolverPP2M(), denoiser, x_start, times, history=history), rtol=1e-14, atol=0)


class Counted:
    """A denoiser that counts its calls."""

    def __init__(self, inner: Denoiser) -> None:
        self.inner, self.schedule, self.calls = inner, inner.schedule, 0

    def __call__(self, x_t: Batch, t: BatchTime) -> Batch:
        self.calls += 1
        return self.inner(x_t, t)


@pytest.mark.parametrize(("p", "accurate", "extra"), [(1, True, 0), (2, True, 0), (3, True, 1), (3, False, 0)])
def test_cost_is_one_evaluation_per_step_and_one_more_for_the_accurate_start(p: int, accurate: bool, extra: int):
    diffusion = gaussian_in_the_plane()
    denoiser = Counted(ExactDenoiser(diffusion.distribution, VE()))
    times = log_snr_times(VE(), 3.0, 0.05, 9)
    x_start = diffusion.start(VE(), 3.0)
    sample(UniPC(p, accurate_start=accurate), denoiser, x_start, times)
    assert denoiser.calls == 9 + extra


def test_a_warm_start_costs_one_evaluation_per_step_and_keeps_order_four():
    diffusion = gaussian_in_the_plane()
    denoiser = Counted(ExactDenoiser(diffusion.distribution, VE()))
    x_start, exact = diffusion.start(VE(), 3.0), diffusion.exact_end(VE(), 3.0, 0.05)

    def error(steps: int) -> float:
        times = log_snr_times(VE(), 3.0, 0.05, steps)
        ratio = float(times[0] / times[1])
        before = instants(VE(), torch.tensor([3.0 * ratio**2, 3.0 * ratio], dtype=torch.float64))
        states = [diffusion.flow(x_start, VE(), 3.0, at.t) for at in before]
        history = tuple(Evaluation(at, x, denoiser(x, at.t)) for at, x in zip(before, states, strict=True))
        denoiser.calls = 0
        ended = sample(UniPC(3), denoiser, x_start, times, history=history)
        assert denoiser.calls == steps
        return float((ended - exact).square().mean().sqrt())

    assert measured_order(error, FINE).order > 3.85


@every_variant
@pytest.mark.parametrize("p", [1, 2, 3])
def test_a_single_data_point_is_exact_on_any_grid_to_clean_data(p: int, variant: Variant):
    point = torch.tensor([0.7, -1.9], dtype=torch.float64)
    denoiser = ExactDenoiser(Gaussian.isotropic(point, 0.0), RectifiedFlow())
    noise = torch.randn(4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for times in (uniform_times(1.0, 0.0, 7), torch.tensor([1.0, 0.05], dtype=torch.float64)):
        ended = sample(UniPC(p, variant), denoiser, noise, times)
        s = float(times[-1])
        assert torch.allclose(ended, (1 - s) * point + s * noise, rtol=1e-12, atol=1e-13)


def test_float32_states_stay_float32_and_bad_settings_raise():
    denoiser = ExactDenoiser(unequal_gaussian(), VP())
    x_start = torch.randn(4, 2, generator=torch.Generator().manual_seed(0))
    assert sample(UniPC(), denoiser, x_start, log_snr_times(VP(), 0.9, 0.01, 6)).dtype == torch.float32
    with pytest.raises(InputError, match="predictor_order"):
        UniPC(4)
