r"""What a finite sample does to a fitted Gaussian: its denoiser is, on average, that of a higher noise level.

Of n examples of N(mu, Sigma) let :math:`\hat\Sigma` be the sample covariance (1/n), and let
:math:`\hat D = \hat\mu + \hat\Sigma(\hat\Sigma + \tilde\sigma^2)^{-1}(y - \hat\mu)` be the denoiser of the fitted
Gaussian at :math:`y = x_t/\alpha`, :math:`\tilde\sigma = \sigma/\alpha`. For large n and D, at any ratio, and with
:math:`d_p(\kappa) = \sum_k \lambda_k^p/(\lambda_k + \kappa)^p`,

.. math::
    E\hat D &\simeq \mu + \Sigma(\Sigma + \kappa)^{-1}(y - \mu), \qquad
    \kappa = \frac{n\,\tilde\sigma^2}{n - 1 - d_1(\kappa)}, \\
    \mathrm{Var}[v^T\hat D] &\simeq \frac{\kappa^2}{n - 1 - d_2(\kappa)}
        \left[\Diamond(v, v)\,(1 + \Diamond(y - \mu, y - \mu)) + \Diamond(v, y - \mu)^2\right], \qquad
    \Diamond(u, v) = u^T\Sigma(\Sigma + \kappa)^{-2}v .

Where the mean is known, n - 1 is n, which makes :math:`\kappa - \tilde\sigma^2 = \kappa\,d_1(\kappa)/n`, and the 1 in
brackets, the error of the mean, is 0. For most v the last term is small; for v along y - mu it doubles the variance.
The degrees of freedom of the sample spectrum at :math:`\tilde\sigma^2` are on average those of Sigma at kappa, so that
kappa is known from the sample alone: it is :math:`n\tilde\sigma^2/(n - 1 - \hat d_1(\tilde\sigma^2))`.

**The rule for too few examples.** A Gaussian is used at levels where the inflation
:math:`\kappa/\tilde\sigma^2 - 1 = (1 + \hat d_1)/(n - 1 - \hat d_1)` is at most INFLATION, 10 %.

Few examples also spread the eigenvalues. Shrinkage toward the mean variance m = tr Sigma / D,
:math:`(1 - \rho)\hat\Sigma + \rho m I`, takes this back; for Gaussian data the oracle approximating rho is

.. math::  \rho = \min\left(1, \frac{(1 - 2/D)\,\mathrm{tr}\hat\Sigma^2 + \mathrm{tr}^2\hat\Sigma}
                 {(n + 1 - 2/D)(\mathrm{tr}\hat\Sigma^2 - \mathrm{tr}^2\hat\Sigma/D)}\right) .

Sources: arXiv:2602.02908, for a known mean and without the last term of the variance; both
additions are ours, tested against simulation.
Shrinkage: Chen, Wiesel, Eldar & Hero 2010 (arXiv:0907.4698), equation 23.
"""

import math
from collections.abc import Callable
from typing import Any

import scipy  # its subpackages are loaded when they are first used
import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.errors import InputError

from .distribution import Batch
from .gaussian import Gaussian

INFLATION = 0.1
WIDEST = 1e6  # levels searched, in units of the largest standard deviation


def degrees_of_freedom(population: Gaussian, kappa: float | int, power: int = 1) -> float:
    """d_p(kappa), the effective degrees of freedom: sum over k of (lambda_k / (lambda_k + kappa))^power; kappa > 0.

    >>> import torch
    >>> from diffuscope.exact import Gaussian, degrees_of_freedom
    >>> population = Gaussian(torch.zeros(3), torch.eye(3)[:, :1], torch.tensor([6.0]), tail_variance=2.0)
    >>> degrees_of_freedom(population, 2.0), degrees_of_freedom(population, 2.0, 2)  # 3/4 + 1/2 + 1/2, 9/16 + 1/4 + 1/4
    (1.75, 1.0625)
    """
    spectrum = population.variances
    return float(((spectrum / (spectrum + kappa)) ** power).sum())


def effective_variance(population: Gaussian, n: int, variance: float | int, *, known_mean: bool = False) -> float:
    """kappa: the denoiser fitted to n examples of `population`, at noise `variance`, is on average that at kappa.

    Raises InputError unless n >= 2 and variance > 0.

    >>> import torch
    >>> from diffuscope.exact import Gaussian, effective_variance
    >>> population = Gaussian(torch.zeros(2), torch.eye(2)[:, :1], torch.tensor([6.0]), tail_variance=2.0)
    >>> round(effective_variance(population, 6, 1.25), 6)  # d_1(2) = 3/4 + 1/2: 6 * 1.25 / (6 - 1 - 1.25)
    2.0
    >>> round(effective_variance(population, 5, 1.5, known_mean=True), 6)  # 5 * 1.5 / (5 - 1.25)
    2.0
    """
    free = _degrees(n, variance, known_mean)

    def excess(kappa: float) -> float:
        return kappa * (1 - degrees_of_freedom(population, kappa) / free) - variance * n / free

    # kappa d1(kappa) <= tr Sigma
    highest = (population.trace + variance * n) / free
    return _root(excess, variance * n / free, 2 * highest, 1e-14 * variance)


def inflation(fitted: Gaussian, noise_to_signal: float | int) -> float:
    """kappa / sigma^2 - 1 at the level sigma/alpha = `noise_to_signal`, from the sample spectrum alone.

    Infinite where the sample spectrum has no degree of freedom left. Raises InputError for a Gaussian that was not
    fitted (no `count`) and for a level that is not positive.

    >>> import torch
    >>> from diffuscope.exact import Gaussian, inflation
    >>> fitted = Gaussian(torch.zeros(2), torch.eye(2), torch.tensor([12.0, 4.0]), count=6)
    >>> round(inflation(fitted, 2.0), 6)  # d_1(4) = 3/4 + 1/2: (1 + 1.25) / (6 - 1 - 1.25)
    0.6
    """
    n, variance = _count(fitted), float(noise_to_signal) ** 2
    left = _degrees(n, variance, known_mean=False) - _sample_degrees(fitted, n, variance)
    return (n - left) / left if left > 0 else math.inf


def reliable_from(fitted: Gaussian, most: float = INFLATION) -> float:
    """The lowest level sigma/alpha from which on the inflation is at most `most`; 0 if it is so at every level.

    Infinite if it is so at none, for 11 examples and fewer by default. Raises InputError for a Gaussian that was not
    fitted.

    >>> import torch
    >>> from diffuscope.exact import Gaussian, reliable_from
    >>> fitted = Gaussian(torch.zeros(2), torch.eye(2), torch.tensor([9.0, 9.0]), count=22)
    >>> round(reliable_from(fitted), 6)  # d_1(3^2) = 1: (1 + 1) / (22 - 1 - 1) = 0.1
    3.0
    """
    scale = _largest(fitted)
    if scale == 0 or inflation(fitted, scale / WIDEST) <= most:
        return 0.0
    if inflation(fitted, scale * WIDEST) > most:
        return math.inf

    def excess(log_level: float) -> float:
        return math.atan(inflation(fitted, math.exp(log_level))) - math.atan(most)  # finite, where all is inflated

    return math.exp(_root(excess, math.log(scale / WIDEST), math.log(scale * WIDEST), 1e-10))


def too_few_examples(fitted: Gaussian, noise_to_signal: float | int | None = None) -> str | None:
    """One line if the sample is too small for use at the level, by the rule above; None if it is large enough.

    The level is by default the largest standard deviation of the data: above it every Gaussian is nearly isotropic.

    >>> import torch
    >>> from diffuscope.exact import Gaussian, too_few_examples
    >>> fitted = Gaussian(torch.zeros(2), torch.eye(2), torch.tensor([9.0, 9.0]), count=22)
    >>> print(too_few_examples(fitted, noise_to_signal=1.0))  # d_1(1) = 1.8: (1 + 1.8) / (21 - 1.8) = 0.146
    22 examples are too few for 2 dimensions at noise 1: ...variance 1.15 times as large; use it from noise 3 on
    >>> print(too_few_examples(fitted, noise_to_signal=3.1))
    None
    """
    n, level = _count(fitted), _largest(fitted) if noise_to_signal is None else noise_to_signal
    if level == 0 or (found := inflation(fitted, level)) <= INFLATION:
        return None
    lowest = reliable_from(fitted)
    end = f"use it from noise {lowest:.3g} on" if math.isfinite(lowest) else "no level is high enough for so few"
    return (
        f"{n:,} examples are too few for {fitted.dimension:,} dimensions at noise {level:.3g}: the denoiser of this "
        f"Gaussian is that of a noise variance {1 + found:.3g} times as large; {end}"
    )


def expected_denoised(
    population: Gaussian, n: int, y: Batch, noise_to_signal: float | int, *, known_mean: bool = False
) -> Batch:
    """E of the denoiser fitted to n examples of `population`, at y = x_t/alpha: that of `population` at kappa.

    Raises InputError as `effective_variance`.

    >>> import torch
    >>> from diffuscope.exact import Gaussian, expected_denoised
    >>> population = Gaussian(torch.tensor([1.0, 0.0]), torch.eye(2)[:, :1], torch.tensor([6.0]), tail_variance=2.0)
    >>> D = expected_denoised(population, 6, torch.tensor([[3.0, -1.0]]), noise_to_signal=1.25**0.5)
    >>> [round(value, 6) for value in D[0].tolist()]  # kappa = 2: 1 + 6/8 (3 - 1), 2/4 (-1)
    [2.5, -0.5]
    """
    kappa = effective_variance(population, n, float(noise_to_signal) ** 2, known_mean=known_mean)
    return population.denoise(y, 1.0, kappa**0.5)


def denoised_variance(
    population: Gaussian, n: int, v: Batch, y: Batch, noise_to_signal: float | int, *, known_mean: bool = False
) -> Float[Tensor, " batch"]:
    """Var[v^T D] of the denoiser fitted to n examples of `population`, at y = x_t/alpha.

    Raises InputError as `effective_variance`.

    >>> import torch
    >>> from diffuscope.exact import Gaussian, denoised_variance
    >>> population = Gaussian(torch.tensor([1.0, 0.0]), torch.eye(2)[:, :1], torch.tensor([6.0]), tail_variance=2.0)
    >>> v, y = torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, -1.0]])
    >>> variance = denoised_variance(population, 6, v, y, noise_to_signal=1.25**0.5)  # kappa = 2, d_2 = 9/16 + 1/4
    >>> round(variance.item(), 6)  # 4 / (5 - 13/16) * [19/32 (1 + 1/2) + (1/16)^2], with weights 6/8^2 and 2/4^2
    0.854478
    """
    variance = float(noise_to_signal) ** 2
    kappa = effective_variance(population, n, variance, known_mean=known_mean)
    spectrum, tail = population.eigenvalues, population.tail_variance

    def diamond(u: Tensor, v: Tensor) -> Float[Tensor, " batch"]:
        weights, weight = spectrum / (spectrum + kappa) ** 2, tail / (tail + kappa) ** 2
        along = (u @ population.eigenvectors) * (v @ population.eigenvectors)
        return along @ (weights - weight) + weight * (u * v).sum(1)

    rows, e = v.double().flatten(1), (y.double() - population.mean).flatten(1)
    of_mean = 0.0 if known_mean else 1.0
    factor = kappa**2 / (_degrees(n, variance, known_mean) - degrees_of_freedom(population, kappa, 2))
    return factor * (diamond(rows, rows) * (of_mean + diamond(e, e)) + diamond(rows, e) ** 2)


def shrinkage(fitted: Gaussian) -> float:
    """The oracle approximating rho. At low rank tr Sigma^2 counts the tail as constant, which makes rho larger.

    Raises InputError for a Gaussian that was not fitted.

    >>> import torch
    >>> from diffuscope.exact import Gaussian, shrinkage
    >>> fitted = Gaussian(torch.zeros(4), torch.eye(4)[:, :1], torch.tensor([5.0]), tail_variance=1.0, count=20)
    >>> round(shrinkage(fitted), 6)  # tr Sigma = 8, tr Sigma^2 = 28: (28/2 + 64) / ((21 - 1/2) (28 - 64/4))
    0.317073
    """
    n, D, trace = _count(fitted), fitted.dimension, fitted.trace
    squares = float((fitted.variances**2).sum())
    anisotropy = squares - trace**2 / D
    if anisotropy <= 0:
        return 1.0
    return min(1.0, ((1 - 2 / D) * squares + trace**2) / ((n + 1 - 2 / D) * anisotropy))


def shrunk(fitted: Gaussian, rho: float | None = None) -> Gaussian:
    """The Gaussian of the covariance (1 - rho) Sigma + rho (tr Sigma / D) I, by default with `shrinkage`.

    Raises InputError for a rho outside 0 .. 1, and by default as `shrinkage`.

    >>> import torch
    >>> from diffuscope.exact import Gaussian, shrunk
    >>> fitted = Gaussian(torch.zeros(4), torch.eye(4)[:, :1], torch.tensor([5.0]), tail_variance=1.0, count=20)
    >>> result = shrunk(fitted, 0.25)  # toward 8/4
    >>> result.eigenvalues.tolist(), result.tail_variance, result.count
    ([4.25], 1.25, 20)
    """
    rho = shrinkage(fitted) if rho is None else rho
    if not 0 <= rho <= 1:
        raise InputError(f"rho: expected 0 .. 1, got {rho}")
    variance = fitted.trace / fitted.dimension
    return Gaussian(
        fitted.mean,
        fitted.eigenvectors,
        (1 - rho) * fitted.eigenvalues + rho * variance,
        (1 - rho) * fitted.tail_variance + rho * variance,
        fitted.count,
        fitted.data_range,
    )


def _root(excess: Callable[[float], float], low: float, high: float, precision: float) -> float:
    root: Any = scipy.optimize.brentq(excess, low, high, xtol=precision)
    return float(root)


def _sample_spectrum(fitted: Gaussian, n: int) -> Tensor:
    """The eigenvalues with the tail, which has at most n - 1 - k of them above zero, of equal size."""
    kept = len(fitted.eigenvalues)
    tail = fitted.variances[kept:]
    rest = min(len(tail), n - 1 - kept)
    if rest <= 0:
        return fitted.eigenvalues
    return torch.cat([fitted.eigenvalues, tail.sum().expand(rest) / rest])


def _sample_degrees(fitted: Gaussian, n: int, variance: float) -> float:
    spectrum = _sample_spectrum(fitted, n)
    # a sample of n has n - 1 eigenvalues above zero, also where shrinkage has filled the others
    return min(float((spectrum / (spectrum + variance)).sum()), n - 1.0)


def _count(fitted: Gaussian) -> int:
    if fitted.count is None:
        raise InputError("fitted: expected a Gaussian fitted to examples, got one without a count")
    return fitted.count


def _degrees(n: int, variance: float | int, known_mean: bool) -> int:
    """Degrees of freedom of the sample covariance; InputError for none, and for a variance that is not positive."""
    free = n if known_mean else n - 1
    if free < 1 or not variance > 0:
        raise InputError(f"n, variance: expected at least 2 examples and a noise variance > 0, got {n}, {variance}")
    return free


def _largest(fitted: Gaussian) -> float:
    """The largest standard deviation."""
    return float(_sample_spectrum(fitted, _count(fitted)).max()) ** 0.5
