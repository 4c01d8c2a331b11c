r"""Features of any data that need no labels: distances to the centers of clusters, in smoothed principal components.

.. math::  z = (\Lambda + \epsilon^2 s^2)^{-1/2} V^T (x - \mu), \qquad h_k(x) = |z - c_k| ,

where :math:`\mu, V \Lambda V^T` are the mean and the covariance of the training data, s the standard deviation of a
coordinate, and c the centers of a k-means clustering. All structure of the data above a fifth of s counts in z,
and directions in which the data do not vary count only if the samples do. Of a truncated Gaussian, of tail variance
:math:`\tau`, the length of what its components leave of x, over :math:`(\tau + \epsilon^2 s^2)^{1/2}`, is one more
coordinate.

Source: Coates & Ng 2012, "Learning feature representations with k-means".
"""

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.byte_examples import float_parts
from diffuscope.exact import Gaussian

from .whitening import Whitened

CENTERS = 32
SMOOTHING = 0.2  # epsilon
ITERATIONS = 20


def fit_cluster_features(train: Float[Tensor, "n *event"], gaussian: Gaussian, seed: int) -> Whitened:
    """Cluster `train`, whose Gaussian is `gaussian`, and whiten the distances on it."""
    floor = SMOOTHING**2 * gaussian.trace / gaussian.dimension
    whiten = (gaussian.eigenvectors / (gaussian.eigenvalues + floor).sqrt()).float()
    mean = gaussian.mean.float()

    tail = (gaussian.tail_variance + floor) ** 0.5
    basis = gaussian.eigenvectors.float()

    def coordinates(centered: Float[Tensor, "n all"]) -> Float[Tensor, "n d"]:
        z = centered @ whiten
        if basis.shape[1] == gaussian.dimension:
            return z
        rest = centered.square().sum(1) - (centered @ basis).square().sum(1)
        return torch.cat([z, rest.clamp(min=0).sqrt()[:, None] / tail], 1)

    def components(x: Float[Tensor, "n *event"]) -> Float[Tensor, "n d"]:
        return torch.cat([coordinates((part - mean).flatten(1).float()) for part in float_parts(x)])

    from sklearn.cluster import KMeans  # a second that other features need not wait

    clusters = KMeans(min(CENTERS, len(train)), max_iter=ITERATIONS, random_state=seed)
    centers = torch.from_numpy(clusters.fit(components(train).numpy()).cluster_centers_)
    return Whitened.fit(lambda x: torch.cdist(components(x), centers).double(), train)
