"""The pieces of experiments where a sign decides: densities, orders, gaps and what is more than what."""

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from answering import planted

from chart_reading import marks_of
from diffuscope.experiments import (
    Part,
    boundary_map,
    burgers_sparse,
    cross,
    dps_is_biased,
    drift_diffusion,
    entropy,
    feature_kernel,
    finite_data,
    gap_filling,
    kernel_flow,
    naive_variance,
    rates,
    reverse_family,
    support,
    two_unit_network,
)
from diffuscope.experiments import reverse_diffusion_is_a_bridge as bridge
from diffuscope.experiments.double_moon import bumps
from diffuscope.experiments.learning_curve import made_denoisers
from diffuscope.experiments.memorization_transition import _distance
from diffuscope.findings import HeatMap, Repeated
from diffuscope.theory.paths import Lagrangian, violation
from diffuscope.theory.variance import Decomposition, Fourier, GaussianBumps, Products
from numbers_in_tests import double, seeded

DOUBLE = torch.float64


# densities, features and shares


def test_the_normal_density_of_a_curve():
    x = double(0.5, 0.5 + math.sqrt(0.3))
    top = 1 / math.sqrt(2 * math.pi * 0.3)
    assert dps_is_biased.normal(x, 0.5, 0.3).tolist() == pytest.approx([top, top * math.exp(-0.5)], rel=1e-12)


def test_bumps_are_one_at_their_centers_and_of_the_stated_width():
    """24 of width 0.6 on [-3.5, 3.5]."""
    at = bumps.features(double(-3.5, 3.5, -3.5 + 0.6)[:, None])
    assert at.shape == (3, 24)
    assert [float(at[0, 0]), float(at[1, -1]), float(at[2, 0])] == pytest.approx([1, 1, math.exp(-0.5)], rel=1e-12)


def test_the_slopes_at_a_mode_are_those_of_the_article():
    """s' = -1/v + (m/v)^2 / cosh^2(m x / v) with v = 0.41 noised and v = 0.25 clean, at the mode m = 1.6."""
    x = torch.linspace(-4.8, 4.8, 1921, dtype=DOUBLE)[:, None]
    for sigma, v, printed in ((bumps.SIGMA, 0.41, -2.44), (1e-9, 0.25, -4.00)):
        exact = -1 / v + (1.6 / v) ** 2 / math.cosh(1.6**2 / v) ** 2
        found = bumps.slope(bumps.exact_score(x, sigma), x, bumps.MODE)
        assert found == pytest.approx(exact, abs=1e-3)
        assert round(found, 2) == printed


def test_shares_of_points_are_those_of_the_nearest():
    at = finite_data.POINTS.repeat_interleave(torch.tensor([1, 2, 3, 4]))[:, None]
    assert finite_data.shares(at, 1e-9).tolist() == pytest.approx([0.1, 0.2, 0.3, 0.4], rel=1e-12)


def test_a_map_of_shares_covers_its_square_and_turns_with_its_data():
    """The line of examples is its own image under a turn by half: so is the map."""
    panel = boundary_map.map_panel("line", 0.5)
    heat = marks_of(panel, HeatMap)[0]
    assert (heat.x_edges[0], heat.x_edges[-1], heat.y_edges[0], heat.y_edges[-1]) == (-2, 2, -2, 2)
    values = torch.tensor(heat.values, dtype=DOUBLE)
    torch.testing.assert_close(values, values.flip(0, 1), rtol=1e-9, atol=1e-12)


def test_noise_costs_a_model_entropy_and_scores_obey_their_identities():
    for t in (0.2, 0.7):
        assert max(entropy.score_moments(t)) < 1e-10


# regions


def test_more_on_the_cross_than_on_the_edges_is_more_and_not_less():
    """The statistic that is decomposed, and the one that is claimed, on three samples of five and one."""
    kept = {}

    def caught(ensemble, data, statistic, few, **times):  # noqa: ARG001
        kept["statistic"] = statistic
        return terms()

    points = cross.points_at(0.0)
    between = (points + points.roll(1, 0)) / 2
    field = torch.cat([0.5 * points[:3], between[:1], points[:1]])[None]
    with (
        planted("diffuscope.experiments.cross.train_linear", lambda *_, **__: None),
        planted("diffuscope.experiments.cross.quenched_sample", lambda *_: field.repeat(2, 1, 1)),
        planted("diffuscope.experiments.cross.decompose", caught),
    ):
        one = cross.square.__wrapped__("Gaussian", 0.0, 1)
    assert kept["statistic"](field).tolist() == pytest.approx([0.4])
    assert one.beyond.mean == pytest.approx(0.4)
    assert {name: float(each.mean()) for name, each in one.masses.items()} == pytest.approx(
        {"near": 0.2, "edge": 0.2, "cross": 0.6}
    )


@pytest.mark.parametrize(("low", "high", "off"), [(0.6, 0.7, 0.1), (0.3, 0.45, 0.05), (0.4, 0.6, 0.0)])
def test_a_mass_is_off_by_how_far_it_is_outside_the_range_in_four_standard_errors(low, high, off):
    masses = {"near": double(0.45, 0.55, 0.5, 0.5)}
    error = Repeated.of(masses["near"]).error
    found = cross.outside(cross.Square(torch.zeros(4, 1, 2, dtype=DOUBLE), masses, terms()), 0.0, "near", low, high)
    assert found == pytest.approx(off / (4 * error), rel=1e-9)


@pytest.mark.parametrize("mean", [0.2, 0.3])
def test_the_deviation_of_a_gap_mass_is_its_size_in_units_of_the_tolerance(mean, monkeypatch):
    monkeypatch.setattr(gap_filling.Generated, "gap", lambda _, steps: Repeated(mean, 0.01, steps))
    panel = object.__new__(gap_filling.Generated)
    room = 4 * math.sqrt(2) * 0.01 + 0.015
    assert gap_filling.deviation(panel, 30, 0.25) == pytest.approx(0.05 / room, rel=1e-9)


def terms(**means):
    zero = Repeated(0.0, 0.01, 100)
    found = {name: Repeated(value, 0.01, 100) for name, value in means.items() if name != "unresolved"}
    names = ("true", "total", "discretization", "bias", "variance", "interaction", "remaining")
    return Decomposition(**{name: found.get(name, zero) for name in names}, unresolved=means.get("unresolved", 0.0))


SOUND = {
    "Gaussian": {"total": -0.2, "discretization": -0.12},
    "Fourier": {"total": 0.3, "bias": 0.18, "variance": -0.03},
}


@pytest.mark.parametrize(
    ("features", "change", "failing"),
    [
        ("Gaussian", {}, set()),
        ("Gaussian", {"discretization": -0.102}, set()),
        ("Gaussian", {"discretization": -0.098}, {"edges"}),
        ("Fourier", {"bias": 0.153}, set()),
        ("Fourier", {"bias": 0.147}, {"bias"}),
        # three panels, each of error 0.01: their mean has 0.01 / sqrt 3, of which Student's quantile is 3.39
        ("Fourier", {"variance": -0.0200}, set()),
        ("Fourier", {"variance": -0.0190}, {"variance"}),
        ("Fourier", {"variance": 0.03}, {"variance"}),
        ("Fourier", {"unresolved": 0.0098}, set()),
        ("Gaussian", {"unresolved": 0.0102}, {"resolved"}),
    ],
)
def test_terms_of_the_cross_are_claimed_as_halves_of_the_whole_and_beyond_their_errors(features, change, failing):
    settings = {name: SOUND[name] | (change if name == features else {}) for name in SOUND}
    part = Part("cross", "why", "s", 1)
    with planted("diffuscope.experiments.cross.square", lambda name, *_: SimpleNamespace(why=terms(**settings[name]))):
        cross.why(part)
    assert {claim.name for claim in part.claims if not claim.holds} == failing


@pytest.mark.parametrize("wide", [0.0, 0.1])
def test_the_gap_holds_what_lies_within_a_half(wide):
    """A uniform density on [-2, 2]: a quarter; cells cut by an end count with their share."""
    x = torch.linspace(-2 + 0.05, 2 - 0.05, 40, dtype=DOUBLE) if wide else torch.linspace(-1.96, 1.96, 50, dtype=DOUBLE)
    assert naive_variance.Solved(x, torch.full_like(x, 0.25)).gap == pytest.approx(0.25, rel=1e-9)


# learning


def test_kernel_flow_moves_at_first_by_the_kernel_with_the_targets_and_forgets_a_random_start(monkeypatch):
    """After a short time h the score is h k(x, x_i) target_i / P; a start f loses h k(x, x_i) f(x_i) / P."""
    P, h = 40, 1e-5
    monkeypatch.setattr(kernel_flow, "RUNS", 1)
    generator = seeded()
    x_0 = kernel_flow.DATA[torch.randint(2, (P,), generator=generator)]
    x = x_0 + kernel_flow.LEVEL * torch.randn(x_0.shape, dtype=DOUBLE, generator=generator)
    start = torch.randn(kernel_flow.TERMS, 1, dtype=DOUBLE, generator=generator)
    at = kernel_flow.features(kernel_flow.POINTS)
    K = at @ kernel_flow.features(x).T
    moved = h * (K @ ((x_0 - x) / kernel_flow.LEVEL**2))[:, 0] / P
    (found,) = kernel_flow.trained(P, (h,), seeded())[:, 0]
    torch.testing.assert_close(found, moved, rtol=1e-3, atol=1e-9)
    (begun,) = kernel_flow.trained(P, (h,), seeded(), random_start=True)[:, 0]
    lost = h * (K @ (kernel_flow.features(x) @ start))[:, 0] / P
    torch.testing.assert_close(begun - found - (at @ start)[:, 0], -lost, rtol=1e-3, atol=1e-9)


def test_made_denoisers_come_to_rest_on_a_plateau_or_rise_from_it():
    assert made_denoisers.PLATEAU[0] == pytest.approx(1 + 2 * math.exp(-1 / 15), rel=1e-12)
    assert (np.diff(made_denoisers.PLATEAU)[:10] < 0).all()
    assert made_denoisers.PLATEAU[-1] == pytest.approx(1, abs=1e-12)
    assert made_denoisers.TURNING[-1] == pytest.approx(1.05, abs=1e-12)


def test_the_distance_of_two_networks_is_in_units_of_that_between_other_starts():
    one = double((0, 0), (3, 0))[:, None]
    other = one + double(0, 1)
    # other starts are 3 apart along x and 1 along y
    assert _distance(one, other).tolist() == pytest.approx([1 / math.sqrt(10)], rel=1e-12)


def test_ratios_of_variances_between_models_are_positive(monkeypatch):
    monkeypatch.setattr(feature_kernel, "PLANE_MODELS", 6)
    monkeypatch.setattr(feature_kernel, "PLANE_SAMPLES", 30)
    features = Products((GaussianBumps(-1.5, 1.5, 3),) * 2, Fourier(1.0, 1))
    mean, low, high = feature_kernel.edge_over_center(features, seeded())
    assert bool((low > 0).all() & (low <= mean).all() & (mean <= high).all())


def test_validation_fields_are_the_last_of_the_training_set():
    fields, kept = torch.arange(150.0)[:, None], {}
    with (
        planted(
            "diffuscope.experiments.burgers_sparse.public_fields",
            lambda name: SimpleNamespace(train=fields, heldout=fields),  # noqa: ARG005
        ),
        planted(
            "diffuscope.experiments.burgers_sparse.answer", lambda _, data, prefix: kept.update({prefix: data}) or ""
        ),
    ):
        burgers_sparse.public(Part("burgers-sparse", "public", "s", 1))
    data = kept["public-"]
    assert data.train[:, 0].tolist() == list(range(50))
    assert data.validation[:, 0].tolist() == list(range(50, 150))
    assert data.test[:, 0].tolist() == list(range(40))


# paths


def test_the_energy_of_a_path_at_rest_is_minus_half_the_square_of_the_drift():
    """At (3, 0.1) the drift leads to (3.25, 0.35)."""
    resting = two_unit_network.START.expand(two_unit_network.NODES, 2)
    energy = two_unit_network.left_energy(resting)
    torch.testing.assert_close(energy, torch.full_like(energy, -(0.25**2 + 0.25**2) / 2), rtol=1e-6, atol=0)


def test_translations_with_their_gauge_are_symmetries_of_the_bridge_and_without_its_sign_are_not():
    case = bridge.mixture_case()
    points = bridge.random_points(case, seeded())
    lagrangian, gauged = Lagrangian(case.reverse, "OM"), bridge.gauged_translation(case)
    assert violation(lagrangian, gauged, *points) < 1e-11
    gauge = gauged.gauge
    assert gauge is not None
    turned = replace(gauged, gauge=lambda x, u: -gauge(x, u))
    assert violation(lagrangian, turned, *points) > 1e-3


# decisions and escapes


def test_noised_data_stay_on_their_side_and_get_the_spread_of_the_noise():
    x = torch.full((4000, 1), 5.0, dtype=DOUBLE)
    noised = reverse_family.forward(x, 0.2, seeded())
    alpha, sigma = math.exp(-0.3), math.sqrt(1 - math.exp(-0.6))
    assert float(noised.mean()) == pytest.approx(5 * alpha, abs=4 * sigma / math.sqrt(4000))
    assert float(noised.std()) == pytest.approx(sigma, rel=0.05)


def test_the_total_variation_of_disjoint_densities_is_one():
    p = double(0, 0, 1, 1, 0, 0)
    assert support.total_variation(p, p.roll(2), 0.5) == pytest.approx(1, rel=1e-12)
    assert support.total_variation(p, p, 0.5) == 0


def test_a_strong_drift_makes_early_passages_count(monkeypatch):
    """The weight e^(-v^2 h / 2 sigma^2) leaves the earliest time of the window alone."""
    monkeypatch.setattr(drift_diffusion, "DRIFT", 20.0)
    times = np.array([0.4])
    early = drift_diffusion.exact_mean(times, first=0.5)
    monkeypatch.setattr(drift_diffusion, "DURATION", 0.502)
    assert early == pytest.approx(drift_diffusion.exact_mean(times, first=0.502), abs=0.03)
    monkeypatch.setattr(drift_diffusion, "DURATION", 1.0)
    assert abs(early - drift_diffusion.exact_mean(times, first=1.0)) > 0.1


def test_the_box_of_a_particle_with_friction_ends_where_its_density_is_low():
    """At x the well is 20 noises above its bottom."""
    noise = 0.02
    grid = rates.kicked(noise, 4).grid
    assert [-end for end in grid.low] == list(grid.high)
    bottom = float(rates.well(double(1.0)[None]))
    assert float(rates.well(double(grid.high[0])[None])) - bottom == pytest.approx(20 * noise, rel=1e-9)
