r"""Does the model denoise these data? Its error and the mean of its answers, at every noise level.

Errors are compared with those of formulas that know only mean and deviation, the constant mean and N(mean, s^2 I),

.. math::  E|D - x_0|^2 / \mathrm{tr}\,\Sigma \quad\text{against}\quad 1 \quad\text{and}\quad \rho^2/(\rho^2 + s^2) .

Averaged over the data, a denoiser preserves the mean (see `ends`); what is left is a drift.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

from diffuscope.findings import Chart, Finding, Rule, line

from .level_charts import noise_panel

MATTERS = (0.25, 3.0)  # standard deviations of the data: the noise levels at which samples are decided
DRIFT = 0.05  # standard deviations of the data: a larger shift of the mean is told
WORSE = 1.02  # errors over those of a formula: beyond this, a level is told


@dataclass(frozen=True, kw_only=True, eq=False)
class Skill:
    """Errors over the variance of the data, per audited level, with interval; and the shift of the mean."""

    examples: int
    ratios: Float[ndarray, " levels"]
    scale: float
    error: Float[ndarray, " levels"]
    low: Float[ndarray, " levels"]
    high: Float[ndarray, " levels"]
    gaussian: Float[ndarray, " levels"]
    isotropic: Float[ndarray, " levels"]
    drift: Float[ndarray, "levels channels"]  # of the mean, in standard deviations of the data
    drift_error: Float[ndarray, "levels channels"]  # standard errors

    @property
    def worse(self) -> Bool[ndarray, " levels"]:
        """Where the model is worse than the formula that knows mean and deviation alone."""
        return self.low > WORSE * self.isotropic

    @property
    def matters(self) -> Bool[ndarray, " levels"]:
        """The levels at which samples are decided."""
        return (self.ratios > MATTERS[0] * self.scale) & (self.ratios < MATTERS[1] * self.scale)

    @property
    def largest_drift(self) -> tuple[int, int]:
        """The level and channel of the largest drift beyond its sampling error, of those that matter if any is told."""
        sure = np.abs(self.drift) - 3 * self.drift_error
        if (sure[self.matters] > DRIFT).any():
            sure = np.where(self.matters[:, None], sure, 0)
        level, channel = np.unravel_index(int(sure.argmax()), sure.shape)
        return int(level), int(channel)


def skill_finding(result: Skill) -> Finding:
    """Errors against those of N(mean, s^2 I), of the constant mean, and of the input itself."""
    worse, ratio = result.worse & result.matters, result.error / result.isotropic
    hopeless = worse.sum() >= max(1, 0.5 * result.matters.sum())
    level = int(np.where(result.matters, ratio, -1).argmax())
    where = f"σ/α = {result.ratios[level]:.3g}"
    text = "It denoises training examples better than a formula that knows only their mean and standard deviation"
    if hopeless:
        text = (
            "This is no denoiser of these data: at most of the noise levels that matter its errors are larger than "
            f"those of a formula that knows only mean and standard deviation, {ratio[level]:.3g} times at {where}. "
            "Look for other data, preprocessing, schedule or weights than it was trained with"
        )
    elif worse.any():
        text = (
            f"At {where} its errors are {ratio[level]:.3g} times those of a formula that knows only mean and deviation"
        )
    return Finding(
        name="wiring.skill",
        title="Does it denoise these data?",
        value=float(ratio[level]),
        unit="x",
        verdict=f"{text}{'' if hopeless else _reservation(result)}.",
        tone="alarm" if hopeless else "attention" if worse.any() else "good",
        interval=(
            float(result.low[level] / result.isotropic[level]),
            float(result.high[level] / result.isotropic[level]),
        ),
        null=f"1x: the error of that formula; the largest ratio from {MATTERS[0]:g} to {MATTERS[1]:g} standard "
        "deviations.",
        power=f"{result.examples} training examples at each of {len(result.ratios)} noise levels.",
    )


def _reservation(result: Skill) -> str:
    """Levels outside those that matter at which a trivial answer is better."""
    parts = []
    constant = result.ratios[(result.low > WORSE) & ~result.matters]
    unchanged = result.ratios[(result.low > WORSE * (result.ratios / result.scale) ** 2) & ~result.matters]
    if len(constant):
        parts.append(f"from σ/α = {constant.min():.3g} upward it is worse than the mean of the data")
    if len(unchanged):
        parts.append(f"below σ/α = {unchanged.max():.3g} it is worse than its own input")
    return f", with a reservation: {', and '.join(parts)}" if parts else ""


def drift_finding(result: Skill) -> Finding:
    """The largest shift of the mean over levels and channels."""
    level, channel = result.largest_drift
    value, error = float(result.drift[level, channel]), float(result.drift_error[level, channel])
    off = abs(value) - 3 * error > DRIFT
    where = f"σ/α = {result.ratios[level]:.3g}"
    matters = off and bool(result.matters[level])
    return Finding(
        name="wiring.drift",
        title="Largest shift of the mean of its answers",
        value=value,
        unit="standard deviations",
        verdict=f"Its answers drift: at {where} their mean is off by {value:+.2g} standard deviations of the data"
        + ("." if matters else ", at a noise level that decides little.")
        if off
        else "The mean of its answers is the mean of the data at every noise level.",
        tone="attention" if matters else "neutral" if off else "good",
        interval=(value - 1.96 * error, value + 1.96 * error),
        null=f"0: a denoiser preserves the mean. The largest, beyond three standard errors, of {result.drift.size}.",
        power=f"A shift of {DRIFT + 3 * float(result.drift_error.max()):.2g} standard deviations would be reported at "
        "any level.",
    )


def error_chart(result: Skill) -> Chart:
    """Errors over the variance of the data, of the model and of three formulas."""
    x = result.ratios.tolist()
    marks = (
        line(x, result.error.tolist(), "this model", low=result.low.tolist(), high=result.high.tolist()),
        line(x, result.gaussian.tolist(), "Gaussian", style="dashed"),
        line(x, result.isotropic.tolist(), "mean and standard deviation only", style="dotted"),
        Rule(1.0),
    )
    return Chart(
        "Denoising error of the model against formulas",
        (noise_panel("", "squared error / variance of the data", result.scale, *marks, y_log=True),),
        "On training examples. The horizontal line is the error of a constant answer, the mean of the data. A sound "
        "model is below the dotted line at every noise level.",
    )


def drift_chart(result: Skill) -> Chart:
    """The shift of the mean by level, one line per channel."""
    x, names = result.ratios.tolist(), [f"channel {k}" for k in range(result.drift.shape[1])]
    marks = [
        line(x, d.tolist(), name if len(names) > 1 else "", low=(d - 2 * e).tolist(), high=(d + 2 * e).tolist())
        for name, d, e in zip(names, result.drift.T, result.drift_error.T, strict=True)
    ]
    return Chart(
        "Shift of the mean of its answers",
        (noise_panel("", "shift / standard deviation", result.scale, *marks, Rule(0.0)),),
        "A denoiser preserves the mean of the data at every noise level; the bands are two standard errors.",
    )
