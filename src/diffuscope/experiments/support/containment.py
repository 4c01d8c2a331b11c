r"""Data on a circle: wherever the reverse process starts, it ends on the circle, and not everywhere on it alike.

For data uniform on the unit circle the reverse transition from y at T to time 0 is von Mises around the direction of y
with the concentration :math:`\kappa = \alpha|y|/\sigma^2`, so that a start from :math:`\nu` ends with the mean

.. math::  E[x_0] = \int A(\kappa_y)\,\frac{y}{|y|}\,\nu(dy), \qquad A = I_1/I_0 ,

zero only for the right start. At a small time the particle is :math:`\sigma\varepsilon` away from the circle, and its
denoised position, at the radius :math:`A(\kappa) = 1 - 1/2\kappa + \dots`, is :math:`\sigma^2/2` inside it.

Source: Cao, Johnston, Laurent, Le & Motsch 2025, https://arxiv.org/abs/2501.17054 (the support theorem).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from diffuscope.denoisers import ExactDenoiser
from diffuscope.exact import Ring
from diffuscope.findings import Chart, Panel, at_most, density_bars, equals, farthest, largest, line, points
from diffuscope.samplers import SDEDPMSolverPP2M, instant, sample
from diffuscope.times import log_snr_times

from ..experiment import Answer
from .bayes import OU, PAPER

HORIZON, END = 1.0, 1e-6
STEPS, PARTICLES, SHOWN = 60, 20_000, 200


@dataclass(frozen=True)
class PlaneStart:
    """A start law in the plane: (n uniform numbers in the unit square) -> n points."""

    label: str
    place: Callable[[Tensor], Tensor]


def _bell(center: tuple[float, float], deviation: float) -> Callable[[Tensor], Tensor]:
    def place(u: Tensor) -> Tensor:
        return torch.tensor(center, dtype=torch.float64) + deviation * torch.special.ndtri(u)

    return place


STARTS = (
    PlaneStart("N(0, I)", _bell((0.0, 0.0), 1.0)),
    PlaneStart("N((2, 1), 0.3²)", _bell((2.0, 1.0), 0.3)),
    PlaneStart("a square", lambda u: -3.0 + 3.0 * u),
    PlaneStart("the point (½, -1)", _bell((0.5, -1.0), 0.0)),
)


def mean_by_bayes(start: PlaneStart) -> Tensor:
    """E[x_0] for a start law, by the midpoint rule in the unit square (300 x 300 places)."""
    u = (torch.arange(300, dtype=torch.float64) + 0.5) / 300
    T = instant(OU, HORIZON)
    return Ring().denoise(start.place(torch.cartesian_prod(u, u)), T.alpha, T.sigma).mean(0)


def angle_density(start: PlaneStart, angles: Tensor) -> Tensor:
    """The density over the angle for a start law: von Mises densities averaged over 100 x 100 places."""
    u = (torch.arange(100, dtype=torch.float64) + 0.5) / 100
    y, T = start.place(torch.cartesian_prod(u, u)), instant(OU, HORIZON)
    kappa = T.alpha * y.norm(dim=1) / T.sigma**2
    height = torch.exp(kappa * (torch.cos(angles[:, None] - torch.atan2(y[:, 1], y[:, 0])) - 1))
    return (height / (2 * math.pi * torch.special.i0e(kappa))).mean(1)


def containment(generator: torch.Generator) -> Answer:
    """Distance from the circle before and after the last denoising, and where on the circle."""
    denoiser, end = ExactDenoiser(Ring(), OU), instant(OU, END)
    times = log_snr_times(OU, HORIZON, END, STEPS)
    circle = torch.linspace(0, 2 * math.pi, 200, dtype=torch.float64)
    angles = torch.linspace(-math.pi, math.pi, 73, dtype=torch.float64)
    noise_ratios, gaps, z, found, lengths, planes, weights = [], [], [], [], [], [], []
    for start in STARTS:
        began = start.place(torch.rand(PARTICLES, 2, dtype=torch.float64, generator=generator))
        ended = sample(SDEDPMSolverPP2M(), denoiser, began, times, noise=generator)
        off = (ended.norm(dim=1) / end.alpha - 1) * end.alpha / end.sigma
        noise_ratios.append(float(off.square().mean().sqrt()))
        denoised = denoiser(ended, END)
        gaps.append(float((denoised.norm(dim=1) - 1).abs().max()) / end.sigma**2)
        expected = mean_by_bayes(start)
        standard_error = denoised.std(0) / math.sqrt(PARTICLES)
        z.append(float(((denoised.mean(0) - expected) / standard_error).abs().max()))
        found.append(float(denoised.mean(0).norm()))
        lengths.append(float(expected.norm()))
        marks = (
            points(began[:SHOWN, 0], began[:SHOWN, 1], "start"),
            points(denoised[:SHOWN, 0], denoised[:SHOWN, 1], "end"),
            line(circle.cos(), circle.sin(), "data", style="dotted"),
        )
        window = (-3.3, 3.3)
        planes.append(Panel(f"from {start.label}", "", "", marks, x_range=window, y_range=window, equal_scales=True))
        angle = torch.atan2(denoised[:, 1], denoised[:, 0])
        marks = (
            density_bars(angle, angles, "particles"),
            line(angles, angle_density(start, angles), "Bayes' rule"),
            line([-math.pi, math.pi], [0.5 / math.pi] * 2, "data", style="dotted"),
        )
        weights.append(Panel(f"from {start.label}", "angle", "density", marks, y_range=(0.0, 0.6)))
    claims = (
        equals(
            "noise-off",
            f"At t = {END:g} the root mean square distance to the circle is σ, for every start (the worst of four)",
            farthest(noise_ratios, 1.0),
            1.0,
            within=4 / math.sqrt(2 * PARTICLES) + 4 * end.sigma,
            because=f"4 standard errors of {PARTICLES:,} particles, and the circle's curvature over σ",
            source="derived",
            unit="σ",
        ),
        equals(
            "on-circle",
            "After denoising once the largest distance to the circle is σ²/2: the support is reached as t → 0",
            farthest(gaps, 0.5),
            0.5,
            within=0.01,
            because="the next term of the expansion of I₁/I₀, and 4.5 σ of noise in the radius",
            source=PAPER,
            unit="σ²",
        ),
        at_most(
            "where",
            "Where on the circle: the mean of the particles is Bayes' mean, the largest deviation of all",
            largest(z),
            4.0,
            because="4 standard errors: exceeded by chance in 1 of 2,000 runs",
            source=PAPER,
            unit="standard errors",
        ),
        equals(
            "containment-only",
            "Containment is not equality: from N((2, 1), 0.3²) the particles' mean is as far from the data's mean, "
            "which is 0, as Bayes' rule says",
            found[1],
            lengths[1],
            within=4 / math.sqrt(2 * PARTICLES),
            because=f"4 standard errors of {PARTICLES:,} particles, at most",
            source=PAPER,
        ),
    )
    charts = (
        Chart(
            "Four starts, one circle",
            tuple(planes),
            f"{SHOWN} of {PARTICLES:,} particles each: where they start and where they end. Every start ends on the "
            "circle.",
            shared_y=True,
        ),
        Chart(
            "Where on the circle",
            tuple(weights),
            "The density of the same ends over the angle. The data are uniform (dotted); a wrong start gets the "
            "weights wrong, by the factor of Bayes' rule (solid), and never the support.",
            shared_y=True,
        ),
    )
    return Answer("Yes, from any start, once t reaches 0; but on the circle the start decides where.", claims, charts)
