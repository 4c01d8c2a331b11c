r"""The exact models that a trained denoiser is compared with, from the least to the most detailed.

- isotropic: N(mean, s^2 I), with the mean and the scale of the data;
- Gaussian: N(mean, covariance), with the correlation of every pair of coordinates;
- mixture: Gaussians around the clusters of the data;
- empirical: the training examples themselves, whose denoiser is the exact optimum of the training loss and only
  reproduces them.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from diffuscope.errors import InputError
from diffuscope.exact import Distribution, Empirical, Gaussian, GaussianMixture
from diffuscope.exact.spectral import LARGEST_DENSE
from diffuscope.memory import chunk_size

from .data_gaussian import Truncation, batches, fit_gaussian, fitted_examples
from .nearness import kmeans

MIXTURE_RANK = 64
MIXTURE_NUMBERS = 2**26  # numbers in the eigenvectors of all components
CONTROL_EXAMPLES_PER_COMPONENT = 50


@dataclass(frozen=True, eq=False)
class References:
    """The four exact models of the training data, and the empirical one of the held-out data.

    `control` is the Gaussian truncated to so few components that it cannot memorize examples. `truncation` says what
    the Gaussian lacks of the whole covariance, if anything.

    Made by `fit_references`. Noise of deviation s shrinks deviations from the mean by lambda / (lambda + s^2):

    >>> import torch
    >>> from diffuscope.audit import fit_references
    >>> train = torch.tensor([[0.0, 0.0], [6.0, 8.0]]).repeat(10, 1)
    >>> references = fit_references(train, train, 1, torch.Generator().manual_seed(0))
    >>> x = torch.tensor([[6.0, 8.0]])
    >>> for name in ("isotropic", "Gaussian"):  # lambda = 25 / 2 in every direction, or 25 in the one of (3, 4)
    ...     print(name, [round(value, 3) for value in references.models[name].denoise(x, 1.0, 5.0)[0].tolist()])
    isotropic [4.0, 5.333]
    Gaussian [4.5, 6.0]
    """

    gaussian: Gaussian
    control: Gaussian
    mixture: GaussianMixture
    models: dict[str, Distribution]
    train: Empirical
    heldout: Empirical
    truncation: Truncation | None = None

    @property
    def components(self) -> int | None:
        """The number of principal components of the Gaussian, where it has fewer than dimensions."""
        kept = len(self.gaussian.eigenvalues)
        return kept if kept < self.gaussian.dimension else None

    @property
    def mean(self) -> Tensor:
        """The mean of the training data, float32."""
        return self.gaussian.mean.float()


def fit_references(
    train: Float[Tensor, "n *event"],
    heldout: Float[Tensor, "m *shape"],
    components: int,
    generator: torch.Generator,
) -> References:
    """Fit every exact model to the training data, without a D x D matrix beyond LARGEST_DENSE coordinates.

    `components` are those of the mixture, at most as many as training examples. Raises InputError for none, for fewer
    than two training examples, for values that are not finite, and for held-out examples of another shape.

    >>> import torch
    >>> from diffuscope.audit import fit_references
    >>> train = torch.tensor([[0.0, 1.0], [0.0, 3.0], [9.0, 1.0], [9.0, 3.0]]).repeat(10, 1)
    >>> references = fit_references(train, train[:20], 2, torch.Generator().manual_seed(0))
    >>> [round(value, 6) for value in references.gaussian.eigenvalues.tolist()], references.mean.tolist()
    ([20.25, 1.0], [4.5, 2.0])
    >>> sorted(references.mixture.means.round(decimals=6).tolist())
    [[0.0, 2.0], [9.0, 2.0]]
    """
    if components < 1:
        raise InputError(f"components: expected at least 1, got {components}")
    if heldout.shape[1:] != train.shape[1:]:
        shapes = tuple(train.shape[1:]), tuple(heldout.shape[1:])
        raise InputError(f"heldout: expected examples of shape {shapes[0]} as in train, got {shapes[1]}")
    dimension = math.prod(train.shape[1:])
    gaussian, truncation = fit_gaussian(train, generator)
    mixture = _mixture(train, min(components, len(train)), gaussian, generator)
    empirical = Empirical(train)
    models: dict[str, Distribution] = {
        "isotropic": Gaussian.isotropic(gaussian.mean, gaussian.trace / dimension),
        "Gaussian": gaussian,
        "mixture": mixture,
        "empirical": empirical,
    }
    control = gaussian.truncate(max(1, min(16, dimension, len(train) // CONTROL_EXAMPLES_PER_COMPONENT)))
    return References(gaussian, control, mixture, models, empirical, Empirical(heldout), truncation)


def _mixture(
    train: Float[Tensor, "n *event"], components: int, gaussian: Gaussian, generator: torch.Generator
) -> GaussianMixture:
    """Around the clusters of k-means; in many dimensions of the principal components, and of examples that suffice."""
    dimension = gaussian.dimension
    rank = min(MIXTURE_RANK, dimension, chunk_size(MIXTURE_NUMBERS, each=components * dimension))
    ridge = 1e-4 * gaussian.trace / dimension
    if dimension <= LARGEST_DENSE:
        return GaussianMixture.fit_kmeans(train, components, rank=rank, ridge=ridge, generator=generator)
    chosen = fitted_examples(len(train), dimension, generator)
    coordinates = torch.cat([principal_coordinates(part, gaussian) for part in batches(train, chosen)])
    seed = int(torch.randint(2**31 - 1, (1,), generator=generator))
    clusters = torch.from_numpy(kmeans(coordinates, min(components, len(coordinates)), seed)(coordinates))
    labels = torch.full((len(train),), -1)
    labels[torch.arange(len(train)) if chosen is None else chosen] = clusters
    return GaussianMixture.fit_clusters(train, labels, rank=rank, ridge=ridge, generator=generator)


def principal_coordinates(x: Float[Tensor, "n *event"], gaussian: Gaussian) -> Float[Tensor, "n k"]:
    """u_k^T (x - mu) along the eigenvectors of `gaussian`, float32."""
    return ((x.double() - gaussian.mean).flatten(1) @ gaussian.eigenvectors).float()


def component_bands(components: int) -> Int[Tensor, " components"]:
    """The octave of every principal component: 1 | 2-3 | 4-7 | 8-15 | ..."""
    return torch.arange(1, components + 1).double().log2().floor().long()


def band_names(components: int) -> list[str]:
    """The names of `component_bands` in figures."""
    octaves = int(component_bands(components).max()) + 1
    ends = [(2**k, min(2 ** (k + 1) - 1, components)) for k in range(octaves)]
    return [str(a) if a == b else f"{a}-{b}" for a, b in ends]
