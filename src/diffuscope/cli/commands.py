"""Audit, train, sample."""

import math
import os
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import tyro
from PIL import Image
from tqdm import tqdm

from diffuscope.audit import AuditResult, Settings, Subject, audit, grid
from diffuscope.data import NAMES, DataSet, load_data, load_samples
from diffuscope.denoisers import (
    ConditionalDenoiser,
    Denoiser,
    Guided,
    OfClass,
    classes_of,
    load_callable,
    load_denoiser,
    save_denoiser,
)
from diffuscope.errors import InputError
from diffuscope.files import save_arrays
from diffuscope.samplers import (
    DDIM,
    DDPM,
    DPMSolverPP2M,
    DPMSolverPP3M,
    Euler,
    Heun,
    NoiseAdamsBashforth,
    SDEDPMSolverPP2M,
    UniPC,
    sample,
)
from diffuscope.training import (
    DistanceLog,
    Optimum,
    Precision,
    fit,
    new_denoiser,
    of_process_0,
    process_group,
    rank,
    recipe,
)

SAMPLERS = {
    "euler": Euler(),
    "heun": Heun(),
    "ddim": DDIM(),
    "ddpm": DDPM(),
    "dpm++2m": DPMSolverPP2M(),
    "dpm++3m": DPMSolverPP3M(),
    "dpm++2m-sde": SDEDPMSolverPP2M(),
    "deis3": NoiseAdamsBashforth(3),
    "unipc": UniPC(accurate_start=False),  # one evaluation per step, no more
}
LARGEST_GRID = 100  # pictures on the contact sheet of `sample`


@dataclass(frozen=True)
class DataOptions:
    """Which data."""

    data: str = "digits"
    """digits, mnist, fashion-mnist, cifar10, two-moons, spirals, swiss-roll, rings or checkerboard;
    a .npy, .npz or .h5 file (file.h5:name); or a folder, of images or of CIFAR-10's binary batches."""
    heldout: str | None = None
    """Unseen data, given like --data; without it the data's own test set, or a random part of the data."""
    data_range: tuple[float, float] | None = None
    """Lowest and highest possible value, for instance 0 255; needed for integer arrays."""
    train_limit: int | None = None
    """Use only this many training examples, chosen at random."""

    def load(self, seed: int) -> DataSet:
        """The data set, in its own range."""
        data = load_data(self.data, heldout=self.heldout, data_range=self.data_range, seed=seed)
        return data if self.train_limit is None else data.subset(self.train_limit, len(data.heldout), seed=seed)


@dataclass(frozen=True)
class TrainOptions:
    """How long to train."""

    train_steps: int = 2000
    """Training steps, if a model is trained."""
    batch_size: int = 64
    """Examples per step."""


@dataclass(frozen=True)
class LogOptions:
    """What is written down while a model is trained."""

    log_every: int = 500
    """Steps between two measurements of the distance to the optimum; 0: none."""
    tensorboard: bool = False
    """Write them as TensorBoard events too, in the folder `tensorboard`; needs diffuscope[tensorboard]."""


@dataclass(frozen=True)
class Audit:
    """Audit a diffusion model: what it learned, where its loss comes from, whether it memorized, how few steps.

    Without --model a small model is trained first. Writes report.html and audit.json to --out; an interrupted audit
    resumes when the same command is given again.
    """

    source: tyro.conf.OmitArgPrefixes[DataOptions] = field(default_factory=DataOptions)
    model: str | None = None
    """A .safetensors or .npz file, or module:object; without it a small model is trained on the data."""
    samples: str | None = None
    """Generated samples to search for copies in place of the model's own: a .npy or .npz file, or a folder."""
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
            denoiser = trained(data, self.training, self.settings.seed, self.out)
            name = f"a small model trained on {data.name}"
        else:
            denoiser, name = load_model(self.model), Path(self.model).name
            low, high = model_range(denoiser, data)
            data = data.in_range(low, high)
            if self.source.heldout is None and self.source.data not in NAMES:
                warning = (
                    "the unseen data are a random part of --data: if the model was trained on all of it, "
                    "it has seen them; give --heldout"
                )
                print(f"Warning: {warning}.", file=sys.stderr)
                notes.append(warning)
        if data.shared:
            notes.append(f"{data.shared} unseen examples are also training examples, bit for bit")
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
        result = audit(subject, self.settings, out=self.out, samples=samples, progress=True)
        report = result.save(self.out)
        print_verdicts(result)
        print(f"Report: {report}")


@dataclass(frozen=True)
class Train:
    """Train a small model; the run resumes when the same command is given again.

    Under torchrun the processes share every batch (torchrun --nproc-per-node 2 -m diffuscope train), each on its GPU if
    there are any; alone it trains on the CPU.
    """

    source: tyro.conf.OmitArgPrefixes[DataOptions] = field(default_factory=DataOptions)
    training: tyro.conf.OmitArgPrefixes[TrainOptions] = field(default_factory=TrainOptions)
    conditional: bool = False
    """Teach the model the classes of the data, so that it can be asked for one; needs data with labels."""
    precision: Precision = "float32"
    """bfloat16: matrix products in bfloat16, weights in float32."""
    compile: bool = False
    """Compile the model with torch.compile, which takes a minute."""
    logging: tyro.conf.OmitArgPrefixes[LogOptions] = field(default_factory=LogOptions)
    out: Path = Path("out/train")
    """Folder for model.safetensors, the checkpoint and distance.jsonl."""
    seed: int = 0
    """Decides the split, the initial weights, batches and noise."""

    def run(self) -> None:
        """Train and save."""
        if self.logging.log_every < 0:
            raise InputError(f"log_every: expected a whole number of steps >= 0, got {self.logging.log_every}")
        require_folder(self.out)
        data = self.source.load(self.seed).in_range(-1.0, 1.0)
        classes = class_count(data) if self.conditional else 0
        with process_group() as device:
            choices = Choices(classes, self.precision, self.compile, device)
            trained(data, self.training, self.seed, self.out, self.logging, choices)
            if rank() == 0:
                print(f"Model: {self.out / 'model.safetensors'}")
                if self.logging.log_every:
                    print(f"Distance to the optimum: {self.out / 'distance.jsonl'}")


@dataclass(frozen=True)
class Sample:
    """Draw samples from a model: an .npz file, and for images a PNG contact sheet."""

    model: str
    """A .safetensors or .npz file, or module:object."""
    n: int = 64
    """Number of samples."""
    sampler: Literal["euler", "heun", "ddim", "ddpm", "dpm++2m", "dpm++3m", "dpm++2m-sde", "deis3", "unipc"] = "dpm++2m"
    """The sampler."""
    evaluations: int = 40
    """Evaluations of the model per sample, the final denoise included; with guidance each evaluates it twice."""
    classes: tuple[int, ...] = ()
    """Ask for these classes, in turn: one sample of each, then again; needs a model trained with classes."""
    guidance: float = 1.0
    """Scale of the guidance toward the class: 1 is the class as it is, more exaggerates it."""
    out: Path = Path("out/samples")
    """Folder for samples.npz and samples.png."""
    seed: int = 0
    """Decides the noise."""

    def run(self) -> None:
        """Sample and write."""
        if self.n < 1:
            raise InputError(f"n: expected at least 1, got {self.n}")
        method = SAMPLERS[self.sampler]
        steps = (self.evaluations - 1) // method.nfe_per_step
        if steps < 1:
            raise InputError(f"evaluations: expected at least {method.nfe_per_step + 1}, got {self.evaluations}")
        if not math.isfinite(self.guidance):
            raise InputError(f"guidance: expected a finite number, got {self.guidance}")
        if self.guidance != 1 and not self.classes:
            raise InputError(f"guidance: expected --classes with it, got {self.guidance:g} and no class")
        require_folder(self.out)
        denoiser = load_model(self.model)
        shape = getattr(denoiser, "event_shape", None)
        if shape is None:
            raise InputError(f"model: {self.model} has no .event_shape, which says what to sample")
        schedule, generator = denoiser.schedule, torch.Generator().manual_seed(self.seed)
        low = max(1e-3, float(schedule.noise_to_signal(schedule.t_min)))
        high = min(160.0, float(schedule.noise_to_signal(schedule.t_max)))
        times = grid(denoiser, high, low, steps)
        noise = float(schedule.sigma(times[0])) * torch.randn(self.n, *shape, generator=generator)
        batches = []
        with torch.no_grad():
            for index in tqdm(torch.arange(self.n).split(256), desc="sampling", unit="batch"):
                asked = asked_for(denoiser, index, self.classes, self.guidance)
                end = sample(method, asked, noise[index], times, noise=generator)
                batches.append(asked(end, times[-1]))
        samples = torch.cat(batches)
        labels = {"y": turn(torch.arange(self.n), self.classes).numpy()} if self.classes else {}
        save_arrays(self.out / "samples.npz", {"x": samples.numpy(), **labels})
        print(f"Samples: {self.out / 'samples.npz'}")
        if samples.ndim == 4 and samples.shape[1] in (1, 3):
            contact_sheet(samples, getattr(denoiser, "data_range", None)).save(self.out / "samples.png")
            print(f"Picture: {self.out / 'samples.png'}")


def require_folder(out: Path) -> None:
    """Make `out`, so that an unwritable place shows before any work is done."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"out: cannot make the folder {out} ({error.strerror})") from error
    if not os.access(out, os.W_OK):
        raise InputError(f"out: the folder {out} is not writable")


def load_model(spec: str) -> Denoiser:
    """A denoiser from a file or from module:object."""
    return load_callable(spec) if ":" in spec and not Path(spec).exists() else load_denoiser(spec)


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


@dataclass(frozen=True)
class Choices:
    """How a model is trained, beyond how long."""

    classes: int = 0
    precision: Precision = "float32"
    compiled: bool = False
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))


def trained(
    data: DataSet,
    options: TrainOptions,
    seed: int,
    out: Path,
    logging: LogOptions = LogOptions(log_every=0),
    choices: Choices = Choices(),
) -> Denoiser:
    """A small model trained on `data`, saved to `out`; resumes from the checkpoint there."""
    low, high = data.data_range
    labels = data.train_labels if choices.classes else None
    denoiser = new_denoiser(data.train, (float(low), float(high)), seed, classes=choices.classes).to(choices.device)
    settings = replace(
        recipe(denoiser.sigma_data, steps=options.train_steps, batch_size=options.batch_size, seed=seed),
        precision=choices.precision,
        compiled=choices.compiled,
    )

    def distance_log() -> DistanceLog:
        optimum = Optimum.of(denoiser, data.train, unseen=data.heldout, seed=seed)
        board = out / "tensorboard" if logging.tensorboard else None
        return DistanceLog(optimum, logging.log_every, out / "distance.jsonl", board)

    log = of_process_0(distance_log, choices.device) if logging.log_every else None
    checkpoint = out / "training.safetensors"
    denoiser = fit(denoiser, data.train, settings, checkpoint=checkpoint, labels=labels, log=log).eval()
    if rank() == 0:
        save_denoiser(denoiser, out / "model.safetensors")
    return denoiser


def class_count(data: DataSet) -> int:
    """How many classes the labels of the training examples name."""
    if data.train_labels is None:
        raise InputError(f"conditional: expected data with labels, and {data.name} has none")
    found = data.train_labels.unique()
    if not torch.equal(found, torch.arange(len(found))):
        some = ", ".join(map(str, found[:5].tolist())) + (", ..." if len(found) > 5 else "")
        raise InputError(f"conditional: expected the labels 0 .. C-1, each at least once, and {data.name} has {some}")
    return len(found)


def turn(index: torch.Tensor, classes: tuple[int, ...]) -> torch.Tensor:
    """The class of the samples at `index` when classes are asked for in turn."""
    return torch.tensor(classes)[index % len(classes)]


def asked_for(denoiser: Denoiser, index: torch.Tensor, classes: tuple[int, ...], guidance: float) -> Denoiser:
    """`denoiser` for the samples at `index`: of their classes, with guidance, where classes are asked for."""
    if not classes:
        return denoiser
    known = classes_of(denoiser)
    if not isinstance(denoiser, ConditionalDenoiser) or known < 1:
        raise InputError("classes: expected a model trained with classes, got one without")
    if not all(0 <= y < known for y in classes):
        raise InputError(f"classes: expected classes 0 .. {known - 1}, got {', '.join(map(str, classes))}")
    conditional = OfClass(denoiser, turn(index, classes))
    return conditional if guidance == 1 else Guided(conditional, denoiser, guidance)


def print_verdicts(result: AuditResult) -> None:
    """The first screen of the report, in the terminal."""
    for finding in result.verdicts:
        print(f"- {finding.title}: {finding.verdict}")


def contact_sheet(samples: torch.Tensor, data_range: tuple[float, float] | None) -> Image.Image:
    """Up to LARGEST_GRID samples in a square, enlarged to be seen."""
    shown = samples[:LARGEST_GRID]
    low, high = data_range or (float(shown.min()), float(shown.max()))
    levels = ((shown - low) / (high - low)).clamp(0, 1).mul(255).round().byte().permute(0, 2, 3, 1).numpy()
    columns = math.ceil(math.sqrt(len(levels)))
    height, width, channels = levels.shape[1:]
    sheet = np.zeros((math.ceil(len(levels) / columns) * (height + 1), columns * (width + 1), channels), np.uint8)
    for index, image in enumerate(levels):
        row, column = divmod(index, columns)
        sheet[row * (height + 1) :, column * (width + 1) :][:height, :width] = image
    scale = max(1, 800 // sheet.shape[1])
    picture = Image.fromarray(sheet.squeeze(-1) if channels == 1 else sheet)
    return picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST)
