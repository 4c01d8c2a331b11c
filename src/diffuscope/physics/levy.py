r"""Discrete Levy processes: cumulative sums of independent jumps, whose law is a scale mixture of Gaussians.

.. math::
    x_i = u_1 + \dots + u_i, \qquad u_i \mid v_i \sim N(0, v_i), \quad v_i \sim \text{mixing law, independent},

    \log p(x) = \sum_i \log p_u(x_i - x_{i-1}), \qquad x_0 = 0 .

================  =====================================  ========================================================
jumps             mixing law of the variance v           v given the jump u
================  =====================================  ========================================================
Gaussian          v = s^2                                s^2
Laplace (b)       exponential of mean 2 b^2              1/v ~ inverse Gaussian of mean 1/(b|u|), shape 1/b^2
Student (nu, s)   inverse gamma (nu/2, nu s^2/2)         inverse gamma ((nu + 1)/2, (nu s^2 + u^2)/2)
Bernoulli-Gauss   s^2 with probability p, else 0         s^2 where u != 0, else 0
================  =====================================  ========================================================

The last conditional law is degenerate, so a Gibbs sampler must draw the indicators with u integrated out
(`indicators.py`). Sources: Bohra et al. 2023 (arXiv:2203.15172) for the framework; Andrews & Mallows 1974 for the
mixtures; Michael, Schucany & Haas 1976 for the inverse Gaussian.
"""

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import scipy  # its subpackages are loaded when they are first used
import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.checked_numbers import require_count, require_positive
from diffuscope.errors import InputError


@runtime_checkable
class JumpLaw(Protocol):
    """The law of one jump: an atom at 0 of probability `atom`, and a symmetric density elsewhere."""

    @property
    def scale(self) -> float:
        """The length on which the density varies: b, s."""
        ...

    @property
    def atom(self) -> float:
        """P(u = 0)."""
        ...

    @property
    def variance(self) -> float:
        """Of u; infinite for heavy tails."""
        ...

    @property
    def kink(self) -> float:
        """1/b where the density is c exp(-|u|/b) near 0, 0 where it is smooth."""
        ...

    def density(self, u: Tensor) -> Tensor:
        """Of the continuous part, whose mass is 1 - atom."""
        ...

    def cdf(self, u: Tensor) -> Tensor:
        """Integral of `density` from minus infinity."""
        ...

    def tail(self, probability: float) -> float:
        """w such that P(|u| > w) = probability."""
        ...

    def draw_variances(self, shape: tuple[int, ...], *, generator: torch.Generator) -> Tensor:
        """v from the mixing law."""
        ...

    def variances_given(self, u: Tensor, *, generator: torch.Generator) -> Tensor:
        """v from its law given the jumps u."""
        ...


@dataclass(frozen=True)
class GaussianJumps:
    """N(0, scale^2): Brownian motion, for comparison with closed forms."""

    scale: float = 1.0

    def __post_init__(self) -> None:
        require_positive(scale=self.scale)

    @property
    def atom(self) -> float:
        return 0.0

    @property
    def kink(self) -> float:
        return 0.0

    @property
    def variance(self) -> float:
        return self.scale**2

    def density(self, u: Tensor) -> Tensor:
        return torch.exp(-0.5 * (u / self.scale) ** 2) / (self.scale * math.sqrt(2 * math.pi))

    def cdf(self, u: Tensor) -> Tensor:
        return torch.special.ndtr(u / self.scale)

    def tail(self, probability: float) -> float:
        return self.scale * float(-scipy.special.ndtri(probability / 2))

    def draw_variances(self, shape: tuple[int, ...], *, generator: torch.Generator) -> Tensor:
        del generator
        return torch.full(shape, self.scale**2, dtype=torch.float64)

    def variances_given(self, u: Tensor, *, generator: torch.Generator) -> Tensor:
        del generator
        return torch.full_like(u, self.scale**2)


@dataclass(frozen=True)
class LaplaceJumps:
    """exp(-|u|/b) / (2 b) with b = `scale`; variance 2 b^2."""

    scale: float = math.sqrt(0.5)

    def __post_init__(self) -> None:
        require_positive(scale=self.scale)

    @property
    def atom(self) -> float:
        return 0.0

    @property
    def variance(self) -> float:
        return 2 * self.scale**2

    @property
    def kink(self) -> float:
        return 1 / self.scale

    def density(self, u: Tensor) -> Tensor:
        return torch.exp(-u.abs() / self.scale) / (2 * self.scale)

    def cdf(self, u: Tensor) -> Tensor:
        below = 0.5 * torch.exp(-u.abs() / self.scale)
        return torch.where(u < 0, below, 1 - below)

    def tail(self, probability: float) -> float:
        return -self.scale * math.log(probability)

    def draw_variances(self, shape: tuple[int, ...], *, generator: torch.Generator) -> Tensor:
        standard = torch.empty(shape, dtype=torch.float64).exponential_(generator=generator)
        return 2 * self.scale**2 * standard

    def variances_given(self, u: Tensor, *, generator: torch.Generator) -> Tensor:
        return reciprocal_inverse_gaussian(self.scale * u.abs(), self.scale**2, generator=generator)


@dataclass(frozen=True)
class StudentJumps:
    """Student's t with `dof` degrees of freedom, times `scale`."""

    dof: float = 3.0
    scale: float = 1.0

    def __post_init__(self) -> None:
        require_positive(dof=self.dof, scale=self.scale)

    @property
    def atom(self) -> float:
        return 0.0

    @property
    def kink(self) -> float:
        return 0.0

    @property
    def variance(self) -> float:
        return self.scale**2 * self.dof / (self.dof - 2) if self.dof > 2 else math.inf

    def density(self, u: Tensor) -> Tensor:
        nu = self.dof
        log_constant = math.lgamma((nu + 1) / 2) - math.lgamma(nu / 2) - 0.5 * math.log(nu * math.pi)
        return torch.exp(log_constant - (nu + 1) / 2 * torch.log1p((u / self.scale) ** 2 / nu)) / self.scale

    def cdf(self, u: Tensor) -> Tensor:
        return torch.from_numpy(np.asarray(scipy.special.stdtr(self.dof, (u / self.scale).numpy())))

    def tail(self, probability: float) -> float:
        return self.scale * float(-scipy.special.stdtrit(self.dof, probability / 2))

    def draw_variances(self, shape: tuple[int, ...], *, generator: torch.Generator) -> Tensor:
        half = torch.full(shape, self.dof / 2, dtype=torch.float64)
        return self.dof * self.scale**2 / 2 / torch._standard_gamma(half, generator=generator)

    def variances_given(self, u: Tensor, *, generator: torch.Generator) -> Tensor:
        half = torch.full_like(u, (self.dof + 1) / 2)
        return (self.dof * self.scale**2 + u**2) / 2 / torch._standard_gamma(half, generator=generator)


@dataclass(frozen=True)
class BernoulliGaussJumps:
    """0 with probability 1 - `rate`, else N(0, scale^2): spike and slab, a compound Poisson process."""

    rate: float = 0.1
    scale: float = 1.0

    def __post_init__(self) -> None:
        require_positive(scale=self.scale)
        if not 0 < self.rate < 1:
            raise InputError(f"rate: expected a probability between 0 and 1, got {self.rate}")

    @property
    def kink(self) -> float:
        return 0.0

    @property
    def atom(self) -> float:
        return 1 - self.rate

    @property
    def variance(self) -> float:
        return self.rate * self.scale**2

    def density(self, u: Tensor) -> Tensor:
        return self.rate * GaussianJumps(self.scale).density(u)

    def cdf(self, u: Tensor) -> Tensor:
        return self.rate * GaussianJumps(self.scale).cdf(u)

    def tail(self, probability: float) -> float:
        return GaussianJumps(self.scale).tail(min(probability / self.rate, 1.0))

    def draw_variances(self, shape: tuple[int, ...], *, generator: torch.Generator) -> Tensor:
        jumps = torch.rand(shape, dtype=torch.float64, generator=generator) < self.rate
        return self.scale**2 * jumps.double()

    def variances_given(self, u: Tensor, *, generator: torch.Generator) -> Tensor:
        del generator
        return self.scale**2 * (u != 0).double()


def reciprocal_inverse_gaussian(c: Tensor, d: float, *, generator: torch.Generator) -> Tensor:
    r"""v = 1/w for w inverse Gaussian of mean 1/c and shape 1/d, by the exact method of Michael, Schucany & Haas.

    With q = d chi^2_1 / 2, the larger root is :math:`v_1 = c + q + \sqrt{q^2 + 2 c q}`, taken with probability
    v_1 / (c + v_1), and c^2 / v_1 otherwise. Written so, nothing cancels and c = 0 is no exception (v = d chi^2_1).
    """
    q = d / 2 * torch.randn(c.shape, dtype=torch.float64, generator=generator).square()
    v = c + q + (q * (q + 2 * c)).sqrt()
    larger = torch.rand(c.shape, dtype=torch.float64, generator=generator) * (c + v) < v
    return torch.where(larger, v, c * (c / v.clamp(min=1e-300)))


@dataclass(frozen=True)
class LevyProcess:
    """`length` cumulative sums of independent jumps; events are (length,).

    >>> process = LevyProcess(LaplaceJumps(), 64)
    >>> process.draw(2, generator=torch.Generator().manual_seed(0)).shape
    torch.Size([2, 64])
    """

    law: JumpLaw
    length: int = 64

    def __post_init__(self) -> None:
        require_count("length", self.length, 1)

    @property
    def event_shape(self) -> tuple[int, ...]:
        """(length,)."""
        return (self.length,)

    def draw(self, n: int, *, generator: torch.Generator) -> Float[Tensor, "n length"]:
        """Realizations, float64."""
        v = self.law.draw_variances((n, self.length), generator=generator)
        return (v.sqrt() * torch.randn(v.shape, dtype=torch.float64, generator=generator)).cumsum(1)

    def jumps(self, x: Float[Tensor, "*batch length"]) -> Float[Tensor, "*batch length"]:
        """u_i = x_i - x_{i-1}."""
        return torch.diff(x, dim=-1, prepend=torch.zeros_like(x[..., :1]))

    def log_density(self, x: Float[Tensor, "*batch length"]) -> Float[Tensor, "*batch"]:
        """log p(x); where the jumps have an atom, u_i = 0 counts as log P(u = 0)."""
        u = self.jumps(x.double())
        continuous = self.law.density(u).log()
        return torch.where((u == 0) & (self.law.atom > 0), math.log(self.law.atom or 1.0), continuous).sum(-1)

    def covariance(self) -> Float[Tensor, "length length"]:
        """Var(u) min(i, j); raises InputError where the variance is infinite."""
        if not math.isfinite(self.law.variance):
            raise InputError(f"law: expected jumps of finite variance, got {self.law}")
        i = torch.arange(1, self.length + 1, dtype=torch.float64)
        return self.law.variance * torch.minimum(i[:, None], i)
