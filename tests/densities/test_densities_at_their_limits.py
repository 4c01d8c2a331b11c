"""Sizes, times, tolerances and gains exactly where a density, a derivative or a grid is refused."""

import math

import pytest
import torch

from diffuscope.denoisers import ExactDenoiser, StepIndex
from diffuscope.densities import (
    CrankNicolson,
    Density,
    GaussianReverse,
    Grid,
    PotentialDiffusion,
    dequantize,
    divergence,
    evolution,
    grid_integrals,
    ito_equation,
    level_derivative,
    reverse_evolution,
    schroedinger,
)
from diffuscope.densities.divergence import jacobian
from diffuscope.densities.entropy import gaussian_entropy
from diffuscope.densities.level_derivative import HALVINGS, _nodes
from diffuscope.densities.semigroup import _require
from diffuscope.densities.terminal import _required
from diffuscope.errors import InputError
from diffuscope.exact import Gaussian
from diffuscope.schedules import VE, VP, ZeroTerminalVP, as_time
from numbers_in_tests import double, seeded

STANDARD = Gaussian.isotropic(torch.zeros(1), 1.0)
EXACT = ExactDenoiser(STANDARD, VP())
PAIR = Grid.line(-1, 1, 2)
FLAT = Density(PAIR, double(0.5, 0.5))


def test_a_full_jacobian_is_taken_of_as_many_dimensions_as_are_allowed(monkeypatch) -> None:
    monkeypatch.setattr(divergence, "LARGEST", 2)
    for d in (1, 2, 3):
        exact = ExactDenoiser(Gaussian.isotropic(torch.zeros(d), 1.0), VP())
        if d <= 2:
            assert jacobian(exact, torch.zeros(1, d), 0.5).shape == (1, d, d)
        else:
            with pytest.raises(InputError, match="for at most 2 dimensions, got 3"):
                jacobian(exact, torch.zeros(1, d), 0.5)


@pytest.mark.parametrize(("alpha", "sigma"), [(math.inf, 1.0), (1.0, math.inf)])
def test_an_infinite_level_has_no_entropy(alpha: float, sigma: float) -> None:
    with pytest.raises(InputError, match=r"^alpha, sigma: expected"):
        gaussian_entropy(STANDARD, alpha, sigma)


def test_an_infinite_variance_is_no_start() -> None:
    with pytest.raises(InputError, match=r"^variance: expected"):
        GaussianReverse(VP(), mean=0.0, variance=1.0, start=1.0, start_mean=0.0, start_variance=math.inf, eta=1.0)


@pytest.mark.parametrize(
    ("cells", "length", "taken"),
    [(3, 0.375, False), (2, 0.5, True), (4, 1.0, True), (6, 1.5, True), (7, 1.75, False)],
)
def test_the_mass_on_a_grid_may_miss_one_by_what_may_be_lost(cells: int, length: float, taken: bool, monkeypatch):
    """A density of 1: the mass is the length of the grid, of which 1/2 .. 3/2 is allowed here."""
    monkeypatch.setattr(grid_integrals, "LOST_MASS", 0.5)
    monkeypatch.setattr(Gaussian, "log_prob", lambda self, x, alpha, sigma: 0 * x[:, 0])  # noqa: ARG005
    grid = Grid.line(0, length, cells)
    if taken:
        assert float(grid_integrals.expectation(STANDARD, 1.0, 1.0, grid, torch.ones_like)) == length
    else:
        with pytest.raises(InputError, match=r"^grid: expected one that holds and resolves the density"):
            grid_integrals.expectation(STANDARD, 1.0, 1.0, grid, torch.ones_like)


def test_two_levels_are_the_fewest_that_are_dequantized() -> None:
    values = dequantize(torch.tensor([[0, 1]]), 2, generator=seeded())
    assert values.shape == (1, 2)
    with pytest.raises(InputError, match="expected 2 or more levels"):
        dequantize(torch.tensor([[0, 0]]), 1, generator=seeded())


@pytest.mark.parametrize("times", [[1.0], [1.0, 1.0], [1.0, 0.5, 0.5], [0.5, 1.0]])
def test_a_reversal_goes_to_earlier_times_only(times: list[float]) -> None:
    with pytest.raises(InputError, match=r"^times: expected at least two decreasing times"):
        list(reverse_evolution(EXACT, FLAT, torch.tensor(times), CrankNicolson()))


@pytest.mark.parametrize("times", [[0.0], [0.0, 0.0], [0.0, 0.5, 0.5], [1.0, 0.5]])
def test_a_density_evolves_to_later_times_only(times: list[float]) -> None:
    equation = ito_equation(PAIR, lambda x, t: 0 * x, 1.0)  # noqa: ARG005
    with pytest.raises(InputError, match=r"^times: expected at least two increasing times"):
        list(evolution(equation, FLAT, torch.tensor(times), CrankNicolson()))


def well(cells: int) -> PotentialDiffusion:
    return PotentialDiffusion.diagonalize(lambda x: x[:, 0] ** 2, Grid.line(-4, 4, cells))


def test_as_many_cells_as_are_allowed_are_diagonalized(monkeypatch) -> None:
    monkeypatch.setattr(schroedinger, "LARGEST", 8)
    assert len(well(8).rates) == 8
    with pytest.raises(InputError, match="expected at most 8 cells for a dense eigendecomposition, got 9"):
        well(9)


ALLOWED = 0.25
BEYOND = math.nextafter(ALLOWED, 1)


@pytest.mark.parametrize(
    ("edge", "coarse", "error", "told"),
    [
        (ALLOWED, ALLOWED, ALLOWED, None),
        (BEYOND, ALLOWED, ALLOWED, "expected 0 at the edge"),
        (ALLOWED, BEYOND, ALLOWED, "the grid is too coarse"),
        (ALLOWED, ALLOWED, BEYOND, "its error may be"),
    ],
)
def test_a_density_in_a_potential_may_be_off_by_the_tolerance_and_no_more(
    edge: float, coarse: float, error: float, told: str | None, monkeypatch
) -> None:
    monkeypatch.setattr(schroedinger, "SAFETY", 1)
    monkeypatch.setattr(schroedinger, "_edge", lambda _: edge)
    monkeypatch.setattr(schroedinger, "unresolved", lambda _: coarse)
    monkeypatch.setattr(PotentialDiffusion, "error_estimate", lambda *_: error)
    process = well(8)
    if told is None:
        assert process.evolve(process.stationary(), 1.0, tolerance=ALLOWED).grid == process.grid
    else:
        with pytest.raises(InputError, match=told):
            process.evolve(process.stationary(), 1.0, tolerance=ALLOWED)


def test_a_share_may_be_lost_up_to_the_tolerance_and_no_more() -> None:
    _require(ALLOWED, ALLOWED, "grid: {} is lost")
    with pytest.raises(InputError, match=r"^grid: 2.5e-01 is lost"):
        _require(BEYOND, ALLOWED, "grid: {} is lost")


def test_a_gain_of_one_shows_no_gaussian() -> None:
    below = math.nextafter(1, 0)
    assert _required(double(-0.5, 0.0, below), 1.0).tolist() == [0.0, 0.0, below]
    with pytest.raises(InputError, match="reaches 1, expected below 1"):
        _required(double(0.5, 1.0), 1.0)


class Straight(VE):
    """log(alpha/sigma) is -t on 0 .. 1."""

    @property
    def t_min(self) -> float:
        return 0.0

    @property
    def t_max(self) -> float:
        return 1.0

    def lam(self, t):
        return -as_time(t)

    def time_of_lambda(self, lam):
        return -as_time(lam)


def test_neighboring_levels_reach_to_both_ends_of_a_schedule(monkeypatch) -> None:
    """Both ends are exactly the longest step from the middle."""
    monkeypatch.setattr(level_derivative, "LONGEST", 0.5)
    nodes = _nodes(ExactDenoiser(STANDARD, Straight()), torch.tensor(0.5, dtype=torch.float64))
    steps = [0.5 / 2**k for k in range(HALVINGS + 1)]
    assert sorted(offset for offset, _ in nodes) == sorted([*steps, *(-step for step in steps)])


class Shorter(Straight):
    """0.8 is no float32."""

    @property
    def t_max(self) -> float:
        return 0.8


@pytest.mark.parametrize(("beyond", "low"), [(0.0, -0.2), (5e-9, -0.1)])
def test_no_neighboring_level_is_beyond_the_end_by_the_rounding_of_float32(beyond: float, low: float, monkeypatch):
    monkeypatch.setattr(level_derivative, "LONGEST", 0.2 + beyond)
    nodes = _nodes(ExactDenoiser(STANDARD, Shorter()), torch.tensor(0.6, dtype=torch.float64))
    assert min(offset for offset, _ in nodes) == pytest.approx(low, abs=1e-8)


BETAS = (0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 1.0)


class OfSteps(ExactDenoiser):
    """An exact denoiser that answers at the steps of its table alone."""

    clock = StepIndex(len(BETAS))


def test_a_level_without_signal_is_no_neighbor() -> None:
    """At the last step log(alpha/sigma) is -infinity."""
    with pytest.raises(InputError, match="expected at least 4 other noise levels near t = 7, got 3"):
        _nodes(OfSteps(STANDARD, ZeroTerminalVP(BETAS)), torch.tensor(7.0, dtype=torch.float64))
