"""Data sets that go by a name.

`digits` comes with scikit-learn, and the toys of the plane are drawn from distributions known exactly (see `toys`). The
others are read where `places` finds them; official test images are the held-out examples.

Sources: digits, Alpaydin & Kaynak 1998; MNIST, LeCun et al. 1998; Fashion-MNIST, Xiao et al. 2017;
CIFAR-10, Krizhevsky 2009.
"""

from pathlib import Path

import numpy as np

from diffuscope.errors import InputError
from diffuscope.exact import TOYS

from .cifar import is_array_folder, read_arrays, read_batches
from .examples import Examples, Source
from .idx import read_idx
from .places import require_found
from .registry import PUBLISHED
from .toys import read_toy
from .value_range import BYTES

NAMES = ("digits", *PUBLISHED, *TOYS)


def read_named(name: str, argument: str, seed: int) -> Source:
    """The data set called `name`, one of NAMES; raises InputError where its files are absent or damaged.

    `seed` decides what is drawn of a toy; the others are what they are.
    """
    if name in TOYS:
        return read_toy(name, argument, seed)
    if name == "digits":
        return _digits(argument)
    folder = require_found(name, argument)
    if name != "cifar10":
        return _idx_pair(name, folder, argument)
    return (read_arrays if is_array_folder(folder) else read_batches)(folder, argument)


def _digits(argument: str) -> Source:
    from sklearn.datasets import load_digits  # a second that other data need not wait

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
