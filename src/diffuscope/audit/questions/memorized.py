"""Did it memorize? The verdict of three tests: denoising errors, nearness to training data, and the search for copies.

The tests are in `denoising_gap` and `copy_search`. The verdict is 'copies training examples' if any sample is listed as
a copy, 'biased toward its training data' if one of the other two tests is significant, and 'no sign' otherwise. The
false-discovery rate is divided among the feature spaces.
"""

import math
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from diffuscope.findings import Finding, exact_share_interval
from diffuscope.report import Block, Gallery, GalleryItem, Picture, image_png

from ..copy_search import Copies, Nearness, copies, copies_table, distances_chart, findings, nearness
from ..denoising_gap import Gap, denoising_gap, gap_blocks, gap_finding
from ..features import feature_map
from ..question import Answer, Question
from ..session import Session

SHOWN_PAIRS = 12


@dataclass(frozen=True, eq=False)
class Memorization:
    """The three tests of one audit: denoising errors, and per feature space nearness and copies."""

    gap: Gap
    nearness: dict[str, Nearness]
    copies: dict[str, Copies]


def verdict(result: Memorization, significance: float) -> Finding:
    """The three tests in one sentence, with the share of copies and the power to find them."""
    worst = max(result.copies.values(), key=lambda found: found.share)
    nearer = [near.share for near in result.nearness.values() if near.p_value < significance]
    low, high = exact_share_interval(int(worst.listed.sum()), len(worst.listed))
    biases = []
    if nearer:
        biases.append(f"{max(nearer):.1%} of its samples are nearer to training than to held-out data")
    if result.gap.p_value < significance:
        biases.append(f"its loss is {result.gap.mean_share:.1%} lower on training than on held-out data")
    tone = "good"
    text = "No sign of memorization: no sample is a copy, and training data are treated like held-out data."
    if worst.listed.any():
        tone = "alarm"
        text = (
            f"Copies training examples: {worst.share:.1%} of its samples are copies (at most {worst.rate:.0%} of these "
            "are expected to be false discoveries)."
        )
    elif biases:
        tone = "attention"
        text = f"Biased toward its training data: {' and '.join(biases)}; no sample is a copy."
    least = min(part.detectable for part in (*result.copies.values(), *result.nearness.values()))
    power = f"A share of {least:.1%} copies among the samples would have been found with probability 0.95."
    if math.isinf(least):
        power = "None: with so few examples no share of copies could be found."
    return Finding(
        name="memorized.verdict",
        title="Did it memorize?",
        value=100 * worst.share,
        unit="%",
        verdict=text,
        tone=tone,
        interval=(100 * low, 100 * high),
        null="Samples resemble training examples no more than held-out examples do; the tests are below.",
        power=power,
    )


def _ask(session: Session) -> Answer:
    settings, subject = session.settings, session.subject
    level, rate = settings.significance, settings.false_discovery / len(settings.features)
    result = Memorization(denoising_gap(session.measures, level, session.numpy_stream("gap")), {}, {})
    found: list[Finding] = [gap_finding(result.gap, level)]
    blocks = gap_blocks(result.gap)
    for space in settings.features:
        session.progress.set_postfix_str("looking for copies")
        features = feature_map(space, session.references.gaussian)
        rows = features(session.samples), features(subject.train), features(subject.heldout)
        result.nearness[space] = near = nearness(*rows, level, session.seed(f"nearness {space}"))
        result.copies[space] = listed = copies(*rows, settings.references, rate, session.seed(f"copies {space}"))
        session.advance()
        found += findings(near, listed, space, level)
        blocks += [distances_chart(listed, space), *_suspects(session, listed, space), *copies_table(listed, space)]
    return Answer(
        findings=[verdict(result, level), *found],
        blocks=blocks,
        facts={"copies": {space: _listed(listed) for space, listed in result.copies.items()}},
        result=result,
    )


def _suspects(session: Session, found: Copies, space: str) -> list[Block]:
    """The most suspicious samples with their neighbors; nothing if the data are not images."""
    train, heldout = session.subject.train, session.subject.heldout
    if train.ndim != 4 or train.shape[1] not in (1, 3):
        return []
    low, high = float(train.min()), float(train.max())

    def picture(image: Tensor, label: str) -> Picture:
        return Picture(image_png(image.numpy(), low, high), label)

    items = [
        GalleryItem(
            [
                picture(session.samples[i], "sample"),
                picture(train[int(found.nearest_training[i])], "training"),
                picture(heldout[int(found.nearest_heldout[i])], "held-out"),
            ],
            f"sample {i}: p = {found.p_values[i]:.2g}" + (", listed" if found.listed[i] else ""),
        )
        for i in np.argsort(found.p_values, kind="stable")[:SHOWN_PAIRS]
    ]
    how = "Each sample with its nearest training and held-out examples. A copy looks like the former, not the latter."
    return [Gallery(f"The most suspicious samples and their nearest neighbors ({space})", items, how)]


def _listed(found: Copies) -> list[dict[str, object]]:
    return [
        {
            "sample": int(i),
            "p_value": float(found.p_values[i]),
            "training_example": int(found.nearest_training[i]),
            "distance": float(found.distance[i]),
        }
        for i in np.flatnonzero(found.listed)
    ]


QUESTION = Question(
    "memorized",
    "Did it memorize?",
    _ask,
    stages=lambda session: len(session.settings.features),
    needs=frozenset({"model", "samples"}),
)
