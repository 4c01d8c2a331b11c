"""Manufactured solutions for elliptic equations on boxes: u, a and the data that make u exact, by autograd."""

import math

import torch
from torch import Tensor

from diffuscope.physics import Grid
from diffuscope.physics.operators import FluxForm

BOUNDARIES = [
    ("dirichlet",), ("neumann",), ("periodic",), ("dirichlet", "dirichlet"), ("neumann", "neumann"),
    ("periodic", "periodic"), ("dirichlet", "neumann"), ("neumann", "dirichlet"), ("periodic", "dirichlet"),
    ("neumann", "periodic"),
]  # fmt: skip


def box(n: int, boundary: tuple[str, ...]) -> Grid:
    """A box with other lengths, spacings and an other origin along each of its axes."""
    axes = len(boundary)
    around = tuple(kind == "periodic" for kind in boundary)
    shape = tuple(n - 1 if p else n for p in around)
    return Grid(shape, (1.0, 1.3)[:axes], around, (0.2, -0.4)[:axes])


def sides(boundary: tuple[str, ...]) -> tuple[str, ...]:
    """The option of an equation: the periodic axes are the grid's."""
    return tuple("dirichlet" if kind == "periodic" else kind for kind in boundary)


def solution(grid: Grid, x: Tensor) -> Tensor:
    """Smooth, periodic where the grid is, and neither zero nor flat at any side."""
    u = torch.ones(x.shape[:-1], dtype=x.dtype)
    for axis, around in enumerate(grid.periodic):
        s = x[..., axis]
        turn = 2 * math.pi * (s - grid.origin[axis]) / grid.lengths[axis]
        u = u * (torch.sin(turn + 0.3 + axis).exp() if around else (0.7 * s).exp() * torch.cos(2 * s + 0.4 + axis))
    return u


def coefficient(grid: Grid, x: Tensor) -> Tensor:
    """Smooth, between 0.5 and 2, periodic where the grid is."""
    a = torch.ones(x.shape[:-1], dtype=x.dtype)
    for axis, around in enumerate(grid.periodic):
        turn = (2 if around else 1.3) * math.pi * (x[..., axis] - grid.origin[axis]) / grid.lengths[axis]
        a = a * (0.35 * torch.sin(turn + 0.5 * axis)).exp()
    return a


def manufactured(
    grid: Grid, boundary: tuple[str, ...], shift: float, *, variable: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """(u, a, sources) at the nodes for -div(a grad u) + shift u = f, with Dirichlet values and Neumann data a du/dn."""
    x = grid.coordinates.clone().requires_grad_()
    u = solution(grid, x)
    a = coefficient(grid, x) if variable else torch.ones_like(u)
    flux = a[..., None] * torch.autograd.grad(u.sum(), x, create_graph=True)[0]
    f = shift * u
    for axis in range(grid.axes):
        f = f - torch.autograd.grad(flux[..., axis].sum(), x, retain_graph=True)[0][..., axis]
    return (
        u.detach()[None],
        a.detach()[None],
        FluxForm(grid, sides(boundary)).sources(f, data(grid, boundary, u, flux)).detach()[None],
    )


def data(grid: Grid, boundary: tuple[str, ...], u: Tensor, flux: Tensor) -> Tensor:
    """u at Dirichlet nodes; at Neumann nodes the mean of the outward flux over the boundary of the cell of the node."""
    through, area = torch.zeros_like(u), torch.zeros_like(u)
    for axis, kind in enumerate(boundary):
        if kind == "neumann":
            face = grid.weights / torch.tensor(grid.spacing[axis] / 2).double()
            for end, sign in ((0, -1.0), (grid.shape[axis] - 1, 1.0)):
                at = torch.zeros(grid.shape, dtype=torch.bool).index_fill_(axis, torch.tensor([end]), True)
                through, area = through + at * sign * face * flux[..., axis], area + at * face
    held = FluxForm(grid, sides(boundary)).dirichlet
    return torch.where(held, u, through / area.clamp(min=1e-30))


def without_mean(grid: Grid, v: Tensor) -> Tensor:
    """v less its mean over the box."""
    return v - (grid.weights * v).sum(tuple(range(1, v.ndim)), keepdim=True) / grid.weights.sum()
