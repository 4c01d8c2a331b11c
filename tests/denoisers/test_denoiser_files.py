"""A denoiser comes back from its file bit for bit, and every file that is none is refused in one line."""

import io
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from diffuscope.denoisers import (
    MLP,
    DataPredictor,
    NoisePredictor,
    Preconditioned,
    SignalTime,
    StepIndex,
    UNet,
    VelocityPredictor,
    load_denoiser,
    load_npz,
    save_denoiser,
)
from diffuscope.errors import InputError
from diffuscope.schedules import VE, VP, Cosine, DiscreteVP, GeometricVE, Karras, RectifiedFlow, Sigmoid

SHAPE = {"event_shape": (1, 6, 5), "data_range": (0.0, 1.0)}


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def drawn(network):
    """Random parameters everywhere, the zero layer too."""
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return network


def denoisers():
    unet = drawn(UNet((1, 6, 5), channels=(8, 12)))
    mlp = drawn(MLP((1, 6, 5), width=16, depth=2))
    schedules = [VE(sigma_max=50.0), GeometricVE(), Karras(rho=5.0), VP(), Cosine(), Sigmoid(tau=0.7), RectifiedFlow()]
    yield from (Preconditioned(mlp, schedule, 0.4, data_mean=0.1, **SHAPE) for schedule in schedules)
    yield NoisePredictor(unet, DiscreteVP.linear(steps=20), clock=StepIndex(20, first_trained=2), **SHAPE)
    yield NoisePredictor(unet, VP(), **SHAPE)
    yield DataPredictor(unet, RectifiedFlow(), clock=SignalTime(), **SHAPE)
    yield VelocityPredictor(mlp, Cosine(), **SHAPE)
    featured = drawn(MLP((1, 6, 5), width=16, depth=1, fourier=8, fourier_scale=2))
    yield Preconditioned(featured, VE(), 0.4, **SHAPE)


@pytest.mark.parametrize("number", range(12))
def test_a_saved_denoiser_comes_back_bit_for_bit(number, tmp_path, generator):
    denoiser = list(denoisers())[number].eval()
    save_denoiser(denoiser, tmp_path / "model.safetensors")
    state = torch.random.get_rng_state()
    loaded = load_denoiser(tmp_path / "model.safetensors")
    assert torch.equal(torch.random.get_rng_state(), state)  # loading draws nothing
    assert type(loaded) is type(denoiser)
    assert (loaded.schedule, loaded.event_shape, loaded.data_range) == (denoiser.schedule, (1, 6, 5), (0.0, 1.0))
    assert getattr(loaded, "clock", None) == getattr(denoiser, "clock", None)
    x_t = torch.randn(4, 1, 6, 5, generator=generator)
    t = 7.0 if isinstance(denoiser.schedule, DiscreteVP) else 0.6 * denoiser.schedule.t_max
    assert torch.equal(loaded(x_t, t), denoiser(x_t, t))
    assert all(parameter.requires_grad for parameter in loaded.parameters())


@pytest.mark.parametrize("network", [MLP((1, 4, 4), width=8, classes=3), UNet((1, 4, 4), channels=(8,), classes=3)])
def test_a_network_keeps_its_classes(network, tmp_path, generator):
    denoiser = Preconditioned(drawn(network), VE(), 0.5, event_shape=(1, 4, 4), data_range=(-1.0, 1.0))
    save_denoiser(denoiser, tmp_path / "model.safetensors")
    loaded = load_denoiser(tmp_path / "model.safetensors")
    x, y = torch.randn(4, 1, 4, 4, generator=generator), torch.tensor([0, 1, 2, 3])
    assert loaded.classes == 3
    assert torch.equal(loaded(x, 0.7, y), denoiser(x, 0.7, y))
    assert not torch.equal(loaded(x, 0.7, y)[:3], loaded(x, 0.7)[:3])


def saved(folder: Path) -> Path:
    path = folder / "model.safetensors"
    save_denoiser(next(iter(denoisers())), path)
    return path


def test_saving_replaces_the_file_in_one_move_and_leaves_nothing_beside_it(tmp_path):
    path = saved(tmp_path)
    first = path.stat().st_ino
    saved(tmp_path)
    assert path.stat().st_ino != first  # another file took the name; nobody read a half-written one
    assert [file.name for file in tmp_path.iterdir()] == ["model.safetensors"]


def test_a_disk_that_refuses_leaves_the_former_file_and_one_line(tmp_path, monkeypatch):
    path = saved(tmp_path)
    before = path.read_bytes()

    def refuse(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", refuse)
    with pytest.raises(InputError, match=r"path: cannot write .*: No space left on device"):
        saved(tmp_path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["model.safetensors"]


def refused(path: Path, match: str, load=load_denoiser) -> None:
    with pytest.raises(InputError, match=match) as caught:
        load(path)
    assert "\n" not in str(caught.value)


def arrays(path: Path) -> dict[str, torch.Tensor]:
    return load_npz(path, "model")


def test_the_arrays_of_an_npz_are_read_as_they_are(tmp_path):
    weight, steps = np.arange(6.0).reshape(2, 3), np.array([1, 2], dtype=np.int32)
    np.savez(tmp_path / "model.npz", weight=weight, steps=steps)
    loaded = arrays(tmp_path / "model.npz")
    assert {name: value.dtype for name, value in loaded.items()} == {"weight": torch.float64, "steps": torch.int32}
    assert np.array_equal(loaded["weight"].numpy(), weight)
    assert np.array_equal(loaded["steps"].numpy(), steps)


def test_a_missing_file_is_named(tmp_path):
    refused(tmp_path / "nothing.npz", r"model: no file .*nothing\.npz", arrays)
    refused(tmp_path / "nothing.safetensors", r"no file .*nothing\.safetensors")


@pytest.mark.parametrize("kept", [0, 4, 300, 0.5, -1])
def test_a_truncated_file_is_refused(kept, tmp_path):
    path = saved(tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content)) if isinstance(kept, float) else kept])
    refused(path, r"model\.safetensors is truncated or no safetensors file")


@pytest.mark.parametrize("kept", [0, 10, 0.5, -1])
def test_a_truncated_npz_is_refused(kept, tmp_path):
    path = tmp_path / "model.npz"
    np.savez(path, weight=np.zeros((30, 30)))
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content)) if isinstance(kept, float) else kept])
    refused(path, r"model\.npz is (truncated|not a readable)", arrays)


@pytest.mark.parametrize("name", ["model.pt", "model.pkl", "model.ckpt", "model.safetensors", "model.npz", "model"])
@pytest.mark.parametrize("form", ["pickle", "torch"])
def test_a_pickle_is_never_loaded_whatever_its_name(name, form, tmp_path):
    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "sprung",))

    path = tmp_path / name
    if form == "pickle":
        path.write_bytes(pickle.dumps({"state": Trap()}))
    else:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("archive/data.pkl", pickle.dumps(Trap()))
        path.write_bytes(buffer.getvalue())
    refused(path, "is a pickle of weights.*expected --model module:object.* with --weights")
    assert not (tmp_path / "sprung").exists()


def test_a_file_written_by_torch_save_is_recognized_as_a_pickle(tmp_path):
    torch.save(MLP((2,)).state_dict(), tmp_path / "renamed.safetensors")
    refused(tmp_path / "renamed.safetensors", "is a pickle")


def test_an_npz_of_python_objects_is_refused(tmp_path):
    np.savez(tmp_path / "model.npz", weights=np.array([{"a": 1}, None], dtype=object))
    refused(tmp_path / "model.npz", r"holds Python objects, which are never loaded", arrays)


def test_an_npz_of_text_is_refused(tmp_path):
    np.savez(tmp_path / "model.npz", names=np.array(["a", "b"]))
    refused(tmp_path / "model.npz", r"names expected an array of numbers", arrays)


@pytest.mark.parametrize("suffix", ["npz", "safetensors"])
def test_arrays_that_do_not_say_what_they_belong_to_are_refused_with_what_to_do(suffix, tmp_path):
    """Even those of a network of ours: names and shapes do not tell what it predicts, of which schedule and range."""
    path = tmp_path / f"model.{suffix}"
    state = UNet((1, 4, 4), channels=(8,)).state_dict()
    if suffix == "npz":
        np.savez(path, allow_pickle=False, **{name: value.numpy() for name, value in state.items()})
    else:
        safetensors.torch.save_file(state, path)
    refused(path, rf"model\.{suffix} holds arrays without a description of their network; expected .*module:object")


def rewritten(path: Path, tensors=None, **header: str) -> None:
    """The same file with other tensors or another header."""
    with safetensors.safe_open(path, framework="pt") as file:
        metadata, kept = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    safetensors.torch.save_file(kept | (tensors or {}), path, metadata | header)


def test_tensors_that_do_not_fit_the_description_are_refused(tmp_path):
    path = saved(tmp_path)
    rewritten(path, {"first.bias": torch.zeros(3)})
    refused(path, r"first\.bias expected shape \(16,\), got \(3,\)")
    saved(tmp_path)
    rewritten(path, {"first.bias": torch.zeros(16, dtype=torch.int64)})
    refused(path, r"first\.bias expected numbers like torch\.float32, got torch\.int64")
    saved(tmp_path)
    rewritten(path, {"more": torch.zeros(3)})
    refused(path, "has an unexpected array 'more'")


@pytest.mark.parametrize("text", ["", "{}", "[]", "7", '{"network": {"name": "os.system", "arguments": {}}}'])
def test_a_description_of_something_else_is_refused(text, tmp_path):
    path = saved(tmp_path)
    rewritten(path, denoiser=text)
    refused(path, "describes no denoiser that this version knows")


def test_a_file_with_another_ending_is_refused_in_both_directions(tmp_path):
    (tmp_path / "model.h5").write_bytes(b"\x89HDF")
    refused(tmp_path / "model.h5", r"expected a \.safetensors file or module:object, got model\.h5")
    with pytest.raises(InputError, match=r"expected a name ending in \.safetensors, got model\.pt"):
        save_denoiser(next(iter(denoisers())), tmp_path / "model.pt")


def test_a_network_of_the_user_cannot_be_described_and_says_so(tmp_path):
    denoiser = DataPredictor(torch.nn.Linear(2, 2), VP(), event_shape=(2,), data_range=(0.0, 1.0))
    with pytest.raises(InputError, match=r"its network is a Linear; a file can hold MLP, UNet"):
        save_denoiser(denoiser, tmp_path / "model.safetensors")
    assert not list(tmp_path.iterdir())
