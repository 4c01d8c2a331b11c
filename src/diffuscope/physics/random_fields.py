r"""Gaussian random fields on a grid, and media of two phases made from them.

A stationary field of covariance k(|x - x'|) is drawn exactly on the nodes by a circulant embedding. Let c be the
covariance on a periodic grid of M nodes that contains the given one, and :math:`\lambda = \mathrm{DFT}(c)` its
eigenvalues; with white noise w of unit variance,

.. math::  g = \mathrm{DFT}^{-1}\left(\sqrt{\lambda}\; \mathrm{DFT}(w)\right), \qquad \mathrm{Cov}(g_i, g_j) = c_{i-j} .

Along a periodic axis the covariance is that of the periodic field: the sum of k over all images of the box, scaled so
that the variance stays the one that is asked for. A bounded axis is embedded in a circle of at least 2 (n - 1) nodes
(shortest way around), doubled until no eigenvalue is negative beyond rounding: the embedding is then exact. Source:
Dietrich & Newsam 1997 (SIAM J. Sci. Comput. 18, 1088).
"""

import math
from dataclasses import dataclass
from itertools import product
from typing import Protocol, runtime_checkable

import scipy  # its subpackages are loaded when they are first used
import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.checked_numbers import require_positive
from diffuscope.errors import InputError
from diffuscope.memory import chunk_size, ranges

from .grid import Grid

MOST_NODES = 2**22  # of an embedding: 64 MB of complex numbers
MOST_IMAGES = 10_000  # of the box, in the sum over them
CLIPPED = 1e-10  # the most that clipped eigenvalues may change the covariance, relative to the variance


@runtime_checkable
class Covariance(Protocol):
    """A stationary, isotropic covariance: k(distance); `reach` is where it is below rounding."""

    @property
    def variance(self) -> float: ...

    @property
    def reach(self) -> float: ...

    def __call__(self, distance: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class SquaredExponential:
    """k(d) = variance exp(-d^2 / (2 length^2)). Raises InputError unless both are positive.

    >>> import torch
    >>> from diffuscope.physics import SquaredExponential
    >>> round(float(SquaredExponential(0.5, variance=4.0)(torch.tensor(1.0))), 6)  # 4 exp(-2)
    0.541341
    """

    length: float | int
    variance: float | int = 1.0

    def __post_init__(self) -> None:
        require_positive(length=self.length, variance=self.variance)

    @property
    def reach(self) -> float:
        """Beyond it, k < 1e-16 variance."""
        return 8.6 * self.length

    def __call__(self, distance: Tensor) -> Tensor:
        """k(distance)."""
        return self.variance * torch.exp(-0.5 * (distance / self.length) ** 2)


@dataclass(frozen=True)
class Matern:
    r"""k(d) = variance 2^(1 - nu) / Gamma(nu) z^nu K_nu(z), z = sqrt(2 nu) d / length; nu is the `smoothness`.

    nu = 1/2 is exponential; larger nu approach the squared exponential. Raises InputError unless all are positive.

    >>> import torch
    >>> from diffuscope.physics import Matern
    >>> d = torch.tensor(1.0)
    >>> round(float(Matern(0.5, smoothness=0.5, variance=4.0)(d)), 6)  # 4 exp(-d / 0.5)
    0.541341
    >>> round(float(Matern(3**0.5)(d)), 6)  # (1 + z) exp(-z) at z = sqrt(3) d / length
    0.735759
    """

    length: float | int
    smoothness: float | int = 1.5
    variance: float | int = 1.0

    def __post_init__(self) -> None:
        require_positive(length=self.length, smoothness=self.smoothness, variance=self.variance)

    @property
    def reach(self) -> float:
        """Beyond it, k < 1e-16 variance (for nu up to 5)."""
        return 50 * self.length / math.sqrt(2 * self.smoothness)

    def __call__(self, distance: Tensor) -> Tensor:
        """k(distance)."""
        nu = self.smoothness
        z = math.sqrt(2 * nu) * distance.double() / self.length
        values = 2 ** (1 - nu) / scipy.special.gamma(nu) * z**nu * torch.as_tensor(scipy.special.kv(nu, z.numpy()))
        return self.variance * torch.where(distance <= 1e-12 * self.length, 1.0, values)


def random_field(grid: Grid, covariance: Covariance, n: int, *, generator: torch.Generator) -> Float[Tensor, "n *grid"]:
    """`n` draws of the Gaussian field of mean 0, float64.

    Raises InputError where an embedding of at most 2^22 nodes has negative eigenvalues (a length scale far beyond the
    box), and where a periodic box needs more than 10,000 images of itself.

    >>> import torch
    >>> from diffuscope.physics import Grid, Matern, random_field
    >>> g = random_field(Grid((3,)), Matern(0.5, 0.5, 4.0), 10_000, generator=torch.Generator().manual_seed(0))
    >>> variance, neighbors = g.square().mean(), (g[:, 0] * g[:, 1]).mean()  # 4, and 4 exp(-0.5 / 0.5)
    >>> bool((variance - 4).abs() < 4 * 0.057), bool((neighbors - 1.472).abs() < 4 * 0.043)  # standard errors
    (True, True)
    """
    eigenvalues = _embedding(grid, covariance)
    axes = tuple(range(1, grid.axes + 1))
    at_once = chunk_size(MOST_NODES, each=eigenvalues.numel())
    parts = []
    for start, stop in ranges(n, at_once):
        white = torch.randn(stop - start, *eigenvalues.shape, dtype=torch.float64, generator=generator)
        smooth = torch.fft.ifftn(eigenvalues.sqrt() * torch.fft.fftn(white, dim=axes), dim=axes).real
        parts.append(smooth[(slice(None), *[slice(m) for m in grid.shape])].clone())
    return torch.cat(parts) if parts else torch.empty(0, *grid.shape, dtype=torch.float64)


def covariance_matrix(grid: Grid, covariance: Covariance) -> Float[Tensor, "D D"]:
    """The covariance of all pairs of nodes, float64: of what `random_field` draws, up to rounding.

    >>> from diffuscope.physics import Grid, Matern, covariance_matrix
    >>> k = covariance_matrix(Grid((3,), lengths=(2.0,)), Matern(0.5, smoothness=0.5, variance=4.0))
    >>> [round(value, 6) for value in k[0].tolist()]  # 4, 4 exp(-1 / 0.5), 4 exp(-2 / 0.5)
    [4.0, 0.541341, 0.073263]
    """
    table = _table(
        grid, covariance, tuple(2 * m if not p else m for m, p in zip(grid.shape, grid.periodic, strict=True))
    )
    index = torch.stack(torch.meshgrid(*map(torch.arange, grid.shape), indexing="ij"), -1).reshape(-1, grid.axes)
    lags = (index[:, None] - index[None]) % torch.tensor(table.shape)
    return table[tuple(lags.unbind(-1))]


def reflected_field(
    grid: Grid, boundary: tuple[str, ...], covariance: Covariance, n: int, *, generator: torch.Generator
) -> Float[Tensor, "n *grid"]:
    r"""`n` draws of a field that satisfies boundary conditions: zero on a "dirichlet" axis, du/dn = 0 on "neumann".

    A periodic field g on an axis of twice the length, made odd or even, (g(x) -+ g(-x)) / sqrt 2. Its covariance is
    k(x - x') -+ k(x + x'), k periodic: far from the walls that of `random_field`. Raises InputError as `random_field`.
    """
    twice = Grid(
        tuple(m if kind == "periodic" else 2 * (m - 1) for m, kind in zip(grid.shape, boundary, strict=True)),
        tuple(side if kind == "periodic" else 2 * side for side, kind in zip(grid.lengths, boundary, strict=True)),
        (True,) * grid.axes,
    )
    field = random_field(twice, covariance, n, generator=generator)
    for axis, (m, kind) in enumerate(zip(grid.shape, boundary, strict=True), 1):
        if kind != "periodic":
            reflected = field.flip(axis).roll(1, axis)
            field = (field + (reflected if kind == "neumann" else -reflected)) / math.sqrt(2)
            field = field.narrow(axis, 0, m)
    return field.clone()


def two_phase(
    field: Float[Tensor, "*shape"], *, low: float | int, high: float | int, threshold: float | int = 0.0
) -> Float[Tensor, "*shape"]:
    """`high` where the field is at least `threshold`, `low` elsewhere.

    Of a field of variance v, `threshold` = sqrt(v) Phi^-1(1 - p) leaves a share p of the volume to `high`, on average.

    >>> import torch
    >>> from diffuscope.physics import two_phase
    >>> two_phase(torch.tensor([-1.0, 0.4, 0.5, 2.0]), low=3.0, high=8.0, threshold=0.5).tolist()
    [3.0, 3.0, 8.0, 8.0]
    """
    return torch.where(field >= threshold, torch.full_like(field, high), torch.full_like(field, low))


def sine_modes(grid: Grid, modes: int) -> Float[Tensor, "K *grid"]:
    """The products of sin(k pi (x - o) / L) over the axes, k = 1 .. modes along each: zero on the boundary, not scaled.

    Raises InputError for a periodic axis, and for more modes than an axis has inner nodes.
    """
    _require_modes(grid, modes)
    along = []
    for n in grid.shape:
        k, i = torch.arange(1, modes + 1, dtype=torch.float64)[:, None], torch.arange(n, dtype=torch.float64)
        values = torch.sin(math.pi * ((k * i) % (2 * (n - 1))) / (n - 1))
        values[:, [0, -1]] = 0
        along.append(values)
    return torch.stack([_outer(combination) for combination in product(*along)])


def wave_numbers(grid: Grid, modes: int) -> Float[Tensor, "K axes"]:
    """The k of every axis of every one of `sine_modes`."""
    return torch.cartesian_prod(*[torch.arange(1.0, modes + 1, dtype=torch.float64)] * grid.axes).reshape(-1, grid.axes)


def _embedding(grid: Grid, covariance: Covariance) -> Float[Tensor, "*circle"]:
    """The eigenvalues of the covariance on the periodic grid that contains `grid`."""
    factor = 1
    while True:
        shape = [n if around else factor * 2 * (n - 1) for n, around in zip(grid.shape, grid.periodic, strict=True)]
        if math.prod(shape) > MOST_NODES:
            raise InputError(
                f"covariance: expected one that an embedding of {MOST_NODES} nodes holds, got {covariance} on a grid "
                f"of {grid.shape}: its length scale is too large for the box"
            )
        eigenvalues = torch.fft.fftn(_table(grid, covariance, tuple(shape))).real
        if float(-eigenvalues.clamp(max=0).sum()) <= CLIPPED * covariance.variance * eigenvalues.numel():
            return eigenvalues.clamp(min=0)
        factor *= 2


def _table(grid: Grid, covariance: Covariance, shape: tuple[int, ...]) -> Float[Tensor, "*circle"]:
    """The covariance by lag on a circle of `shape` nodes: shortest way around bounded axes, images of periodic ones."""
    lags, images = [], []
    for m, h, length, around in zip(shape, grid.spacing, grid.lengths, grid.periodic, strict=True):
        steps = torch.arange(m, dtype=torch.float64)
        lags.append(h * torch.minimum(steps, m - steps))
        images.append(math.ceil(covariance.reach / length + 0.5) if around else 0)
    count = math.prod(2 * i + 1 for i in images)
    if count > MOST_IMAGES:
        raise InputError(
            f"covariance: expected a length scale of the size of the period or below, got {covariance} with periods "
            f"{grid.lengths}"
        )
    total = torch.zeros(shape, dtype=torch.float64)
    for shift in product(*[range(-i, i + 1) for i in images]):
        square = torch.zeros((), dtype=torch.float64)
        for axis, (lag, s) in enumerate(zip(lags, shift, strict=True)):
            along = (lag + s * grid.lengths[axis]) ** 2
            square = square + along.reshape(-1, *[1] * (grid.axes - axis - 1))
        total += covariance(square.sqrt())
    return total * (covariance.variance / total.flatten()[0])


def _outer(rows: tuple[Tensor, ...]) -> Tensor:
    value = rows[0]
    for row in rows[1:]:
        value = value[..., None] * row
    return value


def _require_modes(grid: Grid, modes: int) -> None:
    if any(grid.periodic):
        raise InputError(f"grid: expected bounded axes for modes that vanish at their ends, got {grid.periodic}")
    if not 1 <= modes <= min(grid.shape) - 2:
        raise InputError(f"modes: expected 1 to {min(grid.shape) - 2} (the inner nodes of an axis), got {modes}")
