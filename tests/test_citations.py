"""What to cite: every source that a docstring names becomes an entry, and nothing else does."""

import ast
import re
from pathlib import Path

import pytest

import diffuscope
from diffuscope.citations import Source, citation, works
from diffuscope.errors import InputError

PACKAGE = Path(diffuscope.__file__).parent
DOCSTRINGS = {  # read, not imported: that takes a second for all
    str(file.relative_to(PACKAGE).with_suffix("")).replace("/", ".").removesuffix(".__init__"): ast.get_docstring(
        ast.parse(file.read_text(encoding="utf-8"))
    )
    or ""
    for file in PACKAGE.rglob("*.py")
}
NO_YEAR = {  # sources that are no publication by authors and year
    "experiments.constraint_is_not_posterior",
    "experiments.mixture_forward",
    "experiments.poisson",
    "experiments.samplers",
    "samplers.brownian",
    "theory.paths.shooting",
}


def test_every_docstring_that_names_a_source_is_cited():
    named = [name for name, text in DOCSTRINGS.items() if re.search(r"(?:^|\n)Sources?: ", text)]
    assert len(named) > 60
    empty = {name for name in named if not works(DOCSTRINGS[name])}
    assert empty <= NO_YEAR, f"no work by authors and year is found in {empty - NO_YEAR}"


def test_every_number_of_a_paragraph_is_in_an_entry():
    for name, text in DOCSTRINGS.items():
        paragraphs = re.findall(r"(?:^|\n)Sources?: (.*?)(?=\n\s*\n|\Z)", text, re.DOTALL)
        numbers = re.findall(r"(?:arXiv:|arxiv\.org/abs/)([\w./-]*\d)", " ".join(paragraphs))
        assert set(numbers) <= {source.fields.get("eprint") for source in works(text)}, name


def test_authors_year_title_and_identifier_are_told_apart():
    text = """Made.

    Sources: Theis, van den Oord & Bethge 2016 (arXiv:1511.01844, section 3.1); E, Ren and Vanden-Eijnden 2002, *String
    method*, https://doi.org/10.1103/PhysRevB.66.052301; the idea is Wu et al. 2023's "Twisted", and Guo, Shamai & Verdu
    2005 (arXiv:cs/0412108, arXiv:1234.56789); their common form: https://arxiv.org/abs/2605.24192.

    Not a source: Nobody 1999.
    """
    assert works(text) == [
        Source(("Theis", "van den Oord", "Bethge"), 2016, {"eprint": "1511.01844", "archiveprefix": "arXiv"}),
        Source(("E", "Ren", "Vanden-Eijnden"), 2002, {"title": "String method", "doi": "10.1103/PhysRevB.66.052301"}),
        Source(("Wu", "others"), 2023, {"title": "Twisted"}),
        Source(("Guo", "Shamai", "Verdu"), 2005, {"eprint": "cs/0412108", "archiveprefix": "arXiv"}),
        Source(("Guo", "Shamai", "Verdu"), 2005, {"eprint": "1234.56789", "archiveprefix": "arXiv"}),
        Source((), 2026, {"eprint": "2605.24192", "archiveprefix": "arXiv"}),
    ]


def test_a_function_a_class_an_instance_and_an_experiment_are_cited():
    from diffuscope.experiments import find

    by_class, by_instance = citation(diffuscope.DPMSolverPP2M), citation(diffuscope.DPMSolverPP2M())
    assert by_class == by_instance
    assert "eprint = {2211.01095}" in by_class
    assert "2501.17054" in citation(find("support"))
    of_gaussian = citation(diffuscope.Gaussian)
    assert "@misc{wang2023a," in of_gaussian
    assert "@misc{wang2023b," in of_gaussian


def test_the_library_itself_is_cited_with_its_version_as_in_the_citation_file():
    entry = citation()
    assert f"version {diffuscope.__version__}" in entry
    file = Path(__file__).parents[1].joinpath("CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {diffuscope.__version__}\n" in file
    assert "the diffuscope authors" in file
    assert "the diffuscope authors" in entry


def test_the_version_is_stated_once_for_the_package_and_its_metadata():
    from importlib.metadata import version

    assert version("diffuscope") == diffuscope.__version__


@pytest.mark.parametrize(
    ("of", "message"),
    [(Path, "of: expected an object of diffuscope, got Path"), (diffuscope.errors.InputError, "names none")],
)
def test_what_has_no_source_is_refused_in_one_line(of, message):
    with pytest.raises(InputError, match=message):
        citation(of)
