"""A program of several processes: exact posteriors and neighbors; each writes its results in the folder.

It also runs the program `scores.py` of the page on large data, which lies there, in the same group of processes.

The cases are functions of the two classes or functions compared, so that the test runs them on the plain ones too.
"""

import os
from collections.abc import Callable
from contextlib import nullcontext, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from diffuscope.byte_examples import ByteExamples
from diffuscope.distributed import process_group, rank
from diffuscope.errors import InputError
from diffuscope.exact import (
    ShardedEmpirical,
    sharded_leading_pairs,
    sharded_moments,
    sharded_neighbors,
    sharded_other_neighbors,
)

LEVELS = [(0.0, 1.0), (1.0, 0.003), (0.7, 0.3), (1.0, 1.5), (0.5, 40.0)]


def points(n: int, dtype: torch.dtype, seed: int = 0) -> Tensor:
    """Every third point is a copy of the first; these ties straddle any border between shards."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(n, 3, 2, generator=generator, dtype=torch.float64).to(dtype)
    drawn[::3] = drawn[0].clone()
    return drawn


def pictures(n: int) -> Tensor:
    """Smooth pictures of 16 x 16 bytes about a ramp, with a little grain; some are black or white in places."""
    generator = torch.Generator().manual_seed(2)
    coarse = torch.randn(n, 4, 4, generator=generator).repeat_interleave(4, 1).repeat_interleave(4, 2)
    ramp, grain = torch.linspace(60, 150, 16), torch.randn(n, 16, 16, generator=generator)
    return (ramp + 50 * coarse + 8 * grain).round().clamp(0, 255).to(torch.uint8)


def some_weights(n: int) -> Tensor:
    """Some are zero."""
    weights = torch.rand(n, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    weights[1::4] = 0
    return weights


def posterior(make: Callable[..., Any], n: int, dtype: torch.dtype, weights: Tensor | None) -> dict[str, Tensor]:
    """Every method at every level, for two points of the data, two of others and the midpoint of two points."""
    data = points(n, dtype)
    distribution = make(data, weights)
    generator = torch.Generator().manual_seed(9)
    found = {"sample": distribution.sample(50, generator=generator), "points": distribution.points}
    kept = len(distribution.points)
    for alpha, sigma in LEVELS:
        x = alpha * data[torch.tensor([0, n // 2])]
        x = torch.cat([x, x.flip(0) + sigma * torch.randn(x.shape, generator=generator, dtype=dtype)])
        x = torch.cat([x, alpha * (data[:1] + data[-1:]) / 2]).requires_grad_()
        v = torch.randn(x.shape, generator=generator, dtype=dtype)
        denoised = distribution.denoise(x, alpha, sigma)
        certain = distribution.denoise_with_error(x, alpha, sigma)
        covariance = distribution.posterior_covariance(x, alpha, sigma)
        nearest = distribution.nearest(x, alpha, sigma, k=min(4, kept))
        log_prob = distribution.log_prob(x, alpha, sigma)
        each = {
            "denoise": denoised,
            "gradient of denoise": torch.autograd.grad((denoised * v).sum(), x)[0],
            "gradient of log_prob": torch.autograd.grad(log_prob.sum(), x)[0],
            "value": certain.value,
            "error": certain.relative_error,
            "score": distribution.score(x, alpha, sigma),
            "log_prob": log_prob,
            "matvec": covariance.matvec(v),
            "trace": covariance.trace(),
            "diagonal": covariance.diagonal(),
            "indices": nearest.indices if alpha else nearest.indices[:0],  # without signal any point is nearest
            "weights": nearest.weights,
            "distances": nearest.distances,
        }
        found |= {f"{name} at {alpha}, {sigma}": value.detach() for name, value in each.items()}
    return found


CASES = {
    "uneven": (41, torch.float64, False),
    "weighted": (41, torch.float64, True),
    "single precision": (73, torch.float32, False),
    "fewer points than processes": (1, torch.float32, False),
    "a shard without weight": (3, torch.float64, True),
}


def case(make: Callable[..., Any], name: str) -> dict[str, Tensor]:
    n, dtype, weighted = CASES[name]
    return posterior(make, n, dtype, some_weights(n) if weighted else None)


def neighbors(nearest: Callable[..., Any], nearest_other: Callable[..., Any]) -> dict[str, Tensor]:
    """Ties within and across the shards, of copies and of points at equal distances."""
    data = points(41, torch.float32)
    grid = torch.cartesian_prod(*[torch.arange(4.0)] * 3)
    found = {}
    for name, queries, among in (("copies", data[:7], data), ("grid", grid + 0.5, grid), ("one", grid, data[:1, :, 0])):
        most = min(5, len(among))
        for k in {1, most}:
            found[f"{name} {k} distances"], found[f"{name} {k}"] = nearest(queries, among, k)
    for name, among in (("copies", data), ("grid", grid)):
        found[f"{name} other distances"], found[f"{name} other"] = nearest_other(among, 3)
    return found


def moments(moments_of: Callable[..., Any], pairs: Callable[..., Any]) -> dict[str, Tensor]:
    """Far from zero, of one example in a process and of none, whole and with a probe."""
    found = {}
    for n in (2, 41):
        data = 1e6 + points(n, torch.float64)
        for name, probe in (("whole", None), ("probed", lambda D: torch.arange(2.0 * D).reshape(D, 2).double())):
            each = moments_of(data, probe)
            found |= {f"{name} {n} mean": each.mean, f"{name} {n} product": each.product}
            found[f"{name} {n} trace"] = torch.tensor([each.trace, each.count], dtype=torch.float64)
    leading = pairs(ByteExamples(pictures(41), torch.arange(256) / 255), 3, torch.Generator().manual_seed(3))
    found |= {"eigenvalues": leading.eigenvalues, "projector": leading.eigenvectors @ leading.eigenvectors.T}
    return found


def refusals(make: Callable[..., Any], nearest: Callable[..., Any]) -> list[str]:
    """NaN in one shard alone, no weight at all, k too large."""
    poisoned = points(41, torch.float32)
    poisoned[-1] = torch.nan
    lines = []
    for wrong in (
        lambda: make(poisoned),
        lambda: make(points(5, torch.float32), torch.zeros(5)),
        lambda: make(torch.zeros(0, 3)),
        lambda: make(torch.zeros(3, 2, dtype=torch.int64)),
        lambda: make(points(5, torch.float32)).nearest(points(2, torch.float32), 1.0, 1.0, k=6),
        lambda: nearest(points(2, torch.float32), poisoned, 1),
        lambda: nearest(points(2, torch.float32), points(5, torch.float32), 6),
    ):
        try:
            wrong()
            lines.append("accepted")
        except InputError as error:
            lines.append(str(error))
    return lines


def printed_by(program: Path) -> str:
    """What the program prints, run in its folder; the group that it would join is joined already."""
    os.chdir(program.parent)
    with mock.patch("diffuscope.distributed.process_group", nullcontext), redirect_stdout(StringIO()) as printed:
        exec(compile(program.read_text(), program.name, "exec"), {})
    return printed.getvalue()


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    with process_group():
        results = {name: case(ShardedEmpirical, name) for name in CASES}
        results["neighbors"] = neighbors(sharded_neighbors, sharded_other_neighbors)
        results["moments"] = moments(
            sharded_moments, lambda x, rank, generator: sharded_leading_pairs(x, rank, generator=generator)
        )
        results["refusals"] = refusals(ShardedEmpirical, sharded_neighbors)  # type: ignore[assignment]
        results["printed"] = printed_by(folder / "scores.py")  # type: ignore[assignment]
        torch.save(results, folder / f"found{rank()}.pt")
