"""How much an audit takes of everything, and its settings, levels and units exactly at their limits."""

# settings of any type are given by name
# pyright: reportArgumentType=false

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from made_by_hand import standard_normal
from results_at_levels import position, skill, target

from diffuscope.audit import Settings, Subject, fit_references, generation, references
from diffuscope.audit.class_fit import SPAN as CLASS_SPAN
from diffuscope.audit.class_fit import class_levels
from diffuscope.audit.consistency import AGREES, IDENTITY, Consistency, consistency_finding
from diffuscope.audit.conventions import LARGEST, READINGS, SMALLEST, Convention, declared, relative_errors
from diffuscope.audit.data_gaussian import BATCH_NUMBERS, EXAMPLE_NUMBERS, batch_size, fitted_examples
from diffuscope.audit.difficulty import fit_difficulty
from diffuscope.audit.ends import channel_means
from diffuscope.audit.entropy_budget import _controlled
from diffuscope.audit.features import WHITENED_COMPONENTS, feature_map
from diffuscope.audit.manners import _difference
from diffuscope.audit.model_card import Recipe, _fenced, _quoted
from diffuscope.audit.own_sampler import own_row
from diffuscope.audit.owner_findings import chosen
from diffuscope.audit.reading_search import SPAN, decisive_levels
from diffuscope.audit.references import band_names
from diffuscope.audit.rows_of import AT_ONCE, at_once, few_enough
from diffuscope.audit.sample_units import _numbers
from diffuscope.audit.skill import skill_finding
from diffuscope.audit.standing import _noise, _position
from diffuscope.audit.step_measures import steps_within
from diffuscope.audit.subject import COUNTS, FEWEST, HIGHEST, LOWEST, noise_levels, require_examples
from diffuscope.audit.units import SAME_UNITS, SHIFT, _alike, usual_maps
from diffuscope.denoisers import CountingDenoiser
from diffuscope.errors import InputError
from diffuscope.exact import Gaussian
from diffuscope.samplers.generation import model_times
from diffuscope.schedules import VE
from numbers_in_tests import rng, seeded

# settings and levels


@pytest.mark.parametrize("name", COUNTS)
def test_counts_may_be_the_least_and_the_most(name):
    for value in COUNTS[name]:
        assert getattr(Settings(**{name: value}), name) == value
    for value in (COUNTS[name][0] - 1, COUNTS[name][1] + 1):
        with pytest.raises(InputError, match=f"{name}: expected a whole number from"):
            Settings(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("false_discovery", 0.0), ("false_discovery", 1.0), ("significance", 0.0), ("significance", 1.0),
        ("delta", 1.0), ("skip_tolerance", 0.0), ("skip_tolerance", math.inf), ("features", ("pca", "pca")),
    ],
)  # fmt: skip
def test_the_ends_of_open_ranges_are_refused(name, value):
    with pytest.raises(InputError, match=f"{name}: expected"):
        Settings(**{name: value})


def test_no_delta_is_a_delta():
    assert Settings(delta=0.0).delta == 0.0


@pytest.mark.parametrize(
    ("low", "high", "scale", "ends"),
    [(0.5, 2.0, 1.0, (2.0, 0.5)), (1e-3, 1e4, 2.0, (2 * HIGHEST, 2 * LOWEST))],
)
def test_levels_are_within_the_schedule_and_within_those_of_the_data(low, high, scale, ends):
    ratios = noise_levels(standard_normal(low, high), scale, 5).ratios
    assert (float(ratios[0]), float(ratios[-1])) == pytest.approx(ends)


def test_a_schedule_that_ends_where_the_levels_begin_has_none():
    with pytest.raises(InputError, match="model: expected times that cover the noise levels"):
        noise_levels(standard_normal(1e-3, LOWEST), 1.0, 5)


@pytest.mark.parametrize(
    ("low", "high", "ends"),
    [
        (1e-6, 1e4, (2 * SPAN[0], 2 * SPAN[1])),
        (2.2 * SPAN[0], 1.8 * SPAN[1], (2.2 * SPAN[0], 1.8 * SPAN[1])),
        (1e-6, 2 * SPAN[0], (1e-6, 2 * SPAN[0])),  # the two meet in a point: no level is decisive, so all are tried
        (4 * SPAN[1], 1e9, (4 * SPAN[1], 1e6)),
    ],
)
def test_decisive_levels_are_those_of_the_data_that_the_schedule_reaches(low, high, ends):
    found = decisive_levels(standard_normal(low, high), 2.0)
    assert (found[0], found[-1]) == pytest.approx(ends)


@pytest.mark.parametrize(("low", "high"), [(1e-6, 1e4), (2.0, 1e4), (1e-6, 9.0), (1.5, 8.0)])
def test_levels_of_classes_decrease_within_their_span_and_the_schedule(low, high):
    train = torch.tensor([[-3.0], [3.0]]).repeat(10, 1)  # of deviation 3
    times = class_levels(Subject(standard_normal(low, high), train, train + 1))
    first, last = min(3 * CLASS_SPAN[1], high), max(3 * CLASS_SPAN[0], low)
    assert times.tolist() == pytest.approx(np.geomspace(first, last, len(times)).tolist())
    assert len(times) == 5


def test_twenty_examples_are_enough():
    require_examples("train", torch.arange(float(FEWEST))[:, None])
    with pytest.raises(InputError, match="train: expected at least 20 examples, got 19"):
        require_examples("train", torch.arange(FEWEST - 1.0)[:, None])


# how much is taken at once


def test_examples_are_read_as_many_as_memory_allows():
    assert [batch_size(d) for d in (1, BATCH_NUMBERS // 2, 2 * BATCH_NUMBERS)] == [4096, 2, 1]
    assert [at_once(d) for d in (AT_ONCE // 12, AT_ONCE)] == [3, 1]
    assert [few_enough(most, AT_ONCE // 4 // 300) for most in (1000, 100)] == [300, 100]
    assert [few_enough(most, AT_ONCE) for most in (1000, 100)] == [256, 100]


@pytest.mark.parametrize(("n", "dimension", "read"), [(5, 5, None), (6, 5, 5), (2, 10**12, None), (3, 10**12, 2)])
def test_a_fit_reads_two_examples_at_least(n, dimension, read):
    found = fitted_examples(n, EXAMPLE_NUMBERS // dimension if dimension == 5 else dimension, seeded())
    assert (None if found is None else len(found)) == read
    assert found is None or found.tolist() == sorted(set(found.tolist()))


@pytest.mark.parametrize(("n", "dimension", "kept"), [(20, 3, 1), (200, 3, 3), (100, 5, 2), (900, 20, 16)])
def test_the_control_has_one_component_per_fifty_examples(n, dimension, kept):
    train = torch.randn(n, dimension, generator=seeded())
    assert len(fit_references(train, train, 1, seeded()).control.eigenvalues) == kept


@pytest.mark.parametrize(
    ("dimension", "most", "numbers", "rank"), [(3, 64, 2**26, 3), (3, 2, 2**26, 2), (3, 64, 6, 1), (3, 64, 5, 1)]
)
def test_the_mixture_has_as_many_directions_as_fit(dimension, most, numbers, rank, monkeypatch):
    monkeypatch.setattr(references, "MIXTURE_RANK", most)
    monkeypatch.setattr(references, "MIXTURE_NUMBERS", numbers)
    ranks, fitted = [], references.GaussianMixture.fit_kmeans

    def recorded(*given, **options):
        ranks.append(options["rank"])
        return fitted(*given, **options)

    monkeypatch.setattr(references.GaussianMixture, "fit_kmeans", recorded)
    train = torch.randn(30, dimension, generator=seeded())
    fit_references(train, train, 2, seeded())
    assert ranks == [rank]


def test_no_component_is_refused_and_octaves_end_with_the_last():
    train = torch.randn(20, 2, generator=seeded())
    with pytest.raises(InputError, match="components: expected at least 1, got 0"):
        fit_references(train, train, 0, seeded())
    assert band_names(5) == ["1", "2-3", "4-5"]
    assert band_names(7) == ["1", "2-3", "4-7"]
    assert band_names(1) == ["1"]


@pytest.mark.parametrize(("dimension", "n", "kept"), [(1, 100, 0), (2, 20, 1), (3, 400, 2), (9, 200, 4), (20, 900, 16)])
def test_the_easy_reference_keeps_components_and_the_whole_variance(dimension, n, kept):
    examples = torch.randn(n, dimension, generator=seeded())
    isotropic, few = fit_difficulty(examples)
    assert len(few.eigenvalues) == kept
    variance = float(examples.double().var(0, correction=0).sum())
    assert few.trace == pytest.approx(variance)
    assert isotropic.trace == pytest.approx(variance)


def test_a_tail_that_is_rounding_is_none():
    """On a line all variance is in the first component."""
    line = torch.randn(100, 1, generator=seeded()) * torch.tensor([[0.1, 0.7, 0.3]])
    assert 0 <= fit_difficulty(line, components=2)[1].tail_variance < 1e-12


def test_principal_components_are_those_that_vary_and_fifty_at_most():
    eigenvalues = torch.tensor([2.0, 0.5, 0.0], dtype=torch.float64)
    flat = Gaussian(torch.zeros(3), torch.eye(3, dtype=torch.float64), eigenvalues)
    rows = feature_map("pca", flat)(torch.tensor([[2.0, 1.0, 9.0]]))
    assert rows.tolist() == [pytest.approx([2.0**0.5, 2.0**0.5])]
    many = Gaussian(torch.zeros(60), torch.eye(60, dtype=torch.float64), torch.arange(60.0, 0, -1).double())
    assert feature_map("pca", many)(torch.zeros(2, 60)).shape == (2, WHITENED_COMPONENTS)


@pytest.mark.parametrize("block", [1, 2, 5, 9])
def test_as_much_noise_is_drawn_as_is_asked_for(block, monkeypatch):
    monkeypatch.setattr(generation, "at_once", lambda _: block)
    made = generation.starting_noise(Gaussian.isotropic(torch.zeros(2), 1.0), VE(), 3.0, 5, seeded())
    assert made.shape == (5, 2)


def test_a_step_remains_for_any_budget():
    assert [steps_within(budget, 2) for budget in (1, 2, 3, 5)] == [1, 1, 1, 2]


def test_an_owner_has_so_many_examples_at_most(monkeypatch):
    monkeypatch.setattr("diffuscope.audit.owner_findings.MOST", 2)
    owners = torch.tensor([0, 1, 0, 0, 1, 2])
    found = chosen(owners, torch.tensor([0, 1]), seeded())
    assert owners[found].tolist() == [0, 0, 1, 1]


def test_the_owners_sampler_has_a_step_for_every_budget_and_none_without_a_grid():
    denoiser, start = standard_normal(0.1, 10.0), torch.ones(8, 1)

    def times(steps):
        return model_times(denoiser, steps, high=10.0, low=0.1)

    counted = CountingDenoiser(denoiser)
    row = own_row("diffuscope.samplers:DDIM", denoiser, start, times, [1, 5, 21])
    assert row is not None
    row.finish(counted, start, times(4))
    last = counted.calls - 4
    assert row.steps == (1, 5 - last, 21 - last)
    assert own_row("diffuscope.samplers:DDIM", denoiser, start, lambda _: times(4), [5]) is None


# answers and units


def test_a_difference_is_relative_to_the_larger_answer_of_either_sign():
    zero, one, four = torch.zeros(1), torch.ones(1), torch.full((1,), -4.0)
    assert _difference(zero, zero) == 0.0
    assert _difference(one, four) == _difference(four, one) == 5 / 4
    assert _difference(zero, one) == 1.0


def test_times_beyond_the_schedule_are_its_ends():
    assert [declared(standard_normal(0.5, 2.0)).trained(t) for t in (-1.0, 0.5, 1.0, 9.0)] == [0.5, 0.5, 1.0, 2.0]


def test_a_reading_is_not_judged_at_a_level_far_from_the_one_asked_for():
    clean = torch.ones(2, 1)
    variances = torch.ones(1, dtype=torch.float64)
    readings = {"clean data": READINGS["clean data"]}
    for at, ratio, error in ((0.1, 10.0, LARGEST), (10.0, 0.1, LARGEST), (0.0, 1.0, LARGEST), (1.0, 1.0, SMALLEST)):
        convention = Convention("", VE(), lambda _, at=at: at, lambda _, __: clean)
        found = relative_errors(convention, readings, ratio, clean, torch.ones(2, 1), variances)
        assert found.tolist() == [[error, error]]


def test_samples_are_alike_within_the_bars_in_either_direction():
    for mean, deviation, alike in (
        (SHIFT, 1.0, False), (-SHIFT, 1.0, False), (0.99 * SHIFT, 1.0, True), (-0.99 * SHIFT, 1.0, True),
        (0.0, SAME_UNITS, False), (0.0, 1 / SAME_UNITS, False), (0.0, 0.99 * SAME_UNITS, True),
    ):  # fmt: skip
        assert _alike(mean, deviation, 0.0, 1.0) == alike


def test_a_range_moved_down_is_another_range():
    assert "[0, 1]" in [m.name for m in usual_maps((-5.0, -4.0), -4.5, 0.2)]
    assert "[0, 1]" in [m.name for m in usual_maps((5.0, 6.0), 5.5, 0.2)]
    assert "[0, 1]" not in [m.name for m in usual_maps((0.0, 1.0), 0.5, 0.2)]


def test_channels_are_at_most_four_and_coordinates_three():
    assert [channel_means(torch.zeros(2, channels, 5, 5)).shape[1] for channels in (4, 5)] == [4, 1]
    assert [channel_means(torch.zeros(2, d)).shape[1] for d in (3, 4)] == [3, 1]
    assert [len(_numbers(torch.zeros(2, channels, 5, 5))) for channels in (4, 5)] == [4, 1]


def test_one_value_has_no_deviation_and_many_have_their_ends():
    assert _numbers(torch.full((1, 1), 3.0)) == [[3.0, 0.0, 3.0, 3.0]]
    assert _numbers(torch.tensor([[1.0], [2.0], [6.0]])) == [[3.0, pytest.approx(7**0.5), 1.0, 6.0]]


def test_noise_that_does_not_vary_controls_nothing():
    rows = np.array([[1.0], [3.0]])
    assert _controlled(rows, np.array([2.0, 2.0]), 2).tolist() == rows.tolist()


@pytest.mark.parametrize(
    ("moved", "error", "calls", "tone"),
    [
        (IDENTITY, AGREES, 2, "good"), (IDENTITY, AGREES, 1, "neutral"),
        (2 * IDENTITY, 1.0, 1, "neutral"), (2 * IDENTITY, 1.0, 2, "attention"),
        (IDENTITY, 2 * AGREES, 1, "neutral"), (IDENTITY, 2 * AGREES, 2, "attention"),
    ],
)  # fmt: skip
def test_more_calls_than_one_rest_on_the_identity(moved, error, calls, tone):
    found = Consistency(moved=np.full(3, moved**2), lowest=0.01, levels=np.array([0.2]), errors=np.array([error]))
    assert consistency_finding(found, calls, rng()).tone == tone


def test_no_distance_between_examples_has_no_unit_and_few_repeats_have_one():
    assert math.isnan(target(examples=np.zeros(3)).at_examples(rng())[0])
    value, low, high = target(examples=np.array([0.0] * 3 + [1.0] * 4)).at_examples(rng())
    assert value == pytest.approx(0.3)
    assert 0 < low < value < high < math.inf  # a resample whose median is 0 is very far, and not infinitely


def test_a_loss_without_noise_and_distance_has_no_position():
    assert math.isnan(float(_position(0.0, 0.0)))
    assert float(_position(1.0, 3.0)) == 0.25
    assert float(_noise(0.0, 0.0, 4)) == 0.0
    nothing = np.zeros((40, 3))
    assert replace(position(), gap=nothing, distance=nothing).detectable(0.01) == 0.0


def test_a_model_without_a_level_that_matters_is_not_called_hopeless():
    found = replace(skill(), scale=1e9)
    assert not found.matters.any()
    assert skill_finding(found).tone == "good"


def test_a_recipe_is_fenced_by_more_backticks_than_it_has():
    assert _fenced(Recipe("console", "a"))[0] == "```console"
    assert _fenced(Recipe("console", "`" * 5))[0] == "`" * 6 + "console"
    assert (_quoted("\x7f"), _quoted("\x80")) == (r"$'\x7f'", r"$'\U00000080'")
