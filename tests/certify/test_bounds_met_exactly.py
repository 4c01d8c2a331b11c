"""What is exactly at a bound of a certificate: an error, a share, a number of steps or of draws."""

# ruff: noqa: ARG001, ARG005 (stand-ins take what samplers take)

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from test_just_beyond_a_bound import erring

from diffuscope.certify import (
    Limit,
    MeasuredOrder,
    Target,
    asked,
    constant,
    convergence,
    edges,
    guidance,
    likelihood_behavior,
    limit_of,
    measured_order,
    mixture,
    sample_distribution,
    sampler_target,
    unequal_gaussian,
)
from diffuscope.certify import behavior as ask
from diffuscope.certify.affine import affine_map
from diffuscope.certify.certificate import Certificate
from diffuscope.certify.chosen_noise import NotChosenError
from diffuscope.certify.convergence import Budget, Convergence, _cold_start, judged
from diffuscope.certify.likelihood_calls import Calls
from diffuscope.certify.likelihood_errors import Place, SharedBudget, measure
from diffuscope.certify.likelihood_interval import Limits
from diffuscope.certify.limit import RESOLUTION
from diffuscope.certify.listed import ListedCertificate
from diffuscope.denoisers import Guided
from diffuscope.findings import Finding, Tone
from diffuscope.report import Table
from diffuscope.samplers import DDIM
from diffuscope.schedules import VE, VP

PROBLEM, STEPS = unequal_gaussian(), (16, 25, 40, 63, 100, 160)


def good(name="a", tone: Tone = "good"):
    return Finding(name=name, title="", value=1.0, unit="", verdict="So.", tone=tone)


def order(value, spread=0.01, errors=(1e-3,) * 6):
    return MeasuredOrder(value, (value - spread, value + spread), STEPS, errors, exact=False)


# orders and limits


@pytest.mark.parametrize(("declared", "text"), [(1, "as declared (1)"), (2, "as declared (2)")])
def test_an_order_above_the_declared_one_by_exactly_the_tolerance_is_as_declared(declared, text):
    right = Limit(1e-5, 1e-6, 1e-3)
    target = Target("made", lambda d, x, t, g: x, declared, False, 1)
    assert text in judged(Convergence(order(declared + 0.25), right), target, 0.25).verdict
    above = judged(Convergence(order(declared + 0.2501), right), target, 0.25).verdict
    assert f"above the declared {declared}" in above


def test_a_cold_start_is_told_of_orders_nearer_to_two_than_twice_the_tolerance(monkeypatch):
    monkeypatch.setattr(convergence, "STRONG_TOLERANCE", 0.125)
    multistep = Target("made", lambda d, x, t, g: x, 3, False, 1)
    assert [_cold_start(multistep, value) for value in (1.75, 2.25)] == ["", ""]
    assert "order 2" in _cold_start(multistep, 2.2499)


@pytest.mark.parametrize(
    ("finest", "need"), [(1000, "more than 1,000 steps"), (999, "more than the 999 steps that it")]
)
def test_a_target_that_accepts_the_finest_grid_would_need_a_finer_one(finest, need):
    found = Convergence(order(1.0, spread=2.0), Limit(1e-5, 1e-6, 1e-3))
    assert need in judged(found, Target("made", lambda d, x, t, g: x, 2, False, 1, finest=finest), 0.15).verdict


def test_time_is_spent_after_the_last_second_not_at_it(monkeypatch):
    now = [10.0]
    monkeypatch.setattr(convergence, "time", SimpleNamespace(process_time=lambda: now[0]))
    budget = Budget(2.5)
    for now[0], spent in ((12.5, False), (12.6, True)):
        assert budget.spent == spent


@pytest.mark.parametrize(("distance", "finest"), [(RESOLUTION, 0.01), (0.5, 0.625)])
def test_a_wrong_limit_is_decided_beyond_a_hundredth_and_four_fifths_of_the_error(distance, finest):
    """Known without doubt; 0.5 is 0.8 times 0.625."""
    assert 0.8 * 0.625 == 0.5
    for limit, decided in ((Limit(distance, 0.0, finest), False), (Limit(1.01 * distance, 0.0, finest), True)):
        assert limit.verdict == "wrong"
        assert Convergence(order(1.0), limit).decided(1, 0.15) == decided


@pytest.mark.parametrize(
    ("distance", "largest", "told"),
    [(0.9 * RESOLUTION, 1.01, False), (0.9 * RESOLUTION, 1.0099, True), (RESOLUTION, 1.0, False)],
)
def test_errors_are_told_to_be_constant_within_a_hundredth_below_the_resolution(distance, largest, told):
    made = Convergence(order(0.0, errors=(largest, *(1.0,) * 5)), Limit(distance, 0.0, distance))
    found = judged(made, erring(float), 0.15)
    assert found.tone == "alarm"
    assert ("declares its tolerance as floor" in found.verdict) == told


@pytest.mark.parametrize(("largest", "known"), [(1e100, False), (0.99e100, True)])
def test_errors_from_a_bound_on_are_as_if_infinite(largest, known):
    assert math.isfinite(limit_of([10, 20, 40, 80], np.full((4, 1), largest)).finest_error) == known


def test_an_error_of_ten_times_the_floor_is_not_clearly_above_it():
    """The last error is left out of the fit, to which the other four have order 1 exactly."""
    errors = [1.0, 0.5, 0.25, 0.125, 0.078125]
    floor = errors[-1] / 10
    assert 10 * floor == errors[-1]
    assert measured_order((10, 20, 40, 80, 160), errors, floor).order == pytest.approx(1.0)
    assert measured_order((10, 20, 40, 80, 160), errors, 0.99 * floor).order < 0.99


# errors against references


def test_the_error_of_a_reference_of_a_hundred_floors_is_rounding(monkeypatch):
    monkeypatch.setattr(constant, "_size", lambda *_: 2.0**-20)
    for error, compared in ((100 * 2.0**-20, False), (101 * 2.0**-20, True)):
        monkeypatch.setattr(constant, "_references", lambda *_, error=error: {"DDIM": error})
        target = Target("made", sampler_target(DDIM()).run, 1, False, 1, floor=2.0**-20)
        assert math.isfinite(constant.constant(target, PROBLEM, VE(), 1.0).value) == compared


@pytest.mark.parametrize(("found", "told"), [(11.0, True), (11.01, False)])
def test_a_mistake_that_gives_the_errors_to_exactly_a_tenth_is_a_likely_cause(found, told, monkeypatch):
    """The first errors are the target's, 10; those of the mistakes are the others."""
    each = iter([10.0])
    monkeypatch.setattr(constant, "_errors", lambda *_: np.array([next(each, found)]))
    cause = constant._cause(sampler_target(DDIM()), (DDIM(),), PROBLEM, VE(), 8)
    assert (cause is not None) == told


@pytest.mark.parametrize(("factor", "tone"), [(1.0, "good"), (0.999, "attention")])
def test_few_steps_may_have_exactly_so_many_times_the_error_of_ddim(factor, tone, monkeypatch):
    """DDIM itself has its own error."""
    monkeypatch.setattr(edges, "MUCH_MORE", factor)
    found = edges.few_steps(sampler_target(DDIM()), PROBLEM, VE())
    assert (found.tone, "times the error of DDIM" in found.verdict) == (tone, tone == "attention")


@pytest.mark.parametrize(("least", "verdict"), [(1, "1 step gives NaN"), (2, "2 steps give NaN")])
def test_one_step_gives_what_two_steps_give(least, verdict):
    broken = Target("broken", lambda d, x, t, g: x * math.nan, 1, False, 1, coarsest=least)
    assert edges.few_steps(broken, PROBLEM, VE()).verdict == f"{verdict} or infinity."


@pytest.mark.parametrize(("steps", "verdict"), [(1, "It takes 1 step only"), (2, "It takes 2 steps only")])
def test_the_cost_of_a_single_number_of_steps_is_not_counted(steps, verdict):
    single = Target("single", lambda d, x, t, g: x, 1, False, 1, coarsest=steps, finest=steps)
    assert ask.cost(single, PROBLEM, VE()).verdict.startswith(verdict)


def test_guidance_is_read_otherwise_where_it_errs_by_exactly_the_rounding(monkeypatch):
    monkeypatch.setattr(guidance, "_guided", lambda *_: lambda x, t: x)
    for error, found in ((guidance.EXACT, True), (1.01 * guidance.EXACT, False)):
        monkeypatch.setattr(guidance, "largest_difference", lambda *_, error=error: error)
        assert guidance._convention(Guided, 3.0).startswith(" Likely cause") == found


# rows, images and schedules


def coupled(denoiser, x, times, generator):
    return flow_of(denoiser, x, times) + 1e-3 * (len(x) > 1)


def flow_of(denoiser, x, times):
    return denoiser.distribution.flow(x, denoiser.schedule, float(times[0]), float(times[-1]))


def of_images(denoiser, x, times, generator):
    shift = 1e-3 * (x.ndim > 2)
    return denoiser(x, times[-1]) + shift


def under_vp(denoiser, x, times, generator):
    return flow_of(denoiser, x, times) + 1e-3 * isinstance(denoiser.schedule, VP)


@pytest.mark.parametrize(
    ("module", "question", "run", "good", "bad"),
    [
        (ask, lambda target: ask.batching(target, PROBLEM, VE()), coupled, "Rows end at the same points", "A row ends"),
        (edges, lambda target: edges.images(target, PROBLEM, VE()), of_images, "Images end where", "Images of"),
        (
            ask,
            lambda target: ask.invariance(target, PROBLEM),
            under_vp,
            "The same steps in log-SNR end",
            "The endpoints",
        ),
    ],
)
def test_ends_may_differ_by_exactly_what_is_allowed(module, question, run, good, bad, monkeypatch):
    target = Target("made", run, 1, False, 1)
    value = question(target).value
    assert value > 0
    for allowed, verdict in ((value, good), (math.nextafter(value, 0), bad)):
        monkeypatch.setattr(module, "allowed", lambda _, allowed=allowed: allowed)
        assert question(target).verdict.startswith(verdict)


def test_a_sampler_that_draws_once_more_for_other_numbers_of_rows_has_no_chosen_noise():
    """Draws are counted for seven rows."""

    def run(denoiser, x, times, generator):
        for _ in range(1 + (len(x) != 7)):
            x = x + torch.randn(x.shape, generator=generator, dtype=x.dtype)
        return x

    target, denoiser = Target("more", run, 1, True, 1), PROBLEM.denoiser(VE())
    times = PROBLEM.times(VE(), 3)
    with pytest.raises(NotChosenError, match="more draws than for fewer rows"):
        affine_map(target, denoiser, times)
    assert ask.batching(target, PROBLEM, VE()).verdict == "Not compared: its draws cannot be fixed row by row."


# certificates


@pytest.mark.parametrize(("rows", "folded"), [(10, False), (11, True)])
def test_a_table_of_ten_errors_is_open(rows, folded):
    found = Certificate(sampler_target(DDIM()), (good(),), {"one": [(k + 1, k + 1, 0.1) for k in range(rows)]})
    table = found._errors().blocks[-1]
    assert isinstance(table, Table)
    assert table.folded == folded


@pytest.mark.parametrize(("tones", "sufficient"), [(("good", "neutral"), False), (("good", "good"), True)])
def test_one_good_answer_is_that_of_a_plain_call(tones, sufficient):
    findings = tuple(good(tone=tone) for tone in tones)
    assert ListedCertificate("mine", "flow map", findings, "", "").sufficient == sufficient


@pytest.mark.parametrize(("folders", "shown"), [(("a", "b"), "a/b/fails.py:1"), (("a", "b", "c"), "fails.py:1")])
def test_a_path_of_three_parts_is_told_and_of_a_longer_one_its_name(folders, shown, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path.joinpath(*folders, "fails.py")
    monkeypatch.setattr(asked, "NOT_THEIRS", [asked.Path(__file__)])
    with pytest.raises(ZeroDivisionError) as failed:
        exec(compile("1 / 0", str(path), "exec"))
    assert asked.place(failed.value) == shown


# likelihoods and samples


def test_a_density_may_miss_one_by_exactly_its_bound(monkeypatch):
    problem = unequal_gaussian()
    calls = Calls(lambda d, x, t, g: -0.5 * x[:, 0] ** 2)
    found = likelihood_behavior.mass(calls, problem, VE(), 0.5, is_random=False)
    miss = abs(found.value - 1)
    for bound, tone in ((miss, "good"), (math.nextafter(miss, 0), "alarm")):
        monkeypatch.setattr(likelihood_behavior, "MASS", bound)
        assert likelihood_behavior.mass(calls, problem, VE(), 0.5, is_random=False).tone == tone


@pytest.mark.parametrize(("tolerance", "tone"), [(0.25, "good"), (0.2499, "alarm")])
@pytest.mark.parametrize(("same", "verdict"), [(0.25, "Rows have the same values"), (0.2499, "The value of a row is")])
def test_rows_may_differ_by_exactly_the_tolerance(tolerance, tone, same, verdict, monkeypatch):
    calls = Calls(lambda d, x, t, g: torch.full((len(x),), 0.25 * (len(x) > 1), dtype=x.dtype))
    monkeypatch.setattr(likelihood_behavior, "SAME", same)
    place = likelihood_behavior.Place(PROBLEM, VE(), 0.5)
    found = likelihood_behavior.batching(calls, place, tolerance, is_random=False)
    assert (found.value, found.tone) == (0.25, tone)
    assert found.verdict.startswith(verdict)


@pytest.mark.parametrize(("bias", "finest", "tone"), [(0.5, 80, "good"), (0.51, 79, "unknown"), (0.51, 80, "alarm")])
def test_half_of_the_coarse_bias_may_be_left_by_twice_the_steps(bias, finest, tone, monkeypatch):
    """Statistics without spread: 1 off at 40 steps, and `bias` at the finest; twice 40 decide."""
    off = iter([1.0, bias])
    monkeypatch.setattr(sample_distribution, "moments", lambda *_: torch.full((3, 2), next(off)).double())
    monkeypatch.setattr(sample_distribution, "exact_moments", lambda *_: torch.zeros(2).double())
    target = Target("made", lambda d, x, t, g: x, None, True, 1, finest=finest)
    found = sample_distribution.distribution_finding(target, mixture(2), target.schedules[0], 3)
    assert found.tone == tone


@pytest.mark.parametrize(("tolerance", "tone"), [(0.25, "good"), (0.2499, "alarm")])
def test_a_likelihood_may_err_by_exactly_the_tolerance(tolerance, tone, monkeypatch):
    monkeypatch.setattr(Place, "errors", lambda *_, **__: torch.tensor([[0.125, -0.25]]).double())
    calls, limits = Calls(lambda d, x, t, g: x[:, 0]), Limits(tolerance, 1, 20)
    assert measure(calls, Place(PROBLEM, VE(), 0.5), limits, SharedBudget(1.0, 1)).tone == tone


# grids


def test_a_grid_that_was_asked_is_not_asked_again():
    """Errors that alternate decide nothing: all finer grids are added."""
    counts = []

    def errors_of(n):
        counts.append(n)
        return np.array([1.0 + 0.5 * (-1) ** len(counts)])

    convergence.converge(Target("made", lambda d, x, t, g: x, 1, False, 1), errors_of, (16, 40, 100, 250), 0.15)
    assert counts == [16, 40, 100, 250, 400, 630, 1000]


@pytest.mark.parametrize(("floor", "last"), [(2.0**-10, 80), (2.0**-10 - 1e-9, 160)])
def test_a_grid_whose_error_is_ten_floors_is_left_out(floor, last):
    target = Target("made", lambda d, x, t, g: x, 1, False, 1, finest=160, floor=floor)
    sizes = {10: 0.8, 20: 0.4, 40: 0.2, 80: 0.1, 160: 10 * 2.0**-10}
    found = convergence.converge(target, lambda n: np.array([sizes[n]]), tuple(sizes), 0.15)
    assert found.order.steps[-1] == last


def test_an_end_is_smooth_up_to_exactly_a_hundred_floors(monkeypatch):
    """Of the three ends of moved starts the last alone is elsewhere; of moved times none is."""

    def smooth(floor):
        away = torch.tensor([[0.0, 0.125]]).double()
        ends = iter([0 * away, 0 * away, away, *[0 * away] * 3])
        monkeypatch.setattr(edges, "noiseless", lambda *_: next(ends))
        return edges.rounding(Target("made", lambda d, x, t, g: x, 1, False, 1, floor=floor), PROBLEM, VE())

    value = smooth(0.0).value
    floor = value / 100
    assert 100 * floor == value
    assert smooth(floor).tone == "good"
    assert smooth(math.nextafter(floor, 0)).tone == "alarm"
