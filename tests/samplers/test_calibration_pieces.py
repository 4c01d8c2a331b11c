"""The pieces of a calibration, each against its closed form: grids, levels, distances, robust fits, limits of steps."""

import math

import pytest
import torch

from diffuscope.denoisers import ExactDenoiser, StepIndex
from diffuscope.exact import Gaussian
from diffuscope.samplers import suggest_skip
from diffuscope.samplers.calibration.fitting import influence_of, mean_departure, robust_least_squares
from diffuscope.samplers.calibration.gauss_newton import moved_levels, moved_weights
from diffuscope.samplers.calibration.plan import Plan, plain_weights
from diffuscope.samplers.calibration.reference import (
    Trajectories,
    distinct,
    halved,
    reference_levels,
    reference_of,
    spaced_levels,
)
from diffuscope.samplers.calibration.search import crowded, noise_levels
from diffuscope.samplers.calibration.whitened_model import WhitenedModel
from diffuscope.samplers.schedule_values import instants
from diffuscope.schedules import VE, VP, DiscreteVP, RectifiedFlow, Schedule
from numbers_in_tests import double, seeded

DATA = Gaussian(
    torch.tensor([0.5, -1.0, 2.0]), torch.eye(3)[:, :2], torch.tensor([9.0, 4.0]), tail_variance=0.25
)  # standard deviations 3, 2 and 1/2: the mean variance is 53/12


def whitened_model(schedule: Schedule | None = None, gaussian: Gaussian = DATA) -> WhitenedModel:
    return WhitenedModel(ExactDenoiser(DATA, schedule or VE(0.01, 50.0)), gaussian, torch.zeros(8, 3).double())


class OfSteps(ExactDenoiser):
    """An exact denoiser that answers at the steps of its table alone."""

    clock = StepIndex(1000)


def test_crowded_ratios_take_equal_steps_in_their_root():
    assert crowded(16.0, 1.0, 2.0, 4) == pytest.approx([16, 9, 4, 1])
    assert crowded(27.0, 1.0, 3.0, 3) == pytest.approx([27, 8, 1])
    assert crowded(100.0, 0.01, math.inf, 5) == pytest.approx([100, 10, 1, 0.1, 0.01])
    assert crowded(7.0, 1.0, 2.0, 1) == pytest.approx([7])


def test_noise_levels_stay_within_the_models_range_and_below_300_standard_deviations():
    def ratios(schedule: Schedule, first: float, last: float, count: int = 3) -> list[float]:
        return [math.exp(-lam) for lam in noise_levels(whitened_model(schedule), first, last, 2.0, count)]

    assert ratios(VE(0.01, 50.0), 16.0, 4.0) == pytest.approx([16, 9, 4])
    assert ratios(VE(0.01, 50.0), 16.0, 1e-5)[-1] == pytest.approx(0.01)
    assert ratios(VE(0.01, 50.0), 16.0, 12.0)[-1] == pytest.approx(8)  # at most half of the first
    assert ratios(VE(0.01, 50.0), math.inf, 4.0)[0] == pytest.approx(50)
    assert ratios(VE(0.01, 50.0), 49.0100, 4.0)[0] == pytest.approx(50)  # e^-0.02 of the start is the start
    assert ratios(VE(0.01, 50.0), 49.0098, 4.0)[0] == pytest.approx(49.0098)
    # from 300 standard deviations, of 3, on the start is a level of its own, and the next is at 20
    assert ratios(VE(0.01, 900.0), math.inf, 15.0)[:2] == pytest.approx([900, (900**0.5 / 2 + 15**0.5 / 2) ** 2])
    assert ratios(VE(0.01, 901.0), math.inf, 15.0, 4) == pytest.approx([901, 60, ((60**0.5 + 15**0.5) / 2) ** 2, 15])
    assert ratios(RectifiedFlow(), math.inf, 15.0, 2)[1] == pytest.approx(60)


def test_scales_and_distances_of_a_whitened_model():
    model = whitened_model()
    assert model.largest_std == pytest.approx(3)
    # of a low rank the complement counts with every coordinate, as its coordinates are D: one of three here
    a, b = torch.zeros(2, 5).double(), torch.zeros(2, 5).double()
    b[0, :2], b[1, 4] = double(3.0, 4.0), 7.0
    assert model.distance(a, b) == pytest.approx(6 / 3**0.5)
    narrow = model.about(Gaussian.isotropic(torch.zeros(3), 0.01))
    assert (narrow.largest_std, narrow.rms_std) == (model.largest_std, model.rms_std)
    narrow(torch.ones(5, 3).double(), 1.0)
    assert (narrow.evaluations, model.evaluations) == (5, 5)


def test_levels_are_none_outside_the_range_out_of_order_or_nearer_than_a_fiftieth():
    model = whitened_model(VE(0.01, 50.0))
    start, end = -math.log(50.0), -math.log(0.01)
    assert model.levels([start - 1e-9, 0.0, 1.0]) is None
    assert model.levels([0.0, end + 1.1e-9]) is None
    assert model.levels([0.0, 0.0199]) is None
    assert model.levels([1.0, 0.0]) is None
    close = model.levels([0.0, 0.0201])
    assert close is not None
    assert [at.lam for at in close] == pytest.approx([0.0, 0.0201])
    whole = model.levels([start + 0.9e-4, end + 0.9e-9])
    assert whole is not None
    assert whole[0].t == 50.0  # a ten-thousandth from the start is the start
    later = model.levels([start + 1.1e-4, end])
    assert later is not None
    assert later[0].t < 50.0
    # trained steps may be nearer, but no two the same
    table = WhitenedModel(OfSteps(DATA, DiscreteVP.linear()), DATA, torch.zeros(8, 3).double())
    lams = [float(DiscreteVP.linear().lam(step)) for step in (501.0, 500.0)]
    assert lams[1] - lams[0] < 0.02
    found = table.levels(lams)
    assert found is not None
    assert [at.t for at in found] == [501.0, 500.0]
    assert table.levels([lams[0], lams[0] + 1e-6]) is None
    assert (table.discrete, model.discrete) == (True, False)


def test_a_mean_departure_is_shrunk_by_its_uncertainty_and_never_past_zero():
    departure = torch.tensor([[3.0, 0.1, -5.0], [5.0, -0.2, -5.0]], dtype=torch.float64)
    # mean 4 with a variance of 2/2: 1 - 1/16; mean -0.05 with 0.045/2 is more noise than signal; -5 without noise
    assert mean_departure(departure).tolist() == pytest.approx([4 * 15 / 16, 0.0, -5.0])
    assert mean_departure(0 * departure).tolist() == [0, 0, 0]


def test_a_trajectory_weighs_as_the_root_of_its_distance_with_a_tenth_of_the_mean():
    missing = torch.tensor([[3.0, 4.0], [0.0, 0.0], [6.0, 8.0]], dtype=torch.float64)
    assert influence_of(missing)[:, 0].tolist() == pytest.approx([5.5**-0.5, 0.5**-0.5, 10.5**-0.5])


def test_least_squares_finds_the_coefficients_and_an_outlier_counts_less():
    first, second, third = torch.randn(3, 40, 2, dtype=torch.float64, generator=seeded())
    features = [first, 1e3 * second, third]
    missing = 2 * features[0] - 3 * features[1] + 0.5 * features[2]
    found = robust_least_squares(features, missing, 1e-14)
    assert found.tolist() == pytest.approx([2, -3, 0.5], rel=1e-9)
    # a ridge shrinks: of one feature by 1 + ridge, whatever its size
    assert float(robust_least_squares([features[1]], -3 * features[1], 0.25)) == pytest.approx(-3 / 1.25, rel=1e-9)
    # a feature that is nothing beside the others is not used
    nothing = robust_least_squares([first, 1e-12 * second], 2 * first, 1e-6)
    assert abs(float(nothing[1])) * 1e-12 < 1e-6
    assert robust_least_squares([0 * first], first, 1e-6).tolist() == [0]
    spoiled = missing.clone()
    spoiled[7] += 1000 * third[7]
    plain = torch.linalg.lstsq(torch.stack([one.flatten() for one in features], 1), spoiled.flatten()).solution
    robust = robust_least_squares(features, spoiled, 1e-14)
    assert abs(float(robust[2]) - 0.5) < 0.3 * abs(float(plain[2]) - 0.5)


def test_plain_weights_are_those_of_adams_and_bashforth_in_equal_steps():
    levels = instants(VE(), (-torch.arange(6).double()).exp())
    expected = [
        [1, 0, 0, 0, 0],
        [3 / 2, -1 / 2, 0, 0, 0],
        [23 / 12, -16 / 12, 5 / 12, 0, 0],
        [55 / 24, -59 / 24, 37 / 24, -9 / 24, 0],
        [55 / 24, -59 / 24, 37 / 24, -9 / 24, 0],
        [1, 0, 0, 0, 0],
    ]
    assert torch.allclose(plain_weights(levels), torch.tensor(expected, dtype=torch.float64), atol=1e-12)
    # a first level without signal has no logarithm and is no node
    flow = instants(RectifiedFlow(), double(1.0, 0.75, 0.5, 0.25))
    assert plain_weights(flow)[1].tolist() == [1, 0, 0, 0, 0]
    assert plain_weights(flow)[2, 2] == 0


def test_a_trajectory_is_read_between_its_levels_by_the_cubic_through_the_nearest_four():
    lams = [-2.0, -1.0, 0.5, 1.0, 2.5, 4.0]
    basis = whitened_model().basis

    def cubic(lam: float) -> float:
        return 1 - 2 * lam + 3 * lam**2 - 0.5 * lam**3

    far = 1e6  # what lies outside of the four nearest is not used
    for lam, used in ((-1.5, (0, 4)), (0.7, (1, 5)), (1.7, (2, 6)), (3.9, (2, 6)), (-0.2, (0, 4))):
        values = [cubic(node) if used[0] <= k < used[1] else far for k, node in enumerate(lams)]
        states = torch.tensor(values, dtype=torch.float64)[:, None, None].expand(6, 2, 5)
        path = Trajectories(lams, states, states[0], basis, basis)
        assert float(path.at(lam)[0, 0]) == pytest.approx(cubic(lam), rel=1e-12)
    assert float(path.at(-2.0 + 0.9e-4)[0, 0]) == float(states[0, 0, 0])
    assert path.part(slice(1, 2)).states.shape == (6, 1, 5)


def test_references_are_spaced_evenly_from_300_standard_deviations_to_the_end():
    model = whitened_model(VE(0.01, 50.0))
    lams = [at.lam for at in spaced_levels(model, 5)]
    assert lams == pytest.approx(torch.linspace(-math.log(50), -math.log(0.01), 5).double().tolist(), rel=1e-6)
    assert len(reference_levels(model, None)) == 160
    assert len(reference_levels(model, 7)) == 7
    high = spaced_levels(whitened_model(VE(0.01, 9000.0)), 5)
    assert [math.exp(-at.lam) for at in high[:2]] == pytest.approx([9000, 900])
    assert len(high) == 6
    assert [at.t for at in halved(high)] == [high[i].t for i in (0, 2, 4, 5)]
    assert [at.t for at in halved(high[:5])] == [high[i].t for i in (0, 2, 4)]
    twice = instants(VE(), double(2.0, 2.0 * (1 - 0.9e-4), 1.0))
    assert [at.t for at in distinct(twice)] == [2.0, 1.0]


def test_the_reference_of_its_own_gaussian_stands_still_in_whitened_coordinates():
    model = whitened_model(VP())
    starts = torch.randn(8, 3, dtype=torch.float64, generator=seeded())
    path = reference_of(model, starts, spaced_levels(model, 6))
    z = model.whitened(starts)
    assert torch.allclose(path.states, z.expand_as(path.states), atol=1e-9)
    assert torch.allclose(path.end, model.basis.gain(model.end) * z, atol=1e-9)
    assert model.evaluations == 8 * len(path.lams)


def test_a_step_moves_levels_and_weights_by_name():
    model, levels = whitened_model(), instants(VE(), double(4.0, 1.0, 0.25))
    plan = Plan(levels, plain_weights(levels), torch.zeros(5).double())
    names, step = [(1, -1), (0, 0), (2, 3), (2, -1)], double(0.3, 5.0, 7.0, -0.2)
    moved = moved_levels(model, plan, names, step)
    assert moved is not None
    expected = [-math.log(4.0), 0.3, math.log(4.0) - 0.2]
    assert [at.lam for at in moved] == pytest.approx(expected, abs=1e-12)
    change = moved_weights(plan, names, step) - plan.weights
    assert change.nonzero().tolist() == [[0, 0], [2, 3]]
    assert change[0, 0].item() == pytest.approx(5)
    assert change[2, 3].item() == pytest.approx(7)
    assert moved_levels(model, plan, [(1, -1)], double(3.0)) is None


def test_data_without_variance_have_no_tolerance_to_jump_within():
    point = Gaussian.isotropic(torch.ones(2), 0.0)
    model = ExactDenoiser(Gaussian.isotropic(torch.zeros(2), 1.0), VE())
    found = suggest_skip(model, point, torch.ones(3, 2), double(9.0, 4.0, 2.0), tolerance=0.5)
    assert (found.index, float(found.t_skip)) == (0, 9.0)
