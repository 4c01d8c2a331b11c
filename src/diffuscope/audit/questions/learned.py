r"""What the model learned: how much of its output each exact model explains, at every noise level.

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

from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from scipy import stats

from diffuscope.findings import Chart, Finding, Panel, Rule, bootstrap_sums, cells, percentile_interval
from diffuscope.report import Block, Cell, Table

from ..level_charts import NOISE, Curve, noise_panel
from ..level_measures import SETS, LevelMeasures
from ..question import Answer, Question
from ..references import band_names
from ..session import Session
from ..store import Arrays

TINY = np.finfo(float).tiny
NEGLIGIBLE = 1e-9  # a band with less than this share of the output's variance has nothing to explain
CONFIDENCE = 0.95
EXPLAINED = 0.9  # a Gaussian is enough where it leaves less than 1 - EXPLAINED unexplained
LARGEST = 10.0  # unexplained fractions beyond it mean no more than it
WORSE = 0.01  # of the constant mean's loss
USELESS = 2.0  # times its loss: an alarm
SHOWN = (1e-5, 6.0)  # range of unexplained fractions in charts
SET_NAMES = {"training": "training points", "heldout": "held-out points", "trajectory": "its own trajectories"}


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
    gap, norm = measures.rows("heldout.gap_bands").mean(0), measures.rows("heldout.norm_bands").mean(0)
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
        bands=tuple(band_names(measures.dimension)),
        unexplained_bands=gap / norm[:, None],
        sharp=Curve(value, *percentile_interval(sharp_resampled)),
        best=best,
        support=(sharp_resampled.argmin(2) == best).mean(0),
        gaussian_range=np.array([explained_range(measures.ratios, curve) for curve in gaussian]),
        matter=measures.matter,
        of_mean=_of_mean(measures),
    )


def _of_mean(measures: LevelMeasures) -> Float[ndarray, "levels 3"]:
    """1 + mean of (|D - x0|^2 - |mu - x0|^2) over that of |mu - x0|^2, with simultaneous 95% intervals."""
    mean = measures.rows("heldout.mean_error")
    excess = (measures.rows("heldout.error") - mean) / mean.mean(0)
    levels = excess.shape[1]
    width = stats.norm.isf((1 - CONFIDENCE) / 2 / levels) * excess.std(0) / len(excess) ** 0.5
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

    def crossing(a: int, b: int) -> float:
        x, y = np.log(ratios[[a, b]]), np.log(np.maximum(unexplained[[a, b]], 1e-300))
        share = (np.log(1 - EXPLAINED) - y[0]) / (y[1] - y[0])
        return float(np.exp(x[0] + share * (x[1] - x[0])))

    high = float(ratios[0]) if first == 0 else crossing(first - 1, first)
    low = float(ratios[-1]) if stop == len(ratios) else crossing(stop - 1, stop)
    return low, high


def findings(result: Learned) -> list[Finding]:
    """Where a Gaussian is enough, and the best exact model at each end of the noise range."""
    worse = _worse_than_mean(result)
    out = [_gaussian_range(result)]
    out.insert(1 if worse.tone == "neutral" else 0, worse)
    for end, level in (("highest", 0), ("lowest", len(result.ratios) - 1)):
        column, curve = result.best[level], result.sharp
        value, low, high = (float(part[level, column]) for part in (curve.value, curve.low, curve.high))
        out.append(
            Finding(
                name=f"learned.best_at_{end}",
                title=f"Variance unexplained by the best exact model at the {end} noise level",
                value=100 * min(value, 1.0),
                unit="%",
                verdict=f"At the {end} noise level, σ/α = {result.ratios[level]:.3g}, the {result.models[column]} "
                f"model is closest to the network and leaves {_share(value)} of the variance unexplained.",
                tone="neutral",
                interval=(100 * min(low, 1.0), 100 * min(high, 1.0)),
                power=f"{result.support[level]:.0%} of bootstrap resamples select the same model.",
            )
        )
    return out


def _gaussian_range(result: Learned) -> Finding:
    (low, high), resampled = result.gaussian_range[0], result.gaussian_range[1:]
    if np.isnan(low):
        column = result.models.index("Gaussian")
        level = int(result.sharp.value[:, column].argmin())
        value, *ends = (min(1.0, float(part[level, column])) for part in _parts(result.sharp))
        return Finding(
            name="learned.gaussian_range",
            title="Smallest variance that a Gaussian leaves unexplained",
            value=100 * value,
            unit="%",
            verdict=f"At no noise level does a Gaussian explain {EXPLAINED:.0%} of the model; it comes closest at "
            f"σ/α = {result.ratios[level]:.3g}, where {_share(value)} of the variance remains unexplained.",
            tone="neutral",
            interval=(100 * ends[0], 100 * ends[1]),
            power=f"{result.points} held-out examples at each noise level.",
        )
    lows = resampled[~np.isnan(resampled[:, 0]), 0]
    without = 1 - len(lows) / len(resampled)
    excluded = f", without the {without:.0%} of resamples in which no level qualifies" if without else ""
    return Finding(
        name="learned.gaussian_range",
        title="Noise level down to which a Gaussian is enough",
        value=float(low),
        unit="σ/α",
        verdict=f"From σ/α = {high:.3g} down to {low:.3g} ({low / result.scale:.2g} standard deviations of the data), "
        f"the mean and covariance of the data explain at least {EXPLAINED:.0%} of its output on held-out data.",
        tone="neutral",
        interval=(float(np.quantile(lows, 0.025)), float(np.quantile(lows, 0.975))) if len(lows) else None,
        power=f"{result.points} held-out examples at each noise level, resampled for the interval{excluded}.",
    )


def _worse_than_mean(result: Learned) -> Finding:
    """Whether the model is worse than the constant mean, which is a fault at a level that matters for sampling."""
    worse = result.of_mean[:, 1] > 1 + WORSE
    at = worse & result.matter if (worse & result.matter).any() else worse
    shown = np.flatnonzero(at) if at.any() else np.arange(len(worse))
    level = int(shown[result.of_mean[shown, 1].argmax()])
    value, low, high = (float(part) for part in result.of_mean[level])
    matter = result.ratios[result.matter]
    where = f"σ/α = {matter[-1]:.3g} to {matter[0]:.3g}" if len(matter) else "none"
    text = "At no noise level is the model worse than the constant mean of the data; it is closest to it at σ/α = "
    text += f"{result.ratios[level]:.3g}."
    if at.any():
        text = f"At {worse.sum()} of {len(worse)} noise levels the model is worse than the constant mean of the data: "
        text += f"at σ/α = {result.ratios[level]:.3g} its loss is {value:.3g}x that of the mean"
        beyond = f", but at none of the levels that matter for sampling ({where})."
        text += "." if (worse & result.matter).any() else beyond
    return Finding(
        name="learned.worse_than_mean",
        title="Held-out loss relative to the constant mean, where it is worst",
        value=value,
        unit="x",
        verdict=text,
        tone="neutral" if not (worse & result.matter).any() else "alarm" if low > USELESS else "attention",
        interval=(low, high),
        null="1x: the model does no better than always answering the mean of the training data.",
        power=f"{result.points} held-out examples at each of {len(worse)} noise levels, tested at all of them at once. "
        f"Levels that matter for sampling: {where}, where a Gaussian's loss is 0.25% to 95% of the data's variance.",
    )


def _parts(curve: Curve) -> tuple[Float[ndarray, "levels columns"], ...]:
    return curve.value, curve.low, curve.high


def _share(fraction: float) -> str:
    return "all" if fraction >= 1 else f"{fraction:.2%}"


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
    return np.concatenate([norm[:, None], score_norm[:, None], gap, score_gap, gap / positive, cosine], 1)


def _fractions(means: Float[ndarray, "rows columns"]) -> dict[str, Float[ndarray, "rows models"]]:
    norm, score_norm = means[:, :1], means[:, 1:2]
    gap, score_gap, per_sample, cosine = np.split(means[:, 2:], 4, axis=1)
    return {
        "pooled": gap / np.maximum(norm, gap / LARGEST + TINY),
        "per_sample": np.minimum(per_sample, LARGEST),
        "score": score_gap / np.maximum(score_norm, score_gap / LARGEST + TINY),
        "cosine": cosine,
    }


def blocks(result: Learned) -> list[Block]:
    """Four figures, the ranges of the best models, and all numbers."""
    ranges = Table(
        "The exact model closest to the network, by noise range",
        ["model", "from σ/α", "down to σ/α", "resamples that agree, %"],
        [[model, high, low, 100 * support] for model, high, low, support in best_ranges(result)],
        "At held-out points, by the larger of the two unexplained fractions.",
    )
    return [_unexplained(result), ranges, _by_set(result), _by_band(result), _cosine(result), _numbers(result)]


def _unexplained(result: Learned) -> Chart:
    return Chart(
        "Unexplained fraction of the network, by exact model",
        (
            _fraction_panel(result, result.unexplained["heldout"], "denoiser"),
            _fraction_panel(result, result.unexplained_score["heldout"], "score"),
        ),
        "Each line is an exact model of the training data; the lower it is, the better it predicts the network on "
        f"held-out data. The horizontal line marks {1 - EXPLAINED:.0%}. Read the left panel at high noise and the "
        "right panel at low noise: at low noise every denoiser returns its input, and at high noise every score points "
        "to the mean, so that any model fits there.",
        shared_y=True,
    )


def _by_set(result: Learned) -> Chart:
    return Chart(
        "The same comparison on training data, on held-out data, and on its own trajectories",
        tuple(
            _fraction_panel(result, result.unexplained[name].larger(result.unexplained_score[name]), title)
            for name, title in SET_NAMES.items()
        ),
        "The larger of the two fractions above. The empirical model is a perfect memorizer. If its line is lowest on "
        "training points and on the network's own trajectories, the network replays its training data; if it is low "
        "only on training points, the reason is that these points lie next to training examples.",
        shared_y=True,
    )


def _fraction_panel(result: Learned, curve: Curve, title: str) -> Panel:
    marks = (*curve.lines(result.ratios, result.models), Rule(1 - EXPLAINED))
    return noise_panel(title, "unexplained fraction", result.scale, *marks, y_log=True, y_range=SHOWN)


def _cosine(result: Learned) -> Chart:
    curve = result.cosine["heldout"]
    marks = curve.lines(result.ratios, result.models)
    limits = (min(0.0, float(curve.low.min())), 1.03)
    return Chart(
        "Cosine similarity of the network's output and each exact model's",
        (noise_panel("", "cosine", result.scale, *marks, y_range=limits),),
        "1 means the same direction from the mean of the data, at any length. Measured at held-out points.",
    )


def _by_band(result: Learned) -> Chart:
    values = result.unexplained_bands[::-1, result.models.index("Gaussian")].T
    rows, columns = [f"PC {band}" for band in result.bands], [f"{ratio:.2g}" for ratio in result.ratios[::-1]]
    matrix = cells(rows, columns, torch.from_numpy(values.copy()), color_range=(0.0, 1.0))
    return Chart(
        "Fraction left unexplained by the Gaussian, by principal component",
        (Panel("", NOISE, "", (matrix,)),),
        "Rows are octaves of the principal components of the data, the largest on top. Where a cell is light, the "
        "network treats these directions as the Gaussian does. Dark cells at high noise in the last rows are "
        "directions of little variance, where both outputs are nearly the mean.",
    )


def _numbers(result: Learned) -> Table:
    fractions = (result.unexplained, result.unexplained_per_sample, result.unexplained_score)
    rows: list[list[Cell]] = [
        [
            f"{ratio:.3g}",
            model,
            *(100 * float(curves["heldout"].value[level, column]) for curves in fractions),
            float(result.cosine["heldout"].value[level, column]),
        ]
        for level, ratio in enumerate(result.ratios)
        for column, model in enumerate(result.models)
    ]
    return Table(
        "All numbers at held-out points",
        ["σ/α", "model", "unexplained, pooled, %", "unexplained, per sample, %", "unexplained score, %", "cosine"],
        rows,
        "Pooled: ratio of the sums over points. Per sample: mean of the ratios. Scores are not centered.",
        folded=True,
    )


def _ask(session: Session) -> Answer:
    result = explained(session.measures, session.numpy_stream("learned"))
    return Answer(findings=findings(result), blocks=blocks(result), result=result)


QUESTION = Question("learned", "What did it learn at each noise level?", _ask)
