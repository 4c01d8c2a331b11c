r"""Fisher information and relative entropy: how much the model knows, in nats.

Counted per unit of :math:`\log(\sigma/\alpha)`, noise adds :math:`\sigma^2 J` nats of entropy to :math:`x_t/\alpha`
(de Bruijn), and two laws under the same noise approach at the rate :math:`\sigma^2 E|s - s'|^2` of their relative
entropy. Both come out of the sums of `measure_level`:

.. math::
    \sigma^2 J_{Gaussian} = \mathrm{tr}\,\sigma^2(\alpha^2\Sigma + \sigma^2)^{-1}, \qquad
    \sigma^2 J_{memorizer} = d - \tfrac{\alpha^2}{\sigma^2} E\,\mathrm{tr\,Cov}(x_0|x_t), \qquad
    \sigma^2 E|\hat s|^2 = E|\alpha D - x_t|^2/\sigma^2,

the first the least that any data of this covariance can have, the second that of the bare training set. With losses
:math:`L = E|D - x_0|^2` on unseen data, which no model can lower below that of the law itself, and the distance to the
exact optimum D* of the training set,

.. math::
    \mathrm{KL}(\text{data}\|\text{Gaussian}) \ge
      \int\frac{\alpha^2}{\sigma^2}\,(L_{Gaussian} - L_{model})\,d\log\tfrac\sigma\alpha, \qquad
    \mathrm{KL}(\text{training set}\|\text{model}) \le
      \int\frac{\alpha^2}{\sigma^2}\,E|D - D^*|^2\,d\log\tfrac\sigma\alpha

at the lowest audited noise, the second up to what the start at the highest noise misses (Girsanov; Song et al. 2021,
theorem 1; `densities.score_information`).
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from scipy import stats

from diffuscope.densities.entropy import gaussian_fisher_information
from diffuscope.densities.score_information import PathEntropy, integrated
from diffuscope.exact import Gaussian
from diffuscope.findings import Finding, bootstrap_sums, detectable_shift, percentile_interval

from .learned import Curve
from .measure import Points
from .store import Arrays

KINDS = ("this model", "certain from its loss", "memorizer", "Gaussian")
RATES = ("beyond the Gaussian, unseen data", "away from the memorizer, training data")
CONFIDENCE = 0.95


@dataclass(frozen=True, eq=False)
class Information:
    """Per noise level sigma^2 J / d of KINDS and the relative-entropy rates of RATES, in nats per coordinate."""

    ratios: Float[ndarray, " levels"]
    scale: float
    fisher: Curve
    rates: Curve
    beyond_gaussian: PathEntropy  # nats per example
    from_memorizer: PathEntropy
    place: tuple[float, float, float]  # of the model from Gaussian (0) to memorizer (1), with its interval
    points: int


def information(
    measures: list[Arrays],
    alpha: Float[ndarray, " levels"],
    sigma: Float[ndarray, " levels"],
    scale: float,
    gaussian: Gaussian,
    models: tuple[str, ...],
    heldout: Points,
    noise: Points,
    rng: np.random.Generator,
) -> Information:
    """Reduce the sums of `measure_level` at levels (alpha, sigma), taken at `heldout` with `noise`, one per level."""
    d, gain, ratios = gaussian.dimension, (alpha / sigma) ** 2, sigma / alpha
    squared_noise = noise.flatten(1).double().square().sum(1).numpy()
    column = models.index("Gaussian")

    def rows(name: str) -> Float[ndarray, "points levels"]:
        return np.stack([sums[name] for sums in measures], 1)

    at = list(zip(alpha.tolist(), sigma.tolist(), strict=True))
    lowest = np.array([s**2 * gaussian_fisher_information(gaussian, a, s) for a, s in at])
    # the Gaussian's score at the very points of the model's: the luck of these points is in both
    scores = [gaussian.score(a * heldout + s * noise, a, s).flatten(1).double() for a, s in at]
    paired = sigma**2 * np.stack([score.square().sum(1).numpy() for score in scores], 1)
    own = sigma**2 * rows("heldout.score_norm")
    memorizer = d - gain * rows("training.irreducible")
    gaussian_error = np.stack([sums["heldout.exact_error"][:, column] for sums in measures], 1)
    beyond = gain * (gaussian_error - rows("heldout.error"))
    away = gain * rows("training.distance")
    tables = [
        _without_luck(own, squared_noise, d),
        _without_luck(d - gain * rows("heldout.error"), squared_noise, d),
        memorizer,
        np.broadcast_to(lowest, own.shape),
        beyond,
        away,
        own - paired,
    ]
    resampled = bootstrap_sums(np.concatenate(tables, 1), rng).reshape(-1, len(tables), len(alpha))
    values = np.stack([table.mean(0) for table in tables], 1) / d
    lows, highs = percentile_interval(resampled.transpose(0, 2, 1) / d)
    kinds, shown = len(KINDS), len(KINDS) + len(RATES)
    bounds = percentile_interval(resampled[:, -1].sum(1) / (resampled[:, 2] - lowest).sum(1))
    return Information(
        ratios,
        scale,
        Curve(*(part[:, :kinds] for part in (values, lows, highs))),
        Curve(*(part[:, kinds:shown] for part in (values, lows, highs))),
        integrated(torch.from_numpy(beyond), torch.from_numpy(ratios)),
        integrated(torch.from_numpy(away), torch.from_numpy(ratios)),
        (float((own - paired).mean(0).sum() / (memorizer.mean(0) - lowest).sum()), float(bounds[0]), float(bounds[1])),
        len(own),
    )


def findings(result: Information, significance: float) -> list[Finding]:
    """What is known beyond the Gaussian, how far the model is from the memorizer, and where it stands between them."""
    beyond, away = result.beyond_gaussian, result.from_memorizer
    low, high = _interval(beyond)
    place, *bounds = result.place
    detectable = detectable_shift(beyond.standard_error, significance)
    lowest, highest = result.ratios.min(), result.ratios.max()
    return [
        Finding(
            name="diagnostics.beyond_gaussian",
            title="Known about unseen data beyond mean and covariance",
            value=beyond.value,
            unit="nats per example",
            verdict=f"The model knows at least {beyond.value:.3g} nats per unseen example that a Gaussian does not."
            if low > 0
            else "Nothing shows that the model knows more about unseen data than a Gaussian does.",
            tone="good" if low > 0 else "attention",
            interval=(low, high),
            null="0 for a model that knows mean and covariance only. A lower bound of the relative entropy between the "
            f"unseen data and that Gaussian, both with noise {lowest:.2g}; the sum over noise levels is good to "
            f"{beyond.quadrature_error:.2g}.",
            power=f"Would have been found with probability .95: {detectable:.2g} nats "
            f"({result.points} unseen examples).",
        ),
        Finding(
            name="diagnostics.from_memorizer",
            title="Relative entropy between the bare training set and the model, at most",
            value=away.value,
            unit="nats per example",
            verdict=f"With noise {lowest:.2g} the training set itself is at most {away.value:.3g} nats per example "
            "away from "
            "what the model generates; reciting it would bring this to 0.",
            tone="neutral",
            interval=_interval(away),
            null=f"0 for the memorizer. Girsanov's bound over noise {lowest:.2g} to {highest:.3g}; the sum over noise "
            f"levels is good to {away.quadrature_error:.2g}.",
            power=f"{result.points} training examples at each noise level; see the interval.",
        ),
        Finding(
            name="diagnostics.fisher",
            title="Its Fisher information, from the Gaussian (0%) to the memorizer (100%)",
            value=100 * place,
            unit="%",
            verdict=f"Summed over noise levels, its Fisher information lies {place:.0%} of the way from the "
            "Gaussian's, the "
            "least possible for data of this covariance, to that of the bare training set.",
            tone="neutral",
            interval=(100 * bounds[0], 100 * bounds[1]),
            null="0% is one Gaussian, 100% a sharp peak at every training example.",
            power=f"{result.points} examples at each noise level; see the interval.",
        ),
    ]


def _without_luck(
    rows: Float[ndarray, "points levels"], squared_noise: Float[ndarray, " points"], dimension: int
) -> Float[ndarray, "points levels"]:
    """`rows` less what their own draws of |eps|^2, known to be d on average, explain of them (a control variate)."""
    excess = squared_noise - squared_noise.mean()
    slope = excess @ rows / max(float(excess @ excess), np.finfo(float).tiny)
    return rows - slope * (squared_noise - dimension)[:, None]


def _interval(entropy: PathEntropy) -> tuple[float, float]:
    """Normal interval of the sampling error, widened by the quadrature error."""
    width = stats.norm.ppf((1 + CONFIDENCE) / 2) * entropy.standard_error + entropy.quadrature_error
    return float(entropy.value - width), float(entropy.value + width)
