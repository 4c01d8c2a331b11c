r"""Sparse LU factors, and the inverse of a linearized equation applied to batches.

A matrix whose kernel is the constants is bordered by the weights w of the nodes,

.. math::  \begin{pmatrix} A & 1 \\ w^T & 0 \end{pmatrix} \begin{pmatrix} u \\ \mu \end{pmatrix} =
           \begin{pmatrix} f \\ 0 \end{pmatrix},

which gives the u of mean zero with A u = f - mu; mu is the mean of f, which a solvable problem has at zero.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from scipy.sparse import block_array, csc_array, csr_array
from scipy.sparse.linalg import splu
from torch import Tensor

from diffuscope.errors import InputError

from .equation import Equation


class Factorization:
    """LU factors of an N x N matrix, bordered by `weights` where its kernel is the constants.

    Rows with nothing but a diagonal, as those of Dirichlet nodes, are eliminated first: their unknowns come out exact,
    and the rest keeps its symmetry. Raises InputError for a matrix that is singular.

    >>> import torch
    >>> from scipy.sparse import csr_array
    >>> from diffuscope.physics.operators import Factorization
    >>> A = Factorization(csr_array([[2.0, 1.0], [0.0, 4.0]]))
    >>> b = torch.tensor([[5.0, 8.0]])
    >>> A.solve(b).tolist(), A.solve(b, transposed=True).tolist()  # (5 - 2) / 2, 8 / 4; 5 / 2, (8 - 2.5) / 4
    ([[1.5, 2.0]], [[2.5, 1.375]])
    """

    def __init__(self, matrix: csr_array, weights: np.ndarray | None = None) -> None:
        self._diagonal = matrix.diagonal()
        lone = (np.diff(matrix.indptr) == 1) & (self._diagonal != 0)
        self._free, self._held = np.flatnonzero(~lone), np.flatnonzero(lone)
        rows = matrix[self._free]
        self._coupling, inner = csr_array(rows[:, self._held]), csr_array(rows[:, self._free])
        self._border = int(weights is not None)
        if weights is not None:
            w = (weights / weights.sum())[None]
            inner = block_array([[inner, np.ones((len(self._free), 1))], [w, None]])
        try:
            # the pattern is symmetric or nearly so: an ordering of A + A^T fills in less than one of A^T A
            self._lu = splu(csc_array(inner), permc_spec="MMD_AT_PLUS_A", options={"SymmetricMode": True})
        except RuntimeError as error:
            raise InputError(
                f"equation: expected a matrix with an inverse, got one of {len(lone)} rows without"
            ) from error

    def solve(self, b: Float[Tensor, "batch N"], *, transposed: bool = False) -> Float[Tensor, "batch N"]:
        """A^-1 b for every row of `b`, or A^-T b; float64."""
        b_T = np.ascontiguousarray(b.detach().double().cpu().numpy().T)
        x, diagonal = np.empty_like(b_T), self._diagonal[self._held, None]
        if transposed:
            x[self._free] = self._inner(b_T[self._free], "T")
            x[self._held] = (b_T[self._held] - self._coupling.T @ x[self._free]) / diagonal
        else:
            x[self._held] = b_T[self._held] / diagonal
            x[self._free] = self._inner(b_T[self._free] - self._coupling @ x[self._held], "N")
        return torch.from_numpy(np.ascontiguousarray(x.T))

    def _inner(self, b: np.ndarray, trans: str) -> np.ndarray:
        padded = np.pad(b, ((0, self._border), (0, 0)))
        return self._lu.solve(np.ascontiguousarray(padded), trans)[: len(b)]


class _Solve(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, b: Tensor, factors: Factorization, transposed: bool) -> Tensor:
        ctx.factors, ctx.transposed = factors, transposed
        return factors.solve(b.flatten(1), transposed=transposed).reshape(b.shape).to(b)

    @staticmethod
    def backward(ctx: Any, *grad: Tensor) -> tuple[Tensor, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return _Solve.apply(grad[0], ctx.factors, not ctx.transposed), None, None  # pyright: ignore[reportReturnType]


@dataclass(frozen=True)
class Inverse:
    """J^-1 of a linearized equation, on batches of fields, differentiable by autograd.

    >>> import torch
    >>> from diffuscope.physics import Grid, Poisson, inverse
    >>> b = torch.tensor([[1.0, 16.0, 3.0]])
    >>> solve = inverse(Poisson(Grid((3,))), b[0])  # of the rows (1, 0, 0), (-4, 8, -4), (0, 0, 1)
    >>> [[round(x, 6) for x in solve(b)[0].tolist()], [round(x, 6) for x in solve.transposed(b)[0].tolist()]]
    [[1.0, 4.0, 3.0], [9.0, 2.0, 11.0]]
    """

    factors: Factorization

    def __call__(self, b: Float[Tensor, "batch *grid"]) -> Float[Tensor, "batch *grid"]:
        """J^-1 b."""
        return _Solve.apply(b, self.factors, False)  # pyright: ignore[reportReturnType]

    def transposed(self, b: Float[Tensor, "batch *grid"]) -> Float[Tensor, "batch *grid"]:
        """J^-T b."""
        return _Solve.apply(b, self.factors, True)  # pyright: ignore[reportReturnType]


def inverse(equation: Equation, given: Float[Tensor, "*given"], u: Float[Tensor, "*grid"] | None = None) -> Inverse:
    """The inverse of J = dF/du at one `u` (0 by default), factored once.

    Where J has the constants as its kernel (`equation.singular`), it is the inverse on the fields of mean zero.

    >>> from diffuscope.physics import Grid
    >>> from diffuscope.physics.operators import Poisson
    >>> poisson = Poisson(Grid((5,)))
    >>> f = torch.ones(1, 5, dtype=torch.float64)
    >>> f[:, [0, -1]] = 0  # the boundary values
    >>> inverse(poisson, f[0])(f)[0, 2].item()  # x (1 - x) / 2 at 1/2
    0.125
    """
    grid = equation.grid
    at = torch.zeros(grid.shape, dtype=torch.float64) if u is None else u
    singular = bool(getattr(equation, "singular", False))
    weights = grid.weights.flatten().numpy() if singular else None
    return Inverse(Factorization(equation.jacobian(at, given), weights))
