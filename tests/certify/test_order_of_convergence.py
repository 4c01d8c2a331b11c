"""The fitted order on errors whose order is known."""

import math

import numpy as np
import pytest

from diffuscope.certify import MeasuredOrder, measured_order
from diffuscope.errors import InputError

STEPS = (16, 25, 40, 63, 100, 160)


@pytest.mark.parametrize("p", [1, 2, 3, 4])
@pytest.mark.parametrize("a", [-5.0, 0.0, 8.0])
def test_a_power_with_its_next_term_is_fitted_without_bias(p: int, a: float):
    found = measured_order(STEPS, [3 * n**-p * math.exp(a / n) for n in STEPS], floor=1e-15)
    assert found.order == pytest.approx(p, abs=1e-9)
    # the fit leaves rounding, and rounding is all that the band has of width
    assert found.interval == pytest.approx((p, p), abs=1e-8)
    assert not found.exact


def test_the_band_covers_the_order_in_ninety_five_of_a_hundred_noisy_fits():
    """Log-normal scatter of 5 % about n^-2 e^(3/n): covered in 95% of 1,000 fits, within 4 standard errors."""
    draw = np.random.default_rng(0)
    covered = []
    for _ in range(1000):
        errors = [n**-2.0 * math.exp(3 / n + 0.05 * draw.standard_normal()) for n in STEPS]
        low, high = measured_order(STEPS, errors, floor=1e-15).interval
        covered.append(low <= 2 <= high)
    assert abs(np.mean(covered) - 0.95) < 4 * math.sqrt(0.95 * 0.05 / 1000)


def test_an_order_one_too_low_is_missed_and_one_too_high_is_reached():
    found = measured_order(STEPS, [n**-1.0 for n in STEPS], floor=1e-15)
    assert found.against(2, 0.15) == "missed"
    assert found.against(1, 0.15) == "reached"
    assert measured_order(STEPS, [n**-3.0 for n in STEPS], floor=1e-15).against(2, 0.15) == "reached"


def test_an_error_that_does_not_vanish_misses_every_order():
    assert measured_order(STEPS, [1e-3] * 6, floor=1e-12).against(1, 0.15) == "missed"
    assert measured_order(STEPS, [1e-3 + n**-2.0 for n in STEPS], floor=1e-12).against(2, 0.15) == "missed"


@pytest.mark.parametrize(
    ("order", "half", "verdict"),
    [
        (2.48, 8.2, "open"),  # contains the declared order, and much else
        (2.9, 0.3, "reached"),
        (2.9, 0.5, "open"),  # might be 2.4
        (2.8, 0.01, "missed"),
        (2.8, 0.1, "open"),
        (2.0, 0.8, "missed"),
        (2.0, 0.9, "open"),
    ],
)
def test_the_interval_decides_between_reached_missed_and_open(order: float, half: float, verdict: str):
    """Declared 3, tolerance .15: missed where the whole interval is below 2.85, reached where none is below 2.5."""
    found = MeasuredOrder(order, (order - half, order + half), STEPS, (1.0,) * 6, exact=False)
    assert found.against(3, 0.15) == verdict


def test_rounding_is_not_fitted():
    errors = [1e-6 * (16 / n) ** 4 if n < 60 else 1e-14 for n in STEPS]
    assert measured_order(STEPS, errors, floor=1e-12).exact
    mostly = [max(1e-9 * (16 / n) ** 2, 0.0) for n in STEPS]
    assert measured_order(STEPS, mostly, floor=1e-12).order == pytest.approx(2, abs=1e-9)


def test_rounding_that_bends_the_line_is_left_out():
    errors = [(16 / n) ** 2 * 1e-4 + 1e-7 for n in STEPS]
    assert measured_order(STEPS, errors, floor=1e-12).order < 1.95
    clear = [(16 / n) ** 2 * 1e-3 + 1e-10 for n in STEPS]
    assert measured_order(STEPS, clear, floor=1e-10).order == pytest.approx(2, abs=1e-3)


def test_an_order_needs_four_errors_unless_they_are_rounding():
    for count in range(4):
        with pytest.raises(InputError, match=f"steps: expected at least 4 accepted numbers of steps, got {count}"):
            measured_order(STEPS[:count], [1 / n for n in STEPS[:count]], floor=1e-12)
    assert measured_order(STEPS[:2], [1e-13, 1e-14], floor=1e-12).exact


def test_nan_is_neither_exact_nor_of_any_order():
    found = measured_order(STEPS, [float("nan")] * 6, floor=1e-12)
    assert not found.exact
    assert found.against(1, 0.15) == "open"


def test_an_error_that_is_not_finite_on_a_coarse_grid_is_left_out():
    found = measured_order(STEPS, [float("nan"), *(n**-2.0 for n in STEPS[1:])], floor=1e-12)
    assert found.order == pytest.approx(2, abs=1e-9)
