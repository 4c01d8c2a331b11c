"""How good are the samples? Their Frechet distance to held-out data, in features that see planted faults.

The rule is in `judged_quality`. Of tables also every column and every pair of columns is compared.
"""

from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from math import nan

import torch

from diffuscope.findings import PERMUTATIONS, Finding, Tone
from diffuscope.findings.numbers import number
from diffuscope.report import Block, Cell, Table

from ..column_findings import compare_columns, findings_of_columns, with_wrong_columns
from ..column_pairs import METHOD as METHOD_OF_PAIRS
from ..column_shares import METHOD as METHOD_OF_COLUMNS
from ..frechet_ratio import BAR, DRAWS, Fidelity, frechet_chart
from ..group_units import OF_GROUPS
from ..judged_quality import Quality, judge
from ..label_shares import label_block, label_finding
from ..pictures import ordinary_samples
from ..question import Answer, Question
from ..rows_of import few_enough
from ..session import Session
from ..subject import Settings

MOST_SHOWN = 1_000  # examples that the page may show


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
    if found[0].tone in ("attention", "alarm"):
        found[0] = replace(found[0], verdict=found[0].verdict + _of_few_steps(session))
    pictures, truncated = [], "" if session.truncation is None else str(session.truncation)
    first = [torch.arange(min(few_enough(MOST_SHOWN, 4 * x[0].numel()), len(x))) for x in (samples, subject.heldout)]
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


def _of_few_steps(session: Session) -> str:
    """What is said of far samples that the audit itself drew in fewer steps than by default."""
    levels, usual = session.settings.levels, Settings().levels
    if session.given is not None or session.settings.sampler or levels >= usual:
        return ""
    steps = f" They were drawn in {2 * (levels - 1)} steps, as the audit has {levels} levels (by default {usual})"
    return f"{steps}: a part of this distance may come from the steps."


QUESTION = Question(
    "quality", "How good are its samples?", _ask, stages=lambda _: 1, needs=frozenset({"samples"}), of="both"
)
