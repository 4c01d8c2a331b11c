r"""Which jumps of a spike-and-slab process are not zero, given linear Gaussian data: Gibbs sampling of pairs.

With y = G u + r eps and indicators z, u_j ~ N(0, s^2) where z_j = 1 and 0 elsewhere, u is integrated out:

.. math::
    p(z \mid y) \propto \prod_j p^{z_j}(1-p)^{1-z_j}\;
    N\bigl(y;\, 0,\, r^2 I + s^2 \textstyle\sum_j z_j g_j g_j^T\bigr).

A sweep draws (z_j, z_{j+1}) jointly from its four states given the others, for every j; the pair lets a jump move to
the neighboring place in one step, which single indicators cannot do without an intermediate state that the data
exclude.
With A the inverse of the covariance without the two columns G_2,

.. math::
    \frac{p(y \mid z_2)}{p(y \mid 0)} = |I + s^2 K|^{-1/2} \exp\tfrac{s^2}{2} b^T (I + s^2 K)^{-1} b, \qquad
    K = G_2^T A G_2,\ b = G_2^T A y, \text{ rows and columns of } z_2 = 1 .

With the two columns included as they are, C = s^2 diag(z_2), the inverse A' and K' = G_2^T A' G_2 give K =
(I - K' C)^{-1} K' and b = (I - K' C)^{-1} b'. A' is updated where a pair has changed, and computed anew once per sweep.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from .levy import BernoulliGaussJumps


def sweep(
    z: Float[Tensor, "batch n"],
    y: Float[Tensor, "batch m"],
    G: Float[Tensor, "m n"],
    noise: float,
    law: BernoulliGaussJumps,
    *,
    generator: torch.Generator,
) -> Float[Tensor, "batch n"]:
    """New indicators (0 or 1), from a kernel that leaves p(z | y) invariant."""
    z, n, s2 = z.clone(), z.shape[1], law.scale**2
    A = torch.linalg.inv((s2 * z[:, None] * G) @ G.T + noise**2 * torch.eye(len(G), dtype=torch.float64))
    uniforms = torch.rand(max(n - 1, 1), len(z), dtype=torch.float64, generator=generator)
    log_odds = math.log(law.rate / (1 - law.rate))
    for j in range(max(n - 1, 1)):
        pair = slice(j, min(j + 2, n))
        AG, old = A @ G[:, pair], z[:, pair].clone()
        K, b = G[:, pair].T @ AG, torch.einsum("bmk,bm->bk", AG, y)
        without = torch.linalg.inv(torch.eye(K.shape[1], dtype=K.dtype) - s2 * K * old[:, None])
        z[:, pair] = _draw(s2 * without @ K, math.sqrt(s2) * (without @ b[..., None])[..., 0], log_odds, uniforms[j])
        moved = (z[:, pair] != old).any(1).nonzero()[:, 0]
        if len(moved):
            A[moved] = _changed(A[moved], AG[moved], K[moved], s2 * (z[moved, pair] - old[moved]))
    return z


def log_evidence(z: Tensor, y: Tensor, G: Tensor, noise: float, law: BernoulliGaussJumps) -> Tensor:
    """log p(z) p(y | z) without the constant of 2 pi, by a Cholesky factorization; (batch,)."""
    S = (law.scale**2 * z[:, None] * G) @ G.T + noise**2 * torch.eye(len(G), dtype=torch.float64)
    factor = torch.linalg.cholesky(S)
    white = torch.linalg.solve_triangular(factor, y.expand(len(z), -1)[..., None], upper=False)[..., 0]
    prior = (z * math.log(law.rate) + (1 - z) * math.log(1 - law.rate)).sum(1)
    return prior - factor.diagonal(dim1=1, dim2=2).log().sum(1) - 0.5 * white.square().sum(1)


def _changed(A: Tensor, AG: Tensor, K: Tensor, c: Tensor) -> Tensor:
    """The inverse of A^{-1} + G diag(c) G^T, given A G and K = G^T A G (Woodbury)."""
    middle = c[:, :, None] * torch.linalg.inv(torch.eye(K.shape[1], dtype=K.dtype) + K * c[:, None])
    return A - AG @ middle @ AG.mT


def _draw(K: Tensor, b: Tensor, log_odds: float, uniform: Tensor) -> Tensor:
    """One of the states of a pair (or of one indicator), (batch, 2)."""
    single = log_odds - 0.5 * torch.log1p(K.diagonal(dim1=1, dim2=2))
    single = single + 0.5 * b**2 / (1 + K.diagonal(dim1=1, dim2=2))
    states = [torch.zeros_like(single[:, 0]), *single.unbind(1)]
    table = torch.tensor([[0.0], [1.0]], dtype=K.dtype)
    if b.shape[1] == 2:
        d0, d1, off = 1 + K[:, 0, 0], 1 + K[:, 1, 1], K[:, 0, 1]
        determinant = d0 * d1 - off**2
        quadratic = (d1 * b[:, 0] ** 2 - 2 * off * b[:, 0] * b[:, 1] + d0 * b[:, 1] ** 2) / determinant
        states.append(2 * log_odds - 0.5 * determinant.log() + 0.5 * quadratic)
        table = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], dtype=K.dtype)
    below = torch.stack(states, 1).softmax(1).cumsum(1)
    return table[(uniform[:, None] > below[:, :-1]).sum(1)]
