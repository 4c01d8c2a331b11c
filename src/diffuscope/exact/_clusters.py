r"""The mean and the leading principal components of the members of one component of a mixture, dense or by a probe.

Of weights :math:`w_i` that sum to 1 over the members, with :math:`C = (\sqrt{w_i}\,(x_i - \mu))_i`, the covariance is
C^T C. Up to LARGEST_DENSE dimensions it is formed. Above, a rank is needed, and its eigenpairs are those of Nystrom's
approximation from :math:`Y = C^T(C\Omega)` and :math:`Z = C^T(CQ)`, Q an orthonormal basis of Y (`streaming`): exact
where the members span no more dimensions than the probe has, and the trace is exact always.

Nothing of the size of the data is copied: rows are read in chunks.
"""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from diffuscope.byte_examples import all_floats, float_parts
from diffuscope.errors import InputError
from diffuscope.memory import chunk_size

from .spectral import LARGEST_DENSE, top_eigenpairs
from .streaming import Moments, leading_pairs_of

CHUNK_BYTES = 256 * 2**20  # working memory of one chunk of examples (one example at least)
MANY_EXAMPLES = 10_000  # beyond this k-means runs on minibatches
MOST_NUMBERS = 2**28  # in the examples that determine the clusters, random ones if there are more
Pairs = tuple[Float[Tensor, "D r"], Float[Tensor, " r"], float]


def kmeans_labels(data: Float[Tensor, "n *event"], components: int, generator: torch.Generator) -> Int[Tensor, " n"]:
    """The k-means cluster of every example. Raises InputError for too many components and values not finite."""
    from sklearn.cluster import KMeans, MiniBatchKMeans  # a second that those who fit no mixture need not wait

    if not 1 <= components <= len(data):
        raise InputError(f"components: expected 1 .. {len(data)} (the number of examples), got {components}")
    if not all(bool(torch.isfinite(part).all()) for part in float_parts(data)):
        raise InputError("data: expected finite values, got NaN or infinity")
    seed = int(torch.randint(2**31 - 1, (1,), generator=generator, device=generator.device))
    most, some = chunk_size(MOST_NUMBERS, each=data[0].numel()), data
    if len(data) > most:
        some = data[torch.randperm(len(data), generator=generator, device=generator.device)[:most].sort().values]
    fitted = all_floats(some).flatten(1).cpu().numpy()
    if len(fitted) > MANY_EXAMPLES:
        kmeans = MiniBatchKMeans(components, random_state=seed, batch_size=2048).fit(fitted)
    else:
        kmeans = KMeans(components, random_state=seed).fit(fitted)
    parts = (part.flatten(1).cpu().numpy() for part in float_parts(data))
    labels = [kmeans.labels_] if len(fitted) == len(data) else [kmeans.predict(part) for part in parts]
    found = np.concatenate([np.asarray(part, dtype=np.int64) for part in labels])
    return torch.from_numpy(found).to(data.device)


def weighted_pairs(
    data: Float[Tensor, "n *event"],
    weights: Float[Tensor, " n"],
    rank: int | None,
    ridge: float,
    generator: torch.Generator,
) -> tuple[Float[Tensor, " D"], Pairs]:
    """Mean and eigenpairs of the weighted examples, `ridge` added to every variance; by a probe where D is large."""
    members = (weights > 1e-16 * weights.max()).nonzero()[:, 0]  # less is below the rounding of the sums
    shares, D = weights[members] / weights[members].sum(), data[0].numel()
    size = chunk_size(CHUNK_BYTES, each=3 * 8 * D)
    chunks = list(zip(members.split(size), shares.split(size), strict=True))
    mean = torch.zeros(D, dtype=torch.float64, device=data.device)
    for rows, part in chunks:
        mean += part @ data[rows].double().reshape(-1, D)

    def centered() -> Iterator[Tensor]:
        for rows, part in chunks:
            yield part.sqrt()[:, None] * (data[rows].double().reshape(-1, D) - mean)

    if rank is None or D <= LARGEST_DENSE:
        covariance = mean.new_zeros(D, D)
        for part in centered():
            covariance.addmm_(part.T, part)
        covariance.diagonal().add_(ridge)
        return mean, top_eigenpairs(covariance, rank)

    def moments(probe: Callable[[int], Tensor]) -> Moments:
        matrix, trace = probe(D), 0.0
        product = torch.zeros_like(matrix)
        for part in centered():
            product.addmm_(part.T, part @ matrix)
            trace += float(part.square().sum())
        return Moments(len(members), mean, trace, product)

    pairs = leading_pairs_of(moments, rank, generator, n_passes=2)
    return mean, (pairs.eigenvectors, pairs.eigenvalues + ridge, pairs.tail_variance + ridge)
