r"""The exact distribution of a stochastic sampler's endpoint on Gaussian data: no Monte Carlo.

On Gaussian data the denoiser is affine, and so is everything that a sampler does with it:

.. math::  x_{end} = A\,x_{start} + b + C \xi, \qquad E\,\xi = 0, \quad E\,\xi\xi^T = I .

`chosen_noise` replaces the noise by unit vectors, one per row of a batch, so that a single run of a black box gives A,
b and C. With a start drawn from the exact marginal N(m, P), the endpoint then has

.. math::  E = A m + b, \qquad V = A P A^T + C C^T ,

which are compared with the exact marginal at the end. Only mean and variance of the noise enter, so that uniform draws
do as well as normal ones, of any shape. A last row with a random start and random noise tests whether the map is
affine: samplers that accept, reject or adapt, or that draw signs, are not.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.denoisers import ExactDenoiser
from diffuscope.exact import Gaussian
from diffuscope.schedules import Schedule

from .asked import NotChosenError
from .chosen_noise import ChosenNoise, Drawn, Unheard, row_draws
from .target import Target


@dataclass(frozen=True, eq=False)
class AffineMap:
    """x_end = A x_start + b + C xi, with the numbers of all draws in xi, of mean 0 and variance 1, normal or not.

    `misfit` is the relative error of that for a row of other numbers, `precision` the spacing of the draws' dtype.

    >>> import torch
    >>> from diffuscope.certify import AffineMap
    >>> A, b, C = torch.tensor([[2.0]]), torch.tensor([1.0]), torch.tensor([[3.0, 4.0]])
    >>> mean, covariance = AffineMap(A, b, C, misfit=0.0).moments(torch.tensor([5.0]), torch.tensor([[7.0]]))
    >>> float(mean), float(covariance)  # 2 * 5 + 1 and 2^2 * 7 + 3^2 + 4^2
    (11.0, 53.0)
    """

    A: Float[Tensor, "d d"]
    b: Float[Tensor, " d"]
    C: Float[Tensor, "d numbers"]
    misfit: float
    precision: float = 0.0

    def moments(self, mean: Float[Tensor, " d"], covariance: Float[Tensor, "d d"]) -> tuple[Tensor, Tensor]:
        """Mean and covariance of x_end for x_start ~ N(mean, covariance)."""
        return self.A @ mean + self.b, self.A @ covariance @ self.A.T + self.C @ self.C.T


def affine_map(target: Target, denoiser: ExactDenoiser, times: Float[Tensor, " times"]) -> AffineMap:
    """The map of `target` over `times` on Gaussian data with flat events of d coordinates.

    Raises NotChosenError where some draw cannot be chosen row by row.

    >>> import torch
    >>> from diffuscope import VE, ExactDenoiser, Gaussian
    >>> from diffuscope.certify import affine_map, sampler_target
    >>> from diffuscope.samplers import DDPM
    >>> point = ExactDenoiser(Gaussian.isotropic(torch.tensor([1.0]), 0.0), VE())
    >>> found = affine_map(sampler_target(DDPM()), point, torch.tensor([5.0, 3.0]).double())
    >>> [round(float(part), 6) for part in (found.A, found.b, found.C)]  # e^-h = 3/5: 1 + 0.36 (x - 1) + 3 * 0.8 xi
    [0.36, 0.64, 2.4]
    """
    (d,) = denoiser.distribution.event_shape
    draws = row_draws(target, denoiser, times)
    own = [draw for draw in draws if draw is not None]
    if len(own) < len(draws):
        raise NotChosenError("rows share a draw")
    first = (1 + d + np.cumsum([0, *(draw.width for draw in own)])).tolist()  # the first row of each draw
    rows = first[-1] + 1
    # eighths are exact in every precision
    check = torch.randn(rows, dtype=torch.float64, generator=torch.Generator().manual_seed(2)).mul(8).round() / 8
    x = torch.zeros(rows, d, dtype=torch.float64)
    x[1 : 1 + d] = torch.eye(d, dtype=torch.float64)
    x[-1] = check[1 : 1 + d]

    def draw(k: int, drawn: Drawn) -> Tensor:
        if k >= len(own):
            raise NotChosenError("more draws than for fewer rows")
        chosen = torch.zeros(rows, own[k].width, dtype=torch.float64)
        chosen[first[k] : first[k + 1]] = torch.eye(own[k].width, dtype=torch.float64)
        chosen[-1] = check[first[k] : first[k + 1]]
        return own[k].laid_out(chosen, drawn)

    generator = torch.Generator() if target.stochastic else None
    with ChosenNoise(draw, generator):
        end = target.run(Unheard(denoiser), x, times, generator).double()
    b, moved = end[0], end[1:-1] - end[0]
    A, C = moved[:d].T, moved[d:].T
    predicted = b + moved.T @ check[1:-1]
    misfit = float((end[-1] - predicted).abs().max() / (1 + predicted.abs().max()))
    precision = max((torch.finfo(draw.dtype).eps for draw in own), default=0.0)
    return AffineMap(A, b, C, misfit, precision)


def marginal(distribution: Gaussian, schedule: Schedule, t: float) -> tuple[Tensor, Tensor]:
    """Mean and covariance of x_t."""
    return noised_moments(distribution, schedule.alpha(t), schedule.sigma(t))


def noised_moments(distribution: Gaussian, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and covariance of alpha x_0 + sigma eps."""
    U, tail = distribution.eigenvectors, distribution.tail_variance
    identity = torch.eye(distribution.dimension).double()
    covariance = U @ torch.diag(distribution.eigenvalues - tail) @ U.T + tail * identity
    return alpha * distribution.mean.reshape(-1), alpha**2 * covariance + sigma**2 * identity


@dataclass(frozen=True, eq=False)
class WeakError:
    """The errors of mean and covariance at the end, relative to the exact spread, and the misfit of the affine map."""

    errors: Float[np.ndarray, " moments"]
    misfit: float
    precision: float

    @property
    def largest(self) -> float:
        """The largest of them."""
        return float(np.abs(self.errors).max())


def weak_error(target: Target, denoiser: ExactDenoiser, times: Float[Tensor, " times"]) -> WeakError:
    """The errors of mean and covariance at the end of `times`, on Gaussian data.

    Raises NotChosenError where draws cannot be chosen, and TypeError for other data.

    >>> import torch
    >>> from diffuscope import DDIM, VE, ExactDenoiser, Gaussian
    >>> from diffuscope.certify import sampler_target, weak_error
    >>> model, times = ExactDenoiser(Gaussian.isotropic(torch.ones(1), 3.0), VE()), torch.tensor([6.0, 1.0]).double()
    >>> found = weak_error(sampler_target(DDIM()), model, times)  # x_s - 1 = (3 + 6) / (3 + 36) (x_t - 1)
    >>> round(found.largest, 6) == round((4 - 81 / 39) / 4, 6)
    True
    """
    distribution, schedule = denoiser.distribution, denoiser.schedule
    if not isinstance(distribution, Gaussian):
        raise TypeError(f"denoiser: expected that of a Gaussian, got that of {type(distribution).__name__}")
    endpoint = affine_map(target, denoiser, times)
    mean, covariance = endpoint.moments(*marginal(distribution, schedule, float(times[0])))
    exact_mean, exact_covariance = marginal(distribution, schedule, float(times[-1]))
    size = float(exact_covariance.diagonal().max())
    errors = torch.cat([(mean - exact_mean) / size**0.5, ((covariance - exact_covariance) / size).flatten()])
    return WeakError(errors.numpy(), endpoint.misfit, endpoint.precision)
