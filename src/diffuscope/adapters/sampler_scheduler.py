r"""Our samplers as a scheduler of diffusers: `SamplerScheduler`.

    from diffuscope.adapters.sampler_scheduler import SamplerScheduler

    pipeline.scheduler = SamplerScheduler.from_config(pipeline.scheduler.config, sampler="UniPC?predictor_order=2")

A pipeline owns the loop and the network; `step` is handed one output of the network at the present timestep. With the
table :math:`\bar\alpha_k` that the network was trained on, index k is the time k + 1 of `DiscreteVP`, and states are

.. math::
    x = \alpha x_0 + \sigma\varepsilon, \qquad
    \alpha = \sqrt{\bar\alpha_k}, \qquad \sigma = \sqrt{1 - \bar\alpha_k},

and the output F is one of four predictions:

.. math::
    \text{epsilon: } D = \frac{x - \sigma F}{\alpha}, \qquad
    \text{sample: } D = F, \qquad
    \text{v_prediction: } D = \alpha x - \sigma F, \qquad
    \text{flow_prediction: } D = x - \sigma F ,

the last with :math:`\alpha = 1 - s, \sigma = s` at timestep s times the length of the table. N timesteps make N calls
of the network: N levels from the noisiest to the cleanest of the table, equal in :math:`(\sigma/\alpha)^{1/7}` (for
flows equal in s, then shifted), or those that the pipeline passes; and a last step to clean data.

Data are not clipped. A pipeline saved with it is loaded with it, where diffuscope is installed; only DDIMPipeline makes
a DDIMScheduler of whatever it is constructed with, so that `pipeline.scheduler` has to be assigned again.
"""

import functools
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.denoisers import Batch, BatchTime, over_events
from diffuscope.errors import InputError
from diffuscope.samplers import Instant, Noise, Sampler, State, instants, model_times
from diffuscope.schedules import DiscreteVP, RectifiedFlow, Schedule

from .diffusers_schedulers import clean_of
from .grid_samplers import grid_sampler, sampler_text
from .libraries import library

PREDICTIONS = ("epsilon", "v_prediction", "sample", "flow_prediction")


@dataclass(frozen=True, eq=False)
class _Given:
    """The one evaluation that a step is handed, as a denoiser."""

    schedule: Schedule
    denoised: Batch | None = None

    def __call__(self, x_t: Batch, t: BatchTime) -> Batch:  # noqa: ARG002
        assert self.denoised is not None
        return self.denoised


class _Steps:
    """The scheduler without its base classes of diffusers; see `SamplerScheduler`."""

    order = 1  # entries of a step in `timesteps`
    init_noise_sigma = 1.0
    betas: Tensor
    alphas_cumprod: Tensor

    def __init__(
        self,
        sampler: str | Sampler = "DPMSolverPP2M",
        num_train_timesteps: int = 1000,
        beta_start: float | int = 0.0001,
        beta_end: float | int = 0.02,
        beta_schedule: str = "linear",
        trained_betas: Any = None,
        prediction_type: str = "epsilon",
        rescale_betas_zero_snr: bool = False,
        flow_shift: float | int = 1.0,
        shift: float | int | None = None,
        use_dynamic_shifting: bool = False,
        invert_sigmas: bool = False,
        timestep_type: str = "discrete",
        sigma_data: float | int | None = None,
    ) -> None:
        self._sampler = grid_sampler(sampler, one_evaluation=True)
        if shift is not None:  # only flow matching schedulers have it, and no prediction_type
            prediction_type, flow_shift = "flow_prediction", shift
        if prediction_type not in PREDICTIONS:
            raise InputError(f"prediction_type: expected one of {', '.join(PREDICTIONS)}, got {prediction_type!r}")
        if rescale_betas_zero_snr:
            raise InputError("rescale_betas_zero_snr: expected False, got True: its table ends at alpha = 0")
        if use_dynamic_shifting:
            raise InputError("use_dynamic_shifting: expected False, got True: its shift depends on the image")
        if invert_sigmas:
            raise InputError("invert_sigmas: expected False, got True: its network counts time from noise to data")
        if timestep_type != "discrete":
            raise InputError(f"timestep_type: expected discrete, got {timestep_type}: its network has no table")
        if sigma_data is not None:
            raise InputError(f"sigma_data: expected none, got {sigma_data:g}: EDM's preconditioning is not supported")
        table = {
            "num_train_timesteps": num_train_timesteps,
            "beta_start": beta_start,
            "beta_end": beta_end,
            "beta_schedule": beta_schedule,
            "trained_betas": trained_betas,
        }
        self.register_to_config(  # type: ignore[attr-defined]
            sampler=sampler_text(self._sampler),
            prediction_type=prediction_type,
            rescale_betas_zero_snr=rescale_betas_zero_snr,
            flow_shift=flow_shift,
            shift=shift,
            use_dynamic_shifting=use_dynamic_shifting,
            **table,
        )
        trained = _diffusers().DDPMScheduler(**table)
        self.betas, self.alphas_cumprod = trained.betas, trained.alphas_cumprod
        self._flow, self._shift, self._length = prediction_type == "flow_prediction", flow_shift, num_train_timesteps
        self._prediction = prediction_type
        self.schedule: Schedule = RectifiedFlow() if self._flow else DiscreteVP(tuple(self.betas.double().tolist()))
        self.num_inference_steps: int | None = None
        self._step_index: int | None = None
        self._begin_index: int | None = None
        self.timesteps = torch.arange(num_train_timesteps - 1, -1, -1)
        self._grid: tuple[Instant, ...] = ()
        self._state: State | None = None

    @classmethod
    def from_config(cls, config: Any = None, return_unused_kwargs: bool = False, **kwargs: Any) -> Any:
        """From the config of another scheduler, whose defaults count: the library would leave these to ours.

        Raises InputError for the config of a scheduler without a table of betas that is none of flow matching.
        """
        config = {key: value for key, value in dict(config or {}).items() if key != "_use_default_values"}
        if not {"beta_start", "shift"} & config.keys():
            given = config.get("_class_name", "one without these")
            raise InputError(f"config: expected that of a scheduler with beta_start, or a shift of flows, got {given}")
        return super().from_config(config, return_unused_kwargs, **kwargs)  # type: ignore[misc]

    @property
    def step_index(self) -> int | None:
        """The number of the next step; None before the first."""
        return self._step_index

    @property
    def begin_index(self) -> int | None:
        """The step to begin with, where a pipeline has set it."""
        return self._begin_index

    def set_begin_index(self, begin_index: int = 0) -> None:
        """Begin with this step; pipelines for image to image set it."""
        self._begin_index = begin_index

    def set_timesteps(
        self,
        num_inference_steps: int | None = None,
        device: Any = None,
        timesteps: Any = None,
        sigmas: Any = None,
    ) -> None:
        """`num_inference_steps` calls of the network (fewer where levels meet in the table), or the given timesteps.

        `sigmas` are the levels s of a flow. Raises InputError for a number below 1, for timesteps that do not decrease
        within the table, and unless exactly one of the three is given.
        """
        given = {"num_inference_steps": num_inference_steps, "timesteps": timesteps, "sigmas": sigmas}
        named = [name for name, value in given.items() if value is not None]
        if len(named) != 1:
            raise InputError(f"num_inference_steps: expected exactly one of {', '.join(given)}, got {len(named)}")
        if sigmas is not None and not self._flow:
            raise InputError("sigmas: expected timesteps, or prediction_type='flow_prediction'")
        if num_inference_steps is not None and num_inference_steps < 1:
            raise InputError(f"num_inference_steps: expected at least 1, got {num_inference_steps}")
        if num_inference_steps is not None:
            times = self._times(num_inference_steps)
        elif sigmas is not None:
            times = self._shifted(torch.as_tensor(sigmas, dtype=torch.float64))
        else:
            times = self._time_of(torch.as_tensor(timesteps))
        in_table = len(times) > 0 and bool(times[-1] > 0) and bool(times[0] <= self.schedule.t_max)
        if not in_table or not bool((times[1:] < times[:-1]).all()):
            raise InputError(f"{named[0]}: expected decreasing ones within the table, got {given[named[0]]}")
        self._grid = instants(self.schedule, torch.cat([times, times.new_zeros(1)]))
        self.timesteps = self._timesteps(times).to(device)
        self.num_inference_steps = len(times)
        self._step_index, self._begin_index, self._state = None, None, None

    def scale_model_input(self, sample: Batch, timestep: Any = None) -> Batch:  # noqa: ARG002
        """The input of the network: the state itself."""
        return sample

    def step(
        self,
        model_output: Batch,
        timestep: Any,
        sample: Batch,
        eta: float | int = 0.0,
        use_clipped_model_output: bool | None = None,
        generator: torch.Generator | None = None,
        return_dict: bool = True,
    ) -> Any:
        """From `timestep` to the next, by the sampler: an output with `prev_sample` and `pred_original_sample`.

        `generator` is needed by a stochastic sampler. `eta` and `use_clipped_model_output` are in the signature because
        DDIMPipeline passes them. Raises InputError for eta > 0 and clipping (choose another sampler), for a step before
        `set_timesteps`, and for a stochastic sampler without one generator.
        """
        if eta or use_clipped_model_output:
            expected = "sampler='StochasticDDIM?eta=1.0' for noise; data are not clipped"
            raise InputError(f"eta, use_clipped_model_output: expected none, {expected}")
        if not self._grid:
            raise InputError("timestep: expected set_timesteps before the first step")
        if self._sampler.stochastic and not isinstance(generator, torch.Generator):
            raise InputError(f"generator: {type(self._sampler).__name__} needs one torch.Generator, got {generator}")
        index = self._step_index if self._step_index is not None else self._first_index(timestep)
        t, s = self._grid[index : index + 2]
        dtype = torch.promote_types(sample.dtype, torch.float32)
        x_t = sample.to(dtype)
        denoised = clean_of(self._prediction, x_t, model_output.to(dtype), t.alpha, t.sigma)
        # the history of the sampler, at the state that the pipeline has made of ours
        state = State(t, x_t) if self._state is None or self._state.at is not t else replace(self._state, x_t=x_t)
        noise = Noise(generator) if self._sampler.stochastic and generator is not None else None
        self._state = self._sampler.step(_Given(self.schedule, denoised), state, s, noise)
        self._step_index = index + 1
        ends = self._state.x_t.to(sample.dtype), denoised.to(sample.dtype)
        return _output(*ends) if return_dict else ends

    def add_noise(self, original_samples: Batch, noise: Batch, timesteps: Tensor) -> Batch:
        """alpha x_0 + sigma noise at `timesteps`, one or one per sample."""
        times = self._time_of(timesteps).reshape(-1).cpu()
        alpha, sigma = (
            over_events(scale(times), original_samples) for scale in (self.schedule.alpha, self.schedule.sigma)
        )
        return alpha * original_samples + sigma * noise

    def __len__(self) -> int:
        return self._length

    def _times(self, calls: int) -> Float[Tensor, " times"]:
        """The times of `calls` calls of the network."""
        if self._flow:
            return self._shifted(torch.linspace(1, 1 / self._length, calls + 1, dtype=torch.float64)[:-1])
        if calls == 1:
            return torch.tensor([self.schedule.t_max], dtype=torch.float64)
        return model_times(_Given(self.schedule), calls - 1)

    def _shifted(self, s: Float[Tensor, " levels"]) -> Float[Tensor, " levels"]:
        """sigma/alpha times the shift: s -> shift s / (1 + (shift - 1) s)."""
        return self._shift * s / (1 + (self._shift - 1) * s)

    def _time_of(self, timesteps: Tensor) -> Tensor:
        timesteps = timesteps.double()
        return timesteps / self._length if self._flow else timesteps + 1

    def _timesteps(self, times: Float[Tensor, " times"]) -> Tensor:
        return (times * self._length).float() if self._flow else (times - 1).round().long()

    def _first_index(self, timestep: Any) -> int:
        if self._begin_index is not None:
            return self._begin_index
        return int((self.timesteps.double().cpu() - float(timestep)).abs().argmin())


def _diffusers() -> Any:
    return library("diffusers", "diffusers")


def _output(x_s: Batch, denoised: Batch) -> Any:
    module = library("diffusers.schedulers.scheduling_ddim", "diffusers")
    return module.DDIMSchedulerOutput(prev_sample=x_s, pred_original_sample=denoised)


@functools.cache
def _scheduler_class() -> Any:
    """`SamplerScheduler`, once diffusers is imported."""
    _diffusers()
    bases = library("diffusers.schedulers.scheduling_utils", "diffusers")
    config = library("diffusers.configuration_utils", "diffusers")
    attributes = {
        "__module__": __name__,
        "__doc__": "A sampler of ours with one evaluation per step, as a scheduler of diffusers; see its module.",
        # whose configs `from_config` takes
        "_compatibles": [*(kind.name for kind in bases.KarrasDiffusionSchedulers), "FlowMatchEulerDiscreteScheduler"],
    }
    return type("SamplerScheduler", (_Steps, bases.SchedulerMixin, config.ConfigMixin), attributes)


def __getattr__(name: str) -> Any:
    if name == "SamplerScheduler":
        return _scheduler_class()
    if name == "SchedulerMixin":  # looked for in the module of a saved scheduler, to load it with its pipeline
        return library("diffusers.schedulers.scheduling_utils", "diffusers").SchedulerMixin
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
