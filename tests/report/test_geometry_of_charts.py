"""Where the marks of a chart stand, how wide and how opaque they are, by hand."""

import base64
import io
import math
from collections.abc import Iterable
from typing import TypeVar

import numpy as np
import pytest
import torch
from matplotlib.artist import Artist
from matplotlib.collections import QuadMesh
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.quiver import Quiver
from PIL import Image

from diffuscope.errors import InputError
from diffuscope.findings import (
    Area,
    Bars,
    Chart,
    Groups,
    Line,
    Panel,
    Points,
    Rule,
    arrows,
    cells,
    groups,
    heat_map,
    intervals,
    line,
    points,
)
from diffuscope.report import charts_png, drawing, image_png
from diffuscope.report.theme import HEAT_LEVELS, LIGHT, SERIES, _heat_ramp, figure_style

Kind = TypeVar("Kind", bound=Artist)
PICTURE = heat_map([0, 1, 2], [0, 1], torch.tensor([[1.0, 2.0]]))


def drawn(*marks, figure=None, **panel):
    """The axes with the marks on them."""
    with figure_style():
        axes = (figure or Figure(figsize=(4, 3))).subplots()
        drawing.draw_panel(axes, Panel("", panel.pop("x_label", "x"), panel.pop("y_label", "y"), marks, **panel))
    return axes


def only(kind: type[Kind], artists: Iterable[Artist | None]) -> list[Kind]:
    """The artists, all of which are of that kind."""
    found = []
    for artist in artists:
        assert isinstance(artist, kind)
        found.append(artist)
    return found


def height(*panels):
    return drawing._height(Chart("c", panels, ""))


def panel(*marks, **settings):
    return Panel("", "", "", marks, **settings)


# heights, in inches


def test_a_row_of_cells_and_one_of_intervals_are_as_high_whatever_their_number():
    rows = [cells([*"abcd"][:n], ["x"], torch.ones(n, 1), color_range=(0, 1)) for n in (1, 2, 4)]
    assert [height(panel(row)) for row in rows] == pytest.approx([1.12, 1.44, 2.08])
    assert height(panel(rows[2]), panel(rows[0])) == pytest.approx(2.08)  # the highest panel decides
    bars = [intervals(dict.fromkeys("abcd"[:n], (1, 0, 2))) for n in (1, 2, 4)]
    assert [height(panel(bar)) for bar in bars] == pytest.approx([1.4, 1.9, 2.9])
    assert height(panel(bars[1]), panel(bars[2])) == pytest.approx(2.9)


def test_panels_of_equal_scales_fill_the_width_of_the_page():
    """7.2 inches less half an inch of labels, shared by the panels; 0.9 inches of labels above and below."""
    square = panel(Rule(1.0), x_range=(0, 2), y_range=(1, 3), equal_scales=True)
    tall = panel(Rule(1.0), x_range=(0, 2), y_range=(1, 7), equal_scales=True)
    assert height(square) == pytest.approx(0.9 + 6.7)
    assert height(square, tall) == pytest.approx(0.9 + 3 * 6.7 / 2)
    assert height(square, panel(Rule(1.0))) == 3.2  # where one panel's scales are free, none needs a height
    assert height(panel(PICTURE, equal_scales=True)) == pytest.approx(0.9 + 6.7 / 2)
    assert height(panel(Rule(1.0), equal_scales=True)) == pytest.approx(0.9 + 6.7)  # a unit square where none is given


def test_charts_below_each_other_are_as_high_as_they_are_alone_and_their_titles():
    """0.3 inches for every title and 0.4 for that of all, of 160 dots."""
    high = Chart("b", (panel(intervals(dict.fromkeys("abcd", (1, 0, 2)))),), "")
    content = charts_png((Chart("a", (panel(Rule(1.0)),), ""), high), "both")
    assert Image.open(io.BytesIO(content)).size == (1152, round(160 * (3.2 + 0.3 + 2.9 + 0.3 + 0.4)))


# panels


def test_colors_and_markers_of_marks_come_in_turn_and_begin_again():
    axes = drawn(*(line([0, 1], [k, k + 1]) for k in range(8)))
    found = [(to_hex(str(curve.get_color())), curve.get_marker()) for curve in axes.lines]
    assert len(set(found[:6])) == 6
    assert found[6:] == found[:2]
    assert found[0][0] == SERIES[0]


def test_a_picture_has_no_axes_but_a_map_with_names_or_with_other_marks_has():
    bare = {"x_label": "", "y_label": ""}
    assert not drawn(PICTURE, equal_scales=True, **bare).axison
    assert drawn(PICTURE, equal_scales=True, x_label="x", y_label="").axison
    assert drawn(PICTURE, equal_scales=True, x_label="", y_label="y").axison
    assert drawn(PICTURE, points([0.5], [0.5]), equal_scales=True, **bare).axison
    assert drawn(PICTURE, **bare).axison
    assert drawn(PICTURE, equal_scales=True, **bare).get_aspect() == 1
    assert drawn(PICTURE, **bare).get_aspect() == "auto"


def test_panels_stand_side_by_side_and_share_an_axis_only_where_they_are_said_to():
    panels = (Panel("", "x", "one", (points([0.0], [1.0]),)), Panel("", "x", "other", (points([0.0], [5.0]),)))
    for shared, labels in ((True, ["one", ""]), (False, ["one", "other"])):
        with figure_style():
            drawing._draw(figure := Figure(figsize=(4, 3)), Chart("c", panels, "", shared_y=shared))
            figure.draw_without_rendering()
        left, right = figure.axes
        assert [axes.get_ylabel() for axes in (left, right)] == labels
        assert (left.get_ylim() == right.get_ylim()) == shared
        assert left.get_position().y1 - left.get_position().y0 > 0.6  # of the figure: one row
        assert left.get_position().x1 < right.get_position().x0


@pytest.mark.parametrize(("decades", "ticks"), [(7, 8), (8, 5)])
def test_a_logarithmic_axis_has_eight_ticks_at_most(decades, ticks):
    """Every decade up to seven; every other one of eight."""
    axes = drawn(line([1, 10.0**decades], [1, 2]), x_log=True, x_range=(1, 10.0**decades))
    assert len([place for place in axes.get_xticks() if 1 <= place <= 10.0**decades]) == ticks


def test_only_curves_on_a_logarithmic_axis_of_a_given_range_are_clipped():
    low, curve, bars = (-1.0, 0.5), Line((1.0, 2.0), (0.0, 9.0)), Bars((0.0, 1.0), (9.0,))
    for log, limits in ((False, (0.1, 5.0)), (True, None)):
        assert drawing._clipped(curve, panel(curve, y_log=log, y_range=limits)) is curve
    for limits in ((0.1, 5.0), (5.0, 0.1)):
        logarithmic = panel(curve, y_log=True, y_range=limits)
        assert drawing._clipped(bars, logarithmic) is bars
        assert drawing._clipped(curve, logarithmic) == Line((1.0, 2.0), (0.1, 5.0))
        assert drawing._clipped(Points((1.0,), (7.0,)), logarithmic) == Points((1.0,), (5.0,))
        clipped = Area((1.0, 2.0), (0.1, 0.5), (3.0, 5.0))
        assert drawing._clipped(Area((1.0, 2.0), low, (3.0, 7.0)), logarithmic) == clipped


def test_a_legend_shows_points_that_are_small_and_pale_in_full():
    many = [k / 30 for k in range(30)]
    axes = drawn(points(many, many, "points"), line(many, many, "curve"))
    drawing._legends(axes.figure, [axes])
    legend = axes.get_legend()
    assert legend is not None
    point, curve = only(Line2D, legend.legend_handles)
    assert (point.get_markersize(), point.get_alpha()) == (5.0, 1.0)
    assert curve.get_alpha() is None
    assert curve.get_markersize() != 5.0
    assert [shown.get_markersize() for shown in axes.lines[:1]] == [2.5]


# marks


def test_bars_of_a_group_share_eight_tenths_of_its_place():
    """Two labels: 0.4 each, centered 0.2 left and right of the group's place, with 8% of air."""
    axes = drawn(groups(["a", "b"], {"one": [1, 2], "two": [3, 4]}))
    bars = only(Rectangle, axes.patches)
    found = [(bar.get_x() + bar.get_width() / 2, bar.get_width(), bar.get_height()) for bar in bars]
    expected = [(-0.2, 0.368, 1), (0.8, 0.368, 2), (0.2, 0.368, 3), (1.2, 0.368, 4)]
    assert np.allclose(found, expected)
    assert [to_hex(bar.get_facecolor()) for bar in axes.patches[::2]] == list(SERIES[:2])
    assert axes.get_xticks().tolist() == [0, 1]
    three = drawn(Groups(("a",), tuple("xyzuvwq"), ((1.0,),) * 7)).patches
    assert to_hex(three[6].get_facecolor()) == SERIES[0]


@pytest.mark.parametrize(("columns", "letters"), [(1, 95), (2, 47)])
def test_names_are_slanted_where_they_and_the_gaps_between_them_are_wider_than_their_panel(columns, letters):
    """95 letters of the whole width, two of which are the gap of a name."""
    for more, rotation in ((0, 0), (1, 35)):
        axes = Figure().subplots(1, columns, squeeze=False)[0, 0]
        names = ("a", "b" * (letters - 5 + more))
        drawing._draw_mark(axes, Groups(names, ("s",), ((1.0, 2.0),)), "#000000", "o")
        label = axes.get_xticklabels()[0]
        assert label.get_rotation() == rotation
        assert (label.get_horizontalalignment(), label.get_rotation_mode()) == (
            ("right", "anchor") if rotation else ("center", "default")
        )


def test_axes_that_are_no_part_of_a_grid_are_a_single_column():
    assert drawing._columns(Figure().add_axes((0.1, 0.1, 0.8, 0.8))) == 1


def test_rows_of_intervals_stand_a_step_apart_with_room_for_their_caps():
    axes = drawn(intervals({"a": (1, 0, 2), "b": (3, 2, 5), "c": (2, 1, 3)}))
    assert axes.get_ylim() == pytest.approx((2.6, -0.6))
    assert axes.get_yticks().tolist() == [0, 1, 2]
    (centers, *caps) = axes.lines
    assert centers.get_markersize() == 6
    assert [cap.get_markersize() for cap in caps] == [6, 6]  # twice the cap's size
    assert not any(grid.get_visible() for grid in axes.yaxis.get_gridlines())
    assert all(grid.get_visible() for grid in axes.xaxis.get_gridlines())


def test_names_of_cells_stand_beside_their_middles():
    axes = drawn(cells(["a", "b"], ["x", "y", "z"], torch.ones(2, 3), color_range=(0, 1)))
    assert axes.get_xticks().tolist() == [0.5, 1.5, 2.5]
    assert axes.get_yticks().tolist() == [0.5, 1.5]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["x", "y", "z"]
    assert not any(spine.get_visible() for spine in axes.spines.values())
    assert {tick.tick1line.get_markersize() for tick in axes.xaxis.get_major_ticks()} == {0}
    (mesh,) = only(QuadMesh, axes.collections)
    corners = np.asarray(mesh.get_coordinates())
    assert corners[..., 0].tolist() == [[0, 1, 2, 3]] * 3
    assert corners[..., 1].tolist() == [[row] * 4 for row in (0, 1, 2)]
    assert (to_hex(np.asarray(mesh.get_edgecolor())[0]), mesh.get_linewidth()) == (LIGHT["paper"], 1.2)


def test_the_ink_of_a_cell_changes_in_the_middle_of_its_range():
    """1 to 5: in the middle, 3, the cell is dark."""
    axes = drawn(cells(["a"], ["x", "y", "z"], torch.tensor([[1.0, 2.99, 3.0]]), color_range=(1, 5)))
    assert [to_hex(text.get_color()) for text in axes.texts] == [
        LIGHT[f"heat-ink-{kind}"] for kind in ("low", "low", "high")
    ]


@pytest.mark.parametrize(("given", "limits"), [(None, (1.0, 4.0)), ((0, 9), (0, 9))])
def test_colors_of_a_map_reach_over_its_values_or_the_range_that_is_given(given, limits):
    values = torch.tensor([[1.0, float("nan")], [4.0, 2.0]])
    (mesh,) = only(QuadMesh, drawn(heat_map([0, 1, 3], [0, 2, 5], values, color_range=given)).collections)
    assert mesh.get_clim() == limits
    shown, corners = mesh.get_array(), np.asarray(mesh.get_coordinates())
    assert isinstance(shown, np.ma.MaskedArray)
    assert shown.mask.tolist() == [[False, True], [False, False]]
    assert corners[0, :, 0].tolist() == [0, 1, 3]
    assert corners[:, 0, 1].tolist() == [0, 2, 5]


def test_what_lies_over_other_marks_lets_them_shine_through():
    """The band of a line more than a histogram and an area; many points of a scatter are small and pale."""
    band = drawn(line([0, 1], [1, 2], low=[0, 1], high=[2, 3])).collections[0]
    area = drawn(Area((0.0, 1.0), (0.0, 0.0), (1.0, 1.0))).collections[0]
    bars = drawn(Bars((0.0, 1.0, 2.0), (1.0, 2.0))).patches[0]
    wide = drawn(Rule(1.0, width=0.5)).patches[0]
    many, few = (drawn(points(range(n), range(n))).lines[0] for n in (26, 25))
    opacity = [float(str(mark.get_alpha())) for mark in (band, area, bars, wide, many, few)]
    assert all(0 < alpha < 1 for alpha in opacity[:5])
    assert opacity[0] < min(opacity[1:3])
    assert opacity[5] == 1
    assert [np.max(mark.get_linewidth()) for mark in (band, area, wide)] == [0, 0, 0]  # no edges
    assert many.get_markersize() < few.get_markersize()
    lines = [drawn(line(range(n), range(n))).lines[0].get_marker() for n in (26, 25)]
    assert lines == ["None", "o"]


def test_a_rule_lies_on_its_band_above_the_grid_and_below_all_marks():
    axes = drawn(Rule(1.0, width=0.5), Line((0.0, 1.0), (0.0, 1.0)), Bars((0.0, 1.0), (1.0,)))
    (band, bars), (rule, curve) = axes.patches, axes.lines
    assert (band.get_zorder(), rule.get_zorder()) == (0.6, 0.7)
    assert axes.get_axisbelow() is True  # the grid's is 0.5
    assert min(bars.get_zorder(), curve.get_zorder()) >= 1
    assert (rule.get_linewidth(), rule.get_linestyle()) == (0.9, ":")


def test_arrows_are_as_long_as_their_components_and_lie_over_maps():
    marks = heat_map([0, 1, 2], [0, 1, 2], torch.ones(2, 2)), arrows([1.0], [2.0], [0.5], [1.0])
    mesh, field = drawn(*marks).collections
    assert isinstance(field, Quiver)
    assert (field.scale, field.scale_units, field.angles) == (1.0, "xy", "xy")
    assert field.get_zorder() > mesh.get_zorder()


# the style and the colors


def test_a_figure_fills_the_column_and_its_text_has_the_size_that_is_stated():
    """Ticks and legends are smaller; a logarithmic axis marks its powers of ten more than what lies between."""
    said = str(figure_style.__doc__)
    with figure_style():
        figure = Figure()
        axes = figure.subplots()
        axes.plot([1, 2], [1, 2], label="a")
        axes.set(title="t", xlabel="x", ylabel="y", xscale="log")
        legend = axes.legend()
    assert "{:g} x {:g} inches".format(*figure.get_size_inches()) in said
    (size,) = {text.get_fontsize() for text in (axes.xaxis.label, axes.yaxis.label, axes.title)}
    assert f"{size:g} points" in said
    small = [*axes.get_xticklabels(), *axes.get_yticklabels(), *legend.get_texts()]
    assert all(float(text.get_fontsize()) < float(size) for text in small)
    major, minor = axes.xaxis.get_major_ticks()[0].tick1line, axes.xaxis.get_minor_ticks()[0].tick1line
    assert major.get_markersize() > minor.get_markersize() > 0
    visible = [axes.spines[side].get_visible() for side in ("left", "bottom", "top", "right")]
    assert visible == [True, True, False, False]
    assert not legend.get_frame_on()


def test_a_heat_ramp_has_two_straight_parts_and_its_middle_between_two_colors():
    """23 steps, two of which are one in the first half: 2 k of 23, 4 k of 46; then the way back."""
    ramp = _heat_ramp("#000000", "#17002e", "#2e1700")
    assert (HEAT_LEVELS, len(ramp)) == (24, 24)
    for k in range(24):
        past = max(0, 2 * k - 23)
        red, green, blue = 2 * k, past, min(4 * k, 46) - 2 * past
        assert ramp[f"heat-{k}"] == f"#{red:02x}{green:02x}{blue:02x}"


def decoded(image, **options):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(image_png(image, 0, 1, **options).split(",")[1]))))


@pytest.mark.parametrize(
    ("shape", "pixels"),
    [
        ((2, 5, 3), (2, 5, 3)),  # two and four rows are no channels, three are
        ((4, 5, 3), (4, 5, 3)),
        ((3, 5, 3), (5, 3, 3)),
        ((5, 3, 3), (5, 3, 3)),
        ((5, 1, 3), (5, 1, 3)),
        ((3, 4), (3, 4)),
        ((4, 1), (4, 1)),
        ((1, 4, 6), (4, 6)),
        ((1, 1), (1, 1)),
    ],
)
def test_the_channels_of_a_picture_are_one_or_three_at_either_end(shape, pixels):
    values = np.linspace(0, 1, math.prod(shape)).reshape(shape)
    shown = np.moveaxis(values, 0, -1).reshape(pixels) if shape[0] in (1, 3) and len(shape) == 3 else values
    assert decoded(values, scale=1).tolist() == np.rint(255 * shown).tolist()


def test_a_picture_is_enlarged_by_its_longer_side():
    for shape, size in (((50, 7), (50, 7)), ((7, 32), (21, 96)), ((1, 1), (96, 96)), ((2, 2, 3), (96, 96, 3))):
        assert decoded(np.zeros(shape)).shape == size
    for shape in ((3,), (2, 2, 2, 3), (2, 2, 2), (2, 3, 2, 1)):
        with pytest.raises(InputError, match="image: expected"):
            decoded(np.zeros(shape))
