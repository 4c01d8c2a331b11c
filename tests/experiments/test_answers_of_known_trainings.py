"""Answers about dials, spectra, pushes and supports where the costly pieces are known."""

import math
from types import SimpleNamespace

import pytest
import torch

from chart_reading import lines_of, marks_of
from diffuscope.exact import Gaussian
from diffuscope.experiments import Part, perturbation, spectral_bias, support, target_variance
from diffuscope.experiments.four_points import OU, POINTS
from diffuscope.experiments.target_variance.networks import Dialed
from diffuscope.experiments.target_variance.targets import DIAL
from diffuscope.findings import Line, Points, Repeated
from diffuscope.schedules import VE
from numbers_in_tests import double

DOUBLE = torch.float64
SETS = 4


# the dial of a target


def answer(dialed: Dialed, monkeypatch) -> tuple[dict[str, float], set[str], str]:
    """Values of claims, which of them hold, and what is said."""
    monkeypatch.setattr(target_variance, "dialed", lambda _: dialed)
    monkeypatch.setattr(target_variance, "chance", lambda *_: double(0.0, 0.25))
    part = Part("target-variance", "generalization", "s", 1)
    text = target_variance.generalization(part)
    return {claim.name: claim.value for claim in part.claims}, {c.name for c in part.claims if c.holds}, text


def test_a_dial_whose_networks_cannot_be_compared_at_equal_error_turns_all_the_same(monkeypatch):
    """The noise-free networks are closer already at the first look than their twins in the end."""
    k, s = torch.arange(len(DIAL), dtype=DOUBLE), torch.arange(SETS, dtype=DOUBLE)[:, None]
    train = torch.stack([4 - 0.5 * k + 0 * s, 3 - 0.25 * k + 0.001 * s * k])
    train[0, :, -1] = 2.9
    heldout = torch.stack([2 + 0.1 * k + 0 * s, 1 + 0.3 * k + 0.001 * s * k])
    values, held, text = answer(Dialed(0.1 * k + 0.001 * s * k, train, heldout), monkeypatch)
    assert held == {"learned", "unseen", "copies", "dial"}
    assert values["reached"] == 0
    assert math.isnan(values["speed"])
    assert "After equally many steps yes: from" in text
    assert "network is not shown to be merely farther" in text


def test_a_dial_of_speed_alone_is_not_one_in_every_respect(monkeypatch):
    """Differences that are not certain, and gone at equal error: at the second look it is the twin."""
    last = len(DIAL) - 1
    train, heldout = torch.full((2, 3, SETS, len(DIAL)), 3.0, dtype=DOUBLE)
    train[0], train[2, :, last] = 4.0, 3 - double(0.01, 2.0, 0.02, 2.5)
    heldout[:, :, last] += torch.stack([double(1, 1, 1, 1), double(0, 0, 0, 0), double(0.1, 3.0, 0.2, 5.0)])
    copied = torch.zeros(SETS, len(DIAL), dtype=DOUBLE)
    copied[:, last] = double(0.1, -0.1, 0.2, -0.1)
    values, held, text = answer(Dialed(copied, train, heldout), monkeypatch)
    assert held == {"speed", "reached"}
    assert (values["speed"], values["reached"]) == (0, 1)
    assert "After equally many steps not in every respect: from" in text
    assert "network is mostly farther along the same path: of a difference in held-out error of 2.075" in text


@pytest.mark.parametrize(("sets", "known"), [(1, False), (2, True)])
def test_what_is_left_at_equal_error_is_known_from_two_sets_on(sets, known, monkeypatch):
    """The networks of the other sets are closer already at the first look than their twins in the end."""
    last = len(DIAL) - 1
    train, heldout = torch.full((2, 3, SETS, len(DIAL)), 3.0, dtype=DOUBLE)
    train[0], train[2, :, last] = 4.0, 2.0
    train[0, sets:, last] = 2.0
    heldout[2, :, last] += 2.0
    values, held, _ = answer(Dialed(torch.zeros(SETS, len(DIAL), dtype=DOUBLE), train, heldout), monkeypatch)
    assert values["reached"] == sets / SETS
    assert math.isnan(values["speed"]) is not known
    assert ("speed" in held) is known


def test_nothing_is_a_share_of_no_difference(monkeypatch):
    last = len(DIAL) - 1
    train, heldout = torch.full((2, 3, SETS, len(DIAL)), 3.0, dtype=DOUBLE)
    train[0], train[2, :, last] = 4.0, 2.0
    values, held, _ = answer(Dialed(torch.zeros(SETS, len(DIAL), dtype=DOUBLE), train, heldout), monkeypatch)
    assert values["reached"] == 1
    assert math.isnan(values["speed"])
    assert "speed" not in held


@pytest.mark.parametrize("sign", [1, -1])
def test_what_is_left_at_equal_error_is_bounded_by_the_farther_end_of_its_interval(sign, monkeypatch):
    last = len(DIAL) - 1
    train, heldout = torch.full((2, 3, SETS, len(DIAL)), 3.0, dtype=DOUBLE)
    train[0], train[2, :, last] = 4.0, 2.0
    left = sign * double(0.1, 0.11, 0.12, 0.13)
    heldout[1, :, last] += left
    heldout[2, :, last] += 2.0
    values, _, _ = answer(Dialed(torch.zeros(SETS, len(DIAL), dtype=DOUBLE), train, heldout), monkeypatch)
    mean = Repeated.of(double(0.1, 0.11, 0.12, 0.13))
    assert values["speed"] == pytest.approx(mean.high / 2)


# spectra


@pytest.mark.parametrize(("count", "there"), [(2, False), (3, True)])
def test_an_exponent_needs_three_components_that_emerged(count, there, monkeypatch):
    """All emerge like 1 / variance at first; from the other start as many as are stated, at one time."""
    variances = spectral_bias.VARIANCES
    final = spectral_bias.theory.learned_variance(
        variances, sigma_0=spectral_bias.NETWORK_SCHEDULE.t_min, sigma_T=spectral_bias.NETWORK_SCHEDULE.t_max
    )
    steps = torch.cat([double(0.0), torch.logspace(-2, 3, 400, dtype=DOUBLE)])
    curves = final * torch.where(steps[:, None] >= 2 / variances, 1.0, 1e-4)
    few = final * torch.where(steps[:, None] >= 5.0, 1.0, 1e-4)
    few[:, count:] = 1e-4 * final[count:]
    answers = iter([(steps, curves), (steps, few)])
    starts = []
    monkeypatch.setattr(spectral_bias, "train_network", lambda sigma, _: starts.append(sigma) or next(answers))
    part = Part("spectral-bias", "network", "s", 1)
    text = spectral_bias.network(part)
    assert starts == [spectral_bias.SMALL_START, None]
    (order,) = part.claims
    assert order.value == pytest.approx(-1, abs=0.03)
    assert ("nan" in text) != there
    dots = marks_of(part.charts[1].panels[0], Points)
    assert [len(each.x) for each in dots] == [12, count]
    assert [y * x for x, y in zip(dots[0].x, dots[0].y, strict=True)] == pytest.approx([2.0] * 12, rel=0.03)


# pushes


def known_modes(monkeypatch, ratio, products):
    """The part about ten modes, whose gains are these multiples of their Gaussian's."""
    linear = Gaussian(
        torch.zeros(20, dtype=DOUBLE), torch.eye(20, dtype=DOUBLE), torch.linspace(4, 1, 20, dtype=DOUBLE)
    )
    models = SimpleNamespace(mixture=linear, of_mixture=linear, schedule=VE(0.01, 80.0), scale=2.0)
    asked = []

    def gains_at(denoiser, level, low, of, count, generator):  # noqa: ARG001
        asked.append((level, low, count))
        variances = of.eigenvalues[list(perturbation.COMPONENTS)]
        return ratio * (variances / (variances + level**2)).sqrt()[:, None]

    def start_and_sample(denoiser, level, low, of, generator):  # noqa: ARG001
        asked.append((level, low))
        return products

    known = {"digit_models": lambda _: models, "gains_at": gains_at, "start_and_sample": start_and_sample,
             "PUSHED": 4, "FEWER": 2, "CORRELATED": 4}  # fmt: skip
    for name, value in known.items():
        monkeypatch.setattr(perturbation, name, value)
    part = Part("perturbation", "modes", "s", 1)
    text = perturbation.modes(part)
    levels = 2 * torch.logspace(math.log10(perturbation.TOP), -1, 7, dtype=DOUBLE)
    assert [each[0] for each in asked] == pytest.approx([*levels.tolist(), float(levels[0])])
    assert [each[2] for each in asked[:-1]] == [4, 2, 2, 2, 2, 2, 2]
    assert {each[1] for each in asked} == {0.04}
    return {claim.name: claim.value for claim in part.claims}, part.charts[0].panels[0], text


@pytest.mark.parametrize("sign", [1, -1])
def test_mean_gains_are_compared_with_correlations_on_either_side(sign, monkeypatch):
    wave = double(-0.1, 0.1, -0.1, 0.1)
    products = torch.stack([0.8 + wave, 0.7 + wave, 0.6 + wave])
    ratio = torch.stack([0.8 + 0 * wave, 0.7 + sign * 0.2 + wave, 0.6 + 0.01 + wave])
    values, panel, text = known_modes(monkeypatch, ratio, products)
    error = math.sqrt(2 * float(wave.var()) / 4)
    assert values["stein"] == pytest.approx(0.2 / error)
    assert values["no-more"] == 0
    first = marks_of(panel, Line)[0]
    level = 2 * perturbation.TOP
    assert first.y[0] == pytest.approx(0.8 * math.sqrt(4 / (4 + level**2)))
    assert text.startswith(f"Less, on average: 0.80, {0.7 + sign * 0.2:.2f}, 0.61 of the Gaussian's gain at σ/α = 60")


def test_a_mean_gain_beyond_the_gaussian_s_counts_by_its_excess(monkeypatch):
    wave = double(-0.1, 0.1, -0.1, 0.1)
    ratio = torch.stack([0.8 + wave, 1.2 + wave, 0.6 + wave])
    values, _, _ = known_modes(monkeypatch, ratio, ratio)
    assert values["no-more"] == pytest.approx(0.2 / (float(wave.std()) / 2))


# the support


def test_samples_leave_the_support_by_the_noise_or_the_blur(monkeypatch):
    """On either side of the points by their noise, or by twice their blur."""
    sides = torch.cat([POINTS, POINTS])[:, None], torch.cat([torch.ones(4), -torch.ones(4)]).double()[:, None]
    asked = []

    def sample(sampler, denoiser, start, times, *, noise):  # noqa: ARG001
        end = float(times[-1])
        alpha, sigma = float(OU.alpha(end)), float(OU.sigma(end))
        asked.append((len(times) - 1, sigma / alpha))
        return alpha * sides[0] + sigma * sides[1] if isinstance(denoiser, support.FourPoints) else sides[0] + sides[1]

    def blurred(delta):
        return lambda x, t: sides[0] + 2 * delta * (x - sides[0])  # noqa: ARG005

    monkeypatch.setattr(support, "sample", sample)
    monkeypatch.setattr(support, "blurred", blurred)
    part = Part("support", "leaving", "s", 1)
    support.leaving(part)
    stopped, by_blur = part.claims
    assert stopped.value == pytest.approx(1, rel=1e-9)
    assert by_blur.value == pytest.approx(2, rel=1e-9)
    room = 4 / math.sqrt(2 * support.POINTS_PARTICLES)
    assert (stopped.tolerance, by_blur.tolerance) == pytest.approx((room, room))
    assert [steps for steps, _ in asked] == [support.POINTS_STEPS] * 8
    expected = [level for size in support.SIZES for level in (size, size / 100)]
    assert [level for _, level in asked] == pytest.approx(expected, rel=1e-6)
    lines = lines_of(part.charts[0].panels[0])
    assert lines["stopped at σ, exact score"].y == pytest.approx(lines["stopped at σ, exact score"].x)
    assert lines["t to 0, score blurred by δ"].y == pytest.approx([2 * size for size in support.SIZES])
    assert lines["equal"].y == lines["equal"].x == support.SIZES
