r"""The Gaussian of the training data: of all principal components, or of the leading ones with a tail.

Up to LARGEST_DENSE dimensions it has the whole covariance. Above, no D x D matrix is formed: k leading eigenpairs come
from two passes over the data (`exact.streaming`), and all other directions share the variance that is left,

.. math::  \Sigma \approx U \Lambda U^T + \tau (I - U U^T), \qquad
           \tau = \frac{\operatorname{tr}\Sigma - \sum_{i \le k} \lambda_i}{D - k} .

The trace is exact, and so is everything where n examples have k + 1 > n. Of all Gaussians with these eigenvectors this
one has the best denoiser: at every noise level its error on the data is

.. math::  \sum_{i \le k} \frac{\lambda_i\rho^2}{\lambda_i + \rho^2} + (D - k) \frac{\tau\rho^2}{\tau + \rho^2} ,

an upper bound of the error of the Gaussian with the whole covariance, because the terms are concave in the variances. A
denoiser that beats the truncated Gaussian may therefore know no more than the whole covariance.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from diffuscope.exact import Gaussian, leading_pairs
from diffuscope.exact.spectral import LARGEST_DENSE
from diffuscope.memory import chunk_size

PAIRS = 256  # leading eigenpairs above LARGEST_DENSE dimensions, at most
PAIR_NUMBERS = 2**24  # numbers in all eigenvectors: fitting them takes 9 times as many in float64
EXAMPLE_NUMBERS = 2**30  # numbers in the examples that a fit reads
BATCH_NUMBERS = 2**23  # numbers in one batch: 64 MB in float64
CONVERGED = 0.01  # share of an eigenvalue that the last half iteration added, below which it has converged


@dataclass(frozen=True, kw_only=True)
class Truncation:
    """What a truncated Gaussian holds: its eigenpairs, their share of the variance, and how many have converged."""

    pairs: int
    dimension: int
    share: float
    converged: int
    examples: int

    @property
    def name(self) -> str:
        """What it is, where it stands for a Gaussian."""
        return f"a Gaussian of {self.pairs} principal components, with one variance for the rest,"

    def __str__(self) -> str:
        settled = "all" if self.converged == self.pairs else f"{self.converged}"
        return (
            f"In {self.dimension:,} dimensions the Gaussian has the {self.pairs} leading principal components of "
            f"{self.examples:,} examples ({self.share:.1%} of their variance; {settled} of them converged to "
            f"{CONVERGED:.0%}) and one variance for the other {self.dimension - self.pairs:,} directions. The whole "
            "covariance would denoise better: what this Gaussian leaves unexplained, mean and covariance may explain."
        )


def fit_gaussian(train: Float[Tensor, "n *event"], generator: torch.Generator) -> tuple[Gaussian, Truncation | None]:
    """The Gaussian of the training data, and what was truncated; None where it has the whole covariance.

    So it has also in many dimensions, of few examples: n of them span n - 1 dimensions.
    """
    dimension = train[0].numel()
    if dimension <= LARGEST_DENSE:
        return Gaussian.fit(train.split(batch_size(dimension))), None
    chosen = fitted_examples(len(train), dimension, generator)
    count = len(train) if chosen is None else len(chosen)
    pairs = leading_pairs(
        lambda: batches(train, chosen),
        kept_pairs(count, dimension),
        generator=generator,
    )
    gaussian = Gaussian.of_leading(pairs)
    if count == len(train) <= len(pairs.eigenvalues) + 1:
        return replace(gaussian, tail_variance=0.0), None
    return gaussian, Truncation(
        pairs=len(pairs.eigenvalues),
        dimension=dimension,
        share=float(pairs.eigenvalues.sum()) / pairs.trace if pairs.trace else 1.0,
        converged=int((pairs.last_gain < CONVERGED).long().cumprod(0).sum()),
        examples=count,
    )


def kept_pairs(n: int, dimension: int) -> int:
    """How many eigenpairs of n examples are kept."""
    return max(1, min(PAIRS, PAIR_NUMBERS // dimension, n - 1))


def batch_size(dimension: int) -> int:
    """How many examples a fit reads at a time."""
    return min(4096, chunk_size(BATCH_NUMBERS, each=dimension))


def fitted_examples(n: int, dimension: int, generator: torch.Generator) -> Int64[Tensor, " chosen"] | None:
    """The places of random examples that a fit reads, increasing; None for all."""
    most = max(2, EXAMPLE_NUMBERS // dimension)
    return None if n <= most else torch.randperm(n, generator=generator)[:most].sort().values


def batches(
    train: Float[Tensor, "n *event"], chosen: Int64[Tensor, " chosen"] | None
) -> Iterator[Float[Tensor, "_ *event"]]:
    """The chosen examples, or all, some at a time."""
    size = batch_size(train[0].numel())
    yield from train.split(size) if chosen is None else (train[part] for part in chosen.split(size))
