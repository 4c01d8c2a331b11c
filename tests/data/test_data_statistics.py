"""Statistics of data sets: exact on data whose moments are known, the same from a file as from memory."""

import json
import tracemalloc

import numpy as np
import pytest
import torch
from safetensors import safe_open

import diffuscope
from diffuscope.data import DataStatistics, data_from_arrays, data_statistics, open_stream, statistics_of
from diffuscope.errors import InputError
from diffuscope.exact import Gaussian, GuidedGaussian, shrunk


def two_classes(n: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Classes 3 and 7 with the means 10 apart and the covariances diag(1, 4, 0.25) and diag(9, 0.04, 0.25), about."""
    draw = np.random.default_rng(0)
    x = draw.normal(size=(n, 3)) * [1.0, 2.0, 0.5]
    labels = np.where(np.arange(n) % 3 == 0, 7, 3)
    x[labels == 7] = x[labels == 7] * [3.0, 0.1, 1.0] + [10.0, 0.0, 0.0]
    return x, labels


def covariance(gaussian: Gaussian) -> np.ndarray:
    U, identity = gaussian.eigenvectors, torch.eye(gaussian.dimension, dtype=torch.float64)
    tail = gaussian.tail_variance
    return ((U * (gaussian.eigenvalues - tail)) @ U.T + tail * identity).numpy()


def test_the_moments_of_digits_are_those_of_numpy_over_all_examples():
    from sklearn.datasets import load_digits

    rows, found = np.asarray(load_digits(return_X_y=True)[0]), data_statistics("digits")
    np.testing.assert_allclose(found.gaussian.mean.flatten().numpy(), rows.mean(0), atol=1e-12)
    np.testing.assert_allclose(covariance(found.gaussian), np.cov(rows.T, bias=True), atol=1e-11)
    assert (found.gaussian.count, found.gaussian.data_range, found.kind) == (1797, (0.0, 16.0), "images")
    assert found.warnings() == ()


def test_a_file_of_bytes_read_in_batches_gives_the_moments_of_the_whole(tmp_path, monkeypatch):
    monkeypatch.setattr("diffuscope.data.stream.VALUES", 7 * 48)  # batches of seven
    images = np.random.default_rng(0).integers(0, 256, (50, 4, 4, 3), dtype=np.uint8)
    np.save(tmp_path / "x.npy", images)
    found = data_statistics(str(tmp_path / "x.npy"), data_range=(0, 255)).in_range(-1, 1)
    rows = images.transpose(0, 3, 1, 2).reshape(50, -1) / 127.5 - 1
    np.testing.assert_allclose(found.gaussian.mean.flatten().numpy(), rows.mean(0), atol=1e-14)
    np.testing.assert_allclose(covariance(found.gaussian), np.cov(rows.T, bias=True), atol=1e-14)
    assert found.event_shape == (3, 4, 4)
    assert found.gaussian.data_range == (-1.0, 1.0)


def test_a_mapped_file_is_never_in_memory_whole(tmp_path, monkeypatch):
    """24 MB in the file, in batches of 8 MB: one that is made while the one before is still held."""
    monkeypatch.setattr("diffuscope.data.stream.VALUES", 10**6)
    path, shape = tmp_path / "x.npy", (30_000, 100)
    values = np.lib.format.open_memmap(path, mode="w+", dtype=np.float64, shape=shape)
    values[:] = np.random.default_rng(0).random(shape)
    values.flush()
    del values
    stream = open_stream(str(path))
    tracemalloc.start()
    total = sum(float(batch.sum()) for batch in stream.batches())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2.1 * 8e6
    assert abs(total / (0.5 * 3e6) - 1) < 0.01  # the standard error is 0.0003


def test_above_the_dense_dimension_the_leading_pairs_and_the_trace_are_those_of_the_dense_fit(monkeypatch):
    scales = np.arange(1, 31) ** -2.0
    x = np.random.default_rng(0).normal(size=(200, 30)) * scales
    dense = data_statistics(x)
    monkeypatch.setattr(statistics_of, "LARGEST_DENSE", 20)
    found = data_statistics(x, rank=4)
    # the probe has 20 columns; lambda_21 / lambda_4 = (4/21)^4 to the third power is 2e-9
    np.testing.assert_allclose(found.gaussian.eigenvalues.numpy(), dense.gaussian.eigenvalues[:4].numpy(), rtol=1e-7)
    assert abs(found.gaussian.trace / dense.gaussian.trace - 1) < 1e-12
    assert found.notes == ()


def test_eigenvalues_that_have_not_converged_are_noted(monkeypatch):
    monkeypatch.setattr(statistics_of, "LARGEST_DENSE", 20)
    x = np.random.default_rng(0).normal(size=(300, 200))  # equal variances
    (note,) = data_statistics(x, rank=4).notes
    assert note.startswith("all: not all of 4 eigenvalues have converged")


def test_pooled_classes_have_their_means_and_the_covariance_within():
    x, labels = two_classes()
    found = data_statistics(x + 100, labels=labels, classes="pooled")
    within = x - np.where(labels[:, None] == 7, x[labels == 7].mean(0), x[labels == 3].mean(0))
    for label in (3, 7):
        gaussian = found.of_class(label)
        np.testing.assert_allclose(gaussian.mean.numpy(), x[labels == label].mean(0) + 100, atol=1e-12)
        np.testing.assert_allclose(covariance(gaussian), within.T @ within / 60, atol=1e-12)
    classes = found.classes
    assert classes is not None
    assert (classes.labels, classes.counts, classes.pooled) == ((3, 7), (40, 20), True)
    assert classes.gaussians[0].count == 59  # 58 degrees of freedom
    assert classes.gaussians[0].eigenvectors is classes.gaussians[1].eigenvectors


def test_separate_classes_are_shrunk_fits_of_each():
    x, labels = two_classes(300)
    found = data_statistics(x, labels=labels, classes="separate")
    for label in (3, 7):
        expected = shrunk(Gaussian.fit([torch.from_numpy(x[labels == label])]))
        np.testing.assert_allclose(covariance(found.of_class(label)), covariance(expected), atol=1e-12)
    assert found.classes is not None
    assert all(0 < share < 0.1 for share in found.classes.shrinkage)


def test_a_rank_above_the_number_of_examples_is_that_number_above_4096_dimensions():
    x = np.random.default_rng(0).normal(size=(12, 4200)).clip(-5, 5)
    found = data_statistics(x, rank=10**6).gaussian
    assert len(found.eigenvalues) == 12
    assert found.trace == pytest.approx(x.var(0).sum(), rel=1e-9)


def test_an_unknown_kind_of_classes_is_refused():
    x, labels = two_classes(20)
    with pytest.raises(InputError, match=r"classes: expected none, pooled, separate, got 'shared'$"):
        data_statistics(x, labels=labels, classes="shared")


def test_classes_too_small_for_covariances_of_their_own_are_refused():
    x, labels = two_classes(120)
    labels[:3] = 9
    with pytest.raises(InputError, match=r"classes: expected pooled, or more examples of class 9, got separate; 3 "):
        data_statistics(x, labels=labels, classes="separate")
    labels[1:3] = 3
    with pytest.raises(InputError, match=r"classes: expected pooled, or more examples of class 9, .* 1 example"):
        data_statistics(x, labels=labels, classes="separate")
    assert data_statistics(x, labels=labels, classes="pooled").of_class(9).count == 118


@pytest.mark.parametrize("classes", ["none", "pooled", "separate"])
def test_saved_statistics_load_to_the_last_bit_and_say_what_they_are(classes, tmp_path):
    x, labels = two_classes(300)
    found = data_statistics(x, labels=labels, classes=classes, rank=2)
    found.save(tmp_path / "s.safetensors")
    loaded = DataStatistics.load(tmp_path / "s.safetensors")
    alone = Gaussian.load(tmp_path / "s.safetensors")
    pairs = [(loaded.gaussian, found.gaussian), (alone, found.gaussian)]
    if classes != "none":
        pairs += [(loaded.of_class(label), found.of_class(label)) for label in (3, 7)]
    for one, other in pairs:
        for name in ("mean", "eigenvectors", "eigenvalues"):
            assert torch.equal(getattr(one, name), getattr(other, name))
        assert (one.tail_variance, one.count, one.data_range) == (other.tail_variance, other.count, other.data_range)
    assert (loaded.data, loaded.kind, loaded.version) == ("array", "vectors", diffuscope.__version__)
    with safe_open(str(tmp_path / "s.safetensors"), framework="pt") as file:
        facts = json.loads(file.metadata()["diffuscope"])
    assert (facts["count"], facts["version"]) == (300, diffuscope.__version__)
    # the covariance that classes share is kept once
    size = (tmp_path / "s.safetensors").stat().st_size
    assert size < 8 * (3 * 3 + 2 * 4 * (3 if classes == "separate" else 2) + 6) + 2000


def test_guidance_toward_a_class_has_the_means_of_both_and_one_tail():
    x, labels = two_classes(300)
    guided = data_statistics(x, labels=labels, classes="pooled", rank=2).guided(7, 3.0)
    assert isinstance(guided, GuidedGaussian)
    assert guided.conditional.tail_variance == guided.unconditional.tail_variance
    np.testing.assert_allclose(guided.conditional.mean.numpy(), x[labels == 7].mean(0), atol=1e-12)
    np.testing.assert_allclose(guided.unconditional.mean.numpy(), x.mean(0), atol=1e-12)


def test_the_latents_of_a_vae_are_shifted_then_scaled():
    x, _ = two_classes()
    factor, shift = 0.36, 0.12
    rescaled = data_statistics(x).rescale(factor, -shift * factor).gaussian
    direct = data_statistics((x - shift) * factor).gaussian
    torch.testing.assert_close(rescaled.mean, direct.mean, rtol=0, atol=1e-12)
    np.testing.assert_allclose(covariance(rescaled), covariance(direct), atol=1e-12)
    assert rescaled.data_range == pytest.approx(direct.data_range)
    flipped = data_statistics(x).rescale(-1.0, 0.0).gaussian.data_range
    assert flipped == (-x.max(), -x.min())


def test_a_data_set_gives_the_statistics_of_its_training_part():
    x, labels = two_classes()
    data = data_from_arrays(x[:40], x[40:], labels=labels[:40], heldout_labels=labels[40:])
    found = data_statistics(data, classes="pooled")
    np.testing.assert_allclose(found.gaussian.mean.numpy(), data.train.double().mean(0).numpy(), atol=1e-12)
    assert found.gaussian.count == 40


def test_the_notes_warn_of_few_examples_at_the_level_of_use():
    x = np.random.default_rng(0).normal(size=(30, 200))
    found = data_statistics(x)
    assert len(found.warnings()) == 1
    assert found.warnings(0.1)[0].startswith("30 examples are too few for 200 dimensions at noise 0.1")
    assert found.warnings(100.0) == ()


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        (np.ones((5, 3)), {}, "data: all values of the array are 1"),
        (np.tile([1.0, 2.0], (5, 1)), {}, "data: the 5 examples of array are all the same"),
        (np.ones((1, 3)), {}, "data: the array has one single example"),
        (np.eye(3), {"classes": "pooled"}, "classes: expected data with labels, got array"),
        (np.eye(3), {"rank": -1}, "rank: expected at least 0"),
        (np.eye(3, dtype=np.uint8), {}, "data: the array has integer values"),
        (np.eye(3), {"classes": "pooled", "labels": np.arange(3)}, "classes: expected a class with two examples"),
    ],
)
def test_mistakes_are_one_line(data, options, message):
    with pytest.raises(InputError, match=message):
        data_statistics(data, **options)


def test_statistics_ask_for_what_they_have():
    x, labels = two_classes()
    with pytest.raises(InputError, match="label: expected statistics of classes"):
        data_statistics(x).of_class(3)
    with pytest.raises(InputError, match="label: expected one of 3, 7, got 4"):
        data_statistics(x, labels=labels, classes="pooled").of_class(4)
    with pytest.raises(InputError, match="data_range: expected a Gaussian that knows the range"):
        Gaussian.isotropic(torch.zeros(2), 1.0).in_range(-1, 1)
    with pytest.raises(InputError, match="low, high: expected two finite numbers"):
        data_statistics(x).in_range(1, 1)


def test_a_covariance_larger_than_the_memory_is_refused_before_any_work(monkeypatch):
    monkeypatch.setattr("diffuscope.memory.available_memory", lambda: 1e4)
    with pytest.raises(InputError, match=r"data: a covariance of 100 dimensions and full rank needs .* GB of memory"):
        data_statistics(np.random.default_rng(0).random((5, 100)))


@pytest.mark.slow
def test_cifar10_has_its_published_moments_within_the_time_and_memory_allowed(cifar_data, monkeypatch):
    """Section 7.5 of our specification, and the ranks of section 2."""
    monkeypatch.setenv("DIFFUSCOPE_DATA", str(cifar_data))
    gaussian = data_statistics("cifar10").in_range(-1, 1).gaussian
    values, mean_square = gaussian.eigenvalues, float((gaussian.mean**2).sum())
    assert abs(gaussian.trace - 761.604) < 1e-3
    assert abs(mean_square - 24.7841) < 1e-4
    published = torch.tensor([221.45, 85.70, 50.98, 28.00, 27.49], dtype=torch.float64)
    torch.testing.assert_close(values[:5], published, rtol=0, atol=0.006)
    assert [gaussian.rank_of_share(share) for share in (0.8, 0.9, 0.95, 0.99)] == [33, 99, 217, 658]
    for sigma, measured, published in [(5, 413.6, 417.8), (10, 266.2, 264.0), (20, 133.7, 133.6)]:
        denoised = mean_square + float((values**2 / (values + sigma**2)).sum())
        assert abs(denoised - measured) < 0.06
        assert abs(denoised / published - 1) < 0.02
    for sigma, square in [(1, 2947), (5, 122.3), (20, 7.68), (40, 1.92)]:
        assert abs(float((1 / (values + sigma**2)).sum()) / square - 1) < 3e-3
