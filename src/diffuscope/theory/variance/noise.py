r"""Two kinds of noise in the drift of the probability-flow ODE, and the interface of each.

A score that was learned from noisy targets is random: it depends on the draws of its training. Averaged over them, the
samples of the probability-flow ODE are those of

.. math::
    \dot x = f x - \tfrac12 g^2 \bar s(x, t) + \xi(x, t), \qquad
    E\,\xi = 0, \qquad E\,\xi(x, t)\,\xi(y, u)^T = V(x, t; y, u)

to second order in the noise, where V is the covariance of :math:`\tfrac12 g^2 \hat s`. Two cases must not be confused:

``White``
    :math:`V = A(x, t)\,\delta(t - u)`: every step of a run draws its noise anew. The limit is an Ito equation.
``Quenched``
    V is a function: one training run is one field, which all trajectories of that run share for all times. Samples are
    those of the ODE of one drawn field. White noise in its place would average the field away along a trajectory.

Source: Vastola 2025, *Generalization through variance*, https://arxiv.org/abs/2504.12532 (Proposition 3.1).
"""

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.schedules import Schedule

Points = Float[Tensor, "batch d"]
Time = Float[Tensor, ""] | float | int


@runtime_checkable
class Amplitude(Protocol):
    """The matrix A(x, t) of every point of a batch, as an operator: it is never formed.

    >>> import torch
    >>> from diffuscope.schedules import VE
    >>> from diffuscope.theory.variance import Amplitude, Naive
    >>> isinstance(Naive(torch.tensor([[1.0], [2.0]]), VE()).amplitude(torch.tensor([[1.5]]), 0.5), Amplitude)
    True
    """

    def matvec(self, v: Points) -> Points:
        """A v, point by point."""
        ...

    def trace(self) -> Float[Tensor, " batch"]:
        """The sum of the diagonal."""
        ...

    def diagonal(self) -> Points:
        """The variance of every coordinate."""
        ...

    def draw(self, *, generator: torch.Generator) -> Points:
        """One draw of N(0, A) for every point."""
        ...


@runtime_checkable
class White(Protocol):
    """Noise that is drawn anew at every step.

    >>> import torch
    >>> from diffuscope.schedules import VE
    >>> from diffuscope.theory.variance import Naive, White
    >>> isinstance(Naive(torch.tensor([[1.0], [2.0]]), VE()), White)
    True
    """

    @property
    def schedule(self) -> Schedule: ...

    def score(self, x: Points, t: Time) -> Points:
        """The average score."""
        ...

    def amplitude(self, x: Points, t: Time) -> Amplitude:
        """A(x, t), in units of x^2 per unit of t."""
        ...


@runtime_checkable
class ScoreFields(Protocol):
    """Drawn or trained score fields, each evaluated at its own points.

    >>> import torch
    >>> from diffuscope.schedules import VE
    >>> from diffuscope.theory.variance import Affine, LinearEnsemble, ScoreFields
    >>> isinstance(LinearEnsemble(Affine(), VE(), torch.ones(3, 1, 2)), ScoreFields)
    True
    """

    def __call__(self, x: Float[Tensor, "fields batch d"], t: Time, /) -> Float[Tensor, "fields batch d"]: ...


@runtime_checkable
class Quenched(Protocol):
    """A random score field that is drawn once, as by one training run.

    >>> import torch
    >>> from diffuscope.exact import Gaussian
    >>> from diffuscope.schedules import RectifiedFlow
    >>> from diffuscope.theory.variance import Affine, Quenched, linear_features
    >>> data = Gaussian.isotropic(torch.zeros(1), 3.0)
    >>> isinstance(linear_features(data, RectifiedFlow(), Affine(), samples=100, times=(0.5, 0.5)), Quenched)
    True
    """

    @property
    def schedule(self) -> Schedule: ...

    def score(self, x: Points, t: Time) -> Points:
        """The average score."""
        ...

    def covariance(self, x: Points, t: Time, y: Points, u: Time) -> Float[Tensor, "batch d d"]:
        """Cov(s(x_b, t), s(y_b, u)), pair by pair; V is it times the two g^2 / 2."""
        ...

    def draw(self, fields: int, *, generator: torch.Generator) -> ScoreFields:
        """Gaussian fields of this mean and covariance."""
        ...
