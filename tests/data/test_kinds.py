"""An array is what it is stated to be, with its values where they were; what it cannot be is one line."""

from pathlib import Path

import numpy as np
import pytest
import torch

from diffuscope.data import data_from_arrays, load_data, load_samples
from diffuscope.errors import InputError


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


@pytest.mark.parametrize(
    ("kind", "shape", "event"),
    [
        ("auto", (6, 9), (9,)),
        ("auto", (6, 2, 3, 4, 5), (2, 3, 4, 5)),
        ("vectors", (6, 9), (9,)),
        ("series", (6, 9), (1, 9)),
        ("series", (6, 3, 9), (3, 9)),
        ("series", (6, 1, 3), (1, 3)),
        ("volumes", (6, 3, 4, 5), (1, 3, 4, 5)),
        ("volumes", (6, 2, 3, 4, 5), (2, 3, 4, 5)),
        ("latents", (6, 16, 4, 5), (16, 4, 5)),
        ("latents", (6, 3, 4, 3), (3, 4, 3)),
    ],
)
def test_a_kind_has_its_layout_and_the_range_of_its_values(kind, shape, event):
    x = 7 * noise(*shape)
    data = data_from_arrays(x, kind=kind)
    assert data.event_shape == event
    assert data.kind == ({2: "vectors", 5: "volumes"}[len(shape)] if kind == "auto" else kind)
    assert torch.equal(data.train, torch.from_numpy(x.reshape(6, *event)).float()[data.train_index])
    assert data.data_range == (x.min(), x.max())
    assert data_from_arrays(x, kind=kind, data_range=(-99, 99)).data_range == (-99, 99)


def test_images_are_images_where_their_shape_could_be_read_in_two_ways():
    for shape, event in (((6, 3, 8, 3), (3, 8, 3)), ((6, 8, 3), (1, 8, 3)), ((6, 3, 8, 1), (3, 8, 1))):
        x = np.random.default_rng(0).random(shape)
        with pytest.raises(InputError, match="--kind images"):
            data_from_arrays(x)
        data = data_from_arrays(x, kind="images")
        assert data.event_shape == event
        assert torch.equal(data.heldout, torch.from_numpy(x.reshape(6, *event)).float()[data.heldout_index])


@pytest.mark.parametrize(
    ("kind", "shape"),
    [
        ("latents", (6, 4, 5)), ("latents", (6, 9)), ("volumes", (6, 4, 5)), ("volumes", (6, 9)), ("images", (6, 9)),
        ("images", (6, 4, 5, 6)), ("series", (6, 1, 4, 5)), ("series", (6,)), ("vectors", (6, 4, 5)),
        ("table", (6, 4, 5)),
    ],
)  # fmt: skip
def test_a_shape_that_the_stated_kind_does_not_have_is_one_line(kind, shape):
    with pytest.raises(InputError, match=f"--kind {kind} takes$") as refused:
        data_from_arrays(noise(*shape), kind=kind)
    assert str(shape) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_the_way_out_is_named_where_the_channels_are_not_those_of_images():
    with pytest.raises(InputError, match=r"\(9, 4, 8, 8\).*--kind latents takes \(n, C, H, W\) with any C"):
        data_from_arrays(noise(9, 4, 8, 8))
    with pytest.raises(InputError, match="kind: got 'pictures', expected one of auto, vectors, series, images"):
        data_from_arrays(noise(9, 4), kind="pictures")


def test_a_kind_that_the_source_cannot_be_is_one_line():
    with pytest.raises(InputError, match=r"digits.* \(1797, 1, 8, 8\); expected \(n, d\), as --kind vectors takes"):
        load_data("digits", kind="vectors")
    assert load_data("digits", kind="latents").kind == "latents"
    assert load_data("digits").kind == "images"
    assert load_data("two-moons").kind == "vectors"


def test_samples_are_of_the_kind_of_the_data(tmp_path: Path):
    data = data_from_arrays(noise(8, 30), kind="series")
    samples = noise(5, 30, seed=1)
    np.save(tmp_path / "samples.npy", samples)
    loaded = load_samples(str(tmp_path / "samples.npy"), None, like=data)
    assert torch.equal(loaded, torch.from_numpy(samples[:, None]).float())


def test_only_the_training_examples_that_were_asked_for_are_converted(tmp_path: Path, monkeypatch):
    # 40 MB of float32 on a machine with 5 MB
    array = np.lib.format.open_memmap(tmp_path / "a.npy", "w+", np.uint8, (100_000, 100))
    array[:] = np.random.default_rng(0).integers(0, 256, (100_000, 100))
    held = array[:500] ^ 1
    np.save(tmp_path / "held.npy", held)
    (tmp_path / "meminfo").write_text("MemAvailable:   5000 kB\n")
    monkeypatch.setattr("diffuscope.memory.MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr("diffuscope.memory.CONTAINER_LIMIT", tmp_path / "none")
    spec, heldout = str(tmp_path / "a.npy"), str(tmp_path / "held.npy")
    with pytest.raises(InputError, match=r"100,000 examples of shape \(100,\), needs 0.04 GB"):
        load_data(spec, heldout=heldout, data_range=(0, 255))
    data = load_data(spec, heldout=heldout, data_range=(0, 255), train_limit=1000, seed=3)
    assert len(data.train) == 1000
    assert torch.equal(data.train, torch.from_numpy(np.asarray(array)[data.train_index.numpy()]).float())
    assert "of the training examples 1000 drawn at random (seed 3)" in data.provenance
