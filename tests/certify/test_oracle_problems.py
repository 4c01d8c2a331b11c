"""The oracle problems are oracles: their flows against closed forms, quantiles, and the way back."""

import pytest
import torch
from scipy import stats

from diffuscope.certify import OracleProblem, finite_data, flow, mixture, oracle_problems, ring, unequal_gaussian
from diffuscope.exact import Gaussian, GaussianMixture, Ring
from diffuscope.schedules import VE, VP, RectifiedFlow

every_problem = pytest.mark.parametrize("problem", oracle_problems(), ids=lambda problem: problem.name)


def test_the_integrated_flow_of_a_one_component_mixture_is_the_gaussians_closed_form():
    mean, variance = torch.tensor([[0.4, -1.0]], dtype=torch.float64), 0.3
    one = torch.ones(1, dtype=torch.float64)
    as_mixture = GaussianMixture.isotropic(one, mean, variance * one)
    y = 4 * torch.randn(8, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    exact = flow(Gaussian.isotropic(mean[0], variance), y, 4.0, 0.1)
    assert torch.allclose(flow(as_mixture, y, 4.0, 0.1), exact, rtol=1e-10, atol=1e-11)


def test_the_integrated_flow_in_one_dimension_keeps_the_quantile():
    weights = torch.tensor([0.6, 0.4], dtype=torch.float64)
    means = torch.tensor([[-1.0], [1.2]], dtype=torch.float64)
    variances = torch.tensor([0.1, 0.2], dtype=torch.float64)
    distribution = GaussianMixture.isotropic(weights, means, variances)
    y = torch.linspace(-6, 6, 9, dtype=torch.float64)[:, None]

    def quantile(y: torch.Tensor, ratio: float) -> torch.Tensor:
        z = (y - means.T) / (variances + ratio**2).sqrt()
        return torch.from_numpy(stats.norm.cdf(z.numpy())) @ weights

    ended = flow(distribution, y, 4.0, 0.1)
    assert torch.allclose(quantile(ended, 0.1), quantile(y, 4.0), rtol=1e-9, atol=1e-12)


def test_the_flow_on_a_ring_is_radial_and_ends_near_the_ring():
    problem = ring()
    start, end = problem.start(VE()), problem.exact_end(VE())
    across = start[:, 0] * end[:, 1] - start[:, 1] * end[:, 0]
    assert float(across.abs().max()) < 1e-10 * float(start.norm(dim=1).max())
    assert isinstance(problem.distribution, Ring)
    # the normal direction has no variance: what is left at ratio .1 is of its order
    assert float((end.norm(dim=1) - 1).abs().max()) < 0.5


@every_problem
def test_the_flow_forward_undoes_the_flow_back(problem: OracleProblem):
    y = problem.exact_end(VE())
    back = flow(problem.distribution, y, problem.low, problem.high)
    # an error grows by at most the ratio of the scales on the way up
    assert torch.allclose(back, problem.start(VE()), rtol=1e-7, atol=1e-7)


@every_problem
@pytest.mark.parametrize("schedule", [VP(), RectifiedFlow()], ids=lambda schedule: type(schedule).__name__)
def test_a_problem_is_the_same_in_every_schedule(problem: OracleProblem, schedule: VP | RectifiedFlow):
    times = problem.times(schedule, 7)
    assert len(times) == 8
    ratios = schedule.noise_to_signal(times)
    assert torch.allclose(
        ratios[[0, -1]], torch.tensor([problem.high, problem.low], dtype=torch.float64), rtol=1e-9, atol=0
    )
    assert torch.allclose(ratios[1:] / ratios[:-1], ratios[1] / ratios[0], rtol=1e-9, atol=0)
    assert torch.allclose(problem.start(schedule) / schedule.alpha(times[0]), problem.start(VE()), rtol=1e-12, atol=0)
    assert torch.allclose(
        problem.exact_end(schedule) / schedule.alpha(times[-1]), problem.exact_end(VE()), rtol=1e-12, atol=0
    )


def test_the_problems_that_the_certifier_uses_have_the_dimensions_they_say():
    shapes = {problem.name: problem.distribution.event_shape for problem in oracle_problems()}
    assert shapes == {"gaussian": (2,), "mixture-2": (2,), "mixture-64": (64,), "finite": (2,), "ring": (2,)}
    assert unequal_gaussian() is unequal_gaussian()  # built once
    assert finite_data(5).distribution.event_shape == mixture(2).distribution.event_shape
