"""Every elliptic equation, boundary condition and dimension converges at order two to a manufactured solution."""

import math
from collections.abc import Callable

import pytest
from manufactured import BOUNDARIES, box, manufactured, sides, without_mean
from torch import Tensor

from diffuscope.physics import Darcy, Grid, Helmholtz, Poisson

SCREENING, WAVENUMBER = 1.7, 2.3


def poisson(grid: Grid, boundary: tuple[str, ...]) -> tuple[Tensor, Tensor]:
    u, _, f = manufactured(grid, boundary, 0.0, variable=False)
    equation = Poisson(grid, sides(boundary))
    # the mean of a compatible forcing is a quadrature error; what remains is taken out, and u has mean zero
    return (
        (without_mean(grid, u), equation.solve(without_mean(grid, f))) if equation.singular else (u, equation.solve(f))
    )


def screened(grid: Grid, boundary: tuple[str, ...]) -> tuple[Tensor, Tensor]:
    u, _, f = manufactured(grid, boundary, SCREENING**2, variable=False)
    return u, Poisson(grid, sides(boundary), screening=SCREENING).solve(f)


def helmholtz(grid: Grid, boundary: tuple[str, ...]) -> tuple[Tensor, Tensor]:
    u, _, f = manufactured(grid, boundary, -(WAVENUMBER**2), variable=False)
    return u, Helmholtz(grid, WAVENUMBER, sides(boundary)).solve(f)


def darcy(grid: Grid, boundary: tuple[str, ...]) -> tuple[Tensor, Tensor]:
    u, a, f = manufactured(grid, boundary, 0.0, variable=True)
    if "dirichlet" in boundary:
        return u, Darcy(grid, f[0], sides(boundary)).solve(a)
    return without_mean(grid, u), Darcy(grid, without_mean(grid, f)[0], sides(boundary)).solve(a)


@pytest.mark.parametrize("boundary", BOUNDARIES, ids="-".join)
@pytest.mark.parametrize("problem", [poisson, screened, helmholtz, darcy])
def test_the_error_is_of_order_two(
    problem: Callable[[Grid, tuple[str, ...]], tuple[Tensor, Tensor]], boundary: tuple[str, ...]
) -> None:
    coarse, fine = (box(n, boundary) for n in (33, 65))
    errors = [float((exact - u).abs().max()) for exact, u in (problem(grid, boundary) for grid in (coarse, fine))]
    order = math.log(errors[0] / errors[1]) / math.log(coarse.spacing[0] / fine.spacing[0])
    assert order == pytest.approx(2, abs=0.1)
