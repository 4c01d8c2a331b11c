r"""DPM-Solver++: the exact step with the denoiser extrapolated instead of frozen. Orders 2 (2M, 2S) and 3 (3M).

In :math:`\lambda = \log(\alpha/\sigma)` the probability-flow ODE integrates to

.. math::  x_s = \frac{\sigma_s}{\sigma_t} x_t + \sigma_s\int_{\lambda_t}^{\lambda_s} e^{\lambda} D(\lambda)\,d\lambda .

Freezing D at time t gives DDIM, which is DPM-Solver++ 1. Freezing it at its linear extrapolation to the middle of the
step gives order 2: from the evaluation before (2M, at no further cost), or from one inside the step (2S). The mean of
the parabola through the last three evaluations gives order 3 (3M).
"""

import math
from dataclasses import dataclass
from functools import partial

from diffuscope.denoisers import Denoiser
from diffuscope.errors import InputError

from .adams_bashforth import adams_bashforth_step, data_transport
from .contract import Evaluation, State
from .ddim import frozen_denoised_step
from .noise import Noise
from .schedule_values import Instant, instant_of_lambda


@dataclass(frozen=True)
class DPMSolverPP2M:
    r"""DPM-Solver++ of order 2, multistep.

    .. math::
        \bar D = D_t + \frac{h}{2 h_p}\left(D_t - D_p\right), \qquad
        x_s = \alpha_s\bar D + \frac{\sigma_s}{\sigma_t}(x_t - \alpha_t\bar D)

    with :math:`h = \lambda_s - \lambda_t`, and :math:`D_p` the evaluation before, :math:`h_p = \lambda_t - \lambda_p`.
    Order 2, one evaluation per step. The first step is DDIM's (as are steps that touch an infinite lambda: alpha(t) = 0
    or sigma(s) = 0), unless `trajectory` has a `history`, for instance from `warm_history`.

    Source: Lu et al. 2022, *DPM-Solver++*, https://arxiv.org/abs/2211.01095 (algorithm 2).

    >>> import torch
    >>> from diffuscope import VE, DPMSolverPP2M, ExactDenoiser, Gaussian
    >>> from diffuscope.samplers import Evaluation, instant, sample
    >>> point = ExactDenoiser(Gaussian.isotropic(torch.tensor([2.0]), 0.0), VE())
    >>> earlier = Evaluation(instant(VE(), 8.0), torch.tensor([[0.0]]), torch.tensor([[-2.0]]))  # h_p = 2 h
    >>> x_s = sample(DPMSolverPP2M(), point, torch.tensor([[11.0]]), torch.tensor([2.0, 1.0]), history=(earlier,))
    >>> round(float(x_s), 4)  # D = 2 + (2 - (-2)) / 4 = 3, and 3 + (11 - 3) / 2
    7.0
    """

    order = 2
    stochastic = False
    nfe_per_step = 1

    def step(self, denoiser: Denoiser, state: State, s: Instant, noise: Noise | None = None) -> State:  # noqa: ARG002
        """One step with the denoiser extrapolated to the middle of the step."""
        t = state.at
        latest = Evaluation(t, state.x_t, denoiser(state.x_t, t.t))
        extrapolated = latest.denoised
        if state.history:
            previous = state.history[-1]
            weight = (s.lam - t.lam) / (2 * (t.lam - previous.at.lam))
            if math.isfinite(weight):
                extrapolated = extrapolated + weight * (latest.denoised - previous.denoised)
        return State(s, frozen_denoised_step(state.x_t, extrapolated, t, s), (latest,))


@dataclass(frozen=True)
class DPMSolverPP2S:
    r"""DPM-Solver++ of order 2, single step: the second evaluation lies inside the step, a share `r` of it in lambda.

    .. math::
        \lambda_u = \lambda_t + r h, \qquad
        x_u = \alpha_u D_t + \frac{\sigma_u}{\sigma_t}(x_t - \alpha_t D_t), \qquad
        \bar D = D_t + \frac{1}{2r}\left(D(x_u, u) - D_t\right), \qquad
        x_s = \alpha_s\bar D + \frac{\sigma_s}{\sigma_t}(x_t - \alpha_t\bar D)

    Order 2, two evaluations per step; needs no history. r = 1/2 is the exponential midpoint rule, r = 1 Heun's. Steps
    that touch an infinite lambda are DDIM's, with one evaluation.

    Raises InputError for r outside (0, 1]. Source: Lu et al. 2022, https://arxiv.org/abs/2211.01095 (algorithm 1).

    >>> import torch
    >>> from diffuscope import VE, ExactDenoiser, Gaussian
    >>> from diffuscope.samplers import DPMSolverPP2S, sample
    >>> normal = ExactDenoiser(Gaussian.isotropic(torch.zeros(1), 1.0), VE())  # D = x / (1 + t^2)
    >>> x_s = sample(DPMSolverPP2S(), normal, torch.tensor([[17.0]]), torch.tensor([4.0, 1.0]))
    >>> round(float(x_s), 4)  # D_t = 1; x_u = 1 + 16/2 = 9 at u = 2, where D = 9/5; 1.8 + (17 - 1.8) / 4
    5.6
    >>> x_s = sample(DPMSolverPP2S(r=1.0), normal, torch.tensor([[17.0]]), torch.tensor([4.0, 1.0]))
    >>> round(float(x_s), 4)  # x_u = 1 + 16/4 = 5 at u = 1, where D = 5/2; the mean is 7/4, and 7/4 + (17 - 7/4) / 4
    5.5625
    """

    r: float = 0.5

    order = 2
    stochastic = False
    nfe_per_step = 2

    def __post_init__(self) -> None:
        if not 0 < self.r <= 1:
            raise InputError(f"r: expected a share of the step in (0, 1], got {self.r:g}")

    def step(self, denoiser: Denoiser, state: State, s: Instant, noise: Noise | None = None) -> State:  # noqa: ARG002
        """One step with the denoiser extrapolated from inside the step."""
        t, x_t = state.at, state.x_t
        denoised = denoiser(x_t, t.t)
        if not (math.isfinite(t.lam) and math.isfinite(s.lam)):
            return State(s, frozen_denoised_step(x_t, denoised, t, s))
        u = s if self.r == 1 else instant_of_lambda(denoiser.schedule, t.lam + self.r * (s.lam - t.lam))
        inside = denoiser(frozen_denoised_step(x_t, denoised, t, u), u.t)
        extrapolated = denoised + 1 / (2 * self.r) * (inside - denoised)
        return State(s, frozen_denoised_step(x_t, extrapolated, t, s))


@dataclass(frozen=True)
class DPMSolverPP3M:
    r"""DPM-Solver++ of order 3, multistep: the parabola in lambda through the last three evaluations.

    .. math::
        x_s = \frac{\sigma_s}{\sigma_t} x_t + \alpha_s\left[(1 - e^{-h}) D_t + \varphi_2 D^{(1)}
              - 2\varphi_3 D^{(2)}\right], \qquad
        \varphi_2 = \frac{e^{-h} - 1}{h} + 1, \quad \varphi_3 = \frac{\varphi_2}{h} - \frac12,

    where :math:`D_t + r D^{(1)} + r^2 D^{(2)}`, :math:`r = (\lambda - \lambda_t)/h`, is the parabola. The authors' code
    and others after it have :math:`\varphi_3 D^{(2)}`, without the 2, and therefore order 2. This is
    `DataAdamsBashforth(order=3, power=0)`.

    Order 3, one evaluation per step; the second corrects the first step (`adams_bashforth`), unless a `history` is
    given. Steps that touch an infinite lambda are DDIM's.

    Source: Lu et al. 2022, https://arxiv.org/abs/2211.01095 (its order, appendix B; the formula is derived here).

    >>> import math, torch
    >>> from diffuscope import VE, ExactDenoiser, Gaussian
    >>> from diffuscope.samplers import DPMSolverPP3M, Evaluation, instant, sample
    >>> point = ExactDenoiser(Gaussian.isotropic(torch.tensor([3.0]), 0.0), VE())
    >>> x, data = torch.tensor([[0.0]]), ((8.0, 7.0), (4.0, 4.0))  # D = 3 + r^2 at r = -2, -1, and 3 at r = 0
    >>> history = tuple(Evaluation(instant(VE(), t), x, x + D) for t, D in data)
    >>> x_s = sample(DPMSolverPP3M(), point, torch.tensor([[10.0]]), torch.tensor([2.0, 1.0]), history=history)
    >>> h = math.log(2.0)
    >>> phi_2 = 1 - 1 / (2 * h)
    >>> round(float(x_s) - (10 / 2 + 3 / 2 - 2 * (phi_2 / h - 1 / 2)), 4) + 0.0
    0.0
    """

    order = 3
    stochastic = False
    nfe_per_step = 1

    def step(self, denoiser: Denoiser, state: State, s: Instant, noise: Noise | None = None) -> State:  # noqa: ARG002
        """One step with the denoiser extrapolated by the parabola."""
        return adams_bashforth_step(self.order, partial(data_transport, power=0.0), denoiser, state, s)
