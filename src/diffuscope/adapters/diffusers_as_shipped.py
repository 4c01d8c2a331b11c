r"""diffusers' schedulers driven exactly as its pipelines drive them, for `certify_as_shipped`.

    scheduler = Scheduler(**options); scheduler.set_timesteps(n)
    x = randn * scheduler.init_noise_sigma
    for t in scheduler.timesteps:
        x = scheduler.step(model(scheduler.scale_model_input(x, t), t), t, x).prev_sample

The network is exact for the data and was trained on the scheduler's own table: at timestep t it takes its input for
:math:`\sqrt{\bar\alpha_t}x_0 + \sqrt{1-\bar\alpha_t}\varepsilon` (log(sigma/alpha) is linear between integer t, as
in the library's `_sigma_to_t`); for flow matching :math:`(1-s)x_0 + s\varepsilon` with s = t/1000; for EDM sigma =
exp(4t), for the cosine DPM solver and IPNDM tan(pi t/2). It answers in the scheduler's `prediction_type`.

The level that a scheduler attributes to its state is `sigmas[step_index]`; where the input is scaled, it is read off
the scaling; where the levels are in `alphas_cumprod` only (DDIM, DDPM, PNDM), it is measured: with a network that
always predicts the same clean point, the state contains :math:`\sqrt{\bar\alpha}` times this point.

Every option of the constructor is the user's, and of `step` those that `target` takes. States are in double precision;
a Brownian motion of the same distribution replaces torchsde's tree. Not offered: schedulers whose models are no
denoisers (LCM, TCD, consistency, flow maps), and dynamic shifting and thresholding, which depend on the image.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.certify.as_shipped import Plan, Shipped, noise, signal
from diffuscope.certify.chosen_noise import ChosenNoise, no_noise
from diffuscope.denoisers import Batch
from diffuscope.errors import InputError
from diffuscope.exact import Distribution

from .diffusers import quietly, scheduler_class
from .diffusers_schedulers import OF_STEP, SCHEDULERS, WITH_OWN_LEVELS, is_stochastic
from .libraries import BrownianNoise, Options, arguments_of, library, require_known

AS_SHIPPED = SCHEDULERS | WITH_OWN_LEVELS
Model = Callable[[Batch, Tensor], Batch]  # of the scheduler's input and the timestep
POINT = 0.5  # the clean point of a run that measures levels: clipping to [-1, 1] does not change it


def shipped_names() -> tuple[str, ...]:
    """The schedulers of the installed diffusers that can be certified as shipped."""
    library("diffusers", "diffusers")
    return tuple(name for name in AS_SHIPPED if scheduler_class(name) is not None)


def shipped_target(name: str, options: Options) -> Shipped:
    """The diffusers scheduler `name`, constructed with `options` and driven as a pipeline drives it.

    Raises InputError where diffusers is absent, has no such scheduler, the scheduler no such option, or its
    constructor refuses the options.
    """
    made_by = scheduler_class(name) if name in AS_SHIPPED else None
    if made_by is None:
        has = ", ".join(shipped_names())
        raise InputError(f"target: diffusers has no scheduler {name!r} to drive as shipped; expected one of {has}")
    return _shipped(made_by, name, options)


def shipped_scheduler(scheduler: Any) -> Shipped:
    """A scheduler object, of diffusers or derived from one of its classes, with the options in its `config`.

    Raises InputError for any other object.
    """
    name = next((base.__name__ for base in type(scheduler).__mro__ if base.__name__ in AS_SHIPPED), None)
    if name is None or not hasattr(scheduler, "config"):
        expected = "a scheduler derived from one of those that diffusers:NAME names"
        raise InputError(f"target: expected {expected}, got a {type(scheduler).__name__}")
    built = arguments_of(type(scheduler).__init__)
    return _shipped(type(scheduler), name, {key: value for key, value in scheduler.config.items() if key in built})


def _shipped(made_by: Any, name: str, options: Options) -> Shipped:
    """`made_by` with `options`; its states and table are those of the class `name`."""
    built, stepped = arguments_of(made_by.__init__), arguments_of(made_by.step)
    require_known(options, set(built) | (set(stepped) & OF_STEP), f"diffusers:{name}")
    settings = {**stepped, **built, **options}
    stochastic = is_stochastic(name, settings)
    walk = _Walk(
        made_by=made_by,
        kind="flow" if settings.get("use_flow_sigmas") else AS_SHIPPED[name].kind,
        options={key: value for key, value in options.items() if key in built},
        of_step={key: value for key, value in options.items() if key not in built},
        draws_noise=stochastic and "generator" in stepped,
    )
    try:
        walk.made()
    except (ValueError, NotImplementedError, ImportError, TypeError) as error:
        raise InputError(f"target: diffusers:{name} refuses these options: {_first_line(error)}") from error
    return Shipped(f"diffusers:{made_by.__name__}", stochastic, walk.plan)


@dataclass(frozen=True)
class _Network:
    """The exact network for the data that the scheduler's table was made for."""

    scheduler: Any
    kind: str

    @cached_property
    def table(self) -> Float[Tensor, " train"]:
        """log(sigma/alpha) of every training step."""
        alphas_cumprod = self.scheduler.alphas_cumprod.double()
        return 0.5 * ((1 - alphas_cumprod) / alphas_cumprod).log()

    def told(self, timesteps: Float[Tensor, " calls"]) -> Float[Tensor, " calls"]:
        """sigma/alpha at which the network answers for these timesteps."""
        if self.kind == "flow":
            return 1 / (self.scheduler.config.num_train_timesteps / timesteps - 1)
        if self.kind in ("edm", "angle"):
            through_angle = self.kind == "angle" or "Cosine" in type(self.scheduler).__name__
            return (timesteps * math.pi / 2).tan().abs() if through_angle else (4 * timesteps).exp()
        table = self.table
        below = timesteps.long().clamp(0, len(table) - 1)
        above = (below + 1).clamp(max=len(table) - 1)
        between = table[below] + (timesteps - below) * (table[above] - table[below])
        return torch.where(timesteps == below, table[below], between).exp()

    def off(self, ratios: Float[Tensor, " calls"], timesteps: Float[Tensor, " calls"]) -> Float[Tensor, " calls"]:
        """How many training steps `ratios` lie above the timesteps' levels; infinite outside the table."""
        steps = self.scheduler.config.get("num_train_timesteps", 1000)
        if self.kind == "flow":
            return steps / (1 + 1 / ratios) - timesteps
        if self.kind == "angle":
            return steps * (ratios.atan() * 2 / math.pi - timesteps)
        if self.kind == "edm":
            config = self.scheduler.config
            return steps * (ratios / self.told(timesteps)).log() / math.log(config.sigma_max / config.sigma_min)
        table, levels = self.table, ratios.log()
        low = (torch.searchsorted(table, levels) - 1).clamp(0, len(table) - 2)
        exact = (levels[:, None] - table).abs().min(dim=1)
        position = low + (levels - table[low]) / (table[low + 1] - table[low])
        on_table = (exact.values < 1e-6) | (levels.isinf() & table[-1].isinf())
        position = torch.where(on_table, exact.indices.double(), position)
        position = torch.where(levels.isinf() & table[-1].isinf(), len(table) - 1.0, position)
        outside = (timesteps < 0) | (timesteps > len(table) - 1)
        return torch.where(outside, math.inf, position - timesteps)

    def landing(self, state: Batch, t: Tensor) -> float:
        """sigma/alpha of the level to which the step from timestep t led: the nearest of the table, or 0."""
        levels = torch.cat([torch.ones(1, dtype=torch.float64), self.scheduler.alphas_cumprod.double()])
        alpha_bar = (state[0, 0] / POINT) ** 2
        nearest = ((levels - alpha_bar).abs() / (levels * (1 - levels)).clamp(min=1e-5)).argmin()
        if hasattr(self.scheduler, "previous_timestep"):
            # its float32 coefficients do not tell the lowest levels apart
            nearest = self.scheduler.previous_timestep(t) + 1
        return float(((1 - levels[nearest]) / levels[nearest]) ** 0.5)

    def __call__(self, distribution: Distribution, x: Batch, ratio: Tensor) -> Batch:
        """The network's answer to the scheduler's input x, told that it is at `ratio`."""
        alpha, sigma = self.scales(ratio)
        if self.kind == "edm":
            x = x / self.scheduler.precondition_inputs(1.0, ratio)
        x = x.double()
        clean = distribution.denoise(x, float(alpha), float(sigma)) if sigma > 0 else x / alpha
        return self.answer(x, clean, ratio)

    def answer(self, x: Batch, clean: Batch, ratio: Tensor) -> Batch:
        """The clean point in the network's parametrization; x is a state at `ratio`."""
        alpha, sigma = self.scales(ratio)
        prediction = self._prediction()
        if self.kind == "edm":
            skip, out = (self.scheduler.precondition_outputs(*unit, ratio) for unit in ((1.0, 0.0), (0.0, 1.0)))
            return (clean - skip * x) / out
        if prediction == "sample":
            return clean
        eps = (x - alpha * clean) / sigma if sigma > 0 else torch.zeros_like(x)
        if prediction == "epsilon":
            return eps
        return eps - clean if prediction == "flow" else alpha * eps - sigma * clean

    def clean(self, x: Batch, output: Batch, ratio: Tensor) -> Batch:
        """The clean point that the scheduler makes of `output`, taking x to be at `ratio`."""
        alpha, sigma = self.scales(ratio)
        prediction = self._prediction()
        if self.kind == "edm":
            return self.scheduler.precondition_outputs(x, output, ratio)
        if prediction == "sample":
            return output
        if prediction == "epsilon":
            return (x - sigma * output) / alpha
        return x - sigma * output if prediction == "flow" else alpha * x - sigma * output

    def scales(self, ratio: Tensor) -> tuple[Tensor, Tensor]:
        """The alpha and sigma of the network's input (before EDM's preconditioning)."""
        if self.kind == "edm":
            return torch.ones_like(ratio), ratio
        if self.kind == "flow":
            return 1 / (1 + ratio), 1 / (1 + 1 / ratio)
        return signal(ratio), noise(ratio)

    def norm(self, ratio: Tensor) -> Tensor:
        """The scheduler's state over ours, (1 + r^2)^(1/2) or that over 1 + r."""
        if self.kind in ("ve", "edm"):
            return 1 / signal(ratio)
        return torch.hypot(*self.scales(ratio)) if self.kind == "flow" else torch.ones_like(ratio)

    def _prediction(self) -> str:
        if self.kind == "angle":
            return "v_prediction"
        given = self.scheduler.config.get("prediction_type", "flow_prediction" if self.kind == "flow" else "epsilon")
        return {"flow_prediction": "flow", "original_sample": "sample"}.get(str(given), str(given))


@dataclass(frozen=True)
class _Walk:
    """A pipeline's loop around one scheduler with its options."""

    made_by: Any
    kind: str
    options: dict[str, Any]
    of_step: dict[str, Any]
    draws_noise: bool

    def made(self, steps: int | None = None) -> Any:
        """A new scheduler, with its timesteps set."""
        with quietly():
            made = self.made_by(**self.options)
            if steps is not None:
                try:
                    made.set_timesteps(steps)
                except ValueError as error:  # a stated limit
                    raise InputError(f"steps: {_first_line(error)}") from error
        return made

    def loop(
        self,
        made: Any,
        model: Model,
        x: Batch,
        generator: torch.Generator | None = None,
        states: Callable[[Batch], Batch] | None = None,
    ) -> Batch:
        """The loop of every pipeline; `states` replaces the state before every step."""
        if hasattr(made, "noise_sampler"):
            made.noise_sampler = BrownianNoise(x, generator)
        given = {**self.of_step, **({"generator": generator} if self.draws_noise else {})}
        with torch.no_grad(), quietly(), _stated_limits():
            for t in made.timesteps:
                x = x if states is None else states(x)
                scaled = made.scale_model_input(x, t) if hasattr(made, "scale_model_input") else x
                x = made.step(model(scaled, t), t, x, **given).prev_sample
        return x

    def plan(self, steps: int) -> Plan:
        """The levels of the scheduler at `steps` steps, and its run."""
        made = self.made(steps)
        network = _Network(made, self.kind)
        timesteps = made.timesteps.double()
        told = network.told(timesteps)
        attributed, end, draws = self._levels(deepcopy(made), told)
        first, last = (network.norm(torch.as_tensor(ratio, dtype=torch.float64)) for ratio in (attributed[0], end))

        def run(distribution: Distribution, x: Batch, generator: torch.Generator | None) -> Batch:
            ratios = iter(told)
            model: Model = lambda scaled, t: network(distribution, scaled, next(ratios))  # noqa: ARG005, E731
            ended = self.loop(deepcopy(made), model, x * first, generator)
            return ended.double() / last

        def denoise(distribution: Distribution, x: Batch, call: int) -> Batch:
            ratio = attributed[call]
            state = x if self.kind == "ve" else x * network.norm(ratio)
            scaled = made.precondition_inputs(state, ratio) if self.kind == "edm" else state
            return network.clean(state, network(distribution, scaled, told[call]), ratio)

        return Plan(
            timesteps=timesteps,
            attributed=attributed,
            told=told,
            off=network.off(attributed, timesteps),
            start=float(getattr(made, "init_noise_sigma", 1.0)) / float(first),
            end=end,
            end_scale=float(last),
            draws=draws,
            run=run,
            denoise=denoise,
        )

    def _levels(self, made: Any, told: Float[Tensor, " calls"]) -> tuple[Float[Tensor, " calls"], float, int]:
        """The attributed ratios at every call and at the end, and the number of normal draws, from a noiseless run."""
        network = _Network(made, self.kind)
        seen: list[float] = []

        def landed(state: Batch) -> Batch:
            """Take the level that the step before led to; the next step starts at its own."""
            call = len(seen)
            seen.append(network.landing(state, made.timesteps[call - 1]) if seen else float(told[0]))
            return torch.full_like(state, POINT * float(signal(told[call])))

        def point(scaled: Batch, t: Tensor) -> Batch:  # noqa: ARG001
            ratio = told[len(seen) - 1]
            return network.answer(scaled, torch.full_like(scaled, POINT), ratio)

        def nothing(scaled: Batch, t: Tensor) -> Batch:
            seen.append(self._ratio_now(made, t))
            return torch.zeros_like(scaled)

        generator = torch.Generator() if self.draws_noise or hasattr(made, "noise_sampler") else None
        state, by_landing = torch.zeros(1, 2, dtype=torch.float64), self.kind == "chain"
        with ChosenNoise(no_noise, generator) as drawn:
            state = self.loop(made, point if by_landing else nothing, state, generator, landed if by_landing else None)
        end = network.landing(state, made.timesteps[-1]) if by_landing else self._ratio_at(made, -1)
        return torch.tensor(seen, dtype=torch.float64), end, drawn.draws

    def _ratio_now(self, made: Any, t: Tensor) -> float:
        """sigma/alpha that the scheduler attributes to its state at timestep t."""
        if self.kind == "ve":
            scale = float(made.scale_model_input(torch.ones(1, dtype=torch.float64), t)[0])
            return (1 / scale**2 - 1) ** 0.5
        # before the first step the index is still to be found
        return self._ratio_at(made, made.index_for_timestep(t) if made.step_index is None else made.step_index)

    def _ratio_at(self, made: Any, index: int) -> float:
        """sigma/alpha of the scheduler's level `index`."""
        if self.kind == "angle":
            return float(made.betas[index].double() / made.alphas[index].double())
        sigma = float(made.sigmas[index])
        return sigma / (1 - sigma) if self.kind == "flow" and sigma < 1 else math.inf if self.kind == "flow" else sigma


@contextmanager
def _stated_limits() -> Iterator[None]:
    """Raises InputError where a step says that it does not support the prediction type."""
    try:
        yield
    except (NotImplementedError, ValueError) as error:
        if "prediction" not in str(error).lower():
            raise
        raise InputError(f"target: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
