r"""Kernels of gradient flow, and the inputs on which a score is trained, with expectations over them by quadrature.

A kernel gives K((x, t), (y, u)) of every pair of noised points and times; wide networks have their own, the neural
tangent kernel. Training draws a time t, clean data :math:`x_0` and :math:`x = \alpha x_0 + \sigma\varepsilon`. In one
or two dimensions expectations over (x, t) are sums over Gauss-Legendre nodes,

.. math::  E\,f(x, t) = \sum_q w_q f(x_q, t_q), \qquad w_q = w^{GL}_q\, p(x_q \mid t_q),

in a box of :math:`\alpha_t` times that of the data and REACH :math:`\sigma_t` on every side. The target of training,
:math:`\tilde s = (\alpha x_0 - x)/\sigma^2`, has there the mean :math:`s = \nabla\log p` and the covariance
:math:`C = (\alpha/\sigma^2)^2\, \mathrm{Cov}(x_0 \mid x, t)`. Since :math:`\sum_q w_q` has to be 1, a rule that is too
coarse is noticed, and refused.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.errors import InputError
from diffuscope.exact import Distribution, Empirical
from diffuscope.schedules import Schedule

Points = Float[Tensor, "n d"]
Times = Float[Tensor, " n"]
REACH = 7.0  # standard deviations of the noise beyond the data: 3e-12 of the mass is left out
MASS = 1e-6  # the largest error of sum w_q
NEGLIGIBLE = 1e-17  # nodes of such weights, relative to the largest, are left out


@runtime_checkable
class Kernel(Protocol):
    """K((x_i, t_i), (y_j, u_j)) of all pairs: symmetric, positive semidefinite."""

    def __call__(
        self, x: Float[Tensor, "n d"], t: Float[Tensor, " n"], y: Float[Tensor, "m d"], u: Float[Tensor, " m"]
    ) -> Float[Tensor, "n m"]: ...


@dataclass(frozen=True)
class RBFKernel:
    r"""A Gaussian of distances in x and, unless `time_length` is infinite, in t.

    .. math::  K = \exp\left(-\frac{|x - y|^2}{2\ell^2} - \frac{(t - u)^2}{2\ell_t^2}\right)

    Raises InputError for lengths that are not > 0.
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
    """

    features: Callable[[Tensor, Tensor], Tensor]

    def __call__(
        self, x: Float[Tensor, "n d"], t: Float[Tensor, " n"], y: Float[Tensor, "m d"], u: Float[Tensor, " m"]
    ) -> Float[Tensor, "n m"]:
        return self.features(x, t) @ self.features(y, u).T


@dataclass(frozen=True, eq=False)
class TrainingInputs:
    """Nodes and weights of the expectation over the inputs of training, with mean and covariance of the target there.

    The times of training are `start` .. `end`, one time where the two are equal.
    """

    schedule: Schedule
    start: float
    end: float
    points: Float[Tensor, "nodes d"]
    times: Float[Tensor, " nodes"]
    weights: Float[Tensor, " nodes"]
    score: Float[Tensor, "nodes d"]
    covariance: Float[Tensor, "nodes d d"]


def inputs_at(
    data: Distribution | Float[Tensor, "examples d"],
    schedule: Schedule,
    t: float | int,
    *,
    box: Float[Tensor, "2 d"] | None = None,
    nodes: int = 64,
) -> TrainingInputs:
    """Training at the one time `t`, with `nodes` nodes per coordinate.

    `data` are examples, or a distribution with the lower and upper corner of a `box` that has all but about 1e-7 of its
    mass. Raises InputError for more than two dimensions, times without noise, and too few nodes or too small a box.
    """
    times, shares = torch.tensor([float(t)], dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    return _inputs(data, schedule, times, shares, (float(t), float(t)), box, nodes)


def inputs_over(
    data: Distribution | Float[Tensor, "examples d"],
    schedule: Schedule,
    start: float | int,
    end: float | int,
    *,
    box: Float[Tensor, "2 d"] | None = None,
    nodes: int = 64,
    levels: int = 16,
) -> TrainingInputs:
    """Training at times that are uniform in `start` .. `end`, as `inputs_at` at each of `levels` Gauss nodes.

    Errors as there, and for `start` >= `end`.
    """
    if not start < end:
        raise InputError(f"start, end: expected start < end, got {start} and {end}")
    if levels < 1:
        raise InputError(f"levels: expected at least 1, got {levels}")
    at, shares = legendre(levels)
    times = start + (end - start) * (at + 1) / 2
    return _inputs(data, schedule, times, shares / 2, (float(start), float(end)), box, nodes)


def legendre(count: int) -> tuple[Float[Tensor, " count"], Float[Tensor, " count"]]:
    """Nodes and weights of the integral over -1 .. 1."""
    at, weights = np.polynomial.legendre.leggauss(count)
    return torch.from_numpy(at), torch.from_numpy(weights)


def _inputs(
    data: Distribution | Tensor,
    schedule: Schedule,
    times: Tensor,
    shares: Tensor,
    ends: tuple[float, float],
    box: Tensor | None,
    nodes: int,
) -> TrainingInputs:
    if isinstance(data, Tensor):
        if data.ndim != 2:
            raise InputError(f"data: expected examples of shape (n, d), got {tuple(data.shape)}")
        distribution: Distribution = Empirical(data.double())
        box = torch.stack([data.double().amin(0), data.double().amax(0)]) if box is None else box
    else:
        distribution = data
    if len(distribution.event_shape) != 1 or not 1 <= distribution.event_shape[0] <= 2:
        raise InputError(f"data: expected points in one or two dimensions, got shape {distribution.event_shape}")
    d = distribution.event_shape[0]
    if box is None:
        raise InputError("box: expected the lower and upper corner of a box around the distribution, got None")
    if tuple(box.shape) != (2, d) or not bool(box.isfinite().all()) or bool((box[0] > box[1]).any()):
        raise InputError(f"box: expected a lower and an upper corner in dimension {d}, got {box.tolist()}")
    if nodes < 2:
        raise InputError(f"nodes: expected at least 2, got {nodes}")
    alphas, sigmas = schedule.alpha(times), schedule.sigma(times)
    if not bool((sigmas > 0).all() & sigmas.isfinite().all() & alphas.isfinite().all()):
        raise InputError(f"t: expected times with sigma > 0, got {ends[0]} .. {ends[1]}")
    parts = [
        _at_level(distribution, box.double(), float(alpha), float(sigma), nodes)
        for alpha, sigma in zip(alphas, sigmas, strict=True)
    ]
    masses = torch.stack([weights.sum() for _, weights, _, _ in parts])
    worst = int((masses - 1).abs().argmax())
    if not abs(float(masses[worst]) - 1) <= MASS:
        raise InputError(
            f"nodes: expected enough of them (and a box) for a total mass of 1 at t = {float(times[worst]):g}, "
            f"got {float(masses[worst]):.7g} with {nodes} per coordinate"
        )
    points, weights, score, covariance = (torch.cat(kind) for kind in zip(*parts, strict=True))
    per_level = nodes**d
    weights = weights * shares.repeat_interleave(per_level)
    kept = weights > NEGLIGIBLE * weights.max()
    times = times.repeat_interleave(per_level)
    return TrainingInputs(schedule, *ends, *(kind[kept] for kind in (points, times, weights, score, covariance)))


def _at_level(
    distribution: Distribution, box: Tensor, alpha: float, sigma: float, nodes: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Nodes, weights, s and C at one level."""
    at, weights = legendre(nodes)
    low, high = alpha * box[0] - REACH * sigma, alpha * box[1] + REACH * sigma
    half, d = (high - low) / 2, box.shape[1]
    places = torch.cartesian_prod(*[at] * d).reshape(-1, d)
    shares = torch.cartesian_prod(*[weights] * d).reshape(-1, d).prod(1) * half.prod()
    points = low + half * (places + 1)
    spread = distribution.posterior_covariance(points, alpha, sigma)
    unit = torch.eye(d, dtype=torch.float64)
    columns = [spread.matvec(unit[a].expand(len(points), d)) for a in range(d)]
    return (
        points,
        shares * distribution.log_prob(points, alpha, sigma).exp(),
        distribution.score(points, alpha, sigma),
        torch.stack(columns, 2) * (alpha / sigma**2) ** 2,
    )
