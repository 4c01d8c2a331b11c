"""Pieces of the experiments on digits, images and their trajectories, at numbers that follow by hand."""

import math
from types import SimpleNamespace

import pytest
import torch

from chart_reading import marks_of
from diffuscope.data import load_data
from diffuscope.denoisers import ExactDenoiser
from diffuscope.exact import Gaussian
from diffuscope.experiments import (
    Part,
    cifar_moments,
    emergence,
    held_out_leak,
    painters,
    perturbation,
    sample_quality,
    variations,
)
from diffuscope.experiments.cifar_images import Cifar
from diffuscope.experiments.held_out_leak import Errors
from diffuscope.experiments.variations import Moved
from diffuscope.findings import Groups, Line, Points, Rule
from diffuscope.samplers import model_times
from diffuscope.schedules import VE
from diffuscope.theory.geometry import Trajectories, emerged_share
from numbers_in_tests import double, seeded

DOUBLE = torch.float64


# trajectories


def rotation(levels: int = 5, batch: int = 3) -> Trajectories:
    """States alpha x_0 + sigma z, in a schedule with alpha^2 + sigma^2 = 4, of samples and noise at right angles."""
    angle = torch.linspace(math.pi / 2, 0.2, levels, dtype=DOUBLE)
    alphas, sigmas = 2 * angle.cos(), 2 * angle.sin()
    x_0 = torch.tensor([[2.0, 0.0, 0.0]], dtype=DOUBLE).expand(batch, -1)
    z = torch.tensor([[0.0, 3.0, 0.0]], dtype=DOUBLE).expand(batch, -1)
    states = alphas[:, None, None] * x_0 + sigmas[:, None, None] * z
    return Trajectories(angle, alphas, sigmas, states, x_0.expand(levels, -1, -1))


def test_trajectories_are_shown_in_their_plane_on_the_circle():
    run = rotation()
    panel = painters.plane_panel(run, shown=2)
    first, second, circle = marks_of(panel, Line)
    angle = torch.linspace(math.pi / 2, 0.2, 5, dtype=DOUBLE).tolist()
    for line in (first, second):
        assert line.x[:-1] == pytest.approx([math.cos(a) for a in angle], abs=1e-12)
        assert line.y[:-1] == pytest.approx([math.sin(a) for a in angle])
        assert (line.x[-1], line.y[-1]) == pytest.approx((1, 0), abs=1e-12)  # the sample itself
    assert panel.equal_scales
    assert (circle.style, len(circle.x)) == ("dotted", 50)
    assert [math.hypot(x, y) for x, y in zip(circle.x, circle.y, strict=True)] == pytest.approx([1] * 50)
    assert (circle.x[0], circle.y[0], circle.x[-1], circle.y[-1]) == pytest.approx((1, 0, 0, 1), abs=1e-15)


def test_the_times_of_ddim_are_every_nineteenth_down_to_the_first():
    times = painters.ddim_times().tolist()
    assert (times[0], times[1], times[-2], times[-1], len(times)) == (951, 932, 20, 1, 51)


def test_emergence_is_shown_beside_that_of_gaussian_data(monkeypatch):
    monkeypatch.setattr(emergence, "SHOWN", (0, 2))
    ratios = double(8.0, 2.0, 0.5)
    shares = torch.ones(3, 4, 3, dtype=DOUBLE) * double(0.25, 0.5, 1.0)[:, None, None] * double(1, 2, 3)
    variances, levels = double(9.0, 4.0, 1.0), double(3.5, 2.5, 1.5)
    part = Part("emergence", "network", "s", 1)
    emergence.chart_emergence(part, "a network", at_ratios(ratios), shares, variances, levels)
    curves, scatter = part.charts[0].panels
    one, three, gaussian, last = marks_of(curves, Line)
    assert (one.label, three.label, gaussian.label, last.label) == ("component 1", "component 3", "Gaussian", "")
    for line in (one, three):
        assert (line.x, line.y) == ((8.0, 2.0, 0.5), (0.25, 0.5, 1.0))
    expected = emerged_share(variances, ratios, last=0.5)
    assert gaussian.y == pytest.approx(expected[:, 0].tolist())
    assert last.y == pytest.approx(expected[:, 2].tolist())
    (dots,), (root,) = marks_of(scatter, Points), marks_of(scatter, Line)
    assert (dots.x, dots.y) == ((9.0, 4.0, 1.0), (3.5, 2.5, 1.5))
    assert (root.x, root.y) == ((9.0, 4.0, 1.0), (3.0, 2.0, 1.0))


def at_ratios(ratios) -> Trajectories:
    """Trajectories of zeros at these levels."""
    ones, nothing = torch.ones(len(ratios), dtype=DOUBLE), torch.zeros(len(ratios), 1, 1, dtype=DOUBLE)
    return Trajectories(ones, ones, ratios, nothing, nothing)


def test_trajectories_begin_with_noise_of_the_first_level_and_a_noised_sample(monkeypatch):
    seen = {}

    def kept(denoiser, sampler, x, times):  # noqa: ARG001
        seen.update(x=x, times=times)
        return rotation()

    monkeypatch.setattr(emergence, "follow", kept)
    denoiser = ExactDenoiser(Gaussian.isotropic(torch.zeros(64, dtype=DOUBLE), 1.0), VE(0.01, 20.0))
    emergence.followed(denoiser, 0.5, seeded())
    assert seen["x"].shape == (emergence.FOLLOWED, 64)
    assert float(seen["x"].std()) == pytest.approx(20, rel=0.03)
    assert (float(seen["times"][0]), float(seen["times"][-1])) == pytest.approx((20.0, 0.01))
    alone = seen["x"]
    emergence.followed(denoiser, 0.5, seeded(), Gaussian.isotropic(torch.full((64,), 7.0, dtype=DOUBLE), 0.0))
    torch.testing.assert_close(seen["x"], alone + 7)


# pushes


def test_numbers_are_listed_with_two_digits():
    assert perturbation.listed(double(1.005, 0.333)) == "1.00, 0.33"


def falling() -> Gaussian:
    """64 components of falling variance in a turned basis."""
    turn = torch.linalg.qr(torch.randn(64, 64, dtype=DOUBLE, generator=seeded()))[0]
    return Gaussian(torch.ones(64, dtype=DOUBLE), turn, torch.linspace(4.0, 0.2, 64, dtype=DOUBLE))


def test_a_gaussian_s_start_and_sample_are_one_coordinate_in_units_of_their_deviations(monkeypatch):
    monkeypatch.setattr(perturbation, "CORRELATED", 50)
    monkeypatch.setattr(perturbation, "LEVELS", 200)
    data = falling()
    denoiser = ExactDenoiser(data, VE(0.01, 80.0))
    x = perturbation.states_at(denoiser, 3.0, 50, seeded())
    found = perturbation.start_and_sample(denoiser, 3.0, 0.02, data, seeded())
    places = list(perturbation.COMPONENTS)
    z = ((x - 1) @ data.eigenvectors[:, places]) / (data.eigenvalues[places] + 9).sqrt()
    torch.testing.assert_close(found, z.T**2, rtol=5e-3, atol=5e-3)


def test_states_of_a_level_have_the_variance_of_data_and_noise():
    data = Gaussian.isotropic(torch.zeros(64, dtype=DOUBLE), 1.0)
    x = perturbation.states_at(ExactDenoiser(data, VE(0.01, 80.0)), 2.0, 400, seeded())
    assert x.shape == (400, 64)
    assert float(x.var()) == pytest.approx(5, rel=5 * math.sqrt(2 / 25_600))


def test_gains_of_a_gaussian_are_those_of_its_flow(monkeypatch):
    """sqrt(lambda / (lambda + sigma^2)) per push, to the error of Heun's method and of the last denoising."""
    monkeypatch.setattr(perturbation, "LEVELS", 200)
    data = falling()
    found = perturbation.gains_at(ExactDenoiser(data, VE(0.01, 80.0)), 3.0, 0.02, data, 4, seeded())
    variances = data.eigenvalues[list(perturbation.COMPONENTS)]
    expected = (variances / (variances + 9)).sqrt()
    torch.testing.assert_close(found, expected[:, None].expand(3, 4), rtol=5e-3, atol=1e-4)


def made_moved(**changes) -> Moved:
    """Distances of two samples and two directions after each push: 8, 4, 2 for principal ones and so on."""
    steps = len(variations.PUSHED_AFTER)
    fall = 2.0 ** -torch.arange(steps, dtype=DOUBLE)[:, None, None]
    spread = double((0.5, 2.0), (2.0, 0.5))  # geometric mean 1, arithmetic mean 5/4
    kinds = {"principal": 8.0, "random": 2.0, "expected": 4.0, "expected_random": 1.0} | changes
    made = {name: size * fall * spread for name, size in kinds.items()}
    return Moved(rotation(len(model_times(exact(), variations.STEPS)), 1), 1.0, **made)


def exact() -> ExactDenoiser:
    return ExactDenoiser(Gaussian.isotropic(torch.zeros(3, dtype=DOUBLE), 1.0), VE(0.01, 20.0))


def test_pushes_are_compared_by_geometric_means():
    moved = made_moved()
    assert moved.over_random(0) == pytest.approx(4)
    assert moved.over_random(2) == pytest.approx(4)
    assert moved.over_first(moved.random) == pytest.approx(2.0 ** -(len(variations.PUSHED_AFTER) - 1))


# Gaussians of images


def test_energies_of_a_gaussian_by_hand():
    known = Gaussian(double(3, 4), torch.eye(2, dtype=DOUBLE), double(4, 1))
    assert cifar_moments.denoised_energy(known, 2.0) == pytest.approx(25 + 16 / 8 + 1 / 5)
    assert cifar_moments.score_energy(known, 2.0) == pytest.approx(1 / 8 + 1 / 5)
    images, noise = double((1, 0), (0, 2)), double(((1, 1), (0, 0)), ((2, 0), (0, 1)))
    found = cifar_moments._energy(lambda x, alpha, _: x * alpha, images, noise, 3.0)
    assert found.tolist() == [(16 + 9 + 0 + 4) / 2, (49 + 0 + 25) / 2]
    assert cifar_moments._apart({1.0: 2.2, 2.0: 3.0}, {1.0: 2.0, 2.0: 4.0}) == pytest.approx(0.25)


def test_a_spectrum_is_shown_and_counted_and_energies_beside_the_published(monkeypatch):
    """Variances 8, 4, 2, 1, 1: half of it is the first, and 80% need three."""
    monkeypatch.setattr(cifar_moments, "SHARES", {0.5: 1, 0.8: 3, 0.99: 5})
    monkeypatch.setattr(cifar_moments, "SPECTRUM", (8.0, 4.1))
    monkeypatch.setattr(cifar_moments, "DENOISED", {2.0: 10.0})
    monkeypatch.setattr(cifar_moments, "SCORE", {1.0: 2.0, 2.0: 1.0})
    known = Gaussian(double(3, 4, 0, 0, 0), torch.eye(5, dtype=DOUBLE), double(8, 4, 2, 1, 1))
    monkeypatch.setattr(cifar_moments, "cifar", lambda: SimpleNamespace(gaussian=known))
    part = Part("cifar-moments", "images", "s", 1)
    text = cifar_moments.images(part)
    claims = {claim.name: claim.value for claim in part.claims}
    denoised, score = 25 + 64 / 12 + 16 / 8 + 4 / 6 + 2 / 5, 1 / 9 + 1 / 5 + 1 / 3 + 2 / 2
    assert claims["trace"] == pytest.approx(16)
    assert claims["mean"] == pytest.approx(25)
    assert claims["spectrum"] == pytest.approx(0.1)
    assert claims["counts"] == 0
    assert claims["denoised"] == pytest.approx(abs(denoised / 10 - 1))
    later = 1 / 12 + 1 / 8 + 1 / 6 + 2 / 5
    assert claims["score"] == pytest.approx(max(abs(score / 2 - 1), abs(later - 1)))
    assert "5 of 5 components have 99% of the variance" in text
    energies, spectrum = part.charts
    for panel, at_two in zip(energies.panels, (denoised, later), strict=True):
        (line,), (rule,) = marks_of(panel, Line), marks_of(panel, Rule)
        assert (len(line.x), line.x[0], line.x[-1]) == (61, pytest.approx(100), pytest.approx(0.01))
        assert (rule.at, rule.axis) == (pytest.approx(math.sqrt(8)), "x")
        near = min(range(61), key=lambda k: abs(math.log(line.x[k] / 2)))
        assert line.y[near] == pytest.approx(at_two, rel=0.2)
    assert (marks_of(energies.panels[0], Points)[0].x, marks_of(energies.panels[1], Points)[0].y) == (
        (2.0,),
        (2.0, 1.0),
    )
    (values,) = marks_of(spectrum.panels[0], Line)
    assert (values.x, values.y) == ((1, 2, 3, 4, 5), (8, 4, 2, 1, 1))


# training points and held-out points


def constant(*values) -> Gaussian:
    """What answers every state by these values."""
    return Gaussian.isotropic(double(*values), 0.0)


def test_errors_are_means_over_coordinates_at_the_same_states():
    x_0 = double((1, 2), (3, 4))
    found = held_out_leak.errors(constant(1, 0), constant(3, 3), x_0, 0.5, seeded())
    assert found.empirical.tolist() == [2, 10]
    assert found.gaussian.tolist() == [2.5, 0.5]
    assert found.lead.mean == pytest.approx(-4.5)
    assert (found.of("empirical").mean, found.of("Gaussian").mean) == (6, 1.5)
    assert held_out_leak.told(found) == "empirical 6, Gaussian 1.5"


def test_a_flip_is_a_lead_of_the_memorizer_at_training_points_and_of_the_gaussian_at_others():
    one, other = Errors(double(1, 2, 3), double(2, 4, 6)), Errors(double(2, 5, 4), double(1, 2, 3))
    part = Part("held-out-leak", "digits", "s", 1)
    held_out_leak.claim_flip(part, "Digits", {"training": one, "held-out": other})
    training, heldout = part.claims
    assert (training.name, heldout.name) == ("digits-training", "digits-held-out")
    assert training.value == pytest.approx(2 / (1 / math.sqrt(3)))
    assert heldout.value == pytest.approx((5 / 3) / (math.sqrt(4 / 3) / math.sqrt(3)))
    assert training.required == heldout.required == 4


def test_errors_of_images_are_in_units_of_pixels_from_minus_one_to_one(monkeypatch):
    """In the range of the digits, [0, 16], the unit is 8: an error of 8^2 is one. 256 points against 128 known ones."""
    data = load_data("digits")
    known = Cifar(data, Gaussian.isotropic(torch.zeros(data.event_shape, dtype=DOUBLE), 1.0), 8.0)
    monkeypatch.setattr(held_out_leak, "cifar", lambda: known)
    monkeypatch.setattr(held_out_leak, "Empirical", lambda _: constant(0.0))
    made, asked = iter([(double(1, 2, 3), double(4, 5, 7)), (double(6, 8, 9), double(4, 6, 5))]), []

    def errors(empirical, gaussian, points, sigma, generator):  # noqa: ARG001
        asked.append((len(points), sigma))
        return Errors(*(64 * each for each in next(made)))

    monkeypatch.setattr(held_out_leak, "errors", errors)
    part = Part("held-out-leak", "images", "s", 1)
    held_out_leak.images(part)
    assert asked == [(256, 40.0)] * 2
    claims = {claim.name: claim for claim in part.claims}
    assert claims["training-empirical"].value == pytest.approx(2)
    assert claims["held-out-gaussian"].value == pytest.approx(5)
    error = 1 / math.sqrt(3)
    assert claims["training-empirical"].tolerance == pytest.approx(4 * error * math.sqrt(3))
    (bars,) = marks_of(part.charts[0].panels[0], Groups)
    heights = dict(zip(bars.labels, bars.heights, strict=True))
    assert heights["empirical"] == pytest.approx((2, 23 / 3))
    assert heights["Gaussian"] == pytest.approx((16 / 3, 5))


# pictures


def test_a_blur_has_binomial_weights_and_repeats_edges():
    image = torch.zeros(1, 1, 4, 4)
    image[0, 0, 1, 2] = 16
    inside = torch.tensor([[0, 1, 2, 1], [0, 2, 4, 2], [0, 1, 2, 1], [0, 0, 0, 0]], dtype=torch.float32)
    assert torch.equal(sample_quality.blurred(image)[0, 0], inside)
    image = torch.zeros(1, 1, 4, 4)
    image[0, 0, 0, 0] = 16  # a corner, which stands for four
    assert sample_quality.blurred(image)[0, 0, :2, :2].tolist() == [[9, 3], [3, 1]]


def test_samples_begin_at_the_largest_noise_and_have_as_many_calls_as_is_said(monkeypatch):
    seen = {}

    def kept(denoiser, sampler, start, times):  # noqa: ARG001
        seen.update(start=start, times=times)
        return start

    monkeypatch.setattr(sample_quality, "finish", kept)
    network = sample_quality.Preconditioned(
        torch.nn.Identity(),
        VE(0.02, 30.0),
        1.0,
        event_shape=(1, 8, 8),
        data_range=(-1.0, 1.0),  # type: ignore[arg-type]
    )
    assert sample_quality.generated(network, 50, seeded()).shape == (50, 1, 8, 8)
    assert float(seen["start"].std()) == pytest.approx(30, rel=0.06)
    assert len(seen["times"]) == sample_quality.NFE  # one call per step, and the last is a denoise
    assert (float(seen["times"][0]), float(seen["times"][-1])) == pytest.approx((30, 0.02))
