r"""One question, answered whole: the most likely path between two states, how sure it is, and what it conserves.

The action is minimized from the straight line and from bends to its sides, since a straight start can end in a saddle;
the least minimum is kept. Where equal times do not resolve it they are adapted to it (`adapted_mesh`). Symmetries are
looked for at random points around it, and the charge of each is followed along it. In place of a duration that is None
the path may take any time: a curve of energy zero, which may pass fixed points with a corner (`through_fixed_points`).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from diffuscope.checked_numbers import require_count, require_positive
from diffuscope.errors import InputError

from .adapted_mesh import energy_departure, on_adapted_mesh
from .curve_path import curve_path
from .dynamics import Dynamics, States
from .lagrangian import Functional, Lagrangian
from .least_action import LeastAction, checked_ends, least_action, straight
from .symmetry import HOLDS, FoundSymmetry, find_symmetries, scaling, standard, time_shift, translation
from .through_fixed_points import least_curve

BENT = 0.3  # height of a bend over the distance of the ends
SIDES = 2  # directions that a straight start is bent to, both ways
ROTATED = 10  # dimensions above which rotations are not tried
AROUND = 0.5  # distance of random points from the path, of its size
RESOLVED, NEGLIGIBLE = 0.01, 1e-6  # change of the action under doubling: its share, or in nats
CONSTANT = 0.02  # variation of the energy, where it is conserved, over its terms


@dataclass(frozen=True, eq=False)
class Conserved:
    """A symmetry and its charge at the interior nodes; `departure` from the mean is of the size of the terms of Q.

    >>> import math, torch
    >>> from diffuscope.theory.paths import Dynamics, most_likely_path
    >>> spring = Dynamics(lambda x: -x, 0.5)  # x = (4 e^t + 2 e^-t) / 3
    >>> energy, = most_likely_path(spring, torch.tensor([2.0]), torch.tensor([3.0]), math.log(2), nodes=41).conserved
    >>> energy.name, round(energy.mean, 3)  # (v^2 - x^2) / (4 x 0.5) = -16 / 9
    ('time', -1.778)
    """

    symmetry: FoundSymmetry
    charge: Float[Tensor, " inner"]
    departure: float

    @property
    def name(self) -> str:
        """The transformation."""
        parts = self.symmetry.coefficients.items()
        if len(parts) == 1:
            return next(iter(self.symmetry.coefficients))
        return " + ".join(f"{weight:.4g} {name}" for name, weight in parts).replace("+ -", "- ")

    @property
    def mean(self) -> float:
        """The charge, averaged over the path."""
        return float(self.charge.mean())


@dataclass(frozen=True, eq=False)
class MostLikelyPath:
    """The path with its dynamics, how many starts were tried and `ended`, and its symmetries (None: cannot be told).

    >>> import math, torch
    >>> from diffuscope.theory.paths import Dynamics, most_likely_path
    >>> spring = Dynamics(lambda x: -x, 0.5)
    >>> found = most_likely_path(spring, torch.tensor([2.0]), torch.tensor([3.0]), math.log(2), nodes=41)
    >>> found.resolved, found.minimum, abs(found.action - 16 / 3) < found.error
    (True, True, True)
    """

    dynamics: Dynamics
    functional: Functional
    duration: float | int | None
    path: LeastAction
    starts: int
    ended: int
    conserved: tuple[Conserved, ...] | None

    @property
    def states(self) -> Float[Tensor, "nodes d"]:
        """The path."""
        return self.path.states[0]

    @property
    def action(self) -> float:
        """The action, of which the leading error is removed."""
        return float(self.path.certificate.extrapolated)

    @property
    def error(self) -> float:
        """What was removed, as the bound of what is left, and the rounding of a sum over the nodes."""
        rounding = len(self.states) * torch.finfo(self.states.dtype).eps * abs(self.action)
        return abs(float(self.path.action) - self.action) + rounding

    @property
    def resolved(self) -> bool:
        """Whether doubling the nodes hardly changes the action, and the energy is constant where it is conserved."""
        return _resolved(self.dynamics, self.path, self.duration)

    @property
    def minimum(self) -> bool:
        """Whether the path is a minimum and no saddle."""
        return bool(self.path.certificate.minimum)

    @property
    def energy_departure(self) -> float:
        """max |E - mean E| along the path over the largest of its terms."""
        if self.duration is not None:
            return energy_departure(self.path)
        E = self.path.energy[0]
        return float((E - E.mean()).abs().max() / E.abs().max().clamp(min=torch.finfo(E.dtype).tiny))


def most_likely_path(
    dynamics: Dynamics,
    start: Float[Tensor, " d"],
    end: Float[Tensor, " d"],
    duration: float | int | None,
    nodes: int = 201,
    functional: Functional = "FW",
) -> MostLikelyPath:
    """The path of least action from `start` to `end` in `duration`, or in any time if None, with its symmetries.

    Raises InputError as `least_action` and `geometric_action` do, for a duration that is not positive, fewer than three
    nodes, "OM" without a duration, and a path that leaves the domain.

    >>> import math, torch
    >>> from diffuscope.theory.paths import Dynamics, most_likely_path
    >>> spring = Dynamics(lambda x: -x, 0.5)
    >>> found = most_likely_path(spring, torch.tensor([2.0]), torch.tensor([3.0]), math.log(2), nodes=41)
    >>> round(found.action, 5)  # (3 - 2 exp(-T))^2 / (2 x 0.5 (1 - exp(-2 T))) = 16 / 3
    5.33333
    """
    require_count("nodes", nodes, 3)
    if duration is not None:
        require_positive(duration=duration)
    if duration is None and functional == "OM":
        raise InputError("functional: expected 'FW' where the duration is free, got 'OM'")
    density = Lagrangian(dynamics, functional)
    a, b = checked_ends(dynamics, start, end)
    if duration is None and torch.equal(a, b):
        raise InputError("end: expected another state than start where the duration is free, got the same")
    times = torch.linspace(0, duration or 1.0, nodes, dtype=torch.float64)
    shapes = starts(dynamics, a, b, times)

    if duration is None:
        least = least_curve(dynamics, a[0], b[0], shapes, nodes - 1)
        best, ended = curve_path(dynamics, least.found), least.ended
    else:
        best, ended = _of_duration(dynamics, a[0], b[0], shapes, times, functional)
    outside = ~dynamics.inside(best.states[0])
    if bool(outside.any()):
        raise InputError(
            "end: the path of least action leaves the domain, at the state "
            f"{[round(x, 6) for x in best.states[0][outside][0].tolist()]}; expected ends with a path within it"
        )
    symmetries = conserved(density, best, duration)
    return MostLikelyPath(dynamics, functional, duration, best, len(shapes), ended, symmetries)


def _of_duration(
    dynamics: Dynamics,
    a: Tensor,
    b: Tensor,
    shapes: list[Tensor],
    times: Float[Tensor, " nodes"],
    functional: Functional,
) -> tuple[LeastAction, int]:
    """The least minimum from all shapes, on times adapted to it where it is not resolved; how many ended."""
    duration = float(times[-1])
    found: list[LeastAction] = []
    failures: list[InputError] = []
    for shape in shapes:
        try:
            found.append(least_action(dynamics, a, b, times, functional, initial=shape[None]))
        except InputError as error:  # a bend may leave the domain of the drift, or a straight line meet a singularity
            failures.append(error)
    best = min(found, key=lambda path: (not bool(path.certificate.minimum), float(path.certificate.extrapolated)),
               default=None)  # fmt: skip
    if best is not None and _resolved(dynamics, best, duration):
        return best, len(found)
    if best is None and not str(failures[0]).startswith("times:"):  # the drift is at fault, not the mesh
        raise failures[0]
    adapted: list[LeastAction] = [] if best is None else [best]
    for begin in dict.fromkeys([best, None]):
        try:
            adapted.append(on_adapted_mesh(dynamics, a, b, times, functional, begin=begin))
        except InputError as error:
            failures.append(error)
        else:
            if _resolved(dynamics, adapted[-1], duration):
                return adapted[-1], len(found)
    if not adapted:
        raise failures[0]
    return min(adapted, key=_variation), len(found)


def _variation(path: LeastAction) -> float:
    return float(path.certificate.action_change / path.certificate.extrapolated.abs()) + energy_departure(path)


def _resolved(dynamics: Dynamics, path: LeastAction, duration: float | int | None) -> bool:
    change = float(path.certificate.action_change)
    if change <= NEGLIGIBLE:
        return True
    constant = duration is None or not dynamics.autonomous or energy_departure(path) <= CONSTANT
    return constant and change <= RESOLVED * abs(float(path.certificate.extrapolated))


def starts(
    dynamics: Dynamics, a: Float[Tensor, "1 d"], b: Float[Tensor, "1 d"], times: Float[Tensor, " nodes"]
) -> list[Float[Tensor, "nodes d"]]:
    """The straight line, and bends of it to both sides along a few normals where all directions have noise."""
    line, way = straight(a, b, times)[0], (b - a)[0]
    if dynamics.silent(len(way)).shape[1] or not bool(way.any()):
        return [line]
    frame, _ = torch.linalg.qr(way[:, None], mode="complete")
    bump = torch.sin(torch.pi * (times - times[0]) / (times[-1] - times[0]))[:, None]
    bends = [sign * BENT * way.norm() * normal for normal in frame.T[1 : 1 + SIDES] for sign in (1, -1)]
    return [line, *(line + bump * bend for bend in bends)]


def conserved(density: Lagrangian, path: LeastAction, duration: float | int | None) -> tuple[Conserved, ...] | None:
    """Symmetries that hold at random points around the path, with their charges along it.

    None where they cannot be told: a direction without noise, whose constraint the density does not have, or too few
    points where drift and diffusion are defined.
    """
    d, dynamics = path.states.shape[2], density.dynamics
    if dynamics.silent(d).shape[1]:
        return None
    axes = [translation(torch.eye(d)[k], f"translation {k}") for k in range(d)]
    candidates = standard(d) if d <= ROTATED else [*axes, scaling(), time_shift()]
    x, v, t = points_around(dynamics, path, 8 * len(candidates) + 32, duration)
    if len(x) < 2 * len(candidates):
        return None
    found = find_symmetries(density, x, v, t, candidates)
    return tuple(Conserved(each, *_charge(each, path)) for each in found if each.violation <= HOLDS)  # NaN does not


def points_around(
    dynamics: Dynamics, path: LeastAction, count: int, duration: float | int | None
) -> tuple[States, States, Float[Tensor, " n"]]:
    """Random states around the path, velocities and times: of `count`, those where drift and diffusion are defined."""
    generator = torch.Generator().manual_seed(0)
    x = path.states[0]
    n, d = x.shape

    def normal() -> Tensor:
        return torch.randn(count, d, dtype=torch.float64, generator=generator)

    size = float((x - x.mean(0)).norm(dim=1).max()) / d**0.5 or 1.0
    states = x[torch.randint(n, (count,), generator=generator)] + AROUND * size * normal()
    t = (duration or 0.0) * torch.rand(count, dtype=torch.float64, generator=generator)
    f = dynamics.drift_at(states, t).detach()
    scale = max(float(torch.nan_to_num(f).norm(dim=1).median()), size / (duration or 1.0), 1e-3 * size)
    v = scale * normal()
    kept = _defined(dynamics, states, f, t)
    return states[kept], v[kept], t[kept]


def _defined(dynamics: Dynamics, x: States, f: States, t: Float[Tensor, " n"]) -> Bool[Tensor, " n"]:
    D = dynamics.precision_at(x, t)
    return dynamics.inside(x) & torch.isfinite(f).all(1) & torch.isfinite(D).all((1, 2))


def _charge(found: FoundSymmetry, path: LeastAction) -> tuple[Float[Tensor, " inner"], float]:
    """Q, and max |Q - mean Q| over the largest sum of the absolute values of its terms."""
    Q = found.symmetry.charge(path)[0]
    x, p, t = path.states[0, 1:-1], path.node_momenta[0], path.times[1:-1]
    size = torch.zeros_like(Q)
    if found.symmetry.xi is not None:
        size = size + (p * found.symmetry.xi(x, t)).abs().sum(1)
    if found.symmetry.tau is not None:
        size = size + path.energy[0].abs().max() * found.symmetry.tau(x, t).abs()
    least = torch.finfo(Q.dtype).tiny
    return Q, float((Q - Q.mean()).abs().max() / size.max().clamp(min=least))
