r"""The exact reverse transition of a finite data set: the oracle among the stochastic samplers.

For points y_i with prior weights :math:`w^0_i` the reverse SDE (eta = 1) from t to s has the transition (Bayes' rule)

.. math::  q(x_s | x_t) = \sum_i w_i(x_t)\; N\!\left(x_s;\, m_i, \tilde\beta I\right), \qquad
           w_i \propto w^0_i\, e^{-|x_t - \alpha_t y_i|^2 / 2\sigma_t^2},

a mixture of the single-point posteriors (`ddpm`)

.. math::  m_i = \alpha_s y_i + \frac{\sigma_s}{\sigma_t} e^{-h}(x_t - \alpha_t y_i), \qquad
           \tilde\beta = \sigma_s^2\left(1 - e^{-2h}\right) .

A step draws an index from the posterior weights and is then a DDPM step with that point in place of the denoiser's
output. DDPM itself replaces the mixture by one Gaussian at its mean.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from diffuscope.denoisers import Batch, Denoiser
from diffuscope.exact import Empirical
from diffuscope.exact._posterior import Noised

from .bridge import frozen_reverse_step
from .contract import State, required
from .noise import Noise
from .schedule_values import Instant


@dataclass(frozen=True, eq=False)
class MixtureTransition:
    """Draws from the exact reverse transition of `data`, on any grid.

    The distribution is exact at every time of the grid (order 1 is declared; the error is zero). The denoiser is not
    called: a step reads the data at most twice, in chunks within the memory limit of `data`, and draws one uniform
    number per sample in addition to the Gaussian noise. Weights are float64: the error of a logit is about
    1e-16 (alpha |y| / sigma)^2. A step to sigma(s) = 0 ends on a data point, alpha_s y_i, not on alpha_s D.

    Source: Cao et al. 2025, https://arxiv.org/abs/2501.17054 (finite data); Bayes' rule.

    >>> import math, torch
    >>> from diffuscope import VE, Empirical, ExactDenoiser
    >>> from diffuscope.samplers import MixtureTransition, sample
    >>> data, times = Empirical(torch.tensor([[0.0], [2.0]])), torch.tensor([1.0, 0.6])
    >>> x_t = torch.full((50, 1), 1 + math.log(3) / 2)  # where the second point has a posterior weight of 3/4
    >>> draw, again = (torch.Generator().manual_seed(0) for _ in range(2))
    >>> x_s = sample(MixtureTransition(data), ExactDenoiser(data, VE()), x_t, times, noise=draw)
    >>> u, xi = torch.rand(50, dtype=torch.float64, generator=again), torch.randn(50, 1, generator=again)
    >>> y = torch.where(u < 1 / 4, 0.0, 2.0)[:, None]
    >>> torch.allclose(x_s, y + 0.36 * (x_t - y) + 0.6 * 0.8 * xi, atol=1e-5)  # e^-h = 3/5
    True
    """

    data: Empirical

    order = 1
    stochastic = True
    nfe_per_step = 0

    def step(self, denoiser: Denoiser, state: State, s: Instant, noise: Noise | None = None) -> State:  # noqa: ARG002
        """One draw of x_s given x_t."""
        t, x_t, noise = state.at, state.x_t, required(noise, self)
        point = posterior_draw(self.data, x_t, t, noise.uniform(x_t))
        return State(s, frozen_reverse_step(x_t, point, t, s, 1.0, noise, self))


def posterior_draw(data: Empirical, x_t: Batch, t: Instant, uniform: Tensor) -> Batch:
    """For every sample the point y_i at which the cumulative posterior weights pass its `uniform` number in (0, 1).

    One pass over the data sums the weights of every chunk; a second one, over each sample's own chunk, finds the point.
    """
    table = data._table
    flat = x_t.reshape(len(x_t), -1)
    alphas, sigmas = (torch.full((len(x_t),), at, dtype=torch.float64, device=x_t.device) for at in (t.alpha, t.sigma))
    noised = Noised.at(flat, alphas, sigmas, table.center, torch.float64)
    chunks = list(table.chunks(len(flat)))
    masses = torch.stack([table.scores(*chunk, noised.queries, noised.kappa).logsumexp(1) for chunk in chunks], dim=1)
    shares = masses.softmax(1)
    ends = shares.cumsum(1)
    target = uniform * ends[:, -1]
    chosen = (ends <= target[:, None]).sum(1).clamp_max(len(chunks) - 1)
    point = torch.empty_like(flat)
    for k, chunk in enumerate(chunks):
        rows = (chosen == k).nonzero()[:, 0]
        if len(rows):
            weights = table.scores(*chunk, noised.queries[rows], noised.kappa[rows]).softmax(1).cumsum(1)
            rest = (target[rows] - (ends[rows, k] - shares[rows, k])) / shares[rows, k]
            row = (weights <= rest[:, None] * weights[:, -1:]).sum(1).clamp_max(chunk[1] - chunk[0] - 1)
            point[rows] = table.points[chunk[0] + row].to(point.dtype)
    return point.reshape(x_t.shape)
