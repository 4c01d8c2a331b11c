r"""Where the variance of trained networks predicts new samples, do they appear there? An ensemble on digits.

Networks of one architecture are trained on the same few digits, each with its own start, order of examples and noise
(the noise levels of a batch are shared), and divided in two. The first half gives V, and for every start the
semiclassical spread of the end,

.. math::  \mathrm{tr} \iint \Phi(\epsilon, t)\, V(x_t, t; x_u, u)\, \Phi(\epsilon, u)^T\, dt\, du

about the trajectory of its average score. The second half makes samples from the same starts, by the same steps: their
spread about their mean, and their mean distance to the nearest training example, are what is compared. The two halves
share no network, so that no agreement is built in; what the samples of the first half themselves say about those of
the second is the most that any prediction from the first half could be expected to say.

Sources: Vastola 2025, https://arxiv.org/abs/2504.12532; Kadkhodaie, Guth, Simoncelli & Mallat 2024,
https://arxiv.org/abs/2310.02557 (two networks of disjoint halves).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from diffuscope.data import load_data
from diffuscope.denoisers import MLP, Denoiser, Preconditioned, denoised_to_score, seeded
from diffuscope.exact import nearest_neighbors
from diffuscope.findings import (
    NORMAL_95,
    PERMUTATIONS,
    Panel,
    Repeated,
    intervals,
    line,
    percentile_interval,
    points,
    rank_correlation,
)
from diffuscope.findings.numbers import p_relation
from diffuscope.schedules import VE
from diffuscope.streams import torch_stream
from diffuscope.theory.memorization_onset import RATIO
from diffuscope.theory.variance import Ensemble, member_ends, quenched_sample
from diffuscope.times import karras_times
from diffuscope.training import EDMWeight, LogNormalNoise, TrainingSettings, fit

from .experiment import Experiment
from .part import PIXEL_RANGE, Part, loglog, panel
from .side_by_side import SideBySide, stacked

PIXELS, EXAMPLES, MEMBERS = 64, 8, 16
WIDTH, STEPS, BATCH, LEARNING_RATE = 64, 1500, 64, 5e-3
STARTS, LEVELS, RESAMPLES = 256, 25, 1999
SIZES = (4, 16, 64, 256)  # of disjoint training sets
EXPERIMENT = Experiment(
    name="variance-on-digits",
    title="Where the variance of networks predicts new digits",
    question="Do new samples appear where the V of an ensemble of networks is large?",
    source="Vastola 2025, https://arxiv.org/abs/2504.12532",
    seconds=50,
    settings={
        "data": "8 of scikit-learn's digits of 64 pixels, in [-1, 1]; disjoint sets: of 4, 16, 64 and 256",
        "networks": "16 MLPs of 64 x 2, 1,500 steps of 64 examples, learning rate 0.005; 8 give V, 8 are measured",
        "samples": "256 starts, 25 steps of Euler's method; 1,999 resamples",
    },
    notes=(
        "The members share their training set: V has the variance of start, order and noise, and not that over sets.",
        "Intervals and p-values are over starts, for these networks; other networks would differ by more.",
    ),
)


@dataclass(frozen=True, eq=False)
class TrainedEnsemble:
    """The training digits and the two halves of the networks."""

    examples: Float[Tensor, "n 64"]
    scale: float
    predicting: Ensemble
    measured: Ensemble


def on_digits(network: nn.Module, scale: float, mean: float, *models: int) -> Preconditioned:
    """A network on events (*models, 64) in EDM's preconditioning."""
    schedule = VE(0.01 * scale, 80 * scale)
    return Preconditioned(
        network,  # type: ignore[arg-type]
        schedule,
        scale,
        event_shape=(*models, PIXELS),
        data_range=PIXEL_RANGE,
        data_mean=mean,
    )


@dataclass(frozen=True, eq=False)
class Digits:
    """Training digits as vectors, in random order, with standard deviation and mean over all pixels."""

    rows: Float[Tensor, "n 64"]
    scale: float
    mean: float

    @classmethod
    def shuffled(cls, stream: torch.Generator) -> "Digits":
        """In the order that `stream` draws."""
        rows = load_data("digits").in_range(*PIXEL_RANGE).train.double().flatten(1)
        return cls(rows[torch.randperm(len(rows), generator=stream)], float(rows.std()), float(rows.mean()))

    def trained(self, sets: Sequence[Float[Tensor, "_ 64"]], seed: int) -> list[Denoiser]:
        """A network for every training set, trained side by side."""
        with seeded(seed):
            networks = [MLP((PIXELS,), width=WIDTH, depth=2) for _ in sets]
        settings = TrainingSettings(
            steps=STEPS,
            batch_size=BATCH,
            learning_rate=LEARNING_RATE,
            max_gradient_norm=math.inf,  # a cap would couple the networks
            average_decay=0.99,
            noise=LogNormalNoise(mean=math.log(self.scale), std=1.8),
            weight=EDMWeight(self.scale),
            seed=seed,
        )
        denoiser = on_digits(SideBySide(networks), self.scale, self.mean, len(sets))
        together = fit(denoiser, stacked(sets), settings).eval()
        assert isinstance(together.network, SideBySide)
        return [on_digits(together.network.alone(k), self.scale, self.mean).eval() for k in range(len(sets))]


def sampling_times(denoiser: Denoiser, scale: float) -> Float[Tensor, " times"]:
    """From pure noise to a fiftieth of the data's standard deviation."""
    return karras_times(denoiser.schedule, denoiser.schedule.t_max, 0.02 * scale, LEVELS)


@lru_cache(maxsize=1)  # the parts share it
def ensemble(seed: int) -> TrainedEnsemble:
    """The ensemble after training; examples, weights and batches follow from `seed`."""
    stream = torch_stream(seed, "variance on digits")
    digits, half = Digits.shuffled(stream), MEMBERS // 2
    examples = digits.rows[:EXAMPLES]
    orders = [examples[torch.randperm(EXAMPLES, generator=stream)] for _ in range(MEMBERS)]
    members = digits.trained(orders, seed)
    return TrainedEnsemble(examples, digits.scale, Ensemble(members[:half]), Ensemble(members[half:]))


def samples_of(
    members: Sequence[Denoiser], starts: Float[Tensor, "batch d"], times: Float[Tensor, " times"]
) -> Float[Tensor, "members batch d"]:
    """Where every member takes every start, by Euler's method."""

    def each(x: Float[Tensor, "members batch d"], t: Tensor | float | int) -> Float[Tensor, "members batch d"]:
        pairs = zip(members, x, strict=True)
        return torch.stack([denoised_to_score(own, member(own, t), member.schedule, t) for member, own in pairs])

    return quenched_sample(each, members[0].schedule, starts.expand(len(members), -1, -1), times).double()


@dataclass(frozen=True, eq=False)
class Compared:
    """Per start: the predicted spread with its jackknife error, spreads of samples, and distance to the examples."""

    predicted: Float[Tensor, " starts"]
    relative_error: Float[Tensor, " starts"]
    own_spread: Float[Tensor, " starts"]
    spread: Float[Tensor, " starts"]
    nearest: Float[Tensor, " starts"]
    copied: Float[Tensor, " starts"]


@lru_cache(maxsize=1)
def compared(seed: int) -> Compared:
    """All measures at the same starts."""
    trained, stream = ensemble(seed), torch_stream(seed, "variance on digits", "starts")
    times = sampling_times(trained.predicting.denoisers[0], trained.scale)
    x = float(times[0]) * torch.randn(STARTS, PIXELS, generator=stream)
    ends = member_ends(trained.predicting, x, times)
    own, others = (samples_of(half.denoisers, x, times) for half in (trained.predicting, trained.measured))
    d = nearest_neighbors(others.flatten(0, 1), trained.examples, 2)[0].reshape(*others.shape[:2], 2)
    variance = ends.variance
    return Compared(
        variance.value.sqrt(),
        variance.error / variance.value / 2,
        own.var(0).sum(1).sqrt(),
        others.var(0).sum(1).sqrt(),
        d[..., 0].mean(0),
        (d[..., 0] < RATIO * d[..., 1]).double().mean(0),
    )


@dataclass(frozen=True)
class RankCorrelation:
    """Spearman's correlation, its bootstrap interval of 95%, and the one-sided p-value of permutations."""

    value: float
    low: float
    high: float
    p_value: float


def association(x: Float[Tensor, " n"], y: Float[Tensor, " n"], rng: np.random.Generator) -> RankCorrelation:
    """Over resampled pairs, and against permuted ones."""
    a, b = x.numpy(), y.numpy()
    n = len(a)
    value = float(rank_correlation(a, b))
    rows = rng.integers(n, size=(RESAMPLES, n))
    low, high = percentile_interval(rank_correlation(a[rows], b[rows]))
    shuffled = rng.permuted(np.broadcast_to(b, (PERMUTATIONS, n)), axis=1)
    exceed = int((rank_correlation(a, shuffled) >= value - 1e-12).sum())
    return RankCorrelation(value, float(low), float(high), (1 + exceed) / (1 + PERMUTATIONS))


@EXPERIMENT.part("Does V predict how far networks differ in their samples?")
def spread(part: Part) -> str:
    """Predicted spread of one half against the measured spread of the other."""
    found = compared(part.seed)
    correlation = association(found.predicted, found.spread, part.rng)
    ceiling = association(found.own_spread, found.spread, part.rng)
    linear = association(found.predicted, found.own_spread, part.rng)
    title = f"Predicted spread and the spread of other networks' samples, {STARTS} starts: p-value of no association"
    part.at_most("associated", title, correlation.p_value, 0.001, f"{PERMUTATIONS:,} permutations of the starts")
    title = "Rank correlation of prediction and the same networks' samples: is the first order enough?"
    part.at_least("first-order", title, linear.value, 0.7, "0.7 is a requirement, not derived")
    title = "Rank correlation with other networks: the part of what the samples themselves would reach"
    part.at_least("ceiling", title, correlation.value / ceiling.value, 0.8, "0.8 is a requirement, not derived")
    ratio = found.spread.median() / found.predicted.median()
    part.chart(
        "Spread of the end, predicted and measured, a point per start",
        loglog("other networks", "predicted from V", "measured spread", points(found.predicted, found.spread)),
        loglog("the same networks", "predicted from V", "measured spread", points(found.predicted, found.own_spread)),
        _correlations(
            {"V, other networks": correlation, "samples, other networks": ceiling, "V, same networks": linear}
        ),
        how_to_read="Root of the variance summed over pixels, from half of the networks; the jackknife standard error "
        f"of a prediction is {float(found.relative_error.median()):.0%} (median). Right: rank correlations with 95% "
        "intervals over starts.",
    )
    return (
        f"Yes: rank correlation {correlation.value:.2f} ({correlation.low:.2f} to {correlation.high:.2f}) between V "
        f"and the samples of networks that are not in it; the samples of the first half themselves would reach "
        f"{ceiling.value:.2f}. The median measured spread is {float(ratio):.2f} times the predicted one."
        if part.claims[0].holds
        else f"Not visibly: rank correlation {correlation.value:.2f}, p {p_relation(correlation.p_value)}."
    )


@EXPERIMENT.part("Do new samples appear where V is large?")
def novelty(part: Part) -> str:
    """Predicted spread against the distance of other networks' samples from the training examples."""
    found = compared(part.seed)
    correlation = association(found.predicted, found.nearest, part.rng)
    ceiling = association(found.spread, found.nearest, part.rng)
    thirds = copied_by_thirds(found.predicted, found.copied, part.rng)
    title = f"Predicted spread and distance to the nearest training example, {STARTS} starts: p-value of no association"
    part.at_most("novel", title, correlation.p_value, 0.001, f"{PERMUTATIONS:,} permutations of the starts")
    part.chart(
        "Where V is large, and how far samples are from the training examples",
        panel(
            "a point per start",
            "predicted from V",
            "distance to the nearest example",
            points(found.predicted, found.nearest),
        ),
        _correlations({"V": correlation, "measured spread": ceiling}),
        panel("copies by V", "share of samples", "", intervals(thirds)),
        how_to_read="Left: distance of the samples of the other networks to their nearest training example, mean over "
        "networks. Middle: its rank correlations. Right: the share of samples three times nearer to one example than "
        "to any other. Intervals of 95% over starts.",
    )
    copied = float(found.copied.mean())
    strength = "strong" if correlation.low > 0.7 else "moderate" if correlation.low > 0.3 else "weak"
    measured = f"rank correlation {correlation.value:.2f} ({correlation.low:.2f} to {correlation.high:.2f})"
    shares = [f"{share:.0%}" for share, _, _ in thirds.values()]
    rest = (
        f"The measured spread itself reaches {ceiling.value:.2f}. {copied:.0%} of the samples are copies: {shares[0]} "
        f"where V is smallest, {shares[-1]} where it is largest."
    )
    if correlation.high < math.sqrt(0.5):
        rest += " Less than half of the ranks' variance is V's: most of the distance is shared by all networks."
    if not part.claims[0].holds:
        return f"Not visibly: {measured}, p {p_relation(correlation.p_value)}. {rest}"
    return f"Yes; the association is {strength}: {measured}. {rest}"


@EXPERIMENT.part("Do two networks of disjoint examples agree once there are many?")
def halves(part: Part) -> str:
    """Mean-removed cosines of samples from the same start, and of samples and their nearest example."""
    digits = Digits.shuffled(torch_stream(part.seed, "variance on digits", "halves"))
    sets = [digits.rows[k * n : (k + 1) * n] for n in SIZES for k in range(2)]
    members = digits.trained(sets, part.seed)
    times = sampling_times(members[0], digits.scale)
    x, center = float(times[0]) * torch.randn(STARTS, PIXELS, generator=part.generator), digits.rows.mean(0)
    made = samples_of(members, x, times)
    across = [torch.cosine_similarity(made[k] - center, made[k + 1] - center) for k in range(0, len(made), 2)]
    nearest = [nearest_neighbors(own, rows, 1)[1][:, 0] for own, rows in zip(made, sets, strict=True)]
    kept = [torch.cosine_similarity(made[k] - center, sets[k][nearest[k]] - center) for k in range(0, len(made), 2)]
    agree, recite = ([Repeated.of(values) for values in kind] for kind in (across, kept))
    rise, fall = Repeated.of(across[-1] - across[0]), Repeated.of(kept[0] - kept[-1])
    because = "99.9% over starts"
    title = f"Cosine of two networks' samples, {SIZES[-1]} examples less {SIZES[0]}: in standard errors"
    part.at_least("agreement-grows", title, rise.significance, rise.seen, because)
    title = f"Cosine of a sample and its nearest example, {SIZES[0]} examples less {SIZES[-1]}: in standard errors"
    part.at_least("copying-falls", title, fall.significance, fall.seen, because)
    curves = [
        line(
            SIZES,
            [one.mean for one in found],
            name,
            low=[one.mean - NORMAL_95 * one.error for one in found],
            high=[one.mean + NORMAL_95 * one.error for one in found],
        )
        for name, found in (("two networks", agree), ("sample and nearest example", recite))
    ]
    part.chart(
        "Agreement of two networks of disjoint examples",
        Panel("", "examples of each", "mean cosine, mean removed", tuple(curves), x_log=True),
        how_to_read=f"The same {STARTS} starts for both networks; bands are 95% over starts, for one pair per size. "
        "With few examples each network recites its own; with many, both make the same digits.",
    )
    cosines = "; ".join(
        f"{n} examples {a.mean:.2f} and {r.mean:.2f}" for n, a, r in zip(SIZES, agree, recite, strict=True)
    )
    return f"Cosines of two networks' samples, and of a sample and its nearest example: {cosines}."


def copied_by_thirds(
    predicted: Float[Tensor, " n"], copied: Float[Tensor, " n"], rng: np.random.Generator
) -> dict[str, tuple[float, float, float]]:
    """The share of copies among the starts of small, middle and large V, with bootstrap intervals over starts."""
    order, shares = predicted.argsort(), {}
    for name, rows in zip(("smallest third of V", "middle", "largest"), order.tensor_split(3), strict=True):
        values = copied[rows].numpy()
        low, high = percentile_interval(values[rng.integers(len(values), size=(RESAMPLES, len(values)))].mean(1))
        shares[name] = (float(values.mean()), float(low), float(high))
    return shares


def _correlations(found: dict[str, RankCorrelation]) -> Panel:
    named = {name: (one.value, one.low, one.high) for name, one in found.items()}
    return panel("rank correlation", "Spearman's correlation", "", intervals(named))
