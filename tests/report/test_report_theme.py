"""The two themes: contrast, color vision, and figures that follow them."""

import re

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from diffuscope.report.theme import (
    DARK,
    HEAT_LEVELS,
    LIGHT,
    SERIES,
    figure_style,
    figure_svg,
    heat_colormap,
    with_unique_ids,
)

THEMES = {"light": LIGHT, "dark": DARK}

# Machado, Oliveira & Fernandes 2009, severity 1, on linear RGB
VISIONS = {
    "normal": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


def linear(color: str) -> np.ndarray:
    encoded = np.array([int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)


def contrast(one: str, other: str) -> float:
    """WCAG 2's ratio."""
    dark, light = sorted(float(linear(color) @ [0.2126, 0.7152, 0.0722]) for color in (one, other))
    return (light + 0.05) / (dark + 0.05)


def cielab(rgb: np.ndarray) -> np.ndarray:
    to_xyz = np.array(
        [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
    )
    x, y, z = np.clip(to_xyz @ rgb / [0.95047, 1, 1.08883], 0, None)
    a, b, c = (np.cbrt(v) if v > 0.008856 else 7.787 * v + 16 / 116 for v in (x, y, z))
    return np.array([116 * b - 16, 500 * (a - b), 200 * (b - c)])


def test_themes_name_the_same_colors_and_no_light_color_has_two_names():
    assert list(LIGHT) == list(DARK)
    assert len(set(LIGHT.values())) == len(LIGHT)


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("name", ["ink", "muted", "accent", "good", "attention", "alarm", "neutral"])
def test_text_reaches_wcag_aa_on_page_and_card(theme, name):
    colors = THEMES[theme]
    assert min(contrast(colors[name], colors[behind]) for behind in ("paper", "surface")) >= 4.5


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("name", ["edge", *(f"series-{k}" for k in range(1, 7))])
def test_lines_and_borders_reach_wcag_aa_for_graphics(theme, name):
    assert contrast(THEMES[theme][name], THEMES[theme]["paper"]) >= 3


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("vision", VISIONS)
def test_series_stay_apart_for_every_color_vision(theme, vision):
    seen = [
        cielab(np.clip(np.asarray(VISIONS[vision]) @ linear(THEMES[theme][f"series-{k}"]), 0, 1)) for k in range(1, 7)
    ]
    apart = min(np.linalg.norm(seen[i] - seen[j]) for i in range(6) for j in range(i))
    assert apart > 20  # CIE76; 2.3 is just noticeable, 10 is seen at a glance


@pytest.mark.parametrize("theme", THEMES)
def test_number_on_any_heat_cell_reaches_wcag_aa(theme):
    colors = THEMES[theme]
    for level in range(HEAT_LEVELS):
        ink = "heat-ink-low" if level < HEAT_LEVELS / 2 else "heat-ink-high"
        assert contrast(colors[ink], colors[f"heat-{level}"]) >= 4.5


@pytest.mark.parametrize("theme", THEMES)
def test_heat_grows_monotonically_away_from_the_page(theme):
    colors = THEMES[theme]
    ratios = [contrast(colors[f"heat-{level}"], colors["paper"]) for level in range(HEAT_LEVELS)]
    assert all(np.diff(ratios) > 0)


def test_style_ends_with_its_block():
    before = dict(mpl.rcParams)
    with figure_style():
        assert mpl.rcParams["font.size"] != before["font.size"]
    assert dict(mpl.rcParams) == before


def small_figure(title: str = "t") -> Figure:
    with figure_style():
        figure = Figure(figsize=(4, 3))
        axes = figure.add_subplot()
        for _ in range(6):
            axes.plot([0.1, 1, 10], [1, 2, 3])
        axes.set_title(title)
    return figure


def test_figure_is_one_bare_element_that_fills_its_container():
    svg = figure_svg(small_figure())
    assert re.match(r'<svg class="plot" viewBox="0 0 288 216">', svg)
    assert svg.endswith("</svg>")
    assert not re.search(r"<\?xml|<!|<metadata|<style|http|\d\d:\d\d:\d\d", svg)


def test_figure_holds_each_series_by_name():
    svg = figure_svg(small_figure())
    assert all(f"var(--series-{k})" in svg for k in range(1, 7))
    assert not [color for color in LIGHT.values() if color in svg]


def test_drawn_otherwise_the_figure_is_simply_light():
    assert tuple(LIGHT[f"series-{k}"] for k in range(1, 7)) == SERIES
    assert to_hex(heat_colormap()(0.0)) == LIGHT["heat-0"]
    assert to_hex(heat_colormap()(1.0)) == LIGHT[f"heat-{HEAT_LEVELS - 1}"]


def test_text_of_a_figure_stays_text_and_is_escaped():
    svg = figure_svg(small_figure("a<b> & c -->"))
    assert re.search(r">a&lt;b(&gt;|>) &amp; c --(&gt;|>)</text>", svg)
    assert "<b>" not in svg


def test_same_figure_twice_shares_no_id():
    svg = figure_svg(small_figure())
    one, other = with_unique_ids(svg, "one-"), with_unique_ids(svg, "other-")
    ids = [set(re.findall(r' id="([^"]+)"', text)) for text in (one, other)]
    assert ids[0]
    assert not ids[0] & ids[1]
    for text, own in zip((one, other), ids, strict=True):
        assert set(re.findall(r'href="#([^"]+)"', text)) | set(re.findall(r"url\(#([^)]+)\)", text)) == own


def test_raster_in_theme_colors_is_refused():
    figure = Figure()
    figure.add_subplot().imshow(np.eye(2), cmap=heat_colormap())
    with pytest.raises(ValueError, match="pcolormesh"):
        figure_svg(figure)
