"""Seven kinds of data, and as many independent examples of each as are asked for.

MNIST and CIFAR-10 (the folder that DIFFUSCOPE_DATA names; CIFAR-10 as `tools/cifar_sheets.py` writes it), latents (32
principal components of MNIST), volumes (a ball of Gaussian profile in 12^3 voxels, with noise), series (two channels of
a sine of 64 steps, with noise), points in the plane (two moons), a table of mixed columns, and a table of which most
columns are categorical, so that rows repeat innocently. The images are random ones of the training and test sets
together.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diffuscope.data import fit_table, load_data, toy_data
from diffuscope.exact import Gaussian

Columns = dict[str, Any]
CITIES, SHARES = ("Berlin", "Paris", "Rome", "Oslo", "Vienna"), (0.4, 0.3, 0.15, 0.1, 0.05)
FEATURES = 32


@cache
def images(name: str) -> Callable[[int, int], Tensor]:
    @cache
    def both() -> Tensor:
        data = load_data(name).in_range(-1.0, 1.0)
        return torch.cat([data.train, data.heldout])

    def drawn(n: int, seed: int) -> Tensor:
        return both()[torch.randperm(len(both()), generator=torch.Generator().manual_seed(seed))[:n]]

    return drawn


@cache
def basis() -> Gaussian:
    return Gaussian.fit([images("mnist")(10_000, 0)]).truncate(FEATURES)


def latents(n: int, seed: int) -> Tensor:
    """(n, 8, 2, 2): principal components of MNIST, of unit deviation together."""
    pictures = images("mnist")(n, seed)
    rows = (pictures - basis().mean.float()).flatten(1) @ basis().eigenvectors.float()
    return (rows / rows.std()).reshape(n, 8, 2, 2)


def volumes(n: int, seed: int) -> Tensor:
    """(n, 1, 12, 12, 12)."""
    rng = np.random.default_rng(seed)
    grid = np.mgrid[0:12, 0:12, 0:12].astype(np.float32)
    center, radius = rng.uniform(3, 9, (n, 3, 1, 1, 1)), rng.uniform(1.5, 4, (n, 1, 1, 1))
    square = sum((grid[k] - center[:, k]) ** 2 for k in range(3))
    made = np.exp(-square / (2 * radius**2)) + 0.05 * rng.normal(size=(n, 12, 12, 12))
    return torch.from_numpy(made.astype(np.float32))[:, None]


def series(n: int, seed: int) -> Tensor:
    """(n, 2, 64)."""
    rng = np.random.default_rng(seed)
    frequency, phase, height = (rng.uniform(*ends, (n, 2, 1)) for ends in ((0.5, 3), (0, 2 * np.pi), (0.5, 1.5)))
    made = height * np.sin(2 * np.pi * frequency * np.arange(64) / 64 + phase) + 0.1 * rng.normal(size=(n, 2, 64))
    return torch.from_numpy(made.astype(np.float32))


def moons(n: int, seed: int) -> Tensor:
    return toy_data("two-moons", n_train=n, n_heldout=2, seed=seed).train


def mixed_columns(n: int, seed: int) -> Columns:
    """Whole and real numbers with missing values, categories, a date: rows do not repeat."""
    rng = np.random.default_rng(seed)
    age = rng.integers(18, 90, n)
    weight = rng.normal(25, 4, n).round(1)
    weight[rng.random(n) < 0.1] = np.nan
    return {
        "age": age,
        "income": np.exp(rng.normal(10, 0.8, n) + 0.01 * (age - 40)).round(2),
        "city": rng.choice(CITIES, n, p=SHARES),
        "job": np.where(age > 65, "retired", rng.choice(["clerk", "nurse", "driver", "teacher"], n)),
        "smoker": rng.random(n) < 0.3,
        "since": np.datetime64("2015-01-01") + rng.integers(0, 3000, n).astype("timedelta64[D]"),
        "bmi": weight,
    }


def _skewed(kinds: int, ratio: float) -> dict[str, float]:
    total = (1 - ratio**kinds) / (1 - ratio)
    return {f"kind {k}": ratio**k / total for k in range(kinds)}


COARSE: dict[str, dict[Any, float]] = {
    "decade": dict(zip(range(20, 90, 10), (0.24, 0.22, 0.18, 0.14, 0.10, 0.08, 0.04), strict=True)),
    "city": dict(zip(CITIES, SHARES, strict=True)),
    "job": _skewed(8, 0.6),
    "diagnosis": _skewed(12, 0.5),
    "ward": _skewed(6, 0.4),
    "insurance": _skewed(3, 0.3),
    "smoker": {True: 0.2, False: 0.8},
}


def coarse_columns(n: int, seed: int) -> Columns:
    """Six independent categorical columns and an age by decade, all skewed: rows repeat often."""
    rng = np.random.default_rng(seed)
    return {name: rng.choice(list(of), n, p=list(of.values())) for name, of in COARSE.items()}


def coarse_probability(columns: Columns) -> np.ndarray:
    """The probability of each row."""
    return np.prod([[of[value] for value in columns[name].tolist()] for name, of in COARSE.items()], axis=0)


def encoded(made: Callable[[int, int], Columns], columns: Columns) -> Tensor:
    """Rows of a table that is fitted to 10,000 others of the kind."""
    return fit_table(made(10_000, 99)).encode(columns)


KINDS: dict[str, Callable[[int, int], Tensor]] = {
    "points in the plane": moons,
    "series": series,
    "volumes": volumes,
    "latents": latents,
    "table": lambda n, seed: encoded(mixed_columns, mixed_columns(n, seed)),
    "table of categories": lambda n, seed: encoded(coarse_columns, coarse_columns(n, seed)),
    "MNIST": images("mnist"),
    "CIFAR-10": images("cifar10"),
}
