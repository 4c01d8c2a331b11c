"""Charts as SVG or PNG, and self-contained HTML pages with figures and pictures in two color schemes."""

from .drawing import chart_svg, charts_png
from .images import image_png
from .page import Block, Cell, Gallery, GalleryItem, Link, Page, Picture, Section, Table, render, write_page

__all__ = [
    "Block", "Cell", "Gallery", "GalleryItem", "Link", "Page", "Picture", "Section", "Table", "chart_svg",
    "charts_png", "image_png", "render", "write_page",
]  # fmt: skip
