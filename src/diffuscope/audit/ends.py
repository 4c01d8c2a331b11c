r"""Is the last noise level high enough to start from pure noise, and is the mean preserved at every level?

*Ends.* A sampler that starts from :math:`\sigma_T\varepsilon` in place of :math:`\alpha_T x_0 + \sigma_T\varepsilon` is
wrong by the signal that is left. Its cost is measured: samples of the same noise, started from pure noise and from the
Gaussian with the first two moments of the noised data (by the optimal map between the two), differ by a mean and by a
root mean square, in standard deviations of the data.

*Bias.* Averaged over the data, a denoiser preserves the mean, :math:`E[D(x_t)] = E[x_0]`, at every level; a shift of
the mean is a drift of brightness (per channel, for images).
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from diffuscope.denoisers import Batch, Denoiser
from diffuscope.exact import Gaussian
from diffuscope.samplers import DPMSolverPP2M, finish, model_times

from .subject import Levels, evaluate, noised

STEPS, STARTS = 15, 64


@dataclass(frozen=True, kw_only=True)
class Start:
    """Starting from pure noise at the highest trained level: what it moves, in standard deviations of the data."""

    ratio: float  # sigma / alpha there, over the standard deviation of the data
    shift: float  # of the mean
    shift_error: float  # its standard error
    displacement: float  # root mean square

    @classmethod
    def unknown(cls) -> "Start":
        """Of a model that cannot be sampled."""
        return cls(ratio=math.nan, shift=math.nan, shift_error=math.nan, displacement=math.nan)


def matched_start(gaussian: Gaussian, alpha: float, sigma: float, noise: Batch) -> Batch:
    """`sigma noise` moved to N(alpha mu, alpha^2 Sigma + sigma^2 I) by the optimal map between the Gaussians."""
    vectors, rows = gaussian.eigenvectors, noise.flatten(1).double()
    along, tail = ((alpha**2 * v / sigma**2 + 1) ** 0.5 for v in (gaussian.eigenvalues, gaussian.tail_variance))
    moved = tail * rows + (rows @ vectors * (along - tail)) @ vectors.T
    return (alpha * gaussian.mean + sigma * moved.reshape(noise.shape)).to(noise.dtype)


def start_from_noise(denoiser: Denoiser, gaussian: Gaussian, scale: float, generator: torch.Generator) -> Start:
    """Measure with DPM-Solver++(2M) in STEPS steps, for STARTS samples."""
    times = model_times(denoiser, STEPS)
    alpha, sigma = (float(f(times[0])) for f in (denoiser.schedule.alpha, denoiser.schedule.sigma))
    noise = torch.randn(STARTS, *gaussian.mean.shape, generator=generator)
    pure = finish(denoiser, DPMSolverPP2M(), sigma * noise, times)
    matched = finish(denoiser, DPMSolverPP2M(), matched_start(gaussian, alpha, sigma, noise), times)
    moved = (pure - matched).flatten(1).double() / scale
    means = moved.mean(1)
    return Start(
        ratio=sigma / alpha / scale if alpha else float("inf"),
        shift=float(means.mean()),
        shift_error=float(means.std() / math.sqrt(STARTS)),
        displacement=float(moved.square().mean().sqrt()),
    )


def channel_means(x: Batch) -> Float[Tensor, "n channels"]:
    """The mean of every channel of images, every coordinate of points with at most three, and all values otherwise."""
    if x.ndim == 4 and x.shape[1] <= 4:
        return x.double().mean((2, 3))
    return x.double() if x.ndim == 2 and x.shape[1] <= 3 else x.flatten(1).double().mean(1, keepdim=True)


def level_errors(denoiser: Denoiser, levels: Levels, clean: Batch, noise: Batch) -> dict[str, Float[ndarray, "..."]]:
    """Per level and example: the squared error, and the error of the mean per channel."""
    squares, means = [], []
    for t, _ in levels:
        error = evaluate(denoiser, noised(denoiser.schedule, clean, noise, t), t) - clean
        squares.append(error.flatten(1).double().square().sum(1).numpy())
        means.append(channel_means(error).numpy())
    return {"squares": np.stack(squares), "means": np.stack(means)}
