r"""What a network was trained for, by the diffusers scheduler it comes with: schedule, time argument and prediction.

Only the table of training counts; spacing, Karras levels, solver, clipping and thresholding are the sampler's. With
the kinds of `diffusers_schedulers` and s = sigma/alpha:

.. math::
    \text{table: } & x = \sqrt{\bar\alpha_k}\,x_0 + \sqrt{1 - \bar\alpha_k}\,\varepsilon, \text{ time } k = 0, \dots,
    T - 1, \text{ at } \bar\alpha_{T-1} = 0 \text{ without noise prediction}, \\
    \text{flow: } & x = (1 - s)\,x_0 + s\,\varepsilon, \text{ time } T s, \text{ the velocity } \varepsilon - x_0
    \ (\text{with inverted sigmas: time } T(1 - s), \text{ the velocity } x_0 - \varepsilon), \\
    \text{EDM: } & x = x_0 + s\,\varepsilon, \ D = c_{skip} x \pm c_{out} F(c_{in} x), \text{ time } \tfrac14\log s
    \text{ or } \tfrac2\pi\arctan s, \\
    \text{angle: } & x = \cos\tfrac{\pi t}{2}\,x_0 + \sin\tfrac{\pi t}{2}\,\varepsilon, \text{ time } t,
    \ v = \alpha\varepsilon - \sigma x_0 .

Schedulers of VE states (Euler, Heun, LMS) scale them for the network, which sees the table's. A shift of flow matching
moves levels and times together, so that the network's time is T s in any case; it sets the lowest level.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from diffuscope.denoisers import (
    Clock,
    DataPredictor,
    Denoiser,
    NoisePredictor,
    Preconditioned,
    ScheduleTime,
    SignalTime,
    StepIndex,
    VelocityPredictor,
    VPredictor,
)
from diffuscope.errors import InputError
from diffuscope.schedules import VE, Cosine, DiscreteVP, RectifiedFlow, Schedule, Time, Times, ZeroTerminalVP, as_time

from .diffusers_consistency import SCHEDULERS as CONSISTENCY
from .diffusers_consistency import ConsistencyMap, LatentConsistencyMap
from .diffusers_schedulers import SCHEDULERS, WITH_OWN_LEVELS, Scheduler

TRAINED = SCHEDULERS | WITH_OWN_LEVELS | {
    name: Scheduler("chain") for name in ("DDIMParallelScheduler", "DDPMParallelScheduler", "DDIMInverseScheduler")
} | {"DPMSolverMultistepInverseScheduler": Scheduler("vp")}  # fmt: skip
PREDICTIONS = {
    "epsilon": NoisePredictor,
    "sample": DataPredictor,
    "original_sample": DataPredictor,
    "v_prediction": VPredictor,
    "flow_prediction": VelocityPredictor,
}


@dataclass(frozen=True)
class Angle:
    """The label is 2/pi arctan(sigma), for times that are levels."""

    def label(self, t: Time) -> Tensor:
        return as_time(t).atan() * 2 / math.pi

    def nearest(self, t: Time) -> Times:
        return as_time(t)


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A schedule, and what makes a denoiser of a network of which `sign` times the output is meant."""

    schedule: Schedule
    predictor: Callable[..., Any]
    clock: Clock | None
    sign: float = 1.0

    def denoiser(self, network: Any, event_shape: tuple[int, ...], data_range: tuple[float, float]) -> Any:
        """The denoiser of `network`, whose output has that sign already."""
        described = {"event_shape": event_shape, "data_range": data_range}
        made: Denoiser = self.predictor(network, self.schedule, clock=self.clock, **described)
        return made


def trained_for(scheduler: Any) -> Trained:
    """What a network was trained for. Raises InputError for a scheduler or a prediction that says no denoiser."""
    kinds = [base.__name__ for base in type(scheduler).__mro__]
    if hasattr(scheduler, "config") and (consistency := [kind for kind in kinds if kind in CONSISTENCY]):
        return _consistency(scheduler, consistency[0])
    name = next((kind for kind in kinds if kind in TRAINED), None)
    if name is None or not hasattr(scheduler, "config"):
        raise InputError(
            f"scheduler: the network of a {type(scheduler).__name__} is not known to be a denoiser; expected one of "
            f"diffusers' {', '.join((*TRAINED, *CONSISTENCY))}"
        )
    config = scheduler.config
    kind = "flow" if config.get("use_flow_sigmas") else TRAINED[name].kind
    usual = {"flow": "flow_prediction", "angle": "v_prediction"}.get(kind, "epsilon")
    prediction = config.get("prediction_type", usual)
    continuous = config.get("timestep_type") == "continuous" and prediction == "v_prediction"
    if kind == "edm" or continuous:
        return _preconditioned(scheduler, name, prediction, continuous)
    known = {"flow": ("flow_prediction", "sample"), "angle": ("v_prediction",)}.get(
        kind, ("epsilon", "sample", "original_sample", "v_prediction")
    )
    if prediction not in known:
        raise InputError(f"scheduler: expected a {name} of prediction_type {' or '.join(known)}, got {prediction!r}")
    if kind == "angle":
        return Trained(schedule=Cosine(0.0), predictor=VPredictor, clock=ScheduleTime())
    return _flow(scheduler, prediction) if kind == "flow" else _table(scheduler, prediction)


def _consistency(scheduler: Any, name: str) -> Trained:
    """A map for one call: see `diffusers_consistency`."""
    config = scheduler.config
    if name == "CMStochasticIterativeScheduler":
        schedule = VE(float(config.sigma_min), float(config.sigma_max))
        predictor = partial(ConsistencyMap, sigma_data=float(config.sigma_data))
        return Trained(schedule=schedule, predictor=predictor, clock=None)
    if config.prediction_type not in ("epsilon", "sample", "v_prediction"):
        raise InputError(f"scheduler: expected a {name} of a known prediction_type, got {config.prediction_type!r}")
    table = _table(scheduler, config.prediction_type)
    return replace(table, predictor=partial(_latent_consistency, table.predictor, float(config.timestep_scaling)))


def _latent_consistency(
    predictor: Callable[..., Any], scaling: float, network: Any, schedule: Schedule, **described: Any
) -> LatentConsistencyMap:
    return LatentConsistencyMap(predictor(network, schedule, **described), scaling)


def _table(scheduler: Any, prediction: str) -> Trained:
    """The table `alphas_cumprod`, as the library noises the training data with it."""
    levels = scheduler.alphas_cumprod.cpu().double()
    before = torch.cat([levels.new_ones(1), levels[:-1]])
    betas = tuple((1 - levels / before).tolist())
    if float(levels[-1]) > 0:
        schedule = DiscreteVP(betas)
    elif prediction == "epsilon":
        raise InputError(
            "scheduler: the last step of its table leaves no signal (rescale_betas_zero_snr), where a prediction of "
            "noise says nothing about the data; expected prediction_type v_prediction or sample, got 'epsilon'"
        )
    else:
        schedule = ZeroTerminalVP(betas)
    return Trained(schedule=schedule, predictor=PREDICTIONS[prediction], clock=StepIndex(len(betas)))


def _flow(scheduler: Any, prediction: str) -> Trained:
    """Straight lines; the lowest level is that of training step 1, shifted."""
    config = scheduler.config
    steps, shift = float(config.get("num_train_timesteps", 1000)), 1.0
    if not config.get("use_dynamic_shifting"):
        shift = float(config.get("flow_shift") or config.get("shift") or 1.0)
    schedule = RectifiedFlow(shift / (steps + shift - 1))  # of s = 1/T, shift s / (1 + (shift - 1) s)
    inverted = bool(config.get("invert_sigmas"))
    return Trained(
        schedule=schedule,
        predictor=PREDICTIONS[prediction],
        clock=SignalTime(steps) if inverted else ScheduleTime(steps),
        sign=-1.0 if inverted and prediction == "flow_prediction" else 1.0,
    )


def _preconditioned(scheduler: Any, name: str, prediction: str, continuous: bool) -> Trained:
    """EDM's preconditioning; of Euler's continuous timesteps that of v, which is EDM's for data of variance 1."""
    config = scheduler.config
    if prediction not in ("epsilon", "v_prediction"):
        raise InputError(f"scheduler: expected a {name} of prediction_type epsilon or v_prediction, got {prediction!r}")
    low, high = config.get("sigma_min"), config.get("sigma_max")
    if continuous and (low is None or high is None):
        levels = scheduler.alphas_cumprod.double()
        ends = ((1 - levels) / levels).sqrt()
        low, high = float(ends[0]), float(ends[-1])
    sigma_data = 1.0 if continuous else float(config.sigma_data)
    return Trained(
        schedule=VE(float(low), float(high)),
        predictor=partial(_edm, sigma_data),
        clock=Angle() if "Cosine" in name else None,
        sign=-1.0 if prediction == "v_prediction" else 1.0,
    )


def _edm(sigma_data: float, network: Any, schedule: Schedule, **described: Any) -> Preconditioned:
    return Preconditioned(network, schedule, sigma_data, **described)
