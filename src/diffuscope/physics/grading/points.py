r"""A finite set whose weights are all held at once, in float64: plain products, for sets of a few thousand fields.

.. math::
    w_i(x_t) = \mathrm{softmax}_i(\ell), \qquad D = \sum_i w_i y_i, \qquad
    \mathrm{Cov}(x_0 \mid x_t)\, v = \sum_i w_i\, y_i (y_i^T v) - D\, (D^T v)

with the logits of `finite_prior`. `Empirical` bounds the error of every mean and is tens of times slower where many
points share the weight; what is graded here has Monte-Carlo errors many orders above rounding.
"""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from diffuscope.exact import Empirical, Level
from diffuscope.exact.distribution import Batch, checked_levels


class PointSet(Empirical):
    """An `Empirical` that denoises by plain products; levels may differ from sample to sample."""

    def __init__(self, points: Float[Tensor, "points *event"], weights: Float[Tensor, " points"] | None = None) -> None:
        super().__init__(points, weights)
        flat = self.points.double().flatten(1)  # of positive weight
        self._log_weights = self.weights[self.weights > 0].log()
        self._center = flat.mean(0)
        self._y = flat - self._center

    def denoise(self, x_t: Batch, alpha: Level, sigma: Level) -> Batch:
        """E[x_0 | x_t], differentiable by autograd."""
        weights = self._softmax(x_t, alpha, sigma)
        return (weights @ self._y + self._center).reshape(x_t.shape).to(x_t.dtype)

    def posterior_covariance(self, x_t: Batch, alpha: Level, sigma: Level) -> "PointCovariance":  # pyright: ignore
        """Cov(x_0 | x_t) as an operator."""
        weights = self._softmax(x_t.detach(), alpha, sigma)
        return PointCovariance(weights, self._y, weights @ self._y, self.event_shape)

    def _softmax(self, x_t: Batch, alpha: Level, sigma: Level) -> Float[Tensor, "batch points"]:
        alphas, sigmas = (level[:, None] for level in checked_levels(x_t, alpha, sigma, self.event_shape))
        queries = (x_t.double().flatten(1) - alphas * self._center) * (alphas / sigmas**2)
        offset = self._log_weights - (alphas / sigmas) ** 2 / 2 * self._y.square().sum(1)
        return (queries @ self._y.T + offset).softmax(1)


@dataclass(frozen=True, eq=False)
class PointCovariance:
    """The covariance of weighted points about their mean, one per sample."""

    weights: Float[Tensor, "batch points"]
    points: Float[Tensor, "points D"]
    mean: Float[Tensor, "batch D"]
    event_shape: tuple[int, ...]

    def matvec(self, v: Batch) -> Batch:
        """Cov v."""
        flat = v.detach().double().flatten(1)
        product = (self.weights * (flat @ self.points.T)) @ self.points
        product = product - self.mean * (self.mean * flat).sum(1, keepdim=True)
        return product.reshape(v.shape).to(v.dtype)

    def trace(self) -> Float[Tensor, " batch"]:
        """The total variance."""
        return self.weights @ self.points.square().sum(1) - self.mean.square().sum(1)

    def diagonal(self) -> Batch:
        """The variances."""
        return (self.weights @ self.points.square() - self.mean.square()).reshape(-1, *self.event_shape)
