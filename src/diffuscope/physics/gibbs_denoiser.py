r"""The denoiser of a Levy process by Gibbs sampling: an independent check of the exact one, with a stated error.

D = E[x_0 | x_t] is the posterior mean of the observation x_t = alpha x_0 + sigma eps of every entry; its Jacobian is
:math:`\tfrac{\alpha}{\sigma^2}\,\mathrm{Cov}(x_0 \mid x_t)`, estimated from the same chains.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from diffuscope.denoisers import Batch, BatchTime
from diffuscope.denoisers.clocks import ScheduleTime
from diffuscope.schedules import Schedule

from .gibbs import GibbsPosterior, gibbs
from .levy import LevyProcess
from .observations import LinearObservation


@dataclass(frozen=True)
class GibbsDenoiser:
    """E[x_0 | x_t] at one time for all samples; the same seed gives the same numbers for the same x_t.

    Every call runs burn_in + sweeps sweeps of all chains; `posterior` has the standard errors, and refuses chains that
    have not mixed by `require_mixed`.
    """

    process: LevyProcess
    schedule: Schedule
    chains: int = 4
    burn_in: int = 100
    sweeps: int = 400
    seed: int = 0
    clock: ClassVar = ScheduleTime()

    @property
    def event_shape(self) -> tuple[int, ...]:
        """(length,)."""
        return self.process.event_shape

    def __call__(self, x_t: Batch, t: BatchTime) -> Batch:
        factor = float(self.schedule.alpha(t)) / float(self.schedule.sigma(t)) ** 2
        return _ChainMean.apply(x_t, factor, self.posterior(x_t, t))

    def posterior(self, x_t: Batch, t: BatchTime) -> GibbsPosterior:
        """The chains of x_0 given x_t."""
        H = float(self.schedule.alpha(t)) * torch.eye(self.process.length, dtype=torch.float64)
        observation = LinearObservation(H, self.event_shape, float(self.schedule.sigma(t)))
        return gibbs(
            self.process, observation, x_t.detach(), chains=self.chains, burn_in=self.burn_in, sweeps=self.sweeps,
            seed=self.seed,
        )  # fmt: skip


class _ChainMean(torch.autograd.Function):
    """x_t -> the mean of the chains; the backward pass multiplies by alpha/sigma^2 times their covariance."""

    @staticmethod
    def forward(ctx: Any, x_t: Tensor, factor: float, posterior: GibbsPosterior) -> Tensor:
        ctx.jacobian = factor * posterior.covariance if x_t.requires_grad else None
        return posterior.mean.to(x_t)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        return torch.einsum("bij,bj->bi", ctx.jacobian.to(gradient), gradient), None, None
