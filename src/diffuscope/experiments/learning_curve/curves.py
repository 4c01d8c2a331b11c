"""The curves of one training as claims and as small multiples: what both data sets are asked, in the same words."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from diffuscope.findings import (
    Chart,
    Claim,
    Line,
    Mark,
    Panel,
    TurningPoint,
    at_least,
    at_most,
    bootstrap_sums,
    largest,
    line,
    percentile_interval,
    points,
)

from .residuals import PAPER, SIGNIFICANCE, Curves

STANDARD_ERRORS = 4  # of a lead: exceeded by chance once in 16,000


def turning_claim(name: str, where: str, seen: TurningPoint, levels: int, step: str) -> Claim:
    """The residual turns: the larger p-value of 'it never fell' and 'it does not rise', corrected for the levels."""
    low, high = seen.interval
    return at_most(
        name,
        f"{where}: the Gaussian residual turns, least at {step} {seen.step:g} ({low:g} to {high:g}) and "
        f"{seen.rise:.0%} higher in the end; the larger p-value of 'no fall' and 'no rise'",
        significant(seen),
        SIGNIFICANCE / levels,
        because=f"level {SIGNIFICANCE:g} over {levels} noise levels; a rise of {seen.smallest_rise:.0%} would have "
        "been found",
        source=PAPER,
    )


def turnings_claim(name: str, title: str, seen: Sequence[TurningPoint], levels: int) -> Claim:
    """The same of several turning points at once."""
    return at_most(
        name,
        f"{title}: the largest p-value of 'no fall' and 'no rise'",
        largest(map(significant, seen)),
        SIGNIFICANCE / levels,
        because=f"level {SIGNIFICANCE:g} over {levels} noise levels",
        source=PAPER,
    )


def significant(seen: TurningPoint) -> float:
    """The p-value of a turning point: of both its halves."""
    return max(seen.p_fall, seen.p_rise)


def lead_claim(name: str, title: str, lead: float) -> Claim:
    """One model is nearer than another, in paired standard errors."""
    return at_least(
        name, title, lead, STANDARD_ERRORS, because="4 paired standard errors", source=PAPER, unit="standard errors"
    )


def interval_mark(seen: TurningPoint, y_range: tuple[float, float]) -> Line:
    """A shaded strip over the interval of a turning point."""
    return line(seen.interval, (seen.least,) * 2, style="dotted", low=(y_range[0],) * 2, high=(y_range[1],) * 2)


def multiples(
    title: str,
    curves: Sequence[Curves],
    seen: Sequence[TurningPoint],
    *,
    x_label: str,
    x_range: tuple[float, float],
    y_range: tuple[float, float],
    how_to_read: str,
) -> Chart:
    """A panel per noise level: the residual against every exact model, with bands over the points."""
    panels = []
    for curve, turn in zip(curves, seen, strict=True):
        marks: list[Mark] = []
        for model in curve.models:
            values = curve.of_model(model)
            resampled = bootstrap_sums(values, np.random.default_rng(0))
            marks.append(_banded(curve, values.mean(0), resampled, model))
        marks.append(points([turn.step], [turn.least], "least, Gaussian"))
        if turn.found:
            marks.append(interval_mark(turn, y_range))
        panels.append(
            Panel(
                f"noise {curve.ratio:g}",
                x_label,
                "residual",
                tuple(marks),
                x_log=True,
                y_log=True,
                x_range=x_range,
                y_range=y_range,
            )
        )
    return Chart(title, tuple(panels), how_to_read, shared_y=True)


def over_least(title: str, curves: Mapping[str, Sequence[Curves]], *, x_label: str, how_to_read: str) -> Chart:
    """A panel per set: the Gaussian residual over its least, one line per noise level."""
    panels = []
    for name, found in curves.items():
        marks = []
        for curve in found:
            values = curve.of_model("Gaussian")
            resampled, least = bootstrap_sums(values, np.random.default_rng(0)), values.mean(0).argmin()
            ratio = values.mean(0) / values[:, least].mean()
            marks.append(_banded(curve, ratio, resampled / resampled[:, [least]], f"noise {curve.ratio:g}"))
        panels.append(
            Panel(f"{name} points", x_label, "residual over its least", tuple(marks), x_log=True, y_range=(0.9, 1.9))
        )
    return Chart(title, tuple(panels), how_to_read, shared_y=True)


def _banded(
    curve: Curves, value: Float[ndarray, " steps"], resampled: Float[ndarray, "resamples steps"], label: str
) -> Line:
    low, high = percentile_interval(resampled)
    return line(curve.steps, value.tolist(), label, low=low.tolist(), high=high.tolist())
