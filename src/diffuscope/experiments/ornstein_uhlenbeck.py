r"""The most likely path of an Ornstein-Uhlenbeck process, and the two numbers that it conserves.

With :math:`f = -x` and D = 1 the path of least action from x_0 to x_T is a geodesic of a repelling potential,

.. math::
    x(t) = \frac{x_0 \sinh(T - t) + x_T \sinh t}{\sinh T}, \qquad
    S = \frac{|x_T - x_0 e^{-T}|^2}{2 (1 - e^{-2T})} .

Nothing depends on time and the drift is isotropic, so that energy and angular momentum are conserved; in the units of
the source, four and two times those of `theory.paths`,

.. math::
    E = |\dot x|^2 - |x|^2 = \frac{|x_0|^2 + |x_T|^2 - 2\,x_0\cdot x_T \cosh T}{\sinh^2 T}, \qquad
    L = x \dot y - y \dot x = \frac{x_0 \times x_T}{\sinh T} .

The midpoint rule conserves both exactly, on any mesh: the first because the action is quadratic.

Source: Vastola 2024, *Noether's theorem for most likely paths*, https://arxiv.org/abs/2504.09761, figure 1b, with E =
11.58498657546097 and L = -6.8073450259145725 for T = 1, 1.31914e-7 and -7.26399e-4 for T = 10.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.findings import farthest, largest, line
from diffuscope.theory.paths import Dynamics, LeastAction, least_action, rotation, time_shift

from .experiment import Experiment
from .part import Part, largest_difference, loglog
from .path_panels import along, box_around, field, plane

PROCESS = Dynamics(lambda x: -x, 1.0)
START, END = torch.tensor([-2.0, 2.0], dtype=torch.float64), torch.tensor([2.0, 2.0], dtype=torch.float64)
DURATIONS = (1.0, 10.0)
PER_UNIT = 400  # intervals per unit of time
HALVED = (50, 100, 200, PER_UNIT)
PUBLISHED = {1.0: (11.58498657546097, -6.8073450259145725), 10.0: (1.31914e-7, -7.26399e-4)}
ORDER = "second order at 400 intervals per unit of time"
EXPERIMENT = Experiment(
    name="ornstein-uhlenbeck",
    title="Most likely paths of an Ornstein-Uhlenbeck process",
    question="Is the path that maximizes the probability the closed form, and what does it conserve?",
    source="Vastola 2024, https://arxiv.org/abs/2504.09761",
    seconds=4,
    settings={
        "f": "−x",
        "D": "1",
        "ends": "(−2, 2) to (2, 2)",
        "T": "1 and 10",
        "intervals per unit": "400; 50, 100, 200 and 400 for the orders",
    },
    notes=("Energy and angular momentum are in the units of the source: |v|² − |x|² and x v_y − y v_x.",),
)


def mesh(T: float, intervals: int) -> Float[Tensor, " nodes"]:
    """Equal intervals of [0, T]."""
    return torch.linspace(0, T, intervals + 1, dtype=torch.float64)


def closed_form(T: float, t: Float[Tensor, " nodes"]) -> Float[Tensor, "nodes 2"]:
    """x(t)."""
    return (torch.sinh(T - t)[:, None] * START + torch.sinh(t)[:, None] * END) / math.sinh(T)


def conserved(T: float) -> tuple[float, float, float]:
    """E, L and S in closed form."""
    dot, cross = float(START @ END), float(START[0] * END[1] - START[1] * END[0])
    E = (float(START @ START + END @ END) - 2 * dot * math.cosh(T)) / math.sinh(T) ** 2
    S = float((END - START * math.exp(-T)).square().sum()) / (2 * (1 - math.exp(-2 * T)))
    return E, cross / math.sinh(T), S


def charges(path: LeastAction) -> tuple[Float[Tensor, " edges"], Float[Tensor, " inner"]]:
    """E on the edges and L at the interior nodes."""
    return 4 * path.energy[0], 2 * rotation().charge(path)[0]


@EXPERIMENT.part("Is the path the closed form?")
def closed_forms(part: Part) -> str:
    """Energy, angular momentum and action for T = 1 and 10 against their closed forms."""
    found = {T: least_action(PROCESS, START, END, mesh(T, int(PER_UNIT * T))) for T in DURATIONS}
    exact = {T: conserved(T) for T in DURATIONS}
    for k, name in enumerate(("E", "L")):
        title = f"T = 1: {name} everywhere along the path, where it is farthest from its closed form"
        worst = farthest(charges(found[1.0])[k].tolist(), exact[1.0][k])
        part.equals(f"{name}-1", title, worst, PUBLISHED[1.0][k], 1e-5, ORDER)
    relative = [largest_difference(charges(found[10.0])[k] / PUBLISHED[10.0][k], 1) for k in range(2)]
    because = "E = 1.3e-7 is a difference of squares up to 8, known to 1e-9"
    part.at_most("charges-10", "T = 10: E and L, relative error", max(relative), 1e-2, because)
    part.equals("S-1", "T = 1: the action", float(found[1.0].action), exact[1.0][2], 1e-5, ORDER)
    part.equals("S-10", "T = 10: the action", float(found[10.0].action), exact[10.0][2], 1e-5, ORDER)
    paths = {f"T = {T:g}": path.states[0] for T, path in found.items()}
    formulas = {f"closed form, T = {T:g}": closed_form(T, path.times) for T, path in found.items()}
    box = box_around(*paths.values())
    part.chart(
        "Slow paths pass near the fixed point",
        plane("", paths | formulas, box, field(PROCESS, box), dotted=tuple(formulas)),
        how_to_read="Arrows: the drift. The longer the path may take, the longer it follows the drift toward the fixed "
        "point, and only leaves it against the drift. Dotted: closed forms, which agree to the width of the lines; "
        f"there is no sampling error, and halving the intervals changes the actions by at most "
        f"{max(float(path.certificate.action_change) for path in found.values()):.0e}.",
    )
    return (
        f"Yes: the actions are {float(found[1.0].action):.5f} and {float(found[10.0].action):.5f}, as the closed forms "
        f"({exact[1.0][2]:.5f}, {exact[10.0][2]:.5f})."
    )


@EXPERIMENT.part("What is conserved, and how exactly?")
def conservation(part: Part) -> str:
    """Exact discrete invariants, the order of everything else, and a path that conserves nothing."""
    runs = {N: least_action(PROCESS, START, END, mesh(1.0, N)) for N in HALVED}
    drifts = [float(each.drift(run).max()) for run in runs.values() for each in (time_shift(), rotation())]
    title = f"max |Q − mean Q| / max |Q| of energy and angular momentum, from {HALVED[0]} intervals on"
    part.at_most("invariants", title, largest(drifts), 1e-9, "exact for the midpoint rule; what Newton's method leaves")
    exact = conserved(1.0)
    errors = {
        "path": [float((run.states[0] - closed_form(1.0, run.times)).norm(dim=1).max()) for run in runs.values()],
        "S": [abs(float(run.action) - exact[2]) for run in runs.values()],
        "E": [abs(float(charges(run)[0].mean()) - exact[0]) for run in runs.values()],
    }
    ratios = [values[-2] / values[-1] for values in errors.values()]
    title = "Errors of path, action and energy when the intervals are halved, the ratio farthest from 4"
    part.equals("order", title, farthest(ratios, 4.0), 4.0, 0.1, "second order")
    run = runs[HALVED[-1]]
    t = run.edge_times
    line_x, line_v = START + t[:, None] * (END - START), END - START
    along_line = line_v.square().sum() - line_x.square().sum(1)
    turning = line_x[:, 0] * line_v[1] - line_x[:, 1] * line_v[0]
    E, L = charges(run)
    energy = {
        "most likely": (t, E),
        "straight line": (t, along_line),
        "closed form": (t[[0, -1]], t.new_full((2,), exact[0])),
    }
    angular = {"most likely": (run.times[1:-1], L), "straight line": (t, turning)}
    angular["closed form"] = (t[[0, -1]], t.new_full((2,), exact[1]))
    part.chart(
        "Charges along the path, T = 1",
        along("energy", "E", energy, ("closed form",)),
        along("angular momentum", "L", angular, ("closed form",)),
        loglog("errors", "intervals", "error", *(line(HALVED, values, name) for name, values in errors.items())),
        how_to_read="The most likely path conserves both; a straight line at constant speed between the same ends does "
        "not conserve the energy. Its angular momentum is constant because every straight line's is. Right: largest "
        "errors against the closed forms, a straight line of slope −2.",
    )
    return (
        f"Energy and angular momentum, to {largest(drifts):.0e} of themselves on every mesh: conservation says nothing "
        f"about resolution. Their values, like path and action, have errors of second order (ratio {ratios[1]:.3f})."
    )
