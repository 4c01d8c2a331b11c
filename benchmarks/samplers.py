"""Few evaluations: the calibrated sampler against the samplers of azula, k-diffusion and diffusers.

Error = mean over starts of |end - exact end| / sqrt(D), the exact end being D at the end of a finely integrated
probability-flow trajectory from the same start. A budget counts every call of the denoiser, the final denoise too.
Every peer runs on every grid of `GRIDS`, among them those that its own library recommends, and the best grid counts,
chosen in hindsight on the scored starts. Ours is calibrated on other starts (seed 0; scored is seed 1).
Problems are drawn with seeds from 1,000 on; everything in the library was chosen on seeds below 100.

Needs the peers: pip install azula diffusers, and --no-deps k-diffusion. Those that are absent are named and left out.
"""

import argparse
import contextlib
import json
import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from sklearn.datasets import load_digits
from torch import Tensor

from diffuscope.adapters import load_target
from diffuscope.certify import Target
from diffuscope.data.idx import read_idx
from diffuscope.denoisers import Denoiser, ExactDenoiser, Rescheduled, nearest_trained_time
from diffuscope.errors import InputError
from diffuscope.exact import Empirical, Gaussian, GaussianMixture
from diffuscope.files import load_object
from diffuscope.samplers import Calibrated, DataAdamsBashforth, RungeKutta4, Sampler, calibrate, sample
from diffuscope.schedules import VE
from diffuscope.times import karras_times, log_snr_times
from diffuscope.training import fit
from diffuscope.training.default_model import new_denoiser, recipe

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
PUBLISHED = {"mnist_flow_vit_sofia": "flow_transformer", "mnist_ddpm_unet_franfee": "noise_unet"}


@dataclass(frozen=True)
class Problem:
    """A denoiser in the variance-exploding convention, its data's Gaussian, and how to score on it."""

    name: str
    group: str
    denoiser: Denoiser
    gaussian: Gaussian
    dtype: torch.dtype
    calibration_starts: int
    scored_starts: int
    fine_levels: int = 150
    rounds: int = 4

    def starts(self, count: int, seed: int, device: str) -> Tensor:
        schedule, draw = self.denoiser.schedule, torch.Generator().manual_seed(seed)
        noise = torch.randn(count, *self.gaussian.event_shape, generator=draw, dtype=torch.float64)
        return (schedule.sigma(schedule.t_max) * noise).to(device, self.dtype)

    def exact_end(self, x_start: Tensor) -> Tensor:
        """Runge-Kutta 4 where any time can be asked; multistep of order 3 through trained times elsewhere."""
        schedule = self.denoiser.schedule
        times = log_snr_times(schedule, schedule.t_max, schedule.t_min, self.fine_levels)
        asked = trained(self.denoiser, times)
        continuous = torch.equal(asked, times) and self.dtype == torch.float64
        solver: Sampler = RungeKutta4() if continuous else DataAdamsBashforth(3, power=0.0)
        return final(self.denoiser, sample(solver, self.denoiser, x_start, asked), asked)


def trained(denoiser: Denoiser, times: Tensor) -> Tensor:
    return torch.unique_consecutive(nearest_trained_time(denoiser, times))


@torch.no_grad()
def final(denoiser: Denoiser, x: Tensor, times: Tensor) -> Tensor:
    return denoiser(x, times[-1])


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
        ended = final(counted, peer.run(counted, x_start, times, None), times)
    except (InputError, ArithmeticError, ValueError, RuntimeError):
        return math.inf
    error = distance(ended, exact)
    return error if math.isfinite(error) and counted.calls <= nfe else math.inf


def distance(a: Tensor, b: Tensor) -> float:
    rows = (a.double() - b.double()).flatten(1)
    return float(rows.norm(dim=1).mean()) / rows.shape[1] ** 0.5


def mixture(d: int, seed: int, device: str) -> Problem:
    """Ten modes with unequal weights and full, unequal covariances."""
    draw = torch.Generator().manual_seed(seed)
    means = torch.randn(10, d, generator=draw, dtype=torch.float64)
    deviations = 0.1 + 0.3 * torch.rand(10, d, generator=draw, dtype=torch.float64)
    turns = torch.linalg.qr(torch.randn(10, d, d, generator=draw, dtype=torch.float64)).Q
    covariances = turns @ torch.diag_embed(deviations**2) @ turns.mT
    weights = 0.2 + torch.rand(10, generator=draw, dtype=torch.float64)
    distribution = GaussianMixture.from_covariances(
        (weights / weights.sum()).to(device), means.to(device), covariances.to(device)
    )
    count = 512 if d == 2 else 256
    name = f"mixture d={d} #{seed}"
    return Problem(
        name,
        f"mixture d={d}",
        ExactDenoiser(distribution, VE()),
        distribution.as_gaussian(),
        torch.float64,
        count,
        2048 if d == 2 else 512,
    )


def digits() -> Tensor:
    return torch.tensor(load_digits(return_X_y=True)[0], dtype=torch.float64) / 8 - 1


def exact_digits(device: str) -> Problem:
    points = digits().to(device)
    denoiser = ExactDenoiser(Empirical(points), VE())
    return Problem("digits exact", "digits exact", denoiser, Gaussian.fit([points]), torch.float64, 192, 192, 60, 2)


def trained_digits(folder: Path, device: str) -> Problem:
    """A small MLP, trained here (about a minute) and kept in `folder`."""
    seed, data = 1001, digits().float()
    network = new_denoiser(data, (-1.0, 1.0), seed)
    path = folder / f"digits_mlp_{seed}.pt"
    if path.exists():
        network.load_state_dict(torch.load(path, weights_only=True))
    else:
        network = fit(network, data, recipe(float(data.std()), steps=8000, batch_size=128, seed=seed))
        torch.save(network.state_dict(), path)
    gaussian = Gaussian.fit([data.to(device)])
    return Problem("digits MLP", "digits MLP", network.to(device).eval(), gaussian, torch.float32, 256, 256)


def published(name: str, shared: Path, device: str, starts: int) -> Problem:
    """A published MNIST network in VE convention, from sigma/alpha = 80 or its own top level down to its own lowest."""
    # the networks are an example of the documentation
    sys.path.append(str(Path(__file__).parents[1] / "docs" / "examples"))
    denoiser = cast(Any, load_object(f"published_networks.{PUBLISHED[name]}:denoiser", "published"))(
        shared / "weights" / f"{name}.npz"
    ).to(device)
    inner = denoiser.schedule
    low, high = denoiser.data_range
    images = torch.tensor(read_idx(shared / "mnist" / "train-images-idx3-ubyte.gz", "data")[:10_000])
    images = (low + (high - low) * images.float()[:, None] / 255).to(device)
    top = min(80.0, float(inner.noise_to_signal(inner.t_max)))
    top = top if not math.isinf(top) else 80.0
    lowest = max(float(inner.noise_to_signal(inner.t_min)), 0.002)
    # a table of steps is entered at one of its own
    t_top = nearest_trained_time(denoiser, inner.time_of_noise_to_signal(top))
    schedule = VE(lowest, float(inner.noise_to_signal(t_top)))
    return Problem(
        name, name, Rescheduled(denoiser, schedule), Gaussian.fit([images]), torch.float32, starts, starts // 2, 200, 2
    )


def score(problem: Problem, peers: list[Target], budgets: tuple[int, ...], device: str) -> list[dict]:
    """One row per budget: the best peer, its grid and error, ours, and what calibration said of itself."""
    rows = []
    x_start = problem.starts(problem.scored_starts, 1, device)
    exact = problem.exact_end(x_start)
    for nfe in budgets:
        errors = {
            (peer.name, grid): peer_error(problem, peer, grid, nfe, x_start, exact) for peer in peers for grid in GRIDS
        }
        begun = time.perf_counter()
        ours = calibrate(
            problem.denoiser,
            problem.gaussian,
            nfe,
            starts=problem.starts(problem.calibration_starts, 0, device),
            rounds=problem.rounds,
        )
        took = time.perf_counter() - begun
        error = distance(ours.sample(problem.denoiser, x_start), exact)
        (name, grid), best = min(errors.items(), key=lambda item: item[1], default=(("none", "-"), math.nan))
        row = {
            "problem": problem.name,
            "group": problem.group,
            "nfe": nfe,
            "best_peer": name,
            "grid": grid,
            "peer_error": best,
            "our_error": error,
            "ratio": max(best, ROUNDING) / max(error, ROUNDING),
            "validation_error": ours.error,
            "fallback": ours.plain,
            "gain_over_plain": ours.gain,
            "reference_error": ours.reference_error,
            "evaluations": ours.evaluations,
            "seconds": took,
            "levels": [math.exp(-level) if math.isfinite(level) else math.inf for level in ours.levels],
            "peers": {f"{name} on {grid}": value for (name, grid), value in errors.items()},
        }
        rows.append(row)
        print(
            f"| {problem.name} | {nfe} | {name.partition(':')[2]} on {grid} | {best:.2e} | {error:.2e} "
            f"| {row['ratio']:.2f} | {ours.error:.2e} | {ours.plain or 'calibrated'} | {ours.evaluations:.1e} "
            f"| {took:.0f} |",
            flush=True,
        )
    return rows


def geometric_means(rows: list[dict]) -> dict[str, dict[int, float]]:
    """Per group and budget, and over groups."""
    means: dict[str, dict[int, float]] = {}
    for nfe in sorted({row["nfe"] for row in rows}):
        of_groups = []
        for group in dict.fromkeys(row["group"] for row in rows):
            ratios = [min(row["ratio"], 1e3) for row in rows if row["group"] == group and row["nfe"] == nfe]
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
    parser.add_argument("--starts", type=int, default=128, help="calibration starts for the published networks")
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
            makers[short] = [lambda name=name: published(name, arguments.published, device, arguments.starts)]
    print("| problem | evaluations | best peer | its error | ours | ratio | ours in validation | method ", end="")
    print("| calls to calibrate | s |\n" + "|--:" * 10 + "|")
    rows: list[dict] = []
    for group in arguments.only or makers:
        for make in makers[group]:
            rows += score(make(), peers, tuple(arguments.budgets), device)
            save(arguments.out, rows, {})
    print("\nGeometric means of the ratio\n")
    means = geometric_means(rows)
    print("| | " + " | ".join(map(str, arguments.budgets)) + " |\n" + "|--:" * (len(arguments.budgets) + 1) + "|")
    for group, of_budget in means.items():
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
