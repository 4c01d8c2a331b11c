r"""A residual multilayer perceptron for vectors, or for small images flattened.

.. math::  h \leftarrow h + W_2\,\text{SiLU}\big(W_1\,\text{LayerNorm}(h) + U e(c)\big)

with e(c) the embedding of the noise label c and, where there are classes, of the class. The last layer starts at zero:
in EDM preconditioning the untrained network is the exact denoiser of an isotropic Gaussian.
"""

import math
from collections.abc import Sequence

from jaxtyping import Float, Int
from torch import Tensor, nn

from diffuscope.denoisers.networks.embedding import LabelEmbedding


class MLP(nn.Module):
    """network(x, label) or network(x, label, y) for events of any shape; `depth` residual blocks of width `width`."""

    def __init__(
        self,
        event_shape: Sequence[int],
        *,
        width: int = 256,
        depth: int = 3,
        label_span: float = 5.0,
        classes: int = 0,
    ) -> None:
        super().__init__()
        self.event_shape, self.classes = tuple(event_shape), classes
        self.arguments = {
            "event_shape": self.event_shape,
            "width": width,
            "depth": depth,
            "label_span": label_span,
            "classes": classes,
        }
        size = math.prod(self.event_shape)
        self.embedding = LabelEmbedding(width, label_span, classes)
        self.first = nn.Linear(size, width)
        self.blocks = nn.ModuleList(_Block(width) for _ in range(depth))
        self.last = nn.Sequential(nn.LayerNorm(width), zeroed(nn.Linear(width, size)))

    def forward(
        self, x: Float[Tensor, "batch *event"], label: Tensor, y: Int[Tensor, " batch"] | None = None
    ) -> Float[Tensor, "batch *event"]:
        embedding = self.embedding(label, y)
        h = self.first(x.flatten(1))
        for block in self.blocks:
            h = block(h, embedding)
        return self.last(h).reshape(x.shape)


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
