"""Networks on MNIST that the user brings, by the environment variable DIFFUSCOPE_NETWORKS."""

import os

from diffuscope.denoisers import Denoiser
from diffuscope.errors import InputError
from diffuscope.files import load_object

from .part import PIXEL_RANGE

NETWORKS = "DIFFUSCOPE_NETWORKS"


def brought() -> dict[str, Denoiser]:
    """The denoisers that DIFFUSCOPE_NETWORKS names, by the name of their module; InputError where it names none."""
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


def data_range(network: Denoiser) -> tuple[float, float]:
    """The range that the network was trained in, [-1, 1] unless it says so."""
    low, high = getattr(network, "data_range", PIXEL_RANGE)
    return float(low), float(high)
