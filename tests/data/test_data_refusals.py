"""Bad input is refused in one line that names the argument, what was given and what is expected."""

import gzip
import pickle
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from diffuscope.data import data_from_arrays, load_data
from diffuscope.errors import InputError


def refusal(call: Any, *args: Any, **kwargs: Any) -> str:
    """The line with which a call is refused."""
    with pytest.raises(InputError) as raised:
        call(*args, **kwargs)
    line = str(raised.value)
    assert "\n" not in line
    assert "Traceback" not in line
    assert "expected" in line
    # nothing of the machinery below shows
    assert raised.value.__cause__ is None
    return line


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).random(shape)


def saved(tmp_path: Path, array: np.ndarray, name: str = "a.npy") -> str:
    np.save(tmp_path / name, array)
    return str(tmp_path / name)


def image_folder(tmp_path: Path, n: int = 4, name: str = "images") -> Path:
    folder = tmp_path / name
    folder.mkdir()
    for i in range(n):
        pixels = np.random.default_rng(i).integers(0, 256, (6, 8), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    return folder


# specs and files


@pytest.mark.parametrize("spec", ["mnits", "no/such/file.npy", "", "x" * 5000, "~nobody-by-this-name/a.npy", "a\0b"])
def test_a_spec_that_is_nothing(spec: str):
    line = refusal(load_data, spec)
    assert line.startswith("data: ")
    assert "does not exist" in line
    assert "digits" in line


def test_a_missing_heldout_file_is_named_as_heldout():
    assert refusal(load_data, "digits", heldout="missing.npy").startswith("heldout: 'missing.npy' does not exist")


def test_an_absent_data_set_says_where_it_was_looked_for_and_how_to_get_it(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("DIFFUSCOPE_DATA", str(tmp_path))
    monkeypatch.setattr("platformdirs.user_cache_path", lambda name: tmp_path / "cache" / name)
    monkeypatch.setattr("diffuscope.data.places.DEBIAN", tmp_path / "debian")
    cache = tmp_path / "cache" / "diffuscope" / "data"
    for name, folders in (
        ("mnist", f"{tmp_path}/mnist, {cache}/mnist and {tmp_path}/debian/mnist"),
        ("cifar10", f"{tmp_path}/cifar-10-batches-bin, {tmp_path}/cifar10, {cache}/cifar-10-batches-bin and "
         f"{cache}/cifar10"),
    ):  # fmt: skip
        line = refusal(load_data, name)
        assert line.startswith(f"data: {name} was looked for in {folders}; expected it there")
        assert f"`diffuscope data fetch {name}`" in line
        assert "DIFFUSCOPE_DATA" in line


@pytest.mark.parametrize("name", ["a.pkl", "a.pt", "a.npy", "a.npz"])
def test_a_pickle_is_never_loaded(tmp_path: Path, name: str):
    (tmp_path / name).write_bytes(pickle.dumps(noise(5, 5)))
    line = refusal(load_data, str(tmp_path / name))
    assert "pickle, which is never loaded" in line


def test_objects_in_an_array_are_never_loaded(tmp_path: Path):
    objects = np.array([{"a": 1}, None], dtype=object)
    np.save(tmp_path / "a.npy", objects, allow_pickle=True)
    np.savez(tmp_path / "a.npz", x=objects, allow_pickle=True)
    for name in ("a.npy", "a.npz"):
        assert "(a pickle), which are never loaded" in refusal(load_data, str(tmp_path / name))


@pytest.mark.parametrize("name", ["a.npy", "a.npz"])
def test_a_file_that_is_not_what_its_name_says(tmp_path: Path, name: str):
    for content in (b"", b"just text, no array"):
        (tmp_path / name).write_bytes(content)
        assert "is not what its name says" in refusal(load_data, str(tmp_path / name))


@pytest.mark.parametrize("kept", [0.02, 0.5, 0.95])
@pytest.mark.parametrize("name", ["a.npy", "a.npz"])
def test_a_file_cut_short(tmp_path: Path, name: str, kept: float):
    path = tmp_path / name
    np.save(path, noise(50, 8)) if name == "a.npy" else np.savez_compressed(path, x=noise(50, 8))
    whole = path.read_bytes()
    path.write_bytes(whole[: max(10, int(kept * len(whole)))])
    assert "cannot be read, it is truncated or damaged" in refusal(load_data, str(path))


def test_a_damaged_archive(tmp_path: Path):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, x=noise(50, 8))
    content = bytearray(path.read_bytes())
    content[200:300] = bytes(100)
    path.write_bytes(content)
    assert f"{path}[x] cannot be read" in refusal(load_data, str(path))


def test_an_archive_of_several_arrays(tmp_path: Path):
    path = tmp_path / "a.npz"
    np.savez(path, first=noise(5, 5), second=noise(5, 5))
    assert "holds first, second, expected one of x, images, data" in refusal(load_data, str(path))
    np.savez(path, x=noise(5, 5), images=noise(5, 5))
    assert "holds x and images, expected only one of them" in refusal(load_data, str(path))
    np.savez(path, allow_pickle=False, **{f"layer{i}": noise(2, 2) for i in range(40)})
    assert "and 34 more" in refusal(load_data, str(path))
    np.savez(path)
    assert "no array" in refusal(load_data, str(path))


def test_a_file_of_another_kind(tmp_path: Path):
    (tmp_path / "a.xyz").write_text("1,2")
    assert "is of unknown kind" in refusal(load_data, str(tmp_path / "a.xyz"))


@pytest.mark.parametrize("damage", ["cut", "other", "sizes"])
def test_a_damaged_idx_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str):
    folder = tmp_path / "mnist"
    folder.mkdir()
    content = gzip.compress(struct.pack(">HBB3I", 0, 8, 3, 9, 4, 4) + bytes(range(144)))
    damaged = {"cut": content[:-20], "other": b"text", "sizes": gzip.compress(gzip.decompress(content)[:-1])}[damage]
    (folder / "train-images-idx3-ubyte.gz").write_bytes(damaged)
    monkeypatch.setenv("DIFFUSCOPE_DATA", str(tmp_path))
    assert "train-images-idx3-ubyte.gz" in refusal(load_data, "mnist")


# folders of images


def test_an_empty_folder(tmp_path: Path):
    assert refusal(load_data, str(tmp_path)).startswith(f"data: {tmp_path} holds no image; expected .bmp")


def test_images_of_different_sizes_name_the_first_offender_and_both_sizes(tmp_path: Path):
    folder = image_folder(tmp_path)
    for name in ("2.png", "3.png"):
        Image.new("L", (5, 7)).save(folder / name)
    line = refusal(load_data, str(folder))
    assert line.startswith(f"data: {folder / '2.png'} is 5 x 7 and 0.png is 8 x 6")


def test_a_png_that_is_no_png(tmp_path: Path):
    folder = image_folder(tmp_path)
    (folder / "1.png").write_text("no picture")
    assert refusal(load_data, str(folder)).startswith(f"data: {folder / '1.png'} cannot be read")


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "bmp", "tiff"])
def test_an_image_cut_short(tmp_path: Path, suffix: str):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(
        tmp_path / f"a.{suffix}"
    )
    whole = (tmp_path / f"a.{suffix}").read_bytes()
    for kept in (0.01, 0.5, 0.9):
        (tmp_path / f"a.{suffix}").write_bytes(whole[: int(kept * len(whole))])
        assert f"a.{suffix} cannot be read" in refusal(load_data, str(tmp_path))


def test_transparent_pixels(tmp_path: Path):
    folder = image_folder(tmp_path)
    Image.new("RGBA", (8, 6), (1, 2, 3, 100)).save(folder / "3.png")
    assert "3.png has transparent pixels" in refusal(load_data, str(folder))


def test_images_of_other_depths(tmp_path: Path):
    folder = image_folder(tmp_path)
    Image.fromarray(np.full((6, 8), 40_000, dtype=np.uint16)).save(folder / "3.png")
    assert "3.png is 16-bit and 0.png is 8-bit; expected images of one depth" in refusal(load_data, str(folder))
    for name, array in (("3.tiff", np.ones((6, 8), np.float32)), ("3.tiff", np.ones((6, 8), np.int32))):
        (folder / "3.png").unlink(missing_ok=True)
        Image.fromarray(array).save(folder / name)
        assert "expected 8-bit gray or color, or 16-bit gray" in refusal(load_data, str(folder))


def test_color_of_sixteen_bits_is_not_cut_to_eight(tmp_path: Path):
    rows = b"".join(b"\0" + np.arange(24, dtype=">u2").tobytes() for _ in range(6))

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", 8, 6, 16, 2, 0, 0, 0)
    (tmp_path / "a.png").write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )
    assert "a.png has 16-bit color; expected 8-bit gray or color" in refusal(load_data, str(tmp_path))


def test_several_frames(tmp_path: Path):
    frames = [Image.fromarray(np.full((6, 8), k, dtype=np.uint8)) for k in (0, 99)]
    frames[0].save(tmp_path / "a.tiff", save_all=True, append_images=frames[1:])
    assert "a.tiff holds 2 frames" in refusal(load_data, str(tmp_path))


def test_one_single_image(tmp_path: Path):
    folder = image_folder(tmp_path, n=1)
    assert "has one single example" in refusal(load_data, str(folder))
    assert "has one single example" in refusal(load_data, str(folder), heldout=str(folder))
    assert "is one single image; expected a folder" in refusal(load_data, str(folder / "0.png"))
    for shape in [(28, 28, 3), (1, 28, 28)]:
        assert "may be one single image" in refusal(load_data, saved(tmp_path, noise(*shape)))


# arrays


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_counted_and_located(tmp_path: Path, bad: float):
    x = noise(6, 4, 5).astype(np.float32)
    x[2, 1, 3] = x[4, 0, 0] = bad
    line = refusal(load_data, saved(tmp_path, x))
    assert "has 2 values that are NaN or infinite, the first at index (2, 1, 3)" in line


@pytest.mark.parametrize(
    "array",
    [
        np.array([["a", "b"], ["c", "d"]]),
        np.ones((4, 4), dtype=bool),
        np.ones((4, 4), dtype=complex),
        np.zeros((4, 4), dtype="M8[s]"),
        np.zeros(4, dtype=[("x", "f4")]),
    ],
)
def test_values_that_are_not_real_numbers(tmp_path: Path, array: np.ndarray):
    assert f"has dtype {array.dtype}, expected" in refusal(load_data, saved(tmp_path, array))


@pytest.mark.parametrize("shape", [(), (9,), (9, 5, 6, 7), (2, 3, 4, 5, 6, 7), (9, 4, 8, 8)])
def test_shapes_that_are_no_examples(tmp_path: Path, shape: tuple[int, ...]):
    assert f"has shape {shape}, expected vectors (n, d) or images" in refusal(load_data, saved(tmp_path, noise(*shape)))


@pytest.mark.parametrize("shape", [(9, 3, 8, 3), (9, 1, 1, 1), (9, 3, 8, 1)])
def test_shapes_that_can_be_read_in_two_ways(tmp_path: Path, shape: tuple[int, ...]):
    assert "(n, C, H, W) and (n, H, W, C) alike" in refusal(load_data, saved(tmp_path, noise(*shape)))


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (0, 8, 8), (4, 0, 8)])
def test_no_examples(tmp_path: Path, shape: tuple[int, ...]):
    assert "expected at least one example and one value" in refusal(load_data, saved(tmp_path, np.zeros(shape)))


@pytest.mark.parametrize("shape", [(9, 28), (9, 8, 8), (9, 8, 8, 3)])
def test_integer_pixels_without_a_stated_range(tmp_path: Path, shape: tuple[int, ...]):
    pixels = (noise(*shape) * 255).astype(np.uint8)
    line = refusal(load_data, saved(tmp_path, pixels))
    assert "integer values (uint8)" in line
    assert "--data-range 0 255" in line
    assert load_data(saved(tmp_path, pixels), data_range=(0, 255)).data_range == (0.0, 255.0)


def test_float_images_of_no_common_range(tmp_path: Path):
    line = refusal(load_data, saved(tmp_path, noise(9, 8, 8) * 255))
    assert "of a range not stated; expected [0, 1] or [-1, 1], or --data-range" in line


def test_values_outside_the_stated_range(tmp_path: Path):
    x = noise(9, 8, 8) * 2
    line = refusal(load_data, saved(tmp_path, x), data_range=(0, 1))
    assert "expected them in [0, 1]" in line


@pytest.mark.parametrize("data_range", [(1, 0), (0, 0), (0, float("inf")), (float("nan"), 1)])
def test_a_range_that_is_none(data_range: tuple[float, float]):
    assert refusal(load_data, "digits", data_range=data_range).startswith("data_range: got ")
    assert refusal(load_data("digits").in_range, *data_range).startswith("data_range: got ")


def test_values_beyond_float32():
    assert "expected the range of float32" in refusal(data_from_arrays, noise(6, 4) * 1e300)


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.5, float("nan")])
def test_a_fraction_that_is_none(fraction: float):
    assert refusal(load_data, "digits", heldout_fraction=fraction).startswith("heldout_fraction: got ")


def test_too_few_examples_to_split():
    assert "has 5 examples, 0 of them to hold out" in refusal(data_from_arrays, noise(5, 4), heldout_fraction=0.05)


def test_labels_that_do_not_fit():
    assert "expected integers (9,)" in refusal(data_from_arrays, noise(9, 4), labels=np.arange(8))
    assert "expected integers (9,)" in refusal(data_from_arrays, noise(9, 4), labels=np.ones(9))


# the two parts against each other


def test_parts_of_different_shapes(tmp_path: Path):
    a, b = saved(tmp_path, noise(9, 8, 8)), saved(tmp_path, noise(9, 8, 9), "b.npy")
    line = refusal(load_data, a, heldout=b)
    assert line.startswith("heldout: ")
    assert "(1, 8, 9); expected (1, 8, 8)" in line


def test_heldout_identical_to_training_in_any_order(tmp_path: Path):
    x = noise(9, 8, 8)
    a = saved(tmp_path, x)
    for heldout in (x, x[::-1], x[3:6]):
        line = refusal(load_data, a, heldout=saved(tmp_path, heldout, "b.npy"))
        assert line.startswith(f"heldout: every one of the {len(heldout)} held-out examples is also a training")
    # one example of its own is enough to go on, and the others are counted
    data = data_from_arrays(x, np.concatenate([x[:5], noise(1, 8, 8)[:, ::-1]]))
    assert data.shared == 5


def test_training_examples_that_are_all_the_same():
    assert "are all the same" in refusal(data_from_arrays, np.ones((9, 8, 8)))
    assert "are all the same" in refusal(data_from_arrays, np.ones((9, 4)))
    assert "are all the same" in refusal(data_from_arrays, np.ones((9, 4)), noise(5, 4))


def test_parts_in_different_units(tmp_path: Path):
    folder = str(image_folder(tmp_path))
    unit = saved(tmp_path, noise(9, 6, 8))
    assert "expected --data-range for both" in refusal(load_data, unit, heldout=folder)
    assert "expected both in the same units" in refusal(load_data, unit, heldout=folder, data_range=(0, 255))
    assert "the ranges are [0, 16] (digits" in refusal(load_data, "digits", heldout=eight_by_eight(tmp_path))


def eight_by_eight(tmp_path: Path) -> str:
    folder = tmp_path / "eight"
    folder.mkdir()
    for i in range(3):
        Image.fromarray(np.random.default_rng(i).integers(0, 9, (8, 8), dtype=np.uint8)).save(folder / f"{i}.png")
    return str(folder)


def test_tensors_are_checked_like_arrays():
    x = torch.rand(6, 4, 4, generator=torch.Generator().manual_seed(0))
    x[1, 2, 3] = float("nan")
    assert refusal(data_from_arrays, x).startswith("x: the array has 1 values that are NaN")
