"""A number that is exactly its limit is within it, or beyond it: sizes, shares, verdicts and ties of the physics."""

import dataclasses
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from solutions_by_hand import LINE, SENSORS, solution
from torch import Tensor

from diffuscope.denoisers import ExactDenoiser
from diffuscope.errors import InputError
from diffuscope.exact import Empirical, Gaussian, GaussianMixture
from diffuscope.physics import (
    PROBLEMS,
    GaussNewtonProjected,
    Grid,
    Helmholtz,
    KernelPrior,
    Matern,
    NonlinearObservation,
    Poisson,
    Prior,
    SquaredExponential,
    at_nodes,
    gaussian_prior,
    log_evidence,
    posterior,
    process_prior,
    random_field,
    sequential_monte_carlo,
    solve_inverse,
)
from diffuscope.physics.conditioning.covariance_guided import conjugate_gradients
from diffuscope.physics.finite_prior import PointSet
from diffuscope.physics.gibbs import GibbsPosterior
from diffuscope.physics.grading.case import Case, resampled
from diffuscope.physics.grading.metrics import expected_total_variation
from diffuscope.physics.grading.page import size
from diffuscope.physics.grading.run import Family, Settings
from diffuscope.physics.grading.scores import Grader, Pooled
from diffuscope.physics.observation_file import read_sensors
from diffuscope.physics.particles import Particles, _Run
from diffuscope.physics.prior_chains import prior_chain
from diffuscope.physics.solution_moments import finite_set_calibration
from diffuscope.samplers.schedule_values import instant
from diffuscope.schedules import VE, RectifiedFlow
from numbers_in_tests import double, seeded

PHYSICS = "diffuscope.physics"
ROUNDING = 1 + 1e-15
PRIOR = ExactDenoiser(Gaussian.isotropic(double(0.0), 1.0), VE())
FIRST = at_nodes(torch.tensor([0]), (1,), 1.0)


def limit(monkeypatch: pytest.MonkeyPatch, module: str, name: str, value: float) -> None:
    monkeypatch.setattr(import_module(f"{PHYSICS}.{module}"), name, value)


def accepted(call: Callable[[], object], message: str) -> bool:
    try:
        call()
    except InputError as error:
        if message not in str(error):
            raise
        return False
    return True


def case(reference: Tensor, *weights: float) -> Case:
    shape = (reference.shape[1],)
    return Case(
        name="a", family="a", denoiser=PRIOR, observation=at_nodes(torch.tensor([0]), shape, 1.0), y=double(0.0),
        exact=resampled(reference), reference=reference, weights=double(*weights),
    )  # fmt: skip


# sizes


@pytest.mark.parametrize(("most", "read"), [(30, True), (29, False)])
def test_a_file_of_readings_may_have_as_many_bytes_as_the_limit(monkeypatch, tmp_path: Path, most, read) -> None:
    (path := tmp_path / "a.csv").write_text("x,solution,noise\n0.5,1.0,0.1\n\n")
    assert path.stat().st_size == 30
    limit(monkeypatch, "observation_file", "LARGEST", most)
    assert accepted(lambda: read_sensors(path, LINE), "MB of readings") is read


@pytest.mark.parametrize(("short", "read"), [(0, True), (1, False)])
def test_an_archive_may_unpack_to_ten_times_the_limit(monkeypatch, tmp_path: Path, short: int, read: bool) -> None:
    columns = {name: np.full(2000, 0.5) for name in ("x", "solution", "noise")}
    np.savez_compressed(path := tmp_path / "a.npz", **columns)  # pyright: ignore
    with np.load(path) as archive:
        unpacked = sum(member.file_size for member in archive.zip.infolist())
    assert path.stat().st_size < unpacked / 20
    limit(monkeypatch, "observation_file", "LARGEST", (unpacked - short) / 10)
    assert accepted(lambda: read_sensors(path, LINE), "unpacked, got more") is read


def test_a_gaussian_prior_is_of_at_most_the_largest_number_of_values(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Darcy problem of three by three nodes has two channels of nine."""
    names, problem = import_module(f"{PHYSICS}.prior_names"), PROBLEMS["darcy"](3)

    def drawn(_: object, n: int, **__: object) -> Tensor:
        return torch.randn(n, *problem.event_shape, dtype=torch.float64, generator=seeded())

    def prior() -> object:
        return names._gaussian(problem, 4, 0, lambda _, compute: compute(), False)

    monkeypatch.setattr(names, "generated_fields", drawn)
    for most, made in ((18, True), (17, False)):
        monkeypatch.setattr(names, "LARGEST", most)
        assert accepted(prior, f"at most {most} values") is made


def test_a_dense_covariance_is_of_at_most_4096_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    priors = import_module(f"{PHYSICS}.priors")
    monkeypatch.setattr(priors, "covariance_matrix", lambda *_: torch.eye(1).double())
    monkeypatch.setattr(priors.Gaussian, "from_covariance", lambda *_: Gaussian.isotropic(double(0.0), 1.0))
    for grid, made in ((Grid((64, 64)), True), (Grid((4097,)), False)):
        assert accepted(lambda grid=grid: process_prior(grid, Matern(1.0)), "at most 4096 nodes") is made


@pytest.mark.parametrize(("name", "periodic", "most"), [("MOST_NODES", False, 8), ("MOST_IMAGES", True, 3)])
def test_a_random_field_may_need_as_many_nodes_and_images_as_the_limit(monkeypatch, name, periodic, most) -> None:
    """Five nodes are embedded in a circle of eight; a covariance that ends within a period has one image a side."""
    grid, covariance = Grid((5,), (1.0,), (periodic,)), SquaredExponential(0.05)
    for value, made in ((most, True), (most - 1, False)):
        limit(monkeypatch, "random_fields", name, value)
        assert accepted(lambda: random_field(grid, covariance, 1, generator=seeded()), "covariance: ") is made


# refused arguments


def test_a_wavenumber_at_the_least_share_from_an_eigenvalue_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The nearest eigenvalue on a circle is 0, at a distance of k^2 itself."""
    for share, made in ((1.0, False), (1 - 1e-15, True)):
        limit(monkeypatch, "operators.helmholtz", "RESONANT", share)
        circle = Grid((4,), (1.0,), (True,))
        assert accepted(lambda circle=circle: Helmholtz(circle, 0.5), "k^2 off the eigenvalues") is made


def test_only_components_with_weight_can_meet_an_exact_reading() -> None:
    exact, points = at_nodes(torch.tensor([0]), (1,)), double(0.0, 1.0)[:, None]
    mixture = GaussianMixture.isotropic(double(1.0, 0.0), points, double(0.0, 0.0))
    with pytest.raises(InputError, match=r"a component of the prior can take exactly .* miss them by 1$"):
        posterior(mixture, exact, double(1.0))
    assert log_evidence(mixture, exact, double(0.0)) == pytest.approx(0.0)


def test_a_finite_prior_has_the_points_with_weight_alone() -> None:
    found = PointSet.of(Empirical(double(0.0, 1.0, 2.0)[:, None], double(0.25, 0.0, 0.75)))
    assert (found.points.flatten().tolist(), found.weights.tolist()) == ([0.0, 2.0], [0.25, 0.75])


def test_the_evidence_of_exact_readings_in_turn_is_that_of_both() -> None:
    """log p(y_2 | y_1) = log p(y_1, y_2) - log p(y_1)."""
    fields = torch.randn(4, 3, dtype=torch.float64, generator=seeded())
    one, other, both = (at_nodes(torch.tensor(nodes), (3,)) for nodes in ([0], [1], [0, 1]))
    prior, y = KernelPrior(fields, 0.5), double(0.3, -0.4)
    given = KernelPrior(fields, 0.5, one, y[:1])
    left = log_evidence(prior, both, y) - log_evidence(prior, one, y[:1])
    assert log_evidence(given, other, y[1:]) == pytest.approx(left, rel=1e-9)


# what is zero throughout


def test_a_covariance_without_negative_eigenvalues_needs_no_clipping(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("CLIPPED", 0.0), ("MOST_NODES", 8)):
        limit(monkeypatch, "random_fields", name, value)
    assert random_field(Grid((5,)), SquaredExponential(0.05), 1, generator=seeded()).shape == (1, 5)


def test_fields_that_are_all_the_same_span_no_direction() -> None:
    mean, directions, coordinates, variances = KernelPrior(double(1.0, 2.0).expand(3, 2), 0.5)._table
    assert mean.tolist() == [1.0, 2.0]
    assert (directions.shape, coordinates.shape, variances.shape) == ((2, 0), (3, 0), (0,))


def test_no_sources_have_the_mean_zero_that_a_boundary_without_values_needs() -> None:
    line = Poisson(Grid((5,)), boundary="neumann")
    assert line.solve(torch.zeros(1, 5).double()).tolist() == [[0.0] * 5]


def test_a_forcing_that_is_zero_forces_nothing() -> None:
    nothing = Gaussian(torch.zeros(5).double(), torch.zeros(5, 0).double(), torch.zeros(0).double())
    assert gaussian_prior(Poisson(Grid((5,))), nothing).mean.tolist() == [0.0] * 5


# solvers that stop


def test_conjugate_gradients_stop_at_a_residual_of_exactly_their_tolerance() -> None:
    """A step of 1/2 along (1, 1) leaves (1/2, -1/2), half of the right side, of diag(1, 3) u = (1, 1)."""
    size = double(1.0, 3.0)
    found = conjugate_gradients(lambda v: v * size, double(1.0, 1.0)[None], 2, 0.5)
    assert found.tolist() == [[0.5, 0.5]]
    exact = conjugate_gradients(lambda v: v * size, double(1.0, 1.0)[None], 2, 0.5 / ROUNDING)
    assert exact[0].tolist() == pytest.approx([1.0, 1 / 3])


@pytest.mark.parametrize(("x", "steps"), [(0.25, 0), (-0.25, 0), (0.25 * ROUNDING, 1)])
def test_a_projection_is_there_at_exactly_its_tolerance(x: float, steps: int) -> None:
    projected = GaussNewtonProjected(PRIOR, NonlinearObservation(lambda x: x, (1,)), double(0.0), tolerance=0.25)
    found = projected.project(double(x)[None])
    assert (found.steps.tolist(), found.converged.tolist()) == ([steps], [True])


def test_a_step_that_changes_nothing_is_not_counted() -> None:
    """The slope of x^2 at 0 leads nowhere."""
    square = NonlinearObservation(torch.square, (1,))
    found = GaussNewtonProjected(PRIOR, square, double(-1.0)).project(double(0.0)[None])
    assert (found.steps.tolist(), found.converged.tolist(), found.violation.tolist()) == ([0], [False], [1.0])


# chains and particles


def test_chains_have_mixed_at_exactly_their_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(1, 2, 40, 1, dtype=torch.float64, generator=seeded())
    found = GibbsPosterior(x=x, means=x, variances=x.square(), covariances=torch.ones(1, 1, 1).double(), burn_in=0)
    r_hat, draws = float(found.r_hat), float(found.effective_sample_size)
    for largest, least, mixed in (
        (r_hat, draws, True), (r_hat / ROUNDING, draws, False), (r_hat, draws * ROUNDING, False)
    ):  # fmt: skip
        limit(monkeypatch, "gibbs", "R_HAT", largest)
        limit(monkeypatch, "gibbs", "LEAST_ESS", least)
        assert found.mixed is mixed
        assert accepted(found.require_mixed, "cannot tell what the posterior is") is mixed


def test_replicas_are_trusted_at_exactly_the_largest_error(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = double(0.8, 1.2).log()[:, None].expand(2, 2)
    found = Particles(torch.zeros(2, 2, 1), weights, torch.ones(1, 2), torch.zeros(1, 1), 0)
    for largest, trusted in ((found.log_evidence_error, True), (found.log_evidence_error / ROUNDING, False)):
        limit(monkeypatch, "weighted_draws", "TRUSTED", largest)
        assert found.trusted is trusted


@pytest.mark.parametrize(("weights", "resampled"), [((1, 1, 0, 0), False), ((1, 0, 0, 0), True), ((1, 1, 1, 1), False)])
def test_particles_are_drawn_again_where_less_than_half_of_them_are_effective(weights, resampled) -> None:
    logs = 1e6 * double(*weights, *weights)

    def twist(x: Tensor, *_: object) -> Tensor:
        return torch.where(x.new_ones(len(x)) > 0, logs, x.sum(1))

    found = sequential_monte_carlo(
        PRIOR, FIRST, double(0.0), particles=4, replicas=2, steps=2, proposal=PRIOR, twist=twist, dtype=torch.float64
    )
    assert found.ess[0].tolist() == [sum(weights)] * 2
    assert found.resampled[0].tolist() == [resampled] * 2


def test_a_state_without_signal_has_no_gradient_to_follow() -> None:
    """alpha = 0 at t = 1 of a rectified flow; at 1/2 the shift is sigma^2 / alpha = 1/2 times the gradient, 3."""
    chain = prior_chain(ExactDenoiser(Gaussian.isotropic(double(0.0), 1.0), RectifiedFlow()))
    run = _Run(chain, None, lambda x, _, __: 3 * x.sum(1), 8)
    for t, shift in ((1.0, 0.0), (0.5, 1.5)):
        found = run.looked(double(2.0)[None], instant(RectifiedFlow(), t)).shift
        assert found is not None
        assert found.tolist() == [[shift]]


# solutions


def test_readings_as_probable_as_simulated_ones_count_these() -> None:
    """Of 99 simulated readings 50 are less probable and 49 as probable as evidence 1."""
    assert [solution(50, log_evidence=value).percentile for value in (1.0, 1.0 - 1e-15)] == [1.0, 51 / 100]
    assert [solution(below).too_probable for below in (98, 99)] == [False, True]  # 99% and 100%


def of_weights(monkeypatch: pytest.MonkeyPatch, *weights: float):
    module = import_module(f"{PHYSICS}.solution")
    monkeypatch.setattr(module, "posterior_weights", lambda *_: double(*weights))
    fields = torch.randn(len(weights), 2, 5, dtype=torch.float64, generator=seeded())
    return solve_inverse(LINE, SENSORS, Prior(name="p", words="p", fields=fields), samples=2)


def test_intervals_are_given_from_exactly_enough_effective_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    for enough, given in ((2.0, True), (2.0 * ROUNDING, False)):
        limit(monkeypatch, "solution", "ENOUGH", enough)
        found = of_weights(monkeypatch, 0.5, 0.5)
        assert (found.effective, found.has_intervals) == (2.0, given)


def test_a_weight_of_exactly_the_negligible_share_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    limit(monkeypatch, "solution", "NEGLIGIBLE", 0.25)
    assert of_weights(monkeypatch, 0.5, 0.125, 0.5).effective == 2.0
    assert of_weights(monkeypatch, 0.5, 0.1251, 0.5).effective == pytest.approx(1.1251**2 / (0.5 + 0.1251**2))


def test_truths_with_exactly_enough_effective_fields_are_judged() -> None:
    """Readings of nothing leave the four other fields their equal weights."""
    fields = torch.randn(5, 1, 7, dtype=torch.float64, generator=seeded())
    for enough, judged in ((4.0, True), (4.0 * ROUNDING, False)):
        found = finite_set_calibration(fields, torch.zeros(1, 7).double(), 2, enough=enough, generator=seeded(1))
        assert bool(found.coverage.isfinite().all()) is judged


# grades


def test_a_draw_at_exactly_the_reach_of_a_point_is_that_point(monkeypatch: pytest.MonkeyPatch) -> None:
    limit(monkeypatch, "grading.scores", "ON_A_POINT", 0.25)
    grader = Grader(case(double(0.0, 4.0)[:, None], 1.0, 1.0))
    assert grader.cells(double(1.0, 3.0, 1.0 * ROUNDING, 2.0)[:, None]).tolist() == [0, 1, 2, 2]


def test_points_behind_exactly_all_but_the_negligible_weight_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    for negligible, kept in ((0.25, 2), (0.2499, 3)):
        limit(monkeypatch, "grading.scores", "NEGLIGIBLE", negligible)
        assert len(Grader(case(double(0.0, 1.0, 2.0)[:, None], 2.0, 1.0, 1.0))._kept) == kept


def test_directions_with_exactly_the_share_of_the_variance_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """Variances 2 and 1/2, of which the first is 0.8."""
    points = torch.stack([double(2.0, -2.0, 0.0, 0.0), double(0.0, 0.0, 1.0, -1.0)], 1)
    for share, directions in ((0.8, 1), (0.8 * ROUNDING, 2)):
        limit(monkeypatch, "grading.scores", "SHARE", share)
        assert len(Grader(case(points, 1.0, 1.0, 1.0, 1.0))._leading[1]) == directions


@pytest.mark.parametrize(("p_value", "found"), [(0.01, None), (0.01 / ROUNDING, 0.05)])
def test_a_planted_fault_is_found_below_the_threshold(monkeypatch, p_value: float, found: float | None) -> None:
    made = Pooled(name="a", value=0.0, expected=0.0, error=1.0, p_value=p_value)
    monkeypatch.setattr(Family, "graded", lambda *_: {"a": made})
    assert Family("a", (), ()).detectable(2, 0.01, seed=0) == found


def test_a_certain_cell_adds_nothing_to_the_expected_total_variation() -> None:
    assert expected_total_variation(3, double(1.0, 0.0)) == 0.0


def test_one_problem_is_written_in_the_singular() -> None:
    lines = [size(dataclasses.replace(Settings(), problems=problems)) for problems in (1, 2)]
    assert [line.split(", ")[0] for line in lines] == ["1 problem", "2 problems"]
