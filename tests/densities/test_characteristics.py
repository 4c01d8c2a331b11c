"""Densities along the characteristics of the probability flow, from exact and from wrong starts."""

import torch

from diffuscope.denoisers import ExactDenoiser
from diffuscope.densities.characteristics import generated_log_density
from diffuscope.densities.divergence import JacobianDivergence
from diffuscope.densities.gaussian_reverse import GaussianReverse
from diffuscope.exact import Gaussian, GaussianMixture
from diffuscope.schedules import VP

F64 = torch.float64
OU = VP(3.0, 3.0)
PAIR = GaussianMixture.isotropic(
    torch.tensor([0.4, 0.6], dtype=F64), torch.tensor([[-1.0], [1.2]], dtype=F64), torch.tensor([0.1, 0.2], dtype=F64)
)


def levels(t):
    return float(OU.alpha(t)), float(OU.sigma(t))


def test_the_exact_start_gives_the_noised_distribution_of_the_data():
    x = torch.linspace(-2.5, 2.5, 41, dtype=F64)[:, None]
    log_q = generated_log_density(
        ExactDenoiser(PAIR, OU), x, 0.02, 0.9, lambda y: PAIR.log_prob(y, *levels(0.9)), tolerance=1e-11
    )
    torch.testing.assert_close(log_q, PAIR.log_prob(x, *levels(0.02)), atol=1e-8, rtol=0)


def test_a_wrong_gaussian_start_on_gaussian_data_gives_the_closed_form():
    data = Gaussian.isotropic(torch.tensor([1.3], dtype=F64), 0.25)
    flow = GaussianReverse(OU, 1.3, 0.25, 1.0, 0.2, 1.4, 0.0)
    wrong = Gaussian.isotropic(torch.tensor([0.2], dtype=F64), 1.4)
    x = torch.linspace(-1, 3, 17, dtype=F64)[:, None]
    log_q = generated_log_density(
        ExactDenoiser(data, OU),
        x,
        0.1,
        1.0,
        lambda y: wrong.log_prob(y, 1.0, 1e-9),
        divergence=JacobianDivergence(),
        tolerance=1e-11,
    )
    mean, variance = flow.distribution(0.1)
    exact = Gaussian.isotropic(torch.tensor([mean], dtype=F64), variance).log_prob(x, 1.0, 1e-9)
    torch.testing.assert_close(log_q, exact, atol=1e-8, rtol=0)
