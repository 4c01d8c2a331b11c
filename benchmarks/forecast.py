r"""Forecasts of the onset of copying against the onsets observed: n = 64, 256 and 1,024 digits, three seeds each.

MNIST averaged over 2 x 2 pixels (14 x 14) in [-1, 1]; a residual MLP of 527,556 parameters with EDM's preconditioning,
Adam at a constant rate of 1e-3 and batches of 32, checkpoints 10% apart, 1,000 samples by 16 steps of DDIM from the
averaged weights. There are three runs of every size, each on its own images with its own weights. The forecast for 64
comes from the runs of 16 and 32 examples, for 256 from those of 16, 32 and 64, for 1,024 from those of 64, 128 and 256.
Runs up to 256 examples are trained side by side, weights with a leading axis.

    python benchmarks/forecast.py runs out/forecast     # ten minutes to n256, then hours; rerun to resume
    python benchmarks/forecast.py runs out/forecast n1024-0   # one of them: n16, n32, ..., n256, n1024-0, -1, -2
    python benchmarks/forecast.py table out/forecast    # the nine forecasts
"""

import json
import math
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from diffuscope.data import load_data
from diffuscope.files import write_json
from diffuscope.theory import NoForecast, forecast_onset, onset
from diffuscope.training.average import average_decay, update_average
from diffuscope.training.batches import EpochPermutations

SIZES, SEEDS = (16, 32, 64, 128, 256, 1024), 3
FORECASTS = {64: (16, 32), 256: (16, 32, 64), 1024: (64, 128, 256)}  # their pilots
WIDTH, DEPTH, BATCH, RATE, WARMUP = 256, 3, 32, 1e-3, 100
SAMPLES, NFE, RATIO = 1000, 16, 1 / 3
LEVELS, ROWS = 8, 128  # of the gap between training and held-out error
MOST = 400_000  # steps
SAMPLED = 0.6  # no samples are drawn before the training error is this share of the held-out error
SINUSOIDS = 16


class Stacked(nn.Module):
    """`count` residual MLPs on (count, rows, d), each with its own weights."""

    def __init__(self, count: int, d: int, generator: torch.Generator) -> None:
        super().__init__()

        def drawn(fan_in: int, out: int) -> nn.Parameter:
            return nn.Parameter(torch.randn(count, fan_in, out, generator=generator) * fan_in**-0.5)

        def zero(rows: int, out: int) -> nn.Parameter:
            return nn.Parameter(torch.zeros(count, rows, out))

        self.first, self.first_bias, self.level = drawn(d, WIDTH), zero(1, WIDTH), drawn(2 * SINUSOIDS, WIDTH)
        self.inner = nn.ParameterList([drawn(WIDTH, WIDTH) for _ in range(DEPTH)])
        self.shift = nn.ParameterList([drawn(2 * SINUSOIDS, WIDTH) for _ in range(DEPTH)])
        self.bias = nn.ParameterList([zero(1, WIDTH) for _ in range(DEPTH)])
        self.outer = nn.ParameterList([drawn(WIDTH, WIDTH) for _ in range(DEPTH)])
        self.last, self.last_bias = zero(WIDTH, d), zero(1, d)

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        phases = (label / 5)[..., None] * (math.pi * 64 ** torch.linspace(0, 1, SINUSOIDS))
        level = torch.cat([phases.cos(), phases.sin()], -1)
        h = torch.baddbmm(self.first_bias, x, self.first) + torch.bmm(level, self.level)
        for inner, shift, bias, outer in zip(self.inner, self.shift, self.bias, self.outer, strict=True):
            hidden = torch.baddbmm(bias, normed(h), inner) + torch.bmm(level, shift)
            h = torch.baddbmm(h, nn.functional.silu(hidden), outer)
        return torch.baddbmm(self.last_bias, normed(h), self.last)


def normed(h: Tensor) -> Tensor:
    return nn.functional.layer_norm(h, h.shape[-1:])


def digits() -> tuple[Tensor, Tensor]:
    """Training and test images of 14 x 14 as rows in [-1, 1]."""
    data = load_data("mnist").in_range(-1.0, 1.0)
    small = [nn.functional.avg_pool2d(rows.float().reshape(-1, 1, 28, 28), 2).flatten(1)
             for rows in (data.train, data.heldout)]  # fmt: skip
    return small[0], small[1]


class Runs:
    """Runs of one size trained side by side until each has begun to copy, or for MOST steps."""

    def __init__(self, folder: Path, name: str, examples: Tensor, heldout: Tensor, seed: int) -> None:
        self.path, self.record_path = folder / f"{name}.pt", folder / f"{name}.json"
        self.examples, self.heldout = examples, heldout  # (runs, n, d), (rows, d)
        self.mean, self.scale = float(examples.mean()), float(examples.std())
        self.generator = torch.Generator().manual_seed(seed)
        self.network = Stacked(len(examples), examples.shape[2], self.generator)
        self.weights = list(self.network.parameters())
        self.optimizer = torch.optim.Adam(self.weights, lr=RATE, fused=True)
        self.average = [p.detach().clone() for p in self.weights]
        self.batches = EpochPermutations.start(examples.shape[1], self.generator)
        self.step, self.checkpoint, self.records, self.seconds = 0, 0, [], 0.0
        self.fixed = torch.Generator().manual_seed(seed + 1)
        self.starts = torch.randn(len(examples), SAMPLES, examples.shape[2], generator=self.fixed)
        self.level = self.scale * (1.8 * torch.special.ndtri((torch.arange(LEVELS) + 0.5) / LEVELS)).exp()
        self.noise = torch.randn(LEVELS, ROWS, examples.shape[2], generator=self.fixed)
        if self.path.exists():
            self.restore()

    def restore(self) -> None:
        state = torch.load(self.path)
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.average = state["average"]
        self.generator.set_state(state["generator"])
        self.batches = EpochPermutations(*state["batches"])
        self.step, self.checkpoint, self.seconds = state["step"], state["checkpoint"], state["seconds"]
        self.records = state["records"]

    def save(self) -> None:
        state = {"network": self.network.state_dict(), "optimizer": self.optimizer.state_dict(),
                 "average": self.average, "generator": self.generator.get_state(), "step": self.step,
                 "batches": (self.batches.permutation, self.batches.position), "checkpoint": self.checkpoint,
                 "seconds": self.seconds, "records": self.records}  # fmt: skip
        partial = self.path.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(self.path)
        write_json({"n": self.examples.shape[1], "checkpoints": self.records, "seconds": self.seconds,
                    "null": self.null(), "finished": self.finished()}, self.record_path)  # fmt: skip

    def denoised(self, weights: list[Tensor] | None, x: Tensor, sigma: Tensor) -> Tensor:
        """D(x, sigma) of every run for x (runs, rows, d) and sigma (runs, rows)."""
        scale = (self.scale**2 + sigma.square()).sqrt()[..., None]
        u, label = x - self.mean, sigma.log() / 4
        if weights is None:
            answer = self.network(u / scale, label)
        else:
            names = dict(zip(dict(self.network.named_parameters()), weights, strict=True))
            answer = torch.func.functional_call(self.network, names, (u / scale, label))
        return self.mean + self.scale**2 / scale**2 * u + sigma[..., None] * self.scale / scale * answer

    def advance(self) -> None:
        runs, _, d = self.examples.shape
        index = self.batches.next_batch(BATCH, self.generator)
        x_0 = self.examples[:, index]
        sigma = self.scale * (1.8 * torch.randn(runs, BATCH, generator=self.generator)).exp()
        sigma = sigma.clamp(0.01 * self.scale, 40 * self.scale)
        x = x_0 + sigma[..., None] * torch.randn(runs, BATCH, d, generator=self.generator)
        weight = 1 / self.scale**2 + 1 / sigma.square()
        loss = (weight * (self.denoised(None, x, sigma) - x_0).square().mean(2)).mean(1).sum()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.param_groups[0]["lr"] = RATE * min(1, (self.step + 1) / WARMUP)
        self.optimizer.step()
        self.step += 1
        update_average(self.average, self.weights, average_decay(self.step, 0.999))

    @torch.no_grad()
    def samples(self) -> Tensor:
        """1,000 samples of every run by DDIM."""
        high, low = (40 * self.scale) ** (1 / 7), (0.01 * self.scale) ** (1 / 7)
        sigmas = torch.linspace(high, low, NFE) ** 7
        x = self.mean + sigmas[0] * self.starts
        for now, then in zip(sigmas.tolist(), [*sigmas[1:].tolist(), 0.0], strict=True):
            answer = self.denoised(self.average, x, torch.full(x.shape[:2], now))
            x = answer + then / now * (x - answer)
        return x

    @torch.no_grad()
    def errors(self) -> tuple[list, list]:
        """Weighted denoising error per run and level on training and on held-out examples, with the same noise."""
        runs, n, d = self.examples.shape
        training = self.examples[:, torch.arange(ROWS) % n]
        answer = []
        for rows in (training, self.heldout[:ROWS].expand(runs, ROWS, d)):
            per_level = []
            for sigma, noise in zip(self.level.tolist(), self.noise, strict=True):
                found = self.denoised(self.average, rows + sigma * noise, torch.full((runs, ROWS), sigma))
                weight = 1 / self.scale**2 + 1 / sigma**2
                per_level.append(weight * (found - rows).square().mean((1, 2)))
            answer.append(torch.stack(per_level, 1).tolist())
        return answer[0], answer[1]

    def null(self) -> list[int]:
        """How many of 10,000 held-out examples count as copies of the examples of every run."""
        return [copies(self.heldout, rows) for rows in self.examples]

    def finished(self) -> bool:
        begun = [any(c["copied"] is not None and c["copied"][k] >= 18 for c in self.records)
                 for k in range(len(self.examples))]  # fmt: skip
        return all(begun) or self.step >= MOST

    def run(self) -> None:
        """Train to the end; a checkpoint is written at most a minute after the last one."""
        began, saved = time.process_time() - self.seconds, time.monotonic()
        while not self.finished():
            due = steps_of(self.checkpoint)
            while self.step < due:
                self.advance()
                if time.monotonic() - saved > 60:
                    self.seconds = time.process_time() - began
                    self.save()
                    saved = time.monotonic()
            train, heldout = self.errors()
            copied = None
            if np.mean(train) < SAMPLED * np.mean(heldout):
                drawn = self.samples()
                copied = [copies(drawn[k], rows) for k, rows in enumerate(self.examples)]
            self.records.append({"step": self.step, "copied": copied, "train": train, "heldout": heldout})
            self.checkpoint += 1
            print(
                f"{self.path.stem}: step {self.step}, copied {copied}, loss "
                f"{np.mean(train):.4f} {np.mean(heldout):.4f}, {time.process_time() - began:.0f} s",
                flush=True,
            )
        self.seconds = time.process_time() - began
        self.save()


def steps_of(checkpoint: int) -> int:
    """Checkpoints 10% apart, from step 50."""
    return round(50 * 1.1**checkpoint)


def copies(queries: Tensor, examples: Tensor) -> int:
    """Queries with d_1 / d_2 < 1/3."""
    two = torch.cat([torch.cdist(part, examples).topk(2, largest=False).values for part in queries.split(1000)])
    return int((two[:, 0] < RATIO * two[:, 1]).sum())


def subset(train: Tensor, n: int, seed: int) -> Tensor:
    """The n training images of one seed, in a random order; no image belongs to two runs of any size."""
    first = sum(SEEDS * size for size in SIZES if size < n) + seed * n
    return train[torch.randperm(len(train), generator=torch.Generator().manual_seed(2026))[first : first + n]]


def runs(folder: Path, only: str = "") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    train, heldout = digits()
    for n in SIZES:
        examples = torch.stack([subset(train, n, seed) for seed in range(SEEDS)])
        parts = {f"n{n}": range(SEEDS)} if n < SIZES[-1] else {f"n{n}-{seed}": (seed,) for seed in range(SEEDS)}
        for name, seeds in parts.items():
            if only in ("", name):
                Runs(folder, name, examples[list(seeds)], heldout, 104729 + n + seeds[0]).run()


def observed(folder: Path) -> dict[int, list[tuple[int | None, int]]]:
    """Onset (None: not yet) and last checkpoint of every run, by size."""
    found: dict[int, list[tuple[int | None, int]]] = {}
    for path in sorted(folder.glob("n*.json")):
        record = json.loads(path.read_text())
        for k in range(len(record["null"])):
            counts = {c["step"]: c["copied"][k] if c["copied"] else 0 for c in record["checkpoints"]}
            found.setdefault(record["n"], []).append((onset(counts), max(counts, default=0)))
    return found


def table(folder: Path) -> None:
    """The nine forecasts as a table in Markdown, and how many are within 25% and within their intervals."""
    runs_of = observed(folder)
    print("| examples | onsets |\n|--:|---|")
    for n, found in sorted(runs_of.items()):
        print(f"| {n:,} | {', '.join(shown(*run) for run in found)} |")
    print("\n| examples | seed | forecast | 80% | 95% | observed | ratio |\n|--:|--:|--:|--:|--:|--:|--:|")
    near, within_80, within_95, done = 0, 0, 0, 0
    for n, sizes in FORECASTS.items():
        pilots = [(size, begun) for size in sizes for begun, _ in runs_of.get(size, []) if begun is not None]
        made = forecast_onset([size for size, _ in pilots], [begun for _, begun in pilots], n)
        if isinstance(made, NoForecast):
            later = "nothing" if made.later_than is None else f"later than {made.later_than:,.0f}"
            for seed, (begun, last) in enumerate(runs_of.get(n, [])):
                print(f"| {n:,} | {seed} | {later} | | | {shown(begun, last)} | |")
            continue
        (a, b), (c, d) = made.interval_80, made.interval_95
        for seed, (begun, last) in enumerate(runs_of.get(n, [])):
            ratio = "" if begun is None else f"{made.median / begun:.2f}"
            print(f"| {n:,} | {seed} | {made.median:,.0f} | {a:,.0f} - {b:,.0f} | {c:,.0f} - {d:,.0f} | "
                  f"{shown(begun, last)} | {ratio} |")  # fmt: skip
            if begun is not None:
                done += 1
                near += abs(made.median / begun - 1) <= 0.25
                within_80 += a <= begun <= b
                within_95 += c <= begun <= d
    print(f"\nOf {done} observed onsets, {near} within 25% of the forecast, {within_80} within the 80% interval, "
          f"{within_95} within the 95% interval")  # fmt: skip


def shown(begun: int | None, last: int) -> str:
    return f"> {last:,}" if begun is None else f"{begun:,}"


if __name__ == "__main__":
    if len(sys.argv) < 3 or sys.argv[1] not in ("runs", "table"):
        sys.exit("usage: python benchmarks/forecast.py runs|table FOLDER ...")
    torch.set_num_threads(1)
    {"runs": runs, "table": table}[sys.argv[1]](Path(sys.argv[2]), *sys.argv[3:])
