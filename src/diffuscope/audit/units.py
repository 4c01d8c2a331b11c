r"""Are model, samples and data in the same units? Affine maps x = a u + b between them, tried and tested.

*The model.* If its own values are u = (x - b)/a, it denoises :math:`(x_0 - b)/a` at noise level rho/a better than it
denoises x_0 at rho, as a share of the variance. Tried are the maps between the usual ranges ([0, 1], [-1, 1], [-1/2,
1/2], [0, 255], [0, 16], mean 0 and variance 1), each also with its sign reversed, and the map between the first two
moments of its samples and of the data. The test is the one for readings: found on some examples, paired on others.

*Samples.* Each map of the samples is judged by the distances to the nearest training example; so are reversed channels,
exchanged axes, and pictures upside down. It is a fault if nearly all samples are much nearer after the map.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy  # its subpackages are loaded when they are first used
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from diffuscope.by_parts import coordinate_mean, extremes, mean_and_variance
from diffuscope.byte_examples import float_parts
from diffuscope.denoisers import Denoiser

from .conventions import READINGS, Variances, declared, relative_errors
from .reading_search import EXPLAINS, SEARCH_POINTS, SIMPLER, error_ratio, formula_error, larger_p_value
from .rows_of import few_enough, nearest_rows, rows_of
from .shared_neighbors import nearest_neighbors

Points = Float[Tensor, "_ *event"]
RANGES = ((0.0, 1.0), (-1.0, 1.0), (-0.5, 0.5), (0.0, 255.0), (0.0, 16.0), (0.0, 65535.0))
NEARER, ALL = 0.7, 0.9  # a map of samples is a fault if ALL of them get nearer, and their median distance falls so
FARTHER = 1e-3  # ... and if they are farther from the data than held-out examples, with this p-value
SAME_UNITS = 1.6  # ... or if their deviation differs from the data's by more than this factor
SHIFT = 1.0  # ... or their mean by more than so many deviations of the data
SAME = 1e-5  # deviations of the data: two examples whose coordinates differ by less are one
COMPARED, SEARCHED = 5000, 200  # training examples and samples whose distances are taken


@dataclass(frozen=True)
class Affine:
    """x = scale * u + offset, from other units u to the data's x."""

    name: str
    scale: float
    offset: float

    def to_data(self, u: Tensor) -> Tensor:
        """u in the data's units."""
        return self.scale * u + self.offset

    def from_data(self, x: Tensor) -> Tensor:
        """x in the other units."""
        return (x - self.offset) / self.scale

    def written(self) -> str:
        """The formula."""
        return f"data = {self.scale:.4g} × value {'−' if self.offset < 0 else '+'} {abs(self.offset):.4g}"


def moments(x: Points, center: Tensor) -> tuple[float, float]:
    """Medians over samples: of their mean, and of their root mean square distance from `center`, per coordinate.

    Medians, because wrong units move all samples, and a few that exploded are another fault.

    >>> x = torch.tensor([[1.0, 1.0], [5.0, 9.0], [2.0, 4.0]], dtype=torch.float64)  # means 1, 7 and 3
    >>> mean, distance = moments(x, torch.tensor([1.0, 2.0], dtype=torch.float64))
    >>> mean, round(distance**2, 6)  # the squares are 1/2, 65/2 and 5/2
    (3.0, 2.5)
    >>> x[0].tolist()  # as it was
    [1.0, 1.0]
    """
    means, distances = each_moments(x, center)
    return float(means.median()), float(distances.median())


def each_moments(x: Points, center: Tensor) -> tuple[Float[Tensor, " _"], Float[Tensor, " _"]]:
    """Of every sample its mean, and its root mean square distance from `center`, per coordinate."""
    means, distances = [], []
    for part in float_parts(x):
        rows = part.flatten(1).double()
        means.append(rows.mean(1))
        distances.append((rows - center.flatten()).square_().mean(1).sqrt())
    return torch.cat(means), torch.cat(distances)


def usual_maps(data_range: tuple[float, float], mean: float, deviation: float) -> list[Affine]:
    """From each of RANGES, and from standardized values, to the data; with reversed signs too. Not the identity."""
    low, high = data_range
    maps = []
    for a, b in RANGES:
        scale = (high - low) / (b - a)
        maps.append(Affine(f"[{a:g}, {b:g}]", scale, low - scale * a))
        maps.append(Affine(f"[{a:g}, {b:g}], light and dark exchanged", -scale, high + scale * a))
    maps.append(Affine("mean 0 and variance 1", deviation, mean))
    return [m for m in maps if not (math.isclose(m.scale, 1, rel_tol=0.02) and abs(m.offset) < 0.02 * (high - low))]


@dataclass(frozen=True, kw_only=True)
class ModelUnits:
    """The best other units, and the model's errors as given over those in them."""

    name: str
    written: str
    cost: float
    p_value: float
    tried: int
    denoises: bool  # whether it is a denoiser in these units: better than a formula that knows mean and deviation only


def best_units(
    denoiser: Denoiser,
    variances: Variances,
    levels: Float[ndarray, " levels"],
    clean: Points,
    noise: Points,
    train: Points,
    own: Points | None,
    rng: np.random.Generator,
) -> ModelUnits:
    """Search on the first examples, test on the rest; `own` are samples of the model, if there are any."""
    given, data = declared(denoiser), {"": READINGS["clean data"]}

    def errors(units: Affine, x: Points, noise: Points) -> Float[ndarray, "levels _"]:
        u, scale = units.from_data(x), abs(units.scale)
        rows = [relative_errors(given, data, float(r) / scale, u, noise, variances / scale**2)[0] for r in levels]
        return np.stack(rows)

    mean, deviation = _pooled(train[:COMPARED])
    maps = [Affine("the data's", 1.0, 0.0), *usual_maps(extremes(train), mean, deviation)]
    own_mean, own_deviation = (0.0, 0.0) if own is None else _pooled(own)
    if own_deviation > 0:
        scale = deviation / own_deviation
        maps.append(Affine("the range of its samples", scale, mean - scale * own_mean))
    few, rest = (clean[:SEARCH_POINTS], noise[:SEARCH_POINTS]), (clean[SEARCH_POINTS:], noise[SEARCH_POINTS:])
    scores = np.array([np.log(errors(m, *few).mean(1)).mean() for m in maps])
    best = maps[int(np.flatnonzero(scores <= scores.min() + math.log(SIMPLER))[0])]  # the usual ones come first
    as_given = errors(maps[0], *rest)
    mapped = as_given if best is maps[0] else errors(best, *rest)
    cost, p_value = error_ratio(as_given, mapped), larger_p_value(as_given, mapped, rng)
    denoises = error_ratio(mapped, formula_error(variances, levels)[:, None]) <= EXPLAINS
    return ModelUnits(
        name=best.name, written=best.written(), cost=cost, p_value=p_value, tried=len(maps), denoises=denoises
    )


@dataclass(frozen=True, kw_only=True)
class SampleUnits:
    """The map that brings samples nearest to the data, and what it changes."""

    name: str  # of the best map; empty if the samples are best as they are
    written: str
    nearer: float  # share of the samples that are nearer after it
    before: float  # median distance to the nearest training example, over that of held-out examples
    after: float
    deviation: float  # median distance of the samples from the data's mean, over that of the data
    shift: float  # of their median mean, in those units
    heldout: tuple[int, int]  # how many of how many samples are held-out examples, up to rounding
    chance: float  # the share of held-out examples that are so near to another one
    no_farther: float = 0.0  # p-value: they are as near to training examples as held-out examples are, or nearer

    @property
    def fault(self) -> bool:
        """Whether they are too far from the training examples, and a map makes nearly all of them much nearer.

        A map into the densest part of skewed data makes also honest samples nearer.
        """
        much = self.nearer >= ALL and self.after < NEARER * self.before
        return bool(self.name) and much and self.no_farther < FARTHER

    @property
    def far(self) -> bool:
        """Whether mean or deviation are not the data's."""
        return not _alike(self.shift, self.deviation, 0.0, 1.0)


def _pooled(x: Points) -> tuple[float, float]:
    """The mean over all coordinates, and the standard deviation of a coordinate: sqrt(tr Sigma / D)."""
    mean, variance = mean_and_variance(x)
    return mean, math.sqrt(variance)


def _alike(mean: float, deviation: float, of_data: float, scale: float) -> bool:
    return 1 / SAME_UNITS < deviation / scale < SAME_UNITS and abs(mean - of_data) < SHIFT * scale


def rearrangements(event: tuple[int, ...]) -> dict[str, Callable[[Tensor], Tensor]]:
    """Ways in which whole images may be turned around; those alone that keep the shape."""
    maps: dict[str, Callable[[Tensor], Tensor]] = {}
    if len(event) == 3 and event[0] in (1, 3):
        if event[1] == event[2]:
            maps["exchanged height and width"] = lambda x: x.transpose(2, 3)
        maps["turned upside down"] = lambda x: x.flip(2)
        if event[0] == 3:
            maps["channels in reversed order"] = lambda x: x.flip(1)
    return maps


def sample_units(
    samples: Points, train: Points, heldout: Points, data_range: tuple[float, float], rng: np.random.Generator
) -> SampleUnits:
    """Compare SEARCHED samples with COMPARED training examples under every map."""

    def some(x: Points, n: int) -> Points:
        return x[torch.from_numpy(np.sort(rng.permutation(len(x))[:n]))]

    compared, chosen = some(train, few_enough(COMPARED, samples[0].numel())), some(samples, SEARCHED)
    references, center = compared.flatten(1), coordinate_mean(compared)
    mean, deviation = moments(compared, center)

    def distances(x: Points) -> Float[ndarray, " n"]:
        return nearest_neighbors(x.flatten(1).float(), references, 1)[0][:, 0].double().numpy()

    unseen, before = distances(some(heldout, SEARCHED)), distances(chosen)
    null = max(float(np.median(unseen)), 1e-12)
    tried: list[tuple[str, str, Callable[[Tensor], Tensor]]] = [
        (f"values in {m.name}", m.written(), m.to_data) for m in usual_maps(data_range, *_pooled(compared))
    ]
    tried += [(name, name, turn) for name, turn in rearrangements(tuple(train.shape[1:])).items()]
    best, after = ("", ""), before
    for name, written, mapped in tried:
        moved = mapped(chosen)
        # a map that merely shrinks samples to a dull image brings them nearer to everything
        if _alike(*moments(moved, center), mean, deviation) and np.median(
            found := distances(moved)
        ) < NEARER * np.median(after):
            best, after = (name, written), found
    own_mean, own_deviation = moments(samples, center)
    rounding, others = SAME * deviation * math.sqrt(samples[0].numel()), rows_of(heldout)
    same = nearest_rows(chosen.flatten(1).float(), others, 1)[0][:, 0] < rounding
    # among as many as samples are searched in: the chance grows with their number
    alike = nearest_rows(some(heldout, SEARCHED).flatten(1), others, 2)[0][:, 1] < rounding
    return SampleUnits(
        name=best[0],
        written=best[1],
        nearer=float((after < before).mean()) if best[0] else 0.0,
        before=float(np.median(before)) / null,
        after=float(np.median(after)) / null,
        deviation=own_deviation / deviation,
        shift=(own_mean - mean) / deviation,
        heldout=(int(same.sum()), len(same)),
        chance=float(alike.double().mean()),
        no_farther=float(scipy.stats.mannwhitneyu(before, unseen, alternative="greater").pvalue),
    )
