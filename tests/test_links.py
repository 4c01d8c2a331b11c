"""Where pages and docstrings point: anchors, pictures, names of the library, and the form of published identifiers.

Nothing is fetched. That a linked file exists is a promise of `test_project`; here it is the place within the page.
"""

import ast
import importlib
import pkgutil
import re
import runpy
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import diffuscope

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "diffuscope"
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
EXAMPLES = sorted(ROOT.glob("docs/examples/plot_*.py"))
PROGRAMS = sorted([*SOURCE.rglob("*.py"), *ROOT.glob("benchmarks/*.py"), *EXAMPLES])
SUBPACKAGES = {module.name for module in pkgutil.iter_modules([str(SOURCE)]) if not module.name.startswith("_")}


def prose(page: Path) -> str:
    """The page without its blocks of code; figures and notes are prose."""
    fenced = re.compile(r"^```(\{?).*\n[\s\S]*?^```$", re.MULTILINE)
    return fenced.sub(lambda block: block[0] if block[1] else "", page.read_text(encoding="utf-8"))


def anchor(heading: str) -> str:
    """The anchor that Sphinx and GitHub make of a heading."""
    text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").strip().lower()
    return re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


def anchors(page: Path) -> set[str]:
    """Those of headings to the third level, as `conf.myst_heading_anchors` states, and explicit ones."""
    text = prose(page)
    headings = re.findall(r"^#{1,3} (.+)$", text, re.MULTILINE)
    return {anchor(heading) for heading in headings} | set(re.findall(r"^\(([\w-]+)\)=$", text, re.MULTILINE))


def doc_strings(file: Path) -> Iterator[str]:
    """Those of a file, its classes and functions."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            yield ast.get_docstring(node) or ""


def resolves(name: str) -> bool:
    """Whether a dotted name is of the library: `audit.Settings`, `theory.paths`, or `monitor.looks`, of a Monitor."""
    parts = name.removeprefix("diffuscope.").split(".")
    found: object = diffuscope
    instance = getattr(importlib.import_module(f"diffuscope.{parts[0]}"), parts[0].capitalize(), None)
    if len(parts) == 2 and hasattr(instance, parts[1]):
        return True
    for depth, part in enumerate(parts):
        if hasattr(found, part) or part in getattr(found, "__annotations__", {}):
            found = getattr(found, part, None)
            continue
        try:
            found = importlib.import_module(".".join(["diffuscope", *parts[: depth + 1]]))
        except ImportError:
            return part in getattr(found, "__dataclass_fields__", {})
    return True


FILES = (".html", ".json", ".md", ".npz", ".py")


def dotted_names(text: str) -> set[str]:
    """Names in backticks that begin with a subpackage, without their arguments."""
    quoted = re.findall(r"(?<!`)`((?:diffuscope\.)?([a-z_]+)\.[A-Za-z_][\w.]*)(?:\([^`]*\))?`(?!`)", text)
    return {name for name, first in quoted if first in SUBPACKAGES and not name.endswith(FILES)}


ARXIV = re.compile(r"(?:0[7-9]|[1-9]\d)(?:0[1-9]|1[0-2])\.\d{4,5}(?:v\d+)?|[a-z-]+(?:\.[A-Z]{2})?/\d{7}")
DOI = re.compile(r"10\.\d{4,9}/[^\s\"<>]*[^\s\"<>.,;]")


def faulty_identifiers(text: str) -> list[str]:
    """arXiv numbers, DOIs and addresses that cannot be right."""
    named = re.findall(r"(?:arXiv:|arxiv\.org/(?:abs|pdf)/)([\w./-]*\w)", text)
    faults = [f"arXiv:{number}" for number in named if not ARXIV.fullmatch(number)]
    faults += [f"doi:{name}" for name in re.findall(r"doi\.org/([^\s)>`\"',;]+)", text) if not DOI.match(name)]
    plain = re.findall(r"(?:^|(?<=[\s(<]))http://(?!localhost|127\.)\w[^\s)>]*", text)
    hosts = re.findall(r"https://([\w.:-]+)(?=[/)>`\"'\s]|$)", text)
    return faults + plain + [f"https://{host}" for host in hosts if not re.fullmatch(r"[\w-]+(\.[\w-]+)+(:\d+)?", host)]


def test_every_anchor_of_a_page_is_a_heading_there():
    missing = []
    for page in PAGES:
        for target, place in re.findall(r"\]\(([^)#:\s]*)#([^)\s]+)\)", prose(page)):
            there = (page.parent / target).resolve() if target else page
            if there.suffix == ".md" and place not in anchors(there):
                missing.append(f"{page.name}: {target}#{place}")
    assert missing == []


def test_every_picture_and_reference_of_a_page_is_there():
    missing = []
    for page in PAGES:
        text = prose(page)
        for name in re.findall(r"\{doc\}`(?:[^`<]*<)?([^`>]+)>?`", text):
            here = page.parent / name
            example = ROOT / "docs" / "examples" / f"{here.name}.py"
            if not (here.with_suffix(".md").exists() or ("gallery/" in name and example.exists())):
                missing.append(f"{page.name}: {name}")
        for name in re.findall(r"^```\{(?:figure|image)\} (\S+)$", text, re.MULTILINE):
            made = re.fullmatch(r"gallery/images/sphx_glr_(plot_\w+?)_\d{3}\.\w+", name)
            source = ROOT / "docs" / "examples" / f"{made[1]}.py" if made else page.parent / name
            if not source.exists():
                missing.append(f"{page.name}: {name}")
    assert missing == []


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=lambda page: page.name)
def test_every_name_of_the_library_on_a_page_exists(page):  # a changelog may name what is gone
    assert [name for name in sorted(dotted_names(prose(page))) if not resolves(name)] == []


def test_every_name_of_the_library_in_a_docstring_exists():
    # parsed only where some text has such a name
    files = [file for file in PROGRAMS if dotted_names(file.read_text(encoding="utf-8"))]
    named = {name: file.name for file in files for text in doc_strings(file) for name in dotted_names(text)}
    assert len(named) > 40
    assert {name: file for name, file in named.items() if not resolves(name)} == {}


@pytest.mark.parametrize("files", [PAGES, PROGRAMS], ids=["pages", "programs"])
def test_every_published_identifier_is_well_formed(files):
    texts = {file.name: file.read_text(encoding="utf-8").replace("version https://git-lfs", "") for file in files}
    faults = {name: faulty_identifiers(text) for name, text in texts.items()}  # Git LFS's first line is no address
    assert {name: fault for name, fault in faults.items() if fault} == {}


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("see arXiv:2113.12345", "arXiv:2113.12345"),  # there is no month 13
        ("https://arxiv.org/abs/2501.170", "arXiv:2501.170"),
        ("https://doi.org/11.1103/PhysRevB", "doi:11.1103/PhysRevB"),
        ("http://example.org/x", "http://example.org/x"),
        ("https://arxiv", "https://arxiv"),
    ],
)
def test_an_identifier_that_cannot_be_right_is_found(text, fault):
    assert faulty_identifiers(text) == [fault]
    assert faulty_identifiers("arXiv:2501.17054, arXiv:cs/0412108, https://doi.org/10.1103/PhysRevB.66.052301.") == []


@pytest.mark.parametrize(
    ("name", "there"),
    [("audit.Settings", True), ("theory.paths.least_action", True), ("audit.Setting", False), ("theory.path", False)],
)
def test_a_name_is_looked_up_in_the_library(name, there):
    assert resolves(name) is there


def test_headings_become_the_anchors_that_a_browser_looks_for():
    assert anchor("Class-conditional models, and `--guidance`") == "class-conditional-models-and---guidance"
    assert anchor("Is it right? A [link](x.md)") == "is-it-right-a-link"


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.stem)
def test_a_gallery_example_has_a_title_a_figure_and_text_between_its_parts(example):
    text = example.read_text(encoding="utf-8")
    first = ast.get_docstring(ast.parse(text)) or ""
    title, underline = first.split("\n")[:2]
    assert len(underline) >= len(title) > 5
    assert set(underline) == {"="}
    assert len(first.split("\n\n")) > 1, "a title and nothing below it"
    assert "plt." in text
    parts = text.split("\n# %%\n")[1:]
    assert len(parts) >= 2
    assert all(re.match(r"# \S", part) for part in parts), "every part begins with a sentence"


@pytest.mark.slow
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.stem)
def test_a_gallery_example_runs_within_a_minute_of_cpu(example, monkeypatch):
    """The numbers of its text are asserted within it; imports and everything else count."""
    pyplot = pytest.importorskip("matplotlib.pyplot")
    monkeypatch.chdir(ROOT / "docs" / "examples")
    pyplot.switch_backend("agg")
    before = time.process_time()
    runpy.run_path(str(example), run_name="__main__")
    assert pyplot.get_fignums(), "no figure"
    pyplot.close("all")
    assert time.process_time() - before < 60
