r"""The density that a given score generates by the reverse family, for any eta, on a grid.

Started from a distribution :math:`\nu` at noise level T, in reverse time :math:`\tau = T - t`,

.. math::
    \partial_\tau q = -\nabla\cdot\left(\left[-f x + \tfrac{1 + \eta^2}{2} g^2\, s(x, t)\right] q\right)
        + \tfrac{\eta^2}{2} g^2 \Delta q , \qquad s = \frac{\alpha D - x}{\sigma^2},

where s is the score of any denoiser D, exact or learned. With the exact score and :math:`\nu = p_T` every :math:`\eta`
gives :math:`q_\tau = p_{T - \tau}`. From another start the relative entropy decays at a rate set by :math:`\eta`:

.. math::  \frac{d}{d\tau}\,\mathrm{KL}(q_\tau\,\|\,p_{T-\tau})
           = -\tfrac{\eta^2}{2} g^2 \int q\,\Big|\nabla\log\frac{q}{p}\Big|^2 .

At eta = 0 there is no diffusion and the flux is upwind, of first order in h: use `generated_log_density` instead,
which follows log q along the probability flow without a grid.

Source: Cao et al. 2025, https://arxiv.org/abs/2501.17054, section 2; Song et al. 2021, appendix D.
"""

from collections.abc import Iterator
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.denoisers import Denoiser, denoised_to_score
from diffuscope.errors import InputError
from diffuscope.samplers import Eta, instant
from diffuscope.samplers.eta import eta_at

from .density import Density
from .fokker_planck import Boundary, FokkerPlanck, homogeneous_equation
from .grid import Grid
from .stepping import Scheme, evolution

Times = Float[Tensor, " times"]


def reverse_equation(
    denoiser: Denoiser, grid: Grid, start: float | int, *, eta: Eta = 1.0, boundary: Boundary = "no-flux"
) -> FokkerPlanck:
    """The equation of the reverse family in the time tau = start - t, for samples of shape (d,) on a grid of d axes.

    `eta` is a number or a function of t. The denoiser is evaluated at all face centers of an axis in one batch, once
    per axis and step.

    >>> import torch
    >>> from diffuscope.denoisers import ExactDenoiser
    >>> from diffuscope.densities import Grid, reverse_equation
    >>> from diffuscope.exact import Gaussian
    >>> from diffuscope.schedules import VP
    >>> normal = ExactDenoiser(Gaussian.isotropic(torch.zeros(1), 1.0), VP(2.0, 2.0))  # s = -x: u = -eta^2 x, A = eta^2
    >>> rate = reverse_equation(normal, Grid.line(0, 2, 2), 1.0, eta=2.0).rate(torch.tensor([1.0, 0.0]), 0.25)
    >>> [round(value, 6) for value in rate.tolist()]  # between the cells z = -1: eta^2 B(1) = 4 / (e - 1)
    [-2.327907, 2.327907]
    """
    schedule = denoiser.schedule

    @lru_cache(maxsize=1)  # the drift and the diffusion of every axis ask for one time after the other
    def half_g_and_eta_squared(t: float) -> tuple[float, float]:
        return float(schedule.g_squared(t)) / 2, eta_at(eta, instant(schedule, t)) ** 2

    @torch.no_grad()
    def drift(points: Tensor, tau: float) -> Tensor:
        t = start - tau
        half_g_squared, eta_squared = half_g_and_eta_squared(t)
        score = denoised_to_score(points, denoiser(points, t), schedule, t)
        return -float(schedule.f(t)) * points + (1 + eta_squared) * half_g_squared * score

    def diffusion(tau: float) -> float:
        half_g_squared, eta_squared = half_g_and_eta_squared(start - tau)
        return eta_squared * half_g_squared

    return homogeneous_equation(grid, drift, diffusion, boundary=boundary)


def reverse_evolution(
    denoiser: Denoiser,
    density: Density,
    times: Times,
    scheme: Scheme,
    *,
    eta: Eta = 1.0,
    boundary: Boundary = "no-flux",
) -> Iterator[Density]:
    """The generated density at each of the *decreasing* `times`, from `density` at the first.

    Raises InputError for times that do not decrease.

    >>> import torch
    >>> from diffuscope.denoisers import ExactDenoiser
    >>> from diffuscope.densities import CrankNicolson, Density, Grid, reverse_evolution
    >>> from diffuscope.exact import Gaussian
    >>> from diffuscope.schedules import VP
    >>> normal = ExactDenoiser(Gaussian.isotropic(torch.zeros(1), 1.0), VP(2.0, 2.0))
    >>> start, times = Density(Grid.line(-1, 1, 2), torch.tensor([1.0, 0.0])), torch.tensor([1.0, 0.5])
    >>> _, end = reverse_evolution(normal, start, times, CrankNicolson())  # u = 0 between the cells, A = 1, tau = 1/2
    >>> [round(value, 6) for value in end.values.tolist()]  # (1 +- (1 - 0.5) / (1 + 0.5)) / 2
    [0.666667, 0.333333]
    """
    if len(times) < 2 or not bool((times[1:] < times[:-1]).all()):
        raise InputError(f"times: expected at least two decreasing times, from noise to data, got {times.tolist()}")
    start = float(times[0])
    equation = reverse_equation(denoiser, density.grid, start, eta=eta, boundary=boundary)
    yield from evolution(equation, density, start - times, scheme)
