r"""Oracle problems: data distributions whose probability-flow map is known, for testing any sampler.

In :math:`y = x/\alpha`, :math:`\tilde\sigma = \sigma/\alpha` every schedule has the same flow,
:math:`dy/d\log\tilde\sigma = y - D(y)`. That of a Gaussian has a closed form. The others are integrated by an explicit
Runge-Kutta method of order 8 (DOP853) at a relative tolerance of 1e-12, which the tests compare with the quantile map
in one dimension and with the flow in the opposite direction.
"""

from dataclasses import dataclass, replace
from functools import cache, cached_property

import numpy as np
import scipy  # its subpackages are loaded when they are first used
import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.denoisers import Batch, ExactDenoiser
from diffuscope.exact import Distribution, Gaussian, GaussianMixture, Ring
from diffuscope.schedules import VE, Schedule
from diffuscope.times import log_snr_times

STARTS = 12  # starting points of every problem


@dataclass(frozen=True)
class OracleProblem:
    """A data distribution, and the range of noise-to-signal ratios (`high` to `low`) over which its flow is compared.

    Its grids are uniform in log-SNR, except that every second step is `swing` times as long as the one before.

    >>> import torch
    >>> from diffuscope import VE, Gaussian, RectifiedFlow
    >>> from diffuscope.certify import OracleProblem
    >>> data = Gaussian.isotropic(torch.tensor([2.0]).double(), 3.0)
    >>> problem = OracleProblem("normal", "a Gaussian", data, high=13**0.5, low=1.0)
    >>> y = 2 + (problem.start(VE()) - 2) / 2  # (3 + 1) / (3 + 13) is the square of 1/2
    >>> torch.allclose(problem.exact_end(VE()), y), torch.allclose(problem.exact_end(RectifiedFlow()), y / 2)
    (True, True)
    """

    name: str
    title: str
    distribution: Distribution
    high: float = 4.0
    low: float = 0.1
    starts: int = STARTS
    swing: float = 1.0

    @cached_property
    def _start(self) -> Float[Tensor, "batch *event"]:
        draw = torch.Generator().manual_seed(11)
        x_0 = self.distribution.sample(self.starts, generator=draw).double()
        return x_0 + self.high * torch.randn(x_0.shape, dtype=torch.float64, generator=draw)

    @cached_property
    def _end(self) -> Float[Tensor, "batch *event"]:
        return flow(self.distribution, self._start, self.high, self.low)

    def start(self, schedule: Schedule) -> Batch:
        """Points of the noised distribution at sigma/alpha = `high`, the same in every schedule up to its scale."""
        return schedule.alpha(schedule.time_of_noise_to_signal(self.high)) * self._start

    def exact_end(self, schedule: Schedule) -> Batch:
        """The endpoints of their probability flow, at sigma/alpha = `low`."""
        return schedule.alpha(schedule.time_of_noise_to_signal(self.low)) * self._end

    def denoiser(self, schedule: Schedule) -> ExactDenoiser:
        """The exact denoiser under `schedule`."""
        return ExactDenoiser(self.distribution, schedule)

    def times(self, schedule: Schedule, steps: int) -> Float[Tensor, " times"]:
        """`steps` steps in log-SNR from `high` to `low`: equal, or alternately short and long."""
        ends = [float(schedule.time_of_noise_to_signal(ratio)) for ratio in (self.high, self.low)]
        if self.swing == 1:
            return log_snr_times(schedule, ends[0], ends[1], steps)
        lengths = torch.ones(steps, dtype=torch.float64)
        lengths[1::2] = self.swing
        inside = lengths.cumsum(0)[:-1] / lengths.sum()
        lam = schedule.lam(ends[0]) + inside * (schedule.lam(ends[1]) - schedule.lam(ends[0]))
        first, last = (torch.tensor([end], dtype=torch.float64) for end in ends)
        return torch.cat([first, schedule.time_of_lambda(lam), last])

    def in_uneven_steps(self) -> "OracleProblem":
        """The same problem on grids whose steps are alternately short and twice as long.

        A multistep formula that confuses the lengths of two steps is right on equal steps, and nearly so on steps that
        change slowly. Here it loses its order.
        """
        uneven = replace(self, swing=2.0)
        uneven.__dict__.update(_start=self._start, _end=self._end)  # solved once
        return uneven

    @cached_property
    def scale(self) -> float:
        """Root mean square of the exact endpoints per coordinate, the unit of errors."""
        return float(self._end.square().mean().sqrt())


def flow(distribution: Distribution, y: Batch, high: float, low: float) -> Batch:
    """The probability-flow map in y = x/alpha from sigma/alpha = `high` to `low`, float64.

    >>> import torch
    >>> from diffuscope import Gaussian
    >>> from diffuscope.certify import flow
    >>> data = Gaussian.isotropic(torch.tensor([2.0]), 3.0)
    >>> round(float(flow(data, torch.tensor([[10.0]]), high=13**0.5, low=1.0)), 4)  # 2 + 8 ((3 + 1) / (3 + 13))^(1/2)
    6.0
    """
    if isinstance(distribution, Gaussian):
        return distribution.flow(y, VE(), high, low)
    shape = y.shape

    def slope(log_ratio: float, flat: np.ndarray) -> np.ndarray:
        at = torch.from_numpy(flat).reshape(shape)
        return (at - distribution.denoise(at, 1.0, float(np.exp(log_ratio)))).reshape(-1).numpy()

    span = (float(np.log(high)), float(np.log(low)))
    solved = scipy.integrate.solve_ivp(slope, span, y.reshape(-1).numpy(), method="DOP853", rtol=1e-12, atol=1e-13)
    return torch.from_numpy(solved.y[:, -1]).reshape(shape)


@cache
def unequal_gaussian() -> OracleProblem:
    """Correlated coordinates with standard deviations 1.5 and 0.4: an affine flow in closed form.

    >>> from diffuscope.certify import unequal_gaussian
    >>> [round(variance**0.5, 9) for variance in unequal_gaussian().distribution.eigenvalues.tolist()]
    [1.5, 0.4]
    """
    rotation = torch.tensor([[0.8, -0.6], [0.6, 0.8]], dtype=torch.float64)
    distribution = Gaussian(
        torch.tensor([1.3, -0.4], dtype=torch.float64), rotation, torch.tensor([2.25, 0.16], dtype=torch.float64)
    )
    return OracleProblem("gaussian", "a Gaussian with unequal variances", distribution)


@cache
def wide_gaussian() -> OracleProblem:
    """The same, ten times as large and far from the origin, over six decades of noise: what clips or clamps shows.

    >>> from diffuscope.certify import wide_gaussian
    >>> [round(variance**0.5, 9) for variance in wide_gaussian().distribution.eigenvalues.tolist()]
    [15.0, 4.0]
    """
    narrow = unequal_gaussian().distribution
    assert isinstance(narrow, Gaussian)
    distribution = Gaussian(10 * narrow.mean, narrow.eigenvectors, 100 * narrow.eigenvalues)
    return OracleProblem("wide", "a wide Gaussian from noise 1e3 to 1e-3", distribution, high=1e3, low=1e-3)


@cache
def mixture(dimension: int = 2, components: int = 5) -> OracleProblem:
    """Gaussian components of different widths and weights at random places: a flow that branches.

    >>> import torch
    >>> from diffuscope.certify import mixture
    >>> data = mixture(3, components=4).distribution
    >>> far = data.denoise(torch.zeros(1, 3).double(), alpha=1.0, sigma=1e6)  # nothing but noise: the mean of the data
    >>> torch.allclose(far[0], data.weights @ data.means)
    True
    """
    draw = torch.Generator().manual_seed(5 + dimension)
    means = 1.5 * torch.randn(components, dimension, dtype=torch.float64, generator=draw)
    weights = 0.5 + torch.rand(components, dtype=torch.float64, generator=draw)
    variances = (0.2 + 0.4 * torch.rand(components, dtype=torch.float64, generator=draw)) ** 2
    distribution = GaussianMixture.isotropic(weights / weights.sum(), means, variances)
    return OracleProblem(f"mixture-{dimension}", f"a Gaussian mixture in {dimension} dimensions", distribution)


@cache
def finite_data(points: int = 12) -> OracleProblem:
    """A few points in the plane: the distribution of a memorizing model.

    >>> import torch
    >>> from diffuscope.certify import finite_data
    >>> data = finite_data(5).distribution
    >>> near = data.denoise(data.means + 0.01, alpha=1.0, sigma=0.01)  # almost clean: the nearest point
    >>> torch.allclose(near, data.means)
    True
    """
    data = torch.randn(points, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    weights = torch.full((points,), 1 / points, dtype=torch.float64)
    # a mixture of point masses: the distribution of `Empirical`, at a fifth of its cost for so few points
    distribution = GaussianMixture.isotropic(weights, data, torch.zeros(points, dtype=torch.float64))
    # below 0.4 most trajectories are close to one point, and the flow is that of a single point
    return OracleProblem("finite", f"{points} data points", distribution, low=0.4)


@cache
def ring() -> OracleProblem:
    """The uniform distribution on the unit circle: data on a manifold.

    >>> import scipy, torch
    >>> from diffuscope.certify import ring
    >>> denoised = ring().distribution.denoise(torch.tensor([[3.0, 0.0]]), alpha=1.0, sigma=1.0)
    >>> round(float(denoised[0, 0] / (scipy.special.i1(3.0) / scipy.special.i0(3.0))), 4), float(denoised[0, 1])
    (1.0, 0.0)
    """
    return OracleProblem("ring", "the unit circle", Ring(1.0))


def oracle_problems() -> tuple[OracleProblem, ...]:
    """The problems of a certificate, in the order of its page.

    >>> from diffuscope.certify import oracle_problems
    >>> [problem.name for problem in oracle_problems()]
    ['gaussian', 'mixture-2', 'mixture-64', 'finite', 'ring']
    """
    return unequal_gaussian(), mixture(2), mixture(64), finite_data(), ring()
