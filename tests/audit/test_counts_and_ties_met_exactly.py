"""Counts, shares and p-values of an audit that are exactly at their limits, with stand-ins for what is measured."""

# ruff: noqa: ARG005 (stand-ins take what the functions take)

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from made_by_hand import made
from results_at_levels import agreeing, gap, measures_of
from results_of_samples import balance
from scipy import stats
from test_agreement_by_hand import doubt

from diffuscope.audit import (
    class_audit,
    denoising_gap,
    heldout_units,
    judged_quality,
    label_shares,
    leaked,
    manners,
    references,
    shared_neighbors,
    unexplained_variance,
)
from diffuscope.audit.class_data import ClassData
from diffuscope.audit.class_result import ClassAuditResult
from diffuscope.audit.classifier import ClassifierFeatures
from diffuscope.audit.closeness import Neighborhood
from diffuscope.audit.copied_heldout import LEAST, _copied
from diffuscope.audit.copy_queries import Queries
from diffuscope.audit.feature_spaces import _named
from diffuscope.audit.heldout_units import ALIKE, HeldoutUnits
from diffuscope.audit.planting import _of_rows, smallest_share_found
from diffuscope.audit.subject import Settings, Subject
from diffuscope.audit.units import SAME_UNITS, SHIFT, Affine, usual_maps
from diffuscope.data import Table
from diffuscope.errors import InputError
from diffuscope.exact import Gaussian, GaussianMixture
from diffuscope.schedules import VE
from numbers_in_tests import double, rng, seeded

# examples


@pytest.mark.parametrize(("least", "asked"), [(3, [0, 1]), (4, [1])])
def test_a_class_with_exactly_the_fewest_examples_is_audited(least, asked, monkeypatch):
    labels, found = torch.tensor([0] * 3 + [1] * 5), []
    data = made(ClassData, asked=(0, 1), train_labels=labels, heldout_labels=labels, denoiser=None)
    monkeypatch.setattr(class_audit, "FEWEST", least)
    monkeypatch.setattr(class_audit, "_class_data", lambda *_: data)
    monkeypatch.setattr(class_audit, "_audited", lambda _, __, y, *more: found.append(y))
    monkeypatch.setattr(class_audit, "ClassAuditResult", lambda **parts: made(ClassAuditResult, **parts))
    monkeypatch.setattr(class_audit, "classes_of", lambda _: 2)
    result = class_audit.audit_classes(made(Subject), settings=Settings())
    assert found == asked
    few = {0: "3 training and 3 held-out examples; at least 4 of each are needed"}
    assert result.unanswered == ({} if 0 in asked else few)


@pytest.mark.parametrize(("part", "within"), [(1.0, False), (0.99, True)])
def test_cells_are_equally_frequent_unless_the_test_is_below_its_level(part, within, monkeypatch):
    monkeypatch.setattr(denoising_gap, "chi_squared_permutation", lambda *_: part * denoising_gap.DIFFERENT_MIX)
    first, second = denoising_gap.pairs_of_cells(np.array([0, 0, 1]), np.array([1, 1, 1]), rng())
    assert (len(first), len(second)) == ((1, 1) if within else (3, 3))


@pytest.mark.parametrize(("shift", "detectable"), [(1.0, 1.0), (math.nextafter(1.0, 2.0), math.inf)])
def test_a_memorizer_of_everything_is_the_least_that_may_be_found(shift, detectable, monkeypatch):
    """Errors 1 on held-out examples and 0 of the memorizer: the gain is 1."""
    monkeypatch.setattr(denoising_gap, "detectable_shift", lambda *_: shift)
    errors = np.ones((6, 2))
    assert denoising_gap.denoising_gap(measures_of(errors, errors), 0.01, rng()).detectable == detectable


@pytest.mark.parametrize(("x", "copied"), [(48, True), (47, False)])
def test_exactly_the_least_ratio_of_shares_makes_near_copies(x, copied):
    """Of 64 held-out examples 48 are near, of as many training examples 16: 3/4 is exactly three times 1/4."""
    assert LEAST == 3
    heldout, train = (np.where(np.arange(64) < near, 0.5, 1.0) for near in (x, 16))
    assert _copied(heldout, train, tail=0.25, level=1.0) == copied


@pytest.mark.parametrize(("distances", "expected"), [([[0.0, 0.0]], 0.0), ([[0.0, 2.0]], 0.0), ([[1.0, 2.0]], 0.5)])
def test_nothing_relative_to_nothing_is_that_of_a_copy(distances, expected):
    """Both training examples are at the query, and differ from each other."""
    parts = {"index": [[0, 1]], "distance": distances, "between": [[0.0, 1.0]], "times": [[1, 1]]}
    found = Neighborhood(**{name: np.array(part) for name, part in parts.items()})
    assert found.relative(0.5).tolist() == [expected]


@pytest.mark.parametrize(("part", "leaks"), [(1.0, False), (1 + 1e-9, True)])
def test_equal_examples_with_exactly_the_chance_of_coinciding_are_no_leak(part, leaks, monkeypatch):
    """Two of four, where 8/3 are expected: one pair at most among the four training, or held-out, examples."""
    monkeypatch.setattr(leaked, "_most_pairs", lambda sizes: 1.0)
    fresh = made(
        Queries,
        near=SimpleNamespace(distance=np.array([[0.0], [0.0], [1.0], [1.0]])),
        rows=torch.tensor([[0.0], [0.0], [1.0], [2.0]]),
        times=np.ones(4, dtype=int),
    )
    monkeypatch.setattr(leaked, "CHANCE", part * float(stats.poisson.sf(1, 8 / 3)))
    assert leaked._exact_repeats(fresh).tolist() == ([True, True, False, False] if leaks else [False] * 4)


# units of held-out examples and of samples


@pytest.mark.parametrize(
    ("means", "distances", "shifted", "spread"),
    [
        ([0.0, 0.0, 0.0], [SAME_UNITS, 0.99 * SAME_UNITS, 1.0], 0, 1),
        ([0.0, 0.0, 0.0], [1 / SAME_UNITS, 1.01 / SAME_UNITS, 1.0], 0, 1),
        ([SHIFT, 0.99 * SHIFT, 0.0], [1.0, 1.0, 1.0], 1, 0),
        ([-SHIFT, -0.99 * SHIFT, 0.0], [1.0, 1.0, 1.0], 1, 0),
    ],
)
def test_heldout_examples_exactly_at_the_thresholds_are_beyond_them(means, distances, shifted, spread, monkeypatch):
    """Of training examples with mean 0 and distance 1."""
    moments = iter([(torch.zeros(1).double(), torch.ones(1).double()), (double(*means), double(*distances))])
    monkeypatch.setattr(heldout_units, "each_moments", lambda *_: next(moments))
    monkeypatch.setattr(heldout_units, "sample_units", lambda *_: ALIKE)
    subject = made(Subject, train=torch.arange(6.0)[:, None], heldout=torch.arange(3.0)[:, None])
    monkeypatch.setattr(heldout_units, "independent", lambda *_: (None, np.arange(3)))
    found = heldout_units.heldout_units(subject, (0.0, 1.0), rng())
    assert (found.shifted, found.spread) == ((shifted, 3), (spread, 3))


@pytest.mark.parametrize(("low", "most"), [(0.5, False), (math.nextafter(0.5, 1), True)])
def test_half_of_the_heldout_examples_are_not_surely_most(low, most, monkeypatch):
    monkeypatch.setattr(heldout_units, "exact_share_interval", lambda *_, **__: (low, 1.0))
    assert heldout_units._most((9, 10)) == most


@pytest.mark.parametrize(("shift", "off"), [(SHIFT, True), (-SHIFT, True), (0.99 * SHIFT, False)])
def test_a_mean_that_is_off_by_exactly_the_threshold_is_off(shift, off):
    """A spread of twice the data's is far in any case."""
    found = HeldoutUnits(units=replace(ALIKE, shift=shift, deviation=2.0), shifted=(99, 100), spread=(0, 100))
    assert found.off_center == off


@pytest.mark.parametrize(("mean", "kept"), [(1.0, True), (0.99, False)])
def test_a_map_that_moves_the_data_by_a_fiftieth_of_their_range_is_one(mean, kept):
    names = [units.name for units in usual_maps((0.0, 50.0), mean, 1.0)]
    assert ("mean 0 and variance 1" in names) == kept


def test_a_map_without_offset_is_written_with_a_plus():
    assert Affine("", 2.0, 0.0).written() == "data = 2 × value + 0"
    assert Affine("", 2.0, -0.5).written() == "data = 2 × value − 0.5"


# classifiers and labels


@pytest.mark.parametrize(("low", "refused"), [(0.5, True), (math.nextafter(0.5, 1), False)])
def test_a_classifier_surely_as_good_as_the_commonest_label_is_no_better(low, refused, monkeypatch):
    monkeypatch.setattr(judged_quality, "exact_share_interval", lambda *_: (low, 1.0))
    found, labels = made(ClassifierFeatures, accuracy=0.75, heldout=4), torch.tensor([0, 0, 1, 2])
    if refused:
        with pytest.raises(InputError, match="no better than that of always predicting the most common label"):
            judged_quality._require_knowledge(found, labels)
    else:
        judged_quality._require_knowledge(found, labels)


@pytest.mark.parametrize(("significance", "sure"), [(0.25, False), (0.2501, True)])
def test_a_label_is_surely_missing_where_its_chance_is_below_the_level(significance, sure, monkeypatch):
    """Two labels: the chance 2^-4 is a quarter of the significance, halved twice."""
    monkeypatch.setattr(label_shares, "exact_share_interval", lambda *_: (0.5, 1.0))
    found = replace(balance([1.0, 0.0], [0.5, 0.5]), samples=4, known=9)
    assert found.surely_missing(significance) == sure


@pytest.mark.parametrize(("affordable", "name"), [(3, "the features of own"), (2, "the leading 2 whitened principal")])
def test_exactly_as_many_features_as_are_affordable_are_kept(affordable, name):
    train = torch.randn(20, 3, generator=seeded())
    assert _named("own", lambda _: lambda x: x, train, affordable).name.startswith(name)


# shares


def test_copies_alone_that_are_found_with_exactly_the_power_are_the_share_that_is_found():
    found = smallest_share_found(np.zeros(100), 50, 0.05, rng(), power=1.0)
    assert found == 1.0
    assert smallest_share_found(np.ones(100), 50, 0.05, rng()) == math.inf


@pytest.mark.parametrize(
    ("columns", "names"),
    [(1, []), (2, ["1 column"]), (7, ["1 column"]), (8, ["1 column", "2 columns"]), (12, ["1 column", "3 columns"])],
)
def test_a_copy_keeps_at_least_one_column_of_its_own(columns, names):
    table = made(Table, columns=[None] * columns)
    assert list(_of_rows(torch.zeros(2, columns), table, seeded())) == [f"{name} of another row" for name in names]


def test_a_tenth_unexplained_is_not_explained(monkeypatch):
    monkeypatch.setattr(unexplained_variance, "EXPLAINED", 0.75)
    ratios = np.array([4.0, 2.0, 1.0])
    at = unexplained_variance.explained_range(ratios, np.full(3, 0.25))
    assert all(math.isnan(end) for end in at)
    assert unexplained_variance.explained_range(ratios, np.full(3, 0.2499)) == (1.0, 4.0)


@pytest.mark.parametrize(("error", "told"), [(0.25, ""), (0.2501, "two memorizers would agree as well")])
def test_room_of_exactly_three_standard_errors_is_enough(error, told):
    """Four differences of +-2e, of standard error e: three of these are the room of 3/4 beside cosines of 1/4."""
    memorizers = np.full(4, 0.25)
    agreement = agreeing(memorizers=memorizers, cosines=np.diag(0.25 + 2 * error * np.array([1.0, -1.0, 1.0, -1.0])))
    assert doubt(agreement=agreement, gap=gap(p_value=0.3)).startswith(told)
    assert bool(doubt(agreement=agreement, gap=gap(p_value=0.3))) == bool(told)


# who does the work


@pytest.mark.parametrize(("few", "shared"), [(24, False), (23, True)])
def test_neighbors_are_shared_among_processes_beyond_a_number_of_products(few, shared, monkeypatch):
    monkeypatch.setattr(shared_neighbors, "FEW", few)
    monkeypatch.setattr(shared_neighbors, "sharers", lambda: 2)
    for name in ("sharded_neighbors", "sharded_other_neighbors"):
        monkeypatch.setattr(shared_neighbors, name, lambda x, *_: (torch.zeros(len(x), 1), torch.full((len(x), 1), -1)))
    queries, points, square = torch.zeros(4, 2), torch.arange(6.0).reshape(3, 2), torch.arange(6.0).reshape(2, 3)
    assert bool((shared_neighbors.nearest_neighbors(queries, points, 1)[1] == -1).all()) == shared
    monkeypatch.setattr(shared_neighbors, "FEW", few // 2)
    assert bool((shared_neighbors.nearest_other_neighbors(square, 1)[1] == -1).all()) == shared


def refused(*_):
    raise LookupError


@pytest.mark.parametrize(("largest", "whole"), [(3, True), (2, False)])
def test_a_mixture_is_fitted_to_all_coordinates_up_to_a_number_of_them(largest, whole, monkeypatch):
    monkeypatch.setattr(references, "LARGEST_DENSE", largest)
    monkeypatch.setattr(references, "principal_coordinates", refused)
    train = torch.randn(12, 3, generator=seeded())
    gaussian = Gaussian.isotropic(torch.zeros(3), 1.0)
    fitted = made(GaussianMixture)
    monkeypatch.setattr(GaussianMixture, "fit_kmeans", lambda *_, **__: fitted)
    if whole:
        assert references._mixture(train, 2, gaussian, seeded()) is fitted
    else:
        with pytest.raises(LookupError):
            references._mixture(train, 2, gaussian, seeded())


# how a model behaves


class Fickle:
    """Ones, and `off` less in the case that is `wrong`."""

    schedule = VE()

    def __init__(self, wrong, off):
        self.wrong, self.off, self.calls = wrong, off, 0

    def __call__(self, x_t, t):
        self.calls += 1
        case = "times" if t.ndim else "again" if len(x_t) == 4 and self.calls > 1 else "alone" if len(x_t) == 3 else ""
        return torch.ones_like(x_t) - self.off * (case == self.wrong)


@pytest.mark.parametrize("wrong", ["again", "alone", "times"])
@pytest.mark.parametrize(("off", "faults"), [(1 / 8, 0), (1 / 8 + 1e-6, 1)])
def test_answers_may_differ_by_exactly_the_tolerance(wrong, off, faults, monkeypatch):
    monkeypatch.setattr(manners, "TOLERANCE", 1 / 8)
    assert len(manners.manners(Fickle(wrong, off), torch.zeros(4, 2), torch.tensor([1.0, 2.0]))) == faults
