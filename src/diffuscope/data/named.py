"""Data sets that go by a name.

`digits` comes with scikit-learn, and the toys of the plane are drawn from laws known exactly (see `toys`). The others
are read from the data folder, which the environment variable DIFFUSCOPE_DATA names and which otherwise is
`../shared/data`; MNIST and its kin also from `/usr/share/datasets`, where Debian's packages put them. CIFAR-10 is there
as sheets of tiles, in the folder `cifar10`, or as the batches of its binary version. Official test images are the
held-out examples.

Sources: digits, Alpaydin & Kaynak 1998; MNIST, LeCun et al. 1998; Fashion-MNIST, Xiao et al. 2017;
CIFAR-10, Krizhevsky 2009.
"""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from diffuscope.data.cifar import FOLDER, read_batches
from diffuscope.data.examples import Examples, Source
from diffuscope.data.idx import read_idx
from diffuscope.data.toys import read_toy
from diffuscope.errors import InputError
from diffuscope.exact import TOYS

NAMES = ("digits", "mnist", "fashion-mnist", "cifar10", *TOYS)
BYTES = (0.0, 255.0)

_DEBIAN = Path("/usr/share/datasets")


def read_named(name: str, argument: str, seed: int) -> Source:
    """The data set called `name`, one of NAMES; raises InputError where its files are absent or damaged.

    `seed` decides what is drawn of a toy; the others are what they are.
    """
    if name in TOYS:
        return read_toy(name, argument, seed)
    if name == "digits":
        return _digits(argument)
    if name == "cifar10":
        if not (data_folder() / name).is_dir() and (data_folder() / FOLDER).is_dir():
            return read_batches(data_folder() / FOLDER, argument)
        return _cifar10(_folder(name, [data_folder()], argument), argument)
    return _idx_pair(name, _folder(name, [data_folder(), _DEBIAN], argument), argument)


def data_folder() -> Path:
    """The folder of data sets that do not come with the library."""
    return Path(os.environ.get("DIFFUSCOPE_DATA") or "../shared/data")


def _folder(name: str, parents: Sequence[Path], argument: str) -> Path:
    for parent in parents:
        if (parent / name).is_dir():
            return parent / name
    looked = " or ".join(str(parent / name) for parent in parents)
    raise InputError(f"{argument}: {name} was looked for in {looked}; expected it there, or set DIFFUSCOPE_DATA")


def _digits(argument: str) -> Source:
    values, labels = load_digits(return_X_y=True)
    images = np.asarray(values).reshape(-1, 1, 8, 8)
    return Source(
        "digits", Examples(argument, "digits (scikit-learn)", images, np.asarray(labels, dtype=np.int64), (0.0, 16.0))
    )


def _idx_pair(name: str, folder: Path, argument: str) -> Source:
    def part(prefix: str) -> Examples:
        images = read_idx(folder / f"{prefix}-images-idx3-ubyte.gz", argument)
        labels = read_idx(folder / f"{prefix}-labels-idx1-ubyte.gz", argument)
        if images.ndim != 3 or labels.shape != images.shape[:1]:
            raise InputError(
                f"{argument}: {folder}/{prefix}-* have shapes {images.shape} and {labels.shape}; "
                "expected images (n, H, W) and one label for each"
            )
        return Examples(argument, f"{name} ({prefix})", images[:, None], labels.astype(np.int64), BYTES)

    return Source(name, part("train"), part("t10k"))


def _cifar10(folder: Path, argument: str) -> Source:
    def part(prefix: str, labels_file: str) -> Examples:
        paths = sorted(folder.glob(f"{prefix}_*.webp"))
        try:
            labels = np.load(folder / labels_file, allow_pickle=False).astype(np.int64)
            values = np.concatenate([_sheet(path) for path in paths])
        except (OSError, EOFError, ValueError):
            raise InputError(
                f"{argument}: {folder}/{prefix}_*.webp or {labels_file} is absent or damaged; "
                "expected sheets of 25 x 40 images"
            ) from None
        if len(labels) != len(values):
            raise InputError(f"{argument}: {folder} has {len(values)} {prefix} images; expected {len(labels)}")
        return Examples(argument, f"cifar10 ({prefix})", values.transpose(0, 3, 1, 2), labels, BYTES)

    return Source("cifar10", part("train", "labels_train.npy"), part("test", "labels_test_first1000.npy"))


def _sheet(path: Path) -> np.ndarray:
    """The 1,000 images (32, 32, 3) of a sheet of 25 x 40 tiles, in reading order."""
    with Image.open(path) as image:
        sheet = np.asarray(image.convert("RGB"))
    return sheet.reshape(25, 32, 40, 32, 3).transpose(0, 2, 1, 3, 4).reshape(1000, 32, 32, 3)
