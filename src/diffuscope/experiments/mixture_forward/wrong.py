"""What goes wrong: the published script that counts the drift's divergence twice."""

import math

import torch

from diffuscope.densities import CrankNicolson, FokkerPlanck, Grid, equal_steps, evolution
from diffuscope.densities.tridiagonal import Tridiagonal
from diffuscope.findings import Chart, Claim, Panel, at_most, equals, line

from ..experiment import Answer
from .setting import cells_of, relaxation


class DifferencedTwice(FokkerPlanck):
    """The fault: p U'' once more on the right side, with U'' = 1/2."""

    def generator(self, axis: int, t: float) -> Tridiagonal:
        """The sound matrix with 1/2 added to its diagonal."""
        sound = super().generator(axis, t)
        return Tridiagonal(sound.lower, sound.diagonal + 0.5, sound.upper)


def what_goes_wrong(generator: torch.Generator) -> Answer:  # noqa: ARG001
    """The published fault beside the sound scheme."""
    grid, times = Grid.line(-8, 8, 400), equal_steps(0, 3, 300)
    sound = relaxation(grid)
    faulty = DifferencedTwice(grid, sound.face_drift, sound.face_diffusion, steady=True)
    paths = {
        name: list(evolution(equation, cells_of(grid, 0.0), times, CrankNicolson()))
        for name, equation in (("sound", sound), ("differenced twice", faulty))
    }
    masses = {name: [density.mass() for density in path[::10]] for name, path in paths.items()}
    growth = masses["differenced twice"][-1]
    panels = (
        Panel("mass", "t", "probability", tuple(line(times[::10], found, name) for name, found in masses.items())),
        Panel(
            "density at t = 3",
            "x",
            "",
            (
                *(line(grid.centers()[50:350:2], path[-1].values[50:350:2], name) for name, path in paths.items()),
                line(grid.centers()[50:350:2], cells_of(grid, 3.0).values[50:350:2], "exact", style="dashed"),
            ),
        ),
    )
    claims: tuple[Claim, ...] = (
        equals(
            "gains-mass",
            "Mass of the faulty scheme at t = 3",
            growth,
            math.exp(1.5),
            within=1e-4,
            because="second order in 300 steps",
            source="derived; the published script's potential is steeper",
        ),
        at_most(
            "keeps-mass",
            "Mass error of the sound scheme at t = 3",
            abs(masses["sound"][-1] - 1),
            1e-12,
            because="rounding",
            source="derived",
        ),
    )
    return Answer(
        f"With the drift's divergence counted twice the probability grows to {growth:.2f} by t = 3, as e^(t/2).",
        claims,
        (
            Chart(
                "What goes wrong: the same term twice",
                panels,
                "A density whose mass is not 1 is no density: the check that the published script did not make.",
            ),
        ),
    )
