"""What an audit of one class knows of the others: the conditional model, and all examples with their labels.

The model's classes are the labels: class 3 is audited against the examples of label 3.
"""

from dataclasses import dataclass, field
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from diffuscope.denoisers import ConditionalDenoiser
from diffuscope.errors import InputError

from .classifier import ClassifierFeatures, fit_classifier


@dataclass(frozen=True, eq=False)
class ClassData:
    """A conditional denoiser, all examples with labels, and the classes that are audited."""

    denoiser: ConditionalDenoiser
    train: Float[Tensor, "n *event"] = field(repr=False)
    heldout: Float[Tensor, "m *event"] = field(repr=False)
    train_labels: Int[Tensor, " n"] = field(repr=False)
    heldout_labels: Int[Tensor, " m"] = field(repr=False)
    asked: tuple[int, ...] = ()

    @cached_property
    def classifier(self) -> ClassifierFeatures | None:
        """A small classifier of the labels; None where they cannot be learned."""
        labels = self.train_labels.long(), self.heldout_labels.long()
        try:
            found = fit_classifier(self.train, labels[0], self.heldout, labels[1])
        except InputError:
            return None
        commonest = int(labels[1].unique(return_counts=True)[1].max()) / len(labels[1])
        return found if found.accuracy > commonest else None


@dataclass(frozen=True, eq=False)
class OneClass:
    """One class, and what there is of the others."""

    data: ClassData = field(repr=False)
    label: int

    @property
    def places(self) -> Int[Tensor, " k"]:
        """The places of the training examples of other classes among all."""
        return torch.nonzero(self.data.train_labels != self.label).flatten()

    @property
    def level(self) -> float:
        """What one class has of a level of significance: each asked class the same share (Bonferroni)."""
        return 1 / max(1, len(self.data.asked))
