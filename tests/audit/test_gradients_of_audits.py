"""Models, encoders, features and samplers of the user with parameters: an audit records no graph of their calls.

A graph that leaves a measurement keeps the activations of every batch in memory.
"""

import pytest
import torch
from made_by_hand import random_weights
from torch import Tensor, nn

from diffuscope.audit import CifarFeatures
from diffuscope.audit.class_fit import candidates
from diffuscope.audit.conventions import READINGS, declared, relative_errors
from diffuscope.audit.latents import _batched, load_encoder
from diffuscope.audit.manners import manners
from diffuscope.audit.network_calls import called_network
from diffuscope.audit.own_sampler import own_sampler
from diffuscope.audit.sample_metrics import SampleMetrics
from diffuscope.audit.subject import evaluate
from diffuscope.audit.transformations import transformations
from diffuscope.data import data_from_arrays
from diffuscope.schedules import VE

X = torch.tensor([[3.0, 1.0], [0.0, 2.0]])


class Half(nn.Module):
    """x / 2 with a parameter, under the names that the audit calls; it remembers whether a graph was recorded."""

    def __init__(self) -> None:
        super().__init__()
        self.share = nn.Parameter(torch.tensor(0.5))
        self.recorded: list[bool] = []

    def forward(self, x: Tensor, *_: object) -> Tensor:
        answer = self.share.to(x.dtype) * x
        self.recorded.append(answer.requires_grad)
        return answer

    def encode(self, x: Tensor) -> Tensor:
        return self(x)


class Model(nn.Module):
    """The denoiser x / 2 with two classes around such a network."""

    classes, event_shape = 2, (2,)

    def __init__(self) -> None:
        super().__init__()
        self.schedule, self.network = VE(0.01, 50.0), Half()

    def forward(self, x_t: Tensor, t: Tensor, y: object = None) -> Tensor:  # noqa: ARG002
        return self.network(x_t, t)


HALF = Half()


def euler(denoiser, x_start, times, generator):  # noqa: ARG001
    """One step to the end."""
    return denoiser(x_start, times[0])


def test_a_denoiser_is_evaluated_without_a_graph():
    found = evaluate(Model(), X, 1.0)
    assert torch.equal(found, X / 2)
    assert not found.requires_grad


def test_the_errors_of_a_reading_are_numbers_of_a_network_with_parameters_too():
    """|x / 2 - x|^2 over 16 / 8 + 4 / 5."""
    variances = torch.tensor([4.0, 1.0], dtype=torch.float64)
    reading = {"data": READINGS["clean data"]}
    found = relative_errors(declared(Model()), reading, 2.0, X, torch.zeros(2, 2), variances)
    assert found[0] == pytest.approx([2.5 / 2.8, 1.0 / 2.8], rel=1e-6)


def test_the_manners_of_a_model_with_parameters_are_those_of_its_numbers():
    model = Model().eval()
    assert manners(model, X, torch.tensor([0.5, 3.0], dtype=torch.float64)) == []
    assert not any(model.network.recorded)


def test_which_classes_a_model_has_is_tried_without_a_graph():
    model = Model()
    assert candidates(model, 0, X, 1.0) == [1, 2]
    assert model.network.recorded == [False]


def test_the_answer_of_the_network_within_is_kept_without_its_graph():
    found = called_network(Model(), X, 0.5)
    assert found is not None
    assert torch.equal(found.output, X / 2)
    assert not found.output.requires_grad


def test_samples_of_the_users_sampler_carry_no_graph_of_the_model():
    samples = own_sampler(f"{__name__}:euler")(Model(), X, torch.tensor([1.0, 0.1]), torch.Generator())
    assert torch.equal(samples, X / 2)
    assert not samples.requires_grad


def test_latents_and_versions_by_functions_with_parameters_carry_no_graph(generator):
    latents = _batched(load_encoder(f"{__name__}:HALF"), "encode", X, None)
    images = torch.rand(2, 1, 16, 16, generator=generator)
    versions = transformations([f"{__name__}:HALF"], images.shape[1:])[-1].versions(images)
    assert torch.equal(latents, X / 2)
    assert torch.equal(versions, torch.stack([images, images / 2], 1))
    assert not latents.requires_grad
    assert not versions.requires_grad
    assert not any(HALF.recorded)


def test_samples_and_images_that_require_gradients_are_measured_as_numbers(generator):
    metrics = SampleMetrics(data_from_arrays(torch.randn(20, 2, generator=generator).numpy()))
    metrics.update(X.clone().requires_grad_())
    assert not metrics.samples.requires_grad
    images = torch.rand(2, 3, 32, 32, generator=generator).requires_grad_()
    assert not CifarFeatures(random_weights(generator))(images).requires_grad
