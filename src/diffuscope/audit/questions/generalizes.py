r"""Will it generalize or memorize? Where the model stands, and what keeps it from the minimum of its loss.

`standing` has its position between treating training and held-out examples alike and the optimum that only replays the
training set, and how much of its loss is the noise of its target; `target_noise` how far that noise would carry a
sample, relative to the distances between training examples, and whether samples are at these.

All of it is information: nothing here is a forecast, and whether the model has memorized is what the question of
memorization says.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np

from diffuscope.denoisers import modules_within
from diffuscope.findings import Finding
from diffuscope.report import Block
from diffuscope.samplers import is_one_step

from ..question import Answer, Question
from ..session import Session
from ..standing import DRAWS, Position
from ..standing_charts import standing_chart, standing_table, target_chart
from ..target_noise import Interval, TargetNoise, measure_target_noise, nearest_distances
from .memorized import pairs_of_points

TITLE = "Will it generalize or memorize?"
METHOD = (
    "Generalization: the target's variance is that of the training examples' posterior, exactly, at noised training "
    "points and on the model's own trajectories; no network evaluation beyond those of the other questions."
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Outlook:
    """Everything measured. `target` is None in a latent space; `parameters` where the model is no torch module."""

    examples: int
    dimension: int
    parameters: int | None
    position: Position
    target: TargetNoise | None
    standing: Interval  # p
    noise: dict[int, Interval]  # share of the target's noise, by draws
    spread: Interval | None
    at_examples: Interval | None


def parameters_of(model: object) -> int | None:
    """How many parameters the torch modules within `model` have, each counted once; None without any."""
    unique = {id(p): p.numel() for module in modules_within(model) for p in module.parameters()}
    return sum(unique.values()) or None


def findings(result: Outlook, *, significance: float, memorized: Finding | None, doubt: str) -> list[Finding]:
    """Where it stands, its parameters, the spread of its target, whether it is at its examples, the dial."""
    return [
        _standing(result, significance, memorized, doubt),
        _parameters(result),
        *_distances(result),
        _dial(result),
    ]


def _unknown(reason: str, name: str = "position", title: str = TITLE) -> Finding:
    return Finding(
        name=f"generalizes.{name}",
        title=title,
        value=float("nan"),
        unit="",
        verdict=f"Cannot tell: {reason}.",
        tone="unknown",
        power="None, for this reason.",
    )


def _memory(memorized: Finding | None) -> str:
    """What the question of memorization says, in a clause that claims no more."""
    if memorized is None:
        return "Whether it has memorized was not asked."
    opening = "It has memorized:" if memorized.tone == "alarm" else "On memorization:"
    return f"{opening} “{memorized.verdict.removesuffix('.')}.”"


def _standing(result: Outlook, significance: float, memorized: Finding | None, doubt: str) -> Finding:
    value, low, high = result.standing
    if not result.position.matter.any():
        return _unknown("the model covers none of the noise levels that matter for sampling these data")
    if doubt:
        return _unknown(f"{doubt}, so that equal losses say nothing")
    if not np.isfinite(value):
        return _unknown("its loss on held-out data is below the variance of the target on training data")
    if high < 0:
        return _unknown("its loss is lower on held-out examples than on training examples: these are harder for it")
    detectable = result.position.detectable(significance)
    if not (np.isfinite(low + high) and detectable <= 1):
        pairs = len(result.position.gap)
        return _unknown(f"{pairs} pairs of examples would not tell the optimum from a model that treats both alike")
    value, low = max(0.0, value), max(0.0, low)  # a position is none outside of the two ends
    where = (
        f"its denoising loss stands {value:.0%} of the way from treating training and held-out examples alike to the "
        "optimum that only replays the training set"
    )
    return Finding(
        name="generalizes.position",
        title=TITLE,
        value=100 * value,
        unit="%",
        verdict=f"{where[0].upper()}{where[1:]}. {_memory(memorized)}",
        tone="neutral",
        interval=(100 * low, 100 * high),
        null="0%: training and held-out examples are denoised equally well. 100%: an exact memorizer.",
        power=f"A position of {detectable:.1%} would have been distinguished from 0 "
        "with probability 0.95. No forecast: what longer training does is not tested.",
    )


def _parameters(result: Outlook) -> Finding:
    name, title = "parameters", "Numbers in the training set per parameter"
    if result.parameters is None:
        return _unknown("the model holds no torch module whose parameters could be counted", name, title)
    numbers, count = result.examples * result.dimension, result.parameters
    value = numbers / count
    return Finding(
        name=f"generalizes.{name}",
        title=title,
        value=value,
        unit="",
        verdict=f"{result.examples:,} training examples of {result.dimension:,} numbers are {numbers:,} numbers for "
        f"{count:,} parameters: {value:.3g} per parameter, and {result.examples / count:.3g} examples per parameter.",
        tone="neutral",
        null="Below 1 the parameters could hold the training set; networks may memorize above and generalize below.",
        power="None: a count decides nothing by itself.",
    )


def _distances(result: Outlook) -> list[Finding]:
    names = (
        ("spread", "Spread of samples by the target's noise, in distances between training examples"),
        ("at_examples", "Distance of samples to the nearest training example, in distances between these"),
    )
    if result.target is None:
        reason = "distances between latents are not those between what they decode to"
        return [_unknown(reason, name, title) for name, title in names]
    if result.spread is None or result.at_examples is None or not np.isfinite(result.spread[0]):
        reason = "most training examples are repeated exactly, so that their distance is 0"
        return [_unknown(reason, name, title) for name, title in names]
    value, low, high = result.spread
    near, near_low, near_high = result.at_examples
    target = result.target
    fresh = float(np.median(target.heldout)) / target.distance
    return [
        Finding(
            name="generalizes.spread",
            title=names[0][1],
            value=value,
            unit="",
            verdict="Followed without averaging, the target's noise along its trajectories would move a sample by "
            f"{value:.3g} times the distance between neighboring training examples ({target.distance:.3g}); a model "
            f"that averages M targets keeps {value:.3g}/√M.",
            tone="neutral",
            interval=(low, high),
            null="0: a single training example, whose target has no noise. A scale, with a new target in every e-fold "
            "of noise, and no prediction.",
            power=f"{len(target.variance)} trajectories, {len(target.examples):,} training examples.",
        ),
        Finding(
            name="generalizes.at_examples",
            title=names[1][1],
            value=near,
            unit="",
            verdict=f"Its samples are at {near:.3g} times the distance between neighboring training examples from the "
            f"nearest one (median), and held-out examples at {fresh:.3g} times.",
            tone="neutral",
            interval=(near_low, near_high),
            null="0: a model at the optimum of its loss, whose samples are training examples. Copies among many other "
            "samples do not move the median.",
            power=f"{len(target.samples):,} samples.",
        ),
    ]


def _dial(result: Outlook) -> Finding:
    share, low, high = result.noise[1]
    if not share < 1:
        text = (
            "All of its training loss is the noise of the target: it is at the optimum, which averaging leaves alone."
        )
    else:
        draws = int(np.ceil(share / (1 - share)))  # I / Delta: there the two parts are equal
        later = ", ".join(f"{result.noise[m][0]:.0%} with {m}" for m in DRAWS[1:])
        half = f" (half with {draws})" if draws > 1 else ""
        text = (
            f"{share:.0%} of its training loss is the noise of the target; with the mean of several draws as the "
            f"target it would be {later}{half}."
        )
    return Finding(
        name="generalizes.dial",
        title="Share of the training loss that is the noise of its target",
        value=100 * share,
        unit="%",
        verdict=text,
        tone="neutral",
        interval=(100 * low, 100 * high),
        null="100%: a memorizer; each noise level that matters is counted alike.",
        power=f"{len(result.position.gap)} training examples. Less noise in the target brings training nearer to the "
        "optimum that memorizes, and spares noise in the gradient.",
    )


def outlook(session: Session) -> Outlook:
    """Everything that is measured; the trajectories' part is stored."""
    subject, rng = session.subject, session.numpy_stream
    position = Position.of(session.measures, pairs_of_points(session, rng("generalizes pairs")))
    along = session.shared_stage("target-noise", "measuring the target's noise", partial(measure_target_noise, session))
    target = None
    if subject.originals is None:
        target = TargetNoise(
            ratios=session.measures.ratios,
            scale=subject.scale,
            dimension=session.measures.dimension,
            **along,
            **nearest_distances(session.samples, subject.train, subject.heldout, session.torch_stream("generalizes")),
        )
    return Outlook(
        examples=len(subject.train),
        dimension=session.measures.dimension,
        parameters=parameters_of(subject.denoiser),
        position=position,
        target=target,
        standing=position.value(rng("generalizes position")),
        noise={draws: position.noise_share(draws, rng("generalizes noise")) for draws in DRAWS},
        spread=None if target is None else target.spread(rng("generalizes spread")),
        at_examples=None if target is None else target.at_examples(rng("generalizes distance")),
    )


def _ask(session: Session) -> Answer:
    if is_one_step(session.subject.denoiser):
        return Answer(findings=[_unknown("the model declares that it is a one-step map (one_step = True)")])
    result = outlook(session)
    before = session.answers.get("memorized")
    memorized = before.findings[0] if before is not None and before.findings else None
    blocks: list[Block] = [standing_chart(result.position, session.numpy_stream("generalizes charts"))]
    if result.target is not None and result.target.distance > 0:
        blocks.append(target_chart(result.target, session.numpy_stream("generalizes target")))
    blocks.append(standing_table(result.position, session.numpy_stream("generalizes charts")))
    doubt = "" if memorized is None else session.heldout_doubted
    return Answer(
        findings=findings(result, significance=session.settings.significance, memorized=memorized, doubt=doubt),
        blocks=blocks,
        method=METHOD,
        facts={
            "generalizes": {
                "training_examples": result.examples,
                "dimension": result.dimension,
                "parameters": result.parameters,
                "position": result.standing,
                "noise_share_by_draws": result.noise,
                "target_spread": result.spread,
                "distance_to_training": result.at_examples,
            }
        },
        result=result,
    )


QUESTION = Question("generalizes", TITLE, _ask, stages=lambda _: 1)
