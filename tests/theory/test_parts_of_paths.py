"""The parts that paths are found with, each alone: second derivatives, meshes, ends by linear flow, segments."""

import math
from importlib import import_module
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from diffuscope.errors import InputError
from diffuscope.theory.paths import (
    Dynamics,
    FixedPoint,
    LeastAction,
    fixed_points,
    least_action,
    most_likely_path,
    ordered_line_integral,
    quasipotential,
    shoot,
    straight,
    transition_rate,
)
from diffuscope.theory.paths.constrained import Multipliers, gauss_newton
from diffuscope.theory.paths.discrete_action import at_edges, derivatives
from diffuscope.theory.paths.geometric_action import equidistant
from diffuscope.theory.paths.instanton import (
    ARRIVING,
    LEAVING,
    Instanton,
    _arriving,
    _leaving,
    _solved,
    _thinned,
    stationary_covariance,
)
from diffuscope.theory.paths.lagrangian import Lagrangian
from diffuscope.theory.paths.least_action import halved_mesh, on_halved_mesh
from diffuscope.theory.paths.newton import _factored
from diffuscope.theory.paths.ordered_line_integral import _Search
from numbers_in_tests import double

A = torch.tensor([[-1.0, 2.0], [-0.5, -0.3]], dtype=torch.float64)
D = torch.tensor([[0.5, 0.2], [0.2, 0.3]], dtype=torch.float64)


def normal(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_of_a_linear_drift_the_positive_part_is_all_of_the_second_derivatives() -> None:
    density = Lagrangian(Dynamics(lambda x: x @ A.T, D))
    x, v, t = normal(2, 3, 2)[0], normal(2, 3, 2)[1], torch.zeros(3, dtype=torch.float64)
    exact = derivatives(density, x, v, t)
    for found, whole in zip(gauss_newton(density)(x, v, t), (exact.xx, exact.xv, exact.vv), strict=True):
        torch.testing.assert_close(found.expand_as(whole), whole, rtol=1e-12, atol=1e-14)


def test_the_penalty_of_a_silent_direction_has_its_second_derivatives() -> None:
    """rho (n (v - A x))^2 / 2 beside the noisy direction, against autograd of the sum."""
    rho, n = 7.0, double(0.0, 1.0)
    density = Lagrangian(Dynamics(lambda x: x @ A.T, double(0.4, 0.0)))

    def penalized(x: Tensor, v: Tensor, t: Tensor) -> Tensor:
        return density(x, v, t) + rho / 2 * ((v - x @ A.T) @ n).square()

    x, v, t = normal(2, 3, 2)[0], normal(2, 3, 2)[1], torch.zeros(3, dtype=torch.float64)
    exact = derivatives(penalized, x, v, t)
    for found, whole in zip(gauss_newton(density, rho)(x, v, t), (exact.xx, exact.xv, exact.vv), strict=True):
        torch.testing.assert_close(found.expand_as(whole), whole, rtol=1e-12, atol=1e-13)


def test_multipliers_are_momenta_along_the_silent_directions_and_halves_have_those_of_their_edge() -> None:
    found = Multipliers(double(2.0, -3.0)[None, :, None], double(0.6, 0.8)[:, None])
    torch.testing.assert_close(found.momenta[0], torch.tensor([[1.2, 1.6], [-1.8, -2.4]]).double(), rtol=1e-6, atol=0)
    assert found.on_halved_mesh().values[0, :, 0].tolist() == [2.0, 2.0, -3.0, -3.0]


@pytest.mark.parametrize(
    ("diagonal", "good"),
    [
        ((4.0, 4.0, 9.0, 9.0, 1.0, 1.0), 3), ((4.0, 4.0, 9.0, 9.0, math.nan, 1.0), 2),
        ((4.0, 4.0, 9.0, math.inf, 1.0, math.nan), 1), ((math.nan, 4.0, 9.0, 9.0, 1.0, 1.0), 0),
        ((4.0, 4.0, 9.0, -1.0, 1.0, 1.0), 1), ((4.0, 4.0, 0.0, 9.0, 1.0, 1.0), 1),
        ((4.0, 4.0, 9.0, -1.0, 1.0, math.nan), 1),  # both
    ],
)  # fmt: skip
def test_a_factorization_holds_for_the_paths_before_one_that_is_not_finite_or_not_positive(diagonal, good) -> None:
    """Three paths with two nodes each, on a line."""
    factor, found = _factored(np.stack([np.zeros(6), np.array(diagonal)]), 3)
    assert found == good
    assert factor[1, : 2 * good].tolist() == np.sqrt(diagonal[: 2 * good]).tolist()


def test_straight_lines_and_halved_meshes_take_the_times_as_they_are() -> None:
    t = double(2.0, 3.0, 7.0)
    line = straight(double(1.0, 0.0)[None], double(11.0, -5.0)[None], t)
    torch.testing.assert_close(line[0], torch.tensor([[1.0, 0.0], [3.0, -1.0], [11.0, -5.0]]).double())
    assert halved_mesh(t).tolist() == [2.0, 2.5, 3.0, 5.0, 7.0]
    assert on_halved_mesh(line)[0, :, 0].tolist() == [1.0, 2.0, 3.0, 7.0, 11.0]
    for weight, middle, times in ((0.5, [2.0, 7.0], [2.5, 5.0]), (0.0, [1.0, 3.0], [2.0, 3.0])):
        state, velocity, at = at_edges(line, t, weight)
        assert state[0, :, 0].tolist() == middle
        assert velocity[0, :, 0].tolist() == [2.0, 2.0]
        assert at.tolist() == times


def test_nodes_are_placed_at_equal_distances_and_a_node_that_is_there_twice_is_one() -> None:
    line = double(0.0, 1.0, 1.0, 2.0, 6.0, 12.0)
    placed = equidistant(torch.stack([line, -2 * line], 1)[None], 4)
    torch.testing.assert_close(placed[0, :, 0], double(0.0, 3.0, 6.0, 9.0, 12.0))
    torch.testing.assert_close(placed[0, :, 1], -2 * placed[0, :, 0])


# the ends of an infinite path

STABLE = FixedPoint(double(1.0, 2.0), double(-1.0, -3.0).diag(), torch.complex(double(-1.0, -3.0), double(0.0, 0.0)))
SADDLE = FixedPoint(double(4.0, 6.0), double(0.5, -3.0).diag(), torch.complex(double(0.5, -3.0), double(0.0, 0.0)))


def path(start: Tensor, end: Tensor, count: int = 3) -> Instanton:
    share = torch.linspace(0, 1, count, dtype=torch.float64)[:, None]
    return Instanton(
        times=torch.linspace(2, 5, count, dtype=torch.float64),
        states=start + share * (end - start),
        momenta=double(0.3, -0.7) + share,
        dissipation=0.1,
    )


def test_an_end_is_carried_to_the_saddle_by_its_slowest_approach() -> None:
    """Along the unstable direction of the drift, which the optimal path goes down at the rate 1/2: e^(-t/2)."""
    off, length = double(0.8, -0.6), 5.0
    given = path(STABLE.state, SADDLE.state + off)
    times, states, momenta = _arriving(given, SADDLE, length)
    after = times[3:] - 5
    assert np.allclose(times[:3], given.times)
    assert np.allclose(states[:3], given.states)
    assert np.allclose(states[3:], SADDLE.state.numpy() + np.exp(-after[:, None] / 2) * off.numpy())
    assert np.allclose(momenta[3:], np.exp(-after[:, None] / 2) * given.momenta[-1].numpy())
    assert np.linalg.norm(states[-1] - SADDLE.state.numpy()) == pytest.approx(length * ARRIVING)
    near = path(STABLE.state, SADDLE.state + 0.9 * ARRIVING * off * length)
    assert len(_arriving(near, SADDLE, length)[0]) == 3


def test_a_start_is_carried_back_to_the_stable_point_by_the_reversed_flow() -> None:
    """Of a gradient system, J + 2 D Sigma^-1 = -J: every component leaves at its own rate, and p = Sigma^-1 (x - a)."""
    off, length, noise = double(0.8, -0.6), 5.0, np.diag([0.2, 0.4])
    given = path(STABLE.state + off, SADDLE.state)
    guess = given.times.numpy(), given.states.numpy(), given.momenta.numpy()
    times, states, momenta = _leaving(guess, STABLE, length, noise)
    added = len(times) - 3
    assert times[0] == 0
    assert np.allclose(np.diff(times[added:]), 1.5)
    assert bool((np.diff(times) > 0).all())
    before = times[:added] - times[added]
    away = off.numpy() * np.exp(before[:, None] * np.array([1.0, 3.0]))
    assert np.allclose(states[:added] - STABLE.state.numpy(), away)
    assert np.allclose(momenta[:added], away * np.array([1 / 0.2, 3 / 0.4]))
    assert before[0] == pytest.approx(math.log(length * LEAVING))  # distance 1, at the slowest rate 1
    near = path(STABLE.state + 0.9 * LEAVING * off * length, SADDLE.state)
    close = near.times.numpy(), near.states.numpy(), near.momenta.numpy()
    assert _leaving(close, STABLE, length, noise)[0] is close[0]


def test_a_rough_path_is_thinned_to_every_so_many_nodes() -> None:
    assert len(_thinned(path(STABLE.state, SADDLE.state, 1500)).times) == 500
    assert len(_thinned(path(STABLE.state, SADDLE.state, 1499)).times) == 750
    kept = _thinned(path(STABLE.state, SADDLE.state, 1001))
    assert torch.equal(kept.states, path(STABLE.state, SADDLE.state, 1001).states[::2])
    assert torch.equal(kept.momenta, path(STABLE.state, SADDLE.state, 1001).momenta[::2])
    assert kept.dissipation == 0.1


def test_the_stationary_covariance_solves_its_equation() -> None:
    found = stationary_covariance(A.numpy(), D.numpy())
    assert np.allclose(A.numpy() @ found + found @ A.numpy().T, -2 * D.numpy())
    assert np.array_equal(found, found.T)


def test_a_transition_is_the_product_of_its_parts() -> None:
    """Around a potential, by a rotation that does no work: growth, ratio and expansion are three different numbers."""

    def drift(x: Tensor) -> Tensor:
        u, v = x[:, 0] - x[:, 0] ** 3, -2 * x[:, 1]
        return torch.stack([u + 0.3 * x[:, 1], v + 0.2 * x[:, 0] * x[:, 1]], 1)

    found = transition_rate(Dynamics(drift, 0.2), double(-1.0, 0.0), double(0.0, 0.0))
    assert found.growth == pytest.approx(1.0, rel=1e-9)  # J at the saddle is triangular: 1 and -2
    parts = (found.growth, found.curvature_ratio, found.expansion)
    assert len({round(part, 2) for part in parts}) == 3
    assert found.prefactor == pytest.approx(parts[0] / (2 * math.pi) * parts[1] * math.exp(-parts[2]), rel=1e-12)
    assert found.rate == pytest.approx(found.prefactor * math.exp(-found.barrier), rel=1e-12)
    assert found.at(0.5) == pytest.approx(found.prefactor * math.exp(-2 * found.barrier), rel=1e-12)


# directions that no sign may lose


@pytest.mark.parametrize("side", [1.0, -1.0])
@pytest.mark.parametrize("segments", [1, 3])
def test_shots_to_either_side_are_mirror_images(side: float, segments: int) -> None:
    """x_0 e^-t + ..: to 1e-8 of the closed form of an Ornstein-Uhlenbeck path, from a path on a coarse mesh."""
    end, T = side * 2.0, 1.5
    near = least_action(Dynamics(lambda x: -x, 0.7), double(side * 0.5), double(end), torch.linspace(0, T, 9).double())
    found = shoot(Dynamics(lambda x: -x, 0.7), near, segments=segments)
    exact = (end - side * 0.5 * math.exp(-T)) ** 2 / (2 * 0.7 * (1 - math.exp(-2 * T)))
    assert found.action == pytest.approx(exact, rel=1e-9)
    assert float(found.states[-1]) == pytest.approx(end, rel=1e-8)


@pytest.mark.parametrize("side", [1.0, -1.0])
def test_paths_over_a_barrier_to_either_side_are_mirror_images(side: float) -> None:
    double_well = Dynamics(lambda x: 4 * (x - x**3), 0.3)
    t = torch.linspace(0, 4, 61).double()
    found = least_action(double_well, double(-side), double(side), t)
    other = least_action(double_well, double(side), double(-side), t)
    torch.testing.assert_close(found.states, -other.states, rtol=0, atol=1e-9)
    assert float(found.action) == pytest.approx(float(other.action), rel=1e-10)


# ordered line integrals


def search(drift: Tensor) -> _Search:
    x, y = np.linspace(0, 4, 5), np.linspace(0, 8, 5)
    return _Search(x, y, np.diag([2.0, 0.5]), np.broadcast_to(drift.numpy(), (9, 9, 2)), 2)


@pytest.mark.parametrize(("one", "other", "least"), [(1.0, 9.0, 1.0), (9.0, 1.0, 1.0)])
def test_without_a_drift_the_least_value_over_a_segment_is_that_at_its_lower_end(one, other, least) -> None:
    found = search(double(0.0, 0.0))
    found.values[1, 1], found.values[2, 1] = one, other
    assert found._least(np.array([1, 1]), np.array([[2, 1]]), np.array([[2, 3]]))[0, 0] == least


def test_a_straight_piece_against_a_constant_drift_has_its_closed_form() -> None:
    """(|d|_K |f|_K - d K f) / 2 with d = (1, 4), f = (-3, 1) and K = diag(2, 1/2), from the node itself."""
    found = search(double(-3.0, 1.0))
    found.values[1, 1] = 5.0
    d, f = np.array([1.0, 4.0]), np.array([-3.0, 1.0])
    K = np.diag([2.0, 0.5])
    exact = 5 + (math.sqrt(d @ K @ d) * math.sqrt(f @ K @ f) - d @ K @ f) / 2
    at = np.array([1, 1])
    assert found._least(at, at[None], np.array([[2, 3]]))[0, 0] == pytest.approx(exact, rel=1e-14)


def test_the_offsets_are_those_within_reach_and_the_spacing_is_that_of_each_axis() -> None:
    found = search(double(0.0, 0.0))
    offsets = {tuple(offset) for offset in found.offsets.tolist()}
    assert len(found.offsets) == 12  # of a circle of radius 2: 4 at 1, 4 at root 2, 4 at 2
    assert {(0, 2), (-2, 0), (1, -1), (-1, 0)} < offsets
    assert (0, 0) not in offsets
    assert (2, 1) not in offsets
    assert found.spacing.tolist() == [1.0, 2.0]


def test_the_reach_grows_as_the_square_root_of_the_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    reaches = []

    def recorded(*arguments: object) -> _Search:
        reaches.append(arguments[-1])
        return _Search(*arguments)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(ordered_line_integral, "_Search", recorded)
    for nodes, reach in ((9, None), (13, None), (9, 2)):
        quasipotential(Dynamics(lambda x: -x, 1.0), double(0.0, 0.0), (-2.0, 2.0, -2.0, 2.0), nodes, reach=reach)
    assert reaches == [3, 4, 2]  # the roots of 9 and 13, rounded, and what is given


def test_between_nodes_the_quasipotential_is_bilinear() -> None:
    found = quasipotential(Dynamics(lambda x: -x, 1.0), double(0.0, 0.0), (-2.0, 2.0, -2.0, 2.0), 9)
    i, j = 4, 5  # nodes at x = 0, 0.5 and y = 0.5, 1
    corners = found.values[i : i + 2, j : j + 2]
    value = (0.8 * 0.7 * corners[0, 0] + 0.8 * 0.3 * corners[0, 1] + 0.2 * 0.7 * corners[1, 0]) + 0.06 * corners[1, 1]
    assert found.at(double(0.1, 0.65)) == pytest.approx(float(value), rel=1e-12)
    assert found.at(double(0.5, 1.0)) == pytest.approx(float(found.values[5, 6]), rel=1e-12)
    assert found.level == pytest.approx(float(found.values[found.values.isfinite()].max()))


# what is said of a path


def test_the_error_and_the_energy_of_a_most_likely_path_are_those_of_its_certificate() -> None:
    found = most_likely_path(Dynamics(lambda x: -x, 0.7), double(-1.0, 2.0), double(2.0, 1.0), 1.5, 21)
    path = found.path
    assert isinstance(path, LeastAction)
    assert found.action == float(path.certificate.extrapolated)
    removed, rounding = abs(float(path.action) - float(path.certificate.extrapolated)), 21 * 2.0**-52 * found.action
    assert found.error - removed == pytest.approx(rounding, rel=1e-2)
    assert removed > 1e3 * rounding
    v = path.states[0].diff(dim=0) / path.times.diff()[:, None]
    E = path.energy[0]
    exact = float((E - E.mean()).abs().max() / (path.momenta[0] * v).sum(1).abs().max())
    assert found.energy_departure == pytest.approx(exact, rel=1e-12)
    assert found.starts == found.ended == 3  # a straight line, and a bend to either side
    torch.testing.assert_close(path.edge_times, (path.times[1:] + path.times[:-1]) / 2)


def test_fixed_points_at_less_than_a_millionth_of_their_size_are_one_and_those_farther_are_two() -> None:
    for gap, count in ((4e-7, 1), (4e-6, 2)):
        near = Dynamics(lambda x, gap=gap: (x - 1) * (x - 1 - gap) * 1e6, 1.0)
        guesses = double(1 - 1e-3, 1 + gap + 1e-3)[:, None]
        assert len(fixed_points(near, guesses)) == count


@pytest.mark.parametrize(
    ("stray", "off", "found"),
    [(1e-5, 0.0, True), (-1e-5, 0.0, True), (1.05e-5, 0.0, False), (-1.05e-5, 0.0, False), (0.0, 0.299, True),
     (0.0, 0.301, False)],
)  # fmt: skip
def test_a_path_dissipates_a_hundred_thousandth_of_the_slowest_rate_and_ends_three_tenths_from_the_saddle_at_most(
    stray, off, found, monkeypatch
) -> None:
    """With the solution of the boundary value problem given by hand: the guess, and alpha."""

    def solved(rates: object, ends: object, times: object, z: object, **_: object) -> SimpleNamespace:  # noqa: ARG001
        return SimpleNamespace(success=True, p=[stray], x=times, y=z)

    monkeypatch.setattr(import_module("diffuscope.theory.paths.instanton"), "solve_bvp", solved)
    given = path(STABLE.state + double(1e-3, 0.0), SADDLE.state - off * (SADDLE.state - STABLE.state))
    guess = given.times.numpy(), given.states.numpy(), given.momenta.numpy()
    linear = Dynamics(lambda x: -x, 0.5)
    if found:
        answer = _solved(linear, STABLE, SADDLE, np.diag([0.5, 0.5]), guess, 1e-6)
        assert answer.dissipation == pytest.approx(stray * 1.0, abs=0)  # the slowest rate of STABLE is 1
        torch.testing.assert_close(answer.states, given.states)
        torch.testing.assert_close(answer.momenta, given.momenta)
    else:
        with pytest.raises(InputError, match=f"it ends at {off:.2g} of their distance from the saddle"):
            _solved(linear, STABLE, SADDLE, np.diag([0.5, 0.5]), guess, 1e-6)
