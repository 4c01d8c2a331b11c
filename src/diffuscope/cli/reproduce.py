"""Reproduce published experiments."""

import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import tyro
from tqdm import tqdm

from diffuscope.errors import InputError
from diffuscope.experiments import NAMES, Experiment, Outcome, Record, code_fingerprint, find
from diffuscope.experiments.page import experiment_page, experiments_index
from diffuscope.files import replace_atomically, write_json
from diffuscope.findings import Claim
from diffuscope.report import charts_png, write_page

from .options import require_folder


@dataclass(frozen=True)
class Reproduce:
    """Reproduce published experiments: every claim of theirs is checked against the number that it must reach.

    Prints one line per claim, writes report.html, result.json and figure.png to a folder of --out named like the
    experiment, and exits with 1 if a claim fails.
    """

    name: tyro.conf.Positional[str] = ""
    """The experiment; --list shows them."""
    list: tyro.conf.FlagCreatePairsOff[bool] = False
    """Show the experiments with their sources, and run nothing."""
    all: tyro.conf.FlagCreatePairsOff[bool] = False
    """Run all of them and write index.html; an interrupted run resumes when the same command is given again."""
    fresh: tyro.conf.FlagCreatePairsOff[bool] = False
    """With --all: also run again what is finished already."""
    seed: int = 0
    """Decides every random number."""
    out: Path = Path("out/reproduce")
    """Folder for the results."""

    def run(self) -> None:
        """List, run one, or run all; exit code 1 if a claim fails."""
        if [bool(self.name), self.list, self.all].count(True) != 1:
            raise InputError("name: expected the name of one experiment, or --list, or --all")
        if self.fresh and not self.all:
            raise InputError("fresh: it goes with --all; one experiment by name is always run again")
        if self.seed < 0:
            raise InputError(f"seed: expected a number >= 0, got {self.seed}")
        if self.list:
            print_list()
        elif self.all:
            self._run_all()
        else:
            self._run_one(find(self.name))

    def _run_one(self, experiment: Experiment) -> None:
        require_folder(self.out / experiment.name)
        with progress(len(experiment.parts)) as bar:
            outcome, record = self._reproduce(experiment, told_by(bar, experiment))
        print_claims(outcome.claims)
        print("".join(f"{line}\n" for line in unclaimed(outcome)), end="")
        print(f"Report: {self.out / experiment.name / 'report.html'}")
        _end([record])

    def _run_all(self) -> None:
        require_folder(self.out)
        experiments, records = [find(name) for name in NAMES], []
        with progress(sum(len(experiment.parts) for experiment in experiments)) as bar:
            for experiment in experiments:
                kept = None if self.fresh else Record.read(self.out / experiment.name / "result.json")
                if kept is not None and (kept.code, kept.seed) == (code_fingerprint(experiment.name), self.seed):
                    bar.update(len(experiment.parts))
                    bar.write(
                        f"{experiment.name}: kept, it is finished with this code and seed (--fresh runs it again)"
                    )
                    records.append(kept)
                    continue
                require_folder(self.out / experiment.name)
                outcome, record = self._reproduce(experiment, told_by(bar, experiment))
                bar.update()
                records.append(record)
                bar.write(f"{experiment.name}: {record.held} of {record.claims} claims hold, {record.seconds:.1f} s")
                if outcome.failures:
                    bar.write("\n".join(told(claim) for claim in outcome.failures))
                for line in unclaimed(outcome):
                    bar.write(line)
        print_summary(records)
        print(f"Index: {write_page(experiments_index(records), self.out / 'index.html')}")
        _end(records)

    def _reproduce(self, experiment: Experiment, advance: Callable[[str], object]) -> tuple[Outcome, Record]:
        start = time.perf_counter()
        outcome = experiment.run(self.seed, advance)
        record = Record.of(outcome, time.perf_counter() - start)
        write_outcome(outcome, record, self.out / experiment.name)
        return outcome, record


def write_outcome(outcome: Outcome, record: Record, folder: Path) -> None:
    """report.html and figure.png, and result.json last: where it lies, the others are finished."""
    charts = tuple(chart for answer in outcome.answers.values() for chart in answer.charts)
    write_page(experiment_page(outcome, record.seconds), folder / "report.html")
    replace_atomically(folder / "figure.png", charts_png(charts, outcome.experiment.title))
    write_json({"record": asdict(record)} | outcome.as_json(), folder / "result.json")


def progress(parts: int) -> tqdm:
    """A bar over the parts, gone when it is full."""
    return tqdm(total=parts, desc="reproducing", unit="part", leave=False, dynamic_ncols=True)


def told_by(bar: tqdm, experiment: Experiment) -> Callable[[str], object]:
    """What an experiment calls before each part: the bar shows its name and the question, and the parts behind it."""
    ahead = iter(range(bar.n, bar.n + len(experiment.parts)))

    def advance(question: str) -> None:
        bar.n = next(ahead)
        bar.set_postfix_str(f"{experiment.name}: {question}")

    return advance


def told(claim: Claim) -> str:
    """The claim in one line."""
    return f"{'ok  ' if claim.holds else 'FAIL'} {claim.title}: {claim.measured}; must be {claim.requirement}"


def unclaimed(outcome: Outcome) -> list[str]:
    """A line for every part that claims nothing: it could not be run, and says why."""
    answers = ((part, outcome.answers[part.name]) for part in outcome.experiment.parts)
    return [f"--   {part.text} {answer.text}" for part, answer in answers if not answer.claims]


def print_claims(claims: tuple[Claim, ...]) -> None:
    """One line per claim."""
    print("\n".join(map(told, claims)))


def print_list() -> None:
    """The table of experiments."""
    rows = [(found.name, f"{found.seconds:g} s", found.title, found.source) for found in map(find, NAMES)]
    print_table(("name", "takes", "what it shows", "source"), rows)


def print_summary(records: "list[Record]") -> None:
    """The table of results."""
    rows = [
        (kept.name, f"{kept.held}/{kept.claims}", f"{kept.margin}: {kept.closest}", f"{kept.seconds:.1f} s")
        for kept in records
    ]
    print_table(("name", "claims held", "closest claim", "took"), rows)


def print_table(header: tuple[str, ...], rows: "list[tuple[str, ...]]") -> None:
    """Columns as wide as their longest cell."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    for row in (header, *rows):
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _end(records: "list[Record]") -> None:
    """Exit code 1 if anything failed."""
    failed = [record.name for record in records if not record.passed]
    if failed:
        print(f"claims fail: {', '.join(failed)}", file=sys.stderr)
        sys.exit(1)
