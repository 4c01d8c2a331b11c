r"""In what order does it decide? The noise level at which each principal component of its samples emerges.

`component_levels` defines the emergence level of a component and the dimension of a trajectory. Intervals resample
trajectories. The order is Spearman's rank correlation of emergence level and variance. A component of which the whole
interval is below its bound :math:`\sqrt{M}`, M the second moment of the model's own samples, is *late*: the model's
answers at different noise levels are then not those of one distribution. The question is none of a one-step map, which
declares itself (`one_step = True`) or is known by the size of its answer.
"""

from functools import partial

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray

from diffuscope.findings import (
    Chart,
    Finding,
    Mark,
    Panel,
    Rule,
    bootstrap_sums,
    line,
    percentile_interval,
    points,
    rank_correlation,
)
from diffuscope.report import Block, Cell, Table
from diffuscope.samplers import is_one_step
from diffuscope.theory.geometry import components_for
from diffuscope.theory.geometry.dimension import SHARE

from ..component_levels import FEWEST_LEVELS, ComponentLevels, jump_level, measure_components, relative
from ..level_charts import NOISE, noise_panel
from ..question import Answer, Question
from ..session import Session

FEWEST_COMPONENTS = 3  # for an order
LATE = 0.95  # of the bound: Heun's method on some thirty steps is accurate to a few percent of a level
CONFIDENCE = 0.95
TITLE = "In what order does it decide?"
SHOWN = (0, 1, 3, 7, 15)


def findings(result: ComponentLevels, rng: np.random.Generator, *, latents: bool = False) -> list[Finding]:
    """The order, which components are late, the dimension of trajectories, and what is decided before the jump ends."""
    reason = cannot_tell(result, latents=latents)
    resampled = resampled_squares(result.squares, rng)
    drawn = result.levels_of(relative(resampled.swapaxes(0, 1)))
    drawn = np.where(np.isnan(drawn), result.ratios[0], drawn)  # decided above the highest level
    if reason:
        plane = [] if latents or result.one_step else [_dimension(result, rng)]
        return [_unknown(reason), *plane]
    own = np.sqrt(resampled[:, -1])
    return [_order(result, drawn), _late(result, drawn / own), _dimension(result, rng), _jump(result)]


def resampled_squares(
    squares: Float[ndarray, "trajectories levels k"], rng: np.random.Generator
) -> Float[ndarray, "draws levels k"]:
    """Mean squares over the trajectories of every bootstrap draw."""
    drawn = bootstrap_sums(squares.reshape(len(squares), -1), rng)
    return drawn.reshape(len(drawn), *squares.shape[1:])


def cannot_tell(result: ComponentLevels, *, latents: bool) -> str:
    """Why the question has no answer, if it has none."""
    if latents:
        return "the components are those of the latents, which say little about the outline of what they decode to"
    if result.one_step:
        return (
            f"at the highest noise its answer departs from the mean {float(np.median(result.emerged[0])):.2f} times as "
            "far as at the lowest, where that of a denoiser hardly does: it is wrong there (division by a small alpha "
            "magnifies the errors of a predicted noise), or it is a one-step map, which declares one_step = True"
        )
    if result.known.sum() < FEWEST_COMPONENTS:
        return (
            f"of the principal components {int(result.known.sum())} emerge between the audited noise levels, and an "
            f"order needs {FEWEST_COMPONENTS}"
        )
    return ""


def _unknown(reason: str) -> Finding:
    return Finding(
        name="order.components",
        title=TITLE,
        value=float("nan"),
        unit="",
        verdict=f"Cannot tell: {reason}.",
        tone="unknown",
        power="None, for this reason.",
    )


def _order(result: ComponentLevels, drawn: Float[ndarray, "draws k"]) -> Finding:
    known, levels = result.known, result.levels
    value = float(rank_correlation(levels[known], result.variances[known]))
    draws = rank_correlation(drawn[:, known], result.variances[known])
    low, high = (float(end) for end in percentile_interval(np.nan_to_num(draws)))  # all levels equal: no order
    spread = np.nanmedian(np.nanstd(np.log(drawn[:, known]), 0))
    first, last = np.flatnonzero(known)[[0, -1]]
    expected = result.gaussian_levels[[first, last]]
    opening = "Outline first: its" if low > 0.5 else "Its" if high > 0.5 else "Not outline first: its"
    order = "in the order of their variance" if low > 0.5 else "hardly in the order of their variance"
    above = f"; {(~known).sum()} more are decided above the highest audited level" if not known.all() else ""
    verdict = (
        f"{opening} {known.sum()} leading principal components are decided {order} (rank correlation {value:.2f}), the "
        f"first at σ/α = {levels[first]:.3g} and the last at {levels[last]:.3g}"
    )
    between = np.searchsorted(-result.ratios, -levels[known])  # ratios decrease
    if between.min() == between.max():  # what differs within one step of the levels is interpolated
        upper, lower = result.ratios[between[0] - 1], result.ratios[between[0]]
        verdict = (
            f"All at once: its {known.sum()} leading principal components are decided between the same two audited "
            f"levels, σ/α = {upper:.3g} and {lower:.3g}, so that their order is not seen"
        )
    return Finding(
        name="order.components",
        title=TITLE,
        value=value,
        unit="",
        verdict=f"{verdict}; the exact Gaussian decides the first at {expected[0]:.3g} and the last at "
        f"{expected[1]:.3g}{above}.",
        tone="neutral",
        interval=(low, high),
        confidence=CONFIDENCE,
        null="1: the order of an exact Gaussian, which decides a component of variance λ at σ/α = √λ (and "
        "a little above near the lowest level).",
        power=f"{len(result.squares)} trajectories; the standard error of an emergence level is {spread:.1%} (median).",
    )


def _late(result: ComponentLevels, drawn: Float[ndarray, "draws k"]) -> Finding:
    known = result.known
    own = result.levels / result.bound
    confidence = 1 - (1 - CONFIDENCE) / int(known.sum())
    upper = np.nanquantile(drawn[:, known], 1 - (1 - confidence) / 2, axis=0)
    late = np.flatnonzero(known)[upper < LATE]
    reach = float(np.median(upper - own[known]))
    worst = int(np.nanargmin(own))
    named = ", ".join(str(component + 1) for component in late)
    verdict = (
        f"No component is found to be decided later than denoisers of one distribution allow; component {worst + 1} "
        f"comes nearest, at {own[worst]:.2f} times the bound."
    )
    if len(late):
        verdict = (
            f"Components {named} are decided later than denoisers of one distribution allow, component {worst + 1} at "
            f"{own[worst]:.2f} times the bound: at high noise the model says too little about them."
        )
    ends = (float(np.nanquantile(drawn[:, worst], q)) for q in ((1 - confidence) / 2, (1 + confidence) / 2))
    return Finding(
        name="order.late",
        title="Emergence level over its lower bound, for the latest component",
        value=float(own[worst]),
        unit="x",
        verdict=verdict,
        tone="attention" if len(late) else "neutral",
        interval=(next(ends), next(ends)),
        confidence=round(confidence, 4),
        null="At least 1x for the exact denoisers of any distribution; for those of a Gaussian 1x, and up to "
        "1.4x near the lowest level.",
        power=f"Late is an interval that ends below {LATE}x; corrected for {int(known.sum())} components, intervals "
        f"end {reach:.2f}x above the value (median).",
    )


def _dimension(result: ComponentLevels, rng: np.random.Generator) -> Finding:
    name, title = "order.dimension", f"Principal components that hold {SHARE:.1%} of a trajectory's variance"
    if not len(result.shares):
        few = f"in {result.dimension} dimensions every trajectory lies in a plane"
        if result.dimension > 2:
            few = f"{len(result.ratios)} noise levels are too few, expected {FEWEST_LEVELS}"
        text = f"Cannot tell the dimension of its trajectories: {few}."
        return Finding(name=name, title=title, value=float("nan"), unit="", verdict=text, tone="unknown")
    counts, closed = (
        components_for(torch.from_numpy(shares)).double().numpy() for shares in (result.shares, result.gaussian_shares)
    )
    low, high = (float(end[0]) for end in percentile_interval(bootstrap_sums(counts[:, None], rng)))
    two = float(result.shares[:, :2].sum(1).mean())
    return Finding(
        name=name,
        title=title,
        value=float(counts.mean()),
        unit="",
        verdict=f"Its trajectories are nearly plane: two principal components hold {two:.2%} of the variance, and "
        f"{counts.mean():.2g} on average hold {SHARE:.1%}."
        if two > 0.99
        else f"Two principal components hold {two:.2%} of the variance of a trajectory, and {counts.mean():.2g} on "
        f"average hold {SHARE:.1%}.",
        tone="neutral",
        interval=(low, high),
        null=f"{closed.mean():.3g} for the exact Gaussian from the same starts, at these {len(result.ratios)} levels.",
        power=f"{len(counts)} trajectories.",
    )


def _jump(result: ComponentLevels) -> Finding:
    known, levels = result.known, result.levels
    decided = int((levels[known] > result.skip).sum())
    share = result.emerged[:, known][np.argmin(np.abs(result.ratios - result.skip))]
    if result.skip >= result.ratios[0]:
        verdict = (
            "None of these decisions can be left to the Gaussian's closed form within "
            f"{result.tolerance} standard deviations of the data."
        )
    else:
        verdict = (
            f"Down to σ/α = {result.skip:.3g} the Gaussian's closed form may take the decisions (within "
            f"{result.tolerance} standard deviations of the data): {decided} of {known.sum()} components are decided "
            f"by then, and {share[0]:.0%} of the first is in the estimate."
        )
    return Finding(
        name="order.jump",
        title="Noise level down to which a closed form may decide",
        value=result.skip,
        unit="σ/α",
        verdict=verdict,
        tone="neutral",
        null="The highest level: nothing can be left to the closed form.",
    )


def emergence_chart(result: ComponentLevels, rng: np.random.Generator) -> Chart:
    """Curves of some components with their prediction, and all levels against the variances."""
    columns = [k for k in SHOWN if k < result.squares.shape[2]]
    curves = relative(resampled_squares(result.squares[:, :, columns], rng).swapaxes(0, 1)).swapaxes(0, 1)
    low, high = percentile_interval(curves)
    ratios = result.ratios.tolist()
    marks: list[Mark] = [
        line(
            ratios,
            result.emerged[:, k].tolist(),
            f"component {k + 1}",
            low=low[:, i].tolist(),
            high=high[:, i].tolist(),
        )
        for i, k in enumerate(columns)
    ]
    for k in columns:
        label = "Gaussian" if k == columns[0] else ""
        marks.append(line(ratios, result.predicted[:, k].tolist(), label, style="dotted"))
    if result.skip < result.ratios[0]:
        marks.append(Rule(result.skip, "x", label="closed form"))
    known, variances = result.known, result.variances
    by_variance: list[Mark] = [
        points(variances[known].tolist(), result.levels[known].tolist(), "measured"),
        points(variances.tolist(), result.bound.tolist(), "bound, by its samples"),
        line(variances.tolist(), result.gaussian_levels.tolist(), "Gaussian", style="dotted"),
    ]
    if not known.any():
        by_variance = by_variance[1:]
    return Chart(
        "When each principal component is decided",
        (
            noise_panel("share in the clean estimate", "share of the sample's", result.scale, *marks),
            Panel("emergence level", "variance of the component", NOISE, tuple(by_variance), x_log=True, y_log=True),
        ),
        "Generation runs from right to left. A component is decided where its curve passes 0.71. Dotted: the exact "
        "Gaussian. Right: the level where each component is decided; denoisers of one distribution lie on or above the "
        "bound.",
    )


def dimension_chart(result: ComponentLevels) -> Chart:
    """The share of variance beyond the leading components."""
    beyond = [
        np.clip(1 - shares.cumsum(1).mean(0)[:-1], 1e-12, None)[:8]
        for shares in (result.shares, result.gaussian_shares)
    ]
    marks = [
        line(range(1, len(curve) + 1), curve.tolist(), name)
        for name, curve in zip(("the model", "Gaussian"), beyond, strict=True)
    ]
    axes = "principal components of a trajectory", "share of variance beyond"
    return Chart(
        "How many dimensions one trajectory needs",
        (Panel("", *axes, (*marks, Rule(1 - SHARE)), y_log=True, y_range=(1e-8, 1.0)),),
        f"Mean over trajectories. The horizontal line marks {1 - SHARE:.1%}. A rotation from noise to data in a plane "
        "needs two components.",
    )


def _numbers(result: ComponentLevels) -> Table:
    own, gaussian = result.bound, result.gaussian_levels
    rows: list[list[Cell]] = [
        [k + 1, float(variance), _cell(result.levels[k]), float(gaussian[k]), float(own[k])]
        for k, variance in enumerate(result.variances)
    ]
    header = ["component", "variance of the data", "decided at σ/α", "Gaussian", "bound, by its samples"]
    return Table("When each component is decided", header, rows, folded=True)


def _cell(level: float) -> Cell:
    return None if np.isnan(level) else float(level)


def _ask(session: Session) -> Answer:
    if is_one_step(session.subject.denoiser):
        return Answer(findings=[_unknown("the model declares that it is a one-step map (one_step = True)")])
    arrays = session.shared_stage("order", "following decisions", partial(measure_components, session))
    subject, settings = session.subject, session.settings
    result = ComponentLevels(
        ratios=session.levels.ratios.numpy(),
        scale=subject.scale,
        dimension=subject.train[0].numel(),
        skip=jump_level(session),
        tolerance=settings.skip_tolerance,
        **arrays,
    )
    found = findings(result, session.numpy_stream("order"), latents=subject.originals is not None)
    charts: list[Block] = [dimension_chart(result)] if len(result.shares) else []
    if result.variances.size:
        charts = [emergence_chart(result, session.numpy_stream("order chart")), *charts, _numbers(result)]
    return Answer(findings=found, blocks=charts, result=result)


QUESTION = Question("order", TITLE, _ask, stages=lambda _: 1)
