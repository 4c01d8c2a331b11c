r"""Did it memorize? (c) Which samples are copies of a training example?

Every sample has the statistic s of `closeness`, for images after the transformation that brings it nearest to a
training example (`alignment`). The same statistic of held-out examples, treated exactly as samples are, is the null
distribution; the conformal p-value of a sample is its rank among them. By Benjamini-Hochberg control the expected share
of false entries in the list is at most the stated one. Where examples have groups, one held-out example of each is used
(`group_units`): ranks among the scans of few patients would be finer than what is known.

*Leaked held-out examples*, which repeat a training example, are left out of the null distribution; those that do so
nearly stay if training examples repeat one another as often (`leaked`).

*Power* is measured: modified copies of random training examples are planted (`planting`).
"""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
import scipy  # its subpackages are loaded when they are first used
import torch
from jaxtyping import Bool, Float, Int, Shaped
from numpy import ndarray

from diffuscope import data
from diffuscope.byte_examples import floats_at
from diffuscope.findings import (
    Finding,
    conformal_p_values,
    exact_share_interval,
    false_discovery,
)

from .copied_heldout import MOST, halves, near_copies
from .copy_queries import Events, Queries, Search
from .features import Features
from .group_units import one_of_each
from .leaked import LEAST_CALIBRATION, REPEAT_QUANTILE, AmongHalf, repeating
from .planting import PLANTED, modifications, smallest_share_found
from .repeats import Repeats, distinct, repeats
from .rows_of import at_once, flat, nearest_rows, rows_of
from .transformations import Transformation

LARGEST_SHARE = 0.25  # of exact copies: if only a larger one would be found, there is no verdict
KNOWN = 1 / 3  # of the held-out examples: as many training examples among them hide what only the model's loss tells
OTHERS = 2000  # training examples that show how often they repeat one another
COPIED = "the held-out examples are near-copies of training examples"
PLAIN = ("pixels", "columns", "values")  # what the distances of the examples as they are, are called


@dataclass(frozen=True, kw_only=True, eq=False)
class Copies:
    """(c): per sample the p-value, whether it is on the list, and its nearest training and held-out examples."""

    p_values: Float[ndarray, " samples"]
    listed: Bool[ndarray, " samples"]
    nearest_training: Int[ndarray, " samples"]
    nearest_heldout: Int[ndarray, " samples"]
    distance: Float[ndarray, " samples"]  # to the nearest training example, after the transformation
    next_distance: Float[ndarray, " samples"]  # to the next different one
    transformation: list[str]  # that brings the sample nearest to a training example; "" for none
    null_distance: Float[ndarray, " calibration"]  # the same two for held-out examples treated as samples
    null_next_distance: Float[ndarray, " calibration"]
    heldout: Int[ndarray, " calibration"]  # the held-out examples that were used
    leaked: dict[int, int]  # held-out examples that repeat a training example, and which
    repeats: Repeats
    radius: float  # training examples within it are one
    rate: float
    detectable: dict[str, float] = field(repr=False)  # by modification: smallest share of the samples found
    grouped: bool = False  # whether one held-out example of each group was used
    heldout_copied: bool = False  # whether these are near-copies of training examples
    natural: int = 0  # how many of these nearly repeat a training example, as often as these do one another
    near: tuple[int, int] | None = None  # samples and held-out examples that do so, where none of these is leaked

    @property
    def heldout_known(self) -> bool:
        """Whether the model may know the held-out examples: near-copies, or a third of them repeats training ones."""
        return self.heldout_copied or 0 < KNOWN * (len(self.leaked) + self.calibration) <= len(self.leaked)

    @property
    def share(self) -> float:
        """The listed share of the samples."""
        return float(self.listed.mean())

    @property
    def listed_first(self) -> Int[ndarray, " listed"]:
        """The samples on the list, the most suspicious first."""
        listed = np.flatnonzero(self.listed)
        return listed[np.argsort(self.p_values[listed], kind="stable")]

    @property
    def calibration(self) -> int:
        """How many held-out examples calibrate the p-values."""
        return len(self.heldout)

    @property
    def calibrated_on(self) -> str:
        """The held-out units that calibrate the p-values, in words."""
        return f"{self.calibration:,} held-out {'groups' if self.grouped else 'examples'}"

    @property
    def p_value(self) -> float:
        """Simes' p-value of all samples together: below `rate` exactly if the list is not empty."""
        return float(scipy.stats.false_discovery_control(self.p_values).min())

    @property
    def can_tell(self) -> bool:
        """Whether an empty list means anything: a stated share of exact copies, and others too, would be found."""
        return self.detectable["exact"] <= LARGEST_SHARE and not self.heldout_copied

    @property
    def power(self) -> str:
        """What was planted, and what of it would have been found."""
        if self.heldout_copied:
            return f"None: {COPIED}, beside which other copies look normal."
        found = {name: share for name, share in self.detectable.items() if share <= 1}
        if not found:
            return (
                f"None: with {self.calibrated_on} and {len(self.p_values):,} samples, not even exact copies that were "
                "planted are found."
            )
        shares = ", ".join(f"{name} {share:.2%}" for name, share in found.items())
        lost = [name for name in self.detectable if name not in found]
        return (
            "Copies of training examples were planted. At least one would be listed, with probability 0.95, if this "
            f"share of the samples were copies: {shares}."
            + (f" Not found at any share: {', '.join(lost)}." if lost else "")
        )


class CopySearch:
    """All of (c) that does not depend on the samples, made once: for several sets of samples, as while training.

    Calibrated on up to `calibration` held-out examples, of which `heldout_groups` allow one each. Distances are those
    of `features`; with transformations `chosen`, those of images modulo these. Copies of rows of a `table` are planted
    with changes of their columns.
    """

    def __init__(
        self,
        train: Events,
        heldout: Events,
        *,
        calibration: int,
        seed: int,
        features: Features = flat,
        chosen: Sequence[Transformation] = (),
        table: data.Table | None = None,
        train_groups: Shaped[ndarray, " train"] | None = None,
        heldout_groups: Shaped[ndarray, " heldout"] | None = None,
    ) -> None:
        rng = np.random.default_rng(seed)
        independent = np.arange(len(heldout)) if heldout_groups is None else one_of_each(heldout_groups, rng)
        used = np.sort(rng.permutation(independent)[:calibration])
        halved = np.random.default_rng([seed, 1])
        compared = halved.permutation(len(used))[:MOST]
        # first, so that two searches are never held at once
        alike = among_half(train, heldout[torch.from_numpy(used[compared])], features, chosen, train_groups, halved)
        self.search = search = Search(train, features, chosen)
        self.fresh = fresh = search(heldout, torch.from_numpy(used))

        def among_other_half(asked: Int[ndarray, " asked"]) -> AmongHalf:
            chance = np.random.default_rng([seed, 2])
            return in_question(train, heldout[torch.from_numpy(used[asked])], features, chosen, train_groups, chance)

        self.repeating = found = repeating(fresh, among_other_half)
        leaked = found.leaked
        self.null = fresh.statistic(found.radius)[~leaked]
        if len(distinct(fresh.rows)[0]) < LEAST_CALIBRATION:
            self.null = self.null[:0]  # the same few examples, however often they occur, tell nothing
        sources = floats_at(train, torch.from_numpy(rng.integers(len(train), size=PLANTED)))
        stream = torch.Generator().manual_seed(seed)
        changed = modifications(train, stream, table)
        of_planted = statistics(search, (modified(sources) for modified in changed.values()), found.radius)
        self.planted = {
            name: conformal_p_values(values, self.null) for name, values in zip(changed, of_planted, strict=True)
        }
        first = search.original[fresh.near.index[:, 0]]
        self.leaked = {int(i): int(j) for i, j in zip(used[leaked], first[leaked], strict=True)}
        self.heldout, self.used, self.grouped = heldout, used[~leaked], heldout_groups is not None
        self.heldout_copied = near_copies(alike[0][~leaked[compared]], alike[1])
        self.repeats = repeats(rows_of(train, search.features), found.radius)
        self._rng = rng

    def __call__(self, samples: Events, rate: float) -> Copies:
        """The list of one set of samples; the same set has the same list, whatever was searched before."""
        search, fresh, found = self.search, self.fresh, self.repeating
        radius, rng = found.radius, copy.deepcopy(self._rng)
        asked = search(samples)
        p_values = conformal_p_values(asked.statistic(radius), self.null)
        near = nearest_rows(search.features(samples), rows_of(self.heldout, search.features), 1)[1][:, 0]
        return Copies(
            p_values=p_values,
            listed=false_discovery(p_values, rate),
            nearest_training=search.original[asked.near.index[:, 0]],
            nearest_heldout=near.numpy(),
            distance=asked.distance,
            next_distance=asked.next_distance(radius),
            transformation=asked.transformation,
            null_distance=fresh.distance[~found.leaked],
            null_next_distance=fresh.next_distance(radius)[~found.leaked],
            heldout=self.used,
            leaked=self.leaked,
            repeats=self.repeats,
            radius=radius,
            rate=rate,
            detectable={name: smallest_share_found(p, len(samples), rate, rng) for name, p in self.planted.items()},
            grouped=self.grouped,
            heldout_copied=self.heldout_copied,
            natural=found.natural,
            near=(found.count_near(asked), found.count_near(fresh)) if found.all_natural else None,
        )


def copies(
    samples: Events,
    train: Events,
    heldout: Events,
    *,
    calibration: int,
    rate: float,
    seed: int,
    features: Features = flat,
    chosen: Sequence[Transformation] = (),
    table: data.Table | None = None,
    train_groups: Shaped[ndarray, " train"] | None = None,
    heldout_groups: Shaped[ndarray, " heldout"] | None = None,
) -> Copies:
    """(c) for one set of samples; the other arguments are those of `CopySearch`."""
    search = CopySearch(
        train, heldout, calibration=calibration, seed=seed, features=features, chosen=chosen, table=table,
        train_groups=train_groups, heldout_groups=heldout_groups,
    )  # fmt: skip
    return search(samples, rate)


def among_half(
    train: Events,
    heldout: Events,
    features: Features,
    chosen: Sequence[Transformation],
    groups: Shaped[ndarray, " train"] | None,
    rng: np.random.Generator,
) -> tuple[Float[ndarray, " heldout"], Float[ndarray, " others"]]:
    """s of held-out examples, and of other training examples, among half of the training examples."""
    both = in_question(train, heldout, features, chosen, groups, rng, MOST)
    return closeness_of_both(both.heldout, next(both.others))


def in_question(
    train: Events,
    heldout: Events,
    features: Features,
    chosen: Sequence[Transformation],
    groups: Shaped[ndarray, " train"] | None,
    rng: np.random.Generator,
    most: int = OTHERS,
) -> AmongHalf:
    """Held-out examples, and at most `most` other training examples, among a random half of the training examples."""
    known, others = map(torch.from_numpy, halves(len(train), groups, rng, most))
    search = Search(train, features, chosen, known)
    parts = (search(train[part]) for part in others.split(MOST))
    return AmongHalf(heldout=search(heldout), others=parts, size=len(others))


def closeness_of_both(
    heldout: Queries, others: Queries
) -> tuple[Float[ndarray, " heldout"], Float[ndarray, " others"]]:
    """s of either; training examples nearer to each other than 99% of the others are to them are one."""
    radius = float(np.quantile(others.untransformed, REPEAT_QUANTILE))
    return heldout.statistic(radius), others.statistic(radius)


def statistics(search: Search, sets: Iterator[Events], radius: float) -> Iterator[Float[ndarray, " n"]]:
    """s of sets of equally many examples, as many in one search as are few enough to be held at once."""
    while held := [search.reduced(x) for x in islice(sets, 1)]:
        held += [search.reduced(x) for x in islice(sets, at_once(held[0].numel()) - 1)]
        yield from search(torch.cat(held)).statistic(radius).reshape(len(held), -1)


def copies_finding(found: Copies, space: str) -> Finding:
    """(c) in one space of distances."""
    listed, total = int(found.listed.sum()), len(found.listed)
    low, high = exact_share_interval(listed, total)
    tone = "alarm" if listed else "good" if found.can_tell else "unknown"
    verdict = {
        "alarm": f"{listed} of {total} samples resemble one training example more than held-out examples ever do.",
        "good": f"None of the {total} samples resembles one training example more than held-out examples ever do.",
        "unknown": nothing_listed(found),
    }[tone]
    if found.near is not None:
        near, normal = found.near
        verdict += (
            f" Near repeats of one: {near} of {total} samples, {normal} of {found.calibration} held-out examples."
        )
    return Finding(
        name="memorized.copies" + suffix(space),
        title=f"Samples that copy a training example ({space})",
        value=100 * found.share,
        unit="%",
        verdict=verdict,
        tone=tone,
        interval=(100 * low, 100 * high),
        null=f"{found.calibration} held-out examples{', one of each group,' * found.grouped} treated as samples"
        f"{natural_repeats(found)}; the "
        f"expected share of false discoveries is at most {found.rate:.2g}. The p-value is Simes', of all samples "
        "together.",
        p_value=found.p_value,
        power=found.power,
    )


def natural_repeats(found: Copies) -> str:
    """How many of the held-out examples nearly repeat training examples and stay; nothing if none does."""
    if not found.natural:
        return ""
    count = f"{found.natural} of which nearly {'repeats' if found.natural == 1 else 'repeat'} a training example"
    return f", {count}, no more often than training examples repeat one another"


def nothing_listed(found: Copies) -> str:
    """Why that no sample is listed means nothing."""
    if found.heldout_copied:
        return f"Cannot tell: {COPIED}, beside which other copies look normal."
    return f"No sample is listed, but planted copies would hardly be either: {why_unknown(found)}."


def why_unknown(found: Copies) -> str:
    """The reason for no verdict, as a clause."""
    if found.heldout_copied:
        return COPIED
    if found.heldout_known:
        return f"{len(found.leaked)} of {len(found.leaked) + found.calibration} held-out examples repeat training ones"
    return f"{found.calibrated_on} do not tell {len(found.p_values)} samples from copies"


def suffix(space: str) -> str:
    """Of the names of findings in this space."""
    return "" if space in PLAIN else f".{space}"
