r"""What typical paths between two states do, beside the most likely one.

Most likely is the path with the densest tube around it; typical is the ensemble of all paths that end there. For linear
drift :math:`f = Ax + b` and constant D the two agree: the conditioned process is Gaussian, its mean is the most likely
path, and with :math:`m`, :math:`\Sigma` and :math:`\Phi` of the free process

.. math::
    E[x_s \mid x_T] = m_s + C_s \Sigma_T^{-1} (x_T - m_T), \quad
    \mathrm{Cov}[x_s \mid x_T] = \Sigma_s - C_s \Sigma_T^{-1} C_s^T, \quad C_s = \Sigma_s \Phi_{T,s}^T .

Samples of it are free paths, each moved by :math:`C_s \Sigma_T^{-1} (x_T - \tilde x_T)`. For any other drift paths are
simulated, and those that end near the end are kept.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from diffuscope.checked_numbers import require_count, require_positive
from diffuscope.errors import InputError

from .discrete_action import Mesh, Nodes
from .dynamics import Dynamics, States
from .lagrangian import Lagrangian
from .least_action import checked_ends, checked_mesh

LINEAR = 1e-9  # departure from A x + b, of its size
CHUNK = 2**22  # numbers that are simulated at once: 32 MB


@dataclass(frozen=True, eq=False)
class ConditionedPaths:
    """Sampled paths between two states, of `attempts` that were simulated.

    >>> import torch
    >>> from diffuscope.theory.paths import Dynamics, linear_bridge
    >>> spring, times = Dynamics(lambda x: -x, 1.0), torch.tensor([0.0, 1.0, 2.0]) * torch.tensor(2.0).log()
    >>> bridge = linear_bridge(spring, torch.tensor([0.0]), torch.tensor([5.0]), times)
    >>> found = bridge.sample(4000, torch.Generator().manual_seed(0))  # in the middle N(2, 0.6)
    >>> bool((found.mean[1] - 2).abs() < 4 * found.mean_error[1])
    True
    >>> value, error = found.quantile(0.9)
    >>> bool((value[1] - (2 + 1.281552 * 0.6**0.5)).abs() < 4 * error[1])
    True
    """

    times: Mesh
    states: Nodes
    attempts: int

    @property
    def mean(self) -> Float[Tensor, "nodes d"]:
        """The average path."""
        return self.states.mean(0)

    @property
    def mean_error(self) -> Float[Tensor, "nodes d"]:
        """Its standard error."""
        return self.states.std(0) / len(self.states) ** 0.5

    def quantile(self, share: float) -> tuple[Float[Tensor, "nodes d"], Float[Tensor, "nodes d"]]:
        """The quantile of every coordinate at every time, and its standard error.

        Half the way between the quantiles one binomial standard error below and above. Raises InputError for a share
        that is not between 0 and 1.
        """
        if not 0 < share < 1:
            raise InputError(f"share: expected a number between 0 and 1, got {share}")
        step = math.sqrt(share * (1 - share) / len(self.states))
        at = torch.tensor([share, max(share - step, 0.0), min(share + step, 1.0)], dtype=torch.float64)
        value, below, above = self.states.quantile(at, 0)
        return value, (above - below) / 2


@dataclass(frozen=True, eq=False)
class LinearBridge:
    """The Gaussian process of linear drift between two states: mean and covariance at every time.

    >>> import torch
    >>> from diffuscope.theory.paths import Dynamics, linear_bridge
    >>> walk = Dynamics(lambda x: 0.3 + 0 * x, 0.5)  # the drift cancels
    >>> bridge = linear_bridge(walk, torch.tensor([1.0]), torch.tensor([5.0]), torch.tensor([0.0, 1.0, 4.0]))
    >>> round(float(bridge.mean[1]), 6), round(float(bridge.covariance[1]), 6)  # 1 + (5 - 1) / 4, 1 (4 - 1) / 4
    (2.0, 0.75)
    """

    times: Mesh
    mean: Float[Tensor, "nodes d"]
    covariance: Float[Tensor, "nodes d d"]
    _steps: Float[Tensor, "edges d d"]
    _noise: Float[Tensor, "edges d d"]
    _gain: Float[Tensor, "nodes d d"]

    def sample(self, count: int, generator: torch.Generator) -> ConditionedPaths:
        """`count` exact paths. Raises InputError for fewer than two."""
        require_count("count", count, 2)
        d = self.mean.shape[1]
        x = torch.zeros(count, d, dtype=torch.float64)  # about the mean of the free process
        nodes = [x]
        for step, noise in zip(self._steps, self._noise, strict=True):
            x = x @ step.T + torch.randn(count, d, dtype=torch.float64, generator=generator) @ noise.T
            nodes.append(x)
        free = torch.stack(nodes, 1)
        pulled = torch.einsum("nij,pj->pni", self._gain, free[:, -1])
        return ConditionedPaths(self.times, self.mean + free - pulled, count)


def linear_bridge(
    dynamics: Dynamics, start: Float[Tensor, " d"], end: Float[Tensor, " d"], times: Float[Tensor, " nodes"]
) -> LinearBridge:
    """The exact bridge of linear dynamics, D singular or not.

    Raises InputError for a drift that is not A x + b, a drift or diffusion that takes a time, a D that depends on the
    state, and where noise does not reach every direction in the time given.

    >>> import torch
    >>> from diffuscope.theory.paths import Dynamics, linear_bridge
    >>> spring, times = Dynamics(lambda x: -x, 1.0), torch.tensor([0.0, 1.0, 2.0]) * torch.tensor(2.0).log()
    >>> bridge = linear_bridge(spring, torch.tensor([0.0]), torch.tensor([5.0]), times)
    >>> round(float(bridge.mean[1]), 5), round(float(bridge.covariance[1]), 5)  # 0.4 x 5, 0.4 x 2 sinh(t)
    (2.0, 0.6)
    """
    a, b = checked_ends(dynamics, start, end)
    times = checked_mesh(times)
    A, offset = _linear(dynamics, a)
    d = len(offset)
    zero = torch.zeros(1, dtype=torch.float64)
    D = dynamics.matrix_at(a, zero)[0]
    h = times.diff()[:, None, None]
    affine = torch.zeros(d + 1, d + 1, dtype=torch.float64)
    affine[:d, :d], affine[:d, d] = A, offset
    moved = torch.linalg.matrix_exp(h * affine)
    F, shift = moved[:, :d, :d], moved[:, :d, d]
    loan = torch.cat([torch.cat([-A, 2 * D], 1), torch.cat([torch.zeros_like(A), A.T], 1)])
    Q = F @ torch.linalg.matrix_exp(h * loan)[:, :d, d:]
    means, covariances = [a[0]], [torch.zeros(d, d, dtype=torch.float64)]
    for i in range(len(F)):
        means.append(F[i] @ means[-1] + shift[i])
        covariances.append(F[i] @ covariances[-1] @ F[i].T + Q[i])
    onward = [torch.eye(d, dtype=torch.float64)]  # from every time to the end
    for i in range(len(F) - 1, -1, -1):
        onward.append(onward[-1] @ F[i])
    m, S, P = torch.stack(means), torch.stack(covariances), torch.stack(onward[::-1])
    if int(torch.linalg.matrix_rank(S[-1], hermitian=True)) < d:
        raise InputError("diffusion: expected noise that reaches every direction before the end, got a singular one")
    C = S @ P.mT
    gain = torch.linalg.solve(S[-1], C.mT).mT
    mean = m + torch.einsum("nij,j->ni", gain, b[0] - m[-1])
    mean[-1] = b[0]
    return LinearBridge(times, mean, S - gain @ C.mT, F, _root(Q), gain)


def conditioned_paths(
    dynamics: Dynamics,
    start: Float[Tensor, " d"],
    end: Float[Tensor, " d"],
    times: Float[Tensor, " nodes"],
    *,
    window: float,
    attempts: int,
    generator: torch.Generator,
) -> ConditionedPaths:
    """Paths of `attempts` simulated by Euler-Maruyama that never leave the domain and end within `window` of the end.

    In every coordinate, |x_T - end| <= window. Raises InputError for a window that is not positive, and where fewer
    than two paths are kept.

    >>> import torch
    >>> from diffuscope.theory.paths import Dynamics, conditioned_paths
    >>> walk, ends = Dynamics(lambda x: 0.3 + 0 * x, 0.5), (torch.tensor([1.0]), torch.tensor([2.0]))
    >>> found = conditioned_paths(walk, *ends, torch.tensor([0.0, 0.25, 1.0]), window=0.1, attempts=20_000,
    ...                           generator=torch.Generator().manual_seed(0))
    >>> bool((found.mean[1] - 1.25).abs() < 4 * found.mean_error[1])  # of a Brownian bridge: 1 + 0.25 (2 - 1)
    True
    """
    a, b = checked_ends(dynamics, start, end)
    require_positive(window=window)

    def near(x: Nodes, left: Int[Tensor, " paths"]) -> Bool[Tensor, " paths"]:
        return (left >= x.shape[1] - 1) & ((x[:, -1] - b).abs() <= window).all(1)

    return kept_paths(dynamics, a[0], checked_mesh(times), near, attempts, generator)


def kept_paths(
    dynamics: Dynamics,
    start: Float[Tensor, " d"],
    times: Mesh,
    keep: Callable[[Tensor, Tensor], Tensor],
    attempts: int,
    generator: torch.Generator,
) -> ConditionedPaths:
    """The simulated paths for which `keep` (states, node at which the domain was left) holds."""
    require_count("attempts", attempts, 2)
    size, kept = max(CHUNK // (len(times) * len(start)), 1), []
    for begin in range(0, attempts, size):
        x, left = euler_maruyama(dynamics, start.expand(min(size, attempts - begin), -1), times, generator)
        kept.append(x[keep(x, left)])
    states = torch.cat(kept)
    if len(states) < 2:
        raise InputError(f"attempts: expected more, or a wider window: {len(states)} of {attempts:,} paths were kept")
    return ConditionedPaths(times, states, attempts)


def euler_maruyama(
    dynamics: Dynamics, x: States, times: Mesh, generator: torch.Generator
) -> tuple[Nodes, Int[Tensor, " paths"]]:
    """Simulated paths, and the first node of each outside the domain, past the last if none; there it rests."""
    root = _root(2 * dynamics.matrix_at(x[:1], times[:1]))[0] if dynamics.constant else None
    nodes, left = x.double().repeat(len(times), 1, 1), torch.full((len(x),), len(times))
    rows = torch.arange(len(x))  # of the paths that are still inside
    for i, h in enumerate(times.diff()):
        now, t = nodes[i, rows], times[i].expand(len(rows))
        noise = torch.randn(len(rows), x.shape[1], dtype=torch.float64, generator=generator)
        if root is None:
            pushed = torch.einsum("nij,nj->ni", _root(2 * dynamics.matrix_at(now, t).detach()), noise)
        else:
            pushed = noise @ root.T
        later = now + h * dynamics.drift_at(now, t).detach() + h.sqrt() * pushed
        nodes[i + 1, rows] = later
        if dynamics.domain is not None:
            inside = dynamics.inside(later)
            nodes[i + 2 :, rows[~inside]] = later[~inside]
            left[rows[~inside]] = i + 1
            rows = rows[inside]
    return nodes.transpose(0, 1), left


def _linear(dynamics: Dynamics, a: States) -> tuple[Float[Tensor, "d d"], Float[Tensor, " d"]]:
    """A and b of the drift; InputError where it is anything else."""
    if not (dynamics.autonomous and dynamics.constant):
        raise InputError("dynamics: expected a drift of (x) alone and a constant diffusion for an exact bridge")
    n, d = 64, a.shape[1]
    x = a + torch.randn(n, d, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * (1 + a.abs().max())
    t = torch.zeros(n, dtype=torch.float64)
    A = Lagrangian(dynamics).jacobian(x[:1], t[:1])[0]
    f = dynamics.drift_at(x, t).detach()
    offset = f[0] - A @ x[0]
    departure = float((f - x @ A.T - offset).abs().max())
    if not departure <= LINEAR * max(float(f.abs().max()), 1e-300):
        raise InputError(
            f"drift: expected A x + b for an exact bridge, got one that departs from it by {departure:.2g}"
        )
    return A, offset


def _root(matrices: Float[Tensor, "*n d d"]) -> Float[Tensor, "*n d d"]:
    """A square root R of positive semidefinite matrices, R R^T."""
    values, vectors = torch.linalg.eigh(matrices)
    return vectors * values.clamp(min=0).sqrt()[..., None, :]
