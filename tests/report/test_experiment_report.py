"""The page of an experiment and the index over several: sound in a browser, true to the claims, in every theme."""

import dataclasses
import io
import math
import re

import pytest
import torch
from browser_checks import check_page, chromium
from PIL import Image

from diffuscope.experiments import Answer, Experiment, Outcome, Record, experiments_index
from diffuscope.findings import Bars, Chart, Panel, arrows, at_least, at_most, equals, groups, heat_map, line, points
from diffuscope.report import Link, charts_png, render, write_page
from diffuscope.report.drawing import page_svg
from diffuscope.report.theme import LIGHT

HOSTILE = "<script>alert('x')</script>&\"{{ 7 * 7 }}"
MANY = [k / 50 for k in range(51)]
CHARTS = (
    Chart(
        "Lines",
        (
            Panel(
                "with a band",
                "time t",
                "Y",
                (line(MANY, MANY, "mean", low=[0.5 * v for v in MANY], high=[2 * v for v in MANY]),),
            ),
            Panel("a reference", "steps", "error", (line([1, 10, 1000], [1.0, 0.1, 1e-6], "error"),), True, True),
        ),
        "Left up, right down.",
    ),
    Chart(
        "Distributions",
        (
            Panel("", "x", "density", (Bars((0.0, 1.0, 3.0), (0.4, 0.3), "drawn"), points([1, 2], [0.1, 0.2], "p"))),
            Panel("", "point", "share", (groups(["a", "b"], {"one": [0.5, 0.5], "two": [0.1, 0.9]}),)),
        ),
        HOSTILE,
    ),
    Chart(
        "A picture",
        (Panel("nan", "", "", (heat_map([0, 1, 2], [1, 0], torch.tensor([[math.nan, 1.0]])),), equal_scales=True),),
        "One cell.",
    ),
    Chart(
        "A field",
        (Panel("", "x", "y", (heat_map([0, 2], [0, 1], torch.ones(1, 1)), arrows([1], [0.5], [0.2], [0.1], "f"))),),
        "One arrow.",
    ),
)
CLAIMS = (
    equals("right", "A number is right", 0.98, 1.0, within=0.05, because="5 standard errors", source="someone 2020"),
    at_most("small", "An error is small, below 1e-10", 4.91e-14, 1e-10, because="rounding", source="derived"),
    at_least("large", HOSTILE, 3.0, 2.0, because=HOSTILE, source=HOSTILE),
)
FAILING = at_most("wrong", "A second number", 2.0, 1.0, because="rounding", source="derived", unit="nats")


def outcome(*claims):
    experiment = Experiment(
        name="sample",
        title="A sample",
        question="What is it?",
        source="someone 2020",
        seconds=1,
        settings={"particles": 1000},
    )

    @experiment.part("Is it right?")
    def first(_):
        raise NotImplementedError

    return Outcome(experiment, 0, {"first": Answer("Yes, to 5e-14.", claims, CHARTS)}, seconds=1.0)


def records():
    passed = Record(
        name="sample",
        title="A sample",
        held=3,
        claims=3,
        used=0.4,
        closest="A number is right",
        seconds=1.0,
        seed=0,
        code="code",
    )
    failed = dataclasses.replace(passed, name="failing", title=HOSTILE, claims=4, used=2.0, closest="A second number")
    return [passed, failed]


def test_both_pages_are_sound_in_a_browser(tmp_path):
    with chromium() as browser:
        check_page(browser, write_page(outcome(*CLAIMS, FAILING).page(), tmp_path / "report.html"))
        check_page(browser, write_page(experiments_index(records()), tmp_path / "index.html"))


def test_every_claim_stands_on_the_page_with_what_it_must_be():
    page = render(outcome(*CLAIMS).page())
    assert "All 3 claims hold." in page
    for told in ("0.980", "1.000 ± 0.05", "5 standard errors", "at most 10⁻¹⁰", "4.91\u00a0×\u00a010⁻¹⁴", "at least 2"):
        assert told in page
    assert "below 10⁻¹⁰" in page
    assert "Yes, to 5\u00a0×\u00a010⁻¹⁴." in page
    assert "<script>alert" not in page
    assert "FAILS" not in page


def test_a_claim_that_fails_has_a_card_of_its_own_on_top():
    page = outcome(*CLAIMS, FAILING).page()
    overall, card = page.verdicts
    assert (overall.tone, card.tone, card.title) == ("alarm", "alarm", "A second number")
    assert "1 of 4 claims fail." in page.headline
    assert "Measured 2 nats; required: at most 1 nats" in card.verdict
    assert "FAILS" in render(page)
    assert "Not reproduced: 1 of 4 claims below fail. The expected answer: Yes" in page.sections[0].answer
    assert "Not reproduced" not in render(outcome(*CLAIMS).page())


def test_the_index_links_every_page_and_counts_the_failures():
    page = render(experiments_index(records()))
    assert '<a href="sample/report.html">sample</a>' in page
    assert "6 of 7 claims hold in 2 experiments." in page
    assert "Claims fail in failing." in page
    assert "3 of 4: FAILS" in page


@pytest.mark.parametrize(
    "address", ["https://example.org", "//example.org", "javascript:x", "../up", "a/../b", "a b", ""]
)
def test_a_link_leads_only_beside_or_below(address):
    with pytest.raises(ValueError, match="expected a relative path"):
        Link("away", address)


def test_a_figure_has_the_theme_s_colors_only():
    """Every fill and stroke is a variable of the page, none or white-free black of text."""
    for chart in CHARTS:
        svg = page_svg(chart)
        assert re.findall(r"#[0-9a-f]{6}\b", svg) == []


def test_the_picture_holds_every_chart_below_the_others():
    one, three = (Image.open(io.BytesIO(charts_png(CHARTS[:count], "title"))) for count in (1, 3))
    assert one.width == three.width
    assert three.height > 2 * one.height
    assert three.convert("RGB").getpixel((1, 1)) == tuple(int(LIGHT["paper"][i : i + 2], 16) for i in (1, 3, 5))
