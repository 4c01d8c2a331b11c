"""Examples from a folder of images, in the order of their paths, subfolders included.

Where every image lies in a subfolder, the topmost one is its label, in alphabetical order; `folder`, the folder that
holds the file, can be its group. A folder that has `train` and `test` (or `heldout`, `validation`, `valid`, `val`)
beside each other, and no image beside them, has training and held-out examples.
"""

from pathlib import Path

import numpy as np

from diffuscope.errors import InputError

from .examples import Examples, Source
from .picture_cache import identity_of
from .pictures import Picture, stacked

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm"})
HELDOUT = ("test", "heldout", "validation", "valid", "val")


def read_image_folder(folder: Path, argument: str) -> Source:
    """The images of a folder; InputError for images of different sizes, with transparency, or that cannot be read."""
    paths = files_of(folder, SUFFIXES)
    if not paths:
        raise InputError(
            f"{argument}: {folder} holds no image; expected {', '.join(sorted(SUFFIXES))}, DICOM or NIfTI files, or a "
            "Hugging Face data set"
        )
    name = folder.resolve().name
    tops = {path.relative_to(folder).parts[0] for path in paths}
    heldout = next((part for part in HELDOUT if part in tops), None)
    if "train" in tops and heldout is not None and all((folder / top).is_dir() for top in tops):
        parts = [
            _examples([path for path in paths if path.is_relative_to(folder / part)], folder / part, argument)
            for part in ("train", heldout)
        ]
        return Source(name, *parts)
    return Source(name, _examples(paths, folder, argument))


def files_of(folder: Path, suffixes: frozenset[str]) -> list[Path]:
    """The files of a folder with these suffixes, subfolders included, in the order of their paths."""
    return sorted(
        path
        for path in folder.rglob("*")
        if suffix_of(path) in suffixes and path.is_file() and not path.name.startswith(".")
    )


def suffix_of(path: Path) -> str:
    """The suffix in small letters, before a final `.gz` if there is one."""
    return (path.with_suffix("") if path.suffix.lower() == ".gz" else path).suffix.lower()


def folders_of(files: tuple[str, ...]) -> np.ndarray:
    """The folder of each of these paths."""
    return np.array([str(Path(file).parent.as_posix()) for file in files], dtype=object)


def _examples(paths: list[Path], folder: Path, argument: str) -> Examples:
    pictures = [Picture(str(path), path.name, lambda path=path: path) for path in paths]
    values, data_range = stacked(pictures, identity_of(folder, paths), argument, str(folder))
    relative = [path.relative_to(folder) for path in paths]
    files = tuple(path.as_posix() for path in relative)
    nested = any(len(path.parts) > 1 for path in relative)
    names, labels = _labels(relative)
    return Examples(
        argument, str(folder), values, labels, data_range, kind="images", label_names=names, files=files,
        identities={"folder": lambda: folders_of(files)} if nested else {},
    )  # fmt: skip


def _labels(relative: list[Path]) -> tuple[tuple[str, ...], np.ndarray | None]:
    tops = [path.parts[0] for path in relative]
    names = tuple(sorted(set(tops)))
    # a single subfolder, or images beside the subfolders, are no classes
    if len(names) < 2 or any(len(path.parts) == 1 for path in relative):
        return (), None
    return names, np.array([names.index(top) for top in tops], dtype=np.int64)
