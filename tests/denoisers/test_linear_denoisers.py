"""Linear denoisers: what they answer at each level of their table, and what they refuse."""

import math

import pytest
import torch

from diffuscope.denoisers import Denoiser, LevelTable, LinearDenoiser, SymmetricLinearDenoiser, nearest_trained_time
from diffuscope.errors import InputError
from diffuscope.exact import Gaussian
from diffuscope.schedules import VE, VP
from diffuscope.theory import AffineLearning

LEVELS = torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64)
LAW = Gaussian(torch.tensor([[0.4, -1.0]]), torch.eye(2, dtype=torch.float64), torch.tensor([2.0, 0.3]))


def linear(schedule=None, dtype=torch.float64):
    model = LinearDenoiser(schedule or VP(), LEVELS, event_shape=(1, 2), data_range=(-1.0, 1.0)).to(dtype)
    for place, t in enumerate(LEVELS.tolist()):
        best = AffineLearning(LAW, float(model.schedule.alpha(t)), float(model.schedule.sigma(t))).optimum
        model.weight.data[place], model.bias.data[place] = best.weight, best.bias
    return model


def test_with_the_optimal_maps_it_is_the_exact_denoiser_at_every_level_of_a_mixed_batch():
    model = linear()
    t = LEVELS[torch.tensor([2, 0, 1, 1, 0, 2, 2])]
    x = torch.randn(7, 1, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    exact = LAW.denoise(x, model.schedule.alpha(t), model.schedule.sigma(t))
    assert torch.allclose(model(x, t), exact, rtol=0, atol=1e-13)
    assert torch.allclose(model(x, 0.5), LAW.denoise(x, VP().alpha(0.5), VP().sigma(0.5)), rtol=0, atol=1e-13)
    assert isinstance(model, Denoiser)


def test_two_layers_keep_the_mean_of_the_data_in_place():
    """D(alpha m) = m for any P, and elsewhere the affine map that it states."""
    model = SymmetricLinearDenoiser(VP(), LEVELS, mean=LAW.mean, data_range=(-1.0, 1.0), start=0.3).double()
    model.factor.data += 0.1 * torch.randn(3, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    alphas = VP().alpha(LEVELS)
    assert torch.allclose(model(alphas[:, None, None] * LAW.mean, LEVELS), LAW.mean.expand(3, 1, 2), rtol=1e-7, atol=0)
    x = torch.randn(4, 1, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    weight, bias = model.map_at(0.9)
    assert torch.allclose(model(x, 0.9).flatten(1), x.flatten(1) @ weight.T + bias, rtol=0, atol=1e-14)


def test_levels_share_nothing():
    model = linear()
    x = torch.ones(2, 1, 2, dtype=torch.float64)
    model(x, torch.tensor([0.2, 0.9], dtype=torch.float64)).square().sum().backward()
    assert model.weight.grad is not None
    touched = model.weight.grad.flatten(1).abs().sum(1) > 0
    assert touched.tolist() == [True, False, True]


def test_it_computes_in_its_own_dtype_and_answers_in_that_of_the_question():
    x = torch.randn(5, 1, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    single, double = linear(dtype=torch.float32)(x, 0.5), linear()(x, 0.5)
    assert single.dtype == torch.float64
    assert torch.allclose(single, double, rtol=0, atol=1e-6)
    assert not torch.equal(single, double)
    assert linear()(x.float(), 0.5).dtype == torch.float32


def test_another_time_than_a_level_is_refused_and_the_nearest_is_told():
    model = linear()
    with pytest.raises(InputError, match="nearest_trained_time"):
        model(torch.zeros(1, 1, 2, dtype=torch.float64), 0.51)
    assert float(nearest_trained_time(model, 0.51)) == 0.5
    rounded = torch.tensor(0.2, dtype=torch.float32).double()  # one float32 away from the level
    assert int(model.clock.label(rounded)) == 0


def test_a_level_is_known_within_a_millionth_on_both_sides():
    table = LevelTable(LEVELS)
    for place, level in enumerate(LEVELS.tolist()):
        for known in (level, level * (1 + 9e-7), level * (1 - 9e-7)):
            assert int(table.label(known)) == place
            assert float(table.nearest(known)) == level
        for unknown in (level * (1 + 2e-6), level * (1 - 2e-6)):
            assert float(table.nearest(unknown)) == level
            with pytest.raises(InputError, match="noise levels only"):
                table.label(unknown)
    assert int(LevelTable(torch.zeros(1, dtype=torch.float64)).label(0.0)) == 0


def test_the_maps_are_told_without_their_graph_and_the_mean_is_not_learned():
    mean = LAW.mean.clone().requires_grad_()
    for model in (linear(), SymmetricLinearDenoiser(VP(), LEVELS, mean=mean, data_range=(-1.0, 1.0))):
        assert any(parameter.requires_grad for parameter in model.parameters())
        assert not any(part.requires_grad for part in model.map_at(0.5))
        assert not any(buffer.requires_grad for buffer in model.buffers())
        weight, _ = model.map_at(0.5)
        before = weight.clone()
        with torch.no_grad():
            next(model.parameters()).add_(1.0)
        assert torch.equal(weight, before)  # a copy


@pytest.mark.parametrize("times", [[], [0.5, 0.5], [0.5, 0.2], [-1.0, 1.0], [math.nan], [math.inf]])
def test_a_table_must_increase_and_be_finite(times):
    with pytest.raises(InputError, match="times"):
        LevelTable(torch.tensor(times, dtype=torch.float64))


@pytest.mark.parametrize("start", [0.0, -1.0, math.nan, math.inf])
def test_a_factor_of_zero_which_never_moves_is_refused(start):
    with pytest.raises(InputError, match="start"):
        SymmetricLinearDenoiser(VE(), LEVELS, mean=LAW.mean, data_range=(-1.0, 1.0), start=start)


def test_events_of_another_shape_are_refused():
    with pytest.raises(InputError, match="x_t"):
        linear()(torch.zeros(1, 2, dtype=torch.float64), 0.5)
