r"""A batch on which the denoising loss of every affine denoiser equals its expectation.

For an affine D the loss :math:`E|D(\alpha x_0 + \sigma\varepsilon) - x_0|^2` is a quadratic in
:math:`(x_0, \varepsilon)` and depends on their first two moments only. In dimension d these 4 d pairs of equal weight
have the moments of data with mean :math:`\mu`, covariance :math:`\sum_k \lambda_k u_k u_k^T` and independent noise:

.. math::  (\mu \pm \sqrt{2 d\lambda_k}\, u_k,\ 0), \qquad (\mu,\ \pm\sqrt{2 d}\, e_k), \qquad k = 1 \dots d .

Gradient descent on them is full-batch gradient descent on the population, with any network that is linear in its
input and any optimizer. Source: derived here; the pairs are the sigma points of Julier & Uhlmann 1997.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.exact import Gaussian


def moment_batch(distribution: Gaussian) -> tuple[Float[Tensor, "pairs *event"], Float[Tensor, "pairs *event"]]:
    """(x_0, noise): 4 d pairs in float64 with the first two moments of `distribution` and of white noise.

    >>> import torch
    >>> from diffuscope.exact import Gaussian
    >>> from diffuscope.theory import moment_batch
    >>> x_0, noise = moment_batch(Gaussian.isotropic(torch.tensor([8.0]), 3.0))
    >>> [round(value, 6) for value in (float(x_0.mean()), float(x_0.var(correction=0)), float(noise.square().mean()))]
    [8.0, 3.0, 1.0]
    """
    d, mean = distribution.dimension, distribution.mean.double().flatten()
    eye = torch.eye(d, dtype=torch.float64, device=mean.device)
    tail = distribution.tail_variance * (eye - distribution.eigenvectors @ distribution.eigenvectors.T)
    covariance = (distribution.eigenvectors * distribution.eigenvalues) @ distribution.eigenvectors.T + tail
    values, vectors = torch.linalg.eigh(covariance)
    data = math.sqrt(2 * d) * (vectors * values.clamp(min=0).sqrt()).T
    zero, noise = torch.zeros_like(data), math.sqrt(2 * d) * eye
    pairs = mean + torch.cat([data, -data, zero, zero]), torch.cat([zero, zero, noise, -noise])
    return pairs[0].reshape(-1, *distribution.mean.shape), pairs[1].reshape(-1, *distribution.mean.shape)
