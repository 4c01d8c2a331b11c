"""Log-likelihoods against the closed forms of the certifier's six distributions, within a millionth of a nat."""

import pytest
import torch
from torch import Tensor

from diffuscope.certify import OracleProblem, likelihood_problems
from diffuscope.densities.divergence import JacobianDivergence
from diffuscope.densities.likelihood import log_likelihood
from diffuscope.schedules import VE, VP, RectifiedFlow, Schedule

PROBLEMS = likelihood_problems()
every_problem = pytest.mark.parametrize("problem", PROBLEMS, ids=lambda problem: problem.name)


def noised(problem: OracleProblem, schedule: Schedule, ratios: tuple[float, ...]) -> tuple[Tensor, Tensor, Tensor]:
    """Points of the noised distribution at every ratio, their times, and the exact log-density."""
    draw = torch.Generator().manual_seed(5)
    t = schedule.time_of_noise_to_signal(torch.tensor(ratios, dtype=torch.float64).repeat_interleave(3))
    clean = problem.distribution.sample(len(t), generator=draw)
    noise = torch.randn(clean.shape, dtype=torch.float64, generator=draw)
    x_t = schedule.alpha(t)[:, None] * clean + schedule.sigma(t)[:, None] * noise
    return x_t, t, problem.distribution.log_prob(x_t, schedule.alpha(t), schedule.sigma(t))


@every_problem
@pytest.mark.parametrize(
    "schedule",
    [VP(), pytest.param(VE(), marks=pytest.mark.slow), RectifiedFlow()],  # VE's flow is VP's but for the scale
    ids=lambda schedule: type(schedule).__name__,
)
def test_the_exact_divergence_gives_the_log_density_within_a_millionth_of_a_nat(
    problem: OracleProblem, schedule: Schedule
):
    """In the noise and near the data, sigma/alpha = 0.3 and 0.02; rectified flow ends in pure, normal noise."""
    x_t, t, exact = noised(problem, schedule, (0.3, 0.02))
    terminal = None if isinstance(schedule, RectifiedFlow) else problem.distribution
    likelihood = log_likelihood(problem.denoiser(schedule), x_t, t, terminal=terminal)
    assert float((likelihood.log_prob - exact).abs().max()) < 1e-6
    assert not bool(likelihood.standard_error.any() | likelihood.terminal_gap.any())


@every_problem
def test_so_does_the_full_jacobian(problem: OracleProblem):
    x_t, t, exact = noised(problem, VP(), (0.3,))
    denoiser = problem.denoiser(VP())
    likelihood = log_likelihood(denoiser, x_t, t, divergence=JacobianDivergence(), terminal=problem.distribution)
    assert float((likelihood.log_prob - exact).abs().max()) < 1e-6
