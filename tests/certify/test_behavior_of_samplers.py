"""Every check of the certifier fails a sampler with the fault, and passes one without it."""

from collections.abc import Callable

import pytest
import torch

from diffuscope.certify import Target, clean, mixture, sampler_target
from diffuscope.certify import behavior as ask
from diffuscope.errors import InputError
from diffuscope.samplers import DDIM, DDPM, Heun, sample
from diffuscope.schedules import VE, VP

PROBLEM = mixture(2)
Run = Callable[..., torch.Tensor]


def plain(denoiser, x, times, generator):  # noqa: ARG001
    return sample(DDIM(), denoiser, x, times)


def deterministic(run: Run, nfe: int | None = 1) -> Target:
    return Target("some sampler", run, 1, False, nfe)


def stochastic(run: Run) -> Target:
    return Target("some sampler", run, 1, True, 1)


QUESTIONS = (clean.single_point, clean.last_step, ask.precision, ask.batching, ask.randomness, ask.cost)


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.__name__)
@pytest.mark.parametrize("sampler", [DDIM(), Heun(), DDPM()], ids=lambda sampler: type(sampler).__name__)
@pytest.mark.parametrize("schedule", [VE(), VP()], ids=lambda schedule: type(schedule).__name__)
def test_sound_samplers_pass(question, sampler, schedule):
    finding = question(sampler_target(sampler), PROBLEM, schedule)
    assert finding.tone == "good", finding.verdict


def test_noise_left_in_the_finished_sample_misses_the_single_point():
    def run(denoiser, x, times, generator):
        ended = sample(DDPM(), denoiser, x, times, noise=generator)
        return ended + 0.01 * torch.randn(x.shape, dtype=x.dtype, generator=generator)

    finding = clean.single_point(stochastic(run), PROBLEM, VE())
    assert finding.tone == "alarm"
    assert "away from the only data point" in finding.verdict


def test_a_division_by_zero_at_the_last_step_is_detected():
    def run(denoiser, x, times, generator):  # noqa: ARG001
        return sample(DDIM(), denoiser, x, times) / denoiser.schedule.sigma(times[-1])

    assert "NaN or infinity" in clean.last_step(deterministic(run), PROBLEM, VE()).verdict


def test_a_last_step_that_skips_the_denoise_is_measured():
    def run(denoiser, x, times, generator):  # noqa: ARG001
        return sample(DDIM(), denoiser, x, times[:-1])

    finding = clean.last_step(deterministic(run), PROBLEM, VE())
    assert finding.value > 0.01
    assert "from a plain denoise" in finding.verdict


def test_a_lost_dtype_is_detected():
    def run(denoiser, x, times, generator):
        return plain(denoiser, x, times, generator).double()

    assert ask.precision(deterministic(run), PROBLEM, VE()).tone == "alarm"


def test_single_precision_inside_is_detected():
    def run(denoiser, x, times, generator):
        coarse = plain(denoiser, (x.float() * 1000).round() / 1000, times, generator)
        return coarse.to(x.dtype) if x.dtype == torch.float32 else plain(denoiser, x, times, generator)

    assert ask.precision(deterministic(run), PROBLEM, VE()).tone == "alarm"


def test_rows_that_depend_on_each_other_are_detected():
    def run(denoiser, x, times, generator):
        return plain(denoiser, x + 1e-3 * x.mean(0), times, generator)

    finding = ask.batching(deterministic(run), PROBLEM, VE())
    assert finding.tone == "alarm"
    assert "when others join it" in finding.verdict


def one_call(denoiser, x, times, generator):  # noqa: ARG001
    """A sampler that costs one evaluation: the answer at the start, denoised once more by a step to clean data."""
    denoised = denoiser(x, times[0])
    return denoised if times[-1] > 0 else denoiser(denoised, times[-2])


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(
    ("question", "wrong"),
    [
        (ask.batching, lambda x, times: len(x) > 1),  # noqa: ARG005
        (ask.precision, lambda x, times: x.dtype == torch.float32),  # noqa: ARG005
        (clean.single_point, lambda x, times: True),  # noqa: ARG005
    ],
    ids=["batching", "precision", "single_point"],
)
def test_a_fault_of_one_is_measured_as_one_whichever_its_sign(question, wrong, sign: int):
    def run(denoiser, x, times, generator):
        return one_call(denoiser, x, times, generator) + sign * int(wrong(x, times))

    finding = question(deterministic(run), PROBLEM, VE())
    size = finding.value * (PROBLEM.scale if finding.unit == "data scale" else 1)
    assert size == pytest.approx(1, abs=1e-4)  # float32 rounds to 1e-5
    assert finding.tone == "alarm"


@pytest.mark.parametrize(("leak", "tone"), [(0.9e-9, "good"), (1.1e-9, "alarm")])
def test_rows_may_differ_by_a_billionth_and_no_more(leak: float, tone: str):
    def run(denoiser, x, times, generator):
        return one_call(denoiser, x, times, generator) + leak * PROBLEM.scale * (len(x) > 1)

    assert ask.batching(deterministic(run), PROBLEM, VE()).tone == tone


def test_use_of_the_global_generator_is_detected():
    def run(denoiser, x, times, generator):  # noqa: ARG001
        return plain(denoiser, x, times, None) + 0 * torch.randn(x.shape, dtype=x.dtype)

    finding = ask.randomness(stochastic(run), PROBLEM, VE())
    assert "global generator of torch is drawn from" in finding.verdict
    assert "nother seed changes nothing" in finding.verdict


def test_a_hidden_state_between_runs_is_detected():
    calls: list[int] = []

    def run(denoiser, x, times, generator):
        calls.append(1)
        return plain(denoiser, x, times, generator) + 1e-3 * len(calls)

    finding = ask.randomness(deterministic(run), PROBLEM, VE())
    assert finding.verdict == "The same seed gives different results."


def test_unused_draws_of_a_deterministic_sampler_are_noted():
    def run(denoiser, x, times, generator):  # noqa: ARG001
        own = torch.Generator().manual_seed(0)
        return plain(denoiser, x, times, None) + 0 * torch.randn(x.shape, dtype=x.dtype, generator=own)

    finding = ask.randomness(deterministic(run), PROBLEM, VE())
    assert finding.tone == "attention"
    assert "1 random draws are made and not used" in finding.verdict


def test_an_undeclared_evaluation_fails_and_an_undeclared_cost_is_informational():
    def run(denoiser, x, times, generator):
        for t in times[:-1]:
            denoiser(x, t)
        return plain(denoiser, x, times, generator)

    assert ask.cost(deterministic(run), PROBLEM, VE()).tone == "alarm"
    assert ask.cost(deterministic(run, 2), PROBLEM, VE()).tone == "good"
    assert ask.cost(deterministic(run, None), PROBLEM, VE()).tone == "neutral"


def test_the_cost_of_the_start_is_separated_from_that_of_the_steps():
    def run(denoiser, x, times, generator):
        denoiser(x, times[0])
        return plain(denoiser, x, times, generator)

    finding = ask.cost(deterministic(run), PROBLEM, VE())
    assert finding.verdict == "1 NFE per step and 1 at the start, as declared."


def test_change_of_schedule_is_measured():
    assert ask.invariance(sampler_target(DDIM()), PROBLEM).value < 1e-12
    depends = ask.invariance(sampler_target(Heun()), PROBLEM)
    assert depends.value > 1e-3
    assert "depend on the time variable" in depends.verdict
    alone = Target("one", plain, 1, False, 1, schedules=(VE(),))
    assert "one schedule only" in ask.invariance(alone, PROBLEM).verdict


def test_too_few_admitted_steps_are_respected():
    asked: list[int] = []

    def run(denoiser, x, times, generator):
        asked.append(len(times) - 1)
        if len(times) > 6:
            raise InputError("times: at most 5 steps")
        return plain(denoiser, x, times, generator)

    target = Target("few", run, 1, False, 1, finest=5)
    assert ask.cost(target, PROBLEM, VE()).tone == "good"
    assert asked == [2, 4]
