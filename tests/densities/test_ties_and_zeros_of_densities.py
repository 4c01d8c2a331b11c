"""Values at which a formula would divide zero by zero, and values that are exactly at a threshold."""

import math

import pytest
import torch

from diffuscope.denoisers import DataPredictor, ExactDenoiser
from diffuscope.densities import (
    BetweenSteps,
    Density,
    ExactDivergence,
    Grid,
    PotentialDiffusion,
    amplification,
    anti_diffuse,
    best_anti_diffusion,
    gaussian_expectation,
    histogram,
    ornstein_uhlenbeck,
    periodic_heat_kernel,
    relative_curl,
    relative_residual,
    score_equation_by_probes,
    terminal,
    transition,
    unresolved,
)
from diffuscope.densities.density import ROUNDING
from diffuscope.densities.equation_residual import ScoreEquation
from diffuscope.densities.fokker_planck import VANISHING, _fitted, bernoulli
from diffuscope.densities.gaussian_reverse import GaussianReverse
from diffuscope.densities.grid_integrals import entropy
from diffuscope.densities.resolution import leaving_probability
from diffuscope.densities.schroedinger import _edge
from diffuscope.densities.score_information import integrated
from diffuscope.errors import InputError
from diffuscope.exact import Gaussian
from diffuscope.schedules import VP, Cosine, DiscreteVP, RectifiedFlow
from numbers_in_tests import double, seeded

CIRCLE, PAIR = Grid.line(0, 2 * math.pi, 16), Grid.line(0, 1, 2)


def density(*values: float) -> Density:
    return Density(PAIR, double(*values))


def test_an_amplification_of_e_to_the_700_is_beyond_float64() -> None:
    halves = Grid.line(0, 2 * math.pi, 2)  # the highest wave number is 1
    assert amplification(halves, 700.0) == math.inf
    assert amplification(halves, 699.0) == pytest.approx(math.exp(699))
    cosine = Density(CIRCLE, 1 + 0.5 * CIRCLE.centers().cos())
    with pytest.raises(InputError, match="cutoff: at 1 a mode grows"):
        anti_diffuse(cosine, 700.0, 1.0)
    assert best_anti_diffusion(cosine, 700.0, cosine).cutoff == 0.0


def test_nothing_is_undone_without_heat_and_nothing_is_left_without_modes() -> None:
    cosine = Density(CIRCLE, 1 + 0.5 * CIRCLE.centers().cos())
    torch.testing.assert_close(anti_diffuse(cosine, 0.0, 100.0).density.values, cosine.values)
    torch.testing.assert_close(anti_diffuse(cosine, 1.0, 0.0).density.values, torch.ones(16).double())


@pytest.mark.parametrize("schedule", [VP(2.0, 2.0), Cosine()])
def test_the_expectation_of_a_payoff_just_before_the_end_is_the_payoff(schedule) -> None:
    x = double(0.3, -2.0)[:, None]
    for s in torch.linspace(0.05, 0.9, 5, dtype=torch.float64).tolist():
        found = gaussian_expectation(schedule, lambda x: x[:, 0], x, s, math.nextafter(s, 1))
        assert found.dtype == torch.float64
        torch.testing.assert_close(found, x[:, 0], rtol=1e-6, atol=1e-6)


def test_before_the_first_and_at_the_last_step_a_table_is_not_left() -> None:
    between = BetweenSteps(ExactDenoiser(Gaussian.isotropic(torch.zeros(1), 1.0), DiscreteVP((0.36, 0.75))))
    found = [between(torch.ones(1, 1), t).item() for t in (0.0, 0.5, 1.0, 2.0)]
    assert found == pytest.approx([0.8, 0.8, 0.8, 0.4], rel=1e-6)
    ends = DataPredictor(
        lambda x, t: x * (math.nan if float(torch.as_tensor(t).max()) > 2 else 1.0),
        DiscreteVP((0.36, 0.75)),
        event_shape=(1,),
        data_range=(-1.0, 1.0),
    )
    assert math.isfinite(BetweenSteps(ends)(torch.ones(1, 1), 2.0).item())


def test_cells_without_mass_take_no_part_in_a_relative_entropy() -> None:
    assert density(2.0, 0.0).relative_entropy(density(1.0, 1.0)) == pytest.approx(math.log(2))
    assert density(2.0, 2 * ROUNDING).relative_entropy(density(2.0, 0.0)) == 0.0
    assert density(2.0, 2.1 * ROUNDING).relative_entropy(density(2.0, 0.0)) == math.inf


def test_distances_count_both_signs_and_histograms_the_lower_edge_of_a_box() -> None:
    assert density(2.0, 0.0).l1_distance(density(1.0, 1.0)) == 1.0
    assert density(0.0, 2.0).l1_distance(density(1.0, 1.0)) == 1.0
    assert histogram(double(0.0, 0.5, 1.0, -1e-9)[:, None], PAIR).values.tolist() == [0.5, 0.5]


def test_values_are_negative_up_to_rounding() -> None:
    assert density(2.0, -2 * ROUNDING).entropy() == pytest.approx(-math.log(2))
    with pytest.raises(InputError, match="expected values >= 0"):
        density(2.0, -2.1 * ROUNDING).entropy()


def test_a_density_without_mass_has_no_sample_and_one_with_mass_ends_with_its_last_cell(monkeypatch) -> None:
    with pytest.raises(InputError, match="with mass to sample from"):
        density(0.0, 0.0).sample(1, generator=seeded())
    monkeypatch.setattr(torch, "rand", lambda *shape, **_: torch.ones(shape, dtype=torch.float64))
    assert density(1.0, 1.0).sample(1, generator=seeded()).tolist() == [[1.0]]


def test_terms_that_all_vanish_have_no_residual() -> None:
    zero = torch.zeros(2, 3)
    equation = ScoreEquation(zero, zero, zero, torch.zeros(2).double(), 1.0)
    assert equation.relative.tolist() == [0.0, 0.0]
    assert relative_residual(double(0.0, 0.0, 0.0, 0.0)).item() == 0.0
    assert relative_residual(double(-1.0, 1.0, 1.0, 1.0)).item() == 0.0
    assert relative_residual(double(9.0, -1.0, 4.0, 1.0)).item() == pytest.approx(1.0)
    assert relative_curl(double(0.0, 0.0, 0.0)).item() == 0.0
    assert [relative_curl(double(9.0, *sizes)).item() for sizes in ((16.0, 4.0), (4.0, 16.0))] == [1.5, 1.5]


def test_probes_that_agree_have_an_error_of_zero_but_for_rounding() -> None:
    """In one dimension a sign does not matter: the differences of seven equal numbers round to either side of zero."""
    denoiser = ExactDenoiser(Gaussian.isotropic(torch.zeros(1), 12.0), VP())
    x_t = torch.randn(512, 1, generator=seeded(), dtype=torch.float64)
    found = score_equation_by_probes(denoiser, x_t, 0.4, probes=7, generator=seeded())
    assert bool(found.spread_error.isfinite().all())
    assert float(found.spread_error.max()) < 1e-6


def test_bernoullis_function_vanishes_beyond_700_only() -> None:
    found = bernoulli(double(VANISHING, math.nextafter(VANISHING, 1e3), -VANISHING, -1e-3, 0.0))
    assert found.tolist() == pytest.approx([700 / math.expm1(700), 0.0, 700.0, 1 + 5e-4 + 1e-6 / 12, 1.0], rel=1e-12)
    assert float(found[0]) > 0


@pytest.mark.parametrize(
    ("noiseless", "u", "leaving", "entering"),
    [
        ("upwind", 2.0, 2.0, 0.0), ("upwind", -2.0, 0.0, 2.0), ("upwind", 0.0, 0.0, 0.0),
        ("central", 2.0, 1.0, -1.0), ("central", -2.0, -1.0, 1.0), ("central", 0.0, 0.0, 0.0),
    ],
)  # fmt: skip
def test_fluxes_without_diffusion_are_those_of_the_drift(noiseless, u, leaving, entering) -> None:
    found = _fitted(double(u), double(0.0), 0.5, noiseless)
    assert [float(value) for value in found] == [leaving, entering]


@pytest.mark.parametrize("ratio", [0.1, 0.9, 1 - 1e-4, 1 + 1e-4, 1.5, 10.0])
def test_the_relative_entropy_of_a_start_is_that_of_two_gaussians(ratio: float) -> None:
    process = GaussianReverse(VP(), mean=0.0, variance=1.0, start_mean=0.0, start_variance=ratio, start=1.0, eta=1.0)
    exact = (ratio - 1 - math.log(ratio)) / 2
    assert process.relative_entropy(1.0) == pytest.approx(exact, rel=1e-7)


@pytest.mark.parametrize("grid", [Grid.line(-1, 1, 64), Grid.line(-9.5, 9.0, 5)])
def test_a_grid_that_loses_or_gains_mass_is_refused(grid: Grid) -> None:
    with pytest.raises(InputError, match="grid: expected one that holds and resolves the density"):
        entropy(Gaussian.isotropic(torch.zeros(1), 0.0), 1.0, 1.0, grid)


def test_both_series_of_the_periodic_heat_kernel_agree_where_one_follows_the_other() -> None:
    x, t = torch.linspace(-0.5, 0.5, 9, dtype=torch.float64), 1 / (4 * math.pi)
    before, after = (periodic_heat_kernel(x, t * scale, length=1.0) for scale in (1 - 1e-12, 1 + 1e-12))
    torch.testing.assert_close(before, after, rtol=1e-11, atol=0)


def test_no_density_has_nothing_unresolved() -> None:
    assert unresolved(density(0.0, 0.0)) == 0.0
    assert unresolved(Density(CIRCLE, torch.ones(16).double())) == pytest.approx(0.0, abs=1e-7)
    assert unresolved(Density(CIRCLE, 1 + 0.5 * (7 * CIRCLE.centers()).cos())) == pytest.approx(1 / 3)


def test_without_variance_points_leave_a_box_or_do_not() -> None:
    grid = Grid.line(0, 4, 4)  # centers at 1/2, 3/2, 5/2, 7/2
    assert leaving_probability(grid, Grid.line(1, 3, 2), variance=0.0).tolist() == [1.0, 0.0, 0.0, 1.0]
    assert leaving_probability(grid, Grid.line(0.5, 3, 2), variance=0.0).tolist() == [0.5, 0.0, 0.0, 1.0]
    far = leaving_probability(grid, Grid.line(1.5, 1000, 2), variance=4.0)
    assert far.tolist() == pytest.approx(torch.special.ndtr(double(0.5, 0.0, -0.5, -1.0)).tolist())


@pytest.mark.parametrize("ratios", [(1.0, 1.0, 2.0), (2.0, 1.0, 1.0), (1.0, 2.0, 1.0)])
def test_levels_of_a_path_differ(ratios: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match="ratios: expected positive, finite noise levels in order"):
        integrated(torch.ones(2, 3).double(), double(*ratios))


def test_the_value_at_an_edge_counts_by_its_size() -> None:
    thirds = Grid.line(0, 3, 3)
    for values in ((-0.5, 1.0, 0.0), (0.0, 1.0, -0.5), (0.5, -1.0, 0.0)):
        assert _edge(Density(thirds, double(*values))) == 0.5


def test_the_quadrature_error_of_a_path_is_not_negative() -> None:
    ratios = double(1.0, math.e, math.e**2)
    for middle in (1.0, -1.0):  # by one step 0, by two 2 / 2
        found = integrated(double(0.0, middle, 0.0).repeat(2, 1), ratios)
        assert found.value == pytest.approx(middle)
        assert found.quadrature_error == pytest.approx(1 / 3)


@pytest.mark.parametrize("schedule", [VP(), Cosine(), RectifiedFlow()])
def test_a_transition_that_takes_no_time_changes_nothing(schedule) -> None:
    for s in torch.linspace(0.1, 0.9, 17, dtype=torch.float64).tolist():
        kernel = transition(schedule, s, s, CIRCLE)
        assert float(kernel.scale) == 1
        assert float(kernel.variance) == 0
        assert float(transition(schedule, s, math.nextafter(s, 1), CIRCLE).variance) >= 0


def test_without_time_or_noise_a_process_of_ornstein_and_uhlenbeck_is_its_drift() -> None:
    for t, diffusivity, scale in ((0.0, 1.0, 1.0), (math.log(2), 0.0, 0.5)):
        kernel = ornstein_uhlenbeck(t, CIRCLE, diffusivity=diffusivity)
        assert (float(kernel.scale), float(kernel.variance)) == (pytest.approx(scale), 0.0)


def test_a_process_in_a_steep_potential_has_no_error_where_neither_density_has_mass() -> None:
    """p_inf underflows where the density is zero too."""
    grid = Grid.line(-20, 20, 48)
    process = PotentialDiffusion.diagonalize(lambda x: 8 * x[:, 0] ** 2, grid, diffusivity=0.5)
    assert float(process.root.min()) == 0
    values = torch.where(grid.centers().abs() < 2, process.stationary().values, 0.0)
    start = Density(grid, values)
    assert math.isfinite(process.error_estimate(start, 0.0))
    end = process.evolve(start, 1.0, tolerance=math.inf)
    assert bool(end.values.isfinite().all())


@pytest.mark.parametrize("largest", [1, 2])
def test_the_gaussian_at_the_end_has_all_variances_where_jacobians_are_dense(largest: int, monkeypatch) -> None:
    """Beyond it only their mean is known."""
    monkeypatch.setattr(terminal, "DENSE", largest)
    data = Gaussian(torch.zeros(2).double(), torch.eye(2).double(), double(7.0, 2.0))
    denoiser = ExactDenoiser(data, RectifiedFlow())
    found = terminal.terminal_gaussian(denoiser, torch.zeros(1, 2).double(), 0.75, divergence=ExactDivergence()).signal
    if largest == 2:
        assert sorted(found.eigenvalues.tolist()) == pytest.approx([2 / 16, 7 / 16])
    else:
        assert len(found.eigenvalues) == 0
        assert found.tail_variance > 0


def test_a_denoiser_that_turns_its_input_around_has_no_signal() -> None:
    backward = DataPredictor(lambda x, _: -0.5 * x, RectifiedFlow(), event_shape=(2,), data_range=(-1.0, 1.0))
    like = torch.zeros(1, 2, dtype=torch.float64)
    assert terminal.terminal_gaussian(backward, like, 0.75, divergence=ExactDivergence()).signal.trace == 0
