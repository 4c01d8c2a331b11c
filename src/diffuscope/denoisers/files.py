r"""Denoisers as files: safetensors with a description of the network to which the tensors belong.

A file holds the parameters of the network and, as JSON in its header, the predictor, the network and its arguments,
the schedule, the clock, the event shape and the data range: names of the registries below and plain values, so that
loading a file runs no code from it. A file without such a description is refused: other models are given as
`module:object`, which builds the network, with their weights in a file (`load_weights`).
"""

import contextlib
import json
import zipfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from diffuscope.errors import InputError
from diffuscope.files import replace_atomically, require_file
from diffuscope.memory import require_memory
from diffuscope.schedules import (
    VE,
    VP,
    Cosine,
    DiscreteVP,
    GeometricVE,
    Karras,
    RectifiedFlow,
    Sigmoid,
    ZeroTerminalVP,
)

from .clocks import ScheduleTime, SignalTime, StepIndex
from .edm import Preconditioned
from .networks import MLP, UNet
from .predictors import DataPredictor, NoisePredictor, VelocityPredictor, VPredictor

SavedDenoiser = NoisePredictor | DataPredictor | VelocityPredictor | VPredictor | Preconditioned
"""The denoisers that can be saved."""

FORMAT = "diffuscope denoiser 1"
_SCHEDULES = (VE, GeometricVE, Karras, VP, DiscreteVP, ZeroTerminalVP, Cosine, Sigmoid, RectifiedFlow)
SCHEDULES = {kind.__name__: kind for kind in _SCHEDULES}
CLOCKS = {kind.__name__: kind for kind in (ScheduleTime, SignalTime, StepIndex)}
NETWORKS = {kind.__name__: kind for kind in (MLP, UNet)}
PREDICTORS = {kind.__name__: kind for kind in (NoisePredictor, DataPredictor, VelocityPredictor, VPredictor)}

PICKLE_SUFFIXES = {".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".bin", ".joblib"}


def save_denoiser(denoiser: SavedDenoiser, path: str | Path) -> None:
    """Write `denoiser` to `path` atomically: at every moment the path holds the old file or the new one.

    Raises InputError for a network, schedule or clock outside this library's, and if the file cannot be written.

    >>> import tempfile
    >>> from diffuscope import VP
    >>> from diffuscope.denoisers import MLP, NoisePredictor, load_denoiser, save_denoiser
    >>> model = NoisePredictor(MLP((2,), width=4, depth=1), VP(beta_max=9.0), event_shape=(2,), data_range=(-1.0, 1.0))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_denoiser(model, f"{folder}/model.safetensors")
    ...     load_denoiser(f"{folder}/model.safetensors").schedule == model.schedule
    True
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise InputError(f"path: expected a name ending in .safetensors, got {path.name}")
    description = json.dumps(_description(denoiser))
    network = cast(nn.Module, denoiser.network)
    # copies, as safetensors refuses tensors that share memory
    tensors = {name: value.cpu().clone().contiguous() for name, value in network.state_dict().items()}
    try:
        replace_atomically(path, safetensors.torch.save(tensors, {"format": FORMAT, "denoiser": description}))
    except OSError as error:
        raise InputError(f"path: cannot write {path}: {error.strerror or error}") from error


def load_denoiser(path: str | Path) -> SavedDenoiser:
    """The denoiser of a `.safetensors` file that `save_denoiser` wrote, on the CPU, in evaluation mode.

    Raises InputError for a missing, truncated or unreadable file, for a pickle under any name, for a file without a
    description of its network, and for parameters whose names or shapes do not fit that network.

    >>> import tempfile, torch
    >>> from diffuscope import VE
    >>> from diffuscope.denoisers import MLP, Preconditioned, load_denoiser, save_denoiser
    >>> model = Preconditioned(MLP((1,), width=4), VE(), 3.0, event_shape=(1,), data_range=(-9.0, 9.0))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_denoiser(model, f"{folder}/model.safetensors")
    ...     loaded = load_denoiser(f"{folder}/model.safetensors")
    >>> round(loaded(torch.tensor([[25.0]]), 4.0).item(), 4)  # untrained, F = 0: 9 x / (9 + 16)
    9.0
    """
    path = Path(path)
    require_file(path, "model")
    _refuse_pickle(path)
    if path.suffix == ".npz":
        raise _undescribed(path)
    if path.suffix != ".safetensors":
        raise InputError(f"model: expected a .safetensors file or module:object, got {path.name}")
    header, tensors = _safetensors(path)
    if header.get("format") != FORMAT:
        raise _undescribed(path)
    return _rebuilt(header.get("denoiser", ""), tensors, path)


# Saving: a denoiser as plain values.


def _description(denoiser: SavedDenoiser) -> dict[str, Any]:
    network, schedule = denoiser.network, denoiser.schedule
    common = {
        "predictor": type(denoiser).__name__,
        "network": _named(network, NETWORKS, "network", getattr(network, "arguments", None)),
        "schedule": _named(schedule, SCHEDULES, "schedule", asdict(schedule)),
        "event_shape": list(denoiser.event_shape),
        "data_range": list(denoiser.data_range),
    }
    if isinstance(denoiser, Preconditioned):
        if denoiser.labels is not None:
            raise InputError("denoiser: a file can hold EDM preconditioning with its own label only, got another clock")
        return common | {"sigma_data": denoiser.sigma_data, "data_mean": denoiser.data_mean}
    clock = cast(Any, denoiser.clock)
    return common | {"clock": _named(clock, CLOCKS, "clock", getattr(clock, "__dict__", None))}


def _named(value: object, registry: dict[str, Any], what: str, arguments: object) -> dict[str, Any]:
    name = type(value).__name__
    if registry.get(name) is not type(value):
        raise InputError(f"denoiser: its {what} is a {name}; a file can hold {', '.join(registry)}")
    return {"name": name, "arguments": arguments}


# Loading: from names and plain values to objects.


def _rebuilt(text: str, tensors: dict[str, Tensor], path: Path) -> SavedDenoiser:
    try:
        description = json.loads(text)
        # on the meta device nothing is computed and no random number is drawn; the tensors of the file follow below
        with torch.device("meta"):
            network = _made(description["network"], NETWORKS)
        arguments: dict[str, Any] = {
            "event_shape": tuple(description["event_shape"]),
            "data_range": tuple(description["data_range"]),
        }
        schedule = _made(description["schedule"], SCHEDULES)
        kind = description["predictor"]
        if kind == Preconditioned.__name__:
            arguments |= {"sigma_data": description["sigma_data"], "data_mean": description["data_mean"]}
            make: Callable[..., SavedDenoiser] = Preconditioned
        else:
            arguments["clock"] = _made(description["clock"], CLOCKS)
            make = PREDICTORS[kind]
    except (KeyError, TypeError, ValueError) as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise InputError(f"model: {path.name} describes no denoiser that this version knows ({reason})") from error
    _require_state(network, tensors, path)
    network.load_state_dict(tensors, assign=True)
    return make(network, schedule, **arguments).eval()


def _made(named: dict[str, Any], registry: dict[str, Any]) -> Any:
    arguments = named["arguments"].items()  # JSON has lists only, where we have tuples
    return registry[named["name"]](**{name: tuple(v) if isinstance(v, list) else v for name, v in arguments})


def _undescribed(path: Path) -> InputError:
    return InputError(
        f"model: {path.name} holds arrays without a description of their network; expected a .safetensors file that "
        f"diffuscope wrote, or module:object, which builds the network, with --weights {path.name} (docs/weights.md)"
    )


def _require_state(network: nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    expected = network.state_dict()
    if expected.keys() != tensors.keys():
        odd = sorted(expected.keys() ^ tensors.keys())[0]
        raise InputError(f"model: {path.name} {'lacks' if odd in expected else 'has an unexpected'} array {odd!r}")
    for name, value in expected.items():
        if value.shape != tensors[name].shape:
            raise InputError(
                f"model: {path.name}: {name} expected shape {tuple(value.shape)}, got {tuple(tensors[name].shape)}"
            )
        if value.is_floating_point() != tensors[name].is_floating_point():
            raise InputError(
                f"model: {path.name}: {name} expected numbers like {value.dtype}, got {tensors[name].dtype}"
            )


# Reading untrusted bytes.


def _refuse_pickle(path: Path) -> None:
    with path.open("rb") as file:
        start = file.read(2)
    pickled = path.suffix.lower() in PICKLE_SUFFIXES or (start[:1] == b"\x80" and start[1:] in b"\x02\x03\x04\x05")
    if not pickled and zipfile.is_zipfile(path):
        # a torch file is a zip with a pickle inside, whatever its name
        with contextlib.suppress(zipfile.BadZipFile), zipfile.ZipFile(path) as archive:
            pickled = any(name.endswith(".pkl") for name in archive.namelist())
    if pickled:
        raise InputError(
            f"model: {path.name} is a pickle of weights, which do not say what network they belong to; expected "
            f"--model module:object, which builds it, with --weights {path.name} (docs/weights.md)"
        )


def load_npz(path: Path, argument: str) -> dict[str, Tensor]:
    """The arrays of a NumPy archive. Raises InputError, naming `argument`, for other files and other contents.

    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from diffuscope.denoisers import load_npz
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.savez(f"{folder}/arrays.npz", weight=np.array([[1.5, -2.0]]), count=np.array([7]))
    ...     load_npz(Path(folder, "arrays.npz"), "weights")
    {'weight': tensor([[ 1.5000, -2.0000]], dtype=torch.float64), 'count': tensor([7])}
    """
    require_file(path, argument)
    if not zipfile.is_zipfile(path):
        raise InputError(f"{argument}: {path.name} is truncated or no .npz file")
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            size = sum(member.file_size for member in archive.zip.infolist())
            require_memory(size, argument, f"{path.name}, unpacked,")
            arrays = {name: archive[name] for name in archive.files}
    except InputError:
        raise
    except Exception as error:  # NumPy's parser of a damaged header raises many kinds
        if "allow_pickle" in str(error):
            raise InputError(
                f"{argument}: {path.name} holds Python objects, which are never loaded; keep arrays only"
            ) from error
        raise InputError(f"{argument}: {path.name} is truncated or no .npz file ({error})") from error
    for name, array in arrays.items():
        if array.dtype.kind not in "fiu" or array.dtype.itemsize > 8:
            raise InputError(f"{argument}: {path.name}: {name} expected an array of numbers, got {array.dtype}")
    native = {name: np.asarray(array, array.dtype.newbyteorder("="), order="C") for name, array in arrays.items()}
    return {name: torch.from_numpy(array) for name, array in native.items()}


def _safetensors(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (safetensors.SafetensorError, OSError) as error:
        raise InputError(f"model: {path.name} is truncated or no safetensors file ({error})") from error
