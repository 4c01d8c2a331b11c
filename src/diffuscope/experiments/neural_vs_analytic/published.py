"""The analytic denoisers of MNIST in the range of a network that the user brings, and how it compares with them.

It is compared at 128 points of each set, and along trajectories of 16 steps to sigma = 0.1, every second a level; so
few because trajectories among 60,000 examples are costly. The mixture has 10 components.
"""

from functools import cache

import torch

from diffuscope.data import DataSet, load_data
from diffuscope.denoisers import Denoiser
from diffuscope.exact import Distribution
from diffuscope.streams import torch_stream
from diffuscope.theory import analytic_candidates

from ..brought_networks import data_range
from ..part import drawn
from .measures import Compared, measured

POINTS, GRID, EVERY, LOW, COMPONENTS = 128, 16, 2, 0.1, (10,)
Range = tuple[float, float]


@cache
def mnist(span: Range) -> DataSet:
    """MNIST in this range; InputError where it is absent."""
    return load_data("mnist").in_range(*span)


@cache
def candidates(span: Range, seed: int) -> dict[str, Distribution]:
    """The analytic denoisers of the training images in this range."""
    generator, unit = torch_stream(seed, "neural-vs-analytic", "MNIST"), (span[1] - span[0]) / 2
    return analytic_candidates(mnist(span).train, COMPONENTS, ridge=1e-5 * unit**2, generator=generator)


def compared(network: Denoiser, seed: int, generator: torch.Generator) -> Compared:
    """One network at all levels, and along its trajectories."""
    span = data_range(network)
    data = mnist(span)
    sets = {"held-out": drawn(data.heldout, POINTS, generator), "training": drawn(data.train, POINTS, generator)}
    return measured(
        network,
        candidates(span, seed),
        sets,
        unit=(span[1] - span[0]) / 2,
        steps=GRID,
        every=EVERY,
        low=LOW,
        generator=generator,
    )
