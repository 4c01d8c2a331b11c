"""The promises that the project's own files make to each other."""

import json
import re
import shlex
import subprocess
import tomllib
from importlib.resources import files
from pathlib import Path

import pytest
import torch

import diffuscope
from diffuscope.audit import Settings
from diffuscope.cli import COMMANDS, main
from diffuscope.cli.arguments import is_positional, options_of
from diffuscope.denoisers import Denoiser

ROOT = Path(__file__).parents[1]


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def tracked_files() -> list[Path]:
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listing.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listing.stdout.split("\0") if name and (ROOT / name).is_file()]


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "docs/index.md", "docs/benchmarks.md", ".ci/run"])
def test_every_make_command_that_a_page_names_exists(page):
    chores = set(re.findall(r"^([a-z]+):", read("Makefile"), re.MULTILINE))
    named = set(re.findall(r"(?:^|`)make ([a-z]+)", read(page), re.MULTILINE))
    assert named
    assert named <= chores


def test_continuous_integration_runs_lint_the_tests_and_the_documentation():
    assert re.findall(r"^make .*$", read(".ci/run"), re.MULTILINE) == ["make lint", "make test", "make docs"]
    assert (ROOT / ".ci/run").stat().st_mode & 0o100


def test_the_version_is_one():
    source = tomllib.loads(read("pyproject.toml"))["tool"]["hatch"]["version"]["path"]  # where the build reads it
    declared = re.findall(r'^__version__ = "(.+)"$', read(source), re.MULTILINE)
    newest = re.search(r"^## \[(.+?)\]", read("CHANGELOG.md"), re.MULTILINE)
    assert newest is not None
    assert declared == [newest[1]] == [diffuscope.__version__]


def test_types_ship_with_the_package():
    assert (files("diffuscope") / "py.typed").is_file()


def test_every_requirement_has_a_tested_version():
    project = tomllib.loads(read("pyproject.toml"))["project"]
    wanted = project["dependencies"] + [name for extra in project["optional-dependencies"].values() for name in extra]
    pinned = {line.split("==")[0].lower().replace("_", "-") for line in read("constraints.txt").splitlines()}
    assert {re.match(r"[\w-]+", name)[0].lower() for name in wanted} <= pinned  # type: ignore[index]


def test_every_layer_of_the_import_contract_is_a_subpackage_of_the_design():
    (contract,) = tomllib.loads(read("pyproject.toml"))["tool"]["importlinter"]["contracts"]
    present = [layer for layer in contract["layers"] if not layer.startswith("(")]
    named = re.findall(r"^\| (`.*?`) \|", read("docs/design.md").split("## The subpackages")[1], re.MULTILINE)
    assert [name.replace("`", "").replace(", ", " | ") for name in named] == present


def test_the_readme_model_fulfills_the_contract():
    examples = re.findall(r"```python\n(.*?)```", read("README.md"), re.DOTALL)
    (example,) = [example for example in examples if "class MyModel" in example]
    names: dict[str, object] = {}
    exec(compile(example, "README.md", "exec"), names)
    assert isinstance(names["denoiser"], Denoiser)


def test_the_citation_of_the_readme_is_what_it_prints(capsys):
    code, printed = re.findall(r"```(?:python|text)\n(.*?)```", read("README.md").split("\n## Cite\n")[1], re.DOTALL)
    exec(compile(code, "README.md", "exec"), {})
    assert capsys.readouterr().out == printed


PAGES = ("README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")))


def options(command: str) -> set[str]:
    """The options of a command as they are typed, `--no-x` of those that are on or off among them."""
    names = [name.replace("_", "-") for name, hint in options_of(COMMANDS[command]).items() if not is_positional(hint)]
    return {f"--{name}" for name in names} | {f"--no-{name}" for name in names}


@pytest.mark.parametrize("page", PAGES)
def test_every_option_that_a_page_gives_a_command_is_one_of_its_own(page):
    """In blocks and in sentences, from the command's name to the end of its line or of its quotation."""
    strange = []
    for typed in re.findall(r"(?:^|`|-- |-m )diffuscope ((?:[^`\n\\]|\\\n|\\.)*)", read(page), re.MULTILINE):
        command, _, rest = typed.partition(" ")
        if command in COMMANDS:
            named = re.findall(r"(?<![\w-])--[a-z][a-z-]*", rest.partition("#")[0])
            strange += [f"{command} {option}" for option in named if option not in options(command)]
    assert strange == []


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_of_a_command_is_on_a_page(command):
    pages = "\n".join(map(read, PAGES))
    named = {re.sub(r"^--no-", "--", option) for option in re.findall(r"(?<![\w-])--[a-z][a-z-]*", pages)}
    missing = {re.sub(r"^--no-", "--", option) for option in options(command)} - named
    assert missing == set()


def test_the_page_states_the_defaults_of_an_audit():
    section = read("docs/audit.md").split("\n## Effort and thresholds\n")[1].split("\n## ")[0]
    stated = dict(re.findall(r"^\| `--([a-z-]+)` \| (\S+) \|", section, re.MULTILINE))
    assert len(stated) > 10
    assert {name: str(getattr(Settings(), name.replace("-", "_"))) for name in stated} == stated


def test_the_index_lists_every_page():
    listed = re.search(r"```\{toctree\}\n(.*?)```", read("docs/index.md"), re.DOTALL)
    assert listed is not None
    pages = {Path(page).stem for page in PAGES if page.startswith("docs/")} - {"index"}
    assert pages | {"gallery/index", "api"} == {line for line in listed[1].split("\n") if line and line[0] != ":"}


def test_the_wrappers_of_the_page_run_one_after_the_other():
    names: dict[str, object] = {}
    x = torch.zeros(2, 1, 28, 28)
    for example in re.findall(r"```python\n(.*?)```", read("docs/wrapping.md"), re.DOTALL):
        exec(compile(example, "docs/wrapping.md", "exec"), names)
        denoiser = names["denoiser"]
        assert isinstance(denoiser, Denoiser)
        assert denoiser(x, denoiser.schedule.t_max).shape == x.shape


@pytest.mark.parametrize("part", ["## A table", pytest.param("## A folder of scans", marks=pytest.mark.slow)])
def test_the_page_on_samples_runs_from_zero_to_report(part, tmp_path, monkeypatch):
    """Every block as printed, in order; both generators copy, and the table's column of dates is wrong."""
    monkeypatch.chdir(tmp_path)
    page, names, results = read("docs/samples.md"), dict[str, object](), dict[str, dict]()
    blocks = re.findall(r"```(python|console)\n(.*?)```", part + page.split(part)[1].split("\n## ")[0], re.DOTALL)
    assert [kind for kind, _ in blocks] == ["python", "python", "console"]
    for kind, text in blocks:
        if kind == "python":
            exec(compile(text, "docs/samples.md", "exec"), names)
        else:
            words = shlex.split(text)
            main(words[1:])
            results = json.loads(Path(words[-1], "audit.json").read_text())
            assert Path(words[-1], "model-card.md").read_text().endswith(f"{text.strip()}\n```\n")
    assert results["verdict"]["word"] == "copies"
    if part == "## A table":
        (columns,) = [f for f in results["findings"]["quality"] if f["name"] == "fidelity.columns"]
        assert columns["verdict"].startswith(
            "1 of 10 columns does not have the distribution of the data: column 'visit'"
        )
        last = re.findall(r"```python\n(.*?)```", page, re.DOTALL)[-1]
        exec(compile(last, "docs/samples.md", "exec"), names)
        values = names["values"]
        assert isinstance(values, dict)
        assert values["fidelity.columns"] == columns["value"]


def test_the_page_on_statistics_runs_as_printed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = dict[str, object]()
    for kind, text in re.findall(r"```(python|console|text)\n(.*?)```", read("docs/statistics.md"), re.DOTALL):
        if kind == "python":
            exec(compile(text, "docs/statistics.md", "exec"), names)
        elif kind == "console":
            capsys.readouterr()
            main(shlex.split(text)[1:])
        else:  # what the command before printed
            assert capsys.readouterr().out == text
    printed = capsys.readouterr().out
    assert "60 examples are too few for 64 dimensions at noise 0.1" in printed
    assert printed.rstrip().endswith("expected less than 1: statistics of the model's training data")


def test_every_link_of_a_page_leads_somewhere():
    pages = [path for path in tracked_files() if path.suffix == ".md"]
    links = [(page, link) for page in pages for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text())]
    assert [f"{page.name}: {link}" for page, link in links if not (page.parent / link).exists()] == []


def test_no_file_names_a_machine_or_a_package_index():
    # a path from the root of one machine; the host of an index or a mirror, which belongs in the user's settings
    elsewhere = re.compile(
        r"(?<![\w.~>})])/(?:work|root|opt|home|mnt)/\w|file:///\w|pypi\.(?:org|python)|python[h]osted|download\.pytorch"
        r"|registry\.npmjs|--(?:extra-)?index-url|--find[-]links"
    )
    found = []
    for path in tracked_files():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:  # a picture
            continue
        found += [f"{path.relative_to(ROOT)}: {hit[0]}" for hit in elsewhere.finditer(text)]
    assert found == []
