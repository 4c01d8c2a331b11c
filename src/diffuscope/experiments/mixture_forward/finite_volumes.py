"""Finite volumes against the closed form: orders, and what the equation keeps."""

import math

import torch

from diffuscope.densities import BackwardEuler, CrankNicolson, Density, Grid, equal_steps, evolution, evolve
from diffuscope.findings import Chart, Panel, at_least, at_most, equals, line

from ..experiment import Answer
from .setting import cells_of, relaxation

CELLS = (100, 200, 400, 800)


def finite_volumes(generator: torch.Generator) -> Answer:  # noqa: ARG001
    """Errors and orders in space and time, mass, stationarity, entropy."""
    errors = [_error(cells) for cells in CELLS]
    space = math.log2(errors[-2] / errors[-1])
    grid = Grid.line(-8, 8, 400)
    steps = (16, 32, 64, 128)
    start = cells_of(grid, 0.0)
    reference = evolve(relaxation(grid), start, equal_steps(0, 1, 4096), CrankNicolson())
    in_time = {
        name: [evolve(relaxation(grid), start, equal_steps(0, 1, n), scheme).l1_distance(reference) for n in steps]
        for name, scheme in (("backward Euler", BackwardEuler()), ("Crank-Nicolson", CrankNicolson()))
    }
    orders = {name: math.log2(found[-2] / found[-1]) for name, found in in_time.items()}
    mass = abs(evolve(relaxation(grid), start, equal_steps(0, 5, 1000), CrankNicolson()).mass() - start.mass())
    spike = torch.zeros(400, dtype=torch.float64)
    spike[150] = 1 / grid.volume
    lowest = min(
        d.lowest() for d in evolution(relaxation(grid), Density(grid, spike), equal_steps(0, 50, 50), BackwardEuler())
    )
    coarse = Grid.line(-8, 8, 256)
    gibbs = Density(coarse, coarse.evaluate(lambda x: -(x[:, 0] ** 2) / 2) / math.sqrt(2 * math.pi))
    residual = float(relaxation(coarse).rate(gibbs.values, 0.0).abs().max())
    path = evolution(relaxation(coarse), cells_of(coarse, 0.0), equal_steps(0, 5, 500), BackwardEuler())
    entropies = torch.tensor([density.relative_entropy(gibbs) for density in path])
    panels = (
        Panel(
            "in space",
            "cells",
            "error in L¹ at t = 1",
            (
                line(CELLS, errors, "Crank-Nicolson, fitted fluxes"),
                line(CELLS, [errors[0] * (CELLS[0] / n) ** 2 for n in CELLS], "order 2", style="dotted"),
            ),
            x_log=True,
            y_log=True,
        ),
        Panel(
            "in time",
            "steps",
            "",
            tuple(line(steps, found, name) for name, found in in_time.items()),
            x_log=True,
            y_log=True,
        ),
        Panel(
            "relative entropy",
            "t",
            "nats",
            (
                line(torch.linspace(0, 5, 501)[::10], entropies[::10], "on the grid"),
                line(
                    torch.linspace(0, 5, 51),
                    entropies[0] * torch.exp(-torch.linspace(0, 5, 51)),
                    "e^(−t), the bound",
                    style="dotted",
                ),
            ),
            y_log=True,
        ),
    )
    text = (
        f"Order {space:.2f} in space, {orders['Crank-Nicolson']:.2f} and {orders['backward Euler']:.2f} in time; mass "
        f"moved by {mass:.0e} in a thousand steps, and the entropy never rose."
    )
    return Answer(
        text,
        (
            equals(
                "space",
                "Order in space",
                space,
                2,
                within=0.02,
                because="pre-asymptotic terms of order 4",
                source="Scharfetter & Gummel 1969",
            ),
            equals(
                "error",
                "L1 error with 800 cells at t = 1",
                errors[-1],
                5.53e-5,
                within=5e-8,
                because="the digits of an independent reference",
                source="derived",
            ),
            equals(
                "crank-nicolson",
                "Order of Crank-Nicolson in time",
                orders["Crank-Nicolson"],
                2,
                within=0.02,
                because="the next even order",
                source="Crank & Nicolson 1947",
            ),
            equals(
                "backward-euler",
                "Order of backward Euler in time",
                orders["backward Euler"],
                1,
                within=0.05,
                because="the next order, at 128 steps",
                source="derived",
            ),
            at_most("mass", "Mass lost in 1,000 steps", mass, 1e-12, because="rounding", source="derived"),
            at_least(
                "positive",
                "The lowest value that backward Euler ever made of a spike, in steps of t = 1",
                lowest,
                0.0,
                because="the inverse of an M-matrix is nonnegative",
                source="derived",
            ),
            at_most(
                "gibbs",
                "Rate at which the Gibbs law moves on the grid",
                residual,
                1e-13,
                because="rounding",
                source="Chang & Cooper 1970",
            ),
            at_most(
                "entropy",
                "Largest rise of the relative entropy in a step",
                float(entropies.diff().max()),
                1e-15,
                because="every step is a Markov chain with the Gibbs law as its own",
                source="Cao et al. 2025, section 2",
            ),
        ),
        (
            Chart(
                "Finite volumes against the closed form",
                panels,
                "Left and middle: errors fall along straight lines whose slope is the order. Right: the distance to "
                "the Gaussian at the end, below its theoretical bound.",
            ),
        ),
    )


def _error(cells: int) -> float:
    grid = Grid.line(-8, 8, cells)
    return evolve(relaxation(grid), cells_of(grid, 0.0), equal_steps(0, 1, 1000), CrankNicolson()).l1_distance(
        cells_of(grid, 1.0)
    )
