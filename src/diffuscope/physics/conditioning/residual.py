r"""The residual of a PDE as an observation, in a norm that noise does not drown.

White noise of standard deviation sigma on a solution changes the five-point residual by :math:`\sqrt{20}\,\sigma/h^2`
per node (:math:`\sqrt 6\,\sigma/h^2` on a line), at any noise level: a raw residual measures the grid. Multiplied by
the inverse of the operator it is an error of the solution again. With :math:`A = \partial F/\partial u` at a
reference and the weights :math:`w_i` of the nodes,

.. math::
    h(x) = \sqrt w\, A^{-1} F(x), \qquad |h(x)|^2 \approx \int \left|A^{-1} F\right|^2, \qquad
    F = Au - f:\; h = \sqrt w\,(u - A^{-1} f).

Noise of sigma on u changes it by exactly sigma on every grid. For a Darcy coefficient other than the reference's,
:math:`A_{ref}^{-1} A_a` has eigenvalues between the least and the largest ratio of the coefficients, whatever h.

To ask for a small residual is to observe h with y = 0 and noise :math:`\tau`, so that every conditioner can. `weight`
is :math:`1/\tau^2`:

.. math::  p_\tau(x_0) \propto p(x_0)\, e^{-\mathrm{weight}\,|h(x_0)|^2/2} .

For a Gaussian prior and an affine h = Hx + h_0 this is the Gaussian of covariance
:math:`(\Sigma^{-1} + \mathrm{weight}\, H^T H)^{-1}`; `affine` gives (H, -h_0) as an observation, for which
`GaussianGuide` conditions exactly and tau = 0 is the PDE itself. `ResidualGuided` is DPS on h: at x_t it leaves the
covariance :math:`H C_t H^T` out beside :math:`\tau^2`, and ends at too small a variance, as DPS does.
`CovarianceGuided(denoiser, residual_observation(...), zeros)` has that covariance. A prior whose fields all solve the
equation needs none of this: for a linear equation its denoiser solves it too.

Source: for the raw residual in this place, Huang et al. 2024 (DiffusionPDE, arXiv:2406.17763).
"""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.denoisers import Batch, BatchTime, Denoiser
from diffuscope.errors import InputError
from diffuscope.physics.observations import LinearObservation, NonlinearObservation, Observation
from diffuscope.physics.operators.factorization import inverse
from diffuscope.physics.problem import Problem
from diffuscope.schedules import Schedule

from .dps import DPS


def residual_observation(
    problem: Problem, *, noise: float | int = 0.0, reference: Float[Tensor, "channels *grid"] | None = None
) -> NonlinearObservation:
    r"""h(x) = sqrt(w) A^-1 F(x), with A at `reference`, a field of the problem; by default given = 1 and u = 0.

    >>> from diffuscope.physics import Grid, Poisson
    >>> problem = Problem(name="p", title="p", equation=Poisson(Grid((5,))), given="forcing")
    >>> h = residual_observation(problem)
    >>> exact = problem.fields(2, generator=torch.Generator().manual_seed(0))
    >>> bool((h(exact).abs() < 1e-12).all())
    True
    """
    equation = problem.equation
    if reference is not None and tuple(reference.shape) != problem.event_shape:
        raise InputError(f"reference: expected a field {problem.event_shape}, got {tuple(reference.shape)}")
    if reference is None:
        given, u = torch.ones(tuple(equation.given_shape), dtype=torch.float64), None
    else:
        u = reference[-1].double()
        given = reference[0].double() if problem.joint else u[0]
    solve, root = inverse(equation, given, u), equation.grid.weights.sqrt()

    def weighted(x: Tensor) -> Tensor:
        return root.to(x) * solve(problem.residual(x))

    return NonlinearObservation(weighted, problem.event_shape, float(noise))


def affine(observation: Observation) -> tuple[LinearObservation, Float[Tensor, " m"]]:
    """(H, -h(0)) of an affine h: observing y of h is observing y - h(0) of H. InputError where h is not affine.

    Costs h of one field per coordinate, and the matrix.

    >>> import torch
    >>> from diffuscope.physics import NonlinearObservation
    >>> from diffuscope.physics.conditioning import affine
    >>> H, offset = affine(NonlinearObservation(lambda x: 2 * x[:, :1] - 3 * x[:, 1:] + 5, (2,), noise=0.1))
    >>> H.matrix.tolist(), offset.tolist(), H.noise
    ([[2.0, -3.0]], [-5.0], 0.1)
    """
    shape = tuple(observation.event_shape)
    D = math.prod(shape)
    offset = observation(torch.zeros(1, *shape, dtype=torch.float64))[0]
    H = (observation(torch.eye(D, dtype=torch.float64).reshape(D, *shape)) - offset).T.contiguous()
    probe = torch.linspace(-1, 2, D, dtype=torch.float64)
    expected = H @ probe
    off = (observation(probe.reshape(1, *shape))[0] - offset - expected).abs().max()
    if not bool(off <= 1e-8 * (1 + expected.abs().max())):
        raise InputError(f"observation: expected an affine function, got one that is off by {float(off):.3g}")
    return LinearObservation(H, shape, observation.noise), -offset


@dataclass(frozen=True, eq=False)
class ResidualGuided:
    r"""D - weight :math:`C_t \nabla h(D)^T h(D)`, h as in `residual_observation`: DPS toward a small residual.

    Raises InputError for a weight that is not positive.

    >>> import torch
    >>> from diffuscope.denoisers import ExactDenoiser
    >>> from diffuscope.exact import Gaussian
    >>> from diffuscope.physics import PROBLEMS, ResidualGuided
    >>> from diffuscope.schedules import RectifiedFlow
    >>> prior = ExactDenoiser(Gaussian.isotropic(torch.zeros(2, 3), 3.0), RectifiedFlow())  # D = 1.5 x_t, C = 3/4
    >>> x_t = torch.tensor([[[0.0, 0.0, 0.0], [0.0, 2.0, 0.0]]])  # f = 0, u_1 = 2: h_1 = sqrt(0.5) (D_1 - f_1 / 8)
    >>> f, u = ResidualGuided(prior, PROBLEMS["poisson-1d"](nodes=3), weight=2)(x_t, 0.5)[0]
    >>> round(float(u[1]), 6), round(float(f[1]), 6)  # 3 - 2 (3/4) h_1 dh_1/du_1, and 0 - 2 (3/4) h_1 dh_1/df_1
    (0.75, 0.28125)
    """

    denoiser: Denoiser
    problem: Problem
    weight: float | int = 1.0
    reference: Float[Tensor, "channels *grid"] | None = None

    def __post_init__(self) -> None:
        if not 0 < self.weight < math.inf:
            raise InputError(f"weight: expected a finite number > 0, got {self.weight}")

    @cached_property
    def guide(self) -> DPS:
        """DPS that observes h = 0 with noise 1 / sqrt(weight)."""
        observation = residual_observation(self.problem, noise=self.weight**-0.5, reference=self.reference)
        return DPS(self.denoiser, observation, torch.zeros(self.problem.equation.grid.size, dtype=torch.float64))

    @property
    def schedule(self) -> Schedule:
        """That of the denoiser."""
        return self.denoiser.schedule

    @property
    def event_shape(self) -> tuple[int, ...]:
        """That of the problem's fields."""
        return self.problem.event_shape

    @property
    def data_range(self) -> tuple[float, float] | None:
        """That of the denoiser, where it is known."""
        return self.guide.data_range

    def __call__(self, x_t: Batch, t: BatchTime) -> Batch:
        return self.guide(x_t, t)
