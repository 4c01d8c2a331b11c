"""Groups as units: the scans of one patient are not independent, but one random scan of each patient is.

Conformal p-values, permuted names and intervals need independent, exchangeable examples. If the groups are a sample of
all groups, one random example of each is a sample of independent examples, however alike those of one group are. It
gives every group the same weight, whatever its size: so it is compared with samples of which the same is true.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Int, Int64, Shaped
from numpy import ndarray
from torch import Tensor

from diffuscope.errors import InputError

from .subject import FEWEST, Subject

OF_GROUPS = "Of every group one example at random counts, since those of one group are not independent."


def one_of_each(groups: Shaped[ndarray, " n"] | Sequence[object], rng: np.random.Generator) -> Int[ndarray, " groups"]:
    """The index of one random row of every group, increasing: rows that are independent if the groups are.

    >>> groups = np.array([5, 9, 5, 5])
    >>> places = one_of_each(groups, np.random.default_rng(0))
    >>> len(places), sorted(groups[places].tolist())
    (2, [5, 9])
    """
    labels = np.unique(np.asarray(groups), return_inverse=True)[1].ravel()
    order = rng.permutation(len(labels))
    return np.sort(order[np.unique(labels[order], return_index=True)[1]])


def independent(subject: Subject, rng: np.random.Generator) -> tuple[Int64[Tensor, " n"], Int64[Tensor, " m"]]:
    """The places of independent training and held-out examples: one of each group; all where there are no groups."""
    places = [
        np.arange(len(rows)) if groups is None else one_of_each(groups.numpy(), rng)
        for rows, groups in ((subject.train, subject.train_groups), (subject.heldout, subject.heldout_groups))
    ]
    return torch.from_numpy(places[0]), torch.from_numpy(places[1])


def one_of_each_group(subject: Subject, rng: np.random.Generator) -> Subject:
    """The subject with one example of each group, and without owners and originals; the same without groups.

    Raises InputError for fewer than 20 groups of either kind.
    """
    if subject.train_groups is None:
        return replace(subject, train_owners=None, heldout_owners=None, originals=None)
    train, heldout = independent(subject, rng)
    if min(len(train), len(heldout)) < FEWEST:
        counts = f"{len(train):,} and {len(heldout):,}"
        raise InputError(f"group: expected at least {FEWEST} training and {FEWEST} held-out groups, got {counts}")
    return replace(
        subject,
        train=subject.train[train],
        heldout=subject.heldout[heldout],
        train_labels=None if subject.train_labels is None else subject.train_labels[train],
        heldout_labels=None if subject.heldout_labels is None else subject.heldout_labels[heldout],
        train_groups=None,
        heldout_groups=None,
        train_owners=None,
        heldout_owners=None,
        originals=None,
    )
