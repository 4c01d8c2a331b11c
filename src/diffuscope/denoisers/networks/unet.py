r"""A compact U-Net for small images, of any size, even or odd: (C, H, W), or (H, W) for one channel.

With the embedding e of the noise label and, if there are classes, of the class, a residual block is

.. math::  h \leftarrow R h + K_2 N(K_1 N(h) + U e), \qquad N = \text{SiLU} \circ \text{GroupNorm},

where K are 3 x 3 convolutions and R is the identity or a 1 x 1 convolution. There is one block per level on the way
down and one on the way up, and self-attention at the lowest resolution. Going down halves the sides, rounding up;
going up interpolates to the size of the skip. The last layer starts at zero, so that with EDM preconditioning the
untrained network is the exact denoiser of an isotropic Gaussian.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from diffuscope.errors import InputError

from .embedding import LabelEmbedding
from .mlp import zeroed


class UNet(nn.Module):
    """network(x, label) or network(x, label, y) for images; `channels` are the widths of the levels, finest first.

    Raises InputError for events that are no images and for `channels` that are not positive.

    >>> import torch
    >>> from diffuscope.denoisers import UNet
    >>> network = UNet((1, 5, 7), channels=(4, 8))
    >>> network(torch.ones(2, 1, 5, 7), torch.ones(2)).abs().sum().item()  # untrained
    0.0
    >>> network.last[2].bias.data += 0.5  # of the last layer, which adds it to every pixel
    >>> network(torch.ones(2, 1, 5, 7), torch.ones(2)).sum().item() == 0.5 * 2 * 5 * 7
    True
    """

    def __init__(
        self,
        event_shape: Sequence[int],
        *,
        channels: Sequence[int] = (24, 48),
        attention: bool = True,
        label_span: float = 5.0,
        classes: int = 0,
    ) -> None:
        super().__init__()
        if len(event_shape) not in (2, 3):
            raise InputError(f"event_shape: expected an image (C, H, W) or (H, W), got {tuple(event_shape)}")
        if not channels or any(width < 1 for width in channels):
            raise InputError(f"channels: expected the width of at least one level, got {tuple(channels)}")
        self.image_shape = (1, *event_shape) if len(event_shape) == 2 else tuple(event_shape)
        self.arguments = {
            "event_shape": tuple(event_shape),
            "channels": tuple(channels),
            "attention": attention,
            "label_span": label_span,
            "classes": classes,
        }
        self.classes = classes
        fine, coarse = tuple(channels[:-1]), channels[-1]
        embedding = 2 * coarse
        self.embedding = LabelEmbedding(embedding, label_span, classes)
        self.first = nn.Conv2d(self.image_shape[0], channels[0], 3, padding=1)
        self.down_blocks = nn.ModuleList(_Block(width, width, embedding) for width in fine)
        self.downs = nn.ModuleList(
            nn.Conv2d(width, following, 3, stride=2, padding=1)
            for width, following in zip(fine, channels[1:], strict=True)
        )
        self.middle = _Block(coarse, coarse, embedding)
        self.attention = _Attention(coarse) if attention else nn.Identity()
        self.ups = nn.ModuleList(nn.Conv2d(below, width, 1) for width, below in zip(fine, channels[1:], strict=True))
        self.up_blocks = nn.ModuleList(_Block(2 * width, width, embedding) for width in fine)
        self.last = nn.Sequential(
            _norm(channels[0]), nn.SiLU(), zeroed(nn.Conv2d(channels[0], self.image_shape[0], 3, padding=1))
        )

    def forward(
        self, x: Float[Tensor, "batch *event"], label: Tensor, y: Int[Tensor, " batch"] | None = None
    ) -> Float[Tensor, "batch *event"]:
        embedding = self.embedding(label, y)
        h, skips = self.first(x.reshape(-1, *self.image_shape)), []
        for block, down in zip(self.down_blocks, self.downs, strict=True):
            h = block(h, embedding)
            skips.append(h)
            h = down(h)
        h = self.attention(self.middle(h, embedding))
        for up, block in zip(reversed(self.ups), reversed(self.up_blocks), strict=True):
            skip = skips.pop()
            h = nn.functional.interpolate(up(h), size=skip.shape[-2:], mode="nearest")
            h = block(torch.cat([h, skip], dim=1), embedding)
        return self.last(h).reshape(x.shape)


class _Block(nn.Module):
    def __init__(self, channels_in: int, channels_out: int, embedding: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = _norm(channels_in), _norm(channels_out)
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1)
        self.shift = nn.Linear(embedding, channels_out)
        self.residual = nn.Conv2d(channels_in, channels_out, 1) if channels_in != channels_out else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        h = self.conv1(nn.functional.silu(self.norm1(x))) + self.shift(embedding)[:, :, None, None]
        return self.residual(x) + self.conv2(nn.functional.silu(self.norm2(h)))


class _Attention(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = _norm(channels)
        self.project_in = nn.Linear(channels, 3 * channels)
        self.project_out = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.norm(x).flatten(2).transpose(1, 2)
        query, key, value = self.project_in(tokens).chunk(3, dim=-1)
        mixed = self.project_out(nn.functional.scaled_dot_product_attention(query, key, value))
        return x + mixed.transpose(1, 2).reshape(x.shape)


def _norm(channels: int) -> nn.GroupNorm:
    """As many groups of at least four channels as divide evenly: 8, 4 or 2, otherwise a single one."""
    fitting = (groups for groups in (8, 4, 2) if channels % groups == 0 and channels >= 4 * groups)
    return nn.GroupNorm(next(fitting, 1), channels)
