r"""The slowest rates of a particle with friction, by Hermite functions of the velocity.

For :math:`dx = v\,dt,\ dv = -(U' + \gamma v)\,dt + \sqrt{2\gamma T}\,dW` the density is expanded as

.. math::  p(x, v) = e^{-U/2T} \psi_0(v) \sum_n c_n(x)\,\psi_n(v)

in the Hermite functions :math:`\psi_n` of variance T, which turns the Fokker-Planck equation into

.. math::
    \dot c_n = -\sqrt{n}\,A_+ c_{n-1} - n\gamma\,c_n - \sqrt{n+1}\,A_-\,c_{n+1}, \qquad
    A_\pm = \sqrt T\left(\partial_x \pm \frac{U'}{2T}\right) .

The derivative is that of sinc functions on equally spaced points (Colbert & Miller 1992), so that the error falls
exponentially with the points and with the number of Hermite functions. The eigenvalue of `rates` is that of 80 and 30;
the change from 60 and 20, which are taken if no others are given, is its uncertainty.

Source: Risken 1989, *The Fokker-Planck Equation*, section 10.3.
"""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from scipy.sparse import csc_array, diags_array, eye_array, kron
from scipy.sparse.linalg import LinearOperator, eigs, splu
from torch import Tensor

POINTS, FUNCTIONS = 60, 20


def kinetic_rates(
    slope: Callable[[np.ndarray], np.ndarray],
    friction: float,
    temperature: float,
    reach: float,
    count: int = 1,
    *,
    shift: float,
    points: int = POINTS,
    functions: int = FUNCTIONS,
) -> Float[Tensor, " rates"]:
    """The `count` smallest nonzero rates for U' = `slope` on |x| <= `reach`; they must be real.

    `shift` > 0 is about as large as the smallest.

    >>> kinetic_rates(lambda x: x, 2.5, 1.0, 8.0, 2, shift=0.1)  # U = x^2/2: (gamma -+ sqrt(gamma^2 - 4)) / 2, 2 of 0.5
    tensor([0.5000, 1.0000], dtype=torch.float64)
    """
    x = np.linspace(-reach, reach, points)
    apart = np.subtract.outer(np.arange(points), np.arange(points))
    derivative = np.where(apart == 0, 0.0, (-1.0) ** apart / np.where(apart == 0, 1, apart * (x[1] - x[0])))
    force = np.diag(slope(x) / (2 * temperature))
    up, down = (csc_array(np.sqrt(temperature) * (derivative + sign * force)) for sign in (1, -1))
    n = np.arange(functions, dtype=np.float64)
    ladder = np.sqrt(n[1:])
    L = (
        -kron(diags_array(ladder, offsets=-1), up)
        - kron(diags_array(ladder, offsets=1), down)
        - friction * kron(diags_array(n), eye_array(points))
    )
    size = points * functions
    inverse = splu(csc_array(L - shift * eye_array(size)))
    operator = LinearOperator((size, size), matvec=inverse.solve, dtype=np.float64)  # pyright: ignore[reportCallIssue]
    start = np.random.default_rng(0).random(size)
    values, _ = eigs(operator, k=count + 3, v0=start, tol=0)  # pyright: ignore
    rates = -(shift + 1 / values)
    return torch.from_numpy(rates[np.abs(rates).argsort()][1 : count + 1].real.copy())
