r"""SDE-DPM-Solver++: the reverse SDE at any eta, solved exactly in distribution with an extrapolated denoiser frozen.

With the denoiser frozen at :math:`\bar D` the reverse SDE is linear for every eta. In :math:`\lambda`, with
:math:`h = \lambda_s - \lambda_t` and :math:`\xi \sim N(0, I)`,

.. math::
    x_s = \alpha_s\bar D + \frac{\sigma_s}{\sigma_t} e^{-\eta^2 h}(x_t - \alpha_t\bar D)
          + \sigma_s\sqrt{1 - e^{-2\eta^2 h}}\;\xi .

eta = 0 is the probability flow, eta = 1 Anderson's reverse SDE. The methods differ in :math:`\bar D`: the latest
evaluation (1, which is `ReverseBridge`: DDPM at eta = 1, DDIM at eta = 0), its linear extrapolation to the middle of
the step (2M), or the mean of the parabola through the last three under the exact solution's own density
:math:`e^{(1 + \eta^2)\lambda}` (3M).

**Their weak order is 2, with noise too.** A frozen denoiser misses the covariance between the noise of a step and the
change of the denoiser that this noise causes, :math:`O(h^2)` in every step. The difference of two evaluations contains
the noise of the step before; extrapolated, it restores that covariance, one step late. The parabola of 3M raises
the order of the mean only: with noise it has order 2 too, with a smaller constant where eta < 1 and a larger one
where eta > 1 (measured on Gaussian data, where the recursion of moments is exact).

Source: Lu et al. 2022, *DPM-Solver++*, https://arxiv.org/abs/2211.01095 (section 5: 1 and 2M at eta = 1); on the weak
error of stochastic multistep methods: Xue et al. 2023, *SA-Solver*, https://arxiv.org/abs/2305.14267.
"""

import math
from dataclasses import dataclass

from diffuscope.denoisers import Denoiser

from .adams_bashforth import finite_history, interpolation_weights, weighted_denoised
from .bridge import frozen_reverse_step
from .contract import Evaluation, State
from .eta import ReverseFamily, eta_at
from .noise import Noise
from .schedule_values import Instant


@dataclass(frozen=True)
class SDEDPMSolverPP2M(ReverseFamily):
    r"""SDE-DPM-Solver++ 2M: the denoiser frozen at its extrapolation to the middle of the step.

    .. math::  \bar D = D_t + \frac{h}{2 h_p}(D_t - D_p)

    Weak order 2 (strong for eta = 0, where it is DPM-Solver++ 2M), one evaluation per step. The first step, and those
    that touch an infinite lambda, are `ReverseBridge`'s. Raises InputError for a negative eta.

    >>> import torch
    >>> from diffuscope import VE, ExactDenoiser, Gaussian
    >>> from diffuscope.samplers import Evaluation, SDEDPMSolverPP2M, instant, sample
    >>> point, times = ExactDenoiser(Gaussian.isotropic(torch.tensor([2.0]), 0.0), VE()), torch.tensor([2.0, 1.0])
    >>> earlier = Evaluation(instant(VE(), 8.0), torch.tensor([[0.0]]), torch.tensor([[-2.0]]))  # D = 2 + 4/4 = 3
    >>> draw, again = (torch.Generator().manual_seed(0) for _ in range(2))
    >>> x_s = sample(SDEDPMSolverPP2M(), point, torch.tensor([[11.0]]), times, noise=draw, history=(earlier,))
    >>> xi = torch.randn(1, 1, generator=again)
    >>> round(float(((x_s - 5) / xi) ** 2), 4)  # e^-h = 1/2: x_s = 3 + (11 - 3) / 4 + (1 - 1/4)^(1/2) xi
    0.75
    """

    order = 2
    nfe_per_step = 1

    def step(self, denoiser: Denoiser, state: State, s: Instant, noise: Noise | None = None) -> State:
        """One step with the denoiser extrapolated to the middle."""
        t, eta = state.at, eta_at(self.eta, state.at)
        past = finite_history(state)
        latest = Evaluation(t, state.x_t, denoiser(state.x_t, t.t))
        extrapolated = latest.denoised
        if past and math.isfinite(s.lam):
            previous = past[-1]
            weight = (s.lam - t.lam) / (2 * (t.lam - previous.at.lam))
            extrapolated = extrapolated + weight * (latest.denoised - previous.denoised)
        return State(s, frozen_reverse_step(state.x_t, extrapolated, t, s, eta, noise, self), (latest,))


@dataclass(frozen=True)
class SDEDPMSolverPP3M(ReverseFamily):
    r"""SDE-DPM-Solver++ 3M: the denoiser frozen at the mean of the parabola through the last three evaluations.

    .. math::
        \bar D = \sum_j w_j D_j, \qquad w_j = \frac{\int e^{(1 + \eta^2)\lambda}\,\ell_j(\lambda)\,d\lambda}
                                                   {\int e^{(1 + \eta^2)\lambda}\,d\lambda}

    Weak order 2, one evaluation per step. For eta = 0 the order is 2 because its orders climb 1, 2, 3 at the start and
    the first step is not corrected (`DPMSolverPP3M` does that). Steps that touch an infinite lambda are
    `ReverseBridge`'s. Raises InputError for a negative eta.

    >>> import math, torch
    >>> from diffuscope import VE, ExactDenoiser, Gaussian
    >>> from diffuscope.samplers import Evaluation, SDEDPMSolverPP3M, instant, sample
    >>> point, times = ExactDenoiser(Gaussian.isotropic(torch.tensor([3.0]), 0.0), VE()), torch.tensor([2.0, 1.0])
    >>> x, data = torch.tensor([[0.0]]), ((8.0, 7.0), (4.0, 4.0))  # D = 3 + r^2 at r = -2, -1, and 3 at r = 0
    >>> history = tuple(Evaluation(instant(VE(), t), x, x + D) for t, D in data)
    >>> draw, again = (torch.Generator().manual_seed(0) for _ in range(2))
    >>> x_s = sample(SDEDPMSolverPP3M(), point, torch.tensor([[3.0]]), times, noise=draw, history=history)
    >>> xi, h = torch.randn(1, 1, generator=again), math.log(2.0)
    >>> mean = (2 * h**2 - 2 * h + 3 / 4) / (3 / 2 * h**2)  # of r^2 over the step, under e^(2 lambda)
    >>> round(float(x_s - (3 + 3 / 4 * mean + (3 / 4) ** 0.5 * xi)), 4) + 0.0
    0.0
    """

    order = 2
    nfe_per_step = 1

    def step(self, denoiser: Denoiser, state: State, s: Instant, noise: Noise | None = None) -> State:
        """One step with the denoiser extrapolated by the parabola."""
        t, eta = state.at, eta_at(self.eta, state.at)
        latest = Evaluation(t, state.x_t, denoiser(state.x_t, t.t))
        extrapolated, nodes = latest.denoised, (*finite_history(state), latest)[-3:]
        if math.isfinite(t.lam) and math.isfinite(s.lam):
            lams = tuple(node.at.lam for node in nodes)
            weights = interpolation_weights(lams, t.lam, s.lam, rate=1 + eta**2, power=0.0)
            extrapolated = weighted_denoised(nodes, weights)
        return State(s, frozen_reverse_step(state.x_t, extrapolated, t, s, eta, noise, self), nodes[-2:])
