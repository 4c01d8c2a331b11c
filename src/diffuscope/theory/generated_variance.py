r"""The variance of every component that a partly trained linear denoiser generates by the probability-flow ODE.

For :math:`x_\sigma = x_0 + \sigma\varepsilon` and a denoiser with the gain :math:`w(\sigma)` along a component c,

.. math::
    \frac{d\log c}{d\log\sigma} = 1 - w(\sigma), \qquad
    \tilde\lambda = \sigma_T^2\, \frac{\Phi^2(\sigma_0)}{\Phi^2(\sigma_T)}, \qquad
    \log\Phi(\sigma) = \int^\sigma (1 - w(s))\, \frac{ds}{s},

from the start :math:`N(0, \sigma_T^2)`. (The matrix from :math:`x_{\sigma_T}` to :math:`x_{\sigma_0}` is
:math:`\exp[+\int_{\sigma_0}^{\sigma_T} (W_s - I)\,ds/s]`; Lemma 4.1 of the source has the other sign.) Let every
level be trained for the same time :math:`\tau` from the same start Q, and :math:`c = 2\tau`. **One layer**,

.. math::
    \Phi = \sqrt{\lambda + \sigma^2}\,
           \exp\Big[\tfrac12 (1 - Q)\, e^{-c\lambda}\,\mathrm{Ei}(-c\sigma^2)
                    - \tfrac12 \mathrm{Ei}(-c(\sigma^2 + \lambda))\Big] .

Ei diverges at :math:`\tau = 0`. With the entire function :math:`\mathrm{Ein}(x) = \gamma + \log x - \mathrm{Ei}(-x)`
and without a factor that does not depend on :math:`\sigma`,

.. math::
    \log\Phi = \tfrac12 (1 - Q)\, e^{-c\lambda} \big[\log\sigma^2 - \mathrm{Ein}(c\sigma^2)\big]
               + \tfrac12 \mathrm{Ein}(c(\sigma^2 + \lambda)),

finite at :math:`\tau = 0` and :math:`\lambda = 0`. **Two layers** need no special function: with
:math:`E = e^{-8\lambda\tau}`, :math:`A = E + Q (1 - E)`, :math:`B = Q (1 - E)/\lambda` (its limit :math:`8 Q\tau` at
0) and q = Q/A,

.. math::  w(\sigma) = \frac{Q}{A + B\sigma^2}, \qquad  \Phi = \sigma^{1 - q} (A + B\sigma^2)^{q/2} .

After long training both are :math:`\sqrt{\lambda + \sigma^2}`, and :math:`\tilde\lambda` is
:math:`(\lambda + \sigma_0^2)\,\sigma_T^2/(\lambda + \sigma_T^2)`, not exactly :math:`\lambda`.

Source: Wang & Pehlevan 2025, https://arxiv.org/abs/2503.03206; the regular form and that of two layers: derived here.
"""

import math

import scipy  # its subpackages are loaded when they are first used
import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.errors import InputError

from .learning_curves import Modes, Number, Start, checked_modes, checked_start, checked_times, logistic_parts

EULER_GAMMA = 0.57721566490153286


def one_layer_generated_variance(
    variances: Modes, times: Float[Tensor, " times"], start: Start, *, sigma_0: Number, sigma_T: Number
) -> Float[Tensor, "times modes"]:
    """Generated variance at sigma_0 from the start N(0, sigma_T^2), for one layer after every training time; float64.

    Raises InputError for a negative variance or time, and unless 0 < sigma_0 < sigma_T.

    >>> import torch
    >>> from diffuscope.theory import one_layer_generated_variance
    >>> lam, tau = torch.tensor([3.0]), torch.tensor([0.0, 1e4])
    >>> c = one_layer_generated_variance(lam, tau, start=0.5, sigma_0=0.1, sigma_T=10)
    >>> [round(value, 6) for value in c[:, 0].tolist()]  # 100 (0.1 / 10)^(2 (1 - 0.5)), and (3 + 0.01) 100 / (3 + 100)
    [1.0, 2.92233]
    """
    lam, tau = _checked(variances, times, sigma_0, sigma_T)

    def log_phi(sigma: Number) -> Tensor:
        forgotten = (1 - start) * torch.exp(-2 * tau * lam)
        unlearned = forgotten * (2 * math.log(sigma) - entire_exponential_integral(2 * tau * sigma**2 + 0 * lam))
        return (unlearned + entire_exponential_integral(2 * tau * (lam + sigma**2))) / 2

    return sigma_T**2 * torch.exp(2 * (log_phi(sigma_0) - log_phi(sigma_T)))


def two_layer_generated_variance(
    variances: Modes, times: Float[Tensor, " times"], start: Start, *, sigma_0: Number, sigma_T: Number
) -> Float[Tensor, "times modes"]:
    """`one_layer_generated_variance` for two layers, W = P P^T. Raises InputError also for a negative start.

    >>> import torch
    >>> from diffuscope.theory import two_layer_generated_variance
    >>> lam, tau = torch.tensor([3.0]), torch.tensor([0.0, 1e4])
    >>> c = two_layer_generated_variance(lam, tau, start=0.5, sigma_0=0.1, sigma_T=10)
    >>> [round(value, 6) for value in c[:, 0].tolist()]  # 100 (0.1 / 10)^(2 (1 - 0.5)), and (3 + 0.01) 100 / (3 + 100)
    [1.0, 2.92233]
    """
    lam, tau = _checked(variances, times, sigma_0, sigma_T)
    q_0 = checked_start(start, lam)
    remaining, grown = logistic_parts(8 * lam * tau)
    slope = 8 * tau * q_0 * grown
    level = remaining + slope * lam
    q = q_0 / torch.where(q_0 == 0, 1.0, level)

    def log_phi(sigma: Number) -> Tensor:
        # a start of 0 remains 0: q = 0, and the level may have underflowed to 0
        return (1 - q) * math.log(sigma) + q / 2 * torch.log(torch.where(q == 0, 1.0, level + slope * sigma**2))

    return sigma_T**2 * torch.exp(2 * (log_phi(sigma_0) - log_phi(sigma_T)))


def learned_variance(variances: Modes, *, sigma_0: Number, sigma_T: Number) -> Modes:
    """(lambda + sigma_0^2) sigma_T^2 / (lambda + sigma_T^2): the variance that the exact denoiser generates.

    >>> import torch
    >>> from diffuscope.theory import learned_variance
    >>> learned_variance(torch.tensor([0.0, 3.0]), sigma_0=0.5, sigma_T=1.0).tolist()  # 0.25, 3.25 / 4
    [0.25, 0.8125]
    """
    lam, _ = _checked(variances, variances.new_zeros(1), sigma_0, sigma_T)
    return (lam + sigma_0**2) * sigma_T**2 / (lam + sigma_T**2)


def entire_exponential_integral(x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Ein(x) = int_0^x (1 - e^-u) du / u = gamma + log x + E_1(x), for x >= 0; absolute error about 1e-16 |log x|."""
    integral = torch.from_numpy(scipy.special.exp1(x.numpy()))
    return torch.where(x > 0, EULER_GAMMA + x.log() + integral, 0.0)  # log and E_1 are infinite at 0


def _checked(variances: Modes, times: Tensor, sigma_0: Number, sigma_T: Number) -> tuple[Tensor, Tensor]:
    if not 0 < sigma_0 < sigma_T < math.inf:
        raise InputError(f"sigma_0, sigma_T: expected 0 < sigma_0 < sigma_T, got {sigma_0} and {sigma_T}")
    lam, _ = checked_modes(variances, 1, sigma_T)
    return lam, checked_times(times)[:, None]
