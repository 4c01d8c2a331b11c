r"""Random draws around a denoised value: of the clean example itself, and of Gaussian noise with its covariance.

.. math::
    x_0 \sim p(x_0 \mid x_t), \qquad
    \xi \sim N(0, \mathrm{Cov}(x_0 \mid x_t)) .

No matrix is formed where the posterior is a sum. For points of weights w_i, for Gaussian components of weights w_j,
means m_j and covariances S_j, with independent standard normal z,

.. math::
    \xi = \sum_i \sqrt{w_i}\, z_i\, (y_i - D), \qquad
    \xi = \sum_j \sqrt{w_j} \left(S_j^{1/2} z_j + z_j' (m_j - D)\right)

have exactly that covariance. A point is drawn by Gumbel's maximum, :math:`\arg\max_i (\log w_i + G_i)`, which needs the
weights in chunks only. Any other distribution's :math:`\xi` comes from the eigenvalues of its dense covariance.
"""

import torch
from torch import Tensor

from diffuscope.errors import InputError

from ._posterior import Posterior, _heavy_differences
from ._weighted_sums import weighted_sum
from .distribution import Batch, Distribution, Level, PosteriorCovariance
from .empirical import Empirical, EmpiricalCovariance
from .gaussian import Gaussian, GaussianPosteriorCovariance
from .mixture import GaussianMixture, MixturePosteriorCovariance
from .spectral import Spectrum

LARGEST_DENSE = 1024  # coordinates, for a covariance that is known as an operator only


def posterior_sample(
    distribution: Distribution, x_t: Batch, alpha: Level, sigma: Level, *, generator: torch.Generator
) -> Batch:
    """One independent draw of x_0 given every x_t, in its dtype.

    Of a finite data set, a Gaussian or a mixture of Gaussians; InputError for another distribution, and for x_t and
    levels as in `denoise`. Memory: that of `posterior_covariance`.

    >>> import torch
    >>> from diffuscope.exact import Empirical, posterior_sample
    >>> points = Empirical(torch.tensor([[-1.0], [1.0]], dtype=torch.float64), torch.tensor([1.0, 3.0]))
    >>> x_t, g = torch.full((4000, 1), 3.0, dtype=torch.float64).log(), torch.Generator().manual_seed(0)
    >>> drawn = posterior_sample(points, x_t, alpha=2.0, sigma=2.0, generator=g)  # -1 or 1, with odds 1 to 9
    >>> drawn.unique().tolist(), abs(drawn.mean().item() - 0.8) < 5 * 0.6 / 4000**0.5  # the standard error
    ([-1.0, 1.0], True)
    """
    if isinstance(distribution, Empirical):
        covariance = distribution.posterior_covariance(x_t, alpha, sigma)
        drawn = torch.empty(len(x_t), x_t[0].numel(), dtype=torch.float64, device=x_t.device)
        for rows, part in covariance.parts:
            drawn[rows] = part.table.points[_gumbel_maximum(part, generator)].double()
        return drawn.reshape(x_t.shape).to(x_t.dtype)
    if isinstance(distribution, Gaussian):
        covariance = distribution.posterior_covariance(x_t, alpha, sigma)
        return distribution.denoise(x_t, alpha, sigma) + _gaussian_noise(covariance, x_t, generator)
    if isinstance(distribution, GaussianMixture):
        covariance = distribution.posterior_covariance(x_t, alpha, sigma)
        return distribution.denoise(x_t, alpha, sigma) + _mixture_deviation(covariance, x_t, generator)
    kinds = "a finite data set, a Gaussian or a mixture of Gaussians"
    raise InputError(f"distribution: expected {kinds} to draw x_0 from, got {type(distribution).__name__}")


def posterior_noise(covariance: PosteriorCovariance, x_t: Batch, *, generator: torch.Generator) -> Batch:
    """One draw of N(0, Cov(x_0 | x_t)) for every x_t, of which `covariance` is the operator; in its dtype.

    A covariance that is neither of points nor of Gaussians is made dense: batch x d x d numbers and d products.
    Raises InputError for one of more than 1,024 coordinates.

    >>> import torch
    >>> from diffuscope.exact import Gaussian, posterior_noise
    >>> x_t, g = torch.zeros(4000, 1, dtype=torch.float64), torch.Generator().manual_seed(0)
    >>> covariance = Gaussian.isotropic(torch.ones(1), 3.0).posterior_covariance(x_t, alpha=2.0, sigma=2.0)
    >>> drawn = posterior_noise(covariance, x_t, generator=g)  # of variance 3 * 4 / (4 * 3 + 4), by its standard error
    >>> abs(drawn.var().item() - 0.75) < 5 * 0.75 * (2 / 4000) ** 0.5
    True
    """
    if isinstance(covariance, EmpiricalCovariance):
        drawn = torch.empty(len(x_t), x_t[0].numel(), dtype=torch.float64, device=x_t.device)
        for rows, part in covariance.parts:
            drawn[rows] = _points_noise(part, generator)
        return drawn.reshape(x_t.shape).to(x_t.dtype)
    if isinstance(covariance, GaussianPosteriorCovariance):
        return _gaussian_noise(covariance, x_t, generator)
    if isinstance(covariance, MixturePosteriorCovariance):
        return _mixture_noise(covariance, x_t, generator)
    values, vectors = torch.linalg.eigh(dense_covariance(covariance, x_t))
    white = _normal((*values.shape, 1), x_t, generator)
    return (vectors @ (values.clamp_min(0).sqrt()[..., None] * white))[..., 0].reshape(x_t.shape).to(x_t.dtype)


def dense_covariance(covariance: PosteriorCovariance, x_t: Batch) -> Tensor:
    """The matrices of an operator, (batch, d, d) in float64, by d products. InputError beyond 1,024 coordinates.

    >>> import torch
    >>> from diffuscope.exact import Gaussian, dense_covariance
    >>> data = Gaussian.from_covariance(torch.zeros(2), torch.tensor([[2.0, 1.0], [1.0, 2.0]]))  # eigenvalues 3 and 1
    >>> x_t = torch.ones(1, 2, dtype=torch.float64)
    >>> dense_covariance(data.posterior_covariance(x_t, alpha=2.0, sigma=2.0), x_t)  # eigenvalues 3/4 and 1/2
    tensor([[[0.6250, 0.1250],
             [0.1250, 0.6250]]], dtype=torch.float64)
    """
    d = x_t[0].numel()
    if d > LARGEST_DENSE:
        raise InputError(f"x_t: expected at most {LARGEST_DENSE} coordinates for dense matrices, got {d}")
    units = torch.eye(d, dtype=torch.float64, device=x_t.device)
    columns = [covariance.matvec(unit.expand(len(x_t), d).reshape(x_t.shape)).reshape(-1, d) for unit in units]
    matrix = torch.stack(columns, 2).double()
    return (matrix + matrix.mT) / 2


def _normal(shape: tuple[int, ...], like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=generator, device=generator.device).to(like.device)


def _points_noise(part: Posterior, generator: torch.Generator) -> Tensor:
    """sum_i sqrt(w_i) z_i (y_i - D), as differences to the heaviest point, where nothing cancels."""
    reference = part.reference()
    roots = part.weights.sqrt() * _normal(tuple(part.weights.shape), reference, generator)
    total, first = torch.zeros_like(part.mean), roots.sum(1)
    for rows, values, differences in _heavy_differences(part.table, part.heavy, roots):
        total.index_add_(0, rows, values[:, None] * differences)
    for rows, weights, points in part.light_weights():
        roots = weights.sqrt() * _normal(tuple(weights.shape), weights, generator).to(weights.dtype)
        sums = roots.sum(1, dtype=torch.float64)
        total[rows] += weighted_sum(roots.T, points) - sums[:, None] * reference[rows]
        first[rows] += sums
    return total - (part.mean - reference) * first[:, None]


def _gumbel_maximum(part: Posterior, generator: torch.Generator) -> Tensor:
    """The index of one point per row, drawn by its weight: the chunks of light points follow each other from 0."""
    value, column = (part.weights.log() + _gumbel(part.weights, generator)).max(1)
    index = part.heavy.gather(1, column[:, None])[:, 0]
    start = 0
    for rows, weights, points in part.light_weights():
        best, column = (weights.double().log() + _gumbel(weights, generator)).max(1)
        better = best > value[rows]
        value[rows] = torch.where(better, best, value[rows])
        index[rows] = torch.where(better, column + start, index[rows])
        start += len(points)
    return index


def _gumbel(like: Tensor, generator: torch.Generator) -> Tensor:
    uniform = torch.rand(like.shape, dtype=torch.float64, generator=generator, device=generator.device)
    return -(-uniform.clamp_min(torch.finfo(torch.float64).tiny).log()).log().to(like.device)


def _gaussian_noise(covariance: GaussianPosteriorCovariance, x_t: Tensor, generator: torch.Generator) -> Tensor:
    gaussian = covariance.gaussian
    variances, tail = covariance._variances()
    white = _normal((len(x_t), 1, gaussian.dimension), x_t, generator)
    return gaussian._spectrum.apply(white, variances.sqrt(), tail.sqrt()).reshape(x_t.shape).to(x_t.dtype)


def _mixture_noise(covariance: MixturePosteriorCovariance, x_t: Tensor, generator: torch.Generator) -> Tensor:
    spectrum, drawn = covariance.mixture._spectrum, []
    for _, weights, deviations, within, within_tail in covariance._parts():
        between = _normal(tuple(weights.shape), x_t, generator)[..., None] * deviations
        inside = _inside(spectrum, within, within_tail, deviations, generator)
        drawn.append(torch.einsum("bk,bkd->bd", weights.sqrt(), between + inside))
    return torch.cat(drawn).reshape(x_t.shape).to(x_t.dtype)


def _mixture_deviation(covariance: MixturePosteriorCovariance, x_t: Tensor, generator: torch.Generator) -> Tensor:
    """x_0 - D: a component by its weight, and a draw from its posterior."""
    spectrum, drawn = covariance.mixture._spectrum, []
    for _, weights, deviations, within, within_tail in covariance._parts():
        component = (weights.log() + _gumbel(weights, generator)).argmax(1)
        inside = _inside(spectrum, within, within_tail, deviations, generator)
        drawn.append((deviations + inside)[torch.arange(len(component)), component])
    return torch.cat(drawn).reshape(x_t.shape).to(x_t.dtype)


def _inside(
    spectrum: Spectrum, within: Tensor, within_tail: Tensor, like: Tensor, generator: torch.Generator
) -> Tensor:
    """S_j^{1/2} z for every sample and component; zero without drawing where all components are points."""
    if not bool(within.any()) and not bool(within_tail.any()):
        return torch.zeros_like(like)
    return spectrum.apply(_normal(tuple(like.shape), like, generator), within.sqrt(), within_tail.sqrt())
