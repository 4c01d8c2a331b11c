r"""Random streams by name: independent of each other, so that what is drawn for one purpose never moves another.

A stream is seeded with the first 63 bits of SHA-256 over the seed and the names, separated by a unit separator.
"""

import hashlib

import numpy as np
import torch

from diffuscope.errors import InputError

SEEDS = 2**63


def torch_stream(seed: int, *names: str) -> torch.Generator:
    """The generator of this seed and these names, on the CPU.

    >>> import torch
    >>> from diffuscope.streams import torch_stream
    >>> names = ["draw", "noise"], ["draw", "noise"], ["drawnoise"]
    >>> x, same, another = (torch.randn(3, generator=torch_stream(7, *each)) for each in names)
    >>> torch.equal(x, same), torch.equal(x, another)
    (True, False)
    """
    return torch.Generator().manual_seed(_key(seed, names))


def numpy_stream(seed: int, *names: str) -> np.random.Generator:
    """The same for NumPy.

    >>> import hashlib
    >>> import numpy as np
    >>> from diffuscope.streams import numpy_stream
    >>> digest = hashlib.sha256("7\\x1fnoise".encode()).digest()
    >>> known = np.random.default_rng(int.from_bytes(digest[:8], "big") >> 1)
    >>> bool(numpy_stream(7, "noise").integers(10**9) == known.integers(10**9))
    True
    """
    return np.random.default_rng(_key(seed, names))


def require_seed(seed: int) -> None:
    """Raises InputError unless 0 <= seed < 2^63, the seeds that every generator takes.

    >>> from diffuscope.streams import require_seed
    >>> require_seed(2**63 - 1)
    >>> require_seed(-1)
    Traceback (most recent call last):
        ...
    diffuscope.errors.InputError: seed: expected a whole number from 0 to 2^63 - 1, got -1
    """
    if not 0 <= seed < SEEDS:
        raise InputError(f"seed: expected a whole number from 0 to 2^63 - 1, got {seed}")


def _key(seed: int, names: tuple[str, ...]) -> int:
    digest = hashlib.sha256("\x1f".join([str(seed), *names]).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
