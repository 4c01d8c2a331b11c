"""A page of the documentation, run block by block in an empty folder.

For authors. ```python blocks share one namespace, ```console lines run through the command's own entry point, a
```text block below one is what it prints (`...` stands for anything); a first line `# name.py` (or .csv, .yaml) makes
the block that file. The models and modules of `page_files/common` lie in the folder. What else a page needs, and what
makes it short, is said in `page_files/PAGE.py`; every name there is optional, and an entry that nothing uses fails:

| name | what it is |
|---|---|
| `prepare(run)` | writes the reader's files into the current folder; puts names of the reader's own into `run.names` |
| `SHORTER` | parts of Python blocks and what they are replaced with in the default run |
| `EFFORT` | beginnings of commands that do their work in the default run too, and the options for that |
| `LATER` | parts of Python blocks that only the slow run executes, with the reason |
| `after(run, block)` | what must hold after each block that ran |
| `check(run)` | what must hold afterwards; see `run.names`, `run.printed[command]`, `run.whole` (the slow run) |
"""

import ast
import contextlib
import doctest
import importlib
import importlib.util
import io
import os
import re
import shutil
import sys
import traceback
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import torch

import page_commands
from page_blocks import Block, blocks_of, commands_of

ROOT = Path(__file__).parents[1]
FILES = Path(__file__).with_name("page_files")
OPTIONAL = {  # imported by pages; not every machine that runs the tests has them
    "accelerate", "azula", "deepinv", "diffusers", "flow_matching", "k_diffusion", "lightning", "onnx", "onnxruntime",
    "onnxscript", "smalldiffusion", "tensorboard", "terrain_diffusion", "torchebm", "torchsde", "trackio",
    "transformers", "wandb",
}  # fmt: skip
CONSOLE = ("console", "sh", "bash")
READ = ("yaml", "json", "toml", "csv")  # parsed
ROUNDING = r"\d(?:\.\d+)?(?: × 10⁻¹[⁰¹²³⁴-⁹]|e-1\d)(?!\d)"  # below 1e-9
SHOWN = ("text", "bibtex", "math", "html")  # compared with what is printed above, or prose


class PageError(AssertionError):
    """What a page prints does not run; the message begins with the page and the line."""


@dataclass
class PageRun:
    """The state of a page: its namespace, what its commands printed, and which libraries are absent."""

    page: str
    whole: bool
    names: dict[str, Any] = field(default_factory=lambda: {"__name__": "__main__"})
    printed: dict[str, str] = field(default_factory=dict)
    lacks: dict[int, str] = field(default_factory=dict)
    later: set[int] = field(default_factory=set)  # lines of blocks that only the slow run executes
    used: set[str] = field(default_factory=set)
    last: tuple[str, str] | None = None  # stdout and stderr of the code above; None where it stopped before the work
    above: str | None = None  # the section of the code above
    unbound: set[str] = field(default_factory=set)  # names of blocks whose library is absent
    lacking: set[str] = field(default_factory=set)  # sections with such a block

    def __post_init__(self) -> None:
        self.path = ROOT / self.page
        self.extra = _module(FILES / f"{self.path.stem.lower()}.py")

    def table(self, name: str) -> dict[str, str]:
        return {} if self.extra is None else getattr(self.extra, name, {})

    @property
    def sections(self) -> list[str]:
        """The sections with a block, in order."""
        return [*dict.fromkeys(block.section for block in blocks_of(self.path))]

    def run(self) -> None:
        """Every block in order; raises PageError, with the page and the line, for the first that does not run."""
        blocks = blocks_of(self.path)
        for path in (FILES / "common").glob("*.py"):
            shutil.copy(path, path.name)
        if hasattr(self.extra, "prepare"):
            self.extra.prepare(self)  # type: ignore[union-attr]
        with self._figures():
            self._run(blocks)

    def _figures(self) -> contextlib.AbstractContextManager[object]:
        """Those of reports are drawn in the slow run: most of the time of a small audit, and no page asks for them."""
        if self.whole:
            return contextlib.nullcontext()
        return mock.patch("diffuscope.report.page.page_svg", return_value="<svg></svg>")

    def _run(self, blocks: list[Block]) -> None:
        for block in blocks:  # data below the command that reads them
            if block.file and block.language != "python":
                _write(block.file, block.text)
        for block in blocks:
            self._block(block)
            if hasattr(self.extra, "after") and block.line not in {*self.lacks, *self.later}:
                self.extra.after(self, block)  # type: ignore[union-attr]
        for block in blocks:
            if block.file and block.language == "python":
                self._import(block)
        if hasattr(self.extra, "check"):
            self.extra.check(self)  # type: ignore[union-attr]
        if not self.whole:
            unused = {*self.table("SHORTER"), *self.table("EFFORT"), *self.table("LATER")} - self.used
            if unused and not self.lacks:
                raise PageError(f"page_files/{self.path.stem.lower()}.py: nothing on the page uses {sorted(unused)}")

    def _block(self, block: Block) -> None:
        try:
            if block.language == "python":
                self._python(block)
            elif block.language in CONSOLE:
                self._console(block)
            elif block.language in READ:
                for command in page_commands.read(block.language, block.text):
                    self._console(Block(line=block.line, language="console", text=command, section=block.section))
            elif block.language in SHOWN and block.text.split(" ")[0].strip() in page_commands.PROGRAMS:
                raise PageError("a command; expected it in a console block")
            elif block.language in SHOWN:
                self._compare(block.text, block)
            else:
                raise PageError(f"expected a language of {('python', *CONSOLE, *READ, *SHOWN)}, got {block.language!r}")
        except (Exception, SystemExit) as error:
            if not self._lacking(block, error):
                raise PageError(f"{self.page}:{block.line}: {self._said(error)}") from error

    def _said(self, error: BaseException) -> str:
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if frame.filename == str(self.path)]
        where = f"line {lines[-1]}: " if lines else ""
        return f"{where}{error if isinstance(error, PageError) else f'{type(error).__name__}: {error}'}"

    def _lacking(self, block: Block, error: BaseException) -> bool:
        """Whether the block failed for want of an optional library, or of what such a block would have made."""
        said = str(error)
        missing = getattr(error, "name", None) if isinstance(error, ModuleNotFoundError) else None
        library = (missing or "").partition(".")[0]
        if found := re.search(r"(\w+) is not installed|No module named '(\w+)'", said):
            library = found[1] or found[2]
        unbound = re.search(r"name '(\w+)' is not defined", said)
        if re.search(r"no file \S*/weights/", said):
            library = "published weights"
        elif library not in OPTIONAL:
            if block.section not in self.lacking and not (unbound and unbound[1] in self.unbound):
                return False
            library = "the above"
        self.lacks[block.line] = library
        self.lacking.add(block.section)
        if block.language == "python":
            self.unbound |= bound(block.text)
        return True

    def _python(self, block: Block) -> None:
        text = block.text
        self.above, self.last = block.section, None
        if block.file:
            _write(block.file, text)
            compile(text, block.file, "exec")
            return
        for part, reason in self.table("LATER").items():
            if part in text and not self.whole:
                self.used.add(part)
                compile(text, str(self.path), "exec")
                assert reason
                self.later.add(block.line)
                return
        shortened = False
        for part, shorter in self.table("SHORTER").items():
            if part in text and not self.whole:
                self.used.add(part)
                text, shortened = text.replace(part, shorter), True
        out, err = io.StringIO(), io.StringIO()
        with self._warnings(text), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            if ">>> " in text:
                self._examples(text, block.line)
            else:
                exec(compile("\n" * (block.line - 1) + text, str(self.path), "exec"), self.names)
        self.last = None if shortened else (out.getvalue(), err.getvalue())

    def _examples(self, text: str, line: int) -> None:
        test = doctest.DocTestParser().get_doctest(text, self.names, self.page, str(self.path), line - 1)
        log = io.StringIO()
        runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
        runner.run(test, out=log.write, clear_globs=False)
        self.names.update(test.globs)
        if runner.summarize(verbose=False).failed:
            raise PageError(log.getvalue())

    @contextlib.contextmanager
    def _warnings(self, text: str):
        """Warnings are errors, but for those of other libraries."""
        with warnings.catch_warnings():
            if any(re.search(rf"\b{name}\b", text) for name in OPTIONAL):
                warnings.simplefilter("ignore")
            yield

    def _console(self, block: Block) -> None:
        if block.file:
            _write(block.file, block.text)
        for command in commands_of(block, page_commands.PROGRAMS):
            effort = None
            for start, options in self.table("EFFORT").items():
                if command.text.removeprefix("$ ").startswith(start):
                    self.used.add(start)
                    effort = options
            if not block.file:
                try:
                    with self._warnings(command.text):
                        self.last = page_commands.run(command, self.whole, effort)
                except (Exception, SystemExit) as error:
                    if not self._lacking(block, error):
                        raise PageError(f"line {command.line}: {self._said(error)}") from error
                    continue
            self.above = block.section
            if self.last is not None:
                self.printed[command.text] = "".join(self.last)
                if command.expected:
                    self._compare(command.expected, block)

    def _compare(self, text: str, block: Block) -> None:
        """A text below code is all of its output, or of its errors; a part of it where `...` stands for the rest."""
        if block.section != self.above or self.last is None:
            return
        out, err = self.last
        self.above = None
        if not any(_matches(text, got) for got in (out, err, out + err)):
            raise PageError(f"expected to be printed\n{text}got\n{out}{err}")

    def _import(self, block: Block) -> None:
        """A file of the page that nothing imported or ran is imported."""
        path = Path(block.file or "")
        if path.suffix != ".py" or path.stem in sys.modules or path in page_commands.executed:
            return
        try:
            with self._warnings(block.text):
                _module(path)
        except Exception as error:
            if not self._lacking(block, error):
                raise PageError(f"{self.page}:{block.line}: {self._said(error)}") from error


def bound(text: str) -> set[str]:
    """The names that a block of Python would make."""
    nodes = [*ast.walk(ast.parse(text))]
    imported = [alias for node in nodes if isinstance(node, ast.Import | ast.ImportFrom) for alias in node.names]
    stored = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    return stored | {alias.asname or alias.name for alias in imported}


def _matches(text: str, got: str) -> bool:
    """Up to white space and what is rounding, which differs between machines."""
    text, got = (re.sub(ROUNDING, "rounding", " ".join(each.split())) for each in (text, got))
    return doctest.OutputChecker().check_output(text, got, doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)


def _write(name: str, text: str) -> None:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text(text, encoding="utf-8")


def _module(path: Path) -> Any:
    if not path.exists():
        return None
    spec = importlib.util.spec_from_file_location(f"page_files_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@contextlib.contextmanager
def in_folder(folder: Path):
    """The folder is the current one and the first to import from; its modules are forgotten afterwards."""
    path, argv = [*sys.path], [*sys.argv]
    sys.path.insert(0, str(folder))
    page_commands.executed.clear()
    try:
        with contextlib.chdir(folder), torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            yield
    finally:
        sys.path[:], sys.argv[:] = path, argv
        for name, module in [*sys.modules.items()]:
            file = str(getattr(module, "__file__", None) or "")
            if file.startswith((f"{folder}{os.sep}", f"{folder.resolve()}{os.sep}")):
                del sys.modules[name]
