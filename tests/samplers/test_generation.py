"""One call draws samples from a model: their distribution, the times of the model's calls, and errors."""

import math

import pytest
import torch

from diffuscope.denoisers import ExactDenoiser, Guided, NoisePredictor, OfClass
from diffuscope.errors import InputError
from diffuscope.exact import Gaussian, GaussianMixture
from diffuscope.samplers import DDIM, DDPM, Euler, Heun, finish, generate, model_times
from diffuscope.schedules import VE, VP, DiscreteVP, RectifiedFlow

DATA = Gaussian(
    torch.tensor([1.0, -2.0], dtype=torch.float64),
    torch.tensor([[0.8, -0.6], [0.6, 0.8]], dtype=torch.float64),
    torch.tensor([2.0, 0.3], dtype=torch.float64),
)


class Counted:
    """A denoiser that remembers the times it is evaluated at."""

    def __init__(self, denoiser, event_shape=(2,)):
        self.denoiser, self.schedule, self.event_shape, self.times = denoiser, denoiser.schedule, event_shape, []

    def __call__(self, x_t, t):
        self.times.append(float(t))
        return self.denoiser(x_t, t)


class NoNoise(torch.nn.Module):
    """A network that finds no noise in anything."""

    def forward(self, x, k):
        del k
        return torch.zeros_like(x)


class OneAnswerPerClass:
    """Answers 10 y everywhere, and -1 without a class: what was conditioned on can be read off the samples."""

    schedule, classes, event_shape = VE(), 3, (1,)

    def __call__(self, x_t, t, y=None):
        del t
        if y is None:
            return torch.full_like(x_t, -1.0)
        return torch.zeros_like(x_t) + 10.0 * torch.as_tensor(y).expand(len(x_t))[:, None].to(x_t)


@pytest.mark.parametrize(
    "schedule", [VE(), pytest.param(VP(), marks=pytest.mark.slow), RectifiedFlow()], ids=["VE", "VP", "flow"]
)
def test_samples_of_an_exact_denoiser_have_the_mean_and_covariance_of_the_data(schedule):
    n = 20_000
    x = generate(ExactDenoiser(DATA, schedule), n, event_shape=(2,), dtype=torch.float64, start=DATA, steps=40)
    along = (x - DATA.mean) @ DATA.eigenvectors
    # standard errors sqrt(v/n) and v sqrt(2/n); 4.5 of them, and 1% for 40 steps and the last denoise
    assert bool((along.mean(0).abs() <= 4.5 * (DATA.eigenvalues / n).sqrt() + 0.01).all())
    ratio = along.square().mean(0) / DATA.eigenvalues
    assert bool(((ratio - 1).abs() <= 4.5 * math.sqrt(2 / n) + 0.01).all())


def test_a_single_data_point_is_hit():
    point = GaussianMixture.isotropic(torch.ones(1), torch.tensor([[3.0, -1.0]]), torch.zeros(1))
    x = generate(ExactDenoiser(point, VE()), 5, event_shape=(2,), steps=3)
    assert torch.allclose(x, torch.tensor([3.0, -1.0]).expand(5, 2), atol=1e-6)


def test_batches_do_not_change_what_a_deterministic_sampler_makes():
    model = ExactDenoiser(DATA, VE())
    together, apart = (
        generate(model, 7, event_shape=(2,), dtype=torch.float64, batch_size=size, steps=4) for size in (7, 2)
    )
    assert torch.allclose(together, apart, rtol=1e-13, atol=1e-13)


def test_the_seed_decides_every_sample():
    model = ExactDenoiser(DATA, VE())
    first, again, other = (generate(model, 4, event_shape=(2,), sampler=DDPM(), steps=3, seed=s) for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not bool((first == other).any())


@pytest.mark.parametrize(("sampler", "per_step"), [(Euler(), 1), (Heun(), 2)], ids=["Euler", "Heun"])
def test_the_cost_is_that_of_the_steps_and_one_last_denoise(sampler, per_step):
    model = Counted(ExactDenoiser(DATA, VE()))
    generate(model, 2, sampler=sampler, steps=6)
    assert len(model.times) == 6 * per_step + 1
    assert model.times[-1] == float(model_times(model, 6)[-1])


def test_a_model_of_steps_is_evaluated_at_steps_it_was_trained_on():
    network = NoisePredictor(NoNoise(), DiscreteVP.linear(), event_shape=(2,), data_range=(-1.0, 1.0))
    model = Counted(network)
    generate(model, 2, sampler=DDIM(), steps=30)
    assert all(t == round(t) and 1 <= t <= 1000 for t in model.times)
    assert max(model.times) == 1000


def test_the_grid_is_even_in_the_seventh_root_of_the_noise_level():
    model = ExactDenoiser(DATA, VE())
    roots = model_times(model, 9, high=80.0, low=0.01) ** (1 / 7)
    assert torch.allclose(roots.diff(), roots.diff()[0].expand(9), rtol=1e-9, atol=0)
    assert [float(end) for end in model_times(model, 9, high=80.0, low=0.01)[[0, -1]]] == pytest.approx([80.0, 0.01])


def test_classes_take_turns():
    x = generate(OneAnswerPerClass(), 5, classes=(2, 0), steps=2, batch_size=2)
    assert x[:, 0].tolist() == [20.0, 0.0, 20.0, 0.0, 20.0]


def test_guidance_extrapolates_from_the_unconditional_answer():
    x = generate(OneAnswerPerClass(), 3, classes=(1,), guidance=2, steps=2)
    # D_u + 2 (D_c - D_u) with D_c = 10 and D_u = -1
    assert x[:, 0].tolist() == pytest.approx([21.0] * 3)
    model, start = OneAnswerPerClass(), torch.randn(3, 1, generator=torch.Generator().manual_seed(0))
    by_hand = finish(Guided(OfClass(model, 1), model, 2), Heun(), start, model_times(model, 2))
    assert by_hand[:, 0].tolist() == pytest.approx([21.0] * 3)


def test_samples_carry_no_gradient():
    assert not generate(ExactDenoiser(DATA, VE()), 2, event_shape=(2,), steps=2).requires_grad
    start = torch.ones(1, 2, requires_grad=True)
    model = ExactDenoiser(DATA, VE())
    assert not finish(model, Euler(), start, model_times(model, 2)).requires_grad


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n": 0}, "n: expected at least 1 sample, got 0"),
        ({"steps": 0}, "steps: expected at least 1, got 0"),
        ({"event_shape": None}, r"event_shape: expected the shape of one sample, as the model has no \.event_shape"),
        ({"classes": (1,)}, "classes: expected a model trained with classes"),
        ({"guidance": 2.0}, "guidance: expected classes with it, got 2"),
        ({"guidance": math.nan, "classes": (0,)}, "guidance: expected a finite number"),
    ],
)
def test_bad_arguments_of_generate_raise_a_one_line_error(arguments, message):
    with pytest.raises(InputError, match=message):
        generate(ExactDenoiser(DATA, VE()), **({"n": 2, "event_shape": (2,)} | arguments))


def test_a_class_that_the_model_does_not_have_is_named():
    with pytest.raises(InputError, match=r"classes: expected classes 0 \.\. 2, got 3"):
        generate(OneAnswerPerClass(), 2, classes=(3,))


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_samples_that_are_not_finite_are_refused_and_not_returned(wrong):
    class Broken(OneAnswerPerClass):
        def __call__(self, x_t, t, y=None):
            del t, y
            return torch.full_like(x_t, wrong)

    with pytest.raises(InputError, match="model: expected finite samples, got NaN or infinity from 2 steps"):
        generate(Broken(), 3, steps=2)
