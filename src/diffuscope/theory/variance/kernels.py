r"""Kernels of gradient flow: K((x, t), (y, u)) of every pair of noised points and times.

Wide networks have their own, the neural tangent kernel; here are a Gaussian, and the kernel of a model that is linear
in its features.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.errors import InputError


@runtime_checkable
class Kernel(Protocol):
    """K((x_i, t_i), (y_j, u_j)) of all pairs: symmetric, positive semidefinite.

    >>> from diffuscope.theory.variance import Kernel, RBFKernel
    >>> isinstance(RBFKernel(length=0.5), Kernel)
    True
    """

    def __call__(
        self, x: Float[Tensor, "n d"], t: Float[Tensor, " n"], y: Float[Tensor, "m d"], u: Float[Tensor, " m"]
    ) -> Float[Tensor, "n m"]: ...


@dataclass(frozen=True)
class RBFKernel:
    r"""A Gaussian of distances in x and, unless `time_length` is infinite, in t.

    .. math::  K = \exp\left(-\frac{|x - y|^2}{2\ell^2} - \frac{(t - u)^2}{2\ell_t^2}\right)

    Raises InputError for lengths that are not > 0.

    >>> import torch
    >>> from diffuscope.theory.variance import RBFKernel
    >>> x, t, y, u = torch.tensor([[1.0]]), torch.tensor([0.5]), torch.tensor([[3.0]]), torch.tensor([0.75])
    >>> round(float(RBFKernel(2.0, time_length=0.5)(x, t, y, u)), 6)  # exp(-2^2 / 8 - 0.25^2 / 0.5)
    0.535261
    """

    length: float | int
    time_length: float | int = math.inf

    def __post_init__(self) -> None:
        for name, value in (("length", self.length), ("time_length", self.time_length)):
            if not value > 0:
                raise InputError(f"{name}: expected a number > 0, got {value}")
        if not math.isfinite(self.length):
            raise InputError(f"length: expected a finite number, got {self.length}")

    def __call__(
        self, x: Float[Tensor, "n d"], t: Float[Tensor, " n"], y: Float[Tensor, "m d"], u: Float[Tensor, " m"]
    ) -> Float[Tensor, "n m"]:
        squares = sum(((x[:, None, a] - y[None, :, a]) / self.length).square() for a in range(x.shape[1]))
        return torch.exp(-(squares + ((t[:, None] - u) / self.time_length).square()) / 2)


@dataclass(frozen=True)
class FeatureKernel:
    r"""The kernel of a linear model: :math:`K = \phi(x, t)\cdot\phi(y, u)`, of finite rank.

    `features(x, t)` gives (n, F) numbers of n points and their n times.

    >>> import torch
    >>> from diffuscope.theory.variance import Affine, FeatureKernel
    >>> x, y, t = torch.tensor([[3.0, 2.0]]), torch.tensor([[5.0, 7.0]]), torch.zeros(1)
    >>> float(FeatureKernel(Affine(2))(x, t, y, t))  # 1 + 3 x 5 + 2 x 7
    30.0
    """

    features: Callable[[Tensor, Tensor], Tensor]

    def __call__(
        self, x: Float[Tensor, "n d"], t: Float[Tensor, " n"], y: Float[Tensor, "m d"], u: Float[Tensor, " m"]
    ) -> Float[Tensor, "n m"]:
        return self.features(x, t) @ self.features(y, u).T
