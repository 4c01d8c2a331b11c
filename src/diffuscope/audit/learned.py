r"""What the model learned: how much of its answer each exact model explains, at every noise level.

The fraction of unexplained variance of exact model m at one noise level is, with centered answers
:math:`a = D - \mu`, :math:`b = D_m - \mu`,

.. math::
    \mathrm{FUV}_m = \frac{\sum_i |a_i - b_i|^2}{\sum_i |a_i|^2} \ (\text{pooled}), \qquad
    \frac1n \sum_i \frac{|a_i - b_i|^2}{|a_i|^2}\ (\text{per sample}), \qquad
    \cos_m = \frac1n\sum_i \frac{\langle a_i, b_i\rangle}{|a_i||b_i|} .

The same for the score, :math:`s = (\alpha D - x_t)/\sigma^2`, which Wang & Vastola 2024 report. Each is blind at one
end: at low noise every denoiser returns its input, so that any model explains D; at high noise every score is
:math:`-x_t/\sigma^2`, so that any model explains s. Models are therefore ranked by the larger of the two,

.. math::  \frac{\sum_i |D - D_m|^2}{\min\left(\sum_i |D - \mu|^2, \sum_i |D - x_t/\alpha|^2\right)} .

Intervals resample examples.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from diffuscope.findings import Finding, bootstrap_sums, percentile_interval

from .measure import SETS
from .store import Arrays

NEGLIGIBLE = 1e-9  # a band with less than this share of the answer's variance has nothing to explain
EXPLAINED = 0.9  # a model 'explains' a noise level when it leaves less than 1 - EXPLAINED unexplained


@dataclass(frozen=True, eq=False)
class Curve:
    """A number per noise level and exact model, with its interval."""

    value: Float[ndarray, "levels models"]
    low: Float[ndarray, "levels models"]
    high: Float[ndarray, "levels models"]


@dataclass(frozen=True, eq=False)
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
    best: Int[ndarray, " levels"]  # which model has the smallest
    support: Float[ndarray, " levels"]  # share of resamples that agree
    gaussian_range: Float[ndarray, "resamples 2"]  # where the Gaussian explains, in every resample; NaN: nowhere


def learned(
    measures: list[Arrays],
    ratios: Float[ndarray, " levels"],
    scale: float,
    models: tuple[str, ...],
    bands: tuple[str, ...],
    rng: np.random.Generator,
) -> Learned:
    """Reduce the sums of `measure_level`, one dictionary per level, to fractions with intervals."""
    curves: dict[str, dict[str, Curve]] = {key: {} for key in ("pooled", "per_sample", "score", "cosine")}
    sharp_resampled = np.empty(0)
    for name in SETS:
        resampled = {key: [] for key in curves}
        values = {key: [] for key in curves}
        for sums in measures:
            columns = _columns(
                {key: sums[f"{name}.{key}"] for key in ("norm", "score_norm", "gap", "score_gap", "dot", "exact_norm")}
            )
            for target, table in ((values, columns.mean(0, keepdims=True)), (resampled, bootstrap_sums(columns, rng))):
                for key, fraction in _fractions(table, len(models)).items():
                    target[key].append(fraction)
        for key in curves:
            low, high = percentile_interval(np.stack(resampled[key], 1))
            curves[key][name] = Curve(np.concatenate(values[key]), low, high)
        if name == "heldout":
            sharp_resampled = np.maximum(np.stack(resampled["pooled"], 1), np.stack(resampled["score"], 1))
    value = np.maximum(curves["pooled"]["heldout"].value, curves["score"]["heldout"].value)
    sharp = Curve(value, *percentile_interval(sharp_resampled))
    best = value.argmin(1)
    support = (sharp_resampled.argmin(2) == best).mean(0)
    gap = np.stack([sums["heldout.gap_bands"].mean(0) for sums in measures])
    norm = np.stack([sums["heldout.norm_bands"].mean(0) for sums in measures])
    norm = np.where(norm > NEGLIGIBLE * norm.sum(1, keepdims=True), norm, np.nan)
    column = models.index("Gaussian")
    gaussian = [value[:, column], *sharp_resampled[:, :, column]]
    ranges = np.array([explained_range(ratios, curve) for curve in gaussian])
    return Learned(
        ratios,
        scale,
        models,
        curves["pooled"],
        curves["per_sample"],
        curves["score"],
        curves["cosine"],
        len(measures[0]["heldout.norm"]),
        bands,
        gap / norm[:, None],
        sharp,
        best,
        support,
        ranges,
    )


def explained_range(ratios: Float[ndarray, " levels"], unexplained: Float[ndarray, " levels"]) -> tuple[float, float]:
    """The widest run of noise levels with less than 1 - EXPLAINED unexplained, ends interpolated in log-log.

    Ratios decrease. Returns (low, high), or NaN twice where no level qualifies; a run that reaches the end of the
    audited range ends there.
    """
    inside = unexplained < 1 - EXPLAINED
    if not inside.any():
        return float("nan"), float("nan")
    edges = np.flatnonzero(np.diff(np.concatenate([[False], inside, [False]]).astype(int)))
    runs = edges.reshape(-1, 2)
    first, stop = runs[np.argmax(runs[:, 1] - runs[:, 0])].tolist()

    def crossing(a: int, b: int) -> float:
        x, y = np.log(ratios[[a, b]]), np.log(np.maximum(unexplained[[a, b]], 1e-300))
        share = (np.log(1 - EXPLAINED) - y[0]) / (y[1] - y[0])
        return float(np.exp(x[0] + share * (x[1] - x[0])))

    high = float(ratios[0]) if first == 0 else crossing(first - 1, first)
    low = float(ratios[-1]) if stop == len(ratios) else crossing(stop - 1, stop)
    return low, high


def findings(result: Learned) -> list[Finding]:
    """Where one Gaussian is enough, and which exact model is nearest at each end of the noise range."""
    out = []
    (low, high), resampled = result.gaussian_range[0], result.gaussian_range[1:]
    if np.isnan(low):
        gaussian = result.sharp.value[:, result.models.index("Gaussian")]
        level = int(gaussian.argmin())
        least = gaussian[level]
        out.append(
            Finding(
                name="learned.gaussian_range",
                title="Noise level down to which one Gaussian is enough",
                value=100 * float(least),
                unit="% unexplained",
                verdict=f"A Gaussian explains {EXPLAINED:.0%} of what the model does at no noise level; most at noise "
                f"{result.ratios[level]:.3g}, where {least:.1%} stays unexplained.",
                tone="attention",
                power=f"{result.points} held-out examples at each noise level.",
            )
        )
    else:
        known = resampled[~np.isnan(resampled[:, 0]), 0]
        interval = (float(np.quantile(known, 0.025)), float(np.quantile(known, 0.975)))
        out.append(
            Finding(
                name="learned.gaussian_range",
                title="Noise level down to which one Gaussian is enough",
                value=float(low),
                unit="σ/α",
                verdict=f"From noise {high:.3g} down to {low:.3g} ({low / result.scale:.2g} deviations of the data) "
                "mean and "
                f"covariance of the data explain at least {EXPLAINED:.0%} of what the model does with unseen data.",
                tone="neutral",
                interval=interval,
                null="The number is the lower end of the range; its interval resamples held-out examples.",
                power=f"{result.points} held-out examples at each noise level; the interval is what they resolve.",
            )
        )
    for text, level in (("highest", 0), ("lowest", len(result.ratios) - 1)):
        model = result.models[result.best[level]]
        curve, column = result.sharp, result.best[level]
        out.append(
            Finding(
                name=f"learned.best_at_{text}",
                title=f"Unexplained by the nearest exact model at the {text} noise",
                value=100 * float(curve.value[level, column]),
                unit="%",
                verdict=f"At the {text} noise ({result.ratios[level]:.3g}) the {model} model is nearest to what was "
                "learned; "
                f"it leaves {curve.value[level, column]:.2%} unexplained.",
                tone="neutral",
                interval=(100 * float(curve.low[level, column]), 100 * float(curve.high[level, column])),
                null=f"{result.support[level]:.0%} of resamples name the same model.",
            )
        )
    return out


def best_ranges(result: Learned) -> list[tuple[str, float, float, float]]:
    """Runs of noise levels with the same best model: (model, highest noise, lowest noise, least support)."""
    runs = []
    start = 0
    for level in range(1, len(result.best) + 1):
        if level == len(result.best) or result.best[level] != result.best[start]:
            part = slice(start, level)
            runs.append(
                (
                    result.models[result.best[start]],
                    float(result.ratios[start]),
                    float(result.ratios[level - 1]),
                    float(result.support[part].min()),
                )
            )
            start = level
    return runs


def _columns(sums: Arrays) -> Float[ndarray, "n columns"]:
    """norm | score norm | gap | score gap | per-sample fraction | cosine, the last four per model."""
    norm = np.maximum(sums["norm"], np.finfo(float).tiny)[:, None]
    cosine = sums["dot"] / np.maximum(np.sqrt(norm * sums["exact_norm"]), np.finfo(float).tiny)
    return np.concatenate(
        [
            sums["norm"][:, None],
            sums["score_norm"][:, None],
            sums["gap"],
            sums["score_gap"],
            sums["gap"] / norm,
            cosine,
        ],
        1,
    )


def _fractions(means: Float[ndarray, "rows columns"], models: int) -> dict[str, Float[ndarray, "rows models"]]:
    norm, score_norm = means[:, :1], means[:, 1:2]
    gap, score_gap, per_sample, cosine = np.split(means[:, 2:], 4, axis=1)
    assert gap.shape[1] == models
    tiny = np.finfo(float).tiny
    return {
        "pooled": gap / np.maximum(norm, tiny),
        "per_sample": per_sample,
        "score": score_gap / np.maximum(score_norm, tiny),
        "cosine": cosine,
    }
