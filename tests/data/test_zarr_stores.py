"""Zarr stores: the array that was meant is what is read, objects never are, and anything else is one line."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zarr

from diffuscope.data import DataSet, load_data
from diffuscope.errors import InputError

# their stubs know only literal versions and zarr's own arrays
save_array: Any = zarr.save_array
open_group: Any = zarr.open_group
create_array: Any = zarr.create_array


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(shape)


def group(path: Path, version: int = 3, **arrays: np.ndarray) -> str:
    root = open_group(str(path), mode="w", zarr_format=version)
    for name, array in arrays.items():
        member = root.create_array(
            name.replace("__", "/"), shape=array.shape, dtype=array.dtype, chunks=(4,) * array.ndim
        )
        member[...] = array
    return str(path)


def whole(data: DataSet) -> torch.Tensor:
    return torch.cat([data.train, data.heldout])[torch.cat([data.train_index, data.heldout_index]).argsort()]


@pytest.mark.parametrize("version", [2, 3])
def test_a_store_is_an_array_or_holds_arrays_by_name(tmp_path: Path, version: int):
    x = noise(9, 5)
    save_array(str(tmp_path / "one.zarr"), x, zarr_format=version)
    assert torch.equal(whole(load_data(str(tmp_path / "one.zarr"))), torch.from_numpy(x).float())
    u, v = noise(9, 5, seed=1), noise(7, 5, seed=2)
    spec = group(tmp_path / "a.zarr", version, u=u, deep__v=v)
    assert torch.equal(whole(load_data(f"{spec}:u")), torch.from_numpy(u).float())
    data = load_data(f"{spec}:u", heldout=f"{spec}:deep/v")
    assert torch.equal(data.heldout, torch.from_numpy(v).float())
    with pytest.raises(InputError, match=r"holds deep/v, u, expected one of .*a.zarr:NAME"):
        load_data(spec)
    with pytest.raises(InputError, match=r"has no array 'w'; expected one of deep/v, u"):
        load_data(f"{spec}:w")


def test_the_names_of_an_npz_archive_hold_here_too(tmp_path: Path):
    train, test = noise(6, 5, 5, seed=1), noise(4, 5, 5, seed=2)
    data = load_data(group(tmp_path / "a.zarr", train=train, test=test, train_labels=np.arange(6)))
    assert torch.equal(data.train[:, 0], torch.from_numpy(train).float())
    assert torch.equal(data.heldout[:, 0], torch.from_numpy(test).float())
    assert data.train_labels is not None
    assert data.train_labels.tolist() == list(range(6))


def test_objects_are_never_decoded(tmp_path: Path):
    """The metadata of an array that would be unpickled, whose one chunk says so if it is."""
    store = tmp_path / "a.zarr"
    save_array(str(store), noise(4, 2), zarr_format=2)
    meta = json.loads((store / ".zarray").read_text())
    (store / "0.0").write_bytes(b"cos\nsystem\n(S'touch " + bytes(tmp_path / "loaded") + b"'\ntR.")
    for change in ({"dtype": "|O", "filters": [{"id": "pickle", "protocol": 5}]}, {"filters": [{"id": "pickle"}]}):
        (store / ".zarray").write_text(json.dumps({**meta, "compressor": None, "fill_value": None, **change}))
        with pytest.raises(InputError) as refused:
            load_data(str(store))
        assert "\n" not in str(refused.value)
        assert "objects are never loaded" in str(refused.value) or "cannot be read" in str(refused.value)
        assert not (tmp_path / "loaded").exists()


def test_stores_that_are_damaged_or_none(tmp_path: Path):
    (tmp_path / "empty.zarr").mkdir()
    (tmp_path / "file.zarr").write_text("no store")
    spec = group(tmp_path / "a.zarr", x=noise(9, 5))
    (tmp_path / "a.zarr" / "x" / "c" / "0" / "0").write_bytes(b"no chunk")
    shutil.copytree(group(tmp_path / "b.zarr", x=noise(9, 5)), tmp_path / "c.zarr")
    (tmp_path / "c.zarr" / "x" / "zarr.json").write_text('{"zarr_format": 3, "node_type": "array"')
    group(tmp_path / "none.zarr")
    group(tmp_path / "complex.zarr", x=noise(9, 5) * 1j)
    for name, told in (
        ("empty.zarr", "cannot be read"), ("a.zarr", "cannot be read"), ("c.zarr", "expected"),
        ("none.zarr", "no array"),
        ("complex.zarr", "dtype complex128"), ("file.zarr", "expected"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=told) as refused:
            load_data(str(tmp_path / name))
        assert "\n" not in str(refused.value)
    assert spec


def test_a_store_that_claims_more_than_the_memory_is_refused_unread(tmp_path: Path):
    create_array(str(tmp_path / "a.zarr"), shape=(10**9, 10**6), dtype="f4", chunks=(1000, 1000))
    with pytest.raises(InputError, match=r"needs 4e\+06 GB of memory; expected at most"):
        load_data(str(tmp_path / "a.zarr"))


def test_an_array_of_an_npz_archive_is_chosen_by_its_name(tmp_path: Path):
    u, v = noise(9, 5, seed=1), noise(7, 5, seed=2)
    np.savez(tmp_path / "a.npz", u=u, v=v)
    data = load_data(f"{tmp_path}/a.npz:u", heldout=f"{tmp_path}/a.npz:v")
    assert torch.equal(data.train, torch.from_numpy(u).float())
    assert torch.equal(data.heldout, torch.from_numpy(v).float())
    with pytest.raises(InputError, match=r"a.npz has no array 'w'; expected one of u, v"):
        load_data(f"{tmp_path}/a.npz:w")


def test_without_zarr_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    spec = group(tmp_path / "a.zarr", x=noise(5, 2))
    monkeypatch.setitem(sys.modules, "zarr", None)
    with pytest.raises(InputError, match=r"pip install 'diffuscope\[zarr\]'"):
        load_data(spec)
