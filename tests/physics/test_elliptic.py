"""Poisson's and Helmholtz's equation: residuals, matrices, spectra, inverses, random problems, refusals."""

import math

import numpy as np
import pytest
import torch
from manufactured import BOUNDARIES, box, sides
from scipy.sparse import csr_array, diags_array
from torch import Tensor

from diffuscope.errors import InputError
from diffuscope.physics import Darcy, Equation, Grid, Helmholtz, Poisson, inverse
from diffuscope.physics.operators import FluxForm, factorization
from numbers_in_tests import normal


def equations(n: int, boundary: tuple[str, ...]) -> list[Equation]:
    grid = box(n, boundary)
    f = 0.0 if "dirichlet" not in boundary else 1.3
    return [
        Poisson(grid, sides(boundary)),
        Poisson(grid, sides(boundary), screening=1.7),
        Helmholtz(grid, 2.3, sides(boundary)),
        Darcy(grid, f, sides(boundary)),
    ]


@pytest.mark.parametrize("boundary", BOUNDARIES, ids="-".join)
def test_the_residual_of_the_reference_solution_is_at_rounding_level(boundary: tuple[str, ...]) -> None:
    for equation in equations(24, boundary):
        given = equation.draw(3, generator=torch.Generator().manual_seed(1))
        if isinstance(equation, Darcy):
            f = without_constants(equation.grid, normal(*equation.grid.shape), equation.singular)
            equation = Darcy(equation.grid, f, sides(boundary))
        elif "dirichlet" in boundary:
            given = given + torch.where(equation.form.dirichlet, normal(*given.shape), 0.0)  # type: ignore[attr-defined]
        u = equation.solve(given)
        A = abs(equation.jacobian(u[0], given[0]))
        rounding = float((A @ u[0].abs().flatten().numpy()).max())
        F = equation.residual(u[:1], given[:1])
        assert float(F.abs().max()) < 1e-13 * rounding
        held = FluxForm(equation.grid, sides(boundary)).dirichlet
        assert float(F[0][held].abs().sum()) == 0  # boundary values are exact


def without_constants(grid: Grid, f: Tensor, singular: bool) -> Tensor:
    return f - (grid.weights * f).sum() / grid.weights.sum() if singular else f


@pytest.mark.parametrize("boundary", BOUNDARIES, ids="-".join)
def test_the_jacobian_by_hand_is_that_of_autograd(boundary: tuple[str, ...]) -> None:
    for equation in equations(6, boundary):
        shape, N = equation.grid.shape, equation.grid.size
        given, u = normal(*shape, seed=2).exp(), normal(*shape)
        by_hand = equation.jacobian(u, given).toarray()
        F = lambda v: equation.residual(v[None], given[None])[0]  # noqa: B023, E731
        by_autograd = torch.autograd.functional.jacobian(F, u).reshape(N, N).numpy()
        np.testing.assert_allclose(by_hand, by_autograd, rtol=0, atol=1e-14 * np.abs(by_hand).max())


@pytest.mark.parametrize("boundary", [("dirichlet", "neumann"), ("periodic", "neumann")], ids="-".join)
def test_the_residual_is_differentiable_in_what_is_given(boundary: tuple[str, ...]) -> None:
    for equation in equations(4, boundary):
        u, given = normal(1, *equation.grid.shape).requires_grad_(), normal(1, *equation.grid.shape, seed=2).exp()
        assert torch.autograd.gradcheck(equation.residual, (u, given.requires_grad_()))


@pytest.mark.parametrize("boundary", BOUNDARIES, ids="-".join)
def test_the_spectrum_is_known_in_closed_form(boundary: tuple[str, ...]) -> None:
    equation = Poisson(box(9, boundary), sides(boundary))
    free = (~equation.form.dirichlet).flatten().numpy()
    root = equation.grid.weights.flatten().sqrt().numpy()[free]
    L = equation.jacobian(equation.grid.weights, equation.grid.weights).toarray()[free][:, free]
    symmetric = root[:, None] * L / root
    np.testing.assert_allclose(symmetric, symmetric.T, rtol=0, atol=1e-13 * L.max())
    expected = equation.eigenvalues().flatten().sort().values.numpy()
    np.testing.assert_allclose(np.linalg.eigvalsh(symmetric), expected, rtol=0, atol=1e-13 * L.max())


@pytest.mark.parametrize("boundary", BOUNDARIES, ids="-".join)
def test_products_of_sines_and_cosines_are_exact_eigenfunctions(boundary: tuple[str, ...]) -> None:
    grid = box(17, boundary)
    phi, eigenvalue = torch.ones(grid.shape, dtype=torch.float64), 0.0
    for axis, kind in enumerate(boundary):
        k, h = 2 + axis, grid.spacing[axis]
        kappa = (2 if kind == "periodic" else 1) * k * math.pi / grid.lengths[axis]
        s = kappa * (grid.coordinates[..., axis] - grid.origin[axis])
        phi = phi * {"dirichlet": s.sin(), "neumann": s.cos(), "periodic": (s + 0.6).cos()}[kind]
        eigenvalue += 4 / h**2 * math.sin(kappa * h / 2) ** 2
    for equation in (Poisson(grid, sides(boundary), screening=1.7), Helmholtz(grid, 2.3, sides(boundary))):
        shifted = eigenvalue + (1.7**2 if isinstance(equation, Poisson) else -(2.3**2))
        f = equation.sources(shifted * phi[None], torch.zeros(1, *grid.shape, dtype=torch.float64))
        scale = 8 / min(grid.spacing) ** 2
        assert float(equation.residual(phi[None], f).abs().max()) < 1e-14 * scale
        torch.testing.assert_close(equation.solve(f)[0], phi, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("axes", "variance"), [(1, 6), (2, 20)])
def test_the_residual_of_white_noise_is_the_square_root_of_6_or_20_sigma_over_h_squared(
    axes: int, variance: int
) -> None:
    n, sigma, fields = 33, 0.02, 400
    h = 1 / (n - 1)
    noise = sigma * normal(fields, *(n,) * axes)
    F = Poisson(Grid((n,) * axes)).residual(noise, torch.zeros_like(noise))
    inner = F[(slice(None), *(slice(1, -1),) * axes)].flatten(1) / (sigma / h**2)
    per_field = inner.square().mean(1)  # independent from field to field
    standard_error = float(per_field.std()) / math.sqrt(fields)
    assert standard_error < 0.02 * variance
    assert float(per_field.mean()) == pytest.approx(variance, abs=3 * standard_error)


def test_a_residual_has_the_dtype_of_the_field() -> None:
    equation = Poisson(Grid((5, 5)))
    assert equation.residual(torch.zeros(1, 5, 5), equation.draw(1, generator=torch.Generator())).dtype == torch.float32


def test_screening_and_wavenumber_enter_squared() -> None:
    one = torch.ones(1, 5, dtype=torch.float64)
    grid = Grid((5,), periodic=(True,))
    assert Poisson(grid, screening=3).solve(one)[0].tolist() == pytest.approx([1 / 9] * 5)
    assert Helmholtz(grid, 3).solve(one)[0].tolist() == pytest.approx([-1 / 9] * 5)


def test_an_insulated_box_with_a_flux_through_two_sides_has_its_quadratic_solution() -> None:
    # u = x^2 - y^2/2 + const: -Lap u = -1, du/dn = 2 at x = 1 and -1 at y = 1; second differences are exact
    grid = Grid((7, 5))
    x, y = grid.coordinates.unbind(-1)
    through, area = torch.zeros(7, 5, dtype=torch.float64), torch.zeros(7, 5, dtype=torch.float64)
    lengths = (grid.weights * 2 / grid.spacing[0], grid.weights * 2 / grid.spacing[1])
    for axis, s, gradient in ((0, x, 2 * x), (1, y, -y)):
        ends = ((s == 0) | (s == 1)).double() * lengths[axis]
        through, area = through + ends * torch.where(s == 1, gradient, -gradient), area + ends
    g = through / area.clamp(min=1e-30)
    equation = Poisson(grid, "neumann")
    u = equation.solve(equation.sources(-torch.ones(1, 7, 5, dtype=torch.float64), g[None]))
    exact = x**2 - y**2 / 2
    torch.testing.assert_close(u[0], exact - (grid.weights * exact).sum(), rtol=0, atol=1e-13)


def test_the_solution_of_a_singular_problem_has_mean_zero_and_its_source_must() -> None:
    for grid in (Grid((9, 8)), Grid((9, 8), periodic=(True, True)), Grid((9, 8), periodic=(False, True))):
        equation = Poisson(grid, "neumann")
        f = equation.draw(2, generator=torch.Generator().manual_seed(0))
        u = equation.solve(f)
        assert float((grid.weights * u).sum((1, 2)).abs().max()) < 1e-15
        f[1] += 0.25
        with pytest.raises(InputError, match=r"mean zero .* got a mean of 0.25 in field 1"):
            equation.solve(f)
        single = equation.solve(f[:1].float())  # the rounding error of a float32 mean is no incompatibility
        torch.testing.assert_close(single, u[:1], rtol=0, atol=1e-6)


def test_the_inverse_and_its_transpose_invert_the_linearized_equation() -> None:
    for equation in equations(5, ("dirichlet", "neumann")):
        given, b, c = (
            normal(*equation.grid.shape, seed=2).exp(),
            normal(3, *equation.grid.shape),
            normal(3, 5, 5, seed=3),
        )
        inv, J = inverse(equation, given), equation.jacobian(given, given).toarray()
        expected = np.linalg.solve(J, b.flatten(1).numpy().T).T
        np.testing.assert_allclose(inv(b).flatten(1).numpy(), expected, rtol=0, atol=1e-13 * np.abs(expected).max())
        torch.testing.assert_close((inv(b) * c).sum(), (b * inv.transposed(c)).sum(), rtol=1e-12, atol=1e-12)
        b = b[:1].requires_grad_()
        assert torch.autograd.gradcheck(inv, (b,))
        assert torch.autograd.gradcheck(inv.transposed, (b,))
        assert torch.autograd.gradgradcheck(lambda v: inv(v).square().sum(), (b,))  # noqa: B023


def test_the_inverse_is_that_at_the_given_field_and_in_the_dtype_of_its_argument() -> None:
    class Linearized(Poisson):
        def jacobian(self, u: Tensor, given: Tensor) -> csr_array:
            return csr_array(diags_array((given + u).double().numpy()))

    equation, one = Linearized(Grid((4,))), torch.ones(1, 4)
    assert inverse(equation, torch.full((4,), 2.0))(one).tolist() == [[0.5] * 4]
    assert inverse(equation, torch.full((4,), 2.0), torch.full((4,), 6.0)).transposed(one).tolist() == [[0.125] * 4]
    assert inverse(equation, one[0])(one).dtype == torch.float32
    with pytest.raises(InputError, match="equation: expected a matrix with an inverse, got one of 4 rows"):
        inverse(equation, torch.tensor([1.0, 0.0, 1.0, 1.0]))


def test_the_inverse_of_a_singular_equation_acts_on_fields_of_mean_zero() -> None:
    equation = Poisson(Grid((9, 8), periodic=(False, True)), "neumann")
    inv = inverse(equation, torch.zeros(9, 8))
    f = equation.draw(1, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(inv(f), equation.solve(f), rtol=0, atol=1e-15)
    torch.testing.assert_close(inv(f + 3), equation.solve(f), rtol=0, atol=1e-14)


@pytest.mark.parametrize("axes", [1, 2])
@pytest.mark.parametrize("kind", ["dirichlet", "neumann", "periodic"])
def test_random_sources_are_sums_of_eight_modes_with_variance_one_over_k_squared(kind: str, axes: int) -> None:
    grid = Grid((24,) * axes, periodic=(kind == "periodic",) * axes)
    n = 4000
    f = Poisson(grid, sides((kind,) * axes)).draw(n, generator=torch.Generator().manual_seed(3))
    k, x = torch.arange(1, 9).double()[:, None], grid.along(0)
    squares = {
        "dirichlet": (k * torch.pi * x).sin() ** 2,
        "neumann": (k * torch.pi * x).cos() ** 2,
        "periodic": torch.ones(8, 24).double(),
    }[kind]
    per_axis = (squares / k**2).sum(0)
    variance = per_axis if axes == 1 else per_axis[:, None] * per_axis
    z = (f.square().mean(0) - variance) / (variance * math.sqrt(2 / n)).clamp(min=1e-9)
    assert float(z.abs().max()) < 4
    spectrum = torch.linalg.svdvals(f[:400].flatten(1))
    rank = (16 if kind == "periodic" else 8) ** axes
    assert float(spectrum[rank:].max()) < 1e-12 * float(spectrum[0]) < 1e-6 * float(spectrum[rank - 1])
    if kind == "dirichlet":
        assert float(f[:, grid.boundary].abs().max()) == 0
    else:
        assert float((grid.weights * f).flatten(1).sum(1).abs().max()) < 1e-14


def test_neighboring_problems_are_refused_in_one_line() -> None:
    grid = Grid((17,))
    refused = [
        (lambda: Poisson(grid, "robin"), r'boundary: expected "dirichlet" or "neumann" .* got \'robin\''),
        (lambda: Poisson(grid, ("neumann", "neumann")), "for each bounded axis of 1"),
        (lambda: Poisson(grid, screening=-1), "screening: expected a number >= 0, got -1"),
        (lambda: Poisson(grid, screening=math.nan), "screening: .* got nan"),
        (lambda: Helmholtz(grid, 0), "wavenumber: expected a positive number, got 0"),
        (lambda: Helmholtz(grid, math.pi * (1 + 1e-10)), "eigenvalues of -Laplacian, got 9.8696"),
        (lambda: Helmholtz(grid, 32 * math.sin(math.pi / 16)), "eigenvalues of -Laplacian"),  # of the grid, k = 2
        (lambda: Helmholtz(grid, 3 * math.pi, "neumann"), "eigenvalues of -Laplacian"),
        (lambda: Helmholtz(Grid((9, 9)), math.pi * math.sqrt(5)), "eigenvalues of -Laplacian"),
        (
            lambda: Poisson(grid).solve(torch.zeros(2, 17).index_fill(1, torch.tensor([4]), math.inf)),
            r"inf at node \(4,\)",
        ),
    ]
    for make, message in refused:
        with pytest.raises(InputError, match=message) as error:
            make()
        assert "\n" not in str(error.value)


def test_a_wavenumber_is_resonant_within_one_part_in_ten_to_the_eighth_of_its_square() -> None:
    grid = Grid((17,))
    Helmholtz(grid, 3 * math.pi * (1 + 1e-8))  # half of the change of k^2; ill-conditioned, but solvable
    with pytest.raises(InputError, match=r"eigenvalues of -Laplacian, got 88\.8264"):
        Helmholtz(grid, 3 * math.pi * (1 + 0.25e-8))


def test_a_hundred_poisson_problems_on_64_x_64_take_one_factorization(monkeypatch: pytest.MonkeyPatch) -> None:
    calls, splu = [], factorization.splu
    monkeypatch.setattr(factorization, "splu", lambda *a, **k: (calls.append(1), splu(*a, **k))[1])
    equation = Poisson(Grid((64, 64)))
    f = equation.draw(100, generator=torch.Generator().manual_seed(0))
    u = torch.cat([equation.solve(f[:50]), equation.solve(f[50:])])
    assert len(calls) == 1
    assert float(equation.residual(u, f).abs().max()) < 1e-13 * 8 * 63**2 * float(u.abs().max())
