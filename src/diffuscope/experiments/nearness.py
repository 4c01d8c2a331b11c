r"""When does a sample count as a copy? Two common criteria, and how often an independent draw meets them.

With d_1 <= d_2 the distances of x to its nearest training examples, x is called a copy if

.. math::  d_1 < r = 0.02 \quad\text{(radius)}, \qquad\text{or}\qquad d_1 < c\, d_2, \ c = \tfrac13 \quad\text{(ratio)}.

Let x and the n training examples be independent draws from p, and :math:`G_x(s) = P(|y - x| < s)`. Then

.. math::
    P(\text{radius}) = E_x\left[1 - (1 - G_x(r))^n\right], \qquad
    P(\text{ratio}) = E_x\left[n \int_0^\infty G_x(c s)\; d\left[-(1 - G_x(s))^{n-1}\right]\right],

where in the second one of the n is within c s, one at s and the others beyond s. The first grows with n to one; the
second tends to c^d, here 1/9, as p becomes flat on the scale of neighbors. Under three Gaussian modes G_x is a sum of
noncentral chi-square distribution functions, and a quadrature over the plane, with 16 nodes per axis and mode and 48
distances between s and 3 s, is good to 1e-4.

Sources: the radius is that of https://github.com/Animadversio/DiffusionMemorizationPhaseTrans;
the ratio that of Yoon et al. 2023 (ICML workshop) and Gu et al. 2023 (arXiv:2310.02664). The chances are derived here.
"""

import math
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.special import chndtr
from torch import Tensor

from diffuscope.exact import GaussianMixture, nearest_neighbors

RADIUS, RATIO = 0.02, 1 / 3
NODES = 16  # Gauss-Hermite, per axis and mode
PER_FOLD = 48  # distances between s and s / RATIO


def copies(examples: Float[Tensor, "n d"], samples: Float[Tensor, "samples d"]) -> Bool[Tensor, "2 samples"]:
    """Which samples are copies of one of at least two `examples`, by radius and by ratio."""
    d = nearest_neighbors(samples, examples, 2)[0]
    return torch.stack([d[:, 0] < RADIUS, d[:, 0] < RATIO * d[:, 1]])


def chance(p: GaussianMixture, n: int) -> Float[Tensor, "2"]:
    """P(radius) and P(ratio) for a draw from `p`, isotropic modes in the plane, against n >= 2 others."""
    share, at_radius, G = _balls(p, NODES, PER_FOLD, RADIUS)
    radius = 1 - (1 - at_radius) ** n
    inner, outer = G[:, :-PER_FOLD], (1 - G[:, PER_FOLD:]) ** (n - 1)
    ratio = n * ((inner[:, 1:] + inner[:, :-1]) / 2 * (outer[:, :-1] - outer[:, 1:])).sum(1)
    return torch.stack([share @ radius, share @ ratio])


@lru_cache(maxsize=1)  # for every n of one mixture
def _balls(
    p: GaussianMixture, nodes: int, per_fold: int, r: float
) -> tuple[Float[Tensor, " nodes"], Float[Tensor, " nodes"], Float[Tensor, "nodes distances"]]:
    """The shares of the quadrature's nodes, and G at each: at r, and at distances from 1e-5 to 30."""
    hermite, weights = np.polynomial.hermite_e.hermegauss(nodes)
    weights = weights / math.sqrt(2 * math.pi)
    offsets = torch.cartesian_prod(torch.from_numpy(hermite), torch.from_numpy(hermite))
    x = (p.means[:, None] + p.tail_variances.sqrt()[:, None, None] * offsets).reshape(-1, 2)
    share = (p.weights[:, None] * torch.from_numpy(np.outer(weights, weights)).reshape(-1)).reshape(-1)
    square = torch.cdist(x, p.means).square()

    def within(s: Float[Tensor, " distances"]) -> Float[Tensor, "nodes distances"]:
        scaled = (s.square()[:, None] / p.tail_variances).numpy()
        return torch.from_numpy(chndtr(scaled[None], 2, (square / p.tail_variances).numpy()[:, None])) @ p.weights

    s = torch.arange(math.log(1e-5), math.log(30.0), -math.log(RATIO) / per_fold, dtype=torch.float64).exp()
    return share, within(torch.tensor([r], dtype=torch.float64))[:, 0], within(s)
