r"""The contract of a sampler: one step from time t to an earlier time s, and its cost.

The reverse family with one parameter :math:`\eta`,

.. math::  dx = \left[f x - \tfrac{1 + \eta^2}{2} g^2\, \nabla\log p_t(x)\right]dt + \eta\, g\, d\bar B,

has the marginals of the forward process for every eta when the score is exact; eta = 0 is the probability-flow ODE,
with velocity :math:`v = \dot\alpha D + \dot\sigma\varepsilon`.

A trajectory is a generator: the caller owns the loop, the progress bar and the stopping. It runs without gradients
(a network would otherwise keep the activations of every step); `step` itself is differentiable.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.denoisers import Batch, Denoiser
from diffuscope.errors import InputError

from .noise import Noise
from .schedule_values import Instant, instants


@dataclass(frozen=True, eq=False, slots=True)
class Evaluation:
    """One call of the denoiser: at the instant `at` it mapped the state `x_t` to `denoised`.

    >>> import torch
    >>> from diffuscope import VE, DPMSolverPP2M, ExactDenoiser, Gaussian
    >>> from diffuscope.samplers import trajectory
    >>> model = ExactDenoiser(Gaussian.isotropic(torch.zeros(1), 1.0), VE())
    >>> states = trajectory(DPMSolverPP2M(), model, torch.tensor([[17.0]]), torch.tensor([4.0, 2.0]))
    >>> latest = list(states)[-1].history[-1]  # at t = 4, where D = x / 17
    >>> latest.at.t, float(latest.x_t), float(latest.denoised)
    (4.0, 17.0, 1.0)
    """

    at: Instant
    x_t: Batch
    denoised: Batch


@dataclass(frozen=True, eq=False, slots=True)
class State:
    """A point of a trajectory: the state `x_t` at the instant `at`, and the history of its next step (latest last).

    >>> import torch
    >>> from diffuscope import VE, ExactDenoiser, Gaussian, Heun
    >>> from diffuscope.samplers import State, instant
    >>> point = ExactDenoiser(Gaussian.isotropic(torch.tensor([1.0]), 0.0), VE())  # x - 1 is proportional to sigma
    >>> state = Heun().step(point, State(instant(VE(), 5.0), torch.tensor([[26.0]])), instant(VE(), 3.0))
    >>> state.t, float(state.x_t)
    (3.0, 16.0)
    """

    at: Instant
    x_t: Batch
    history: tuple[Evaluation, ...] = ()

    @property
    def t(self) -> float:
        """The time of the state."""
        return self.at.t


@runtime_checkable
class Sampler(Protocol):
    """One family of steps: a frozen dataclass that declares its order of accuracy and its cost.

    >>> from diffuscope import Heun
    >>> from diffuscope.samplers import Sampler
    >>> isinstance(Heun(), Sampler), Heun().order, Heun().nfe_per_step
    (True, 2, 2)
    """

    @property
    def order(self) -> int:
        """Order of convergence of the endpoint: strong for a deterministic sampler, weak for a stochastic one."""
        ...

    @property
    def stochastic(self) -> bool:
        """Whether a step draws noise."""
        ...

    @property
    def nfe_per_step(self) -> int | None:
        """Function evaluations (NFE) per step; None where they vary (error control, teleport)."""
        ...

    def step(self, denoiser: Denoiser, state: State, s: Instant, noise: Noise | None = None) -> State:
        """The state at s.t < state.t; a step to sigma(s) = 0 ends exactly at alpha(s) D."""
        ...


def trajectory(
    sampler: Sampler,
    denoiser: Denoiser,
    x_start: Batch,
    times: Float[Tensor, " times"],
    *,
    noise: torch.Generator | Noise | None = None,
    history: tuple[Evaluation, ...] = (),
) -> Iterator[State]:
    """Every state from `times[0]` to `times[-1]`, the start included, without gradients.

    `noise` is a generator to draw from, or a `BrownianPath` shared with other runs. `history` warms up a multistep
    sampler with evaluations at times above `times[0]`, latest last.
    Raises InputError for times that do not decrease, for a history at other times, and for a stochastic sampler
    without noise.

    >>> import torch
    >>> from diffuscope import DDIM, VE, ExactDenoiser, Gaussian
    >>> from diffuscope.samplers import trajectory
    >>> point = ExactDenoiser(Gaussian.isotropic(torch.tensor([1.0]), 0.0), VE())  # x - 1 is proportional to sigma
    >>> states = trajectory(DDIM(), point, torch.tensor([[26.0]]), torch.tensor([5.0, 3.0, 1.0]))
    >>> [(state.t, round(float(state.x_t), 4)) for state in states]
    [(5.0, 26.0), (3.0, 16.0), (1.0, 6.0)]
    """
    if len(times) == 0 or not bool((times[1:] < times[:-1]).all()):
        raise InputError(f"times: expected strictly decreasing times, from noise to data, got {times.tolist()}")
    start, past = float(times[0]), [evaluation.at.t for evaluation in history]
    if any(later >= earlier for earlier, later in itertools.pairwise([*past, start])):
        raise InputError(f"history: expected decreasing times above the start {start:g}, got {past}")
    if isinstance(noise, torch.Generator):
        noise = Noise(noise)
    if sampler.stochastic and noise is None:
        raise InputError(f"noise: {type(sampler).__name__} draws noise and needs a torch.Generator, got None")
    grid = instants(denoiser.schedule, times)
    state = State(grid[0], x_start, history)
    yield state
    for s in grid[1:]:
        with torch.no_grad():  # not around the yield, which would switch gradients off for the caller
            state = sampler.step(denoiser, state, s, noise)
        yield state


def sample(
    sampler: Sampler,
    denoiser: Denoiser,
    x_start: Batch,
    times: Float[Tensor, " times"],
    *,
    noise: torch.Generator | Noise | None = None,
    history: tuple[Evaluation, ...] = (),
) -> Batch:
    """The last state of `trajectory`, without keeping the others.

    >>> import torch
    >>> from diffuscope import DDIM, VE, ExactDenoiser, Gaussian
    >>> from diffuscope.samplers import sample
    >>> point = ExactDenoiser(Gaussian.isotropic(torch.tensor([1.0]), 0.0), VE())  # x - 1 is proportional to sigma
    >>> round(float(sample(DDIM(), point, torch.tensor([[26.0]]), torch.tensor([5.0, 3.0, 1.0]))), 4)
    6.0
    """
    x_t = x_start
    for state in trajectory(sampler, denoiser, x_start, times, noise=noise, history=history):
        x_t = state.x_t
    return x_t


def required(noise: Noise | None, sampler: object) -> Noise:
    """`noise`; raises InputError, naming `sampler`, where it is None."""
    if noise is None:
        raise InputError(f"noise: {type(sampler).__name__} draws noise and needs a Noise, got None")
    return noise
