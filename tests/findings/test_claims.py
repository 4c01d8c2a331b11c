"""What a claim is: when it holds, how much of its tolerance it uses, and NaN values."""

import json
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diffuscope.errors import InputError
from diffuscope.findings import (
    Chart,
    HeatMap,
    Line,
    Panel,
    arrows,
    at_least,
    at_most,
    density_bars,
    equals,
    farthest,
    groups,
    heat_map,
    largest,
    line,
    points,
)

finite = st.floats(-1e6, 1e6)
WHY = {"because": "rounding", "source": "derived"}


@settings(max_examples=200, deadline=None)
@given(value=finite, required=finite, tolerance=st.floats(1e-6, 1e6))
def test_equality_holds_exactly_within_its_tolerance(value, required, tolerance):
    claim = equals("a", "a", value, required, within=tolerance, **WHY)
    assert claim.holds == (abs(value - required) / tolerance <= 1)
    assert claim.used == pytest.approx(abs(value - required) / tolerance)


@settings(max_examples=200, deadline=None)
@given(value=finite, bound=finite)
def test_bounds_hold_on_their_side_whatever_the_signs(value, bound):
    assert at_most("a", "a", value, bound, **WHY).holds == (value <= bound)
    assert at_least("a", "a", value, bound, **WHY).holds == (value >= bound)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_fails_every_claim_but_infinity_on_its_own_side(value):
    assert not equals("a", "a", value, 1.0, within=0.5, **WHY).holds
    assert at_most("a", "a", value, 1.0, **WHY).holds == (value == -math.inf)
    assert at_least("a", "a", value, 1.0, **WHY).holds == (value == math.inf)


def test_zero_tolerance_admits_only_the_exact_value():
    assert at_most("a", "a", 0.0, 0.0, **WHY).used == 0
    assert at_most("a", "a", 5e-324, 0.0, **WHY).used == math.inf
    assert equals("a", "a", 2, 2, within=0, **WHY).used == 0
    assert equals("a", "a", 2.0000000000000004, 2, within=0, **WHY).used == math.inf


def test_the_share_of_the_room_is_one_at_its_edge():
    assert at_most("a", "a", 3.0, 4.0, **WHY).used == 0.75
    assert at_least("a", "a", 4.0, 3.0, **WHY).used == 0.75
    assert equals("a", "a", 1.3, 1.0, within=0.4, **WHY).used == pytest.approx(0.75)


@pytest.mark.parametrize(
    ("tolerance", "required", "named"),
    [(-1.0, 0.0, "tolerance"), (math.nan, 0.0, "tolerance"), (1.0, math.nan, "required"), (1.0, math.inf, "required")],
)
def test_a_claim_that_could_not_fail_is_refused(tolerance, required, named):
    with pytest.raises(InputError, match=named):
        equals("a", "a", 0.0, required, within=tolerance, **WHY)


def test_numbers_are_written_in_the_digits_that_the_tolerance_bears():
    claim = equals("a", "a", 0.12345678, 0.125, within=0.004, unit="nats", **WHY)
    assert (claim.measured, claim.requirement) == ("0.1235 nats", "0.1250 ± 0.004 nats")
    small = equals("a", "a", 5.4237e-08, 5.42e-08, within=1.1e-9, **WHY)
    assert (small.measured, small.requirement) == ("5.42e-08", "5.42e-08 ± 1.1e-09")
    fine = equals("a", "a", 1 / 3, 0.3, within=1e-12, **WHY)
    assert fine.measured == "0.3333333333333"
    assert at_most("a", "a", 4.913e-14, 1e-10, **WHY).requirement == "at most 1e-10"


def test_a_failed_claim_is_an_alarm_with_measured_and_required_values_and_the_reason():
    found = at_most("a", "A number", 2.0, 1.0, because="it says so", source="someone 2020").as_finding()
    assert (found.tone, found.title, found.value) == ("alarm", "A number", 2.0)
    for told in ("Measured 2", "at most 1", "it says so"):
        assert told in found.verdict
    assert "someone 2020" in found.power
    small = at_most("a", "Below 1e-10", 2e-12, 1e-10, because="<rounding>", source="someone 2020")
    assert (small.as_finding().title, small.as_finding().tone) == ("Below 10⁻¹⁰", "good")
    assert "at most 10⁻¹⁰ (&lt;rounding&gt;)" in small._repr_html_()


def test_a_claim_as_json_is_plain_and_carries_its_verdict():
    written = json.loads(json.dumps(at_most("a", "a", 2.0, 1.0, **WHY).as_json()))
    assert (written["holds"], written["used"], written["relation"]) == (False, 2.0, "at most")


def test_a_histogram_as_a_density_integrates_to_the_share_inside():
    values = torch.tensor([0.1, 0.2, 0.7, 5.0], dtype=torch.float64)
    bars = density_bars(values, [0.0, 0.5, 1.0])
    widths = torch.tensor(bars.edges).diff()
    assert float(torch.tensor(bars.heights) @ widths) == pytest.approx(0.75)
    assert bars.heights == pytest.approx((1.0, 0.5))


def test_the_bars_of_numbers_that_differ_little_for_their_size_are_those_of_their_differences():
    """Seconds since 1970: in float32 they would be rounded to multiples of 128, and edges would not increase."""
    seconds, edges = [0.0, 3.0, 4.0, 11.0], [0.0, 4.0, 8.0, 12.0]
    shifted = density_bars([1.7e9 + x for x in seconds], [1.7e9 + x for x in edges])
    assert shifted.heights == density_bars(seconds, edges).heights == (1 / 8, 1 / 16, 1 / 16)
    assert shifted.edges == tuple(1.7e9 + x for x in edges)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: line([1.0], [1.0, 2.0]), "one length"),
        (lambda: line([1.0, 2.0], [1.0, 2.0], low=[0.0], high=[1.0]), "one length"),
        (lambda: points([1.0], []), "one length"),
        (lambda: arrows([1.0], [1.0], [0.0], []), "one length"),
        (lambda: density_bars([], [0.0, 1.0]), "expected values"),
        (lambda: density_bars([1.0], [1.0, 0.0]), "increase"),
        (lambda: groups(["a"], {"x": [1.0, 2.0]}), "heights"),
        (lambda: heat_map([0, 1], [0, 1], torch.zeros(2, 1)), "rows and columns"),
        (lambda: Chart("c", (), ""), "at least one panel"),
        (lambda: Chart("c", (Panel("", "x", "y", ()),), ""), "with a mark"),
    ],
)
def test_marks_that_do_not_fit_are_refused(make, named):
    with pytest.raises(InputError, match=named):
        make()


def test_marks_are_plain_numbers():
    made = line(torch.tensor([1, 2]), torch.tensor([0.5, 0.25], dtype=torch.float32), "a")
    assert made == Line((1.0, 2.0), (0.5, 0.25), "a")
    assert heat_map([0, 1], [0, 1], torch.tensor([[2]])) == HeatMap((0.0, 1.0), (0.0, 1.0), ((2.0,),))


@pytest.mark.parametrize("place", range(3))
def test_the_largest_of_numbers_one_of_which_is_none_fails_its_claim(place):
    values = [0.1, 0.2, 0.3]
    assert largest(values) == 0.3
    values[place] = math.nan
    assert not at_most("a", "a", largest(values), 1.0, **WHY).holds
    assert not equals("a", "a", farthest(values, 0.2), 0.2, within=1.0, **WHY).holds


def test_the_farthest_of_numbers_is_on_either_side():
    assert farthest([0.9, 1.0, 1.05], 1.0) == 0.9
    assert farthest([0.99, 1.05], 1.0) == 1.05
