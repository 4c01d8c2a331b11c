r"""The noise label, and the class where there is one, as a vector: sinusoids, then a small MLP.

.. math::  \cos(2\pi f_k c / L), \ \sin(2\pi f_k c / L), \qquad f_k = \tfrac12 \cdot 64^{k/(K-1)}, \quad k = 0..K-1,

where L is the width of the interval of the labels: 5 for EDM's label, 1 for a time in [0, 1], T for the index of one
of T steps. The lowest frequency distinguishes the two ends, the highest resolves L/32.

A class y = 0 .. C-1 adds a learned vector v_y before the first nonlinearity, and v_C stands for 'no class'. The class
vectors start as independent normal vectors, distinct from the first step on; v_C starts at zero.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from diffuscope.errors import InputError

SINUSOIDS = 16


class LabelEmbedding(nn.Module):
    """Labels of shape (batch,), each optionally with one of `classes` classes, as vectors of shape (batch, width)."""

    def __init__(self, width: int, label_span: float, classes: int = 0) -> None:
        super().__init__()
        if classes < 0:
            raise InputError(f"classes: expected a number >= 0, got {classes}")
        self.label_span = label_span
        self.first = nn.Linear(2 * SINUSOIDS, width)
        self.second = nn.Linear(width, width)
        self.of_class = nn.Parameter(torch.randn(classes + 1, width)) if classes else None
        if self.of_class is not None:
            nn.init.zeros_(self.of_class[-1])

    def forward(self, label: Tensor, y: Int[Tensor, " batch"] | None = None) -> Float[Tensor, "batch width"]:
        dtype = self.first.weight.dtype
        exponents = torch.linspace(0, 1, SINUSOIDS, dtype=dtype, device=label.device)
        frequencies = math.pi * 64**exponents
        phases = (label.to(dtype) / self.label_span)[:, None] * frequencies
        hidden = self.first(torch.cat([phases.cos(), phases.sin()], dim=1))
        if self.of_class is not None:
            # not self.of_class[y]: several threads would sum its gradient in an undetermined order
            hidden = hidden + (self.of_class[-1] if y is None else nn.functional.embedding(y, self.of_class))
        return nn.functional.silu(self.second(nn.functional.silu(hidden)))
