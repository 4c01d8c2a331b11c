r"""The most likely path from one state to another in a given time, with a certificate.

The action is minimized on the nodes by damped Newton (`newton`), from several initial paths if they are given, and once
more on the mesh with every interval halved. The midpoint rule is of second order, so that the change from N to 2N is
three quarters of the error of N, and

.. math::  S \approx S_{2N} - \tfrac13 (S_N - S_{2N}) .

A path is returned only if it is stationary to 1e-10 of its momenta on both meshes; whether it is a minimum, and not a
saddle, is told by a Cholesky factorization of its Hessian.

Source: the direct method for the action of Vastola 2024, https://arxiv.org/abs/2504.09761, who descends by gradients.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from diffuscope.errors import InputError

from .constrained import Multipliers, constrained_newton
from .discrete_action import LEFT, MIDPOINT, Mesh, Nodes, at_edges
from .dynamics import Dynamics, require_regular
from .lagrangian import ActionDensity, Functional, Lagrangian
from .newton import Stationary, newton


@dataclass(frozen=True, eq=False)
class Certificate:
    """What is known of each path's accuracy.

    `residual` of its gradient, `action_change` and `path_change` when N doubles, the `extrapolated` action, of which
    the leading error is removed, and whether it is a `minimum` and no saddle.

    >>> import torch
    >>> from diffuscope.theory.paths import Dynamics, least_action
    >>> spring, times = Dynamics(lambda x: -x, 0.5), torch.linspace(0, torch.tensor(2.0).log(), 21)
    >>> proof = least_action(spring, torch.tensor([2.0]), torch.tensor([3.0]), times).certificate
    >>> round(float(proof.extrapolated), 5), bool(proof.minimum)  # 16 / 3, as in `least_action`
    (5.33333, True)
    >>> bool(proof.residual < 1e-10), bool(proof.action_change > (proof.extrapolated - 16 / 3).abs())
    (True, True)
    """

    residual: Float[Tensor, " paths"]
    action_change: Float[Tensor, " paths"]
    path_change: Float[Tensor, " paths"]
    extrapolated: Float[Tensor, " paths"]
    minimum: Bool[Tensor, " paths"]
    iterations: int


@dataclass(frozen=True, eq=False)
class LeastAction:
    """Paths on the nodes `times`, their actions, momenta and energies, and the certificate.

    `momenta` and `energy` are at the midpoints of edges; `node_momenta`, at the interior nodes, are the derivative of
    the action by the state there, which the midpoint rule conserves exactly for symmetries that are linear in x.

    >>> import torch
    >>> from diffuscope.theory.paths import Dynamics, least_action
    >>> wind = Dynamics(lambda x: 0.5 + 0 * x, 0.25)
    >>> found = least_action(wind, torch.tensor([1.0]), torch.tensor([5.0]), torch.tensor([0.0, 0.5, 2.0]))
    >>> [round(x, 6) for x in found.states.flatten().tolist()], round(float(found.action), 6)  # 1.5^2 x 2
    ([1.0, 2.0, 5.0], 4.5)
    >>> round(float(found.momenta[0, 0]), 6), round(float(found.energy[0, 0]), 6)  # (2 - 0.5) / (2 x 0.25), 2 p - 2.25
    (3.0, 3.75)
    """

    times: Mesh
    states: Nodes
    action: Float[Tensor, " paths"]
    momenta: Float[Tensor, "paths edges d"]
    node_momenta: Float[Tensor, "paths inner d"]
    energy: Float[Tensor, "paths edges"]
    certificate: Certificate

    @property
    def edge_times(self) -> Float[Tensor, " edges"]:
        """The midpoints, where momenta and energies are."""
        return (self.times[1:] + self.times[:-1]) / 2


def least_action(
    dynamics: Dynamics,
    start: Float[Tensor, "..."],
    end: Float[Tensor, "..."],
    times: Float[Tensor, "..."],
    functional: Functional = "FW",
    *,
    initial: Float[Tensor, "..."] | None = None,
) -> LeastAction:
    """The path of least action from `start` to `end` on the nodes `times`, one for each of a batch of ends.

    `start` and `end` are (d,), or (paths, d) for a batch. `initial` are paths to begin with, (starts, nodes, d), of
    which the best result is kept, and with a batch of ends one for each; by default the straight line. Raises
    InputError for ends of other shapes or outside the domain, times that do not increase, a drift that autograd cannot
    differentiate, and where no stationary path is found, with the residual that is left.

    >>> import torch
    >>> from diffuscope.theory.paths import Dynamics, least_action
    >>> spring, times = Dynamics(lambda x: -x, 0.5), torch.linspace(0, torch.tensor(2.0).log(), 41)
    >>> found = least_action(spring, torch.tensor([2.0]), torch.tensor([3.0]), times)
    >>> round(float(found.action), 3)  # (3 - 2 exp(-T))^2 / (2 x 0.5 (1 - exp(-2 T))) = 16 / 3
    5.333
    >>> x = (4 * times.exp() + 2 * (-times).exp()) / 3
    >>> bool((found.states[0, :, 0] - x).abs().max() < 1e-4)
    True
    """
    a, b = checked_ends(dynamics, start, end)
    times = checked_mesh(times)
    several = start.ndim == 1 and initial is not None
    x = straight(a, b, times) if initial is None else _initial(initial, a, b, times)
    if several:
        a, b = a.expand(len(x), -1), b.expand(len(x), -1)
    require_regular(dynamics, x.flatten(0, 1), times.repeat(len(x)))
    density = Lagrangian(dynamics, functional)
    found, multipliers = constrained_newton(density, x, times)
    if several:
        found, multipliers = _best(found, multipliers)
    _require_stationary(found, len(times) - 1)
    doubled = halved_mesh(times)
    finer, _ = constrained_newton(density, on_halved_mesh(found.x), doubled, multipliers.on_halved_mesh())
    _require_stationary(finer, len(doubled) - 1)
    momenta, node_momenta, energy = _momenta(density, found.x, times, multipliers)
    certificate = Certificate(
        residual=torch.maximum(found.residual, finer.residual),
        action_change=(found.action - finer.action).abs(),
        path_change=(found.x - finer.x[:, ::2]).norm(dim=2).amax(1),
        extrapolated=finer.action - (found.action - finer.action) / 3,
        minimum=found.minimum,
        iterations=found.iterations,
    )
    return LeastAction(times, found.x, found.action, momenta, node_momenta, energy, certificate)


def least_of_density(
    density: ActionDensity, initial: Nodes, times: Mesh, *, left: bool = False
) -> tuple[Nodes, Float[Tensor, " paths"]]:
    """Stationary paths of any action density from `initial` ones, and their actions; by the left-point rule if asked.

    For densities that are not of a `Dynamics`, and for numbers that were published with the rule of first order.

    >>> import torch
    >>> from diffuscope.theory.paths import least_of_density, straight
    >>> times = torch.linspace(0, torch.tensor(2.0).log(), 41)
    >>> line = straight(torch.tensor([[0.0]]), torch.tensor([[2.0]]), times)
    >>> x, S = least_of_density(lambda x, v, t: (v.square() + x.square()).sum(1) / 2, line, times)
    >>> round(float(S), 3), round(float(x[0, 20, 0]), 3)  # 2^2 coth(T) / 2 = 10 / 3, and 2 sinh(T / 2) / sinh(T)
    (3.333, 0.943)
    """
    found = newton(density, initial.detach().double(), checked_mesh(times), LEFT if left else MIDPOINT)
    _require_stationary(found, len(times) - 1)
    return found.x, found.action


def straight(start: Float[Tensor, "paths d"], end: Float[Tensor, "paths d"], times: Mesh) -> Nodes:
    """Straight lines at constant speed.

    >>> import torch
    >>> from diffuscope.theory.paths import straight
    >>> straight(torch.tensor([[1.0]]), torch.tensor([[5.0]]), torch.tensor([10.0, 11.0, 14.0])).flatten().tolist()
    [1.0, 2.0, 5.0]
    """
    share = ((times - times[0]) / (times[-1] - times[0]))[:, None]
    return start[:, None] + share * (end - start)[:, None]


def halved_mesh(times: Mesh) -> Float[Tensor, " finer"]:
    """Every interval halved."""
    middle = (times[1:] + times[:-1]) / 2
    return torch.cat([torch.stack([times[:-1], middle], 1).reshape(-1), times[-1:]])


def on_halved_mesh(x: Nodes) -> Float[Tensor, "paths finer d"]:
    """The nodes with the middles of their chords between them."""
    middle = (x[:, 1:] + x[:, :-1]) / 2
    between = torch.stack([x[:, :-1], middle], 2).flatten(1, 2)
    return torch.cat([between, x[:, -1:]], 1)


def _momenta(density: Lagrangian, x: Nodes, times: Mesh, multipliers: Multipliers) -> tuple[Tensor, Tensor, Tensor]:
    """p and E = p v - L at the edges, p at interior nodes; in silent directions p is the multiplier."""
    state, velocity, at = at_edges(x, times, MIDPOINT)
    paths, edges, d = state.shape
    flat, v = state.reshape(-1, d).requires_grad_(), velocity.reshape(-1, d).requires_grad_()
    t = at.repeat(paths)
    L = density(flat, v, t)
    silent = multipliers.momenta.reshape(-1, d)
    whole = L + (silent * (v - density.dynamics.drift_at(flat, t))).sum(1)
    (force,) = torch.autograd.grad(whole.sum(), flat, materialize_grads=True, allow_unused=True)
    p = (density.momentum(flat, v, t).detach() + silent).reshape(paths, edges, d)
    at_nodes = p + times.diff()[:, None] / 2 * force.reshape(paths, edges, d)
    return p, at_nodes[:, :-1], (p * velocity).sum(2) - L.detach().reshape(paths, edges)


def checked_ends(dynamics: Dynamics, start: Tensor, end: Tensor) -> tuple[Tensor, Tensor]:
    """Both ends as (paths, d) in float64; InputError for other shapes, NaN, and states outside the domain."""
    if not isinstance(dynamics, Dynamics):
        raise InputError(f"dynamics: expected Dynamics(drift, diffusion), got a {type(dynamics).__name__}")
    for name, given in (("start", start), ("end", end)):
        if not isinstance(given, Tensor) or given.is_complex() or given.numel() == 0:
            got = tuple(given.shape) if isinstance(given, Tensor) else type(given).__name__
            raise InputError(f"{name}: expected a tensor of real numbers, (d,) or (paths, d), got {got}")
    if start.shape != end.shape or start.ndim not in (1, 2):
        raise InputError(
            f"end: expected the shape of start, (d,) or (paths, d), got {tuple(end.shape)} with a start of "
            f"{tuple(start.shape)}"
        )
    a, b = (each.detach().double().reshape(-1, start.shape[-1]) for each in (start, end))
    for name, states in (("start", a), ("end", b)):
        if not bool(torch.isfinite(states).all()):
            raise InputError(f"{name}: expected finite numbers, got NaN or infinity")
        outside = ~dynamics.inside(states)
        if bool(outside.any()):
            row = states[outside][0].tolist()
            raise InputError(f"{name}: expected a state in the domain, got {row}, which lies outside")
    return a, b


def checked_mesh(times: Tensor) -> Mesh:
    """Times in float64; InputError for fewer than three, and for times that do not increase or are not finite."""
    times = times.detach().double()
    if times.ndim != 1 or len(times) < 3:
        raise InputError(f"times: expected at least three increasing times, got shape {tuple(times.shape)}")
    steps = times.diff()
    if not bool((steps > 0).all()):  # NaN too
        at = int((~(steps > 0)).nonzero()[0])
        raise InputError(f"times: expected increasing times, got {float(times[at])} before {float(times[at + 1])}")
    if not bool(torch.isfinite(times).all()):
        raise InputError("times: expected finite times, got infinity")
    return times


def _initial(initial: Tensor, a: Tensor, b: Tensor, times: Mesh) -> Nodes:
    x = initial.detach().double()
    if x.ndim != 3 or x.shape[1:] != (len(times), a.shape[1]) or (len(a) > 1 and len(x) != len(a)):
        count = len(a) if len(a) > 1 else "paths"
        raise InputError(f"initial: expected shape ({count}, {len(times)}, {a.shape[1]}), got {tuple(initial.shape)}")
    if not bool(torch.isfinite(x).all()):
        raise InputError("initial: expected finite numbers, got NaN or infinity")
    return torch.cat([a.expand(len(x), -1)[:, None], x[:, 1:-1], b.expand(len(x), -1)[:, None]], 1)


def _best(found: Stationary, multipliers: Multipliers) -> tuple[Stationary, Multipliers]:
    """The stationary path of least action; the one of least residual where none is stationary."""
    ranked = torch.where(found.converged, found.action, torch.inf)
    best = int(ranked.argmin()) if bool(found.converged.any()) else int(found.residual.argmin())
    kept = slice(best, best + 1)
    single = Stationary(found.x[kept], found.action[kept], found.residual[kept], found.minimum[kept], found.iterations)
    return single, multipliers.of(kept)


def _require_stationary(found: Stationary, edges: int) -> None:
    if bool(found.converged.all()):
        return
    worst = int(found.residual.argmax())
    raise InputError(
        f"times: no stationary path on {edges} intervals: after {found.iterations} iterations the gradient of path "
        f"{worst} is {float(found.residual[worst]):.2g} of its momenta, expected 1e-10; try more times, an initial "
        "path near a solution, or steps toward the stiff case"
    )
