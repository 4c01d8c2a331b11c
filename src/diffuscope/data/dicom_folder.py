r"""Examples from a folder of DICOM files, `.dcm`, read with pydicom (an extra).

Each file is one gray image. Stored values become those of the modality, :math:`x = m\,v + b` with the file's
RescaleSlope m and RescaleIntercept b (Hounsfield units in computed tomography), and the range is that of all values
that the stored bits allow. Where the photometric interpretation is MONOCHROME1, low values are bright; such files do
not mix with others. `patient` is the PatientID and `folder` the folder that holds the file: either can be the group.
"""

import warnings
from pathlib import Path
from typing import Any

import numpy as np

from diffuscope.errors import InputError
from diffuscope.memory import require_memory

from .examples import Examples, Source
from .extras import not_installed
from .image_folder import files_of, folders_of
from .value_range import Range

SUFFIXES = frozenset({".dcm", ".dicom"})
PIXELS = "PixelData"


def read_dicom_folder(folder: Path, argument: str) -> Source:
    """The images of a folder.

    Raises InputError if pydicom is not installed, for files that are damaged or hold no single gray image, and for
    images of different sizes.
    """
    try:
        import pydicom
    except ImportError:
        raise not_installed(argument, folder, "pydicom", "dicom") from None
    paths = files_of(folder, SUFFIXES)
    values = np.empty(0, dtype=np.float32)
    patients = np.empty(len(paths), dtype=object)
    ends: list[Range] = []
    size, kind = (0, 0), ""
    for i, path in enumerate(paths):
        with warnings.catch_warnings(action="ignore"):  # about metadata that are not used
            try:
                header = pydicom.dcmread(path)
                found = (int(header.Rows), int(header.Columns))
            except Exception:  # pydicom's readers raise many kinds
                raise _unreadable(path, argument) from None
            _require_gray(header, path, argument)
            if i == 0:
                size, kind = found, str(header.PhotometricInterpretation)
                n_bytes = 4.0 * len(paths) * size[0] * size[1]
                require_memory(2 * n_bytes, argument, f"{folder}, {len(paths):,} images of {size[1]} x {size[0]},")
                values = np.empty((len(paths), 1, *size), dtype=np.float32)
            if found != size:
                raise InputError(
                    f"{argument}: {path} is {found[1]} x {found[0]} and {paths[0].name} is {size[1]} x {size[0]}; "
                    "expected images of one size (width x height)"
                )
            if str(header.PhotometricInterpretation) != kind:
                raise InputError(
                    f"{argument}: {path} is {header.PhotometricInterpretation} and {paths[0].name} is {kind}; "
                    "expected one photometric interpretation"
                )
            try:
                slope, intercept = float(header.get("RescaleSlope", 1)), float(header.get("RescaleIntercept", 0))
                values[i, 0] = np.asarray(header.pixel_array, dtype=np.float64) * slope + intercept
                ends.append(_range(header, slope, intercept))
            except Exception:  # those of pydicom's decoders too
                raise _unreadable(path, argument) from None
        patients[i] = str(header.get("PatientID", "")) or None
    files = tuple(path.relative_to(folder).as_posix() for path in paths)
    data_range = (min(end[0] for end in ends), max(end[1] for end in ends))
    examples = Examples(
        argument, str(folder), values, data_range=data_range, kind="images", files=files,
        identities={"patient": lambda: patients, "folder": lambda: folders_of(files)},
    )  # fmt: skip
    return Source(folder.resolve().name, examples)


def _require_gray(header: Any, path: Path, argument: str) -> None:
    samples, frames = int(header.get("SamplesPerPixel", 1)), int(header.get("NumberOfFrames", 1) or 1)
    if PIXELS not in header:
        raise InputError(f"{argument}: {path} holds no image; expected DICOM files with {PIXELS}")
    if samples != 1 or frames != 1 or not str(header.get("PhotometricInterpretation", "")).startswith("MONOCHROME"):
        raise InputError(
            f"{argument}: {path} has {frames} frames of {samples} samples a pixel "
            f"({header.get('PhotometricInterpretation', 'unknown')}); expected one gray image a file"
        )


def _range(header: Any, slope: float, intercept: float) -> Range:
    """The values that the stored bits allow, as those of the modality."""
    bits = int(header.BitsStored)
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if int(header.PixelRepresentation) else (0, 2**bits - 1)
    ends = sorted((low * slope + intercept, high * slope + intercept))
    return ends[0], ends[1]


def _unreadable(path: Path, argument: str) -> InputError:
    return InputError(
        f"{argument}: {path} cannot be read, it is damaged, no DICOM file, or compressed in a way that needs another "
        "package; expected a whole file"
    )
