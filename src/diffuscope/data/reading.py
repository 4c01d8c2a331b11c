"""Which reader a spec goes to: a name, a file by its suffix, a folder by what is in it."""

import re
from contextlib import suppress
from pathlib import Path

from diffuscope.errors import InputError

from .array_file import read_npy, read_npz
from .arrow_folder import is_arrow_folder, read_arrow_file, read_arrow_folder
from .cifar import is_batch_folder, is_pickled_batch, pickled_refusal, read_batch, read_batches
from .dicom_folder import SUFFIXES as DICOM
from .dicom_folder import read_dicom_folder
from .examples import Source
from .hdf5_file import read_hdf5
from .image_folder import SUFFIXES as IMAGES
from .image_folder import read_image_folder, suffix_of
from .named import NAMES, read_named
from .nifti_folder import SUFFIXES as NIFTI
from .nifti_folder import read_nifti_folder
from .parquet_file import read_parquet
from .table_file import is_table_file, read_table
from .zarr_file import read_zarr

FORMS = (
    "a folder (images, DICOM, NIfTI, a Hugging Face data set) or a .npy, .npz, .h5, .zarr, .csv, .tsv or .parquet file"
)
PICKLES = frozenset({".pkl", ".pickle", ".pt", ".pth", ".ckpt", ".joblib"})
_MEMBER = re.compile(r"(.+?\.(?:h5|hdf5|npz|zarr|parquet))(?::(.*))?", re.IGNORECASE | re.DOTALL)


def read_source(spec: str, argument: str, seed: int) -> Source:
    """What is read from `spec`; InputError for what does not exist and for what no reader takes."""
    if spec.lower() in NAMES:
        return read_named(spec.lower(), argument, seed)
    inside = _MEMBER.fullmatch(spec)
    path = _existing(spec if inside is None else inside[1], argument)
    name = None if inside is None else inside[2]
    if path.is_dir() and path.suffix.lower() == ".zarr":
        return read_zarr(path, name, argument)
    return _folder(path, argument) if path.is_dir() else _file(path, name, argument)


def _folder(path: Path, argument: str) -> Source:
    if is_batch_folder(path):
        return read_batches(path, argument)
    if is_arrow_folder(path):
        return read_arrow_folder(path, argument)
    found = {suffix_of(file) for file in path.rglob("*")}
    if found & DICOM:
        return read_dicom_folder(path, argument)
    if found & NIFTI:
        return read_nifti_folder(path, argument)
    return read_image_folder(path, argument)


def _file(path: Path, name: str | None, argument: str) -> Source:
    suffix = path.suffix.lower()
    if suffix in (".h5", ".hdf5"):
        return read_hdf5(path, name, argument)
    if suffix == ".npz":
        return read_npz(path, name, argument)
    if suffix == ".npy":
        return read_npy(path, argument)
    if suffix == ".parquet":
        return read_parquet(path, name, argument)
    if suffix == ".arrow":
        return read_arrow_file(path, argument)
    if is_table_file(path):
        return Source(path.name.split(".")[0], read_table(path, argument))
    if is_pickled_batch(path):
        raise pickled_refusal(path, argument)
    if suffix == ".bin":
        return read_batch(path, argument)
    if suffix in PICKLES:
        raise InputError(f"{argument}: {path} may hold a pickle, which is never loaded; expected a .npy or .npz file")
    if suffix in IMAGES:
        raise InputError(f"{argument}: {path} is one single image; expected a folder of images")
    raise InputError(f"{argument}: {path} is of unknown kind; expected {FORMS}")


def _existing(spec: str, argument: str) -> Path:
    # an empty spec would be the current folder; too long a name, or the home of an unknown user, raises an error
    with suppress(OSError, RuntimeError, ValueError):
        path = Path(spec).expanduser()
        if spec and (path.is_file() or path.is_dir()):  # not a pipe, whose reader would wait
            return path
    raise InputError(
        f"{argument}: {spec!r} does not exist or may not be read; expected one of {', '.join(NAMES)}, {FORMS}"
    )
