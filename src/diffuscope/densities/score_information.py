r"""Fisher information and relative entropy of a denoiser, estimated from samples of the data.

With :math:`x_t = \alpha x_0 + \sigma\varepsilon`, true score s and the denoiser's score :math:`\hat s`, the conditional
mean of :math:`-\varepsilon/\sigma` given x_t is s, so that for *any* :math:`\hat s`

.. math::
    E[\hat s\cdot s] = -E[\hat s\cdot\varepsilon]/\sigma, \qquad
    J = E|s|^2 \ \ge\ 2 E[\hat s\cdot s] - E|\hat s|^2
      = \frac{d}{\sigma^2} - E\left|\hat s + \varepsilon/\sigma\right|^2,

where the last term is the denoising loss: d/sigma^2 minus the loss is a lower bound of the data's Fisher information,
and the gap of the bound is exactly :math:`E|s - \hat s|^2`.

Along the noise levels, with :math:`\tilde\sigma = \sigma/\alpha`, the relative entropy of the data from the
distribution that the reverse SDE with :math:`\hat s` generates, started from q at the highest level, obeys

.. math::
    \mathrm{KL}(p_{low}\|\text{model}) \le \mathrm{KL}(p_{high}\|q)
      + \int \sigma^2\,E_{p}|s - \hat s|^2\, d\log\tilde\sigma, \qquad
    \sigma^2\,d\log\tilde\sigma = \tfrac12 g^2\,dt

(Girsanov; Song et al. 2021, Maximum likelihood training of score-based diffusion models, theorem 1), with equality if
:math:`\hat s` is the score of a density that solves the same forward equation. As a loss in the noise,
:math:`\sigma^2 E|s - \hat s|^2 = E|\varepsilon - \hat\varepsilon|^2 - \text{its least possible value}`: differences of
two losses are rates of relative entropy, in nats.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.denoisers import Batch, Denoiser, denoised_to_score, over_events
from diffuscope.errors import InputError
from diffuscope.exact import Distribution
from diffuscope.schedules import as_time

from .denoiser_derivatives import ROWS, OneTime, checked_points


@dataclass(frozen=True)
class Mean:
    """A Monte Carlo mean with its standard error over the data points."""

    value: float
    standard_error: float


@dataclass(frozen=True)
class FisherInformation:
    """At one noise level: a = E|s^|^2 of the denoiser, b = E[s^ . s] with the data's score, and 2 b - a <= J.

    a = b if the denoiser's score is that of the data; all three equal J only then.

    >>> import torch
    >>> from diffuscope.denoisers import ExactDenoiser
    >>> from diffuscope.densities import fisher_information
    >>> from diffuscope.exact import Gaussian
    >>> from diffuscope.schedules import VE
    >>> wrong = ExactDenoiser(Gaussian.isotropic(torch.zeros(1), 4.0), VE())  # s^ = -x_t / 8, and s = -x_t / 4
    >>> x_0, g = torch.zeros(4000, 1, dtype=torch.float64), torch.Generator().manual_seed(0)
    >>> found = fisher_information(wrong, x_0, 2.0, generator=g)  # as E x_t^2 = 4; J = 1/4
    >>> parts = ((found.own, 1 / 16), (found.shared, 1 / 8), (found.bound, 3 / 16))
    >>> [abs(part.value - exact) < 5 * part.standard_error < 0.05 for part, exact in parts]
    [True, True, True]
    """

    own: Mean
    shared: Mean
    bound: Mean


@dataclass(frozen=True)
class PathEntropy:
    """An integral of rates over log noise in nats: value, standard error over data points, and quadrature error.

    >>> import torch
    >>> from diffuscope.denoisers import ExactDenoiser
    >>> from diffuscope.densities import path_relative_entropy
    >>> from diffuscope.exact import Gaussian
    >>> from diffuscope.schedules import VE
    >>> data, model = Gaussian.isotropic(torch.zeros(1), 1.0), Gaussian.isotropic(torch.full((1,), 2.0), 1.0)
    >>> x_0, g = torch.ones(2, 1, dtype=torch.float64), torch.Generator().manual_seed(0)
    >>> found = path_relative_entropy(ExactDenoiser(model, VE()), data, x_0, torch.linspace(1, 3, 9), generator=g)
    >>> abs(found.value - 0.8) < 2 * found.quadrature_error < 0.02, found.standard_error < 1e-9  # at every x_t the same
    (True, True)
    """

    value: float
    standard_error: float
    quadrature_error: float


def fisher_information(denoiser: Denoiser, x_0: Batch, t: OneTime, *, generator: torch.Generator) -> FisherInformation:
    """Estimates from the data `x_0`, one noise per point. Raises InputError for fewer than two points.

    >>> import torch
    >>> from diffuscope.denoisers import ExactDenoiser
    >>> from diffuscope.densities import fisher_information
    >>> from diffuscope.exact import Gaussian
    >>> from diffuscope.schedules import RectifiedFlow
    >>> data, g = Gaussian.isotropic(torch.zeros(2), 9.0), torch.Generator().manual_seed(0)
    >>> x_0 = data.sample(4000, generator=g)
    >>> found = fisher_information(ExactDenoiser(data, RectifiedFlow()), x_0, 0.8, generator=g)
    >>> abs(found.bound.value - 2 / (0.2**2 * 9 + 0.8**2)) < 5 * found.bound.standard_error < 0.5  # J = d / 1
    True
    """
    x_t, noise, sigma = _noised(denoiser, x_0, t, generator)
    score = _score(denoiser, x_t, t)
    own = _square(score)
    shared = -(score.flatten(1).double() * noise.flatten(1).double()).sum(1) / sigma
    return FisherInformation(_mean(own), _mean(shared), _mean(2 * shared - own))


def relative_fisher(
    denoiser: Denoiser, distribution: Distribution, x_0: Batch, t: OneTime, *, generator: torch.Generator
) -> Mean:
    """E|s^ - s_distribution|^2 at noised data: of the model from the truth if `x_0` is drawn from `distribution`.

    For a Gaussian `distribution` and the model's own data, g^2/2 times this is the model's entropy production relative
    to that Gaussian. Raises InputError for fewer than two points.

    >>> import torch
    >>> from diffuscope.denoisers import ExactDenoiser
    >>> from diffuscope.densities import relative_fisher
    >>> from diffuscope.exact import Gaussian
    >>> from diffuscope.schedules import VE
    >>> data, model = Gaussian.isotropic(torch.zeros(2), 3.0), Gaussian.isotropic(torch.tensor([1.0, 2.0]), 3.0)
    >>> x_0, g = torch.ones(2, 2, dtype=torch.float64), torch.Generator().manual_seed(0)
    >>> found = relative_fisher(ExactDenoiser(model, VE()), data, x_0, 2.0, generator=g)
    >>> round(found.value, 6)  # |difference of the means|^2 / (3 + 2^2)^2 = 5 / 49, everywhere
    0.102041
    """
    x_t, _, _ = _noised(denoiser, x_0, t, generator)
    return _mean(_gap(denoiser, distribution, x_t, t))


def path_relative_entropy(
    denoiser: Denoiser,
    distribution: Distribution,
    x_0: Batch,
    times: Float[Tensor, " times"],
    *,
    generator: torch.Generator,
) -> PathEntropy:
    """int sigma^2 E|s - s^|^2 d log(sigma/alpha) over the noise levels of `times`, for `x_0` drawn from `distribution`.

    Together with KL(p_high || start) it bounds KL(distribution at the lowest level || generated by the reverse SDE).
    Raises InputError for fewer than two points or three times, and times at which alpha = 0.

    >>> import torch
    >>> from diffuscope.denoisers import ExactDenoiser
    >>> from diffuscope.densities import path_relative_entropy
    >>> from diffuscope.exact import Gaussian
    >>> from diffuscope.schedules import VE
    >>> data, model = Gaussian.isotropic(torch.zeros(1), 1.0), Gaussian.isotropic(torch.full((1,), 2.0), 1.0)
    >>> x_0, g = torch.ones(2, 1, dtype=torch.float64), torch.Generator().manual_seed(0)
    >>> found = path_relative_entropy(ExactDenoiser(model, VE()), data, x_0, torch.linspace(1, 3, 65), generator=g)
    >>> round(found.value, 3)  # int t^2 |s - s^|^2 dt/t, with s - s^ = 2 / (1 + t^2): 2 (1/2 - 1/10)
    0.8
    """
    rates = []
    for t in times:
        x_t, _, sigma = _noised(denoiser, x_0, t, generator)
        rates.append(sigma**2 * _gap(denoiser, distribution, x_t, t))
    return integrated(torch.stack(rates, 1), denoiser.schedule.noise_to_signal(times))


def integrated(rates: Float[Tensor, "points levels"], ratios: Float[Tensor, " levels"]) -> PathEntropy:
    """The mean over points of int rates d log(ratio), by the trapezoidal rule; levels in either order.

    The quadrature error is a third of the difference from the rule on every other level (and the last). Raises
    InputError for fewer than two points or three levels, and ratios that are not positive and monotone.
    """
    if len(rates) < 2 or len(ratios) < 3 or rates.shape[1] != len(ratios):
        given = f"{tuple(rates.shape)} and {len(ratios)}"
        raise InputError(f"rates: expected at least 2 points at 3 levels, one ratio each, got {given}")
    logs = ratios.double().log()
    steps = logs.diff()
    if not bool(torch.isfinite(logs).all()) or not bool((steps > 0).all() | (steps < 0).all()):
        raise InputError("ratios: expected positive, finite noise levels in order")
    every_other = torch.cat([torch.arange(0, len(ratios) - 1, 2), torch.tensor([len(ratios) - 1])])
    fine = torch.trapezoid(rates.double(), logs, dim=1) * steps[0].sign()
    coarse = torch.trapezoid(rates.double()[:, every_other], logs[every_other], dim=1) * steps[0].sign()
    mean = _mean(fine)
    return PathEntropy(mean.value, mean.standard_error, float((fine - coarse).mean().abs()) / 3)


def _noised(denoiser: Denoiser, x_0: Batch, t: OneTime, generator: torch.Generator) -> tuple[Batch, Batch, float]:
    x_0 = checked_points(x_0, t)
    if len(x_0) < 2:
        raise InputError(f"x_0: expected at least 2 points (their spread is the error), got {len(x_0)}")
    alpha, sigma = denoiser.schedule.alpha(t), denoiser.schedule.sigma(t)
    noise = torch.randn(x_0.shape, dtype=x_0.dtype, generator=generator, device=generator.device).to(x_0.device)
    return over_events(alpha, x_0) * x_0 + over_events(sigma, x_0) * noise, noise, float(sigma)


def _score(denoiser: Denoiser, x_t: Batch, t: OneTime) -> Batch:
    with torch.no_grad():
        denoised = torch.cat([denoiser(x, as_time(t)) for x in x_t.split(ROWS)])
    return denoised_to_score(x_t.double(), denoised.double(), denoiser.schedule, t)


def _gap(denoiser: Denoiser, distribution: Distribution, x_t: Batch, t: OneTime) -> Float[Tensor, " batch"]:
    schedule = denoiser.schedule
    exact = torch.cat([distribution.score(x, schedule.alpha(t), schedule.sigma(t)) for x in x_t.split(ROWS)])
    return _square(_score(denoiser, x_t, t) - exact.double())


def _square(x: Batch) -> Float[Tensor, " batch"]:
    return x.flatten(1).double().square().sum(1)


def _mean(values: Float[Tensor, " batch"]) -> Mean:
    return Mean(float(values.mean()), float(values.std() / math.sqrt(len(values))))
