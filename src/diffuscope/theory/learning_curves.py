r"""Learning curves of every principal component for linear denoisers: closed forms, one layer and two.

Data of mean 0 with eigenvalues :math:`\lambda_k`, kernel :math:`x_t = \alpha x_0 + \sigma\varepsilon`, one noise level,
and the loss :math:`L = E|W x_t - x_0|^2`, a sum over the coordinates. With :math:`C = \mathrm{Cov}(x_0)` and
:math:`S = \alpha^2 C + \sigma^2 I`

.. math::  \nabla_W L = 2 (W S - \alpha C), \qquad s_k = \alpha^2\lambda_k + \sigma^2, \qquad
           w^*_k = \alpha\lambda_k / s_k .

Let :math:`\tau` be the training time, learning rate times steps. **One layer**, from the start Q, under gradient flow
and, without any approximation, under gradient descent with the learning rates :math:`\eta_i`:

.. math::  w_k(\tau) = w^*_k + (Q - w^*_k)\, e^{-2 s_k\tau}, \qquad
           w_k(n) = w^*_k + (Q - w^*_k) \prod_{i \le n} (1 - 2\eta_i s_k) .

**Two layers with shared weights**, :math:`W = P P^T`: :math:`\nabla_P L = (\nabla_W L + \nabla_W L^T) P`. Where W and C
commute at the start (:math:`P = \sqrt Q\, O` with O orthogonal will do) they always do, and
:math:`\dot w = 8 w (\alpha\lambda - s w)`, the logistic equation:

.. math::  w_k(\tau) = \frac{w^*_k Q}{(w^*_k - Q)\, e^{-8\alpha\lambda_k\tau} + Q}
                     = \frac{Q}{e^{-y} + 8\tau s_k Q\, (1 - e^{-y})/y}, \quad y = 8\alpha\lambda_k\tau, \qquad
           w \leftarrow w\,\big[1 - 4\eta\,(s w - \alpha\lambda)\big]^2 ,

the last for gradient descent. The second form of the logistic holds at :math:`\lambda = 0` too, where
:math:`w = Q/(1 + 8\sigma^2 Q\tau)` decays by a power of time.

`denoising_loss` is a *mean* over d coordinates and over the noise levels of the batch: there :math:`\tau` is learning
rate times steps times weight / d, times the share of the batch that has this level. With a mean other than 0 and a
learned bias the modes are others (`affine_learning`); with data centered they are these.

Source: Wang & Pehlevan 2025, https://arxiv.org/abs/2503.03206 (alpha = 1); gradient descent, general alpha: derived.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.errors import InputError

Modes = Float[Tensor, " modes"]
Start = Float[Tensor, " modes"] | float | int
Number = float | int


def optimal_weights(variances: Modes, alpha: Number, sigma: Number) -> Modes:
    """w* = alpha lambda / (alpha^2 lambda + sigma^2), the gain of the exact denoiser along every component.

    Raises InputError for a negative variance and for noise that is not positive.

    >>> import torch
    >>> from diffuscope.theory import optimal_weights
    >>> optimal_weights(torch.tensor([1.0, 3.0]), alpha=0.5, sigma=0.5).tolist()  # alpha lambda / (lambda / 4 + 1 / 4)
    [1.0, 1.5]
    """
    lam, spread = checked_modes(variances, alpha, sigma)
    return alpha * lam / spread


def one_layer_flow(
    variances: Modes, times: Float[Tensor, " times"], start: Start, *, alpha: Number, sigma: Number
) -> Float[Tensor, "times modes"]:
    """The weights w_k(tau) of one layer under gradient flow, float64.

    `times` are training times tau >= 0 (units of 1/variance) and `start` is w_k(0). Raises InputError for a negative
    variance or time, and for noise that is not positive.

    >>> import math, torch
    >>> from diffuscope.theory import one_layer_flow
    >>> tau = torch.tensor([0.0, math.log(2) / 2])
    >>> w = one_layer_flow(torch.tensor([3.0]), tau, start=0.5, alpha=0.5, sigma=0.5)  # s = 1 and w* = 1.5
    >>> [round(value, 6) for value in w[:, 0].tolist()]  # 1.5 + (0.5 - 1.5) exp(-2 tau)
    [0.5, 1.0]
    """
    lam, spread = checked_modes(variances, alpha, sigma)
    best, tau = alpha * lam / spread, checked_times(times)[:, None]
    return best + (start - best) * torch.exp(-2 * spread * tau)


def one_layer_descent(
    variances: Modes, learning_rates: Float[Tensor, " steps"], start: Start, *, alpha: Number, sigma: Number
) -> Float[Tensor, "steps_and_start modes"]:
    """The weights before the first step and after each, under gradient descent: exact for any learning rates.

    Raises InputError for a negative variance or learning rate, and for noise that is not positive.

    >>> import torch
    >>> from diffuscope.theory import one_layer_descent
    >>> w = one_layer_descent(torch.tensor([3.0]), torch.tensor([0.1, 0.25]), start=0.5, alpha=0.5, sigma=0.5)
    >>> [round(value, 6) for value in w[:, 0].tolist()]  # 1.5 - 1, 1.5 - (1 - 0.2), 1.5 - (1 - 0.2)(1 - 0.5)
    [0.5, 0.7, 1.1]
    """
    lam, spread = checked_modes(variances, alpha, sigma)
    best, rates = alpha * lam / spread, checked_times(learning_rates, "learning_rates")[:, None]
    factors = torch.cat([torch.ones_like(spread)[None], 1 - 2 * rates * spread])
    return best + (start - best) * factors.cumprod(0)


def two_layer_flow(
    variances: Modes, times: Float[Tensor, " times"], start: Start, *, alpha: Number, sigma: Number
) -> Float[Tensor, "times modes"]:
    """The eigenvalues w_k(tau) of W = P P^T under gradient flow, float64; a start of 0 remains 0.

    Raises InputError for a negative variance, time or start, and for noise that is not positive.

    >>> import math, torch
    >>> from diffuscope.theory import two_layer_flow
    >>> tau = torch.tensor([0.0, math.log(3) / 12])  # exp(-8 alpha lambda tau) = 1/3
    >>> w = two_layer_flow(torch.tensor([3.0]), tau, start=0.5, alpha=0.5, sigma=0.5)  # s = 1 and w* = 1.5
    >>> [round(value, 6) for value in w[:, 0].tolist()]  # w* Q / ((w* - Q) exp(-8 alpha lambda tau) + Q)
    [0.5, 0.9]
    """
    lam, spread = checked_modes(variances, alpha, sigma)
    q, tau = checked_start(start, lam), checked_times(times)[:, None]
    remaining, grown = logistic_parts(8 * alpha * lam * tau)
    denominator = remaining + 8 * tau * spread * q * grown
    return q / torch.where(q == 0, 1.0, denominator)  # the denominator may vanish where q = 0


def two_layer_descent(
    variances: Modes, learning_rates: Float[Tensor, " steps"], start: Start, *, alpha: Number, sigma: Number
) -> Float[Tensor, "steps_and_start modes"]:
    """The eigenvalues of P P^T before the first step and after each, under gradient descent on P: the exact recursion.

    Raises InputError for a negative variance, learning rate or start, and for noise that is not positive.

    >>> import torch
    >>> from diffuscope.theory import two_layer_descent
    >>> w = two_layer_descent(torch.tensor([3.0]), torch.tensor([0.05]), start=0.5, alpha=0.5, sigma=0.5)
    >>> [round(value, 6) for value in w[:, 0].tolist()]  # 0.5, and 0.5 (1 - 4 x 0.05 (0.5 - 1.5))^2
    [0.5, 0.72]
    """
    lam, spread = checked_modes(variances, alpha, sigma)
    weights = [checked_start(start, lam)]
    for rate in checked_times(learning_rates, "learning_rates").tolist():
        w = weights[-1]
        weights.append(w * (1 - 4 * rate * (spread * w - alpha * lam)) ** 2)
    return torch.stack(weights)


def logistic_parts(y: Float[Tensor, "times modes"]) -> tuple[Tensor, Tensor]:
    """e^-y and (1 - e^-y) / y, which is 1 at y = 0."""
    safe = torch.where(y == 0, 1.0, y)
    return torch.exp(-y), torch.where(y == 0, 1.0, -torch.expm1(-safe) / safe)


def checked_modes(variances: Modes, alpha: Number, sigma: Number) -> tuple[Modes, Modes]:
    """The variances in float64, and those of the noised data, alpha^2 lambda + sigma^2."""
    lam = variances.double()
    if len(lam) == 0 or not bool((lam.isfinite() & (lam >= 0)).all()):
        raise InputError(f"variances: expected at least one, all finite and >= 0, got {_first_invalid(lam)}")
    spread = alpha * alpha * lam + sigma * sigma  # a power of a float raises where it overflows
    if not (alpha >= 0 and sigma > 0 and bool((spread.isfinite() & (spread > 0)).all())):
        raise InputError(
            "alpha, sigma: expected alpha >= 0 and sigma > 0 whose squares neither overflow nor vanish, "
            f"got {alpha} and {sigma}"
        )
    return lam, spread


def checked_times(times: Float[Tensor, " times"], name: str = "times") -> Float[Tensor, " times"]:
    """The times in float64; InputError where one is negative or not finite."""
    tau = times.double()
    if not bool((tau.isfinite() & (tau >= 0)).all()):
        raise InputError(f"{name}: expected finite numbers >= 0, got {_first_invalid(tau)}")
    return tau


def checked_start(start: Start, variances: Modes) -> Modes:
    """The start as one number per mode; InputError where an eigenvalue of P P^T would be negative."""
    q = torch.as_tensor(start, dtype=torch.float64, device=variances.device).expand_as(variances)
    if not bool((q.isfinite() & (q >= 0)).all()):
        raise InputError(f"start: expected eigenvalues of P P^T, finite and >= 0, got {_first_invalid(q)}")
    return q


def _first_invalid(values: Tensor) -> str:
    invalid = values[~(values.isfinite() & (values >= 0))]
    return f"{float(invalid[0]):g} among {len(values)}" if len(values) else "none"
