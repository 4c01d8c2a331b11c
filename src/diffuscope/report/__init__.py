"""Draws charts and pages: the self-contained HTML of a report, its figures in two color schemes, its pictures."""

from .drawing import chart_svg, charts_png
from .images import image_png
from .page import Block, Cell, Gallery, GalleryItem, Link, Page, Picture, Section, Table, render, write_page

__all__ = [
    "Block", "Cell", "Gallery", "GalleryItem", "Link", "Page", "Picture", "Section", "Table", "chart_svg",
    "charts_png", "image_png", "render", "write_page",
]  # fmt: skip
