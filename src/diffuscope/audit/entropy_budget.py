r"""Fisher information and relative entropy: how much the model knows, in nats.

Counted per unit of :math:`\log(\sigma/\alpha)`, noise adds :math:`\sigma^2 J` nats of entropy to :math:`x_t/\alpha`
(de Bruijn), and the relative entropy of two distributions under the same noise falls by :math:`\sigma^2 E|s - s'|^2`.
Both follow from the sums of `measure_level`:

.. math::
    \sigma^2 J_{Gaussian} = \mathrm{tr}\,\sigma^2(\alpha^2\Sigma + \sigma^2)^{-1}, \qquad
    \sigma^2 J_{memorizer} = d - \tfrac{\alpha^2}{\sigma^2} E\,\mathrm{tr\,Cov}(x_0|x_t), \qquad
    \sigma^2 E|\hat s|^2 = E|\alpha D - x_t|^2/\sigma^2,

the first the smallest possible for data of this covariance, the second that of the training set itself. With losses
:math:`L = E|D - x_0|^2` on held-out data, of which the distribution's own denoiser has the lowest, and with the
distance to the exact optimum D* of the training set,

.. math::
    \mathrm{KL}(\text{data}\|\text{Gaussian}) \ge
      \int\frac{\alpha^2}{\sigma^2}\,(L_{Gaussian} - L_{model})\,d\log\tfrac\sigma\alpha, \qquad
    \mathrm{KL}(\text{training set}\|\text{model}) \le
      \int\frac{\alpha^2}{\sigma^2}\,E|D - D^*|^2\,d\log\tfrac\sigma\alpha

at the lowest audited noise, the second up to the mismatch of the start at the highest noise (Girsanov; Song et al.
2021, theorem 1; `densities.score_information`).
"""

from dataclasses import dataclass

import numpy as np
import scipy  # its subpackages are loaded when they are first used
import torch
from jaxtyping import Float
from numpy import ndarray

from diffuscope.densities.entropy import gaussian_fisher_information
from diffuscope.densities.score_information import PathEntropy, integrated
from diffuscope.findings import Chart, Finding, Rule, bootstrap_sums, detectable_shift, percentile_interval

from .data_gaussian import Truncation
from .level_charts import Curve, noise_panel
from .session import Session

KINDS = ("this model", "implied by its loss", "memorizer", "Gaussian")
RATES = ("beyond the Gaussian (held-out)", "from the memorizer (training)")
CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True, eq=False)
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


def information(session: Session, rng: np.random.Generator) -> Information:
    """Reduce the sums of all levels, with the Gaussian's score at the same points."""
    measures, (_, heldout, noise), gaussian = session.measures, session.points, session.references.gaussian
    schedule, times = session.subject.denoiser.schedule, session.levels.times
    alpha, sigma = schedule.alpha(times).numpy(), schedule.sigma(times).numpy()
    d, gain, ratios = gaussian.dimension, (alpha / sigma) ** 2, sigma / alpha
    squared_noise = noise.flatten(1).double().square().sum(1).numpy()
    at = list(zip(alpha.tolist(), sigma.tolist(), strict=True))
    lowest = np.array([s**2 * gaussian_fisher_information(gaussian, a, s) for a, s in at])
    # at the same points as the model's score, so that their sampling errors cancel
    scores = (gaussian.score(a * heldout + s * noise, a, s).flatten(1).double() for a, s in at)
    paired = sigma**2 * np.stack([score.square().sum(1).numpy() for score in scores], 1)
    own, error = sigma**2 * measures.rows("heldout.score_norm"), measures.rows("heldout.error")
    memorizer = d - gain * measures.rows("training.irreducible")
    beyond = gain * (measures.rows("heldout.exact_error")[:, :, measures.models.index("Gaussian")] - error)
    away = gain * measures.rows("training.distance")
    controlled = [_controlled(rows, squared_noise, d) for rows in (own, d - gain * error)]
    tables = [*controlled, memorizer, np.broadcast_to(lowest, own.shape), beyond, away, own - paired]
    resampled = bootstrap_sums(np.concatenate(tables, 1), rng).reshape(-1, len(tables), len(alpha))
    values = np.stack([table.mean(0) for table in tables], 1) / d
    lows, highs = percentile_interval(resampled.transpose(0, 2, 1) / d)
    kinds, shown = len(KINDS), len(KINDS) + len(RATES)
    place = float((own - paired).mean(0).sum() / (memorizer.mean(0) - lowest).sum())
    bounds = percentile_interval(resampled[:, -1].sum(1) / (resampled[:, 2] - lowest).sum(1))
    return Information(
        ratios=ratios,
        scale=measures.scale,
        fisher=Curve(*(part[:, :kinds] for part in (values, lows, highs))),
        rates=Curve(*(part[:, kinds:shown] for part in (values, lows, highs))),
        beyond_gaussian=integrated(torch.from_numpy(beyond), torch.from_numpy(ratios)),
        from_memorizer=integrated(torch.from_numpy(away), torch.from_numpy(ratios)),
        place=(place, float(bounds[0]), float(bounds[1])),
        points=len(own),
    )


def information_findings(
    result: Information, significance: float, truncation: Truncation | None = None
) -> list[Finding]:
    """The knowledge beyond the Gaussian, the distance from the memorizer, and the place between the two.

    Knowledge beyond a Gaussian that lacks part of the covariance is no merit yet.
    """
    gaussian = "a Gaussian" if truncation is None else truncation.name.removesuffix(",")
    known = "mean and covariance" if truncation is None else "what this Gaussian has of mean and covariance"
    smallest = "the smallest possible for data of this covariance"
    if truncation is not None:
        smallest = "no larger than that of any data of this mean and covariance"
    beyond, away = result.beyond_gaussian, result.from_memorizer
    low, high = _interval(beyond)
    place, *bounds = result.place
    where = f"lies {place:.0%} of the way from the Gaussian's, {smallest}, to that of the training set"
    if place < 0 or place > 1:
        end = f"less than the Gaussian's, {smallest}" if place < 0 else "more than that of the training set"
        where = f"is {end}: it does not lie between the two"
    detectable = detectable_shift(beyond.standard_error, significance)
    lowest, highest = result.ratios.min(), result.ratios.max()
    return [
        Finding(
            name="diagnostics.beyond_gaussian",
            title=f"Knowledge of held-out data beyond {known}",
            value=beyond.value,
            unit="nats per example",
            verdict=f"The model knows at least {beyond.value:.3g} nats per held-out example more than {gaussian}."
            if low > 0
            else f"There is no evidence that the model knows more about held-out data than {gaussian}.",
            tone="attention" if low <= 0 else "good" if truncation is None else "neutral",
            interval=(low, high),
            null=f"0: the model knows only {known}. The value is a lower bound on the relative entropy "
            f"between held-out data and the Gaussian, both at noise σ/α = {lowest:.2g}; the integral over noise levels "
            f"is accurate to {beyond.quadrature_error:.2g}.",
            power=f"{detectable:.2g} nats would have been found with probability 0.95 ({result.points} held-out "
            "examples).",
        ),
        Finding(
            name="diagnostics.from_memorizer",
            title="Upper bound on the relative entropy between training set and model",
            value=away.value,
            unit="nats per example",
            verdict=f"At noise σ/α = {lowest:.2g}, the relative entropy between the training set and the model's "
            f"samples is at most {away.value:.3g} nats per example; it is 0 for a memorizer.",
            tone="neutral",
            interval=_interval(away),
            null=f"0: the memorizer. Girsanov's bound from σ/α = {highest:.3g} down to {lowest:.2g}; the integral "
            f"over noise levels is accurate to {away.quadrature_error:.2g}.",
            power=f"{result.points} training examples at each noise level; see the interval.",
        ),
        Finding(
            name="diagnostics.fisher",
            title="Fisher information between the Gaussian (0%) and the memorizer (100%)",
            value=100 * place,
            unit="%",
            verdict=f"Summed over noise levels, its Fisher information {where}.",
            tone="neutral",
            interval=(100 * bounds[0], 100 * bounds[1]),
            null="0% is a Gaussian, 100% a sharp peak at every training example.",
            power=f"{result.points} examples at each noise level; see the interval.",
        ),
    ]


def information_chart(result: Information) -> Chart:
    """Fisher information of the model and its references; rates of relative entropy."""
    fisher = result.fisher.lines(result.ratios, KINDS)
    rates = [*result.rates.lines(result.ratios, RATES), Rule(0.0)]
    unit = "nats per coordinate and e-fold of noise"
    return Chart(
        "How much the model knows, in nats",
        (
            noise_panel("Fisher information, σ²J / d", unit, result.scale, *fisher, y_range=(0.0, 1.05)),
            noise_panel("rate of relative entropy", unit, result.scale, *rates),
        ),
        "An e-fold is a factor of 2.72 in noise. Left: the entropy that one e-fold adds per coordinate, from 0, for "
        "noise much narrower than a smooth density, to 1, where all structure is narrower than the noise. Every "
        "distribution of this covariance lies above the Gaussian; the training set is on top. The model's own value "
        "and the one implied by its held-out loss agree if the model is neither over- nor underconfident. Right: what "
        "the model knows about held-out data beyond mean and covariance (the area under the line is the total in "
        "nats), and how far it is from replaying its training data.",
    )


def _controlled(
    rows: Float[ndarray, "points levels"], squared_noise: Float[ndarray, " points"], dimension: int
) -> Float[ndarray, "points levels"]:
    """`rows` with |eps|^2, whose mean is known to be d, as a control variate."""
    excess = squared_noise - squared_noise.mean()
    slope = excess @ rows / max(float(excess @ excess), np.finfo(float).tiny)
    return rows - slope * (squared_noise - dimension)[:, None]


def _interval(entropy: PathEntropy) -> tuple[float, float]:
    """Normal interval of the sampling error, widened by the quadrature error."""
    width = scipy.stats.norm.ppf((1 + CONFIDENCE) / 2) * entropy.standard_error + entropy.quadrature_error
    return float(entropy.value - width), float(entropy.value + width)
