r"""The exact models that a trained denoiser is compared with, from the least to the most detailed.

- isotropic: N(mean, s^2 I), with the mean and the scale of the data;
- Gaussian: N(mean, covariance), with the correlation of every pair of coordinates;
- mixture: Gaussians around the clusters of the data;
- empirical: the training examples themselves, whose denoiser is the exact optimum of the training loss and only
  reproduces them.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from diffuscope.errors import InputError
from diffuscope.exact import Distribution, Empirical, Gaussian, GaussianMixture

FEW_DIMENSIONS = 1024  # beyond, the Gaussian of samples alone has the covariance of some examples
SOME_EXAMPLES, SOME_COMPONENTS = 2000, 256
LARGEST_DIMENSION = 4096  # a dense covariance of this size takes 134 MB and under a minute to diagonalize
MIXTURE_RANK = 64
FIT_BATCH = 4096
CONTROL_EXAMPLES_PER_COMPONENT = 50


@dataclass(frozen=True, eq=False)
class References:
    """The four exact models of the training data, and the empirical one of the held-out data.

    `control` is the Gaussian truncated to so few components that it cannot memorize examples.
    """

    gaussian: Gaussian
    control: Gaussian
    mixture: GaussianMixture
    models: dict[str, Distribution]
    train: Empirical
    heldout: Empirical

    @property
    def mean(self) -> Tensor:
        """The mean of the training data, float32."""
        return self.gaussian.mean.float()


def fit_references(
    train: Float[Tensor, "n *event"],
    heldout: Float[Tensor, "m *event"],
    components: int,
    generator: torch.Generator,
) -> References:
    """Fit every exact model to the training data; InputError for more than LARGEST_DIMENSION coordinates."""
    dimension = train[0].numel()
    if dimension > LARGEST_DIMENSION:
        raise InputError(
            f"data: expected at most {LARGEST_DIMENSION} coordinates per example (a dense covariance), got {dimension}"
        )
    gaussian = Gaussian.fit(train.split(FIT_BATCH))
    mixture = GaussianMixture.fit_kmeans(
        train,
        min(components, len(train)),
        rank=min(MIXTURE_RANK, dimension),
        ridge=1e-4 * gaussian.trace / dimension,
        generator=generator,
    )
    empirical = Empirical(train)
    models: dict[str, Distribution] = {
        "isotropic": Gaussian.isotropic(gaussian.mean, gaussian.trace / dimension),
        "Gaussian": gaussian,
        "mixture": mixture,
        "empirical": empirical,
    }
    control = gaussian.truncate(max(1, min(16, dimension, len(train) // CONTROL_EXAMPLES_PER_COMPONENT)))
    return References(gaussian, control, mixture, models, empirical, Empirical(heldout))


def fit_gaussian(train: Float[Tensor, "n *event"], generator: torch.Generator) -> Gaussian:
    r"""The Gaussian of the training data, for samples alone: of any dimension.

    Beyond FEW_DIMENSIONS coordinates its covariance is that of n = SOME_EXAMPLES random ones, with the leading
    SOME_COMPONENTS eigenvectors X^T u / sqrt(n lambda) from the n x n eigenproblem X X^T u = n lambda u.
    """
    dimension = train[0].numel()
    if dimension <= FEW_DIMENSIONS:
        return Gaussian.fit(train.split(FIT_BATCH))
    some = train[torch.randperm(len(train), generator=generator)[:SOME_EXAMPLES]].double().flatten(1)
    mean = some.mean(0)
    centered = some - mean
    values, vectors = torch.linalg.eigh(centered @ centered.T / len(some))
    kept = min(SOME_COMPONENTS, len(some) - 1)
    variances, scores = values.flip(0)[:kept].clamp(min=0), vectors.flip(1)[:, :kept]
    directions = torch.linalg.qr(centered.T @ scores).Q  # orthogonal already, up to rounding and signs
    rest = float(values.clamp(min=0).sum() - variances.sum()) / (dimension - kept)
    return Gaussian(mean.reshape(train.shape[1:]), directions, variances, rest, len(some))


def component_bands(dimension: int) -> Int[Tensor, " dimension"]:
    """The octave of every principal component: 1 | 2-3 | 4-7 | 8-15 | ..."""
    return torch.arange(1, dimension + 1).double().log2().floor().long()


def band_names(dimension: int) -> list[str]:
    """The names of `component_bands` in figures."""
    octaves = int(component_bands(dimension).max()) + 1
    ends = [(2**k, min(2 ** (k + 1) - 1, dimension)) for k in range(octaves)]
    return [str(a) if a == b else f"{a}-{b}" for a, b in ends]
