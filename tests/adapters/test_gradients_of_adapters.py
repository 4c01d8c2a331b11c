"""A run of another library's sampler records no graph of the model.

In place of the libraries stand samplers of one step, which need none of them.
"""

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from diffuscope.adapters import azula, azula_posterior, diffusers, diffusers_as_shipped, k_diffusion
from diffuscope.physics import at_nodes
from diffuscope.schedules import VE, VP, Schedule

X = torch.tensor([[3.0, 1.0], [0.0, 2.0]], dtype=torch.float64)
TIMES = torch.tensor([0.9, 0.5], dtype=torch.float64)


class Half:
    """D = x / 2 with a parameter; it remembers whether a graph was recorded."""

    event_shape = (2,)

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self.share = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
        self.recorded: list[bool] = []

    def __call__(self, x_t: Tensor, t: Tensor | float) -> Tensor:  # noqa: ARG002
        answer = self.share.to(x_t) * x_t
        self.recorded.append(answer.requires_grad)
        return answer


def assert_plain(found: Tensor, model: Half, expected: Tensor) -> None:
    assert torch.allclose(found, expected, rtol=1e-6, atol=0)
    assert not found.requires_grad
    assert model.recorded == [False]


def test_a_sampler_of_k_diffusion(monkeypatch: pytest.MonkeyPatch) -> None:
    def sample_once(model, x, sigmas, extra_args=None, disable=None):  # noqa: ARG001
        return model(x, sigmas[:1].expand(len(x)))

    monkeypatch.setattr(k_diffusion, "sampling", lambda: SimpleNamespace(sample_once=sample_once))
    model = Half(VE())
    assert_plain(k_diffusion.target("sample_once", {}).run(model, X, TIMES, None), model, X / 2)


def test_a_sampler_of_azula(monkeypatch: pytest.MonkeyPatch) -> None:
    class Sampler:
        timesteps: Tensor

        def __init__(self, denoiser, silent=False):  # noqa: ARG002
            self.denoiser = denoiser

        def __call__(self, x):
            return self.denoiser(x, self.timesteps[0]).mean

    class EulerSampler(Sampler):
        pass

    peer = SimpleNamespace(Sampler=Sampler, EulerSampler=EulerSampler, __all__=["EulerSampler"])
    monkeypatch.setattr(azula, "library", lambda *_: peer)
    model = Half(VE())
    assert_plain(azula.target("EulerSampler", {}).run(model, X, TIMES, None), model, X / 2)


def test_a_scheduler_of_diffusers(monkeypatch: pytest.MonkeyPatch) -> None:
    class Scheduler:
        def __init__(self) -> None: ...
        def step(self) -> None: ...

    monkeypatch.setattr(diffusers, "scheduler_class", lambda _: Scheduler)
    monkeypatch.setattr(diffusers, "_made", lambda *_: Scheduler())
    monkeypatch.setattr(diffusers, "_walk", lambda *given: given[3](given[5], given[6][0]))
    model = Half(VP())
    assert_plain(diffusers.target("DDIMScheduler", {}).run(model, X, TIMES, None), model, X / 2)


def test_the_loop_of_a_pipeline() -> None:
    made = SimpleNamespace(timesteps=TIMES, step=lambda output, t, x: SimpleNamespace(prev_sample=output))  # noqa: ARG005
    model = Half(VP())
    walk = diffusers_as_shipped._Walk(lambda: made, "ddim", {}, {}, False)
    found = walk.loop(made, model, X)
    assert torch.equal(found, X / 4)
    assert not found.requires_grad
    assert model.recorded == [False, False]


def test_a_posterior_sampler_of_azula(monkeypatch: pytest.MonkeyPatch) -> None:
    class Sampler:
        def __call__(self, x):
            return 0 * x + 4

    monkeypatch.setattr(azula_posterior, "library", lambda *_: None)
    monkeypatch.setattr(azula_posterior, "_module", lambda _: None)
    monkeypatch.setitem(azula_posterior._SAMPLERS, "DPS", lambda *_: Sampler())
    model = Half(VE())
    observation, y = at_nodes(torch.tensor([1]), (2,), 0.5), torch.tensor([1.5])
    found = azula_posterior._Run("DPS")(model, observation, y, 3, seed=0, steps=2)
    assert_plain(found, model, torch.full((3, 2), 2.0))
