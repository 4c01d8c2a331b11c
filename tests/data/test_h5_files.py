"""HDF5 files: the data set that was meant is what is read, and anything else is one line."""

import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from diffuscope.data import load_data
from diffuscope.errors import InputError

h5py = pytest.importorskip("h5py")


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(shape)


def written(path: Path, **members: object) -> str:
    with h5py.File(path, "w") as file:
        for name, values in members.items():
            file.create_dataset(name.replace("__", "/"), data=values)
    return str(path)


def refusal(spec: str, heldout: str | None = None) -> str:
    with pytest.raises(InputError) as raised:
        load_data(spec, heldout=heldout)
    line = str(raised.value)
    assert "\n" not in line
    assert "expected" in line
    assert raised.value.__cause__ is None
    return line


def whole(spec: str) -> torch.Tensor:
    """Both sides of the split, in the order of the file."""
    data = load_data(spec)
    return torch.cat([data.train, data.heldout])[torch.cat([data.train_index, data.heldout_index]).argsort()]


@pytest.mark.parametrize("suffix", [".h5", ".hdf5", ".H5"])
def test_the_only_data_set_is_read_whatever_it_is_called(tmp_path: Path, suffix: str):
    x = noise(9, 4)
    spec = written(tmp_path / f"a{suffix}", deep__inside__fields=x)
    assert torch.equal(whole(spec), torch.from_numpy(x).float())


@pytest.mark.parametrize("name", ["u", "group__v", "/group__v"])
def test_a_name_after_the_colon_chooses(tmp_path: Path, name: str):
    members = {"u": noise(9, 4, seed=1), "group__v": noise(8, 4, seed=2)}
    spec = written(tmp_path / "a.h5", **members)
    expected = torch.from_numpy(members[name.strip("/")]).float()
    assert torch.equal(whole(f"{spec}:{name.replace('__', '/')}"), expected)


def test_compressed_chunks_are_read(tmp_path: Path):
    x = noise(40, 6)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", data=x, chunks=(7, 6), compression="gzip")
    assert torch.equal(whole(str(tmp_path / "a.h5")), torch.from_numpy(x).float())


def test_the_names_of_an_npz_archive_hold_here_too(tmp_path: Path):
    train, test = noise(6, 5, 5, seed=1), noise(4, 5, 5, seed=2)
    spec = written(tmp_path / "a.h5", train=train, test=test, train_labels=np.arange(6), test_labels=np.arange(4))
    data = load_data(spec)
    assert torch.equal(data.train[:, 0], torch.from_numpy(train).float())
    assert torch.equal(data.heldout[:, 0], torch.from_numpy(test).float())
    assert data.heldout_labels is not None
    assert data.heldout_labels.tolist() == [0, 1, 2, 3]


def test_one_file_gives_training_and_heldout_examples_by_name(tmp_path: Path):
    u, v = noise(6, 3, seed=1), noise(5, 3, seed=2)
    spec = written(tmp_path / "a.h5", u=u, v=v)
    data = load_data(f"{spec}:u", heldout=f"{spec}:v")
    assert torch.equal(data.train, torch.from_numpy(u).float())
    assert torch.equal(data.heldout, torch.from_numpy(v).float())


def test_several_data_sets_are_listed_in_one_line(tmp_path: Path):
    spec = written(tmp_path / "a.h5", u=noise(5, 2), group__v=noise(5, 2))
    line = refusal(spec)
    assert "holds group/v, u" in line
    assert "a.h5:NAME" in line


def test_a_name_that_is_not_there_is_answered_by_those_that_are(tmp_path: Path):
    spec = written(tmp_path / "a.h5", u=noise(5, 2), group__v=noise(5, 2))
    assert "has no array 'w'; expected one of group/v, u" in refusal(f"{spec}:w")
    assert "has no array 'group'" in refusal(f"{spec}:group")
    assert "has no array ''" in refusal(f"{spec}:")


def test_files_that_are_no_hdf5_or_damaged(tmp_path: Path):
    (tmp_path / "pickle.h5").write_bytes(pickle.dumps({"x": noise(4, 4)}))
    assert "no HDF5 file" in refusal(str(tmp_path / "pickle.h5"))
    spec = written(tmp_path / "a.h5", x=noise(400, 4))
    content = Path(spec).read_bytes()
    Path(spec).write_bytes(content[: len(content) // 2])
    assert "truncated" in refusal(spec)
    (tmp_path / "empty.h5").write_bytes(b"")
    assert "no HDF5 file" in refusal(str(tmp_path / "empty.h5"))
    assert "does not exist" in refusal(str(tmp_path / "absent.h5:x"))
    (tmp_path / "folder.h5").mkdir()
    assert "holds no image" in refusal(str(tmp_path / "folder.h5"))


def test_contents_that_are_no_examples(tmp_path: Path):
    assert "holds no array" in refusal(written(tmp_path / "none.h5"))
    assert "dtype object" in refusal(written(tmp_path / "strings.h5", x=["one", "two", "three"]))
    assert "dtype bool" in refusal(written(tmp_path / "bools.h5", x=np.ones((4, 4), dtype=bool)))
    assert "dtype complex" in refusal(written(tmp_path / "complex.h5", x=noise(4, 4) * 1j))
    assert "shape ()" in refusal(written(tmp_path / "number.h5", x=3.0))
    assert "NaN" in refusal(written(tmp_path / "nan.h5", x=np.full((4, 4), np.nan)))
    assert "--data-range" in refusal(written(tmp_path / "bytes.h5", x=np.ones((4, 3, 5), dtype=np.uint8)))
    assert "expected" in refusal(written(tmp_path / "null.h5", x=h5py.Empty("f8")))


def test_links_out_of_the_file_are_not_followed(tmp_path: Path):
    other = written(tmp_path / "other.h5", secret=noise(6, 2))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["leak"] = h5py.ExternalLink(other, "/secret")
        file["u"] = noise(5, 2)
    assert len(whole(str(tmp_path / "a.h5"))) == 5
    assert "has no array 'leak'" in refusal(f"{tmp_path / 'a.h5'}:leak")


def test_without_h5py_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    spec = written(tmp_path / "a.h5", x=noise(5, 2))
    monkeypatch.setitem(sys.modules, "h5py", None)
    assert "pip install 'diffuscope[h5py]'" in refusal(spec)
