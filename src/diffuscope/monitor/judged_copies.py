"""Are samples of a model in training copies? The audit's search, judged so that a whole run has few false stops.

The tests of a look are ranks among the held-out examples (`repeated_looks`), samples that equal training examples, and
near repeats (`exact_matches`). The samples are *copies* where these are significant together at the look's level, ranks
counting only where the audit's own list of copies has an entry. They are *suspected* where the list has an entry or the
ranks are significant alone: samples then are biased toward training examples, of which none may be a copy. Copies are
*not detected* only where planted ones would have been; else nothing can be told.

Planted copies are copies of examples. Samples at least half as far from the data as white noise is are those of a model
that has learned little yet, or is not read as it was trained: that none is a copy then says nothing about the model.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from diffuscope.audit.copy_search import LARGEST_SHARE, Copies, CopySearch, why_unknown
from diffuscope.audit.exact_matches import exact_matches, near_matches
from diffuscope.audit.frechet_ratio import BAR, Fidelity
from diffuscope.audit.planting import smallest_share_found
from diffuscope.findings import exact_share_interval
from diffuscope.findings.numbers import p_relation
from diffuscope.streams import numpy_stream

from .repeated_looks import rank_bounds, rank_p_value

Word = Literal["copies", "suspected", "not-detected", "cannot-tell"]
TESTS = 3  # of a feature space: ranks, equal samples, near repeats


@dataclass(frozen=True, kw_only=True)
class JudgedCopies:
    """The verdict on one set of samples; the fields are those of a `Look`."""

    word: Word
    sentence: str
    copied: float
    copied_interval: tuple[float, float]
    samples: int
    heldout: int
    p_value: float
    level: float
    detectable: dict[str, float]


def judged_copies(
    samples: Float[Tensor, "n *event"],
    searches: Mapping[str, CopySearch],
    *,
    rate: float | int,
    level: float | int,
    seed: int,
) -> JudgedCopies:
    """Samples searched in every feature space, at the `level` of a look; `rate` is that of the audit's list."""
    found = {space: search(samples, rate / len(searches)) for space, search in searches.items()}
    p_value, of_copies = (
        min(1.0, len(found) * TESTS * min(_least_p_value(one, alone=alone) for one in found.values()))
        for alone in (True, False)
    )
    detectable = _detectable(found, searches, level, seed)
    worst = max(found.values(), key=lambda one: (one.share, one.heldout_copied))
    word = _word(found, p_value, of_copies, level, detectable)
    return JudgedCopies(
        word=word,
        sentence=_sentence(word, worst, found, p_value, level, detectable),
        copied=worst.share,
        copied_interval=exact_share_interval(int(worst.listed.sum()), len(samples)),
        samples=len(samples),
        heldout=worst.calibration,
        p_value=p_value,
        level=float(level),
        detectable=detectable,
    )


def with_distance(judged: JudgedCopies, samples: Fidelity | None, noise: Fidelity | None) -> JudgedCopies:
    """The verdict, no copying being detected, with how far samples, and white `noise`, are from the data (if known)."""
    if judged.word != "not-detected" or samples is None or samples.interval[0] <= BAR:
        return judged
    far = f"{samples.ratio:.3g} times as far from held-out data as other held-out data are"
    if noise is None or noise.interval[0] <= BAR or samples.interval[1] < noise.ratio / 2:
        return replace(judged, sentence=f"{judged.sentence} The samples are {far}.")
    sentence = (
        f"Cannot tell whether it copies: its samples are {far}, white noise {noise.ratio:.3g} times. It has not "
        "learned the data yet, or is not read as it was trained (prediction, times, range)."
    )
    return replace(judged, word="cannot-tell", sentence=sentence)


def _least_p_value(found: Copies, *, alone: bool) -> float:
    """Of the three tests of one search; ranks count `alone`, or only where the list has an entry."""
    ranks = rank_p_value(found.p_values, found.calibration) if alone or found.listed.any() else 1.0
    return min(ranks, exact_matches(found).p_value, near_matches(found).p_value)


def _detectable(
    found: Mapping[str, Copies], searches: Mapping[str, CopySearch], level: float | int, seed: int
) -> dict[str, float]:
    """By kind of copy: the least share of the samples that ranks find in one of the spaces."""
    shares: dict[str, float] = {}
    for space, one in found.items():
        samples = len(one.p_values)
        bounds = rank_bounds(samples, one.calibration, level / (TESTS * len(found)))
        for kind, p_values in searches[space].planted.items():
            rng = numpy_stream(seed, "monitor", "power", space, kind)
            share = smallest_share_found(p_values, samples, one.rate, rng, also=bounds)
            shares[kind] = min(share, shares.get(kind, math.inf))
    return shares


def _word(
    found: Mapping[str, Copies],
    p_value: float,
    of_copies: float,
    level: float | int,
    detectable: Mapping[str, float],
) -> Word:
    if of_copies <= level:
        return "copies"
    if p_value <= level or any(one.listed.any() for one in found.values()):
        return "suspected"
    known = any(one.heldout_known for one in found.values())
    return "cannot-tell" if known or detectable["exact"] > LARGEST_SHARE else "not-detected"


def _sentence(
    word: Word,
    worst: Copies,
    found: Mapping[str, Copies],
    p_value: float,
    level: float | int,
    detectable: Mapping[str, float],
) -> str:
    listed, total = int(worst.listed.sum()), len(worst.listed)
    resemble = f"{listed} of {total} samples resemble one training example more than held-out examples do"
    levels = f"p {p_relation(p_value)}; the level of this look is {level:.1e}"
    if word == "copies":
        if not listed:
            resemble = "samples repeat training examples more often than held-out examples do"
        return f"Copies training examples: {resemble} ({levels})."
    if word == "suspected" and listed:
        return f"Suspected of copying: {resemble}, which repeated looks may find by chance ({levels})."
    if word == "suspected":
        biased = "samples resemble training examples more than held-out examples do, but none so much as to be listed"
        return f"Suspected of copying: {biased} ({levels})."
    share = f"copies of {detectable['exact']:.1%} of the samples or more would be found with probability 0.95"
    if detectable["exact"] > 1:
        share = "not even copies alone would be found"
    if word == "not-detected":
        return f"No copying detected; {share}."
    known = [one for one in found.values() if one.heldout_known]
    why = why_unknown(known[0]) if known else f"{worst.calibrated_on} are too few for {total} samples"
    return f"Cannot tell whether it copies: {why}; {share}."
