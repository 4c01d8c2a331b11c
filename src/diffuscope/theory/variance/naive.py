r"""The naive learned score: every step of a run sees a target of its own, so that the noise is white.

At each Euler step a fresh example is drawn, :math:`x_{0} \sim p(x_0 \mid x, t)`, and the step moves by its proxy score
in the place of the score (training that is interleaved with sampling). With :math:`D = g^2/2` and a strength kappa,

.. math::
    x_{t-h} = x - h\,(f x - D\,s) + \sqrt{\kappa h}\; D\,(\tilde s(x, t; x_0) - s), \qquad
    A(x, t) = \kappa\, D\, C(x, t)\, D ,

so that the average score is the exact one and the noise has the covariance of the proxy score. For N(0, v) in the
schedule :math:`\alpha = 1, \sigma = t`, started with variance :math:`v + T^2`,

.. math::
    \mathrm{Var}_\epsilon = (v + \epsilon^2)\left[1 + \kappa v\,(a(T) - a(\epsilon))\right], \qquad
    a(t) = \frac{t}{2 v (v + t^2)} + \frac{\arctan(t / \sqrt v)}{2 v^{3/2}},

whose limit is :math:`v + \kappa\pi\sqrt v / 4`. The model adds noise where examples compete, and in the Ito equation
that drives mass away from there: it does not fill gaps, it empties them.

Source: Vastola 2025, *Generalization through variance*, https://arxiv.org/abs/2504.12532 (Proposition 4.1).
"""

import math
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.errors import InputError
from diffuscope.exact import Distribution
from diffuscope.schedules import Schedule

from .effective import TRAJECTORIES, euler_maruyama
from .noise import Points, Time
from .proxy import ProxyCovariance, ProxyScore


@dataclass(frozen=True, eq=False)
class Naive:
    """White noise of amplitude kappa D C D about the exact score of `data`: points (n, d) or a distribution of (d,).

    Fulfills `White`. Raises InputError for a kappa that is negative or not finite and for events that are not vectors.

    >>> import torch
    >>> from diffuscope.exact import Gaussian
    >>> from diffuscope.schedules import RectifiedFlow
    >>> from diffuscope.theory.variance import Naive
    >>> naive = Naive(Gaussian.isotropic(torch.zeros(1), 3.0), RectifiedFlow(), kappa=2)
    >>> round(float(naive.amplitude(torch.tensor([[2.0]]), 0.2).trace()), 6)  # 2 x (0.2 / 0.8)^2 (1 / 0.04 - 1 / 1.96)
    3.061224
    """

    data: Float[Tensor, "n *event"] | Distribution
    schedule: Schedule
    kappa: float | int = 1.0
    proxy: ProxyScore = field(init=False)

    def __post_init__(self) -> None:
        if not (math.isfinite(self.kappa) and self.kappa >= 0):
            raise InputError(f"kappa: expected a finite number >= 0, got {self.kappa}")
        object.__setattr__(self, "proxy", ProxyScore(self.data, self.schedule))
        shape = self.proxy.distribution.event_shape
        if len(shape) != 1:
            raise InputError(f"data: expected points as vectors (d,), got events of shape {tuple(shape)}; flatten them")

    def score(self, x: Points, t: Time) -> Points:
        """The exact score of the data at time t."""
        return self.proxy.score(x, t)

    def amplitude(self, x: Points, t: Time) -> ProxyCovariance:
        """A(x, t) = kappa D C D, in x^2 per unit of t; draws are exactly N(0, A)."""
        return self.proxy.covariance(x, t).scaled(math.sqrt(self.kappa) * self.schedule.g_squared(t) / 2)


def interleaved_sample(
    kernel: Naive,
    x: Points,
    times: Float[Tensor, " times"],
    *,
    generator: torch.Generator,
    trajectories: int = TRAJECTORIES,
) -> Points:
    """The run itself: every Euler step from times[0] to times[-1] draws a fresh x_0 given x.

    Its increments have the mean and covariance of `effective_white_sample(kernel, ...)` and are not Gaussian: the two
    have the same distribution as the steps become small. Raises InputError as `effective_white_sample` does, and for a
    distribution whose posterior cannot be drawn from.

    >>> import torch
    >>> from diffuscope.exact import Gaussian
    >>> from diffuscope.schedules import VE
    >>> from diffuscope.theory.variance import Naive, interleaved_sample
    >>> naive, x = Naive(Gaussian.isotropic(torch.zeros(1), 9.0), VE(), kappa=0.5), torch.full((4000, 1), 10.0)
    >>> x = interleaved_sample(naive, x, torch.tensor([4.0, 2.0]), generator=torch.Generator().manual_seed(0))
    >>> bool((x.mean() - 6.8).abs() < 4 * 0.0095)  # 10 - 2 x 4 x 10 / (9 + 16), and its standard error
    True
    >>> bool((x.var() - 0.36).abs() < 4 * 0.0081)  # 0.5 x 2 x 4^2 (1 / 16 - 1 / 25)
    True
    """
    proxy, strength = kernel.proxy, math.sqrt(kernel.kappa)

    def score_and_noise(state: Points, t: Float[Tensor, ""]) -> tuple[Points, Points]:
        score = proxy.score(state, t)
        D = kernel.schedule.g_squared(t) / 2
        return score, strength * D * (proxy.sample(state, t, generator=generator) - score)

    return euler_maruyama(kernel.schedule, score_and_noise, x, times, trajectories=trajectories)


def gaussian_variance(v: float, kappa: float, start: float, end: float) -> float:
    """Var at `end` of the naive model of N(0, v) where alpha = 1 and sigma = t, from variance v + start^2 at `start`.

    Raises InputError unless v > 0, kappa >= 0 and start > end >= 0, all finite.
    """
    if not (0 < v < math.inf and 0 <= kappa < math.inf and 0 <= end < start < math.inf):
        given = f"v = {v}, kappa = {kappa}, start = {start}, end = {end}"
        raise InputError(f"v, kappa, start, end: expected v > 0, kappa >= 0 and start > end >= 0, got {given}")

    def a(t: float) -> float:
        return t / (2 * v * (v + t**2)) + math.atan(t / math.sqrt(v)) / (2 * v**1.5)

    return (v + end**2) * (1 + kappa * v * (a(start) - a(end)))
