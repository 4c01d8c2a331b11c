"""More parts whose costly pieces have known answers: finite data, Poisson's equation, gaps, the reverse family."""

import math

import pytest
import torch

from chart_reading import lines_of, marks_of
from diffuscope.denoisers import ExactDenoiser
from diffuscope.exact import Gaussian
from diffuscope.experiments import Part, finite_data, gap_filling, poisson, reverse_family
from diffuscope.experiments.finite_data.digits import Digits
from diffuscope.findings import HeatMap, Line, Points
from numbers_in_tests import double

DOUBLE = torch.float64


# finite data


def along(*lengths: float) -> torch.Tensor:
    """Vectors of 64 numbers, of these lengths along the first axis."""
    return torch.tensor(lengths, dtype=DOUBLE)[:, None] * torch.eye(64, dtype=DOUBLE)[0]


def test_errors_of_denoisers_are_shown_with_the_distances_of_their_samples(monkeypatch):
    """Training digits at 0 and 10, a held-out one at 2: the unit is 2. Samples of the network are 1 and 3 away."""
    data = Digits(along(0.0, 10.0), along(2.0))
    networks = {1: ExactDenoiser(Gaussian.isotropic(along(1.0)[0], 1.0), finite_data.digits.SCHEDULE)}
    networks[100] = ExactDenoiser(Gaussian.isotropic(along(2.0)[0], 1.0), finite_data.digits.SCHEDULE)
    blurred = [along(0.5, 0.5), along(1.0, 1.0), along(2.0, 2.0)]
    made = iter([along(10.0, 0.0), along(4.0, 5.0), along(1.0, 3.0), *blurred])
    errors = iter([0.9, 0.4, 0.1, 0.2, 0.3])
    monkeypatch.setattr(finite_data.Digits, "load", lambda: data)
    monkeypatch.setattr(finite_data.Digits, "error", lambda *_: next(errors))
    monkeypatch.setattr(finite_data.digits, "trained", lambda *_: networks)
    monkeypatch.setattr(finite_data.digits, "generated", lambda *_: next(made))
    monkeypatch.setattr(finite_data, "SHOWN", 2)
    part = Part("finite-data", "overfitting", "s", 1)
    text = finite_data.overfitting(part)
    claims = {claim.name: claim.value for claim in part.claims}
    assert claims == {"recites": 0, "network-new": pytest.approx(0.5)}
    panel = part.charts[0].panels[0]
    (exact,), lines = marks_of(panel, Points), lines_of(panel)
    assert (exact.x, exact.y) == ((0.0,), (0.0,))
    assert lines["exact for blurred digits"].x == (0.0, 0.1, 0.2, 0.3)
    assert lines["exact for blurred digits"].y == pytest.approx((0.0, 0.25, 0.5, 1.0))
    assert lines["network in training"].x == (0.9, 0.4)
    assert lines["network in training"].y == pytest.approx((2.0, 0.5))  # the lower of two medians
    assert (lines["held-out digits"].x, lines["held-out digits"].y) == ((0.0, 0.9), (1.0, 1.0))
    assert "half of the network's are farther than 0.50" in text
    of_exact, of_network = (marks_of(shown, HeatMap)[0].values for shown in part.charts[1].panels)
    assert of_exact[0][0] == 1.0  # cut at the range of pixels; below it the same digit
    assert (of_network[0][9], of_network[9][0]) == (1.0, 0.0)


def test_held_out_digits_are_most_likely_at_a_blur_as_large_as_they_are_far(monkeypatch):
    """One training digit, and one at 1.6 from it: their distance per root of pixels is 0.2."""
    data = Digits(along(0.0), along(1.6))
    monkeypatch.setattr(finite_data.Digits, "load", lambda: data)
    part = Part("finite-data", "unseen", "s", 1)
    text = finite_data.unseen(part)
    assert part.claims[0].value == 0.2

    def likelihood(blur, square):
        return -math.log(2 * math.pi * blur**2) / 2 - square / (2 * blur**2) / 64

    lines = lines_of(part.charts[0].panels[0])
    for name, square in (("training digits", 0.0), ("held-out digits", 1.6**2)):
        assert lines[name].x == finite_data.WIDTHS[2:]
        expected = [likelihood(blur, square) for blur in finite_data.WIDTHS[2:]]
        assert lines[name].y == pytest.approx(expected, rel=1e-6, abs=1e-6)
    fall = likelihood(0.2, 1.6**2) - likelihood(0.02, 1.6**2)
    assert f"is {fall:.0f} nats per pixel lower, that of the training digits {math.log(10):.1f} higher" in text


# Gaussian data in reverse


def entropy_of(mean, variance, other_mean, other_variance):
    """KL of two normal distributions."""
    ratio = variance / other_variance
    return (ratio - 1 - math.log(ratio) + (mean - other_mean) ** 2 / other_variance) / 2


def test_gaussian_data_start_from_a_normal_distribution_that_is_not_theirs():
    begin = reverse_family.HORIZON
    alpha, sigma = reverse_family.level(begin)
    assert alpha**2 + sigma**2 == pytest.approx(1)
    lost = entropy_of(0.0, 1.0, 1.3 * alpha, 0.25 * alpha**2 + sigma**2)
    for eta in (0.0, 1.0, 2.0):
        assert reverse_family.gaussian(eta).relative_entropy(begin) == pytest.approx(lost, rel=1e-9)
    assert reverse_family.gaussian(0.0).relative_entropy(0.1) == pytest.approx(lost, rel=1e-9)  # the flow keeps it
    late = reverse_family.gaussian(1.0).relative_entropy(0.1)
    assert 0 < late < reverse_family.gaussian(0.5).relative_entropy(0.1) < lost
    assert float(reverse_family.log_wrong(double((0.3,)))) == pytest.approx(
        float(reverse_family.WRONG.log_prob(double((0.3,)), 1.0, 1e-6)), rel=1e-6
    )


# Poisson's equation


def solutions(z: torch.Tensor) -> torch.Tensor:
    """Fields of channels f and u whose u has these coordinates in the modes."""
    mean, columns = poisson.closed_form()
    u = mean + z @ columns.T
    return torch.stack([torch.zeros_like(u), u], 1)


def test_samples_of_a_posterior_are_compared_mode_by_mode(monkeypatch):
    """Sixteen samples at +-sqrt 8 along every mode have the covariance I. The first mode is stretched by sqrt 2."""
    z = math.sqrt(8) * torch.cat([torch.eye(8, dtype=DOUBLE), -torch.eye(8, dtype=DOUBLE)])
    z[:, 0] *= math.sqrt(2)
    fields = solutions(z)
    monkeypatch.setattr(poisson, "run", lambda *_: poisson.Runs(fields, fields))
    part = Part("poisson", "moments", "s", 1)
    text = poisson.moments(part)
    claims = {claim.name: claim for claim in part.claims}
    assert claims["closed-form"].holds
    assert claims["boundary"].value == pytest.approx(0, abs=1e-12)
    assert claims["samples"].value == pytest.approx(4 / math.sqrt(2))  # one, in errors of sqrt(2 / 16)
    _, columns = poisson.closed_form()
    sigma = columns @ columns.T
    off = float((torch.outer(columns[:, 0], columns[:, 0]) / sigma.norm()).norm())
    by_chance = math.sqrt((float(sigma.trace()) ** 2 + float(sigma.square().sum())) / 16) / float(sigma.norm())
    assert (claims["frobenius"].value, claims["frobenius"].required) == pytest.approx((off, 3 * by_chance))
    assert (
        f"all 44 numbers of mean and covariance are within their sampling errors; the covariance is {off:.1%}" in text
    )
    band, exact, sampled = (part.charts[0].panels[k].marks[j] for k, j in ((0, 0), (1, 0), (1, 1)))
    spread = sigma.diagonal().sqrt()
    mean = poisson.closed_form()[0]
    assert isinstance(band, Line)
    assert band.low == pytest.approx((mean - 1.645 * spread).tolist())
    assert band.high == pytest.approx((mean + 1.645 * spread).tolist())
    assert isinstance(exact, Line)
    assert isinstance(sampled, Line)
    assert exact.y == pytest.approx(spread.tolist())
    assert sampled.y == pytest.approx(fields[:, 1].std(0).tolist())


def test_a_mean_that_is_off_counts_in_its_standard_errors(monkeypatch):
    z = math.sqrt(8) * torch.cat([torch.eye(8, dtype=DOUBLE), -torch.eye(8, dtype=DOUBLE)])
    z[:, 3] -= 0.5
    fields = solutions(z)
    monkeypatch.setattr(poisson, "run", lambda *_: poisson.Runs(fields, fields))
    part = Part("poisson", "moments", "s", 1)
    poisson.moments(part)
    assert {claim.name: claim.value for claim in part.claims}["samples"] == pytest.approx(0.5 * 4)


@pytest.mark.parametrize(("larger", "square"), [(3, 6.5), (1, 2.5)])
def test_residuals_of_states_are_their_noise_at_every_level(larger, square, monkeypatch):
    """States whose residual at every node is 2, or 3 or 1, sigma / h^2: mean squares above and below 6."""
    grid = poisson.interval()
    h = grid.spacing[0]
    asked = []

    def run(guide, n, generator, low):  # noqa: ARG001
        asked.append((n, low))
        noisy, clean = torch.zeros(2, 2, 2, 65, dtype=DOUBLE)
        noisy[0, 0], noisy[1, 0] = -2 * low / h**2, larger * low / h**2
        clean[:, 1] = low
        clean[:, 0] = 8e-3 * low
        return poisson.Runs(noisy, clean)

    monkeypatch.setattr(poisson, "run", run)
    part = Part("poisson", "residual", "s", 1)
    text = poisson.residual(part)
    assert asked == [(poisson.SAMPLES // 4, low) for low in poisson.LEVELS]
    raw, denoised = part.claims
    error = abs(larger**2 - 4) / 2  # of two squares
    assert raw.value == pytest.approx(abs(square - (6 + h**4)) / error)
    assert denoised.value == pytest.approx(8e-3 * h**2 / 4, rel=1e-3)
    state, theory, after = marks_of(part.charts[0].panels[0], Line)
    assert state.y == pytest.approx([math.sqrt(square) * low / h**2 for low in poisson.LEVELS])
    assert theory.y == pytest.approx([math.sqrt(6) * low / h**2 for low in poisson.LEVELS])
    assert after.y == pytest.approx([8e-3] * 4, rel=1e-3)
    assert f"at σ = 0.01 it is {math.sqrt(square) * 0.01 / h**2:.0f}" in text


# gaps


def test_coarse_steps_with_the_true_score_are_claimed_in_units_of_their_tolerance(monkeypatch):
    """Known masses but for that of 30 steps, which is off by a tenth; at 1,000 steps nothing is left."""
    masses = {10: 0.3, 30: 0.174, 100: 0.0043, 300: 1e-3, 1000: 0.0001}
    monkeypatch.setattr(gap_filling, "QUANTILES", 100_000)
    asked = []

    def sampled(score, schedule, x, times):  # noqa: ARG001
        asked.append((tuple(x.shape), float(times[0]), float(times[-1]), len(times) - 1))
        inside = torch.arange(100_000) < round(1e5 * masses[len(times) - 1])
        return torch.where(inside, 0.5, 0.0).double()[None, :, None]

    monkeypatch.setattr(gap_filling, "quenched_sample", sampled)
    part = Part("gap-filling", "discretization", "s", 1)
    text = gap_filling.discretization(part)
    assert asked == [
        ((1, 100_000, 1), 1.0, pytest.approx(epsilon), n)
        for epsilon in gap_filling.EPSILONS
        for n in (10, 30, 100, 300, 1000)
    ]
    euler, empty = part.claims
    assert euler.value == pytest.approx(0.1 / (4 * math.sqrt(0.074 / 100_000) + 0.5e-4), rel=1e-6)
    assert (empty.value, empty.required) == pytest.approx((1e-4, 1e-3))
    for epsilon in gap_filling.EPSILONS:
        line = lines_of(part.charts[0].panels[0])[f"ε = {epsilon:g}"]
        assert (line.x, line.y) == ((10, 30, 100, 300, 1000), pytest.approx((0.3, 0.174, 0.0043, 1e-3, 1e-4)))
    assert "At the published 30 steps 0.174 (ε = 0.0001), 0.174 (ε = 0.001), 0.174 (ε = 0.01)" in text
