"""Grade posterior samplers: which method gets the posterior right?"""

import multiprocessing
import queue
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from diffuscope.adapters.azula_posterior import methods as azula_methods
from diffuscope.errors import InputError
from diffuscope.files import load_object, replace_atomically, write_json
from diffuscope.findings import Chart
from diffuscope.physics.grading import (
    FAMILIES,
    METHODS,
    Entry,
    Row,
    Settings,
    grade,
    grading_json,
    grading_page,
)
from diffuscope.physics.grading.page import headline, shown
from diffuscope.progress import progress_bar
from diffuscope.report import charts_png, write_page
from diffuscope.streams import require_seed

from .failures import kind_and_text, modules_named, one_line, user_place
from .options import require_within, writing

FILES = ("grading.html", "grading.json", "grading.png")


@dataclass(frozen=True)
class Grade:
    """Grade posterior samplers on problems whose posterior is known exactly.

    Prints one line per method and family of problems, and writes grading.html, grading.json and grading.png to --out.
    Rerun the same command to resume an interrupted run. Families run side by side, one process per core at most
    (OMP_NUM_THREADS=1 for a single process).

    Example:
        One problem is too few for a verdict on any method:

        >>> from diffuscope.cli import main
        >>> main("grade --methods exact --cases gaussian --problems 1 --draws 16 --steps 2".split())
        gaussian
        method  verdict ...
        exact  cannot tell ...
        <BLANKLINE>
        0 of 1 methods get every posterior right; 0 get at least one wrong.
        Page: out/grading/grading.html
    """

    methods: tuple[str, ...] = ()
    """Methods by name, by default all: ours, and azula's where it is installed (azula:NAME)."""
    method: tuple[str, ...] = ()
    """Your own: module:callable(denoiser, observation, y, n, *, seed, steps) that returns n fields."""
    cases: tuple[str, ...] = ()
    """Families of problems, by default all: gaussian, finite-set-linear, finite-set-nonlinear, levy."""
    problems: int = 8
    """Problems in every family; a quarter of them, and half the noise levels, for levy."""
    draws: int = 128
    """Draws from every posterior."""
    steps: int = 50
    """Noise levels of every sampler."""
    seed: int = 0
    """Random seed."""
    out: Path = Path("out/grading")
    """Folder for the result."""

    def run(self) -> None:
        """Grade, print, write."""
        require_within("problems", self.problems, 1, 1000)
        require_within("draws", self.draws, 8, 100_000)
        require_within("steps", self.steps, 2, 10_000)
        require_seed(self.seed)
        families = self.cases or tuple(FAMILIES)
        if unknown := [name for name in families if name not in FAMILIES]:
            raise InputError(f"cases: expected some of {', '.join(FAMILIES)}, got {', '.join(unknown)}")
        entries = self._entries()
        with writing(self.out, *FILES):
            total = len(families) * (len(entries) + 1)
            with progress_bar(total=total, desc="grading", unit="method", leave=False) as bar:

                def advance(what: str) -> None:
                    bar.update()
                    bar.set_postfix_str(what)

                done = self._side_by_side(families, advance)
                rows = self._graded(families, (lambda _: None) if done else advance)
            settings = self._settings
            _print(rows)
            page = grading_page(rows, settings)
            write_json(grading_json(rows, settings), self.out / "grading.json")
            charts = tuple(block for section in page.sections for block in section.blocks if isinstance(block, Chart))
            if charts:
                replace_atomically(self.out / "grading.png", charts_png(charts, page.title))
            print(f"Page: {write_page(page, self.out / 'grading.html')}")

    @property
    def _settings(self) -> Settings:
        return Settings(problems=self.problems, draws=self.draws, steps=self.steps, seed=self.seed)

    def _graded(self, families: Sequence[str], advance: Callable[[str], None]) -> list[Row]:
        return grade(
            self._entries(), families, self._settings, folder=self.out / "kept", describe=self._describe(),
            advance=advance,
        )  # fmt: skip

    def _side_by_side(self, families: Sequence[str], advance: Callable[[str], None]) -> bool:
        """Fill the folder of what is kept, a family to a process, as many at once as there are cores, if several."""
        cores = torch.get_num_threads()
        at_once = min(len(families), cores)
        if at_once < 2:
            return False
        context = multiprocessing.get_context("spawn")
        done, waiting, running = context.Queue(), list(families), []
        while waiting or running:
            while waiting and len(running) < at_once:
                arguments = (self, waiting.pop(0), cores // at_once, done)
                process = context.Process(target=_one_family, args=arguments, daemon=True)
                process.start()
                running.append(process)
            try:
                advance(done.get(timeout=0.2))
            except queue.Empty:
                running = [process for process in running if process.is_alive()]
        return True

    def _entries(self) -> list[Entry]:
        known = dict(METHODS)
        try:
            known |= azula_methods()
        except InputError:
            if any(name.startswith("azula:") for name in self.methods):
                raise
        if unknown := [name for name in self.methods if name not in known]:
            raise InputError(f"methods: expected some of {', '.join(known)}, got {', '.join(unknown)}")
        chosen = [known[name] for name in self.methods] if self.methods or self.method else [*known.values()]
        for spec in self.method:
            found = load_object(spec, "method")
            if not callable(found):
                raise InputError(f"method: expected a callable, got {spec}, a {type(found).__name__}")
            method: Any = found
            chosen.append(Entry(spec, spec, method))
        return chosen

    def _describe(self) -> Callable[[Exception], str]:
        modules = modules_named(self.method)

        def describe(error: Exception) -> str:
            place = user_place(error, modules)
            said = str(error) if isinstance(error, InputError) else kind_and_text(error)
            return one_line(f"{said} ({place})" if place else said)

        return describe


def _one_family(command: Grade, family: str, threads: int, done: Any) -> None:
    """What a process does; an error is met again, and reported, where all families are put together."""
    torch.set_num_threads(threads)
    try:
        command._graded([family], done.put)
    except (Exception, KeyboardInterrupt):
        return


def _print(rows: list[Row]) -> None:
    columns = ("mean", "spread", "coverage", "crps", "energy")
    for family in dict.fromkeys(row.family for row in rows):
        group = [row for row in rows if row.family == family]
        width = max(len(row.method) for row in group)
        print(f"{family}\n{'method':{width}}  verdict         mean  variance  coverage    CRPS%  energy%  CPU s  why")
        for row in group:
            numbers = [shown(row, name) for name in columns]
            texts = ["-" if value is None else f"{value:.3g}" for value in numbers]
            cells = "".join(f" {text:>{size}}" for text, size in zip(texts, (6, 10, 10, 7, 9), strict=True))
            print(f"{row.method:{width}}  {row.verdict:11}{cells}{row.seconds:7.1f}  {row.reason}")
        print()
    print(headline(rows))
