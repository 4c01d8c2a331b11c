"""Few evaluations: the calibrated sampler against the samplers of azula, k-diffusion and diffusers.

Error = mean over starts of |end - exact end| / sqrt(D), the exact end being D at the end of a finely integrated
probability-flow trajectory from the same start. A budget counts every call of the denoiser, the final denoise too.

Everything is chosen on the calibration starts (seed 0) and scored on others (seed 1): ours is calibrated on them, and
of every peer on every grid of `GRIDS`, among them those that its own library recommends, the best pair counts. The
pairs are screened on an eighth of those starts (at least 16), and twice `--finalists` of them are compared on all.
`hindsight` is the ratio to the best of the finalists on the scored starts themselves.

Needs the peers: pip install azula diffusers, and --no-deps k-diffusion. Those that are absent are named and left out.
"""

import argparse
import contextlib
import json
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from diffuscope.adapters import load_target
from diffuscope.certify import Target
from diffuscope.denoisers import Denoiser, nearest_trained_time
from diffuscope.errors import InputError
from diffuscope.exact import Gaussian
from diffuscope.samplers import Calibrated, calibrate, sample
from diffuscope.schedules import VE
from diffuscope.times import karras_times, log_snr_times
from sampler_problems import PUBLISHED, Problem, exact_digits, mixture, published, trained, trained_digits

ROUNDING = 1e-12  # on finite data both land on the same point from some budget on
BUDGETS = (5, 8, 10, 15, 20, 35)
PEERS = (
    "azula:DDIMSampler?eta=0",
    "azula:HeunSampler",
    "azula:zEABSampler?order=2",
    "azula:zEABSampler?order=3",
    "azula:zEABSampler?order=4",
    "azula:xEABSampler?order=2",
    "azula:xEABSampler?order=3",
    "azula:vABSampler?order=3",
    "azula:vABSampler?order=4",
    "azula:REABSampler?order=3",
    "k_diffusion:sample_heun",
    "k_diffusion:sample_lms",
    "k_diffusion:sample_dpm_2",
    "k_diffusion:sample_dpmpp_2m",
    "diffusers:DPMSolverMultistepScheduler?solver_order=2",
    "diffusers:DPMSolverMultistepScheduler?solver_order=3",
    "diffusers:UniPCMultistepScheduler?solver_order=2",
    "diffusers:UniPCMultistepScheduler?solver_order=3",
    "diffusers:DEISMultistepScheduler?solver_order=3",
)


def karras(rho: float, last: float) -> Callable[[Denoiser, int], Tensor]:
    def grid(denoiser: Denoiser, steps: int) -> Tensor:
        s = denoiser.schedule
        return karras_times(s, s.t_max, max(last, s.t_min), steps, rho)

    return grid


def log_uniform(last: float) -> Callable[[Denoiser, int], Tensor]:
    def grid(denoiser: Denoiser, steps: int) -> Tensor:
        s = denoiser.schedule
        return log_snr_times(s, s.t_max, max(last, s.t_min), steps)

    return grid


GRIDS = {
    "karras": karras(7.0, 0.0),  # k-diffusion's and EDM's; use_karras_sigmas of diffusers
    "log": log_uniform(0.0),  # azula's VE schedule in its own equal steps; use_lu_lambdas and use_exponential_sigmas
    "karras .03": karras(7.0, 0.03),  # Stable Diffusion's lowest level in k-diffusion
    "log .03": log_uniform(0.03),
    "karras rho 10 .01": karras(10.0, 0.01),
}


class Counted:
    """The denoiser as peers see it: counted, and asked at the trained time nearest to theirs."""

    def __init__(self, denoiser: Denoiser) -> None:
        self.denoiser, self.schedule, self.calls = denoiser, denoiser.schedule, 0

    def __call__(self, x_t: Tensor, t: Tensor | float) -> Tensor:
        self.calls += 1
        t = torch.as_tensor(t, dtype=torch.float64).flatten()[0]
        return self.denoiser(x_t, nearest_trained_time(self.denoiser, t).cpu())


def peer_error(problem: Problem, peer: Target, grid: str, nfe: int, x_start: Tensor, exact: Tensor) -> float:
    """The error of a peer on a grid; infinite where it cannot run within the budget."""
    steps = (nfe - 1) // (peer.nfe_per_step or 1)
    if steps < peer.coarsest:
        return math.inf
    times = trained(problem.denoiser, GRIDS[grid](problem.denoiser, steps))
    counted = Counted(problem.denoiser)
    try:
        with torch.no_grad():
            ended = counted(peer.run(counted, x_start, times, None), times[-1])
    except (InputError, ArithmeticError, ValueError, RuntimeError):
        return math.inf
    error = distance(ended, exact)
    return error if math.isfinite(error) and counted.calls <= nfe else math.inf


def distance(a: Tensor, b: Tensor) -> float:
    rows = (a.double() - b.double()).flatten(1)
    return float(rows.norm(dim=1).mean()) / rows.shape[1] ** 0.5


def judged(problem: Problem, peers: list[Target], nfe: int, finalists: int) -> tuple[dict, dict]:
    """Errors of (peer, grid): on the calibration starts, the best first, and of the best `finalists` on the scored."""
    x_start, exact = problem.calibration
    every = [(peer, grid) for peer in peers for grid in GRIDS]
    few = max(16, len(x_start) // 8)
    screened = {(p.name, grid): peer_error(problem, p, grid, nfe, x_start[:few], exact[:few]) for p, grid in every}
    kept = sorted(every, key=lambda one: screened[one[0].name, one[1]])[: 2 * finalists]
    known = {(p.name, grid): peer_error(problem, p, grid, nfe, x_start, exact) for p, grid in kept}
    known = dict(sorted(known.items(), key=lambda item: item[1]))
    peer_of = {peer.name: peer for peer in peers}
    best = list(known)[:finalists]
    return known, {key: peer_error(problem, peer_of[key[0]], key[1], nfe, *problem.scored) for key in best}


def score(problem: Problem, peers: list[Target], budgets: tuple[int, ...], finalists: int) -> Iterator[dict]:
    """One row per budget: the peer chosen on the calibration starts, that of hindsight, and ours."""
    x_start, exact = problem.scored
    for nfe in budgets:
        known, scored = judged(problem, peers, nfe, finalists)
        begun = time.process_time()
        ours = calibrate(problem.denoiser, problem.gaussian, nfe, starts=problem.calibration[0], rounds=problem.rounds)
        took = time.process_time() - begun
        error = distance(ours.sample(problem.denoiser, x_start), exact)
        chosen, luckiest = next(iter(scored), ("none", "-")), min(scored, key=scored.__getitem__, default=("none", "-"))
        ratio, hindsight = (
            max(scored.get(key, math.nan), ROUNDING) / max(error, ROUNDING) for key in (chosen, luckiest)
        )
        row = {
            "problem": problem.name,
            "group": problem.group,
            "nfe": nfe,
            "peer": " on ".join(chosen),
            "peer_error": scored.get(chosen, math.nan),
            "our_error": error,
            "ratio": ratio,
            "peer_in_hindsight": " on ".join(luckiest),
            "ratio_in_hindsight": hindsight,
            "validation_error": ours.error,
            "fallback": ours.plain,
            "gain_over_plain": ours.gain,
            "reference_error": ours.reference_error,
            "evaluations": ours.evaluations,
            "seconds": took,
            "levels": [math.exp(-level) if math.isfinite(level) else math.inf for level in ours.levels],
            "peers_on_calibration_starts": {" on ".join(key): value for key, value in known.items()},
            "peers": {" on ".join(key): value for key, value in scored.items()},
        }
        print(
            f"| {problem.name} | {nfe} | {row['peer'].partition(':')[2]} | {row['peer_error']:.2e} | {error:.2e} "
            f"| {ratio:.2f} | {hindsight:.2f} | {ours.error:.2e} | {ours.plain or 'calibrated'} "
            f"| {ours.evaluations:.1e} | {took:.0f} |",
            flush=True,
        )
        yield row


def geometric_means(rows: list[dict], column: str = "ratio") -> dict[str, dict[int, float]]:
    """Per group and budget, and over groups."""
    means: dict[str, dict[int, float]] = {}
    for nfe in sorted({row["nfe"] for row in rows}):
        of_groups = []
        for group in dict.fromkeys(row["group"] for row in rows):
            ratios = [min(row[column], 1e3) for row in rows if row["group"] == group and row["nfe"] == nfe]
            if ratios:
                mean = math.exp(sum(math.log(max(ratio, 1e-3)) for ratio in ratios) / len(ratios))
                means.setdefault(group, {})[nfe] = mean
                of_groups.append(mean)
        means.setdefault("all", {})[nfe] = math.exp(sum(map(math.log, of_groups)) / len(of_groups))
    return means


class NoOperation:
    """A model that costs nothing, for timing what is around it."""

    schedule = VE()

    def __call__(self, x_t: Tensor, t: Tensor | float) -> Tensor:  # noqa: ARG002
        return x_t


def overhead(repeats: int = 300) -> dict[str, float]:
    """Microseconds per call at batch 1 with a model that costs nothing: ours and k-diffusion's plain loop."""
    found: dict[str, float] = {}
    for size, rank in ((2, 2), (64, 64), (784, 64)):
        x_start, levels = 80 * torch.randn(1, size), torch.linspace(-4, 6, 20, dtype=torch.float64)
        contestants = {f"ours, D={size}, rank {rank}": our_loop(x_start, rank, levels)}
        with contextlib.suppress(InputError):  # absent
            contestants[f"k-diffusion 2M, D={size}"] = plain_loop(x_start, levels)
        taken: dict[str, list[float]] = {name: [] for name in contestants}
        for _ in range(repeats):
            for name, call in contestants.items():
                begun = time.perf_counter()
                call()
                taken[name].append(time.perf_counter() - begun)
        found |= {name: 1e6 * min(values) / len(levels) for name, values in taken.items()}
    return found


def our_loop(x_start: Tensor, rank: int, levels: Tensor) -> Callable[[], Tensor]:
    size, model = x_start.shape[1], NoOperation()
    ours = Calibrated(
        gaussian=Gaussian(torch.zeros(size), torch.eye(size)[:, :rank], torch.ones(rank), 0.1),
        levels=tuple(levels.tolist()),
        end=6.2,
        jumps=False,
        weights=torch.full((len(levels), 4), 0.25),
        carry=0.5,
        shift=torch.zeros(size),
        plain=None,
        error=1.0,
        plain_errors={},
        reference_error=0.0,
        evaluations=0,
    )
    times = ours.times(model)
    return lambda: sample(ours, model, x_start, times)


def plain_loop(x_start: Tensor, levels: Tensor) -> Callable[[], Tensor]:
    from diffuscope.adapters import k_diffusion

    two_m = k_diffusion.sampling().sample_dpmpp_2m
    sigmas = torch.cat([levels.neg().exp(), torch.zeros(1)]).float()
    return lambda: two_m(lambda x, _sigma: x, x_start, sigmas, disable=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=Path("out/samplers"), help="where results.json goes")
    parser.add_argument("--budgets", type=int, nargs="+", default=list(BUDGETS))
    parser.add_argument("--only", nargs="*", help="groups to run: mixture2 mixture64 digits mlp vit unet")
    parser.add_argument("--published", type=Path, help="the shared data folder: run the published networks too")
    parser.add_argument("--starts", type=int, default=64, help="calibration starts for the published networks")
    parser.add_argument("--scored", type=int, default=48, help="scored starts for the published networks")
    parser.add_argument("--finalists", type=int, default=6, help="peers with their grids that are scored")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    device = arguments.device
    peers, absent = [], set()
    for name in PEERS:
        try:
            peers.append(load_target(name))
        except InputError as error:
            absent.add(str(error))
    print(f"{len(peers)} peers, {len(GRIDS)} grids, {torch.get_num_threads()} threads, {device}.", *absent, "\n")
    makers: dict[str, list[Callable[[], Problem]]] = {
        "mixture2": [lambda seed=seed: mixture(2, seed, device) for seed in (1001, 1002, 1003)],
        "mixture64": [lambda seed=seed: mixture(64, seed, device) for seed in (1001, 1002)],
        "digits": [lambda: exact_digits(device)],
        "mlp": [lambda: trained_digits(arguments.out, device)],
    }
    if arguments.published:
        for short, name in zip(("vit", "unet"), PUBLISHED, strict=True):
            starts = (arguments.starts, arguments.scored)
            makers[short] = [lambda name=name, starts=starts: published(name, arguments.published, device, starts)]
    print("| problem | evaluations | peer | its error | ours | ratio | in hindsight | ours in validation ", end="")
    print("| method | calls to calibrate | CPU s |\n" + "|--:" * 11 + "|")
    rows: list[dict] = []
    for group in arguments.only or makers:
        for make in makers[group]:
            for row in score(make(), peers, tuple(arguments.budgets), arguments.finalists):
                rows.append(row)
                save(arguments.out, rows, {})
    for column in ("ratio", "ratio_in_hindsight"):
        print(f"\nGeometric means of the {column.replace('_', ' ')}\n")
        print("| | " + " | ".join(map(str, arguments.budgets)) + " |\n" + "|--:" * (len(arguments.budgets) + 1) + "|")
        for group, of_budget in geometric_means(rows, column).items():
            print(f"| {group} | " + " | ".join(f"{of_budget[nfe]:.2f}" for nfe in arguments.budgets) + " |")
    micros = overhead()
    print("\nMicroseconds per call, batch 1, a model that costs nothing: ", end="")
    print("; ".join(f"{name}: {value:.0f}" for name, value in micros.items()))
    save(arguments.out, rows, micros)


def save(folder: Path, rows: list[dict], micros: dict[str, float]) -> None:
    results = {"rows": rows, "geometric_means": geometric_means(rows) if rows else {}, "overhead_us": micros}
    (folder / "results.json").write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
