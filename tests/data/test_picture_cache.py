"""A folder of many pictures is decoded once, into a file of bytes; an interrupted run goes on where it was."""

import os
import shutil
from collections import namedtuple

import numpy as np
import pytest
import torch
from PIL import Image

from diffuscope.byte_examples import ByteExamples
from diffuscope.data import as_tensors, load_data, pictures
from diffuscope.data.picture_cache import picture_folder
from diffuscope.errors import InputError

N = 12


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    rng, folder = np.random.default_rng(0), tmp_path / "photos"
    for i in range(N):
        place = folder / ("cats" if i % 2 else "dogs")
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (5, 4, 3), dtype=np.uint8)).save(place / f"{i:02d}.png")
    return folder


@pytest.fixture
def decodings(monkeypatch):
    """The names of the pictures that were decoded."""
    seen, made = [], pictures._pixels
    monkeypatch.setattr(pictures, "_pixels", lambda picture, *rest: seen.append(picture.short) or made(picture, *rest))
    return seen


def files() -> list[str]:
    return sorted(path.suffix for path in picture_folder().iterdir())


def test_a_decoded_folder_is_the_folder_and_is_decoded_once(folder, monkeypatch, decodings):
    plain = load_data(str(folder))
    assert not picture_folder().exists()  # below 1 GB nothing is written
    monkeypatch.setattr(as_tensors, "ABOVE", 0)
    decodings.clear()
    first, second = load_data(str(folder)), load_data(str(folder))
    assert len(decodings) == N
    assert ".npy" in files()
    for data in (first, second):
        assert isinstance(data.train, ByteExamples)
        assert torch.equal(data.train, plain.train)
        assert torch.equal(data.heldout, plain.heldout)
        assert data.train_labels is not None
        assert plain.train_labels is not None
        assert data.train_labels.tolist() == plain.train_labels.tolist()
        assert (data.provenance, data.data_range) == (plain.provenance, plain.data_range)


def test_gray_pictures_have_one_channel(folder, monkeypatch):
    shutil.rmtree(folder)
    folder.mkdir()
    for i in range(N):
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (5, 4), dtype=np.uint8)).save(folder / f"{i}.png")
    plain = load_data(str(folder))
    monkeypatch.setattr(as_tensors, "ABOVE", 0)
    assert torch.equal(load_data(str(folder)).train, plain.train)
    assert plain.event_shape == (1, 5, 4)


def test_an_interrupted_run_goes_on_after_the_last_whole_picture(folder, monkeypatch, decodings):
    plain = load_data(str(folder))
    monkeypatch.setattr(as_tensors, "ABOVE", 0)
    counted = pictures._pixels

    def stopped(*args):
        if len(decodings) == 5:
            raise KeyboardInterrupt
        return counted(*args)

    decodings.clear()
    with monkeypatch.context() as patch:
        patch.setattr(pictures, "_pixels", stopped)
        with pytest.raises(KeyboardInterrupt):
            load_data(str(folder))
    (partial,) = picture_folder().glob("*.partial")
    with partial.open("ab") as file:  # half a picture, as a kill in the middle of a write leaves it
        file.write(bytes(30))
    decodings.clear()
    data = load_data(str(folder))
    assert len(decodings) == N - 5
    assert torch.equal(data.train, plain.train)
    assert ".partial" not in files()


def test_changed_pictures_are_decoded_again(folder, monkeypatch, decodings):
    monkeypatch.setattr(as_tensors, "ABOVE", 0)
    before = load_data(str(folder))
    path = folder / "cats" / "01.png"
    state = path.stat()
    Image.fromarray(np.full((5, 4, 3), 9, dtype=np.uint8)).save(path)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns + 10**9))
    decodings.clear()
    after = load_data(str(folder))
    assert len(decodings) == N
    assert not torch.equal(before.train, after.train) or not torch.equal(before.heldout, after.heldout)
    other = shutil.copytree(folder, folder.with_name("others"))
    decodings.clear()
    load_data(str(other))  # another folder of the same names, sizes and times may hold other pictures
    assert len(decodings) == N


def test_a_damaged_picture_is_named_and_read_once_it_is_mended(folder, monkeypatch):
    monkeypatch.setattr(as_tensors, "ABOVE", 0)
    path = folder / "dogs" / "10.png"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"10.png cannot be read"):
        load_data(str(folder))
    path.write_bytes(whole)
    assert len(load_data(str(folder)).train) == N // 2


def test_no_room_and_no_folder_to_write_to_are_refused(folder, monkeypatch, tmp_path):
    monkeypatch.setattr(as_tensors, "ABOVE", 0)
    usage = namedtuple("usage", "total used free")
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: usage(10, 10, 100))
        with pytest.raises(InputError, match=r"data: .*photos takes 7.2e-07 GB decoded; expected as much room in"):
            load_data(str(folder))
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(InputError, match=r"data: the pixels of .*photos cannot be written to .*XDG_CACHE_HOME"):
        load_data(str(folder))


def test_a_damaged_cache_is_refused_by_name(folder, monkeypatch):
    monkeypatch.setattr(as_tensors, "ABOVE", 0)
    load_data(str(folder))
    (path,) = picture_folder().glob("*.npy")
    path.write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"data: .*\.npy is damaged; expected it whole, or deleted"):
        load_data(str(folder))


def test_pictures_inside_tables_are_decoded_alike(folder, monkeypatch, decodings):
    pyarrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet as parquet

    content = [{"bytes": path.read_bytes(), "path": path.name} for path in sorted(folder.rglob("*.png"))]
    path = folder.parent / "x.parquet"
    parquet.write_table(pyarrow.table({"image": content, "label": np.arange(N) % 2}), path)
    plain = load_data(str(path))
    monkeypatch.setattr(as_tensors, "ABOVE", 0)
    decodings.clear()
    first, second = load_data(str(path)), load_data(str(path))
    assert len(decodings) == N
    assert torch.equal(first.train, plain.train)
    assert torch.equal(second.heldout, plain.heldout)
