"""The Frechet distance against closed forms, its symmetries, and its standard error against independent replicates."""

import math

import pytest
import torch
from conftest import monte_carlo

from diffuscope.errors import InputError
from diffuscope.findings import frechet_distance


def normal(n, d, generator):
    return torch.randn(n, d, dtype=torch.float64, generator=generator)


def with_moments(mean, root, n, generator):
    """n points with exactly this mean and the covariance root^T root."""
    x = normal(n, len(mean), generator)
    x = x - x.mean(0)
    white = torch.linalg.qr(x)[0] * math.sqrt(n - 1)
    return white @ root + mean


def test_equal_covariances_leave_the_distance_of_the_means(generator):
    root, mean, other = normal(6, 6, generator), normal(1, 6, generator)[0], normal(1, 6, generator)[0]
    found = frechet_distance(with_moments(mean, root, 50, generator), with_moments(other, root, 80, generator))
    assert found.value == pytest.approx(float((mean - other).square().sum()), rel=1e-12)


def test_commuting_covariances_differ_by_their_standard_deviations(generator):
    basis = torch.linalg.qr(normal(5, 5, generator))[0]
    a, b = torch.tensor([[4.0, 1.0, 0.25, 1e-12, 0.0], [1.0, 9.0, 0.25, 1e-6, 2.0]], dtype=torch.float64)
    mean = torch.zeros(5, dtype=torch.float64)
    x = with_moments(mean, a.sqrt().diag() @ basis, 40, generator)
    y = with_moments(mean, b.sqrt().diag() @ basis, 60, generator)
    assert frechet_distance(x, y).value == pytest.approx(float((a.sqrt() - b.sqrt()).square().sum()), rel=1e-12)


def test_it_is_the_definition_where_covariances_do_not_commute(generator):
    """The trace of the root is the sum of the roots of the eigenvalues of S_1 S_2."""
    x, y = normal(30, 4, generator) @ normal(4, 4, generator), normal(50, 4, generator) @ normal(4, 4, generator) + 1
    s, t = torch.cov(x.mT), torch.cov(y.mT)
    root = torch.linalg.eigvals(s @ t).real.sqrt().sum()
    expected = (x.mean(0) - y.mean(0)).square().sum() + s.trace() + t.trace() - 2 * root
    assert frechet_distance(x, y).value == pytest.approx(float(expected), rel=1e-10)


@pytest.mark.parametrize("n", [500, 10], ids=["many", "fewer-than-features"])
def test_it_is_zero_between_equal_samples(n, generator):
    x = 100 * normal(n, 32, generator) + 1000
    assert frechet_distance(x, x[torch.randperm(n, generator=generator)]).value < 1e-18
    assert frechet_distance(x, x.clone()).standard_error < 1e-8


def test_fewer_points_than_features_give_the_distance_in_the_space_they_span(generator):
    """Points in a subspace: features that are constant add nothing."""
    x, y = normal(7, 5, generator), normal(9, 5, generator)
    basis = torch.linalg.qr(normal(40, 40, generator))[0][:5]
    inside, wide = frechet_distance(x, y), frechet_distance(x @ basis, y @ basis)
    assert wide.value == pytest.approx(inside.value, rel=1e-10)
    assert wide.standard_error == pytest.approx(inside.standard_error, rel=1e-10)


def test_rotation_and_order_change_nothing_and_scale_enters_squared(generator):
    x, y = normal(30, 6, generator), normal(40, 6, generator) @ normal(6, 6, generator) + 1
    basis, found = torch.linalg.qr(normal(6, 6, generator))[0], frechet_distance(x, y)
    for same in (
        frechet_distance(x @ basis + 3, y @ basis + 3),
        frechet_distance(y, x),
        frechet_distance(x.flip(0), y),
    ):
        assert same.value == pytest.approx(found.value, rel=1e-11)
        assert same.standard_error == pytest.approx(found.standard_error, rel=1e-11)
    assert frechet_distance(3 * x, 3 * y).value == pytest.approx(9 * found.value, rel=1e-11)
    assert frechet_distance(3 * x, 3 * y).standard_error == pytest.approx(9 * found.standard_error, rel=1e-11)


def test_float32_features_are_summed_in_float64(generator):
    x, y = normal(200, 8, generator).float() + 100, normal(200, 8, generator).float() + 100
    assert frechet_distance(x, y).value == frechet_distance(x.double(), y.double()).value


@pytest.mark.parametrize("sizes", [(300, 300), (200, 600)], ids=["equal", "unequal"])
def test_the_standard_error_is_the_spread_over_independent_samples(sizes, generator):
    """Distributions that differ, skewed; the bar is 4 standard errors of a standard deviation measured from so many
    replicates.
    """
    replicates, mix = 600, normal(4, 4, generator)

    def draw(n, shift):
        z = normal(n, 4, generator)
        return (z + 0.3 * (z.square() - 1)) @ (mix if shift else torch.eye(4).double()) + shift

    found = [frechet_distance(draw(sizes[0], 0.0), draw(sizes[1], 0.5)) for _ in range(replicates)]
    values = torch.tensor([f.value for f in found])
    stated = torch.tensor([f.standard_error for f in found]).square().mean().sqrt()
    kurtosis = float(((values - values.mean()) ** 4).mean() / values.var() ** 2)
    of_the_spread = math.sqrt((kurtosis - 1) / (4 * replicates))
    assert float(values.std() / stated) == pytest.approx(1, abs=4 * of_the_spread + 3 / min(sizes))


def test_between_samples_of_one_distribution_bias_and_standard_error_are_as_stated(generator):
    """Gaussian data: the closed form of the bias, to 1/n more; twice the variance."""
    n, replicates = 400, 500
    lam = torch.tensor([4.0, 2.0, 1.0, 0.5, 0.1, 0.02], dtype=torch.float64)
    found = [
        frechet_distance(normal(n, 6, generator) * lam.sqrt(), normal(n, 6, generator) * lam.sqrt())
        for _ in range(replicates)
    ]
    estimate = monte_carlo(torch.tensor([f.value for f in found]))
    pairs = lam[:, None] * lam / (lam[:, None] + lam) * (1 + torch.eye(6))
    expected = 2 / n * float(lam.sum() + pairs.sum() / 2)
    assert abs(estimate.mean - expected) < 4 * estimate.standard_error + 10 / n * expected
    stated = torch.tensor([f.standard_error for f in found]).square().mean()
    ratio = float(stated / torch.tensor([f.value for f in found]).var())
    assert ratio == pytest.approx(2, abs=0.6)  # a variance of so skewed a distribution is known to 7 %


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (torch.zeros(1, 3), torch.zeros(5, 3), "x: expected at least 2 rows, got 1"),
        (torch.zeros(5, 3), torch.zeros(5, 4), "y: expected rows of 3 features as in x, got 4"),
        (torch.zeros(5, 3), torch.full((5, 3), math.nan), "y: expected finite features"),
    ],
)
def test_samples_that_have_no_distance_are_refused(x, y, message):
    with pytest.raises(InputError, match=message):
        frechet_distance(x, y)


def test_the_standard_error_of_skewed_points_on_a_line_is_that_of_the_influences():
    """In one dimension T = s_2 / s_1: 2 (m_1 - m_2) x + (1 - T) x^2 of the first, mirrored for the other."""
    x = torch.tensor([[0.0], [0.1], [0.2], [4.0]], dtype=torch.float64)
    y = torch.tensor([[1.0], [1.2], [9.0], [2.0], [1.1]], dtype=torch.float64)
    ratio, shift = float(y.std() / x.std()), float(x.mean() - y.mean())
    variance = 0.0
    for rows, slope, factor in ((x, shift, ratio), (y, -shift, 1 / ratio)):
        centered = rows - rows.mean()
        influence = 2 * slope * centered + (1 - factor) * centered**2
        variance += float(influence.var()) / len(rows)
    assert frechet_distance(x, y).standard_error == pytest.approx(variance**0.5, rel=1e-9)
    assert frechet_distance(y, x).standard_error == pytest.approx(variance**0.5, rel=1e-9)
