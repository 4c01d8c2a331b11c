"""Seeded initial weights: networks draw theirs from torch's global generator, whose state is restored afterwards."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the global generator inside the block, and restore its state afterwards.

    >>> import torch
    >>> from diffuscope.denoisers import seeded
    >>> def weights(seed):
    ...     with seeded(seed):
    ...         return torch.nn.Linear(1, 1).weight.item()
    >>> state, same, other = torch.get_rng_state(), weights(3) == weights(3), weights(3) == weights(4)
    >>> same, other, torch.equal(torch.get_rng_state(), state)
    (True, False, True)
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
