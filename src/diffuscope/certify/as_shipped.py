r"""A sampler as its library ships it: with its own levels, its own start and the times it gives to the network.

A library's sampler at n steps is a `Plan`. It starts from :math:`N(0, s^2)`, takes its state at call i to be at the
noise-to-signal ratio :math:`r_i` (*attributed*), and gives the network a timestep. A network that was trained on the
library's table answers for the ratio :math:`\hat r_i` (*told*) that this timestep had in training. In a right plan
:math:`\hat r_i = r_i`, s is the deviation of the noised data at :math:`r_0`, and the last step ends on clean data.

States are in VP coordinates, :math:`x = a x_0 + b\varepsilon` with :math:`a = (1 + r^2)^{-1/2}, b = r a`, which
are finite at :math:`r = \infty`. On a Gaussian N(m, S) the whole run is affine, :math:`x_{end} = A x + c + \sum_k C_k
\xi_k`, and is read off one run by unit vectors in place of start and noise (see `affine`). So these are exact:

- *discretization*: the moments of :math:`x_{end}` from the exact start :math:`N(a m, a^2 S + b^2)` at :math:`r_0`,
  against the exact ones at the last level;
- *start*: what the library's own start adds to them, :math:`-A a m` to the mean and
  :math:`A (s^2 - a^2 S - b^2) A^T` to the covariance;
- *reference*: the same for DDIM over the attributed levels, with a network that is told :math:`r_i` (`ideal`) or the
  library's :math:`\hat r_i` (`told`): what the levels themselves cost, and what the rounding of timesteps costs.
"""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.denoisers import Batch
from diffuscope.exact import Distribution, Gaussian, GaussianMixture

from .affine import AffineMap, noised_moments
from .chosen_noise import ChosenNoise, Drawn

SAME = 0.01  # training steps: levels nearer than this are the same
PROBE = 0.25  # the size of unit vectors: predictions stay within [-1, 1], where libraries clip them

Levels = Float[Tensor, "*levels"]


@dataclass(frozen=True, eq=False)
class Plan:
    """A library's sampler at one number of steps.

    `attributed` and `told` are noise-to-signal ratios, one per call of the network, `end` is that of the finished
    sample, whose states are `end_scale` times ours; `off` is the difference of the two in steps of the training
    table. `start` is the deviation of the library's start in VP coordinates, `draws` the number of normal draws of a
    run. `run(distribution, x, generator)` walks from the first level to the end with the exact network of
    `distribution`, and `denoise(distribution, x, i)` is the clean sample that the library makes of its answer at call
    i.
    """

    timesteps: Float[Tensor, " calls"]
    attributed: Float[Tensor, " calls"]
    told: Float[Tensor, " calls"]
    off: Float[Tensor, " calls"]
    start: float
    end: float
    end_scale: float
    draws: int
    run: Callable[[Distribution, Batch, torch.Generator | None], Batch]
    denoise: Callable[[Distribution, Batch, int], Batch]


@dataclass(frozen=True)
class Shipped:
    """A sampler as shipped: `plan(n)` is what it does at n steps.

    A number of steps that the library refuses raises InputError; whatever else the library raises is its fault.

    >>> from diffuscope.certify import Shipped, certify_as_shipped
    >>> def plan(n):
    ...     raise ValueError("no betas")
    >>> found = certify_as_shipped(Shipped("mine", stochastic=False, plan=plan), steps=(20,), few=(1, 3))
    >>> found.failures[0].verdict
    'Raises at 1, 3, 20 steps: ValueError: no betas'
    """

    name: str
    stochastic: bool
    plan: Callable[[int], Plan]


def shipped_gaussian() -> Gaussian:
    """Correlated coordinates with deviations 0.4 and 0.2 about (0.5, -0.3): data in [-1, 1], as images have."""
    rotation = torch.tensor([[0.8, -0.6], [0.6, 0.8]], dtype=torch.float64)
    variances = torch.tensor([0.16, 0.04], dtype=torch.float64)
    return Gaussian(torch.tensor([0.5, -0.3], dtype=torch.float64), rotation, variances)


def shipped_mixture() -> GaussianMixture:
    """Three components of different widths within [-1, 1]."""
    means = torch.tensor([[0.6, 0.1], [-0.5, 0.4], [0.0, -0.6]], dtype=torch.float64)
    weights = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    return GaussianMixture.isotropic(weights, means, torch.tensor([0.02, 0.01, 0.03], dtype=torch.float64))


def signal(ratio: Levels | float) -> Levels:
    """a = (1 + r^2)^(-1/2)."""
    r = torch.as_tensor(ratio, dtype=torch.float64)
    return 1 / torch.hypot(torch.ones_like(r), r)


def noise(ratio: Levels | float) -> Levels:
    """b = r (1 + r^2)^(-1/2), 1 at r = infinity."""
    r = torch.as_tensor(ratio, dtype=torch.float64)
    return 1 / torch.hypot(torch.ones_like(r), 1 / r)


def marginal(data: Gaussian, ratio: Levels | float) -> tuple[Float[Tensor, " d"], Float[Tensor, "d d"]]:
    """Mean and covariance of the noised data in VP coordinates."""
    return noised_moments(data, signal(ratio), noise(ratio))


def affine(run: Callable[[Batch, torch.Generator | None], Batch], center: Float[Tensor, " d"], draws: int) -> AffineMap:
    """The affine map of `run`, probed about `center`; `misfit` is the error of that map for one more row."""
    d = len(center)
    rows = 2 + d + draws * d
    check = 2 * torch.rand(1 + draws, d, dtype=torch.float64, generator=torch.Generator().manual_seed(2)) - 1
    offsets = torch.zeros(rows, d, dtype=torch.float64)
    offsets[1 : 1 + d], offsets[-1] = torch.eye(d, dtype=torch.float64), check[0]

    def draw(k: int, drawn: Drawn) -> Tensor:
        chosen = torch.zeros(drawn.shape, dtype=torch.float64)
        if drawn.shape == (rows, d) and k < draws:
            first = 1 + d + k * d
            chosen[first : first + d] = PROBE * torch.eye(d, dtype=torch.float64)
            chosen[-1] = PROBE * check[1 + k]
        return chosen

    generator = torch.Generator() if draws else None
    with ChosenNoise(draw, generator) if draws else nullcontext():
        ends = run(center + PROBE * offsets, generator).double()
    responses = (ends - ends[0]) / PROBE
    A = responses[1 : 1 + d].T
    C = responses[1 + d : -1].T
    predicted = A @ check[0] + C @ check[1:].flatten()
    misfit = float((responses[-1] - predicted).abs().max() / (1e-3 + predicted.abs().max()))
    return AffineMap(A, ends[0] - A @ center, C, misfit)


def distinct(plan: Plan) -> tuple[list[int], Float[Tensor, " levels"]]:
    """The calls at which the attributed level changes, and their levels with the end."""
    r = plan.attributed
    calls = [0, *(i for i in range(1, len(r)) if r[i] != r[i - 1])]
    return calls, torch.cat([r[calls], torch.tensor([plan.end], dtype=torch.float64)])


def ddim(plan: Plan, distribution: Distribution, x: Batch, *, told: bool) -> Batch:
    """DDIM over the attributed levels; `told` asks the network at the library's timesteps instead of these levels."""
    calls, levels = distinct(plan)
    a, b = signal(levels), noise(levels)
    for i, call in enumerate(calls):
        clean = plan.denoise(distribution, x, call) if told else distribution.denoise(x, float(a[i]), float(b[i]))
        x = a[i + 1] * clean + b[i + 1] * (x - a[i] * clean) / b[i]
    return x


def ddim_moments(plan: Plan, data: Gaussian) -> tuple[Float[Tensor, " d"], Float[Tensor, "d d"]]:
    r"""Mean and covariance of DDIM's endpoint from the exact start: along an eigenvector of S with variance v,

    .. math::  x_{i+1} - a_{i+1} m = \frac{a_{i+1} a_i v + b_{i+1} b_i}{a_i^2 v + b_i^2}\,(x_i - a_i m) .
    """
    levels = distinct(plan)[1]
    a, b = signal(levels)[:, None], noise(levels)[:, None]
    factors = (a[1:] * a[:-1] * data.eigenvalues + b[1:] * b[:-1]) / (a[:-1] ** 2 * data.eigenvalues + b[:-1] ** 2)
    variances = factors.prod(0) ** 2 * (a[0] ** 2 * data.eigenvalues + b[0] ** 2)
    return a[-1, 0] * data.mean, data.eigenvectors @ torch.diag(variances) @ data.eigenvectors.T


@dataclass(frozen=True)
class Errors:
    """What a plan does to the mean and covariance of Gaussian data, in units of their spread; see the module."""

    steps: int
    discretization: float
    ideal: float
    told: float
    mean_bias: float
    spread_bias: float
    misfit: float


def errors_of(plan: Plan, data: Gaussian, steps: int) -> Errors:
    """The exact errors of `plan` at `steps` steps on `data`."""
    mean, spread = marginal(data, plan.attributed[0])
    exact = marginal(data, plan.end)
    size = float(exact[1].diagonal().max())
    identity = torch.eye(len(mean), dtype=torch.float64)

    def distance(moments: tuple[Tensor, Tensor]) -> float:
        shift, change = moments[0] - exact[0], moments[1] - exact[1]
        return max(float(shift.abs().max()) / size**0.5, float(change.abs().max()) / size)

    whole = affine(lambda x, generator: plan.run(data, x, generator), mean, plan.draws)
    ideal = told = distance(ddim_moments(plan, data))
    if bool((plan.off.abs() > SAME).any()):
        told = distance(affine(lambda x, _: ddim(plan, data, x, told=True), mean, 0).moments(mean, spread))
    bias = whole.A @ (plan.start**2 * identity - spread) @ whole.A.T
    return Errors(
        steps=steps,
        discretization=distance(whole.moments(mean, spread)),
        ideal=ideal,
        told=told,
        mean_bias=float((whole.A @ mean).abs().max()) / size**0.5,
        spread_bias=float(bias[torch.unravel_index(bias.abs().argmax(), bias.shape)]) / size,
        misfit=whole.misfit,
    )
