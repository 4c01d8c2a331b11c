r"""UniPC: the next step's evaluation corrects this step, so a predictor of order p gives a method of order p + 1.

With :math:`m` the denoiser's output, :math:`h = \lambda_s - \lambda_t`, earlier evaluations at
:math:`\lambda_t + r_j h` and :math:`D_j = (m_j - m_t)/r_j`, predictor and corrector have the form

.. math::
    x_s = \frac{\sigma_s}{\sigma_t} x_t - \alpha_s (e^{-h} - 1)\, m_t - \alpha_s B(h) \sum_j \rho_j D_j .

The predictor (UniP-p) uses p - 1 earlier evaluations; the corrector (UniC-p) also the one at the predicted x_s, with
r = 1. The :math:`\rho` solve :math:`\sum_j r_j^{i-1}\rho_j = b_i`, i = 1, 2, ...:

.. math::
    b_i = \frac{i!\, q_i}{B}, \qquad q_1 = \frac{e^{H} - 1}{H} - 1, \qquad
    q_{i+1} = \frac{q_i}{H} - \frac{1}{(i+1)!}, \qquad H = -h .

These are the conditions that polynomials in lambda be integrated exactly, so :math:`B\rho` does not depend on B and the
step is the one of `adams_bashforth` in lambda. B matters only where the paper replaces the solution of the 1 x 1 system
by its limit :math:`\rho = 1/2`: in UniP-2 and UniC-1, with :math:`B = -h` (bh1) or :math:`B = e^{-h} - 1` (bh2).
There the mean denoiser is :math:`\bar D = m_t + \tfrac12\frac{B}{e^{-h} - 1} D_1`; in UniP-2 with bh2 that is
DPM-Solver++ 2M.

Source: Zhao, Bai, Rao, Zhou & Lu 2023, *UniPC*, https://arxiv.org/abs/2302.04867 (algorithms 5-8, data prediction).
"""

import math
from dataclasses import dataclass
from typing import Literal

from diffuscope.denoisers import Batch, Denoiser
from diffuscope.errors import InputError

from .adams_bashforth import Nodes, Predicted, data_transport, finite_history
from .contract import Evaluation, State
from .ddim import frozen_denoised_step
from .noise import Noise
from .schedule_values import Instant

WARM = 3  # steps after a cold start, from which on the start needs no more correction


@dataclass(frozen=True, eq=False, slots=True)
class PredictedAfter(Predicted):
    """A prediction, and the number of steps since a cold start."""

    steps: int = WARM


@dataclass(frozen=True)
class UniPC:
    r"""Unified predictor-corrector with data prediction; the formulas are at the top of this file.

    Order `predictor_order` + 1, which is 2, 3 or 4; UniPC-p of the paper has `predictor_order` = p. One evaluation per
    step: the one at the predicted state serves the corrector and the next predictor. The state of `trajectory` is the
    prediction, so the last step is not corrected (that costs no order). The predictor's order climbs from 1 at the
    start and is not lowered again before the end.

    The first step of the paper has an error of :math:`h^3`, once, so that p = 3 remains at order 3. `accurate_start`
    corrects that: the model is evaluated again at the first corrected state, and the corrector of the second step
    starts from the first state (one more evaluation per trajectory, for p = 3 only).

    A start with a `history` is not corrected. Steps that touch an infinite lambda (alpha(t) = 0, sigma(s) = 0) are
    DDIM's. Raises InputError for another predictor_order or variant.

    >>> import torch
    >>> from diffuscope import VE, ExactDenoiser, Gaussian
    >>> from diffuscope.samplers import UniPC, sample
    >>> normal = ExactDenoiser(Gaussian.isotropic(torch.zeros(1), 1.0), VE())  # D = x / (1 + t^2)
    >>> x_s = sample(UniPC(predictor_order=1), normal, torch.tensor([[17.0]]), torch.tensor([4.0, 2.0, 1.0]))
    >>> round(float(x_s), 4)  # D = 1; predicted 9, D = 9/5; corrected to 1.4 + 15.6 / 2 = 9.2; 1.8 + 7.4 / 2
    5.5
    """

    predictor_order: int = 3
    variant: Literal["bh1", "bh2"] = "bh2"
    accurate_start: bool = True

    stochastic = False
    nfe_per_step = 1

    def __post_init__(self) -> None:
        if self.predictor_order not in (1, 2, 3):
            raise InputError(f"predictor_order: expected 1, 2 or 3, got {self.predictor_order}")
        if self.variant not in ("bh1", "bh2"):
            raise InputError(f"variant: expected bh1 or bh2, got {self.variant}")

    @property
    def order(self) -> int:
        """The order of accuracy: that of the predictor and one more, as far as the start allows."""
        return self.predictor_order + 1 if self.accurate_start else min(self.predictor_order + 1, 3)

    def step(self, denoiser: Denoiser, state: State, s: Instant, noise: Noise | None = None) -> State:  # noqa: ARG002
        """Correct the state by its evaluation, then predict the next state."""
        t = state.at
        past = finite_history(state)
        latest = Evaluation(t, state.x_t, denoiser(state.x_t, t.t))
        if isinstance(state, Predicted):
            latest = self._corrected(denoiser, state, past, latest)
        if not (math.isfinite(t.lam) and math.isfinite(s.lam)):
            return State(s, frozen_denoised_step(latest.x_t, latest.denoised, t, s))
        predictor_nodes = (*past, latest)[-self.predictor_order :]
        x_s = self._integrated(latest.x_t, t, s, predictor_nodes, latest)
        steps = state.steps + 1 if isinstance(state, PredictedAfter) else WARM if past else 1
        return PredictedAfter(s, x_s, predictor_nodes, steps)

    def _corrected(self, denoiser: Denoiser, state: Predicted, past: Nodes, latest: Evaluation) -> Evaluation:
        """`latest` at the corrected state, without a new evaluation of the model except once in an accurate start."""
        accurate = self.accurate_start and self.predictor_order == 3
        steps = state.steps if isinstance(state, PredictedAfter) else WARM
        begin = past[0] if accurate and steps == 2 else past[-1]
        x_t = self._integrated(begin.x_t, begin.at, latest.at, (*past, latest), begin)
        again = accurate and steps == 1
        return Evaluation(latest.at, x_t, denoiser(x_t, latest.at.t) if again else latest.denoised)

    def _integrated(self, x_a: Batch, a: Instant, b: Instant, nodes: Nodes, start: Evaluation) -> Batch:
        """From a to b with the denoiser interpolated in lambda; through two nodes, by the paper's rho = 1/2."""
        if len(nodes) != 2:
            return data_transport(x_a, a, b, nodes, power=0.0)
        other = nodes[0] if nodes[1] is start else nodes[1]
        h = b.lam - a.lam
        r = (other.at.lam - a.lam) / h
        scale = 1.0 if self.variant == "bh2" else -h / math.expm1(-h)  # B / (e^-h - 1)
        mean = start.denoised + scale / (2 * r) * (other.denoised - start.denoised)
        return frozen_denoised_step(x_a, mean, a, b)
