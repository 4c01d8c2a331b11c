"""The page as text: everything escaped, nothing fetched, every id one element's, every tag closed."""

import dataclasses
import re
import resource
import subprocess
import sys
from html.parser import HTMLParser

import pytest
from sample_report import COPIES, HOSTILE, STEPS, correlations_chart, noise_levels_chart, sample_page

from diffuscope.errors import InputError
from diffuscope.report import Page, Picture, Section, Table, render, write_page
from diffuscope.report.theme import LIGHT

VOID = {"meta", "link", "img", "br", "hr", "input"}


class Outline(HTMLParser):
    """Tags, attributes and headings of a document; raises where a tag is closed that is not the open one."""

    def __init__(self, document: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.headings: list[int] = []
        self.text: list[str] = []
        self.feed(document)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open[-1] == tag, f"</{tag}> while <{self.open[-1]}> is open"
        self.open.pop()

    def handle_data(self, data):
        if not {"script", "style"} & set(self.open[-1:]):
            self.text.append(data)

    def values(self, name: str) -> list[str]:
        return [attributes[name] or "" for _, attributes in self.elements if name in attributes]


@pytest.fixture(scope="module")
def document() -> str:
    return render(sample_page())


@pytest.fixture(scope="module")
def outline(document) -> Outline:
    return Outline(document)


def empty_page(**changes) -> Page:
    page = Page(title="t", subtitle="s", headline="h", verdicts=[], sections=[], method=[])
    return dataclasses.replace(page, **changes)


def test_every_tag_is_closed_in_order(outline):
    assert outline.open == []


def test_no_id_is_shared_and_every_reference_has_its_target(outline, document):
    ids = outline.values("id")
    assert len(ids) == len(set(ids))
    referred = {name for value in outline.values("href") if value.startswith("#") for name in [value[1:]]}
    referred |= set(re.findall(r"url\(#([^)]+)\)", document))
    for attribute in ("aria-labelledby", "aria-describedby"):
        referred |= {name for value in outline.values(attribute) for name in value.split()}
    assert referred <= set(ids)


def test_headings_descend_one_level_at_a_time(outline):
    assert outline.headings[0] == 1
    assert outline.headings.count(1) == 1
    assert all(after <= before + 1 for before, after in zip(outline.headings, outline.headings[1:], strict=False))


def test_nothing_in_the_page_points_outside_of_it(outline, document):
    addresses = [*outline.values("href"), *outline.values("src")]
    assert addresses
    assert all(address.startswith(("#", "data:")) for address in addresses)
    assert not re.search(r"url\((?!#)|@import|xlink", document)
    # the only other addresses are the names of namespaces
    assert set(re.findall(r"https?://[^\s\"'<]+", document)) <= {"http://www.w3.org/2000/svg"}


def test_a_page_has_no_script_and_no_handlers_whatever_the_names_say(outline):
    assert "script" not in [tag for tag, _ in outline.elements]
    assert not [name for _, attributes in outline.elements for name in attributes if name.startswith("on")]


@pytest.mark.parametrize(
    "page",
    [
        empty_page(title=HOSTILE),
        empty_page(subtitle=HOSTILE),
        empty_page(headline=HOSTILE),
        empty_page(method=[HOSTILE]),
        empty_page(method=[Table(HOSTILE, ["a"], [["b"]])]),
        empty_page(method=[Table("t", [HOSTILE], [["b"]])]),
        empty_page(method=[Table("t", ["a"], [[HOSTILE]], HOSTILE)]),
        empty_page(method=[dataclasses.replace(correlations_chart(), title=HOSTILE)]),
        empty_page(method=[dataclasses.replace(correlations_chart(), how_to_read=HOSTILE)]),
        empty_page(method=[noise_levels_chart(HOSTILE)]),
        empty_page(verdicts=[dataclasses.replace(COPIES, title=HOSTILE)]),
        empty_page(verdicts=[dataclasses.replace(COPIES, unit=HOSTILE)]),
        empty_page(sections=[Section("a", HOSTILE, HOSTILE, findings=[dataclasses.replace(COPIES, null=HOSTILE)])]),
    ],
)
def test_a_hostile_name_is_shown_as_it_is_and_nothing_more(page):
    outline = Outline(render(page))
    assert "script" not in [tag for tag, _ in outline.elements]
    assert HOSTILE in "".join(outline.text)


def test_same_page_gives_same_bytes_in_another_process(document):
    program = "from sample_report import *; from diffuscope.report import *; print(render(sample_page()), end='')"
    # another process, another hash seed: neither a date nor the order of a set may show
    environment = {"PYTHONPATH": ":".join(sys.path), "PYTHONHASHSEED": "1", "PYTHONIOENCODING": "utf-8"}
    other = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, check=True).stdout
    assert other.decode() == document


def test_every_color_of_every_figure_follows_the_theme(document):
    drawings = "".join(re.findall(r"<svg role.*?</svg>", document, flags=re.DOTALL))
    assert not [color for color in LIGHT.values() if color in drawings]
    assert re.findall("#[0-9a-f]{6}", drawings) == []
    assert set(re.findall(r"var\(--([a-z0-9-]+)\)", document)) <= {*LIGHT, "figure-font", "measure", "tone-color"}


def test_tone_is_shown_by_word_and_icon_not_color_alone(document, outline):
    for tone, word in (
        ("alarm", "Alarm"),
        ("attention", "Attention"),
        ("good", "Good"),
        ("neutral", "Informational"),
    ):
        assert word in outline.text
        assert f'href="#icon-{tone}"' in document


def test_verdict_without_power_is_not_printed():
    with pytest.raises(ValueError, match=r"memorized\.copies.*power"):
        empty_page(verdicts=[dataclasses.replace(COPIES, power="")])


def test_an_interval_stands_beside_the_probability_with_which_it_holds():
    """95% where nothing else is said, on the card and in the table of numbers."""
    page = empty_page(verdicts=[STEPS], sections=[Section("a", "q", "a", findings=[STEPS])])
    outline = Outline(render(page))
    assert "95% interval 16 to 21" in outline.text
    assert outline.text[outline.text.index("16 to 21") + 1] == "95%"
    other = Outline(render(empty_page(verdicts=[dataclasses.replace(STEPS, confidence=0.9)])))
    assert "90% interval 16 to 21" in other.text


def test_a_p_value_that_underflows_is_below_the_smallest_on_the_card_and_in_the_table():
    certain = dataclasses.replace(COPIES, p_value=0.0)
    text = Outline(render(empty_page(verdicts=[certain], sections=[Section("a", "q", "a", findings=[certain])]))).text
    assert text[text.index("p") + 1].strip() == "< 10⁻³⁰⁰"
    assert [words.strip() for words in text].count("< 10⁻³⁰⁰") == 2
    likely = Outline(render(empty_page(verdicts=[COPIES]))).text
    assert likely[likely.index("p") + 1].strip() == "= 3.1 × 10⁻⁶"


def test_a_table_without_names_of_columns_has_no_head():
    named, unnamed = (Outline(render(empty_page(method=[Table("t", head, [["b"]])]))) for head in (["a"], [""]))
    assert [tag for tag, _ in named.elements].count("thead") == 1
    assert [tag for tag, _ in unnamed.elements].count("thead") == 0


def test_verdict_card_leads_to_the_section_with_its_finding():
    outline = Outline(render(empty_page(verdicts=[STEPS], sections=[Section("few-steps", "q", "a", findings=[STEPS])])))
    assert outline.values("href").count("#few-steps") == 2  # the list of sections, and the card


@pytest.mark.parametrize("anchor", ["method", "Two words", "1st", ""])
def test_unusable_anchor_is_refused(anchor):
    with pytest.raises(ValueError, match="anchor"):
        empty_page(sections=[Section(anchor, "q", "a")])


def test_parts_that_would_break_the_page_are_refused():
    with pytest.raises(ValueError, match="anchor 'a'"):
        empty_page(sections=[Section("a", "q", "a"), Section("a", "q", "a")])
    with pytest.raises(ValueError, match="expected 2 cells in a row, got 1"):
        Table("t", ["a", "b"], [["c"]])
    with pytest.raises(ValueError, match="data:image"):
        Picture("https://example.org/spy.png", "p")


def test_numbers_of_a_column_share_their_decimals_and_words_stay_words():
    outline = Outline(render(empty_page(method=[Table("t", ["n", "m"], [[0.5, "a"], [12.25, 3], [None, "c"]])])))
    text = "|".join(outline.text)
    assert "0.50" in text
    assert "12.25" in text
    classes = [attributes.get("class") for tag, attributes in outline.elements if tag == "td"]
    assert classes.count("number") == 3


def test_page_replaces_the_one_before_whole(tmp_path):
    path = tmp_path / "new" / "index.html"
    write_page(empty_page(title="first"), path)
    assert write_page(empty_page(title="second"), path) == path
    assert path.read_text(encoding="utf-8") == render(empty_page(title="second"))
    assert [entry.name for entry in path.parent.iterdir()] == ["index.html"]


def test_full_disk_is_one_clear_line_and_loses_nothing(tmp_path):
    path = tmp_path / "index.html"
    write_page(empty_page(title="before"), path)
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))  # as a disk with one kilobyte left
    try:
        with pytest.raises(
            InputError, match=r"cannot write .*index\.html .*expected a writable folder with .* MB free"
        ):
            write_page(sample_page(), path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["index.html"]


def test_folder_that_cannot_be_made_is_one_clear_line(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match="expected a writable folder"):
        write_page(empty_page(), tmp_path / "file" / "index.html")


def test_path_that_is_a_folder_is_one_clear_line(tmp_path):
    with pytest.raises(InputError, match="expected a writable folder"):
        write_page(empty_page(), tmp_path)
