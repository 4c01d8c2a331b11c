r"""How fast a density relaxes: the slowest eigenvalues of the Fokker-Planck operator on a grid.

On the grid :math:`\dot p = L p` with a sparse matrix L. Without killing or absorption its columns sum to zero, one
eigenvalue is 0 (the stationary distribution), and the others have negative real parts:
:math:`p(t) - p_\infty \sim \sum_k c_k e^{-\kappa_k t} \phi_k`. Between two metastable states the smallest,
:math:`\kappa_1 = k_{ab} + k_{ba}`, is the sum of the two rates, and is exponentially smaller than the rest.

The eigenvalues nearest to a shift :math:`\sigma > 0` are found by Arnoldi's method on :math:`(L - \sigma I)^{-1}`;
:math:`\sigma I - L` is an M-matrix for the positive scheme, which keeps its factorization accurate.

The central flux through faces without noise has besides modes that change sign from cell to cell, :math:`p_i =
(-1)^i q_i`, on which it acts as the transport of q with the opposite sign. They approximate nothing, may be as slow as
the true ones (those of the potential upside down, in a double well with friction), and are left out.
"""

import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped
from scipy.sparse import csc_array, eye_array
from scipy.sparse.linalg import LinearOperator, eigs, splu
from torch import Tensor

from diffuscope.errors import InputError

from .fokker_planck import FokkerPlanck


def generator_matrix(equation: FokkerPlanck, t: float | int = 0.0) -> csc_array:
    """L of dp/dt = L p at time t, on the cells in the order of `values.reshape(-1)`. Memory: 3 d numbers per cell.

    >>> import torch
    >>> from diffuscope.densities import Grid, generator_matrix, ito_equation
    >>> equation = ito_equation(Grid.line(0, 1, 2), lambda x, t: torch.ones_like(x), 0.0)
    >>> generator_matrix(equation).toarray().tolist()  # u/h = 2 from the left cell to the right one
    [[-2.0, 0.0], [2.0, 0.0]]
    """
    cells = equation.grid.cells
    index = torch.arange(int(np.prod(cells))).reshape(cells)
    rows, columns, entries = [], [], []
    for axis in range(len(cells)):
        bands = equation.generator(axis, float(t))
        at = index.movedim(axis, -1)
        for band, shift in ((bands.diagonal, 0), (bands.lower, 1), (bands.upper, -1)):
            rows.append(at.reshape(-1))
            columns.append(at.roll(shift, -1).reshape(-1))
            entries.append(band.detach().expand(at.shape).reshape(-1))
    row, column, entry = (torch.cat(parts).numpy() for parts in (rows, columns, entries))
    kept = entry != 0
    return csc_array((entry[kept], (row[kept], column[kept])), shape=(index.numel(), index.numel()))


def alternating(modes: Shaped[Tensor, "modes *cells"]) -> Bool[Tensor, " modes"]:
    """Which modes have larger differences than sums of neighbors, in the mean square along some axis."""
    found = torch.zeros(len(modes), dtype=torch.bool)
    for axis in range(1, modes.ndim):
        p = modes.movedim(axis, -1)
        sums, differences = p[..., 1:] + p[..., :-1], p[..., 1:] - p[..., :-1]
        found |= differences.abs().square().flatten(1).sum(1) > sums.abs().square().flatten(1).sum(1)
    return found


def relaxation_rates(
    equation: FokkerPlanck, count: int = 1, *, shift: float = 1e-6
) -> Float[Tensor, " rates"] | Tensor:
    """The `count` rates kappa_1, ... nearest to 0 of an equation that conserves mass, complex where they oscillate.

    `shift` > 0 is about as large as the smallest rate to be resolved: rates far below it lose digits, 1e-16 relative to
    it per unit of the inverse. Raises InputError for a count or shift out of range, for absorption or killing, and for
    an equation that is not `steady`.

    >>> import math
    >>> from diffuscope.densities import Grid, ito_equation, relaxation_rates
    >>> equation = ito_equation(Grid.line(0, 3, 6), lambda x, t: 0 * x, 0.5, steady=True)
    >>> [round(rate, 6) for rate in relaxation_rates(equation, 2).tolist()]  # 2 A/h^2 (1 - cos(pi k / 6))
    [0.535898, 2.0]
    """
    if not shift > 0:
        raise InputError(f"shift: expected a number > 0, got {shift}")
    if not equation.steady:
        raise InputError("equation: expected one that is steady, got one that may depend on time")
    if equation.boundary == "absorbing" or equation.killing is not None:
        raise InputError("equation: expected one that conserves mass, got absorption or killing")
    L = generator_matrix(equation)
    n = int(np.prod(equation.grid.cells))
    if not 1 <= count <= n - 3:
        raise InputError(f"count: expected 1 to {n - 3} rates on {n} cells, got {count}")
    inverse = splu((L - shift * eye_array(n)).tocsc())
    operator = LinearOperator((n, n), matvec=inverse.solve, dtype=np.float64)  # pyright: ignore[reportCallIssue]
    start = np.random.default_rng(0).random(n)
    central = equation.noiseless == "central"
    values, modes = eigs(operator, k=min(n - 2, 2 * count + 2 if central else count + 1), v0=start, tol=0)  # pyright: ignore
    rates = torch.from_numpy(-(shift + 1 / values))
    if central:
        rates = rates[~alternating(torch.from_numpy(modes).T.reshape(-1, *equation.grid.cells))]
    rates = rates[rates.abs().argsort()][1 : count + 1]
    return rates.real if bool((rates.imag.abs() <= 1e-9 * rates.abs()).all()) else rates
