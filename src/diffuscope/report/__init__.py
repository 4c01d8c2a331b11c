"""The self-contained HTML page of a report: its parts, its figures, its two themes."""

from .charts import heatmap, line_with_band, plain_log_ticks
from .drawing import chart_svg, charts_png
from .images import image_png
from .page import Block, Cell, Figure, Gallery, GalleryItem, Link, Page, Picture, Section, Table, render, write_page
from .theme import LIGHT, SERIES, figure_style, figure_svg, heat_colormap

__all__ = [
    "LIGHT",
    "SERIES",
    "Block",
    "Cell",
    "Figure",
    "Gallery",
    "GalleryItem",
    "Link",
    "Page",
    "Picture",
    "Section",
    "Table",
    "chart_svg",
    "charts_png",
    "figure_style",
    "figure_svg",
    "heat_colormap",
    "heatmap",
    "image_png",
    "line_with_band",
    "plain_log_ticks",
    "render",
    "write_page",
]
