"""Reproduce published experiments."""

import hashlib
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import tyro
from tqdm import tqdm

import diffuscope
from diffuscope.atomic import replace_atomically
from diffuscope.cli.commands import require_folder, write_json
from diffuscope.errors import InputError
from diffuscope.experiments import EXPERIMENTS, Experiment, Outcome, find
from diffuscope.report import charts_png, experiment_page, write_page


@dataclass(frozen=True)
class Reproduce:
    """Reproduce a published experiment: every claim is checked against the number that it must reach.

    Prints one line per claim, writes report.html, result.json and figure.png to a folder of --out named like the
    experiment, and exits with 1 if a claim fails.
    """

    name: tyro.conf.Positional[str] = ""
    """The experiment; --list shows them."""
    list: tyro.conf.FlagCreatePairsOff[bool] = False
    """Show the experiments with their sources, and run nothing."""
    all: tyro.conf.FlagCreatePairsOff[bool] = False
    """Run all of them; an interrupted run resumes."""
    fresh: tyro.conf.FlagCreatePairsOff[bool] = False
    """With --all: run again what is already there."""
    seed: int = 0
    """Decides every random number."""
    out: Path = Path("out/reproduce")
    """Folder for the results."""

    def run(self) -> None:
        """List, run one, or run all."""
        chosen = [bool(self.name), self.list, self.all]
        if sum(chosen) != 1:
            raise InputError("name: expected the name of an experiment, or --list, or --all")
        if self.list:
            for experiment in EXPERIMENTS:
                print(f"{experiment.name:16} {experiment.title} ({experiment.source}; {experiment.seconds:g} s)")
            return
        experiment = find(self.name)
        self._one(experiment)

    def _one(self, experiment: Experiment) -> None:
        folder = self.out / experiment.name
        require_folder(folder)
        start = time.perf_counter()
        with tqdm(total=len(experiment.parts), desc=experiment.name, unit="question", leave=False) as bar:

            def advance(question: str) -> None:
                bar.set_postfix_str(question)
                bar.update()

            outcome = experiment.run(self.seed, advance)
        write_outcome(outcome, time.perf_counter() - start, folder)
        for claim in outcome.claims:
            print(f"{'ok  ' if claim.holds else 'FAIL'} {claim.title}: {claim.measured}, must be {claim.requirement}")
        print(f"Report: {folder / 'report.html'}")
        if outcome.failures:
            names = ", ".join(claim.name for claim in outcome.failures)
            print(f"{experiment.name} fails: {names}", file=sys.stderr)
            sys.exit(1)


def write_outcome(outcome: Outcome, seconds: float, folder: Path) -> None:
    """report.html, figure.png, and result.json last."""
    charts = tuple(chart for answer in outcome.answers.values() for chart in answer.charts)
    write_page(experiment_page(outcome, seconds), folder / "report.html")
    replace_atomically(folder / "figure.png", charts_png(charts, outcome.experiment.title))
    write_json(outcome.as_json() | {"seconds": seconds, "seed": outcome.seed, "code": code()}, folder / "result.json")


def code() -> str:
    """SHA-256 of every source file of the package: results of one code and seed are the same results."""
    root = Path(diffuscope.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(str(path.relative_to(root)).encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()
