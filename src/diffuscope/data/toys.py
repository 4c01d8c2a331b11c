"""Toys of the plane as data sets: examples drawn from distributions whose diffusion is known exactly.

`diffuscope.exact.known_distribution` gives the distribution back, in the data's own units or in the range they were
mapped to.
"""

import numpy as np
import torch

from diffuscope.errors import InputError
from diffuscope.exact import Superposition, known_distribution, known_range

from .dataset import FEWEST
from .examples import Examples, Source

EXAMPLES = 5000  # to train on, and as many to hold out


def read_toy(name: str, argument: str, seed: int, n_train: int = EXAMPLES, n_heldout: int = EXAMPLES) -> Source:
    """`n_train` + `n_heldout` independent draws of the toy `name`; labels say which arc, circle or square.

    Raises InputError for fewer than 2 of either and for a seed that is not one of 64 bits.
    """
    for what, n in (("n_train", n_train), ("n_heldout", n_heldout)):
        if n < FEWEST:
            raise InputError(f"{what}: got {n}, expected at least {FEWEST}")
    if not 0 <= seed < 2**63:
        raise InputError(f"seed: got {seed}, expected 0 or a positive number below 2^63")
    distribution, generator = known_distribution(name), torch.Generator().manual_seed(seed)
    if isinstance(distribution, Superposition):
        drawn, which = distribution.sample_with_labels(n_train + n_heldout, generator=generator)
        values, labels = drawn.numpy(), which.numpy()
    else:
        values, labels = distribution.sample(n_train + n_heldout, generator=generator).numpy(), None

    def part(rows: slice, what: str) -> Examples:
        origin = f"{name} ({what}, drawn with seed {seed})"
        own = None if labels is None else labels[rows].astype(np.int64)
        return Examples(argument, origin, values[rows], own, known_range(name))

    return Source(name, part(slice(0, n_train), "training"), part(slice(n_train, None), "held out"))
