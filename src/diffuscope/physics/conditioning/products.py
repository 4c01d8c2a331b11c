r"""Products with the posterior covariance of a denoiser, which is its Jacobian in other units.

.. math::  C_t = \mathrm{Cov}(x_0 \mid x_t) = \frac{\sigma^2}{\alpha}\,\nabla D(x_t),

symmetric for the denoiser of a distribution (Efron 2011). An `ExactDenoiser` knows it in closed form, also at
alpha = 0; for a network :math:`J^T v` is one backward pass, and :math:`J v` one through the graph of that pass.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from diffuscope.denoisers import Batch, BatchTime, Denoiser, ExactDenoiser, over_events
from diffuscope.errors import InputError

from .conditioned import Conditioned

Product = Callable[[Tensor], Tensor]


@runtime_checkable
class KnowsMean(Protocol):
    """A posterior covariance whose computation has E[x_0 | x_t] in it."""

    def mean(self) -> Batch: ...


@dataclass(frozen=True, eq=False)
class Linearized:
    """D(x_t), and v -> C_t^T v, (batch, *event), by one backward pass or in closed form."""

    denoised: Batch
    transposed: Product
    symmetric: Product  # (C_t + C_t^T) v / 2


def linearized(conditioned: Conditioned, x_t: Batch, t: BatchTime) -> Linearized:
    """The denoiser of `conditioned` at x_t. Raises InputError at alpha = 0, unless the denoiser is exact."""
    alphas, sigmas = conditioned.levels(x_t, t)
    denoiser = conditioned.denoiser
    if isinstance(denoiser, ExactDenoiser):
        covariance = denoiser.distribution.posterior_covariance(x_t, alphas, sigmas)
        known = isinstance(covariance, KnowsMean)  # done twice otherwise
        denoised = covariance.mean().to(x_t.dtype) if known else denoiser(x_t, t)
        return Linearized(denoised, covariance.matvec, covariance.matvec)
    if bool((alphas == 0).any()):
        raise InputError("t: expected alpha > 0, where a network's Jacobian tells its covariance, got alpha = 0")
    return _by_autograd(denoiser, x_t, t, over_events(sigmas**2 / alphas, x_t))


def _by_autograd(denoiser: Denoiser, x_t: Batch, t: BatchTime, scale: Tensor) -> Linearized:
    x = x_t.detach().requires_grad_()
    with torch.enable_grad():
        denoised = denoiser(x, t)
        if not denoised.requires_grad:
            raise InputError("denoiser: expected one that autograd can differentiate, got one without a gradient")

    def transposed(v: Tensor) -> Tensor:
        return scale * torch.autograd.grad(denoised, x, v.to(denoised), retain_graph=True)[0]

    def symmetric(v: Tensor) -> Tensor:
        with torch.enable_grad():
            w = v.detach().to(denoised).requires_grad_()
            back = torch.autograd.grad(denoised, x, w, create_graph=True)[0]  # J^T w, linear in w
        forward = torch.autograd.grad(back, w, v.to(denoised))[0]
        return scale * (back.detach() + forward) / 2

    return Linearized(denoised.detach(), transposed, symmetric)
