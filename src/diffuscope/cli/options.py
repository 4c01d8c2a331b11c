"""Options shared by several commands, and the checks that come before any work."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile

import torch

from diffuscope.data import DataSet, Kind, load_data
from diffuscope.errors import InputError
from diffuscope.files import sole_writer

from .devices import chosen_device
from .failures import TRACEBACK
from .processes import follows


@dataclass(frozen=True)
class DataOptions:
    """The data."""

    data: str = "digits"
    """Name (digits, mnist, fashion-mnist, cifar10, two-moons, spirals, swiss-roll, rings, checkerboard), array
    file (.npy, .npz, .h5, .zarr, or file.npz:name for one array in it), table (.csv, .tsv, .parquet), or folder of
    images, of CIFAR-10's batches, of a Hugging Face data set, of DICOM or of NIfTI files."""
    heldout: str | None = None
    """Held-out data, in the same forms as --data; by default the test set of --data, or else a random part of it."""
    kind: Kind = "auto"
    """What an example is, where its shape does not say it."""
    group: str | None = None
    """Unit behind several examples, which no split divides: a column, "folder", "patient", or a file of ids."""
    heldout_group: str | None = None
    """The same for --heldout, where --group is a file."""
    data_range: tuple[float, float] | None = None
    """Lowest and highest possible value, for instance 0 255, which a model takes as those of its data_range; required
    for integer arrays and, with a model, for vectors, series, volumes and latents that state none."""
    train_limit: int | None = None
    """Number of training examples, chosen at random; by default all."""

    def check(self) -> None:
        """Raises InputError for values that no data set fits."""
        require_range("data_range", self.data_range)
        if self.train_limit is not None:
            require_within("train_limit", self.train_limit, 2, 10**12)

    def load(self, seed: int) -> DataSet:
        """The data set, in its own range."""
        return load_data(
            self.data, heldout=self.heldout, data_range=self.data_range, kind=self.kind, group=self.group,
            heldout_group=self.heldout_group, train_limit=self.train_limit, seed=seed,
        )  # fmt: skip


@dataclass(frozen=True)
class DeviceOptions:
    """Where networks run."""

    device: str | None = None
    """Device of the networks: cpu, cuda or cuda:1; by default cpu, and under torchrun one GPU for each process if there
    are any. Data stay on the CPU."""

    def chosen(self) -> torch.device:
        """Raises InputError for a device that this machine lacks."""
        return chosen_device(self.device)


@dataclass(frozen=True)
class TrainOptions:
    """Length of the training."""

    train_steps: int = 2000
    """Number of training steps."""
    batch_size: int = 64
    """Examples per step."""

    def check(self) -> None:
        """Raises InputError for counts outside their ranges."""
        require_within("train_steps", self.train_steps, 1, 10**9)
        require_within("batch_size", self.batch_size, 1, 10**6)


def require_within(name: str, value: int, least: int, most: int) -> None:
    """Raises InputError unless least <= value <= most."""
    if not least <= value <= most:
        raise InputError(f"{name}: expected a whole number from {least:,} to {most:,}, got {value}")


def require_range(name: str, value: tuple[float, float] | None) -> None:
    """Raises InputError unless the lower end comes first."""
    if value is not None and not value[0] < value[1]:
        raise InputError(f"{name}: expected two numbers, the lower first, got {value[0]:g} {value[1]:g}")


def require_writable_file(name: str, path: Path) -> None:
    """Raises InputError, before any work is done, if the file cannot be written; creates its folder."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{name}: cannot create the folder {path.parent} ({reason})") from error
    try:
        is_folder = path.is_dir()
        with NamedTemporaryFile(dir=path.parent, prefix=f"{path.name}."):  # as the write: a new file beside the old one
            pass
    except (OSError, ValueError) as error:
        raise InputError(f"{name}: cannot write {path} ({getattr(error, 'strerror', None) or error})") from error
    if is_folder:
        raise InputError(f"{name}: expected a file, got the folder {path}")


@contextmanager
def writing(out: Path, *names: str) -> Iterator[None]:
    """The folder `out`, created, and written by this process alone until the block ends.

    Raises InputError, before any work is done, if the folder or the files `names` in it cannot be written, or if
    another process writes there. Under torchrun the first process alone writes.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"out: cannot create the folder {out} ({reason})") from error
    if follows():
        yield
        return
    if not os.access(out, os.W_OK):
        raise InputError(f"out: the folder {out} is not writable")
    for name in names:
        if (out / name).is_dir():
            raise InputError(f"out: expected to write the file {out / name}, which is a folder")
    with sole_writer(out):
        (out / TRACEBACK).unlink(missing_ok=True)  # of an earlier run
        yield
