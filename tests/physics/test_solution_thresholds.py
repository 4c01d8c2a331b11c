"""Hand-made solutions at their thresholds, and their numbers on the page, in the table and in JSON."""

import dataclasses
import math

import pytest
from solutions_by_hand import FLAT, LINE, SD, SENSORS, solution

from diffuscope.errors import InputError
from diffuscope.physics.prior_fields import generated_fields
from diffuscope.physics.solution import solve_inverse
from diffuscope.physics.solution_moments import Moments
from diffuscope.physics.solution_report import SolutionReport
from diffuscope.physics.solution_verdicts import SolutionVerdicts, _rounded_up
from numbers_in_tests import double


def test_readings_contradict_a_prior_below_one_percent_and_are_too_probable_above_ninety_nine() -> None:
    assert solution(50).percentile == pytest.approx(51 / 100)
    for below, contradicted, too_probable in (
        (0, True, False),
        (1, False, False),
        (97, False, False),
        (99, False, True),
    ):
        found = solution(below)
        assert (found.contradicted, found.too_probable) == (contradicted, too_probable)
    for below, contradicted in ((8, True), (9, False)):  # of 999: 9 and 10 thousandths
        assert solution(below, 999).contradicted is contradicted


@pytest.mark.parametrize(
    ("coverage", "error", "tone"),
    [
        (0.9, 0.0255, "good"), (0.9, 0.0256, "unknown"), (0.95 - 1e-9, 0.0, "good"), (0.951, 0.0, "attention"),
        (0.849, 0.0, "attention"), (0.851, 0.0, "good"), (0.83, 0.0101, "attention"), (0.83, 0.0103, "unknown"),
        (0.97, 0.0101, "attention"), (0.97, 0.0103, "unknown"),
    ],
)  # fmt: skip
def test_intervals_are_right_within_five_points_of_their_level_by_two_errors(coverage, error, tone) -> None:
    found = SolutionVerdicts(solution(coverage=coverage, error=error)).findings[2]
    assert found.tone == tone
    assert found.value == pytest.approx(100 * coverage)
    assert found.interval == pytest.approx([100 * (coverage + side * 1.96 * error) for side in (-1, 1)], rel=1e-6)
    assert f"in {100 * coverage:.3g}% of values ({100 * coverage:.3g}% for the forcing)" in found.verdict


def test_what_is_determined_is_said_in_half_widths_and_shares_of_the_priors_spread() -> None:
    found = SolutionVerdicts(solution()).findings[0]
    assert found.value == pytest.approx(2 * math.sqrt((4 + 16 + 4) / 3))  # half of 4 sd, over the free nodes
    assert "(50% of the prior's spread)" in found.verdict
    assert "30 effective fields of 4 agree" in found.power
    none = solution(moments=Moments(mean=SD, sd=0 * SD, low=SD, high=SD), prior_sd=None)
    assert SolutionVerdicts(none)._half_width(1) == 0
    assert SolutionVerdicts(none).findings[0].value == 0
    assert SolutionVerdicts(solution(prior_sd=None)).free(1).tolist() == [False, True, True, True, False]


@pytest.mark.parametrize(
    ("residual", "tone", "says"),
    [
        ((1e-9, 1e-8), "good", "Yes: the residual of the samples is at most"),
        ((1e-9, 1.1e-8), "attention", "No: the residual of the samples is up to"),
        ((math.nan, 1e-9), "attention", "No: 1 of 2 samples have a coefficient that is not positive."),
    ],
)
def test_the_equation_holds_where_rounding_explains_the_residual(residual, tone, says) -> None:
    found = SolutionVerdicts(solution(residual=double(*residual))).findings[3]
    assert found.tone == tone
    assert found.verdict.startswith(says)
    assert found.value == max(value for value in residual if value == value)


def test_a_disagreement_that_would_be_noticed_in_half_of_the_cases_tells() -> None:
    calibration = solution().calibration
    assert calibration is not None
    for noticed, tone, says in ((0.5, "good", "Yes: "), (0.49, "neutral", "Yes, as far as 1 reading can tell: ")):
        given = solution(calibration=dataclasses.replace(calibration, noticed=noticed))
        found = SolutionVerdicts(given).findings[1]
        assert found.tone == tone
        assert found.verdict.startswith(f"{says}the readings are at least as probable as 51% of readings simulated")
        assert "The samples miss the readings by 1 standard deviations" in found.verdict
        assert found.value == pytest.approx(51)
        assert f"would be noticed in {100 * noticed:.2g}% of cases" in found.power
    followed = solution(calibration=None, misfit=double(1.99, 1.99))
    assert [SolutionVerdicts(each).findings[1].tone for each in (
        followed, solution(calibration=None, misfit=double(2.0, 2.0)))] == ["neutral", "attention"]  # fmt: skip


def test_numbers_of_fields_that_would_do_are_rounded_up_to_one_digit() -> None:
    assert [_rounded_up(value) for value in (1.0, 1.2, 9.0, 9.1, 3000.0, 3001.0)] == [1, 2, 9, 10, 3000, 4000]


def test_the_page_the_table_and_the_json_of_a_solution_have_its_numbers() -> None:
    found = solution()
    report = SolutionReport(found)
    written = report.as_json()
    assert written["percentile"] == pytest.approx(0.51)
    assert written["misfit"] == 1.0
    assert written["residual"] == [1e-9, 3e-9]
    assert written["calibration"]["coverage"] == pytest.approx([0.9, 0.9])  # pyright: ignore
    assert written["calibration"]["standard_error"] == pytest.approx([0.01, 0.01])  # pyright: ignore
    assert report._residuals().rows == [
        ["largest residual over |A| |u|", 3e-9], ["samples checked", 2],
        ["samples where the equation is not defined", 0], ["misfit of the samples, in standard deviations", 1.0],
    ]  # fmt: skip
    assert report._table().rows == [["1", 0.5, "solution", 1.0, 0.1, 4.0]]  # the mean, sd, at the middle
    assert report.lines()[1] == "Readings: 1 of the solution, noise 0.1, given"
    arrays = report.arrays()
    assert arrays["quantile_05"].tolist() == (-SD).tolist()
    assert arrays["quantile_95"].tolist() == (3 * SD).tolist()


@pytest.mark.parametrize("ask", [
    lambda n: solve_inverse(LINE, SENSORS, FLAT, samples=n),
    lambda n: generated_fields(LINE, n, seed=0),
])  # fmt: skip
def test_more_than_the_memory_holds_is_refused(ask) -> None:
    with pytest.raises(InputError, match=r"^(samples|fields): "):
        ask(10**12)
