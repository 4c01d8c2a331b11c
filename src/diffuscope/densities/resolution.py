r"""Does a grid resolve a density, and does its box contain it? Two numbers that bound the loss of a spectral method.

A grid of width h represents the frequencies up to Nyquist's :math:`\pi/h`; higher ones are aliased to lower ones. Their
share is estimated by that of the highest eighth of the frequencies below Nyquist's, along each axis:

.. math::  \text{unresolved}^2 = \sum_j \|P_j p\|_2^2 / \|p\|_2^2, \qquad
           P_j = \text{onto the modes with } |k_j| \ge \tfrac78\,\pi/h_j .

A method with periodic images folds back the mass that would leave the box. For the kernel :math:`N(x; a y, v I)` it is

.. math::  \text{outside} = \int p(y)\Big[1 - \prod_j P\big(l_j < a y_j + \sqrt v\,\xi < u_j\big)\Big]dy,
           \qquad \xi \sim N(0, 1),

and as images of a density are positive, it *is* the L1 distance on the box between the periodic solution and the one
on the whole space.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.errors import InputError

from .density import Density
from .grid import Grid

TINY = 1e-300
HIGH = 7 / 8  # of Nyquist's frequency; for a Gaussian the share above is e^(a/4) times the spectrum e^(-a) at its end


def unresolved(density: Density) -> float:
    """The L2 share of the spectrum in the highest eighth of the frequencies of some axis.

    About 1e-16 when resolved to rounding. The L2 share above Nyquist, which aliasing loses, is smaller for a spectrum
    that decays exponentially or faster, and at most 1.5 times this for a kink (1/k^2), 3 times for a jump (1/k).

    >>> import math
    >>> from diffuscope.densities import Density, Grid, unresolved
    >>> grid = Grid.line(0, 2 * math.pi, 16)
    >>> density = Density(grid, 1 + 0.5 * (7 * grid.centers()).cos())  # Nyquist's mode is the eighth
    >>> round(unresolved(density), 6)  # sqrt((0.25 / 2) / (1 + 0.25 / 2))
    0.333333
    """
    p = density.values.detach()
    high = 0.0
    for axis, n in enumerate(density.grid.cells):
        first = math.ceil(HIGH * n / 2)
        band = torch.view_as_real(torch.fft.rfft(p, dim=axis).narrow(axis, first, n // 2 + 1 - first))
        high += 2 * float((band**2).sum()) / n  # twice, for the negative frequencies
        if n % 2 == 0:  # Nyquist's occurs once
            high -= float((band.select(axis, -1) ** 2).sum()) / n
    return math.sqrt(high / max(float((p**2).sum()), TINY))


def mass_outside(density: Density, box: Grid, *, scale: float | int = 1.0, variance: float | int = 0.0) -> float:
    """The mass of x = scale y + sqrt(variance) xi, y ~ `density`, that falls outside `box`.

    The relative error is small however small the mass. Heat flow for a time t has variance 2 D t. Raises InputError as
    `leaving_probability`.

    >>> import torch
    >>> from diffuscope.densities import Density, Grid, mass_outside
    >>> density = Density(Grid.line(0, 1, 2), torch.tensor([1.5, 0.5]))  # cells at 1/4 and 3/4
    >>> outside = mass_outside(density, Grid.line(-1, 5, 2), scale=4.0, variance=4.0)  # means 1 and 3, deviation 2
    >>> round(outside, 6)  # 1 or 2 standard deviations from one end, 2 or 1 from the other: Q(1) + Q(2)
    0.181405
    """
    leaving = leaving_probability(density.grid, box, scale=scale, variance=variance)
    return density.grid.volume * float((density.values.detach() * leaving).sum())


def leaving_probability(
    grid: Grid, box: Grid, *, scale: float | int = 1.0, variance: float | int = 0.0
) -> Float[Tensor, "*cells"]:
    """P(scale y + sqrt(variance) xi is outside `box`) for every center y of `grid`.

    Raises InputError for a box of another dimension than the grid's, and for a variance that is negative or NaN.
    """
    if box.dimensions != grid.dimensions:
        raise InputError(f"box: expected {grid.dimensions} axes as the density's grid, got {box.dimensions}")
    if not variance >= 0:
        raise InputError(f"variance: expected a number >= 0, got {variance}")
    log_inside = torch.zeros(grid.cells, dtype=torch.float64)
    for axis in range(grid.dimensions):
        center = float(scale) * grid.centers(axis)
        beyond = _upper_tail(box.high[axis] - center, variance) + _upper_tail(center - box.low[axis], variance)
        log_inside += torch.log1p(-beyond).reshape([-1 if k == axis else 1 for k in range(grid.dimensions)])
    return -torch.expm1(log_inside)


def _upper_tail(distance: Float[Tensor, " n"], variance: float | int) -> Float[Tensor, " n"]:
    """P(sqrt(variance) xi > distance)."""
    return torch.special.erfc(distance / math.sqrt(max(2 * float(variance), TINY))) / 2
