"""The size of the error against a reference: what is twice as large is told, with the mistake that explains it."""

import pytest

from diffuscope.certify import Target, mixture, sampler_target, unequal_gaussian
from diffuscope.certify.constant import constant
from diffuscope.samplers import DDIM, DDPM, Euler, Heun, sample
from diffuscope.schedules import VE

PLANE = mixture(2)


def asking(elsewhere) -> Target:
    """DDIM whose denoiser is asked at `elsewhere(i, times, schedule)` in place of times[i]."""

    def run(denoiser, x, times, generator):  # noqa: ARG001
        class Elsewhere:
            schedule = denoiser.schedule

            def __call__(self, x_t, t):
                i = int((times - t).abs().argmin())
                return denoiser(x_t, elsewhere(i, times, denoiser.schedule))

        return sample(DDIM(), Elsewhere(), x, times)

    return Target("mistaken", run, 1, False, 1)


def half_a_step_late(i, times, schedule):
    lam = schedule.lam(times[i : i + 2])
    return schedule.time_of_lambda(lam.mean())


MISTAKES = {
    "the denoiser is asked at the next level": lambda i, times, schedule: times[i + 1],  # noqa: ARG005
    "the denoiser is asked at the level before": lambda i, times, schedule: times[max(i - 1, 0)],  # noqa: ARG005
    "the denoiser is asked half a step late": half_a_step_late,
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_level_off_by_one_or_a_half_keeps_the_order_and_is_named(mistake: str):
    finding = constant(asking(MISTAKES[mistake]), PLANE, VE(), 1.0)
    assert finding.tone == "attention"
    assert finding.value > 2
    assert f"Likely cause: {mistake}" in finding.verdict


def test_the_reference_itself_is_once_its_own_size():
    assert constant(sampler_target(DDIM()), PLANE, VE(), 1.0).value == pytest.approx(1, abs=1e-12)
    assert constant(sampler_target(Euler()), PLANE, VE(), 1.0).tone == "good"
    assert constant(sampler_target(DDPM()), unequal_gaussian(), VE(), 1.0).value == pytest.approx(1, abs=1e-12)


def test_a_sampler_is_compared_with_the_reference_of_its_cost():
    assert "that of Heun" in constant(sampler_target(Heun()), PLANE, VE(), 2.0).verdict


def test_an_undeclared_order_is_the_measured_one_and_without_one_nothing_is_compared():
    undeclared = Target("plain", sampler_target(DDIM()).run, None, False, 1)
    assert constant(undeclared, PLANE, VE(), 0.97).value == pytest.approx(1, abs=1e-12)
    assert constant(undeclared, PLANE, VE(), 0.1).tone == "neutral"
    assert constant(undeclared, PLANE, VE(), float("nan")).tone == "neutral"


@pytest.mark.parametrize(("off", "named"), [(0.095, True), (0.105, False)])
def test_a_mistake_is_named_that_gives_the_errors_to_a_tenth(off: float, named: bool):
    """Errors that differ from those of the mistake by `off` of themselves."""
    mistaken = asking(MISTAKES["the denoiser is asked at the next level"]).run

    def run(denoiser, x, times, generator):
        end = denoiser.distribution.flow(x, denoiser.schedule, float(times[0]), float(times[-1]))
        return end + (mistaken(denoiser, x, times, generator) - end) / (1 - off)

    finding = constant(Target("more mistaken", run, 1, False, 1), unequal_gaussian(), VE(), 1.0)
    assert finding.tone == "attention"
    assert ("Likely cause: the denoiser is asked at the next level" in finding.verdict) == named
