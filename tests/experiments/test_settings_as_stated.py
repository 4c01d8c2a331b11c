"""The data, processes and ends of paths that experiments run are those that their pages and sources state."""

import math

import pytest
import torch
from scipy import integrate, stats

from diffuscope.exact import GaussianMixture
from diffuscope.experiments import (
    boundary_map,
    closure,
    cross,
    dps_is_biased,
    drift_diffusion,
    entropy,
    feature_kernel,
    finite_data,
    fixed_start,
    four_points,
    gap_filling,
    heat_1d,
    maier_stein,
    mixture_forward,
    ornstein_uhlenbeck,
    rates,
    reverse_family,
    ring_diffusion,
    samplers,
    sparse_fields,
    spectral_bias,
    support,
    teleport,
    trained_denoiser,
    two_unit_network,
)
from diffuscope.experiments import reverse_diffusion_is_a_bridge as bridge
from diffuscope.experiments.double_moon import bumps
from diffuscope.experiments.experiment import Experiment
from diffuscope.experiments.support import starts
from diffuscope.theory.paths import Dynamics, Lagrangian
from numbers_in_tests import double

DOUBLE = torch.float64


def stated(module, fragment):
    """Whether the docstring or the settings of a module say so, whatever the line breaks."""
    experiment = getattr(module, "EXPERIMENT", None)
    settings = [f"{key}: {value}" for key, value in experiment.settings.items()] if experiment else []
    assert experiment is None or isinstance(experiment, Experiment)
    return fragment in " ".join(" ".join([module.__doc__, *settings]).split())


# processes


@pytest.mark.parametrize(
    ("module", "schedule"),
    [
        (gap_filling, gap_filling.schedule_to(0.01)),
        (feature_kernel, feature_kernel.SCHEDULE),
        (closure, closure.SCHEDULE),
        (cross, cross.SCHEDULE),
    ],
    ids=["gap filling", "feature kernel", "closure", "cross"],
)
def test_the_schedule_of_linear_models_is_twice_the_usual_rate(module, schedule):
    """g^2 = 2 (0.1 + 19.9 t)."""
    assert stated(gap_filling, "α = exp(-(0.1 t + 9.95 t²))")
    if module is feature_kernel:
        assert stated(module, "alpha = exp(-(0.1 t + 9.95 t²)), variance preserving, t in [0.01, 1]")
    for t in (0.05, 0.4, 1.0):
        assert float(schedule.alpha(t).log()) == pytest.approx(-(0.1 * t + 9.95 * t**2), rel=1e-12)
        assert float(schedule.g_squared(t)) == pytest.approx(2 * (0.1 + 19.9 * t), rel=1e-12)
    assert schedule.t_min == 0.01


@pytest.mark.parametrize(
    ("schedule", "rate"),
    [
        (fixed_start.OU, 1.0),  # dX = -X dt + sqrt 2 dB
        (entropy.OU, 1.0),
        (four_points.OU, 1.0),
        (reverse_family.OU, 1.5),  # its time 1 is the time 1.5 of that
        (mixture_forward.SCHEDULE, 0.5),  # dX = -X/2 dt + dB
        (samplers.SCHEDULE, 2.0),  # its time 1 is T = 4 at beta = 1
    ],
    ids=["fixed start", "entropy", "four points", "reverse family", "mixture", "samplers"],
)
def test_ornstein_uhlenbeck_processes_have_the_stated_rate(schedule, rate):
    for t in (0.1, 0.6):
        assert float(schedule.alpha(t)) == pytest.approx(math.exp(-rate * t), rel=1e-12)
        assert float(schedule.g_squared(t)) == pytest.approx(2 * rate, rel=1e-12)


# data


def normals(*parts):
    """The density of a mixture of isotropic normals, from (weight, mean, variance)."""

    def density(x):
        total = torch.zeros(len(x), dtype=DOUBLE)
        for weight, mean, variance in parts:
            square = (x - double(*mean)).square().sum(1)
            total += weight * (-square / (2 * variance)).exp() / (2 * math.pi * variance) ** (len(mean) / 2)
        return total

    return density


@pytest.mark.parametrize(
    ("module", "statement", "data", "density"),
    [
        (mixture_forward, r"from :math:`\tfrac12 N(\pm2, \tfrac14)`", mixture_forward.PAIR,
         normals((0.5, (2,), 0.25), (0.5, (-2,), 0.25))),
        (heat_1d, r":math:`\partial_t p = D\,\Delta p` spreads :math:`\tfrac12 N(\pm2, \tfrac14)`", heat_1d.PAIR,
         normals((0.5, (2,), 0.25), (0.5, (-2,), 0.25))),
        (support, "two bumps: 0.3 N(-1.2, 0.25²) + 0.7 N(0.8, 0.4²)", support.BUMPS,
         normals((0.3, (-1.2,), 0.25**2), (0.7, (0.8,), 0.4**2))),
        (samplers, "modes: ±(1.3, 0.6) variance: 0.45", samplers.DATA,
         normals((0.5, (1.3, 0.6), 0.45), (0.5, (-1.3, -0.6), 0.45))),
        (samplers, "modes: ±(1.3, 0.6) variance: 0.45", samplers.LINE,
         normals((0.5, (math.hypot(1.3, 0.6),), 0.45), (0.5, (-math.hypot(1.3, 0.6),), 0.45))),
        (bumps, r"m = 1.6 and :math:`v_0 = 0.5^2`", bumps.MIXTURE, normals((0.5, (1.6,), 0.25), (0.5, (-1.6,), 0.25))),
        (entropy, "modes: -2, 1.5 weights: 0.3, 0.7", entropy.PAIR, normals((0.3, (-2,), 0.1), (0.7, (1.5,), 0.3))),
        (reverse_family, "The mixture is 0.35 N(-1.4, 0.06) + 0.65 N(1, 0.12)", reverse_family.DATA,
         normals((0.35, (-1.4,), 0.06), (0.65, (1,), 0.12))),
    ],
    ids=["mixture", "heat", "two bumps", "samplers", "along the modes", "double moon", "entropy", "reverse family"],
)  # fmt: skip
def test_a_mixture_is_the_stated_one(module, statement, data, density):
    assert stated(module, statement)
    assert isinstance(data, GaussianMixture)
    x = torch.linspace(-2.5, 2.5, 11, dtype=DOUBLE)[:, None] * double(1, 0.7)[: data.means.shape[1]]
    torch.testing.assert_close(data.log_prob(x, 1.0, 1e-9).exp(), density(x), rtol=1e-9, atol=0)


def test_points_are_the_stated_ones():
    assert stated(finite_data, "four points: -1.5, -0.2, 0.4, 2")
    assert stated(support, "four points: -1.5, -0.2, 0.4, 2;")
    assert torch.equal(four_points.POINTS, double(-1.5, -0.2, 0.4, 2))
    for module in (gap_filling, feature_kernel, closure):
        assert stated(module, "data: -1, 0, 1") or stated(module, "data -1, 0, 1")
    for points in (gap_filling.data().means, feature_kernel.THREE, closure.DATA):
        assert torch.equal(points, double(-1, 0, 1)[:, None])


def test_the_hexagon_is_regular_and_the_line_is_even():
    hexagon, line = boundary_map.DATA_SETS["hexagon"], boundary_map.DATA_SETS["line"]
    assert hexagon.norm(dim=1).tolist() == pytest.approx([1.0] * 6)
    assert (hexagon - hexagon.roll(1, 0)).norm(dim=1).tolist() == pytest.approx([1.0] * 6)
    assert line.diff(dim=0).flatten().tolist() == pytest.approx([0.4] * 10)


def test_starts_in_the_plane_are_those_of_their_labels():
    middle, deviation = (
        torch.full((1, 2), 0.5, dtype=DOUBLE),
        torch.full((1, 2), float(stats.norm.cdf(1)), dtype=DOUBLE),
    )
    for label, mean, spread in (
        ("N(0, I)", (0, 0), 1),
        ("N((2, 1), 0.3²)", (2, 1), 0.3),
        ("the point (½, -1)", (0.5, -1), 0),
    ):
        place = support.CIRCLE_STARTS[label]
        torch.testing.assert_close(place(middle)[0], double(*mean), rtol=0, atol=1e-12)
        torch.testing.assert_close(place(deviation)[0], double(*mean) + spread, rtol=0, atol=1e-12)
    square = support.CIRCLE_STARTS["a square"]  # [-3, 0] x [-3, 0]
    assert square(double(0, 1)[None])[0].tolist() == [-3, 0]


@pytest.mark.parametrize("start", [starts.gaussian(0.4, 0.6), starts.uniform(-3.0, -1.0)], ids=["normal", "uniform"])
def test_a_start_on_the_line_has_one_mean_and_one_mass_in_draws_quadrature_and_density(start):
    mean, variance = {"N(0.4, 0.6²)": (0.4, 0.36), "U[-3, -1]": (-2.0, 1 / 3)}[start.label]
    assert float(start.weights.sum()) == pytest.approx(1, rel=1e-12)
    assert float(start.nodes @ start.weights) == pytest.approx(mean, rel=1e-9)
    assert float((start.nodes - mean) ** 2 @ start.weights) == pytest.approx(variance, rel=1e-9)
    x = start.draw(40_000, torch.Generator().manual_seed(0))[:, 0]
    assert abs(float(x.mean()) - mean) < 4 * math.sqrt(variance / 40_000)
    assert float(x.var()) == pytest.approx(variance, rel=0.05)
    density = lambda y: float(start.density(double(y)))  # noqa: E731
    ends = (-3, -1) if mean < 0 else (-5, 6)
    assert integrate.quad(density, *ends)[0] == pytest.approx(1, rel=1e-9)
    assert integrate.quad(lambda y: y * density(y), *ends)[0] == pytest.approx(mean, rel=1e-9)


# paths


def test_the_attractors_of_the_network_are_those_of_hard_units():
    """x = mu + A [x > c] - I [y > c] in each of four quadrants."""
    assert stated(two_unit_network, "μ = 1.25, A = 2, c = 1.5, I = 0.9, n = 0.01")
    hard = [(1.25 + 2 * x - 0.9 * y, 1.25 + 2 * y - 0.9 * x) for x, y in ((1, 0), (0, 1), (1, 1), (0, 0))]
    torch.testing.assert_close(two_unit_network.ATTRACTORS, double(*hard), rtol=1e-12, atol=0)
    assert stated(two_unit_network, "ends: (3, 0.1) to (0.1, 3)")
    assert (two_unit_network.START.tolist(), two_unit_network.END.tolist()) == ([3, 0.1], [0.1, 3])
    drift = two_unit_network.network().drift_at(two_unit_network.START[None], double(0.0))
    torch.testing.assert_close(drift[0], double(3.25 - 3, 0.35 - 0.1), rtol=1e-6, atol=0)
    # a border is a layer of width 0.01, which a step of time of 0.8 jumps over; the continuation ends at that width
    assert pytest.approx(0.8) == two_unit_network.LONG / two_unit_network.NODES
    assert two_unit_network.SOFTENED[-1] == two_unit_network.SHARP
    assert list(two_unit_network.SOFTENED) == sorted(two_unit_network.SOFTENED, reverse=True)


@pytest.mark.parametrize(
    "system", [two_unit_network.network(), maier_stein.dynamics(3.0)], ids=["network", "Maier-Stein"]
)
def test_the_lagrangian_is_half_the_square_of_what_is_not_drift(system: Dynamics):
    x, v, t = double(0.4, 0.3)[None], double(1.1, -0.6)[None], double(0.0)
    half = float((v - system.drift_at(x, t)).square().sum()) / 2
    assert float(Lagrangian(system, "FW")(x, v, t)) == pytest.approx(half, rel=1e-12)


@pytest.mark.parametrize(
    "drift",
    [
        lambda z, beta: maier_stein.dynamics(beta).drift_at(z, torch.zeros(len(z), dtype=DOUBLE)),
        lambda z, beta: rates.swirl(beta)(z),
    ],
)
@pytest.mark.parametrize("beta", [2.0, 10.0])
def test_the_drift_of_maier_and_stein_vanishes_at_the_ends_of_the_way_out(drift, beta):
    ends = torch.stack([maier_stein.STABLE, maier_stein.SADDLE])
    assert stated(maier_stein, "ends: (−1, 0) to (0, 0)")
    assert torch.equal(ends, double((-1.0, 0.0), (0.0, 0.0)))
    assert float(drift(ends, beta).abs().max()) == 0
    # (x - x^3 - beta x y^2, -(1 + x^2) y) at (1/2, 2)
    torch.testing.assert_close(drift(double(0.5, 2)[None], beta)[0], double(0.375 - 2 * beta, -2.5), rtol=1e-12, atol=0)


def test_the_barrier_of_the_double_well_is_a_quarter_and_noises_are_a_tenth_of_it_and_less():
    assert float(rates.well(double(0.0)[None]) - rates.well(double(-1.0)[None])) == rates.BARRIER
    assert [rates.BARRIER / noise for noise in rates.NOISES] == pytest.approx([20, 50 / 3, 12.5, 10])


def test_conserved_numbers_of_the_ornstein_uhlenbeck_path_are_those_of_its_ends():
    """E = (|x_0|^2 + |x_T|^2 - 2 x_0 x_T cosh T) / sinh^2 T and L = x_0 x x_T / sinh T from (-2, 2) to (2, 2)."""
    assert stated(ornstein_uhlenbeck, "ends: (−2, 2) to (2, 2) T: 1 and 10")
    assert tuple(ornstein_uhlenbeck.PUBLISHED) == ornstein_uhlenbeck.DURATIONS == (1, 10)
    assert (ornstein_uhlenbeck.START.tolist(), ornstein_uhlenbeck.END.tolist()) == ([-2, 2], [2, 2])
    for T, (energy, momentum) in ornstein_uhlenbeck.PUBLISHED.items():
        assert energy == pytest.approx(16 / math.sinh(T) ** 2, rel=1e-5)
        assert momentum == pytest.approx(-8 / math.sinh(T), rel=1e-5)
    x = double(0.3, -1.2)[None]
    assert torch.equal(ornstein_uhlenbeck.PROCESS.drift_at(x, double(0.0)), -x)


def test_the_momentum_of_a_decision_is_that_of_a_straight_path():
    assert stated(drift_diffusion, "drift: 0.1 sigma: 1 bounds: ±1 path: from 0.5 to -1 in time 1")
    mean = (drift_diffusion.BOUND - drift_diffusion.START) / drift_diffusion.DURATION
    assert (mean - drift_diffusion.DRIFT) / drift_diffusion.SIGMA**2 == pytest.approx(-1.6)


def test_paths_onto_the_ring_begin_at_twice_its_radius_and_end_at_their_angles():
    assert stated(ring_diffusion, "ring: radius 5, width 0.55 levels: 50 from 10^1.5 to 10^−0.4")
    assert stated(bridge, "ring: radius 5, width 0.55, T = 10^1.5, ε = 10^−0.4")
    ring, case = ring_diffusion.RING, bridge.ring_case()
    assert (ring.radius, ring.width) == (5, 0.55)
    assert case.start.tolist() == ring_diffusion.TOP.tolist() == [0, 2 * ring.radius]
    torch.testing.assert_close(case.end, double(5, 5) / math.sqrt(2), rtol=1e-12, atol=0)
    for levels in (case.levels.flip(0), ring_diffusion.LEVELS):
        assert [math.log10(float(levels[end])) for end in (0, -1)] == pytest.approx([-0.4, 1.5])
        logs = levels.log().diff()
        torch.testing.assert_close(logs, logs.mean().expand_as(logs), rtol=1e-9, atol=0)
    assert (len(ring_diffusion.LEVELS), len(case.levels)) == (50, 401)
    for label, degrees in (("π/4", 45), ("0", 0), ("−π/4", -45), ("−π/2", -90)):
        assert math.degrees(ring_diffusion.ANGLES[label]) == pytest.approx(degrees)


@pytest.mark.parametrize(
    ("case", "T", "epsilon"),
    [(bridge.mixture_case(), 8, 0.1), (bridge.digit_case(torch.Generator().manual_seed(0)), 8, 0.3)],
    ids=["mixture", "digits"],
)
def test_levels_of_a_bridge_fall_from_the_stated_noise_to_the_stated_end(case, T, epsilon):
    assert stated(bridge, "mixture: three modes of different widths, T = 8, ε = 0.1, 400 intervals digits")
    assert stated(bridge, "64 dimensions, T = 8, ε = 0.3, 160 intervals")
    assert (float(case.levels[0]), float(case.levels[-1])) == pytest.approx((T, epsilon), rel=1e-12)


def test_the_bridge_comes_from_its_start_to_its_end():
    """The straight path in u = (T^2 - t^2) / 2: a share of u is that share of the way."""
    case = bridge.ring_case()
    share = case.share(case.bridge)
    torch.testing.assert_close(share, case.times / case.times[-1], rtol=0, atol=1e-12)
    assert (float(share[0]), float(share[-1])) == pytest.approx((0, 1), abs=1e-12)
    assert float(case.times[-1]) == pytest.approx((10**3 - 10**-0.8) / 2, rel=1e-12)


@pytest.mark.parametrize("eta", reverse_family.ETAS)
def test_what_each_dial_leaves_is_the_known_number(eta):
    nats, half_digit = reverse_family.INDEPENDENT[eta]
    assert reverse_family.gaussian(eta).relative_entropy(0.0) == pytest.approx(nats, abs=half_digit)


def test_the_path_of_a_trained_denoiser_ends_on_the_ring():
    case = trained_denoiser.case()
    assert stated(trained_denoiser, "a ring of radius 5 and width 0.55")
    assert stated(trained_denoiser, "path: T = 20, ε = 0.5, 200 intervals")
    assert float(case.end.norm()) == trained_denoiser.RING.radius < float(case.start.norm())
    assert (float(case.levels[0]), float(case.levels[-1])) == pytest.approx((20, 0.5))


# measures


def test_the_gap_lies_between_a_quarter_and_three_quarters():
    assert stated(gap_filling, "P(0.25 < |x| < 0.75)")
    x = double(0.24, 0.26, -0.74, 0.76)[None, :, None]
    assert [float(gap_filling.gap_mass(x[:, k : k + 1])) for k in range(4)] == [0, 1, 1, 0]


def test_near_is_within_a_fifth_and_edges_and_the_cross_are_a_tenth_wide():
    assert stated(cross, "*near* a point within 0.2 of it; else, by what it is closer to and within 0.1 of")
    x = double((1.19, 0), (1.21, 0), (0.3, 0.09), (0.3, 0.11), (0.57, 0.57), (0.58, 0.58))
    found = cross.regions(x, 0.0)
    assert found["near"].tolist() == [True, False, False, False, False, False]
    assert found["cross"].tolist() == [False, False, True, False, False, False]
    assert found["edge"].tolist() == [False, False, False, False, True, False]


def test_intervals_of_ninety_per_cent_have_five_per_cent_beyond_each_end():
    """For imprecise data the posterior is the prior, which DPS keeps too."""
    assert dps_is_biased.coverage(30.0) == pytest.approx(0.9, abs=1e-3)
    assert (sparse_fields.DRAWS - 1) / (sparse_fields.DRAWS + 1) == 0.9


def test_levels_and_variances_end_where_the_settings_say():
    assert stated(spectral_bias, "12 variances from 0.15 to 4 (network)")
    variances = spectral_bias.VARIANCES
    assert (float(variances.min()), float(variances.max())) == pytest.approx((0.15, 4))
    assert teleport.LEVELS[0] == teleport.HIGHEST  # the first is no jump
    assert set(teleport.BIAS) < set(teleport.LEVELS)
    assert set(teleport.UNEXPLAINED) == set(teleport.LEVELS[1:])
    assert finite_data.TIMES[2] == finite_data.T_MIN
