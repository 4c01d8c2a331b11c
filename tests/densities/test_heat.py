"""Heat flow against the analytic mixture, single modes, theta functions and conservation; what a grid misses."""

import math

import mpmath
import pytest
import torch

from diffuscope.densities import Density, Grid
from diffuscope.densities.heat import heat_flow, heat_flows, heat_kernel, periodic_heat_kernel
from diffuscope.densities.resolution import mass_outside, unresolved
from diffuscope.errors import InputError
from diffuscope.exact import Gaussian, GaussianMixture

TWO_MODES = GaussianMixture.isotropic(
    torch.tensor([0.5, 0.5]), torch.tensor([[2.0], [-2.0]]), torch.tensor([0.25, 0.25])
)
DIFFUSIVITIES = torch.tensor([0.7, 1.3, 0.2], dtype=torch.float64)


def noised(distribution: GaussianMixture | Gaussian, grid: Grid, variance: float) -> Density:
    """The distribution convolved with a Gaussian, at the centers."""
    return Density(grid, grid.evaluate(lambda x: distribution.log_prob(x, 1.0, math.sqrt(variance))))


def two_modes(grid: Grid, variance: float = 0.25) -> Density:
    """Half N(2, variance) and half N(-2, variance)."""
    x = grid.centers()
    parts = [torch.exp(-((x - m) ** 2) / (2 * variance)) for m in (2, -2)]
    return Density(grid, (parts[0] + parts[1]) / (2 * math.sqrt(2 * math.pi * variance)))


def waves(grid: Grid, modes: tuple[int, ...]) -> torch.Tensor:
    """A product of cosines with so many periods along each axis, and its wave numbers."""
    product = torch.ones(grid.cells, dtype=torch.float64)
    for axis, m in enumerate(modes):
        shape = [-1 if k == axis else 1 for k in range(grid.dimensions)]
        phase = 2 * math.pi * m * (grid.centers(axis) - grid.low[axis]) / grid.lengths[axis]
        product = product * torch.cos(phase + 0.3 * m).reshape(shape)
    return product


def error_of_two_modes(half: float, cells: int) -> tuple[float, Density, Density]:
    grid = Grid.line(-half, half, cells)
    flowed = heat_flow(two_modes(grid), 0.5)
    exact = two_modes(grid, 1.25)
    return float((flowed.values - exact.values).abs().max()), flowed, exact


# against closed forms


def test_a_resolved_mixture_flows_to_the_analytic_one_to_rounding():
    error, flowed, _ = error_of_two_modes(12, 128)
    assert error <= 1e-15
    assert flowed.mass() == pytest.approx(1, abs=1e-14)
    assert flowed.lowest() >= -1e-16


def test_a_small_box_errs_by_its_periodic_images():
    error, flowed, exact = error_of_two_modes(8, 64)
    # at the last center the image of the mode at 2 is as far behind the edge as the center before it
    edge = 8 - 1 / 8
    image = math.exp(-((16 - 2 - edge) ** 2) / 2.5) / (2 * math.sqrt(2.5 * math.pi))
    assert error == pytest.approx(image, rel=1e-3)
    assert bool((flowed.values >= exact.values - 1e-16).all())  # images only add


def test_a_coarse_grid_errs_by_aliasing_and_loses_positivity():
    error, flowed, _ = error_of_two_modes(12, 32)
    assert 1e-4 < error < 4e-4  # 3e-4 with the edge among the points, 2e-4 with centers
    assert flowed.lowest() < -1e-9


def test_the_l1_error_of_a_box_is_the_mass_that_would_have_left_it():
    grid = Grid.line(-8, 8, 4096)
    lost = mass_outside(two_modes(grid), grid, variance=1.0)
    assert heat_flow(two_modes(grid), 0.5).l1_distance(two_modes(grid, 1.25)) == pytest.approx(lost, rel=1e-4)
    exact = (math.erfc(6 / math.sqrt(2.5)) + math.erfc(10 / math.sqrt(2.5))) / 2
    assert lost == pytest.approx(exact, rel=1e-10)


def test_the_mass_outside_a_box_in_three_dimensions():
    grid, box = Grid.square(-5, 5, 24, dimensions=3), Grid((-1.0, -2.0, -9.0), (1.5, 2.0, 9.0), (4, 4, 4))
    distribution = Gaussian.isotropic(torch.zeros(3), 0.6)
    inside = 1.0
    for low, high in zip(box.low, box.high, strict=True):
        inside *= float(
            torch.special.ndtr(torch.tensor([high, low]).double() / math.sqrt(0.5**2 * 0.6 + 0.4)).diff().abs()
        )
    value = mass_outside(noised(distribution, grid, 1e-30), box, scale=0.5, variance=0.4)
    assert value == pytest.approx(1 - inside, rel=1e-8)


@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_a_mixture_in_one_two_and_three_dimensions(dimensions):
    means = torch.tensor([[1.0, -0.5, 0.4], [-1.0, 0.6, 0.0]], dtype=torch.float64)[:, :dimensions]
    distribution = GaussianMixture.isotropic(torch.tensor([0.25, 0.75]), means, torch.tensor([0.5, 0.25]))
    grid = Grid((-9.0, -8.5, -8.0)[:dimensions], (9.5, 8.5, 8.0)[:dimensions], (72, 70, 66)[:dimensions])
    start = noised(distribution, grid, 0.1)
    assert unresolved(start) < 1e-9
    flowed = heat_flow(start, 0.3, diffusivity=0.8)
    torch.testing.assert_close(
        flowed.values, noised(distribution, grid, 0.1 + 2 * 0.8 * 0.3).values, rtol=0, atol=1e-13
    )
    assert flowed.mass() == pytest.approx(1, abs=1e-13)


def test_an_anisotropic_flow_adds_twice_its_diffusivity_times_t_to_each_variance():
    grid = Grid.square(-13, 13, 64, dimensions=3)
    start = noised(Gaussian.isotropic(torch.tensor([0.1, -0.2, 0.3]), 0.5), grid, 0.25)
    flowed = heat_flow(start, 0.5, diffusivity=DIFFUSIVITIES)
    torch.testing.assert_close(
        flowed.covariance(), 0.75 * torch.eye(3).double() + torch.diag(DIFFUSIVITIES), rtol=0, atol=1e-12
    )
    torch.testing.assert_close(flowed.mean(), start.mean(), rtol=0, atol=1e-13)


@pytest.mark.parametrize("modes", [(1,), (7,), (2, 3), (0, 5), (1, 2, 3), (4, 0, 1)])
def test_every_fourier_mode_decays_at_its_own_rate(modes):
    d = len(modes)
    grid = Grid((-1.0, 0.0, 2.0)[:d], (2.0, 0.7, 4.0)[:d], (16, 17, 18)[:d])
    times = torch.tensor([0.0, 1e-3, 0.02], dtype=torch.float64)
    k = [2 * math.pi * m / length for m, length in zip(modes, grid.lengths, strict=True)]
    rate = sum(float(D) * k_j**2 for D, k_j in zip(DIFFUSIVITIES[:d], k, strict=True))
    value = heat_flows(waves(grid, modes), grid, times, diffusivity=DIFFUSIVITIES[:d])
    exact = torch.exp(-rate * times).reshape(-1, *[1] * d) * waves(grid, modes)
    torch.testing.assert_close(value, exact, rtol=0, atol=1e-13)


# the flow as a semigroup


@pytest.mark.parametrize("cells", [(31,), (32,), (12, 15), (6, 7, 8)])
def test_flows_compose_conserve_mass_and_end_uniform(cells, generator):
    grid = Grid((0.0,) * len(cells), (1.0, 2.0, 1.5)[: len(cells)], cells)
    values = torch.rand(cells, dtype=torch.float64, generator=generator)
    start = Density(grid, values)
    once, twice = heat_flow(start, 0.03), heat_flow(heat_flow(start, 0.01), 0.02)
    torch.testing.assert_close(twice.values, once.values, rtol=0, atol=1e-13)
    torch.testing.assert_close(heat_flow(start, 0).values, values, rtol=0, atol=1e-14)
    assert once.mass() == pytest.approx(start.mass(), abs=1e-14)
    torch.testing.assert_close(heat_flow(start, 1e3).values, values.mean().expand(cells), rtol=0, atol=1e-14)


def test_a_batch_at_many_times_is_what_each_density_gives_at_each_time(generator):
    grid = Grid((0.0, 0.0), (1.0, 2.0), (8, 9))
    values = torch.rand(2, 3, 8, 9, dtype=torch.float64, generator=generator)
    times = torch.tensor([0.0, 0.01, 0.5], dtype=torch.float64)
    value = heat_flows(values, grid, times, diffusivity=0.3)
    for i, t in enumerate(times.tolist()):
        for j in range(2):
            alone = heat_flow(Density(grid, values[j, 1]), t, diffusivity=0.3)
            torch.testing.assert_close(value[i, j, 1], alone.values, rtol=0, atol=1e-15)


def test_a_resolved_flow_keeps_the_maximum_principle_and_raises_the_entropy():
    grid = Grid.line(-8, 8, 128)
    flow = [heat_flow(two_modes(grid), t) for t in (0.0, 0.1, 0.2, 0.5, 1.0, 4.0)]
    tops = [float(p.values.max()) for p in flow]
    entropies = [p.entropy() for p in flow]
    assert tops == sorted(tops, reverse=True)
    assert entropies == sorted(entropies)
    assert all(p.lowest() >= -1e-16 for p in flow)


def test_entropy_grows_at_the_rate_of_the_fisher_information():
    grid, t = Grid.line(-12, 12, 256), torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    p = heat_flow(two_modes(grid), t, diffusivity=0.7).values
    entropy = -grid.volume * torch.xlogy(p, p.clamp(min=1e-300)).sum()
    (growth,) = torch.autograd.grad(entropy, t)
    x, variance = grid.centers(), 0.25 + 2 * 0.7 * 0.4
    score = (2 * torch.tanh(2 * x / variance) - x) / variance  # of the analytic mixture
    assert float(growth) == pytest.approx(0.7 * grid.volume * float((p.detach() * score**2).sum()), abs=1e-10)


# derivatives


def test_the_derivative_in_time_is_the_laplacian():
    grid, t = Grid.line(-12, 12, 128), torch.tensor(0.5, dtype=torch.float64)
    _, slope = torch.autograd.functional.jvp(lambda s: heat_flow(two_modes(grid), s).values, t, torch.ones_like(t))
    x = grid.centers()
    terms = [torch.exp(-((x - m) ** 2) / 2.5) * (((x - m) / 1.25) ** 2 - 1 / 1.25) for m in (2, -2)]
    torch.testing.assert_close(slope, (terms[0] + terms[1]) / (2 * math.sqrt(2.5 * math.pi)), rtol=0, atol=1e-14)


def test_the_flow_is_its_own_adjoint(generator):
    grid = Grid((0.0, 0.0), (1.0, 2.0), (8, 9))
    p = torch.rand(8, 9, dtype=torch.float64, generator=generator).requires_grad_()
    u = torch.randn(8, 9, dtype=torch.float64, generator=generator)
    (gradient,) = torch.autograd.grad((u * heat_flow(Density(grid, p), 0.01).values).sum(), p)
    torch.testing.assert_close(gradient, heat_flow(Density(grid, u), 0.01).values, rtol=0, atol=1e-14)


def test_time_and_diffusivity_only_act_through_their_product():
    grid = Grid((0.0, 0.0), (1.0, 2.0), (8, 9))
    t, D = (torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in (0.02, 0.5))
    value = (waves(grid, (1, 2)) * heat_flow(Density(grid, waves(grid, (1, 2))), t, diffusivity=D).values).sum()
    by_t, by_D = torch.autograd.grad(value, (t, D))
    assert 0.02 * float(by_t) == pytest.approx(0.5 * float(by_D), rel=1e-13)


# kernels


@pytest.mark.parametrize("Dt", [0.01, 0.05, 0.35, 0.3581, 0.3582, 0.4, 1.0, 3.0])
def test_the_periodic_kernel_is_jacobis_theta_function(Dt):
    length = 2.1213  # the series meet at Dt = length^2 / (4 pi) = 0.35810
    x = torch.tensor([0.0, 0.1, -0.4, 1.06065, 1.5, 12.3], dtype=torch.float64)
    with mpmath.workdps(40):
        nome = mpmath.exp(-Dt * (2 * mpmath.pi / length) ** 2)
        theta = [mpmath.jtheta(3, mpmath.pi * v / length, nome) / length for v in x.tolist()]
    exact = torch.tensor([float(value) for value in theta], dtype=torch.float64)
    value = periodic_heat_kernel(x, Dt, length=length)
    torch.testing.assert_close(value, exact, rtol=1e-13, atol=0)


def test_the_flow_of_a_periodic_kernel_is_the_kernel_at_the_later_time():
    grid = Grid.line(0, 3, 128)
    start = Density(grid, periodic_heat_kernel(grid.centers(), 0.01, length=3))
    flowed = heat_flow(start, 0.5, diffusivity=0.2)
    exact = periodic_heat_kernel(grid.centers(), 0.55, length=3, diffusivity=0.2)
    torch.testing.assert_close(flowed.values, exact, rtol=0, atol=1e-14)
    assert flowed.mass() == pytest.approx(1, abs=1e-14)


def test_the_kernel_on_the_line_is_a_gaussian_and_what_a_narrow_periodic_one_becomes():
    x = torch.linspace(-0.5, 0.5, 11, dtype=torch.float64)
    exact = torch.exp(-(x**2) / 0.012) / math.sqrt(0.012 * math.pi)
    torch.testing.assert_close(heat_kernel(x, 0.01, diffusivity=0.3), exact, rtol=1e-13, atol=0)
    torch.testing.assert_close(periodic_heat_kernel(x, 0.01, length=9, diffusivity=0.3), exact, rtol=1e-13, atol=0)


def test_kernels_solve_the_heat_equation():
    x, t = torch.tensor(0.3, dtype=torch.float64), torch.tensor(0.2, dtype=torch.float64)
    for kernel in (
        heat_kernel,
        lambda x, t: periodic_heat_kernel(x, t, length=1),
        lambda x, t: periodic_heat_kernel(x, t, length=4),
    ):
        H = torch.autograd.functional.hessian(lambda x, kernel=kernel: kernel(x, t), x)
        slope = torch.autograd.functional.jacobian(lambda t, kernel=kernel: kernel(x, t), t)
        assert float(slope) == pytest.approx(float(H), rel=1e-12)  # type: ignore[arg-type]


# resolution


@pytest.mark.parametrize(("shape", "power", "worst"), [("jump", 1, 3.0), ("kink", 2, 1.5)])
@pytest.mark.parametrize("cells", [32, 33, 128])
def test_unresolved_bounds_what_lies_above_nyquist_for_jumps_and_kinks(shape, power, worst, cells):
    grid = Grid.line(0, 1, cells)
    x = grid.centers() - 0.013  # off the symmetry, where the sampled coefficients would vanish
    p = Density(grid, torch.where(x < 0.4, 1.0, 0.0) if shape == "jump" else (x - 0.5).abs())
    m = torch.arange(1, 200_001).double()
    c = (torch.sin(math.pi * 0.413 * m) if shape == "jump" else (1 - torch.cos(math.pi * m)) / (2 * math.pi)) / (
        math.pi * m**power
    )
    everything = 0.413**2 + 2 * (c**2).sum() if shape == "jump" else 0.25**2 + 2 * (c**2).sum()
    lost = math.sqrt(2 * float((c[m > cells / 2] ** 2).sum()) / float(everything))
    assert lost <= worst * unresolved(p)


@pytest.mark.parametrize("cells", [32, 48, 64, 96])
def test_unresolved_bounds_the_error_of_a_gaussian_between_its_grid_points(cells):
    grid = Grid.line(-12, 12, cells)
    between = heat_flow(two_modes(grid), 0)  # a value per cell: move by half a cell through its spectrum
    k = 2 * math.pi * torch.fft.rfftfreq(cells, grid.widths[0]).double()
    moved = torch.fft.irfft(torch.fft.rfft(between.values) * torch.exp(0.5j * k * grid.widths[0]), n=cells)
    exact = two_modes(Grid.line(-12 + grid.widths[0] / 2, 12 + grid.widths[0] / 2, cells))
    error = float((moved - exact.values).norm() / exact.values.norm())
    assert error <= 2 * unresolved(two_modes(grid)) + 1e-15


def test_unresolved_looks_along_every_axis(generator):
    for cells in (31, 32):
        grid = Grid.square(0, 1, cells, dimensions=3)
        for modes in ((14, 0, 0), (0, 14, 0), (0, 0, 15), (14, 15, 0), (13, 13, 13)):
            flat = 1 + 1e-5 * waves(grid, modes)
            axes = sum(m >= 14 for m in modes)
            exact = 1e-5 * float(waves(grid, modes).norm()) / float(flat.norm()) * math.sqrt(axes)
            assert unresolved(Density(grid, flat)) == pytest.approx(exact, rel=1e-9, abs=1e-15)
    nyquist = Density(Grid.line(0, 1, 4), torch.tensor([1.0, -1.0, 1.0, -1.0]))
    assert unresolved(nyquist) == 1
    noise = torch.randn(64, 64, dtype=torch.float64, generator=generator)
    share = math.sqrt(2 * 9 / 64)  # white noise: 55 of 64 modes per axis are below 7/8 of Nyquist
    assert unresolved(Density(Grid.square(0, 1, 64), noise)) == pytest.approx(share, abs=0.05)


# bad input


@pytest.mark.parametrize("t", [-1e-3, math.nan, math.inf])
def test_a_time_that_is_negative_or_not_finite_is_refused(t):
    with pytest.raises(InputError, match=r"^t: "):
        heat_flow(two_modes(Grid.line(-8, 8, 16)), t)
    with pytest.raises(InputError, match=r"^t: "):
        heat_kernel(torch.zeros(1), t)


@pytest.mark.parametrize("diffusivity", [-1.0, math.nan, torch.tensor([1.0, 1.0]).double()])
def test_an_impossible_diffusivity_is_refused(diffusivity):
    with pytest.raises(InputError, match=r"^diffusivity: "):
        heat_flow(two_modes(Grid.line(-8, 8, 16)), 1.0, diffusivity=diffusivity)


def test_values_of_another_shape_and_lengths_below_zero_are_refused():
    grid = Grid.line(-8, 8, 16)
    with pytest.raises(InputError, match=r"^values: .*16"):
        heat_flows(torch.zeros(2, 15), grid, torch.ones(1).double())
    for length in (0, -1.0, math.inf):
        with pytest.raises(InputError, match=r"^length: "):
            periodic_heat_kernel(torch.zeros(1), 1.0, length=length)
