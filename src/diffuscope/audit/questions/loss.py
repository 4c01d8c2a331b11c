r"""Where the loss comes from: the irreducible part, and the distance to the exact optimum.

For examples drawn from a finite set the optimum of the denoising loss is known exactly: the empirical denoiser D*.
At every x_t, and hence on average,

.. math::
    E\left[|D(x_t) - x_0|^2 \mid x_t\right] = \mathrm{tr}\,\mathrm{Cov}(x_0 \mid x_t) + |D(x_t) - D^*(x_t)|^2 .

The first term is the irreducible loss, which only a model that reproduces the set attains; the second is all that
training could still remove. Losses are squared errors per coordinate, in units of the data's variance per coordinate.

Sums are over the levels that matter for sampling (`level_measures`), which are equally spaced in log(sigma/alpha). The
verdict counts every level alike. The *model's own weighting* of :math:`|D - x_0|^2` is that of its training loss: with
:math:`\rho = \sigma/\alpha`

.. math::
    \text{noise: } \rho^{-2}, \qquad \text{velocity: } (\dot\alpha - \dot\sigma/\rho)^2, \qquad \text{data: } 1,
    \qquad \text{otherwise EDM's } (\rho^2 + s^2) / (\rho s)^2 .
"""

import math
from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

from diffuscope.denoisers import DataPredictor, Denoiser, NoisePredictor, VelocityPredictor
from diffuscope.findings import Chart, Finding, Panel, Tone, area, bootstrap_sums, line, percentile_interval
from diffuscope.report import Cell, Table
from diffuscope.store import Arrays

from ..level_charts import noise_panel
from ..level_measures import LevelMeasures
from ..question import Answer, Question
from ..session import Session
from ..subject import Levels

ROUNDING = 1e-9  # of the ratio of a memorizer's loss to its own
MARGIN = 1.05  # losses within this factor are about the same
PARTS = ("irreducible", "distance", "total", "measured", "memorizer", "gaussian")


@dataclass(frozen=True, kw_only=True, eq=False)
class LossSplit:
    """Per set ("training", "heldout") and noise level: each of PARTS with its interval.

    `measured` is |D - x0|^2 itself, `memorizer` the loss of the training set's D* on this set, `gaussian` the loss of
    the Gaussian denoiser. `deviation` is (measured - total) in standard errors, a check of the identity.
    """

    ratios: Float[ndarray, " levels"]
    scale: float
    value: dict[str, dict[str, Float[ndarray, " levels"]]]
    low: dict[str, dict[str, Float[ndarray, " levels"]]]
    high: dict[str, dict[str, Float[ndarray, " levels"]]]
    deviation: dict[str, Float[ndarray, " levels"]]
    matter: Bool[ndarray, " levels"]
    weighting: str  # the model's own, by name
    weights: Float[ndarray, " levels"]
    excess: tuple[float, float, float]  # memorizer's over model's held-out loss, summed where it matters; interval
    weighted_excess: tuple[float, float, float]  # the same in the model's own weighting
    points: int


def loss_split(
    measures: LevelMeasures, weighting: tuple[str, Float[ndarray, " levels"]], rng: np.random.Generator
) -> LossSplit:
    """Reduce the sums of all levels to losses in units of the data's variance; `weighting` is the model's own."""
    value, low, high, deviation = {}, {}, {}, {}
    unit = measures.dimension * measures.scale**2
    for name in ("training", "heldout"):
        columns = [_columns(sums, name, measures.models) / unit for sums in measures.sums]
        mean = np.stack([column.mean(0) for column in columns])
        lows, highs = zip(*(percentile_interval(bootstrap_sums(column, rng)) for column in columns), strict=True)
        for target, table in ((value, mean), (low, np.stack(lows)), (high, np.stack(highs))):
            target[name] = dict(zip(PARTS, table.T, strict=True))
        difference = [column[:, PARTS.index("measured")] - column[:, PARTS.index("total")] for column in columns]
        deviation[name] = np.array(
            [d.mean() / max(d.std() / math.sqrt(len(d)), 1e-300) if d.any() else 0.0 for d in difference]
        )
    both = [PARTS.index("memorizer"), PARTS.index("measured")]
    pair = np.stack([_columns(sums, "heldout", measures.models)[:, both] for sums in measures.sums])
    title, weights = weighting
    return LossSplit(
        ratios=measures.ratios,
        scale=measures.scale,
        value=value,
        low=low,
        high=high,
        deviation=deviation,
        matter=measures.matter,
        weighting=title,
        weights=weights,
        excess=_ratio(np.tensordot(measures.matter.astype(float), pair, 1), rng),
        weighted_excess=_ratio(np.tensordot(measures.matter * weights, pair, 1), rng),
        points=pair.shape[1],
    )


def _ratio(pair: Float[ndarray, "points 2"], rng: np.random.Generator) -> tuple[float, float, float]:
    """The ratio of the two sums, with its interval; NaN where nothing is summed."""
    if not pair.any():
        return (np.nan, np.nan, np.nan)
    resampled = bootstrap_sums(pair, rng)
    low, high = percentile_interval(resampled[:, 0] / resampled[:, 1])
    return float(pair[:, 0].sum() / pair[:, 1].sum()), float(low), float(high)


def findings(result: LossSplit, *, copying: bool = False) -> list[Finding]:
    """A memorizer's held-out loss relative to the model's, the parts of the loss, and the check of the identity.

    Where the model was found to copy (`copying`), nothing is called generalization.
    """
    weights = result.weights * result.matter
    train, lows, highs = (part["training"] for part in (result.value, result.low, result.high))
    worst = max(np.abs(part).max() for part in result.deviation.values())
    checks = sum(len(part) for part in result.deviation.values())
    found = [_verdict(result, copying=copying)]
    if result.matter.any():
        irreducible = float(weights @ train["irreducible"] / (weights @ train["total"]))
        low = float(weights @ lows["irreducible"] / (weights @ highs["total"]))
        high = float(weights @ highs["irreducible"] / (weights @ lows["total"]))
        peak = float(result.ratios[np.argmax(weights * train["distance"])])
        value, *bounds = result.weighted_excess
        found += [
            Finding(
                name="loss.memorizer_weighted",
                title=f"The same in the model's own weighting ({result.weighting})",
                value=value,
                unit="x",
                verdict=f"Weighted as in training ({result.weighting}), the perfect memorizer's held-out loss is "
                f"{value:.3g}x the model's.",
                tone="neutral",
                interval=(bounds[0], bounds[1]),
            ),
            Finding(
                name="loss.irreducible_share",
                title="Irreducible share of the training loss",
                value=100 * irreducible,
                unit="%",
                verdict=f"{irreducible:.0%} of the training loss ({result.weighting}) is irreducible; the rest is the "
                "distance to the exact optimum, which only reproduces the training examples. A model that generalizes "
                "keeps this distance.",
                tone="neutral",
                interval=(max(0.0, 100 * low), min(100.0, 100 * high)),
                null="100%: the model is a perfect memorizer. The interval is conservative.",
            ),
        ]
        if train["distance"].any():
            found.append(
                Finding(
                    name="loss.distance_peak",
                    title="Noise level where the distance to the optimum contributes most",
                    value=peak,
                    unit="σ/α",
                    verdict=f"The distance to the optimum contributes most to the loss at σ/α = {peak:.3g} "
                    f"({peak / result.scale:.2g} standard deviations of the data).",
                    tone="neutral",
                )
            )
    found.append(
        Finding(
            name="loss.identity",
            title="Largest difference between the measured loss and the sum of its parts",
            value=float(worst),
            unit="standard errors",
            verdict=f"The measured loss equals the sum of its two parts within {worst:.1f} standard errors at every "
            "noise level.",
            tone="good" if worst < 4 else "alarm",
            null=f"The identity is exact; the largest of {checks} differences is rarely above 3 standard errors.",
        )
    )
    return found


def _verdict(result: LossSplit, *, copying: bool) -> Finding:
    r"""Generalization is claimed only if the whole interval is above 1, and denied only if it is below.

    The best possible loss is at least the memorizer's on its training examples (their optimum) and at most its held-out
    loss, on average. Where these two are within MARGIN of each other, as with many examples in the plane, a lookup is
    near the best that any model can do, and a loss within MARGIN of its own is no fault, unless samples are copies.
    """
    excess, low, high = result.excess
    finding = partial(
        Finding,
        name="loss.memorizer_on_heldout",
        title="Held-out loss of a perfect memorizer, relative to the model's",
        null="1x: on held-out data the model does no better than looking up its training set.",
    )
    if not result.matter.any():
        text = "Cannot tell: the model covers none of the noise levels that matter for sampling these data."
        return finding(value=excess, unit="", verdict=text, tone="unknown", power="None.")
    matter = result.ratios[result.matter]
    where = f"σ/α = {matter[-1]:.3g} to {matter[0]:.3g}"
    text = (
        f"On held-out data, a perfect memorizer of the training set has {excess:.3g}x the model's loss over {where}: "
    )
    tone: Tone = "unknown"
    held, best = (result.value[name]["memorizer"] @ result.matter for name in ("heldout", "training"))
    about = not copying and held <= MARGIN * best and excess >= 1 / MARGIN
    if about and low <= 1 and (high <= 1 or (low >= 1 / MARGIN and high <= MARGIN)):
        tone, text = "neutral", f"{text}about the same, and so is here the best loss that any model could have."
    elif low > 1 and copying:
        tone, text = "attention", f"{text}it denoises more than a lookup could, but its samples are copies."
    elif low > 1:
        tone, text = "good", f"{text}the model generalizes."
    elif high <= 1 + ROUNDING:
        tone, text = "attention", f"{text}the model does no better than looking up that set."
    else:
        text = f"Cannot tell whether it generalizes. {text}the interval includes 1x."
    return finding(
        value=excess,
        unit="x",
        verdict=text,
        tone=tone,
        interval=(low, high),
        power=f"{result.points} held-out examples at the {len(matter)} of {len(result.ratios)} noise levels that "
        "matter for sampling, each counted alike: there a Gaussian's loss is 0.25% to 95% of the data's variance.",
    )


def own_weighting(denoiser: Denoiser, levels: Levels, scale: float) -> tuple[str, Float[ndarray, " levels"]]:
    """The name and the weights of the training loss of our predictors, EDM's for any other model."""
    while not isinstance(denoiser, NoisePredictor | VelocityPredictor | DataPredictor):
        inner = getattr(denoiser, "conditional", getattr(denoiser, "denoiser", None))
        if not isinstance(inner, Denoiser):
            return "EDM's weights", edm_weights(levels.ratios.numpy(), scale)
        denoiser = inner
    ratios, schedule = levels.ratios.numpy(), denoiser.schedule
    if isinstance(denoiser, NoisePredictor):
        return "error of the noise", ratios**-2.0
    if isinstance(denoiser, DataPredictor):
        return "error of the data", np.ones_like(ratios)
    times = schedule.time_of_noise_to_signal(levels.ratios)
    return "error of the velocity", (
        schedule.alpha_dot(times).numpy() - schedule.sigma_dot(times).numpy() / ratios
    ) ** 2


def edm_weights(ratios: Float[ndarray, " levels"], scale: float) -> Float[ndarray, " levels"]:
    """EDM's weight (sigma^2 + s^2) / (sigma s)^2 (Karras et al. 2022), levels spread evenly in log sigma."""
    return (ratios**2 + scale**2) / (ratios * scale) ** 2


def _columns(sums: Arrays, name: str, models: tuple[str, ...]) -> Float[ndarray, "n parts"]:
    irreducible, distance = sums[f"{name}.irreducible"], sums[f"{name}.distance"]
    exact = sums[f"{name}.exact_error"]
    return np.stack(
        [
            irreducible,
            distance,
            irreducible + distance,
            sums[f"{name}.error"],
            exact[:, models.index("empirical")],
            exact[:, models.index("Gaussian")],
        ],
        1,
    )


def split_chart(result: LossSplit) -> Chart:
    """Stacked parts of the loss on training and held-out data, with the losses of Gaussian and memorizer."""
    x = result.ratios.tolist()
    top = 1.2 * max(1.0, float(result.value["heldout"]["measured"].max()))

    def split(name: str, title: str) -> Panel:
        value = {part: numbers.tolist() for part, numbers in result.value[name].items()}
        bounds = result.low[name]["measured"].tolist(), result.high[name]["measured"].tolist()
        return noise_panel(
            title,
            "squared error / variance of the data",
            result.scale,
            area(x, [0.0] * len(x), value["irreducible"], "irreducible"),
            area(x, value["irreducible"], value["total"], "distance to the optimum"),
            line(x, value["measured"], "measured loss", low=bounds[0], high=bounds[1]),
            line(x, value["gaussian"], "Gaussian", style="dashed"),
            line(x, value["memorizer"], "memorizer", style="dotted"),
            y_range=(0.0, top),
        )

    return Chart(
        "The loss and its exact split",
        (split("training", "training data"), split("heldout", "held-out data")),
        "The lower area is the loss that no model can avoid on these examples; the upper area is the squared distance "
        "to their exact optimum. The two add up to the measured loss at every noise level. The dotted line is the loss "
        "of the training set's own optimum: low on training data, but high on held-out data at low noise. In the right "
        "panel, a network that generalizes stays below it.",
        shared_y=True,
    )


def _numbers(result: LossSplit) -> Table:
    parts = [(name, part) for name in ("training", "heldout") for part in ("irreducible", "distance", "measured")]
    rows: list[list[Cell]] = [
        [float(ratio), *(float(result.value[name][part][level]) for name, part in parts)]
        for level, ratio in enumerate(result.ratios)
    ]
    header = ["σ/α", "training: irreducible", "distance", "measured", "held-out: irreducible", "distance", "measured"]
    note = "On held-out data the optimum is that of the held-out examples themselves."
    return Table("The loss by noise level, in units of the data's variance", header, rows, note, folded=True)


def _ask(session: Session) -> Answer:
    weighting = own_weighting(session.subject.denoiser, session.levels, session.subject.scale)
    result = loss_split(session.measures, weighting, session.numpy_stream("loss"))
    return Answer(
        findings=findings(result, copying=session.copies_training),
        blocks=[split_chart(result), _numbers(result)],
        result=result,
    )


QUESTION = Question("loss", "Where does its loss come from?", _ask)
