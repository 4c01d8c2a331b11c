"""Arguments of exact distributions: an error just beyond their bounds that names the value, accepted at them."""

import inspect
import math
from collections.abc import Callable

import pytest
import torch

from diffuscope.errors import InputError
from diffuscope.exact import (
    Affine,
    Blurred,
    Box,
    Curve,
    Empirical,
    Gaussian,
    GaussianMixture,
    GuidedGaussian,
    Ring,
    ShardedEmpirical,
    Superposition,
    TrackedEmpirical,
    checkerboard,
    dense_covariance,
    effective_variance,
    known_range,
    leading_pairs,
    nearest_neighbors,
    nearest_other_neighbors,
    rings,
    sharded_neighbors,
    sharded_other_neighbors,
    shrunk,
    spirals,
    swiss_roll,
    two_moons,
)
from diffuscope.exact.distribution import checked_levels, per_sample
from diffuscope.exact.posterior_draws import LARGEST_DENSE
from numbers_in_tests import seeded
from stated_numbers import default

TINY, BELOW = 1e-12, 1 - 1e-12
X, POINTS = torch.ones(2, 3), torch.arange(12.0).reshape(4, 3) ** 1.5
LINE = Gaussian.isotropic(torch.zeros(1), 1.0)
WITH_RANGE = Gaussian(torch.zeros(2), torch.eye(2), torch.ones(2), data_range=(0.0, 2.0))


unchecked = inspect.unwrap(per_sample)  # what a user without checks of types meets


def mixture(weights: list[float], variance: float = 1.0) -> GaussianMixture:
    return GaussianMixture.isotropic(
        torch.tensor(weights, dtype=torch.float64), torch.zeros(len(weights), 2), torch.full((len(weights),), variance)
    )


def circle(v: torch.Tensor) -> torch.Tensor:
    return torch.stack([(2 * math.pi * v).cos(), (2 * math.pi * v).sin()], 1)


REFUSED: list[tuple[Callable[[], object], str]] = [
    (
        lambda: inspect.unwrap(checked_levels)(X.int(), 1.0, 1.0, (3,)),
        "x_t: expected floating-point values, got torch.int32",
    ),
    (lambda: checked_levels(X, 1.0, 1.0, (4,)), "x_t: expected shape (batch, 4), got (2, 3)"),
    (lambda: checked_levels(X, 1.0, 0.0, (3,)), "sigma: expected values > 0, got 0 (the noised distribution is"),
    (lambda: checked_levels(X, 1.0, torch.tensor([0.5, 0.0]), (3,)), "sigma: expected values > 0, got 0"),
    (lambda: checked_levels(X, -TINY, 1.0, (3,)), "alpha: expected finite values >= 0, got -1e-12 .. -1e-12"),
    (lambda: checked_levels(X, math.inf, 1.0, (3,)), "alpha: expected finite values >= 0, got inf .. inf"),
    (lambda: checked_levels(X, math.nan, 1.0, (3,)), "alpha: expected finite values >= 0, got nan"),
    (
        lambda: checked_levels(X, torch.tensor([2.0, -0.5]), 1.0, (3,)),
        "alpha: expected finite values >= 0, got -0.5 .. 2.0",
    ),
    (
        lambda: checked_levels(X, torch.tensor([2.0, math.inf]), 1.0, (3,)),
        "alpha: expected finite values >= 0, got 2.0 .. inf",
    ),
    (lambda: unchecked(torch.ones(3), X, "alpha"), "alpha: expected a number or one per sample (2), got shape (3,)"),
    (
        lambda: unchecked(torch.ones(2, 1), X, "sigma"),
        "sigma: expected a number or one per sample (2), got shape (2, 1)",
    ),
    (lambda: Empirical(POINTS[:0]), "points: expected at least one event of at least one value, got shape (0, 3)"),
    (lambda: Empirical(POINTS[:, :0]), "points: expected at least one event of at least one value, got shape (4, 0)"),
    (
        lambda: ShardedEmpirical(POINTS[:0]),
        "points: expected at least one event of at least one value, got shape (0, 3)",
    ),
    (
        lambda: Empirical(POINTS.long()),
        "points: expected floating-point values, got torch.int64; scale integers to floats",
    ),
    (lambda: Empirical(POINTS, torch.ones(3)), "weights: expected one per point, shape (4,), got (3,)"),
    (lambda: Empirical(POINTS, torch.ones(4, 1)), "weights: expected one per point, shape (4,), got (4, 1)"),
    (lambda: Empirical(POINTS).nearest(X, 1.0, 1.0, 0), "k: expected 1 .. 4 (points of positive weight), got 0"),
    (
        lambda: Empirical(POINTS, torch.tensor([1.0, 0, 2, 3])).nearest(X, 1.0, 1.0, 4),
        "k: expected 1 .. 3 (points of positive weight), got 4",
    ),
    (
        lambda: Empirical(POINTS).posterior_covariance(X, 1.0, 1.0).matvec(X[:1]),
        "v: expected the shape of x_t (2, 3), got (1, 3)",
    ),
    (
        lambda: ShardedEmpirical(POINTS).posterior_covariance(X, 1.0, 1.0).matvec(X[:, :2]),
        "v: expected the shape of x_t (2, 3), got (2, 2)",
    ),
    (lambda: TrackedEmpirical(POINTS, tolerance=0.0), "tolerance: expected a number between 0 and 1, got 0.0"),
    (lambda: TrackedEmpirical(POINTS, tolerance=1.0), "tolerance: expected a number between 0 and 1, got 1.0"),
    (lambda: nearest_neighbors(X, POINTS, 0), "k: expected 1 .. 4 (the number of points), got 0"),
    (lambda: nearest_neighbors(X, POINTS, 5), "k: expected 1 .. 4 (the number of points), got 5"),
    (lambda: sharded_neighbors(X, POINTS, 0), "k: expected 1 .. 4 (the number of points), got 0"),
    (lambda: sharded_neighbors(X, POINTS, 5), "k: expected 1 .. 4 (the number of points), got 5"),
    (lambda: nearest_other_neighbors(POINTS, 0), "k: expected 1 .. 3 (the number of other points), got 0"),
    (lambda: nearest_other_neighbors(POINTS, 4), "k: expected 1 .. 3 (the number of other points), got 4"),
    (lambda: sharded_other_neighbors(POINTS, 0), "k: expected 1 .. 3 (the number of other points), got 0"),
    (lambda: sharded_other_neighbors(POINTS, 4), "k: expected 1 .. 3 (the number of other points), got 4"),
    (lambda: nearest_neighbors(X[:, :2], POINTS, 1), "queries: expected events of the 3 values of a point, got 2"),
    (lambda: Affine(LINE, 0.0, 1.0), "scale: expected a finite number > 0, got 0.0"),
    (lambda: Affine(LINE, math.inf, 1.0), "scale: expected a finite number > 0, got inf"),
    (lambda: Affine(LINE, 1.0, math.nan), "shift: expected a finite number, got nan"),
    (lambda: Blurred(LINE, -TINY), "jitter: expected a finite number >= 0, got -1e-12"),
    (lambda: Blurred(LINE, math.inf), "jitter: expected a finite number >= 0, got inf"),
    (lambda: Box(torch.ones(1), torch.ones(1)), "low, high: expected finite numbers, each low below its high, got"),
    (
        lambda: Box(torch.tensor([0.0, 1.0]), torch.tensor([1.0, 1.0])),
        "low, high: expected finite numbers, each low below",
    ),
    (
        lambda: Box(torch.tensor([-math.inf]), torch.ones(1)),
        "low, high: expected finite numbers, each low below its high",
    ),
    (lambda: Ring(0.0), "radius: expected a positive number, got 0"),
    (lambda: Ring(-TINY), "radius: expected a positive number, got -1e-12"),
    (lambda: Curve(circle, jitter=0.1, reach=0.0), "reach: expected a finite number > 0, got 0.0"),
    (lambda: Curve(circle, jitter=0.1, reach=math.inf), "reach: expected a finite number > 0, got inf"),
    (lambda: Curve(circle, jitter=0.1, accuracy=0.99e-13), "accuracy: expected 1e-13 <= accuracy < 1, got 9.9e-14"),
    (lambda: Curve(circle, jitter=0.1, accuracy=1.0), "accuracy: expected 1e-13 <= accuracy < 1, got 1"),
    (lambda: Curve(circle, smallest_noise=-TINY), "smallest_noise: expected a finite number >= 0, got -1e-12"),
    (lambda: Curve(circle, jitter=math.inf), "jitter: expected a finite number >= 0, got inf"),
    (lambda: Curve(circle, lambda v: 0 * v + 0.5, jitter=0.5), "density: expected the integral 1 over [0, 1], got 0.5"),
    (
        lambda: Curve(circle, lambda v: 0 * v + 1 + 2e-9, jitter=0.5),
        "density: expected the integral 1 over [0, 1], got 1",
    ),
    (lambda: checkerboard(0), "cells: expected at least 1, got 0"),
    (lambda: checkerboard(side=0.0), "side: expected a finite number > 0, got 0.0"),
    (lambda: rings(radii=(1.0, -TINY)), "radii: expected finite numbers > 0, got (1.0, -1e-12)"),
    (lambda: Superposition([]), "distributions: expected at least one, all of one event shape, got []"),
    (
        lambda: Superposition([LINE, Ring()]),
        "distributions: expected at least one, all of one event shape, got [(1,), (2,)]",
    ),
    (
        lambda: Superposition([LINE], torch.ones(2)),
        "weights: expected 1 finite values >= 0, not all zero, got [1.0, 1.0]",
    ),
    (
        lambda: Superposition([LINE, LINE], torch.zeros(2)),
        "weights: expected 2 finite values >= 0, not all zero, got [0.0, 0.0]",
    ),
    (
        lambda: Superposition([LINE], torch.tensor([math.inf])),
        "weights: expected 1 finite values >= 0, not all zero, got [inf]",
    ),
    (lambda: mixture([0.5, 0.5 + 1.01e-6]), "weights: expected non-negative values that sum to 1, got sum 1.00000101"),
    (lambda: mixture([0.5, 0.5 - 1.01e-6]), "weights: expected non-negative values that sum to 1, got sum 0.99999"),
    (lambda: mixture([1.0 + TINY, -TINY]), "weights: expected non-negative values that sum to 1, got sum 1.0"),
    (lambda: mixture([1.0], -TINY), "eigenvalues, tail_variances: expected values >= 0"),
    (lambda: mixture([1.0]).truncate(3), "rank: expected 0 .. 2, got 3"),
    (lambda: mixture([1.0]).truncate(-1), "rank: expected 0 .. 2, got -1"),
    (
        lambda: GaussianMixture(
            torch.ones(1), torch.zeros(1, 2), torch.zeros(1, 3, 0), torch.zeros(1, 0), torch.ones(1)
        ),
        "eigenvectors: expected shape (1, 2, 0), got (1, 3, 0)",
    ),
    (
        lambda: GaussianMixture.fit_clusters(POINTS, torch.full((4,), -1), generator=seeded()),
        "labels: expected clusters 0, 1, ..., got no label that is 0 or more",
    ),
    (
        lambda: GaussianMixture.fit_kmeans(POINTS, 0, generator=seeded()),
        "components: expected 1 .. 4 (the number of examples)",
    ),
    (
        lambda: GaussianMixture.fit_kmeans(POINTS, 5, generator=seeded()),
        "components: expected 1 .. 4 (the number of examples)",
    ),
    (
        lambda: Gaussian(torch.zeros(2), torch.eye(3), torch.ones(3)),
        "eigenvectors: expected 2 rows (the size of the mean), got 3",
    ),
    (
        lambda: Gaussian(torch.zeros(1), torch.eye(1), torch.tensor([-TINY])),
        "eigenvalues, tail_variance: expected values >= 0",
    ),
    (lambda: Gaussian.isotropic(torch.zeros(1), -TINY), "eigenvalues, tail_variance: expected values >= 0"),
    (lambda: WITH_RANGE.truncate(3), "rank: expected 0 .. 2, got 3"),
    (lambda: WITH_RANGE.truncate(-1), "rank: expected 0 .. 2, got -1"),
    (lambda: WITH_RANGE.in_range(1.0, 1.0), "low, high: expected two finite numbers, the lower first, got 1 1"),
    (
        lambda: WITH_RANGE.in_range(-math.inf, 1.0),
        "low, high: expected two finite numbers, the lower first, got -inf 1",
    ),
    (lambda: LINE.in_range(0.0, 1.0), "data_range: expected a Gaussian that knows the range of its data, got one that"),
    (lambda: GuidedGaussian(LINE, LINE, math.inf), "scale: expected a finite number, got inf"),
    (lambda: shrunk(LINE, -TINY), "rho: expected 0 .. 1, got -1e-12"),
    (lambda: shrunk(LINE, 1 + 1e-9), "rho: expected 0 .. 1, got 1.000000001"),
    (
        lambda: effective_variance(LINE, 1, 1.0),
        "n, variance: expected at least 2 examples and a noise variance > 0, got 1, 1.0",
    ),
    (
        lambda: effective_variance(LINE, 2, 0.0),
        "n, variance: expected at least 2 examples and a noise variance > 0, got 2, 0.0",
    ),
    (lambda: leading_pairs(lambda: [POINTS], -1, generator=seeded()), "rank: expected at least 0 (isotropic), got -1"),
    (
        lambda: leading_pairs(lambda: [POINTS], 1, generator=seeded(), n_passes=1),
        "n_passes: expected at least 2, got 1",
    ),
    (
        lambda: dense_covariance(
            LINE.posterior_covariance(torch.zeros(1, 1), 1.0, 1.0), torch.zeros(1, LARGEST_DENSE + 1)
        ),
        "x_t: expected at most 1024 coordinates for dense matrices, got 1025",
    ),
]


@pytest.mark.parametrize(("make", "line"), REFUSED, ids=[line[:40] for _, line in REFUSED])
def test_values_just_beyond_a_bound_raise_an_error_that_names_them(make: Callable[[], object], line: str):
    with pytest.raises(InputError) as raised:
        make()
    assert str(raised.value).startswith(line)
    assert "\n" not in str(raised.value)


def test_values_at_a_bound_are_accepted():
    alphas, sigmas = checked_levels(X, torch.tensor([0.0, 3.0]), TINY, (3,))
    assert (alphas.tolist(), sigmas.tolist()) == ([0.0, 3.0], [TINY, TINY])
    assert len(Empirical(POINTS[:1]).points) == 1
    assert Empirical(POINTS, torch.tensor([0.0, 0, 0, TINY])).weights.tolist() == [0, 0, 0, 1]
    assert Empirical(POINTS).nearest(X, 1.0, 1.0, 4).indices.shape == (2, 4)
    assert Empirical(POINTS, torch.tensor([1.0, 0, 2, 3])).nearest(X, 1.0, 1.0, 3).indices.shape == (2, 3)
    assert TrackedEmpirical(POINTS, tolerance=BELOW).tolerance == BELOW
    for nearest in (nearest_neighbors, sharded_neighbors):
        assert [nearest(X, POINTS, k)[0].shape[1] for k in (1, 4)] == [1, 4]
    for nearest in (nearest_other_neighbors, sharded_other_neighbors):
        assert [nearest(POINTS, k)[0].shape[1] for k in (1, 3)] == [1, 3]
    assert (Affine(LINE, TINY, -1e300).scale, Blurred(LINE, 0.0).jitter, Ring(TINY).radius) == (TINY, 0.0, TINY)
    assert Box(torch.zeros(1), torch.full((1,), TINY)).event_shape == (1,)
    assert Curve(circle, jitter=0.5, accuracy=0.999, reach=TINY).error < 0.999
    assert Curve(circle, lambda v: 0 * v + 1 + 0.9e-9, smallest_noise=0.5).jitter == 0
    assert len(checkerboard(2, side=TINY).distributions) == 2
    assert Superposition([LINE, LINE], torch.tensor([0.0, 5.0])).weights.tolist() == [0, 1]
    assert mixture([0.5, 0.5 + 0.99e-6]).weights.tolist() == pytest.approx([0.5, 0.5], abs=1e-6)
    assert float(mixture([0.5, 0.5 - 0.99e-6]).weights.sum()) == pytest.approx(1, abs=1e-15)
    assert mixture([1.0, 0.0], 0.0).truncate(2).eigenvalues.shape == mixture([1.0, 0.0]).truncate(0).eigenvalues.shape
    assert len(GaussianMixture.fit_kmeans(POINTS, 4, generator=seeded()).weights) == 4
    assert (WITH_RANGE.truncate(0).trace, WITH_RANGE.truncate(2).trace) == (2.0, 2.0)
    assert WITH_RANGE.in_range(0.0, TINY).data_range == (0.0, TINY)
    assert shrunk(Gaussian(torch.zeros(2), torch.eye(2), torch.tensor([4.0, 2.0])), 1.0).eigenvalues.tolist() == [3, 3]
    assert shrunk(Gaussian(torch.zeros(2), torch.eye(2), torch.tensor([4.0, 2.0])), 0.0).eigenvalues.tolist() == [4, 2]
    assert effective_variance(LINE, 2, TINY) > 0
    assert effective_variance(LINE, 1, TINY, known_mean=True) > 0
    assert leading_pairs(lambda: [POINTS], 0, generator=seeded(), n_passes=2).tail_variance > 0
    narrow = torch.zeros(1, 2, dtype=torch.float64)
    assert dense_covariance(
        Gaussian.isotropic(torch.zeros(2), 1.0).posterior_covariance(narrow, 1.0, 1.0), narrow
    ).shape == (1, 2, 2)


def test_defaults_of_distributions_are_what_their_pages_say():
    """docs: curves of the toys have jitter 0.05 and are resolved to 1e-12 nats; a fit's ridge is 1e-5."""
    assert Ring().radius == 1.0
    assert LINE.tail_variance == 1.0
    assert Gaussian(torch.zeros(1), torch.eye(1), torch.ones(1)).tail_variance == 0.0
    for toy in (two_moons, spirals, swiss_roll):
        assert [default(toy, name) for name in ("jitter", "smallest_noise", "accuracy")] == [0.05, 0.0, 1e-12]
    assert (default(rings, "jitter"), default(rings, "radii")) == (0.05, (0.5, 1.0, 1.5, 2.0))
    assert (default(checkerboard, "cells"), default(checkerboard, "side")) == (4, 1.0)
    fits = (GaussianMixture.fit_kmeans, GaussianMixture.fit_clusters, GaussianMixture.fit_em)
    assert [default(fit, "ridge") for fit in fits] == 3 * [1e-5]
    assert {default(kind, "memory") for kind in (Empirical, ShardedEmpirical)} == {128 * 2**20}
    curve = Curve(circle, jitter=0.5)
    assert (curve.smallest_noise, curve.accuracy, curve.reach) == (0.0, 1e-12, 5.0)


def test_the_stated_range_of_a_toy_ends_eight_jitters_outside_its_curve():
    assert known_range("checkerboard") == (-2.0, 2.0)
    assert known_range("rings") == pytest.approx((-2.4, 2.4))
    assert known_range("two-moons") == pytest.approx((-1.4, 2.4))
