"""Reproduce published experiments."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from tqdm import tqdm

from diffuscope.errors import InputError
from diffuscope.experiments import (
    NAMES,
    Experiment,
    Outcome,
    Record,
    code_fingerprint,
    experiments_index,
    find,
    of_source,
)
from diffuscope.findings import Claim
from diffuscope.progress import progress_bar
from diffuscope.report import write_page
from diffuscope.streams import require_seed

from .options import writing

WRITTEN = ("report.html", "result.json", "figure.png")


@dataclass(frozen=True)
class Reproduce:
    """Reproduce published experiments: every claim is checked against its required value.

    Prints one line per claim, writes report.html, result.json and figure.png to the folder of the experiment in --out,
    and exits with code 1 if a claim fails.

    Example:
        >>> from diffuscope.cli import main
        >>> main("reproduce --list".split())
        name ...
        heat-1d ... The heat equation in one dimension ...
    """

    name: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="NAME")] = ""
    """Name of the experiment; see --list."""
    list: tyro.conf.FlagCreatePairsOff[bool] = False
    """List the experiments and their sources without running any."""
    all: tyro.conf.FlagCreatePairsOff[bool] = False
    """Run all experiments and write index.html; rerun the same command to resume an interrupted run."""
    source: str = ""
    """Run all experiments of one source, in its order: article, cao, variance, noether, gaussian or painters. Writes
    SOURCE.html; resumes like --all."""
    fresh: tyro.conf.FlagCreatePairsOff[bool] = False
    """With --all or --source: also rerun the experiments that are already finished."""
    seed: int = 0
    """Random seed."""
    out: Path = Path("out/reproduce")
    """Folder for the results."""

    def run(self) -> None:
        """List the experiments, run one, or run all; exit code 1 if a claim fails."""
        if [bool(self.name), self.list, self.all, bool(self.source)].count(True) != 1:
            raise InputError("name: expected the name of one experiment, or --source, or --list, or --all")
        if self.fresh and not (self.all or self.source):
            raise InputError("fresh: only with --all or --source; a single experiment always runs again")
        require_seed(self.seed)
        if self.list:
            print_list()
        elif self.all:
            self._run_all(NAMES, "index.html")
        elif self.source:
            self._run_all(of_source(self.source), f"{self.source}.html")
        else:
            self._run_one(find(self.name))

    def _run_one(self, experiment: Experiment) -> None:
        with writing(self.out / experiment.name, *WRITTEN):
            with progress(len(experiment.parts)) as bar:
                outcome = experiment.run(self.seed, shown_by(bar, experiment))
            path = outcome.save(self.out / experiment.name)
        print("\n".join([*map(claim_line, outcome.claims), *unclaimed(outcome), f"Report: {path}"]))
        _end([outcome.record()])

    def _run_all(self, names: tuple[str, ...], index: str) -> None:
        with writing(self.out, index):
            self._run_every(names, index)

    def _run_every(self, names: tuple[str, ...], index: str) -> None:
        experiments, records = [find(name) for name in names], []
        with progress(sum(len(experiment.parts) for experiment in experiments)) as bar:
            for experiment in experiments:
                folder = self.out / experiment.name
                kept = None if self.fresh else Record.read(folder / "result.json")
                if kept is not None and (kept.code, kept.seed) == (code_fingerprint(experiment.name), self.seed):
                    bar.update(len(experiment.parts))
                    bar.write(f"{experiment.name}: already finished with this code and seed (--fresh reruns it)")
                    records.append(kept)
                    continue
                with writing(folder, *WRITTEN):
                    outcome = experiment.run(self.seed, shown_by(bar, experiment))
                    outcome.save(folder)
                bar.update()
                record = outcome.record()
                records.append(record)
                bar.write(f"{experiment.name}: {record.held} of {record.claims} claims hold, {record.seconds:.1f} s")
                for text in [*map(claim_line, outcome.failures), *unclaimed(outcome)]:
                    bar.write(text)
        print_summary(records)
        command = f"diffuscope reproduce {f'--source {self.source}' if self.source else '--all'}"
        print(f"Index: {write_page(experiments_index(records, command), self.out / index)}")
        _end(records)


def progress(parts: int) -> tqdm:
    """A progress bar over the parts, cleared at the end."""
    return progress_bar(total=parts, desc="reproducing", unit="part", leave=False)


def shown_by(bar: tqdm, experiment: Experiment) -> Callable[[str], object]:
    """The callback before each part: the bar counts the parts done, and shows the experiment and the question."""
    done = iter(range(bar.n, bar.n + len(experiment.parts)))

    def advance(question: str) -> None:
        bar.n = next(done)
        bar.set_postfix_str(f"{experiment.name}: {question}")

    return advance


def claim_line(claim: Claim) -> str:
    """The claim in one line."""
    return f"{'ok  ' if claim.holds else 'FAIL'} {claim.title}: {claim.measured}; required: {claim.requirement}"


def unclaimed(outcome: Outcome) -> list[str]:
    """One line for every part without claims, which could not run, with the reason."""
    answers = ((part, outcome.answers[part.name]) for part in outcome.experiment.parts)
    return [f"--   {part.text} {answer.text}" for part, answer in answers if not answer.claims]


def print_list() -> None:
    """The table of experiments."""
    rows = [(each.name, f"{each.seconds:g} s", each.title, each.source) for each in map(find, NAMES)]
    print_table(("name", "time", "title", "source"), rows)


def print_summary(records: list[Record]) -> None:
    """The table of results."""
    rows = [
        (record.name, f"{record.held}/{record.claims}", f"{record.margin}: {record.closest}", f"{record.seconds:.1f} s")
        for record in records
    ]
    print_table(("name", "claims that hold", "closest to failing", "time"), rows)


def print_table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    """Print a table, each column as wide as its longest cell."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    for row in (header, *rows):
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _end(records: list[Record]) -> None:
    """Exit with code 1 if a claim failed."""
    failed = [record.name for record in records if not record.passed]
    if failed:
        print(f"claims fail: {', '.join(failed)}", file=sys.stderr)
        sys.exit(1)
