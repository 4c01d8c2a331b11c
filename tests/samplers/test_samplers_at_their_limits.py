"""Times, levels, errors and ties exactly where a sampler, its calibration or a grid of times decides otherwise."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from diffuscope.denoisers import ExactDenoiser, OfClass, StepIndex
from diffuscope.errors import InputError
from diffuscope.exact import Gaussian
from diffuscope.samplers import (
    DDIM,
    Calibrated,
    Slope,
    State,
    Teleported,
    calibration,
    instant,
    integrate,
    reallocate,
    reallocated_times,
    suggest_skip,
    teleport_error,
)
from diffuscope.samplers.calibration import reference, whitened_model
from diffuscope.samplers.calibration.plan import Plan, plain_weights
from diffuscope.samplers.calibration.search import Judged, JudgedSolver
from diffuscope.samplers.calibration.whitened_model import WhitenedModel
from diffuscope.samplers.generation import conditioned, model_times
from diffuscope.samplers.schedule_values import instants
from diffuscope.samplers.sde import diffusion
from diffuscope.schedules import VE, DiscreteVP, RectifiedFlow
from diffuscope.times import karras_times
from numbers_in_tests import double

ONE = Gaussian.isotropic(torch.zeros(1), 1.0)
EXACT = ExactDenoiser(ONE, VE())


def straight(end: float):
    """A grid in equal steps of time."""
    return lambda start, steps: torch.linspace(start, end, steps + 1, dtype=torch.float64)


def calibrated(*levels: float) -> Calibrated:
    measured: dict[str, Any] = {"plain": None, "error": 0.1, "plain_errors": {}, "reference_error": 0.0}
    weights = torch.zeros(len(levels), 4)
    steps: dict[str, Any] = {"levels": levels, "end": 5.0, "jumps": False, "weights": weights, "carry": 0.0}
    return Calibrated(ONE, shift=torch.zeros(1), evaluations=0, **steps, **measured)


@pytest.mark.parametrize("levels", [(0.0, 0.0), (-1.0, 0.0, 0.0), (1.0, 0.0)])
def test_levels_of_a_calibrated_sampler_rise_strictly(levels: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match=r"^levels: expected increasing log\(alpha/sigma\)"):
        calibrated(*levels)


def test_a_calibrated_sampler_refuses_to_go_on_from_clean_data() -> None:
    """log(alpha/sigma) is infinite there, as is the level that follows the last one."""
    clean = instant(VE(), 0.0)
    with pytest.raises(InputError, match="walks its own"):
        calibrated(-1.0, 0.0)._index(clean, clean)


def test_a_plain_solver_that_is_no_better_than_the_fit_does_not_replace_it(monkeypatch) -> None:
    starts = 80 * torch.randn(8, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    levels = instants(VE(), double(80.0, 2.0))
    plan = Plan(levels, plain_weights(levels), torch.zeros(1).double())
    monkeypatch.setattr(calibration, "search", lambda views, _: Judged(0.5, plan, views[0], 0.5))
    monkeypatch.setattr(calibration, "polish", lambda best, _: best)
    for error, plain in ((0.5, None), (math.nextafter(0.5, 0), "DDIM")):
        judged = {"DDIM": JudgedSolver(error, levels)}
        monkeypatch.setattr(calibration, "judged_solvers", lambda *_, judged=judged: judged)
        found = calibration.calibrate(EXACT, ONE, 2, starts=starts, reference_steps=4, rounds=0)
        assert (found.plain, found.error) == (plain, error)


class OfSteps(ExactDenoiser):
    """An exact denoiser that answers at the steps of its table alone."""

    clock = StepIndex(6)


def test_a_table_of_as_many_levels_as_are_walked_is_walked_whole(monkeypatch) -> None:
    table = DiscreteVP((0.01, 0.01, 0.01, 0.3, 0.5, 0.7))
    model = WhitenedModel(OfSteps(ONE, table), ONE, torch.zeros(8, 1).double())
    monkeypatch.setattr(reference, "WHOLE_TABLE", 6)
    assert [at.t for at in reference.reference_levels(model, None)] == [6, 5, 4, 3, 2, 1]
    monkeypatch.setattr(reference, "WHOLE_TABLE", 5)
    assert len(reference.reference_levels(model, None)) < 6


def test_levels_may_begin_at_the_start_of_the_model_and_keep_exactly_the_least_distance(monkeypatch) -> None:
    model = WhitenedModel(ExactDenoiser(ONE, VE(0.01, 50.0)), ONE, torch.zeros(8, 1).double())
    found = model.levels([model.start.lam, 0.0])
    assert found is not None
    assert found[0].t == 50.0
    assert model.levels([math.nextafter(model.start.lam, -math.inf), 0.0]) is None
    distance = found[1].lam - found[0].lam
    monkeypatch.setattr(whitened_model, "CLOSEST", distance)
    assert model.levels([model.start.lam, 0.0]) is not None
    monkeypatch.setattr(whitened_model, "CLOSEST", math.nextafter(distance, math.inf))
    assert model.levels([model.start.lam, 0.0]) is None


@pytest.mark.parametrize("times", [[1.0], [1.0, 1.0], [1.0, 0.5, 0.5], [0.5, 1.0]])
def test_a_teleport_is_measured_at_times_that_strictly_decrease(times: list[float]) -> None:
    with pytest.raises(InputError, match=r"^times: expected at least two strictly decreasing times"):
        teleport_error(EXACT, ONE, torch.zeros(1, 1), torch.tensor(times))


def test_a_skip_may_have_exactly_the_error_that_is_tolerated() -> None:
    far = ExactDenoiser(Gaussian.isotropic(torch.tensor([3.0]), 1.0), VE())
    start, times = double(0.3)[None], double(9.0, 6.0, 4.0, 2.0)
    relative = teleport_error(far, ONE, start, times).relative.tolist()
    assert relative == sorted(set(relative))
    for k in (1, 2, 3):
        assert suggest_skip(far, ONE, start, times, tolerance=relative[k]).index == k
        assert suggest_skip(far, ONE, start, times, tolerance=math.nextafter(relative[k], 0)).index == k - 1


def test_a_step_with_exactly_the_error_that_is_allowed_is_accepted() -> None:
    """One evaluation for the first size and six for each of the attempts, none of which is repeated."""
    y, t, end = double(3.0)[None], double(0.0), double(1.0)
    done = integrate(
        lambda y, t: Slope(-y),  # noqa: ARG005
        y, t, end, Slope(-y),
        norm=lambda change, y, y_end: torch.ones(len(y), dtype=torch.float64),  # noqa: ARG005
        max_evaluations=1 + 6 * 400,
    )  # fmt: skip
    assert done.y.item() == pytest.approx(3 * math.exp(-1), rel=1e-3)


def test_no_steps_are_left_from_a_level_at_the_last_time() -> None:
    times = double(64.0, 32.0, 16.0, 1.0)
    with pytest.raises(InputError, match=r"^noise_to_signal: expected a level above that of the last time, got 1"):
        reallocate(times, VE(), 1.0, straight(1.0))
    assert reallocate(times, VE(), 4.0, straight(1.0)).tolist() == [4, 3, 2, 1]


@pytest.mark.parametrize("level", [64.0, 100.0])
def test_there_is_no_jump_to_a_level_at_or_above_the_start(level: float) -> None:
    times = double(64.0, 32.0, 16.0, 1.0)
    assert reallocated_times(times, VE(), level, straight(1.0)).tolist() == [64, 43, 22, 1]


def test_a_grid_of_noise_levels_has_a_width_and_a_step() -> None:
    with pytest.raises(InputError, match=r"^low: expected a noise level below the highest, 2, got 2"):
        model_times(EXACT, 1, low=2.0, high=2.0)
    with pytest.raises(InputError, match=r"^steps: expected at least 1, got 0"):
        model_times(EXACT, 0, low=1.0, high=2.0)
    assert model_times(EXACT, 1, low=1.0, high=2.0).tolist() == pytest.approx([2.0, 1.0])


class OfOneClass:
    """Zero, whatever the class."""

    schedule, classes = VE(), 1

    def __call__(self, x_t, t, y=None):  # noqa: ARG002
        return torch.zeros_like(x_t)


def test_a_model_of_one_class_can_be_asked_for_it() -> None:
    assert isinstance(conditioned(OfOneClass(), torch.tensor([0, 0])), OfClass)
    with pytest.raises(InputError, match=r"^classes: expected classes 0 \.\. 0, got 1"):
        conditioned(OfOneClass(), torch.tensor([1]))


def test_no_noise_is_drawn_without_eta_even_where_the_signal_vanishes() -> None:
    """At t = 1 log(alpha/sigma) has no derivative."""
    assert diffusion(instant(RectifiedFlow(), 1.0), 0.0) == 0.0


@pytest.mark.parametrize("rho", [0.0, math.inf])
def test_the_root_of_a_grid_is_positive_and_finite(rho: float) -> None:
    with pytest.raises(InputError, match=r"^rho: expected a finite number > 0"):
        karras_times(VE(), 64.0, 1.0, 3, rho=rho)


def test_a_history_reaches_exactly_to_the_end_of_a_schedule() -> None:
    """From log(alpha/sigma) = 0 one step back as long as the one ahead."""
    schedule, ahead = VE(sigma_max=64.0), instant(VE(), 1 / 64)
    end = float(schedule.lam(64.0))
    teleported = Teleported(DDIM(), ONE, 1.0, remembered=1)
    state = State(replace(instant(schedule, 1.0), lam=0.0), double(1.0)[None])
    for lam, remembered in ((-end, 1), (math.nextafter(-end, 9), 0)):
        assert len(teleported._history(schedule, state, replace(ahead, lam=lam))) == remembered
