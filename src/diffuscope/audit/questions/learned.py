"""What did the model learn at each noise level? The exact models of `unexplained_variance`, as findings and figures."""

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray

from diffuscope.findings import Chart, Finding, Panel, Rule, cells
from diffuscope.report import Block, Cell, Table

from ..data_gaussian import Truncation
from ..level_charts import NOISE, Curve, noise_panel
from ..question import Answer, Question
from ..session import Session
from ..unexplained_variance import EXPLAINED, Learned, best_ranges, explained

WORSE = 0.01  # of the constant mean's loss
USELESS = 2.0  # times its loss: an alarm
SHOWN = (1e-5, 6.0)  # range of unexplained fractions in charts
SET_NAMES = {"training": "training points", "heldout": "held-out points", "trajectory": "its own trajectories"}


def findings(result: Learned, truncation: Truncation | None = None) -> list[Finding]:
    """Where a Gaussian is enough, and the best exact model at each end of the noise range."""
    worse = _worse_than_mean(result)
    out = [_gaussian_range(result)]
    if truncation is not None:
        out = [replace(_gaussian_range(result, truncation.name), null=str(truncation))]
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


def _gaussian_range(result: Learned, gaussian: str = "a Gaussian") -> Finding:
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
            verdict=f"At no noise level does {gaussian} explain {EXPLAINED:.0%} of the model; it comes closest at "
            f"σ/α = {result.ratios[level]:.3g}, where {_share(value)} of the variance remains unexplained.",
            tone="neutral",
            interval=(100 * ends[0], 100 * ends[1]),
            power=f"{result.points} held-out examples at each noise level.",
        )
    lows = resampled[~np.isnan(resampled[:, 0]), 0]
    without = 1 - len(lows) / len(resampled)
    subject = "the mean and covariance of the data explain" if gaussian == "a Gaussian" else f"{gaussian} explains"
    excluded = f", without the {without:.0%} of resamples in which no level qualifies" if without else ""
    return Finding(
        name="learned.gaussian_range",
        title="Noise level down to which a Gaussian is enough",
        value=float(low),
        unit="σ/α",
        verdict=f"From σ/α = {high:.3g} down to {low:.3g} ({low / result.scale:.2g} standard deviations of the data), "
        f"{subject} at least {EXPLAINED:.0%} of its output on held-out data.",
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
    result, truncation = explained(session.measures, session.numpy_stream("learned")), session.truncation
    found = findings(result, truncation)
    text = "" if truncation is None else f"{found[0].verdict} {truncation}"
    return Answer(findings=found, blocks=blocks(result), text=text, result=result)


QUESTION = Question("learned", "What did it learn at each noise level?", _ask)
