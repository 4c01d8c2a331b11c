"""Steps that are short and long by turns: what they are, and the mistake that only they bring to light."""

import itertools

import pytest
import torch

from diffuscope.certify import Target, mixture, questions, sampler_target, strong_order
from diffuscope.samplers import DDPM, DPMSolverPP2M
from diffuscope.schedules import VE, VP, RectifiedFlow

STEPS = (20, 32, 50, 80)


@pytest.mark.parametrize("schedule", [VE(), VP(), RectifiedFlow()], ids=lambda schedule: type(schedule).__name__)
@pytest.mark.parametrize("n", [1, 2, 7, 8])
def test_every_second_step_is_twice_as_long_in_log_snr_between_the_same_ends(schedule, n: int):
    even, uneven = mixture().times(schedule, n), mixture().in_uneven_steps().times(schedule, n)
    assert torch.equal(uneven[[0, -1]], even[[0, -1]])
    lengths = schedule.lam(uneven).diff()
    expected = torch.tensor([1.0, 2.0] * 4, dtype=torch.float64)[:n]
    assert torch.allclose(lengths / lengths[0], expected, rtol=1e-6, atol=0)


def extrapolates_as_on_equal_steps(denoiser, x, times, generator):  # noqa: ARG001
    """DPM-Solver++ 2M that takes h / h_p for 1."""
    schedule, previous = denoiser.schedule, None
    for t, s in itertools.pairwise(times):
        denoised = denoiser(x, t)
        middle = denoised if previous is None else denoised + (denoised - previous) / 2
        kept = schedule.sigma(s) / schedule.sigma(t)
        x, previous = kept * x + (schedule.alpha(s) - kept * schedule.alpha(t)) * middle, denoised
    return x


def test_a_ratio_of_steps_taken_for_one_keeps_its_order_on_equal_steps_and_loses_it_on_uneven_ones():
    target = Target("2M for equal steps", extrapolates_as_on_equal_steps, 2, False, 1, finest=80)
    assert strong_order(target, mixture(), VE(), STEPS).order.order == pytest.approx(2, abs=0.2)
    assert strong_order(target, mixture().in_uneven_steps(), VE(), STEPS).order.order == pytest.approx(1, abs=0.2)
    sound = strong_order(sampler_target(DPMSolverPP2M()), mixture().in_uneven_steps(), VE(), STEPS)
    assert sound.order.order == pytest.approx(2, abs=0.2)


def test_every_sampler_is_tested_on_uneven_steps():
    names = [question.name for question in questions(sampler_target(DPMSolverPP2M()))]
    assert "order.mixture-2.uneven" in names
    assert "weak_order.uneven" in [question.name for question in questions(sampler_target(DDPM()))]
