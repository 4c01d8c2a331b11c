"""Three methods for the divergence of a denoiser, against each other, known matrices, and Hutchinson's variance."""

from dataclasses import dataclass

import pytest
import torch
from conftest import monte_carlo
from torch import Tensor

from diffuscope.denoisers import MLP, Batch, BatchTime, DataPredictor, Denoiser, ExactDenoiser
from diffuscope.densities.divergence import (
    Divergence,
    ExactDivergence,
    HutchinsonDivergence,
    JacobianDivergence,
    jacobian,
)
from diffuscope.errors import InputError
from diffuscope.exact import Distribution, Empirical, Gaussian, GaussianMixture, Ring
from diffuscope.schedules import VE, VP, RectifiedFlow, Schedule

MATRIX = torch.tensor([[0.7, 0.5, -0.2], [0.1, -0.4, 0.3], [0.6, -0.1, 0.2]], dtype=torch.float64)


@dataclass(frozen=True)
class Linear:
    """D = x W^T: Jacobian W everywhere."""

    matrix: Tensor
    schedule: Schedule

    def __call__(self, x_t: Batch, t: BatchTime) -> Batch:  # noqa: ARG002
        return (x_t.flatten(1) @ self.matrix.to(x_t).T).reshape(x_t.shape)


def correlated_gaussian() -> Gaussian:
    root = torch.tensor([[1.0, 0.4, 0.0], [0.0, 0.6, -0.5], [0.0, 0.0, 0.3]], dtype=torch.float64)
    return Gaussian.from_covariance(torch.tensor([0.5, -1.0, 0.2], dtype=torch.float64), root @ root.T)


def distributions() -> dict[str, Distribution]:
    draw = torch.Generator().manual_seed(3)
    means = torch.randn(4, 2, dtype=torch.float64, generator=draw)
    return {
        "gaussian": correlated_gaussian(),
        "mixture": GaussianMixture.isotropic(torch.full((4,), 0.25), means, 0.1 + means[:, 0].abs()),
        "ring": Ring(1.3),
        "finite": Empirical(means),
    }


def noised(distribution: Distribution, schedule: Schedule, t: float, count: int = 5) -> Tensor:
    draw = torch.Generator().manual_seed(1)
    x_0 = distribution.sample(count, generator=draw)
    return schedule.alpha(t) * x_0 + schedule.sigma(t) * torch.randn(x_0.shape, dtype=torch.float64, generator=draw)


@pytest.mark.parametrize("name", distributions())
@pytest.mark.parametrize("ratio", [0.1, 1.0, 30.0])
def test_the_exact_divergence_is_the_trace_of_the_jacobian(name: str, ratio: float):
    distribution, schedule = distributions()[name], VP()
    t = float(schedule.time_of_noise_to_signal(ratio))
    x_t, denoiser = noised(distribution, schedule, t), ExactDenoiser(distribution, schedule)
    exact, full = ExactDivergence()(denoiser, x_t, t), JacobianDivergence()(denoiser, x_t, t)
    assert torch.equal(exact.denoised, denoiser(x_t, t))
    assert torch.equal(full.denoised, exact.denoised)
    assert torch.allclose(exact.divergence, full.divergence, rtol=1e-9, atol=1e-12)
    symmetric = jacobian(denoiser, x_t, t)
    assert torch.allclose(symmetric, symmetric.mT, rtol=1e-8, atol=1e-10)


def test_the_jacobian_of_a_gaussians_denoiser_is_its_gain():
    distribution, schedule, t = correlated_gaussian(), VP(), 0.3
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    covariance = distribution.eigenvectors @ torch.diag(distribution.eigenvalues) @ distribution.eigenvectors.T
    gain = alpha * covariance @ torch.linalg.inv(alpha**2 * covariance + sigma**2 * torch.eye(3, dtype=torch.float64))
    value = jacobian(ExactDenoiser(distribution, schedule), noised(distribution, schedule, t), t)
    assert torch.allclose(value, gain.expand_as(value), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("divergence", [ExactDivergence(), JacobianDivergence()], ids=lambda d: type(d).__name__)
def test_at_alpha_zero_the_divergence_is_zero(divergence: Divergence, generator: torch.Generator):
    x_t = torch.randn(4, 2, dtype=torch.float64, generator=generator)
    value = divergence(ExactDenoiser(distributions()["mixture"], RectifiedFlow()), x_t, 1.0)
    assert float(value.divergence.abs().max()) < 1e-15


@pytest.mark.parametrize("rows", [1, 4, 1000])
def test_the_full_jacobian_of_a_matrix_is_that_matrix_however_it_is_chunked(rows: int):
    x_t, denoiser = torch.linspace(-1, 1, 15, dtype=torch.float64).reshape(5, 3), Linear(MATRIX, VE())
    assert torch.allclose(jacobian(denoiser, x_t, 1.0, rows=rows), MATRIX.expand(5, 3, 3), rtol=1e-15, atol=0)
    value = JacobianDivergence(rows)(denoiser, x_t, torch.linspace(0.1, 1, 5, dtype=torch.float64))
    assert torch.allclose(value.divergence, MATRIX.trace().expand(5, 1), rtol=1e-14, atol=0)


def test_the_divergence_of_a_network_on_images_is_that_of_its_jacobian_by_autograd(generator: torch.Generator):
    shape = (2, 3)
    x_t = torch.randn(4, *shape, dtype=torch.float64, generator=generator)
    t = torch.linspace(0.2, 0.8, 4, dtype=torch.float64)
    denoiser = a_network(shape)
    value = JacobianDivergence(rows=7)(denoiser, x_t, t)
    for i in range(4):
        full = torch.autograd.functional.jacobian(lambda x, i=i: denoiser(x, t[i : i + 1]), x_t[i : i + 1])
        assert isinstance(full, Tensor)
        assert float(value.divergence[i, 0]) == pytest.approx(float(full.reshape(6, 6).trace()), rel=1e-10)
    assert not value.denoised.requires_grad
    assert all(parameter.grad is None for parameter in denoiser.parameters())


def a_network(shape: tuple[int, ...]) -> DataPredictor:
    network, draw = MLP(shape, width=16, depth=1), torch.Generator().manual_seed(0)
    for parameter in network.parameters():  # its last layer starts at zero
        torch.nn.init.normal_(parameter, std=0.4, generator=draw)
    return DataPredictor(network.double(), VP(), event_shape=shape, data_range=(-1.0, 1.0))


@pytest.mark.parametrize(
    ("draw", "with_diagonal"), [(HutchinsonDivergence.rademacher, False), (HutchinsonDivergence.normal, True)]
)
def test_hutchinsons_mean_and_variance_are_those_of_the_symmetric_part(
    draw, with_diagonal: bool, generator: torch.Generator
):
    """Signs: 2 sum_{i != j} A_ij^2; normals: 2 sum A_ij^2; within 4 standard errors at 40,000 probes."""
    x_t = torch.zeros(40, 3, dtype=torch.float64)
    estimates = draw(x_t, 1000, generator=generator)(Linear(MATRIX, VE()), x_t, 1.0).divergence
    symmetric = (MATRIX + MATRIX.T) / 2
    squares = 2 * symmetric.square().sum()
    variance = squares if with_diagonal else squares - 2 * symmetric.diagonal().square().sum()
    assert monte_carlo(estimates).agrees_with(float(MATRIX.trace()))
    spread = monte_carlo((estimates - MATRIX.trace()).square())
    assert spread.agrees_with(float(variance))
    assert spread.standard_error < 0.03 * float(variance)


def test_signs_are_exact_where_the_jacobian_is_diagonal(generator: torch.Generator):
    x_t = torch.ones(4, 3, dtype=torch.float64)
    diagonal = torch.diag(MATRIX.diagonal())
    value = HutchinsonDivergence.rademacher(x_t, 5, generator=generator)(Linear(diagonal, VE()), x_t, 1.0)
    assert torch.allclose(value.divergence, MATRIX.trace().expand(4, 5), rtol=1e-14, atol=0)


def test_the_same_generator_gives_the_same_probes():
    x_t = torch.zeros(3, 2, 2, dtype=torch.float32)
    first, again, other = (
        HutchinsonDivergence.rademacher(x_t, 6, generator=torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)
    )
    assert torch.equal(first.probes, again.probes)
    assert not torch.equal(first.probes, other.probes)
    assert set(first.probes.flatten().tolist()) == {-1.0, 1.0}


def test_the_answer_has_the_dtype_of_the_input_and_the_divergence_is_float64(generator: torch.Generator):
    x_t, denoiser = torch.ones(4, 3), Linear(MATRIX, VE())
    for divergence in (JacobianDivergence(), HutchinsonDivergence.rademacher(x_t, 2, generator=generator)):
        value = divergence(denoiser, x_t, 1.0)
        assert value.denoised.dtype == torch.float32
        assert value.divergence.dtype == torch.float64
    distribution = correlated_gaussian()
    assert ExactDivergence()(ExactDenoiser(distribution, VE()), x_t, 1.0).divergence.dtype == torch.float64


def test_what_cannot_be_differentiated_and_what_is_too_large_is_one_clear_line(generator: torch.Generator):
    @dataclass(frozen=True)
    class Blind:
        schedule: Schedule

        def __call__(self, x_t: Batch, t: BatchTime) -> Batch:  # noqa: ARG002
            return x_t.detach()

    x_t = torch.zeros(2, 3)
    probes = HutchinsonDivergence.rademacher(x_t, 2, generator=generator)
    refusals: list[tuple[str, Divergence, Denoiser, Tensor]] = [
        ("denoiser: expected one that autograd", JacobianDivergence(), Blind(VE()), x_t),
        ("denoiser: expected one that autograd", probes, Blind(VE()), x_t),
        (
            "divergence: ExactDivergence expects an ExactDenoiser, got Linear",
            ExactDivergence(),
            Linear(MATRIX, VE()),
            x_t,
        ),
        ("at most 4096 dimensions, got 4097", JacobianDivergence(), Blind(VE()), torch.zeros(1, 4097)),
        ("x_t: expected the shape that the probes were drawn for", probes, Linear(MATRIX, VE()), torch.zeros(3, 3)),
    ]
    for line, divergence, denoiser, x in refusals:
        with pytest.raises(InputError, match=line):
            divergence(denoiser, x, 1.0)
    with pytest.raises(InputError, match="probes: expected at least 2"):
        HutchinsonDivergence.rademacher(x_t, 1, generator=generator)
    with pytest.raises(InputError, match="rows: expected at least 1"):
        JacobianDivergence(0)
