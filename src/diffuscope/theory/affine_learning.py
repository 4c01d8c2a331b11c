r"""One affine layer, weights and bias learned together: the exact learning curve, and the effect of the data's mean.

With the input :math:`z = (x_t, 1)` and :math:`V = (W, b)` the loss :math:`L = E|V z - x_0|^2` is a quadratic,

.. math::
    \nabla_V L = 2 (V M - N), \qquad
    M = \begin{pmatrix} \alpha^2 (C + \mu\mu^T) + \sigma^2 I & \alpha\mu \\ \alpha\mu^T & 1 \end{pmatrix}, \qquad
    N = (\alpha (C + \mu\mu^T),\ \mu),

so that under gradient flow, and under gradient descent with the learning rates :math:`\eta_i`,

.. math::
    V(\tau) = V^* + (V_0 - V^*)\, e^{-2 M\tau}, \qquad V_n = V^* + (V_0 - V^*) \prod_{i \le n} (I - 2\eta_i M), \qquad
    W^* = \alpha C (\alpha^2 C + \sigma^2)^{-1}, \quad b^* = (I - \alpha W^*)\mu .

The modes are the eigenvectors of M. They are the principal components of the data and a separate bias
(:math:`b = b_0 e^{-2\tau} + \dots`) only where :math:`\mu = 0`, or where the bias is kept at its optimum
:math:`(I - \alpha W)\mu` throughout. Where :math:`\mu \ne 0` is along a component, of noised variance
:math:`s = \alpha^2\lambda + \sigma^2`, that component and the bias mix into two modes: their rates have the product s
and the sum :math:`s + 1 + \alpha^2|\mu|^2`. A large mean is learned fast into weights *and* bias together; separating
the two is slow, with a rate of about :math:`s/(1 + \alpha^2|\mu|^2)`.

Source: derived here; Wang & Pehlevan 2025 (https://arxiv.org/abs/2503.03206) state the case of mean 0.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.errors import InputError
from diffuscope.exact import Gaussian

from .learning_curves import Number, checked_modes, checked_times


@dataclass(frozen=True, eq=False)
class AffineMap:
    """x -> W x + b on flattened events.

    >>> import torch
    >>> from diffuscope.exact import Gaussian
    >>> from diffuscope.theory import AffineLearning
    >>> best = AffineLearning(Gaussian.isotropic(torch.tensor([8.0]), 3.0), alpha=0.5, sigma=0.5).optimum
    >>> best.weight.tolist(), best.bias.tolist()  # alpha lambda / s = 1.5, and (1 - alpha 1.5) 8
    ([[1.5]], [2.0])
    """

    weight: Float[Tensor, "d d"]
    bias: Float[Tensor, " d"]


@dataclass(frozen=True, eq=False)
class AffineLearning:
    """Learning D(x_t) = W x_t + b at one noise level, for data whose mean and covariance are those of `distribution`.

    Only the two moments matter, so the distribution need not be Gaussian. Memory is that of a few (d + 1) x (d + 1)
    matrices. Raises InputError for noise that is not positive.

    >>> import torch
    >>> from diffuscope.exact import Gaussian
    >>> from diffuscope.theory import AffineLearning, AffineMap
    >>> learning = AffineLearning(Gaussian.isotropic(torch.tensor([8.0]), 3.0), alpha=0.5, sigma=0.5)
    >>> product, total = learning.rates.prod(), learning.rates.sum()
    >>> round(float(product), 6), round(float(total), 6)  # s = 1, and s + 1 + alpha^2 mu^2
    (1.0, 18.0)
    >>> one_step = learning.descent(AffineMap(torch.zeros(1, 1), torch.zeros(1)), torch.tensor([0.01]))
    >>> round(float(one_step.weight), 6), round(float(one_step.bias), 6)  # 0.02 alpha (3 + 64), 0.02 x 8
    (0.67, 0.16)
    """

    distribution: Gaussian
    alpha: Number
    sigma: Number

    def __post_init__(self) -> None:
        checked_modes(self.distribution.mean.new_ones(1).double(), self.alpha, self.sigma)

    @property
    def optimum(self) -> AffineMap:
        """W* and b*: the exact denoiser of the Gaussian with these moments."""
        covariance, mean = self._covariance, self.distribution.mean.flatten()
        eye = torch.eye(len(mean), dtype=torch.float64)
        spread = self.alpha**2 * covariance + self.sigma**2 * eye
        weight = torch.linalg.solve(spread, self.alpha * covariance).T  # both are symmetric
        return AffineMap(weight, mean - self.alpha * weight @ mean)

    @property
    def rates(self) -> Float[Tensor, " d_and_1"]:
        """The eigenvalues of M, smallest first: a mode decays like exp(-2 rate tau)."""
        return self._modes[0]

    @property
    def largest_learning_rate(self) -> float:
        """Gradient descent converges below 1 / (largest rate)."""
        return 1 / float(self.rates[-1])

    def flow(self, start: AffineMap, time: Number) -> AffineMap:
        """The map after the training time `time` = learning rate x steps, under gradient flow.

        Raises InputError for a negative time and for a start of another dimension.
        """
        tau = checked_times(torch.tensor([time], dtype=torch.float64), "time")
        return self._with_factors(start, torch.exp(-2 * self.rates * tau))

    def descent(self, start: AffineMap, learning_rates: Float[Tensor, " steps"]) -> AffineMap:
        """The map after one step of gradient descent with each of the learning rates; exact. Errors as in `flow`."""
        eta = checked_times(learning_rates, "learning_rates")[:, None]
        return self._with_factors(start, (1 - 2 * eta * self.rates).prod(0))

    @property
    def _covariance(self) -> Float[Tensor, "d d"]:
        vectors, tail = self.distribution.eigenvectors, self.distribution.tail_variance
        eye = torch.eye(self.distribution.dimension, dtype=torch.float64)
        return (vectors * (self.distribution.eigenvalues - tail)) @ vectors.T + tail * eye

    @cached_property
    def _modes(self) -> tuple[Tensor, Tensor]:
        """Eigenvalues and eigenvectors of M."""
        mean = self.distribution.mean.flatten()
        d = len(mean)
        moments = torch.eye(d + 1, dtype=torch.float64)
        moments[:d, :d] *= self.sigma**2
        moments[:d, :d] += self.alpha**2 * (self._covariance + torch.outer(mean, mean))
        moments[:d, d] = moments[d, :d] = self.alpha * mean
        rates, modes = torch.linalg.eigh(moments)
        return rates, modes

    def _with_factors(self, start: AffineMap, factors: Tensor) -> AffineMap:
        """V* + (V_0 - V*) U diag(factors) U^T; InputError for a start of another dimension."""
        d = self.distribution.dimension
        if tuple(start.weight.shape) != (d, d):
            raise InputError(f"start: expected a map in dimension {d}, got {tuple(start.weight.shape)}")
        best, modes = self.optimum, self._modes[1]
        final = torch.cat([best.weight, best.bias[:, None]], 1)
        difference = torch.cat([start.weight.double(), start.bias.double()[:, None]], 1) - final
        learned = final + (difference @ modes * factors) @ modes.T
        return AffineMap(learned[:, :d], learned[:, d])
