"""Heat flow forward: exact on a grid that resolves it, and what particles do."""

import math

import torch
from scipy.stats import kstest
from torch import Tensor

from diffuscope.densities import Density, Grid, heat_flow
from diffuscope.findings import Chart, Panel, at_least, at_most, density_bars, equals, line

from ..distribution_functions import distribution_function
from ..experiment import Answer
from .setting import ARTICLE, PAIR, SPREAD, VARIANCE, spread

PARTICLES = 1_000_000


def forward(generator: torch.Generator) -> Answer:  # noqa: ARG001
    """The propagator on three boxes: resolved, too small, too coarse."""
    errors, lowest = {}, {}
    for half, cells in ((12, 128), (8, 64), (12, 32)):
        grid = Grid.line(-half, half, cells)
        end = heat_flow(spread(grid, 0.0), SPREAD)
        errors[half, cells] = float((end.values - spread(grid, 2 * SPREAD).values).abs().max())
        lowest[half, cells] = end.lowest()
    grid = Grid.line(-12, 12, 128)
    start = spread(grid, 0.0)
    once, twice = heat_flow(start, 0.5), heat_flow(heat_flow(start, 0.2), 0.3)
    mode = torch.cos(2 * math.pi * 5 * (grid.centers() + 12) / 24)
    decayed = heat_flow(Density(grid, mode), 0.5).values
    decay = math.exp(-0.5 * (2 * math.pi * 5 / 24) ** 2)
    fine = Grid.line(-6, 6, 240)
    shown = [line(fine.centers(), spread(fine, 2 * Dt).values, f"Dt = {Dt:g}") for Dt in (0.0, 0.05, 0.2, 0.5, 2.0)]
    text = (
        f"On 128 cells of [-12, 12] the propagator is right to {errors[12, 128]:.1e}; a smaller box adds the periodic "
        f"images ({errors[8, 64]:.0e}), a coarser grid cuts modes that matter ({errors[12, 32]:.0e}, and below zero)."
    )
    return Answer(
        text,
        (
            at_most(
                "resolved",
                "On the resolved box the flow is the exact mixture",
                errors[12, 128],
                1e-13,
                because="rounding",
                source=ARTICLE,
            ),
            equals(
                "images",
                "On [-8, 8] with 64 cells what is missing are the periodic images",
                errors[8, 64],
                _image(8.0),
                within=0.02 * _image(8.0),
                because="the nearest image alone, at the cell where it is largest",
                source="derived",
            ),
            at_least(
                "coarse",
                "On 32 cells of [-12, 12] the error is visible",
                errors[12, 32],
                1e-4,
                because="the modes cut still had e^(-k^2/8) of their size",
                source="derived",
            ),
            at_most(
                "negative",
                "and the density there goes below zero",
                lowest[12, 32],
                -1e-9,
                because="a truncated Fourier series overshoots, by far more than rounding",
                source="derived",
            ),
            at_most(
                "mass", "Mass is kept", abs(once.mass() - start.mass()), 1e-13, because="rounding", source="derived"
            ),
            at_most(
                "semigroup",
                "Two flows in a row are one flow over the sum of their times",
                float((once.values - twice.values).abs().max()),
                1e-13,
                because="rounding",
                source="derived",
            ),
            at_most(
                "decay",
                "A single mode decays by e^(-D k^2 t)",
                float((decayed - decay * mode).abs().max()),
                1e-13,
                because="rounding",
                source=ARTICLE,
            ),
        ),
        (
            Chart(
                "Heat spreads a density",
                (Panel("", "x", "density", tuple(shown)),),
                "Every curve is the start with its variance grown by 2Dt; nothing sharpens.",
            ),
        ),
    )


def _image(half: float) -> float:
    """The nearest periodic image of the spread pair at the boundary cell center of the 64-cell box."""
    h = 2 * half / 64
    x = torch.tensor([[half - h / 2 - 2 * half]], dtype=torch.float64)
    return float(PAIR.log_prob(x, 1.0, 1.0).exp())


def particles(generator: torch.Generator) -> Answer:
    """A million particles that each add noise of variance 2 D t."""
    drawn = PAIR.sample(PARTICLES, generator=generator)
    noise = torch.randn(drawn.shape, dtype=torch.float64, generator=generator)
    ends = (drawn + math.sqrt(2 * SPREAD) * noise)[:, 0]
    distance = float(kstest(ends.numpy(), lambda x: _cdf(torch.from_numpy(x), VARIANCE + 2 * SPREAD).numpy()).statistic)
    grid = Grid.line(-6, 6, 240)
    marks = (
        density_bars(ends, torch.linspace(-6, 6, 121), "a million particles"),
        line(grid.centers(), spread(grid, 2 * SPREAD).values, "the heat equation"),
    )
    return Answer(
        "Heat flow is what happens to the density of particles that are jostled: noise is added to points, and the "
        "density, not the point, is blurred.",
        (
            at_most(
                "million",
                "The distribution function of a million particles lies on the density's",
                distance,
                1.95 / math.sqrt(PARTICLES),
                because="Kolmogorov's distance is beyond 1.95/sqrt(n) once in a thousand",
                source="derived",
            ),
        ),
        (
            Chart(
                "Particles and their density",
                (Panel("", "x", "density", marks),),
                "The staircase counts particles; the line is the solution of the heat equation.",
            ),
        ),
    )


def _cdf(x: Tensor, variance: float) -> Tensor:
    return distribution_function(PAIR, x, 1.0, math.sqrt(variance - VARIANCE))
