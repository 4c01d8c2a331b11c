r"""diffusers' schedulers driven exactly as its pipelines drive them, for `certify_as_shipped`.

::

    scheduler = Scheduler(**options); scheduler.set_timesteps(n)
    x = randn * scheduler.init_noise_sigma
    for t in scheduler.timesteps:
        x = scheduler.step(model(scheduler.scale_model_input(x, t), t), t, x).prev_sample

The network is exact for the data and was trained on the scheduler's own table (`diffusers_network`).

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
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.certify.as_shipped import Plan, Shipped, signal
from diffuscope.certify.chosen_noise import ChosenNoise, no_noise
from diffuscope.denoisers import Batch
from diffuscope.errors import InputError
from diffuscope.exact import Distribution

from .diffusers import quietly, scheduler_class
from .diffusers_network import POINT, TrainedNetwork
from .diffusers_schedulers import OF_STEP, SCHEDULERS, WITH_OWN_LEVELS, is_stochastic
from .libraries import BrownianNoise, Options, arguments_of, library, require_known

AS_SHIPPED = SCHEDULERS | WITH_OWN_LEVELS
Model = Callable[[Batch, Tensor], Batch]  # of the scheduler's input and the timestep


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
        network = TrainedNetwork(made, self.kind)
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
        network = TrainedNetwork(made, self.kind)
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
