"""What a model consists of is the same before and after its first use."""

from functools import cached_property

import pytest
import torch

from diffuscope.denoisers import ExactDenoiser, tensors_within
from diffuscope.exact import Gaussian, GaussianMixture
from diffuscope.schedules import VE, DiscreteVP

MEAN = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
WIDE = Gaussian.isotropic(MEAN, 4.0)
WEIGHTS = torch.tensor([0.3, 0.7], dtype=torch.float64)
USED = {
    "Gaussian": lambda: ExactDenoiser(Gaussian.isotropic(MEAN.clone(), 2.0), VE()),
    "GaussianMixture": lambda: ExactDenoiser(
        GaussianMixture.isotropic(WEIGHTS, torch.stack([MEAN, -MEAN]), torch.tensor([1.0, 2.0])), VE()
    ),
    "a schedule of steps": lambda: ExactDenoiser(WIDE, DiscreteVP((0.01, 0.05, 0.2))),
}


@pytest.mark.parametrize("name", USED)
def test_a_first_use_adds_nothing(name):
    denoiser = USED[name]()
    before = [id(tensor) for tensor in tensors_within(denoiser)]
    denoiser(torch.ones(2, 3), torch.tensor(1.5, dtype=torch.float64))
    assert before
    assert [id(tensor) for tensor in tensors_within(denoiser)] == before


def test_a_tensor_is_listed_once_however_many_ways_lead_to_it():
    """Through its module, through the modules that hold this one, and as an attribute of its own."""
    network = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    model = {"network": network, "again": [network[0]], "weight": network[0].weight}
    assert [id(tensor) for tensor in tensors_within(model)] == [
        id(x) for x in [*network.parameters(), *network.buffers()]
    ]


def test_a_network_that_a_users_property_loads_is_part_of_the_model():
    class Lazy:
        @cached_property
        def network(self):
            return torch.nn.Linear(2, 2)

    model = Lazy()
    weights = model.network.weight
    assert any(tensor is weights for tensor in tensors_within(model))
