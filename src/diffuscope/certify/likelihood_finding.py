"""The finding of one comparison or of several levels of noise: the worst of them, and all as rows of a table."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from diffuscope.findings import Finding

from .likelihood_errors import Measured
from .likelihood_interval import MEAN_WIDTH, SAMPLE_WIDTH

SEVERITY = ("good", "neutral", "attention", "unknown", "alarm")


@dataclass(frozen=True, kw_only=True)
class ComparedFinding(Finding):
    """A finding with the errors from which it was made."""

    errors: tuple[Measured, ...] = ()


def comparison(measured: Sequence[Measured], tolerance: float, refused: Sequence[str] = ()) -> ComparedFinding:
    """The worst of `measured`: failures first, then what is undecided, then the largest error.

    `refused` are the messages of the levels that the target does not take.
    """
    worst = max(measured, key=lambda m: (SEVERITY.index(m.tone), math.inf if m.not_finite else abs(m.error)))
    levels = len(measured) + len(refused)
    verdict, tone = worst.sentence(level=levels > 1), worst.tone
    alike = sum(m.tone == tone for m in measured)
    if tone in ("alarm", "unknown") and levels > 1:
        verdict += f"; {alike} of {levels} levels {'fail' if tone == 'alarm' else 'are undecided'}"
    if refused:
        verdict += f"; {len(refused)} of {levels} levels are not measured: {refused[0]}"
        tone = "attention" if tone == "good" else tone
    width = math.sqrt(worst.dimension)
    noisy = any(m.repeats > 1 for m in measured)
    return ComparedFinding(
        name="",
        title="",
        value=worst.error,
        unit="nats",
        verdict=f"{verdict}.",
        tone=tone,
        interval=worst.interval,
        confidence=0.99,
        null=f"Within {tolerance:g} nats of the exact log-density for every sample.",
        power=(
            f"A random estimate passes once the mean error of its samples is known to be below "
            f"{tolerance + MEAN_WIDTH * width:.2g} nats, and that of each below {tolerance + SAMPLE_WIDTH * width:.2g}."
            if noisy
            else f"An error of more than {tolerance:g} nats at any of these samples fails."
        ),
        errors=tuple(measured),
    )
