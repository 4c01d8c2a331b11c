r"""Did it memorize? (b) Are samples nearer to training than to held-out data? (c) Which samples are copies?

(b) Equally many training and held-out examples are the references. Each sample names its nearest reference; under the
null the names "training" and "held-out" are exchangeable. Samples that share a reference are not independent, so the
test permutes the names of the references (`label_permutation`); the binomial p-value, which treats samples as coin
flips and is too sure of itself when they share neighbors, is reported beside it.

(c) For every sample three distances say how much it resembles one training example: to the nearest, that relative to
the second nearest, and that relative to the nearest held-out example. Each held-out example, treated as if it had been
generated (itself left out), gives one draw of what an innocent sample does. The conformal p-value of a sample is the
*largest* of its three: a copy must be closer in every sense, so neither smooth samples, which are near to everything,
nor twins within the training set are accused. The list after Benjamini-Hochberg control holds, in expectation, at most
the stated share of false entries.
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


@dataclass(frozen=True, eq=False)
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
        return self.nearer / max(1, self.decided)


@dataclass(frozen=True, eq=False)
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
    hits = np.concatenate(
        [
            np.bincount(of_train[near, 0], minlength=size),
            np.bincount(of_heldout[far, 0], minlength=size),
        ]
    )
    is_training = np.arange(2 * size) < size
    decided, nearer = int(near.sum() + far.sum()), int(near.sum())
    if decided == 0:
        return Nearness(0, 0, size, (0.0, 1.0), 1.0, 1.0, float("inf"))
    p_value, deviation = label_permutation(hits, is_training, rng)
    # references, not samples, are the independent units of the interval
    kept = np.flatnonzero(hits)
    draws = rng.multinomial(len(kept), np.full(len(kept), 1 / len(kept)), size=1000)
    shares = (draws @ (hits * is_training)[kept]) / (draws @ hits[kept])
    interval = (float(np.quantile(shares, 0.025)), float(np.quantile(shares, 0.975)))
    # a copy is nearer to training surely, any other sample with probability 1/2
    detectable = 2 * detectable_shift(deviation, significance)
    return Nearness(
        nearer, decided, size, interval, p_value, binomial_p_value(nearer, decided), float(min(1.0, detectable))
    )


def copies(samples: Rows, train: Rows, heldout: Rows, calibration: int, rate: float, seed: int) -> Copies:
    """(c) for samples, calibrated by up to `calibration` held-out examples."""
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
        p_values,
        false_discovery(p_values, rate),
        of_train[:, 0],
        of_heldout[:, 0],
        observed[0],
        to_heldout[:, 0],
        null[0],
        null_heldout,
        rate,
        smallest_detectable_copies(len(samples), len(chosen), rate),
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
    power = f"{found.detectable:.2%} exact copies among the samples would have been found with probability 0.95."
    if np.isinf(found.detectable):
        power = f"None: {found.calibration} calibration examples cannot reveal any share of copies among {total}."
    return [
        Finding(
            name=f"memorized.nearness{suffix}",
            title=f"Samples nearer to training than to held-out data ({space})",
            value=100 * near.share,
            unit="%",
            verdict=f"{near.share:.1%} of the samples are nearer to training than to held-out examples; 50% are "
            "expected by chance.",
            tone="attention" if beyond else "good",
            interval=(100 * near.interval[0], 100 * near.interval[1]),
            null=f"50%: {near.references} references of each kind, their labels permuted (binomial "
            f"p = {near.binomial_p_value:.2g}, which ignores shared neighbors).",
            p_value=near.p_value,
            power=f"{near.detectable:.1%} copies among the samples would have been found with probability 0.95.",
        ),
        Finding(
            name=f"memorized.copies{suffix}",
            title=f"Samples that copy a training example ({space})",
            value=100 * found.share,
            unit="%",
            verdict=f"{listed} of {total} samples are closer to one training example than held-out data ever are."
            if listed
            else f"None of {total} samples is closer to a training example than held-out data are.",
            tone="alarm" if listed else "good",
            interval=(100 * low, 100 * high),
            null=f"{found.calibration} held-out examples treated as samples; expected share of false discoveries at "
            f"most {found.rate:.0%}.",
            p_value=float(found.p_values.min()),
            power=power,
        ),
    ]


def distances_chart(found: Copies, space: str) -> Chart:
    """Distances to the nearest training and the nearest held-out example, of a random part of each kind."""
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
        f"Is any sample closer to training data than held-out data are? ({space})",
        (Panel("", *axes, (*marks, diagonal), x_range=(0.0, right), y_range=(0.0, top)),),
        "Held-out examples show what is normal for data that are no copies. Samples among them are fine; samples far "
        f"below the diagonal, near the bottom, copy a training example. At most {SHOWN_POINTS} of each kind are drawn.",
    )


def copies_table(found: Copies, space: str) -> list[Block]:
    """The first of the listed samples; none where none is listed."""
    listed = found.listed_first
    if not len(listed):
        return []
    columns = (found.nearest_training, found.distance, found.heldout_distance, found.p_values)
    shown = [[int(i), *(column[i].item() for column in columns)] for i in listed[:SHOWN_ROWS]]
    note = f"The first {SHOWN_ROWS} of {len(listed)}; all are in audit.json." if len(listed) > SHOWN_ROWS else ""
    header = ["sample", "training example", "distance", "to nearest held-out", "p-value"]
    title = f"Samples listed as copies ({space})"
    return [Table(title, header, shown, note, folded=len(listed) > OPEN_ROWS)]
