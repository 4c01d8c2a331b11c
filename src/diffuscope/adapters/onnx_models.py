"""ONNX files, by onnxruntime (https://onnxruntime.ai), as denoisers: `onnx:FILE?schedule=ve&predicts=data`.

A file has named inputs but does not say what they mean. `schedule` is that of its training: ve (the time is sigma),
ddpm (the time is the index of 1,000 linear steps), vp or flow (the time is t, times `time_scale`); in Python any
schedule with any clock. `predicts` is data, noise, v or velocity. The input of rank 2 or more is x, if there is but
one, and the time is the other one, if there is but one; else `x=NAME` and `time=NAME` say it. Inputs besides are
constants, `difficulty=0.5`, except for the classes of `labels=NAME&classes=10`.

A consistency model or a distilled generator is declared by `one_step=true`: its samples are audited, and it is not
asked as a denoiser of the states in between.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diffuscope.denoisers import (
    Batch,
    Classes,
    Clock,
    DataPredictor,
    NoisePredictor,
    ScheduleTime,
    VelocityPredictor,
    VPredictor,
    clock_of,
)
from diffuscope.errors import InputError
from diffuscope.files import require_file
from diffuscope.schedules import VE, VP, DiscreteVP, RectifiedFlow, Schedule

from .libraries import Options, library
from .model_inputs import USUAL_RANGE, ClassRows, Range, Shape, described, refusal, require_shape, settings_of

PREDICTS = {"data": DataPredictor, "noise": NoisePredictor, "v": VPredictor, "velocity": VelocityPredictor}
DTYPES = {
    "tensor(float16)": np.float16,
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
}


def load(name: str, options: Options) -> Any:
    """The denoiser of the file `name`; `options` are those of `from_onnx` and the constants of its other inputs."""
    session = _session(Path(name))
    inputs = frozenset(entry.name for entry in session.get_inputs())
    settings = settings_of(from_onnx, options, f"onnx:{Path(name).name}", inputs | {"sigma_min", "sigma_max"})
    settings["constants"] = {key: settings.pop(key) for key in inputs & settings.keys() - {"x", "time", "labels"}}
    low, high = settings.pop("sigma_min", 0.002), settings.pop("sigma_max", 80.0)
    kinds = {"ve": VE(float(low), float(high)), "ddpm": DiscreteVP.linear(), "vp": VP(), "flow": RectifiedFlow()}
    schedule = kinds.get(str(settings.pop("schedule", None)))
    if schedule is None:
        given = f"schedule={options['schedule']}" if "schedule" in options else "no schedule"
        raise InputError(
            f"model: an ONNX file does not state its training; expected schedule=ve, ddpm, vp or flow, got {given}"
        )
    return from_onnx(session, schedule=schedule, **settings)


def from_onnx(
    model: Any,
    *,
    schedule: Schedule | None = None,
    predicts: str | None = None,
    x: str | None = None,
    time: str | None = None,
    output: str | None = None,
    constants: Mapping[str, Any] | None = None,
    labels: str | None = None,
    classes: int = 0,
    null_class: int | None = None,
    clock: Clock | None = None,
    time_scale: float | int = 1.0,
    event_shape: Shape = None,
    data_range: Range = None,
    one_step: bool = False,
) -> Any:
    """The denoiser of an ONNX file, or of an onnxruntime session; the options are those at the top of this file.

    `classes` counts the rows of the table behind the input `labels`; `null_class` is the row that means none. Raises
    InputError for a file that cannot be read, and for inputs that are missing, unknown or without a value.

    >>> import torch
    >>> from diffuscope import VE
    >>> from diffuscope.adapters import from_onnx
    >>> from types import SimpleNamespace
    >>> def entry(name, *shape):
    ...     return SimpleNamespace(name=name, shape=shape, type="tensor(float)")
    >>> session = SimpleNamespace(  # what is read of one of onnxruntime
    ...     get_inputs=lambda: [entry("x", "n", 2), entry("sigma", "n")], get_outputs=lambda: [entry("d", "n", 2)],
    ...     run=lambda outputs, feeds: [feeds["x"] / (1 + feeds["sigma"][:, None] ** 2)],
    ... )
    >>> from_onnx(session, schedule=VE(), predicts="data")(torch.tensor([[5.0, 10.0]]), 2.0).tolist()
    [[1.0, 2.0]]
    """
    session = _session(Path(model)) if isinstance(model, str | Path) else model
    if not isinstance(schedule, Schedule) or predicts not in PREDICTS:
        raise InputError(
            "model: an ONNX file does not state its training; expected a schedule and predicts=data, noise, v or "
            f"velocity, got {'no schedule' if schedule is None else schedule} and "
            f"{'no predicts' if predicts is None else f'predicts={predicts}'}"
        )
    inputs = {entry.name: entry for entry in session.get_inputs()}
    network = OnnxNetwork(session, inputs, _roles(inputs, x, time, labels, constants or {}), output)
    network.rows = ClassRows(classes, null_class)
    network.classes = network.rows.classes
    if (labels is None) != (classes == 0):
        raise InputError(f"labels: expected labels=NAME with classes=NUMBER, got {labels} and {classes}")
    shape = require_shape(event_shape or network.event_shape, f"the input {network.x} of the file")
    if network.event_shape not in (None, shape):
        raise InputError(f"event_shape: expected {network.event_shape}, as the input {network.x} has, got {shape}")
    if clock is None:
        clock = clock_of(schedule) if time_scale == 1 else ScheduleTime(float(time_scale))
    made: Any = PREDICTS[predicts](
        network, schedule, event_shape=shape, data_range=data_range or USUAL_RANGE, clock=clock
    )
    made.one_step = bool(one_step)
    return described(made, network, data_range)


class OnnxNetwork:
    """A session as our networks are: (x, time), or (x, time, classes), to a tensor."""

    def __init__(self, session: Any, inputs: dict[str, Any], roles: dict[str, Any], output: str | None) -> None:
        self._session, self._inputs = session, inputs
        self.x, self.time, self.labels, self.constants = (roles[key] for key in ("x", "time", "labels", "constants"))
        self.rows, self.classes = ClassRows(0), 0
        outputs = [entry.name for entry in session.get_outputs()]
        if output is not None and output not in outputs:
            raise InputError(f"output: expected one of {', '.join(outputs)}, got {output}")
        self.output = output or outputs[0]

    @property
    def event_shape(self) -> Shape:
        """That of the input x; None where a size is open."""
        sizes = tuple(self._inputs[self.x].shape[1:])
        return sizes if sizes and all(isinstance(size, int) for size in sizes) else None

    def __call__(self, x: Batch, time: Tensor, y: Classes = None) -> Batch:
        given: dict[str, Any] = {self.x: x, self.time: time, **self.constants}
        if self.labels is not None:
            given[self.labels] = self.rows.of(y, len(x), x.device)
        size = self._inputs[self.x].shape[0]
        size = size if isinstance(size, int) else len(x)  # exported for a batch of one size
        parts = [self._run(given, len(x), first, size) for first in range(0, len(x), max(1, size))]
        return torch.cat(parts).to(x) if parts else x.clone()

    def _run(self, given: dict[str, Any], n: int, first: int, size: int) -> Tensor:
        """The output of samples first .. first + size - 1; a last part that is too short is filled up."""
        places = torch.arange(first, first + size).clamp(max=n - 1)
        feeds = {}
        for name, value in given.items():
            entry = self._inputs[name]
            rows = torch.as_tensor(value).detach().cpu()
            rows = rows[places] if rows.ndim and len(rows) == n else rows.expand(size)
            if len(entry.shape) == 0:
                rows = self._single(rows, name)
            elif name != self.x:
                fixed = entry.shape[0] if isinstance(entry.shape[0], int) else size
                rows = self._single(rows, name).expand(1) if fixed == 1 != size else rows
                rows = rows.reshape(-1, *[1] * (len(entry.shape) - 1))
            feeds[name] = rows.numpy().astype(DTYPES[entry.type])
        try:
            (out,) = self._session.run([self.output], feeds)
        except Exception as error:  # of a kind per cause
            raise refusal(error, "ONNX file", given[self.x]) from error
        return torch.from_numpy(np.asarray(out))[: n - first]

    @staticmethod
    def _single(rows: Tensor, name: str) -> Tensor:
        if not bool((rows == rows[0]).all()):
            raise InputError(f"t: the input {name} of this file takes one value for a whole batch, got several")
        return rows[0]


def _session(path: Path) -> Any:
    require_file(path, "model")
    runtime = library("onnxruntime", "onnxruntime", "model")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4  # what fails is raised
    try:
        return runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # of a kind per cause
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(f"model: {path.name} is no ONNX file that onnxruntime can run ({reason})") from error


def _roles(
    inputs: dict[str, Any], x: str | None, time: str | None, labels: str | None, constants: Mapping[str, Any]
) -> dict[str, Any]:
    """Which input is what. Raises InputError, naming those there are, where one is missing, unknown or left over."""
    has = f"the file has {', '.join(f'{name} {_shown(entry)}' for name, entry in inputs.items())}"
    for what, name in (("x", x), ("time", time), ("labels", labels), *((name, name) for name in constants)):
        if name is not None and name not in inputs:
            raise InputError(f"model: no input {name} for {what}; {has}")
    if unread := [name for name, entry in inputs.items() if entry.type not in DTYPES]:
        raise InputError(f"model: the input {unread[0]} is a {inputs[unread[0]].type}; expected numbers; {has}")
    left = [name for name in inputs if name not in (x, time, labels, *constants)]
    if x is None:
        arrays = [name for name in left if len(inputs[name].shape) >= 2]
        if len(arrays) != 1:
            raise InputError(f"model: expected x=NAME, the input of noised data; {has}")
        x = arrays[0]
        left.remove(x)
    if time is None:
        if len(left) != 1:
            raise InputError(f"model: expected time=NAME, the input of the time or noise level; {has}")
        time = left.pop()
    if left:
        raise InputError(f"model: the input {left[0]} has no value; expected {left[0]}=NUMBER; {has}")
    if bad := [name for name, value in constants.items() if isinstance(value, bool | str) or value is None]:
        raise InputError(f"model: expected a number for the input {bad[0]}, got {constants[bad[0]]}")
    return {"x": x, "time": time, "labels": labels, "constants": dict(constants)}


def _shown(entry: Any) -> str:
    return f"({', '.join(map(str, entry.shape))})"
