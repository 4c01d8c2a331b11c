"""How good are the samples? Their Frechet distance to held-out data, in features that see planted faults.

A close distance says something only in features in which a faulty model would be far. So the same rule judges faults of
known size (`planted_faults`), and "close" is a verdict only if every one of them is far. Feature spaces are tried in
order until every fault has been seen; one that sees no fault beyond those before it is left out. All that are kept
count: samples that are far in one of them are far. Of tables also every column and every pair of columns is compared.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from math import nan

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from diffuscope.errors import InputError
from diffuscope.exact import Gaussian
from diffuscope.findings import PERMUTATIONS, Finding, Tone, exact_share_interval
from diffuscope.findings.numbers import number
from diffuscope.report import Block, Cell, Table

from ..classifier import ClassifierFeatures, fit_classifier
from ..column_findings import compare_columns, findings_of_columns, with_wrong_columns
from ..column_pairs import METHOD as METHOD_OF_PAIRS
from ..column_pairs import ColumnPairs
from ..column_shares import METHOD as METHOD_OF_COLUMNS
from ..column_shares import ColumnShares
from ..feature_spaces import Space, feature_spaces
from ..features import Features
from ..frechet_ratio import BAR, DRAWS, Fidelity, distance_at_size, fidelity, frechet_chart
from ..group_units import OF_GROUPS, one_of_each_group
from ..label_shares import LabelBalance, label_balance, label_block, label_finding
from ..pictures import ordinary_samples
from ..planted_faults import planted_faults
from ..question import Answer, Question
from ..rows_of import few_enough
from ..session import Session
from ..subject import FEWEST, Subject

LARGEST_SAMPLE = 5_000  # examples of each set whose distances are taken
MOST_SHOWN = 1_000  # examples that the page may show
FEATURES_PER_EXAMPLE = 4  # at least so many examples for each of the user's features


@dataclass(frozen=True, eq=False)
class Judged:
    """Samples and planted faults in one feature space."""

    space: str
    samples: Fidelity
    faults: dict[str, Fidelity]

    @property
    def seen(self) -> set[str]:
        """The faults that are judged far."""
        return {name for name, fault in self.faults.items() if fault.interval[0] > BAR}


@dataclass(frozen=True, kw_only=True, eq=False)
class Quality:
    """The spaces that count, the classifier of the labels with the shares it gives, and what could not be measured."""

    judged: tuple[Judged, ...]
    classifier: ClassifierFeatures | None
    balance: LabelBalance | None
    reasons: tuple[str, ...]
    columns: ColumnShares | None = None  # of tables
    pairs: ColumnPairs | None = None

    @property
    def passed(self) -> dict[str, Fidelity]:
        """The faults that no space sees, each where it is farthest."""
        names = {name for one in self.judged for name in one.faults} - {n for one in self.judged for n in one.seen}
        return {
            name: max((one.faults[name] for one in self.judged), key=lambda fault: fault.ratio)
            for name in sorted(names)
        }

    @property
    def deciding(self) -> Judged:
        """The space with the greatest lower end above the bar; if there is none, with the greatest upper end."""
        farthest = max(self.judged, key=lambda one: one.samples.interval[0])
        far = farthest.samples.interval[0] > BAR
        return farthest if far else max(self.judged, key=lambda one: one.samples.interval[1])


def judge(
    samples: Float[Tensor, "n *event"],
    subject: Subject,
    gaussian: Gaussian,
    own: tuple[str, ...],
    seed: int,
    load: Callable[[str], Features] | None = None,
) -> Quality:
    """Compare `samples` and planted faults with the held-out data of `subject`, in seconds.

    `own` are names of the user's features (module:object), used in place of the classifier's; `load` finds them. Of
    every group one example counts.
    """
    generator, reasons = torch.Generator().manual_seed(seed), []
    classifier = balance = None
    try:
        units = one_of_each_group(subject, np.random.default_rng(seed))
    except InputError as error:
        return Quality(judged=(), classifier=None, balance=None, reasons=(str(error),))
    try:
        classifier = _classifier(subject)
        labels = classifier.label(samples), classifier.label(units.heldout)
        balance = label_balance(classifier.classes, *labels, len(units.train), np.random.default_rng(seed))
    except InputError as error:
        reasons.append(str(error))
    sets = [_some(x, generator) for x in (samples, units.train, units.heldout)]
    base, others = _halves(units, generator)
    faults = planted_faults(base, gaussian, min(len(samples), _most(samples)), generator)
    affordable = max(1, min(*(len(x) for x in sets[:2]), len(sets[2]) // 2) // FEATURES_PER_EXAMPLE)
    judged, seen = [], set()
    for fit in feature_spaces(subject.train, gaussian, own, classifier, affordable, seed, load):
        try:
            one = _in_space(fit(), sets, faults, others, seed)
        except InputError as error:
            reasons.append(str(error))
            continue
        if not judged or one.seen - seen:
            judged.append(one)
        seen |= one.seen
        if len(seen) == len(faults):
            break
    return Quality(judged=tuple(judged), classifier=classifier, balance=balance, reasons=tuple(dict.fromkeys(reasons)))


def _halves(subject: Subject, generator: torch.Generator) -> tuple[Subject, Tensor]:
    """Held-out examples on which faults are planted, as a subject's training set, and others to compare them with.

    Features that were fitted to training examples may tell these from fresh ones, faults or not.
    """
    order, half = torch.randperm(len(subject.heldout), generator=generator), len(subject.heldout) // 2
    if half < FEWEST:
        return subject, subject.heldout
    first, labels = order[:half], subject.heldout_labels
    planted_on = replace(
        subject,
        train=subject.heldout[first],
        train_labels=None if labels is None else labels[first],
    )
    return planted_on, _some(subject.heldout[order[half:]], generator)


def _in_space(space: Space, sets: list[Tensor], faults: dict[str, Tensor], others: Tensor, seed: int) -> Judged:
    heldout = space.features(sets[2])
    found = fidelity(space.features(sets[0]), space.features(sets[1]), heldout, seed)
    generator, others = torch.Generator().manual_seed(seed), space.features(others)
    size = min(found.size, len(others))
    planted = {
        name: replace(found, samples=distance_at_size(space.features(x), others, size, generator))
        for name, x in faults.items()
    }
    return Judged(space.name, found, planted)


def _some(x: Float[Tensor, "n *event"], generator: torch.Generator) -> Float[Tensor, "m *event"]:
    return x if len(x) <= _most(x) else x[torch.randperm(len(x), generator=generator)[: _most(x)]]


def _most(x: Float[Tensor, "n *event"]) -> int:
    return few_enough(LARGEST_SAMPLE, x[0].numel())


def _classifier(subject: Subject) -> ClassifierFeatures:
    """InputError for data without labels, and for labels that a classifier cannot learn."""
    if subject.train_labels is None or subject.heldout_labels is None:
        parts = {"training": subject.train_labels, "held-out": subject.heldout_labels}
        missing = " and ".join(part for part, labels in parts.items() if labels is None)
        raise InputError(f"labels: the {missing} data have no labels")
    features = fit_classifier(subject.train, subject.train_labels, subject.heldout, subject.heldout_labels)
    _require_knowledge(features, subject.heldout_labels)
    return features


def _require_knowledge(features: ClassifierFeatures, labels: Int[Tensor, " m"]) -> None:
    """The classifier must beat always predicting the most common label: otherwise its features mean nothing."""
    low, _ = exact_share_interval(round(features.accuracy * features.heldout), features.heldout)
    commonest = int(labels.unique(return_counts=True)[1].max()) / len(labels)
    if low <= commonest:
        raise InputError(
            f"labels: expected labels that a classifier can learn, but its accuracy of {features.accuracy:.1%} on "
            f"{features.heldout:,} held-out examples (95% interval from {low:.1%}) is no better than that of always "
            f"predicting the most common label ({commonest:.1%})"
        )


def quality_finding(result: Quality, *, copying: bool) -> Finding:
    """The ratio in the deciding space, or "cannot tell" where a planted fault would have passed as close."""
    finding = partial(Finding, name="fidelity.frechet", title="How good are its samples?")
    if not result.judged:
        why = "; ".join(result.reasons)
        text = f"Cannot tell how good its samples are: {why}."
        return finding(value=nan, unit="", verdict=text, tone="unknown", power="None: no distance was measured.")
    one, passed = result.deciding, result.passed
    found = one.samples
    low, high = found.interval
    ratio = f"{number(found.ratio)}x as far from held-out data as two held-out sets are from each other"
    where = f"in {one.space} (up to {BAR:g}x counts as close)"
    tone: Tone = "good"
    if low > BAR:
        beyond = low > max(fault.interval[1] for fault in one.faults.values())
        tone = "alarm" if beyond else "attention"
        text = f"Its samples are {ratio}, {where}" + (": farther than every planted fault." if beyond else ".")
    elif passed:
        name, fault = next(iter(passed.items()))
        text = (
            f"Cannot tell: {name} would have passed as close ({number(fault.ratio)}x) in these features; the samples "
        )
        text += f"are at {number(found.ratio)}x."
        return finding(value=nan, unit="", verdict=text, tone="unknown", null=_null(found), power=_power(result))
    elif high > BAR:
        tone = "unknown"
        text = f"Cannot tell: its samples are {ratio}, {where}, but the interval reaches up to {number(high)}x."
    elif copying:
        tone = "attention"
        text = f"Close, but its samples are copies of training examples: they are {ratio}, {where}, and a model that "
        text += f"only replays its training data would score {number(found.recited_ratio)}x."
    else:
        text = f"Its samples are {ratio}, {where}. A model that only replays its training data would score "
        text += f"{number(found.recited_ratio)}x."
    return finding(
        value=found.ratio,
        unit="x",
        verdict=text,
        tone=tone,
        interval=(low, high),
        null=_null(found),
        power=_power(result),
    )


def _null(found: Fidelity) -> str:
    return (
        f"1x: two sets of {found.size} held-out examples, at distance {found.real:.3g}. The samples are at distance "
        f"{found.samples.value:.3g} (standard error {found.samples.standard_error:.2g})."
    )


def _power(result: Quality) -> str:
    """What was planted, and what of it was seen."""
    seen = {}
    for one in result.judged:
        for name in sorted(one.seen, key=list(one.faults).index):
            seen[name] = max(seen.get(name, 0.0), one.faults[name].ratio)
    size, passed = result.judged[0].samples.size, result.passed
    text = f"Faults planted on {size} held-out examples and judged by the same rule."
    if seen:
        text += f" Far: {_listed(f'{name} ({number(ratio)}x)' for name, ratio in seen.items())}."
    if passed:
        text += f" Not far: {_listed(f'{name} ({number(fault.ratio)}x)' for name, fault in passed.items())}."
    return text + " Copies of training examples are close."


def _listed(parts: Iterable[str]) -> str:
    *first, last = parts
    return f"{', '.join(first)} and {last}" if first else last


def blocks(result: Quality) -> list[Block]:
    """A chart for every space that counts, all numbers, and the shares of labels."""
    if not result.judged:
        return []
    charts = [
        frechet_chart(one.samples, one.faults, f"Samples and planted faults, in {one.space}") for one in result.judged
    ]
    rows: list[list[Cell]] = []
    for one in result.judged:
        found = one.samples
        rows.append([one.space, "samples", found.samples.value, found.ratio, *found.interval, _place(found.interval)])
        recited, interval = found.recited_ratio, found.recited_interval
        rows.append([one.space, "replayed training data", found.recited.value, recited, *interval, _place(interval)])
        for name, fault in one.faults.items():
            ends = fault.interval
            rows.append([one.space, name, fault.samples.value, fault.ratio, *ends, _place(ends)])
        rows.append([one.space, "other held-out data", found.real, 1.0, None, None, ""])
    table = Table(
        f"Frechet distances to held-out data, between sets of {result.judged[0].samples.size} examples",
        ["features", "of", "distance", "ratio", "low", "high", "verdict"],
        rows,
        f"Far: the whole interval is above {BAR:g}x; close: the whole interval is below. Each planted fault must be "
        "far in one of the feature spaces, or samples that are close in all of them prove nothing.",
    )
    shares = [] if result.balance is None else [label_block(result.balance)]
    return [*charts, table, *shares]


def _place(interval: tuple[float, float]) -> str:
    return "far" if interval[0] > BAR else "close" if interval[1] <= BAR else "between"


def _method(result: Quality) -> str:
    text = "Quality of samples: Frechet distance of features. "
    if result.judged:
        text += f"Feature spaces: {_listed(one.space for one in result.judged)}. "
    if result.classifier is not None:
        classifier = result.classifier
        text += (
            f"The classifier is fitted to the labels of the training data, predicts {classifier.accuracy:.1%} of the "
            f"{classifier.heldout:,} held-out labels, and has {len(classifier.bias)} whitened features in its hidden "
            "layer. "
        )
    text += (
        "Every distance is between two sets of equally many examples, because its bias depends on their number, and "
        f"is averaged over {DRAWS} random draws. Standard errors are of first order; between equal distributions they "
        "are too large by a factor of 1.4. Intervals of ratios include the error of the distance between held-out sets."
    )
    if result.balance is not None:
        text += (
            " Label shares are tested by Pearson's chi-squared, shrunk for the sampling error of "
            f"{result.balance.known:,} training examples, with {PERMUTATIONS:,} permutations."
        )
    if result.columns is not None:
        text += f" {METHOD_OF_COLUMNS}"
    if result.pairs is not None:
        text += f" {METHOD_OF_PAIRS}"
    return text + "".join(f" Not measured: {reason}." for reason in result.reasons)


def _ask(session: Session) -> Answer:
    session.progress.set_postfix_str("comparing samples with held-out data")
    samples, subject, settings = session.samples, session.subject, session.settings
    own = tuple(name for name in settings.features if ":" in name)
    result = judge(samples, subject, session.gaussian, own, session.seed("quality"), session.features)
    session.advance()
    found = [quality_finding(result, copying=session.copies_training)]
    if result.balance is not None:
        found.append(label_finding(result.balance, settings.significance))
    columns, pairs = compare_columns(samples, subject, settings.significance, session.numpy_stream("columns"))
    result = replace(result, columns=columns, pairs=pairs)
    of_columns, tables = findings_of_columns(columns, pairs, settings.significance)
    found = [with_wrong_columns(found[0], of_columns), *found[1:], *of_columns]
    pictures, truncated = [], "" if session.truncation is None else str(session.truncation)
    first = [torch.arange(min(MOST_SHOWN, len(x))) for x in (samples, subject.heldout)]
    shown, others = session.shown("samples", first[0]), session.shown("heldout", first[1])
    if subject.table is None and shown is not None and others is not None:
        pictures = ordinary_samples(shown, others, examples=settings.examples)
    return Answer(
        findings=found,
        blocks=[*pictures, *blocks(result), *tables],
        method=" ".join(filter(None, (_method(result), OF_GROUPS * (subject.train_groups is not None), truncated))),
        facts={"quality_not_measured": None if result.judged else "; ".join(result.reasons)},
        result=result,
    )


QUESTION = Question(
    "quality", "How good are its samples?", _ask, stages=lambda _: 1, needs=frozenset({"samples"}), of="both"
)
