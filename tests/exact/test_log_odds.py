"""The log-odds of two points against rational arithmetic, and the rounding errors that they state."""

from fractions import Fraction

import pytest
import torch
from torch import Tensor

from diffuscope.exact._log_odds import compensated_log_odds, log_odds

EPS = torch.finfo(torch.float64).eps


def near_ties(sigma: float, d: int = 5, n: int = 40) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """x, alpha, sigma, y, y_r with x far from the origin, about as near to alpha y as to alpha y_r."""
    draw = torch.Generator().manual_seed(0)
    y, reference, off = (torch.randn(n, d, dtype=torch.float64, generator=draw) for _ in range(3))
    y, reference = y + 30, reference + 30
    alpha = 0.2 + 0.7 * torch.rand(n, dtype=torch.float64, generator=draw)
    x = alpha[:, None] * (y + reference) / 2 + sigma * off
    return x, alpha, torch.full((n,), sigma, dtype=torch.float64), y, reference


def exact(x: Tensor, alpha: Tensor, sigma: Tensor, y: Tensor, reference: Tensor) -> list[Fraction]:
    """(|x - alpha y_r|^2 - |x - alpha y|^2) / 2 sigma^2 of the float64 numbers as they are."""
    values = []
    for x_row, a, s, y_row, r_row in zip(*(part.tolist() for part in (x, alpha, sigma, y, reference)), strict=True):
        a, s = Fraction(a), Fraction(s)
        squares = (
            (Fraction(u) - a * Fraction(r)) ** 2 - (Fraction(u) - a * Fraction(v)) ** 2
            for u, v, r in zip(x_row, y_row, r_row, strict=True)
        )
        values.append(sum(squares, Fraction(0)) / (2 * s**2))
    return values


@pytest.mark.parametrize("sigma", [1e-6, 1e-3, 1.0])
@pytest.mark.parametrize("compute", [log_odds, compensated_log_odds])
def test_the_stated_error_bounds_the_true_one(compute, sigma: float):
    given = near_ties(sigma)
    odds, error = compute(*given)
    truth = exact(*given)
    off = torch.tensor([abs(float(Fraction(value) - t)) for value, t in zip(odds.tolist(), truth, strict=True)])
    assert bool((off <= error + EPS * odds.abs()).all())
    assert float(off.max()) > 0


@pytest.mark.parametrize("sigma", [1e-6, 1.0])
def test_the_stated_errors_are_those_of_the_derivation(sigma: float):
    """Four roundings of |e| (|h| + (|x| + alpha |y_r|) / root d) alpha / sigma^2; compensated without the second."""
    x, alpha, sigmas, y, reference = given = near_ties(sigma)
    e, scale = (y - reference).norm(dim=1), 4 * EPS * alpha / sigmas**2
    h = (x - alpha[:, None] * (y + reference) / 2).norm(dim=1)
    rounded = (x.norm(dim=1) + alpha * reference.norm(dim=1)) / 5**0.5
    # h is itself rounded: by 1e-14 of 30, where it may be 1e-6
    torch.testing.assert_close(log_odds(*given)[1], scale * e * (h + rounded), rtol=1e-6, atol=0)
    torch.testing.assert_close(compensated_log_odds(*given)[1], scale * e * h, rtol=1e-6, atol=0)
