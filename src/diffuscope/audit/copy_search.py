r"""Did it memorize? (b) Are samples nearer to training than to held-out data? (c) Which samples are copies?

(b) Equally many training and held-out examples are the references, and every sample has a nearest one. Under the null
hypothesis the labels "training" and "held-out" of the references are exchangeable. Samples that share a nearest
reference are not independent, so the test permutes the labels (`label_permutation`). The binomial p-value, which treats
samples as independent and is too small when they share neighbors, is reported beside it.

(c) Three statistics measure how closely a sample resembles one training example: the distance to the nearest, its ratio
to the distance to the second nearest, and its ratio to the distance to the nearest held-out example. The same
statistics of held-out examples (each compared with the *other* held-out examples) are draws from the null distribution.
The conformal p-value of a sample is the *largest* of its three: a copy must be closer in every sense, so that neither
smooth samples, which are near everything, nor duplicates within the training set are listed. By Benjamini-Hochberg
control the expected share of false entries in the list is at most the stated one.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from torch import Tensor

from diffuscope.exact import nearest_neighbors
from diffuscope.findings import (
    Chart,
    Finding,
    Panel,
    binomial_p_value,
    conformal_p_values,
    detectable_shift,
    exact_share_interval,
    false_discovery,
    label_permutation,
    line,
    points,
    smallest_detectable_copies,
)
from diffuscope.report import Block, Table

SHOWN_POINTS = 500
SHOWN_ROWS, OPEN_ROWS = 200, 12
Rows = Float[Tensor, "_ features"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Nearness:
    """(b): how many samples are nearer to training than to held-out references."""

    nearer: int
    decided: int  # samples without a tie
    references: int  # of each kind
    interval: tuple[float, float]
    p_value: float
    binomial_p_value: float
    detectable: float  # smallest share of copies found with probability 0.95

    @property
    def share(self) -> float:
        """The share of `nearer` in `decided`; 1/2, as expected by chance, where every sample is tied."""
        return self.nearer / self.decided if self.decided else 0.5


@dataclass(frozen=True, kw_only=True, eq=False)
class Copies:
    """(c): per sample the p-value, whether it is on the list, and its nearest training and held-out examples."""

    p_values: Float[ndarray, " samples"]
    listed: Bool[ndarray, " samples"]
    nearest_training: Int[ndarray, " samples"]
    nearest_heldout: Int[ndarray, " samples"]
    distance: Float[ndarray, " samples"]  # to the nearest training example
    heldout_distance: Float[ndarray, " samples"]  # to the nearest held-out example
    null_distance: Float[ndarray, " calibration"]  # the same two for held-out examples treated as samples
    null_heldout_distance: Float[ndarray, " calibration"]
    rate: float
    detectable: float

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
        return len(self.null_distance)


def nearness(samples: Rows, train: Rows, heldout: Rows, significance: float, seed: int) -> Nearness:
    """(b) for samples, with as many training as held-out references (a random subset of the larger set)."""
    rng = np.random.default_rng(seed)
    size = min(len(train), len(heldout))
    train = train[torch.from_numpy(np.sort(rng.permutation(len(train))[:size]))]
    heldout = heldout[torch.from_numpy(np.sort(rng.permutation(len(heldout))[:size]))]
    (d_train, of_train), (d_heldout, of_heldout) = _nearest(samples, train, 1), _nearest(samples, heldout, 1)
    d_train, d_heldout = d_train[:, 0], d_heldout[:, 0]
    near, far = d_train < d_heldout, d_heldout < d_train
    counts = [np.bincount(of[chosen, 0], minlength=size) for of, chosen in ((of_train, near), (of_heldout, far))]
    hits = np.concatenate(counts)
    is_training = np.arange(2 * size) < size
    decided, nearer = int(near.sum() + far.sum()), int(near.sum())
    if decided == 0:
        return Nearness(
            nearer=0,
            decided=0,
            references=size,
            interval=(0.0, 1.0),
            p_value=1.0,
            binomial_p_value=1.0,
            detectable=np.inf,
        )
    p_value, null_std = label_permutation(hits, is_training, rng)
    # references, not samples, are the independent units of the interval
    kept = np.flatnonzero(hits)
    draws = rng.multinomial(len(kept), np.full(len(kept), 1 / len(kept)), size=1000)
    shares = (draws @ (hits * is_training)[kept]) / (draws @ hits[kept])
    # a copy is nearer to training with certainty, any other sample with probability 1/2
    detectable = 2 * detectable_shift(null_std, significance)
    return Nearness(
        nearer=nearer,
        decided=decided,
        references=size,
        interval=(float(np.quantile(shares, 0.025)), float(np.quantile(shares, 0.975))),
        p_value=p_value,
        binomial_p_value=binomial_p_value(nearer, decided),
        detectable=float(min(1.0, detectable)),
    )


def copies(samples: Rows, train: Rows, heldout: Rows, calibration: int, rate: float, seed: int) -> Copies:
    """(c) for samples, calibrated on up to `calibration` held-out examples."""
    rng = np.random.default_rng(seed)
    chosen = torch.from_numpy(np.sort(rng.permutation(len(heldout))[:calibration]))
    null_train, _ = _nearest(heldout[chosen], train, 2)
    # the nearest held-out example is the example itself; the second is its nearest other
    null_heldout = _nearest(heldout[chosen], heldout, 2)[0][:, 1]
    to_train, of_train = _nearest(samples, train, 2)
    to_heldout, of_heldout = _nearest(samples, heldout, 1)
    observed = _closeness(to_train, to_heldout[:, 0])
    null = _closeness(null_train, null_heldout)
    p_values = np.max([conformal_p_values(o, n) for o, n in zip(observed, null, strict=True)], axis=0)
    return Copies(
        p_values=p_values,
        listed=false_discovery(p_values, rate),
        nearest_training=of_train[:, 0],
        nearest_heldout=of_heldout[:, 0],
        distance=observed[0],
        heldout_distance=to_heldout[:, 0],
        null_distance=null[0],
        null_heldout_distance=null_heldout,
        rate=rate,
        detectable=smallest_detectable_copies(len(samples), len(chosen), rate),
    )


def _nearest(queries: Rows, points: Rows, k: int) -> tuple[Float[ndarray, "n k"], Int[ndarray, "n k"]]:
    distances, indices = nearest_neighbors(queries, points, k)
    return distances.numpy(), indices.numpy()


def _closeness(
    to_train: Float[ndarray, "n two"], to_heldout: Float[ndarray, " n"]
) -> tuple[Float[ndarray, " n"], Float[ndarray, " n"], Float[ndarray, " n"]]:
    """Nearest distance; relative to the second nearest; relative to the nearest held-out example."""
    nearest = to_train[:, 0]
    return nearest, _relative(nearest, to_train[:, 1]), _relative(nearest, to_heldout)


def _relative(nearest: Float[ndarray, " n"], other: Float[ndarray, " n"]) -> Float[ndarray, " n"]:
    """nearest / other: infinite where only `other` is 0, and 0, as of a copy, where both are."""
    limit = np.where(nearest > 0, np.inf, 0.0)
    return np.divide(nearest, other, out=limit, where=other > 0, dtype=np.float64)


def findings(near: Nearness, found: Copies, space: str, significance: float) -> list[Finding]:
    """(b) and (c) in one space of distances."""
    beyond = near.p_value < significance
    listed, total = int(found.listed.sum()), len(found.listed)
    low, high = exact_share_interval(listed, total)
    suffix = "" if space == "pixels" else f".{space}"
    power = f"A share of {found.detectable:.2%} exact copies would have been found with probability 0.95."
    if np.isinf(found.detectable):
        power = f"None: {found.calibration} calibration examples cannot reveal any share of copies among {total}."
    nearness_power = f"A share of {near.detectable:.1%} copies would have been found with probability 0.95."
    if np.isinf(near.detectable):
        nearness_power = "None: every sample is as far from training as from held-out examples."
    return [
        Finding(
            name=f"memorized.nearness{suffix}",
            title=f"Samples nearer to training than to held-out data ({space})",
            value=100 * near.share,
            unit="%",
            verdict=f"{near.share:.1%} of the samples are nearer to training than to held-out examples; 50% are "
            "expected by chance."
            if near.decided
            else "Every sample is as far from training as from held-out examples.",
            tone="attention" if beyond else "good",
            interval=(100 * near.interval[0], 100 * near.interval[1]),
            null=f"50%: {near.references} references of each kind, their labels permuted (the binomial test, which "
            f"ignores shared neighbors, gives p = {near.binomial_p_value:.2g}).",
            p_value=near.p_value,
            power=nearness_power,
        ),
        Finding(
            name=f"memorized.copies{suffix}",
            title=f"Samples that copy a training example ({space})",
            value=100 * found.share,
            unit="%",
            verdict=f"{listed} of {total} samples are closer to one training example than held-out examples ever are."
            if listed
            else f"None of the {total} samples is closer to a training example than held-out examples are.",
            tone="alarm" if listed else "good",
            interval=(100 * low, 100 * high),
            null=f"{found.calibration} held-out examples treated as samples; the expected share of false discoveries "
            f"is at most {found.rate:.0%}. The p-value is the smallest of all samples, uncorrected.",
            p_value=float(found.p_values.min()),
            power=power,
        ),
    ]


def distances_chart(found: Copies, space: str) -> Chart:
    """Distances to the nearest training and held-out examples, for a random subset of each kind."""
    rng = np.random.default_rng(0)
    null = rng.permutation(found.calibration)[:SHOWN_POINTS]
    free, listed = (rng.permutation(np.flatnonzero(kind))[:SHOWN_POINTS] for kind in (~found.listed, found.listed))
    groups = (
        (found.null_heldout_distance[null], found.null_distance[null], "held-out examples"),
        (found.heldout_distance[free], found.distance[free], "samples"),
        (found.heldout_distance[listed], found.distance[listed], "samples listed as copies"),
    )
    right = 1.05 * max(float(x.max(initial=0)) for x, _, _ in groups)
    top = 1.05 * max(float(y.max(initial=0)) for _, y, _ in groups)
    marks = [points(x.tolist(), y.tolist(), label) for x, y, label in groups if len(x)]
    diagonal = line([0.0, min(right, top)], [0.0, min(right, top)], style="dotted")
    axes = f"distance to the nearest held-out example ({space})", "to the nearest training example"
    return Chart(
        f"Is any sample closer to the training data than held-out examples are? ({space})",
        (Panel("", *axes, (*marks, diagonal), x_range=(0.0, right), y_range=(0.0, top)),),
        "Held-out examples show what is normal for examples that are not copies. Samples among them are fine; samples "
        "far below the diagonal, near the bottom, copy a training example. At most "
        f"{SHOWN_POINTS} of each kind are drawn.",
    )


def copies_table(found: Copies, space: str) -> list[Block]:
    """The first of the listed samples; no table where none is listed."""
    listed = found.listed_first
    if not len(listed):
        return []
    columns = (found.nearest_training, found.distance, found.heldout_distance, found.p_values)
    shown = [[int(i), *(column[i].item() for column in columns)] for i in listed[:SHOWN_ROWS]]
    note = f"The first {SHOWN_ROWS} of {len(listed)}; all are in audit.json." if len(listed) > SHOWN_ROWS else ""
    header = ["sample", "training example", "distance", "to nearest held-out", "p-value"]
    title = f"Samples listed as copies ({space})"
    return [Table(title, header, shown, note, folded=len(listed) > OPEN_ROWS)]
