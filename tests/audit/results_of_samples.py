"""What audits find about samples, rows and classes, made by hand: what a test does not name is as here."""

import math
from dataclasses import replace

import numpy as np
import torch

from diffuscope.audit.class_fit import ClassFit
from diffuscope.audit.column_pairs import ColumnPairs
from diffuscope.audit.column_permutations import Permuted
from diffuscope.audit.column_shares import ColumnShares
from diffuscope.audit.copy_search import Copies
from diffuscope.audit.coverage import Coverage
from diffuscope.audit.exchanged_names import NamedRows
from diffuscope.audit.frechet_ratio import Fidelity
from diffuscope.audit.judged_quality import Judged, Quality
from diffuscope.audit.label_shares import LabelBalance
from diffuscope.audit.questions import quality
from diffuscope.audit.repeats import Repeats
from diffuscope.audit.units import SampleUnits
from diffuscope.findings import FrechetDistance


def permuted_by_hand(corrected, center=(0.1, 0.1, 0.1), spread=(0.01, 0.02, 0.01)):
    return Permuted(
        p_value=np.array(corrected) / 2, corrected=np.array(corrected), center=np.array(center),
        spread=np.array(spread), chance=np.array([0.12, 0.14, 0.13]), maxima=np.linspace(4, 1, 999),
    )  # fmt: skip


def columns(corrected=(0.3, 0.002, 0.004), **changes):
    made = ColumnShares(
        names=("age", "city", "a very long name"), kinds=("number", "categorical", "number"),
        distance=np.array([0.11, 0.3, 0.18]), tests=permuted_by_hand(corrected),
        missing=np.array([[0.0, 0.2, 0.0], [0.0, 0.1, 0.0]]),
        samples=400, others=300.0, known=1000.4,
    )  # fmt: skip
    return replace(made, **changes)


def pairs(corrected=(0.3, 0.002, 0.004), **changes):
    made = ColumnPairs(
        names=(("a", "b"), ("a", "c"), ("b", "c")),
        measures=("rank correlation", "Cramer's V", "correlation ratio"),
        of_samples=np.array([0.5, 0.31, 0.2]), of_heldout=np.array([0.45, 0.72, 0.1]),
        distance=np.array([0.11, 0.3, 0.18]), tests=permuted_by_hand(corrected),
        samples=400, others=300.0, known=1000.4,
    )  # fmt: skip
    return replace(made, **changes)


def fit(ratio=1.0, *, spread=0.0, n=64, other=4, classes=10, best=0.5, differs=0.3):
    sign = np.where(np.arange(n) % 2, 1.0, -1.0) * spread
    return ClassFit(
        label=3, other=other, classes=classes, own=np.tile(best * ratio + sign, (2, 1)), best=np.full((2, n), best),
        formula=np.array([0.6, 0.6]), differs=differs, tried=9,
    )  # fmt: skip


def copies(**changes):
    listed = np.zeros(6, dtype=bool)
    listed[[1, 4]] = True
    made = Copies(
        p_values=np.array([0.5, 0.02, 0.3, 0.9, 0.01, 0.7]),
        listed=listed,
        nearest_training=np.array([10, 3, 12, 13, 7, 15]),
        nearest_heldout=np.arange(6),
        distance=np.array([5.0, 0.3, 4.0, 6.0, 0.1, 7.0]),
        next_distance=np.array([5.5, 3.3, 4.4, 6.6, 2.1, 7.7]),
        transformation=["", "mirrored", "", "", "", ""],
        null_distance=np.array([4.5, 5.0, 6.0]),
        null_next_distance=np.array([4.7, 5.2, 9.0]),
        heldout=np.array([0, 2, 3]),
        leaked={1: 8},
        repeats=Repeats(first=np.arange(16)),
        radius=0.01,
        rate=0.05,
        detectable={"exact": 0.004, "noisy": 0.031, "blurred": math.inf},
    )
    return replace(made, **changes)


def covered(**changes):
    made = Coverage(
        samples=0.731, training=0.802, deviation=0.015, p_value=0.004, size=900, heldout=1200, neighbors=4,
        detectable=0.1,
    )  # fmt: skip
    return replace(made, **changes)


def balance(samples, heldout, **changes):
    made = LabelBalance(
        classes=torch.arange(len(samples)) + 3,
        of_samples=torch.tensor(samples, dtype=torch.float64),
        of_heldout=torch.tensor(heldout, dtype=torch.float64),
        samples=900, others=400, known=2500, p_value=0.004,
    )  # fmt: skip
    return replace(made, **changes)


def units_by_hand(**changes):
    made = SampleUnits(name="", written="", nearer=0.0, before=1.2, after=1.2, deviation=1.1, shift=0.1,
                       heldout=(2, 200), chance=0.0)  # fmt: skip
    return replace(made, **changes)


def in_order(n, m):
    """The first n rows are training rows, the other m held-out rows."""
    return NamedRows(index=np.arange(n + m), unit=np.arange(n + m), is_first=np.arange(n + m) < n)


def equal(count, heldout, n=6):
    """Of n samples `count` equal a training example, and none is listed; nor do `heldout` held-out ones equal any."""
    return {
        "listed": np.zeros(n, dtype=bool), "distance": np.where(np.arange(n) < count, 0.0, 4.0),
        "next_distance": np.full(n, 5.0), "null_distance": np.ones(heldout), "null_next_distance": np.ones(heldout),
        "heldout": np.arange(heldout), "leaked": {},
    }  # fmt: skip


def distance(ratio, error=0.1, real=2.0, recited=1.3):
    """Between two held-out sets 2.0, known exactly, so that the ratio's error is that of the distance over 2.0."""
    return Fidelity(
        size=250, samples=FrechetDistance(ratio * real, error * real),
        recited=FrechetDistance(recited * real, 0.05 * real),
        real=real, real_error=0.0, real_deviation=0.3,
    )  # fmt: skip


def judged(samples, space="labels", **faults):
    return Judged(space, samples, faults or {"a blur": distance(5.0), "one class": distance(3.0)})


def quality_of(*spaces, copying=False, reasons=()):
    result = Quality(judged=spaces, classifier=None, balance=None, reasons=reasons)
    return quality.quality_finding(result, copying=copying)
