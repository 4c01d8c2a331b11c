r"""Analytic denoisers that a network is compared with, from the least to the most that is known of the data.

==============  =============================================  =======================================================
mean            :math:`D = \mu`                                 :math:`s = (\alpha\mu - x_t)/\sigma^2`
isotropic       :math:`N(\mu, v I),\ v = \mathrm{tr}\Sigma/D`   :math:`s = (\alpha\mu - x_t)/(\alpha^2 v + \sigma^2)`
Gaussian        :math:`N(\mu, \Sigma)`                          the best linear denoiser
K Gaussians     :math:`\sum_j \pi_j N(\mu_j, \Sigma_j)`         a nonlinear one that knows no examples
empirical       the training examples                           :math:`D = \sum_i w_i y_i`, the minimizer of the loss
==============  =============================================  =======================================================

The mixtures are those of Wang & Vastola 2024 (https://arxiv.org/abs/2412.09726): hard clusters of k-means (on
minibatches of 2,048 beyond 10,000 examples), their frequencies, means and covariances, a ridge, no EM. Of rank r they
keep the top r eigenpairs of every covariance and spread the rest of its variance over the other directions. (The
authors drop the rest, :math:`\lambda_\perp = 0`; at low noise a model without variance in most directions is far off.)
"""

from collections.abc import Iterator, Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.denoisers import Batch
from diffuscope.errors import InputError
from diffuscope.exact import Distribution, Empirical, Gaussian, GaussianMixture

from .network_agreement import Agreement, compared

RIDGE = 1e-5  # of the source, for data in [-1, 1]: added to every variance of a mixture
FIT_BATCH = 4096


def analytic_candidates(
    train: Float[Tensor, "n *event"],
    components: Sequence[int] = (10,),
    *,
    ridge: float = RIDGE,
    generator: torch.Generator,
) -> dict[str, Distribution]:
    """Every candidate of the table above by its name, with a mixture of each number of `components`.

    Raises InputError as `Gaussian.fit` and `GaussianMixture.fit_kmeans` do.

    >>> import torch
    >>> from diffuscope.theory import analytic_candidates
    >>> train = torch.tensor([[1.0, 0.0], [1.0, 4.0], [5.0, 0.0], [5.0, 4.0]])
    >>> models = analytic_candidates(train, components=(2,), generator=torch.Generator().manual_seed(0))
    >>> list(models)
    ['mean', 'isotropic', 'Gaussian', '2 Gaussians', 'empirical']
    >>> models["isotropic"].denoise(torch.tensor([[7.0, 6.0]]), 1.0, 2.0).tolist()  # mean (3, 2), variance 4
    [[5.0, 4.0]]
    """
    gaussian = Gaussian.fit(train.split(FIT_BATCH))
    models: dict[str, Distribution] = {
        "mean": Gaussian.isotropic(gaussian.mean, 0.0),
        "isotropic": Gaussian.isotropic(gaussian.mean, gaussian.trace / gaussian.dimension),
        "Gaussian": gaussian,
    }
    for K in components:
        models[f"{K} Gaussians"] = GaussianMixture.fit_kmeans(train, K, ridge=ridge, generator=generator)
    return models | {"empirical": Empirical(train)}


def mixtures_of(
    train: Float[Tensor, "n *event"],
    components: Sequence[int],
    ranks: Sequence[int],
    *,
    ridge: float = RIDGE,
    generator: torch.Generator,
) -> Iterator[tuple[int, int, GaussianMixture]]:
    """(K, rank, mixture) for every pair: one fit per K at the largest rank, which the smaller ones truncate.

    Memory: K D r numbers for the fit of K, and as many for a truncation. Raises InputError for a rank outside 0 .. D
    and for more components than examples.

    >>> import torch
    >>> from diffuscope.theory import mixtures_of
    >>> train = torch.tensor([[1.0, 0.0], [1.0, 4.0], [50.0, 0.0], [50.0, 8.0]])
    >>> found = list(mixtures_of(train, [2], [0, 1], ridge=0.0, generator=torch.Generator().manual_seed(0)))
    >>> [(K, rank, round(float(mixture.tail_variances.sum()), 6)) for K, rank, mixture in found]  # 4 / 2 + 16 / 2
    [(2, 0, 10.0), (2, 1, 0.0)]
    """
    D = train[0].numel()
    wrong = [rank for rank in ranks if not 0 <= rank <= D]
    if wrong or not ranks:
        raise InputError(f"ranks: expected numbers 0 .. {D} (the coordinates), got {wrong[0] if wrong else 'none'}")
    for K in components:
        whole = GaussianMixture.fit_kmeans(train, K, rank=max(ranks), ridge=ridge, generator=generator)
        for rank in ranks:
            yield K, rank, whole.truncate(rank)


def mixture_map(
    mixtures: Iterator[tuple[int, int, GaussianMixture]],
    points: Mapping[tuple[float, float], tuple[Batch, Batch]],
    mean: Float[Tensor, "*event"],
) -> dict[tuple[int, int], tuple[Agreement, ...]]:
    """The agreement of a network with every mixture, by (K, rank), at the points of every noise level.

    `points` are (x_t, D) by level (alpha, sigma), D the network's output at x_t, and the agreements are in their order.
    `mean` is that of the data.

    >>> import torch
    >>> from diffuscope.exact import GaussianMixture
    >>> from diffuscope.theory import mixture_map
    >>> one = GaussianMixture.isotropic(torch.ones(1), torch.zeros(1, 1), torch.ones(1))
    >>> x_t = torch.tensor([[2.0], [8.0]])
    >>> found = mixture_map(iter([(1, 0, one)]), {(0.5, 0.5): (x_t, 1.5 * x_t)}, mean=torch.zeros(1))
    >>> round(float(found[1, 0][0].pooled()), 6)  # D_m = 0.5 x_t / (0.25 + 0.25) = x_t: (0.5 / 1.5)^2
    0.111111
    """
    return {
        (K, rank): tuple(
            compared(x_t, denoised, [mixture.denoise(x_t, *level)], mean.to(x_t), None, *level)
            for level, (x_t, denoised) in points.items()
        )
        for K, rank, mixture in mixtures
    }
