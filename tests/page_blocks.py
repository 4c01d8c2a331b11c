"""The fenced blocks of a Markdown page, and the commands of a console block.

A fence is three or more backquotes, tildes or colons. A directive holds blocks of its own, except `{code-block}`, which
is one; fences in lists and quotations lose the indent or the mark of their first line.
"""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FENCE = re.compile(r"^(?P<indent>[\s>]*(?:[-*+]\s+|\d+\.\s+)?)(?P<fence>`{3,}|~{3,}|:{3,})\s*(?P<info>.*)$")
DIRECTIVE = re.compile(r"\{([\w:-]+)\}\s*(.*)")
CODE = ("code-block", "code", "sourcecode")
FILE = re.compile(r"(?:#|//) ([\w./-]+\.\w+)\n")  # a first line that names the file which the block is


@dataclass(frozen=True, kw_only=True)
class Block:
    """A block, the line of the page with its first character, and the second-level section that it is in."""

    line: int
    language: str
    text: str
    section: str

    @property
    def file(self) -> str | None:
        """The name in its first line, if that is a comment with nothing but one."""
        found = FILE.match(self.text)
        return found[1] if found else None


@dataclass(frozen=True, kw_only=True)
class Command:
    """A command of a console block: variables set for it alone, its words, and where its output goes.

    `comment` is what the page says behind it, `expected` the lines printed below it in the same block, `stdin` a here
    document.
    """

    line: int
    text: str
    variables: dict[str, str]
    words: tuple[str, ...]
    target: str | None = None
    appended: bool = False
    comment: str = ""
    expected: str = ""
    stdin: str = ""


def blocks_of(path: Path) -> list[Block]:
    """The blocks of a page in order."""
    return [*_blocks(path.read_text(encoding="utf-8").splitlines(), 1, "")]


def _blocks(lines: list[str], first: int, section: str) -> Iterator[Block]:
    at = 0
    while at < len(lines):
        if found := re.match(r"##? (.*)", lines[at]):
            section = found[1]
        start = FENCE.match(lines[at])
        at += 1
        if not start:
            continue
        end = at
        while end < len(lines) and not _closes(lines[end], start["fence"]):
            end += 1
        if end == len(lines):
            raise ValueError(f"line {first + at - 1}: the fence {start['fence']} is not closed")
        # a mark of a list is as wide as the indent of what follows; a mark of a quotation is repeated
        width = len(start["indent"])
        inside = [line[width:] if not line[:width].strip(" >") else line for line in lines[at:end]]
        directive, language = DIRECTIVE.match(start["info"]), start["info"].split(" ")[0]
        if directive and directive[1] not in CODE:
            yield from _blocks(inside, first + at, section)
        else:
            skipped = 0
            if directive:
                language = directive[2]
                while skipped < len(inside) and re.match(r":[\w-]+:|$", inside[skipped]):
                    skipped += 1
            text = "\n".join(inside[skipped:]) + "\n"
            yield Block(line=first + at + skipped, language=language, text=text, section=section)
        at = end + 1


def _closes(line: str, fence: str) -> bool:
    bare = line.strip(" >\t")
    return len(bare) >= len(fence) and set(bare) == {fence[0]}


def commands_of(block: Block, programs: tuple[str, ...]) -> list[Command]:
    """The commands of a console block. Where no line has the prompt `$`, a line is one if it begins with a program."""
    found: list[Command] = []
    lines = block.text.splitlines()
    prompted = any(line.startswith("$ ") for line in lines)
    at = 0
    while at < len(lines):
        number, line = block.line + at, lines[at].removeprefix("$ ")
        is_command = lines[at].startswith("$ ") if prompted else _program(line) in programs or not found
        at += 1
        if not line.strip() or (line.startswith("#") and not (found and prompted)):
            continue
        if not is_command:
            last = found.pop()
            found.append(Command(**{**vars(last), "expected": f"{last.expected}{line}\n"}))
            continue
        while line.endswith("\\") and at < len(lines):
            line = f"{line[:-1]} {lines[at].strip().removeprefix('> ')}"
            at += 1
        stdin = ""
        line, comment = _without_comment(line)
        if here := re.search(r"<<-?\s*['\"]?(\w+)['\"]?", line):
            end = lines.index(here[1], at)
            line, stdin, at = line.replace(here[0], ""), "\n".join(lines[at:end]) + "\n", end + 1
        found += [_command(part, number, stdin, comment) for part in re.split(r"\s*&&\s*|\s*;\s*", line) if part]
    return found


def _without_comment(line: str) -> tuple[str, str]:
    """The line up to a `#` that no quotation holds, and what follows that."""
    found = re.match(r"((?:'[^']*'|\"[^\"]*\"|\\.|[^'\"#]|(?<=\S)#)*)(?:#(.*))?$", line)
    return (line, "") if found is None else (found[1].rstrip(), (found[2] or "").strip())


def _command(line: str, number: int, stdin: str, comment: str) -> Command:
    words, target, appended = shlex.split(line), None, False
    if words[-2:-1] in ([">"], [">>"]):
        appended, target, words = words[-2] == ">>", words[-1], words[:-2]
    variables: dict[str, str] = {}
    while words and re.match(r"[A-Z_]+=", words[0]):
        name, _, value = words.pop(0).partition("=")
        variables[name] = value
    return Command(
        line=number, text=line.strip(), variables=variables, words=tuple(words), target=target, appended=appended,
        comment=comment, stdin=stdin,
    )  # fmt: skip


def _program(line: str) -> str:
    words = [word for word in line.split() if not re.match(r"[A-Z_]+=", word)]
    return words[0].removeprefix(".venv/bin/") if words else ""
