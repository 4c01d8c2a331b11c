r"""Where the posterior of a random walk lies, and at which spacing its lattice is exact enough.

With w = 1/sqrt(max p_i) the spacing is h = min(w, scale of the jumps) / resolution, up to twice that where w is beyond
3 scales (what the jumps add to is smoother then), and at most 2.5/sqrt(sum p_i) / resolution for jumps with an atom: a
path that rests at one value narrows it to 1/sqrt(sum p_i). Windows begin as wide as the factors (8.5/sqrt(p_i) about
c_i) and the prior allow, and shrink to the posterior means and standard deviations that a coarse lattice of 128 nodes
gives, until they no longer shrink by a quarter.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.errors import InputError

from .lattice import Chain, LatticeLaw, chain
from .levy import LevyProcess
from .observations import LinearObservation, Values

COARSE, LARGEST = 128, 16384  # nodes of a window
WIDE = 8.5  # a factor exp(-8.5^2 / 2) is 2e-16


def walk_posterior(
    process: LevyProcess,
    precision: Float[Tensor, " n"],
    center: Float[Tensor, "batch n"],
    *,
    resolution: float | int = 4.0,
) -> Chain:
    """The posterior of the process under factors exp(-p_i (x_i - c_i)^2 / 2), exact to the lattice's resolution.

    Raises InputError where a window would need more than 16,384 nodes.

    >>> from diffuscope.physics.levy import GaussianJumps
    >>> walk = walk_posterior(LevyProcess(GaussianJumps(), 1), torch.ones(1).double(), torch.ones(1, 1).double())
    >>> round(float(walk.mean), 9), round(float(walk.variance), 9)
    (0.5, 0.5)
    """
    law, width = process.law, float(precision.max().rsqrt())
    h = min(width, law.scale * min(max(width / (3 * law.scale), 1), 2)) / resolution
    if law.atom > 0:
        h = min(h, 2.5 * float(precision.sum().rsqrt()) / resolution)
    if not bool((center.abs() / h < 2**52).all()):
        raise InputError(f"center: expected values within {2**52 * h:.1g}, got {float(center.abs().max()):.3g}")
    reach = (WIDE / precision.sqrt()).expand_as(center)
    bound = _prior_reach(process)
    bound = torch.maximum(bound, center.abs().where(precision > 0, 0.0).amax(1, keepdim=True) + bound[-1])
    low, high = torch.maximum(center - reach, -bound), torch.minimum(center + reach, bound)
    first_low, first_high = low, high
    width = float((high - low).max())
    while width > COARSE * h:
        coarse = chain(
            *_windows(LatticeLaw(law, width / (COARSE - 2), COARSE, cells=True), low, high), precision, center
        )
        mean, spread = coarse.mean, coarse.variance.sqrt()
        half = 8 * spread + torch.minimum(6 * spread, torch.tensor(law.tail(1e-9))) + 2 * coarse.law.h
        low, high = torch.maximum(mean - half, first_low), torch.minimum(mean + half, first_high)
        narrower = float((high - low).max())
        if narrower > 0.75 * width:
            break
        width = narrower
    K = _fast_length(math.ceil(float((high - low).max()) / h) + 2)
    if K > LARGEST:
        raise InputError(
            f"center: expected a posterior that {LARGEST:,} nodes resolve, got one that is {K:,} spacings of {h:.2g} "
            "wide"
        )
    return chain(*_windows(LatticeLaw(law, h, K), low, high), precision, center)


def pointwise(observation: LinearObservation, y: Values) -> tuple[Float[Tensor, " n"], Float[Tensor, "problems n"]]:
    """(p, c) of an observation whose rows see one entry each; raises InputError for others, and for noise 0."""
    H, r = observation.matrix, observation.noise
    if bool(((H != 0).sum(1) != 1).any()) or r == 0:
        raise InputError("observation: expected noisy values of single entries, got averages or noise 0")
    y = torch.atleast_2d(y).double()
    precision = H.square().sum(0) / r**2
    return precision, (y @ H / r**2) / precision.where(precision > 0, 1.0)


def _prior_reach(process: LevyProcess) -> Float[Tensor, " n"]:
    """What |x_i| exceeds with negligible probability: 8 standard deviations and one extreme jump."""
    law, i = process.law, torch.arange(1, process.length + 1, dtype=torch.float64)
    spread = math.sqrt(law.variance) if math.isfinite(law.variance) else law.tail(0.1)
    return 8 * spread * i.sqrt() + law.tail(1e-9 / process.length)


def _windows(lattice: LatticeLaw, low: Tensor, high: Tensor) -> tuple[LatticeLaw, Tensor]:
    """Windows of K nodes about the middle of every interval."""
    return lattice, ((low + high) / (2 * lattice.h)).round().long() - lattice.K // 2


def _fast_length(n: int) -> int:
    """The least 2^a 3^b 5^c from n, for the FFT."""
    while True:
        rest = n
        for factor in (2, 3, 5):
            while rest % factor == 0:
                rest //= factor
        if rest == 1:
            return n
        n += 1
