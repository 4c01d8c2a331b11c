"""Ranks, sizes, accuracies and inflations exactly where an exact distribution answers otherwise."""

import math
from types import SimpleNamespace

import pytest
import sklearn.cluster
import torch

from diffuscope.byte_examples import ByteExamples
from diffuscope.errors import InputError
from diffuscope.exact import (
    Curve,
    Empirical,
    Gaussian,
    GaussianMixture,
    GuidedGaussian,
    TrackedEmpirical,
    _clusters,
    _screening,
    checkerboard,
    dense_covariance,
    finite_sample,
    guided,
    inflation,
    posterior_draws,
    reliable_from,
    too_few_examples,
    tracking,
)
from diffuscope.exact._integers import digits
from diffuscope.exact.curve import ROUNDING
from diffuscope.exact.finite_sample import WIDEST
from numbers_in_tests import double, seeded

POINTS = torch.arange(12.0).reshape(4, 3) ** 1.5
FITTED = Gaussian(torch.zeros(2), torch.eye(2), torch.tensor([9.0, 9.0]), count=22)


def circle(v: torch.Tensor) -> torch.Tensor:
    return torch.stack([(2 * math.pi * v).cos(), (2 * math.pi * v).sin()], 1)


@pytest.mark.parametrize(("many", "used"), [(4, "KMeans"), (3, "MiniBatchKMeans")])
def test_clusters_of_as_many_examples_as_are_few_are_found_without_batches(many: int, used: str, monkeypatch) -> None:
    made: list[str] = []
    for name in ("KMeans", "MiniBatchKMeans"):
        kind = getattr(sklearn.cluster, name)

        def recorded(*args, name=name, kind=kind, **given):
            made.append(name)
            return kind(*args, **given)

        monkeypatch.setattr(sklearn.cluster, name, recorded)
    monkeypatch.setattr(_clusters, "MANY_EXAMPLES", many)
    GaussianMixture.fit_kmeans(POINTS, 1, generator=seeded())
    assert made == [used]


@pytest.mark.parametrize("value", [0.0, math.inf])
def test_rows_that_are_zero_or_infinite_have_no_digits(value: float) -> None:
    assert list(digits(torch.full((1, 2), value, dtype=torch.float64))) == []


def test_the_smallest_accuracy_that_can_be_verified_is_taken() -> None:
    assert Curve(circle, jitter=0.5, accuracy=ROUNDING).accuracy == ROUNDING
    with pytest.raises(InputError, match=r"^accuracy: expected 1e-13 <= accuracy < 1"):
        Curve(circle, jitter=0.5, accuracy=math.nextafter(ROUNDING, 0))


def test_an_accuracy_that_is_met_exactly_needs_no_further_nodes() -> None:
    found = Curve(circle, jitter=0.3, accuracy=1e-3)
    exactly = Curve(circle, jitter=0.3, accuracy=found.error)
    assert (exactly.nodes, exactly.error) == (found.nodes, found.error)
    assert Curve(circle, jitter=0.3, accuracy=math.nextafter(found.error, 0)).nodes > found.nodes


def test_one_square_is_a_checkerboard() -> None:
    density = checkerboard(1, side=2.0).log_prob(double([0.0, 0.0]), alpha=1.0, sigma=0.01).exp()
    assert density.tolist() == pytest.approx([0.25])  # one square of area 4
    with pytest.raises(InputError, match=r"^cells: expected at least 1, got 0"):
        checkerboard(0)


def test_dense_matrices_have_as_many_coordinates_as_are_allowed(monkeypatch) -> None:
    monkeypatch.setattr(posterior_draws, "LARGEST_DENSE", 2)
    for d in (2, 3):
        x_t = torch.zeros(1, d, dtype=torch.float64)
        covariance = Gaussian.isotropic(torch.zeros(d), 1.0).posterior_covariance(x_t, 1.0, 1.0)
        if d == 2:
            assert dense_covariance(covariance, x_t).shape == (1, 2, 2)
        else:
            with pytest.raises(InputError, match=r"^x_t: expected at most 2 coordinates for dense matrices, got 3"):
                dense_covariance(covariance, x_t)


def test_guided_gaussians_have_as_many_eigenvectors_together_as_are_allowed(monkeypatch) -> None:
    monkeypatch.setattr(guided, "MOST", 2)
    first, second, both = (
        Gaussian(torch.zeros(4), torch.eye(4)[:, columns], torch.full((len(columns),), 4.0), tail_variance=1.0)
        for columns in ([0], [1], [1, 2])
    )
    assert GuidedGaussian(first, second, 2.0).scale == 2.0
    with pytest.raises(InputError, match="at most 2 eigenvectors together, got 3"):
        GuidedGaussian(first, both, 2.0)


def test_a_sample_is_reliable_where_its_inflation_is_exactly_the_most() -> None:
    lowest, highest = (inflation(FITTED, 3.0 * scale) for scale in (1 / WIDEST, WIDEST))
    assert reliable_from(FITTED, lowest) == 0.0
    assert reliable_from(FITTED, math.nextafter(lowest, 0)) > 0
    assert math.isfinite(reliable_from(FITTED, highest))
    assert reliable_from(FITTED, math.nextafter(highest, 0)) == math.inf


def test_an_inflation_of_exactly_the_limit_is_no_sign_of_too_few_examples(monkeypatch) -> None:
    found = inflation(FITTED, 1.0)
    monkeypatch.setattr(finite_sample, "INFLATION", found)
    assert too_few_examples(FITTED, 1.0) is None
    monkeypatch.setattr(finite_sample, "INFLATION", math.nextafter(found, 0))
    told = too_few_examples(FITTED, 1.0)
    assert told is not None
    assert told.startswith("22 examples are too few for 2 dimensions at noise 1: ")


@pytest.mark.parametrize(("largest", "used"), [(3, True), (2, False)])
def test_points_of_as_many_values_as_integers_can_sum_are_tracked_in_integers(largest, used, monkeypatch) -> None:
    monkeypatch.setattr(tracking, "LARGEST_INNER", largest)
    monkeypatch.setattr(tracking, "integer_products_are_exact", lambda _: True)
    monkeypatch.setattr(tracking, "integer_products_are_fast", lambda: True)
    monkeypatch.setattr(tracking, "GridPoints", SimpleNamespace(of=lambda _: "integers"))
    assert (TrackedEmpirical(POINTS)._grid == "integers") == used


@pytest.mark.parametrize(("least", "largest", "used"), [(4, 4, True), (5, 9, False), (1, 3, False)])
def test_bytes_of_as_many_values_as_digits_are_for_are_multiplied_by_digits(least, largest, used, monkeypatch) -> None:
    monkeypatch.setattr(_screening, "LEAST_INNER", least)
    monkeypatch.setattr(_screening, "LARGEST_INNER", largest)
    monkeypatch.setattr(_screening, "integer_products_are_exact", lambda _: True)
    monkeypatch.setattr(_screening, "integer_products_are_fast", lambda **_: True)
    stored = torch.arange(20, dtype=torch.uint8).reshape(5, 4)
    table = Empirical(ByteExamples(stored, torch.arange(256) / 255))._table
    assert (table.by_digits(torch.ones(2, 4)) is not None) == used
