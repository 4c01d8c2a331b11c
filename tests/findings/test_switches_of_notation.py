"""Numbers just on either side of where their notation changes, and what intervals and errors hold."""

import pytest
from scipy import stats

from diffuscope.findings import NORMAL_95, Repeated
from diffuscope.findings.numbers import measurement, number, p_value
from diffuscope.findings.repeated import AGREES


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (9_500_000, "9,500,000"),
        (10_500_000, "1.05 × 10⁷"),
        (9.5e-5, "9.50 × 10⁻⁵"),
        (1.05e-4, "0.000105"),
    ],
)
def test_numbers_are_plain_from_a_ten_thousandth_to_ten_million(value, written):
    assert number(value) == written


@pytest.mark.parametrize(
    ("p", "written"),
    [
        (0.94, "0.94"),
        (0.097, "0.10"),  # 0.097 to two decimals, as from 0.095 on
        (0.094, "0.094"),
        (1.04e-3, "0.0010"),
        (9.6e-4, "9.6 × 10⁻⁴"),
        (1.04e-300, "1.0 × 10⁻³⁰⁰"),
        (9e-301, "< 10⁻³⁰⁰"),
    ],
)
def test_p_values_have_two_leading_digits_down_to_a_thousandth_and_powers_below(p, written):
    assert p_value(p) == written


@pytest.mark.parametrize(("half", "plain"), [(1.05e-5, True), (0.95e-5, False)])
def test_an_interval_is_plain_from_a_hundred_thousandth_on(half, plain):
    value, interval = measurement(0.5, (0.5 - half, 0.5 + half), "")
    assert ("×" not in value + interval) == plain


def test_a_difference_is_seen_at_a_thousandth_and_agreement_left_once_in_ten_thousand():
    runs = Repeated(0.0, 1.0, 7)
    assert 2 * stats.t.sf(runs.seen, 6) == pytest.approx(1e-3, rel=1e-9)
    assert 2 * stats.t.sf(runs.room(AGREES), 6) == pytest.approx(1e-4, rel=1e-9)
    assert (runs.low, runs.high) == (-runs.seen, runs.seen)


def test_the_normal_interval_holds_nineteen_of_twenty():
    assert stats.norm.cdf(NORMAL_95) - stats.norm.cdf(-NORMAL_95) == pytest.approx(0.95, abs=1e-4)
