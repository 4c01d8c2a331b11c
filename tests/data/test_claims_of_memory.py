"""What a file claims to hold is held against the free memory before anything is unpacked."""

import gzip
import io
import struct
import tracemalloc
import zipfile

import h5py
import nibabel
import numpy as np
import pyarrow
import pytest
from dicom_folders import scans
from PIL import Image
from pyarrow import parquet

from diffuscope import memory
from diffuscope.data import load_data
from diffuscope.denoisers import load_npz
from diffuscope.errors import InputError

FREE = 4_000_000  # bytes


@pytest.fixture
def little_memory(tmp_path, monkeypatch):
    """A machine with 4 MB of free memory."""
    (tmp_path / "meminfo").write_text(f"MemTotal: 99999999 kB\nMemFree: 1 kB\nMemAvailable:   {FREE // 1024} kB\n")
    monkeypatch.setattr("diffuscope.memory.MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr("diffuscope.memory.CONTAINER_LIMIT", tmp_path / "none")


def large(kind, folder):
    """A small file of this kind that claims 40 MB."""
    path = folder / f"large.{kind}"
    if kind == "npz":
        np.savez_compressed(path, x=np.zeros((100_000, 100), np.float32))
    elif kind == "npy":
        array = np.lib.format.open_memmap(path, "w+", np.uint8, (100_000, 100))
        del array  # a file with a hole, which takes no space
    elif kind == "h5":
        with h5py.File(path, "w") as file:
            file.create_dataset("x", shape=(100_000, 100), dtype="f4", chunks=(1000, 100))
    elif kind == "images":
        path.mkdir()
        for name in ("a.png", "b.png"):
            Image.new("L", (2000, 2000)).save(path / name)
    else:
        folder = path / "mnist"
        folder.mkdir(parents=True)
        content = gzip.compress(struct.pack(">HBB3I", 0, 8, 3, 100_000, 20, 20) + bytes(40_000_000))
        (folder / "train-images-idx3-ubyte.gz").write_bytes(content)
    return path


@pytest.mark.usefixtures("little_memory")
@pytest.mark.parametrize("kind", ["npz", "npy", "h5", "images", "idx"])
def test_a_small_file_that_claims_more_than_the_memory_is_refused_unread(monkeypatch, tmp_path, kind):
    path = large(kind, tmp_path)
    if kind == "idx":
        monkeypatch.setenv("DIFFUSCOPE_DATA", str(path))
    tracemalloc.start()
    with pytest.raises(InputError, match=r"data: .* needs 0\.04\d* GB of memory; expected at most 0\.004") as refused:
        load_data("mnist" if kind == "idx" else str(path), data_range=(0, 255))
    assert tracemalloc.get_traced_memory()[1] < 2 * FREE
    tracemalloc.stop()
    assert "\n" not in str(refused.value)


@pytest.mark.usefixtures("little_memory")
def test_an_archive_of_weights_too(tmp_path):
    with pytest.raises(InputError, match=r"weights: large.npz, unpacked, needs 0\.04"):
        load_npz(large("npz", tmp_path), "weights")


def test_a_header_in_an_archive_that_claims_more_than_the_archive_holds_is_damage(tmp_path):
    text = "{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000,), }".ljust(117) + "\n"
    header = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("x.npy", header)
    (tmp_path / "claims.npz").write_bytes(content.getvalue())
    with pytest.raises(InputError, match="truncated or damaged"):
        load_data(str(tmp_path / "claims.npz"))


def nifti(folder):
    for k in range(4):
        nibabel.save(nibabel.Nifti1Image(k + np.zeros((4, 5, 3), np.float32), np.eye(4)), folder / f"{k}.nii")
    return folder, 4 * 60 * 8  # as read and in float32


def dicom(folder):
    scans(folder)
    return folder, 8 * 6 * 5 * 8


def deep_pictures(folder):
    for k in range(4):
        Image.fromarray((1000 * k + np.arange(30)).reshape(5, 6).astype(np.uint16)).save(folder / f"{k}.png")
    return folder, 4 * 30 * (2 + 4)


def csv(folder):
    path = folder / "rows.csv"
    path.write_text("a,b\n" + "".join(f"{k % 7}.5,{k % 5}.25\n" for k in range(30)))
    return path, 8 * path.stat().st_size


def packed_csv(folder):
    path, needed = csv(folder)
    (folder / "rows.csv.gz").write_bytes(gzip.compress(path.read_bytes()))
    return folder / "rows.csv.gz", needed


def doubles(folder):
    np.save(folder / "rows.npy", np.arange(60.0).reshape(20, 3))
    return folder / "rows.npy", 20 * 3 * 4  # mapped as they are, and in float32


def parquet_of_many_values(folder):
    """Twice what is stored of numbers that all differ."""
    path = written(folder, np.random.default_rng(0).random((2000, 2)))
    groups = parquet.ParquetFile(path).metadata
    return path, 2 * sum(groups.row_group(i).total_byte_size for i in range(groups.num_row_groups))


def parquet_of_few_values(folder):
    """Eight bytes for every row of numbers that are stored as places in a list."""
    values = np.r_[np.arange(100.0) + 0.5, np.arange(99_900.0) % 7]
    return written(folder, values[:, None]), 8 * 100_000


def written(folder, columns):
    table = pyarrow.table({f"c{k}": column for k, column in enumerate(columns.T)})
    parquet.write_table(table, folder / "rows.parquet")
    return folder / "rows.parquet"


@pytest.mark.parametrize(
    "made",
    [nifti, dicom, deep_pictures, csv, packed_csv, doubles, parquet_of_many_values, parquet_of_few_values],
)
def test_data_are_read_where_their_memory_is_free_and_refused_where_a_byte_is_missing(tmp_path, monkeypatch, made):
    path, needed = made(tmp_path)
    monkeypatch.setattr("diffuscope.memory.available_memory", lambda: float(needed))
    assert len(load_data(str(path)).train) > 0
    monkeypatch.setattr("diffuscope.memory.available_memory", lambda: needed - 1.0)
    with pytest.raises(InputError, match=f"data: {path}.* needs .* of memory; expected at most"):
        load_data(str(path))


def test_training_and_heldout_data_are_claimed_each_for_itself(tmp_path, monkeypatch):
    for name, n in (("train", 30), ("heldout", 20)):
        np.save(tmp_path / f"{name}.npy", np.arange(3.0 * n).reshape(n, 3) + n)
    train, heldout = (str(tmp_path / f"{name}.npy") for name in ("train", "heldout"))
    monkeypatch.setattr("diffuscope.memory.available_memory", lambda: 30 * 3 * 4.0)
    assert len(load_data(train, heldout=heldout).train) == 30
    monkeypatch.setattr("diffuscope.memory.available_memory", lambda: 30 * 3 * 4 - 1.0)
    with pytest.raises(InputError, match=r"data: .*train.npy, 30 examples of shape \(3,\), needs"):
        load_data(train, heldout=heldout)


def test_the_memory_is_what_the_kernel_says_is_available_within_the_limit_of_a_container(tmp_path, monkeypatch):
    monkeypatch.setattr("diffuscope.memory.MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr("diffuscope.memory.CONTAINER_LIMIT", tmp_path / "limit")
    (tmp_path / "meminfo").write_text("MemTotal: 500 kB\nMemAvailable: 100 kB\n")
    assert memory.available_memory() == 102_400
    (tmp_path / "limit").write_text("max\n")
    assert memory.available_memory() == 102_400
    (tmp_path / "limit").write_text("5000\n")
    assert memory.available_memory() == 5000
