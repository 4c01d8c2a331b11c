r"""A noise-prediction CNN for 28 x 28 images in [-1/2, 1/2], kept along its training
(the published weights `mnist_ddpm_cnn_trajectory_hughes_*`).

Four 7 x 7 convolutions 1-16-32-32-16, each with LayerNorm over pixels and GELU, then one of 3 x 3. The
embedding of index/1000 joins after the first. The stored tables have 1001 entries: beta_i, i = 0..1000,
linear from 1e-4 to 0.02 and alpha_i^2 = prod_{j<=i} (1 - beta_j). So the chain has 1001 steps, index i is
time t = i + 1 of `DiscreteVP`, and the table differs from DDPM's 1000 steps. Index 0 was never trained: its
clean estimate is twice as bad as the answer to the label of index 1 on the same input.
"""

import itertools
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from diffuscope.data import data_folder
from diffuscope.denoisers import NoisePredictor, StepIndex, load_npz
from diffuscope.schedules import DiscreteVP

WEIGHTS = "mnist_ddpm_cnn_trajectory_hughes_run1_epoch{:04d}.npz"
EPOCHS = (0, 20, 40, 60, 100, 200, 400)  # as the files count: one more have been trained
STEPS = 1001
CHANNELS = (1, 16, 32, 32, 16)
SIZE = 28
FREQUENCIES = 16
WIDTH = 128


class NoiseCNN(nn.Module):
    """eps(x, index): x of shape (batch, 1, 28, 28) or (batch, 28, 28), index in 0..1000."""

    frequencies: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("frequencies", torch.zeros(FREQUENCIES))
        self.blocks = nn.ModuleList(_Block(c, out) for c, out in itertools.pairwise(CHANNELS))
        self.blocks.append(nn.Conv2d(CHANNELS[-1], 1, 3, padding=1))
        layers: list[nn.Module] = []
        for inputs, outputs in ((2 * FREQUENCIES, WIDTH), (WIDTH, WIDTH), (WIDTH, WIDTH), (WIDTH, CHANNELS[1])):
            layers += [nn.Linear(inputs, outputs), nn.GELU()]
        self.time_embed = nn.Sequential(*layers[:-1])

    def forward(self, x: Float[Tensor, "batch *event"], index: Int[Tensor, " batch"]) -> Float[Tensor, "batch *event"]:
        phases = (index / (STEPS - 1)).to(x.dtype)[:, None] * self.frequencies
        # cos - 1 vanishes with the noise
        embedding = self.time_embed(torch.cat([phases.sin(), phases.cos() - 1], dim=1))
        first, *rest = self.blocks
        h = first(x.reshape(-1, 1, SIZE, SIZE)) + embedding[:, :, None, None]
        for block in rest:
            h = block(h)
        return h.reshape(x.shape)


class _Block(nn.Module):
    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(channels_in, channels_out, 7, padding=3), nn.LayerNorm([SIZE, SIZE]), nn.GELU()
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


def denoiser(weights: Path | None = None) -> NoisePredictor:
    """The published denoiser, of the file `weights` or of the last epoch in the data folder's `weights`.

    The arrays of the network have the prefix `gt.`; the tables and losses beside them are a record of its training.
    """
    arrays = load_npz(weights or _file(EPOCHS[-1]), "weights")
    network = NoiseCNN()
    network.load_state_dict(
        {name.removeprefix("gt."): value for name, value in arrays.items() if name.startswith("gt.")}
    )
    return NoisePredictor(
        network.eval(),
        DiscreteVP.linear(1e-4, 0.02, STEPS),
        clock=StepIndex(STEPS, first_trained=2),
        event_shape=(1, SIZE, SIZE),
        data_range=(-0.5, 0.5),
    )


def checkpoints() -> dict[int, NoisePredictor]:
    """The same network along its training: a denoiser for each number of epochs trained, in order."""
    return {epoch + 1: denoiser(_file(epoch)) for epoch in EPOCHS}


def _file(epoch: int) -> Path:
    return data_folder() / "weights" / WEIGHTS.format(epoch)
