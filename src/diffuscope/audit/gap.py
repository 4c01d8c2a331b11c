r"""Did it memorize? (a) Denoising errors on training against held-out examples, noised alike.

Pair i is one training and one held-out example under the same noise; if the model had seen neither, swapping the two
would change nothing, so the sign of every difference :math:`d_i = e_i^{held} - e_i^{train}` is a fair coin. The gap is
reported as a share of the held-out loss, with a permutation p-value per noise level and one over all levels.

A difference between the two *sets* looks the same as memorization. The control is the Gaussian fitted to training data
restricted to its leading components, which has far too few parameters to remember examples: a gap that it sees too is
a property of the data.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from diffuscope.findings import Finding, bootstrap_sums, detectable_shift, paired_permutation, percentile_interval

from .store import Arrays


@dataclass(frozen=True, eq=False)
class Gap:
    """Per noise level: the gap as a share of the held-out loss, interval, p-value; and the overall test.

    `detectable` is the smallest share of training examples which, if remembered perfectly, the test would have found
    with probability .95 at its most sensitive level.
    """

    ratios: Float[ndarray, " levels"]
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


def gap(
    measures: list[Arrays], ratios: Float[ndarray, " levels"], significance: float, rng: np.random.Generator
) -> Gap:
    """Reduce the errors of `measure_level`; the last column of exact_error is the memorizer's."""
    train = np.stack([sums["training.error"] for sums in measures], 1)
    heldout = np.stack([sums["heldout.error"] for sums in measures], 1)
    remembered = np.stack([sums["training.exact_error"][:, -1] for sums in measures], 1).mean(0)
    control = np.stack(
        [sums["heldout.control_error"].mean() / sums["training.control_error"].mean() for sums in measures]
    )
    p_values, p_value = paired_permutation(heldout - train, rng)
    levels = train.shape[1]
    resampled = bootstrap_sums(np.concatenate([train, heldout], 1), rng)
    shares = 1 - resampled[:, :levels] / resampled[:, levels:]
    low, high = percentile_interval(shares)
    mean_low, mean_high = percentile_interval(shares.mean(1))
    share = 1 - train.mean(0) / heldout.mean(0)
    # a remembered example loses (held-out error - memorizer's error); the overall test is at least as sharp as a
    # Bonferroni test at its best level
    deviation = (heldout - train).std(0) / len(train) ** 0.5
    gain = np.maximum(heldout.mean(0) - remembered, 1e-300)
    detectable = min(detectable_shift(d, significance / levels) / g for d, g in zip(deviation, gain, strict=True))
    return Gap(
        ratios,
        share,
        low,
        high,
        p_values,
        1 - 1 / control,
        float(share.mean()),
        (float(mean_low), float(mean_high)),
        p_value,
        float(min(1.0, detectable)),
        len(train),
    )


def findings(result: Gap, significance: float) -> list[Finding]:
    """The overall test."""
    level = int(np.argmin(result.p_values - 1e-9 * result.share))
    beyond = result.p_value < significance
    if beyond:
        verdict = (
            f"The model denoises its training examples better than unseen ones: by {result.share[level]:.1%} at noise "
            f"{result.ratios[level]:.3g}, {result.mean_share:.1%} on average over noise levels; a model too small to "
            f"remember anything sees {result.control[level]:.1%} there."
        )
    else:
        verdict = (
            f"Training and unseen examples are denoised equally well: the gap is {result.mean_share:+.1%} of the loss "
            "on average over noise levels."
        )
    return [
        Finding(
            name="memorized.gap",
            title="Denoising error on training against unseen data",
            value=100 * result.mean_share,
            unit="%",
            verdict=verdict,
            tone="attention" if beyond else "good",
            interval=(100 * result.mean_interval[0], 100 * result.mean_interval[1]),
            null=f"0 if the model had seen neither set; {result.pairs} pairs, signs permuted over all levels at once.",
            p_value=result.p_value,
            power=f"Would have been found with probability .95: {result.detectable:.1%} of training data remembered.",
        )
    ]
