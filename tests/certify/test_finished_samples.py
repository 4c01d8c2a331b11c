"""At sigma = 0 the finished sample comes back, or the step is refused or declared away; a noised state fails."""

import itertools
import math
from dataclasses import replace

import pytest
import torch

from diffuscope.certify import Target, certify_sampler, mixture, sampler_target, target_of
from diffuscope.certify.asked import asked
from diffuscope.certify.behavior import everywhere
from diffuscope.certify.clean import last_step, single_point
from diffuscope.errors import InputError
from diffuscope.samplers import (
    DDIM,
    DDPM,
    DPMSolverPP2M,
    Euler,
    EulerMaruyama,
    Heun,
    RungeKutta4,
    SDEDPMSolverPP2M,
    sample,
)
from diffuscope.schedules import VE, VP, RectifiedFlow

PLANE = mixture(2)


def target(run, stochastic=False, **declared) -> Target:
    return asked(Target("some sampler", run, 1, stochastic, 1, **declared))


def plain(denoiser, x, times, generator):  # noqa: ARG001
    return sample(DDIM(), denoiser, x, times)


def ends_at_zero(denoiser, times) -> bool:
    return float(denoiser.schedule.sigma(times[-1])) == 0


# what people return at sigma = 0 in place of the finished sample: from (sampler, denoiser, x, times, generator)


def the_state_before(sampler, d, x, times, g):
    return sample(sampler, d, x, times[:-1], noise=g)


def two_states_before(sampler, d, x, times, g):
    return sample(sampler, d, x, times[:-2], noise=g)


def the_state_before_and_a_call(sampler, d, x, times, g):
    """The answer is asked for, and dropped."""
    x = sample(sampler, d, x, times[:-1], noise=g)
    d(x, times[-2])
    return x


def the_last_step_twice(sampler, d, x, times, g):
    return sample(sampler, d, sample(sampler, d, x, times[:-1], noise=g), times[-3:-1], noise=g)


def down_to_a_least_time(sampler, d, x, times, g):
    return sample(sampler, d, x, torch.cat([times[:-1], times.new_tensor([1e-3])]), noise=g)


def down_to_a_half_of_the_last_level(sampler, d, x, times, g):
    half = d.schedule.time_of_noise_to_signal(d.schedule.noise_to_signal(times[-2]) / 2)
    return sample(sampler, d, x, torch.cat([times[:-1], half[None]]), noise=g)


def scaled_but_not_denoised(sampler, d, x, times, g):
    return sample(sampler, d, x, times[:-1], noise=g) / d.schedule.alpha(times[-2])


def noised_once_more(sampler, d, x, times, g):
    drawn = torch.randn(x.shape, dtype=x.dtype, generator=g or torch.Generator().manual_seed(1))
    return sample(sampler, d, x, times, noise=g) + d.schedule.sigma(times[-2]) * drawn


FORMS = (
    the_state_before,
    two_states_before,
    the_state_before_and_a_call,
    the_last_step_twice,
    down_to_a_least_time,
    down_to_a_half_of_the_last_level,
    scaled_but_not_denoised,
    noised_once_more,
)
SAMPLERS = (Heun(), Euler(), DDIM(), DPMSolverPP2M(), DDPM(), SDEDPMSolverPP2M())
# a deterministic and a stochastic one every time, the others at night
ONE_OF_EACH = [s if type(s) in (DDIM, DDPM) else pytest.param(s, marks=pytest.mark.slow) for s in SAMPLERS]


def with_fault(sampler, form, **declared) -> Target:
    def run(denoiser, x, times, generator):
        faulty = form if ends_at_zero(denoiser, times) else lambda s, d, x, t, g: sample(s, d, x, t, noise=g)
        return faulty(sampler, denoiser, x, times, generator)

    return target(run, sampler.stochastic, **declared)


def assert_not_finished(finding):
    assert finding.tone == "alarm", finding.verdict
    assert finding.verdict.startswith("At sigma = 0 ")
    assert "away from the only data point" in finding.verdict
    assert finding.verdict.endswith("raise an exception, or declare reaches_zero = False.")


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
@pytest.mark.parametrize("sampler", ONE_OF_EACH, ids=lambda sampler: type(sampler).__name__)
def test_what_is_still_noised_at_sigma_zero_fails_and_says_how_to_mend_it(sampler, form):
    assert_not_finished(single_point(with_fault(sampler, form), PLANE, VE()))


@pytest.mark.parametrize(
    "schedule",
    [VP(), pytest.param(RectifiedFlow(), marks=pytest.mark.slow)],
    ids=lambda schedule: type(schedule).__name__,
)
@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
def test_it_is_seen_in_every_schedule_alone(form, schedule):
    assert_not_finished(single_point(with_fault(Heun(), form), PLANE, schedule))


@pytest.mark.parametrize("form", FORMS[:3], ids=lambda form: form.__name__)
def test_it_fails_too_where_the_step_is_declared_and_is_not_asked_where_none_is(form):
    assert single_point(with_fault(Heun(), form, reaches_zero=True), PLANE, VE()).tone == "alarm"
    assert single_point(with_fault(Heun(), form, reaches_zero=False), PLANE, VE()).tone == "neutral"


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda sampler: type(sampler).__name__)
def test_a_state_that_is_returned_as_it_was_is_named_with_its_noise(sampler):
    stopped = with_fault(sampler, the_state_before)
    said = single_point(stopped, PLANE, VE()).verdict
    assert said.startswith("At sigma = 0 it returns the state of the time before, still noised (sigma = 0.1), ")
    finding = last_step(stopped, PLANE, VE())
    assert finding.tone == "alarm"
    assert finding.verdict.startswith("It takes no step to clean data: it ends as before, ")


@pytest.mark.parametrize(
    "sampler",
    [*ONE_OF_EACH, pytest.param(RungeKutta4(), marks=pytest.mark.slow), EulerMaruyama()],
    ids=lambda sampler: type(sampler).__name__,
)
def test_a_finished_sample_passes_whether_or_not_it_is_declared(sampler):
    ours = asked(sampler_target(sampler))
    for declared in (True, None):
        assert everywhere(single_point, replace(ours, reaches_zero=declared), PLANE).tone == "good"
    assert everywhere(single_point, replace(ours, reaches_zero=False), PLANE).tone == "neutral"


@pytest.mark.parametrize("error", [pytest.param(InputError, marks=pytest.mark.slow), ValueError, ZeroDivisionError])
def test_a_step_to_zero_that_is_refused_is_a_note_unless_it_is_declared(error):
    def run(denoiser, x, times, generator):
        if ends_at_zero(denoiser, times):
            raise error("no step to sigma = 0")
        return plain(denoiser, x, times, generator)

    finding = everywhere(single_point, target(run), PLANE)
    assert finding.tone == "attention"
    assert finding.verdict.startswith("It refuses the step to sigma = 0; above it, the sample is within ")
    assert everywhere(single_point, target(run, reaches_zero=True), PLANE).tone == "alarm"
    finding = everywhere(single_point, target(run, reaches_zero=False), PLANE)
    assert finding.tone == "neutral"
    assert finding.verdict.startswith("It declares no step to sigma = 0; above it, ")


@pytest.mark.parametrize("question", [single_point, last_step], ids=lambda question: question.__name__)
@pytest.mark.parametrize(
    ("end", "said"),
    [
        (lambda x: None, "it returns a NoneType"),  # noqa: ARG005
        (lambda x: (x, 0), "it returns a tuple"),
        (lambda x: x[:1], "it returns a tensor of shape (1, 2)"),
    ],
    ids=["nothing", "a tuple", "one row"],
)
def test_what_is_no_state_at_sigma_zero_is_no_refusal(question, end, said):
    def run(denoiser, x, times, generator):
        ended = plain(denoiser, x, times, generator)
        return end(ended) if ends_at_zero(denoiser, times) else ended

    finding = everywhere(question, target(run), PLANE)
    assert finding.tone == "alarm"
    assert finding.verdict.startswith(said)


def skips_zero(denoiser, x, times, generator):  # noqa: ARG001
    """Heun's method in sigma/alpha that leaves before the step to sigma = 0."""
    alpha, sigma = denoiser.schedule.alpha, denoiser.schedule.sigma

    def slope(x, t):
        return (x - alpha(t) * denoiser(x, t)) / sigma(t)

    for t, s in itertools.pairwise(times):
        h, e = sigma(s) / alpha(s) - sigma(t) / alpha(t), slope(x, t)
        y = x / alpha(t) + h * e
        if float(sigma(s)) == 0:
            return x
        x = alpha(s) * (x / alpha(t) + h * (e + slope(alpha(s) * y, s)) / 2)
    return x


@pytest.mark.parametrize(
    ("declared", "verdict"), [({}, "fails"), pytest.param({"reaches_zero": False}, "passes", marks=pytest.mark.slow)]
)
def test_the_certificate_of_a_sampler_that_skips_the_step_to_zero_fails_unless_that_is_declared(declared, verdict):
    skips = replace(
        target_of(skips_zero), stochastic=False, nfe_per_step=2, schedules=(VE(),), starts_at_zero_snr=False, **declared
    )
    found = certify_sampler(skips, steps=(16, 25, 40, 63))
    assert found.verdict == verdict
    assert [finding.name for finding in found.failures] == ([] if declared else ["point", "last_step"])


def test_no_step_to_zero_is_a_note_unless_it_is_declared():
    """A velocity at sigma = 0 is 0/0: sound above it, as its order shows."""

    def run(denoiser, x, times, generator):
        ended = plain(denoiser, x, times, generator)
        return ended * math.nan if float(denoiser.schedule.sigma(times[-1])) == 0 else ended

    for declared, tone in ((None, "attention"), (True, "alarm"), (False, "neutral")):
        for question in (single_point, last_step):
            assert question(target(run, reaches_zero=declared), PLANE, VP()).tone == tone, (question, declared)


def plain_euler(denoiser, x, times, generator):  # noqa: ARG001
    """Euler's method in time, without a last step of its own: nearer to clean data the finer its steps."""
    schedule = denoiser.schedule
    for t, s in itertools.pairwise(times):
        denoised = denoiser(x, t)
        noise = (x - schedule.alpha(t) * denoised) / schedule.sigma(t)
        x = x + (s - t) * (schedule.alpha_dot(t) * denoised + schedule.sigma_dot(t) * noise)
    return x


def test_an_integrator_that_only_converges_to_clean_data_is_no_failure():
    finding = single_point(target(plain_euler), PLANE, VP())
    assert finding.tone == "attention", finding.verdict
    assert "with eight times the steps" in finding.verdict
    assert single_point(target(plain_euler, reaches_zero=True), PLANE, VP()).tone == "alarm"
    assert single_point(target(plain_euler), PLANE, VE()).tone == "good"  # its last step is exact there


@pytest.mark.parametrize(
    "end",
    [
        lambda denoiser, x, times: denoiser(torch.zeros_like(x), times[-2]),
        lambda denoiser, x, times: denoiser(x, times[0]),
    ],
    ids=["asked at the origin", "asked at the first level"],
)
def test_a_last_step_that_a_single_point_does_not_show_is_seen_on_gaussian_data(end):
    def run(denoiser, x, times, generator):
        if float(times[-1]) > 0:
            return plain(denoiser, x, times, generator)
        return end(denoiser, plain(denoiser, x, times[:-1], generator), times)

    assert single_point(target(run), PLANE, VE()).tone == "good"
    assert last_step(target(run), PLANE, VE()).tone == "alarm"
    assert last_step(target(plain), PLANE, VE()).tone == "good"


def test_moments_that_are_wrong_at_sigma_zero_alone_are_seen():
    def run(denoiser, x, times, generator):
        ended = sample(DDPM(), denoiser, x, times, noise=generator)
        return ended * 1.2 if float(times[-1]) == 0 else ended

    wide = asked(Target("wide", run, 1, True, 1))
    assert last_step(wide, PLANE, VE()).tone == "alarm"
    assert last_step(asked(sampler_target(DDPM())), PLANE, VE()).tone == "good"
