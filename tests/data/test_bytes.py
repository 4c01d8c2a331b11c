"""Data of bytes that stay bytes are the data of float32 that they would have been, in every use."""

import numpy as np
import pytest
import torch
from torch import Tensor

from diffuscope import byte_examples
from diffuscope.byte_examples import ByteExamples
from diffuscope.data import as_tensors, data_from_arrays, data_statistics, load_data, make_canaries, read_samples
from diffuscope.data.dataset import DataSet
from diffuscope.errors import InputError

N, SHAPE = 30, (3, 5, 4)
RANGE = (0.0, 255.0)


@pytest.fixture
def pixels() -> np.ndarray:
    pixels = np.random.default_rng(0).integers(0, 256, (N, *SHAPE), dtype=np.uint8)
    pixels[7], pixels[21] = pixels[3], pixels[0]  # repeats
    return pixels


def identical(one: Tensor | None, other: Tensor | None) -> bool:
    if one is None or other is None:
        return one is other
    return one.dtype == other.dtype and torch.equal(one, other)


def require_identical(held: DataSet, plain: DataSet) -> None:
    assert isinstance(held.train, ByteExamples)
    assert isinstance(held.heldout, ByteExamples)
    assert not isinstance(plain.train, ByteExamples)
    for name in ("train", "heldout", "train_index", "heldout_index", "train_labels", "heldout_labels", "train_groups"):
        assert identical(getattr(held, name), getattr(plain, name)), name
    for name in ("data_range", "provenance", "kind", "notes", "duplicates", "shared", "group_names", "event_shape"):
        assert getattr(held, name) == getattr(plain, name), name


@pytest.fixture
def both(monkeypatch):
    """Loads data held as bytes, none of which become floats as a whole, and as float32."""

    def load(*args, function=load_data, **options) -> tuple[DataSet, DataSet]:
        plain = function(*args, **options)
        with monkeypatch.context() as patch:
            patch.setattr(as_tensors, "ABOVE", 0)
            patch.setattr(byte_examples, "LARGEST", 4 * 60 * 2)  # two examples
            patch.setattr(byte_examples, "PART", 4 * 60 * 2)
            held = function(*args, **options)
            assert (held.duplicates, held.shared) == (plain.duplicates, plain.shared)
        return held, plain

    return load


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"train_limit": 5, "seed": 3},
        {"heldout_fraction": 0.2},
        {"group": "groups"},
        {"heldout": "other"},
    ],
    ids=str,
)
def test_a_file_of_bytes_is_split_and_limited_as_in_float32(tmp_path, both, pixels, options):
    path = tmp_path / "x.npy"
    np.save(path, pixels)
    if "group" in options:
        np.save(tmp_path / "groups.npy", np.arange(N) // 4)
        options = {"group": str(tmp_path / "groups.npy")}
    if "heldout" in options:
        np.save(tmp_path / "other.npy", pixels[10:25] + 1)
        options = {"heldout": str(tmp_path / "other.npy")}
    held, plain = both(str(path), data_range=RANGE, **options)
    require_identical(held, plain)
    for low, high in ((-1.0, 1.0), (0, 1)):
        require_identical(held.in_range(low, high), plain.in_range(low, high))
    moved = held.in_range(-1, 1), plain.in_range(-1, 1)
    subsets = [data.subset(4, 3, seed=1) for data in moved]
    assert identical(subsets[0].train, subsets[1].train)
    assert identical(subsets[0].heldout, subsets[1].heldout)


def test_a_mapped_file_is_not_copied(tmp_path, monkeypatch, pixels):
    np.save(tmp_path / "x.npy", pixels)
    monkeypatch.setattr(as_tensors, "ABOVE", 0)
    seen = []
    made = as_tensors.in_bytes
    monkeypatch.setattr(
        as_tensors, "in_bytes", lambda examples, index: seen.append(examples.values) or made(examples, index)
    )
    data = load_data(str(tmp_path / "x.npy"), data_range=RANGE)
    assert all(isinstance(values, np.memmap) for values in seen)
    assert isinstance(data.train, ByteExamples)
    assert len(data.train) + len(data.heldout) == N
    assert data.train._stored.data_ptr() == data.heldout._stored.data_ptr() == seen[0].ctypes.data


def test_channels_may_come_last_and_archives_have_labels(tmp_path, both, pixels):
    np.savez(tmp_path / "x.npz", x=pixels.transpose(0, 2, 3, 1), y=np.arange(N) % 3)
    require_identical(*both(str(tmp_path / "x.npz"), data_range=RANGE, kind="auto"))
    np.savez(tmp_path / "y.npz", train=pixels, test=pixels[:12] ^ 1, train_labels=np.arange(N) % 3)
    require_identical(*both(str(tmp_path / "y.npz"), data_range=RANGE))


def test_arrays_in_memory_stay_where_they_are(both, pixels):
    held, plain = both(pixels, function=data_from_arrays, data_range=RANGE)
    require_identical(held, plain)
    assert isinstance(held.train, ByteExamples)
    assert held.train._stored.data_ptr() == pixels.ctypes.data
    flat, series = pixels.reshape(N, -1), pixels.reshape(N, 3, 20)
    require_identical(*both(flat, function=data_from_arrays, data_range=RANGE))
    require_identical(*both(series, function=data_from_arrays, data_range=RANGE, kind="series"))


def test_only_8_bits_and_all_parts_stay_bytes(monkeypatch, pixels):
    monkeypatch.setattr(as_tensors, "ABOVE", 0)
    for x, heldout in ((pixels.astype(np.uint16), None), (pixels, pixels[:5].astype(np.float32) / 2)):
        data = data_from_arrays(x, heldout, data_range=RANGE)
        assert not isinstance(data.train, ByteExamples)
        assert not isinstance(data.heldout, ByteExamples)
    monkeypatch.setattr(as_tensors, "ABOVE", 4 * pixels.size)
    assert not isinstance(data_from_arrays(pixels, data_range=RANGE).train, ByteExamples)
    monkeypatch.setattr(as_tensors, "ABOVE", 4 * pixels.size - 1)
    assert isinstance(data_from_arrays(pixels, data_range=RANGE).train, ByteExamples)


def test_samples_of_bytes_are_in_the_range_of_the_data(tmp_path, monkeypatch, pixels):
    data = data_from_arrays(pixels, data_range=RANGE).in_range(-1, 1)
    np.save(tmp_path / "s.npy", pixels[::-1][:25])
    plain = read_samples(str(tmp_path / "s.npy"), RANGE, like=data).values
    monkeypatch.setattr(as_tensors, "ABOVE", 0)
    held = read_samples(str(tmp_path / "s.npy"), RANGE, like=data).values
    assert isinstance(held, ByteExamples)
    assert identical(held, plain)
    with pytest.raises(InputError, match="--samples-range 0 255"):
        read_samples(str(tmp_path / "s.npy"), None, like=data)


def test_one_that_is_the_same_in_every_example_is_refused(monkeypatch, pixels):
    monkeypatch.setattr(as_tensors, "ABOVE", 0)
    with pytest.raises(InputError, match="are all the same"):
        data_from_arrays(np.repeat(pixels[:1], N, axis=0), data_range=RANGE)
    with pytest.raises(InputError, match="expected them in"):
        data_from_arrays(pixels, data_range=(0, 100))


def test_the_fingerprint_is_that_of_the_values(both, pixels):
    held, _ = both(pixels, function=data_from_arrays, data_range=RANGE)
    again, _ = both(pixels.copy(), function=data_from_arrays, data_range=RANGE)
    assert held.fingerprint() == again.fingerprint()
    pixels = pixels.copy()
    pixels[-1, -1, -1, -1] ^= 1
    other, _ = both(pixels, function=data_from_arrays, data_range=RANGE)
    assert len({held.fingerprint(), other.fingerprint(), held.in_range(-1, 1).fingerprint()}) == 3


def test_bytes_of_a_table_that_is_not_injective_are_compared_as_values(pixels):
    flat = torch.from_numpy(pixels.reshape(N, -1) % 2)
    held = ByteExamples(flat, torch.cat([torch.tensor([0.0, -0.0]), torch.arange(254.0)]))
    data = data_from_arrays(np.arange(40.0).reshape(20, 2))
    data = DataSet("x", held, held[:4], (0.0, 1.0), "", torch.arange(N), torch.arange(4), kind="vectors")
    assert (data.duplicates, data.shared) == (N - 1, 4)


def test_statistics_and_canaries_are_those_of_the_values(both, pixels):
    held, plain = both(pixels, function=data_from_arrays, data_range=RANGE)
    one, other = (data_statistics(data).gaussian for data in (held, plain))
    assert torch.equal(one.mean, other.mean)
    assert torch.equal(one.eigenvalues, other.eigenvalues)
    canaries = [make_canaries(data, 20, seed=1) for data in (held, plain)]
    assert identical(canaries[0].examples, canaries[1].examples)
