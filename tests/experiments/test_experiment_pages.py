"""The page, the record and the files of a run say what its claims say."""

import json

import pytest

from diffuscope.experiments import Experiment, Outcome, Record, experiments_index
from diffuscope.experiments.page import HEADER
from diffuscope.findings import Claim, Panel, line
from diffuscope.report import Link, Section, Table, charts_png


def outcome(worse: float, *, drawn: bool = False) -> Outcome:
    """Two claims of at most 1: one measures 0.5, the other `worse`."""
    experiment = Experiment(name="two", title="Two", question="Are they small?", source="derived", seconds=1,
                            settings={"size": 3}, notes=("A note.",))  # fmt: skip

    @experiment.part("The one?")
    def one(part):
        part.at_most("half", "A half", 0.5, 1.0, "less than one", source="a book")
        return "So it is."

    @experiment.part("The other?")
    def other(part):
        part.at_most("worse", "The worse", worse, 1.0, "not more than one", unit="m")
        if drawn:
            part.chart("Both", Panel("", "x", "y", (line([0, 1], [0, 1]),), equal_scales=True), how_to_read="Up.")
        return "So it is."

    return experiment.run(seed=4)


def table(section: Section) -> Table:
    (found,) = (block for block in section.blocks if isinstance(block, Table))
    return found


@pytest.mark.parametrize(
    ("worse", "held", "tone", "headline", "which"),
    [
        (1.5, 1, "alarm", "1 of 2 claims fail.", "Worst: “The worse”, measured 1.5 m, required at most 1 m."),
        (
            0.9,
            2,
            "good",
            "All 2 claims hold.",
            "Closest to failing: “The worse”, measured 0.9 m, required at most 1 m.",
        ),
    ],
)
def test_a_page_has_one_verdict_on_all_claims_and_a_card_for_each_that_fails(worse, held, tone, headline, which):
    page = outcome(worse).page()
    verdict, *cards = page.verdicts
    text = f"{headline} {which}".replace(" ", "\u00a0")
    assert (verdict.value, verdict.unit, verdict.tone) == (held, "of 2 claims", tone)
    assert verdict.verdict.replace(" ", "\u00a0") == text
    assert [card.title for card in cards] == ["The worse"] * (2 - held)
    assert page.headline == f"Are they small? {headline}"
    assert (page.title, page.subtitle) == ("Two", "Experiment two, derived")


def test_a_section_has_every_claim_in_a_row_and_says_what_is_not_reproduced():
    one, other = outcome(1.5).page().sections
    assert [list(table(one).header), list(table(other).header)] == [list(HEADER)] * 2
    cells = ["A half", "holds", "0.5", "at most 1", "less than one", "a book"]
    assert [[str(cell).replace("\u00a0", " ") for cell in row] for row in table(one).rows] == [cells]
    assert [row[1] for row in table(other).rows] == ["FAILS"]
    assert (one.anchor, one.title, one.answer) == ("one", "The one?", "So it is.")
    missed = "Not reproduced: 1 of 1 claims below fail. The expected answer: So it is."
    assert other.answer.replace("\u00a0", " ") == missed


def test_the_method_has_the_notes_the_settings_and_the_versions():
    note, settings = outcome(0.9).page().method
    assert note == "A note."
    assert isinstance(settings, Table)
    names = [row[0] for row in settings.rows]
    assert names == ["size", "seed", "seconds", "diffuscope", "python", "torch"]
    assert [list(row) for row in settings.rows][:2] == [["size", "3"], ["seed", "4"]]


def test_a_record_counts_and_names_the_closest():
    found = outcome(1.5).record()
    assert (found.held, found.claims, found.used, found.closest, found.seed) == (1, 2, 1.5, "The worse", 4)
    assert (found.name, found.title, found.passed) == ("two", "Two", False)
    assert outcome(0.9).record().passed


@pytest.mark.parametrize("drawn", [True, False])
def test_a_run_is_saved_with_its_numbers_and_its_figure_if_it_has_one(drawn, tmp_path):
    found = outcome(1.5, drawn=drawn)
    assert found.save(tmp_path) == tmp_path / "report.html"
    if drawn:
        charts = tuple(chart for answer in found.answers.values() for chart in answer.charts)
        assert (tmp_path / "figure.png").read_bytes() == charts_png(charts, "Two")
    assert (tmp_path / "figure.png").exists() == drawn
    saved = json.loads((tmp_path / "result.json").read_text())
    assert saved["record"]["used"] == 1.5
    assert saved["settings"] == {"size": 3}
    assert [part["name"] for part in saved["parts"]] == ["one", "other"]
    assert [claim["holds"] for part in saved["parts"] for claim in part["claims"]] == [True, False]
    assert [len(part["charts"]) for part in saved["parts"]] == [0, int(drawn)]
    assert [part["answer"] for part in saved["parts"]] == ["So it is."] * 2
    assert [part["question"] for part in saved["parts"]] == ["The one?", "The other?"]
    assert "1 of 2 claims fail." in found._repr_html_()


def test_the_index_links_every_page_and_names_what_fails():
    def record(name: str, held: int, used: float) -> Record:
        return Record(name=name, title=f"On {name}", held=held, claims=3, used=used, closest="A claim", seconds=2.25,
                      seed=0, code="")  # fmt: skip

    page = experiments_index([record("heat", 3, 0.25), record("rates", 1, 1.5)], "diffuscope reproduce heat rates")
    (verdict,) = page.verdicts
    assert (verdict.value, verdict.unit, verdict.tone) == (4, "of 6 claims", "alarm")
    assert verdict.title == "Are the published results reproduced?"
    rows = [[str(cell).replace("\u00a0", " ") for cell in row[1:]] for row in table(page.sections[0]).rows]
    assert rows == [
        ["On heat", "3 of 3", "25% of its tolerance: A claim", "2.2 s"],
        ["On rates", "1 of 3: FAILS", "1.5x its tolerance: A claim", "2.2 s"],
    ]
    links = [Link(name, f"{name}/report.html") for name in ("heat", "rates")]
    assert [row[0] for row in table(page.sections[0]).rows] == links
    whole = experiments_index([record("heat", 3, 0.25)])
    assert (whole.verdicts[0].tone, whole.verdicts[0].verdict) == ("good", "Every claim holds.")


def test_a_claim_that_is_not_a_number_is_the_closest_and_out_of_bounds():
    found = outcome(float("nan"))
    assert isinstance(found.closest, Claim)
    assert (found.closest.name, found.record().margin) == ("worse", "out of bounds")
