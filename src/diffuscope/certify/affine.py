r"""The exact distribution of a stochastic sampler's endpoint on Gaussian data: no Monte Carlo.

On Gaussian data the denoiser is affine, and so is everything that a sampler does with it:

.. math::  x_{end} = A\,x_{start} + b + \sum_k C_k \xi_k, \qquad \xi_k \sim N(0, I) .

`chosen_noise` replaces the noise by unit vectors, one per row of a batch, so that a single run of a black box gives A,
b and every C_k. With a start drawn from the exact marginal N(m, P), the endpoint then has

.. math::  E = A m + b, \qquad V = A P A^T + \sum_k C_k C_k^T ,

which are compared with the exact marginal at the end. A last row with a random start and random noise tests whether the
map is affine: samplers that accept, reject or adapt are not.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.denoisers import ExactDenoiser
from diffuscope.exact import Gaussian
from diffuscope.schedules import Schedule

from .chosen_noise import ChosenNoise, no_noise
from .target import Target


@dataclass(frozen=True, eq=False)
class AffineMap:
    """x_end = A x_start + b + sum_k C_k xi_k; `misfit` is the relative error of that for a random row."""

    A: Float[Tensor, "d d"]
    b: Float[Tensor, " d"]
    C: Float[Tensor, "draws d d"]
    misfit: float

    def moments(self, mean: Float[Tensor, " d"], covariance: Float[Tensor, "d d"]) -> tuple[Tensor, Tensor]:
        """Mean and covariance of x_end for x_start ~ N(mean, covariance)."""
        noise = torch.einsum("kij,klj->il", self.C, self.C)
        return self.A @ mean + self.b, self.A @ covariance @ self.A.T + noise


def count_draws(target: Target, denoiser: ExactDenoiser, times: Float[Tensor, " times"]) -> ChosenNoise:
    """Count the random draws of a run of `target`, normal and other ones."""
    x = torch.zeros(1, *denoiser.distribution.event_shape, dtype=torch.float64)
    generator = torch.Generator() if target.stochastic else None
    with ChosenNoise(no_noise, generator) as noise:
        target.run(denoiser, x, times, generator)
    return noise


def affine_map(target: Target, denoiser: ExactDenoiser, times: Float[Tensor, " times"]) -> AffineMap:
    """The map of `target` over `times` on Gaussian data with flat events of d coordinates."""
    (d,) = denoiser.distribution.event_shape
    draws = count_draws(target, denoiser, times).draws
    rows = 1 + d + draws * d + 1
    check = torch.randn(1 + draws, d, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    x = torch.zeros(rows, d, dtype=torch.float64)
    x[1 : 1 + d] = torch.eye(d, dtype=torch.float64)
    x[-1] = check[0]

    def draw(k: int, shape: tuple[int, ...]) -> Tensor:
        chosen = torch.zeros(shape, dtype=torch.float64)
        if shape == (rows, d) and k < draws:
            first = 1 + d + k * d
            chosen[first : first + d] = torch.eye(d, dtype=torch.float64)
            chosen[-1] = check[1 + k]
        return chosen

    generator = torch.Generator() if target.stochastic else None
    with ChosenNoise(draw, generator):
        end = target.run(denoiser, x, times, generator)
    b = end[0]
    A = (end[1 : 1 + d] - b).T
    C = (end[1 + d : -1] - b).reshape(draws, d, d).transpose(1, 2)
    predicted = A @ check[0] + b + torch.einsum("kij,kj->i", C, check[1:])
    misfit = float((end[-1] - predicted).abs().max() / (1 + predicted.abs().max()))
    return AffineMap(A, b, C, misfit)


def marginal(distribution: Gaussian, schedule: Schedule, t: float) -> tuple[Tensor, Tensor]:
    """Mean and covariance of x_t."""
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    U, tail = distribution.eigenvectors, distribution.tail_variance
    identity = torch.eye(distribution.dimension).double()
    covariance = U @ torch.diag(distribution.eigenvalues - tail) @ U.T + tail * identity
    return alpha * distribution.mean.reshape(-1), alpha**2 * covariance + sigma**2 * identity


def weak_error(target: Target, denoiser: ExactDenoiser, times: Float[Tensor, " times"]) -> tuple[float, float]:
    """The largest error of mean and covariance at the end, relative to the exact spread, and the misfit of the map."""
    distribution, schedule = denoiser.distribution, denoiser.schedule
    if not isinstance(distribution, Gaussian):
        raise TypeError(f"denoiser: expected that of a Gaussian, got that of {type(distribution).__name__}")
    endpoint = affine_map(target, denoiser, times)
    mean, covariance = endpoint.moments(*marginal(distribution, schedule, float(times[0])))
    exact_mean, exact_covariance = marginal(distribution, schedule, float(times[-1]))
    size = float(exact_covariance.diagonal().max())
    mean_error = float((mean - exact_mean).abs().max()) / size**0.5
    return max(mean_error, float((covariance - exact_covariance).abs().max()) / size), endpoint.misfit
