"""From any time to any other at once: the exact semigroup on a grid, and particles."""

import itertools
import math

import torch
from scipy.stats import kstest
from torch import Tensor

from diffuscope.densities import (
    CrankNicolson,
    Density,
    Grid,
    equal_steps,
    evolve,
    expectation,
    forward_equation,
    gaussian_expectation,
    transition,
)
from diffuscope.findings import Chart, Panel, at_most, density_bars, largest, line

from ..distribution_functions import distribution_function
from ..experiment import Answer
from .setting import ARTICLE, PAIR, SCHEDULE, TIMES, cells_of, log_law

PARTICLES = 1_000_000


def semigroup(generator: torch.Generator) -> Answer:  # noqa: ARG001
    """The exact transition between any two of the times, and the expectation of the future."""
    grid = Grid.line(-12, 12, 256)
    exact = {t: Density(grid, grid.evaluate(lambda x, t=t: log_law(t, x))) for t in TIMES}
    worst = largest(
        float((transition(SCHEDULE, s, t, grid)(exact[s]).values - exact[t].values).abs().max())
        for i, s in enumerate(TIMES)
        for t in TIMES[i + 1 :]
    )
    fine = Grid.line(-12, 12, 512)
    times = equal_steps(0.15, 1.5, 256)
    equation = forward_equation(fine, SCHEDULE)
    start = cells_of(fine, 0.15)
    payoff = fine.centers().sin()
    backward = expectation(equation, payoff, times, CrankNicolson())
    forward = evolve(equation, start, times, CrankNicolson())
    duality = abs(float((backward * start.values).sum() - (payoff * forward.values).sum())) * fine.volume
    quadrature = gaussian_expectation(SCHEDULE, lambda x: x[:, 0].sin(), grid.points(), 0.15, 1.5)
    a, v = math.exp(-0.675), 1 - math.exp(-1.35)
    closed = math.exp(-v / 2) * torch.sin(a * grid.centers())
    inside = grid.centers().abs() < 5
    shown = [line(grid.centers()[inside], exact[t].values[inside], f"t = {t:g}") for t in TIMES]
    return Answer(
        f"From any of the times to any later one the semigroup is right to {worst:.0e}: time is no error at all.",
        (
            at_most(
                "semigroup",
                "From every time to every later one, against the closed form",
                worst,
                1e-12,
                because="rounding",
                source=ARTICLE,
            ),
            at_most(
                "duality",
                "Expecting backward or flowing forward: the same number",
                duality,
                1e-12,
                because="the backward step is the transpose of the forward step",
                source="derived",
            ),
            at_most(
                "feynman-kac",
                "E sin(X_t) from every point, by quadrature, against the closed form",
                float((quadrature - closed).abs().max()),
                1e-12,
                because="rounding",
                source="derived",
            ),
            at_most(
                "payoff",
                "Largest expectation of a payoff between -1 and 1",
                float(backward.abs().max()),
                1.0,
                because="the maximum principle",
                source="derived",
            ),
        ),
        (
            Chart(
                "The mixture forgets itself",
                (Panel("", "x", "density", tuple(shown)),),
                "Two modes wander to the middle, widen and meet; by t = 3 little tells that there were two.",
            ),
        ),
    )


def particles(generator: torch.Generator) -> Answer:
    """A million particles at every time, each moved by the exact transition from the time before."""
    x = PAIR.sample(PARTICLES, generator=generator)
    distances, panels = [], []
    for s, t in itertools.pairwise(TIMES):
        a = float(SCHEDULE.alpha(t) / SCHEDULE.alpha(s))
        noise = torch.randn(x.shape, dtype=torch.float64, generator=generator)
        x = a * x + math.sqrt(1 - a**2) * noise
        distances.append(float(kstest(x[:, 0].numpy(), lambda y, t=t: _cdf(t, torch.from_numpy(y)).numpy()).statistic))
        if t in (0.4, 1.5):
            grid = Grid.line(-5, 5, 200)
            seen = density_bars(x[:, 0], torch.linspace(-5, 5, 101), "particles")
            panels.append(
                Panel(
                    f"t = {t:g}",
                    "x",
                    "density",
                    (
                        seen,
                        line(grid.centers(), grid.evaluate(lambda y, t=t: log_law(t, y)), "equation"),
                    ),
                )
            )
    return Answer(
        "A million particles, at every time, agree with the equation as well as chance allows.",
        (
            at_most(
                "million",
                "Largest distance of distribution functions, over five times",
                largest(distances),
                2.23 / math.sqrt(PARTICLES),
                because="each is beyond 2.23/sqrt(n) once in 10,000 times",
                source="derived",
            ),
        ),
        (
            Chart(
                "Particles and the equation",
                tuple(panels),
                "Staircases count particles; lines solve the equation.",
                shared_y=True,
            ),
        ),
    )


def _cdf(t: float, x: Tensor) -> Tensor:
    return distribution_function(PAIR, x, float(SCHEDULE.alpha(t)), float(SCHEDULE.sigma(t)))
