r"""Features of images that need no labels: rectified random filters of whitened patches, pooled over quadrants.

.. math::
    r_k(p) = \max\left(0, w_k^T (\Lambda + \epsilon s^2)^{-1/2} V^T (p - \bar p)\right), \qquad
    h(x) = \text{mean of } r_k \text{ over the patches } p \text{ of each quadrant of } x ,

with the mean :math:`\bar p` and the covariance :math:`V \Lambda V^T` of patches of the training images, s their
standard deviation, and w drawn from a Gaussian. Whitened patches respond to fine detail, which noise and blur change;
the rectifier responds to more than covariances, which distinguishes images from a Gaussian.

Source: Coates, Lee & Ng 2011, "An analysis of single-layer networks in unsupervised feature learning" (random filters
in place of a learned dictionary).
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as fn

from diffuscope.by_parts import mean_and_deviation
from diffuscope.byte_examples import float_parts
from diffuscope.memory import chunk_size

from .whitening import Whitened

PATCH, FILTERS, QUADRANTS = 4, 32, 2
SMOOTHING = 0.01  # epsilon
KEPT = 32  # leading directions of the pooled features
SAMPLED_IMAGES, SAMPLED_PATCHES = 500, 20_000
FEATURE_BATCH = 256
RESPONSES = 2**25  # of all filters at once


def fit_patch_features(train: Float[Tensor, "n channels height width"], generator: torch.Generator) -> Whitened:
    """Draw the filters and whiten their pooled responses on `train`; images of at least 3 x 3 pixels."""
    channels, size = train.shape[1], min(PATCH, *train.shape[2:])
    some = train[torch.randperm(len(train), generator=generator)[:SAMPLED_IMAGES]]
    patches = _patches(some, size, generator)
    mean = patches.mean(0)
    variances, directions = torch.linalg.eigh(torch.cov(patches.mT))
    drawn = torch.randn(len(variances), FILTERS, dtype=torch.float64, generator=generator)
    floor = SMOOTHING * mean_and_deviation(some)[1] ** 2
    weights = directions / (variances + floor).sqrt() @ drawn
    weights = weights / ((patches - mean) @ weights).std(0)
    kernels = weights.mT.reshape(FILTERS, channels, size, size).float()
    offsets = -(mean @ weights).float()

    batch = min(FEATURE_BATCH, chunk_size(RESPONSES, each=FILTERS * math.prod(train.shape[2:])))

    def pooled(x: Float[Tensor, "n channels height width"]) -> Float[Tensor, "n pooled"]:
        responses = (fn.relu(fn.conv2d(part.float(), kernels, offsets)) for part in float_parts(x, rows=batch))
        return torch.cat([fn.adaptive_avg_pool2d(part, QUADRANTS).flatten(1) for part in responses]).double()

    return Whitened.fit(pooled, train, KEPT)


def _patches(
    images: Float[Tensor, "n channels height width"], size: int, generator: torch.Generator
) -> Float[Tensor, "patches values"]:
    """Random patches of the images, float64; those of a few images at a time are all there is of them."""
    each = math.prod(side - size + 1 for side in images.shape[2:])
    chosen = torch.randperm(len(images) * each, generator=generator)[:SAMPLED_PATCHES]
    patches = torch.empty(len(chosen), images.shape[1] * size**2, dtype=torch.float64)
    start, rows = 0, chunk_size(RESPONSES, each=each * patches.shape[1])
    for part in float_parts(images, rows=rows):
        inside = (chosen >= start) & (chosen < start + len(part) * each)
        patches[inside] = fn.unfold(part.double(), size).mT.flatten(0, 1)[chosen[inside] - start]
        start += len(part) * each
    return patches
