"""Options shared by several commands, and the check of the output folder."""

import os
from dataclasses import dataclass
from pathlib import Path

from diffuscope.data import DataSet, load_data
from diffuscope.errors import InputError


@dataclass(frozen=True)
class DataOptions:
    """The data."""

    data: str = "digits"
    """Name (digits, mnist, fashion-mnist, cifar10, two-moons, spirals, swiss-roll, rings, checkerboard), array
    file (.npy, .npz, .h5, or file.h5:name for one data set in it), or folder of images or of CIFAR-10's batches."""
    heldout: str | None = None
    """Held-out data, in the same forms as --data; by default the test set of --data, or else a random part of it."""
    data_range: tuple[float, float] | None = None
    """Lowest and highest possible value, for instance 0 255; required for integer arrays."""
    train_limit: int | None = None
    """Number of training examples, chosen at random; by default all."""

    def load(self, seed: int) -> DataSet:
        """The data set, in its own range."""
        data = load_data(self.data, heldout=self.heldout, data_range=self.data_range, seed=seed)
        return data if self.train_limit is None else data.subset(self.train_limit, len(data.heldout), seed=seed)


@dataclass(frozen=True)
class TrainOptions:
    """Length of the training."""

    train_steps: int = 2000
    """Number of training steps."""
    batch_size: int = 64
    """Examples per step."""


def require_folder(out: Path) -> None:
    """Create the folder `out`; raises InputError if it cannot be written, before any work is done."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"out: cannot create the folder {out} ({error.strerror})") from error
    if not os.access(out, os.W_OK):
        raise InputError(f"out: the folder {out} is not writable")
