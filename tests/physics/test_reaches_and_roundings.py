"""How far covariances and intervals reach, and what counts as rounding, just on either side."""

import math

import pytest
import torch
from scipy import stats

from diffuscope.errors import InputError
from diffuscope.exact import Gaussian
from diffuscope.physics import PROBLEMS, Grid, Matern, SquaredExponential, at_nodes, log_likelihood
from diffuscope.physics.example_readings import example_readings
from diffuscope.physics.grading.gaussian import moment_matched
from diffuscope.physics.operators import Burgers, Helmholtz
from diffuscope.physics.prior_chains import guidance
from diffuscope.physics.problems import burgers, helmholtz
from diffuscope.physics.solution_moments import gaussian_moments

DOUBLE = torch.float64


@pytest.mark.parametrize("length", [0.3, 2.0])
@pytest.mark.parametrize("smoothness", [None, 0.5, 1.5, 5.0])
def test_beyond_its_reach_a_covariance_is_below_rounding(length, smoothness):
    covariance = SquaredExponential(length, 4.0) if smoothness is None else Matern(length, smoothness, 4.0)
    assert covariance.reach > 0
    assert float(covariance(torch.tensor(covariance.reach, dtype=DOUBLE))) < 4e-16
    if smoothness is None:  # and hardly before: e^(-d^2 / 2 length^2) = 1e-16 at 8.58 lengths
        assert float(covariance(torch.tensor(0.99 * covariance.reach, dtype=DOUBLE))) > 4e-16


@pytest.mark.parametrize(
    ("lost", "guided"), [(5.0, 0.9), (-0.95, 0.9), (-1.05, 0.9 * math.exp(-0.05)), (-3, 0.9 * math.exp(-2))]
)
def test_a_trial_that_loses_a_nat_is_guided_as_one_that_loses_nothing_and_a_tenth_is_never_guided(lost, guided):
    assert float(guidance(torch.tensor([lost], dtype=DOUBLE))) == pytest.approx(guided, rel=1e-12)


def test_the_interval_of_a_gaussian_holds_nine_tenths():
    gaussian = Gaussian(
        torch.tensor([1.0, -2.0], dtype=DOUBLE), torch.eye(2, dtype=DOUBLE), torch.tensor([4.0, 0.25], dtype=DOUBLE)
    )
    found = gaussian_moments(gaussian)
    assert found.sd.tolist() == pytest.approx([2, 0.5])
    for mean, sd, low, high in zip(found.mean, found.sd, found.low, found.high, strict=True):
        covered = stats.norm.cdf(float(high), float(mean), float(sd)) - stats.norm.cdf(
            float(low), float(mean), float(sd)
        )
        assert covered == pytest.approx(0.9, abs=1e-12)


def test_draws_matched_in_pairs_have_the_mean_and_the_covariance_of_the_gaussian():
    axes = torch.linalg.qr(torch.randn(3, 3, dtype=DOUBLE, generator=torch.Generator().manual_seed(0))).Q
    gaussian = Gaussian(
        torch.tensor([1.0, -2.0, 0.5], dtype=DOUBLE), axes, torch.tensor([4.0, 1.0, 0.25], dtype=DOUBLE)
    )
    x = moment_matched(gaussian, 40, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(x.mean(0), gaussian.mean, rtol=1e-12, atol=1e-12)
    exact = (axes * gaussian.eigenvalues) @ axes.T
    torch.testing.assert_close(x.T.cov(correction=0), exact, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("off", "refused"), [(0.95e-8, True), (1.05e-8, False), (-0.95e-8, True), (-1.05e-8, False)])
def test_a_wavenumber_may_come_to_a_hundred_millionth_of_an_eigenvalue(off, refused):
    """pi^2 is one of -Laplacian on (0, 1): k^2 = pi^2 / (1 + off) is `off` of itself away."""
    wavenumber = math.pi / math.sqrt(1 + off)
    if refused:
        with pytest.raises(InputError, match="wavenumber: expected k\\^2 off the eigenvalues"):
            Helmholtz(Grid((65,)), wavenumber=wavenumber)
    else:
        assert Helmholtz(Grid((65,)), wavenumber=wavenumber).shift == pytest.approx(-(wavenumber**2), rel=1e-12)


@pytest.mark.parametrize(("off", "met"), [(0.95e-9, True), (1.05e-9, False), (-1.05e-9, False)])
def test_an_exact_reading_is_met_to_a_billionth_of_its_size(off, met):
    observation = at_nodes(torch.tensor([0]), (2,))
    y = torch.tensor([3.0], dtype=DOUBLE)
    x = torch.tensor([[3 + 4 * off, 7.0]], dtype=DOUBLE)  # of 1 + |y|
    assert float(log_likelihood(observation, x, y)) == (0 if met else -math.inf)


def test_problems_are_those_of_the_public_data():
    """Burgers' equation at 17 times 0.06 apart, of viscosity 0.01; 1.6 waves across the unit square."""
    made = burgers()
    times = made.equation.grid.lengths[0] / (made.equation.grid.shape[0] - 1)
    assert times == pytest.approx(0.06, rel=1e-12)
    assert made.equation.grid.lengths[1] == 1
    assert isinstance(made.equation, Burgers)
    assert made.equation.viscosity == 0.01
    waves = helmholtz().equation
    assert isinstance(waves, Helmholtz)
    square = waves.wavenumber**2
    assert round(math.sqrt(square) / (2 * math.pi), 1) == 1.6
    # between the eigenvalues 98.7 = 10 pi^2 and 128.3 = 13 pi^2
    assert 10 * math.pi**2 < square < 13 * math.pi**2
    assert square == pytest.approx(100)


def test_readings_of_an_example_are_of_its_solution_off_the_edges_with_their_noise() -> None:
    """Linear interpolation is exact for the solution x; 800 places within 5% to 95%, whose noise has four errors."""
    problem = PROBLEMS["poisson-1d"](5)
    x = torch.linspace(0, 1, 5, dtype=torch.float64)
    made = [example_readings(problem, torch.stack([5 + x, x]), 0.5, seed=seed) for seed in range(200)]
    places = torch.cat([each.points[:, 0] for each in made])
    assert 0.05 <= float(places.min()) < 0.055
    assert 0.945 < float(places.max()) <= 0.95
    off = (torch.cat([each.values for each in made]) - places) / 0.5
    assert abs(float(off.mean())) < 4 / 800**0.5
    assert abs(float(off.std()) - 1) < 4 / 1600**0.5
    exact = example_readings(problem, torch.stack([5 + x, x]), 0.0)
    assert torch.allclose(exact.values, exact.points[:, 0], rtol=0, atol=1e-15)
    assert exact.channels.tolist() == [1] * 4
    assert exact.noise.tolist() == [0.0] * 4
