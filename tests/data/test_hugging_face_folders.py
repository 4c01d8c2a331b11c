"""Data sets as `save_to_disk` writes them, made here of Arrow streams and JSON: images, lists and tables."""

import json
import struct
import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from diffuscope.data import DataSet, fit_table, load_data
from diffuscope.errors import InputError

LABEL = {"_type": "ClassLabel", "names": ["cat", "dog", "eel"]}


def save(folder: Path, columns: dict, features: dict, shards: int = 2) -> str:
    """A data set in so many files, in the form of `Dataset.save_to_disk`."""
    folder.mkdir(parents=True)
    table = pa.table(columns)
    names = [f"data-{i:05d}-of-{shards:05d}.arrow" for i in range(shards)]
    ends = np.linspace(0, len(table), shards + 1).astype(int)
    for name, start, stop in zip(names, ends[:-1], ends[1:], strict=True):
        with pa.ipc.new_stream(str(folder / name), table.schema) as stream:
            stream.write_table(table[start:stop])
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name} for name in names]}))
    (folder / "dataset_info.json").write_text(json.dumps({"features": features}))
    return str(folder)


def splits(folder: Path, *names: str) -> str:
    (folder / "dataset_dict.json").write_text(json.dumps({"splits": names}))
    return str(folder)


def png(pixels: np.ndarray) -> bytes:
    content = BytesIO()
    Image.fromarray(pixels).save(content, "png")
    return content.getvalue()


def in_order(data: DataSet) -> torch.Tensor:
    return torch.cat([data.train, data.heldout])[torch.cat([data.train_index, data.heldout_index]).argsort()]


def pixels(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, 6, 5, 3), dtype=np.uint8)


@pytest.mark.parametrize("form", ["struct", "bytes"])
def test_a_column_of_images_with_labels_and_groups(tmp_path: Path, form: str):
    images = pixels(12)
    content = [png(image) for image in images]
    columns = {
        "image": [{"bytes": c, "path": None} for c in content] if form == "struct" else content,
        "label": np.arange(12) % 3,
        "patient": [f"p{i % 4}" for i in range(12)],
    }
    data = load_data(save(tmp_path / "a", columns, {"image": {"_type": "Image"}, "label": LABEL}), group="patient")
    assert torch.equal(in_order(data), torch.from_numpy(images).float().movedim(-1, 1))
    assert data.kind == "images"
    assert data.data_range == (0.0, 255.0)
    assert data.train_labels is not None
    assert data.train_groups is not None
    assert torch.equal(data.train_labels, data.train_index % 3)
    assert [data.group_names[k] for k in data.train_groups] == [f"p{i % 4}" for i in data.train_index.tolist()]


def test_the_splits_of_a_data_set_are_training_and_heldout_examples(tmp_path: Path):
    for name, n, seed in (("train", 8, 0), ("test", 5, 1), ("validation", 4, 2)):
        save(tmp_path / name, {"image": [png(image) for image in pixels(n, seed)]}, {})
    data = load_data(splits(tmp_path, "train", "validation", "test"))
    assert torch.equal(data.train, torch.from_numpy(pixels(8)).float().movedim(-1, 1))
    assert torch.equal(data.heldout, torch.from_numpy(pixels(5, 1)).float().movedim(-1, 1))
    assert load_data(splits(tmp_path, "train", "validation")).heldout.shape[0] == 4
    with pytest.raises(InputError, match="splits 'a', 'b' and none called train"):
        load_data(splits(tmp_path, "a", "b"))


@pytest.mark.parametrize("fixed", [True, False])
def test_lists_of_one_length_are_an_array(tmp_path: Path, fixed: bool):
    x = np.random.default_rng(0).random((9, 4, 5)).astype(np.float32)
    rows = pa.FixedSizeListArray.from_arrays(pa.array(x.reshape(-1)), 5) if fixed else pa.array(list(x.reshape(-1, 5)))
    offsets = pa.array(np.arange(0, 37, 4).astype(np.int32))
    nested = pa.FixedSizeListArray.from_arrays(rows, 4) if fixed else pa.ListArray.from_arrays(offsets, rows)
    data = load_data(save(tmp_path / "a", {"x": nested, "label": [0, 1, -1] * 3}, {"label": LABEL}))
    assert torch.equal(in_order(data)[:, 0], torch.from_numpy(x))
    # rows without a label have -1
    assert data.train_labels is None


def test_several_columns_of_numbers_and_words_are_a_table(tmp_path: Path):
    rng = np.random.default_rng(0)
    columns = {"age": rng.integers(0, 90, 30), "label": np.arange(30) % 3, "city": rng.choice(["a", "b"], 30)}
    data = load_data(save(tmp_path / "a", columns, {"label": LABEL}))
    named = {**columns, "label": np.array(LABEL["names"], dtype=object)[columns["label"]]}
    assert torch.equal(in_order(data), fit_table(named).encode(named))


def test_labels_of_the_same_name_are_the_same_number(tmp_path: Path):
    x = np.random.default_rng(0).random((12, 3))
    other = {"_type": "ClassLabel", "names": ["eel", "fox", "cat"]}
    train = save(tmp_path / "a", {"x": list(x[:6]), "label": [0, 1, 2, 0, 1, 2]}, {"label": LABEL})
    held = save(tmp_path / "b", {"x": list(x[6:]), "label": [0, 1, 2, 0, 1, 2]}, {"label": other})
    data = load_data(train, heldout=held)
    assert data.heldout_labels is not None
    assert data.heldout_labels.tolist() == [2, 3, 0, 2, 3, 0]


def test_a_single_arrow_file_is_read(tmp_path: Path):
    x = np.random.default_rng(0).random((12, 3)).astype(np.float32)
    for name, writer in (("a.arrow", pa.ipc.new_stream), ("b.arrow", pa.ipc.new_file)):
        table = pa.table({"x": list(x)})
        with writer(str(tmp_path / name), table.schema) as file:
            file.write_table(table)
        assert torch.equal(in_order(load_data(str(tmp_path / name))), torch.from_numpy(x))


def test_folders_that_are_damaged_or_ambiguous_are_one_line(tmp_path: Path):
    images = [png(image) for image in pixels(6)]
    outside = {"image": [{"bytes": None, "path": "/etc/passwd"}] * 6}
    cases = {
        save(tmp_path / "two", {"a": images, "b": images}, {}): "has the columns 'a', 'b' of images or lists",
        save(tmp_path / "outside", outside, {}): "image 0 of .* has no bytes",
        save(
            tmp_path / "none", {"image": [b"no image"] * 6}, {}
        ): "image 0 of .* cannot be read, it is damaged or no image",
        save(tmp_path / "sizes", {"image": [*images[:5], png(pixels(1)[0, :3])]}, {}): "is 5 x 3 and image 0",
        save(tmp_path / "cut", {"x": [[1.0]] * 6}, {}): "truncated or no Arrow file",
        save(tmp_path / "gone", {"x": [[1.0]] * 6}, {}): "missing, truncated",
        save(tmp_path / "leads", {"x": [[1.0]] * 6}, {}): "names files of other folders",
        save(tmp_path / "rows", {"x": [[1.0]] * 6}, {}): "flatten_indices",
        save(tmp_path / "json", {"x": [[1.0]] * 6}, {}): "state.json cannot be read",
    }
    first = "data-00000-of-00002.arrow"
    (tmp_path / "cut" / first).write_bytes((tmp_path / "cut" / first).read_bytes()[:100])
    (tmp_path / "gone" / first).unlink()
    (tmp_path / "leads" / "state.json").write_text(json.dumps({"_data_files": [{"filename": "../two/" + first}]}))
    (tmp_path / "rows" / "state.json").write_text(json.dumps({"_indices_files": [{"filename": "i.arrow"}]}))
    (tmp_path / "json" / "state.json").write_text("{")
    for spec, told in cases.items():
        with pytest.raises(InputError, match=told) as refused:
            load_data(spec)
        assert "\n" not in str(refused.value)
        assert "expected" in str(refused.value)


def test_without_pyarrow_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    spec = save(tmp_path / "a", {"x": [[1.0], [2.0]]}, {})
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InputError, match=r"pip install 'diffuscope\[tables\]'"):
        load_data(spec)


def test_damaged_lengths_are_one_line(tmp_path: Path):
    """Offsets that point outside the file would end the process, were they followed."""
    spec = save(tmp_path / "a", {"image": [png(image) for image in pixels(6)]}, {}, shards=1)
    path = tmp_path / "a" / "data-00000-of-00001.arrow"
    whole = path.read_bytes()
    sizes = np.cumsum([0, *(len(png(image)) for image in pixels(6))]).astype("<i4").tobytes()
    at = whole.index(sizes)
    path.write_bytes(whole[: at + 8] + struct.pack("<i", -(2**30)) + whole[at + 12 :])
    with pytest.raises(InputError, match="cannot be read, its columns are damaged"):
        load_data(spec)
