r"""The density that a given score generates: the reverse family with one dial, on a grid.

Started from a law :math:`\nu` at noise level T, in the reverse clock :math:`\tau = T - t`,

.. math::
    \partial_\tau q = -\nabla\cdot\left(\left[-f x + \tfrac{1 + \eta^2}{2} g^2\, s(x, t)\right] q\right)
        + \tfrac{\eta^2}{2} g^2 \Delta q , \qquad s = \frac{\alpha D - x}{\sigma^2},

with s the score of any denoiser D, exact or learned. With the exact score and :math:`\nu = p_T` every :math:`\eta`
gives :math:`q_\tau = p_{T - \tau}`. From another start the wrong information dies at the rate of :math:`\eta`:

.. math::  \frac{d}{d\tau}\,\mathrm{KL}(q_\tau\,\|\,p_{T-\tau})
           = -\tfrac{\eta^2}{2} g^2 \int q\,\Big|\nabla\log\frac{q}{p}\Big|^2 .

At eta = 0 nothing diffuses, the flux is upwind and first order in h: there follow the characteristics instead
(`densities.transport`), which carry log q along the probability flow without a grid.

Source: Cao et al. 2025, https://arxiv.org/abs/2501.17054, section 2; Song et al. 2021, appendix D.
"""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.denoisers import Denoiser, denoised_to_score
from diffuscope.densities.density import Density
from diffuscope.densities.fokker_planck import Boundary, FokkerPlanck, ito_equation
from diffuscope.densities.grid import Grid
from diffuscope.densities.stepping import Scheme, evolution
from diffuscope.errors import InputError
from diffuscope.samplers import Eta, Instant, instant
from diffuscope.samplers.eta import eta_at
from diffuscope.schedules import Schedule

Times = Float[Tensor, " times"]


def reverse_equation(
    denoiser: Denoiser, grid: Grid, start: float | int, *, eta: Eta = 1.0, boundary: Boundary = "no-flux"
) -> FokkerPlanck:
    """The equation of the reverse family in the clock tau = start - t, for samples of shape (d,) on a grid in d axes.

    `eta` is a number or a function of t. The denoiser is asked at all face centers of an axis in one batch, once per
    axis and step.
    """
    schedule = denoiser.schedule

    @torch.no_grad()
    def drift(points: Tensor, tau: float) -> Tensor:
        at = instant(schedule, start - tau)
        score = denoised_to_score(points, denoiser(points, at.t), schedule, at.t)
        return -float(schedule.f(at.t)) * points + (1 + eta_at(eta, at) ** 2) * _diffusion(schedule, at) * score

    def diffusion(points: Tensor, tau: float) -> Tensor:
        at = instant(schedule, start - tau)
        return points.new_full(points.shape[:1], eta_at(eta, at) ** 2 * _diffusion(schedule, at))

    return ito_equation(grid, drift, diffusion, boundary=boundary)


def reverse_evolution(
    denoiser: Denoiser,
    density: Density,
    times: Times,
    scheme: Scheme,
    *,
    eta: Eta = 1.0,
    boundary: Boundary = "no-flux",
) -> Iterator[Density]:
    """The generated density at every one of the *decreasing* `times`, from `density` at the first.

    Raises InputError for times that do not decrease.
    """
    if len(times) < 2 or not bool((times[1:] < times[:-1]).all()):
        raise InputError(f"times: expected at least two decreasing times, from noise to data, got {times.tolist()}")
    start = float(times[0])
    equation = reverse_equation(denoiser, density.grid, start, eta=eta, boundary=boundary)
    yield from evolution(equation, density, start - times, scheme)


def _diffusion(schedule: Schedule, at: Instant) -> float:
    """g^2 / 2."""
    return float(schedule.g_squared(at.t)) / 2
