"""The weights in a file, as people keep them: which dictionaries of tensors it holds, and under which keys.

Read are files of `torch.save` under any name (.pt, .pth, .ckpt, .bin, .th, .pth.tar), by PyTorch's restricted loader
(see `torch_files`), safetensors, an index of several of either (`*.index.json`), and .npz. The kind is told by the
content. A file of torch.save holds the dictionary itself, or has it inside others, beside other things:
`{"state_dict": ...}`, `{"model": ..., "ema": ..., "optimizer": ...}`. All such dictionaries are found, by the keys that
lead to them joined with dots, or by their places in a list (`ema.emas.0`). An optimizer's tensors are not weights. A
list named `shadow_params`, or as averages are, holds averages in the order of the parameters, without their names.
"""

import hashlib
import json
import os
import re
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import safetensors
from torch import Tensor

from diffuscope.errors import InputError
from diffuscope.files import require_file

from .files import load_npz
from .torch_files import LEGACY, Unbuilt, read_torch

Tensors = dict[str, Tensor]
Kind = Literal["torch", "safetensors", "npz", "index"]
DEEPEST = 4  # dictionaries within dictionaries
MOST = 500_000  # entries of all of these; one dictionary may be in many, so that a small file can have any number
SHADOW = "shadow_params"
AVERAGED = re.compile(r"(?:^|[._])(?:emas?|swa|averaged?|polyak|shadow)(?:[._]|$)", re.IGNORECASE)
BEGINNINGS: dict[bytes, str] = {
    b"GGUF": "a GGUF file, whose weights are quantized; expected those from before the quantization",
    b"\x89HDF": "an HDF5 file (Keras?)",
    b"\x93NUMPY": "one array of NumPy, without the names of weights; expected an .npz file",
    b"\x89PNG": "a picture",
    b"\x1f\x8b": "compressed by gzip; expected it unpacked",
    b"version https://git-lfs": "a pointer of Git LFS, not the file itself; git lfs pull fetches it",
    b"<!DOCTYPE": "a web page",
    b"<html": "a web page",
}
NAMES: dict[str, str] = {
    ".onnx": "an ONNX file, which is a whole model; expected --model onnx:FILE",
    ".index": "a TensorFlow checkpoint; expected PyTorch's weights",
    ".meta": "a TensorFlow checkpoint; expected PyTorch's weights",
    ".pb": "a TensorFlow graph; expected PyTorch's weights",
    ".msgpack": "a Flax checkpoint; expected PyTorch's weights",
    ".distcp": "a part of a torch.distributed checkpoint; expected what dcp_to_torch_save makes of the folder",
}
ACCEPTED = "a file of torch.save, .safetensors, .npz, or an index of several (.index.json)"


@dataclass(frozen=True, eq=False)
class WeightsFile:
    """The dictionaries of tensors in a file, by the keys that lead to them ("" to the outermost).

    >>> import hashlib, tempfile
    >>> from pathlib import Path
    >>> import torch
    >>> from diffuscope.denoisers import read_weights
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "net.pt")
    ...     torch.save({"weight": torch.ones(2)}, path)
    ...     read_weights(path).digest == hashlib.sha256(path.read_bytes()).hexdigest()
    True
    """

    path: Path
    digest: str
    """SHA-256 of the file; of an index, that of its files one after the other."""
    dicts: dict[str, Tensors] = field(repr=False)
    shadows: dict[str, list[Tensor]] = field(default_factory=dict, repr=False)
    """Lists of averages, in the order of the parameters."""


def read_weights(path: str | Path) -> WeightsFile:
    """The weights in `path`, on the CPU.

    Raises InputError, naming `weights`, for a file that is missing, damaged, of another kind, or without weights, and
    for one that changes while it is read.

    >>> import tempfile, torch
    >>> from diffuscope.denoisers import read_weights
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     torch.save({"model": {"a.weight": torch.tensor([3.0, 4.0])}, "step": 7}, f"{folder}/net.pt")
    ...     read_weights(f"{folder}/net.pt").dicts
    {'model': {'a.weight': tensor([3., 4.])}}
    """
    path = Path(path)
    kind = _kind(path)
    files = _parts(path) if kind == "index" else [path]
    kinds: list[Kind] = [_kind(file) for file in files] if kind == "index" else [kind]
    before = [_state(file) for file in files]
    found: Any = _content(path, kind) if kind != "index" else {}
    if kind == "index":
        for file, each in zip(files, kinds, strict=True):
            part = _content(file, each)
            if not isinstance(part, dict):
                raise _without_weights(file, part)
            found.update(dict.items(part))
    digest = _digest(files)
    if [_state(file) for file in files] != before:
        raise InputError(f"weights: {path} was written to while it was read; expected a finished file")
    dicts: dict[str, Tensors] = {}
    shadows: dict[str, list[Tensor]] = {}
    if _collect(found, (), dicts, shadows) > MOST:
        raise InputError(f"weights: {path.name} holds more than {MOST:,} entries; expected {ACCEPTED} of a network")
    if not dicts and not shadows:
        raise _without_weights(path, found)
    return WeightsFile(path, digest, dicts, shadows)


def _content(path: Path, kind: Kind) -> Any:
    if kind == "npz":
        return load_npz(path, "weights")
    if kind == "torch":
        return read_torch(path, "weights")
    if kind == "index":
        raise InputError(f"weights: {path.name} is an index in an index")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (safetensors.SafetensorError, OSError) as error:
        raise InputError(f"weights: {path.name} is truncated or damaged, or no safetensors file ({error})") from error


# What kind of file?


def _kind(path: Path) -> Kind:
    """The kind of a file by its content; InputError, with what it is, for one that holds no weights."""
    try:
        if path.is_dir():
            raise _folder(path)
        require_file(path, "weights")
        with path.open("rb") as file:
            start = file.read(512)
    except OSError as error:
        raise InputError(f"weights: cannot read {path} ({error.strerror})") from error
    if start[257:262] == b"ustar":
        raise InputError(f"weights: {path.name} is a tar archive; expected it unpacked, or saved anew by torch.save")
    if zipfile.is_zipfile(path):
        return _archive(path)
    if start[8:9] == b"{" and path.suffix != ".json":
        return "safetensors"
    if start.startswith(LEGACY):
        return "torch"
    if path.name.endswith(".index.json"):
        return "index"
    raise InputError(f"weights: {path.name} is {_what(path, start)}")


def _archive(path: Path) -> Kind:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile as error:
        raise InputError(f"weights: {path.name} is truncated or damaged ({error})") from error
    if any(name.endswith(".npy") for name in names):
        return "npz"
    if any(name.split("/")[-1] in ("data.pkl", "constants.pkl") for name in names):
        return "torch"
    first = names[0] if names else "nothing"
    raise InputError(f"weights: {path.name} is an archive without weights (it holds {first}); expected {ACCEPTED}")


def _what(path: Path, start: bytes) -> str:
    """What a file is that holds no weights."""
    if not start:
        return "empty"
    for beginning, what in BEGINNINGS.items():
        if start.startswith(beginning):
            return what
    if path.suffix in NAMES or ".data-0" in path.name:
        return NAMES.get(path.suffix, NAMES[".index"])
    if start[:2] in (b"PK", b"\x80\x02") and path.suffix != ".pkl":
        return f"truncated or damaged; expected {ACCEPTED}"
    if start[:1] == b"\x80":
        return "a plain pickle, which can run code and is not loaded; expected torch.save(model.state_dict(), FILE)"
    if _is_text(start):
        return f"a text; expected {ACCEPTED}"
    return f"truncated, damaged, or of an unknown kind; expected {ACCEPTED}"


def _is_text(start: bytes) -> bool:
    text = start.decode("utf-8", errors="ignore")  # the last character may be cut
    return len(text.encode()) > len(start) - 4 and all(c.isprintable() or c in "\t\n\r" for c in text)


def _folder(path: Path) -> InputError:
    names = sorted(file.name for file in path.iterdir()) if os.access(path, os.R_OK) else []
    if "model_index.json" in names:
        return InputError(f"weights: {path} is a folder of diffusers; expected --model diffusers:{path}")
    if any(name.endswith(".distcp") for name in names):
        what = NAMES[".distcp"].removeprefix("a part of ")
        return InputError(f"weights: {path} is {what}")
    if "saved_model.pb" in names or "checkpoint" in names:
        return InputError(f"weights: {path} is a TensorFlow model; expected PyTorch's weights")
    endings = (".index.json", ".safetensors", ".pt", ".pth", ".ckpt", ".bin", ".npz")
    within = [name for end in endings for name in names if name.endswith(end)]
    has = f", such as {path / within[0]}" if within else ""
    return InputError(f"weights: expected a file{has}, got the folder {path}")


def _parts(path: Path) -> list[Path]:
    """The files of an index, which must lie beside it."""
    try:
        named = json.loads(path.read_text(encoding="utf-8"))["weight_map"].values()
        files = [path.parent / name for name in dict.fromkeys(named) if Path(name).name == name]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"weights: {path.name} is no index of weights; expected a weight_map in it") from error
    if not files or len(files) != len(set(named)):
        raise InputError(f"weights: {path.name} names no files, or files that do not lie beside it")
    return files


def _state(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def _digest(files: list[Path]) -> str:
    whole = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                whole.update(block)
    return whole.hexdigest()


# Where are the weights in it?


def _collect(
    found: Any, keys: tuple[str, ...], dicts: dict[str, Tensors], shadows: dict[str, list[Tensor]], seen: int = 0
) -> int:
    """Find dictionaries and lists of tensors; `seen` and the number of entries, which ends the search beyond MOST.

    A pickle can give its dictionaries and tensors attributes, which would be found in place of methods: those called
    here are the types' own, and their results have none.
    """
    if not isinstance(found, dict) or len(keys) > DEEPEST or _is_optimizer(found):
        return seen
    seen += 1 + len(found)
    if seen > MOST:
        return seen
    named = [(name, value) for name, value in dict.items(found) if isinstance(name, str)]
    if tensors := {name: Tensor.detach(value) for name, value in named if _is_tensor(value)}:
        dicts[".".join(keys)] = tensors
    for name, value in named:
        if isinstance(value, dict):
            seen = _collect(value, (*keys, name), dicts, shadows, seen)
        elif isinstance(value, list | tuple):
            seen = _collect_list(value, (*keys, name), dicts, shadows, seen)
    return seen


def _collect_list(
    found: list[Any] | tuple[Any, ...],
    keys: tuple[str, ...],
    dicts: dict[str, Tensors],
    shadows: dict[str, list[Tensor]],
    seen: int,
) -> int:
    """Averages without names, or one dictionary for each rate of averaging."""
    seen += len(found)
    if seen > MOST or not found:
        return seen
    if all(map(_is_tensor, found)):
        if keys[-1] == SHADOW or AVERAGED.search(keys[-1]):
            shadows[".".join(keys)] = [Tensor.detach(each) for each in found]
    elif all(isinstance(each, dict) for each in found):
        for place, each in enumerate(found):
            seen = _collect(each, (*keys, str(place)), dicts, shadows, seen)
    return seen


def _is_optimizer(found: dict[Any, Any]) -> bool:
    return "param_groups" in found and "state" in found


def _is_tensor(value: object) -> bool:
    return isinstance(value, Tensor)


def _without_weights(path: Path, found: Any) -> InputError:
    """Why a file that could be read has no weights."""
    save = "torch.save(model.state_dict(), 'weights.pt')"
    if isinstance(found, Unbuilt):
        return InputError(
            f"weights: {path.name} is a whole pickled model ({found.name}), and loading it would run code; expected "
            f"its weights alone: {save} where it was made"
        )
    if isinstance(found, dict) and _is_optimizer(found):
        return InputError(f"weights: {path.name} holds the state of an optimizer, not of a network; expected {save}")
    if isinstance(found, dict) and _has_arrays(found):
        return InputError(
            f"weights: {path.name} holds arrays of NumPy, no tensors; expected np.savez('weights.npz', **arrays) where "
            f"it was made, or {save}"
        )
    if isinstance(found, dict):
        has = ", ".join(f"{key}: {_said(value)}" for key, value in list(dict.items(found))[:5]) or "nothing"
        return InputError(f"weights: {path.name} holds no dictionary of tensors (it has {has}); expected {save}")
    return InputError(f"weights: {path.name} holds a {type(found).__name__}, no dictionary of tensors; expected {save}")


def _has_arrays(found: dict[Any, Any]) -> bool:
    values = [*dict.values(found)]
    values += [value for within in values if isinstance(within, dict) for value in dict.values(within)]
    return any(isinstance(value, Unbuilt) and value.name.endswith("multiarray._reconstruct") for value in values)


def _said(value: object) -> str:
    """A value in one word."""
    if isinstance(value, Unbuilt):
        return f"a pickled {value.name}"
    return "the state of an optimizer" if isinstance(value, dict) and _is_optimizer(value) else type(value).__name__
