"""What an exact network answers to a scheduler, and the clean point that the scheduler makes of it, by hand."""

from types import SimpleNamespace

import pytest
import torch

from diffuscope.adapters.diffusers_network import TrainedNetwork
from diffuscope.exact import Gaussian

X = torch.tensor([[1.5, -0.5]], dtype=torch.float64)
CLEAN = torch.tensor([[0.5, 0.25]], dtype=torch.float64)
RATIO = torch.tensor(0.75, dtype=torch.float64)  # (alpha, sigma) = (0.8, 0.6), and (4, 3) / 7 where they add up to one


def network_of(kind: str, **config: str) -> TrainedNetwork:
    """For a scheduler of which only its settings are asked."""
    return TrainedNetwork(SimpleNamespace(config=config), kind)


EPSILON, VELOCITY = [[11 / 6, -7 / 6]], [[7 / 6, -13 / 12]]  # (x - alpha x_0) / sigma, and alpha eps - sigma x_0
FLOW = [[7 / 3, -7 / 4]]  # eps - x_0 with eps = (7 x - 4 x_0) / 3


@pytest.mark.parametrize(
    ("network", "answer"),
    [
        (network_of("flow"), FLOW),  # a scheduler of flow matching says nothing of it, nor do the first ones
        (network_of("vp"), EPSILON),
        (network_of("ve"), EPSILON),
        (network_of("vp", prediction_type="epsilon"), EPSILON),
        (network_of("vp", prediction_type="v_prediction"), VELOCITY),
        (network_of("angle", prediction_type="epsilon"), VELOCITY),
        (network_of("vp", prediction_type="sample"), [[0.5, 0.25]]),
        (network_of("vp", prediction_type="original_sample"), [[0.5, 0.25]]),
        (network_of("flow", prediction_type="flow_prediction"), FLOW),
    ],
)
def test_a_network_answers_what_its_scheduler_predicts_and_the_scheduler_takes_it_back(network, answer):
    expected = torch.tensor(answer, dtype=torch.float64)
    torch.testing.assert_close(network.answer(X, CLEAN, RATIO), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(network.clean(X, expected, RATIO), CLEAN, rtol=1e-12, atol=1e-12)


def test_the_scales_of_a_state_have_its_ratio_and_the_norm_of_its_kind():
    for kind, norm in (("vp", 1.0), ("flow", 5 / 7), ("ve", 1.25), ("edm", 1.25), ("angle", 1.0)):
        network = network_of(kind)
        alpha, sigma = network.scales(RATIO)
        assert float(sigma / alpha) == pytest.approx(0.75, rel=1e-12)
        assert float(network.norm(RATIO)) == pytest.approx(norm, rel=1e-12)
        if kind == "flow":
            assert float(alpha + sigma) == pytest.approx(1, rel=1e-12)


def test_a_network_of_gaussian_data_predicts_the_noise_of_its_posterior_mean():
    """x_0 ~ N(0, I): D = alpha x, so that eps = sigma x."""
    network = network_of("vp")
    data = Gaussian.isotropic(torch.zeros(2, dtype=torch.float64), 1.0)
    torch.testing.assert_close(network(data, X, RATIO), 0.6 * X, rtol=1e-12, atol=1e-12)
    at_zero = torch.tensor(0.0, dtype=torch.float64)
    assert torch.equal(network(data, X, at_zero), torch.zeros_like(X))
