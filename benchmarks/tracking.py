"""Trajectories of the exact denoiser of images: tracked with a certificate, by attention, and by `Empirical.denoise`.

18 noise levels of EDM (sigma 80 to 0.002), 64 samples, data in [-1, 1], deterministic samplers. All contestants are
evaluated at every state of one trajectory, one after the other, so that a ratio is one of neighbors in time; each
tolerance has a past of its own. Seconds are those of one thread's processor time, which other work on the machine
disturbs least. Errors are those of four samples against sums in float64, at every third evaluation.

    python benchmarks/tracking.py mnist out/tracking          # a minute; 1.5 GB
    python benchmarks/tracking.py cifar10 out/tracking        # some minutes; 3 GB
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from diffuscope.data import load_data
from diffuscope.exact import Empirical, TrackedEmpirical
from diffuscope.exact._posterior import Noised
from diffuscope.exact.tracked_scores import float64_mean
from diffuscope.samplers import DPMSolverPP2M, Heun, trajectory
from diffuscope.schedules import VE
from diffuscope.times import karras_times

TOLERANCES = (1e-2, 3e-3, 1e-3, 1e-4)
SIZES = {"mnist": 60_000, "cifar10": 50_000}
SAMPLERS = {"DPM-Solver++(2M)": DPMSolverPP2M(), "Heun": Heun()}
SAMPLERS_OF = {"mnist": tuple(SAMPLERS), "cifar10": ("DPM-Solver++(2M)",)}
BATCH, LEVELS = 64, 18
CHECKED, EVERY = 4, 3  # samples compared with float64, at every third evaluation


class Contest:
    """A denoiser that has every contestant evaluate every state and answers with the most exact tracked one."""

    schedule = VE()

    def __init__(self, empirical: Empirical, tracked: dict[float, TrackedEmpirical]) -> None:
        self.empirical, self.tracked = empirical, tracked
        self.records: list[dict] = []

    def __call__(self, x_t: Tensor, t: Tensor | float) -> Tensor:
        alpha, sigma = 1.0, float(self.schedule.sigma(t))
        table, n = self.empirical._table, len(x_t)
        ones, sigmas = torch.ones(n, dtype=torch.float64), torch.full((n,), sigma, dtype=torch.float64)

        def attention() -> Tensor:
            noised = Noised.at(x_t.flatten(1), ones, sigmas, table.center, torch.float32)
            bias = (-noised.kappa[0] * table.half_squares).float()[None, None, None]
            keys = table.points.expand(1, 1, -1, -1)
            return scaled_dot_product_attention(noised.queries[None, None], keys, keys, bias, scale=1.0)[0, 0]

        record: dict = {"sigma": sigma, "attention": timed(attention)[1]}
        record["empirical"] = timed(lambda: self.empirical.denoise(x_t, alpha, sigma))[1]
        rows = slice(0, CHECKED)
        checked = len(self.records) % EVERY == 0
        exact = float64_mean(table, x_t[rows].flatten(1).double(), ones[rows], sigmas[rows])[0] if checked else None
        answer = x_t
        for tolerance, tracked in self.tracked.items():
            result, seconds = timed(lambda tracked=tracked: tracked.denoise_with_error(x_t, alpha, sigma))
            error = torch.zeros(1)
            if exact is not None:
                error = (result.value[rows].flatten(1).double() - exact).norm(dim=1) / exact.norm(dim=1)
            record[f"{tolerance:g}"] = {
                "seconds": seconds,
                "bound": float(result.relative_error.max()),
                "error": float(error.max()),
                "work": dict(vars(tracked.work)),
            }
            answer = result.value
        self.records.append(record)
        return answer


def points_of(name: str) -> Tensor:
    """As many images as the training set has, in [-1, 1]."""
    data = load_data(name).in_range(-1.0, 1.0)
    enough = len(data.train) >= SIZES[name]
    return (data.train if enough else torch.cat([data.train, data.heldout]))[: SIZES[name]]


def timed(run: Callable[[], object]) -> tuple:
    start = time.process_time()
    result = run()
    return result, time.process_time() - start


def main(name: str, folder: Path) -> None:
    torch.set_num_threads(1)
    points = points_of(name)
    empirical = Empirical(points)
    built, seconds = timed(lambda: TrackedEmpirical(empirical))
    print(f"{name}: {len(points):,} x {points[0].numel():,}, {BATCH} samples; set up in {seconds:.1f} s.\n")
    print(
        "| sampler | tolerance | attention / ours | Empirical / ours | ours, s | largest bound | largest error "
        "| frozen, few, many, float64 | products |"
    )
    print("|---|" + "--:|" * 8)
    times = karras_times(VE(), 80.0, 0.002, LEVELS - 1)
    results = {}
    for label in SAMPLERS_OF[name]:
        sampler = SAMPLERS[label]
        tracked = {tolerance: built.with_tolerance(tolerance) for tolerance in TOLERANCES}
        contest = Contest(empirical, tracked)
        x = 80 * torch.randn(BATCH, *points.shape[1:], generator=torch.Generator().manual_seed(0))
        for state in trajectory(sampler, contest, x, times):
            x = state.x_t
        contest(x, times[-1])  # the denoise at the last level
        results[label] = contest.records
        for tolerance in TOLERANCES:
            own = [record[f"{tolerance:g}"] for record in contest.records]
            ours = sum(record["seconds"] for record in own)
            ratios = [sum(record[other] for record in contest.records) / ours for other in ("attention", "empirical")]
            work = tracked[tolerance].work
            print(
                f"| {label}, {len(own)} evaluations | {tolerance:g} | {ratios[0]:.1f} | {ratios[1]:.1f} | {ours:.2f} "
                f"| {max(record['bound'] for record in own):.1e} | {max(record['error'] for record in own):.1e} "
                f"| {work.frozen}, {work.few}, {work.many}, {work.in_float64} | {work.products} |",
                flush=True,
            )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in SIZES:
        sys.exit("usage: python benchmarks/tracking.py mnist|cifar10 [FOLDER]")
    main(sys.argv[1], Path(sys.argv[2] if len(sys.argv) > 2 else "out/tracking"))
