r"""A prior from example fields that does not memorize them, and its exact posterior under linear observations.

Every field becomes a Gaussian bump, pulled toward the mean so that mean and covariance stay those of the fields:

.. math::
    p_0 = \frac1N \sum_i N\big(\mu + a\,(x_i - \mu),\ (1 - a^2)\,\Sigma\big), \qquad 0 \le a < 1 .

a = 0 is the Gaussian of the fields, whose posterior mean is Gaussian-process regression with their covariance; a = 1
would be the finite set, which has no field but those it was given. In between, `a` is one number, chosen on held-out
fields.

All components share one covariance, diagonal in its eigenbasis :math:`V\Lambda V^T`. Two linear Gaussian measurements
of the same component, :math:`x_t = \alpha x_0 + \sigma\varepsilon` and :math:`y = H x_0 + r\varepsilon`, give in the
coordinates :math:`z = V^T(x - \mu)`, with :math:`C = (1 - a^2)\Lambda`, :math:`A = HV`,
:math:`S = C\sigma^2/(\alpha^2 C + \sigma^2)`, :math:`B = A S A^T + r^2 I`,

.. math::
    m_i &= a z_i + \frac{\alpha C}{\alpha^2 C + \sigma^2}(z_t - \alpha a z_i), \qquad e_i = y - H\mu - A m_i, \\
    w_i &\propto N(z_t; \alpha a z_i, \alpha^2 C + \sigma^2)\, N(e_i; 0, B), \qquad
    D = \mu + V\Big[\sum_i w_i m_i + S A^T B^{-1} \sum_i w_i e_i\Big] .

Without y the terms of e are absent; without x_t (alpha = 0) it is the posterior given y. A pass costs two products with
the N x k table of coordinates. Everything is differentiable by autograd, and float64 inside.

Source: the kernel density estimate of West 1993, *Mixture models, Monte Carlo, Bayesian updating and dynamic models*.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.errors import InputError
from diffuscope.exact.distribution import Batch, Level, checked_levels

from .observations import LinearObservation

NEGLIGIBLE = 1e-13  # eigenvalues below this share of the largest are rounding


@dataclass(frozen=True, eq=False)
class KernelPrior:
    """The kernel density of `fields` with pull `a`; with an `observation` and its `y` (m,) the exact posterior.

    A `Distribution`. Raises InputError for fewer than two fields, for a outside 0 <= a < 1, for an observation of
    another shape, for one without noise that repeats itself, and for a y with NaN.

    >>> import torch
    >>> from diffuscope.physics import KernelPrior
    >>> fields = torch.tensor([[0.0, 0.0], [2.0, 2.0]], dtype=torch.float64)
    >>> D = KernelPrior(fields, 0.0).denoise(torch.tensor([[3.0, 3.0]]), alpha=1.0, sigma=2**0.5)
    >>> [round(value, 6) for value in D[0].tolist()]  # 1 + 2 (3 - 1) / (2 + 2)
    [2.0, 2.0]
    """

    fields: Float[Tensor, "N *event"]
    a: float
    observation: LinearObservation | None = None
    y: Float[Tensor, " m"] | None = None

    def __post_init__(self) -> None:
        if len(self.fields) < 2:
            raise InputError(f"fields: expected at least 2, got {len(self.fields)}")
        if not 0 <= self.a < 1:
            raise InputError(f"a: expected 0 <= a < 1, got {self.a}")
        if self.observation is None:
            return
        if tuple(self.observation.event_shape) != self.event_shape:
            raise InputError(
                f"observation: expected one of fields of shape {self.event_shape}, got {self.observation.event_shape}"
            )
        if self.y is None or self.y.shape != (len(self.observation.matrix),):
            given = None if self.y is None else tuple(self.y.shape)
            raise InputError(f"y: expected shape ({len(self.observation.matrix)},), got {given}")
        if not bool(self.y.isfinite().all()):
            raise InputError("y: expected finite values, got NaN or infinity")

    def given(self, observation: LinearObservation, y: Float[Tensor, " m"]) -> "KernelPrior":
        """The posterior given y = H x + r eps, and what it is given already.

        Raises InputError also for an observation without noise beside one with noise.
        """
        if self.observation is None or self.y is None:
            return self._sharing(KernelPrior(self.fields, self.a, observation, y))
        KernelPrior(self.fields, self.a, observation, y)  # refuses shapes that do not fit
        noises = [float(self.observation.noise), float(observation.noise)]
        if (noises[0] == 0) != (noises[1] == 0):
            raise InputError(
                f"observation: expected all with noise or all without, got noise {noises[0]} and {noises[1]}"
            )
        scale = noises[0] / noises[1] if noises[0] else 1.0  # one level of noise for all
        rows = torch.cat([self.observation.matrix, scale * observation.matrix])
        both = LinearObservation(rows, self.event_shape, noises[0])
        return self._sharing(KernelPrior(self.fields, self.a, both, torch.cat([self.y.double(), scale * y.double()])))

    def pulled(self, a: float) -> "KernelPrior":
        """The same with another `a`."""
        return self._sharing(KernelPrior(self.fields, a, self.observation, self.y))

    def _sharing(self, other: "KernelPrior") -> "KernelPrior":
        """`other`, with the eigendecomposition of this one."""
        vars(other).update(_table=self._table, _squares=self._squares)
        return other

    @property
    def event_shape(self) -> tuple[int, ...]:
        """That of one field."""
        return tuple(self.fields.shape[1:])

    @cached_property
    def _table(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The mean (D,), eigenvectors (D, k), coordinates of the fields (N, k) and eigenvalues (k,)."""
        rows = self.fields.double().flatten(1)
        mean = rows.mean(0)
        left, singular, right = torch.linalg.svd(rows - mean, full_matrices=False)
        kept = singular**2 > NEGLIGIBLE * singular[0] ** 2
        singular = singular[kept]
        return mean, right[kept].T.contiguous(), left[:, kept] * singular, singular**2 / len(rows)

    @cached_property
    def _squares(self) -> Tensor:
        return self._table[2].square()

    @cached_property
    def _measured(self) -> tuple[Tensor, Tensor, float]:
        """A = H V, y - H mu, and r; empty without an observation."""
        mean, V = self._table[:2]
        if self.observation is None or self.y is None:
            return V.new_zeros(0, V.shape[1]), V.new_zeros(0), 1.0
        H = self.observation.matrix
        return H @ V, self.y.double() - H @ mean, float(self.observation.noise)

    @property
    def mean(self) -> Float[Tensor, "*event"]:
        """E[x_0 | y]."""
        return self._at_infinity().mean[0].reshape(self.event_shape)

    @property
    def variance(self) -> Float[Tensor, "*event"]:
        """Var(x_0 | y) at every node."""
        return self._at_infinity().diagonal()[0].reshape(self.event_shape)

    @property
    def log_evidence(self) -> float:
        """log p(y), in nats; of several observations with every y in the units in which the first has its noise."""
        return float(self._at_infinity().log_density[0]) + 0.5 * len(self._table[0]) * math.log(2 * math.pi)

    def sample(self, n: int, *, generator: torch.Generator) -> Float[Tensor, "n *event"]:
        """Independent draws, float64: a component, a draw from it, and its correction by y."""
        mean, V, Z, values = self._table
        A, _, r = self._measured
        terms = self._at_infinity()
        which = torch.multinomial(terms.weights[0], n, replacement=True, generator=generator)
        spread = ((1 - self.a**2) * values).sqrt()
        z = self.a * Z[which] + spread * torch.randn(n, len(values), dtype=torch.float64, generator=generator)
        noise = r * torch.randn(n, len(A), dtype=torch.float64, generator=generator)
        misfit = self._measured[1] - z @ A.T - noise
        return (mean + (z + misfit @ terms.gain.T) @ V.T).reshape(n, *self.event_shape)

    def denoise(self, x_t: Batch, alpha: Level, sigma: Level) -> Batch:
        """D."""
        return self._joined(x_t, alpha, sigma, lambda terms: terms.mean).reshape(x_t.shape).to(x_t.dtype)

    def score(self, x_t: Batch, alpha: Level, sigma: Level) -> Batch:
        """(alpha D - x_t) / sigma^2."""
        x, (alphas, sigmas) = x_t.double(), checked_levels(x_t, alpha, sigma, self.event_shape)
        shape = (-1, *[1] * (x_t.ndim - 1))
        D = self.denoise(x, alphas, sigmas)
        return ((alphas.reshape(shape) * D - x) / sigmas.reshape(shape) ** 2).to(x_t.dtype)

    def log_prob(self, x_t: Batch, alpha: Level, sigma: Level) -> Float[Tensor, " batch"]:
        """log p(x_t | y), in nats."""
        evidence = 0.0 if self.observation is None else self.log_evidence
        return (self._joined(x_t, alpha, sigma, lambda terms: terms.log_density) - evidence).to(x_t.dtype)

    def posterior_covariance(self, x_t: Batch, alpha: Level, sigma: Level) -> "KernelCovariance":
        """Cov(x_0 | x_t, y): within plus between the components."""
        parts = tuple(self._parts(x_t, alpha, sigma))
        return KernelCovariance(parts, tuple(x_t.shape), x_t.dtype)

    def _joined(self, x_t: Tensor, alpha: Level, sigma: Level, value: "Callable[[Terms], Tensor]") -> Tensor:
        parts = list(self._parts(x_t, alpha, sigma))
        joined = torch.cat([value(terms) for _, terms in parts])
        return joined[torch.cat([rows for rows, _ in parts]).argsort()]

    def _parts(self, x_t: Tensor, alpha: Level, sigma: Level) -> Iterator[tuple[Tensor, "Terms"]]:
        """The rows of each level, with their terms."""
        alphas, sigmas = checked_levels(x_t, alpha, sigma, self.event_shape)
        levels, which = torch.stack([alphas, sigmas], 1).unique(dim=0, return_inverse=True)
        for k, (a_t, s_t) in enumerate(levels.tolist()):
            rows = (which == k).nonzero()[:, 0]
            yield rows, self._terms(x_t[rows].double().flatten(1), a_t, s_t)

    def _at_infinity(self) -> "Terms":
        """What y alone says: no signal in x_t = 0, whose density is (2 pi)^(-D/2)."""
        return self._terms(self._table[0].new_zeros(1, len(self._table[0])), 0.0, 1.0)

    def _terms(self, x: Float[Tensor, "batch D"], alpha: float, sigma: float) -> "Terms":
        mean, V, Z, values = self._table
        A, y, r = self._measured
        C = (1 - self.a**2) * values
        centered = x - alpha * mean
        z = centered @ V
        spread = alpha**2 * C + sigma**2
        gain, S = alpha * C / spread, C * sigma**2 / spread
        table = self.a * (1 - alpha * gain)  # m_i = table z_i + gain z_t
        logits = log_gaussians(z / spread.sqrt(), self.a * alpha / spread.sqrt(), Z, self._squares)
        outside = (centered.square().sum(1) - z.square().sum(1)).clamp(min=0)  # orthogonal to every field
        density = -0.5 * (spread.log().sum() + outside / sigma**2 + (x.shape[1] - len(C)) * math.log(sigma**2))
        B = (A * S) @ A.T + r**2 * torch.eye(len(A), dtype=A.dtype)
        L, failed = torch.linalg.cholesky_ex(B)
        if bool(failed) or bool((L.diagonal() ** 2 <= NEGLIGIBLE * B.diagonal()).any()):
            raise InputError("observation: expected noise, or observations none of which the others determine")
        K = torch.cholesky_solve(A * S, L).T
        if len(A):
            seen = torch.linalg.solve_triangular(L, (y - (z * gain) @ A.T).T, upper=False).T
            rows = torch.linalg.solve_triangular(L, (A * table) @ Z.T, upper=False).T
            logits = logits + log_gaussians(seen, torch.ones_like(seen[0]), rows, rows.square())
        density = density - L.diagonal().log().sum() - 0.5 * (x.shape[1] + len(A)) * math.log(2 * math.pi)
        logits = logits - math.log(len(Z))
        weights = logits.softmax(1)
        m = (weights @ Z) * table + z * gain
        return Terms(mean + (m + (y - m @ A.T) @ K.T) @ V.T, weights, density + logits.logsumexp(1), K, S, table, self)


def log_gaussians(
    x: Float[Tensor, "batch k"], scale: Float[Tensor, " k"], Z: Float[Tensor, "N k"], squares: Float[Tensor, "N k"]
) -> Float[Tensor, "batch N"]:
    """-|x - scale z_i|^2 / 2 for every pair; `squares` are those of Z."""
    return (x * scale) @ Z.T - 0.5 * x.square().sum(1)[:, None] - 0.5 * squares @ scale.square()


@dataclass(frozen=True, eq=False)
class Terms:
    """What one level gives: D, the weights, log p(x_t, y), the gain of y, S and the table of m_i."""

    mean: Float[Tensor, "batch D"]
    weights: Float[Tensor, "batch N"]
    log_density: Float[Tensor, " batch"]
    gain: Float[Tensor, "k m"]
    S: Float[Tensor, " k"]
    table: Float[Tensor, " k"]
    prior: KernelPrior

    def matvec(self, v: Float[Tensor, "batch D"]) -> Float[Tensor, "batch D"]:
        """(S - K A S + sum_i w_i d_i d_i^T) v, d_i = (I - K A)(m_i - their mean)."""
        (_, V, Z, _), A = self.prior._table, self.prior._measured[0]
        u = v @ V
        along = ((u - (u @ self.gain) @ A) * self.table) @ Z.T
        centered = self.weights * (along - (self.weights * along).sum(1, keepdim=True))
        moved = u * self.S + (centered @ Z) * self.table
        return (moved - (moved @ A.T) @ self.gain.T) @ V.T

    def diagonal(self) -> Float[Tensor, "batch D"]:
        """Variances of the coordinates."""
        (_, V, Z, _), A = self.prior._table, self.prior._measured[0]
        M = Z * self.table
        within = (V.square() * self.S).sum(1) - ((V @ self.gain) * (V * self.S @ A.T)).sum(1)
        fields = (M - (M @ A.T) @ self.gain.T) @ V.T
        center = self.weights @ fields
        return within + self.weights @ fields.square() - center.square()


@dataclass(frozen=True, eq=False)
class KernelCovariance:
    """Cov(x_0 | x_t, y) of a `KernelPrior`, as an operator."""

    parts: tuple[tuple[Tensor, Terms], ...]
    shape: tuple[int, ...]
    dtype: torch.dtype

    def matvec(self, v: Batch) -> Batch:
        """Cov(x_0 | x_t, y) v."""
        flat, result = v.double().flatten(1), torch.empty(len(v), math.prod(self.shape[1:]), dtype=torch.float64)
        for rows, terms in self.parts:
            result[rows] = terms.matvec(flat[rows])
        return result.reshape(self.shape).to(self.dtype)

    def diagonal(self) -> Batch:
        """Variances."""
        result = torch.empty(self.shape[0], math.prod(self.shape[1:]), dtype=torch.float64)
        for rows, terms in self.parts:
            result[rows] = terms.diagonal()
        return result.reshape(self.shape).to(self.dtype)

    def trace(self) -> Float[Tensor, " batch"]:
        """The sum of the variances."""
        return self.diagonal().flatten(1).sum(1)
