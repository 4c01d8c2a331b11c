"""Figures of where a model stands: the parts of its training loss, its position, and the noise of its target."""

import numpy as np

from diffuscope.findings import Chart, Panel, Rule, bootstrap_sums, density_bars, percentile_interval
from diffuscope.report import Table

from .level_charts import Curve, noise_panel
from .standing import Position
from .target_noise import TargetNoise


def standing_chart(position: Position, rng: np.random.Generator) -> Chart:
    """The share of the target's noise in the loss, and the position, by level."""
    curves = position.by_level(rng)
    ratios, scale = position.ratios, position.scale
    standing = curves.pop("position")
    shares = [line for name, curve in curves.items() for line in curve.lines(ratios, [name], 100.0)]
    panels = [noise_panel("noise of the target", "% of the training loss", scale, *shares, y_range=(0.0, 100.0))]
    kept = np.isfinite(standing.value[:, 0])
    if kept.any():
        known = Curve(*(part[kept] for part in (standing.value, standing.low, standing.high)))
        marks = (*known.lines(ratios[kept], ["this model"], 100.0), Rule(0.0), Rule(100.0))
        panels.append(noise_panel("position", "% of the way to a memorizer", scale, *marks, y_range=(-50.0, 110.0)))
    return Chart(
        "What its training loss is made of, and where it stands",
        tuple(panels),
        "Left: how much of the training loss no model can avoid, for targets averaged over draws. Right: 0% is a model "
        "that denoises held-out examples as well as training examples, 100% an exact memorizer. Bands hold 95% of the "
        "resamples of pairs of examples.",
    )


def target_chart(target: TargetNoise, rng: np.random.Generator) -> Chart:
    """The variance of the target along trajectories, and the distances of their ends to training examples."""
    along = target.variance / (target.dimension * target.scale**2)
    low, high = percentile_interval(bootstrap_sums(along, rng))
    curve = Curve(along.mean(0)[:, None], low[:, None], high[:, None])
    distances = {"samples": target.samples, "training examples": target.examples, "held-out examples": target.heldout}
    relative = {name: x / target.distance for name, x in distances.items()}
    edges = np.linspace(0, max(float(x.max()) for x in relative.values()) * (1 + 1e-9), 31).tolist()
    bars = tuple(density_bars(x.tolist(), edges, name) for name, x in relative.items())
    lines = curve.lines(target.ratios, ["this model"])
    return Chart(
        "The noise of the target on the way, and where samples end",
        (
            noise_panel("along its trajectories", "variance of the target / of the data", target.scale, *lines),
            Panel("distance to the nearest training example", "distances between examples", "density", bars),
        ),
        "Left: the variance of the clean example given the state, over the training examples; the band holds 95% of "
        "the resamples of trajectories. Right: samples of a memorizer are at 0; training examples are compared with "
        "the other ones.",
    )


def standing_table(position: Position, rng: np.random.Generator) -> Table:
    """The numbers of `standing_chart`."""
    curves = position.by_level(rng)
    rows = [
        [float(ratio), *(None if np.isnan(x := curve.value[level, 0]) else float(x) for curve in curves.values())]
        for level, ratio in enumerate(position.ratios)
    ]
    header = ["σ/α", "position", *(f"noise of the target, {name}" for name in list(curves)[1:])]
    return Table("Position and share of the target's noise by noise level", header, rows, folded=True)
