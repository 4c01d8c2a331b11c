"""The self-contained HTML page of a report: its parts, its figures, its two themes."""

from diffuscope.report.audit_report import audit_page
from diffuscope.report.certificate_report import certificate_page
from diffuscope.report.charts import heatmap, line_with_band, plain_log_ticks
from diffuscope.report.experiment_figures import chart_figure, charts_png
from diffuscope.report.experiment_report import experiment_page, experiments_index
from diffuscope.report.images import image_png
from diffuscope.report.page import (
    Block,
    Cell,
    Figure,
    Gallery,
    GalleryItem,
    Link,
    Page,
    Picture,
    Section,
    Table,
    render,
    write_page,
)
from diffuscope.report.theme import LIGHT, SERIES, figure_style, figure_svg, heat_colormap

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
    "audit_page",
    "certificate_page",
    "chart_figure",
    "charts_png",
    "experiment_page",
    "experiments_index",
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
