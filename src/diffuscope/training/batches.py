"""Minibatches by index: one endless stream of fresh permutations, cut into batches of equal size.

Every example occurs once per epoch. A batch may span two epochs or more, so that all batches have the same size even
if it exceeds the number of examples. A checkpoint stores the current permutation and the position in it.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor


@dataclass(eq=False)
class EpochPermutations:
    """The stream over `permutation`; `position` is the place in it of the next index."""

    permutation: Int[Tensor, " examples"]
    position: int

    @classmethod
    def start(cls, examples: int, generator: torch.Generator) -> "EpochPermutations":
        """The first epoch of a stream over `examples` examples."""
        return cls(_permutation(examples, generator), 0)

    def next_batch(self, size: int, generator: torch.Generator) -> Int[Tensor, " size"]:
        """The next `size` indices; a new permutation is drawn from `generator` where an epoch ends."""
        parts: list[Tensor] = []
        while size > 0:
            if self.position == len(self.permutation):
                self.permutation, self.position = _permutation(len(self.permutation), generator), 0
            part = self.permutation[self.position : self.position + size]
            parts.append(part)
            self.position += len(part)
            size -= len(part)
        return parts[0] if len(parts) == 1 else torch.cat(parts)


def _permutation(examples: int, generator: torch.Generator) -> Tensor:
    return torch.randperm(examples, generator=generator, device=generator.device)
