"""What a folder of images says beside its pixels: depth, orientation, labels, splits."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from diffuscope.data import DataSet, load_data
from diffuscope.errors import InputError


def in_order(data: DataSet) -> torch.Tensor:
    return torch.cat([data.train, data.heldout])[torch.cat([data.train_index, data.heldout_index]).argsort()]


def pixels(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, 5, 4), dtype=np.uint8)


def write(folder: Path, paths: list[str], images: np.ndarray) -> str:
    for path, image in zip(paths, images, strict=True):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / path)
    return str(folder)


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_sixteen_bits_are_read_in_full(tmp_path: Path, suffix: str):
    images = np.random.default_rng(0).integers(0, 65536, (6, 5, 4)).astype(np.uint16)
    data = load_data(write(tmp_path, [f"{i}.{suffix}" for i in range(6)], images))
    assert np.array_equal(in_order(data)[:, 0].numpy(), images.astype(np.float32))
    assert data.data_range == (0.0, 65535.0)


def test_sixteen_bits_with_the_high_byte_first_are_read_in_full(tmp_path: Path):
    images = np.random.default_rng(0).integers(0, 65536, (4, 5, 4)).astype(np.uint16)
    for i, image in enumerate(images):
        Image.frombytes("I;16B", (4, 5), image.astype(">u2").tobytes()).save(tmp_path / f"{i}.tiff")
    assert np.array_equal(in_order(load_data(str(tmp_path)))[:, 0].numpy(), images.astype(np.float32))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_stand_as_their_orientation_says(tmp_path: Path, orientation: int):
    upright = pixels(4)
    # the stored image, of which the reader makes the upright one (EXIF 2.32, tag 0x0112)
    stored = {
        1: upright, 2: upright[:, :, ::-1], 3: upright[:, ::-1, ::-1], 4: upright[:, ::-1],
        5: upright.transpose(0, 2, 1), 6: np.rot90(upright, 1, (1, 2)),
        7: np.rot90(upright, 2, (1, 2)).transpose(0, 2, 1), 8: np.rot90(upright, -1, (1, 2)),
    }[orientation]  # fmt: skip
    for i, image in enumerate(stored):
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.fromarray(np.ascontiguousarray(image)).save(tmp_path / f"{i}.png", exif=exif)
    # an upright one among them is of the same size
    Image.fromarray(upright[0]).save(tmp_path / "9.png")
    assert np.array_equal(in_order(load_data(str(tmp_path)))[:4, 0].numpy(), upright.astype(np.float32))


def test_the_topmost_folder_is_the_label_and_means_the_same_on_both_sides(tmp_path: Path):
    images = pixels(12)
    train = write(tmp_path / "a", [f"{label}/{i}.png" for label in ("cat", "dog") for i in range(3)], images[:6])
    held = write(tmp_path / "b", [f"{label}/x/{i}.png" for label in ("bee", "dog") for i in range(3)], images[6:])
    data = load_data(train, heldout=held)
    assert data.train_labels is not None
    assert data.heldout_labels is not None
    assert data.train_labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert data.heldout_labels.tolist() == [2, 2, 2, 1, 1, 1]
    Image.fromarray(images[0, ::-1]).save(Path(train) / "zzz.png")
    assert load_data(train).train_labels is None


def test_train_and_test_beside_each_other_are_training_and_heldout_examples(tmp_path: Path):
    images = pixels(10)
    paths = [f"train/{label}/{i}.png" for label in ("cat", "dog") for i in range(3)] + [
        f"test/dog/{i}.png" for i in range(4)
    ]
    data = load_data(write(tmp_path, paths, images))
    assert np.array_equal(data.train[:, 0].numpy(), images[:6].astype(np.float32))
    assert np.array_equal(data.heldout[:, 0].numpy(), images[6:].astype(np.float32))
    assert data.train_labels is not None
    assert data.train_labels.tolist() == [0, 0, 0, 1, 1, 1]


def test_a_folder_of_files_that_no_reader_knows_says_which_are(tmp_path: Path):
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(InputError, match=r"holds no image; expected \.bmp, .*DICOM or NIfTI files, or a Hugging Face"):
        load_data(str(tmp_path))


def test_a_tiff_without_its_size_is_one_line(tmp_path: Path):
    path = tmp_path / "a.tiff"
    Image.fromarray(pixels(1)[0]).save(path)
    whole = path.read_bytes()
    at = whole.index(
        b"\x00\x01\x04\x00" if b"\x00\x01\x04\x00" in whole else b"\x00\x01\x03\x00"
    )  # the tag of the width
    path.write_bytes(whole[:at] + b"\xff\x7f" + whole[at + 2 :])
    with pytest.raises(InputError, match=r"a.tiff cannot be read, it is damaged or no tiff image"):
        load_data(str(tmp_path))
