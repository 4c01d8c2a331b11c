"""The page of an experiment and the index over several: sound in a browser, true to the claims, in every theme."""

import io
import math
import re

import numpy as np
import pytest
import torch
from browser_checks import check_page, chromium
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from PIL import Image

from diffuscope.experiments import Answer, Experiment, Part, Record
from diffuscope.experiments.page import experiment_page, experiments_index
from diffuscope.findings import Bars, Chart, Panel, arrows, at_least, at_most, equals, groups, heat_map, line, points
from diffuscope.report import LIGHT, SERIES, Link, charts_png, render, write_page
from diffuscope.report.drawing import described, draw_panel, page_svg

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
    part = Part("first", "Is it right?", lambda _: Answer("Yes, to 5e-14.", claims, CHARTS))
    return Experiment("sample", "A sample", "What is it?", "someone 2020", 1.0, (part,), {"particles": 1000}).run()


def records():
    passed = Record("sample", "A sample", 3, 3, 0.4, "A number is right", 1.0, 0, "code")
    failed = Record("failing", HOSTILE, 3, 4, 2.0, "A second number", 12.3, 0, "code")
    return [passed, failed]


def test_both_pages_are_sound_in_a_browser(tmp_path):
    with chromium() as browser:
        check_page(browser, write_page(experiment_page(outcome(*CLAIMS, FAILING), 1.0), tmp_path / "report.html"))
        check_page(browser, write_page(experiments_index(records()), tmp_path / "index.html"))


def test_every_claim_stands_on_the_page_with_what_it_must_be():
    page = render(experiment_page(outcome(*CLAIMS), 1.0))
    assert "All 3 claims hold." in page
    for told in ("0.980", "1.000 ± 0.05", "5 standard errors", "at most 10⁻¹⁰", "4.91\u00a0×\u00a010⁻¹⁴", "at least 2"):
        assert told in page
    assert "below 10⁻¹⁰" in page
    assert "Yes, to 5\u00a0×\u00a010⁻¹⁴." in page
    assert "<script>alert" not in page
    assert "FAILS" not in page


def test_a_claim_that_fails_has_a_card_of_its_own_on_top():
    page = experiment_page(outcome(*CLAIMS, FAILING), 1.0)
    overall, card = page.verdicts
    assert (overall.tone, card.tone, card.title) == ("alarm", "alarm", "A second number")
    assert "1 of 4 claims fail." in page.headline
    assert "Measured 2 nats; it must be at most 1 nats" in card.verdict
    assert "FAILS" in render(page)
    assert "Not reproduced: 1 of 4 claims below fail. Expected was: Yes" in page.sections[0].answer
    assert "Not reproduced" not in render(experiment_page(outcome(*CLAIMS), 1.0))


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
    with pytest.raises(ValueError, match="path below this page"):
        Link("away", address)


def test_a_figure_has_the_theme_s_colors_only():
    """Every fill and stroke is a variable of the page, none or white-free black of text."""
    for chart in CHARTS:
        svg = page_svg(chart)
        assert re.findall(r"#[0-9a-f]{6}\b", svg) == []


def test_references_take_no_color_from_the_series():
    """The line after a dashed one has the second series color, not the third."""
    marks = (line([0, 1], [0, 1], "a"), line([0, 1], [1, 1], "r", style="dashed"), line([0, 1], [1, 0], "b"))
    svg = page_svg(Chart("c", (Panel("", "x", "y", marks),), ""))
    assert "--series-1" in svg
    assert "--series-2" in svg
    assert "--series-3" not in svg
    assert len(SERIES) > 2


def test_an_arrow_goes_from_its_point_along_its_step_in_the_units_of_the_axes():
    """The tip lies at (x + dx, y + dy), whatever the axes; its fill is the series', its rim the page's."""
    figure = Figure(figsize=(4, 3))
    axes = figure.subplots()
    panel = Panel(
        "", "x", "y", (arrows([1.0, 2.0], [10.0, 30.0], [0.5, 1.0], [20.0, -5.0], "field"),), x_range=(0.0, 4.0)
    )
    draw_panel(axes, panel)
    axes.set_ylim(0, 60)
    figure.draw_without_rendering()
    (drawn,) = axes.collections
    to_data = drawn.get_transform() + axes.transData.inverted()
    for path, offset, tip in zip(
        drawn.get_paths(), np.asarray(drawn.get_offsets()), ((1.5, 30.0), (3.0, 25.0)), strict=True
    ):
        corners = to_data.transform(path.vertices) - to_data.transform((0.0, 0.0)) + offset
        assert abs(corners - tip).sum(1).min() < 1e-6
    assert np.allclose(drawn.get_facecolor(), to_rgba(SERIES[0]))
    assert np.allclose(drawn.get_edgecolor(), to_rgba(LIGHT["paper"]))


def test_a_figure_is_described_for_who_cannot_see_it():
    told = described(CHARTS[0])
    for word in ("with a band", "Y against time t", "mean", "error against steps"):
        assert word in told


def test_panels_that_share_their_labels_share_one_legend():
    panel = Panel("", "x", "y", (line([0, 1], [0, 1], "first"), line([0, 1], [1, 0], "second")))
    assert page_svg(Chart("c", (panel, panel), "")).count(">first<") == 1
    other = Panel("", "x", "y", (line([0, 1], [0, 1], "third"), line([0, 1], [1, 0], "second")))
    assert page_svg(Chart("c", (panel, other), "")).count(">second<") == 2


def test_log_ticks_are_plain_near_one_and_powers_beyond():
    svg = page_svg(CHARTS[0])
    assert ">10⁻⁶<" in svg
    assert ">100<" in svg
    narrow = Chart("c", (Panel("", "x", "y", (line([2, 8], [2, 8], "a"),), True, True),), "")
    assert ">5<" in page_svg(narrow)


def test_the_picture_holds_every_chart_below_the_others():
    one, three = (Image.open(io.BytesIO(charts_png(CHARTS[:count], "title"))) for count in (1, 3))
    assert one.width == three.width
    assert three.height > 2 * one.height
    assert three.convert("RGB").getpixel((1, 1)) == tuple(int(LIGHT["paper"][i : i + 2], 16) for i in (1, 3, 5))
