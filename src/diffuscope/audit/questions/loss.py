r"""Where the loss comes from: the irreducible part, and the distance to the exact optimum.

For examples drawn from a finite set the optimum of the denoising loss is known exactly: the empirical denoiser D*.
At every x_t, and hence on average,

.. math::
    E\left[|D(x_t) - x_0|^2 \mid x_t\right] = \mathrm{tr}\,\mathrm{Cov}(x_0 \mid x_t) + |D(x_t) - D^*(x_t)|^2 .

The first term is the irreducible loss, which only a model that reproduces the set attains; the second is all that
training could still remove. Losses are squared errors per coordinate, in units of the data's variance per coordinate.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from diffuscope.findings import Chart, Finding, Panel, area, bootstrap_sums, line, percentile_interval
from diffuscope.report import Cell, Table

from ..level_charts import noise_panel
from ..level_measures import LevelMeasures
from ..question import Answer, Question
from ..session import Session
from ..store import Arrays

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
    excess: tuple[float, float, float]  # memorizer's over model's held-out loss, all levels summed; interval
    points: int


def loss_split(measures: LevelMeasures, rng: np.random.Generator) -> LossSplit:
    """Reduce the sums of all levels to losses in units of the data's variance."""
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
            [d.mean() / max(d.std() / len(d) ** 0.5, 1e-300) if d.any() else 0.0 for d in difference]
        )
    # unweighted over levels: EDM's weight at the lowest noise would let a single level decide
    both = [PARTS.index("memorizer"), PARTS.index("measured")]
    pair = np.stack([_columns(sums, "heldout", measures.models)[:, both] for sums in measures.sums]).sum(0)
    resampled = bootstrap_sums(pair, rng)
    bounds = percentile_interval(resampled[:, 0] / resampled[:, 1])
    return LossSplit(
        ratios=measures.ratios,
        scale=measures.scale,
        value=value,
        low=low,
        high=high,
        deviation=deviation,
        excess=(float(pair[:, 0].sum() / pair[:, 1].sum()), float(bounds[0]), float(bounds[1])),
        points=len(pair),
    )


def findings(result: LossSplit) -> list[Finding]:
    """A memorizer's held-out loss relative to the model's, the parts of the loss, and the check of the identity."""
    weights = edm_weights(result.ratios, result.scale)
    train, lows, highs = (part["training"] for part in (result.value, result.low, result.high))
    irreducible = float(weights @ train["irreducible"] / (weights @ train["total"]))
    low = float(weights @ lows["irreducible"] / (weights @ highs["total"]))
    high = float(weights @ highs["irreducible"] / (weights @ lows["total"]))
    peak = float(result.ratios[np.argmax(weights * train["distance"])])
    excess, *bounds = result.excess
    worst = max(np.abs(part).max() for part in result.deviation.values())
    checks = sum(len(part) for part in result.deviation.values())
    return [
        Finding(
            name="loss.memorizer_on_heldout",
            title="Held-out loss of a perfect memorizer, relative to the model's",
            value=excess,
            unit="x",
            verdict=f"On held-out data, a perfect memorizer of the training set has {excess:.3g}x the model's loss: "
            + ("the model generalizes." if excess > 1 else "the model does no better than looking up that set."),
            tone="good" if excess > 1 else "attention",
            interval=(bounds[0], bounds[1]),
            null="1x: on held-out data the model does no better than looking up its training set.",
            power=f"{result.points} held-out examples at {len(result.ratios)} noise levels; see the interval.",
        ),
        Finding(
            name="loss.irreducible_share",
            title="Irreducible share of the training loss",
            value=100 * irreducible,
            unit="%",
            verdict=f"{irreducible:.0%} of the training loss is irreducible; the rest is the distance to the exact "
            "optimum, which only reproduces the training examples. A model that generalizes keeps this distance.",
            tone="neutral",
            interval=(max(0.0, 100 * low), min(100.0, 100 * high)),
            null="100%: the model is a perfect memorizer. The interval is conservative.",
        ),
        Finding(
            name="loss.distance_peak",
            title="Noise level where the distance to the optimum contributes most",
            value=peak,
            unit="σ/α",
            verdict=f"The distance to the optimum contributes most to the loss at σ/α = {peak:.3g} "
            f"({peak / result.scale:.2g} standard deviations of the data).",
            tone="neutral",
        ),
        Finding(
            name="loss.identity",
            title="Largest difference between the measured loss and the sum of its parts",
            value=float(worst),
            unit="standard errors",
            verdict=f"The measured loss equals the sum of its two parts within {worst:.1f} standard errors at every "
            "noise level.",
            tone="good" if worst < 4 else "alarm",
            null=f"The identity is exact; the largest of {checks} differences is rarely above 3 standard errors.",
        ),
    ]


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
    result = loss_split(session.measures, session.numpy_stream("loss"))
    return Answer(findings=findings(result), blocks=[split_chart(result), _numbers(result)], result=result)


QUESTION = Question("loss", "Where does its loss come from?", _ask)
