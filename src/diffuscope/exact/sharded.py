r"""Exact posteriors and neighbors of a data set that several processes share: each works on its own rows.

Process r holds the part :math:`p_r = \sum_{i \in r} w_i\,\delta(y_i)` of the data set, with evidence
:math:`Z_r = \sum_{i \in r} w_i\,p(x \mid y_i)` and posterior mean :math:`D_r`. Then

.. math::
    Z = \sum_r Z_r, \qquad \omega_r = Z_r / Z, \qquad D = \sum_r \omega_r D_r, \qquad
    \mathrm{Cov} = \sum_r \omega_r \left[\mathrm{Cov}_r + (D_r - D)(D_r - D)^T\right] .

Nothing cancels where two shards tie: every process states its evidence relative to the likelihood of a reference point
:math:`c_r`, and the references are compared with the leading one, c, by differences (see `_log_odds`):
:math:`\log Z_r - \log p(x \mid c) = \log\,[Z_r / p(x \mid c_r)] + \Delta(c_r, c)`. The mean is summed about c.
Errors :math:`\epsilon_r` of the :math:`\log Z_r` move it by at most
:math:`2 \max_r \epsilon_r \sqrt{\sum_r \omega_r |D_r - D|^2}`, those of the :math:`D_r` by their weighted mean.

All processes call with equal arguments, and have equal results. A call exchanges two arrays of the size of its result
and a few numbers per sample, whatever the number of points. Without a process group there is one process.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from diffuscope.distributed import gathered, made_by_all, processes, rank, shard, summed
from diffuscope.errors import InputError

from ._finite_set import FiniteSet, checked_weights
from ._log_odds import compensated_log_odds
from .distribution import Batch, Level, checked_levels
from .empirical import Empirical, EmpiricalCovariance, Part
from .neighbors import nearest_half_squares, without_itself


class ShardedEmpirical(FiniteSet):
    """`Empirical` over the points of all processes: each is given all `points`, and computes with its `shard` of them.

    The points may be memory-mapped: a process reads no others but for `sample`. `memory` is that of a process. Raises
    InputError as `Empirical`, in all processes.

    >>> import torch
    >>> from diffuscope.exact import ShardedEmpirical
    >>> points = ShardedEmpirical(torch.tensor([[-1.0], [1.0]], dtype=torch.float64), torch.tensor([1.0, 3.0]))
    >>> x_t = torch.tensor([[3.0]], dtype=torch.float64).log()
    >>> round(points.denoise(x_t, alpha=2.0, sigma=2.0).item(), 6)  # weights 0.1 and 0.9, in every process
    0.8
    """

    def __init__(
        self,
        points: Shaped[Tensor, "points *event"],
        weights: Shaped[Tensor, "..."] | None = None,
        *,
        memory: int = 128 * 2**20,
    ) -> None:
        def own() -> tuple[Tensor, Empirical | None]:
            if points.numel() == 0:
                raise InputError(
                    f"points: expected at least one event of at least one value, got shape {tuple(points.shape)}"
                )
            checked = checked_weights(weights, points)
            return checked, Empirical.summand(points, checked, shard(len(points)), memory)

        self._weights, self._own = made_by_all(own)
        self._all_points = points.detach()
        self._event_shape = tuple(points.shape[1:])

    @property
    def points(self) -> Float[Tensor, "kept *event"]:
        """The points of positive weight of all processes, in the order given."""
        kept = self._weights > 0
        return self._all_points if bool(kept.all()) else self._all_points[kept]

    def sample(self, n: int, *, generator: torch.Generator) -> Float[Tensor, "n *event"]:
        """n points drawn with replacement by weight."""
        kept = self._weights.nonzero()[:, 0]
        return self._all_points[kept[self._drawn(n, generator)]]

    def posterior_covariance(self, x_t: Batch, alpha: Level, sigma: Level) -> "ShardedCovariance":
        """Cov(x_0 | x_t), within the shards and between them."""
        alphas, sigmas = checked_levels(x_t, alpha, sigma, self._event_shape)
        union = self._union(x_t.detach(), alphas, sigmas)
        within = None if self._own is None else self._own.posterior_covariance(x_t, alphas, sigmas)
        return ShardedCovariance(x_t.detach(), within, union)

    def least_costs(
        self, x_t: Batch, alphas: Float[Tensor, " batch"], sigmas: Float[Tensor, " batch"], k: int
    ) -> tuple[Float[Tensor, "batch k"], Int[Tensor, "batch k"]]:
        found = None
        if self._own is not None:
            found = self._own.least_costs(x_t, alphas, sigmas, min(k, len(self._own.points)))
        return _merged(found, len(x_t), k, x_t.device)

    def _mean(self, x_t: Tensor, alphas: Tensor, sigmas: Tensor) -> tuple[Tensor, Tensor]:
        own = None if self._own is None else self._own.part(x_t, alphas, sigmas)
        union = Union.of(own, x_t, alphas, sigmas)
        return union.mean, union.error

    def _log_evidence(self, x_t: Tensor, alphas: Tensor, sigmas: Tensor) -> Float[Tensor, " batch"]:
        return self._union(x_t, alphas, sigmas).log_evidence

    def _union(self, x_t: Tensor, alphas: Tensor, sigmas: Tensor) -> "Union":
        own = None if self._own is None else self._own.posterior_part(x_t, alphas, sigmas)
        return Union.of(own, x_t, alphas, sigmas)


@dataclass(frozen=True, eq=False)
class Union:
    """The posterior of the parts of all processes, and this process's place in it."""

    mean: Float[Tensor, "batch d"]
    error: Float[Tensor, " batch"]  # of the mean, in norm
    log_evidence: Float[Tensor, " batch"]
    share: Float[Tensor, " batch"]  # omega_r of this process
    shift: Float[Tensor, "batch d"]  # D_r - D of this process

    @classmethod
    def of(cls, own: Part | None, x_t: Tensor, alphas: Tensor, sigmas: Tensor) -> "Union":
        """Of this process's part, if it has any, and those of the others."""
        x = x_t.reshape(len(x_t), -1).double()
        own = Part.nothing(x) if own is None else own

        def log_likelihood(y: Tensor) -> Tensor:
            return -(x - alphas[:, None] * y).square_().sum(1) / (2 * sigmas**2)

        leader = _of_all(own.log_mass + log_likelihood(own.reference)).argmax(0)
        reference = summed(torch.where((leader == rank())[:, None], own.reference, 0))
        odds, odds_error = compensated_log_odds(x, alphas, sigmas, own.reference, reference)
        log_ratios = _of_all(own.log_mass + odds)
        log_ratio = log_ratios.logsumexp(0)
        shares = (log_ratios - log_ratio).exp()
        share = shares[rank()]
        mean = reference + summed(share[:, None] * (own.mean - reference))
        shift = torch.where(share[:, None] > 0, own.mean - mean, 0)
        between = (shares * _of_all(shift.square().sum(1))).sum(0)
        log_errors = torch.where(shares > 0, _of_all(own.log_error + odds_error), 0).amax(0)
        error = (shares * _of_all(own.error)).sum(0) + 2 * log_errors * between.sqrt()
        return cls(mean, error, log_ratio + log_likelihood(reference), share, shift)


@dataclass(frozen=True, eq=False)
class ShardedCovariance:
    """sum_r omega_r [Cov_r + (D_r - D)(D_r - D)^T] of every sample, an operator that all processes apply together.

    >>> import torch
    >>> from diffuscope.exact import ShardedEmpirical
    >>> points = ShardedEmpirical(torch.tensor([[-1.0], [1.0]], dtype=torch.float64), torch.tensor([1.0, 3.0]))
    >>> x_t = torch.tensor([[3.0]], dtype=torch.float64).log()
    >>> covariance = points.posterior_covariance(x_t, alpha=2.0, sigma=2.0)
    >>> round(covariance.trace().item(), 6), round(covariance.matvec(-2 * torch.ones_like(x_t)).item(), 6)  # 1 - 0.8^2
    (0.36, -0.72)
    """

    x_t: Batch
    within: EmpiricalCovariance | None  # None without points in this process
    union: Union

    def matvec(self, v: Batch) -> Batch:
        if v.shape != self.x_t.shape:
            raise InputError(f"v: expected the shape of x_t {tuple(self.x_t.shape)}, got {tuple(v.shape)}")
        exact = v.detach().double()
        shift = self.union.shift
        product = shift * (shift * exact.reshape(shift.shape)).sum(1, keepdim=True)
        if self.within is not None:
            product = product + self.within.matvec(exact).reshape(shift.shape)
        return summed(self.union.share[:, None] * product).reshape(v.shape).to(v.dtype)

    def trace(self) -> Float[Tensor, " batch"]:
        own = self.union.shift.square().sum(1)
        if self.within is not None:
            own = own + self.within.trace().double()
        return summed(self.union.share * own).to(self.x_t.dtype)

    def diagonal(self) -> Batch:
        own = self.union.shift.square()
        if self.within is not None:
            own = own + self.within.diagonal().double().reshape(own.shape)
        return summed(self.union.share[:, None] * own).reshape(self.x_t.shape).to(self.x_t.dtype)


def sharded_neighbors(
    queries: Shaped[Tensor, "queries ..."], points: Shaped[Tensor, "points ..."], k: int
) -> tuple[Float[Tensor, "queries k"], Int[Tensor, "queries k"]]:
    """`nearest_neighbors` with every process searching its shard of the `points`: equal results, in all processes.

    Raises InputError as `nearest_neighbors`, in all processes.

    >>> import torch
    >>> from diffuscope.exact import sharded_neighbors
    >>> points = torch.tensor([[3.0, 4.0], [0.0, 1.0], [-6.0, 8.0]])
    >>> distances, indices = sharded_neighbors(torch.zeros(1, 2), points, 2)
    >>> [round(distance, 6) for distance in distances[0].tolist()], indices.tolist()
    ([1.0, 5.0], [[1, 0]])
    """
    if not 1 <= k <= len(points):
        raise InputError(f"k: expected 1 .. {len(points)} (the number of points), got {k}")
    half_squares, indices = _sharded_half_squares(queries, points, k)
    return (2 * half_squares).sqrt(), indices


def sharded_other_neighbors(
    points: Shaped[Tensor, "points ..."], k: int
) -> tuple[Float[Tensor, "points k"], Int[Tensor, "points k"]]:
    """`nearest_other_neighbors` with every process searching its shard of the points for the neighbors of all.

    Raises InputError as `nearest_other_neighbors`, in all processes.

    >>> import torch
    >>> from diffuscope.exact import sharded_other_neighbors
    >>> distances, indices = sharded_other_neighbors(torch.tensor([[0.0], [1.0], [3.5], [1.0]]), 1)
    >>> [round(distance, 6) for distance in distances[:, 0].tolist()], indices[:, 0].tolist()
    ([1.0, 0.0, 2.5, 0.0], [1, 3, 1, 1])
    """
    if not 1 <= k < len(points):
        raise InputError(f"k: expected 1 .. {len(points) - 1} (the number of other points), got {k}")
    half_squares, indices = _sharded_half_squares(points, points, k + 1)
    return without_itself((2 * half_squares).sqrt(), indices)


def _sharded_half_squares(queries: Tensor, points: Tensor, k: int) -> tuple[Tensor, Tensor]:
    start, stop = shard(len(points))

    def own() -> tuple[Tensor, Tensor] | None:
        if start == stop:
            return None
        found, indices = nearest_half_squares(queries, points[start:stop], min(k, stop - start))
        return found, indices + start

    return _merged(made_by_all(own), len(queries), k, queries.device)


def _merged(own: tuple[Tensor, Tensor] | None, n: int, k: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """The k least costs of all processes and their indices, (n, k); each gives its least, in the order of `points`."""
    costs = torch.full((n, k), torch.inf, dtype=torch.float64, device=device)
    indices = torch.zeros(n, k, dtype=torch.int64, device=device)
    if own is not None:
        found = own[0].shape[1]
        costs[:, :found], indices[:, :found] = own
    # shards follow each other in the order of the points: a stable sort leaves the least index first among equals
    every_cost, every_index = (_of_all(values).transpose(0, 1).reshape(n, -1) for values in (costs, indices))
    least, order = every_cost.sort(dim=1, stable=True)
    return least[:, :k], every_index.gather(1, order[:, :k])


def _of_all(own: Tensor) -> Tensor:
    """The tensors of all processes, stacked."""
    return gathered(own.flatten()).reshape(processes(), *own.shape)
