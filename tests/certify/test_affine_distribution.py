"""Chosen noise, and the exact distribution of a sampler's endpoint read off with it."""

import pytest
import torch

from diffuscope.certify import Target, affine_map, sampler_target, unequal_gaussian, weak_error
from diffuscope.certify.affine import marginal
from diffuscope.certify.asked import NotChosenError
from diffuscope.certify.chosen_noise import ChosenNoise, no_noise
from diffuscope.denoisers import ExactDenoiser
from diffuscope.exact import Gaussian
from diffuscope.samplers import DDPM
from diffuscope.schedules import VE, VP


def test_every_way_to_draw_a_normal_is_answered_by_the_chosen_noise():
    x = torch.zeros(3, 2, dtype=torch.float64)
    with ChosenNoise(lambda k, drawn: torch.full(drawn.shape, float(k))) as chosen:
        drawn = [
            torch.randn(3, 2, generator=torch.Generator().manual_seed(0)),
            torch.randn_like(x),
            torch.normal(5.0, 2.0, (3, 2)),
            torch.normal(torch.ones(3, 2), 0.5),
            x.normal_(mean=1.0, std=3.0),
        ]
        torch.randint(0, 2, (2,))
    assert [float(value[0, 0]) for value in drawn] == [0.0, 1.0, 5.0 + 2 * 2.0, 1.0 + 0.5 * 3.0, 1.0 + 3.0 * 4.0]
    assert x[0, 0] == 13.0
    assert (chosen.draws, chosen.others) == (5, 1)


def test_chosen_noise_ends_with_its_context_and_keeps_dtypes():
    with ChosenNoise(no_noise):
        assert torch.randn(2, dtype=torch.float32, generator=torch.Generator()).dtype == torch.float32
    assert float(torch.randn(2, generator=torch.Generator().manual_seed(0)).abs().max()) > 0


def test_draws_from_another_generator_are_not_ours_to_choose():
    ours, theirs = torch.Generator().manual_seed(0), torch.Generator().manual_seed(0)
    with ChosenNoise(no_noise, ours) as chosen:
        assert float(torch.randn(4, generator=ours).abs().max()) == 0
        assert float(torch.randn(4, generator=theirs).abs().max()) > 0
        assert float(torch.randn_like(torch.ones(4)).abs().max()) == 0  # from nobody's in particular
    assert (chosen.draws, chosen.others) == (2, 1)


def known_walk() -> Target:
    """x -> M x + c + 0.3 xi_1 + 0.4 R xi_2, for any denoiser."""

    def run(denoiser, x, times, generator):  # noqa: ARG001
        M = torch.tensor([[0.5, 0.2], [0.0, 0.7]], dtype=x.dtype)
        R = torch.tensor([[0.0, 1.0], [1.0, 0.0]], dtype=x.dtype)
        first = torch.randn(x.shape, dtype=x.dtype, generator=generator)
        second = torch.randn(x.shape, dtype=x.dtype, generator=generator)
        return x @ M.T + 1.5 + 0.3 * first + 0.4 * second @ R.T

    return Target("walk", run, 1, True, 0)


def test_the_map_of_a_known_walk_is_read_off_exactly():
    problem = unequal_gaussian()
    found = affine_map(known_walk(), problem.denoiser(VE()), problem.times(VE(), 3))
    assert torch.allclose(found.A, torch.tensor([[0.5, 0.2], [0.0, 0.7]], dtype=torch.float64), atol=1e-14)
    assert torch.allclose(found.b, torch.tensor([1.5, 1.5], dtype=torch.float64), atol=1e-14)
    assert found.misfit < 1e-14
    mean, covariance = found.moments(torch.zeros(2).double(), torch.eye(2).double())
    exact = found.A @ found.A.T + (0.09 + 0.16) * torch.eye(2).double()
    assert torch.allclose(mean, found.b, atol=1e-14)
    assert torch.allclose(covariance, exact, atol=1e-14)


def test_the_same_draw_used_twice_has_four_times_the_variance_of_one():
    """The difference between a reused draw and two independent ones."""

    def run(denoiser, x, times, generator):  # noqa: ARG001
        noise = torch.randn(x.shape, dtype=x.dtype, generator=generator)
        return x + noise + noise

    problem = unequal_gaussian()
    found = affine_map(Target("twice", run, 1, True, 0), problem.denoiser(VE()), problem.times(VE(), 1))
    _, covariance = found.moments(torch.zeros(2).double(), torch.zeros(2, 2).double())
    assert torch.allclose(covariance, 4 * torch.eye(2).double(), atol=1e-14)


@pytest.mark.parametrize("d", [2, 5, 7, 11])
def test_the_map_is_read_off_in_any_dimension(d: int):
    """One step of DDPM on N(0, I) in VE: D = x/(1 + sigma^2), and the posterior variance of a single data point."""
    denoiser = ExactDenoiser(Gaussian.isotropic(torch.zeros(d, dtype=torch.float64), 1.0), VE())
    found = affine_map(sampler_target(DDPM()), denoiser, torch.tensor([2.0, 1.0], dtype=torch.float64))
    identity = torch.eye(d, dtype=torch.float64)
    assert torch.allclose(found.A, ((1 / 4) + (1 - 1 / 4) / (1 + 2.0**2)) * identity, atol=1e-14)
    assert torch.allclose(found.C @ found.C.T, (1 - 1 / 4) * identity, atol=1e-14)


def test_a_map_that_is_not_affine_is_found_out():
    def run(denoiser, x, times, generator):  # noqa: ARG001
        return x.abs() + torch.randn(x.shape, dtype=x.dtype, generator=generator)

    problem = unequal_gaussian()
    found = affine_map(Target("abs", run, 1, True, 0), problem.denoiser(VE()), problem.times(VE(), 1))
    assert found.misfit > 1e-2


def test_the_exact_weak_error_agrees_with_monte_carlo():
    problem, n = unequal_gaussian(), 6
    target, times = sampler_target(DDPM()), problem.times(VP(), n)
    denoiser, distribution = problem.denoiser(VP()), problem.distribution
    assert isinstance(distribution, Gaussian)
    mean, covariance = affine_map(target, denoiser, times).moments(*marginal(distribution, VP(), float(times[0])))
    draw, samples = torch.Generator().manual_seed(0), 200_000
    noise = torch.randn(samples, 2, dtype=torch.float64, generator=draw)
    x = VP().alpha(times[0]) * distribution.sample(samples, generator=draw).double() + VP().sigma(times[0]) * noise
    ended = target.run(denoiser, x, times, draw)
    standard_error = ended.std(0) / samples**0.5
    assert bool(((ended.mean(0) - mean).abs() < 4 * standard_error).all())
    # Var of a sample variance of a normal: 2 v^2 / n
    variance_error = covariance.diagonal() * (2 / samples) ** 0.5
    assert bool(((ended.var(0) - covariance.diagonal()).abs() < 4 * variance_error).all())
    assert weak_error(target, denoiser, times).largest > 0.05  # six steps are few, and it shows


def drawing(noise) -> Target:
    """x -> x + 0.5 xi, with xi as `noise(x, generator)` draws it."""
    return Target("drawing", lambda denoiser, x, times, generator: x + 0.5 * noise(x, generator), 1, True, 0)  # noqa: ARG005


ROOT12 = 12**0.5
SOUND_NOISE = {
    "normal": lambda x, g: torch.randn(x.shape, dtype=x.dtype, generator=g),
    "in single precision": lambda x, g: torch.randn(x.shape, generator=g).to(x),
    "shaped as images": lambda x, g: torch.randn((*x.shape, 1, 1), dtype=x.dtype, generator=g)[..., 0, 0],
    "rows last": lambda x, g: torch.randn(x.shape[::-1], dtype=x.dtype, generator=g).T,
    "in one flat draw": lambda x, g: torch.randn(x.numel(), dtype=x.dtype, generator=g).reshape(x.shape),
    "uniform": lambda x, g: ROOT12 * (torch.rand(x.shape, dtype=x.dtype, generator=g) - 0.5),
    "uniform in place": lambda x, g: torch.empty_like(x).uniform_(-(3**0.5), 3**0.5, generator=g),
    "a number of each row": lambda x, g: (
        torch.randn(len(x), dtype=x.dtype, generator=g)[:, None] * x.new_tensor([1, 0])
        + torch.randn(len(x), dtype=x.dtype, generator=g)[:, None] * x.new_tensor([0, 1])
    ),
}


@pytest.mark.parametrize("kind", SOUND_NOISE)
def test_noise_of_any_shape_precision_and_law_has_its_exact_covariance(kind: str):
    """Mean 0 and variance 1 in both coordinates: the covariance of x + 0.5 xi is P + 0.25 I."""
    problem = unequal_gaussian()
    found = affine_map(drawing(SOUND_NOISE[kind]), problem.denoiser(VE()), problem.times(VE(), 1))
    assert found.misfit < 1e-6
    _, covariance = found.moments(torch.zeros(2).double(), torch.eye(2).double())
    assert torch.allclose(covariance, 1.25 * torch.eye(2).double(), atol=1e-7)


@pytest.mark.parametrize(
    "noise",
    [
        lambda x, g: torch.randn(x.shape[1:], dtype=x.dtype, generator=g).expand(x.shape),
        lambda x, g: 2.0 * torch.randint(0, 2, x.shape, generator=g) - 1,
    ],
    ids=["shared by the rows", "whole numbers"],
)
def test_noise_that_cannot_be_chosen_row_by_row_has_no_affine_map(noise):
    problem = unequal_gaussian()
    with pytest.raises(NotChosenError, match=r"^(rows share a draw|draws that cannot be chosen)$"):
        affine_map(drawing(noise), problem.denoiser(VE()), problem.times(VE(), 1))


def test_signs_of_normal_noise_are_no_affine_map():
    signs = drawing(lambda x, g: torch.randn(x.shape, dtype=x.dtype, generator=g).sign())
    problem = unequal_gaussian()
    assert affine_map(signs, problem.denoiser(VE()), problem.times(VE(), 1)).misfit > 1e-2
