r"""Did it memorize? (a) Denoising errors on training against held-out examples, noised alike.

Pair i is one training and one held-out example under the same noise. If the model had seen neither, swapping the two
would change nothing, so that the sign of every difference :math:`d_i = e_i^{held} - e_i^{train}` is a fair coin. The
gap is reported as a share of the held-out loss, with a permutation p-value per noise level and one over all levels.

A difference between the two *sets* looks the same as memorization. If their mix of classes (or clusters) differs, pairs
are formed within the classes (`pairs_of_cells`). For other differences there is a control, the Gaussian fitted to the
training data, restricted to its leading components, which has far too few parameters to memorize examples: a gap that
the control shows too is a property of the data.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from diffuscope.findings import (
    Chart,
    Finding,
    Rule,
    bootstrap_sums,
    chi_squared_permutation,
    detectable_shift,
    line,
    paired_permutation,
    percentile_interval,
)
from diffuscope.report import Block, Table

from .level_charts import noise_panel
from .level_measures import LevelMeasures
from .nearness import balanced

DIFFERENT_MIX = 0.01  # level of the test for it


@dataclass(frozen=True, kw_only=True, eq=False)
class Gap:
    """Per noise level: the gap as a share of the held-out loss, interval, p-value; and the overall test.

    `detectable` is the smallest share of training examples that, if memorized perfectly, the test would have found
    with probability 0.95 at its most sensitive level.
    """

    ratios: Float[ndarray, " levels"]
    scale: float
    share: Float[ndarray, " levels"]
    low: Float[ndarray, " levels"]
    high: Float[ndarray, " levels"]
    p_values: Float[ndarray, " levels"]
    control: Float[ndarray, " levels"]
    mean_share: float
    mean_interval: tuple[float, float]
    p_value: float
    detectable: float
    pairs: int


Pairs = tuple[Int[ndarray, " pairs"], Int[ndarray, " pairs"]]


def pairs_of_cells(of_train: Int[ndarray, " n"], of_heldout: Int[ndarray, " n"], rng: np.random.Generator) -> Pairs:
    """Pair i with i, the same noise, unless the cells are differently frequent in the two sets: then within cells."""
    counts = np.stack(
        [np.bincount(of, minlength=1 + max(of_train.max(), of_heldout.max())) for of in (of_train, of_heldout)]
    )
    if chi_squared_permutation(counts, 1.0, rng) < DIFFERENT_MIX:
        return balanced(of_train, of_heldout, rng)
    return np.arange(len(of_train)), np.arange(len(of_heldout))


def _share(train: ndarray, heldout: ndarray) -> ndarray:
    """(heldout - train) / heldout; equal errors are no gap, also where a model that knows both makes none."""
    return np.divide(heldout - train, heldout, out=np.zeros_like(heldout), where=heldout != train)


def denoising_gap(
    measures: LevelMeasures, significance: float, rng: np.random.Generator, pairs: Pairs | None = None
) -> Gap:
    """Reduce the errors of all levels; the last column of `exact_error` is the memorizer's."""
    first, second = pairs or (slice(None), slice(None))
    train, heldout = measures.rows("training.error")[first], measures.rows("heldout.error")[second]
    memorized = measures.rows("training.exact_error")[first][:, :, -1].mean(0)
    control_of_train, control_of_heldout = (measures.rows(f"{name}.control_error") for name in ("training", "heldout"))
    control = _share(control_of_train[first].mean(0), control_of_heldout[second].mean(0))
    p_values, p_value = paired_permutation(heldout - train, rng)
    levels = train.shape[1]
    resampled = bootstrap_sums(np.concatenate([train, heldout], 1), rng)
    shares = _share(resampled[:, :levels], resampled[:, levels:])
    low, high = percentile_interval(shares)
    mean_low, mean_high = percentile_interval(shares.mean(1))
    share = _share(train.mean(0), heldout.mean(0))
    # memorizing an example lowers its error to the memorizer's; the overall test is at least as powerful as a
    # Bonferroni test at its best level
    errors = (heldout - train).std(0) / math.sqrt(len(train))
    gain = np.maximum(heldout.mean(0) - memorized, 1e-300)
    detectable = min(detectable_shift(d, significance / levels) / g for d, g in zip(errors, gain, strict=True))
    return Gap(
        ratios=measures.ratios,
        scale=measures.scale,
        share=share,
        low=low,
        high=high,
        p_values=p_values,
        control=control,
        mean_share=float(share.mean()),
        mean_interval=(float(mean_low), float(mean_high)),
        p_value=p_value,
        detectable=float(detectable) if detectable <= 1 else float("inf"),
        pairs=len(train),
    )


def gap_finding(result: Gap, significance: float) -> Finding:
    """The overall test."""
    level = int(np.argmin(result.p_values - 1e-9 * result.share))
    significant = result.p_value < significance
    if significant:
        verdict = (
            f"The model denoises its training examples better than held-out ones: by {result.mean_share:.1%} on "
            f"average over noise levels and by {result.share[level]:.1%} at σ/α = {result.ratios[level]:.3g}, where a "
            f"control model too small to memorize has a gap of {result.control[level]:.1%}."
        )
    else:
        verdict = (
            "Training and held-out examples are denoised equally well: on average over noise levels the gap is "
            f"{result.mean_share:+.1%} of the loss."
        )
    power = f"Memorization of {result.detectable:.1%} of the training data would have been found with probability 0.95."
    if np.isinf(result.detectable):
        power = "None: not even the memorization of all training data would have been found with probability 0.95."
    return Finding(
        name="memorized.gap",
        title="Denoising error: training versus held-out data",
        value=100 * result.mean_share,
        unit="%",
        verdict=verdict,
        tone="attention" if significant else "unknown" if np.isinf(result.detectable) else "good",
        interval=(100 * result.mean_interval[0], 100 * result.mean_interval[1]),
        null=f"0%: the model has seen neither set. {result.pairs} pairs, signs permuted at all noise levels at once.",
        p_value=result.p_value,
        power=power,
    )


def gap_blocks(result: Gap) -> list[Block]:
    """The gap and its control by noise level, as a figure and as a table."""
    x = result.ratios.tolist()
    share, low, high, control = (100 * part for part in (result.share, result.low, result.high, result.control))
    marks = (
        line(x, share.tolist(), "this model", low=low.tolist(), high=high.tolist()),
        line(x, control.tolist(), "control: a Gaussian too small to memorize", style="dashed"),
        Rule(0.0),
    )
    chart = Chart(
        "How much better training examples are denoised than held-out ones",
        (noise_panel("", "gap, % of the loss", result.scale, *marks),),
        "At zero the network treats the two alike. A hump above the dashed control, usually at intermediate noise, is "
        "memorization of single examples; the control shows how much of the gap is a difference between the two sets.",
    )
    columns = (result.ratios, share, low, high, control, result.p_values)
    table = Table(
        "The gap by noise level",
        ["σ/α", "gap, %", "low", "high", "control, %", "p-value"],
        list(zip(*(column.tolist() for column in columns), strict=True)),
        f"{result.pairs} pairs. Each p-value is for one noise level; the finding's is for all of them at once.",
        folded=True,
    )
    return [chart, table]
