r"""Transition rates: the formula of weak noise against the slowest eigenvalue of the Fokker-Planck operator.

From a stable point over a saddle :math:`k = C\,e^{-\Delta S}` with the prefactor of `theory.paths.transition_rate`,
which holds in the limit of weak noise. Between two states that mirror each other forward and backward rate are equal,
and their sum over all saddles is the smallest nonzero eigenvalue :math:`\kappa` of the Fokker-Planck operator. With the
noise strength D the ratio

.. math::  \rho(D) = \frac{k_{ab} + k_{ba}}{\kappa} = 1 + c_1 D + c_2 D^2 + \ldots

must tend to 1. The eigenvalue is extrapolated from two grids, of N and 2N cells per axis; its uncertainty is taken to
be a tenth of the correction. That of a particle with friction is spectral (`kinetic_eigenvalue`), its uncertainty the
change under more points and functions. The limit is that of a parabola through the ratios, its uncertainty the change
when a line is fitted instead, and the errors of the ratios times their weights in it.

Systems: the double well :math:`U = x^4/4 - x^2/2`; Maier & Stein's
:math:`f = (x - x^3 - \beta x y^2,\; -(1 + x^2) y)` at beta = 2, which has no potential; a particle in the double well
with friction, noise in its velocity alone. The barrier of all is 0.25: 20 to 10 times the noise.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from diffuscope.densities import FokkerPlanck, Grid, gradient_equation, ito_equation, relaxation_rates
from diffuscope.errors import InputError
from diffuscope.findings import line
from diffuscope.theory.paths import Dynamics, Rate, kramers, transition_rate

from .experiment import Experiment
from .kinetic_eigenvalue import kinetic_rates
from .part import Part, largest_difference, panel

BARRIER = 0.25  # of the double well, and of Maier and Stein's system, at D = 1
NOISES = (0.0125, 0.015, 0.02, 0.025)
BETA, BETAS, CAUSTIC = 2.0, (0.5, 1.0, 2.0, 3.0, 3.5, 3.9), 4.0
FRICTION = 2.0
CELLS = 100  # per axis, of the coarser grid of a particle with friction
CLOSE, LIMIT = 0.05, 0.01  # required of the ratio at barrier / noise = 10 and above, and of its limit
EXPERIMENT = Experiment(
    name="rates",
    title="Transition rates, with their prefactors",
    question="How often is a metastable state left, and how weak must the noise be for the formula to hold?",
    source="Bouchet & Reygner 2016",
    seconds=60,
    settings={
        "D": "0.0125, 0.015, 0.02, 0.025",
        "beta": "2; prefactors at 0.5, 1, 2, 3, 3.5, 3.9, and none at the caustic, 4",
        "friction": "2; the coarser grid of the particle has 100 cells per axis",
        "requirements": "a ratio within 0.05 of 1, and a limit within 0.01",
    },
)


Eigenvalue = Callable[[float, float], tuple[float, float]]  # its value and relative error, of noise and shift


@dataclass(frozen=True)
class Ratio:
    """Theory over eigenvalue at every noise, with uncertainties of the eigenvalue, and the limit without noise."""

    noises: tuple[float, ...]
    values: tuple[float, ...]
    errors: tuple[float, ...]
    limit: float
    limit_error: float


def ratio(rate: Rate, eigenvalue: Eigenvalue, noises: tuple[float, ...]) -> Ratio:
    """Twice the rate over the eigenvalue."""
    values, errors = [], []
    for noise in noises:
        both = 2 * rate.at(noise)
        found, uncertain = eigenvalue(noise, both)
        values.append(both / found)
        errors.append(values[-1] * uncertain)
    limit, error = without_noise(noises, values, errors)
    return Ratio(noises, tuple(values), tuple(errors), limit, error)


def on_grids(equation: Callable[[float, int], FokkerPlanck], cells: int) -> Eigenvalue:
    """Extrapolated from grids of `cells` and 2 `cells` per axis."""

    def eigenvalue(noise: float, shift: float) -> tuple[float, float]:
        coarse, fine = (float(relaxation_rates(equation(noise, n), shift=shift)[0]) for n in (cells, 2 * cells))
        correction = math.log(fine / coarse) / 3
        return fine * math.exp(correction), abs(correction) / 10

    return eigenvalue


def spectral(noise: float, shift: float) -> tuple[float, float]:
    """That of a particle with friction, by Hermite functions."""
    reach = math.sqrt(1 + math.sqrt(80 * noise))
    coarse, fine = (
        float(kinetic_rates(lambda x: x**3 - x, FRICTION, noise, reach, shift=shift, points=n, functions=m)[0])
        for n, m in ((60, 20), (80, 30))
    )
    return fine, abs(fine / coarse - 1)


def without_noise(noises: tuple[float, ...], values: list[float], errors: list[float]) -> tuple[float, float]:
    """The parabola of least squares at zero noise; its change when it is a line, and the errors, all of one sign."""
    parabola, straight = (float(np.polyfit(noises, values, degree)[-1]) for degree in (2, 1))
    weights = np.linalg.pinv(np.vander(noises, 3))[-1]
    return parabola, abs(parabola - straight) + float(np.abs(weights) @ np.array(errors))


def claim_close(part: Part, found: Ratio, system: str) -> None:
    """The ratio is near 1 where the barrier is at least ten times the noise."""
    off = largest_difference(found.values, 1)
    times = BARRIER / max(found.noises)
    title = f"{system}: off by at most {CLOSE:.0%} where the barrier is {times:g} times the noise or more"
    part.at_most(f"{part.name}-close", title, off, CLOSE, "the next order in the noise", source="derived")


def claim_limit(part: Part, found: Ratio, system: str) -> None:
    """The ratio tends to 1."""
    because = f"a parabola in the noise; its uncertainty is {found.limit_error:.1g}"
    title = f"{system}: theory over eigenvalue, extrapolated to zero noise"
    part.equals(f"{part.name}-limit", title, found.limit, 1, LIMIT, because)


def chart(part: Part, found: Ratio, system: str) -> None:
    """The ratio against the noise."""
    noises, values, errors = (torch.tensor(each) for each in (found.noises, found.values, found.errors))
    end = torch.tensor([found.limit, found.values[0]])
    half = torch.tensor([found.limit_error, found.errors[0]])
    part.chart(
        f"{system}: theory over eigenvalue",
        panel(
            "", "noise D", "ratio of the rates",
            line(noises, values, "theory / eigenvalue", low=values - errors, high=values + errors),
            line([0.0, found.noises[0]], end, "extrapolated", style="dashed", low=end - half, high=end + half),
            line([0.0, max(found.noises)], [1.0, 1.0], "1", style="dotted"),
        ),
        how_to_read=f"It tends to {found.limit:.4f} with an uncertainty of {found.limit_error:.1g}. Bands: uncertainty "
        "of the eigenvalue and of the extrapolation.",
    )  # fmt: skip


@EXPERIMENT.part("In a double well?")
def double_well(part: Part) -> str:
    """Eyring and Kramers' formula in one dimension, by the general method."""
    rate = transition_rate(Dynamics(lambda x: x - x**3, 1.0), torch.tensor([-1.0]), torch.tensor([0.0]))
    found = ratio(rate, on_grids(lambda noise, n: gradient_equation(Grid.line(-2, 2, n), well, noise), 400), NOISES)
    claim_close(part, found, "Double well")
    claim_limit(part, found, "Double well")
    chart(part, found, "Double well")
    return f"The ratio is {said(found)}."


@EXPERIMENT.part("Without a potential?")
def maier_stein(part: Part) -> str:
    """Maier and Stein's system: the prefactor needs the Riccati equation along the path, and diverges at beta = 4."""
    start, end = torch.tensor([-1.0, 0.0]), torch.tensor([0.0, 0.0])
    rates = [transition_rate(Dynamics(swirl(beta), 1.0), start, end) for beta in BETAS]
    found = ratio(rates[BETAS.index(BETA)], on_grids(swirling, 80), NOISES)
    claim_limit(part, found, f"Maier and Stein, beta = {BETA:g}")
    refused = 0
    try:
        transition_rate(Dynamics(swirl(CAUSTIC), 1.0), start, end)
    except InputError:
        refused = 1
    part.equals("caustic", "At beta = 4 the prefactor is refused", refused, 1, 0, "the Riccati solution is not smooth")
    chart(part, found, "Maier and Stein")
    prefactors = [rate.prefactor for rate in rates]
    part.chart(
        "The prefactor grows without bound toward beta = 4",
        panel("", "beta", "prefactor", line(BETAS, prefactors, "Riccati equation")),
        how_to_read=f"From 1/pi at beta = 1, a gradient system, to {prefactors[-1]:.3g} at beta = {BETAS[-1]:g}; the "
        "barrier is the same for all.",
    )
    without = rates[BETAS.index(BETA)].growth / (2 * math.pi) * rates[BETAS.index(BETA)].curvature_ratio
    return (
        f"The ratio is {said(found)}. The next order in the noise is larger than in the double well: off by "
        f"{found.values[-1] - 1:.1%} where the barrier is {BARRIER / NOISES[-1]:g} times the noise, and by "
        f"{found.values[0] - 1:.1%} where it is {BARRIER / NOISES[0]:g} times. Eyring and Kramers' prefactor would be "
        f"{without:.4f} instead of {prefactors[BETAS.index(BETA)]:.4f}."
    )


@EXPERIMENT.part("With noise in the velocity alone?")
def kinetic(part: Part) -> str:
    """Kramers' formula from the general method under singular noise, and against the eigenvalue."""
    noise = torch.tensor([0.0, FRICTION], dtype=torch.float64)
    general = transition_rate(Dynamics(rubbed, noise), torch.tensor([-1.0, 0.0]), torch.tensor([0.0, 0.0]))
    closed = kramers(well, FRICTION, 1.0, torch.tensor([-1.0]), torch.tensor([0.0]))
    off = general.prefactor / closed.prefactor - 1
    part.equals("kramers", "The general prefactor over Kramers', minus 1", off, 0, 1e-4, "a path cut off near its ends")
    found = ratio(closed, spectral, NOISES)
    claim_close(part, found, f"Particle with friction {FRICTION:g}")
    claim_limit(part, found, f"Particle with friction {FRICTION:g}")
    middle, both = NOISES[-1], 2 * closed.at(NOISES[-1])
    title = f"The eigenvalue on grids of {CELLS} and {2 * CELLS} cells per axis, extrapolated, over the spectral one"
    on_grid = on_grids(kicked, CELLS)(middle, both)[0] / (both / found.values[-1])
    part.equals("grid", title, on_grid, 1, 0.01, "the central flux is of second order", source="derived")
    chart(part, found, "Particle with friction")
    return f"The ratio is {said(found)}."


def well(x: Tensor) -> Tensor:
    """U = x^4 / 4 - x^2 / 2, of the first coordinate."""
    return x[:, 0] ** 4 / 4 - x[:, 0] ** 2 / 2


def swirl(beta: float) -> Callable[[Tensor], Tensor]:
    """Maier and Stein's drift."""

    def drift(z: Tensor) -> Tensor:
        x, y = z[:, 0], z[:, 1]
        return torch.stack([x - x**3 - beta * x * y**2, -(1 + x**2) * y], 1)

    return drift


def swirling(noise: float, n: int) -> FokkerPlanck:
    """The equation of Maier and Stein's system."""
    grid = Grid((-1.8, -1.0), (1.8, 1.0), (2 * n, n))
    drift = swirl(BETA)
    return ito_equation(grid, lambda z, _: drift(z), noise, steady=True)


def rubbed(z: Tensor) -> Tensor:
    """Position and velocity in the double well with friction."""
    x, v = z[:, 0], z[:, 1]
    return torch.stack([v, x - x**3 - FRICTION * v], 1)


def kicked(noise: float, n: int) -> FokkerPlanck:
    """The equation of a particle at the temperature `noise`, on the box where the density exceeds e^-20 of its peak."""
    x, v = math.sqrt(1 + math.sqrt(80 * noise)), 6 * math.sqrt(noise)
    D = torch.tensor([0.0, FRICTION * noise], dtype=torch.float64)
    return ito_equation(
        Grid((-x, -v), (x, v), (n, n)),
        lambda z, _: rubbed(z),
        lambda z, _: D.expand(len(z), 2),
        steady=True,
        noiseless="central",
    )


def said(found: Ratio) -> str:
    """The ratios in words."""
    shown = ", ".join(f"{value:.3f}" for value in found.values)
    at = ", ".join(f"{BARRIER / noise:.3g}" for noise in found.noises)
    return f"{shown} at barrier / noise = {at}, and tends to {found.limit:.4f} +- {found.limit_error:.1g}"
