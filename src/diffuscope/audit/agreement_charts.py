"""Figures of two models: their cosines, their split-to-split covariance, and samples from the same starts."""

from dataclasses import replace

import numpy as np
import torch

from diffuscope.by_parts import extremes
from diffuscope.findings import Chart, Panel, Rule, bootstrap_sums, density_bars, intervals, percentile_interval
from diffuscope.report import Block, Gallery, GalleryItem, Picture, image_png
from diffuscope.store import Arrays

from .agreement import Agreement
from .level_charts import Curve, noise_panel
from .pictures import as_images
from .session import Session

SHOWN = 8


def agreement_chart(result: Agreement, rng: np.random.Generator) -> Chart:
    """The mean cosines with their intervals, and their distributions."""
    columns = {
        "the two models, same start": result.agree,
        "two memorizers, same start": result.memorizers,
        "the two models, other starts": (result.cosines.sum(1) - result.agree) / (len(result.cosines) - 1),
        "first's samples, nearest training": result.nearest,
        "second's samples, nearest training": result.second_nearest,
        "held-out, nearest training": result.heldout_nearest,
    }
    means = {}
    for name, x in columns.items():
        low, high = percentile_interval(bootstrap_sums(x[:, None], rng)[:, 0])
        means[name] = float(x.mean()), float(low), float(high)
    edges = np.linspace(min(-0.2, *(float(x.min()) for x in columns.values())), 1.0 + 1e-9, 25).tolist()
    names = ("the two models, same start", "two memorizers, same start", "first's samples, nearest training")
    bars = tuple(density_bars(columns[name].tolist(), edges, name) for name in names)
    return Chart(
        "Cosines after removing the mean of the training data",
        (
            Panel("means and 95% intervals", "cosine", "", (intervals(means),)),
            Panel("single samples", "cosine", "density", bars),
        ),
        "Models that generalize agree from the same start, and are no nearer to training examples than held-out ones "
        "are. Memorizers are at 1 to training examples and agree no more than two exact memorizers do.",
    )


def covariance_chart(result: Agreement, rng: np.random.Generator) -> Chart:
    """R at every noise level where it is positive and finite."""
    marks, power = [], -1.0  # the axis begins at a tenth or lower
    for name, curve in result.curves(rng).items():
        kept = np.isfinite(curve.high[:, 0]) & (np.nan_to_num(curve.low[:, 0]) > 0)
        if kept.any():
            known = Curve(*(part[kept] for part in (curve.value, curve.low, curve.high)))
            style = "dashed" if "memorizers" in name else "solid"
            marks += [replace(each, style=style) for each in known.lines(result.ratios[kept], [name])]
            power = min(power, float(np.floor(np.log10(known.low.min()))))
    y_range = 10.0**power, 100.0
    return Chart(
        "Split-to-split covariance of the score over the covariance of its target",
        (
            noise_panel(
                "", "half of |s − s'|² / the target's", result.scale, *marks, Rule(1.0), y_log=True, y_range=y_range
            ),
        ),
        "At 0.01 a model averages the noise of 100 targets, at 1 of none; memorizers are above 1 at low noise, where "
        "they are sure of different examples. Bands: 95% intervals over points.",
    )


def gallery(session: Session, samples: Arrays) -> list[Block]:
    """Samples of both models from the same starts; nothing where examples have no picture."""
    pair = [as_images(torch.from_numpy(samples[name][:SHOWN])) for name in ("first", "second")]
    if session.subject.originals is not None or pair[0] is None or pair[1] is None:
        return []
    low, high = extremes(session.subject.train)
    named = {name: x for name, x in zip(("first", "second"), pair, strict=True) if x is not None}
    items = [
        GalleryItem([Picture(image_png(x[i].numpy(), low, high), name) for name, x in named.items()], f"start {i}")
        for i in range(len(pair[0]))
    ]
    return [Gallery("Samples of the two models from the same starts", items, "The first in order, not chosen.")]
