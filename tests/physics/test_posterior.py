"""Exact posteriors, against dense formulas, quadrature and direct sums."""

import math
import sys
from collections.abc import Callable

import pytest
import torch
from conftest import measured_order
from small_posteriors import KINDS, SHAPE, D, dense, finite_set, observed, prior_of, random
from torch import Tensor

from diffuscope.denoisers import ExactDenoiser
from diffuscope.errors import InputError
from diffuscope.exact import Box, Empirical, Gaussian, GaussianMixture, posterior_sample
from diffuscope.physics import (
    Grid,
    LinearObservation,
    NonlinearObservation,
    Poisson,
    at_nodes,
    log_evidence,
    posterior,
    posterior_means,
    posterior_weights,
    where,
)
from diffuscope.physics.priors import joint_sine_prior, sine_prior
from diffuscope.schedules import VE


def conditioned_densely(mean: Tensor, covariance: Tensor, H: LinearObservation, y: Tensor) -> tuple[Tensor, Tensor]:
    """mu + K (y - H mu) and (I - K H) Sigma."""
    M = H.matrix
    of_y = M @ covariance @ M.T + H.noise**2 * torch.eye(len(M), dtype=torch.float64)
    gain = covariance @ M.T @ torch.linalg.pinv(of_y, rtol=1e-12)
    return mean + gain @ (y - M @ mean), covariance - gain @ M @ covariance


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("noise", [0.3, 0.0])
def test_a_gaussian_conditions_to_the_textbook_formula(kind: str, noise: float) -> None:
    prior, H, y = observed(kind, noise)
    exact = posterior(prior, H, y)
    mean, covariance = conditioned_densely(prior.mean.flatten(), dense(prior), H, y)
    torch.testing.assert_close(exact.mean.flatten(), mean, rtol=0, atol=1e-12)
    torch.testing.assert_close(dense(exact), covariance, rtol=0, atol=1e-12)
    U = exact.eigenvectors
    torch.testing.assert_close(U.T @ U, torch.eye(U.shape[1], dtype=torch.float64), rtol=0, atol=1e-13)
    assert exact.data_range == prior.data_range
    torch.testing.assert_close(posterior_means(prior, H, torch.stack([0 * y, y]))[1], exact.mean, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("m", [1, 3])
def test_a_hard_constraint_is_the_limit_of_small_noise_and_holds_in_every_draw(kind: str, m: int) -> None:
    prior, H, y = observed(kind, 0.0, m)
    limit = posterior(prior, H, y)

    def distance(n: int) -> float:
        near = posterior(prior, LinearObservation(H.matrix, SHAPE, 1 / n), y)
        return float((dense(near) - dense(limit)).norm() + (near.mean - limit.mean).norm())

    assert measured_order(distance, [100, 200, 400]).order == pytest.approx(2, abs=0.01)
    assert len(limit.eigenvalues) == {"dense": D - m, "low rank": 5 - m, "tail": 3 + m, "isotropic": m}[kind]
    draws = limit.sample(50, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(H(draws), y.expand(50, -1), rtol=0, atol=1e-13)
    x_t = random(4, *SHAPE)  # A2: the denoiser of a distribution on H x = y satisfies it, too
    for sigma in (1e-6, 1.0, 100.0):
        denoised = ExactDenoiser(limit, VE(1e-9, 200.0))(x_t, sigma)
        torch.testing.assert_close(H(denoised), y.expand(4, -1), rtol=0, atol=1e-12)


def test_small_noise_does_not_cancel() -> None:
    v, r = 2.0, 1e-11
    exact = posterior(Gaussian.isotropic(torch.zeros(1), v), at_nodes(torch.tensor([0]), (1,), noise=r), torch.ones(1))
    assert exact.trace == pytest.approx(v * r**2 / (v + r**2), rel=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("first", "second"), [(0.3, 0.3), (0.0, 0.3), (0.3, 0.0), (0.0, 0.0)])
def test_conditioning_twice_is_conditioning_on_both(kind: str, first: float, second: float) -> None:
    prior, H, _ = observed(kind, 1.0)
    x = prior.sample(1, generator=torch.Generator().manual_seed(6))
    one, two = LinearObservation(H.matrix[:2], SHAPE, first), LinearObservation(H.matrix[2:], SHAPE, second)
    y, z = one(x)[0] + first, two(x)[0] - second
    forward, backward = posterior(posterior(prior, one, y), two, z), posterior(posterior(prior, two, z), one, y)
    torch.testing.assert_close(forward.mean, backward.mean, rtol=0, atol=1e-11)
    torch.testing.assert_close(dense(forward), dense(backward), rtol=0, atol=1e-11)
    evidence = log_evidence(prior, one, y) + log_evidence(posterior(prior, one, y), two, z)
    if first == second:
        both = LinearObservation(H.matrix, SHAPE, first)
        together = posterior(prior, both, torch.cat([y, z]))
        torch.testing.assert_close(forward.mean, together.mean, rtol=0, atol=1e-11)
        torch.testing.assert_close(dense(forward), dense(together), rtol=0, atol=1e-11)
        assert evidence == pytest.approx(log_evidence(prior, both, torch.cat([y, z])), abs=1e-10)
    else:
        assert evidence == pytest.approx(
            log_evidence(prior, two, z) + log_evidence(posterior(prior, two, z), one, y), abs=1e-10
        )
    if second == 0:  # a constraint that holds already changes nothing
        again = posterior(forward, two, z)
        torch.testing.assert_close(dense(again), dense(forward), rtol=0, atol=1e-12)
        torch.testing.assert_close(again.mean, forward.mean, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_the_evidence_is_the_density_of_y(kind: str) -> None:
    prior, H, y = observed(kind, 0.3)
    covariance = H.matrix @ dense(prior) @ H.matrix.T + 0.09 * torch.eye(3, dtype=torch.float64)
    exact = torch.distributions.MultivariateNormal(H.matrix @ prior.mean.flatten(), covariance).log_prob(y)
    assert log_evidence(prior, H, y) == pytest.approx(float(exact), abs=1e-11)


def test_the_evidence_of_more_numbers_than_the_prior_has_dimensions() -> None:
    prior, H, y = observed("low rank", 0.3, m=7)
    covariance = H.matrix @ dense(prior) @ H.matrix.T + 0.09 * torch.eye(7, dtype=torch.float64)
    exact = torch.distributions.MultivariateNormal(H.matrix @ prior.mean.flatten(), covariance).log_prob(y)
    assert log_evidence(prior, H, y) == pytest.approx(float(exact), abs=1e-11)
    hard, r = LinearObservation(H.matrix, SHAPE), 1e-5
    y = H(prior.sample(1, generator=torch.Generator().manual_seed(6)))[0]
    near = log_evidence(prior, LinearObservation(H.matrix, SHAPE, r), y)
    beside = -0.5 * 2 * math.log(2 * math.pi * r**2)  # N(0; 0, r^2) in the two directions that the prior lacks
    assert log_evidence(prior, hard, y) == pytest.approx(near - beside, abs=1e-7)


def test_rows_that_repeat_each_other_are_one_and_contradictions_are_refused_with_their_size() -> None:
    prior, H, y = observed("dense", 0.0)
    rows = torch.cat([H.matrix, 1e5 * H.matrix[:1] - H.matrix[1:2], 0 * H.matrix[:1]])
    repeated = LinearObservation(rows, SHAPE)
    z = torch.cat([y, 1e5 * y[:1] - y[1:2], 0 * y[:1]])
    exact, expected = posterior(prior, repeated, z), posterior(prior, H, y)
    torch.testing.assert_close(exact.mean, expected.mean, rtol=0, atol=1e-11)
    torch.testing.assert_close(dense(exact), dense(expected), rtol=0, atol=1e-11)
    with pytest.raises(InputError, match=r"miss them by 0\.5$"):
        posterior(prior, repeated, z + torch.tensor([0, 0, 0, 0, 0.5]))
    with pytest.raises(InputError, match="y: expected values that the prior can take"):
        posterior(prior, repeated, z + torch.tensor([0, 0, 0, 1.0, 0]))
    low = prior_of("low rank")
    with pytest.raises(InputError, match="y: expected values that the prior can take"):
        posterior(low, LinearObservation(torch.eye(D), SHAPE), low.mean.flatten() + 1)


def test_large_numbers_round_without_contradiction() -> None:
    prior = Gaussian.isotropic(torch.full((1,), 1e8, dtype=torch.float64), 1e-6)
    H = LinearObservation(torch.tensor([[1.0], [3.0], [0.1]], dtype=torch.float64), (1,))
    x = torch.tensor([[1e8 + 1e-3]], dtype=torch.float64)
    assert float(posterior(prior, H, H(x)[0]).mean) == pytest.approx(float(x), rel=1e-15)


def test_a_residual_that_the_prior_has_no_share_in_is_no_information() -> None:
    """Rows of 1/h^2 cancel to rounding on fields that solve the equation: they must not be taken for a constraint."""
    grid = Grid((65,))
    prior, poisson = joint_sine_prior(grid, 8), Poisson(grid)
    A = torch.from_numpy(poisson.jacobian(torch.zeros(65), torch.zeros(65)).toarray())
    residual = LinearObservation(torch.cat([-torch.eye(65, dtype=torch.float64), A], 1), (2, 65))
    exact = posterior(prior, residual, torch.zeros(65))
    assert len(exact.eigenvalues) == len(prior.eigenvalues) == 10
    torch.testing.assert_close(dense(exact), dense(prior), rtol=0, atol=1e-11)


def test_four_thousand_nodes_are_conditioned_in_the_coordinates_of_the_prior() -> None:
    grid = Grid((64, 64))
    prior, boundary = sine_prior(grid, 8), where(grid.boundary)
    y = boundary(prior.sample(1, generator=torch.Generator().manual_seed(0)))[0]
    exact = posterior(prior, boundary, y)
    assert len(exact.eigenvalues) == 64  # of 316, less the 252 values of the boundary
    inside = sine_prior(grid, 8, boundary_variance=0)
    torch.testing.assert_close(exact.eigenvalues, inside.eigenvalues, rtol=1e-9, atol=0)


def mixture() -> GaussianMixture:
    weights = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    means = torch.tensor([[-1.0], [0.5], [2.0]], dtype=torch.float64)
    return GaussianMixture.isotropic(weights, means, torch.tensor([0.2, 0.5, 0.1], dtype=torch.float64))


def test_a_mixture_conditions_to_the_product_of_prior_and_likelihood() -> None:
    prior, H, y = mixture(), LinearObservation(torch.tensor([[2.0]]), (1,), 0.7), torch.tensor([1.3])
    x = torch.linspace(-8, 8, 4001, dtype=torch.float64)[:, None]
    likelihood = (-0.5 * ((y - 2 * x[:, 0]) / 0.7) ** 2).exp() / (0.7 * math.sqrt(2 * math.pi))
    density = prior.log_prob(x, 1.0, 1e-9).exp() * likelihood
    evidence = float(density.sum() * 0.004)
    exact = posterior(prior, H, y)
    torch.testing.assert_close(exact.log_prob(x, 1.0, 1e-9).exp(), density / evidence, rtol=0, atol=1e-12)
    assert log_evidence(prior, H, y) == pytest.approx(math.log(evidence), abs=1e-12)


@pytest.mark.parametrize("noise", [0.4, 0.0])
def test_a_mixture_of_low_rank_components_is_each_component_conditioned(noise: float) -> None:
    parts = [prior_of("tail"), prior_of("tail").rescale(0.5, 1.0)]
    prior = GaussianMixture(
        torch.tensor([0.6, 0.4]),
        torch.stack([part.mean for part in parts]),
        torch.stack([part.eigenvectors for part in parts]),
        torch.stack([part.eigenvalues for part in parts]),
        torch.tensor([part.tail_variance for part in parts], dtype=torch.float64),
    )
    _, H, y = observed("tail", noise)
    exact = posterior(prior, H, y)
    logs = [math.log(w) + log_evidence(part, H, y) for w, part in zip((0.6, 0.4), parts, strict=True)]
    expected = torch.tensor(logs, dtype=torch.float64).softmax(0)
    torch.testing.assert_close(exact.weights, expected, rtol=1e-7, atol=0)  # weights were given in float32
    for j, part in enumerate(parts):
        one = posterior(part, H, y)
        torch.testing.assert_close(exact.means[j], one.mean, rtol=0, atol=1e-12)
        of_mixture = Gaussian(
            exact.means[j], exact.eigenvectors[j], exact.eigenvalues[j], float(exact.tail_variances[j])
        )
        torch.testing.assert_close(dense(of_mixture), dense(one), rtol=0, atol=1e-12)


def test_of_a_hard_constraint_components_of_fewer_dimensions_win_and_impossible_ones_vanish() -> None:
    U = torch.eye(2, dtype=torch.float64)
    vectors = torch.stack([U, U, U])
    variances = torch.tensor([[1.0, 1.0], [1.0, 0.0], [1.0, 0.0]], dtype=torch.float64)
    means = torch.tensor([[0.0, 0.0], [0.0, 1.0], [0.0, 2.0]], dtype=torch.float64)
    prior = GaussianMixture(torch.full((3,), 1 / 3), means, vectors, variances, torch.zeros(3))
    hard = at_nodes(torch.tensor([1]), (2,))
    exact = posterior(prior, hard, torch.tensor([1.0]))  # a density of the first component, an atom of the second
    assert exact.weights.tolist() == [1.0]
    assert exact.means.tolist() == [[0.0, 1.0]]
    near = posterior(prior, at_nodes(torch.tensor([1]), (2,), noise=1e-6), torch.tensor([1.0]))
    assert float(near.weights[1]) == pytest.approx(1, abs=1e-5)
    with pytest.raises(InputError, match=r"a component of the prior can take .* by 0\.5"):
        posterior(
            GaussianMixture(prior.weights[1:] * 1.5, means[1:], vectors[1:], variances[1:], torch.zeros(2)),
            hard,
            torch.tensor([1.5]),
        )
    of_two_ranks = torch.stack([torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, 1.0]])])[:, 0].double()
    both = GaussianMixture(torch.full((2,), 0.5), of_two_ranks, vectors[:2], variances[:2], torch.zeros(2))
    first = at_nodes(torch.tensor([0]), (2,))  # each component keeps another number of eigenpairs
    exact = posterior(both, first, torch.tensor([0.2]))
    torch.testing.assert_close(exact.as_gaussian().trace, 0.5 + 0.25, rtol=0, atol=1e-12)


def nonlinear(x: Tensor) -> Tensor:
    return torch.stack([x.flatten(1).prod(1), x[:, 0].square().sum(1)], 1)


@pytest.mark.parametrize(
    "observation",
    [NonlinearObservation(nonlinear, SHAPE, 0.2), LinearObservation(random(2, D, seed=3), SHAPE, 0.2)],
)
def test_a_finite_set_keeps_its_points_weighted_by_the_likelihood(
    observation: NonlinearObservation | LinearObservation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules[posterior.__module__], "CHUNK", 7 * D)
    prior, y = finite_set(), torch.tensor([0.3, 1.2], dtype=torch.float64)
    full = torch.zeros(40, *SHAPE, dtype=torch.float64)
    full[prior.weights > 0] = prior.points
    joint = []
    for weight, x in zip(prior.weights, full, strict=True):
        h = observation(x[None])[0]
        joint.append(float(weight) * math.exp(-sum(float(a - b) ** 2 for a, b in zip(y, h, strict=True)) / 0.08))
    expected = torch.tensor(joint, dtype=torch.float64) / sum(joint)
    torch.testing.assert_close(posterior_weights(prior, observation, y), expected, rtol=1e-12, atol=1e-300)
    both = posterior_weights(prior, observation, torch.stack([y + 1, y]))
    torch.testing.assert_close(both[1], expected, rtol=1e-12, atol=1e-300)
    assert log_evidence(prior, observation, y) == pytest.approx(
        math.log(sum(joint)) - math.log(2 * math.pi * 0.04), abs=1e-12
    )
    exact = posterior(prior, observation, y)
    torch.testing.assert_close(
        exact.denoise(torch.zeros(1, *SHAPE, dtype=torch.float64), 0.0, 1.0)[0],
        torch.einsum("i,i...->...", expected, full),
        rtol=0,
        atol=1e-12,
    )


def test_the_likelihood_may_underflow_and_the_nearest_point_is_right() -> None:
    prior = Empirical(torch.tensor([[0.0], [1.0], [3.0]]))
    far = posterior(prior, at_nodes(torch.tensor([0]), (1,), noise=1e-4), torch.tensor([1000.0]))
    assert far.weights.tolist() == [0.0, 0.0, 1.0]
    assert far.points.tolist() == [[3.0]]


def test_a_hard_constraint_of_a_finite_set_keeps_the_points_that_meet_it() -> None:
    prior = Empirical(torch.tensor([[0.0, 1.0], [1.0, 1.0], [1.0, 3.0]]), torch.tensor([0.5, 0.1, 0.4]))
    hard = at_nodes(torch.tensor([0]), (2,))
    torch.testing.assert_close(
        posterior_weights(prior, hard, torch.tensor([1.0])), torch.tensor([0.0, 0.2, 0.8]).double(), rtol=1e-7, atol=0
    )
    assert log_evidence(prior, hard, torch.tensor([1.0])) == pytest.approx(math.log(0.5), abs=1e-6)
    with pytest.raises(InputError, match=r"the nearest point misses by 0\.25"):
        posterior(prior, hard, torch.tensor([1.25]))


def test_an_exact_posterior_has_an_exact_denoiser() -> None:
    """E[x_0 | x_t, y] by the posterior, and by weighting draws of x_0 given x_t with the likelihood of y."""
    prior, H, y = mixture(), at_nodes(torch.tensor([0]), (1,), noise=0.5), torch.tensor([1.0])
    x_t, sigma = torch.tensor([[0.3]], dtype=torch.float64), 0.8
    draws = posterior_sample(prior, x_t.expand(200_000, 1), 1.0, sigma, generator=torch.Generator().manual_seed(0))
    weights = (-0.5 * ((1.0 - draws) / 0.5) ** 2).exp()
    estimate = float((weights * draws).sum() / weights.sum())
    error = float((weights * (draws - estimate)).square().sum().sqrt() / weights.sum())
    exact = float(posterior(prior, H, y).denoise(x_t, 1.0, sigma))
    assert abs(estimate - exact) < 4 * error


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda _, H, y: (Box(-torch.ones(2), torch.ones(2)), H, y),
            "distribution: expected a Gaussian, a GaussianMixture",
        ),
        (lambda p, _, y: (p, at_nodes(torch.tensor([0]), (3,)), y), r"observation: expected one of fields \(2, 4\)"),
        (lambda p, H, y: (p, H, y[:2]), r"y: expected shape \(3,\) or \(batch, 3\), got \(2,\)"),
        (lambda p, H, y: (p, H, torch.stack([y, y])), "y: expected one observation, got 2"),
        (lambda p, H, y: (p, H, y * math.nan), "y: expected finite values"),
        (
            lambda p, _, y: (p, NonlinearObservation(nonlinear, SHAPE, 0.1), y),
            "observation: expected a LinearObservation of a Gaussian",
        ),
        (
            lambda p, _, y: (
                finite_set() if p else p,
                NonlinearObservation(lambda x: x.log().flatten(1)[:, :3], SHAPE, 0.1),
                y,
            ),
            "observation: expected finite values of every point",
        ),
    ],
)
@pytest.mark.parametrize("function", [posterior, log_evidence])
def test_what_does_not_fit_is_refused_in_one_line(change: Callable, message: str, function: Callable) -> None:
    with pytest.raises(InputError, match=message) as refused:
        function(*change(*observed("dense", 0.3)))
    assert "\n" not in str(refused.value)
