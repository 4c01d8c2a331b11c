"""Claims, numbers, means and tests exactly where one answer passes into another; and work that is done in blocks."""

import math

import numpy as np
import pytest
import torch

from diffuscope.errors import InputError
from diffuscope.findings import (
    Repeated,
    TurningPoint,
    at_least,
    at_most,
    bootstrap_sums,
    chi_squared_permutation,
    density_bars,
    equals,
    false_discovery,
    frechet_distance,
    numbers,
    paired_permutation,
    statistics,
    turning_point,
)


def requirement(required, within):
    return equals("x", "X", 0.0, required, within=within, because="rounding", source="derived").requirement


def test_a_value_of_the_other_sign_uses_nothing_of_a_bound():
    assert at_most("x", "X", -3.0, 2.0, because="order", source="derived").used == 0
    assert at_least("x", "X", 3.0, -2.0, because="order", source="derived").used == 0


@pytest.mark.parametrize(
    ("required", "within", "written"),
    [
        (0.5, 1e-14, "0.500000000000000 ± 1e-14"),  # the smallest tolerance whose digits are written
        (0.5, 9e-15, "0.5 ± 9e-15"),
        (123_456_789.0, 1e6, "1.23e+08 ± 1e+06"),  # the first that is too large
        (5e-8, 5e-8, "0.000000050 ± 5e-08"),  # no digit of a number is beyond its own tolerance
        (1e-4, 1e-6, "0.0001000 ± 1e-06"),  # the smallest number that is written plainly
        (-5.42e-8, 1e-9, "-5.42e-08 ± 1e-09"),
    ],
)
def test_digits_of_a_requirement_at_the_limits_of_their_forms(required, within, written):
    assert requirement(required, within) == written


@pytest.mark.parametrize(
    ("value", "written"), [(-2e7, "−2.00 × 10⁷"), (-1e7, "−1.00 × 10⁷"), (math.inf, "∞"), (-math.inf, "−∞")]
)
def test_large_negative_numbers_are_written_like_positive_ones(value, written):
    assert numbers.number(value) == written


@pytest.mark.parametrize(
    ("value", "interval", "written"),
    [
        # the farther end decides, on either side
        (-1e6, (-1.5e7, 5e6 + 0.5), ("−1.0 × 10⁶", "−1.5 × 10⁷ to 5.0 × 10⁶")),
        (1e6, (-5e6 - 0.5, 1.5e7), ("1.0 × 10⁶", "−5.0 × 10⁶ to 1.5 × 10⁷")),
        # a value outside of its interval
        (-3e9, (-1.24e8 - 0.5, -1.23e8), ("−3.00000 × 10⁹", "−1.24000 × 10⁸ to −1.23000 × 10⁸")),
        # 10^7 is no longer plain; a half-width of 10^-5 is still
        (9e6 + 0.5, (8e6, 1e7), ("9.00 × 10⁶", "8.00 × 10⁶ to 1.00 × 10⁷")),
        (0.0, (-1e-5, 1e-5), ("0.000000", "−0.000010 to 0.000010")),
        (1234.6, (1000.25, 1300.4), ("1,235", "1,000 to 1,300")),  # no decimals before the point
    ],
)
def test_forms_of_a_measurement_at_their_limits(value, interval, written):
    assert numbers.measurement(value, interval, "") == written


def test_the_smallest_p_value_is_written():
    assert numbers.p_value(1e-300) == "1.0 × 10⁻³⁰⁰"


def test_a_column_of_negative_numbers_has_the_decimals_of_its_sizes():
    assert numbers.column([-0.25, -12.5]) == ["−0.25", "−12.50"]


def test_a_mean_without_spread_is_infinitely_many_standard_errors_from_zero():
    assert Repeated(-2.0, 0.0, 3).significance == -math.inf
    assert Repeated(2.0, 0.0, 3).significance == math.inf
    assert math.isnan(Repeated(0.0, 0.0, 3).significance)


def test_two_rows_of_one_feature_are_enough_for_a_distance_and_one_is_not():
    two = torch.tensor([[0.0], [2.0]])
    assert frechet_distance(two, two + 3).value == pytest.approx(9)
    with pytest.raises(InputError, match="y: expected at least 2 rows, got 1"):
        frechet_distance(two, two[:1])


def test_the_distance_is_that_of_the_exchanged_samples_where_one_has_fewer_rows_than_features():
    """Roots of 2 and of 4 rows; the covariances diag(2, 0, 0) and diag(2, 2/3, 0): d^2 = 2/3, on either side."""
    line = torch.tensor([[1.0, 0, 0], [-1.0, 0, 0]])
    plane = torch.tensor([[3.0, 1, 0], [-3.0, 1, 0], [3.0, -1, 0], [-3.0, -1, 0]]) / math.sqrt(6)
    covariance = torch.diag(torch.tensor([2.0, 2 / 9, 0.0]))
    assert torch.allclose(plane.mT @ plane / 3, covariance)
    for x, y in ((line, plane), (plane, line)):
        assert frechet_distance(x, y).value == pytest.approx(2 / 9, rel=1e-6)


def test_a_histogram_has_two_edges_at_least_and_none_twice():
    assert density_bars([0.5], [0, 2]).heights == (0.5,)
    for edges in ([0.0], [0.0, 1.0, 1.0]):
        with pytest.raises(InputError, match="at least two edges that increase"):
            density_bars([0.5], edges)


def test_a_p_value_of_exactly_the_rate_is_a_discovery():
    assert false_discovery(np.array([0.05]), 0.05).tolist() == [True]


def test_p_values_of_exactly_the_significance_are_found():
    turn = TurningPoint(2.0, (2.0,), (1.0, 3.0), 1.0, 2.0, 0.01, 0.01, 0.5, 0.01)
    assert turn.found
    assert "then it rises by 100% (p = 0.01)" in turn.verdict


def test_a_rise_from_no_residual_at_all_is_infinite():
    assert TurningPoint(2.0, (2.0,), (1.0, 3.0), 0.0, 2.0, 0.01, 0.01, 0.5, 0.01).rise == math.inf


def test_a_significance_of_one_rejects_whatever_is_seen_and_is_refused():
    residuals = np.random.default_rng(0).random((20, 3))
    with pytest.raises(InputError, match=r"significance: expected 0\.1 to 1 with 9 resamples, got 1$"):
        turning_point(residuals, np.arange(3), np.random.default_rng(1), significance=1.0, resamples=9)


class Recorded(np.random.Generator):
    """A generator that keeps the sizes of what is drawn at once."""

    def __init__(self):
        super().__init__(np.random.PCG64(0))
        self.sizes = []

    def multinomial(self, n, pvals, size=None):
        self.sizes.append(size)
        return super().multinomial(n, pvals, size=size)

    def choice(self, a, size=None):  # pyright: ignore[reportIncompatibleMethodOverride]
        self.sizes.append(size)
        return super().choice(a, size=size)

    def multivariate_hypergeometric(self, colors, nsample, size=None):  # pyright: ignore[reportIncompatibleMethodOverride]
        self.sizes.append(size)
        return super().multivariate_hypergeometric(colors, nsample, size=size)


COUNTS = np.array([[3, 0, 2], [1, 4, 2]])
RESAMPLINGS = {
    "bootstrap": lambda rng: bootstrap_sums(np.arange(3.0)[:, None], rng, 5).tolist(),
    "paired": lambda rng: paired_permutation(np.array([[0.3], [0.5], [-0.1]]), rng, 5)[1],
    "chi-squared": lambda rng: chi_squared_permutation(COUNTS, 1.0, rng, 5),
}


@pytest.mark.parametrize("resampling", RESAMPLINGS)
@pytest.mark.parametrize(("held", "blocks"), [(6, [2, 2, 1]), (2, [1] * 5), (100, [5])])
def test_five_resamples_of_three_numbers_in_blocks_are_those_at_once(monkeypatch, resampling, held, blocks):
    """Of as many numbers as are held at once, but of one resample at least."""
    at_once, in_blocks = Recorded(), Recorded()
    expected = RESAMPLINGS[resampling](at_once)
    monkeypatch.setattr(statistics, "CHUNK", held)
    assert RESAMPLINGS[resampling](in_blocks) == expected
    assert [size[0] if isinstance(size, tuple) else size for size in in_blocks.sizes] == blocks
