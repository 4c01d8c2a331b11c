r"""A class-conditional vision transformer for 28 x 28 images in [0, 1] (the published weights `mnist_flow_vit_sofia`).

Flow matching :math:`x = \tau x_0 + (1 - \tau)\varepsilon`, tau = 1 - t of `RectifiedFlow`; the network predicts
the clean image. Sixteen 7 x 7 patches, two tokens of time and two of the class go through four post-norm
encoder layers. Class 10 is 'no class': the unconditional denoiser.
"""

import math
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from diffuscope.data import data_folder
from diffuscope.denoisers import DataPredictor, SignalTime, load_npz
from diffuscope.schedules import RectifiedFlow

WEIGHTS = "mnist_flow_vit_sofia.npz"
SIZE, PATCH, WIDTH, LAYERS = 28, 7, 64, 4
TOKENS = (SIZE // PATCH) ** 2
EMBEDDING = 2 * WIDTH
NO_CLASS = 10


class FlowTransformer(nn.Module):
    """x_0(x, tau) or x_0(x, tau, y), y a digit: x of shape (batch, 1, 28, 28) or (batch, 28, 28)."""

    classes = NO_CLASS

    def __init__(self) -> None:
        super().__init__()
        self.pos_embed = nn.Parameter(torch.zeros(1, TOKENS, WIDTH))
        self.patch_embed = nn.Conv2d(1, WIDTH, PATCH, stride=PATCH)
        self.transformer = nn.ModuleList(
            nn.TransformerEncoderLayer(WIDTH, 4, 4 * WIDTH, dropout=0.0, activation="gelu", batch_first=True)
            for _ in range(LAYERS)
        )
        self.unpatch = nn.ConvTranspose2d(WIDTH, 1, PATCH, stride=PATCH)
        self.y_encoder = nn.Embedding(NO_CLASS + 1, EMBEDDING)

    def forward(
        self,
        x: Float[Tensor, "batch *event"],
        tau: Float[Tensor, " batch"],
        y: Int[Tensor, " batch"] | None = None,
    ) -> Float[Tensor, "batch *event"]:
        patches = self.patch_embed(x.reshape(-1, 1, SIZE, SIZE)).flatten(2).transpose(1, 2) + self.pos_embed
        time = sinusoids(tau).reshape(-1, 2, WIDTH)
        rows = self.y_encoder.weight[-1].expand(len(x), -1) if y is None else self.y_encoder(y)
        tokens = torch.cat([patches, time, rows.reshape(-1, 2, WIDTH)], dim=1)
        for layer in self.transformer:
            tokens = layer(tokens)
        grid = tokens[:, :TOKENS].transpose(1, 2).reshape(-1, WIDTH, SIZE // PATCH, SIZE // PATCH)
        return self.unpatch(grid).reshape(x.shape)


def denoiser(weights: Path | None = None) -> DataPredictor:
    """The published denoiser, of the file `weights` or of WEIGHTS in the data folder's `weights`."""
    network = FlowTransformer()
    network.load_state_dict(load_npz(weights or data_folder() / "weights" / WEIGHTS, "weights"))
    return DataPredictor(
        network.eval(),
        RectifiedFlow(),
        clock=SignalTime(),  # the network counts from noise to data, the schedule from data to noise
        event_shape=(1, SIZE, SIZE),
        data_range=(0.0, 1.0),
    )


def sinusoids(tau: Float[Tensor, " batch"]) -> Float[Tensor, "batch width"]:
    """Sines, then cosines, of tau times frequencies from 1 down to 1e-4, both included, in geometric steps."""
    half = EMBEDDING // 2
    frequencies = torch.exp(-math.log(1e4) * torch.arange(half, dtype=tau.dtype, device=tau.device) / (half - 1))
    phases = tau[:, None] * frequencies
    return torch.cat([phases.sin(), phases.cos()], dim=1)
