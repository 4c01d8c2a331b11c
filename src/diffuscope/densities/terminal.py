r"""The distribution at the end of a diffusion: pure noise, or the Gaussian implied there by an exact denoiser.

For Gaussian data :math:`N(\mu, \Sigma)` the noised distribution is :math:`N(\alpha\mu, V)` with
:math:`V = \alpha^2\Sigma + \sigma^2`, and the denoiser is :math:`D = \mu + \alpha\Sigma V^{-1}(x - \alpha\mu)`. So its
Jacobian J, at any one point, and its fixed point give both moments:

.. math::
    \sigma^2 V^{-1} = I - \alpha J, \qquad
    V - \sigma^2 = \sigma^2\,\alpha J (I - \alpha J)^{-1}, \qquad
    \alpha D(m) = m \Leftrightarrow m = \alpha\mu .

This holds at alpha = 0 too, where V is sigma^2 and m is 0. For other data this is the Gaussian of the same mode and
curvature; J is symmetrized and the eigenvalues of alpha J clamped at 0, as holds for every noised distribution.

*Range of validity.* The score :math:`s = (\alpha D - x)/\sigma^2` gives differences of the true log-density, so that
the error at any point, relative to the mode, is one line integral (three Gauss-Legendre nodes, exact to degree 5):

.. math::  \mathrm{gap}(x) = \int_0^1 \big[s - s_{Gauss}\big](m + u(x - m)) \cdot (x - m)\, du
           = \log\frac{p(x)}{p(m)} - \log\frac{N(x)}{N(m)} .

With :math:`\delta`, alpha/sigma times the size of the data, it is of order delta^3 (delta^2 where V is isotropic and
the data are not). Added to log N, it leaves only the error of :math:`\log N(m)`, a constant of order delta^4.

A trained network is rarely such a denoiser there: one that predicts noise has its error multiplied by sigma/alpha, and
none was trained at the mode, which noise never visits. For two published networks the mean eigenvalue of alpha J is
1e-2 at typical noise, in place of 4e-6, and unbounded at the mode. Their samples start from pure noise in any case, and
so does their density.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.denoisers import Batch, Denoiser, ExactDenoiser, denoised_to_score
from diffuscope.errors import InputError
from diffuscope.exact import Distribution, Gaussian

from .divergence import Divergence, jacobian

DENSE = 1024  # dimension up to which all of J is computed; beyond, V is isotropic with the trace of J
STEPS = 3  # of Newton's method toward the mode; one is enough for a Gaussian


@dataclass(frozen=True, eq=False)
class TerminalGaussian:
    """The distribution of `x_t` at time `t`, that of `signal` + sigma eps, as implied by `denoiser`.

    >>> import math, torch
    >>> from diffuscope.denoisers import ExactDenoiser
    >>> from diffuscope.densities import ExactDivergence, terminal_gaussian
    >>> from diffuscope.exact import Gaussian
    >>> from diffuscope.schedules import RectifiedFlow
    >>> denoiser = ExactDenoiser(Gaussian.isotropic(torch.full((1,), 3.0), 7.0), RectifiedFlow())
    >>> x_t = torch.tensor([[1.75]], dtype=torch.float64)
    >>> found = terminal_gaussian(denoiser, x_t, 0.75, divergence=ExactDivergence())  # N(3/4, 7/16 + 9/16)
    >>> round(found.log_prob(x_t).item() + math.log(2 * math.pi) / 2, 6)  # -1^2 / 2
    -0.5
    """

    denoiser: Denoiser
    t: float
    signal: Gaussian

    def log_prob(self, x_t: Batch) -> Float[Tensor, " batch"]:
        """log N(x_t; m, V), float64, in nats."""
        return self.signal.log_prob(x_t.double(), 1.0, self.denoiser.schedule.sigma(self.t))

    @torch.no_grad()
    def gap(self, x_t: Batch) -> Float[Tensor, " batch"]:
        """log(p(x_t) / p(m)) minus its Gaussian value, in nats, float64: three function evaluations per sample."""
        mean, total = self.signal.mean, torch.zeros(len(x_t), dtype=torch.float64, device=x_t.device)
        away = x_t.double() - mean
        for node, weight in ((0.5 - 0.15**0.5, 5 / 18), (0.5, 8 / 18), (0.5 + 0.15**0.5, 5 / 18)):
            point = mean + node * away
            denoised = self.denoiser(point.to(x_t.dtype), self.t).double()
            excess = denoised_to_score(point, denoised, self.denoiser.schedule, self.t)
            excess = excess - self.signal.score(point, 1.0, self.denoiser.schedule.sigma(self.t))
            total += weight * (excess * away).flatten(1).sum(1)
        return total


def terminal_gaussian(denoiser: Denoiser, like: Batch, t: float | int, *, divergence: Divergence) -> TerminalGaussian:
    """The Gaussian implied by `denoiser` at time `t`, for events of the shape, dtype and device of `like`.

    Up to 1,024 dimensions from the full Jacobian; beyond, isotropic, with tr J the mean of `divergence` over the batch
    of `like` (and its probes). Raises InputError where an eigenvalue of alpha J reaches 1: the distribution is then not
    near a Gaussian.

    >>> import torch
    >>> from diffuscope.denoisers import ExactDenoiser
    >>> from diffuscope.densities import ExactDivergence, terminal_gaussian
    >>> from diffuscope.exact import Gaussian
    >>> from diffuscope.schedules import RectifiedFlow
    >>> denoiser = ExactDenoiser(Gaussian.isotropic(torch.full((1,), 3.0), 7.0), RectifiedFlow())
    >>> like = torch.zeros(1, 1, dtype=torch.float64)
    >>> signal = terminal_gaussian(denoiser, like, 0.75, divergence=ExactDivergence()).signal  # alpha = 1/4
    >>> round(signal.mean.item(), 6), round(signal.trace, 6)  # 3 alpha, 7 alpha^2
    (0.75, 0.4375)
    """
    alpha, sigma = (float(level) for level in (denoiser.schedule.alpha(t), denoiser.schedule.sigma(t)))
    d = math.prod(like.shape[1:])
    vectors = torch.eye(d, dtype=torch.float64, device=like.device)[:, : d if d <= DENSE else 0]
    mode = torch.zeros_like(like[0], dtype=torch.float64)
    gains, tail = vectors.new_zeros(vectors.shape[1]), 0.0
    for _ in range(STEPS):
        if d <= DENSE:
            full = jacobian(denoiser, mode[None].to(like.dtype), t)[0]
            gains, vectors = torch.linalg.eigh((full + full.T) / 2)
            gains = _required(alpha * gains, t)
        else:
            trace = divergence(denoiser, mode.to(like.dtype).expand_as(like), t).divergence.mean()
            tail = float(_required(alpha * trace[None] / d, t)[0])
        with torch.no_grad():
            step = (alpha * denoiser(mode[None].to(like.dtype), t)[0].double() - mode).flatten()
        # Newton: V s = (I - alpha J)^-1 (alpha D - m)
        along = vectors.T @ step
        mode = mode + (vectors @ (along / (1 - gains)) + (step - vectors @ along) / (1 - tail)).reshape(mode.shape)
    variances, tail = sigma**2 * gains / (1 - gains), sigma**2 * tail / (1 - tail)
    signal = Gaussian(mode, vectors.flip(1), variances.flip(0), tail)
    return TerminalGaussian(denoiser, float(t), signal)


def start_distribution(denoiser: Denoiser, like: Batch, *, divergence: Divergence) -> Distribution | TerminalGaussian:
    """The default distribution at t_max: the Gaussian of an exact denoiser, for any other pure noise.

    Pure noise, N(0, sigma^2 I), is the noised distribution of data at 0.
    """
    if isinstance(denoiser, ExactDenoiser):
        return terminal_gaussian(denoiser, like, denoiser.schedule.t_max, divergence=divergence)
    return Gaussian.isotropic(torch.zeros_like(like[0], dtype=torch.float64), 0.0)


def require_distribution(
    terminal: Distribution | TerminalGaussian, denoiser: Denoiser, like: Batch
) -> Distribution | TerminalGaussian:
    """`terminal`. Raises InputError unless it has the events of `like`, at the end of the denoiser's schedule."""
    end, shape = denoiser.schedule.t_max, tuple(like.shape[1:])
    if isinstance(terminal, TerminalGaussian) and terminal.t != end:
        raise InputError(f"terminal: expected the distribution at t_max = {end:g}, got t = {terminal.t:g}")
    distribution = terminal.signal if isinstance(terminal, TerminalGaussian) else terminal
    given = tuple(distribution.event_shape)
    if given != shape:
        raise InputError(f"terminal: expected events of shape {shape}, got {given}")
    return terminal


def _required(gains: Float[Tensor, " k"], t: float | int) -> Float[Tensor, " k"]:
    """Eigenvalues of alpha J, clamped at 0. Raises InputError unless all are below 1."""
    if not bool((gains < 1).all()):
        raise InputError(
            f"terminal: at t = {float(t):g} the denoiser shows no Gaussian, as alpha dD/dx reaches "
            f"{float(gains.max()):.3g}, expected below 1; give the terminal distribution or a schedule with more noise"
        )
    return gains.clamp_min(0)
