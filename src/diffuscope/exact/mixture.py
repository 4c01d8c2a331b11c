r"""Gaussian mixtures: dense, low-rank or isotropic components, exact at every noise level.

With weights pi_j and components N(mu_j, Sigma_j), the noised distribution is again a mixture and

.. math::
    w_j(x_t) \propto \pi_j N(x_t; \alpha\mu_j, \alpha^2\Sigma_j + \sigma^2 I), \quad
    D = \sum_j w_j m_j, \quad
    \mathrm{Cov}(x_0|x_t) = \sum_j w_j \left[ S_j + (m_j - D)(m_j - D)^T \right],

where m_j and S_j are the denoiser and posterior covariance of component j alone (see `gaussian`).
Fits: hard k-means clusters, or expectation-maximization, whose M-step for a low-rank component is the truncated
eigendecomposition of its weighted covariance (Tipping & Bishop 1999). Arithmetic is float64.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from diffuscope.errors import InputError
from diffuscope.memory import chunk_size

from ._clusters import CHUNK_BYTES, kmeans_labels, weighted_pairs
from .distribution import Batch, Level, checked_levels
from .gaussian import Gaussian
from .spectral import Spectrum, top_eigenpairs


@dataclass(frozen=True, eq=False)
class GaussianMixture:
    """sum_j weights_j N(means_j, U_j diag(eigenvalues_j) U_j^T + tail_variances_j (I - U_j U_j^T)).

    All components share the rank r; r = 0 is isotropic, r = D dense. `event_shape` is that of one example.

    >>> import torch
    >>> from diffuscope.exact import GaussianMixture
    >>> means, weights = torch.tensor([[-1.0], [1.0]]), torch.tensor([0.25, 0.75])
    >>> mixture = GaussianMixture.isotropic(weights, means, torch.tensor([0.75, 0.75]))
    >>> x_t = torch.tensor([[3.0]], dtype=torch.float64).log()
    >>> round(mixture.denoise(x_t, alpha=2.0, sigma=1.0).item(), 6)  # m_j = 3/8 log 3 -+ 1/4, with weights 0.1 and 0.9
    0.61198
    """

    weights: Float[Tensor, " K"]
    means: Float[Tensor, "K *event"]
    eigenvectors: Float[Tensor, "K D r"]
    eigenvalues: Float[Tensor, "K r"]
    tail_variances: Float[Tensor, " K"]

    def __post_init__(self) -> None:
        K, D = len(self.means), math.prod(self.event_shape)
        expected = {"weights": (K,), "eigenvectors": (K, D, self.eigenvectors.shape[-1])}
        expected |= {"eigenvalues": (K, self.eigenvectors.shape[-1]), "tail_variances": (K,)}
        for name, shape in expected.items():
            if tuple(getattr(self, name).shape) != shape:
                raise InputError(f"{name}: expected shape {shape}, got {tuple(getattr(self, name).shape)}")
        if not bool((self.eigenvalues >= 0).all() & (self.tail_variances >= 0).all()):
            raise InputError("eigenvalues, tail_variances: expected values >= 0")
        total = float(self.weights.sum())
        if bool((self.weights < 0).any()) or not abs(total - 1) < 1e-6:
            raise InputError(f"weights: expected non-negative values that sum to 1, got sum {total}")
        for name in ("weights", "means", "eigenvectors", "eigenvalues", "tail_variances"):
            object.__setattr__(self, name, getattr(self, name).double())
        # weights given in float32 sum to 1 within 1e-7 only
        object.__setattr__(self, "weights", self.weights / self.weights.sum())

    @classmethod
    def isotropic(
        cls, weights: Float[Tensor, " K"], means: Float[Tensor, "K *event"], variances: Float[Tensor, " K"]
    ) -> "GaussianMixture":
        """Components N(mu_j, v_j I)."""
        K, D = len(means), means[0].numel()
        return cls(weights, means, means.new_zeros(K, D, 0), means.new_zeros(K, 0), variances)

    @classmethod
    def from_covariances(
        cls,
        weights: Float[Tensor, " K"],
        means: Float[Tensor, "K *event"],
        covariances: Float[Tensor, "K D D"],
        rank: int | None = None,
    ) -> "GaussianMixture":
        """Dense covariances, each reduced to its top `rank` eigenpairs (all by default)."""
        return _of_eigenpairs(weights, means, [top_eigenpairs(one.double(), rank) for one in covariances])

    @classmethod
    def fit_kmeans(
        cls,
        data: Float[Tensor, "n *event"],
        components: int,
        *,
        rank: int | None = None,
        ridge: float = 1e-5,
        generator: torch.Generator,
    ) -> "GaussianMixture":
        """Components from k-means clusters: weights are frequencies, covariances (1/n_j) plus `ridge` I.

        A cluster of one example is a component of variance `ridge`. Beyond 4,096 dimensions a `rank` comes from a
        random probe, and no D x D matrix is formed. Raises InputError for more components than examples, or values
        that are not finite.
        """
        labels = kmeans_labels(data, components, generator)
        return cls.fit_clusters(data, labels, rank=rank, ridge=ridge, generator=generator)

    @classmethod
    def fit_clusters(
        cls,
        data: Float[Tensor, "n *event"],
        labels: Int[Tensor, " n"],
        *,
        rank: int | None = None,
        ridge: float = 1e-5,
        generator: torch.Generator,
    ) -> "GaussianMixture":
        """A component for each cluster of examples, as `fit_kmeans` makes them; negative labels are left out.

        Raises InputError if no label is 0 or more.

        >>> import torch
        >>> from diffuscope.exact import GaussianMixture
        >>> x, g = torch.tensor([[0.0], [2.0], [9.0]]), torch.Generator().manual_seed(0)
        >>> fit = GaussianMixture.fit_clusters(x, torch.tensor([0, 0, -1]), ridge=0.0, generator=g)
        >>> fit.means.item(), round(fit.eigenvalues.item(), 9)  # the mean and the variance of 0 and 2
        (1.0, 1.0)
        """
        if not bool((labels >= 0).any()):
            raise InputError("labels: expected clusters 0, 1, ..., got no label that is 0 or more")
        memberships = torch.nn.functional.one_hot(labels.clamp(min=-1) + 1).double()[:, 1:]
        return _maximize(data, memberships, rank, ridge, generator)

    @classmethod
    def fit_em(
        cls,
        data: Float[Tensor, "n *event"],
        components: int,
        *,
        rank: int | None = None,
        ridge: float = 1e-5,
        tolerance: float = 1e-4,
        max_iterations: int = 200,
        generator: torch.Generator,
    ) -> "GaussianMixture":
        """Maximum likelihood by EM from the k-means fit, until the mean log-likelihood gains less than `tolerance`.

        `tolerance` is in nats per example. The M-step is the exact maximum for the model of this rank, so that the
        likelihood never decreases when `ridge` is 0; the ridge (added to every covariance) keeps a component from
        collapsing onto one example. Beyond 4,096 dimensions the M-step of a `rank` comes from a random probe. Raises
        InputError as `fit_kmeans` does, or when a component has collapsed.
        """
        mixture = cls.fit_kmeans(data, components, rank=rank, ridge=ridge, generator=generator)
        previous = -float("inf")
        for _ in range(max_iterations):
            joint = torch.cat([mixture._joint_log_prob(x, *levels) for x, *levels in mixture._chunks(data, 1.0, 0.0)])
            likelihood = joint.logsumexp(1)
            if float(likelihood.mean()) - previous < tolerance:
                break
            previous = float(likelihood.mean())
            if not math.isfinite(previous):
                raise InputError(f"ridge: expected enough to keep every covariance regular, got {ridge}")
            mixture = _maximize(data, (joint - likelihood[:, None]).exp(), rank, ridge, generator)
        return mixture

    @property
    def event_shape(self) -> tuple[int, ...]:
        return tuple(self.means.shape[1:])

    def truncate(self, rank: int) -> "GaussianMixture":
        """Keep the top `rank` eigenpairs of every component; the rest goes into its tail, the variance is unchanged.

        Raises InputError for a rank outside 0 .. D.
        """
        dimension, kept = self.eigenvectors.shape[1:]
        if not 0 <= rank <= dimension:
            raise InputError(f"rank: expected 0 .. {dimension}, got {rank}")
        if rank >= kept:
            return self
        rest = self.eigenvalues[:, rank:].sum(1) + (dimension - kept) * self.tail_variances
        vectors, values = self.eigenvectors[:, :, :rank].contiguous(), self.eigenvalues[:, :rank]
        return GaussianMixture(self.weights, self.means, vectors, values, rest / (dimension - rank))

    def as_gaussian(self) -> Gaussian:
        """The Gaussian with the mixture's mean and covariance."""
        flat = self._flat_means
        mean = self.weights @ flat
        deviations = self.weights.sqrt()[:, None] * (flat - mean)
        covariance = deviations.T @ deviations
        for weight, U, values, tail in zip(  # one component at a time: all bases side by side may not fit in memory
            self.weights, self.eigenvectors, self.eigenvalues, self.tail_variances, strict=True
        ):
            covariance.addmm_(U * (weight * (values - tail)), U.T)
        covariance.diagonal().add_(self.weights @ self.tail_variances)
        return Gaussian.from_covariance(mean.reshape(self.event_shape), covariance)

    def sample(self, n: int, *, generator: torch.Generator) -> Float[Tensor, "n *event"]:
        """Independent draws, float64."""
        which = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        shape = (n, self._spectrum.dimension)
        white = torch.randn(shape, dtype=torch.float64, generator=generator, device=generator.device)
        out = torch.empty_like(white)
        for j in which.unique().tolist():  # a loop over components: each has its own basis
            rows, U = which == j, self.eigenvectors[j]
            coordinates = white[rows] @ U
            rest = white[rows] - coordinates @ U.T
            out[rows] = (coordinates * self.eigenvalues[j].sqrt()) @ U.T + self.tail_variances[j].sqrt() * rest
        return (out + self._flat_means[which]).reshape(n, *self.event_shape)

    def responsibilities(self, x_t: Batch, alpha: Level, sigma: Level) -> Float[Tensor, "batch K"]:
        """w_j(x_t): the posterior probability of every component."""
        parts = [self._joint_log_prob(x, *levels).softmax(1) for x, *levels in self._levels(x_t, alpha, sigma)]
        return torch.cat(parts).to(x_t.dtype)

    def denoise(self, x_t: Batch, alpha: Level, sigma: Level) -> Batch:
        """D = sum_j w_j m_j."""
        parts = []
        for x, alphas, sigmas in self._levels(x_t, alpha, sigma):
            weights, means = self._posterior_means(x, alphas, sigmas)
            parts.append(torch.einsum("bk,bkd->bd", weights, means))
        return torch.cat(parts).reshape(x_t.shape).to(x_t.dtype)

    def score(self, x_t: Batch, alpha: Level, sigma: Level) -> Batch:
        """sum_j w_j times the score of component j, without cancellation at small sigma."""
        parts = []
        for x, alphas, sigmas in self._levels(x_t, alpha, sigma):
            joint, coordinates, rest, spread, tail = self._split(x, alphas, sigmas)
            scores = self._spectrum.join(coordinates / spread) + rest / tail[..., None]
            parts.append(-torch.einsum("bk,bkd->bd", joint.softmax(1), scores))
        return torch.cat(parts).reshape(x_t.shape).to(x_t.dtype)

    def log_prob(self, x_t: Batch, alpha: Level, sigma: Level) -> Float[Tensor, " batch"]:
        """log sum_j pi_j N(x_t; alpha mu_j, alpha^2 Sigma_j + sigma^2 I), in nats."""
        parts = [self._joint_log_prob(x, *levels).logsumexp(1) for x, *levels in self._levels(x_t, alpha, sigma)]
        return torch.cat(parts).to(x_t.dtype)

    def posterior_covariance(self, x_t: Batch, alpha: Level, sigma: Level) -> "MixturePosteriorCovariance":
        """Cov(x_0 | x_t): within plus between the components."""
        alphas, sigmas = checked_levels(x_t, alpha, sigma, self.event_shape)
        return MixturePosteriorCovariance(self, x_t, alphas, sigmas)

    @cached_property
    def _spectrum(self) -> Spectrum:
        return Spectrum(self.eigenvectors, self.eigenvalues, self.tail_variances)

    @cached_property
    def _flat_means(self) -> Tensor:
        return self.means.reshape(self.eigenvectors.shape[:2])

    def _levels(self, x_t: Tensor, alpha: Level, sigma: Level) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        alphas, sigmas = checked_levels(x_t, alpha, sigma, self.event_shape)
        yield from self._chunks(x_t, alphas, sigmas)

    def _chunks(self, x: Tensor, alpha: Level, sigma: Level) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """(x rows, alphas, sigmas) in float64, in chunks whose working memory is at most CHUNK_BYTES."""
        K, D, r = self.eigenvectors.shape
        rows = chunk_size(CHUNK_BYTES, each=8 * K * (6 * D + 4 * r))  # float64: (B, K, D), (B, K, r)
        alphas = torch.as_tensor(alpha, dtype=torch.float64, device=x.device).expand(len(x))
        sigmas = torch.as_tensor(sigma, dtype=torch.float64, device=x.device).expand(len(x))
        for start in range(0, max(1, len(x)), rows):  # an empty batch is one empty chunk
            part = slice(start, start + rows)
            yield x[part].double().reshape(len(x[part]), D), alphas[part], sigmas[part]

    def _split(self, x: Tensor, alphas: Tensor, sigmas: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """log(pi_j p_j(x)) (B, K); x - alpha mu_j in every component's eigenbasis (B, K, r) and beside it; variances
        of x_t there.
        """
        coordinates, rest = self._spectrum.split(x[:, None] - alphas[:, None, None] * self._flat_means)
        spread, tail = self._spectrum.at(alphas, sigmas)
        joint = self.weights.log() + self._spectrum.log_prob(coordinates, rest, spread, tail)
        return joint, coordinates, rest, spread, tail

    def _joint_log_prob(self, x: Tensor, alphas: Tensor, sigmas: Tensor) -> Tensor:
        return self._split(x, alphas, sigmas)[0]

    def _posterior_means(self, x: Tensor, alphas: Tensor, sigmas: Tensor) -> tuple[Tensor, Tensor]:
        """Weights w_j (B, K) and component denoisers m_j (B, K, D)."""
        joint, coordinates, rest, spread, tail = self._split(x, alphas, sigmas)
        gain = alphas[:, None, None] * self.eigenvalues / spread
        gain_tail = alphas[:, None] * self.tail_variances / tail
        means = self._flat_means + self._spectrum.join(gain * coordinates) + gain_tail[..., None] * rest
        return joint.softmax(1), means


@dataclass(frozen=True, eq=False)
class MixturePosteriorCovariance:
    """sum_j w_j [S_j + (m_j - D)(m_j - D)^T] as an operator; every call works in chunks."""

    mixture: GaussianMixture
    x_t: Batch
    alphas: Float[Tensor, " batch"]
    sigmas: Float[Tensor, " batch"]

    def _parts(self) -> Iterator[tuple[slice, Tensor, Tensor, Tensor, Tensor]]:
        """Rows, weights, deviations m_j - D, and the eigenvalues of S_j along the eigenvectors and in the tail."""
        spectrum, start = self.mixture._spectrum, 0
        for x, alphas, sigmas in self.mixture._chunks(self.x_t, self.alphas, self.sigmas):
            weights, means = self.mixture._posterior_means(x, alphas, sigmas)
            deviations = means - torch.einsum("bk,bkd->bd", weights, means)[:, None]
            spread, tail = spectrum.at(alphas, sigmas)
            s2 = sigmas[:, None] ** 2
            within, within_tail = s2[..., None] * spectrum.eigenvalues / spread, s2 * spectrum.tail_variance / tail
            yield slice(start, start + len(x)), weights, deviations, within, within_tail
            start += len(x)

    def matvec(self, v: Batch) -> Batch:
        spectrum, parts = self.mixture._spectrum, []
        flat = v.double().reshape(len(v), spectrum.dimension)
        for rows, weights, deviations, within, within_tail in self._parts():
            every = flat[rows][:, None].expand_as(deviations)
            inside = spectrum.apply(every, within, within_tail)
            between = weights * torch.einsum("bkd,bd->bk", deviations, flat[rows])
            parts.append(torch.einsum("bk,bkd->bd", weights, inside) + torch.einsum("bk,bkd->bd", between, deviations))
        return torch.cat(parts).reshape(v.shape).to(self.x_t.dtype)

    def trace(self) -> Float[Tensor, " batch"]:
        rest = self.mixture._spectrum.dimension - self.mixture._spectrum.rank
        parts = [
            (weights * (within.sum(-1) + rest * within_tail + (deviations**2).sum(-1))).sum(1)
            for _, weights, deviations, within, within_tail in self._parts()
        ]
        return torch.cat(parts).to(self.x_t.dtype)

    def diagonal(self) -> Batch:
        squares = self.mixture.eigenvectors**2
        parts = []
        for _, weights, deviations, within, within_tail in self._parts():
            inside = torch.einsum("bkr,kdr->bkd", within - within_tail[..., None], squares) + within_tail[..., None]
            parts.append(torch.einsum("bk,bkd->bd", weights, inside + deviations**2))
        return torch.cat(parts).reshape(self.x_t.shape).to(self.x_t.dtype)


def _maximize(
    data: Tensor, memberships: Float[Tensor, "n K"], rank: int | None, ridge: float, generator: torch.Generator
) -> GaussianMixture:
    """The M-step: weighted means and covariances; empty components are dropped."""
    memberships = memberships[:, memberships.sum(0) > 1e-8]
    fits = [weighted_pairs(data, column, rank, ridge, generator) for column in memberships.T]
    means = torch.stack([mean.reshape(data.shape[1:]) for mean, _ in fits])
    return _of_eigenpairs(memberships.sum(0) / memberships.sum(), means, [pairs for _, pairs in fits])


def _of_eigenpairs(weights: Tensor, means: Tensor, pairs: list[tuple[Tensor, Tensor, float]]) -> GaussianMixture:
    vectors, values, tails = zip(*pairs, strict=True)
    tails = torch.tensor(tails, dtype=torch.float64, device=means.device)
    return GaussianMixture(weights, means, torch.stack(vectors), torch.stack(values), tails)
