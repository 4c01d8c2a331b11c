r"""The digits' moments, a clock of training, and gradient descent on real modules with the library's own loss.

Learning rates follow the clock :math:`\eta_n = \min(\eta_{max}, \max(\eta_0, \epsilon\tau_n))`, so that a step is a
small share :math:`\epsilon` of the training time that has passed and gradient descent stays near gradient flow,

.. math::  |w_n - w(\tau_n)| \approx |Q - w^*|\, \epsilon\, \tfrac12 x^2 e^{-x}, \quad x = 2 s\tau
           \qquad (\le 0.27\,\epsilon\,|Q - w^*|),

until stability at the largest rate caps them. The loss averages over coordinates and noise levels; the learning rate
handed to the optimizer undoes that, so that times are those of the theory.

Source: Wang & Pehlevan 2025, https://arxiv.org/abs/2503.03206.
"""

from collections.abc import Callable, Iterator
from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.data import load_data
from diffuscope.denoisers import LinearDenoiser, SymmetricLinearDenoiser
from diffuscope.exact import Gaussian
from diffuscope.training import PlainWeight, denoising_loss

PAPER = "Wang & Pehlevan 2025, https://arxiv.org/abs/2503.03206"
EVERY = 12  # steps between two looks at the weights
LinearModel = LinearDenoiser | SymmetricLinearDenoiser
Batches = Callable[[], tuple[Tensor, Tensor]]


@cache
def digits() -> Float[Tensor, "n 64"]:
    """The training half of scikit-learn's digits as vectors in [-1, 1], float64."""
    train = load_data("digits").in_range(-1.0, 1.0).train
    return train.double().reshape(len(train), -1)


@cache
def digits_law() -> Gaussian:
    """Their mean and covariance (with 1/n)."""
    rows = digits()
    return Gaussian.from_covariance(rows.mean(0), torch.cov(rows.mT, correction=0))


def centered(law: Gaussian) -> Gaussian:
    """The same covariance around 0."""
    return Gaussian(torch.zeros_like(law.mean), law.eigenvectors, law.eigenvalues, law.tail_variance)


def learning_rates(share: float, first: float, cap: float, end: float) -> Float[Tensor, " steps"]:
    """Steps in training time, each `share` of the time that has passed, between `first` and `cap`, up to `end`."""
    rates, time = [], 0.0
    while time < end:
        rates.append(min(cap, max(first, share * time)))
        time += rates[-1]
    return torch.tensor(rates, dtype=torch.float64)


def logged_steps(steps: int) -> list[int]:
    """The start, every EVERY-th step, and the last."""
    return sorted({*range(0, steps, EVERY), steps})


def times_after(rates: Tensor) -> Float[Tensor, " logged"]:
    """Training time at the logged steps."""
    passed = torch.cat([rates.new_zeros(1), rates.cumsum(0)])
    return passed[logged_steps(len(rates))]


def descend(model: LinearModel, levels: Tensor, batches: Batches, rates: Tensor) -> Iterator[None]:
    """Plain gradient descent on `denoising_loss`, every level on the whole batch; yields at every logged step."""
    optimizer, logged = torch.optim.SGD(model.parameters(), lr=1.0), set(logged_steps(len(rates)))
    yield
    for step, rate in enumerate(rates.tolist(), start=1):
        x_0, noise = batches()
        many = len(levels)
        times = levels.repeat_interleave(len(x_0)) if many > 1 else levels[0]
        optimizer.param_groups[0]["lr"] = rate * x_0[0].numel() * many
        optimizer.zero_grad()
        denoising_loss(model, x_0.repeat(many, 1), times, noise.repeat(many, 1), PlainWeight()).backward()
        optimizer.step()
        if step in logged:
            yield


def gain_of(weight: Float[Tensor, "d d"], vectors: Float[Tensor, "d modes"]) -> Float[Tensor, " modes"]:
    """u_k^T W u_k."""
    return torch.einsum("dk,de,ek->k", vectors, weight, vectors)


def off_diagonal(weight: Float[Tensor, "d d"], vectors: Float[Tensor, "d modes"]) -> float:
    """The largest |u_j^T W u_k|, j other than k: how far the components are from learning apart."""
    turned = vectors.T @ weight @ vectors
    return float((turned - turned.diag().diag()).abs().max())


def spread(count: int, modes: int) -> list[int]:
    """`count` of `modes` places, from the first to the last."""
    return sorted({round(place) for place in torch.linspace(0, modes - 1, count).tolist()})
