r"""Where a model stands between treating training and held-out examples alike and the exact optimum of its loss.

On its training examples the denoising loss is I + Delta, the variance of the target and the squared distance to the
optimum (`questions.loss`); on held-out examples it is larger by the gap G. The *position*

.. math::  p = \frac{G}{G + \Delta}

is 0 for a model that treats both alike and 1 at the optimum, which only replays its training set. With the mean of M
posterior draws as the target (`training.AveragedTarget`), I becomes I / M, and the noise of the target is the share

.. math::  \frac{I}{I + M\Delta}

of the loss. Sums are over the levels that matter for sampling, each counted alike; intervals resample pairs of one
training and one held-out example.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from diffuscope.findings import bootstrap_sums, detectable_shift, percentile_interval

from .denoising_gap import Pairs
from .level_charts import Curve
from .level_measures import LevelMeasures
from .target_noise import Interval

DRAWS = (1, 8, 64)  # of the averaged target
TINY = np.finfo(float).tiny


@dataclass(frozen=True, kw_only=True, eq=False)
class Position:
    """The parts of the loss at pairs of training and held-out points: (pairs, levels), in units of |x|^2."""

    ratios: Float[ndarray, " levels"]
    scale: float
    matter: Float[ndarray, " levels"]  # 1 where the level matters, else 0
    irreducible: Float[ndarray, "pairs levels"]  # I
    distance: Float[ndarray, "pairs levels"]  # Delta
    gap: Float[ndarray, "pairs levels"]  # G

    @classmethod
    def of(cls, measures: LevelMeasures, pairs: Pairs) -> "Position":
        """From the measures of all levels."""
        train, heldout = pairs
        return cls(
            ratios=measures.ratios,
            scale=measures.scale,
            matter=measures.matter.astype(float),
            irreducible=measures.rows("training.irreducible")[train],
            distance=measures.rows("training.distance")[train],
            gap=measures.rows("heldout.error")[heldout] - measures.rows("training.error")[train],
        )

    def value(self, rng: np.random.Generator) -> Interval:
        """p, with its interval over pairs."""
        sums = np.stack([self.gap @ self.matter, self.distance @ self.matter], 1)
        drawn = bootstrap_sums(sums, rng)
        low, high = percentile_interval(_position(drawn[:, 0], drawn[:, 1]))
        return float(_position(*sums.mean(0))), float(low), float(high)

    def detectable(self, level: float) -> float:
        """The position that would be told from 0 with probability 0.95 by a test at `level`."""
        gap, room = self.gap @ self.matter, float(((self.gap + self.distance) @ self.matter).mean())
        return detectable_shift(float(gap.std() / math.sqrt(len(gap))), level) / max(room, TINY)

    def noise_share(self, draws: int, rng: np.random.Generator) -> Interval:
        """The share of the target's noise in the training loss with a target of `draws` draws."""
        sums = np.stack([self.irreducible @ self.matter, self.distance @ self.matter], 1)
        drawn = bootstrap_sums(sums, rng)
        low, high = percentile_interval(_noise(drawn[:, 0], drawn[:, 1], draws))
        irreducible, distance = sums.mean(0)
        return float(_noise(irreducible, distance, draws)), float(low), float(high)

    def by_level(self, rng: np.random.Generator) -> dict[str, Curve]:
        """p, and the share of the target's noise for each of DRAWS, at every level."""
        levels = len(self.ratios)
        drawn = bootstrap_sums(np.concatenate([self.irreducible, self.distance, self.gap], 1), rng)
        parts = [drawn[:, k * levels : (k + 1) * levels] for k in range(3)]
        irreducible, distance, gap = self.irreducible.mean(0), self.distance.mean(0), self.gap.mean(0)
        curves = {"position": _curve(_position(gap, distance), _position(parts[2], parts[1]))}
        for draws in DRAWS:
            share, resampled = _noise(irreducible, distance, draws), _noise(parts[0], parts[1], draws)
            curves["1 draw" if draws == 1 else f"{draws} draws"] = _curve(share, resampled)
        return curves


def _position(gap: ndarray | float, distance: ndarray | float) -> ndarray:
    """G / (G + Delta); NaN unless the sum is positive."""
    total = np.asarray(gap + distance)
    return np.where(total > 0, gap / np.where(total > 0, total, 1), np.nan)


def _noise(irreducible: ndarray | float, distance: ndarray | float, draws: int) -> ndarray:
    return np.asarray(irreducible / np.maximum(irreducible + draws * distance, TINY))


def _curve(value: ndarray, drawn: ndarray) -> Curve:
    known = np.isfinite(value) & np.isfinite(drawn).all(0)
    low, high = percentile_interval(np.where(known, drawn, 0))
    return Curve(*(np.where(known, part, np.nan)[:, None] for part in (value, low, high)))
