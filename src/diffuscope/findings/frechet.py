r"""The Frechet distance between two samples of feature vectors, with its standard error.

Between Gaussians of means :math:`m_1, m_2` and covariances :math:`S_1, S_2` the Wasserstein distance is

.. math::
    d^2 = |m_1 - m_2|^2 + \operatorname{tr}\left(S_1 + S_2 - 2 (S_1^{1/2} S_2 S_1^{1/2})^{1/2}\right)
        = |m_1 - m_2|^2 + \min_{O^T O = I} \| R_1 - O R_2 \|_F^2, \qquad R_i^T R_i = S_i ,

for any roots :math:`R_i`; the minimum is at :math:`O = U V^T` for :math:`R_1 R_2^T = U \Sigma V^T` (orthogonal
Procrustes). This second form is computed, with the triangular factors of the centered samples: a sum of squares is
never negative, is 0 for equal samples up to the square of rounding, and needs no root or inverse of covariances, which
may be singular. Covariances are divided by n - 1.

*Standard error.* :math:`O R_2 = R_1 T` with the Gaussian optimal map T from 1 to 2, symmetric with
:math:`T S_1 T = S_2`, and the derivative of the trace term by :math:`S_1` is :math:`I - T`. Hence the influence of a
point x of the first sample,

.. math::  \varphi_1(x) = 2 (m_1 - m_2) \cdot \bar x + \bar x \cdot (\bar x - T \bar x) - \text{mean},
           \qquad \bar x = x - m_1,

and by symmetry that of the second. To first order :math:`\mathrm{SE}^2 = \operatorname{var}\varphi_1 / n_1 +
\operatorname{var}\varphi_2 / n_2`. Where the two distributions agree the first order vanishes and the distance is a
quadratic form in the errors of the moments; this estimate of its variance is then twice too large, its error
:math:`\sqrt 2`.

*Bias.* :math:`E\,\hat d^2 > d^2`, by about a constant over n, because every error of a moment is a distance. For two
samples of one Gaussian distribution with eigenvalues :math:`\lambda_i` of its covariance

.. math::  E\,\hat d^2 \approx \left(\frac1{n_1} + \frac1{n_2}\right)
           \left[\sum_i \lambda_i + \frac12 \sum_{ij} \frac{\lambda_i\lambda_j (1 + \delta_{ij})}{\lambda_i +
           \lambda_j}\right] ,

about :math:`D^2 \lambda / 2n` for n and n points in D dimensions of variance :math:`\lambda`. Distances
are therefore compared at equal sizes only.

Sources: Dowson & Landau 1982 (the distance); Heusel et al. 2017, https://arxiv.org/abs/1706.08500 (of features);
Chong & Forsyth 2020, https://arxiv.org/abs/1911.07023 (its bias).
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.errors import InputError


@dataclass(frozen=True)
class FrechetDistance:
    """The squared distance d^2 and its standard error.

    >>> import torch
    >>> from diffuscope.findings import frechet_distance
    >>> x = torch.tensor([[0.0], [2.0]])  # variance 2; a shift c has d^2 = c^2, SE^2 = 4 c^2 (2/2 + 2/2)
    >>> distance = frechet_distance(x, x + 3)
    >>> round(distance.value, 6), round(distance.standard_error**2, 6)
    (9.0, 72.0)
    """

    value: float
    standard_error: float


def frechet_distance(x: Float[Tensor, "n features"], y: Float[Tensor, "m same"]) -> FrechetDistance:
    """d^2 between two samples of feature vectors, in float64; n and m may differ.

    With fewer rows than features the samples span only a subspace, and the standard error neglects that other samples
    would span another.

    Raises InputError for fewer than 2 rows, rows of different widths, and values that are not finite.

    >>> import torch
    >>> from diffuscope.findings import frechet_distance
    >>> x, y = torch.tensor([[0.0], [2.0]]), torch.tensor([[5.0], [9.0]])  # means 1 and 7, variances 2 and 8
    >>> round(frechet_distance(x, y).value, 6)  # 6^2 + (8^(1/2) - 2^(1/2))^2
    38.0
    """
    for name, rows in (("x", x), ("y", y)):
        if len(rows) < 2:
            raise InputError(f"{name}: expected at least 2 rows, got {len(rows)}")
        if not bool(torch.isfinite(rows).all()):
            raise InputError(f"{name}: expected finite features, got NaN or infinity")
    if x.shape[1] != y.shape[1]:
        raise InputError(f"y: expected rows of {x.shape[1]} features as in x, got {y.shape[1]}")
    (mean_x, rows_x, root_x), (mean_y, rows_y, root_y) = _moments(x), _moments(y)
    height = max(len(root_x), len(root_y))  # rows of zeros below the shorter root leave R^T R unchanged
    root_x, root_y = (torch.cat([r, r.new_zeros(height - len(r), r.shape[1])]) for r in (root_x, root_y))
    u, _, vh = torch.linalg.svd(root_x @ root_y.mT)
    rotation = u @ vh
    shift = mean_x - mean_y
    # R_1 - O R_2 and R_2 - O^T R_1: the displacements of the rows of the roots by the optimal map
    moved_x, moved_y = root_x - rotation @ root_y, root_y - rotation.mT @ root_x
    value = shift.square().sum() + moved_x.square().sum()
    variance = _variance(x, mean_x, rows_x, moved_x, shift) + _variance(y, mean_y, rows_y, moved_y, -shift)
    return FrechetDistance(float(value), float(variance.sqrt()))


def _moments(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean; Q and R with (x - mean) = Q R and R^T R the covariance."""
    x = x.double()
    mean, scale = x.mean(0), math.sqrt(len(x) - 1)
    q, r = torch.linalg.qr(x - mean)
    return mean, scale * q, r / scale


def _variance(x: Tensor, mean: Tensor, rows: Tensor, moved: Tensor, shift: Tensor) -> Tensor:
    """var(phi) / n: with x - mean = rows R, the displacement x - T x is rows (R - O R')."""
    centered = x.double() - mean
    influence = 2 * centered @ shift + (centered * (rows @ moved[: rows.shape[1]])).sum(1)
    return influence.var() / len(x)
