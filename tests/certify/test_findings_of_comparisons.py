"""The finding of several compared levels of noise, from errors made by hand."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.optimize import brentq

from diffuscope.certify.flow_maps import _rows
from diffuscope.certify.likelihood_behavior import determinism
from diffuscope.certify.likelihood_calls import Calls
from diffuscope.certify.likelihood_errors import Measured, Place
from diffuscope.certify.likelihood_finding import comparison
from diffuscope.certify.likelihood_interval import Limits, judge, skew_interval
from diffuscope.certify.problems import unequal_gaussian
from diffuscope.findings import Tone
from diffuscope.schedules import VE


def measured(tone: Tone, error: float, ratio: float = 0.3, repeats: int = 1, not_finite: int = 0) -> Measured:
    return Measured("plane", 4, "VE", ratio, tone, error, repeats=repeats, not_finite=not_finite, standard_error=0.25)


def test_the_worst_is_what_failed_then_what_is_open_then_the_largest_error_of_either_sign() -> None:
    good, other = measured("good", 0.5, 1.0), measured("good", -0.6, 2.0)
    found = comparison([good, other], 1.0)
    assert (found.value, found.tone) == (-0.6, "good")
    assert found.verdict == "At worst -0.6 nats from the exact value at sigma/alpha = 2, -0.15 per dimension."
    open_ = measured("unknown", 0.1, repeats=7)
    assert comparison([good, open_, other], 1.0).value == 0.1
    fails = measured("alarm", -3.0)
    assert comparison([good, open_, fails], 1.0).value == -3.0
    lost = measured("alarm", math.nan, 5.0, not_finite=2)
    found = comparison([fails, lost, good], 1.0)
    assert found.verdict == "NaN or infinity for 2 of 8 samples at sigma/alpha = 5; 2 of 3 levels fail."
    assert found.errors == (fails, lost, good)


def test_a_single_level_is_not_counted_and_a_refused_one_is() -> None:
    fails = measured("alarm", 2.0)
    assert comparison([fails], 1.0).verdict == "At worst +2 nats from the exact value, +0.5 per dimension."
    found = comparison([fails], 1.0, ["t: too low"])
    assert found.verdict == (
        "At worst +2 nats from the exact value at sigma/alpha = 0.3, +0.5 per dimension; 1 of 2 levels fail; "
        "1 of 2 levels are not measured: t: too low."
    )
    assert found.tone == "alarm"
    refused = comparison([measured("good", 0.5)], 1.0, ["t: too low", "t: too high"])
    assert refused.tone == "attention"
    assert refused.verdict.endswith("; 2 of 3 levels are not measured: t: too low.")


@pytest.mark.parametrize("repeats", [1, 2])
def test_what_would_have_been_found_is_the_zone_of_a_random_estimate_or_the_tolerance(repeats: int) -> None:
    """In four dimensions the zones are twice 0.2 and twice 0.8 wide."""
    power = comparison([measured("good", 0.1), measured("good", 0.0, repeats=repeats)], 0.1).power
    if repeats == 1:
        assert power == "An error of more than 0.1 nats at any of these samples fails."
    else:
        assert "the mean error of its samples is known to be below 0.5 nats" in power
        assert power.endswith("that of each below 1.7.")


@pytest.mark.parametrize("calls", [4, 16, 64])
@pytest.mark.parametrize("mean", [0.0, 3.0, -3.0])
def test_the_repeats_that_are_missing_are_counted_for_sixteen_calls_or_as_many_as_there_are(calls, mean) -> None:
    """Errors mean +- 1 of one sample in four dimensions; the zone is 0.5 + 0.4 for the mean over samples."""
    errors = mean + torch.tensor([1.0, -1.0]).double().repeat(calls // 2)[:, None, None]
    freedom, standard_error = max(16, calls) - 1, (calls / (calls - 1)) ** 0.5 / calls**0.5
    quantile = stats.t.isf(0.01 / 4, freedom) if mean == 0 else stats.t.isf(3e-4 / 3 / 4, freedom)
    enough = (0.9 if mean == 0 else 3.0 - 0.5) / quantile
    assert judge(errors, Limits(0.5, 4, 3)).missing == pytest.approx((standard_error / enough) ** 2, rel=1e-12)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_ends_of_halls_interval_solve_his_equation(sign: float) -> None:
    """sqrt K (h + g h^2 / 3 + g^2 h^3 / 27 + g / 6K) = t at either quantile, h = (m - mu) / s; beside it no spread."""
    x, tail = sign * np.array([0.0, 0.1, 0.3, 0.2, 4.0]), 0.01
    values = torch.stack([torch.from_numpy(x), torch.full((5,), 2.0, dtype=torch.float64)], 1)
    low, high = skew_interval(values, torch.full((2,), tail, dtype=torch.float64))
    g, K = stats.skew(x), len(x)

    def end(t: float) -> float:
        def off(h: float) -> float:
            return K**0.5 * (h + g * h**2 / 3 + g**2 * h**3 / 27 + g / (6 * K)) - t

        return x.mean() - x.std(ddof=1) * float(brentq(off, -100, 100, xtol=1e-14))  # pyright: ignore

    t = float(stats.t.isf(tail, K - 1))
    assert (float(low[0]), float(high[0])) == (pytest.approx(end(t), rel=1e-9), pytest.approx(end(-t), rel=1e-9))
    assert (float(low[1]), float(high[1])) == (2.0, 2.0)


@pytest.mark.parametrize("draws", [False, True])
def test_a_likelihood_that_counts_its_calls_is_told_how_far_two_of_them_are_apart(draws: bool) -> None:
    """The first and the fourth call have the same points and the same seed."""
    calls = 0

    def counting(denoiser, x_t, t, generator):  # noqa: ARG001
        nonlocal calls
        calls += 1
        return 2.0 * calls + (0 * torch.rand(len(x_t)) if draws else torch.zeros(len(x_t)))

    found = determinism(Calls(counting), Place(unequal_gaussian(), VE(), 0.3))
    said = (
        "The same points and seed give values 6 nats apart on two calls, so that something else than the generator "
        "decides them, or state is kept"
    )
    drawn = "; the global generator of torch is drawn from" if draws else ""
    assert (found.finding.verdict, found.finding.value) == (f"{said}{drawn}.", 6.0)
    assert (found.finding.tone, found.random) == ("alarm", True)


@pytest.mark.parametrize(
    ("alone", "single", "tone"),
    [(1e-9, 0.0, "good"), (math.nextafter(1e-9, 1), 0.0, "alarm"), (0.0, 1e-3, "good"), (0.0, 1.1e-3, "alarm")],
)
def test_a_row_may_end_exactly_a_billionth_elsewhere_and_float32_a_thousandth(alone, single, tone) -> None:
    """In units of a scale of one: a map to 0 for several rows, and for one or in float32 to the distance given."""
    problem = replace(unequal_gaussian())  # of its own, as the other is shared
    vars(problem)["_end"] = torch.ones_like(problem.start(VE()))
    rounded = float(torch.tensor(single, dtype=torch.float32))

    def mapped(denoiser, x_t, t, s):  # noqa: ARG001
        if x_t.dtype == torch.float32:
            return torch.full_like(x_t, single)
        return torch.full_like(x_t, rounded - single + alone * (len(x_t) == 1))

    found = _rows(mapped, problem, VE(), 0.01)
    assert (found.tone, problem.scale) == (tone, 1.0)
