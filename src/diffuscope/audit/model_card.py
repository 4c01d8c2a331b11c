"""The result of an audit as a section of a model card: Markdown, as the README of a model on a model hub has it.

Names of data, columns and files are the user's. In Markdown a character reference such as `&#124;` is always text, so
whatever could be structure (pipes, brackets, backticks, angle brackets, addresses) is written as one; line breaks and
invisible characters become spaces.
"""

import re
import shlex
import unicodedata
from dataclasses import MISSING, dataclass, fields
from typing import TYPE_CHECKING, Literal

from diffuscope.findings import Finding

from .subject import Settings

if TYPE_CHECKING:
    from .result import AuditResult

_STRUCTURE = re.compile(r"[&<>|`*_\[\]\\~$#!@^{}]|:(?=\S)|(?<=www)\.", re.IGNORECASE)
_NO_VALUE = "–"


@dataclass(frozen=True)
class Recipe:
    """How to repeat an audit: a command, or the call in Python with the names of its arguments."""

    language: Literal["console", "python"]
    text: str


def python_call(settings: Settings, *, has_model: bool, samples_given: bool, second_given: bool = False) -> Recipe:
    """The call with every setting that is not the default.

    >>> print(python_call(Settings(seed=3), has_model=False, samples_given=True).text)
    from diffuscope.audit import Settings, audit_samples
    <BLANKLINE>
    audit_samples(samples, data, Settings(seed=3))
    """
    changed = [
        f"{field.name}={getattr(settings, field.name)!r}"
        for field in fields(settings)
        if field.default is MISSING or getattr(settings, field.name) != field.default
    ]
    function = "audit_model" if has_model else "audit_samples"
    arguments = ["subject"] if has_model else ["samples", "data"]
    arguments += [f"Settings({', '.join(changed)})"] if changed else []
    arguments += ["samples=samples"] if has_model and samples_given else []
    arguments += ["second_model=second_model"] if second_given else []
    imports = f"Settings, {function}" if changed else function
    return Recipe("python", f"from diffuscope.audit import {imports}\n\n{function}({', '.join(arguments)})")


def command_line(words: list[str]) -> Recipe:
    """The command as a shell reads it, on one line; invisible characters in the words are spelled out.

    >>> command_line(["diffuscope", "audit", "--data", "my data.csv"]).text
    "diffuscope audit --data 'my data.csv'"
    """
    return Recipe("console", " ".join(map(_quoted, words)))


def _quoted(word: str) -> str:
    if word.isprintable():
        return shlex.quote(word)
    spelled = "".join(c if c.isprintable() and c not in "\\'" else _spelled(c) for c in word)
    return f"$'{spelled}'"  # as bash and zsh read it


def _spelled(character: str) -> str:
    code = ord(character)
    return f"\\{character}" if character in "\\'" else f"\\x{code:02x}" if code < 128 else f"\\U{code:08x}"


def inert(text: str) -> str:
    """The text as Markdown that is nothing but that text, also in a cell of a table.

    >>> inert("a|b <i>`x`</i>")
    'a&#124;b &#60;i&#62;&#96;x&#96;&#60;/i&#62;'
    """
    visible = "".join(" " if unicodedata.category(c) in ("Cc", "Cf", "Zl", "Zp", "Cs") else c for c in text)
    return _STRUCTURE.sub(lambda found: f"&#{ord(found[0])};", " ".join(visible.split()))


def model_card(result: "AuditResult") -> str:
    """The section; see `AuditResult.model_card`."""
    word, sentence = result.verdict.word.replace("-", " "), result.verdict.sentence
    lines = [
        "## Audit",
        "",
        f"**Verdict: {word}.** {inert(sentence)}",
        "",
        "| question | answer | value | null hypothesis | power |",
        "|---|---|---|---|---|",
        *(_row(finding) for finding in result.verdicts),
        "",
        *(f"- {entry}" for entry in _facts(result)),
        "",
        "To repeat it, with the same files and versions:" if result.recipe.language == "console" else "To repeat it:",
        "",
        *_fenced(result.recipe),
        "",
    ]
    return "\n".join(lines)


def _row(finding: Finding) -> str:
    known = _NO_VALUE if finding.value != finding.value else finding.measured
    cells = (finding.title, finding.verdict, known, finding.null or _NO_VALUE, finding.power or _NO_VALUE)
    return f"| {' | '.join(map(inert, cells))} |"


def _facts(result: "AuditResult") -> list[str]:
    from .questions import QUESTIONS  # they know of pages, of which this is one

    subject = result.subject
    what = "model" if subject.has_model else "samples, without a model"
    count = "" if result.samples is None else f", {len(result.samples):,} samples"
    sizes = f"{len(subject.train):,} training and {len(subject.heldout):,} held-out examples{count}"
    if subject.train_groups is not None and subject.heldout_groups is not None:
        groups = (len(x.unique()) for x in (subject.train_groups, subject.heldout_groups))
        sizes += f"; {' and '.join(f'{number:,}' for number in groups)} groups"
    titles = [q.title for q in QUESTIONS if q not in result.answers and q.of != "samples"]  # `wiring` asks it of models
    titles += [q.title for q, answer in result.answers.items() if not answer.answered]
    return [
        f"Audited: {inert(subject.name)} ({what}).",
        f"Data: {inert(subject.data_name)}: {sizes}.",
        *(f"Note: {inert(note)}." for note in subject.notes),
        f"Not asked, or not answered: {inert(' '.join(titles))}" if titles else "All questions were asked.",
        "Not tested: other ways to copy or to leak than those named under power; a verdict is no guarantee.",
        f"Versions: {inert(', '.join(f'{name} {number}' for name, number in result.versions.items()))}.",
    ]


def _fenced(recipe: Recipe) -> list[str]:
    longest = max((len(run) for run in re.findall("`+", recipe.text)), default=0)
    fence = "`" * max(3, longest + 1)
    return [f"{fence}{recipe.language}", recipe.text, fence]
