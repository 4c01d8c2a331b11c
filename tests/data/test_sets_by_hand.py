"""Data sets, their memory, labels, groups and canaries, by hand."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from diffuscope.data import (
    ClassStatistics,
    DataSet,
    DataStatistics,
    assembly,
    data_from_arrays,
    data_statistics,
    load_data,
    make_canaries,
    open_stream,
    statistics_of,
    training_arrays,
)
from diffuscope.data.as_tensors import ABOVE, all_stay_bytes, in_bytes, stay_bytes
from diffuscope.data.assembly import _labels, _require_memory, _same_division
from diffuscope.data.examples import Examples
from diffuscope.data.split import group_split, random_split
from diffuscope.data.value_range import checked_range
from diffuscope.errors import InputError
from diffuscope.exact import Gaussian


def examples(values, labels=None, names=(), kind="vectors"):
    given = None if labels is None else np.array(labels, dtype=np.int64)
    return Examples("data", "x", np.asarray(values), given, kind=kind, label_names=names)


@pytest.mark.parametrize("ends", [(-math.inf, 1), (0, math.inf), (math.nan, 1), (0, math.nan), (1, 0), (1, 1)])
def test_a_range_has_two_finite_ends_the_lower_first(ends):
    assert checked_range((-1, 2.5), "x") == (-1.0, 2.5)
    with pytest.raises(InputError, match=r"x: got .*, expected two finite numbers, the lower first"):
        checked_range(ends, "x")


# memory


@pytest.fixture
def claimed(monkeypatch):
    sizes = []
    for module in (statistics_of, assembly):
        monkeypatch.setattr(module, "require_memory", lambda size, argument, what: sizes.append((size, argument, what)))
    return sizes


def test_statistics_claim_the_memory_of_their_formula(claimed):
    """Dense: 6 D^2, D r for all and as much for each separate class, and 4 b, of 8 bytes."""
    stream = open_stream(np.arange(35.0).reshape(7, 5), data_range=None, kind="auto", labels=None, seed=0)
    for rank, classes, kept in ((None, 1, 2 * 5), (2, 1, 2 * 2), (2, 3, 4 * 2), (9, 1, 2 * 5)):
        statistics_of._Fit(stream, rank, 1, 0, False).require_memory(classes)
        size, argument, what = claimed.pop()
        assert (size, argument) == (8 * (5 * (6 * 5 + kept) + 4 * 7 * 5), "data")
        assert what == f"a covariance of 5 dimensions and {'full rank' if rank is None else f'rank {rank}'}"


def test_separate_classes_claim_a_covariance_each(claimed):
    """Of 200 x 2 values: 8 (2 (6 * 2 + 2 k) + 4 * 200 * 2) for k Gaussians, one of which is that of all."""
    x, labels = np.random.default_rng(0).normal(size=(200, 2)), np.arange(200) % 2
    for classes, gaussians in (("none", 2), ("pooled", 2), ("separate", 3)):
        data_statistics(x, classes=classes, labels=labels)
        assert claimed.pop()[0] == 8 * (2 * (6 * 2 + 2 * gaussians) + 4 * 200 * 2)


def test_a_covariance_of_no_pairs_has_converged(monkeypatch):
    monkeypatch.setattr(statistics_of, "LARGEST_DENSE", 2)
    found = data_statistics(np.random.default_rng(0).normal(size=(40, 3)), rank=0)
    assert found.notes == ()
    assert len(found.gaussian.eigenvalues) == 0


def test_half_of_the_data_are_held_out_unless_another_share_is_asked_for(tmp_path):
    x = np.arange(40.0).reshape(20, 2)
    np.save(tmp_path / "x.npy", x)
    for data in (load_data(str(tmp_path / "x.npy")), data_from_arrays(x)):
        assert (len(data.train), len(data.heldout)) == (10, 10)
    assert len(data_from_arrays(x, heldout_fraction=0.2).heldout) == 4


def test_a_data_set_claims_float32_of_every_part_that_is_converted(claimed):
    one, other = examples(np.zeros((5, 3))), examples(np.zeros((4, 3)))
    _require_memory([(one, torch.arange(3)), (other, torch.arange(2))])
    assert [size for size, *_ in claimed] == [4 * 3 * 3, 4 * 2 * 3]
    claimed.clear()
    _require_memory([(one, torch.arange(3)), (one, torch.arange(2))])  # two parts of one
    assert [size for size, *_ in claimed] == [4 * 5 * 3]
    assert claimed[0][2] == "x, 5 examples of shape (3,),"


def test_bytes_stay_where_they_would_take_more_than_a_gigabyte():
    assert ABOVE == 10**9
    assert [stay_bytes(values) for values in (ABOVE // 4, ABOVE // 4 + 1)] == [False, True]
    many = np.broadcast_to(np.uint8(3), (126, 2_000_000))
    both = [(examples(many), torch.arange(n)) for n in (100, 25)]
    assert not all_stay_bytes(both)
    assert all_stay_bytes([both[0], (examples(many), torch.arange(26))])
    floats = examples(np.broadcast_to(np.float32(3), (126, 2_000_000)))
    assert not all_stay_bytes([both[0], (floats, torch.arange(26))])


def test_bytes_that_are_all_taken_in_their_order_need_no_index():
    stored = examples(np.arange(12, dtype=np.uint8).reshape(4, 3))
    assert in_bytes(stored, torch.arange(4))._index is None
    for places in ([0, 1, 2], [1, 0, 2, 3]):
        found = in_bytes(stored, torch.tensor(places))
        assert found._index is not None
        assert found.tolist() == stored.values[places].tolist()


# labels, groups and splits


def test_labels_of_two_parts_mean_the_same_names():
    train, held = (
        examples(np.zeros((3, 1)), [0, 1, 1], ("a", "b")),
        examples(np.zeros((3, 1)), [0, 1, 2], ("b", "c", "a")),
    )
    first, second = _labels([train, held])
    assert first is not None
    assert second is not None
    assert (first.tolist(), second.tolist()) == ([0, 1, 1], [1, 2, 0])
    bare = examples(np.zeros((3, 1)), [2, 0, 1])
    for parts, found in (([train, bare], [2, 0, 1]), ([bare, held], [0, 1, 2]), ([held, held], [0, 1, 2])):
        second = _labels(parts)[1]
        assert second is not None
        assert second.tolist() == found
    assert _labels([train, examples(np.zeros((3, 1)))])[1] is None


def test_labels_and_groups_are_one_division_where_each_is_the_others():
    labels = torch.tensor([0, 0, 1, 2])
    assert _same_division(labels, torch.tensor([7, 7, 5, 3]))
    assert not _same_division(labels, torch.tensor([7, 7, 5, 5]))  # a group of two labels
    assert not _same_division(labels, torch.tensor([7, 6, 5, 3]))  # a label of two groups
    assert not _same_division(torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 0, 1]))


def test_a_split_holds_out_the_rounded_share_and_every_example_is_on_one_side():
    for n, fraction, held in ((10, 0.25, 2), (10, 0.35, 4), (7, 0.5, 4), (8, 0.5, 4)):
        index, heldout = random_split(n, fraction, 3, "data", "x")
        assert len(heldout) == held
        assert sorted([*index.tolist(), *heldout.tolist()]) == list(range(n))


def test_groups_are_held_out_until_the_share_is_nearest():
    """Of groups of three, so that their order does not matter: 7 of 21 are nearest to 6, and 8 to 9."""
    groups = torch.arange(7).repeat_interleave(3)
    for share, held in ((7 / 21, 6), (8 / 21, 9)):
        index, heldout = group_split(groups, share, 0, "data", "x")
        assert set(groups[index].tolist()) & set(groups[heldout].tolist()) == set()
        assert sorted([*index.tolist(), *heldout.tolist()]) == list(range(21))
        assert len(heldout) == held


# statistics of classes


def test_a_class_is_one_of_those_there_are():
    gaussians = tuple(Gaussian.isotropic(torch.full((2,), float(y)).double(), 1.0) for y in range(13))
    for count, said in ((12, "0, 1, .*, 10, 11, got 99"), (13, r"0, 1, .*, 10, 11, \.\.\., got 99")):
        classes = ClassStatistics(
            labels=tuple(range(count)), names=tuple("abcdefghijklm"[:count]), counts=(9,) * count,
            gaussians=gaussians[:count], pooled=True, shrinkage=(0.0,) * count,
        )  # fmt: skip
        statistics = DataStatistics(gaussian=gaussians[0], classes=classes)
        assert statistics.of_class(count - 1).mean.tolist() == [count - 1] * 2
        with pytest.raises(InputError, match=f"label: expected one of {said}"):
            statistics.of_class(99)
    with pytest.raises(InputError, match="expected statistics of classes"):
        DataStatistics(gaussian=gaussians[0]).of_class(0)


def test_means_of_classes_do_not_depend_on_batches_or_on_an_offset(monkeypatch):
    """1, 2 and 3 of class 5 and 10 and 20 of class 7, far from zero, in batches of two."""
    monkeypatch.setattr("diffuscope.data.stream.VALUES", 2)
    offset = 2.0**40
    x = offset + np.array([[1.0], [10.0], [2.0], [20.0], [3.0]])
    labels = np.array([5, 7, 5, 7, 5])
    found = data_statistics(x, classes="pooled", labels=labels).classes
    assert found is not None
    assert [float(gaussian.mean) - offset for gaussian in found.gaussians] == [2.0, 15.0]
    assert (found.labels, found.counts, found.shrinkage) == ((5, 7), (3, 2), (0.0, 0.0))
    # squares 1, 0, 1 and 25, 25, of five examples
    assert found.gaussians[0].trace == pytest.approx(52 / 5)
    assert [gaussian.count for gaussian in found.gaussians] == [4, 4]  # 5 - 2 + 1


# canaries


def test_half_of_the_canaries_may_repeat_others_and_no_more(monkeypatch):
    data = data_from_arrays(np.arange(600.0).reshape(200, 3), data_range=(0, 1024))
    for repeated, fits in ((10, True), (11, False)):
        monkeypatch.setattr("diffuscope.data.canaries.Canaries.repeated", repeated)
        if fits:
            assert len(make_canaries(data, 20, seed=0)) == 20
        else:
            with pytest.raises(InputError, match="11 of 20 canaries would repeat others"):
                make_canaries(data, 20, seed=0)
    with pytest.raises(InputError, match="number: expected at least 20, got 19"):
        make_canaries(data, 19, seed=0)


def test_a_training_file_has_the_included_canaries_and_labels_for_all():
    x = np.arange(600.0).reshape(200, 3)
    data = data_from_arrays(x, data_range=(0, 1024), labels=np.arange(200) % 4)
    canaries = make_canaries(data, 40, seed=1)
    arrays = training_arrays(data, canaries, seed=1)
    extra = canaries.examples[canaries.included]
    assert len(arrays["train"]) == len(arrays["train_labels"]) == len(data.train) + len(extra)
    assert sorted(map(tuple, arrays["train"])) == sorted(map(tuple, torch.cat([data.train, extra]).tolist()))
    assert data.train_labels is not None
    assert data.heldout_labels is not None
    label_of = dict(zip(map(tuple, data.train.tolist()), data.train_labels.tolist(), strict=True))
    known = [
        label_of.get(tuple(row), label) == label
        for row, label in zip(arrays["train"], arrays["train_labels"], strict=True)
    ]
    assert all(known)
    assert np.array_equal(arrays["heldout_labels"], data.heldout_labels)
    assert np.array_equal(arrays["heldout"], data.heldout)


def test_examples_that_are_all_the_same_or_all_known_are_refused():
    for train, held, said in (
        (np.ones((3, 2)), np.zeros((3, 2)), "the 3 training examples of x are all the same"),
        (np.eye(3), np.eye(3)[:2], "every one of the 2 held-out examples is also a training example"),
    ):
        data = SimpleNamespace(
            duplicates=len(train) - len(np.unique(train, axis=0)), train=train, heldout=held,
            shared=sum(any((row == other).all() for other in train) for row in held),
        )  # fmt: skip
        made = DataSet.__new__(DataSet)
        vars(made).update(vars(data))
        with pytest.raises(InputError, match=said):
            assembly._require_different(made, examples(train), examples(held))
