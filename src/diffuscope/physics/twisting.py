r"""A twisting function for any prior and any observation: what h(D) leaves open, measured on a pilot run.

The likelihood of a noisy state, :math:`p(y | x_t) = E[p(y | x_0) | x_t]`, is taken as Gaussian,

.. math::  \psi_t(x_t) = N\!\left(y;\; h(D(x_t)) + b_t,\; S_t + r^2 I\right),

with the mean :math:`b_t` and covariance :math:`S_t` of :math:`h(x_0) - h(D(x_t))`, over draws x_0 of the prior chain
noised to the level. For a linear h, b = 0 and :math:`S_t = H\,E[\mathrm{Cov}(x_0 | x_t)] H^T`: for a Gaussian prior,
whose posterior covariance is the same for all x_t, psi is exact but for the error of measuring S. No Jacobian is
formed, and h may be anything. The pilot is independent of the run, so that psi is fixed in it.

With m numbers observed and M pilot draws, S is shrunk toward its diagonal by m / (m + M): full rank, and close to the
sample covariance where the draws are many.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.denoisers import Batch
from diffuscope.errors import InputError
from diffuscope.samplers.noise import Noise
from diffuscope.samplers.schedule_values import Instant

from .observations import Observation, misfit
from .prior_chains import PriorChain

PILOT = 256


@dataclass(frozen=True, eq=False)
class PilotTwist:
    """log psi_t at the levels of one run; made by `measured`."""

    observation: Observation
    y: Float[Tensor, " m"]
    bias: dict[float, Tensor]  # b_t by the time of the level
    cholesky: dict[float, Tensor]  # of S_t + r^2 I
    nfe: int

    @classmethod
    def measured(
        cls,
        chain: PriorChain,
        observation: Observation,
        y: Float[Tensor, " m"],
        levels: tuple[Instant, ...],
        like: Batch,
        generator: torch.Generator,
        draws: int = PILOT,
    ) -> "PilotTwist":
        """From `draws` fields of the chain, in the dtype of `like`, noised to every level."""
        noise = Noise(generator)
        with torch.no_grad():
            x_0, nfe = chain.draw(like.expand(draws, *like.shape[1:]), levels, noise)
            values = observation(x_0).double()
            m = values.shape[1]
            misfit(values, y)  # refuses a y of another size
            diagonal = torch.eye(m, dtype=torch.float64)
            bias, cholesky = {}, {}
            for at in levels:
                x_t = at.alpha * x_0 + at.sigma * noise.normal(x_0)
                left = values - observation(chain.denoiser(x_t, at.t)).double()
                if not bool(left.isfinite().all()):
                    raise InputError(
                        f"observation: expected finite values of fields of the prior and of their denoised states, got "
                        f"NaN or infinity at t = {at.t:.3g}"
                    )
                bias[at.t] = left.mean(0)
                S = (left - bias[at.t]).T @ (left - bias[at.t]) / (draws - 1)
                shrink = m / (m + draws)
                S = (1 - shrink) * S + shrink * S * diagonal + observation.noise**2 * diagonal
                cholesky[at.t] = torch.linalg.cholesky(S)
        return cls(observation, y.double().flatten(), bias, cholesky, nfe + draws * len(levels))

    def __call__(self, x_t: Batch, denoised: Batch, t: float) -> Float[Tensor, " batch"]:  # noqa: ARG002
        L = self.cholesky[t]
        off = self.y - self.bias[t] - self.observation(denoised).double()
        white = torch.linalg.solve_triangular(L, off.T, upper=False)
        constant = L.diagonal().log().sum() + len(L) / 2 * math.log(2 * math.pi)
        return -white.square().sum(0) / 2 - constant
