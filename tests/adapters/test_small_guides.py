"""azula's guides by stand-ins that do as its classes do: our guide in its samplers, its methods on our observation."""

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from diffuscope.adapters import azula_posterior
from diffuscope.denoisers import ExactDenoiser
from diffuscope.errors import InputError
from diffuscope.exact import Gaussian
from diffuscope.physics import LinearObservation, at_nodes
from diffuscope.physics.grading import Entry
from diffuscope.samplers import generate
from diffuscope.schedules import VE


class Noted(SimpleNamespace):
    """What a guide or a sampler of azula is given; the guide denoises as its denoiser does, plus one."""

    def __call__(self, x_t: Tensor, t: Tensor) -> Any:
        assert t.dtype == torch.float64
        return SimpleNamespace(mean=(self.given[0](x_t, t).mean + 1).double())


class Steps:
    """A sampler that takes no steps: its end is its start."""

    timesteps: Tensor
    last: Any = None

    def __init__(self, kind: str, given: Any, named: Any) -> None:
        self.kind, self.given, self.named = kind, given, named
        type(self).last = Steps.last = self

    def __call__(self, x: Tensor) -> Tensor:
        self.start, self.drawn = x, torch.randn_like(x)
        return x + self.drawn


class Base(torch.nn.Module):
    pass


@pytest.fixture
def guides(monkeypatch: pytest.MonkeyPatch) -> None:
    samplers = {
        name: lambda *given, name=name, **named: Steps(name, given, named)
        for name in ("DPSSampler", "PGDMSampler", "RePaintSampler", "TDSSampler")
    }
    denoisers = {
        name: lambda *given, name=name: Noted(kind=name, given=given)
        for name in ("MMPSDenoiser", "TMPDenoiser", "DiffPIRDenoiser")
    }
    modules = {
        "azula.guidance": samplers | denoisers,
        "azula.denoise": {"Denoiser": Base, "DiracPosterior": SimpleNamespace},
        "azula.linalg.covariance": {"IsotropicCovariance": lambda value: ("isotropic", value)},
    }
    monkeypatch.setattr(azula_posterior, "library", lambda name, *_: SimpleNamespace(**modules[name]))


DATA = Gaussian.isotropic(torch.full((3,), 0.5), 0.25)
NODES = at_nodes(torch.tensor([2, 0]), (3,), 0.5)
Y = torch.tensor([1.5, -1.0], dtype=torch.float64)


@pytest.mark.usefixtures("guides")
def test_the_methods_are_named_and_a_guide_is_sampled_by_our_sampler():
    found = azula_posterior.methods()
    assert list(found) == [f"azula:{name}" for name in azula_posterior.NAMES]
    assert found["azula:DPS"] == Entry("azula:DPS", "azula's DPS", azula_posterior._Run("DPS"))
    denoiser = ExactDenoiser(DATA, VE())

    class Plus:
        schedule, event_shape = VE(), (3,)

        def __call__(self, x_t: Tensor, t: Any) -> Tensor:
            return denoiser(x_t, t) + 1

    for name in ("MMPS", "TMPD", "DiffPIR"):
        method: Any = found[f"azula:{name}"].method
        ended = method(denoiser, NODES, Y, 4, seed=3, steps=5)
        torch.testing.assert_close(ended, generate(Plus(), 4, steps=5, seed=3), rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("guides")
def test_a_sampler_takes_its_steps_over_our_times_from_our_noise_and_ends_with_a_denoise():
    denoiser = ExactDenoiser(DATA, VE())
    for name in ("DPS", "PGDM", "RePaint", "TDS"):
        ended = azula_posterior._Run(name)(denoiser, NODES, Y, 4, seed=3, steps=5)
        made = Steps.last
        times = made.timesteps
        assert len(times) == 6
        assert torch.equal(ended, denoiser(made.start + made.drawn, times[-1]))
        noise = torch.randn(4, 3, generator=torch.Generator().manual_seed(3))
        torch.testing.assert_close(made.start, float(times[0]) * noise, rtol=1e-6, atol=0)
        again = azula_posterior._Run(name)(denoiser, NODES, Y, 4, seed=3, steps=5)
        assert torch.equal(ended, again)
        assert made.named == ({"silent": True, "zeta": 2.0} if name == "DPS" else {"silent": True})
        theirs = made.given[0]
        alpha, sigma = theirs.schedule(torch.tensor(2.0, dtype=torch.float64))
        assert (alpha, sigma, alpha.dtype) == (1, 2, torch.float32)
        assert torch.equal(theirs.forward(noise, times[0]).mean, denoiser(noise, times[0]))


@pytest.mark.usefixtures("guides")
def test_what_is_given_to_azulas_methods_is_the_observation_in_their_terms():
    guidance, theirs, y = azula_posterior.library("azula.guidance", "azula"), object(), Y.float()
    mmps = azula_posterior._mmps(guidance, theirs, NODES, y)
    assert mmps.given[:3] == (theirs, y, NODES)
    assert mmps.given[3] == ("isotropic", torch.tensor(0.25))
    for make in (azula_posterior._tmpd, azula_posterior._diffpir):
        assert make(guidance, theirs, NODES, y).given == (theirs, y, NODES, 0.25)
    dps = azula_posterior._dps(guidance, theirs, NODES, y, 9)
    assert (dps.given, dps.named) == ((theirs, y, NODES), {"zeta": 3.0, "silent": True})
    twice = LinearObservation(2 * NODES.matrix, (3,), 0.5)
    back = azula_posterior._pgdm(guidance, theirs, twice, y, 9).given[3]
    torch.testing.assert_close(back(torch.tensor([[4.0, 2.0]])), torch.tensor([[1.0, 0.0, 2.0]]))
    _, field, mask = azula_posterior._repaint(guidance, theirs, NODES, y, 4).given
    assert mask.tolist() == [True, False, True]
    assert field.tolist() == [[-1.0, 0.0, 1.5]] * 4
    with pytest.raises(
        InputError, match="observation: azula's RePaint expects values at nodes, got other combinations"
    ):
        azula_posterior._repaint(guidance, theirs, twice, y, 4)
    twist = azula_posterior._tds(guidance, theirs, NODES, y, 4).given[1]
    x, q = torch.tensor([[0.0, 0.0, 1.0]]), torch.tensor(0.75)
    variance = 0.25 + 0.5625 / 1.5625  # r^2 + q^2/(1 + q^2); misfits 1.5 - 1 and -1 - 0
    expected = torch.tensor([[-0.125, -0.5]]) / variance - math.log(variance) / 2
    torch.testing.assert_close(twist(x, q), expected)
