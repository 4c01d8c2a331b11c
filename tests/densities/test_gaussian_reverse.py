"""The reverse family on Gaussian data, against the moment equations and the published numbers."""

import math
from fractions import Fraction

import pytest
from scipy.integrate import quad, solve_ivp

from diffuscope.densities.gaussian_reverse import GaussianReverse
from diffuscope.errors import InputError
from diffuscope.schedules import VE, VP, Cosine

OU = VP(2.0, 2.0)


def published(eta):
    """Data N(1.3, 0.25), dX = -X dt + sqrt 2 dB to T = 1.5, started from N(0, 1)."""
    return GaussianReverse(OU, 1.3, 0.25, 1.5, 0.0, 1.0, float(eta))


@pytest.mark.parametrize(
    ("eta", "nats", "half_digit"),
    [(0, 0.044069, 5e-7), (0.5, 0.014779, 5e-7), (1, 5.651e-4, 5e-8), (2, 1.22e-9, 5e-12)],
)
def test_the_relative_entropy_that_each_dial_leaves_is_the_published_one(eta, nats, half_digit):
    assert abs(published(eta).relative_entropy(1.5) - 0.044069) <= 5e-7
    assert abs(published(eta).relative_entropy(0.0) - nats) <= half_digit


@pytest.mark.parametrize("eta", [0, 0.5, 1, 2])
@pytest.mark.parametrize("schedule", [OU, VP(), VE(), Cosine()])
def test_what_is_lost_is_the_integral_of_the_dissipation(eta, schedule):
    start, end = float(schedule.time_of_noise_to_signal(3.0)), float(schedule.time_of_noise_to_signal(0.05))
    flow = GaussianReverse(schedule, 1.3, 0.25, start, 0.4, 1.7, float(eta))
    lost, _ = quad(flow.dissipation, end, start, epsabs=1e-13, epsrel=1e-13, limit=400)
    assert abs(flow.relative_entropy(start) - flow.relative_entropy(end) - lost) <= 1e-10


def test_noise_early_and_none_late_leave_the_relative_entropy_of_the_switch():
    """KL at the end = KL at the start less what was dissipated while eta = 1; the deterministic end loses nothing."""
    early = published(1)
    late = GaussianReverse(OU, 1.3, 0.25, 0.4, *early.distribution(0.4), 0.0)
    lost, _ = quad(early.dissipation, 0.4, 1.5, epsabs=1e-14, epsrel=1e-13)
    assert 0 < late.relative_entropy(0.0) == pytest.approx(early.relative_entropy(1.5) - lost, abs=1e-10)


@pytest.mark.parametrize("eta", [0, 0.5, 1, 2])
def test_mean_and_variance_solve_their_differential_equations(eta):
    schedule, m, s2 = VP(), 1.3, 0.25
    flow = GaussianReverse(schedule, m, s2, 0.9, 0.4, 1.7, float(eta))

    def rate(tau, moments):
        t = 0.9 - tau
        f, g2 = float(schedule.f(t)), float(schedule.g_squared(t))
        mean, V = flow.exact(t)
        pull = (1 + eta**2) / 2 * g2 / V
        return [-f * moments[0] - pull * (moments[0] - mean), 2 * (-f - pull) * moments[1] + eta**2 * g2]

    solved = solve_ivp(rate, (0, 0.88), [0.4, 1.7], method="DOP853", rtol=1e-12, atol=1e-13).y[:, -1]
    mean, variance = flow.distribution(0.02)
    assert abs(solved[0] - mean) <= 1e-10
    assert abs(solved[1] - variance) <= 1e-10


def test_the_entropy_of_nearly_equal_distributions_does_not_cancel():
    for excess in (0.99e-4, 1.01e-4):  # on both sides of the series
        flow = GaussianReverse(VE(), 0.0, 1.0, 1.0, 0.0, 2.0 * (1 + excess), 0.0)
        exact = (excess**2 / 2 - excess**3 / 3 + excess**4 / 4) / 2
        assert math.isclose(flow.relative_entropy(1.0), exact, rel_tol=1e-6)


def test_the_series_near_equal_variances_has_all_digits():
    """An excess of 2^-14 is exact; without its fifth power the series would be 9e-14 off, with it 5e-18."""
    e = Fraction(1, 2**14)
    exact = sum((-1) ** k * e**k / k for k in range(2, 12)) / 2
    flow = GaussianReverse(VE(), 0.0, 1.0, 1.0, 0.0, 2.0 * (1 + float(e)), 0.0)
    assert flow.relative_entropy(1.0) == pytest.approx(float(exact), rel=2e-15)


def test_bad_input_is_refused():
    with pytest.raises(InputError, match="variance"):
        GaussianReverse(OU, 0.0, -1.0, 1.0, 0.0, 1.0, 1.0)
    with pytest.raises(InputError, match="eta"):
        GaussianReverse(OU, 0.0, 1.0, 1.0, 0.0, 1.0, -1.0)
    with pytest.raises(InputError, match="alpha = 0"):
        GaussianReverse(Cosine(), 0.0, 1.0, 1.0, 0.0, 1.0, 1.0)


def test_what_is_left_of_a_wrong_variance_keeps_its_digits_however_small():
    # with d = 0: KL = (r - 1)^2 / 4 to leading order, where r - 1 = (r_T - 1) rho^(eta^2), here about 1e-13
    flow = GaussianReverse(OU, 0, 0.25, 1.5, 0, 1, 4)
    ratio = (0.25 + float(OU.noise_to_signal(1e-3)) ** 2) / (0.25 + float(OU.noise_to_signal(1.5)) ** 2)
    excess = (1 / flow.exact(1.5)[1] - 1) * ratio**16
    assert abs(excess) < 1e-12
    assert flow.relative_entropy(1e-3) == pytest.approx(excess**2 / 4, rel=1e-9)


@pytest.mark.parametrize("place", range(1, 7))
def test_numbers_that_are_not_finite_are_refused(place):
    given = [OU, 1.3, 0.25, 1.5, 0.0, 1.0, 1.0]
    given[place] = math.nan
    with pytest.raises(InputError):
        GaussianReverse(*given)
