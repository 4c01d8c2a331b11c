r"""How much better y_i explains x than y_r does, from differences that vanish where the two tie.

.. math::
    \Delta_i = \frac{|x - \alpha y_r|^2 - |x - \alpha y_i|^2}{2\sigma^2}
             = \frac{\alpha}{\sigma^2}\; e_i \cdot h_i, \qquad
    e_i = y_i - y_r, \quad h_i = x - \alpha y_r - \tfrac\alpha2 e_i .

At a tie h is small while x and alpha y are not: rounding them alone leaves an error of
u (|x| + alpha |y|) |e| alpha / sigma^2. Error-free transformations (Dekker 1971) carry the rounding errors of e and h
along, and leave u |e| |h| alpha / sigma^2.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

Pairs = Float[Tensor, "pairs d"]
PerPair = Float[Tensor, " pairs"]


def log_odds(x: Pairs, alpha: PerPair, sigma: PerPair, y: Pairs, reference: Pairs) -> tuple[PerPair, PerPair]:
    """Delta, and the rounding error to expect of it."""
    scale = alpha / sigma**2
    e = y - reference
    halfway = x - alpha[:, None] * reference - alpha[:, None] / 2 * e
    # x and alpha y are rounded coordinate by coordinate, independently
    rounded = (x.norm(dim=1) + alpha * reference.norm(dim=1)) / math.sqrt(x.shape[1])
    error = 4 * torch.finfo(torch.float64).eps * scale * e.norm(dim=1) * (halfway.norm(dim=1) + rounded)
    return scale * (e * halfway).sum(1), error


def compensated_log_odds(
    x: Pairs, alpha: PerPair, sigma: PerPair, y: Pairs, reference: Pairs
) -> tuple[PerPair, PerPair]:
    """Delta with the rounding errors of e and h carried along, and what remains of the error; seven times the work."""
    scale = alpha / sigma**2
    factor = alpha[:, None]
    e, e_low = _sum(y, -reference)
    signal, signal_low = _product(factor, reference)
    residual, residual_low = _sum(x, -signal)
    half, half_low = _product(factor / 2, e)
    halfway, halfway_low = _sum(residual, -half)
    low = halfway_low + residual_low - signal_low - half_low - factor / 2 * e_low
    error = 4 * torch.finfo(torch.float64).eps * scale * e.norm(dim=1) * (halfway.norm(dim=1) + low.norm(dim=1))
    return scale * ((e * halfway).sum(1) + (e * low + e_low * halfway).sum(1)), error


def _sum(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """a + b, and exactly what rounding took from it (Knuth)."""
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


def _product(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """a b, and exactly what rounding took from it (Dekker)."""
    product = a * b
    (a_high, a_low), (b_high, b_low) = _halves(a), _halves(b)
    return product, a_low * b_low - (((product - a_high * b_high) - a_low * b_high) - a_high * b_low)


def _halves(a: Tensor) -> tuple[Tensor, Tensor]:
    """The leading and trailing 26 bits of float64 (Veltkamp)."""
    shifted = a * (2.0**27 + 1)
    high = shifted - (shifted - a)
    return high, a - high
