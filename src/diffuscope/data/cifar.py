"""CIFAR-10, from its authors' binary batches or from arrays.

Batches are records of one label byte and 3 x 32 x 32 bytes, red plane first: training images in `data_batch_1.bin` to
`data_batch_5.bin`, held-out ones in `test_batch.bin`, all in one folder. Arrays are `train_images.npy` (n, 3, 32, 32)
and `train_labels.npy` (n,), both uint8, and the same for `test`; images are mapped from disk, not read whole. The
authors' Python version holds pickles, which are never loaded. Source: Krizhevsky 2009,
https://www.cs.toronto.edu/~kriz/cifar.html
"""

from pathlib import Path

import numpy as np

from diffuscope.errors import InputError

from .examples import Examples, Source
from .value_range import BYTES

FOLDER = "cifar-10-batches-bin"
SHAPE = (3, 32, 32)
RECORD = 1 + 3 * 32 * 32
CLASSES = 10
ARRAYS = ("train_images.npy", "train_labels.npy", "test_images.npy", "test_labels.npy")
PICKLED = (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")
_BINARY = "cifar-10-binary.tar.gz with its data_batch_*.bin files"


def is_batch_folder(folder: Path) -> bool:
    """Whether a folder holds CIFAR batches, binary or pickled."""
    names = [*PICKLED, *(f"{name}.bin" for name in PICKLED)]
    return any((folder / name).is_file() for name in names)


def is_array_folder(folder: Path) -> bool:
    """Whether a folder holds all four arrays."""
    return all((folder / name).is_file() for name in ARRAYS)


def is_pickled_batch(path: Path) -> bool:
    """Whether a file has the name of a batch of the Python version."""
    return path.name in PICKLED


def pickled_refusal(path: Path, argument: str) -> InputError:
    """The error for pickled batches."""
    return InputError(
        f"{argument}: {path} holds CIFAR-10's Python version, pickles, which are never loaded; expected {_BINARY}"
    )


def read_batches(folder: Path, argument: str) -> Source:
    """The images of a folder of binary batches; those of `test_batch.bin`, if present, are held out.

    Raises InputError for pickled batches, and for a batch that is truncated or has labels outside 0 .. 9.
    """
    paths = sorted(folder.glob("data_batch_*.bin"))
    if not paths:
        if any((folder / name).exists() for name in PICKLED):
            raise pickled_refusal(folder, argument)
        raise InputError(f"{argument}: {folder} holds no data_batch_*.bin file; expected {_BINARY}")
    train = _examples(paths, f"{folder}/data_batch_*.bin", argument)
    test = folder / "test_batch.bin"
    return Source("cifar10", train, _examples([test], str(test), argument) if test.exists() else None)


def read_arrays(folder: Path, argument: str) -> Source:
    """The images of a folder of arrays, memory-mapped; InputError for arrays that are not those of CIFAR-10."""

    def part(what: str) -> Examples:
        images, labels = (_array(folder / f"{what}_{name}.npy", argument) for name in ("images", "labels"))
        if images.shape[1:] != SHAPE or labels.shape != images.shape[:1] or len(labels) == 0:
            raise InputError(
                f"{argument}: {folder}/{what}_*.npy have shapes {images.shape} and {labels.shape}; "
                "expected images (n, 3, 32, 32) and one label for each"
            )
        if int(labels.max()) >= CLASSES:
            raise InputError(f"{argument}: {folder}/{what}_labels.npy has a label {labels.max()}, expected 0 .. 9")
        return Examples(argument, f"cifar10 ({what})", images, labels.astype(np.int64), BYTES)

    return Source("cifar10", part("train"), part("test"))


def read_batch(path: Path, argument: str) -> Source:
    """The images of one binary batch."""
    return Source(path.stem, _examples([path], str(path), argument))


def _examples(paths: list[Path], origin: str, argument: str) -> Examples:
    records = np.concatenate([_records(path, argument) for path in paths])
    values = records[:, 1:].reshape(-1, *SHAPE)
    return Examples(argument, origin, values, records[:, 0].astype(np.int64), BYTES)


def _records(path: Path, argument: str) -> np.ndarray:
    try:
        content = np.fromfile(path, dtype=np.uint8)
    except OSError:
        raise InputError(f"{argument}: {path} may not be read; expected a batch of CIFAR-10's binary version") from None
    if content.size == 0 or content.size % RECORD:
        raise InputError(
            f"{argument}: {path} has {content.size} bytes, expected a multiple of {RECORD} as in {_BINARY} "
            "(pickles are never loaded)"
        )
    records = content.reshape(-1, RECORD)
    if int(records[:, 0].max()) >= CLASSES:
        raise InputError(f"{argument}: {path} has a label {records[:, 0].max()}, expected 0 .. 9 as in {_BINARY}")
    return records


def _array(path: Path, argument: str) -> np.ndarray:
    try:
        array = np.load(path, mmap_mode="r")  # which takes no pickles
    except Exception:  # NumPy's parser of a damaged header raises many kinds
        raise InputError(f"{argument}: {path} cannot be read; expected a whole .npy file of bytes") from None
    if array.dtype != np.uint8:
        raise InputError(f"{argument}: {path} has dtype {array.dtype}; expected uint8")
    return array
