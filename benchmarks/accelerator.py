"""On a GPU: the exact denoiser of 1.28 million points against two bare matrix products, and ratios of training steps.

The points are made (a Gaussian of rank 64 in 4,096 or 12,288 dimensions, plus noise), on the GPU and in float32;
queries are points with noise. `products` is the fastest of interleaved rounds of the two products x y^T and w y of the
same size, as `ours` is of the whole denoiser. Training: the library's U-Net on digits, batch 128 and 512.

    python benchmarks/accelerator.py [points] [dimensions ...]
"""

import sys
import time
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from diffuscope.data import load_data
from diffuscope.exact import Empirical
from diffuscope.training import new_denoiser, recipe, train
from empirical import interleaved, two_products

BATCH, ROUNDS, RANK = 64, 9, 64
SIGMAS = (20.0, 2.0, 0.2)
STEPS, WARMUP = 50, 10


def main() -> None:
    if not torch.cuda.is_available():
        raise SystemExit("no GPU is present")
    numbers = [int(word) for word in sys.argv[1:]] or [1_280_000, 4096, 12_288]
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, float32\n", flush=True)
    print(
        "| points | d | sigma | ours, ms | two products, ms | ours / products | reported error | peak beyond data, GB |"
    )
    print("|--:" * 8 + "|", flush=True)
    for d in numbers[1:]:
        denoisers(numbers[0], d)
    print("\n| batch | way | ms per step | over plain |\n|--:|---|--:|--:|", flush=True)
    for batch in (128, 512):
        ways = {"plain": seconds_per_step(batch), "bfloat16": seconds_per_step(batch, precision="bfloat16")}
        ways["compiled"] = seconds_per_step(batch, compiled=True)
        for way, taken in ways.items():
            print(f"| {batch} | {way} | {1e3 * taken:.2f} | {taken / ways['plain']:.2f} |", flush=True)


def made(count: int, d: int, generator: torch.Generator) -> Tensor:
    """The points, written block by block."""
    directions = torch.randn(RANK, d, generator=generator, device="cuda") / RANK**0.5
    points = torch.empty(count, d, device="cuda")
    for part in points.split(16_384):
        torch.mm(torch.randn(len(part), RANK, generator=generator, device="cuda"), directions, out=part)
        part += 0.1 * torch.randn(part.shape, generator=generator, device="cuda")
    return points


def denoisers(count: int, d: int) -> None:
    """One table row per noise level."""
    generator = torch.Generator("cuda").manual_seed(0)
    points = made(count, d, generator)
    distribution = Empirical(points, memory=4 * 2**30)
    for sigma in SIGMAS:
        chosen = points[torch.randint(count, (BATCH,), generator=generator, device="cuda")]
        x = chosen + sigma * torch.randn(chosen.shape, generator=generator, device="cuda")
        torch.cuda.reset_peak_memory_stats()
        error = float(distribution.denoise_with_error(x, 1.0, sigma).relative_error.max())
        beyond = torch.cuda.max_memory_allocated() - points.numel() * 4
        contestants = {
            "ours": synchronized(lambda x=x, sigma=sigma: distribution.denoise(x, 1.0, sigma)),
            "products": synchronized(on_gpu(x, points)),
        }
        times = {name: min(values) for name, values in interleaved(contestants, ROUNDS).items()}
        ratio = times["ours"] / times["products"]
        ours, products = 1e3 * times["ours"], 1e3 * times["products"]
        print(
            f"| {count:,} | {d:,} | {sigma:g} | {ours:.1f} | {products:.1f} | {ratio:.2f} | {error:.0e} "
            f"| {beyond / 1e9:.1f} |",
            flush=True,
        )


def on_gpu(x: Tensor, points: Tensor) -> Callable[[], None]:
    """The two products with outputs on the GPU."""
    with torch.device("cuda"):
        return two_products(x, points)


def synchronized(run: Callable[[], object]) -> Callable[[], None]:
    """`run` until the GPU has finished."""

    def timed() -> None:
        run()
        torch.cuda.synchronize()

    return timed


def seconds_per_step(batch: int, *, precision: str = "float32", compiled: bool = False) -> float:
    """The mean of STEPS steps after WARMUP."""
    data = load_data("digits").in_range(-1.0, 1.0).train
    denoiser = new_denoiser(data, (-1.0, 1.0), seed=0).to("cuda")
    settings = recipe(denoiser.sigma_data, steps=WARMUP + STEPS, batch_size=batch, seed=0)
    run = train(denoiser, data, replace(settings, precision=precision, compiled=compiled), checkpoint=None)
    for _ in range(WARMUP):
        next(run)
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(STEPS):
        next(run)
    torch.cuda.synchronize()
    taken = (time.perf_counter() - start) / STEPS
    run.close()
    return taken


if __name__ == "__main__":
    main()
