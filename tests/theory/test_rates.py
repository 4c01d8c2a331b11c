"""Transition rates: closed forms, invariance, refusals at a caustic, and eigenvalues of the Fokker-Planck operator."""

import math

import numpy as np
import pytest
import torch
from scipy.sparse import eye_array
from scipy.sparse.linalg import splu
from torch import Tensor

from diffuscope.densities import Grid, generator_matrix, gradient_equation, ito_equation, relaxation_rates
from diffuscope.densities.relaxation import alternating
from diffuscope.errors import InputError
from diffuscope.theory.paths import Dynamics, eyring_kramers, fixed_point, fixed_points, kramers, transition_rate
from diffuscope.theory.paths.instanton import instanton
from diffuscope.theory.paths.riccati import curvatures, with_tangent

LEFT, MIDDLE = torch.tensor([-1.0, 0.0]), torch.tensor([0.0, 0.0])


def maier_stein(beta: float, noise: float = 1.0) -> Dynamics:
    def drift(z: Tensor) -> Tensor:
        x, y = z[:, 0], z[:, 1]
        return torch.stack([x - x**3 - beta * x * y**2, -(1 + x**2) * y], 1)

    return Dynamics(drift, noise)


def valley(z: Tensor) -> Tensor:
    """A bent double well: minima at (+-1, 0.3), a saddle at 0."""
    x, y = z[:, 0], z[:, 1]
    return (x**2 - 1) ** 2 + 2 * (y - 0.3 * x**2) ** 2


def downhill(D: Tensor):
    def drift(z: Tensor) -> Tensor:
        x, y = z[:, 0], z[:, 1]
        bend = 4 * (y - 0.3 * x**2)
        return -torch.stack([4 * x * (x**2 - 1) - 0.6 * x * bend, bend], 1) @ D

    return drift


def test_fixed_points_are_found_once_each_and_classified() -> None:
    guesses = torch.tensor([[-0.8, 0.2], [0.1, 0.1], [1.2, -0.1], [0.9, 0.0]])
    found = fixed_points(maier_stein(2.0), guesses)
    assert [point.kind for point in found] == ["stable", "saddle", "stable"]
    torch.testing.assert_close(found[0].state, torch.tensor([-1.0, 0.0], dtype=torch.float64), atol=1e-12, rtol=0)
    assert sorted(found[0].eigenvalues.real.tolist()) == pytest.approx([-2.0, -2.0], abs=1e-12)
    assert found[1].eigenvalues.real.tolist() == pytest.approx([1.0, -1.0], abs=1e-12)
    assert found[1].unstable_directions == 1


def test_a_fixed_point_carries_no_gradient_of_its_guess_and_leaves_it_as_it_was() -> None:
    guess = torch.tensor([-0.8, 0.1], dtype=torch.float64, requires_grad=True)
    found = fixed_points(maier_stein(2.0), guess[None])[0]
    alone = fixed_point(maier_stein(2.0), guess)
    for point in (found, alone):
        assert not any(part.requires_grad for part in (point.state, point.jacobian, point.eigenvalues))
        torch.testing.assert_close(point.state, torch.tensor([-1.0, 0.0], dtype=torch.float64), rtol=0, atol=1e-12)
    assert guess.grad is None
    assert guess.requires_grad


def test_the_general_rate_of_a_gradient_system_is_that_of_eyring_and_kramers() -> None:
    """Both with noise that is correlated between the coordinates; the path is curved."""
    D = torch.tensor([[0.4, 0.1], [0.1, 0.2]], dtype=torch.float64)
    start, end = torch.tensor([-1.0, 0.3]), torch.tensor([0.0, 0.0])
    general, closed = transition_rate(Dynamics(downhill(D), D), start, end), eyring_kramers(valley, D, start, end)
    assert general.barrier == pytest.approx(closed.barrier, rel=1e-6)
    assert general.prefactor == pytest.approx(closed.prefactor, rel=5e-4)  # the path is cut off at 1e-3 of its length
    assert abs(general.expansion) < 5e-4
    assert general.curvature_ratio > 1


def test_curvatures_at_both_ends_are_those_of_the_potential_and_the_barrier_is_its_height() -> None:
    """f = -grad U, D = 1: the quasipotential is U, of Hessians [[8 + 1.44, -2.4], [-2.4, 4]] and diag(-4, 4)."""
    dynamics = Dynamics(downhill(torch.eye(2, dtype=torch.float64)), 1.0)
    a, s = (fixed_point(dynamics, guess) for guess in (torch.tensor([-1.0, 0.3]), MIDDLE))
    path = instanton(dynamics, a, s)
    found = curvatures(dynamics, a, s, path)
    stable = torch.tensor([[9.44, 2.4], [2.4, 4.0]], dtype=torch.float64)
    torch.testing.assert_close(found.at_stable, stable, rtol=0, atol=1e-9)
    saddle = torch.tensor([[-4.0, 0.0], [0.0, 4.0]], dtype=torch.float64)
    torch.testing.assert_close(found.at_saddle, saddle, rtol=0, atol=1e-4)  # extrapolated to it from near it
    assert found.barrier == pytest.approx(1.0, rel=1e-6)
    assert abs(found.expansion) < 1e-5  # div f + tr D H = 0


def test_on_a_line_the_rate_is_kramers_and_smoluchowskis() -> None:
    found = transition_rate(Dynamics(lambda x: x - x**3, 0.02), torch.tensor([-1.0]), torch.tensor([0.0]))
    assert found.prefactor == pytest.approx(math.sqrt(2) / (2 * math.pi), rel=1e-4)
    assert found.barrier == pytest.approx(0.25 / 0.02, rel=1e-7)
    assert found.rate == pytest.approx(found.prefactor * math.exp(-found.barrier), rel=1e-14)
    assert found.at(2.0) == pytest.approx(found.prefactor * math.exp(-6.25), rel=1e-6)


@pytest.mark.parametrize("side", [-1.0, 1.0])
def test_a_path_to_the_left_costs_as_much_as_its_mirror_image_to_the_right(side: float) -> None:
    """(U(0) - U(1)) / D, one half; the momenta have the sign of the motion along x, and are 0 along y."""
    dynamics = Dynamics(lambda x: torch.stack([x[:, 0] - x[:, 0] ** 3, -x[:, 1]], 1), 0.5)
    a, s = (fixed_point(dynamics, torch.tensor([at, 0.0])) for at in (side, 0.0))
    path = instanton(dynamics, a, s)
    assert float(path.momenta[:, 0].sign().unique()) == -side
    assert float(path.momenta[:, 1].abs().max()) == 0
    assert curvatures(dynamics, a, s, path).barrier == pytest.approx(0.5, rel=1e-6)


def test_under_noise_in_the_velocity_alone_the_general_rate_is_kramers() -> None:
    def kicked(z: Tensor) -> Tensor:
        return torch.stack([z[:, 1], z[:, 0] - z[:, 0] ** 3 - 2 * z[:, 1]], 1)

    found = transition_rate(Dynamics(kicked, torch.tensor([0.0, 2.0])), LEFT, MIDDLE)
    closed = kramers(lambda x: x[:, 0] ** 4 / 4 - x[:, 0] ** 2 / 2, 2.0, 1.0, LEFT[:1], MIDDLE[:1])
    assert closed.prefactor == pytest.approx((math.sqrt(2) - 1) * math.sqrt(2) / (2 * math.pi), rel=1e-12)
    assert found.barrier == pytest.approx(0.25, rel=1e-6)
    assert found.prefactor == pytest.approx(closed.prefactor, rel=1e-4)


def test_a_linear_change_of_coordinates_changes_no_rate() -> None:
    M = torch.tensor([[1.0, 0.5], [-0.3, 2.0]], dtype=torch.float64)
    inverse = torch.linalg.inv(M)
    plain = maier_stein(2.0, 0.3)
    turned = Dynamics(lambda y: plain.drift(y @ inverse.T) @ M.T, 0.3 * M @ M.T)
    first = transition_rate(plain, LEFT, MIDDLE)
    second = transition_rate(turned, M @ LEFT.double(), M @ MIDDLE.double())
    assert second.barrier == pytest.approx(first.barrier, rel=1e-6)
    assert second.prefactor == pytest.approx(first.prefactor, rel=1e-4)


def test_without_a_potential_the_prefactor_solves_the_riccati_equation_across_the_axis() -> None:
    """On the axis of Maier and Stein's system with x from -1 to 0, p = x^3 - x and H across it, K, obeys

    K' = 2 (1 + x^2) K - 2 K^2 + 2 beta x p, dx/dt = x - x^3 + 2 p; integrated here in x by Runge and Kutta.
    """
    beta, K, x, steps = 2.0, 2.0, -1.0 + 1e-6, 20_000
    h = (1 - 2e-6) / steps
    expansion = 0.0

    def slopes(x: float, K: float) -> tuple[float, float]:
        speed = x**3 - x
        change = 2 * (1 + x**2) * K - 2 * K**2 + 2 * beta * x * (x**3 - x)
        divergence = (1 - 3 * x**2) - (1 + x**2) + (3 * x**2 - 1) + K
        return change / speed, divergence / speed

    for _ in range(steps):
        k1 = slopes(x, K)
        k2 = slopes(x + h / 2, K + h / 2 * k1[0])
        k3 = slopes(x + h / 2, K + h / 2 * k2[0])
        k4 = slopes(x + h, K + h * k3[0])
        K += h / 6 * (k1[0] + 2 * k2[0] + 2 * k3[0] + k4[0])
        expansion += h / 6 * (k1[1] + 2 * k2[1] + 2 * k3[1] + k4[1])
        x += h
    found = transition_rate(maier_stein(beta), LEFT, MIDDLE)
    assert found.expansion == pytest.approx(expansion, abs=1e-4)
    assert found.curvature_ratio == pytest.approx(2.0, rel=1e-4)
    assert found.barrier == pytest.approx(0.25, rel=1e-7)


@pytest.mark.parametrize("beta", [4.0, 5.0])
def test_where_the_riccati_solution_is_not_smooth_the_prefactor_is_refused(beta: float) -> None:
    with pytest.raises(InputError, match="saddle: the Riccati equation of the quasipotential"):
        transition_rate(maier_stein(beta), LEFT, MIDDLE)


def test_the_imposed_tangent_is_mapped_exactly_and_the_rest_is_kept() -> None:
    generator = torch.Generator().manual_seed(0)
    H, e, g = (torch.randn(shape, dtype=torch.float64, generator=generator) for shape in ((3, 3), (3,), (3,)))
    H, e = (H + H.T).numpy(), (e / e.norm()).numpy()
    imposed = torch.from_numpy(with_tangent(H, e, g.numpy()))
    torch.testing.assert_close(imposed @ torch.from_numpy(e), g, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(imposed, imposed.T, rtol=1e-12, atol=1e-12)
    P = torch.eye(3, dtype=torch.float64) - torch.outer(torch.from_numpy(e), torch.from_numpy(e))
    torch.testing.assert_close(P @ imposed @ P, P @ torch.from_numpy(H) @ P, rtol=1e-12, atol=1e-12)


def test_an_ornstein_uhlenbeck_process_relaxes_at_its_eigenvalues() -> None:
    """kappa = 1, 2, ... on a line; the error of a grid is of second order."""
    off = [
        relaxation_rates(gradient_equation(Grid.line(-8, 8, n), lambda x: x[:, 0] ** 2 / 2), 3, shift=0.1)
        - torch.arange(1.0, 4.0)
        for n in (100, 200)
    ]
    assert float(off[1].abs().max()) < 0.01
    torch.testing.assert_close(off[0] / off[1], torch.full((3,), 4.0, dtype=torch.float64), rtol=0.03, atol=0)
    turning = ito_equation(
        Grid.square(-6, 6, 60),
        lambda z, _: torch.stack([-z[:, 0] - 0.5 * z[:, 1], 0.5 * z[:, 0] - z[:, 1]], 1),
        1.0,
        steady=True,
    )
    spiral = relaxation_rates(turning, 2, shift=0.1)  # -1 +- i / 2
    assert float((spiral.real - 1).abs().max()) < 0.01
    assert float((spiral.imag.abs() - 0.5).abs().max()) < 0.01


def test_the_matrix_of_an_equation_is_its_right_side() -> None:
    grid = Grid((-2.0, -1.0), (2.0, 1.5), (9, 7))
    equation = ito_equation(grid, lambda z, _: torch.stack([z[:, 1], -z[:, 0]], 1), 0.3, steady=True)
    p = torch.rand(grid.cells, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    product = torch.from_numpy(generator_matrix(equation) @ p.reshape(-1).numpy()).reshape(grid.cells)
    torch.testing.assert_close(product, equation.rate(p, 0.0), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("noise", "percent"), [(0.02, 3.3), (0.03, 5.4), (0.04, 7.5), (0.05, 9.3)])
def test_in_the_double_well_the_rate_is_off_by_the_known_shares(noise: float, percent: float) -> None:
    equation = gradient_equation(Grid.line(-2, 2, 800), lambda x: x[:, 0] ** 4 / 4 - x[:, 0] ** 2 / 2, noise)
    closed = eyring_kramers(
        lambda x: (x[:, 0] ** 4 / 4 - x[:, 0] ** 2 / 2) / noise, noise, torch.tensor([-1.0]), torch.tensor([0.0])
    )
    found = float(relaxation_rates(equation, shift=2 * closed.rate)[0])
    assert 100 * (2 * closed.rate / found - 1) == pytest.approx(percent, abs=0.1)


def stationary_variance(flux: str, n: int) -> tuple[float, float]:
    """Of the position in a kinetic Ornstein-Uhlenbeck process, exactly 1, and the least density over the largest."""
    D = torch.tensor([0.0, 1.0], dtype=torch.float64)
    grid = Grid.square(-6, 6, n)
    equation = ito_equation(
        grid,
        lambda z, _: torch.stack([z[:, 1], -z[:, 0] - z[:, 1]], 1),
        lambda z, _: D.expand(len(z), 2),
        steady=True,
        noiseless=flux,  # pyright: ignore
    )
    shifted = generator_matrix(equation) - 1e-9 * eye_array(n * n)  # one inverse iteration: the gap is 1e9 shifts
    p = torch.from_numpy(splu(shifted.tocsc()).solve(np.ones(n * n))).reshape(n, n)
    return float((p * grid.points()[..., 0].square()).sum() / p.sum()), float((p / p.sum()).min() * p.numel())


def test_where_a_coordinate_has_no_noise_upwind_is_positive_and_of_first_order_and_central_of_second() -> None:
    upwind, central = ([stationary_variance(flux, n) for n in (32, 64)] for flux in ("upwind", "central"))
    assert (upwind[0][0] - 1) / (upwind[1][0] - 1) < 2.5
    assert upwind[1][0] == pytest.approx(1.165, abs=5e-4)
    assert (central[0][0] - 1) / (central[1][0] - 1) == pytest.approx(4.0, abs=0.1)
    assert central[1][0] - 1 < 0.01
    assert upwind[0][1] > 0
    assert central[0][1] < 0  # the price


def test_modes_that_alternate_from_cell_to_cell_are_not_rates_of_the_central_flux() -> None:
    """A kinetic oscillator, kappa = (1 +- i sqrt(3)) / 2 and their sum, 1."""
    signs = (-1.0) ** torch.arange(6)
    smooth = torch.ones(6, 5, dtype=torch.float64)
    assert alternating(torch.stack([smooth, signs[:, None] * smooth, 2 * smooth])).tolist() == [False, True, False]
    D = torch.tensor([0.0, 1.0], dtype=torch.float64)
    equation = ito_equation(
        Grid.square(-6, 6, 64),
        lambda z, _: torch.stack([z[:, 1], -z[:, 0] - z[:, 1]], 1),
        lambda z, _: D.expand(len(z), 2),
        steady=True,
        noiseless="central",
    )
    found = relaxation_rates(equation, 3, shift=0.1)
    exact = torch.tensor([complex(0.5, 0.75**0.5), complex(0.5, -(0.75**0.5)), 1.0], dtype=torch.complex128)
    assert float(torch.cdist(torch.view_as_real(found), torch.view_as_real(exact)).amin(1).max()) < 0.02


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"stable": MIDDLE}, "stable: expected a stable fixed point, got eigenvalues"),
        ({"saddle": LEFT}, "saddle: expected a saddle with one unstable direction"),
        ({"stable": torch.tensor([float("nan"), 0.0])}, "stable: expected one finite state"),
        ({"dynamics": Dynamics(lambda x, t: x * t[:, None], 1.0)}, "drift: expected a function of \\(x\\) alone"),
        ({"dynamics": Dynamics(lambda x: -x, lambda x: torch.eye(2).expand(len(x), 2, 2))}, "diffusion: .* constant D"),
        ({"dynamics": Dynamics(lambda x: torch.ones_like(x) + 0 * x, 1.0)}, "stable: Newton's method"),
    ],
)
def test_a_rate_that_cannot_be_is_refused_in_one_line(arguments: dict, message: str) -> None:
    given = {"dynamics": maier_stein(2.0), "stable": LEFT, "saddle": MIDDLE} | arguments
    with pytest.raises(InputError, match=message) as caught:
        transition_rate(**given)
    assert "\n" not in str(caught.value)


def test_closed_forms_and_eigenvalues_refuse_what_they_cannot_take() -> None:
    with pytest.raises(InputError, match="stable: expected a minimum"):
        eyring_kramers(valley, 1.0, MIDDLE, MIDDLE)
    with pytest.raises(InputError, match="saddle: expected a point where one direction falls"):
        eyring_kramers(valley, 1.0, torch.tensor([-1.0, 0.3]), torch.tensor([1.0, 0.3]))
    with pytest.raises(InputError, match="friction: expected a finite number > 0"):
        kramers(valley, 0.0, 1.0, LEFT, MIDDLE)
    line = gradient_equation(Grid.line(-2, 2, 20), lambda x: x[:, 0] ** 2)
    with pytest.raises(InputError, match="shift: expected a number > 0"):
        relaxation_rates(line, shift=0.0)
    with pytest.raises(InputError, match="count: expected 1 to 17"):
        relaxation_rates(line, 0)
    absorbing = gradient_equation(Grid.line(-2, 2, 20), lambda x: x[:, 0] ** 2, boundary="absorbing")
    with pytest.raises(InputError, match="equation: expected one that conserves mass"):
        relaxation_rates(absorbing)
