"""Networks on another device than everything else.

PyTorch's lazy backend is a second device on any machine: it computes the same numbers, and refuses whatever mixes its
tensors with those of the CPU.
"""

import copy
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from diffuscope.cli.devices import chosen_device
from diffuscope.denoisers import (
    MLP,
    ExactDenoiser,
    Guided,
    NoisePredictor,
    OfClass,
    Preconditioned,
    device_of,
    on_device,
)
from diffuscope.denoisers.devices import moved, outermost
from diffuscope.errors import InputError
from diffuscope.exact import Gaussian
from diffuscope.samplers import DDPM, DPMSolverPP2M, Heun, finish, model_times
from diffuscope.schedules import VE, VP
from second_device import second_device

ELSEWHERE = second_device()
X = torch.randn(5, 2, generator=torch.Generator().manual_seed(0))
TIMES = (torch.tensor(0.7, dtype=torch.float64), torch.linspace(0.1, 0.9, 5, dtype=torch.float64), 0.7)


def network(classes: int = 0) -> MLP:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return MLP((2,), width=16, depth=1, classes=classes)


def preconditioned(classes: int = 0) -> Preconditioned:
    return Preconditioned(network(classes), VE(0.01, 20.0), 0.7, event_shape=(2,), data_range=(-1.0, 1.0))


def predictor() -> NoisePredictor:
    return NoisePredictor(network(), VP(), event_shape=(2,), data_range=(-1.0, 1.0))


@dataclass(frozen=True)
class Around:
    """A denoiser that is no module, and computes around one."""

    inner: nn.Module
    schedule: VE

    def __call__(self, x_t, t):
        return x_t + torch.ones(2) * self.inner(x_t, t)


@dataclass
class Output:
    sample: torch.Tensor


class Wrapped(nn.Module):
    """A network that answers in an object, as those of diffusers do."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = network()

    def forward(self, x, t):
        return Output(self.inner(x, t.to(x.dtype).expand(len(x))))


MODELS = {
    "preconditioned": preconditioned,
    "predictor": predictor,
    "around": lambda: Around(preconditioned(), VE(0.01, 20.0)),
    "of a class": lambda: OfClass(preconditioned(3), torch.tensor([0, 1, 2, 0, 1])),
    "guided": lambda: Guided(OfClass(model := preconditioned(3), torch.tensor([0, 1, 2, 0, 1])), model, 2.0),
}


def test_tensors_of_two_devices_do_not_mix_here():
    """Otherwise the tests of this file could not fail."""
    model = preconditioned().to(ELSEWHERE)
    with pytest.raises(RuntimeError, match="lazy"):
        model(X, 0.7)


@pytest.mark.parametrize("kind", MODELS)
def test_a_model_on_a_device_takes_and_returns_batches_of_the_cpu(kind):
    expected = [MODELS[kind]()(X, t) for t in TIMES]
    model = on_device(MODELS[kind](), ELSEWHERE)
    assert all(p.device.type == "lazy" for module in outermost(model) for p in module.parameters())
    for t, answer in zip(TIMES, expected, strict=True):
        found = model(X, t)
        assert found.device == X.device
        torch.testing.assert_close(found, answer, rtol=1e-5, atol=1e-6)
    on_device(model, ELSEWHERE)  # once is enough
    torch.testing.assert_close(model(X, 0.7), expected[2], rtol=1e-5, atol=1e-6)


def test_a_batch_that_is_there_stays_there():
    model = on_device(preconditioned(), ELSEWHERE)
    assert model(X.to(ELSEWHERE), 0.7).device.type == "lazy"
    assert device_of(model).type == "lazy"


def test_an_answer_in_an_object_comes_back_too():
    found = on_device(Wrapped(), ELSEWHERE)(X, torch.tensor(0.7))
    assert found.sample.device == X.device
    torch.testing.assert_close(found.sample, Wrapped()(X, torch.tensor(0.7)).sample, rtol=1e-5, atol=1e-6)


def test_a_call_that_fails_leaves_the_next_one_right():
    model = on_device(preconditioned(), ELSEWHERE)
    for _ in range(3):
        with pytest.raises(InputError, match="shape"):
            model(torch.zeros(4, 3), 0.7)
        assert model(X, 0.7).device == X.device
        assert model(X.to(ELSEWHERE), 0.7).device.type == "lazy"


def test_an_exact_model_has_no_network_and_stays_as_it_is():
    exact = ExactDenoiser(Gaussian.isotropic(torch.zeros(2), 1.0), VE())
    assert on_device(exact, ELSEWHERE) is exact
    assert torch.equal(exact(X, 1.0), X / 2)  # E[x_0 | x_t] of N(0, 1) at sigma = 1


def test_what_is_moved_keeps_its_kind_and_the_original_is_left():
    given = {"a": (X, [X, 1]), "b": Output(X), "c": "text"}
    there = moved(given, ELSEWHERE)
    assert {x.device.type for x in (there["a"][0], there["a"][1][0], there["b"].sample)} == {"lazy"}
    assert there["c"] == "text"
    assert given["a"][0].device == given["b"].sample.device == X.device


@pytest.mark.parametrize("sampler", [DPMSolverPP2M(), Heun(), DDPM()])
def test_samples_of_a_model_on_a_device_are_those_of_the_cpu(sampler):
    """The trajectory is on the device, its start and its end on the CPU."""

    def samples(model):
        times = model_times(model, 4)
        noise = torch.Generator().manual_seed(2) if sampler.stochastic else None
        return finish(model, sampler, float(model.schedule.sigma(times[0])) * X, times, noise=noise)

    found = samples(on_device(preconditioned(), ELSEWHERE))
    assert found.device == X.device
    torch.testing.assert_close(found, samples(preconditioned()), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("gpus", "torchrun", "name", "expected"),
    [
        (0, None, None, "cpu"),
        (2, None, None, "cpu"),
        (2, None, "cuda", "cuda:0"),
        (2, None, "cuda:1", "cuda:1"),
        (2, "1/2", None, "cuda:1"),
        (2, "1/2", "cuda", "cuda:1"),
        (2, "1/2", "cpu", "cpu"),
        (0, "1/2", None, "cpu"),
        (0, None, "cpu:0", "cpu"),
        (0, None, "cuda", "device: expected cpu, as this machine has no CUDA device, got cuda"),
        (2, None, "cuda:2", "device: expected cuda:0 to cuda:1, the CUDA devices of this machine, got cuda:2"),
        (2, None, "gpu", "device: expected cpu, cuda or cuda:N, got 'gpu'"),
        (2, None, "cuda:x", "device: expected cpu, cuda or cuda:N, got 'cuda:x'"),
        (2, None, "meta", "device: expected cpu, cuda or cuda:N, got 'meta'"),
        (0, None, "mps", "device: expected cpu or cuda, as mps has no float64, in which times and noise levels are "
         "computed, got mps"),
        (2, "0/2", "cuda:1", "device: expected cpu or cuda, as each process of torchrun has a GPU of its own, "
         "got cuda:1"),
    ],
)  # fmt: skip
def test_the_device_is_what_pytorch_means_by_it_or_a_line(monkeypatch, gpus, torchrun, name, expected):
    monkeypatch.setattr(torch, "cuda", SimpleNamespace(is_available=lambda: gpus > 0, device_count=lambda: gpus))
    if torchrun is not None:
        rank, size = torchrun.split("/")
        for key, value in {"TORCHELASTIC_RUN_ID": "r", "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": size}.items():
            monkeypatch.setenv(key, value)
    if ":" in expected and not expected.startswith("cuda"):
        with pytest.raises(InputError) as error:
            chosen_device(name)
        assert str(error.value) == expected
    else:
        assert chosen_device(name) == torch.device(expected)


def test_a_model_that_was_moved_can_be_moved_back_and_copied():
    """Its hooks for the other device are gone, and a copy has hooks of its own."""
    expected = preconditioned()(X, TIMES[0])
    model = on_device(preconditioned(), ELSEWHERE)
    copied = copy.deepcopy(model)
    here = on_device(model, torch.device("cpu"))
    answer = here(X, TIMES[0])
    assert answer.device.type == "cpu"
    assert torch.equal(answer, expected)
    torch.testing.assert_close(copied(X, TIMES[0]), expected)
    assert device_of(copied).type == ELSEWHERE.type
    again = on_device(on_device(here, ELSEWHERE), ELSEWHERE)
    assert len(again._forward_hooks) == 1
    torch.testing.assert_close(again(X, TIMES[0]), expected)
