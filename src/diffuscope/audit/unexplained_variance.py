r"""How much of a model's output does each exact model explain, at every noise level?

The fraction of unexplained variance of exact model m at one noise level is, with centered outputs
:math:`a = D - \mu`, :math:`b = D_m - \mu`,

.. math::
    \mathrm{FUV}_m = \frac{\sum_i |a_i - b_i|^2}{\sum_i |a_i|^2} \ (\text{pooled}), \qquad
    \frac1n \sum_i \frac{|a_i - b_i|^2}{|a_i|^2}\ (\text{per sample}), \qquad
    \cos_m = \frac1n\sum_i \frac{\langle a_i, b_i\rangle}{|a_i||b_i|} .

The same fraction for the score, :math:`s = (\alpha D - x_t)/\sigma^2`, is reported by Wang & Vastola 2024. Each is
uninformative at one end: at low noise every denoiser returns its input, so that any model explains D; at high noise
every score is :math:`-x_t/\sigma^2`, so that any model explains s. Models are therefore ranked by the larger one,

.. math::  \frac{\sum_i |D - D_m|^2}{\min\left(\sum_i |D - \mu|^2, \sum_i |D - x_t/\alpha|^2\right)} .

Intervals resample examples.
"""

import math
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import scipy  # its subpackages are loaded when they are first used
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from diffuscope.findings import bootstrap_sums, percentile_interval
from diffuscope.store import Arrays

from .level_charts import Curve
from .level_measures import SETS, LevelMeasures
from .references import band_names

TINY = np.finfo(float).tiny
NEGLIGIBLE = 1e-9  # a band with less than this share of the output's variance has nothing to explain
CONFIDENCE = 0.95
EXPLAINED = 0.9  # a Gaussian is enough where it leaves less than 1 - EXPLAINED unexplained
LARGEST = 10.0  # unexplained fractions beyond it mean no more than it


@dataclass(frozen=True, kw_only=True, eq=False)
class Learned:
    """Per set of points ("training", "heldout", "trajectory") the four comparisons with every exact model."""

    ratios: Float[ndarray, " levels"]
    scale: float
    models: tuple[str, ...]
    unexplained: dict[str, Curve]
    unexplained_per_sample: dict[str, Curve]
    unexplained_score: dict[str, Curve]
    cosine: dict[str, Curve]
    points: int  # held-out examples per level
    bands: tuple[str, ...]
    unexplained_bands: Float[ndarray, "levels models bands"]  # at held-out points; NaN where nothing varies
    sharp: Curve  # the larger of the two fractions, at held-out points
    best: Int[ndarray, " levels"]  # the index of the model with the smallest
    support: Float[ndarray, " levels"]  # share of resamples with the same best model
    gaussian_range: Float[ndarray, "resamples 2"]  # where the Gaussian explains, in every resample; NaN: nowhere
    matter: Bool[ndarray, " levels"]  # whether the level matters for sampling
    of_mean: Float[ndarray, "levels 3"]  # held-out loss over that of the constant mean, with its interval


def explained(measures: LevelMeasures, rng: np.random.Generator) -> Learned:
    """Reduce the sums of all levels to fractions with intervals."""
    curves: dict[str, dict[str, Curve]] = {key: {} for key in ("pooled", "per_sample", "score", "cosine")}
    models, sharp_resampled = measures.models, np.empty(0)
    for name in SETS:
        resampled = {key: [] for key in curves}
        values = {key: [] for key in curves}
        for sums in measures.sums:
            columns = _columns(sums, name)
            for target, table in ((values, columns.mean(0, keepdims=True)), (resampled, bootstrap_sums(columns, rng))):
                for key, fraction in _fractions(table).items():
                    target[key].append(fraction)
        for key in curves:
            low, high = percentile_interval(np.stack(resampled[key], 1))
            curves[key][name] = Curve(np.concatenate(values[key]), low, high)
        if name == "heldout":
            sharp_resampled = np.maximum(np.stack(resampled["pooled"], 1), np.stack(resampled["score"], 1))
    value = np.maximum(curves["pooled"]["heldout"].value, curves["score"]["heldout"].value)
    best = value.argmin(1)
    gap, norm = _bands(measures)
    norm = np.where(norm > NEGLIGIBLE * norm.sum(1, keepdims=True), norm, np.nan)
    column = models.index("Gaussian")
    gaussian = [value[:, column], *sharp_resampled[:, :, column]]
    return Learned(
        ratios=measures.ratios,
        scale=measures.scale,
        models=models,
        unexplained=curves["pooled"],
        unexplained_per_sample=curves["per_sample"],
        unexplained_score=curves["score"],
        cosine=curves["cosine"],
        points=len(measures.sums[0]["heldout.norm"]),
        bands=_names_of_bands(measures),
        unexplained_bands=gap / norm[:, None],
        sharp=Curve(value, *percentile_interval(sharp_resampled)),
        best=best,
        support=(sharp_resampled.argmin(2) == best).mean(0),
        gaussian_range=np.array([explained_range(measures.ratios, curve) for curve in gaussian]),
        matter=measures.matter,
        of_mean=_of_mean(measures),
    )


def _bands(measures: LevelMeasures) -> tuple[Float[ndarray, "levels models bands"], Float[ndarray, "levels bands"]]:
    """Mean squares of the gaps and of the outputs by band; what a truncated Gaussian has no components for is one."""
    gap, norm = (measures.rows(f"heldout.{key}_bands").mean(0) for key in ("gap", "norm"))
    if measures.components is None:
        return gap, norm
    rest = [
        np.maximum(measures.rows(f"heldout.{key}").mean(0) - bands.sum(-1), 0.0)[..., None]
        for key, bands in (("gap", gap), ("norm", norm))
    ]
    return np.concatenate([gap, rest[0]], -1), np.concatenate([norm, rest[1]], -1)


def _names_of_bands(measures: LevelMeasures) -> tuple[str, ...]:
    if measures.components is None:
        return tuple(band_names(measures.dimension))
    return (*band_names(measures.components), f"{measures.components + 1}-{measures.dimension}")


def _of_mean(measures: LevelMeasures) -> Float[ndarray, "levels 3"]:
    """1 + mean of (|D - x0|^2 - |mu - x0|^2) over that of |mu - x0|^2, with simultaneous 95% intervals."""
    mean = measures.rows("heldout.mean_error")
    excess = (measures.rows("heldout.error") - mean) / mean.mean(0)
    levels = excess.shape[1]
    width = scipy.stats.norm.isf((1 - CONFIDENCE) / 2 / levels) * excess.std(0) / math.sqrt(len(excess))
    center = 1 + excess.mean(0)
    return np.stack([center, center - width, center + width], 1)


def explained_range(ratios: Float[ndarray, " levels"], unexplained: Float[ndarray, " levels"]) -> tuple[float, float]:
    """The widest run of noise levels with less than 1 - EXPLAINED unexplained, ends interpolated in log-log.

    Ratios decrease. Returns (low, high), or NaN twice where no level qualifies; a run that reaches the end of the
    audited range ends there.
    """
    inside = unexplained < 1 - EXPLAINED
    if not inside.any():
        return float("nan"), float("nan")
    runs = np.flatnonzero(np.diff(np.concatenate([[False], inside, [False]]).astype(int))).reshape(-1, 2)
    first, stop = runs[np.argmax(runs[:, 1] - runs[:, 0])].tolist()
    upper, lower = slice(first - 1, first + 1), slice(stop - 1, stop + 1)
    high = float(ratios[0]) if first == 0 else _crossing(ratios[upper], unexplained[upper])
    low = float(ratios[-1]) if stop == len(ratios) else _crossing(ratios[lower], unexplained[lower])
    return low, high


def _crossing(ratios: Float[ndarray, " 2"], unexplained: Float[ndarray, " 2"]) -> float:
    """Where the line through two points in log-log has 1 - EXPLAINED unexplained."""
    x, y = np.log(ratios), np.log(np.maximum(unexplained, 1e-300))
    share = (np.log(1 - EXPLAINED) - y[0]) / (y[1] - y[0])
    return float(np.exp(x[0] + share * (x[1] - x[0])))


def best_ranges(result: Learned) -> list[tuple[str, float, float, float]]:
    """Runs of noise levels with the same best model: (model, highest noise, lowest noise, least support)."""
    grouped = groupby(range(len(result.best)), lambda level: int(result.best[level]))
    runs = [(result.models[model], list(levels)) for model, levels in grouped]
    return [
        (model, float(result.ratios[run[0]]), float(result.ratios[run[-1]]), float(result.support[run].min()))
        for model, run in runs
    ]


def _columns(sums: Arrays, name: str) -> Float[ndarray, "n columns"]:
    """norm | score norm | gap | score gap | per-sample fraction | cosine, the last four for every model."""
    norm, score_norm, gap, score_gap, dot, exact_norm = (
        sums[f"{name}.{key}"] for key in ("norm", "score_norm", "gap", "score_gap", "dot", "exact_norm")
    )
    positive = np.maximum(norm, TINY)[:, None]
    cosine = dot / np.maximum(np.sqrt(positive * exact_norm), TINY)
    # at most what makes the mean of all points LARGEST, also where the network answers the mean itself
    per_sample = gap / np.maximum(positive, gap / (LARGEST * len(norm)))
    return np.concatenate([norm[:, None], score_norm[:, None], gap, score_gap, per_sample, cosine], 1)


def _fractions(means: Float[ndarray, "rows columns"]) -> dict[str, Float[ndarray, "rows models"]]:
    norm, score_norm = means[:, :1], means[:, 1:2]
    gap, score_gap, per_sample, cosine = np.split(means[:, 2:], 4, axis=1)
    return {
        "pooled": gap / np.maximum(norm, gap / LARGEST + TINY),
        "per_sample": np.minimum(per_sample, LARGEST),
        "score": score_gap / np.maximum(score_norm, score_gap / LARGEST + TINY),
        "cosine": cosine,
    }
