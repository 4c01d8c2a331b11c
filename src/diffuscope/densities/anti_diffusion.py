r"""Run backward without a score, the heat equation is ill-posed and blows up: why diffusion models need a score.

Reversed, :math:`\partial_\tau p = -D\,\Delta p`, the mode k *grows* by :math:`e^{+D k^2 \tau}`, and with it any
rounding error of the data, at the highest mode :math:`k = \pi/h` of the grid by :math:`e^{D\tau\pi^2/h^2}`: the finer
the grid, the worse. Cutting the modes above :math:`k_c` bounds the amplification by :math:`e^{D k_c^2\tau}` and loses
what the density had there; a best cutoff balances the two errors.
"""

import math
from dataclasses import dataclass

import torch

from diffuscope.errors import InputError

from .density import Density
from .grid import Grid

ROUNDING = 1e-12  # relative: a mode at the cutoff is kept, though its computed wave number may be a little larger


@dataclass(frozen=True, eq=False)
class AntiDiffusion:
    """The density recovered from the modes up to `cutoff`, and the factor by which errors of the input grow.

    >>> import math, torch
    >>> from diffuscope.densities import Density, Grid, anti_diffuse
    >>> found = anti_diffuse(Density(Grid.line(0, 1, 8), torch.ones(8)), exponent=0.5, cutoff=3.0)
    >>> found.cutoff, round(math.log(found.amplification), 6)  # 0.5 * 3^2
    (3.0, 4.5)
    """

    density: Density
    cutoff: float  # the largest wave number kept, radians per unit of length
    amplification: float  # e^{D k^2 tau} at the cutoff


def amplification(grid: Grid, exponent: float | int) -> float:
    """e^{D tau |k|^2} at the highest mode of a periodic grid, `exponent` = D tau >= 0; infinite beyond float64.

    >>> import math
    >>> from diffuscope.densities import Grid, amplification
    >>> growth = amplification(Grid((0.0, 0.0), (1.0, 2.0), (4, 4)), exponent=0.05)
    >>> round(math.log(growth), 6)  # 0.05 [(4 pi)^2 + (2 pi)^2] = pi^2
    9.869604
    """
    highest = sum((math.pi / h) ** 2 for h in grid.widths)
    return math.exp(exponent * highest) if exponent * highest < 700 else math.inf


def anti_diffuse(density: Density, exponent: float | int, cutoff: float | int) -> AntiDiffusion:
    """Undo a heat flow of variance 2 D tau per axis, `exponent` = D tau, keeping the modes with |k| <= `cutoff`.

    Raises InputError for a negative exponent or cutoff, and where the amplification at the cutoff overflows float64.

    >>> import math, torch
    >>> from diffuscope.densities import Density, Grid, anti_diffuse
    >>> grid = Grid.line(0, 2 * math.pi, 16)
    >>> mode = (2 * grid.centers()).cos()
    >>> diffused = Density(grid, 1 + 0.5 * math.exp(-0.25 * 2**2) * mode)
    >>> found = anti_diffuse(diffused, exponent=0.25, cutoff=2.5).density
    >>> round(found.l1_distance(Density(grid, 1 + 0.5 * mode)), 6)
    0.0
    """
    if not (exponent >= 0 and cutoff >= 0):
        raise InputError(f"exponent, cutoff: expected values >= 0, got {exponent}, {cutoff}")
    if exponent * cutoff**2 >= 700:
        raise InputError(f"cutoff: at {cutoff:g} a mode grows by e^{exponent * cutoff**2:.0f}, beyond float64")
    grid = density.grid
    cells = zip(grid.cells, grid.widths, strict=True)
    axes = [2 * math.pi * torch.fft.fftfreq(n, d=h, dtype=torch.float64) for n, h in cells]
    squares = torch.stack(torch.meshgrid(*axes, indexing="ij")).square().sum(0)
    kept = squares <= float(cutoff) ** 2 * (1 + ROUNDING)
    spectrum = torch.fft.fftn(density.values) * torch.where(kept, (exponent * squares).exp(), 0.0)
    return AntiDiffusion(Density(grid, torch.fft.ifftn(spectrum).real), float(cutoff), math.exp(exponent * cutoff**2))


def best_anti_diffusion(density: Density, exponent: float | int, truth: Density) -> AntiDiffusion:
    """The recovery with the least L1 distance to `truth`: no cutoff chosen without the truth does better.

    Tries the whole multiples of the lowest wave number below Nyquist's; one density is held at a time.

    >>> import math
    >>> from diffuscope.densities import Density, Grid, best_anti_diffusion
    >>> grid = Grid.line(0, 2 * math.pi, 16)
    >>> x = grid.centers()
    >>> truth = Density(grid, 1 + 0.5 * (2 * x).cos())
    >>> noisy = Density(grid, 1 + 0.5 * math.exp(-0.25 * 2**2) * (2 * x).cos() + 0.01 * (3 * x).cos())
    >>> best_anti_diffusion(noisy, 0.25, truth).cutoff  # the third mode is an error
    2.0
    """
    grid = density.grid
    cutoffs = torch.arange(max(grid.cells) // 2) * 2 * math.pi / max(grid.lengths)
    candidates = (anti_diffuse(density, exponent, float(k)) for k in cutoffs if exponent * float(k) ** 2 < 700)
    return min(candidates, key=lambda candidate: candidate.density.l1_distance(truth))
