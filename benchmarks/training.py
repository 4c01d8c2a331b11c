"""Milliseconds of a training step, as ratios to the plain float32 step in one process with the same threads.

The library's own U-Net for 8 x 8 digits with the recipe of `diffuscope train`, batch 128, on the CPU. Each way takes
the same steps, in several rounds, and its fastest round counts. Two processes have one thread each and are compared
with one process of two threads; torchrun is started from here.
"""

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch

from diffuscope.data import load_data
from diffuscope.training import new_denoiser, process_group, rank, recipe, train

STEPS, ROUNDS, WARMUP = 20, 4, 3


def seconds_per_step(*, precision: str = "float32", compiled: bool = False) -> float:
    """The fastest of ROUNDS rounds of STEPS steps."""
    data = load_data("digits").in_range(-1.0, 1.0).train
    denoiser = new_denoiser(data, (-1.0, 1.0), seed=0)
    settings = recipe(denoiser.sigma_data, steps=WARMUP + STEPS * ROUNDS, batch_size=128, seed=0)
    run = train(denoiser, data, replace(settings, precision=precision, compiled=compiled), checkpoint=None)
    for _ in range(WARMUP):
        next(run)
    fastest = float("inf")
    for _ in range(ROUNDS):
        start = time.perf_counter()
        for _ in range(STEPS):
            next(run)
        fastest = min(fastest, (time.perf_counter() - start) / STEPS)
    run.close()
    return fastest


def two_processes() -> float:
    """The same under torchrun, one thread each."""
    with tempfile.TemporaryDirectory() as folder:
        found = Path(folder) / "found.json"
        launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
        subprocess.run([*launch, __file__, str(found)], check=True, capture_output=True)
        return json.loads(found.read_text())


def main() -> None:
    print("| threads | way | ms per step | over plain |\n|--:|---|--:|--:|")
    for threads in (1, 2):
        torch.set_num_threads(threads)
        plain = seconds_per_step()
        ways = {"plain": plain, "bfloat16": seconds_per_step(precision="bfloat16")}
        ways["compiled"] = seconds_per_step(compiled=True)
        if threads == 2:
            ways["two processes of one thread"] = two_processes()
        for way, taken in ways.items():
            print(f"| {threads} | {way} | {1e3 * taken:.1f} | {taken / plain:.2f} |", flush=True)


if __name__ == "__main__":
    if len(sys.argv) > 1:  # one of the two processes
        torch.set_num_threads(1)
        with process_group():
            taken = seconds_per_step()
            if rank() == 0:
                Path(sys.argv[1]).write_text(json.dumps(taken))
    else:
        main()
