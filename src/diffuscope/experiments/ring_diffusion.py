r"""Most likely paths onto a ring under three functionals, and how far a published one was from its optimum.

The reverse diffusion of a noised ring of radius R, :math:`dx = 2 t\,s\,d\tau + \sqrt{2t}\,dW`, goes from
:math:`(2R, \pi/2)` in polar coordinates at T to :math:`(R, \theta)` at :math:`\epsilon`. Three densities, in t,

.. math::
    L_\mathrm{code} = \frac{|\dot x|^2}{4t} + t\,|s|^2, \qquad
    L_\mathrm{FW} = L_\mathrm{code} + \dot x\cdot s, \qquad
    L_\mathrm{OM} = L_\mathrm{FW} + t\,\nabla\cdot s ,

have three different paths: the term :math:`\dot x\cdot s` is no total derivative, because p depends on t. On its 50
points at equal ratios of t the source minimizes the first in polar coordinates by the left-point rule,

.. math::
    S = \sum_i h_i \left( \frac{\dot r_i^2 + r_i^2 \dot\theta_i^2}{4 t_i} + t_i\,s_r(r_i, t_i)^2 \right), \qquad
    p_\theta = \frac{r_i^2\,\dot\theta_i}{2 t_i} .

Rotations conserve :math:`p_\theta` exactly in this rule, however coarse it is. Its code guards divisions by an offset
q = 0.001, added to t in the first term, and to the variance and :math:`I_0` in the score.

Source: Vastola 2024, *Noether's theorem for most likely paths*, https://arxiv.org/abs/2504.09761, figure 2, whose paths
are from 60,000 steps of gradient descent: S is 0.738, 0.798, 0.897 and 1.033 for the four angles. By an independent
computation the optimum has S = 0.268296, 0.274860, 0.281744 and 0.284588 with the offsets, and without them the momenta
0.0065, 0.0094, 0.0073 and 0.0008 and the smallest radii 1.72, 1.39, 0.84 and 0.11.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.findings import Panel, largest, line
from diffuscope.theory.paths import ActionDensity, Dynamics, least_action, least_of_density, straight

from .experiment import Experiment
from .noised_data import Ring
from .part import Part, largest_difference, panel
from .path_panels import box_around, field, plane

RING = Ring()
LEVELS = torch.logspace(-0.4, 1.5, 50, dtype=torch.float64)
ANGLES = {"π/4": math.pi / 4, "0": 0.0, "−π/4": -math.pi / 4, "−π/2": -math.pi / 2}
MOMENTA = (0.0065, 0.0094, 0.0073, 0.0008)  # of the paths at their optimum, by an independent computation
CLOSEST = (1.72, 1.39, 0.84, 0.11)  # their smallest radii
PRINTED = (0.738, 0.798, 0.897, 1.033)  # S of the source, which gradient descent has not finished
CODED = (0.268296, 0.274860, 0.281744, 0.284588)  # S at the optimum of its code, by an independent computation
OFFSET = 1e-3  # q
REFINED = 401  # nodes
TOP = torch.tensor([0.0, 10.0], dtype=torch.float64)
INDEPENDENT = "independent computation of the source's optimum"
EXPERIMENT = Experiment(
    name="ring-diffusion",
    title="Most likely paths onto a ring",
    question="Which way does the reverse diffusion take onto a ring, and what does the answer depend on?",
    source="Vastola 2024, https://arxiv.org/abs/2504.09761",
    seconds=6,
    settings={
        "ring": "radius 5, width 0.55",
        "levels": "50 from 10^1.5 to 10^−0.4",
        "angles": ", ".join(ANGLES),
        "three functionals": "on 401 levels",
    },
    notes=(
        "The code of the source adds 0.001 to t, to the variance and to I_0 where it divides by them; at its optimum S "
        "is 1.5e-4 higher than without.",
    ),
)


def polar(y: Tensor, v: Tensor, t: Tensor) -> Float[Tensor, " n"]:
    """L_code of (r, theta)."""
    r, zero = y[:, 0], torch.zeros_like(y[:, 0])
    s = RING.score(torch.stack([r, zero], 1), t)[:, 0]
    return (v[:, 0] ** 2 + r**2 * v[:, 1] ** 2) / (4 * t) + t * s**2


def coded(y: Tensor, v: Tensor, t: Tensor) -> Float[Tensor, " n"]:
    """L_code of (r, theta) with the offsets."""
    r, variance = y[:, 0], RING.width**2 + t**2
    z = RING.radius * r / (variance + OFFSET)
    ratio = torch.special.i1e(z) / (torch.special.i0e(z) + OFFSET * torch.exp(-z))
    s = (RING.radius * ratio - r) / variance
    return (v[:, 0] ** 2 + r**2 * v[:, 1] ** 2) / (4 * (t + OFFSET)) + t * s**2


def cartesian(x: Tensor, v: Tensor, t: Tensor) -> Float[Tensor, " n"]:
    """L_code of (x, y)."""
    return v.square().sum(1) / (4 * t) + t * RING.score(x, t).square().sum(1)


def on_ring(angle: float) -> Float[Tensor, "2"]:
    """(R, angle) in the plane."""
    return RING.radius * torch.tensor([math.cos(angle), math.sin(angle)], dtype=torch.float64)


def published(angle: float, density: ActionDensity = polar) -> tuple[Float[Tensor, "nodes 2"], float]:
    """The optimum of the source's rule, (r, theta) from the ring out, and S."""
    ends = torch.tensor([[[RING.radius, angle]], [[2 * RING.radius, math.pi / 2]]], dtype=torch.float64)
    path, S = least_of_density(density, straight(ends[0], ends[1], LEVELS), LEVELS, left=True)
    return path[0], float(S)


def angular_momentum(path: Float[Tensor, "nodes 2"]) -> Float[Tensor, " edges"]:
    """p_theta of the left-point rule."""
    return path[:-1, 0] ** 2 * path[:, 1].diff() / LEVELS.diff() / (2 * LEVELS[:-1])


def in_plane(path: Float[Tensor, "nodes 2"]) -> Float[Tensor, "nodes 2"]:
    """(x, y) of (r, theta)."""
    r, angle = path.T
    return torch.stack([r * angle.cos(), r * angle.sin()], 1)


@EXPERIMENT.part("Do the most likely paths go around the ring?")
def through(part: Part) -> str:
    """The optimum of the source's own rule."""
    found = {name: published(angle) for name, angle in ANGLES.items()}
    momenta = {name: angular_momentum(path) for name, (path, _) in found.items()}
    drift = max(largest_difference(p, p.mean()) / largest_difference(p, 0) for p in momenta.values())
    part.at_most(
        "conserved", "max |p_θ − mean p_θ| / max |p_θ|", drift, 1e-8, "what Newton's method leaves", source="derived"
    )
    off = largest_difference([float(p.mean()) for p in momenta.values()], MOMENTA)
    part.at_most(
        "momenta",
        "p_θ of the four paths, farthest from 0.0065, 0.0094, 0.0073, 0.0008",
        off,
        5e-5,
        "digits",
        source=INDEPENDENT,
    )
    radii = [float(path[:, 0].min()) for path, _ in found.values()]
    off = largest_difference(radii, CLOSEST)
    title = "Their smallest radii, farthest from 1.72, 1.39, 0.84, 0.11"
    part.at_most("through", title, off, 0.0051, "half of the last digit and 1e-4: 0.0051", source=INDEPENDENT)
    off = largest_difference([published(angle, coded)[1] for angle in ANGLES.values()], CODED)
    title = "S of the source's code with its offsets, farthest from 0.268296, 0.274860, 0.281744, 0.284588"
    part.at_most("coded", title, off, 1e-6, "digits", source=INDEPENDENT)
    actions = [S for _, S in found.values()]
    title = "S of the four, largest share of what gradient descent had reached"
    shares = [S / printed for S, printed in zip(actions, PRINTED, strict=True)]
    part.at_most("descent", title, largest(shares), 0.5, "less than half", source="its figure 2")
    values = [float(p.mean()) for p in momenta.values()]
    angles = list(ANGLES.values())
    circle = torch.linspace(0, 2 * math.pi, 201, dtype=torch.float64)
    ring = RING.radius * torch.stack([circle.cos(), circle.sin()], 1)
    paths = {f"θ = {name}": in_plane(path) for name, (path, _) in found.items()}
    box = box_around(2 * ring, *paths.values())  # with room for labels
    flow = field(Dynamics(lambda x, t: RING.score(x, torch.ones_like(t)), 1.0), box)
    shown = plane("over the score at t = 1", paths, box, flow)
    shown = Panel(
        shown.title,
        "x",
        "y",
        (*shown.marks, line(ring[:, 0], ring[:, 1], "ring", style="dotted")),
        x_range=shown.x_range,
        y_range=shown.y_range,
        equal_scales=True,
    )
    charge = tuple(line(LEVELS[:-1], p, f"θ = {name}") for name, p in momenta.items())
    part.chart(
        "Paths cut through the ring",
        shown,
        Panel("angular momentum", "t", "p_θ", charge, x_log=True, y_range=(0, 0.012)),
        panel("over the end", "θ", "p_θ", line(angles, values)),
        how_to_read="Paths come from noise at the top and pass through the middle of the ring while noise is wide. p_θ "
        f"is constant to {drift:.0e}. Over the angle of the end p_θ is not monotone: it has its largest "
        "value at 0 and nearly vanishes at −π/2, where the path goes through the center.",
    )
    listed = ", ".join(f"{S:.4f} ({printed:.3f})" for S, printed in zip(actions, PRINTED, strict=True))
    return (
        f"No: they cut through it, within {min(radii):.2f} of the center. Their actions, and in brackets those that "
        f"gradient descent had reached: {listed}. The semicircles that it shows are where it stopped."
    )


def three_paths(nodes: int) -> dict[str, tuple[Float[Tensor, "nodes 2"], float]]:
    """Paths to π/4 on the midpoint rule, in t for the code's density and in u = (T^2 - t^2) / 2 for the others."""
    t = torch.logspace(1.5, -0.4, nodes, dtype=torch.float64)
    u = (t[0] ** 2 - t**2) / 2
    end = on_ring(ANGLES["π/4"])
    rising = t.flip(0)
    path, S = least_of_density(cartesian, straight(end[None], TOP[None], rising), rising)
    found = {"code": (path[0].flip(0), float(S))}
    reverse = Dynamics(lambda x, at: 2 * RING.score(x, (t[0] ** 2 - 2 * at).sqrt()), 1.0)
    for name, functional in (("FW", "FW"), ("OM", "OM")):
        run = least_action(reverse, TOP, end, u, functional)  # pyright: ignore
        found[name] = run.states[0], float(run.action)
    return found


@EXPERIMENT.part("Does it matter which functional is minimized?")
def functionals(part: Part) -> str:
    """Three densities, three paths."""
    found, coarser = three_paths(REFINED), three_paths((REFINED + 1) // 2)
    change = max(float((found[name][0][::2] - coarser[name][0]).norm(dim=1).max()) for name in found)
    names = list(found)
    distances = [
        float((found[one][0] - found[other][0]).norm(dim=1).max())
        for k, one in enumerate(names)
        for other in names[k + 1 :]
    ]
    part.at_least(
        "three", "Smallest distance between the paths of two functionals", min(distances), 0.5, "a tenth of R"
    )
    S = found["FW"][1]
    part.equals("FW", "S of Freidlin and Wentzell, θ = π/4", S, 0.1805, 1e-4, "digits of 0.1805", source=INDEPENDENT)
    t = torch.logspace(1.5, -0.4, REFINED, dtype=torch.float64)
    radii = tuple(line(t, path.norm(dim=1), name) for name, (path, _) in found.items())
    paths = {name: path for name, (path, _) in found.items()}
    part.chart(
        "Three functionals, three paths",
        plane("θ = π/4", paths, box_around(*paths.values())),
        Panel("radius", "t", "r", radii, x_log=True),
        how_to_read="The code's density drops x′·s; that of Freidlin and Wentzell keeps it, and that of Onsager and "
        "Machlup has the divergence, and a straight path. When intervals are halved no path moves by more than "
        f"{change:.0e}.",
    )
    return (
        f"Yes: the three paths are at least {min(distances):.1f} apart. Only that of the full functional, which is "
        "straight, is the most likely one at this noise."
    )
