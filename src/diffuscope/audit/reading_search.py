"""The reading of a network that denoises best: found on some training examples, tested against the given one on others.

It is a fault if a paired test shows that the errors as given are larger, and they are FAULT times as large or more, in
the geometric mean over the levels at which the data are decided. What would be seen is measured by planting: the
denoiser is told a noise level that is too low or too high by a growing factor, and judged by the same rule.
"""

from dataclasses import dataclass
from functools import cache, partial

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from diffuscope.denoisers import Batch, Denoiser
from diffuscope.findings import paired_permutation

from .conventions import (
    LARGEST,
    PLANTED,
    READINGS,
    Convention,
    Reading,
    Variances,
    black_box_conventions,
    conventions,
    declared,
    gaussian_error,
    relative_errors,
)
from .network_calls import called_network
from .subject import EVALUATION_BATCH, levels_within

SPAN = (0.1, 3.0)  # noise levels in standard deviations of the data: between trivial and hopeless
LEVELS, SEARCHED = 8, (1, 3, 5, 7)
SEARCH_POINTS, PLANT_POINTS = 16, 64
FAULT, DOUBT = 1.25, 1.05  # errors over those of the best reading
EXPLAINS = 0.8  # errors over those of a formula that knows mean and deviation: a reading above explains nothing
SIMPLER = 1.02  # of readings within this factor of the best, the one nearest to the declared
SIGNIFICANT = 0.01
DATA = "clean data"
SIGNED: dict[str, Reading] = READINGS | {
    f"minus the {name}": lambda x, f, i, read=read: read(x, -f, i) for name, read in READINGS.items()
}


@dataclass(frozen=True, kw_only=True, eq=False)
class BestReading:
    """The best reading and its paired comparison with the given one, on examples that were not used to find it."""

    convention: str
    reading: str
    levels: Float[ndarray, " levels"]
    given: Float[ndarray, "levels n"]  # errors over the Gaussian's
    best: Float[ndarray, "levels n"]
    p_value: float
    tried: int
    formula: Float[ndarray, " levels"]  # the error of a formula that knows mean and deviation only
    seen: float  # the smallest planted factor of the noise level told that is a fault; infinite if none is
    noticed: float  # that costs DOUBT
    network: bool  # whether the network itself could be asked

    @property
    def cost(self) -> float:
        """Errors as given over errors in the best reading."""
        return error_ratio(self.given, self.best)

    @property
    def denoises(self) -> bool:
        """Whether the best reading is a denoiser: its errors are those of the formula times EXPLAINS or less."""
        return error_ratio(self.best, self.formula[:, None]) <= EXPLAINS


def error_ratio(given: Float[ndarray, "levels _"], best: Float[ndarray, "levels _"]) -> float:
    """The geometric mean over levels of the ratio of mean errors."""
    return float(np.exp(np.log(given.mean(1) / best.mean(1)).mean()))


def formula_error(variances: Variances, ratios: Float[ndarray, " levels"]) -> Float[ndarray, " levels"]:
    """The error of N(mean, s^2 I), s^2 = tr Sigma / D, over the Gaussian's at every level."""
    total, scale = float(variances.sum()), float(variances.mean()) ** 0.5
    gaussian = np.array([gaussian_error(variances, r) for r in ratios])
    return total * ratios**2 / (ratios**2 + scale**2) / gaussian


def decisive_levels(denoiser: Denoiser, scale: float) -> Float[ndarray, " levels"]:
    """LEVELS noise levels in SPAN deviations of the data, as far as the schedule reaches."""
    return levels_within(denoiser.schedule, (SPAN[0] * scale, SPAN[1] * scale), LEVELS)


def best_reading(
    denoiser: Denoiser,
    variances: Variances,
    levels: Float[ndarray, " levels"],
    clean: Batch,
    noise: Batch,
    rng: np.random.Generator,
) -> BestReading:
    """Search on the first SEARCH_POINTS examples, test on the rest."""
    few, rest = (clean[:SEARCH_POINTS], noise[:SEARCH_POINTS]), (clean[SEARCH_POINTS:], noise[SEARCH_POINTS:])
    given = declared(denoiser)
    t, instant = given.instant(float(levels[LEVELS // 2]))
    x = (instant.alpha * clean[:2] + instant.sigma * noise[:2]).to(clean.dtype)
    network = called_network(denoiser, x, t)
    tried = black_box_conventions(denoiser) if network is None else conventions(denoiser, x, network)
    choices: list[tuple[Convention, str]] = [(given, DATA)]
    scores = [_log_mean(given, {DATA: READINGS[DATA]}, levels, *few, variances)]
    for convention in tried:
        choices += [(convention, reading) for reading in SIGNED]
        scores.append(_log_mean(convention, SIGNED, levels, *few, variances))
    score = np.concatenate(scores)
    convention, reading = choices[int(np.flatnonzero(score <= score.min() + np.log(SIMPLER))[0])]

    as_given = _tested(given, READINGS[DATA], levels, *rest, variances)
    best = as_given if convention is given else _tested(convention, SIGNED[reading], levels, *rest, variances)
    planted = rest[0][:PLANT_POINTS], rest[1][:PLANT_POINTS]
    seen, noticed = _smallest_seen(denoiser, variances, levels, *planted, rng)
    return BestReading(
        convention=convention.name,
        reading=reading,
        levels=levels,
        given=as_given,
        best=best,
        p_value=larger_p_value(as_given, best, rng),
        tried=len(choices),
        formula=formula_error(variances, levels),
        seen=seen,
        noticed=noticed,
        network=network is not None,
    )


def _log_mean(
    convention: Convention,
    readings: dict[str, Reading],
    levels: Float[ndarray, " levels"],
    clean: Batch,
    noise: Batch,
    variances: Variances,
) -> Float[ndarray, " readings"]:
    errors = [relative_errors(convention, readings, levels[i], clean, noise, variances).mean(1) for i in SEARCHED]
    return np.log(np.stack(errors)).mean(0)


def _tested(
    convention: Convention,
    reading: Reading,
    levels: Float[ndarray, " levels"],
    clean: Batch,
    noise: Batch,
    variances: Variances,
) -> Float[ndarray, "levels n"]:
    pairs = list(zip(clean.split(EVALUATION_BATCH), noise.split(EVALUATION_BATCH), strict=True))
    measure = partial(relative_errors, convention, {"": reading})
    return np.stack([np.concatenate([measure(r, c, e, variances)[0] for c, e in pairs]) for r in levels])


def larger_p_value(
    given: Float[ndarray, "levels n"], best: Float[ndarray, "levels n"], rng: np.random.Generator
) -> float:
    """Of the null hypothesis that the errors as given are no larger."""
    return paired_permutation(((given - best) / best.mean(1, keepdims=True)).T, rng)[1]


def _smallest_seen(
    denoiser: Denoiser,
    variances: Variances,
    levels: Float[ndarray, " levels"],
    clean: Batch,
    noise: Batch,
    rng: np.random.Generator,
) -> tuple[float, float]:
    """The smallest of PLANTED by which the level told may be too low, and too high, and both cost FAULT, and DOUBT."""
    given = declared(denoiser)
    levels = levels[list(SEARCHED)]
    right = _tested(given, READINGS[DATA], levels, clean, noise, variances)

    @cache
    def cost(factor: float) -> float:
        """0 where it may be chance, or no level can be told."""

        def mistold(ratio: float) -> Float[ndarray, " _"]:
            # noise of `ratio` as if it were factor times as much
            return relative_errors(given, {"": READINGS[DATA]}, factor * ratio, clean, noise / factor, variances)[0]

        wrong = np.stack([mistold(float(ratio)) for ratio in levels])
        told = (wrong < LARGEST).all(1)  # no level beyond the ends of the schedule can be told
        if not told.any():
            return 0.0
        scale = [gaussian_error(variances, factor * r) / gaussian_error(variances, r) for r in levels[told].tolist()]
        wrong, same = wrong[told] * np.array(scale)[:, None], right[told]
        return error_ratio(wrong, same) if larger_p_value(wrong, same, rng) < SIGNIFICANT else 0.0

    def smallest(least: float) -> float:
        return next((f for f in PLANTED if cost(f) >= least and cost(1 / f) >= least), float("inf"))

    return smallest(FAULT), smallest(DOUBT)
