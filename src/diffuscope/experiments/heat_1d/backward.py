"""Heat flow backward: without a score, and with one."""

import math

import torch
from torch import Tensor

from diffuscope.denoisers import ExactDenoiser
from diffuscope.densities import (
    CrankNicolson,
    Density,
    Grid,
    amplification,
    anti_diffuse,
    best_anti_diffusion,
    reverse_evolution,
)
from diffuscope.findings import Chart, Panel, at_least, at_most, equals, line
from diffuscope.schedules import VE

from ..experiment import Answer
from .setting import ARTICLE, PAIR, spread

MILD, SEVERE = 0.05, 1.0  # variances to undo


ROUGHNESS = 1e-6  # of the noise on the blurred density


def backward(generator: torch.Generator) -> Answer:
    """The reversed heat equation with the best cutoff, and the reverse flow with the score."""
    grid = Grid.line(-12, 12, 256)
    data = spread(grid, 0.0)
    rough = torch.randn(256, dtype=torch.float64, generator=generator) * ROUGHNESS
    mild = best_anti_diffusion(spread(grid, MILD), MILD / 2, data).density.l1_distance(data)
    blurred = Density(grid, spread(grid, SEVERE).values + rough)
    best = best_anti_diffusion(blurred, SEVERE / 2, data)
    beyond = anti_diffuse(blurred, SEVERE / 2, best.cutoff + 1)
    scored = with_score(SEVERE, rough)
    wave = torch.cos(2 * math.pi * 20 * (grid.centers() + 12) / 24)
    back = anti_diffuse(Density(grid, ROUGHNESS * wave), 0.1, 8.0).density.values
    growth = float((back @ wave) / (wave @ wave)) / ROUGHNESS
    inside = grid.centers().abs() < 6
    x, truth = grid.centers()[inside], line(grid.centers()[inside], data.values[inside], "data", style="dashed")
    shown = {
        "given": ((blurred, "blurred, noise 1e-6"),),
        "heat reversed": ((best.density, f"modes to {best.cutoff:.1f}, the best"), (beyond.density, "one unit more")),
        "with the score": ((scored, "recovered"),),
    }
    panels = tuple(
        Panel(title, "x", "density", (*(line(x, density.values[inside], name) for density, name in curves), truth))
        for title, curves in shown.items()
    )
    averages = Density(grid, grid.averages(lambda x: PAIR.log_prob(x, 1.0, 1e-3)))  # what finite volumes carry
    recovered, lost = scored.l1_distance(averages), best.density.l1_distance(data)
    text = (
        f"Reversed as it stands, the equation multiplies an error of {ROUGHNESS:g} by up to {beyond.amplification:.0e} "
        f"with modes up to {beyond.cutoff:.1f}, and by e^{SEVERE / 2 * (math.pi / grid.widths[0]) ** 2:.0f} at the "
        f"grid's finest. The best cutoff, chosen in hindsight, is still wrong by {lost:.2f} in L1; with the score the "
        f"error is {recovered:.1e}."
    )
    return Answer(
        text,
        (
            equals(
                "growth",
                "An error in one mode grows by e^(+D k^2 tau)",
                growth,
                math.exp(0.1 * (2 * math.pi * 20 / 24) ** 2),
                within=1e-6 * growth,
                because="rounding, itself amplified",
                source=ARTICLE,
            ),
            equals(
                "finer-is-worse",
                "Halving the cells raises the exponent of the amplification four times",
                math.log(amplification(Grid.line(-12, 12, 64), 0.5))
                / math.log(amplification(Grid.line(-12, 12, 32), 0.5)),
                4,
                within=1e-12,
                because="k of the finest mode is pi/h",
                source="derived",
            ),
            at_most(
                "mild",
                "A blur of variance .05 without noise is undone by cutting modes",
                mild,
                1e-8,
                because="e^(+D k^2 tau) of rounding where the density has no modes left",
                source="derived",
            ),
            at_least(
                "severe",
                "A blur of variance 1 with noise 1e-6 is not",
                lost,
                0.05,
                because="the best of all cutoffs",
                source="derived",
            ),
            at_most(
                "with-score",
                "The same blur with the same noise is undone by the reverse flow with the score",
                recovered,
                5e-4,
                because="second order in cells and steps, 1,024 of each",
                source="derived",
            ),
        ),
        (
            Chart(
                "Running heat backward",
                panels,
                "Left, what is given: the density blurred, with noise of size 1e-6 on it. Middle, the reversed heat "
                "equation with the cutoff that happens to be best. Right, the reverse diffusion with the exact score "
                "from the same blurred density.",
                shared_y=True,
            ),
        ),
    )


def with_score(blur: float, rough: Tensor) -> Density:
    """The reverse flow (eta = 1) from the blurred density with its noise on it, read on the 256 cells."""
    grid, fine = Grid.line(-12, 12, 256), Grid.line(-12, 12, 1024)
    start = Density(fine, spread(fine, blur).values + rough.repeat_interleave(4))
    low = 1e-3
    times = torch.logspace(math.log10(math.sqrt(blur)), math.log10(low), 1025, dtype=torch.float64)
    *_, end = reverse_evolution(ExactDenoiser(PAIR, VE()), start, times, CrankNicolson())
    return Density(grid, end.values.reshape(256, 4).mean(1))
