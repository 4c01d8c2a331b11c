"""Folders of medical scans, as files of a gray image each."""

from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid


def dicom(path: Path, pixels: np.ndarray, patient: str, **changes: object) -> None:
    """A file of one gray image of 12 stored bits in 16."""
    header = Dataset()
    computed_tomography, instance = UID("1.2.840.10008.5.1.4.1.1.2"), generate_uid(entropy_srcs=[str(path)])
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.file_meta.MediaStorageSOPClassUID, header.file_meta.MediaStorageSOPInstanceUID = (
        computed_tomography,
        instance,
    )
    header.SOPClassUID, header.SOPInstanceUID = computed_tomography, instance
    header.PatientID, header.Rows, header.Columns = patient, *pixels.shape
    header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
    header.BitsAllocated, header.BitsStored, header.HighBit = 16, 12, 11
    header.PixelRepresentation, header.RescaleSlope, header.RescaleIntercept = 0, 2.0, -1024.0
    header.PixelData = pixels.astype("<u2").tobytes()
    for name, value in changes.items():
        if value is None:
            delattr(header, name)
        else:
            setattr(header, name, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    header.save_as(path, enforce_file_format=True)


def scans(folder: Path, n: int = 8, **changes: object) -> np.ndarray:
    pixels = np.random.default_rng(0).integers(0, 4096, (n, 6, 5))
    for i in range(n):
        dicom(folder / f"p{i % 4}" / f"{i}.dcm", pixels[i], f"patient {i % 4}", **changes)
    # in the order of the paths
    return pixels[sorted(range(n), key=lambda i: f"p{i % 4}/{i}.dcm")]
