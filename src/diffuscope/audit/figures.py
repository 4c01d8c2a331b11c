"""The figures of an audit, one function each, in the order of the report."""

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing
from numpy import ndarray

from diffuscope.report.charts import heatmap, line_with_band, plain_log_ticks
from diffuscope.report.page import Figure
from diffuscope.report.theme import LIGHT, SERIES, figure_style, figure_svg

from .copies import Copies
from .gap import Gap
from .learned import EXPLAINED, Curve, Learned
from .loss import LossSplit
from .steps import Steps, rms

NOISE = "noise σ/α"
LARGEST_UNEXPLAINED, SMALLEST_UNEXPLAINED = 3.0, 1e-5
SHOWN_POINTS = 500
SET_NAMES = {"training": "training points", "heldout": "unseen points", "trajectory": "its own trajectories"}


def unexplained_figure(result: Learned) -> Figure:
    """Unexplained fraction of the centered denoiser and of the score at held-out points."""
    with figure_style():
        drawing = Drawing(figsize=(7.2, 3.6))
        left, right = drawing.subplots(1, 2, sharey=True)
        for axes, curves, title in ((left, result.unexplained, "denoiser"), (right, result.unexplained_score, "score")):
            _curves(axes, result, curves["heldout"], title)
        left.set_ylabel("unexplained fraction")
        left.legend(loc="lower left")
        return Figure(
            "What explains the model's answer, at noise levels from low to high",
            figure_svg(drawing),
            "Each line is an exact model of the training data; lower means that it predicts the network better, at "
            f"points made from data the network has not seen. The dotted line marks {1 - EXPLAINED:.0%}. Read the left "
            "panel at high noise and the right panel at low noise: at low noise every denoiser returns its input, and "
            "at high noise every score points to the center, so that there any model looks right.",
            "Two line charts of the unexplained fraction against the noise level, for the isotropic, Gaussian, mixture "
            "and empirical models, with 95% bands.",
        )


def sets_figure(result: Learned) -> Figure:
    """The larger of the two fractions at three kinds of points."""
    with figure_style():
        drawing = Drawing(figsize=(7.2, 3.2))
        panels = drawing.subplots(1, 3, sharey=True)
        for axes, name in zip(panels, SET_NAMES, strict=True):
            denoiser, score = result.unexplained[name], result.unexplained_score[name]
            larger = Curve(*(np.maximum(getattr(denoiser, f), getattr(score, f)) for f in ("value", "low", "high")))
            _curves(axes, result, larger, SET_NAMES[name])
        panels[0].set_ylabel("unexplained fraction")
        panels[0].legend(loc="lower left", fontsize=9)
        return Figure(
            "The same comparison where the data were seen, unseen, and generated",
            figure_svg(drawing),
            "The larger of the two fractions above. The empirical model is the memorizer: if its line drops to the "
            "bottom on training points and also on the network's own trajectories, the network recites its training "
            "data; if it is low on training points only, that is because these points lie next to the answer.",
            "Three line charts of the unexplained fraction against noise, at training, unseen and generated points.",
        )


def cosine_figure(result: Learned) -> Figure:
    """Mean cosine between the centered answers at held-out points."""
    with figure_style():
        drawing = Drawing(figsize=(7.2, 2.8))
        axes = drawing.subplots()
        curve = result.cosine["heldout"]
        for column, model in enumerate(result.models):
            line_with_band(
                axes, result.ratios, curve.value[:, column], curve.low[:, column], curve.high[:, column], model
            )
        noise_axis(axes, result.scale)
        axes.set_ylabel("cosine")
        axes.set_ylim(min(0.0, float(curve.low.min())), 1.03)
        axes.legend(loc="lower left")
        return Figure(
            "Direction: cosine between the network's answer and each exact model's",
            figure_svg(drawing),
            "1 means the same direction from the mean of the data, whatever the length. Unseen points.",
            "A line chart of the cosine against the noise level for four exact models.",
        )


def bands_figure(result: Learned) -> Figure:
    """Unexplained fraction by octave of principal components, for the Gaussian."""
    values = result.unexplained_bands[:, result.models.index("Gaussian")].T
    with figure_style():
        drawing = Drawing(figsize=(7.2, 0.8 + 0.32 * len(result.bands)))
        axes = drawing.subplots()
        heatmap(
            axes,
            np.minimum(values[:, ::-1], 1.0),
            [f"PC {band}" for band in result.bands],
            [f"{ratio:.2g}" for ratio in result.ratios[::-1]],
            low=0.0,
            high=1.0,
            text=lambda v: f"{v:.2f}".removeprefix("0") if v < 1 else "≥1",
        )
        axes.tick_params(axis="x", labelsize=9)
        axes.set_xlabel(NOISE)
        return Figure(
            "What the Gaussian leaves unexplained, direction by direction",
            figure_svg(drawing),
            "Rows are principal components of the data in octaves, the largest on top. A network learns a direction "
            "like the Gaussian where its row is light; dark cells at high noise in the last rows are directions of "
            "little variance, where both answers are nearly the mean.",
            "A heat map of the unexplained fraction by octave of principal components and noise level.",
        )


def loss_figure(result: LossSplit) -> Figure:
    """Stacked parts of the loss on training and held-out data, with reference losses."""
    with figure_style():
        drawing = Drawing(figsize=(7.2, 3.6))
        panels = drawing.subplots(1, 2, sharey=True)
        for axes, name, title in zip(panels, ("training", "heldout"), ("training data", "unseen data"), strict=True):
            value = result.value[name]
            axes.fill_between(
                result.ratios, 0, value["irreducible"], color=SERIES[0], alpha=0.35, linewidth=0, label="irreducible"
            )
            axes.fill_between(
                result.ratios,
                value["irreducible"],
                value["total"],
                color=SERIES[3],
                alpha=0.45,
                linewidth=0,
                label="distance to the optimum",
            )
            axes.plot(result.ratios, value["measured"], color=LIGHT["ink"], marker="o", label="measured loss")
            axes.plot(
                result.ratios, value["gaussian"], color=SERIES[2], marker="None", linestyle="--", label="Gaussian"
            )
            axes.plot(
                result.ratios, value["memorizer"], color=SERIES[1], marker="None", linestyle=":", label="memorizer"
            )
            noise_axis(axes, result.scale)
            axes.set_title(title)
        panels[0].set_ylabel("squared error / variance of the data")
        panels[0].set_ylim(0, 1.2 * max(1.0, float(result.value["heldout"]["measured"].max())))
        panels[0].legend(loc="upper left", fontsize=9)
        return Figure(
            "The loss, split exactly",
            figure_svg(drawing),
            "Blue is the loss that no model can avoid on these examples; yellow is the squared distance to their exact "
            "optimum. Their sum equals the measured loss (points) at every noise level. The dotted line is what the "
            "optimum of the training data itself pays: zero-cost on training data at low noise, expensive on unseen "
            "data. A network that generalizes stays below it on the right.",
            "Two stacked area charts of the denoising loss against noise, on training and on unseen data.",
        )


def gap_figure(result: Gap) -> Figure:
    """The gap between held-out and training error per noise level."""
    with figure_style():
        drawing = Drawing(figsize=(7.2, 2.9))
        axes = drawing.subplots()
        line_with_band(axes, result.ratios, 100 * result.share, 100 * result.low, 100 * result.high, "this model")
        axes.plot(
            result.ratios,
            100 * result.control,
            color=LIGHT["muted"],
            marker="None",
            linestyle="--",
            label="control: a Gaussian too small to remember",
        )
        axes.axhline(0, color=LIGHT["edge"], linewidth=0.8)
        axes.set_xscale("log")
        plain_log_ticks(axes.xaxis)
        axes.set_xlabel(NOISE)
        axes.set_ylabel("gap, % of the loss")
        axes.legend(loc="best")
        return Figure(
            "How much better training examples are denoised than unseen ones",
            figure_svg(drawing),
            "Zero means that the network treats them alike. A hump above the dashed control, usually at middle noise, "
            "is memory of single examples. The dashed line shows how much of it is a difference between the two sets.",
            "A line chart of the gap in percent against the noise level, with a 95% band and a control.",
        )


def distances_figure(found: Copies, space: str) -> Figure:
    """Distances to the nearest training and the nearest held-out example."""
    rng = np.random.default_rng(0)
    with figure_style():
        drawing = Drawing(figsize=(7.2, 4.0))
        axes = drawing.subplots()
        null = rng.permutation(found.calibration)[:SHOWN_POINTS]
        free = np.flatnonzero(~found.listed)
        free = free[rng.permutation(len(free))[:SHOWN_POINTS]]
        listed = np.flatnonzero(found.listed)
        listed = listed[rng.permutation(len(listed))[:SHOWN_POINTS]]
        _dots(axes, found.null_heldout_distance[null], found.null_distance[null], LIGHT["edge"], "o", "unseen examples")
        _dots(axes, found.heldout_distance[free], found.distance[free], SERIES[0], "^", "samples")
        if len(listed):
            _dots(
                axes, found.heldout_distance[listed], found.distance[listed], SERIES[1], "X", "samples listed as copies"
            )
        largest = 1.05 * max(float(found.null_heldout_distance.max()), float(found.heldout_distance.max()))
        axes.plot([0, largest], [0, largest], color=LIGHT["muted"], marker="None", linewidth=0.8)
        axes.set_xlim(0, largest)
        axes.set_ylim(0, 1.05 * max(float(found.null_distance.max()), float(found.distance.max())))
        axes.set_xlabel(f"distance to the nearest unseen example ({space})")
        axes.set_ylabel("to the nearest training example")
        axes.legend(loc="upper left")
        return Figure(
            f"Is any sample closer to training data than unseen data are? ({space})",
            figure_svg(drawing),
            "Unseen examples (gray) show what innocent data do. Samples among them are fine; samples far below the "
            f"diagonal, near the bottom, copy a training example. At most {SHOWN_POINTS} of each kind are drawn.",
            "A scatter plot of distances to the nearest training against the nearest unseen example.",
        )


def steps_figure(result: Steps) -> Figure:
    """Distance to the fine trajectory by sampler and budget, plain and teleported."""
    with figure_style():
        drawing = Drawing(figsize=(7.2, 3.4))
        panels = drawing.subplots(1, 2, sharey=True)
        for axes, table, title in zip(
            panels,
            (result.plain, result.teleported),
            ("from the start", f"teleported to {result.skip:.3g}"),
            strict=True,
        ):
            for row, sampler in enumerate(result.samplers):
                axes.plot(result.budgets, rms(table)[row], label=sampler)
            axes.set_yscale("log")
            axes.set_xticks(result.budgets)
            axes.set_title(title)
            axes.set_xlabel("evaluations")
        panels[0].set_ylabel("distance / deviation of the data")
        panels[0].legend(loc="lower left", fontsize=9)
        plain_log_ticks(panels[0].yaxis)
        return Figure(
            "How close few steps come to the finely integrated result",
            figure_svg(drawing),
            "Every sampler starts from the same noise; lower is closer to the result of "
            "very many steps. On the right the high-noise part is replaced by the Gaussian's closed-form flow.",
            "Two line charts of the distance against the number of evaluations for four samplers.",
        )


def teleport_figure(result: Steps) -> Figure:
    """Estimated teleport error per hand-over level, with the measured one."""
    estimate = rms(result.estimated)[1:]
    with figure_style():
        drawing = Drawing(figsize=(7.2, 2.7))
        axes = drawing.subplots()
        axes.plot(result.candidates[1:], estimate, label="estimated")
        if result.skip < result.candidates[0]:
            reached = float(rms(result.measured))
            axes.plot([result.skip], [reached], "D", markersize=7, color=SERIES[1], label="measured")
        axes.axhline(result.tolerance, color=LIGHT["muted"], linewidth=0.8, linestyle=":")
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_ylim(max(1e-5, 0.5 * float(estimate[estimate > 0].min(initial=1e-4))), 3)
        plain_log_ticks(axes.xaxis)
        plain_log_ticks(axes.yaxis)
        axes.set_xlabel(f"hand-over at {NOISE}")
        axes.set_ylabel("displacement / deviation")
        axes.legend(loc="upper right")
        return Figure(
            "How far down the Gaussian flow can replace the network",
            figure_svg(drawing),
            "The displacement of the final sample if the closed form takes over the part above each noise level; the "
            "dotted line is the displacement allowed.",
            "A line chart of the estimated displacement against the hand-over noise level.",
        )


def _curves(axes: Axes, result: Learned, curve: Curve, title: str) -> None:
    value, low, high = (
        np.clip(part, SMALLEST_UNEXPLAINED, LARGEST_UNEXPLAINED) for part in (curve.value, curve.low, curve.high)
    )
    for column, model in enumerate(result.models):
        line_with_band(axes, result.ratios, value[:, column], low[:, column], high[:, column], model)
    axes.axhline(1 - EXPLAINED, color=LIGHT["muted"], linewidth=0.8, linestyle=":")
    axes.set_yscale("log")
    axes.set_ylim(SMALLEST_UNEXPLAINED, 2 * LARGEST_UNEXPLAINED)
    plain_log_ticks(axes.yaxis)
    noise_axis(axes, result.scale)
    axes.set_title(title)


def noise_axis(axes: Axes, scale: float) -> None:
    """Noise in powers of ten, a thin line at the deviation of the data."""
    axes.set_xscale("log")
    plain_log_ticks(axes.xaxis)
    axes.set_xlabel(NOISE)
    axes.axvline(scale, color=LIGHT["rule"], linewidth=1.2, zorder=0)


def _dots(
    axes: Axes, x: Float[ndarray, " points"], y: Float[ndarray, " points"], color: str, marker: str, label: str
) -> None:
    axes.plot(x, y, linestyle="None", marker=marker, markersize=3.5, color=color, alpha=0.75, label=label)
