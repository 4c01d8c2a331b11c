r"""Checkpoints of a training run: one safetensors file that holds its whole state, replaced atomically.

Tensors: `weights/*`, `buffers/*`, `average/*`, `adam/*` (both moments and the step count of every parameter),
`generator` (its state, uint8) and `permutation`. JSON in the header: what the run is (settings, schedule, a hash of
the data), where it stands, and a SHA-256 of it all, which is verified on reading. A new file is written beside the old
one, flushed to the disk and moved over it, so at every moment the path holds one whole checkpoint, the old or the new
one. Only the same run can resume from it, in any number of processes: all read the file, process 0 writes it.
"""

import hashlib
import json
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from diffuscope.byte_examples import float_parts
from diffuscope.distributed import rank
from diffuscope.errors import InputError
from diffuscope.files import replace_atomically

from .run import TrainingRun

FORMAT = "diffuscope training checkpoint 1"
BEFORE = {"objective": "Denoising", "class_dropout": 0.1, "precision": "float32", "compiled": False}
"""The values that older checkpoints do not record."""
MEASURED = ("loss", "smoothed_loss", "gradient_norm")


class RunCheckpoint:
    """The checkpoint file of one run: `save` writes its state, `restore` reads it into a new run.

    The constructor hashes the data once (about a second per gigabyte).
    """

    def __init__(self, path: Path, run: TrainingRun) -> None:
        if path.is_dir() or not path.parent.is_dir():
            raise InputError(f"checkpoint: expected a file in an existing folder, got {path}")
        self.path = path
        self.run = run
        self.saved_step: int | None = None
        # through JSON once, so that it compares equal to what is read back
        self._identity: dict[str, Any] = json.loads(json.dumps(identity(run)))

    def save(self) -> None:
        """Write the run's state. Raises InputError if the disk refuses it; the old checkpoint is then intact."""
        run = self.run
        if self.saved_step == run.step or rank() > 0:
            return
        standing = {"step": run.step, "position": run.batches.position}
        standing |= {name: getattr(run, name) for name in MEASURED}
        header = {"format": FORMAT, "run": json.dumps(self._identity), "standing": json.dumps(standing)}
        # copies, as safetensors refuses tensors that share memory
        tensors = {name: tensor.cpu().clone().contiguous() for name, tensor in _tensors(run).items()}
        header["sha256"] = _checksum(header, tensors)
        try:
            replace_atomically(self.path, safetensors.torch.save(tensors, header))
        except OSError as error:
            kept = "" if self.saved_step is None else f"; the checkpoint of step {self.saved_step} is intact"
            raise InputError(f"checkpoint: cannot write {self.path}: {error.strerror or error}{kept}") from error
        self.saved_step = run.step

    def restore(self) -> None:
        """Read the state of the run from the file.

        Raises InputError for a file that is damaged or no training checkpoint, and for one of a run with other
        settings, another schedule, other data or another network; the run is then unchanged.
        """
        header, stored = _read(self.path)
        if header.get("format") != FORMAT:
            raise InputError(f"checkpoint: {self.path} is not a training checkpoint of this version; expected {FORMAT}")
        if "sha256" in header and header.pop("sha256") != _checksum(header, stored):  # older ones have none
            raise _damaged(self.path, "its content does not match its checksum")
        _require_same_run(self.path, BEFORE | json.loads(header["run"]), self._identity)
        self._require_same_tensors(stored)
        _restore_tensors(self.run, stored)
        standing = json.loads(header["standing"])
        self.run.step = self.saved_step = standing["step"]
        self.run.batches.position = standing["position"]
        for name in MEASURED:
            setattr(self.run, name, standing[name])

    def _require_same_tensors(self, stored: dict[str, Tensor]) -> None:
        expected = _shapes(_tensors(self.run))
        # Adam has no moments before its first step
        given = {name: shape for name, shape in _shapes(stored).items() if not name.startswith("adam/")}
        for name in sorted(expected.keys() | given.keys()):
            if not name.startswith("adam/") and expected.get(name) != given.get(name):
                raise InputError(
                    f"checkpoint: {self.path} was written for another network: {name} is {given.get(name, 'absent')} "
                    f"there, expected {expected.get(name, 'absent')}"
                )


def _tensors(run: TrainingRun) -> dict[str, Tensor]:
    """Every tensor of the run's state by its name in the file; the tensors themselves, not copies."""
    tensors: dict[str, Tensor] = {"generator": run.generator.get_state(), "permutation": run.batches.permutation}
    tensors |= {f"weights/{name}": parameter for name, parameter in run.denoiser.named_parameters()}
    tensors |= {f"buffers/{name}": buffer for name, buffer in run.denoiser.named_buffers()}
    tensors |= {f"average/{name}": average for name, average in run.average.items()}
    for name, parameter in run.parameters.items():
        tensors |= {f"adam/{key}/{name}": value for key, value in run.optimizer.state.get(parameter, {}).items()}
    return tensors


@torch.no_grad()
def _restore_tensors(run: TrainingRun, stored: dict[str, Tensor]) -> None:
    for name, tensor in _tensors(run).items():
        if not name.startswith(("adam/", "generator", "permutation")):
            tensor.copy_(stored[name])
    run.generator.set_state(stored["generator"].clone())
    run.batches.permutation = stored["permutation"].to(run.device, copy=True)
    run.optimizer.state.clear()
    for name, parameter in run.parameters.items():
        if f"adam/step/{name}" in stored:  # a parameter that never had a gradient has no moments
            run.optimizer.state[parameter] = {
                "step": stored[f"adam/step/{name}"].to(parameter.device, copy=True),
                # in the parameter's own memory layout, which the fused step takes for granted
                "exp_avg": torch.empty_like(parameter).copy_(stored[f"adam/exp_avg/{name}"]),
                "exp_avg_sq": torch.empty_like(parameter).copy_(stored[f"adam/exp_avg_sq/{name}"]),
            }


def _shapes(tensors: dict[str, Tensor]) -> dict[str, str]:
    return {name: f"{str(t.dtype).removeprefix('torch.')} {tuple(t.shape)}" for name, t in tensors.items()}


def _read(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (safetensors.SafetensorError, OSError) as error:
        raise _damaged(path, "it is cut off or not a safetensors file") from error


def _damaged(path: Path, how: str) -> InputError:
    return InputError(f"checkpoint: {path} is damaged, {how}; delete this file to train from the start")


def _checksum(header: dict[str, str], tensors: dict[str, Tensor]) -> str:
    """SHA-256 of header and tensors, independent of their order in the file."""
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for name, shape in sorted(_shapes(tensors).items()):
        digest.update(f"{name} {shape}".encode())
        digest.update(tensors[name].reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def identity(run: TrainingRun) -> dict[str, Any]:
    """What must agree for a run to be resumed, as a flat mapping from dotted names to plain values."""
    return {
        **_flat("", run.settings),
        **_flat("schedule", run.denoiser.schedule),
        "data.shape": list(run.data.shape),
        "data.dtype": str(run.data.dtype).removeprefix("torch."),
        "data.sha256": _sha256(run.data),
        **({} if run.labels is None else {"labels.sha256": _sha256(run.labels)}),
    }


def _flat(name: str, value: object) -> dict[str, Any]:
    prefix = f"{name}." if name else ""
    if not is_dataclass(value):
        return {name: value if isinstance(value, (bool, int, float, str, list, tuple)) else type(value).__qualname__}
    record: dict[str, Any] = {name: type(value).__name__} if name else {}
    for field in fields(value):
        record |= _flat(prefix + field.name, getattr(value, field.name))
    return record


def _sha256(data: Tensor) -> str:
    digest = hashlib.sha256()
    for part in float_parts(data) if data.is_floating_point() else (data,):
        digest.update(part.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _require_same_run(path: Path, written: dict[str, Any], expected: dict[str, Any]) -> None:
    for name in [*expected, *(written.keys() - expected.keys())]:
        then, now = written.get(name, "absent"), expected.get(name, "absent")
        if then != now:
            raise InputError(
                f"checkpoint: {path} was written with {name} = {_short(then)}, this run has {_short(now)}; "
                "expected the same, or another checkpoint"
            )


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 40 else text[:37] + "..."
