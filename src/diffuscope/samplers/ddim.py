r"""DDIM: the probability-flow ODE solved exactly with the denoiser frozen over the step.

In :math:`y = x/\alpha` and :math:`\tilde\sigma = \sigma/\alpha` the ODE is
:math:`dy/d\tilde\sigma = (y - D)/\tilde\sigma`. With D frozen over the step from t to s its solution is a straight
line; in x,

.. math::  x_s = \alpha_s D + \frac{\sigma_s}{\sigma_t}(x_t - \alpha_t D) .

Nothing divides by alpha, so a start at alpha(t) = 0 and an end at sigma(s) = 0 (where x_s = alpha_s D) are ordinary
steps. The other deterministic samplers are this step with a better D, or use it where their own formula is singular.
"""

from dataclasses import dataclass

from diffuscope.denoisers import Batch, Denoiser

from .contract import State
from .noise import Noise
from .schedule_values import Instant


def frozen_denoised_step(x_t: Batch, denoised: Batch, t: Instant, s: Instant) -> Batch:
    """x_s = alpha_s D + (sigma_s / sigma_t)(x_t - alpha_t D); needs sigma(t) > 0."""
    kept = s.sigma / t.sigma
    return kept * x_t + (s.alpha - kept * t.alpha) * denoised


@dataclass(frozen=True)
class DDIM:
    r"""Deterministic DDIM.

    .. math::  x_s = \alpha_s D(x_t, t) + \frac{\sigma_s}{\sigma_t}\left(x_t - \alpha_t D(x_t, t)\right)

    Order 1, one evaluation per step; exact in one step on a single data point. It is Euler's method in sigma/alpha.

    Source: Song, Meng & Ermon 2021, *Denoising Diffusion Implicit Models*, https://arxiv.org/abs/2010.02502 (eq. 12
    with sigma = 0; their alpha is our alpha^2).

    >>> import torch
    >>> from diffuscope import DDIM, ExactDenoiser, Gaussian, RectifiedFlow
    >>> from diffuscope.samplers import sample
    >>> point = ExactDenoiser(Gaussian.isotropic(torch.tensor([4.0]), 0.0), RectifiedFlow())
    >>> x_s = sample(DDIM(), point, torch.tensor([[3.0]]), torch.tensor([0.5, 0.25]))
    >>> round(float(x_s), 4)  # eps = (3 - 0.5 * 4) / 0.5 = 2, and 0.75 * 4 + 0.25 * 2
    3.5
    """

    order = 1
    stochastic = False
    nfe_per_step = 1

    def step(self, denoiser: Denoiser, state: State, s: Instant, noise: Noise | None = None) -> State:  # noqa: ARG002
        """One step with the denoiser frozen at time t."""
        denoised = denoiser(state.x_t, state.t)
        return State(s, frozen_denoised_step(state.x_t, denoised, state.at, s))
