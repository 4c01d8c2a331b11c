"""The closed-form smoothed denoiser: an average of exact ones, and what it can generate."""

import math

import pytest
import torch
from numpy.polynomial.hermite_e import hermegauss

from diffuscope.denoisers.analytic import Smoothed
from diffuscope.errors import InputError
from diffuscope.exact import Empirical
from diffuscope.samplers import generate
from diffuscope.schedules import VE, VP, RectifiedFlow
from numbers_in_tests import seeded

DRAWS, SMOOTHING = 5, 0.4


def data(n=40, event=(2, 3), dtype=torch.float64):
    return torch.randn(n, *event, generator=seeded(1), dtype=dtype)


def smoothed(points, schedule, **changed):
    return Smoothed(points, schedule, **({"smoothing": SMOOTHING, "draws": DRAWS, "generator": seeded(7)} | changed))


def noises(points, draws=DRAWS):
    """What `smoothed` draws."""
    flat = torch.randn(draws, points[0].numel(), generator=seeded(7), dtype=torch.float64)
    return flat.reshape(draws, *points.shape[1:])


@pytest.mark.parametrize("schedule", [VP(), RectifiedFlow(), VE()], ids=["VP", "flow", "VE"])
@pytest.mark.parametrize("t", [0.05, 0.5, 0.9])
def test_it_is_the_mean_of_the_empirical_denoiser_at_the_perturbed_queries(schedule, t):
    points, x_t = data(), 2 * data(6)
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    exact = Empirical(points)
    each = [exact.denoise(x_t + (alpha + sigma) * SMOOTHING * eps, alpha, sigma) for eps in noises(points)]
    torch.testing.assert_close(smoothed(points, schedule)(x_t, t), torch.stack(each).mean(0), rtol=0, atol=1e-12)


def test_without_smoothing_it_is_the_empirical_denoiser():
    points, x_t, schedule = data(), 2 * data(6), VP()
    t = torch.tensor([0.01, 0.1, 0.3, 0.5, 0.8, 1.0], dtype=torch.float64)
    exact = Empirical(points).denoise(x_t, schedule.alpha(t), schedule.sigma(t))
    torch.testing.assert_close(smoothed(points, schedule, smoothing=0)(x_t, t), exact, rtol=0, atol=1e-12)


def test_two_points_have_the_mean_of_hyperbolic_tangents():
    points, x_t, t = torch.tensor([[-1.0], [1.0]], dtype=torch.float64), torch.tensor([[0.3]]).double(), 0.4
    alpha, sigma = 0.6, 0.4
    known = (alpha * (x_t + SMOOTHING * noises(points)) / sigma**2).tanh().mean()
    assert float(smoothed(points, RectifiedFlow())(x_t, t)) == pytest.approx(float(known), abs=1e-14)


def test_many_noises_converge_to_the_gaussian_average():
    """The integral by 60 nodes of Gauss and Hermite; 4 standard errors of 4,096 noises."""
    points, x_t, t = torch.tensor([[-1.0], [1.0]], dtype=torch.float64), torch.tensor([[0.3]]).double(), 0.4
    nodes, weights = (torch.as_tensor(values) for values in hermegauss(60))
    values = (0.6 * (x_t + SMOOTHING * nodes[:, None]) / 0.16).tanh()[:, 0]
    mean = float((weights * values).sum() / weights.sum())
    spread = float((weights * (values - mean) ** 2).sum() / weights.sum()) ** 0.5
    found = float(smoothed(points, RectifiedFlow(), draws=4096)(x_t, t))
    assert abs(found - mean) <= 4 * spread / 64


def test_at_low_noise_it_answers_a_mean_of_as_many_data_points_as_noises():
    points, x_t, schedule, t = data(), data(6) + 0.3, RectifiedFlow(), 1e-4
    perturbed = (x_t[:, None] + SMOOTHING * noises(points)).flatten(2) / (1 - t)
    nearest = torch.cdist(perturbed, points.flatten(1)[None]).argmin(2)
    barycenters = points[nearest].mean(1)
    answer = smoothed(points, schedule)(x_t, t)
    torch.testing.assert_close(answer, barycenters, rtol=0, atol=1e-12)
    assert float(torch.cdist(answer.flatten(1), points.flatten(1)).min(1).values.max()) > 0.1  # not data points


def test_pure_noise_is_answered_by_the_mean_of_the_data():
    points = data()
    answer = smoothed(points, RectifiedFlow())(data(3), 1.0)
    torch.testing.assert_close(answer, points.mean(0).expand(3, 2, 3), rtol=0, atol=1e-13)


def test_a_shift_of_the_data_shifts_the_answer():
    points, x_t, schedule, t = data(), data(4), VP(), 0.3
    there = smoothed(points + 2.5, schedule)(x_t + 2.5 * schedule.alpha(t), t)
    torch.testing.assert_close(there, smoothed(points, schedule)(x_t, t) + 2.5, rtol=0, atol=1e-12)


def test_the_answer_does_not_depend_on_memory_or_batch():
    points, x_t = data(), 2 * data(6)
    whole = smoothed(points, VP())(x_t, 0.4)
    torch.testing.assert_close(smoothed(points, VP(), memory=2000)(x_t, 0.4), whole, rtol=0, atol=1e-13)
    one_by_one = torch.cat([smoothed(points, VP())(x[None], 0.4) for x in x_t])
    torch.testing.assert_close(one_by_one, whole, rtol=0, atol=1e-13)


@pytest.mark.parametrize(("n", "width", "batch", "draws"), [(300, 4000, 1, 1), (20_000, 2, 40, 8)])
def test_no_more_is_held_at_once_than_the_stated_memory(n, width, batch, draws):
    """Not all wide points in double precision, nor the logits of all queries, draws and points."""
    memory = 2**20
    points, x_t = data(n, (width,), torch.float32), data(batch, (width,), torch.float32)
    model = smoothed(points, VP(), draws=draws, memory=memory)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        model(x_t, 0.4)
    largest = max(event.cpu_memory_usage for event in profile.events() or [])
    assert largest <= memory < 8 * n * max(width, batch * draws)


def test_a_time_per_sample_is_that_of_each_alone():
    x_t, denoiser = data(3), smoothed(data(), VP())
    t = torch.tensor([0.1, 0.4, 0.9], dtype=torch.float64)
    alone = torch.cat([denoiser(x[None], float(s)) for x, s in zip(x_t, t, strict=True)])
    torch.testing.assert_close(denoiser(x_t, t), alone, rtol=0, atol=1e-13)


def test_single_precision_is_that_of_the_query_alone():
    points, x_t = data(dtype=torch.float32), data(4, dtype=torch.float32)
    answer = smoothed(points, VP())(x_t, 0.01)
    assert answer.dtype == torch.float32
    exact = smoothed(points.double(), VP())(x_t.double(), 0.01)
    torch.testing.assert_close(answer.double(), exact, rtol=0, atol=4 * torch.finfo(torch.float32).eps)


def test_its_gradient_is_that_of_the_mean_by_central_differences():
    """Step 1e-5: truncation and rounding are both near 1e-10."""
    denoiser, x_t, t, step = smoothed(data(), VP()), data(3).requires_grad_(), 0.4, 1e-5
    answer = denoiser(x_t, t)
    torch.testing.assert_close(answer, denoiser(x_t.detach(), t), rtol=0, atol=1e-12)
    direction = torch.randn(3, 2, 3, generator=seeded(3), dtype=torch.float64)
    (gradient,) = torch.autograd.grad((answer * direction).sum(), x_t)
    move = step * torch.randn(3, 2, 3, generator=seeded(4), dtype=torch.float64)
    ahead, behind = (denoiser(x_t.detach() + sign * move, t) for sign in (1, -1))
    expected = float(((ahead - behind) * direction).sum()) / 2
    assert float((gradient * move).sum()) == pytest.approx(expected, rel=1e-7)


def test_what_it_generates_are_means_of_as_many_data_points_as_noises():
    """Samples at t = 0.001 of two points at -1 and 1: multiples of 2/5, up to the noise that is left."""
    points = torch.tensor([[-1.0], [1.0]], dtype=torch.float64)
    samples = generate(smoothed(points, RectifiedFlow()), 64, steps=40, dtype=torch.float64)
    means = -1 + 2 * torch.arange(DRAWS + 1).double() / DRAWS
    apart = (samples - means).abs().min(1).values
    assert float(apart.max()) < 0.02


def test_an_empty_batch_is_answered_by_an_empty_batch():
    assert smoothed(data(), VP())(data(2)[:0], 0.5).shape == (0, 2, 3)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"smoothing": -0.1}, "smoothing: expected a finite number >= 0, got -0.1"),
        ({"smoothing": math.inf}, "smoothing: expected a finite number >= 0, got inf"),
        ({"smoothing": math.nan}, "smoothing: expected a finite number >= 0, got nan"),
        ({"draws": 0}, "draws: expected a whole number 1 .. 4096, got 0"),
        ({"draws": 5000}, "draws: expected a whole number 1 .. 4096, got 5000"),
        ({"memory": 0}, "memory: expected a positive number of bytes, got 0"),
        ({"points": data()[:0]}, "points: expected at least one event of at least one value, got (0, 2, 3)"),
        ({"points": data() * math.nan}, "points: expected finite values, got NaN or infinity"),
    ],
)
def test_a_mistake_is_named_in_one_line(changed, named):
    with pytest.raises(InputError) as caught:
        smoothed(**({"points": data(), "schedule": VP()} | changed))
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("x_t", [torch.zeros(2, 3), torch.zeros(1, 3, 2)])
def test_a_query_of_another_shape_is_refused(x_t):
    with pytest.raises(InputError, match=r"x_t: expected shape \(batch, 2, 3\)"):
        smoothed(data(), VP())(x_t, 0.5)
