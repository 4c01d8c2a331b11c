"""Three Gaussians of six dimensions, one of each kind, and what is compared with them."""

import pytest
import torch

from diffuscope.exact import Gaussian

EVENT, D = (2, 3), 6


def random_basis(D: int, seed: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(D, D, dtype=torch.float64, generator=generator))[0]


def mean_of(event: tuple[int, ...]) -> torch.Tensor:
    return torch.randn(event, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


def dense() -> Gaussian:
    """Six variances over four decades, one of them zero."""
    return Gaussian(mean_of(EVENT), random_basis(D), torch.tensor([9.0, 2.0, 0.5, 0.04, 1e-3, 0.0]))


def low_rank() -> Gaussian:
    return Gaussian(mean_of(EVENT), random_basis(D)[:, :2], torch.tensor([9.0, 2.0]), 0.3)


def isotropic() -> Gaussian:
    return Gaussian.isotropic(mean_of(EVENT), 0.7)


LAWS = {"dense": dense, "low rank": low_rank, "isotropic": isotropic}
every_distribution = pytest.mark.parametrize("distribution", LAWS.values(), ids=LAWS.keys())


def covariance(gaussian: Gaussian) -> torch.Tensor:
    U = gaussian.eigenvectors
    identity = torch.eye(gaussian.dimension, dtype=torch.float64)
    return (U * gaussian.eigenvalues) @ U.T + gaussian.tail_variance * (identity - U @ U.T)


def noised(gaussian: Gaussian, alpha: float, sigma: float, n: int = 4) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    x_0 = gaussian.sample(n, generator=generator)
    return alpha * x_0 + sigma * torch.randn(x_0.shape, dtype=torch.float64, generator=generator)


def relative_error(value: torch.Tensor, truth: torch.Tensor) -> float:
    return ((value - truth).norm() / truth.norm()).item()
