"""Every question about the edges fails a sampler with the fault where it shows, and passes one without."""

import itertools
import math

import pytest
import torch

from diffuscope.certify import Target, mixture, sampler_target, wide_gaussian
from diffuscope.certify import edges as ask
from diffuscope.certify.asked import TargetError, asked
from diffuscope.certify.behavior import batching, cost, everywhere, precision, randomness
from diffuscope.certify.clean import last_step as last_step_of
from diffuscope.certify.clean import single_point as single_point_of
from diffuscope.errors import InputError
from diffuscope.exact import Gaussian
from diffuscope.samplers import DDIM, DDPM, Heun, sample
from diffuscope.schedules import VE, VP, RectifiedFlow

PLANE = mixture(2)


def plain(denoiser, x, times, generator):  # noqa: ARG001
    return sample(DDIM(), denoiser, x, times)


def target(run, **declared) -> Target:
    return asked(Target("some sampler", run, 1, False, 1, **declared))


def noisy(noise) -> Target:
    """DDIM, and in the end a tenth of what `noise(x, generator)` draws."""
    return asked(Target("noisy", lambda d, x, t, g: sample(DDIM(), d, x, t) + 0.1 * noise(x, g), 1, True, 1))


QUESTIONS = (ask.runs, ask.few_steps, ask.images, ask.untouched, ask.time_precision, ask.rounding)


@pytest.mark.parametrize("sampler", [Heun(), DDPM()], ids=["Heun", "DDPM"])
@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.__name__)
def test_sound_samplers_pass(question, sampler):
    finding = everywhere(question, asked(sampler_target(sampler)), PLANE)
    assert finding.tone == "good", finding.verdict


def test_an_exception_below_six_steps_names_its_line():
    def run(denoiser, x, times, generator):
        if len(times) < 7:
            raise ValueError("needs at least 6 steps")
        return plain(denoiser, x, times, generator)

    finding = everywhere(ask.few_steps, target(run), PLANE)
    line = run.__code__.co_firstlineno + 2
    assert finding.tone == "alarm"
    assert finding.verdict == f"tests/certify/test_edges.py:{line}: ValueError: needs at least 6 steps"
    assert everywhere(ask.few_steps, target(run, coarsest=6), PLANE).tone == "neutral"


def test_one_step_that_divides_by_zero_is_detected():
    def run(denoiser, x, times, generator):
        return plain(denoiser, x, times, generator) + 0 / torch.tensor(float(len(times) - 2))

    finding = everywhere(ask.few_steps, target(run), PLANE)
    assert finding.verdict == "1 step gives NaN or infinity."


def clamped(high=math.inf, low=0.0):
    """DDIM that takes noise-to-signal ratios above `high` and below `low` for these."""

    class Clamped:
        def __init__(self, denoiser):
            self.denoiser, self.schedule = denoiser, denoiser.schedule

        def __call__(self, x_t, t):
            ratio = self.schedule.noise_to_signal(t).clamp(low, high)
            return self.denoiser(x_t, self.schedule.time_of_noise_to_signal(ratio))

    return lambda denoiser, x, times, generator: plain(Clamped(denoiser), x, times, generator)


def clipped(denoiser, x, times, generator):
    """DDIM whose denoiser is clipped to -4 .. 4, which small data do not show."""

    class Clipped:
        schedule = denoiser.schedule

        def __call__(self, x_t, t):
            return denoiser(x_t, t).clamp(-4, 4)

    return plain(Clipped(), x, times, generator)


@pytest.mark.parametrize(
    ("run", "tone"),
    [(plain, "good"), (clamped(high=10.0), "alarm"), (clamped(low=0.05), "alarm"), (clipped, "alarm")],
    ids=["sound", "levels clamped at 10", "levels clamped at .05", "clipped at 4"],
)
def test_extreme_levels_and_large_data_show_what_clamps(run, tone: str):
    finding = ask.extremes(target(run), VP())
    assert finding.tone == tone, finding.verdict


def test_the_wide_problem_covers_six_decades_of_noise():
    problem = wide_gaussian()
    ratios = VP().noise_to_signal(problem.times(VP(), 10))
    assert (float(ratios[0]), float(ratios[-1])) == pytest.approx((1e3, 1e-3), rel=1e-9)
    # principal axis by axis, (y - m)/sqrt(v + ratio^2) is conserved
    distribution = problem.distribution
    assert isinstance(distribution, Gaussian)
    axes, mean = distribution.eigenvectors, distribution.mean
    start, end = ((y - mean) @ axes for y in (problem.start(VE()), problem.exact_end(VE())))
    variances = torch.tensor([225.0, 16.0], dtype=torch.float64)
    z = start / (variances + 1e6).sqrt()
    assert torch.allclose(end, z * (variances + 1e-6).sqrt(), rtol=1e-9, atol=0)


def divides_by_alpha(denoiser, x, times, generator):
    alpha = denoiser.schedule.alpha(times[0])
    return plain(denoiser, x / alpha * alpha, times, generator)


@pytest.mark.parametrize("run", [plain, divides_by_alpha], ids=["sound", "divides by alpha"])
def test_a_start_at_alpha_zero_is_a_start(run):
    finding = ask.zero_snr(target(run), RectifiedFlow())
    assert finding.tone == ("good" if run is plain else "alarm"), finding.verdict
    assert ask.runs(target(run), PLANE, RectifiedFlow()).tone == "good"  # nothing of it shows elsewhere


def test_a_stochastic_start_at_alpha_zero_has_the_exact_law():
    finding = ask.zero_snr(asked(sampler_target(DDPM())), RectifiedFlow())
    assert finding.tone == "good", finding.verdict
    wider = asked(Target("wider", lambda d, x, t, g: 1.05 * sample(DDPM(), d, x, t, noise=g), None, True, 1))
    assert ask.zero_snr(wider, RectifiedFlow()).tone == "alarm"


def test_a_mean_over_the_width_of_an_image_is_detected():
    def run(denoiser, x, times, generator):
        smoothed = x + 0.1 * x.mean(-1, keepdim=True) if x.ndim == 4 else x
        return plain(denoiser, smoothed, times, generator)

    assert ask.images(target(run), PLANE, VE()).tone == "alarm"
    assert ask.images(target(run, event="vector"), PLANE, VE()).tone == "neutral"


def test_a_sampler_of_images_is_shown_images():
    shapes = set()

    def run(denoiser, x, times, generator):
        shapes.add(tuple(x.shape[1:]))
        assert denoiser(x, times[0]).shape == x.shape
        return plain(denoiser, x, times, generator)

    images = asked(Target("images", run, 1, False, 1, event="image"))
    assert ask.runs(images, mixture(64), VE()).tone == "good"
    assert ask.runs(images, PLANE, VE()).tone == "good"
    assert shapes == {(2, 4, 8), (2, 1, 1)}


def test_a_start_changed_in_place_shows_in_the_schedule_that_changes_it():
    def run(denoiser, x, times, generator):
        x /= denoiser.schedule.alpha(times[0])
        return plain(denoiser, x * denoiser.schedule.alpha(times[0]), times, generator)

    assert ask.untouched(target(run), PLANE, VE()).tone == "good"  # alpha = 1
    finding = everywhere(ask.untouched, target(run), PLANE)
    assert finding.verdict == "Under VP: the start given to it is changed in place."


def test_a_run_that_depends_on_the_one_before_is_detected():
    memory: list[torch.Tensor] = []

    def run(denoiser, x, times, generator):
        shift = 0.0 if not memory else 1e-3 * float(memory[-1].mean())
        memory.append(x)
        return plain(denoiser, x, times, generator) + shift

    assert "depends on those before it" in ask.untouched(target(run), PLANE, VE()).verdict


@pytest.mark.parametrize(("dtype", "tone"), [("float16", "alarm"), ("bfloat16", "alarm"), ("float32", "good")])
def test_times_rounded_to_half_precision_are_detected(dtype: str, tone: str):
    def run(denoiser, x, times, generator):
        class Rounding:
            schedule = denoiser.schedule

            def __call__(self, x_t, t):
                return denoiser(x_t, float(torch.tensor(t).to(getattr(torch, dtype))))

        return plain(Rounding(), x, times, generator)

    finding = ask.time_precision(target(run), PLANE, VE())
    assert finding.tone == tone
    assert finding.verdict == f"The denoiser is asked at times rounded to {dtype}."


@pytest.mark.parametrize(
    ("rounded", "tone"),
    [
        (lambda D: D.float().to(D), "good"),
        (lambda D: D.half().to(D), "alarm"),
        (lambda D: (100 * D).round() / 100, "alarm"),
    ],
    ids=["float32", "float16", "hundredths"],
)
def test_answers_rounded_inside_make_the_end_jump(rounded, tone: str):
    def run(denoiser, x, times, generator):
        class Rounding:
            schedule = denoiser.schedule

            def __call__(self, x_t, t):
                return rounded(denoiser(x_t, t))

        return plain(Rounding(), x, times, generator)

    assert ask.rounding(target(run), PLANE, VE()).tone == tone


def normalized_over_the_batch(x, generator):
    """Noise of variance 1 over the batch, which no run without noise shows."""
    noise = torch.randn(x.shape, dtype=x.dtype, generator=generator)
    return noise / noise.std(0, unbiased=False).clamp(min=1e-3) if len(x) > 1 else noise


@pytest.mark.parametrize(
    ("noise", "tone", "said"),
    [
        (lambda x, g: torch.randn(x.shape, dtype=x.dtype, generator=g), "good", "same points"),
        (lambda x, g: torch.rand(x.shape, dtype=x.dtype, generator=g), "good", "same points"),
        (lambda x, g: torch.randn(*x.shape, 1, 1, generator=g)[..., 0, 0].to(x), "good", "same points"),
        (normalized_over_the_batch, "alarm", "when others join it"),
        (lambda x, g: torch.randn(x.shape[1:], dtype=x.dtype, generator=g), "alarm", "shared by all rows"),
        (lambda x, g: torch.randint(0, 2, x.shape, generator=g).to(x), "attention", "cannot be fixed"),
    ],
    ids=["normal", "uniform", "of another shape", "normalized", "shared", "whole numbers"],
)
def test_rows_are_compared_with_their_noise_fixed(noise, tone: str, said: str):
    finding = batching(noisy(noise), PLANE, VE())
    assert finding.tone == tone, finding.verdict
    assert said in finding.verdict


def test_a_stated_limit_in_one_schedule_is_a_note():
    def run(denoiser, x, times, generator):
        if isinstance(denoiser.schedule, VP):
            raise InputError("times: no VP")
        return plain(denoiser, x, times, generator)

    finding = everywhere(ask.runs, target(run), PLANE)
    assert (finding.tone, finding.verdict) == ("attention", "Under VP: not measured: times: no VP")


def test_an_interrupt_is_no_fault_of_the_target():
    def run(denoiser, x, times, generator):  # noqa: ARG001
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ask.runs(target(run), PLANE, VE())


def test_a_denoiser_asked_at_states_of_another_size_is_the_targets_fault():
    def run(denoiser, x, times, generator):  # noqa: ARG001
        return denoiser(x[:, :1], times[0])

    with pytest.raises(TargetError, match="which is not the start's"):
        asked(Target("crops", run, 1, False, 1, event="image")).run(
            PLANE.denoiser(VE()), PLANE.start(VE()), PLANE.times(VE(), 3), None
        )


def test_noise_that_is_wrong_in_single_precision_alone_is_seen():
    def draw(x, generator):
        noise = torch.randn(x.shape, dtype=x.dtype, generator=generator)
        return 1.4 * noise if x.dtype == torch.float32 else noise

    assert precision(noisy(draw), PLANE, VE()).tone == "alarm"
    assert precision(noisy(lambda x, g: torch.randn(x.shape, dtype=x.dtype, generator=g)), PLANE, VE()).tone == "good"


def test_rows_beyond_the_first_thirty_two_are_compared_too():
    def run(denoiser, x, times, generator):
        return torch.cat([plain(denoiser, x[:32], times, generator), x[32:]])

    assert batching(target(run), PLANE, VE()).tone == "alarm"


def test_more_steps_than_the_grids_of_the_order_are_taken():
    def run(denoiser, x, times, generator):
        return plain(denoiser, x, times, generator) if len(times) <= 161 else 0 * x

    assert ask.many_steps(target(run), VE()).tone == "alarm"
    assert ask.many_steps(target(plain), VE()).tone == "good"
    assert ask.many_steps(target(plain, finest=50), VE()).tone == "good"


def test_the_start_returned_for_few_steps_is_a_note():
    def run(denoiser, x, times, generator):
        return x if len(times) <= 6 else plain(denoiser, x, times, generator)

    finding = ask.few_steps(target(run), PLANE, VE())
    assert finding.tone == "attention"
    assert "times the error of DDIM" in finding.verdict


@pytest.mark.parametrize("declared", [{"coarsest": 8}, {"finest": 12}, {"coarsest": 12, "finest": 12}])
def test_no_question_takes_a_number_of_steps_that_is_not_accepted(declared: dict[str, int]):
    least, most = declared.get("coarsest", 1), declared.get("finest", 1000)

    def run(denoiser, x, times, generator):
        assert least <= len(times) - 1 <= most + (least == most)  # where all are one, one more ends at zero
        return plain(denoiser, x, times, generator)

    some = target(run, **declared)
    for question in (*QUESTIONS, cost, single_point_of, last_step_of, batching, precision):
        assert question(some, PLANE, VE()).tone in ("good", "neutral"), question


def test_draws_that_depend_on_the_batch_are_not_compared_and_are_no_failure():
    def in_chunks(x, generator):
        return torch.cat([torch.randn(part.shape, dtype=x.dtype, generator=generator) for part in x.split(64)])

    assert batching(noisy(in_chunks), PLANE, VE()).tone == "attention"

    def row_by_row(x, generator):
        return torch.stack([torch.randn(x.shape[1:], dtype=x.dtype, generator=generator) for _ in x])

    assert batching(noisy(row_by_row), PLANE, VE()).tone == "attention"


def test_levels_rounded_inside_make_the_end_jump_with_the_times():
    def run(denoiser, x, times, generator):  # noqa: ARG001
        alpha, sigma = denoiser.schedule.alpha, denoiser.schedule.sigma
        for t, s in itertools.pairwise(times):
            kept = sigma(s).bfloat16().double() / sigma(t).bfloat16().double()
            denoised = denoiser(x, t)
            x = alpha(s) * denoised + kept * (x - alpha(t) * denoised)
        return x

    finding = ask.rounding(target(run), PLANE, VE())
    assert finding.tone == "alarm"
    assert "as the times move" in finding.verdict


def test_a_result_that_requires_grad_is_a_result():
    def run(denoiser, x, times, generator):
        return plain(denoiser, x, times, generator) * torch.ones(1, dtype=x.dtype, requires_grad=True)

    assert ask.few_steps(target(run), PLANE, VE()).tone == "good"
    assert ask.many_steps(target(run), VE()).tone == "good"


def test_a_global_seed_set_by_a_deterministic_sampler_is_a_note():
    def run(denoiser, x, times, generator):
        torch.manual_seed(0)
        return plain(denoiser, x, times, generator)

    with torch.random.fork_rng():
        torch.manual_seed(1)
        assert randomness(target(run), PLANE, VE()).tone == "attention"
