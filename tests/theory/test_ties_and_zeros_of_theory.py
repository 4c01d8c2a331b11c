"""Values at which a formula would divide zero by zero, and values that are exactly at a threshold."""

import math

import pytest
import torch
from scipy.stats import beta

from diffuscope.errors import InputError
from diffuscope.exact import Gaussian
from diffuscope.theory import (
    checkpoints,
    compared,
    copied,
    emergence_times,
    fit_power_law,
    moment_batch,
    onset_forecast,
)
from diffuscope.theory.generated_variance import entire_exponential_integral
from diffuscope.theory.geometry import (
    Trajectories,
    components_for,
    crossing_levels,
    outside,
    principal_directions,
    principal_shares,
)
from diffuscope.theory.memorization_onset import CHANCE, SHARE, chance_is_small, copies_surely
from diffuscope.theory.variance import Bins, Fourier, GaussianBumps, Jackknifed
from diffuscope.theory.variance.feature_moments import _inverse
from diffuscope.theory.variance.kernel_flow import divided_difference
from numbers_in_tests import double, seeded


def test_a_variance_emerges_at_a_time_where_it_is_exactly_half_way() -> None:
    times, final = double(1.0, 2.0, 4.0), double(4.0)
    assert emergence_times(times, double(1.0, 2.0, 2.0)[:, None], final).tolist() == [2.0]
    assert emergence_times(times, double(1.0, 1.5, 1.9)[:, None], final).isnan().all()
    from_zero = emergence_times(double(0.0, 2.0, 4.0), double(1.0, 4.0, 4.0)[:, None], final)
    assert from_zero.isnan().all()  # in log time it would be at 0
    assert emergence_times(double(0.0, 2.0, 4.0), double(1.0, 1.0, 4.0)[:, None], final).tolist() == pytest.approx(
        [math.sqrt(8)]
    )


def test_a_power_law_is_fitted_to_positive_points_of_different_x() -> None:
    x, y = double(0.0, 1.0, 2.0, 4.0, 8.0), double(7.0, 3.0, 12.0, 48.0, 0.0)
    found = fit_power_law(x, y)
    assert (found.count, found.exponent) == (3, pytest.approx(2.0))
    with pytest.raises(InputError, match="at least three points"):
        fit_power_law(double(2.0, 2.0, 2.0), double(1.0, 2.0, 3.0))


def test_the_entire_exponential_integral_vanishes_at_zero() -> None:
    """Ein(x) = x - x^2 / 4 + ..."""
    assert entire_exponential_integral(double(0.0, 1e-3)).tolist() == pytest.approx([0.0, 1e-3 - 0.25e-6], abs=1e-9)


def test_shares_of_points_on_a_line_are_one_and_zeros() -> None:
    """The other eigenvalues are zero but for rounding."""
    line = torch.arange(6.0).double()[:, None, None] * torch.randn(20, 9, generator=seeded(), dtype=torch.float64)
    shares = principal_shares(line)
    assert bool((shares >= 0).all())
    assert shares[:, 0].tolist() == pytest.approx([1.0] * 20)
    assert components_for(double(0.5, 0.25, 0.25)[None], 0.75).tolist() == [2]
    assert components_for(double(0.5, 0.25, 0.25)[None], 0.5).tolist() == [1]


@pytest.mark.parametrize(
    ("shares", "level"),
    [((0.6, 0.8), 12.0), ((0.0, 1.0), None), ((0.8, 0.6), math.nan), ((0.9, 0.95), math.nan), ((0.6, 0.6), math.nan)],
)
def test_a_share_crosses_its_threshold_once_and_for_good(shares, level) -> None:
    found = float(crossing_levels(double(16.0, 9.0), double(*shares)[:, None]))
    if level is None:
        assert 9.0 <= found <= 16.0
    else:
        assert found == pytest.approx(level, nan_ok=True)


def test_a_share_that_is_at_its_threshold_is_not_below_it() -> None:
    at = double(math.sqrt(0.5), math.sqrt(0.5), math.sqrt(0.5))[:, None]
    assert crossing_levels(double(16.0, 9.0, 4.0), at, float(at[0])).isnan().all()


def test_a_path_in_a_plane_is_nowhere_outside_it() -> None:
    angles = torch.linspace(0, 1.5, 30, dtype=torch.float64)
    plane = torch.linalg.qr(torch.randn(7, 2, generator=seeded(), dtype=torch.float64)).Q
    states = (torch.stack([angles.cos(), angles.sin()], 1) @ plane.T)[:, None]
    path = Trajectories(angles, angles.cos(), angles.sin(), states, states[-1:].expand(30, 1, 7))
    found = outside(path)
    assert bool((found >= 0).all())
    assert float(found.max()) < 1e-12


@pytest.mark.parametrize(("rows", "width", "most"), [(4, 9, 3), (9, 4, 4)])
def test_directions_are_as_many_as_points_less_one_or_as_coordinates(rows: int, width: int, most: int) -> None:
    points = torch.randn(rows, width, generator=seeded())
    assert len(principal_directions(points, most)) == most
    assert len(principal_directions(points, 1)) == 1
    with pytest.raises(InputError, match=f"count: expected 1 .. {most} directions"):
        principal_directions(points, most + 1)


def test_a_model_and_a_denoiser_that_answer_the_mean_do_not_differ() -> None:
    zero = torch.zeros(1, 2)
    found = compared(zero, zero, [zero], mean=torch.zeros(2), basis=torch.eye(2), alpha=1, sigma=2)
    for of in ("denoised", "centered", "score"):
        assert float(found.pooled(of)) == 0
        assert float(found.per_sample(of)) == 0
    assert float(found.cosine) == 0
    assert found.by_band.tolist() == [[0.0, 0.0]]


def test_a_third_of_the_distance_to_the_second_is_no_copy() -> None:
    examples = torch.tensor([[0.0], [4.0]])
    assert copied(torch.tensor([[1.0], [0.99]]), examples).tolist() == [False, True]


def test_counts_decide_by_their_exact_bounds() -> None:
    """Clopper and Pearson's bounds are quantiles of beta distributions."""
    for copies in range(1, 40):
        assert copies_surely(copies, 1000) == (beta.ppf(0.025, copies, 1001 - copies) > SHARE)
    assert [chance_is_small(0, n) for n in (182, 183)] == [False, True]
    assert 1 - 0.025 ** (1 / 183) < CHANCE < 1 - 0.025 ** (1 / 182)


def test_the_last_checkpoint_is_the_last_step() -> None:
    assert checkpoints(50) == (50,)
    assert checkpoints(55) == (50, 55)
    assert checkpoints(54) == (50,)


def test_a_slope_through_two_points_has_the_error_of_checkpoints_alone() -> None:
    x = double(-1.0, 1.0).numpy()
    slope, error = onset_forecast._slope(x, 2 * x)
    assert (slope, error) == pytest.approx((2.0, onset_forecast.CHECKPOINTS / math.sqrt(2)))
    # four points off the line by 1: their residual square is 4, of two degrees of freedom
    x = double(-1.0, -1.0, 1.0, 1.0).numpy()
    slope, error = onset_forecast._slope(x, 2 * x + double(1.0, -1.0, 1.0, -1.0).numpy())
    assert (slope, error) == pytest.approx((2.0, math.sqrt(4 / 2 / 4)))


def test_moments_of_a_gaussian_without_variance_in_some_directions_are_finite() -> None:
    basis = torch.linalg.qr(torch.randn(9, 9, generator=seeded(), dtype=torch.float64)).Q[:, :2]
    x_0, _ = moment_batch(Gaussian(torch.zeros(9).double(), basis, double(3.0, 1.0), 0.0))
    expected = basis @ torch.diag(double(3.0, 1.0)) @ basis.T
    torch.testing.assert_close(x_0.T @ x_0 / len(x_0), expected, rtol=0, atol=1e-12)


def test_a_variance_of_zero_has_an_interval_without_width() -> None:
    low, high = Jackknifed(double(0.0, 2.0), double(0.0, 0.5), 10).interval()
    assert (float(low[0]), float(high[0])) == (0.0, 0.0)
    assert float(low[1]) < 2.0 < float(high[1])
    assert math.sqrt(float(low[1] * high[1])) == pytest.approx(2.0)


def test_features_end_where_their_interval_does() -> None:
    assert Bins(0, 6, 3)(double(-1.0, 0.0, 6.0, 9.0)).argmax(1).tolist() == [0, 0, 2, 2]
    for cosines, sines in ((2, 1), (1, 2), (0, 1), (1, 0)):
        found = Fourier(2 * math.pi, cosines, sines)(double(0.3))[0]
        waves = [math.cos(0.3 * k) for k in range(1, cosines + 1)] + [math.sin(0.3 * k) for k in range(1, sines + 1)]
        assert found.tolist() == pytest.approx([1.0, *waves])


@pytest.mark.parametrize("side", [-1, 1])
def test_bumps_vanish_far_away_on_either_side(side: int) -> None:
    bumps = GaussianBumps(-1, 1, 3)
    far = torch.full((1, 1), side * 1e3, dtype=torch.float64)
    assert bumps.combine(far, torch.ones(1, 3).double()).flatten().tolist() == [0.0]


def test_the_divided_difference_of_decays_is_symmetric_and_their_slope_where_they_are_equal() -> None:
    rho = double(2.0, 0.5, 0.5)
    found = divided_difference(rho, 1.5)
    torch.testing.assert_close(found, found.T)
    assert float(found[1, 2]) == pytest.approx(1.5 * math.exp(-0.75))
    assert float(found[0, 0]) == pytest.approx(1.5 * math.exp(-3.0))
    assert float(found[0, 1]) == pytest.approx((math.exp(-0.75) - math.exp(-3.0)) / 1.5)


def test_a_matrix_that_is_singular_but_for_rounding_is_inverted_with_its_ridge() -> None:
    v = torch.randn(6, 1, generator=seeded(), dtype=torch.float64)
    found = _inverse(v @ v.T, 1e-3)
    size = float(v.square().sum())
    expected = (torch.eye(6, dtype=torch.float64) - v @ v.T / (size + 1e-3)) / 1e-3
    torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-7)
