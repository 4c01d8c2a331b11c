r"""Entropy along a diffusion: its rates, and closed forms for Gaussians.

For a density :math:`\rho_t` of :math:`dX = f X dt + g dB` in d dimensions with score s, and a second one
:math:`\gamma_t` that solves the same equation,

.. math::
    J = E|s|^2, \qquad
    \frac{d}{dt} H(\rho_t) = d f + \tfrac12 g^2 J \ (\text{de Bruijn}), \qquad
    \frac{d}{dt}\mathrm{KL}(\rho_t\|\gamma_t) = -\tfrac12 g^2\, E_\rho|s - s_\gamma|^2 .

Heat flow with diffusivity D is f = 0, g^2 = 2 D: dH/dt = D J. For a variance-preserving diffusion
:math:`\gamma = N(0, I)` is stationary, and the second rate is minus the entropy production. Always
:math:`d^2/\mathrm{tr}\,C \le \mathrm{tr}\,C^{-1} \le J \le d/\sigma^2` with C the covariance of :math:`\rho_t`; the
Gaussian has the smallest J of all distributions with its covariance (Stam 1959).

With :math:`C_p = \alpha^2\Sigma_p + \sigma^2 I` and :math:`\Delta = \alpha(\mu_p - \mu_q)`, Gaussians p and q have

.. math::
    H = \tfrac12 \log\det 2\pi e C_p, \qquad
    \mathrm{KL}(p\|q) = \tfrac12\left[\mathrm{tr}\,C_q^{-1}C_p - d + \log\frac{\det C_q}{\det C_p}
        + \Delta^T C_q^{-1}\Delta\right],

.. math::
    J = \mathrm{tr}\,C_p^{-1}, \qquad
    E_p|s_p - s_q|^2 = \mathrm{tr}\,C_q^{-2}C_p - 2\,\mathrm{tr}\,C_q^{-1} + \mathrm{tr}\,C_p^{-1}
        + |C_q^{-1}\Delta|^2 .
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.errors import InputError
from diffuscope.exact import Gaussian
from diffuscope.schedules import Schedule

Number = float | int


def entropy_rate(schedule: Schedule, t: Number, fisher: Number, dimension: int) -> float:
    """dH/dt = d f + g^2 J / 2 in nats per unit of t.

    >>> from diffuscope.densities import entropy_rate
    >>> from diffuscope.schedules import VP
    >>> round(entropy_rate(VP(0.5, 2.5), 0.5, fisher=5.0, dimension=3), 6)  # beta = 1.5: -3 * 0.75 + 1.5 * 5 / 2
    1.5
    """
    return dimension * float(schedule.f(t)) + float(schedule.g_squared(t)) * fisher / 2


def relative_entropy_rate(schedule: Schedule, t: Number, relative_fisher: Number) -> float:
    """d KL/dt = -g^2 E|s - s'|^2 / 2 <= 0 in nats per unit of t, for two distributions under the same diffusion.

    >>> from diffuscope.densities import relative_entropy_rate
    >>> from diffuscope.schedules import VE
    >>> relative_entropy_rate(VE(), 3.0, relative_fisher=0.5)  # g^2 = 2 t: -6 * 0.5 / 2
    -1.5
    """
    return -float(schedule.g_squared(t)) * relative_fisher / 2


def gaussian_entropy(distribution: Gaussian, alpha: Number, sigma: Number) -> float:
    """The differential entropy of the noised Gaussian in nats."""
    spectrum = _variances(distribution, alpha, sigma)
    return float(spectrum.log().sum() / 2) + distribution.dimension / 2 * math.log(2 * math.pi * math.e)


def gaussian_fisher_information(distribution: Gaussian, alpha: Number, sigma: Number) -> float:
    """J = tr (alpha^2 Sigma + sigma^2 I)^-1."""
    return float((1 / _variances(distribution, alpha, sigma)).sum())


def gaussian_relative_entropy(distribution: Gaussian, other: Gaussian, alpha: Number, sigma: Number) -> float:
    """KL(noised `distribution` || noised `other`) in nats. Raises InputError for events of different shapes."""
    v_p, v_q = _variances(distribution, alpha, sigma), _variances(other, alpha, sigma)
    along, shift = _inverse_applied(distribution, other, alpha, sigma)
    moved = alpha * (distribution.mean - other.mean)
    trace = _trace_with(distribution, v_p, along[1], float((1 / v_q).sum()))
    log_ratio = float(v_q.log().sum() - v_p.log().sum())
    return (trace - distribution.dimension + log_ratio + float((shift * moved.flatten()).sum())) / 2


def gaussian_relative_fisher(distribution: Gaussian, other: Gaussian, alpha: Number, sigma: Number) -> float:
    """E|s - s'|^2 under the noised `distribution`. Raises InputError for events of different shapes."""
    v_p, v_q = _variances(distribution, alpha, sigma), _variances(other, alpha, sigma)
    along, shift = _inverse_applied(distribution, other, alpha, sigma)
    trace = _trace_with(distribution, v_p, along[0], float((1 / v_q**2).sum()))
    return trace - 2 * float((1 / v_q).sum()) + float((1 / v_p).sum()) + float(shift.square().sum())


def _variances(distribution: Gaussian, alpha: Number, sigma: Number) -> Float[Tensor, " D"]:
    """The eigenvalues of alpha^2 Sigma + sigma^2 I, those of the tail included. InputError for a bad level."""
    if not (0 <= alpha < math.inf and 0 < sigma < math.inf):
        raise InputError(f"alpha, sigma: expected alpha >= 0 and sigma > 0, got {alpha} and {sigma}")
    values, D = distribution.eigenvalues, distribution.dimension
    tail = values.new_full((D - len(values),), distribution.tail_variance)
    return alpha**2 * torch.cat([values, tail]) + sigma**2


def _inverse_applied(distribution: Gaussian, other: Gaussian, alpha: Number, sigma: Number) -> tuple[Tensor, Tensor]:
    """(|C_q^-1 u|^2, u^T C_q^-1 u) for every eigenvector u of `distribution`, as (2, k), and C_q^-1 Delta."""
    if distribution.event_shape != other.event_shape:
        raise InputError(f"other: expected events of shape {distribution.event_shape}, got {other.event_shape}")
    units = distribution.eigenvectors.T
    vectors = torch.cat([units, alpha * (distribution.mean - other.mean).reshape(1, -1)])
    points = (vectors + alpha * other.mean.flatten()).reshape(-1, *distribution.event_shape)
    applied = -other.score(points, alpha, sigma).flatten(1)  # the score of q is -C_q^-1 (x - alpha mu_q)
    return torch.stack([applied[:-1].square().sum(1), (applied[:-1] * units).sum(1)]), applied[-1]


def _trace_with(distribution: Gaussian, v_p: Tensor, along: Tensor, trace: float) -> float:
    """tr (A C_p) from u_k^T A u_k `along` the eigenvectors of p and, for its tail, tr A."""
    k, tail = len(distribution.eigenvalues), v_p[-1]
    if k == distribution.dimension:
        return float((v_p * along).sum())
    return float(((v_p[:k] - tail) * along).sum() + tail * trace)
