"""What runs a model to its end keeps none of its graph, however the model and the state were made."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from diffuscope.denoisers import Batch, BatchTime
from diffuscope.exact import Empirical, GaussianMixture
from diffuscope.samplers import (
    DDIM,
    ModelStatistics,
    calibrate,
    consistency_samples,
    estimate_statistics,
    finish,
    generate,
    instant,
    sample,
    teleport_error,
    trajectory,
)
from diffuscope.samplers.mixture_transition import posterior_draw
from diffuscope.schedules import VE
from numbers_in_tests import seeded

LAW = GaussianMixture.isotropic(
    torch.tensor([0.4, 0.6]), torch.tensor([[-0.8, 0.3], [0.7, -0.2]]), torch.tensor([0.2, 0.4])
)
TIMES = torch.tensor([3.0, 1.0, 0.4], dtype=torch.float64)


class Learning:
    """A denoiser with a parameter, which remembers whether a graph would be kept."""

    schedule = VE()

    def __init__(self) -> None:
        self.weight = torch.ones((), dtype=torch.float64, requires_grad=True)
        self.recorded: list[bool] = []

    def __call__(self, x_t: Batch, t: BatchTime) -> Batch:
        answer = self.weight * LAW.denoise(x_t, 1.0, t)
        self.recorded.append(answer.requires_grad)
        return answer


def states() -> Tensor:
    return (3 * torch.randn(4, 2, dtype=torch.float64, generator=seeded())).requires_grad_()


RUNS: dict[str, Callable[[Learning], object]] = {
    "trajectory": lambda d: list(trajectory(DDIM(), d, states(), TIMES)),
    "sample": lambda d: sample(DDIM(), d, states(), TIMES),
    "generate": lambda d: generate(d, 3, event_shape=(2,), steps=3, dtype=torch.float64),
    "finish": lambda d: finish(d, DDIM(), states(), TIMES),
    "consistency_samples": lambda d: consistency_samples(d, states(), TIMES, seeded()),
    "estimate_statistics": lambda d: estimate_statistics(
        d, states(), torch.linspace(-1.0, 1.0, 4), generator=seeded(), probes=1
    ),
    "teleport_error": lambda d: teleport_error(d, LAW.as_gaussian(), states(), TIMES),
    "calibrate": lambda d: calibrate(d, LAW.as_gaussian(), 2, starts=states().repeat(2, 1), rounds=0),
}


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
def test_no_graph_is_recorded_while_a_model_is_run(run):
    denoiser = Learning()
    run(denoiser)
    assert denoiser.recorded
    assert not any(denoiser.recorded)
    assert torch.is_grad_enabled()


def test_a_posterior_draw_is_a_point_without_the_graph_of_the_state():
    points = Empirical(torch.tensor([[-1.0, 0.5], [2.0, 1.0]], dtype=torch.float64))
    uniform = torch.tensor([0.1, 0.4, 0.6, 0.9], dtype=torch.float64)
    drawn = posterior_draw(points, states(), instant(VE(), 1.3), uniform)
    assert not drawn.requires_grad
    assert torch.equal(drawn, posterior_draw(points, states().detach(), instant(VE(), 1.3), uniform))


def test_statistics_are_numbers_whatever_they_were_made_from():
    """l = lambda / 2, s = 0 and b = 2, whose integrals are lambda^2 / 4 and 2 lambda."""
    lams = torch.linspace(0.0, 3.0, 4, requires_grad=True)
    statistics = ModelStatistics(lams, 0.5 * lams[:, None], 0 * lams[:, None], 2 + 0 * lams[:, None])
    assert not any(getattr(statistics, name).requires_grad for name in ("lams", "l", "s", "b"))
    assert statistics.integral_l(2.0).item() == pytest.approx(1.0, rel=1e-6)
