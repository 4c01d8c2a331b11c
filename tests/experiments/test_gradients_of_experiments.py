"""What an experiment reads from a network with parameters carries no graph of it."""

from collections.abc import Callable

import pytest
import torch
from conftest import tensors_of

from diffuscope.denoisers import MLP, Preconditioned, seeded
from diffuscope.experiments import digit_models
from diffuscope.experiments.analytic_denoisers.protocol import _point
from diffuscope.experiments.double_moon.setting import score_of
from diffuscope.experiments.finite_data import digits
from diffuscope.experiments.learning_curve.residuals import Probe
from diffuscope.experiments.memorization_transition.gaps import measured
from diffuscope.experiments.memorization_transition.ladder import Ladder
from diffuscope.experiments.neural_vs_analytic.measures import mapped
from diffuscope.experiments.path_panels import field
from diffuscope.experiments.side_by_side import SideBySide
from diffuscope.experiments.target_variance.gradients import _along, _jacobian
from diffuscope.experiments.three_modes import MODES, as_denoiser, small_networks
from diffuscope.experiments.variance_on_digits import samples_of
from diffuscope.schedules import VE
from diffuscope.theory.paths import Dynamics

X = torch.tensor([[3.0, 1.0], [0.0, 2.0], [-1.0, 0.5]])


def network(seed: int = 0) -> Preconditioned:
    """Untrained, on points in the plane."""
    with seeded(seed):
        inside = MLP((2,), width=4, depth=1)
    return Preconditioned(inside, VE(), 1.0, event_shape=(2,), data_range=(-3.0, 3.0))


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def probe() -> Probe:
    """Without exact models: the distance to x_t alone."""
    made = Probe.__new__(Probe)
    made.t, made.x_t, made.clean, made.exact = 1.0, X, X, {}
    return made


def ladder() -> Ladder:
    examples = MODES.sample(4, generator=generator())
    return Ladder((4,), ((examples,),), as_denoiser(SideBySide(small_networks(1, 0)), 1))


READ: dict[str, Callable[[], object]] = {
    "digits in float64": lambda: digit_models.InDouble(network())(X.double(), 1.0),
    "finite data in float64": lambda: digits.InDouble(network())(X.double(), 1.0),
    "score": lambda: score_of(network(), X.double(), 1.0),
    "point": lambda: _point(network(), X, 1.0, 1.0, generator()),
    "mixtures": lambda: mapped(network(), X, {1.0: (1.0, X)}, X.mean(0), [1], [1], generator()),
    "distances": lambda: probe().distances(network()),
    "samples": lambda: samples_of([network(0), network(1)], X, torch.tensor([2.0, 1.0, 0.5])),
    "gaps": lambda: measured(ladder(), generator()),
}


@pytest.mark.parametrize("read", READ.values(), ids=READ)
def test_what_is_read_carries_no_graph(read: Callable[[], object]) -> None:
    found = tensors_of(read())
    assert found
    assert not any(tensor.requires_grad for tensor in found)


def test_the_arrows_of_a_drift_that_is_being_learned_are_those_of_its_values() -> None:
    """Of equal length for a constant drift: the spacing."""
    rate = torch.ones((), dtype=torch.float64, requires_grad=True)
    found = field(Dynamics(lambda x: rate * torch.ones_like(x), 1.0), (0.0, 11.0, 0.0, 11.0))
    assert found.dx == pytest.approx([0.5**0.5] * 144, rel=1e-12)


def test_the_jacobian_in_the_weights_is_a_number_and_its_product_that_of_a_double_derivative() -> None:
    denoiser, t = network().double(), torch.full((3,), 0.7, dtype=torch.float64)
    answers, J = _jacobian(denoiser, X.double(), t)
    assert not answers.requires_grad
    assert not J.requires_grad
    direction = torch.randn(J.shape[2], dtype=torch.float64, generator=generator())
    answer, turned = _along(denoiser, direction, X.double(), t)
    assert not answer.requires_grad
    assert torch.allclose(answers, answer, rtol=1e-12, atol=0)
    assert torch.allclose(J @ direction, turned, rtol=1e-10, atol=1e-12)


def test_a_network_beside_others_is_trained_by_its_own_copy_and_taken_out_again() -> None:
    networks = small_networks(2, 0)
    beside = SideBySide(networks)
    assert all(weight.is_leaf and weight.requires_grad for weight in beside.parameters())
    again = beside.alone(1)
    pairs = zip(again.parameters(), networks[1].parameters(), strict=True)
    assert all(torch.equal(own, given) and own.is_leaf and own.requires_grad for own, given in pairs)
