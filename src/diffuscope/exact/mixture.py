r"""Gaussian mixtures: dense, low-rank or isotropic components, exact at every noise level.

With weights pi_j and components N(mu_j, Sigma_j), the noised law is again a mixture and

.. math::
    w_j(x_t) \propto \pi_j N(x_t; \alpha\mu_j, \alpha^2\Sigma_j + \sigma^2 I), \quad
    D = \sum_j w_j m_j, \quad
    \mathrm{Cov}(x_0|x_t) = \sum_j w_j \left[ S_j + (m_j - D)(m_j - D)^T \right],

where m_j and S_j are the denoiser and posterior covariance of component j alone (see `gaussian`).
Fits: hard k-means clusters, or expectation-maximization, whose M-step for a low-rank component is the truncated
eigendecomposition of its weighted covariance (Tipping & Bishop 1999). Arithmetic is float64.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from sklearn.cluster import KMeans, MiniBatchKMeans
from torch import Tensor

from diffuscope.errors import InputError
from diffuscope.exact.distribution import Level, checked_levels
from diffuscope.exact.gaussian import Gaussian, component_log_prob
from diffuscope.exact.spectral import Spectrum, top_eigenpairs

CHUNK_BYTES = 256 * 2**20  # working memory of one chunk: about four (batch, K, D) float64 arrays
MANY_EXAMPLES = 10_000  # beyond this k-means runs on minibatches


@dataclass(frozen=True, eq=False)
class GaussianMixture:
    """sum_j weights_j N(means_j, U_j diag(eigenvalues_j) U_j^T + tail_variances_j (I - U_j U_j^T)).

    All components share the rank r; r = 0 is isotropic, r = D dense. `event_shape` is that of one example.
    """

    weights: Float[Tensor, " K"]
    means: Float[Tensor, "K *event"]
    eigenvectors: Float[Tensor, "K D r"]
    eigenvalues: Float[Tensor, "K r"]
    tail_variances: Float[Tensor, " K"]

    def __post_init__(self) -> None:
        if bool((self.weights < 0).any()) or not abs(float(self.weights.sum()) - 1) < 1e-6:
            raise ValueError(
                f"weights: expected non-negative values that sum to 1, got sum {float(self.weights.sum())}"
            )
        for name in ("weights", "means", "eigenvectors", "eigenvalues", "tail_variances"):
            object.__setattr__(self, name, getattr(self, name).double())

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
        pairs = [top_eigenpairs(covariance.double(), rank) for covariance in covariances]
        return cls(
            weights,
            means,
            torch.stack([vectors for vectors, _, _ in pairs]),
            torch.stack([values for _, values, _ in pairs]),
            torch.tensor([tail for _, _, tail in pairs], dtype=torch.float64, device=means.device),
        )

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
        """Clusters of k-means as components: weights are frequencies, covariances 1/n_j plus `ridge` I."""
        labels = _kmeans_labels(data, components, generator)
        memberships = torch.nn.functional.one_hot(labels, components).double()
        return _maximize(data, memberships, rank, ridge)

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
        """Maximum likelihood by EM from the k-means fit; stops when the mean log-likelihood gains < `tolerance`."""
        mixture = cls.fit_kmeans(data, components, rank=rank, ridge=ridge, generator=generator)
        previous = -float("inf")
        for _ in range(max_iterations):
            joint = torch.cat([mixture._joint_log_prob(x, *levels) for x, *levels in mixture._chunks(data, 1.0, 0.0)])
            likelihood = joint.logsumexp(1)
            if float(likelihood.mean()) - previous < tolerance:
                break
            previous = float(likelihood.mean())
            mixture = _maximize(data, (joint - likelihood[:, None]).exp(), rank, ridge)
        return mixture

    @property
    def event_shape(self) -> tuple[int, ...]:
        return tuple(self.means.shape[1:])

    def as_gaussian(self) -> Gaussian:
        """The Gaussian with the mixture's mean and covariance."""
        flat = self.means.flatten(1)
        mean = self.weights @ flat
        K, D, r = self.eigenvectors.shape
        columns = self.eigenvectors.permute(1, 0, 2).reshape(D, K * r)
        excess = (self.weights[:, None] * (self.eigenvalues - self.tail_variances[:, None])).flatten()
        tail = float(self.weights @ self.tail_variances)
        within = (columns * excess) @ columns.T + tail * torch.eye(D, dtype=torch.float64, device=flat.device)
        between = (flat - mean).T @ (self.weights[:, None] * (flat - mean))
        return Gaussian.from_covariance(mean.reshape(self.event_shape), within + between)

    def sample(self, n: int, *, generator: torch.Generator) -> Float[Tensor, "n *event"]:
        """Independent draws, float64."""
        which = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        white = torch.randn(
            n, self._spectrum.dimension, dtype=torch.float64, generator=generator, device=generator.device
        )
        out = torch.empty_like(white)
        for j in which.unique().tolist():  # a loop over components: each has its own basis
            rows, U = which == j, self.eigenvectors[j]
            coordinates = white[rows] @ U
            rest = white[rows] - coordinates @ U.T
            out[rows] = (coordinates * self.eigenvalues[j].sqrt()) @ U.T + self.tail_variances[j].sqrt() * rest
        return (out + self.means.flatten(1)[which]).reshape(n, *self.event_shape)

    def responsibilities(
        self, x_t: Float[Tensor, "batch *event"], alpha: Level, sigma: Level
    ) -> Float[Tensor, "batch K"]:
        """w_j(x_t): the posterior probability of every component."""
        parts = [self._joint_log_prob(x, *levels).softmax(1) for x, *levels in self._chunks(x_t, alpha, sigma)]
        return torch.cat(parts).to(x_t.dtype)

    def denoise(self, x_t: Float[Tensor, "batch *event"], alpha: Level, sigma: Level) -> Float[Tensor, "batch *event"]:
        """D = sum_j w_j m_j."""
        parts = []
        for x, alphas, sigmas in self._levels(x_t, alpha, sigma):
            weights, means = self._posterior_means(x, alphas, sigmas)
            parts.append(torch.einsum("bk,bkd->bd", weights, means))
        return torch.cat(parts).reshape(x_t.shape).to(x_t.dtype)

    def score(self, x_t: Float[Tensor, "batch *event"], alpha: Level, sigma: Level) -> Float[Tensor, "batch *event"]:
        """sum_j w_j times the score of component j: no division by sigma^2, so nothing cancels at small sigma."""
        parts = []
        for x, alphas, sigmas in self._levels(x_t, alpha, sigma):
            e = self._centered(x, alphas)
            weights = self._joint_log_prob(x, alphas, sigmas).softmax(1)
            spread, tail = self._spectrum.at(alphas, sigmas)
            coordinates, rest = self._spectrum.split(e)
            scores = self._spectrum.join(coordinates / spread) + rest / tail[..., None]
            parts.append(-torch.einsum("bk,bkd->bd", weights, scores))
        return torch.cat(parts).reshape(x_t.shape).to(x_t.dtype)

    def log_prob(self, x_t: Float[Tensor, "batch *event"], alpha: Level, sigma: Level) -> Float[Tensor, " batch"]:
        """log sum_j pi_j N(x_t; alpha mu_j, alpha^2 Sigma_j + sigma^2 I), in nats."""
        parts = [self._joint_log_prob(x, *levels).logsumexp(1) for x, *levels in self._levels(x_t, alpha, sigma)]
        return torch.cat(parts).to(x_t.dtype)

    def posterior_covariance(
        self, x_t: Float[Tensor, "batch *event"], alpha: Level, sigma: Level
    ) -> "MixturePosteriorCovariance":
        """Cov(x_0 | x_t): within plus between the components."""
        alphas, sigmas = checked_levels(x_t, alpha, sigma, self.event_shape)
        return MixturePosteriorCovariance(self, x_t, alphas, sigmas)

    @property
    def _spectrum(self) -> Spectrum:
        return Spectrum(self.eigenvectors, self.eigenvalues, self.tail_variances)

    def _levels(self, x_t: Tensor, alpha: Level, sigma: Level) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        alphas, sigmas = checked_levels(x_t, alpha, sigma, self.event_shape)
        yield from self._chunks(x_t, alphas, sigmas)

    def _chunks(self, x: Tensor, alpha: Level, sigma: Level) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """(x rows, alphas, sigmas) in float64, so many rows at a time that CHUNK_BYTES is not exceeded."""
        K, D = self.means.flatten(1).shape
        rows = max(1, CHUNK_BYTES // (4 * 8 * K * D))
        alphas = torch.as_tensor(alpha, dtype=torch.float64, device=x.device).expand(len(x))
        sigmas = torch.as_tensor(sigma, dtype=torch.float64, device=x.device).expand(len(x))
        for start in range(0, len(x), rows):
            part = slice(start, start + rows)
            yield x[part].double().flatten(1), alphas[part], sigmas[part]

    def _centered(self, x: Tensor, alphas: Tensor) -> Tensor:
        return x[:, None] - alphas[:, None, None] * self.means.flatten(1)

    def _joint_log_prob(self, x: Tensor, alphas: Tensor, sigmas: Tensor) -> Tensor:
        return self.weights.log() + component_log_prob(self._spectrum, self._centered(x, alphas), alphas, sigmas)

    def _posterior_means(self, x: Tensor, alphas: Tensor, sigmas: Tensor) -> tuple[Tensor, Tensor]:
        """Weights w_j (B, K) and component denoisers m_j (B, K, D)."""
        spread, tail = self._spectrum.at(alphas, sigmas)
        coordinates, rest = self._spectrum.split(self._centered(x, alphas))
        gain = alphas[:, None, None] * self.eigenvalues / spread
        gain_tail = alphas[:, None] * self.tail_variances / tail
        means = self.means.flatten(1) + self._spectrum.join(gain * coordinates) + gain_tail[..., None] * rest
        return self._joint_log_prob(x, alphas, sigmas).softmax(1), means


@dataclass(frozen=True, eq=False)
class MixturePosteriorCovariance:
    """sum_j w_j [S_j + (m_j - D)(m_j - D)^T] as an operator; every call works in chunks."""

    mixture: GaussianMixture
    x_t: Float[Tensor, "batch *event"]
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

    def matvec(self, v: Float[Tensor, "batch *event"]) -> Float[Tensor, "batch *event"]:
        spectrum, flat, parts = self.mixture._spectrum, v.double().flatten(1), []
        for rows, weights, deviations, within, within_tail in self._parts():
            every = flat[rows][:, None].expand_as(deviations)
            coordinates, rest = spectrum.split(every)
            inside = spectrum.join(within * coordinates) + within_tail[..., None] * rest
            between = deviations * torch.einsum("bkd,bd->bk", deviations, flat[rows])[..., None]
            parts.append(torch.einsum("bk,bkd->bd", weights, inside + between))
        return torch.cat(parts).reshape(v.shape).to(self.x_t.dtype)

    def trace(self) -> Float[Tensor, " batch"]:
        rest = self.mixture._spectrum.dimension - self.mixture._spectrum.rank
        parts = [
            (weights * (within.sum(-1) + rest * within_tail + (deviations**2).sum(-1))).sum(1)
            for _, weights, deviations, within, within_tail in self._parts()
        ]
        return torch.cat(parts).to(self.x_t.dtype)

    def diagonal(self) -> Float[Tensor, "batch *event"]:
        squares = self.mixture.eigenvectors**2
        parts = []
        for _, weights, deviations, within, within_tail in self._parts():
            inside = torch.einsum("bkr,kdr->bkd", within - within_tail[..., None], squares) + within_tail[..., None]
            parts.append(torch.einsum("bk,bkd->bd", weights, inside + deviations**2))
        return torch.cat(parts).reshape(self.x_t.shape).to(self.x_t.dtype)


def _kmeans_labels(data: Tensor, components: int, generator: torch.Generator) -> Int[Tensor, " n"]:
    if not 1 <= components <= len(data):
        raise InputError(f"components: expected 1 .. {len(data)} (the number of examples), got {components}")
    seed = int(torch.randint(2**31 - 1, (1,), generator=generator))
    rows = data.flatten(1).cpu().numpy()
    kmeans = (
        MiniBatchKMeans(components, random_state=seed, batch_size=2048)
        if len(rows) > MANY_EXAMPLES
        else KMeans(components, random_state=seed)
    )
    labels = kmeans.fit(rows).labels_
    return torch.as_tensor(labels, dtype=torch.int64, device=data.device)


def _maximize(data: Tensor, memberships: Float[Tensor, "n K"], rank: int | None, ridge: float) -> GaussianMixture:
    """The M-step: weighted means and covariances; components that nobody belongs to are dropped."""
    memberships = memberships[:, memberships.sum(0) > 1e-8 * len(data)]
    counts = memberships.sum(0)
    identity = torch.eye(data[0].numel(), dtype=torch.float64, device=data.device)
    means, pairs = [], []
    for j in range(len(counts)):
        members = memberships[:, j] > 1e-12 * memberships[:, j].max()
        rows, weights = data[members].double().flatten(1), memberships[members, j] / counts[j]
        mean = weights @ rows
        centered = rows - mean
        covariance = (weights[:, None] * centered).T @ centered
        means.append(mean.reshape(data.shape[1:]))
        pairs.append(top_eigenpairs(covariance + ridge * identity, rank))
    return GaussianMixture(
        counts / len(data),
        torch.stack(means),
        torch.stack([vectors for vectors, _, _ in pairs]),
        torch.stack([values for _, values, _ in pairs]),
        torch.tensor([tail for _, _, tail in pairs], dtype=torch.float64, device=data.device),
    )
