"""In which units and by which reading two-point models denoise, and other limits that are met exactly."""

import inspect
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from diffuscope.audit import reading_search, units
from diffuscope.audit.conventions import LARGEST, READINGS, gaussian_error, instant_of
from diffuscope.audit.questions import agreement
from diffuscope.audit.reading_search import EXPLAINS, SIGNED, _smallest_seen, decisive_levels, larger_p_value
from diffuscope.audit.sample_units import _numbers
from diffuscope.audit.second_model import Translated, shared_levels
from diffuscope.audit.subject import Levels, levels_within
from diffuscope.audit.units import best_units, rearrangements, sample_units
from diffuscope.denoisers import ExactDenoiser
from diffuscope.exact import Empirical, Gaussian
from diffuscope.schedules import VE
from numbers_in_tests import rng


def two_points(values, shares=(1, 3)):
    """A quarter of the examples are the first value, the others the second."""
    return torch.tensor([[values[0]]] * shares[0] + [[values[1]]] * shares[1]).repeat(20, 1)


def asked(model, data):
    """A model and examples in random order with noise, at the levels of their deviation."""
    generator = torch.Generator().manual_seed(0)
    denoiser = ExactDenoiser(Empirical(two_points(model)), VE(1e-4, 1e6))
    train = two_points(data)
    clean = train[torch.randperm(80, generator=generator)]
    variances = train.double().var(0, correction=0)
    return (
        denoiser, variances, decisive_levels(denoiser, float(variances.sqrt())), clean,
        torch.randn(80, 1, generator=generator),
    ), train  # fmt: skip


@pytest.mark.parametrize(
    ("model", "name", "written", "own"),
    [
        ((-1.0, 1.0), "[-1, 1]", "data = 0.5 × value + 0.5", None),
        ((1.0, -1.0), "[-1, 1], light and dark exchanged", "data = -0.5 × value + 0.5", torch.zeros(9, 1)),
    ],
)
def test_the_units_of_a_model_are_those_in_which_its_points_are_the_datas(model, name, written, own):
    """All usual maps are tried but that of the data's own range; samples of no deviation are no further one."""
    given, train = asked(model, (0.0, 1.0))
    found = best_units(*given, train, own, rng())
    assert (found.name, found.written, found.tried) == (name, written, 1 + 12)
    assert (found.cost > 1.25, found.p_value < 0.01, found.denoises) == (True, True, True)


def test_a_model_of_unusual_units_is_known_by_the_range_of_its_samples():
    given, train = asked((40.0, 47.0), (0.0, 1.0))
    found = best_units(*given, train, two_points((40.0, 47.0)), rng())
    assert (found.name, found.written) == ("the range of its samples", "data = 0.1429 × value − 5.714")
    assert (found.tried, found.denoises) == (14, True)


def test_units_with_exactly_the_largest_share_of_the_formulas_errors_denoise(monkeypatch):
    given, train = asked((-1.0, 1.0), (0.0, 1.0))
    for share, denoises in ((EXPLAINS, True), (math.nextafter(EXPLAINS, 1), False)):
        monkeypatch.setattr(units, "error_ratio", lambda *_, share=share: share)
        assert best_units(*given, train, None, rng()).denoises == denoises


def test_units_exactly_as_good_as_the_best_are_taken(monkeypatch):
    monkeypatch.setattr(units, "SIMPLER", 1.0)
    given, train = asked((-1.0, 1.0), (0.0, 1.0))
    assert best_units(*given, train, None, rng()).name == "[-1, 1]"


def test_a_reading_exactly_as_good_as_the_best_is_taken(monkeypatch):
    monkeypatch.setattr(reading_search, "SIMPLER", 1.0)
    monkeypatch.setattr(reading_search, "black_box_conventions", lambda _: ())
    monkeypatch.setattr(reading_search, "_smallest_seen", lambda *_: (math.inf, math.inf))
    (denoiser, variances, levels, clean, noise), _ = asked((0.0, 1.0), (0.0, 1.0))
    assert reading_search.best_reading(denoiser, variances, levels, clean, noise, rng()).tried == 1


def test_a_sample_that_a_map_leaves_where_it_is_gets_no_nearer():
    """Light and dark are exchanged: of thirty samples three are gray."""
    near = torch.tensor([0.0, 1.0]) + 0.01 * torch.randn(87, 2, generator=torch.Generator().manual_seed(0))
    train, heldout, others = near.split(30)
    samples = torch.cat([1 - others, torch.full((3, 2), 0.5)])
    found = sample_units(samples, train, heldout, (0.0, 1.0), rng())
    assert found.name.endswith("light and dark exchanged")
    assert found.nearer == pytest.approx(0.9)


def test_errors_that_are_larger_are_told_from_errors_that_are_not():
    small = np.random.default_rng(1).uniform(1, 2, (3, 40))
    assert larger_p_value(small + 0.5, small, rng()) < 0.01
    assert larger_p_value(small, small + 0.5, rng()) == 1.0
    assert larger_p_value(small, small, rng()) == 1.0


@pytest.mark.parametrize("ends", [(1e-4, 1e6), (0.3, 1e6)])
def test_a_wrong_noise_level_is_seen_where_it_costs_a_quarter_either_way(ends):
    """Of N(0, 1), told f times its noise: D = x / (1 + (f rho)^2). No level below the schedule's can be told."""
    generator, one = torch.Generator().manual_seed(0), torch.ones(1, dtype=torch.float64)
    denoiser = ExactDenoiser(Gaussian.isotropic(torch.zeros(1), 1.0), VE(*ends))
    clean, noise = torch.randn(2, 300, 1, generator=generator)
    levels = np.geomspace(0.1, 3.0, 8)
    x, e = clean.double().numpy(), noise.double().numpy()

    def errors(factor, rho):
        return ((x + rho * e) / (1 + (factor * rho) ** 2) - x) ** 2

    def cost(factor):
        kept = [rho for rho in levels[[1, 3, 5, 7]] if ends[0] <= factor * rho <= ends[1] and rho >= ends[0]]
        return np.exp(np.mean([np.log(errors(factor, rho).mean() / errors(1, rho).mean()) for rho in kept]))

    costs = {factor: min(cost(factor), cost(1 / factor)) for factor in (1.25, 1.5, 2.0, 3.0, 5.0)}
    fault, doubt = (min(factor for factor in costs if costs[factor] >= least) for least in (1.25, 1.05))
    assert fault > doubt > 1.25
    assert _smallest_seen(denoiser, one, levels, clean, noise, rng()) == (fault, doubt)


def test_a_level_told_below_the_schedules_costs_nothing(monkeypatch):
    """Told more noise than there is, errors double; told less, they are the same, unless the schedule ends before."""

    def relative(_, __, ratio, clean, noise, variances):
        factor = 1 / float(noise[0, 0])
        error = (2.0 if factor > 1 else 1.0) * gaussian_error(variances, ratio / factor)
        return np.full((1, len(clean)), LARGEST if ratio < 0.3 else error / gaussian_error(variances, ratio))

    monkeypatch.setattr(reading_search, "relative_errors", relative)
    monkeypatch.setattr(reading_search, "larger_p_value", lambda *_: 0.0)
    levels, one = np.geomspace(0.3, 3.0, 8), torch.ones(1, dtype=torch.float64)
    denoiser = ExactDenoiser(Gaussian.isotropic(torch.zeros(1), 1.0), VE(0.3, 1e6))
    assert _smallest_seen(denoiser, one, levels, torch.zeros(4, 1), torch.ones(4, 1), rng()) == (math.inf, math.inf)


@pytest.mark.parametrize(
    ("span", "ends"),
    [((1.0, 4.0), (1.0, 4.0)), ((0.1, 4.0), (0.5, 4.0)), ((1.0, 40.0), (1.0, 8.0)), ((0.1, 0.5), (0.5, 8.0))],
)
def test_levels_are_within_the_span_and_the_schedule_or_in_all_of_it(span, ends):
    found = levels_within(VE(0.5, 8.0), span, 3)
    assert found == pytest.approx(np.geomspace(ends[0], ends[1], 3))
    endless = levels_within(VE(0.5, 1e9), (0.1, 0.5), 2)
    assert endless == pytest.approx([0.5, 1e6])


@pytest.mark.parametrize(
    ("mismatch", "said"), [(1.05, ""), (1.06, "noise levels of the two models differ by up to 6%")]
)
def test_two_models_may_be_a_twentieth_of_a_level_apart(mismatch, said):
    session = SimpleNamespace(measures=SimpleNamespace(matter=np.array([True, False])))
    pair = SimpleNamespace(kept=np.array([True, False]), mismatch=mismatch)
    assert inspect.unwrap(agreement._not_shared)(session, pair) == said  # pyright: ignore[reportArgumentType]


def test_levels_are_shared_up_to_a_millionth_beyond_the_ends_of_a_range():
    model = ExactDenoiser(Gaussian.isotropic(torch.zeros(1), 1.0), VE(0.125, 8.0))
    low, high = (float(model.schedule.noise_to_signal(t)) for t in (0.125, 8.0))
    for beyond, shared in ((1e-6, True), (1.05e-6, False)):
        ratios = torch.tensor([high * (1 + beyond), 1.0, low * (1 - beyond)], dtype=torch.float64)
        found = shared_levels(Translated(model, model.schedule), Levels(ratios, ratios))
        assert found.tolist() == [shared, True, shared]


@pytest.mark.parametrize("name", READINGS)
def test_a_reading_of_the_opposite_sign_is_that_of_the_opposite_output(name):
    x, output = torch.tensor([[1.0], [2.0]]), torch.tensor([[0.5], [-0.7]])
    instant = instant_of(VE(), 1.5)
    assert torch.equal(SIGNED[f"minus the {name}"](x, output, instant), READINGS[name](x, -output, instant))
    assert torch.equal(SIGNED[name](x, output, instant), READINGS[name](x, output, instant))


def test_two_values_have_the_deviation_of_one_degree_of_freedom():
    assert _numbers(torch.tensor([[1.0], [3.0]])) == [[2.0, pytest.approx(2**0.5), 1.0, 3.0]]
    assert rearrangements((2, 4, 4)) == {}
    assert set(rearrangements((1, 4, 4))) == {"exchanged height and width", "turned upside down"}
