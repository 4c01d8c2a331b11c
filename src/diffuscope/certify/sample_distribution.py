"""The distribution of a stochastic sampler's samples, by Monte Carlo: on data that are not Gaussian, or for samplers
whose endpoints are not affine.
"""

import math
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.denoisers import ExactDenoiser
from diffuscope.exact import GaussianMixture
from diffuscope.findings import Finding
from diffuscope.schedules import Schedule

from .behavior import measured, run
from .problems import OracleProblem
from .target import Target


def moments(
    distribution: GaussianMixture, y: Float[Tensor, "batch d"], ratio: float
) -> Float[Tensor, "batch statistics"]:
    r"""Per sample, statistics whose means are known exactly: coordinates, their products, responsibilities, and width.

    The width is :math:`\sum_k w_k(y)|y - \mu_k|^2 / E|y - \mu_k|^2`, w_k(y) the responsibilities, E over component k.
    The second moments hardly depend on the widths of the components; this statistic depends on nothing else.
    """
    products = torch.einsum("bi,bj->bij", y, y).flatten(1)
    shares = distribution.responsibilities(y, 1.0, ratio)
    rank, d = distribution.eigenvalues.shape[1], y.shape[1]
    spread = distribution.eigenvalues.sum(1) + (d - rank) * distribution.tail_variances + d * ratio**2
    distances = (y[:, None] - distribution.means.flatten(1)).square().sum(2)
    width = (shares * distances / spread).sum(1, keepdim=True)
    return torch.cat([y, products, shares, width], dim=1)


def exact_moments(distribution: GaussianMixture, ratio: float) -> Float[Tensor, " statistics"]:
    """The means of `moments` under the noised distribution: mean, second moments, the weights, and 1."""
    overall = distribution.as_gaussian()
    mean, covariance = overall.mean.reshape(-1), overall.eigenvectors @ torch.diag(overall.eigenvalues)
    covariance = covariance @ overall.eigenvectors.T + ratio**2 * torch.eye(len(mean)).double()
    return torch.cat(
        [mean, (torch.outer(mean, mean) + covariance).flatten(), distribution.weights, torch.ones(1).double()]
    )


def distribution_finding(target: Target, problem: OracleProblem, schedule: Schedule, samples: int) -> Finding:
    """Monte Carlo on a mixture: means, second moments, component weights and widths, with their standard errors."""
    distribution = problem.distribution
    if not isinstance(distribution, GaussianMixture):
        raise TypeError(f"problem: expected a GaussianMixture, got {type(distribution).__name__}")
    denoiser, truth = ExactDenoiser(distribution, schedule), exact_moments(distribution, problem.low)
    # three schedules of a costly sampler share the time of one
    cost = 1 if schedule is target.schedules[0] else target.nfe_per_step or 1
    coarse, fine = (min(max(n // cost, target.coarsest), target.finest) for n in (40, 160))
    errors, standard_errors = [], []
    for n in (coarse, fine):
        draw = torch.Generator().manual_seed(17)
        clean = distribution.sample(samples, generator=draw).double()
        times = problem.times(schedule, n)
        noised = clean + problem.high * torch.randn(clean.shape, dtype=torch.float64, generator=draw)
        ended = run(target, denoiser, schedule.alpha(times[0]) * noised, times, seed=n)
        values = moments(distribution, ended.double() / schedule.alpha(times[-1]), problem.low)
        errors.append((values.mean(0) - truth).abs())
        standard_errors.append(values.std(0) / math.sqrt(samples))
    # on the finer grid, noise and at most half of the coarse bias may remain
    good = bool((errors[1] - errors[0] / 2 - 4.5 * standard_errors[1] <= 0).all())
    worst = float((errors[1] / standard_errors[1]).max())
    told = f"the worst of {len(truth)} is {worst:.1f} standard errors off at {fine} steps"
    say = partial(
        measured,
        value=worst,
        unit="standard errors",
        null=f"{samples:,} samples; within 4.5 standard errors plus half of the bias at {coarse} steps.",
        power=f"An error of {9 * float(standard_errors[1].max()):.2g} in one of them would have been found.",
    )
    about = f"Means, second moments, component weights and widths on {problem.title} are"
    if good:
        return say(verdict=f"{about} right: {told}.", tone="good")
    if fine < 2 * coarse and target.finest <= fine:
        verdict = f"{about} off: {told}; whether that vanishes takes more than the {target.finest} steps it accepts."
        return say(verdict=verdict, tone="unknown", power="")
    return say(verdict=f"{about} wrong: {told}.", tone="alarm")
