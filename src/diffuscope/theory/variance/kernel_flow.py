r"""A score learned by kernel gradient flow from finitely many noisy targets: its mean, covariance and fields.

Training draws P inputs :math:`x_n` (with their times) and targets :math:`\tilde s_n` of mean :math:`s(x_n)` and
covariance C(x_n), and follows from a random :math:`\hat s_0` of mean 0 and covariance :math:`K_0 I`

.. math::
    \frac{d\hat s}{d\tau} = -\frac1P \sum_n K(\cdot, x_n)\,\lambda_n\,(\hat s(x_n) - \tilde s_n) .

With the eigenvalues and eigenfunctions of K under the inputs, :math:`E[\lambda\phi_k\phi_l] = \delta_{kl}`,
:math:`K = \sum_k \rho_k\phi_k\phi_k'` and :math:`s_k = E[\lambda s\phi_k]`, training on the population gives

.. math::  \bar s = \sum_k (1 - e^{-\rho_k\tau})\, s_k\phi_k .

A finite sample adds at first order the mean over its examples of :math:`\lambda\,[g\,(\tilde s - s) + R]`:

.. math::
    \mathrm{Cov}\,\hat s = \underbrace{\tfrac1P E''[\lambda^2 g\, C'' g']}_{\text{target}}
      + \underbrace{\tfrac1P \mathrm{Cov}''[\lambda R, \lambda R']}_{\text{misfit}}
      + \underbrace{e^{-T\tau} K_0\, e^{-T\tau} I}_{\text{initial}}, \qquad
    g(x, x'') = \sum_k (1 - e^{-\rho_k\tau})\phi_k\phi_k'',

.. math::
    R(x, x'') = g\,s'' - \sum_{kj} (1 - e^{-\rho_k\tau} - B_{kj})\,\phi_k\,\phi_k''\,s_j\phi_j'', \qquad
    B_{kj} = \rho_k \int_0^\tau e^{-\rho_k(\tau - r) - \rho_j r} dr
      = \rho_k\, e^{-\min(\rho_k, \rho_j)\tau}\, \frac{1 - e^{-|\rho_k - \rho_j|\tau}}{|\rho_k - \rho_j|} .

R is what the residual :math:`s - \bar s`, not learned yet, adds: where training stops early it is most of the noise.
As :math:`\tau \to \infty`, g becomes the projector onto the features, and R is g times what no feature can express: for
complete features it vanishes, and the covariance is the bare C seen through them. (The form with g is exact also where
eigenvalues are 0 or lost to rounding; over a complete set it is :math:`\sum_{kj} B_{kj}\phi_k\phi_k'' s_j\phi_j''`.)
Terms of order :math:`P^{-2}` and :math:`K_0/P` are left out: `learned`, the effective number of features
:math:`\sum_k (1 - e^{-\rho_k\tau})`, has to be small against P.

In code :math:`\psi_k = \rho_k\phi_k = \sum_q K(\cdot, x_q)\sqrt{w_q\lambda_q}\,U_{qk}` (Nystrom's extension) is finite
for every mode, and so are :math:`(1 - e^{-\rho\tau})/\rho` and B/rho. Everything above is a polynomial in them.

Source: Vastola 2025, https://arxiv.org/abs/2504.12532 (section 5); the misfit and the initial term are derived here.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.checked_numbers import require_count
from diffuscope.errors import InputError
from diffuscope.memory import chunk_size
from diffuscope.schedules import Schedule

from .eigenfunctions import ROUNDING, eigenfunctions, pair_by_pair
from .kernels import Kernel
from .noise import Points, Time
from .population import Population

RANK = 1e-9  # eigenvalues above this share of the largest are resolved
PAIRS = 2**22  # kernel values held at once


@dataclass(frozen=True, eq=False)
class Contributions:
    """The three terms of a covariance, pair by pair.

    >>> import math, torch
    >>> from diffuscope.exact import Gaussian
    >>> from diffuscope.schedules import RectifiedFlow
    >>> from diffuscope.theory.variance import Affine, FeatureKernel, KernelFlow, Population
    >>> population = Population.of(Gaussian.isotropic(torch.zeros(1), 3.0), RectifiedFlow(), (0.5, 0.5))
    >>> flow = KernelFlow(population, FeatureKernel(Affine()), samples=100, time=math.log(2))  # s = -x, C = 3
    >>> x = torch.tensor([[2.0]])
    >>> parts = flow.contributions(x, 0.5, x, 0.5)
    >>> round(float(parts.target), 6), float(parts.initial)  # (1/2)^2 x 3 (1 + 2^2) / 100
    (0.0375, 0.0)
    >>> round(float(parts.misfit) / (math.log(2) / 2) ** 2, 6)  # Var(x'' + 2 x''^2) / 100, x'' normal
    0.09
    """

    target: Float[Tensor, "batch d d"]
    misfit: Float[Tensor, "batch d d"]
    initial: Float[Tensor, "batch d d"]

    @property
    def total(self) -> Float[Tensor, "batch d d"]:
        """Their sum."""
        return self.target + self.misfit + self.initial


@dataclass(frozen=True, eq=False)
class KernelFlow:
    """The score after the training time `time` (may be infinite) on `samples` = P draws; fulfills `Quenched`.

    Expectations over the inputs are sums over the nodes of the `population`. `weight` is lambda as a function of the
    times (1 if not given), `initial` the kernel K_0 of the initial function (0 if not given). Memory: nodes x modes x d
    numbers. Raises InputError for a kernel that is not symmetric and positive, weights that are not > 0, `samples` < 1,
    a negative time, and a training time so long that it reaches eigenvalues below rounding: a kernel without finite
    rank has no limit.

    >>> import math, torch
    >>> from diffuscope.exact import Gaussian
    >>> from diffuscope.schedules import RectifiedFlow
    >>> from diffuscope.theory.variance import Affine, FeatureKernel, KernelFlow, Population
    >>> population = Population.of(Gaussian.isotropic(torch.zeros(1), 3.0), RectifiedFlow(), (0.5, 0.5))
    >>> flow = KernelFlow(population, FeatureKernel(Affine()), samples=100, time=math.log(4))  # rho = 1, 1; s = -x
    >>> round(float(flow.score(torch.tensor([[2.0]]), 0.5)), 6), round(flow.learned, 6)  # (1 - 1/4) (-2), 2 (1 - 1/4)
    (-1.5, 1.5)
    """

    population: Population
    kernel: Kernel
    samples: int = field(kw_only=True)
    time: float | int = field(kw_only=True)
    weight: Callable[[Tensor], Tensor] | None = field(default=None, kw_only=True)
    initial: Kernel | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        require_count("samples", self.samples, 1)
        if not self.time >= 0:
            raise InputError(f"time: expected a training time >= 0, got {self.time}")
        weights = self._weights
        if weights.shape != self.population.nodes.weights.shape or not bool((weights.isfinite() & (weights > 0)).all()):
            raise InputError("weight: expected one finite number > 0 per time, got others")
        every = self.eigenvalues
        blurred = every[(every > ROUNDING * every[0]) & (every < RANK * every[0])]
        if len(blurred) and float(blurred[-1]) * self.time > 1:
            raise InputError(
                f"time: expected at most {1 / float(blurred[-1]):.3g} for a kernel whose eigenvalues reach down to "
                f"rounding, got {self.time}"
            )

    @property
    def schedule(self) -> Schedule:
        """That of the population."""
        return self.population.schedule

    @property
    def eigenvalues(self) -> Float[Tensor, " modes"]:
        """rho_k, the largest first, without those that rounding does not tell from 0."""
        return self._modes[0]

    @property
    def learned(self) -> float:
        """The effective number of features, sum_k (1 - exp(-rho_k tau))."""
        return float((self.eigenvalues * self._gain).sum())

    def score(self, x: Points, t: Time) -> Points:
        """The average score, sum_k (1 - exp(-rho_k tau)) s_k phi_k."""
        return self._features(x, t) @ (self._gain[:, None] * self._coefficients)

    def covariance(self, x: Points, t: Time, y: Points, u: Time) -> Float[Tensor, "batch d d"]:
        """Cov(s(x_b, t), s(y_b, u)), pair by pair. Raises InputError for times that were not trained."""
        return self.contributions(x, t, y, u).total

    def contributions(self, x: Points, t: Time, y: Points, u: Time) -> Contributions:
        """The covariance term by term."""
        if x.shape != y.shape:
            raise InputError(f"y: expected points of the shape {tuple(x.shape)} of x, got {tuple(y.shape)}")
        psi, psi_y = self._features(x, t), self._features(y, u)
        target, misfit = (torch.einsum("bk,kalc,bl->bac", psi, part, psi_y) for part in self._coefficient_covariance)
        eye = torch.eye(x.shape[1], dtype=torch.float64)
        return Contributions(target, misfit, self._initial_variance(x, t, y, u, psi, psi_y)[:, None, None] * eye)

    def draw(self, fields: int, *, generator: torch.Generator) -> "KernelFields":
        """Gaussian fields of this mean and covariance: sums of kernel functions at the nodes, for all points and times.

        An initial function is drawn from the eigenfunctions of K_0 at the nodes, exact where the inputs are.
        """
        require_count("fields", fields, 1)
        rho, d = self.eigenvalues, self.population.dimension
        normal = torch.randn(fields, len(rho) * d, dtype=torch.float64, generator=generator)
        coefficients = self._gain[:, None] * self._coefficients + (normal @ self._root).reshape(fields, -1, d)
        if self.initial is None:
            return KernelFields(self, self._basis @ coefficients, None)
        start = self._initial_draws(self.initial, fields, generator)
        nodes, times = self.population.nodes.points, self.population.nodes.times
        values = self.initial(nodes, times, nodes, times) @ start
        coefficients = coefficients - self._gain[:, None] * (self._basis.T @ values)
        return KernelFields(self, self._basis @ coefficients, start)

    def checked(self, x: Points, t: Time) -> Float[Tensor, ""]:
        """`t`; raises InputError for points of another dimension or NaN, and for a time that was not trained."""
        d, (start, end) = self.population.dimension, self.population.times
        if x.shape[1] != d or not bool(x.isfinite().all()):
            raise InputError(f"x: expected finite points in dimension {d}, got shape {tuple(x.shape)} or NaN")
        at, slack = torch.as_tensor(t, dtype=torch.float64), 1e-9 * end
        if not start - slack <= float(at) <= end + slack:
            raise InputError(f"t: expected a time of the training, {start:g} .. {end:g}, got {float(at):g}")
        return at

    # quadrature: basis = sqrt(w lambda) U, so that psi = K(., nodes) basis and <f, phi_k> = sum_q basis_qk f(x_q)

    @cached_property
    def _weights(self) -> Tensor:
        times = self.population.nodes.times
        return torch.ones_like(times) if self.weight is None else torch.as_tensor(self.weight(times)).double()

    @cached_property
    def _modes(self) -> tuple[Tensor, Tensor]:
        """rho and U."""
        return eigenfunctions("kernel", self.kernel, self.population.nodes, self._root_weights)

    @property
    def _root_weights(self) -> Tensor:
        return (self.population.nodes.weights * self._weights).sqrt()

    @cached_property
    def _basis(self) -> Float[Tensor, "nodes modes"]:
        return self._root_weights[:, None] * self._modes[1]

    @cached_property
    def _coefficients(self) -> Float[Tensor, "modes d"]:
        """s_k."""
        return self._basis.T @ self.population.nodes.score

    @cached_property
    def _gain(self) -> Float[Tensor, " modes"]:
        """(1 - exp(-rho tau)) / rho."""
        rho = self._modes[0]
        return -torch.expm1(-rho * self.time) / rho

    @cached_property
    def _coefficient_covariance(self) -> tuple[Float[Tensor, "modes d modes d"], Float[Tensor, "modes d modes d"]]:
        """Covariances of the coefficients of psi, from the targets and from the misfit."""
        (rho, U), d = self._modes, self.population.dimension
        learned = U * self._gain
        target = torch.stack(
            [
                torch.stack([learned.T @ ((self._weights * C_ab)[:, None] * learned) for C_ab in C_a.T], -1)
                for C_a in self.population.nodes.covariance.permute(1, 0, 2)
            ],
            1,
        )
        phi = U / self._root_weights[:, None]
        fitted = self._gain[:, None] - divided_difference(rho, self.time)  # the integral of the fit, over rho_k
        residual = torch.stack(
            [
                self._gain * s[:, None] - phi @ (fitted * s_j).T
                for s, s_j in zip(self.population.nodes.score.T, self._coefficients.T, strict=True)
            ],
            2,
        )
        lambda_R = (self._weights.sqrt()[:, None, None] * U[:, :, None] * residual).flatten(1)  # times sqrt(w)
        mean = self.population.nodes.weights.sqrt() @ lambda_R
        misfit = (lambda_R.T @ lambda_R - torch.outer(mean, mean)).reshape(len(rho), d, len(rho), d)
        return target / self.samples, misfit / self.samples

    @cached_property
    def _root(self) -> Float[Tensor, "modes_d modes_d"]:
        """A with A^T A the covariance of the coefficients."""
        target, misfit = self._coefficient_covariance
        size = target.shape[0] * target.shape[1]
        values, vectors = torch.linalg.eigh((target + misfit).reshape(size, size))
        return values.clamp(min=0).sqrt()[:, None] * vectors.T

    def _features(self, x: Points, t: Time) -> Float[Tensor, "batch modes"]:
        """psi_k(x, t)."""
        return self._products(self.kernel, x, t, self._basis)

    def _products(self, kernel: Kernel, x: Points, t: Time, columns: Float[Tensor, "nodes c"]) -> Tensor:
        """K((x, t), nodes) times `columns`, in blocks of points."""
        nodes, at = self.population.nodes.points, self.checked(x, t)
        rows = chunk_size(PAIRS, each=len(nodes))
        parts = [
            kernel(part, at.expand(len(part)), nodes, self.population.nodes.times) @ columns
            for part in x.double().split(rows)
        ]
        return torch.cat(parts)

    # e^{-T tau} f = f - sum_k psi_k gain_k <phi_k, f>

    def _initial_variance(
        self, x: Points, t: Time, y: Points, u: Time, psi: Tensor, psi_y: Tensor
    ) -> Float[Tensor, " batch"]:
        """e^{-T tau} K_0 e^{-T tau}, pair by pair."""
        if self.initial is None:
            return torch.zeros(len(x), dtype=torch.float64)
        nodes, times = self.population.nodes.points, self.population.nodes.times
        left, right = psi * self._gain, psi_y * self._gain
        onto_x = self._products(self.initial, x, t, self._basis)
        onto_y = self._products(self.initial, y, u, self._basis)
        both = self._basis.T @ self.initial(nodes, times, nodes, times) @ self._basis
        own = pair_by_pair(self.initial, x, self.checked(x, t).expand(len(x)), y, self.checked(y, u).expand(len(y)))
        return own - (left * onto_y).sum(1) - (right * onto_x).sum(1) + ((left @ both) * right).sum(1)

    def _initial_draws(
        self, initial: Kernel, fields: int, generator: torch.Generator
    ) -> Float[Tensor, "fields nodes d"]:
        """Weights of K_0 at the nodes: f = sum_m psi_m z_m / sqrt(rho_m) of its own eigenfunctions."""
        rho, U = eigenfunctions("initial", initial, self.population.nodes, self._root_weights)
        normal = torch.randn(fields, len(rho), self.population.dimension, dtype=torch.float64, generator=generator)
        return (self._root_weights[:, None] * U) @ (normal / rho.sqrt()[:, None])


@dataclass(frozen=True, eq=False)
class KernelFields:
    """Drawn fields: the weights of K and, where there is one, of K_0 at the nodes. Fulfills `ScoreFields`."""

    flow: KernelFlow = field(repr=False)
    weights: Float[Tensor, "fields nodes d"] = field(repr=False)
    initial_weights: Float[Tensor, "fields nodes d"] | None = field(repr=False)

    def __call__(self, x: Float[Tensor, "fields batch d"], t: Time) -> Float[Tensor, "fields batch d"]:
        """Every field at its own points. Cost: fields x batch x nodes kernel values."""
        if len(x) != len(self.weights):
            raise InputError(f"x: expected points of {len(self.weights)} fields, got {len(x)}")
        answers = self._sums(self.flow.kernel, self.weights, x, t)
        if self.initial_weights is None or self.flow.initial is None:
            return answers
        return answers + self._sums(self.flow.initial, self.initial_weights, x, t)

    def _sums(self, kernel: Kernel, weights: Tensor, x: Tensor, t: Time) -> Float[Tensor, "fields batch d"]:
        """K((x, t), nodes) times the weights of the field, in blocks of fields."""
        nodes, at = self.flow.population.nodes, self.flow.checked(x.flatten(0, 1), t)
        together = chunk_size(PAIRS, each=x.shape[1] * len(nodes.points))
        answers = []
        for points, own in zip(x.double().split(together), weights.split(together), strict=True):
            flat = points.flatten(0, 1)
            values = kernel(flat, at.expand(len(flat)), nodes.points, nodes.times)
            answers.append(values.reshape(*points.shape[:2], -1) @ own)
        return torch.cat(answers)


def divided_difference(rho: Float[Tensor, " modes"], time: float | int) -> Float[Tensor, "modes modes"]:
    r"""(e^{-rho_j tau} - e^{-rho_k tau}) / (rho_k - rho_j), without cancellation; tau e^{-rho tau} where equal."""
    if math.isinf(time):
        return rho.new_zeros(len(rho), len(rho))
    gap, least = (rho[:, None] - rho).abs(), torch.minimum(rho[:, None], rho)
    mean = torch.where(gap > 0, -torch.expm1(-gap * time) / gap, float(time))
    return torch.exp(-least * time) * mean
