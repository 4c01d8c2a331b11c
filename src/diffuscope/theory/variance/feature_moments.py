r"""The moments of a population that ridge regression on features depends on.

With :math:`\tilde\lambda = \alpha^2/\sigma^2`, D the posterior mean and C_0 the posterior covariance of x_0,

.. math::
    \bar\Sigma = E[\tilde\lambda\varphi\varphi^T], \quad \bar A = E[\tilde\lambda D\varphi^T], \quad
    \bar G = (\bar\Sigma + \rho I)^{-1}, \quad \bar W = \bar A\bar G, \quad r = D - \bar W\varphi,

.. math::
    N_{ab} = E[\tilde\lambda^2 C_{0,ab}\,\varphi\varphi^T], \qquad
    R_{ab} = E[\tilde\lambda^2 r_a r_b\,\varphi\varphi^T], \qquad
    F_{\mathrm{eff}} = E[\ell^2] / E[\ell], \quad \ell = \tilde\lambda\,\varphi^T\bar G\varphi .

Features that are products, :math:`\varphi = u(x) \otimes v(t)`, cost only the square of the number of u's per node: the
sum over x at a fixed t is a Kronecker product with :math:`v v^T`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.errors import InputError
from diffuscope.memory import chunk_size

from .features import Constant, Features, Products
from .population import Population, Slice

ROWS = 2**23  # numbers of features held at once


@dataclass(frozen=True, eq=False)
class FeatureMoments:
    """`sigma` (F, F), `inverse` G (F, F), `mean` W (d, F), `noise` N and `misfit` R (d, d, F, F); F_eff."""

    sigma: Float[Tensor, "F F"]
    inverse: Float[Tensor, "F F"]
    mean: Float[Tensor, "d F"]
    noise: Float[Tensor, "d d F F"]
    misfit: Float[Tensor, "d d F F"]
    effective_features: float


def feature_moments(population: Population, features: Features, ridge: float | int) -> FeatureMoments:
    """The moments over a population; `ridge` is rho >= 0.

    Memory: 3 d^2 F^2 numbers. Raises InputError for a matrix Sigma + rho that is singular in float64.
    """
    F, d = features.number, population.dimension
    sigma, onto = torch.zeros(F, F, dtype=torch.float64), torch.zeros(d, F, dtype=torch.float64)
    for part, u, v in _with_features(population.slices, features):
        weighted = (part.weight * part.probability)[:, None] * u
        sigma += torch.kron(u.mT @ weighted, v[:, None] * v)
        onto += torch.kron(part.mean.mT @ weighted, v[None])
    inverse = _inverse(sigma, float(ridge))
    mean = onto @ inverse
    leverage = torch.zeros(2, dtype=torch.float64)  # its first two moments
    noise, misfit = sigma.new_zeros(d, d, F, F), sigma.new_zeros(d, d, F, F)
    for part, u, v in _with_features(population.slices, features):
        r = part.mean - u @ (mean.reshape(d, -1, len(v)) @ v).mT
        squared = part.weight**2 * part.probability
        outer = v[:, None] * v
        at_time = torch.einsum("ujvk,j,k->uv", inverse.reshape(u.shape[1], len(v), u.shape[1], len(v)), v, v)
        ell = part.weight * ((u @ at_time) * u).sum(1)
        leverage += torch.stack([(part.probability * ell).sum(), (part.probability * ell**2).sum()])
        for a in range(d):
            for b in range(a + 1):
                for total, value in ((noise, part.covariance[:, a, b]), (misfit, r[:, a] * r[:, b])):
                    total[a, b] += torch.kron(u.mT @ ((squared * value)[:, None] * u), outer)
    for a in range(d):
        for b in range(a):
            noise[b, a], misfit[b, a] = noise[a, b].mT, misfit[a, b].mT
    return FeatureMoments(sigma, inverse, mean, noise, misfit, float(leverage[1] / leverage[0]))


def _with_features(
    slices: tuple[Slice, ...], features: Features
) -> Iterator[tuple[Slice, Float[Tensor, "n u"], Float[Tensor, " v"]]]:
    """Parts of the slices with u(x) and v(t), the Kronecker factors of their features; v is 1 if they have none."""
    space = replace(features, time=Constant()) if isinstance(features, Products) else features
    for each in slices:
        now = torch.tensor([each.t], dtype=torch.float64)
        v = features.time(now)[0] if isinstance(features, Products) else torch.ones_like(now)
        rows = chunk_size(ROWS, each=space.number)
        for start in range(0, len(each.x), rows):
            kept = slice(start, start + rows)
            part = replace(
                each,
                x=each.x[kept],
                probability=each.probability[kept],
                mean=each.mean[kept],
                covariance=each.covariance[kept],
            )
            yield part, space(part.x, each.t), v


def _inverse(sigma: Float[Tensor, "F F"], ridge: float) -> Float[Tensor, "F F"]:
    """(Sigma + rho)^-1; InputError where it is singular in float64."""
    values, vectors = torch.linalg.eigh(sigma)
    shifted = values.clamp(min=0) + ridge
    if not float(shifted[0]) > 1e-13 * float(shifted[-1]):
        ratio = float(shifted[0] / shifted[-1])
        raise InputError(
            f"ridge: expected one that makes the features' matrix regular, got {ridge:g} with eigenvalues whose "
            f"smallest is {ratio:.1e} of the largest"
        )
    return (vectors / shifted) @ vectors.mT
