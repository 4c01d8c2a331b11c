"""The page of a grading from rows made by hand."""

import dataclasses
import math
from typing import Any

import pytest

from diffuscope.findings import Cells
from diffuscope.physics.grading import Pooled, Row, Settings, grading_page
from diffuscope.physics.grading.page import SHOWN, grading_json
from diffuscope.physics.grading.run import DIVERGED

SETTINGS = Settings(problems=8, draws=16, steps=20)


def score(name: str, value: float, p_value: float = 0.5, expected: float = 1.0, error: float = 0.25) -> Pooled:
    return Pooled(name=name, value=value, expected=expected, error=error, p_value=p_value)


def row(method: str, *scores: Pooled, **given: Any) -> Row:
    prepared = {"family": "gaussian", "error": "", "seconds": 1.5, "threshold": 0.01, "detectable": 0.2}
    return Row(method=method, title=f"The {method}", scores={s.name: s for s in scores}, **(prepared | given))


RIGHT = row("a", score("mean", 4.0), score("spread", 1.5, 0.4), score("points", 6.0, 0.7, expected=2.0))
WRONG = row("b", score("mean", 9.0, 0.001), score("covariance", 2.0), detectable=0.1)
BLIND = row("c", score("crps", 1.5), detectable=None)
FAILED = row("d", error="no gradient", family="levy")


def test_the_verdicts_of_a_page_count_methods_by_family() -> None:
    page = grading_page([RIGHT, WRONG, BLIND, FAILED], SETTINGS)
    (verdict,) = page.verdicts
    assert (verdict.value, verdict.unit, verdict.tone) == (1.0, "wrong", "neutral")
    assert verdict.verdict == "1 of 4 methods get every posterior right: a; 1 get at least one wrong." == page.headline
    assert verdict.power.startswith("In at least one family no planted fault was found")
    assert [section.anchor for section in page.sections] == ["gaussian", "levy"]
    assert [section.answer for section in page.sections] == ["1 of 3 methods: a.", "0 of 1 methods: none."]
    assert page.subtitle == (
        "Poisson, Gaussian prior: 8 problems, 16 draws each, 20 noise levels; "
        "Levy processes: 2 problems, 16 draws each, 10 noise levels"
    )
    assert any("over the 2 here, at most 2%." in words for words in page.method)  # pyright: ignore
    found = page.sections[0].findings
    assert [(f.name, f.title, f.tone) for f in found] == [
        ("gaussian.a", "The a", "good"), ("gaussian.b", "The b", "alarm"), ("gaussian.c", "The c", "unknown")
    ]  # fmt: skip
    assert [(f.value, f.unit, f.p_value) for f in found[:2]] == [(1.5, "spread", 0.4), (9.0, "mean", 0.001)]
    (lost,) = page.sections[1].findings
    assert (math.isnan(lost.value), lost.unit, lost.p_value) == (True, "", None)
    assert lost.verdict == "cannot tell: no gradient."


def test_the_power_is_the_largest_fault_found_in_every_family() -> None:
    (verdict,) = grading_page([RIGHT, WRONG], SETTINGS).verdicts
    assert "wrong by a share) of 20% are found in every one of 10 repetitions" in verdict.power
    assert grading_page([BLIND], SETTINGS).verdicts[0].tone == "unknown"
    assert grading_page([BLIND], SETTINGS).verdicts[0].power.startswith("In at least one family")
    assert grading_page([BLIND, FAILED], SETTINGS).verdicts[0].tone == "unknown"
    assert row("e", score("mean", 1.0), detectable=0.2 + 1e-12).verdict == "cannot tell"
    assert row("e", score("mean", 1.0, 0.01)).verdict == "right"  # at the threshold
    assert row("e", error=DIVERGED).verdict == "wrong"
    assert BLIND.reason == "no planted fault up to 80% was found"
    assert RIGHT.reason == "a planted fault of 20% would have been found"


def test_a_table_has_a_row_for_every_method_and_a_chart_its_distances_from_exact_draws() -> None:
    section = grading_page([RIGHT, WRONG, BLIND], SETTINGS).sections[0]
    chart, table = section.blocks
    nothing = [None] * len(SHOWN)
    assert table.rows[0] == ["a", "right", 2.0, 1.5, *nothing[2:], 3.0, 1.5, RIGHT.reason]  # pyright: ignore
    assert table.rows[1] == ["b", "wrong", 3.0, *nothing[1:], None, 1.5, WRONG.reason]  # pyright: ignore
    assert table.rows[2][5] == pytest.approx(50.0)  # pyright: ignore
    (mark,) = chart.panels[0].marks  # pyright: ignore
    assert isinstance(mark, Cells)
    assert mark.rows == ("a", "b", "c")
    assert mark.columns == ("mean", "spread", "crps", "covariance", "points")
    values = [[None if math.isnan(z) else z for z in each] for each in mark.values]
    assert values == [[10.0, 2.0, None, None, 10.0], [10.0, None, None, 4.0, None], [None, None, 2.0, None, None]]
    below = grading_page([row("a", score("mean", 0.5), score("spread", 3.4))], SETTINGS).sections[0].blocks[0]
    assert below.panels[0].marks[0].values[0] == pytest.approx((2.0, 9.6))  # pyright: ignore
    assert mark.color_range == (0, 10)
    assert "Poisson, Gaussian prior" in chart.title  # pyright: ignore
    assert [len(each.blocks) for each in grading_page([RIGHT, FAILED], SETTINGS).sections] == [2, 1]
    half = dataclasses.replace(FAILED, family="gaussian")
    assert grading_page([half, RIGHT], SETTINGS).sections[0].blocks[0].panels[0].marks[0].rows == ("a",)  # pyright: ignore


def test_the_json_has_every_row_and_a_chart_for_every_family_with_scores() -> None:
    written: Any = grading_json([RIGHT, WRONG, FAILED], SETTINGS)
    assert written["settings"] == {"problems": 8, "draws": 16, "steps": 20, "seed": 0}
    assert [each["family"] for each in written["rows"]] == ["gaussian", "gaussian", "levy"]
    assert [each["verdict"] for each in written["rows"]] == ["right", "wrong", "cannot tell"]
    assert [each["detectable"] for each in written["rows"]] == [0.2, 0.1, 0.2]
    assert written["rows"][2]["error"] == written["rows"][2]["reason"] == "no gradient"
    assert len(written["charts"]) == 1
    assert written["charts"][0]["title"].startswith("Poisson")
