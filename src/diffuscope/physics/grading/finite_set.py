r"""Cases whose prior is a finite set of fields: the posterior is exact for any observation,

.. math::  p(x \mid y) = \sum_i w_i(y)\,\delta(x - x_i), \qquad w_i(y) \propto w_i\, N(y; h(x_i), r^2 I) .

The fields are Darcy flows with two-phase coefficients, (coefficient, solution), each channel in units of its standard
deviation about its mean. Observed are the solution at some nodes, or the logarithm of the flux,
:math:`\tfrac12 \log(a^2 |\nabla u|^2 + \epsilon^2)`, a nonlinear function of both channels.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from diffuscope.denoisers import ExactDenoiser
from diffuscope.exact import Empirical
from diffuscope.physics.exact_posterior import posterior_weights
from diffuscope.physics.finite_prior import PointSet
from diffuscope.physics.grid import Grid
from diffuscope.physics.observations import NonlinearObservation, Observation, at_nodes, observe
from diffuscope.physics.operators import Darcy
from diffuscope.physics.problem import Problem
from diffuscope.schedules import VP
from diffuscope.streams import torch_stream

from .case import Case, resampled

FIELDS = 1000
SENSORS, NOISE = 8, 0.4  # in units of a channel's standard deviation, or of the logarithm
FLUX_NODES, FLUX_NOISE = 8, 0.6
SMALLEST_FLUX = 0.1  # epsilon over the root mean square of the flux

Observed = Literal["linear", "nonlinear"]


@dataclass(frozen=True, eq=False)
class DarcySet:
    """Generated Darcy fields in standard units, (fields, 2, *grid) float32, with the units that they are given in."""

    points: Float[Tensor, "fields 2 *grid"]
    center: Float[Tensor, "2 1 1"]
    scale: Float[Tensor, "2 1 1"]
    spacing: float

    @classmethod
    def generated(cls, nodes: int, n: int, *, generator: torch.Generator) -> "DarcySet":
        """n random media on nodes x nodes."""
        grid = Grid((nodes, nodes))
        problem = Problem(name="darcy", title="Darcy flow", equation=Darcy(grid), given="coefficient")
        fields = problem.fields(n, generator=generator)
        center = fields.mean((0, 2, 3))[:, None, None]
        scale = (fields - center).square().mean((0, 2, 3)).sqrt()[:, None, None]
        return cls(((fields - center) / scale).float(), center, scale, grid.spacing[0])

    def log_flux(self, x: Float[Tensor, "batch 2 *grid"], nodes: Int[Tensor, " m"]) -> Float[Tensor, "batch m"]:
        """The logarithm of the flux at some inner nodes, numbered within the inner ones; gradients by differences."""
        a, u = (x * self.scale.to(x) + self.center.to(x)).unbind(1)
        h = self.spacing
        down = (u[:, 2:, 1:-1] - u[:, :-2, 1:-1]) / (2 * h)
        right = (u[:, 1:-1, 2:] - u[:, 1:-1, :-2]) / (2 * h)
        square = a[:, 1:-1, 1:-1].square() * (down.square() + right.square())
        return 0.5 * (square + SMALLEST_FLUX**2 * self.flux**2).log().flatten(1)[:, nodes]

    @property
    def flux(self) -> float:
        """A scale of the flux: 1/4, that of a unit forcing over a distance of 1/4 from the boundary."""
        return 0.25


def darcy_cases(problems: int, seed: int, *, observed: Observed, fields: int = FIELDS) -> list[Case]:
    """Problems with one set of fields and random sensors: the solution at 32 x 32 (linear), the flux at 16 x 16.

    >>> from diffuscope.physics import log_likelihood
    >>> from diffuscope.physics.grading import darcy_cases
    >>> case, = darcy_cases(1, seed=0, observed="nonlinear", fields=20)
    >>> likelihood = log_likelihood(case.observation, case.reference, case.y)
    >>> bool((case.masses - likelihood.softmax(0)).abs().max() < 1e-6)  # a prior of equal weights
    True
    """
    nodes = 32 if observed == "linear" else 16
    darcy = DarcySet.generated(nodes, fields, generator=torch_stream(seed, "darcy", observed))
    prior = PointSet(darcy.points)
    return [
        finite_case(f"darcy-{observed}-{index}", prior, _observation(darcy, observed, seed, index), seed=seed)
        for index in range(problems)
    ]


def _observation(darcy: DarcySet, observed: Observed, seed: int, index: int) -> Observation:
    shape = tuple(darcy.points.shape[1:])
    inner = (shape[-1] - 2) ** 2
    chosen = torch.randperm(inner, generator=torch_stream(seed, "sensors", observed, str(index)))
    if observed == "nonlinear":
        nodes = chosen[:FLUX_NODES]
        return NonlinearObservation(lambda x: darcy.log_flux(x, nodes), shape, FLUX_NOISE)
    n = shape[-1]
    row, column = chosen[:SENSORS] // (n - 2) + 1, chosen[:SENSORS] % (n - 2) + 1
    return at_nodes(n * n + row * n + column, shape, NOISE)


def finite_case(name: str, prior: Empirical, observation: Observation, *, seed: int = 0) -> Case:
    """A case whose truth is a random point of the prior.

    >>> import torch
    >>> from diffuscope.exact import Empirical
    >>> from diffuscope.physics import at_nodes
    >>> from diffuscope.physics.grading import finite_case
    >>> prior = Empirical(torch.tensor([[0.0], [2.0]]), torch.tensor([0.75, 0.25]))
    >>> case = finite_case("two-0", prior, at_nodes(torch.tensor([0]), (1,), noise=1.0))
    >>> odds = case.masses[1] / case.masses[0]
    >>> case.family, round(float(odds / torch.exp(2 * case.y[0] - 2)), 5)  # exp(-(y - 2)^2 / 2 + y^2 / 2) / 3
    ('two', 0.33333)
    """
    generator = torch_stream(seed, "truth", name)
    y = observe(observation, prior.sample(1, generator=generator), generator=generator)[0]
    weights = posterior_weights(prior, observation, y)
    return Case(
        name=name,
        family=name.rsplit("-", 1)[0],
        denoiser=ExactDenoiser(prior, VP()),
        observation=observation,
        y=y,
        exact=resampled(prior.points, weights),
        reference=prior.points,
        weights=weights,
        finite=True,
    )
