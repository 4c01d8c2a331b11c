r"""How few steps? Distances from the finely integrated trajectory, and its part that is known in closed form.

Every run starts from the same noise, integrates the probability-flow ODE from the highest to the lowest audited level
and ends with one denoiser call. Distances are root mean squares per coordinate, in units of the data's standard
deviation. The reference is Heun's method with REFERENCE_STEPS steps; its own error is estimated from a run with half
the steps (order 2: a third of the difference).

A number of function evaluations (NFE) is enough if the upper end of the interval of its error is within ENOUGH. The
interval resamples trajectories, and its confidence allows for all cells of the table with the same NFE (Bonferroni).

Teleportation replaces the part above some noise level by the Gaussian's closed-form flow, at zero NFE. Its error is
estimated from the difference of the two denoisers along the closed-form path (`suggest_skip`) and then measured.
"""

import math
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from diffuscope.findings import Chart, Finding, Mark, Panel, Rule, bootstrap_sums, line, percentile_interval, points
from diffuscope.findings.numbers import number
from diffuscope.report import Cell, Table
from diffuscope.samplers.generation import RHO
from diffuscope.store import Arrays

from ..level_charts import NOISE, noise_panel
from ..question import Answer, Question
from ..session import Session
from ..step_measures import BUDGETS, REFERENCE_STEPS, SAMPLERS, measure_steps, steps_within

CONFIDENCE = 0.95
ENOUGH = 0.1  # standard deviations of the data: a budget whose error is at most this suffices


@dataclass(frozen=True, kw_only=True, eq=False)
class Steps:
    """Per seed, sampler and budget (NFE) the distance to the reference; per noise level the teleportation error."""

    scale: float
    samplers: tuple[str, ...]
    budgets: tuple[int, ...]
    plain: Float[ndarray, "seeds samplers budgets"]
    teleported: Float[ndarray, "seeds samplers budgets"]
    reference_error: float
    candidates: Float[ndarray, " candidates"]  # noise levels, decreasing; the first is the start
    lowest: float  # the level of the last denoiser call
    own_steps: Int[ndarray, " own"]  # of the owner's sampler by budget; empty without it
    estimated: Float[ndarray, "seeds candidates"]
    suggested: float  # the lowest noise level whose estimate is within the tolerance
    skip: float  # the lowest at or above it whose measured error is too: recommended; the top level if nowhere
    measured: Float[ndarray, " seeds"]  # distance of the finely integrated teleported run from the reference
    tolerance: float


def reduced(arrays: Arrays, scale: float, tolerance: float, own: str = "") -> Steps:
    """The stored arrays of `measure_steps` under their names; `own` is the name of the owner's sampler."""
    numbers: dict[str, Any] = {name: float(array) if array.ndim == 0 else array for name, array in arrays.items()}
    samplers = (*SAMPLERS, own)[: arrays["plain"].shape[1]]
    return Steps(scale=scale, samplers=samplers, budgets=BUDGETS, tolerance=tolerance, **numbers)


def rms(distances: Float[ndarray, "seeds *shape"]) -> Float[ndarray, "*shape"]:
    """Root mean square over seeds."""
    return np.asarray(np.sqrt((distances**2).mean(0)))


@dataclass(frozen=True, kw_only=True)
class Recommended:
    """A sampler, its grid of times, and the error there with the upper end of its interval."""

    nfe: int
    sampler: str
    teleported: bool
    steps: int
    high: float
    low: float
    error: float
    upper: float

    @property
    def grid(self) -> str:
        """The times, in words and as they are made in Python."""
        call = f"model_times(denoiser, {self.steps}, high={self.high:.6g}, low={self.low:.6g})"
        return (
            f"{self.steps} steps, equal in (σ/α)^(1/{RHO:g}), from σ/α = {self.high:.4g} to {self.low:.4g}, and a "
            f"final denoiser call: {call}"
        )


def recommended(result: Steps, rng: np.random.Generator) -> Recommended | None:
    """Of the cells whose upper end is within ENOUGH, the one with fewest NFE and then least error."""
    tables = np.stack([result.plain, result.teleported], 1)
    cells = tables.shape[1:]
    confidence = 1 - (1 - CONFIDENCE) / (cells[0] * cells[1])
    squares = tables.reshape(len(tables), -1) ** 2
    upper = np.sqrt(percentile_interval(bootstrap_sums(squares, rng), confidence)[1]).reshape(cells)
    error = rms(tables)
    enough = sorted((result.budgets[c], error[t, r, c], t, r, c) for t, r, c in np.argwhere(upper <= ENOUGH))
    if not enough:
        return None
    budget, least, table, row, column = enough[0]
    ours = SAMPLERS.get(result.samplers[row])
    return Recommended(
        nfe=int(budget),
        sampler=result.samplers[row],
        teleported=bool(table),
        steps=steps_within(int(budget), ours.nfe_per_step) if ours else int(result.own_steps[column]),
        high=result.skip if table else float(result.candidates[0]),
        low=result.lowest,
        error=float(least),
        upper=float(upper[table, row, column]),
    )


def findings(result: Steps, rng: np.random.Generator) -> list[Finding]:
    """The smallest sufficient NFE, and the recommended teleportation with its estimated and measured error."""
    return [_enough(result, recommended(result, rng)), *_teleport(result, rng)]


def _enough(result: Steps, best: Recommended | None) -> Finding:
    if best is not None:
        after = f" after teleportation to σ/α = {best.high:.3g}" if best.teleported else ""
        verdict = (
            f"{best.nfe} NFE are enough: {best.sampler}{after} ends {number(best.error)} standard deviations from the "
            f"finely integrated result, at most {number(best.upper)} with 95% confidence (up to {ENOUGH} counts as "
            f"enough). Times: {best.grid}."
        )
    else:
        least = min(float(rms(table).min()) for table in (result.plain, result.teleported))
        verdict = (
            f"More NFE are needed than were tried: with up to {result.budgets[-1]}, samples end {number(least)} "
            "standard deviations or more from the finely integrated result, and the upper end of no interval is at "
            f"most {ENOUGH}."
        )
    return Finding(
        name="steps.enough",
        title="How few steps does it need?",
        value=math.nan if best is None else float(best.nfe),
        unit="" if best is None else "NFE",
        verdict=verdict,
        tone="attention" if best is None else "good",
        null=f"Smallest NFE of the table whose error is at most {ENOUGH}, by the upper end of its interval.",
        power=f"{len(result.plain)} trajectories; the reference is accurate to {result.reference_error:.1g}.",
    )


def _teleport(result: Steps, rng: np.random.Generator) -> list[Finding]:
    impossible = result.skip == result.candidates[0]
    level = int(np.flatnonzero(np.isclose(result.candidates, result.skip))[0])
    measured, estimate = float(rms(result.measured)), float(rms(result.estimated)[1 if impossible else level])
    verdict = (
        f"The closed-form Gaussian flow can replace the model down to σ/α = {result.skip:.3g}: the estimated error is "
        f"{estimate:.3f} standard deviations of the data per coordinate, the measured error {measured:.3f}."
    )
    if impossible:
        verdict = (
            f"No part of the trajectory can be skipped with an error of at most {result.tolerance} standard deviations "
            f"of the data; one level below the highest noise the estimated error is {estimate:.2g}."
        )
    null = f"Tolerance: {result.tolerance} standard deviations of the data. The estimate alone suggests σ/α = "
    where = Finding(
        name="steps.teleport",
        title="Noise level down to which the Gaussian flow can replace the model",
        value=result.skip,
        unit="σ/α",
        verdict=verdict,
        tone="attention" if impossible else "good",
        null="" if impossible else f"{null}{result.suggested:.3g}.",
    )
    if impossible:
        return [where]
    bounds = np.sqrt(np.array(percentile_interval(bootstrap_sums(result.measured[:, None] ** 2, rng)))).ravel()
    error = Finding(
        name="steps.teleport_error",
        title="Measured error of the recommended teleportation",
        value=measured,
        unit="standard deviations",
        verdict=f"Samples end {measured:.3f} standard deviations from those of the model alone.",
        tone="good",
        interval=(float(bounds[0]), float(bounds[1])),
        null=f"Estimated at {estimate:.3f} beforehand; the reference is accurate to {result.reference_error:.1g}.",
    )
    return [where, error]


def budgets_chart(result: Steps) -> Chart:
    """Distance to the fine trajectory by sampler and NFE, plain and teleported."""
    budgets = [float(budget) for budget in result.budgets]

    def panel(table: Float[ndarray, "seeds samplers budgets"], title: str) -> Panel:
        lines = [line(budgets, row.tolist(), name) for name, row in zip(result.samplers, rms(table), strict=True)]
        axes = "NFE", "distance / standard deviation of the data"
        return Panel(title, *axes, tuple(lines), y_log=True, x_ticks=tuple(budgets))

    return Chart(
        "How close few steps come to the finely integrated result",
        (panel(result.plain, "from the start"), panel(result.teleported, f"teleported to σ/α = {result.skip:.3g}")),
        "Every sampler starts from the same noise; lower is closer to the finely integrated result. In the right "
        "panel, the Gaussian's closed-form flow replaces the high-noise part.",
        shared_y=True,
    )


def teleport_chart(result: Steps) -> Chart:
    """The estimated teleportation error by hand-over level, with the measured one at the recommended level."""
    x, estimate = result.candidates[1:].tolist(), rms(result.estimated)[1:]
    marks: list[Mark] = [line(x, estimate.tolist(), "estimated")]
    if result.skip < result.candidates[0]:
        marks.append(points([result.skip], [float(rms(result.measured))], "measured"))
    marks.append(Rule(result.tolerance))
    limits = (max(1e-5, 0.5 * float(estimate[estimate > 0].min(initial=1e-4))), 3.0)
    x_label, y_label = f"hand-over at {NOISE}", "displacement / standard deviation"
    return Chart(
        "How far down the Gaussian flow can replace the network",
        (noise_panel("", y_label, result.scale, *marks, y_log=True, y_range=limits, x_label=x_label),),
        "The displacement of the final sample if the closed form replaces the part above each noise level; the "
        "horizontal line is the tolerance.",
    )


def _numbers(result: Steps) -> Table:
    rows: list[list[Cell]] = [
        [sampler + suffix, *errors.tolist()]
        for table, suffix in ((result.plain, ""), (result.teleported, ", teleported"))
        for sampler, errors in zip(result.samplers, rms(table), strict=True)
    ]
    return Table(
        "Distance from the finely integrated result, in standard deviations of the data",
        ["sampler", *(f"{budget} NFE" for budget in result.budgets)],
        rows,
        f"Root mean square over {len(result.plain)} trajectories; NFE include the final denoiser call. "
        f"Reference: Heun, {REFERENCE_STEPS} steps, accurate to {result.reference_error:.1g}. Every grid has equal "
        f"steps in (σ/α)^(1/{RHO:g}), from σ/α = {result.candidates[0]:.4g} to {result.lowest:.4g}; teleported ones "
        f"start at {result.skip:.4g}.",
    )


def _ask(session: Session) -> Answer:
    session.progress.set_postfix_str("counting steps")
    arrays = session.store.remember_together("steps", partial(measure_steps, session))
    own = session.settings.sampler
    result = reduced(arrays, session.subject.scale, session.settings.skip_tolerance, own)
    found, best = findings(result, session.numpy_stream("steps")), recommended(result, session.numpy_stream("steps"))
    without = f" {own} has no row: it draws noise, or its NFE do not grow with the grid of times."
    return Answer(
        findings=found,
        facts={"steps_recommended": None if best is None else asdict(best)},
        method=f"Samples were made by {own}.{without if own not in result.samplers else ''}" if own else "",
        blocks=[budgets_chart(result), _numbers(result), teleport_chart(result)],
        text=" ".join(finding.verdict for finding in found[:2]),
        result=result,
    )


QUESTION = Question("steps", "How few steps does it need?", _ask, stages=lambda _: 3 + 2 * len(SAMPLERS))
