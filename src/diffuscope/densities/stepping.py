r"""Steps in time for the Fokker-Planck equation, and their transposes for the backward equation.

With the generator L of an axis (evaluated at the time that the order requires) and the step :math:`\tau`,

.. math::
    \text{backward Euler:}\quad & p' = \prod_k (I - \tau L_k)^{-1} p & \text{order 1, positive for every } \tau \\
    \text{Crank-Nicolson (1-D):}\quad & p' = (I - \tfrac\tau2 L)^{-1}(I + \tfrac\tau2 L)\, p
        & \text{order 2, positive if } \tfrac\tau2\max_i|L_{ii}| \le 1 \\
    \text{Peaceman-Rachford (2-D):}\quad & p' = (I - \tfrac\tau2 L_y)^{-1}(I + \tfrac\tau2 L_x)
        (I - \tfrac\tau2 L_x)^{-1}(I + \tfrac\tau2 L_y)\, p & \text{order 2 (ADI)}

Without killing and absorption the columns of every factor sum to one: mass is conserved to rounding. A step is a
product of tridiagonal factors, so its transpose is the product of their transposes in reverse order, and

.. math::  \langle P^T u, p \rangle = \langle u, P p \rangle

holds to rounding whatever the step size.
"""

import itertools
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.errors import InputError

from .density import Density
from .fokker_planck import FokkerPlanck
from .tridiagonal import Tridiagonal

Times = Float[Tensor, " times"]


@dataclass(frozen=True, eq=False)
class Factor:
    """Multiplication by a tridiagonal matrix along one axis, or by its inverse."""

    axis: int
    matrix: Tridiagonal
    inverse: bool

    def apply(self, values: Tensor) -> Tensor:
        """The factor times `values`."""
        lines = values.movedim(self.axis, -1)
        return (self.matrix.solve(lines) if self.inverse else self.matrix.apply(lines)).movedim(-1, self.axis)

    def transposed(self) -> "Factor":
        """The transposed factor."""
        return Factor(self.axis, self.matrix.transposed(), self.inverse)


@dataclass(frozen=True, eq=False)
class Step:
    """One step as a product of factors, the first applied first.

    >>> import torch
    >>> from diffuscope.densities import BackwardEuler, Grid, ito_equation
    >>> equation = ito_equation(Grid.line(0, 2, 2), lambda x, t: torch.ones_like(x), 0.0)  # moves right at the rate 1
    >>> step, left, right = BackwardEuler().step(equation, 0.0, 3.0), torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    >>> step.apply(left.double()).tolist(), step.transposed().apply(right.double()).tolist()  # stays with 1 / (1 + 3)
    ([0.25, 0.75], [0.75, 1.0])
    """

    factors: tuple[Factor, ...]

    def apply(self, values: Tensor) -> Tensor:
        """Carry a density over the step."""
        for factor in self.factors:
            values = factor.apply(values)
        return values

    def transposed(self) -> "Step":
        """The step that carries an expectation back."""
        return Step(tuple(factor.transposed() for factor in reversed(self.factors)))


@runtime_checkable
class Scheme(Protocol):
    """A rule that makes a step from time t to time s > t.

    >>> from diffuscope.densities import CrankNicolson, Scheme
    >>> isinstance(CrankNicolson(), Scheme), CrankNicolson().order
    (True, 2)
    """

    @property
    def order(self) -> int:
        """Order of accuracy in the step size."""
        ...

    def step(self, equation: FokkerPlanck, t: float, s: float) -> Step: ...


@dataclass(frozen=True)
class BackwardEuler:
    """Order 1, never negative; in several dimensions one axis after the other, which preserves both.

    >>> import torch
    >>> from diffuscope.densities import BackwardEuler, Grid, homogeneous_equation
    >>> equation = homogeneous_equation(Grid.line(0, 2, 2), lambda x, t: 0 * x, lambda t: t / 2)
    >>> step = BackwardEuler().step(equation, 2.0, 3.0)  # p_0 - p_1 decays at the rate t, 3 at the end
    >>> [round(p, 6) for p in step.apply(torch.tensor([1.0, 0.0])).tolist()]  # (1 +- 1 / (1 + 3)) / 2
    [0.625, 0.375]
    """

    order = 1

    def step(self, equation: FokkerPlanck, t: float, s: float) -> Step:
        """prod_k (I - tau L_k(s))^{-1}."""
        matrices = [equation.generator(axis, s).shifted_identity(t - s) for axis in range(equation.grid.dimensions)]
        return Step(tuple(Factor(axis, matrix, inverse=True) for axis, matrix in enumerate(matrices)))


@dataclass(frozen=True)
class CrankNicolson:
    """Order 2 in one dimension, with the generator at the middle of the step.

    >>> import torch
    >>> from diffuscope.densities import CrankNicolson, Grid, homogeneous_equation
    >>> equation = homogeneous_equation(Grid.line(0, 2, 2), lambda x, t: 0 * x, lambda t: t / 2)
    >>> step = CrankNicolson().step(equation, 0.75, 1.25)  # p_0 - p_1 decays at the rate t, 1 in the middle
    >>> [round(p, 6) for p in step.apply(torch.tensor([1.0, 0.0])).tolist()]  # (1 +- (1 - 0.25) / (1 + 0.25)) / 2
    [0.8, 0.2]
    """

    order = 2

    def step(self, equation: FokkerPlanck, t: float, s: float) -> Step:
        """(I - tau/2 L)^{-1} (I + tau/2 L); raises InputError in more than one dimension."""
        if equation.grid.dimensions != 1:
            given = equation.grid.dimensions
            raise InputError(f"scheme: CrankNicolson is for 1 dimension, got {given}; use PeacemanRachford")
        L, half = equation.generator(0, (t + s) / 2), (s - t) / 2
        explicit, implicit = L.shifted_identity(half), L.shifted_identity(-half)
        return Step((Factor(0, explicit, inverse=False), Factor(0, implicit, inverse=True)))


@dataclass(frozen=True)
class PeacemanRachford:
    """Order 2 in two dimensions: alternating directions, with the generators at the middle of the step.

    >>> import torch
    >>> from diffuscope.densities import Grid, PeacemanRachford, homogeneous_equation
    >>> equation = homogeneous_equation(Grid((0.0, 0.0), (2.0, 4.0), (2, 2)), lambda x, t: 0 * x, lambda t: t / 2)
    >>> step = PeacemanRachford().step(equation, 0.5, 1.5)  # differences decay at the rates t along x, t/4 along y
    >>> p = step.apply(torch.tensor([[1.0, 0.0], [0.0, 0.0]]))
    >>> [round(27 * value, 6) for value in p.flatten().tolist()]  # (2/3, 1/3) along x, (8/9, 1/9) along y
    [16.0, 2.0, 8.0, 1.0]
    """

    order = 2

    def step(self, equation: FokkerPlanck, t: float, s: float) -> Step:
        """Explicit in y, implicit then explicit in x, implicit in y; raises InputError in other than 2 dimensions."""
        if equation.grid.dimensions != 2:
            raise InputError(f"scheme: PeacemanRachford is for 2 dimensions, got {equation.grid.dimensions}")
        (x, y), half = (equation.generator(axis, (t + s) / 2) for axis in (0, 1)), (s - t) / 2
        factors = ((1, y, half), (0, x, -half), (0, x, half), (1, y, -half))  # implicit where negative
        return Step(tuple(Factor(axis, L.shifted_identity(tau), inverse=tau < 0) for axis, L, tau in factors))


def evolution(equation: FokkerPlanck, density: Density, times: Times, scheme: Scheme) -> Iterator[Density]:
    """The density at each of the increasing `times`, beginning with `density` at the first.

    The caller owns the loop. Raises InputError for times that do not increase, and for a density on another grid.

    >>> import torch
    >>> from diffuscope.densities import BackwardEuler, Density, Grid, equal_steps, evolution, ito_equation
    >>> equation = ito_equation(Grid.line(0, 2, 2), lambda x, t: 0 * x, 0.5)  # p_0 - p_1 decays at the rate 1
    >>> start = Density(equation.grid, torch.tensor([1.0, 0.0]))
    >>> densities = evolution(equation, start, equal_steps(0, 6, 2), BackwardEuler())
    >>> [round(float(one.values[0]), 6) for one in densities]  # (1 + 4^-n) / 2
    [1.0, 0.625, 0.53125]
    """
    if density.grid != equation.grid:
        raise InputError(f"density: expected the grid of the equation {equation.grid}, got {density.grid}")
    values = density.values
    yield density
    for step in steps(equation, times, scheme):
        values = step.apply(values)
        yield Density(equation.grid, values)


def evolve(equation: FokkerPlanck, density: Density, times: Times, scheme: Scheme) -> Density:
    """The last density of `evolution`, without keeping the others. Raises InputError as `evolution` does.

    >>> import torch
    >>> from diffuscope.densities import CrankNicolson, Density, Grid, equal_steps, evolve, ito_equation
    >>> equation = ito_equation(Grid.line(0, 2, 2), lambda x, t: 0 * x, 0.5)  # p_0 - p_1 decays at the rate 1
    >>> start = Density(equation.grid, torch.tensor([1.0, 0.0]))
    >>> end = evolve(equation, start, equal_steps(0, 1, 2), CrankNicolson())
    >>> [round(p, 6) for p in end.values.tolist()]  # (1 +- (0.75 / 1.25)^2) / 2
    [0.68, 0.32]
    """
    return deque(evolution(equation, density, times, scheme), maxlen=1).pop()


def steps(equation: FokkerPlanck, times: Times, scheme: Scheme) -> Iterator[Step]:
    """One step per interval of `times`; a steady equation reuses the last step where the length is the same.

    >>> import torch
    >>> from diffuscope.densities import BackwardEuler, Grid, ito_equation, steps
    >>> equation = ito_equation(Grid.line(0, 2, 2), lambda x, t: 0 * x, 0.5)  # p_0 - p_1 decays at the rate 1
    >>> made = steps(equation, torch.tensor([0.0, 1.0, 4.0]), BackwardEuler())
    >>> [round(float(step.apply(torch.tensor([1.0, 0.0]))[0]), 6) for step in made]  # (1 + 1/2) / 2, (1 + 1/4) / 2
    [0.75, 0.625]
    """
    yield from _made(equation.steady, itertools.pairwise(_increasing(times)), lambda t, s: scheme.step(equation, t, s))


def transposed_steps(equation: FokkerPlanck, times: Times, scheme: Scheme) -> Iterator[Step]:
    """The transposes of `steps`, from the last interval to the first, one at a time in memory."""
    intervals = reversed(list(itertools.pairwise(_increasing(times))))
    yield from _made(equation.steady, intervals, lambda t, s: scheme.step(equation, t, s).transposed())


def _made(
    steady: bool, intervals: Iterable[tuple[float, float]], make: Callable[[float, float], Step]
) -> Iterator[Step]:
    known: dict[float, Step] = {}
    for t, s in intervals:
        if not steady:
            yield make(t, s)
            continue
        length = float(f"{s - t:.11e}")  # equal steps of a grid differ in the last digits
        if length not in known:
            known = {length: make(0.0, length)}
        yield known[length]


def _increasing(times: Times) -> list[float]:
    if len(times) < 2 or not bool((times[1:] > times[:-1]).all()):
        raise InputError(f"times: expected at least two increasing times, got {times.tolist()}")
    return times.tolist()


def equal_steps(start: float | int, end: float | int, steps: int) -> Times:
    """The steps + 1 times from `start` to `end` in equal steps. Raises InputError unless start < end, both finite.

    >>> from diffuscope.densities import equal_steps
    >>> equal_steps(1, 3, 4).tolist()
    [1.0, 1.5, 2.0, 2.5, 3.0]
    """
    if not -math.inf < start < end < math.inf or steps < 1:
        raise InputError(f"times: expected finite start < end and at least 1 step, got {start}, {end}, {steps}")
    return torch.linspace(float(start), float(end), steps + 1, dtype=torch.float64)
