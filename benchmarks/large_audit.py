"""Whole audits of large pictures: processor time and peak memory of the command, mapped files included.

The pictures are random fields whose power falls as 1/f^2, as that of photographs, and white noise, in mapped files of
bytes. The model is their exact denoiser, a convolution (the Wiener filter), so that every question can be asked of it.
Each audit has the small budgets of docs/large.md and one thread. By default few pictures; those of the page:

    python benchmarks/large_audit.py 64 50000 256 1000
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from diffuscope.denoisers import DataPredictor
from diffuscope.schedules import VE

SIZES = (40, 1000)  # by default: side, training pictures
HELDOUT, PART = 2000, 500
DEVIATION, NOISE = 40 / 127.5, 0.1  # of a value in [-1, 1]; the share of white noise in the variance
BUDGETS = {"levels": 4, "points": 16, "trajectories": 8, "generated": 40, "references": 300, "components": 3,
           "step-seeds": 8}  # fmt: skip
SIDE = "LARGE_AUDIT_SIDE"


def main(sizes: list[int]) -> None:
    print("| pictures | bytes, GB | questions answered | verdict | processor time, min | wall time, min | peak, GB |")
    print("|---|--:|--:|---|--:|--:|--:|", flush=True)
    for side, count in zip(sizes[::2], sizes[1::2], strict=True):
        with tempfile.TemporaryDirectory() as folder:
            audit(side, count, Path(folder))


def audit(side: int, count: int, folder: Path) -> None:
    """Make the pictures, audit their exact denoiser in a process of its own, and print its row."""
    for seed, (name, n) in enumerate({"train": count, "heldout": min(count, HELDOUT)}.items()):
        pictures(folder / f"{name}.npy", n, side, seed)
    words = ["--data", "train.npy", "--heldout", "heldout.npy", "--data-range", "0", "255", "--out", "out"]
    words += ["--model", "large_audit:denoiser", *(f"--{name}={n}" for name, n in BUDGETS.items())]
    paths = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", SIDE: str(side)}
    start = time.monotonic()
    child = subprocess.Popen(
        [sys.executable, "-m", "diffuscope", "audit", *words], cwd=folder, env=environment, stdout=subprocess.DEVNULL
    )
    _, status, used = os.wait4(child.pid, 0)
    wall = time.monotonic() - start
    if status:
        raise SystemExit(f"the audit ended with status {os.waitstatus_to_exitcode(status)}")
    record = json.loads((folder / "out" / "audit.json").read_text())
    asked, answered = len(record["findings"]), sum(map(bool, record["findings"].values()))
    size, minutes = 3 * side**2 * (count + min(count, HELDOUT)), (used.ru_utime + used.ru_stime) / 60
    word = record["verdict"]["word"]
    print(
        f"| {count:,} of 3 x {side} x {side} | {size / 1e9:.1f} | {answered} of {asked} | {word} | "
        f"{minutes:.1f} | {wall / 60:.1f} | {1024 * used.ru_maxrss / 1e9:.1f} |",
        flush=True,
    )


def variances(side: int) -> Tensor:
    """The variance of each Fourier coefficient (`norm="ortho"`) of a channel, whose values have that of DEVIATION."""
    down, across = torch.fft.fftfreq(side)[:, None], torch.fft.rfftfreq(side)
    whole = torch.fft.fftfreq(side)
    power, total = (1 / (f + side**-2) for f in (down**2 + across**2, down**2 + whole**2))
    return DEVIATION**2 * ((1 - NOISE) * power / total.mean() + NOISE)


def pictures(path: Path, n: int, side: int, seed: int) -> None:
    """Write the file, part by part."""
    chance, scale = torch.Generator().manual_seed(seed), variances(side).sqrt()
    out = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(n, 3, side, side))
    for start in range(0, n, PART):
        white = torch.randn(min(PART, n - start), 3, side, side, generator=chance)
        field = torch.fft.irfft2(scale * torch.fft.rfft2(white, norm="ortho"), s=(side, side), norm="ortho")
        out[start : start + PART] = (127.5 + 127.5 * field).round().clamp(0, 255).byte().numpy()
    out.flush()


class Wiener(nn.Module):
    """E[x_0 | x_t] of the fields: every Fourier coefficient times its share of signal, v / (v + sigma^2)."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.variances = nn.Parameter(variances(side))

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        share = self.variances / (self.variances + sigma.to(x).reshape(-1, 1, 1, 1) ** 2)
        return torch.fft.irfft2(share * torch.fft.rfft2(x, norm="ortho"), s=x.shape[-2:], norm="ortho")


def denoiser() -> DataPredictor:
    """The model, as the command calls it."""
    side = int(os.environ[SIDE])
    return DataPredictor(Wiener(side).eval(), VE(), event_shape=(3, side, side), data_range=(-1.0, 1.0))


if __name__ == "__main__":
    main([int(word) for word in sys.argv[1:]] or list(SIZES))
