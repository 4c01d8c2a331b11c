"""Conditioned denoisers, against exact posteriors and closed forms."""

import pytest
import torch
from test_posterior import KINDS, SHAPE, D, prior_of, random

from diffuscope.denoisers import ExactDenoiser
from diffuscope.physics import CovarianceGuided, GaussianGuide, LinearObservation, Projected, observe, posterior
from diffuscope.schedules import VE, VP, RectifiedFlow


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("noise", [0.3, 0.0])
@pytest.mark.parametrize("schedule", [VE(), VP(), RectifiedFlow()])
def test_the_guided_gaussian_is_the_exact_denoiser_of_the_posterior(kind: str, noise: float, schedule: object) -> None:
    prior, H = prior_of(kind), LinearObservation(random(3, D, seed=3), SHAPE, noise)
    x = prior.sample(6, generator=torch.Generator().manual_seed(4))
    y = observe(H, x, generator=torch.Generator().manual_seed(5))
    t = torch.linspace(schedule.t_min + 1e-3, schedule.t_max, 6, dtype=torch.float64)
    x_t = random(6, *SHAPE, seed=6) * schedule.sigma(t).reshape(-1, 1, 1) + schedule.alpha(t).reshape(-1, 1, 1) * x
    guided = GaussianGuide(ExactDenoiser(prior, schedule), H, y)(x_t, t)
    for i in range(6):
        exact = ExactDenoiser(posterior(prior, H, y[i]), schedule)(x_t[i : i + 1], t[i])
        torch.testing.assert_close(guided[i : i + 1], exact, rtol=0, atol=1e-10)
    by_cg = CovarianceGuided(ExactDenoiser(prior, schedule), H, y, iterations=10, tolerance=1e-12)(x_t, t)
    torch.testing.assert_close(by_cg, guided, rtol=0, atol=1e-8)
