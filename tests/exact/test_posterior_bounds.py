"""What a posterior leaves out and the error that it states, in cases of few points that are solved by hand."""

import math

import pytest
import torch
from point_tables import table_of

from diffuscope.byte_examples import ByteExamples
from diffuscope.exact._digit_products import LARGEST, DigitPass, DigitProducts
from diffuscope.exact._means import streamed_mean
from diffuscope.exact._posterior import Noised, Posterior, posterior
from diffuscope.exact._products import byte_products
from diffuscope.exact._screening import PointTable
from diffuscope.exact._stream import Sums, streamed
from diffuscope.exact._weighted_sums import summation_error
from numbers_in_tests import double

U = 2.0**-53


def at(table: PointTable, x: list[float], alpha: float = 1.0, sigma: float = 1.0) -> Noised:
    return Noised.at(double(x), double(alpha), double(sigma), table.center, torch.float64)


def of_two(shares: list[float], far: float, accepted: float) -> Posterior:
    """0 and `far` along a line, 3 off the origin, and a copy of the latter; equally likely but for these shares."""
    table = table_of([[0.0, 3.0], [far, 3.0], [far, 3.0]], [0.0, *map(math.log, shares)])
    return posterior(table, at(table, [far / 2, 3.0]), 2, accepted=accepted, accepted_variance=None)


@pytest.mark.parametrize("far", [1.0, 12.0])
def test_points_that_weigh_less_than_a_tenth_of_the_error_accepted_are_left_out_and_stated(far: float):
    """The third weighs at most as much as the second. Relative errors are those of a norm of 3, of diameters at least.

    The center is 2/3 of the way, so that the diameter is at most 4/3 of it: 3 is more than 4/3, and a 16/3 of 16.
    """
    accepted, diameter = 1e-3, 4 / 3 * far
    limit = 0.1 * accepted * min(1.0, 3 / diameter)
    for share, counted in ((0.98 * limit, False), (1.02 * limit, True)):
        found = of_two([share, share], far, accepted)
        assert found.light.tolist() == [counted]
        mass = 1 + share + (share if counted else 0)
        assert float(found.log_mass) == pytest.approx(math.log(mass), rel=1e-9, abs=0)
        left = 0.0 if counted else share / (1 + share)
        assert float(found.error) == pytest.approx(left * diameter, rel=1e-6, abs=1e-11)
        assert float(found.log_error) == pytest.approx(left, rel=1e-6, abs=1e-11)
        assert found.mean.tolist() == [pytest.approx([(mass - 1) / mass * far, 3.0], rel=1e-9, abs=0)]
        assert float(found.variance) == pytest.approx(far**2 * (mass - 1) / mass**2, rel=1e-9, abs=0)


def test_points_that_would_change_a_variance_by_more_than_is_accepted_are_counted_however_little_they_weigh():
    """0 and 12 have the variance 36, and what weighs w of both changes it by w times the squared diameter, 144."""
    for share, counted in ((0.98 * 0.5e-3, False), (1.02 * 0.5e-3, True)):
        table = table_of([[0.0], [12.0], [6.0], [6.0]], [0.0, 0.0, math.log(share), math.log(share)])
        found = posterior(table, at(table, [6.0], sigma=1e6), 3, accepted=1.0, accepted_variance=1e-3)
        assert found.light.tolist() == [counted]


def test_a_variance_below_a_hundredth_of_the_square_of_the_share_accepted_counts_as_zero():
    """Two points are nearly one: then the third counts from a weight of 0.01 * 1e-3^2 of theirs on."""
    for share, counted in ((0.98e-8, False), (1.02e-8, True)):
        table = table_of([[0.0], [1e-9], [10.0]], [0.0, math.log(share), math.log(share)])
        noised = at(table, [0.0], sigma=100.0)
        found = posterior(table, noised, 2, accepted=1.0, accepted_variance=1e-3)
        assert found.light.tolist() == [counted]


def test_scores_that_are_off_move_a_mean_by_the_root_of_the_light_mass_and_its_variance():
    """The heavier of two points far to either side of x: the light one has half the mass, at distance 1 from D = 0."""
    table = table_of([[-1.0], [1.0]], [0.0, 0.0])
    noised = at(table, [0.0], alpha=0.5, sigma=0.25)
    found = posterior(table, noised, 1, accepted=1e-12, accepted_variance=None)
    scores = float(table.score_error(noised.queries, noised.kappa))
    assert scores == pytest.approx(2 * U * 4 * 0.5, rel=1e-9, abs=0)  # kappa = 4, h = 1/2
    sums = 2 * summation_error(1.0, torch.float64, 2)
    # the light point is at distance 1, so that the sum over it is 1/2; all together weigh twice the reference
    assert float(found.error) == pytest.approx(2 * scores * math.sqrt(0.5 * 0.5) + sums, rel=1e-6, abs=0)
    assert float(found.log_error) == pytest.approx(0.5 * scores, rel=1e-6, abs=0)
    assert (float(found.mean), float(found.variance)) == (
        pytest.approx(0, abs=1e-15),
        pytest.approx(1, rel=1e-12, abs=0),
    )


def test_the_mean_by_products_alone_is_off_by_its_scores_its_sums_and_what_was_dropped():
    table = table_of([[-1.0], [1.0], [1.0], [-1.0]], [0.0, 0.0, -2.0, -2.0])
    noised = at(table, [0.0], alpha=0.5, sigma=0.25)
    found = streamed_mean(table, table.products(torch.float64), noised)
    scores = 2 * U * (4 * 0.5 + 1)
    assert float(found.log_error) == pytest.approx(scores, rel=1e-9, abs=0)
    assert float(found.error) == pytest.approx(2 * scores + summation_error(1.0, torch.float64, 4), rel=1e-6, abs=0)
    # relative to the center: |x - c|^2 - |x - y|^2 = - kappa h for all
    assert float(found.log_mass) == pytest.approx(math.log(2 + 2 * math.exp(-2)) - 2, rel=1e-12, abs=0)


def test_dropped_and_rounded_weights_are_shares_of_the_sum(monkeypatch: pytest.MonkeyPatch):
    table = table_of([[-1.0], [1.0]], [0.0, 0.0])
    noised = at(table, [0.0], alpha=0.5, sigma=0.25)
    one = torch.ones(1, dtype=torch.float64)
    sums = Sums(0 * one, 4 * one, 4 * one[:, None], 4 * one, 0.02 * one, 0.5 * one, one[:, None], one[:, None].long())
    monkeypatch.setattr("diffuscope.exact._means.streamed", lambda *_: sums)
    found = streamed_mean(table, table.products(torch.float64), noised)
    # the radius is 1, and four standard deviations count
    assert float(found.error) == pytest.approx(2 * 0.02 / 4 + 4 * 0.5 / 4, rel=1e-9, abs=0)
    assert float(found.mean) == 1.0
    # a variance is at least a rounding of the squared radius: here that of the sums is 4 / 4 - 1^2 = 0
    exact = Sums(0 * one, 4 * one, 4 * one[:, None], 4 * one, 0 * one, 0 * one, one[:, None], one[:, None].long())
    monkeypatch.setattr("diffuscope.exact._means.streamed", lambda *_: exact)
    monkeypatch.setattr(PointTable, "score_error", lambda *_: one)
    least = streamed_mean(table, table.products(torch.float64), noised)
    assert float(least.error) == pytest.approx(2 * math.sqrt(2 * U), rel=1e-6, abs=0)


def bytes_of(rows: list[list[int]]) -> DigitProducts:
    """One query, (127, 0), for bytes b with the values (b - 128) / 4."""
    data = ByteExamples(torch.tensor(rows, dtype=torch.uint8), torch.arange(256) / 4 - 32)
    made = byte_products(data, 2**20)
    assert made is not None
    return DigitProducts.of(made[1], torch.tensor([[127.0, 0.0]]), 3.0)


def test_a_query_of_one_digit_is_multiplied_by_roundings_of_its_own_size_and_of_half_a_unit():
    by = bytes_of([[128, 128], [138, 136]])
    assert (by.scale, by.radius, by.shift) == (0.25, 3.0, pytest.approx(math.hypot(5, 4) / 4))
    assert float(by.sizes) == pytest.approx(127 + 1)
    expected = 3 * (1e-15 * 127 + 8 * 2.0**-24 * 128)
    assert float(by.product_bound(torch.tensor([[127.0, 0.0]]))) == pytest.approx(expected, rel=1e-9, abs=0)
    scores = torch.zeros(2, 1)
    by.add_at(scores, torch.tensor([0, 1]), torch.tensor([[127.0, 0.0]]))
    products = scores.double() + by.constants
    assert products.flatten().tolist() == pytest.approx([0.0, 127 * 10 / 4], rel=1e-6, abs=0)
    assert by.typical_norm == pytest.approx(math.sqrt((10**2 + 8**2) / 2) / 4)


def test_weights_are_rounded_to_units_of_the_largest_at_random_and_their_variance_is_stated():
    by = bytes_of([[128, 128], [138, 136]])
    run = DigitPass(by, 1, 2**20)
    run.add_products(torch.zeros(2, 1), 0, 2)
    collected, height = torch.zeros(1, 2), math.log(0.5)
    variance = run.add_weighted(collected, torch.tensor([[0.5], [0.25]]), None, torch.tensor([height]))
    radius = 3 + math.hypot(5, 4) / 4
    assert float(variance) == pytest.approx(2 * radius**2 / 4 * (0.5 / LARGEST) ** 2, rel=1e-6, abs=0)
    assert collected[0].tolist() == pytest.approx([0.25 * 10, 0.25 * 8], abs=2 * 10 * 0.5 / LARGEST)


def test_a_peak_follows_scores_that_exceed_it_by_more_than_eight():
    """Two chunks of one row, the second higher by 7.9 or 8.1: the peak is the first or the second score."""
    for gap, peak in ((7.9, 0.0), (8.1, 8.1)):
        points = torch.zeros(17, 1, dtype=torch.float64)
        points[:, 0] = torch.arange(17.0) - 8
        log_weights = torch.full((17,), -gap, dtype=torch.float64)
        log_weights[16] = 0
        table = PointTable(points, log_weights, 1)  # sixteen rows, and one
        products, one = table.products(torch.float64), torch.ones(1, dtype=torch.float64)
        found = streamed(table, products, 0 * one[:, None], 0 * one, 2, math.inf * one)
        assert float(found.peak) + gap == pytest.approx(peak)
        unit = math.exp(-gap - float(found.peak))
        assert float(found.mass) == pytest.approx(16 * unit + unit * math.exp(gap), rel=1e-12, abs=0)
        assert float(found.first) == pytest.approx(unit * (-8 + 8 * math.exp(gap)), rel=1e-12, abs=0)
        squares = float((points[:16] - points.mean()).square().sum())
        assert float(found.square) == pytest.approx(unit * (squares + 64 * math.exp(gap)), rel=1e-12, abs=0)
        assert (found.scores.tolist(), float(found.indices[0, 0])) == ([[0.0, -gap]], 16)
