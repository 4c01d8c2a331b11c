"""CIFAR-10: binary batches are read record by record, arrays are mapped, pickled batches are refused."""

import pickle
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from diffuscope.data import load_data
from diffuscope.data.cifar import read_arrays
from diffuscope.data.examples import Examples
from diffuscope.errors import InputError


def batch(path: Path, n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Write `n` records; the images (n, 32, 32, 3) and labels they stand for."""
    draw = np.random.default_rng(seed)
    images, labels = draw.integers(0, 256, (n, 32, 32, 3), dtype=np.uint8), draw.integers(0, 10, n, dtype=np.uint8)
    with path.open("wb") as file:
        for image, label in zip(images, labels, strict=True):
            # label, then the red plane, the green, the blue, each row by row
            file.write(bytes([label]) + b"".join(image[:, :, channel].tobytes() for channel in range(3)))
    return images, labels


def batches(folder: Path, test: bool = True) -> tuple[list[np.ndarray], list[np.ndarray]]:
    folder.mkdir(parents=True)
    names = [f"data_batch_{i}.bin" for i in range(1, 6)] + (["test_batch.bin"] if test else [])
    written = [batch(folder / name, 4, seed) for seed, name in enumerate(names)]
    (folder / "batches.meta.txt").write_text("airplane\nautomobile\n")
    return [images for images, _ in written], [labels for _, labels in written]


def refusal(spec: str) -> str:
    with pytest.raises(InputError) as raised:
        load_data(spec)
    line = str(raised.value)
    assert "\n" not in line
    assert "expected" in line
    assert raised.value.__cause__ is None
    return line


def pictures(x: torch.Tensor) -> np.ndarray:
    return x.permute(0, 2, 3, 1).numpy()


def test_five_batches_are_the_training_set_and_the_sixth_is_held_out(tmp_path: Path):
    images, labels = batches(tmp_path / "cifar")
    data = load_data(str(tmp_path / "cifar"))
    assert np.array_equal(pictures(data.train), np.concatenate(images[:5]))
    assert np.array_equal(pictures(data.heldout), images[5])
    assert data.train_labels is not None
    assert data.heldout_labels is not None
    assert data.train_labels.tolist() == np.concatenate(labels[:5]).tolist()
    assert data.heldout_labels.tolist() == labels[5].tolist()
    assert data.data_range == (0, 255)


def test_without_the_test_batch_the_training_images_are_split(tmp_path: Path):
    batches(tmp_path / "cifar", test=False)
    data = load_data(str(tmp_path / "cifar"))
    assert (len(data.train), len(data.heldout)) == (10, 10)


def test_one_batch_alone_is_split(tmp_path: Path):
    images, _ = batch(tmp_path / "data_batch_3.bin", 10, 0)
    data = load_data(str(tmp_path / "data_batch_3.bin"))
    assert np.array_equal(pictures(data.train), images[data.train_index])


@pytest.mark.parametrize("name", ["cifar-10-batches-bin", "cifar10"])
def test_the_name_finds_the_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str):
    images, _ = batches(tmp_path / name)
    monkeypatch.setenv("DIFFUSCOPE_DATA", str(tmp_path))
    assert np.array_equal(pictures(load_data("cifar10").heldout), images[5])


def arrays(folder: Path, **changed: np.ndarray) -> dict[str, np.ndarray]:
    """Write the four arrays, some of them others than they should be."""
    draw = np.random.default_rng(0)
    values = {}
    for part, n in (("train", 5), ("test", 3)):
        values[f"{part}_images"] = draw.integers(0, 256, (n, 3, 32, 32), dtype=np.uint8)
        values[f"{part}_labels"] = draw.integers(0, 10, n, dtype=np.uint8)
    folder.mkdir(parents=True)
    for name, value in (values | changed).items():
        np.save(folder / f"{name}.npy", value)
    return values


def test_the_name_finds_the_arrays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    values = arrays(tmp_path / "cifar10")
    monkeypatch.setenv("DIFFUSCOPE_DATA", str(tmp_path))
    data = load_data("cifar10")
    assert np.array_equal(data.train.numpy(), values["train_images"].astype("f4"))
    assert np.array_equal(data.heldout.numpy(), values["test_images"].astype("f4"))
    assert data.train_labels is not None
    assert data.train_labels.tolist() == values["train_labels"].tolist()
    assert data.data_range == (0, 255)


def test_arrays_are_mapped_from_disk_and_not_read_whole(tmp_path: Path):
    arrays(tmp_path / "cifar10")
    source = read_arrays(tmp_path / "cifar10", "data")
    for part in (source.train, source.heldout):
        assert isinstance(part, Examples)
        assert isinstance(part.values, np.memmap)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("train_images", np.zeros((5, 32, 32, 3), np.uint8), r"expected images \(n, 3, 32, 32\) and one label"),
        ("test_labels", np.zeros(4, np.uint8), "expected images .* and one label for each"),
        ("train_images", np.zeros((5, 3, 32, 32), np.float32), "has dtype float32; expected uint8"),
        ("test_labels", np.array([0, 10, 3], np.uint8), r"has a label 10, expected 0 \.\. 9"),
        ("test_images", np.array([{}], object), "cannot be read; expected a whole .npy file"),
    ],
)
def test_arrays_that_are_not_cifar10(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name, value, expected):
    arrays(tmp_path / "cifar10", **{name: value})
    monkeypatch.setenv("DIFFUSCOPE_DATA", str(tmp_path))
    assert re.search(expected, refusal("cifar10"))


def test_pickled_batches_are_refused_and_never_run(tmp_path: Path):
    ran = tmp_path / "ran"

    class Trap:
        def __reduce__(self) -> tuple:
            return (Path.touch, (ran,))

    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for name in ("data_batch_1", "test_batch"):
        (folder / name).write_bytes(pickle.dumps(Trap()))
    line = refusal(str(folder))
    assert "pickles, which are never loaded" in line
    assert "data_batch_*.bin" in line
    # a single one, and one that was renamed
    assert "pickles, which are never loaded" in refusal(str(folder / "data_batch_1"))
    (tmp_path / "data_batch_1.bin").write_bytes(pickle.dumps(Trap()))
    assert "pickles are never loaded" in refusal(str(tmp_path / "data_batch_1.bin"))
    assert not ran.exists()


@pytest.mark.parametrize("size", [0, 1, 3072, 3074, 2 * 3073 - 1])
def test_a_batch_cut_short(tmp_path: Path, size: int):
    (tmp_path / "data_batch_1.bin").write_bytes(b"\0" * size)
    assert f"{size} bytes, expected a multiple of 3073" in refusal(str(tmp_path))


def test_a_label_that_is_none(tmp_path: Path):
    content = bytearray(3 * 3073)
    content[3073] = 10
    (tmp_path / "data_batch_1.bin").write_bytes(content)
    assert "a label 10, expected 0 .. 9" in refusal(str(tmp_path))


def test_a_test_batch_alone_in_a_folder(tmp_path: Path):
    batch(tmp_path / "test_batch.bin", 4, 0)
    assert "no data_batch_*.bin file" in refusal(str(tmp_path))


# sheets of tiles, which a script of the repository turns into arrays

TOOL = Path(__file__).parents[2] / "tools" / "cifar_sheets.py"


def sheets(folder: Path, labels: int) -> None:
    """One sheet of each part: tile k has k in its first pixel, and in its last pixel the part."""
    folder.mkdir()
    for part, mark, name in (("train", 1, "labels_train"), ("test", 2, "labels_test_first1000")):
        pixels = np.zeros((25 * 32, 40 * 32, 3), np.uint8)
        for k in range(1000):
            row, column = divmod(k, 40)
            pixels[32 * row, 32 * column] = k % 256, k // 256, 7
            pixels[32 * row + 31, 32 * column + 31] = 0, 0, mark
        Image.fromarray(pixels).save(folder / f"{part}_00.webp", lossless=True)
        np.save(folder / f"{name}.npy", (np.arange(labels) % 10).astype(np.uint8))


def test_sheets_become_arrays_in_reading_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    sheets(tmp_path / "sheets", 1000)
    subprocess.run([sys.executable, TOOL, tmp_path / "sheets", "--out", tmp_path / "data"], check=True)
    monkeypatch.setenv("DIFFUSCOPE_DATA", str(tmp_path / "data"))
    data = load_data("cifar10")
    k = torch.arange(1000)
    for part, mark in ((data.train, 1), (data.heldout, 2)):
        first, last = part[:, :, 0, 0], part[:, :, 31, 31]
        assert torch.equal(first.long(), torch.stack([k % 256, k // 256, torch.full_like(k, 7)], 1))
        assert torch.equal(last.long(), torch.tensor([0, 0, mark]).expand(1000, 3))
        assert int(part.count_nonzero()) == int(first.count_nonzero() + last.count_nonzero())
    assert data.train_labels is not None
    assert torch.equal(data.train_labels, k % 10)


def test_sheets_with_another_number_of_labels_are_refused(tmp_path: Path):
    sheets(tmp_path / "sheets", 999)
    ended = subprocess.run(
        [sys.executable, TOOL, tmp_path / "sheets", "--out", tmp_path / "data"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 1
    assert "1 sheets of 1,000 train images, and 999 labels" in ended.stderr
