"""The pair of modes that heat spreads."""

import math

import torch

from diffuscope.densities import Density, Grid
from diffuscope.exact import GaussianMixture

ARTICLE = "Chen Kai, PDE and Machine Learning (7), experiment 1"


SEPARATION = 2.0  # modes at +-2


VARIANCE = 0.25  # of each mode


SPREAD = 0.5  # D t


PAIR = GaussianMixture.isotropic(
    torch.tensor([0.5, 0.5], dtype=torch.float64),
    torch.tensor([[-SEPARATION], [SEPARATION]], dtype=torch.float64),
    torch.tensor([VARIANCE, VARIANCE], dtype=torch.float64),
)


def spread(grid: Grid, variance: float) -> Density:
    """The pair with its variance grown by `variance`, at the centers."""
    return Density(grid, grid.evaluate(lambda x: PAIR.log_prob(x, 1.0, math.sqrt(max(variance, 1e-30)))))
