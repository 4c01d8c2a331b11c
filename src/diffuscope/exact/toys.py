r"""Well-known toy distributions in the plane, each with its exact diffusion: ground truth for learned scores.

==================  =======================================================================================
`two-moons`         arcs (cos th, sin th) and (1 - cos th, 1/2 - sin th), th uniform on [0, pi]; jitter 0.05
`spirals`           arms +-(2 / 3 pi) th (cos th, sin th), th^2 uniform on [0, (3 pi)^2]; jitter 0.05
`swiss-roll`        (4 / 9 pi) th (cos th, sin th), th uniform on [3/2 pi, 9/2 pi]; jitter 0.05
`rings`             circles of radius 1/2, 1, 3/2, 2, equally likely; jitter 0.05
`checkerboard`      uniform on the 8 squares (i + j even) of a board of 4 x 4 squares of side 1 about 0
==================  =======================================================================================

Rings and board are known in closed form, the others by quadrature along the curve to 1e-12 (see `curve`).
The spirals' density in th grows like th, so that the density along their arms is about even. The swiss roll is
scikit-learn's without its depth, scaled to outer radius 2.
"""

import math
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

from diffuscope.errors import InputError

from .affine import Affine
from .blurred import Blurred
from .box import Box
from .curve import Curve
from .distribution import Distribution
from .ring import Ring
from .superposition import Superposition

Number = float | int
JITTER = 0.05
OUTSIDE = 8.0  # the stated range ends this many jitters outside the curve: one value in 1e15 lies beyond


def two_moons(jitter: Number = JITTER, *, smallest_noise: Number = 0.0, accuracy: float = 1e-12) -> Superposition:
    """Two interleaved half circles; the options are those of `Curve`, here and below.

    >>> import torch
    >>> from diffuscope.exact import two_moons
    >>> D = two_moons(0.5, accuracy=1e-9).denoise(torch.ones(1, 2, dtype=torch.float64), alpha=0.0, sigma=1.0)
    >>> [round(value, 6) for value in D[0].tolist()]  # the mean: of (0, 2/pi) and (1, 1/2 - 2/pi)
    [0.5, 0.25]
    """
    options = {"jitter": jitter, "smallest_noise": smallest_noise, "accuracy": accuracy}

    def upper(v: Tensor) -> Tensor:
        return torch.stack([(math.pi * v).cos(), (math.pi * v).sin()], 1)

    def lower(v: Tensor) -> Tensor:
        return torch.stack([1 - (math.pi * v).cos(), 0.5 - (math.pi * v).sin()], 1)

    return Superposition([Curve(upper, **options), Curve(lower, **options)])


def spirals(jitter: Number = JITTER, *, smallest_noise: Number = 0.0, accuracy: float = 1e-12) -> Superposition:
    """Two interleaved arms of one and a half turns and radius 2.

    >>> import torch
    >>> from diffuscope.exact import spirals
    >>> x_t = torch.ones(1, 2, dtype=torch.float64)
    >>> covariance = spirals(0.5, accuracy=1e-9).posterior_covariance(x_t, alpha=0.0, sigma=1.0)
    >>> round(covariance.trace().item(), 6)  # of the data: E r^2 = 2, and 2 * 0.5^2
    2.5
    """
    options = {"jitter": jitter, "smallest_noise": smallest_noise, "accuracy": accuracy}

    def arm(sign: int) -> Callable[[Tensor], Tensor]:
        def point(v: Tensor) -> Tensor:
            angle = 3 * math.pi * v
            return sign * 2 * v[:, None] * torch.stack([angle.cos(), angle.sin()], 1)

        return point

    return Superposition([Curve(arm(sign), lambda v: 2 * v, torch.sqrt, **options) for sign in (1, -1)])


def swiss_roll(jitter: Number = JITTER, *, smallest_noise: Number = 0.0, accuracy: float = 1e-12) -> Curve:
    """One spiral of one and a half turns, from radius 2/3 to 2.

    >>> import torch
    >>> from diffuscope.exact import swiss_roll
    >>> D = swiss_roll(0.5, accuracy=1e-9).denoise(torch.ones(1, 2, dtype=torch.float64), alpha=0.0, sigma=1.0)
    >>> [round(value, 6) for value in D[0].tolist()]  # the mean: 8 / 9 pi and 8 / 27 pi^2
    [0.282942, 0.030021]
    """

    def point(v: Tensor) -> Tensor:
        angle = 1.5 * math.pi * (1 + 2 * v)
        return 2 * angle[:, None] / (4.5 * math.pi) * torch.stack([angle.cos(), angle.sin()], 1)

    return Curve(point, jitter=jitter, smallest_noise=smallest_noise, accuracy=accuracy)


def rings(jitter: Number = JITTER, *, radii: tuple[Number, ...] = (0.5, 1.0, 1.5, 2.0)) -> Superposition:
    """Concentric circles, equally likely; in closed form. Raises InputError for radii that are not finite and > 0.

    >>> import torch
    >>> from diffuscope.exact import rings
    >>> data, center = rings(0.6, radii=(1.0, 3.0)), torch.zeros(1, 2, dtype=torch.float64)
    >>> round(data.log_prob(center, alpha=1.0, sigma=0.8).exp().item(), 6)  # (e^(-1/2) + e^(-9/2)) / 4 pi
    0.04915
    """
    if not all(math.isfinite(radius) and radius > 0 for radius in radii):
        raise InputError(f"radii: expected finite numbers > 0, got {radii}")
    return Superposition([Blurred(Ring(float(radius)), jitter) for radius in radii])


def checkerboard(cells: int = 4, *, side: Number = 1.0) -> Superposition:
    """Uniform on the squares (i, j), i + j even, of a board of cells x cells squares about the origin; closed form.

    Raises InputError for less than one cell, and a side that is not finite and > 0.

    >>> import torch
    >>> from diffuscope.exact import checkerboard
    >>> x_t = torch.tensor([[0.0, 0.0], [2.0, 0.0]], dtype=torch.float64)
    >>> density = checkerboard(3, side=2.0).log_prob(x_t, alpha=1.0, sigma=0.01).exp()
    >>> [round(value, 6) for value in density.tolist()]  # one in 5 squares of area 4, or none
    [0.05, 0.0]
    """
    if cells < 1:
        raise InputError(f"cells: expected at least 1, got {cells}")
    if not (math.isfinite(side) and side > 0):
        raise InputError(f"side: expected a finite number > 0, got {side}")
    corners = [
        side * (torch.tensor([i, j], dtype=torch.float64) - cells / 2)
        for i in range(cells)
        for j in range(cells)
        if (i + j) % 2 == 0
    ]
    return Superposition([Box(corner, corner + side) for corner in corners])


TOYS: dict[str, Callable[[], Superposition | Curve]] = {
    "two-moons": two_moons,
    "spirals": spirals,
    "swiss-roll": swiss_roll,
    "rings": rings,
    "checkerboard": checkerboard,
}

# lowest and highest coordinate of the clean curve, and whether the distribution is jittered around it
_ENDS = {
    "two-moons": (-1.0, 2.0, True),
    "spirals": (-2.0, 2.0, True),
    "swiss-roll": (-2.0, 2.0, True),
    "rings": (-2.0, 2.0, True),
    "checkerboard": (-2.0, 2.0, False),
}


def known_range(name: str) -> tuple[float, float]:
    """The stated range of values of the toy data set `name`: 8 jitters beyond the clean distribution's ends.

    >>> from diffuscope.exact import known_range
    >>> [round(end, 6) for end in known_range("two-moons")]  # -1 and 2, and 8 jitters of 0.05
    [-1.4, 2.4]
    """
    low, high, jittered = _ENDS[_checked(name)]
    margin = OUTSIDE * JITTER if jittered else 0.0
    return low - margin, high + margin


def known_distribution(name: str, data_range: tuple[Number, Number] | None = None) -> Distribution:
    """The distribution of the toy data set `name`, in its own units or mapped to `data_range`.

    With `data_range` it is the distribution of `load_data(name).in_range(*data_range)`. Raises InputError for an
    unknown name, and unless the range is two finite numbers, the lower first.

    >>> import torch
    >>> from diffuscope.exact import known_distribution
    >>> data = known_distribution("checkerboard", (0.0, 2.0))  # 8 squares of area 1/4
    >>> round(data.log_prob(torch.full((1, 2), 0.25, dtype=torch.float64), alpha=1.0, sigma=0.01).exp().item(), 6)
    0.5
    """
    distribution = _distribution(_checked(name))
    if data_range is None:
        return distribution
    low, high = data_range
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise InputError(f"data_range: expected two finite numbers, the lower first, got {data_range}")
    own_low, own_high = known_range(name)
    scale = (high - low) / (own_high - own_low)
    return Affine(distribution, scale, low - scale * own_low)


@cache  # resolving a curve takes a second
def _distribution(name: str) -> Distribution:
    return TOYS[name]()


def _checked(name: str) -> str:
    if name not in TOYS:
        raise InputError(f"name: expected one of {', '.join(TOYS)}, got {name!r}")
    return name
