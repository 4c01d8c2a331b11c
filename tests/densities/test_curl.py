"""The curl of a score: zero for exact distributions, the known antisymmetric part for a linear denoiser, unbiased by
probes.
"""

import pytest
import torch
from conftest import monte_carlo

from diffuscope.denoisers import MLP, ExactDenoiser, Preconditioned
from diffuscope.densities.jacobian_symmetry import curl, curl_by_probes, relative_curl
from diffuscope.errors import InputError
from diffuscope.exact import Empirical, Gaussian, GaussianMixture
from diffuscope.schedules import VE, VP, RectifiedFlow


class Linear:
    """D = x A^T."""

    def __init__(self, A, schedule):
        self.A, self.schedule = A, schedule

    def __call__(self, x_t, t):
        del t
        return (x_t.flatten(1) @ self.A.to(x_t.dtype).T).reshape(x_t.shape)


def matrix(d, seed=0):
    return torch.randn(d, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def every(n, value):
    return torch.full((n,), value, dtype=torch.float64)


def points(*shape, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("schedule", [VP(), VE(), RectifiedFlow()], ids=lambda s: type(s).__name__)
def test_curl_of_a_linear_denoiser_is_that_of_its_matrix(schedule):
    A, t = matrix(6), float(schedule.time_of_noise_to_signal(0.7))
    K = float(schedule.alpha(t)) * A
    value = curl(Linear(A, schedule), points(5, 2, 3), t)
    rotation, denoiser, score = (float(m.square().sum()) for m in (K - K.T, K, K - torch.eye(6)))
    assert torch.allclose(value.rotation, every(5, rotation), rtol=1e-13, atol=0)
    assert torch.allclose(value.of_denoiser, every(5, rotation / denoiser).sqrt(), rtol=1e-13, atol=0)
    assert torch.allclose(value.of_score, every(5, rotation / score).sqrt(), rtol=1e-13, atol=0)
    assert torch.allclose(
        relative_curl(value.squares), torch.maximum(value.of_denoiser, value.of_score), rtol=1e-13, atol=0
    )
    assert value.rotation_error.tolist() == [0] * 5


def test_curl_is_two_for_a_pure_rotation_and_grows_with_the_planted_antisymmetric_part():
    rotation = torch.tensor([[0.0, -1.0], [1.0, 0.0]], dtype=torch.float64)
    x = points(4, 2)
    assert torch.allclose(curl(Linear(rotation, VE()), x, 1.0).of_denoiser, every(4, 2.0))
    assert torch.allclose(curl(Linear(torch.eye(2) + rotation, VE()), x, 1.0).of_score, every(4, 2.0))
    sizes = [float(curl(Linear(0.5 * torch.eye(2) + c * rotation, VE()), x, 1.0).of_score[0]) for c in (1e-8, 1e-4)]
    assert sizes[1] / sizes[0] == pytest.approx(1e4, rel=1e-6)
    assert sizes[0] == pytest.approx(2 * 2**0.5 * 1e-8 / (0.5 * 2**0.5), rel=1e-6)


def test_exact_distributions_have_no_curl_beyond_rounding():
    generator = torch.Generator().manual_seed(3)
    roots = torch.randn(3, 4, 4, generator=generator, dtype=torch.float64)
    means = torch.randn(3, 4, generator=generator, dtype=torch.float64)
    data = torch.randn(30, 4, generator=generator, dtype=torch.float64)
    distributions = (
        GaussianMixture.from_covariances(torch.tensor([0.5, 0.3, 0.2]), means, roots @ roots.mT / 4),
        Gaussian.fit([data]),
        Empirical(data),
    )
    for distribution in distributions:
        for ratio in (0.1, 1.0, 10.0):
            value = curl(ExactDenoiser(distribution, VP()), points(20, 4), float(VP().time_of_noise_to_signal(ratio)))
            assert float(value.of_score.max()) < 1e-13
    generator = torch.Generator().manual_seed(4)
    value = curl_by_probes(ExactDenoiser(distributions[0], VP()), points(20, 4), 0.3, generator=generator)
    assert float(value.of_score.max()) < 1e-13


def test_probes_are_unbiased_for_the_three_squares_and_for_their_own_error():
    """4000 pairs of probes for a linear denoiser with a known antisymmetric part, within 4 standard errors."""
    A = matrix(5, seed=2)
    exact = curl(Linear(A, VE()), points(1, 5), 1.0)
    many = curl_by_probes(
        Linear(A, VE()), points(1, 5).expand(4000, 5).clone(), 1.0, probes=2, generator=torch.Generator().manual_seed(0)
    )
    for name in ("rotation", "denoiser_size", "score_size"):
        assert monte_carlo(getattr(many, name)).agrees_with(float(getattr(exact, name)[0]))
    stated = monte_carlo(many.rotation_error**2)
    assert stated.agrees_with(float((many.rotation - exact.rotation).square().mean()), 5.0)


def test_more_probes_lower_the_error_by_the_square_root():
    A, x = matrix(8), points(500, 8)
    errors = [
        float(curl_by_probes(Linear(A, VE()), x, 1.0, probes=k, generator=torch.Generator().manual_seed(1))
              .rotation_error.square().mean().sqrt())
        for k in (4, 16)
    ]  # fmt: skip
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.1)


def test_probed_curl_of_a_network_in_float32_agrees_with_its_jacobian():
    """A network with random weights has curl; 256 probes against the exact Jacobian, within 4 standard errors."""
    denoiser = Preconditioned(MLP((6,), width=32), VE(), 1.0, event_shape=(6,), data_range=(-1.0, 1.0))
    torch.nn.init.normal_(list(denoiser.parameters())[-2], generator=torch.Generator().manual_seed(2))
    x = points(4, 6, dtype=torch.float32)
    exact = curl(denoiser, x, 0.5)
    probed = curl_by_probes(denoiser, x, 0.5, probes=256, generator=torch.Generator().manual_seed(5))
    assert float(exact.of_score.min()) > 1e-2
    assert bool(((probed.rotation - exact.rotation).abs() < 4 * probed.rotation_error).all())


def test_what_cannot_be_measured_is_refused():
    x, generator = points(3, 2), torch.Generator()
    with pytest.raises(InputError, match="probes: expected at least 2"):
        curl_by_probes(Linear(torch.eye(2), VE()), x, 1.0, probes=1, generator=generator)
    with pytest.raises(InputError, match="denoiser: expected an answer that torch can"):
        curl_by_probes(ExactDenoiser(Empirical(x), VE()), x, 1.0, generator=generator)
    with pytest.raises(InputError, match="x_t: expected finite"):
        curl(Linear(torch.eye(2), VE()), x * float("inf"), 1.0)

    class Blind(Linear):
        def __call__(self, x_t, t):
            return super().__call__(x_t.detach(), t)

    for measure in (curl, lambda *a: curl_by_probes(*a, generator=generator)):
        with pytest.raises(InputError, match="denoiser: expected"):
            measure(Blind(torch.eye(2), VE()), x, 1.0)
