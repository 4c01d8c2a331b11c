r"""Guidance with the denoiser's own posterior covariance, by conjugate gradients on Jacobian products.

.. math::
    D_y = D + C_t H^T u, \qquad (H C_t H^T + r^2 I)\,u = y - h(D), \qquad
    C_t = \frac{\sigma^2}{\alpha}\,\frac{\nabla D + \nabla D^T}{2}, \quad H = \nabla h(D) .

No matrix is formed: every iteration is one product with H^T, C_t and H. Each sample has its own step lengths and stops
by itself, at a relative residual of `tolerance`, or where the curvature is not positive (the Jacobian of a network is
no covariance).

Exact is the formula where :math:`x_0` given :math:`x_t` is Gaussian and h linear: a Gaussian prior (where it equals
`GaussianGuide` once CG has converged, at most m iterations). For another prior the likelihood :math:`p(y|x_t)` is
approximated by the Gaussian of the right mean and covariance, and :math:`\nabla C_t` is left out; a nonlinear h is
linearized at D. With few iterations the answer lies between D and that.

Source: Rozet, Andry, Lanusse & Louppe 2024 (arXiv:2405.13712), who take :math:`\nabla D^T` for :math:`C_t`; the
symmetric part, the stopping rule and the linearization of h are ours.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.checked_numbers import require_count
from diffuscope.denoisers import Batch, BatchTime
from diffuscope.errors import InputError
from diffuscope.physics.observations import LinearObservation, Observation, misfit

from .conditioned import Conditioned
from .products import Product, linearized

Rows = Float[Tensor, "batch m"]


@dataclass(frozen=True, eq=False)
class CovarianceGuided(Conditioned):
    """The guided denoiser of any differentiable denoiser and observation, r >= 0; at most `iterations` of CG.

    One evaluation of the denoiser, and one backward pass and one through its graph per iteration and at the end. An
    `ExactDenoiser` needs neither: its covariance is known. Raises InputError for fewer than 1 iteration, a tolerance
    that is not positive, and at alpha = 0 for denoisers that are not exact.

    >>> import torch
    >>> from diffuscope.denoisers import ExactDenoiser
    >>> from diffuscope.exact import Gaussian
    >>> from diffuscope.physics import CovarianceGuided, at_nodes
    >>> from diffuscope.schedules import RectifiedFlow
    >>> prior = ExactDenoiser(Gaussian.isotropic(torch.zeros(1), 3.0), RectifiedFlow())  # at 0.5: D = 1.5 x_t, C = 3/4
    >>> guided = CovarianceGuided(prior, at_nodes(torch.tensor([0]), (1,), noise=0.5), torch.tensor([7.0]))
    >>> round(float(guided(torch.tensor([[2.0]]), 0.5)), 6)  # 3 + 0.75 (7 - 3) / (0.75 + 0.25)
    6.0
    """

    iterations: int = 10
    tolerance: float | int = 1e-6

    def __post_init__(self) -> None:
        super().__post_init__()
        require_count("iterations", self.iterations, 1)
        if not self.tolerance > 0:
            raise InputError(f"tolerance: expected a number > 0, got {self.tolerance}")

    def __call__(self, x_t: Batch, t: BatchTime) -> Batch:
        """D_y(x_t)."""
        at = linearized(self, x_t, t)
        predicted, forward, backward = _products(self.observation, at.denoised)
        e = misfit(predicted, self.targets(x_t))

        def system(u: Rows) -> Rows:
            return forward(at.symmetric(backward(u))) + self.observation.noise**2 * u

        u = conjugate_gradients(system, e, self.iterations, self.tolerance)
        return at.denoised + at.symmetric(backward(u)).to(x_t.dtype)


def conjugate_gradients(
    system: Callable[[Rows], Rows], right: Rows, iterations: int, tolerance: float | int
) -> Float[Tensor, "batch m"]:
    """u with `system(u)` = `right` for every sample by itself, from u = 0, float64.

    A sample is done at |residual| <= tolerance |right|, and before a direction whose curvature is not positive.
    """
    u, residual = torch.zeros_like(right), right.clone()
    direction, square = residual.clone(), residual.square().sum(1)
    goal = tolerance**2 * square
    active = square > 0
    for _ in range(iterations):
        if not bool(active.any()):
            break
        product = system(direction)
        curvature = (direction * product).sum(1)
        active = active & (curvature > 0)
        step = torch.where(active, square / torch.where(active, curvature, 1.0), 0.0)[:, None]
        u, residual = u + step * direction, residual - step * product
        previous, square = square, torch.where(active, residual.square().sum(1), square)
        active = active & (square > goal)
        ratio = torch.where(active, square / torch.where(active, previous, 1.0), 0.0)[:, None]
        direction = torch.where(active[:, None], residual + ratio * direction, 0.0)
    return u


def _products(observation: Observation, denoised: Batch) -> tuple[Rows, Product, Product]:
    """h(D), v -> H v and u -> H^T u at D, with rows in float64 and fields in the dtype of D."""
    if isinstance(observation, LinearObservation):
        return (
            observation(denoised.double()),
            lambda v: observation(v.double()),
            lambda u: observation.adjoint(u).to(denoised),
        )
    with torch.enable_grad():
        D = denoised.detach().requires_grad_()
        predicted = observation(D)
        w = torch.zeros_like(predicted, requires_grad=True)
        pulled = torch.autograd.grad(predicted, D, w, create_graph=True)[0]  # H^T w, linear in w

    def forward(v: Tensor) -> Tensor:
        return torch.autograd.grad(pulled, w, v.to(pulled), retain_graph=True)[0].double()

    def backward(u: Tensor) -> Tensor:
        return torch.autograd.grad(predicted, D, u.to(predicted), retain_graph=True)[0]

    return predicted.detach().double(), forward, backward
