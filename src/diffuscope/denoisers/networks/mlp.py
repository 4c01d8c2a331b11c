r"""A residual multilayer perceptron for vectors, or for small images flattened.

.. math::  h \leftarrow h + W_2\,\text{SiLU}\big(W_1\,\text{LayerNorm}(h) + U e(c)\big)

where e(c) embeds the noise label c and, if there are classes, the class. The last layer starts at zero, so that with
EDM preconditioning the untrained network is the exact denoiser of an isotropic Gaussian.

The first h is W x or, with K random Fourier features (Rahimi & Recht 2007; Tancik et al. 2020, arXiv:2006.10739),

.. math::  h = W\,\big[x,\ \cos(B x),\ \sin(B x)\big], \qquad B \in R^{K \times d}, \quad B_{ij} \sim N(0, s^2),

where B is drawn once and not trained. In low dimensions the features let a small network resolve lengths of about 1/s,
which it learns only slowly from x alone.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from diffuscope.errors import InputError

from .embedding import LabelEmbedding


class MLP(nn.Module):
    """network(x, label) or network(x, label, y) for events of any shape; `depth` residual blocks of width `width`.

    `fourier` = K random Fourier features with standard deviation `fourier_scale` = s are concatenated to x (K = 0:
    none). B is a buffer, not a parameter: files and checkpoints save it. Raises InputError for K < 0 and unless s is a
    finite number > 0.

    >>> import torch
    >>> from diffuscope.denoisers import MLP
    >>> network = MLP((2, 3), width=8, depth=1, classes=4)
    >>> network(torch.ones(5, 2, 3), torch.ones(5), torch.tensor([0, 1, 2, 3, 4])).abs().sum().item()  # untrained
    0.0
    >>> network.last[1].bias.data += 0.5  # of the last layer, which adds it to every output
    >>> network(torch.ones(5, 2, 3), torch.ones(5)).sum().item() == 0.5 * 5 * 2 * 3
    True
    """

    frequencies: Tensor

    def __init__(
        self,
        event_shape: Sequence[int],
        *,
        width: int = 256,
        depth: int = 3,
        label_span: float = 5.0,
        classes: int = 0,
        fourier: int = 0,
        fourier_scale: float | int = 1.0,
    ) -> None:
        super().__init__()
        if fourier < 0:
            raise InputError(f"fourier: expected a number of features >= 0, got {fourier}")
        if not (math.isfinite(fourier_scale) and fourier_scale > 0):
            raise InputError(f"fourier_scale: expected a finite number > 0, got {fourier_scale}")
        self.event_shape, self.classes = tuple(event_shape), classes
        self.arguments = {
            "event_shape": self.event_shape,
            "width": width,
            "depth": depth,
            "label_span": label_span,
            "classes": classes,
        }
        size = math.prod(self.event_shape)
        self.fourier = fourier
        if fourier:
            self.arguments |= {"fourier": fourier, "fourier_scale": fourier_scale}
            self.register_buffer("frequencies", fourier_scale * torch.randn(size, fourier))
        self.embedding = LabelEmbedding(width, label_span, classes)
        self.first = nn.Linear(size + 2 * fourier, width)
        self.blocks = nn.ModuleList(_Block(width) for _ in range(depth))
        self.last = nn.Sequential(nn.LayerNorm(width), zeroed(nn.Linear(width, size)))

    def forward(
        self, x: Float[Tensor, "batch *event"], label: Tensor, y: Int[Tensor, " batch"] | None = None
    ) -> Float[Tensor, "batch *event"]:
        embedding = self.embedding(label, y)
        h = self.first(self._features(x.flatten(1)))
        for block in self.blocks:
            h = block(h, embedding)
        return self.last(h).reshape(x.shape)

    def _features(self, x: Float[Tensor, "batch size"]) -> Float[Tensor, "batch features"]:
        if self.fourier == 0:
            return x
        with torch.autocast(x.device.type, enabled=False):  # rounding a phase would change the feature
            phases = x.to(self.frequencies.dtype) @ self.frequencies
        return torch.cat([x, phases.cos(), phases.sin()], dim=1)


class _Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.inner = nn.Linear(width, width)
        self.shift = nn.Linear(width, width, bias=False)
        self.outer = nn.Linear(width, width)

    def forward(self, h: Tensor, embedding: Tensor) -> Tensor:
        return h + self.outer(nn.functional.silu(self.inner(self.norm(h)) + self.shift(embedding)))


def zeroed(layer: nn.Linear | nn.Conv2d) -> nn.Linear | nn.Conv2d:
    """`layer` with weight and bias set to zero."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
