r"""Does the denoising loss reveal who was in the training data? Attacks, measures, and what they could have found.

The attacks are those of `attack_scores`, their measures those of `roc`. A finding shows the attack with the largest
area; its intervals hold for all attacks at once (Bonferroni), and so does the p-value

.. math::  p = \min(1, 2 \min(p_{AUC}, K \min_k p_k)) ,

with :math:`p_{AUC}` of the largest of the K areas, by exchanging labels within pairs, and the exact :math:`p_k` of
attack k's true positives at 1% false ones: leaks of a few examples are seen at the end of the curve, not in its area.

*Power.* Under the null hypothesis the area has the standard deviation :math:`\sqrt{(n + m + 1) / (12 n m)}`; the
smallest area that is found with probability 0.95 follows from it. A perfect memorizer, the exact empirical denoiser of
the training set, is attacked in the same way, and so is a control too small to memorize: an area above 1/2 that the
control has too is a difference between the two sets.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy import ndarray

from diffuscope.findings import Chart, Finding, Line, Panel, Tone, detectable_shift, line
from diffuscope.findings.statistics import bonferroni
from diffuscope.report import Block, Table

from .attack_scores import ATTACKS, Attack, PairedLosses, attacks
from .roc import (
    FALSE_POSITIVES,
    Rate,
    advantage,
    auc,
    auc_with_interval,
    fewest_for,
    null_deviation,
    roc_curve,
    true_positives,
)

TITLE = "Does it reveal who was in its training data?"
FEWEST_PAIRS = 20
NOTICEABLE = 0.75  # an area that an attack may not miss, if it is to say that it finds nothing
Style = Literal["solid", "dashed", "dotted"]


@dataclass(frozen=True, eq=False, kw_only=True)
class AttackMeasures:
    """Every measure of one attack: the area with its interval and p-value, true positives by rate, the advantage."""

    attack: Attack
    area: Rate
    true_positives: dict[float, Rate]
    advantage: Rate


@dataclass(frozen=True, eq=False, kw_only=True)
class Membership:
    """All attacks, with 95% intervals of their own (`each`) and with intervals that hold at once (`joint`)."""

    each: dict[str, AttackMeasures]
    joint: dict[str, AttackMeasures]
    p_value: float  # over all attacks
    detectable: float  # the smallest area found with probability 0.95; infinity if there is none
    memorizer: float  # the area of the loss of a perfect memorizer of the training set
    control: float  # the area of the loss of a control too small to memorize
    pairs: int
    unit: str = "examples"  # what is attacked: examples, or groups of them

    @property
    def one(self) -> str:
        """One of the units."""
        return self.unit.removesuffix("s")

    @property
    def strongest(self) -> str:
        """The name of the attack with the largest area."""
        return max(ATTACKS, key=lambda name: self.each[name].area.value)


def membership(
    model: PairedLosses,
    memorizer: PairedLosses,
    control: PairedLosses,
    significance: float,
    rng: np.random.Generator,
    unit: str = "examples",
) -> Membership:
    """Attack the losses of the `model`; those of a `memorizer` and of a `control` at the same points tell the power."""
    found, p_area = attacks(model, rng)
    each = {name: measures(attack, rng, 0.95) for name, attack in found.items()}
    joint = {name: measures(attack, rng, 1 - 0.05 / len(ATTACKS)) for name, attack in found.items()}
    rare = [each[name].true_positives[FALSE_POSITIVES[0]].p_value for name in ATTACKS]
    p_rare = bonferroni(min(rare), len(ATTACKS)) if not np.isnan(rare[0]) else 1.0
    pairs = model.pairs
    # half of the level for the areas, divided among the attacks
    shift = detectable_shift(null_deviation(pairs, pairs), significance / (2 * len(ATTACKS)))
    return Membership(
        each=each,
        joint=joint,
        p_value=bonferroni(min(p_area, p_rare), 2),
        detectable=0.5 + shift if shift < 0.5 else float("inf"),
        memorizer=_loss_area(memorizer),
        control=_loss_area(control),
        pairs=pairs,
        unit=unit,
    )


def measures(attack: Attack, rng: np.random.Generator, confidence: float) -> AttackMeasures:
    """The measures of one attack."""
    scores = attack.members, attack.others
    return AttackMeasures(
        attack=attack,
        area=Rate(*auc_with_interval(*scores, confidence, attack.widening), attack.p_value),
        true_positives={rate: true_positives(*scores, rate, confidence) for rate in FALSE_POSITIVES},
        advantage=advantage(*scores, rng, confidence),
    )


def _loss_area(losses: PairedLosses) -> float:
    scores = -losses.model.mean(2)
    return auc(scores[0], scores[1])


def findings(result: Membership, significance: float) -> list[Finding]:
    """The verdict, true positives at 1% and at 0.1% false positives, and the advantage, of the strongest attack."""
    found = [verdict(result, significance)]
    name = result.strongest
    of = f"attack by {name}; the interval holds for all {len(ATTACKS)} attacks at once"
    for rate in FALSE_POSITIVES:
        found.append(_true_positives(result, rate, of, significance))
    best = result.joint[name].advantage
    found.append(
        Finding(
            name="membership.advantage",
            title="Membership advantage",
            value=best.value,
            unit="",
            verdict=f"At its best threshold the attack by {name} recognizes training {result.unit} with a "
            f"true-positive rate that is {best.value:+.1%} above its false-positive rate.",
            tone="attention" if best.low > 0 else "neutral",
            interval=(best.low, best.high),
            null="0: guessing. The threshold is chosen on one half of the scores and used on the other.",
            power=f"{result.pairs} {result.unit} of each kind; {of}.",
        )
    )
    return found


def power(result: Membership) -> str:
    """What these attacks would have found."""
    controls = (
        f"The loss of a perfect memorizer of this training set has an AUC of {result.memorizer:.3f}, that of a "
        f"control too small to memorize {result.control:.3f}."
    )
    if np.isinf(result.detectable):
        return f"None: {result.pairs} {result.unit} of each kind are too few for any AUC. {controls}"
    return f"An AUC of {result.detectable:.3f} would have been found with probability 0.95. {controls}"


def verdict(result: Membership, significance: float) -> Finding:
    """All attacks in one sentence."""
    name = result.strongest
    best = result.joint[name]
    blind = result.memorizer < result.detectable  # also where no area would be found
    text = (
        f"These {len(ATTACKS)} attacks find nothing: the best, by {name}, ranks a training {result.one} above a "
        f"held-out one in {best.area.value:.1%} of cases. Stronger attacks exist, such as those with shadow models."
    )
    tone: Tone = "good"
    if result.p_value < significance:
        tone = "attention"
        rare = best.true_positives[FALSE_POSITIVES[0]]
        caught = "" if np.isnan(rare.value) else f", and finds {rare.value:.1%} of the former at 1% false positives"
        text = (
            f"Its denoising loss reveals training {result.unit}: the attack by {name} ranks one above a held-out one "
            f"in {best.area.value:.1%} of cases{caught}."
        )
        if result.control >= best.area.value:
            text += " So does a control too small to memorize: the two sets differ."
    elif blind:
        tone = "unknown"
        text = (
            f"Cannot tell whether it reveals training {result.unit}: with {result.pairs} of each kind, not even a "
            "perfect memorizer would have been found."
        )
    elif result.detectable > NOTICEABLE:
        tone = "unknown"
        text = (
            f"Cannot tell whether it reveals training {result.unit}: with {result.pairs} of each kind, an AUC below "
            f"{result.detectable:.3f} might be missed."
        )
    return Finding(
        name="membership.verdict",
        title=TITLE,
        value=best.area.value,
        unit="AUC",
        verdict=text,
        tone=tone,
        interval=(best.area.low, best.area.high),
        null=f"0.5: training and held-out {result.unit} are treated alike. {result.pairs} pairs, labels exchanged "
        f"within pairs; exact counts at 1% false positives; {len(ATTACKS)} attacks corrected for.",
        p_value=result.p_value,
        power=power(result),
    )


def unanswered(reason: str) -> Finding:
    """The verdict where nothing can be attacked."""
    return Finding(
        name="membership.verdict",
        title=TITLE,
        value=float("nan"),
        unit="AUC",
        verdict=f"Cannot tell whether it reveals its training data: {reason}.",
        tone="unknown",
        power="None.",
    )


def _true_positives(result: Membership, rate: float, of: str, significance: float) -> Finding:
    best = result.joint[result.strongest].true_positives[rate]
    shown = f"{100 * rate:g}%"
    name = f"membership.true_positives_{f'{rate:g}'.replace('.', '_')}"
    title = f"True positives at {shown} false positives"
    if np.isnan(best.value):
        needed = fewest_for(rate) + 1
        return Finding(
            name=name,
            title=title,
            value=float("nan"),
            unit="%",
            verdict=f"Cannot tell: a false-positive rate of {shown} needs at least {needed:,} held-out {result.unit}, "
            f"of which {result.pairs:,} were attacked.",
            tone="unknown",
            null=f"{shown}: guessing.",
            power=f"None with fewer than {needed:,} held-out {result.unit}; --points sets how many are attacked.",
        )
    beyond = best.p_value * len(ATTACKS) < significance
    return Finding(
        name=name,
        title=title,
        value=100 * best.value,
        unit="%",
        verdict=f"At a false-positive rate of {shown}, {best.value:.2%} of the training {result.unit} are recognized.",
        tone="attention" if beyond else "good",
        interval=(100 * best.low, 100 * best.high),
        null=f"{shown}: guessing. The interval includes the error of the threshold.",
        p_value=bonferroni(best.p_value, len(ATTACKS)),
        power=f"{result.pairs:,} {result.unit} of each kind; {of}.",
    )


def blocks(result: Membership, memorizer: PairedLosses) -> list[Block]:
    """The ROC curves on logarithmic axes, and the table of all attacks."""
    scores = {name: (found.attack.members, found.attack.others) for name, found in result.each.items()}
    planted = -memorizer.model.mean(2)
    guessing = np.geomspace(1 / result.pairs, 1, 50)

    def curve(x: ndarray, y: ndarray, name: str, style: Style = "solid") -> Line:
        return line(x[y > 0].tolist(), y[y > 0].tolist(), name, style=style)  # zero is not on a logarithmic axis

    lines = [curve(*roc_curve(*both), name) for name, both in scores.items()]
    lines.append(curve(*roc_curve(planted[0], planted[1]), "control: a perfect memorizer", "dashed"))
    lines.append(curve(guessing, guessing, "guessing", "dotted"))
    chart = Chart(
        "How many training examples an attack finds, and how often it is wrong",
        (Panel("", "false-positive rate", "true-positive rate", tuple(lines), x_log=True, y_log=True),),
        "An attack says 'was in the training data' where the model's loss is low. On the dotted line it guesses. What "
        "matters to a person is the left end: how many are found while hardly anybody is accused wrongly.",
    )

    def percent(rate: Rate) -> list[float | None]:
        return [None] * 3 if np.isnan(rate.value) else [100 * rate.value, 100 * rate.low, 100 * rate.high]

    rows = [
        [name, found.area.value, found.area.low, found.area.high, found.area.p_value]
        + [cell for rate in FALSE_POSITIVES for cell in percent(found.true_positives[rate])]
        + [found.advantage.value, found.advantage.low, found.advantage.high]
        for name, found in result.each.items()
    ]
    header = ["attack", "AUC", "low", "high", "p-value"]
    header += [f"{kind} at {100 * rate:g}%" for rate in FALSE_POSITIVES for kind in ("TPR, %,", "low", "high")]
    header += ["advantage", "low", "high"]
    table = Table(
        "Attacks on membership",
        header,
        rows,
        f"{result.pairs:,} {result.unit} of each kind. TPR: true-positive rate at a false-positive rate. Each interval "
        "has 95% coverage and each p-value is for its attack alone; those of the findings are corrected for all.",
        folded=True,
    )
    return [chart, table]
