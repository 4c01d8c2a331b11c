"""What is written to a file or folder is what is read from it; and whatever the array, it is read or refused."""

import gzip
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from diffuscope.data import DataSet, data_folder, load_data
from diffuscope.errors import InputError


def reassembled(data: DataSet) -> torch.Tensor:
    """The source in its own order, from both sides of a split."""
    index = torch.cat([data.train_index, data.heldout_index])
    return torch.cat([data.train, data.heldout])[index.argsort()]


def loaded_or_refusal(path: Path, data_range: tuple[int, int] | None) -> DataSet | str:
    try:
        return load_data(str(path), data_range=data_range)
    except InputError as error:
        return str(error)


def labels_of(data: DataSet) -> tuple[list[int], list[int]]:
    assert data.train_labels is not None
    assert data.heldout_labels is not None
    return data.train_labels.tolist(), data.heldout_labels.tolist()


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("arrays")


@settings(deadline=None)
@given(
    array=hnp.arrays(
        np.float32,
        st.tuples(st.integers(4, 9), st.integers(1, 12)),
        elements=st.floats(-1e6, 1e6, width=32),
        unique=True,
    ),
    fraction=st.floats(0.4, 0.6),
    seed=st.integers(0, 2**31),
)
def test_a_saved_array_is_the_loaded_array(scratch: Path, array: np.ndarray, fraction: float, seed: int):
    np.save(scratch / "a.npy", array)
    data = load_data(str(scratch / "a.npy"), heldout_fraction=fraction, seed=seed)
    assert np.array_equal(reassembled(data).numpy(), array)


@settings(max_examples=300, deadline=None)
@given(
    array=hnp.arrays(
        st.one_of(hnp.scalar_dtypes(), hnp.unicode_string_dtypes(max_len=3)),
        hnp.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=5),
    ),
    data_range=st.none() | st.just((0, 255)),
)
def test_any_array_is_loaded_in_full_or_refused_in_one_line(
    scratch: Path, array: np.ndarray, data_range: tuple[int, int] | None
):
    np.save(scratch / "any.npy", array)
    loaded = loaded_or_refusal(scratch / "any.npy", data_range)
    if isinstance(loaded, str):
        assert "expected" in loaded
        assert "\n" not in loaded
    else:
        low, high = loaded.data_range
        values = reassembled(loaded)
        slack = 2e-5 * (high - low)
        assert values.numel() == array.size
        assert low - slack <= values.min() <= values.max() <= high + slack


@pytest.mark.parametrize("key", ["x", "images", "data", "anything"])
def test_an_archive_gives_its_examples_and_labels(tmp_path: Path, key: str):
    x, labels = np.random.default_rng(0).random((8, 4, 4)), np.arange(8, dtype=np.uint8)
    np.savez(tmp_path / "a.npz", **{key: x, "label": labels})
    data = load_data(str(tmp_path / "a.npz"))
    assert np.array_equal(reassembled(data)[:, 0].numpy(), x.astype(np.float32))
    assert labels_of(data) == (data.train_index.tolist(), data.heldout_index.tolist())


@pytest.mark.parametrize(
    "keys", [("train", "heldout", "train_labels", "heldout_labels"), ("x_train", "x_test", "y_train", "y_test")]
)
def test_an_archive_keeps_its_own_split(tmp_path: Path, keys: tuple[str, str, str, str]):
    rng = np.random.default_rng(0)
    arrays = [rng.random((8, 4, 4)), rng.random((3, 4, 4)), np.arange(8), np.arange(3)]
    np.savez_compressed(tmp_path / "a.npz", allow_pickle=False, **dict(zip(keys, arrays, strict=True)))
    data = load_data(str(tmp_path / "a.npz"))
    assert np.array_equal(data.train[:, 0].numpy(), arrays[0].astype(np.float32))
    assert np.array_equal(data.heldout[:, 0].numpy(), arrays[1].astype(np.float32))
    assert labels_of(data)[1] == [0, 1, 2]


def test_a_second_spec_gives_its_own_heldout_part(tmp_path: Path):
    rng = np.random.default_rng(0)
    a, b, c = rng.random((5, 3)), rng.random((4, 3)), rng.random((6, 3))
    np.save(tmp_path / "a.npy", a)
    np.savez(tmp_path / "bc.npz", train=b, heldout=c)
    data = load_data(str(tmp_path / "a.npy"), heldout=str(tmp_path / "bc.npz"))
    assert np.array_equal(data.train.numpy(), a.astype(np.float32))
    assert np.array_equal(data.heldout.numpy(), c.astype(np.float32))
    swapped = load_data(str(tmp_path / "bc.npz"), heldout=str(tmp_path / "a.npy"))
    assert np.array_equal(swapped.train.numpy(), b.astype(np.float32))
    assert np.array_equal(swapped.heldout.numpy(), a.astype(np.float32))


# folders of images


def pixels(n: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, *shape), dtype=np.uint8)


def write_images(folder: Path, images: np.ndarray, suffix: str = "png") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for i, image in enumerate(images):
        # the others do without being asked, and ignore the word
        Image.fromarray(image).save(folder / f"{i:03d}.{suffix}", lossless=True)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tiff", "PNG"])
@pytest.mark.parametrize("shape", [(6, 9), (6, 9, 3)])
def test_a_folder_of_lossless_images_gives_their_pixels(tmp_path: Path, suffix: str, shape: tuple[int, ...]):
    images = pixels(7, *shape)
    write_images(tmp_path / "images", images, suffix)
    (tmp_path / "images" / "notes.txt").write_text("not an image")
    (tmp_path / "images" / "._000.png").write_bytes(b"what some systems leave behind")
    data = load_data(str(tmp_path / "images"))
    expected = images[:, None] if images.ndim == 3 else images.transpose(0, 3, 1, 2)
    assert np.array_equal(reassembled(data).numpy(), expected.astype(np.float32))
    assert data.data_range == (0.0, 255.0)
    assert data.name == "images"


def test_a_jpeg_is_its_picture_up_to_compression(tmp_path: Path):
    row, column = np.mgrid[0:32, 0:32]
    smooth = np.stack([np.stack([row * 4 + k, column * 4, row + column], -1) for k in range(4)]).astype(np.uint8)
    for i, image in enumerate(smooth):
        Image.fromarray(image).save(tmp_path / f"{i}.jpg", quality=95)
    error = reassembled(load_data(str(tmp_path))) - torch.from_numpy(smooth).float().movedim(-1, 1)
    assert error.abs().mean() < 2


def test_a_folder_of_lossless_webp_gives_their_colors(tmp_path: Path):
    images = pixels(4, 5, 5, 3)
    write_images(tmp_path, images, "webp")
    assert np.array_equal(reassembled(load_data(str(tmp_path))).numpy(), images.transpose(0, 3, 1, 2).astype("f4"))


def test_one_colored_image_makes_all_of_them_rgb(tmp_path: Path):
    gray, color = pixels(3, 5, 5), pixels(1, 5, 5, 3)
    write_images(tmp_path, gray)
    Image.fromarray(color[0]).save(tmp_path / "zzz.png")
    loaded = reassembled(load_data(str(tmp_path)))
    assert np.array_equal(loaded[:3].numpy(), np.repeat(gray[:, None], 3, axis=1).astype("f4"))
    assert np.array_equal(loaded[3].numpy(), color[0].transpose(2, 0, 1).astype("f4"))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "1"])
def test_opaque_pixels_are_the_same_in_every_mode(tmp_path: Path, mode: str):
    rng = np.random.default_rng(0)
    images = [Image.fromarray((rng.integers(0, 2, (5, 5)) * 255).astype(np.uint8)) for _ in range(4)]
    for i, image in enumerate(images):
        image.convert(mode).save(tmp_path / f"{i}.png")
    loaded = reassembled(load_data(str(tmp_path)))
    expected = torch.from_numpy(np.stack([np.asarray(image) for image in images])).float()
    assert torch.equal(loaded, expected[:, None].expand_as(loaded))


def test_subfolders_are_searched_in_the_order_of_their_names(tmp_path: Path):
    images = pixels(6, 4, 4)
    write_images(tmp_path / "a_cats", images[:3])
    write_images(tmp_path / "b_dogs", images[3:])
    assert np.array_equal(reassembled(load_data(str(tmp_path)))[:, 0].numpy(), images.astype("f4"))


def write_idx(folder: Path, train: np.ndarray, test: np.ndarray) -> None:
    """A small data set in MNIST's form, with labels 0, 1, 2, ..."""
    folder.mkdir(parents=True)
    for prefix, images in (("train", train), ("t10k", test)):
        header = struct.pack(">HBB3I", 0, 8, 3, *images.shape)
        (folder / f"{prefix}-images-idx3-ubyte.gz").write_bytes(gzip.compress(header + images.tobytes()))
        labels = struct.pack(">HBBI", 0, 8, 1, len(images)) + bytes(range(len(images)))
        (folder / f"{prefix}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(labels))


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folders in which named data sets are looked for, in order: the variable's, the user's cache, Debian's."""
    monkeypatch.setenv("DIFFUSCOPE_DATA", str(tmp_path / "named"))
    monkeypatch.setattr("platformdirs.user_cache_path", lambda name: tmp_path / "cache" / name)
    monkeypatch.setattr("diffuscope.data.places.DEBIAN", tmp_path / "debian")
    return [tmp_path / "named", tmp_path / "cache" / "diffuscope" / "data", tmp_path / "debian"]


@pytest.mark.parametrize("place", range(3))
def test_a_data_set_is_found_in_each_of_the_folders(folders: list[Path], place: int):
    train, test = pixels(5, 4, 4), pixels(3, 4, 4) // 2
    write_idx(folders[place] / "fashion-mnist", train, test)
    data = load_data("fashion-mnist")
    assert np.array_equal(data.train[:, 0].numpy(), train.astype("f4"))
    assert labels_of(data)[1] == [0, 1, 2]


@pytest.mark.parametrize(
    "cut", [slice(None, -1), slice(4, None), slice(None, 4)], ids=["short", "no header", "no data"]
)
def test_an_idx_file_that_is_not_what_its_header_says_is_refused(folders: list[Path], cut: slice):
    write_idx(folders[0] / "mnist", pixels(4, 4, 4), pixels(3, 4, 4) // 2)
    path = folders[0] / "mnist" / "train-images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[cut]))
    with pytest.raises(InputError, match="not what its name says"):
        load_data("mnist")


def test_the_first_folder_that_has_the_data_is_read(folders: list[Path]):
    for n, folder in enumerate(folders, 4):
        write_idx(folder / "mnist", pixels(n, 4, 4), pixels(3, 4, 4) // 2)
    (folders[0] / "cifar10").mkdir()  # another data set's folder, empty at that
    assert len(load_data("mnist").train) == 4
    shutil.rmtree(folders[0] / "mnist")
    (folders[0] / "mnist").mkdir()
    assert len(load_data("mnist").train) == 5


@pytest.mark.parametrize("named", [None, ""])
def test_without_the_variable_the_users_cache_comes_first(folders: list[Path], monkeypatch, named: str | None):
    monkeypatch.delenv("DIFFUSCOPE_DATA") if named is None else monkeypatch.setenv("DIFFUSCOPE_DATA", named)
    monkeypatch.chdir(folders[0].parent)
    write_idx(folders[1] / "mnist", pixels(4, 4, 4), pixels(3, 4, 4) // 2)
    assert data_folder() == folders[1]
    assert len(load_data("mnist").train) == 4


def test_a_home_in_the_variable_is_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DIFFUSCOPE_DATA", "~/data")
    assert data_folder() == tmp_path / "data"
