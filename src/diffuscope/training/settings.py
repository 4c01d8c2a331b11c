r"""The settings of a training run: every choice beside the data and the initial weights that determines its result.

The learning rate rises linearly over a warm-up of W steps, then falls along a cosine from its full value to a
final fraction phi of it (Loshchilov & Hutter 2017): for step k = 0, 1, ..., K - 1

.. math::  \eta_k = \eta\,\frac{k+1}{W} \ (k < W), \qquad
           \eta_k = \eta\left[\varphi + (1 - \varphi)\,\tfrac{1}{2}\left(1 + \cos\pi\frac{k - W}{K - W}\right)\right] ;

phi = 1 keeps it constant.
"""

import math
from dataclasses import dataclass, field
from typing import Literal, get_args

from diffuscope.errors import InputError
from diffuscope.streams import require_seed

from .objective import Denoising, EDMWeight, LogNormalNoise, NoiseDistribution, Objective, Weight
from .unbiased_risk import Implicit, ImplicitByProbe, Sliced

Precision = Literal["float32", "bfloat16"]
"""The values of `precision`, whose type is a plain string so that any other raises InputError."""


@dataclass(frozen=True)
class TrainingSettings:
    """AdamW on the objective (by default denoising), with clipped gradients and averaged weights.

    `max_gradient_norm` caps the Euclidean norm of the whole gradient (infinity: no cap); `average_decay` is the
    beta of the weight average; `seed` determines batches, noise levels and noise. `class_dropout` is the share of a
    batch whose classes are dropped, so that guidance has an unconditional model. `precision` "bfloat16" and `compiled`
    make steps faster and change results by rounding only (see `evaluation`). Raises InputError for a value outside its
    range, and for `compiled` with an objective that differentiates twice, which torch cannot compile.

    >>> from diffuscope.training import TrainingSettings
    >>> settings = TrainingSettings(steps=10, learning_rate=0.8, warmup_steps=2, final_fraction=0.25)
    >>> [round(settings.learning_rate_at(k), 6) for k in (0, 1, 6)]  # 0.8 / 2, 0.8, 0.8 (0.25 + 0.75 / 2)
    [0.4, 0.8, 0.5]
    """

    steps: int = 10_000
    batch_size: int = 128
    learning_rate: float = 1e-3
    warmup_steps: int = 100
    final_fraction: float = 0.0
    weight_decay: float = 0.0
    max_gradient_norm: float = 1.0
    average_decay: float = 0.999
    noise: NoiseDistribution = field(default_factory=LogNormalNoise)
    weight: Weight = field(default_factory=EDMWeight)
    objective: Objective = field(default_factory=Denoising)
    class_dropout: float = 0.1
    precision: str = "float32"
    compiled: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        _require(self.steps >= 1, "steps", self.steps, "a whole number >= 1")
        _require(self.batch_size >= 1, "batch_size", self.batch_size, "a whole number >= 1")
        _require(0 < self.learning_rate < math.inf, "learning_rate", self.learning_rate, "a number > 0")
        _require(self.warmup_steps >= 0, "warmup_steps", self.warmup_steps, "a whole number >= 0")
        _require(0 <= self.final_fraction <= 1, "final_fraction", self.final_fraction, "a number in [0, 1]")
        _require(0 <= self.weight_decay < math.inf, "weight_decay", self.weight_decay, "a number >= 0")
        _require(self.max_gradient_norm > 0, "max_gradient_norm", self.max_gradient_norm, "a number > 0")
        _require(0 <= self.average_decay < 1, "average_decay", self.average_decay, "a number in [0, 1)")
        _require(0 <= self.class_dropout <= 1, "class_dropout", self.class_dropout, "a number in [0, 1]")
        _require(self.precision in get_args(Precision), "precision", self.precision, " or ".join(get_args(Precision)))
        twice = isinstance(self.objective, Implicit | ImplicitByProbe | Sliced)
        _require(not (self.compiled and twice), "compiled", "True", f"False for {type(self.objective).__name__}")
        require_seed(self.seed)

    def learning_rate_at(self, step: int) -> float:
        """eta_k for `step` = k, counted from zero."""
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / self.warmup_steps
        angle = math.pi * (step - self.warmup_steps) / max(1, self.steps - self.warmup_steps)
        return self.learning_rate * (self.final_fraction + (1 - self.final_fraction) * (1 + math.cos(angle)) / 2)


def _require(holds: bool, name: str, given: float | int | str, expected: str) -> None:
    if not holds:
        raise InputError(f"{name}: expected {expected}, got {given}")
