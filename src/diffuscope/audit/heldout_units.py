"""Are held-out examples like the training examples: in their units, turned as these are, of their mean and spread?

The comparison is that of samples (`units`), with held-out examples in their place. Honest splits differ by chance, and
a small held-out set by much: mean and spread count only where surely more than half of the independent held-out
examples, one of each group, lie beyond the thresholds. Where a map of the units makes nearly all of them much nearer,
that is no chance.
"""

from dataclasses import dataclass

import numpy as np
import torch

from diffuscope.by_parts import coordinate_mean
from diffuscope.findings import Finding, exact_share_interval

from .group_units import independent
from .rows_of import few_enough
from .subject import Subject
from .units import SAME_UNITS, SEARCHED, SHIFT, SampleUnits, each_moments, sample_units

MOST = 1000  # held-out examples whose medians are taken, and training examples that they are compared with
SURE = 0.999  # of two equal clusters the median is now one and now the other

ALIKE = SampleUnits(
    name="", written="", nearer=0.0, before=1.0, after=1.0, deviation=1.0, shift=0.0, heldout=(0, 1), chance=0.0
)


@dataclass(frozen=True, kw_only=True)
class HeldoutUnits:
    """Units of the held-out examples, and how many of how many independent ones lie beyond the thresholds."""

    units: SampleUnits
    shifted: tuple[int, int]  # mean of the example
    spread: tuple[int, int]  # distance from the mean of the training examples

    @property
    def off_center(self) -> bool:
        """Whether surely more than half of the examples have another mean."""
        return self.units.far and abs(self.units.shift) >= SHIFT and _most(self.shifted)

    @property
    def off_scale(self) -> bool:
        """Whether surely more than half of the examples are farther from the mean, or nearer to it."""
        return self.units.far and _most(self.spread)

    @property
    def fault(self) -> bool:
        """Whether what compares the two sets means nothing."""
        return self.units.fault or self.off_center or self.off_scale


def _most(counted: tuple[int, int]) -> bool:
    return exact_share_interval(*counted, confidence=SURE)[0] > 0.5


def heldout_units(subject: Subject, limits: tuple[float, float], rng: np.random.Generator) -> HeldoutUnits:
    """Compare held-out examples with some of the training examples, as others of these are.

    `limits` are the lowest and highest value of all training examples.

    >>> from diffuscope.audit import Subject
    >>> from diffuscope.audit.no_model import NoModel
    >>> train, heldout = torch.randn(2, 500, 4, generator=torch.Generator().manual_seed(0)).unbind()
    >>> limits, rng = (float(train.min()), float(train.max())), np.random.default_rng(0)
    >>> sets = [Subject(NoModel(), train, part) for part in (heldout, 0.5 * heldout, heldout + 2)]
    >>> [heldout_units(subject, limits, rng).fault for subject in sets]
    [False, True, True]
    """
    train = subject.train
    order = torch.from_numpy(rng.permutation(len(train)))
    apart = min(SEARCHED, len(train) // 2)
    others = train[order[:apart]]
    compared = train[order[apart : apart + few_enough(MOST, train[0].numel())]]
    if bool((compared == compared[0]).all()):  # as of a column that is nearly always 0: nothing to compare with
        none = (0, len(subject.heldout))
        return HeldoutUnits(units=ALIKE, shifted=none, spread=none)
    few = torch.from_numpy(rng.permutation(len(subject.heldout))[:MOST])
    units = sample_units(subject.heldout[few], compared, others, limits, rng)
    center = coordinate_mean(compared)
    mean, distance = (float(each.median()) for each in each_moments(compared, center))
    apart_from_others = independent(subject, rng)[1]
    few = apart_from_others[torch.from_numpy(rng.permutation(len(apart_from_others))[:MOST])]
    means, distances = each_moments(subject.heldout[few], center)
    shifts, ratios = (means - mean) / distance, distances / distance
    far = max(int((ratios >= SAME_UNITS).sum()), int((ratios <= 1 / SAME_UNITS).sum()))
    shifted = max(int((shifts >= SHIFT).sum()), int((shifts <= -SHIFT).sum()))
    return HeldoutUnits(units=units, shifted=(shifted, len(means)), spread=(far, len(means)))


def heldout_units_finding(result: HeldoutUnits, question: str) -> Finding:
    """What compares held-out examples with anything means nothing where these are plainly not like training examples.

    `question` is the name of the question that asks.
    """
    units, count = result.units, result.spread[1]
    value, unit, null = units.deviation, "x", "1x: their median distance from the mean of the training examples is "
    null += "that of other training examples."
    text = "The held-out examples are in the units of the training examples."
    if units.fault:
        value, null = units.before / max(units.after, 1e-6), "1x: no nearer to the training examples under any map."
        text = (
            f"The held-out examples are not in the units of the training examples: {units.nearer:.0%} of them are "
            f"nearer to these if read as {units.name} ({units.written})."
        )
    elif result.off_center:
        value, unit = units.shift, "standard deviations"
        null = "0: their median mean is that of the training examples."
        text = (
            f"The held-out examples are not like the training examples: their mean is off by {value:+.3g} standard "
            "deviations; one of the files may be in other units."
        )
    elif result.off_scale:
        text = (
            f"The held-out examples are not like the training examples: their spread is {value:.3g} times theirs; one "
            "of the files may be in other units."
        )
    return Finding(
        name=f"{question}.heldout_units",
        title="Are the held-out examples like the training examples?",
        value=value,
        unit=unit,
        verdict=text,
        tone="alarm" if result.fault else "good",
        null=null,
        power=f"{count:,} independent held-out examples. A spread off by a factor of {SAME_UNITS:g} or a mean off by "
        f"{SHIFT:g} deviation, each in surely more than half of them, or a known range or turn of images in which "
        "nearly all are much nearer to the training examples would be a fault; smaller differences would not.",
    )
