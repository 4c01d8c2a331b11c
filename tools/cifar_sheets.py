"""CIFAR-10 from sheets of tiles to the arrays that diffuscope reads: a chore of development, not part of the package.

    python tools/cifar_sheets.py FOLDER_OF_SHEETS [--out FOLDER]

A sheet is a lossless WebP of 25 x 40 tiles of 32 x 32 pixels, 1,000 images in reading order: `train_*.webp` with
`labels_train.npy`, and `test_*.webp` with `labels_test_first1000.npy`. They become `cifar10/train_images.npy`
(n, 3, 32, 32), `cifar10/train_labels.npy` and the same for `test`, all uint8, in the folder `--out`; without it in the
user's cache, where `--data cifar10` finds them.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

LABELS = {"train": "labels_train.npy", "test": "labels_test_first1000.npy"}


def converted(sheets: Path, out: Path) -> Path:
    """Write the arrays of a folder of sheets; the folder they are in. Images are written sheet by sheet."""
    folder = out / "cifar10"
    for part, labels_file in LABELS.items():
        if not (sheets / labels_file).is_file():
            raise SystemExit(f"{sheets}: there is no {labels_file}")
        paths, labels = sorted(sheets.glob(f"{part}_*.webp")), np.load(sheets / labels_file, allow_pickle=False)
        if len(labels) != 1000 * len(paths):
            raise SystemExit(f"{sheets}: {len(paths)} sheets of 1,000 {part} images, and {len(labels)} labels")
        folder.mkdir(parents=True, exist_ok=True)
        name, shape = folder / f"{part}_images.npy", (len(labels), 3, 32, 32)
        images = np.lib.format.open_memmap(name, mode="w+", dtype=np.uint8, shape=shape)
        for i, path in enumerate(paths):
            images[1000 * i : 1000 * (i + 1)] = tiles(path)
        images.flush()
        np.save(folder / f"{part}_labels.npy", labels.astype(np.uint8))
    return folder


def tiles(path: Path) -> np.ndarray:
    """The 1,000 images (3, 32, 32) of a sheet."""
    with Image.open(path) as image:
        sheet = np.asarray(image.convert("RGB"))
    return sheet.reshape(25, 32, 40, 32, 3).transpose(0, 2, 4, 1, 3).reshape(1000, 3, 32, 32)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=str(__doc__), formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sheets", type=Path, help="folder of train_*.webp, test_*.webp and their labels")
    parser.add_argument("--out", type=Path, help="folder for cifar10/*.npy; without it the user's cache")
    arguments = parser.parse_args()
    if arguments.out is None:
        from diffuscope.data import cache_folder

        arguments.out = cache_folder()
    print(converted(arguments.sheets, arguments.out))
