r"""The noise of a linear denoiser that was trained by ridge regression on P noised examples.

The denoiser is :math:`D(x, t) = W\varphi(x, t)` with F features, its score
:math:`\hat s = (\alpha W\varphi - x)/\sigma^2`. The loss :math:`\tfrac12\lambda_t|\hat s - \tilde s|^2` with
:math:`\lambda_t = \sigma^2` weighs :math:`|W\varphi - x_0|^2` by :math:`\tilde\lambda = \alpha^2/\sigma^2`, and its
minimizer over P examples is

.. math::
    W = \hat A\hat G, \qquad \hat A = \frac1P\sum_n \tilde\lambda\,x_0\varphi^T, \qquad
    \hat G = \Big(\frac1P\sum_n \tilde\lambda\,\varphi\varphi^T + \rho I\Big)^{-1} .

Let :math:`\bar W = \bar A\bar G` be that of the population, :math:`\bar\Sigma = E[\tilde\lambda\varphi\varphi^T]`. To
first order :math:`W - \bar W = (\delta A - \bar W\delta\Sigma)\bar G` is a mean of P independent terms
:math:`\tilde\lambda(x_0 - \bar W\varphi)\varphi^T\bar G`; before the last factor, each has the mean
:math:`\bar A - \bar W\bar\Sigma = \rho\bar W`. With the posterior covariance :math:`C_0` and the *misfit*
:math:`r = E[x_0|x, t] - \bar W\varphi`,

.. math::
    \mathrm{Cov}(W_a, W_b) = \frac1P\,\bar G\,\Big\{
        E\big[\tilde\lambda^2 (C_{0,ab} + r_a r_b)\,\varphi\varphi^T\big] - \rho^2\,\bar W_a^T\bar W_b\Big\}\,\bar G,

.. math::
    \mathrm{Cov}(\hat s_a(x, t), \hat s_b(y, u)) = \frac{\alpha_t\alpha_u}{\sigma_t^2\sigma_u^2}\,
        \varphi(x, t)^T\,\mathrm{Cov}(W_a, W_b)\,\varphi(y, u) .

The field is drawn once per training run: its noise is *quenched*. For features that express the posterior mean, without
a ridge, r and rho vanish (`expressive`). With the covariance :math:`C = \alpha^2 C_0/\sigma^4` of the noisy target,
:math:`\psi = \alpha\varphi/\sigma^2` and :math:`k = \psi^T\bar\Sigma^{-1}\psi'/F`, the rest is the published
:math:`\mathrm{Cov}\,\hat s = (F/P)\,F\,E''[\lambda''^2\,k(\cdot, '')\,C''\,k('', \cdot)]`: C, filtered by the features.

**Validity.** This is the first order in 1/P. The next one is governed by the leverage
:math:`\ell = \tilde\lambda\varphi^T\bar G\varphi` of an example: relative to the first it has the size

.. math::  F_{\mathrm{eff}}/P, \qquad F_{\mathrm{eff}} = E[\ell^2]/E[\ell],

which for equal leverages is the ridge's degrees of freedom :math:`E\,\ell = \mathrm{tr}\,\bar\Sigma\bar G \le F` and
more where few examples at small times carry the weight. At F = 256 bumps simulations have 1.4, 1.1 and 1.01 times the
variance of the first order at P/F = 4, 16 and 64, where F_eff/P = 0.52, 0.13 and 0.03. It is trusted for P >= 16 F and
F_eff <= P/5 only, and every result says where it is.

Source: Vastola 2025, *Generalization through variance*, https://arxiv.org/abs/2504.12532 (Proposition 5.1, for r = 0
and rho = 0); r and rho are derived here.
"""

import math
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.checked_numbers import require_count
from diffuscope.errors import InputError
from diffuscope.exact import Distribution
from diffuscope.schedules import Schedule

from .feature_moments import FeatureMoments, feature_moments
from .features import Features
from .linear_ensemble import LinearEnsemble
from .noise import Points, Time
from .population import Population

TRUSTED = 16  # least examples per feature at which the first order in 1/P is trusted
LARGEST = 0.2  # of the relative correction of the second order


@dataclass(frozen=True, eq=False)
class LinearFeatures:
    """The quenched noise of linear denoisers trained on `samples` examples with the ridge rho = `ridge`.

    Made by `of` or `linear_features`; `replace(kernel, samples=P)` is that of another number of examples.

    >>> import torch
    >>> from diffuscope.exact import Gaussian
    >>> from diffuscope.schedules import RectifiedFlow
    >>> from diffuscope.theory.variance import Affine, LinearFeatures, Population
    >>> population = Population.of(Gaussian.isotropic(torch.zeros(1), 3.0), RectifiedFlow(), (0.5, 0.5))
    >>> kernel, x = LinearFeatures.of(population, Affine(), samples=100), torch.tensor([[2.0]])
    >>> round(float(kernel.denoised(x, 0.5)), 6), kernel.samples_per_feature, round(kernel.degrees_of_freedom, 6)
    (3.0, 50.0, 2.0)
    >>> cov = kernel.weight_covariance[0, 0]
    >>> [round(value, 6) + 0.0 for value in cov.flatten().tolist()]  # C_0 / P = 0.75 / 100, as E x^2 = 1
    [0.0075, 0.0, 0.0, 0.0075]
    """

    population: Population
    features: Features
    moments: FeatureMoments
    samples: int
    ridge: float

    @classmethod
    def of(
        cls, population: Population, features: Features, *, samples: int, ridge: float | int = 0.0
    ) -> "LinearFeatures":
        """The kernel of a population.

        Memory: about 6 d^2 F^2 numbers. Raises InputError for no example, a negative ridge, and features that are
        linearly dependent in float64 without one.
        """
        _check(samples, ridge)
        return cls(population, features, feature_moments(population, features, ridge), samples, float(ridge))

    @property
    def schedule(self) -> Schedule:
        return self.population.schedule

    @property
    def samples_per_feature(self) -> float:
        """P / F."""
        return self.samples / self.features.number

    @property
    def degrees_of_freedom(self) -> float:
        """tr Sigma (Sigma + rho)^-1: the features that the ridge leaves."""
        return float((self.moments.sigma * self.moments.inverse).sum())

    @property
    def second_order(self) -> float:
        """F_eff / P, the relative size of what the first order in 1/P leaves out."""
        return self.moments.effective_features / self.samples

    @property
    def trusted(self) -> bool:
        """Whether P >= 16 F and F_eff <= P/5, so that the first order in 1/P is known to be good."""
        return self.samples_per_feature >= TRUSTED and self.second_order <= LARGEST

    @property
    def statement(self) -> str:
        """One line on the validity of the first order in 1/P."""
        facts = f"P/F = {self.samples_per_feature:.3g}, F_eff/P = {self.second_order:.2g}"
        if self.trusted:
            return f"{facts}: the first order in 1/P is trusted, up to about {self.second_order:.0%}"
        needed = f"P/F >= {TRUSTED} and F_eff/P <= {LARGEST}"
        return f"{facts}: the first order in 1/P is not trusted (that needs {needed})"

    @cached_property
    def weight_covariance(self) -> Float[Tensor, "d d F F"]:
        """Cov(W_a, W_b)."""
        G = self.moments.inverse
        return G @ self._braces @ G / self.samples

    @property
    def expressive(self) -> "LinearFeatures":
        """The published case r = rho = 0. Raises InputError if the features are dependent, as no ridge helps."""
        moments = feature_moments(self.population, self.features, 0.0)
        return replace(self, moments=replace(moments, misfit=torch.zeros_like(moments.misfit)), ridge=0.0)

    @property
    def of_posterior_alone(self) -> "LinearFeatures":
        """With neither r nor rho^2 in the braces, and G as it is: what only the covariance of the target makes."""
        return replace(self, moments=replace(self.moments, misfit=torch.zeros_like(self.moments.misfit)), ridge=0.0)

    def denoised(self, x: Points, t: Time) -> Points:
        """The average denoiser, W phi."""
        return self._mean_field.denoise(x[None], t)[0]

    def score(self, x: Points, t: Time) -> Points:
        """(alpha W phi - x) / sigma^2 of the population's W: the average score up to O(1/P)."""
        return self._mean_field(x[None], t)[0]

    def covariance(self, x: Points, t: Time, y: Points, u: Time) -> Float[Tensor, "batch d d"]:
        """Cov(s(x_b, t), s(y_b, u)), pair by pair. Memory: d^2 F numbers per pair."""
        left, right = self._in_units(x, t), self._in_units(y, u)
        return torch.einsum("nf,abfg,ng->nab", left, self.weight_covariance, right).to(x)

    def draw(self, fields: int, *, generator: torch.Generator) -> LinearEnsemble:
        """Gaussian fields of this mean and covariance."""
        require_count("fields", fields, 1)
        d, F = self.moments.mean.shape
        z = torch.randn(fields, d * F, dtype=torch.float64, generator=generator)
        deviations = (z @ self._root.mT).reshape(fields, d, F) @ self.moments.inverse / math.sqrt(self.samples)
        return LinearEnsemble(self.features, self.schedule, self.moments.mean + deviations)

    @property
    def mean_variance(self) -> float:
        """E[sigma^2 tr Cov s(x, t)] over the population: what the noise adds to twice the noise-free loss."""
        covariance = self.weight_covariance
        return sum(float((self.moments.sigma * covariance[a, a]).sum()) for a in range(len(covariance)))

    def quadrature_error(self) -> float:
        r"""The relative change of Cov W when the population has half the nodes on every axis.

        In the norm :math:`|\Delta|^2 = \sum_{ab} \mathrm{tr}\,\Sigma\Delta_{ab}\Sigma\Delta_{ab}^T`, that of the
        score over the population. For a quadrature (one and two dimensions) a cautious bound, as the finer one is much
        better; for Monte Carlo, whose halves are drawn anew, 1.7 standard errors.
        """
        halved = replace(self.population, slices=self.population.coarse)
        other = LinearFeatures.of(halved, self.features, samples=self.samples, ridge=self.ridge)

        def square(difference: Tensor) -> float:
            onto = self.moments.sigma @ difference
            return float((onto * onto.permute(1, 0, 2, 3).mT).sum())

        size, change = square(self.weight_covariance), square(self.weight_covariance - other.weight_covariance)
        return math.sqrt(max(0.0, change) / size) if size > 0 else 0.0

    @property
    def _mean_field(self) -> LinearEnsemble:
        return LinearEnsemble(self.features, self.schedule, self.moments.mean[None])

    @property
    def _braces(self) -> Float[Tensor, "d d F F"]:
        W = self.moments.mean
        return self.moments.noise + self.moments.misfit - self.ridge**2 * W[:, None, :, None] * W[None, :, None, :]

    @cached_property
    def _root(self) -> Float[Tensor, "dF dF"]:
        """A square root of the braces as one matrix."""
        d, F = self.moments.mean.shape
        values, vectors = torch.linalg.eigh(self._braces.transpose(1, 2).reshape(d * F, d * F))
        return vectors * values.clamp(min=0).sqrt()

    def _in_units(self, x: Points, t: Time) -> Float[Tensor, "batch F"]:
        """alpha phi / sigma^2: the derivative of the score by W."""
        alpha, sigma = self.schedule.alpha(t), self.schedule.sigma(t)
        return self.features(x.double(), t) * (alpha / sigma**2)


def linear_features(
    data: Distribution | Float[Tensor, "points d"],
    schedule: Schedule,
    features: Features,
    *,
    samples: int,
    ridge: float | int = 0.0,
    times: tuple[float | int, float | int],
) -> LinearFeatures:
    """The noise of linear denoisers trained on P = `samples` noised examples, at times uniform on (epsilon, T).

    `data` is a distribution or a finite data set in one or two dimensions; for more, and for finer nodes, make a
    `Population`. Raises InputError as `Population.of` and `LinearFeatures.of` do.

    >>> import torch
    >>> from diffuscope.exact import Gaussian
    >>> from diffuscope.schedules import RectifiedFlow
    >>> from diffuscope.theory.variance import Affine, linear_features
    >>> data, x = Gaussian.isotropic(torch.zeros(1), 3.0), torch.tensor([[2.0]])
    >>> kernel = linear_features(data, RectifiedFlow(), Affine(), samples=100, times=(0.5, 0.5))
    >>> round(float(kernel.score(x, 0.5)), 6), round(float(kernel.covariance(x, 0.5, x, 0.5)), 6)  # 3 (1 + 2^2) / 100
    (-2.0, 0.15)
    """
    population = Population.of(data, schedule, times)
    return LinearFeatures.of(population, features, samples=samples, ridge=ridge)


def _check(samples: int, ridge: float | int) -> None:
    require_count("samples", samples, 1)
    if not 0 <= ridge < math.inf:
        raise InputError(f"ridge: expected a finite number >= 0, got {ridge}")
