"""Values at which a formula would divide zero by zero, and values that are exactly at a threshold."""

import math
from dataclasses import replace

import pytest
import torch

from diffuscope.denoisers import ExactDenoiser
from diffuscope.exact import Empirical, Gaussian
from diffuscope.samplers import (
    DDIM,
    DDPM,
    Calibrated,
    DormandPrince,
    EDMChurn,
    Langevin,
    MetropolisLangevin,
    Noise,
    Restart,
    Slope,
    State,
    StochasticDDIM,
    UniPC,
    calibration,
    instant,
    integrate,
    model_times,
)
from diffuscope.samplers.bridge import reverse_bridge
from diffuscope.samplers.calibrated import SAME_LEVEL, _same
from diffuscope.samplers.calibration.fitting import mean_departure, robust_least_squares
from diffuscope.samplers.calibration.gauss_newton import REACH, held_back
from diffuscope.samplers.calibration.plan import Plan, plain_weights
from diffuscope.samplers.calibration.search import JudgedSolver
from diffuscope.samplers.calibration.whitened_model import WhitenedModel
from diffuscope.samplers.eigenbasis import Eigenbasis
from diffuscope.samplers.error_control import EvaluationsSpentError
from diffuscope.samplers.generation import HIGHEST, LOWEST
from diffuscope.samplers.mixture_transition import posterior_draw
from diffuscope.samplers.model_statistics import _regression
from diffuscope.samplers.schedule_values import decay, instant_of_lambda, instants
from diffuscope.schedules import VE, VP, Cosine
from numbers_in_tests import double

ONE = Gaussian.isotropic(torch.zeros(1), 1.0)


@pytest.mark.parametrize("schedule", [VE(), VP(), Cosine()])
def test_a_step_of_no_length_keeps_its_state_and_adds_no_noise(schedule) -> None:
    for t in torch.linspace(0.05, 0.95, 40).tolist():
        here, back = instant(schedule, t), instant(schedule, math.nextafter(t, 1))
        for pair in ((here, here), (back, here), (here, back)):
            assert decay(*pair) == pytest.approx(1.0)
            assert decay(*pair) <= 1.0
            mean, spread = reverse_bridge(double(3.0), double(0.0), *pair, eta=1.0)
            assert float(mean) == pytest.approx(3.0)
            assert spread == pytest.approx(0.0, abs=1e-6 * here.sigma)


def test_the_last_point_is_drawn_where_the_uniform_number_rounds_to_one() -> None:
    points = torch.arange(40.0, dtype=torch.float64)[:, None]
    for memory in (1, 2**20):  # in chunks of 16, and in one
        data = Empirical(points, memory=memory)
        drawn = posterior_draw(data, torch.full((2, 1), 20.0).double(), instant(VE(), 80.0), double(0.0, 1.0))
        assert drawn.flatten().tolist() == [0.0, 39.0]


def test_of_two_points_alike_the_second_is_drawn_from_one_half_on() -> None:
    data = Empirical(double(0.0, 2.0)[:, None])
    drawn = posterior_draw(data, double(1.0, 1.0)[:, None], instant(VE(), 1.0), double(math.nextafter(0.5, 0), 0.5))
    assert drawn.flatten().tolist() == [0.0, 2.0]


def test_exactly_as_many_evaluations_as_an_integration_takes_are_enough() -> None:
    y, start, end = double(3.0)[:, None], double(0.0), double(1.0)

    def run(most: int):
        return integrate(
            lambda y, _: Slope(-y),
            y,
            start,
            end,
            Slope(-y),
            norm=lambda change, *_: change.abs().flatten(1).amax(1) / 1e-7,
            max_evaluations=most,
        )

    needed = run(10_000).evaluations
    assert run(needed).evaluations == needed
    with pytest.raises(EvaluationsSpentError):
        run(needed - 1)


def test_a_field_that_stands_still_is_integrated_in_few_steps() -> None:
    zero = torch.zeros(2, 1, dtype=torch.float64)
    done = integrate(
        lambda y, _: Slope(0 * y),
        zero,
        double(0.0, 0.0),
        double(1.0, 2.0),
        Slope(zero),
        norm=lambda change, *_: change.abs().flatten(1).amax(1),
        max_evaluations=1000,
    )
    assert done.y.tolist() == [[0.0], [0.0]]
    assert done.evaluations < 100


def test_a_direction_without_variance_moves_by_the_difference_of_the_levels() -> None:
    flat = Eigenbasis.of(Gaussian(torch.zeros(2), torch.eye(2), torch.tensor([1.0, 0.0])))
    assert len(flat.variances) == 2
    a, b = instant(VE(), 4.0), instant(VE(), 0.5)
    assert flat.kernel(a, b).tolist() == pytest.approx([math.asinh(2.0) - math.asinh(0.25), 2.0 - 0.25], rel=1e-6)


def test_churn_acts_at_both_ends_of_its_levels_and_within_its_limit() -> None:
    at = instant(VE(), 2.0)
    for low, high, gamma in ((2.0, 3.0, 0.1), (1.0, 2.0, 0.1), (2.1, 3.0, 0.0), (1.0, 1.9, 0.0)):
        assert EDMChurn(s_churn=1.0, steps=10, s_min=low, s_max=high)._gamma(at) == gamma
    assert EDMChurn(s_churn=100.0, steps=10)._gamma(at) == pytest.approx(math.sqrt(2) - 1)


@pytest.mark.parametrize(("order", "reached"), [(1, 2), (2, 3), (3, 3)])
def test_the_order_of_unipc_is_one_above_its_predictor_as_far_as_the_start_allows(order: int, reached: int) -> None:
    assert UniPC(predictor_order=order, accurate_start=False).order == reached
    assert UniPC(predictor_order=order, accurate_start=True).order == order + 1


def test_levels_are_the_same_up_to_rounding_in_either_order() -> None:
    assert _same(1.0, 1.0 + 1e-13)
    assert _same(-math.inf, -math.inf)
    assert not _same(1.0, 2.0)
    assert not _same(2.0, 1.0)
    assert not _same(0.0, SAME_LEVEL)


@pytest.mark.parametrize(
    ("low", "high", "ends"), [(0.5, 3.0, (3.0, 0.5)), (LOWEST / 2, 2 * HIGHEST, (HIGHEST, LOWEST))]
)
def test_a_grid_of_times_ends_with_the_models_range_or_the_widest_one(low: float, high: float, ends) -> None:
    assert model_times(ExactDenoiser(ONE, VE(low, high)), 1).tolist() == pytest.approx(ends)


def test_no_departure_has_no_mean_and_features_that_vanish_no_weight() -> None:
    assert mean_departure(torch.zeros(4, 2).double()).tolist() == [0.0, 0.0]
    feature = double(1.0, 2.0, 3.0)[:, None]
    found = robust_least_squares([feature, 0 * feature], 2 * feature, 0.0 + 1e-12)
    assert found.tolist() == pytest.approx([2.0, 0.0])
    assert robust_least_squares([0 * feature], feature, 1.0).tolist() == [0.0]


def test_the_slope_of_what_does_not_vary_is_zero() -> None:
    one = torch.ones(4, 2, dtype=torch.float64)
    s, b = _regression(3 * one, one, one)
    assert (s.unique().tolist(), b.unique().tolist()) == ([0.0], [3.0])


def test_a_step_of_levels_is_held_back_by_their_neighbors_and_one_of_weights_is_not() -> None:
    model = WhitenedModel(ExactDenoiser(ONE, VE(0.01, 50.0)), ONE, torch.zeros(8, 1).double())
    levels = instants(model.schedule, double(10.0, 1.0, 0.1))
    plan = Plan(levels, plain_weights(levels), torch.zeros(1).double())
    names = [(0, -1), (1, -1), (2, -1), (1, 0)]
    found = [held_back(model, plan, names, torch.full((4,), step, dtype=torch.float64)) for step in (-100.0, 100.0)]
    gap = math.log(10)
    assert found[0].tolist() == pytest.approx([-math.log(5), -REACH * gap, -REACH * gap, -100.0])
    assert found[1].tolist() == pytest.approx([REACH * gap, REACH * gap, math.log(10), 100.0])
    assert held_back(model, plan, names, double(0.1, -0.1, 0.1, 0.0)).tolist() == [0.1, -0.1, 0.1, 0.0]


def test_a_level_outside_the_models_range_is_not_moved_further_out() -> None:
    """Rounding may leave it there: it stays rather than being forced back by the limits."""
    model = WhitenedModel(ExactDenoiser(ONE, VE(0.01, 50.0)), ONE, torch.zeros(8, 1).double())
    levels = instants(model.schedule, double(50.0 * (1 + 1e-9), 0.01 * (1 - 1e-9)))
    plan = Plan(levels, plain_weights(levels), torch.zeros(1).double())
    assert held_back(model, plan, [(0, -1), (1, -1)], double(0.0, 0.0)).tolist() == [0.0, 0.0]
    assert held_back(model, plan, [(0, -1), (1, -1)], double(-1.0, 1.0)).tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    "sampler", [StochasticDDIM(), DDPM(), Langevin(DDIM(), 1, 0.1), MetropolisLangevin(DDIM(), ONE, 1, 0.1)],
    ids=lambda sampler: type(sampler).__name__,
)  # fmt: skip
def test_the_step_to_no_noise_draws_none(sampler) -> None:
    denoiser, drawn = ExactDenoiser(ONE, VE()), torch.Generator().manual_seed(0)
    before, state = drawn.get_state(), State(instant(VE(), 0.5), double(0.3)[:, None])
    ended = sampler.step(denoiser, state, instant(VE(), 0.0), Noise(drawn))
    torch.testing.assert_close(ended.x_t, denoiser(state.x_t, 0.5), rtol=1e-9, atol=1e-12)
    assert torch.equal(drawn.get_state(), before)
    sampler.step(denoiser, state, instant(VE(), 0.25), Noise(drawn))
    assert not torch.equal(drawn.get_state(), before)


def test_the_tolerance_of_a_step_is_absolute_and_relative_to_the_larger_of_its_ends() -> None:
    sampler = DormandPrince(0.5, 2.0)  # rtol and atol: 2 + 0.5 * 4, and 2 + 0.5 * 12
    found = sampler._norm(double(12.0, 8.0)[None], double(-4.0, 1.0)[None], double(3.0, -12.0)[None])
    assert float(found) == pytest.approx(math.sqrt((3.0**2 + 1.0**2) / 2), rel=1e-12)


@pytest.mark.parametrize(
    ("error", "plain", "gain"),
    [
        (0.2, {"a": 0.9, "b": 0.5}, 2.5),
        (0.0, {"a": 0.0, "b": 3.0}, 1.0),
        (0.0, {"a": 0.1}, math.inf),
        (0.5, {"a": 0.0}, 0.0),
    ],
)
def test_the_gain_is_that_over_the_best_solver_and_one_where_both_are_exact(error, plain, gain) -> None:
    measured = {"plain": None, "error": error, "plain_errors": plain, "reference_error": 0.0, "evaluations": 0}
    weights = torch.tensor([[1.0, 0.0, 0.0, 0.0]])
    steps = {"levels": (-1.0, 0.0), "end": 5.0, "jumps": True, "weights": weights, "carry": 1.0}
    assert Calibrated(ONE, shift=torch.zeros(1), **steps, **measured).gain == gain


class Recording:
    """A sampler whose steps keep the state and say from where to where, in log(alpha/sigma)."""

    order, stochastic, nfe_per_step = 1, False, 1

    def __init__(self) -> None:
        self.steps: list[tuple[float, float]] = []

    def step(self, denoiser, state: State, s, noise=None) -> State:  # noqa: ARG002
        self.steps.append((round(state.at.lam, 6), round(s.lam, 6)))
        return State(s, state.x_t)


@pytest.mark.parametrize(
    ("start", "end", "steps", "walked"),
    [
        (-0.5, 0.5, None, [(-0.5, 0), (-2, -1), (-1, 0), (-2, -1), (-1, 0), (0, 0.5)]),  # two of the length of the step
        (-0.6, 0.5, None, [(-0.6, 0), (-2, -1), (-1, 0), (-2, -1), (-1, 0), (0, 0.5)]),
        (-0.4, 0.5, None, [(-0.4, 0), *2 * [(-2, -1.333333), (-1.333333, -0.666667), (-0.666667, 0)], (0, 0.5)]),
        (-3.0, 0.5, None, [(-3, 0), (-2, 0), (-2, 0), (0, 0.5)]),
        (-0.5, 0.5, 1, [(-0.5, 0), (-2, 0), (-2, 0), (0, 0.5)]),
        (-0.5, 0.0, 1, [(-0.5, 0), (-2, 0), (-2, 0)]),  # the step ends there
        (-0.5, 1e-9, 1, [(-0.5, 0), (-2, 0), (-2, 0)]),  # which is the level up to a billionth
        (-0.5, -1e-9, 1, [(-0.5, 0)]),
        (-1e-9, 0.5, 1, [(0, 0.5)]),
        (-2e-9, 0.5, 1, [(0, 0), (-2, 0), (-2, 0), (0, 0.5)]),
    ],
)
def test_a_restart_takes_steps_no_longer_than_the_one_that_crosses_its_lower_level(start, end, steps, walked) -> None:
    sampler, schedule = Recording(), VE()
    at, to = (replace(instant_of_lambda(schedule, lam), lam=lam) for lam in (start, end))  # but for its rounding
    restart = Restart(sampler, low=1.0, high=math.exp(2), repeats=2, steps=steps)
    restart.step(ExactDenoiser(ONE, schedule), State(at, double(0.0)[None]), to, Noise(torch.Generator()))
    assert sampler.steps == walked


def test_where_a_plain_solver_wins_nothing_of_the_fit_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    starts = 80 * torch.randn(8, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    denoiser, levels = ExactDenoiser(ONE, VE()), instants(VE(), double(80.0, 2.0))
    for error, plain in ((-1.0, "DDIM"), (math.inf, None)):
        judged = {"DDIM": JudgedSolver(error, levels)}
        monkeypatch.setattr(calibration, "judged_solvers", lambda *_, judged=judged: judged)
        found = calibration.calibrate(denoiser, ONE, 2, starts=starts, reference_steps=4, rounds=0)
        assert (found.plain, found.plain_errors) == (plain, {"DDIM": error})
        if plain:
            assert (found.error, found.jumps, found.levels) == (-1.0, False, tuple(at.lam for at in levels))
            assert (found.carry, found.weights.tolist(), found.shift.tolist()) == (0.0, 2 * [[0.0] * 4], [0.0])
