"""An audit of a model on another device, which PyTorch's lazy backend is on any machine, is that of the CPU."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from audit_subjects import SMALL, asked
from diffuscope.audit import Subject, audit_model
from diffuscope.denoisers import MLP, ExactDenoiser, on_device
from diffuscope.exact import two_moons
from diffuscope.schedules import VE
from second_device import second_device


class Network(nn.Module):
    """All of a denoiser: what is near the exact one of two moons, from the nearest of their points, and a bit more."""

    schedule = VE(0.01, 50.0)
    points: Tensor

    def __init__(self) -> None:
        super().__init__()
        exact = two_moons()
        self.register_buffer("points", exact.sample(64, generator=torch.Generator().manual_seed(1)).float())
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.rest = MLP((2,), width=16, depth=1)

    def forward(self, x: Tensor, t: Any) -> Tensor:
        sigma = torch.as_tensor(t, dtype=x.dtype, device=x.device).reshape(-1, 1)
        squares = (x[:, None] - self.points).square().sum(2)
        weights = (-squares / (2 * sigma**2 + 0.02)).softmax(1)
        return weights @ self.points + 1e-3 * self.rest(x / 50, torch.zeros(len(x), device=x.device))


class Around:
    """A denoiser that is no module: its network is elsewhere, the rest is here."""

    schedule = VE(0.01, 50.0)

    def __init__(self) -> None:
        self.exact = ExactDenoiser(two_moons(), self.schedule)
        self.network = Network()

    def __call__(self, x: Tensor, t: Any) -> Tensor:
        return self.exact(x, t) + 1e-3 * self.network(x, t)


@pytest.fixture
def elsewhere(monkeypatch):
    """The second device; parts of its tensors, which that backend takes for tensors of the CPU, are made anew."""
    device = second_device()
    split = Tensor.split

    def parts(x: Tensor, size: int, dim: int = 0) -> tuple[Tensor, ...]:
        lazy = x.device.type == "lazy"
        return tuple(part.to(x.device) for part in split(x.cpu(), size, dim)) if lazy else split(x, size, dim)

    monkeypatch.setattr(Tensor, "split", parts)
    return device


def differences(found: Any, expected: Any) -> list[Any]:
    """Where two results differ by more than 1e-3 of a number, or at all."""
    if isinstance(expected, dict):
        return [d for key in expected for d in differences(found[key], expected[key])]
    if isinstance(expected, list | tuple):
        assert len(found) == len(expected)
        return [d for pair in zip(found, expected, strict=True) for d in differences(*pair)]
    if isinstance(expected, float) and isinstance(found, float):
        same = math.isclose(found, expected, rel_tol=1e-3, abs_tol=1e-5) or found != found
        return [] if same else [(found, expected)]
    return [] if found == expected else [(found, expected)]


@pytest.mark.slow  # the second device compiles every kind of call
@pytest.mark.parametrize("kind", [Network, Around])
def test_an_audit_on_a_device_is_that_of_the_cpu(elsewhere, kind):
    """Wherever a tensor of one device meets one of the other, PyTorch raises."""
    x = two_moons().sample(160, generator=torch.Generator().manual_seed(0)).float()
    found = []
    with asked("wiring", "learned", "steps"):
        for model in (kind(), on_device(kind(), elsewhere)):
            found.append(audit_model(Subject(model, x[:80], x[80:]), SMALL).as_json())
    expected, there = found
    assert len(expected["findings"]) == 3
    assert differences(there, expected) == []
