r"""Where the loss comes from: the part nobody can avoid, and the distance to the exact optimum.

For examples drawn from a finite set the optimum of the denoising loss is known exactly: the empirical denoiser D*.
For every x_t, and so also on average,

.. math::
    E\left[|D(x_t) - x_0|^2 \mid x_t\right] = \mathrm{tr}\,\mathrm{Cov}(x_0 \mid x_t) + |D(x_t) - D^*(x_t)|^2 .

The first term is the irreducible loss, reached only by reproducing the set; the second is all that training could
still remove. Losses are squared errors per coordinate in units of the data's variance per coordinate.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from diffuscope.findings import Finding, bootstrap_sums, percentile_interval

from .store import Arrays

PARTS = ("irreducible", "distance", "total", "measured", "memorizer", "gaussian")


@dataclass(frozen=True, eq=False)
class LossSplit:
    """Per set ("training", "heldout") and noise level: each of PARTS with its interval.

    `measured` is |D - x0|^2 directly; `memorizer` is the loss that the training set's D* has on this set, `gaussian`
    the loss of the Gaussian denoiser. `deviation` is (measured - total) in standard errors: a check of the identity.
    """

    ratios: Float[ndarray, " levels"]
    scale: float
    value: dict[str, dict[str, Float[ndarray, " levels"]]]
    low: dict[str, dict[str, Float[ndarray, " levels"]]]
    high: dict[str, dict[str, Float[ndarray, " levels"]]]
    deviation: dict[str, Float[ndarray, " levels"]]
    excess: tuple[float, float, float]  # memorizer's loss over the model's on held-out data, all levels; interval
    points: int


def loss_split(
    measures: list[Arrays],
    ratios: Float[ndarray, " levels"],
    scale: float,
    dimension: int,
    models: tuple[str, ...],
    rng: np.random.Generator,
) -> LossSplit:
    """Reduce the sums of `measure_level` to losses in units of the data's variance."""
    value, low, high, deviation = {}, {}, {}, {}
    unit = dimension * scale**2
    for name in ("training", "heldout"):
        columns = [_columns(sums, name, models) / unit for sums in measures]
        mean = np.stack([column.mean(0) for column in columns])
        lows, highs = zip(*(percentile_interval(bootstrap_sums(column, rng)) for column in columns), strict=True)
        for target, table in ((value, mean), (low, np.stack(lows)), (high, np.stack(highs))):
            target[name] = dict(zip(PARTS, table.T, strict=True))
        difference = [column[:, PARTS.index("measured")] - column[:, PARTS.index("total")] for column in columns]
        deviation[name] = np.array(
            [d.mean() / max(d.std() / len(d) ** 0.5, 1e-300) if d.any() else 0.0 for d in difference]
        )
    # unweighted over levels: EDM's weight at the lowest noise would let a single level decide
    pair = np.stack(
        [_columns(sums, "heldout", models)[:, [PARTS.index("memorizer"), PARTS.index("measured")]] for sums in measures]
    ).sum(0)
    resampled = bootstrap_sums(pair, rng)
    bounds = percentile_interval(resampled[:, 0] / resampled[:, 1])
    excess = (float(pair[:, 0].sum() / pair[:, 1].sum()), float(bounds[0]), float(bounds[1]))
    return LossSplit(ratios, scale, value, low, high, deviation, excess, len(pair))


def findings(result: LossSplit) -> list[Finding]:
    """The shares of the weighted loss, where the distance peaks, and the check of the identity."""
    weights = edm_weights(result.ratios, result.scale)
    train = result.value["training"]
    irreducible = float(weights @ train["irreducible"] / (weights @ train["total"]))
    peak = int(np.argmax(weights * train["distance"]))
    excess, *bounds = result.excess
    worst = max(np.abs(part).max() for part in result.deviation.values())
    low = float(weights @ result.low["training"]["irreducible"] / (weights @ result.high["training"]["total"]))
    high = float(weights @ result.high["training"]["irreducible"] / (weights @ result.low["training"]["total"]))
    return [
        Finding(
            name="loss.irreducible_share",
            title="Share of the training loss that no model can avoid",
            value=100 * irreducible,
            unit="%",
            verdict=f"{irreducible:.0%} of the training loss is irreducible; the rest is the distance to the exact "
            "optimum, "
            "the model that can only reproduce its training examples. A model that generalizes keeps this distance.",
            tone="neutral",
            interval=(max(0.0, 100 * low), min(100.0, 100 * high)),
            null="100% would mean the model has become the memorizer; the interval is conservative.",
        ),
        Finding(
            name="loss.distance_peak",
            title="Noise level where the distance to the optimum weighs most",
            value=float(result.ratios[peak]),
            unit="σ/α",
            verdict=f"The distance to the optimum weighs most at noise {result.ratios[peak]:.3g} "
            f"({result.ratios[peak] / result.scale:.2g} data deviations).",
            tone="neutral",
        ),
        Finding(
            name="loss.memorizer_on_heldout",
            title="Loss of the pure memorizer on unseen data, relative to the model",
            value=excess,
            unit="ratio",
            verdict=f"On unseen data a perfect memorizer of the training set would pay {excess:.2g} times the model's "
            "loss: " + ("the model generalizes." if excess > 1 else "the model does no better on unseen data."),
            tone="good" if excess > 1 else "attention",
            interval=(bounds[0], bounds[1]),
            null="1 would mean the model is no better on unseen data than a lookup of its training set.",
            power=f"{result.points} unseen examples at {len(result.ratios)} noise levels; see the interval.",
        ),
        Finding(
            name="loss.identity",
            title="Largest deviation of the measured loss from its split",
            value=float(worst),
            unit="standard errors",
            verdict=f"The measured loss equals the sum of its two parts within {worst:.1f} standard errors at every "
            "level.",
            tone="good" if worst < 4 else "alarm",
            null="The identity is exact; among some thirty levels about 3 standard errors are expected at most.",
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
