"""Values at which a formula would divide zero by zero, and values that are exactly at a threshold."""

import dataclasses
import math
from statistics import NormalDist

import pytest
import torch
from conftest import measured_order
from solutions_by_hand import solution
from torch import Tensor

import diffuscope.physics.exact_posterior as exact_posterior
from diffuscope.errors import InputError
from diffuscope.exact import Empirical, Gaussian
from diffuscope.physics import (
    PROBLEMS,
    Grid,
    LinearObservation,
    Matern,
    at_nodes,
    log_likelihood,
    two_phase,
)
from diffuscope.physics.exact_posterior import posterior
from diffuscope.physics.lattice import LatticeLaw, chain
from diffuscope.physics.levy import (
    BernoulliGaussJumps,
    GaussianJumps,
    LaplaceJumps,
    LevyProcess,
    StudentJumps,
    reciprocal_inverse_gaussian,
)
from diffuscope.physics.mixing import effective_sample_size, split_r_hat
from diffuscope.physics.observed import Observed, observed_basis
from diffuscope.physics.priors import _scaled_modes
from diffuscope.physics.random_fields import sine_modes
from diffuscope.physics.regression import Regression
from diffuscope.physics.sensors import Sensors, interpolation, require_readings
from diffuscope.physics.solution_moments import (
    LEVELS,
    NODES,
    _add,
    _nodes,
    _noticed,
    standard_deviation,
    weighted_moments,
)
from diffuscope.physics.solution_verdicts import SolutionVerdicts, _rounded_up
from diffuscope.physics.walk_posterior import walk_posterior
from diffuscope.physics.weighted_draws import _inverse, systematic
from numbers_in_tests import double, seeded

EYE = torch.eye(2, dtype=torch.float64)
LINE = PROBLEMS["poisson-1d"](5)


def readings(values: Tensor, noise: Tensor) -> Sensors:
    n = len(values)
    points = torch.full((n, 1), 0.5, dtype=torch.float64)
    return Sensors(points=points, channels=torch.ones(n, dtype=torch.long), values=values, noise=noise)


def test_chains_that_stand_still_have_no_variance_to_estimate() -> None:
    still = torch.ones(3, 40, dtype=torch.float64)
    assert (float(split_r_hat(still)), float(effective_sample_size(still))) == (1.0, 120.0)
    apart = still * double(1.0, 2.0, 4.0)[:, None]
    assert float(split_r_hat(apart)) == math.inf
    assert float(split_r_hat(0 * still)) == 1.0


def test_draws_that_alternate_count_at_most_the_logarithm_of_their_number_times() -> None:
    alternating = double(1.0, -1.0).repeat(2, 20)
    assert float(effective_sample_size(alternating)) == pytest.approx(80 * math.log10(80))


@pytest.mark.parametrize("law", [GaussianJumps(0.5), StudentJumps(), LaplaceJumps(1.0)])
def test_the_variance_of_a_jump_does_not_depend_on_its_sign(law) -> None:
    u = double(0.3, 2.0)
    assert law.variances_given(u, generator=seeded()).tolist() == law.variances_given(-u, generator=seeded()).tolist()


def test_a_quotient_of_gaussians_is_zero_where_its_numbers_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "randn", lambda shape, **_: torch.zeros(shape, dtype=torch.float64))
    found = reciprocal_inverse_gaussian(double(0.0, 2.0), 1.0, generator=seeded())
    assert found.tolist() == [0.0, 2.0]  # without noise v = c


def test_jumps_at_the_ends_of_their_parameters() -> None:
    assert StudentJumps(dof=2.0).variance == math.inf
    assert BernoulliGaussJumps(rate=0.1).tail(0.5) == 0.0  # jumps are rarer than that
    assert BernoulliGaussJumps(rate=0.1).tail(0.01) == GaussianJumps().tail(0.1)
    assert LaplaceJumps(1.0).cdf(double(-1.0, 0.0, 1.0)).tolist() == pytest.approx(
        [math.exp(-1) / 2, 0.5, 1 - 0.5 / math.e]
    )
    none = LevyProcess(GaussianJumps(), 2).log_density(torch.zeros(1, 2, dtype=torch.float64))
    assert float(none) == pytest.approx(-math.log(2 * math.pi))


@pytest.mark.parametrize("law", [GaussianJumps(0.5), BernoulliGaussJumps(0.3, 2.0), LaplaceJumps(1.0)])
def test_a_walk_that_nothing_is_known_of_has_the_moments_of_its_prior(law) -> None:
    walk = walk_posterior(LevyProcess(law, 3), torch.zeros(3).double(), torch.zeros(1, 3).double())
    assert walk.mean.tolist()[0] == pytest.approx([0, 0, 0], abs=1e-6)
    assert walk.variance[0].tolist() == pytest.approx([law.variance * i for i in (1, 2, 3)], rel=1e-2)


@pytest.mark.parametrize(("width", "narrowest"), [(0.1, 0.1), (1.5, 1.0), (4.5, 1.5), (9.0, 2.0)])
def test_the_lattice_resolves_the_narrower_of_factor_and_jump(width: float, narrowest: float) -> None:
    """Four nodes per width; a jump counts as up to twice as wide where the factors are."""
    walk = walk_posterior(LevyProcess(GaussianJumps(), 1), double(width**-2), torch.zeros(1, 1).double())
    assert walk.law.h == pytest.approx(narrowest / 4)


def test_the_lattice_of_a_walk_that_stands_still_resolves_the_product_of_all_factors() -> None:
    factors, center = torch.full((12,), 100.0, dtype=torch.float64), torch.zeros(1, 12).double()
    for law, h in ((BernoulliGaussJumps(0.1), 2.5 / math.sqrt(1200) / 4), (GaussianJumps(), 0.1 / 4)):
        assert walk_posterior(LevyProcess(law, 12), factors, center).law.h == pytest.approx(h)


@pytest.mark.parametrize("center", [1e30, -1e30])
def test_a_factor_beyond_the_numbers_of_a_lattice_is_refused(center: float) -> None:
    with pytest.raises(InputError, match="center: expected values within"):
        walk_posterior(LevyProcess(GaussianJumps(), 1), double(1.0), double(center)[None])


def test_weights_are_evaluated_where_a_table_of_them_would_be_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Than the jumps and one more."""
    evaluated: list[int] = []
    of_some = LatticeLaw.weights
    monkeypatch.setattr(LatticeLaw, "weights", lambda law, k: evaluated.append(k.numel()) or of_some(law, k))
    lattice = LatticeLaw(GaussianJumps(), 0.25, 32)
    near = (((0, 2), 3), ((-2, 1), 2), ((1, 0) * 50, 2), ((0, 2, 2, 4), 5), ((0, 2, 2, 5), 4))
    for jumps, number in (*near, ((0, 10**12), 2)):
        found = lattice.of(torch.tensor(jumps))
        assert evaluated.pop() == number
        torch.testing.assert_close(found, of_some(lattice, torch.tensor(jumps)), rtol=1e-14, atol=0)


def test_quantiles_and_draws_stay_within_their_window(monkeypatch: pytest.MonkeyPatch) -> None:
    lattice = LatticeLaw(GaussianJumps(), 0.25, 32)
    start, one = torch.full((1, 2), -16), torch.ones(2, dtype=torch.float64)
    walk = chain(lattice, start, one, torch.zeros(1, 2).double())
    low, middle, high = walk.quantiles((0.0, 0.5, 1.0))[:, 0]
    assert low.tolist() == [-4.0, -4.0]
    assert bool((high <= 4.0).all())
    assert middle.tolist() == pytest.approx([0.0, 0.0], abs=1e-3)
    monkeypatch.setattr(torch, "rand", lambda *shape, **_: torch.ones(shape, dtype=torch.float64))
    assert walk.draws(3, generator=seeded()).unique().tolist() == [31 * 0.25 - 4]


def test_quantiles_between_nodes_are_of_fourth_order_in_their_spacing() -> None:
    """N(0, 1) times exp(-(x - 0.3)^2 / 2) is N(0.15, 1/2)."""
    levels, one = (0.03, 0.2, 0.5, 0.71, 0.99), torch.ones(1, dtype=torch.float64)
    exact = double(*(NormalDist(0.15, math.sqrt(0.5)).inv_cdf(level) for level in levels))

    def error(n: int) -> float:
        walk = chain(LatticeLaw(GaussianJumps(), 1 / n, 32 * n), torch.full((1, 1), -16 * n), one, double(0.3)[None])
        return float((walk.quantiles(levels)[:, 0, 0] - exact).abs().max())

    assert measured_order(error, [8, 16, 32, 64]).order == pytest.approx(4, abs=0.15)


def test_messages_are_not_negative_where_the_fourier_transform_leaves_rounding_alone() -> None:
    """In a window of 64 deviations on either side nearly all densities underflow."""
    free = torch.full((3,), 1e-9, dtype=torch.float64)
    walk = chain(LatticeLaw(GaussianJumps(), 0.25, 512), torch.full((1, 3), -256), free, torch.zeros(1, 3).double())
    assert bool((walk.forward >= 0).all())
    assert bool((walk.backward >= 0).all())


@pytest.mark.parametrize("ends", [False, True])
@pytest.mark.parametrize(("K", "outer"), [(32, 1), (128, 2)])
def test_the_mass_at_an_edge_is_that_of_the_outer_sixty_fourth(ends: bool, K: int, outer: int) -> None:
    """In a window that begins, or ends, at the center half of the mass is at one edge and none at the other."""
    lattice, first = LatticeLaw(GaussianJumps(), 0.25, K), torch.full((1, 1), 1 - K if ends else 0)
    walk = chain(lattice, first, torch.ones(1).double(), torch.zeros(1, 1).double())
    masses = walk.marginals[0, 0].flip(0) if ends else walk.marginals[0, 0]
    assert walk.edge_mass == pytest.approx(float(masses[:outer].sum()), rel=1e-12)
    assert walk.edge_mass > 0.1


def test_a_path_that_no_jump_reaches_is_refused() -> None:
    lattice = LatticeLaw(GaussianJumps(), 0.25, 32)
    with pytest.raises(InputError, match="a path whose density is 0"):
        chain(lattice, torch.tensor([[-16, 10_000]]), torch.ones(2).double(), double(0.0, 2500.0)[None])


def test_weights_of_jumps_are_even() -> None:
    k = torch.tensor([-3, -1, 1, 3])
    found = LatticeLaw(LaplaceJumps(1.0), 0.25, 32).weights(k)
    assert found.flip(0).tolist() == found.tolist()


def test_exact_readings_are_met_within_rounding_on_either_side() -> None:
    see = at_nodes(torch.tensor([0]), (1,))
    x = double(-1000.0, -1000.0 - 1e-7, -1000.0 + 1e-7, -1001.0, -999.0)[:, None]
    found = log_likelihood(see, x, double(-1000.0))
    assert found.tolist() == [0.0, 0.0, 0.0, -math.inf, -math.inf]
    kept = posterior(Empirical(x), see, double(-1000.0))
    assert isinstance(kept, Empirical)
    assert kept.points[:, 0].sort().values.tolist() == [-1000.0 - 1e-7, -1000.0, -1000.0 + 1e-7]


def test_an_exact_reading_is_met_up_to_a_billionth() -> None:
    see, x = at_nodes(torch.tensor([0]), (1,)), double(1e-9, 1.001e-9)[:, None]
    assert log_likelihood(see, x, double(0.0)).tolist() == [0.0, -math.inf]
    kept = posterior(Empirical(x), see, double(0.0))
    assert isinstance(kept, Empirical)
    assert kept.points.tolist() == [[1e-9]]


def test_the_nearest_of_all_points_is_what_an_exact_reading_misses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exact_posterior, "CHUNK", 1)
    with pytest.raises(InputError, match=r"the nearest point misses by 1$"):
        posterior(Empirical(double(5.0, 1.0, 7.0)[:, None]), at_nodes(torch.tensor([0]), (1,)), double(2.0))


def test_the_size_of_what_is_seen_is_that_of_its_terms_without_their_signs() -> None:
    prior = Gaussian(torch.zeros(2).double(), -EYE, double(2.0, 1.0))
    difference = LinearObservation(double(1.0, -1.0)[None], (2,), 0.1)
    assert Observed(prior, difference).size.tolist() == [[1.0, 1.0]]


def test_a_row_that_is_rounding_says_nothing() -> None:
    assert Regression.of(double(1e-17)[None], double(1.0)[None], double(1.0), 0.0).rank == 0
    assert Regression.of(double(0.0)[None], double(0.0)[None], double(1.0), 0.5).rank == 0
    assert Regression.of(double(0.0)[None], double(0.0)[None], double(1.0), 0.0).rank == 0


def test_a_reading_of_nothing_adds_no_direction() -> None:
    prior = Gaussian.isotropic(torch.zeros(2).double(), 1.0)
    vectors, _ = observed_basis(prior, torch.stack([EYE[0], 0 * EYE[0]]))
    assert vectors.abs().tolist() == [[1.0], [0.0]]


def test_a_prior_that_is_seen_whole_has_no_tail_left() -> None:
    prior = Gaussian.isotropic(torch.zeros(2).double(), 1.0)
    for noise, known in ((0.5, 2), (0.0, 0)):
        found = Observed(prior, at_nodes(torch.tensor([0, 1]), (2,), noise)).posterior(double(1.0, 2.0))
        assert (found.tail_variance, len(found.eigenvalues)) == (0.0, known)


def test_modes_of_a_forcing_are_those_with_variance_whatever_their_sign() -> None:
    forcing = Gaussian(torch.zeros(2).double(), -EYE, double(4.0, 0.0))
    assert _scaled_modes(forcing).tolist() == [[-2.0, 0.0]]


def test_two_phases_meet_at_the_threshold() -> None:
    assert two_phase(double(0.5 - 1e-12, 0.5), low=3.0, high=8.0, threshold=0.5).tolist() == [3.0, 8.0]


def test_a_covariance_at_distance_zero_is_the_variance() -> None:
    assert Matern(0.5, 1.5, 4.0)(double(0.0, 1e-20)).tolist() == [4.0, 4.0]


def test_sine_modes_from_one_to_the_number_of_inner_nodes() -> None:
    assert [len(sine_modes(Grid((5,)), modes)) for modes in (1, 3)] == [1, 3]


def test_a_point_at_the_end_of_a_grid_reads_the_last_node_alone() -> None:
    ends = double(-1e-13, 0.0, 1.0, 1.0 + 1e-13)[:, None]
    assert interpolation(Grid((3,)), ends).tolist() == [[1, 0, 0], [1, 0, 0], [0, 0, 1], [0, 0, 1]]


def test_only_noisy_readings_that_repeat_count_as_copies() -> None:
    assert readings(double(1.0, 1.0, 2.0), double(0.1, 0.1, 0.1)).copies == 1
    assert readings(double(1.0, 1.0, 2.0), double(0.0, 0.0, 0.1)).copies == 0


@pytest.mark.parametrize(("a", "b"), [(1.0, 2.0), (2.0, 1.0), (-1.0, -2.0), (-2.0, -1.0), (0.0, 1.0), (1.0, 0.0)])
def test_exact_readings_at_a_point_that_differ_are_refused(a: float, b: float) -> None:
    with pytest.raises(InputError, match=f"got {a:g} and {b:g}"):
        require_readings(readings(double(a, b), double(0.0, 0.0)), LINE, "data")


@pytest.mark.parametrize("value", [0.0, 3.0, -3.0])
def test_exact_readings_at_a_point_that_agree_are_one(value: float) -> None:
    same = readings(double(value, value * (1 + 1e-14)), double(0.0, 0.0))
    assert len(require_readings(same, LINE, "data")) == 1


def test_one_bad_reading_is_not_said_to_be_one_of_more() -> None:
    with pytest.raises(InputError, match=r"got nan$"):
        require_readings(readings(double(math.nan), double(0.1)), LINE, "data")
    with pytest.raises(InputError, match=r"got nan \(and 1 more\)$"):
        require_readings(readings(double(math.nan, math.nan), double(0.1, 0.1)), LINE, "data")


def test_no_variance_is_left_of_a_tail_without_directions() -> None:
    basis = torch.linalg.qr(torch.randn(40, 40, generator=seeded(), dtype=torch.float64)).Q
    found = standard_deviation(Gaussian(torch.zeros(40).double(), basis, torch.zeros(40).double(), 1.0))
    assert float(found.max()) < 1e-6
    assert bool(found.isfinite().all())


def test_fields_of_no_weight_take_no_part() -> None:
    fields = torch.cat([double(math.inf), torch.arange(20.0).double()])[:, None]
    weights = torch.cat([double(0.0), torch.full((20,), 0.05, dtype=torch.float64)])
    found = weighted_moments(fields, weights)
    assert (float(found.mean), float(found.low), float(found.high)) == (pytest.approx(9.5), 0.0, 18.0)


@pytest.mark.parametrize("side", [-1, 1])
def test_a_truth_at_the_end_of_an_interval_is_inside(side: int) -> None:
    for k, level in enumerate(LEVELS):
        at = torch.full((2, 1), (1 + side * level) / 2, dtype=torch.float64)
        shares: list[Tensor] = []
        _add(shares, [], at, at)
        assert shares[0].tolist()[k:] == [1.0] * (len(LEVELS) - k)
        assert shares[0].tolist()[:k] == [0.0] * k


def test_one_node_tells_no_error_of_a_share() -> None:
    errors: list[Tensor] = []
    _add([], errors, torch.full((1, 3), 0.5).double(), torch.full((1, 3), 0.5).double())
    assert bool(errors[0].isnan().all())


def test_noise_is_noticed_where_evidence_is_below_all_or_one_percent_of_the_usual() -> None:
    assert _noticed(torch.arange(99.0).double(), double(-1.0, 0.0, 0.5).repeat(33)) == pytest.approx(1 / 3)
    # 1 + lower is 9, 10 and 11 thousandths
    assert _noticed(torch.arange(999.0).double(), double(7.5, 8.5, 9.5).repeat(333)) == pytest.approx(1 / 3)


def test_nodes_are_of_values_that_are_not_known() -> None:
    many, few, none = torch.ones(3, 2 * NODES, dtype=torch.float64)
    few[2:], none[:] = 0.0, 0.0
    found = _nodes(torch.stack([many, few, none]))
    assert [len(part) for part in found] == [NODES, 2, 0]
    assert found[1].tolist() == [0, 1]


def test_the_last_particle_is_drawn_where_the_uniform_number_rounds_to_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "rand", lambda *shape, **_: torch.ones(shape, dtype=torch.float64))
    assert systematic(torch.zeros(1, 3), seeded(), 3).tolist() == [[1, 2, 2]]


def test_quantiles_beyond_the_weights_are_the_extremes() -> None:
    ordered, cumulative = double(1.0, 2.0, 5.0)[:, None], double(0.2, 0.5, 1 - 1e-16)[:, None]
    assert [float(_inverse(ordered, cumulative, double(p))) for p in (-1.0, 0.0, 0.2, 0.3, 1.0, math.inf)] == [
        1.0, 1.0, 1.0, 2.0, 5.0, 5.0,
    ]  # fmt: skip


def test_a_coverage_five_points_off_its_level_is_still_right() -> None:
    for coverage in (0.9 - 0.05, 0.9 + 0.05):
        assert SolutionVerdicts(solution(coverage=coverage, error=0.0)).findings[2].tone == "good"


def test_solutions_without_spread_or_coefficient_have_nothing_to_say() -> None:
    moments = solution().moments
    assert moments is not None
    known = solution(moments=dataclasses.replace(moments, sd=0 * moments.sd), prior_sd=None)
    assert not bool(SolutionVerdicts(known).free(1).any())
    undefined = SolutionVerdicts(solution(residual=double(math.nan, math.nan))).findings[3]
    assert math.isnan(undefined.value)
    assert undefined.verdict.startswith("No: 2 of 2 samples")
    assert [_rounded_up(value) for value in (0.0, 0.5, 31.0)] == [0, 1, 40]
