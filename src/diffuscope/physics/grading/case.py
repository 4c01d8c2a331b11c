r"""A posterior that is known exactly, and what it takes to grade draws of a sampler against it.

The posterior is a weighted set of fields, :math:`\sum_k w_k\,\delta(x_k)`: exactly so for a finite-set prior, a large
number of independent exact draws (w_k = 1/K) for a Gaussian or a process whose posterior is drawn by Gibbs sampling.
Every score of n draws is compared with the same score of n exact draws, by its expectation and standard deviation:

.. math::  z = \frac{s(x_1, \dots, x_n) - E\,s(x^*_1, \dots, x^*_n)}{\mathrm{sd}\,s(x^*_1, \dots, x^*_n)} .
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.denoisers import Denoiser
from diffuscope.errors import InputError
from diffuscope.physics.observations import Observation

Draw = Callable[[int, torch.Generator], Tensor]
Sides = Literal["upper", "both"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Case:
    """One inference problem with its exact posterior.

    `denoiser` is the exact denoiser of the prior: it has `.schedule` and `.event_shape`, and `.distribution` where the
    prior is a `Distribution`. `exact(n, generator)` returns n independent draws from the posterior, float64.
    `reference` are the points of the posterior (K, *event), float64, and `weights` (K,) theirs, equal by default.
    `finite` states that they are all its points: draws are then counted point by point.
    Raises InputError for shapes that do not fit, and weights that are negative or sum to zero.

    >>> import torch
    >>> from diffuscope.denoisers import ExactDenoiser
    >>> from diffuscope.exact import Empirical
    >>> from diffuscope.physics import at_nodes
    >>> from diffuscope.physics.grading import Case, resampled
    >>> from diffuscope.schedules import VP
    >>> x, w, seen = torch.tensor([[0.0], [4.0]]), torch.tensor([3.0, 1.0]), at_nodes(torch.tensor([0]), (1,), 1.0)
    >>> case = Case(name="two-0", family="two", denoiser=ExactDenoiser(Empirical(x, w / 4), VP()), observation=seen,
    ...             y=torch.tensor([2.0]), exact=resampled(x, w), reference=x, weights=w)
    >>> case.masses.tolist(), case.event_shape  # y = 2 is as near to the one as to the other
    ([0.75, 0.25], (1,))
    """

    name: str  # "darcy-linear-3"
    family: str  # "finite-set": problems of one family are graded together
    denoiser: Denoiser
    observation: Observation
    y: Float[Tensor, " m"]
    exact: Draw
    reference: Float[Tensor, "K *event"]
    weights: Float[Tensor, " K"] | None = None  # as given; `masses` are of sum 1
    finite: bool = False

    def __post_init__(self) -> None:
        if tuple(self.reference.shape[1:]) != self.event_shape:
            raise InputError(f"reference: expected fields of {self.event_shape}, got {tuple(self.reference.shape[1:])}")
        w = self.weights
        if w is not None and (len(w) != len(self.reference) or not bool((w >= 0).all() and w.sum() > 0)):
            raise InputError(f"weights: expected {len(self.reference)} numbers >= 0 with a positive sum")
        object.__setattr__(self, "reference", self.reference.double())

    @cached_property
    def masses(self) -> Float[Tensor, " K"]:
        """The weights, of sum 1."""
        w = torch.ones(len(self.reference), dtype=torch.float64) if self.weights is None else self.weights.double()
        return w / w.sum()

    @property
    def event_shape(self) -> tuple[int, ...]:
        """The shape of a field."""
        return tuple(self.observation.event_shape)


@dataclass(frozen=True, kw_only=True)
class Score:
    """One score of n draws, with the expectation and the standard deviation of the same score of n exact draws.

    With `sides` upper, only a larger value speaks against the draws.

    >>> from diffuscope.physics.grading import Score
    >>> Score(name="spread", value=7.0, expected=1.0, error=2.0, sides="both").z  # (7 - 1) / 2
    3.0
    """

    name: str
    value: float
    expected: float
    error: float
    sides: Sides

    @property
    def z(self) -> float:
        """The excess over exact draws in their standard deviations."""
        return (self.value - self.expected) / self.error


def resampled(points: Float[Tensor, "K *event"], weights: Float[Tensor, " K"] | None = None) -> Draw:
    """`exact` of a weighted set: draws with replacement.

    >>> resampled(torch.tensor([[1.0], [2.0]]), torch.tensor([0.0, 1.0]))(3, torch.Generator())[:, 0].tolist()
    [2.0, 2.0, 2.0]
    """
    probabilities = torch.ones(len(points), dtype=torch.float64) if weights is None else weights.double()

    def draw(n: int, generator: torch.Generator) -> Tensor:
        return points[torch.multinomial(probabilities, n, replacement=True, generator=generator)].double()

    return draw
