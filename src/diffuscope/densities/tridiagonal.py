r"""Batches of tridiagonal matrices along one axis, with their products, solutions and transposes.

.. math::  (A x)_i = l_i\, x_{i-1} + d_i\, x_i + u_i\, x_{i+1}, \qquad i \text{ modulo } N .

l at i = 0 and u at i = N - 1 are the corners of a periodic axis, zero for any other axis. Then

.. math::  (A^T)_i:\quad l'_i = u_{i-1}, \quad d'_i = d_i, \quad u'_i = l_{i+1} .

All lines are stacked into one long system for LAPACK's `gttrf` and `gttrs`; corners are added by the
Sherman-Morrison formula (two solves). Solutions are differentiable in the right-hand side and in the bands: with
:math:`A x = b` and a gradient g for x, :math:`\bar b = A^{-T} g` and :math:`\bar A = -\bar b\, x^T` on the bands.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float
from scipy.linalg import get_lapack_funcs
from torch import Tensor

Bands = Float[Tensor, "*lines N"]

_factorize, _substitute = get_lapack_funcs(("gttrf", "gttrs"), dtype=np.float64)


@dataclass(frozen=True, eq=False)
class Tridiagonal:
    """One matrix per line; every band has the shape of the vectors it multiplies, with the matrix axis last."""

    lower: Bands
    diagonal: Bands
    upper: Bands

    def apply(self, x: Bands) -> Bands:
        """A x."""
        return self.diagonal * x + self.lower * x.roll(1, -1) + self.upper * x.roll(-1, -1)

    def solve(self, b: Bands) -> Bands:
        """A^{-1} b. Raises ZeroDivisionError for a singular matrix."""
        return _Solution.apply(self, b, self.lower, self.diagonal, self.upper)  # pyright: ignore[reportReturnType]

    def transposed(self) -> "Tridiagonal":
        """A^T, line by line."""
        return Tridiagonal(self.upper.roll(1, -1), self.diagonal, self.lower.roll(-1, -1))

    def shifted_identity(self, scale: float) -> "Tridiagonal":
        """I + scale A."""
        return Tridiagonal(scale * self.lower, 1 + scale * self.diagonal, scale * self.upper)

    @cached_property
    def _transpose(self) -> "Tridiagonal":
        return self.transposed()

    @cached_property
    def _factors(self) -> "_Factors":
        return _Factors.of(*(band.numpy() for band in (self.lower, self.diagonal, self.upper)))


class _Solution(torch.autograd.Function):
    @staticmethod
    def forward(ctx, matrix, b, lower, diagonal, upper):  # noqa: ARG004
        x = torch.from_numpy(matrix._factors.solve(b.numpy()))
        ctx.matrix = matrix
        ctx.save_for_backward(x)
        return x

    @staticmethod
    def backward(ctx, gradient):  # pyright: ignore[reportIncompatibleMethodOverride]
        (x,) = ctx.saved_tensors
        for_b = ctx.matrix._transpose.solve(gradient.contiguous())
        return None, for_b, -for_b * x.roll(1, -1), -for_b * x, -for_b * x.roll(-1, -1)


@dataclass(frozen=True, eq=False)
class _Factors:
    """L U of the stacked lines without their corners, and the Sherman-Morrison correction for the corners.

    With corners c (row 0) and e (row N - 1): A = T + u v^T, u = (g, 0, ..., e), v = (1, 0, ..., c / g), g = -d_0.
    """

    lu: tuple[np.ndarray, ...]
    correction: tuple[np.ndarray, np.ndarray, np.ndarray] | None

    @classmethod
    def of(cls, lower: np.ndarray, diagonal: np.ndarray, upper: np.ndarray) -> "_Factors":
        c, e = lower[..., :1], upper[..., -1:]
        diagonal = diagonal.copy()
        periodic = bool(np.any(c) or np.any(e))
        g = -diagonal[..., :1].copy()
        if periodic:
            diagonal[..., :1] -= g
            diagonal[..., -1:] -= e * c / g
        below, above = lower.copy(), upper.copy()
        below[..., 0] = above[..., -1] = 0
        *lu, failed = _factorize(_rows(below, 0.0)[1:], _rows(diagonal, 1.0), _rows(above, 0.0)[:-1])
        if failed:
            raise ZeroDivisionError(f"tridiagonal matrix: singular at row {failed}")
        plain = cls(tuple(lu), None)
        if not periodic:
            return plain
        u = np.zeros_like(diagonal)
        u[..., :1], u[..., -1:] = g, e
        z = plain.solve(u)
        ratio = c / g
        return cls(plain.lu, (z, ratio, 1 + z[..., :1] + ratio * z[..., -1:]))

    def solve(self, b: np.ndarray) -> np.ndarray:
        x, failed = _substitute(*self.lu, _rows(np.ascontiguousarray(b), 0.0))
        assert not failed
        x = x[: b.size].reshape(b.shape)
        if self.correction is None:
            return x
        z, ratio, denominator = self.correction
        return x - z * (x[..., :1] + ratio * x[..., -1:]) / denominator


def _rows(stacked: np.ndarray, of_identity: float) -> np.ndarray:
    """All lines as one; two rows, which SciPy's wrapper of LAPACK refuses, with a row of the identity below them."""
    flat = stacked.reshape(-1)
    return np.append(flat, of_identity) if len(flat) == 2 else flat
