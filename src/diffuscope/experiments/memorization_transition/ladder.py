"""The ladder: one network, one number of steps, training sets of different sizes, several independent ones of each.

Sets have 8, 16, 32, 64, 128, 256, 512 and 1,024 examples, 8 sets of each size; 2,400 steps are of 64 examples.

Every rung of every set has its own examples and its own initial weights; all are trained side by side, so that they
share the noise levels of a batch, and the permutation that orders the rows (repeated to one length) in an epoch.
"""

from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.denoisers import Preconditioned
from diffuscope.training import Denoising, fit

from ..side_by_side import SideBySide, stacked
from ..three_modes import MODES, alone, as_denoiser, generated, settings, small_networks

SIZES = (8, 16, 32, 64, 128, 256, 512, 1024)
SETS, STEPS, BATCH = 8, 2400, 64


@dataclass(frozen=True, eq=False)
class Ladder:
    """Trained networks and their data: `examples[s][k]` are those of set s at the size `sizes[k]`."""

    sizes: tuple[int, ...]
    examples: tuple[tuple[Float[Tensor, "_ 2"], ...], ...]
    denoiser: Preconditioned

    @property
    def sets(self) -> int:
        """How many training sets there are of every size."""
        return len(self.examples)

    def alone(self, which: int, rung: int) -> Preconditioned:
        """The network of set `which` at the size `sizes[rung]`."""
        return alone(self.denoiser, which * len(self.sizes) + rung)

    def generated(self, starts: Float[Tensor, "samples sets sizes 2"]) -> Float[Tensor, "samples sets sizes 2"]:
        """The samples of every network from standard normal `starts`."""
        return generated(self.denoiser, starts.flatten(1, 2).float()).reshape(starts.shape)


@lru_cache(maxsize=1)  # the parts share it
def climbed(seed: int) -> Ladder:
    """The ladder after training; data, weights and batches follow from `seed`."""
    generator = torch.Generator().manual_seed(seed)
    examples = tuple(tuple(MODES.sample(n, generator=generator) for n in SIZES) for _ in range(SETS))
    networks = small_networks(SETS * len(SIZES), seed)
    denoiser = as_denoiser(SideBySide(networks), len(networks))
    data = stacked([rows for rungs in examples for rows in rungs])
    return Ladder(SIZES, examples, fit(denoiser, data, settings(STEPS, BATCH, seed, Denoising())).eval())
