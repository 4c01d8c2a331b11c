"""The model that is trained when none is given: EDM preconditioning around a small network, for images or vectors.

The data's mean and standard deviation enter the preconditioning, so that the untrained network is already the exact
denoiser of an isotropic Gaussian. Weights are those of Karras et al. 2022; the noise distribution is wider than theirs
(1.8 instead of 1.2 in log sigma), so that a short training reaches the high noise where samples begin.
"""

import math
from dataclasses import replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.data import DataSet
from diffuscope.denoisers import MLP, Preconditioned, UNet, save_denoiser, seeded
from diffuscope.errors import InputError
from diffuscope.schedules import VE

from .log import DistanceLog
from .loop import fit
from .objective import EDMWeight, LogNormalNoise
from .optimum import Optimum
from .parallel import of_process_0, rank
from .settings import Precision, TrainingSettings

LARGEST_NOISE = 40.0  # in deviations of the data; there every example looks alike


def new_denoiser(
    data: Float[Tensor, "n *event"], data_range: tuple[float, float], seed: int, *, classes: int = 0
) -> Preconditioned:
    """An untrained U-Net (images) or MLP (vectors) for `data` of `classes` classes, its weights drawn with `seed`.

    Its noise levels run from a hundredth of the data's standard deviation to 40 of them.
    """
    event_shape = tuple(data.shape[1:])
    with seeded(seed):
        make = UNet if len(event_shape) == 3 else MLP
        network = make(event_shape, classes=classes)
    scale = float(data.double().std())
    return Preconditioned(
        network,
        VE(sigma_min=0.01 * scale, sigma_max=LARGEST_NOISE * scale),
        scale,
        event_shape=event_shape,
        data_range=data_range,
        data_mean=float(data.double().mean()),
    )


def recipe(scale: float, *, steps: int, batch_size: int, seed: int) -> TrainingSettings:
    """Log-normal noise around the data's standard deviation `scale`, EDM's weight, a cosine learning rate."""
    return TrainingSettings(
        steps=steps,
        batch_size=batch_size,
        noise=LogNormalNoise(mean=math.log(scale), std=1.8),
        weight=EDMWeight(scale),
        average_decay=0.999,
        seed=seed,
    )


def train_denoiser(
    data: DataSet,
    *,
    steps: int = 2000,
    batch_size: int = 64,
    seed: int = 0,
    conditional: bool = False,
    out: Path | None = None,
    log_every: int = 0,
    tensorboard: bool = False,
    precision: Precision = "float32",
    compiled: bool = False,
    device: torch.device | None = None,
) -> Preconditioned:
    """The default model trained on `data`, in evaluation mode; on [-1, 1] if the data are.

    With `out`, model.safetensors is saved there, a checkpoint lets the same call resume an interrupted run to the same
    weights, and `log_every` steps the distance to the exact optimum goes to distance.jsonl (and to TensorBoard).
    `conditional` trains with the labels of the data as classes. Under torchrun the processes share every batch.
    Raises InputError for data without the labels 0 .. C-1 where they are needed, and for a log without `out`.
    """
    if log_every < 0:
        raise InputError(f"log_every: expected a whole number of steps >= 0, got {log_every}")
    if log_every and out is None:
        raise InputError("log_every: expected `out`, the folder that holds the log, with it")
    low, high = data.data_range
    device = torch.device("cpu") if device is None else device
    classes = class_count(data) if conditional else 0
    denoiser = new_denoiser(data.train, (float(low), float(high)), seed, classes=classes).to(device)
    settings = replace(
        recipe(denoiser.sigma_data, steps=steps, batch_size=batch_size, seed=seed),
        precision=precision,
        compiled=compiled,
    )

    def distance_log() -> DistanceLog:
        assert out is not None
        optimum = Optimum.of(denoiser, data.train, unseen=data.heldout, seed=seed)
        return DistanceLog(optimum, log_every, out / "distance.jsonl", out / "tensorboard" if tensorboard else None)

    trained = fit(
        denoiser,
        data.train,
        settings,
        checkpoint=None if out is None else out / "training.safetensors",
        labels=data.train_labels if conditional else None,
        log=of_process_0(distance_log, device) if log_every else None,
    ).eval()
    if out is not None and rank() == 0:
        save_denoiser(trained, out / "model.safetensors")
    return trained


def class_count(data: DataSet) -> int:
    """How many classes the labels of the training examples name. Raises InputError unless they are 0 .. C-1."""
    if data.train_labels is None:
        raise InputError(f"conditional: expected data with labels, and {data.name} has none")
    found = data.train_labels.unique()
    if not torch.equal(found, torch.arange(len(found))):
        some = ", ".join(map(str, found[:5].tolist())) + (", ..." if len(found) > 5 else "")
        raise InputError(f"conditional: expected the labels 0 .. C-1, each at least once, and {data.name} has {some}")
    return len(found)
