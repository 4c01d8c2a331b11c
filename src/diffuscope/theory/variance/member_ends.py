r"""Where the members of an ensemble end from one start, to first order in their deviation from the average score.

About the trajectory :math:`x_k` of the average score, with :math:`D = g^2/2` and steps :math:`h_k > 0` backward in
time, the deviation :math:`\delta_i` of member i obeys

.. math::
    \delta_{i,k+1} = \delta_{ik} - h_k \left(f \delta_{ik} - D\, \nabla\bar s(x_k, t_k)\, \delta_{ik}\right)
      + h_k D\, d_i(x_k, t_k), \qquad \delta_{i0} = 0,

and :math:`\frac{1}{n-1}\sum_i \delta_i\delta_i^T` is the semiclassical covariance of the ends under the ensemble's V,

.. math::  \iint \Phi(\epsilon, t)\, V(x_t, t; x_u, u)\, \Phi(\epsilon, u)^T dt\, du,

without a matrix of d x d numbers or a sum over pairs of times: one directional derivative per member and step. It
equals what `semiclassical_quenched` computes for small d.

Source: Vastola 2025, https://arxiv.org/abs/2504.12532 (section 3, equation 18); derived here for ensembles.
"""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.denoisers import denoised_to_score
from diffuscope.errors import InputError

from .effective import Steps
from .ensemble import Ensemble, Jackknifed
from .noise import Points


@dataclass(frozen=True, eq=False)
class MemberEnds:
    """The end of the average score's trajectory from every start, and how far each member would end from it.

    >>> import torch
    >>> from diffuscope.denoisers import ExactDenoiser
    >>> from diffuscope.exact import Gaussian
    >>> from diffuscope.schedules import VE
    >>> from diffuscope.theory.variance import Ensemble, member_ends
    >>> points = [Gaussian.isotropic(torch.tensor([m]), 0.0) for m in (1.0, 2.0, 6.0)]  # D = m; mean 3, variance 7
    >>> ensemble = Ensemble([ExactDenoiser(point, VE()) for point in points])
    >>> ends = member_ends(ensemble, torch.tensor([[10.0]]), torch.tensor([4.0, 2.0, 1.0]))
    >>> round(float(ends.covariance), 6), round(float(ends.variance.value), 6)  # (3 / 4)^2 x 7
    (3.9375, 3.9375)
    """

    mean: Points
    deviations: Float[Tensor, "members batch d"] = field(repr=False)

    @property
    def variance(self) -> Jackknifed:
        """The semiclassical variance of the end summed over coordinates, start by start; the path is kept fixed."""
        return Jackknifed.of(self.deviations.double().square().sum(2))

    @property
    def covariance(self) -> Float[Tensor, "batch d d"]:
        """The semiclassical covariance."""
        return torch.einsum("mba,mbc->bac", self.deviations, self.deviations) / (len(self.deviations) - 1)


def member_ends(ensemble: Ensemble, x: Points, times: Float[Tensor, " times"]) -> MemberEnds:
    """The ends of Euler's method from `x` at times[0] to times[-1], to first order in the members' deviations.

    Cost: per step n scores of the batch, and n derivatives of n x batch directions; memory n x batch x d numbers. Works
    in the precision of `x`. Raises InputError for times that do not decrease and for denoisers without gradients.

    >>> import torch
    >>> from diffuscope.denoisers import ExactDenoiser
    >>> from diffuscope.exact import Gaussian
    >>> from diffuscope.schedules import VE
    >>> from diffuscope.theory.variance import Ensemble, member_ends
    >>> points = [Gaussian.isotropic(torch.tensor([m]), 0.0) for m in (1.0, 2.0, 6.0)]  # D = m, 3 on average
    >>> ensemble = Ensemble([ExactDenoiser(point, VE()) for point in points])
    >>> ends = member_ends(ensemble, torch.tensor([[10.0]]), torch.tensor([4.0, 2.0, 1.0]))
    >>> [round(value, 6) for value in ends.deviations.flatten().tolist()]  # 3 / 4 (m - 3)
    [-1.5, -0.75, 2.25]
    """
    steps, members = Steps.of(ensemble.schedule, times), len(ensemble)
    if x.numel() == 0 or not bool(x.isfinite().all()):
        raise InputError(f"x: expected finite points, at least one, got shape {tuple(x.shape)}")
    state, deviations = x, x.new_zeros(members, *x.shape)
    for k, h in enumerate(steps.h.tolist()):
        t, f, D = steps.times[k], float(steps.f[k]), float(steps.D[k])
        scores = ensemble.scores(state, t)
        average = scores.mean(0)
        tangents = _average_tangent(ensemble, state, deviations, t) if k else torch.zeros_like(deviations)
        deviations = deviations - h * (f * deviations - D * tangents) + h * D * (scores - average)
        state = state - h * (f * state - D * average)
    return MemberEnds(state, deviations)


def _average_tangent(ensemble: Ensemble, x: Points, directions: Tensor, t: Tensor) -> Tensor:
    """The derivative of the average score at x along every direction (members, batch, d), by differentiating twice."""
    repeated, along = x.repeat(len(directions), 1).requires_grad_(), directions.flatten(0, 1)
    total = torch.zeros_like(along)
    for denoiser in ensemble.denoisers:
        with torch.enable_grad():
            score = denoised_to_score(repeated, answer := denoiser(repeated, t), ensemble.schedule, t)
            if not answer.requires_grad:
                raise InputError("denoisers: expected ones that autograd can differentiate, got one without gradient")
            weights = torch.zeros_like(score, requires_grad=True)
            (product,) = torch.autograd.grad(score, repeated, weights, create_graph=True)  # J^T w, linear in w
            total += torch.autograd.grad(product, weights, along)[0]
    return (total / len(ensemble)).reshape(directions.shape)
