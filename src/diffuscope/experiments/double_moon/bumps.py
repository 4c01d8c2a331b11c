r"""Figure 5 of the article: a mixture on the line, and the linear learner of its score.

The score of :math:`\tfrac12 N(\pm m, v_0)`, m = 1.6 and :math:`v_0 = 0.5^2`, noised by :math:`\sigma = 0.4` to the
variance v = 0.41, has the slope

.. math::  s' = -\frac1v + \frac{(m/v)^2}{\cosh^2(m x / v)},

whose second term is 2e-4 at a mode. The learner is a sum of 24 Gaussian bumps of width 0.6 on [-3.5, 3.5], fitted by
ridge regression (0.001) on 40 rounds of fresh noise over 4,000 points per mode: one linear solve finds its minimizer.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.exact import GaussianMixture

MODE, STANDARD_DEVIATION, SIGMA = 1.6, 0.5, 0.4
PER_MODE, ROUNDS, BUMPS, REACH, BANDWIDTH, RIDGE = 4000, 40, 24, 3.5, 0.6, 1e-3
MIXTURE = GaussianMixture.isotropic(
    torch.full((2,), 0.5, dtype=torch.float64),
    torch.tensor([[-MODE], [MODE]], dtype=torch.float64),
    torch.full((2,), STANDARD_DEVIATION**2, dtype=torch.float64),
)


def exact_score(x: Float[Tensor, "n 1"], sigma: float = SIGMA) -> Float[Tensor, "n 1"]:
    """The score of the noised mixture: what a learned score must be compared with."""
    return MIXTURE.score(x, 1.0, sigma)


def slope(score: Float[Tensor, "n 1"], x: Float[Tensor, "n 1"], at: float) -> float:
    """ds/dx by a central difference between the two points of an even grid around `at`."""
    k = int((x - at).abs().argmin())
    return float((score[k + 1] - score[k - 1]) / (x[k + 1] - x[k - 1]))


def features(x: Float[Tensor, "n 1"]) -> Float[Tensor, "n bumps"]:
    """exp(-(x - c)^2 / 2 h^2) for every center c."""
    centers = torch.linspace(-REACH, REACH, BUMPS, dtype=torch.float64)
    return torch.exp(-((x - centers) ** 2) / (2 * BANDWIDTH**2))


def fitted(generator: torch.Generator) -> Float[Tensor, "bumps 1"]:
    """The weights that minimize the mean of |s(x_0 + sigma eps) + eps / sigma|^2, plus the ridge."""
    gram, moment = torch.zeros(BUMPS, BUMPS, dtype=torch.float64), torch.zeros(BUMPS, 1, dtype=torch.float64)
    side = torch.tensor([-MODE, MODE], dtype=torch.float64).repeat_interleave(PER_MODE)[:, None]
    x_0 = side + STANDARD_DEVIATION * torch.randn(2 * PER_MODE, 1, dtype=torch.float64, generator=generator)
    for _ in range(ROUNDS):
        noise = torch.randn(x_0.shape, dtype=torch.float64, generator=generator)
        phi = features(x_0 + SIGMA * noise)
        gram += phi.T @ phi / (len(x_0) * ROUNDS)
        moment -= phi.T @ noise / (SIGMA * len(x_0) * ROUNDS)
    return torch.linalg.solve(gram + RIDGE * torch.eye(BUMPS, dtype=torch.float64), moment)
