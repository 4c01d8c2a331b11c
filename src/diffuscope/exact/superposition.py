r"""A mixture of any exact distributions, which is exact again.

With weights pi_j and distributions of density p_j, denoiser D_j and posterior covariance C_j,

.. math::
    p = \sum_j \pi_j p_j, \quad w_j = \frac{\pi_j p_j(x_t)}{p(x_t)}, \quad
    \nabla\log p = \sum_j w_j \nabla\log p_j, \quad
    D = \sum_j w_j D_j, \quad
    \mathrm{Cov}(x_0|x_t) = \sum_j w_j \left[ C_j + (D_j - D)(D_j - D)^T \right].

Gaussian components have a faster form of this, `GaussianMixture`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from diffuscope.errors import InputError

from .distribution import Batch, Distribution, Level, PosteriorCovariance, checked_levels


class Superposition:
    """sum_j weights_j distributions_j, of one event shape; weights >= 0 of any positive sum, equal by default.

    Raises InputError for no distribution, distributions of different shapes, and weights that are not one finite value
    >= 0 per distribution.

    >>> import torch
    >>> from diffuscope.exact import Gaussian, Superposition
    >>> parts = [Gaussian.isotropic(torch.tensor([mean]), 0.75) for mean in (-1.0, 1.0)]
    >>> data = Superposition(parts, weights=torch.tensor([1.0, 3.0]))
    >>> x_t = torch.tensor([[3.0]], dtype=torch.float64).log()
    >>> round(data.denoise(x_t, alpha=2.0, sigma=1.0).item(), 6)  # D_j = 3/8 log 3 -+ 1/4, with weights 0.1 and 0.9
    0.61198
    >>> round(data.posterior_covariance(x_t, alpha=2.0, sigma=1.0).trace().item(), 6)  # 0.75 / 4 + 0.09 / 4
    0.21
    """

    def __init__(self, distributions: Sequence[Distribution], weights: Float[Tensor, " K"] | None = None) -> None:
        shapes = {tuple(one.event_shape) for one in distributions}
        if len(shapes) != 1:
            raise InputError(f"distributions: expected at least one, all of one event shape, got {sorted(shapes)}")
        pi = torch.ones(len(distributions), dtype=torch.float64) if weights is None else weights.double()
        if len(pi) != len(distributions) or not bool((torch.isfinite(pi) & (pi >= 0)).all()) or not bool(pi.sum() > 0):
            count = len(distributions)
            raise InputError(f"weights: expected {count} finite values >= 0, not all zero, got {pi.tolist()}")
        self.distributions, self.weights, self.event_shape = tuple(distributions), pi / pi.sum(), shapes.pop()

    def sample(self, n: int, *, generator: torch.Generator) -> Float[Tensor, "n *event"]:
        """n independent draws, float64."""
        return self.sample_with_labels(n, generator=generator)[0]

    def sample_with_labels(
        self, n: int, *, generator: torch.Generator
    ) -> tuple[Float[Tensor, "n *event"], Int64[Tensor, " n"]]:
        """n independent draws, and the index of the distribution of each."""
        device = generator.device
        which = torch.multinomial(self.weights.to(device), n, replacement=True, generator=generator)
        drawn = torch.empty(n, *self.event_shape, dtype=torch.float64, device=device)
        for j, distribution in enumerate(self.distributions):
            rows = which == j
            drawn[rows] = distribution.sample(int(rows.sum()), generator=generator).double()
        return drawn, which

    def responsibilities(self, x_t: Batch, alpha: Level, sigma: Level) -> Float[Tensor, "batch K"]:
        """w_j(x_t): the posterior probability of every distribution."""
        return self._log_joint(x_t, alpha, sigma).softmax(1).to(x_t.dtype)

    def denoise(self, x_t: Batch, alpha: Level, sigma: Level) -> Batch:
        """D = sum_j w_j D_j."""
        means = torch.stack([one.denoise(x_t.double(), alpha, sigma) for one in self.distributions], 1)
        return _weighted(self._log_joint(x_t, alpha, sigma).softmax(1), means).to(x_t.dtype)

    def score(self, x_t: Batch, alpha: Level, sigma: Level) -> Batch:
        """sum_j w_j grad log p_j."""
        scores = torch.stack([one.score(x_t.double(), alpha, sigma) for one in self.distributions], 1)
        return _weighted(self._log_joint(x_t, alpha, sigma).softmax(1), scores).to(x_t.dtype)

    def log_prob(self, x_t: Batch, alpha: Level, sigma: Level) -> Float[Tensor, " batch"]:
        """log sum_j pi_j p_j(x_t), in nats."""
        return self._log_joint(x_t, alpha, sigma).logsumexp(1).to(x_t.dtype)

    def posterior_covariance(self, x_t: Batch, alpha: Level, sigma: Level) -> "SuperpositionCovariance":
        """Cov(x_0 | x_t): within plus between the distributions."""
        x = x_t.double()
        weights = self._log_joint(x, alpha, sigma).softmax(1)
        means = torch.stack([one.denoise(x, alpha, sigma) for one in self.distributions], 1)
        within = tuple(one.posterior_covariance(x, alpha, sigma) for one in self.distributions)
        return SuperpositionCovariance(weights, means - _weighted(weights, means)[:, None], within, x_t.dtype)

    def _log_joint(self, x_t: Tensor, alpha: Level, sigma: Level) -> Float[Tensor, "batch K"]:
        checked_levels(x_t, alpha, sigma, self.event_shape)
        logs = torch.stack([one.log_prob(x_t.double(), alpha, sigma) for one in self.distributions], 1)
        return logs + self.weights.to(logs.device).log()


@dataclass(frozen=True, eq=False)
class SuperpositionCovariance:
    """sum_j w_j [C_j + deviation_j deviation_j^T] as an operator."""

    weights: Float[Tensor, "batch K"]
    deviations: Float[Tensor, "batch K *event"]
    within: tuple[PosteriorCovariance, ...]
    dtype: torch.dtype

    def matvec(self, v: Batch) -> Batch:
        """Cov(x_0 | x_t) v."""
        every = torch.stack([covariance.matvec(v.double()) for covariance in self.within], 1)
        along = (self.deviations * v.double()[:, None]).flatten(2).sum(2)
        return (_weighted(self.weights, every) + _weighted(self.weights * along, self.deviations)).to(self.dtype)

    def trace(self) -> Float[Tensor, " batch"]:
        """The summed posterior variance."""
        every = torch.stack([covariance.trace() for covariance in self.within], 1)
        return (self.weights * (every + self.deviations.flatten(2).square().sum(2))).sum(1).to(self.dtype)

    def diagonal(self) -> Batch:
        """The posterior variance of every coordinate."""
        every = torch.stack([covariance.diagonal() for covariance in self.within], 1)
        return _weighted(self.weights, every + self.deviations**2).to(self.dtype)


def _weighted(weights: Float[Tensor, "batch K"], values: Float[Tensor, "batch K *event"]) -> Tensor:
    return torch.einsum("bk,bk...->b...", weights, values)
