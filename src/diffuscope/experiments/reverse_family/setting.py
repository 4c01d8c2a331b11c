"""The data, the process, the right and the wrong start of the reverse family's experiment."""

import torch
from torch import Tensor

from diffuscope.denoisers import ExactDenoiser
from diffuscope.densities import Density, GaussianReverse, Grid
from diffuscope.exact import Gaussian, GaussianMixture
from diffuscope.schedules import VP

from ..distribution_functions import distribution_function

PAPER = "Cao et al. 2025, section 2"


OU = VP(3.0, 3.0)  # Ornstein-Uhlenbeck: its time 1 is the time 1.5 of dX = -X dt + sqrt 2 dB


HORIZON = 1.0


ETAS = (0.0, 0.5, 1.0, 2.0)


DATA = GaussianMixture.isotropic(
    torch.tensor([0.35, 0.65], dtype=torch.float64),
    torch.tensor([[-1.4], [1.0]], dtype=torch.float64),
    torch.tensor([0.06, 0.12], dtype=torch.float64),
)


DENOISER = ExactDenoiser(DATA, OU)


CLEAN = 0.007  # where generation stops


WRONG = Gaussian.isotropic(torch.tensor([-0.6], dtype=torch.float64), 1.3)  # the start of what goes wrong


def log_law(t: float, x: Tensor) -> Tensor:
    """log p_t(x) of the mixture."""
    return DATA.log_prob(x, float(OU.alpha(t)), float(OU.sigma(t)))


def cells_of(grid: Grid, t: float) -> Density:
    """Exact averages of p_t."""
    return Density(grid, grid.averages(lambda x: log_law(t, x), nodes=4))


def wrong_start(x: Tensor) -> Tensor:
    """log of the wrong start's density."""
    return WRONG.log_prob(x, 1.0, 1e-9)


def gaussian(eta: float) -> GaussianReverse:
    """Data N(1.3, .25), started at T = 1 from N(0, 1)."""
    return GaussianReverse(OU, 1.3, 0.25, HORIZON, 0.0, 1.0, eta)


def cdf(t: float, x: Tensor) -> Tensor:
    """The distribution function of p_t at the numbers x."""
    return distribution_function(DATA, x, float(OU.alpha(t)), float(OU.sigma(t)))
