"""Examples from a folder of NIfTI files, `.nii` or `.nii.gz`, read with nibabel (an extra).

Each file is one volume (D, H, W), in the order of its stored axes and scaled as its header says. Orientation and the
size of a voxel are not used: volumes are expected on one grid. `folder`, the folder that holds the file, can be the
group.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from logging import Logger
from pathlib import Path
from typing import Any

import numpy as np

from diffuscope.errors import InputError
from diffuscope.memory import require_memory

from .examples import Examples, Source
from .extras import not_installed
from .image_folder import files_of, folders_of

SUFFIXES = frozenset({".nii"})


def read_nifti_folder(folder: Path, argument: str) -> Source:
    """The volumes of a folder.

    Raises InputError if nibabel is not installed, for files that are damaged or are no single volume, and for volumes
    of different shapes.
    """
    try:
        import nibabel
        from nibabel.imageglobals import logger
    except ImportError:
        raise not_installed(argument, folder, "nibabel", "nifti") from None
    paths = files_of(folder, SUFFIXES)
    values = np.empty(0, dtype=np.float32)
    shape: tuple[int, ...] = ()
    for i, path in enumerate(paths):
        with warnings.catch_warnings(action="ignore"), _silent(logger):
            try:
                image: Any = nibabel.load(path)
                found = tuple(int(length) for length in image.shape)
            except Exception:  # nibabel's readers raise many kinds
                raise _unreadable(path, argument) from None
            found = found[:3] if len(found) > 3 and set(found[3:]) == {1} else found
            if min(found, default=0) < 1:
                raise _unreadable(path, argument)
            if len(found) != 3:
                raise InputError(f"{argument}: {path} has shape {found}; expected one volume (D, H, W) a file")
            if i == 0:
                shape = found
                size = np.prod(shape, dtype=float)
                require_memory(8.0 * size * len(paths), argument, f"{folder}, {len(paths):,} volumes of {shape},")
                values = np.empty((len(paths), 1, *shape), dtype=np.float32)
            if found != shape:
                raise InputError(
                    f"{argument}: {path} has shape {found} and {paths[0].name} {shape}; expected volumes of one shape"
                )
            try:
                values[i, 0] = np.asarray(image.dataobj, dtype=np.float32).reshape(shape)
            except Exception:  # as above, and those of gzip
                raise _unreadable(path, argument) from None
    files = tuple(path.relative_to(folder).as_posix() for path in paths)
    identities = {"folder": lambda: folders_of(files)}
    examples = Examples(argument, str(folder), values, kind="volumes", files=files, identities=identities)
    return Source(folder.resolve().name, examples)


@contextmanager
def _silent(logger: Logger) -> Iterator[None]:
    """Without what nibabel logs on stderr of headers that it mends."""
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


def _unreadable(path: Path, argument: str) -> InputError:
    return InputError(f"{argument}: {path} cannot be read, it is damaged or no NIfTI file; expected a whole volume")
