"""Networks on digits and the variance of their samples, at numbers that follow by hand."""

import math

import numpy as np
import pytest
import torch

from chart_reading import lines_of, marks_of
from diffuscope.denoisers import ExactDenoiser
from diffuscope.exact import Gaussian
from diffuscope.experiments import Part, variance_on_digits
from diffuscope.experiments.variance_on_digits import Compared, RankCorrelation
from diffuscope.findings import Intervals, Points
from diffuscope.schedules import VE
from numbers_in_tests import double, seeded

DOUBLE = torch.float64


def test_the_scale_of_a_network_sets_its_levels_and_those_of_its_samples():
    network = variance_on_digits.on_digits(torch.nn.Identity(), 0.5, 0.1, 3)
    schedule = network.schedule
    assert [float(schedule.noise_to_signal(t)) for t in (schedule.t_min, schedule.t_max)] == pytest.approx([0.005, 40])
    assert (network.event_shape, network.sigma_data, network.data_mean) == ((3, 64), 0.5, 0.1)
    times = variance_on_digits.sampling_times(network, 0.5)
    assert (len(times), float(times[0]), float(times[-1])) == (26, pytest.approx(40), pytest.approx(0.01))


def test_orders_that_agree_or_disagree_have_the_correlations_of_ranks(monkeypatch):
    monkeypatch.setattr(variance_on_digits, "PERMUTATIONS", 99)
    x = torch.arange(12, dtype=DOUBLE)
    same = variance_on_digits.association(x, x**3, np.random.default_rng(0))
    assert (same.value, same.low, same.high, same.p_value) == pytest.approx((1, 1, 1, 0.01))
    turned = variance_on_digits.association(x, -x, np.random.default_rng(0))
    assert (turned.value, turned.p_value) == pytest.approx((-1, 1))


def test_samples_of_every_member_begin_at_the_same_starts():
    """Points: Euler's method of the probability flow leads from x at sigma to m + (x - m) s / sigma."""
    members = [ExactDenoiser(Gaussian.isotropic(double(m, 0.0), 0.0), VE()) for m in (1.0, -2.0)]
    starts = double((10.0, 3.0), (4.0, -5.0))
    found = variance_on_digits.samples_of(members, starts, double(8.0, 4.0, 1.0))
    for made, m in zip(found, (1.0, -2.0), strict=True):
        torch.testing.assert_close(made, double(m, 0.0) + (starts - double(m, 0.0)) / 8)


def correlation(value: float, p: float = 0.0005) -> RankCorrelation:
    return RankCorrelation(value, value - 0.1, value + 0.1, p)


def known_measures() -> Compared:
    predicted = double(1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
    return Compared(predicted, double(*[0.1] * 5, 0.7), predicted + 1, 3 * predicted, predicted / 4,
                    double(1.0, 0.8, 0.5, 0.5, 0.25, 0.0))  # fmt: skip


def answering(values, monkeypatch):
    """The correlations in the order of the calls, and which columns were asked for."""
    asked, found = [], iter(values)
    known = known_measures()
    names = {id(value): name for name, value in vars(known).items()}

    def associated(x, y, rng):  # noqa: ARG001
        asked.append((names[id(x)], names[id(y)]))
        return next(found)

    monkeypatch.setattr(variance_on_digits, "compared", lambda _: known)
    monkeypatch.setattr(variance_on_digits, "association", associated)
    return asked


def test_a_predicted_spread_is_compared_with_other_networks_and_with_its_own(monkeypatch):
    asked = answering([correlation(0.6), correlation(0.75), correlation(0.9)], monkeypatch)
    part = Part("variance-on-digits", "spread", "s", 1)
    text = variance_on_digits.spread(part)
    assert asked == [("predicted", "spread"), ("own_spread", "spread"), ("predicted", "own_spread")]
    assert [claim.value for claim in part.claims] == pytest.approx([0.0005, 0.9, 0.8])
    assert text.startswith("Yes: rank correlation 0.60 (0.50 to 0.70)")
    assert "would reach 0.75. The median measured spread is 3.00 times the predicted" in text
    others, own, ranks = part.charts[0].panels
    for panel, y in ((others, (3, 6, 12, 24, 48, 96)), (own, (2, 3, 5, 9, 17, 33))):
        assert (marks_of(panel, Points)[0].x, marks_of(panel, Points)[0].y) == ((1, 2, 4, 8, 16, 32), y)
    (rows,) = marks_of(ranks, Intervals)
    assert rows.names == ("V, other networks", "samples, other networks", "V, same networks")
    assert (rows.values, rows.low, rows.high) == tuple(
        pytest.approx(each) for each in ((0.6, 0.75, 0.9), (0.5, 0.65, 0.8), (0.7, 0.85, 1.0))
    )


@pytest.mark.parametrize(
    ("value", "strength", "shared"),
    [(0.81, "strong", False), (0.8, "moderate", False), (0.6, "moderate", True), (0.4, "weak", True)],
)
def test_an_association_is_strong_or_weak_by_the_low_end_of_its_interval(value, strength, shared, monkeypatch):
    asked = answering(
        [RankCorrelation(value, round(value - 0.1, 9), value + 0.1, 0.0005), correlation(0.9)], monkeypatch
    )
    part = Part("variance-on-digits", "novelty", "s", 1)
    text = variance_on_digits.novelty(part)
    assert asked == [("predicted", "nearest"), ("spread", "nearest")]
    assert f"the association is {strength}: rank" in text
    assert ("Less than half of the ranks' variance" in text) == shared
    assert "51% of the samples are copies: 90% where V is smallest, 12% where it is largest." in text
    scatter, _, thirds = part.charts[0].panels
    assert marks_of(scatter, Points)[0].y == (0.25, 0.5, 1, 2, 4, 8)
    assert marks_of(thirds, Intervals)[0].values == pytest.approx((0.9, 0.5, 0.125))


@pytest.mark.parametrize(("high", "shared"), [(math.sqrt(0.5), False), (math.sqrt(0.5) * (1 - 1e-15), True)])
def test_half_of_the_variance_of_ranks_is_not_less_than_half(high, shared, monkeypatch):
    answering([RankCorrelation(0.6, 0.5, high, 0.0005), correlation(0.9)], monkeypatch)
    text = variance_on_digits.novelty(Part("variance-on-digits", "novelty", "s", 1))
    assert ("Less than half of the ranks' variance" in text) == shared


def test_without_an_association_the_answer_says_so(monkeypatch):
    answering([correlation(0.1, 0.3), correlation(0.9)], monkeypatch)
    part = Part("variance-on-digits", "novelty", "s", 1)
    assert variance_on_digits.novelty(part).startswith("Not visibly: rank correlation 0.10 (0.00 to 0.20), p = 0.30.")


def test_networks_of_disjoint_examples_are_compared_with_each_other_and_with_their_examples(monkeypatch):
    """Two sizes. The samples of the small sets are their first examples, those of the large ones all the same."""
    monkeypatch.setattr(variance_on_digits, "SIZES", (2, 4))
    monkeypatch.setattr(variance_on_digits, "STARTS", 3)
    eye = torch.eye(64, dtype=DOUBLE)
    rows = torch.cat([eye[:20], -eye[:20]])  # the mean is zero
    digits = variance_on_digits.Digits(rows, 1.0, 0.0)
    seen = {}
    mixed = (eye[4] + eye[8] + 0.1 * eye[50]).expand(3, -1)

    def trained(self, sets, seed):  # noqa: ARG001
        seen["sets"] = sets
        return [ExactDenoiser(Gaussian.isotropic(torch.zeros(64, dtype=DOUBLE), 1.0), VE(0.01, 80.0))] * len(sets)

    def made(members, x, times):  # noqa: ARG001
        seen["x"] = x
        return torch.stack([eye[0].expand(3, -1), eye[2].expand(3, -1), mixed, mixed]) + 1e-3 * torch.randn(
            4, 3, 64, dtype=DOUBLE, generator=seeded()
        )

    monkeypatch.setattr(variance_on_digits.Digits, "shuffled", lambda _: digits)
    monkeypatch.setattr(variance_on_digits.Digits, "trained", trained)
    monkeypatch.setattr(variance_on_digits, "samples_of", made)
    part = Part("variance-on-digits", "halves", "s", 1)
    text = variance_on_digits.halves(part)
    places = [each.abs().argmax(1).tolist() for each in seen["sets"]]
    assert places == [[0, 1], [2, 3], [0, 1, 2, 3], [4, 5, 6, 7]]
    assert seen["x"].shape == (3, 64)
    lines = lines_of(part.charts[0].panels[0])
    assert lines["two networks"].x == (2, 4)
    assert lines["two networks"].y == pytest.approx((0, 1), abs=0.01)
    assert lines["sample and nearest example"].y == pytest.approx((1, 0), abs=0.03)  # of the first of either pair
    for line in lines.values():
        for low, y, high in zip(line.low, line.y, line.high, strict=True):
            assert y - low == pytest.approx(high - y)
            assert 0 < high - low < 0.01
    assert {claim.name for claim in part.claims if claim.holds} == {"agreement-grows", "copying-falls"}
    assert "0.00 and 1.00; 4 examples 1.00 and 0.00." in text
