r"""What a sampler is: one step from time t to an earlier time s, and what that step costs.

The reverse family with one dial :math:`\eta`,

.. math::  dx = \left[f x - \tfrac{1 + \eta^2}{2} g^2\, \nabla\log p_t(x)\right]dt + \eta\, g\, d\bar B,

has the marginals of the forward process for every eta when the score is exact; eta = 0 is the
probability-flow ODE, with velocity :math:`v = \dot\alpha D + \dot\sigma\varepsilon`.

A trajectory is a generator: the caller owns the loop, the progress bar and the stopping. It runs without gradients
(a network would otherwise keep the activations of every step); `step` itself is differentiable.
"""

import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.denoisers import Batch, Denoiser
from diffuscope.errors import InputError


@dataclass(frozen=True)
class Evaluation:
    """One call of the denoiser: at time `t` it answered `denoised`."""

    t: Float[Tensor, ""]
    denoised: Batch


@dataclass(frozen=True)
class State:
    """Where a trajectory is: at time `t` in state `x_t`, with the evaluations it remembers (latest last)."""

    t: Float[Tensor, ""]
    x_t: Batch
    history: tuple[Evaluation, ...] = ()


@dataclass(frozen=True)
class Sampler(ABC):
    """One family of steps; a subclass declares its order of accuracy and its cost."""

    order: ClassVar[int]
    stochastic: ClassVar[bool]
    nfe_per_step: ClassVar[int]
    memory: ClassVar[int] = 0  # how many earlier evaluations a step reads

    @abstractmethod
    def step(
        self, denoiser: Denoiser, state: State, s: Float[Tensor, ""], generator: torch.Generator | None = None
    ) -> State:
        """The state at time s < t, with the evaluations it made; a step to sigma(s) = 0 ends exactly at alpha(s) D."""


@torch.no_grad()
def trajectory(
    sampler: Sampler,
    denoiser: Denoiser,
    x_start: Batch,
    times: Float[Tensor, " times"],
    *,
    generator: torch.Generator | None = None,
    history: tuple[Evaluation, ...] = (),
) -> Iterator[State]:
    """Every state from `times[0]` to `times[-1]`, the start included.

    `history` warms up a multistep sampler with evaluations from before `times[0]`.
    Raises InputError for times that do not decrease, for a history that is not from before them, latest last, and for
    a stochastic sampler without a generator.
    """
    if len(times) == 0 or not bool((times[1:] < times[:-1]).all()):
        raise InputError(f"times: expected strictly decreasing times, from noise to data, got {times.tolist()}")
    seen = [float(evaluation.t) for evaluation in history] + [float(times[0])]
    if any(later >= earlier for earlier, later in itertools.pairwise(seen)):
        raise InputError(f"history: expected decreasing times above the start {seen[-1]:g}, got {seen[:-1]}")
    if sampler.stochastic and generator is None:
        raise InputError(f"generator: {type(sampler).__name__} draws noise and needs a torch.Generator, got None")
    times = times.double()
    state = State(times[0], x_start, history)
    yield state
    for s in times[1:]:
        state = sampler.step(denoiser, state, s, generator)
        # the slice keeps exactly `memory` evaluations, also when that is none
        state = State(state.t, state.x_t, state.history[max(0, len(state.history) - sampler.memory) :])
        yield state


@torch.no_grad()
def sample(
    sampler: Sampler,
    denoiser: Denoiser,
    x_start: Batch,
    times: Float[Tensor, " times"],
    *,
    generator: torch.Generator | None = None,
    history: tuple[Evaluation, ...] = (),
) -> Batch:
    """The last state of `trajectory`, without keeping the others."""
    x_t = x_start
    for state in trajectory(sampler, denoiser, x_start, times, generator=generator, history=history):
        x_t = state.x_t
    return x_t
