r"""Random streams by name: independent of each other, so that what is drawn for one purpose never moves another.

A stream is seeded with the first 63 bits of SHA-256 over the seed and the names, separated by a unit separator.
"""

import hashlib

import numpy as np
import torch

from diffuscope.errors import InputError

SEEDS = 2**63


def torch_stream(seed: int, *names: str) -> torch.Generator:
    """The generator of this seed and these names, on the CPU."""
    return torch.Generator().manual_seed(_key(seed, names))


def numpy_stream(seed: int, *names: str) -> np.random.Generator:
    """The same for NumPy."""
    return np.random.default_rng(_key(seed, names))


def require_seed(seed: int) -> None:
    """Raises InputError unless 0 <= seed < 2^63, the seeds that every generator takes."""
    if not 0 <= seed < SEEDS:
        raise InputError(f"seed: expected a whole number from 0 to 2^63 - 1, got {seed}")


def _key(seed: int, names: tuple[str, ...]) -> int:
    digest = hashlib.sha256("\x1f".join([str(seed), *names]).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
