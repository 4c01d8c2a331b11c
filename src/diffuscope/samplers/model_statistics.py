r"""Empirical model statistics: the coefficients of DPM-Solver-v3, estimated from the model itself.

Along the probability flow, :math:`y = x/\alpha` obeys :math:`dy/d\lambda = -e^{-\lambda}\varepsilon`. For elementwise
coefficients :math:`l(\lambda), s(\lambda), b(\lambda)` write

.. math::  f = \frac{\sigma\varepsilon - l x}{\alpha} = (1 - l)\,y - D, \qquad
           \frac{dy}{d\lambda} = -l\,y - f, \qquad \frac{df}{d\lambda} = s f + b + \text{rest} .

Any choice is exact; a good one leaves little to approximate. The statistics are the best elementwise choice:

- l minimizes :math:`E\|\nabla_x f\|_F^2`, so that f depends on the state as little as possible:
  :math:`l = \sigma\, E[\mathrm{diag}\,\nabla_x\varepsilon] = 1 - \alpha E[\mathrm{diag}\,\nabla_x D]`;
- s, b minimize :math:`E\|df/d\lambda - s f - b\|^2`: the linear regression of df/dlambda on f,
  :math:`s = \mathrm{Cov}(f, f')/\mathrm{Var}(f)`, :math:`b = E f' - s\,E f`.

The expectations are over the noised data. df/dlambda is the derivative along the flow: the central difference of two
DDIM steps up and down, whose own errors are even in the step and cancel.

On Gaussian data with a diagonal covariance :math:`l = \sigma^2/(\alpha^2\mathrm{Var} + \sigma^2)`,
:math:`f = -l\mu`, hence s is free (0 here) and :math:`b = -\mu\, dl/d\lambda`.

Source: Zheng, Lu, Chen & Zhu 2023, *DPM-Solver-v3*, https://arxiv.org/abs/2310.13268 (section 3.2 and appendix C; the
authors published the arrays of some models, not their estimation).
"""

import zipfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from scipy.interpolate import CubicSpline
from torch import Tensor

from diffuscope.denoisers import Batch, Denoiser, ExactDenoiser
from diffuscope.errors import InputError
from diffuscope.files import save_arrays

from .ddim import frozen_denoised_step
from .noise import Noise
from .schedule_values import Instant, instant_of_lambda

STEP = 1e-2  # of the differences: in lambda along the flow, in units of sigma across it
CONSTANT = 1e-8  # a variance of f, relative to that of y - D, below which f does not vary
EDGE = 1e-9  # tolerance for a lambda after a round trip through a schedule


@dataclass(frozen=True, eq=False)
class ModelStatistics:
    """l, s and b, (levels, *event) each, at increasing `lams`; cubic splines between the levels, nothing outside.

    They are functions of lambda, independent of the sampling grid: a start at lower noise uses the part it needs.
    Raises InputError for fewer than four levels, levels that do not increase, or arrays of other shapes.

    >>> import torch
    >>> from diffuscope.samplers import ModelStatistics
    >>> lams, one = torch.linspace(0.0, 3.0, 4), torch.ones(4, 1)
    >>> statistics = ModelStatistics(lams, 0.5 * lams[:, None], 0 * one, 2 * one)
    >>> round(statistics.integral_l(2.0).item(), 9), round(statistics.integral_b(1.5).item(), 9)  # lambda^2/4, 2 lambda
    (1.0, 3.0)
    """

    lams: Float[Tensor, " levels"]
    l: Float[Tensor, "..."]  # noqa: E741
    s: Float[Tensor, "..."]
    b: Float[Tensor, "..."]

    def __post_init__(self) -> None:
        for name in ("lams", "l", "s", "b"):
            object.__setattr__(self, name, getattr(self, name).detach().double().cpu())
        if len(self.lams) < 4 or not bool((self.lams[1:] > self.lams[:-1]).all()):
            raise InputError(f"lams: expected at least four increasing values, got {self.lams.tolist()}")
        for name in ("l", "s", "b"):
            given, expected = tuple(getattr(self, name).shape), (len(self.lams), *self.l.shape[1:])
            if given != expected:
                raise InputError(f"{name}: expected shape {expected}, one row per level, got {given}")

    @property
    def event_shape(self) -> tuple[int, ...]:
        """The shape of one example."""
        return tuple(self.l.shape[1:])

    def covers(self, lam: float) -> bool:
        """Whether `lam` lies between the first and the last level."""
        return float(self.lams[0]) - EDGE <= lam <= float(self.lams[-1]) + EDGE

    @cached_property
    def l_at(self) -> CubicSpline:
        """l(lambda)."""
        return CubicSpline(self.lams.numpy(), self.l.numpy())

    @cached_property
    def integral_l(self) -> CubicSpline:
        """L, the integral of l from the first level."""
        return self.l_at.antiderivative()

    @cached_property
    def integral_s(self) -> CubicSpline:
        """S, the integral of s from the first level."""
        return CubicSpline(self.lams.numpy(), self.s.numpy()).antiderivative()

    @cached_property
    def integral_b(self) -> CubicSpline:
        """B, the integral of e^-S b from the first level."""
        grid = self.lams.numpy()
        return CubicSpline(grid, np.exp(-self.integral_s(grid)) * self.b.numpy()).antiderivative()

    def save(self, path: str | Path) -> None:
        """Write the arrays to an .npz file (float64, no pickle)."""
        save_arrays(Path(path), {name: getattr(self, name).numpy() for name in ("lams", "l", "s", "b")})

    @classmethod
    def load(cls, path: str | Path) -> "ModelStatistics":
        """Read a file that `save` wrote, without pickle. Raises InputError for a file that cannot be read as one."""
        try:
            with np.load(path, allow_pickle=False) as file:
                return cls(*(torch.as_tensor(file[name]) for name in ("lams", "l", "s", "b")))
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise InputError(f"path: cannot read {Path(path).name} as saved model statistics ({error})") from error


def plain_statistics(lams: Float[Tensor, " levels"], event_shape: tuple[int, ...]) -> ModelStatistics:
    """l = 1, s = b = 0: f = -D, and DPM-Solver-v3 is DPM-Solver++.

    >>> import torch
    >>> from diffuscope.samplers import plain_statistics
    >>> statistics = plain_statistics(torch.linspace(-1.0, 2.0, 7), (1,))
    >>> round(statistics.integral_l(0.5).item(), 9), statistics.integral_b(0.5).item()  # l = 1 and b = 0, from -1 on
    (1.5, 0.0)
    """
    ones = torch.ones(len(lams), *event_shape, dtype=torch.float64)
    return ModelStatistics(lams, ones, torch.zeros_like(ones), torch.zeros_like(ones))


@torch.no_grad()
def estimate_statistics(
    denoiser: Denoiser, x_0: Batch, lams: Float[Tensor, " levels"], *, generator: torch.Generator, probes: int = 1
) -> ModelStatistics:
    """l, s and b of `denoiser` at increasing `lams`, from clean examples `x_0` with fresh noise at every level.

    The diagonal of the Jacobian is exact for an `ExactDenoiser` (from the posterior covariance); for others it is
    Hutchinson's estimate, v * (J v) with random signs v and J v by central differences: 3 + 2 `probes` evaluations per
    level and example. s is 0 where f does not vary. The paper uses 1024 to 4096 examples and 120 to 1200 levels.
    Raises InputError for probes < 1, and for `lams` as `ModelStatistics`.

    >>> import torch
    >>> from diffuscope import VE, ExactDenoiser, Gaussian
    >>> from diffuscope.samplers import estimate_statistics
    >>> model = ExactDenoiser(Gaussian.isotropic(torch.tensor([2.0]), 3.0), VE())
    >>> draw, lams = torch.Generator().manual_seed(0), torch.linspace(-0.2, 0.2, 5)
    >>> found = estimate_statistics(model, torch.ones(4, 1), lams, generator=draw)  # at lambda = 0, sigma = 1:
    >>> round(float(found.l[2]), 6), round(float(found.b[2]), 3)  # l = 1 / (3 + 1), -mu dl/dlambda = 2 mu l (1 - l)
    (0.25, 0.75)
    """
    if probes < 1:
        raise InputError(f"probes: expected at least one, got {probes}")
    lams, noise = lams.double().cpu(), Noise(generator)
    instants = [instant_of_lambda(denoiser.schedule, lam) for lam in lams.tolist()]
    states = [at.alpha * x_0 + at.sigma * noise.normal(x_0) for at in instants]
    rows = [
        _mean(1 - at.alpha * _jacobian_diagonal(denoiser, x_t, at, noise, probes))
        for at, x_t in zip(instants, states, strict=True)
    ]
    l = torch.stack(rows)  # noqa: E741
    spline = CubicSpline(lams.numpy(), l.numpy())
    s, b = torch.zeros_like(l), torch.zeros_like(l)
    for i, (at, x_t) in enumerate(zip(instants, states, strict=True)):
        denoised = denoiser(x_t, at.t)
        f = _residual(x_t, denoised, at, spline)
        slope = _slope_along_the_flow(denoiser, x_t, denoised, at, spline)
        s[i], b[i] = _regression(slope, f, scale=x_t.double() / at.alpha - denoised.double())
    return ModelStatistics(lams, l, s, b)


def _residual(x_t: Batch, denoised: Batch, at: Instant, l: CubicSpline) -> Batch:  # noqa: E741
    """f = (1 - l) x / alpha - D, in float64."""
    rate = torch.as_tensor(l(at.lam), dtype=torch.float64, device=x_t.device)
    return (1 - rate) * x_t.double() / at.alpha - denoised.double()


def _slope_along_the_flow(denoiser: Denoiser, x_t: Batch, denoised: Batch, at: Instant, l: CubicSpline) -> Batch:  # noqa: E741
    """df/dlambda by the central difference of DDIM steps; their errors are even in the step."""
    ends = []
    for lam in (at.lam - STEP, at.lam + STEP):
        near = instant_of_lambda(denoiser.schedule, lam)
        x_near = frozen_denoised_step(x_t, denoised, at, near)
        ends.append(_residual(x_near, denoiser(x_near, near.t), near, l))
    return (ends[1] - ends[0]) / (2 * STEP)


def _regression(slope: Batch, f: Batch, scale: Batch) -> tuple[Tensor, Tensor]:
    """(s, b) of the least-squares line slope = s f + b, element by element."""
    centered = f - f.mean(0)
    variance = _mean(centered**2)
    varies = variance > CONSTANT * _mean((scale - scale.mean(0)) ** 2)
    covariance = _mean(centered * (slope - slope.mean(0)))
    s = torch.where(varies, covariance / torch.where(varies, variance, 1.0), 0.0)
    return s, _mean(slope) - s * _mean(f)


def _jacobian_diagonal(denoiser: Denoiser, x_t: Batch, at: Instant, noise: Noise, probes: int) -> Batch:
    """The diagonal of the denoiser's Jacobian at every x_t, or unbiased estimates of it."""
    if isinstance(denoiser, ExactDenoiser):
        variance = denoiser.distribution.posterior_covariance(x_t, at.alpha, at.sigma).diagonal()
        return at.alpha / at.sigma**2 * variance
    total = torch.zeros_like(x_t)
    for _ in range(probes):
        signs = noise.normal(x_t).sign()
        shift = STEP * at.sigma * signs
        difference = denoiser(x_t + shift, at.t) - denoiser(x_t - shift, at.t)
        total = total + signs * difference / (2 * STEP * at.sigma)
    return total / probes


def _mean(values: Batch) -> Tensor:
    """The mean over the batch, in float64 on the CPU."""
    return values.double().mean(0).cpu()
