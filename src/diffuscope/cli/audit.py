"""Audit a model."""

import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import tyro
from torch import Tensor, nn

from diffuscope import streams
from diffuscope.audit import AuditResult, Settings, Subject, audit_model, audit_samples
from diffuscope.audit.epsilon import require_delta
from diffuscope.audit.features import user_object
from diffuscope.audit.latents import Latents, encode_data, load_encoder
from diffuscope.audit.model_card import command_line
from diffuscope.audit.subject import require_examples, require_samples
from diffuscope.audit.verdict import Word
from diffuscope.data import NAMES, DataSet, load_canaries, load_owners, read_samples
from diffuscope.denoisers import Denoiser, load_denoiser, on_device
from diffuscope.distributed import of_process_0, process_group, sharing
from diffuscope.errors import InputError
from diffuscope.training import train_denoiser

from .classes import audit_by_class, check_classes, notes_on_classes
from .invocation import typed
from .options import DataOptions, DeviceOptions, TrainOptions, require_range, writing
from .second_model import load_second, second_model
from .weights import WeightsOptions, model_name, weights_notes

MOST_SAMPLES = 20_000  # of more, so many at random are audited


@dataclass(frozen=True)
class Audit:
    """Audit a diffusion model, or samples alone: memorization, what it learned, quality, diversity, number of steps.

    With --samples and no --model, the samples of any generator are audited. With neither, a small model is trained
    first. Writes report.html, audit.json and model-card.md to --out. Rerun the same command to resume an interrupted
    audit.

    Example:
        >>> import numpy as np
        >>> from diffuscope.cli import main
        >>> x = np.random.default_rng(0).normal(size=(100, 2))
        >>> for name, rows in {"train": x[:60], "heldout": x[60:], "samples": x[:30]}.items():
        ...     np.save(f"{name}.npy", rows)
        >>> main("audit --data train.npy --heldout heldout.npy --samples samples.npy".split())
        Copies training examples: 100.0% of its samples are copies ...
        ...
        Report: out/audit/report.html
    """

    source: tyro.conf.OmitArgPrefixes[DataOptions] = field(default_factory=DataOptions)
    model: str | None = None
    """A .safetensors file written by diffuscope, module:object, or a model of another library: diffusers:FOLDER,
    onnx:FILE, edm:, k_diffusion: or azula:module:object, with ?option=value. By default none if there are --samples;
    otherwise a small model is trained on the data."""
    network: tyro.conf.OmitArgPrefixes[WeightsOptions] = field(default_factory=WeightsOptions)
    samples: str | None = None
    """Generated samples, in the same forms as --data: audited in place of the model's own, or alone."""
    samples_range: tuple[float, float] | None = None
    """Lowest and highest possible value of --samples; needed for integers."""
    second_model: str | None = None
    """A model trained on other examples of the same distribution, in the same forms as --model: do the two agree?"""
    second_data: str | None = None
    """What --second-model was trained on, in the same forms and units as --data; by default unknown."""
    canaries: str | None = None
    """The canaries.npz of `diffuscope canaries`, part of which the model was trained on: bounds its epsilon."""
    owners: str | None = None
    """The owner of each example, for one p-value per owner: a .npz file with integers, train and heldout."""
    classes: tuple[str, ...] = ()
    """Class labels to audit one by one, each against the examples with that label, or all. By default the model is
    audited without a class, against all data."""
    guidance: float = 1.0
    """Classifier-free guidance scale of the audited samples, with --classes (1 = none)."""
    encode: str | None = None
    """Audit in the latent space of module:object, which has encode(x) and, for pictures, decode(z); or a function."""
    out: Path = Path("out/audit")
    """Folder for the report."""
    fail_on: tuple[Word, ...] = ()
    """Verdicts (broken, copies, cannot-tell, attention) that end the command with exit status 1, for CI."""
    training: tyro.conf.OmitArgPrefixes[TrainOptions] = field(default_factory=TrainOptions)
    settings: tyro.conf.OmitArgPrefixes[Settings] = field(default_factory=Settings)
    hardware: tyro.conf.OmitArgPrefixes[DeviceOptions] = field(default_factory=DeviceOptions)

    def run(self) -> None:
        """Check, train if needed, audit, write."""
        device = self.hardware.chosen()
        self.source.check()
        self.training.check()
        self.network.require(self.model, "--model")
        require_range("samples_range", self.samples_range)
        if self.samples is None and self.samples_range is not None:
            raise InputError("samples_range: expected with --samples only")
        for name in ("canaries", "owners", "second_model"):
            if self.model is None and self.samples is not None and getattr(self, name) is not None:
                raise InputError(f"{name}: expected with --model, whose loss it asks for; got --samples alone")
        if self.second_data is not None and self.second_model is None:
            raise InputError("second_data: expected with --second-model only")
        if self.second_data is not None and self.encode is not None:
            raise InputError("second_data: expected without --encode, as it would have to be encoded, too")
        alone = {name: getattr(self, name) for name in ("samples", "canaries", "second_model")}
        check_classes(self.classes, self.guidance, self.model, alone)
        for name in self.settings.features:
            if ":" in name:
                found = user_object(name)
                if isinstance(found, nn.Module):
                    on_device(found, device)
        if self.encode is not None:
            load_encoder(self.encode)
        with (
            writing(
                self.out, "report.html", "audit.json", "model-card.md", "training.safetensors", "model.safetensors"
            ),
            process_group(device) as own,
            sharing(),
        ):
            self._audit(own)

    def _audit(self, device: torch.device) -> None:
        denoiser = None if self.model is None else on_device(self.network.load(self.model), device)
        other = None if self.second_model is None else on_device(load_second(self.second_model), device)
        loaded = data = self.source.load(self.settings.seed)
        notes, latents = [*data.notes], None
        if self.encode is not None:
            latents = self._latents(data, notes)
            data = latents.data
        notes[:0] = [data.provenance, *(f"second model: {note}" for note in weights_notes(other))]
        if denoiser is not None:
            require_shape(denoiser, data)
            if self.encode is None:
                require_units(denoiser, data, self.model or "")
                data = data.in_range(*model_range(denoiser, data))
        elif self.samples is None:
            data = data.in_range(-1.0, 1.0)
        if denoiser is not None and not hasattr(denoiser, "data_range"):
            low, high = data.data_range
            warning = f"the model states no data_range, and is given the data in their own, {low:g} to {high:g}"
            notes.append(warned(warning))
        if denoiser is not None and not self.classes:
            notes += notes_on_classes(denoiser, data)
        for name, examples in (("data", data.train), ("heldout", data.heldout)):
            require_examples(name, examples)
        if latents is None:
            samples, originals = None if self.samples is None else self._samples(data, notes), None
        else:
            samples, originals = latents.in_range(data)
        asked = {**self._asked(data), "originals": originals}
        second = None
        if other is not None:
            name, units = model_name(self.second_model or ""), self.source.data_range
            second = second_model(other, name, self.second_data, units, loaded=loaded, used=data)
        if denoiser is None and samples is None:
            print(f"No --model given: training a small one on {data.name}.")
            denoiser = self._small_model(data, device)
        else:
            if data.split_at_random and self.source.data not in NAMES:
                whose = "the generator" if denoiser is None else "the model"
                notes.append(
                    warned(
                        f"the held-out data are a random part of --data; if {whose} was trained on all of it, pass "
                        "data that it was not trained on as --heldout"
                    )
                )
        if data.shared:
            notes.append(f"{data.shared} held-out examples are also training examples, bit for bit")
        if data.duplicates:
            notes.append(f"{data.duplicates} training examples are exact duplicates of others")
        if denoiser is None and samples is not None:
            name = Path(self.samples or "").name
            result = audit_samples(
                samples, data, self.settings, out=self.out, name=name, notes=tuple(notes), originals=originals,
                progress=True,
            )  # fmt: skip
        else:
            assert denoiser is not None
            name = f"a small model trained on {data.name}" if self.model is None else self.network.name(self.model)
            subject = Subject.of(denoiser, data, name, tuple(notes), **asked)
            if self.classes:
                audit_by_class(subject, self.classes, self.guidance, self.settings, self.out, self.fail_on)
                return
            result = audit_model(
                subject, self.settings, out=self.out, samples=samples, second_model=second, progress=True
            )
        if words := typed.get():
            result = replace(result, recipe=command_line(["diffuscope", *words]))
        of_process_0(lambda: write(result, self.out))
        if result.verdict.word in self.fail_on:
            sys.exit(1)

    def _small_model(self, data: DataSet, device: torch.device) -> Denoiser:
        """A small model trained on the data: by one process, the same whatever their number."""
        steps, batch_size, seed = self.training.train_steps, self.training.batch_size, self.settings.seed
        trained = of_process_0(
            lambda: train_denoiser(data, steps=steps, batch_size=batch_size, seed=seed, out=self.out, device=device)
        )
        return on_device(load_denoiser(self.out / "model.safetensors") if trained is None else trained, device)

    def _asked(self, data: DataSet) -> dict[str, Any]:
        """Canaries and owners."""
        canaries = None if self.canaries is None else load_canaries(self.canaries, like=data)
        if canaries is not None:
            require_delta(self.settings.delta, len(canaries))
        owners = (None, None) if self.owners is None else load_owners(self.owners, like=data)
        return {"train_owners": owners[0], "heldout_owners": owners[1], "canaries": canaries}

    def _latents(self, data: DataSet, notes: list[str]) -> Latents:
        """Data and samples, encoded."""
        for name, examples in (("data", data.train), ("heldout", data.heldout)):
            require_examples(name, examples)
        samples = None if self.samples is None else self._samples(data, notes)
        return encode_data(load_encoder(self.encode or ""), data, samples, self.out, progress=True)

    def _samples(self, data: DataSet, notes: list[str]) -> Tensor:
        """The samples in the range of the data; what is said of them goes to the notes."""
        read = read_samples(self.samples or "", self.samples_range, like=data)
        samples = read.values
        notes += read.notes
        require_samples(samples, like=data.train)
        if len(samples) > MOST_SAMPLES:
            order = streams.torch_stream(self.settings.seed, "samples")
            samples, count = samples[torch.randperm(len(samples), generator=order)[:MOST_SAMPLES]], len(samples)
            notes.append(f"{MOST_SAMPLES:,} of the {count:,} samples were drawn at random")
        return samples


def warned(warning: str) -> str:
    """The warning, printed, for the notes of the report."""
    print(f"Warning: {warning}.", file=sys.stderr)
    return warning


def model_range(denoiser: Denoiser, data: DataSet) -> tuple[float, float]:
    """The `data_range` of the model; that of the data if the model has none."""
    low, high = getattr(denoiser, "data_range", data.data_range)
    return float(low), float(high)


def require_units(denoiser: Denoiser, data: DataSet, model: str) -> None:
    """Raises InputError where nothing says how the data are mapped to the range that the model was trained on.

    `diffuscope train` maps the lowest and highest value found, as is done with the data of its files here.
    """
    (least, most), (low, high) = data.data_range, model_range(denoiser, data)
    if data.units_known or (least, most) == (low, high) or model.endswith(".safetensors"):
        return
    raise InputError(
        f"data_range: expected the values of {data.name} that are {low:g} and {high:g} to the model (its data_range), "
        f"as {data.name} states no range and has values in [{least:g}, {most:g}]; for data in the model's own units "
        f"--data-range {low:g} {high:g}"
    )


def require_shape(denoiser: Denoiser, data: DataSet) -> None:
    """Raises InputError if model and data have examples of different shapes."""
    shape = tuple(getattr(denoiser, "event_shape", data.event_shape))
    if shape != data.event_shape:
        raise InputError(f"data: expected examples of shape {shape}, the model's event_shape, got {data.event_shape}")


def write(result: AuditResult, out: Path) -> None:
    """Write the report and print its summary."""
    report = result.save(out)
    print(result.verdict)
    for finding in result.verdicts:
        print(f"- {finding.title}: {finding.verdict}")
    if result.unanswered:
        print(f"- {result.unanswered}")
    print(f"Report: {report}")
