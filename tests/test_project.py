"""The promises that the project's own files make to each other."""

import re
import subprocess
import tomllib
from importlib.resources import files
from pathlib import Path

import pytest

import diffuscope
from diffuscope.audit import Settings
from diffuscope.cli import COMMANDS
from diffuscope.cli.arguments import is_positional, options_of

ROOT = Path(__file__).parents[1]


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def tracked_files() -> list[Path]:
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listing.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listing.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_nothing_that_an_example_wrote_is_in_the_repository():
    """Examples of docstrings and pages write into the folder that they are run in, which may be this one."""
    at_the_top = {path.name for path in tracked_files() if path.parent == ROOT}
    assert "pyproject.toml" in at_the_top
    assert {name for name in at_the_top if Path(name).suffix not in ("", ".md")} == {
        "pyproject.toml", "constraints.txt", "CITATION.cff", ".pre-commit-config.yaml"
    }  # fmt: skip


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


def test_every_requirement_of_a_user_has_a_floor_below_the_tested_version():
    """Of the core and of every extra but those for development; `tools/versions.py oldest` installs the floors."""
    project = tomllib.loads(read("pyproject.toml"))["project"]
    extras = {name: wanted for name, wanted in project["optional-dependencies"].items() if name not in ("dev", "docs")}
    wanted = project["dependencies"] + [each for extra in extras.values() for each in extra]
    pins = dict(re.findall(r"^([\w.-]+)==([\d.]+)", read("constraints.txt"), re.MULTILINE))
    newest = {name.lower().replace("_", "-"): version for name, version in pins.items()}
    for requirement in wanted:
        name, found, floor = requirement.partition(">=")
        assert found, requirement
        assert [*map(int, floor.split("."))] <= [*map(int, newest[name].split("."))]


def test_the_table_of_extras_has_them_all():
    extras = tomllib.loads(read("pyproject.toml"))["project"]["optional-dependencies"]
    table = read("docs/getting_started.md").partition("\n## Optional parts\n")[2]
    rows = [row.split("|")[1] for row in table.splitlines() if row.startswith("| `")]
    assert sorted(re.findall("`(.+?)`", " ".join(rows))) == sorted(extras)


def test_every_layer_of_the_import_contract_is_a_subpackage_of_the_design():
    (contract,) = tomllib.loads(read("pyproject.toml"))["tool"]["importlinter"]["contracts"]
    present = [layer for layer in contract["layers"] if not layer.startswith("(")]
    named = re.findall(r"^\| (`.*?`) \|", read("docs/design.md").split("## The subpackages")[1], re.MULTILINE)
    assert [name.replace("`", "").replace(", ", " | ") for name in named] == present


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
