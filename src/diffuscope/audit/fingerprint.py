"""What the stored stages of an audit depend on: code, settings, data, and the model.

A model is known by its parameters and buffers, those of every module that its attributes, its closure and the globals
of its functions lead to, and by its answers at every time of the audit's trajectories: another wrapper around the same
weights is another model. A model that answers differently each time is a new one each time.
"""

import hashlib
import inspect
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from types import FunctionType, MethodType

import torch
from jaxtyping import Shaped
from torch import Tensor

from diffuscope import streams
from diffuscope.byte_examples import ByteExamples
from diffuscope.denoisers import tensors_within
from diffuscope.source import source_fingerprint

from .generation import refined
from .own_sampler import sampler_digest
from .subject import Settings, Subject, evaluate, noise_levels

UNSTORED = ("features", "transformations", "examples", "references", "false_discovery", "significance", "diagnostics",
            "delta")  # fmt: skip
PROBES = 4
CODE = Path(__file__).parent / "questions" / "__init__.py"


def fingerprint(subject: Subject, settings: Settings, given: Tensor | None) -> dict[str, object]:
    """What the stored stages depend on, as plain values.

    Settings that change no call of the model (UNSTORED) are left out, so that they can be changed in a finished audit.
    """
    shared: dict[str, object] = {
        "code": source_fingerprint(CODE),
        "settings": {name: value for name, value in asdict(settings).items() if name not in UNSTORED},
        "train": digest(subject.train),
        "heldout": digest(subject.heldout),
        "samples": None if given is None else digest(given),
        "sampler": sampler_digest(settings.sampler) if settings.sampler else None,
        "class": None if subject.of_class is None else subject.of_class.label,
    }
    return shared | _model(subject, settings) if subject.has_model else shared


def _model(subject: Subject, settings: Settings) -> dict[str, object]:
    return {
        "schedule": repr(subject.denoiser.schedule),
        "weights": digest(*tensors_within(subject.denoiser)),
        "answers": digest(*_answers(subject, settings)),
        "sampled": None
        if subject.sampled is None
        else digest(*tensors_within(subject.sampled), *_answers(replace(subject, denoiser=subject.sampled), settings)),
    }


def digest(*tensors: Shaped[Tensor, "..."]) -> str:
    """SHA-256 of the dtypes, shapes and values of tensors; of those held as bytes, of these and what they stand for."""
    whole = hashlib.sha256()
    for x in tensors:
        whole.update(f"{x.dtype} {tuple(x.shape)}".encode())
        if isinstance(x, ByteExamples):
            whole.update(b"bytes" + x.values.cpu().numpy().tobytes())
            for part in x.byte_parts():
                whole.update(part.cpu().contiguous().reshape(-1).numpy().data)
        else:
            whole.update(x.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return whole.hexdigest()


def object_digest(name: str, found: object) -> str:
    """What identifies an object of the user's: its name, the files of its module and of its kind, and its tensors."""
    kind = found if isinstance(found, FunctionType | MethodType) else type(found)
    whole = hashlib.sha256(name.encode())
    for part in (sys.modules.get(name.partition(":")[0]), kind):
        try:
            whole.update(Path(inspect.getsourcefile(part) or "").read_bytes())  # pyright: ignore[reportArgumentType]
        except (OSError, TypeError):  # of a builtin, or typed at a prompt
            whole.update(repr(part).encode())
    whole.update(digest(*tensors_within(found)).encode())
    return whole.hexdigest()


def _answers(subject: Subject, settings: Settings) -> Iterator[Tensor]:
    """The model's answers for the same clean examples and noise at every time of the audit."""
    denoiser, clean = subject.denoiser, subject.train[:PROBES]
    schedule = denoiser.schedule
    noise = torch.randn(clean.shape, generator=streams.torch_stream(0, "audit", "probe"))
    for t in refined(denoiser, noise_levels(denoiser, subject.scale, settings.levels)).tolist():
        yield evaluate(denoiser, float(schedule.alpha(t)) * clean + float(schedule.sigma(t)) * noise, t)
