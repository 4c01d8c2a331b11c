r"""Hard nonlinear constraints: the denoiser's output moved onto {x : h(x) = y} by Gauss-Newton, without a matrix.

With c(x) = h(x) - y and J its Jacobian at x, from x = D,

.. math::  x \leftarrow x - J^T (J J^T)^{+} c(x),

the shortest step that meets the linearized constraint; the factor :math:`J J^T` is applied by one product with J and
one with its transpose, and inverted by conjugate gradients, sample by sample. Near a solution where J has full rank
the violation is squared by every step, down to rounding. A step that would not reduce |c| is halved.

For a linear h one step is the orthogonal projection (`Projected`). For another the end is a nearby point of the set, to
first order the nearest. **Meeting a constraint is not sampling the posterior**: this denoiser knows nothing about how
likely the points of the set are, and its samples may have moments far from the posterior's while h(x) = y holds to
rounding in all of them.

Conjugate gradients need about as many iterations as :math:`J J^T` has different scales. The residual of a PDE has all
from 1 to h^-4; `residual_observation` has those of its coefficient only: constrain that one.
"""

import warnings
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from diffuscope.checked_numbers import require_count
from diffuscope.denoisers import Batch, BatchTime
from diffuscope.errors import InputError
from diffuscope.physics.observations import Observation, misfit

from .conditioned import Conditioned
from .covariance_guided import conjugate_gradients
from .products import Product

HALVINGS = 8  # of one step
INNER_TOLERANCE = 1e-12


@dataclass(frozen=True, eq=False)
class Projection:
    """Fields near h(x) = y: `violation` is max |h(x) - y|, `steps` how many were taken, all per sample.

    >>> import torch
    >>> from diffuscope.denoisers import ExactDenoiser
    >>> from diffuscope.exact import Gaussian
    >>> from diffuscope.physics import GaussNewtonProjected, NonlinearObservation
    >>> from diffuscope.schedules import VE
    >>> prior = ExactDenoiser(Gaussian.isotropic(torch.zeros(2), 1.0), VE())
    >>> circle = NonlinearObservation(lambda x: x.square().sum(1, keepdim=True), (2,))
    >>> x = torch.tensor([[3.0, -4.0], [6.0, 8.0]])
    >>> found = GaussNewtonProjected(prior, circle, torch.tensor([100.0])).project(x)
    >>> [[round(x, 6) for x in row] for row in found.x.tolist()], found.converged.tolist()  # |x|^2 = 100
    ([[6.0, -8.0], [6.0, 8.0]], [True, True])
    >>> int(found.steps[1])  # the second was there already
    0
    """

    x: Float[Tensor, "batch *event"]
    violation: Float[Tensor, " batch"]
    steps: Int[Tensor, " batch"]
    converged: Bool[Tensor, " batch"]


@dataclass(frozen=True, eq=False)
class GaussNewtonProjected(Conditioned):
    """The denoiser's output on h(x) = y, for any h that autograd can differentiate; its noise is not used.

    `steps` Gauss-Newton steps at most, of `iterations` of conjugate gradients at most; converged is
    max |h(x) - y| <= `tolerance` (1 + max |y|), in float64 (the answer is rounded to the dtype of x_t). A call warns,
    in one line, of samples that have not converged; `project` returns which. Raises InputError for fewer than 1 step
    or iteration and a tolerance that is not positive.

    >>> from diffuscope.denoisers import ExactDenoiser
    >>> from diffuscope.exact import Gaussian
    >>> from diffuscope.physics import NonlinearObservation
    >>> from diffuscope.schedules import VE
    >>> prior = ExactDenoiser(Gaussian.isotropic(torch.tensor([3.0, 4.0]), 1.0), VE())
    >>> circle = NonlinearObservation(lambda x: x.square().sum(1, keepdim=True), (2,))
    >>> on_it = GaussNewtonProjected(prior, circle, torch.ones(1))
    >>> on_it(torch.tensor([[3.0, 4.0]]), 1.0)
    tensor([[0.6000, 0.8000]])
    """

    steps: int = 20
    iterations: int = 200
    tolerance: float | int = 1e-10

    def __post_init__(self) -> None:
        super().__post_init__()
        require_count("steps", self.steps, 1)
        require_count("iterations", self.iterations, 1)
        if not self.tolerance > 0:
            raise InputError(f"tolerance: expected a number > 0, got {self.tolerance}")

    def __call__(self, x_t: Batch, t: BatchTime) -> Batch:
        found = self.project(self.denoiser(x_t, t))
        if not bool(found.converged.all()):
            missed = ~found.converged
            warnings.warn(
                f"{int(missed.sum())} of {len(missed)} fields are not on the constraint after {self.steps} "
                f"Gauss-Newton steps: max |h(x) - y| is {float(found.violation.max()):.3g}",
                RuntimeWarning,
                stacklevel=2,
            )
        return found.x.to(x_t.dtype)

    def project(self, x: Batch) -> Projection:
        """From x to h(x) = y, float64; no gradient."""
        x, y = x.detach().double().clone(), self.targets(x)
        goal = self.tolerance * (1 + float(y.abs().max()))
        c = self._violation(x, y)
        taken = torch.zeros(len(x), dtype=torch.int64)
        stuck = torch.zeros(len(x), dtype=torch.bool)
        for _ in range(self.steps):
            rows = ((c.abs().amax(1) > goal) & ~stuck).nonzero()[:, 0]
            if len(rows) == 0:
                break
            target = y if len(y) == 1 else y[rows]
            step = self._step(x[rows], c[rows])
            x[rows], c[rows], moved = self._shortened(x[rows], step, c[rows], target)
            taken[rows] += moved.long()
            stuck[rows] = ~moved
        violation = c.abs().amax(1)
        return Projection(x, violation, taken, violation <= goal)

    def _violation(self, x: Batch, y: Tensor) -> Float[Tensor, "batch m"]:
        with torch.no_grad():
            return -misfit(self.observation(x), y)

    def _step(self, x: Batch, c: Float[Tensor, "batch m"]) -> Batch:
        """-J^T (J J^T)^+ c."""
        forward, backward = jacobian_products(self.observation, x)
        u = conjugate_gradients(lambda v: forward(backward(v)), c, self.iterations, INNER_TOLERANCE)
        return -backward(u)

    def _shortened(
        self, x: Batch, step: Batch, c: Float[Tensor, "batch m"], y: Tensor
    ) -> tuple[Batch, Float[Tensor, "batch m"], Bool[Tensor, " batch"]]:
        """The longest of step, step/2, ... that reduces |c|; x itself where none does."""
        before, moved = c.norm(dim=1), torch.zeros(len(x), dtype=torch.bool)
        for _ in range(HALVINGS):
            trial = self._violation(x + step, y)
            better = ~moved & (trial.norm(dim=1) < before)  # NaN is not better
            x = torch.where(better.reshape(-1, *[1] * (x.ndim - 1)), x + step, x)
            c = torch.where(better[:, None], trial, c)
            moved = moved | better
            if bool(moved.all()):
                break
            step = step / 2
        return x, c, moved


def jacobian_products(observation: Observation, x: Batch) -> tuple[Product, Product]:
    """v -> J v and u -> J^T u at x: the second a backward pass, the first one through the graph of that pass."""
    with torch.enable_grad():
        at = x.detach().requires_grad_()
        value = observation(at)
        w = torch.zeros_like(value, requires_grad=True)
        (pulled,) = torch.autograd.grad(value, at, w, create_graph=True)  # J^T w, linear in w

    def forward(v: Tensor) -> Tensor:
        return torch.autograd.grad(pulled, w, v, retain_graph=True)[0]

    def backward(u: Tensor) -> Tensor:
        return torch.autograd.grad(value, at, u, retain_graph=True)[0]

    return forward, backward
