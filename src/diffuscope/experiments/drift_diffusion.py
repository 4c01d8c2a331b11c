r"""A decision by drift and diffusion: the most likely path to a bound is straight, the typical one is not.

:math:`dX = v\,dt + \sigma\,dW` decides when it first reaches one of the bounds, -1 or 1. The path of least action to
the lower bound at T is straight, with the momentum

.. math::  p = \frac{1}{\sigma^2}\left(\frac{x_T - x_0}{T} - v\right) .

It knows nothing of absorption. The runs that first reach the bound at time h have, at time t before, the density

.. math::
    p(x, t\,|\,h) \propto \sum_n \sin(n u) \sin(n u_0)\, e^{-n^2 a t} \cdot
        \sum_n n \sin(n u)\, e^{-n^2 a (h - t)}, \qquad u = \frac{\pi (x + 1)}{2},\ a = \frac{\pi^2 \sigma^2}{8} ,

survival up to t times the rate of first reaching the bound at h; a constant drift only weighs the times h, by
:math:`e^{-v^2 h / 2 \sigma^2}`. A simulation in steps misses crossings within a step; a bridge between the states of a
step, which crosses a bound at distances a and b with probability :math:`e^{-2ab/\sigma^2 \Delta t}`, restores them.

Runs have 40 steps. The first passages that count are those in the last two; the mean before is checked at steps 10, 20
and 30. The series have 200 terms, the integrals 400 cells in x and 20 nodes in h.

Source: Vastola 2024, *Noether's theorem for most likely paths*, https://arxiv.org/abs/2504.09761, figure 1a.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray

from diffuscope.findings import Line, farthest, largest, line
from diffuscope.theory.paths import Dynamics, least_action, straight

from .experiment import Experiment
from .part import Part, largest_difference, panel

DRIFT, SIGMA = 0.1, 1.0
START, BOUND, DURATION = 0.5, -1.0, 1.0
STEPS, RUNS, BATCHES = 40, 100_000, 10
STEP = DURATION / STEPS
WINDOW = 2  # of the last steps: first passages in [0.95, 1]
TERMS, CELLS, PASSAGES = 200, 400, 20  # of the series, in x, and in h
CHECKED = (10, 20, 30)  # steps, t = 0.25, 0.5, 0.75
EXPERIMENT = Experiment(
    name="drift-diffusion",
    title="A decision by drift and diffusion",
    question="Is the most likely path to a decision the one that decisions take?",
    source="Vastola 2024, https://arxiv.org/abs/2504.09761",
    seconds=8,
    settings={
        "drift": "0.1",
        "sigma": "1",
        "bounds": "±1",
        "path": "from 0.5 to -1 in time 1",
        "runs": "100,000 published (NumPy's legacy generator, seed 0), ten times as many with bridges",
    },
)


@dataclass(frozen=True, eq=False)
class Passages:
    """States of runs that first reach the lower bound in the window."""

    states: Float[ndarray, "runs times"]

    @property
    def mean(self) -> Float[ndarray, " times"]:
        """The mean state at every step."""
        return self.states.mean(0)

    @property
    def standard_error(self) -> Float[ndarray, " times"]:
        """Of the mean."""
        return self.states.std(0, ddof=1) / math.sqrt(len(self.states))


def simulate(noise: Float[ndarray, "steps runs"], uniform: Float[ndarray, "steps runs"] | None = None) -> Passages:
    """Euler steps; a run ends where a state, or with `uniform` numbers its bridge, reaches a bound."""
    x = np.full(noise.shape[1], START)
    paths, ended, lower = [x], np.zeros(len(x), dtype=int), np.zeros(len(x), dtype=bool)
    for i, z in enumerate(noise):
        new = x + DRIFT * STEP + SIGMA * math.sqrt(STEP) * z
        below, above = new <= BOUND, new >= -BOUND
        if uniform is not None:  # both bounds within one step has a probability of e^-80; beyond one it is certain
            chance = [np.exp(-2 * (1 + s * x) * (1 + s * new) / (SIGMA**2 * STEP)) for s in (1, -1)]
            below, above = uniform[i] < chance[0], uniform[i] > 1 - chance[1]
        alive = ended == 0
        x = np.where(alive, new, x)
        lower |= alive & below
        ended[alive & (below | above)] = i + 1
        paths.append(x)
    kept = lower & (ended > STEPS - 1 - WINDOW + (uniform is not None))
    return Passages(np.stack(paths, 1)[kept])


def published() -> Passages:
    """The runs of the source: a state on or beyond a bound at 0.95 or later counts."""
    return simulate(np.random.RandomState(0).standard_normal((STEPS, RUNS)))


def with_bridges(rng: np.random.Generator) -> Passages:
    """First passages in the last two steps, (0.95, 1], free of the error of monitoring in steps."""
    found = []
    for _ in range(BATCHES):
        noise, uniform = rng.standard_normal((STEPS, RUNS)), rng.random((STEPS, RUNS))
        found.append(simulate(noise, uniform))
    return Passages(np.concatenate([each.states for each in found]))


def exact_mean(times: Float[ndarray, " times"], first: float = DURATION - WINDOW * STEP) -> Float[ndarray, " times"]:
    """E[x_t | first passage in (first, 1]] for times before `first`, by the series and quadrature."""
    n = np.arange(1, TERMS + 1)
    x = -1 + (np.arange(CELLS) + 0.5) * 2 / CELLS
    u, u0, a = np.pi * (x + 1) / 2, np.pi * (START + 1) / 2, np.pi**2 * SIGMA**2 / 8
    nodes, weights = np.polynomial.legendre.leggauss(PASSAGES)
    h = first + (DURATION - first) * (nodes + 1) / 2
    weights = weights * np.exp(-(DRIFT**2) * h / (2 * SIGMA**2))
    sines = np.sin(np.outer(n, u))
    means = []
    for t in times:
        alive = (np.sin(n * u0) * np.exp(-(n**2) * a * t)) @ sines
        reach = (weights @ (n * np.exp(-(n**2) * a * (h[:, None] - t)))) @ sines
        density = alive * reach
        means.append(density @ x / density.sum())
    return np.array(means)


@EXPERIMENT.part("What is the most likely path?")
def most_likely(part: Part) -> str:
    """Straight, with constant momentum."""
    process = Dynamics(lambda x: torch.full_like(x, DRIFT), SIGMA**2 / 2)
    times = torch.linspace(0, DURATION, STEPS + 1, dtype=torch.float64)
    ends = torch.tensor([START], dtype=torch.float64), torch.tensor([BOUND], dtype=torch.float64)
    path = least_action(process, *ends, times)
    off = largest_difference(path.states, straight(ends[0][None], ends[1][None], times))
    worst = farthest(path.momenta.flatten().tolist(), -1.6)
    part.equals(
        "momentum", "The momentum, where it is farthest from (x_T − x_0)/T − v = -1.6", worst, -1.6, 1e-12, "rounding"
    )
    part.at_most("straight", "Distance of the path from a straight line", off, 1e-12, "rounding")
    before = np.arange(1, STEPS - WINDOW) * STEP
    of_mean = (np.gradient(exact_mean(before), before) - DRIFT) / SIGMA**2
    part.chart(
        "The momentum is conserved",
        panel(
            "",
            "t",
            "(dx/dt − v) / σ²",
            line(path.edge_times, path.momenta.reshape(-1), "most likely path"),
            line(before.tolist(), of_mean.tolist(), "mean of runs that first reach −1 in (0.95, 1]"),
        ),
        how_to_read="The drift is the same everywhere, so that the momentum along the path is constant. The mean of "
        "runs (the series of the next part) is no path of least action, and hurries at the end.",
    )
    return f"A straight line, of momentum {worst:.4f}."


@EXPERIMENT.part("Is it what decisions look like?")
def typical(part: Part) -> str:
    """The mean of runs that end at the bound in time, as published and without the error of steps, and its series."""
    old, bridged = published(), with_bridges(part.rng)
    t = np.arange(STEPS + 1) * STEP
    before = np.arange(1, STEPS - WINDOW)
    exact = exact_mean(t[before])
    path = START + (BOUND - START) * t / DURATION
    part.equals(
        "count", "Published runs that first reach −1 at 0.95 or later", len(old.states), 981, 0, "the same 981 runs"
    )
    off = np.abs(bridged.mean[before] - exact) / bridged.standard_error[before]
    here = [float(off[k - 1]) for k in CHECKED]
    title = f"Mean of {len(bridged.states):,} runs with bridges at t = 0.25, 0.5, 0.75, distance from the series"
    part.at_most("series", title, largest(here), 4, "four standard errors", source="derived", unit="standard errors")
    gap = float(np.abs(exact - path[before]).max())
    part.at_least("bends", "The mean bends off the most likely path by", gap, 0.2, "the series", source="derived")
    free = unabsorbed(part.rng)
    title = "Without absorption the mean is the most likely path: distance at t = 0.5 given the end"
    part.at_most("free", title, free, 4, "four standard errors", source="derived", unit="standard errors")
    late = float(exact_mean(np.array([0.5]), DURATION)[0])
    part.equals(
        "half-way", "Mean at t = 0.5 of runs that first reach −1 at 1", late, -0.0346, 5e-5, "digits of -0.0346"
    )
    names = f"{len(old.states)} published runs", f"{len(bridged.states):,} with bridges"
    curves = [with_band(run, name) for name, run in zip(names, (old, bridged), strict=True)]
    curves += [line(t[before].tolist(), exact.tolist(), "series", style="dotted")]
    part.chart(
        "Runs that decide late stay away from the bound until they decide",
        panel("", "t", "x", line(t.tolist(), path.tolist(), "most likely"), *curves),
        how_to_read="Means with bands of two standard errors. A run that reaches −1 near t = 1 for the first time must "
        "not have reached it before, and keeps away; the most likely path is computed as if there were no bound. The "
        f"published runs, which see the bound every {STEP:g} only, wait with less care.",
    )
    return (
        f"No: it is that of a process without absorption. The {len(old.states)} published runs bend off it, "
        f"and the mean of runs that first reach −1 in (0.95, 1] is up to {gap:.2f} away from it."
    )


def unabsorbed(rng: np.random.Generator) -> float:
    """Distance of x_t - x_0 - (x_T - x_0) t / T from its mean zero at half time, in standard errors."""
    first, second = SIGMA * math.sqrt(DURATION / 2) * rng.standard_normal((2, RUNS))
    half, end = DRIFT * DURATION / 2 + first, DRIFT * DURATION + first + second
    near = np.abs(START + end - BOUND) < 0.1
    off = (half - end / 2)[near]
    return float(abs(off.mean()) / (off.std(ddof=1) / math.sqrt(len(off))))


def with_band(run: Passages, name: str) -> Line:
    """The mean with two standard errors."""
    ends = (run.mean + k * 2 * run.standard_error for k in (-1, 1))
    low, high = (end.tolist() for end in ends)
    return line((np.arange(STEPS + 1) * STEP).tolist(), run.mean.tolist(), name, low=low, high=high)
