r"""DPM-Solver-v3: an exponential integrator whose coefficients are statistics of the model.

With the model statistics l, s, b of `model_statistics`, :math:`y = x/\alpha`, :math:`f = (1 - l) y - D`, and the
integrals :math:`L = \int l`, :math:`S = \int s`, :math:`B = \int e^{-S} b`, the variable

.. math::  g(\lambda) = e^{S_t - S} f - e^{S_t}(B - B_t)

is constant along the flow where df/dlambda = s f + b holds, and f = g at time t. The flow is then exactly

.. math::
    y_s = e^{L_t - L_s}\left[y_t - \int_{\lambda_t}^{\lambda_s} E\,g\,d\lambda
          - \int_{\lambda_t}^{\lambda_s} E\, e^{S_t}(B - B_t)\,d\lambda\right], \qquad
    E = e^{(L + S) - (L_t + S_t)} ,

everything elementwise. Extrapolate g by the polynomial through the last evaluations,
:math:`\int E g = \sum_i W_i\, g_i`, where :math:`W_i` integrates E times Lagrange's polynomial. With l = 1, s = b = 0
it is g = -D: DPM-Solver++. The integrals are Gauss-Legendre sums over the step itself; nothing outside the statistics'
range of lambda is ever used or stretched.

Source: Zheng, Lu, Chen & Zhu 2023, https://arxiv.org/abs/2310.13268 (eq. 9-14). Their corrector and pseudo-order
predictor for five evaluations are not here.
"""

import math
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
import torch
from torch import Tensor

from diffuscope.denoisers import Batch, Denoiser
from diffuscope.errors import InputError

from .adams_bashforth import ABSCISSAE, PANEL, WEIGHTS, Nodes, adams_bashforth_step
from .contract import State
from .model_statistics import ModelStatistics
from .noise import Noise
from .schedule_values import Instant


@dataclass(frozen=True, eq=False)
class DPMSolverV3:
    """DPM-Solver-v3 of order 1 to 3 with the given model statistics (`model_statistics.estimate_statistics`).

    Order as declared for any smooth statistics, which change only the constant. One evaluation per step; for order 3
    the second also corrects the first step (`adams_bashforth`). Exact for Gaussian data with a diagonal covariance and
    its closed-form statistics. Steps that touch an infinite lambda are DDIM's.

    Raises InputError for another order, and in `step` where the statistics do not cover the step.

    >>> import torch
    >>> from diffuscope import VE, ExactDenoiser, Gaussian
    >>> from diffuscope.samplers import DPMSolverV3, ModelStatistics, sample
    >>> model, x_t = ExactDenoiser(Gaussian.isotropic(torch.tensor([2.0]), 3.0), VE()), torch.tensor([[10.0]])
    >>> lams = torch.linspace(-1.4, 0.1, 31)
    >>> l = 1 / (1 + 3 * (2 * lams).exp())[:, None]
    >>> sampler = DPMSolverV3(ModelStatistics(lams, l, 0 * l, 2 * 2.0 * l * (1 - l)), order=1)  # b = -mu dl/dlambda
    >>> round(float(sample(sampler, model, x_t, torch.tensor([13**0.5, 1.0]))), 4)  # exact: 2 + 8 (4 / 16)^(1/2)
    6.0
    """

    statistics: ModelStatistics
    order: int = 3

    stochastic = False
    nfe_per_step = 1

    def __post_init__(self) -> None:
        if self.order not in (1, 2, 3):
            raise InputError(f"order: expected 1, 2 or 3, got {self.order}")

    def step(self, denoiser: Denoiser, state: State, s: Instant, noise: Noise | None = None) -> State:  # noqa: ARG002
        """One step with g extrapolated."""
        return adams_bashforth_step(self.order, partial(v3_transport, statistics=self.statistics), denoiser, state, s)


def v3_transport(x_a: Batch, a: Instant, b: Instant, nodes: Nodes, *, statistics: ModelStatistics) -> Batch:
    """x at b from x at a, with g interpolated through the nodes within the statistics' range."""
    _require_covered(statistics, x_a, a, b)
    nodes = [node for node in nodes if statistics.covers(node.at.lam)]
    lams = tuple(node.at.lam for node in nodes)
    kept, source, *terms = _coefficients(statistics, a.lam, b.lam, lams, x_a.dtype, x_a.device)
    bracket = x_a / a.alpha - source
    for k, node in enumerate(nodes):
        on_state, on_denoised = terms[2 * k], terms[2 * k + 1]
        bracket = bracket - on_state / node.at.alpha * node.x_t + on_denoised * node.denoised
    return b.alpha * kept * bracket


@lru_cache(maxsize=1024)  # many trajectories share one grid
def _coefficients(
    statistics: ModelStatistics, a: float, b: float, lams: tuple[float, ...], dtype: torch.dtype, device: torch.device
) -> list[Tensor]:
    """e^(L_a - L_b), the source term, and for every node the factors of x / alpha and of D; `a`, `b` are lambdas."""
    L, S, B = statistics.integral_l, statistics.integral_s, statistics.integral_b
    L_a, S_a, B_a = L(a), S(a), B(a)
    moments = [np.zeros(statistics.event_shape) for _ in lams]  # of E against (lambda - a)^n
    source = np.zeros(statistics.event_shape)
    panels = math.ceil((b - a) / PANEL * 4)  # the statistics vary within a step
    half = (b - a) / panels / 2
    for panel in range(panels):
        middle = a + (2 * panel + 1) * half
        for abscissa, weight in zip(ABSCISSAE, WEIGHTS, strict=True):
            lam = middle + half * abscissa
            E = half * weight * np.exp(L(lam) + S(lam) - L_a - S_a)
            source += E * np.exp(S_a) * (B(lam) - B_a)
            for n in range(len(lams)):
                moments[n] += E * (lam - a) ** n
    terms = []
    for k, lam in enumerate(lams):
        W = sum(c * moment for c, moment in zip(_lagrange(lams, k, a), moments, strict=True))
        decay = np.exp(S_a - S(lam))
        source = source - W * np.exp(S_a) * (B(lam) - B_a)
        terms += [W * decay * (1 - statistics.l_at(lam)), W * decay]
    arrays = [np.exp(L_a - L(b)), source, *terms]
    return [torch.as_tensor(array, dtype=dtype, device=device) for array in arrays]


def _lagrange(lams: tuple[float, ...], k: int, origin: float) -> list[float]:
    """Coefficients of Lagrange's polynomial of node k in powers of lambda - origin, lowest first."""
    coefficients = [1.0]
    for i, lam in enumerate(lams):
        if i != k:
            scale = lams[k] - lam
            shifted = zip([0.0, *coefficients], [*coefficients, 0.0], strict=True)
            coefficients = [(low - (lam - origin) * high) / scale for low, high in shifted]
    return coefficients


def _require_covered(statistics: ModelStatistics, x: Tensor, a: Instant, b: Instant) -> None:
    if tuple(x.shape[1:]) != statistics.event_shape:
        raise InputError(f"statistics: expected examples of shape {statistics.event_shape}, got {tuple(x.shape[1:])}")
    for at in (a, b):
        if not statistics.covers(at.lam):
            low, high = float(statistics.lams[0]), float(statistics.lams[-1])
            raise InputError(f"statistics: expected them to cover lambda = {at.lam:.4g}, got {low:.4g} .. {high:.4g}")
