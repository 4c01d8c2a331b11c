r"""The Fokker-Planck equation on a grid, in conservative form: finite volumes with exponentially fitted fluxes.

For the Ito process :math:`dX_k = b_k(X, t)\,dt + \sqrt{2 A_k(X, t)}\,dB_k`, killed at the rate V(X, t),

.. math::
    \partial_t p = -\sum_k \partial_k J_k - V p, \qquad J_k = u_k\, p - A_k\,\partial_k p, \qquad
    u_k = b_k - \partial_k A_k .

Between the cells i and i + 1 of an axis, with :math:`z = u h / A` on their common face, the flux that is exact for
constant u, A and J is (Scharfetter & Gummel 1969; Chang & Cooper 1970; B is the Bernoulli function)

.. math::
    F_{i+1/2} = \frac{A}{h}\left[B(-z)\, p_i - B(z)\, p_{i+1}\right], \qquad B(z) = \frac{z}{e^z - 1},

and :math:`\dot p_i = -(F_{i+1/2} - F_{i-1/2})/h - V_i p_i`. Off the diagonal the matrix is nonnegative, and its
columns sum to zero except for killing and absorption. It is second order in h where there is noise. Where A = 0 no
linear scheme is both of second order and positive (Godunov 1959): `noiseless` chooses *upwind*, positive and of first
order, or *central*, :math:`F = u (p_i + p_{i+1})/2`, of second order, whose densities may be negative, above all where
a density falls steeply within a few cells, and which does not damp what alternates from cell to cell. For
:math:`b = -\nabla U` and constant A the discrete Gibbs distribution :math:`e^{-U(x_i)/A}` is stationary to rounding if
the face drift is the difference quotient of U (`gradient_equation`).

At the ends of an axis: *no-flux*, F = 0; *absorbing*, p = 0 on the face, half a cell away; *periodic*, the last cell
is the neighbor of the first. The diffusion is diagonal: no correlated noise.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.errors import InputError
from diffuscope.schedules import Schedule

from .grid import Grid
from .tridiagonal import Tridiagonal

Boundary = Literal["no-flux", "absorbing", "periodic"]
Noiseless = Literal["upwind", "central"]
Field = Callable[[Tensor, float], Tensor]  # ((n, d) points, time) -> (n, d) drift, or (n,) or (n, d) diffusion

VANISHING = 700.0
NEGLIGIBLE = 1e-12  # diffusion over |u| h below which a face is upwinded: the fitted flux differs by less than rounding


@dataclass(frozen=True, eq=False)
class FokkerPlanck:
    """The equation on `grid`: drift u and diffusion A on the faces of every axis, as functions of (axis, time).

    `steady` means that nothing depends on time, so that the matrices are computed once. Made by `ito_equation`,
    `homogeneous_equation`, `gradient_equation`, `forward_equation` and `reverse_equation`. Raises InputError for an
    unknown boundary.

    >>> import torch
    >>> from diffuscope.densities import Grid, ito_equation
    >>> equation = ito_equation(Grid.line(0, 1, 2), lambda x, t: 0 * x, 0.5, boundary="absorbing")
    >>> equation.rate(torch.tensor([1.0, 0.0]), 0.0).tolist()  # A/h^2 = 2: 2 to the right, 4 out through the left end
    [-6.0, 2.0]
    """

    grid: Grid
    face_drift: Callable[[int, float], Tensor]
    face_diffusion: Callable[[int, float], Tensor]
    boundary: Boundary = "no-flux"
    killing: Callable[[float], Tensor] | None = None  # the rate V in every cell
    steady: bool = False
    noiseless: Noiseless = "upwind"  # the flux through faces where A = 0

    def __post_init__(self) -> None:
        if self.noiseless not in get_args(Noiseless):
            raise InputError(f"noiseless: expected one of {', '.join(get_args(Noiseless))}, got {self.noiseless!r}")
        if self.boundary not in get_args(Boundary):
            raise InputError(f"boundary: expected one of {', '.join(get_args(Boundary))}, got {self.boundary!r}")

    def generator(self, axis: int, t: float) -> Tridiagonal:
        """The part of the equation along `axis`, one matrix per line; killing is shared among the axes.

        Raises InputError where drift or diffusion is not finite, or the diffusion negative.
        """
        h = self.grid.widths[axis]
        u, A = (field(axis, t).movedim(axis, -1) for field in (self.face_drift, self.face_diffusion))
        if not bool(torch.isfinite(u).all() & torch.isfinite(A).all()):
            raise InputError(f"drift, diffusion: expected finite values on the grid, got NaN or infinity at time {t:g}")
        if bool((A < 0).any()):
            raise InputError(f"diffusion: expected values >= 0, got {float(A.min()):.3g} at time {t:g}")
        if self.boundary == "periodic":  # both ends are one face, equal to the last bit, or mass would leak
            u, A = (torch.cat([field[..., :-1], field[..., :1]], -1) for field in (u, A))
        # leaving[i]: what flows right through face i per unit of p on its left; entering[i]: left, per p on its right
        leaving, entering = _fitted(u, A, h, self.noiseless)
        if self.boundary == "no-flux":
            ends = torch.ones_like(u)
            ends[..., 0] = ends[..., -1] = 0
            leaving, entering = leaving * ends, entering * ends
        elif self.boundary == "absorbing":
            half_leaving, half_entering = _fitted(u, A, h / 2, "upwind")
            # p = 0 outside: only the flux out of the box remains
            leaving = torch.cat([torch.zeros_like(u[..., :1]), leaving[..., 1:-1], half_leaving[..., -1:]], -1)
            entering = torch.cat([half_entering[..., :1], entering[..., 1:-1], torch.zeros_like(u[..., :1])], -1)
        lower, upper = leaving[..., :-1] / h, entering[..., 1:] / h
        diagonal = -(leaving[..., 1:] + entering[..., :-1]) / h
        if self.killing is not None:
            diagonal = diagonal - self.killing(t).movedim(axis, -1) / self.grid.dimensions
        return Tridiagonal(lower, diagonal, upper)

    def rate(self, values: Float[Tensor, "*cells"], t: float) -> Float[Tensor, "*cells"]:
        """The right side dp/dt at time t."""
        axes = range(self.grid.dimensions)
        parts = [self.generator(axis, t).apply(values.movedim(axis, -1)).movedim(-1, axis) for axis in axes]
        return torch.stack(parts).sum(0)


def ito_equation(
    grid: Grid,
    drift: Field,
    diffusion: Field | float | int,
    *,
    boundary: Boundary = "no-flux",
    killing: Field | None = None,
    steady: bool = False,
    noiseless: Noiseless = "upwind",
) -> FokkerPlanck:
    """The equation of dX = b(X, t) dt + sqrt(2 A(X, t)) dB from `drift` b and `diffusion` A.

    Fields take points (n, d) and a time and return (n, d) for b, (n,) or (n, d) for A, (n,) for the rate V `killing`; A
    may be a number. A field A is also evaluated half a cell beyond the ends of the box, for its derivative there.
    `steady` and `noiseless` as in `FokkerPlanck`. Raises InputError for fields of another shape.

    >>> import torch
    >>> from diffuscope.densities import Grid, ito_equation
    >>> drift, rate = (lambda x, t: torch.ones_like(x)), (lambda x, t: torch.full((len(x),), 3.0))
    >>> equation = ito_equation(Grid.line(0, 1, 2), drift, lambda x, t: 1 + x[:, 0], killing=rate)
    >>> equation.rate(torch.tensor([1.0, 0.0]), 0.0).tolist()  # u = 1 - A' = 0; 1.5 / 0.25 to the right, 3 killed
    [-9.0, 6.0]
    """

    def face_drift(axis: int, t: float) -> Tensor:
        points = grid.face_points(axis)
        b = _component(drift(points.reshape(-1, grid.dimensions), t), "drift", points, axis, scalar=False)
        if not callable(diffusion):
            return b
        half = torch.zeros(grid.dimensions, dtype=torch.float64)
        half[axis] = grid.widths[axis] / 2
        ahead, behind = (_diffusion_at(diffusion, points + side * half, axis, t) for side in (1, -1))
        return b - (ahead - behind) / grid.widths[axis]

    def face_diffusion(axis: int, t: float) -> Tensor:
        return _diffusion_at(diffusion, grid.face_points(axis), axis, t)

    return FokkerPlanck(grid, face_drift, face_diffusion, boundary, _rates(grid, killing), steady, noiseless)


def gradient_equation(
    grid: Grid,
    potential: Callable[[Tensor], Tensor],
    diffusion: float | int = 1.0,
    *,
    boundary: Boundary = "no-flux",
    killing: Field | None = None,
) -> FokkerPlanck:
    """The equation of dX = -grad U(X) dt + sqrt(2 A) dB from the potential U, (n, d) -> (n,), and a number A > 0.

    Its stationary distribution on the grid is exp(-U / A) at the centers of the cells, to rounding. Raises InputError
    unless A > 0.

    >>> import torch
    >>> from diffuscope.densities import Grid, gradient_equation
    >>> grid = Grid.line(-1, 3, 8)
    >>> equation = gradient_equation(grid, lambda x: x[:, 0] ** 2, 0.5)
    >>> gibbs = (-(grid.centers() ** 2) / 0.5).exp()
    >>> bool(equation.rate(gibbs, 0.0).abs().max() < 1e-12), bool(equation.rate(gibbs**1.01, 0.0).abs().max() > 1e-3)
    (True, True)
    """
    if not diffusion > 0:
        raise InputError(f"diffusion: expected a number > 0, got {diffusion}")

    def at(points: Tensor) -> Tensor:
        return potential(points.reshape(-1, grid.dimensions)).reshape(points.shape[:-1])

    inside = at(grid.points())

    def face_drift(axis: int, t: float) -> Tensor:  # noqa: ARG001
        h, U = grid.widths[axis], inside.movedim(axis, -1)
        between = -(U[..., 1:] - U[..., :-1]) / h
        if boundary == "periodic":
            first = last = -(U[..., :1] - U[..., -1:]) / h
        else:
            faces = at(grid.face_points(axis)).movedim(axis, -1)
            first = -(U[..., :1] - faces[..., :1]) / (h / 2)
            last = -(faces[..., -1:] - U[..., -1:]) / (h / 2)
        return torch.cat([first, between, last], -1).movedim(-1, axis)

    def face_diffusion(axis: int, t: float) -> Tensor:
        return _diffusion_at(float(diffusion), grid.face_points(axis), axis, t)

    return FokkerPlanck(grid, face_drift, face_diffusion, boundary, _rates(grid, killing), steady=True)


def homogeneous_equation(
    grid: Grid, drift: Field, diffusion: Callable[[float], float], *, boundary: Boundary = "no-flux"
) -> FokkerPlanck:
    """As `ito_equation` for noise that is the same everywhere: `diffusion` is a function A(t) of time alone.

    >>> import torch
    >>> from diffuscope.densities import Grid, homogeneous_equation
    >>> equation = homogeneous_equation(Grid.line(0, 1, 2), lambda x, t: 0 * x, lambda t: 3 * t)
    >>> equation.rate(torch.tensor([1.0, 0.0]), 0.25).tolist()  # A/h^2 = 0.75 / 0.5^2
    [-3.0, 3.0]
    """

    def face_drift(axis: int, t: float) -> Tensor:
        points = grid.face_points(axis)
        return _component(drift(points.reshape(-1, grid.dimensions), t), "drift", points, axis, scalar=False)

    return FokkerPlanck(
        grid, face_drift, lambda axis, t: _diffusion_at(diffusion(t), grid.face_points(axis), axis, t), boundary
    )


def forward_equation(grid: Grid, schedule: Schedule, *, boundary: Boundary = "no-flux") -> FokkerPlanck:
    """The forward process of a schedule, dX = f(t) X dt + g(t) dB, in the schedule's own time.

    >>> import torch
    >>> from diffuscope.densities import Grid, forward_equation
    >>> from diffuscope.schedules import VP
    >>> equation = forward_equation(Grid.line(0, 2, 2), VP(1.0, 3.0))  # at t = 1/4, beta = 1.5: u = -0.75 x, A = 0.75
    >>> rate = equation.rate(torch.tensor([1.0, 0.0]), 0.25)
    >>> [round(value, 6) for value in rate.tolist()]  # between the cells z = -1: 0.75 B(1) = 0.75 / (e - 1)
    [-0.436483, 0.436483]
    """
    return homogeneous_equation(
        grid,
        lambda points, t: float(schedule.f(t)) * points,
        lambda t: float(schedule.g_squared(t)) / 2,
        boundary=boundary,
    )


def bernoulli(z: Float[Tensor, "*faces"]) -> Float[Tensor, "*faces"]:
    """B(z) = z / (e^z - 1), by its series 1 - z/2 + z^2/12 - z^4/720 where |z| < 0.01, and 0 where z > 700.

    Beyond 700, B is below 1e-301, and an infinite e^z would give NaN in autograd.
    """
    small, vanishing = z.abs() < 1e-2, z > VANISHING
    away = torch.where(small | vanishing, 1.0, z)
    series = 1 - z / 2 + z**2 / 12 - z**4 / 720
    return torch.where(small, series, torch.where(vanishing, 0.0, away / torch.expm1(away)))


def _fitted(u: Tensor, A: Tensor, h: float, noiseless: Noiseless) -> tuple[Tensor, Tensor]:
    """(A/h) B(-z) and (A/h) B(z), z = u h / A; upwind or central where A is negligible beside u h."""
    sharp = NEGLIGIBLE * u.abs() * h >= A
    divisor = torch.where(sharp, 1.0, A)
    z = torch.where(sharp, 0.0, u) * h / divisor
    ahead, back = (u / 2, -u / 2) if noiseless == "central" else (u.clamp(min=0), (-u).clamp(min=0))
    leaving = torch.where(sharp, ahead, divisor / h * bernoulli(-z))
    entering = torch.where(sharp, back, divisor / h * bernoulli(z))
    return leaving, entering


def _diffusion_at(diffusion: Field | float | int, points: Tensor, axis: int, t: float) -> Tensor:
    if not callable(diffusion):
        return torch.full(points.shape[:-1], diffusion, dtype=torch.float64)
    values = diffusion(points.reshape(-1, points.shape[-1]), t)
    return _component(values, "diffusion", points, axis, scalar=True)


def _component(values: Tensor, name: str, points: Tensor, axis: int, *, scalar: bool) -> Tensor:
    """The component along `axis` of a field at `points` (*cells, d), or the field itself where it may be a scalar."""
    n, d = points.shape[:-1].numel(), points.shape[-1]
    if tuple(values.shape) == (n, d):
        return values[:, axis].double().reshape(points.shape[:-1])
    if scalar and tuple(values.shape) == (n,):
        return values.double().reshape(points.shape[:-1])
    expected = f"({n}, {d})" + (f" or ({n},)" if scalar else "")
    raise InputError(f"{name}: expected shape {expected} for {n} points, got {tuple(values.shape)}")


def _rates(grid: Grid, killing: Field | None) -> Callable[[float], Tensor] | None:
    if killing is None:
        return None
    points = grid.points()

    def rates(t: float) -> Tensor:
        values = killing(points.reshape(-1, grid.dimensions), t)
        if tuple(values.shape) != (points.shape[:-1].numel(),):
            raise InputError(f"killing: expected one rate per point, got shape {tuple(values.shape)}")
        return values.double().reshape(grid.cells)

    return rates
