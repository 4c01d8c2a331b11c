"""Classes and guidance against exact conditional distributions: what guidance is, and what it is not."""

import math
import subprocess
import sys

import pytest
import torch

from diffuscope.denoisers import (
    MLP,
    Batch,
    BatchTime,
    Classes,
    ConditionalDenoiser,
    Denoiser,
    ExactDenoiser,
    Guided,
    NoisePredictor,
    OfClass,
    Preconditioned,
    Rescheduled,
    UNet,
    nearest_trained_time,
)
from diffuscope.errors import InputError
from diffuscope.exact import Gaussian, GaussianMixture
from diffuscope.samplers import DormandPrince, sample
from diffuscope.schedules import VE, VP, DiscreteVP, RectifiedFlow

MEANS = torch.tensor([[1.0, 0.5], [-1.5, 0.2], [0.3, -2.0]], dtype=torch.float64)
WEIGHTS = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
VARIANCE = 0.3


class ExactClasses:
    """The components of a mixture as its classes: conditional and unconditional denoiser both exact."""

    classes = 3

    def __init__(self, schedule):
        self.schedule = schedule
        self.parts = [ExactDenoiser(Gaussian.isotropic(mean, VARIANCE), schedule) for mean in MEANS]
        mixture = GaussianMixture.isotropic(WEIGHTS, MEANS, torch.full((3,), VARIANCE, dtype=torch.float64))
        self.whole = ExactDenoiser(mixture, schedule)

    def __call__(self, x_t: Batch, t: BatchTime, y: Classes = None) -> Batch:
        if y is None:
            return self.whole(x_t, t)
        answers = torch.stack([*(part(x_t, t) for part in self.parts), self.whole(x_t, t)])
        return answers[torch.as_tensor(y).expand(len(x_t)), torch.arange(len(x_t))]


def states(generator: torch.Generator) -> torch.Tensor:
    return 2 * torch.randn(6, 2, dtype=torch.float64, generator=generator)


def test_the_conditional_answers_average_to_the_unconditional_one_under_the_posterior_of_the_class(generator):
    """E[x_0 | x_t] = sum_y p(y | x_t) E[x_0 | x_t, y]: what makes a class-conditional model one model."""
    exact, x_t, t = ExactClasses(VP()), states(generator), 0.4
    alpha, sigma = exact.schedule.alpha(t), exact.schedule.sigma(t)
    log_p = torch.stack([part.distribution.log_prob(x_t, alpha, sigma) for part in exact.parts], 1) + WEIGHTS.log()
    of_class = torch.stack([OfClass(exact, y)(x_t, t) for y in range(3)], 1)
    assert torch.allclose((log_p.softmax(1)[..., None] * of_class).sum(1), exact(x_t, t), atol=1e-12)


def test_scale_one_is_the_class_and_scale_zero_is_no_class(generator):
    exact, x_t = ExactClasses(RectifiedFlow()), states(generator)
    conditional = OfClass(exact, torch.tensor([0, 1, 2, 0, 1, 3]))
    assert isinstance(exact, ConditionalDenoiser)
    assert isinstance(conditional, Denoiser)
    assert torch.allclose(Guided(conditional, exact, 1)(x_t, 0.3), conditional(x_t, 0.3), atol=1e-14)
    assert torch.equal(Guided(conditional, exact, 0)(x_t, 0.3), exact(x_t, 0.3))
    assert torch.equal(conditional(x_t, 0.3)[-1], exact(x_t, 0.3)[-1])


@pytest.mark.parametrize("schedule", [VE(), VP(), RectifiedFlow()], ids=lambda s: type(s).__name__)
def test_with_one_covariance_guidance_is_the_exact_denoiser_of_the_extrapolated_mean(schedule, generator):
    covariance = torch.tensor([[0.5, 0.2], [0.2, 0.3]], dtype=torch.float64)
    at = [ExactDenoiser(Gaussian.from_covariance(mean, covariance), schedule) for mean in MEANS[:2]]
    mean = MEANS[1] + 2.5 * (MEANS[0] - MEANS[1])
    exact = ExactDenoiser(Gaussian.from_covariance(mean, covariance), schedule)
    t, x_t = 0.6 * schedule.t_max, states(generator)
    assert torch.allclose(Guided(at[0], at[1], 2.5)(x_t, t), exact(x_t, t), atol=1e-12)


@pytest.mark.parametrize("scale", [0.5, 2.0, 3.0])
def test_guidance_samples_the_geometric_mean_of_two_variances_and_not_the_tilted_distribution(scale):
    """Gaussians of variances .5 and 2: the flow's factor in closed form, and the tilted distribution's variance
    elsewhere.
    """
    v_c, v_u, top = 0.5, 2.0, 300.0
    schedule = VE(1e-4, top)

    def denoiser(variance: float) -> ExactDenoiser:
        return ExactDenoiser(Gaussian.isotropic(torch.zeros(1, dtype=torch.float64), variance), schedule)

    guided = Guided(denoiser(v_c), denoiser(v_u), scale)
    x = torch.tensor([[top]], dtype=torch.float64)
    end = sample(DormandPrince(1e-10, 1e-10), guided, x, torch.tensor([top, 1e-4], dtype=torch.float64))
    factor = (v_c / (v_c + top**2)) ** (scale / 2) * (v_u / (v_u + top**2)) ** ((1 - scale) / 2)
    assert float(end) == pytest.approx(top * factor, rel=1e-6)
    assert float(end) ** 2 == pytest.approx(v_c**scale * v_u ** (1 - scale), rel=1e-4)
    tilted = 1 / (scale / v_c + (1 - scale) / v_u)
    assert abs(math.log(float(end) ** 2 / tilted)) > 0.1


def preconditioned(network) -> Preconditioned:
    return Preconditioned(network, VE(), 0.5, event_shape=(1, 4, 4), data_range=(-1.0, 1.0))


@torch.no_grad()
@pytest.mark.parametrize("make", [MLP, UNet])
def test_a_network_tells_its_classes_and_none_apart(make, generator):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = make((1, 4, 4), classes=3)
        torch.nn.init.normal_(network.last[-1].weight, std=0.1)
    x = torch.randn(1, 1, 4, 4, generator=generator).expand(4, -1, -1, -1)
    answers = preconditioned(network)(x, 0.7, torch.arange(4)).flatten(1)
    assert (torch.cdist(answers, answers) + torch.eye(4)).min() > 1e-4
    assert torch.allclose(preconditioned(network)(x, 0.7)[0].flatten(), answers[3], atol=1e-6)


def test_what_describes_a_denoiser_is_known_through_class_and_guidance():
    denoiser = preconditioned(MLP((1, 4, 4), classes=3))
    guided = Guided(OfClass(denoiser, 1), denoiser, 2.0)
    assert (guided.event_shape, guided.data_range) == ((1, 4, 4), (-1.0, 1.0))
    assert not hasattr(guided, "network")
    assert not hasattr(guided, "one_step")
    vars(denoiser)["one_step"] = True
    assert guided.one_step is True
    assert float(nearest_trained_time(guided, 0.3)) == 0.3


def test_the_trained_times_are_known_through_class_guidance_and_another_schedule():
    network = MLP((2,), classes=3, label_span=50.0)
    table = NoisePredictor(network, DiscreteVP.linear(1e-4, 0.02, 50), event_shape=(2,), data_range=(-1.0, 1.0))
    assert float(nearest_trained_time(OfClass(table, 1), 7.4)) == 7
    other = Rescheduled(table, VE())
    guided = Guided(other, other, 2.0)
    t = nearest_trained_time(guided, 0.3)
    assert float(t) == float(nearest_trained_time(other, 0.3)) != 0.3
    assert bool(guided(torch.zeros(1, 2), t).isfinite().all())


@pytest.mark.slow  # a compiler at work
def test_a_compiled_conditional_denoiser_is_one_graph():
    """In a process of its own, where no checker of types stands between torch and the code."""
    code = """
import torch
from diffuscope.denoisers import MLP, Preconditioned
from diffuscope.schedules import VE
model = Preconditioned(MLP((2,), classes=3), VE(), 0.5, event_shape=(2,), data_range=(-1.0, 1.0))
args = torch.zeros(4, 2), torch.ones(4, dtype=torch.float64), torch.tensor([0, 1, 2, 3])
print(torch._dynamo.explain(model)(*args).graph_break_count)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["0"]


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (3, r"y: expected classes 0 .. 1, or 2 for none, got 3"),
        (torch.tensor([0, -1]), r"y: expected classes 0 .. 1, or 2 for none, got 0, -1"),
    ],
)
def test_a_class_that_is_not_there_is_one_line(y, message):
    with pytest.raises(InputError, match=message):
        OfClass(preconditioned(MLP((1, 4, 4), classes=2)), y)


def test_other_mistakes_are_one_line(generator):
    without, x = preconditioned(MLP((1, 4, 4))), torch.randn(3, 1, 4, 4, generator=generator)
    with pytest.raises(InputError, match="y: expected no class, as this denoiser was not trained with classes"):
        OfClass(without, 0)
    with pytest.raises(InputError, match=r"y: expected one class, or one per sample, shape \(3,\), got \(2,\)"):
        OfClass(preconditioned(MLP((1, 4, 4), classes=2)), torch.tensor([0, 1]))(x, 0.5)
    with pytest.raises(InputError, match="scale: expected a finite number, got nan"):
        Guided(without, without, math.nan)
    other = Preconditioned(MLP((1, 4, 4)), VP(), 0.5, event_shape=(1, 4, 4), data_range=(-1.0, 1.0))
    with pytest.raises(InputError, match="unconditional: expected the schedule of the conditional denoiser"):
        Guided(without, other, 2.0)
