"""Gaussians of every kind of covariance and a finite set, with a few observations of them."""

import torch
from torch import Tensor

from diffuscope.exact import Empirical, Gaussian
from diffuscope.physics import LinearObservation, observe

SHAPE = (2, 4)
D = 8
KINDS = ["dense", "low rank", "tail", "isotropic"]


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
    complement = torch.eye(len(U), dtype=torch.float64) - U @ U.T
    tail = gaussian.tail_variance if U.shape[1] < len(U) else 0.0
    return (U * gaussian.eigenvalues) @ U.T + tail * complement


def observed(kind: str, noise: float, m: int = 3) -> tuple[Gaussian, LinearObservation, Tensor]:
    prior, H = prior_of(kind), LinearObservation(random(m, D, seed=3), SHAPE, noise)
    x = prior.sample(1, generator=torch.Generator().manual_seed(4))
    return prior, H, observe(H, x, generator=torch.Generator().manual_seed(5))[0]


def finite_set() -> Empirical:
    weights = torch.rand(40, dtype=torch.float64, generator=torch.Generator().manual_seed(7))
    weights[3] = 0
    return Empirical(random(40, *SHAPE, seed=8), weights)
