r"""The population of noised examples by quadrature: points, their probabilities, and the posterior at each.

An example of training is a time t, uniform on :math:`[\epsilon, T]`, and :math:`x = \alpha x_0 + \sigma\varepsilon`.
Expectations over it are sums over the nodes of

.. math::
    E\,h(x, t) = \frac{1}{T - \epsilon}\int_\epsilon^T dt \int h(x, t)\, p_t(x)\, dx,

- in t by Gauss and Legendre's rule in :math:`\sqrt t`, in which the weights :math:`\alpha^2/\sigma^2 \sim 1/t` and the
  posterior are smooth down to small times (one time if :math:`\epsilon = T`);
- in x, in one and two dimensions, by the trapezoidal rule on a box with :math:`8\sigma` to spare. At a step of
  :math:`2\sigma/3` or less its error for the density alone is below :math:`10^{-19}`: the density has been convolved
  with a Gaussian. (Gauss and Hermite's nodes at every example do not resolve features that are narrower than
  :math:`\sigma`.) In more dimensions by Monte Carlo, with `draws` at every time.

x_0 is integrated exactly: every node has its posterior mean :math:`D(x, t)` and covariance
:math:`C_0 = \mathrm{Cov}(x_0 | x, t)`. A second population of half the nodes (or half the draws) gives the error.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.checked_numbers import require_count
from diffuscope.errors import InputError
from diffuscope.exact import Distribution, Empirical
from diffuscope.schedules import Schedule

TIME_NODES = 64
NODES = {1: 256, 2: 64}  # least number per axis of x, by dimension
DRAWS = 4096  # at every time, beyond two dimensions
MARGIN, STEP = 8.0, 2 / 3  # in units of sigma
NEGLIGIBLE = 1e-18  # share of the largest probability of a slice below which a node is dropped
LARGEST_GRID = 2**22
PROBED = 4096  # draws that find the box of a distribution


@dataclass(frozen=True, eq=False)
class Slice:
    """Nodes of one time: points, probabilities (their sum is the weight of the time), posterior mean and covariance.

    `weight` is the loss's, lambda~ = alpha^2 / sigma^2.
    """

    t: float
    weight: float
    x: Float[Tensor, "n d"]
    probability: Float[Tensor, " n"]
    mean: Float[Tensor, "n d"]
    covariance: Float[Tensor, "n d d"]


@dataclass(frozen=True, eq=False)
class Nodes:
    """The nodes of all times in a row; the weights add up to 1. Score and covariance are those of the target there."""

    points: Float[Tensor, "nodes d"]
    times: Float[Tensor, " nodes"]
    weights: Float[Tensor, " nodes"]
    score: Float[Tensor, "nodes d"]
    covariance: Float[Tensor, "nodes d d"]


@dataclass(frozen=True, eq=False)
class Population:
    """Nodes of all `times` (epsilon, T); `coarse` are fewer, for the error. `exact`: x was integrated and not drawn.

    >>> import torch
    >>> from diffuscope.exact import Gaussian
    >>> from diffuscope.schedules import RectifiedFlow
    >>> from diffuscope.theory.variance import Population
    >>> nodes = Population.of(Gaussian.isotropic(torch.zeros(1), 3.0), RectifiedFlow(), (0.2, 0.2)).nodes
    >>> round(float(nodes.weights @ nodes.points[:, 0] ** 2), 6)  # 0.8^2 x 3 + 0.2^2
    1.96
    >>> round(float(nodes.weights @ nodes.score[:, 0] ** 2), 6)  # 1 / 1.96
    0.510204
    """

    schedule: Schedule
    times: tuple[float, float]
    dimension: int
    slices: tuple[Slice, ...]
    coarse: tuple[Slice, ...]
    exact: bool

    @classmethod
    def of(
        cls,
        data: Distribution | Float[Tensor, "points d"],
        schedule: Schedule,
        times: tuple[float | int, float | int],
        *,
        time_nodes: int = TIME_NODES,
        nodes: int | None = None,
        generator: torch.Generator | None = None,
    ) -> "Population":
        """The population of a distribution or of a finite data set, at times uniform on `times` = (epsilon, T).

        `nodes` is the least number per axis of x; beyond two dimensions it is the number of draws per time, and those
        come from the `generator`. Memory: nodes times d^2 numbers. Raises InputError for data that are not rows, times
        that are not 0 <= epsilon <= T with sigma > 0, fewer than two nodes, a missing generator, and a grid that is too
        large or misses a millionth of the mass.
        """
        distribution, low, high = _with_box(data)
        d = len(low)
        _check(schedule, times, time_nodes, nodes)
        if d > max(NODES) and generator is None:
            raise InputError(f"generator: expected one for data of {d} > 2 coordinates (Monte Carlo), got none")

        def slices(share: int) -> tuple[Slice, ...]:
            made = []
            for t, w in _time_rule(times, time_nodes // share):
                alpha, sigma = float(schedule.alpha(t)), float(schedule.sigma(t))
                if generator is None or d <= max(NODES):
                    x, p = _grid(distribution, alpha, sigma, low, high, max(2, (nodes or NODES[d]) // share))
                else:
                    x, p = _drawn(distribution, alpha, sigma, max(2, (nodes or DRAWS) // share), generator)
                made.append(_with_posterior(distribution, t, alpha, sigma, x, w * p))
            return tuple(made)

        ends = float(times[0]), float(times[1])
        return cls(schedule, ends, d, slices(1), slices(2), d <= max(NODES))

    @cached_property
    def nodes(self) -> Nodes:
        r"""All nodes, with :math:`s = (\alpha D - x)/\sigma^2` and :math:`C = \alpha^2 C_0/\sigma^4`."""
        rows = []
        for part in self.slices:
            alpha, sigma = self.schedule.alpha(part.t), self.schedule.sigma(part.t)
            score = (alpha * part.mean - part.x) / sigma**2
            t = torch.full_like(part.probability, part.t)
            rows.append((part.x, t, part.probability, score, part.covariance * (alpha / sigma**2) ** 2))
        return Nodes(*(torch.cat(column) for column in zip(*rows, strict=True)))


def _time_rule(times: tuple[float | int, float | int], count: int) -> Iterator[tuple[float, float]]:
    """Times and weights of sum one; Gauss-Legendre in sqrt(t)."""
    low, high = math.sqrt(times[0]), math.sqrt(times[1])
    if low == high:
        yield float(times[0]), 1.0
        return
    nodes, weights = np.polynomial.legendre.leggauss(count)
    for node, weight in zip(nodes, weights, strict=True):
        root = (low + high) / 2 + (high - low) / 2 * node
        yield float(root**2), float(weight * root * (high - low) / (high**2 - low**2))


def _grid(
    distribution: Distribution, alpha: float, sigma: float, low: Tensor, high: Tensor, count: int
) -> tuple[Float[Tensor, "n d"], Float[Tensor, " n"]]:
    """The trapezoidal rule for p_t over the box, where p_t is not negligible."""
    starts, ends = (alpha * low - MARGIN * sigma).tolist(), (alpha * high + MARGIN * sigma).tolist()
    widths = [end - start for start, end in zip(starts, ends, strict=True)]
    numbers = [max(count, math.ceil(width / (STEP * sigma)) + 1) for width in widths]
    if math.prod(numbers) > LARGEST_GRID:
        raise InputError(f"times: expected a grid of at most {LARGEST_GRID:,} nodes, sigma = {sigma:.3g} needs more")
    axes = [
        torch.linspace(start, end, number, dtype=torch.float64)
        for start, end, number in zip(starts, ends, numbers, strict=True)
    ]
    cell = math.prod(width / (number - 1) for width, number in zip(widths, numbers, strict=True))
    x = torch.cartesian_prod(*axes).reshape(-1, len(axes))
    density = distribution.log_prob(x, alpha, sigma).exp() * cell
    mass = float(density.sum())
    if abs(mass - 1) > 1e-6:
        raise InputError(f"data: expected a box with all of its mass, got {mass:.6f} at sigma = {sigma:.3g}")
    kept = density > NEGLIGIBLE * density.max()
    return x[kept], density[kept] / density[kept].sum()


def _drawn(
    distribution: Distribution, alpha: float, sigma: float, count: int, generator: torch.Generator
) -> tuple[Float[Tensor, "n d"], Float[Tensor, " n"]]:
    clean = distribution.sample(count, generator=generator).double()
    noise = torch.randn(clean.shape, dtype=torch.float64, generator=generator)
    return alpha * clean + sigma * noise, torch.full((count,), 1 / count, dtype=torch.float64)


def _with_posterior(
    distribution: Distribution, t: float, alpha: float, sigma: float, x: Tensor, probability: Tensor
) -> Slice:
    covariance = distribution.posterior_covariance(x, alpha, sigma)
    axes = torch.eye(x.shape[1], dtype=torch.float64)
    columns = [covariance.matvec(axis.expand_as(x)) for axis in axes]
    mean = distribution.denoise(x, alpha, sigma)
    return Slice(t, alpha**2 / sigma**2, x, probability, mean, torch.stack(columns, 2))


def _with_box(data: Distribution | Tensor) -> tuple[Distribution, Float[Tensor, " d"], Float[Tensor, " d"]]:
    """The distribution, and a box with (nearly) all of its mass."""
    if isinstance(data, Tensor):
        if data.ndim != 2 or 0 in data.shape:
            raise InputError(f"data: expected rows of shape (points, d), at least one, got {tuple(data.shape)}")
        points = data.double()
        return Empirical(points), points.amin(0), points.amax(0)
    if len(data.event_shape) != 1:
        raise InputError(f"data: expected a distribution of vectors, got events of shape {tuple(data.event_shape)}")
    probed = data.sample(PROBED, generator=torch.Generator().manual_seed(0)).double()
    low, high = probed.amin(0), probed.amax(0)
    return data, low - (high - low), high + (high - low)


def _check(schedule: Schedule, times: tuple[float | int, float | int], time_nodes: int, nodes: int | None) -> None:
    low, high = times
    if not (0 <= low <= high < math.inf and float(schedule.sigma(low)) > 0):
        raise InputError(f"times: expected finite 0 <= epsilon <= T with sigma > 0, got {low}, {high}")
    for name, count in (("time_nodes", time_nodes), ("nodes", nodes)):
        if count is not None:
            require_count(name, count, 2)
