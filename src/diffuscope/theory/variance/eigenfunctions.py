r"""Eigenvalues and eigenfunctions of a kernel under weighted nodes, by a Cholesky decomposition with pivots.

.. math::  A_{pq} = \sqrt{w_p\lambda_p}\, K(x_p, x_q) \sqrt{w_q\lambda_q} = L L^T, \qquad
           L^T L\, v_k = \rho_k v_k, \quad U_k = L v_k / \sqrt{\rho_k} .

The rank of L is that at which the trace that is left is rounding: a kernel of finite rank costs only its rank.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.errors import InputError

from .kernels import Kernel
from .population import Nodes

ROUNDING = 1e-13  # eigenvalues below this share of the largest are zero


def eigenfunctions(
    name: str, kernel: Kernel, nodes: Nodes, root_weights: Float[Tensor, " nodes"]
) -> tuple[Float[Tensor, " modes"], Float[Tensor, "nodes modes"]]:
    """Eigenvalues, largest first, and eigenvectors of A = sqrt(w lambda) K sqrt(w lambda) at the nodes.

    A = L L^T by Cholesky's decomposition with pivots, until the trace that is left is rounding: the matrix of all
    pairs is never formed.
    """
    x, t, count = nodes.points, nodes.times, len(nodes.points)
    left = pair_by_pair(kernel, x, t, x, t) * root_weights**2
    trace, columns = float(left.sum()), left.new_zeros(count, 0)
    if not 0 < trace < math.inf or bool((left < 0).any()):
        raise InputError(f"{name}: expected a positive semidefinite kernel with a finite trace, got {trace:.3g}")
    while columns.shape[1] < count and float(left.sum()) > ROUNDING / 10 * trace:
        p = int(left.argmax())
        row, column = kernel(x[p : p + 1], t[p : p + 1], x, t)[0], kernel(x, t, x[p : p + 1], t[p : p + 1])[:, 0]
        if not torch.allclose(row, column, rtol=1e-9, atol=1e-12):
            raise InputError(f"{name}: expected a symmetric kernel, got two values for a pair of points")
        new = (column * root_weights * root_weights[p] - columns @ columns[p]) / left[p].sqrt()
        columns, left = torch.cat([columns, new[:, None]], 1), left - new**2
        if float(left.min()) < -1e-9 * trace:
            raise InputError(f"{name}: expected a positive semidefinite kernel, got a negative variance")
        left = left.clamp(min=0)
    rho, V = torch.linalg.eigh(columns.T @ columns)
    kept = rho > ROUNDING * rho[-1]
    rho, V = rho[kept].flip(0), V[:, kept].flip(1)
    return rho, columns @ V / rho.sqrt()


def pair_by_pair(kernel: Kernel, x: Tensor, t: Tensor, y: Tensor, u: Tensor) -> Float[Tensor, " batch"]:
    """K((x_i, t_i), (y_i, u_i)): the diagonal of small blocks."""
    blocks = zip(*(values.split(64) for values in (x.double(), t, y.double(), u)), strict=True)
    return torch.cat([kernel(*block).diagonal() for block in blocks])
