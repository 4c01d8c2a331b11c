"""CIFAR-10's own batches: binary ones are read record by record, pickled ones are refused."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from diffuscope.data import load_data
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


def test_the_name_finds_the_batches_where_there_are_no_sheets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    images, _ = batches(tmp_path / "cifar-10-batches-bin")
    monkeypatch.setenv("DIFFUSCOPE_DATA", str(tmp_path))
    assert np.array_equal(pictures(load_data("cifar10").heldout), images[5])


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
