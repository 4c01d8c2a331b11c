r"""Features of any data that need no labels: distances to the centers of clusters, in smoothed principal components.

.. math::  z = (\Lambda + \epsilon^2 s^2)^{-1/2} V^T (x - \mu), \qquad h_k(x) = |z - c_k| ,

where :math:`\mu, V \Lambda V^T` are the mean and the covariance of the training data, s the standard deviation of a
coordinate, and c the centers of a k-means clustering. All structure of the data above a fifth of s counts in z,
and directions in which the data do not vary count only if the samples do.

Source: Coates & Ng 2012, "Learning feature representations with k-means".
"""

import torch
from jaxtyping import Float
from sklearn.cluster import KMeans
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
    whiten = (gaussian.eigenvectors / (gaussian.eigenvalues.clamp(min=0) + floor).sqrt()).float()
    mean = gaussian.mean.float()

    def components(x: Float[Tensor, "n *event"]) -> Float[Tensor, "n d"]:
        return torch.cat([(part - mean).flatten(1).float() @ whiten for part in float_parts(x)])

    clusters = KMeans(min(CENTERS, len(train)), max_iter=ITERATIONS, random_state=seed)
    centers = torch.from_numpy(clusters.fit(components(train).numpy()).cluster_centers_)
    return Whitened.fit(lambda x: torch.cdist(components(x), centers).double(), train)
