"""Sequential Monte Carlo against posteriors in closed form, with errors that are neither too small nor too large."""

import math

import pytest
import torch
from torch import Tensor

from diffuscope.denoisers import ExactDenoiser
from diffuscope.exact import Gaussian
from diffuscope.physics import at_nodes
from diffuscope.physics.particles import Particles, sequential_monte_carlo
from diffuscope.schedules import VP

SEEDS = 16
COVARIANCE = torch.tensor([[1.0, 0.6], [0.6, 0.8]], dtype=torch.float64)
PRIOR = ExactDenoiser(Gaussian.from_covariance(torch.tensor([0.5, -0.3]), COVARIANCE), VP())


def gaussian_posterior(r: float, y: float) -> tuple[Tensor, Tensor, float]:
    """Mean, variances and log-evidence of PRIOR where its first value is observed: Bayes' rule for two numbers."""
    prior, total = torch.tensor([0.5, -0.3], dtype=torch.float64), 1 + r**2
    mean = prior + COVARIANCE[:, 0] * (y - 0.5) / total
    variances = COVARIANCE.diagonal() - COVARIANCE[:, 0] ** 2 / total
    return mean, variances, -((y - 0.5) ** 2) / (2 * total) - math.log(2 * math.pi * total) / 2


def no_twist(x: Tensor, denoised: Tensor, t: float) -> Tensor:  # noqa: ARG001
    """psi = 1: everything that y says arrives with the last weight."""
    return torch.zeros(len(x), dtype=torch.float64)


def zscores(found: Particles, mean: Tensor, variances: Tensor, log_evidence: float) -> Tensor:
    (m, m_error), (v, v_error) = found.mean(), found.variance()
    z = (found.log_evidence - log_evidence) / found.log_evidence_error
    return torch.cat([((m - mean) / m_error).flatten(), ((v - variances) / v_error).flatten(), torch.tensor([z])])


@pytest.mark.parametrize("kind", ["twisted", "bootstrap", "importance"])
def test_a_gaussian_posterior_is_met_within_the_stated_error(kind: str) -> None:
    options = {
        "twisted": {},
        "bootstrap": {"proposal": PRIOR},
        "importance": {"proposal": PRIOR, "twist": no_twist},
    }[kind]
    observation, y = at_nodes(torch.tensor([0]), (2,), noise=0.3), torch.tensor([1.5])
    z = torch.stack([
        zscores(
            sequential_monte_carlo(
                PRIOR, observation, y, particles=64, steps=8, seed=seed, dtype=torch.float64, **options
            ),
            *gaussian_posterior(0.3, 1.5),
        )
        for seed in range(SEEDS)
    ])  # fmt: skip
    # Student's t with 7 degrees of freedom: E z^2 = 7/5; a mean of SEEDS x 5 squares, not all independent
    assert 0.7 < float(z.square().mean()) < 2.5, z.square().mean(0)
    assert float(z.mean(0).abs().max()) < 4 * math.sqrt(1.4 / SEEDS)
