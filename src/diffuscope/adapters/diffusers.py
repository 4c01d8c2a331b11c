r"""diffusers' schedulers (https://github.com/huggingface/diffusers) as targets:
`diffusers:DPMSolverMultistepScheduler?solver_order=3&algorithm_type=sde-dpmsolver++`.

A scheduler is a table of noise levels and a `step`. We give it a table that *is* our grid, take every step of it, and
use our denoiser as its model. Options are constructor arguments or arguments of `step` (`eta`, `s_churn`, `order`);
those of the levels and of dynamic thresholding are not available.
Four kinds, by their state x_t = alpha x_0 + sigma eps (r = sigma/alpha):

- table, VP states: alpha^2 = 1/(1 + r^2) is `alphas_cumprod`, a training step per level.
- table, VE states: the same table, states y = x/alpha, scaled to VP for the model by `scale_model_input`.
- flow: alpha = 1 - s, sigma = s at explicit `sigmas` s; the model predicts the velocity eps - x_0. The table solvers
  are of this kind with `use_flow_sigmas=true` (and predict the velocity, unless `prediction_type` is another).
- EDM: alpha = 1 at explicit levels; the model is EDM's preconditioned network.

Any denoiser schedule is converted to these by its log-SNR, which needs alpha > 0 for VE and EDM states.

For the reading of certificates:

- The library builds its tables in float32; we refine them to float64, after a check that they are our levels. Some
  steps cast the state to float32 (Euler, EulerAncestral, DPMSolverMultistep, EDMEuler, the flow-matching ones), and
  KDPM2 keeps its half steps in it: errors below about 1e-6 of such a target are its rounding (`Target.floor`).
- Multistep solvers begin at order 1 and climb. At the end, `lower_order_final` lowers the order for fewer than 15
  steps; UniPC and SASolver do so for any number of steps. A single step of order 1 limits the whole run to order 2.
  DPMSolverSinglestep alternates orders (1, 2 or 1, 2, 3) and reaches its order at the end of a group, so the number of
  steps should be a multiple of `solver_order`.
- DPM-Solver++(3M), `solver_order=3` of the DPM multistep solvers, converges at order 2 by its own formula: it halves
  the second difference and then multiplies it by the phi function of the whole second derivative.
- A grid that ends at sigma > 0 has no step to 0: `final_sigmas_type="sigma_min"`, or, where a scheduler always appends
  a step to 0, that step is omitted. A grid that ends at sigma = 0 has the scheduler's own last step. DEISMultistep,
  SASolver, and DPM-Solver without ++ have none (InputError), as they end at the lowest level; that of UniPC with
  `lower_order_final=false` returns NaN.
- Noise comes from our generator; a Brownian motion of the same distribution replaces DPMSolverSDE's Brownian tree.
  SASolver draws noise between training steps 200 and 800 of 1000; this window is scaled to our table.

Declared orders are the library's statements: `solver_order` of the DPM solvers and DEIS, "effective order of accuracy
is solver_order + 1" of UniPC, `order` of LMS, Heun and DPM-Solver-2 as named, 1 for DDIM and Euler. (The class
attribute `order` counts evaluations.) The library states none for stochastic ones.

Not offered: LCM, TCD, SCM, consistency and flow-map schedulers (their models are not denoisers), PNDM and IPNDM (their
levels cannot be set; PNDM's half steps fall between training steps), inverse, parallel, inpainting and discrete ones.
"""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.certify import Target
from diffuscope.denoisers import Batch, Denoiser, denoised_to_noise
from diffuscope.errors import InputError
from diffuscope.schedules import VE, VP, RectifiedFlow, Schedule

from .diffusers_schedulers import OF_CONSTRUCTOR, OF_STEP, SCHEDULERS, declared_order, is_stochastic, kind_of
from .libraries import BrownianNoise, Options, arguments_of, library, require_known


@dataclass(frozen=True, eq=False)
class _Table:
    """Our times as a scheduler's table: training step i is `times[i]`, the least noise first.

    An end at sigma = 0 is not in the table: it is the end of the scheduler's last step.
    """

    schedule: Schedule
    times: Float[Tensor, " levels"]
    to_zero: bool

    @classmethod
    def of(cls, schedule: Schedule, times: Float[Tensor, " times"]) -> "_Table":
        to_zero = float(schedule.sigma(times[-1])) == 0
        return cls(schedule, times[: len(times) - to_zero].double().cpu().flip(0), to_zero)

    @property
    def steps(self) -> int:
        return len(self.times) if self.to_zero else len(self.times) - 1

    @property
    def ratios(self) -> Float[Tensor, " levels"]:
        """sigma/alpha at every level."""
        return self.schedule.noise_to_signal(self.times)

    def descending(self, levels: Float[Tensor, " levels"]) -> Float[Tensor, " times"]:
        """`levels` of the table in a scheduler's order, its end included."""
        down = levels.flip(0)
        return torch.cat([down, down.new_zeros(1)]) if self.to_zero else down

    def times_of(self, steps: Float[Tensor, " calls"]) -> Float[Tensor, " calls"]:
        """Our time of each training step; between two of them the library interpolates log sigma linearly."""
        below = steps.long().clamp(max=len(self.times) - 1)
        above = (below + 1).clamp(max=len(self.times) - 1)
        lam = -self.ratios.log()
        between = self.schedule.time_of_lambda(torch.lerp(lam[below], lam[above], steps - below))
        return torch.where(steps == below, self.times[below], between)


def names() -> tuple[str, ...]:
    """The schedulers of the installed diffusers that can be used. Raises InputError where it is absent."""
    library("diffusers", "diffusers")
    return tuple(name for name in SCHEDULERS if scheduler_class(name) is not None)


def target(name: str, options: Options) -> Target:
    """The diffusers scheduler `name` with `options` of its constructor or of its `step`.

    Raises InputError where diffusers is absent, has no such scheduler that can be used, or the scheduler has no such
    option.
    """
    scheduler = scheduler_class(name) if name in SCHEDULERS else None
    if scheduler is None and name == "DPMSolverSDEScheduler":
        raise InputError(f"target: diffusers:{name} needs torchsde; pip install torchsde")
    if scheduler is None:
        raise InputError(f"target: diffusers has no scheduler {name!r} to drive; expected one of {', '.join(names())}")
    built, stepped = arguments_of(scheduler.__init__), arguments_of(scheduler.step)
    require_known(options, (set(built) & OF_CONSTRUCTOR) | (set(stepped) & OF_STEP), f"diffusers:{name}")
    settings = {**stepped, **built, **options}
    kind, stochastic = kind_of(name, settings), is_stochastic(name, settings)
    evaluations = SCHEDULERS[name].evaluations
    of_constructor = {key: value for key, value in options.items() if key in built}
    of_step: dict[str, Any] = {key: value for key, value in options.items() if key not in built}

    def run(
        denoiser: Denoiser, x_start: Batch, times: Float[Tensor, " times"], generator: torch.Generator | None
    ) -> Batch:
        table = _Table.of(denoiser.schedule, times)
        given = {"generator": generator} if stochastic and "generator" in stepped else {}
        with torch.no_grad(), quietly():
            made = _made(scheduler, kind, of_constructor, table)
            if hasattr(made, "noise_sampler"):
                made.noise_sampler = BrownianNoise(x_start, generator)
            return _walk(made, kind, {**of_step, **given}, denoiser, table, x_start, times)

    return Target(
        name=f"diffusers:{name}",
        run=run,
        order=None if stochastic else declared_order(name, settings),
        stochastic=stochastic,
        nfe_per_step=evaluations,
        schedules={"flow": (RectifiedFlow(),), "edm": (VE(),)}.get(kind, (VP(),)),
        coarsest=2 if evaluations == 2 else int(settings.get("solver_order") or 1),
        floor=1e-6 if SCHEDULERS[name].single_precision else 1e-12,
    )


@contextmanager
def quietly() -> Iterator[None]:
    """Silences the library's warnings and log, and NumPy's warnings about its code: the caller cannot act on them."""
    logger = logging.getLogger("diffusers")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def scheduler_class(name: str) -> Any:
    """The class, or None where this diffusers lacks it or a package that it needs; InputError without diffusers."""
    peer = library("diffusers", "diffusers")
    try:
        with quietly():
            scheduler = getattr(peer, name)
    except (AttributeError, RuntimeError):  # no such scheduler; its file cannot be imported
        return None
    return None if ".dummy_" in scheduler.__module__ else scheduler  # a stand-in where a package is missing


def _made(scheduler: Any, kind: str, options: Options, table: _Table) -> Any:
    """The scheduler with our grid as its table."""
    name, ends_at_lowest = scheduler.__name__, ("DEISMultistepScheduler", "SASolverScheduler")
    if table.to_zero and (name in ends_at_lowest or options.get("algorithm_type") in ("dpmsolver", "sde-dpmsolver")):
        raise InputError(f"times: diffusers:{name} ends at its lowest level; expected sigma(times[-1]) > 0")
    if kind in ("flow", "edm"):
        made = _with_explicit_sigmas(scheduler, kind, options, table)
    else:
        made = _laid_out(scheduler, options, table)
    if hasattr(made, "set_begin_index"):
        made.set_begin_index(0)
    return made


def _laid_out(scheduler: Any, options: Options, table: _Table) -> Any:
    """A scheduler on a table of trained betas, one training step per level."""
    name = scheduler.__name__
    alphas_cumprod = 1 / (1 + table.ratios**2)
    before = torch.cat([alphas_cumprod.new_ones(1), alphas_cumprod[:-1]])
    levels = len(table.times)
    layout = {
        "num_train_timesteps": levels,
        "trained_betas": (1 - alphas_cumprod / before).tolist(),
        "clip_sample": False,
        "set_alpha_to_one": table.to_zero,
        "final_sigmas_type": "zero" if table.to_zero else "sigma_min",
    }
    calls: dict[str, Any] = {"num_inference_steps": levels}
    if name == "DDIMScheduler":
        # its step is of levels // steps training steps, which is 1; no step starts at training step 0
        calls = {"num_inference_steps": table.steps}
        layout["steps_offset"] = 0 if table.to_zero else 1
    elif SCHEDULERS[name].kind == "vp" and not table.to_zero:
        calls = {"num_inference_steps": table.steps}
    elif name == "DPMSolverSinglestepScheduler":
        calls = {"timesteps": list(range(levels))[::-1]}
    elif SCHEDULERS[name].kind == "vp":
        layout["timestep_spacing"] = "trailing"
    elif SCHEDULERS[name].kind == "ve":
        layout["final_sigmas_type"] = "zero"  # omitted unless the grid ends at 0
    # a window in training steps, of which there are usually 1000
    layout["tau_func"] = lambda step: float(0.2 * levels <= step <= 0.8 * levels)
    made = _constructed(scheduler, layout, options)
    made.alphas_cumprod = alphas_cumprod
    if hasattr(made, "final_alpha_cumprod") and not table.to_zero:
        made.final_alpha_cumprod = alphas_cumprod[0]
    made.set_timesteps(**calls)
    if hasattr(made, "sigmas"):
        made.sigmas = _refined(made.sigmas, table.ratios)
    return made


def _with_explicit_sigmas(scheduler: Any, kind: str, options: Options, table: _Table) -> Any:
    """A flow-matching or EDM scheduler, whose levels are numbers and not a table of training steps."""
    ratios = table.ratios
    levels = table.descending(ratios if kind == "edm" else ratios / (1 + ratios))
    # at infinite noise s = 1
    levels = torch.where(levels.isnan(), 1.0, levels)
    layout: dict[str, Any] = {"final_sigmas_type": "zero" if table.to_zero else "sigma_min"}
    if kind == "flow":
        layout["prediction_type"] = "flow_prediction"
    made = _constructed(scheduler, layout, options)
    made.set_timesteps(table.steps)
    starts = levels[:-1]
    if SCHEDULERS[scheduler.__name__].evaluations == 2:
        end = [] if table.to_zero else [levels[-1:], levels[-1:]]
        starts = torch.cat([starts[:1], starts[1:].repeat_interleave(2), *end])
        levels = torch.cat([starts, levels[-1:]])
        starts = starts[: 2 * table.steps - table.to_zero]
    made.sigmas = levels
    made.timesteps = 0.25 * starts.log() if kind == "edm" else starts * made.config.num_train_timesteps
    return made


def _constructed(scheduler: Any, layout: dict[str, Any], options: Options) -> Any:
    """The scheduler with those entries of `layout` that its constructor accepts, and the user's `options`."""
    accepted = arguments_of(scheduler.__init__)
    return scheduler(**({key: value for key, value in layout.items() if key in accepted} | dict(options)))


def _refined(sigmas: Tensor, levels: Float[Tensor, " levels"]) -> Tensor:
    """The float64 levels nearest to the scheduler's float32 `sigmas`; a zero remains zero.

    Raises RuntimeError where one of them is none of our levels: the scheduler would use another grid.
    """
    sigmas = sigmas.double()
    above = torch.searchsorted(levels, sigmas).clamp(max=len(levels) - 1)
    below = (above - 1).clamp(min=0)
    nearest = torch.where(levels[above] - sigmas < sigmas - levels[below], levels[above], levels[below])
    if not bool((((nearest - sigmas).abs() <= 1e-5 * sigmas) | (sigmas == 0)).all()):
        raise RuntimeError("diffusers: the scheduler lays out other noise levels than the grid's")
    return torch.where(sigmas == 0, sigmas, nearest)


def _walk(
    scheduler: Any,
    kind: str,
    options: dict[str, Any],
    denoiser: Denoiser,
    table: _Table,
    x_start: Batch,
    times: Float[Tensor, " times"],
) -> Batch:
    """The library's own sampling loop, with our denoiser as its model."""
    twice = SCHEDULERS[type(scheduler).__name__].evaluations == 2
    # a last step to 0 is a single evaluation; one that the grid does not have is omitted
    steps = scheduler.timesteps[: 2 * table.steps - table.to_zero if twice else table.steps]
    model_times = _model_times(scheduler, kind, table, steps)
    norms = _scale("vp", denoiser.schedule, model_times).tolist()
    scales = _scale(kind, denoiser.schedule, model_times).tolist()
    first, last = _scale(kind, denoiser.schedule, times[[0, -1]]).tolist()
    state = x_start / first
    for step, t, norm, scale in zip(steps, model_times, norms, scales, strict=True):
        scaled = scheduler.scale_model_input(state, step) if hasattr(scheduler, "scale_model_input") else state
        x_t = state * scale if kind in ("flow", "edm") else scaled * norm
        output = _model_output(scheduler, kind, denoiser, x_t, t, state)
        state = scheduler.step(output, step, state, **options).prev_sample
    return (state * last).to(x_start.dtype)


def _model_times(scheduler: Any, kind: str, table: _Table, steps: Tensor) -> Float[Tensor, " calls"]:
    """The times of the model's calls, in our schedule."""
    steps = steps.double().cpu()
    if kind == "flow":
        s = steps / scheduler.config.num_train_timesteps
        return table.schedule.time_of_noise_to_signal(s / (1 - s))
    if kind == "edm":
        return table.schedule.time_of_noise_to_signal((4 * steps).exp())
    return table.times_of(steps)


def _scale(kind: str, schedule: Schedule, t: Float[Tensor, "*times"]) -> Float[Tensor, "*times"]:
    """The ratio of our state to the scheduler's."""
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    if kind in ("ve", "edm"):
        return alpha
    return alpha + sigma if kind == "flow" else torch.hypot(alpha, sigma)


def _model_output(
    scheduler: Any, kind: str, denoiser: Denoiser, x_t: Batch, t: Float[Tensor, ""], state: Batch
) -> Batch:
    """The denoiser in the parametrization of the scheduler's model."""
    denoised = denoiser(x_t, t)
    if kind == "edm":
        ratio = denoiser.schedule.noise_to_signal(t)
        skip, out = (scheduler.precondition_outputs(*unit, ratio) for unit in ((1.0, 0.0), (0.0, 1.0)))
        return (denoised - skip * state) / out
    prediction = scheduler.config.get("prediction_type", "flow_prediction")
    if prediction == "sample":
        return denoised
    noise = denoised_to_noise(x_t, denoised, denoiser.schedule, t)
    if prediction == "epsilon":
        return noise
    if prediction == "flow_prediction":
        return noise - denoised
    norm = _scale("vp", denoiser.schedule, t)
    return (denoiser.schedule.alpha(t) * noise - denoiser.schedule.sigma(t) * denoised) / norm
