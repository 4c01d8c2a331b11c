r"""The Kolmogorov backward equation and Feynman-Kac: expectations of the future as functions of the present.

For the process of a Fokker-Planck equation, killed at the rate V,

.. math::
    u(x, s) = E\Big[e^{-\int_s^T V(X_r, r)\,dr}\,\varphi(X_T) \,\Big|\, X_s = x\Big], \qquad
    -\partial_s u = \sum_k \left(b_k\,\partial_k u + A_k\,\partial_k^2 u\right) - V u, \qquad u(\cdot, T) = \varphi .

The *transposed* steps of the forward scheme propagate u, so that :math:`\int u\, p` is constant in time to rounding,
whatever the grid. With :math:`\varphi = 1` and absorbing ends, u is the survival probability.

For a schedule's own process, :math:`X_t = a X_s + \sqrt v\,\xi`, no grid is needed: Gauss-Hermite quadrature of
:math:`u(x, s) = E\,\varphi(a x + \sqrt v\,\xi)` is exact for polynomials. Its eigenfunctions are the Hermite
polynomials: for :math:`dX = -X dt + \sqrt2\, dB`, :math:`\varphi = He_n` gives :math:`e^{-n (T - s)} He_n(x)`.
"""

from collections import deque
from collections.abc import Callable, Iterator

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.errors import InputError
from diffuscope.schedules import Schedule

from .fokker_planck import FokkerPlanck
from .stepping import Scheme, Times, transposed_steps


def expectations(
    equation: FokkerPlanck, payoff: Float[Tensor, "*cells"], times: Times, scheme: Scheme
) -> Iterator[Float[Tensor, "*cells"]]:
    """u at each of the increasing `times`, from the last to the first, beginning with `payoff`, the values of phi.

    Holds the matrices of one step at a time, unless u is to be differentiated. Raises InputError for a payoff of
    another shape than the grid, or with values that are not finite.

    >>> import torch
    >>> from diffuscope.densities import BackwardEuler, Grid, equal_steps, expectations, ito_equation
    >>> equation = ito_equation(Grid.line(0, 2, 2), lambda x, t: torch.ones_like(x), 0.0)  # moves right at the rate 1
    >>> payoff = torch.tensor([0.0, 1.0])
    >>> [u.tolist() for u in expectations(equation, payoff, equal_steps(0, 2, 2), BackwardEuler())]  # 1 - (1 + 1)^-n
    [[0.0, 1.0], [0.5, 1.0], [0.75, 1.0]]
    """
    if tuple(payoff.shape) != equation.grid.cells:
        raise InputError(f"payoff: expected the grid's shape {equation.grid.cells}, got {tuple(payoff.shape)}")
    if not bool(torch.isfinite(payoff).all()):
        raise InputError("payoff: expected finite values, got NaN or infinity")
    u = payoff.double()
    yield u
    for step in transposed_steps(equation, times, scheme):
        u = step.apply(u)
        yield u


def expectation(
    equation: FokkerPlanck, payoff: Float[Tensor, "*cells"], times: Times, scheme: Scheme
) -> Float[Tensor, "*cells"]:
    """u at the first of `times`. Raises InputError as `expectations` does.

    >>> import torch
    >>> from diffuscope.densities import BackwardEuler, Grid, equal_steps, expectation, ito_equation
    >>> equation = ito_equation(Grid.line(0, 2, 2), lambda x, t: torch.ones_like(x), 0.0)  # moves right at the rate 1
    >>> payoff = torch.tensor([0.0, 1.0])
    >>> expectation(equation, payoff, equal_steps(0, 2, 2), BackwardEuler()).tolist()  # 1 - (1 + 1)^-2
    [0.75, 1.0]
    """
    return deque(expectations(equation, payoff, times, scheme), maxlen=1).pop()


def gaussian_expectation(
    schedule: Schedule,
    payoff: Callable[[Tensor], Tensor],
    x: Float[Tensor, "batch d"],
    s: float | int,
    t: float | int,
    *,
    nodes: int = 64,
) -> Float[Tensor, " batch"]:
    """E[phi(X_t) | X_s = x] for t > s under a schedule's forward process, `payoff` (n, d) -> (n,).

    Uses `nodes` Gauss-Hermite nodes per coordinate, exact for polynomials of degree 2 nodes - 1 in each, and
    batch * nodes^d points in memory. Raises InputError for t <= s, for alpha(s) = 0, and for x of another shape.

    >>> import math, torch
    >>> from diffuscope.densities import gaussian_expectation
    >>> from diffuscope.schedules import VP
    >>> s, t = 0.1, 0.1 + math.log(2) / 2
    >>> u = gaussian_expectation(VP(2.0, 2.0), lambda x: x[:, 0] ** 2 - 1, torch.tensor([[3.0]]), s, t)
    >>> round(u.item(), 6)  # e^(-2 (t - s)) (3^2 - 1)
    4.0
    """
    if x.ndim != 2:
        raise InputError(f"x: expected points of shape (batch, d), got {tuple(x.shape)}")
    if not t > s:
        raise InputError(f"t: expected a time after s = {s:g}, got {t:g}")
    alpha_s = float(schedule.alpha(s))
    if alpha_s == 0:
        raise InputError(f"s: expected alpha(s) > 0, got alpha = 0 at {s:g}")
    a = float(schedule.alpha(t)) / alpha_s
    deviation = max(0.0, float(schedule.sigma(t)) ** 2 - (a * float(schedule.sigma(s))) ** 2) ** 0.5
    places, weights = np.polynomial.hermite_e.hermegauss(nodes)
    weights = weights / weights.sum()
    d = x.shape[1]
    xi = torch.cartesian_prod(*[torch.from_numpy(places)] * d).reshape(-1, d)
    weight = torch.cartesian_prod(*[torch.from_numpy(weights)] * d).reshape(-1, d).prod(1)
    ends = a * x.double()[:, None] + deviation * xi
    return payoff(ends.reshape(-1, d)).double().reshape(len(x), -1) @ weight
