"""The exact denoiser of pictures held as bytes in a mapped file, by one and by several processes.

Beside each call, the two bare matrix products of the same shards: of one chunk of rows, converted beforehand, as often
as there are chunks. Any dense method has to compute these. Ratios are of a call to the products before and after it, in
wall time and in CPU time, which other work on the machine disturbs less. The file of pictures is written to a temporary
folder and removed at the end.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diffuscope.byte_examples import ByteExamples
from diffuscope.distributed import process_group, rank, shard, wait_for_all
from diffuscope.exact import ShardedEmpirical, _screening
from diffuscope.exact._products import chunks

SIGMAS = (80.0, 5.0, 0.1)  # all points matter, thousands or few, one
MEMORY = 128 * 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=64_000, help="number of pictures (default %(default)s)")
    parser.add_argument("--side", type=int, default=64, help="their side in pixels (default %(default)s)")
    parser.add_argument("--batch", type=int, default=64, help="noised pictures in a call (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="calls at every noise level (default %(default)s)")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2], help="(default 1 2)")
    parser.add_argument("--floats", action="store_true", help="without products of 8-bit integers")
    parser.add_argument("--json", type=Path, help="write the results to this file")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)  # the folder, in a process that measures
    options = parser.parse_args()
    if options.measure:
        if options.floats:
            _screening.integer_products_are_fast = lambda **_: False
        measure(options)
        return
    with tempfile.TemporaryDirectory(prefix="sharded-") as folder:
        start = time.perf_counter()
        write_pictures(Path(folder) / "pictures.bin", options.points, options.side)
        written = time.perf_counter() - start
        found = {"points": options.points, "values": options.side**2, "batch": options.batch, "writing_s": written}
        found["runs"] = []
        for count in options.processes:
            found["runs"].append(in_processes(count, options, Path(folder)))
            if options.json:
                options.json.write_text(json.dumps(found, indent=1))
    print(table(found))


def write_pictures(path: Path, n: int, side: int) -> None:
    """Pictures of coarse patches with one of 997 grains, the same for equal n and side."""
    generator = torch.Generator().manual_seed(0)
    patch = max(1, side // 16)
    cells = -(-side // patch)
    grains = torch.randint(0, 40, (997, side, side), dtype=torch.uint8, generator=generator)
    with path.open("wb") as file:
        for start in range(0, n, 4096):
            count = min(4096, n - start)
            coarse = (80 + 40 * torch.randn(count, cells, cells, generator=generator)).clamp(20, 200).byte()
            pictures = coarse.repeat_interleave(patch, 1).repeat_interleave(patch, 2)[:, :side, :side].contiguous()
            pictures += grains[torch.randint(997, (count,), generator=generator)]
            file.write(pictures.numpy().data)


def in_processes(count: int, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """The measurements of one run: of process 0, which waits for the others."""
    threads = max(1, torch.get_num_threads() // count)
    program = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
    sizes = [f"--{name}={getattr(options, name)}" for name in ("points", "side", "batch", "rounds")]
    sizes += ["--floats"] * options.floats
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    subprocess.run([*program, __file__, *sizes, "--measure", str(folder)], check=True, env=environment)
    return {"processes": count, "threads": threads, **json.loads((folder / "found.json").read_text())}


def measure(options: argparse.Namespace) -> None:
    n, d = options.points, options.side**2
    with process_group():
        size = n * d
        pixels = torch.from_file(str(options.measure / "pictures.bin"), False, size, dtype=torch.uint8).reshape(n, d)
        data = ByteExamples(pixels, torch.arange(256) / 127.5 - 1)
        with peak_memory() as constructing:
            start = time.perf_counter()
            distribution = ShardedEmpirical(data, memory=MEMORY)
            wait_for_all()
            construction = time.perf_counter() - start
        generator = torch.Generator().manual_seed(1)
        chosen = data.rows(torch.randint(n, (options.batch,), generator=generator)).floats()
        levels = []
        for sigma in SIGMAS:
            x = chosen + sigma * torch.randn(chosen.shape, generator=generator)
            levels.append(at_level(distribution, data, x, sigma, options.rounds))
        if rank() == 0:
            found = {"construction_s": construction, "construction_mb": constructing[0], "levels": levels}
            (options.measure / "found.json").write_text(json.dumps(found))


def at_level(
    distribution: ShardedEmpirical, data: ByteExamples, x: Tensor, sigma: float, rounds: int
) -> dict[str, Any]:
    calls, products, errors = [], [timed(lambda: two_products(data, x))[0]], []
    with peak_memory() as peak:
        for _ in range(rounds):
            call, denoised = timed(lambda: distribution.denoise_with_error(x, 1.0, sigma))
            calls.append(call)
            errors.append(float(denoised.relative_error.max()))
            products.append(timed(lambda: two_products(data, x))[0])
    around = [(one + other) / 2 for one, other in pairwise(torch.tensor(products))]
    ratios = torch.tensor(calls) / torch.stack(around)
    return {
        "sigma": sigma,
        "call_s": statistics.median(call[0] for call in calls),
        "products_s": statistics.median(bare[0] for bare in products),
        "ratio": float(ratios[:, 0].quantile(0.5)),
        "cpu_ratio": float(ratios[:, 1].quantile(0.5)),
        "ratios": ratios.tolist(),
        "reported_error": max(errors),
        "memory_mb": peak[0],
    }


def two_products(data: ByteExamples, x: Tensor) -> None:
    """Of the rows of this process: the first chunk, over and over."""
    start, stop = shard(len(data))
    ranges = list(chunks(stop - start, data.shape[1], MEMORY))
    rows = data[start : start + ranges[0][1]].bytes.float()  # type: ignore[reportAttributeAccessIssue]
    scores, means = torch.empty(len(rows), len(x)), torch.zeros_like(x)
    for one, other in ranges:
        part = slice(0, other - one)
        torch.mm(rows[part], x.T, out=scores[part])
        means.addmm_(scores[part].T, rows[part])


def timed(run: Callable[[], Any]) -> tuple[tuple[float, float], Any]:
    """Seconds until all processes are done, and of computing in this one; and the result."""
    wait_for_all()
    wall, cpu = time.perf_counter(), time.process_time()
    result = run()
    cpu = time.process_time() - cpu
    wait_for_all()
    return (time.perf_counter() - wall, cpu), result


@contextmanager
def peak_memory() -> Iterator[list[float]]:
    """The most memory, in MB, that this process has taken besides files and what it had before."""

    def anonymous() -> float:
        status = Path("/proc/self/status").read_text()
        return int(status.split("RssAnon:")[1].split()[0]) / 1024

    before, done = anonymous(), threading.Event()
    peak = [0.0]

    def watch() -> None:
        while not done.wait(0.02):
            peak[0] = max(peak[0], anonymous() - before)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peak
    finally:
        done.set()
        watcher.join()


def table(found: dict[str, Any]) -> str:
    size = found["points"] * found["values"] / 1e9
    data = f"{found['points']:,} pictures of {found['values']:,} bytes ({size:.2f} GB)"
    lines = [f"{data}, batch {found['batch']}.\n"]
    lines.append(
        "| processes x threads | construction, s | sigma | call, s | two products, s | ratio | in CPU time | MB |"
    )
    lines.append("|---|" + "--:|" * 7)
    for run in found["runs"]:
        for level in run["levels"]:
            lines.append(
                f"| {run['processes']} x {run['threads']} | {run['construction_s']:.1f} | {level['sigma']:g} "
                f"| {level['call_s']:.2f} | {level['products_s']:.2f} | {level['ratio']:.2f} "
                f"| {level['cpu_ratio']:.2f} | {level['memory_mb']:.0f} |"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
