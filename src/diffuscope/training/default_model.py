"""The default model: EDM preconditioning around a small network, for images or vectors.

The data's mean and standard deviation enter the preconditioning, so that the untrained network is already the exact
denoiser of an isotropic Gaussian. The loss weight is that of Karras et al. 2022; the noise distribution is wider than
theirs (1.8 instead of 1.2 in log sigma), so that a short training covers the high noise where sampling starts.
"""

import math
from dataclasses import replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.by_parts import mean_and_deviation
from diffuscope.data import DataSet
from diffuscope.denoisers import MLP, Preconditioned, UNet, save_denoiser, seeded
from diffuscope.distributed import of_process_0, rank
from diffuscope.errors import InputError
from diffuscope.schedules import VE

from .log import DistanceLog
from .loop import Stop, fit
from .objective import EDMWeight, LogNormalNoise
from .optimum import Optimum
from .settings import Precision, TrainingSettings

LARGEST_NOISE = 40.0  # in standard deviations of the data; there all examples look alike


def new_denoiser(
    data: Float[Tensor, "n *event"], data_range: tuple[float, float], seed: int, *, classes: int = 0
) -> Preconditioned:
    """An untrained U-Net (images) or MLP (vectors) for `data` of `classes` classes, its weights drawn with `seed`.

    Its noise levels range from 0.01 to 40 standard deviations of the data. Raises InputError for data that do not vary
    or are not finite.

    >>> import torch
    >>> from diffuscope.training import new_denoiser
    >>> data = torch.tensor([[1.0, 5.0], [5.0, 1.0]])  # mean 3, variance 16 / 3
    >>> denoiser = new_denoiser(data, (1.0, 5.0), seed=0)
    >>> x_t, t = torch.tensor([[7.0, 4.0]]), torch.tensor([2.0])
    >>> [round(value, 4) for value in denoiser(x_t, t)[0].tolist()]  # 3 + (x_t - 3) (16/3) / (16/3 + 2^2)
    [5.2857, 3.5714]
    """
    event_shape = tuple(data.shape[1:])
    mean, scale = mean_and_deviation(data)
    if not 0 < scale < math.inf:
        raise InputError(f"data: expected finite values that vary, got a standard deviation of {scale:g}")
    with seeded(seed):
        network = (UNet if len(event_shape) == 3 else MLP)(event_shape, classes=classes)
    return Preconditioned(
        network,
        VE(sigma_min=0.01 * scale, sigma_max=LARGEST_NOISE * scale),
        scale,
        event_shape=event_shape,
        data_range=data_range,
        data_mean=mean,
    )


def recipe(scale: float | int, *, steps: int, batch_size: int, seed: int) -> TrainingSettings:
    """Log-normal noise around the data's standard deviation `scale`, EDM's weight, a cosine learning rate.

    Raises InputError for a scale that is not a positive number, and as `TrainingSettings`.

    >>> import math
    >>> from diffuscope import VE
    >>> from diffuscope.training import recipe
    >>> settings = recipe(2.0, steps=1000, batch_size=64, seed=0)
    >>> settings.noise.mean == math.log(2), float(settings.weight(VE(), 4.0))  # 1 / 2^2 + 1 / 4^2
    (True, 0.3125)
    """
    if not 0 < scale < math.inf:
        raise InputError(f"scale: expected a number > 0, the standard deviation of the data, got {scale}")
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
    stop: Stop | None = None,
) -> Preconditioned:
    """The default model trained on `data` in the data's own range, returned in evaluation mode.

    With `out`, model.safetensors is saved there, and a checkpoint lets the same call resume an interrupted run to the
    same weights. Every `log_every` steps (0: never) the distance to the exact optimum is appended to distance.jsonl,
    and to TensorBoard with `tensorboard`. `conditional` trains with the labels of the data as classes. Under torchrun
    the processes share every batch. The run ends early where `stop` says so (see `train`), such as the `after_step` of
    a `monitor.Monitor`. Raises InputError for `conditional` without the labels 0 .. C-1, for a log without `out`, and
    for an `out` that cannot be made.

    >>> from pathlib import Path
    >>> import torch
    >>> from diffuscope.data import toy_data
    >>> from diffuscope.denoisers import load_denoiser
    >>> from diffuscope.training import train_denoiser
    >>> out = Path("trained")
    >>> denoiser = train_denoiser(toy_data("two-moons", n_train=100, n_heldout=50), steps=1, out=out)
    >>> saved, x_t, t = load_denoiser(out / "model.safetensors"), torch.tensor([[1.0, 2.0]]), torch.tensor([0.5])
    >>> torch.equal(saved(x_t, t), denoiser(x_t, t))
    True
    """
    if log_every < 0:
        raise InputError(f"log_every: expected a whole number of steps >= 0, got {log_every}")
    if log_every and out is None:
        raise InputError("log_every: expected `out` as well, the folder for the log; got none")
    if out is not None:
        _make_folder(out)
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
        stop=stop,
    ).eval()
    if out is not None and rank() == 0:
        save_denoiser(trained, out / "model.safetensors")
    return trained


def _make_folder(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"out: expected a folder that can be written, got {out} ({error.strerror or error})"
        ) from error


def class_count(data: DataSet) -> int:
    """The number of classes C in the training labels. Raises InputError unless they are 0 .. C-1."""
    if data.train_labels is None:
        raise InputError(f"conditional: expected data with labels, and {data.name} has none")
    labels = data.train_labels.unique()
    if not torch.equal(labels, torch.arange(len(labels))):
        first = ", ".join(map(str, labels[:5].tolist())) + (", ..." if len(labels) > 5 else "")
        raise InputError(f"conditional: expected the labels 0 .. C-1, each at least once, and {data.name} has {first}")
    return len(labels)
