r"""A convolutional network that somebody else trained on MNIST, kept after 1 to 401 epochs.

`mnist_ddpm_cnn_trajectory_hughes_run1` (MIT license) predicts noise with DDPM's discrete chain, images in
[-1/2, 1/2]. Its first checkpoint has already seen one epoch, so that what came before it is not on record: where the
Gaussian residual only rises from there, its least is at or before the first checkpoint.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from diffuscope.audit import fit_references
from diffuscope.data import DataSet, data_folder, load_data
from diffuscope.denoisers import Denoiser, load_denoiser, nearest_trained_time
from diffuscope.errors import InputError
from diffuscope.findings import at_most

from ..experiment import Answer
from . import residuals
from .curves import STANDARD_ERRORS, lead_claim, multiples, over_least, turning_claim, turnings_claim
from .residuals import SETS, SIGNIFICANCE, Curves

EPOCHS = (0, 20, 40, 60, 100, 200, 400)  # as the files count; one more have been trained
RATIOS = (0.5, 2.0, 4.0, 8.0)  # noise, in deviations of the data
TURNING = {"middle": 2.0, "high": 4.0}  # where turning points are claimed
TRAINING, POINTS, COMPONENTS = 60_000, 256, 10


def checkpoint_files() -> list[Path]:
    """The files of all epochs, in order; InputError names the folder or the files that are missing."""
    folder = data_folder() / "weights"
    if not folder.is_dir():
        raise InputError(
            f"weights: there is no folder {folder}; expected the checkpoints of a network trained on MNIST in it, or "
            "DIFFUSCOPE_DATA to name the folder that holds weights and mnist"
        )
    files = [folder / f"mnist_ddpm_cnn_trajectory_hughes_run1_epoch{epoch:04d}.npz" for epoch in EPOCHS]
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise InputError(
            f"weights: {folder} has {len(files) - len(missing)} of {len(files)} files; {', '.join(missing)} missing"
        )
    return files


def stored() -> tuple[list[Denoiser], DataSet]:
    """The networks of all epochs, and MNIST in their range; InputError where a file is missing or damaged."""
    return [load_denoiser(file) for file in checkpoint_files()], load_data("mnist").in_range(-0.5, 0.5)


def watched(networks: Sequence[Denoiser], data: DataSet, generator: torch.Generator) -> dict[str, list[Curves]]:
    """Look at every checkpoint; per set the curves of every level."""
    train, first = data.train[:TRAINING], networks[0]
    references = fit_references(train, data.heldout[:POINTS], COMPONENTS, generator)
    scale = float(train.flatten(1).var(0, correction=0).mean().sqrt())
    levels = first.schedule.time_of_noise_to_signal(torch.tensor(RATIOS, dtype=torch.float64) * scale)
    times = dict(zip(RATIOS, nearest_trained_time(first, levels).tolist(), strict=True))
    noise = torch.randn(POINTS, *data.event_shape, generator=generator)
    halves = zip(SETS, (data.heldout, train), strict=True)
    sets = {name: residuals.chosen(rows, POINTS, generator) for name, rows in halves}
    shown = tqdm(zip(EPOCHS, networks, strict=True), "checkpoints", len(EPOCHS), unit="network", leave=False)
    trained = ((epoch + 1, network) for epoch, network in shown)
    return residuals.watched(trained, first.schedule, references, times, sets, noise)


def checkpoints(generator: torch.Generator) -> Answer:
    """Turning points along the checkpoints; without their files a sentence, and no claims."""
    try:
        networks, data = stored()
    except InputError as error:
        return Answer(f"Not run, and nothing is claimed. {error}.", ())
    found = watched(networks, data, generator)
    rng = np.random.default_rng(generator.initial_seed())
    seen = {name: [curve.turning(rng) for curve in curves] for name, curves in found.items()}
    places = {name: RATIOS.index(ratio) for name, ratio in TURNING.items()}
    heldout, levels = found["held-out"], len(RATIOS)
    middle, trained = heldout[places["middle"]], [epoch + 1 for epoch in EPOCHS]
    low = seen["held-out"][0]
    claims = (
        *(
            turning_claim(f"mnist-{name}", f"MNIST, noise {RATIOS[place]:g}", seen["held-out"][place], levels, "epoch")
            for name, place in places.items()
        ),
        turnings_claim(
            "mnist-training",
            "MNIST, the same at training points",
            [seen["training"][place] for place in places.values()],
            levels,
        ),
        turnings_claim(
            "mnist-published",
            "MNIST, the same in the published form, over the network's own score",
            [heldout[place].published_turning(rng) for place in places.values()],
            levels,
        ),
        lead_claim(
            "mnist-linear-first",
            f"MNIST, noise {middle.ratio:g}, after one epoch: by how much the Gaussian is nearer than the mixture",
            middle.lead("Gaussian", "mixture", trained[0]),
        ),
        lead_claim(
            "mnist-mixture-later",
            f"MNIST, noise {middle.ratio:g}, after {trained[-1]} epochs: by how much the mixture is nearer",
            middle.lead("mixture", "Gaussian", trained[-1]),
        ),
        at_most(
            "mnist-low-noise",
            f"MNIST, noise {RATIOS[0]:g}: least at the first checkpoint (epoch {low.step:g}), so that it turned "
            "within the first epoch or never fell; the p-value of 'no rise'",
            low.p_rise if low.step == trained[0] else 1.0,
            SIGNIFICANCE / len(RATIOS),
            because=f"level {SIGNIFICANCE:g} over {len(RATIOS)} noise levels",
            source="measured here",
        ),
    )
    nearer = [epoch for epoch in trained if middle.lead("mixture", "Gaussian", epoch) > STANDARD_ERRORS]
    overtaken = f"from epoch {nearer[0]} on" if nearer else "at no checkpoint"
    told = "; ".join(f"noise {ratio:g}: {at.verdict}" for ratio, at in zip(RATIOS, seen["held-out"], strict=True))
    return Answer(
        f"Yes, at middle noise. The Gaussian residual at held-out points, against epochs: {told}. At noise "
        f"{middle.ratio:g} the mixture is nearer {overtaken}. Seven checkpoints of one training: the intervals are "
        "about the points, and a few percent between neighbors may be chance in it.",
        claims,
        (
            over_least(
                "MNIST checkpoints: the Gaussian residual over its least",
                found,
                x_label="epochs trained",
                how_to_read="How far the network moves away from the Gaussian again; noise in deviations of the data. "
                "Bands: 95% over the points.",
            ),
            *(
                multiples(
                    f"MNIST checkpoints, {name} points",
                    found[name],
                    seen[name],
                    x_label="epochs trained",
                    x_range=(0.8, 500.0),
                    y_range=(0.08, 8.0),
                    how_to_read="Distance from each exact model after so many epochs; noise in deviations of the "
                    "data. Bands: 95% over the points. Shaded: the interval of the epoch where the Gaussian residual "
                    "is least.",
                )
                for name in SETS
            ),
        ),
    )
