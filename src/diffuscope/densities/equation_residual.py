r"""The score equation: do a denoiser's answers at different noise levels belong to one diffusing density?

A density that diffuses by :math:`dX = f X dt + g dB` obeys
:math:`\partial_t\log\rho = -d f - f\,x\cdot s + \tfrac12 g^2 (\nabla\cdot s + |s|^2)`, and its score the gradient of
this. In the coordinates :math:`\tilde x = x_t/\alpha` and :math:`\tilde\sigma = \sigma/\alpha = e^{-\lambda}` every
diffusion is the heat flow, without drift, and the score :math:`\tilde s = \alpha s` obeys

.. math::
    \partial_\lambda \tilde s + \tilde\sigma^2\,\nabla\left(\nabla\cdot\tilde s + |\tilde s|^2\right) = 0 .

The part :math:`-\tilde x/\tilde\sigma^2` of :math:`\tilde s = (D - \tilde x)/\tilde\sigma^2` is itself a solution and
would dominate at high noise. With this part removed, and multiplied by :math:`\tilde\sigma^2`, the equation reads, for
the denoiser with Jacobian J in x_t,

.. math::
    \underbrace{\partial_\lambda D|_{x_t/\alpha}}_{\text{rate}}
    + \underbrace{\sigma^2\,\nabla_{x_t}(\nabla_{x_t}\cdot D)}_{\text{spread}}
    + \underbrace{2 J^T (\alpha D - x_t)}_{\text{pull}} = 0 .

The three terms are as large as :math:`\tilde\sigma^2|\tilde s|` at low noise and as :math:`|D - E[x_0]|` at high noise:
the residual is relative to the score there and to the centered denoiser here, and sensitive at every noise level.
None of the terms depends on the schedule. Where the score is not a gradient (see `curl`) and f != 0, the gradient of
the first formula has :math:`f J^T x` in place of :math:`f J x`; the two differ by the curl.

Source: the equation of the score is Lai et al. 2023 (FP-Diffusion, arXiv:2210.04296); this form is derived from it.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.denoisers import Batch, Denoiser
from diffuscope.errors import InputError

from .denoiser_derivatives import (
    ROWS,
    OneTime,
    checked_points,
    divergence_gradient,
    divergence_gradient_along,
    pull_back,
    signs,
)
from .level_derivative import noise_derivative


@dataclass(frozen=True, eq=False)
class ScoreEquation:
    """The three terms at every point, in units of the data. Their sum is zero for the denoiser of a density.

    >>> import torch
    >>> from diffuscope.denoisers import ExactDenoiser
    >>> from diffuscope.densities import score_equation
    >>> from diffuscope.exact import Gaussian
    >>> from diffuscope.schedules import VE
    >>> denoiser = ExactDenoiser(Gaussian.isotropic(torch.zeros(1), 12.0), VE())
    >>> terms = score_equation(denoiser, torch.tensor([[2.0]], dtype=torch.float64), 2.0)
    >>> [round(term.item(), 6) for term in (terms.rate, terms.pull)]  # +- 2 * 12 * 4 / (12 + 4)^2 x_t
    [0.75, -0.75]
    >>> terms.relative.item() < 1e-6, terms.score_factor  # |sum of the terms| / sum of sizes, 1 / 2^2
    (True, 0.25)
    """

    rate: Batch
    spread: Batch
    pull: Batch
    rate_error: Float[Tensor, " batch"]  # estimated norm of the error of `rate`
    score_factor: float  # alpha / sigma^2

    @property
    def residual(self) -> Batch:
        """rate + spread + pull, in units of the data per unit of lambda."""
        return self.rate + self.spread + self.pull

    @property
    def score_residual(self) -> Batch:
        """The residual of the score itself, (alpha / sigma^2) residual, per unit of lambda."""
        return self.score_factor * self.residual

    @property
    def relative(self) -> Float[Tensor, " batch"]:
        """|residual| / (|rate| + |spread| + |pull|), in [0, 1]; 0 where all three vanish."""
        sizes = sum(_norm(term) for term in (self.rate, self.spread, self.pull))
        return _norm(self.residual) / torch.as_tensor(sizes).clamp(min=torch.finfo(torch.float64).tiny)


@dataclass(frozen=True, eq=False)
class ProbedScoreEquation:
    """The terms, the spread from random probes, and unbiased squares, which may be negative at single points.

    >>> import math, torch
    >>> from diffuscope.denoisers import ExactDenoiser
    >>> from diffuscope.densities import score_equation_by_probes
    >>> from diffuscope.exact import GaussianMixture
    >>> from diffuscope.schedules import VE
    >>> points = GaussianMixture.isotropic(torch.ones(2) / 2, torch.tensor([[-1.0], [1.0]]), torch.zeros(2))
    >>> x_t, g = torch.tensor([[2 * math.log(3)]], dtype=torch.float64), torch.Generator().manual_seed(0)
    >>> terms = score_equation_by_probes(ExactDenoiser(points, VE()), x_t, 2.0, generator=g)
    >>> round(terms.squared_spread.sqrt().item(), 6)  # D = tanh(x_t / 4) = 0.5: sigma^2 D'' = -0.5 D (1 - D^2)
    0.1875
    >>> round(terms.squared_residual.item(), 9) == 0, terms.spread_error.item() < 1e-9  # in one dimension v^2 = 1
    (True, True)
    """

    rate: Batch
    spread: Batch  # mean over probes
    spread_error: Batch  # its standard error, per coordinate
    pull: Batch
    rate_error: Float[Tensor, " batch"]
    squared_residual: Float[Tensor, " batch"]  # estimates of |rate + spread + pull|^2
    squared_spread: Float[Tensor, " batch"]  # and of |spread|^2

    @property
    def squares(self) -> Float[Tensor, "batch 4"]:
        """Per point the squares of residual, rate, spread and pull, for `relative_residual` and for resampling."""
        rate, pull = _norm(self.rate) ** 2, _norm(self.pull) ** 2
        return torch.stack([self.squared_residual, rate, self.squared_spread, pull], 1)


def score_equation(denoiser: Denoiser, x_t: Batch, t: OneTime) -> ScoreEquation:
    """The terms at the points `x_t` at time `t`, with the exact gradient of the divergence.

    Costs one second derivative per point and coordinate: for small dimensions. Raises InputError where the denoiser
    cannot be differentiated twice in x_t, where alpha or sigma is zero, and for points that are empty or not finite.

    >>> import math, torch
    >>> from diffuscope.denoisers import ExactDenoiser
    >>> from diffuscope.densities import score_equation
    >>> from diffuscope.exact import GaussianMixture
    >>> from diffuscope.schedules import VE
    >>> points = GaussianMixture.isotropic(torch.ones(2) / 2, torch.tensor([[-1.0], [1.0]]), torch.zeros(2))
    >>> x_t = torch.tensor([[2 * math.log(3)]], dtype=torch.float64)
    >>> terms = score_equation(ExactDenoiser(points, VE()), x_t, 2.0)  # D = tanh(x_t / 4) = 0.5
    >>> [round(term.item(), 6) for term in (terms.rate, terms.spread, terms.pull)]  # 3/4 log 3, -3/16, 3/16 - 3/4 log 3
    [0.823959, -0.1875, -0.636459]
    """
    x_t = checked_points(x_t, t)
    rate = noise_derivative(denoiser, x_t, t)
    alpha, sigma = float(denoiser.schedule.alpha(t)), float(denoiser.schedule.sigma(t))
    spread, pull = sigma**2 * divergence_gradient(denoiser, x_t, t), _pull(denoiser, x_t, t)
    return ScoreEquation(rate.value, spread, pull, rate.error, alpha / sigma**2)


def score_equation_by_probes(
    denoiser: Denoiser, x_t: Batch, t: OneTime, *, probes: int = 4, generator: torch.Generator
) -> ProbedScoreEquation:
    """The terms with the gradient of the divergence from `probes` random sign vectors v per point: grad (v^T J v).

    Unbiased (Hutchinson), from one second derivative per point and probe. The squares subtract the noise of the
    probes: (|sum_k r_k|^2 - sum_k |r_k|^2) / (K (K - 1)). Raises InputError as `score_equation` does, and for fewer
    than two probes.

    >>> import torch
    >>> from diffuscope.denoisers import ExactDenoiser
    >>> from diffuscope.densities import score_equation_by_probes
    >>> from diffuscope.exact import Gaussian
    >>> from diffuscope.schedules import VE
    >>> denoiser = ExactDenoiser(Gaussian.isotropic(torch.zeros(1), 12.0), VE())
    >>> x_t, g = torch.tensor([[2.0]], dtype=torch.float64), torch.Generator().manual_seed(0)
    >>> terms = score_equation_by_probes(denoiser, x_t, 2.0, probes=2, generator=g)
    >>> [round(term.item(), 6) for term in (terms.rate, terms.pull)]  # +- 2 * 12 * 4 / (12 + 4)^2 x_t
    [0.75, -0.75]
    """
    if probes < 2:
        raise InputError(f"probes: expected at least 2 (their spread is the error), got {probes}")
    x_t = checked_points(x_t, t)
    rate, pull = noise_derivative(denoiser, x_t, t), _pull(denoiser, x_t, t)
    rest = (rate.value + pull).double()
    sigma = float(denoiser.schedule.sigma(t))
    total, squares = torch.zeros_like(rest), torch.zeros_like(rest)
    own_residual, own_spread = rest.new_zeros(len(rest)), rest.new_zeros(len(rest))
    for _ in range(probes):  # a few probes, each for all points at once
        drawn = sigma**2 * divergence_gradient_along(denoiser, x_t, t, signs(x_t, generator)).double()
        total, squares = total + drawn, squares + drawn**2
        own_residual = own_residual + _norm(rest + drawn) ** 2
        own_spread = own_spread + _norm(drawn) ** 2
    spread, pairs = total / probes, probes * (probes - 1)
    variance = (squares / probes - spread**2).clamp(min=0) / (probes - 1)
    return ProbedScoreEquation(
        rate.value,
        spread.to(x_t.dtype),
        variance.sqrt().to(x_t.dtype),
        pull,
        rate.error,
        (_norm(probes * rest + total) ** 2 - own_residual) / pairs,
        (_norm(total) ** 2 - own_spread) / pairs,
    )


def relative_residual(mean_squares: Float[Tensor, "*rows four"]) -> Float[Tensor, "*rows"]:
    """Root mean square residual over the sum of the three terms' root mean squares, from means of `squares`; in [0, 1].

    Squares that the noise of the probes made negative count as zero.

    >>> import torch
    >>> from diffuscope.densities import relative_residual
    >>> relative_residual(torch.tensor([9.0, 16.0, 4.0, 36.0])).item()  # 3 / (4 + 2 + 6)
    0.25
    """
    residual, *terms = mean_squares.double().clamp(min=0).sqrt().unbind(-1)
    return residual / sum(terms, torch.zeros_like(residual)).clamp(min=torch.finfo(torch.float64).tiny)


def _pull(denoiser: Denoiser, x_t: Batch, t: OneTime) -> Batch:
    alpha = float(denoiser.schedule.alpha(t))
    with torch.no_grad():
        denoised = torch.cat([denoiser(x, t) for x in x_t.split(ROWS)])
    return 2 * pull_back(denoiser, x_t, t, alpha * denoised - x_t)


def _norm(x: Batch) -> Float[Tensor, " batch"]:
    return x.flatten(1).double().norm(dim=1)
