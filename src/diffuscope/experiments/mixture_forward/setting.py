"""The mixture, its process and its exact law."""

import torch
from torch import Tensor

from diffuscope.densities import Density, FokkerPlanck, Grid, gradient_equation
from diffuscope.exact import GaussianMixture
from diffuscope.schedules import VP

ARTICLE = "Chen Kai, PDE and Machine Learning (7), experiment 1"


SCHEDULE = VP(1.0, 1.0)


TIMES = (0.0, 0.15, 0.4, 0.8, 1.5, 3.0)


CLEAN = 1e-9  # stands for sigma = 0, at which a noised law is not defined


PAIR = GaussianMixture.isotropic(
    torch.tensor([0.5, 0.5], dtype=torch.float64),
    torch.tensor([[-2.0], [2.0]], dtype=torch.float64),
    torch.tensor([0.25, 0.25], dtype=torch.float64),
)


def log_law(t: float, x: Tensor) -> Tensor:
    """log p_t(x)."""
    return PAIR.log_prob(x, float(SCHEDULE.alpha(t)), max(float(SCHEDULE.sigma(t)), CLEAN))


def cells_of(grid: Grid, t: float) -> Density:
    """The exact averages over the cells."""
    return Density(grid, grid.averages(lambda x: log_law(t, x)))


def relaxation(grid: Grid) -> FokkerPlanck:
    """The same equation, known to be steady and to come from the potential x^2 / 4."""
    return gradient_equation(grid, lambda x: x[:, 0] ** 2 / 4, 0.5)
