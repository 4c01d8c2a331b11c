r"""The divergence of a denoiser, div D(x_t) = tr dD/dx: exact, by the full Jacobian, or estimated by random probes.

.. math::
    \text{exact: } \frac{\alpha}{\sigma^2} \operatorname{tr}\mathrm{Cov}(x_0 | x_t), \qquad
    \text{Jacobian: } \sum_i \frac{\partial D_i}{\partial x_i}, \qquad
    \text{Hutchinson: } \frac1K\sum_k v_k^T \frac{\partial D}{\partial x} v_k, \quad E[v v^T] = I .

The first, from Tweedie's formula, is zero at alpha = 0. With A the symmetric part of dD/dx, a single probe of random
signs (Rademacher) or of normals has the variance

.. math::  \text{signs: } 2\sum_{i \ne j} A_{ij}^2, \qquad \text{normals: } 2\sum_{i, j} A_{ij}^2 .

Along a trajectory the probes stay fixed: the divergence is then a smooth function of time, and each probe gives an
unbiased estimate of its integral.

Source: Hutchinson 1989, *A stochastic estimator of the trace of the influence matrix*; in a flow, Grathwohl et al. 2019
(arXiv:1810.01367, section 3.1).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.denoisers import Batch, BatchTime, Denoiser, ExactDenoiser
from diffuscope.errors import InputError
from diffuscope.schedules import as_time

from .denoiser_derivatives import signs

ROWS = 1024  # rows in one differentiated call of the denoiser
LARGEST = 4096  # dimension beyond which the full Jacobian is refused


@dataclass(frozen=True, eq=False)
class Diverging:
    """The denoiser at x_t, and its divergence there in float64: one estimate per probe, one column if it is exact."""

    denoised: Batch
    divergence: Float[Tensor, "batch probes"]


@runtime_checkable
class Divergence(Protocol):
    """A method to compute or estimate the divergence of a denoiser.

    >>> from diffuscope.densities import Divergence, ExactDivergence
    >>> isinstance(ExactDivergence(), Divergence)
    True
    """

    def __call__(self, denoiser: Denoiser, x_t: Batch, t: BatchTime) -> Diverging:
        """D(x_t, t) and tr dD/dx."""
        ...


@dataclass(frozen=True)
class ExactDivergence:
    """(alpha / sigma^2) tr Cov(x_0 | x_t), for an `ExactDenoiser`, whose posterior covariance is known.

    Costs one evaluation of the posterior. Raises InputError for another denoiser.

    >>> import torch
    >>> from diffuscope.denoisers import ExactDenoiser
    >>> from diffuscope.densities import ExactDivergence
    >>> from diffuscope.exact import Gaussian
    >>> from diffuscope.schedules import RectifiedFlow
    >>> denoiser = ExactDenoiser(Gaussian.isotropic(torch.zeros(2), 1.5), RectifiedFlow())
    >>> round(ExactDivergence()(denoiser, torch.ones(1, 2), 0.2).divergence.item(), 6)  # D = 0.8 * 1.5 x / 1
    2.4
    """

    def __call__(self, denoiser: Denoiser, x_t: Batch, t: BatchTime) -> Diverging:
        """D(x_t, t) and its divergence, one column."""
        if not isinstance(denoiser, ExactDenoiser):
            raise InputError(
                f"divergence: ExactDivergence expects an ExactDenoiser, got {type(denoiser).__name__}; "
                "use JacobianDivergence or HutchinsonDivergence"
            )
        alpha, sigma = denoiser.schedule.alpha(t), denoiser.schedule.sigma(t)
        trace = denoiser.distribution.posterior_covariance(x_t, alpha, sigma).trace().double()
        return Diverging(denoiser(x_t, t), ((alpha / sigma**2).to(trace.device) * trace)[:, None])


@dataclass(frozen=True)
class JacobianDivergence:
    """The trace of the full Jacobian, for any denoiser that autograd can differentiate in x_t.

    Costs d gradients per sample, `rows` of them in one call, which bounds the memory. Raises InputError beyond 4,096
    dimensions, and for a denoiser without a gradient.

    >>> import torch
    >>> from diffuscope.denoisers import ExactDenoiser
    >>> from diffuscope.densities import JacobianDivergence
    >>> from diffuscope.exact import Gaussian
    >>> from diffuscope.schedules import RectifiedFlow
    >>> denoiser = ExactDenoiser(Gaussian.isotropic(torch.zeros(2), 1.5), RectifiedFlow())
    >>> round(JacobianDivergence()(denoiser, torch.ones(1, 2), 0.2).divergence.item(), 6)  # D = 0.8 * 1.5 x / 1
    2.4
    """

    rows: int = ROWS

    def __post_init__(self) -> None:
        if self.rows < 1:
            raise InputError(f"rows: expected at least 1, got {self.rows}")

    def __call__(self, denoiser: Denoiser, x_t: Batch, t: BatchTime) -> Diverging:
        """D(x_t, t) and its divergence, one column."""
        divergence = torch.zeros(len(x_t), dtype=torch.float64, device=x_t.device)
        for sample, coordinate, gradient in _jacobian_rows(denoiser, x_t, t, self.rows):
            divergence.index_add_(0, sample, gradient.gather(1, coordinate[:, None])[:, 0].double())
        with torch.no_grad():
            return Diverging(denoiser(x_t, t), divergence[:, None])


@dataclass(frozen=True, eq=False)
class HutchinsonDivergence:
    """One estimate v^T (dD/dx) v per probe v, for any denoiser that autograd can differentiate in x_t.

    `probes` belong to the samples of one batch: (K, batch, *event), K at least 2, so that there is a standard error.
    Costs one evaluation and K gradients, one after the other; the memory is that of one gradient. Raises InputError
    for fewer probes, a batch of another shape, and a denoiser without a gradient.

    >>> import torch
    >>> from diffuscope.denoisers import ExactDenoiser
    >>> from diffuscope.densities import HutchinsonDivergence
    >>> from diffuscope.exact import Gaussian
    >>> from diffuscope.schedules import RectifiedFlow
    >>> denoiser = ExactDenoiser(Gaussian.isotropic(torch.zeros(2), 1.5), RectifiedFlow())  # dD/dx = 1.2 I at t = 0.2
    >>> x_t, probes = torch.ones(1, 2), torch.tensor([[[1.0, 2.0]], [[3.0, 0.5]]])
    >>> found = HutchinsonDivergence(probes)(denoiser, x_t, 0.2).divergence
    >>> [round(value, 5) for value in found[0].tolist()]  # 1.2 * 5 and 1.2 * 9.25
    [6.0, 11.1]
    >>> signs = HutchinsonDivergence.rademacher(x_t, 2, generator=torch.Generator().manual_seed(0))
    >>> [round(value, 5) for value in signs(denoiser, x_t, 0.2).divergence[0].tolist()]  # |v|^2 = 2: the trace itself
    [2.4, 2.4]
    """

    probes: Float[Tensor, "probes batch *event"]

    def __post_init__(self) -> None:
        if len(self.probes) < 2:
            raise InputError(f"probes: expected at least 2, for a standard error, got {len(self.probes)}")

    @classmethod
    def rademacher(cls, x_t: Batch, probes: int, *, generator: torch.Generator) -> "HutchinsonDivergence":
        """Random signs for every coordinate of `x_t`: the smallest variance among independent coordinates."""
        return cls(signs(x_t.expand(probes, *x_t.shape), generator))

    @classmethod
    def normal(cls, x_t: Batch, probes: int, *, generator: torch.Generator) -> "HutchinsonDivergence":
        """Standard normals for every coordinate of `x_t`: the variance does not depend on the basis."""
        shape = (probes, *x_t.shape)
        return cls(torch.randn(shape, dtype=torch.float64, generator=generator, device=generator.device).to(x_t))

    def __call__(self, denoiser: Denoiser, x_t: Batch, t: BatchTime) -> Diverging:
        """D(x_t, t) and its divergence, one column per probe."""
        if x_t.shape != self.probes.shape[1:]:
            shapes = f"{tuple(self.probes.shape[1:])}, got {tuple(x_t.shape)}"
            raise InputError(f"x_t: expected the shape that the probes were drawn for, {shapes}")
        x, denoised = _differentiated(denoiser, x_t, t)
        columns = []
        for k, probe in enumerate(self.probes):
            gradient = _gradient(denoised, x, probe.to(x), keep=k + 1 < len(self.probes))
            columns.append((gradient.double() * probe).flatten(1).sum(1))
        return Diverging(denoised.detach(), torch.stack(columns, dim=1))


def jacobian(denoiser: Denoiser, x_t: Batch, t: BatchTime, *, rows: int = ROWS) -> Float[Tensor, "batch d d"]:
    """The full Jacobian dD_i/dx_j with event dimensions flattened, float64; limits and errors as `JacobianDivergence`.

    For an exact denoiser it is symmetric, (alpha / sigma^2) Cov(x_0 | x_t).
    """
    d = math.prod(x_t.shape[1:])
    full = torch.zeros(len(x_t), d, d, dtype=torch.float64, device=x_t.device)
    for sample, coordinate, gradient in _jacobian_rows(denoiser, x_t, t, rows):
        full[sample, coordinate] = gradient.double()
    return full


def _jacobian_rows(
    denoiser: Denoiser, x_t: Batch, t: BatchTime, rows: int
) -> Iterator[tuple[Tensor, Tensor, Float[Tensor, "rows d"]]]:
    """(samples i, coordinates j, dD_j(x_i)/dx) of all pairs of the batch, `rows` of them at a time."""
    d = math.prod(x_t.shape[1:])
    if d > LARGEST:
        raise InputError(
            f"divergence: the full Jacobian is for at most {LARGEST} dimensions, got {d}; use HutchinsonDivergence, "
            "or curl_by_probes"
        )
    times = as_time(t).to(x_t.device).expand(len(x_t))
    for pairs in torch.arange(len(x_t) * d, device=x_t.device).split(rows):
        sample, coordinate = pairs // d, pairs % d
        x, denoised = _differentiated(denoiser, x_t[sample], times[sample])
        chosen = torch.nn.functional.one_hot(coordinate, d).to(x).reshape(x.shape)
        yield sample, coordinate, _gradient(denoised, x, chosen).flatten(1)


@torch.enable_grad()
def _differentiated(denoiser: Denoiser, x_t: Batch, t: BatchTime) -> tuple[Batch, Batch]:
    """x_t as a leaf, and D as a function of it."""
    x = x_t.detach().requires_grad_()
    return x, denoiser(x, t)


def _gradient(denoised: Batch, x: Batch, probe: Batch, *, keep: bool = False) -> Batch:
    """(dD/dx)^T probe, sample by sample."""
    gradient = None
    if denoised.requires_grad:
        gradient = torch.autograd.grad(denoised, x, probe, retain_graph=keep, allow_unused=True)[0]
    if gradient is None:
        raise InputError("denoiser: expected one that autograd can differentiate in x_t, got one without a gradient")
    return gradient
