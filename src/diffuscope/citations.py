r"""What to cite: BibTeX entries of the sources that docstrings name.

A docstring names its sources in a paragraph that begins with "Source:" or "Sources:", by authors and year, each
followed by what identifies it: a title in asterisks or quotation marks, `arXiv:2501.17054`, a DOI or an address. The
sources of an object are those of its own docstring, of its class's and of its module's; they are what the code was
written from, and are read from there, so that a citation and a docstring cannot disagree.
"""

import inspect
import re
import sys
from dataclasses import dataclass, field
from types import ModuleType

from .errors import InputError

_NAME = r"(?:(?!\S*(?:MNIST|CIFAR))[A-Z][\w'’.\-]*|van|von|den|der|de|la)"
_WORK = re.compile(
    rf"({_NAME}(?:(?:,\s+&\s+|,\s+|\s+&\s+|\s+and\s+|\s+)(?:{_NAME}|et\s+al\.))*)\s+((?:18|19|20)\d\d)\b"
)
_PARAGRAPH = re.compile(r"(?:^|\n)\s*Sources?:\s(.*?)(?=\n\s*\n|\Z)", re.DOTALL)
_TITLE = re.compile(r"\*([^*]+)\*|\"([^\"]+)\"")
_ARXIV = re.compile(r"(?:arXiv:|arxiv\.org/abs/)((?:[a-z\-]+/)?[\d.]*\d)")
_DOI = re.compile(r"doi\.org/(\S+?)(?=[),.;]?(?:\s|$))")
_ADDRESS = re.compile(r"https?://\S+?(?=[),.;]?(?:\s|$))")


@dataclass(frozen=True)
class Source:
    """A publication as a docstring names it."""

    authors: tuple[str, ...]
    year: int
    fields: dict[str, str] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """First author and year, as `cao2025`; the number of a work without authors."""
        if not self.authors:
            return f"arxiv{self.fields['eprint']}"
        return re.sub(r"\W", "", self.authors[0].split()[-1]).lower() + str(self.year)

    def bibtex(self, mark: str = "") -> str:
        """The entry; `mark` tells it from another of the same authors and year."""
        fields = {"author": " and ".join(self.authors), "year": str(self.year)} | self.fields
        return _entry("misc", self.key + mark, fields)


def citation(of: object = None) -> str:
    """BibTeX of the sources of an object of diffuscope: a module, a class, a function or an instance.

    Without an object, the entry of diffuscope itself. Raises InputError for an object of other code, and for one whose
    docstrings name no source.

    >>> import diffuscope
    >>> print(diffuscope.citation(diffuscope.samplers.DPMSolverPP2M))
    @misc{lu2022,
      author = {Lu and others},
      year = {2022},
      title = {DPM-Solver++},
      eprint = {2211.01095},
      archiveprefix = {arXiv},
    }
    """
    if of is None:
        from diffuscope import __version__

        title = "diffuscope: ground truth for diffusion models"
        fields = {"author": "{the diffuscope authors}", "title": title, "note": f"version {__version__}"}
        return _entry("software", "diffuscope", fields)
    found = sources(of)
    if not found:
        raise InputError(
            f"of: expected an object whose docstring names its source, got {_called(of)}, which names none"
        )
    keys = [source.key for source in found]
    marks = [chr(ord("a") + keys[:i].count(key)) if keys.count(key) > 1 else "" for i, key in enumerate(keys)]
    return "\n\n".join(source.bibtex(mark) for source, mark in zip(found, marks, strict=True))


def sources(of: object) -> list[Source]:
    """The publications that the docstrings of an object name, each once: its own, its class's, then its module's."""
    known = of if inspect.ismodule(of) or inspect.isclass(of) or inspect.isroutine(of) else type(of)
    home = known if isinstance(known, ModuleType) else sys.modules.get(getattr(known, "__module__", "") or "")
    if home is None or home.__name__.partition(".")[0] != "diffuscope":
        raise InputError(f"of: expected an object of diffuscope, got {_called(of)}")
    texts = [inspect.getdoc(each) or "" for each in (known, home)]
    if isinstance(named := getattr(of, "source", None), str):  # of an experiment
        texts.insert(0, f"Source: {named}")
    return works("\n\n".join(texts))


def works(docstring: str) -> list[Source]:
    """The publications that the source paragraphs of a docstring name, each once.

    >>> from diffuscope.citations import works
    >>> (found,) = works("Source: Ho, Jain & Abbeel 2020, *Denoising diffusion*, arXiv:2006.11239.")
    >>> found.authors, found.year, found.key, found.fields["eprint"]
    (('Ho', 'Jain', 'Abbeel'), 2020, 'ho2020', '2006.11239')
    """
    found: dict[tuple[str, str], Source] = {}
    for paragraph in _PARAGRAPH.findall(docstring):
        for source in _named(paragraph):
            number = source.fields.get("eprint", "")
            if number or all(key != source.key for key, _ in found):  # without a number it is one that has been named
                found.setdefault((source.key, number), source)
    return list(found.values())


def _entry(kind: str, key: str, fields: dict[str, str]) -> str:
    """A BibTeX entry of the fields that are known."""
    lines = [f"  {name} = {{{value}}}," for name, value in fields.items() if value]
    return "\n".join([f"@{kind}{{{key},", *lines, "}"])


def _named(paragraph: str) -> list[Source]:
    """The works of a paragraph; what identifies one stands between it and the next, up to a semicolon."""
    text = " ".join(paragraph.split())
    matches = list(_WORK.finditer(text))
    found = _nameless(text[: matches[0].start()] if matches else text)
    for work, following in zip(matches, [*matches[1:], None][: len(matches)], strict=True):
        own, _, rest = text[work.end() : following.start() if following else len(text)].partition(";")
        identified = [_identified(own), *({"eprint": n, "archiveprefix": "arXiv"} for n in _ARXIV.findall(own)[1:])]
        found += [Source(_authors(work[1]), int(work[2]), fields) for fields in identified]
        found += _nameless(rest)
    return found


def _nameless(text: str) -> list[Source]:
    """Works that are named by their number alone, whose first four digits are year and month."""
    return [
        Source((), 2000 + int(number[:2]), {"eprint": number, "archiveprefix": "arXiv"})
        for number in _ARXIV.findall(text)
        if number[:2].isdigit()
    ]


def _authors(words: str) -> tuple[str, ...]:
    """Family names; `others` for et al."""
    listed = re.sub(r"\s+et\s+al\.", ", others", words)
    return tuple(name for name in re.split(r",\s*(?:&|and)?\s*|\s+(?:&|and)\s+", listed) if name)


def _identified(text: str) -> dict[str, str]:
    fields = {}
    if title := _TITLE.search(text):
        fields["title"] = (title[1] or title[2]).strip()
    if arxiv := _ARXIV.search(text):
        fields |= {"eprint": arxiv[1], "archiveprefix": "arXiv"}
    elif doi := _DOI.search(text):
        fields["doi"] = doi[1]
    elif address := _ADDRESS.search(text):
        fields["url"] = address[0]
    return fields


def _called(of: object) -> str:
    return str(getattr(of, "__qualname__", None) or getattr(of, "__name__", None) or type(of).__name__)
