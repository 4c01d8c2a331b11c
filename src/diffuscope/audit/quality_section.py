"""The section of an audit's report on its samples: how far they are from unseen data, beside what real data are."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing

from diffuscope.findings import PERMUTATIONS
from diffuscope.report.charts import plain_log_ticks
from diffuscope.report.page import Block, Figure, Section, Table
from diffuscope.report.theme import LIGHT, SERIES, figure_style, figure_svg

from .fidelity import BAR, DRAWS
from .label_balance import LabelBalance
from .quality import Measured

MOST_CLASSES = 20  # bars that can be told apart
LOG_BEYOND = 6.0  # times; larger ratios need a logarithmic axis to leave room for the ruler


def quality_section(result: Measured) -> Section:
    """The distances, and how often the classifier gives each of its labels."""
    blocks: list[Block] = [_distances(result), _numbers(result)]
    classes = len(result.balance.classes)
    if classes <= MOST_CLASSES:
        blocks.append(_labels(result.balance))
    else:
        blocks.append(
            f"The shares of {classes} labels are not drawn: more than {MOST_CLASSES} bars cannot be told apart."
        )
    return Section("quality", "How good are its samples?", result.findings[0].verdict, blocks, result.findings)


def quality_method(result: Measured) -> str:
    """How the section was computed, in one paragraph."""
    found, features = result.fidelity, result.features
    return (
        f"Quality of samples: Frechet distance of {len(features.bias)} whitened features, the hidden layer of a "
        f"classifier fitted to the labels of the training data; it names {features.accuracy:.1%} "
        f"of the {features.unseen:,} unseen labels. Every distance is between {found.size} and {found.size} examples, "
        f"because its bias depends on their number, and is a mean over {DRAWS} random draws. Standard errors of "
        "distances are of first order; between equal laws they are too large, by a factor 1.4. Intervals of ratios "
        "include the error of the distance between unseen data. Shares "
        "of labels are tested by Pearson's chi-squared, shrunk for what a model cannot know of them from "
        f"{result.balance.known:,} training examples, against {PERMUTATIONS:,} permutations."
    )


def _distances(result: Measured) -> Figure:
    found = result.fidelity
    spread = found.real_deviation / found.real
    with figure_style():
        drawing = Drawing(figsize=(7.2, 1.9))
        axes = drawing.subplots()
        axes.axvspan(max(0.0, 1 - 1.96 * spread), 1 + 1.96 * spread, color=LIGHT["muted"], alpha=0.25, linewidth=0)
        axes.axvline(1, color=LIGHT["muted"], linewidth=1)
        axes.axvline(BAR, color=LIGHT["muted"], linewidth=0.8, linestyle=":")
        _row(axes, 1, found.recited_ratio, found.recited_interval, SERIES[1], "s")
        _row(axes, 0, found.ratio, found.interval, SERIES[0], "o")
        axes.set_yticks([1, 0], ["recited training data", "samples"])
        axes.set_ylim(-0.6, 1.6)
        lowest = min(found.interval[0], found.recited_interval[0])
        largest = max(BAR, found.interval[1], found.recited_interval[1])
        if largest > LOG_BEYOND:
            axes.set_xscale("log")
            plain_log_ticks(axes.xaxis)
            axes.set_xlim(min(0.5, max(0.1, 0.8 * lowest)), 1.5 * largest)
        else:
            axes.set_xlim(0, 1.15 * largest)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("Frechet distance to unseen data, in distances between two sets of unseen data")
        return Figure(
            "How far samples are from unseen data",
            figure_svg(drawing),
            f"At 1 samples would be as good as real ones; the gray band is how far single divisions of the unseen data "
            f"into two sets spread, the dotted line marks {BAR:g}. Recited training data are training examples drawn "
            "with replacement: copies pass this test. Bars are 95% intervals.",
            "A dot chart of two distances with their intervals, for recited training data and for samples.",
        )


def _numbers(result: Measured) -> Table:
    found = result.fidelity
    return Table(
        f"Frechet distances, {found.size} examples a side",
        ["to unseen data", "distance", "standard error", "ratio"],
        [
            ["samples", found.samples.value, found.samples.standard_error, found.ratio],
            ["recited training data", found.recited.value, found.recited.standard_error, found.recited_ratio],
            ["other unseen data", found.real, found.real_deviation, 1.0],
        ],
        "Of other unseen data, in place of the standard error, the spread of single divisions.",
    )


def _row(axes: Axes, row: int, ratio: float, interval: tuple[float, float], color: str, marker: str) -> None:
    axes.errorbar(
        [ratio],
        [row],
        xerr=[[ratio - interval[0]], [interval[1] - ratio]],
        color=color,
        marker=marker,
        markersize=6,
        capsize=3,
        linestyle="None",
    )


def _labels(result: LabelBalance) -> Figure:
    classes = result.classes.tolist()
    place = np.arange(len(classes))
    chance = ((len(classes) - 1) / result.samples) ** 0.5 / len(classes)  # of equally frequent labels
    with figure_style():
        drawing = Drawing(figsize=(7.2, 2.4))
        axes = drawing.subplots()
        for offset, shares, color, label in (
            (-0.2, result.of_unseen, LIGHT["muted"], "unseen data"),
            (0.2, result.of_samples, SERIES[0], "samples"),
        ):
            axes.bar(place + offset, 100 * shares.numpy(), 0.38, color=color, label=label)
        axes.set_xticks(place, [str(name) for name in classes])
        axes.grid(visible=False, axis="x")
        axes.set_xlabel("label that the classifier gives")
        axes.set_ylabel("share, %")
        axes.set_ylim(0, 125 * float(max(result.of_unseen.max(), result.of_samples.max())))
        axes.legend(loc="upper right", ncols=2, fontsize=9)
        return Figure(
            "Is every kind of example generated as often as it occurs?",
            figure_svg(drawing),
            "A kind that is missing, or far too frequent, shows here at once; the distance above hardly "
            "sees one label of many. "
            f"Chance moves the bars of {result.samples:,} samples by about {100 * chance:.1f} points.",
            "A bar chart of the shares of labels among samples and unseen data.",
        )
