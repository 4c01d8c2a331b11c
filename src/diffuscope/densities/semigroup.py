r"""The exact semigroup of a linear diffusion, between any two times of any schedule, in one step of any size.

From s to t > s a schedule scales and adds noise: a density is convolved with a Gaussian kernel,

.. math::
    p_t(x) = \int p_s(y)\, N(x; a y, v I)\, dy, \qquad a = \alpha_t/\alpha_s, \qquad v = \sigma_t^2 - a^2\sigma_s^2,
    \qquad \hat p_t(k) = \hat p_s(a k)\, e^{-v|k|^2/2} .

The scaled frequencies :math:`a k_m = 2\pi a m/L'` of the grid of :math:`p_t` are not those of the grid of
:math:`p_s`. The sum over its cells at any equally spaced frequencies is a chirp-z transform, and by
:math:`2 j m = j^2 + m^2 - (m - j)^2` a convolution (Bluestein 1970):

.. math::
    \hat p_s(a k_m) = h e^{-i a k_m \bar y}\sum_j p_j e^{-i\theta j m}
    = h e^{-i a k_m \bar y - i\theta m^2/2}\sum_j \big(p_j e^{-i\theta j^2/2}\big)\, e^{i\theta(m - j)^2/2},
    \qquad \theta = 2\pi a h/L',

where j is counted from the middle of the box :math:`\bar y`: three FFTs per axis, one of them planned in advance.
Frequencies above Nyquist's of :math:`p_s` are left out. The accuracy is spectral: the error is what the two grids do
not resolve, and the mass that leaves the box of :math:`p_t`. Both are measured (see `resolution`), and a density that
loses more than a tolerance is refused.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from diffuscope.errors import InputError
from diffuscope.schedules import Schedule, Time

from .density import Density
from .grid import Grid
from .resolution import leaving_probability, unresolved

Number = Float[Tensor, ""] | float | int
TOLERANCE = 1e-6


@dataclass(frozen=True, eq=False)
class Transition:
    """The kernel N(x; scale y, variance I) from densities on `source` to densities on `target`, reusable.

    Differentiable in scale and variance. Raises InputError for grids of different dimensions, and for a scale or a
    variance that is negative or not finite.
    """

    source: Grid
    target: Grid
    scale: Number
    variance: Number

    def __post_init__(self) -> None:
        if self.source.dimensions != self.target.dimensions:
            axes = f"{self.source.dimensions} axes as the source, got {self.target.dimensions}"
            raise InputError(f"target: expected {axes}")
        for name in ("scale", "variance"):
            value = _number(getattr(self, name))
            if not (math.isfinite(value) and value >= 0):
                raise InputError(f"{name}: expected a finite number >= 0, got {value:g}")

    def __call__(self, density: Density, *, tolerance: float | int = TOLERANCE) -> Density:
        """The density of scale y + sqrt(variance) xi.

        Raises InputError for a density on another grid than `source`, and, with the measured number, where more than
        `tolerance` of either density is `unresolved`, or of the mass is outside of the target.
        """
        if density.grid != self.source:
            raise InputError(f"density: expected one on {self.source}, got {density.grid}")
        _require(
            unresolved(density), tolerance, "density: the source grid is too coarse, {} of the spectrum is unresolved"
        )
        outside = self.source.volume * float((density.values.detach() * self._leaving).sum())
        _require(outside, tolerance, "target: the box is too small, a mass of {} leaves it")
        result = Density(self.target, self.apply(density.values))
        _require(unresolved(result), tolerance, "target: the grid is too coarse, {} of the spectrum is unresolved")
        return result

    def apply(self, values: Float[Tensor, "*source"]) -> Float[Tensor, "*target"]:
        """The same for values (*batch, *cells of the source), without a check of the resolution."""
        values = values.double()
        for back, axis in enumerate(reversed(self._axes), start=1):
            values = axis.apply(values.movedim(-back, -1)).movedim(-1, -back)
        return values

    @cached_property
    def _leaving(self) -> Float[Tensor, "*source"]:
        return leaving_probability(self.source, self.target, scale=_number(self.scale), variance=_number(self.variance))

    @cached_property
    def _axes(self) -> "tuple[_Axis, ...]":
        return tuple(_plan(self, axis) for axis in range(self.source.dimensions))


def transition(schedule: Schedule, s: Time, t: Time, source: Grid, target: Grid | None = None) -> Transition:
    """The kernel of a schedule from time s to t >= s; `target` is `source` by default.

    alpha(t) = 0 is allowed. Raises InputError for t < s and where alpha(s) = 0.

    >>> from diffuscope.densities import Density, Grid, transition
    >>> from diffuscope.schedules import RectifiedFlow
    >>> grid, other = Grid.line(-6, 6, 128), Grid.line(-4, 5, 96)
    >>> narrow = Density(grid, grid.evaluate(lambda x: -2 * (x[:, 0] - 1) ** 2))  # N(1, 1/4)
    >>> density = transition(RectifiedFlow(), 0.2, 0.6, grid, other)(narrow)  # a = 0.4 / 0.8, v = 0.6^2 - 0.5^2 * 0.2^2
    >>> round(density.mean().item(), 6), round(density.covariance().item(), 6)  # a, a^2 / 4 + v
    (0.5, 0.4125)
    """
    if not _number(s) <= _number(t):
        raise InputError(f"t: expected a time at or after s = {_number(s):g}, got {_number(t):g}")
    alpha_s, alpha_t = schedule.alpha(s), schedule.alpha(t)
    if not _number(alpha_s) > 0:
        raise InputError(f"s: expected a time with alpha(s) > 0, got {_number(s):g}")
    a = alpha_t / alpha_s
    v = schedule.sigma(t) ** 2 - a**2 * schedule.sigma(s) ** 2
    return Transition(source, source if target is None else target, a, v.clamp(min=0))


def ornstein_uhlenbeck(
    t: Number, source: Grid, target: Grid | None = None, *, theta: Number = 1.0, diffusivity: Number = 1.0
) -> Transition:
    """The kernel of dX = -theta X dt + sqrt(2 D) dB after a time t: a = e^(-theta t), v = D (1 - a^2)/theta.

    theta = 0 is Brownian motion, theta < 0 the unstable process. Raises InputError for a negative t or diffusivity.

    >>> import math
    >>> from diffuscope.densities import Density, Grid, ornstein_uhlenbeck
    >>> grid = Grid.line(-7, 7, 128)
    >>> narrow = Density(grid, grid.evaluate(lambda x: -2 * (x[:, 0] - 1) ** 2))  # N(1, 1/4)
    >>> density = ornstein_uhlenbeck(math.log(2) / 3, grid, theta=3.0, diffusivity=2.0)(narrow)  # a = 1/2, v = 1/2
    >>> round(density.mean().item(), 6), round(density.covariance().item(), 6)  # a, a^2 / 4 + v
    (0.5, 0.5625)
    """
    t, theta, D = (torch.as_tensor(number, dtype=torch.float64) for number in (t, theta, diffusivity))
    if not (_number(t) >= 0 and _number(D) >= 0):
        raise InputError(f"t: expected t >= 0 and diffusivity >= 0, got {_number(t):g} and {_number(D):g}")
    rate = torch.where(theta == 0, 1.0, theta)
    v = torch.where(theta == 0, 2 * D * t, -D * torch.expm1(-2 * theta * t) / rate)
    return Transition(source, source if target is None else target, torch.exp(-theta * t), v)


@dataclass(frozen=True, eq=False)
class _Axis:
    """One axis, from real values to real values: times `before`, convolved with `chirp`, times `after`, transformed."""

    before: Complex[Tensor, " source"]
    chirp: Complex[Tensor, " size"]
    after: Complex[Tensor, " frequencies"]
    cells: int

    def apply(self, values: Float[Tensor, "*batch source"]) -> Float[Tensor, "*batch target"]:
        convolved = torch.fft.ifft(torch.fft.fft(values * self.before, n=len(self.chirp)) * self.chirp)
        return torch.fft.irfft(convolved[..., : len(self.after)] * self.after, n=self.cells)


def _plan(transition: Transition, axis: int) -> _Axis:
    source, target = transition.source, transition.target
    a, v = (torch.as_tensor(number, dtype=torch.float64) for number in (transition.scale, transition.variance))
    N, M, h = source.cells[axis], target.cells[axis], source.widths[axis]
    m = torch.arange(M // 2 + 1, dtype=torch.float64)
    k = 2 * math.pi / target.lengths[axis] * m
    theta = a * h * (2 * math.pi / target.lengths[axis])
    j = torch.arange(N, dtype=torch.float64) - (N - 1) / 2
    size = 1 << (N + M // 2 - 1).bit_length()
    lag = torch.arange(size, dtype=torch.float64)  # m - j counted from 0; the last N - 1 stand for negative lags
    lag = torch.where(lag > M // 2, lag - size, lag) + (N - 1) / 2
    middle = (source.low[axis] + source.high[axis]) / 2
    shift = target.low[axis] + target.widths[axis] / 2 - a * middle
    resolved = (theta * m / math.pi).float() <= 1  # in single precision: Nyquist's mode is resolved, however it rounds
    amplitude = torch.where(resolved, h / target.widths[axis] * torch.exp(-v * k**2 / 2), 0.0)
    before, chirp = torch.exp(-0.5j * theta * j**2), torch.fft.fft(torch.exp(0.5j * theta * lag**2))
    return _Axis(before, chirp, amplitude * torch.exp(1j * (k * shift - theta * m**2 / 2)), M)


def _number(value: Time) -> float:
    return float(torch.as_tensor(value, dtype=torch.float64).detach())


def _require(share: float, tolerance: float | int, message: str) -> None:
    if not share <= tolerance:
        raise InputError(f"{message.format(f'{share:.1e}')} (tolerance {float(tolerance):.0e})")
