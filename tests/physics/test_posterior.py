"""Exact posteriors, against dense formulas, quadrature and direct sums."""

import math

import pytest
import torch
from torch import Tensor

from diffuscope.denoisers import ExactDenoiser
from diffuscope.errors import InputError
from diffuscope.exact import Box, Empirical, Gaussian, GaussianMixture
from diffuscope.physics import (
    LinearObservation,
    NonlinearObservation,
    at_nodes,
    log_evidence,
    observe,
    posterior,
    posterior_weights,
)
from diffuscope.schedules import VE

SHAPE = (2, 4)
D = 8


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def prior_of(kind: str) -> Gaussian:
    """A dense covariance, one of low rank, one of low rank with a tail, and an isotropic one."""
    vectors = torch.linalg.qr(random(D, D, seed=1))[0]
    rank = {"dense": D, "low rank": 5, "tail": 3, "isotropic": 0}[kind]
    variances = torch.tensor([4.0, 2.0, 1.0, 0.5, 0.3, 0.2, 0.1, 0.05], dtype=torch.float64)[:rank]
    tail = {"dense": 0.05, "low rank": 0.0, "tail": 0.4, "isotropic": 0.7}[kind]
    return Gaussian(random(*SHAPE, seed=2), vectors[:, :rank], variances, tail, data_range=(-3.0, 3.0))


def dense(gaussian: Gaussian) -> Tensor:
    U = gaussian.eigenvectors
    complement = torch.eye(D, dtype=torch.float64) - U @ U.T
    tail = gaussian.tail_variance if U.shape[1] < D else 0.0
    return (U * gaussian.eigenvalues) @ U.T + tail * complement


KINDS = ["dense", "low rank", "tail", "isotropic"]


def conditioned_densely(mean: Tensor, covariance: Tensor, H: LinearObservation, y: Tensor) -> tuple[Tensor, Tensor]:
    """mu + K (y - H mu) and (I - K H) Sigma."""
    M = H.matrix
    gain = (
        covariance
        @ M.T
        @ torch.linalg.pinv(M @ covariance @ M.T + H.noise**2 * torch.eye(len(M), dtype=M.dtype), rtol=1e-12)
    )
    return mean + gain @ (y - M @ mean), covariance - gain @ M @ covariance


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("noise", [0.3, 0.0])
def test_a_gaussian_conditions_to_the_textbook_formula(kind: str, noise: float) -> None:
    prior, H = prior_of(kind), LinearObservation(random(3, D, seed=3), SHAPE, noise)
    y = observe(H, prior.sample(1, generator=torch.Generator().manual_seed(4)), generator=torch.Generator())[0]
    exact = posterior(prior, H, y)
    mean, covariance = conditioned_densely(prior.mean.flatten(), dense(prior), H, y)
    torch.testing.assert_close(exact.mean.flatten(), mean, rtol=0, atol=1e-12)
    torch.testing.assert_close(dense(exact), covariance, rtol=0, atol=1e-12)
    U = exact.eigenvectors
    torch.testing.assert_close(U.T @ U, torch.eye(U.shape[1], dtype=torch.float64), rtol=0, atol=1e-13)
    assert exact.data_range == prior.data_range
