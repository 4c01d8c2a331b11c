"""A data set holds what its source held: splits, ranges, subsets, duplicates and fingerprints."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diffuscope.data import DataSet, data_from_arrays, load_data
from diffuscope.errors import InputError


def images(n: int, generator: torch.Generator, channels: int = 1) -> torch.Tensor:
    return torch.rand(n, channels, 5, 4, generator=generator)


def test_a_split_is_disjoint_and_covers_the_source(generator: torch.Generator):
    x = images(31, generator)
    data = data_from_arrays(x, heldout_fraction=0.3)
    assert len(data.heldout) == round(0.3 * 31)
    together = torch.cat([data.train_index, data.heldout_index])
    assert together.sort().values.tolist() == list(range(31))
    assert torch.equal(data.train, x[data.train_index])
    assert torch.equal(data.heldout, x[data.heldout_index])


def test_a_split_depends_on_its_seed_alone(generator: torch.Generator):
    x = images(40, generator)
    first, again, other = (data_from_arrays(x, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(first.train, again.train)
    assert first.fingerprint() == again.fingerprint()
    assert first.train_index.sort().values.tolist() != other.train_index.sort().values.tolist()


def test_a_split_puts_every_example_on_either_side_equally_often():
    x = np.arange(20.0).reshape(10, 2)
    seeds = 2000
    counts = torch.zeros(10)
    for seed in range(seeds):
        counts[data_from_arrays(x, heldout_fraction=0.3, seed=seed).heldout_index] += 1
    # a binomial count; five standard errors, for ten examples at once
    assert (counts / seeds - 0.3).abs().max() < 5 * (0.3 * 0.7 / seeds) ** 0.5


def test_labels_stay_with_their_examples():
    labels = np.arange(30) % 7
    x = np.repeat(labels[:, None] + np.arange(30)[:, None] / 100, 3, axis=1)
    data = data_from_arrays(x, labels=labels)
    assert data.train_labels is not None
    assert data.heldout_labels is not None
    assert torch.equal(data.train[:, 0].long(), data.train_labels)
    part = data.subset(5, 4, seed=1)
    assert part.heldout_labels is not None
    assert torch.equal(part.heldout[:, 0].long(), part.heldout_labels)


@pytest.mark.parametrize("shape", [(6, 7), (6, 1, 5, 7), (6, 3, 5, 7), (6, 5, 7), (6, 5, 7, 1), (6, 5, 7, 3)])
def test_every_layout_becomes_channels_first(shape: tuple[int, ...], generator: torch.Generator):
    x = torch.rand(shape, generator=generator)
    data = data_from_arrays(x, torch.rand(shape, generator=generator))
    event = data.event_shape
    if len(shape) == 2:
        assert torch.equal(data.train, x)
    elif len(shape) == 3:
        assert torch.equal(data.train[:, 0], x)
    else:
        assert event == (min(shape[1:]), 5, 7)
        # a pixel of the channels-first image is that pixel of the picture
        picture = x if shape[1] == event[0] else x.movedim(-1, 1)
        assert torch.equal(data.train, picture)
    assert data.train.is_contiguous()


@pytest.mark.parametrize("dtype", ["u1", "<i2", ">i4", "u8", "f2", "<f4", ">f8", "g"])
def test_values_survive_every_dtype(dtype: str):
    values = np.arange(60).reshape(5, 3, 4)
    data = data_from_arrays(values.astype(dtype), values[::-1].astype(dtype) * 2, data_range=(0, 120))
    assert data.train.dtype is torch.float32
    assert torch.equal(data.train[:, 0], torch.from_numpy(values).float())


def test_a_bfloat16_tensor_keeps_its_values(generator: torch.Generator):
    x = images(6, generator).bfloat16()
    assert torch.equal(data_from_arrays(x, x.float() / 2).train, x.float())


def test_a_tensor_that_requires_gradients_is_data_like_another(generator: torch.Generator):
    x, labels = images(6, generator), torch.arange(6) % 2
    leaf = x.clone().requires_grad_()
    data, plain = data_from_arrays(leaf, leaf / 2, labels=labels), data_from_arrays(x, x / 2, labels=labels)
    assert not data.train.requires_grad
    assert data.fingerprint() == plain.fingerprint()
    # a data set made by hand may hold such a tensor
    by_hand = replace(plain, train=leaf)
    assert by_hand.fingerprint() == plain.fingerprint()
    assert by_hand.duplicates == plain.duplicates == 0


def test_the_arrays_are_copied():
    x = np.random.default_rng(0).random((6, 4), dtype=np.float32)
    data = data_from_arrays(x, x + 1)
    before = data.fingerprint()
    x[:] = 0
    assert data.fingerprint() == before


# ranges


def bytes_data() -> DataSet:
    pixels = np.arange(256, dtype=np.uint8).reshape(4, 1, 8, 8)
    return data_from_arrays(pixels, pixels[::-1].copy() // 2 + 3, data_range=(0, 255))


def test_bytes_map_to_the_nearest_float_of_k_over_255():
    mapped = bytes_data().in_range(0, 1).train.flatten()
    for k, value in enumerate(mapped.tolist()):
        nearest = np.float32(k / 255)
        assert value == nearest
        assert abs(Fraction(value) - Fraction(k, 255)) <= Fraction(1, 2**24)


@pytest.mark.parametrize("ends", [(0.0, 1.0), (-0.5, 0.5), (-1.0, 1.0), (-1, 3)])
def test_a_range_meets_its_ends_exactly_and_keeps_the_order(ends: tuple[float, float]):
    low, high = ends
    mapped = bytes_data().in_range(low, high)
    values = mapped.train.flatten()
    assert (values[0].item(), values[-1].item()) == (low, high)
    assert bool((values.diff() > 0).all())
    exact = low + torch.arange(256, dtype=torch.float64) / 255 * (high - low)
    # three roundings of numbers no larger than the width
    assert (values.double() - exact).abs().max() <= 3 * 2.0**-24 * (high - low)
    assert mapped.data_range == (low, high)


@settings(deadline=None)
@given(low=st.floats(-10, 10), width=st.floats(0.01, 100))
def test_a_range_mapped_there_and_back_is_the_data_again(low: float, width: float):
    data = bytes_data()
    back = data.in_range(low, low + width).in_range(0, 255)
    # roundings at the size of the farther end, seen through a window of this width
    tolerance = 255 * 8 * 2.0**-24 * (1 + (abs(low) + width) / width)
    assert (back.train - data.train).abs().max() <= tolerance
    assert (back.heldout - data.heldout).abs().max() <= tolerance


def test_the_range_already_there_changes_nothing():
    data = bytes_data()
    assert data.in_range(0, 255) is data


@pytest.mark.parametrize(
    ("low", "high", "told"),
    [(0.02, 0.98, (0.0, 1.0)), (0.0, 1.0000001, (0.0, 1.0)), (-0.5, 0.5, (-0.5, 0.5)), (-0.4, 0.9, (-1.0, 1.0))],
)
def test_the_range_of_float_images_is_told_by_their_values(low: float, high: float, told: tuple[float, float]):
    x = np.linspace(low, high, 7 * 4 * 4).reshape(7, 4, 4)
    data = data_from_arrays(x)
    assert data.data_range == told
    assert "by its values" in data.provenance


def test_the_range_of_vectors_spans_training_and_heldout_values():
    data = data_from_arrays(np.array([[-3.0, 1.0], [2.0, 0.0]]), np.array([[0.0, 9.0], [1.0, 1.0]]))
    assert data.data_range == (-3.0, 9.0)
    mapped = data.in_range(-1, 1)
    assert (mapped.train.min().item(), mapped.heldout.max().item()) == (-1.0, 1.0)


# subsets


def test_subsets_of_one_seed_are_nested(generator: torch.Generator):
    data = data_from_arrays(images(50, generator), images(30, generator))
    small, large = data.subset(10, 5, seed=2), data.subset(20, 9, seed=2)
    assert set(small.train_index.tolist()) < set(large.train_index.tolist())
    assert set(small.heldout_index.tolist()) < set(large.heldout_index.tolist())
    assert torch.equal(small.train, data.train[small.train_index])
    assert len(set(large.train_index.tolist())) == 20


def test_a_subset_of_a_subset_still_points_to_the_source(generator: torch.Generator):
    x = images(50, generator)
    part = data_from_arrays(x).subset(20, 20, seed=1).subset(7, 7, seed=2)
    assert torch.equal(part.train, x[part.train_index])
    assert torch.equal(part.heldout, x[part.heldout_index])


@pytest.mark.parametrize("n", [1, 26, -3])
def test_a_subset_has_no_more_examples_than_there_are(n: int, generator: torch.Generator):
    with pytest.raises(InputError, match=rf"^n_train: got {n}, expected 2 to 25"):
        data_from_arrays(images(50, generator)).subset(n, 2)


# exact repetitions


def test_repetitions_are_counted_exactly(generator: torch.Generator):
    x, other = images(20, generator), images(10, generator)
    train = torch.cat([x, x[:3], x[:1]])  # three repeat once more, one of them twice
    heldout = torch.cat([other, x[4:6], x[4:5]])
    data = data_from_arrays(train, heldout)
    assert data.duplicates == 4
    assert data.shared == 3
    assert data_from_arrays(x, other).shared == 0


def test_a_difference_of_one_bit_is_a_difference():
    x = np.random.default_rng(0).random((4, 6, 6), dtype=np.float32)
    near = np.nextafter(x, np.float32(2))
    assert data_from_arrays(x, near, data_range=(0, 2)).shared == 0


def test_minus_zero_is_zero():
    x = np.array([[0.0, 1.0], [2.0, 3.0], [-0.0, 1.0]])
    assert data_from_arrays(x, np.array([[-0.0, 1.0], [5.0, 5.0]])).shared == 1
    assert data_from_arrays(x, np.ones((2, 2))).duplicates == 1


# fingerprints


def test_a_fingerprint_sees_every_value_shape_label_and_range(generator: torch.Generator):
    x, y = images(6, generator), images(4, generator)
    changed = x.clone()
    changed[3, 0, 2, 2] = changed[3, 0, 2, 2] / 2
    reshaped = x.reshape(6, 1, 4, 5), y.reshape(4, 1, 4, 5)
    others = [
        data_from_arrays(changed, y),
        data_from_arrays(x, y.flip(0)),
        data_from_arrays(*reshaped),
        data_from_arrays(x, y, labels=torch.arange(6)),
        data_from_arrays(x, y, data_range=(0, 2)),
        data_from_arrays(y, x),
    ]
    same = data_from_arrays(x, y, name="another name")
    prints = {data.fingerprint() for data in others}
    assert len(prints) == len(others)
    assert data_from_arrays(x, y).fingerprint() == same.fingerprint()
    assert same.fingerprint() not in prints


def test_a_tensor_that_requires_a_gradient_loads_as_its_values():
    x = torch.rand(6, 4, generator=torch.Generator().manual_seed(0))
    data = data_from_arrays(x.clone().requires_grad_(), x + 2)
    assert torch.equal(data.train, x)
    assert not data.train.requires_grad


# data sets by name


def test_digits_are_those_of_scikit_learn():
    from sklearn.datasets import load_digits

    bunch = load_digits(return_X_y=True)
    values, labels = np.asarray(bunch[0]), np.asarray(bunch[1])
    data = load_data("digits")
    assert (len(data.train), len(data.heldout)) == (899, 898)
    assert data.event_shape == (1, 8, 8)
    assert data.data_range == (0.0, 16.0)
    together = torch.cat([data.train, data.heldout]).double()
    np.testing.assert_allclose(together.mean(0).flatten(), values.mean(0), atol=1e-12)
    np.testing.assert_allclose(torch.cov(together.flatten(1).T), np.cov(values.T), atol=1e-10)
    assert data.train_labels is not None
    np.testing.assert_array_equal(data.train_labels, labels[data.train_index])
    np.testing.assert_array_equal(data.train.flatten(1), values[data.train_index])


def test_mnist_has_its_published_mean_and_deviation(shared_data, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DIFFUSCOPE_DATA", str(shared_data))
    data = load_data("mnist").in_range(0, 1)
    assert (len(data.train), len(data.heldout)) == (60_000, 10_000)
    # .1307 and .3081 are the figures that every MNIST tutorial normalizes by
    flat = data.train.flatten()
    mean = flat.mean(dtype=torch.float64).item()
    square = torch.linalg.vector_norm(flat, dtype=torch.float64).item() ** 2 / len(flat)
    deviation = (square - mean**2) ** 0.5
    assert mean == pytest.approx(0.1307, abs=5e-5)
    assert deviation == pytest.approx(0.3081, abs=5e-5)
    # the published counts of the digits 0..9 in the training set
    assert data.train_labels is not None
    assert data.train_labels.bincount().tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert (data.duplicates, data.shared) == (0, 0)


@pytest.mark.slow  # 51,000 images are converted first; sheets of 1,000, and the moments of MNIST, are tested by default
def test_cifar10_has_its_published_mean_and_total_variance(cifar_data, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DIFFUSCOPE_DATA", str(cifar_data))
    data = load_data("cifar10")
    assert (len(data.train), len(data.heldout), data.event_shape) == (50_000, 1_000, (3, 32, 32))
    total, square = torch.zeros(3 * 32 * 32, dtype=torch.float64), 0.0
    for chunk in data.train.split(2000):
        x = chunk.flatten(1).double() / 127.5 - 1
        total += x.sum(0)
        square += (x * x).sum().item()
    mean = total / 50_000
    mean_square = (mean * mean).sum().item()
    # Wang & Vastola 2024 publish |mean|^2 = 24.784126 for CIFAR-10 in [-1, 1]
    assert mean_square == pytest.approx(24.784126, rel=1e-6)
    assert square / 50_000 - mean_square == pytest.approx(761.604, rel=2e-5)
    assert data.train_labels is not None
    assert data.train_labels.bincount().tolist() == [5000] * 10
