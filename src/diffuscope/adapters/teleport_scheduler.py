r"""A diffusers scheduler whose first steps are one closed-form jump, without a call of the network.

    pipeline.scheduler = TeleportScheduler(pipeline.scheduler, gaussian, noise_to_signal=10.0)

The pipeline is not changed: it asks its scheduler for timesteps, draws a start, and has the scheduler scale the input
of the network. At this first call the start is replaced by its image under the probability flow of the Gaussian with
the data's mean and covariance (`samplers.gaussian_jump`); the timesteps were those below the level
:math:`\sigma/\alpha` = `noise_to_signal`. A state divided by :math:`\alpha + \sigma` is one of rectified flow at the
time :math:`\sigma/(\alpha + \sigma)`, in which the jump is made: finite also at alpha = 0.

Two protocols, with the names that they have in `samplers`:

- `reallocate`: as many steps as the pipeline asks for, all below the level: the tail of the scheduler's own grid of
  more steps, with the number at which the tail has that length and begins nearest to the level;
- `truncate`: the tail of the grid that the pipeline asks for: fewer network calls, and nothing else changes.

A pipeline that does not call `scale_model_input` before its network (DDPMPipeline, DDIMPipeline, most with
transformers) needs `teleport_pipeline.teleported`.
"""

import copy
import functools
import inspect
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import torch

from diffuscope.denoisers import Batch
from diffuscope.errors import InputError
from diffuscope.exact import Gaussian
from diffuscope.samplers import teleport
from diffuscope.schedules import RectifiedFlow

from .teleport_grid import TeleportGrid

Protocol = Literal["reallocate", "truncate"]
OF_PIPELINE = ("timesteps", "sigmas")  # arguments of set_timesteps for a grid that the pipeline makes itself


class TeleportScheduler:
    """`scheduler`, one of `teleport_grid.SUPPORTED` or derived from one, behind a jump to `noise_to_signal`.

    It works on a copy, and stands in for it: pipelines that look at its class, its config or the signature of its
    methods find those of the scheduler, and a pipeline saved with it is saved with the plain scheduler. The jump is
    made once per run, on every row; latents keep their dtype, the arithmetic is float64. `steps_saved` is the number of
    steps of the present grid that the jump replaces; `init_noise_sigma` that of the whole grid.
    Raises InputError for another scheduler or protocol, and a level outside the scheduler's table; during a run for
    latents of another shape than the Gaussian's, a start that is no pure noise (image to image), a pipeline with its
    own timesteps (`reallocate`), and a network that was called before the jump.

    >>> import torch
    >>> from diffuscope import Gaussian
    >>> from diffuscope.adapters import TeleportScheduler
    >>> class DDIMScheduler:  # what is read of that of diffusers: levels sigma/alpha, here 0.5, 2 and 4
    ...     alphas_cumprod, config, init_noise_sigma = 1 / (1 + torch.tensor([0.5, 2.0, 4.0]) ** 2), {}, 1.0
    ...     def set_timesteps(self, num_inference_steps):
    ...         self.timesteps = torch.arange(num_inference_steps).flip(0)
    ...     def scale_model_input(self, sample, timestep):
    ...         return sample
    >>> gaussian = Gaussian.isotropic(torch.zeros(1), 4.0)
    >>> scheduler = TeleportScheduler(DDIMScheduler(), gaussian, noise_to_signal=2, protocol="truncate")
    >>> scheduler.set_timesteps(3)
    >>> x_t = scheduler.scale_model_input(torch.tensor([[5.0]]), 1)
    >>> scheduler.steps_saved, round(float(x_t), 5)  # 5 ((4 + 2^2) / (1 + 2^2) (1 + 4^2) / (4 + 4^2))^(1/2)
    (1, 5.83095)
    """

    def __init__(
        self, scheduler: Any, gaussian: Gaussian, *, noise_to_signal: float | int, protocol: Protocol = "reallocate"
    ) -> None:
        if protocol not in ("reallocate", "truncate"):
            raise InputError(f"protocol: expected reallocate or truncate, got {protocol!r}")
        if type(scheduler) is TeleportScheduler:
            raise InputError("scheduler: expected a plain scheduler, got a TeleportScheduler")
        if not isinstance(gaussian, Gaussian):
            raise InputError(f"gaussian: expected a diffuscope.exact.Gaussian, got a {type(gaussian).__name__}")
        grid = TeleportGrid(scheduler, float(noise_to_signal))
        self._grid = replace(grid, scheduler=copy.deepcopy(scheduler))
        self.scheduler, self.gaussian, self.protocol = self._grid.scheduler, gaussian, protocol
        self.steps_saved = 0
        self._start = self._end = (math.nan, math.nan)  # alpha and sigma before and after the jump, once it is laid out
        self._waiting, self._replaced = False, False  # for the first step; whether a state has been replaced since
        self._scaled: Batch | None = None  # what scale_model_input returned before the first step
        self._init_noise_sigma: Any = None
        # pipelines register and save their parts by module and class
        self.__module__ = type(scheduler).__module__

    @property
    def __class__(self) -> Any:  # type: ignore[override]
        return type(self.__dict__["scheduler"]) if "scheduler" in self.__dict__ else TeleportScheduler

    def __getattr__(self, name: str) -> Any:
        if "scheduler" not in self.__dict__:  # not yet set, as in a copy
            raise AttributeError(name)
        return getattr(self.scheduler, name)

    def __repr__(self) -> str:
        inner, level = type(self.scheduler).__name__, self._grid.noise_to_signal
        return f"TeleportScheduler({inner}, noise_to_signal={level:g}, protocol={self.protocol!r})"

    def __len__(self) -> int:
        return len(self.scheduler)

    @property
    def init_noise_sigma(self) -> Any:
        """The scheduler's for its whole grid."""
        return self.scheduler.init_noise_sigma if self._init_noise_sigma is None else self._init_noise_sigma

    @property
    def set_timesteps(self) -> Callable[..., None]:
        """`set_timesteps` of the scheduler, with its arguments; the grid then begins at the level."""
        return _with_signature_of(self.scheduler.set_timesteps, self._set_timesteps)

    @property
    def step(self) -> Callable[..., Any]:
        """`step` of the scheduler, with its arguments; the first one starts from the end of the jump."""
        return _with_signature_of(self.scheduler.step, self._step)

    def scale_model_input(self, sample: Batch, *args: Any, **kwargs: Any) -> Batch:
        """`scale_model_input` of the scheduler; before the first step, of the state after the jump."""
        scaled = self.scheduler.scale_model_input(self.jumped(sample), *args, **kwargs)
        self._scaled = scaled if self._waiting else None
        return scaled

    def add_noise(self, *args: Any, **kwargs: Any) -> Batch:
        """`add_noise` of the scheduler. Raises InputError before the first step of a run, which starts at no noise."""
        if self._waiting:
            raise InputError(
                "scheduler: a TeleportScheduler starts from pure noise, got a noised image (add_noise); "
                "expected the plain scheduler for image to image"
            )
        return self.scheduler.add_noise(*args, **kwargs)

    def jumped(self, sample: Batch) -> Batch:
        """What the network is given in place of `sample`: the state after the jump, until the first step is made."""
        if not self._waiting:
            return sample
        self._replaced = True
        return self._jump(sample)

    @property
    def hook_idle(self) -> bool:
        """Whether the input of the network needs no replacing: it was scaled here, or the first step is made."""
        return self._scaled is not None or not self._waiting

    def _jump(self, sample: Batch) -> Batch:
        shape, expected = tuple(sample.shape[1:]), self.gaussian.event_shape
        if shape != expected:
            raise InputError(f"gaussian: expected the shape of the latents, {shape}, got {expected}")
        (norm, t_start), (norm_end, t_end) = ((sum(at), at[1] / sum(at)) for at in (self._start, self._end))
        x_start = sample.to(self.gaussian.mean.device, torch.float64) / norm
        return (norm_end * teleport(self.gaussian, RectifiedFlow(), x_start, t_start, t_end)).to(sample)

    def _step(self, model_output: Any, timestep: Any, sample: Batch, *args: Any, **kwargs: Any) -> Any:
        if self._waiting:
            if not self._replaced:
                raise InputError(
                    "scheduler: this pipeline calls its network without scale_model_input, before the jump; "
                    "expected `with teleported(pipeline, gaussian, ...)`"
                )
            # DiTPipeline goes on with what scale_model_input returned, others with their own latents
            after = self._scaled is not None and torch.equal(sample, self._scaled[: len(sample)])
            sample = sample if after else self._jump(sample)
            self._waiting, self._scaled = False, None
        return self.scheduler.step(model_output, timestep, sample, *args, **kwargs)

    def _set_timesteps(self, *args: Any, **kwargs: Any) -> None:
        given = inspect.signature(self.scheduler.set_timesteps).bind(*args, **kwargs).arguments
        steps, own = given.get("num_inference_steps"), [name for name in OF_PIPELINE if given.get(name) is not None]
        if own and self.protocol == "reallocate":
            raise InputError(f"protocol: expected truncate for a pipeline with its own {own[0]}, got reallocate")
        if self.protocol == "reallocate" and steps is not None:
            self.steps_saved = self._grid.lay_out_with_tail(int(steps), given)
        else:
            self.scheduler.set_timesteps(**given)
            self.steps_saved = self._grid.above()
        self._init_noise_sigma = self.scheduler.init_noise_sigma
        levels = self._grid.levels().tolist()
        self._start, self._end = (self._grid.scales(levels[index]) for index in (0, self.steps_saved))
        self._grid.cut(self.steps_saved)
        self._waiting = self.steps_saved > 0
        self._replaced, self._scaled = False, None


def _with_signature_of(method: Callable[..., Any], replacement: Callable[..., Any]) -> Callable[..., Any]:
    """`replacement` with the signature of `method`, by which pipelines decide what they pass."""

    @functools.wraps(method)
    def called(*args: Any, **kwargs: Any) -> Any:
        return replacement(*args, **kwargs)

    return called
