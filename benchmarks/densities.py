"""Exact densities against py-pde, fplanck and our own finite volumes: the time to a largest error of 1e-4.

Every solver gets the same box, start and end time. For each of its settings (method, tolerance, number of steps) the
fewest cells per axis with max |p - exact| <= 1e-4 at the centers are searched, and the fastest setting is timed:
processor time on one thread, median of interleaved rounds, all in one run. `set-up` is what a second density would not
pay again: our plan or eigendecomposition, the matrix of fplanck, the equation of the finite volumes. py-pde compiles
for every grid; that time is printed and counts in no ratio. Its settings are searched with its uncompiled backend.

Needs the peers: pip install py-pde fplanck. Those that are absent are named and left out.
"""

import argparse
import functools
import importlib
import importlib.util
import json
import math
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from diffuscope.densities import (
    CrankNicolson,
    Density,
    Grid,
    PeacemanRachford,
    PotentialDiffusion,
    equal_steps,
    evolve,
    gradient_equation,
    ornstein_uhlenbeck,
)
from diffuscope.exact import GaussianMixture

TARGET = 1e-4
ROUNDS = 15
STEPS = (5, 10, 20, 40, 80, 160, 320)
TOLERANCES = {"RungeKuttaSolver": (1e-5,), "EulerSolver": (3e-5, 1e-5, 3e-6, 1e-6)}  # looser: 1e-4 is out of reach

Values = np.ndarray


@dataclass(frozen=True)
class Problem:
    """dX = -grad U dt + sqrt(2 D) dB on the box [-half, half]^d, from `start` to `exact` at the time `end`."""

    name: str
    dimensions: int
    half: float
    diffusivity: float
    end: float
    potential: Callable[..., Values]  # of the coordinates, NumPy or torch
    equation: str  # the right side for py-pde
    start: Callable[[Grid], Tensor]
    exact: Callable[[Grid], Tensor]

    def grid(self, cells: int) -> Grid:
        return Grid.square(-self.half, self.half, cells, dimensions=self.dimensions)

    def error(self, values: Values, cells: int) -> float:
        error = float(np.abs(values - self.exact(self.grid(cells)).numpy()).max())
        return error if math.isfinite(error) else math.inf


@dataclass(frozen=True)
class Ready:
    """A solver set up on a grid: how long that took, and the call that makes the density at the end."""

    set_up: float  # seconds
    solve: Callable[[], Values]
    compilation: float = 0.0  # seconds, beside the set-up


@dataclass(frozen=True)
class Contestant:
    """A solver with one setting; its cells per axis are sought among multiples of `multiple`, from `first` on."""

    solver: str
    setting: str
    prepare: Callable[[Problem, int], Ready]
    multiple: int
    first: int
    most: int
    search: Callable[[Problem, int], Ready] | None = None  # what finds the cells, where `prepare` is slow

    def smallest(self, problem: Problem) -> int | None:
        """The fewest cells per axis that reach the target; None if more of them do not help."""

        @functools.cache
        def error(n: int) -> float:
            try:
                return problem.error((self.search or self.prepare)(problem, n).solve(), n)
            except (ArithmeticError, RuntimeError):  # py-pde's time step became too small
                return math.inf

        n = self.first
        while error(n) > TARGET:
            guess = math.ceil(n * min(2.0, math.sqrt(error(n) / TARGET)) / self.multiple)  # as if of order 2
            before, n = n, max(n + self.multiple, guess * self.multiple)
            if n > self.most or error(n) > 0.95 * error(before):
                return None
        while n > self.multiple and error(n - self.multiple) <= TARGET:
            n -= self.multiple
        return n


def spectral(problem: Problem, cells: int) -> Ready:
    """The exact semigroup for a harmonic potential, diagonalization for any other."""
    grid = problem.grid(cells)
    start = Density(grid, problem.start(grid))
    if problem.potential is harmonic:

        def plan() -> Callable[[], Tensor]:
            step = ornstein_uhlenbeck(problem.end, grid, diffusivity=problem.diffusivity)
            return lambda: step.apply(start.values)
    else:

        def plan() -> Callable[[], Tensor]:
            well = PotentialDiffusion.diagonalize(
                lambda x: problem.potential(*x.unbind(1)),  # type: ignore[arg-type]
                grid,
                diffusivity=problem.diffusivity,
            )
            return lambda: well.evolve(start, problem.end, tolerance=math.inf).values

    plan()()
    begun = time.process_time()
    solve = plan()
    planned = time.process_time() - begun
    begun = time.process_time()
    solve()  # the first call of a transition makes its chirps
    first = time.process_time() - begun
    begun = time.process_time()
    solve()
    return Ready(planned + max(0.0, first - (time.process_time() - begun)), lambda: solve().numpy())


def finite_volumes(steps: int) -> Callable[[Problem, int], Ready]:
    """Scharfetter-Gummel in space; Crank-Nicolson or alternating directions in time."""

    def prepare(problem: Problem, cells: int) -> Ready:
        grid = problem.grid(cells)
        begun = time.process_time()
        equation = gradient_equation(
            grid,
            lambda x: problem.potential(*x.unbind(1)),  # type: ignore[arg-type]
            problem.diffusivity,
        )
        set_up = time.process_time() - begun
        start, times = Density(grid, problem.start(grid)), equal_steps(0.0, problem.end, steps)
        scheme = CrankNicolson() if problem.dimensions == 1 else PeacemanRachford()
        return Ready(set_up, lambda: evolve(equation, start, times, scheme).values.numpy())

    return prepare


def py_pde(method: str, tolerance: float, backend: str) -> Callable[[Problem, int], Ready]:
    """An adaptive explicit method of py-pde; the stepper is made and warmed before it is timed."""
    pde = importlib.import_module("pde")

    def prepare(problem: Problem, cells: int) -> Ready:
        start = pde.ScalarField(
            pde.CartesianGrid([[-problem.half, problem.half]] * problem.dimensions, cells),
            problem.start(problem.grid(cells)).numpy(),
        )
        equation = pde.PDE({"p": problem.equation}, bc={"value": 0})
        first_step = 1e-4
        begun = time.process_time()
        solver = getattr(pde, method)(equation, backend=backend, adaptive=True, tolerance=tolerance)
        stepper = solver.make_stepper(start, dt=first_step)

        def solve() -> Values:
            state, solver.info["dt"] = start.copy(), first_step
            stepper(state, 0.0, problem.end)
            return state.data

        if backend != "numpy":
            solve()
        return Ready(0.0, solve, compilation=time.process_time() - begun)

    return prepare


def fplanck_solver(problem: Problem, cells: int) -> Ready:
    """fplanck in units of its Boltzmann constant: drag 1, so that D is the temperature."""
    fplanck = importlib.import_module("fplanck")
    setattr(np, "product", np.prod)  # noqa: B010  # which it calls, and NumPy 2 removed

    width = 2 * problem.half / cells
    start = problem.start(problem.grid(cells)).numpy()
    begun = time.process_time()
    solver = fplanck.fokker_planck(
        temperature=problem.diffusivity / fplanck.k,
        drag=1,
        extent=[2 * problem.half * (1 - 1e-12)] * problem.dimensions,
        resolution=width,
        potential=problem.potential,
        boundary=fplanck.boundary.reflecting,
    )
    set_up = time.process_time() - begun
    # a density here, a probability per cell there
    return Ready(set_up, lambda: solver.propagate(lambda *_: start, problem.end, normalize=False))


def harmonic(*x: Values) -> Values:
    return sum(x_k**2 for x_k in x) / 2  # type: ignore[return-value]


def mixture(dimensions: int) -> GaussianMixture:
    means = torch.tensor([[2.0, 1.0], [-2.0, -1.0]], dtype=torch.float64)[:, :dimensions]
    return GaussianMixture.isotropic(torch.tensor([0.5, 0.5]), means, torch.tensor([0.25, 0.25]))


def ornstein_uhlenbeck_problem(dimensions: int) -> Problem:
    """Two narrow modes at time 1 of dX = -X dt + sqrt(2) dB: the analytic mixture."""
    axes = "xyz"[:dimensions]
    distribution, alpha = mixture(dimensions), math.exp(-1)
    return Problem(
        f"OU, {dimensions}-D",
        dimensions,
        6.0,
        1.0,
        1.0,
        harmonic,
        "laplace(p) + " + " + ".join(f"d_d{x}({x} * p)" for x in axes),
        lambda grid: grid.evaluate(lambda x: distribution.log_prob(x, 1.0, 1e-9)),
        lambda grid: grid.evaluate(lambda x: distribution.log_prob(x, alpha, math.sqrt(1 - alpha**2))),
    )


def double_well_problem() -> Problem:
    """U = (x^2 - 1)^2, D = 1/2, from N(-1/2, .05) to time 1; the reference is diagonalized on 256 cells.

    The tests compare that method with closed forms and with collocation of p itself, to 5e-11.
    """

    def potential(x: Values) -> Values:
        return (x**2 - 1) ** 2

    def start(grid: Grid) -> Tensor:
        return torch.exp(-((grid.centers() + 0.5) ** 2) / 0.1) / math.sqrt(0.1 * math.pi)

    half, end = 2.4, 1.0
    fine = Grid.line(-half, half, 256)
    well = PotentialDiffusion.diagonalize(lambda x: potential(x[:, 0]), fine, diffusivity=0.5)  # type: ignore[arg-type]
    reference = well.evolve(Density(fine, start(fine)), end, tolerance=1e-9).values

    def exact(grid: Grid) -> Tensor:  # its sinc interpolant
        return torch.sinc((grid.centers()[:, None] - fine.centers()) / fine.widths[0]) @ reference

    return Problem(
        "double well, 1-D",
        1,
        half,
        0.5,
        end,
        potential,
        "0.5 * laplace(p) + d_dx(4 * x * (x**2 - 1) * p)",
        start,
        exact,
    )


def contestants(problem: Problem) -> Iterator[Contestant]:
    line = problem.dimensions == 1
    yield Contestant("ours, spectral", "", spectral, 2, 12, 128)
    for steps in STEPS:
        setting = f"{'Crank-Nicolson' if line else 'alternating directions'}, {steps} steps"
        yield Contestant("ours, finite volumes", setting, finite_volumes(steps), 8, 64, 1024 if line else 320)
    if importlib.util.find_spec("pde"):
        for method, tolerances in TOLERANCES.items():
            for tolerance in tolerances:
                compiled, plain = (py_pde(method, tolerance, backend) for backend in ("numba", "numpy"))
                name, setting = f"py-pde, {method.removesuffix('Solver')}", f"tolerance {tolerance:.0e}"
                yield Contestant(name, setting, compiled, 8, 96, 1024 if line else 256, plain)
    if importlib.util.find_spec("fplanck"):
        yield Contestant("fplanck", "", fplanck_solver, 8, 64, 1024 if line else 256)


def seconds(solve: Callable[[], object]) -> float:
    """Of one call, from as many as fill 2 ms."""
    begun = time.process_time()
    solve()
    calls = max(1, int(2e-3 / (time.process_time() - begun)))
    begun = time.process_time()
    for _ in range(calls):
        solve()
    return (time.process_time() - begun) / calls


def fastest(problem: Problem) -> dict[str, tuple[Contestant, int]]:
    """For every solver the setting, at its fewest cells, that takes least time in the backend of the search."""
    best: dict[str, tuple[float, Contestant, int]] = {}
    for contestant in contestants(problem):
        n = contestant.smallest(problem)
        if n is None:
            continue
        took = seconds((contestant.search or contestant.prepare)(problem, n).solve)
        if contestant.solver not in best or took < best[contestant.solver][0]:
            best[contestant.solver] = took, contestant, n
    return {solver: (contestant, n) for solver, (_, contestant, n) in best.items()}


def measure(problem: Problem, rounds: int) -> list[dict]:
    chosen = fastest(problem)
    ready = {solver: contestant.prepare(problem, n) for solver, (contestant, n) in chosen.items()}
    times: dict[str, list[float]] = {solver: [] for solver in ready}
    for _ in range(rounds):
        for solver, each in ready.items():
            times[solver].append(seconds(each.solve))
    rows = []
    for solver, (contestant, n) in chosen.items():
        rows.append(
            {
                "problem": problem.name,
                "solver": solver,
                "setting": contestant.setting,
                "cells": n,
                "error": problem.error(ready[solver].solve(), n),
                "compilation_s": ready[solver].compilation,
                "set_up_ms": 1e3 * ready[solver].set_up,
                "solve_ms": 1e3 * statistics.median(times[solver]),
                "solve_ms_all": [1e3 * value for value in times[solver]],
            }
        )
    ours = rows[0]
    for row in rows:
        row["ratio"] = row["solve_ms"] / ours["solve_ms"]
        row["ratio_with_our_set_up"] = row["solve_ms"] / (ours["solve_ms"] + ours["set_up_ms"])
        compiled = f"{row['compilation_s']:.0f} s" if row["compilation_s"] else ""
        print(
            f"| {row['problem']} | {row['solver']} | {row['setting']} | {row['cells']} | {row['error']:.1e} "
            f"| {compiled} | {row['set_up_ms']:.3g} | {row['solve_ms']:.3g} | {row['ratio']:.3g} "
            f"| {row['ratio_with_our_set_up']:.3g} |",
            flush=True,
        )
    return rows


def main() -> None:
    problems = {
        "ou1": functools.partial(ornstein_uhlenbeck_problem, 1),
        "ou2": functools.partial(ornstein_uhlenbeck_problem, 2),
        "well": double_well_problem,
    }
    parser = argparse.ArgumentParser(description=str(__doc__))
    parser.add_argument("--only", nargs="*", choices=list(problems), help="problems to run")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--out", type=Path, default=Path("out/densities"), help="where results.json goes")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    print(f"The time to a largest error of {TARGET:g}; one thread, median of {arguments.rounds} interleaved rounds.\n")
    absent = [
        name for name, module in (("py-pde", "pde"), ("fplanck", "fplanck")) if not importlib.util.find_spec(module)
    ]
    print(*(f"{name} is absent and left out.\n" for name in absent))
    print("| problem | solver | setting | cells per axis | error | compiled in | set-up, ms | solve, ms ", end="")
    print("| solve / our solve | solve / our set-up and solve |\n" + "|--:" * 10 + "|")
    rows: list[dict] = []
    with threadpool_limits(1):
        for name in arguments.only or problems:
            rows += measure(problems[name](), arguments.rounds)
            (arguments.out / "results.json").write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
