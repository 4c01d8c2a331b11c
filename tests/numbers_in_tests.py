"""Numbers in double precision as they are typed, and streams of random ones by their seeds."""

import numpy as np
import torch


def double(*rows: object) -> torch.Tensor:
    """One row of numbers, or rows of equal shapes, in float64."""
    return torch.tensor(rows, dtype=torch.float64)


def seeded(seed: int = 0) -> torch.Generator:
    """A fresh generator: twice the same draws from the same seed."""
    return torch.Generator().manual_seed(seed)


def rng(seed: int = 0) -> np.random.Generator:
    """The same of numpy."""
    return np.random.default_rng(seed)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    """Standard normal numbers in float64."""
    return torch.randn(*shape, dtype=torch.float64, generator=seeded(seed))
