"""The exact denoiser of MNIST: ours, smalldiffusion's IdealDenoiser, and the two bare matrix products it cannot avoid.

Queries are training points with noise. All contestants take turns in every round. A time is the fastest round's, which
other work on the machine disturbs least; a ratio is that of the fastest rounds, and in brackets the median of all.
"""

import gzip
import importlib
import importlib.util
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from unittest.mock import MagicMock

import numpy as np
import torch
from torch import Tensor

from diffuscope.data import data_folder
from diffuscope.exact import Empirical

SIGMAS = (20.0, 2.0, 1.0, 0.1)
ROUNDS = {1: 21, 64: 11}


def main() -> None:
    points, source = data()
    print(f"Data: {source}, {len(points):,} x {points[0].numel()} in float32; {torch.get_num_threads()} threads.\n")
    distribution = Empirical(points)
    peer, absence = ideal_denoiser(points)
    print(
        "| batch | sigma | ours, ms | two products, ms | smalldiffusion, ms | ours / two products "
        "| smalldiffusion / ours | ours: reported error | posterior variance, ms |"
    )
    print("|--:" * 9 + "|")
    generator = torch.Generator().manual_seed(0)
    for batch, rounds in ROUNDS.items():
        for sigma in SIGMAS:
            chosen = points[torch.randint(len(points), (batch,), generator=generator)]
            x = chosen + sigma * torch.randn(chosen.shape, generator=generator)
            contestants: dict[str, Callable[[], object]] = {
                "ours": lambda x=x, sigma=sigma: distribution.denoise(x, 1.0, sigma),
                "products": two_products(x, points),
                "variance": lambda x=x, sigma=sigma: distribution.posterior_covariance(x, 1.0, sigma).trace(),
            }
            if peer is not None:
                contestants["peer"] = lambda x=x, sigma=sigma: peer(x, torch.tensor(sigma))
            times = interleaved(contestants, rounds)
            fastest = {name: f"{1e3 * min(values):.1f}" for name, values in times.items()}
            against_peer = ratio(times["peer"], times["ours"]) if peer is not None else "-"
            error = float(distribution.denoise_with_error(x, 1.0, sigma).relative_error.max())
            print(
                f"| {batch} | {sigma:g} | {fastest['ours']} | {fastest['products']} | {fastest.get('peer', '-')} "
                f"| {ratio(times['ours'], times['products'])} | {against_peer} | {error:.0e} "
                f"| {fastest['variance']} |",
                flush=True,
            )
    if peer is None:
        print(f"\nsmalldiffusion was left out: {absence}")


def data() -> tuple[Tensor, str]:
    """MNIST's training images in [0, 1], or uniform noise of the same size where they are absent."""
    file = data_folder() / "mnist" / "train-images-idx3-ubyte.gz"
    if not file.is_file():
        generator = torch.Generator().manual_seed(0)
        return torch.rand(60_000, 1, 28, 28, generator=generator), "synthetic (the MNIST file is absent)"
    with gzip.open(file) as stream:
        pixels = np.frombuffer(stream.read(), np.uint8, offset=16).copy()
    return torch.from_numpy(pixels).reshape(-1, 1, 28, 28).float() / 255, "MNIST"


def ideal_denoiser(points: Tensor) -> tuple[Callable[[Tensor, Tensor], Tensor] | None, str]:
    """The peer, or None with the reason; packages that its denoiser never calls may be absent."""
    idle = [name for name in ("accelerate", "einops", "torchvision") if importlib.util.find_spec(name) is None]
    sys.modules.update({name: MagicMock() for name in idle})
    try:
        peer = importlib.import_module("smalldiffusion").IdealDenoiser(points)
    except ImportError as error:
        return None, str(error)
    finally:
        for name in idle:
            del sys.modules[name]
    return peer, ""


def two_products(x: Tensor, points: Tensor) -> Callable[[], None]:
    queries, keys = x.flatten(1), points.flatten(1)
    scores, means = torch.empty(len(queries), len(keys)), torch.empty_like(queries)

    def multiply() -> None:
        torch.mm(queries, keys.T, out=scores)
        torch.mm(scores, keys, out=means)

    return multiply


def interleaved(contestants: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of every contestant in every round, after one round that does not count."""
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds + 1):
        for name, run in contestants.items():
            start = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - start)
    return {name: values[1:] for name, values in times.items()}


def ratio(first: list[float], second: list[float]) -> str:
    median = statistics.median(a / b for a, b in zip(first, second, strict=True))
    return f"{min(first) / min(second):.2f} ({median:.2f})"


if __name__ == "__main__":
    main()
