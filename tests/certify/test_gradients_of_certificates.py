"""Targets of others may carry a graph, of their model or of a time: what is certified is numbers."""

import torch
from torch import Tensor

from diffuscope.certify.asked import require_result
from diffuscope.certify.edges import Listening
from diffuscope.certify.likelihood_calls import Calls
from diffuscope.denoisers import ExactDenoiser
from diffuscope.exact import Gaussian
from diffuscope.schedules import VE

GAIN = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
X = torch.tensor([[3.0, 1.0], [0.0, 2.0]], dtype=torch.float64)
MODEL = ExactDenoiser(Gaussian.isotropic(torch.zeros(2, dtype=torch.float64), 1.0), VE())


def test_the_result_of_a_run_is_kept_without_its_graph():
    found = require_result(GAIN * X, (2, 2))
    assert torch.equal(found, 2 * X)
    assert not found.requires_grad


def test_a_log_density_is_kept_without_the_graph_of_its_model():
    def density(denoiser: object, x_t: Tensor, t: float, generator: object) -> Tensor:  # noqa: ARG001
        return -GAIN * x_t.square().sum(1)

    found = Calls(density)(MODEL, X, 1.0, 0)
    assert found.tolist() == [-20.0, -8.0]
    assert not found.requires_grad


def test_the_times_that_were_asked_are_kept_without_a_graph_and_the_answer_has_that_of_the_time():
    """D = x / (1 + t^2), so that dD/dt = -2 t x / (1 + t^2)^2."""
    t = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    listening = Listening(MODEL)
    (slope,) = torch.autograd.grad(listening(X, t).sum(), t)
    assert [asked.tolist() for asked in listening.asked] == [[1.0]]
    assert not any(asked.requires_grad for asked in listening.asked)
    assert torch.allclose(slope, -X.sum() / 2, rtol=1e-12, atol=0)
