r"""The probability-flow map with its log-determinant, from any time to any other, in either direction.

Along :math:`\dot x = v(x, t) = \dot\alpha D + \dot\sigma\varepsilon` a transported density q obeys
:math:`\frac{d}{dt}\log q(x(t)) = -\operatorname{div} v`, so that

.. math::
    \log q_s(x_s) = \log q_t(x_t) - \log\Big|\det\frac{\partial x_s}{\partial x_t}\Big|, \qquad
    \log\Big|\det\frac{\partial x_s}{\partial x_t}\Big| = \int_t^s \operatorname{div} v \, dt', \qquad
    \operatorname{div} v = \frac{\dot\sigma}{\sigma}\, d
      + \Big(\dot\alpha - \frac{\alpha\dot\sigma}{\sigma}\Big)\operatorname{div} D .

*Time.* In the schedule's own time the field may be infinite at either end and have kinks. In

.. math::
    \tau = \operatorname{arsinh}(\alpha/\sigma), \qquad z = x/r, \quad r = \sqrt{\alpha^2 + \sigma^2}, \qquad
    z = \tanh(\tau)\,x_0 + \operatorname{sech}(\tau)\,\varepsilon

it is the same for every schedule, and simple:

.. math::
    \frac{dz}{d\tau} = D - \tanh(\tau)\, z, \qquad
    \frac{d}{d\tau}\log\Big|\det\frac{\partial z}{\partial z_t}\Big| = r \operatorname{div} D - d\tanh\tau, \qquad
    \log\Big|\det\frac{\partial x_s}{\partial x_t}\Big| = \log\Big|\det\frac{\partial z_s}{\partial z_t}\Big|
      + d\log\frac{r_s}{r_t} .

Near data tau is log(2 alpha/sigma): a step removes a share of the remaining noise. At high noise it is alpha/sigma, to
second order, which is 0 where alpha is. From alpha = 0, included, to sigma = 0, excluded, nothing is singular, and the
kinks of a table of betas are gone.
"""

import math
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.denoisers import Batch, BatchTime, Denoiser, over_events
from diffuscope.errors import InputError
from diffuscope.samplers.error_control import EvaluationsSpentError, Field, Slope, Times, integrate
from diffuscope.schedules import as_time

from .divergence import Divergence

FINE, COARSE = 1e-9, 1e-5  # the default tolerance in float64 and in coarser precisions


@dataclass(frozen=True, eq=False)
class Transported:
    """The points at time s, log|det dx_s/dx_t| in float64 (one column per probe), and the NFE.

    >>> import torch
    >>> from diffuscope.denoisers import ExactDenoiser
    >>> from diffuscope.densities import ExactDivergence, transport
    >>> from diffuscope.exact import Gaussian
    >>> from diffuscope.schedules import VE
    >>> denoiser = ExactDenoiser(Gaussian.isotropic(torch.zeros(2), 3.0), VE())
    >>> x_t = torch.ones(1, 2, dtype=torch.float64)
    >>> found = transport(denoiser, x_t, 1.0, 13**0.5, divergence=ExactDivergence(), tolerance=1e-8)
    >>> round(found.log_det.item(), 6)  # of 2 I, as 3 + 13 is 2^2 (3 + 1): 2 log 2
    1.386294
    """

    x_s: Batch
    log_det: Float[Tensor, "batch probes"]
    evaluations: int


@torch.no_grad()
def transport(
    denoiser: Denoiser,
    x_t: Batch,
    t: BatchTime,
    s: BatchTime,
    *,
    divergence: Divergence,
    tolerance: float | None = None,
    max_evaluations: int = 10_000,
) -> Transported:
    """Carry points from time `t` along the probability flow to time `s`, later or earlier, with the log-determinant.

    Dormand-Prince 5(4) with steps of its own for every sample. The error of a step is at most `tolerance` (1 + |z|) in
    the coordinates of z (root mean square) and `tolerance` nats per dimension in the log-determinant (root mean square
    over probes); by default 1e-9, in float32 1e-5. The denoiser is evaluated in the dtype of `x_t` at one time per
    sample, each time with its divergence. Times are numbers or one per sample.

    Raises InputError for points that are not finite, times outside the schedule, sigma = 0 at either end, a denoiser
    that returns NaN or infinity at `t`, and where `max_evaluations` do not suffice.

    >>> import torch
    >>> from diffuscope.denoisers import ExactDenoiser
    >>> from diffuscope.densities import ExactDivergence, transport
    >>> from diffuscope.exact import Gaussian
    >>> from diffuscope.schedules import VE
    >>> denoiser = ExactDenoiser(Gaussian.isotropic(torch.zeros(2), 3.0), VE())
    >>> x_t = torch.tensor([[6.0, -2.0]], dtype=torch.float64)
    >>> found = transport(denoiser, x_t, 13**0.5, 1.0, divergence=ExactDivergence(), tolerance=1e-8)
    >>> [round(value, 6) for value in found.x_s[0].tolist()]  # by sqrt((3 + 1) / (3 + 13))
    [3.0, -1.0]
    """
    if x_t.ndim < 2 or x_t.numel() == 0 or not x_t.is_floating_point():
        raise InputError(f"x_t: expected floats of shape (batch, *event), got {x_t.dtype} of shape {tuple(x_t.shape)}")
    if not bool(torch.isfinite(x_t).all()):
        raise InputError("x_t: expected finite values, got NaN or infinity")
    if tolerance is None:
        tolerance = FINE if x_t.dtype == torch.float64 else COARSE
    if not tolerance > 0:
        raise InputError(f"tolerance: expected a value > 0, got {tolerance}")
    start, end = _End.at(denoiser, x_t, t, "t"), _End.at(denoiser, x_t, s, "s")
    d = math.prod(x_t.shape[1:])
    field = _field(denoiser, divergence, x_t, start, end)
    z = (x_t.double() / over_events(start.scale, x_t.double())).flatten(1)
    slope = field(z, start.tau)
    if not bool(torch.isfinite(slope.value).all()):
        raise InputError("denoiser: expected finite answers at t, got NaN or infinity")
    y = torch.cat([z, z.new_zeros(len(z), slope.value.shape[1] - d)], dim=1)
    norm = partial(_size, d=d, tolerance=tolerance)
    try:
        ended = integrate(field, y, start.tau, end.tau, slope, norm=norm, max_evaluations=max_evaluations)
    except EvaluationsSpentError as spent:
        last = int((spent.reached - end.tau).abs().argmax())
        ratio = float(1 / spent.reached[last].sinh())  # infinite where alpha = 0
        raise InputError(
            f"max_evaluations: expected enough to go from t = {start.t[last]:g} to {end.t[last]:g} at "
            f"tolerance = {tolerance:g}, got {max_evaluations}, spent at sigma/alpha = {ratio:.3g}"
        ) from None
    x_s = over_events(end.scale, z) * ended.y[:, :d]
    log_det = ended.y[:, d:] + d * (end.scale / start.scale).log()[:, None]
    return Transported(x_s.reshape(x_t.shape).to(x_t.dtype), log_det, ended.evaluations + 1)


@dataclass(frozen=True, eq=False)
class _End:
    """One end of the trajectories: the time, tau and r there, sample by sample."""

    t: Times
    tau: Times
    scale: Times

    @classmethod
    def at(cls, denoiser: Denoiser, x: Batch, t: BatchTime, name: str) -> "_End":
        times = as_time(t).to(x.device)
        if times.ndim == 1 and len(times) != len(x):
            raise InputError(f"{name}: expected a number or one time per sample ({len(x)}), got {len(times)}")
        times, schedule = times.expand(len(x)), denoiser.schedule
        alpha, sigma = schedule.alpha(times), schedule.sigma(times)
        inside = (times >= min(0.0, schedule.t_min)) & (times <= schedule.t_max)
        good = inside & (alpha >= 0) & (sigma > 0) & torch.isfinite(alpha) & torch.isfinite(sigma)
        if not bool(good.all()):
            raise InputError(
                f"{name}: expected times of the schedule, up to {schedule.t_max:g}, where sigma(t) > 0, "
                f"got {float(times[~good][0]):g}"
            )
        return cls(times, torch.asinh(alpha / sigma), torch.hypot(alpha, sigma))


def _size(change: Batch, y: Batch, y_s: Batch, *, d: int, tolerance: float) -> Times:
    """A change of y = (z, log-determinants) in units of the tolerance: the larger of those of its two parts."""
    allowed = tolerance * (1 + torch.maximum(y[:, :d].abs(), y_s[:, :d].abs()))
    of_points = (change[:, :d] / allowed).square().mean(1).sqrt()
    of_determinant = change[:, d:].square().mean(1).sqrt() / (tolerance * d)
    return torch.maximum(of_points, of_determinant)


def _field(denoiser: Denoiser, divergence: Divergence, x_t: Batch, start: _End, end: _End) -> Field:
    """d/dtau of z, flattened, and of the log-determinants."""
    schedule, d = denoiser.schedule, math.prod(x_t.shape[1:])
    first, last = torch.minimum(start.t, end.t), torch.maximum(start.t, end.t)

    def field(y: Batch, tau: Times) -> Slope:
        # clamp against rounding: a table of times may end here
        t = schedule.time_of_lambda(tau.sinh().log()).maximum(first).minimum(last)
        scale, z = torch.hypot(schedule.alpha(t), schedule.sigma(t))[:, None], y[:, :d]
        value = divergence(denoiser, (scale * z).to(x_t.dtype).reshape(x_t.shape), t)
        drift = value.denoised.double().flatten(1) - tau.tanh()[:, None] * z
        growth = scale * value.divergence - d * tau.tanh()[:, None]
        return Slope(torch.cat([drift, growth], dim=1))

    return field
