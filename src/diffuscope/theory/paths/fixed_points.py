r"""Where a drift vanishes, and whether the state stays there: fixed points by Newton's method.

.. math::  f(x^*) = 0, \qquad J = \partial f / \partial x \text{ at } x^*: \qquad
    \dot{\delta x} = J\,\delta x .

*Stable*: every eigenvalue of J has a negative real part. *Saddle*: some are positive and some negative; the rate out of
a metastable state is about saddles with one. *Unstable*: all are positive. *Degenerate*: some vanish.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from diffuscope.errors import InputError

from .dynamics import Dynamics, require_regular
from .lagrangian import Lagrangian

Kind = Literal["stable", "saddle", "unstable", "degenerate"]
ITERATIONS = 100
HALVINGS = 30
TOLERANCE = 1e-12  # of a Newton step, relative to 1 + |x|
ZERO = 1e-9  # real parts below this share of the largest eigenvalue vanish
SAME = 1e-6  # fixed points at less than this distance, relative to 1 + |x|, are one


@dataclass(frozen=True, eq=False)
class FixedPoint:
    """A zero of the drift, the Jacobian there and its eigenvalues, the largest real part first.

    >>> import torch
    >>> from diffuscope.theory.paths import Dynamics, fixed_point
    >>> shear = Dynamics(lambda x: torch.stack([x[:, 0] - 2, 5 * x[:, 0] - 3 * x[:, 1]], 1), 0.5)
    >>> found = fixed_point(shear, torch.tensor([1.0, 1.0]))
    >>> [round(x, 6) for x in found.state.tolist()], found.kind, found.unstable_directions  # (2, 10 / 3)
    ([2.0, 3.333333], 'saddle', 1)
    >>> [round(x, 6) for x in found.eigenvalues.real.tolist()]
    [1.0, -3.0]
    """

    state: Float[Tensor, " d"]
    jacobian: Float[Tensor, "d d"]
    eigenvalues: Complex[Tensor, " d"]

    @property
    def kind(self) -> Kind:
        """Stable, saddle, unstable or degenerate, by the signs of the real parts."""
        real = self.eigenvalues.real
        if bool((real.abs() <= ZERO * self.eigenvalues.abs().max()).any()):
            return "degenerate"
        growing = int((real > 0).sum())
        return "stable" if growing == 0 else "unstable" if growing == len(real) else "saddle"

    @property
    def unstable_directions(self) -> int:
        """How many eigenvalues have a positive real part."""
        return int((self.eigenvalues.real > ZERO * self.eigenvalues.abs().max()).sum())


def fixed_points(dynamics: Dynamics, guesses: Float[Tensor, "n d"]) -> tuple[FixedPoint, ...]:
    """The fixed points that Newton's method finds from `guesses`, each once, in the order of the guesses.

    Raises InputError for a drift that takes a time, guesses that are not finite, and for a guess from which Newton's
    method does not converge.

    >>> import torch
    >>> from diffuscope.theory.paths import Dynamics, fixed_points
    >>> wells = Dynamics(lambda x: -x * (x - 1) * (x - 4), 0.5)
    >>> found = fixed_points(wells, torch.tensor([[-0.5], [1.1], [5.0], [3.9]]))
    >>> [(round(float(point.state), 6) + 0.0, point.kind) for point in found]
    [(0.0, 'stable'), (1.0, 'unstable'), (4.0, 'stable')]
    """
    if not dynamics.autonomous:
        raise InputError("drift: expected a function of (x) alone, which can have fixed points, got one of (x, t)")
    if guesses.ndim != 2 or not len(guesses) or not bool(torch.isfinite(guesses).all()):
        raise InputError(f"guesses: expected finite states (n, d), at least one, got shape {tuple(guesses.shape)}")
    found: list[FixedPoint] = []
    for k, guess in enumerate(guesses.detach().double()):
        point = _newton(dynamics, guess, f"guesses[{k}]")
        distance = [float((point.state - known.state).norm()) for known in found]
        if not distance or min(distance) > SAME * (1 + float(point.state.norm())):
            found.append(point)
    return tuple(found)


def fixed_point(dynamics: Dynamics, guess: Float[Tensor, " d"], name: str = "guess") -> FixedPoint:
    """The fixed point that Newton's method finds from one guess, which errors call `name`; as `fixed_points`.

    >>> import torch
    >>> from diffuscope.theory.paths import Dynamics, fixed_point
    >>> found = fixed_point(Dynamics(lambda x: 4 - x**2, 0.5), torch.tensor([3.0]))
    >>> round(float(found.state), 6), found.jacobian.tolist(), found.kind  # -2 x at x = 2
    (2.0, [[-4.0]], 'stable')
    """
    if guess.ndim != 1 or not bool(torch.isfinite(guess).all()):
        raise InputError(f"{name}: expected one finite state, (d,), got shape {tuple(guess.shape)}")
    if not dynamics.autonomous:
        raise InputError("drift: expected a function of (x) alone, which can have fixed points, got one of (x, t)")
    return _newton(dynamics, guess.detach().double(), name)


def _newton(dynamics: Dynamics, x: Float[Tensor, " d"], name: str) -> FixedPoint:
    require_regular(dynamics, x[None], x.new_zeros(1))
    start = [round(float(value), 4) for value in x]
    f, J = _drift_and_jacobian(dynamics, x)
    for _ in range(ITERATIONS):
        step, failed = torch.linalg.solve_ex(J, -f)
        if int(failed) or not bool(torch.isfinite(step).all()):
            break
        if float(step.norm()) <= TOLERANCE * (1 + float(x.norm())):
            eigenvalues = torch.linalg.eigvals(J)
            return FixedPoint(x + step, J, eigenvalues[eigenvalues.real.argsort(descending=True)])
        for halving in range(HALVINGS):
            there = x + step * 0.5**halving
            f_there, J_there = _drift_and_jacobian(dynamics, there)
            if float(f_there.norm()) < float(f.norm()):
                break
        else:
            if float(step.norm()) <= SAME * TOLERANCE**0.5 * (1 + float(x.norm())):  # at the rounding of f
                eigenvalues = torch.linalg.eigvals(J)
                return FixedPoint(x, J, eigenvalues[eigenvalues.real.argsort(descending=True)])
            break
        x, f, J = there, f_there, J_there
    raise InputError(f"{name}: Newton's method from {start} found no fixed point, expected a guess nearer to one")


def _drift_and_jacobian(dynamics: Dynamics, x: Float[Tensor, " d"]) -> tuple[Tensor, Tensor]:
    t = x.new_zeros(1)
    return dynamics.drift_at(x[None], t).detach()[0], Lagrangian(dynamics).jacobian(x[None], t)[0]
