"""Which examples are held out, where the data do not say: a random part of them, or of the groups.

With groups, these are put in a random order, and the first of them are held out: as many as bring the number of
examples nearest to the fraction asked for. No group is then on both sides.
"""

import torch
from jaxtyping import Int64
from torch import Tensor

from diffuscope.errors import InputError

from .dataset import FEWEST

Indices = tuple[Int64[Tensor, " train"], Int64[Tensor, " heldout"]]


def random_split(n: int, fraction: float, seed: int, argument: str, origin: str) -> Indices:
    """The positions to train on and to hold out; InputError for fewer than 2 of either."""
    n_heldout = round(_checked(fraction) * n)
    if min(n_heldout, n - n_heldout) < FEWEST:
        count = "one single example" if n == 1 else f"{n} examples, {n_heldout} of them to hold out"
        raise InputError(
            f"{argument}: {origin} has {count}; expected at least {FEWEST} to train on and {FEWEST} to hold out"
        )
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    return order[n_heldout:], order[:n_heldout]


def group_split(groups: Int64[Tensor, " n"], fraction: float, seed: int, argument: str, origin: str) -> Indices:
    """The positions to train on and to hold out, no group on both sides; InputError where there is no such split."""
    sizes = torch.bincount(groups)
    order = torch.randperm(len(sizes), generator=torch.Generator().manual_seed(seed))
    heldout = sizes[order].cumsum(0)[:-1]
    possible = (heldout >= FEWEST) & (heldout <= len(groups) - FEWEST)
    if not possible.any():
        raise InputError(
            f"{argument}: {origin} has {len(groups)} examples in {len(sizes)} groups; expected groups that leave at "
            f"least {FEWEST} examples to train on and {FEWEST} to hold out"
        )
    off = (heldout - _checked(fraction) * len(groups)).abs().where(possible, torch.inf)
    held = torch.isin(groups, order[: int(off.argmin()) + 1])
    shuffled = torch.randperm(len(groups), generator=torch.Generator().manual_seed(seed))
    return shuffled[~held[shuffled]], shuffled[held[shuffled]]


def _checked(fraction: float) -> float:
    if not 0 < fraction < 1:
        raise InputError(f"heldout_fraction: got {fraction:g}, expected a number between 0 and 1")
    return fraction
