r"""The way out of a well without a potential: the barrier of Maier and Stein, by curves and paths of given duration.

.. math::  f = \big(x - x^3 - \beta x y^2,\; -(1 + x^2)\,y\big), \qquad L = \tfrac12 |\dot x - f|^2 .

The least action from the attractor (-1, 0) to the saddle (0, 0) over all durations is the quasipotential there, the
barrier of noise-driven escape. Along the axis it is 1/2 for any beta. At :math:`\beta = 4` that path turns from a
minimum into a saddle, and the way out leaves the axis on either side.

`geometric_action` minimizes over curves; a path of duration T has a larger action, which approaches the same value as
T grows. At beta = 10 and T = 80 an independent computation with 6,400 intervals has 0.34004.

Source: Maier & Stein 1993, https://doi.org/10.1103/PhysRevLett.71.1783; Heymann & Vanden-Eijnden 2008,
https://doi.org/10.1002/cpa.20238.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.findings import farthest, line
from diffuscope.theory.paths import Dynamics, GeometricAction, LeastAction, geometric_action, least_action, time_shift
from diffuscope.theory.paths import timed as at_times

from .experiment import Experiment
from .part import Part, loglog, panel
from .path_panels import along, box_around, field, plane
from .rates import swirl

STABLE, SADDLE = torch.tensor([[-1.0, 0.0], [0.0, 0.0]], dtype=torch.float64)
PIECES = 200
BETAS = (1.0, 2.0, 3.0, 3.8, 4.2, 4.5, 5.0, 6.0, 8.0, 10.0)
DURATIONS = (2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 80.0)
PER_UNIT = 40  # intervals of a path per unit of time
TEN = 0.34004  # at beta = 10, T = 80, 6,400 intervals, by an independent computation
EXPERIMENT = Experiment(
    name="maier-stein",
    title="The way out of a well without a potential",
    question="How high is the barrier, and where does the most likely way out pass it?",
    source="Maier & Stein 1993, https://doi.org/10.1103/PhysRevLett.71.1783",
    seconds=8,
    settings={
        "ends": "(−1, 0) to (0, 0)",
        "D": "1/2",
        "beta": "1, 2, 3, 3.8, 4.2, 4.5, 5, 6, 8, 10",
        "durations": "2, 3, 4, 5, 6, 8, 10, 80 at beta = 10, 40 intervals per unit",
        "pieces of a curve": "200",
    },
)


def dynamics(beta: float) -> Dynamics:
    """f and D = 1/2."""
    return Dynamics(swirl(beta), 0.5)


def bent(height: float = 0.3) -> Float[Tensor, "nodes 2"]:
    """A curve to begin with that is off the axis."""
    s = torch.linspace(0, 1, 50, dtype=torch.float64)
    return torch.stack([s - 1, height * torch.sin(math.pi * s)], 1)


def way_out(beta: float) -> GeometricAction:
    """The curve of least action."""
    return geometric_action(dynamics(beta), STABLE, SADDLE, PIECES, initial=bent())


@EXPERIMENT.part("How high is the barrier?")
def barrier(part: Part) -> str:
    """The quasipotential of the saddle over beta, on and off the axis."""
    found = {beta: way_out(beta) for beta in BETAS}
    on_axis = {beta: geometric_action(dynamics(beta), STABLE, SADDLE, PIECES) for beta in BETAS}
    two, five, ten = (found[beta].extrapolated for beta in (2.0, 5.0, 10.0))
    part.equals("two", "Barrier at β = 2", two, 0.5, 1e-6, "the curve is of second order, and extrapolated")
    part.equals(
        "five", "Barrier at β = 5", five, 0.483, 5e-4, "digits of 0.483", source="published value, three digits"
    )
    part.equals(
        "ten", "Barrier at β = 10", ten, TEN, 2e-4, "0.34004 on a path of T = 80", source="independent computation"
    )
    worst = farthest([found_here.extrapolated for found_here in on_axis.values()], 0.5)
    part.equals("axis", "Along the axis at every β, farthest", worst, 0.5, 1e-6, "the same", source="derived")
    wrong = [beta for beta, curve in on_axis.items() if curve.minimum != (beta < 4)]
    part.equals(
        "turn", "Values of β where the axis is a minimum above 4 or a saddle below", len(wrong), 0, 0, "a count"
    )
    barriers = [found[beta].extrapolated for beta in BETAS]
    curves = {f"β = {b:g}": found[b].curve for b in (2.0, 5.0, 10.0)}
    box = box_around(*curves.values())
    part.chart(
        "Above β = 4 the way out leaves the axis",
        plane("", curves, box, field(dynamics(10.0), box)),
        panel(
            "barrier",
            "β",
            "W",
            line(BETAS, [curve.extrapolated for curve in on_axis.values()], "on the axis", style="dashed"),
            line(BETAS, barriers, "least"),
        ),
        how_to_read="Left: curves of least action over the drift at β = 10; their mirror images have the same action. "
        f"Right: the least action. When the pieces are doubled it changes by at most "
        f"{max(curve.action_change for curve in found.values()):.0e}, less than the width of the lines.",
    )
    return f"1/2 up to β = 4, and then less: {five:.4f} at β = 5 and {ten:.5f} at β = 10."


@EXPERIMENT.part("Do paths of given duration have the same barrier?")
def durations(part: Part) -> str:
    """The direct method at beta = 10, each from the last, and what it conserves."""
    system, curve = dynamics(10.0), way_out(10.0)
    paths: dict[float, LeastAction] = {}
    for T in DURATIONS:
        times = torch.linspace(0, T, int(PER_UNIT * T) + 1, dtype=torch.float64)
        paths[T] = least_action(system, STABLE, SADDLE, times, initial=at_times(system, curve, times)[None])
    actions = {T: float(path.certificate.extrapolated[0]) for T, path in paths.items()}
    longest = paths[DURATIONS[-1]]
    title = f"Action of a path of T = {DURATIONS[-1]:g}, minus that of the curve"
    part.at_most("agree", title, abs(actions[DURATIONS[-1]] - curve.extrapolated), 1e-5, "both are extrapolated")
    excess = [actions[T] - curve.extrapolated for T in DURATIONS]
    part.at_least("above", "Smallest excess of a path up to T = 10", min(excess[:7]), 0.0, "the curve is the infimum")
    drifts = [float(time_shift().drift(paths[T])) for T in DURATIONS[:4]]
    title = "Energy along the paths of T = 2 to 5: max |E − mean E| / max |E|"
    part.at_most("energy", title, max(drifts), 0.01, "second order, of an energy that is small at T = 5")
    shown = {f"T = {T:g}": path.states[0] for T, path in paths.items() if T in (2.0, 4.0, 80.0)}
    shown["curve"] = curve.curve
    energies = {f"T = {T:g}": (paths[T].edge_times / T, paths[T].energy[0]) for T in (3.0, 4.0, 5.0)}
    energy = along("", "E", energies)
    part.chart(
        "A path in a hurry pays more",
        plane("β = 10", shown, box_around(*shown.values()), dotted=("curve",)),
        panel("energy along the path", "t / T", "E", *energy.marks),
        loglog("excess over the curve", "T", "S − W", line(DURATIONS[:7], excess[:7])),
        how_to_read=f"The longer a path may take, the lower its energy and its action. Energies change along a path by "
        f"the error of the mesh alone. On {len(longest.times) - 1:,} intervals the action of the longest changes by "
        f"{float(longest.certificate.action_change[0]):.0e} when they are halved.",
    )
    return (
        f"Yes: at T = {DURATIONS[-1]:g} the action is {actions[DURATIONS[-1]]:.6f}, and that of the curve "
        f"{curve.extrapolated:.6f}. A path of T = 2 costs {actions[2.0]:.4f}."
    )
