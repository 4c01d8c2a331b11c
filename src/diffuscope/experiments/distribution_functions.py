r"""Distribution functions of noised mixtures on the line.

.. math::  F_t(x) = \sum_j \pi_j\,\Phi\!\left(\frac{x - \alpha\mu_j}{\sqrt{\alpha^2 v_j + \sigma^2}}\right)
"""

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.exact import GaussianMixture


def distribution_function(
    distribution: GaussianMixture, x: Float[Tensor, " n"], alpha: float, sigma: float
) -> Float[Tensor, " n"]:
    """F of the noised distribution at the numbers x, for isotropic components on the line."""
    deviations = (alpha**2 * distribution.tail_variances + sigma**2).sqrt()
    return torch.special.ndtr((x[:, None] - alpha * distribution.means[:, 0]) / deviations) @ distribution.weights
