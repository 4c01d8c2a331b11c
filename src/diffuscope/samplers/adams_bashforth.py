r"""Exponential Adams-Bashforth (DEIS): the prediction extrapolated through the latest evaluations, one per step.

In :math:`\lambda = \log(\alpha/\sigma)` the probability-flow ODE is an integral of either prediction,

.. math::
    \frac{x_s}{\sigma_s} = \frac{x_t}{\sigma_t} + \int_{\lambda_t}^{\lambda_s} e^{\lambda} D\,d\lambda, \qquad
    \frac{x_s}{\alpha_s} = \frac{x_t}{\alpha_t} - \int_{\lambda_t}^{\lambda_s} e^{-\lambda}\varepsilon\,d\lambda .

Replace the prediction by the Lagrange polynomial of degree k - 1 through k evaluations at
:math:`\lambda_1, \dots, \lambda_k`, in an increasing variable :math:`u(\lambda)`. The step is then the exact step with
the prediction frozen at a weighted mean of the evaluations:

.. math::
    \bar D = \sum_j w_j D_j, \qquad
    w_j = \frac{\int_{\lambda_t}^{\lambda_s} e^{c\lambda}\,\ell_j(u(\lambda))\,d\lambda}
               {\int_{\lambda_t}^{\lambda_s} e^{c\lambda}\,d\lambda}, \qquad \sum_j w_j = 1,

with c = 1 for data and c = -1 for noise prediction. The variable is :math:`u = (1 - (\sigma/\alpha)^p)/p` up to units:
a polynomial in :math:`(\sigma/\alpha)^p`, in lambda for p = 0 (the limit). It has no preferred scale of the data.

**The start.** The usual ramp of orders 1, 2, 3, ... has order 2 whatever order it climbs to: the first step has an
error of :math:`h^2`, once. Two remedies, for a start without history:

- order 3: when the second step evaluates the model at the end of the first, that evaluation also corrects the first
  step (trapezoidal, error :math:`h^3`). No evaluation is added.
- order 4: the same, and the model is evaluated once more at the corrected point; the evaluation after the second step
  then corrects both steps at once, from the start (error :math:`h^4`). One evaluation is added per trajectory.

Source: Zhang & Chen 2022, *Fast Sampling of Diffusion Models with Exponential Integrator* (DEIS),
https://arxiv.org/abs/2204.13902 (section 3.3); Lu et al. 2022, https://arxiv.org/abs/2206.00927. The corrected start
uses the corrector of Zhao et al. 2023 (UniC), https://arxiv.org/abs/2302.04867.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np

from diffuscope.denoisers import Batch, Denoiser
from diffuscope.errors import InputError

from .contract import Evaluation, State
from .ddim import frozen_denoised_step
from .noise import Noise
from .schedule_values import Instant

PANEL = 2.0  # 12 Gauss nodes integrate exp(4 lambda) over such a length to rounding
ABSCISSAE, WEIGHTS = (rule.tolist() for rule in np.polynomial.legendre.leggauss(12))

Nodes = Sequence[Evaluation]
Transport = Callable[[Batch, Instant, Instant, Nodes], Batch]
"""(x at a, a, b, nodes) -> x at b, with the prediction between a and b interpolated through the nodes."""


@dataclass(frozen=True, eq=False, slots=True)
class Predicted(State):
    """A prediction: the evaluation made at this state corrects it."""


@lru_cache(maxsize=4096)  # many trajectories share one grid
def interpolation_weights(
    lams: tuple[float, ...], a: float, b: float, *, rate: float, power: float
) -> tuple[float, ...]:
    """The mean over [a, b] of each Lagrange polynomial through `lams`, under the density exp(rate lambda).

    The polynomials are in u = (1 - exp(-power lambda)) / power, 0 <= power <= 1 (lambda itself for power = 0). Accurate
    to rounding for steps of any size: Gauss-Legendre quadrature never divides by the step.
    """
    if len(lams) == 1:
        return (1.0,)
    u = [_variable(lam - b, power) for lam in lams]
    means = _moments(a - b, len(lams), rate, power)
    weights = []
    for j, u_j in enumerate(u):
        coefficients = [1.0]  # of prod_{i != j} (u - u_i), lowest first
        scale = 1.0
        for i, u_i in enumerate(u):
            if i != j:
                coefficients = [
                    low - u_i * high for low, high in zip([0.0, *coefficients], [*coefficients, 0.0], strict=True)
                ]
                scale *= u_j - u_i
        weights.append(sum(c * m for c, m in zip(coefficients, means, strict=True)) / scale)
    return tuple(weights)


def _variable(lam: float, power: float) -> float:
    return -math.expm1(-power * lam) / power if power > 0 else lam


def _moments(start: float, count: int, rate: float, power: float) -> list[float]:
    """The means of 1, u, ..., u^(count-1) over [start, 0] under exp(rate lambda)."""
    panels = math.ceil(abs(start) / PANEL)
    half = abs(start) / panels / 2
    totals = [0.0] * count
    for panel in range(panels):
        middle = min(start, 0.0) + (2 * panel + 1) * half
        for abscissa, weight in zip(ABSCISSAE, WEIGHTS, strict=True):
            lam = middle + half * abscissa
            u = _variable(lam, power)
            term = weight * math.exp(rate * lam)
            for k in range(count):
                totals[k] += term
                term *= u
    return [total / totals[0] for total in totals]


def data_transport(x_a: Batch, a: Instant, b: Instant, nodes: Nodes, *, power: float) -> Batch:
    """x_b = (sigma_b / sigma_a) x_a + (alpha_b - sigma_b alpha_a / sigma_a) sum_j w_j D_j."""
    weights = interpolation_weights(tuple(node.at.lam for node in nodes), a.lam, b.lam, rate=1.0, power=power)
    return frozen_denoised_step(x_a, weighted_denoised(nodes, weights), a, b)


def noise_transport(x_a: Batch, a: Instant, b: Instant, nodes: Nodes, *, power: float) -> Batch:
    """x_b = (alpha_b / alpha_a) x_a + (sigma_b - alpha_b sigma_a / alpha_a) sum_j w_j (x_j - alpha_j D_j) / sigma_j."""
    weights = interpolation_weights(tuple(node.at.lam for node in nodes), a.lam, b.lam, rate=-1.0, power=power)
    growth = b.alpha / a.alpha
    share = b.sigma - growth * a.sigma
    x_b = growth * x_a
    for node, weight in zip(nodes, weights, strict=True):
        x_b = x_b.add(node.x_t, alpha=share * weight / node.at.sigma)
        x_b = x_b.sub(node.denoised, alpha=share * weight * node.at.alpha / node.at.sigma)
    return x_b


def weighted_denoised(nodes: Nodes, weights: Sequence[float]) -> Batch:
    """sum_j w_j D_j."""
    mean = weights[0] * nodes[0].denoised
    for node, weight in zip(nodes[1:], weights[1:], strict=True):
        mean = mean.add(node.denoised, alpha=weight)
    return mean


def adams_bashforth_step(order: int, transport: Transport, denoiser: Denoiser, state: State, s: Instant) -> State:
    """One step of the given order, the start corrected; `transport` integrates the method's prediction."""
    t = state.at
    past = finite_history(state)
    latest = Evaluation(t, state.x_t, denoiser(state.x_t, t.t))
    if isinstance(state, Predicted):
        latest = corrected_start(order, transport, denoiser, past, latest)
    if not (math.isfinite(t.lam) and math.isfinite(s.lam)):
        return State(s, frozen_denoised_step(latest.x_t, latest.denoised, t, s))
    nodes = (*past, latest)[-order:]
    x_s = transport(latest.x_t, t, s, nodes)
    cold = not past or isinstance(state, Predicted)
    kind = Predicted if cold and len(nodes) < order - 1 else State
    return kind(s, x_s, nodes[max(0, len(nodes) - order + 1) :])


def corrected_start(
    order: int, transport: Transport, denoiser: Denoiser, past: Nodes, latest: Evaluation
) -> Evaluation:
    """`latest` at the corrected state: everything since the start is integrated again, through `latest` too."""
    begin = past[0]
    x_t = transport(begin.x_t, begin.at, latest.at, (*past, latest))
    again = order == 4 and len(past) == 1
    return Evaluation(latest.at, x_t, denoiser(x_t, latest.at.t) if again else latest.denoised)


def finite_history(state: State) -> tuple[Evaluation, ...]:
    """The evaluations in the history whose lambda is finite, so that one can interpolate through them."""
    return tuple(evaluation for evaluation in state.history if math.isfinite(evaluation.at.lam))


@dataclass(frozen=True)
class _AdamsBashforth:
    order: int = 3
    power: float = 0.0

    stochastic = False
    nfe_per_step = 1

    def __post_init__(self) -> None:
        if self.order not in (1, 2, 3, 4):
            raise InputError(f"order: expected 1, 2, 3 or 4, got {self.order}")
        if not 0 <= self.power <= 1:
            raise InputError(f"power: expected a value in [0, 1], got {self.power:g}")


@dataclass(frozen=True)
class NoiseAdamsBashforth(_AdamsBashforth):
    r"""Exponential Adams-Bashforth with noise prediction, of order 1 to 4.

    .. math::
        x_s = \frac{\alpha_s}{\alpha_t} x_t + \left(\sigma_s - \frac{\alpha_s}{\alpha_t}\sigma_t\right)
              \sum_j w_j\,\varepsilon_j

    Order as declared, one evaluation per step (and one more at the start of order 4). Order 1 is DDIM. `power` = 0
    interpolates in lambda, which measured best for noise prediction; 1 is the classical method in sigma/alpha
    (rho-AB). A `history` of order - 2 evaluations or more replaces the corrected start. Steps that touch an infinite
    lambda (alpha(t) = 0, sigma(s) = 0) are DDIM's; from alpha = 0 in equal steps of time the order is at most 2.

    Raises InputError for an order outside 1 .. 4 or a power outside [0, 1]. Source: see the top of this file.

    >>> import torch
    >>> from diffuscope import VE, ExactDenoiser, Gaussian
    >>> from diffuscope.samplers import Evaluation, NoiseAdamsBashforth, instant, sample
    >>> point = ExactDenoiser(Gaussian.isotropic(torch.tensor([2.0]), 0.0), VE())
    >>> earlier = Evaluation(instant(VE(), 4.0), torch.tensor([[18.0]]), torch.tensor([[2.0]]))  # eps = 4 at t = 4
    >>> sampler, times = NoiseAdamsBashforth(order=2, power=1.0), torch.tensor([2.0, 1.0])
    >>> x_s = sample(sampler, point, torch.tensor([[6.0]]), times, history=(earlier,))
    >>> round(float(x_s), 4)  # eps = 2 at t = 2, hence dx/dt = eps = t on the line, and 6 - (2^2 - 1^2) / 2
    4.5
    """

    def step(self, denoiser: Denoiser, state: State, s: Instant, noise: Noise | None = None) -> State:  # noqa: ARG002
        """One step with the noise extrapolated."""
        return adams_bashforth_step(self.order, partial(noise_transport, power=self.power), denoiser, state, s)


@dataclass(frozen=True)
class DataAdamsBashforth(_AdamsBashforth):
    r"""Exponential Adams-Bashforth with data prediction, of order 1 to 4.

    .. math::
        x_s = \alpha_s\bar D + \frac{\sigma_s}{\sigma_t}(x_t - \alpha_t\bar D), \qquad \bar D = \sum_j w_j D_j

    Order 1 is DDIM; power = 0 and order 3 is DPM-Solver++ 3M. `power` = 1/2 interpolates in sqrt(sigma/alpha), which
    measured best for data prediction: extrapolated in lambda, a cubic overshoots on coarse grids. Order, cost, history
    and steps that touch an infinite lambda are those of `NoiseAdamsBashforth`.

    Raises InputError for an order outside 1 .. 4 or a power outside [0, 1]. Source: see the top of this file.

    >>> import torch
    >>> from diffuscope import VE, ExactDenoiser, Gaussian
    >>> from diffuscope.samplers import DataAdamsBashforth, Evaluation, instant, sample
    >>> point = ExactDenoiser(Gaussian.isotropic(torch.tensor([2.0]), 0.0), VE())
    >>> earlier = Evaluation(instant(VE(), 4.0), torch.tensor([[0.0]]), torch.tensor([[4.0]]))
    >>> sampler, times = DataAdamsBashforth(order=2, power=1.0), torch.tensor([2.0, 1.0])
    >>> x_s = sample(sampler, point, torch.tensor([[4.0]]), times, history=(earlier,))
    >>> round(float(x_s) - 2, 4)  # D = t on the line; x_s / 1 = x_t / 2 + int_1^2 (D / t^2) dt = 2 + log 2
    0.6931
    """

    power: float = 0.5

    def step(self, denoiser: Denoiser, state: State, s: Instant, noise: Noise | None = None) -> State:  # noqa: ARG002
        """One step with the denoiser extrapolated."""
        return adams_bashforth_step(self.order, partial(data_transport, power=self.power), denoiser, state, s)
