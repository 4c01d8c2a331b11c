"""Did it memorize? The verdict of three tests: denoising errors, nearness to training data, and the search for copies.

The tests are in `denoising_gap`, `nearness` and `copy_search`. The verdict is 'copies training examples' if any sample
is listed as a copy, or if samples equal training examples more often than held-out examples do, or repeat them nearly
more often in data that repeat themselves (`exact_matches`). It is 'biased toward its training data' if one of the other
two tests is significant. Otherwise it is 'no sign' only where planted copies would have been found and held-out
examples are no near-copies of training examples (`copied_heldout`) nor, for the loss of a model, a third of them
training examples, and 'cannot tell' where not. The false-discovery rate and the significance level of nearness are
divided among the feature spaces.
"""

from dataclasses import dataclass

from diffuscope.findings import Finding, exact_share_interval
from diffuscope.findings.statistics import bonferroni

from .copy_search import Copies, why_unknown
from .denoising_gap import Gap
from .exact_matches import exact_matches, near_matches
from .nearness import Nearness

REPEATED = 0.1  # of the training examples; honest data nearly repeat one in a hundred (`Repeats`)


@dataclass(frozen=True, eq=False)
class Memorization:
    """The three tests of one audit: denoising errors, and per feature space nearness and copies."""

    gap: Gap | None  # None for samples without a model
    nearness: dict[str, Nearness]
    copies: dict[str, Copies]


def verdict(result: Memorization, significance: float) -> Finding:
    """The three tests in one sentence, with the number that decides and the power to find copies."""
    worst = max(result.copies.values(), key=lambda f: (f.share, f.heldout_copied, -f.detectable["exact"]))
    spaces = len(result.copies)
    level = significance / spaces
    nearer = [near for near in result.nearness.values() if near.p_value < level]
    listed = exact_share_interval(int(worst.listed.sum()), len(worst.listed))
    exact = min((exact_matches(found) for found in result.copies.values()), key=lambda found: found.p_value)
    near_repeats = min((near_matches(found) for found in result.copies.values()), key=lambda found: found.p_value)
    of_copies = worst.share, listed, bonferroni(worst.p_value, spaces)
    exact_p, near_p = (bonferroni(matches.p_value, spaces) for matches in (exact, near_repeats))
    known = [found for found in result.copies.values() if found.heldout_known and result.gap is not None]
    biases, of_bias = [], of_copies
    gap = result.gap
    if gap is not None and gap.p_value < significance:
        biases.append(f"its loss is {gap.mean_share:.1%} lower on training than on held-out data")
        of_bias = gap.mean_share, gap.mean_interval, gap.p_value
    if nearer:
        most = max(nearer, key=lambda near: near.share)
        biases.insert(0, f"{most.share:.1%} of its samples are nearer to training than to held-out data")
        of_bias = most.share, most.interval, bonferroni(most.p_value, spaces)
    # the number that decides
    value, (low, high), p_value = of_copies if worst.listed.any() else of_bias
    tone = "good"
    text = "No sign of memorization: no sample is a copy, and training data are treated like held-out data."
    if gap is None:
        text = "No sign of memorization in these samples: none is a copy, nor are they nearer to the training data."
    if worst.listed.any():
        tone = "alarm"
        text = (
            f"Copies training examples: {worst.share:.1%} of its samples are copies (at most {worst.rate:.0%} of these "
            "are expected to be false discoveries)."
        )
    elif exact.p_value < level:
        (a, n), (b, m) = exact.samples, exact.heldout
        tone, value, (low, high), p_value = "alarm", a / n, exact_share_interval(a, n), exact_p
        text = f"Copies training examples: {a} of {n} samples equal one, and {b} of {m} held-out examples do."
    elif near_repeats.p_value < level:
        (a, n), (b, m) = near_repeats.samples, near_repeats.heldout
        tone, value, (low, high), p_value = "alarm", a / n, exact_share_interval(a, n), near_p
        text = (
            f"Copies training examples: {a} of {n} samples nearly repeat one, and {b} of {m} held-out examples do. "
            "Which of these samples are copies is open."
        )
    elif exact.alone:
        (a, n), (_, m) = exact.samples, exact.heldout
        tone, value, (low, high), p_value = "attention", a / n, exact_share_interval(a, n), exact_p
        equal = f"{a} of {n} samples {'equals' if a == 1 else 'equal'} a training example exactly"
        text = f"{equal}, and none of {m} held-out examples does: too few to exclude chance."
        text += f" Besides, {' and '.join(biases)}." if biases else ""
    elif biases:
        tone = "attention"
        copied = (
            "no sample is a copy" if worst.can_tell else f"whether samples are copies is open: {why_unknown(worst)}"
        )
        text = f"Biased toward its training data: {' and '.join(biases)}; {copied}."
    elif known or not worst.can_tell:
        tone = "unknown"
        text = f"Cannot tell whether it memorized: {why_unknown(known[0] if worst.can_tell else worst)}."
    text += repeated(result.copies)
    return Finding(
        name="memorized.verdict",
        title="Did it memorize?",
        value=100 * value,
        unit="%",
        verdict=text,
        tone=tone,
        interval=(100 * low, 100 * high),
        null="Samples resemble training examples no more than held-out examples do; the tests are below.",
        p_value=p_value,
        power=worst.power,
    )


def repeated(copies: dict[str, Copies]) -> str:
    """How many training examples repeat an earlier one, as a sentence; nothing below a tenth of them."""
    most = max((found.repeats for found in copies.values()), key=lambda repeats: repeats.count)
    if most.count < REPEATED * len(most.first):
        return ""
    return f" {most.count:,} of {len(most.first):,} training examples repeat an earlier one, exactly or nearly."
