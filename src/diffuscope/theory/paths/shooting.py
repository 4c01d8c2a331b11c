r"""The most likely path by multiple shooting: an independent check of `least_action`.

A stationary path of the action solves Hamilton's equations for

.. math::  H(x, p, t) = p\cdot f + p^T D\,p - \tfrac12\nabla\cdot f \ (\text{OM}), \qquad
           \dot x = \partial_p H, \quad \dot p = -\partial_x H, \qquad
           S = \int p^T D\,p + \tfrac12\nabla\cdot f \ (\text{OM})\; dt .

The interval is cut into segments; the state and momentum at the start of each are the unknowns, and Newton's method
matches the ends of the segments to the next and the last to the end of the path. The equations are integrated by an
adaptive Runge-Kutta method of order 8 with their linearization, all segments at once, so that neither the mesh nor the
midpoint rule of `least_action` enters. Segments are needed because a momentum error grows like the backward drift.

Source: Stoer & Bulirsch, Introduction to Numerical Analysis, 7.3.5; D may be singular, as H does not contain its
inverse.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy.integrate import solve_ivp
from scipy.sparse import block_array, csc_array, csr_array, eye_array
from scipy.sparse.linalg import splu
from torch import Tensor

from diffuscope.checked_numbers import require_count
from diffuscope.errors import InputError

from .dynamics import Dynamics
from .lagrangian import Functional, Lagrangian, divergence
from .least_action import LeastAction

RTOL, ATOL = 1e-11, 1e-12
TOLERANCE = 1e-9  # of the mismatch between segments, relative to the states and momenta
ITERATIONS = 12


@dataclass(frozen=True, eq=False)
class Shot:
    """State and momentum at `times`, the ends of the segments, the action, and the largest mismatch that is left.

    >>> import torch
    >>> from diffuscope.theory.paths import Dynamics, least_action, shoot
    >>> spring, times = Dynamics(lambda x: -x, 0.5), torch.linspace(0, torch.tensor(2.0).double().log(), 11)
    >>> near = least_action(spring, torch.tensor([2.0]), torch.tensor([3.0]), times)
    >>> shot = shoot(spring, near, segments=3)
    >>> round(shot.action, 6), [round(p, 6) for p in shot.momenta[[0, -1], 0].tolist()]  # 8/3 e^t
    (5.333333, [2.666667, 5.333333])
    """

    times: Float[Tensor, " nodes"]
    states: Float[Tensor, "nodes d"]
    momenta: Float[Tensor, "nodes d"]
    action: float
    mismatch: float


def shoot(
    dynamics: Dynamics, near: LeastAction, functional: Functional = "FW", *, segments: int = 20, path: int = 0
) -> Shot:
    """The stationary path near the one numbered `path` of `near`, by multiple shooting from its states and momenta.

    Raises InputError where Newton's method does not match the segments, with the mismatch, and for more segments than
    half the intervals of `near`.

    >>> import torch
    >>> from diffuscope.theory.paths import Dynamics, least_action, shoot
    >>> spring, times = Dynamics(lambda x: -x, 0.5), torch.linspace(0, torch.tensor(2.0).double().log(), 11)
    >>> near = least_action(spring, torch.tensor([2.0]), torch.tensor([3.0]), times, "OM")
    >>> round(shoot(spring, near, "OM", segments=2).action, 6)  # 16 / 3 - T / 2
    4.98676
    """
    Lagrangian(dynamics, functional)  # refuses "OM" for a D that depends on the state
    N = len(near.times) - 1
    require_count("segments", segments, 1)
    if segments > N // 2:
        raise InputError(f"segments: expected 1 to {N // 2} (half the intervals of the path), got {segments}")
    at = torch.linspace(0, N, segments + 1, dtype=torch.float64).round().long()
    times, x = near.times[at], near.states[path, at]
    p = torch.cat([near.momenta[path, :1], near.node_momenta[path, at[1:-1] - 1]])
    start, end, d = x[0], x[-1], x.shape[1]
    z = torch.cat([x[:-1], p], 1)
    scale = torch.cat([x.abs().amax(0), p.abs().amax(0).clamp_min(1e-8)]).clamp_min(1e-8)
    mismatch = np.inf
    for _ in range(ITERATIONS):
        flow = _flow(dynamics, functional, z, times)
        defect = torch.cat([flow.end[:-1] - z[1:], torch.cat([flow.end[-1, :d] - end, z.new_zeros(d)])[None]])
        mismatch = float((defect / scale).abs().max())
        if not np.isfinite(mismatch):
            break
        if mismatch <= TOLERANCE:
            nodes = torch.cat([z, flow.end[-1:]])
            return Shot(times, nodes[:, :d], nodes[:, d:], flow.action, mismatch)
        z = z + _newton_step(flow.derivative, defect, d)
        z[0, :d] = start
    raise InputError(
        f"segments: {segments} segments are matched to {mismatch:.2g} after {ITERATIONS} iterations, expected "
        f"{TOLERANCE:g}; try more segments, or a path on a finer mesh"
    )


@dataclass(frozen=True, eq=False)
class _Flow:
    """The ends of all segments, d(end)/d(start), and the action of all together."""

    end: Float[Tensor, "segments z"]
    derivative: Float[Tensor, "segments z z"]
    action: float


def _flow(dynamics: Dynamics, functional: Functional, z: Tensor, times: Tensor) -> _Flow:
    segments, size = z.shape
    starts, lengths = times[:-1], times.diff()
    identity = torch.eye(size, dtype=torch.float64).expand(segments, size, size)
    initial = torch.cat([z.reshape(-1), identity.reshape(-1), torch.zeros(segments, dtype=torch.float64)])
    parts = [z.numel(), identity.numel(), segments]

    def rate(share: float, packed: np.ndarray) -> np.ndarray:
        here, derivative, _ = torch.from_numpy(packed).split(parts)
        velocity, jacobian, density = _hamilton(
            dynamics, functional, here.reshape(segments, size), starts + share * lengths
        )
        moved = jacobian @ derivative.reshape(segments, size, size)
        scaled = (velocity * lengths[:, None], moved * lengths[:, None, None], density * lengths)
        return torch.cat([each.reshape(-1) for each in scaled]).numpy()

    solution = solve_ivp(rate, (0, 1), initial.numpy(), method="DOP853", rtol=RTOL, atol=ATOL, t_eval=[1.0])
    if not solution.success:
        nan = torch.full_like(z, torch.nan)
        return _Flow(nan, identity, float("nan"))
    end, derivative, action = torch.from_numpy(solution.y[:, -1]).split(parts)
    return _Flow(end.reshape(segments, size), derivative.reshape(segments, size, size), float(action.sum()))


def _hamilton(dynamics: Dynamics, functional: Functional, z: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(dH/dp, -dH/dx), its Jacobian, and the density of the action, row by row."""
    d = z.shape[1] // 2
    z = z.detach().requires_grad_()
    x, p = z[:, :d], z[:, d:]
    f = dynamics.drift_at(x, t)
    noise = torch.einsum("ni,nij,nj->n", p, dynamics.matrix_at(x, t), p)
    spread = divergence(f, x) / 2 if functional == "OM" else torch.zeros_like(noise)
    H = (p * f).sum(1) + noise - spread
    (gradient,) = torch.autograd.grad(H.sum(), z, create_graph=True)
    velocity = torch.cat([gradient[:, d:], -gradient[:, :d]], 1)
    rows = [torch.autograd.grad(velocity[:, i].sum(), z, retain_graph=True)[0] for i in range(2 * d)]
    return velocity.detach(), torch.stack(rows, 1), (noise + spread).detach()


def _newton_step(derivative: Tensor, defect: Tensor, d: int) -> Tensor:
    """The correction of all starts that matches the linearized segments; the first state stays."""
    segments, size, _ = derivative.shape
    blocks: list[list[csr_array | None]] = [[None] * segments for _ in range(segments)]
    for k in range(segments):
        blocks[k][k] = csr_array(derivative[k].numpy())
        if k + 1 < segments:
            blocks[k][k + 1] = csr_array(-eye_array(size))
    matrix = csr_array(block_array(blocks))
    rows, columns = np.arange(segments * size - d), np.arange(d, segments * size)
    step = np.zeros(segments * size)
    wanted = -defect.reshape(-1).numpy()[: segments * size - d]
    step[d:] = splu(csc_array(matrix[rows][:, columns])).solve(wanted)
    return torch.from_numpy(step.reshape(segments, size))
