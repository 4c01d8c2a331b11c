"""What the stored stages of an audit depend on: code, settings, data, and the model.

A model is known by its parameters and buffers, those of every module that its attributes, its closure and the globals
of its functions lead to, and by its answers at every time of the audit's trajectories: another wrapper around the same
weights is another model. A model that answers differently each time is a new one each time.
"""

import hashlib
import inspect
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from types import FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from jaxtyping import Shaped
from torch import Tensor, nn

from diffuscope import streams
from diffuscope.source import source_fingerprint

from .generation import refined
from .own_sampler import sampler_digest
from .subject import Settings, Subject, evaluate, noise_levels

UNSTORED = ("features", "transformations", "examples", "references", "false_discovery", "significance", "diagnostics",
            "delta")  # fmt: skip
PROBES = 4
DEPTH = 8  # of attributes within attributes
CODE = Path(__file__).parent / "questions" / "__init__.py"


def fingerprint(subject: Subject, settings: Settings, given: Tensor | None) -> dict[str, object]:
    """What the stored stages depend on, as plain values.

    Settings that change no call of the model (UNSTORED) are left out, so that they can be changed in a finished audit.
    """
    return {
        "code": source_fingerprint(CODE),
        "settings": {name: value for name, value in asdict(settings).items() if name not in UNSTORED},
        "train": digest(subject.train),
        "heldout": digest(subject.heldout),
        "samples": None if given is None else digest(given),
        "model": _model(subject, settings) if subject.has_model else None,
        "sampler": sampler_digest(settings.sampler) if settings.sampler else None,
    }


def _model(subject: Subject, settings: Settings) -> dict[str, object]:
    return {
        "schedule": repr(subject.denoiser.schedule),
        "weights": digest(*tensors_within(subject.denoiser)),
        "answers": digest(*_answers(subject, settings)),
    }


def digest(*tensors: Shaped[Tensor, "..."]) -> str:
    """SHA-256 of the dtypes, shapes and values of tensors."""
    whole = hashlib.sha256()
    for x in tensors:
        whole.update(f"{x.dtype} {tuple(x.shape)}".encode())
        whole.update(x.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return whole.hexdigest()


def tensors_within(model: object) -> list[Tensor]:
    """Parameters, buffers, tensors and arrays of the modules and other objects that `model` consists of."""
    return list(_tensors(model, set(), DEPTH))


def _tensors(value: Any, seen: set[int], depth: int) -> Iterator[Tensor]:
    if id(value) in seen or depth < 0 or isinstance(value, ModuleType | type | str | bytes):
        return
    seen.add(id(value))
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, np.ndarray):
        if value.dtype.kind in "biufc":
            yield torch.from_numpy(np.ascontiguousarray(value))
    elif isinstance(value, nn.Module):
        yield from (*value.parameters(), *value.buffers())
    for part in _parts(value):
        yield from _tensors(part, seen, depth - 1)


def _parts(value: Any) -> list[Any]:
    """What an object consists of: items, attributes, and what a function closes over or names."""
    if isinstance(value, dict):
        return list(value.values())
    if isinstance(value, list | tuple | set | frozenset):
        return list(value)
    if isinstance(value, MethodType):
        return [value.__self__, value.__func__]
    if isinstance(value, partial):
        return [value.func, *value.args, *value.keywords.values()]
    parts = list(getattr(value, "__dict__", {}).values())
    slots = (name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ()))
    if isinstance(value, FunctionType):
        cells = inspect.getclosurevars(value)
        return [*parts, *cells.nonlocals.values(), *cells.globals.values()]
    return [*parts, *(getattr(value, name) for name in slots if hasattr(value, name))]


def _answers(subject: Subject, settings: Settings) -> Iterator[Tensor]:
    """The model's answers for the same clean examples and noise at every time of the audit."""
    denoiser, clean = subject.denoiser, subject.train[:PROBES]
    schedule = denoiser.schedule
    noise = torch.randn(clean.shape, generator=streams.torch_stream(0, "audit", "probe"))
    for t in refined(denoiser, noise_levels(denoiser, subject.scale, settings.levels)).tolist():
        yield evaluate(denoiser, float(schedule.alpha(t)) * clean + float(schedule.sigma(t)) * noise, t)
