r"""Held-out minus training loss by noise level, of networks and of exact memorizers.

With R_S and R_p the irreducible losses of the training set and of the distribution,

.. math::
    \text{gap}(\sigma) = \underbrace{E_p|D - D_p|^2 + R_p}_{\text{held-out loss}}
      - \underbrace{(E_S|D - D_S|^2 + R_S)}_{\text{training loss}},

all per coordinate. For the memorizer D = D_S the training excess is zero and the gap is a property of the examples
alone. The gap is measured in units of R_p, and *opens* at the largest :math:`\sigma` where it reaches one.

R_S and R_p are means of exact posterior variances over drawn x_t, R_S over each set's own and R_p over HELD_OUT that
all sets share: an error of up to 1% in R_p (one standard error) is common to all gaps, and in no interval over sets.
Losses are those of 512 points at each of 9 levels from 0.015 to 1.5, and of 3,000 held-out draws, 1,500 for memorizers,
which are far from exact there.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.exact import Empirical, nearest_other_neighbors
from diffuscope.training import Optimum

from ..three_modes import MODES
from .ladder import Ladder

LEVELS = torch.logspace(math.log10(0.015), math.log10(1.5), 9, dtype=torch.float64)
POINTS, HELD_OUT = 512, 3000
RECALLED = 1500  # of the held-out draws: enough for a memorizer, which is far from exact there


@dataclass(frozen=True, eq=False)
class Gaps:
    """Both losses of networks and of exact memorizers; R_p; half the mean distance of an example to its nearest."""

    train: Float[Tensor, "sets sizes levels"]
    heldout: Float[Tensor, "sets sizes levels"]
    memorizer_train: Float[Tensor, "sets sizes levels"]
    memorizer_heldout: Float[Tensor, "sets sizes levels"]
    floor: Float[Tensor, " levels"]
    marker: Float[Tensor, "sets sizes"]

    @property
    def network(self) -> Float[Tensor, "sets sizes levels"]:
        """The gaps of the networks, in floors."""
        return (self.heldout - self.train) / self.floor

    @property
    def memorizer(self) -> Float[Tensor, "sets sizes levels"]:
        """The same of the exact memorizers."""
        return (self.memorizer_heldout - self.memorizer_train) / self.floor


@torch.no_grad()
def measured(ladder: Ladder, generator: torch.Generator) -> Gaps:
    """One set of held-out draws serves all networks; every training set has noised examples of its own."""
    shape = (ladder.sets, len(ladder.sizes), len(LEVELS))
    train, heldout, memorizer_train, memorizer_heldout = torch.zeros(4, *shape, dtype=torch.float64)
    marker = torch.zeros(shape[:2], dtype=torch.float64)
    noised = [
        MODES.sample(HELD_OUT, generator=generator)
        + sigma * torch.randn(HELD_OUT, 2, dtype=torch.float64, generator=generator)
        for sigma in LEVELS
    ]
    exact = [MODES.denoise(x, 1.0, sigma) for x, sigma in zip(noised, LEVELS, strict=True)]
    covariances = (MODES.posterior_covariance(x, 1.0, sigma) for x, sigma in zip(noised, LEVELS, strict=True))
    floor = torch.stack([covariance.trace().mean() / 2 for covariance in covariances])
    for s, rungs in enumerate(ladder.examples):
        for k, examples in enumerate(rungs):
            denoiser, p = ladder.alone(s, k), Empirical(examples)
            marker[s, k] = float(nearest_other_neighbors(examples, 1)[0].mean()) / 2
            repeated = examples.repeat(-(-POINTS // len(examples)), 1).float()  # enough to noise
            optimum = Optimum.of(denoiser, repeated, noise_to_signal=tuple(LEVELS.tolist()), points=POINTS, seed=s)
            for j, level in enumerate(optimum.distance(denoiser, 0).levels):
                train[s, k, j], memorizer_train[s, k, j] = level.train.loss, level.train.irreducible
                off = denoiser(noised[j].float(), LEVELS[j]).double() - exact[j]
                heldout[s, k, j] = off.square().mean() + floor[j]
                off = p.denoise(noised[j][:RECALLED], 1.0, LEVELS[j]) - exact[j][:RECALLED]
                memorizer_heldout[s, k, j] = off.square().mean() + floor[j]
    return Gaps(train, heldout, memorizer_train, memorizer_heldout, floor, marker)


def opening(gap: Float[Tensor, " levels"]) -> Float[Tensor, ""]:
    """The largest sigma where the gap is one, between levels on a log-log line; NaN if it is one nowhere."""
    above = (gap >= 1).nonzero()
    if len(above) == 0:
        return torch.tensor(math.nan, dtype=torch.float64)
    k = int(above[-1])
    if k == len(gap) - 1:
        return LEVELS[-1]
    low, high = gap[k].log(), gap[k + 1].clamp_min(1e-3).log()
    share = low / (low - high)
    return (LEVELS[k].log() * (1 - share) + LEVELS[k + 1].log() * share).exp()
