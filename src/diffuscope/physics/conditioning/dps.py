r"""Diffusion posterior sampling: the likelihood of the denoised field, with the denoised field's covariance left out.

.. math::
    s_y = s + w\,\nabla_{x_t} \log N(y; h(D), r^2 I)
    \quad\Leftrightarrow\quad
    D_y = D + \frac{w}{r^2}\, C_t\, \nabla h(D)^T (y - h(D)), \qquad C_t = \frac{\sigma^2}{\alpha}\,\nabla D^T .

The exact covariance of y given :math:`x_t` is :math:`H C_t H^T + r^2 I` (Gaussian prior, linear h), so that DPS trusts
y too early. It is no score of a diffusion, and different samplers end at different distributions. Prior N(0, v), h = 1,
VE from sigma = infinity, w = 1: the family of reverse SDEs with :math:`\kappa = (1 + \eta^2)/2` ends at

.. math::
    \mathrm{Var} = \eta^2 v \int_0^1 q^{2\kappa - 2} e^{-2\kappa v (1 - q)/r^2}\,dq
                   + [\eta = 0]\; v\, e^{-v/r^2}, \qquad
    \mathrm{mean} = \frac{\kappa v y}{r^2} \int_0^1 q^{\kappa - 1} e^{-\kappa v (1 - q)/r^2}\,dq ;

for the SDE (eta = 1) variance :math:`\frac{r^2}{2}(1 - e^{-2v/r^2})` and mean :math:`y\,(1 - e^{-v/r^2})`. At v = 1,
y = 1, r = 0.3 the SDE has mean 1.000 and variance 0.045, the probability-flow ODE (eta = 0) mean 1.136 and variance
1.5e-5, and the posterior mean 0.917 and variance 0.0826.

Source: Chung et al. 2023 (arXiv:2209.14687).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from diffuscope.denoisers import Batch, BatchTime
from diffuscope.errors import InputError
from diffuscope.physics.observations import misfit

from .conditioned import Conditioned
from .products import linearized


@dataclass(frozen=True, eq=False)
class DPS(Conditioned):
    """D + weight times the gradient of the likelihood of D, for any differentiable h and r > 0.

    `weight` = 1 is the likelihood itself; exact where C_t vanishes beside r^2, that is nowhere above sigma = 0.
    Raises InputError for r = 0 (use `NormalizedDPS` or `Projected`) and a weight that is negative or not finite.

    >>> import torch
    >>> from diffuscope.denoisers import ExactDenoiser
    >>> from diffuscope.exact import Gaussian
    >>> from diffuscope.physics import DPS, at_nodes
    >>> from diffuscope.schedules import RectifiedFlow
    >>> prior = ExactDenoiser(Gaussian.isotropic(torch.zeros(1), 3.0), RectifiedFlow())  # at 0.5: D = 1.5 x_t, C = 3/4
    >>> guided = DPS(prior, at_nodes(torch.tensor([0]), (1,), noise=2.0), torch.tensor([7.0]), weight=8)
    >>> round(float(guided(torch.tensor([[2.0]]), 0.5)), 6)  # 3 + 8 / 4 x 0.75 (7 - 3)
    9.0
    """

    weight: float | int = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        _require_weight("weight", self.weight)
        if self.observation.noise == 0:
            raise InputError("observation: expected noise > 0, which DPS divides by, got 0")

    def __call__(self, x_t: Batch, t: BatchTime) -> Batch:
        """D_y(x_t)."""
        at = linearized(self, x_t, t)
        _, gradient = misfit_gradient(self, at.denoised)
        return at.denoised + self.weight / self.observation.noise**2 * at.transposed(gradient)


@dataclass(frozen=True, eq=False)
class NormalizedDPS(Conditioned):
    r"""DPS with the published step size: the score changes by :math:`-(\zeta/|e|)\,\nabla_{x_t}|e|^2`, e = y - h(D).

    :math:`D_y = D + 2\zeta\,C_t \nabla h^T e/|e|`, whatever the noise of the observation. The paper adds
    :math:`-(\zeta'/|e|)\nabla|e|^2` once per step of DDPM instead, which is this change of the score with
    :math:`\zeta = \zeta'/\beta_i`. Raises InputError for a zeta that is negative or not finite.

    >>> import torch
    >>> from diffuscope.denoisers import ExactDenoiser
    >>> from diffuscope.exact import Gaussian
    >>> from diffuscope.physics import LinearObservation, NormalizedDPS
    >>> from diffuscope.schedules import RectifiedFlow
    >>> prior = ExactDenoiser(Gaussian.isotropic(torch.zeros(1), 3.0), RectifiedFlow())  # at 0.5: D = 1.5 x_t, C = 3/4
    >>> guided = NormalizedDPS(prior, LinearObservation(torch.tensor([[5.0]]), (1,)), torch.tensor([1.0]), zeta=0.2)
    >>> round(float(guided(torch.tensor([[2.0]]), 0.5)), 6)  # 3 - 2 x 0.2 x 0.75 x 5, as y < 5 D
    1.5
    """

    zeta: float | int = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        _require_weight("zeta", self.zeta)

    def __call__(self, x_t: Batch, t: BatchTime) -> Batch:
        """D_y(x_t)."""
        at = linearized(self, x_t, t)
        e, gradient = misfit_gradient(self, at.denoised)
        size = e.norm(dim=1).clamp_min(torch.finfo(e.dtype).tiny).to(gradient)
        direction = gradient / size.reshape(-1, *[1] * (gradient.ndim - 1))
        return at.denoised + 2 * self.zeta * at.transposed(direction)


def misfit_gradient(conditioned: Conditioned, denoised: Batch) -> tuple[Tensor, Batch]:
    """e = y - h(D), and the gradient of -|e|^2/2 with respect to D: nabla h^T e."""
    y = conditioned.targets(denoised)
    with torch.enable_grad():
        D = denoised.detach().requires_grad_()
        e = misfit(conditioned.observation(D), y)
        gradient = torch.autograd.grad(-e.square().sum() / 2, D)[0]
    return e.detach(), gradient


def _require_weight(name: str, weight: float | int) -> None:
    if not 0 <= weight < float("inf"):
        raise InputError(f"{name}: expected a finite number >= 0, got {weight}")
