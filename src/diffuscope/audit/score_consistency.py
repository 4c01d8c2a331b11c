r"""Is it the score of a diffusing density? Curl and score equation, at noised held-out examples.

A network's output may be a field that is no gradient, or the gradient of densities that do not diffuse into each other.
At each noise level, over a few points and a few random probes per point, two numbers are measured,

.. math::
    \text{curl}^2 = \frac{E|K - K^T|_F^2}{\min(E|K|_F^2,\, E|K - I|_F^2)}, \qquad
    \text{residual} = \frac{\sqrt{E|r|^2}}{\sqrt{E|r_1|^2} + \sqrt{E|r_2|^2} + \sqrt{E|r_3|^2}}, \quad
    r = r_1 + r_2 + r_3,

whose squares are estimated without bias (`densities.jacobian_symmetry`, `densities.equation_residual`). The residual is
0 if the terms of the equation cancel and 1 if they do not cancel at all. As a control, the exact Gaussian mixture of
the references is measured in the same way at noised draws of its own. Intervals resample points; those of the residual
are widened by the estimated error of the derivative in the noise level, which is large for a model with a coarse table
of steps.

The smallest detectable residual: if the residual is 0, the squared mean of K probes of covariance S, less its bias, has
standard deviation :math:`\sqrt{2\,\mathrm{tr}S^2/K(K-1)}`, at most :math:`\sqrt{2/K(K-1)}\,\mathrm{tr}S`, which is
estimated from the probes.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray

from diffuscope.denoisers import ExactDenoiser
from diffuscope.densities import curl_by_probes, relative_curl, relative_residual, score_equation_by_probes
from diffuscope.findings import Chart, Finding, Panel, Tone, bootstrap_sums, detectable_shift, percentile_interval
from diffuscope.store import Arrays

from .level_charts import Curve, noise_panel
from .session import Session
from .subject import noised

POINTS, PROBES = 64, 4
MEASURED = ("this model", "an exact mixture")
SMALL, LARGE = 0.1, 0.5  # of the terms or the Jacobian: good below SMALL, attention above LARGE
ROUNDING = 1e-3  # of the terms, which at the lowest audited noise are a few thousandths of the float32 answers


@dataclass(frozen=True, kw_only=True, eq=False)
class Equation:
    """Per noise level and MEASURED: relative residual and relative curl with intervals, and their means over levels."""

    ratios: Float[ndarray, " levels"]
    scale: float
    residual: Curve
    curl: Curve
    mean_residual: tuple[float, float, float]  # of this model: value and interval
    mean_curl: tuple[float, float, float]
    detectable: Float[ndarray, " levels"]  # relative residual found with probability 0.95
    rate_error: Float[ndarray, " levels"]  # error of the derivative in the noise level, relative to the terms
    points: int


def measure_equation(session: Session, index: int) -> Arrays:
    """The squares at level `index` for the model and for the mixture: (n, 4), (n, 3), and two errors (n,).

    Raises InputError for a model that torch cannot differentiate twice with respect to its input.
    """
    model, mixture = session.subject.denoiser, session.references.models["mixture"]
    schedule, t = model.schedule, float(session.levels.times[index])
    _, heldout, noise = (part[:POINTS] for part in session.points)
    out: Arrays = {}
    own = mixture.sample(len(heldout), generator=session.torch_stream("mixture")).to(heldout)
    exact = ExactDenoiser(mixture, schedule)
    for name, denoiser, clean in zip(MEASURED, (model, exact), (heldout, own), strict=True):
        x_t = noised(schedule, clean, noise, t)
        generator = session.torch_stream(f"probes {index}")
        equation = score_equation_by_probes(denoiser, x_t, t, probes=PROBES, generator=generator)
        rotation = curl_by_probes(denoiser, x_t, t, probes=PROBES, generator=generator)
        out[f"{name}.equation"] = equation.squares.numpy()
        out[f"{name}.curl"] = rotation.squares.numpy()
        out[f"{name}.rate_error"] = equation.rate_error.numpy()
        out[f"{name}.probe_noise"] = PROBES * equation.spread_error.double().square().flatten(1).sum(1).numpy()
    return out


def residuals(
    measures: list[Arrays],
    ratios: Float[ndarray, " levels"],
    scale: float,
    significance: float,
    rng: np.random.Generator,
) -> Equation:
    """Reduce the squares of `measure_equation`, one dictionary of arrays per level."""
    curves, means = {}, {}
    for key, relative in (("equation", relative_residual), ("curl", relative_curl)):
        values, resamples = [], []
        for name in MEASURED:
            rows = np.stack([level[f"{name}.{key}"] for level in measures], 1)  # points, levels, squares
            resampled = bootstrap_sums(rows.reshape(len(rows), -1), rng).reshape(-1, *rows.shape[1:])
            values.append(relative(torch.from_numpy(rows.mean(0))).numpy())
            resamples.append(relative(torch.from_numpy(resampled)).numpy())
        low, high = percentile_interval(np.stack(resamples, 2))
        curves[key] = Curve(np.stack(values, 1), low, high)
        bounds = percentile_interval(resamples[0].mean(1))
        means[key] = (float(values[0].mean()), float(bounds[0]), float(bounds[1]))
    own = {
        key: [level[f"{MEASURED[0]}.{key}"] for level in measures] for key in ("equation", "rate_error", "probe_noise")
    }
    sizes = np.array([np.sqrt(np.maximum(rows.mean(0)[1:], 0)).sum() for rows in own["equation"]])
    sizes = np.maximum(sizes, np.finfo(float).tiny)
    points = len(own["equation"][0])
    stds = [np.sqrt(2 / (PROBES * (PROBES - 1))) * np.sqrt((noise**2).sum()) / points for noise in own["probe_noise"]]
    detectable = np.sqrt([detectable_shift(float(std), significance) for std in stds]) / sizes
    rate_errors = np.array([np.sqrt((error**2).mean()) for error in own["rate_error"]]) / sizes
    detectable = np.maximum(detectable, ROUNDING) + rate_errors
    residual, widening = curves["equation"], np.stack([rate_errors, np.zeros_like(rate_errors)], 1)
    residual = Curve(residual.value, np.maximum(residual.low - widening, 0), np.minimum(residual.high + widening, 1))
    (mean, low, high), error = means["equation"], float(rate_errors.mean())
    return Equation(
        ratios=ratios,
        scale=scale,
        residual=residual,
        curl=curves["curl"],
        mean_residual=(mean, max(0.0, low - error), min(1.0, high + error)),
        mean_curl=means["curl"],
        detectable=detectable,
        rate_error=rate_errors,
        points=points,
    )


def consistency_findings(result: Equation) -> list[Finding]:
    """The share of the equation's terms that does not cancel, and the antisymmetric share of the Jacobian."""
    residual, curl = result.residual.value[:, 0], result.curl.value[:, 0]
    worst, most_curl = int(residual.argmax()), int(curl.argmax())
    value, low, high = result.mean_residual
    rotation, rotation_low, rotation_high = result.mean_curl
    typical = float(np.median(result.detectable))  # of 100%, where no term cancels another
    sample = f"{result.points} held-out examples at each noise level, {PROBES} probes each"
    control = f"{MEASURED[1].capitalize()} measured in the same way gives"
    is_gradient = "It is close to the gradient of a log-density."
    return [
        Finding(
            name="diagnostics.score_equation",
            title="Is it the score of a diffusing density?",
            value=100 * value,
            unit="%",
            verdict=f"Averaged over noise levels, {value:.0%} of the terms of the score equation do not cancel; at "
            f"worst {residual[worst]:.0%}, at σ/α = {result.ratios[worst]:.3g}. {_consequence(low, high)}",
            tone=_tone(low, high),
            interval=(100 * low, 100 * high),
            null=f"0%: the score of any diffusing density. {control} {result.residual.value[:, 1].mean():.1%}. The "
            f"derivative in the noise level is accurate to {result.rate_error.mean():.1g} of the terms, which the "
            "interval includes.",
            power=f"At a typical noise level {typical:.1%} would have been found with probability 0.95 ({sample})."
            if typical <= 1
            else f"None: at a typical noise level not even terms that all add up would have been found ({sample}).",
        ),
        Finding(
            name="diagnostics.curl",
            title="Curl of its score",
            value=100 * rotation,
            unit="%",
            verdict=f"Averaged over noise levels, the antisymmetric part of its Jacobian is {rotation:.0%} of the "
            f"whole; at worst {curl[most_curl]:.0%}, at σ/α = {result.ratios[most_curl]:.3g}. "
            + (is_gradient if rotation_high < SMALL else "No density has exactly this score."),
            tone=_tone(rotation_low, rotation_high),
            interval=(100 * rotation_low, 100 * rotation_high),
            null=f"0%: the score of any density. {control} {result.curl.value[:, 1].max():.1g}, which is rounding.",
            power=f"The curl of a gradient is rounding only, so that any larger curl is found ({sample}).",
        ),
    ]


def _consequence(low: float, high: float) -> str:
    """The conclusion that the interval of the mean residual supports."""
    if high < SMALL:
        return "Its outputs at different noise levels are consistent."
    if low == 0:
        return "Whether its outputs at different noise levels are consistent is undecided: the interval includes 0."
    return (
        "Its outputs at different noise levels are inconsistent, so that different samplers generate different "
        "distributions, however small their steps."
    )


def _tone(low: float, high: float) -> Tone:
    if high < SMALL:
        return "good"
    return "attention" if low > LARGE else "neutral"


def consistency_chart(result: Equation) -> Chart:
    """Relative residual and relative curl of the model and of the exact mixture."""

    def panel(curve: Curve, title: str) -> Panel:
        limits = (0.0, 1.1 * max(10.0, float(100 * curve.high[:, 0].max())))
        marks = curve.lines(result.ratios, MEASURED, 100.0)
        return noise_panel(title, "%", result.scale, *marks, y_range=limits)

    return Chart(
        "Are its outputs at all noise levels the score of one density?",
        (
            panel(result.residual, "score equation: residual"),
            panel(result.curl, "curl: antisymmetric part of the Jacobian"),
        ),
        "Left: the score of a diffusing density obeys an equation of three terms, which cancel at every point and "
        "noise level; shown is the part that does not cancel, and 100% means no cancellation at all. Right: the "
        "antisymmetric part of the network's Jacobian, which is zero for a gradient. The exact mixture, measured in "
        "the same way, shows the error and the noise of the measurement.",
    )
