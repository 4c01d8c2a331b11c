r"""Symmetries of noisy dynamics, and what the most likely paths conserve by them.

A transformation :math:`x \to x + \epsilon\xi,\ t \to t + \epsilon\tau` is a symmetry of the action up to the gauge
:math:`\Lambda` if for all states, velocities and times

.. math::
    \xi\cdot\partial_x L + (\dot\xi - \dot\tau v)\cdot\partial_v L + \tau\,\partial_t L + \dot\tau L - \dot\Lambda = 0,
    \qquad \dot{}\; = \partial_t + v\cdot\nabla ,

and then every path of least action conserves its *charge*

.. math::  Q = p\cdot\xi - E\,\tau - \Lambda, \qquad p = \partial_v L, \quad E = p\cdot v - L .

A translation gives a momentum, a rotation an angular momentum, a shift of time the energy. The left-hand side is linear
in :math:`(\xi, \tau)`, so that the symmetries among combinations of candidates are the null space of its values at
random points.

Source: Vastola 2024, *Noether's theorem for most likely paths*, https://arxiv.org/abs/2504.09761.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.errors import InputError

from .discrete_action import MIDPOINT, Mesh, at_edges
from .dynamics import States, Times
from .lagrangian import ActionDensity
from .least_action import LeastAction

Field = Callable[[Tensor, Tensor], Tensor]
HOLDS = 1e-8  # of the size of the terms: what rounding leaves of an exact symmetry


@dataclass(frozen=True)
class Symmetry:
    """`xi` (x, t) of shape (n, d), `tau` and `gauge` of (x, t), of shape (n,); those that are None are zero.

    >>> import torch
    >>> from diffuscope.theory.paths import Dynamics, Symmetry, least_action
    >>> wind = Dynamics(lambda x: 0.5 + 0 * x, 0.25)
    >>> path = least_action(wind, torch.tensor([1.0]), torch.tensor([5.0]), torch.linspace(0, 2, 5))  # p = 3, E = 3.75
    >>> both = Symmetry("moving frame", xi=lambda x, t: 2 + 0 * x, tau=lambda x, t: 4 + 0 * t)
    >>> [round(Q, 6) for Q in both.charge(path)[0].tolist()]  # 2 p - 4 E
    [-9.0, -9.0, -9.0]
    """

    name: str
    xi: Field | None = None
    tau: Field | None = None
    gauge: Field | None = None

    def charge(self, path: LeastAction) -> Float[Tensor, "paths inner"]:
        """Q at the interior nodes of a path of least action; the energy is the mean of the two edges there."""
        x = path.states[:, 1:-1]
        paths, inner, d = x.shape
        flat, at = x.reshape(-1, d), path.times[1:-1].repeat(paths)
        E = (path.energy[:, 1:] + path.energy[:, :-1]) / 2
        Q = (path.node_momenta.reshape(-1, d) * _value(self.xi, flat, at, d)).sum(1)
        Q = Q - E.reshape(-1) * _value(self.tau, flat, at) - _value(self.gauge, flat, at)
        return Q.reshape(paths, inner)

    def drift(self, path: LeastAction) -> Float[Tensor, " paths"]:
        """max |Q - mean Q| / max |Q| along every path."""
        Q = self.charge(path)
        largest = Q.abs().amax(1).clamp(min=torch.finfo(Q.dtype).tiny)
        return (Q - Q.mean(1, keepdim=True)).abs().amax(1) / largest


def translation(direction: Sequence[float] | Tensor, name: str = "translation") -> Symmetry:
    """x -> x + epsilon a; its charge is the momentum a p.

    >>> import torch
    >>> from diffuscope.theory.paths import Dynamics, least_action, translation
    >>> wind = Dynamics(lambda x: 0.5 + 0 * x, 0.25)
    >>> path = least_action(wind, torch.tensor([1.0]), torch.tensor([5.0]), torch.linspace(0, 2, 5))
    >>> [round(Q, 6) for Q in translation([1.0]).charge(path)[0].tolist()]  # p = (2 - 0.5) / (2 x 0.25)
    [3.0, 3.0, 3.0]
    """
    a = torch.as_tensor(direction, dtype=torch.float64)
    return Symmetry(name, xi=lambda x, _: a.expand_as(x))


def rotation(i: int = 0, j: int = 1) -> Symmetry:
    """Rotation from coordinate i toward j; its charge is x_i p_j - x_j p_i.

    >>> import torch
    >>> from diffuscope.theory.paths import Dynamics, least_action, rotation
    >>> free = Dynamics(lambda x: 0 * x, 0.25)
    >>> path = least_action(free, torch.tensor([2.0, 0.0]), torch.tensor([2.0, 6.0]), torch.linspace(0, 2, 5))
    >>> [round(Q, 6) for Q in rotation(0, 1).charge(path)[0].tolist()]  # x_0 p_1 = 2 x 3 / (2 x 0.25)
    [12.0, 12.0, 12.0]
    """

    def xi(x: Tensor, _: Tensor) -> Tensor:
        turned = torch.zeros_like(x)
        turned[:, j], turned[:, i] = x[:, i], -x[:, j]
        return turned

    return Symmetry(f"rotation {i}{j}", xi=xi)


def time_shift() -> Symmetry:
    """t -> t - epsilon; its charge is the energy.

    >>> import torch
    >>> from diffuscope.theory.paths import Dynamics, least_action, time_shift
    >>> wind = Dynamics(lambda x: 0.5 + 0 * x, 0.25)
    >>> path = least_action(wind, torch.tensor([1.0]), torch.tensor([5.0]), torch.linspace(0, 2, 5))
    >>> [round(Q, 6) for Q in time_shift().charge(path)[0].tolist()]  # p v - L = 3 x 2 - 2.25
    [3.75, 3.75, 3.75]
    """
    return Symmetry("time", tau=lambda _, t: -torch.ones_like(t))


def scaling() -> Symmetry:
    """x -> (1 + epsilon) x; its charge is p x.

    >>> import torch
    >>> from diffuscope.theory.paths import Dynamics, least_action, scaling
    >>> free = Dynamics(lambda x: 0 * x, 0.25)
    >>> path = least_action(free, torch.tensor([1.0]), torch.tensor([5.0]), torch.linspace(0, 2, 5))
    >>> [round(Q, 6) for Q in scaling().charge(path)[0].tolist()]  # p x = 4 x at 2, 3, 4: no symmetry
    [8.0, 12.0, 16.0]
    """
    return Symmetry("scaling", xi=lambda x, _: x)


def variation(
    density: ActionDensity, symmetry: Symmetry, x: States, v: States, t: Times
) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    """The left-hand side at every point, and the sum of the absolute values of its terms.

    >>> import torch
    >>> from diffuscope.theory.paths import Dynamics, Lagrangian, translation, variation
    >>> spring = Lagrangian(Dynamics(lambda x: -x, 0.25))  # L = (v + x)^2
    >>> x, v, t = torch.tensor([[3.0]]), torch.tensor([[-5.0]]), torch.zeros(1)
    >>> total, size = variation(spring, translation([1.0]), x, v, t)
    >>> float(total), float(size)  # dL/dx = 2 (v + x)
    (-4.0, 4.0)
    """
    x, v, t = (each.detach().double().requires_grad_() for each in (x, v, t))
    L = density(x, v, t)
    by_x, by_v, by_t = torch.autograd.grad(L.sum(), (x, v, t), materialize_grads=True, allow_unused=True)
    d = x.shape[1]
    xi, tau = _value(symmetry.xi, x, t, d), _value(symmetry.tau, x, t)
    rate = torch.stack([_along(xi[:, k], x, v, t) for k in range(d)], 1)
    tau_rate = _along(tau, x, v, t)
    gauge_rate = _along(_value(symmetry.gauge, x, t), x, v, t)
    terms = torch.stack(
        [
            *(xi * by_x).T,
            *((rate - tau_rate[:, None] * v) * by_v).T,
            tau * by_t,
            tau_rate * L,
            -gauge_rate,
        ]
    )
    return terms.sum(0).detach(), terms.abs().sum(0).detach()


def violation(density: ActionDensity, symmetry: Symmetry, x: States, v: States, t: Times) -> float:
    """How far the dynamics is from having the symmetry: the root mean square of the variation over that of its terms.

    At most `HOLDS` for a symmetry. Raises InputError for one that moves neither states nor times.

    >>> import torch
    >>> from diffuscope.theory.paths import Dynamics, Lagrangian, rotation, translation, violation
    >>> spring = Lagrangian(Dynamics(lambda x: -x, 0.25))
    >>> x, v, t = torch.tensor([[3.0, 1.0]]), torch.tensor([[-5.0, 2.0]]), torch.zeros(1)
    >>> violation(spring, rotation(), x, v, t) < 1e-12, violation(spring, translation([1.0, 0.0]), x, v, t)
    (True, 1.0)
    """
    if not _moves(symmetry, x, t):
        raise InputError(f"symmetry: {symmetry.name} moves nothing at these points; expected one that does")
    total, size = variation(density, symmetry, x, v, t)
    scale = float(size.square().mean().sqrt())
    return float(total.square().mean().sqrt()) / scale if scale else 0.0  # every term vanishes, as for time


@dataclass(frozen=True, eq=False)
class FoundSymmetry:
    """A combination of candidates that leaves the action unchanged: its coefficients by name, and how far it is off.

    >>> import torch
    >>> from diffuscope.theory.paths import Dynamics, Lagrangian, find_symmetries, translation
    >>> slope = Lagrangian(Dynamics(lambda x: torch.tanh(x[:, :1] + 2 * x[:, 1:]).expand(-1, 2), 0.25))
    >>> x, v = torch.randn(2, 20, 2, generator=torch.Generator().manual_seed(0))
    >>> axes = [translation([1.0, 0.0], "along x"), translation([0.0, 1.0], "along y")]
    >>> found = find_symmetries(slope, x, v, torch.zeros(20), axes)[0].coefficients
    >>> round(found["along x"] / found["along y"], 6)  # x + 2 y stays
    -2.0
    """

    coefficients: dict[str, float]
    violation: float
    symmetry: Symmetry


def find_symmetries(
    density: ActionDensity,
    x: States,
    v: States,
    t: Times,
    candidates: Sequence[Symmetry] | None = None,
    *,
    tolerance: float = HOLDS,
) -> list[FoundSymmetry]:
    """The combinations of `candidates` that hold to `tolerance` at the points given: a basis of the null space.

    The candidates are by default all translations, rotations, the scaling of x and the shift of time. Points should be
    random and more than candidates: a combination that vanishes at a few points is no symmetry. Raises InputError for
    fewer than twice as many points as candidates.

    >>> import torch
    >>> from diffuscope.theory.paths import Dynamics, Lagrangian, find_symmetries
    >>> spring = Lagrangian(Dynamics(lambda x: -x, 0.25))
    >>> x, v = torch.randn(2, 20, 2, generator=torch.Generator().manual_seed(0))
    >>> sorted(each.symmetry.name for each in find_symmetries(spring, x, v, torch.zeros(20)))
    ['1 rotation 01', '1 time']
    """
    d = x.shape[1]
    known = standard(d) if candidates is None else list(candidates)
    if len(x) < 2 * len(known):
        raise InputError(f"x: expected at least {2 * len(known)} points for {len(known)} candidates, got {len(x)}")
    known = [each for each in known if _moves(each, x, t)]
    pairs = [variation(density, each, x, v, t) for each in known]
    values = torch.stack([total for total, _ in pairs], 1)
    sizes = torch.stack([size for _, size in pairs], 1).square().mean(0).sqrt()
    sizes = torch.where(sizes > 0, sizes, 1)
    _, singular, directions = torch.linalg.svd(values / sizes, full_matrices=False)
    hold = singular / len(x) ** 0.5 <= tolerance
    basis = _sparse(directions[hold] / sizes)
    found = []
    for row in basis:
        parts = [(each, float(weight)) for each, weight in zip(known, row, strict=True) if weight]
        symmetry = combined(parts)
        off = violation(density, symmetry, x, v, t)
        found.append(FoundSymmetry({each.name: weight for each, weight in parts}, off, symmetry))
    return found


def standard(d: int) -> list[Symmetry]:
    """Translations, rotations, the scaling of x and the shift of time in d dimensions."""
    axes = [translation(torch.eye(d)[k], f"translation {k}") for k in range(d)]
    turns = [rotation(i, j) for i in range(d) for j in range(i + 1, d)]
    return [*axes, *turns, scaling(), time_shift()]


def combined(parts: Sequence[tuple[Symmetry, float]]) -> Symmetry:
    """A linear combination of symmetries."""

    def total(kind: str, like: Callable[[Tensor, Tensor], Tensor]) -> Field | None:
        fields = [(getattr(each, kind), weight) for each, weight in parts if getattr(each, kind) is not None]
        if not fields:
            return None
        return lambda x, t: sum((weight * field(x, t) for field, weight in fields), like(x, t))

    name = " + ".join(f"{weight:.4g} {each.name}" for each, weight in parts)
    return Symmetry(
        name,
        xi=total("xi", lambda x, _: torch.zeros_like(x)),
        tau=total("tau", lambda _, t: torch.zeros_like(t)),
        gauge=total("gauge", lambda _, t: torch.zeros_like(t)),
    )


def energy_balance(path: LeastAction, density: ActionDensity) -> tuple[Float[Tensor, "paths inner"], Mesh]:
    r"""dE/dt + dL/dt|_{x, v} between neighboring edges, zero to second order on a path of least action, and its times.

    With an explicit time the energy is not conserved, :math:`\dot E = -\partial_t L`.

    >>> import torch
    >>> from diffuscope.theory.paths import Dynamics, Lagrangian, energy_balance, least_action
    >>> wind = Dynamics(lambda x, t: t[:, None] + 0 * x, 0.25)  # p = (5 - T^2 / 2) / (2 x 0.25 T) = 3, and dE/dt = p
    >>> path = least_action(wind, torch.tensor([0.0]), torch.tensor([5.0]), torch.linspace(0, 2, 5))
    >>> off, times = energy_balance(path, Lagrangian(wind))
    >>> [round(rate, 6) for rate in (path.energy.diff() / 0.5)[0].tolist()], bool(off.abs().max() < 1e-9)
    ([3.0, 3.0, 3.0], True)
    """
    x, v, t = at_edges(path.states, path.times, MIDPOINT)
    paths, edges, d = x.shape
    at = t.repeat(paths).requires_grad_()
    flat = x.reshape(-1, d).requires_grad_()
    L = density(flat, v.reshape(-1, d), at)
    (by_t,) = torch.autograd.grad(L.sum(), at, materialize_grads=True, allow_unused=True)
    by_t = by_t.reshape(paths, edges)
    return path.energy.diff(dim=1) / t.diff() + (by_t[:, 1:] + by_t[:, :-1]) / 2, path.times[1:-1]


def _moves(symmetry: Symmetry, x: Tensor, t: Tensor) -> bool:
    return any(field is not None and bool(field(x, t).any()) for field in (symmetry.xi, symmetry.tau))


def _sparse(rows: Float[Tensor, "found candidates"]) -> Float[Tensor, "found candidates"]:
    """The same span in reduced echelon form, so that symmetries that hold by themselves come out by themselves."""
    rows = rows.clone()
    free = torch.ones(rows.shape[1], dtype=torch.bool)
    for k in range(len(rows)):
        i, j = divmod(int((rows[k:].abs() * free).argmax()), rows.shape[1])
        rows[[k, k + i]] = rows[[k + i, k]]
        rows[k] = rows[k] / rows[k, j].clone()
        others = torch.arange(len(rows)) != k
        rows[others] -= rows[others, j, None] * rows[k]
        free[j] = False
    return torch.where(rows.abs() < HOLDS, 0, rows)


def _value(field: Field | None, x: Tensor, t: Tensor, d: int | None = None) -> Tensor:
    if field is None:
        return torch.zeros_like(x) if d else torch.zeros_like(t)
    return field(x, t)


def _along(value: Float[Tensor, " n"], x: Tensor, v: Tensor, t: Tensor) -> Float[Tensor, " n"]:
    """The total derivative along the motion."""
    if not value.requires_grad:
        return torch.zeros_like(t)
    by_x, by_t = torch.autograd.grad(value.sum(), (x, t), retain_graph=True, materialize_grads=True, allow_unused=True)
    return (by_x * v).sum(1) + by_t
