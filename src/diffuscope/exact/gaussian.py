r"""Gaussian data: the diffusion solved in closed form, trajectories included.

Data N(mu, Sigma), kernel :math:`x_t = \alpha x_0 + \sigma\varepsilon`. In the eigenbasis of Sigma, with
:math:`e = x_t - \alpha\mu`, :math:`c_k = u_k^T e` and eigenvalue :math:`\lambda_k` (tail variance on the complement):

.. math::
    D &= \mu + \sum_k \frac{\alpha\lambda_k}{\alpha^2\lambda_k + \sigma^2}\, c_k u_k, \qquad
    \nabla\log p = -\sum_k \frac{c_k u_k}{\alpha^2\lambda_k + \sigma^2}, \qquad
    \mathrm{Cov}(x_0|x_t) = \sum_k \frac{\lambda_k\sigma^2}{\alpha^2\lambda_k + \sigma^2}\, u_k u_k^T

and the probability-flow ODE from t to s is the linear map

.. math::
    x_s = \alpha_s\mu + \sum_k \psi_k c_k(t) u_k, \qquad
    \psi_k = \sqrt{\frac{\alpha_s^2\lambda_k + \sigma_s^2}{\alpha_t^2\lambda_k + \sigma_t^2}} .

Source: Wang & Vastola 2023 (arXiv:2303.02490, arXiv:2311.10892); the formulas hold for any (alpha, sigma).
All arithmetic is float64; results come back in the dtype and on the device of the input.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.errors import InputError
from diffuscope.schedules import Schedule, Time

from .distribution import Batch, Level, checked_levels, per_sample
from .saved import TENSORS, read_gaussian, write_gaussian
from .spectral import Spectrum, top_eigenpairs
from .streaming import Batches, LeadingPairs, leading_pairs, streamed_moments

TINY = torch.finfo(torch.float64).tiny  # turns 0/0 into 0 where a variance and the noise both vanish


@dataclass(frozen=True, eq=False)
class Gaussian:
    """N(mean, U diag(eigenvalues) U^T + tail_variance (I - U U^T)).

    `eigenvectors` is (D, k) with orthonormal columns, D = prod(event), eigenvalues largest first. Dense is k = D;
    k = 0 is isotropic. `count` is the number of examples it was fitted to, if any, and `data_range` the range of their
    values, where it is known. Raises InputError for shapes that do not fit and for negative variances.

    >>> import torch
    >>> from diffuscope.exact import Gaussian
    >>> x_t = torch.tensor([[10.0]], dtype=torch.float64)
    >>> D = Gaussian.isotropic(torch.ones(1), 3.0).denoise(x_t, alpha=2.0, sigma=2.0)
    >>> round(D.item(), 6)  # 1 + 2 * 3 (10 - 2) / (4 * 3 + 4)
    4.0
    """

    mean: Float[Tensor, "*event"]
    eigenvectors: Float[Tensor, "D k"]
    eigenvalues: Float[Tensor, " k"]
    tail_variance: float = 0.0
    count: int | None = None
    data_range: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        (rows, rank), D, count = self.eigenvectors.shape, self.mean.numel(), len(self.eigenvalues)
        if rows != D:
            raise InputError(f"eigenvectors: expected {D} rows (the size of the mean), got {rows}")
        if count != rank:
            raise InputError(f"eigenvalues: expected one per eigenvector ({rank}), got {count}")
        if not bool((self.eigenvalues >= 0).all()) or not self.tail_variance >= 0:
            raise InputError("eigenvalues, tail_variance: expected values >= 0")
        for name in TENSORS:
            object.__setattr__(self, name, getattr(self, name).double())

    @classmethod
    def isotropic(cls, mean: Float[Tensor, "*event"], variance: float) -> "Gaussian":
        """N(mean, variance I)."""
        return cls(mean, mean.new_zeros(mean.numel(), 0), mean.new_zeros(0), variance)

    @classmethod
    def from_covariance(
        cls, mean: Float[Tensor, "*event"], covariance: Float[Tensor, "D D"], rank: int | None = None
    ) -> "Gaussian":
        """From a dense covariance, keeping the top `rank` eigenpairs (all by default)."""
        return cls(mean, *top_eigenpairs(covariance.double(), rank))

    @classmethod
    def fit(cls, batches: Batches, rank: int | None = None) -> "Gaussian":
        """Mean and covariance (1/n) of a stream of batches of any sizes, in float64 without cancellation.

        Memory: one D x D matrix and three batches; in high dimension use `fit_leading`. Raises InputError for fewer
        than two examples, examples of different shapes, or values that are not finite.
        """
        moments = streamed_moments(batches)
        return cls(moments.mean, *top_eigenpairs(moments.product, rank), moments.count)

    @classmethod
    def fit_leading(
        cls, passes: Callable[[], Batches], rank: int, *, generator: torch.Generator, n_passes: int = 2
    ) -> "Gaussian":
        """The `rank` leading eigenpairs of the covariance of a stream that `passes()` begins anew, in any dimension.

        Eigenvalues are too small, the last of them most (see `leading_pairs`); the trace is exact. Memory: a few
        D x 1.5 `rank` matrices and three batches. Raises InputError as `leading_pairs`.
        """
        return cls.of_leading(leading_pairs(passes, rank, generator=generator, n_passes=n_passes))

    @classmethod
    def of_leading(cls, pairs: LeadingPairs) -> "Gaussian":
        """The Gaussian of these eigenpairs, with the rest of the trace as its tail."""
        return cls(pairs.mean, pairs.eigenvectors, pairs.eigenvalues, pairs.tail_variance, pairs.count)

    @property
    def event_shape(self) -> tuple[int, ...]:
        return tuple(self.mean.shape)

    @property
    def dimension(self) -> int:
        return self.mean.numel()

    @property
    def variances(self) -> Float[Tensor, " D"]:
        """The D eigenvalues of Sigma: those that are kept, and the tail's."""
        rest = self.dimension - len(self.eigenvalues)
        return torch.cat([self.eigenvalues, self.eigenvalues.new_full((rest,), self.tail_variance)])

    @property
    def trace(self) -> float:
        """tr Sigma: the total variance of the data."""
        return float(self.variances.sum())

    def rank_of_share(self, share: float) -> int | None:
        """How many leading eigenvalues have this share of the total variance; None if those that are kept have less."""
        reached = (self.eigenvalues.cumsum(0) >= share * self.trace).nonzero()
        return int(reached[0]) + 1 if len(reached) else None

    def truncate(self, rank: int) -> "Gaussian":
        """Keep the top `rank` eigenpairs; the rest goes into the tail, so that the total variance is unchanged.

        Raises InputError for a rank outside 0 .. D.
        """
        if not 0 <= rank <= self.dimension:
            raise InputError(f"rank: expected 0 .. {self.dimension}, got {rank}")
        if rank >= len(self.eigenvalues):
            return self
        return replace(
            self,
            eigenvectors=self.eigenvectors[:, :rank].clone(),
            eigenvalues=self.eigenvalues[:rank],
            tail_variance=float(self.variances[rank:].mean()),
        )

    def rescale(self, scale: float | int, shift: float | int) -> "Gaussian":
        """The distribution of scale * x_0 + shift: (2, -1) takes pixels from [0, 1] to [-1, 1].

        Latents z of a VAE that a model takes as (z - shift_factor) * scaling_factor:
        `rescale(scaling_factor, -shift_factor * scaling_factor)`. Raises InputError for numbers that are not finite,
        and for a scale of 0.
        """
        if not (math.isfinite(scale) and math.isfinite(shift) and scale != 0):
            raise InputError(f"scale, shift: expected finite numbers, scale other than 0, got {scale}, {shift}")
        ends = None if self.data_range is None else sorted(scale * end + shift for end in self.data_range)
        return replace(
            self,
            mean=scale * self.mean + shift,
            eigenvalues=scale**2 * self.eigenvalues,
            tail_variance=scale**2 * self.tail_variance,
            data_range=None if ends is None else (float(ends[0]), float(ends[1])),
        )

    def in_range(self, low: float | int, high: float | int) -> "Gaussian":
        """`rescale` that takes `data_range` to [low, high].

        Raises InputError without a `data_range`, and unless low < high are finite.
        """
        if self.data_range is None:
            raise InputError("data_range: expected a Gaussian that knows the range of its data, got one that does not")
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise InputError(f"low, high: expected two finite numbers, the lower first, got {low:g} {high:g}")
        first, last = self.data_range
        scale = (high - low) / (last - first)
        return replace(self.rescale(scale, low - scale * first), data_range=(float(low), float(high)))

    def save(self, path: str | Path) -> None:
        """Write a safetensors file (float64), whole or not at all."""
        write_gaussian(Path(path), self)

    @classmethod
    def load(cls, path: str | Path) -> "Gaussian":
        """Read a file written by `save`, or by `DataStatistics.save`, of which it is the Gaussian of all examples.

        Raises InputError for a missing, truncated or different file.
        """
        return read_gaussian(Path(path), cls)[0]

    def sample(self, n: int, *, generator: torch.Generator) -> Float[Tensor, "n *event"]:
        """Independent draws, float64."""
        white = torch.randn(n, 1, self.dimension, dtype=torch.float64, generator=generator, device=generator.device)
        spectrum = self._spectrum
        x = spectrum.apply(white, spectrum.eigenvalues.sqrt()[None], spectrum.tail_variance.sqrt()[None])
        return x.reshape(n, *self.event_shape) + self.mean

    def denoise(self, x_t: Batch, alpha: Level, sigma: Level) -> Batch:
        """D = mu + alpha Sigma (alpha^2 Sigma + sigma^2)^-1 (x_t - alpha mu)."""
        alphas, sigmas = checked_levels(x_t, alpha, sigma, self.event_shape)
        spread, tail = self._spectrum.at(alphas, sigmas)
        gain = alphas[:, None, None] * self.eigenvalues / spread
        gain_tail = alphas[:, None] * self.tail_variance / tail
        return self._returned(self._apply(x_t, alphas, gain, gain_tail) + self.mean.flatten(), x_t)

    def score(self, x_t: Batch, alpha: Level, sigma: Level) -> Batch:
        """-(alpha^2 Sigma + sigma^2)^-1 (x_t - alpha mu)."""
        alphas, sigmas = checked_levels(x_t, alpha, sigma, self.event_shape)
        spread, tail = self._spectrum.at(alphas, sigmas)
        return self._returned(self._apply(x_t, alphas, -1 / spread, -1 / tail), x_t)

    def log_prob(self, x_t: Batch, alpha: Level, sigma: Level) -> Float[Tensor, " batch"]:
        """log N(x_t; alpha mu, alpha^2 Sigma + sigma^2 I), in nats."""
        alphas, sigmas = checked_levels(x_t, alpha, sigma, self.event_shape)
        coordinates, rest = self._spectrum.split(self._centered(x_t, alphas))
        return self._spectrum.log_prob(coordinates, rest, *self._spectrum.at(alphas, sigmas))[:, 0].to(x_t.dtype)

    def posterior_covariance(self, x_t: Batch, alpha: Level, sigma: Level) -> "GaussianPosteriorCovariance":
        """Cov(x_0 | x_t): the same for every x_t."""
        alphas, sigmas = checked_levels(x_t, alpha, sigma, self.event_shape)
        return GaussianPosteriorCovariance(self, x_t.dtype, alphas, sigmas)

    def flow(self, x_t: Batch, schedule: Schedule, t: Time, s: Time) -> Batch:
        """The probability-flow map from time t to time s, in either direction; a number or one time per sample.

        sigma must be positive at t; at s it may be zero (clean data).
        """
        alphas, sigmas = checked_levels(x_t, schedule.alpha(t), schedule.sigma(t), self.event_shape)
        ends = _end_levels(schedule, s, x_t)
        spread, tail = self._spectrum.at(alphas, sigmas)
        spread_end, tail_end = self._spectrum.at(*ends)
        moved = self._apply(x_t, alphas, (spread_end / spread).sqrt(), (tail_end / tail).sqrt())
        return self._returned(moved + ends[0][:, None] * self.mean.flatten(), x_t)

    def flow_denoised(self, x_t: Batch, schedule: Schedule, t: Time, s: Time) -> Batch:
        """The denoiser at time s on the trajectory through x_t at time t: D(s) = mu + sum_k xi_k c_k(t) u_k.

        xi_k = alpha_s lambda_k / sqrt((alpha_s^2 lambda_k + sigma_s^2)(alpha_t^2 lambda_k + sigma_t^2)).
        """
        alphas, sigmas = checked_levels(x_t, schedule.alpha(t), schedule.sigma(t), self.event_shape)
        ends = _end_levels(schedule, s, x_t)
        spread, tail = self._spectrum.at(alphas, sigmas)
        spread_end, tail_end = self._spectrum.at(*ends)
        gain = ends[0][:, None, None] * self.eigenvalues / (spread_end * spread).clamp(min=TINY).sqrt()
        gain_tail = ends[0][:, None] * self.tail_variance / (tail_end * tail).clamp(min=TINY).sqrt()
        return self._returned(self._apply(x_t, alphas, gain, gain_tail) + self.mean.flatten(), x_t)

    def flow_log_det(self, schedule: Schedule, t: float, s: float) -> float:
        """log |det dx_s/dx_t| of the probability-flow map: half the log ratio of the variances. Needs sigma(s) > 0."""
        levels = [_end_levels(schedule, time, self.mean[None]) for time in (t, s)]
        (spread, tail), (spread_end, tail_end) = (self._spectrum.at(*level) for level in levels)
        rest = self.dimension - len(self.eigenvalues)
        log_ratio = (spread_end / spread).log().sum()
        if rest:
            log_ratio = log_ratio + rest * (tail_end / tail).log().sum()
        return float(log_ratio / 2)

    @cached_property
    def _spectrum(self) -> Spectrum:
        tail = torch.tensor([self.tail_variance], dtype=torch.float64, device=self.mean.device)
        return Spectrum(self.eigenvectors[None], self.eigenvalues[None], tail)

    def _centered(self, x_t: Batch, alphas: Float[Tensor, " batch"]) -> Tensor:
        """e = x_t - alpha mu, as (batch, 1, D)."""
        rows = x_t.double().reshape(len(x_t), self.dimension)
        return (rows - alphas[:, None] * self.mean.flatten())[:, None]

    def _apply(self, x_t: Tensor, alphas: Tensor, gain: Tensor, gain_tail: Tensor) -> Tensor:
        """U gain U^T e + gain_tail (e - U U^T e) for e = x_t - alpha mu, as (batch, D)."""
        return self._spectrum.apply(self._centered(x_t, alphas), gain, gain_tail)[:, 0]

    def _returned(self, rows: Tensor, like: Tensor) -> Tensor:
        return rows.reshape(like.shape).to(like.dtype)


@dataclass(frozen=True, eq=False)
class GaussianPosteriorCovariance:
    """Sigma sigma^2 (alpha^2 Sigma + sigma^2)^-1 as an operator."""

    gaussian: Gaussian
    dtype: torch.dtype
    alphas: Float[Tensor, " batch"]
    sigmas: Float[Tensor, " batch"]

    def _variances(self) -> tuple[Tensor, Tensor]:
        spectrum, s2 = self.gaussian._spectrum, self.sigmas[:, None] ** 2
        spread, tail = spectrum.at(self.alphas, self.sigmas)
        return s2[..., None] * spectrum.eigenvalues / spread, s2 * spectrum.tail_variance / tail

    def matvec(self, v: Batch) -> Batch:
        rows = v.double().reshape(len(v), 1, self.gaussian.dimension)
        return self.gaussian._spectrum.apply(rows, *self._variances()).reshape(v.shape).to(self.dtype)

    def trace(self) -> Float[Tensor, " batch"]:
        variances, tail = self._variances()
        rest = self.gaussian.dimension - len(self.gaussian.eigenvalues)
        return (variances.sum((1, 2)) + rest * tail[:, 0]).to(self.dtype)

    def diagonal(self) -> Batch:
        variances, tail = self._variances()
        squares = self.gaussian.eigenvectors**2
        diagonal = (variances[:, 0] - tail) @ squares.T + tail
        return diagonal.reshape(-1, *self.gaussian.event_shape).to(self.dtype)


def _end_levels(schedule: Schedule, time: Time, x: Tensor) -> tuple[Tensor, Tensor]:
    """(alpha, sigma) per sample at the end of a flow, where sigma = 0 is allowed."""
    return per_sample(schedule.alpha(time), x, "alpha"), per_sample(schedule.sigma(time), x, "sigma")
