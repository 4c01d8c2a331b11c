r"""Gradient descent on linear denoisers in training time, with the library's own loss, and the generated variances.

With learning rates :math:`\eta_n = \min(\eta_{max}, \max(\eta_0, \epsilon\tau_n))` a step is a small share
:math:`\epsilon` of the elapsed training time, so that descent stays close to gradient flow,

.. math::  |w_n - w(\tau_n)| \approx |Q - w^*|\, \epsilon\, \tfrac12 x^2 e^{-x}, \quad x = 2 s\tau
           \qquad (\le 0.27\,\epsilon\,|Q - w^*|),

until stability at the largest rate caps them. The loss averages over coordinates and noise levels; the learning rate
handed to the optimizer undoes that, so that times are those of the theory. Weights are looked at after every 12th step.

With Gauss-Legendre nodes in :math:`\log\sigma` as noise levels, the map of the probability-flow ODE from
:math:`\sigma_T` to :math:`\sigma_0` is

.. math::  G = \exp\Big[\sum_i \omega_i (W_{\sigma_i} - I)\Big], \qquad
           \tilde\lambda_k = \sigma_T^2\, u_k^T G G^T u_k

(the W commute).

Source: Wang & Pehlevan 2025, https://arxiv.org/abs/2503.03206; its Lemma 4.1 prints G with the other sign.
"""

import math
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.denoisers import LinearDenoiser, SymmetricLinearDenoiser
from diffuscope.training import PlainWeight, denoising_loss

LinearModel = LinearDenoiser | SymmetricLinearDenoiser
EVERY = 12  # steps between two looks at the weights


def learning_rates(share: float, first: float, cap: float, end: float) -> Float[Tensor, " steps"]:
    """Steps in training time, each `share` of the time that has passed, between `first` and `cap`, up to `end`."""
    rates, time = [], 0.0
    while time < end:
        rates.append(min(cap, max(first, share * time)))
        time += rates[-1]
    return torch.tensor(rates, dtype=torch.float64)


def logged_steps(rates: Float[Tensor, " steps"]) -> list[int]:
    """The start, every EVERY-th step, and the last."""
    return sorted({*range(0, len(rates), EVERY), len(rates)})


def times_after(rates: Float[Tensor, " steps"]) -> Float[Tensor, " logged"]:
    """Training time at the logged steps."""
    return torch.cat([rates.new_zeros(1), rates.cumsum(0)])[logged_steps(rates)]


def descend(
    model: LinearModel, levels: Tensor, batches: Callable[[], tuple[Tensor, Tensor]], rates: Tensor
) -> Iterator[int]:
    """Plain gradient descent on `denoising_loss`, every level on the whole batch; yields the logged steps."""
    optimizer, logged, many = torch.optim.SGD(model.parameters(), lr=1.0), set(logged_steps(rates)), len(levels)
    yield 0
    for step, rate in enumerate(rates.tolist(), start=1):
        x_0, noise = batches()
        times = levels.repeat_interleave(len(x_0)) if many > 1 else levels[0]
        optimizer.param_groups[0]["lr"] = rate * x_0[0].numel() * many
        optimizer.zero_grad()
        denoising_loss(model, x_0.repeat(many, 1), times, noise.repeat(many, 1), PlainWeight()).backward()
        optimizer.step()
        if step in logged:
            yield step


def gains(weights: Iterable[Float[Tensor, "d d"]], vectors: Float[Tensor, "d modes"]) -> Float[Tensor, "_ modes"]:
    """u_k^T W u_k for every W."""
    return torch.stack([torch.einsum("dk,de,ek->k", vectors, weight, vectors) for weight in weights])


def gauss_legendre(count: int, sigma_0: float, sigma_T: float) -> tuple[Tensor, Tensor]:
    """Noise levels and their weights in log sigma."""
    u, weights = np.polynomial.legendre.leggauss(count)
    middle, half = math.log(sigma_0 * sigma_T) / 2, math.log(sigma_T / sigma_0) / 2
    return torch.from_numpy(np.exp(middle + half * u)), torch.from_numpy(half * weights)


def generated_gains(model: LinearModel, levels: Tensor, weights: Tensor, vectors: Tensor) -> Float[Tensor, " modes"]:
    """u_k^T G G^T u_k for noise levels with weights."""
    eye = torch.eye(len(vectors), dtype=torch.float64)
    maps = torch.stack([model.map_at(level)[0] - eye for level in levels.tolist()])
    moved = torch.linalg.matrix_exp(torch.einsum("n,nde->de", weights, maps))
    return (moved.T @ vectors).square().sum(0)
