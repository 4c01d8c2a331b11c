"""Is it as diverse as the data? Coverage of held-out data, missing modes, and samples that repeat each other.

The verdict is the first fault of the three tests; where there is none, coverage decides whether a missing part of
the data would have been seen.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from diffuscope.by_parts import extremes
from diffuscope.findings import Chart, Finding, Panel, groups
from diffuscope.report import Block, Gallery, GalleryItem, Picture, Table, image_png

from ..coverage import Coverage, coverage, coverage_finding
from ..group_units import OF_GROUPS, independent
from ..modes import Modes, SelfRepeats, modes, modes_finding, repeats_finding, self_repeats
from ..pictures import as_images
from ..question import Answer, Question
from ..rows_of import rows_of
from ..session import Session
from ..suspects import shown

TITLE = "Is it as diverse as the data?"
SHOWN, EXAMPLES = 4, 6  # clusters that lack samples, and held-out examples of each
METHOD = (
    "Diversity: neighborhoods of held-out examples to which no sample is nearest (coverage); shares of k-means "
    "clusters of the training data; samples at a distance that few held-out examples have to each other."
)


@dataclass(frozen=True, eq=False)
class Diversity:
    """The three measurements."""

    coverage: Coverage
    modes: Modes
    repeats: SelfRepeats


def verdict(found: list[Finding], copying: bool) -> Finding:
    """The gravest finding; coverage where there is none."""
    gravest = next((f for tone in ("alarm", "attention", "unknown") for f in found if f.tone == tone), None)
    if gravest is not None:
        return replace(gravest, name="diversity.verdict", title=TITLE)
    tone, text = "good", f"Samples are as diverse as the data. {found[0].verdict}"
    if copying:
        tone, text = "neutral", f"Samples cover the data, but some are copies, which do so too. {found[0].verdict}"
    return replace(found[0], name="diversity.verdict", title=TITLE, verdict=text, tone=tone)


def _ask(session: Session) -> Answer:
    session.progress.set_postfix_str("looking for missing modes")
    settings, subject, rng = session.settings, session.subject, session.numpy_stream("diversity")
    features = session.features(settings.features[0])
    train, heldout = independent(subject, rng)
    places = (None, None) if subject.train_groups is None else (train, heldout)
    rows = (
        features(session.samples),
        rows_of(subject.train, features, places[0]),
        rows_of(subject.heldout, features, places[1]),
    )
    level = settings.significance
    result = Diversity(coverage(*rows, level, rng), modes(*rows, level, rng), self_repeats(*rows, rng))
    found = [
        coverage_finding(result.coverage, level),
        modes_finding(result.modes, level),
        repeats_finding(result.repeats, level),
    ]
    session.advance()
    return Answer(
        findings=[verdict(found, session.copies_training), *found],
        blocks=[_shares(result.modes), *_missing(session, result.modes, heldout, level)],
        method=METHOD if subject.train_groups is None else f"{METHOD} {OF_GROUPS}",
        result=result,
    )


def _shares(result: Modes) -> Chart:
    balance = result.balance
    shares = {"held-out data": 100 * balance.of_heldout, "samples": 100 * balance.of_samples}
    top = 1.25 * max(float(share.max()) for share in shares.values())
    bars = groups([str(k) for k in balance.classes.tolist()], {**shares})
    return Chart(
        "Shares of the data's clusters among samples and held-out data",
        (Panel("", "cluster of the training data", "share, %", (bars,), y_range=(0.0, top)),),
        "A cluster without a bar of samples is a missing mode.",
    )


def _missing(session: Session, result: Modes, counted: Int64[Tensor, " m"], level: float) -> list[Block]:
    """`counted` held-out examples of the clusters that lack most samples, where shares differ beyond chance."""
    balance, table, originals = result.balance, session.subject.table, session.subject.originals
    heldout = (session.subject if originals is None else originals).heldout[counted]
    if not session.settings.examples or not (balance.p_value < level or balance.surely_missing(level)):
        return []
    chosen = result.shortest[:SHOWN]
    members = {k: np.flatnonzero(result.of_heldout == k)[:EXAMPLES] for k in chosen}
    names = {
        k: f"cluster {k}: {float(balance.of_samples[k]):.1%} of the samples, {float(balance.of_heldout[k]):.1%} of "
        "held-out data"
        for k in chosen
    }
    title, how = "Where samples are missing", "Held-out examples of the clusters that lack most samples."
    if table is not None:
        rows = [
            [names[k] if first else "", *(shown(column[0]) for column in table.decode(heldout[i : i + 1]))]
            for k in chosen
            for first, i in zip((True, *(False for _ in members[k][1:])), members[k], strict=True)
        ]
        return [Table(title, ["", *(column.name for column in table.columns)], rows, how)]
    low, high = extremes(heldout)
    items = []
    for k in chosen:
        images = as_images(heldout[torch.from_numpy(members[k])])
        if images is not None:
            pictures = [Picture(image_png(x.numpy(), low, high), "held-out") for x in images]
            items.append(GalleryItem(pictures, names[k]))
    return [Gallery(title, items, how)] if items else []


QUESTION = Question("diversity", TITLE, _ask, stages=lambda _: 1, needs=frozenset({"samples"}), of="both")
