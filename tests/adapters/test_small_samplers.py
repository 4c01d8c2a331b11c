"""azula's and k-diffusion's samplers by their published formulas: also where these are absent."""

import math
import sys
from itertools import pairwise
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from peer_networks import five_points
from peer_runs import (
    UNEQUAL,
    assert_noise_is_the_generators,
    assert_single_precision_stays,
    between,
    end_on_a_point,
    miss_of_a_point,
    noised,
    order_on_a_gaussian,
)
from torch import Tensor

from diffuscope.adapters import azula_sampler, k_diffusion, known_targets, load_target
from diffuscope.adapters.grid_samplers import sampler_text
from diffuscope.adapters.k_diffusion_call import k_diffusion_sampler
from diffuscope.denoisers import ExactDenoiser
from diffuscope.errors import InputError
from diffuscope.samplers import DDIM, Heun, NoiseAdamsBashforth, StochasticDDIM, UniPC, sample
from diffuscope.schedules import VE, VP, GeometricVE, RectifiedFlow
from diffuscope.times import karras_times

MIXTURE = five_points()


# k-diffusion: y = x/alpha at levels sigma/alpha, one level per sample; Karras et al. 2022, algorithms 1 and 2


def sample_euler(model, x, sigmas, extra_args=None, callback=None, disable=None, s_churn=0.0):
    assert (extra_args, callback, disable) == ({}, None, True)
    for level, following in pairwise(sigmas):
        hat = level * (1 + min(s_churn / (len(sigmas) - 1), math.sqrt(2) - 1))
        x = x + (hat**2 - level**2).sqrt() * torch.randn_like(x)
        slope = (x - model(x, hat.expand(len(x)))) / hat
        x = x + (following - hat) * slope
    return x


def sample_heun(model, x, sigmas, extra_args=None, callback=None, disable=None):
    del extra_args, callback, disable
    for level, following in pairwise(sigmas):
        slope = (x - model(x, level.expand(len(x)))) / level
        end = x + (following - level) * slope
        if following > 0:
            slope = (slope + (end - model(end, following.expand(len(x)))) / following) / 2
        x = x + (following - level) * slope
    return x


def sample_euler_ancestral(
    model, x, sigmas, extra_args=None, callback=None, disable=None, eta=1.0, noise_sampler: Any = None
):
    del extra_args, callback, disable
    for level, following in pairwise(sigmas):
        up = eta * (following**2 * (level**2 - following**2) / level**2).sqrt()
        down = (following**2 - up**2).sqrt()
        x = x + (down - level) * (x - model(x, level.expand(len(x)))) / level
        if following > 0:
            x = x + up * noise_sampler(level, following)
    return x


def sample_lms(model, x, sigmas, order=4):
    raise NotImplementedError


def sample_dpmpp_2m_sde(model, x, sigmas, eta=1.0, noise_sampler=None):
    raise NotImplementedError


def sample_dpm_fast(model, x, sigma_min):
    raise NotImplementedError


@pytest.fixture
def of_k_diffusion(monkeypatch: pytest.MonkeyPatch) -> None:
    offered = (sample_euler, sample_heun, sample_euler_ancestral, sample_lms, sample_dpmpp_2m_sde, sample_dpm_fast)
    small = SimpleNamespace(**{each.__name__: each for each in offered}, to_d=None)
    monkeypatch.setattr(k_diffusion, "sampling", lambda: small)


@pytest.mark.usefixtures("of_k_diffusion")
def test_samplers_of_k_diffusion_are_run_in_their_own_states():
    for name, ours in (("sample_euler", DDIM()), ("sample_heun", Heun())):
        for schedule in (VE(), VP()) if name == "sample_euler" else (VE(),):
            times = between(schedule, 20.0, 0.05, 6)
            denoiser, x = ExactDenoiser(UNEQUAL, schedule), noised(UNEQUAL, schedule, times[0])
            theirs = load_target(f"k_diffusion:{name}").run(denoiser, x, times, None)
            torch.testing.assert_close(theirs, sample(ours, denoiser, x, times), rtol=1e-9, atol=1e-9)
        assert miss_of_a_point(f"k_diffusion:{name}") < 1e-9
        assert end_on_a_point(f"k_diffusion:{name}") < 1e-9
    assert order_on_a_gaussian("k_diffusion:sample_heun", steps=(24, 34, 48)).order == pytest.approx(2, abs=0.15)
    for name in ("sample_euler?s_churn=40.0", "sample_euler_ancestral"):
        assert_noise_is_the_generators(load_target(f"k_diffusion:{name}"))
    assert end_on_a_point("k_diffusion:sample_euler_ancestral") < 1e-9
    assert_single_precision_stays(load_target("k_diffusion:sample_heun"))


@pytest.mark.usefixtures("of_k_diffusion")
def test_what_a_target_of_k_diffusion_declares():
    for name, order, stochastic, evaluations, coarsest in (
        ("sample_euler", 1, False, 1, 1),
        ("sample_euler?s_churn=1.0", None, True, 1, 1),
        ("sample_heun", 2, False, 2, 1),
        ("sample_euler_ancestral", None, True, 1, 1),
        ("sample_euler_ancestral?eta=0", 1, False, 1, 1),
        ("sample_lms", 4, False, 1, 1),
        ("sample_lms?order=2", 2, False, 1, 1),
        ("sample_dpmpp_2m_sde?eta=0", 2, False, 1, 2),
    ):
        found = load_target(f"k_diffusion:{name}")
        assert (found.order, found.stochastic, found.nfe_per_step, found.coarsest) == (
            order, stochastic, evaluations, coarsest,
        )  # fmt: skip
        assert found.schedules == (VE(),)
    assert "k_diffusion:sample_dpm_fast" not in known_targets()["k_diffusion"]
    assert "k_diffusion:to_d" not in known_targets()["k_diffusion"]
    for name, said in (
        ("sample_dpm_fast", "k_diffusion has no sampler 'sample_dpm_fast'; expected one of sample_euler, sample_heun"),
        ("sample_lms?eta=1", "k_diffusion:sample_lms has no option 'eta'; expected order"),
        ("sample_euler?disable=true", "k_diffusion:sample_euler has no option 'disable'; expected s_churn"),
    ):
        with pytest.raises(InputError, match=said):
            load_target(f"k_diffusion:{name}")


PACKAGE = {
    "__init__.py": "raise ImportError('more than its samplers need')",
    "sampling.py": "import torchvision_that_is_absent.transforms as T\nfrom another_absence import thing\n"
    "from . import utils\nLAST = T.x.y, thing, utils.ONE\n",
    "utils.py": "ONE = 1",
    "broken.py": "from .absent import x",
}


def test_a_part_of_k_diffusion_is_imported_without_the_rest_and_without_what_it_does_not_use(tmp_path, monkeypatch):
    (tmp_path / "k_diffusion").mkdir()
    for name, text in PACKAGE.items():
        (tmp_path / "k_diffusion" / name).write_text(text)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.delitem(sys.modules, "k_diffusion", raising=False)
    before = set(sys.modules)
    found = k_diffusion.part("sampling")
    assert found.LAST[2] == 1
    assert [type(each).__name__ for each in found.LAST[:2]] == ["_Absent", "_Absent"]
    assert set(sys.modules) == before
    with pytest.raises(InputError, match=r"target: importing k_diffusion.broken failed with No module named 'k_diff"):
        k_diffusion.part("broken")
    assert set(sys.modules) == before
    whole = ModuleType("k_diffusion")
    whole.__dict__["sampling"] = found
    monkeypatch.setitem(sys.modules, "k_diffusion", whole)
    assert k_diffusion.part("sampling") is found
    monkeypatch.setitem(sys.modules, "k_diffusion", None)
    with pytest.raises(InputError, match="target: k-diffusion is not installed; pip install --no-deps k-diffusion"):
        k_diffusion.part("sampling")


@pytest.mark.parametrize("sampler", [UniPC(), Heun(), StochasticDDIM(0.5)], ids=lambda s: type(s).__name__)
def test_our_sampler_in_k_diffusions_call_shape_ends_where_our_sample_ends(sampler):
    levels = torch.cat([karras_times(VE(), 20.0, 0.05, 7), torch.zeros(1, dtype=torch.float64)])
    seen: list[dict[str, Any]] = []

    def model(x: Tensor, sigma: Tensor, scale: float) -> Tensor:
        assert sigma.shape == (len(x),)
        return scale * MIXTURE.denoise(x, 1.0, sigma)

    def start() -> Tensor:
        return 20 * torch.randn(16, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

    def draws() -> torch.Generator:
        return torch.Generator().manual_seed(2)

    call = k_diffusion_sampler(sampler)
    ended = call(model, start(), levels, {"scale": 1.0}, seen.append, disable=True, generator=draws())
    ours = sample(sampler, ExactDenoiser(MIXTURE, VE()), start(), levels, noise=draws())
    assert float((ended - ours).abs().max()) < 1e-12
    assert [state["i"] for state in seen] == list(range(8))
    assert [state["sigma"] for state in seen] == [state["sigma_hat"] for state in seen] == list(levels[:-1])
    assert torch.equal(seen[0]["x"], start())
    for state in seen:
        assert torch.equal(state["denoised"], MIXTURE.denoise(state["x"], 1.0, float(state["sigma"])))


@pytest.mark.parametrize("terminal", [True, False])
def test_the_bar_of_a_call_shows_on_a_terminal_unless_it_is_disabled(monkeypatch, terminal):
    hidden: list[bool] = []

    def bar(steps: Tensor, *, desc: str, unit: str, disable: bool) -> Tensor:
        assert (desc, unit) == ("sampling", "step")
        hidden.append(disable)
        return steps

    monkeypatch.setattr("diffuscope.adapters.k_diffusion_call.progress_bar", bar)
    monkeypatch.setattr("sys.stderr.isatty", lambda: terminal, raising=False)
    for disable in (None, True, False):
        k_diffusion_sampler(DDIM())(lambda x, _: 0 * x, torch.ones(1, 1), torch.tensor([2.0, 1.0]), disable=disable)
    assert hidden == [not terminal, True, False]


# azula: a schedule of (alpha, sigma) and a denoiser with a mean; a step from t to s


class Sampler:
    timesteps: Tensor

    def __init__(self, denoiser=None, steps=4, silent=False, dtype=torch.float64):
        assert silent
        if denoiser is not None:
            self.denoiser = denoiser
        if not hasattr(self, "timesteps"):
            self.timesteps = torch.linspace(1, 0, steps + 1, dtype=dtype)

    def __call__(self, x: Tensor) -> Tensor:
        for t, s in pairwise(self.timesteps):
            x = self.step(x, t, s)
        return x

    def step(self, x: Tensor, t: Tensor, s: Tensor) -> Tensor:
        raise NotImplementedError


class DDIMSampler(Sampler):
    def __init__(self, denoiser, eta=0.0, steps=4, silent=False):
        super().__init__(denoiser, steps, silent)
        self.eta = eta

    def step(self, x: Tensor, t: Tensor, s: Tensor) -> Tensor:
        (a, b), (c, d) = self.denoiser.schedule(t), self.denoiser.schedule(s)
        mean = self.denoiser(x, t).mean
        fresh = self.eta * d * (1 - (a * d / (b * c)) ** 2).sqrt()
        return c * mean + (d**2 - fresh**2).sqrt() * (x - a * mean) / b + fresh * torch.randn_like(x)


class DDPMSampler(DDIMSampler):
    pass


class HeunSampler(DDIMSampler):
    pass


class ItoSampler(DDIMSampler):
    pass


class EulerSampler(Sampler):
    pass


class PCSampler(Sampler):
    def __init__(self, denoiser, corrections=1, delta=0.01, steps=4, silent=False):  # noqa: ARG002
        super().__init__(denoiser, steps, silent)


class REABSampler(Sampler):
    def __init__(self, denoiser, order=2, steps=4, silent=False):  # noqa: ARG002
        super().__init__(denoiser, steps, silent)


@pytest.fixture
def of_azula(monkeypatch: pytest.MonkeyPatch) -> Any:
    kinds = (DDIMSampler, DDPMSampler, HeunSampler, ItoSampler, EulerSampler, PCSampler, REABSampler)
    exported = {"Sampler": Sampler, **{kind.__name__: kind for kind in kinds}}
    module = ModuleType("azula.sample")
    module.__dict__.update(exported, __all__=[*exported, "plot"], plot=print)
    for name, content in (("azula", ModuleType("azula")), ("azula.sample", module)):
        monkeypatch.setitem(sys.modules, name, content)
    azula_sampler._sampler_class.cache_clear()
    yield
    azula_sampler._sampler_class.cache_clear()


@pytest.mark.usefixtures("of_azula")
def test_samplers_of_azula_are_run_on_our_times_in_every_schedule():
    for schedule in (VE(), VP(), RectifiedFlow()):
        times = between(schedule, 20.0, 0.05, 6)
        denoiser, x = ExactDenoiser(UNEQUAL, schedule), noised(UNEQUAL, schedule, times[0])
        theirs = load_target("azula:DDIMSampler").run(denoiser, x, times, None)
        torch.testing.assert_close(theirs, sample(DDIM(), denoiser, x, times), rtol=1e-12, atol=1e-12)
    assert end_on_a_point("azula:DDIMSampler") < 1e-9
    assert_noise_is_the_generators(load_target("azula:DDIMSampler?eta=0.5"))
    assert_single_precision_stays(load_target("azula:DDIMSampler"))
    for name in ("HeunSampler", "ItoSampler", "REABSampler"):
        with pytest.raises(InputError, match=rf"times: azula:{name} has no step to sigma = 0; expected sigma\(times"):
            end_on_a_point(f"azula:{name}")


@pytest.mark.usefixtures("of_azula")
def test_what_a_target_of_azula_declares():
    for name, order, stochastic, evaluations in (
        ("DDIMSampler", 1, False, 1),
        ("DDIMSampler?eta=0.5", None, True, 1),
        ("DDPMSampler", None, True, 1),
        ("HeunSampler", 2, False, 2),
        ("ItoSampler", None, False, 1),
        ("ItoSampler?eta=0.5", None, True, 1),
        ("EulerSampler", 1, False, 1),
        ("PCSampler", None, True, 2),
        ("PCSampler?corrections=3", None, True, 4),
        ("PCSampler?corrections=0", None, False, 1),
        ("PCSampler?delta=0", None, False, 2),
        ("REABSampler", 2, False, 1),
        ("REABSampler?order=3", 3, False, 1),
    ):
        found = load_target(f"azula:{name}")
        assert (found.order, found.stochastic, found.nfe_per_step) == (order, stochastic, evaluations)
        assert found.schedules == (VE(), VP(), RectifiedFlow())
        assert found.starts_at_zero_snr is False
    names = known_targets()["azula"]
    assert names[0] == "azula:DDIMSampler"
    assert len(names) == 7
    for name, said in (
        ("Sampler", "azula has no sampler 'Sampler'; expected one of DDIMSampler, DDPMSampler"),
        ("plot", "azula has no sampler 'plot'"),
        ("REABSampler?orders=2", "azula:REABSampler has no option 'orders'; expected order, silent, steps"),
        ("DDIMSampler?denoiser=2", "azula:DDIMSampler has no option 'denoiser'"),
    ):
        with pytest.raises(InputError, match=said):
            load_target(f"azula:{name}")


@pytest.mark.usefixtures("of_azula")
@pytest.mark.parametrize("sampler", [DDIM(), UniPC(2), NoiseAdamsBashforth(3), StochasticDDIM(1.0)], ids=sampler_text)
def test_our_sampler_as_one_of_azula_ends_where_our_sample_ends(sampler):
    schedule = GeometricVE(0.01, 50.0)

    class Exact:
        def schedule(self, t: Tensor) -> Any:
            return schedule.alpha(t), schedule.sigma(t)

        def __call__(self, x_t: Tensor, t: Tensor, scale: float = 1.0) -> Any:
            return SimpleNamespace(mean=scale * MIXTURE.denoise(x_t, *self.schedule(t)))

    def start() -> Tensor:
        return 50 * torch.randn(16, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

    def draws() -> torch.Generator:
        return torch.Generator().manual_seed(2)

    made: Any = azula_sampler.AzulaSampler(Exact(), sampler, generator=draws(), steps=9, silent=True)
    assert isinstance(made, Sampler)
    twice = [made(start()) for _ in range(1 if sampler.stochastic else 2)]
    ours = sample(sampler, ExactDenoiser(MIXTURE, schedule), start(), made.timesteps, noise=draws())
    assert float((twice[0] - ours).abs().max()) < 1e-9
    assert torch.equal(twice[0], twice[-1])  # the second run begins without a history
    if not sampler.stochastic:  # a state goes on from its own time alone, or there is no history
        t = made.timesteps
        after = made.step(start(), t[0], t[1])
        new = azula_sampler.AzulaSampler(Exact(), sampler, steps=9, silent=True)
        assert torch.equal(made.step(after, t[2], t[3]), new.step(after, t[2], t[3]))
    scaled: Any = made.step
    ends = scaled(start(), made.timesteps[0], made.timesteps[1], scale=0.0)
    again = made.step(start(), made.timesteps[0], made.timesteps[1])
    assert not torch.allclose(ends, again)
    with pytest.raises(
        InputError, match=r"generator: StochasticDDIM draws noise and needs a torch\.Generator, got None"
    ):
        azula_sampler.AzulaSampler(Exact(), StochasticDDIM(), silent=True)


def test_at_no_noise_or_no_signal_the_log_snr_is_infinite(of_azula):
    del of_azula
    ends = SimpleNamespace(schedule=lambda t: (1 - t, t))
    made = azula_sampler.AzulaSampler(ends, DDIM(), silent=True)
    instants = [made._instant(torch.tensor(t, dtype=torch.float64)) for t in (0.0, 0.2, 1.0)]
    assert [(each.t, each.alpha, each.sigma) for each in instants] == [
        (0.0, 1.0, 0.0),
        (0.2, 0.8, 0.2),
        (1.0, 0.0, 1.0),
    ]
    assert [each.lam for each in instants] == pytest.approx([math.inf, math.log(4), -math.inf])
