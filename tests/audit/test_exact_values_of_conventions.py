"""Conventions, second models, starts and Gaussians against enumeration and closed forms, in small unsymmetric cases."""

import inspect
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from diffuscope.audit.component_levels import measure_components
from diffuscope.audit.conventions import (
    INVERSES,
    READINGS,
    Instant,
    black_box_conventions,
    declared,
    gaussian_error,
    relative_errors,
    shifted_levels,
)
from diffuscope.audit.data_gaussian import CONVERGED, Truncation, batch_size, fitted_examples
from diffuscope.audit.ends import channel_means, level_errors, matched_start
from diffuscope.audit.questions.agreement import MISMATCH, _not_shared
from diffuscope.audit.second_model import Translated, shared_levels, translated
from diffuscope.audit.subject import Levels, noised
from diffuscope.denoisers import ExactDenoiser
from diffuscope.exact import Gaussian
from diffuscope.schedules import VE, VP, RectifiedFlow

# conventions and second models


@pytest.mark.parametrize("schedule", [VP(), VE(0.01, 50.0), RectifiedFlow()], ids=["VP", "VE", "flow"])
@pytest.mark.parametrize("name", list(INVERSES))
def test_what_a_network_says_is_inverted_by_its_reading(name, schedule):
    t = 0.37 * (schedule.t_max - schedule.t_min) + schedule.t_min
    instant = Instant(*(float(f(t)) for f in (schedule.alpha, schedule.sigma, schedule.alpha_dot, schedule.sigma_dot)))
    clean, noise = torch.tensor([[0.7, -1.3]]).double(), torch.tensor([[-0.4, 2.2]]).double()
    x = instant.alpha * clean + instant.sigma * noise
    said = INVERSES[name](x, clean, instant)
    meant = {
        "clean data": clean, "noise": noise, "noise times sigma": instant.sigma * noise,
        "velocity dx/dt": instant.alpha_dot * clean + instant.sigma_dot * noise,
        "v = alpha noise - sigma data": instant.alpha * noise - instant.sigma * clean, "score": -noise / instant.sigma,
    }[name]  # fmt: skip
    assert torch.allclose(said, meant, rtol=1e-9, atol=0)
    assert torch.allclose(READINGS[name](x, said, instant), clean, rtol=1e-9, atol=0)
    assert instant.ratio == pytest.approx(instant.sigma / instant.alpha)


def test_the_error_of_a_reading_is_relative_to_the_gaussians_and_clipped():
    variances = torch.tensor([4.0, 1.0], dtype=torch.float64)
    assert gaussian_error(variances, 2.0) == pytest.approx(16 / 8 + 4 / 5)

    class Off:
        schedule = VE(0.01, 50.0)

        def __call__(self, x_t, t):
            del t
            return torch.zeros_like(x_t)

    clean = torch.tensor([[3.0, 1.0], [0.0, 2.0]])
    found = relative_errors(declared(Off()), {"data": READINGS["clean data"]}, 2.0, clean, torch.zeros(2, 2), variances)
    assert found[0] == pytest.approx(np.array([10.0, 4.0]) / 2.8, rel=1e-5)
    beyond = relative_errors(declared(Off()), READINGS, 500.0, clean, torch.zeros(2, 2), variances)
    assert (beyond == 1e12).all()  # no level of the schedule is near


def test_shifted_levels_ask_at_so_many_times_the_noise():
    schedule = VE(0.01, 50.0)
    moved = shifted_levels(schedule)
    assert len(moved) == 10
    for factor in (0.2, 1 / 1.5, 1.25, 3.0):
        shift = moved[f"the declared time of {factor:.3g} times the noise"]
        assert float(schedule.noise_to_signal(shift(0.4))) == pytest.approx(
            factor * float(schedule.noise_to_signal(0.4))
        )


def test_a_black_box_is_asked_at_reversed_times_within_its_range():
    class Asked:
        schedule = VP()

        def __init__(self):
            self.times = []

        def __call__(self, x_t, t):
            self.times.append(float(t))
            return x_t

    asked = Asked()
    first, last = asked.schedule.t_min, asked.schedule.t_max
    named = {c.name: c for c in list(black_box_conventions(asked))[:14]}
    x = torch.ones(1, 2)
    named["the reversed time t_max + t_min - t"].answer(x, 0.3)
    assert asked.times[-1] == pytest.approx(first + last - 0.3)
    named["the reversed time t_max - t"].answer(x, 0.3)
    assert asked.times[-1] == pytest.approx(last - 0.3)
    named["the reversed time t_max + t_min - t"].answer(x, first)  # at the very end
    assert asked.times[-1] == pytest.approx(last)
    with pytest.raises(ValueError, match="outside"):
        named["the reversed time t_max - t"].answer(x, last)
    assert len(asked.times) == 3


class Ranged(ExactDenoiser):
    """A denoiser of data in a stated range."""

    def __init__(self, distribution, schedule, data_range):
        super().__init__(distribution, schedule)
        object.__setattr__(self, "data_range", data_range)


@pytest.mark.parametrize("own", [VE(0.001, 900.0), VP(), RectifiedFlow()], ids=["VE", "VP", "flow"])
def test_a_model_of_other_units_and_schedule_is_translated_exactly(own):
    """Of N(mu, S) in [0, 4], asked for its data as y = 2 x + 2 in [-1, 1]: the posterior mean is affine too."""
    mean, deviation = torch.tensor([1.5, 2.5]).double(), torch.tensor([0.4, 1.1]).double()

    def gaussian(scale, shift):
        x = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]]).double() * 0.75**0.5
        return Gaussian.fit([scale * (mean + x * deviation) + shift])

    schedule = VP()
    first = Ranged(gaussian(0.5, -1.0), schedule, (-1.0, 1.0))
    second = Ranged(gaussian(1.0, 0.0), own, (0.0, 4.0))
    made = translated(second, first)
    assert (made.scale, made.shift) == (2.0, 2.0)
    x_t = torch.tensor([[0.3, -0.8], [-1.2, 0.6]]).double()
    for t in (0.2, 0.5):
        assert torch.allclose(made(x_t, t), first(x_t, t).double(), atol=1e-6)
        assert float(made.mismatch(t)) == pytest.approx(1.0, abs=1e-9)


def test_levels_are_shared_within_the_second_models_range_in_its_units():
    second = Translated(ExactDenoiser(Gaussian.fit([torch.randn(9, 2).double()]), VE(0.1, 8.0)), VE(0.01, 50.0), 2.0)
    ratios = torch.tensor([4.01, 4.0, 1.0, 0.05, 0.0499]).double()
    assert shared_levels(second, Levels(ratios, ratios)).tolist() == [False, True, True, True, False]


def test_the_levels_that_a_second_model_covers_are_told_in_the_first_ones_units():
    told = inspect.unwrap(_not_shared)
    second = Translated(ExactDenoiser(Gaussian.fit([torch.randn(9, 2).double()]), VE(0.1, 8.0)), VE(0.01, 50.0), 2.0)
    ratios, both = torch.tensor([9.0, 0.5]).double(), np.array([True, True])

    def asked(matter, kept, mismatch):
        session = SimpleNamespace(measures=SimpleNamespace(matter=matter), levels=Levels(ratios, ratios))
        return told(session, SimpleNamespace(kept=kept, second=second, mismatch=mismatch))

    nowhere = "the second model covers σ/α = 0.05 to 4, and samples are decided between 0.5 and 9"
    assert asked(both, np.array([False, True]), 1.0) == nowhere
    assert asked(np.array([False, True]), np.array([False, True]), MISMATCH) == ""
    assert asked(both, both, 1.07) == "noise levels of the two models differ by up to 7%"
    assert asked(~both, both, 1.0) == "the first model covers none of the noise levels that decide samples"


# starts and Gaussians


def test_noised_examples_are_the_forward_process_at_one_time():
    """Of VP, alpha^2 + sigma^2 = 1: data and noise of equal size and at right angles keep their size."""
    schedule, t = RectifiedFlow(), 0.25
    clean, noise = torch.tensor([[4.0, 0.0]]), torch.tensor([[0.0, 8.0]])
    assert noised(schedule, clean, noise, t).tolist() == [[3.0, 2.0]]
    x = noised(VP(), clean, noise / 2, 0.3)
    assert x.dtype == torch.float32
    assert float(x.norm()) == pytest.approx(4.0, rel=1e-6)
    assert float(x[0, 1] / x[0, 0]) == pytest.approx(float(VP().noise_to_signal(0.3)), rel=1e-6)


def test_a_matched_start_has_the_covariance_of_noised_data():
    x = torch.tensor([[3.0, 0.0], [-3.0, 0.0], [0.0, 1.0], [0.0, -1.0]]).double() + torch.tensor([2.0, -1.0])
    gaussian = Gaussian.fit([x])
    alpha, sigma = 0.6, 1.7
    moved = matched_start(gaussian, alpha, sigma, torch.eye(2).double())
    root = (moved - alpha * gaussian.mean).mT  # the map is linear and symmetric
    covariance = alpha**2 * torch.cov(x.mT, correction=0) + sigma**2 * torch.eye(2)
    assert torch.allclose(root @ root.mT, covariance, rtol=1e-6, atol=0)
    assert torch.allclose(root, root.mT)


def test_errors_by_level_are_squares_and_means_per_channel():
    class Constant:
        schedule = VE(0.01, 50.0)

        def __call__(self, x_t, t):
            del t
            return torch.ones_like(x_t)

    times = torch.tensor([0.5, 0.2]).double()
    clean = torch.tensor([[[[1.0, 3.0]], [[2.0, 6.0]]]])
    found = level_errors(Constant(), Levels(times, times), clean, torch.zeros_like(clean))
    assert found["squares"].tolist() == [[0 + 4 + 1 + 25]] * 2
    assert found["means"].tolist() == [[[-1.0, -3.0]]] * 2
    assert channel_means(torch.tensor([[1.0, 2.0, 6.0]])).tolist() == [[1.0, 2.0, 6.0]]
    assert channel_means(torch.tensor([[1.0, 2.0, 6.0, 7.0]])).tolist() == [[4.0]]


def test_a_truncated_gaussian_says_what_it_holds():
    made = Truncation(pairs=40, dimension=12_288, share=0.876, converged=31, examples=5000)
    assert made.name == "a Gaussian of 40 principal components, with one variance for the rest,"
    text = str(made)
    assert "In 12,288 dimensions" in text
    assert (
        "40 leading principal components of 5,000 examples (87.6% of their variance; 31 of them converged to 1%)"
        in text
    )
    assert "for the other 12,248 directions" in text
    assert CONVERGED == 0.01
    whole = Truncation(pairs=40, dimension=12_288, share=0.876, converged=40, examples=5000)
    assert "; all of them converged" in str(whole)
    assert batch_size(2**23) == 1
    assert batch_size(2**21) == 4
    assert batch_size(1) == 4096
    assert fitted_examples(4, 2**28, torch.Generator()) is None
    assert len(fitted_examples(5, 2**28, torch.Generator().manual_seed(0))) == 4  # pyright: ignore[reportArgumentType]


def test_where_every_component_is_below_the_lowest_level_none_is_measured():
    x = 0.01 * torch.tensor([[3.0, 0.0], [-3.0, 0.0], [0.0, 1.0], [0.0, -1.0]]).double()
    gaussian, ratios = Gaussian.fit([x]), torch.tensor([0.5, 0.1]).double()
    session = SimpleNamespace(
        subject=SimpleNamespace(denoiser=ExactDenoiser(gaussian, VE(0.01, 50.0)), train=x),
        references=SimpleNamespace(gaussian=gaussian),
        levels=Levels(ratios, ratios),
        generated={"states": torch.ones(2, 3, 2).double().numpy()},
    )
    found = inspect.unwrap(measure_components)(session)
    assert found["variances"].shape == (0,)
    assert found["squares"].shape == (3, 2, 0)
    session.levels = Levels(ratios / 50, ratios / 50)  # twice 0.002 is below the deviations of both
    found = inspect.unwrap(measure_components)(session)
    assert found["variances"].tolist() == pytest.approx([4.5e-4, 0.5e-4])
    assert found["squares"].shape == (3, 2, 2)
