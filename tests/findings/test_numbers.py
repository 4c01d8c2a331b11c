"""Numbers as they are written: digits that the uncertainty bears, in one notation."""

import math

import numpy as np
import pytest

from diffuscope.findings import numbers
from diffuscope.monitor import rank_p_value


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (0.0, "0"),
        (3.14159, "3.14"),
        (-0.012345, "−0.0123"),
        (1437.0, "1,437"),
        (1437.4, "1,437"),
        (1.234e-7, "1.23 × 10⁻⁷"),
        (6.02e23, "6.02 × 10²³"),
        (math.inf, "∞"),
        (-math.inf, "−∞"),
        (math.nan, "not available"),
    ],
)
def test_a_number_alone_has_three_leading_digits(value, written):
    assert numbers.number(value) == written


@pytest.mark.parametrize(
    ("value", "interval", "unit", "written"),
    [
        (3.2184, (1.9012, 5.0999), "%", ("3.2%", "1.9% to 5.1%")),
        (1.2567, (1.1834, 1.3301), "x", ("1.257x", "1.183x to 1.330x")),
        (1.2567, None, "x", ("1.26x", "")),
        (0.53712, (0.5061, 0.5684), "", ("0.537", "0.506 to 0.568")),
        (1234.567, (1200.0, 1270.0), "steps", ("1,235\u00a0steps", "1,200 to 1,270")),
        (18.0, (16.0, 21.0), "NFE", ("18\u00a0NFE", "16 to 21")),
        (-0.001, (-0.02, 0.018), "", ("−0.001", "−0.020 to 0.018")),
        (2.5e-9, (1.5e-9, 3.5e-9), "", ("2.5 × 10⁻⁹", "1.5 × 10⁻⁹ to 3.5 × 10⁻⁹")),
        (0.25, None, "", ("0.250", "")),
        (0.5, (0.5, 0.5), "", ("0.500", "0.500 to 0.500")),
        (1.0, (0.5, math.inf), "", ("1", "0.500 to ∞")),
    ],
)
def test_interval_decides_the_decimals(value, interval, unit, written):
    assert numbers.measurement(value, interval, unit) == written


@pytest.mark.parametrize(
    ("p", "written"),
    [(1.0, "1.00"), (0.5, "0.50"), (0.0996, "0.10"), (0.0499, "0.050"), (0.00123, "0.0012"), (3.14e-6, "3.1 × 10⁻⁶")],
)
def test_p_value_has_two_leading_digits(p, written):
    assert numbers.p_value(p) == written


def test_a_p_value_that_underflows_is_printed_as_below_the_smallest():
    """All of 1,200 samples nearer than any of 1,200 held-out examples: 1 in binom(2400, 1200) > 10^720."""
    p = rank_p_value(np.full(1200, 1 / 1201), 1200)
    assert p == 0
    assert [numbers.p_value(tiny) for tiny in (p, 1e-310)] == ["< 10⁻³⁰⁰", "< 10⁻³⁰⁰"]
    assert numbers.p_value(1e-299) == "1.0 × 10⁻²⁹⁹"
    assert [f"p {numbers.p_relation(each)}" for each in (p, 0.25)] == ["p < 10⁻³⁰⁰", "p = 0.25"]


def test_rounding_to_zero_has_no_sign():
    assert numbers.measurement(-0.001, (-3.0, 3.0), "")[0] == "0.0"
    assert numbers.measurement(-0.001, (-30.0, 30.0), "")[0] == "0"


def test_points_of_a_column_stand_below_each_other():
    written = numbers.column([0.912, 0.0304, 12.5, math.nan])
    assert [text.partition(".")[2] for text in written[:3]] == ["912", "030", "500"]
    assert written[3] == "not available"


def test_counts_have_no_decimals():
    assert numbers.column([1.0, 60_000.0]) == ["1", "60,000"]


def test_column_over_many_decades_is_written_number_by_number():
    assert numbers.column([1e-9, 0.5]) == ["1.00 × 10⁻⁹", "0.500"]


@pytest.mark.parametrize(
    ("value", "interval", "written"),
    [
        (2.5e-9, (-4.5e-8, 5.5e-8), ("2.5 × 10⁻⁹", "−4.5 × 10⁻⁸ to 5.5 × 10⁻⁸")),
        (1.23456e8, (1.23e8, 1.24e8 + 0.5), ("1.2346 × 10⁸", "1.2300 × 10⁸ to 1.2400 × 10⁸")),
        (-1.23456e8, (-1.24e8 - 0.5, -1.23e8), ("−1.2346 × 10⁸", "−1.2400 × 10⁸ to −1.2300 × 10⁸")),
        (0.5, (0.499998, 0.500004), ("5.000000 × 10⁻¹", "4.999980 × 10⁻¹ to 5.000040 × 10⁻¹")),
    ],
)
def test_in_scientific_notation_too_the_half_width_has_two_digits(value, interval, written):
    assert numbers.measurement(value, interval, "") == written


@pytest.mark.parametrize(
    ("values", "written"),
    [
        ([25_500_000.5, 12_300_000.0], ["2.55 × 10⁷", "1.23 × 10⁷"]),
        ([9_500_000.5, 8_123_456.0], ["9,500,000", "8,123,456"]),
        ([1.5e-7, 2.5e-7], ["1.50 × 10⁻⁷", "2.50 × 10⁻⁷"]),
        ([1.5e-6, 2.5e-6], ["0.00000150", "0.00000250"]),
        ([1.5e-3, 250.5], ["0.0015", "250.5000"]),
        ([1.5e-3, 2_500.5], ["0.00150", "2,500"]),
        ([1.5e-4, 250.5], ["0.000150", "250"]),
        ([1.5e-4, 2_500.5], ["0.000150", "2,500"]),
        ([1_234.5, 2_000.25], ["1,234", "2,000"]),
        ([-0.25, 0.0, math.inf], ["−0.250", "0.000", "∞"]),
    ],
)
def test_a_column_has_common_decimals_within_five_decades_and_plain_sizes(values, written):
    assert numbers.column(values) == written


@pytest.mark.parametrize(
    ("value", "written"),
    [(1e-4, "0.000100"), (9.99e-5, "9.99 × 10⁻⁵"), (9_999_999.5, "10,000,000"), (1e7 + 0.5, "1.00 × 10⁷"),
     (9_999_999.0, "9,999,999"), (1e7, "1.00 × 10⁷"), (12.0, "12"), (100.5, "100"), (99.95, "100.0")],
)  # fmt: skip
def test_plain_numbers_end_at_their_limits(value, written):
    assert numbers.number(value) == written


@pytest.mark.parametrize(
    ("p", "written"),
    [(0.001, "0.0010"), (0.000999, "1.0 × 10⁻³"), (0.095, "0.10"), (0.0949, "0.095"), (math.nan, "not available")],
)
def test_p_values_change_their_form_at_the_stated_sizes(p, written):
    assert numbers.p_value(p) == written
