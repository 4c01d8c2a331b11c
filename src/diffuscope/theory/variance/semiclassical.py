r"""Where a noisy run ends, to first order in the noise: a Gaussian about the trajectory of the average score.

The deviation from the trajectory :math:`x_t` of the average score obeys its linearized equation, with tangent
propagator :math:`\Phi`,

.. math::
    \partial_t \Phi(t, u) = \left(f I - D_t \nabla \bar s(x_t, t)\right) \Phi(t, u), \qquad \Phi(u, u) = I, \quad
    D = g^2 / 2,

so that from one start :math:`x_\epsilon` has, for quenched and for white noise, the covariance

.. math::
    \iint \Phi(\epsilon, t)\, V(x_t, t; x_u, u)\, \Phi(\epsilon, u)^T\, dt\, du, \qquad
    \int \Phi(\epsilon, t)\, A(x_t, t)\, \Phi(\epsilon, t)^T\, dt .

Both are computed as the exact first-order covariance of the Euler steps that `effective_white_sample` and
`quenched_sample` take: with :math:`M_k = I - h_k (f I - D \nabla\bar s)`, step by step

.. math::
    S_{k+1} = M_k S_k M_k^T + h_k A_k \qquad\text{and}\qquad
    S_n = \sum_{jk} L_j \,\mathrm{Cov}(s_j, s_k)\, L_k^T, \quad L_k = M_{n-1} \cdots M_{k+1}\, h_k D_k .

On the same times there is thus no error of discretization between theory and samples; against the integrals it is of
order 1 in the steps. For white noise on linear scores whose amplitude is constant in x nothing is neglected.

Source: Vastola 2025, *Generalization through variance*, https://arxiv.org/abs/2504.12532 (section 3, equation 18).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.errors import InputError

from .effective import Steps, as_quenched, as_white, check_points
from .noise import Points, Quenched, White


@dataclass(frozen=True, eq=False)
class Semiclassical:
    """N(mean, covariance) for the end of every trajectory, and how a displaced start would displace the end.

    >>> import torch
    >>> from diffuscope.exact import Gaussian
    >>> from diffuscope.schedules import VE
    >>> from diffuscope.theory.variance import Naive, semiclassical_white
    >>> naive, x = Naive(Gaussian.isotropic(torch.zeros(1), 9.0), VE(), kappa=0.5), torch.tensor([[10.0]])
    >>> end = semiclassical_white(naive, x, torch.tensor([4.0, 2.0]))
    >>> round(float(end.propagator), 6), round(float(end.from_spread(25 * torch.eye(1))), 6)  # 0.68^2 x 25 + 0.36
    (0.68, 11.92)
    """

    mean: Points
    covariance: Float[Tensor, "batch d d"]
    propagator: Float[Tensor, "batch d d"]

    def from_spread(self, covariance: Float[Tensor, "d d"]) -> Float[Tensor, "batch d d"]:
        """The covariance of the end for starts that are spread with `covariance` about x, to first order."""
        return self.propagator @ covariance.to(self.propagator) @ self.propagator.mT + self.covariance


def semiclassical_white(kernel: White | Quenched, x: Points, times: Float[Tensor, " times"]) -> Semiclassical:
    """The end of runs from every `x` under white noise, along `times`: d + 1 scores and d products of A per step.

    Works in float64 on batch x d x d matrices. Raises InputError as `effective_white_sample`, and for a score that
    autograd cannot differentiate.

    >>> import torch
    >>> from diffuscope.exact import Gaussian
    >>> from diffuscope.schedules import VE
    >>> from diffuscope.theory.variance import Naive, semiclassical_white
    >>> naive, x = Naive(Gaussian.isotropic(torch.zeros(1), 9.0), VE(), kappa=0.5), torch.tensor([[10.0]])
    >>> end = semiclassical_white(naive, x, torch.tensor([4.0, 2.0]))  # M = 1 - 2 x 4 / (9 + 16) = 0.68
    >>> round(float(end.mean), 6), round(float(end.covariance), 6)  # 0.68 x 10, 0.5 x 2 x 4^2 (1 / 16 - 1 / 25)
    (6.8, 0.36)
    """
    white = as_white(kernel)
    check_points(x)
    steps = Steps.of(white.schedule, times)
    state = x.detach().double()
    identity = torch.eye(x.shape[1], dtype=torch.float64, device=x.device).expand(len(x), -1, -1)
    propagator, covariance = identity, torch.zeros_like(identity)
    for k, h in enumerate(steps.h):
        t = steps.times[k]
        amplitude = white.amplitude(state, t)
        columns = [amplitude.matvec(identity[:, i]) for i in range(x.shape[1])]
        ahead, tangent = _step(white, state, steps, k)
        covariance = tangent @ covariance @ tangent.mT + h * torch.stack(columns, 2)
        propagator, state = tangent @ propagator, ahead
    return Semiclassical(state.to(x), (covariance + covariance.mT) / 2, propagator)


def semiclassical_quenched(kernel: White | Quenched, x: Points, times: Float[Tensor, " times"]) -> Semiclassical:
    """The end of runs from every `x` over independent fields, along `times`.

    The covariance of the score is evaluated for every pair of the n steps: n (n + 1) / 2 calls on the batch, and n
    batch x d x d matrices are kept, all in float64. Raises InputError for a kernel that is not quenched, as
    `quenched_sample`, and for a score that autograd cannot differentiate.

    >>> import torch
    >>> from diffuscope.denoisers import ExactDenoiser
    >>> from diffuscope.exact import Gaussian
    >>> from diffuscope.schedules import VE
    >>> from diffuscope.theory.variance import Ensemble, semiclassical_quenched
    >>> points = [Gaussian.isotropic(torch.tensor([m]), 0.0) for m in (1.0, 2.0, 6.0)]  # D = m; mean 3, variance 7
    >>> ensemble = Ensemble([ExactDenoiser(point, VE()) for point in points])
    >>> end = semiclassical_quenched(ensemble, torch.tensor([[10.0]]), torch.tensor([4.0, 2.0, 1.0]))
    >>> round(float(end.mean), 6), round(float(end.covariance), 6)  # m + (10 - m) / 4
    (4.75, 3.9375)
    """
    quenched = as_quenched(kernel)
    check_points(x)
    steps = Steps.of(quenched.schedule, times)
    path, tangents = [x.detach().double()], []
    for k in range(len(steps.h)):
        ahead, tangent = _step(quenched, path[-1], steps, k)
        path.append(ahead)
        tangents.append(tangent)
    propagator = torch.eye(x.shape[1], dtype=torch.float64, device=x.device).expand(len(x), -1, -1)
    responses: list[Tensor] = []  # L_k, from the last step to the first
    for k in range(len(steps.h) - 1, -1, -1):
        responses.append(propagator * steps.h[k] * steps.D[k])
        propagator = propagator @ tangents[k]
    responses.reverse()
    covariance = torch.zeros_like(propagator)
    for j, left in enumerate(responses):
        for k in range(j + 1):
            pair = quenched.covariance(path[j], steps.times[j], path[k], steps.times[k]).double()
            term = left @ pair @ responses[k].mT
            covariance = covariance + (term if j == k else term + term.mT)
    return Semiclassical(path[-1].to(x), (covariance + covariance.mT) / 2, propagator)


def _step(
    kernel: White | Quenched, x: Float[Tensor, "batch d"], steps: Steps, k: int
) -> tuple[Float[Tensor, "batch d"], Float[Tensor, "batch d d"]]:
    """The Euler step of the average score, and its derivative M_k."""
    h, f, D = steps.h[k], steps.f[k], steps.D[k]
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        score = kernel.score(leaf, steps.times[k])
        if not score.requires_grad:
            raise InputError(f"kernel: expected a score that autograd can differentiate, got {type(kernel).__name__}'s")
        rows = [torch.autograd.grad(column.sum(), leaf, retain_graph=True)[0] for column in score.unbind(1)]
    identity = torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
    tangent = (1 - h * f) * identity + h * D * torch.stack(rows, 1)
    return x - h * (f * x - D * score.detach()), tangent
