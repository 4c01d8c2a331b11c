"""Options that several commands share, and the folder that all of them write to."""

import os
from dataclasses import dataclass
from pathlib import Path

from diffuscope.data import DataSet, load_data
from diffuscope.errors import InputError


@dataclass(frozen=True)
class DataOptions:
    """Which data."""

    data: str = "digits"
    """digits, mnist, fashion-mnist, cifar10, two-moons, spirals, swiss-roll, rings or checkerboard (see diffuscope data
    list); a .npy, .npz or .h5 file (file.h5:name); or a folder, of images or of CIFAR-10's binary batches."""
    heldout: str | None = None
    """Held-out data, in the same forms as --data; by default the data's own test set, or a random part of the data."""
    data_range: tuple[float, float] | None = None
    """Lowest and highest possible value, for instance 0 255; needed for integer arrays."""
    train_limit: int | None = None
    """Use at most this many training examples, chosen at random."""

    def load(self, seed: int) -> DataSet:
        """The data set, in its own range."""
        data = load_data(self.data, heldout=self.heldout, data_range=self.data_range, seed=seed)
        return data if self.train_limit is None else data.subset(self.train_limit, len(data.heldout), seed=seed)


@dataclass(frozen=True)
class TrainOptions:
    """How long to train."""

    train_steps: int = 2000
    """Number of training steps."""
    batch_size: int = 64
    """Examples per step."""


def require_folder(out: Path) -> None:
    """Make `out`, so that an unwritable place shows before any work is done."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"out: cannot make the folder {out} ({error.strerror})") from error
    if not os.access(out, os.W_OK):
        raise InputError(f"out: the folder {out} is not writable")
