r"""Features of a linear denoiser: products of one function of every coordinate and one of time.

.. math::
    D(x, t) = W \varphi(x, t), \qquad
    \varphi_{i_1 \dots i_d j}(x, t) = u_{i_1}(x_1) \cdots u_{i_d}(x_d)\, v_j(t),

the last index running fastest. So a sum over features is done one axis at a time, time first: at a fixed t the weights
of a model shrink by the number of v's before a single point is touched. The functions of one axis:

================  ==========================================================================================
`GaussianBumps`   :math:`N(u; c_i, s^2)` as *densities*, even centers, s half the spacing, as published
`Fourier`         :math:`1, \cos k\omega u, \sin k\omega u`, :math:`\omega = 2\pi / \text{period}`
`Bins`            1 in one of equal cells, 0 in the others; points outside count in the end cells
`Constant`        1: an axis that the features ignore
================  ==========================================================================================

A density has the height :math:`1/(\sqrt{2\pi} s)`: about 4 and 12 in the published setting, while cosines have the
height 1. With the ridge :math:`\rho I` the two kinds are therefore *not* regularized alike, and more bumps mean less
effective ridge. `GaussianBumps(..., height=1)` gives every bump the same height, whatever their number.

`Affine` (1, x) is no product and has no fast path.

Source: Vastola 2025, *Generalization through variance*, https://arxiv.org/abs/2504.12532, and its published code.
"""

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.checked_numbers import require_count
from diffuscope.errors import InputError

Points = Float[Tensor, "*n d"]
Time = Float[Tensor, "..."] | float | int
Spatial = Float[Tensor, "models out F_space"]
Combined, Coefficients = Float[Tensor, "models batch"], Float[Tensor, "models number"]
POLYNOMIAL, REACH = 16, 8  # exp(2 (n - 1) (n - 1 + REACH)) is a float64 up to n = 16


@runtime_checkable
class Features(Protocol):
    """F functions of a point and a time.

    >>> from diffuscope.theory.variance import Affine, Features
    >>> isinstance(Affine(2), Features)
    True
    """

    @property
    def number(self) -> int:
        """F."""
        ...

    def __call__(self, x: Points, t: Time) -> Float[Tensor, "*n F"]:
        """phi(x, t); `t` is one number, or broadcasts to the shape of `x` without its last axis."""
        ...


@runtime_checkable
class Axis(Protocol):
    """Functions of one variable.

    >>> from diffuscope.theory.variance import Axis, Fourier
    >>> isinstance(Fourier(2.0), Axis)
    True
    """

    @property
    def number(self) -> int: ...

    def __call__(self, u: Float[Tensor, "*n"]) -> Float[Tensor, "*n number"]: ...

    def combine(self, u: Combined, coefficients: Coefficients) -> Combined:
        """sum_i c_i u_i(u), the coefficients of every model at points of its own."""
        ...


@dataclass(frozen=True)
class GaussianBumps:
    r"""Densities N(u; c_i, s^2) with `number` centers from `low` to `high`, both included, and s half their spacing.

    With a `height`, every bump has this height instead of 1 / (sqrt(2 pi) s). InputError unless low < high, both
    finite, at least two centers, and a finite height > 0.

    In units of s, with z counted from the middle, the centers are 2i with :math:`|i| \le (n - 1)/2` and the bumps
    :math:`e^{-z^2/2}\, e^{-2 i^2} (e^{2z})^i`: `combine` evaluates a polynomial, with one exponential for all bumps.

    >>> import torch
    >>> from diffuscope.theory.variance import GaussianBumps
    >>> bumps = GaussianBumps(0, 4, 3, height=2)  # at 0, 2 and 4, s = 1
    >>> [round(value, 6) for value in bumps(torch.tensor(1.0)).tolist()]  # 2 exp(-1/2) twice, 2 exp(-9/2)
    [1.213061, 1.213061, 0.022218]
    >>> round(GaussianBumps(0, 4, 3).peak, 6)  # 1 / sqrt(2 pi)
    0.398942
    """

    low: float | int
    high: float | int
    number: int
    height: float | int | None = None

    def __post_init__(self) -> None:
        _require_interval(self.low, self.high)
        require_count("number", self.number, 2)
        if self.height is not None and not 0 < self.height < math.inf:
            raise InputError(f"height: expected a finite number > 0, or None for densities, got {self.height}")

    @property
    def spread(self) -> float:
        """The standard deviation s."""
        return (self.high - self.low) / (self.number - 1) / 2

    @property
    def peak(self) -> float:
        """The height of a bump."""
        return 1 / (math.sqrt(2 * math.pi) * self.spread) if self.height is None else float(self.height)

    def __call__(self, u: Float[Tensor, "*n"]) -> Float[Tensor, "*n number"]:
        centers = torch.linspace(self.low, self.high, self.number, dtype=torch.float64, device=u.device).to(u.dtype)
        z = (u[..., None] - centers) / self.spread
        return self.peak * torch.exp(-0.5 * z * z)

    def combine(self, u: Combined, coefficients: Coefficients) -> Combined:
        """By the polynomial for up to `POLYNOMIAL` bumps: exact up to rounding, and 0 from 8 s beyond the last bump."""
        n = self.number
        if n > POLYNOMIAL:
            return _combine(self, u, coefficients)
        i = torch.arange(n, dtype=torch.float64, device=u.device) - (n - 1) / 2
        c = self.peak * coefficients.double() * torch.exp(-2 * i * i)
        z = (u.double() - (self.low + self.high) / 2) / self.spread
        beyond = z.abs() > n - 1 + REACH  # there the power would overflow, and a bump is below 1e-13 of its height
        z = z.masked_fill_(beyond, 0)
        q = (2 * z).exp_()
        total = c[:, -1:].expand_as(z).clone()
        for k in range(n - 2, -1, -1):
            total.mul_(q).add_(c[:, k : k + 1])
        total.mul_((z * (z * -0.5 - (n - 1))).exp_())
        return total.masked_fill_(beyond, 0).to(u.dtype)


@dataclass(frozen=True)
class Fourier:
    """1, cos(k w u) for k <= `cosines`, sin(k w u) for k <= `sines`, with w = 2 pi / `period`.

    The default is the published choice, ten functions. InputError unless the period is finite and > 0 and both numbers
    are >= 0.

    >>> import torch
    >>> from diffuscope.theory.variance import Fourier
    >>> phi = Fourier(period=4, cosines=2, sines=1)(torch.tensor(1 / 3).double())
    >>> [round(value, 6) for value in phi.tolist()]  # 1, cos 30, cos 60, sin 30 degrees
    [1.0, 0.866025, 0.5, 0.5]
    """

    period: float | int
    cosines: int = 5
    sines: int = 4

    def __post_init__(self) -> None:
        if not 0 < self.period < math.inf:
            raise InputError(f"period: expected a finite number > 0, got {self.period}")
        require_count("cosines", self.cosines, 0)
        require_count("sines", self.sines, 0)

    @property
    def number(self) -> int:
        return 1 + self.cosines + self.sines

    def __call__(self, u: Float[Tensor, "*n"]) -> Float[Tensor, "*n number"]:
        k = torch.arange(1, max(self.cosines, self.sines) + 1, dtype=u.dtype, device=u.device)
        angle = u[..., None] * (2 * math.pi / self.period) * k
        one = torch.ones_like(u)[..., None]
        return torch.cat([one, angle[..., : self.cosines].cos(), angle[..., : self.sines].sin()], dim=-1)

    def combine(self, u: Combined, coefficients: Coefficients) -> Combined:
        return _combine(self, u, coefficients)


@dataclass(frozen=True)
class Bins:
    """One-hot: 1 in the cell of u, of `number` equal cells from `low` to `high`; what lies outside is in an end cell.

    InputError unless low < high, both finite, and at least one cell.

    >>> import torch
    >>> from diffuscope.theory.variance import Bins
    >>> Bins(0, 6, 3)(torch.tensor([-1.0, 2.5, 9.0])).tolist()
    [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """

    low: float | int
    high: float | int
    number: int

    def __post_init__(self) -> None:
        _require_interval(self.low, self.high)
        require_count("number", self.number, 1)

    def __call__(self, u: Float[Tensor, "*n"]) -> Float[Tensor, "*n number"]:
        cell = ((u - self.low) / (self.high - self.low) * self.number).floor().clamp(0, self.number - 1).long()
        return torch.nn.functional.one_hot(cell, self.number).to(u.dtype)

    def combine(self, u: Combined, coefficients: Coefficients) -> Combined:
        return _combine(self, u, coefficients)


@dataclass(frozen=True)
class Constant:
    """The function 1.

    >>> import torch
    >>> from diffuscope.theory.variance import Constant
    >>> Constant()(torch.tensor([3.0, 5.0])).tolist()
    [[1.0], [1.0]]
    """

    number: int = 1

    def __call__(self, u: Float[Tensor, "*n"]) -> Float[Tensor, "*n number"]:
        return torch.ones_like(u)[..., None]

    def combine(self, u: Combined, coefficients: Coefficients) -> Combined:
        return _combine(self, u, coefficients)


@dataclass(frozen=True)
class Products:
    """Products of the functions of every axis of `space` and of `time`.

    InputError for no axis of space; for points of another dimension when called.

    >>> import torch
    >>> from diffuscope.theory.variance import Bins, Fourier, Products
    >>> features = Products((Fourier(4, cosines=1, sines=0),), time=Bins(0, 1, 2))
    >>> phi = features(torch.tensor([[2 / 3]]).double(), 0.75)
    >>> [round(value, 6) for value in phi[0].tolist()]  # (1, cos 60 degrees) times (0, 1)
    [0.0, 1.0, 0.0, 0.5]
    """

    space: tuple[Axis, ...]
    time: Axis = Constant()

    def __post_init__(self) -> None:
        if not self.space:
            raise InputError("space: expected the functions of at least one axis, got none")

    @property
    def number(self) -> int:
        return math.prod(axis.number for axis in self.space) * self.time.number

    def __call__(self, x: Points, t: Time) -> Float[Tensor, "*n F"]:
        if x.shape[-1] != len(self.space):
            raise InputError(f"x: expected {len(self.space)} coordinates in its last axis, got {x.shape[-1]}")
        times = _times(x, t)
        phi = torch.ones_like(x[..., :1])
        for u, axis in zip(x.unbind(-1), self.space, strict=True):
            phi = (phi[..., :, None] * axis(u)[..., None, :]).flatten(-2)
        return (phi[..., :, None] * self.time(times)[..., None, :]).flatten(-2)

    def at(self, weights: Float[Tensor, "models out F"], t: Float[Tensor, ""] | float | int) -> Spatial:
        """The weights of the functions of space alone, at one time: sum_j W_{.. j} v_j(t)."""
        v = self.time(torch.as_tensor(t, dtype=weights.dtype, device=weights.device))
        return weights.unflatten(-1, (-1, self.time.number)) @ v

    def combine(self, weights: Spatial, x: Float[Tensor, "models batch d"]) -> Float[Tensor, "models batch out"]:
        """sum_i w_i u_{i_1}(x_1) ... u_{i_d}(x_d), one axis at a time, the weights of every model at its own points."""
        outputs = weights.shape[1]
        *before, last = zip(self.space, x.unbind(-1), strict=True)
        if not before and outputs == 1:
            return last[0].combine(last[1], weights[:, 0])[..., None]
        rest = last[0](last[1]) @ weights.reshape(len(weights), -1, last[0].number).mT
        for axis, u in reversed(before):
            rest = torch.einsum("mbri,mbi->mbr", rest.unflatten(-1, (-1, axis.number)), axis(u))
        return rest


@dataclass(frozen=True)
class Affine:
    """1 and the `dimension` coordinates of x, whatever the time. InputError for points of another dimension.

    >>> import torch
    >>> from diffuscope.theory.variance import Affine
    >>> Affine(2)(torch.tensor([[3.0, 5.0]]), 0.5).tolist()
    [[1.0, 3.0, 5.0]]
    """

    dimension: int = 1

    @property
    def number(self) -> int:
        return 1 + self.dimension

    def __call__(self, x: Points, t: Time) -> Float[Tensor, "*n F"]:  # noqa: ARG002 - the protocol's
        if x.shape[-1] != self.dimension:
            raise InputError(f"x: expected {self.dimension} coordinates in its last axis, got {x.shape[-1]}")
        return torch.cat([torch.ones_like(x[..., :1]), x], dim=-1)


def _combine(axis: Axis, u: Combined, coefficients: Coefficients) -> Combined:
    return torch.matmul(axis(u), coefficients[:, :, None])[..., 0]


def _times(x: Tensor, t: Time) -> Tensor:
    """`t` over the points of `x`, in their precision."""
    return torch.as_tensor(t, dtype=x.dtype, device=x.device).expand(x.shape[:-1])


def _require_interval(low: float | int, high: float | int) -> None:
    if not -math.inf < low < high < math.inf:
        raise InputError(f"low, high: expected low < high, both finite, got {low}, {high}")
