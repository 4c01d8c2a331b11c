r"""Mean and covariance of a stream of examples, in float64 without cancellation, and its leading eigenpairs.

**One pass.** Batches are merged by Chan's update. With :math:`n` examples so far, of mean m, and a batch of b examples
with mean :math:`m_b`,

.. math::  S \leftarrow S + \sum_{i \in b}(x_i - m_b)(x_i - m_b)^T + \frac{n b}{n + b}(m_b - m)(m_b - m)^T ,

so that :math:`E[xx^T] - \mu\mu^T` is never formed. The mean of the first batch is the origin: an offset common to all
data costs no digits. Written C^T C with one row more for the shift between batch and past, the update is one product;
applied to a probe :math:`\Omega` of shape (D, l) it is :math:`C^T(C\Omega)`, and the D x D matrix is never formed.

**Leading eigenpairs in two passes**, for dimensions where D x D does not fit. The first pass takes a random probe to
:math:`Y = \Sigma\Omega`, of which Q is an orthonormal basis: that is a randomized range finder with half a power
iteration. The second gives :math:`Z = \Sigma Q`, from which the Nystrom approximation

.. math::  \Sigma \approx Z (Q^T Z)^{-1} Z^T \preceq \Sigma

takes its eigenpairs: another half iteration without another pass. Its eigenvalues lie between those of the projection
:math:`Q^T\Sigma Q` (Rayleigh-Ritz) and the true ones; what this half iteration still adds tells whether they have
converged. Every further pass is one more power iteration. The trace is exact, and what the k pairs lack of it is the
tail variance :math:`(\mathrm{tr}\Sigma - \sum\lambda)/(D - k)`. On CIFAR-10 with k = 128 the first 32 eigenvalues are
within 0.1 % after two passes, the first 64 within 1 %, the last is 8 to 9 % short; after three, 1e-5, 0.04 %
and 2 %.

Memory in float64, beyond three batches: D x D in one pass; 6 D l, in the last step, with a probe.

Sources: Chan, Golub & LeVeque 1979; Halko, Martinsson & Tropp 2011 (arXiv:0909.4061); Tropp, Yurtsever, Udell & Cevher
2017 (arXiv:1706.05736), algorithm 3, for the stable form of Nystrom's.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.errors import InputError

Batches = Iterable[Float[Tensor, "_ *event"]]


@dataclass(frozen=True, eq=False)
class Moments:
    """Count, mean and total variance tr Sigma of a stream, and `product` = Sigma, or Sigma times the probe."""

    count: int
    mean: Float[Tensor, "*event"]
    trace: float
    product: Float[Tensor, "D l"]


def streamed_moments(batches: Batches, probe: Callable[[int], Tensor] | None = None) -> Moments:
    """The moments (1/n) of all batches; `probe(D)` is the (D, l) matrix to multiply the covariance with, if any.

    Raises InputError for fewer than two examples, examples of different shapes, or values that are not finite.
    """
    count, event, trace = 0, (), 0.0
    origin = shift = torch.zeros(0, dtype=torch.float64)
    probed, product = None, torch.zeros(0, 0, dtype=torch.float64)
    for batch in batches:
        n, shape = len(batch), tuple(batch.shape[1:])
        rows = batch.double().reshape(n, math.prod(shape))
        if n == 0:
            continue
        if not bool(torch.isfinite(rows).all()):
            raise InputError("batches: expected finite values, got NaN or infinity")
        if count == 0:
            event, origin = shape, rows.mean(0)
            shift, probed = torch.zeros_like(origin), None if probe is None else probe(len(origin)).to(rows)
            product = rows.new_zeros(len(origin), len(origin) if probed is None else probed.shape[1])
        elif shape != event:
            raise InputError(f"batches: expected examples of shape {event} like the first, got {shape}")
        rows = rows - origin
        batch_shift = rows.mean(0)
        step = batch_shift - shift
        between = (count * n / (count + n)) ** 0.5 * step
        # the shift between batch and past as one more row: one update of the matrix per batch
        centered = torch.cat([rows.sub_(batch_shift), between[None]])
        product.addmm_(centered.T, centered if probed is None else centered @ probed)
        trace += float(torch.linalg.vector_norm(centered)) ** 2
        shift = shift + step * (n / (count + n))
        count += n
    if count < 2:
        raise InputError(f"batches: expected at least two examples to fit a Gaussian, got {count}")
    return Moments(count, (origin + shift).reshape(event), trace / count, product.div_(count))


@dataclass(frozen=True, eq=False)
class LeadingPairs:
    """Mean, the k leading eigenpairs, largest first, and the exact trace of a covariance.

    `last_gain` is the share of each eigenvalue that the last half iteration added: small where it has converged. It is
    no bound: far more than what is missing where eigenvalues decay, less where they are nearly equal.

    >>> import torch
    >>> from diffuscope.exact import leading_pairs
    >>> rows = torch.tensor([[4.0, 0.0], [-2.0, 0.0], [1.0, 1.0], [1.0, -1.0]])  # of variances 18/4 and 2/4
    >>> pairs = leading_pairs(lambda: [rows], 1, generator=torch.Generator().manual_seed(0))
    >>> round(pairs.trace, 6), round(pairs.tail_variance, 6), [round(value, 6) for value in pairs.mean.tolist()]
    (5.0, 0.5, [1.0, 0.0])
    """

    count: int
    mean: Float[Tensor, "*event"]
    trace: float
    eigenvectors: Float[Tensor, "D k"]
    eigenvalues: Float[Tensor, " k"]
    last_gain: Float[Tensor, " k"]

    @property
    def tail_variance(self) -> float:
        """(tr Sigma - sum of the eigenvalues) / (D - k)."""
        rest = len(self.eigenvectors) - len(self.eigenvalues)
        return max(0.0, self.trace - float(self.eigenvalues.sum())) / rest if rest else 0.0


def oversampled(rank: int) -> int:
    """The width of the probe for `rank` eigenpairs: half as many again, and at least 16 more.

    >>> from diffuscope.exact import oversampled
    >>> oversampled(10), oversampled(100)
    (26, 150)
    """
    return rank + max(16, rank // 2)


def leading_pairs(
    passes: Callable[[], Batches], rank: int, *, generator: torch.Generator, n_passes: int = 2
) -> LeadingPairs:
    """The `rank` leading eigenpairs of the covariance of a stream that `passes()` begins anew, `n_passes` times.

    The rank is reduced to D. Raises InputError for a negative rank, for fewer than two passes, and as
    `streamed_moments`.

    >>> import torch
    >>> from diffuscope.exact import leading_pairs
    >>> rows = torch.tensor([[4.0, 0.0], [-2.0, 0.0], [1.0, 1.0], [1.0, -1.0]])  # of variances 18/4 and 2/4
    >>> pairs = leading_pairs(lambda: rows.split(2), 1, generator=torch.Generator().manual_seed(0))
    >>> round(pairs.eigenvalues.item(), 6), [round(abs(value), 6) for value in pairs.eigenvectors[:, 0].tolist()]
    (4.5, [1.0, 0.0])
    """
    return leading_pairs_of(lambda probe: streamed_moments(passes(), probe), rank, generator, n_passes)


def leading_pairs_of(
    moments_of: Callable[[Callable[[int], Tensor]], Moments], rank: int, generator: torch.Generator, n_passes: int
) -> LeadingPairs:
    """As `leading_pairs`, of a stream whose moments with a probe are `moments_of(probe)`: one pass each."""
    if rank < 0:
        raise InputError(f"rank: expected at least 0 (isotropic), got {rank}")
    if n_passes < 2:
        raise InputError(f"n_passes: expected at least 2, got {n_passes}")

    def random_probe(D: int) -> Tensor:
        width = min(D, oversampled(rank))
        return torch.randn(D, width, dtype=torch.float64, generator=generator, device=generator.device)

    moments, Q = moments_of(random_probe), torch.zeros(0, 0)
    for _ in range(n_passes - 1):
        Q = torch.linalg.qr(moments.product).Q
        del moments  # as large as Q
        moments = moments_of(lambda D: Q)  # noqa: ARG005, B023
    U, values, projected = nystrom(Q, moments.product)
    k = min(rank, len(Q))
    values, projected = values[:k], projected[:k]
    changed = torch.where(values > 0, 1 - projected / values, 0.0)
    return LeadingPairs(moments.count, moments.mean, moments.trace, U[:, :k].contiguous(), values, changed)


def nystrom(
    Q: Float[Tensor, "D l"], Z: Float[Tensor, "D l"]
) -> tuple[Float[Tensor, "D l"], Float[Tensor, " l"], Float[Tensor, " l"]]:
    """Eigenvectors and eigenvalues of Nystrom's Z (Q^T Z)^-1 Z^T, and the eigenvalues of Q^T Z, for Z = Sigma Q.

    A multiple nu of the identity, near rounding, is added to Sigma and taken off the eigenvalues, so that a covariance
    of lower rank than Q is no exception. Z is overwritten.
    """
    core = Q.T @ Z
    projected = torch.linalg.eigvalsh((core + core.T) / 2).flip(0).clamp(min=0)
    nu = math.sqrt(len(Q)) * torch.finfo(Z.dtype).eps * float(torch.linalg.vector_norm(Z))
    if nu == 0:
        return Q, torch.zeros_like(projected), projected
    shifted = Z.add_(Q, alpha=nu)
    core = Q.T @ shifted
    factor = torch.linalg.cholesky((core + core.T) / 2)
    basis, triangle = torch.linalg.qr(torch.linalg.solve_triangular(factor.T, shifted, upper=True, left=False))
    left, singular, _ = torch.linalg.svd(triangle)
    return basis @ left, (singular**2 - nu).clamp(min=0), projected
