r"""Modified copies of training examples, to be planted among held-out ones: which share of copies would be found?

The p-values of planted copies stand for those of a model that copies in the same way. If k samples are copies, whose
p-values are drawn from the planted ones, and the list may contain no more than the stated share of false entries, then
the list is not empty as soon as k is large enough; k* is the least such k, which differs from draw to draw. With
every sample a copy with probability :math:`\pi`, independently, the copies are found with probability

.. math::  P(\text{found}) = E\left[P(\operatorname{Binomial}(S, \pi) \ge k^*)\right] ,

and the power statement is the :math:`\pi` at which this is 0.95. The other samples are not counted on. The n planted
copies are themselves a sample: in place of their distribution function i/n at the i-th smallest p-value we use its
lower confidence limit (Clopper & Pearson 1934), and the rest of the copies are not found.
"""

from collections.abc import Callable

import numpy as np
import scipy  # its subpackages are loaded when they are first used
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from diffuscope.by_parts import extremes
from diffuscope.data import Table
from diffuscope.findings import POWER

from .transformations import is_image, largest_shift, shifted

PLANTED = 100  # training examples per modification
DRAWS = 200
CONFIDENCE = 0.95
NOISE, LIGHT, BLUR, DEGREES = 0.05, 0.2, 0.5, 5.0
Events = Float[Tensor, "_ *event"]
Modification = Callable[[Events], Events]


def modifications(train: Events, generator: torch.Generator, table: Table | None = None) -> dict[str, Modification]:
    """The ways in which copies are planted, by name: exact; with noise and those of images, or those of a table."""
    if table is not None:
        return {"exact": lambda x: x, **_of_rows(train, table, generator)}
    low, high = extremes(train)
    width = high - low

    def noisy(x: Events) -> Events:
        return x + NOISE * width * torch.randn(x.shape, generator=generator)

    found: dict[str, Modification] = {"exact": lambda x: x, f"noise of {NOISE:g} of the range": noisy}
    shape = tuple(train.shape[1:])
    if not is_image(shape):
        return found

    def light(shift: float, factor: float) -> Modification:
        def modified(x: Events) -> Events:
            mean = x.flatten(1).mean(1)[:, None, None, None]
            return (mean + factor * (x - mean) + shift * width).clamp(low, high)

        return modified

    def blurred(x: Events) -> Events:
        return torch.from_numpy(scipy.ndimage.gaussian_filter(x.numpy(), (0, 0, BLUR, BLUR), mode="nearest"))

    def turned(x: Events) -> Events:
        left, right = (
            scipy.ndimage.rotate(x.numpy(), a, (2, 3), False, order=1, mode="nearest") for a in (DEGREES, -DEGREES)
        )
        even = torch.arange(len(x))[:, None, None, None] % 2 == 0
        return torch.where(even, torch.from_numpy(left), torch.from_numpy(right))

    def moved(pixels: int) -> Modification:
        def modified(x: Events) -> Events:
            across = 2 * pixels + 1
            away = torch.arange(across**2).reshape(across, across)
            away = torch.cat([away[0], away[-1], away[1:-1, 0], away[1:-1, -1]])
            chosen = away[torch.randint(len(away), (len(x),), generator=generator)]
            return shifted(x, pixels, chosen)

        return modified

    for shift in (LIGHT, -LIGHT):
        found[f"brightness {shift:+g}"] = light(shift, 1.0)
    for factor in (1 - LIGHT, 1 + LIGHT):
        found[f"contrast x{factor:g}"] = light(0.0, factor)
    found[f"blur of {BLUR:g} pixel"] = blurred
    found["mirrored"] = lambda x: x.flip(3)
    for pixels in range(1, largest_shift(shape) + 1):
        found[f"shifted by {pixels} pixel{'s' if pixels > 1 else ''}"] = moved(pixels)
    found[f"rotated by {DEGREES:g}°"] = turned
    return found


def _of_rows(train: Events, table: Table, generator: torch.Generator) -> dict[str, Modification]:
    """Columns that are taken from another row: one of them, or a quarter, as in a generator that recombines rows."""

    def other_columns(count: int) -> Modification:
        def modified(x: Events) -> Events:
            drawn = torch.rand(len(x), len(table.columns), generator=generator).argsort(1) < count
            changed = x.clone()
            for k, column in enumerate(table.columns):
                other = train[torch.randint(len(train), (len(x),), generator=generator), column.start : column.stop]
                changed[:, column.start : column.stop] = torch.where(
                    drawn[:, k, None], other, x[:, column.start : column.stop]
                )
            return changed

        return modified

    counts = {1, len(table.columns) // 4} - {0}
    named = {k: f"{k} column{'s' if k > 1 else ''} of another row" for k in sorted(counts) if k < len(table.columns)}
    return {name: other_columns(k) for k, name in named.items()}


def smallest_share_found(
    p_values: Float[ndarray, " planted"],
    samples: int,
    rate: float,
    rng: np.random.Generator,
    power: float = POWER,
    *,
    also: Float[ndarray, " samples"] | None = None,
) -> float:
    """The share of copies among `samples` samples of which at least one is listed with probability `power`.

    Infinity if not even copies alone would be. With `also`, the k-th smallest p-value must moreover be at most the k-th
    of these bounds for some k.
    """
    ordered, i, n = np.sort(p_values), np.arange(1, len(p_values) + 1), len(p_values)
    cumulative = scipy.stats.beta.ppf(1 - CONFIDENCE, i, n - i + 1)
    weights = np.append(np.diff(cumulative, prepend=0.0), 1 - cumulative[-1])
    drawn = rng.choice(np.append(ordered, 1.0), (DRAWS, samples), p=weights)
    least, most = np.zeros(DRAWS, dtype=np.int64), np.full(DRAWS, samples + 1)  # not found; found
    ranks = np.arange(1, samples + 1)
    while (most - least > 1).any():
        middle = (least + most) // 2
        copies = np.sort(np.where(ranks <= middle[:, None], drawn, 1.0), axis=1)
        found = (copies <= rate * ranks / samples).any(1)
        if also is not None:
            found &= (copies <= also).any(1)
        least, most = np.where(found, least, middle), np.where(found, middle, most)
    # P(Binomial(S, pi) >= k) is a beta distribution function; k = S + 1 is never reached

    def missing(share: float) -> float:
        return power - float(
            np.where(most <= samples, scipy.stats.beta.cdf(share, most, samples - most + 1), 0.0).mean()
        )

    return float(scipy.optimize.root_scalar(missing, bracket=(0.0, 1.0)).root) if missing(1.0) <= 0 else float("inf")
