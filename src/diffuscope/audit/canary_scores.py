r"""How well does the model denoise each canary? The scores behind the lower bound of epsilon.

The score of a canary is minus its mean log loss over noise levels and draws of noise, relative to its difficulty
(`attack_scores.residuals`, `difficulty`). All canaries share the noise. Nothing here may depend on the coins, and so
not on the training set either, which holds the canaries that are in: the levels are those where denoising the
*canaries* is not trivial, :math:`\rho^2 / (\rho^2 + s^2)` between 0.25% and 95% for their own standard deviation s, and
the references are fitted to all canaries.
"""

import numpy as np
import torch
from jaxtyping import Float

from diffuscope.data import Canaries
from diffuscope.denoisers import Denoiser

from .attack_scores import log_losses, residuals
from .difficulty import difficulty
from .level_measures import TRIVIAL
from .subject import Levels, evaluate, noise_levels, noised

DRAWS = 2


def canary_levels(denoiser: Denoiser, canaries: Canaries, count: int) -> Levels:
    """The levels among `count` where denoising the canaries is not trivial; InputError if the model has none."""
    scale = canary_scale(canaries)
    levels = noise_levels(denoiser, scale, count)
    share = levels.ratios**2 / (levels.ratios**2 + scale**2)
    kept = (share >= TRIVIAL[0]) & (share <= TRIVIAL[1])
    return Levels(levels.times[kept], levels.ratios[kept])


def canary_scale(canaries: Canaries) -> float:
    """The standard deviation of a coordinate of the canaries."""
    return float(canaries.examples.flatten(1).var(0, unbiased=False).double().mean().sqrt())


def canary_scores(
    denoiser: Denoiser, canaries: Canaries, count: int, generator: torch.Generator
) -> Float[np.ndarray, " m"]:
    """The scores of the canaries, high for those that the model knows; `count` is the audit's number of levels.

    Zero for all if the model covers none of the levels that matter.
    """
    levels, x = canary_levels(denoiser, canaries, count), canaries.examples
    schedule, variance = denoiser.schedule, canary_scale(canaries) ** 2 * x[0].numel()
    left = []
    for _ in range(DRAWS if len(levels) else 0):
        noise = torch.randn(x.shape[1:], generator=generator).expand_as(x)
        squares = [evaluate(denoiser, noised(schedule, x, noise, t), t) - x for t, _ in levels]
        losses = torch.stack([d.flatten(1).double().square().sum(1) for d in squares], 1).numpy()
        easy = difficulty(x, noise, levels, schedule).numpy()
        left.append(residuals(log_losses(losses, variance), log_losses(easy, variance)).mean(1))
    return -np.mean(left, 0) if left else np.zeros(len(x))
