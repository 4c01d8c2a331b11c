r"""The switch of a two-unit network between memories: what it costs, once the passage is resolved.

Two units excite themselves and inhibit each other, with :math:`\sigma(z) = 1 / (1 + e^{-z})`,

.. math::
    f_x = \mu + A\,\sigma\!\left(\tfrac{x - c}{n}\right) - I\,\sigma\!\left(\tfrac{y - c}{n}\right) - x ,
    \qquad L = \tfrac12 |\dot x - f|^2 ,

and f_y with x and y exchanged. For :math:`n \to 0` each quadrant around (c, c) has an attractor of its own, four in
all. Inside a quadrant the drift is linear, and the switch from one memory to the other in a long time goes through two
borders into each of two quadrants at the cost

.. math::  S \to 1.15^2 + 0.85^2 + 0.25^2 + 0.25^2 = 2.170 .

At n = 0.01 a border is a layer of width 0.01, which a step of time of 0.8 jumps over. `geometric_action` places nodes
by distance instead: the curve of energy E has the duration T(E), and :math:`S(T) = W_E - E T` decreases with T, so that
two curves around T = 40 enclose the action. They are found by continuation from soft layers. On equal steps of time the
direct method stalls above the gradient of 1e-10 that `least_action` requires: moving the passage along the time axis
costs almost nothing. On times adapted to the curve it does not.

Source: Vastola 2024, *Noether's theorem for most likely paths*, https://arxiv.org/abs/2504.09761, figure 1c, whose
numbers are from 60,000 steps of gradient descent on 50 points by the left-point rule. Here its descent has 3,000 steps
of the rate 0.004.
"""

from dataclasses import dataclass
from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.findings import line
from diffuscope.theory.paths import (
    Dynamics,
    GeometricAction,
    Lagrangian,
    LeastAction,
    adapted_times,
    geometric_action,
    least_action,
    least_of_density,
    straight,
    timed,
)
from diffuscope.theory.paths.discrete_action import LEFT, at_edges

from .experiment import Experiment
from .part import Part, panel
from .path_panels import box_around, field, plane

MU, A, CENTER, INHIBITION, SHARP = 1.25, 2.0, 1.5, 0.9, 0.01
START, END = torch.tensor([[3.0, 0.1], [0.1, 3.0]], dtype=torch.float64)
QUADRANTS = torch.tensor([[1, 0], [0, 1], [1, 1], [0, 0]], dtype=torch.float64)  # the units that are on
ATTRACTORS = MU + A * QUADRANTS - INHIBITION * QUADRANTS.flip(1)
SOFTENED = (0.3, 0.2, 0.1, 0.05, 0.025, 0.02, 0.014, SHARP)
ENERGIES = (1e-3, 2e-4, 2e-5, 1e-5, 5e-6, 2e-6, 1e-6, 3e-7)
LONG, STEPS = 40.0, 3200
PIECES, NODES = 800, 50
DESCENT, RATE = 3000, 0.004
REFINED = (800, 1600)  # intervals of the path of T = 1
EXPERIMENT = Experiment(
    name="two-unit-network",
    title="The switch of a two-unit network",
    question="What does the switch from one memory to the other cost?",
    source="Vastola 2024, https://arxiv.org/abs/2504.09761",
    seconds=15,
    settings={
        "network": "μ = 1.25, A = 2, c = 1.5, I = 0.9, n = 0.01",
        "ends": "(3, 0.1) to (0.1, 3)",
        "curves": "800 pieces, extrapolated from twice as many",
        "layers": "n = 0.3, 0.2, 0.1, 0.05, 0.025, 0.02, 0.014, 0.01",
        "energies": "1e-3, 2e-4, 2e-5, 1e-5, 5e-6, 2e-6, 1e-6, 3e-7",
        "direct method": "800 and 1,600 intervals (T = 1), 3,200 adapted steps (T = 40)",
    },
)


def network(n: float = SHARP) -> Dynamics:
    """f with layers of width n, and D = 1/2."""

    def drift(z: Tensor) -> Tensor:
        on = torch.sigmoid((z - CENTER) / n)
        return MU + A * on - INHIBITION * on.flip(1) - z

    return Dynamics(drift, 0.5)


@dataclass(frozen=True, eq=False)
class Curve:
    """A curve of least action of its energy, with its duration and S = W - E T without the error of second order."""

    found: GeometricAction

    @property
    def duration(self) -> float:
        """T."""
        return self.found.duration

    @property
    def action(self) -> float:
        """S."""
        return self.found.extrapolated - self.found.energy * self.found.duration


def curve(n: float, energy: float, begin: Tensor | None) -> Curve:
    """From a curve nearby."""
    return Curve(geometric_action(network(n), START, END, PIECES, energy=energy, initial=begin))


@cache
def sharpened() -> dict[float, Curve]:
    """Curves of the first energy as the layers become thin."""
    found, begin = {}, None
    for n in SOFTENED:
        found[n] = curve(n, ENERGIES[0], begin)
        begin = found[n].found.curve
    return found


def slowed(n: float, energies: tuple[float, ...] = ENERGIES) -> list[Curve]:
    """Curves of falling energy."""
    found = [sharpened()[n]]
    for energy in energies[1:]:
        found.append(curve(n, energy, found[-1].found.curve))
    return found


def attractors(per_axis: int = 24) -> tuple[Float[Tensor, "found 2"], Float[Tensor, " found"]]:
    """Where the drift alone leads from a lattice of states, and the share of each."""
    axis = torch.linspace(0.0, 3.6, per_axis, dtype=torch.float64)
    x = torch.cartesian_prod(axis, axis)
    system, t = network(), torch.zeros(len(x), dtype=torch.float64)
    for _ in range(4000):
        x = x + 0.01 * system.drift_at(x, t)
    ends, counts = (1e4 * x).round().unique(dim=0, return_counts=True)
    return ends / 1e4, counts / len(x)


def descended() -> tuple[Float[Tensor, "nodes 2"], float]:
    """The published path of T = 1: by gradient descent from the straight line, then to its minimum by Newton."""
    density = Lagrangian(network())
    times = torch.linspace(0, 1, NODES, dtype=torch.float64)
    x = straight(START[None], END[None], times)
    for _ in range(DESCENT):
        y = x[:, :-1].clone().requires_grad_()
        v = x.diff(dim=1) / times.diff()[:, None]
        v.requires_grad_()
        total = density(y[0], v[0], times[:-1]).sum()
        by_x, by_v = torch.autograd.grad(total, (y, v))
        gradient = times[1] * by_x[:, 1:] - by_v[:, 1:] + by_v[:, :-1]
        x[:, 1:-1] -= RATE * gradient
    path, S = least_of_density(density, x, times, left=True)
    return path[0], float(S)


def refined() -> list[LeastAction]:
    """The path of T = 1 by the midpoint rule, as the layers become thin."""
    found = []
    for intervals in REFINED:
        times = torch.linspace(0, 1, intervals + 1, dtype=torch.float64)
        x, path = straight(START[None], END[None], times), None
        for n in SOFTENED:
            path = least_action(network(n), START, END, times, initial=x)
            x = path.states
        assert path is not None
        found.append(path)
    return found


def left_energy(path: Float[Tensor, "nodes 2"]) -> Float[Tensor, " edges"]:
    """E = (|v|^2 - |f|^2) / 2 as the left-point rule sees it."""
    times = torch.linspace(0, 1, NODES, dtype=torch.float64)
    x, v, t = at_edges(path[None], times, LEFT)
    f = network().drift_at(x[0], t)
    return (v[0].square().sum(1) - f.square().sum(1)) / 2


@EXPERIMENT.part("How many memories are there?")
def memories(part: Part) -> str:
    """Where the network goes without noise."""
    ends, shares = attractors()
    part.equals(
        "attractors", "Attractors without noise", len(ends), 4, 0, "one in each of four quadrants", source="derived"
    )
    off = float(torch.cdist(ends, ATTRACTORS).amin(1).max())
    part.at_most("places", "Their largest distance from the values of the four quadrants", off, 1e-4, "rounded to 1e-4")
    listed = ", ".join(f"({x:.2f}, {y:.2f}) from {p:.0%}" for (x, y), p in zip(ends.tolist(), shares, strict=True))
    return f"Four: {listed} of a lattice of starts in [0, 3.6]²."


@EXPERIMENT.part("Is the published path of T = 1 resolved?")
def short(part: Part) -> str:
    """Gradient descent on 50 points, and the midpoint rule on many more."""
    path, S = descended()
    coarse, fine = refined()
    title = "Gradient descent from the straight line, 50 points, left-point rule: S"
    part.equals("published", title, S, 9.01752, 1e-5, "digits of 9.01752")
    value = float(fine.certificate.extrapolated)
    title = f"Midpoint rule with {REFINED[1]:,} intervals: S, against {REFINED[0]}"
    because = "both are extrapolated from second order"
    part.equals("refined", title, value, float(coarse.certificate.extrapolated), 1e-5, because, source="derived")
    t = torch.linspace(0, 1, NODES, dtype=torch.float64)
    box = box_around(path, fine.states[0])
    part.chart(
        "T = 1: 50 points jump over the layers",
        plane("", {"published": path, "refined": fine.states[0]}, box, field(network(), box)),
        panel(
            "energy",
            "t",
            "E",
            line(t[:-1], left_energy(path), "published"),
            line(fine.edge_times, fine.energy[0], "refined"),
        ),
        how_to_read="The published path is a local minimum of the action on 50 points, which see a layer of width 0.01 "
        f"at distances of 0.08; its energy is not conserved. That of the refined path varies by "
        f"{float(fine.energy.std()):.0e}, and its action changes by {float(fine.certificate.action_change):.0e} when "
        "intervals are halved.",
    )
    return (
        f"No: {S:.5f} is a local minimum on its 50 points, which gradient descent reaches from the straight line. "
        f"Refined, the action is {value:.4f}."
    )


@EXPERIMENT.part("What does a slow switch cost?")
def slow(part: Part) -> str:
    """Curves around T = 40, the direct method, and the limit of thin layers."""
    found = slowed(SHARP)
    below, above = found[-2:]
    S = (below.action + above.action) / 2
    width = (below.action - above.action) / 2
    because = "2.116 by an independent computation on 3,200 steps"
    part.equals("long", "T = 40: S, between two curves of fixed energy", S, 2.116, 0.01, because, source="derived")
    times = adapted_times(network(), below.found, LONG, STEPS)
    direct = least_action(network(), START, END, times, initial=timed(network(), below.found, times)[None])
    title = f"The direct method on {STEPS:,} adapted steps, extrapolated from second order: S"
    because = "the width of the two curves, and the next order"
    part.equals("direct", title, float(direct.certificate.extrapolated), S, 1e-4, because, source="derived")
    title = "Its gradient, of its momenta"
    part.at_most(
        "gradient", title, float(direct.certificate.residual), 1e-10, "a minimum to rounding", source="derived"
    )
    wide = slowed(0.02, ENERGIES[:3])[-1].action
    limit = 2 * found[2].action - wide
    because = "2.17 up to the next order in n, and T of 31"
    part.equals("limit", "S for n → 0, from n = 0.02 and 0.01", limit, 2.17, 2e-3, because, source="derived")
    widths = [n for n in SOFTENED if n <= 0.1]
    box = box_around(direct.states[0])
    part.chart(
        "A slow switch visits the memory between",
        plane("", {"T = 40": direct.states[0]}, box, field(network(), box)),
        panel("time", "T", "S", line([c.duration for c in found], [c.action for c in found], "curves of given energy")),
        panel(
            "layers",
            "n",
            "S",
            line(widths, [sharpened()[n].action for n in widths], f"E = {ENERGIES[0]:g}"),
            line([0.0, 0.1], [2.17, 2.17], "thin layers", style="dashed"),
        ),
        how_to_read="Left: the path over the drift. Middle: the action decreases with the time allowed; its error is "
        f"that of the pieces, {max(c.found.action_change for c in found):.0e} before it is extrapolated. Right: thin "
        "layers cost most. The published S of T = 40 is 1.356: its steps of 0.8 jump over the layers.",
    )
    return (
        f"{S:.4f} ± {width:.0e} at T = 40, where 50 points gave 1.356, and {limit:.3f} for thin layers, as the linear "
        f"pieces have it. The direct method on {STEPS:,} adapted steps gives {float(direct.action):.5f}."
    )
