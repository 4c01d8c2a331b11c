r"""A noise-prediction U-Net for 28 x 28 images in [0, 1] (the published weights `mnist_ddpm_unet_franfee`).

DDPM with T = 1000 linear betas. Resolutions 28-14-7-3, channels 10, 20, 40, 80, two blocks a level;

.. math::  \text{block}(x) = \text{ReLU}\big(R x + \text{conv}\,\text{ReLU}\,\text{conv}\,\text{LayerNorm}(x)\big),

R the identity or a 1 x 1 convolution. A table of sinusoids gives the step's embedding, which a level adds to
its input. Above sigma/alpha about 10 the clean estimate is worse than the mean image: it is an honest
example of a network that is good where its loss looked, and not beyond.
"""

from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from diffuscope.data import data_folder
from diffuscope.denoisers import NoisePredictor, load_npz
from diffuscope.schedules import DiscreteVP

WEIGHTS = "mnist_ddpm_unet_franfee.npz"
SIZES = (28, 14, 7, 3)
CHANNELS = (10, 20, 40, 80)
STEPS = 1000
EMBEDDING = 128


class NoiseUNet(nn.Module):
    """eps(x, index): x of shape (batch, 1, 28, 28) or (batch, 28, 28), index in 0..999."""

    def __init__(self) -> None:
        super().__init__()
        self.pe = nn.ModuleDict({"embedding": nn.Embedding(STEPS, EMBEDDING)})
        inputs = (1, *CHANNELS[:2])
        self.encoders = nn.ModuleList(
            _level(c, out, size) for c, out, size in zip(inputs, CHANNELS, SIZES, strict=False)
        )
        self.pe_linears_en = nn.ModuleList(
            nn.Sequential(nn.Linear(EMBEDDING, c), nn.ReLU(), nn.Linear(c, c)) for c in inputs
        )
        self.downs = nn.ModuleList(nn.Conv2d(c, c, 2, stride=2) for c in CHANNELS[:3])
        self.mid = _level(CHANNELS[2], CHANNELS[3], SIZES[3])
        self.pe_mid = nn.Linear(EMBEDDING, CHANNELS[2])
        self.ups = nn.ModuleList(nn.ConvTranspose2d(2 * c, c, 2, stride=2) for c in reversed(CHANNELS[:3]))
        self.pe_linears_de = nn.ModuleList(nn.Linear(EMBEDDING, 2 * c) for c in reversed(CHANNELS[:3]))
        self.decoders = nn.ModuleList(
            _level(2 * c, c, size) for c, size in zip(reversed(CHANNELS[:3]), reversed(SIZES[:3]), strict=True)
        )
        self.conv_out = nn.Conv2d(CHANNELS[0], 1, 3, padding=1)

    def forward(self, x: Float[Tensor, "batch *event"], index: Int[Tensor, " batch"]) -> Float[Tensor, "batch *event"]:
        embedding = self.pe["embedding"](index)
        h, skips = x.reshape(-1, 1, SIZES[0], SIZES[0]), []
        for level, shift, down in zip(self.encoders, self.pe_linears_en, self.downs, strict=True):
            h = level(h + shift(embedding)[:, :, None, None])
            skips.append(h)
            h = down(h)
        h = self.mid(h + self.pe_mid(embedding)[:, :, None, None])
        for level, shift, up in zip(self.decoders, self.pe_linears_de, self.ups, strict=True):
            skip = skips.pop()
            h = torch.cat([skip, _padded(up(h), skip.shape[-1])], dim=1)
            h = level(h + shift(embedding)[:, :, None, None])
        return self.conv_out(h).reshape(x.shape)


class _Block(nn.Module):
    def __init__(self, channels_in: int, channels_out: int, size: int) -> None:
        super().__init__()
        self.ln = nn.LayerNorm([channels_in, size, size])
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1)
        if channels_in != channels_out:
            self.residual_conv = nn.Conv2d(channels_in, channels_out, 1)
        else:
            self.residual_conv = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv2(torch.relu(self.conv1(self.ln(x))))
        return torch.relu(h + self.residual_conv(x))


def denoiser(weights: Path | None = None) -> NoisePredictor:
    """The published denoiser, of the file `weights` or of WEIGHTS in the data folder's `weights`."""
    network = NoiseUNet()
    network.load_state_dict(load_npz(weights or data_folder() / "weights" / WEIGHTS, "weights"))
    return NoisePredictor(
        network.eval(), DiscreteVP.linear(1e-4, 0.02, STEPS), event_shape=(1, 28, 28), data_range=(0.0, 1.0)
    )


def _level(channels_in: int, channels_out: int, size: int) -> nn.Sequential:
    return nn.Sequential(_Block(channels_in, channels_out, size), _Block(channels_out, channels_out, size))


def _padded(x: Tensor, size: int) -> Tensor:
    """Zeros around `x` up to size x size, the odd one after."""
    missing = size - x.shape[-1]
    before, after = missing // 2, missing - missing // 2
    return nn.functional.pad(x, (before, after, before, after))
