"""Typical paths beside the most likely one: exact bridges, rejection, and absorption, where the two differ."""

import math

import pytest
import torch
from torch import Tensor

from diffuscope.errors import InputError
from diffuscope.theory.paths import (
    Dynamics,
    absorbed_mean,
    absorbed_paths,
    conditioned_paths,
    least_action,
    linear_bridge,
)
from diffuscope.theory.paths.conditioned import ConditionedPaths, euler_maruyama
from numbers_in_tests import seeded

START, END = torch.tensor([-2.0, 2.0], dtype=torch.float64), torch.tensor([2.0, 1.0], dtype=torch.float64)
MIXING = torch.tensor([[-1.0, 2.0], [-0.5, -0.3]], dtype=torch.float64)
UNEQUAL = torch.tensor([[0.5, 0.2], [0.2, 0.3]], dtype=torch.float64)


def mesh(T: float, N: int) -> Tensor:
    return torch.linspace(0, T, N + 1, dtype=torch.float64)


def ornstein_uhlenbeck() -> Dynamics:
    return Dynamics(lambda x: -x, 0.7)


def mixing() -> Dynamics:
    return Dynamics(lambda x: x @ MIXING.T + 0.4, UNEQUAL)


def test_the_bridge_of_an_ornstein_uhlenbeck_process_has_the_closed_form_mean_and_variance() -> None:
    t, T = mesh(1.5, 30), 1.5
    found = linear_bridge(ornstein_uhlenbeck(), START, END, t)
    mean = (START * torch.sinh(T - t)[:, None] + END * torch.sinh(t)[:, None]) / math.sinh(T)
    torch.testing.assert_close(found.mean, mean, rtol=0, atol=1e-12)
    variance = 2 * 0.7 * torch.sinh(t) * torch.sinh(T - t) / math.sinh(T)
    torch.testing.assert_close(found.covariance, variance[:, None, None] * torch.eye(2).double(), rtol=0, atol=1e-12)


def test_samples_of_a_bridge_have_its_mean_and_covariance_and_end_where_they_must() -> None:
    found = linear_bridge(mixing(), START, END, mesh(1.0, 20))
    paths = found.sample(20_000, seeded())
    assert float((paths.states[:, -1] - END).abs().max()) < 1e-12
    assert torch.equal(paths.states[:, 0], START.expand(20_000, 2))
    inner = slice(1, -1)
    off = (paths.mean - found.mean)[inner] / paths.mean_error[inner]
    assert float(off.abs().max()) < 4.5  # standard errors, the largest of 38
    about = (paths.states - found.mean)[:, inner]
    products = about[..., 0] * about[..., 1]
    error = products.std(0) / len(products) ** 0.5
    assert float(((products.mean(0) - found.covariance[inner, 0, 1]) / error).abs().max()) < 4.5
    squares = about.square()
    error = squares.std(0) / len(squares) ** 0.5
    exact = torch.diagonal(found.covariance[inner], dim1=1, dim2=2)
    assert float(((squares.mean(0) - exact) / error).abs().max()) < 4.5


@pytest.mark.parametrize("functional", ["FW", "OM"])
def test_for_linear_drift_the_most_likely_path_is_the_mean_to_second_order(functional: str) -> None:
    gaps = []
    for N in (50, 100, 200):
        likely = least_action(mixing(), START, END, mesh(2.0, N), functional)  # pyright: ignore
        gaps.append(float((likely.states[0] - linear_bridge(mixing(), START, END, mesh(2.0, N)).mean).abs().max()))
    assert gaps[0] / gaps[1] == pytest.approx(4.0, abs=0.1)
    assert gaps[1] / gaps[2] == pytest.approx(4.0, abs=0.1)
    assert gaps[2] < 2e-4


def test_a_coordinate_without_noise_has_an_exact_bridge_too_whose_mean_is_the_most_likely_path() -> None:
    """A kinetic process: noise in the velocity alone."""
    A = torch.tensor([[0.0, 1.0], [-1.0, -0.4]], dtype=torch.float64)
    kinetic = Dynamics(lambda x: x @ A.T, torch.tensor([0.0, 0.6]))
    start, end, t = torch.tensor([0.0, 1.0]), torch.tensor([1.0, -0.5]), mesh(2.0, 200)
    bridge = linear_bridge(kinetic, start, end, t)
    likely = least_action(kinetic, start, end, t)
    assert float((likely.states[0] - bridge.mean).abs().max()) < 1e-4  # second order
    slope = bridge.mean[2:, 0] - bridge.mean[:-2, 0]
    torch.testing.assert_close(slope / (t[2] - t[0]), bridge.mean[1:-1, 1], rtol=0, atol=1e-3)  # dx = v dt


def test_kept_paths_have_the_mean_of_the_discrete_process_given_the_window() -> None:
    """Euler-Maruyama of a linear process is Gaussian; of a normal variable within a window the mean is known."""
    N, h, T, window = 20, 0.05, 1.0, 0.3
    dynamics = Dynamics(lambda x: -x, 0.5)
    start, end = torch.tensor([1.0]), torch.tensor([0.8])
    found = conditioned_paths(dynamics, start, end, mesh(T, N), window=window, attempts=60_000, generator=seeded())
    assert float((found.states[:, -1] - 0.8).abs().max()) <= window
    i = torch.arange(N + 1, dtype=torch.float64)
    m = (1 - h) ** i
    variance = 2 * 0.5 * h * (1 - (1 - h) ** (2 * i)) / (1 - (1 - h) ** 2)
    sd = float(variance[-1]) ** 0.5
    normal = torch.distributions.Normal(0.0, 1.0)
    low, high = ((torch.tensor(0.8 + side * window) - m[-1]) / sd for side in (-1, 1))
    inside = normal.cdf(high) - normal.cdf(low)
    ended = sd * (normal.log_prob(low).exp() - normal.log_prob(high).exp()) / inside
    exact = m + variance * (1 - h) ** (N - i) / variance[-1] * ended
    off = ((found.mean[1:, 0] - exact[1:]) / found.mean_error[1:, 0]).abs()
    assert float(off.max()) < 4  # standard errors
    share = len(found.states) / found.attempts
    assert share == pytest.approx(float(inside), abs=4 * (float(inside) / found.attempts) ** 0.5)


def test_quantiles_of_a_bridge_are_those_of_its_normal_distribution_within_their_errors() -> None:
    bridge = linear_bridge(ornstein_uhlenbeck(), START, END, mesh(1.0, 10))
    paths = bridge.sample(10_000, seeded(1))
    sd = torch.diagonal(bridge.covariance, dim1=1, dim2=2).sqrt()
    for share, deviations in ((0.05, -1.6448536269514722), (0.5, 0.0), (0.95, 1.6448536269514722)):
        value, error = paths.quantile(share)
        off = (value - bridge.mean - deviations * sd)[1:-1] / error[1:-1]
        assert float(off.abs().max()) < 4.5
        density = math.exp(-(deviations**2) / 2) / math.sqrt(2 * math.pi)
        exact = sd[1:-1] * math.sqrt(share * (1 - share) / 10_000) / density
        assert float((error[1:-1] / exact - 1).abs().max()) < 0.5  # a difference of two quantiles


@pytest.mark.parametrize("share", [0.01, 0.99])
def test_an_extreme_quantile_of_few_paths_has_an_error_up_to_the_outermost_path(share: float) -> None:
    """Of 0, 1, 2, 3 the quantile q is 3 q; a standard error of q is 0.05, which reaches beyond the last."""
    states = torch.arange(4, dtype=torch.float64)[:, None, None].expand(4, 2, 1)
    value, error = ConditionedPaths(mesh(1.0, 1), states, 4).quantile(share)
    step = math.sqrt(0.01 * 0.99 / 4)
    torch.testing.assert_close(value, torch.full((2, 1), 3 * share, dtype=torch.float64))
    torch.testing.assert_close(error, torch.full((2, 1), 3 * (step + 0.01) / 2, dtype=torch.float64))


def test_two_paths_of_a_bridge_have_a_mean_and_an_error_and_one_is_refused() -> None:
    bridge = linear_bridge(ornstein_uhlenbeck(), START, END, mesh(1.0, 4))
    paths = bridge.sample(2, seeded())
    first, second = paths.states
    torch.testing.assert_close(paths.mean, (first + second) / 2)
    torch.testing.assert_close(paths.mean_error, (first - second).abs() / 2)  # sd |a - b| / sqrt 2, over sqrt 2
    with pytest.raises(InputError, match="count: expected at least 2, got 1"):
        bridge.sample(1, seeded())


def test_the_mean_of_paths_that_are_absorbed_at_a_time_is_the_published_series() -> None:
    half = torch.tensor([0.5], dtype=torch.float64)
    for duration, known in ((1.0, -0.0346), (0.975, -0.0463)):
        found = absorbed_mean(0.5, duration, half, bounds=(-1.0, 1.0), diffusion=0.5)
        assert float(found) == pytest.approx(known, abs=5e-5)  # its digits


def test_far_from_the_other_bound_the_mean_is_that_of_a_three_dimensional_bessel_bridge() -> None:
    """To first reach 0 at T is to be the radius of a Brownian bridge in space; the mean of that is known."""
    T, t, start, D = 1.0, 0.4, 0.8, 0.5
    found = absorbed_mean(start, T, torch.tensor([t]).double(), bounds=(0.0, 30.0), diffusion=D)
    center, spread = start * (1 - t / T), math.sqrt(2 * D * t * (T - t) / T)
    z = center / spread  # E |N(mu, s^2 I_3)| = s [sqrt(2 / pi) exp(-z^2 / 2) + (z + 1 / z) erf(z / sqrt 2)]
    radius = math.sqrt(2 / math.pi) * math.exp(-(z**2) / 2) + (z + 1 / z) * math.erf(z / math.sqrt(2))
    assert float(found) == pytest.approx(spread * radius, rel=1e-6)  # terms and points of the series


def watched_mean(h: float, since: float) -> float:
    """The mean halfway of the walk below that is absorbed at the lower bound from `since` on, by its transition matrix.

    Bounds are watched at multiples of h alone, as by Euler-Maruyama, which is exact for a constant drift.
    """
    edges = torch.linspace(-1, 1, 601, dtype=torch.float64)
    x, dx, steps = (edges[1:] + edges[:-1]) / 2, 2 / 600, round(1 / h)
    normal = torch.distributions.Normal(torch.tensor(0.1 * h).double(), torch.tensor(h**0.5).double())
    onward = normal.log_prob(x - x[:, None]).exp() * dx
    below = normal.cdf(-1 - x)
    later = torch.zeros_like(x)
    for n in range(steps - 1, steps // 2 - 1, -1):
        later = onward @ later + (below if (n + 1) * h >= since - 1e-9 else 0.0)
    reached = normal.log_prob(x - 0.5).exp() * dx
    for _ in range(steps // 2 - 1):
        reached = reached @ onward
    weight = reached * later
    return float(weight @ x / weight.sum())


def test_under_absorption_the_mean_leaves_the_most_likely_path() -> None:
    """Between absorbing bounds, to the lower one at t in [0.95, 1]."""
    t = mesh(1.0, 400)
    walk = Dynamics(lambda x: torch.full_like(x, 0.1), 0.5, domain=(-1.0, 1.0))
    found = absorbed_paths(
        walk, torch.tensor([0.5]), t, lambda x: x[:, 0] < 0, since=0.95, attempts=50_000, generator=seeded()
    )
    mean, error = float(found.mean[200]), float(found.mean_error[200])
    assert mean == pytest.approx(watched_mean(0.0025, 0.95), abs=4 * error)
    likely = least_action(Dynamics(walk.drift, 0.5), torch.tensor([0.5]), torch.tensor([-1.0]), mesh(1.0, 40))
    assert float(likely.states[0, 20]) == pytest.approx(-0.25, abs=1e-9)  # straight
    assert mean - float(likely.states[0, 20]) > 5 * error


def test_bounds_that_are_watched_at_times_lie_farther_out_by_a_known_share_of_a_step() -> None:
    """0.5826 sigma sqrt(h) (Broadie, Glasserman & Kou 1997): the series with such bounds is that of the walk."""
    h, half = 0.0025, torch.tensor([0.5]).double()
    beyond = 1 + 0.5826 * h**0.5
    ends = torch.linspace(0.95, 1, 11).tolist()
    means = [absorbed_mean(0.5, T, half, bounds=(-beyond, beyond), diffusion=0.5) for T in ends]
    assert float(torch.stack(means).mean()) == pytest.approx(watched_mean(h, 0.95), abs=2e-3)  # of next order in h


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: linear_bridge(Dynamics(lambda x: -(x**3), 1.0), START, END, mesh(1, 4)), "drift: expected A x"),
        (
            lambda: linear_bridge(Dynamics(lambda x, t: -x * t[:, None], 1.0), START, END, mesh(1, 4)),
            "dynamics: expected a drift",
        ),
        (lambda: linear_bridge(ornstein_uhlenbeck(), START, END, mesh(1, 4).flip(0)), "times: expected increasing"),
        (
            lambda: linear_bridge(Dynamics(lambda x: -x, torch.tensor([1.0, 0.0])), START, END, mesh(1, 4)),
            "diffusion: expected noise",
        ),
        (lambda: linear_bridge(ornstein_uhlenbeck(), START, END, mesh(1, 4)).sample(1, seeded()), "count: expected"),
        (lambda: rejected(window=0.0), "window: expected a positive"),
        (lambda: rejected(window=1e-9), "attempts: expected more, or a wider window: 0 of 20"),
        (lambda: rejected(attempts=1), "attempts: expected at least 2"),
        (lambda: absorbed_mean(2.0, 1.0, mesh(0.5, 2)[1:], bounds=(-1.0, 1.0), diffusion=0.5), "start: expected"),
        (lambda: absorbed_mean(0.0, 1.0, mesh(1.0, 2), bounds=(-1.0, 1.0), diffusion=0.5), "times: expected"),
        (
            lambda: absorbed_paths(
                ornstein_uhlenbeck(),
                START,
                mesh(1, 4),
                lambda x: x[:, 0] < 0,
                since=0.5,
                attempts=9,
                generator=seeded(),
            ),
            "dynamics: expected a domain",
        ),
    ],
)
def test_an_ensemble_that_cannot_be_is_refused_in_one_line(call, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def rejected(window: float = 0.5, attempts: int = 20) -> object:
    return conditioned_paths(
        ornstein_uhlenbeck(), START, END, mesh(1, 4), window=window, attempts=attempts, generator=seeded()
    )


def test_a_simulated_step_is_drift_and_the_root_of_twice_the_matrix_where_it_is():
    """From the same random numbers: x - x h + sqrt(2 h D(x)) z with D = diag(x^2, 9), at rates far from one."""
    x = torch.tensor([[2.0, 1.0], [-3.0, 0.5]], dtype=torch.float64)
    dynamics = Dynamics(
        lambda x: -x, lambda x: torch.diag_embed(torch.stack([x[:, 0] ** 2, torch.full_like(x[:, 0], 9)], 1))
    )
    paths, _ = euler_maruyama(dynamics, x, torch.tensor([0.0, 0.25], dtype=torch.float64), seeded())
    z = torch.randn(2, 2, dtype=torch.float64, generator=seeded())
    deviations = torch.tensor([[2.0, 3.0], [3.0, 3.0]], dtype=torch.float64) * math.sqrt(2 * 0.25)
    torch.testing.assert_close(paths[:, 1], 0.75 * x + deviations * z, rtol=1e-12, atol=0)
