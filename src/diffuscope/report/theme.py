"""The two themes of the page, and figures that follow them.

A figure is drawn in the colors of the light theme. `figure_svg` then replaces every color that is named here by the
page's variable of that name, so that one SVG suits both themes.

The six series colors are distinguishable with normal vision, protanopia, deuteranopia and tritanopia (Machado et al.
2009). In both themes the middle of the heat ramp has the luminance L at which black and white text are equally legible,
1.05/(L + 0.05) = (L + 0.05)/0.05, so that one rule for the ink of a cell serves both.
"""

import io
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import matplotlib as mpl
import numpy as np
from cycler import cycler
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

HEAT_LEVELS = 24
_HEAT = "diffuscope-heat"


def _heat_ramp(low: str, middle: str, high: str) -> dict[str, str]:
    """HEAT_LEVELS colors from `low` through `middle` to `high`, linear in sRGB."""
    anchors = np.array([list(bytes.fromhex(color.removeprefix("#"))) for color in (low, middle, high)])
    places = np.linspace(0, 2, HEAT_LEVELS)
    channels = [np.interp(places, range(3), channel) for channel in anchors.T]
    levels = np.stack(channels, -1).round().astype(np.uint8)
    return {f"heat-{k}": f"#{level.tobytes().hex()}" for k, level in enumerate(levels)}


LIGHT: dict[str, str] = {
    "paper": "#fcfcfa",
    "surface": "#f4f4f0",
    "ink": "#1c2024",
    "muted": "#545c66",
    "rule": "#d9dad4",
    "edge": "#84898f",
    "accent": "#1f4f96",
    "good": "#1a6e3f",
    "attention": "#8a5300",
    "alarm": "#b0251c",
    "unknown": "#5a4a9c",
    "neutral": "#4b5665",
    "series-1": "#364ba8",
    "series-2": "#972b07",
    "series-3": "#017b45",
    "series-4": "#ad7a03",
    "series-5": "#684880",
    "series-6": "#189cd7",
    "heat-ink-low": "#010101",
    "heat-ink-high": "#fefefe",
    **_heat_ramp("#eef2f8", "#3f77b5", "#0c2148"),
}

DARK: dict[str, str] = {
    "paper": "#14171b",
    "surface": "#1c2026",
    "ink": "#e6e8ea",
    "muted": "#a4adb8",
    "rule": "#333a43",
    "edge": "#78828e",
    "accent": "#93bbf5",
    "good": "#74cf98",
    "attention": "#efb54d",
    "alarm": "#ff8f85",
    "unknown": "#bdb0f5",
    "neutral": "#aeb8c5",
    "series-1": "#90a9fe",
    "series-2": "#ffbc8c",
    "series-3": "#318e65",
    "series-4": "#b67a0e",
    "series-5": "#9b67a7",
    "series-6": "#7fe3fb",
    "heat-ink-low": "#fefefe",
    "heat-ink-high": "#010101",
    **_heat_ramp("#1d2630", "#3f77b5", "#dcebff"),
}

SERIES: tuple[str, ...] = tuple(LIGHT[f"series-{k}"] for k in range(1, 7))
MARKERS: tuple[str, ...] = ("o", "s", "^", "D", "v", "P")


def css_variables(theme: Mapping[str, str]) -> str:
    """The theme as CSS custom properties."""
    return " ".join(f"--{name}: {color};" for name, color in theme.items())


def heat_colormap() -> ListedColormap:
    """From small (the page's background) to large values; for `pcolormesh` and `contourf`, not for `imshow`.

    The colors of a raster are fixed and cannot follow the page's theme.
    """
    return ListedColormap([LIGHT[f"heat-{level}"] for level in range(HEAT_LEVELS)], name=_HEAT)


@contextmanager
def figure_style() -> Iterator[None]:
    """matplotlib's settings for figures of the page, within a `with` block.

    Draw on a `matplotlib.figure.Figure`, not with pyplot. The default size, 7.2 x 3.4 inches, fills the page's column,
    where 9.5 points are 13 pixels. Use Unicode (σ, λ, 10⁻²): text is set in the reader's font, whose widths mathtext
    does not know, and names of the user's, such as "price in $", are no mathematics.
    """
    ink, muted, rule, paper = (LIGHT[name] for name in ("ink", "muted", "rule", "paper"))
    with mpl.rc_context(
        {
            "figure.figsize": (7.2, 3.4),
            "text.parse_math": False,
            "figure.facecolor": "none",
            "figure.constrained_layout.use": True,
            "font.size": 9.5,
            "text.color": ink,
            "axes.facecolor": "none",
            "axes.edgecolor": muted,
            "axes.labelcolor": ink,
            "axes.labelpad": 5.0,
            "axes.linewidth": 0.7,
            "axes.labelsize": "medium",
            "axes.titlesize": "medium",
            "axes.titleweight": "bold",
            "axes.titlelocation": "left",
            "axes.titlecolor": ink,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "axes.axisbelow": True,
            "axes.prop_cycle": cycler(color=SERIES, marker=MARKERS),
            "grid.color": rule,
            "grid.linewidth": 0.6,
            "xtick.color": muted,
            "ytick.color": muted,
            "xtick.labelcolor": muted,
            "ytick.labelcolor": muted,
            "xtick.labelsize": 9.0,
            "ytick.labelsize": 9.0,
            "xtick.major.size": 3.0,
            "ytick.major.size": 0.0,
            "xtick.major.width": 0.7,
            "xtick.minor.size": 1.5,
            "xtick.minor.width": 0.5,
            "ytick.minor.size": 0.0,
            "lines.linewidth": 1.6,
            "lines.markersize": 4.0,
            "lines.markeredgewidth": 0.0,
            "patch.linewidth": 0.0,
            "legend.frameon": False,
            "legend.fontsize": 9.0,
            "legend.facecolor": paper,
        }
    ):
        yield


_VARIABLE_OF_COLOR = {color: name for name, color in LIGHT.items()}


def figure_svg(figure: Figure) -> str:
    """The figure as one `<svg>` element for a page: in the page's theme, sized by its container, deterministic.

    Text stays text in the page's font. Raises ValueError if the figure contains a raster in theme colors.
    """
    for raster in (raster for axes in figure.get_axes() for raster in axes.get_images()):
        if raster.get_cmap().name == _HEAT:
            raise ValueError(
                "figure: an image in the heat colors cannot follow the page's theme; draw it by pcolormesh"
            )
    drawn = io.StringIO()
    no_metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "diffuscope"}):
        # not by `savefig`, which lays out in one draw and writes in another
        FigureCanvasSVG(figure).print_svg(drawn, metadata=no_metadata)
    svg = drawn.getvalue()
    svg = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    # matplotlib's style rule `*` would apply to the whole page
    svg = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", svg, flags=re.DOTALL)
    svg = svg.replace("xlink:href=", "href=")
    svg = _without_unused_ids(svg)
    svg = re.sub(r"font-family: [^;\"]*", "font-family: var(--figure-font)", svg)
    svg = re.sub(r"#[0-9a-f]{6}\b", _themed, svg)
    svg = re.sub(r"\s*\n\s*", " ", svg).replace("> <", "><").strip()
    return re.sub(r"^<svg[^>]*?(viewBox=\"[^\"]*\")[^>]*>", r'<svg class="plot" \1>', svg)


def _themed(color: re.Match[str]) -> str:
    name = _VARIABLE_OF_COLOR.get(color.group())
    return f"var(--{name})" if name else color.group()


def _without_unused_ids(svg: str) -> str:
    used = set(re.findall(r"(?:href=\"|url\()#([^\")]+)", svg))
    return re.sub(r' id="([^"]*)"', lambda found: found.group() if found.group(1) in used else "", svg)


def with_unique_ids(svg: str, prefix: str) -> str:
    """`svg` with `prefix` before each of its ids and every reference to them, so that no two figures share an id."""
    return re.sub(r'(?<= id=")(?=[^"])|(?<= href="#)(?=[^"])|(?<=url\(#)', prefix, svg)


def standing_alone(svg: str) -> str:
    """A page's `svg` with the light theme's colors included, for use outside the page."""
    used = {name: LIGHT[name] for name in LIGHT if f"var(--{name})" in svg}
    style = f"background: {LIGHT['paper']}; max-width: 50rem; --figure-font: sans-serif; {css_variables(used)}"
    return svg.replace("<svg ", f'<svg style="{style}" ', 1)
