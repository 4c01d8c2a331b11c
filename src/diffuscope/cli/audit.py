"""Audit a model."""

import sys
from dataclasses import dataclass, field
from pathlib import Path

import tyro

from diffuscope.audit import AuditResult, Settings, Subject, audit_model
from diffuscope.data import NAMES, DataSet, load_samples
from diffuscope.denoisers import Denoiser, load_model
from diffuscope.errors import InputError
from diffuscope.training import train_denoiser

from .options import DataOptions, TrainOptions, require_folder


@dataclass(frozen=True)
class Audit:
    """Audit a diffusion model: what it learned, where its loss comes from, whether it memorized, how few steps.

    Without --model a small model is trained first. Writes report.html and audit.json to --out. Rerun the same command
    to resume an interrupted audit.
    """

    source: tyro.conf.OmitArgPrefixes[DataOptions] = field(default_factory=DataOptions)
    model: str | None = None
    """A .safetensors file that diffuscope wrote, or module:object; without it a small model is trained on the data."""
    samples: str | None = None
    """Generated samples to judge in place of the model's own: a .npy or .npz file, or a folder."""
    samples_range: tuple[float, float] | None = None
    """Lowest and highest possible value of --samples; needed for integers."""
    out: Path = Path("out/audit")
    """Folder for the report."""
    training: tyro.conf.OmitArgPrefixes[TrainOptions] = field(default_factory=TrainOptions)
    settings: tyro.conf.OmitArgPrefixes[Settings] = field(default_factory=Settings)

    def run(self) -> None:
        """Train if needed, audit, write."""
        require_folder(self.out)
        data = self.source.load(self.settings.seed)
        notes = [data.provenance]
        if self.model is None:
            print(f"No --model given: training a small one on {data.name}.")
            data = data.in_range(-1.0, 1.0)
            denoiser = train_denoiser(
                data,
                steps=self.training.train_steps,
                batch_size=self.training.batch_size,
                seed=self.settings.seed,
                out=self.out,
            )
            name = f"a small model trained on {data.name}"
        else:
            denoiser, name = load_model(self.model), Path(self.model).name
            low, high = model_range(denoiser, data)
            data = data.in_range(low, high)
            if self.source.heldout is None and self.source.data not in NAMES:
                warning = (
                    "the held-out data are a random part of --data: if the model was trained on all of it, "
                    "it has seen them; give --heldout"
                )
                print(f"Warning: {warning}.", file=sys.stderr)
                notes.append(warning)
        if data.shared:
            notes.append(f"{data.shared} held-out examples are also training examples, bit for bit")
        if data.duplicates:
            notes.append(f"{data.duplicates} training examples are exact duplicates of others")
        require_shape(denoiser, data)
        samples = None if self.samples is None else load_samples(self.samples, self.samples_range, like=data)
        subject = Subject(
            denoiser,
            data.train,
            data.heldout,
            name,
            data.name,
            tuple(notes),
            train_labels=data.train_labels,
            heldout_labels=data.heldout_labels,
        )
        result = audit_model(subject, self.settings, out=self.out, samples=samples, progress=True)
        report = result.save(self.out)
        print_verdicts(result)
        print(f"Report: {report}")


def model_range(denoiser: Denoiser, data: DataSet) -> tuple[float, float]:
    """The range of values that the model was trained on; the data's own where the model does not say."""
    low, high = getattr(denoiser, "data_range", data.data_range)
    return float(low), float(high)


def require_shape(denoiser: Denoiser, data: DataSet) -> None:
    """Model and data must be about examples of one shape."""
    shape = getattr(denoiser, "event_shape", data.event_shape)
    if tuple(shape) != tuple(data.event_shape):
        raise InputError(
            f"model: it was trained on examples of shape {tuple(shape)}, and {data.name} has {tuple(data.event_shape)}"
        )


def print_verdicts(result: AuditResult) -> None:
    """The first screen of the report, in the terminal."""
    for finding in result.verdicts:
        print(f"- {finding.title}: {finding.verdict}")
