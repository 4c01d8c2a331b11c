"""Where diffusers is not installed: its table, and one scheduler of every kind, by their published formulas.

DDIM (arXiv:2010.02502, eq. 12 and 16), DDPM (arXiv:2006.11239), Euler and Heun of VE states (arXiv:2206.00364), Euler
of flows and of EDM's preconditioning, with the names, settings and states of the library. Everything is in float64,
where the library has float32 here and there.
"""

import importlib.util
import inspect
import math
import sys
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor


class Config(dict[str, Any]):
    """Settings by name, also as attributes."""

    def __getattr__(self, name: str) -> Any:
        if name not in self:
            raise AttributeError(name)
        return self[name]


class SchedulerMixin:
    """What marks a scheduler."""


class ConfigMixin:
    """The settings of the constructor are kept in `config`."""

    config: Config

    def register_to_config(self, **settings: Any) -> None:
        self.config = Config(settings)

    @classmethod
    def from_config(cls, config: Any, return_unused_kwargs: bool = False, **settings: Any) -> Any:
        del return_unused_kwargs
        known = inspect.signature(cls.__init__).parameters
        return cls(**{name: value for name, value in {**config, **settings}.items() if name in known})


class Scheduler(SchedulerMixin, ConfigMixin):
    """The settings with their defaults are `settings`; those that are given replace them."""

    init_noise_sigma: Any = 1.0
    timesteps: Tensor
    sigmas: Tensor
    num_inference_steps: int | None = None
    step_index: int | None = None

    def _described(self, given: dict[str, Any]) -> None:
        self.register_to_config(**{name: value for name, value in given.items() if name not in ("self", "__class__")})

    def _table(self) -> None:
        """beta_k and the products of 1 - beta_k."""
        config = self.config
        if config.trained_betas is not None:
            self.betas = torch.tensor(config.trained_betas, dtype=torch.float64)
        elif config.beta_schedule == "squaredcos_cap_v2":
            angle = (torch.linspace(0, 1, config.num_train_timesteps + 1).double() + 0.008) / 1.008 * math.pi / 2
            self.betas = (1 - (angle[1:].cos() / angle[:-1].cos()) ** 2).clamp(max=0.999)
        else:
            power = {"linear": 1.0, "scaled_linear": 0.5}[config.beta_schedule]
            ends = (config.beta_start**power, config.beta_end**power)
            self.betas = torch.linspace(*ends, config.num_train_timesteps, dtype=torch.float64) ** (1 / power)
        if config.get("rescale_betas_zero_snr"):  # arXiv:2305.08891, algorithm 1
            root = (1 - self.betas).cumprod(0).sqrt()
            squares = ((root - root[-1]) * root[0] / (root[0] - root[-1])) ** 2
            self.betas = 1 - squares / torch.cat([squares.new_ones(1), squares[:-1]])
        self.alphas_cumprod = (1 - self.betas).cumprod(0)

    def _spaced(self, steps: int) -> Tensor:
        """Training steps, the last one first."""
        if steps > (train := self.config.num_train_timesteps):
            raise ValueError(f"num_inference_steps: expected at most {train}, got {steps}")
        spacing = self.config.timestep_spacing
        if spacing == "linspace":
            return torch.linspace(train - 1, 0, steps, dtype=torch.float64)
        if spacing == "leading":
            return (torch.arange(steps) * (train // steps)).flip(0).double() + self.config.steps_offset
        return torch.arange(train, 0, -train / steps, dtype=torch.float64).round() - 1

    def _clean(self, x: Tensor, output: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """x_0 of alpha x_0 + sigma eps."""
        return {
            "epsilon": lambda: (x - sigma * output) / alpha,
            "sample": lambda: output,
            "v_prediction": lambda: alpha * x - sigma * output,
            "flow_prediction": lambda: x - sigma * output,
        }[self.config.prediction_type]()

    def set_begin_index(self, begin_index: int = 0) -> None:
        self.step_index = begin_index

    def _index(self, timestep: Any) -> int:
        return self.index_for_timestep(timestep) if self.step_index is None else self.step_index

    def index_for_timestep(self, timestep: Any) -> int:
        return int((self.timesteps - timestep).abs().argmin())

    def __len__(self) -> int:
        return self.config.num_train_timesteps


def drawn(like: Tensor, generator: torch.Generator | None) -> Tensor:
    return torch.randn(like.shape, generator=generator, dtype=like.dtype)


def stepped(x: Tensor, clean: Tensor) -> SimpleNamespace:
    return SimpleNamespace(prev_sample=x, pred_original_sample=clean)


class DDPMScheduler(Scheduler):
    def __init__(
        self, num_train_timesteps=1000, beta_start=0.0001, beta_end=0.02, beta_schedule="linear", trained_betas=None,
        clip_sample=True, prediction_type="epsilon", timestep_spacing="leading", steps_offset=0,
        rescale_betas_zero_snr=False,
    ):  # fmt: skip
        self._described(locals())
        self._table()

    def set_timesteps(self, num_inference_steps: int) -> None:
        self.num_inference_steps, self.timesteps = num_inference_steps, self._spaced(num_inference_steps).long()

    def previous_timestep(self, timestep: Any) -> Any:
        place = int((self.timesteps == timestep).nonzero()[0])
        return self.timesteps[place + 1] if place + 1 < len(self.timesteps) else torch.tensor(-1)

    def scale_model_input(self, sample: Tensor, timestep: Any = None) -> Tensor:
        del timestep
        return sample

    def add_noise(self, original_samples: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        alpha = self.alphas_cumprod[timesteps].sqrt().reshape(-1, *[1] * (noise.ndim - 1))
        return alpha * original_samples + (1 - alpha**2).sqrt() * noise

    def step(self, model_output: Tensor, timestep: Any, sample: Tensor, generator: Any = None) -> Any:
        """x_s | x_t, x_0 of the forward chain, with the variance of known x_0."""
        before = self.previous_timestep(timestep)
        a_t = self.alphas_cumprod[timestep]
        a_s = self.alphas_cumprod[before] if before >= 0 else torch.ones((), dtype=torch.float64)
        clean = self._clean(sample, model_output, a_t.sqrt(), (1 - a_t).sqrt())
        clean = clean.clamp(-1, 1) if self.config.clip_sample else clean
        beta = 1 - a_t / a_s
        mean = a_s.sqrt() * beta / (1 - a_t) * clean + (1 - beta).sqrt() * (1 - a_s) / (1 - a_t) * sample
        if before >= 0:
            mean = mean + ((1 - a_s) / (1 - a_t) * beta).sqrt() * drawn(sample, generator)
        return stepped(mean, clean)


class DDIMScheduler(Scheduler):
    def __init__(
        self, num_train_timesteps=1000, beta_start=0.0001, beta_end=0.02, beta_schedule="linear", trained_betas=None,
        clip_sample=True, set_alpha_to_one=True, steps_offset=0, prediction_type="epsilon", timestep_spacing="leading",
        rescale_betas_zero_snr=False,
    ):  # fmt: skip
        self._described(locals())
        self._table()
        self.final_alpha_cumprod = torch.ones(()).double() if set_alpha_to_one else self.alphas_cumprod[0]

    set_timesteps, scale_model_input = DDPMScheduler.set_timesteps, DDPMScheduler.scale_model_input
    add_noise = DDPMScheduler.add_noise

    def step(
        self, model_output: Tensor, timestep: Any, sample: Tensor, eta=0.0, use_clipped_model_output=False,
        generator: Any = None,
    ) -> Any:  # fmt: skip
        assert not use_clipped_model_output
        if self.config.prediction_type not in ("epsilon", "sample", "v_prediction"):
            raise ValueError(f"prediction_type {self.config.prediction_type} must be one of `epsilon`, ...")
        before = timestep - self.config.num_train_timesteps // self.num_inference_steps
        a_t = self.alphas_cumprod[timestep]
        a_s = self.alphas_cumprod[before] if before >= 0 else self.final_alpha_cumprod
        clean = self._clean(sample, model_output, a_t.sqrt(), (1 - a_t).sqrt())
        noise = (sample - a_t.sqrt() * clean) / (1 - a_t).sqrt()
        clean = clean.clamp(-1, 1) if self.config.clip_sample else clean
        fresh = eta * ((1 - a_s) / (1 - a_t) * (1 - a_t / a_s)).sqrt()
        state = a_s.sqrt() * clean + (1 - a_s - fresh**2).sqrt() * noise
        return stepped(state + fresh * drawn(sample, generator) if eta > 0 else state, clean)


class EulerDiscreteScheduler(Scheduler):
    def __init__(
        self, num_train_timesteps=1000, beta_start=0.0001, beta_end=0.02, beta_schedule="linear", trained_betas=None,
        prediction_type="epsilon", sigma_min=None, sigma_max=None, timestep_spacing="linspace",
        timestep_type="discrete", steps_offset=0, final_sigmas_type="zero",
    ):  # fmt: skip
        self._described(locals())
        self._table()

    @property
    def _table_of_ratios(self) -> Tensor:
        return (1 / self.alphas_cumprod - 1).sqrt()

    def set_timesteps(self, num_inference_steps: Any = None, timesteps: Any = None) -> None:
        steps = self._spaced(num_inference_steps) if timesteps is None else torch.tensor(timesteps).double()
        table = self._table_of_ratios
        ratios = table[steps.long()] + (steps - steps.long()) * (
            table[(steps.long() + 1).clamp(max=len(table) - 1)] - table[steps.long()]
        )
        self._lay_out(ratios, steps)
        self.num_inference_steps, self.step_index = len(steps), None

    def _lay_out(self, ratios: Tensor, steps: Tensor) -> None:
        last = self._table_of_ratios[:1] if self.config.final_sigmas_type == "sigma_min" else ratios.new_zeros(1)
        self.sigmas, self.timesteps = torch.cat([ratios, last]), steps
        if self.config.timestep_type == "continuous" and self.config.prediction_type == "v_prediction":
            self.timesteps = ratios.log() / 4

    @property
    def init_noise_sigma(self) -> Tensor:
        largest = self.sigmas.max()
        return largest if self.config.timestep_spacing == "linspace" else (largest**2 + 1).sqrt()

    def scale_model_input(self, sample: Tensor, timestep: Any) -> Tensor:
        self.step_index = self._index(timestep)
        return sample / (1 + self.sigmas[self.step_index] ** 2).sqrt()

    def _clean_of(self, x: Tensor, output: Tensor, ratio: Tensor) -> Tensor:
        norm = (1 + ratio**2).sqrt()
        return self._clean(x / norm, output, 1 / norm, ratio / norm)

    def step(
        self, model_output: Tensor, timestep: Any, sample: Tensor, s_churn=0.0, s_tmin=0.0, s_tmax=float("inf"),
        s_noise=1.0, generator: Any = None,
    ) -> Any:  # fmt: skip
        index = self._index(timestep)
        here, there = self.sigmas[index : index + 2]
        churn = min(s_churn / (len(self.sigmas) - 1), math.sqrt(2) - 1) if s_tmin <= here <= s_tmax else 0.0
        hat = here * (1 + churn)
        if churn > 0:  # the network has not seen this noise
            sample = sample + s_noise * (hat**2 - here**2).sqrt() * drawn(sample, generator)
        clean = sample - hat * model_output if self.config.prediction_type == "epsilon" else None
        clean = self._clean_of(sample, model_output, here) if clean is None else clean
        self.step_index = index + 1
        return stepped(sample + (there - hat) * (sample - clean) / hat, clean)


class HeunDiscreteScheduler(EulerDiscreteScheduler):
    def __init__(
        self, num_train_timesteps=1000, beta_start=0.00085, beta_end=0.012, beta_schedule="linear", trained_betas=None,
        prediction_type="epsilon", timestep_spacing="linspace", steps_offset=0,
    ):  # fmt: skip
        self._described(locals())
        self._table()

    def _lay_out(self, ratios: Tensor, steps: Tensor) -> None:
        self.sigmas = torch.cat([ratios[:1], ratios[1:].repeat_interleave(2), ratios.new_zeros(1)])
        self.timesteps = torch.cat([steps[:1], steps[1:].repeat_interleave(2)])
        self.kept: Any = None

    def step(self, model_output: Tensor, timestep: Any, sample: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        index = self._index(timestep)
        self.step_index = index + 1
        if self.kept is None:
            here, there = self.sigmas[index : index + 2]
            clean = self._clean_of(sample, model_output, here)
            slope = (sample - clean) / here
            self.kept = slope, there - here, sample
            return stepped(sample + (there - here) * slope, clean)
        (before, length, start), self.kept = self.kept, None
        clean = self._clean_of(sample, model_output, self.sigmas[index])
        slope = (sample - clean) / self.sigmas[index]
        return stepped(start + length * (before + slope) / 2, clean)


class DPMSolverMultistepScheduler(EulerDiscreteScheduler):
    """DPM-Solver++(2M), arXiv:2211.01095, algorithm 2, of VP states; the last of a few steps is of order 1."""

    def __init__(
        self, num_train_timesteps=1000, beta_start=0.0001, beta_end=0.02, beta_schedule="linear", trained_betas=None,
        prediction_type="epsilon", timestep_spacing="linspace", steps_offset=0, solver_order=2,
        use_karras_sigmas=False, use_flow_sigmas=False, flow_shift=1.0, final_sigmas_type="zero",
    ):  # fmt: skip
        self._described(locals() | {"timestep_type": "discrete"})
        self._table()

    init_noise_sigma: Any = 1.0
    scale_model_input: Any = DDPMScheduler.scale_model_input  # pyright: ignore[reportIncompatibleMethodOverride]

    def _spaced(self, steps: int) -> Tensor:
        """Of linspace, those before the step to the first of the table."""
        if self.config.timestep_spacing != "linspace":
            return super()._spaced(steps)
        return torch.linspace(self.config.num_train_timesteps - 1, 0, steps + 1, dtype=torch.float64)[:-1].round()

    def _lay_out(self, ratios: Tensor, steps: Tensor) -> None:
        if self.config.use_karras_sigmas:
            high, low = ratios[[0, -1]] ** (1 / 7)
            ratios = (high + torch.linspace(0, 1, len(steps), dtype=torch.float64) * (low - high)) ** 7
            steps = (ratios[:, None] - self._table_of_ratios).abs().argmin(1).double()
        if self.config.use_flow_sigmas:
            train, shift = self.config.num_train_timesteps, self.config.flow_shift
            s = torch.linspace(1, 1 / train, len(steps) + 1, dtype=torch.float64)[:-1]
            ratios = shift * s / (1 + (shift - 1) * s)
            steps = train * ratios
        super()._lay_out(ratios, steps)
        self.kept: Any = None

    def step(self, model_output: Tensor, timestep: Any, sample: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        index = self._index(timestep)
        here, there = self.sigmas[index : index + 2]
        flow = self.config.use_flow_sigmas
        (a, b), (c, d) = ((1 - r, r) if flow else (1 / (1 + r**2).sqrt(), r / (1 + r**2).sqrt()) for r in (here, there))
        clean = self._clean(sample, model_output, a, b)
        few = len(self.timesteps) < 15 or self.config.final_sigmas_type == "zero"
        last = few and index + 2 == len(self.sigmas)
        ahead = clean
        if self.config.solver_order == 2 and self.kept is not None and not last:
            before, level = self.kept  # log(alpha/sigma) of the call before
            ahead = clean + ((c / d).log() - (a / b).log()) / (2 * ((a / b).log() - level)) * (clean - before)
        self.kept, self.step_index = (clean, (a / b).log()), index + 1
        return stepped(d / b * sample + (c - a * d / b) * ahead, clean)


class PNDMScheduler(DDPMScheduler):
    """Only its name and its settings."""


class IPNDMScheduler(SchedulerMixin, ConfigMixin):
    """Only its name and its settings, which has no table."""

    def __init__(self, num_train_timesteps: int = 1000) -> None:
        self.register_to_config(num_train_timesteps=num_train_timesteps)
        self.timesteps = torch.linspace(1, 0, num_train_timesteps + 1, dtype=torch.float64)[:-1]


class FlowMatchEulerDiscreteScheduler(Scheduler):
    def __init__(
        self, num_train_timesteps=1000, shift=1.0, use_dynamic_shifting=False, invert_sigmas=False,
        stochastic_sampling=False,
    ):  # fmt: skip
        self._described(locals())
        self.sigma_max = 1.0
        self.sigma_min = 1 / num_train_timesteps if use_dynamic_shifting else shift / (num_train_timesteps + shift - 1)
        s = torch.arange(num_train_timesteps, 0, -1).double() / num_train_timesteps
        shift = 1.0 if use_dynamic_shifting else shift
        self.sigmas = shift * s / (1 + (shift - 1) * s)
        self.timesteps = num_train_timesteps * self.sigmas

    def scale_noise(self, sample: Tensor, timestep: Tensor, noise: Tensor) -> Tensor:
        s = timestep / self.config.num_train_timesteps
        return (1 - s) * sample + s * noise

    def set_timesteps(self, num_inference_steps: Any = None, sigmas: Any = None) -> None:
        if sigmas is None:
            sigmas = torch.linspace(self.sigma_max, self.sigma_min, num_inference_steps, dtype=torch.float64)
        s, shift = torch.as_tensor(sigmas, dtype=torch.float64), self.config.shift
        s = shift * s / (1 + (shift - 1) * s)
        s, end = (1 - s, s.new_ones(1)) if self.config.get("invert_sigmas") else (s, s.new_zeros(1))
        self.sigmas, self.timesteps = torch.cat([s, end]), self.config.num_train_timesteps * s
        self.num_inference_steps, self.step_index = len(s), None

    def step(self, model_output: Tensor, timestep: Any, sample: Tensor, generator: Any = None) -> Any:
        index = self._index(timestep)
        here, there = self.sigmas[index : index + 2]
        clean = sample - here * model_output
        self.step_index = index + 1
        if self.config.stochastic_sampling:
            return stepped((1 - there) * clean + there * drawn(sample, generator), clean)
        return stepped(sample + (there - here) * model_output, clean)


class FlowMatchHeunDiscreteScheduler(FlowMatchEulerDiscreteScheduler):
    def __init__(self, num_train_timesteps=1000, shift=1.0):
        super().__init__(num_train_timesteps, shift)
        self._described(locals())
        self.kept: Any = None

    def step(self, model_output: Tensor, timestep: Any, sample: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        index = self._index(timestep)
        self.step_index = index + 1
        if self.kept is None:
            here, there = self.sigmas[index : index + 2]
            self.kept = model_output, there - here, sample
            return stepped(sample + (there - here) * model_output, sample - here * model_output)
        (before, length, start), self.kept = self.kept, None
        return stepped(start + length * (before + model_output) / 2, sample - self.sigmas[index] * model_output)


class EDMEulerScheduler(Scheduler):
    def __init__(
        self, sigma_min=0.002, sigma_max=80.0, sigma_data=0.5, num_train_timesteps=1000, prediction_type="epsilon",
        rho=7.0, final_sigmas_type="zero",
    ):  # fmt: skip
        self._described(locals())

    def set_timesteps(self, num_inference_steps: int) -> None:
        low, high = (level ** (1 / self.config.rho) for level in (self.config.sigma_min, self.config.sigma_max))
        levels = torch.linspace(high, low, num_inference_steps, dtype=torch.float64) ** self.config.rho
        self.sigmas, self.timesteps = torch.cat([levels, levels.new_zeros(1)]), levels.log() / 4
        self.num_inference_steps, self.step_index = num_inference_steps, None

    @property
    def init_noise_sigma(self) -> float:
        return math.hypot(self.config.sigma_max, 1)

    def precondition_noise(self, sigma: Tensor) -> Tensor:
        return sigma.log() / 4

    def precondition_inputs(self, sample: Any, sigma: Tensor) -> Any:
        return sample / (sigma**2 + self.config.sigma_data**2) ** 0.5

    def precondition_outputs(self, sample: Any, model_output: Any, sigma: Tensor) -> Any:
        data = self.config.sigma_data
        square = sigma**2 + data**2
        sign = -1 if self.config.prediction_type == "v_prediction" else 1
        return data**2 / square * sample + sign * sigma * data / square**0.5 * model_output

    def scale_model_input(self, sample: Tensor, timestep: Any) -> Tensor:
        self.step_index = self._index(timestep)
        return self.precondition_inputs(sample, self.sigmas[self.step_index])

    def step(self, model_output: Tensor, timestep: Any, sample: Tensor) -> Any:
        index = self._index(timestep)
        here, there = self.sigmas[index : index + 2]
        clean = self.precondition_outputs(sample, model_output, here)
        self.step_index = index + 1
        return stepped(sample + (there - here) * (sample - clean) / here, clean)


class LDMPipeline:
    """A loop that has its scheduler scale the input of the network, and decodes."""

    scaled = True
    passed: ClassVar[dict[str, Any]] = {}

    def __init__(self, unet: Any = None, scheduler: Any = None, vqvae: Any = None) -> None:
        self.unet, self.scheduler, self.vqvae = unet, scheduler, vqvae

    def set_progress_bar_config(self, **_: Any) -> None: ...

    def __call__(
        self, batch_size: int, generator: torch.Generator, num_inference_steps: int, output_type: str
    ) -> SimpleNamespace:
        assert output_type == "np"
        shape = (batch_size, self.unet.config.in_channels, *[self.unet.config.sample_size] * 2)
        self.scheduler.set_timesteps(num_inference_steps)
        x = torch.randn(shape, generator=generator) * (self.scheduler.init_noise_sigma if self.scaled else 1)
        draws = {"generator": generator} if "generator" in inspect.signature(self.scheduler.step).parameters else {}
        for t in self.scheduler.timesteps:
            given = self.scheduler.scale_model_input(x, t) if self.scaled else x
            x = self.scheduler.step(self.unet(given, t).sample, t, x, **draws, **self.passed).prev_sample.to(x.dtype)
        x = self.vqvae.decode(x).sample if self.scaled else x
        return SimpleNamespace(images=(x / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).numpy())


class DDPMPipeline(LDMPipeline):
    """A loop that does not."""

    scaled = False


class DDIMPipeline(DDPMPipeline):
    """Nor does this, which passes on what DDIM alone has."""

    passed: ClassVar[dict[str, Any]] = {"eta": 0.0, "use_clipped_model_output": None}


SCHEDULERS = (
    DDPMScheduler, DDIMScheduler, EulerDiscreteScheduler, HeunDiscreteScheduler, DPMSolverMultistepScheduler,
    PNDMScheduler, IPNDMScheduler, FlowMatchEulerDiscreteScheduler,
    FlowMatchHeunDiscreteScheduler, EDMEulerScheduler,
)  # fmt: skip

PIPELINES = (LDMPipeline, DDPMPipeline, DDIMPipeline)
INSTALLED = importlib.util.find_spec("diffusers") is not None  # the library itself


def classes() -> Any:
    """The library where it is installed, else these classes."""
    return importlib.import_module("diffusers") if INSTALLED else sys.modules[__name__]


def here(*names: str) -> list[str]:
    """Those of these schedulers that there are, and that lack no package of their own."""
    found = {name: getattr(classes(), name, None) for name in names}
    return [name for name, kind in found.items() if kind is not None and ".dummy_" not in kind.__module__]


def stand_in(monkeypatch: pytest.MonkeyPatch) -> Any:
    """`import diffusers` finds these schedulers, also where the library is installed."""
    modules = {
        "diffusers": {kind.__name__: kind for kind in (*SCHEDULERS, *PIPELINES)} | {"__version__": "0"},
        "diffusers.schedulers": {},
        "diffusers.schedulers.scheduling_ddim": {"DDIMSchedulerOutput": SimpleNamespace},
        "diffusers.schedulers.scheduling_utils": {
            "SchedulerMixin": SchedulerMixin,
            "KarrasDiffusionSchedulers": [SimpleNamespace(name="DDIMScheduler")],
        },
        "diffusers.configuration_utils": {"ConfigMixin": ConfigMixin},
    }
    for name, content in modules.items():
        module = ModuleType(name)
        module.__dict__.update(content)
        monkeypatch.setitem(sys.modules, name, module)
    return sys.modules["diffusers"]
