r"""The PCA-local score: every pixel is answered from the pixels that its Wiener filter reads most.

At the noise level :math:`\rho = \sigma/\alpha` the best linear denoiser of data with covariance :math:`\Sigma` reads
x_t by the rows of

.. math::  W = \Sigma\,(\Sigma + \rho^2 I)^{-1} .

The mask of pixel q is the smallest set of pixels that holds a given `share` of the energy of row q,

.. math::  M_q = \text{the smallest } S \text{ with } \sum_{p \in S} W_{qp}^2 \ge \text{share} \sum_p W_{qp}^2 :

a few neighbors at low noise, wide and of the data's own shape at high noise; no patch size is chosen. The answer is the
score through these masks (`masks`): the posterior mean of the pixel given its mask, exactly over all images. A share of
1 reads all pixels and is the empirical denoiser; a share of 0 reads one pixel.

All logits of a query are one product, :math:`-M e / 2\sigma^2` with :math:`e_{pi} = (x_p - \alpha y_{ip})^2`, of
2 d^2 N operations. Expanding the square into three products saves nothing, since one of them,
:math:`(M \circ x) Y^T`, is as large, and cancels at low noise.

The idea that locality comes from the covariance of the data: Lukoianov et al. 2025, https://arxiv.org/abs/2509.09672.
The definition of the masks is ours.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from diffuscope.errors import InputError
from diffuscope.exact import Gaussian
from diffuscope.schedules import Schedule

from .aggregation import MEMORY
from .denoiser import AnalyticDenoiser, require_images
from .masks import masked_score

FIT_ROWS = 4096  # images at once in the fit of the covariance


def wiener_masks(gaussian: Gaussian, level: float | int, share: float | int) -> Bool[Tensor, "d d"]:
    """Row q: the fewest pixels that hold `share` of the energy of row q of W at sigma/alpha = `level`, infinite or not.

    A row of zeros, of a pixel that never varies, holds the pixel itself.
    Raises InputError for a share outside 0 .. 1, and for a level that is not > 0.
    """
    _require_share(share)
    if not level > 0:
        raise InputError(f"level: expected a number > 0, got {level}")
    dimension = gaussian.dimension
    if share == 1:
        return torch.ones(dimension, dimension, dtype=torch.bool)
    energy, order = _wiener(gaussian, float(level)).square().sort(dim=1, descending=True, stable=True)
    held = energy.cumsum(1)
    needed = held - energy < share * held[:, -1:]
    needed[:, 0] = True
    masks = torch.zeros_like(needed).scatter_(1, order, needed)
    constant = held[:, -1] == 0
    masks[constant] = torch.eye(dimension, dtype=torch.bool)[constant]
    return masks


@dataclass(frozen=True, eq=False)
class WienerMasks:
    """The masks of a Gaussian as weights, a function of the noise level sigma/alpha."""

    gaussian: Gaussian
    share: float | int

    def __call__(self, level: float) -> Float[Tensor, "d d"]:
        return wiener_masks(self.gaussian, level, self.share).double()


def pca_local_score(
    data: Float[Tensor, "images *event"], schedule: Schedule, *, share: float | int, memory: int = MEMORY
) -> AnalyticDenoiser:
    """The score through the Wiener masks of `data`, whose rows hold `share` of their energy.

    `data` are images (images, height, width) or (images, channels, height, width). Memory: about `memory` bytes, and
    d x d numbers, besides the images. Raises InputError for other data, fewer than two images, NaN, and a share outside
    0 .. 1.
    """
    _require_share(share)
    require_images(data)
    if len(data) < 2:
        raise InputError(f"data: expected at least two images, whose covariance is fitted, got {len(data)}")
    gaussian = Gaussian.fit(data.detach().split(FIT_ROWS))
    return masked_score(data, schedule, WienerMasks(gaussian, share), memory=memory)


def _wiener(gaussian: Gaussian, level: float) -> Float[Tensor, "d d"]:
    """W, or its limit rho^2 W = Sigma where the level is infinite; only the ratios within a row matter."""
    variances = torch.cat([gaussian.eigenvalues, gaussian.eigenvalues.new_tensor([gaussian.tail_variance])])
    gain = variances if level == float("inf") else variances / (variances + level**2)
    vectors = gaussian.eigenvectors
    result = (vectors * (gain[:-1] - gain[-1])) @ vectors.T
    result.diagonal().add_(gain[-1])
    return result


def _require_share(share: float | int) -> None:
    if not 0 <= share <= 1:
        raise InputError(f"share: expected a number in 0 .. 1, got {share}")
