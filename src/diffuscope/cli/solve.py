"""Fields that satisfy a PDE and a few readings of them."""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import torch
import tyro
from torch import Tensor

from diffuscope.errors import InputError
from diffuscope.physics import prior_fields
from diffuscope.physics.example_readings import SHARE, example_readings
from diffuscope.physics.observation_file import read_sensors
from diffuscope.physics.prior_fields import Prior, Remember, generated_fields
from diffuscope.physics.prior_names import named_prior, public_prior
from diffuscope.physics.problem import Problem
from diffuscope.physics.problems import PROBLEMS
from diffuscope.physics.public_fields import NAMES, PublicFields, public_fields
from diffuscope.physics.solution import solve_inverse
from diffuscope.physics.solution_report import SolutionReport
from diffuscope.source import ROOT, source_fingerprint
from diffuscope.store import Store
from diffuscope.streams import require_seed

from .options import require_within, writing
from .weights import WeightsOptions, print_warnings

UNDECIDED = 3
HOLES = "pinnacle_poisson_classic"
WRITTEN = ("report.html", "solution.npz", "solution.json", "solution.png")


@dataclass(frozen=True)
class Solve:
    """Infer fields that satisfy a PDE and fit a few readings, with intervals, and check whether these are right.

    Prints what was inferred; writes report.html, solution.npz, solution.json and solution.png to --out. Exits with 3 if
    no interval can be given. Rerun the same command to resume an interrupted run.

    Example:
        >>> from diffuscope.cli import main
        >>> main("solve poisson-1d --prior gaussian --samples 10 --nodes 21".split())
        Problem: poisson-1d, Poisson's equation on an interval, 21 nodes
        ...
        Do the samples solve the equation?: Yes: ...
        Report: out/solve/report.html
    """

    problem: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="PROBLEM")]
    """poisson-1d, poisson-2d, darcy, helmholtz or burgers."""
    data: Path | None = None
    """Readings, a .csv or .npz file: columns x (x and y; t and x), then value and channel, or a column per channel,
    and the standard deviation noise. By default an example whose truth is known."""
    prior: str = "generated"
    """generated, a finite set of random fields; gaussian, exact for linear equations; open-boundary, with unknown
    boundary values; darcy_neuraloperator or burgers_neuraloperator; or module:object, a Distribution or a Denoiser."""
    network: tyro.conf.OmitArgPrefixes[WeightsOptions] = field(default_factory=WeightsOptions)
    noise: float | None = None
    """Standard deviation of the readings, 0 for exact ones; needed unless the file has a column noise."""
    samples: int = 100
    """Number of samples of the posterior."""
    fields: int = 4000
    """Number of generated fields of the prior."""
    nodes: int | None = None
    """Nodes along an axis; by default the problem's own, or those of the public fields."""
    out: Path = Path("out/solve")
    """Folder for the report."""
    seed: int = 0
    """Random seed."""

    def run(self) -> None:
        """Check, condition, print and write; exit code 3 where no interval can be given."""
        require_within("samples", self.samples, 2, 10**5)
        require_within("fields", self.fields, 50, 10**6)
        if self.nodes is not None:
            require_within("nodes", self.nodes, 11, 257)
        require_seed(self.seed)
        self.network.require(self.prior if ":" in self.prior else None, "--prior")
        if self.noise is not None and self.noise < 0:
            raise InputError(f"noise: expected a standard deviation >= 0, got {self.noise:g}")
        if self.problem not in PROBLEMS:
            raise InputError(f"problem: expected one of {', '.join(PROBLEMS)}, got {self.problem!r}")
        if self.data is not None and self.data.stem == HOLES:
            raise InputError(
                f"data: {HOLES} is a field on a square with four round holes, u = 1 on the square's boundary and 0 on "
                f"the holes, no field of {self.problem}; expected readings of one that vanishes on the boundary"
            )
        with writing(self.out, *WRITTEN):
            self._solve()

    def _solve(self) -> None:
        public = public_fields(self.prior) if self.prior in NAMES else None
        problem = self._problem(public)
        sensors = None if self.data is None else read_sensors(self.data, problem, self.noise)
        remember = self._store(problem).remember
        prior = self._prior(problem, public, remember)
        truth = None
        if sensors is None:
            truth = self._truth(problem, prior, public)
            noise = SHARE * _typical(prior, truth) if self.noise is None else self.noise
            sensors = example_readings(problem, truth, noise, seed=self.seed)
        found = solve_inverse(problem, sensors, prior, samples=self.samples, truth=truth, seed=self.seed, progress=True)
        report = SolutionReport(found)
        page = report.save(self.out)
        print("\n".join([*report.lines(), f"Report: {page}"]))
        if not found.has_intervals:
            print(f"{self.problem}: {report.headline[0].lower()}{report.headline[1:].rstrip('.')}", file=sys.stderr)
            sys.exit(UNDECIDED)

    def _problem(self, public: PublicFields | None) -> Problem:
        if public is None:
            return PROBLEMS[self.problem]() if self.nodes is None else PROBLEMS[self.problem](self.nodes)
        if public.problem != self.problem:
            raise InputError(f"prior: expected fields of {self.problem}, got {public.name}, fields of {public.problem}")
        if self.nodes not in (None, public.nodes):
            raise InputError(f"nodes: expected {public.nodes}, those of {public.name}, got {self.nodes}")
        return PROBLEMS[self.problem](public.nodes)

    def _store(self, problem: Problem) -> Store:
        """Generated fields, by everything that they depend on."""
        code = source_fingerprint(Path(prior_fields.__file__), ROOT / "physics" / "problems" / "__init__.py")
        return Store(self.out, {"code": code, "problem": self.problem, "shape": problem.event_shape, "seed": self.seed})

    def _prior(self, problem: Problem, public: PublicFields | None, remember: Remember) -> Prior:
        if public is not None:
            return public_prior(public)
        prior = named_prior(
            self.prior, problem, fields=self.fields, seed=self.seed, remember=remember, progress=True,
            weights=self.network.given,
        )  # fmt: skip
        print_warnings(prior.denoiser)
        return prior

    def _truth(self, problem: Problem, prior: Prior, public: PublicFields | None) -> Tensor:
        """A field that is not in the prior's set: held out, or generated anew."""
        if public is not None:
            return public.heldout[self.seed % len(public.heldout)]
        if self.prior == "open-boundary" and prior.distribution is not None:
            return prior.distribution.sample(1, generator=torch.Generator().manual_seed(self.seed))[0]
        return generated_fields(problem, 1, seed=self.seed, stream="truth")[0]


def _typical(prior: Prior, truth: Tensor) -> float:
    """The root mean square of the solution over the fields of the prior."""
    known = prior.fields if prior.fields is not None else prior.truths
    return float((truth[None] if known is None else known)[:, -1].square().mean().sqrt())
