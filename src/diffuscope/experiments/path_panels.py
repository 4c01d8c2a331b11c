"""Figures of most likely paths: paths over the field of the drift, and what is conserved along them.

A field has 12 arrows along each axis.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.findings import Arrows, Panel, arrows, line, points
from diffuscope.theory.paths import Dynamics

Box = tuple[float, float, float, float]
SPACING = 12  # arrows per axis; even: at the middle of its box the score of a ring is 0/0


def box_around(*paths: Float[Tensor, "_ 2"]) -> Box:
    """The box (left, right, bottom, top) around all paths and a tenth of its longer side, above three for labels."""
    places = torch.cat(paths)
    low, high = places.amin(0), places.amax(0)
    beyond = 0.1 * (high - low).max()
    (left, bottom), (right, top) = (low - beyond).tolist(), (high + beyond).tolist()
    return left, right, bottom, top + 2 * float(beyond)


def field(dynamics: Dynamics, box: Box) -> Arrows:
    """The drift at time 0 on a lattice over the box (left, right, bottom, top), the longest as long as the spacing."""
    left, right, bottom, top = box
    across, up = (torch.linspace(a, b, SPACING, dtype=torch.float64) for a, b in ((left, right), (bottom, top)))
    x = torch.cartesian_prod(across, up)
    f = dynamics.drift_at(x, torch.zeros(len(x), dtype=torch.float64)).detach()
    f = f * float(across[1] - across[0]) / float(f.norm(dim=1).max())
    return arrows(x[:, 0], x[:, 1], f[:, 0], f[:, 1])


def plane(
    title: str, paths: Mapping[str, Float[Tensor, "nodes 2"]], box: Box, *marks: Arrows, dotted: tuple[str, ...] = ()
) -> Panel:
    """Paths in the plane over other marks, with their two ends; those named in `dotted` are references."""
    curves = [
        line(path[:, 0], path[:, 1], name, style="dotted" if name in dotted else "solid")
        for name, path in paths.items()
    ]
    ends = torch.cat([path[[0, -1]] for path in paths.values()]).unique(dim=0)
    shown = (*marks, *curves, points(ends[:, 0], ends[:, 1]))
    return Panel(title, "x", "y", shown, x_range=box[:2], y_range=box[2:], equal_scales=True)


def along(
    title: str, quantity: str, series: Mapping[str, tuple[Tensor, Tensor]], dotted: tuple[str, ...] = ()
) -> Panel:
    """A quantity over time along several paths: (times, values) by name."""
    curves = [line(t, q, name, style="dotted" if name in dotted else "solid") for name, (t, q) in series.items()]
    return Panel(title, "t", quantity, tuple(curves))
