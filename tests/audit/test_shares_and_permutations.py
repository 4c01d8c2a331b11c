"""Exact tests of small counts by hand, permutations in chunks, and charts that show all of the numbers they are of."""

from math import comb, inf

import numpy as np
import pytest

from chart_reading import marks_of
from diffuscope.audit.class_samples import smallest_share
from diffuscope.audit.column_permutations import permuted_names
from diffuscope.audit.standing_charts import target_chart
from diffuscope.audit.target_noise import TargetNoise
from diffuscope.findings import Bars, Line
from immutable import long_positional, partly_printed


@pytest.mark.parametrize(("heldout", "samples", "level"), [(100, 100, 0.05), (100, 100, 0.001), (50, 200, 0.01)])
def test_the_smallest_share_of_strays_is_where_fishers_test_crosses_the_level(heldout, samples, level):
    """Without an error among the held-out examples, k strays have p = C(n, k) / C(n + m, k)."""
    share = smallest_share(0, heldout, samples, level)
    strays = round(share * samples)
    chance = [comb(samples, k) / comb(samples + heldout, k) for k in range(samples + 1)]
    assert 0 < share <= 1
    assert chance[strays] < level <= chance[strays - samples // 100]  # one percent less would not do
    assert share == pytest.approx(strays / samples)


def test_where_no_share_is_significant_it_is_infinite():
    """All 100 samples strays, one held-out example sound: p = 1/101."""
    assert smallest_share(0, 1, 100, 0.0099) == inf
    assert smallest_share(0, 1, 100, 0.00991) == 1.0


@pytest.mark.parametrize(("permutations", "sizes"), [(7, [3, 3, 1]), (6, [3, 3]), (2, [2])])
def test_as_many_permutations_are_drawn_as_asked_in_chunks_that_fit(permutations, sizes):
    chunks = list(permuted_names(4, 2, permutations, np.random.default_rng(0), 3))
    assert [len(chunk) for chunk in chunks] == sizes
    assert all((chunk.sum(1) == 4).all() and chunk.shape[1] == 6 for chunk in chunks)


def test_the_chart_of_the_target_shows_every_distance_and_the_mean_share_of_the_variance():
    variance = np.array([[3.0, 1.0], [1.0, 1.0]])
    target = TargetNoise(
        ratios=np.array([2.0, 1.0]), scale=2.0, dimension=3, variance=variance, examples=np.array([0.5, 1.0, 4.0]),
        heldout=np.array([1.0, 7.0]), samples=np.array([0.0, 3.0, 5.0, 5.0]),
    )  # fmt: skip
    along, distances = target_chart(target, np.random.default_rng(0)).panels
    (curve,) = marks_of(along, Line)
    assert curve.y == pytest.approx([2 / 12, 1 / 12])  # over d s^2
    for name, x in (
        ("samples", target.samples),
        ("training examples", target.examples),
        ("held-out examples", target.heldout),
    ):
        (bars,) = [mark for mark in marks_of(distances, Bars) if mark.label == name]
        edges, heights = np.array(bars.edges), np.array(bars.heights)
        assert (heights * np.diff(edges)).sum() == pytest.approx(1)  # no distance is beyond the edges
        assert edges[-1] == pytest.approx(7.0)  # the largest over the median of the examples, 1
        middle = (heights * np.diff(edges) * (edges[1:] + edges[:-1]) / 2).sum()
        assert abs(middle - x.mean()) <= edges[1] / 2 + 1e-9  # half a bar: in units of that median


def test_long_records_of_audit_are_made_by_names():
    known = {
        "CalledNetwork",
        "ClassData",
        "ClassifierFeatures",
        "Pair",
        "Queries",
        "Question",
        "References",
        "Settings",
        "Subject",
    }
    assert long_positional("audit") == known


def test_of_other_records_of_audit_all_arrays_are_printed_or_none():
    mixed = {"ClassifierFeatures", "ColumnShares", "Permuted", "Subject"}
    assert partly_printed("audit") == mixed
