r"""CIFAR-10's training images and their Gaussian, for experiments about them.

The images stay in their own range [0, 255] in float32 (0.6 GB); a level of noise on pixels in [-1, 1] is
:math:`127.5\,\sigma` there, and the Gaussian is rescaled instead. The fit is float64 in chunks, with one 3072 x 3072
matrix: 1.5 GB in all.
"""

from dataclasses import dataclass
from functools import cache

from diffuscope.data import DataSet, load_data
from diffuscope.exact import Gaussian

CHUNK = 2048  # images


@dataclass(frozen=True, eq=False)
class Cifar:
    """The data in their own range, the Gaussian of the training images in [-1, 1], and pixel units of one there."""

    data: DataSet
    gaussian: Gaussian
    unit: float


@cache
def cifar() -> Cifar:
    """CIFAR-10 as `load_data` finds it; InputError with how to get it where it is absent."""
    data = load_data("cifar10")
    low, high = data.data_range
    unit = (high - low) / 2
    fitted = Gaussian.fit(data.train.split(CHUNK))
    return Cifar(data, fitted.rescale(1 / unit, -1 - low / unit), unit)
