"""Networks on MNIST that the user brings, and the analytic denoisers of MNIST in their range."""

import os
from functools import cache

import torch

from diffuscope.data import DataSet, load_data
from diffuscope.denoisers import Denoiser
from diffuscope.errors import InputError
from diffuscope.exact import Distribution
from diffuscope.files import load_object
from diffuscope.streams import torch_stream
from diffuscope.theory import analytic_candidates

from ..part import drawn
from .measures import Compared, measured

NETWORKS = "DIFFUSCOPE_NETWORKS"
POINTS, GRID, EVERY, LOW, COMPONENTS = 128, 16, 2, 0.1, (10,)  # trajectories among 60,000 examples are costly
Range = tuple[float, float]


def brought() -> dict[str, Denoiser]:
    """The denoisers that DIFFUSCOPE_NETWORKS names, by name; InputError where it names none."""
    expected = "expected denoisers trained on MNIST, as module:object with commas between"
    given = os.environ.get(NETWORKS)
    if not given:
        raise InputError(f"{NETWORKS}: it is not set; {expected}")
    found = {}
    for spec in map(str.strip, given.split(",")):
        made = load_object(spec, NETWORKS)
        network = made() if callable(made) and not hasattr(made, "schedule") else made
        if not isinstance(network, Denoiser):
            raise InputError(f"{NETWORKS}: {expected}, got a {type(network).__name__} from {spec}")
        found[spec.split(":")[0].split(".")[-1]] = network
    return found


def data_range(network: Denoiser) -> Range:
    """The range that the network was trained in, [-1, 1] unless it says so."""
    low, high = getattr(network, "data_range", (-1.0, 1.0))
    return float(low), float(high)


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
