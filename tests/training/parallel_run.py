"""Runs of training in two processes, as torchrun describes them to each; each writes what it found as JSON.

The cases are functions, so that the test runs the same ones in its own single process.
"""

import hashlib
import json
from pathlib import Path

import torch
from torch import Tensor, nn
from training_models import ConvolutionalDenoiser, SmallDenoiser, vectors

from diffuscope.denoisers import Preconditioned, UNet
from diffuscope.errors import InputError
from diffuscope.schedules import VE, Schedule
from diffuscope.training import (
    DistanceLog,
    Implicit,
    LogNormalNoise,
    LogUniformNoise,
    Optimum,
    TrainingSettings,
    process_group,
    processes,
    rank,
    train,
)

STEPS, STOP = 15, 5  # of two and a half epochs; where a run is broken off
IMAGES = vectors(48, 16).reshape(48, 1, 4, 4)
LABELS = torch.arange(48) % 3


def images(folder: Path, stop: int | None = None) -> tuple[list[float], str]:
    """A U-Net with classes; checkpoint and log in the folder, where `stop` breaks the run off.

    Answers the losses and a digest of the weights.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = UNet((1, 4, 4), channels=(8, 8), classes=3)
    denoiser = Preconditioned(network, VE(), 1.0, event_shape=(1, 4, 4), data_range=(-1.0, 1.0))
    settings = TrainingSettings(steps=STEPS, batch_size=8, noise=LogNormalNoise(0.0, 1.0), class_dropout=0.2)
    log = DistanceLog(Optimum.of(denoiser, IMAGES, points=16), every=STOP, path=folder / "log.jsonl")
    checkpoint, losses = folder / "run.safetensors", []
    for progress in train(denoiser, IMAGES, settings, checkpoint=checkpoint, labels=LABELS, log=log):
        losses.append(progress.loss)
        if progress.step == stop:
            break
    return losses, digest(denoiser)


def digest(denoiser: nn.Module) -> str:
    """Equal for equal weights, bit for bit."""
    return hashlib.sha256(b"".join(p.detach().numpy().tobytes() for p in denoiser.parameters())).hexdigest()


class Unused(SmallDenoiser):
    """It has a parameter that no answer depends on."""

    def __init__(self) -> None:
        super().__init__(3)
        self.idle = nn.Parameter(torch.zeros(2))


def implicit() -> list[float]:
    """An objective that differentiates twice."""
    settings = TrainingSettings(steps=10, batch_size=16, noise=LogUniformNoise(0.5, 2.0), objective=Implicit())
    run = train(SmallDenoiser(3), vectors(), settings, checkpoint=None)
    return [progress.loss for progress in run]


class Poisoned(SmallDenoiser):
    """Its answer is NaN where the noise is largest of all: in one process's share."""

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        answer = super().forward(x_t, t)
        return answer.masked_fill((t >= 1.999)[:, None], float("nan"))


class OneNoisy:
    """sigma = 2 for the last sample of the whole batch, 1 for the others."""

    def sample(self, schedule: Schedule, n: int, *, generator: torch.Generator) -> Tensor:
        del schedule, generator
        return torch.cat([torch.ones(n - 1), torch.full((1,), 2.0)]).double()


def refusal(denoiser: nn.Module, settings: TrainingSettings, log: DistanceLog | None = None) -> str:
    """The line that a run ends with."""
    try:
        for _ in train(denoiser, vectors(), settings, checkpoint=None, log=log):
            pass
    except InputError as error:
        return str(error)
    return "no error"


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    with process_group():
        (folder / "whole").mkdir(exist_ok=True)
        (folder / "broken").mkdir(exist_ok=True)
        (folder / "again").mkdir(exist_ok=True)
        nowhere = DistanceLog(Optimum.of(SmallDenoiser(3), vectors(), points=8), path=folder / "nowhere" / "log.jsonl")
        diverging = TrainingSettings(steps=3, batch_size=16, noise=OneNoisy())
        found = {
            "processes": processes(),
            "images": images(folder / "whole"),
            "resumed": [images(folder / "again", stop=STOP), images(folder / "again")],
            "implicit": implicit(),
            "broken off": images(folder / "broken", stop=STOP),
            "diverged": refusal(Poisoned(3), diverging),
            "uneven": refusal(SmallDenoiser(3), TrainingSettings(steps=3, batch_size=15)),
            "batch norm": refusal(ConvolutionalDenoiser(), TrainingSettings(steps=3, batch_size=16)),
            "unused": refusal(Unused(), TrainingSettings(steps=3, batch_size=16)),
            "seeds": refusal(SmallDenoiser(3), TrainingSettings(steps=3, batch_size=16, seed=rank())),
            "no place": refusal(SmallDenoiser(3), TrainingSettings(steps=3, batch_size=16), nowhere),
        }
        (folder / f"found{rank()}.json").write_text(json.dumps(found))
