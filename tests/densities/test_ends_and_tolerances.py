"""What the ends of a box, a tolerance and a switch of method do, just on either side of them."""

import math

import pytest
import torch
from scipy import stats

from diffuscope.denoisers import ExactDenoiser
from diffuscope.densities import (
    Density,
    ExactDivergence,
    Grid,
    anti_diffuse,
    gradient_equation,
    ito_equation,
    transport,
)
from diffuscope.densities.grid_integrals import expectation
from diffuscope.densities.level_derivative import noise_derivative
from diffuscope.densities.semigroup import Transition
from diffuscope.errors import InputError
from diffuscope.exact import Gaussian
from diffuscope.schedules import VE, VP, DiscreteVP

NORMAL = Gaussian.isotropic(torch.zeros(1), 1.0)


def random_values(*shape):
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("slope", [-1.7, 0.6])
def test_a_linear_potential_is_a_constant_drift_up_to_absorbing_ends(slope):
    grid = Grid.line(-1, 2, 7)
    gradient = gradient_equation(grid, lambda x: slope * x[:, 0], 0.4, boundary="absorbing")
    drifting = ito_equation(grid, lambda x, t: torch.full_like(x, -slope), 0.4, boundary="absorbing")  # noqa: ARG005
    p = random_values(7)
    torch.testing.assert_close(gradient.rate(p, 0.0), drifting.rate(p, 0.0), rtol=1e-12, atol=1e-12)


def test_the_gibbs_distribution_of_a_periodic_potential_is_stationary():
    grid = Grid.line(0, 2 * math.pi, 12)

    def potential(x):
        return torch.sin(x[:, 0]) + 0.3 * torch.cos(2 * x[:, 0])

    gibbs = (-potential(grid.points())).exp()
    rate = gradient_equation(grid, potential, boundary="periodic").rate(gibbs, 0.0)
    assert float(rate.abs().max()) < 1e-12
    turned = gradient_equation(grid, potential, boundary="periodic").rate(gibbs.flip(0), 0.0)
    assert float(turned.abs().max()) > 0.1


def test_without_noise_the_central_flux_is_the_mean_of_both_sides():
    grid, u, p = Grid.line(0, 3, 6), 1.3, random_values(6)
    equation = ito_equation(
        grid,
        lambda x, t: torch.full_like(x, u),  # noqa: ARG005
        0.0,
        boundary="periodic",
        noiseless="central",
    )
    centered = -u * (p.roll(-1) - p.roll(1)) / (2 * grid.widths[0])
    torch.testing.assert_close(equation.rate(p, 0.0), centered, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize(("share", "held"), [(0.95e-9, True), (1.05e-9, False)])
def test_a_grid_may_lose_a_billionth_of_the_mass(share, held):
    half = float(stats.norm.isf(share / 2))
    grid = Grid.line(-half, half, 4000)
    if held:
        assert float(expectation(NORMAL, 1.0, 1e-9, grid, lambda x: x[:, 0] ** 2)) == pytest.approx(1, abs=1e-6)
        return
    with pytest.raises(InputError, match="grid: expected one that holds and resolves the density"):
        expectation(NORMAL, 1.0, 1e-9, grid, lambda x: x[:, 0])


@pytest.mark.parametrize(("relative", "kept"), [(0.9e-12, True), (1.05e-12, False)])
def test_a_value_below_zero_is_rounding_up_to_a_trillionth_of_the_largest(relative, kept):
    values = torch.tensor([2.0, 1.0, 0.5, -2.0 * relative], dtype=torch.float64)
    density = Density(Grid.line(0, 4, 4), values)
    if kept:
        assert density.entropy() == pytest.approx(-2 * math.log(2) - 0.5 * math.log(0.5), rel=1e-12)
        return
    with pytest.raises(InputError, match="density: expected values >= 0"):
        density.entropy()


@pytest.mark.parametrize(("relative", "finite"), [(0.9e-12, True), (1.05e-12, False)])
def test_mass_where_the_other_density_is_empty_is_rounding_up_to_a_trillionth_of_the_largest(relative, finite):
    grid, other = Grid.line(0, 3, 3), torch.tensor([0.5, 0.5, 0.0], dtype=torch.float64)
    p = torch.tensor([0.6, 0.4, 0.6 * relative], dtype=torch.float64)
    assert math.isfinite(Density(grid, p).relative_entropy(Density(grid, other))) == finite


def test_modes_above_the_cutoff_are_left_out_altogether():
    grid = Grid.line(0, 2 * math.pi, 16)
    x = grid.centers()
    density = Density(grid, 1 + 0.5 * (2 * x).cos() + 0.25 * (5 * x).sin())
    found = anti_diffuse(density, exponent=0.0, cutoff=3.0).density
    torch.testing.assert_close(found.values, 1 + 0.5 * (2 * x).cos(), rtol=0, atol=1e-14)


@pytest.mark.parametrize(("above", "kept"), [(0.95e-12, True), (1.05e-12, False)])
def test_a_mode_a_trillionth_above_the_square_of_the_cutoff_is_kept(above, kept):
    grid = Grid.line(0, 2 * math.pi, 16)
    mode = 0.5 * (4 * grid.centers()).cos()
    cutoff = 4 * (1 - above / 2)  # of whose square the mode's is 1 + above
    found = anti_diffuse(Density(grid, 1 + mode), exponent=0.0, cutoff=cutoff).density
    torch.testing.assert_close(found.values, 1 + (mode if kept else 0 * mode), rtol=0, atol=1e-12)


def test_nyquists_mode_is_kept_where_a_density_stays_as_it_is():
    """cos(pi j) on its own grid, in boxes whose frequencies round either way."""
    for low, high in ((-1.0, 2.0), (0.1, 0.8), (-3.3, 1.9)):
        for cells in (6, 14, 22, 38):
            grid = Grid.line(low, high, cells)
            values = torch.cos(math.pi * torch.arange(cells, dtype=torch.float64))
            torch.testing.assert_close(Transition(grid, grid, 1.0, 0.0).apply(values), values, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("schedule", "t"), [(VP(), 5e-4), (DiscreteVP.linear(), 0.05)], ids=["VP", "DiscreteVP"])
def test_a_density_is_carried_from_below_the_time_where_sampling_stops(schedule, t):
    data = Gaussian.isotropic(torch.zeros(1), 0.25)
    s = float(schedule.time_of_noise_to_signal(1.0))
    found = transport(
        ExactDenoiser(data, schedule), torch.tensor([[0.7]], dtype=torch.float64), t, s, divergence=ExactDivergence()
    )
    variances = [float(schedule.alpha(at) ** 2 / 4 + schedule.sigma(at) ** 2) for at in (t, s)]
    growth = variances[1] / variances[0]
    assert float(found.log_det) == pytest.approx(math.log(growth) / 2, abs=1e-6)


@pytest.mark.parametrize(("off", "agrees"), [(0.0095, True), (-0.0095, True), (0.0105, False), (-0.0105, False)])
def test_autograd_is_believed_where_it_agrees_with_differences_to_a_hundredth(off, agrees):
    """D = lambda x, of which torch's graph shows the slope times 1 + off."""

    class Shown:
        schedule = VE()

        def __call__(self, x_t, t):
            lam = -torch.as_tensor(t, dtype=torch.float64).log()
            return (lam + off * (lam - lam.detach())).reshape(-1, 1) * x_t

    x = torch.tensor([[1.0], [-2.0]], dtype=torch.float64)
    found = noise_derivative(Shown(), x, 0.7)
    assert found.by_autograd == agrees
    torch.testing.assert_close(found.value, (1 + off * agrees) * x, rtol=1e-9, atol=0)
