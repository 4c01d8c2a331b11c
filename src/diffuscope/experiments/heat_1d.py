r"""The heat equation in one dimension: exact forward, ill-posed backward, and well-posed with a score.

:math:`\partial_t p = D\,\Delta p` spreads :math:`\tfrac12 N(\pm2, \tfrac14)` to
:math:`\tfrac12 N(\pm2, \tfrac14 + 2Dt)`. Forward every Fourier mode decays, and a periodic grid is exact to rounding
once it resolves the density and contains its tails. Backward every mode grows by :math:`e^{+Dk^2\tau}`: any error in
the fine modes, even the last bit of a float, is amplified. A diffusion model can nevertheless run backward, because the
score supplies the lost information:
:math:`\partial_\tau q = -\nabla\cdot(g^2 s\, q) + \tfrac12 g^2\Delta q` is a well-posed equation.

Undone are a blur of variance 0.05, and one of variance 1 with noise of 1e-6 on it.
"""

import math

import torch
from torch import Tensor

from diffuscope.denoisers import ExactDenoiser
from diffuscope.densities import (
    CrankNicolson,
    Density,
    Grid,
    anti_diffuse,
    best_anti_diffusion,
    heat_flow,
    reverse_evolution,
)
from diffuscope.exact import GaussianMixture
from diffuscope.findings import density_bars, line
from diffuscope.schedules import VE

from .distribution_functions import distribution_function
from .experiment import Experiment
from .part import Part, largest_difference, panel

SEPARATION, VARIANCE = 2.0, 0.25  # modes at +-2, the variance of each
SPREAD = 0.5  # D t
PARTICLES = 1_000_000
MILD, SEVERE = 0.05, 1.0  # variances to undo
ROUGHNESS = 1e-6  # of the noise on the blurred density
PAIR = GaussianMixture.isotropic(
    torch.tensor([0.5, 0.5], dtype=torch.float64),
    torch.tensor([[-SEPARATION], [SEPARATION]], dtype=torch.float64),
    torch.tensor([VARIANCE, VARIANCE], dtype=torch.float64),
)
EXPERIMENT = Experiment(
    name="heat-1d",
    title="The heat equation in one dimension",
    question="How exactly can a density be blurred, and can the blur be undone?",
    source="Chen Kai, PDE and Machine Learning (7), experiment 1",
    seconds=4,
    settings={"modes": "±2", "variance": "0.25", "Dt": "0.5", "particles": "1,000,000"},
)


def spread(grid: Grid, variance: float) -> Density:
    """The pair with its variance grown by `variance`, at the centers."""
    return Density(grid, grid.evaluate(lambda x: PAIR.log_prob(x, 1.0, math.sqrt(max(variance, 1e-30)))))


@EXPERIMENT.part("Is the propagator exact, and where does it stop being so?")
def forward(part: Part) -> str:
    """The propagator on three boxes: resolved, too small, too coarse."""
    errors = {}
    for half, cells in ((12, 128), (8, 64), (12, 32)):
        grid = Grid.line(-half, half, cells)
        end = heat_flow(spread(grid, 0.0), SPREAD)
        errors[half, cells] = largest_difference(end.values, spread(grid, 2 * SPREAD).values)
    grid = Grid.line(-12, 12, 128)
    mode = torch.cos(2 * math.pi * 5 * (grid.centers() + 12) / 24)
    left = heat_flow(Density(grid, mode), 0.5).values - math.exp(-0.5 * (2 * math.pi * 5 / 24) ** 2) * mode
    # on [-8, 8] the nearest periodic image, at the cell where it is largest
    image = float(PAIR.log_prob(torch.tensor([[-8.125]], dtype=torch.float64), 1.0, 1.0).exp())
    part.at_most("resolved", "On 128 cells of [-12, 12] the flow is exact", errors[12, 128], 1e-13, "rounding")
    part.at_most("decay", "A single mode decays by e^(-D k^2 t)", largest_difference(left, 0), 1e-13, "rounding")
    because = "the nearest image alone, at the cell where it is largest"
    title = "On [-8, 8] with 64 cells the error is that of the periodic images"
    part.equals("images", title, errors[8, 64], image, 0.02 * image, because, source="derived")
    fine = Grid.line(-6, 6, 240)
    shown = [line(fine.centers(), spread(fine, 2 * Dt).values, f"Dt = {Dt:g}") for Dt in (0.0, 0.05, 0.2, 0.5, 2.0)]
    part.chart(
        "Heat spreads a density",
        panel("", "x", "density", *shown),
        how_to_read="Every curve is the start with its variance grown by 2Dt; nothing sharpens.",
    )
    return (
        f"On 128 cells of [-12, 12] the propagator is exact to {errors[12, 128]:.1e}; a smaller box adds the periodic "
        f"images ({errors[8, 64]:.0e}), a coarser grid cuts off relevant modes ({errors[12, 32]:.0e})."
    )


@EXPERIMENT.part("Do particles follow the equation?")
def particles(part: Part) -> str:
    """A million particles that each add noise of variance 2 D t."""
    drawn = PAIR.sample(PARTICLES, generator=part.generator)
    noise = torch.randn(drawn.shape, dtype=torch.float64, generator=part.generator)
    ends = (drawn + math.sqrt(2 * SPREAD) * noise)[:, 0]
    part.follows_distribution(
        "million",
        "The distribution function of a million particles is that of the density",
        ends,
        lambda x: distribution_function(PAIR, torch.from_numpy(x), 1.0, math.sqrt(2 * SPREAD)).numpy(),
        source="derived",
    )
    grid = Grid.line(-6, 6, 240)
    bars = density_bars(ends, torch.linspace(-6, 6, 121), "a million particles")
    solution = line(grid.centers(), spread(grid, 2 * SPREAD).values, "the heat equation")
    part.chart(
        "Particles and their density",
        panel("", "x", "density", bars, solution),
        how_to_read="Histogram: particles. Line: the solution of the heat equation.",
    )
    return (
        "Yes: the heat equation describes the density of particles that each take a random walk. Noise moves the "
        "points, and blurs their density."
    )


@EXPERIMENT.part("Can the heat equation be run backward?")
def backward(part: Part) -> str:
    """The reversed heat equation with the best cutoff, and the reverse flow with the score."""
    grid = Grid.line(-12, 12, 256)
    data = spread(grid, 0.0)
    rough = torch.randn(256, dtype=torch.float64, generator=part.generator) * ROUGHNESS
    mild = best_anti_diffusion(spread(grid, MILD), MILD / 2, data).density.l1_distance(data)
    blurred = Density(grid, spread(grid, SEVERE).values + rough)
    best = best_anti_diffusion(blurred, SEVERE / 2, data)
    beyond = anti_diffuse(blurred, SEVERE / 2, best.cutoff + 1)
    scored = with_score(SEVERE, rough)
    wave = torch.cos(2 * math.pi * 20 * grid.centers() / 24)
    back = anti_diffuse(Density(grid, ROUGHNESS * wave), 0.1, 8.0).density.values
    growth = float((back @ wave) / (wave @ wave)) / ROUGHNESS
    averages = Density(grid, grid.averages(lambda x: PAIR.log_prob(x, 1.0, 1e-3)))  # what finite volumes carry
    recovered, lost = scored.l1_distance(averages), best.density.l1_distance(data)

    exact = math.exp(0.1 * (2 * math.pi * 20 / 24) ** 2)
    part.equals("growth", "A mode grows by e^(+D k^2 tau)", growth, exact, 1e-6 * growth, "rounding, itself amplified")
    because = "e^(+D k^2 tau) of rounding where the density has no modes left"
    part.at_most("mild", "A noise-free blur of variance 0.05 is undone by cutting modes", mild, 1e-8, because)
    part.at_least("severe", "A blur of variance 1 with noise 1e-6 is not", lost, 0.05, "the best of all cutoffs")
    because = "second order in cells and steps, 1,024 of each"
    part.at_most("with-score", "The reverse flow with the score undoes it", recovered, 5e-4, because, source="derived")

    inside = grid.centers().abs() < 6
    x, truth = grid.centers()[inside], line(grid.centers()[inside], data.values[inside], "data", style="dashed")
    shown = {
        "given": {"blurred, noise 1e-6": blurred},
        "heat reversed": {f"modes to {best.cutoff:.1f}, the best": best.density, "one unit more": beyond.density},
        "with the score": {"recovered": scored},
    }
    panels = (
        panel(title, "x", "density", *(line(x, p.values[inside], name) for name, p in curves.items()), truth)
        for title, curves in shown.items()
    )
    part.chart(
        "Running heat backward",
        *panels,
        how_to_read="Left: the density blurred, with noise of size 1e-6 on it. Middle: the reversed heat equation with "
        "the cutoff that is best in hindsight. Right: the reverse diffusion with the exact score from the same start.",
        shared_y=True,
    )
    return (
        f"Run backward, the heat equation is ill-posed: it multiplies an error of {ROUGHNESS:g} by up to "
        f"{beyond.amplification:.0e} with modes up to {beyond.cutoff:.1f}, and by "
        f"e^{SEVERE / 2 * (math.pi / grid.widths[0]) ** 2:.0f} at the grid's finest. The best cutoff, chosen in "
        f"hindsight, is still wrong by {lost:.2f} in L1; with the score the error is {recovered:.1e}."
    )


def with_score(blur: float, rough: Tensor) -> Density:
    """The reverse flow (eta = 1) from the blurred density with its noise on it, read on the 256 cells."""
    grid, fine = Grid.line(-12, 12, 256), Grid.line(-12, 12, 1024)
    start = Density(fine, spread(fine, blur).values + rough.repeat_interleave(4))
    times = torch.logspace(math.log10(math.sqrt(blur)), -3, 1025, dtype=torch.float64)
    *_, end = reverse_evolution(ExactDenoiser(PAIR, VE()), start, times, CrankNicolson())
    return Density(grid, end.values.reshape(256, 4).mean(1))
