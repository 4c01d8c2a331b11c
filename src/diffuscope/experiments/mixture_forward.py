r"""A mixture forgets itself: the forward Fokker-Planck equation solved four ways.

:math:`dX = -\tfrac12 X\,dt + dB` from :math:`\tfrac12 N(\pm2, \tfrac14)`. The distribution stays a mixture, with means
:math:`\pm2\alpha` and variance :math:`\tfrac14\alpha^2 + \sigma^2` (closed form); the exact semigroup computes it from
the values on a grid; finite volumes from the equation

.. math::  \partial_t p = \partial_x\left(\tfrac12 x\,p\right) + \tfrac12\,\partial_x^2 p ,

which needs only drift and noise; particles sample it. A published script differences :math:`(p\,U')'` and then
adds :math:`p\,U''` a second time: its mass is multiplied by :math:`e^{U'' t}`.

Source: Chen Kai, *PDE and Machine Learning (7)*, experiment 1: the mixture, the rate 1 and the times are those of its
figure, which draws the closed form only.
"""

import itertools
import math
from functools import partial

import numpy as np
import torch
from torch import Tensor

from diffuscope.densities import (
    BackwardEuler,
    CrankNicolson,
    Density,
    FokkerPlanck,
    Grid,
    equal_steps,
    evolution,
    evolve,
    gradient_equation,
    transition,
)
from diffuscope.densities.tridiagonal import Tridiagonal
from diffuscope.exact import GaussianMixture
from diffuscope.findings import Panel, density_bars, largest, line
from diffuscope.schedules import VP

from .distribution_functions import distribution_function
from .experiment import Experiment
from .part import Part, kolmogorov, largest_difference, loglog, panel

SCHEDULE = VP(1.0, 1.0)
TIMES = (0.0, 0.15, 0.4, 0.8, 1.5, 3.0)
CELLS, STEPS = (100, 200, 400, 800), (16, 32, 64, 128)
PARTICLES = 1_000_000
PAIR = GaussianMixture.isotropic(
    torch.tensor([0.5, 0.5], dtype=torch.float64),
    torch.tensor([[-2.0], [2.0]], dtype=torch.float64),
    torch.tensor([0.25, 0.25], dtype=torch.float64),
)
EXPERIMENT = Experiment(
    name="mixture-forward",
    title="A mixture under the forward equation",
    question="Do the closed form, the semigroup, finite volumes and particles agree?",
    source="Chen Kai, PDE and Machine Learning (7), experiment 1",
    seconds=4,
    settings={
        "modes": "±2, half of the mass each",
        "variance": "0.25",
        "beta": "1",
        "times": "0, 0.15, 0.4, 0.8, 1.5, 3",
        "finite volumes": "100, 200, 400, 800 cells; 16, 32, 64, 128 steps",
        "particles": "1,000,000",
    },
)


def log_p(t: float, x: Tensor) -> Tensor:
    """log p_t(x); sigma = 1e-9 stands for 0, at which a noised distribution is not defined."""
    return PAIR.log_prob(x, float(SCHEDULE.alpha(t)), max(float(SCHEDULE.sigma(t)), 1e-9))


def exact(grid: Grid, t: float) -> Density:
    """The averages of p_t over the cells."""
    return Density(grid, grid.averages(lambda x: log_p(t, x)))


def cdf(t: float, x: np.ndarray) -> np.ndarray:
    """The distribution function of p_t."""
    return distribution_function(PAIR, torch.from_numpy(x), float(SCHEDULE.alpha(t)), float(SCHEDULE.sigma(t))).numpy()


def relaxation(grid: Grid) -> FokkerPlanck:
    """The equation, steady and from the potential x^2 / 4."""
    return gradient_equation(grid, lambda x: x[:, 0] ** 2 / 4, 0.5)


class DifferencedTwice(FokkerPlanck):
    """The published error: p U'' once more on the right side, with U'' = 1/2."""

    def generator(self, axis: int, t: float) -> Tridiagonal:
        """The correct matrix with 1/2 added to its diagonal."""
        correct = super().generator(axis, t)
        return Tridiagonal(correct.lower, correct.diagonal + 0.5, correct.upper)


@EXPERIMENT.part("Does the scheme converge, and keep what the equation keeps?")
def finite_volumes(part: Part) -> str:
    """Errors and orders in space and time, mass, and the entropy relative to the stationary Gaussian."""
    errors = []
    for cells in CELLS:
        grid = Grid.line(-8, 8, cells)
        end = evolve(relaxation(grid), exact(grid, 0.0), equal_steps(0, 1, 1000), CrankNicolson())
        errors.append(end.l1_distance(exact(grid, 1.0)))
    grid = Grid.line(-8, 8, 400)
    start, equation = exact(grid, 0.0), relaxation(grid)
    reference = evolve(equation, start, equal_steps(0, 1, 4096), CrankNicolson())
    in_time = {
        name: [evolve(equation, start, equal_steps(0, 1, n), scheme).l1_distance(reference) for n in STEPS]
        for name, scheme in (("backward Euler", BackwardEuler()), ("Crank-Nicolson", CrankNicolson()))
    }
    orders = {name: math.log2(coarse / fine) for name, (*_, coarse, fine) in {"space": errors, **in_time}.items()}
    mass = abs(evolve(equation, start, equal_steps(0, 5, 1000), CrankNicolson()).mass() - start.mass())
    grid = Grid.line(-8, 8, 256)
    gibbs = Density(grid, grid.evaluate(lambda x: -(x[:, 0] ** 2) / 2) / math.sqrt(2 * math.pi))
    path = evolution(relaxation(grid), exact(grid, 0.0), equal_steps(0, 5, 500), BackwardEuler())
    kl = torch.tensor([density.relative_entropy(gibbs) for density in path])

    because, source = "second order, and pre-asymptotic terms of order 4", "Scharfetter & Gummel 1969"
    part.equals("space", "Order in space", orders["space"], 2, 0.02, because, source=source)
    because = "the digits of an independent reference, 5.53e-5"
    part.equals("error", "L1 error with 800 cells at t = 1", errors[-1], 5.53e-5, 5e-8, because, source="derived")
    title, order, source = "Order of Crank-Nicolson in time", orders["Crank-Nicolson"], "Crank & Nicolson 1947"
    part.equals("crank-nicolson", title, order, 2, 0.02, "second order, and the next even one", source=source)
    part.at_most("mass", "Mass lost in 1,000 steps", mass, 1e-12, "rounding", source="derived")
    title, rise = "Largest rise of the relative entropy in a step", float(kl.diff().max())
    because = "every step is a Markov chain whose stationary distribution is the Gibbs density"
    part.at_most("entropy", title, rise, 1e-15, because, source="Cao et al. 2025, section 2")

    slope = line(CELLS, [errors[0] * (CELLS[0] / n) ** 2 for n in CELLS], "order 2", style="dotted")
    t = torch.linspace(0, 5, 51)
    bound = line(t, kl[0] * torch.exp(-t), "e^(−t), the bound", style="dotted")
    part.chart(
        "Finite volumes against the closed form",
        loglog("in space", "cells", "L¹ error at t = 1", line(CELLS, errors, "finite volumes"), slope),
        loglog("in time", "steps", "", *(line(STEPS, found, name) for name, found in in_time.items())),
        Panel("relative entropy", "t", "nats", (line(t, kl[::10], "on the grid"), bound), y_log=True),
        how_to_read="Left and middle: errors fall along straight lines whose slope is the order. Right: the relative "
        "entropy to the stationary Gaussian, below its theoretical bound.",
    )
    return (
        f"The order is {orders['space']:.2f} in space, and in time {orders['Crank-Nicolson']:.2f} for Crank-Nicolson "
        f"and {orders['backward Euler']:.2f} for backward Euler; a thousand steps change the mass by {mass:.0e}, and "
        "the relative entropy never rises."
    )


@EXPERIMENT.part("Can one step go from any time to any other?")
def semigroup(part: Part) -> str:
    """The exact transition between any two of the times."""
    grid = Grid.line(-12, 12, 256)
    p = {t: Density(grid, grid.evaluate(lambda x, t=t: log_p(t, x))) for t in TIMES}
    pairs = itertools.combinations(TIMES, 2)
    error = largest(largest_difference(transition(SCHEDULE, s, t, grid)(p[s]).values, p[t].values) for s, t in pairs)
    title = "The semigroup gives the closed form, from every time to every later time"
    part.at_most("semigroup", title, error, 1e-12, "rounding")
    inside = grid.centers().abs() < 5
    part.chart(
        "The mixture forgets itself",
        panel("", "x", "density", *(line(grid.centers()[inside], p[t].values[inside], f"t = {t:g}") for t in TIMES)),
        how_to_read="The two modes move to the middle, widen and merge; at t = 3 hardly a trace of them is left.",
    )
    return f"Yes: from any of the times to any later one the semigroup is exact to {error:.0e}, without time steps."


@EXPERIMENT.part("Do particles agree?")
def particles(part: Part) -> str:
    """A million particles at every time, each moved by the exact transition from the time before."""
    x, grid, edges = PAIR.sample(PARTICLES, generator=part.generator), Grid.line(-5, 5, 200), torch.linspace(-5, 5, 101)
    distances, panels = [], []
    for s, t in itertools.pairwise(TIMES):
        a = float(SCHEDULE.alpha(t) / SCHEDULE.alpha(s))
        x = a * x + math.sqrt(1 - a**2) * torch.randn(x.shape, dtype=torch.float64, generator=part.generator)
        distances.append(kolmogorov(x[:, 0], partial(cdf, t)))
        if t in (0.4, 1.5):
            solution = line(grid.centers(), grid.evaluate(lambda y, t=t: log_p(t, y)), "equation")
            panels.append(panel(f"t = {t:g}", "x", "density", density_bars(x[:, 0], edges, "particles"), solution))
    title, because = "Largest Kolmogorov distance over five times", "each exceeds 2.23/sqrt(n) with probability 1e-4"
    part.at_most("million", title, largest(distances), 2.23 / math.sqrt(PARTICLES), because, source="derived")
    part.chart(
        "Particles and the equation",
        *panels,
        how_to_read="Histograms: particles. Lines: the solution of the equation.",
        shared_y=True,
    )
    return "Yes: a million particles agree with the equation at every time, within their statistical error."


@EXPERIMENT.part("What does the published error do?")
def what_goes_wrong(part: Part) -> str:
    """The published error beside the correct scheme."""
    grid, times = Grid.line(-8, 8, 400), equal_steps(0, 3, 300)
    correct = relaxation(grid)
    wrong = DifferencedTwice(grid, correct.face_drift, correct.face_diffusion, steady=True)
    paths = {
        name: list(evolution(equation, exact(grid, 0.0), times, CrankNicolson()))
        for name, equation in (("correct", correct), ("differenced twice", wrong))
    }
    mass = {name: [density.mass() for density in path[::10]] for name, path in paths.items()}
    growth = mass["differenced twice"][-1]
    title, source = "Mass of the wrong scheme at t = 3, e^1.5", "derived; the published script's potential is steeper"
    part.equals("gains-mass", title, growth, math.exp(1.5), 1e-4, "second order in 300 steps", source=source)
    seen = slice(50, 350, 2)
    x, truth = grid.centers()[seen], exact(grid, 3.0).values[seen]
    curves = [line(x, path[-1].values[seen], name) for name, path in paths.items()]
    part.chart(
        "What goes wrong: the same term twice",
        panel("mass", "t", "probability", *(line(times[::10], found, name) for name, found in mass.items())),
        panel("density at t = 3", "x", "", *curves, line(x, truth, "exact", style="dashed")),
        how_to_read="A density whose mass is not 1 is not a density: the published script did not check it.",
    )
    return f"With the drift's divergence counted twice the probability grows as e^(t/2), to {growth:.2f} at t = 3."
