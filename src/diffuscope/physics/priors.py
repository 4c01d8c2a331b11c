r"""Gaussian priors of fields: Gaussian processes, and solutions of a linear equation under random forcing.

A linear equation A u = B f with a Gaussian forcing :math:`f = m + \sum_j \sqrt{v_j}\, e_j\, \xi_j`, xi white, has

.. math::
    u \sim N\left(A^{-1} B m,\; A^{-1} B\, C\, B^T A^{-T}\right), \qquad
    A^{-1} B\, C\, B^T A^{-T} = W W^T, \quad w_j = \sqrt{v_j}\, A^{-1} B e_j ,

of the rank of C; the eigenpairs of W W^T are the left singular vectors and squared singular values of W. In the joint
field (f, u) the columns are :math:`(\sqrt{v_j} e_j, w_j)`. Every draw satisfies the discrete equation, to rounding.

`sine_prior` is that of -Lap u = f with Dirichlet conditions, without solving anything, on the equidistant grid of an
interval or a rectangle (three- and five-point Laplacian). With modes :math:`s_k = \prod_a \sin(k_a \pi x_a / L_a)`,

.. math::
    f &= \sum_k c_k s_k, \quad c_k \sim N\left(0, \prod_a k_a^{-2}\right), \quad k_a = 1 \dots K, \qquad
    u = \sum_k \frac{c_k}{\lambda_k} s_k + \text{harmonic}, \\
    \lambda_k &= \sum_a \frac{4}{h_a^2} \sin^2\frac{k_a \pi h_a}{2 L_a}, \quad
    \text{the eigenvalues of the discrete operator, not of the differential one.}

The harmonic part carries the random boundary values, of variance v in the corners (the ends of an interval). It is
multilinear in the corner values, plus along each side of a rectangle :math:`\sum_k b_k \sin(k\pi x/L)`,
:math:`b_k \sim N(0, v / k^2)`, continued inward by the discrete harmonic function that vanishes on the other sides,

.. math::
    \sin\frac{k\pi x}{L_x}\, \frac{\sinh\theta_k (N - j)}{\sinh\theta_k N}, \qquad
    \theta_k = 2 \operatorname{arsinh}\frac{h_y}{h_x} \sin\frac{k\pi h_x}{2 L_x}, \quad y = j h_y,\; N = L_y / h_y .
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.errors import InputError
from diffuscope.exact import Gaussian

from .grid import Grid
from .operators.equation import Equation
from .random_fields import Covariance, covariance_matrix, sine_modes, wave_numbers


def process_prior(
    grid: Grid, covariance: Covariance, *, mean: Float[Tensor, "*grid"] | None = None, rank: int | None = None
) -> Gaussian:
    """The Gaussian process of this covariance on the nodes, of event shape grid.shape.

    Dense: D x D numbers and O(D^3) for D nodes (4,096 at most); `rank` keeps the largest eigenpairs only. Raises
    InputError for more nodes.

    >>> import torch
    >>> from diffuscope.physics import Grid, Matern, at_nodes, posterior, process_prior
    >>> prior = process_prior(Grid((3,)), Matern(0.5, smoothness=0.5, variance=4.0))
    >>> left = posterior(prior, at_nodes(torch.tensor([0]), (3,)), torch.tensor([5.0]))
    >>> [round(value, 6) for value in left.mean.tolist()]  # 5 exp(-x / 0.5)
    [5.0, 1.839397, 0.676676]
    """
    if grid.size > 4096:
        raise InputError(f"grid: expected at most 4096 nodes for a dense covariance, got {grid.size}")
    mean = torch.zeros(grid.shape, dtype=torch.float64) if mean is None else mean
    return Gaussian.from_covariance(mean, covariance_matrix(grid, covariance), rank)


def gaussian_prior(equation: Equation, forcing: Gaussian) -> Gaussian:
    """The distribution of the solution of a linear equation, of event shape grid.shape; `forcing` is of what is given.

    Raises InputError for an equation that is not linear, and for a forcing of another shape than what it is given.

    >>> import torch
    >>> from diffuscope.exact import Gaussian
    >>> from diffuscope.physics import Grid, Poisson, gaussian_prior
    >>> forcing = Gaussian.isotropic(torch.tensor([1.0, 16.0, 3.0]), 64.0)
    >>> prior = gaussian_prior(Poisson(Grid((3,))), forcing)  # u_0 = f_0, u_1 = f_1 / 8 + (f_0 + f_2) / 2, u_2 = f_2
    >>> [round(u, 6) for u in prior.mean.tolist()], round(prior.trace, 6)  # variances 64, 1 + 32, 64
    ([1.0, 4.0, 3.0], 161.0)
    """
    mean, solutions, _ = _solved(equation, forcing)
    return _of_columns(mean, solutions.flatten(1).T)


def joint_prior(equation: Equation, forcing: Gaussian) -> Gaussian:
    """The distribution of (given, solution) as two channels, of event shape (2, *grid.shape); else `gaussian_prior`.

    Raises InputError also for what is given in another shape than the solution.

    >>> import torch
    >>> from diffuscope.exact import Gaussian
    >>> from diffuscope.physics import Grid, Poisson, joint_prior
    >>> forcing = Gaussian.isotropic(torch.tensor([1.0, 16.0, 3.0]), 64.0)
    >>> prior = joint_prior(Poisson(Grid((3,))), forcing)  # u_0 = f_0, u_1 = f_1 / 8 + (f_0 + f_2) / 2, u_2 = f_2
    >>> prior.mean[0].tolist(), [round(u, 6) for u in prior.mean[1].tolist()], round(prior.trace, 6)  # 3 x 64 + 161
    ([1.0, 16.0, 3.0], [1.0, 4.0, 3.0], 353.0)
    """
    if tuple(equation.given_shape) != equation.grid.shape:
        raise InputError(
            f"equation: expected one whose given field has the shape of the solution {equation.grid.shape}, got "
            f"{tuple(equation.given_shape)}"
        )
    mean, solutions, columns = _solved(equation, forcing)
    joint = torch.stack([columns, solutions], 1).flatten(1).T
    return _of_columns(torch.stack([forcing.mean, mean]), joint)


def sine_prior(
    grid: Grid, modes: int = 8, *, boundary_variance: float | int = 1.0, boundary_modes: int | None = None
) -> Gaussian:
    """The solution u of -Lap u = f for a random sine series f and random boundary values, of event shape grid.shape.

    `boundary_variance` 0 fixes the boundary at zero. In 2-D, `boundary_modes` of each side (all inner nodes of it by
    default, so that any boundary values can be conditioned on) follow its corners. Raises InputError for periodic
    axes, more than two axes, and more modes than inner nodes.

    >>> from diffuscope.physics import Grid, sine_prior
    >>> prior = sine_prior(Grid((5,)), modes=2, boundary_variance=0)  # |s_k|^2 = 2, lambda_k = 64 sin^2(k pi / 8)
    >>> [round(value, 6) for value in prior.eigenvalues.tolist()]  # 2 / lambda_1^2 and 2 / (2 lambda_2)^2
    [0.022767, 0.000488]
    >>> round(sine_prior(Grid((5,)), 2, boundary_variance=4).trace - prior.trace, 6)  # 4 sum of (1 - x)^2 + x^2
    15.0
    """
    _, solutions = _sine_columns(grid, modes, boundary_variance, boundary_modes)
    return _centered(solutions, orthogonal=boundary_variance == 0)


def joint_sine_prior(
    grid: Grid, modes: int = 8, *, boundary_variance: float | int = 1.0, boundary_modes: int | None = None
) -> Gaussian:
    """(given, solution) of `sine_prior` as two channels: given is f at inner nodes and u at boundary nodes.

    >>> from diffuscope.physics import Grid, joint_sine_prior
    >>> prior = joint_sine_prior(Grid((5,)), modes=2, boundary_variance=0)  # |s_k|^2 = 2, lambda_k = 64 sin^2(k pi / 8)
    >>> [round(value, 6) for value in prior.eigenvalues.tolist()]  # 2 / k^2 (1 + 1 / lambda_k^2)
    [2.022767, 0.500488]
    """
    columns, solutions = _sine_columns(grid, modes, boundary_variance, boundary_modes)
    return _centered(torch.stack([columns, solutions], 1), orthogonal=boundary_variance == 0)


def sine_forcing(
    grid: Grid, modes: int = 8, *, boundary_variance: float | int = 1.0, boundary_modes: int | None = None
) -> Gaussian:
    """What `sine_prior` gives the equation: f at inner nodes and the boundary value at the others.

    >>> from diffuscope.physics import Grid, sine_forcing
    >>> forcing = sine_forcing(Grid((5,)), modes=2, boundary_variance=3)
    >>> [round(value, 6) for value in forcing.eigenvalues.tolist()]  # two ends, and |s_k|^2 / k^2 = 2 and 1/2
    [3.0, 3.0, 2.0, 0.5]
    """
    columns, _ = _sine_columns(grid, modes, boundary_variance, boundary_modes)
    return _centered(columns, orthogonal=boundary_variance == 0)


def _solved(equation: Equation, forcing: Gaussian) -> tuple[Tensor, Tensor, Tensor]:
    """The mean solution, the solution of each scaled mode of the forcing, and these modes."""
    shape = tuple(equation.given_shape)
    if forcing.event_shape != shape:
        raise InputError(
            f"forcing: expected the shape of what the equation is given {shape}, got {forcing.event_shape}"
        )
    columns = _scaled_modes(forcing).reshape(-1, *shape)
    offset, mean, twice = equation.solve(torch.stack([0 * forcing.mean, forcing.mean, 2 * forcing.mean]))
    solutions = equation.solve(columns) - offset
    probe = equation.solve(columns.sum(0, keepdim=True) + forcing.mean[None])[0]
    crooked = (twice - 2 * mean + offset).abs().max() + (probe - mean - solutions.sum(0)).abs().max()
    if float(crooked) > 1e-8 * float(mean.abs().max() + probe.abs().max() + solutions.abs().sum(0).max()):
        raise InputError(f"equation: expected a linear one, got {type(equation).__name__}, whose solutions do not add")
    return mean, solutions, columns


def _scaled_modes(forcing: Gaussian) -> Float[Tensor, "k D"]:
    """The rows sqrt(v_j) e_j with v_j > 0, those of the tail included."""
    modes = forcing.eigenvectors * forcing.eigenvalues.sqrt()
    if forcing.tail_variance > 0:
        basis = torch.linalg.qr(forcing.eigenvectors, mode="complete").Q[:, len(forcing.eigenvalues) :]
        modes = torch.cat([modes, basis * math.sqrt(forcing.tail_variance)], 1)
    return modes.T[modes.abs().amax(0) > 0]


def _of_columns(mean: Tensor, W: Float[Tensor, "D k"]) -> Gaussian:
    """N(mean, W W^T)."""
    U, S, _ = torch.linalg.svd(W, full_matrices=False)
    return Gaussian(mean, U, S.square())


def _centered(columns: Float[Tensor, "k *event"], *, orthogonal: bool) -> Gaussian:
    """N(0, W W^T) of these columns of W; orthogonal ones are eigenvectors as they are, without an SVD."""
    mean, W = torch.zeros_like(columns[0]), columns.flatten(1).T
    if not orthogonal:
        return _of_columns(mean, W)
    eigenvalues, order = W.square().sum(0).sort(descending=True)
    return Gaussian(mean, W[:, order] / eigenvalues.sqrt(), eigenvalues)


def _sine_columns(
    grid: Grid, modes: int, variance: float | int, boundary_modes: int | None
) -> tuple[Float[Tensor, "k *grid"], Float[Tensor, "k *grid"]]:
    """The scaled modes of (given, solution)."""
    if grid.axes > 2:
        raise InputError(f"grid: expected one or two axes, got {grid.axes}")
    if not 0 <= variance < math.inf:
        raise InputError(f"boundary_variance: expected a number >= 0, got {variance}")
    shape = (-1, *[1] * grid.axes)
    k = wave_numbers(grid, modes)
    given = sine_modes(grid, modes) / k.prod(-1).reshape(shape)
    eigenvalues = torch.stack([_symbol(grid, axis, k[:, axis]) for axis in range(grid.axes)]).sum(0)
    solution = given / eigenvalues.reshape(shape)
    if variance > 0:
        harmonic = math.sqrt(variance) * _harmonic(grid, boundary_modes)
        given = torch.cat([given, harmonic * grid.boundary])
        solution = torch.cat([solution, harmonic])
    return given, solution


def _symbol(grid: Grid, axis: int, k: Tensor) -> Tensor:
    """The eigenvalue of minus the second difference along an axis for sin(k pi x / L)."""
    h = grid.spacing[axis]
    return (2 / h * torch.sin(k * math.pi * h / (2 * grid.lengths[axis]))) ** 2


def _harmonic(grid: Grid, modes: int | None) -> Float[Tensor, "k *grid"]:
    """Discrete harmonic functions of unit boundary variance: of the corners, then of the sides of a rectangle."""
    ramps = [torch.stack([1 - r, r]) for r in (torch.linspace(0, 1, n, dtype=torch.float64) for n in grid.shape)]
    if grid.axes == 1:
        return ramps[0]
    parts = [torch.einsum("ai,bj->abij", *ramps).flatten(0, 1)]
    for along, across in ((0, 1), (1, 0)):
        n = grid.shape[along]
        count = n - 2 if modes is None else modes
        if not 0 <= count <= n - 2:
            raise InputError(f"boundary_modes: expected 0 to {n - 2} (the inner nodes of a side), got {count}")
        if count == 0:
            continue
        side = Grid((n,), (grid.lengths[along],))
        k = wave_numbers(side, count)[:, 0]
        waves = sine_modes(side, count) / k[:, None]
        N = grid.shape[across] - 1
        theta = 2 * torch.asinh(grid.spacing[across] / 2 * _symbol(grid, along, k).sqrt())[:, None]
        j = torch.arange(N + 1, dtype=torch.float64)
        decay = torch.exp(-theta * j) * torch.expm1(-2 * theta * (N - j)) / torch.expm1(-2 * theta * N)
        for inward in (decay, decay.flip(1)):
            field = waves[:, :, None] * inward[:, None, :]
            parts.append(field if along == 0 else field.transpose(1, 2))
    return torch.cat(parts)
