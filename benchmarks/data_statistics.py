"""Mean and covariance of data: time, memory and accuracy, each row in a process of its own.

CIFAR-10 (where it is found) densely and by two and three passes at rank 128; and 2,000 synthetic images of
3 x 256 x 256 in a mapped file of bytes, at rank 128.
"""

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from diffuscope import data_statistics
from diffuscope.data import found
from diffuscope.exact import Gaussian

RANK, LEADING = 128, 32
ROWS = {"dense": "CIFAR-10, dense", "2": "CIFAR-10, 2 passes", "3": "CIFAR-10, 3 passes", "large": "2,000 x 196,608"}


def main() -> None:
    print("| data | processor time, s | peak memory, GB | error of eigenvalues 1 to 32 | 64 | 128 |")
    print("|---|--:|--:|--:|--:|--:|")
    with tempfile.TemporaryDirectory() as folder:
        for name in ROWS:
            if name == "large" or found("cifar10") is not None:
                subprocess.run([sys.executable, __file__, name, folder], check=True)


def row(name: str, folder: Path) -> None:
    """Measure one row and print it; CIFAR-10 densely is kept for the others to be compared with."""
    torch.set_num_threads(1)
    path = folder / "dense.safetensors"
    if name == "large":
        images = synthetic(folder / "large.npy")
        gaussian, seconds = fitted(str(images), 2)
    else:
        from diffuscope.data import statistics_of

        if name != "dense":
            statistics_of.LARGEST_DENSE = 0
        gaussian, seconds = fitted("cifar10", 2 if name == "dense" else int(name))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    errors = ["", "", ""]
    if name == "dense":
        gaussian.save(path)
    elif name != "large":
        missing = 1 - gaussian.eigenvalues / Gaussian.load(path).eigenvalues[:RANK]
        errors = [f"{float(value):.1g}" for value in (missing[:LEADING].max(), missing[63], missing[RANK - 1])]
    print(f"| {ROWS[name]} | {seconds:.0f} | {memory:.1f} | {' | '.join(errors)} |", flush=True)


def fitted(data: str, n_passes: int) -> tuple[Gaussian, float]:
    start = time.process_time()
    gaussian = data_statistics(data, rank=RANK, data_range=(0, 255), n_passes=n_passes).gaussian
    return gaussian, time.process_time() - start


def synthetic(path: Path) -> Path:
    """A color per image, and noise."""
    draw, shape = np.random.default_rng(0), (2000, 3, 256, 256)
    images = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    for start in range(0, len(images), 50):
        colors = draw.integers(0, 128, (50, 3, 1, 1), dtype=np.uint8)
        images[start : start + 50] = colors + draw.integers(0, 128, (50, *shape[1:]), dtype=np.uint8)
    images.flush()
    return path


if __name__ == "__main__":
    row(sys.argv[1], Path(sys.argv[2])) if len(sys.argv) > 1 else main()
