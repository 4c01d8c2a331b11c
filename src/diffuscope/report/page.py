"""A report as data, and its rendering as one HTML file.

The page starts with its verdicts, has a section for every question (answer, figures and how to read them, findings),
and ends with the method. The file is self-contained: style, figures and pictures are inline, and its content security
policy forbids the browser to run or fetch anything, whatever text the data contain.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import count
from pathlib import Path

import jinja2
from markupsafe import Markup

from diffuscope.errors import InputError
from diffuscope.files import replace_atomically
from diffuscope.findings import TONE_WORDS, Chart, Finding, Tone, numbers

from .drawing import described, page_svg
from .theme import DARK, LIGHT, css_variables, with_unique_ids

_RESERVED_ANCHORS = ("main", "verdicts", "method")


@dataclass(frozen=True)
class Link:
    """A cell with a link to a page in the same folder or below it; ValueError for another `address`.

    >>> from diffuscope.report import Link
    >>> Link("class 3", "class-3/report.html").address
    'class-3/report.html'
    >>> Link("outside", "../report.html")
    Traceback (most recent call last):
    ValueError: link 'outside': expected a relative path of plain words, got '../report.html'
    """

    text: str
    address: str

    def __post_init__(self) -> None:
        if not re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)*", self.address):
            raise ValueError(f"link {self.text!r}: expected a relative path of plain words, got {self.address!r}")


Cell = str | float | int | Link | None


@dataclass(frozen=True)
class Table:
    """Rows below a header, numbers aligned at the decimal point, None for a missing value.

    A folded table shows only its title until the reader opens it. Raises ValueError for rows of another length.

    >>> from diffuscope.report import Page, Table, render
    >>> table = Table("Errors", ["steps", "error"], [[4, 12.5], [8, 0.75], [16, None]])
    >>> page = render(Page("Sampler", "Heun", "It converges.", [], [], method=[table]))
    >>> [text in page for text in ("12.50", "0.75", "–")]  # two leading digits of the smallest, and no value
    [True, True, True]
    """

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    note: str = ""
    folded: bool = False

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.header):
                raise ValueError(f"table {self.title!r}: expected {len(self.header)} cells in a row, got {len(row)}")


@dataclass(frozen=True)
class Picture:
    """One image as a data URL (from `image_png`), with its label; ValueError for another `source`.

    >>> from diffuscope.report import Picture
    >>> Picture("https://example.org/digit.png", "a digit")
    Traceback (most recent call last):
    ValueError: picture 'a digit': expected a data:image/ URL, got 'https://example.org/digit.png'
    """

    source: str
    label: str

    def __post_init__(self) -> None:
        if not self.source.startswith("data:image/"):
            raise ValueError(f"picture {self.label!r}: expected a data:image/ URL, got {self.source[:40]!r}")


@dataclass(frozen=True)
class GalleryItem:
    """Pictures side by side with one caption, such as a generated sample and its nearest training example.

    >>> import numpy as np
    >>> from diffuscope.report import GalleryItem, Picture, image_png
    >>> pixels = np.array([[0.0, 0.5], [1.0, 2.0]])
    >>> copy = GalleryItem([Picture(image_png(pixels, 0, 2), label) for label in ("sample", "nearest")], "Equal.")
    >>> copy.pictures[0].source == copy.pictures[1].source
    True
    """

    pictures: Sequence[Picture]
    caption: str


@dataclass(frozen=True)
class Gallery:
    """A grid of small pictures or groups of pictures.

    >>> import numpy as np
    >>> from diffuscope.report import Gallery, GalleryItem, Page, Picture, image_png, render
    >>> pictures = [Picture(image_png(np.eye(2) * k, 0, 3), f"image {k}") for k in (1, 2, 3)]
    >>> gallery = Gallery("Copies", [GalleryItem(pictures[:2], "p < 0.01"), GalleryItem(pictures[2:], "")], "In pairs.")
    >>> page = render(Page("Audit", "digits", "Three pictures.", [], [], method=[gallery]))
    >>> page.count("<img "), "p &lt; 0.01" in page
    (3, True)
    """

    title: str
    items: Sequence[GalleryItem]
    how_to_read: str


Block = Chart | Table | Gallery | str  # a string is a paragraph


@dataclass(frozen=True)
class Section:
    """One question: `title` is the question, `answer` one sentence, blocks and findings are the evidence.

    >>> from diffuscope.report import Page, Section, render
    >>> sections = [Section("copies", "Does it copy?", "No.", ["p < 0.01"])]
    >>> page = render(Page("Audit", "digits", "All is well.", [], sections, []))
    >>> page.count('href="#copies"'), page.count('id="copies"'), "p &lt; 0.01" in page
    (1, 1, True)
    """

    anchor: str
    title: str
    answer: str
    blocks: Sequence[Block] = ()
    findings: Sequence[Finding] = ()


@dataclass(frozen=True)
class Page:
    """The whole report; ValueError for verdicts without a power statement and for anchors that are not unique words.

    >>> from diffuscope.findings import Finding
    >>> from diffuscope.report import Page
    >>> found = Finding(name="copies", title="Copies", value=2.0, unit="%", verdict="Two in 100.", tone="alarm")
    >>> Page("Audit", "digits", "It copies.", verdicts=[found], sections=[], method=[])
    Traceback (most recent call last):
    ValueError: verdict 'copies': expected a power statement, got none
    """

    title: str
    subtitle: str
    headline: str
    verdicts: Sequence[Finding]
    sections: Sequence[Section]
    method: Sequence[Block]
    tone: Tone | None = None  # of the headline

    def __post_init__(self) -> None:
        for verdict in self.verdicts:
            if not verdict.power:
                raise ValueError(f"verdict {verdict.name!r}: expected a power statement, got none")
        anchors = [section.anchor for section in self.sections]
        for anchor in anchors:
            if not re.fullmatch("[a-z][a-z0-9-]*", anchor) or anchor in _RESERVED_ANCHORS or anchors.count(anchor) > 1:
                raise ValueError(f"section anchor {anchor!r}: expected a unique word of a-z, digits and -")


def render(page: Page) -> str:
    """The page as one self-contained HTML document; all text of `page` is escaped.

    >>> from diffuscope.report import Page, render
    >>> page = Page("<script>", "digits", "All is well.", verdicts=[], sections=[], method=["No scripts."])
    >>> html = render(page)
    >>> "<h1>&lt;script&gt;</h1>" in html, "<script" in html
    (True, False)
    """
    template = _environment().get_template("page.html.jinja")
    section_of = {finding.name: section for section in page.sections for finding in section.findings}
    colors = {"light": css_variables(LIGHT), "dark": css_variables(DARK)}
    counters = {"next_figure": count(1).__next__, "next_table": count(1).__next__}
    return template.render(page=page, section_of=section_of, **colors, **counters)


def write_page(page: Page, path: str | Path) -> Path:
    """Write the rendered page to `path`; an earlier file is replaced only once the new one is complete.

    Raises InputError if the folder cannot be created or written to, or the disk is full.

    >>> from diffuscope.report import Page, render, write_page
    >>> page = Page("Audit", "digits", "All is well.", verdicts=[], sections=[], method=["It was audited."])
    >>> path = write_page(page, "audit/report.html")
    >>> path.read_text(encoding="utf-8") == render(page)
    True
    """
    path = Path(path)
    content = render(page).encode()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_atomically(path, content)
    except OSError as error:
        raise InputError(
            f"path: cannot write {path} ({error.strerror}); expected a writable folder with {len(content) / 1e6:.1f} "
            "MB free"
        ) from error
    return path


_NO_VALUE = "–"


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(tone_words=TONE_WORDS)
    environment.filters.update(
        kind=lambda block: type(block).__name__,
        placed=_placed,
        cells=_cells,
        measurement=lambda finding: numbers.measurement(finding.value, finding.interval, finding.unit),
        p_value=numbers.p_value,
        p_relation=numbers.p_relation,
        percent=lambda share: f"{100 * share:g}%",
    )
    return environment


def _placed(chart: Chart, label: str) -> Markup:
    """The chart's SVG for its place on the page: with unique ids, named by its caption, and described in words."""
    prefix = f"{label}-"
    role = f'<svg role="img" aria-labelledby="{label}" aria-describedby="{prefix}desc"'
    head, marks = with_unique_ids(page_svg(chart), prefix).removeprefix("<svg").split(">", 1)
    description = Markup('<desc id="{}desc">{}</desc>').format(prefix, described(chart))
    return Markup(f"{role}{head}>") + description + Markup(marks)


def _cells(table: Table) -> list[list[tuple[str, bool]]]:
    """(text, belongs to a column of numbers), row by row; all numbers of a column have the same format."""
    columns = []
    for cells in zip(*table.rows, strict=True):
        written = iter(numbers.column([float(cell) for cell in cells if isinstance(cell, (int, float))]))
        of_numbers = not any(isinstance(cell, (str, Link)) for cell in cells)
        texts = [next(written) if isinstance(cell, (int, float)) else _text(cell) for cell in cells]
        columns.append([(text, of_numbers) for text in texts])
    return [list(row) for row in zip(*columns, strict=True)]


def _text(cell: str | Link | None) -> str:
    if isinstance(cell, Link):
        return Markup('<a href="{}">{}</a>').format(cell.address, cell.text)
    return cell or _NO_VALUE
