"""Fits of Gaussian mixtures: k-means and EM against moments, closed forms and scikit-learn from the same start."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from sklearn.mixture import GaussianMixture as SklearnMixture

from diffuscope.errors import InputError
from diffuscope.exact import (
    GaussianMixture,
    _clusters,
    mixture,
)
from numbers_in_tests import normal, seeded

EVENT, D = (2, 2), 4


def blobs(separation: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Well-separated clusters of unequal sizes and shapes in the plane, and their labels."""
    centers = separation * torch.tensor([[0.0, 0.0], [1.0, 0.2], [0.3, 1.0]], dtype=torch.float64)
    factors = torch.tensor([[[1.0, 0.0], [0.5, 0.4]], [[0.3, 0.2], [0.0, 0.8]], [[0.7, 0.0], [0.0, 0.7]]]).double()
    labels = torch.repeat_interleave(torch.arange(3), torch.tensor([200, 100, 300]))
    noise = torch.einsum("nij,nj->ni", factors[labels], normal(len(labels), 2, seed=11))
    return centers[labels] + noise, labels


def overlapping() -> torch.Tensor:
    return blobs(separation=2.0)[0]


def likelihood(distribution: GaussianMixture, data: torch.Tensor) -> float:
    return float(distribution.log_prob(data, 1.0, 1e-9).mean())


def covariances(distribution: GaussianMixture) -> torch.Tensor:
    U = distribution.eigenvectors
    rest = torch.eye(U.shape[1], dtype=torch.float64) - U @ U.mT
    return (U * distribution.eigenvalues[:, None]) @ U.mT + distribution.tail_variances[:, None, None] * rest


def test_kmeans_components_are_the_moments_of_the_clusters():
    data, labels = blobs(separation=12.0)
    ridge = 0.01
    distribution = GaussianMixture.fit_kmeans(data, 3, ridge=ridge, generator=seeded())
    order = distribution.weights.argsort()
    for j, cluster in zip(order.tolist(), [1, 0, 2], strict=True):
        members = data[labels == cluster].numpy()
        assert abs(float(distribution.weights[j]) - len(members) / 600) < 1e-15
        np.testing.assert_allclose(distribution.means[j], members.mean(0), atol=1e-12)
        np.testing.assert_allclose(
            covariances(distribution)[j], np.cov(members.T, bias=True) + ridge * np.eye(2), atol=1e-12
        )


def test_as_many_components_as_examples_is_the_data_set_with_variance_ridge():
    data = normal(6, *EVENT, seed=12)
    distribution = GaussianMixture.fit_kmeans(data, 6, ridge=1e-4, generator=seeded())
    torch.testing.assert_close(distribution.weights, torch.full((6,), 1 / 6).double(), rtol=0, atol=1e-7)
    torch.testing.assert_close(
        covariances(distribution), (1e-4 * torch.eye(D)).double().expand(6, D, D), rtol=0, atol=1e-10
    )
    rows = {tuple(row) for row in data.flatten(1).tolist()}
    assert {tuple(row) for row in distribution.means.flatten(1).tolist()} == rows
    fitted = GaussianMixture.fit_em(data, 6, ridge=1e-4, generator=seeded())
    assert float((fitted.denoise(data, 1.0, 0.01) - data).norm()) < 1e-2 * float(data.norm())


def test_kmeans_on_minibatches_still_gives_frequencies_and_moments(monkeypatch):
    monkeypatch.setattr(_clusters, "MANY_EXAMPLES", 100)
    data, labels = blobs(separation=12.0)
    distribution = GaussianMixture.fit_kmeans(data, 3, rank=0, generator=seeded())
    counts = torch.bincount(labels).double() / 600
    torch.testing.assert_close(distribution.weights.sort()[0], counts.sort()[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("rank", [None, 1, 0])
@pytest.mark.parametrize("fit", [GaussianMixture.fit_kmeans, GaussianMixture.fit_em])
def test_the_same_generator_gives_the_same_fit(fit, rank):
    data = overlapping()
    one, two = (fit(data, 3, rank=rank, generator=seeded(5)) for _ in range(2))
    for name in ("weights", "means", "eigenvectors", "eigenvalues", "tail_variances"):
        assert torch.equal(getattr(one, name), getattr(two, name))


@pytest.mark.parametrize("rank", [None, 1, 0])
def test_likelihood_never_decreases_over_the_iterations_of_em(rank):
    data = overlapping()
    values = [
        likelihood(
            GaussianMixture.fit_em(
                data, 3, rank=rank, ridge=0.0, tolerance=-math.inf, max_iterations=n, generator=seeded()
            ),
            data,
        )
        for n in range(12)
    ]
    assert values[-1] > values[0] + 1e-3
    assert min(np.diff(values)) > -1e-12


def sklearn_from_the_same_start(data: torch.Tensor, kind: str, rank: int | None, ridge: float) -> SklearnMixture:
    start = GaussianMixture.fit_kmeans(data, 3, rank=rank, ridge=ridge, generator=seeded())
    precisions = torch.linalg.inv(covariances(start))
    theirs = SklearnMixture(
        3,
        covariance_type=kind,
        reg_covar=ridge,
        tol=1e-12,
        max_iter=2000,
        weights_init=start.weights.numpy(),
        means_init=start.means.numpy(),
        precisions_init=precisions.numpy() if kind == "full" else precisions.diagonal(dim1=1, dim2=2).mean(1).numpy(),
    )
    return theirs.fit(data.numpy())


@pytest.mark.parametrize(("rank", "kind"), [(None, "full"), (0, "spherical")])
def test_em_agrees_with_scikit_learn_from_the_same_start(rank, kind):
    data, ridge = overlapping(), 1e-5
    ours = GaussianMixture.fit_em(
        data, 3, rank=rank, ridge=ridge, tolerance=1e-12, max_iterations=2000, generator=seeded()
    )
    theirs = sklearn_from_the_same_start(data, kind, rank, ridge)
    full = np.asarray(theirs.covariances_)
    if kind == "spherical":
        full = full[:, None, None] * np.eye(2)
    np.testing.assert_allclose(ours.means.numpy(), np.asarray(theirs.means_), atol=1e-3)
    np.testing.assert_allclose(ours.weights.numpy(), np.asarray(theirs.weights_), atol=1e-3)
    np.testing.assert_allclose(covariances(ours).numpy(), full, atol=1e-3)
    assert abs(likelihood(ours, data) - float(theirs.score(data.numpy()))) < 1e-8


def test_em_recovers_a_well_separated_mixture_within_standard_errors():
    data, labels = blobs(separation=12.0)
    distribution = GaussianMixture.fit_em(data, 3, generator=seeded())
    truth = 12.0 * torch.tensor([[1.0, 0.2], [0.0, 0.0], [0.3, 1.0]], dtype=torch.float64)  # by size: 100, 200, 300
    order = distribution.weights.argsort()
    for j, center, count in zip(order.tolist(), truth, [100, 200, 300], strict=True):
        standard_error = (covariances(distribution)[j].diagonal() / count).sqrt()
        assert bool(((distribution.means[j] - center).abs() < 4 * standard_error).all())
        assert abs(float(distribution.weights[j]) - count / len(labels)) < 1e-6


def test_low_rank_em_is_the_maximum_likelihood_of_its_rank_not_a_truncated_dense_fit():
    factors = normal(3, 5, 5, seed=13) * torch.tensor([2.0, 1.0, 0.7, 0.5, 0.4], dtype=torch.float64)
    labels = torch.arange(600) % 3
    data = 1.5 * normal(3, 5, seed=14)[labels] + torch.einsum("nij,nj->ni", factors[labels], normal(600, 5, seed=15))
    options = {"ridge": 0.0, "tolerance": 1e-9, "max_iterations": 1000}
    full = GaussianMixture.fit_em(data, 3, generator=seeded(), **options)
    for rank in (0, 1, 3):
        truncated = GaussianMixture.from_covariances(full.weights, full.means, covariances(full), rank)
        low = GaussianMixture.fit_em(data, 3, rank=rank, generator=seeded(), **options)
        assert low.eigenvectors.shape == (3, 5, rank)
        assert likelihood(truncated, data) < likelihood(low, data) < likelihood(full, data)


@pytest.mark.parametrize("rank", [None, 1])
def test_fits_in_chunks_equal_fits_at_once(rank, monkeypatch):
    data = overlapping()
    whole = GaussianMixture.fit_em(data, 3, rank=rank, generator=seeded())
    monkeypatch.setattr(mixture, "CHUNK_BYTES", 30_000)
    monkeypatch.setattr(_clusters, "CHUNK_BYTES", 30_000)
    parts = GaussianMixture.fit_em(data, 3, rank=rank, generator=seeded())
    torch.testing.assert_close(parts.means, whole.means, rtol=0, atol=1e-10)
    torch.testing.assert_close(covariances(parts), covariances(whole), rtol=0, atol=1e-10)


def test_fit_of_float32_images_keeps_their_shape_and_answers_in_float32():
    data = normal(40, *EVENT, seed=16).float()
    distribution = GaussianMixture.fit_em(data, 2, generator=seeded())
    assert distribution.event_shape == EVENT
    assert distribution.denoise(data, 1.0, 0.5).dtype == torch.float32
    torch.testing.assert_close(distribution.as_gaussian().mean.float(), data.mean(0), rtol=0, atol=1e-6)


@pytest.mark.parametrize("fit", [GaussianMixture.fit_kmeans, GaussianMixture.fit_em])
def test_bad_input_to_a_fit_is_one_clear_line(fit: Callable):
    data = normal(6, *EVENT)
    for components in (7, 0):
        with pytest.raises(InputError, match=rf"components: expected 1 \.\. 6 .* got {components}"):
            fit(data, components, generator=seeded())
    data[2, 0, 0] = math.nan
    with pytest.raises(InputError, match="data: expected finite values"):
        fit(data, 2, generator=seeded())


def test_a_collapsed_component_is_named():
    data = torch.cat([torch.zeros(5, 2), 10 + torch.ones(5, 2)]).double()
    with pytest.raises(InputError, match=r"ridge: expected"):
        GaussianMixture.fit_em(data, 2, ridge=0.0, generator=seeded())
