"""Weights are found in files as people write them; what is no such file is refused in one line, and nothing in it runs.

Each file is written by the tool that people use; its tensors are compared with those that were written, bit for bit.
"""

import argparse
import datetime
import json
import pathlib
import pickle
import subprocess
import tarfile
import warnings
import zipfile
from collections import OrderedDict, defaultdict
from enum import Enum
from types import SimpleNamespace

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from diffuscope.denoisers import WeightsFile, read_weights, weights_file
from diffuscope.denoisers.weights_fit import fits
from diffuscope.errors import InputError


class AttributeDict(dict):
    """As Lightning keeps hyperparameters."""


class Color(Enum):
    RED = 1


class Config:
    def __init__(self):
        self.width, self.path, self.color = 8, pathlib.Path("a"), Color.RED


def state():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).state_dict()


def same(found, expected):
    assert list(found) == list(expected)
    assert all(torch.equal(found[name], value) and found[name].dtype == value.dtype for name, value in expected.items())


@pytest.mark.parametrize("name", ["a.pt", "a.pth", "a.ckpt", "a.bin", "a.th", "a.pth.tar", "a", "a?b&c=d.pt"])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_state_dict_of_torch_save_comes_back_under_any_name(name, zipped, tmp_path):
    torch.save(state(), tmp_path / name, _use_new_zipfile_serialization=zipped)
    found = read_weights(tmp_path / name)
    assert list(found.dicts) == [""]
    same(found.dicts[""], state())
    again = read_weights(str(tmp_path / name)).digest
    printed = subprocess.run(["sha256sum", "--zero", "--", tmp_path / name], capture_output=True, text=True, check=True)
    assert found.digest == again == printed.stdout.split()[0]


def test_safetensors_arrays_and_sharded_files_hold_the_same(tmp_path):
    tensors = dict(state())
    safetensors.torch.save_file(tensors, tmp_path / "a.safetensors")
    np.savez(tmp_path / "a.npz", allow_pickle=False, **{name: value.numpy() for name, value in tensors.items()})
    parts, names = [{}, {}], {}
    for index, (name, value) in enumerate(tensors.items()):
        parts[index % 2][name] = value
    for number, (part, save) in enumerate(zip(parts, (safetensors.torch.save_file, torch.save), strict=True)):
        file = f"part-{number}" + (".bin" if number else ".safetensors")
        save(part, tmp_path / file)
        names |= dict.fromkeys(part, file)
    (tmp_path / "a.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": names}))
    for file in ("a.safetensors", "a.npz", "a.safetensors.index.json"):
        found = read_weights(tmp_path / file).dicts[""]
        assert found.keys() == tensors.keys()
        assert all(torch.equal(found[name], value) for name, value in tensors.items())


NESTED = {
    "lightning": lambda s: {"epoch": 3, "state_dict": s, "optimizer_states": [], "callbacks": {"EMA": {"decay": 0.9}}},
    "model": lambda s: {"model": s, "step": 7},
    "deep": lambda s: {"checkpoint": {"networks": {"unet": s}}},
    "ordered": lambda s: OrderedDict(net=s),
    "parameters": lambda s: {"params": {name: nn.Parameter(v, requires_grad=False) for name, v in s.items()}},
    "namespace": lambda s: {"model": s, "args": argparse.Namespace(out=pathlib.Path("x"), day=datetime.date.max)},
    "numpy": lambda s: {"model": s, "loss": np.float64(0.5), "x": np.arange(3.0), "rng": np.random.RandomState(0)},
    "settings": lambda s: {"model": s, "config": Config(), "more": AttributeDict(a=Color.RED)},
    "default": lambda s: {"model": s, "d": defaultdict(list, a=[1]), "n": SimpleNamespace(a=1)},
    "classes": lambda s: {"state_dict": s, "callbacks": {Config: {"best": torch.tensor(1.0)}}},
}  # fmt: skip


@pytest.mark.parametrize("kind", NESTED)
def test_the_state_dict_is_found_inside_a_checkpoint_whatever_lies_beside_it(kind, tmp_path):
    torch.save(NESTED[kind](state()), tmp_path / "a.ckpt")
    found = {keys: tensors for keys, tensors in read_weights(tmp_path / "a.ckpt").dicts.items() if len(tensors) > 1}
    ((keys, tensors),) = found.items()
    assert keys.split(".")[-1] in ("state_dict", "model", "unet", "net", "params")
    same(tensors, state())


def test_settings_are_not_built_by_the_code_that_they_name(tmp_path, monkeypatch):
    """Neither a class that can be imported, nor its methods."""
    before = torch.serialization.get_safe_globals()
    torch.save({"model": state(), "config": Config()}, tmp_path / "a.pt")

    def sprung(*_, **__):
        raise AssertionError("this code belongs to the file")

    for method in ("__new__", "__init__", "__setattr__"):
        monkeypatch.setattr(Config, method, sprung)
    monkeypatch.setattr(Config, "__setstate__", sprung, raising=False)
    same(read_weights(tmp_path / "a.pt").dicts["model"], state())
    assert set(torch.serialization.get_safe_globals()) == set(before)


def test_the_tensors_of_an_optimizer_are_no_weights(tmp_path):
    network = nn.Linear(2, 2)
    optimizer = torch.optim.Adam(network.parameters())
    network(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    torch.save({"model": network.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "a.pt")
    assert list(read_weights(tmp_path / "a.pt").dicts) == ["model"]


# Refused


def refusal(path):
    with pytest.raises(InputError) as caught:
        read_weights(path)
    line = str(caught.value)
    assert line.startswith("weights: ")
    assert "\n" not in line
    return line


class Trap:
    """Its pickle calls `call` when it is loaded without restriction."""

    def __init__(self, call, *arguments):
        self.call, self.arguments = call, arguments

    def __reduce__(self):
        return self.call, self.arguments


def traps(folder):
    import builtins
    import os
    import shutil

    sprung = str(folder / "sprung")
    yield "posix.system", Trap(os.system, f"touch {sprung}")
    yield "builtins.eval", Trap(eval, f"open({sprung!r}, 'w')")
    yield "builtins.exec", Trap(exec, f"open({sprung!r}, 'w')")
    yield "subprocess.Popen", Trap(subprocess.Popen, ["touch", sprung])
    yield "io.open", Trap(builtins.open, sprung, "w")
    yield "shutil.rmtree", Trap(shutil.rmtree, sprung)
    yield "builtins.__import__", Trap(__import__, "antigravity")


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("beside", [False, True])
def test_a_file_that_would_run_code_is_refused_and_runs_none(zipped, beside, tmp_path):
    for name, trap in traps(tmp_path):
        content = {"model": state(), "args": trap} if beside else trap
        torch.save(content, tmp_path / "a.pt", _use_new_zipfile_serialization=zipped)
        assert name.removeprefix("builtins.") in refusal(tmp_path / "a.pt")
        assert not (tmp_path / "sprung").exists()


def test_what_settings_may_name_is_not_called(tmp_path):
    """There is a stand-in in its place, whose methods cannot be called at all."""
    torch.save({"model": state(), "args": Trap(pathlib.Path, tmp_path / "a")}, tmp_path / "a.pt")
    same(read_weights(tmp_path / "a.pt").dicts["model"], state())
    torch.save({"model": state(), "args": Trap(pathlib.Path.touch, tmp_path / "sprung")}, tmp_path / "a.pt")
    assert "a pickle of more than tensors and settings" in refusal(tmp_path / "a.pt")
    assert not (tmp_path / "sprung").exists()


def test_attributes_that_a_file_gives_its_objects_are_not_taken_for_their_methods(tmp_path):
    """The restricted loader sets any attribute of an OrderedDict or a tensor, to whatever the file can hold."""

    class Crafted:
        def __reduce__(self):
            attributes = dict.fromkeys(("items", "keys", "values", "update", "get"), torch.Size)
            return OrderedDict, (), attributes, None, iter({**state(), "marked": value}.items())

    inner, value = Crafted(), torch.ones(2)
    for name in ("detach", "is_floating_point", "to"):
        setattr(value, name, torch.Size)
    torch.save(OrderedDict(model=inner), tmp_path / "a.pt")
    found = read_weights(tmp_path / "a.pt").dicts["model"]
    same(found, {**state(), "marked": torch.ones(2)})
    assert not vars(found["marked"])
    torch.save(inner, tmp_path / "a.bin")
    (tmp_path / "a.index.json").write_text(json.dumps({"weight_map": {"marked": "a.bin"}}))
    assert len(read_weights(tmp_path / "a.index.json").dicts[""]) == len(state()) + 1


def test_a_small_file_with_any_number_of_dictionaries_ends(tmp_path, monkeypatch):
    """One dictionary in many places of another, and so on: 100 in 100 in 100."""
    content = {"w": torch.zeros(1)}
    for _ in range(3):
        content = {str(i): content for i in range(100)}
    torch.save(content, tmp_path / "a.pt")
    monkeypatch.setattr(weights_file, "MOST", 5000)
    assert "a.pt holds more than 5,000 entries" in refusal(tmp_path / "a.pt")
    loop = {"w": torch.zeros(1)}
    loop["again"] = loop  # type: ignore[assignment]
    torch.save(loop, tmp_path / "b.pt")
    assert len(read_weights(tmp_path / "b.pt").dicts) == weights_file.DEEPEST + 1


def test_the_time_to_compare_names_is_not_quadratic():
    """Every name of the file may end with the only name of the network."""
    asked, many = 0, 2000

    class Name(str):
        __slots__ = ()

        def startswith(self, *arguments):  # type: ignore[override]
            nonlocal asked
            asked += 1
            return super().startswith(*arguments)

    tensors: dict[str, torch.Tensor] = {Name(f"layers.{i}.weight"): torch.zeros(2, 2) for i in range(many)}
    found = fits(WeightsFile(pathlib.Path("a.pt"), "", {"": tensors}), nn.Linear(2, 2, bias=False))
    assert len(found) == many
    assert 0 < asked < 10 * many


def test_a_whole_model_is_refused_with_its_class_and_what_to_save_instead(tmp_path):
    torch.save(nn.Sequential(nn.Linear(2, 2), nn.ReLU()), tmp_path / "a.pt")
    line = refusal(tmp_path / "a.pt")
    assert "a whole pickled model (torch.nn.modules.container.Sequential)" in line
    assert "torch.save(model.state_dict(), 'weights.pt')" in line
    torch.save(nn.Linear(2, 2), tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    assert "torch.nn.modules.linear.Linear" in refusal(tmp_path / "old.pt")
    torch.save({"model": nn.Linear(2, 2), "epoch": 1}, tmp_path / "b.pt")
    assert "model: a pickled torch.nn.modules.linear.Linear" in refusal(tmp_path / "b.pt")
    (tmp_path / "a.index.json").write_text(json.dumps({"weight_map": {"weight": "a.pt"}}))
    assert "a.pt is a whole pickled model" in refusal(tmp_path / "a.index.json")


def test_other_contents_are_refused_with_what_they_are(tmp_path):
    network = nn.Linear(2, 2)
    contents = {
        "the state of an optimizer": torch.optim.Adam(network.parameters()).state_dict(),
        "optimizer: the state of an optimizer": {"optimizer": torch.optim.SGD(network.parameters(), 1).state_dict()},
        "holds a Tensor": torch.zeros(3),
        "holds a list": [torch.zeros(3)],
        "it has nothing": {},
        "it has a: int, b: str": {"a": 1, "b": "c"},
        "arrays of NumPy, no tensors; expected np.savez": {"model": {"weight": np.ones((2, 2))}},
    }
    for what, content in contents.items():
        torch.save(content, tmp_path / "a.pt")
        assert what in refusal(tmp_path / "a.pt")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(network).save(tmp_path / "script.pt")
    assert "TorchScript archive" in refusal(tmp_path / "script.pt")
    torch.save(state(), tmp_path / "a.safetensors")
    assert "expected it under a name ending in .pt" in refusal(tmp_path / "a.safetensors")


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("a.pt", b"", "is empty"),
        ("a.pt", b"these are weights\n", "is a text"),
        ("a.pt", b"<!DOCTYPE html><html>", "a web page"),
        ("a.safetensors", b"version https://git-lfs.github.com/spec/v1\noid", "git lfs pull"),
        ("a.bin", b"GGUF\x03\x00\x00\x00", "a GGUF file"),
        ("a.h5", b"\x89HDF\r\n\x1a\n", "HDF5"),
        ("a.pt.gz", b"\x1f\x8b\x08", "expected it unpacked"),
        ("a.onnx", b"\x08\x07\x12", "onnx:FILE"),
        ("model.ckpt.index", b"\x00\x00\x01", "TensorFlow"),
        ("model.ckpt.data-00000-of-00001", b"\x00\x00\x01", "TensorFlow"),
        ("a.msgpack", b"\x81\xa6", "Flax"),
        ("a.npy", b"\x93NUMPY\x01\x00v\x00{", "expected an .npz file"),
        ("a.png", b"\x89PNG\r\n\x1a\n", "a picture"),
        ("a.pt", "größe".encode(), "is a text"),
        ("a.pt", "ö".encode() * 400, "is a text"),
        ("a.pt", bytes(range(129, 240)), "of an unknown kind"),
        ("a.pt", b"\x01\x02\x03", "of an unknown kind"),
        ("a.pkl", pickle.dumps({"a": 1}), "a plain pickle, which can run code and is not loaded"),
        ("a.index.json", b"{}", "no index of weights"),
        ("a.index.json", b'{"weight_map": {"a": "../b.safetensors"}}', "do not lie beside it"),
        ("a.index.json", b'{"weight_map": {"a": "b.safetensors"}}', "no file"),
        ("a.index.json", b"[", "no index of weights"),
    ],
)  # fmt: skip
def test_other_files_are_refused_with_what_they_are(name, content, what, tmp_path):
    (tmp_path / name).write_bytes(content)
    assert what in refusal(tmp_path / name)


def test_folders_missing_files_and_archives_of_something_else(tmp_path):
    assert "no file" in refusal(tmp_path / "absent.pt")
    assert "cannot read" in refusal(tmp_path / (300 * "long"))
    for name, what in [
        ("model_index.json", "--model diffusers:"), ("__0_0.distcp", "dcp_to_torch_save"),
        ("saved_model.pb", "TensorFlow"), ("net.pt", "net.pt, got the folder"), ("readme.md", "a file, got the folder"),
    ]:  # fmt: skip
        (tmp_path / name.split(".")[0]).mkdir()
        (tmp_path / name.split(".")[0] / name).touch()
        assert what in refusal(tmp_path / name.split(".")[0])
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("notes.txt", "none")
    assert "it holds notes.txt" in refusal(tmp_path / "a.zip")
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        tar.add(tmp_path / "a.zip", "a.zip")
    assert "a tar archive" in refusal(tmp_path / "a.tar")


@pytest.mark.parametrize("form", ["zip", "legacy", "safetensors", "npz"])
def test_a_file_cut_anywhere_is_refused(form, tmp_path):
    path = tmp_path / ("a.safetensors" if form == "safetensors" else "a.npz" if form == "npz" else "a.pt")
    if form == "safetensors":
        safetensors.torch.save_file(dict(state()), path)
    elif form == "npz":
        np.savez(path, **{name: value.numpy() for name, value in state().items()})
    else:
        torch.save(state(), path, _use_new_zipfile_serialization=form == "zip")
    whole = path.read_bytes()
    for kept in [*range(0, len(whole) - 1, max(1, len(whole) // 25)), len(whole) - 1]:
        path.write_bytes(whole[:kept])
        line = refusal(path)
        assert any(word in line for word in ("truncated", "damaged", "is empty")), line


def test_a_bit_that_flipped_in_an_archive_is_found_unless_it_was_saved_without_checksums(tmp_path):
    path, tensors = tmp_path / "a.pt", {"a": torch.arange(50.0), "b": torch.ones(3)}
    torch.save(tensors, path)
    whole = bytearray(path.read_bytes())
    whole[whole.index(tensors["a"].numpy().tobytes()) + 100] ^= 64
    path.write_bytes(whole)
    assert "is damaged: the checksum of a/data/0 in it is wrong" in refusal(path)
    before = torch.serialization.get_crc32_options()
    try:
        torch.serialization.set_crc32_options(False)
        torch.save(tensors, path)
    finally:
        torch.serialization.set_crc32_options(before)
    same(read_weights(path).dicts[""], tensors)


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path, monkeypatch):
    torch.save(state(), tmp_path / "a.pt")
    load = torch.load

    def meanwhile(*arguments, **options):
        found = load(*arguments, **options)
        torch.save({**state(), "more": torch.zeros(1)}, tmp_path / "b.pt")
        (tmp_path / "b.pt").replace(tmp_path / "a.pt")
        return found

    monkeypatch.setattr(torch, "load", meanwhile)
    assert "was written to while it was read" in refusal(tmp_path / "a.pt")


def test_the_loader_is_the_restricted_one(tmp_path, monkeypatch):
    calls = []
    load = torch.load
    monkeypatch.setattr(torch, "load", lambda *a, **k: calls.append(k) or load(*a, **k))
    for zipped in (True, False):
        torch.save(state(), tmp_path / "a.pt", _use_new_zipfile_serialization=zipped)
        read_weights(tmp_path / "a.pt")
    assert [call["weights_only"] for call in calls] == [True, True]
    assert [call["mmap"] for call in calls] == [True, False]
    monkeypatch.setattr(torch, "__version__", "2.5.1+cpu")
    assert "PyTorch reads safely since 2.6" in refusal(tmp_path / "a.pt")
